"""Trees of numbers, words and tensors in one safetensors file, and back: data only.

A tree is a nest of dicts, lists and tuples over None, bool, int, float, str, numpy arrays, torch
tensors and frozen dataclasses of a closed list. Tensors become the tensors of the file, the rest
is JSON in its header. Nothing is pickled, and nothing is imported or called by a name that a file
holds, so that a file from a stranger can do no more than be refused.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

FORMAT = 1
_HEADER = "gandetect"
_CHECKSUM = "sha256"
# What reading may raise: the last three come from dataclasses that check what they are given.
_DAMAGE = (
    SafetensorError,
    ValueError,
    TypeError,
    LookupError,
    RuntimeError,
    OverflowError,
    AttributeError,
)


class ArchiveError(ValueError):
    """A file that is not, or no longer, what `write_archive` wrote."""


def write_archive(
    path: str | os.PathLike[str], tree: dict[str, Any], classes: Sequence[type] = ()
) -> None:
    """Write a tree to a file, whole or not at all.

    Parameters
    ----------
    path : str or path
    tree : dict
    classes : sequence of type
        The dataclasses that may stand in the tree.

    Raises
    ------
    TypeError
        If the tree holds something that is not data, with the way to it.
    OSError
        If the file cannot be written.
    """
    tensors: dict[str, Tensor] = {}
    header = json.dumps({"format": FORMAT, "tree": _encode(tree, "", tensors, tuple(classes))})
    metadata = {_HEADER: header, _CHECKSUM: checksum(header, tensors)}
    content = to_bytes(tensors, metadata=metadata)
    with written_aside(path) as file:
        file.write(content)


@contextmanager
def written_aside(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file that takes its place, whole, when the block ends, and never if it raises.

    It is written beside its place, flushed to the disk and then renamed, so that a full disk or a
    lost process leaves an older file of that name as it was.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    path = Path(path)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            _give_usual_mode(name)
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def read_archive(path: str | os.PathLike[str], classes: Sequence[type] = ()) -> dict[str, Any]:
    """Read back what `write_archive` wrote.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ArchiveError
        If the file is damaged, of another kind, or of a newer format.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"There is no file {str(path)!r}.")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        header = metadata[_HEADER]
        document = json.loads(header)
        found = document["format"]
        if found != FORMAT:
            raise ArchiveError(
                f"{str(path)!r} has format {found!r}, this version of gandetect reads {FORMAT}."
            )
        if metadata[_CHECKSUM] != checksum(header, tensors):
            raise ArchiveError(
                f"{str(path)!r} is damaged: its checksum is not that of its content."
            )
        tree = _decode(document["tree"], tensors, {c.__name__: c for c in classes})
    except ArchiveError:
        raise
    except _DAMAGE as error:
        raise ArchiveError(
            f"{str(path)!r} is damaged or was not written by gandetect ({error})."
        ) from error
    if not isinstance(tree, dict):
        raise ArchiveError(f"{str(path)!r} does not hold what gandetect writes.")
    return tree


def checksum(header: str, tensors: dict[str, Tensor]) -> str:
    """SHA-256 of the header and of all tensors with their names, types and shapes.

    It finds what was damaged by accident; whoever wants to deceive can compute it as well.
    """
    found = hashlib.sha256(header.encode())
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        if tensor.numel():  # torch cannot see bytes in nothing
            found.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def _give_usual_mode(path: str) -> None:
    """Let others read the file as the user's umask says; a temporary file is private at first."""
    umask = os.umask(0)
    os.umask(umask)
    os.chmod(path, 0o666 & ~umask)


def _encode(value: Any, path: str, tensors: dict[str, Tensor], classes: tuple[type, ...]) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray) and value.dtype.kind == "U":
        return {"strings": value.tolist()}
    if isinstance(value, np.ndarray) and value.dtype == object:
        if not all(isinstance(entry, str) for entry in value.ravel()):
            raise TypeError(f"{path.lstrip('/')!r} is an array of objects, which is not data.")
        return {"names": value.tolist()}
    if isinstance(value, np.ndarray):
        return {"array": _kept(torch.from_numpy(np.array(value, order="C")), tensors)}
    if isinstance(value, Tensor):
        value = value.detach().cpu().clone(memory_format=torch.contiguous_format)
        return {"tensor": _kept(value, tensors)}
    if isinstance(value, dict):
        # Pairs, since the keys of an optimizer's state are numbers.
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
        "Pickle the detector instead, if whoever reads it can trust it."
    )


def _kept(tensor: Tensor, tensors: dict[str, Tensor]) -> str:
    """Keep a tensor under a number of its own, since ways through a tree may read alike."""
    name = str(len(tensors))
    tensors[name] = tensor
    return name


def _decode(value: Any, tensors: dict[str, Tensor], classes: dict[str, type]) -> Any:
    if not isinstance(value, dict):
        return value
    if "strings" in value:
        return np.array(value["strings"], dtype=str)
    if "names" in value:
        return np.array(value["names"], dtype=object)
    if "array" in value:
        return tensors[value["array"]].numpy()
    if "tensor" in value:
        return tensors[value["tensor"]]
    if "pairs" in value:
        return {k: _decode(v, tensors, classes) for k, v in value["pairs"]}
    if "list" in value:
        return [_decode(v, tensors, classes) for v in value["list"]]
    if "tuple" in value:
        return tuple(_decode(v, tensors, classes) for v in value["tuple"])
    return classes[value["object"]](**_decode(value["fields"], tensors, classes))
