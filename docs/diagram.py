"""Diagrams of boxes and arrows, all in one manner, for the pages of the guide.

What a colour says, a corner or the style of an edge says again. Coordinates are pixels of the page,
y downwards. tests/docs/test_method_diagrams.py finds what overlaps, or does not fit its box.
"""

from itertools import pairwise

from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch, PathPatch, Polygon
from matplotlib.path import Path as Outline

WIDTH = 760
_DPI = 100
_INK, _GREY = "#1a1a1a", "#4d4d4d"
# Blue, vermillion and green of Okabe and Ito, as in gandetect.plotting.
_BLUE, _VERMILLION, _GREEN = "#0072B2", "#D55E00", "#009E73"
# By kind: roundness of the corners, fill, colour and style of the edge, and what the key says.
KINDS = {
    "data": (0, "#f0f0f0", _GREY, "-", "data"),
    "step": (0, "#ffffff", _INK, ":", "step without weights"),
    "network": (8, "#dcecf7", _BLUE, "-", "network"),
    "frozen": (8, "#e4e4e4", _INK, "-.", "network that stands still"),
    "adversary": (8, "#fde6d8", _VERMILLION, "--", "adversary"),
    "loss": (15, "#e0f3ec", _GREEN, "-", "loss"),
}
_HEAD = 9  # length of an arrow's head


class Diagram:
    """Boxes by name, and lines from edge to edge of them, on a page of a height."""

    def __init__(self, height):
        self.height = height
        # White, not transparent: black lines are to be seen on a dark page as well.
        self.figure = Figure(figsize=(WIDTH / _DPI, height / _DPI), dpi=_DPI, facecolor="white")
        self.ax = self.figure.add_axes((0, 0, 1, 1), xlim=(0, WIDTH), ylim=(height, 0))
        self.ax.set_axis_off()
        self.boxes, self.kinds, self.labels = {}, {}, {}
        self.lines, self.notes = [], []

    def box(self, name, kind, x, y, text, width=42, height=34):
        """A box around (x, y)."""
        self._shape(kind, x - width / 2, y - height / 2, width, height)
        self.boxes[name] = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
        self.kinds[name] = kind
        self.labels[name] = self._text(x, y, text, ha="center")

    def note(self, x, y, text, **options):
        """Words beside the boxes."""
        self.notes.append(self._text(x, y, text, **({"fontsize": 8.5, "color": _GREY} | options)))

    def arrow(self, *places):
        """A line through places, with a head at the last.

        A place is a point, of which a coordinate that is None is that of the last place; or an edge
        of a box and how far from its middle, such as "x right" or "x top -8".
        """
        points = self._line(places, _INK, "-")
        (x, y), (last_x, last_y) = points[-1], points[-2]
        length = abs(x - last_x) + abs(y - last_y)
        along_x, along_y = _HEAD * (x - last_x) / length, _HEAD * (y - last_y) / length
        head = [
            (x, y),
            (x - along_x - along_y * 0.4, y - along_y + along_x * 0.4),
            (x - along_x + along_y * 0.4, y - along_y - along_x * 0.4),
        ]
        self.ax.add_patch(Polygon(head, facecolor=_INK, linewidth=0, zorder=3))

    def row(self, *names):
        """Arrows from each box to the next, which stands to the right of it."""
        for name, following in pairwise(names):
            self.arrow(f"{name} right", f"{following} left")

    def compared(self, *places):
        """A dotted line, as `arrow`, from what is compared to the loss that does so."""
        self._line(places, _GREEN, (0, (1.2, 1.2)))

    def joined(self, *places):
        """A line, as `arrow`, that ends in another one: the two go on as a pair."""
        x, y = self._line(places, _INK, "-")[-1]
        self.ax.add_patch(Circle((x, y), 3.4, facecolor=_INK, linewidth=0, zorder=3))

    def rule(self, y, text):
        """A line across the page, with words below it."""
        self.ax.plot([8, WIDTH - 8], [y, y], color="#bbbbbb", linewidth=1)
        self.note(12, y + 15, text)

    def foot(self, y, *lines):
        """What the score is made of, and the key of the shapes."""
        height = 20 * len(lines) + 12
        self.ax.add_patch(
            FancyBboxPatch(
                (8, y),
                WIDTH - 16,
                height,
                boxstyle="square,pad=0",
                facecolor="#f6f3e2",
                linewidth=0,
            )
        )
        self.notes.append(self._text(18, y + 16, "Score", weight="bold"))
        for i, line in enumerate(lines):
            self.notes.append(self._text(66, y + 16 + 20 * i, line))
        x, y = 14, y + height + 20
        for kind, (*_, words) in KINDS.items():
            if kind in self.kinds.values():
                self._shape(kind, x, y - 7, 24, 14)
                self.note(x + 30, y, words)
                x += 50 + 6.4 * len(words)

    def _shape(self, kind, x, y, width, height):
        roundness, fill, edge, style, _ = KINDS[kind]
        roundness = min(roundness, height / 2)
        corners = f"round,pad=0,rounding_size={roundness}" if roundness else "square,pad=0"
        self.ax.add_patch(
            FancyBboxPatch(
                (x, y),
                width,
                height,
                boxstyle=corners,
                facecolor=fill,
                edgecolor=edge,
                linestyle=style,
                linewidth=1.6,
                zorder=2,
            )
        )

    def _text(self, x, y, text, **options):
        options = {"fontsize": 9, "color": _INK, "va": "center", "zorder": 4} | options
        return self.ax.text(x, y, text, linespacing=1.25, **options)

    def _line(self, places, color, style):
        points = []
        for place in places:
            if isinstance(place, str):
                points.append(self._at_edge(*place.split()))
            else:
                points.append(
                    tuple(points[-1][i] if place[i] is None else place[i] for i in (0, 1))
                )
        patch = PathPatch(
            Outline(points), fill=False, edgecolor=color, linestyle=style, linewidth=1.4, zorder=1
        )
        self.ax.add_patch(patch)
        self.lines.append(points)
        return points

    def _at_edge(self, name, side, shift="0"):
        left, top, right, bottom = self.boxes[name]
        if side in ("left", "right"):
            return (left if side == "left" else right, (top + bottom) / 2 + float(shift))
        return ((left + right) / 2 + float(shift), top if side == "top" else bottom)
