"""Images whose folder gives their label, and the masks of their defects."""

import operator
import os
import warnings
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from sklearn.utils import Bunch

from gandetect.data.images import (
    BitDepth,
    DataFileError,
    ImageFiles,
    ImageSize,
    image_paths,
    open_image,
    read_shape,
    target_size,
)
from gandetect.data.plausibility import (
    class_of_masks,
    is_mask_folder,
    is_normal_name,
    mask_owner,
)

GOOD = "good"
# Names of image folders whose folder of masks may be next to them.
_BESIDE_MASKS = ("test", "images")


def load_labelled_images(
    root: str | os.PathLike[str],
    normal_class: str | Collection[str] | None = None,
    image_size: ImageSize = None,
    *,
    channels: int | None = None,
    bit_depth: BitDepth = "auto",
    keep_aspect: bool | None = None,
    masks: bool = True,
    on_error: Literal["raise", "skip"] = "raise",
    lazy: bool = False,
) -> Bunch:
    """Load a folder of good and bad images, such as ``good/*.png`` and ``bad/*.png``.

    Parameters
    ----------
    root : path-like
        The folder. Masks may be in folders ``ground_truth/``, ``gt/``, ``masks/`` or
        ``annotations/`` in it (for a root called ``test`` or ``Images``, also next to it), with or
        without a folder for each class, or in the folder of a class, or in ``<class>_mask/``. A
        mask has the name of its image, with or without ``_mask``, ``_gt`` or ``_label`` at the end.
        Masks may also be in the folders of the images as ``<name>_mask.png``. Any ending of an
        image file is allowed.
    normal_class : str, collection of str or None, default=None
        The folders of normal images, at any depth. None takes good, ok, normal, nominal, no_defect
        and defect_free, in lower or upper case, with ``-`` or ``_``, or 0 if the folders are 0 and
        1.
    image_size : int, (height, width) or None, default=None
        The size to which images and masks are resized. See `load_mvtec`.
    channels : {1, 3} or None, default=None
        1 makes the images grey, 3 colour; None leaves them as they are.
    bit_depth : "auto" or int, default="auto"
        See `ImageFolder`.
    keep_aspect : bool or None, default=None
        See `ImageFolder`.
    masks : bool, default=True
        Whether to look for masks.
    on_error : {"raise", "skip"}, default="raise"
        Whether images that can not be read are left out, with a warning. See `ImageFolder`.
    lazy : bool, default=False
        Whether images and masks are sequences that read one file at a time instead of arrays.

    Returns
    -------
    sklearn.utils.Bunch
        As returned by `load_mvtec`; ``groups`` is None, and ``defects`` contains the folder name of
        each image that is not normal.

    Raises
    ------
    FileNotFoundError
        If there is no such folder, it has no image, or only some of the defects have a mask.
    DataFileError
        If an image or a mask can not be read, or a mask has another size than its image.
    ValueError
        If the names of the folders do not determine which images are normal, an image is not in
        the folder of a class, or images differ in size or number of channels.

    Warns
    -----
    UserWarning
        If files are left out, the defects have no masks, or masks are empty; states the counts.

    See Also
    --------
    load_mvtec : Reads a training and a test part.
    ImageFolder : Reads images without labels.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from PIL import Image
    >>> from gandetect.datasets import load_labelled_images
    >>> with TemporaryDirectory() as root:
    ...     for name in ("ok/0.png", "ok/1.png", "dent/0.png"):
    ...         (Path(root) / name).parent.mkdir(exist_ok=True)
    ...         Image.new("L", (8, 8)).save(Path(root) / name)
    ...     nut = load_labelled_images(root, masks=False)
    >>> nut.images.shape, nut.labels, nut.defects
    ((3, 8, 8), array([1, 0, 0]), array(['dent', 'good', 'good'], dtype='<U4'))
    """
    folder = Path(root)
    paths, index = apart_from_masks(image_paths(folder), folder)
    if not paths:
        raise FileNotFoundError(f"{folder} has only masks and no image: pass the folder above it")
    chosen = (normal_class,) if isinstance(normal_class, str) else tuple(normal_class or ())
    classes = class_folders(paths, folder, chosen)
    if classes is None:
        raise ValueError(
            f"{folder} does not have all of its images in folders of classes, such as good/ and "
            "bad/, at one depth"
        )
    is_normal = normal_by_name(classes, chosen)
    if folder.name.lower() in _BESIDE_MASKS:
        index = mask_index(folder.parent) | index
    return labelled_bunch(
        paths,
        [GOOD if normal else str(name) for name, normal in zip(classes, is_normal, strict=True)],
        index,
        masks=masks,
        lazy=lazy,
        on_error=on_error,
        image_size=image_size,
        channels=channels,
        bit_depth=bit_depth,
        keep_aspect=keep_aspect,
    )


