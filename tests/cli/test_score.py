import csv
import io
import json

import numpy as np
import pytest

import gandetect


@pytest.fixture
def expected(model, cli_rows):
    detector = gandetect.load(model)
    del detector.feature_names_in_
    return detector, detector.anomaly_score(cli_rows[0])


@pytest.fixture
def data(table):
    return ("--data", table, "--label-column", "kind")


def test_scores(run, model, data, expected):
    code, out, err = run("score", model, *data, "--format", "csv")
    assert (code, err) == (0, "")
    lines = list(csv.DictReader(io.StringIO(out)))
    assert [line["sample"] for line in lines] == [str(i) for i in range(60)]
    assert [float(line["anomaly_score"]) for line in lines] == expected[1].tolist()


def test_predictions(run, model, data, expected, tmp_path, cli_rows):
    path = tmp_path / "p.json"
    assert run("predict", model, *data, "--out", path, "--device", "cpu") == (0, "", "")
    lines = json.loads(path.read_text())
    assert [line["prediction"] for line in lines] == expected[0].predict(cli_rows[0]).tolist()
    assert [line["anomaly_score"] for line in lines] == expected[1].tolist()


def test_the_share_that_is_flagged(run, model, data):
    _, out, _ = run("predict", model, *data, "--outlier-perc", "15", "--format", "json")
    flagged = [line["sample"] for line in json.loads(out) if line["prediction"] == -1]
    assert len(flagged) == 9
    assert set(flagged) <= set(range(50, 60))  # those that lie far off


def test_images_go_by_their_paths(run, image_model, image_folder):
    _, out, _ = run("score", image_model, "--data", image_folder, "--format", "json")
    assert [line["sample"] for line in json.loads(out)][-1] == "spot/11.png"


def test_a_table_by_default(run, model, data):
    _, out, _ = run("score", model, *data)
    header, first, *_ = out.splitlines()
    assert header.split() == ["sample", "anomaly_score"]
    assert first.split()[0] == "0"


def test_mistakes(fails, model, data, table, tmp_path):
    code, err = fails("score", tmp_path / "none", *data)
    assert (code, "There is no file" in err) == (1, True)
    code, err = fails("score", table, *data)
    assert (code, "damaged or was not written by gandetect" in err) == (1, True)
    code, err = fails("score", model, *data, "--out", tmp_path / "x" / "y.csv")
    assert (code, "no such folder" in err) == (1, True)
    np.save(tmp_path / "x.npy", np.zeros((4, 5)))
    code, err = fails("score", model, "--data", tmp_path / "x.npy")
    assert (code, "features" in err) == (1, True)
