"""Many fits and large arrays over Dask or Ray, and how little a detector weighs on the way."""

import pickle

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import GridSearchCV

import gandetect.dask
from gandetect import GANomalyDetector
from gandetect.metrics import roc_auc_scorer
from tests.helpers import one_detector

array = pytest.importorskip("dask.array")
distributed = pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def fitted(rows):
    return GANomalyDetector(epochs=1, n_estimators=1, random_state=0).fit(rows[:100])


@pytest.mark.parametrize("chunks", [(100, 6), (700, 3), (1100, 6)])
def test_arrays(fitted, rows, chunks):
    X = array.from_array(rows, chunks=chunks)
    scores = gandetect.dask.score_samples(fitted, X)
    labels = gandetect.dask.predict(fitted, X)
    assert (scores.shape, scores.dtype) == ((1100,), np.float64)
    assert len(scores.chunks[0]) == -(-1100 // chunks[0])
    np.testing.assert_allclose(
        scores.compute(scheduler="synchronous"), fitted.score_samples(rows), rtol=1e-5, atol=1e-5
    )
    np.testing.assert_array_equal(labels.compute(scheduler="synchronous"), fitted.predict(rows))


def test_known_anomalies(rows):
    X, y = rows[:100], np.arange(100) >= 95
    detector = GANomalyDetector(labels="learn", epochs=1, n_estimators=1, random_state=0).fit(X, y)
    blocks = array.from_array(rows, chunks=(300, 6))
    found = gandetect.dask.score_samples(detector, blocks).compute(scheduler="synchronous")
    np.testing.assert_allclose(found, detector.score_samples(rows), rtol=1e-5, atol=1e-5)


def test_images(images, tiny_convnet):
    detector = GANomalyDetector(epochs=1, n_estimators=1, architecture=tiny_convnet, random_state=0)
    detector.fit(images[:20])
    X = array.from_array(images[:40], chunks=(15, 9, 5, 3))
    found = gandetect.dask.score_samples(detector, X).compute(scheduler="synchronous")
    np.testing.assert_allclose(found, detector.score_samples(images[:40]), rtol=1e-5, atol=1e-5)


def test_dataframes(rows):
    dataframe = pytest.importorskip("dask.dataframe")
    frame = pd.DataFrame(rows[:100], columns=list("abcdef"), index=range(500, 600))
    detector = GANomalyDetector(epochs=1, n_estimators=1, random_state=0).fit(frame)
    X = dataframe.from_pandas(frame, npartitions=3)
    found = gandetect.dask.score_samples(detector, X).compute(scheduler="synchronous")
    np.testing.assert_allclose(found, detector.score_samples(frame), rtol=1e-5, atol=1e-5)
    assert list(found.index) == list(frame.index)


def test_something_else(fitted, rows):
    with pytest.raises(TypeError, match="dask array or dataframe"):
        gandetect.dask.score_samples(fitted, rows)


class TestWeight:
    def test_unfitted(self):
        assert len(pickle.dumps(GANomalyDetector())) < 2_000

    @one_detector
    def test_fitted_is_weights_and_references_and_little_else(self, Detector, make, rows):
        detector = make(Detector, epochs=1).fit(rows)
        tensors = [*detector.networks_.state_dict().values()]
        for neighbours in detector.neighbours_.values():
            tensors += [neighbours.points, neighbours.spreads]
        n_bytes = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        assert len(pickle.dumps(detector)) < n_bytes + 30_000

    def test_samples_do_not_travel(self, rows):
        """Sixteen times the samples, with no references kept of them, weigh the same."""
        parameters = {"epochs": 1, "n_estimators": 1, "score": "reconstruction", "random_state": 0}
        few, many = (
            len(pickle.dumps(GANomalyDetector(**parameters).fit(np.tile(rows, (n, 1)))))
            for n in (1, 16)
        )
        assert abs(many - few) < 200


@pytest.fixture(scope="module")
def cluster():
    """Two workers in processes of their own."""
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, protocol="tcp"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.fixture
def ray_cluster():
    """Two workers of Ray, where its extra is installed."""
    ray = pytest.importorskip("ray")
    from ray.util.joblib import register_ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    register_ray()
    yield
    ray.shutdown()


@pytest.mark.filterwarnings("default")  # what the clusters warn of is theirs
@pytest.mark.parametrize(("backend", "workers"), [("dask", "cluster"), ("ray", "ray_cluster")])
def test_grid_search_on_a_cluster(request, backend, workers, rows):
    request.getfixturevalue(workers)
    y = np.arange(200) % 10 == 0
    X = rows[:200] + 5 * y[:, None]
    search = GridSearchCV(
        GANomalyDetector(epochs=2, n_estimators=1, random_state=0),
        {"latent_dim": [1, 2]},
        scoring=roc_auc_scorer,
        cv=2,
        error_score="raise",
    )
    here = search.fit(X, y).cv_results_["mean_test_score"]
    with joblib.parallel_backend(backend):
        there = search.fit(X, y).cv_results_["mean_test_score"]
    np.testing.assert_array_equal(here, there)
