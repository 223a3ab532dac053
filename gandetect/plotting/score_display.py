"""Base of the displays of labelled scores: obtains the scores, labels and threshold."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import assert_all_finite, check_consistent_length, column_or_1d

from gandetect.metrics import is_anomalous, scores_of
from gandetect.plotting.display import Display

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(eq=False, repr=False, kw_only=True)
class ScoreDisplay(Display, ABC):
    """Base of the displays that are drawn from the scores of labelled samples.

    Parameters
    ----------
    {scores}
    """

    normal_scores: NDArray[np.float64]
    anomalous_scores: NDArray[np.float64]
    threshold: float | None = None
    name: str | None = None

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: ArrayLike | None,
        *,
        anomaly_label: Any = None,
        name: str | None = None,
        ax: Axes | None = None,
        **plot_options: Any,
    ) -> Self:
        """Draw the scores that a fitted detector gives labelled samples.

        Parameters
        ----------
        estimator : object
            A fitted detector of gandetect or scikit-learn, or a pipeline or search with one as its
            last step.
        X : array-like, Dataset or path
            The samples to score.
        {labels}
        {anomaly_label}
        {class_name}
        {ax}
        **plot_options
            As in `plot`.

        Returns
        -------
        display

        Raises
        ------
        TypeError
            If `estimator` gives no scores, or scores of unknown sign.
        ValueError
            If labels are missing or do not determine the anomalies, or the detector's threshold
            was set with another score.
        """
        scores = scores_of(estimator, X)
        return cls.from_predictions(
            y,
            scores,
            threshold=_threshold(estimator, X, scores),
            anomaly_label=anomaly_label,
            name=type(_last_step(estimator)).__name__ if name is None else name,
            ax=ax,
            **plot_options,
        )

    @classmethod
    def from_predictions(
        cls,
        y_true: ArrayLike | None,
        anomaly_score: ArrayLike,
        *,
        threshold: float | None = None,
        anomaly_label: Any = None,
        name: str | None = None,
        ax: Axes | None = None,
        **plot_options: Any,
    ) -> Self:
        """Draw given scores.

        Parameters
        ----------
        y_true : array-like of shape (n_samples,)
            Labels, as in `from_estimator`.
        anomaly_score : array-like of shape (n_samples,)
            Larger is more anomalous: ``anomaly_score(X)`` of gandetect's detectors,
            ``-score_samples(X)`` of scikit-learn's.
        threshold : float or None, default=None
            In units of the scores. None draws no threshold.
        {anomaly_label}
        name : str or None, default=None
            Name of the detector. None shows no name.
        {ax}
        **plot_options
            As in `plot`.

        Returns
        -------
        display

        Raises
        ------
        ValueError
            If labels are missing or do not determine the anomalies, scores are not finite, or
            there is not one score for each label.
        """
        is_anomaly = is_anomalous(y_true, anomaly_label)
        scores = checked_scores(anomaly_score)
        check_consistent_length(is_anomaly, scores)
        display = cls(
            normal_scores=scores[~is_anomaly],
            anomalous_scores=scores[is_anomaly],
            threshold=threshold,
            name=name,
        )
        return display.plot(ax=ax, **plot_options)

    @abstractmethod
    def plot(self, ax: Axes | None = None) -> Self:
        """Draw the picture."""

    def _labelled_scores(self) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
        """Return whether each sample is an anomaly, and its score."""
        n_of_a_kind = len(self.normal_scores), len(self.anomalous_scores)
        scores = np.concatenate([self.normal_scores, self.anomalous_scores])
        return np.repeat([False, True], n_of_a_kind), scores


def checked_scores(anomaly_score: ArrayLike) -> NDArray[np.float64]:
    """Return the scores as an array, or raise ValueError if they are not finite numbers."""
    scores = column_or_1d(anomaly_score, dtype=np.float64)
    assert_all_finite(scores, input_name="anomaly_score")
    return np.asarray(scores)


def _last_step(estimator: Any) -> Any:
    """Return the detector inside a search or a pipeline."""
    estimator = getattr(estimator, "best_estimator_", estimator)
    return estimator[-1] if hasattr(estimator, "steps") else estimator


def _threshold(estimator: Any, X: Any, scores: NDArray[np.float64]) -> float | None:
    """Return the anomaly score above which `predict` flags a sample, if the detector has one."""
    if not (hasattr(estimator, "score_samples") and hasattr(estimator, "decision_function")):
        return None
    # decision_function is score_samples - offset_ also in a pipeline or search, and raises if the
    # threshold was set with another score.
    decisions = estimator.decision_function(X)
    # The detector's offset is exact; a threshold computed from the difference is rounded, and
    # could flag samples whose score equals the threshold.
    offset = getattr(_last_step(estimator), "offset_", None)
    return float(np.median(scores + decisions)) if offset is None else -float(offset)
