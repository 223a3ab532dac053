import gzip
import io
import shutil
import sys
from argparse import Namespace
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from sklearn.utils import Bunch

from gandetect.cli.data import (
    Samples,
    anomalies,
    is_named,
    is_resizable,
    is_split_here,
    names_all,
    read_samples,
    resized,
    samples_to_score,
    training_samples,
)
from gandetect.cli.options import UsageError
from gandetect.data.images import ImageFiles
from gandetect.datasets import DataFileError, ImageFolder
from gandetect.datasets.catalogue import CATALOGUE

NONE_GIVEN = {
    **dict.fromkeys(("data_dir", "part", "label_column", "label_file", "id_column", "delimiter")),
    **dict.fromkeys(("decimal", "thousands", "encoding", "header", "image_size", "channels")),
    **dict.fromkeys(("bit_depth", "on_error")),
    **dict.fromkeys(("anomalous_class", "normal_class", "outlier_fraction", "n_train")),
    "data": "rows.csv",
    "download": False,
    "keep_aspect": False,
    "drop_columns": [],
    "missing": [],
    "seed": 0,
}


def given(**options):
    return Namespace(**{**NONE_GIVEN, **options})


def read(data, default_part="train", **options):
    return read_samples(given(data=str(data), **options), default_part)


def test_a_path(table):
    assert len(read(table, label_column="kind")) == 60


def test_digits(data_dir):
    samples = read("mnist", data_dir=data_dir)
    assert samples.X.shape == (80, 28, 28)
    assert samples.has_classes
    assert read("MNIST:test", data_dir=data_dir).X.shape == (40, 28, 28)


@pytest.mark.parametrize(
    ("name", "shape"),
    [("mnist", (4, 28, 28)), ("fashion-mnist", (4, 28, 28)), ("cifar10", (4, 32, 32, 3))],
)
def test_sizes_and_channels_of_published_images(name, shape, monkeypatch):
    X = np.random.default_rng(0).integers(0, 256, size=shape, dtype=np.uint8)
    monkeypatch.setenv("GANDETECT_DATA", "data")
    entry = replace(CATALOGUE[name], load=lambda *_, **__: Bunch(data=X, target=np.arange(4)))
    monkeypatch.setitem(CATALOGUE, name, entry)
    np.testing.assert_array_equal(read(name).X, X)
    np.testing.assert_array_equal(read(name, image_size=16).X, resized(X, 16))
    assert read(name, image_size=(20, 24), channels=1).X.shape == (4, 20, 24)
    assert read(name, channels=3).X.shape == (*shape[:3], 3)


def test_sizes_of_digits(data_dir):
    samples = read("mnist", data_dir=data_dir, image_size=32)
    np.testing.assert_array_equal(samples.X, resized(read("mnist", data_dir=data_dir).X, 32))
    assert len(samples.labels) == 80


def test_the_folder_of_the_environment(data_dir, monkeypatch):
    monkeypatch.setenv("GANDETECT_DATA", str(data_dir))
    samples = read("adbench:toy")
    assert samples.X.shape == (60, 4)
    assert samples.labels.sum() == 15


def test_connections(tmp_path):
    row = "0,tcp,http,SF" + ",0" * 37
    (tmp_path / "kddcup.data_10_percent").write_text(f"{row},normal.\n{row},smurf.\n")
    assert read("kddcup99", data_dir=tmp_path).labels.tolist() == [1, 0]
    samples = read("kddcup99:attack", data_dir=tmp_path)
    assert samples.labels.tolist() == [0, 1]
    assert samples.feature_names[0] == "duration"


@pytest.fixture
def mvtec(tmp_path):
    folder = tmp_path / "mvtec" / "nut"
    for name in ("train/good/0", "test/good/0", "test/bent/0", "ground_truth/bent/0_mask"):
        path = folder / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((6, 6), 255, dtype=np.uint8)).save(path)
    return tmp_path


def test_the_parts_of_mvtec(mvtec):
    train = read("mvtec:nut", data_dir=mvtec)
    assert (train.names, train.masks) == (["good/0.png"], None)
    test = read("mvtec:nut", "test", data_dir=mvtec, image_size=3)
    assert test.names == ["bent/0.png", "good/0.png"]
    assert test.labels.tolist() == [1, 0]
    assert test.masks[0].all()
    assert test.is_split
    assert len(read("mvtec:nut", data_dir=mvtec, part="test")) == 2


