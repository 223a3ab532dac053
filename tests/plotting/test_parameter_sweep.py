import numpy as np
import pytest
from sklearn.ensemble import IsolationForest
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from gandetect.metrics import average_precision_scorer, roc_auc_scorer
from gandetect.plotting import ParameterSweepDisplay

SCORES = [[0.6, 0.8], [0.9, 0.9], [0.5, 0.7]]


def search_over(grid, scoring=roc_auc_scorer, estimator=None):
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], [40, 20])
    X = rng.normal(size=(60, 3)) + y[:, None]
    search = GridSearchCV(
        IsolationForest(random_state=0) if estimator is None else estimator,
        grid,
        scoring=scoring,
        cv=StratifiedKFold(3),
        refit=False,
    )
    return search.fit(X, y)


def line_of(display, name=""):
    """Where a line of means runs, and how far the band around it reaches to each side."""
    x, mean = display.lines_[name].get_data()
    band = display.ax_.collections[list(display.lines_).index(name)]
    edges = np.concatenate([path.vertices for path in band.get_paths()])
    halves = [np.ptp(edges[edges[:, 0] == place, 1]) / 2 for place in x[np.isfinite(mean)]]
    return x, mean, halves


def entries(display):
    return [text.get_text() for text in display.ax_.get_legend().get_texts()]


def test_mean_and_spread_over_the_splits():
    display = ParameterSweepDisplay.from_predictions([2, 4, 8], SCORES, parameter="latent_dim")
    x, mean, std = line_of(display)
    np.testing.assert_array_equal(x, [2, 4, 8])
    np.testing.assert_allclose(mean, [0.7, 0.9, 0.6])
    np.testing.assert_allclose(std, [0.1, 0, 0.1], atol=1e-12)
    assert entries(display) == ["best: 0.900 at 4"]
    assert display.ax_.get_ylabel() == "Score\nmean ± std over 2 splits"


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        ([2, 4, 8], "log"),
        ([0.1, 1, 10], "log"),
        ([1, 5, 20, 100], "log"),
        ([10, 20, 30], "linear"),
        ([0, 1, 10], "linear"),
        ([1, 100], "linear"),
        ([-1, 1, 10], "linear"),
    ],
)
def test_the_axis_is_logarithmic_for_a_geometric_series(values, scale):
    scores = np.ones((len(values), 2))
    display = ParameterSweepDisplay.from_predictions(values, scores, parameter="weight")
    assert display.ax_.get_xscale() == scale
    assert [label.get_text() for label in display.ax_.get_xticklabels()] == [*map(str, values)]


def test_words_stand_side_by_side_in_their_order():
    values = ["sum", None, (64, 32)]
    display = ParameterSweepDisplay.from_predictions(values, SCORES, parameter="step__kind")
    np.testing.assert_array_equal(display.lines_[""].get_xdata(), [0, 1, 2])
    assert display.lines_[""].get_linestyle() == "None"
    (bars,) = display.ax_.collections
    lengths = [np.ptp(segment[:, 1]) for segment in bars.get_segments()]
    np.testing.assert_allclose(lengths, [0.2, 0, 0.2], atol=1e-12)
    ticks = [label.get_text() for label in display.ax_.get_xticklabels()]
    assert ticks == ["sum", "None", "(64, 32)"]
    assert display.ax_.get_xlabel() == "kind"


def test_lines_over_words_do_not_cover_each_other():
    lines = {"a": SCORES, "b": np.subtract(SCORES, 0.1)}
    display = ParameterSweepDisplay.from_predictions(["x", "y", "z"], lines, parameter="kind")
    a, b = (display.lines_[name].get_xdata() for name in "ab")
    np.testing.assert_allclose(b - a, 0.1)
    assert entries(display) == ["a", "b", "best: 0.900 at y"]


def test_numbers_are_drawn_in_their_order():
    display = ParameterSweepDisplay.from_predictions([8, 2, 4], SCORES, parameter="latent_dim")
    x, mean, _ = line_of(display)
    np.testing.assert_array_equal(x, [2, 4, 8])
    np.testing.assert_allclose(mean, [0.9, 0.6, 0.7])


