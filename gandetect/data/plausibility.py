"""Checks for data that are probably misread.

Every function checks shapes, values or paths, and returns the text of a warning, or None.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

# Names of folders, in upper or lower case.
NORMAL_NAMES = ("good", "ok", "normal", "nominal", "no_defect", "defect_free")
_ANOMALY_NAMES = (
    *("bad", "ko", "ng", "nok", "anomaly", "anomalies", "anomalous", "abnormal", "defect"),
    *("defects", "defective", "broken", "faulty", "outlier", "outliers"),
)
# Words in the names of image files that mark anomalies. The short ones may have another meaning,
# such as the initials of a product: they count only if other names contain a word for normal.
_ANOMALY_WORDS = {
    *_ANOMALY_NAMES,
    *("fault", "faults", "malignant", "reject", "rejected", "damaged", "scratch", "scratched"),
    *("crack", "cracked"),
}
_SHORT_WORDS = {"bad", "ko", "ng", "nok"}
_NORMAL_WORDS = {*NORMAL_NAMES, "benign"}
_NEGATIONS = {"no", "non", "not", "without", "free"}
_MASK_FOLDERS = ("ground_truth", "groundtruth", "gt", "masks", "mask", "annotations")
_MASK_ENDS = ("_mask", "-mask", "_masks", "_gt", "-gt", "_label")

_CHANNELS = (1, 3, 4)
# A grey image with at most this width, and this ratio of its sides, is probably a window of a time
# series.
_NARROW, _LONG = 8, 2
# Ratios of the standard deviations of neighbouring rows or columns, for images and for series.
_SMOOTH, _JUMPY = 1.5, 3.0


def channels_warning(shape: tuple[int, ...], channel_axis: int | None) -> str | None:
    """Detect images in which another axis is probably that of the channels.

    Parameters
    ----------
    shape : tuple of int
        Shape of one sample of X.
    channel_axis : int or None
        The axis that is read as the channels.

    Returns
    -------
    str or None

    Examples
    --------
    >>> from gandetect.data.plausibility import channels_warning
    >>> print(channels_warning((3, 64, 64), -1))
    Samples of shape (3, 64, 64) are read as images of 64 channels, 3 pixels high and 64 wide. If \
their first axis is the channels, as in the output of torchvision's ToTensor, pass channel_axis=0.
    >>> channels_warning((64, 64, 3), -1)
    """
    if len(shape) != 3 or channel_axis is None:
        return None
    is_first = channel_axis in (0, -3)
    n_channels, other = (shape[0], shape[2]) if is_first else (shape[2], shape[0])
    if other not in _CHANNELS or n_channels in (*_CHANNELS, 2):
        return None
    height, width = shape[1:] if is_first else shape[:2]
    where = (
        "last axis is the channels"
        if is_first
        else ("first axis is the channels, as in the output of ")
    )
    if not is_first:
        where += "torchvision's ToTensor"
    return (
        f"Samples of shape {shape} are read as images of {n_channels} channels, {height} "
        f"pixel{'' if height == 1 else 's'} high and {width} wide. If their {where}, pass "
        f"channel_axis={-1 if is_first else 0}."
    )


def windows_warning(X: NDArray[np.generic]) -> str | None:
    """Detect windows of a multichannel time series that are read as grey images.

    Grey images have one unit for all pixels, and similar neighbouring rows and columns. Windows
    have one channel in each column (or row), with different units.

    Parameters
    ----------
    X : ndarray of shape (n_samples, height, width)
        Some of the samples; other shapes give None.

    Returns
    -------
    str or None

    Examples
    --------
    >>> import numpy as np
    >>> from gandetect.data.plausibility import windows_warning
    >>> print(windows_warning(np.zeros((9, 16, 2))))
    Samples of shape (16, 2) are read as grey images, with one scale for all values. If they are \