def test_categories_by_their_numbers(mvtec):
    (mvtec / "mvtec" / "nut").rename(mvtec / "mvtec" / "hazelnut")
    assert len(read("mvtec:11", data_dir=mvtec)) == 1
    (mvtec / "mvtec" / "hazelnut").rename(mvtec / "mvtec" / "3")
    assert len(read("mvtec:3", data_dir=mvtec)) == 1  # a folder of that name comes first


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        ("adbench", {}, "adbench needs the name of a set, .*; available: 99_toy"),
        ("mvtec", {}, "mvtec needs the name of a category"),
        ("mvtec:nut", {"part": "all"}, "--part train or --part test"),
        ("mnist", {"label_column": "y"}, "--label-column is for files"),
        ("adbench:toy", {"image_size": 8}, "--image-size and --channels do not apply to"),
        ("adbench:toy", {"bit_depth": 12}, "--bit-depth is for image files"),
        ("mnist", {"on_error": "skip"}, "--on-error is for image files"),
        ("mnist", {"keep_aspect": True}, "--keep-aspect needs --image-size"),
        ("kddcup99", {"channels": 1}, "--image-size and --channels do not apply to"),
        ("adbench:toy", {"download": True}, "--download is not available for adbench.*as adbench/"),
        (
            "mvtec:nut",
            {"download": True},
            "--download is not available for mvtec.*mvtec/<category>",
        ),
        ("mnist:valid", {}, "no mnist:valid, only mnist:train, mnist:test, mnist:all"),
        ("kddcup99:smurf", {}, "no kddcup99:smurf, only kddcup99:normal, kddcup99:attack"),
        ("mvtec:all", {}, "for fit and evaluate"),
        ("mvtec:15", {}, "numbered from 0 to 14"),
    ],
)
def test_what_does_not_fit_together(data, options, message, data_dir):
    with pytest.raises(UsageError, match=message):
        read(data, data_dir=data_dir, **options)


def test_only_data_sets_with_names_are_fetched(table):
    with pytest.raises(UsageError, match="--download"):
        read(table, label_column="kind", download=True)


def test_nothing_there(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"--data takes a path, - .*, or one of mnist, .*mvtec:"
    ):
        read(tmp_path / "x.csv")
    with pytest.raises(FileNotFoundError, match="CIFAR-10 is not in"):
        read("cifar10", data_dir=tmp_path)


def test_names():
    assert names_all("mvtec:all")
    assert names_all("MVTec:-1")
    assert not names_all("mvtec:bottle")
    assert not names_all("adbench:all")
    assert is_named("fashion_mnist")
    assert is_named("adbench:cardio")
    assert not is_named("./mnist")


@pytest.fixture
def write(tmp_path):
    def write(name, content):
        path = tmp_path / name
        path.write_text(content, encoding="utf-8")
        return path

    return write


class TestTables:
    def test_names_and_labels(self, write):
        samples = read(write("x.csv", "a,b,y\n1,2,0\n3,4.5,1\n"), label_column="y")
        np.testing.assert_array_equal(samples.X, [[1, 2], [3, 4.5]])
        assert samples.labels.tolist() == [0, 1]
        assert samples.labels.dtype.kind == "i"
        assert samples.feature_names == ["a", "b"]

    def test_without_names(self, write):
        samples = read(write("y.csv", "1,2,0\n3,4,1\n"), label_column="2")
        np.testing.assert_array_equal(samples.X, [[1, 2], [3, 4]])
        assert samples.labels.tolist() == [0, 1]
        assert samples.feature_names == []

    @pytest.mark.parametrize(
        ("content", "options"),
        [
            ("a|b\n1|2,5\n", {"delimiter": "|", "decimal": ","}),
            ("a;b\n1;2,5\n", {}),
            ("a,b\n?,2\n1,2.5\n", {"missing": ["?"], "drop_columns": ["a"]}),
            ("1,2.5\n", {"header": "no"}),
            ('a,b\n"1,000",2.5\n', {"thousands": ","}),
        ],
    )
    def test_how_the_text_is_written(self, content, options, write):
        assert read(write("x.csv", content), **options).X[-1, -1] == 2.5

    def test_another_encoding(self, tmp_path):
        (tmp_path / "x.csv").write_bytes("größe\n1\n".encode("latin-1"))
        with pytest.raises(ValueError, match=r"line 1 of .*--encoding latin-1"):
            read(tmp_path / "x.csv")
        assert read(tmp_path / "x.csv", encoding="latin-1").feature_names == ["größe"]

    def test_packed_and_standard_input(self, tmp_path, monkeypatch):
        content = gzip.compress(b"a,b\n1,2\n3,4\n")
        (tmp_path / "x.csv.gz").write_bytes(content)
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
        for source in (tmp_path / "x.csv.gz", "-", "-"):
            np.testing.assert_array_equal(read(source).X, [[1, 2], [3, 4]])

    def test_words_and_gaps_stay_in_their_columns(self, write):
        path = write("x.csv", 'id,"a,b",c,age\nT1,x,1,\nT2,y,2,5\n')
        samples = read(path, id_column="id")
        assert samples.X.names == ["a,b", "c", "age"]
        assert [samples.X.columns[i].tolist() for i in (0, 1)] == [["x", "y"], [1, 2]]
        assert samples.take(np.array([1])).X.columns[2].tolist() == [5]
        assert samples.take(np.array([1])).names == ["T2"]
        samples = read(path, drop_columns=["id", "1", "age"])
        assert samples.feature_names == ["c"]
        np.testing.assert_array_equal(samples.X, [[1], [2]])

    def test_an_identifier_is_kept_as_it_is_written(self, write):
        samples = read(write("x.csv", "id,a\n007,1\n8,2\n"), id_column="id")
        assert samples.names == ["007", "8"]
        assert samples.feature_names == ["a"]

    @pytest.mark.filterwarnings("ignore:the first column")
    def test_names_of_rows_but_for_numbers_that_count(self, write):
        assert read(write("x.csv", ",a\nx,1\ny,2\n")).names == ["x", "y"]
        assert read(write("x.csv", ",a\n0,1\n1,2\n")).names is None

    def test_an_unknown_column(self, write):
        path = write("x.csv", "a,b\n1,2\n")
        for option in ("label_column", "id_column"):
            with pytest.raises(UsageError, match="no column 'z', only a, b"):
                read(path, **{option: "z"})
        with pytest.raises(ValueError, match="has no feature columns"):
            read(path, drop_columns=["a", "b"])


