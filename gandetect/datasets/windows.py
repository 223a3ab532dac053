"""Sliding windows: patches of large images, with labels from the masks of objects."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import zip_longest
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import Bunch, check_scalar

_MISSING = object()


def sliding_windows(
    images: Iterable[ArrayLike],
    masks: Iterable[ArrayLike] | None = None,
    *,
    size: int | tuple[int, int] = 64,
    stride: int | None = None,
    abnormal_share: float = 0.1,
) -> Bunch:
    """Cut large images into overlapping patches, each labelled by its share of masked pixels.

    GANomaly's X-ray patches (UBA) were made in this way: patches of 64 by 64 pixels from scans of
    whole bags. The paper does not state the overlap with the object from which a patch counts as
    abnormal. Here a patch without a marked pixel is normal, and a patch with a share of marked
    pixels of at least `abnormal_share` is abnormal. Patches between these limits are left out, so
    that the edge of an object does not count as the object.

    Parameters
    ----------
    images : iterable of array-like of shape (height, width) or (height, width, channels)
        Images of any sizes that are at least `size`; an `ImageFolder` is also allowed.
    masks : iterable of array-like of shape (height, width), or None, default=None
        One mask for each image; pixels that are not 0 belong to an object. With None all patches
        are normal.
    size : int or (int, int), default=64
        Height and width of a patch; one number for both.
    stride : int or None, default=None
        Pixels from one patch to the next; None is half of the shorter side. The last patch of a
        row or column ends at the border of the image, so it may overlap the previous one more.
    abnormal_share : float in (0, 1], default=0.1
        The smallest share of marked pixels of an abnormal patch.

    Returns
    -------
    sklearn.utils.Bunch
        ``data``, array of shape ``(n_patches, *size)`` or ``(n_patches, *size, channels)``, of the
        dtype of the images; ``target``, int64 array of shape (n_patches,), 1 for an abnormal patch,
        0 for a normal one; ``image``, int64 array of shape (n_patches,), the index of the image of
        each patch; ``corner``, int64 array of shape (n_patches, 2), row and column of its upper
        left pixel; ``n_left_out``, the number of patches that are neither.

    Raises
    ------
    TypeError, ValueError
        If a parameter cannot be used, an image is smaller than a patch, images differ in their
        channels or dtype, or a mask has another size than its image.

    See Also
    --------
    gandetect.metrics.pixel_roc_auc : Evaluates maps of whole images.

    Notes
    -----
    Split images into training and test images before you cut them, because patches of one image
    overlap. The score of an image can be, for instance, the largest score of its patches:
    ``np.maximum.at(of_image, patches.image, scores)``.

    Examples
    --------
    >>> import numpy as np
    >>> from gandetect.datasets import sliding_windows
    >>> scan, mask = np.zeros((96, 128), np.uint8), np.zeros((96, 128))
    >>> mask[60:90, 90:120] = 1
    >>> patches = sliding_windows([scan], [mask])
    >>> patches.data.shape, patches.target.tolist(), patches.n_left_out
    ((3, 64, 64), [0, 0, 1], 3)
    """
    height, width = (size, size) if isinstance(size, int | np.integer) else size
    for side in (height, width):
        check_scalar(side, "every side of size", Integral, min_val=1)
    step = min(height, width) // 2 or 1 if stride is None else stride
    check_scalar(step, "stride", Integral, min_val=1)
    check_scalar(
        abnormal_share,
        "abnormal_share",
        Real,
        min_val=0,
        max_val=1,
        include_boundaries="right",
    )
    found: dict[str, list[Any]] = {"data": [], "target": [], "image": [], "corner": []}
    n_left_out = 0
    pairs = ((image, None) for image in images) if masks is None else _pairs(images, masks)
    kind: tuple[Any, ...] | None = None
    for i, (image, mask) in enumerate(pairs):
        pixels, marked = _checked(i, image, mask, (height, width))
        if kind is not None and kind != (pixels.shape[2:], pixels.dtype):
            raise ValueError(
                f"Image {i} has the channels {pixels.shape[2:]} of {pixels.dtype}, but the first "
                f"image has {kind[0]} of {kind[1]}: all must be equal."
            )
        kind = (pixels.shape[2:], pixels.dtype)
        for top in _starts(pixels.shape[0], height, step):
            for left in _starts(pixels.shape[1], width, step):
                window = (slice(top, top + height), slice(left, left + width))
                share = marked[window].mean() if marked is not None else 0.0
                if 0 < share < abnormal_share:
                    n_left_out += 1
                    continue
                found["data"].append(pixels[window])
                found["target"].append(int(share > 0))
                found["image"].append(i)
                found["corner"].append((top, left))
    if kind is None:
        raise ValueError("images is empty: at least one image is required.")
    return Bunch(
        data=np.array(found["data"], dtype=kind[1]).reshape(-1, height, width, *kind[0]),
        target=np.array(found["target"], dtype=np.int64),
        image=np.array(found["image"], dtype=np.int64),
        corner=np.array(found["corner"], dtype=np.int64).reshape(-1, 2),
        n_left_out=n_left_out,
    )


def _pairs(images: Iterable[ArrayLike], masks: Iterable[ArrayLike]) -> Iterable[tuple[Any, Any]]:
    for image, mask in zip_longest(images, masks, fillvalue=_MISSING):
        if image is _MISSING or mask is _MISSING:
            raise ValueError("images and masks must have the same length.")
        yield image, mask


def _checked(
    i: int, image: ArrayLike, mask: ArrayLike | None, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return an image, and which of its pixels are marked."""
    pixels = np.asarray(image)
    if pixels.ndim not in (2, 3):
        raise ValueError(
            f"Image {i} must be of shape (height, width) or (height, width, channels), got "
            f"{pixels.shape}."
        )
    if pixels.shape[0] < size[0] or pixels.shape[1] < size[1]:
        raise ValueError(f"Image {i} of {pixels.shape[:2]} is smaller than a patch of {size}.")
    if mask is None:
        return pixels, None
    marked = np.asarray(mask) != 0
    if marked.shape != pixels.shape[:2]:
        raise ValueError(
            f"The mask of image {i} has the shape {marked.shape}, but the image {pixels.shape[:2]}."
        )
    return pixels, marked


def _starts(length: int, side: int, step: int) -> list[int]:
    """Return the start positions of patches; the last patch ends at the border of the image."""
    last = length - side
    return sorted({*range(0, last + 1, step), last})