def test_from_a_search():
    search = search_over({"n_estimators": [4, 8, 16]})
    display = ParameterSweepDisplay.from_estimator(search)
    x, mean, std = line_of(display)
    np.testing.assert_array_equal(x, [4, 8, 16])
    np.testing.assert_allclose(mean, search.cv_results_["mean_test_score"])
    np.testing.assert_allclose(std, search.cv_results_["std_test_score"])
    assert display.ax_.get_ylabel() == "ROC AUC score\nmean ± std over 3 splits"


def test_other_parameters_are_lines():
    pipeline = make_pipeline(StandardScaler(), IsolationForest(random_state=0))
    grid = {"isolationforest__n_estimators": [4, 8], "isolationforest__max_samples": [10, 20]}
    search = search_over(grid, estimator=pipeline)
    display = ParameterSweepDisplay.from_estimator(search, "isolationforest__n_estimators")
    assert list(display.lines_) == ["max_samples=10", "max_samples=20"]
    means = search.cv_results_["mean_test_score"].reshape(2, 2)  # by max_samples
    np.testing.assert_allclose(line_of(display, "max_samples=20")[1], means[1])
    assert display.ax_.get_xlabel() == "n_estimators"
    best = np.unravel_index(means.argmax(), (2, 2))
    ring = display.ax_.lines[-1] if display.ax_.lines[-1].get_markersize() == 14 else None
    assert ring.get_xydata().tolist() == [[[4, 8][best[1]], means.max()]]
    assert entries(display)[-1] == f"best: {means.max():.3f} at {[4, 8][best[1]]}"


def test_one_of_several_metrics():
    scoring = {"auc": roc_auc_scorer, "ap": average_precision_scorer}
    search = search_over({"n_estimators": [4, 8]}, scoring)
    display = ParameterSweepDisplay.from_estimator(search, metric="ap")
    np.testing.assert_allclose(line_of(display)[1], search.cv_results_["mean_test_ap"])
    assert display.score_name == "Average precision score"
    with pytest.raises(ValueError, match="metric must be one of 'auc', 'ap', got None"):
        ParameterSweepDisplay.from_estimator(search)


def test_grids_that_differ_leave_gaps():
    grid = [{"n_estimators": [4], "bootstrap": [True]}, {"n_estimators": [8], "bootstrap": [False]}]
    display = ParameterSweepDisplay.from_estimator(search_over(grid), "n_estimators")
    assert np.isnan(line_of(display, "bootstrap=True")[1]).tolist() == [False, True]
    assert np.isnan(line_of(display, "bootstrap=False")[1]).tolist() == [True, False]


def test_of_a_list_of_grids_those_with_the_parameter_are_drawn():
    grids = [{"n_estimators": [4, 8]}, {"max_samples": list(range(10, 20))}]
    search = search_over([*grids, {"n_estimators": [16], "max_samples": [9]}])
    display = ParameterSweepDisplay.from_estimator(search, "n_estimators")
    assert list(display.lines_) == ["", "max_samples=9"]
    means = search.cv_results_["mean_test_score"]
    x, alone, _ = line_of(display)
    np.testing.assert_array_equal(x, [4, 8, 16])
    np.testing.assert_allclose(alone, [*means[:2], np.nan])
    np.testing.assert_allclose(line_of(display, "max_samples=9")[1], [np.nan, np.nan, means[-1]])
    display = ParameterSweepDisplay.from_estimator(search_over(grids), "max_samples")
    assert display.values == grids[1]["max_samples"]
    assert list(display.lines_) == [""]


def test_what_can_not_be_drawn():
    search = search_over({"n_estimators": [1, 2], "max_samples": [10, 11]})
    with pytest.raises(ValueError, match="parameter must be one of 'max_samples', 'n_estimators'"):
        ParameterSweepDisplay.from_estimator(search)
    with pytest.raises(TypeError, match="IsolationForest has no cv_results_"):
        ParameterSweepDisplay.from_estimator(IsolationForest())
    with pytest.raises(NotFittedError):
        ParameterSweepDisplay.from_estimator(GridSearchCV(IsolationForest(), {}))
    with pytest.raises(ValueError, match=r"\(2, n_splits\), one row for each value, got \(3, 2\)"):
        ParameterSweepDisplay.from_predictions([1, 2], SCORES, parameter="a")
    with pytest.raises(ValueError, match="At most 7 lines can be drawn"):
        lines = {str(i): [[0.5]] for i in range(8)}
        ParameterSweepDisplay.from_predictions([1], lines, parameter="a")
