import json

import numpy as np
import pytest
from PIL import Image

from gandetect.cli.evaluate import judged


def test_the_measures_by_hand():
    is_anomaly = np.array([False, False, False, True, True])
    scores = np.array([1.0, 2.0, 4.0, 3.0, 5.0])
    record = judged(is_anomaly, scores, scores > 2.5)
    assert record == {
        "samples": 5,
        "anomalies": 2,
        # Of 3 x 2 pairs, one has the normal sample above.
        "roc_auc": pytest.approx(5 / 6),
        # The anomalies come first and third: (1 / 1 + 2 / 3) / 2.
        "average_precision": pytest.approx(5 / 6),
        # Three flagged, of which two are anomalies: 2 * (2 / 3) / (2 / 3 + 1).
        "best_f1": pytest.approx(0.8),
        "share_flagged": pytest.approx(0.6),
        "precision": pytest.approx(2 / 3),
        "recall": 1.0,
        "f1": pytest.approx(0.8),
        "false_alarm_rate": pytest.approx(1 / 3),
    }


def test_nothing_flagged():
    record = judged(np.array([True, False]), np.array([2.0, 1.0]), np.array([False, False]))
    assert (record["precision"], record["recall"], record["f1"]) == (0.0, 0.0, 0.0)


def test_a_table_with_labels(run, model, table):
    labels = ("--data", table, "--label-column", "kind", "--anomalous-class", "bad")
    code, out, err = run("evaluate", model, *labels, "--format", "json", "--outlier-perc", "20")
    assert (code, err) == (0, "")
    record = json.loads(out)
    assert (record["samples"], record["anomalies"]) == (60, 10)
    assert record["roc_auc"] == 1.0  # they lie thirty spreads off
    assert record["share_flagged"] == 0.2
    assert record["false_alarm_rate"] == pytest.approx(2 / 50)


def test_the_test_part_of_a_data_set_with_a_name(run, tmp_path, data_dir):
    data = ("--data", "adbench:toy", "--data-dir", data_dir)
    fit = ("fit", "ganomaly", *data, "--set", "epochs=2", "--out", tmp_path / "m")
    assert run(*fit)[0] == 0
    _, out, _ = run("evaluate", tmp_path / "m", *data, "--format", "json")
    record = json.loads(out)
    # 45 normal rows: 22 to train on, 23 to test.
    assert (record["samples"], record["anomalies"]) == (38, 15)


def test_masks_judge_the_maps(run, image_model, tmp_path):
    for name in ("train/good/0", "test/good/0", "test/spot/0", "ground_truth/spot/0_mask"):
        image = np.full((8, 8), 0 if "mask" in name else 100, dtype=np.uint8)
        if "spot" in name:
            image[2:5, 2:5] = 255
        path = tmp_path / "mvtec" / "nut" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    data = ("--data", "mvtec:nut", "--data-dir", tmp_path)
    code, out, err = run("evaluate", image_model, *data, "--format", "json")
    assert (code, err) == (0, "")
    record = json.loads(out)
    assert record["pixel_roc_auc"] > 0.9
    assert {"pixel_average_precision", "per_region_overlap"} <= set(record)


@pytest.fixture
def threats(run, tmp_path):
    """A model of two normal classes, and rows of these and of two kinds of anomaly."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(90, 3))
    y = np.repeat(["bag", "shoe", "gun", "knife"], [30, 30, 15, 15])
    X[60:75] += 20  # guns lie far off, knives do not
    np.savez(tmp_path / "x.npz", X=X, y=y)
    data = ("--data", tmp_path / "x.npz")
    fit = ("fit", "ganomaly", *data, "--normal-class", "bag,shoe", "--out", tmp_path / "m")
    assert run(*fit, "--set", "epochs=3")[0] == 0
    return (tmp_path / "m", *data)


def test_one_threat_beside_the_same_normal_samples(run, fails, threats):
    records = {}
    for threat in ("gun", "knife", "gun,knife"):
        classes = ("--normal-class", "bag,shoe", "--anomalous-class", threat)
        code, out, err = run("evaluate", *threats, *classes, "--format", "json")
        assert (code, err) == (0, "")
        records[threat] = json.loads(out)
    assert [records[name]["samples"] for name in records] == [75, 75, 90]
    assert records["gun"]["roc_auc"] == 1.0
    assert records["knife"]["roc_auc"] < 0.9
    both = (records["gun"]["roc_auc"] + records["knife"]["roc_auc"]) / 2
    assert records["gun,knife"]["roc_auc"] == pytest.approx(both)
    assert records["gun"]["false_alarm_rate"] == records["knife"]["false_alarm_rate"]
    code, err = fails("evaluate", *threats, "--normal-class", "bag", "--anomalous-class", "bag")
    assert (code, "both name bag" in err) == (2, True)
    classes = ("--normal-class", "bag", "--anomalous-class", "gun", "--part", "test")
    code, err = fails("evaluate", *threats, *classes, "--outlier-fraction", "0.2")
    assert (code, "--outlier-fraction" in err) == (2, True)


def test_the_split_is_that_of_the_fit_to_the_normal_classes(run, tmp_path, data_dir):
    data = ("--data", "mnist", "--data-dir", data_dir, "--normal-class", "0,1", "--format", "json")
    small = ("--set", "epochs=1", "--set", "architecture=ConvNet(n_filters=2)")
    fit = json.loads(run("fit", "ganomaly", *data, *small, "--out", tmp_path / "m")[1])
    records = [
        json.loads(run("evaluate", tmp_path / "m", *data, *more)[1])
        for more in ((), ("--anomalous-class", "2"))
    ]
    assert fit["samples"] == 32
    assert [record["samples"] for record in records] == [8 + 40, 8 + 20]
    assert records[0]["false_alarm_rate"] == records[1]["false_alarm_rate"]


def test_the_time_of_a_sample(run, model, image_model, table, image_folder):
    for data in (
        (model, "--data", table, "--label-column", "kind", "--anomalous-class", "bad"),
        (image_model, "--data", image_folder, "--anomalous-class", "spot"),
    ):
        code, out, err = run("evaluate", *data, "--timing", "--format", "json")
        assert (code, err) == (0, "")
        record = json.loads(out)
        assert record["ms_alone"] > record["ms_in_batch_of_64"] > 0
        assert "ms_alone" not in json.loads(run("evaluate", *data, "--format", "json")[1])


def test_mistakes(fails, model, table, cli_rows, tmp_path):
    code, err = fails("evaluate", model, "--data", table, "--drop-columns", "kind")
    assert (code, "no labels" in err) == (2, True)
    code, err = fails("evaluate", model, "--data", table, "--label-column", "kind")
    assert (code, "--anomalous-class" in err) == (2, True)
    np.savez(tmp_path / "x.npz", X=cli_rows[0], y=np.zeros(60))
    code, err = fails("evaluate", model, "--data", tmp_path / "x.npz", "--normal-class", "0.0")
    assert (code, "as well as anomalies" in err) == (2, True)
