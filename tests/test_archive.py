"""Trees of data there and back, and files that are refused."""

import contextlib
import errno
import io
import json
import os
import pickle
import random
import re
import socket
import stat
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load, load_file, save, save_file

from gandetect import archive
from gandetect.archive import (
    ArchiveError,
    check_writable,
    check_writable_folder,
    checksum,
    packed,
    read_archive,
    unpacked,
    write_archive,
    written_aside,
)
from gandetect.model.statistics import Scaler
from gandetect.networks import MLP, ConvNet


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

    @pytest.mark.parametrize("step", ["open", "fsync", "replace"])
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


def unprivileged(monkeypatch):
    """Have the system refuse what it lets root do: to give files away."""

    def refuses(*_):
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr("gandetect.archive.os.fchown", refuses)


def special(kind, path):
    """Make a device, a pipe or a socket, and return what is to close in the end."""
    if kind == "socket":
        bound = socket.socket(socket.AF_UNIX)
        bound.bind(str(path))
        return bound
    try:
        os.mkfifo(path) if kind == "pipe" else os.mknod(path, stat.S_IFCHR, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("only root makes devices")
    return contextlib.nullcontext()


def mode_of(path):
    return stat.S_IMODE(path.stat().st_mode)


posix = pytest.mark.skipif(os.name == "nt", reason="modes, pipes and links are POSIX's")


@posix
class TestPlaces:
    @pytest.mark.parametrize("mode", [0o600, 0o640, 0o666, 0o700])
    def test_a_file_keeps_its_mode(self, tmp_path, mode):
        write_archive(tmp_path / "file", {"a": 1})
        (tmp_path / "file").chmod(mode)
        write_archive(tmp_path / "file", {"a": 2})
        assert mode_of(tmp_path / "file") == mode
        assert read_archive(tmp_path / "file") == {"a": 2}

    def test_a_file_that_sets_a_user_when_it_is_run_does_so_no_longer(self, tmp_path):
        (tmp_path / "file").touch()
        (tmp_path / "file").chmod(0o4755)
        write_archive(tmp_path / "file", {"a": 1})
        assert mode_of(tmp_path / "file") == 0o755

    def test_a_private_file_is_private_while_it_is_written(self, tmp_path):
        (tmp_path / "file").touch(0o600)
        with written_aside(tmp_path / "file"):
            assert [mode_of(path) for path in tmp_path.iterdir()] == [0o600, 0o600]

    def test_a_file_keeps_its_owner_where_that_is_permitted(self, tmp_path):
        (tmp_path / "file").touch(0o640)
        try:
            os.chown(tmp_path / "file", 12345, 54321)
        except PermissionError:
            pytest.skip("only root gives files away")
        write_archive(tmp_path / "file", {"a": 1})
        found = (tmp_path / "file").stat()
        assert (found.st_uid, found.st_gid, mode_of(tmp_path / "file")) == (12345, 54321, 0o640)

    def test_another_group_may_not_read_what_was_for_the_first(self, tmp_path, monkeypatch):
        (tmp_path / "file").touch()
        (tmp_path / "file").chmod(0o664)
        unprivileged(monkeypatch)
        write_archive(tmp_path / "file", {"a": 1})
        assert mode_of(tmp_path / "file") == 0o604

    @pytest.mark.parametrize("umask", [0o022, 0o027, 0o077])
    def test_a_new_file_is_as_open_makes_it(self, tmp_path, monkeypatch, umask):
        before = os.umask(umask)
        try:
            monkeypatch.setattr("gandetect.archive.os.umask", pytest.fail)
            write_archive(tmp_path / "file", {"a": 1})
            monkeypatch.undo()
        finally:
            found = os.umask(before)
        assert mode_of(tmp_path / "file") == 0o666 & ~umask
        assert found == umask

    def test_what_replaces_a_file_is_private_until_it_has_that_ones_mode(
        self, tmp_path, monkeypatch
    ):
        path, modes, take_after = tmp_path / "file", [], archive._take_after
        path.touch(0o600)

        def seen(handle, older):
            modes.append(stat.S_IMODE(os.fstat(handle).st_mode))
            take_after(handle, older)

        monkeypatch.setattr(archive, "_take_after", seen)
        before = os.umask(0)
        try:
            write_archive(path, {"a": 1})
        finally:
            os.umask(before)
        assert modes == [0o600]
        assert mode_of(path) == 0o600

    def test_a_link_stays_one(self, tmp_path):
        (tmp_path / "folder").mkdir()
        (tmp_path / "current").symlink_to("folder/v1")  # which is yet to be written
        (tmp_path / "link").symlink_to("current")
        for value in (1, 2):
            write_archive(tmp_path / "link", {"a": value})
            assert (tmp_path / "link").is_symlink()
            assert (tmp_path / "current").is_symlink()
            assert read_archive(tmp_path / "folder" / "v1") == {"a": value}
        assert [path.name for path in (tmp_path / "folder").iterdir()] == ["v1"]

    @pytest.mark.parametrize("kind", ["pipe", "socket", "device"])
    @pytest.mark.parametrize("act", [lambda path: write_archive(path, {"a": 1}), check_writable])
    @pytest.mark.parametrize("is_link", [False, True])
    def test_what_is_no_file_stays_what_it_is(self, tmp_path, monkeypatch, kind, act, is_link):
        monkeypatch.chdir(tmp_path)  # the path of a socket is short
        with special(kind, Path("it")):
            before = os.stat("it")
            Path("link").symlink_to("it")
            name = "link" if is_link else "it"
            with pytest.raises(OSError, match=f"'{name}': it is a device, a pipe or a socket"):
                act(name)
            assert (os.stat("it").st_mode, os.stat("it").st_ino) == (before.st_mode, before.st_ino)
            assert Path("link").is_symlink()
            assert len(os.listdir()) == 2
            with pytest.raises(ArchiveError, match=f"'{name}' is a device, a pipe or a socket"):
                read_archive(name)

    def test_the_name_may_be_as_long_as_a_name_may_be(self, tmp_path):
        path = tmp_path / ("x" * 255)
        write_archive(path, {"a": 1})
        assert read_archive(path) == {"a": 1}

    @pytest.mark.parametrize("act", [lambda path: write_archive(path, {"a": 1}), check_writable])
    @pytest.mark.parametrize(
        ("name", "kind", "message"),
        [
            ("none/file", FileNotFoundError, "there is no such folder"),
            ("file/inside", NotADirectoryError, "Not a directory"),
            ("folder", IsADirectoryError, "it is a folder"),
            ("none/", IsADirectoryError, "it is a folder"),
            ("x" * 256, OSError, "File name too long"),
            ("loop", OSError, "symbolic links"),
            ("dangling", FileNotFoundError, "there is no such folder"),
        ],
    )
    def test_places_where_no_file_can_be(self, tmp_path, name, kind, message, act):
        (tmp_path / "file").touch()
        (tmp_path / "folder").mkdir()
        (tmp_path / "loop").symlink_to("loop")
        (tmp_path / "dangling").symlink_to("none/file")
        before = sorted(tmp_path.iterdir())
        place = f"{tmp_path}/{name}"
        with pytest.raises(kind, match=message) as caught:
            act(place)
        assert str(caught.value).startswith(f"Cannot write '{place}': ")
        assert ".part" not in str(caught.value)
        assert sorted(tmp_path.iterdir()) == before

    @pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT])
    @pytest.mark.parametrize("act", [lambda path: write_archive(path, {"a": 1}), check_writable])
    def test_what_the_system_refuses_is_told_of_the_file(self, tmp_path, monkeypatch, act, code):
        def refuses(name, *_):
            raise OSError(code, os.strerror(code), name)

        monkeypatch.setattr("gandetect.archive.os.open", refuses)
        with pytest.raises(type(OSError(code, "")), match=os.strerror(code)) as caught:
            act(tmp_path / "file")
        assert str(caught.value).startswith(f"Cannot write '{tmp_path / 'file'}': ")
        assert caught.value.errno == code
        assert ".part" not in str(caught.value)

    def test_a_file_that_may_not_be_written_stays(self, tmp_path, monkeypatch):
        write_archive(tmp_path / "file", {"a": 1})
        opened = os.open

        def refuses(name, flags, *more):
            if name == tmp_path / "file":
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(name))
            return opened(name, flags, *more)

        monkeypatch.setattr("gandetect.archive.os.open", refuses)
        for act in (lambda path: write_archive(path, {"a": 2}), check_writable):
            with pytest.raises(PermissionError, match="file': Permission denied"):
                act(tmp_path / "file")
        assert read_archive(tmp_path / "file") == {"a": 1}

    def test_an_error_of_another_file_is_told_of_that(self, tmp_path):
        told = pytest.raises(FileNotFoundError, match="No such file or directory: 'another'")
        with told, written_aside(tmp_path / "file"):
            Path("another").read_bytes()

    def test_trying_leaves_nothing_behind(self, tmp_path):
        (tmp_path / "file").write_text("mine")
        before = (tmp_path / "file").stat()
        check_writable(tmp_path / "file")
        check_writable(tmp_path / "new")
        after = (tmp_path / "file").stat()
        assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
        assert [path.name for path in tmp_path.iterdir()] == ["file"]

    def test_threads_that_save_leave_the_umask(self, tmp_path):
        before = os.umask(0o027)
        try:
            with ThreadPoolExecutor(8) as threads:
                paths = [tmp_path / str(i) for i in range(64)]
                list(threads.map(lambda path: write_archive(path, {"a": 1}), paths))
        finally:
            found = os.umask(before)
        assert found == 0o027
        assert {mode_of(path) for path in paths} == {0o640}