class TestParquet:
    @pytest.fixture
    def folder(self, tmp_path):
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        folder = tmp_path / "rows.parquet"
        folder.mkdir()
        for i in range(2):
            table = pyarrow.table({"a": [i, 2], "kind": ["ok", "bad"], "b": [0.5, None]})
            parquet.write_table(table, folder / f"part-{i}.parquet")
        return folder

    def test_files_and_directories(self, folder):
        options = {"label_column": "kind", "drop_columns": ["b"]}
        samples = read(folder, **options)
        np.testing.assert_array_equal(samples.X, [[0], [2], [1], [2]])
        assert samples.labels.tolist() == ["ok", "bad"] * 2
        assert samples.feature_names == ["a"]
        np.testing.assert_array_equal(read(folder / "part-1.parquet", **options).X, [[1], [2]])

    def test_the_same_is_read_as_from_text(self, folder):
        table = read(folder).X
        assert table.names == ["a", "kind", "b"]
        assert table.columns[1].tolist() == ["ok", "bad"] * 2

    def test_damaged(self, write):
        pytest.importorskip("pyarrow")
        with pytest.raises(ValueError, match="Parquet"):
            read(write("x.parquet", "no such thing"))

    def test_without_pyarrow(self, write, monkeypatch):
        monkeypatch.setitem(sys.modules, "pyarrow", None)
        with pytest.raises(ImportError, match=r"gandetect\[arrow\]"):
            read(write("x.parquet", ""))


class TestArrays:
    def test_a_table_with_names_alone_is_named(self, write):
        with pytest.raises(ValueError, match=r"x\.csv has no rows below .*columns \(a, b\)"):
            read(write("x.csv", "a,b\n"))

    @pytest.mark.parametrize("name", ["none.npy", "none.npz"])
    def test_an_array_without_a_sample_is_named(self, name, tmp_path):
        X = np.empty((0, 3))
        if name == "none.npy":
            np.save(tmp_path / name, X)
        else:
            np.savez(tmp_path / name, X=X)
        with pytest.raises(ValueError, match=rf"{name} contains no samples"):
            read(tmp_path / name)

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
        with pytest.raises(DataFileError, match="cannot be read as an array") as caught:
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
        with pytest.raises(DataFileError, match="cannot be read as an array"):
            read(tmp_path / "x.npy")

    def test_an_archive_under_the_name_of_an_array(self, tmp_path):
        np.savez(tmp_path / "x.npz", X=np.eye(2))
        (tmp_path / "x.npz").rename(tmp_path / "x.npy")
        with pytest.raises(DataFileError, match="is not an array of samples"):
            read(tmp_path / "x.npy")


