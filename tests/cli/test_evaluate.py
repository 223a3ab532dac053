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


def test_mistakes(fails, model, table, cli_rows, tmp_path):
    code, err = fails("evaluate", model, "--data", table, "--drop-columns", "kind")
    assert (code, "no labels" in err) == (2, True)
    code, err = fails("evaluate", model, "--data", table, "--label-column", "kind")
    assert (code, "--anomalous-class" in err) == (2, True)
    np.savez(tmp_path / "x.npz", X=cli_rows[0], y=np.zeros(60))
    code, err = fails("evaluate", model, "--data", tmp_path / "x.npz", "--normal-class", "0.0")
    assert (code, "as well as anomalies" in err) == (2, True)