@posix
class TestFolders:
    def test_trying_leaves_nothing_behind(self, tmp_path):
        (tmp_path / "there").mkdir()
        (tmp_path / "there" / "file").touch()
        for name in ("there", "there/a/b", "new", "new/a"):
            check_writable_folder(tmp_path / name)
        assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "there"]

    @pytest.mark.parametrize(
        ("name", "kind", "message"),
        [
            ("file", NotADirectoryError, "file' is not a folder"),
            ("file/a", NotADirectoryError, "file' is not a folder"),
            ("dangling", NotADirectoryError, "dangling' is not a folder"),
            (f"a/{'x' * 256}/b", OSError, "File name too long"),
        ],
    )
    def test_places_where_no_folder_can_be(self, tmp_path, name, kind, message):
        (tmp_path / "file").touch()
        (tmp_path / "dangling").symlink_to("none")
        with pytest.raises(kind, match=message) as caught:
            check_writable_folder(tmp_path / name)
        assert str(caught.value).startswith(f"Cannot write into '{tmp_path / name}': ")
        assert sorted(path.name for path in tmp_path.rglob("*")) == ["dangling", "file"]

    def test_a_folder_that_takes_no_file(self, tmp_path, monkeypatch):
        def refuses(name, *_):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), name)

        monkeypatch.setattr("gandetect.archive.os.open", refuses)
        with pytest.raises(OSError, match=r"Cannot write into .*new/a': Read-only") as caught:
            check_writable_folder(tmp_path / "new" / "a")
        assert ".part" not in str(caught.value)
        assert not list(tmp_path.iterdir())


