import csv
import gzip
import io
import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import gandetect
from gandetect.cli.data import Samples
from gandetect.cli.score import scores_and_flags

TINY = ("--set", "epochs=1", "--set", "n_estimators=1")


@pytest.fixture
def expected(model, named_rows):
    detector = gandetect.load(model)
    return detector, detector.anomaly_score(named_rows)


@pytest.fixture
def data(table):
    return ("--data", table, "--label-column", "kind")


def test_scores(run, model, data, expected):
    code, out, err = run("score", model, *data, "--format", "csv")
    assert (code, err) == (0, "")
    lines = list(csv.DictReader(io.StringIO(out)))
    assert [line["sample"] for line in lines] == [str(i) for i in range(60)]
    assert [float(line["anomaly_score"]) for line in lines] == expected[1].tolist()


def test_predictions(run, model, data, expected, tmp_path, named_rows):
    path = tmp_path / "p.json"
    assert run("predict", model, *data, "--out", path, "--device", "cpu") == (0, "", "")
    lines = json.loads(path.read_text())
    assert [line["prediction"] for line in lines] == expected[0].predict(named_rows).tolist()
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


@pytest.mark.filterwarnings("ignore:X does not have valid feature names")
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


def test_columns_are_brought_into_the_order_of_the_fit(run, fails, model, cli_rows, tmp_path):
    table = pd.DataFrame(cli_rows[0], columns=["a", "b", "c"])
    table[["c", "a", "b"]].to_csv(tmp_path / "other.csv", index=False)
    table.to_csv(tmp_path / "same.csv", index=False)
    for command in ("score", "predict", "map"):
        shown = []
        for name in ("same.csv", "other.csv"):
            out = tmp_path / f"{command}.csv"
            assert run(command, model, "--data", tmp_path / name, "--out", out) == (0, "", "")
            shown.append(out.read_text())
        assert shown[0] == shown[1]
    table[["a", "b"]].to_csv(tmp_path / "few.csv", index=False)
    code, err = fails("score", model, "--data", tmp_path / "few.csv")
    assert (code, "lack the column 'c'" in err) == (1, True)


def test_flags_are_those_of_predict(model, named_rows):
    detector = gandetect.load(model)
    samples = Samples(X=named_rows.to_numpy(), feature_names=["a", "b", "c"])
    scores, is_flagged = scores_and_flags(detector, samples, None)
    np.testing.assert_array_equal(scores, detector.anomaly_score(named_rows))
    np.testing.assert_array_equal(is_flagged, detector.predict(named_rows) == -1)
    _, is_flagged = scores_and_flags(detector, samples, 10.0)
    assert is_flagged.sum() == 6


@pytest.mark.filterwarnings("default:outlier_perc")
def test_a_share_for_a_percentage_is_told(run, model, data):
    code, _, err = run("predict", model, *data, "--outlier-perc", "0.05")
    assert (code, err.count("\n"), "is a percentage, not a fraction" in err) == (0, 1, True)


