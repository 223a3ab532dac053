"""Writing and reading of trees of data (numbers, strings and tensors) as safetensors files.

A tree consists of nested dicts, lists and tuples of None, bool, int, float, str, numpy arrays,
torch tensors and frozen dataclasses of a given list. Tensors become the tensors of the file; the
rest is JSON in its header. Nothing is pickled, and nothing is imported or called by a name from a
file, so that reading a file from an untrusted source runs no code from it.
"""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import os
import secrets
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes
from torch import Tensor

FORMAT = 1
# The errors that may occur if an object is created from unchecked values.
DAMAGE = (
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    RuntimeError,
    OverflowError,
    RecursionError,
)
_HEADER = "gandetect"
_CHECKSUM = "sha256"
# The functions of `gandetect.export` that read files of other kinds, by their usual extensions.
_EXPORTED = {".onnx": "load_onnx", ".pt2": "load_torch_export"}
# The number of bytes of a trial write: one block, the smallest space of a file.
_BLOCK = bytes(4096)
# An array of strings allocates the length of the longest string for each: 16 KiB in a file could
# become gigabytes.
_WORDS_LIMIT = 2**26
_LONGEST_REASON = 300


class ArchiveError(ValueError):
    """A file that was not written by `write_archive`, or is damaged."""


def write_archive(
    path: str | os.PathLike[str], tree: dict[str, Any], classes: Sequence[type] = ()
) -> None:
    """Write a tree to a file by an atomic write.

    Parameters
    ----------
    path : str or path
    tree : dict
    classes : sequence of type
        The dataclasses that the tree may contain.

    Raises
    ------
    TypeError
        If the tree contains a value that is not data; the message states its path in the tree.
    OSError
        If the file cannot be written.
    """
    content = packed(tree, classes)
    with written_aside(path) as file:
        file.write(content)


def packed(tree: dict[str, Any], classes: Sequence[type] = ()) -> bytes:
    """Return a tree as the bytes that `write_archive` writes; raise TypeError in the same cases."""
    tensors: dict[str, Tensor] = {}
    header = json.dumps({"format": FORMAT, "tree": _encode(tree, "", tensors, tuple(classes))})
    metadata = {_HEADER: header, _CHECKSUM: checksum(header, tensors)}
    return _in_order(to_bytes(tensors, metadata=metadata))


def _in_order(content: bytes) -> bytes:
    """Return the safetensors file with a sorted header, so that equal trees give equal bytes.

    safetensors writes metadata in random order.
    """
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8:end]), sort_keys=True).encode()
    header += b" " * (-len(header) % 8)  # tensors begin at multiples of 8
    return len(header).to_bytes(8, "little") + header + content[end:]


