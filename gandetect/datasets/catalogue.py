"""The catalogue of named data sets: which files are present, and how to obtain the others."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gandetect.data.images import DataFileError
from gandetect.datasets.adbench import load_adbench
from gandetect.datasets.cifar10 import (
    CIFAR10_ARCHIVE,
    CIFAR10_BATCHES,
    CIFAR10_CLASSES,
    load_cifar10,
)
from gandetect.datasets.download import RemoteFile, download
from gandetect.datasets.files import DAMAGED_STREAM_ERRORS, open_maybe_gzip
from gandetect.datasets.idx import read_idx
from gandetect.datasets.kddcup99 import KDDCUP99_ARCHIVE, load_kddcup99
from gandetect.datasets.mnist import (
    FASHION_MNIST_FILES,
    MNIST_FILES,
    load_fashion_mnist,
    load_mnist,
)
from gandetect.datasets.mvtec import load_mvtec
from gandetect.datasets.textures import iter_textures

# One layout of a data set on disk: a tuple with one element for each file or folder that it needs.
# An element lists the possible places, as patterns of `pathlib.Path.glob` under the data folder;
# the first pattern that matches is used.
Form = tuple[tuple[str, ...], ...]

_CHUNK_BYTES = 1 << 20


def _check_stream(path: Path) -> None:
    """Raise DataFileError if a compressed file cannot be decompressed completely."""
    try:
        with open_maybe_gzip(path) as file:
            while file.read(_CHUNK_BYTES):
                pass
    except DAMAGED_STREAM_ERRORS as error:
        raise DataFileError(f"{path} is damaged or cut off: {error}") from error


@dataclass(frozen=True, kw_only=True)
class CatalogueEntry:
    """A named data set.

    Parameters
    ----------
    name : str
        The name.
    load : callable
        The function that reads it.
    written : str
        Its name on the command line; for a family of data sets, with a placeholder for the member.
    description : str
        Its content.
    forms : tuple of Form
        The supported layouts on disk; one complete layout is enough.
    instructions : str
        Where to get a copy, and where to put it.
    remote : tuple of RemoteFile, default=()
        The files that can be downloaded.
    remote_form : Form, default=()
        The possible places of each file of `remote`.
    folder : str, default="."
        The folder for downloaded files.
    check : function of a path, default: decompress the whole file
        Raises DataFileError for an incomplete file.
    """

    name: str
    load: Callable[..., Any]
    written: str
    description: str
    forms: tuple[Form, ...]
    instructions: str
    remote: tuple[RemoteFile, ...] = ()
    remote_form: Form = ()
    folder: str = "."
    check: Callable[[Path], object] = _check_stream

    def find(self, data_dir: Path) -> list[Path]:
        """Return the files or folders of a complete form, else those of the most complete one."""
        return self._find(data_dir)[0]

    def is_complete(self, data_dir: Path) -> bool:
        """Return whether all files of one of the forms are present."""
        return self._find(data_dir)[1] == 0

    def state(self, data_dir: Path) -> str:
        """Return a short text that states which files are present."""
        found, n_missing = self._find(data_dir)
        if not found:
            return "no"
        if n_missing:
            folder = os.path.commonpath([path.parent for path in found])
            return f"{len(found)} of {len(found) + n_missing} in {folder}"
        return str(found[0]) if len(found) == 1 else f"{len(found)} in {os.path.commonpath(found)}"

    def _find(self, data_dir: Path) -> tuple[list[Path], int]:
        """Return the files or folders that are present of one form, and how many are missing."""
        found_of_forms = []
        for form in self.forms:
            members = [_first_match(data_dir, patterns) for patterns in form]
            n_missing = sum(not member for member in members)
            found_of_forms.append(([path for member in members for path in member], n_missing))
            if not n_missing:
                return found_of_forms[-1]
        return max(found_of_forms, key=lambda found: len(found[0]))

    def fetch(self, data_dir: Path) -> None:
        """Download every missing file and test its checksum.

        Parameters
        ----------
        data_dir : pathlib.Path
            The data folder; made if needed.

        Raises
        ------
        ConnectionError
            If the data set cannot be downloaded, or is not offered for download; the message names
            the files and their folder.
        DataFileError
            If a downloaded file has a wrong checksum, or a file that is present is damaged. The
            damaged file is not deleted; the user can delete it.
        """
        there = [_first_match(data_dir, patterns) for patterns in self.remote_form]
        for path in (path for paths in there for path in paths):
            try:
                self.check(path)
            except DataFileError as error:
                raise DataFileError(f"{error}. Delete {path} to download it again") from error
        if self.is_complete(data_dir):
            return
        if not self.remote:
            raise ConnectionError(
                f"{self.name} cannot be downloaded: put {self.instructions} into {data_dir}"
            )
        for remote, paths in zip(self.remote, there, strict=True):
            if not paths:
                download(remote, data_dir / self.folder)


def _first_match(data_dir: Path, patterns: tuple[str, ...]) -> list[Path]:
    """Return the matches of the first pattern that has any, sorted."""
    matches = (sorted(data_dir.glob(pattern)) for pattern in patterns)
    return next((found for found in matches if found), [])


def _in_any(folders: tuple[str, ...], *names: str) -> tuple[str, ...]:
    return tuple(f"{folder}/{name}" for folder in folders for name in names)


def _idx_form(files: dict[str, RemoteFile], *folders: str) -> Form:
    return tuple(_in_any(folders, name, f"{name}.gz") for name in files)


_MNIST_FORM = _idx_form(MNIST_FILES, "mnist", "MNIST/raw")
_FASHION_MNIST_FORM = _idx_form(FASHION_MNIST_FILES, "fashion-mnist", "FashionMNIST/raw")
_CIFAR10_FOLDERS = (".", "cifar10", "cifar-10")
_CIFAR10_ARCHIVE_FORM = (_in_any(_CIFAR10_FOLDERS, CIFAR10_ARCHIVE.name),)
_KDDCUP99_FORM = (
    _in_any(
        (".", "kddcup99"),
        *(f"kddcup.data_10_percent{end}" for end in ("", ".gz", "_corrected", "_corrected.gz")),
    ),
)

_ENTRIES = (
    CatalogueEntry(
        name="mnist",
        load=load_mnist,
        written="mnist",
        description="70,000 digits, 28 x 28, ten classes",
        forms=((("mnist.npz", "mnist/mnist.npz", "MNIST/mnist.npz"),), _MNIST_FORM),
        instructions="the four *-ubyte.gz as mnist/, or mnist.npz",
        remote=tuple(MNIST_FILES.values()),
        remote_form=_MNIST_FORM,
        folder="mnist",
        check=read_idx,
    ),
    CatalogueEntry(
        name="fashion-mnist",
        load=load_fashion_mnist,
        written="fashion-mnist",
        description="70,000 pieces of clothing, 28 x 28, ten classes",
        forms=(_FASHION_MNIST_FORM,),
        instructions="the four *-ubyte.gz as fashion-mnist/",
        remote=tuple(FASHION_MNIST_FILES.values()),
        remote_form=_FASHION_MNIST_FORM,
        folder="fashion-mnist",
        check=read_idx,
    ),
    CatalogueEntry(
        name="cifar10",
        load=load_cifar10,
        written="cifar10",
        description="60,000 pictures, 32 x 32 x 3, ten classes",
        forms=(
            *(
                tuple((f"{folder}/cifar-10-batches-py/{batch}",) for batch in CIFAR10_BATCHES)
                for folder in _CIFAR10_FOLDERS
            ),
            _CIFAR10_ARCHIVE_FORM,
            *(
                tuple(
                    (f"{folder}/{part}/{name}",)
                    for part in ("train", "test")
                    for name in CIFAR10_CLASSES
                )
                for folder in ("cifar10", "cifar-10", "CIFAR-10")
            ),
        ),
        instructions=f"{CIFAR10_ARCHIVE.name}, or cifar10/train/<class>/*.png and test/",
        remote=(CIFAR10_ARCHIVE,),
        remote_form=_CIFAR10_ARCHIVE_FORM,
    ),
    CatalogueEntry(
        name="kddcup99",
        load=load_kddcup99,
        written="kddcup99, kddcup99:attack",
        description="494,021 connections, 121 columns; normal traffic, or attacks, as anomalies",
        forms=(_KDDCUP99_FORM,),
        instructions=KDDCUP99_ARCHIVE.name,
        remote=(KDDCUP99_ARCHIVE,),
        remote_form=_KDDCUP99_FORM,
    ),
    CatalogueEntry(
        name="mvtec",
        load=load_mvtec,
        written="mvtec:CATEGORY",
        description="industrial images with defects and masks, or any set in that layout",
        forms=((("mvtec/*/train", "*/train/good", "*/train/ok", "*/Data/Images"),),),
        instructions="mvtec/<category>/train/good/*.png, test/ and ground_truth/, as published at "
        "mvtec.com; VisA and BTech likewise, and good/ and bad/ of your own as a plain folder",
    ),
    CatalogueEntry(
        name="dtd",
        load=iter_textures,
        written="(rdna: --set anomaly_source=FOLDER)",
        description="5,640 photographs of textures, a source of simulated anomalies",
        forms=((("dtd/images/*/", "images/banded/", "dtd/*/"),),),
        instructions="images/ of dtd-r1.0.1.tar.gz as dtd/images/<class>/*.jpg, as published at "
        "robots.ox.ac.uk/~vgg/data/dtd",
    ),
    CatalogueEntry(
        name="adbench",
        load=load_adbench,
        written="adbench:SET",
        description="tabular sets with anomalies",
        forms=(
            (
                (
                    "adbench/[0-9]*_*.npz",
                    "adbench/Classical/[0-9]*_*.npz",
                    "Classical/[0-9]*_*.npz",
                    "[0-9]*_*.npz",
                ),
            ),
        ),
        instructions="<number>_<name>.npz of github.com/Minqi824/ADBench as adbench/",
    ),
)

CATALOGUE = {entry.name: entry for entry in _ENTRIES}
