import pytest

from gandetect import datasets
from gandetect.datasets import catalogue
from gandetect.datasets.catalogue import CATALOGUE
from gandetect.datasets.download import RemoteFile

PLACES = {
    "mnist": "mnist/train-images-idx3-ubyte.gz",
    "fashion-mnist": "FashionMNIST/raw/t10k-labels-idx1-ubyte",
    "cifar10": "cifar10/train/airplane/0.png",
    "kddcup99": "kddcup99/kddcup.data_10_percent.gz",
    "mvtec": "mvtec/nut/train/good/0.png",
    "adbench": "adbench/6_cardio.npz",
}


def test_every_loader_has_an_entry():
    assert {name.replace("-", "_") for name in CATALOGUE} == set(datasets.DATASETS)
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
    with pytest.raises(ConnectionError, match=r"adbench is not offered.*\.npz .* as adbench/"):
        CATALOGUE["adbench"].fetch(tmp_path)