windows of a series with 2 channels, pass X.reshape(len(X), -1), so that each column is scaled by \
itself.
    >>> windows_warning(np.zeros((9, 28, 28)))
    """
    if X.ndim != 3 or min(X.shape) == 0:
        return None
    _, height, width = X.shape
    channels_last = width if width <= _NARROW and height >= _LONG * width else 0
    channels_first = height if height <= _NARROW and width >= _LONG * height else 0
    if not channels_last and not channels_first and X.dtype.kind in "if":
        of_rows, of_columns = _unlikeness(X.swapaxes(1, 2)), _unlikeness(X)
        channels_last = width if of_columns > _JUMPY and of_rows < _SMOOTH else 0
        channels_first = height if of_rows > _JUMPY and of_columns < _SMOOTH else 0
    n_channels = channels_last or channels_first
    if not n_channels:
        return None
    return (
        f"Samples of shape {(height, width)} are read as grey images, with one scale for all "
        f"values. If they are windows of a series with {n_channels} "
        f"channel{'s' if n_channels > 1 else ''}, pass X.reshape(len(X), -1), so that each column "
        "is scaled by itself."
    )


def _unlikeness(X: NDArray[np.generic]) -> float:
    """Return the ratio of the scales of neighbours along the last axis."""
    values = X.astype(float)
    values /= float(np.abs(values).max()) or 1.0  # so that squares do not overflow
    spread = values.std(axis=(0, 1))
    spread = np.log(spread[spread > 0])
    return float(np.exp(np.median(np.abs(np.diff(spread))))) if len(spread) > 1 else 1.0


def range_warning(fitted_range: tuple[float, float], X: NDArray[np.generic]) -> str | None:
    """Detect images whose range of values differs from that of the training images.

    Parameters
    ----------
    fitted_range : tuple of float
        The smallest and the largest value of the training images.
    X : ndarray
        Some of the images to be scored.

    Returns
    -------
    str or None

    Examples
    --------
    >>> import numpy as np
    >>> from gandetect.data.plausibility import range_warning
    >>> print(range_warning((0.0, 1.0), np.array([[0, 90], [200, 255]], dtype=np.uint8)))
    The detector was fitted with values from 0 to 1, and X has values from 0 to 255: pass X / 255.
    """
    if X.size == 0:
        return None
    low, high = fitted_range
    there = float(X.min()), float(X.max())
    told = (
        f"The detector was fitted with values from {low:g} to {high:g}, and X has values from "
        f"{there[0]:g} to {there[1]:g}: "
    )
    is_unit, is_unit_here = low >= -1 and high <= 1, there[0] >= -1 and there[1] <= 1
    is_bytes = low >= 0 and 16 < high <= 255
    if is_unit and there[0] >= 0 and 16 < there[1] <= 65535 and X.dtype.kind in "uif":
        top = 255 if there[1] <= 255 else 65535
        if low < 0:
            return f"{told}pass X / {top / 2:g} - 1."
        return f"{told}pass X / {top}."
    if is_bytes and is_unit_here and X.dtype.kind in "fb" and there[0] < there[1]:
        return f"{told}pass " + ("X * 255." if there[0] >= 0 else "(X + 1) * 127.5.")
    if is_bytes and X.dtype.kind in "ui" and there[1] > 2 * 255:
        return f"{told}pass X / 257 if they are of 16 bits, or ImageFolder(path, bit_depth=...)."
    return None


def mismatch_hint(shape: tuple[int, ...], fitted: tuple[int, ...], n_samples: int) -> str | None:
    """Describe how to convert samples to the shape that a detector was fitted with.

    Parameters
    ----------
    shape : tuple of int
        Shape of one sample of X.
    fitted : tuple of int
        Shape of one training sample.
    n_samples : int
        Number of samples of X.

    Returns
    -------
    str or None

    Examples
    --------
    >>> from gandetect.data.plausibility import mismatch_hint
    >>> print(mismatch_hint((90, 80, 3), (64, 64), 5))
    To convert image files to that shape, use ImageFolder(path, image_size=(64, 64), \
channels=1) (--image-size 64,64 --channels 1 on the command line).
    >>> print(mismatch_hint((16,), (16, 16), 16))
    X is one sample: pass X[None].
    """
    if (n_samples, *shape) == fitted:
        return "X is one sample: pass X[None]."
    if len(fitted) == 3 and len(shape) == 3 and shape != fitted:
        if (shape[2], *shape[:2]) == fitted:
            return "The channels are the last axis of X: pass np.moveaxis(X, -1, 1)."
        if (*shape[1:], shape[0]) == fitted:
            return "The channels are the first axis of X: pass np.moveaxis(X, 1, -1)."
    if len(fitted) < 2 or len(shape) < 2:
        return None
    is_first = len(fitted) == 3 and fitted[0] in _CHANNELS and fitted[-1] not in _CHANNELS
    n_channels = 1 if len(fitted) == 2 else fitted[0 if is_first else -1]
    size = fitted[1:] if is_first else fitted[:2]
    if n_channels not in (1, 3) or is_first:
        return None
    return (
        f"To convert image files to that shape, use ImageFolder(path, image_size={size}, "
        f"channels={n_channels}) (--image-size {size[0]},{size[1]} --channels {n_channels} on the "
        "command line)."
    )


def folder_warning(paths: Iterable[Path], root: Path) -> str | None:
    """Detect a folder of training images that contains more than normal images.

    Parameters
    ----------
    paths : iterable of pathlib.Path
        The images that are read.
    root : pathlib.Path
        Their folder.

    Returns
    -------
    str or None

    Examples
    --------
    >>> from pathlib import Path
    >>> from gandetect.data.plausibility import folder_warning
    >>> print(folder_warning([Path("x/good/0.png"), Path("x/bad/0.png")], Path("x")))
    By their paths, 1 of the 2 images in x seem to be anomalies, masks or test images (bad), but \