def class_folders(
    paths: Sequence[Path], root: Path, chosen: Collection[str] = ()
) -> np.ndarray | None:
    """Return the class of each image: the name of a folder between `root` and the image.

    Parameters
    ----------
    paths : sequence of pathlib.Path
        Images below `root`.
    root : pathlib.Path
        The folder of the classes.
    chosen : collection of str, default=()
        Classes given by the user. They determine the depth of the class folders. Without them, it
        is the depth of a name such as good or normal, otherwise the first level.

    Returns
    -------
    ndarray of shape (n_images,) or None
        Integers if all class names are integers, such as ``0`` and ``1``, else str; None if some
        images are in no folder at that depth, or the names do not determine the depth.

    Raises
    ------
    ValueError
        If the names in `chosen` are found at several depths, or some images are in no folder at
        their depth.
    """
    parents = [path.relative_to(root).parts[:-1] for path in paths]
    found = {
        depth
        for parts in parents
        for depth, part in enumerate(parts)
        if (part in chosen if chosen else is_normal_name(part))
    }
    depth = min(found, default=0)
    outside = [path for path, parts in zip(paths, parents, strict=True) if len(parts) <= depth]
    if chosen and len(found) > 1:
        raise ValueError(
            f"{root} has folders with the name {' or '.join(chosen)} at several depths: pass the "
            "folder that contains the class folders directly"
        )
    if chosen and found and outside:
        raise ValueError(
            f"{len(outside)} of the {len(paths)} images in {root}, such as {outside[0]}, are not "
            f"in the folder of a class: move them into one, or out of {root}"
        )
    if len(found) > 1 or outside:
        return None
    classes = np.array([parts[depth] for parts in parents])
    are_integers = all(name.removeprefix("-").isdecimal() for name in set(classes.tolist()))
    return classes.astype(np.int64) if are_integers else classes


def normal_by_name(classes: np.ndarray, chosen: Collection[str] = ()) -> np.ndarray:
    """Return which images are normal, by the names of their classes.

    Parameters
    ----------
    classes : ndarray of shape (n_images,)
        As returned by `class_folders`.
    chosen : collection of str, default=()
        The normal classes. Without them, these are good, ok, normal and so on (see
        `load_labelled_images`), or 0 if the classes are 0 and 1.

    Returns
    -------
    ndarray of bool of shape (n_images,)

    Raises
    ------
    ValueError
        If no class is normal.
    """
    names = [str(name) for name in classes]
    there = sorted(set(names))
    if not chosen and there == ["0", "1"]:
        chosen = ("0",)
    is_normal = np.array([n in chosen if chosen else is_normal_name(n) for n in names])
    if not is_normal.any():
        raise ValueError(
            f"the images are in the folders {', '.join(there[:10])}, of which none "
            f"{'is ' + ' or '.join(chosen) if chosen else 'has a name of normal images'}: "
            "pass normal_class, the name of the folder of normal images"
        )
    return is_normal


MaskIndex = dict[tuple[str, str], Path]


class MasksMissingError(FileNotFoundError):
    """Some defects have a mask and others have none."""


