import numpy as np
import pytest
from matplotlib.colors import same_color
from matplotlib.figure import Figure
from sklearn.cluster import KMeans
from sklearn.ensemble import IsolationForest
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from gandetect import GANomalyDetector
from gandetect.metrics import roc_auc_scorer
from gandetect.plotting import PrecisionRecallDisplay, RocDisplay, ScoreHistogramDisplay
from gandetect.plotting.style import BLUE, VERMILLION

Y = [0, 0, 0, 0, 1, 1]
SCORES = [0.0, 0.1, 0.1, 0.4, 0.6, 1.0]


@pytest.fixture(scope="module")
def X():
    rng = np.random.default_rng(0)
    return np.vstack([rng.normal(size=(40, 3)), rng.normal(5, 1, size=(10, 3))])


@pytest.fixture(scope="module")
def y():
    return np.repeat([0, 1], [40, 10])


def heights(patch):
    """The heights at which the outline of a histogram runs."""
    return set(patch.get_xy()[:, 1].round(6))


def test_each_kind_is_drawn_as_shares_of_itself():
    display = ScoreHistogramDisplay.from_predictions(Y, SCORES, bins=[0.0, 0.5, 1.0])
    normal, anomalous = display.ax_.patches
    assert heights(normal) == {0.0, 1.0}
    assert heights(anomalous) == {0.0, 1.0}
    halves = ScoreHistogramDisplay.from_predictions(Y, SCORES, bins=[0.0, 0.05, 0.2, 0.5, 0.8, 1.0])
    normal, anomalous = halves.ax_.patches
    assert heights(normal) == {0.0, 0.25, 0.5}
    assert heights(anomalous) == {0.0, 0.5}
    assert same_color(normal.get_edgecolor(), BLUE)
    assert same_color(anomalous.get_edgecolor(), VERMILLION)


def test_the_line_stands_at_the_threshold_and_all_is_labelled():
    display = ScoreHistogramDisplay.from_predictions(Y, SCORES, threshold=0.5, name="a method")
    assert list(display.threshold_line_.get_xdata()) == [0.5, 0.5]
    ax = display.ax_
    assert ax.get_xlabel() == "Anomaly score (larger is more anomalous)"
    assert ax.get_ylabel() == "Share of each class"
    assert ax.get_title(loc="left") == "a method"
    assert ax.yaxis.get_major_formatter()(0.025, 0) == "2.5 %"
    entries = [text.get_text() for text in ax.get_legend().get_texts()]
    assert entries == ["normal (4)", "anomalous (2)", "threshold 0.5"]


def test_without_a_threshold_there_is_no_line():
    display = ScoreHistogramDisplay.from_predictions(Y, SCORES)
    assert display.threshold_line_ is None
    assert not display.ax_.lines
    assert display.ax_.get_title(loc="left") == ""


def test_a_picture_is_written(tmp_path):
    display = ScoreHistogramDisplay.from_predictions(Y, SCORES, threshold=0.5)
    display.figure_.savefig(tmp_path / "scores.png")
    assert (tmp_path / "scores.png").read_bytes()[:4] == b"\x89PNG"


def test_draws_into_the_axes_that_are_given_and_again_with_plot():
    panels = Figure().subplots(1, 2)
    display = ScoreHistogramDisplay.from_predictions(Y, SCORES, ax=panels[0])
    assert display.ax_ is panels[0]
    assert display.plot(ax=panels[1], bins=3) is display
    assert display.ax_ is panels[1]
    assert len(panels[0].patches) == len(panels[1].patches) == 2


@pytest.mark.parametrize(
    ("y_true", "options"),
    [
        (np.array([1, 1, 1, 1, -1, -1]), {}),
        (np.array(Y, dtype=bool), {}),
        (["ok", "ok", "ok", "ok", "bad", "bad"], {"anomaly_label": "bad"}),
    ],
)
def test_labels_of_any_convention(y_true, options):
    display = ScoreHistogramDisplay.from_predictions(y_true, SCORES, **options)
    assert display.anomalous_scores.tolist() == [0.6, 1.0]
    assert display.normal_scores.tolist() == [0.0, 0.1, 0.1, 0.4]


