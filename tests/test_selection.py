"""Choosing between detectors without labels."""

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.ensemble import IsolationForest
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from gandetect import BiGANDetector, GANomalyDetector
from gandetect.selection import (
    IMAGE_KINDS,
    ROW_KINDS,
    SimulatedAnomalyScorer,
    simulate_anomalies,
    simulated_anomaly_scorer,
)


class ByFunction(OutlierMixin, BaseEstimator):
    """A fitted detector with a known score."""

    def __init__(self, anomaly_score):
        self.anomaly_score = anomaly_score

    def score_samples(self, X):
        return -self.anomaly_score(np.asarray(X))


def distance_from_the_plane(X):
    return np.abs(X[:, 0] - X[:, 1])


@pytest.fixture(scope="module")
def plane():
    """Two columns that are always equal."""
    return np.repeat(np.random.default_rng(0).normal(size=(200, 1)), 2, axis=1)


class TestSimulateAnomalies:
    @pytest.mark.parametrize("kind", ROW_KINDS)
    def test_of_rows(self, rows, kind):
        before = rows.copy()
        anomalies = simulate_anomalies(rows, kind)
        assert anomalies.shape == rows.shape
        assert (anomalies != rows).any(axis=1).all() or kind == "permuted"
        np.testing.assert_array_equal(rows, before)

    def test_permuted_columns_keep_their_values(self, rows):
        anomalies = simulate_anomalies(rows, "permuted")
        for column, values in zip(anomalies.T, rows.T, strict=True):
            assert np.isin(column, values).all()

    def test_uniform_ones_lie_within_the_range(self, rows):
        anomalies = simulate_anomalies(rows, "uniform")
        assert (anomalies >= rows.min(axis=0)).all()
        assert (anomalies <= rows.max(axis=0)).all()

    def test_shifted_columns_move_by_two_to_four_deviations(self, rows):
        moved = np.abs(simulate_anomalies(rows, "shifted") - rows) / rows.std(axis=0)
        moved = moved[moved > 0]
        assert moved.min() >= 2 - 1e-9
        assert moved.max() <= 4 + 1e-9

    @pytest.mark.parametrize("kind", IMAGE_KINDS)
    def test_of_images(self, images, kind):
        anomalies = simulate_anomalies(images, kind)
        assert anomalies.shape == images.shape
        changed = (anomalies != images).any(axis=(1, 2, 3))
        assert changed.all()
        assert anomalies.min() >= images.min()
        assert anomalies.max() <= images.max()

    @pytest.mark.parametrize("kind", ["patch", "noise"])
    def test_a_rectangle_of_an_image(self, images, kind):
        changed = (simulate_anomalies(images, kind) != images).any(axis=-1)
        for one in changed:
            (top, *_, bottom), (left, *_, right) = (
                [*np.flatnonzero(one.any(axis=axis)), *np.flatnonzero(one.any(axis=axis))]
                for axis in (1, 0)
            )
            assert one[top : bottom + 1, left : right + 1].all()
            assert bottom - top < 6
            assert right - left < 8

    @pytest.mark.parametrize("kind", IMAGE_KINDS)
    def test_layouts_agree(self, images, kind):
        expected = simulate_anomalies(images, kind)
        flat = simulate_anomalies(images.reshape(150, -1), kind, image_shape=(9, 13, 3))
        np.testing.assert_array_equal(flat.reshape(images.shape), expected)
        first = simulate_anomalies(np.moveaxis(images, -1, 1), kind, channel_axis=0)
        np.testing.assert_array_equal(np.moveaxis(first, 1, -1), expected)
        grey = simulate_anomalies(images[..., 0], kind)
        assert grey.shape == (150, 9, 13)

    def test_a_seed_gives_the_same(self, rows):
        first, again, other = (
            simulate_anomalies(rows, "shifted", random_state=seed) for seed in (0, 0, 1)
        )
        np.testing.assert_array_equal(first, again)
        assert (first != other).any()

    @pytest.mark.parametrize(("shape", "kind"), [((9, 3), "patch"), ((9, 3, 3), "permuted")])
    def test_unknown_kinds(self, shape, kind):
        with pytest.raises(ValueError, match="kind must be one of"):
            simulate_anomalies(np.zeros(shape), kind)

    def test_one_sample(self):
        with pytest.raises(ValueError, match="minimum of 2"):
            simulate_anomalies(np.zeros((1, 3)), "uniform")


