import gzip
import hashlib
import struct

import numpy as np
import pytest

from gandetect.datasets import DataFileError, load_fashion_mnist, load_mnist, mnist
from gandetect.datasets.download import RemoteFile

TRAIN_LABELS = [3, 1, 4]
TEST_LABELS = [1, 5]


def _images(n, first=0):
    return (np.arange(n * 784) + first).astype(np.uint8).reshape(n, 28, 28)


def _idx_files(train_labels=TRAIN_LABELS, test_labels=TEST_LABELS):
    """The four published files, with few images."""
    files = {}
    for part, labels in (("train", train_labels), ("t10k", test_labels)):
        n = len(labels)
        head = bytes([0, 0, 8, 3]) + struct.pack(">3I", n, 28, 28)
        files[f"{part}-images-idx3-ubyte"] = head + _images(n, first=n).tobytes()
        files[f"{part}-labels-idx1-ubyte"] = (
            bytes([0, 0, 8, 1]) + struct.pack(">I", n) + bytes(labels)
        )
    return files


def _write(folder, files, packed=False):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        path = folder / (f"{name}.gz" if packed else name)
        path.write_bytes(gzip.compress(content) if packed else content)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize(
    ("load", "subfolder"),
    [
        (load_mnist, "."),
        (load_mnist, "mnist"),
        (load_mnist, "MNIST/raw"),
        (load_fashion_mnist, "."),
        (load_fashion_mnist, "fashion-mnist"),
        (load_fashion_mnist, "FashionMNIST/raw"),
    ],
)
def test_idx_files_in_every_known_place(tmp_path, load, subfolder, packed):
    _write(tmp_path / subfolder, _idx_files(), packed)
    whole = load(tmp_path)
    assert whole.data.dtype == np.uint8
    assert whole.target.dtype == np.int64
    assert whole.target.tolist() == [3, 1, 4, 1, 5]
    np.testing.assert_array_equal(whole.data[:3], _images(3, first=3))
    np.testing.assert_array_equal(whole.data[3:], _images(2, first=2))
    assert load(tmp_path, split="train").target.tolist() == TRAIN_LABELS
    assert load(tmp_path, split="test").target.tolist() == TEST_LABELS


def test_names_of_the_fashion_classes(tmp_path):
    _write(tmp_path, _idx_files())
    fashion = load_fashion_mnist(tmp_path)
    assert len(fashion.target_names) == 10
    assert fashion.target_names[5] == "sandal"


def test_the_environment_names_the_folder(tmp_path, monkeypatch):
    _write(tmp_path / "mnist", _idx_files())
    monkeypatch.setenv("GANDETECT_DATA", str(tmp_path))
    assert load_mnist().target.tolist() == [3, 1, 4, 1, 5]


def test_one_part_needs_only_its_own_files(tmp_path):
    _write(tmp_path, {k: v for k, v in _idx_files().items() if k.startswith("t10k")})
    assert load_mnist(tmp_path, split="test").target.tolist() == TEST_LABELS
    with pytest.raises(FileNotFoundError, match=r"train-images-idx3-ubyte\[\.gz\] is missing"):
        load_mnist(tmp_path, split="train")


def test_npz_with_a_split_array_in_any_order(tmp_path):
    images = _images(4)
    np.savez(tmp_path / "mnist.npz", x=images, y=[7, 8, 9, 0], split=[1, 0, 1, 0])
    assert load_mnist(tmp_path).target.tolist() == [8, 0, 7, 9]
    test = load_mnist(tmp_path, split="test")
    np.testing.assert_array_equal(test.data, images[[0, 2]])


def test_npz_as_keras_publishes_it(tmp_path):
    np.savez(
        tmp_path / "mnist.npz",
        x_train=_images(2),
        y_train=[1, 2],
        x_test=_images(1, first=5),
        y_test=[3],
    )
    whole = load_mnist(tmp_path)
    assert whole.target.tolist() == [1, 2, 3]
    np.testing.assert_array_equal(whole.data[2], _images(1, first=5)[0])