def signed(document, tensors=None):
    """The content of a file with a checksum that is right, as whoever forges one can make it."""
    header = document if isinstance(document, str) else json.dumps(document)
    tensors = {} if tensors is None else tensors
    return save(tensors, {"gandetect": header, "sha256": checksum(header, tensors)})


def with_header(path, document):
    path.write_bytes(signed(document, {"t": torch.ones(2)}))


def with_value(value, tensors=None):
    return signed({"format": 1, "tree": {"pairs": [["a", value]]}}, tensors)


def unsigned(entries, content=b""):
    """A safetensors file with entries that its own library would not write."""
    header = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    return len(header).to_bytes(8, "little") + header + content


def entry(dtype, shape, start, stop):
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


FORGED = {
    "a tensor at many places": with_value({"list": [{"tensor": "t"}] * 2}, {"t": torch.ones(9)}),
    "an array that is a tensor too": with_value(
        {"list": [{"tensor": "t"}, {"array": "t"}]}, {"t": torch.ones(9)}
    ),
    "one long word beside many": with_value({"strings": ["x" * 100_000] + [""] * 100_000}),
    "many arrays of words": with_value(
        {"list": [{"strings": ["x" * 4000] + [""] * 4000} for _ in range(4)]}
    ),
    "words that are none": with_value({"strings": [{"a": "x" * 100_000}] + [""] * 100_000}),
    "names that are none": with_value({"names": [None]}),
    "truth values of 2": with_value(
        {"tensor": "t"}, {"t": torch.tensor([2], dtype=torch.uint8).view(torch.bool)}
    ),
    "an array of a type that numpy lacks": with_value(
        {"array": "t"}, {"t": torch.ones(2, dtype=torch.bfloat16)}
    ),
    "a list of JSON's": with_value([{"list": []}]),
    "an empty list of JSON's": with_value([]),
    "a number of a million digits": signed('{"format": ' + "9" * 1_000_000 + "}"),
    "a long format": signed({"format": "x" * 1_000_000}),
    "not a number as the format": signed({"format": float("nan")}),
    "nested lists": signed('{"format": 1, "tree": ' + "[" * 100_000 + "]" * 100_000 + "}"),
    "a nested header": unsigned(b'{"__metadata__": ' + b'{"a": ' * 100_000 + b"1" + b"}" * 100_001),
    "half a pair of surrogates": unsigned(b'{"__metadata__": {"gandetect": "\\ud800"}}'),
    "a header as long as memory": (2**62).to_bytes(8, "little") + b"{" + bytes(100),
    "a header without an end": (99_000_000).to_bytes(8, "little") + b"{" + bytes(100),
    "a shape beyond all memory": unsigned({"t": entry("F32", [2**40, 2**40], 0, 8)}, bytes(8)),
    "a shape beyond all numbers": unsigned({"t": entry("F32", [2**63, 0], 0, 0)}),
    "a shape below nothing": unsigned({"t": entry("F32", [-1], 0, 4)}, bytes(4)),
    "many dimensions": unsigned({"t": entry("F32", [1] * 10_000, 0, 4)}, bytes(4)),
    "tensors that overlap": unsigned(
        {str(i): entry("U8", [10_000], 0, 10_000) for i in range(1000)}, bytes(10_000)
    ),
    "an offset beyond the end": unsigned({"t": entry("U8", [8], 0, 8)}, bytes(4)),
    "a type that is none": unsigned({"t": entry("U7", [8], 0, 8)}, bytes(8)),
    "a type that torch lacks": unsigned({"t": entry("F4", [2], 0, 1)}, bytes(1)),
}


