import numpy as np
import pytest
from sklearn.ensemble import IsolationForest

from gandetect import GANomalyDetector, detectors
from gandetect.demo.methods import Baseline, KNearestNeighbors, make_methods, select_detectors
from gandetect.demo.tasks import Task


def task_of(X, epochs=3):
    return Task(
        name="a task",
        what_is_normal="all is",
        X_train=X,
        X_mixed=X,
        outlier_perc=10.0,
        X_test=X,
        y_test=np.zeros(len(X), dtype=np.int64),
        epochs=epochs,
    )


def test_every_registered_detector_is_selected():
    assert select_detectors() == {name: getattr(detectors, name) for name in detectors.__all__}


def test_a_detector_that_is_registered_later_is_picked_up(monkeypatch):
    class NewDetector(GANomalyDetector):
        """A detector."""

    monkeypatch.setattr(detectors, "NewDetector", NewDetector, raising=False)
    monkeypatch.setattr(detectors, "__all__", [*detectors.__all__, "NewDetector"])
    assert select_detectors()["NewDetector"] is NewDetector
    assert "NewDetector" in make_methods(task_of(np.zeros((5, 2))), select_detectors(), 0)


def test_what_is_no_detector_is_left_out(monkeypatch):
    monkeypatch.setattr(detectors, "Frozen", np.ndarray, raising=False)
    monkeypatch.setattr(detectors, "__all__", [*detectors.__all__, "Frozen"])
    assert "Frozen" not in select_detectors()


@pytest.mark.parametrize("name", ["GANomaly", "GANomalyDetector", "ganomaly", "ga-nomaly_detector"])
def test_names_in_any_spelling(name):
    assert select_detectors([name]) == {"GANomalyDetector": GANomalyDetector}


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"no detector 'Gnomaly'; choose from .*GANomalyDetector"):
        select_detectors(["GANomaly", "Gnomaly"])


def test_detectors_run_at_their_defaults_but_for_the_epochs():
    methods = make_methods(task_of(np.zeros((5, 2)), epochs=7), select_detectors(["GANomaly"]), 3)
    expected = GANomalyDetector(epochs=7, random_state=3).get_params()
    assert methods["GANomalyDetector"].get_params() == expected
    assert list(methods)[1:] == ["IsolationForest", "k-nearest neighbours"]


def test_parameters_go_to_our_detectors():
    parameters = {"epochs": 2, "latent_dim": 3}
    methods = make_methods(task_of(np.zeros((5, 2))), select_detectors(["GANomaly"]), 3, parameters)
    expected = GANomalyDetector(epochs=2, latent_dim=3, random_state=3).get_params()
    assert methods["GANomalyDetector"].get_params() == expected


def test_the_distance_to_the_nearest_neighbours():
    neighbors = KNearestNeighbors(n_neighbors=2).fit([[0.0], [1.0], [5.0]])
    np.testing.assert_allclose(neighbors.score_samples([[0.0], [7.0]]), [-0.5, -4.0])


def test_neighbours_of_rows_are_standardised_and_those_of_images_are_not():
    rows = np.array([[0.0, 0.0], [1.0, 1000.0], [2.0, 2000.0], [1.0, 1000.0], [0.0, 0.0]])
    images = rows.reshape(5, 1, 2)
    scores = []
    for X in (rows, images):
        method = make_methods(task_of(X), {}, 0)["k-nearest neighbours"].fit(X)
        # Off by one spread in the column of small values, then in the column of large ones.
        off = X[[1, 1]] + np.reshape([[0.75, 0], [0, 750]], (2, *X.shape[1:]))
        scores.append(method.anomaly_score(off))
    assert scores[0][0] == pytest.approx(scores[0][1])
    assert scores[1][1] > scores[1][0] + 1


def test_a_baseline_flags_what_lies_above_its_threshold():
    X = np.random.default_rng(0).normal(size=(100, 2, 2))
    baseline = Baseline(IsolationForest(random_state=0)).fit(X)
    baseline.infer_threshold(X, outlier_perc=7)
    predictions = baseline.predict(X)
    assert np.sum(predictions == -1) == 7
    flagged = baseline.anomaly_score(X)[predictions == -1]
    assert flagged.min() > baseline.anomaly_score(X)[predictions == 1].max()
    far = np.full((1, 2, 2), 9.0)
    assert baseline.predict(far).tolist() == [-1]
