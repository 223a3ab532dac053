import numpy as np
import pytest
from matplotlib.colors import same_color
from matplotlib.figure import Figure
from sklearn.ensemble import IsolationForest

from gandetect import GANomalyDetector, RunFolder
from gandetect.plotting import TrainingCurveDisplay
from gandetect.plotting.style import BLACK
from tests.helpers import needs_callbacks

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


def test_losses_are_told_apart_without_their_colours():
    lines = TrainingCurveDisplay(history=HISTORY).plot().lines_
    assert lines["validation_latent"].get_marker() == lines["latent"].get_marker()
    assert lines["adversarial"].get_marker() != lines["latent"].get_marker()
    names = [f"loss {i}" for i in range(9)]
    many = TrainingCurveDisplay(history=[{"epoch": 1, **dict.fromkeys(names, 1.0)}]).plot().lines_
    assert len({(line.get_color(), line.get_marker()) for line in many.values()}) == 9


def test_markers_are_few_and_those_of_losses_that_coincide_are_apart():
    history = [{"epoch": i + 1, "a": 1.0, "b": 1.0} for i in range(40)]
    lines = TrainingCurveDisplay(history=history).plot().lines_.values()
    marked = [set(range(40)[slice(line.get_markevery()[0], None, 8)]) for line in lines]
    assert [line.get_markevery()[1] for line in lines] == [8, 8]
    assert not marked[0] & marked[1]


def test_the_sum_hides_no_loss_that_it_equals():
    history = [{"epoch": i + 1, "loss": 1.0, "reconstruction": 1.0} for i in range(4)]
    history[-1]["validation_loss"] = 1.0
    lines = TrainingCurveDisplay(history=history).plot().lines_
    assert lines["loss"].get_linestyle() == "-."
    assert lines["loss"].get_linewidth() < lines["reconstruction"].get_linewidth()
    assert lines["loss"].get_zorder() > lines["reconstruction"].get_zorder()
    assert same_color(lines["loss"].get_color(), BLACK)
    assert lines["validation_loss"].get_linestyle() == "--"
    # Alone it is the sum of nothing.
    alone = TrainingCurveDisplay(history=history).plot(losses=["loss"]).lines_
    assert alone["loss"].get_linestyle() == "-"


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


@needs_callbacks
def test_what_a_run_folder_keeps(tmp_path):
    X = np.random.default_rng(0).normal(size=(60, 3))
    detector = GANomalyDetector(epochs=2, n_estimators=1, random_state=0)
    detector.set_callbacks(RunFolder(tmp_path)).fit(X)
    kept = TrainingCurveDisplay.from_predictions(tmp_path / "stats" / "history.csv", name="kept")
    drawn = TrainingCurveDisplay.from_estimator(detector)
    assert list(kept.lines_) == list(drawn.lines_)
    for name, line in kept.lines_.items():
        np.testing.assert_allclose(line.get_xydata(), drawn.lines_[name].get_xydata())
    assert kept.ax_.get_title(loc="left") == "kept"


def test_records_with_text_and_gaps():
    history = [{"epoch": "1", "latent": ""}, {"epoch": "2", "latent": "0.5"}]
    display = TrainingCurveDisplay.from_predictions(history, losses=["latent"])
    np.testing.assert_array_equal(display.lines_["latent"].get_ydata(), [np.nan, 0.5])


@pytest.mark.parametrize(
    ("history", "message"),
    [
        ([], "no epoch"),
        ([{"latent": 1.0}], 'needs an "epoch"'),
        ([{"epoch": 1, "latent": "much"}], "'much' for 'latent', which is not a number"),
    ],
)
def test_what_is_no_history(history, message):
    with pytest.raises(ValueError, match=message):
        TrainingCurveDisplay.from_predictions(history)


@pytest.mark.parametrize(
    "content",
    [b"\xff\xfe\x00", b"epoch,latent\n1,2,3\n", b"epoch,latent\n1," + b"9" * 2**18, b"\x89PNG\r\n"],
    ids=["encoding", "more cells", "long cell", "image"],
)
def test_a_file_that_is_no_csv_of_losses_is_named(content, tmp_path):
    path = tmp_path / "history.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"history\.csv' is not a CSV file of losses"):
        TrainingCurveDisplay.from_predictions(path)


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