class TestImagesAsTheModelWasFitted:
    @pytest.fixture
    def photos(self, tmp_path):
        """Coloured images of several sizes."""
        rng = np.random.default_rng(0)
        for i in range(6):
            pixels = rng.integers(0, 255, size=(14 + i % 3, 12, 3), dtype=np.uint8)
            (tmp_path / "photos").mkdir(exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / "photos" / f"{i}.png")
        return tmp_path / "photos"

    def test_size_and_channels_need_not_be_said_again(self, run, fails, photos, tmp_path):
        small = (*TINY, "--set", "architecture=ConvNet(n_filters=2)")
        how = ("--image-size", "8,8", "--channels", "1")
        model = tmp_path / "m"
        assert run("fit", "ganomaly", "--data", photos, *how, *small, "--out", model)[0] == 0
        shown = {run("predict", model, "--data", photos, *said) for said in ((), how)}
        assert len(shown) == 1
        assert shown.pop()[0] == 0
        assert run("map", model, "--data", photos, "--out", tmp_path / "maps") == (0, "", "")
        with Image.open(tmp_path / "maps" / "0.png") as picture:
            assert picture.size == (12, 14)  # the map lies over the photograph
        go_on = ("--go-on-from", model, "--set", "epochs=1", "--out", tmp_path / "n")
        assert run("fit", "ganomaly", "--data", photos, *go_on)[0] == 0
        assert run("score", tmp_path / "n", "--data", photos)[0] == 0
        code, err = fails("score", model, "--data", photos, "--channels", "3")
        assert (code, "(8, 8, 3)" in err) == (1, True)
        code, err = fails("score", model, "--data", photos, "--image-size", "9")
        assert (code, "images of several shapes, the largest (9, 8)" in err) == (1, True)
        longer = ("--image-size", "8", "--out", model)
        code, err = fails("fit", "ganomaly", "--data", photos, *longer, *small)
        assert (code, "--image-size HEIGHT,WIDTH" in err) == (1, True)

    def test_nor_of_images_in_an_array(self, run, tmp_path):
        rng = np.random.default_rng(0)
        small = (*TINY, "--set", "architecture=ConvNet(n_filters=2)")
        for name, side in (("x", 12), ("other", 10)):
            images = rng.integers(0, 255, size=(6, side, side, 3), dtype=np.uint8)
            np.save(tmp_path / f"{name}.npy", images)
        how = ("--image-size", "8", "--channels", "1")
        data, model = ("--data", tmp_path / "x.npy"), tmp_path / "m"
        assert run("fit", "ganomaly", *data, *how, *small, "--out", model)[0] == 0
        other = ("--data", tmp_path / "other.npy")
        shown = {run("score", model, *other, *said) for said in ((), how)}
        assert len(shown) == 1
        assert shown.pop()[0] == 0

    @pytest.mark.filterwarnings("default:1 of 7 images")
    def test_a_damaged_image_may_be_left_out(self, run, fails, photos, tmp_path):
        small = (*TINY, "--set", "architecture=ConvNet(n_filters=2)")
        data = ("--data", photos, "--image-size", "8,8")
        assert run("fit", "ganomaly", *data, *small, "--out", tmp_path / "m")[0] == 0
        (photos / "6.png").write_bytes((photos / "0.png").read_bytes()[:200])
        code, err = fails("predict", tmp_path / "m", "--data", photos)
        assert (code, "6.png" in err) == (1, True)
        out = ("--out", tmp_path / "p.csv", "--on-error", "skip")
        code, _, err = run("predict", tmp_path / "m", "--data", photos, *out)
        assert (code, "6.png" in err) == (0, True)
        assert len((tmp_path / "p.csv").read_text().splitlines()) == 7


@pytest.fixture
def payments(tmp_path):
    """A table with an identifier, words, dates, gaps called "?" and labels."""
    rng = np.random.default_rng(0)
    n = 80
    table = pd.DataFrame(
        {
            "id": [f"T{i}" for i in range(n)],
            "country": rng.choice(["007", "12b"], n),
            "amount": rng.gamma(2, 50, n).round(2),
            "age": np.where(np.arange(n) % 9, rng.integers(20, 70, n).astype(str), "?"),
            "when": pd.Timestamp("2026-01-01")
            + pd.to_timedelta(rng.integers(0, 2000, n), unit="h"),
            "is_fraud": (np.arange(n) % 20 == 0).astype(int),
        }
    )
    path = tmp_path / "payments.csv"
    table.to_csv(path, index=False)
    return table, path


def test_a_table_is_explained_in_its_words(run, fails, payments, tmp_path):
    table, path = payments
    columns = ("--label-column", "is_fraud", "--id-column", "id")
    own = (*TINY, "--set", "validation_fraction=0.3", "--out", tmp_path / "m")
    code, _, err = run("fit", "ganomaly", "--data", path, *columns, "--missing", "?", *own)
    assert (code, err) == (0, "")
    # A file in which the codes look like numbers, and whose gaps the model knows.
    new = table[table["country"] == "007"].drop(columns="is_fraud").assign(amount=1e5)
    new.to_csv(tmp_path / "new.csv", index=False)
    told = ("--p-values", "--explain", "9", "--format", "json")
    code, out, err = run(
        "predict", tmp_path / "m", "--data", tmp_path / "new.csv", "--id-column", "id", *told
    )
    assert (code, err) == (0, "")
    lines = json.loads(out)
    assert [line["id"] for line in lines] == new["id"].tolist()
    for line in lines:
        assert 0 < line["p_value"] <= 1
        assert (line["column_1"], line["value_1"]) == ("amount", "100000")
        assert float(line["expected_1"]) < 1000
        places = {line[f"column_{i}"]: line[f"value_{i}"] for i in range(1, 5)}
        assert places["country"] == "007"
        assert "column_5" not in line
    for command in ("score", "evaluate"):
        data = ("--data", path, *columns) if command == "evaluate" else ("--data", path)
        if command == "score":
            data = (*data, "--drop-columns", "is_fraud,id")
        assert run(command, tmp_path / "m", *data)[0] == 0


