import hashlib
import io
import os
import pickle
import struct
import tarfile

import numpy as np
import pytest
from PIL import Image

from gandetect.datasets import DataFileError, cifar10, load_cifar10
from gandetect.datasets.cifar10 import CIFAR10_CLASSES
from gandetect.datasets.download import RemoteFile

FOLDER = "cifar-10-batches-py"
NAMES = ["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5"]


def _rows(n, first=0):
    """A red plane, a green and a blue one, each of one value, for every row."""
    planes = np.arange(3 * n, dtype=np.uint8).reshape(n, 3) + np.uint8(first)
    return np.repeat(planes, 1024, axis=1)


def _batch(labels=(3, 8), first=0, batch_label=b"training batch 1 of 5"):
    batch = {b"data": _rows(len(labels), first), b"labels": list(labels)}
    return batch | {b"batch_label": batch_label, b"filenames": [b"a.png"] * len(labels)}


def _files(protocol=2):
    batches = {name: _batch((i, 9 - i), first=10 * i) for i, name in enumerate(NAMES)}
    batches["test_batch"] = _batch((7,), 100, b"testing batch 1 of 1")
    return {name: pickle.dumps(batch, protocol=protocol) for name, batch in batches.items()}


def _write(root, files):
    (root / FOLDER).mkdir(parents=True)
    for name, content in files.items():
        (root / FOLDER / name).write_bytes(content)


def _write_archive(path, files):
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"{FOLDER}/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def _write_pngs(root):
    for part in ("train", "test"):
        for label, name in enumerate(CIFAR10_CLASSES):
            (root / part / name).mkdir(parents=True)
            Image.new("RGB", (32, 32), (label, 50, 60)).save(root / part / name / "0001.png")


def _check_whole(whole):
    assert whole.data.shape == (11, 32, 32, 3)
    assert whole.data.dtype == np.uint8
    assert whole.data.flags.c_contiguous
    assert whole.target.tolist() == [0, 9, 1, 8, 2, 7, 3, 6, 4, 5, 7]
    # The second image of data_batch_3, whose planes begin at 20.
    assert (whole.data[5] == [23, 24, 25]).all()
    assert (whole.data[10] == [100, 101, 102]).all()


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_python_batches(tmp_path, protocol):
    _write(tmp_path, _files(protocol))
    _check_whole(load_cifar10(tmp_path))
    assert load_cifar10(tmp_path, split="test").target.tolist() == [7]
    assert len(load_cifar10(tmp_path, split="train").data) == 10


@pytest.mark.parametrize("subfolder", [".", "cifar10"])
def test_the_archive_is_read_without_unpacking(tmp_path, subfolder):
    (tmp_path / subfolder).mkdir(exist_ok=True)
    _write_archive(tmp_path / subfolder / "cifar-10-python.tar.gz", _files())
    _check_whole(load_cifar10(tmp_path))
    assert not (tmp_path / FOLDER).exists()


def test_rows_are_planes_of_pixels_in_rows(tmp_path):
    rows = np.arange(3072).astype(np.uint8)[None]
    batch = {b"data": rows, b"labels": [0]}
    _write(tmp_path, {"test_batch": pickle.dumps(batch, protocol=2)})
    image = load_cifar10(tmp_path, split="test").data[0]
    # Row 2, column 3: place 2 * 32 + 3 in each plane of 1024, and 1024 % 256 is 0.
    assert image[2, 3].tolist() == [67, 67, 67]
    assert image[0, 31, 0] == 31
    assert image[1, 0, 0] == 32


