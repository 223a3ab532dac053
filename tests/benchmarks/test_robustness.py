"""The benchmark of scores under attack."""

import csv

import numpy as np
import pytest
import robustness


@pytest.fixture
def folder(tmp_path):
    """A data folder with one set of rows, of which a third is anomalous."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(130, 5))
    rows[100:] += 1.5
    (tmp_path / "adbench").mkdir()
    np.savez(tmp_path / "adbench" / "own.npz", X=rows, y=np.repeat([0, 1], [100, 30]))
    return tmp_path


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_rows_are_attacked_in_all_ways_once(folder, monkeypatch, capsys):
    monkeypatch.setattr(robustness, "N_STEPS", 4)
    monkeypatch.setitem(robustness.N_UPDATES, "adbench", 10)
    out = folder / "out.csv"
    arguments = ["--data", str(folder), "--out", str(out), "--tasks", "adbench"]
    arguments += ["--names", "own", "--seeds", "0", "--detectors", "AdversarialVAE,5-NN"]
    assert robustness.main(arguments) == 0
    rows = read(out)
    assert len(rows) == 2 * (1 + 2 * 5)
    table = capsys.readouterr().out
    assert "| adbench own | AdversarialVAE | 1 |" in table and "| adbench own | 5-NN | 1 |" in table
    for detector in ("AdversarialVAE", "5-NN"):
        found = {
            (r["attack"], float(r["eps"])): float(r["auroc"])
            for r in rows
            if r["detector"] == detector
        }
        assert found["worst", 0.1] < found["worst", 0.05] < found["none", 0]
        assert found["worst", 0.1] <= min(found[a, 0.1] for a in ("noise", "transfer", "pgd"))
        assert found["pgd", 0.1] < found["noise", 0.1]
    robustness.main(arguments)
    assert len(read(out)) == len(rows)
    robustness.main([*arguments[:-1], "AdversarialVAE", "--set", "robust=0.1"])
    assert len(read(out)) == len(rows) + 11
    assert "| AdversarialVAE robust=0.1 |" in capsys.readouterr().out


def test_a_guard_and_its_classifier(folder, monkeypatch, capsys):
    monkeypatch.setattr(robustness, "N_STEPS", 5)
    out = folder / "out.csv"
    arguments = ["--out", str(out), "--tasks", "guarded", "--seeds", "0"]
    arguments += ["--names", "breast_cancer/LogisticRegression", "--set", "epochs=2"]
    assert robustness.main(arguments) == 0
    found = {(r["attack"], float(r["eps"])): r for r in read(out)}
    assert float(found["adaptive", 0.1]["evaded"]) >= float(found["pgd", 0.1]["evaded"])
    assert "adaptive 0.1" in capsys.readouterr().out


def test_patches_have_a_gradient(folder):
    images = np.random.default_rng(0).integers(0, 255, size=(20, 8, 8)).astype(np.uint8)
    detector = robustness.NearestPatches().fit(images[:12])
    moved = detector.attacked(images[12:], np.zeros(8), np.asarray(25.5), share=0.2, n_starts=2)
    assert np.abs(moved - images[12:]).max() <= 25.5 + 1e-6
    assert (detector.anomaly_score(moved) > detector.anomaly_score(images[12:])).all()
