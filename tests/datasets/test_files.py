import gzip
import os
from pathlib import Path

import numpy as np
import pytest

from gandetect.datasets import DataFileError, resolve_data_dir
from gandetect.datasets.files import find_file, open_maybe_gzip, read_npz


def test_the_argument_wins_over_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("GANDETECT_DATA", "elsewhere")
    assert resolve_data_dir(tmp_path) == tmp_path
    assert resolve_data_dir(None) == Path("elsewhere")


def test_a_home_folder_is_expanded(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", os.fspath(tmp_path))
    monkeypatch.setenv("USERPROFILE", os.fspath(tmp_path))
    assert resolve_data_dir("~/data") == tmp_path / "data"


@pytest.mark.parametrize("value", [None, ""])
def test_no_data_folder_names_the_variable(monkeypatch, value):
    monkeypatch.delenv("GANDETECT_DATA", raising=False)
    if value is not None:
        monkeypatch.setenv("GANDETECT_DATA", value)
    with pytest.raises(ValueError, match="GANDETECT_DATA"):
        resolve_data_dir()


def test_find_file_prefers_the_first_subfolder(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x").touch()
    assert find_file(tmp_path, ["y", "x"], ("b", "a")) == tmp_path / "b" / "x"
    assert find_file(tmp_path, ["y"], ("b", "a")) is None


def test_gzip_is_told_by_content_not_by_name(tmp_path):
    packed, plain = tmp_path / "packed", tmp_path / "plain.gz"
    packed.write_bytes(gzip.compress(b"text"))
    plain.write_bytes(b"text")
    for path in (packed, plain):
        with open_maybe_gzip(path) as file:
            assert file.read() == b"text"


def test_read_npz_takes_the_first_complete_set_of_keys(tmp_path):
    np.savez(tmp_path / "a.npz", b=[1, 2], c=[3], d=[4])
    arrays = read_npz(tmp_path / "a.npz", ("a", "b"), ("b", "c"))
    assert {key: value.tolist() for key, value in arrays.items()} == {"b": [1, 2], "c": [3]}


def test_read_npz_says_what_it_found_and_what_it_wants(tmp_path):
    np.savez(tmp_path / "a.npz", b=[1])
    with pytest.raises(DataFileError, match=r"\['b'\], expected \(X, y\) or \(x, y\)"):
        read_npz(tmp_path / "a.npz", ("X", "y"), ("x", "y"))


def test_read_npz_refuses_pickled_objects(tmp_path):
    np.savez(tmp_path / "a.npz", X=np.array([{"a": 1}], dtype=object))
    with pytest.raises(DataFileError, match="plain arrays"):
        read_npz(tmp_path / "a.npz", ("X",))


def test_read_npz_refuses_a_single_array(tmp_path):
    with (tmp_path / "a.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(DataFileError, match="single array"):
        read_npz(tmp_path / "a.npz", ("X",))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.95])
def test_read_npz_of_a_cut_off_file(tmp_path, share):
    path = tmp_path / "a.npz"
    np.savez(path, X=np.arange(1000))
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataFileError, match=r"a\.npz"):
        read_npz(path, ("X",))


def test_read_npz_of_altered_bytes(tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, X=np.random.default_rng(0).integers(0, 9, 5000))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(DataFileError, match="damaged"):
        read_npz(path, ("X",))
