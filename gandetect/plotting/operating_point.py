"""ROC and precision-recall curves with the operating point, the point at the threshold."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
import sklearn.metrics

from gandetect.plotting.score_display import ScoreDisplay
from gandetect.plotting.style import BLACK, LINE_STYLES, MARKERS, OKABE_ITO, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# The largest number of curves whose legend fits inside the axes.
_MOST_NAMED_INSIDE = 4


class _OperatingPointDisplay(ScoreDisplay):
    """A curve of scikit-learn over all thresholds, with the point at one threshold marked."""

    _curve_display: ClassVar[Any]
    _labels: ClassVar[tuple[str, str]]
    _empty_corner: ClassVar[Literal["lower left", "lower right"]]

    @abstractmethod
    def _point_at(self, threshold: float) -> tuple[float, float, str]:
        """Return the point of a threshold on the curve, and its rates as text."""

    def plot(
        self, ax: Axes | None = None, *, color: Any = None, plot_chance_level: bool = True
    ) -> Self:
        """Draw the curve and the point.

        The style of the line and the marker of the point are the next ones that no curve in `ax`
        uses.

        Parameters
        ----------
        {ax}
        color : color or None, default=None
            The colour of the curve and the point. None takes the next unused colour; the first is
            blue.
        plot_chance_level : bool, default=True
            Whether to draw the line of random guessing.

        Returns
        -------
        self
        """
        ax = self._draw_in(ax, figsize=(5.2, 5.2))
        place = _n_curves(ax) % len(OKABE_ITO)
        color = OKABE_ITO[place] if color is None else color
        chance = {"color": BLACK, "linestyle": ":", "linewidth": 1.0}
        if any(line.get_linestyle() == ":" for line in ax.get_lines()):
            chance["label"] = "_nolegend_"  # only one line gets a label in the legend
        n_lines = len(ax.get_lines())
        self.curve_ = self._curve_display.from_predictions(
            *self._labelled_scores(),
            name=self.name,
            ax=ax,
            plot_chance_level=plot_chance_level,
            chance_level_kw=chance,
            despine=True,
        )
        # Versions of scikit-learn differ in how a style is passed, so it is set afterwards. The
        # curve is the first line that scikit-learn adds.
        ax.get_lines()[n_lines].set(color=color, linewidth=2.0, linestyle=LINE_STYLES[place])
        self.operating_point_ = None
        if self.threshold is not None:
            *self.operating_point_, achieved = self._point_at(self.threshold)
            ax.plot(
                *([value] for value in self.operating_point_),
                marker=MARKERS[place],
                markersize=9,
                markerfacecolor=color,
                markeredgecolor=BLACK,
                linestyle="none",
                clip_on=False,  # draw the whole marker at the edge of the axes
                zorder=3,
                label=f"threshold {self.threshold:.3g}: {achieved}",
            )
        x_label, y_label = self._labels
        ax.set(xlabel=x_label, ylabel=y_label)
        ax.xaxis.set_major_formatter(percent)
        ax.yaxis.set_major_formatter(percent)
        # Inside the axes, a legend of many names would cover the curves.
        beside = {"loc": "upper left", "bbox_to_anchor": (1, 1)}
        is_crowded = _n_curves(ax) > _MOST_NAMED_INSIDE
        if is_crowded:
            ax.set_aspect("auto")  # scikit-learn's square axes would leave no space for the legend
        ax.legend(
            **(beside if is_crowded else {"loc": self._empty_corner}),
            fontsize="small",
            framealpha=0.9,
            edgecolor="none",
            handlelength=3,  # long enough to show the style of a line
        )
        return self


def _n_curves(ax: Axes) -> int:
    """Return the number of curves in the axes, without points and dotted chance lines."""
    return sum(line.get_linestyle() not in (":", "None") for line in ax.get_lines())


@dataclass(eq=False, repr=False, kw_only=True)
class RocDisplay(_OperatingPointDisplay):
    """ROC curve of the anomalies, with the operating point of the threshold.

    Create it with `from_estimator` or `from_predictions`; `plot` draws it again. To compare
    detectors, draw each in the same `ax`: each gets its own colour, line style and marker.

    Parameters
    ----------
    {scores}

    Attributes
    ----------
    {axes}
    curve_ : sklearn.metrics.RocCurveDisplay
        scikit-learn's display of the curve.
    operating_point_ : list of float or None
        The shares of the normal and of the anomalous samples that score above the threshold.

    Examples
    --------
    >>> from gandetect.plotting import RocDisplay
    >>> display = RocDisplay.from_predictions(
    ...     [0, 0, 0, 0, 1, 1], [0.1, 0.3, 0.2, 0.8, 0.9, 0.4], threshold=0.5
    ... )
    >>> display.operating_point_, float(display.curve_.roc_auc)
    ([0.25, 0.5], 0.875)
    """

    _curve_display = sklearn.metrics.RocCurveDisplay
    _labels = (
        "False alarms: share of the normal samples flagged",
        "Found: share of the anomalies flagged",
    )
    _empty_corner = "lower right"

    def _point_at(self, threshold: float) -> tuple[float, float, str]:
        false_alarms = float(np.mean(self.normal_scores > threshold))
        found = float(np.mean(self.anomalous_scores > threshold))
        return false_alarms, found, f"{percent(found)} found, {percent(false_alarms)} false alarms"


@dataclass(eq=False, repr=False, kw_only=True)
class PrecisionRecallDisplay(_OperatingPointDisplay):
    """Precision over recall of the anomalies, with the operating point of the threshold.

    Create it with `from_estimator` or `from_predictions`; `plot` draws it again. Precision depends
    on the share of anomalies in the samples: compare detectors on the same samples only.

    Parameters
    ----------
    {scores}

    Attributes
    ----------
    {axes}
    curve_ : sklearn.metrics.PrecisionRecallDisplay
        scikit-learn's display of the curve.
    operating_point_ : list of float or None
        Recall and precision at the threshold; the precision is 1 if nothing is flagged.

    Examples
    --------
    >>> from gandetect.plotting import PrecisionRecallDisplay
    >>> display = PrecisionRecallDisplay.from_predictions(
    ...     [0, 0, 0, 0, 1, 1], [0.1, 0.3, 0.2, 0.8, 0.9, 0.4], threshold=0.5
    ... )
    >>> display.operating_point_
    [0.5, 0.5]
    """

    _curve_display = sklearn.metrics.PrecisionRecallDisplay
    _labels = (
        "Recall: share of the anomalies flagged",
        "Precision: share of the flagged that are anomalies",
    )
    _empty_corner = "lower left"

    def _point_at(self, threshold: float) -> tuple[float, float, str]:
        n_found = int(np.sum(self.anomalous_scores > threshold))
        n_flagged = n_found + int(np.sum(self.normal_scores > threshold))
        recall = n_found / len(self.anomalous_scores)
        precision = n_found / n_flagged if n_flagged else 1.0
        return recall, precision, f"recall {percent(recall)}, precision {percent(precision)}"
