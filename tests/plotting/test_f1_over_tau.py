import numpy as np
import pytest

from gandetect.plotting import F1OverTauDisplay

Y = np.repeat([0, 1], [40, 20])
SCORES = np.r_[np.linspace(0, 1, 40), np.linspace(0.6, 1.6, 20)]


def entries(display):
    return [text.get_text() for text in display.ax_.get_legend().get_texts()]


def test_a_curve_with_its_floor_and_threshold():
    display = F1OverTauDisplay.from_predictions(Y, SCORES, threshold=0.9, name="a method")
    (curve,) = display.curves_
    # All called inliers: precision 40 of 60, recall 1.
    assert curve.constant_f1 == pytest.approx(0.8)
    line, floor, *_ = display.ax_.lines
    np.testing.assert_array_equal(line.get_xydata(), np.c_[curve.taus, curve.f1])
    assert set(floor.get_ydata()) == {curve.constant_f1}
    assert (floor.get_color(), floor.get_marker()) == (line.get_color(), line.get_marker())
    assert list(display.threshold_line_.get_xdata()) == [0.9, 0.9]
    assert display.ax_.get_title(loc="left") == "a method"
    assert display.ax_.get_xlabel() == "τ: anomaly score (larger is more anomalous)"
    best = f"33.3 % outliers, best {curve.f1.max():.2f}"
    assert entries(display) == [best, "all predicted as inliers: 0.80", "threshold 0.9"]


def test_a_curve_a_share_of_outliers():
    display = F1OverTauDisplay.from_predictions(
        Y, SCORES, outlier_shares=[0.2, 1 / 3], random_state=0
    )
    assert [curve.outlier_share for curve in display.curves_] == pytest.approx([0.2, 1 / 3])
    assert [curve.constant_f1 for curve in display.curves_] == pytest.approx([80 / 90, 0.8])
    assert entries(display)[-1] == "all predicted as inliers"
    assert display.threshold_line_ is None


def test_what_can_not_be_drawn():
    with pytest.raises(ValueError, match=r"outlier_share=0\.9"):
        F1OverTauDisplay.from_predictions(Y, SCORES, outlier_shares=[0.9])
    with pytest.raises(ValueError, match="At most 7 curves can be drawn, got 8"):
        F1OverTauDisplay.from_predictions(Y, SCORES, outlier_shares=[0.1] * 8)
