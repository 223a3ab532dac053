"""Shared by all displays: the import of matplotlib, colours and styles, axes and legends."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# The palette of Okabe and Ito, "Color Universal Design" (2008), whose colours can be distinguished
# by colour-blind readers. Yellow is left out, because thin yellow lines are hard to see on white.
BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY_BLUE, BLACK = OKABE_ITO = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#E69F00",
    "#CC79A7",
    "#56B4E9",
    "#000000",
)
# One marker for each colour, for readers who cannot distinguish the colours.
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
# The lengths of dashes and gaps are in line widths. matplotlib's ":" is not used, because it is
# reserved for reference lines: chance levels, and the F1 of a constant prediction.
LINE_STYLES: tuple[Any, ...] = (
    "-",
    (0, (4, 1.5)),
    (0, (5, 1.5, 1, 1.5)),
    (0, (1, 0.8)),
    (0, (7, 3)),
    (0, (5, 1.5, 1, 1.5, 1, 1.5)),
    (0, (2, 1)),
)
SCORE_LABEL = "Anomaly score (larger is more anomalous)"


def matplotlib_module(name: str) -> ModuleType:
    """Import a module of matplotlib, such as "pyplot", or raise an error that names the extra.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    try:
        return importlib.import_module(f"matplotlib.{name}")
    except ImportError as error:
        raise ImportError('pictures need matplotlib: pip install "gandetect[plot]"') from error


def axes_or_new(ax: Axes | None, **figure_options: Any) -> Axes:
    """Return `ax`, or the axes of a new pyplot figure, which notebooks show automatically."""
    if ax is not None:
        return ax
    new_ax: Axes
    _, new_ax = matplotlib_module("pyplot").subplots(layout="constrained", **figure_options)
    return new_ax


def legend_above(ax: Axes, n_columns: int, title: str | None = None) -> None:
    """Put the legend between the title and the axes, where it covers no data."""
    legend = ax.legend(
        loc="lower left",
        bbox_to_anchor=(0.0, 1.0),
        ncols=n_columns,
        fontsize="small",
        frameon=False,
        borderaxespad=0.2,
        columnspacing=1.2,
        handlelength=1.8,
    )
    if title is not None:
        n_lines = -(-len(legend.get_texts()) // n_columns)
        ax.set_title(title, loc="left", pad=6 + 14 * n_lines)


def legend_right(ax: Axes) -> None:
    """Put the legend to the right of the axes, where it covers no data."""
    ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)


def percent(share: float, _: float | None = None) -> str:
    """Format a share as a percentage; matplotlib's formatters pass the second argument."""
    return f"{100 * share:.3g} %"