class TestImages:
    def test_folders_are_labels(self, image_folder):
        samples = read(image_folder)
        assert isinstance(samples.X, ImageFiles)
        assert samples.labels.tolist() == ["flat"] * 8 + ["spot"] * 4
        assert samples.names[8] == "spot/08.png"

    def test_one_folder_is_a_label_where_an_option_asks_for_it(self, image_folder):
        samples = read(image_folder / "spot", image_size=4)
        assert samples.labels is None
        assert training_samples(samples, given()) is samples
        assert samples.X[0].shape == (4, 4)
        samples = read(image_folder / "spot", normal_class=["flat"])
        assert samples.labels.tolist() == ["spot"] * 4

    def test_a_folder_above_the_images_may_be_named(self, image_folder, tmp_path):
        for name in ("good/day", "bad/day", "bad/night"):
            (tmp_path / name).mkdir(parents=True)
            shutil.copy(image_folder / "flat" / "00.png", tmp_path / name)
        samples = read(tmp_path, normal_class=["good"])
        assert anomalies(samples, given(normal_class=["good"])).tolist() == [True, True, False]

    def test_one_image(self, image_folder):
        samples = read(image_folder / "spot" / "08.png", channels=3)
        assert (len(samples), samples.X[0].shape) == (1, (8, 8, 3))

    def test_a_folder_of_normal_images_alone(self, image_folder, tmp_path):
        shutil.copytree(image_folder / "flat", tmp_path / "train" / "good")
        shutil.copytree(image_folder / "spot", tmp_path / "test" / "bad")
        named = given(normal_class=["good"])
        for options in ({}, {"normal_class": ["good"]}):
            samples = read(tmp_path / "train", **options)
            assert len(training_samples(samples, given(**options))) == 8
        samples = read(tmp_path / "test", normal_class=["good"])
        assert anomalies(samples, named).tolist() == [True] * 4

    def test_names_that_tell_what_is_normal(self, image_folder, tmp_path):
        shutil.copytree(image_folder / "flat", tmp_path / "ok")
        shutil.copytree(image_folder / "spot", tmp_path / "dent")
        samples = read(tmp_path)
        assert len(training_samples(samples, given())) == 8
        assert anomalies(samples, given()).sum() == 4

    def test_folders_of_0_and_1(self, image_folder, tmp_path):
        shutil.copytree(image_folder / "flat", tmp_path / "0")
        shutil.copytree(image_folder / "spot", tmp_path / "1")
        samples = read(tmp_path)
        assert samples.labels.tolist() == [0] * 8 + [1] * 4
        assert anomalies(samples, given()).sum() == 4

    def test_masks_beside_good_and_bad(self, image_folder, tmp_path):
        shutil.copytree(image_folder / "flat", tmp_path / "good")
        shutil.copytree(image_folder / "spot", tmp_path / "bad")
        shutil.copytree(image_folder / "spot", tmp_path / "ground_truth" / "bad")
        for options in ({}, {"normal_class": ["good"]}, {"anomalous_class": ["bad"]}):
            samples = read(tmp_path, **options)
            assert len(samples) == 12
            assert anomalies(samples, given(**options)).sum() == 4
            is_marked = [bool(mask.any()) for mask in samples.masks]
            assert is_marked == anomalies(samples, given(**options)).tolist()

    @pytest.mark.parametrize("names", [("Train", "Test"), ("training", "testing")])
    def test_parts_by_other_names(self, mvtec, names):
        folder = mvtec / "mvtec" / "nut"
        for part, name in zip(("train", "test"), names, strict=True):
            (folder / part).rename(folder / name)
        assert read(folder).names == ["good/0.png"]
        assert read(folder, "test").names == ["bent/0.png", "good/0.png"]

    def test_images_in_a_folder_below_their_class(self, mvtec):
        folder = mvtec / "mvtec" / "nut"
        for name in ("good", "bent"):
            (folder / "test" / name).rename(folder / "images")
            (folder / "test" / name).mkdir()
            (folder / "images").rename(folder / "test" / name / "images")
        test = read(folder, "test", normal_class=["good"])
        assert test.names == ["bent/images/0.png", "good/images/0.png"]
        assert test.labels.tolist() == ["bent", "good"]

    def test_visa_as_published(self, mvtec):
        folder, images = mvtec / "visa" / "nut", "nut/Data/Images"
        nut = mvtec / "mvtec" / "nut"
        for source, target in (
            ("train/good/0.png", "Images/Normal/0.png"),
            ("test/good/0.png", "Images/Normal/1.png"),
            ("test/bent/0.png", "Images/Anomaly/0.png"),
            ("ground_truth/bent/0_mask.png", "Masks/Anomaly/0.png"),
        ):
            (folder / "Data" / target).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(nut / source, folder / "Data" / target)
        (mvtec / "visa" / "split_csv").mkdir()
        (mvtec / "visa" / "split_csv" / "1cls.csv").write_text(
            "object,split,label,image,mask\n"
            f"nut,train,normal,{images}/Normal/0.png,\n"
            f"nut,test,normal,{images}/Normal/1.png,\n"
            f"nut,test,anomaly,{images}/Anomaly/0.png,nut/Data/Masks/Anomaly/0.png\n"
        )
        assert read(folder).names == ["Normal/0.png"]
        test = read(folder, "test")
        assert (test.names, test.labels.tolist()) == (["Normal/1.png", "Anomaly/0.png"], [0, 1])
        assert [int(mask.sum()) for mask in test.masks] == [0, 36]

    def test_masks_beside_images_without_labels(self, mvtec, tmp_path):
        nut = mvtec / "mvtec" / "nut"
        for name in ("a.png", "a_GT.png", "b.png"):
            (tmp_path / "flat").mkdir(exist_ok=True)
            shutil.copy(nut / "train" / "good" / "0.png", tmp_path / "flat" / name)
        with pytest.warns(UserWarning, match=r"1 images in .* are left out.*masks.*a_GT\.png"):
            assert read(tmp_path / "flat").names == ["a.png", "b.png"]

    def test_a_missing_mask_leaves_the_labels(self, mvtec):
        nut = mvtec / "mvtec" / "nut"
        shutil.copy(nut / "test" / "bent" / "0.png", nut / "test" / "bent" / "1.png")
        with pytest.warns(UserWarning, match=r"no masks are read.*bent/1\.png has no mask"):
            test = read(nut, "test")
        assert (test.labels.tolist(), test.masks) == ([1, 1, 0], None)

    def test_a_category_by_its_path(self, mvtec):
        folder = mvtec / "mvtec" / "nut"
        train = read(folder)
        assert (train.names, train.masks, train.is_split) == (["good/0.png"], None, True)
        test = read(folder, "test", image_size=3)
        assert (test.names, test.labels.tolist()) == (["bent/0.png", "good/0.png"], [1, 0])
        assert test.masks[0].shape == (3, 3)
        named = read(folder, "test", normal_class=["good"])
        assert anomalies(named, given(normal_class=["good"])).tolist() == [True, False]
        with pytest.raises(UsageError, match="a training and a test part"):
            read(folder, part="all")

    def test_parts_of_classes_are_no_category(self, image_folder, tmp_path):
        for part in ("train", "test"):
            shutil.copytree(image_folder, tmp_path / part)
        samples = read(tmp_path, normal_class=["flat"])
        assert (len(samples), samples.is_split) == (24, False)
        assert anomalies(samples, given(normal_class=["flat"])).sum() == 8

    def test_files_that_cannot_be_read(self, image_folder, tmp_path):
        shutil.copytree(image_folder / "flat", tmp_path / "good")
        (tmp_path / "good" / "00.png").write_bytes(b"no image")
        with pytest.raises(DataFileError, match=r"00\.png"):
            read(tmp_path).X.stack()
        with pytest.warns(UserWarning, match=r"1 of 8 images cannot be read"):
            samples = read(tmp_path, on_error="skip")
        assert (len(samples), samples.names[0], len(samples.labels)) == (7, "good/01.png", 7)

    def test_the_aspect_and_the_levels_are_kept(self, tmp_path):
        Image.fromarray(np.full((4, 8), 4095, dtype=np.uint16)).save(tmp_path / "x.png")
        assert read(tmp_path).X[0].dtype == np.uint16
        samples = read(tmp_path, image_size=4, bit_depth=12)
        np.testing.assert_array_equal(samples.X[0], np.full((2, 4), 255, dtype=np.uint8))

    def test_settings_of_a_model_hold_where_the_options_say_nothing(self, image_folder, tmp_path):
        np.save(tmp_path / "x.npy", np.zeros((3, 8, 8), dtype=np.uint8))
        np.save(tmp_path / "rows.npy", np.eye(3))
        fitted = {"image_size": 4, "channels": 3, "bit_depth": "auto", "keep_aspect": False}
        for data in (image_folder, tmp_path / "x.npy"):
            options = given(data=str(data))
            samples = read_samples(options, "test", image_settings=fitted)
            assert samples.X[0].shape == (4, 4, 3)
            options.image_size = 6
            samples = read_samples(options, "test", image_settings=fitted)
            assert samples.X[0].shape == (6, 6, 3)
        options.image_size = 4
        assert not read_samples(options, "test", image_settings=fitted).image_settings[
            "keep_aspect"
        ]
        rows = read_samples(given(data=str(tmp_path / "rows.npy")), "test", image_settings=fitted)
        assert rows.X.shape == (3, 3)


