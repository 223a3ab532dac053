"""Images on disk, read one at a time, so that memory does not grow with their number."""

import operator
import os
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from torch.utils.data import Dataset

if TYPE_CHECKING:
    from PIL.Image import Image

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm")
# Pillow chooses its reader by the content of a file. Its readers of EPS and others start programs,
# so that only the formats of the extensions above are permitted.
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
_LEFT_OUT_SHOWN = 4

ImageSize = int | tuple[int, int] | None
BitDepth = int | Literal["auto"]

_GREY_MODES = ("1", "L", "LA", "La")
# Pillow's weights of red, green and blue for converting to grey.
_GREY_WEIGHTS = (0.299, 0.587, 0.114)
# A conversion to 8 bits that keeps fewer levels than this gives a warning.
_FEW_LEVELS = 64
# Tags of TIFF. The lowest bit of the first is set for a smaller copy of another page.
_SUBFILE_TYPE, _BITS_PER_SAMPLE, _PLANAR_CONFIGURATION, _SAMPLE_FORMAT = 254, 258, 284, 339
# Chunks of a PNG that may contain an orientation.
_PNG_TEXTS = {b"eXIf", b"tEXt", b"zTXt", b"iTXt"}
# Where the lower bytes are, if pillow reads the upper ones in this order.
_OTHER_BYTES = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}


class DataFileError(ValueError):
    """A data file is damaged, truncated, or of another format than its name indicates.

    A missing file is a `FileNotFoundError` instead.

    Examples
    --------
    >>> from gandetect.datasets import DataFileError
    >>> issubclass(DataFileError, ValueError)
    True
    """


def pillow_image() -> ModuleType:
    """Return the module ``PIL.Image``; raise an ImportError that names the extra."""
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError('image files need pillow: pip install "gandetect[images]"') from error
    return Image


def check_image_size(image_size: ImageSize) -> tuple[int, int] | None:
    """Return (height, width), or None if images keep their size."""
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


def keeps_aspect(image_size: ImageSize, keep_aspect: bool | None) -> bool:
    """Return whether the aspect ratio is kept; by default it is, unless both sides are given.

    Raises
    ------
    ValueError
        If it is requested without a size.
    """
    if keep_aspect and image_size is None:
        raise ValueError("keep_aspect=True needs image_size, the size of the longer side")
    is_one_side = image_size is not None and not isinstance(image_size, tuple | list)
    return is_one_side if keep_aspect is None else bool(keep_aspect)


def check_channels(channels: int | None) -> None:
    """Raise a ValueError unless `channels` is 1, 3 or None."""
    if channels not in (None, 1, 3):
        raise ValueError(f"channels must be 1 (grey), 3 (colour) or None, got {channels!r}")


