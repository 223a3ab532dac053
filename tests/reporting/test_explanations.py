import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from gandetect import GANomalyDetector
from gandetect.data.sources import NamedRows
from gandetect.data.tables import read_table
from gandetect.reporting.explanations import unusual_columns


def test_the_column_that_is_off_comes_first(of_table, table):
    X, _ = table
    for columns in unusual_columns(of_table, X[110:], 2):
        assert len(columns) == 2
        name, value, expected = columns[0]
        assert name == "b"
        assert float(value) > 20 > 5 > float(expected)


def test_gaps_and_words_are_texts(of_table, table):
    X, _ = table
    cells = {name: value for name, value, _ in unusual_columns(of_table, X[:1], 9)[0]}
    assert len(cells) == 3
    assert cells["a"] == ""
    assert cells[X.columns[2]] in (X.columns[2], "plain")


def test_every_kind_of_table_gives_the_same(of_table, table, tmp_path):
    X, _ = table
    X = X[100:]
    expected = unusual_columns(of_table, X)
    assert unusual_columns(of_table, pl.from_pandas(X)) == expected
    assert unusual_columns(of_table, pa.Table.from_pandas(X, preserve_index=False)) == expected
    X.to_csv(tmp_path / "x.csv", index=False)
    of_file = unusual_columns(of_table, read_table(tmp_path / "x.csv"))
    assert [[cells[0] for cells in row] for row in of_file] == [
        [cells[0] for cells in row] for row in expected
    ]


def test_rows_of_numbers_are_named_by_their_places():
    X = np.random.default_rng(0).normal(size=(60, 2))
    detector = GANomalyDetector(epochs=2, n_estimators=1, random_state=0).fit(X)
    (columns,) = unusual_columns(detector, [[0.0, 50.0]])
    assert [name for name, _, _ in columns] == ["1", "0"]
    assert unusual_columns(detector, NamedRows(np.array([[0.0, 50.0]]), ["0", "1"]))[0] == columns


def test_images_have_no_columns(of_images, images):
    with pytest.raises(ValueError, match="anomaly_map"):
        unusual_columns(of_images, images)
