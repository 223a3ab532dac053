"""Industrial images with defects and their masks, in the layout of MVTec AD."""

import csv
import os
from pathlib import Path
from typing import Literal

import numpy as np
from sklearn.utils import Bunch

from gandetect.data.images import BitDepth, DataFileError, ImageSize, image_paths, is_hidden
from gandetect.data.plausibility import NORMAL_NAMES, is_normal_name
from gandetect.datasets.files import check_option, resolve_data_dir
from gandetect.datasets.labelled import (
    GOOD,
    MaskIndex,
    apart_from_masks,
    labelled_bunch,
    mask_index,
)

_LAYOUT = (
    "<root>/<category>/train/good/*.png, <root>/<category>/test/<defect>/*.png and "
    "<root>/<category>/ground_truth/<defect>/<name>_mask.png"
)
# VisA as published: one table for all categories, next to their folders.
_VISA_TABLE = Path("split_csv") / "1cls.csv"


def load_mvtec(
    root: str | os.PathLike[str] | None,
    category: str,
    split: str = "train",
    image_size: ImageSize = None,
    *,
    channels: int | None = None,
    bit_depth: BitDepth = "auto",
    keep_aspect: bool | None = None,
    masks: bool = True,
    on_error: Literal["raise", "skip"] = "raise",
    lazy: bool = False,
) -> Bunch:
    """Load one category of MVTec AD, VisA or BTech, or of any data set with the same layout.

    The layout is ``<root>/<category>/train/good/*.png``, ``<root>/<category>/test/<defect>/*.png``
    (``good`` is no defect) and ``<root>/<category>/ground_truth/<defect>/<name>_mask.png``. These
    variants are also read: normal folders named ok, normal, nominal, no_defect or defect_free;
    folders named ``training`` and ``testing``; training images in ``train/`` itself; masks with the
    name of their image, with or without ``_mask``, ``_gt`` or ``_label`` at the end, with any
    ending of an image file, and in the folders that `load_labelled_images` describes, also within
    ``test/``; VisA as published, by its table ``<root>/split_csv/1cls.csv``.

    Parameters
    ----------
    root : path-like or None
        The folder of the categories, or a folder that contains it as ``mvtec``. None takes the
        folder in the environment variable ``GANDETECT_DATA``.
    category : str
        The category, such as ``"bottle"``.
    split : {"train", "test"}, default="train"
        "train" has normal images only, "test" has normal ones and defects.
    image_size : int, (height, width) or None, default=None
        The size to which images and masks are resized, an integer for the longer side. None keeps
        the size; all images must then have the same one, as in each category of MVTec AD (700 to
        1,024 pixels).
    channels : {1, 3} or None, default=None
        1 makes the images grey, 3 colour; None leaves them as they are.
    bit_depth : "auto" or int, default="auto"
        See `ImageFolder`.
    keep_aspect : bool or None, default=None
        See `ImageFolder`; masks are resized like their images.
    masks : bool, default=True
        Whether to look for masks.
    on_error : {"raise", "skip"}, default="raise"
        Whether images that can not be read are left out, with a warning. See `ImageFolder`.
    lazy : bool, default=False
        Whether images and masks are sequences that read one file at a time (`ImageFiles`)
        instead of arrays; for sets larger than memory.

    Returns
    -------
    sklearn.utils.Bunch
        ``images``, of shape (n, H, W) or (n, H, W, 3), uint8 or the type that `ImageFolder`
        returns; ``labels``, int64 of shape (n,), 1 for a defect; ``masks``, bool of shape (n, H,
        W), True where the defect is, or None where no defect has one; ``paths``, a list of
        `pathlib.Path`; ``defects``, str of shape (n,), "good" or the kind of defect; ``groups``,
        str of shape (n,), or None. ``data`` and ``target`` are the images and labels again, under
        the names of scikit-learn.

    Raises
    ------
    FileNotFoundError
        If the root, the category or a folder of the layout is missing, or only some of the defects
        have a mask.
    DataFileError
        If an image can not be read, a mask has another size than its image, training images are
        not all in a normal folder, or ``groups.csv`` is not as described below.
    ValueError
        If the images differ in size and `image_size` is None, they differ in their number of
        channels and `channels` is None, or an argument is out of range.
    ImportError
        If pillow is missing: ``pip install "gandetect[images]"``.

    Warns
    -----
    UserWarning
        If files are left out, the defects have no masks, or masks are empty; states the counts.

    See Also
    --------
    load_labelled_images : Reads one folder of good and bad images, which has no training part.
    ImageFolder : Reads images of any other layout, without labels.

    Notes
    -----
    Images are resized by bilinear interpolation over all pixels that a new one covers. A pixel of
    a resized mask is True if it overlaps any old pixel of the defect. So no defect is lost, however
    small; a defect can only grow, by less than one new pixel at each side. In a mask file, every
    value above 0 in any channel marks the defect; if the transparency varies, only opaque pixels
    do.

    If the category has a file ``groups.csv`` with columns ``name`` (of the image, without ending)
    and ``group``, ``groups`` contains the group of each image, for instance the object that it
    shows ("" for an image that is not listed). It serves splits that keep groups together, such as
    scikit-learn's `~sklearn.model_selection.GroupKFold`.

    References
    ----------
    P. Bergmann, M. Fauser, D. Sattlegger and C. Steger, "MVTec AD: a comprehensive real-world
    dataset for unsupervised anomaly detection", CVPR 2019.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from PIL import Image
    >>> from gandetect.datasets import load_mvtec
    >>> with TemporaryDirectory() as root:
    ...     folder = Path(root) / "nut" / "train" / "good"
    ...     folder.mkdir(parents=True)
    ...     Image.new("L", (40, 30)).save(folder / "000.png")
    ...     nut = load_mvtec(root, "nut", split="train", image_size=16)
    >>> nut.images.shape, nut.masks.shape, nut.labels, nut.defects
    ((1, 12, 16), (1, 12, 16), array([0]), array(['good'], dtype='<U4'))
    """
    check_option("split", split, ("train", "test"))
    folder = category_folder(resolve_data_dir(root), category)
    if is_visa(folder):
        paths, kinds, index = _visa_files(folder, split)
    else:
        part = part_folder(folder, split)
        paths, index = apart_from_masks(_split_paths(part), part)
        kinds = [_kind(path, part, split) for path in paths]
        index = mask_index(folder) | index if masks and split == "test" else {}
    found = sorted(set(kinds))
    if split == "train" and found != [GOOD]:
        raise DataFileError(
            f"{part_folder(folder, split)} must contain only the folder {GOOD}/ (or "
            f"{', '.join(NORMAL_NAMES[1:])}), because training images are normal; it contains "
            f"{', '.join(found)}"
        )
    bunch = labelled_bunch(
        paths,
        kinds,
        index,
        masks=masks,
        lazy=lazy,
        on_error=on_error,
        image_size=image_size,
        channels=channels,
        bit_depth=bit_depth,
        keep_aspect=keep_aspect,
    )
    bunch.groups = _read_groups(folder / "groups.csv", bunch.paths)
    return bunch


