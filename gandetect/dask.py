"""Scoring of Dask arrays and dataframes, block by block on the Dask workers (extra ``dask``).

Parallel fits do not need this module: scikit-learn's searches run on joblib's Dask and Ray backends
with any detector.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gandetect.base import BaseDetector

__all__ = ["predict", "score_samples"]


def score_samples(detector: BaseDetector, X: Any) -> Any:
    """Compute `BaseDetector.score_samples` of a Dask collection on the workers of its blocks.

    The computation is lazy. Each block is scored separately, which changes no score by more than
    the tolerance in `BaseDetector.anomaly_score`.

    Parameters
    ----------
    detector : BaseDetector
        The fitted detector.
    X : dask.array.Array or dask.dataframe.DataFrame
        Samples along the first axis, as in `BaseDetector.score_samples`.

    Returns
    -------
    dask.array.Array of shape (n_samples,), float64
        For a dataframe, a dask Series with its index.

    Raises
    ------
    TypeError
        If X is neither a Dask array nor a Dask dataframe.
    ImportError
        Without dask: ``pip install "gandetect[dask]"``.

    Examples
    --------
    >>> import numpy as np, dask.array
    >>> import gandetect.dask
    >>> X = np.random.default_rng(0).normal(size=(100, 4))
    >>> detector = gandetect.GANomalyDetector(epochs=2, n_estimators=1, random_state=0).fit(X)
    >>> blocks = dask.array.from_array(X, chunks=(30, 2))
    >>> scores = gandetect.dask.score_samples(detector, blocks).compute(scheduler="synchronous")
    >>> bool(np.allclose(scores, detector.score_samples(X), atol=1e-5))
    True
    """
    return _block_by_block(detector, "score_samples", X, np.dtype(np.float64))


def predict(detector: BaseDetector, X: Any) -> Any:
    """Compute the labels +1 or -1 of a Dask collection on the workers of its blocks.

    Parameters
    ----------
    detector : BaseDetector
        The fitted detector.
    X : dask.array.Array or dask.dataframe.DataFrame

    Returns
    -------
    dask.array.Array of shape (n_samples,), int
        For a dataframe, a dask Series with its index.

    Raises
    ------
    TypeError
        If X is neither a Dask array nor a Dask dataframe.
    ImportError
        Without dask: ``pip install "gandetect[dask]"``.
    """
    return _block_by_block(detector, "predict", X, np.dtype(np.int64))


def _block_by_block(detector: BaseDetector, method: str, X: Any, dtype: np.dtype) -> Any:
    try:
        from dask import array
        from dask.base import is_dask_collection
    except ImportError as error:
        raise ImportError('Dask collections need dask: pip install "gandetect[dask]"') from error
    if isinstance(X, array.Array):
        # Each sample must be in one block.
        X = X.rechunk(dict.fromkeys(range(1, X.ndim), -1))
        return X.map_blocks(
            _of_array, detector, method, dtype=dtype, drop_axis=list(range(1, X.ndim))
        )
    if is_dask_collection(X) and hasattr(X, "map_partitions"):
        return X.map_partitions(_of_frame, detector, method, meta=(method, dtype))
    raise TypeError(f"X must be a dask array or dataframe, got {type(X).__name__}.")


def _of_array(x: np.ndarray, detector: BaseDetector, method: str) -> np.ndarray:
    return getattr(detector, method)(x) if len(x) else np.empty(0)


def _of_frame(frame: Any, detector: BaseDetector, method: str) -> Any:
    import pandas as pd

    values = getattr(detector, method)(frame) if len(frame) else np.empty(0)
    return pd.Series(values, index=frame.index, name=method)
