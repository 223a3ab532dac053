"""Arrays of images in another size or with other channels, as image files are read in them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gandetect.data.images import ImageSize, check_image_size, pillow_image

# What pillow weighs red, green and blue by where it makes an image grey.
_GREY_WEIGHTS = (0.299, 0.587, 0.114)


def is_resizable(X: NDArray[Any]) -> bool:
    """Whether these are numbers that make images: (n, H, W), or with 1 or 3 channels."""
    n_channels = {X.shape[1], X.shape[-1]} if X.ndim == 4 else {1}
    return X.ndim in (3, 4) and bool(n_channels & {1, 3}) and X.dtype.kind in "biuf"


def resized(
    X: NDArray[Any], image_size: ImageSize = None, channels: int | None = None
) -> NDArray[Any]:
    """Bring images to a size, and make them grey or coloured.

    Bytes come out as `gandetect.datasets.ImageFolder` would read them from a file; other numbers
    as float32, interpolated in the same way and not rounded.

    Parameters
    ----------
    X : ndarray of shape (n, H, W), (n, H, W, C) or (n, C, H, W)
        Images for which `is_resizable` holds.
    image_size : int, (height, width) or None, default=None
        The new size; None keeps it.
    channels : {1, 3} or None, default=None
        1 makes the images grey, 3 coloured; None leaves them as they are.

    Returns
    -------
    ndarray of shape (n, H, W), or with channels where X has them; where they come first in X they
    do so here
    """
    if image_size is None and channels is None:
        return X
    is_first = X.ndim == 4 and X.shape[-1] not in (1, 3)
    size = check_image_size(image_size)
    images = [_one_resized(np.moveaxis(x, 0, -1) if is_first else x, size, channels) for x in X]
    stacked = np.stack(images) if images else X
    return np.moveaxis(stacked, -1, 1) if is_first and stacked.ndim == 4 else stacked


def _one_resized(
    image: NDArray[Any], size: tuple[int, int] | None, channels: int | None
) -> NDArray[Any]:
    """Bring one image, of its channels last, to a size in (height, width)."""
    module = pillow_image()
    if image.ndim == 3 and image.shape[-1] == 1:
        image = image[..., 0]
    if image.dtype == np.uint8:
        picture = module.fromarray(np.ascontiguousarray(image))
        if channels is not None:
            picture = picture.convert("L" if channels == 1 else "RGB")
        planes = [picture]
    else:
        planes = [module.fromarray(plane) for plane in _planes(image, channels)]
    if size is not None:
        height, width = size
        planes = [p.resize((width, height), module.Resampling.BILINEAR) for p in planes]
    arrays = [np.array(plane) for plane in planes]
    return arrays[0] if len(arrays) == 1 else np.stack(arrays, axis=-1)


def _planes(image: NDArray[Any], channels: int | None) -> list[NDArray[np.float32]]:
    """Cut an image into a plane a channel: pillow resizes numbers other than bytes one by one."""
    image = image.astype(np.float32)
    if image.ndim == 3 and channels == 1:
        image = image @ np.array(_GREY_WEIGHTS, dtype=np.float32)
    if image.ndim == 3:
        return [np.ascontiguousarray(image[..., channel]) for channel in range(image.shape[-1])]
    return [image] * (channels or 1)
