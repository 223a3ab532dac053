"""What users pass as a set of samples: what it is told if it cannot be read, and one item of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset


def check_dataset(X: Any) -> None:
    """Refuse what looks like a data set but has no samples by index, or no one shape.

    Parameters
    ----------
    X : object
        What the user passes as samples; arrays, paths and Datasets pass.

    Raises
    ------
    TypeError
        For a DataLoader, an IterableDataset or an iterator.
    ValueError
        For a list of arrays of several shapes.

    Examples
    --------
    >>> import numpy as np
    >>> from torch.utils.data import DataLoader
    >>> from gandetect.data.items import check_dataset
    >>> check_dataset(DataLoader(np.zeros((4, 2))))
    Traceback (most recent call last):
    TypeError: X is a DataLoader, which gives batches: pass its dataset, loader.dataset.
    """
    if isinstance(X, DataLoader):
        raise TypeError("X is a DataLoader, which gives batches: pass its dataset, loader.dataset.")
    if isinstance(X, IterableDataset) or (hasattr(X, "__next__") and not hasattr(X, "__len__")):
        raise TypeError(
            f"X is of the type {type(X).__name__}, which has no samples by index: pass a Dataset "
            "with __len__ and __getitem__, or all samples as one array, as in "
            "numpy.stack(list(X))."
        )
    if isinstance(X, list | tuple) and any(getattr(x, "ndim", 0) > 1 for x in X):
        shapes = list(dict.fromkeys(tuple(np.shape(x)) for x in X))
        if len(shapes) > 1:
            raise ValueError(
                f"X is a list of arrays of {len(shapes)} shapes, such as {shapes[0]} and "
                f"{shapes[1]}: bring them to one. Images in files are brought to one size by "
                "ImageFolder(path, image_size=64)."
            )


def sample_of(item: Any, index: int) -> np.ndarray:
    """Return the sample in an item of a Dataset, as a numeric array.

    Parameters
    ----------
    item : array-like, Tensor, or tuple or list whose first entry is one
        Tensors may require gradients, lie on any device and be of bfloat16.
    index : int
        Where the item is in the Dataset, to name it.

    Returns
    -------
    ndarray

    Raises
    ------
    TypeError
        If it is a dict or not numeric.

    Examples
    --------
    >>> import torch
    >>> from gandetect.data.items import sample_of
    >>> sample_of((torch.ones(2, dtype=torch.bfloat16, requires_grad=True), "label"), 0)
    array([1., 1.], dtype=float32)
    >>> sample_of({"image": [1, 2], "label": 0}, 0)
    Traceback (most recent call last):
    TypeError: Sample 0 of the dataset is a dict with the keys 'image' and 'label': pass a \
Dataset whose items are the samples, as in [item['image'] for item in dataset].
    """
    if isinstance(item, tuple | list) and item:
        item = item[0]
    if isinstance(item, Mapping):
        keys = " and ".join(map(repr, item))
        raise TypeError(
            f"Sample {index} of the dataset is a {type(item).__name__} with the keys {keys}: pass "
            "a Dataset whose items are the samples, as in "
            f"[item[{next(iter(item), 'key')!r}] for item in dataset]."
        )
    if isinstance(item, torch.Tensor):
        item = item.detach().cpu()
        item = (item.float() if item.dtype == torch.bfloat16 else item).numpy()
    array = np.asarray(item)
    if array.dtype.kind not in "biuf":
        raise TypeError(
            f"Samples of the dataset must be numeric arrays, but sample {index} is of the type "
            f"{type(item).__name__} and the dtype {array.dtype}."
        )
    return array