def check_bit_depth(bit_depth: BitDepth) -> None:
    """Raise a ValueError unless `bit_depth` is "auto" or an integer from 8 to 16."""
    if bit_depth != "auto" and bit_depth not in range(8, 17):
        raise ValueError(f"bit_depth must be 'auto' or an integer from 8 to 16, got {bit_depth!r}")


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open an image file; invalid content raises a DataFileError."""
    image_module = pillow_image()
    # Opened here, because pillow does not close a file with damaged content.
    if not path.exists():
        raise FileNotFoundError(f"there is no image {path}")
    with path.open("rb") as file:
        try:
            image = image_module.open(file, formats=_FORMATS)
            _refuse_pages(image)
            yield image
        except (DataFileError, MemoryError):
            raise
        # Readers raise many kinds of errors for damaged content.
        except Exception as error:
            reason = str(error) or type(error).__name__
            if isinstance(error, image_module.UnidentifiedImageError):
                reason = f"its content is damaged or not one of {', '.join(_FORMATS)}"
            elif isinstance(error, image_module.DecompressionBombError):
                reason += " If you trust the file, increase PIL.Image.MAX_IMAGE_PIXELS"
            raise DataFileError(f"{path} cannot be read as an image: {reason}") from error


def _refuse_pages(image: Any) -> None:
    """Raise a ValueError for a file of several pages or frames.

    Reduced copies of a page in a TIFF, and the images that phones append to a JPEG (MPO), are not
    counted as pages.
    """
    n_pages = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
    if n_pages > 1 and image.format == "TIFF":
        n_copies = 0
        for page in range(1, n_pages):
            image.seek(page)
            n_copies += image.tag_v2.get(_SUBFILE_TYPE, 0) & 1
        image.seek(0)
        n_pages -= n_copies
    if n_pages > 1:
        raise ValueError(
            f"it contains {n_pages} pages or frames instead of one image: save each as a separate "
            "file (PIL.ImageSequence reads them)"
        )


def _oriented(image: "Image") -> "Image":
    """Decode an image, rotated by its EXIF orientation."""
    from PIL import ImageOps

    image.load()
    return ImageOps.exif_transpose(image)


def open_image(path: Path) -> "Image":
    """Open and decode an image file, rotated by its EXIF orientation."""
    with _opened(path) as image:
        return _oriented(image)


def read_shape(path: Path) -> tuple[int, int]:
    """Return (height, width) as `read_image` does, without decoding if the format permits."""
    with _opened(path) as image:
        # pillow rotates TIFF images itself, and the EXIF data of a PNG may be at its end.
        is_png = image.format == "PNG"
        if image.format == "TIFF" or (is_png and not _PNG_TEXTS.isdisjoint(_png_chunks(path))):
            return np.asarray(_oriented(image)).shape[:2]
        is_turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
        width, height = image.size
    return (width, height) if is_turned else (height, width)


def _png_chunks(path: Path) -> Iterator[bytes]:
    """Yield the kinds of the chunks of a PNG file."""
    with path.open("rb") as file:
        file.seek(8)
        while len(head := file.read(8)) == 8:
            yield head[4:]
            file.seek(int.from_bytes(head[:4], "big") + 4, os.SEEK_CUR)


def read_image(
    path: Path,
    image_size: ImageSize = None,
    channels: int | None = None,
    *,
    bit_depth: BitDepth = "auto",
    keep_aspect: bool = False,
) -> np.ndarray:
    """Read one image of shape (H, W) or (H, W, 3), with the dtype of `ImageFolder`.

    See `ImageFolder` for the parameters.
    """
    size = check_image_size(image_size)
    with _opened(path) as image:
        pixels = _to_array(image, channels)
        top = 65535 if image.format == "PPM" else None  # pillow scales deep images to this range
    if pixels is None:
        pixels = _deep_colour(path)
    if pixels.dtype == np.float32 and not np.isfinite(pixels).all():
        raise DataFileError(f"{path} has pixels that are NaN or infinite")
    if bit_depth != "auto" and pixels.dtype != np.uint8:
        pixels = _to_bytes(pixels, path, bit_depth, top or 2**bit_depth - 1)
    return resize_image(pixels, size, channels, keep_aspect=keep_aspect)


def _to_array(image: Any, channels: int | None) -> np.ndarray | None:
    """Decode to grey (H, W) or colour (H, W, 3); None for colours of more than eight bits."""
    tags = getattr(image, "tag_v2", {})  # of TIFF only
    n_bits, is_signed = max(tags.get(_BITS_PER_SAMPLE, (8,))), 2 in tags.get(_SAMPLE_FORMAT, ())
    if n_bits == 32 and image.mode != "F":
        # Pillow reads unsigned integers with a wrong sign.
        raise ValueError("it has integers of 32 bits; convert it to 16 bits, or to float32")
    if n_bits <= 8 and is_signed:
        raise ValueError("it has signed bytes; convert it to unsigned bytes, or to 16 bits")
    if _is_deep_colour(image, n_bits):
        return None
    image = _oriented(image)
    if image.mode == "I":
        return np.asarray(image).astype(np.int16 if is_signed else np.uint16)
    if image.mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16)
    if image.mode == "F":
        return np.array(image, dtype=np.float32)
    is_grey = image.mode in _GREY_MODES if channels is None else channels == 1
    if image.mode in ("P", "PA"):
        # In a direct conversion to RGB, pillow warns about palettes with transparent colours.
        image = image.convert("RGBA")
    if image.mode == "LAB":  # pillow converts it to colour, but not to grey
        image = image.convert("RGB")
    mode = "L" if is_grey else "RGB"
    # A copy: the array over the memory of pillow is read-only.
    return np.array(image if image.mode == mode else image.convert(mode))


def _raw_mode(image: Any) -> str:
    """The raw mode in which pillow reads the bytes of an open file."""
    args = image.tile[0][3] if image.tile else ""
    return args if isinstance(args, str) else str(args[0])


def _is_deep_colour(image: Any, n_bits: int) -> bool:
    """Whether pillow would reduce the image to 8 bits: it has no mode for deep colours."""
    if image.mode.startswith(("I", "F")):
        return False
    if image.format == "PPM" and image.mode == "RGB":
        codec, _, _, args = image.tile[0]
        return bool(codec != "raw" and args[1] > 255)
    return ";16" in _raw_mode(image) or n_bits > 8


def _deep_colour(path: Path) -> np.ndarray:
    """Read colours of 16 bits, in two passes of pillow: the upper bytes, then the lower ones."""
    with _opened(path) as image:
        kind, _, order = _raw_mode(image).partition(";16")
        is_planar = getattr(image, "tag_v2", {}).get(_PLANAR_CONFIGURATION) == 2
        is_known = kind in ("LA", "RGB", "RGBA", "RGBX") and order in _OTHER_BYTES
        if is_planar or not is_known:
            raise ValueError(
                f"its colours have more than 8 bits in a layout ({image.format}, {image.mode}) "
                "that cannot be read; save it as an RGB image in PNG or TIFF, of 8 or 16 bits"
            )
        upper = np.asarray(_oriented(image)).astype(np.uint16)
    with _opened(path) as image:
        # Grey with transparency: the four bytes of a pixel are read as colours.
        other = "RGBA" if kind == "LA" else f"{kind};16{_OTHER_BYTES[order]}"
        image.tile = [_with_raw_mode(tile, other) for tile in image.tile]
        lower = np.asarray(_oriented(image)).astype(np.uint16)
    if kind == "LA":
        return lower[..., 0] << 8 | lower[..., 1]
    return (upper << 8 | lower)[..., :3]


def _with_raw_mode(tile: Any, raw_mode: str) -> Any:
    codec, box, offset, args = tile
    entries = (codec, box, offset, raw_mode if isinstance(args, str) else (raw_mode, *args[1:]))
    return tile._make(entries) if hasattr(tile, "_make") else entries  # named from pillow 11 on


def _to_bytes(pixels: np.ndarray, path: Path, bit_depth: int, top: int) -> np.ndarray:
    """Scale integers from 0 to `top` to bytes."""
    if pixels.dtype != np.uint16:
        raise DataFileError(
            f"{path} has {pixels.dtype} pixels, and bit_depth={bit_depth} is for unsigned "
            "integers: pass bit_depth='auto'"
        )
    if pixels.max() > top:
        raise DataFileError(
            f"{path} has the value {pixels.max()}, which exceeds {bit_depth} bits: pass a larger "
            "bit_depth, or bit_depth='auto'"
        )
    return np.rint(pixels * (255 / top)).astype(np.uint8)


def target_size(
    shape: tuple[int, ...], size: tuple[int, int], keep_aspect: bool
) -> tuple[int, int]:
    """Return the resized (height, width) of an image; with `keep_aspect` it fits into `size`."""
    if not keep_aspect:
        return size
    factor = min(new / old for new, old in zip(size, shape, strict=True))
    height, width = (max(1, round(factor * side)) for side in shape)
    return height, width


def resize_image(
    image: np.ndarray,
    size: tuple[int, int] | None,
    channels: int | None = None,
    *,
    keep_aspect: bool = False,
) -> np.ndarray:
    """Resize one image (H, W) or (H, W, C) to (height, width), and convert to grey or colour.

    Integers of 8 and 16 bits keep their type, other numbers become float32.
    """
    is_coloured = image.ndim == 3
    if size is not None:
        size = target_size(image.shape[:2], size, keep_aspect)
    if size in (None, image.shape[:2]) and channels in (None, 3 if is_coloured else 1):
        return image
    module = pillow_image()
    if image.dtype == np.uint8:
        picture = module.fromarray(np.ascontiguousarray(image))
        if channels is not None:
            picture = picture.convert("L" if channels == 1 else "RGB")
        planes = [picture]
    else:
        planes = [module.fromarray(plane) for plane in _planes(image, channels)]
    if size is not None:
        planes = [plane.resize(size[::-1], module.Resampling.BILINEAR) for plane in planes]
    new = np.array(planes[0]) if len(planes) == 1 else np.stack(planes, axis=-1)
    if image.dtype in (np.uint16, np.int16):
        new = np.rint(new).astype(image.dtype)
    return new


def _planes(image: np.ndarray, channels: int | None) -> list[np.ndarray]:
    """Split an image into channels: pillow resizes other numbers than bytes by channel."""
    image = image.astype(np.float32)
    if image.ndim == 3 and channels == 1:
        image = image @ np.array(_GREY_WEIGHTS, dtype=np.float32)
    if image.ndim == 3:
        return [np.ascontiguousarray(image[..., channel]) for channel in range(image.shape[-1])]
    return [image] * (channels or 1)


def is_hidden(name: str) -> bool:
    """Whether a file or folder belongs to the system or a program, not to the user."""
    return name.startswith(".") or name in ("__MACOSX", "Thumbs.db", "desktop.ini")


def image_paths(folder: Path, pattern: str = "**/*") -> list[Path]:
    """Return the image files of a folder in the order of their names.

    Hidden files are left out: archives from macOS have a ``._name.png`` for each image, and
    notebooks leave copies in ``.ipynb_checkpoints``. Links to folders are followed, but no folder
    is read twice. One warning reports the omitted files.
    """
    if folder.is_file():
        loads = (
            "tables are read from .csv, .tsv, .txt and .parquet files; load other files, for "
            "instance with pandas.read_excel, and pass the array or the DataFrame"
        )
        if folder.suffix.lower() in IMAGE_SUFFIXES:
            loads = f"ImageFiles([{str(folder)!r}]) reads single images"
        elif folder.suffix.lower() in (".npy", ".npz"):
            loads = f"numpy.load({str(folder)!r}) reads arrays"
        raise NotADirectoryError(f"{folder} is a file, but must be a folder of images; {loads}")
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}")
    files, left_out = _walk(folder)
    if pattern != "**/*":
        chosen = _matches(folder, pattern)
        files = [path for path in files if path in chosen]
    paths = [path for path in files if _is_image(path)]
    others = [path.suffix or path.name for path in files if not _is_image(path)]
    left_out["files of other extensions"] = others
    told = "; ".join(
        f"{kind} left out: {len(names)} ({_some(names)})"
        for kind, names in left_out.items()
        if names
    )
    if not paths:
        raise FileNotFoundError(
            f"{folder} has no image that matches {pattern!r}; supported extensions: "
            f"{', '.join(IMAGE_SUFFIXES)}{told and '; '}{told}"
        )
    if told:
        warnings.warn(f"{folder}: images read: {len(paths)}; {told}", stacklevel=3)
    return sorted(paths)


def _matches(folder: Path, pattern: str) -> set[Path]:
    try:
        return set(folder.glob(pattern))
    except (NotImplementedError, TypeError, ValueError) as error:
        raise ValueError(
            f"pattern must match paths in the folder, such as '**/*.png', got {pattern!r}"
        ) from error


def _some(names: list[str]) -> str:
    different = sorted(set(names))
    more = ["..."] if len(different) > _LEFT_OUT_SHOWN else []
    return ", ".join([*different[:_LEFT_OUT_SHOWN], *more])


def _walk(folder: Path) -> tuple[list[Path], dict[str, list[str]]]:
    """Return the files below a folder that are not hidden, and the omitted entries by kind."""
    files: list[Path] = []
    links: list[Path] = []
    left_out: dict[str, list[str]] = {
        "hidden files or folders": [],
        "links to folders that are already read": [],
        "broken links or special files": [],
        "folders with the name of an image that contain none": [],
    }
    hidden, loops, special, unlike = left_out.values()
    seen = {folder.resolve(), *folder.resolve().parents}

    def enter(place: Path) -> None:
        with os.scandir(place) as entries:
            for entry in entries:
                path = place / entry.name
                if is_hidden(entry.name):
                    # Reported only if it may have been an image.
                    if entry.is_dir() or path.suffix.lower() in IMAGE_SUFFIXES:
                        hidden.append(entry.name)
                elif entry.is_dir() and entry.is_symlink():
                    links.append(path)
                elif entry.is_dir():
                    if path.resolve() not in seen:
                        seen.add(path.resolve())
                        enter_below(path)
                elif entry.is_file():
                    files.append(path)
                else:
                    special.append(entry.name)

    def enter_below(place: Path) -> None:
        n_before = len(files)
        enter(place)
        if _is_image(place) and not any(map(_is_image, files[n_before:])):
            unlike.append(place.name)

    enter(folder)
    links.sort()
    for link in links:  # the list grows during the loop
        if link.resolve() in seen:
            loops.append(link.name)
        else:
            seen.add(link.resolve())
            enter_below(link)
    return files, left_out


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES


class ImageFiles(Dataset[np.ndarray]):
    """A sequence of image files, each read on access; a torch Dataset.

    Use it for known paths; `ImageFolder` finds them in a folder.

    Parameters
    ----------
    paths : iterable of path-like
        The files, at least one.
    image_size : int, (height, width) or None, default=None
        See `ImageFolder`.
    channels : {1, 3} or None, default=None
        See `ImageFolder`.
    bit_depth : "auto" or int, default="auto"
        See `ImageFolder`.
    keep_aspect : bool or None, default=None
        See `ImageFolder`.
    on_error : {"raise", "skip"}, default="raise"
        See `ImageFolder`.

    Attributes
    ----------
    paths : list of pathlib.Path
        The files, in the order of the sequence.
    skipped : list of pathlib.Path
        The files that could not be read, with ``on_error="skip"``.
    settings : dict
        The parameters with which files are read, to read other files in the same way:
        ``ImageFiles(paths, **images.settings)``.
    image_shape : tuple of int
        (H, W) or (H, W, 3): the shape of the first image. All images must have this shape unless
        the aspect ratio is kept.

    Raises
    ------
    DataFileError
        If no file can be read, with ``on_error="skip"``.
    ValueError
        If there is no path, or another parameter is out of range.
    TypeError
        If `image_size` is of another type, or `paths` is one path.

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
        *,
        bit_depth: BitDepth = "auto",
        keep_aspect: bool | None = None,
        on_error: Literal["raise", "skip"] = "raise",
    ) -> None:
        if isinstance(paths, str | bytes | os.PathLike):
            raise TypeError(f"paths must be a list of paths, got a single path: pass [{paths!r}]")
        self.paths = [Path(path) for path in paths]
        self.image_size = check_image_size(image_size)
        self.channels = channels
        self.bit_depth = bit_depth
        self.keep_aspect = keeps_aspect(image_size, keep_aspect)
        self.skipped: list[Path] = []
        check_channels(channels)
        check_bit_depth(bit_depth)
        if on_error not in ("raise", "skip"):
            raise ValueError(f"on_error must be 'raise' or 'skip', got {on_error!r}")
        if not self.paths:
            raise ValueError("paths is empty: at least one path of an image is required")
        if on_error == "skip":
            self._skip_unreadable()

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.paths)

    def __getitem__(self, index: int) -> np.ndarray:
        """Read one image, of shape (H, W) or (H, W, 3)."""
        try:
            path = self.paths[operator.index(index)]
        except TypeError as error:
            raise TypeError(
                f"the index of an image must be an integer, got {type(index).__name__}: for "
                "several images use torch.utils.data.Subset(images, indices)"
            ) from error
        image = self._read(path)
        shape, dtype = self._first
        n_free = 2 if self.keep_aspect else 0
        if image.shape[n_free:] != shape[n_free:]:
            ways = []
            if image.shape[n_free:2] != shape[n_free:2]:
                ways.append(
                    f"image_size, as in {self._call()}, image_size=256), on the command line "
                    "--image-size 256, which keeps the aspect ratio (for RDNADetector with a "
                    "backbone), or (256, 256), which resizes all images to that height and width"
                )
            if image.shape[2:] != shape[2:]:
                ways.append(
                    "channels=1 or channels=3, on the command line --channels, to convert grey and "
                    "colour images to the same"
                )
            raise ValueError(
                f"{path} has the shape {image.shape}, but {self.paths[0]} has {shape}. Pass "
                f"{', and '.join(ways)}"
            )
        if image.dtype != dtype:
            raise ValueError(
                f"{path} has pixels of {image.dtype}, but {self.paths[0]} of {dtype}. Pass the "
                f"number of bits that the values use, as in {self._call()}, bit_depth=12), on the "
                "command line --bit-depth 12, to convert images of more than 8 bits to 8"
            )
        return image

    def __iter__(self) -> Iterator[np.ndarray]:
        """Read the images in order."""
        return (self[index] for index in range(len(self)))

    def __repr__(self) -> str:
        """Return a short description."""
        return f"{type(self).__name__}({len(self)} images, {self.paths[0]} ...)"

    @property
    def settings(self) -> dict[str, Any]:
        """The parameters with which files are read."""
        names = ("image_size", "channels", "bit_depth", "keep_aspect")
        return {name: getattr(self, name) for name in names}

    @property
    def image_shape(self) -> tuple[int, ...]:
        """The shape of the first image; all must have it unless the aspect ratio is kept."""
        return self._first[0]

    def shapes(self) -> list[tuple[int, ...]]:
        """The shape of each image, without decoding most files.

        Raises
        ------
        DataFileError
            If a file can not be read.
        """
        rest = self.image_shape[2:]
        size = check_image_size(self.image_size)
        shapes = map(read_shape, self.paths)
        if size is None:
            return [(*shape, *rest) for shape in shapes]
        return [(*target_size(shape, size, self.keep_aspect), *rest) for shape in shapes]

    def stack(self) -> np.ndarray:
        """Read all images into one array.

        Returns
        -------
        ndarray of shape (n, H, W) or (n, H, W, 3)
            The images, with the dtype of `ImageFolder`.

        Raises
        ------
        ValueError
            If the images differ in shape or type.
        DataFileError
            If an image can not be read.
        """
        shape, dtype = self._first
        images = np.empty((len(self), *shape), dtype=dtype)
        for index, image in enumerate(self):
            if image.shape != shape:
                raise ValueError(
                    f"{self.paths[index]} has the shape {image.shape}, but {self.paths[0]} has "
                    f"{shape}: an array needs images of the same shape. Pass image_size=(height, "
                    "width), or lazy=True to load_mvtec or load_labelled_images"
                )
            images[index] = image
        return images

    @cached_property
    def _first(self) -> tuple[tuple[int, ...], np.dtype]:
        """Shape and type of the first image."""
        image = self._read(self.paths[0])
        if self.bit_depth != "auto":
            n_levels = len(np.unique(read_image(self.paths[0])))
            n_kept = len(np.unique(read_image(self.paths[0], bit_depth=self.bit_depth)))
            if n_kept < min(n_levels, _FEW_LEVELS):
                warnings.warn(
                    f"bit_depth={self.bit_depth} keeps {n_kept} of the {n_levels} levels of "
                    f"{self.paths[0]}; bit_depth='auto' keeps all",
                    stacklevel=3,
                )
        return image.shape, image.dtype

    def _read(self, path: Path) -> np.ndarray:
        try:
            return read_image(path, **self.settings)
        except DataFileError as error:
            if len(self) == 1:
                raise
            raise DataFileError(
                f"{error}. Pass on_error='skip' (on the command line --on-error skip) to leave "
                "such files out"
            ) from error

    def _skip_unreadable(self) -> None:
        errors = {}
        for path in self.paths:
            try:
                read_image(path, **self.settings)
            except (DataFileError, OSError) as error:
                errors[path] = error
        if not errors:
            return
        self.skipped = list(errors)
        told = "; ".join(map(str, list(errors.values())[:_LEFT_OUT_SHOWN]))
        told = f"{len(errors)} of {len(self)} images cannot be read: {told}"
        if len(errors) > _LEFT_OUT_SHOWN:
            others = ", ".join(map(str, list(errors)[_LEFT_OUT_SHOWN:]))
            told += f"; and likewise {others}"
        self.paths = [path for path in self.paths if path not in errors]
        if not self.paths:
            raise DataFileError(told)
        warnings.warn(f"{told}. They are left out", stacklevel=4)

    def _call(self) -> str:
        """The start of the constructor call, for messages."""
        return f"{type(self).__name__}(paths"


