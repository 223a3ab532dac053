"""Images on disk, read one at a time, so that memory stays flat."""

import operator
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
from torch.utils.data import Dataset

if TYPE_CHECKING:
    from PIL.Image import Image

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".pgm", ".ppm")

ImageSize = int | tuple[int, int] | None

_GRAY_MODES = ("1", "L", "LA", "La")
# 32-bit values have no agreed range that could be brought to 0 to 255.
_MODES_WITHOUT_RANGE = ("I", "F")


class DataFileError(ValueError):
    """A data file is there, but it is damaged, cut off or not what its name says.

    A file that is not there is a `FileNotFoundError` instead.

    Examples
    --------
    >>> from gandetect.datasets import DataFileError
    >>> issubclass(DataFileError, ValueError)
    True
    """


def pillow_image() -> ModuleType:
    """Return the module ``PIL.Image``, or say which extra brings it."""
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError('image files need pillow: pip install "gandetect[images]"') from error
    return Image


def check_image_size(image_size: ImageSize) -> tuple[int, int] | None:
    """Return (height, width), or None where images keep their size."""
    if image_size is None:
        return None
    sides = image_size if isinstance(image_size, tuple | list) else (image_size, image_size)
    try:
        height, width = (operator.index(side) for side in sides)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"image_size must be an integer, (height, width) or None, got {image_size!r}"
        ) from error
    if height < 1 or width < 1:
        raise ValueError(f"image_size must be at least 1 pixel each way, got {image_size!r}")
    return height, width


def check_channels(channels: int | None) -> None:
    """Raise a ValueError unless `channels` is 1, 3 or None."""
    if channels not in (None, 1, 3):
        raise ValueError(f"channels must be 1 (grey), 3 (colour) or None, got {channels!r}")


@contextmanager
def _opened(path: Path) -> Iterator["Image"]:
    """Open an image file; whatever goes wrong with its content is a DataFileError."""
    image_module = pillow_image()
    # Opened here, as pillow leaves the file open when its content is damaged.
    with path.open("rb") as file:
        try:
            yield image_module.open(file)
        # Beside OSError, pillow's readers raise SyntaxError and ValueError.
        except (OSError, SyntaxError, ValueError, image_module.DecompressionBombError) as error:
            raise DataFileError(f"{path} can not be read as an image: {error}") from error


def open_image(path: Path) -> "Image":
    """Open and decode an image file."""
    with _opened(path) as image:
        image.load()
    return image


def read_shape(path: Path) -> tuple[int, int]:
    """Return (height, width) from the head of an image file, without decoding it."""
    with _opened(path) as image:
        width, height = image.size
    return height, width


def read_image(path: Path, image_size: ImageSize = None, channels: int | None = None) -> np.ndarray:
    """Read one image as uint8 of shape (H, W) or (H, W, 3).

    See `ImageFolder` for `image_size` and `channels`.
    """
    size = check_image_size(image_size)
    image = _to_gray_or_rgb(open_image(path), path, channels)
    if size is not None:
        height, width = size
        image = image.resize((width, height), pillow_image().Resampling.BILINEAR)
    # A copy: the array over pillow's own memory can not be written to.
    return np.array(image)


def _to_gray_or_rgb(image: "Image", path: Path, channels: int | None) -> "Image":
    """Return the image in pillow's mode L or RGB."""
    if image.mode in _MODES_WITHOUT_RANGE:
        raise DataFileError(
            f"{path} has 32-bit pixels (pillow's mode {image.mode}), whose range is unknown; "
            "convert it to 8 or 16 bit"
        )
    if image.mode.startswith("I;16"):
        # pillow would cut all above 255 off instead of scaling.
        image = pillow_image().fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if channels is None:
        channels = 1 if image.mode in _GRAY_MODES else 3
    if image.mode in ("P", "PA"):
        # Straight to RGB, pillow warns of palettes with transparent colours.
        image = image.convert("RGBA")
    mode = "L" if channels == 1 else "RGB"
    return image if image.mode == mode else image.convert(mode)  # which copies in any case


