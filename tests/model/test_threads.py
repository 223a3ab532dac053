"""How many threads torch computes with, and that the process's own number stays."""

import threading

import numpy as np
import pytest
import torch

from gandetect import GANomalyDetector
from gandetect.model import limited_to
from gandetect.networks import ConvNet

ROWS = np.random.default_rng(0).normal(size=(40, 4))
IMAGES = np.random.default_rng(0).random((12, 8, 8))


@pytest.fixture
def two_threads():
    with limited_to(2):
        yield


@pytest.fixture
def counts(monkeypatch):
    found = {"fit": set(), "score": set()}
    model_class = GANomalyDetector.model_class
    step, score = model_class.training_step, model_class.score

    def counting_step(self, x, run):
        found["fit"].add(torch.get_num_threads())
        return step(self, x, run)

    def counting_score(self, x):
        found["score"].add(torch.get_num_threads())
        return score(self, x)

    monkeypatch.setattr(model_class, "training_step", counting_step)
    monkeypatch.setattr(model_class, "score", counting_score)
    return found


def fit(X, **parameters):
    parameters = {"epochs": 1, "random_state": 0, **parameters}
    if X.ndim > 2:
        parameters["architecture"] = ConvNet(n_filters=2)
    return GANomalyDetector(**parameters).fit(X)


@pytest.mark.usefixtures("two_threads")
class TestNumber:
    @pytest.mark.parametrize(("X", "expected"), [(ROWS, 1), (IMAGES, 2)], ids=["rows", "images"])
    def test_of_a_fit_by_default(self, counts, X, expected):
        fit(X)
        assert counts["fit"] == {expected}
        assert torch.get_num_threads() == 2

    @pytest.mark.parametrize("X", [ROWS, IMAGES], ids=["rows", "images"])
    def test_that_is_asked_for(self, counts, X):
        detector = fit(X, n_jobs=3)
        counts["score"].clear()
        detector.anomaly_score(X)
        assert counts == {"fit": {3}, "score": {3}}
        assert torch.get_num_threads() == 2

    def test_set_after_the_fit_counts_for_scores(self, counts):
        detector = fit(ROWS)
        counts["score"].clear()
        detector.set_params(n_jobs=3).predict(ROWS)
        assert counts["score"] == {3}

    def test_is_put_back_after_an_error(self, monkeypatch):
        def failing(self, x, run):
            raise RuntimeError("no")

        monkeypatch.setattr(GANomalyDetector.model_class, "training_step", failing)
        with pytest.raises(RuntimeError, match="no"):
            fit(ROWS)
        assert torch.get_num_threads() == 2

    def test_is_that_of_one_thread_of_python(self):
        inside, done, found = threading.Event(), threading.Event(), []

        def compute():
            with limited_to(1):
                found.append(torch.get_num_threads())
                inside.set()
                done.wait(10)

        other = threading.Thread(target=compute)
        other.start()
        assert inside.wait(10)
        assert torch.get_num_threads() == 2
        done.set()
        other.join()
        assert found == [1]


@pytest.mark.parametrize("n_jobs", [0, 1.5, "all", True])
def test_n_jobs_is_checked(n_jobs):
    with pytest.raises((TypeError, ValueError), match="n_jobs"):
        fit(ROWS, n_jobs=n_jobs)


def test_scores_do_not_depend_on_it():
    alone, both = (fit(ROWS, n_jobs=n_jobs).anomaly_score(ROWS) for n_jobs in (1, 2))
    np.testing.assert_allclose(alone, both, atol=1e-3)


@pytest.mark.parametrize(("n_jobs", "error"), [("2", TypeError), (0.5, TypeError), (0, ValueError)])
def test_a_number_of_threads_that_is_set_after_fit_is_checked(n_jobs, error):
    detector = fit(ROWS).set_params(n_jobs=n_jobs)
    with pytest.raises(error, match="n_jobs"):
        detector.predict(ROWS)
