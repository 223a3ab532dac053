"""Which samples y calls anomalous, and what `fit` does with them."""

from __future__ import annotations

import warnings
from numbers import Real
from typing import Any

import numpy as np

LABELS = ("ignore", "exclude", "learn")
# Labels of y that are shown.
_N_SHOWN = 5


def anomalous(y: Any, anomaly_label: Any = None) -> np.ndarray:
    """Find the samples that are labelled as anomalies.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        0 for normal and 1 for anomalous; or 1 for normal and -1 for anomalous; or booleans, of
        which True is anomalous; with an `anomaly_label` anything. NaN, None and the like stand for
        no label.
    anomaly_label : str, number or None, default=None
        The label of the anomalies; all others are then those of normal samples.

    Returns
    -------
    ndarray of bool, shape (n_samples,)

    Raises
    ------
    TypeError
        If y has other values than numbers and booleans, and no `anomaly_label` is given.
    ValueError
        If y is not one column, holds other numbers, or nothing but 1, which may mean either.

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
        anomaly_label = _anomaly_among([v for v in values.tolist() if not _is_missing(v)])
    is_anomalous = [not _is_missing(v) and v == anomaly_label for v in values.tolist()]
    return np.array(is_anomalous, dtype=bool)


def _anomaly_among(given: list[Any]) -> Any:
    """Which of these labels is that of the anomalies."""
    if not all(isinstance(value, Real) for value in given):
        raise TypeError(
            "y must be 0 and 1, -1 and 1 or booleans to say which samples are anomalous. Of words, "
            "name that of the anomalies with anomaly_label, or pass y == word."
        )
    found = set(given)
    if not all(isinstance(value, bool) for value in given):
        if found == {1}:
            raise ValueError(
                "y holds nothing but 1, which is anomalous beside 0 and normal beside -1: pass "
                "booleans, True for anomalous, or an anomaly_label."
            )
        if not (found <= {0, 1} or found <= {-1, 1}):
            raise ValueError(
                f"y must hold 0 and 1, or -1 and 1, got {sorted(found)[:_N_SHOWN]}: of other "
                "numbers, name that of the anomalies with anomaly_label."
            )
    return -1 if -1 in found else 1


def known_by(labels: str, y: Any, anomaly_label: Any = None) -> np.ndarray:
    """Which samples are known as anomalies, and so not trained on as normal ones.

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
        As of `anomalous`; ValueError also if there are no labels.

    Warns
    -----
    UserWarning
        If there is no anomaly to learn from, or none to exclude although there are several labels
        of which `anomaly_label` is to be one.
    """
    if y is None:
        raise ValueError(f"labels={labels!r} needs y, but y is None.")
    is_known = anomalous(y, anomaly_label)
    if is_known.any():
        return is_known
    found = sorted({str(v) for v in _labels_in(y).tolist() if not _is_missing(v)})
    if labels == "learn" or (anomaly_label is not None and len(found) > 1):
        named = "" if anomaly_label is None else f" {anomaly_label!r}"
        warnings.warn(
            f"labels={labels!r}, but y names no anomaly{named}: it holds "
            f"{', '.join(found[:_N_SHOWN])}. The detector learns as without labels.",
            UserWarning,
            stacklevel=4,
        )
    return is_known


def checked_masks(
    masks: Any, y: Any, labels: str, anomaly_label: Any = None
) -> tuple[np.ndarray, Any]:
    """Check masks of known defects, and find the labels of images if they alone are given.

    Parameters
    ----------
    masks : array-like of shape (n_samples, height, width)
        True or 1 where an image is defective. Those of normal images are empty, and those of
        anomalous ones may be, if the place is not known.
    y : array-like of shape (n_samples,) or None
    labels : {"ignore", "exclude", "learn"}
    anomaly_label : str, number or None, default=None

    Returns
    -------
    masks : ndarray of bool, shape (n_samples, height, width)
    y : array-like of shape (n_samples,)
        Without y, anomalous are the images whose masks are not empty.

    Raises
    ------
    TypeError, ValueError
        If the masks cannot be used, or do not fit y.
    """
    if labels != "learn":
        raise ValueError(f"masks are learned from with labels='learn', but labels={labels!r}.")
    try:
        found = np.asarray(masks)
    except ValueError as error:
        raise ValueError("masks must all have one height and width.") from error
    if found.ndim != 3:
        raise ValueError(
            f"masks must have the shape (n_samples, height, width), got {found.shape}."
        )
    if found.dtype.kind not in "biuf":
        raise TypeError(f"masks must be boolean, or 0 and 1, got an array of {found.dtype}.")
    if not ((found == 0) | (found == 1)).all():
        raise ValueError("masks must be boolean, or 0 and 1: pass masks > 0 for others.")
    is_masked = found.any(axis=(1, 2))
    if not is_masked.any():
        raise ValueError("masks are all empty: there is no defect to learn from.")
    if y is None:
        return found.astype(bool), is_masked
    is_anomalous = anomalous(y, anomaly_label)
    if len(is_anomalous) != len(found):
        raise ValueError(f"there are {len(found)} masks for {len(is_anomalous)} labels.")
    if (is_masked & ~is_anomalous).any():
        first = int(np.argmax(is_masked & ~is_anomalous))
        raise ValueError(
            f"image {first} has a mask that is not empty, but y does not call it anomalous."
        )
    return found.astype(bool), y


def _labels_in(y: Any) -> np.ndarray:
    """The labels as an array of one axis; what is masked is missing."""
    is_masked = isinstance(y, np.ma.MaskedArray)
    values = np.ma.filled(np.ma.asarray(y, dtype=object), None) if is_masked else np.asarray(y)
    if values.ndim != 1:
        way_out = " Pass y.ravel()." if values.shape[1:] == (1,) else ""
        got = f"the shape {values.shape}" if values.ndim else type(y).__name__
        raise ValueError(f"y must be one label a sample, got {got}.{way_out}")
    return values


def _is_missing(value: Any) -> bool:
    return value is None or type(value).__name__ in ("NAType", "NaTType") or value != value
