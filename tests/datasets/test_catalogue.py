import dataclasses
import gzip
import hashlib

import numpy as np
import pytest

from gandetect import datasets
from gandetect.datasets import DataFileError, catalogue
from gandetect.datasets.catalogue import CATALOGUE
from gandetect.datasets.cifar10 import CIFAR10_CLASSES
from gandetect.datasets.download import RemoteFile
from gandetect.datasets.mnist import MNIST_FILES

PLACES = {
    "mnist": "mnist/train-images-idx3-ubyte.gz",
    "fashion-mnist": "FashionMNIST/raw/t10k-labels-idx1-ubyte",
    "cifar10": "cifar10/train/airplane/0.png",
    "kddcup99": "kddcup99/kddcup.data_10_percent.gz",
    "mvtec": "mvtec/nut/train/good/0.png",
    "dtd": "dtd/images/banded/banded_0002.jpg",
    "adbench": "adbench/6_cardio.npz",
}


def test_every_loader_has_an_entry():
    of_folders = {"load_labelled_images"}  # of the user's own, which have no name
    loaders = {name for name in datasets.__all__ if name.startswith("load_")} - of_folders
    assert {entry.load.__name__ for entry in CATALOGUE.values()} == loaders | {"iter_textures"}
    assert set(PLACES) == set(CATALOGUE)


@pytest.mark.parametrize("name", CATALOGUE)
def test_each_is_found_where_its_loader_looks(name, tmp_path):
    entry = CATALOGUE[name]
    assert entry.find(tmp_path) == []
    assert entry.state(tmp_path) == "no"
    path = tmp_path / PLACES[name]
    path.parent.mkdir(parents=True)
    path.touch()
    assert len(entry.find(tmp_path)) == 1
    others = [other for other in CATALOGUE.values() if other.find(tmp_path)]
    assert others == [entry]


def test_several_are_counted(tmp_path):
    for name in ("1_a.npz", "2_b.npz"):
        (tmp_path / "adbench").mkdir(exist_ok=True)
        (tmp_path / "adbench" / name).touch()
    assert CATALOGUE["adbench"].state(tmp_path) == f"2 in {tmp_path / 'adbench'}"


def test_what_is_missing_is_fetched(tmp_path, monkeypatch):
    fetched = []
    monkeypatch.setattr(catalogue, "download", lambda *arguments: fetched.append(arguments))
    CATALOGUE["mnist"].fetch(tmp_path)
    assert len(fetched) == 4
    assert all(isinstance(remote, RemoteFile) for remote, _ in fetched)
    assert {folder for _, folder in fetched} == {tmp_path / "mnist"}
    (tmp_path / "mnist.npz").touch()
    CATALOGUE["mnist"].fetch(tmp_path)
    assert len(fetched) == 4


def test_what_is_not_offered_is_said(tmp_path):
    with pytest.raises(
        ConnectionError, match=r"adbench cannot be downloaded.*\.npz .* as adbench/"
    ):
        CATALOGUE["adbench"].fetch(tmp_path)


# An idx file of no bytes, packed.
EMPTY_IDX = gzip.compress(bytes([0, 0, 8, 1, 0, 0, 0, 0]))


@pytest.fixture(params=["mnist", "fashion-mnist"])
def entry(request, tmp_path):
    """A data set of four files, offered in a folder of the test instead of on the web."""
    entry = CATALOGUE[request.param]
    remote = []
    (tmp_path / "published").mkdir()
    for file in entry.remote:
        path = tmp_path / "published" / file.name
        path.write_bytes(EMPTY_IDX)
        checksum = f"md5:{hashlib.md5(EMPTY_IDX).hexdigest()}"
        remote.append(RemoteFile(file.name, path.as_uri(), checksum))
    return dataclasses.replace(entry, remote=tuple(remote))


def test_an_interrupted_download_is_completed(entry, tmp_path):
    folder = tmp_path / "data" / entry.folder
    folder.mkdir(parents=True)
    first, *_ = entry.remote
    (folder / first.name).write_bytes(EMPTY_IDX)
    assert not entry.is_complete(tmp_path / "data")
    assert entry.state(tmp_path / "data") == f"1 of 4 in {folder}"
    entry.fetch(tmp_path / "data")
    assert entry.is_complete(tmp_path / "data")
    assert entry.state(tmp_path / "data") == f"4 in {folder}"
    assert all((folder / remote.name).read_bytes() == EMPTY_IDX for remote in entry.remote)


@pytest.mark.parametrize("content", [b"", b"x", EMPTY_IDX[:-4]], ids=["empty", "text", "cut off"])
def test_a_damaged_file_is_told_and_left(entry, tmp_path, content):
    path = tmp_path / entry.folder / entry.remote[1].name
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(DataFileError, match=rf"Delete .*{path.name} to download it again"):
        entry.fetch(tmp_path)
    assert path.read_bytes() == content


def test_unpacked_files_and_other_folders_count(tmp_path, monkeypatch):
    monkeypatch.setattr(catalogue, "download", lambda *_: pytest.fail("nothing is missing"))
    (tmp_path / "MNIST" / "raw").mkdir(parents=True)
    for name in MNIST_FILES:
        (tmp_path / "MNIST" / "raw" / name).write_bytes(gzip.decompress(EMPTY_IDX))
    CATALOGUE["mnist"].fetch(tmp_path)
    assert CATALOGUE["mnist"].state(tmp_path) == f"4 in {tmp_path / 'MNIST' / 'raw'}"


def test_cifar_folders_that_lack_something(tmp_path, monkeypatch):
    fetched = []
    monkeypatch.setattr(catalogue, "download", lambda remote, _: fetched.append(remote.name))
    cifar10 = CATALOGUE["cifar10"]
    batches = tmp_path / "cifar-10-batches-py"
    batches.mkdir()
    for i in (1, 2):
        (batches / f"data_batch_{i}").touch()
    assert cifar10.state(tmp_path) == f"2 of 6 in {batches}"
    cifar10.fetch(tmp_path)
    assert fetched == ["cifar-10-python.tar.gz"]
    for name in CIFAR10_CLASSES:
        for part in ("train", "test"):
            assert not cifar10.is_complete(tmp_path)
            (tmp_path / "cifar10" / part / name).mkdir(parents=True)
    assert cifar10.is_complete(tmp_path)
    cifar10.fetch(tmp_path)
    assert len(fetched) == 1


def test_an_archive_that_is_cut_off(tmp_path):
    path = tmp_path / "kddcup.data_10_percent.gz"
    path.write_bytes(gzip.compress(np.random.default_rng(0).bytes(1000))[:500])
    with pytest.raises(DataFileError, match=r"damaged or cut off.*Delete"):
        CATALOGUE["kddcup99"].fetch(tmp_path)