class TestLabels:
    def test_of_their_own_file(self, tmp_path, write):
        np.save(tmp_path / "x.npy", np.eye(3))
        np.save(tmp_path / "y.npy", [0, 1, 0])
        assert read(tmp_path / "x.npy", label_file=tmp_path / "y.npy").labels.tolist() == [0, 1, 0]
        words = write("y.txt", "ok\nbad\nok\n")
        assert read(tmp_path / "x.npy", label_file=words).labels.tolist() == ["ok", "bad", "ok"]
        words = write("y.txt", "kind\nok\nbad\nok\n")
        assert read(tmp_path / "x.npy", label_file=words).labels.tolist() == ["ok", "bad", "ok"]
        numbers = write("y.txt", "0.5\n1\n2\n")
        assert read(tmp_path / "x.npy", label_file=numbers).labels.tolist() == [0.5, 1, 2]

    def test_of_other_samples(self, tmp_path, write):
        np.save(tmp_path / "x.npy", np.eye(3))
        with pytest.raises(ValueError, match=r"\(2,\) for 3 samples"):
            read(tmp_path / "x.npy", label_file=write("y.txt", "1\n2\n"))

    def test_that_are_no_text(self, tmp_path):
        np.save(tmp_path / "x.npy", np.eye(3))
        (tmp_path / "y.txt").write_bytes("gut\nschön\ngut\n".encode("latin1"))
        with pytest.raises(ValueError, match=r"line 2 of .*y\.txt is not text in UTF-8"):
            read(tmp_path / "x.npy", label_file=tmp_path / "y.txt")


