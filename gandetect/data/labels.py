"""The anomalies in y, and their use in `fit`."""

from __future__ import annotations

import warnings
from numbers import Real
from typing import Any

import numpy as np

LABELS = ("ignore", "exclude", "learn")
# The largest number of labels of y that messages list.
_N_SHOWN = 5


def anomalous(y: Any, anomaly_label: Any = None) -> np.ndarray:
    """Find the samples that are labelled as anomalies.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        0 for normal and 1 for anomalous; or 1 for normal and -1 for anomalous; or booleans, True
        for anomalous; or any labels, if `anomaly_label` is given. NaN, None and similar values are
        missing labels.
    anomaly_label : str, number or None, default=None
        The label of the anomalies; all other labels are then normal.

    Returns
    -------
    ndarray of bool, shape (n_samples,)

    Raises
    ------
    TypeError
        If y has other values than numbers and booleans, and no `anomaly_label` is given.
    ValueError
        If y is not one column, contains other numbers, or contains 1 only, which is ambiguous.

    Examples
    --------
    >>> import numpy as np
    >>> from gandetect.data.labels import anomalous
    >>> anomalous([0, 1, np.nan]).tolist(), anomalous([1, -1, 1]).tolist()
    ([False, True, False], [False, True, False])
    >>> anomalous(["sold", "fraud", None], anomaly_label="fraud").tolist()
    [False, True, False]
    """
    values = _labels_in(y)
    if anomaly_label is None:
        anomaly_label = _anomaly_among([v for v in values.tolist() if not is_missing(v)])
    is_anomalous = [not is_missing(v) and v == anomaly_label for v in values.tolist()]
    return np.array(is_anomalous, dtype=bool)


def _anomaly_among(given: list[Any]) -> Any:
    """Return the label of the anomalies among these labels."""
    if not all(isinstance(value, Real) for value in given):
        raise TypeError(
            "y must be 0 and 1, -1 and 1 or booleans to define the anomalies. For strings, set "
            "anomaly_label to the label of the anomalies, or pass y == label."
        )
    found = set(given)
    if not all(isinstance(value, bool) for value in given):
        if found == {1}:
            raise ValueError(
                "y contains only the label 1, which marks anomalies in labels 0 and 1 but normal "
                "samples in labels -1 and 1: pass booleans (True for anomalies), or set "
                "anomaly_label."
            )
        if not (found <= {0, 1} or found <= {-1, 1}):
            raise ValueError(
                f"y must contain 0 and 1, or -1 and 1, got {sorted(found)[:_N_SHOWN]}: for other "
                "numbers, set anomaly_label to that of the anomalies."
            )
    return -1 if -1 in found else 1


def known_by(labels: str, y: Any, anomaly_label: Any = None) -> np.ndarray:
    """Return which samples are known anomalies, which are not used as normal training samples.

    Parameters
    ----------
    labels : {"exclude", "learn"}
    y : array-like of shape (n_samples,) or None
    anomaly_label : str, number or None, default=None

    Returns
    -------
    ndarray of bool, shape (n_samples,)

    Raises
    ------
    TypeError, ValueError
        As in `anomalous`; ValueError also if there are no labels.

    Warns
    -----
    UserWarning
        If ``labels="learn"`` and y has no anomaly, or if `anomaly_label` is not among the labels of
        y.
    """
    if y is None:
        raise ValueError(f"labels={labels!r} needs y, but y is None.")
    is_known = anomalous(y, anomaly_label)
    if is_known.any():
        return is_known
    found = sorted({str(v) for v in _labels_in(y).tolist() if not is_missing(v)})
    if labels == "learn" or (anomaly_label is not None and len(found) > 1):
        named = "" if anomaly_label is None else f" {anomaly_label!r}"
        warnings.warn(
            f"labels={labels!r}, but y has no anomaly{named}, "
            f"only {', '.join(found[:_N_SHOWN]) or 'missing labels'}. "
            "The detector is trained without known anomalies.",
            UserWarning,
            stacklevel=4,
        )
    return is_known


