"""The splits of the quality benchmark.

Every function with a seed uses its own generator, so that a split depends only on the data and the
seed, and not on earlier runs.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

PROTOCOLS = ("adbench", "mnist-one-anomalous", "mnist-one-normal")

# The 21 public sets, sorted by file name. Every second one is for choosing defaults. The others are
# used for reported figures only, so that defaults are not evaluated on the sets on which they were
# chosen.
ADBENCH_SETS = (
    "12_fault",
    "14_glass",
    "18_Ionosphere",
    "20_letter",
    "23_mammography",
    "25_musk",
    "26_optdigits",
    "27_PageBlocks",
    "28_pendigits",
    "29_Pima",
    "2_annthyroid",
    "30_satellite",
    "35_SpamBase",
    "37_Stamps",
    "38_thyroid",
    "40_vowels",
    "41_Waveform",
    "45_wine",
    "47_yeast",
    "4_breastw",
    "6_cardio",
)
TUNING_SETS = ADBENCH_SETS[::2]
REPORT_SETS = ADBENCH_SETS[1::2]

MNIST_DIGITS = tuple("0123456789")
TUNING_DIGITS = MNIST_DIGITS[:5]
REPORT_DIGITS = MNIST_DIGITS[5:]

MAX_TRAIN_ROWS = 2000
MAX_TEST_ROWS = 2000
MIN_TEST_ANOMALIES = 20

N_TRAIN_IMAGES = 4000
N_TEST_IMAGES = 1000  # of each of the two test classes


class Split(NamedTuple):
    """Normal training samples, and a labelled test set (``y_test``: 1 for an anomaly)."""

    X_train: NDArray
    X_test: NDArray
    y_test: NDArray[np.int64]


def halves(protocol: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names in the tuning half and in the report half of a protocol."""
    if protocol not in PROTOCOLS:
        raise ValueError(f"Unknown protocol {protocol!r}; choose one of {', '.join(PROTOCOLS)}.")
    if protocol == "adbench":
        return TUNING_SETS, REPORT_SETS
    return TUNING_DIGITS, REPORT_DIGITS


def select(protocol: str, selection: str) -> tuple[str, ...]:
    """Convert ``all``, ``tune``, ``report`` or a comma-separated list to names of sets or digits.

    Names of sets are not limited to `ADBENCH_SETS`: any file of the folder can be requested.
    """
    tuning, report = halves(protocol)
    named = {"all": tuple(sorted(tuning + report)), "tune": tuning, "report": report}
    names = named.get(selection) or tuple(name.strip() for name in selection.split(","))
    if protocol != "adbench" and not set(names) <= set(MNIST_DIGITS):
        raise ValueError(f"Digits are all, tune, report or some of 0,1,...,9; got {selection!r}.")
    return names


def data_file(folder: Path, protocol: str, name: str) -> Path:
    """Return the file that contains a set, or the whole MNIST."""
    return folder / ("mnist.npz" if protocol != "adbench" else f"adbench/{name}.npz")


def load_split(folder: Path, protocol: str, name: str, seed: int) -> Split:
    """Read one set of ``folder/adbench``, or ``folder/mnist.npz``, and split it.

    Parameters
    ----------
    folder : Path
        Contains ``adbench/<name>.npz`` (arrays ``X`` and ``y``, 1 for an anomaly) and
        ``mnist.npz`` (``x`` (n, 28, 28), ``y``, and ``split``, 0 for the training part and 1 for
        the test part).
    protocol : str
        One of `PROTOCOLS`.
    name : str
        The stem of the file for ``"adbench"``, the digit for MNIST.
    seed : int
        Seed of the draw of samples.

    Returns
    -------
    Split
        Rows (n, d) for ``"adbench"``, images (n, 28, 28) for MNIST, both in their original units.
    """
    path = data_file(folder, protocol, name)
    if protocol == "adbench":
        X, y = _read(path, ("X", "y"))
        return split_rows(X, y, seed)
    images, digits, parts = _read(path, ("x", "y", "split"))
    is_digit = digits == int(name)
    is_normal = is_digit if protocol == "mnist-one-normal" else ~is_digit
    return split_images(images, is_normal, parts, seed)


@lru_cache(maxsize=1)
def _read(path: Path, names: tuple[str, ...]) -> tuple[NDArray, ...]:
    with np.load(path, allow_pickle=False) as arrays:
        return tuple(arrays[name] for name in names)


def split_rows(X: NDArray, y: NDArray, seed: int) -> Split:
    """Split one-class: half of the normal rows for training; the rest and all anomalies for test.

    At most `MAX_TRAIN_ROWS` and `MAX_TEST_ROWS` are kept. A larger test set is subsampled at its
    share of anomalies, but keeps at least `MIN_TEST_ANOMALIES` if it has them.
    """
    rng = np.random.default_rng(seed)
    normal = rng.permutation(np.flatnonzero(y == 0))
    anomalous = rng.permutation(np.flatnonzero(y == 1))
    n_half = len(normal) // 2
    train, normal = normal[:n_half][:MAX_TRAIN_ROWS], normal[n_half:]
    n_test = len(normal) + len(anomalous)
    if n_test > MAX_TEST_ROWS:
        share = round(MAX_TEST_ROWS * len(anomalous) / n_test)
        anomalous = anomalous[: max(share, MIN_TEST_ANOMALIES)]
        normal = normal[: MAX_TEST_ROWS - len(anomalous)]
    return _take(X, train, normal, anomalous, rng)


def split_images(images: NDArray, is_normal: NDArray[np.bool_], parts: NDArray, seed: int) -> Split:
    """Split images: training images from the published training part (0), test images from 1.

    Some digits have fewer than `N_TEST_IMAGES` in the test part (892 fives, 958 sixes). Then the
    missing images are taken from those of the training part that are not used for training.
    """
    rng = np.random.default_rng(seed)
    normal = rng.permutation(np.flatnonzero(is_normal & (parts == 0)))
    train, spare = normal[:N_TRAIN_IMAGES], normal[N_TRAIN_IMAGES:]
    test_normal = rng.permutation(np.flatnonzero(is_normal & (parts == 1)))
    anomalous = rng.permutation(np.flatnonzero(~is_normal & (parts == 1)))
    spare_anomalous = rng.permutation(np.flatnonzero(~is_normal & (parts == 0)))
    test_normal = np.concatenate([test_normal, spare])[:N_TEST_IMAGES]
    anomalous = np.concatenate([anomalous, spare_anomalous])[:N_TEST_IMAGES]
    if len(train) < N_TRAIN_IMAGES or min(len(test_normal), len(anomalous)) < N_TEST_IMAGES:
        raise ValueError(
            f"The protocol needs {N_TRAIN_IMAGES} normal images to train on and {N_TEST_IMAGES} of "
            f"each class to test on; these images give {len(train)}, {len(test_normal)} and "
            f"{len(anomalous)}. Use the whole of MNIST."
        )
    return _take(images, train, test_normal, anomalous, rng)


def _take(
    X: NDArray,
    train: NDArray[np.intp],
    normal: NDArray[np.intp],
    anomalous: NDArray[np.intp],
    rng: np.random.Generator,
) -> Split:
    # Shuffled, so that a detector whose scores depend on the batch has no advantage from batches of
    # a single class.
    test = rng.permutation(np.concatenate([normal, anomalous]))
    return Split(X[train], X[test], np.isin(test, anomalous).astype(np.int64))
