"""The published figures beside ours: one row a fit, and a table of them."""

from dataclasses import asdict, replace

import numpy as np
import published
import pytest
from protocols import Split
from results_file import Results

from gandetect import ConvNet

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
    for settings in published.SETTINGS:
        run = published.PublishedRun(
            name=NAME, detector="GANomaly", settings=settings, seed=0, n_train=30
        )
        (row,) = published.measure(run, split)
        assert row.n_epochs == 2
        assert 0 <= row.auroc <= 1
        assert row.f1 >= 0.8  # what calling everything an inlier has, with 30 % outliers
        results.add(asdict(row))
    table = published.report(path)
    assert NAME in table
    assert "0.920" in table


def test_the_published_settings_can_be_built():
    for experiment in published.EXPERIMENTS.values():
        detector = published.our_detectors()[experiment.detector](**experiment.parameters)
        detector.check_parameters()


def test_an_unknown_experiment_is_refused(tmp_path, capsys):
    out = str(tmp_path / "x.csv")
    with pytest.raises(SystemExit):
        published.main(["--data", str(tmp_path), "--out", out, "--experiments", "AnoGAN"])
    assert "ALOCC MNIST 1 normal" in capsys.readouterr().err