class ImageFolder(ImageFiles):
    """The images of a folder as a sequence that reads one at a time.

    Detectors accept it instead of an array, and read it batch by batch: memory does not grow with
    the size of the folder.

    Parameters
    ----------
    root : path-like
        The folder.
    image_size : int, (height, width) or None, default=None
        The size to which images are resized, by antialiased bilinear interpolation: an integer is
        the longer side, and the aspect ratio is kept; (height, width) is the size of all images.
        None keeps the size; all images must then have the same size.
    pattern : str, default: ``"**/*"``
        The pattern of the files, as in `pathlib.Path.glob`; the default includes subfolders,
        ``"*.png"`` does not. See Notes for omitted files.
    channels : {1, 3} or None, default=None
        1 converts all images to grey, 3 to colour. None does not convert; all images must then be
        grey, or all colour. Transparency is discarded.
    bit_depth : "auto" or int from 8 to 16, default="auto"
        "auto" keeps all levels: images of up to 8 bits are uint8, those of 9 to 16 bits (also 12
        bits stored in 16) are uint16, int16 if they are signed, and float TIFFs float32. An integer
        is the number of bits that files of more than 8 bits use: they are scaled to uint8, so that
        they can be used together with images of 8 bits. A warning is issued if this keeps fewer
        than 64 levels of the first image.
    keep_aspect : bool or None, default=None
        Whether the aspect ratio is kept: the longer side is resized to `image_size` (for a tuple,
        neither side exceeds its size). Images with another aspect ratio than the first then have
        another shape. None keeps it if `image_size` is an integer, because in a distorted image
        thin defects are lost. False distorts images to a square, or to (height, width).
    on_error : {"raise", "skip"}, default="raise"
        "skip" reads every file once at the start and leaves out those that cannot be read; a
        warning has their number and names. "raise" reads nothing at the start; access to such an
        image raises an error.

    Attributes
    ----------
    paths : list of pathlib.Path
        The files, sorted.
    skipped : list of pathlib.Path
        The files that could not be read, with ``on_error="skip"``.
    settings : dict
        The parameters with which files are read, to read another folder in the same way:
        ``ImageFolder(other, **images.settings)``.
    image_shape : tuple of int
        (H, W) or (H, W, 3): the shape of the first image. All images must have it unless the
        aspect ratio is kept.

    Raises
    ------
    FileNotFoundError
        If there is no such folder, or no image in it.
    NotADirectoryError
        If `root` is a file.
    DataFileError
        If no image can be read, with ``on_error="skip"``.
    ValueError
        If a parameter is out of range.
    TypeError
        If `image_size` is of another type.
    ImportError
        When an image is read, if pillow is missing: ``pip install "gandetect[images]"``.

    Warns
    -----
    UserWarning
        If files in the folder are left out, with their numbers.

    See Also
    --------
    load_mvtec : Reads a folder in the layout of MVTec AD, with labels and masks.
    load_labelled_images : Reads a folder of good and bad images, with labels and masks.

    Notes
    -----
    An index must be an integer. Images are rotated by their EXIF orientation. Access to an image
    raises a `DataFileError` if the file cannot be read or has several pages or frames, and a
    `ValueError` if it differs from the first in shape or dtype.

    Hidden files and folders (names that begin with a dot, ``__MACOSX``) and files with other
    extensions are left out. Links to folders are followed, each folder once. Only formats that are
    decoded within this process are read (BMP, GIF, JPEG, PNG, PPM, TIFF and WebP), for any name of
    a file.

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
        *,
        bit_depth: BitDepth = "auto",
        keep_aspect: bool | None = None,
        on_error: Literal["raise", "skip"] = "raise",
    ) -> None:
        self.root = Path(root)
        self.pattern = pattern
        super().__init__(
            image_paths(self.root, pattern),
            image_size,
            channels,
            bit_depth=bit_depth,
            keep_aspect=keep_aspect,
            on_error=on_error,
        )

    def __repr__(self) -> str:
        """Return a short description."""
        return f"{type(self).__name__}({str(self.root)!r}, {len(self)} images)"

    def _call(self) -> str:
        return f"{type(self).__name__}({str(self.root)!r}"