def apart_from_masks(paths: list[Path], root: Path) -> tuple[list[Path], MaskIndex]:
    """Separate images from masks, which are in folders of masks or beside the images.

    Parameters
    ----------
    paths : list of pathlib.Path
        Image files below `root`.
    root : pathlib.Path

    Returns
    -------
    images : list of pathlib.Path
    masks : dict
        The masks by the class ("" for none) or the folder of their images, and their name.
    """
    stems = {path.with_suffix("") for path in paths}
    images: list[Path] = []
    index: MaskIndex = {}
    for path in paths:
        folders = path.relative_to(root).parts[:-1]
        owner, its_class = mask_owner(path), class_of_masks(folders, root)
        if its_class is not None:
            _add(index, its_class, path)
        elif owner in stems and owner is not None:
            index[str(owner.parent), owner.name] = path
        else:
            images.append(path)
    return images, index


def mask_index(folder: Path) -> MaskIndex:
    """Index the masks in the folders of masks in `folder`, as `apart_from_masks` does."""
    index: MaskIndex = {}
    for place in sorted(folder.iterdir()):
        if place.is_dir() and is_mask_folder(place.name):
            for path in _masks_in(place):
                _add(index, "/".join(path.relative_to(place).parts[:-1]), path)
    return index


def _add(index: MaskIndex, its_class: str, path: Path) -> None:
    """Add a mask; a name with an ending of masks has priority."""
    owner = mask_owner(path)
    key = (its_class, path.stem if owner is None else owner.name)
    if owner is not None or key not in index:
        index[key] = path


def _masks_in(place: Path) -> list[Path]:
    try:
        return image_paths(place)
    except FileNotFoundError:  # an empty folder
        return []


def labelled_bunch(
    paths: list[Path],
    kinds: list[str],
    index: MaskIndex,
    *,
    masks: bool,
    lazy: bool,
    on_error: Literal["raise", "skip"],
    **settings: Any,
) -> Bunch:
    """Read images and the masks of those whose kind is not "good".

    Parameters
    ----------
    paths : list of pathlib.Path
    kinds : list of str
        The kind of each image.
    index : dict
        As returned by `mask_index` and `apart_from_masks`.
    masks, lazy, on_error, **settings
        As in `load_mvtec`.
    """
    images = ImageFiles(paths, on_error=on_error, **settings)
    kind_of = dict(zip(paths, kinds, strict=True))
    defects = np.array([kind_of[path] for path in images.paths])
    labels = (defects != GOOD).astype(np.int64)
    mask_paths = _mask_paths(images.paths, defects, index) if masks else None
    found = None if mask_paths is None else MaskFiles(images, mask_paths)
    if found is not None:
        found.warn_of_empty()
    data = images if lazy else images.stack()
    return Bunch(
        images=data,
        labels=labels,
        masks=found if lazy or found is None else found.stack(),
        paths=images.paths,
        defects=defects,
        groups=None,
        data=data,
        target=labels,
    )


def _mask_paths(
    paths: list[Path], defects: np.ndarray, index: MaskIndex
) -> list[Path | None] | None:
    """Return the mask path of each image (None if normal), or None if no defect has a mask."""
    is_defect = defects != GOOD
    stems = [path.stem for path, is_bad in zip(paths, is_defect, strict=True) if is_bad]
    found: list[Path | None] = []
    missing = []
    for path, defect in zip(paths, defects, strict=True):
        # If masks are not in class folders, a name that several defects share is ambiguous.
        keys = [(str(path.parent), path.stem), (defect, path.stem)]
        keys += [("", path.stem)] if stems.count(path.stem) == 1 else []
        mask = next((index[key] for key in keys if key in index), None)
        found.append(mask if defect != GOOD else None)
        if mask is None and defect != GOOD:
            missing.append(path)
    if stems and len(missing) == len(stems):
        warnings.warn(
            f"none of the {len(stems)} defects has a mask, such as {missing[0]}: masks is None, "
            "and only image-level metrics can be computed",
            stacklevel=4,
        )
        return None
    if missing:
        path = missing[0]
        raise MasksMissingError(
            f"{path} has no mask ground_truth/{path.parent.name}/{path.stem}_mask.png, nor have "
            f"{len(missing) - 1} others of {len(stems)} defects: add them, or pass masks=False"
        )
    return found


