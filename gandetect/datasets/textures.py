"""Texture images for the synthetic anomalies of RDNA, from folders in the layout of DTD."""

import os
from collections.abc import Iterator

import numpy as np

from gandetect.data.images import (
    ImageSize,
    check_channels,
    check_image_size,
    image_paths,
    read_image,
)
from gandetect.datasets.files import resolve_data_dir


def iter_textures(
    root: str | os.PathLike[str] | None = None,
    image_size: ImageSize = None,
    channels: int | None = None,
) -> Iterator[np.ndarray]:
    """Iterate over the images of a texture data set, in the order of classes and names.

    Parameters
    ----------
    root : path-like or None, default=None
        A folder in the layout of the Describable Textures Dataset, ``images/<class>/*.jpg`` or
        ``<class>/*.jpg``, or a folder that contains it as ``dtd``. None takes the folder in the
        environment variable ``GANDETECT_DATA``.
    image_size : int, (height, width) or None, default=None
        The size to which images are resized, by bilinear interpolation. None keeps their sizes,
        which differ in DTD.
    channels : {1, 3} or None, default=None
        1 makes all images grey, 3 all colour, None leaves them as they are.

    Returns
    -------
    iterator of ndarray
        Images of shape (H, W) or (H, W, 3), each read on access; uint8, or of the type that
        `ImageFolder` returns.

    Raises
    ------
    FileNotFoundError
        If there is no such folder, or no image in the class folders. It is raised by the call
        itself, not by the first access to the iterator.
    DataFileError
        When an image can not be read.
    ValueError
        If `root` is None and ``GANDETECT_DATA`` is not set, or `image_size` or
        `channels` is out of range.

    References
    ----------
    M. Cimpoi, S. Maji, I. Kokkinos, S. Mohamed and A. Vedaldi, "Describing textures in the wild",
    CVPR 2014.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from PIL import Image
    >>> from gandetect.datasets import iter_textures
    >>> with TemporaryDirectory() as root:
    ...     (Path(root) / "striped").mkdir()
    ...     Image.new("RGB", (40, 30)).save(Path(root) / "striped" / "striped_0001.jpg")
    ...     [texture.shape for texture in iter_textures(root, image_size=8)]
    [(8, 8, 3)]
    """
    top = resolve_data_dir(root)
    layouts = (top / "images", top / "dtd" / "images", top / "dtd")
    folder = next((layout for layout in layouts if layout.is_dir()), top)
    size = check_image_size(image_size)
    check_channels(channels)
    try:
        paths = image_paths(folder, "*/*")
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{folder} contains no textures ({error}); expected images/<class>/*.jpg or "
            "<class>/*.jpg under the root, as DTD is published. gandetect.datasets.ImageFolder "
            "reads any other folder of images"
        ) from error
    return (read_image(path, size, channels) for path in paths)
