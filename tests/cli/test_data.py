from argparse import Namespace

import numpy as np
import pytest
from sklearn.utils import Bunch

from gandetect.cli import data as data_module
from gandetect.cli.data import is_named, read_samples
from gandetect.cli.options import UsageError
from gandetect.cli.resizing import resized

NONE_GIVEN = {
    "data_dir": None,
    "download": False,
    "part": None,
    "label_column": None,
    "labels": None,
    "drop_columns": [],
    "delimiter": None,
    "image_size": None,
    "channels": None,
}


def read(data, default_part="train", **options):
    return read_samples(Namespace(data=str(data), **{**NONE_GIVEN, **options}), default_part)


def test_a_path(table):
    assert len(read(table, label_column="kind")) == 60


def test_digits(data_dir):
    samples = read("mnist", data_dir=data_dir)
    assert samples.X.shape == (80, 28, 28)
    assert samples.has_classes
    assert read("MNIST:test", data_dir=data_dir).X.shape == (40, 28, 28)


@pytest.mark.parametrize(
    ("name", "shape"),
    [("mnist", (4, 28, 28)), ("fashion_mnist", (4, 28, 28)), ("cifar10", (4, 32, 32, 3))],
)
def test_sizes_and_channels_of_published_images(name, shape, monkeypatch):
    X = np.random.default_rng(0).integers(0, 256, size=shape, dtype=np.uint8)
    read_classes = data_module._classes(name, lambda *_, **__: Bunch(data=X, target=np.arange(4)))
    assert name.replace("_", "-") in data_module._NAMED
    monkeypatch.setitem(data_module._NAMED, name.replace("_", "-"), read_classes)
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
    from PIL import Image

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
        ("adbench", {}, "adbench needs the name of a set, .*; there are 99_toy"),
        ("mvtec", {}, "mvtec needs the name of a category"),
        ("mvtec:nut", {"part": "all"}, "--part train or --part test"),
        ("mnist", {"label_column": "y"}, "--label-column is for files"),
        ("adbench:toy", {"image_size": 8}, "--image-size and --channels have no meaning"),
        ("kddcup99", {"channels": 1}, "--image-size and --channels have no meaning"),
        ("adbench:toy", {"download": True}, "--download cannot fetch adbench.*as adbench/"),
        ("mvtec:nut", {"download": True}, "--download cannot fetch mvtec.*mvtec/<category>"),
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
    with pytest.raises(FileNotFoundError, match=r"--data takes a path or one of mnist, .*mvtec:"):
        read(tmp_path / "x.csv")
    with pytest.raises(FileNotFoundError, match="CIFAR-10 is not in"):
        read("cifar10", data_dir=tmp_path)


def test_names():
    assert is_named("fashion_mnist")
    assert is_named("adbench:cardio")
    assert not is_named("./mnist")
