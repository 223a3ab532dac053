import json

import pytest

from gandetect.cli.benchmark import _of_each
from gandetect.cli.options import detector_class, detector_names

TINY = ("--set", "epochs=1", "--set", "n_estimators=1")


@pytest.fixture
def data(data_dir):
    return ("--data", "adbench:toy", "--data-dir", data_dir)


def test_means_over_seeds(run, data):
    code, out, err = run(
        "benchmark", "bigan,ganomaly", *data, *TINY, "--seeds", "2", "--format", "json"
    )
    assert code == 0
    lines = json.loads(out)
    assert [line["method"] for line in lines] == [
        "BiGANDetector",
        "GANomalyDetector",
        "IsolationForest",
        "k-nearest neighbours",
    ]
    assert lines[0]["seeds"] == 2
    # The anomalies lie twenty spreads off.
    assert [line["roc_auc"] for line in lines[2:]] == [1.0, 1.0]
    assert [line["roc_auc_sd"] for line in lines[2:]] == [0.0, 0.0]
    assert "[8/8] seed 1: k-nearest neighbours ... done" in err


def test_every_run(run, data):
    more = ("--seeds", "2", "--seed", "4", "--every-run", "--format", "csv")
    _, out, _ = run("benchmark", "ganomaly", *data, *TINY, *more)
    header, *lines = out.splitlines()
    assert header.startswith("method,seed,roc_auc,")
    assert [line.split(",")[:2] for line in lines] == [
        ["GANomalyDetector", "4"],
        ["IsolationForest", "4"],
        ["k-nearest neighbours", "4"],
        ["GANomalyDetector", "5"],
        ["IsolationForest", "5"],
        ["k-nearest neighbours", "5"],
    ]


def test_a_parameter_of_one_of_the_detectors(run, fails, data):
    more = ("--set", "noise_std=0.1", "--set", "latent_dim=2", "--seeds", "1")
    code, out, _ = run("benchmark", "alocc,ganomaly", *data, *TINY, *more)
    assert (code, "GANomalyDetector" in out) == (0, True)
    detectors = {name: detector_class(name) for name in detector_names("alocc,ganomaly")}
    parameters = _of_each(detectors, {"noise_std": 0.1, "epochs": 1})
    assert parameters == {
        "ALOCCDetector": {"noise_std": 0.1, "epochs": 1},
        "GANomalyDetector": {"epochs": 1},
    }
    code, err = fails("benchmark", "bigan,ganomaly", *data, *TINY, *more)
    assert (code, "no parameter 'noise_std'" in err) == (2, True)


def test_images_of_a_folder(run, image_folder):
    folder = ("--data", image_folder, "--normal-class", "flat", "--seeds", "1", "--n-train", "5")
    small = (*TINY, "--set", "architecture=ConvNet(n_filters=4)")
    code, out, _ = run("benchmark", "ganomaly", *folder, *small)
    assert code == 0
    assert "IsolationForest" in out


def test_mistakes(fails, run, data, table):
    code, err = fails("benchmark", "ganomaly", *data, "--part", "all")
    assert (code, "the training part" in err) == (2, True)
    code, err = fails("benchmark", "ganomaly", *data, "--set", "epoch=1")
    assert (code, "did you mean" in err) == (2, True)
    code, err = fails("benchmark", "ganomaly", "--data", table, "--label-column", "kind")
    assert (code, "--anomalous-class" in err) == (2, True)
