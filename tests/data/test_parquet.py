"""Parquet files give the rows that they hold, in any order, and the same scores."""

import datetime
import gc
import os
import tempfile

import numpy as np
import pandas as pd
import pytest

from gandetect import GANomalyDetector
from gandetect.data.parquet import ParquetRows, is_parquet, is_plain, read_parquet
from gandetect.data.sources import ArraySource, Layout, blocks

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

X = np.random.default_rng(0).normal(size=(103, 4))
FOUR = Layout((4,), (4,), -1)


def small(**parameters):
    return GANomalyDetector(**{"epochs": 1, "n_estimators": 1, "random_state": 0, **parameters})


def write(path, X, **options):
    parquet.write_table(
        pa.table({f"c{i}": column for i, column in enumerate(X.T)}), path, **options
    )


@pytest.fixture
def file(tmp_path):
    write(tmp_path / "rows.parquet", X, row_group_size=10)
    return tmp_path / "rows.parquet"


@pytest.fixture
def folder(tmp_path):
    for i, part in enumerate(np.array_split(X, [40, 41, 90])):
        (tmp_path / "many" / f"{i}").mkdir(parents=True)
        write(tmp_path / "many" / f"{i}" / "part.parquet", part, row_group_size=7)
    return tmp_path / "many"


@pytest.fixture(params=["file", "folder"])
def path(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def source(path, monkeypatch):
    monkeypatch.setattr("gandetect.data.parquet._VALUES_A_BATCH", 12)  # batches of three rows
    return ArraySource(ParquetRows(path), FOUR)


class TestReading:
    @pytest.mark.parametrize(
        "index",
        [slice(0, 103), slice(0, 0), slice(5, 6), slice(38, 95), slice(100, 200), np.arange(9, 60)],
        ids=str,
    )
    def test_runs(self, source, index):
        np.testing.assert_array_equal(source.read(index), X[index])

    def test_one_run_after_the_other(self, source):
        for start, stop in [(0, 10), (10, 45), (45, 103), (3, 9), (9, 10)]:
            np.testing.assert_array_equal(source.read(slice(start, stop)), X[start:stop])

    def test_blocks(self, source, monkeypatch):
        monkeypatch.setattr("gandetect.data.sources._VALUES_A_BLOCK", 40)
        np.testing.assert_array_equal(np.concatenate(list(blocks(source))), X)

    def test_any_order(self, source):
        order = np.random.default_rng(0).permutation(103)[:50]
        np.testing.assert_array_equal(source.read(order), X[order])
        np.testing.assert_array_equal(source.read(slice(3, 5)), X[3:5])

    def test_the_copy_vanishes(self, path, tmp_path, monkeypatch):
        (tmp_path / "copies").mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "copies"))
        another = ArraySource(ParquetRows(path), FOUR)
        another.read(np.array([5, 3]))
        assert list((tmp_path / "copies").iterdir())
        del another
        gc.collect()
        assert not list((tmp_path / "copies").iterdir())


def limit_that_leaves(n_free):
    """A limit on open files below which so many numbers are free, whatever is open by now."""
    number = 0
    while n_free:
        try:
            os.fstat(number)
        except OSError:
            n_free -= 1
        number += 1
    return number


class TestDirectories:
    def test_more_files_than_may_be_open(self, tmp_path):
        resource = pytest.importorskip("resource")
        for i in range(60):
            write(tmp_path / f"{i:02d}.parquet", X[i : i + 1])
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit_that_leaves(20), hard))
        try:
            source = ArraySource(ParquetRows(tmp_path), FOUR)
            np.testing.assert_array_equal(source.read(slice(0, 60)), X[:60])
            np.testing.assert_array_equal(source.read(np.arange(60)[::-1]), X[:60][::-1])
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    @pytest.mark.parametrize(
        "name", [".hidden.parquet", "_metadata.parquet", "_temporary/0/x.parquet", ".a/x.parquet"]
    )
    def test_what_is_hidden_is_no_data(self, folder, name):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"unfinished")
        np.testing.assert_array_equal(np.concatenate(list(ParquetRows(folder).batches())), X)

    def test_the_way_to_the_directory_may_be_hidden(self, tmp_path):
        folder = tmp_path / "_built" / ".cache"
        folder.mkdir(parents=True)
        assert not is_parquet(folder)
        write(folder / "rows.parquet", X)
        assert is_parquet(folder)
        assert ParquetRows(folder).shape == X.shape

    def test_capital_letters_of_an_extension(self, tmp_path):
        write(tmp_path / "ROWS.PARQUET", X)
        assert is_parquet(tmp_path / "ROWS.PARQUET")
        assert is_parquet(tmp_path)

    def test_directories_that_are_named_like_files(self, tmp_path):
        (tmp_path / "table.parquet").mkdir()
        assert not is_parquet(tmp_path)
        write(tmp_path / "table.parquet" / "part.0.parquet", X)
        assert ParquetRows(tmp_path).shape == X.shape

    def test_a_file_that_is_changed(self, tmp_path):
        write(tmp_path / "rows.parquet", X)
        rows = ParquetRows(tmp_path)
        write(tmp_path / "rows.parquet", X[:50])
        with pytest.raises(ValueError, match="was changed"):
            next(rows.batches())


