"""CIFAR-10: the published Python batches, or one folder of PNG images for each class."""

import os
import pickle
import tarfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils import Bunch

from gandetect.data.images import DataFileError, ImageFiles, image_paths
from gandetect.datasets.download import RemoteFile
from gandetect.datasets.download import download as download_file
from gandetect.datasets.files import (
    DAMAGED_STREAM_ERRORS,
    check_option,
    find_file,
    resolve_data_dir,
)

CIFAR10_ARCHIVE = RemoteFile(
    "cifar-10-python.tar.gz",
    "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
    "md5:c58f30108f718f92721af3b95e74349a",
)
CIFAR10_CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)

_BATCH_FOLDER = "cifar-10-batches-py"
_BATCHES = {"train": tuple(f"data_batch_{i}" for i in range(1, 6)), "test": ("test_batch",)}
CIFAR10_BATCHES = (*_BATCHES["train"], *_BATCHES["test"])
# The first bytes of the batch_label in a batch.
_BATCH_LABELS = {"train": b"training", "test": b"testing"}
_SUBFOLDERS = (".", "cifar10", "cifar-10")
_PNG_FOLDERS = ("cifar10", "cifar-10", "CIFAR-10", ".")
_IMAGE_SHAPE = (32, 32, 3)


def load_cifar10(
    data_dir: str | os.PathLike[str] | None = None,
    *,
    split: str = "all",
    download: bool = False,
) -> Bunch:
    """Load CIFAR-10: 60,000 colour pictures of 32 by 32 pixels in ten classes.

    Parameters
    ----------
    data_dir : path-like or None, default=None
        The data folder; None takes the environment variable ``GANDETECT_DATA``. The first
        complete one of these forms is read: the unpacked Python batches in
        ``cifar-10-batches-py/``; the published archive ``cifar-10-python.tar.gz``, which is read
        without unpacking it to disk; images in ``cifar10/train/<class>/*.png`` and
        ``cifar10/test/<class>/*.png`` (needs ``pip install "gandetect[images]"``). The batches and
        the archive may also be in ``cifar10/`` or ``cifar-10/``, the folders ``train`` and
        ``test`` also in ``cifar-10/``, ``CIFAR-10/`` or the data folder itself.
    split : {"all", "train", "test"}, default="all"
        The published part; "all" is the 50,000 training images, then the 10,000 test images.
    download : bool, default=False
        Fetch ``cifar-10-python.tar.gz``, 170 MB, if none of these is complete.

    Returns
    -------
    sklearn.utils.Bunch
        ``data``, uint8 array of shape (n_samples, 32, 32, 3); ``target``, int64 array of shape
        (n_samples,), 0 to 9; ``target_names``, the ten names.

    Raises
    ------
    FileNotFoundError
        If the files are missing; the message names them and their folder.
    DataFileError
        If a file is damaged or truncated, its content does not match its name, or it is a pickle
        that requests anything other than an array of bytes.
    ConnectionError
        If `download` is set and the network does not answer.
    ValueError
        If no data folder is known, or `split` is unknown.

    Notes
    -----
    The Python batches are pickles, and `pickle.load` can run any code that a pickle contains. This
    function resolves the names in a pickle to placeholder classes only, which record the arguments
    of numpy's constructors. A file that names anything else is refused.

    References
    ----------
    A. Krizhevsky, "Learning multiple layers of features from tiny images", technical report,
    University of Toronto, 2009.

    Examples
    --------
    >>> import pickle
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> import numpy as np
    >>> from gandetect.datasets import load_cifar10
    >>> batch = {b"data": np.zeros((2, 3072), dtype=np.uint8), b"labels": [3, 8]}
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder) / "cifar-10-batches-py" / "test_batch"
    ...     path.parent.mkdir()
    ...     _ = path.write_bytes(pickle.dumps(batch, protocol=2))
    ...     cifar10 = load_cifar10(folder, split="test")
    >>> cifar10.data.shape, [cifar10.target_names[label] for label in cifar10.target]
    ((2, 32, 32, 3), ['cat', 'ship'])
    """
    check_option("split", split, ("all", "train", "test"))
    folder = resolve_data_dir(data_dir)
    splits = ("train", "test") if split == "all" else (split,)
    parts = list(_read_parts(folder, splits, download))
    return Bunch(
        data=np.concatenate([images for images, _ in parts]),
        target=np.concatenate([labels for _, labels in parts]),
        target_names=list(CIFAR10_CLASSES),
    )