WRONG_VALUES = [
    *(None, True, -1, 2**64, 10**400, 1e308, float("nan"), "", "0", "x" * 1000, [], {}, [[]]),
    *({"tensor": "0"}, {"array": "0"}, {"list": 3}, {"tuple": [3, {}]}, {"pairs": [[1]]}),
    *({"object": "MLP", "fields": {"pairs": []}}, {"object": "Scaler"}, {"strings": [["a"], 1]}),
    *({"names": {"a": 1}}, {"pairs": [[[], 1]]}, {"pairs": [[{}, 1]]}, {"pairs": [["x", 1]] * 9}),
]


def places_in(value):
    """Each place of a JSON document, as what holds it and its key."""
    for key in value if isinstance(value, dict) else range(len(value)):
        yield value, key
        if isinstance(value[key], dict | list):
            yield from places_in(value[key])


@pytest.mark.parametrize("n_letters", range(8))
def test_tensors_begin_at_multiples_of_8(n_letters):
    """As safetensors writes them: whoever maps the file reads aligned numbers."""
    content = packed({"n" * n_letters: torch.ones(3)})
    n_header = int.from_bytes(content[:8], "little")
    assert n_header % 8 == 0


def test_equal_trees_make_equal_bytes():
    tree = {**TREE, "b": torch.ones(3), "a": np.zeros(2)}
    contents = {packed(tree, [Point]) for _ in range(20)}
    assert len(contents) == 1
    np.testing.assert_array_equal(unpacked(contents.pop(), [Point])["a"], tree["a"])


