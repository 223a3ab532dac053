"""Planted cells: what is moved, and what is counted."""

import numpy as np
import planted_cells
import pytest
from protocols import Split


def test_one_to_three_cells_move_by_three_to_five_deviations():
    X = np.random.default_rng(0).normal(size=(300, 6))
    deviations = np.array([1.0, 2.0, 0.0, 10.0, 0.1, 1.0])
    moved, planted = planted_cells.plant(X, deviations, seed=0)
    assert set(planted.sum(axis=1)) == {1, 2, 3}
    assert not planted[:, 2].any()
    np.testing.assert_array_equal(moved[~planted], X[~planted])
    steps = (np.abs(moved - X) / np.where(deviations, deviations, 1))[planted]
    assert 3 <= steps.min() < 3.2
    assert 4.8 < steps.max() <= 5


class OneColumn:
    """Catches rows by their first column, and blames the second."""

    def fit(self, X):
        return self

    def infer_threshold(self, X, outlier_perc):
        self.threshold_ = np.percentile(X[:, 0], 100 - outlier_perc)

    def predict(self, X):
        return np.where(X[:, 0] > self.threshold_, -1, 1)

    def anomaly_map(self, X):
        return np.tile([0.0, 1.0, 0.0], (len(X), 1))


@pytest.fixture
def one_set(monkeypatch):
    X = np.random.default_rng(0).normal(size=(400, 3))
    split = Split(X[:200], X[200:], np.zeros(200, dtype=int))
    monkeypatch.setattr(planted_cells, "load_split", lambda *_: split)
    return split


def test_only_caught_rows_count(monkeypatch, one_set, tmp_path):
    monkeypatch.setattr(planted_cells, "make_detector", lambda *_, **__: OneColumn())
    run = planted_cells.PlantedRun(name="a", detector="RDNA", params="{}", seed=0)
    [run] = planted_cells.measure(run, tmp_path)
    moved, planted = planted_cells.plant(one_set.X_test, one_set.X_train.std(axis=0), 0)
    is_caught = moved[:, 0] > np.percentile(one_set.X_test[:, 0], 95)
    assert run.caught == pytest.approx(is_caught.mean(), abs=1e-4)
    assert run.ranked_first == pytest.approx(planted[is_caught, 1].mean(), abs=1e-4)
    assert run.by_chance == pytest.approx(2 / 3, abs=0.05)


def test_a_run_that_is_there_is_not_run_again(one_set, tmp_path, capsys):
    arguments = ["--data", str(tmp_path), "--sets", "6_cardio", "--seeds", "0,1"]
    arguments += ["--set", "epochs=1", "--set", "n_estimators=1", "--out", str(tmp_path / "o.csv")]
    assert planted_cells.main(arguments) == 0
    first = capsys.readouterr().out
    assert "6_cardio RDNA" in first
    assert first.count("done") == 2
    planted_cells.main(arguments)
    again = capsys.readouterr().out
    assert "done" not in again
    assert first.endswith(again)