def checked_masks(
    masks: Any, y: Any, labels: str, anomaly_label: Any = None
) -> tuple[np.ndarray | list[np.ndarray], Any]:
    """Check masks of known defects, and derive the labels of images without y.

    Parameters
    ----------
    masks : array-like of shape (n_samples, height, width), or iterable of (height, width) arrays
        True or 1 at a defect. The masks of normal images are empty. The mask of an anomalous image
        may be empty if the position of the defect is unknown.
    y : array-like of shape (n_samples,) or None
    labels : {"ignore", "exclude", "learn"}
    anomaly_label : str, number or None, default=None

    Returns
    -------
    masks : ndarray of bool, shape (n_samples, height, width)
        A list of arrays of shape (height, width) if these differ.
    y : array-like of shape (n_samples,)
        Without y, the images with a non-empty mask are anomalous.

    Raises
    ------
    TypeError, ValueError
        If the masks are invalid, or contradict y.
    """
    if labels != "learn":
        raise ValueError(f"masks are used with labels='learn' only, but labels={labels!r}.")
    found: np.ndarray | list[np.ndarray]
    try:
        found = np.asarray(masks)
    except ValueError:  # of several shapes
        found = [np.asarray(mask) for mask in masks]
    if isinstance(found, np.ndarray) and found.ndim != 3:
        raise ValueError(
            f"masks must have the shape (n_samples, height, width), got {found.shape}."
        )
    for i, mask in enumerate(found):
        if mask.ndim != 2:
            raise ValueError(f"mask {i} must have the shape (height, width), got {mask.shape}.")
        if mask.dtype.kind not in "biuf":
            raise TypeError(f"masks must be boolean, or 0 and 1, got an array of {mask.dtype}.")
        if not ((mask == 0) | (mask == 1)).all():
            raise ValueError("masks must be boolean, or 0 and 1: pass masks > 0 for other values.")
    is_masked = np.array([bool(mask.any()) for mask in found])
    if not is_masked.any():
        raise ValueError("masks are all empty: at least one must mark a defect.")
    if y is None:
        return _as_booleans(found), is_masked
    is_anomalous = anomalous(y, anomaly_label)
    if len(is_anomalous) != len(found):
        raise ValueError(f"there are {len(found)} masks for {len(is_anomalous)} labels.")
    if (is_masked & ~is_anomalous).any():
        first = int(np.argmax(is_masked & ~is_anomalous))
        raise ValueError(
            f"image {first} has a mask that is not empty, but its label in y is normal."
        )
    return _as_booleans(found), y


def _as_booleans(masks: np.ndarray | list[np.ndarray]) -> np.ndarray | list[np.ndarray]:
    if isinstance(masks, list):
        return [mask.astype(bool) for mask in masks]
    return masks.astype(bool)


def _labels_in(y: Any) -> np.ndarray:
    """Return the labels as an array of one axis; masked entries are missing labels."""
    values = _as_array(y)
    if values.ndim != 1:
        way_out = " Pass y.ravel()." if values.shape[1:] == (1,) else ""
        got = f"the shape {values.shape}" if values.ndim else type(y).__name__
        raise ValueError(f"y must have one label for each sample, got {got}.{way_out}")
    return values


def _as_array(y: Any) -> np.ndarray:
    """Return the labels as an array; masked entries become None."""
    if not isinstance(y, np.ma.MaskedArray):
        return np.asarray(y)
    values = np.ma.getdata(y).astype(object)
    values[np.ma.getmaskarray(y)] = None
    return values


def check_labelled(y: Any, name: str = "y") -> None:
    """Raise a ValueError for missing labels where every sample needs one.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
    name : str, default="y"
        The name of y in messages.

    Examples
    --------
    >>> from gandetect.data.labels import check_labelled
    >>> check_labelled([0, None, 1])
    Traceback (most recent call last):
        ...
    ValueError: 1 of 3 labels in y is missing: label each sample, or leave it out.
    """
    values = _as_array(y)
    n_missing = sum(map(is_missing, values.ravel().tolist()))
    if n_missing:
        are = "is" if n_missing == 1 else "are"
        raise ValueError(
            f"{n_missing} of {values.size} labels in {name} {are} missing: label each sample, or "
            "leave it out."
        )


def is_missing(value: Any) -> bool:
    """Return whether a value is a missing label: None, NaN, NaT or NA.

    Parameters
    ----------
    value : object

    Returns
    -------
    bool

    Examples
    --------
    >>> from gandetect.data.labels import is_missing
    >>> is_missing(None), is_missing(float("nan")), is_missing(0)
    (True, True, False)
    """
    return value is None or type(value).__name__ in ("NAType", "NaTType") or value != value
