"""Histogram of the scores of normal and anomalous samples, with the threshold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gandetect.plotting.score_display import ScoreDisplay, checked_scores
from gandetect.plotting.style import (
    BLACK,
    BLUE,
    GREEN,
    SCORE_LABEL,
    VERMILLION,
    legend_above,
    percent,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(eq=False, repr=False, kw_only=True)
class ScoreHistogramDisplay(ScoreDisplay):
    """Histograms of the anomaly scores of normal and of anomalous samples, with the threshold.

    Without labels, one histogram of all samples is drawn. Create it with `from_estimator` or
    `from_predictions`; `plot` draws it again.

    Parameters
    ----------
    {scores}
    unlabelled_scores : ndarray of shape (n_samples,) or None, default=None
        Scores of samples without labels, drawn instead of the two kinds.

    Attributes
    ----------
    {axes}
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

    Samples without labels:

    >>> display = ScoreHistogramDisplay.from_predictions(None, [0.1, 0.3, 0.2, 0.9], threshold=0.5)
    >>> display.ax_.get_ylabel()
    'Share of the samples'
    """

    unlabelled_scores: NDArray[np.float64] | None = None

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: ArrayLike | None = None,
        *,
        anomaly_label: Any = None,
        name: str | None = None,
        ax: Axes | None = None,
        **plot_options: Any,
    ) -> Self:
        """Draw the scores that a fitted detector gives samples, with or without labels.

        Parameters
        ----------
        estimator : object
            A fitted detector of gandetect or scikit-learn, or a pipeline or search with one as its
            last step.
        X : array-like, Dataset or path
            The samples to score.
        y : array-like of shape (n_samples,) or None, default=None
            Labels: {0, 1} or booleans (1 is an anomaly), {-1, 1} (-1 is an anomaly), or any other
            values with `anomaly_label`. None draws one histogram of all samples.
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
            If labels do not determine the anomalies, or the detector's threshold was set with
            another score.
        """
        return super().from_estimator(
            estimator, X, y, anomaly_label=anomaly_label, name=name, ax=ax, **plot_options
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
        """Draw given scores, with or without labels.

        Parameters
        ----------
        y_true : array-like of shape (n_samples,) or None
            Labels, as in `from_estimator`. None draws one histogram of all samples.
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
            If labels do not determine the anomalies, scores are not finite, or there is not one
            score for each label.
        """
        if y_true is not None:
            return super().from_predictions(
                y_true,
                anomaly_score,
                threshold=threshold,
                anomaly_label=anomaly_label,
                name=name,
                ax=ax,
                **plot_options,
            )
        display = cls(
            normal_scores=np.empty(0),
            anomalous_scores=np.empty(0),
            unlabelled_scores=checked_scores(anomaly_score),
            threshold=threshold,
            name=name,
        )
        return display.plot(ax=ax, **plot_options)

    def plot(self, ax: Axes | None = None, *, bins: int | str | Sequence[float] = 30) -> Self:
        """Draw the histograms.

        Parameters
        ----------
        {ax}
        bins : int, str or sequence of float, default=30
            Number of bins, their edges, or a rule of `numpy.histogram_bin_edges`.

        Returns
        -------
        self
        """
        ax = self._draw_in(ax, figsize=(6.4, 4.0))
        unlabelled = self.unlabelled_scores
        all_scores = self._labelled_scores()[1] if unlabelled is None else unlabelled
        edges = np.histogram_bin_edges(all_scores, bins)
        if unlabelled is None:
            self._draw(ax, edges, self.normal_scores, "normal", BLUE, hatch=None)
            # A hatch distinguishes the two in greyscale too.
            self._draw(ax, edges, self.anomalous_scores, "anomalous", VERMILLION, hatch="////")
        else:
            self._draw(ax, edges, unlabelled, "samples", GREEN, hatch=None)
        self.threshold_line_ = None
        if self.threshold is not None:
            label = f"threshold {self.threshold:.3g}"
            if unlabelled is not None:
                label += f", {percent(float(np.mean(unlabelled > self.threshold)))} above it"
            self.threshold_line_ = ax.axvline(
                self.threshold, color=BLACK, linestyle="--", linewidth=1.5, label=label
            )
        ax.set_xlabel(SCORE_LABEL)
        ax.set_ylabel("Share of each class" if unlabelled is None else "Share of the samples")
        ax.yaxis.set_major_formatter(percent)
        ax.spines[["top", "right"]].set_visible(False)
        legend_above(ax, n_columns=3, title=self.name)
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
        """Draw one histogram as shares, because the numbers of samples of the two kinds differ."""
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