def is_visa(folder: Path) -> bool:
    """Return whether a folder is a category in the layout in which VisA is published."""
    return (folder / "Data" / "Images").is_dir()


def part_folder(folder: Path, split: str) -> Path:
    """Return the folder of the images of a part of a category, such as ``train`` or ``Training``.

    The images of both parts of VisA are in one folder.
    """
    if is_visa(folder):
        return folder / "Data" / "Images"
    places = sorted(folder.glob("*/")) if folder.is_dir() else []
    found = (place for place in places if part_of(place.name) == split)
    return folder / split if (folder / split).is_dir() else next(found, folder / split)


def part_of(name: str) -> str | None:
    """Return "train" or "test" for a folder of that part of a data set; None for others."""
    return {"train": "train", "training": "train", "test": "test", "testing": "test"}.get(
        name.lower()
    )


def _has_train(folder: Path) -> bool:
    return part_folder(folder, "train").is_dir()


def is_category(folder: Path) -> bool:
    """Return whether a folder is a category: it contains a training and a test part."""
    return _has_train(folder) and part_folder(folder, "test").is_dir()


def categories_in(root: Path) -> list[str]:
    """Return the names of the categories that `load_mvtec` finds in a root, sorted."""
    folders = (place for top in (root, root / "mvtec") for place in top.glob("*"))
    return sorted({folder.name for folder in folders if _has_train(folder)})


