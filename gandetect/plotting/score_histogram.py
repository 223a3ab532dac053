"""How far the scores of normal and anomalous samples lie apart, and where the threshold cuts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from gandetect.plotting.score_display import ScoreDisplay
from gandetect.plotting.style import (
    BLACK,
    BLUE,
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

    Make it with `from_estimator` or `from_predictions`; `plot` draws it again.

    Parameters
    ----------
    {scores}

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
    """

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
        _, all_scores = self._labelled_scores()
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
        ax.set_xlabel(SCORE_LABEL)
        ax.set_ylabel("Share of each kind")
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
