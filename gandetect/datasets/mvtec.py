"""Industrial images with defects and their masks, in the layout of MVTec AD."""

import csv
import operator
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from sklearn.utils import Bunch

from gandetect.data.images import (
    ImageFiles,
    ImageSize,
    check_image_size,
    image_paths,
    open_image,
    read_shape,
)
from gandetect.datasets.files import DataFileError, check_option, resolve_data_dir

_LAYOUT = (
    "<root>/<category>/train/good/*.png, <root>/<category>/test/<defect>/*.png and "
    "<root>/<category>/ground_truth/<defect>/<name>_mask.png"
)
_NORMAL = "good"


def load_mvtec(
    root: str | os.PathLike[str] | None,
    category: str,
    split: str = "train",
    image_size: ImageSize = None,
    *,
    channels: int | None = None,
    lazy: bool = False,
) -> Bunch:
    """Load one category of MVTec AD, or of any data set in its layout.

    The layout is ``<root>/<category>/train/good/*.png``, ``<root>/<category>/test/<defect>/*.png``
    (``good`` is no defect) and ``<root>/<category>/ground_truth/<defect>/<name>_mask.png``.

    Parameters
    ----------
    root : path-like or None
        The folder of the categories, or one in which that folder is called ``mvtec``. None takes
        the folder that the environment variable ``GANDETECT_DATA`` names.
    category : str
        The category, such as ``"bottle"``.
    split : {"train", "test"}, default="train"
        "train" has normal images only, "test" has normal ones and defects.
    image_size : int, (height, width) or None, default=None
        The size to bring images and masks to, an integer for a square. None keeps the size, which
        all images must then share (MVTec AD's do within a category, at 700 to 1,024 pixels).
    channels : {1, 3} or None, default=None
        1 makes the images grey, 3 colour; None leaves them as they are.
    lazy : bool, default=False
        Whether images and masks are sequences that read one file at a time (`ImageFiles`)
        instead of arrays; for sets larger than memory.

    Returns
    -------
    sklearn.utils.Bunch
        ``images``, uint8 of shape (n, H, W) or (n, H, W, 3); ``labels``, int64 of shape (n,), 1 for
        a defect; ``masks``, bool of shape (n, H, W), True where the defect is; ``paths``, a list of
        `pathlib.Path`; ``defects``, str of shape (n,), "good" or the kind of defect; ``groups``,
        str of shape (n,), or None. ``data`` and ``target`` are the images and labels again, under
        the names of scikit-learn.

    Raises
    ------
    FileNotFoundError
        If the root, the category, a folder of the layout or the mask of a defect is missing.
    DataFileError
        If an image can not be read, a mask has another size than its image, training images are
        not all in ``good/``, or ``groups.csv`` is not as described below.
    ValueError
        If the images differ in size or colour and `image_size` or `channels` does not settle it,
        or an argument is out of range.
    ImportError
        If pillow is missing: ``pip install "gandetect[images]"``.

    See Also
    --------
    ImageFolder : Reads images of any other layout, without labels.

    Notes
    -----
    Images are resized by bilinear interpolation over all pixels that a new one covers. A mask
    pixel is True if it touches any old pixel of the defect, so that no defect is lost, however
    small: it can only grow, by less than one new pixel at each side.

    If the category has a file ``groups.csv`` with columns ``name`` (of the image, without ending)
    and ``group``, ``groups`` tells which images show the same object ("" for an image that is not
    listed), for splits that keep them together, such as scikit-learn's
    `~sklearn.model_selection.GroupKFold`.

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
    ((1, 16, 16), (1, 16, 16), array([0]), array(['good'], dtype='<U4'))
    """
    check_option("split", split, ("train", "test"))
    folder = _category_folder(resolve_data_dir(root), category)
    paths = _split_paths(folder / split)
    defects = np.array([path.parent.name for path in paths])
    images = ImageFiles(paths, image_size, channels)
    masks = _MaskFiles(paths, [_mask_path(folder, path) for path in paths], image_size)
    labels = (defects != _NORMAL).astype(np.int64)
    data = images if lazy else images.stack()
    return Bunch(
        images=data,
        labels=labels,
        masks=masks if lazy else masks.stack(),
        paths=paths,
        defects=defects,
        groups=_read_groups(folder / "groups.csv", paths),
        data=data,
        target=labels,
    )