def _read_parts(
    folder: Path, splits: tuple[str, ...], download: bool
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield images and labels from the first of the supported forms that is complete."""
    batch_folders = [folder / subfolder / _BATCH_FOLDER for subfolder in _SUBFOLDERS]
    roots = [folder / name for name in _PNG_FOLDERS]
    batches = [name for part in splits for name in _BATCHES[part]]
    for batch_folder in batch_folders:
        if all((batch_folder / name).is_file() for name in batches):
            return _read_batch_folder(batch_folder, splits)
    archive = find_file(folder, [CIFAR10_ARCHIVE.name], _SUBFOLDERS)
    if archive is not None:
        return _read_archive(archive, splits)
    for root in roots:
        if all(path.is_dir() for path in _png_folders(root, splits)):
            return _read_png_folders(root, splits)
    if download:
        return _read_archive(download_file(CIFAR10_ARCHIVE, folder), splits)
    # For an incomplete form, its reader raises an error that names the missing files.
    for batch_folder in batch_folders:
        if batch_folder.is_dir():
            return _read_batch_folder(batch_folder, splits)
    for root in roots:
        if any(path.is_dir() for path in _png_folders(root, splits)):
            return _read_png_folders(root, splits)
    raise FileNotFoundError(
        f"CIFAR-10 is not in {folder}. Put {CIFAR10_ARCHIVE.name} there (or unpack it there, which "
        f"makes {_BATCH_FOLDER}/), or the images as cifar10/train/<class>/*.png and "
        "cifar10/test/<class>/*.png, or pass download=True to download the archive"
    )


def _read_batch_folder(
    folder: Path, splits: tuple[str, ...]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for part in splits:
        for name in _BATCHES[part]:
            path = folder / name
            if not path.is_file():
                raise FileNotFoundError(
                    f"{path} is missing; unpack {CIFAR10_ARCHIVE.name} into {folder.parent}"
                )
            yield _read_batch(path.read_bytes(), str(path), part)


def _read_archive(
    archive: Path, splits: tuple[str, ...]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    names = [name for part in splits for name in _BATCHES[part]]
    contents = {}
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                name = Path(member.name).name
                if name in names and (file := tar.extractfile(member)) is not None:
                    contents[name] = file.read()
    except (tarfile.TarError, KeyError, *DAMAGED_STREAM_ERRORS) as error:
        raise DataFileError(
            f"{archive} is damaged or cut off ({error}); delete it and download it again"
        ) from error
    for part in splits:
        for name in _BATCHES[part]:
            if name not in contents:
                raise DataFileError(f"{archive} does not contain the file {_BATCH_FOLDER}/{name}")
            yield _read_batch(contents[name], f"{archive}, {name}", part)


def _read_batch(content: bytes, source: str, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Return images (n, 32, 32, 3) and labels of one batch, after checking its contents."""
    batch = _unpickle(content, source)
    if not isinstance(batch, dict) or not {b"data", b"labels"} <= set(batch):
        raise DataFileError(f"{source} is not a CIFAR-10 batch: it must have 'data' and 'labels'")
    batch_label = batch.get(b"batch_label")
    if isinstance(batch_label, bytes) and not batch_label.startswith(_BATCH_LABELS[part]):
        raise DataFileError(
            f"{source} has the batch label {batch_label.decode('latin1')!r}, which is not of the "
            f"{part} part: the file may have been renamed"
        )
    if not isinstance(batch[b"data"], _PickledArray):
        raise DataFileError(f"{source}: 'data' is not an array")
    rows = batch[b"data"].to_bytes_array(source)
    labels = batch[b"labels"]
    is_label_list = isinstance(labels, list) and all(
        type(label) is int and 0 <= label < len(CIFAR10_CLASSES) for label in labels
    )
    if rows.ndim != 2 or rows.shape[1] != 3072 or not is_label_list or len(labels) != len(rows):
        raise DataFileError(
            f"{source}: expected rows of 3072 bytes with a label of 0 to 9 for each, got an array "
            f"of shape {rows.shape}"
        )
    # A row holds the red channel, then the green, then the blue one.
    images = rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), np.array(labels, dtype=np.int64)