class TestRefusedToRead:
    def test_no_file(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="no file"):
            read_archive(tmp_path / "file")
        (tmp_path / "other").touch()
        for name in ("other/file", "nul\0"):
            with pytest.raises(FileNotFoundError, match="no file"):
                read_archive(tmp_path / name)
        with pytest.raises(ArchiveError, match="is a folder, not a file"):
            read_archive(tmp_path)

    @pytest.mark.parametrize("path", [None, 0, b"file", io.BytesIO()])
    def test_what_is_no_path(self, path):
        for act in (read_archive, check_writable):
            with pytest.raises(TypeError, match=f"a file, got {type(path).__name__}"):
                act(path)

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

    def test_a_large_file_of_another_kind_is_not_read_to_its_end(self, tmp_path):
        with (tmp_path / "file").open("wb") as file:
            file.truncate(2**43)  # more than any memory, and no block on the disk
        with pytest.raises(ArchiveError, match="was not written by gandetect"):
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

    @pytest.mark.parametrize("content", FORGED.values(), ids=FORGED)
    def test_forged_files_end_within_a_multiple_of_their_size(self, tmp_path, content):
        (tmp_path / "file").write_bytes(content)
        tracemalloc.start()
        try:
            with pytest.raises(ArchiveError) as caught:
                read_archive(tmp_path / "file", [MLP])
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert len(str(caught.value)) < 1000
        assert peak < archive._WORDS_LIMIT + 50 * len(content)

    @pytest.mark.parametrize("seed", range(4))
    def test_a_few_wrong_bytes(self, tmp_path, seed):
        rng = np.random.default_rng(seed)
        write_archive(
            tmp_path / "file", {**TREE, "t": torch.ones(3), "w": np.array(["a"])}, [Point]
        )
        content = (tmp_path / "file").read_bytes()
        for n_wrong in rng.integers(1, 5, size=100):
            damaged = np.frombuffer(content, np.uint8).copy()
            damaged[rng.integers(len(content), size=n_wrong)] += rng.integers(
                1, 256, dtype=np.uint8
            )
            (tmp_path / "file").write_bytes(damaged.tobytes())
            # Blanks between the header and the tensors are nothing that is read.
            with contextlib.suppress(ArchiveError):
                assert equal(read_archive(tmp_path / "file", [Point])["numbers"], TREE["numbers"])

    @pytest.mark.parametrize("seed", range(4))
    def test_any_value_in_the_place_of_another(self, tmp_path, seed):
        draw = random.Random(seed)
        networks = {"mlp": MLP(), "conv": ConvNet()}
        tree = {**TREE, **networks, "t": torch.ones(3), "w": np.array(["a"])}
        write_archive(tmp_path / "file", tree, [Point, ConvNet, MLP])
        tensors = load((tmp_path / "file").read_bytes())
        with safe_open(tmp_path / "file", "pt") as file:
            document = file.metadata()["gandetect"]
        for _ in range(100):
            forged = json.loads(document)
            holder, key = draw.choice(list(places_in(forged)))
            holder[key] = draw.choice(WRONG_VALUES)
            (tmp_path / "file").write_bytes(signed(forged, tensors))
            try:
                assert isinstance(read_archive(tmp_path / "file", [Point, ConvNet, MLP]), dict)
            except ArchiveError as error:
                assert len(str(error)) < 1000

    def test_what_was_read_does_not_live_on_the_file(self, tmp_path):
        path = tmp_path / "file"
        write_archive(path, {"tensor": torch.ones(9), "array": np.ones(9)})
        found = read_archive(path)
        with path.open("r+b") as file:  # as `cp` over it does
            file.write(bytes(path.stat().st_size))
        assert (found["array"] == 1).all()
        assert (found["tensor"] == 1).all()
        maps = Path("/proc/self/maps")
        assert not maps.exists() or str(path) not in maps.read_text()

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


class BytesPath:
    def __fspath__(self):
        return b"x"


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        (b"x", TypeError, "path must be the path of a file, got bytes"),
        (BytesPath(), TypeError, "path must be the path of a file, got BytesPath"),
        (3, TypeError, "path must be the path of a file, got int"),
    ],
    ids=["bytes", "path of bytes", "number"],
)
def test_what_names_no_file(path, error, message):
    for use in (check_writable, read_archive, lambda path: write_archive(path, {})):
        with pytest.raises(error, match=message):
            use(path)


@pytest.mark.parametrize("path", [None, 3, b"x", BytesPath()])
def test_what_names_no_folder(path):
    with pytest.raises(TypeError, match="path must be the path of a folder, got"):
        check_writable_folder(path)


@pytest.mark.parametrize("name", ["a\0b", "\ud800"])
def test_a_name_that_no_file_has(tmp_path, name):
    for use in (check_writable, lambda path: write_archive(path, {})):
        with pytest.raises(
            OSError, match=r"^Cannot write '.*: it contains a character that is not allowed"
        ):
            use(f"{tmp_path}/{name}")
    with pytest.raises(FileNotFoundError, match="There is no file"):
        read_archive(f"{tmp_path}/{name}")
