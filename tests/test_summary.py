import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import NotFittedError

from gandetect import GANomalyDetector, load
from gandetect.summary import Summary
from gandetect.versions import VERSIONS

OLD = Path(__file__).parent / "files" / "format_1"


@pytest.fixture(scope="module")
def rows():
    return np.random.default_rng(0).normal(size=(80, 3))


@pytest.fixture
def detector(rows):
    y = np.repeat([0, 1], [70, 10])
    return GANomalyDetector(
        epochs=2, n_estimators=2, labels="exclude", validation_fraction=0.2, random_state=0
    ).fit(rows, y)


def test_what_it_was_fitted_to(detector):
    facts = detector.summary()
    fitted_to = facts["fitted_to"]
    assert (fitted_to["samples"], fitted_to["kept_for_validation"]) == (56, 14)
    assert fitted_to["left_out_by_labels"] == 10
    assert (fitted_to["kind"], fitted_to["sample_shape"]) == ("rows", [3])
    assert facts["versions"] == {"fitted_with": VERSIONS, "here": VERSIONS}


def test_parameters_networks_and_training(detector):
    facts = detector.set_params(epochs=99).summary()
    assert facts["parameters"]["epochs"] == 2  # as the fit used them
    assert facts["parameters"]["latent_dim"] == 2
    assert facts["parameters"]["architecture"].startswith("MLP(")
    n_weights = sum(p.numel() for p in detector.networks_.parameters())
    assert sum(facts["networks"]["weights"].values()) == n_weights
    training = facts["training"]
    assert (training["epochs"], training["stop_reason"]) == (2, "all epochs done")
    assert training["last_losses"]["latent"] == detector.history_[-1]["latent"]
    assert training["problems"] == detector.training_report_.problems
    assert training["diagnostics"]["weight_growth"] == detector.training_report_.weight_growth


def test_where_the_threshold_comes_from(detector, rows):
    assert detector.summary()["threshold"] == {
        "value": detector.threshold_,
        "rule": "contamination",
        "contamination": 0.1,
        "samples": "validation",
        "n_samples": 14,
    }
    detector.infer_threshold(rows, outlier_perc=5)
    assert detector.summary()["threshold"] == {
        "value": detector.threshold_,
        "rule": "infer_threshold",
        "outlier_perc": 5.0,
        "n_samples": 80,
    }
    detector.threshold_ = 3
    assert detector.summary()["threshold"] == {"value": 3.0, "rule": "set by hand"}


def test_p_values(detector, rows):
    assert detector.summary()["p_values"] == {"samples": 14}
    detector.calibrate_p_values(rows)
    assert detector.summary()["p_values"] == {"samples": 80}
    assert GANomalyDetector(epochs=1, random_state=0).fit(rows).summary()["p_values"] is None


def test_how_each_column_of_a_table_is_read(rows):
    X = pd.DataFrame(rows.copy(), columns=["a", "b", "c"])
    X["word"] = np.where(rows[:, 0] > 0, "x", "y")
    X.loc[:7, "a"] = None
    facts = GANomalyDetector(epochs=1, n_estimators=1, random_state=0).fit(X).summary()
    columns = {column["column"]: column for column in facts["fitted_to"]["columns"]}
    assert facts["fitted_to"]["kind"] == "table"
    assert columns["a"]["gaps"] == 0.1
    assert (columns["word"]["kind"], columns["word"]["values"]) == ("category", 2)
    (line,) = [line for line in str(facts).splitlines() if line.split()[0] == "word"]
    assert line.split()[1] == "category"


def test_a_saved_detector_says_the_same(detector, tmp_path):
    detector.save(tmp_path / "model")
    assert load(tmp_path / "model").summary() == detector.summary()


def test_json_and_text_hold_the_same_facts(detector):
    facts = detector.summary()
    assert json.loads(json.dumps(facts)) == facts
    text = repr(facts)
    assert text == str(facts)
    for name in facts["parameters"]:
        assert f"  {name}: " in text
    assert f"value: {detector.threshold_:.5g}" in text
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize("path", sorted(OLD.glob("*.safetensors")), ids=lambda path: path.stem)
def test_files_of_earlier_versions_say_what_they_know(path):
    facts = load(path).summary()
    assert facts["fitted_to"]["samples"] is None
    assert facts["versions"]["fitted_with"] is None
    assert "samples: -" in str(facts)
    json.dumps(facts)


def test_values_that_are_no_data_are_told_shortly(rows):
    class Words:
        def __repr__(self):
            return "word " * 500

    detector = GANomalyDetector(epochs=1, n_estimators=1, random_state=0).fit(rows)
    vars(detector.model_.settings)["architecture"] = Words()
    assert len(detector.summary()["parameters"]["architecture"]) <= 300


def test_before_fit():
    with pytest.raises(NotFittedError):
        GANomalyDetector().summary()


def test_a_summary_is_a_dict():
    assert Summary(a=1) == {"a": 1}
    assert repr(Summary(a={"b": [1.5, None]}, c={}, d=[])) == "a:\n  b: 1.5, -\nc: none\nd: none"