class TestScorer:
    def test_a_detector_that_knows(self, plane):
        # Whatever leaves the plane is told from what lies on it; where both columns were taken
        # from one other row, or none changed, nothing is left to tell.
        by_kind = simulated_anomaly_scorer.by_kind(ByFunction(distance_from_the_plane), plane)
        assert by_kind["uniform"] == by_kind["shifted"] == 1
        assert by_kind["permuted"] > 0.9
        assert simulated_anomaly_scorer(ByFunction(distance_from_the_plane), plane) > 0.96

    def test_a_detector_that_knows_the_opposite(self, plane):
        opposite = ByFunction(lambda X: -distance_from_the_plane(X))
        assert simulated_anomaly_scorer(opposite, plane) < 0.04

    def test_a_constant_detector(self, plane):
        assert simulated_anomaly_scorer(ByFunction(lambda X: np.zeros(len(X))), plane) == 0.5

    def test_the_mean_of_the_kinds_that_are_asked_for(self, rows):
        forest = IsolationForest(n_estimators=10, random_state=0).fit(rows)
        by_kind = simulated_anomaly_scorer.by_kind(forest, rows)
        assert by_kind.keys() == ROW_KINDS.keys()
        scorer = SimulatedAnomalyScorer(kinds=("uniform", "shifted"))
        assert scorer(forest, rows) == (by_kind["uniform"] + by_kind["shifted"]) / 2

    def test_labels_are_not_looked_at(self, plane):
        detector = ByFunction(distance_from_the_plane)
        with_labels = simulated_anomaly_scorer(detector, plane, np.arange(200))
        assert with_labels == simulated_anomaly_scorer(detector, plane)

    def test_data_frames(self, rows):
        frame = pd.DataFrame(rows[:100], columns=list("abcdef"))
        forest = IsolationForest(n_estimators=5, random_state=0).fit(frame)
        assert 0.4 < simulated_anomaly_scorer(forest, frame) <= 1

    def test_pickles_and_compares(self):
        scorer = SimulatedAnomalyScorer(kinds=("uniform",), random_state=3)
        assert pickle.loads(pickle.dumps(scorer)) == scorer

    def test_it_prefers_what_learned_something(self, Detector, make, rows):
        search = GridSearchCV(
            make_pipeline(StandardScaler(), make(Detector, latent_dim=2, epochs=30)),
            {f"{Detector.__name__.lower()}__learning_rate": [1e-9, 3e-3]},
            scoring=simulated_anomaly_scorer,
            cv=2,
            error_score="raise",
        ).fit(rows[:200])
        scores = search.cv_results_["mean_test_score"]
        assert scores[1] > scores[0]

    def test_images_and_images_in_rows(self, images, tiny_convnet):
        detector = GANomalyDetector(
            epochs=2, n_estimators=1, latent_dim=4, architecture=tiny_convnet, random_state=0
        ).fit(images[:60])
        score = simulated_anomaly_scorer(detector, images[60:])
        assert simulated_anomaly_scorer.by_kind(detector, images[60:]).keys() == IMAGE_KINDS.keys()
        flat = images.reshape(150, -1)
        detector.set_params(image_shape=(9, 13, 3)).fit(flat[:60])
        in_rows = SimulatedAnomalyScorer(image_shape=(9, 13, 3))(detector, flat[60:])
        assert in_rows == pytest.approx(score, abs=1e-6)


def test_the_scorer_has_a_name_for_learning_curves():
    assert SimulatedAnomalyScorer(("uniform",)).__name__ == "simulated_anomaly_roc_auc"


def test_times_are_no_numbers():
    X = np.arange(4).astype("datetime64[D]").reshape(4, 1)
    with pytest.raises(TypeError):
        simulate_anomalies(X, "shifted")


class TestTables:
    """Tables with words, dates and gaps."""

    @pytest.fixture
    def table(self):
        rng = np.random.default_rng(0)
        n = 120
        country = rng.choice(["DE", "FR", "IT"], n)
        mean = pd.Series(country).map({"DE": 10.0, "FR": 100.0, "IT": 1000.0}).to_numpy()
        hours = pd.to_timedelta(rng.integers(0, 2000, n), unit="h")
        return pd.DataFrame(
            {
                "country": country,
                "amount": mean * rng.lognormal(0, 0.1, n),
                "age": np.where(rng.random(n) < 0.2, np.nan, rng.integers(18, 80, n)),
                "when": pd.Timestamp("2026-01-01") + hours,
                "note": [None] * n,
            }
        )

    @pytest.mark.parametrize("kind", ROW_KINDS)
    def test_anomalies_are_a_table_of_the_same_kind(self, table, kind):
        made = simulate_anomalies(table, kind, random_state=1)
        assert [*made] == [*table]
        assert made["when"].dtype.kind == "M"
        assert set(made["country"]) <= {"DE", "FR", "IT"}
        assert made["note"].isna().all()
        differs = (made != table) & ~(made.isna() & table.isna())
        assert differs.any(axis=1).mean() > 0.9
        if kind == "permuted":
            for name in ("country", "amount", "age", "when"):
                assert set(made[name].dropna()) <= set(table[name].dropna())
        else:
            assert (made["age"].isna() == table["age"].isna()).all()
        if kind == "shifted":
            moved = (made["amount"] - table["amount"]).abs()[differs["amount"]]
            steps = moved / table["amount"].std(ddof=0)
            assert steps.between(2, 4).all()
            is_moved = differs["when"]
            days = (made["when"] - table["when"]).abs()[is_moved] / table["when"].std(ddof=0)
            assert days.between(1.99, 4.01).all()
        if kind == "uniform":
            assert made["amount"].between(table["amount"].min(), table["amount"].max()).all()
        again = simulate_anomalies(table, kind, random_state=1)
        pd.testing.assert_frame_equal(made, again)

    @pytest.mark.parametrize("package", ["polars", "pyarrow"])
    def test_other_packages_get_their_own(self, table, package):
        library = pytest.importorskip(package)
        known = table.drop(columns="note")
        X = library.from_pandas(known) if package == "polars" else library.Table.from_pandas(known)
        assert type(simulate_anomalies(X, "shifted")) is type(X)

    def test_a_search(self, table, make):
        detector = make(BiGANDetector)
        search = GridSearchCV(
            detector, {"latent_dim": [2, 3]}, scoring=simulated_anomaly_scorer, cv=2
        )
        found = search.fit(table).cv_results_["mean_test_score"]
        assert ((found > 0.4) & (found <= 1)).all()
        by_kind = simulated_anomaly_scorer.by_kind(search.best_estimator_, table)
        assert set(by_kind) == set(ROW_KINDS)

    def test_one_row(self, table):
        with pytest.raises(ValueError, match="at least 2"):
            simulate_anomalies(table[:1], "permuted")