def categories_in(root: Path) -> list[str]:
    """Return the names of the categories that `load_mvtec` finds in a root, sorted."""
    folders = (*root.glob("*/train"), *root.glob("mvtec/*/train"))
    return sorted({folder.parent.name for folder in folders})


def _category_folder(root: Path, category: str) -> Path:
    if category in ("", ".", ".."):  # the root itself, or what stands above it
        raise ValueError(f"category must be the name of a folder in {root}, got {category!r}")
    for folder in (root / category, root / "mvtec" / category):
        if folder.is_dir():
            return folder
    if not root.is_dir():
        raise FileNotFoundError(f"there is no folder {root}; expected {_LAYOUT}")
    if (root / "train").is_dir():
        raise FileNotFoundError(
            f"{root} has no category {category!r}, but a folder train/: pass the folder above it "
            f"as root. Expected {_LAYOUT}"
        )
    there = ", ".join(categories_in(root)) or "none"
    raise FileNotFoundError(
        f"{root} has no category {category!r}, only {there}; expected {_LAYOUT}"
    )


def _split_paths(folder: Path) -> list[Path]:
    """Return the images of train/ or test/, and see that train/ has normal ones only."""
    kinds = sorted(path for path in folder.glob("*") if path.is_dir())
    if not kinds:
        raise FileNotFoundError(f"{folder} has no folder of images; expected {_LAYOUT}")
    if folder.name == "train" and [kind.name for kind in kinds] != [_NORMAL]:
        raise DataFileError(
            f"{folder} must hold the one folder {_NORMAL}/, as training images are normal; it has "
            f"{', '.join(kind.name for kind in kinds)}"
        )
    return [path for kind in kinds for path in image_paths(kind)]


def _mask_path(folder: Path, image_path: Path) -> Path | None:
    """Return the mask that belongs to an image, None for a normal image."""
    defect = image_path.parent.name
    if defect == _NORMAL:
        return None
    path = folder / "ground_truth" / defect / f"{image_path.stem}_mask.png"
    if not path.is_file():
        raise FileNotFoundError(f"{image_path} has no mask {path}; expected {_LAYOUT}")
    return path


class _MaskFiles:
    """The masks of a sequence of images, each read when it is asked for."""

    def __init__(
        self, image_paths: Sequence[Path], paths: Sequence[Path | None], image_size: ImageSize
    ) -> None:
        self.image_paths = image_paths
        self.paths = paths
        self.image_size = check_image_size(image_size)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> np.ndarray:
        index = operator.index(index)
        path, image_path = self.paths[index], self.image_paths[index]
        if path is not None:
            return _read_mask(path, image_path, self.image_size)
        return np.zeros(self.image_size or read_shape(image_path), dtype=bool)

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[index] for index in range(len(self)))

    def stack(self) -> np.ndarray:
        """Read all masks into one array."""
        shape = self.image_size or read_shape(self.image_paths[0])
        masks = np.zeros((len(self), *shape), dtype=bool)
        for index, path in enumerate(self.paths):
            if path is not None:
                masks[index] = self[index]
        return masks


def _read_mask(path: Path, image_path: Path, image_size: tuple[int, int] | None) -> np.ndarray:
    mask = np.asarray(open_image(path).convert("L")) > 0
    if mask.shape != read_shape(image_path):
        raise DataFileError(
            f"the mask {path} has the size {mask.shape}, its image {image_path} "
            f"{read_shape(image_path)} (height, width)"
        )
    return mask if image_size is None else _resize_mask(mask, image_size)


def _resize_mask(mask: np.ndarray, image_size: tuple[int, int]) -> np.ndarray:
    """Bring a mask to `image_size`; a new pixel is True if any old one that it touches is.

    In whole numbers: pillow's box filter loses single pixels to rounding (row 6 of 13 to 6).
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


def _read_groups(path: Path, image_paths: list[Path]) -> np.ndarray | None:
    """Return the group of each image, or None where the category has no such file."""
    if not path.is_file():
        return None
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns = set(reader.fieldnames or ())
            rows = list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataFileError(f"{path} is not a table in UTF-8: {error}") from error
    if not {"name", "group"} <= columns:
        raise DataFileError(f"{path} must have the columns name and group")
    groups = {row["name"]: row["group"] for row in rows}
    return np.array([groups.get(image.stem, "") for image in image_paths])