class MaskFiles:
    """The masks of a sequence of images, each read on access."""

    def __init__(self, images: ImageFiles, paths: Sequence[Path | None]) -> None:
        self.images = images
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> np.ndarray:
        index = operator.index(index)
        path, image_path = self.paths[index], self.images.paths[index]
        size, keep_aspect = self.images.image_size, self.images.keep_aspect
        if path is None and size is not None and not keep_aspect:
            return np.zeros(size, dtype=bool)
        old = read_shape(image_path)
        shape = old if size is None else target_size(old, size, keep_aspect)
        if path is None:
            return np.zeros(shape, dtype=bool)
        mask = read_mask(path)
        if mask.shape != old:
            raise DataFileError(
                f"the mask {path} has the size {mask.shape}, its image {image_path} {old} "
                "(height, width)"
            )
        return mask if shape == old else _resize_mask(mask, shape)

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[index] for index in range(len(self)))

    def warn_of_empty(self) -> None:
        """Read the masks of all defects once, and warn of those that mark no pixel."""
        defects = [index for index, path in enumerate(self.paths) if path is not None]
        empty = [str(self.paths[index]) for index in defects if not self[index].any()]
        if empty:
            warnings.warn(
                f"{len(empty)} of the masks of {len(defects)} defects mark no pixel, so that all "
                f"pixels of these images count as normal: {', '.join(empty[:4])}"
                f"{' ...' if len(empty) > 4 else ''}",
                stacklevel=4,
            )

    def stack(self) -> np.ndarray:
        """Read all masks into one array."""
        shape = self.images.image_shape[:2]
        masks = np.zeros((len(self), *shape), dtype=bool)
        for index, path in enumerate(self.paths):
            if path is not None:
                masks[index] = self[index]
        return masks


def read_mask(path: Path) -> np.ndarray:
    """Read a mask as bool of shape (H, W), True where it differs from black or is opaque.

    A pixel is marked if its value in any channel is above 0. JPEG values are not exact; there it is
    marked if its value is above half of the largest value. If the transparency varies, only opaque
    pixels are marked; if the colours of the opaque pixels vary too, only those that are not black.
    If a palette image has one colour only, pixels with a palette index above 0 are marked.
    """
    image = open_image(path)
    if image.mode not in ("P", "PA", "LA", "La", "RGBA", "RGBa"):
        values = np.asarray(image if image.mode != "CMYK" else image.convert("RGB"))
        values = values if values.ndim == 2 else values.max(axis=-1)
        is_lossy = path.suffix.lower() in (".jpg", ".jpeg")
        return values > (values.max() / 2 if is_lossy else 0)
    rgba = np.asarray(image.convert("RGBA"))
    colours, alpha = rgba[..., :3], rgba[..., 3]
    if (rgba == rgba[0, 0]).all() and image.mode == "P":
        return np.asarray(image) > 0
    is_opaque: np.ndarray = alpha > alpha.min() if alpha.min() < alpha.max() else alpha == alpha
    if (colours[is_opaque] == colours[is_opaque][0]).all() and not is_opaque.all():
        return is_opaque
    return is_opaque & (colours > 0).any(axis=-1)


def _resize_mask(mask: np.ndarray, image_size: tuple[int, int]) -> np.ndarray:
    """Resize a mask; a new pixel is True if it overlaps any old pixel that is True.

    Uses integer arithmetic: pillow's box filter loses single pixels by rounding (row 6 of 13 rows
    resized to 6).
    """
    height, width = image_size
    return _resize_rows(_resize_rows(mask, height).T, width).T


def _resize_rows(mask: np.ndarray, n_new: int) -> np.ndarray:
    n_old = len(mask)
    new = np.arange(n_new)
    start = new * n_old // n_new
    stop = -((new + 1) * -n_old // n_new)
    n_true_above = np.concatenate([np.zeros_like(mask[:1], dtype=int), np.cumsum(mask, axis=0)])
    return n_true_above[stop] > n_true_above[start]
