import numpy as np
import pytest
from matplotlib.figure import Figure
from sklearn.ensemble import IsolationForest

from gandetect import GANomalyDetector
from gandetect.plotting import TrainingCurveDisplay

HISTORY = [
    {"epoch": 1, "latent": 1.0, "adversarial": 0.1, "validation_latent": 2.0},
    {"epoch": 2, "latent": 0.5, "adversarial": 0.2, "validation_latent": 1.5},
    {"epoch": 3, "latent": 0.2, "adversarial": 0.1, "validation_latent": 1.8},
]


def test_a_line_a_loss():
    display = TrainingCurveDisplay(history=HISTORY, name="a method").plot()
    assert list(display.lines_) == ["latent", "adversarial", "validation_latent"]
    assert display.lines_["latent"].get_xdata().tolist() == [1, 2, 3]
    assert display.lines_["latent"].get_ydata().tolist() == [1.0, 0.5, 0.2]
    ax = display.ax_
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("Epoch", "Loss")
    assert ax.get_title(loc="left") == "a method"
    entries = [text.get_text() for text in ax.get_legend().get_texts()]
    assert entries == ["latent", "adversarial", "validation latent"]


def test_validation_losses_are_dashed_in_the_colour_of_their_loss():
    lines = TrainingCurveDisplay(history=HISTORY).plot().lines_
    assert lines["validation_latent"].get_color() == lines["latent"].get_color()
    assert lines["adversarial"].get_color() != lines["latent"].get_color()
    assert lines["validation_latent"].get_linestyle() == "--"
    assert lines["latent"].get_linestyle() == "-"


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        ([1.0, 0.5, 0.02], "linear"),
        ([1.0, 0.5, 0.009], "log"),
        ([1.0, -0.5, 0.02], "linear"),
        ([1.0, -0.5, 0.009], "symlog"),
        ([0.0, 0.0, 0.0], "linear"),
        ([1.0, 0.0, 0.02], "linear"),
    ],
)
def test_small_losses_are_seen_beside_large_ones(values, scale):
    history = [{"epoch": i + 1, "critic": value} for i, value in enumerate(values)]
    assert TrainingCurveDisplay(history=history).plot().ax_.get_yscale() == scale


def test_only_the_losses_that_are_asked_for():
    display = TrainingCurveDisplay(history=HISTORY).plot(losses=["latent"])
    assert list(display.lines_) == ["latent"]
    with pytest.raises(ValueError, match="no loss 'feature', only latent, adversarial, validation"):
        display.plot(losses=["latent", "feature"])


def test_one_epoch_is_seen():
    (line,) = TrainingCurveDisplay(history=[{"epoch": 1, "latent": 1.0}]).plot().lines_.values()
    assert line.get_marker() == "o"


def test_a_loss_that_comes_later_leaves_a_gap():
    history = [{"epoch": 1, "latent": 1.0}, {"epoch": 2, "latent": 0.5, "validation_latent": 2.0}]
    display = TrainingCurveDisplay(history=history).plot()
    values = display.lines_["validation_latent"].get_ydata()
    assert np.isnan(values[0])
    assert values[1] == 2.0


def test_from_estimator(tmp_path):
    X = np.random.default_rng(0).normal(size=(60, 3))
    detector = GANomalyDetector(
        epochs=3, n_estimators=1, validation_fraction=0.2, random_state=0
    ).fit(X)
    ax = Figure(layout="constrained").subplots()
    display = TrainingCurveDisplay.from_estimator(detector, ax=ax)
    assert display.ax_ is ax
    assert display.figure_ is ax.figure
    assert set(display.lines_) == set(detector.history_[0]) - {"epoch"}
    assert ax.get_title(loc="left") == "GANomalyDetector"
    display.figure_.savefig(tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes()[:4] == b"\x89PNG"


def test_the_legend_covers_no_data():
    display = TrainingCurveDisplay(history=HISTORY).plot()
    display.figure_.canvas.draw()
    legend = display.ax_.get_legend().get_window_extent()
    assert legend.xmin >= display.ax_.get_window_extent().xmax


@pytest.mark.parametrize("estimator", [IsolationForest(), GANomalyDetector()])
def test_an_estimator_without_a_history_is_refused(estimator):
    with pytest.raises(TypeError, match="has no history_: fit it first"):
        TrainingCurveDisplay.from_estimator(estimator)


def test_an_empty_history_is_refused():
    with pytest.raises(ValueError, match="no epoch"):
        TrainingCurveDisplay(history=[]).plot()
