import sys
from argparse import Namespace

import numpy as np
import pytest

from gandetect.cli.files import Samples, read_path
from gandetect.cli.options import UsageError
from gandetect.cli.resizing import resized
from gandetect.data.images import ImageFiles
from gandetect.datasets import DataFileError

NONE_GIVEN = {
    "label_column": None,
    "labels": None,
    "drop_columns": [],
    "delimiter": None,
    "image_size": None,
    "channels": None,
}


def read(path, **options):
    return read_path(path, Namespace(**{**NONE_GIVEN, **options}))


@pytest.fixture
def write(tmp_path):
    def write(name, content):
        path = tmp_path / name
        path.write_text(content, encoding="utf-8")
        return path

    return write


class TestCSV:
    def test_names_and_labels(self, write):
        samples = read(write("x.csv", "a,b,y\n1,2,0\n3,4.5,1\n"), label_column="y")
        np.testing.assert_array_equal(samples.X, [[1, 2], [3, 4.5]])
        assert samples.labels.tolist() == [0, 1]
        assert samples.feature_names == ["a", "b"]

    def test_without_names(self, write):
        samples = read(write("x.csv", "1,2,ok\n3,4,bad\n"), label_column="-1")
        # The first line holds a word, so it is taken for names: say what happened instead.
        assert samples.labels.tolist() == ["bad"]
        samples = read(write("y.csv", "1,2,0\n3,4,1\n"), label_column="2")
        np.testing.assert_array_equal(samples.X, [[1, 2], [3, 4]])
        assert samples.labels.tolist() == [0, 1]
        assert samples.feature_names == []

    def test_quotes_byte_order_mark_and_other_delimiters(self, write):
        samples = read(write("x.csv", '\ufeff"a;1";b\n1;"2"\n'), delimiter=";")
        assert samples.feature_names == ["a;1", "b"]
        np.testing.assert_array_equal(samples.X, [[1, 2]])
        samples = read(write("x.tsv", "a\tb\n1\t2\n"))
        np.testing.assert_array_equal(samples.X, [[1, 2]])

    def test_columns_that_are_left_out(self, write):
        path = write("x.csv", "id,a,b\nr1,1,2\nr2,3,4\n")
        assert read(path, drop_columns=["id"]).feature_names == ["a", "b"]
        with pytest.raises(DataFileError, match=r"'r1'.*--drop-columns"):
            read(path)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("", "no column of features"),
            ("a,b\n1,\n", "not a table of numbers"),
            ("a,b\n1,2\n3\n", "not a table of numbers"),
        ],
    )
    def test_damaged(self, content, message, write):
        with pytest.raises(DataFileError, match=message):
            read(write("x.csv", content))

    def test_no_rows_are_told_by_the_detector(self, write):
        assert len(read(write("x.csv", "a,b\n"))) == 0

    def test_an_unknown_column(self, write):
        with pytest.raises(UsageError, match="no column 'z', only a, b"):
            read(write("x.csv", "a,b\n1,2\n"), label_column="z")

    def test_bytes_that_are_no_text(self, tmp_path):
        path = tmp_path / "x.csv"
        path.write_bytes(b"\xff\xfe\x00\x81")
        with pytest.raises(DataFileError, match="can not be read as a table"):
            read(path)


class TestParquet:
    def test_names_and_labels(self, tmp_path):
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        path = tmp_path / "x.parquet"
        table = pyarrow.table({"a": [1, 2], "kind": ["ok", "bad"], "b": [0.5, None]})
        parquet.write_table(table, path)
        samples = read(path, label_column="kind")
        np.testing.assert_array_equal(samples.X, [[1, 0.5], [2, np.nan]])
        assert samples.labels.tolist() == ["ok", "bad"]
        assert samples.feature_names == ["a", "b"]
        with pytest.raises(DataFileError, match="not a table of numbers"):
            read(path)

    def test_the_index_that_pandas_writes_is_no_feature(self, tmp_path):
        pytest.importorskip("pyarrow")
        pandas = pytest.importorskip("pandas")
        path = tmp_path / "x.parquet"
        pandas.DataFrame({"a": [1.0, 2.0], "b": [3.0, 4.0]}, index=[7, 9]).to_parquet(path)
        samples = read(path)
        np.testing.assert_array_equal(samples.X, [[1, 3], [2, 4]])
        assert samples.feature_names == ["a", "b"]

    def test_damaged(self, write):
        pytest.importorskip("pyarrow")
        with pytest.raises(DataFileError, match="Parquet"):
            read(write("x.parquet", "no such thing"))

    def test_without_pyarrow(self, write, monkeypatch):
        monkeypatch.setitem(sys.modules, "pyarrow", None)
        with pytest.raises(ImportError, match=r"gandetect\[arrow\]"):
            read(write("x.parquet", ""))


