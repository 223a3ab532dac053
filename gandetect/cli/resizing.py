"""Arrays of images in another size or with other channels, as image files are read in them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gandetect.data.images import ImageSize, check_image_size, resize_image


def is_resizable(X: NDArray[Any]) -> bool:
    """Whether these are numbers that make images: (n, H, W), or with 1 or 3 channels."""
    n_channels = {X.shape[1], X.shape[-1]} if X.ndim == 4 else {1}
    return X.ndim in (3, 4) and bool(n_channels & {1, 3}) and X.dtype.kind in "biuf"


def resized(
    X: NDArray[Any],
    image_size: ImageSize = None,
    channels: int | None = None,
    *,
    keep_aspect: bool = False,
) -> NDArray[Any]:
    """Bring images to a size, and make them grey or coloured.

    Integers of 8 and 16 bits come out as `gandetect.datasets.ImageFolder` would read them from a
    file; other numbers as float32, interpolated in the same way and not rounded.

    Parameters
    ----------
    X : ndarray of shape (n, H, W), (n, H, W, C) or (n, C, H, W)
        Images for which `is_resizable` holds.
    image_size : int, (height, width) or None, default=None
        The new size; None keeps it.
    channels : {1, 3} or None, default=None
        1 makes the images grey, 3 coloured; None leaves them as they are.
    keep_aspect : bool, default=False
        Whether the longer side becomes `image_size` and nothing is squeezed.

    Returns
    -------
    ndarray of shape (n, H, W), or with channels where X has them; where they come first in X they
    do so here
    """
    if image_size is None and channels is None:
        return X
    is_first = X.ndim == 4 and X.shape[-1] not in (1, 3)
    size = check_image_size(image_size)
    if is_first:
        X = np.moveaxis(X, 1, -1)
    if X.ndim == 4 and X.shape[-1] == 1:
        X = X[..., 0]
    images = [resize_image(x, size, channels, keep_aspect=keep_aspect) for x in X]
    stacked = np.stack(images) if images else X
    return np.moveaxis(stacked, -1, 1) if is_first and stacked.ndim == 4 else stacked
