"""Choosing between detectors without labels: a scorer for searches that needs no anomalies.

The samples that are scored are normal ones kept from training, as they are in cross-validation.
Anomalies are simulated from them, and a detector is the better, the better it tells the two kinds
apart.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import roc_auc_score
from sklearn.utils import check_array

from gandetect.data.values import checked_values
from gandetect.metrics import scores_of

__all__ = ["SimulatedAnomalyScorer", "simulate_anomalies", "simulated_anomaly_scorer"]

FloatArray = NDArray[np.float64]
Generator = np.random.Generator


@dataclass(frozen=True)
class SimulatedAnomalyScorer:
    """A scorer for ``scoring=`` that needs no labels: AUROC against simulated anomalies.

    The mean, over the kinds of anomalies, of the area under the ROC curve between the samples and
    anomalies that `simulate_anomalies` makes of them. It ranks settings of one detector on one
    data set; its value does not predict the AUROC on real anomalies. ``benchmarks/README.md``
    has the rank correlation of the two, and compares with a random choice and the default.

    Parameters
    ----------
    kinds : tuple of str or None, default=None
        Some of the kinds that `simulate_anomalies` knows; None is all of them for this kind of
        data. With ``("uniform",)`` the score is one minus the area under the mass-volume curve
        over the box of the data [1]_.
    image_shape : tuple of int or None, default=None
        (height, width) or (height, width, channels) of images that come as flat rows.
    channel_axis : {-1, 0, None}, default=-1
        The axis of one image that holds the channels.
    random_state : int, default=0
        The same anomalies are made of the same samples, so that all settings of a search are
        judged by the same.

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
        """What learning and validation curves write at their axis."""
        return "simulated_anomaly_roc_auc"

    def __call__(self, estimator: Any, X: Any, y: object = None) -> float:
        """Score a fitted detector; larger is better.

        Parameters
        ----------
        estimator : object
            A fitted outlier detector, or a pipeline that ends in one.
        X : array-like of shape (n_samples, ...)
            Normal samples, best ones that were not trained on. A few anomalies among them matter
            little.
        y : ignored
            Labels are not looked at, so that the choice cannot depend on them.

        Returns
        -------
        float

        Raises
        ------
        ValueError
            If there is one sample, or a kind of anomaly that these data do not have.
        TypeError
            If the sign of the estimator's scores is unknown.
        """
        return float(np.mean(list(self.by_kind(estimator, X).values())))

    def by_kind(self, estimator: Any, X: Any) -> dict[str, float]:
        """The area under the ROC curve against each kind of anomaly by itself.

        Parameters
        ----------
        estimator, X
            As in a call.

        Returns
        -------
        dict of str to float
        """
        values = _checked(X)
        known = _kinds_of(values, self.image_shape)
        scores = scores_of(estimator, X)
        is_anomaly = np.repeat([0, 1], len(values))
        aurocs = {}
        for kind in self.kinds or known:
            anomalies = simulate_anomalies(
                values,
                kind,
                image_shape=self.image_shape,
                channel_axis=self.channel_axis,
                random_state=self.random_state,
            )
            anomalous = scores_of(estimator, _like(X, anomalies))
            aurocs[kind] = float(roc_auc_score(is_anomaly, np.concatenate([scores, anomalous])))
        return aurocs


def simulate_anomalies(
    X: ArrayLike,
    kind: str,
    *,
    image_shape: tuple[int, ...] | None = None,
    channel_axis: int | None = -1,
    random_state: int = 0,
) -> FloatArray:
    """Make an anomaly of each sample.

    Parameters
    ----------
    X : array-like of shape (n_samples, ...)
        Rows, images, or flat rows with `image_shape`; at least 2.
    kind : str
        Of rows: "permuted" takes some columns from other rows, so that each value is usual and
        their combination is not; "shifted" moves some columns by two to four of their standard
        deviations; "uniform" draws every column from between its smallest and its largest value.
        Of images: "patch" pastes a rectangle from elsewhere in another image, as CutPaste [1]_
        does within one; "noise" adds noise to a rectangle; "blended" is the mean with another
        image.
    image_shape, channel_axis
        As in a detector.
    random_state : int, default=0

    Returns
    -------
    ndarray of the shape of X, float64

    Raises
    ------
    TypeError
        If X holds what is no number, such as times.
    ValueError
        If X has fewer than 2 samples, or `kind` is not one for such data.

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
    values = _checked(X)
    kinds = _kinds_of(values, image_shape)
    if kind not in kinds:
        raise ValueError(f"kind must be one of {sorted(kinds)} for these data, got {kind!r}.")
    rng = np.random.default_rng(random_state)
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


def _checked(X: Any) -> FloatArray:
    X = checked_values(X)
    return np.asarray(check_array(X, allow_nd=True, dtype=np.float64, ensure_min_samples=2))


def _kinds_of(values: FloatArray, image_shape: tuple[int, ...] | None) -> dict[str, Maker]:
    return ROW_KINDS if values.ndim == 2 and image_shape is None else IMAGE_KINDS


def _like(X: Any, values: FloatArray) -> Any:
    """The values as X came: detectors know the columns of a pandas DataFrame by name."""
    if hasattr(X, "iloc") and hasattr(X, "columns"):
        return type(X)(values, columns=X.columns)
    return values


def _others(n: int, rng: Generator) -> NDArray[np.intp]:
    """For each of n samples another one."""
    return (np.arange(n) + rng.integers(1, n, size=n)) % n


def _some_columns(X: FloatArray, rng: Generator) -> NDArray[np.bool_]:
    """A mask of columns for each row: one at least, and of any share."""
    n, d = X.shape
    mask = rng.random((n, d)) < rng.random((n, 1))
    mask[np.arange(n), rng.integers(d, size=n)] = True
    return mask


def _permuted(X: FloatArray, rng: Generator) -> FloatArray:
    return np.where(_some_columns(X, rng), rng.permuted(X, axis=0), X)


def _shifted(X: FloatArray, rng: Generator) -> FloatArray:
    by = X.std(axis=0) * rng.uniform(2, 4, X.shape) * rng.choice([-1, 1], X.shape)
    return np.where(_some_columns(X, rng), X + by, X)


def _uniform(X: FloatArray, rng: Generator) -> FloatArray:
    return rng.uniform(X.min(axis=0), X.max(axis=0), X.shape)


def _rectangles(images: FloatArray, rng: Generator) -> list[tuple[slice, slice]]:
    """A place in each image, an eighth to a half as high and as wide as the image."""
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