are used as normal images. Pass the folder of the normal images, as in x/good; load_mvtec and \
load_labelled_images also read labels and masks.
    """
    relative = [path.relative_to(root) for path in paths]
    lower = [tuple(map(_plain, path.parts[:-1])) for path in relative]
    firsts = {parts[0] for parts in lower if parts}
    anomalous = {*_ANOMALY_NAMES, *_MASK_FOLDERS}
    anomalous |= {"1"} if firsts == {"0", "1"} else {"-1"} if firsts == {"-1", "1"} else set()
    is_normal = [not {*NORMAL_NAMES}.isdisjoint(parts) for parts in lower]
    is_parted = {"train", "test"} <= firsts
    stems = {path.with_suffix("") for path in relative}
    suspects = [
        path
        for path, parts, is_good in zip(relative, lower, is_normal, strict=True)
        if not anomalous.isdisjoint(parts)
        or (any(is_normal) and not is_good)
        or (is_parted and parts[:1] == ("test",))
        or mask_owner(path) in stems
    ]
    if not suspects:
        return None
    places = sorted({path.parent.as_posix() for path in suspects})
    shown = ", ".join([*places[:4], *(["..."] if len(places) > 4 else [])])
    good = [path.parent for path in relative if path not in suspects and len(path.parts) > 1]
    return (
        f"By their paths, {len(suspects)} of the {len(relative)} images in {root} seem to be "
        f"anomalies, masks or test images ({shown}), but are used as normal images. Pass the "
        f"folder of the normal images{f', as in {root / good[0]}' if good else ''}; load_mvtec and "
        "load_labelled_images also read labels and masks."
    )


def names_warning(paths: Iterable[Path], where: str = "") -> str | None:
    """Return a warning if the names of image files suggest that some images are anomalies.

    Parameters
    ----------
    paths : iterable of pathlib.Path
        The images that are read.
    where : str, default=""
        The folder of the images.

    Returns
    -------
    str or None
        None also if all files have such names, or if more than half have and most of the others
        are not called normal: then the word probably has another meaning.

    Examples
    --------
    >>> from pathlib import Path
    >>> from gandetect.data.plausibility import names_warning
    >>> print(names_warning([Path("x/good_0.png"), Path("x/good_1.png"), Path("x/defect_0.png")]))
    By their file names, 1 of the 3 images seem to be anomalies (defect: 1), but are used as \
normal images. Pass the normal images only, as in ImageFolder(path, pattern='**/good*').
    """
    words = [re.findall(r"[^\W\d_]+", re.sub("([a-z])([A-Z])", r"\1 \2", p.stem)) for p in paths]
    lower = [[word.lower() for word in names] for names in words]
    normal = [not (_NORMAL_WORDS | _NEGATIONS).isdisjoint(names) for names in lower]
    telling = _ANOMALY_WORDS if any(normal) else _ANOMALY_WORDS - _SHORT_WORDS
    found = [
        next((word for word in names if word in telling), None) if not is_normal else None
        for names, is_normal in zip(lower, normal, strict=True)
    ]
    counts = Counter(word for word in found if word)
    n = counts.total()
    n_normal, n_others = sum(normal), len(words) - n
    if n == 0 or n_others == 0 or (n > n_others and 2 * n_normal < n_others):
        return None
    told = ", ".join(f"{word}: {count}" for word, count in counts.most_common(4))
    starts = {names[0] for names, word in zip(words, found, strict=True) if names and not word}
    alone = "."
    if len(starts) == 1 and min(starts).lower() in _NORMAL_WORDS:
        alone = f", as in ImageFolder(path, pattern='**/{starts.pop()}*')."
    return (
        f"By their file names, {n} of the {len(words)} images{f' in {where}' if where else ''} "
        f"seem to be anomalies ({told}{', ...' if len(counts) > 4 else ''}), but are used as "
        f"normal images. Pass the normal images only{alone}"
    )


def _plain(name: str) -> str:
    return re.sub(r"(?<=\w)[- ](?=\w)", "_", name.lower())


def is_normal_name(name: str) -> bool:
    """Return whether a folder or label has a name of normal images, such as good or defect-free."""
    return _plain(name) in NORMAL_NAMES


def is_mask_folder(name: str) -> bool:
    """Return whether a folder has a name of masks, such as ground_truth."""
    return _plain(name) in _MASK_FOLDERS


def mask_owner(path: Path) -> Path | None:
    """Return the path, without extension, of the image of a mask; None if it is not a mask."""
    name = _owner_of(path.stem)
    return None if name is None else path.with_name(name)


def _owner_of(name: str) -> str | None:
    """Return a name without an ending of masks, or None if it has none."""
    for end in _MASK_ENDS:
        if name.lower().endswith(end) and len(name) > len(end):
            return name[: -len(end)]
    return None


def class_of_masks(folders: Sequence[str], root: Path) -> str | None:
    """Return the class of the images whose masks are in a folder.

    Parameters
    ----------
    folders : sequence of str
        The names of the folders from `root` to the files.
    root : pathlib.Path

    Returns
    -------
    str or None
        None if no folder is one of masks: ``masks/crack``, ``crack/masks`` or, beside a folder
        ``crack``, ``crack_mask``. "" for masks of all classes.
    """
    for i, name in enumerate(folders):
        inside = "/".join(folders[i + 1 :])
        if is_mask_folder(name):
            return inside or (folders[i - 1] if i else "")
        owner = _owner_of(name)
        if owner and root.joinpath(*folders[:i], owner).is_dir():
            return inside or owner
    return None
