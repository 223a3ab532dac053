"""Trees of data there and back, and files that are refused."""

import errno
import json
import os
import pickle
import re
import stat
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from gandetect.archive import ArchiveError, checksum, read_archive, write_archive
from gandetect.model.scaling import Scaler
from gandetect.networks import MLP


@dataclass(frozen=True)
class Point:
    x: float
    where: tuple


TREE = {
    "none": None,
    "flags": [True, False],
    "numbers": (1, -2.5, 10**30, float("inf")),
    "words": "naïve ∂ \n",
    "empty": [[], {}, ()],
    "by number": {0: "a", 7: {"b": 1}},
    "point": Point(0.1, (1, Point(2.0, ()))),
}


def equal(a, b):
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    return type(a) is type(b) and a == b


class TestThereAndBack:
    def test_a_tree(self, tmp_path):
        write_archive(tmp_path / "file", TREE, [Point])
        assert equal(read_archive(tmp_path / "file", [Point]), TREE)

    @pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int64", "uint8", "bool"])
    @pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 3), (2, 3)])
    def test_arrays(self, tmp_path, dtype, shape):
        array = np.random.default_rng(0).integers(0, 2, size=shape).astype(dtype)
        write_archive(tmp_path / "file", {"array": array})
        found = read_archive(tmp_path / "file")["array"]
        assert isinstance(found, np.ndarray)
        assert (found.dtype, found.shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(found, array)

    def test_odd_layouts(self, tmp_path):
        array = np.arange(12.0).reshape(3, 4)
        tensor = torch.arange(120.0).reshape(2, 3, 4, 5).to(memory_format=torch.channels_last)
        tree = {"a": array.T, "b": array[::-1, ::2], "c": tensor, "d": tensor[:, 1:2], "e": tensor}
        write_archive(tmp_path / "file", tree)
        found = read_archive(tmp_path / "file")
        np.testing.assert_array_equal(found["a"], array.T)
        np.testing.assert_array_equal(found["b"], array[::-1, ::2])
        for name in "cde":
            assert torch.equal(found[name], tree[name])

    def test_numpy_numbers_become_python_numbers(self, tmp_path):
        write_archive(tmp_path / "file", {"n": np.int64(3), "x": np.float32(0.5), "b": np.True_})
        found = read_archive(tmp_path / "file")
        assert equal(found, {"n": 3, "x": 0.5, "b": True})

    def test_names(self, tmp_path):
        names = np.array(["a", "längere"], dtype=object)
        write_archive(tmp_path / "file", {"object": names, "str": np.array(["a", "bc"])})
        found = read_archive(tmp_path / "file")
        assert found["object"].dtype == object
        np.testing.assert_array_equal(found["object"], names)
        np.testing.assert_array_equal(found["str"], ["a", "bc"])

    def test_keys_that_look_alike(self, tmp_path):
        tree = {"a": {"b": np.zeros(2)}, "a/b": np.ones(2), "1": np.ones(1), 1: np.zeros(1)}
        write_archive(tmp_path / "file", tree)
        found = read_archive(tmp_path / "file")
        np.testing.assert_array_equal(found["a"]["b"], np.zeros(2))
        np.testing.assert_array_equal(found["a/b"], np.ones(2))
        np.testing.assert_array_equal(found["1"], np.ones(1))
        np.testing.assert_array_equal(found[1], np.zeros(1))

    def test_optimizers(self, tmp_path):
        layer = torch.nn.Linear(2, 2)
        optimizer = torch.optim.Adam(layer.parameters(), fused=True)
        layer(torch.ones(1, 2)).sum().backward()
        optimizer.step()
        write_archive(tmp_path / "file", {"state": optimizer.state_dict()})
        found = read_archive(tmp_path / "file")["state"]
        assert found["param_groups"] == optimizer.state_dict()["param_groups"]
        other = torch.optim.Adam(layer.parameters(), fused=True)
        other.load_state_dict(found)
        expected = optimizer.state[layer.weight]
        assert all(torch.equal(other.state[layer.weight][key], expected[key]) for key in expected)

    def test_the_file_is_safetensors_with_json(self, tmp_path):
        write_archive(tmp_path / "file", {"weights": torch.ones(2), "name": "a"})
        assert [torch.equal(t, torch.ones(2)) for t in load_file(tmp_path / "file").values()]
        assert b"pickle" not in (tmp_path / "file").read_bytes()


class TestRefusedToWrite:
    @pytest.mark.parametrize(
        "value", [print, torch.nn.Linear(1, 1), object(), {1, 2}, 1j, np.array([object()]), b"x"]
    )
    def test_what_is_no_data(self, tmp_path, value):
        with pytest.raises(TypeError, match="'outer/1/inner' is"):
            write_archive(tmp_path / "file", {"outer": [0, {"inner": value}]})
        assert not list(tmp_path.iterdir())

    def test_a_class_that_is_not_on_the_list(self, tmp_path):
        with pytest.raises(TypeError, match="Point, which cannot be saved"):
            write_archive(tmp_path / "file", {"point": Point(1.0, ())}, [Scaler])

    def test_an_older_file_stays(self, tmp_path):
        write_archive(tmp_path / "file", {"a": 1})
        with pytest.raises(TypeError):
            write_archive(tmp_path / "file", {"a": object()})
        assert read_archive(tmp_path / "file") == {"a": 1}

    @pytest.mark.parametrize("step", ["fdopen", "fsync", "replace"])
    @pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EPIPE])
    def test_a_disk_that_fails(self, tmp_path, monkeypatch, step, code):
        write_archive(tmp_path / "file", {"a": 1})

        def fails(*_):
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(f"gandetect.archive.os.{step}", fails)
        with pytest.raises(OSError, match=re.escape(os.strerror(code))):
            write_archive(tmp_path / "file", {"a": 2})
        assert read_archive(tmp_path / "file") == {"a": 1}
        assert [path.name for path in tmp_path.iterdir()] == ["file"]

    def test_a_folder_that_is_not_there(self, tmp_path):
        with pytest.raises(FileNotFoundError):
            write_archive(tmp_path / "none" / "file", {"a": 1})

    @pytest.mark.skipif(os.name == "nt", reason="permissions are POSIX's")
    def test_others_may_read_what_they_may_usually_read(self, tmp_path):
        (tmp_path / "usual").touch()
        write_archive(tmp_path / "file", {"a": 1})
        modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("usual", "file")]
        assert modes[0] == modes[1]


