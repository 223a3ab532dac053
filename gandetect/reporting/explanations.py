"""The most unusual columns of a row, with their values and their expected values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gandetect.base import BaseDetector
from gandetect.data.sources import NamedRows
from gandetect.data.tables import Table


def unusual_columns(
    detector: BaseDetector, X: Any, n_columns: int = 3
) -> list[list[tuple[str, str, str]]]:
    """Return the most unusual columns of each row, the most unusual first.

    Parameters
    ----------
    detector : BaseDetector
        A detector fitted to rows or to tables.
    X : array-like or table of shape (n_samples, n_features)
        As in `fit`, but in memory.
    n_columns : int, default=3
        The number of columns for each row, limited by the number of columns of X.

    Returns
    -------
    list of list of (str, str, str)
        For each row the name, value and expected value of its columns. The expected value is the
        reconstruction. A gap is an empty string. Columns that the detector leaves out are not
        included.

    Raises
    ------
    ValueError
        If the detector was fitted to images.

    Examples
    --------
    >>> import numpy as np
    >>> from gandetect import GANomalyDetector
    >>> from gandetect.reporting import unusual_columns
    >>> X = np.random.default_rng(0).normal(size=(200, 3))
    >>> detector = GANomalyDetector(epochs=20, random_state=0).fit(X)
    >>> ((column, value, _),) = unusual_columns(detector, [[0.0, 9.5, 0.0]], n_columns=1)[0:1][0]
    >>> column, value
    ('1', '9.5')
    """
    if len(detector.sample_shape_) > 1:
        raise ValueError("Unusual columns are for rows: use anomaly_map for images.")
    maps = detector.anomaly_map(X)
    n = maps.shape[1]
    names = [str(name) for name in getattr(detector, "feature_names_in_", range(n))]
    given = _columns(X, names)
    expected = _columns(detector.reconstruct(X), names)
    is_left_out = [name not in expected for name in names]
    order = np.argsort(np.where(is_left_out, np.inf, -maps), axis=1, kind="stable")
    n_shown = min(n_columns, n - sum(is_left_out))
    rows = []
    for row in range(len(maps)):
        cells = [(names[i], given[names[i]][row]) for i in order[row, :n_shown]]
        rows.append(
            [(name, _text(cell), _text(expected[name][row], like=cell)) for name, cell in cells]
        )
    return rows


def _columns(X: Any, names: Sequence[str]) -> Mapping[str, Any]:
    """Return the columns of a table or of rows by their names."""
    if isinstance(X, Table):
        return dict(zip(X.names, X.columns, strict=True))
    if isinstance(X, NamedRows):
        return dict(zip(X.names, X.X.T, strict=True))
    if isinstance(X, Mapping):
        return X
    if hasattr(X, "column_names"):  # pyarrow
        return {str(name): X[name].to_pylist() for name in X.column_names}
    if hasattr(X, "columns"):
        return {str(name): np.asarray(X[name]) for name in X.columns}
    return dict(zip(names, np.asarray(X).T, strict=True))


def _text(value: Any, like: Any = None) -> str:
    """Return a cell as text, a date in the format of `like`; an empty string for a gap."""
    if value is None or value != value:
        return ""
    if hasattr(value, "astype") and value.dtype.kind == "M":
        text = str(value.astype("M8[s]"))
        is_day = ":" not in like if isinstance(like, str) else text.endswith("T00:00:00")
        text = text.partition("T")[0] if is_day else text
        return text.replace("T", " ") if isinstance(like, str) and " " in like else text
    return f"{value:.6g}" if isinstance(value, float) else str(value)
