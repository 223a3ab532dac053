import numpy as np
import pytest
from matplotlib.colors import same_color
from matplotlib.figure import Figure

from gandetect.plotting import PrecisionRecallDisplay, RocDisplay
from gandetect.plotting.style import BLUE, MARKERS, OKABE_ITO, VERMILLION

# Above 0.5: one of four normal samples, two of three anomalies.
Y = [0, 0, 0, 0, 1, 1, 1]
SCORES = [0.1, 0.2, 0.3, 0.8, 0.4, 0.6, 0.9]
DISPLAYS = [RocDisplay, PrecisionRecallDisplay]


def points(ax):
    return [line.get_xydata().tolist() for line in ax.lines if line.get_marker() == "o"]


def test_the_point_of_the_roc_curve():
    display = RocDisplay.from_predictions(Y, SCORES, threshold=0.5, name="a method")
    assert display.operating_point_ == pytest.approx([1 / 4, 2 / 3])
    assert points(display.ax_) == [[pytest.approx(display.operating_point_)]]
    assert display.curve_.roc_auc == pytest.approx(10 / 12)
    entries = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert entries[0] == "a method (AUC = 0.83)"
    assert entries[-1] == "threshold 0.5: 66.7 % found, 25 % false alarms"


def test_the_point_of_the_precision_recall_curve():
    display = PrecisionRecallDisplay.from_predictions(Y, SCORES, threshold=0.5)
    assert display.operating_point_ == pytest.approx([2 / 3, 2 / 3])
    entries = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert entries[-1] == "threshold 0.5: recall 66.7 %, precision 66.7 %"


def test_precision_where_nothing_is_flagged():
    display = PrecisionRecallDisplay.from_predictions(Y, SCORES, threshold=2)
    assert display.operating_point_ == [0.0, 1.0]


@pytest.mark.parametrize("Picture", DISPLAYS)
class TestBoth:
    def test_the_point_lies_on_the_curve(self, Picture):
        rng = np.random.default_rng(0)
        y = np.repeat([0, 1], [60, 40])
        display = Picture.from_predictions(y, rng.normal(size=100) + y, threshold=0.7)
        curve = display.ax_.lines[0].get_xydata()
        assert np.abs(curve - display.operating_point_).max(axis=1).min() < 1e-12

    def test_without_a_threshold_there_is_no_point(self, Picture):
        display = Picture.from_predictions(Y, SCORES, plot_chance_level=False)
        assert display.operating_point_ is None
        assert len(display.ax_.lines) == 1

    def test_two_detectors_in_one_picture(self, Picture):
        ax = Figure().subplots()
        for name, color in (("one", BLUE), ("two", VERMILLION)):
            Picture.from_predictions(
                Y, SCORES, name=name, ax=ax, color=color, plot_chance_level=False
            )
        assert same_color(ax.lines[0].get_color(), BLUE)
        assert same_color(ax.lines[1].get_color(), VERMILLION)
        entries = [text.get_text()[:3] for text in ax.get_legend().get_texts()]
        assert entries == ["one", "two"]

    def test_seven_detectors_are_told_apart_without_their_colours(self, Picture):
        ax = Figure().subplots()
        for _ in range(8):
            Picture.from_predictions(Y, SCORES, threshold=0.5, ax=ax)
        points = [line for line in ax.lines if line.get_linestyle() == "None"]
        chance = [line for line in ax.lines if line.get_linestyle() == ":"]
        curves = [line for line in ax.lines if line not in points and line not in chance]
        assert len(points) == len(chance) == len(curves) == 8
        assert [point.get_marker() for point in points] == [*MARKERS, MARKERS[0]]
        assert [curve.get_color() for curve in curves] == [*OKABE_ITO, OKABE_ITO[0]]
        # The pattern of the dashes, which no public method of a line gives.
        patterns = [curve._unscaled_dash_pattern for curve in curves]
        assert len(set(map(str, patterns))) == 7
        assert patterns[7] == patterns[0]

    def test_the_names_of_many_curves_stand_beside_them(self, Picture):
        figure = Figure(figsize=(7, 4), layout="constrained")
        ax = figure.subplots()
        for i in range(5):
            Picture.from_predictions(Y, SCORES, threshold=0.5, name=str(i), ax=ax)
            figure.draw_without_rendering()
            names, curves = ax.get_legend().get_window_extent(), ax.get_window_extent()
            assert names.overlaps(curves) == (i < 4)
        assert names.x1 <= figure.bbox.x1
        titles = [text.get_text() for text in ax.get_legend().get_texts()]
        assert sum("hance" in title for title in titles) == 1

    def test_axes_are_labelled_in_percent(self, Picture):
        ax = Picture.from_predictions(Y, SCORES).ax_
        assert ax.get_xlabel().endswith("flagged")
        assert ax.xaxis.get_major_formatter()(0.2, 0) == "20 %"