def frauds(n=1500):
    """Payments as people keep them: identifiers, days and hours, words, gaps, a few frauds."""
    rng = np.random.default_rng(0)
    shop = rng.choice(["books", "food", "travel", "electronics"], n, p=[0.3, 0.4, 0.2, 0.1])
    usual = pd.Series(shop).map({"books": 20, "food": 35, "travel": 400, "electronics": 150})
    is_fraud = np.arange(n) % 60 == 59
    when = pd.Timestamp("2026-01-01") + pd.to_timedelta(rng.integers(0, 180 * 1440, n), unit="min")
    card = rng.choice(["yes", "no"], n)
    return pd.DataFrame(
        {
            "id": [f"T{i:05d}" for i in range(n)],
            "when": when.strftime("%Y-%m-%d %H:%M"),
            "country": rng.choice(["DE", "FR", "IT", "PT"], n, p=[0.5, 0.3, 0.195, 0.005]),
            "shop": np.where(rng.random(n) < 0.03, "?", shop),
            "amount": (usual * rng.lognormal(0, 0.3, n) * np.where(is_fraud, 20, 1)).round(2),
            "age": np.where(rng.random(n) < 0.2, "?", rng.integers(18, 80, n).astype(str)),
            "card_present": np.where(is_fraud, "no", card),
            "is_fraud": is_fraud.astype(int),
        }
    )


def german(table):
    """As a spreadsheet in German writes a table."""
    comma = {
        "amount": table["amount"].map(lambda x: f"{x:,.2f} €".translate(str.maketrans(",.", ".,"))),
        "when": pd.to_datetime(table["when"]).dt.strftime("%d.%m.%Y %H:%M"),
    }
    return table.assign(**comma).to_csv(sep=";", index=False).encode("utf-8-sig")


def test_a_table_of_frauds_from_the_file_to_the_reason(run, tmp_path, monkeypatch):
    table = frauds()
    path, model = tmp_path / "fraud.csv", tmp_path / "model"
    table.to_csv(path, index=False)
    columns = ("--label-column", "is_fraud", "--id-column", "id")
    fit = ("fit", "rdna", "--data", path, *columns, "--date-columns", "when", "--missing", "?")
    own = ("--set", "epochs=5", "--set", "n_estimators=2", "--set", "validation_fraction=0.2")
    code, out, err = run(*fit, *own, "--out", model, "--format", "json")
    assert (code, err) == (0, "")
    assert (json.loads(out)["samples"], json.loads(out)["left_out"]) == (1475, 25)

    out = tmp_path / "flagged.csv"
    told = ("--p-values", "--explain", "3", "--out", out)
    assert run("predict", model, "--data", path, *columns, *told) == (0, "", "")
    found = pd.read_csv(out, dtype=str)
    of_columns = [f"{what}_{i}" for i in (1, 2, 3) for what in ("column", "value", "expected")]
    assert [*found] == ["id", "prediction", "anomaly_score", "p_value", *of_columns]
    assert found["id"].tolist() == table["id"].tolist()
    is_flagged = found["prediction"] == "-1"
    frauds_ = table["is_fraud"] == 1
    assert is_flagged[frauds_].mean() > 0.8
    assert (found["p_value"].astype(float)[frauds_] < 0.1).mean() > 0.8
    # Twenty times the price of a book is that of a journey: either is what is wrong.
    assert found["column_1"][frauds_].isin(["amount", "shop"]).mean() > 0.8
    named = found.loc[frauds_, ["column_1", "column_2", "column_3"]]
    assert (named == "amount").any(axis=1).mean() > 0.8
    # Each value is the cell of the table; what was expected is in its words and units.
    for i in (1, 2, 3):
        for row in range(0, 1500, 50):
            name = found.at[row, f"column_{i}"]
            value, cell = found[f"value_{i}"].fillna("")[row], str(table.at[row, name])
            assert value == ("" if cell == "?" else cell) or float(value) == float(cell)
            expected = found[f"expected_{i}"].fillna("")[row]
            if name in ("country", "shop", "card_present"):
                assert expected in {*table[name], "", "(other)"}
            if name == "when":
                assert expected == "" or pd.to_datetime(expected, format="%Y-%m-%d %H:%M:%S")

    # The same rows as others write them.
    scores = found["anomaly_score"].astype(float)
    (tmp_path / "german.csv").write_bytes(german(table))
    (tmp_path / "packed.csv.gz").write_bytes(gzip.compress(path.read_bytes()))
    other_order = table[[*reversed(table.columns)]]
    other_order.to_csv(tmp_path / "tabs.tsv", sep="\t", index=False, lineterminator="\r\n")
    stdin = io.TextIOWrapper(io.BytesIO(path.read_bytes()))
    monkeypatch.setattr("sys.stdin", stdin)
    for data in ("german.csv", "packed.csv.gz", "tabs.tsv", "-"):
        place = data if data == "-" else tmp_path / data
        code, out, err = run("score", model, "--data", place, *columns, "--format", "csv")
        assert (code, err) == (0, ""), data
        again = pd.read_csv(io.StringIO(out))
        assert again["id"].tolist() == table["id"].tolist()
        np.testing.assert_allclose(again["anomaly_score"], scores, atol=1e-4)