@contextmanager
def written_aside(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file for an atomic write: it appears at its path when the block ends without an error.

    The content is written to a temporary file in the same folder, flushed to the disk and then
    renamed. A full disk or a killed process therefore leaves an existing file unchanged. The mode
    of an existing file is kept, and its owner and group if permitted; if the path is a link, its
    target is replaced. A new file has the mode that `open` would give it.

    Parameters
    ----------
    path : str or path

    Yields
    ------
    file
        A binary file, open for writing.

    Raises
    ------
    FileNotFoundError
        If its folder does not exist.
    IsADirectoryError
        If `path` is a folder.
    OSError
        If `path` is a device, a pipe or a socket, or the file cannot be written.
    """
    with _beside(path) as (file, place):
        yield file
        file.flush()
        os.fsync(file.fileno())
        file.close()
        os.replace(file.name, place)


def check_writable(path: str | os.PathLike[str]) -> None:
    """Check by a trial write whether `written_aside` can write a file, and remove the trial file.

    A trial write of one block detects a read-only or full file system, which permission bits do not
    show. It does not test whether there is enough space for the file itself.

    Parameters
    ----------
    path : str or path

    Raises
    ------
    OSError
        As in `written_aside`.

    Examples
    --------
    >>> from gandetect.archive import check_writable
    >>> check_writable("nowhere/model")
    Traceback (most recent call last):
        ...
    FileNotFoundError: Cannot write 'nowhere/model': there is no such folder.
    """
    with _beside(path) as (file, _):
        file.write(_BLOCK)
        file.flush()


def check_writable_folder(path: str | os.PathLike[str]) -> None:
    """Check by a trial write whether a folder is writable, or can be created.

    A file is written and removed in the folder or in its nearest existing parent.

    Parameters
    ----------
    path : str or path

    Raises
    ------
    NotADirectoryError
        If `path` or one of its parents is a file.
    OSError
        If a name is too long, or a file cannot be written.
    """
    check_path(path, "folder")
    folder = Path(path)
    with _told_of("Cannot write into", path):
        there = next(place for place in (folder, *folder.parents) if os.path.lexists(place))
        if not there.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, f"{str(there)!r} is not a folder")
        for part in folder.relative_to(there).parts:
            try:
                os.stat(there / part)
            except FileNotFoundError:
                pass
            except OSError as error:  # the name is too long
                raise OSError(error.errno, error.strerror) from error
        with _new_file(there, private=True) as file:
            file.write(_BLOCK)
            file.flush()


@contextmanager
def _beside(path: str | os.PathLike[str]) -> Iterator[tuple[BinaryIO, Path]]:
    """Yield a new file in the folder of a path, and the path that it replaces; follow links."""
    check_path(path)
    with _told_of("Cannot write", path):
        if any(c == "\0" or "\ud800" <= c <= "\udbff" for c in os.fspath(path)):
            raise OSError(
                errno.EINVAL, "it contains a character that is not allowed in a file name"
            )
        older = _file_at(path)
        place = Path(os.path.realpath(path))
        # If a file is replaced, the new one is private until it has the permissions of the old one.
        with _new_file(place.parent, private=older is not None) as file:
            if older is not None and os.name == "posix":
                _take_after(file.fileno(), older)
            yield file, place


@contextmanager
def _new_file(folder: Path, *, private: bool) -> Iterator[BinaryIO]:
    """Create a file with a unique name, and remove it at the end unless it was renamed."""
    mode = 0o600 if private else 0o666  # the kernel applies the umask
    name = str(folder / f".gandetect-{secrets.token_hex(8)}.part")
    try:
        with open(name, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            yield file
    finally:
        with suppress(FileNotFoundError, NotADirectoryError):
            os.unlink(name)


def check_path(path: Any, what: str = "file") -> None:
    """Raise a TypeError for a value that is not a path; a number would be a file descriptor.

    Parameters
    ----------
    path : object
    what : str, default="file"
        The kind of path, for the message.

    Examples
    --------
    >>> from gandetect.archive import check_path
    >>> check_path(None, "folder")
    Traceback (most recent call last):
        ...
    TypeError: path must be the path of a folder, got NoneType.
    """
    if not isinstance(path, str | os.PathLike) or isinstance(os.fspath(path), bytes):
        raise TypeError(f"path must be the path of a {what}, got {type(path).__name__}.")


def _file_at(path: str | os.PathLike[str]) -> os.stat_result | None:
    """Return the status of a file, None if it is missing; raise unless it is a writable file."""
    is_folder = os.fspath(path).endswith(os.sep)
    try:
        found = os.stat(path)
    except FileNotFoundError:
        found = None
    if is_folder or (found and stat.S_ISDIR(found.st_mode)):
        raise IsADirectoryError(errno.EISDIR, "it is a folder")
    if found and not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is a device, a pipe or a socket, not a file")
    if found:
        os.close(os.open(path, os.O_WRONLY))  # permission bits are not sufficient
    return found


def _take_after(handle: int, older: os.stat_result) -> None:
    """Give a file the mode of another file, and its owner and group if permitted."""
    mode = stat.S_IMODE(older.st_mode) & 0o777
    with suppress(OSError):
        os.fchown(handle, older.st_uid, -1)
    try:
        os.fchown(handle, -1, older.st_gid)
    except OSError:
        mode &= ~0o070  # the file has another group, which must get no permissions
    with suppress(OSError):  # on a file system without modes
        os.fchmod(handle, mode)


@contextmanager
def _told_of(what: str, path: str | os.PathLike[str]) -> Iterator[None]:
    """State the path in errors that name a temporary file or no file."""
    try:
        yield
    except OSError as error:
        name = str(error.filename or "")
        is_ours = str(path).startswith(name) or name.endswith(".part")
        if error.errno is None or not is_ours:  # an error of another file, which the caller uses
            raise
        missing = error.errno == errno.ENOENT
        reason = "there is no such folder" if missing else error.strerror
        told = type(OSError(error.errno, ""))(f"{what} {str(path)!r}: {reason}.")
        told.errno = error.errno
        raise told from error


def read_archive(
    path: str | os.PathLike[str],
    classes: Sequence[type] = (),
    holds: tuple[str, str] | None = None,
) -> dict[str, Any]:
    """Read the tree from a file of `write_archive`.

    The file is read once and closed, so that later changes of the file have no effect. The memory
    is limited to a small multiple of the size of the file, whatever sizes its header states.

    Parameters
    ----------
    path : str or path
    classes : sequence of type
        The dataclasses that the tree may contain.
    holds : (str, str) or None, default=None
        A key that the tree must have, and what the error says of a whole file without it, which
        gandetect wrote for another purpose.

    Returns
    -------
    dict
        The tree; its tensors and arrays share no memory.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ArchiveError
        If the file is damaged, of another kind or of a newer format, or if the path is a folder, a
        device, a pipe or a socket.
    OSError
        If the file cannot be read.
    """
    return unpacked(_content(path), classes, repr(str(path)), holds)


def unpacked(
    content: bytes,
    classes: Sequence[type] = (),
    what: str = "It",
    holds: tuple[str, str] | None = None,
) -> dict[str, Any]:
    """Return the tree from the bytes of `packed`; `what` names them in an ArchiveError."""
    try:
        tensors = from_bytes(content)
        n_header = int.from_bytes(content[:8], "little")
        metadata = json.loads(content[8 : 8 + n_header])["__metadata__"]
        n_bytes = len(content)
        del content  # the tensors are copies
        header = metadata[_HEADER]
        document = json.loads(header)
        found = document["format"]
        if found != FORMAT:
            shown = repr(found)[:_LONGEST_REASON]
            raise ArchiveError(
                f"{what} has format {shown}, this version of gandetect reads {FORMAT}."
            )
        if metadata[_CHECKSUM] != checksum(header, tensors):
            raise ArchiveError(f"{what} is damaged: its checksum does not match its content.")
        if holds is not None and holds[0] not in [pair[0] for pair in document["tree"]["pairs"]]:
            raise ArchiveError(f"{what} {holds[1]}")
        tree = _Reading(tensors, classes, _WORDS_LIMIT + n_bytes).decode(document["tree"])
    except ArchiveError:
        raise
    # Forged values can raise any error, also in the dataclasses.
    except Exception as error:
        reason = str(error)[:_LONGEST_REASON] or type(error).__name__
        raise ArchiveError(
            f"{what} is damaged or was not written by gandetect ({reason})."
        ) from error
    if not isinstance(tree, dict):
        raise ArchiveError(f"{what} was not written by gandetect: its content is not a dict.")
    return tree


def _content(path: str | os.PathLike[str]) -> bytes:
    check_path(path)
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:  # a NUL: ValueError
        raise FileNotFoundError(f"There is no file {str(path)!r}.") from error
    if not stat.S_ISREG(found.st_mode):  # reading a pipe would block
        kind = "a folder" if stat.S_ISDIR(found.st_mode) else "a device, a pipe or a socket"
        raise ArchiveError(f"{str(path)!r} is {kind}, not a file that gandetect wrote.")
    with open(path, "rb") as file:
        if not is_archive(file.read(9)):  # so that a large file of another kind is not read
            reader = _EXPORTED.get(os.path.splitext(path)[1].lower())
            if reader is not None:
                raise ArchiveError(
                    f"{str(path)!r} is not a file of save: gandetect.export.{reader} reads "
                    "exported files."
                )
            raise ArchiveError(f"{str(path)!r} is damaged or was not written by gandetect.")
        file.seek(0)
        return file.read()


def is_archive(content: bytes) -> bool:
    """Whether bytes begin as a safetensors file does: the size of its header, which is JSON."""
    return content[8:9] == b"{" and content[6:8] == b"\0\0"


def checksum(header: str, tensors: dict[str, Tensor]) -> str:
    """Return the SHA-256 of the header and of all tensors with their names, types and shapes.

    It detects accidental damage only; an attacker who changes the content can recompute it.
    """
    found = hashlib.sha256(header.encode())
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        if tensor.numel():  # torch cannot view an empty tensor as bytes
            found.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def _encode(value: Any, path: str, tensors: dict[str, Tensor], classes: tuple[type, ...]) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray) and value.dtype.kind == "U":
        return {"strings": value.tolist()}
    if isinstance(value, np.ndarray) and value.dtype == object:
        if not all(isinstance(entry, str) for entry in value.flat):
            raise TypeError(
                f"{path.lstrip('/')!r} is an array of objects, which cannot be saved as data."
            )
        return {"names": value.tolist()}
    if isinstance(value, np.ndarray):
        return {"array": _kept(torch.from_numpy(np.array(value, order="C")), tensors)}
    if isinstance(value, Tensor):
        value = value.detach().cpu().clone(memory_format=torch.contiguous_format)
        return {"tensor": _kept(value, tensors)}
    if isinstance(value, dict):
        # As pairs, because the keys of an optimizer's state are numbers.
        return {
            "pairs": [[k, _encode(v, f"{path}/{k}", tensors, classes)] for k, v in value.items()]
        }
    if isinstance(value, list | tuple):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [_encode(v, f"{path}/{i}", tensors, classes) for i, v in enumerate(value)]}
    if isinstance(value, classes):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}  # type: ignore[arg-type]  # classes are dataclasses
        return {"object": type(value).__name__, "fields": _encode(fields, path, tensors, classes)}
    raise TypeError(
        f"{path.lstrip('/')!r} is a {type(value).__name__}, which cannot be saved as data. "
        "Pickle the detector instead, if its readers can trust the source."
    )


def _kept(tensor: Tensor, tensors: dict[str, Tensor]) -> str:
    """Store a tensor under a number, because different paths in a tree can give equal names."""
    name = str(len(tensors))
    tensors[name] = tensor
    return name


class _Reading:
    """Decoding of JSON to a tree, which refuses values that `_encode` never writes.

    Each tensor may be used only once in a tree: many uses could exhaust the memory, because each
    use may copy the tensor.
    """

    def __init__(self, tensors: dict[str, Tensor], classes: Sequence[type], n_bytes: int) -> None:
        self.tensors = tensors
        self.classes = {c.__name__: c for c in classes}
        self.n_bytes = n_bytes  # limit of the memory of string arrays

    def decode(self, value: Any) -> Any:
        if value is None or isinstance(value, bool | int | float | str):
            return value
        if "strings" in value:
            return self._words(value["strings"])
        if "names" in value:
            return _names(value["names"])
        if "array" in value:
            return self._tensor(value["array"]).numpy()
        if "tensor" in value:
            return self._tensor(value["tensor"])
        if "pairs" in value:
            return {k: self.decode(v) for k, v in value["pairs"]}
        if "list" in value:
            return [self.decode(v) for v in value["list"]]
        if "tuple" in value:
            return tuple(self.decode(v) for v in value["tuple"])
        return self.classes[value["object"]](**self.decode(value["fields"]))

    def _tensor(self, name: str) -> Tensor:
        tensor = self.tensors.pop(name)
        # Bytes other than 0 and 1 are invalid booleans, and give wrong sums.
        if tensor.dtype == torch.bool and (tensor.view(torch.uint8) > 1).any():
            raise ValueError("a boolean tensor contains bytes other than 0 and 1")
        return tensor

    def _words(self, value: Any) -> np.ndarray:
        words = _names(value)
        self.n_bytes -= 4 * words.size * max(map(len, words.flat), default=0)
        if self.n_bytes < 0:
            raise ValueError("its arrays of strings exceed the memory limit")
        return words.astype(str)


def _names(value: Any) -> np.ndarray:
    names = np.array(value, dtype=object)
    if not all(isinstance(name, str) for name in names.flat):
        raise ValueError("an array of strings contains other values")
    return names
