"""The benchmark of attacks: a row for each, none twice, figures counted by hand."""

import adversarial
import numpy as np
import pytest
import torch

SETTINGS = ["--set", "epochs=1", "--set", "n_estimators=1", "--set", "n_samples=1"]


@pytest.fixture
def benchmark(tmp_path, monkeypatch):
    """Run it with an attack that mirrors a sample; return its exit code and its rows."""

    def mirrored(task, *_):
        return np.ascontiguousarray(1 - task.X_test)

    monkeypatch.setattr(adversarial, "attacked", mirrored)
    out = tmp_path / "out.csv"

    def run(*options):
        arguments = ["--tasks", "breast_cancer/LogisticRegression", "--attacks", "FGSM"]
        arguments += ["--seeds", "0", "--n-test", "40", "--kept", tmp_path, "--out", out]
        code = adversarial.main([str(argument) for argument in [*arguments, *options]])
        return code, adversarial.read_rows(out, adversarial.COLUMNS)

    n_threads = torch.get_num_threads()
    yield run
    torch.set_num_threads(n_threads)


def test_a_row_for_each_detector_and_strength(benchmark, capsys):
    code, rows = benchmark(*SETTINGS)
    assert code == 0
    assert {(row["detector"], row["strength"]) for row in rows} == {
        (detector, strength)
        for detector in adversarial.DETECTORS
        for strength in adversarial.STRENGTHS
    }
    for row in rows:
        assert float(row["accuracy_clean"]) > 0.8
        assert 0 < float(row["success_rate"]) < 1
        assert 0 <= float(row["auroc"]) <= 1
        makes_reconstructions = row["detector"] in ("AdversarialVAE", "autoencoder")
        assert bool(row["accuracy_defended"]) == makes_reconstructions
    table = capsys.readouterr().out
    assert "| breast_cancer/LogisticRegression | minimum | knn |" in table
    assert "Published for orientation" in table


def test_a_second_run_adds_only_what_is_missing(benchmark):
    _, first = benchmark("--detectors", "knn")
    _, again = benchmark("--detectors", "knn")
    _, more = benchmark("--detectors", "knn,entropy")
    assert first == again == more[:2]
    assert [row["detector"] for row in more[2:]] == ["entropy"] * 2


def test_an_error_does_not_stop_it_and_is_tried_again(benchmark):
    code, rows = benchmark("--detectors", "AdversarialVAE,knn", "--set", "epochs=0")
    assert code == 1
    assert [bool(row["error"]) for row in rows] == [True, False, False]
    _, more = benchmark("--detectors", "AdversarialVAE", "--set", "epochs=0")
    assert len(more) == 4


class Task:
    """Four samples of one number, the class; a half is where the classifier changes its mind."""

    X_test = np.array([[0.0], [0.1], [0.9], [1.0]], dtype=np.float32)
    X_train, y_train = X_test, np.array([0, 0, 1, 1])
    y_test = y_train

    def labels(self, X):
        return (X[:, 0] > 0.5).astype(int)


class Suspicious:
    """Takes for an attack what lies beyond 1."""

    def anomaly_score(self, X):
        return X[:, 0]


def test_figures(monkeypatch):
    X_attacked = np.array([[2.0], [0.7], [0.9], [3.0]], dtype=np.float32)
    monkeypatch.setattr(
        adversarial, "defended_labels", lambda detector, task, X: np.array([0, 0, 0, 1])
    )
    row = adversarial.Row(
        task="t",
        attack="a",
        strength="minimum",
        detector="d",
        label="",
        params="{}",
        seed=0,
        n_train=4,
        n_test=4,
        threads=1,
    )
    adversarial.measure(row, Task(), Suspicious(), X_attacked)
    # The first two fool. The threshold is what 0.0 and 0.9 say of 5 %, 1.75; the clean half that
    # stands against them is 0.1 and 1.0. Flagged are 2.0 and 3.0.
    assert (row.accuracy_clean, row.accuracy_attacked, row.success_rate) == (1.0, 0.5, 0.5)
    assert (row.detection_rate, row.false_alarm_rate) == (0.5, 0.0)
    assert row.auroc == 0.75
    assert row.accuracy_defended == 0.75
    assert row.accuracy_corrected in (0.5, 0.75)


def test_what_cannot_be_asked_for(benchmark, capsys):
    for options in (["--attacks", "FSGM"], ["--tasks", "mnist/cnn"], ["--detectors", "vae"]):
        with pytest.raises(SystemExit):
            benchmark(*options)
    assert "needs --data" in capsys.readouterr().err
