import inspect

import pytest
from matplotlib.figure import Figure

from gandetect import plotting
from gandetect.plotting.display import Display

DISPLAYS = [thing for thing in vars(plotting).values() if inspect.isclass(thing)]


def test_shared_text_takes_the_indentation_of_its_place():
    class Picture(Display):
        """A picture.

        Attributes
        ----------
        {axes}
        """

        @classmethod
        def from_estimator(cls, ax=None):
            """Draw.

            Parameters
            ----------
            {ax}
            """

        def plot(self, ax=None):
            """Draw {ax} again."""

    assert inspect.getdoc(Picture).endswith("ax_ : matplotlib Axes\nfigure_ : matplotlib Figure")
    assert inspect.getdoc(Picture.from_estimator).endswith(
        "ax : matplotlib Axes or None, default=None\n    Where to draw; None makes a figure."
    )
    assert Picture.plot.__doc__ == "Draw {ax} again."


def test_the_axes_and_their_figure_are_kept():
    ax = Figure().subplots()
    display = Display()
    assert display._draw_in(ax) is display.ax_ is ax
    assert display.figure_ is ax.figure


@pytest.mark.parametrize("Picture", DISPLAYS)
def test_every_display_documents_all_its_parameters(Picture):
    for function in (Picture, *(getattr(Picture, name) for name in ("from_estimator", "plot"))):
        text = inspect.getdoc(function)
        assert "{" not in text.replace("{0, 1}", "").replace("{-1, 1}", "").replace('{"', "")
        for name in inspect.signature(function).parameters:
            if name != "self":
                assert name in text, f"{function.__qualname__}: {name}"
