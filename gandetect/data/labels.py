"""Which samples y calls anomalous, and which of them are trained on."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np

LABELS = ("ignore", "exclude")


def anomalous(y: Any) -> np.ndarray:
    """Find the samples that are labelled as anomalies.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        0 for normal and 1 for anomalous; or 1 for normal and -1 for anomalous; or booleans, of
        which True is anomalous. NaN, None and the like stand for no label.

    Returns
    -------
    ndarray of bool, shape (n_samples,)

    Raises
    ------
    TypeError
        If y has other values than numbers and booleans.
    ValueError
        If y is not one column, holds other numbers, or nothing but 1, which may mean either.

    Examples
    --------
    >>> import numpy as np
    >>> from gandetect.data.labels import anomalous
    >>> anomalous([0, 1, np.nan]).tolist(), anomalous([1, -1, 1]).tolist()
    ([False, True, False], [False, True, False])
    """
    values = np.asarray(y)
    if values.ndim != 1:
        raise ValueError(f"y must be one label a sample, got the shape {values.shape}.")
    given = [value for value in values.tolist() if not _is_missing(value)]
    if not all(isinstance(value, Real) for value in given):
        raise TypeError(
            "y must be 0 and 1, -1 and 1 or booleans to say which samples are anomalous: pass "
            "y == word for words."
        )
    found = set(given)
    if not all(isinstance(value, bool) for value in given):
        if found == {1}:
            raise ValueError(
                "y holds nothing but 1, which is anomalous beside 0 and normal beside -1: pass "
                "booleans, True for anomalous."
            )
        if not (found <= {0, 1} or found <= {-1, 1}):
            raise ValueError(f"y must hold 0 and 1, or -1 and 1, got {sorted(found)[:5]}.")
    anomaly = -1 if -1 in found else 1
    is_anomalous = [not _is_missing(value) and value == anomaly for value in values.tolist()]
    return np.array(is_anomalous, dtype=bool)


def kept_by(y: Any) -> np.ndarray:
    """Which samples ``labels="exclude"`` leaves to be trained on.

    Raises
    ------
    TypeError, ValueError
        As of `anomalous`; ValueError also if there are no labels.
    """
    if y is None:
        raise ValueError("labels='exclude' needs y, but y is None.")
    return ~anomalous(y)


def _is_missing(value: Any) -> bool:
    return value is None or type(value).__name__ in ("NAType", "NaTType") or value != value