def _python2_batch(text="u1"):
    """Write a batch opcode by opcode as Python 2 and the numpy of then did."""

    def string(value):
        return b"U" + bytes([len(value)]) + value

    def array_type():
        make = b"cnumpy\ndtype\n" + string(text.encode()) + b"K\x00K\x01\x87R"
        state = b"(K\x03" + string(b"|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00t"
        return make + state + b"b"

    content = _rows(1, first=40).tobytes()
    make = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + string(b"b")
    state = b"(K\x01K\x01M\x00\x0c\x86" + array_type() + b"\x89T" + struct.pack("<i", len(content))
    array = make + b"\x87R" + state + content + b"tb"
    labels = b"]K\x06a"
    return b"\x80\x02}" + string(b"data") + array + b"s" + string(b"labels") + labels + b"s."


def test_a_batch_as_python_2_wrote_it(tmp_path):
    _write(tmp_path, {"test_batch": _python2_batch()})
    test = load_cifar10(tmp_path, split="test")
    assert test.target.tolist() == [6]
    assert (test.data[0] == [40, 41, 42]).all()


def test_columns_first_arrays(tmp_path):
    batch = {b"data": np.asfortranarray(_rows(2, first=5)), b"labels": [1, 2]}
    _write(tmp_path, {"test_batch": pickle.dumps(batch, protocol=2)})
    test = load_cifar10(tmp_path, split="test")
    assert (test.data[1] == [8, 9, 10]).all()


class _Runs:
    """A pickle that would make a folder when it is read."""

    def __init__(self, path):
        self.path = os.fspath(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("key", [b"data", b"labels", b"filenames"])
def test_a_pickle_that_runs_code_is_refused_and_does_not_run(tmp_path, key):
    trap = tmp_path / "trap"
    batch = _batch(batch_label=b"testing batch 1 of 1") | {key: _Runs(trap)}
    _write(tmp_path, {"test_batch": pickle.dumps(batch, protocol=2)})
    with pytest.raises(DataFileError, match=r"read safely: it refers to \w+\.mkdir"):
        load_cifar10(tmp_path, split="test")
    assert not trap.exists()


@pytest.mark.parametrize(
    "name",
    [
        b"builtins\neval",
        b"numpy\nload",
        b"numpy.core.multiarray\nscalar",
        b"copyreg\n_reconstructor",
    ],
)
def test_other_names_than_those_of_an_array_are_refused(tmp_path, name):
    _write(tmp_path, {"test_batch": b"\x80\x02c" + name + b"\n."})
    with pytest.raises(DataFileError, match="it refers to"):
        load_cifar10(tmp_path, split="test")


@pytest.mark.parametrize(
    "target",
    [b"c_codecs\nencode\n", b"cnumpy\ndtype\n", b"cnumpy.core.multiarray\n_reconstruct\n"],
)
def test_a_pickle_can_not_alter_what_the_next_one_gets(tmp_path, target):
    # BUILD with (None, {"state": 1}) sets attributes on whatever stands before it.
    alters = b"\x80\x02" + target + b"N}X\x05\x00\x00\x00stateK\x01s\x86b."
    _write(tmp_path / "a", {"test_batch": alters})
    with pytest.raises(DataFileError, match="read safely"):
        load_cifar10(tmp_path / "a", split="test")
    _write(tmp_path / "b", _files())
    _check_whole(load_cifar10(tmp_path / "b"))


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_a_batch_that_is_cut_off(tmp_path, share):
    content = _files()["test_batch"]
    _write(tmp_path, {"test_batch": content[: int(share * len(content))]})
    with pytest.raises(DataFileError, match="test_batch"):
        load_cifar10(tmp_path, split="test")


@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 0.9])
def test_an_archive_that_is_cut_off(tmp_path, share):
    path = tmp_path / "cifar-10-python.tar.gz"
    _write_archive(path, _files())
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataFileError, match=r"cifar-10-python\.tar\.gz"):
        load_cifar10(tmp_path)


def test_an_archive_of_something_else(tmp_path):
    _write_archive(tmp_path / "cifar-10-python.tar.gz", {"readme": b"hello"})
    with pytest.raises(
        DataFileError, match="does not contain the file cifar-10-batches-py/data_batch_1"
    ):
        load_cifar10(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {b"labels": [1]},
        {b"labels": [1, 10]},
        {b"labels": [1, -1]},
        {b"labels": [1, b"2"]},
        {b"labels": (1, 2)},
        {b"data": _rows(2)[:, :-1]},
        {b"data": _rows(2).astype(np.int16)},
        {b"data": _rows(2).ravel()},
        {b"data": b"bytes"},
    ],
)
def test_mislabelled_batches(tmp_path, change):
    batch = _batch(batch_label=b"testing batch 1 of 1") | change
    _write(tmp_path, {"test_batch": pickle.dumps(batch, protocol=2)})
    with pytest.raises(DataFileError, match="test_batch"):
        load_cifar10(tmp_path, split="test")


