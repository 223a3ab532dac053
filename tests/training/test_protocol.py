"""What takes the place of scikit-learn's callback protocol where scikit-learn is older than it."""

import importlib.util

import pytest

from gandetect.training import protocol


@pytest.fixture
def older(monkeypatch):
    """The module as it is where scikit-learn has no callbacks."""
    spec = importlib.util.spec_from_file_location("older_protocol", protocol.__file__)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def estimator(older):
    class Estimator(older.CallbackSupportMixin):
        @older.with_callbacks
        def fit(self, X):
            task = self._init_callback_context(max_subtasks=2)
            task.call_on_fit_task_begin(estimator=self, X=X)
            stopped = []
            for _ in range(2):
                epoch = task.subcontext(task_name="epoch")
                epoch.call_on_fit_task_begin(estimator=self, X=X)
                stopped.append(epoch.call_on_fit_task_end(estimator=self, X=X))
            self.stopped = stopped
            return self

    return Estimator()


def test_a_fit_runs_as_one_without_callbacks(older, estimator):
    assert older.CallbackSupportMixin is not protocol.CallbackSupportMixin
    assert estimator.fit([[0.0]]).stopped == [False, False]


def test_callbacks_are_refused_with_the_version_that_has_them(estimator):
    with pytest.raises(ImportError, match=r"need scikit-learn 1\.9"):
        estimator.set_callbacks(object())


def test_no_callbacks_are_no_mistake(estimator):
    assert estimator.set_callbacks() is estimator
