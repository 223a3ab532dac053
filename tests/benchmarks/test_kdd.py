"""KDD Cup 1999: what a run measures, and the table."""

import json

import kdd
import numpy as np
import pytest
from sklearn.utils import Bunch


class FirstColumn:
    """Scores by the first column, smaller for anomalies."""

    def fit(self, X):
        self.n_train = len(X)

    def score_samples(self, X):
        return -X[:, 0]


@pytest.fixture
def known_scores(monkeypatch):
    """Attacks are the normal class; a tenth of the other class looks like them."""
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], [800, 200])
    X = np.c_[y * 10.0, rng.normal(size=1000)]
    X[800:820, 0] = -1
    monkeypatch.setattr(kdd, "_load", lambda _: Bunch(data=X, target=y))
    monkeypatch.setattr(kdd, "make_detector", lambda *_, **__: FirstColumn())


def test_figures_by_hand(known_scores, tmp_path):
    run = kdd.KddRun(name="kddcup99", detector="knn", params="{}", max_train=300, seed=0, threads=1)
    [run] = kdd.measure(run, tmp_path)
    assert (run.n_train, run.prevalence) == (300, pytest.approx(0.2, abs=0.001))
    # Only those that stand out exceed the threshold; those that look normal are missed.
    assert run.precision == 1
    assert run.recall == pytest.approx(0.9, abs=0.05)
    assert run.f1 == pytest.approx(2 * run.recall / (1 + run.recall), abs=1e-3)


def test_table_has_the_published_figures_and_a_spread(known_scores, tmp_path, capsys):
    arguments = ["--data", str(tmp_path), "--detectors", "knn", "--seeds", "0,1"]
    arguments += ["--max-train", "300", "--out", str(tmp_path / "kdd.csv")]
    assert kdd.main(arguments) == 0
    table = capsys.readouterr().out
    assert "| EGBAD, published |  |  | 0.920 | 0.958 | 0.937 |" in table
    assert f"| knn | {json.dumps({})} | 300 | 1.000 ± 0.000 |" in table
