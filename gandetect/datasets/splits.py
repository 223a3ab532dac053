"""Training and test sets for anomaly detection, made from data sets with classes or labels."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import check_consistent_length
from torch.utils.data import Dataset, Subset

from gandetect.data.images import ImageFiles
from gandetect.data.labels import check_labelled
from gandetect.data.sources import NamedRows
from gandetect.data.tables import Table

_MIN_TEST_ANOMALIES = 20


def one_class_split(
    X: Any,
    y: ArrayLike,
    *,
    anomalous_class: Any = None,
    normal_class: Any = None,
    n_train: int | None = None,
    n_test_normal: int | None = None,
    n_test_anomalous: int | None = None,
    outlier_fraction: float | None = None,
    random_state: int | np.random.Generator | None = None,
) -> tuple[Any, Any, np.ndarray]:
    """Split a data set of classes into normal training samples and a test set with anomalies.

    The literature uses two protocols. In "one anomalous", one class is the anomaly and all others
    are normal (GANomaly, EGBAD). In "one normal", one class is normal and all others are anomalies
    (ALOCC, ALAD).

    Parameters
    ----------
    X : array-like of shape (n_samples, ...)
        Rows or images: an array, a data frame, a sparse matrix or an `ImageFolder`. The parts are
        of the same type; those of an `ImageFolder` are read lazily.
    y : array-like of shape (n_samples,)
        The class of each sample.
    anomalous_class : class or list of classes, default=None
        The anomalous class or classes, for "one anomalous".
    normal_class : class or list of classes, default=None
        The normal class or classes, for "one normal". Give exactly one of `anomalous_class` and
        `normal_class`.
    n_train : int or None, default=None
        Number of training samples, all normal. None takes 80 % of the normal samples, as the papers
        do, or the normal samples that `n_test_normal` leaves if they are fewer.
    n_test_normal : int or None, default=None
        Number of normal test samples. None takes all normal samples that are not in training.
    n_test_anomalous : int or None, default=None
        Number of anomalous test samples. None takes all.
    outlier_fraction : float in (0, 1) or None, default=None
        The share of anomalies in the test set. With one of the two test counts it determines the
        other; with neither, the test set is the largest one with this share. With None the counts
        alone determine the share.
    random_state : int, numpy.random.Generator or None, default=None
        The seed of the random draws; an integer gives the same split each time.

    Returns
    -------
    X_train : array of shape (n_train, ...)
        Normal samples in random order.
    X_test : array of shape (n_test_normal + n_test_anomalous, ...)
        Normal and anomalous samples in random order, none of them in `X_train`.
    y_test : ndarray of int64 of shape (n_test_normal + n_test_anomalous,)
        1 for an anomaly, 0 for a normal sample.

    Raises
    ------
    ValueError
        If not exactly one of `anomalous_class` and `normal_class` is given, a class is not in
        `y`, a count exceeds the number of samples, `outlier_fraction` is out of range or is given
        with both test counts, or `X` and `y` differ in length.

    See Also
    --------
    one_class_rows_split : The protocol of tabular data sets.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_digits
    >>> from gandetect.datasets import one_class_split
    >>> digits = load_digits()
    >>> X_train, X_test, y_test = one_class_split(
    ...     digits.images, digits.target, anomalous_class=3, n_train=1000, random_state=0
    ... )
    >>> X_train.shape, X_test.shape, int(y_test.sum())
    ((1000, 8, 8), (797, 8, 8), 183)
    """
    check_consistent_length(X, y)
    check_labelled(y)
    is_anomaly = _is_anomaly(np.asarray(y), anomalous_class, normal_class)
    n_normal, n_anomalous = np.bincount(is_anomaly, minlength=2).tolist()
    if n_train is None:
        n_train = min(n_normal * 4 // 5, n_normal - (n_test_normal or 0))
    _check_count("n_train", n_train, 1, n_normal)
    n_left = n_normal - n_train
    if outlier_fraction is not None:
        n_test_normal, n_test_anomalous = _counts_of_fraction(
            outlier_fraction, n_left, n_anomalous, n_test_normal, n_test_anomalous
        )
    n_test_normal = n_left if n_test_normal is None else n_test_normal
    n_test_anomalous = n_anomalous if n_test_anomalous is None else n_test_anomalous
    _check_count("n_test_normal", n_test_normal, 0, n_left)
    _check_count("n_test_anomalous", n_test_anomalous, 0, n_anomalous)
    return _split(X, is_anomaly, n_train, n_test_normal, n_test_anomalous, random_state)


def one_class_rows_split(
    X: Any,
    y: ArrayLike,
    random_state: int | np.random.Generator | None = None,
    max_train: int | None = 2000,
    max_test: int | None = 2000,
    outlier_fraction: float | None = None,
) -> tuple[Any, Any, np.ndarray]:
    """Split labelled rows by the one-class protocol of tabular data sets.

    Half of the normal rows are for training; the other half and all anomalies are the test set.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        The rows.
    y : array-like of shape (n_samples,)
        1 for an anomaly, 0 for a normal row.
    random_state : int, numpy.random.Generator or None, default=None
        The seed of the permutation; an integer gives the same split each time.
    max_train : int or None, default=2000
        The largest number of training rows. The default limits the time of benchmarks on large
        data sets. None takes all.
    max_test : int or None, default=2000
        The largest number of test rows. The share of anomalies is kept, but with at least 20
        anomalies (all, if there are fewer), because a metric computed on very few anomalies varies
        too much. None takes all.
    outlier_fraction : float in (0, 1) or None, default=None
        The share of anomalies in the test set to which `max_test` is then applied; None keeps the
        share of the data. 0.2 on KDD Cup 1999 is EGBAD's protocol.

    Returns
    -------
    X_train : array of shape (n_train, n_features)
        Normal rows in random order.
    X_test : array of shape (n_test, n_features)
        Normal and anomalous rows in random order, none of them in `X_train`.
    y_test : ndarray of int64 of shape (n_test,)
        1 for an anomaly, 0 for a normal row.

    Raises
    ------
    ValueError
        If `y` has other values than 0 and 1, lacks one of them, marks fewer than two rows as
        normal or differs from `X` in length, or a parameter is out of range.

    See Also
    --------
    one_class_split : The protocols of data sets with classes.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from gandetect.datasets import one_class_rows_split
    >>> X, y = load_breast_cancer(return_X_y=True)  # 357 benign rows are 1 here
    >>> X_train, X_test, y_test = one_class_rows_split(X, 1 - y, random_state=0)
    >>> X_train.shape, X_test.shape, int(y_test.sum())
    ((178, 30), (391, 30), 212)
    """
    check_consistent_length(X, y)
    check_labelled(y)
    is_anomaly = _is_anomaly_of_binary(np.asarray(y))
    n_normal, n_test_anomalous = np.bincount(is_anomaly, minlength=2).tolist()
    n_train = n_normal // 2
    n_test_normal = n_normal - n_train
    if outlier_fraction is not None:
        n_test_normal, n_test_anomalous = _counts_of_fraction(
            outlier_fraction, n_test_normal, n_test_anomalous
        )
    if max_train is not None:
        _check_count("max_train", max_train, 1)
        n_train = min(n_train, max_train)
    if max_test is not None:
        _check_count("max_test", max_test, 2)
        n_test_normal, n_test_anomalous = _cut_test(n_test_normal, n_test_anomalous, max_test)
    return _split(X, is_anomaly, n_train, n_test_normal, n_test_anomalous, random_state)


def _is_anomaly(y: np.ndarray, anomalous_class: Any, normal_class: Any) -> np.ndarray:
    if (anomalous_class is None) == (normal_class is None):
        raise ValueError("pass either anomalous_class or normal_class")
    chosen = np.atleast_1d(normal_class if anomalous_class is None else anomalous_class)
    classes = np.unique(y)
    if not np.isin(chosen, classes).all():
        raise ValueError(f"class {chosen.tolist()} is not in y, which has {classes.tolist()}")
    is_chosen: np.ndarray = np.isin(y, chosen)
    if is_chosen.all():
        raise ValueError(f"y has only the class {chosen.tolist()}: two classes are required")
    return ~is_chosen if anomalous_class is None else is_chosen


def _is_anomaly_of_binary(y: np.ndarray) -> np.ndarray:
    values = np.unique(y).tolist()
    if values != [0, 1]:
        raise ValueError(f"y must contain both 0 (normal) and 1 (anomaly), got {values[:10]}")
    if np.sum(y == 0) < 2:
        raise ValueError("y has one normal row; at least two are needed, to train and to test")
    is_anomaly: np.ndarray = y == 1
    return is_anomaly


def _counts_of_fraction(
    outlier_fraction: float,
    n_normal: int,
    n_anomalous: int,
    n_test_normal: int | None = None,
    n_test_anomalous: int | None = None,
) -> tuple[int, int]:
    """Return the numbers of normal and anomalous test samples for this share of anomalies."""
    if not 0 < outlier_fraction < 1:
        raise ValueError(f"outlier_fraction must be between 0 and 1, got {outlier_fraction!r}")
    if n_test_normal is not None and n_test_anomalous is not None:
        raise ValueError(
            "outlier_fraction can be combined with n_test_normal or n_test_anomalous, not with both"
        )
    odds = outlier_fraction / (1 - outlier_fraction)
    if n_test_anomalous is not None:
        return round(n_test_anomalous / odds), n_test_anomalous
    if n_test_normal is not None:
        return n_test_normal, round(n_test_normal * odds)
    n_test_normal = min(n_normal, round(n_anomalous / odds))
    return n_test_normal, min(n_anomalous, round(n_test_normal * odds))


def _cut_test(n_normal: int, n_anomalous: int, max_test: int) -> tuple[int, int]:
    """Reduce the counts of a test set to `max_test` at its share of anomalies, with a minimum."""
    n_test = n_normal + n_anomalous
    if n_test <= max_test:
        return n_normal, n_anomalous
    n_kept = max(round(max_test * n_anomalous / n_test), min(_MIN_TEST_ANOMALIES, n_anomalous))
    n_kept = min(n_kept, max_test - 1)
    return max_test - n_kept, n_kept


def _check_count(name: str, count: int, low: int, high: int | None = None) -> None:
    if count < low or (high is not None and count > high):
        limit = f"at least {low}" if high is None else f"from {low} to {high}, the available number"
        raise ValueError(f"{name} must be {limit}, got {count}")


def _split(
    X: Any,
    is_anomaly: np.ndarray,
    n_train: int,
    n_test_normal: int,
    n_test_anomalous: int,
    random_state: int | np.random.Generator | None,
) -> tuple[Any, Any, np.ndarray]:
    """Draw the samples of each kind, and shuffle the test set so that order shows no labels."""
    rng = np.random.default_rng(random_state)
    normal = rng.permutation(np.flatnonzero(~is_anomaly))
    anomalous = rng.permutation(np.flatnonzero(is_anomaly))
    normal_test = normal[n_train : n_train + n_test_normal]
    test = rng.permutation(np.concatenate([normal_test, anomalous[:n_test_anomalous]]))
    return take(X, normal[:n_train]), take(X, test), is_anomaly[test].astype(np.int64)


def take(X: Any, rows: np.ndarray) -> Any:
    """Return the selected samples of X in a container of the same type."""
    if isinstance(X, ImageFiles):
        return ImageFiles([X.paths[row] for row in rows], **X.settings)
    if isinstance(X, Table):
        return X.rows(rows)
    if isinstance(X, NamedRows):
        return NamedRows(X.X[rows], X.names)
    if isinstance(X, Dataset):
        return Subset(X, rows.tolist())
    if hasattr(X, "iloc"):
        return X.iloc[rows]
    if hasattr(X, "column_names"):  # pyarrow
        return X.take(rows)
    return X[rows] if hasattr(X, "shape") else np.asarray(X)[rows]