@pytest.mark.parametrize(
    "arrays",
    [
        {"x": _images(2), "y": [1, 2], "split": [0, 2]},
        {"x": _images(2), "y": [1, 2], "split": [0]},
        {"x": _images(2), "y": [1, 10], "split": [0, 1]},
        {"x": _images(2), "y": [1], "split": [0]},
        {"x": _images(2) / 255, "y": [1, 2], "split": [0, 1]},
        {"x": _images(2).reshape(2, 784), "y": [1, 2], "split": [0, 1]},
        {"x": _images(2), "y": [1, 2]},
    ],
)
def test_mislabelled_npz(tmp_path, arrays):
    np.savez(tmp_path / "mnist.npz", **arrays)
    with pytest.raises(DataFileError, match=r"mnist\.npz"):
        load_mnist(tmp_path)


def test_images_and_labels_mixed_up(tmp_path):
    files = _idx_files()
    images, labels = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
    files[images], files[labels] = files[labels], files[images]
    _write(tmp_path, files)
    with pytest.raises(DataFileError, match="may be interchanged"):
        load_mnist(tmp_path)


def test_labels_of_another_part(tmp_path):
    files = _idx_files()
    files["train-labels-idx1-ubyte"] = files["t10k-labels-idx1-ubyte"]
    _write(tmp_path, files)
    with pytest.raises(DataFileError, match="one label of 0 to 9 for each of 3 images"):
        load_mnist(tmp_path)


@pytest.mark.parametrize(
    ("load", "other", "part", "labels"),
    [
        (load_fashion_mnist, "MNIST", "train_labels", [5, 0, 4, 1, 9, 2, 1, 3, 1, 4, 3]),
        (load_fashion_mnist, "MNIST", "test_labels", [7, 2, 1, 0, 4, 1, 4, 9, 5, 9, 0]),
        (load_mnist, "Fashion-MNIST", "train_labels", [9, 0, 0, 3, 0, 2, 7, 2, 5, 5, 0]),
        (load_mnist, "Fashion-MNIST", "test_labels", [9, 2, 1, 1, 6, 1, 4, 6, 5, 7, 4]),
    ],
)
def test_files_of_the_other_data_set_of_the_same_names(tmp_path, load, other, part, labels):
    _write(tmp_path, _idx_files(**{part: labels}))
    with pytest.raises(DataFileError, match=f"is a file of {other}, not of"):
        load(tmp_path)


@pytest.mark.parametrize("load", [load_mnist, load_fashion_mnist])
def test_missing_files_say_what_to_put_where(tmp_path, load):
    with pytest.raises(FileNotFoundError, match=r"t10k-labels-idx1-ubyte\.gz into .*download=True"):
        load(tmp_path)


@pytest.mark.parametrize("load", [load_mnist, load_fashion_mnist])
def test_unknown_split(tmp_path, load):
    with pytest.raises(ValueError, match="all, train, test, got 'valid'"):
        load(tmp_path, split="valid")


@pytest.mark.parametrize(
    ("load", "table", "subfolder"),
    [
        (load_mnist, "MNIST_FILES", "mnist"),
        (load_fashion_mnist, "FASHION_MNIST_FILES", "fashion-mnist"),
    ],
)
def test_download_fetches_what_is_missing(tmp_path, monkeypatch, load, table, subfolder):
    published = tmp_path / "published"
    _write(published, _idx_files(), packed=True)
    remote = {
        path.stem: RemoteFile(
            path.name, path.as_uri(), f"md5:{hashlib.md5(path.read_bytes()).hexdigest()}"
        )
        for path in published.iterdir()
    }
    monkeypatch.setattr(mnist, table, remote)
    assert load(tmp_path / "data", download=True).target.tolist() == [3, 1, 4, 1, 5]
    assert len(list((tmp_path / "data" / subfolder).iterdir())) == 4


@pytest.mark.parametrize("table", [mnist.MNIST_FILES, mnist.FASHION_MNIST_FILES])
def test_published_files_are_complete(table):
    names = [f"{part}-{kind}" for part in ("train", "t10k") for kind in ("images", "labels")]
    assert sorted(name.partition("-idx")[0] for name in table) == sorted(names)
    assert len({remote.checksum for remote in table.values()}) == 4
    assert all(len(remote.checksum) == len("md5:") + 32 for remote in table.values())