@pytest.mark.parametrize(
    ("name", "options", "option"),
    [
        ("x.csv", {"image_size": 4}, "--image-size"),
        ("x.csv", {"channels": 1}, "--channels"),
        ("x.npy", {"image_size": 4}, "--image-size"),
        ("x.npy", {"image_size": 4, "keep_aspect": True}, "--image-size"),
        ("x.npy", {"bit_depth": 12}, "--bit-depth"),
        ("x.csv", {"on_error": "skip"}, "--on-error"),
        ("x.npy", {"label_column": "y"}, "--label-column"),
        ("x.npy", {"drop_columns": ["y"]}, "--drop-columns"),
        ("x.npy", {"delimiter": ";"}, "--delimiter"),
        ("x.npy", {"id_column": "a"}, "--id-column"),
        ("x.npy", {"missing": ["?"]}, "--missing"),
        ("x.npy", {"decimal": ","}, "--decimal"),
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


def samples_of(labels, **about):
    labels = None if labels is None else np.asarray(labels)
    return Samples(X=np.arange(100).reshape(100, 1), labels=labels, **about)


CLASSES = np.repeat(["a", "b", "c", "d"], 25)
BINARY = np.repeat([0, 1], [80, 20])


class TestAnomalies:
    @pytest.mark.parametrize(
        "labels",
        [
            *(
                BINARY,
                BINARY.astype(bool),
                1 - 2 * BINARY,
                BINARY.astype(float),
                BINARY.astype(str),
            ),
            np.where(BINARY, "Fraud", "Normal"),
            np.where(BINARY, "anomaly", "normal").astype(object),
            np.where(BINARY, "TRUE", "FALSE"),
        ],
    )
    def test_labels_that_tell(self, labels):
        np.testing.assert_array_equal(anomalies(samples_of(labels), given()), BINARY == 1)

    def test_classes(self):
        samples = samples_of(CLASSES)
        expected = np.isin(CLASSES, ["b", "d"])
        for options in ({"anomalous_class": ["b", "d"]}, {"normal_class": ["a", "c"]}):
            np.testing.assert_array_equal(anomalies(samples, given(**options)), expected)

    def test_classes_by_number_and_by_name(self):
        samples = samples_of(np.repeat([0, 1], 50), class_names=("cat", "dog"))
        for name in ("1", "dog"):
            is_anomaly = anomalies(samples, given(anomalous_class=[name]))
            assert is_anomaly.tolist() == [False] * 50 + [True] * 50

    @pytest.mark.parametrize(
        ("labels", "options", "message"),
        [
            (None, {}, "rows.csv has no labels"),
            (
                CLASSES,
                {},
                r"labels of rows.csv are a \(25\), .*; define the anomalies by --anomalous-class",
            ),
            (
                np.zeros(100),
                {},
                r"are 0 \(100\), and there must be .* as well as anomalies; define",
            ),
            (np.append(BINARY[1:], np.nan), {}, "1 of 100 labels of rows.csv are missing"),
            (np.array(["yes", "no"]), {}, r"are yes \(1\), no \(1\); define"),
            (CLASSES, {"normal_class": ["e"]}, "class 'e' is not in the labels, which are a, b"),
        ],
    )
    def test_labels_that_do_not_tell(self, labels, options, message):
        with pytest.raises(UsageError, match=message):
            anomalies(samples_of(labels), given(**options))


class TestFiles:
    def test_all_of_a_file_is_used(self):
        for labels in (None, CLASSES, np.zeros(100), BINARY):
            samples = samples_of(labels)
            assert training_samples(samples, given(part="all")) is samples
            assert samples_to_score(samples, given()) is samples
        samples = samples_of(None)
        assert training_samples(samples, given()) is samples

    def test_labels_that_do_not_tell_are_not_trained_on_as_normal(self):
        with pytest.raises(UsageError, match=r"a \(25\).*--part all fits to all samples"):
            training_samples(samples_of(CLASSES), given())

    def test_one_normal_class_is_told(self):
        for label in (0, "normal"):
            samples = samples_of(np.repeat(label, 100))
            with pytest.warns(UserWarning, match=rf"all labels of rows.csv are {label} \(100\)"):
                assert training_samples(samples, given()) is samples

    @pytest.mark.parametrize("label", [1, -1, "fraud", "x"])
    def test_one_class_that_may_be_anomalous_is_refused(self, label):
        samples = samples_of(np.repeat(label, 100))
        with pytest.raises(UsageError, match=rf"are {label} \(100\), and there must be normal"):
            training_samples(samples, given())
        assert len(training_samples(samples, given(normal_class=[str(label)]))) == 100
        with pytest.raises(UsageError, match="no normal samples for training"):
            training_samples(samples, given(anomalous_class=[str(label)]))

    def test_an_anomalous_class_that_is_not_there_is_told(self):
        samples = samples_of(np.repeat("ok", 100))
        with pytest.warns(UserWarning, match=r"no sample of rows.csv is bad: ok \(100\)"):
            assert len(training_samples(samples, given(anomalous_class=["bad"]))) == 100

    def test_images_of_several_folders_are_told(self, image_folder):
        samples = read(image_folder)
        with pytest.warns(UserWarning, match=r"flat \(8\), spot \(4\); --normal-class"):
            assert training_samples(samples, given()) is samples

    def test_images_of_a_test_part_are_told(self, image_folder, tmp_path):
        for part in ("train/good", "test/good", "test/bad"):
            shutil.copytree(image_folder / "flat", tmp_path / "nut" / part)
        with pytest.warns(
            UserWarning, match=r"8 of the 16 training images are in a folder test of"
        ):
            kept = training_samples(read(tmp_path), given(data=str(tmp_path)))
        assert len(kept) == 16
        assert len(training_samples(read(tmp_path / "nut"), given())) == 8

    @pytest.mark.parametrize("labels", [BINARY, BINARY.astype(bool), 1 - 2 * BINARY])
    def test_a_fit_leaves_out_what_is_labelled_an_anomaly(self, labels):
        kept = training_samples(samples_of(labels), given())
        assert kept.X.ravel().tolist() == list(range(80))

    def test_a_fit_takes_the_normal_ones_that_are_named(self):
        kept = training_samples(samples_of(CLASSES), given(anomalous_class=["a"]))
        assert kept.X.ravel().tolist() == list(range(25, 100))

    @pytest.mark.parametrize(
        ("labels", "options", "n_train", "n_test", "n_anomalous"),
        [
            (CLASSES, {"anomalous_class": ["a"]}, 60, 40, 25),
            (CLASSES, {"normal_class": ["a"], "n_train": 10}, 10, 90, 75),
            (CLASSES, {"anomalous_class": ["a"], "outlier_fraction": 0.25}, 60, 20, 5),
            (BINARY, {}, 40, 60, 20),
            (BINARY, {"outlier_fraction": 0.2}, 40, 50, 10),
        ],
    )
    def test_parts(self, labels, options, n_train, n_test, n_anomalous):
        samples = samples_of(labels)
        train = training_samples(samples, given(part="train", **options))
        test = samples_to_score(samples, given(part="test", **options))
        assert (len(train), len(test)) == (n_train, n_test)
        assert not set(train.X.ravel()) & set(test.X.ravel())
        is_anomaly = dict(enumerate(anomalies(samples, given(**options_of_classes(options)))))
        assert not any(is_anomaly[row] for row in train.X.ravel())
        assert sum(is_anomaly[row] for row in test.X.ravel()) == n_anomalous

    def test_what_leaves_a_test_part(self):
        assert is_split_here(samples_of(BINARY), given(part="train"))
        assert is_split_here(samples_of(BINARY), given(data="adbench:x"))
        assert not is_split_here(samples_of(BINARY), given())
        assert not is_split_here(samples_of(BINARY, is_split=True), given(data="mvtec:x"))

    def test_the_seed_decides_the_split(self):
        samples = samples_of(BINARY)
        first, again, other = (
            training_samples(samples, given(part="train", seed=seed)).X.ravel().tolist()
            for seed in (0, 0, 1)
        )
        assert first == again != other

    def test_a_share_without_a_split(self):
        with pytest.raises(UsageError, match="--outlier-fraction needs a split"):
            samples_to_score(samples_of(BINARY), given(outlier_fraction=0.2))


def options_of_classes(options):
    return {name: value for name, value in options.items() if name.endswith("class")}


class TestNamedDataSets:
    def test_parts_are_the_default(self):
        samples = samples_of(BINARY)
        assert len(training_samples(samples, given(data="adbench:x"))) == 40
        assert len(samples_to_score(samples, given(data="adbench:x"))) == 60
        assert len(samples_to_score(samples, given(data="adbench:x", part="all"))) == 100

    def test_classes_must_be_chosen_to_fit(self):
        samples = samples_of(CLASSES, has_classes=True)
        with pytest.raises(UsageError, match="mnist has classes"):
            training_samples(samples, given(data="mnist"))
        assert training_samples(samples, given(data="mnist", part="all")) is samples
        assert samples_to_score(samples, given(data="mnist")) is samples

    def test_a_published_split_stays(self):
        samples = samples_of(BINARY, is_split=True)
        assert training_samples(samples, given(data="mvtec:nut")) is samples
        assert samples_to_score(samples, given(data="mvtec:nut")) is samples


GREY = np.random.default_rng(0).integers(0, 256, size=(3, 9, 7), dtype=np.uint8)
COLOUR = np.random.default_rng(1).integers(0, 256, size=(3, 9, 7, 3), dtype=np.uint8)
SIZES = [(None, None), (5, None), ((12, 20), None), (None, 1), (None, 3), (5, 1), ((4, 8), 3)]


@pytest.mark.parametrize(("size", "channels"), SIZES)
@pytest.mark.parametrize("X", [GREY, COLOUR], ids=["grey", "colour"])
def test_bytes_are_what_files_would_be(X, size, channels, tmp_path):
    for i, image in enumerate(X):
        Image.fromarray(image).save(tmp_path / f"{i}.png")
    expected = ImageFolder(tmp_path, size, channels=channels).stack()
    found = resized(X, size, channels)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected)
    # Other numbers in the same way, but for the rounding: of weights, and of each of two passes.
    of_floats = resized(X.astype(float), size, channels)
    assert of_floats.shape == expected.shape
    np.testing.assert_allclose(of_floats, expected, atol=2)


def test_other_integers_are_what_files_would_be(tmp_path):
    X = np.random.default_rng(0).integers(0, 65536, size=(2, 9, 7), dtype=np.uint16)
    for i, image in enumerate(X):
        Image.fromarray(image).save(tmp_path / f"{i}.png")
    found = resized(X, 5)
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, ImageFolder(tmp_path, 5).stack())


