"""What the pictures share: the extra they need, their colours, and where they are drawn."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# The palette of Okabe and Ito, "Color Universal Design" (2008), whose colours stay apart for
# colour-blind readers. Yellow is left out: thin lines of it vanish on white.
BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY_BLUE, BLACK = OKABE_ITO = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#E69F00",
    "#CC79A7",
    "#56B4E9",
    "#000000",
)
# Beside the colours, one each, for who does not see them.
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
# The dots and gaps are in line widths. None is matplotlib's ":", which is for what is no curve:
# chance, and the floors of F1.
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
    """Return `ax`, or the axes of a new pyplot figure, which notebooks show by themselves."""
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
    """Put the legend beside the axes, where it covers no data."""
    ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)


def percent(share: float, _: float | None = None) -> str:
    """Write a share as a percentage; the second argument is there for matplotlib's formatters."""
    return f"{100 * share:.3g} %"