class TestIndex:
    """What pandas writes as an index is no feature."""

    @pytest.mark.parametrize("name", [None, "when", "c0.when"])
    def test_of_pandas(self, tmp_path, name):
        frame = pd.DataFrame(X, columns=["c0", "c1", "c2", "c3"])
        frame.index = pd.date_range("2024-01-01", periods=len(X), name=name)
        frame.to_parquet(tmp_path / "rows.parquet")
        rows = ParquetRows(tmp_path / "rows.parquet")
        assert rows.names == ["c0", "c1", "c2", "c3"]
        np.testing.assert_array_equal(np.concatenate(list(rows.batches())), X)

    def test_of_one_file_and_not_of_another(self, tmp_path):
        frame = pd.DataFrame(X, columns=["c0", "c1", "c2", "c3"])
        frame[:40].to_parquet(tmp_path / "a.parquet")  # a range: metadata alone
        frame[40:].set_index(np.arange(63) ** 2).to_parquet(tmp_path / "b.parquet")
        np.testing.assert_array_equal(np.concatenate(list(ParquetRows(tmp_path).batches())), X)

    def test_an_index_in_the_middle(self, tmp_path):
        frame = pd.DataFrame(X[:, :3], columns=["a", "a.b", "c"])
        table = pa.Table.from_pandas(frame.set_index("a.b")).select(["a", "a.b", "c"])
        parquet.write_table(table, tmp_path / "rows.parquet")
        (found,) = ParquetRows(tmp_path / "rows.parquet").batches()
        np.testing.assert_array_equal(found, X[:, [0, 2]])

    @pytest.mark.filterwarnings("ignore:The inplace keyword")  # Dask's use of pandas
    @pytest.mark.parametrize("name", [None, "key"])
    def test_of_dask(self, tmp_path, name):
        dataframe = pytest.importorskip("dask.dataframe")
        frame = pd.DataFrame(X, columns=["c0", "c1", "c2", "c3"])
        frame.index.name = name
        dataframe.from_pandas(frame, npartitions=3).to_parquet(tmp_path / "many")
        rows = ParquetRows(tmp_path / "many")
        assert rows.names == ["c0", "c1", "c2", "c3"]
        np.testing.assert_array_equal(np.concatenate(list(rows.batches())), X)


class TestTable:
    def test_columns_are_those_of_a_text_file(self, tmp_path):
        path = tmp_path / "x.parquet"
        frame = pd.DataFrame(
            {
                "n": [1, 2, 3],
                "x": [0.5, np.nan, 2],
                "kind": pd.Categorical(["a", None, "?"]),
                "yes": [True, False, True],
                "when": pd.to_datetime(["2024-01-01", None, "2024-01-03"]),
                "big": [2**53 + 1, 1, 2],
            },
            index=[5, 7, 9],
        )
        frame.to_parquet(path)
        table = read_parquet(path, missing_values=["?"])
        assert table.names == list(frame.columns)
        n, x, kind, yes, when, big = table.columns
        np.testing.assert_array_equal(n, [1.0, 2, 3])
        np.testing.assert_array_equal(x, [0.5, np.nan, 2])
        assert kind.tolist() == ["a", None, None]
        assert (yes.dtype, yes.tolist()) == (np.dtype(bool), [True, False, True])
        np.testing.assert_array_equal(when, frame["when"].to_numpy().astype("datetime64[us]"))
        assert big.tolist() == ["9007199254740993", "1", "2"]
        assert read_parquet(path, words=["n"]).columns[0].tolist() == ["1", "2", "3"]
        with pytest.raises(ValueError, match=r"'x' \(1 missing value, the first in row 2\)"):
            table.matrix()

    def test_many_files(self, folder):
        np.testing.assert_array_equal(read_parquet(folder).matrix(), X)
        write(folder / "other.parquet", X[:, :2])
        with pytest.raises(ValueError, match="different columns"):
            read_parquet(folder)

    def test_names_that_are_given_twice(self, tmp_path):
        parquet.write_table(pa.table([[1], [2]], names=["a", "a"]), tmp_path / "x.parquet")
        with pytest.raises(ValueError, match="several columns with the name 'a'"):
            read_parquet(tmp_path / "x.parquet")

    def test_no_file(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="no Parquet file"):
            read_parquet(tmp_path)


