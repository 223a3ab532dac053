"""From what the user passes as X to a `Source`, with scikit-learn's checks on the way."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from sklearn.utils.validation import check_array, validate_data
from torch.utils.data import Dataset

from gandetect.data.images import ImageFolder
from gandetect.data.parquet import ParquetRows, ParquetSource, is_parquet
from gandetect.data.sources import ArraySource, DatasetSource, Source, sample_shape_of

if TYPE_CHECKING:
    from gandetect.base import BaseDetector


def read(detector: BaseDetector, X: Any, *, reset: bool = False) -> Source:
    """Check X and make it a source of samples.

    Parameters
    ----------
    detector : BaseDetector
        Its `image_shape` and `channel_axis` say how to read X. With `reset` it learns the shape
        of X, otherwise X must have the shape that it learned.
    X : array-like, Dataset or path
    reset : bool, default=False

    Raises
    ------
    TypeError
        For sparse, object or complex data.
    ValueError
        For X that is empty, not finite, of a shape that cannot be read, or of another shape than
        the detector was fitted with.
    """
    source: Source
    if isinstance(X, str | os.PathLike) and is_parquet(X):
        source = _read_parquet(detector, X, reset)
    elif isinstance(X, str | os.PathLike):
        source = DatasetSource(ImageFolder(X), detector.channel_axis)
    elif isinstance(X, Dataset):
        source = DatasetSource(X, detector.channel_axis)
    else:
        source = _read_array(detector, X, reset)
    if reset and len(source) < 2:
        raise ValueError(f"Found {len(source)} sample: at least 2 are required to fit.")
    if reset:
        detector.input_shape_ = source.input_shape
        detector.sample_shape_ = source.sample_shape
        detector.is_flat_ = source.is_flat
        detector.n_features_in_ = int(np.prod(source.sample_shape))
    elif source.sample_shape != detector.sample_shape_:
        raise ValueError(
            f"X holds samples of shape {source.input_shape}, but {type(detector).__name__} was "
            f"fitted with samples of shape {detector.input_shape_}."
        )
    return source


def _read_array(detector: BaseDetector, X: Any, reset: bool) -> ArraySource:
    if isinstance(X, torch.Tensor):
        X = X.detach().cpu().numpy()
    n_dimensions = getattr(X, "ndim", None) or np.ndim(X if hasattr(X, "__len__") else 0)
    checks: dict[str, Any] = {"dtype": "numeric", "ensure_min_samples": 2 if reset else 1}
    # The pages of a memory map are not to be read twice: its values are checked when they are
    # read, of which the pass that fits the scaler is the first.
    head = X[:2] if isinstance(X, np.memmap) else X
    if isinstance(X, np.memmap):
        checks["ensure_all_finite"] = False
    if n_dimensions <= 2:
        checked = validate_data(detector, head, reset=reset, **checks)
    else:
        checked = check_array(head, allow_nd=True, **checks)
        if reset:
            detector.__dict__.pop("feature_names_in_", None)
    if isinstance(X, np.memmap):
        checked = X
    return ArraySource(checked, *_layout(detector, checked.shape[1:]))


def _read_parquet(
    detector: BaseDetector, path: str | os.PathLike[str], reset: bool
) -> ParquetSource:
    rows = ParquetRows(path)
    # The values are checked when they are read, like those of a memory map.
    validate_data(detector, rows.head(), reset=reset, ensure_all_finite=False)
    return ParquetSource(rows, *_layout(detector, rows.shape[1:]))


def _layout(
    detector: BaseDetector, shape: tuple[int, ...]
) -> tuple[tuple[int, ...], int | None, tuple[int, ...] | None]:
    """The shape of a sample for the networks, its channel axis, and that of images in flat rows."""
    image_shape = detector.image_shape
    if image_shape is None:
        if 0 in shape:
            raise ValueError(
                f"Samples of shape {shape} hold nothing: every size must be at least 1."
            )
        return sample_shape_of(shape, detector.channel_axis), detector.channel_axis, None
    image_shape = tuple(image_shape)
    if shape == image_shape:
        return sample_shape_of(shape, detector.channel_axis), detector.channel_axis, None
    if len(shape) != 1 or shape[0] != np.prod(image_shape):
        raise ValueError(
            f"image_shape={image_shape} needs images of that shape, or rows of "
            f"{int(np.prod(image_shape))} features, but X holds samples of shape {shape}."
        )
    axis = detector.channel_axis
    return sample_shape_of(image_shape, axis), axis, image_shape
