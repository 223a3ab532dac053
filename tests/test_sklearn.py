"""The detectors are scikit-learn's: its own checks, and its tools around them."""

import joblib
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.utils import get_tags

from gandetect.metrics import average_precision_scorer, roc_auc_scorer
from gandetect.networks import MLP
from tests.helpers import needs_callbacks, one_detector


def test_common_checks(estimator, sklearn_check):
    """None is expected to fail."""
    sklearn_check(estimator)


@pytest.fixture(scope="module")
def labelled():
    """40 rows on a plane and 8 off it, labelled 1."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(48, 2)) @ rng.normal(size=(2, 5))
    y = (np.arange(48) % 6 == 0).astype(int)
    X[y == 1] += rng.normal(size=(8, 5)) * 3
    return X, y


def test_in_a_pipeline(Detector, make, rows):
    pipeline = make_pipeline(StandardScaler(), make(Detector)).fit(rows[:60])
    by_hand = make(Detector).fit(StandardScaler().fit_transform(rows[:60]))
    X = StandardScaler().fit(rows[:60]).transform(rows)
    np.testing.assert_array_equal(pipeline.score_samples(rows), by_hand.score_samples(X))
    np.testing.assert_array_equal(pipeline.predict(rows), by_hand.predict(X))


def test_images_as_flat_rows_in_a_pipeline(Detector, make, images, tiny_convnet):
    detector = make(
        Detector, epochs=1, architecture=tiny_convnet, latent_dim=3, image_shape=(9, 13, 3)
    )
    flat = images[:30].reshape(30, -1)
    pipeline = make_pipeline(StandardScaler(), detector).fit(flat)
    assert pipeline.predict(flat).shape == (30,)
    assert detector.reconstruct(flat).shape == flat.shape


@one_detector
def test_a_step_before_another(Detector, make, rows):
    pipeline = make_pipeline(make(Detector, latent_dim=3), StandardScaler())
    assert pipeline.fit_transform(rows[:40]).shape == (40, 6)


@one_detector
def test_grid_search_in_processes(Detector, make, labelled):
    X, y = labelled
    search = GridSearchCV(
        make(Detector),
        {"n_estimators": [1, 2], "latent_dim": [1, 2]},
        scoring={"roc_auc": roc_auc_scorer, "average_precision": average_precision_scorer},
        refit="roc_auc",
        cv=StratifiedKFold(2),
        n_jobs=2,
        error_score="raise",
    ).fit(X, y)
    assert search.best_params_.keys() == {"n_estimators", "latent_dim"}
    for name in ("roc_auc", "average_precision"):
        scores = search.cv_results_[f"mean_test_{name}"]
        assert scores.shape == (4,)
        assert ((scores > 0) & (scores <= 1)).all()
    assert search.best_estimator_.n_iter_ == 2
    # The same search in this process: no bit depends on where it ran.
    alone = clone(search).set_params(n_jobs=1).fit(X, y)
    np.testing.assert_array_equal(
        alone.cv_results_["mean_test_roc_auc"], search.cv_results_["mean_test_roc_auc"]
    )


@one_detector
def test_grid_search_over_architectures(Detector, make, labelled):
    X, y = labelled
    grid = {"architecture": [MLP(hidden_dims=(4,)), MLP(hidden_dims=(8, 4))]}
    search = GridSearchCV(
        make(Detector), grid, scoring=roc_auc_scorer, cv=StratifiedKFold(2), error_score="raise"
    ).fit(X, y)
    assert search.best_params_["architecture"] in grid["architecture"]


def test_a_search_that_learns_from_normal_rows_alone(Detector, make, labelled):
    """As README.md has it: labels are for the scorer, folds for training hold no anomaly."""
    X, y = labelled
    folds = [(train[y[train] == 0], test) for train, test in StratifiedKFold(2).split(X, y)]
    search = GridSearchCV(
        make(Detector),
        {"n_estimators": [1, 2]},
        scoring=roc_auc_scorer,
        cv=folds,
        error_score="raise",
        refit=False,
    ).fit(X, y)
    scores = search.cv_results_["mean_test_score"]
    assert ((scores > 0) & (scores <= 1)).all()


def test_a_search_over_a_pipeline_with_y(Detector, make, labelled):
    X, y = labelled
    pipeline = make_pipeline(StandardScaler(), make(Detector))
    name = f"{Detector.__name__.lower()}__latent_dim"
    search = GridSearchCV(
        pipeline, {name: [1, 2]}, scoring=roc_auc_scorer, cv=2, error_score="raise"
    ).fit(X, y)
    assert search.best_params_.keys() == {name}
    assert search.predict(X).shape == (48,)


def test_y_is_never_learned_from(Detector, make, labelled):
    X, y = labelled
    without = make(Detector).fit(X).anomaly_score(X)
    for labels in (y, np.zeros(48), y.astype(str)):
        np.testing.assert_array_equal(make(Detector).fit(X, labels).anomaly_score(X), without)
    in_a_pipeline = make_pipeline(make(Detector)).fit(X, y)
    np.testing.assert_array_equal(-in_a_pipeline.score_samples(X), without)


@one_detector
def test_a_search_in_threads_scores_as_in_one(Detector, make, labelled):
    X, y = labelled

    def search(n_jobs):
        return GridSearchCV(
            make(Detector),
            {"latent_dim": [1, 2]},
            scoring=roc_auc_scorer,
            cv=StratifiedKFold(2),
            n_jobs=n_jobs,
            refit=False,
        ).fit(X, y)

    with joblib.parallel_config(backend="threading"):
        found = search(2).cv_results_["mean_test_score"]
    np.testing.assert_array_equal(found, search(1).cv_results_["mean_test_score"])


@one_detector
def test_a_search_without_scoring_is_refused(Detector, make, labelled):
    with pytest.raises(TypeError, match="score"):
        GridSearchCV(make(Detector), {"latent_dim": [1, 2]}).fit(*labelled)


def test_cross_validation_that_learns_from_normal_rows_alone(Detector, make, labelled):
    """As the guide to thresholds and signs has it."""
    X, y = labelled
    folds = [(train[y[train] == 0], test) for train, test in StratifiedKFold(2).split(X, y)]
    scores = cross_val_score(
        make(Detector), X, y, scoring=roc_auc_scorer, cv=folds, error_score="raise"
    )
    by_hand = [
        roc_auc_scorer(make(Detector).fit(X[train]), X[test], y[test]) for train, test in folds
    ]
    np.testing.assert_array_equal(scores, by_hand)


def test_what_stands_behind_columns_made_numbers(Detector, make):
    """As the guide to tables has it: a table becomes rows, and the last step has the rest."""
    pd = pytest.importorskip("pandas")
    rng = np.random.default_rng(0)
    payments = pd.DataFrame(
        {"country": rng.choice(["DE", "FR"], 60), "amount": rng.normal(size=60), "age": 30.0}
    )
    payments.loc[3, "amount"] = np.nan
    payments["age"] += rng.normal(size=60)
    steps = make_column_transformer(
        (OneHotEncoder(sparse_output=False), ["country"]), (SimpleImputer(), ["amount", "age"])
    )
    pipeline = make_pipeline(steps, make(Detector, validation_fraction=0.2)).fit(payments)
    rows, detector = pipeline[:-1].transform(payments), pipeline[-1]
    detector.infer_threshold(rows, outlier_perc=20)
    assert (pipeline.predict(payments) == -1).mean() == pytest.approx(0.2, abs=0.05)
    assert detector.p_value(rows).shape == (60,)
    assert detector.anomaly_map(rows).shape == (60, 4)


def test_clone_copies_parameters_and_nothing_learned(fitted_to_rows):
    copied = clone(fitted_to_rows)
    assert copied.get_params() == fitted_to_rows.get_params()
    assert not [name for name in vars(copied) if name.endswith("_")]


def test_set_params(Detector):
    detector = Detector().set_params(latent_dim=3, score="paper", n_estimators=1)
    parameters = detector.get_params()
    assert (parameters["latent_dim"], parameters["score"]) == (3, "paper")
    with pytest.raises(ValueError, match="n_estimator_"):
        detector.set_params(n_estimator_=1)


def test_score_is_a_parameter_and_no_method(Detector):
    detector = Detector(score="paper")
    assert not hasattr(detector, "score")
    with pytest.raises(AttributeError, match="get_params"):
        _ = detector.score
    assert Detector().get_params()["score"] is None


def test_repr_names_what_was_set(Detector):
    assert repr(Detector(latent_dim=3)) == f"{Detector.__name__}(latent_dim=3)"
    assert Detector.__name__ in Detector()._repr_html_()


@one_detector
def test_pandas_out(Detector, make, rows):
    pandas = pytest.importorskip("pandas")
    X = pandas.DataFrame(rows[:40], columns=list("abcdef"), index=range(100, 140))
    detector = make(Detector, latent_dim=2).set_output(transform="pandas").fit(X)
    codes = detector.transform(X)
    assert isinstance(codes, pandas.DataFrame)
    assert list(codes.columns) == list(detector.get_feature_names_out())
    assert list(codes.index) == list(X.index)
    assert list(detector.feature_names_in_) == list("abcdef")


@one_detector
def test_polars_out(Detector, make, rows):
    polars = pytest.importorskip("polars")
    X = polars.DataFrame(rows[:40], schema=list("abcdef"))
    detector = make(Detector, latent_dim=2).set_output(transform="polars").fit(X)
    assert isinstance(detector.transform(X), polars.DataFrame)
    assert list(detector.feature_names_in_) == list("abcdef")


def test_tags(Detector):
    tags = get_tags(Detector())
    assert tags.estimator_type == "outlier_detector"
    assert tags.input_tags.three_d_array
    assert not tags.input_tags.sparse
    assert not tags.input_tags.allow_nan
    assert not tags.non_deterministic


@needs_callbacks
@one_detector
def test_set_callbacks_is_there(Detector):
    with pytest.raises(TypeError, match="FitCallback"):
        Detector().set_callbacks("not a callback")
