"""Read a classifier from a file: a scikit-learn one from skops, a torch network from .pt2."""

from __future__ import annotations

import copy
import os
import warnings
import zipfile
from pathlib import Path
from typing import Any, Self

from torch import nn

SUFFIXES = (".skops", ".pt2")
# The decompressed size may be this multiple of the file size, plus a constant. A larger archive is
# a decompression bomb, not a classifier.
_MOST_PACKED = 20
_ALWAYS_TAKEN = 2**24


class ExportedNetwork(nn.Module):
    """The network of a `torch.export` program that was exported in evaluation mode.

    Parameters
    ----------
    module : nn.Module
        The result of ``ExportedProgram.module()``. Its ``train`` and ``eval`` raise an error, so
        this class overrides ``train``.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.program = module

    def forward(self, x: Any) -> Any:
        """Return the output of the exported network."""
        return self.program(x)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        with warnings.catch_warnings():
            # torch's copy of a program uses a deprecated name of torch and warns of it.
            warnings.filterwarnings("ignore", ".*LeafSpec", FutureWarning)
            return type(self)(copy.deepcopy(self.program, memo))

    def train(self, mode: bool = True) -> Self:
        """Keep the mode in which it was exported, whatever `mode` is."""
        self.training = False
        return self


def read_classifier(path: str | os.PathLike[str]) -> Any:
    """Read a fitted classifier from a file, for the parameter `classifier`.

    Parameters
    ----------
    path : str or path
        Its ending determines the format:

        - ``.skops``: a classifier of scikit-learn, also in a Pipeline, as written by
          ``skops.io.dump``. Reading it runs no code from the file; a type that is not
          scikit-learn's or numpy's is refused.
        - ``.pt2``: a torch network, as written by ``torch.export.save``, exported in evaluation
          mode and with a dynamic batch size. **Opening it can run code from the file**: open it
          only if you trust its author.

    Returns
    -------
    classifier
        An estimator, or an nn.Module that is differentiable.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ImportError
        If skops is not installed and the file needs it.
    ValueError
        If the ending is another one, or the file is damaged, of another kind, or so strongly
        compressed that its content could exhaust the memory.
    """
    place = Path(path).expanduser()
    if place.suffix.lower() not in SUFFIXES:
        raise ValueError(
            f"A classifier is read from a file that ends in {' or '.join(SUFFIXES)}, as "
            f"skops.io.dump and torch.export.save write them; got {str(path)!r}."
        )
    if not place.is_file():
        raise FileNotFoundError(f"There is no file {str(path)!r}.")
    return _from_skops(place) if place.suffix.lower() == ".skops" else _from_program(place)


def _from_skops(place: Path) -> Any:
    try:
        import skops.io
    except ImportError as error:
        raise ImportError(
            'reading a classifier from .skops needs skops: pip install "gandetect[skops]"'
        ) from error
    try:
        _check_unpacked_size(place)
        return skops.io.load(place)
    except Exception as error:
        raise ValueError(
            f"{str(place)!r} does not contain a scikit-learn classifier: {error}"
        ) from error


def _check_unpacked_size(place: Path) -> None:
    """Raise ValueError for an archive whose decompressed size is far above its file size."""
    with zipfile.ZipFile(place) as archive:
        n_bytes = sum(entry.file_size for entry in archive.infolist())
    if n_bytes > _ALWAYS_TAKEN + _MOST_PACKED * place.stat().st_size:
        raise ValueError(
            f"its decompressed size would be {n_bytes} bytes, more than {_MOST_PACKED} times its "
            "file size; if you trust it, save it without compression"
        )


def _from_program(place: Path) -> ExportedNetwork:
    import torch

    try:
        return ExportedNetwork(torch.export.load(place).module())
    except Exception as error:
        raise ValueError(
            f"{str(place)!r} does not contain a torch.export program: {error}"
        ) from error
