"""The data sets that have names: whether they are there, and how to come by them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from gandetect.datasets.cifar10 import CIFAR10_ARCHIVE
from gandetect.datasets.download import RemoteFile, download
from gandetect.datasets.kddcup99 import KDDCUP99_ARCHIVE
from gandetect.datasets.mnist import FASHION_MNIST_FILES, MNIST_FILES


@dataclass(frozen=True, kw_only=True)
class CatalogueEntry:
    """A data set that has a name.

    Parameters
    ----------
    name : str
        The name.
    written : str
        How the command line names it, with the member where it is a family.
    description : str
        What it holds.
    patterns : tuple of str
        What is looked for under the data folder, as in `pathlib.Path.glob`.
    instructions : str
        Where a copy comes from, and where to put it.
    remote : tuple of RemoteFile, default=()
        What can be fetched.
    folder : str, default="."
        Where fetched files go.
    """

    name: str
    written: str
    description: str
    patterns: tuple[str, ...]
    instructions: str
    remote: tuple[RemoteFile, ...] = ()
    folder: str = "."

    def find(self, data_dir: Path) -> list[Path]:
        """Return the files or folders of the first pattern that any matches."""
        for pattern in self.patterns:
            if found := sorted(data_dir.glob(pattern)):
                return found
        return []

    def state(self, data_dir: Path) -> str:
        """Say in a word or two what is there."""
        found = self.find(data_dir)
        if not found:
            return "no"
        return str(found[0]) if len(found) == 1 else f"{len(found)} in {os.path.commonpath(found)}"

    def fetch(self, data_dir: Path) -> None:
        """Fetch what is not there, with its checksum tested.

        Parameters
        ----------
        data_dir : pathlib.Path
            The data folder; made if needed.

        Raises
        ------
        ConnectionError
            If it can not be fetched, or is not offered for that; the message says what to put
            where.
        DataFileError
            If what came has another checksum.
        """
        if self.find(data_dir):
            return
        if not self.remote:
            raise ConnectionError(
                f"{self.name} is not offered for fetching: {self.instructions} in {data_dir}"
            )
        for remote in self.remote:
            download(remote, data_dir / self.folder)


_ENTRIES = (
    CatalogueEntry(
        name="mnist",
        written="mnist",
        description="70,000 digits, 28 x 28, ten classes",
        patterns=(
            "mnist.npz",
            "mnist/*-ubyte*",
            "MNIST/raw/*-ubyte*",
            "mnist/mnist.npz",
            "MNIST/mnist.npz",
        ),
        instructions="the four *-ubyte.gz as mnist/, or mnist.npz",
        remote=tuple(MNIST_FILES.values()),
        folder="mnist",
    ),
    CatalogueEntry(
        name="fashion-mnist",
        written="fashion-mnist",
        description="70,000 pieces of clothing, 28 x 28, ten classes",
        patterns=("fashion-mnist/*-ubyte*", "FashionMNIST/raw/*-ubyte*"),
        instructions="the four *-ubyte.gz as fashion-mnist/",
        remote=tuple(FASHION_MNIST_FILES.values()),
        folder="fashion-mnist",
    ),
    CatalogueEntry(
        name="cifar10",
        written="cifar10",
        description="60,000 pictures, 32 x 32 x 3, ten classes",
        patterns=(
            "cifar-10-batches-py",
            "cifar10/cifar-10-batches-py",
            "cifar-10/cifar-10-batches-py",
            CIFAR10_ARCHIVE.name,
            f"cifar10/{CIFAR10_ARCHIVE.name}",
            f"cifar-10/{CIFAR10_ARCHIVE.name}",
            "cifar10/t*/airplane",
            "cifar-10/t*/airplane",
            "CIFAR-10/t*/airplane",
        ),
        instructions=f"{CIFAR10_ARCHIVE.name}, or cifar10/train/<class>/*.png and test/",
        remote=(CIFAR10_ARCHIVE,),
    ),
    CatalogueEntry(
        name="kddcup99",
        written="kddcup99, kddcup99:attack",
        description="494,021 connections, 121 columns; normal traffic, or attacks, as anomalies",
        patterns=("kddcup.data_10_percent*", "kddcup99/kddcup.data_10_percent*"),
        instructions=KDDCUP99_ARCHIVE.name,
        remote=(KDDCUP99_ARCHIVE,),
    ),
    CatalogueEntry(
        name="mvtec",
        written="mvtec:CATEGORY",
        description="industrial images with defects and masks, or any set in that layout",
        patterns=("mvtec/*/train", "*/train/good"),
        instructions="mvtec/<category>/train/good/*.png, test/ and ground_truth/, as published at "
        "mvtec.com",
    ),
    CatalogueEntry(
        name="adbench",
        written="adbench:SET",
        description="tabular sets with anomalies",
        patterns=(
            "adbench/[0-9]*_*.npz",
            "adbench/Classical/[0-9]*_*.npz",
            "Classical/[0-9]*_*.npz",
            "[0-9]*_*.npz",
        ),
        instructions="<number>_<name>.npz of github.com/Minqi824/ADBench as adbench/",
    ),
)

CATALOGUE = {entry.name: entry for entry in _ENTRIES}
