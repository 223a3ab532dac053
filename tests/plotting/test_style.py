import sys

import matplotlib.pyplot as plt
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text

from gandetect.plotting.style import (
    OKABE_ITO,
    axes_or_new,
    legend_above,
    matplotlib_module,
    percent,
)


def test_a_missing_matplotlib_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r'pip install "gandetect\[plot\]"'):
        matplotlib_module("pyplot")


def test_given_axes_are_used_and_open_no_figure():
    ax = Figure().subplots()
    assert axes_or_new(ax) is ax
    assert not plt.get_fignums()


def test_new_axes_have_the_size_that_is_asked_for():
    ax = axes_or_new(None, figsize=(3, 2))
    assert ax.figure.get_size_inches().tolist() == [3, 2]


def test_the_colours_are_distinct():
    assert len({to_rgb(color) for color in OKABE_ITO}) == len(OKABE_ITO)


def test_the_legend_covers_no_data():
    ax = Figure(layout="constrained").subplots()
    ax.plot([0, 1], label="a line")
    legend_above(ax, n_columns=1)
    ax.figure.canvas.draw()
    assert ax.get_legend().get_window_extent().ymin >= ax.get_window_extent().ymax


def test_a_title_stands_above_the_legend_however_many_lines_it_has():
    ax = Figure(layout="constrained").subplots()
    for i in range(5):
        ax.plot([0, 1], label=f"line {i}")
    legend_above(ax, n_columns=2, title="a title")
    ax.figure.draw_without_rendering()
    (title,) = [text for text in ax.findobj(Text) if text.get_text() == "a title"]
    box = title.get_window_extent()
    assert ax.get_legend().get_window_extent().ymax <= box.ymin
    assert box.ymax <= ax.figure.bbox.ymax


def test_shares_are_written_as_percentages():
    assert [percent(share) for share in (0, 0.05, 0.12345, 1)] == ["0 %", "5 %", "12.3 %", "100 %"]
