"""Tables with words and gaps: the splits, the usual encoding, and what is planted."""

import csv

import numpy as np
import pytest
import tables


@pytest.fixture
def data(tmp_path):
    """A folder with a table in which anomalies have another size and another colour."""
    rng = np.random.default_rng(0)
    (tmp_path / "mixed").mkdir()
    with (tmp_path / "mixed" / "hypothyroid.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["class", "size", "weight", "colour", "shape"])
        for i in range(330):
            kind, shift = ("hypothyroid", 6) if i % 11 == 0 else ("negative", 0)
            size, weight = rng.normal(shift, 1, 2).round(2)
            colour = "green" if shift else rng.choice(["red", "blue"])
            cells = [kind, size, weight, colour, rng.choice(["a", "b", "?"])]
            writer.writerow(cells)
    return tmp_path


def columns(data):
    table, y = tables.load(data, "hypothyroid")
    train, test = tables.split("hypothyroid", y, seed=0)
    return table, y, train, test


def test_half_of_the_normal_rows_are_to_train_on(data):
    table, y, train, test = columns(data)
    assert list(table) == ["size", "weight", "colour", "shape"]
    assert y.sum() == 30
    assert not y[train].any()
    assert len(train) == 150
    assert sorted([*train, *test]) == list(range(330))
    other, _ = tables.split("hypothyroid", y, seed=1)
    assert set(other) != set(train)


def test_a_share_of_the_cells_is_emptied(data):
    table, *_ = columns(data)
    gaps = tables.emptied(table, 0.2, seed=0)["size"] == "?"
    assert 0.1 < gaps.mean() < 0.3
    assert (tables.emptied(table, 0.2, seed=0)["size"][~gaps] == table["size"][~gaps]).all()


def test_the_usual_encoding_is_medians_and_one_hot_words(data):
    table, _, train, test = columns(data)
    fitted = tables.rows_at(table, train)
    fitted["size"][:5] = "?"
    [X, X_test] = tables.one_hot_and_median(fitted, fitted, tables.rows_at(table, test))
    assert X.shape == (150, 2 + 2 + 3)
    np.testing.assert_allclose(X[:, :2].mean(axis=0), 0, atol=1e-9)
    assert len(set(X[:5, 0])) == 1
    is_green = table["colour"][test] == "green"
    assert (X_test[is_green, 2:4] == 0).all()


def test_one_cell_or_two_exchanged_are_faulty(data):
    table, y, train, test = columns(data)
    normal = tables.rows_at(table, test[~y[test]])
    faulty, places = tables.plant(normal, tables.rows_at(table, train), seed=0)
    assert set(places.sum(axis=1)) == {0, 1, 2}
    assert places.any(axis=0).all()
    for i, name in enumerate(table):
        assert ((faulty[name] != normal[name]) == places[:, i]).all()
    moved = places[:, 0] & (places.sum(axis=1) == 1)
    steps = np.abs(faulty["size"][moved].astype(float) - normal["size"][moved].astype(float))
    spread = table["size"][train].astype(float).std()
    assert np.isclose(steps, 3 * spread).mean() > 0.3


def test_runs_are_measured_once_and_reported(data, tmp_path, capsys):
    arguments = ["--data", str(data), "--sets", "hypothyroid", "--seeds", "0", "--gaps", "0.1"]
    arguments += ["--out", str(tmp_path / "out.csv")]
    ours = ["--detectors", "GANomaly", "--set", "epochs=2", "--set", "n_estimators=1"]
    assert tables.main([*arguments, *ours]) == 0
    assert tables.main([*arguments, "--detectors", "knn-mean"]) == 0
    assert tables.main([*arguments, "--detectors", "knn-mean", "--encoding", "encoder"]) == 0
    capsys.readouterr()
    assert tables.main([*arguments, "--detectors", "knn-mean", "--encoding", "encoder"]) == 0
    printed = capsys.readouterr().out
    assert "done" not in printed
    [own, near, usual] = tables.rows_of(tmp_path / "out.csv", tables.TableRun)
    assert own["encoding"] == "detector"
    assert float(near["auroc"]) > 0.9
    assert usual["encoding"] == "encoder"
    assert 0 <= float(own["ranked_first"]) <= 1
    assert near["ranked_first"] == ""
    assert printed.count("| hypothyroid |") == 3