def test_the_threshold_of_our_detector(X, y):
    detector = GANomalyDetector(epochs=1, n_estimators=1, random_state=0).fit(X)
    detector.infer_threshold(X, outlier_perc=20)
    display = ScoreHistogramDisplay.from_estimator(detector, X, y)
    assert display.threshold_line_.get_xdata()[0] == pytest.approx(detector.threshold_)
    np.testing.assert_array_equal(display.normal_scores, detector.anomaly_score(X)[y == 0])
    assert display.ax_.get_title(loc="left") == "GANomalyDetector"


def test_the_threshold_of_scikit_learns_detectors(X, y):
    forest = IsolationForest(contamination=0.2, random_state=0).fit(X)
    display = ScoreHistogramDisplay.from_estimator(forest, X, y, name="forest")
    assert display.threshold == pytest.approx(-forest.offset_)
    n_flagged = np.sum(forest.predict(X) == -1)
    scores = np.concatenate([display.normal_scores, display.anomalous_scores])
    assert np.sum(scores > display.threshold + 1e-9) == n_flagged
    assert display.ax_.get_title(loc="left") == "forest"


def test_pipelines_and_searches(X, y):
    pipeline = make_pipeline(StandardScaler(), IsolationForest(contamination=0.2, random_state=0))
    search = GridSearchCV(
        pipeline,
        {"isolationforest__n_estimators": [5, 10]},
        scoring=roc_auc_scorer,
        cv=StratifiedKFold(2),
    ).fit(X, y)
    display = ScoreHistogramDisplay.from_estimator(search, X, y)
    assert display.threshold == pytest.approx(-search.best_estimator_[-1].offset_)
    assert display.ax_.get_title(loc="left") == "IsolationForest"


def test_a_threshold_of_another_score_is_refused(X, y):
    detector = GANomalyDetector(epochs=1, n_estimators=1, random_state=0).fit(X)
    detector.set_params(score="paper")
    with pytest.raises(ValueError, match="infer_threshold"):
        ScoreHistogramDisplay.from_estimator(detector, X, y)


def test_scores_without_labels():
    display = ScoreHistogramDisplay.from_predictions(
        None, SCORES, threshold=0.5, bins=[0.0, 0.5, 1.0]
    )
    (patch,) = display.ax_.patches
    assert heights(patch) == {0.0, 0.333333, 0.666667}
    assert display.unlabelled_scores.tolist() == SCORES
    assert len(display.normal_scores) == len(display.anomalous_scores) == 0
    assert display.ax_.get_ylabel() == "Share of the samples"
    entries = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert entries == ["samples (6)", "threshold 0.5, 33.3 % above it"]
    with pytest.raises(ValueError, match="NaN"):
        ScoreHistogramDisplay.from_predictions(None, [0.1, np.nan])


def test_a_batch_without_labels(X):
    forest = IsolationForest(contamination=0.2, random_state=0).fit(X)
    display = ScoreHistogramDisplay.from_estimator(forest, X, bins=5)
    np.testing.assert_array_equal(display.unlabelled_scores, -forest.score_samples(X))
    assert display.threshold_line_.get_xdata()[0] == pytest.approx(-forest.offset_)
    assert display.ax_.get_title(loc="left") == "IsolationForest"


@pytest.mark.parametrize("Picture", [RocDisplay, PrecisionRecallDisplay])
def test_a_curve_needs_labels(X, Picture):
    with pytest.raises(TypeError, match="'y'"):
        Picture.from_estimator(IsolationForest(random_state=0).fit(X), X)
    with pytest.raises(ValueError):
        Picture.from_predictions(None, SCORES)


@pytest.mark.parametrize(
    ("y_true", "scores", "message"),
    [
        ([0, 0, 0], [0.1, 0.2, 0.3], "anomalies"),
        ([0, 1, 2], [0.1, 0.2, 0.3], "name the anomaly"),
        ([0, 1], [0.1, 0.2, 0.3], "inconsistent numbers of samples"),
        ([0, 1], [0.1, np.nan], "NaN"),
        ([0, 1], [[0.1, 0.2], [0.3, 0.4]], "1d array"),
    ],
)
def test_wrong_input(y_true, scores, message):
    with pytest.raises(ValueError, match=message):
        ScoreHistogramDisplay.from_predictions(y_true, scores)


def test_an_estimator_without_scores_is_refused(X, y):
    with pytest.raises(TypeError, match="KMeans has no score_samples"):
        ScoreHistogramDisplay.from_estimator(KMeans(2, n_init=1).fit(X), X, y)