class _PickledArray:
    """Placeholder of a numpy array in a pickle; it records the state of the array."""

    __slots__ = ("state",)

    def __init__(self, *arguments: object) -> None:
        self.state: Any = None

    def __setstate__(self, state: object) -> None:
        self.state = state

    def to_bytes_array(self, source: str) -> np.ndarray:
        """Build the array from the recorded (version, shape, type, is_fortran, bytes)."""
        try:
            _, shape, dtype, is_fortran, content = self.state
            if dtype.code not in ("u1", b"u1"):
                raise ValueError(f"its type is {dtype.code!r}, not bytes")
            values = np.frombuffer(content, dtype=np.uint8)
            return values.reshape(shape, order="F" if is_fortran else "C")
        except (TypeError, ValueError, AttributeError) as error:
            raise DataFileError(f"{source}: 'data' is not an array of bytes: {error}") from error


class _PickledDtype:
    """Placeholder of a numpy dtype in a pickle; it records the type code."""

    __slots__ = ("code",)

    def __init__(self, code: object, *arguments: object) -> None:
        self.code = code

    def __setstate__(self, state: object) -> None:
        # The state is the byte order and the alignment; neither applies to single bytes.
        pass


# Two names of numpy's package, because numpy 2 renamed it. Protocol 2 of pickle stores bytes as
# text that str.encode turns into bytes; as a built-in method it can not be altered by the pickle.
_STAND_INS: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _PickledArray,
    ("numpy._core.multiarray", "_reconstruct"): _PickledArray,
    ("numpy", "ndarray"): None,
    ("numpy", "dtype"): _PickledDtype,
    ("_codecs", "encode"): str.encode,
}


class _BatchUnpickler(pickle.Unpickler):
    """An unpickler that resolves names to the placeholders and to nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _STAND_INS[module, name]
        except KeyError:
            raise pickle.UnpicklingError(
                f"it refers to {module}.{name}, which is not allowed"
            ) from None


def _unpickle(content: bytes, source: str) -> Any:
    try:
        # The published files were written by Python 2: "bytes" reads their strings as bytes.
        return _BatchUnpickler(BytesIO(content), encoding="bytes").load()
    # A damaged pickle can raise nearly any error.
    except Exception as error:
        raise DataFileError(
            f"{source} is not a CIFAR-10 batch that can be read safely: {error}"
        ) from error


def _png_folders(root: Path, splits: tuple[str, ...]) -> list[Path]:
    return [root / part / name for part in splits for name in CIFAR10_CLASSES]


def _read_png_folders(
    root: Path, splits: tuple[str, ...]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for part in splits:
        for label, name in enumerate(CIFAR10_CLASSES):
            folder = root / part / name
            if not folder.is_dir():
                raise FileNotFoundError(f"{folder} is missing; expected a folder for each class")
            images = ImageFiles(image_paths(folder), channels=3)
            if images.image_shape != _IMAGE_SHAPE:
                raise DataFileError(
                    f"{images.paths[0]} has the shape {images.image_shape}, expected {_IMAGE_SHAPE}"
                )
            yield images.stack(), np.full(len(images), label, dtype=np.int64)