@pytest.mark.filterwarnings("default:Column 'is_fraud'")
def test_labels_that_nobody_names_are_told(run, fails, tmp_path):
    table = frauds(120).drop(columns="id")
    table["is_fraud"] = table["is_fraud"].map({0: "ok", 1: "fraud"})
    path, model = tmp_path / "fraud.csv", tmp_path / "model"
    table.to_csv(path, index=False)
    fit = ("fit", "ganomaly", "--data", path, "--missing", "?", *TINY, "--out", model)
    code, _, err = run(*fit)
    assert (code, err.count("\n"), "--label-column is_fraud" in err) == (0, 1, True)
    named = ("--label-column", "is_fraud", "--anomalous-class", "fraud")
    assert run(*fit, *named)[::2] == (0, "")
    code, err = fails("score", model, "--data", path)
    assert (code, "has also 'is_fraud'" in err, "--label-column" in err) == (1, True, True)


def test_columns_of_dates(run, fails, tmp_path):
    n = 60
    days = [f"{1 + i % 12}/{1 + i * 7 % 12}/2026" for i in range(n)]
    table = pd.DataFrame({"day": days, "stamp": [f"202601{1 + i % 28:02d}" for i in range(n)]})
    path = tmp_path / "days.csv"
    table.assign(x=np.arange(n) % 7).to_csv(path, index=False)
    fit = ("fit", "ganomaly", "--data", path, *TINY, "--out", tmp_path / "m")
    code, err = fails(*fit, "--date-columns", "day,stamp")
    assert (code, "'day-first date'" in err) == (1, True)
    order = ("--set", "columns={'day': 'month-first date'}")
    assert run(*fit, "--date-columns", "stamp", *order)[::2] == (0, "")
    columns = {c.name: c for c in gandetect.load(tmp_path / "m").model_.layout.encoder.columns}
    assert [columns[name].kind for name in ("day", "stamp", "x")] == ["date", "date", "number"]
    first = np.datetime64("2026-01-01T00:00", "us").astype(int)
    assert columns["day"].first == columns["stamp"].first == first
    assert run("score", tmp_path / "m", "--data", path)[0] == 0
    code, err = fails(*fit, "--date-columns", "stamp", "--set", "columns=auto")
    assert (code, "mapping" in err) == (2, True)
    code, err = fails(*fit, "--date-columns", "when")
    assert (code, "no column 'when'" in err) == (2, True)


def test_rows_of_numbers_are_explained_too(run, model, data):
    _, out, _ = run("predict", model, *data, "--explain", "1", "--format", "json")
    first, *_, last = json.loads(out)
    assert first["column_1"] in ("a", "b", "c")
    assert float(last["value_1"]) > 20


def test_images_are_not_explained_by_columns(fails, image_model, image_folder):
    code, err = fails("predict", image_model, "--data", image_folder, "--explain", "2")
    assert (code, "gandetect map" in err) == (2, True)