def test_a_training_batch_renamed_to_test(tmp_path):
    _write(tmp_path, {"test_batch": pickle.dumps(_batch(), protocol=2)})
    with pytest.raises(DataFileError, match="has the batch label 'training batch 1 of 5'"):
        load_cifar10(tmp_path, split="test")


def test_something_else_than_a_batch(tmp_path):
    _write(tmp_path, {"test_batch": pickle.dumps({b"label_names": [b"cat"]}, protocol=2)})
    with pytest.raises(DataFileError, match="must have 'data' and 'labels'"):
        load_cifar10(tmp_path, split="test")


def test_a_missing_batch(tmp_path):
    files = _files()
    del files["data_batch_4"]
    _write(tmp_path, files)
    with pytest.raises(FileNotFoundError, match=r"data_batch_4 is missing"):
        load_cifar10(tmp_path)


@pytest.mark.parametrize("subfolder", ["cifar10", "cifar-10", "."])
def test_png_folders(tmp_path, subfolder):
    _write_pngs(tmp_path / subfolder)
    whole = load_cifar10(tmp_path)
    assert whole.target.tolist() == [*range(10), *range(10)]
    assert (whole.data[13] == [3, 50, 60]).all()
    assert len(load_cifar10(tmp_path, split="test").data) == 10


def test_png_folders_without_one_class(tmp_path):
    _write_pngs(tmp_path)
    (tmp_path / "test" / "ship" / "0001.png").unlink()
    (tmp_path / "test" / "ship").rmdir()
    with pytest.raises(FileNotFoundError, match="ship is missing"):
        load_cifar10(tmp_path)


def test_png_images_of_another_size(tmp_path):
    _write_pngs(tmp_path)
    Image.new("RGB", (64, 64)).save(tmp_path / "train" / "airplane" / "0001.png")
    with pytest.raises(DataFileError, match=r"\(64, 64, 3\), expected \(32, 32, 3\)"):
        load_cifar10(tmp_path)


def test_nothing_there_says_what_to_put_where(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"Put cifar-10-python\.tar\.gz there"):
        load_cifar10(tmp_path)


def test_download(tmp_path, monkeypatch):
    path = tmp_path / "published.tar.gz"
    _write_archive(path, _files())
    checksum = f"md5:{hashlib.md5(path.read_bytes()).hexdigest()}"
    remote = RemoteFile("cifar-10-python.tar.gz", path.as_uri(), checksum)
    monkeypatch.setattr(cifar10, "CIFAR10_ARCHIVE", remote)
    _check_whole(load_cifar10(tmp_path / "data", download=True))
    assert (tmp_path / "data" / "cifar-10-python.tar.gz").is_file()


@pytest.mark.parametrize("part", ["batches", "pngs"])
def test_what_is_there_in_part_does_not_hide_what_is_whole(tmp_path, monkeypatch, part):
    files = _files()
    path = tmp_path / "published.tar.gz"
    _write_archive(path, files)
    checksum = f"md5:{hashlib.md5(path.read_bytes()).hexdigest()}"
    remote = RemoteFile("cifar-10-python.tar.gz", path.as_uri(), checksum)
    monkeypatch.setattr(cifar10, "CIFAR10_ARCHIVE", remote)
    folder = tmp_path / "data"
    if part == "batches":
        _write(folder, {"data_batch_1": files["data_batch_1"]})
    else:
        (folder / "cifar10" / "train" / "airplane").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=r"(data_batch_2 is missing|airplane has no image)"):
        load_cifar10(folder)
    _check_whole(load_cifar10(folder, download=True))
    _check_whole(load_cifar10(folder))


@pytest.mark.parametrize("subfolder", [".", "cifar10", "cifar-10"])
def test_batches_in_a_folder_of_their_own(subfolder, tmp_path):
    _write(tmp_path / subfolder, _files())
    _check_whole(load_cifar10(tmp_path))
