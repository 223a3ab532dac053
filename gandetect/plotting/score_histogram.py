"""How far the scores of normal and anomalous samples lie apart, and where the threshold cuts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import assert_all_finite, check_consistent_length, column_or_1d

from gandetect.metrics import is_anomalous, scores_of
from gandetect.plotting.style import (
    BLACK,
    BLUE,
    VERMILLION,
    axes_or_new,
    legend_above,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(eq=False, repr=False, kw_only=True)
class ScoreHistogramDisplay:
    """Histograms of the anomaly scores of normal and of anomalous samples, with the threshold.

    Make it with `from_estimator` or `from_predictions`; `plot` draws it again.

    Parameters
    ----------
    normal_scores, anomalous_scores : ndarray of shape (n_samples,)
        Larger is more anomalous.
    threshold : float or None, default=None
        In units of the scores; what scores above it is flagged. None draws no line.
    name : str or None, default=None
        Title of the picture.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    threshold_line_ : matplotlib Line2D or None

    References
    ----------
    .. [1] S. Akcay, A. Atapour-Abarghouei, T. P. Breckon, "GANomaly: Semi-Supervised Anomaly
       Detection via Adversarial Training", ACCV 2018, Figure 6 (a).

    Examples
    --------
    >>> from gandetect.plotting import ScoreHistogramDisplay
    >>> display = ScoreHistogramDisplay.from_predictions(
    ...     [0, 0, 0, 1, 1], [0.1, 0.3, 0.2, 0.9, 0.7], threshold=0.5
    ... )
    >>> display.ax_.get_xlabel()
    'Anomaly score (larger is more anomalous)'
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
        y: ArrayLike,
        *,
        anomaly_label: Any = None,
        bins: int | str | Sequence[float] = 30,
        name: str | None = None,
        ax: Axes | None = None,
    ) -> Self:
        """Draw the scores that a fitted detector gives labelled samples.

        Parameters
        ----------
        estimator : object
            A fitted detector, ours or scikit-learn's, or a pipeline or search that ends in one.
        X : array-like, Dataset or path
            What the detector scores.
        y : array-like of shape (n_samples,)
            Labels: {0, 1} or booleans (1 is an anomaly), {-1, 1} (-1 is), or any others.
        anomaly_label : object, default=None
            The label of anomalies, needed for any others.
        bins : int, str or sequence of float, default=30
            Number of bins, their edges, or a rule of `numpy.histogram_bin_edges`.
        name : str or None, default=None
            Title; None takes the name of the detector's class.
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        ScoreHistogramDisplay

        Raises
        ------
        TypeError
            If `estimator` gives no scores, or scores of unknown sign.
        ValueError
            If labels are missing or leave open what is an anomaly, or the detector's threshold
            was set with another score.
        """
        scores = scores_of(estimator, X)
        return cls.from_predictions(
            y,
            scores,
            threshold=_threshold(estimator, X, scores),
            anomaly_label=anomaly_label,
            bins=bins,
            name=type(_last_step(estimator)).__name__ if name is None else name,
            ax=ax,
        )

    @classmethod
    def from_predictions(
        cls,
        y_true: ArrayLike,
        anomaly_score: ArrayLike,
        *,
        threshold: float | None = None,
        anomaly_label: Any = None,
        bins: int | str | Sequence[float] = 30,
        name: str | None = None,
        ax: Axes | None = None,
    ) -> Self:
        """Draw scores that are there already.

        Parameters
        ----------
        y_true : array-like of shape (n_samples,)
            Labels, as in `from_estimator`.
        anomaly_score : array-like of shape (n_samples,)
            Larger is more anomalous: ``anomaly_score(X)`` of our detectors, ``-score_samples(X)``
            of scikit-learn's.
        threshold : float or None, default=None
            In units of the scores. None draws no line.
        anomaly_label, bins, name, ax
            As in `from_estimator`; without `name` there is no title.

        Returns
        -------
        ScoreHistogramDisplay

        Raises
        ------
        ValueError
            If labels are missing or leave open what is an anomaly, scores are not finite, or
            there is not one score a label.
        """
        is_anomaly = is_anomalous(y_true, anomaly_label)
        scores = column_or_1d(anomaly_score, dtype=np.float64)
        assert_all_finite(scores, input_name="anomaly_score")
        check_consistent_length(is_anomaly, scores)
        display = cls(
            normal_scores=scores[~is_anomaly],
            anomalous_scores=scores[is_anomaly],
            threshold=threshold,
            name=name,
        )
        return display.plot(ax=ax, bins=bins)

    def plot(self, ax: Axes | None = None, *, bins: int | str | Sequence[float] = 30) -> Self:
        """Draw the histograms.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a figure.
        bins : int, str or sequence of float, default=30
            As in `from_estimator`.

        Returns
        -------
        self
        """
        self.ax_ = ax = axes_or_new(ax, figsize=(6.4, 4.0))
        self.figure_ = ax.figure
        all_scores = np.concatenate([self.normal_scores, self.anomalous_scores])
        edges = np.histogram_bin_edges(all_scores, bins)
        self._draw(ax, edges, self.normal_scores, "normal", BLUE, hatch=None)
        # Hatched, so that the two are told apart in grey as well.
        self._draw(ax, edges, self.anomalous_scores, "anomalous", VERMILLION, hatch="////")
        self.threshold_line_ = None
        if self.threshold is not None:
            self.threshold_line_ = ax.axvline(
                self.threshold,
                color=BLACK,
                linestyle="--",
                linewidth=1.5,
                label=f"threshold {self.threshold:.3g}",
            )
        ax.set_xlabel("Anomaly score (larger is more anomalous)")
        ax.set_ylabel("Share of each kind")
        ax.yaxis.set_major_formatter(_percent)
        ax.spines[["top", "right"]].set_visible(False)
        legend_above(ax, n_columns=3)
        if self.name is not None:
            ax.set_title(self.name, loc="left", pad=20)
        return self

    @staticmethod
    def _draw(
        ax: Axes,
        edges: NDArray[np.float64],
        scores: NDArray[np.float64],
        kind: str,
        color: str,
        hatch: str | None,
    ) -> None:
        """Draw one histogram as shares: the kinds differ in number."""
        ax.hist(
            scores,
            bins=edges.tolist(),
            weights=np.full(len(scores), 1 / len(scores)),
            histtype="stepfilled",
            facecolor=(color, 0.35),
            edgecolor=color,
            linewidth=1.5,
            hatch=hatch,
            label=f"{kind} ({len(scores)})",
        )


def _percent(share: float, _: float) -> str:
    return f"{100 * share:.3g} %"


def _last_step(estimator: Any) -> Any:
    """Return the detector inside a search or a pipeline."""
    estimator = getattr(estimator, "best_estimator_", estimator)
    return estimator[-1] if hasattr(estimator, "steps") else estimator


def _threshold(estimator: Any, X: Any, scores: NDArray[np.float64]) -> float | None:
    """Return the anomaly score at which `predict` changes its mind, if the detector has one."""
    if not (hasattr(estimator, "score_samples") and hasattr(estimator, "decision_function")):
        return None
    # decision_function is score_samples - offset_ in whatever wraps the detector, and raises if
    # the threshold belongs to another score.
    return float(np.median(scores + estimator.decision_function(X)))