@pytest.mark.parametrize("X", [GREY, COLOUR, np.moveaxis(COLOUR, -1, 1)])
def test_the_aspect_is_kept(X):
    found = resized(X, 18, keep_aspect=True)
    assert found.shape == tuple({9: 18, 7: 14}.get(side, side) for side in X.shape)


def test_channels_stay_where_they_are():
    first = np.moveaxis(COLOUR, -1, 1)
    np.testing.assert_array_equal(resized(first, 5), np.moveaxis(resized(COLOUR, 5), -1, 1))
    np.testing.assert_array_equal(resized(first, 5, 1), resized(COLOUR, 5, 1))


def test_one_channel_is_grey():
    for with_axis in (GREY[..., None], GREY[:, None]):
        np.testing.assert_array_equal(resized(with_axis, 5), resized(GREY, 5))
        assert resized(with_axis, (5, 5), 3).shape in ((3, 5, 5, 3), (3, 3, 5, 5))


def test_a_side_keeps_the_aspect_of_arrays():
    assert resized(np.zeros((2, 8, 4)), 6).shape == (2, 6, 3)
    assert resized(np.zeros((2, 8, 4)), 6, keep_aspect=False).shape == (2, 6, 6)


def test_values_are_kept():
    half = np.full((2, 4, 4, 3), 0.5)
    np.testing.assert_allclose(resized(half, 7), 0.5)
    np.testing.assert_allclose(resized(half, 7, 1), 0.5)
    assert resized(half[:0], 7).shape[0] == 0


@pytest.mark.parametrize(
    ("shape", "dtype", "expected"),
    [
        ((2, 5, 5), float, True),
        ((2, 5, 5, 3), np.uint8, True),
        ((2, 3, 5, 5), np.int16, True),
        ((2, 1, 5, 5), bool, True),
        ((2, 5), float, False),
        ((2, 5, 5, 2), float, False),
        ((2, 5, 5), "U1", False),
        ((2, 5, 5, 3, 1), float, False),
    ],
)
def test_what_images_are(shape, dtype, expected):
    assert is_resizable(np.zeros(shape, dtype=dtype)) is expected