def with_header(path, document):
    header = document if isinstance(document, str) else json.dumps(document)
    tensors = {"t": torch.ones(2)}
    metadata = {"gandetect": header, "sha256": checksum(header, tensors)}
    save_file(tensors, path, metadata=metadata)


class TestRefusedToRead:
    def test_no_file(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="no file"):
            read_archive(tmp_path / "file")
        with pytest.raises(FileNotFoundError):
            read_archive(tmp_path)

    @pytest.mark.parametrize(
        "content", [b"", b"x", b"\0" * 100, b"\xff" * 100, pickle.dumps({"a": 1})]
    )
    def test_something_else(self, tmp_path, content):
        (tmp_path / "file").write_bytes(content)
        with pytest.raises(ArchiveError, match="damaged or was not written by gandetect"):
            read_archive(tmp_path / "file")

    @pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
    def test_a_part_of_a_file(self, tmp_path, share):
        write_archive(tmp_path / "file", {"weights": torch.ones(100), "name": "a"})
        content = (tmp_path / "file").read_bytes()
        (tmp_path / "file").write_bytes(content[: int(share * len(content))])
        with pytest.raises(ArchiveError):
            read_archive(tmp_path / "file")

    def test_one_bit_of_a_weight(self, tmp_path):
        write_archive(tmp_path / "file", {"weights": torch.ones(100)})
        content = bytearray((tmp_path / "file").read_bytes())
        content[-1] ^= 1
        (tmp_path / "file").write_bytes(content)
        with pytest.raises(ArchiveError, match="checksum"):
            read_archive(tmp_path / "file")

    def test_without_a_checksum(self, tmp_path):
        header = json.dumps({"format": 1, "tree": {"pairs": []}})
        save_file({"t": torch.ones(2)}, tmp_path / "file", metadata={"gandetect": header})
        with pytest.raises(ArchiveError, match="sha256"):
            read_archive(tmp_path / "file")

    def test_safetensors_of_someone_else(self, tmp_path):
        save_file({"t": torch.ones(2)}, tmp_path / "file")
        with pytest.raises(ArchiveError):
            read_archive(tmp_path / "file")

    @pytest.mark.parametrize("found", [0, 2, "1", None])
    def test_another_format(self, tmp_path, found):
        with_header(tmp_path / "file", {"format": found, "tree": {"pairs": []}})
        with pytest.raises(ArchiveError, match=f"has format {found!r}, .* reads 1"):
            read_archive(tmp_path / "file")

    @pytest.mark.parametrize(
        "document",
        [
            "not json",
            [],
            {"format": 1},
            {"format": 1, "tree": 3},
            {"format": 1, "tree": {"list": []}},
            {"format": 1, "tree": {"tensor": "missing"}},
            {"format": 1, "tree": {"pairs": [["a", {"array": "missing"}]]}},
            {"format": 1, "tree": {"pairs": [["a"]]}},
            {"format": 1, "tree": {"pairs": [[["unhashable"], 1]]}},
            {"format": 1, "tree": {"pairs": [["a", {}]]}},
            {"format": 1, "tree": {"pairs": [["a", {"object": "Point"}]]}},
            {"format": 1, "tree": {"pairs": 3}},
            '{"format": 1, "tree": ' + '{"list": [' * 5000 + "]}" * 5000 + "}",
        ],
    )
    def test_a_header_that_is_wrong(self, tmp_path, document):
        with_header(tmp_path / "file", document)
        with pytest.raises(ArchiveError):
            read_archive(tmp_path / "file", [Point])

    @pytest.mark.parametrize("name", ["os.system", "Path", "Point", "eval", "__import__"])
    def test_a_class_that_is_not_on_the_list(self, tmp_path, name):
        fields = {"pairs": [["command", "true"]]}
        tree = {"pairs": [["a", {"object": name, "fields": fields}]]}
        with_header(tmp_path / "file", {"format": 1, "tree": tree})
        with pytest.raises(ArchiveError):
            read_archive(tmp_path / "file", [MLP])

    @pytest.mark.parametrize("value", [{"tensor": "t"}, {"list": []}, 10**30, None])
    def test_fields_that_a_class_does_not_take(self, tmp_path, value):
        """It may compare or call what it is given before it knows what it is."""
        fields = {"pairs": [["hidden_dims", value], ["normalization", value], ["dropout", value]]}
        tree = {"pairs": [["a", {"object": "MLP", "fields": fields}]]}
        with_header(tmp_path / "file", {"format": 1, "tree": tree})
        with pytest.raises(ArchiveError, match="damaged"):
            read_archive(tmp_path / "file", [MLP])

    def test_fields_that_a_class_does_not_have(self, tmp_path):
        fields = {"pairs": [["x", 1.0], ["z", 3.0]]}
        tree = {"pairs": [["a", {"object": "Point", "fields": fields}]]}
        with_header(tmp_path / "file", {"format": 1, "tree": tree})
        with pytest.raises(ArchiveError, match="damaged"):
            read_archive(tmp_path / "file", [Point])
