"""Model selection without labels: a scorer for searches that needs no real anomalies.

The scored samples are held-out normal samples, as in cross-validation. Anomalies are simulated from
them, and the score of a detector is its AUROC between the two.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from sklearn.utils import check_array

from gandetect.data.frames import (
    Column,
    Dates,
    Numbers,
    Words,
    needs_encoding,
    read_frame,
    table_like,
)
from gandetect.data.values import checked_values
from gandetect.metrics import scores_of

__all__ = ["SimulatedAnomalyScorer", "simulate_anomalies", "simulated_anomaly_scorer"]

FloatArray = NDArray[np.float64]
Generator = np.random.Generator


@dataclass(frozen=True)
class SimulatedAnomalyScorer:
    """A scorer for ``scoring=`` that needs no labels: AUROC against simulated anomalies.

    The score is the mean, over the kinds of anomalies, of the area under the ROC curve between the
    samples and anomalies that `simulate_anomalies` makes from them. It ranks settings of one
    detector on one data set; its value does not predict the AUROC on real anomalies.
    ``benchmarks/README.md`` reports the rank correlation of the two, and compares the selected
    settings with a random choice and the default.

    Parameters
    ----------
    kinds : tuple of str or None, default=None
        The kinds of `simulate_anomalies` to use; None uses all kinds for the type of data. With
        ``("uniform",)`` the score is one minus the area under the mass-volume curve over the
        bounding box of the data [1]_.
    image_shape : tuple of int or None, default=None
        (height, width) or (height, width, channels) of images that are passed as flat rows.
    channel_axis : {-1, 0, None}, default=-1
        The axis of one image that holds the channels.
    random_state : int, default=0
        The seed. The same samples give the same anomalies, so that all settings of a search are
        evaluated on the same ones.

    References
    ----------
    .. [1] Goix, "How to evaluate the quality of unsupervised anomaly detection algorithms?", ICML
       Anomaly Detection Workshop, 2016.

    Examples
    --------
    >>> import numpy as np
    >>> from gandetect import GANomalyDetector
    >>> from gandetect.selection import simulated_anomaly_scorer
    >>> from sklearn.model_selection import GridSearchCV
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(120, 2)) @ rng.normal(size=(2, 5))
    >>> detector = GANomalyDetector(n_estimators=1, epochs=20, random_state=0)
    >>> search = GridSearchCV(
    ...     detector, {"learning_rate": [1e-9, 3e-3]}, scoring=simulated_anomaly_scorer, cv=2
    ... )
    >>> search.fit(X).best_params_
    {'learning_rate': 0.003}
    """

    kinds: tuple[str, ...] | None = None
    image_shape: tuple[int, ...] | None = None
    channel_axis: int | None = -1
    random_state: int = 0

    @property
    def __name__(self) -> str:
        """The name for the axis of learning and validation curves."""
        return "simulated_anomaly_roc_auc"

    def __call__(self, estimator: Any, X: Any, y: object = None) -> float:
        """Score a fitted detector; larger is better.

        Parameters
        ----------
        estimator : object
            A fitted outlier detector, or a pipeline with one as its last step.
        X : array-like of shape (n_samples, ...) or table
            Normal samples, preferably held out from training. A few anomalies among them have
            little effect.
        y : ignored
            Not used.

        Returns
        -------
        float

        Raises
        ------
        ValueError
            If there is only one sample, or one of `kinds` is not for this type of data.
        TypeError
            If the sign of the estimator's scores is unknown.
        """
        return float(np.mean(list(self.by_kind(estimator, X).values())))

    def by_kind(self, estimator: Any, X: Any) -> dict[str, float]:
        """Return the area under the ROC curve for each kind of anomaly.

        Parameters
        ----------
        estimator, X
            As in a call of the scorer.

        Returns
        -------
        dict of str to float
        """
        values = X if _is_table(X) else _checked(X)
        known = _kinds_of(values, self.image_shape)
        scores = scores_of(estimator, X)
        is_anomaly = np.repeat([0, 1], len(scores))
        aurocs = {}
        for kind in self.kinds or known:
            anomalies = simulate_anomalies(
                values,
                kind,
                image_shape=self.image_shape,
                channel_axis=self.channel_axis,
                random_state=self.random_state,
            )
            if values is not X:
                anomalies = _like(X, anomalies)
            anomalous = scores_of(estimator, anomalies)
            aurocs[kind] = float(roc_auc_score(is_anomaly, np.concatenate([scores, anomalous])))
        return aurocs


def simulate_anomalies(
    X: Any,
    kind: str,
    *,
    image_shape: tuple[int, ...] | None = None,
    channel_axis: int | None = -1,
    random_state: int = 0,
) -> Any:
    """Simulate one anomaly from each sample.

    Parameters
    ----------
    X : array-like of shape (n_samples, ...) or table
        Rows, images, or flat rows with `image_shape`; at least 2. A table may have strings, dates
        and missing values.
    kind : str
        For rows: "permuted" takes some columns from other rows, so that only the combination of
        values is anomalous; "shifted" shifts some columns by two to four of their standard
        deviations, or replaces them by another category; "uniform" draws every column uniformly
        from its range, or from its categories; missing values are kept. For images: "patch" pastes
        a rectangle from another position of another image, as CutPaste [1]_ does within one image;
        "noise" adds noise to a rectangle; "blended" is the mean with another image.
    image_shape, channel_axis
        As in a detector.
    random_state : int, default=0

    Returns
    -------
    ndarray of the shape of X, float64; for a table with other columns than numbers, a table of the
    type of X

    Raises
    ------
    TypeError
        If an array X has values other than numbers, such as times.
    ValueError
        If X has fewer than 2 samples, or `kind` is not for this type of data.

    References
    ----------
    .. [1] Li, Sohn, Yoon and Pfister, "CutPaste: self-supervised learning for anomaly detection
       and localization", CVPR 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from gandetect.selection import simulate_anomalies
    >>> simulate_anomalies(np.arange(12.0).reshape(4, 3), "uniform").shape
    (4, 3)
    """
    is_table = _is_table(X)
    values = X if is_table else _checked(X)
    kinds = _kinds_of(values, image_shape)
    if kind not in kinds:
        raise ValueError(f"kind must be one of {sorted(kinds)} for these data, got {kind!r}.")
    rng = np.random.default_rng(random_state)
    if is_table:
        return _of_table(X, kind, rng)
    if kinds is ROW_KINDS:
        return kinds[kind](values, rng)
    images = values.reshape(len(values), *(image_shape or values.shape[1:]))
    is_channels_first = images.ndim == 4 and channel_axis == 0
    if is_channels_first:
        images = np.moveaxis(images, 1, -1)
    anomalies = kinds[kind](images, rng)
    if is_channels_first:
        anomalies = np.moveaxis(anomalies, -1, 1)
    return anomalies.reshape(values.shape)


def _is_table(X: Any) -> bool:
    """Return whether X is a table with columns of any kind; an array of times is not."""
    return needs_encoding(X) and getattr(getattr(X, "dtype", None), "kind", "O") not in "mM"


def _checked(X: Any) -> FloatArray:
    X = checked_values(X)
    return np.asarray(check_array(X, allow_nd=True, dtype=np.float64, ensure_min_samples=2))


def _kinds_of(values: Any, image_shape: tuple[int, ...] | None) -> dict[str, Maker]:
    is_image = image_shape is not None or getattr(values, "ndim", 2) != 2
    return IMAGE_KINDS if is_image else ROW_KINDS


def _like(X: Any, values: FloatArray) -> Any:
    """Return values in the type of X, because columns of a pandas DataFrame are matched by name."""
    if hasattr(X, "iloc") and hasattr(X, "columns"):
        return type(X)(values, columns=X.columns)
    return values


def _others(n: int, rng: Generator) -> NDArray[np.intp]:
    """Draw for each of n samples the index of another sample."""
    return (np.arange(n) + rng.integers(1, n, size=n)) % n


def _some_columns(n: int, d: int, rng: Generator) -> NDArray[np.bool_]:
    """Draw a mask of columns for each row: a random share of them, at least one."""
    mask = rng.random((n, d)) < rng.random((n, 1))
    mask[np.arange(n), rng.integers(d, size=n)] = True
    return mask


def _permuted(X: FloatArray, rng: Generator) -> FloatArray:
    return np.where(_some_columns(len(X), X.shape[1], rng), rng.permuted(X, axis=0), X)


def _shifted(X: FloatArray, rng: Generator) -> FloatArray:
    by = _steps(X.std(axis=0), X.shape, rng)
    return np.where(_some_columns(len(X), X.shape[1], rng), X + by, X)


def _steps(spread: Any, shape: tuple[int, ...], rng: Generator) -> FloatArray:
    """Draw steps of two to four standard deviations, up or down."""
    steps: FloatArray = spread * rng.uniform(2, 4, shape) * rng.choice([-1, 1], shape)
    return steps


def _uniform(X: FloatArray, rng: Generator) -> FloatArray:
    return rng.uniform(X.min(axis=0), X.max(axis=0), X.shape)


def _of_table(X: Any, kind: str, rng: Generator) -> Any:
    """Return anomalies of a table with columns of any kind, as a table of the same type."""
    frame = read_frame(X)
    n, d = len(frame), len(frame.columns)
    if n < 2:
        raise ValueError(f"X has {n} row: at least 2 are required.")
    is_changed = np.ones((n, d), dtype=bool) if kind == "uniform" else _some_columns(n, d, rng)
    columns = {}
    for name, column, where in zip(frame.names, frame.columns, is_changed.T, strict=True):
        cells = _cells(column)
        if kind == "permuted":
            changed = cells[rng.permutation(n)]
        elif isinstance(column, Words):
            changed = _cells(_of_other_words(column, kind, rng))
        else:
            changed = _cells(_moved(column, kind, rng))
        columns[name] = np.where(where, changed, cells)
    return table_like(X, columns)


def _cells(column: Column) -> NDArray[Any]:
    """Return the cells of a column; gaps are None, NaN or NaT."""
    if isinstance(column, Words):
        values = np.array([*column.levels, None], dtype=object)
        words: NDArray[Any] = values[column.codes]
        return words
    cells = column.values.astype("M8[us]" if isinstance(column, Dates) else np.float64)
    cells[column.missing] = np.datetime64("NaT", "us") if isinstance(column, Dates) else np.nan
    return cells


def _of_other_words(column: Words, kind: str, rng: Generator) -> Words:
    """Replace each value of a column by another one, or by any of its values; keep gaps."""
    n, n_words = len(column.codes), max(len(column.levels), 1)
    if kind == "uniform":
        codes = rng.integers(n_words, size=n)
    else:
        codes = (column.codes + rng.integers(min(1, n_words - 1), n_words, size=n)) % n_words
    return replace(column, codes=np.where(column.missing, -1, codes))


def _moved(column: Numbers | Dates, kind: str, rng: Generator) -> Numbers | Dates:
    """Shift numbers or dates, or draw them from their range; keep gaps."""
    there = column.values[~column.missing].astype(np.float64)
    if not len(there):
        return column
    n = len(column.values)
    if kind == "uniform":
        values = rng.uniform(there.min(), there.max(), n)
    else:
        values = column.values + _steps(there.std(), (n,), rng)
    return replace(column, values=values)


def _rectangles(images: FloatArray, rng: Generator) -> list[tuple[slice, slice]]:
    """Draw a rectangle in each image, with an eighth to a half of its height and width."""
    _, height, width = images.shape[:3]
    places = []
    for _ in images:
        h, w = (max(1, round(size * rng.uniform(1 / 8, 1 / 2))) for size in (height, width))
        top, left = rng.integers(height - h + 1), rng.integers(width - w + 1)
        places.append((slice(top, top + h), slice(left, left + w)))
    return places


def _patch(images: FloatArray, rng: Generator) -> FloatArray:
    anomalies = images.copy()
    donors = _others(len(images), rng)
    for i, place in enumerate(_rectangles(images, rng)):
        h, w = (part.stop - part.start for part in place)
        top, left = (rng.integers(images.shape[axis] - s + 1) for axis, s in ((1, h), (2, w)))
        anomalies[i][place] = images[donors[i], top : top + h, left : left + w]
    return anomalies


def _noise(images: FloatArray, rng: Generator) -> FloatArray:
    anomalies = images.copy()
    low, high, std = images.min(), images.max(), images.std()
    for anomaly, place in zip(anomalies, _rectangles(images, rng), strict=True):
        noisy = anomaly[place] + std * rng.standard_normal(anomaly[place].shape)
        anomaly[place] = noisy.clip(low, high)
    return anomalies


def _blended(images: FloatArray, rng: Generator) -> FloatArray:
    return (images + images[_others(len(images), rng)]) / 2


Maker = Callable[[FloatArray, Generator], FloatArray]
ROW_KINDS: dict[str, Maker] = {"permuted": _permuted, "shifted": _shifted, "uniform": _uniform}
IMAGE_KINDS: dict[str, Maker] = {"patch": _patch, "noise": _noise, "blended": _blended}

#: Scorer with all kinds of anomalies.
simulated_anomaly_scorer = SimulatedAnomalyScorer()