class TestDetector:
    @pytest.mark.parametrize("resident_bytes", [2**28, 0])
    def test_the_same_scores_as_in_memory(self, path, monkeypatch, resident_bytes):
        monkeypatch.setattr("gandetect.data.sources._RESIDENT_BYTES", resident_bytes)
        on_path, in_memory = small().fit(path), small().fit(X)
        np.testing.assert_array_equal(on_path.score_samples(str(path)), in_memory.score_samples(X))
        assert on_path.threshold_ == in_memory.threshold_

    def test_names_of_columns(self, file):
        detector = small().fit(file)
        assert list(detector.feature_names_in_) == ["c0", "c1", "c2", "c3"]
        detector.predict(pd.DataFrame(X, columns=detector.feature_names_in_))

    def test_other_names(self, file, tmp_path):
        detector = small().fit(file)
        pd.DataFrame(X, columns=list("abcd")).to_parquet(tmp_path / "other.pq")
        with pytest.raises(ValueError, match="feature names"):
            detector.predict(tmp_path / "other.pq")

    def test_images_in_rows(self, file):
        on_file, in_memory = (small(image_shape=(2, 2), latent_dim=2).fit(x) for x in (file, X))
        np.testing.assert_array_equal(on_file.anomaly_score(file), in_memory.anomaly_score(X))


class TestRefused:
    def test_missing_values(self, tmp_path):
        frame = pd.DataFrame({"a": [1.0, 2.0, None], "b": [1, 2, 3]})
        frame.to_parquet(tmp_path / "rows.parquet")
        with pytest.raises(ValueError, match=r"'a' has missing values \(null or NaN\)"):
            small(columns=None).fit(tmp_path / "rows.parquet")

    def test_missing_integers(self, tmp_path):
        table = pa.table({"a": pa.array([1, None, 3]), "b": [1, 2, 3]})
        parquet.write_table(table, tmp_path / "rows.parquet")
        with pytest.raises(ValueError, match="NaN"):
            small(columns=None).fit(tmp_path / "rows.parquet")

    def test_words(self, tmp_path):
        frame = pd.DataFrame({"a": [1, 2], "b": ["x", "y"], "c": ["x", "y"]})
        frame.to_parquet(tmp_path / "rows.parquet")
        with pytest.raises(TypeError, match=r"'b' is .*, 'c' is .*string"):
            small(columns=None).fit(tmp_path / "rows.parquet")

    @pytest.mark.parametrize(
        ("n", "message"), [(0, "rows.parquet contains no rows"), (1, "1 sample")]
    )
    def test_too_few(self, tmp_path, n, message):
        write(tmp_path / "rows.parquet", X[:n])
        with pytest.raises(ValueError, match=message):
            small().fit(tmp_path / "rows.parquet")

    def test_files_that_differ(self, folder):
        write(folder / "other.parquet", X[:, :2])
        with pytest.raises(ValueError, match="different columns"):
            small().fit(folder)

    def test_no_file(self, tmp_path):
        assert not is_parquet(tmp_path)
        with pytest.raises(FileNotFoundError, match="Parquet"):
            ParquetRows(tmp_path)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([[1.0], [2.0]], "list<"),
        ([{"q": 1}, {"q": 2}], "struct<"),
    ],
)
def test_columns_of_values_that_are_no_cells(tmp_path, values, kind):
    path = tmp_path / "x.parquet"
    parquet.write_table(pa.table({"a": values, "b": [1.0, 2.0]}), path)
    assert not is_plain(path)
    with pytest.raises(TypeError, match=f"column 'a' of .* has the type {kind}.* leave it out"):
        read_parquet(path)
    assert read_parquet(path, words=["a"]).names == ["a", "b"]
    assert read_parquet(path, left_out=["a", "absent"]).names == ["a", "b"]


def test_times_and_durations_are_those_of_a_table_in_memory(tmp_path):
    path = tmp_path / "x.parquet"
    lengths = [datetime.timedelta(hours=1), None, datetime.timedelta(seconds=1.5)]
    times = [datetime.time(1), datetime.time(0, 0, 2), None]
    parquet.write_table(
        pa.table({"a": pa.array(lengths, pa.duration("ns")), "b": pa.array(times)}), path
    )
    table = read_parquet(path)
    assert [column.tolist() for column in table.columns] == [lengths, times]
    assert set(table.obstacles()) == {"a", "b"}
    assert all("times such as" in what for what in table.obstacles().values())


def test_files_without_a_row_are_named(tmp_path):
    path = tmp_path / "none.parquet"
    parquet.write_table(pa.table({"a": pa.array([], pa.float64())}), path)
    for reader in (read_parquet, ParquetRows):
        with pytest.raises(ValueError, match=r"none\.parquet contains no rows"):
            reader(path)
