from dataclasses import replace

import numpy as np
import pytest
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score

from gandetect import GANomalyDetector, detectors
from gandetect.demo.methods import Baseline, KNearestNeighbors, make_methods, select_detectors
from gandetect.demo.tasks import Task, table_as_it_comes


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


def test_baselines_take_a_table_with_words_and_gaps():
    task = table_as_it_comes(0)
    for name, method in make_methods(task, {}, 0).items():
        method.fit(task.X_train).infer_threshold(task.X_mixed, task.outlier_perc)
        scores = method.anomaly_score(task.X_test)
        assert roc_auc_score(task.y_test, scores) > 0.85, name
        assert (method.predict(task.X_test) == -1).mean() < 0.5


def test_a_task_has_parameters_of_its_own_for_a_detector():
    task = replace(task_of(np.zeros((5, 2))), parameters={"GANomalyDetector": {"epochs": 9}})
    classes = select_detectors(["GANomaly", "BiGAN"])
    methods = make_methods(task, classes, 0)
    assert (methods["GANomalyDetector"].epochs, methods["BiGANDetector"].epochs) == (9, 3)
    methods = make_methods(task, classes, 0, {"epochs": 1})
    assert (methods["GANomalyDetector"].epochs, methods["BiGANDetector"].epochs) == (1, 1)


def test_a_task_may_be_for_some_detectors():
    task = replace(task_of(np.zeros((5, 2))), detectors=("BiGANDetector",))
    methods = make_methods(task, select_detectors(), 0)
    assert list(methods) == ["BiGANDetector", "IsolationForest", "k-nearest neighbours"]


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
