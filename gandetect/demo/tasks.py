"""The data of the demo: each task is one function, named in `TASKS`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer, load_digits, load_sample_images
from sklearn.model_selection import train_test_split

from gandetect.datasets import one_class_rows_split, one_class_split

# Side of the cuttings of photographs, in pixels.
_CUTTING = 32


@dataclass(frozen=True, eq=False, kw_only=True)
class Task:
    """Normal samples to fit on, a mixed batch for the threshold, and labelled samples to judge by.

    Parameters
    ----------
    name : str
        In the table and, with hyphens, in file names.
    what_is_normal : str
        For the reader, with `name` before it.
    X_train : ndarray of shape (n_samples, ...)
        Normal samples.
    X_mixed : ndarray of shape (n_samples, ...)
        Normal and anomalous samples, unlabelled.
    outlier_perc : float
        The percentage of anomalies in `X_mixed`.
    X_test : ndarray of shape (n_samples, ...)
        None of them in `X_train` or `X_mixed`.
    y_test : ndarray of shape (n_samples,)
        1 for an anomaly, 0 for a normal sample.
    epochs : int or "auto"
        What the detectors train; in the demo so that a fit takes seconds.
    batch_size : int or "auto", default="auto"
        A number makes the epochs as many updates for each detector.
    feature_names : sequence of str or None, default=None
        Of rows.
    """

    name: str
    what_is_normal: str
    X_train: NDArray[Any]
    X_mixed: NDArray[Any]
    outlier_perc: float
    X_test: NDArray[Any]
    y_test: NDArray[np.int64]
    epochs: int | str
    batch_size: int | str = "auto"
    feature_names: Sequence[str] | None = None

    @property
    def is_rows(self) -> bool:
        """Whether the samples are rows; if not they are images."""
        return self.X_train.ndim == 2

    def describe(self) -> str:
        """What is fitted, where the threshold comes from, and what is judged."""
        shape = " x ".join(map(str, self.X_train.shape[1:]))
        shape = f"rows of {shape} features" if self.is_rows else f"images of {shape} pixels"
        return (
            f"{self.name}: {self.what_is_normal}. Fitted for {self.epochs} epochs on "
            f"{len(self.X_train)} normal {shape}; threshold from a mixed batch of "
            f"{len(self.X_mixed)}, of which {self.outlier_perc:.3g} % are expected to be "
            f"anomalous; judged on {len(self.X_test)} others."
        )


def breast_cancer(seed: int) -> Task:
    """Rows: cell nuclei of benign tumours are normal, those of malignant ones anomalies."""
    data = load_breast_cancer()
    is_malignant = 1 - data.target
    split = one_class_rows_split(data.data, is_malignant, random_state=seed, outlier_fraction=0.3)
    return task_of_split(
        split,
        seed,
        name="breast cancer",
        what_is_normal="benign tumours are normal, malignant ones are not",
        epochs=100,
        feature_names=data.feature_names,
    )


def digit_anomalous(seed: int, digit: int = 3) -> Task:
    """Images: one digit is the anomaly, all others are normal."""
    data = load_digits()
    split = one_class_split(
        data.images,
        data.target,
        anomalous_class=digit,
        n_train=640,
        outlier_fraction=0.15,
        random_state=seed,
    )
    return task_of_split(
        split,
        seed,
        name=f"digits, {digit} anomalous",
        what_is_normal=f"all digits but {digit} are normal",
        epochs=20,
        batch_size=64,
    )


def digit_normal(seed: int, digit: int = 8) -> Task:
    """Images: one digit is normal, all others are anomalies."""
    data = load_digits()
    split = one_class_split(
        data.images,
        data.target,
        normal_class=digit,
        n_train=90,
        outlier_fraction=0.3,
        random_state=seed,
    )
    return task_of_split(
        split,
        seed,
        name=f"digits, {digit} normal",
        what_is_normal=f"only the digit {digit} is normal",
        epochs=100,
        batch_size=64,
    )


def photographs(seed: int) -> Task:
    """Images: cuttings of two photographs are normal, made defects on them anomalies.

    Training and test take turns along the photographs, strip by strip, and share no pixel.
    """
    rng = np.random.default_rng(seed)
    strips = [
        photograph[::2, left : left + 2 * _CUTTING : 2]
        for photograph in load_sample_images().images
        for left in range(0, photograph.shape[1] - 2 * _CUTTING + 1, 2 * _CUTTING)
    ]
    X_train, X_rest = (_cuttings(strips[first::2], n, rng) for first, n in ((0, 24), (1, 16)))
    y_rest = (np.arange(len(X_rest)) % 5 == 0).astype(int)
    for i in np.flatnonzero(y_rest):
        X_rest[i] = _with_defect(X_rest[i], rng)
    return task_of_split(
        (X_train, X_rest, y_rest),
        seed,
        name="photographs with defects",
        what_is_normal="cuttings of two photographs are normal, made spots and scratches are not",
        epochs=8,
    )


TASKS: tuple[Callable[[int], Task], ...] = (
    breast_cancer,
    digit_anomalous,
    digit_normal,
    photographs,
)


def _cuttings(
    strips: Sequence[NDArray[Any]], n_each: int, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Squares at even distances along each strip, from a start drawn once."""
    start = rng.integers(0, 4)
    tops = np.linspace(start, strips[0].shape[0] - _CUTTING, n_each).astype(int)
    return np.stack([strip[top : top + _CUTTING] for strip in strips for top in tops])


def _with_defect(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Put a half transparent spot or scratch of any colour onto an image."""
    y, x = np.ogrid[: image.shape[0], : image.shape[1]]
    across, along = (axis - rng.uniform(8, _CUTTING - 8) for axis in (y, x))
    angle = rng.uniform(0, np.pi)
    turned = across * np.cos(angle) + along * np.sin(angle)
    other = along * np.cos(angle) - across * np.sin(angle)
    height, width = ((2.5, 4.0), (1.0, 9.0))[rng.integers(2)]
    is_spoilt = (turned / height) ** 2 + (other / width) ** 2 < 1
    colour, opacity = rng.integers(0, 256, size=3), rng.uniform(0.5, 0.9)
    spoilt = np.where(is_spoilt[..., None], (1 - opacity) * image + opacity * colour, image)
    return spoilt.astype(np.uint8)


def task_of_split(
    split: tuple[NDArray[Any], NDArray[Any], NDArray[np.int64]], seed: int, **about: Any
) -> Task:
    """Make a task, halving what is not trained on into the mixed batch and the test."""
    X_train, X_rest, y_rest = split
    X_mixed, X_test, y_mixed, y_test = train_test_split(
        X_rest, y_rest, test_size=0.5, stratify=y_rest, random_state=seed
    )
    return Task(
        X_train=X_train,
        X_mixed=X_mixed,
        outlier_perc=100 * float(np.mean(y_mixed)),
        X_test=X_test,
        y_test=y_test,
        **about,
    )