def image_paths(folder: Path, pattern: str = "*") -> list[Path]:
    """Return the image files of a folder in the order of their names.

    Hidden files are left out: archives made on a Mac hold a ``._name.png`` beside each image.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}")
    paths = sorted(
        path
        for path in folder.glob(pattern)
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
    )
    if not paths:
        raise FileNotFoundError(
            f"{folder} has no image that matches {pattern!r}; known are the endings "
            f"{', '.join(IMAGE_SUFFIXES)}"
        )
    return paths


class ImageFiles(Dataset[np.ndarray]):
    """A sequence of image files, each read when it is asked for; a torch Dataset.

    Use it where the paths are known; `ImageFolder` finds them in a folder.

    Parameters
    ----------
    paths : iterable of path-like
        The files, at least one.
    image_size : int, (height, width) or None, default=None
        See `ImageFolder`.
    channels : {1, 3} or None, default=None
        See `ImageFolder`.

    Attributes
    ----------
    paths : list of pathlib.Path
        The files, in the order of the sequence.
    image_shape : tuple of int
        (H, W) or (H, W, 3): the shape of the first image, which all must have.

    Raises
    ------
    ValueError
        If there is no path, or `image_size` or `channels` is out of range.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> import numpy as np
    >>> from PIL import Image
    >>> from gandetect.datasets import ImageFiles
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder) / "black.png"
    ...     Image.new("L", (6, 4)).save(path)
    ...     images = ImageFiles([path, path])
    ...     len(images), images[1].shape
    (2, (4, 6))
    """

    def __init__(
        self,
        paths: Iterable[str | os.PathLike[str]],
        image_size: ImageSize = None,
        channels: int | None = None,
    ) -> None:
        self.paths = [Path(path) for path in paths]
        self.image_size = check_image_size(image_size)
        self.channels = channels
        check_channels(channels)
        if not self.paths:
            raise ValueError("no path of an image was given")

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.paths)

    def __getitem__(self, index: int) -> np.ndarray:
        """Read one image, as uint8 of shape (H, W) or (H, W, 3)."""
        path = self.paths[operator.index(index)]
        image = self._read(path)
        if image.shape != self.image_shape:
            raise ValueError(
                f"{path} has the shape {image.shape}, but {self.paths[0]} has "
                f"{self.image_shape}. Pass image_size=(height, width) to bring images of several "
                "sizes to one, channels=1 or channels=3 to bring grey and colour images together"
            )
        return image

    def __iter__(self) -> Iterator[np.ndarray]:
        """Read the images one after the other."""
        return (self[index] for index in range(len(self)))

    def __repr__(self) -> str:
        """Return a short description."""
        return f"{type(self).__name__}({len(self)} images, {self.paths[0]} ...)"

    @cached_property
    def image_shape(self) -> tuple[int, ...]:
        """The shape of the first image, which all must have."""
        return self._read(self.paths[0]).shape

    def stack(self) -> np.ndarray:
        """Read all images into one array.

        Returns
        -------
        ndarray of uint8, shape (n, H, W) or (n, H, W, 3)
            The images.

        Raises
        ------
        ValueError
            If the images differ in shape.
        DataFileError
            If one can not be read.
        """
        images = np.empty((len(self), *self.image_shape), dtype=np.uint8)
        for index, image in enumerate(self):
            images[index] = image
        return images

    def _read(self, path: Path) -> np.ndarray:
        return read_image(path, self.image_size, self.channels)


class ImageFolder(ImageFiles):
    """The images of a folder as a sequence that reads one at a time.

    Detectors take it in place of an array, and read it batch by batch: memory stays flat however
    large the folder is.

    Parameters
    ----------
    root : path-like
        The folder.
    image_size : int, (height, width) or None, default=None
        The size to bring images to, an integer for a square; by bilinear interpolation over all
        pixels that a new one covers, so that shrinking does not skip any. None keeps the size,
        which all images must then share.
    pattern : str, default: ``"**/*"``
        Which files, as in `pathlib.Path.glob`; the default takes subfolders too, ``"*.png"`` does
        not. Other files than images and hidden files are left out.
    channels : {1, 3} or None, default=None
        1 makes all images grey, 3 all colour. None leaves each as it is: grey or colour, which
        all images must then share. Transparency is dropped, 16-bit grey is divided by 256.

    Attributes
    ----------
    paths : list of pathlib.Path
        The files, sorted.
    image_shape : tuple of int
        (H, W) or (H, W, 3): the shape of the first image, which all must have.

    Raises
    ------
    FileNotFoundError
        If there is no such folder, or no image in it.
    ValueError
        If `image_size` or `channels` is out of range.
    ImportError
        When an image is read, if pillow is missing: ``pip install "gandetect[images]"``.

    See Also
    --------
    load_mvtec : Reads a folder in the layout of MVTec AD, with labels and masks.

    Notes
    -----
    An index must be an integer; the image is a uint8 array. Asking for an image raises a
    `DataFileError` if the file can not be read, a `ValueError` if it differs from the first in
    shape.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from PIL import Image
    >>> from gandetect.datasets import ImageFolder
    >>> with TemporaryDirectory() as root:
    ...     Image.new("RGB", (40, 30), "red").save(Path(root) / "a.png")
    ...     Image.new("RGB", (50, 20), "blue").save(Path(root) / "b.png")
    ...     images = ImageFolder(root, image_size=(16, 24))
    ...     len(images), images[1].shape, images[1][0, 0]
    (2, (16, 24, 3), array([  0,   0, 255], dtype=uint8))
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        image_size: ImageSize = None,
        pattern: str = "**/*",
        channels: int | None = None,
    ) -> None:
        self.root = Path(root)
        self.pattern = pattern
        super().__init__(image_paths(self.root, pattern), image_size, channels)

    def __repr__(self) -> str:
        """Return a short description."""
        return f"{type(self).__name__}({str(self.root)!r}, {len(self)} images)"
