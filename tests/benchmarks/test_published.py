"""The published figures beside ours: one row a fit, and a table of them."""

import pickle
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import published
import pytest
from protocols import Split
from results_file import Results
from sklearn.metrics import average_precision_score

from gandetect import ConvNet
from gandetect.datasets.cifar10 import CIFAR10_CLASSES

SMALL = {"epochs": 2, "n_estimators": 1, "architecture": ConvNet(n_filters=4)}
NAME = "GANomaly MNIST 2 anomalous"


@pytest.fixture
def small(monkeypatch):
    """One experiment, with settings that take no time."""
    experiment = replace(
        published.EXPERIMENTS[NAME],
        parameters={**SMALL, "score": "paper"},
        default_parameters=SMALL,
    )
    monkeypatch.setitem(published.EXPERIMENTS, NAME, experiment)


@pytest.mark.usefixtures("small")
def test_a_row_and_the_table(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 50, size=(80, 8, 8)).astype(np.uint8)
    images[60:, :, 3:5] += 200
    split = Split(images[:40], images[40:], np.repeat([0, 1], 20))
    path = tmp_path / "published.csv"
    results = Results(path, published.PublishedRun.columns(), published.PublishedRun.KEY)
    for seed in (0, 1):
        run = published.PublishedRun(
            name=NAME, detector="GANomaly", settings="published", seed=seed, n_train=1000
        )
        (row,) = published.measure(run, split)
        assert row.n_epochs == 2
        assert 0 <= row.auroc <= 1
        assert row.f1 >= 0.8  # what calling everything an inlier has, with 30 % outliers
        results.add(asdict(row))
    table = published.report(path)
    (line,) = [line for line in table.splitlines() if "MNIST, 2 anomalous | AUROC" in line]
    assert line.startswith("| GANomaly | MNIST, 2 anomalous | AUROC | 0.920 | ")
    assert "±" in line
    assert "not measured" in table  # the other files are not beside this one
    own = published.report(path, "GANomaly")
    assert "| MNIST, 2 anomalous |" in own and "BiGAN" not in own


def test_precision_at_another_prevalence():
    rng = np.random.default_rng(0)
    y, scores = np.repeat([0, 1], [300, 300]), rng.normal(size=600)
    scores[y == 1] += 1
    found = published.precision_at_prevalence(y, scores, 0.5)
    assert found == pytest.approx(average_precision_score(y, scores))
    # Three of each anomaly are three quarters of the samples.
    many = np.r_[np.arange(300), np.repeat(np.arange(300, 600), 3)]
    expected = average_precision_score(y[many], scores[many])
    assert published.precision_at_prevalence(y, scores, 0.75) == pytest.approx(expected)
    assert published.precision_at_prevalence(y, rng.normal(size=600), 0.36) < 0.45


def test_the_published_settings_can_be_built():
    for experiment in published.EXPERIMENTS.values():
        detector = published.our_detectors()[experiment.detector](**experiment.parameters)
        detector.check_parameters()


def test_what_the_table_quotes_is_in_the_files_beside_it():
    folder = Path(published.__file__).parent / "results"
    for line in published.LINES:
        if line.default is not None and line.default.file != "published":
            assert line.default.cell(folder), line.task


def test_cifar_is_read_from_a_folder(tmp_path, monkeypatch):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
        labels = np.arange(40) % 10
        pixels = np.broadcast_to(labels[:, None], (40, 3072)).astype(np.uint8)
        batch = {b"data": pixels, b"labels": labels.tolist()}
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
    monkeypatch.setattr(published, "N_TRAIN_IMAGES", 100)
    monkeypatch.setattr(published, "N_TEST_IMAGES", 20)
    experiment = published.EXPERIMENTS["GANomaly CIFAR-10 bird anomalous"]
    split = published.split_of(experiment, tmp_path, 0)
    bird = CIFAR10_CLASSES.index("bird")
    assert split.X_train.shape == (100, 32, 32, 3)
    assert not (split.X_train[:, 0, 0, 0] == bird).any()
    assert ((split.X_test[:, 0, 0, 0] == bird) == split.y_test).all()
    assert split.y_test.sum() == 20


def test_an_unknown_experiment_is_refused(tmp_path, capsys):
    out = str(tmp_path / "x.csv")
    with pytest.raises(SystemExit):
        published.main(["--data", str(tmp_path), "--out", out, "--experiments", "AnoGAN"])
    assert "ALOCC MNIST 1 normal" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("n_seeds", "cell"),
    [(1, "0.500 (one seed)"), (2, "0.550 ± 0.071 (two seeds)"), (3, "0.600 ± 0.100")],
)
def test_a_mean_over_few_seeds_says_so(n_seeds, cell, tmp_path):
    rows = [f"a,{seed},,{0.5 + seed / 10}" for seed in range(n_seeds)]
    (tmp_path / "x.csv").write_text("\n".join(["name,seed,error,auroc", *rows]), encoding="utf-8")
    assert published.Rows("x", "auroc", {"name": "a"}).cell(tmp_path) == cell