def category_folder(root: Path, category: str) -> Path:
    """Return the folder of a category; raise a FileNotFoundError if there is none."""
    if category in ("", ".", ".."):  # the root itself, or its parent
        raise ValueError(f"category must be the name of a folder in {root}, got {category!r}")
    for folder in (root / category, root / "mvtec" / category):
        if folder.is_dir():
            return folder
    if not root.is_dir():
        raise FileNotFoundError(f"there is no folder {root}; expected {_LAYOUT}")
    if _has_train(root):
        raise FileNotFoundError(
            f"{root} has no category {category!r}, but a training part: pass the folder above it "
            f"as root. Expected {_LAYOUT}"
        )
    there = ", ".join(categories_in(root)) or "none"
    raise FileNotFoundError(
        f"{root} has no category {category!r}, only {there}; expected {_LAYOUT}"
    )


def _split_paths(folder: Path) -> list[Path]:
    """Return the images of train/ or test/; no subfolder may be empty."""
    try:
        paths = image_paths(folder)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{error}; expected {_LAYOUT}") from error
    for place in sorted(folder.iterdir()):
        is_kind = place.is_dir() and not is_hidden(place.name)
        if is_kind and not any(path.is_relative_to(place) for path in paths):
            raise FileNotFoundError(f"{place} has no image; expected {_LAYOUT}")
    return paths


def _kind(path: Path, folder: Path, split: str) -> str:
    """Return "good" or the kind of defect of an image in train/ or test/."""
    parts = path.relative_to(folder).parts[:-1]
    if not parts and split == "train":
        return GOOD
    if not parts:
        raise DataFileError(
            f"{path} is not in a folder good/ or <defect>/, so that its label is unknown; expected "
            f"{_LAYOUT}"
        )
    return GOOD if is_normal_name(parts[0]) else parts[0]


def _visa_files(folder: Path, split: str) -> tuple[list[Path], list[str], MaskIndex]:
    """Return the images, kinds and masks that the table of VisA lists for part of a category."""
    table = folder.parent / _VISA_TABLE
    if not table.is_file():
        raise FileNotFoundError(
            f"{folder} is in the layout of VisA, whose parts are listed in {table}, which is "
            "missing; load_labelled_images reads Data/Images without them"
        )
    rows = _read_table(table, ("object", "split", "label", "image", "mask"))
    rows = [row for row in rows if (row["object"], row["split"]) == (folder.name, split)]
    if not rows:
        raise DataFileError(f"{table} lists no image of {folder.name} for {split}")
    paths = [folder.parent / row["image"] for row in rows]
    kinds = [GOOD if is_normal_name(row["label"]) else row["label"] for row in rows]
    index = {
        (str(path.parent), path.stem): folder.parent / row["mask"]
        for path, row in zip(paths, rows, strict=True)
        if row["mask"]
    }
    return paths, kinds, index


def _read_groups(path: Path, images: list[Path]) -> np.ndarray | None:
    """Return the group of each image, or None if the category has no ``groups.csv``."""
    if not path.is_file():
        return None
    groups = {row["name"]: row["group"] for row in _read_table(path, ("name", "group"))}
    return np.array([groups.get(image.stem, "") for image in images])


def _read_table(path: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, restval="")
            rows = list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataFileError(f"{path} is not a table in UTF-8: {error}") from error
    if not set(columns) <= set(reader.fieldnames or ()):
        raise DataFileError(f"{path} must have the columns {' and '.join(columns)}")
    return rows