class TestArrays:
    def test_npy_is_mapped(self, tmp_path):
        np.save(tmp_path / "x.npy", np.eye(3))
        samples = read(tmp_path / "x.npy")
        assert isinstance(samples.X, np.memmap)
        np.testing.assert_array_equal(samples.X, np.eye(3))

    @pytest.mark.parametrize("names", [("X", "y"), ("x", "labels"), ("data", "target")])
    def test_npz(self, names, tmp_path):
        arrays = dict(zip(names, (np.eye(3), np.array([0, 0, 1])), strict=True))
        np.savez(tmp_path / "x.npz", **arrays)
        samples = read(tmp_path / "x.npz")
        np.testing.assert_array_equal(samples.X, np.eye(3))
        assert samples.labels.tolist() == [0, 0, 1]

    def test_npz_without_labels_and_with_labels_of_another_name(self, tmp_path):
        np.savez(tmp_path / "x.npz", X=np.eye(2), kind=["ok", "bad"])
        assert read(tmp_path / "x.npz").labels is None
        assert read(tmp_path / "x.npz", label_column="kind").labels.tolist() == ["ok", "bad"]
        with pytest.raises(DataFileError, match=r"has the arrays .*'X', 'kind'"):
            read(tmp_path / "x.npz", label_column="y")

    def test_labels_for_other_samples(self, tmp_path):
        np.savez(tmp_path / "x.npz", X=np.eye(2), y=[1, 0, 1])
        with pytest.raises(DataFileError, match="labels of shape"):
            read(tmp_path / "x.npz")

    @pytest.mark.parametrize("content", [b"", b"no array", b"\x93NUMPY\x01\x00"])
    def test_damaged(self, content, tmp_path):
        (tmp_path / "x.npy").write_bytes(content)
        with pytest.raises(DataFileError, match="can not be read as an array") as caught:
            read(tmp_path / "x.npy")
        assert "trust" not in str(caught.value)

    @pytest.mark.parametrize("name", ["x.npy", "x.npz"])
    def test_images_are_resized(self, name, tmp_path):
        X = np.random.default_rng(0).integers(0, 256, size=(2, 6, 6), dtype=np.uint8)
        if name == "x.npy":
            np.save(tmp_path / name, X)
        else:
            np.savez(tmp_path / name, X=X)
        assert read(tmp_path / name).X.shape == (2, 6, 6)
        samples = read(tmp_path / name, image_size=(4, 3), channels=3)
        np.testing.assert_array_equal(samples.X, resized(X, (4, 3), 3))

    def test_objects_are_refused(self, tmp_path):
        np.save(tmp_path / "x.npy", np.array([{}]), allow_pickle=True)
        with pytest.raises(DataFileError, match="can not be read as an array"):
            read(tmp_path / "x.npy")

    def test_an_archive_under_the_name_of_an_array(self, tmp_path):
        np.savez(tmp_path / "x.npz", X=np.eye(2))
        (tmp_path / "x.npz").rename(tmp_path / "x.npy")
        with pytest.raises(DataFileError, match="not one array"):
            read(tmp_path / "x.npy")


class TestImages:
    def test_folders_are_labels(self, image_folder):
        samples = read(image_folder)
        assert isinstance(samples.X, ImageFiles)
        assert samples.labels.tolist() == ["flat"] * 8 + ["spot"] * 4
        assert samples.names[8] == "spot/08.png"

    def test_one_folder_is_no_label(self, image_folder):
        samples = read(image_folder / "spot", image_size=4)
        assert samples.labels is None
        assert samples.X[0].shape == (4, 4)

    def test_one_image(self, image_folder):
        samples = read(image_folder / "spot" / "08.png", channels=3)
        assert (len(samples), samples.X[0].shape) == (1, (8, 8, 3))


class TestLabels:
    def test_of_their_own_file(self, tmp_path, write):
        np.save(tmp_path / "x.npy", np.eye(3))
        np.save(tmp_path / "y.npy", [0, 1, 0])
        assert read(tmp_path / "x.npy", labels=tmp_path / "y.npy").labels.tolist() == [0, 1, 0]
        words = write("y.txt", "ok\nbad\nok\n")
        assert read(tmp_path / "x.npy", labels=words).labels.tolist() == ["ok", "bad", "ok"]
        numbers = write("y.txt", "0.5\n1\n2\n")
        assert read(tmp_path / "x.npy", labels=numbers).labels.tolist() == [0.5, 1, 2]

    def test_of_other_samples(self, tmp_path, write):
        np.save(tmp_path / "x.npy", np.eye(3))
        with pytest.raises(DataFileError, match=r"\(2,\) for 3 samples"):
            read(tmp_path / "x.npy", labels=write("y.txt", "1\n2\n"))

    def test_that_are_no_text(self, tmp_path):
        np.save(tmp_path / "x.npy", np.eye(3))
        (tmp_path / "y.txt").write_bytes("gut\nschön\ngut\n".encode("latin1"))
        with pytest.raises(DataFileError, match=r"y\.txt is not text in UTF-8"):
            read(tmp_path / "x.npy", labels=tmp_path / "y.txt")


@pytest.mark.parametrize(
    ("name", "options", "option"),
    [
        ("x.csv", {"image_size": 4}, "--image-size"),
        ("x.csv", {"channels": 1}, "--channels"),
        ("x.npy", {"image_size": 4}, "--image-size"),
        ("x.npy", {"label_column": "y"}, "--label-column"),
        ("x.npy", {"drop_columns": ["y"]}, "--drop-columns"),
        ("x.npy", {"delimiter": ";"}, "--delimiter"),
    ],
)
def test_an_option_without_effect_is_refused(name, options, option, tmp_path):
    np.save(tmp_path / "x.npy", np.eye(3))
    (tmp_path / "x.csv").write_text("1,2\n3,4\n")
    with pytest.raises(UsageError, match=option):
        read(tmp_path / name, **options)


def test_an_unknown_ending(write):
    with pytest.raises(UsageError, match=r"not one of \.npy, .*\.png"):
        read(write("x.doc", ""))


def test_taking_some_takes_all_that_belongs_to_them():
    samples = Samples(
        X=np.arange(6).reshape(3, 2),
        labels=np.array([0, 1, 2]),
        names=["a", "b", "c"],
        masks=["A", "B", "C"],
    ).take(np.array([2, 0]))
    assert samples.X.tolist() == [[4, 5], [0, 1]]
    assert (samples.labels.tolist(), samples.names, samples.masks) == (
        [2, 0],
        ["c", "a"],
        ["C", "A"],
    )
