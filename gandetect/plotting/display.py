"""Base class of the displays: their axes, and the shared parts of their docstrings."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, Any

from gandetect.plotting.style import axes_or_new

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

# The text that replaces a line such as "{ax}" in a docstring.
_SHARED_TEXT = {
    "ax": """\
ax : matplotlib Axes or None, default=None
    Where to draw; None makes a figure.""",
    "axes": """\
ax_ : matplotlib Axes
figure_ : matplotlib Figure""",
    "name": """\
name : str or None, default=None
    Title of the picture.""",
    "class_name": """\
name : str or None, default=None
    Title; None takes the name of the detector's class.""",
    "labels": """\
y : array-like of shape (n_samples,)
    Labels: {0, 1} or booleans (1 is an anomaly), {-1, 1} (-1 is an anomaly), or any other values
    with `anomaly_label`.""",
    "anomaly_label": """\
anomaly_label : object, default=None
    The label of anomalies; required for other labels than {0, 1}, booleans and {-1, 1}.""",
    "scores": """\
normal_scores, anomalous_scores : ndarray of shape (n_samples,)
    Larger is more anomalous.
threshold : float or None, default=None
    In units of the scores; samples that score above it are flagged. None draws no threshold.
name : str or None, default=None
    Name of the detector.""",
}
_PLACE = re.compile(r"^( *)\{(\w+)\}$", re.MULTILINE)


class Display:
    """Base of all displays, which store their data and draw them with `plot`."""

    ax_: Axes
    figure_: Figure | SubFigure

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        functions = (getattr(member, "__func__", member) for member in vars(cls).values())
        for documented in (cls, *filter(inspect.isfunction, functions)):
            if documented.__doc__:
                documented.__doc__ = _PLACE.sub(_shared_text, documented.__doc__)

    def _draw_in(self, ax: Axes | None, **figure_options: Any) -> Axes:
        """Return `ax`, or the axes of a new figure, and store them as `ax_` and `figure_`."""
        self.ax_ = axes_or_new(ax, **figure_options)
        self.figure_ = self.ax_.figure
        return self.ax_


def _shared_text(place: re.Match[str]) -> str:
    indent, key = place.groups()
    return "\n".join(indent + line for line in _SHARED_TEXT[key].split("\n"))
