"""MNIST and Fashion-MNIST: the published idx files, or MNIST as an .npz archive."""

import os
from pathlib import Path
from types import MappingProxyType

import numpy as np
from sklearn.utils import Bunch

from gandetect.data.images import DataFileError
from gandetect.datasets.download import RemoteFile
from gandetect.datasets.download import download as download_file
from gandetect.datasets.files import (
    check_option,
    find_file,
    read_npz,
    resolve_data_dir,
)
from gandetect.datasets.idx import read_idx

_IDX_NAMES = MappingProxyType(
    {
        "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
        "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
    }
)
_SPLITS = ("all", "train", "test")
_Part = tuple[np.ndarray, np.ndarray]


def _published(address: str, checksums: dict[str, str]) -> dict[str, RemoteFile]:
    return {
        name: RemoteFile(f"{name}.gz", f"{address}/{name}.gz", f"md5:{checksum}")
        for name, checksum in checksums.items()
    }


MNIST_FILES = _published(
    "https://ossci-datasets.s3.amazonaws.com/mnist",
    {
        "train-images-idx3-ubyte": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "train-labels-idx1-ubyte": "d53e105ee54ea40749a09fcbcd1e9432",
        "t10k-images-idx3-ubyte": "9fb629c4189551a2d022fa330f9573f3",
        "t10k-labels-idx1-ubyte": "ec29112dd5afa0611ce80d1b7f02629c",
    },
)
FASHION_MNIST_FILES = _published(
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
    {
        "train-images-idx3-ubyte": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "train-labels-idx1-ubyte": "25c81989df183df01b3e8a0aad5dffbe",
        "t10k-images-idx3-ubyte": "bef4ecab320f06d8554ea6380940ec79",
        "t10k-labels-idx1-ubyte": "bb300cfdad3c16e7a12a480ee83cd310",
    },
)

FASHION_MNIST_CLASSES = (
    "T-shirt/top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)

# Both data sets use the same four file names, and an idx file does not name its data set. The
# first labels of the parts distinguish them.
_FIRST_LABELS = {
    "MNIST": {
        "train": (5, 0, 4, 1, 9, 2, 1, 3, 1, 4),
        "test": (7, 2, 1, 0, 4, 1, 4, 9, 5, 9),
    },
    "Fashion-MNIST": {
        "train": (9, 0, 0, 3, 0, 2, 7, 2, 5, 5),
        "test": (9, 2, 1, 1, 6, 1, 4, 6, 5, 7),
    },
}


def load_mnist(
    data_dir: str | os.PathLike[str] | None = None,
    *,
    split: str = "all",
    download: bool = False,
) -> Bunch:
    """Load MNIST: 70,000 handwritten digits of 28 by 28 pixels.

    Parameters
    ----------
    data_dir : path-like or None, default=None
        The folder to look in; None takes the environment variable ``GANDETECT_DATA``. The files
        are ``mnist.npz`` (arrays ``x``, ``y`` and ``split``, 0 for training and 1 for test; or
        ``x_train``, ``y_train``, ``x_test``, ``y_test`` as in Keras), or the four published idx
        files, compressed (``.gz``) or not, in ``mnist/``, ``MNIST/raw/`` or the folder itself.
    split : {"all", "train", "test"}, default="all"
        The published part. The protocols of anomaly detection combine both, so "all" is the
        default: the 60,000 training images, then the 10,000 test images.
    download : bool, default=False
        Download the missing files, 12 MB, into ``mnist/``.

    Returns
    -------
    sklearn.utils.Bunch
        ``data``, uint8 array of shape (n_samples, 28, 28), white (255) on black; ``target``,
        int64 array of shape (n_samples,), the digit.

    Raises
    ------
    FileNotFoundError
        If the files are missing; the message names them and their folder.
    DataFileError
        If a file is damaged or truncated, or its content does not match its name.
    ConnectionError
        If `download` is set and the network does not answer.
    ValueError
        If no data folder is known, or `split` is unknown.

    See Also
    --------
    one_class_split : Makes training and test sets for anomaly detection from classes.

    References
    ----------
    Y. LeCun, L. Bottou, Y. Bengio and P. Haffner, "Gradient-based learning applied to document
    recognition", Proceedings of the IEEE, 1998.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> import numpy as np
    >>> from gandetect.datasets import load_mnist
    >>> with TemporaryDirectory() as folder:
    ...     x = np.zeros((4, 28, 28), dtype=np.uint8)
    ...     np.savez(Path(folder) / "mnist.npz", x=x, y=[3, 1, 4, 1], split=[0, 0, 0, 1])
    ...     mnist = load_mnist(folder, split="train")
    >>> mnist.data.shape, mnist.target
    ((3, 28, 28), array([3, 1, 4]))
    """
    check_option("split", split, _SPLITS)
    folder = resolve_data_dir(data_dir)
    archive = find_file(folder, ["mnist.npz"], (".", "mnist", "MNIST"))
    if archive is not None:
        parts = _read_mnist_npz(archive)
    else:
        subfolders = ("mnist", "MNIST/raw", ".")
        remote = MNIST_FILES if download else {}
        parts = _read_idx_parts("MNIST", folder, subfolders, split, remote)
    return _joined(parts, split)


def load_fashion_mnist(
    data_dir: str | os.PathLike[str] | None = None,
    *,
    split: str = "all",
    download: bool = False,
) -> Bunch:
    """Load Fashion-MNIST: 70,000 pictures of clothes, 28 by 28 grey pixels.

    Parameters
    ----------
    data_dir : path-like or None, default=None
        The folder to look in; None takes the environment variable ``GANDETECT_DATA``. The files
        are the four published idx files, compressed (``.gz``) or not, in ``fashion-mnist/``,
        ``FashionMNIST/raw/`` or the folder itself.
    split : {"all", "train", "test"}, default="all"
        The published part; "all" is the 60,000 training images, then the 10,000 test images.
    download : bool, default=False
        Download the missing files, 31 MB, into ``fashion-mnist/``.

    Returns
    -------
    sklearn.utils.Bunch
        ``data``, uint8 array of shape (n_samples, 28, 28); ``target``, int64 array of shape
        (n_samples,), 0 to 9; ``target_names``, the ten names.

    Raises
    ------
    FileNotFoundError
        If the files are missing; the message names them and their folder.
    DataFileError
        If a file is damaged or truncated, or its content does not match its name; also if it is
        a file of MNIST, which has the same names.
    ConnectionError
        If `download` is set and the network does not answer.
    ValueError
        If no data folder is known, or `split` is unknown.

    References
    ----------
    H. Xiao, K. Rasul and R. Vollgraf, "Fashion-MNIST: a novel image dataset for benchmarking
    machine learning algorithms", arXiv:1708.07747, 2017.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from gandetect.datasets import load_fashion_mnist
    >>> images = bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 28, 0, 0, 0, 28]) + bytes(2 * 28 * 28)
    >>> labels = bytes([0, 0, 8, 1, 0, 0, 0, 2]) + bytes([9, 2])
    >>> with TemporaryDirectory() as folder:
    ...     _ = Path(folder, "t10k-images-idx3-ubyte").write_bytes(images)
    ...     _ = Path(folder, "t10k-labels-idx1-ubyte").write_bytes(labels)
    ...     fashion = load_fashion_mnist(folder, split="test")
    >>> fashion.data.shape, [fashion.target_names[label] for label in fashion.target]
    ((2, 28, 28), ['ankle boot', 'pullover'])
    """
    check_option("split", split, _SPLITS)
    folder = resolve_data_dir(data_dir)
    subfolders = ("fashion-mnist", "FashionMNIST/raw", ".")
    remote = FASHION_MNIST_FILES if download else {}
    parts = _read_idx_parts("Fashion-MNIST", folder, subfolders, split, remote)
    return _joined(parts, split, target_names=list(FASHION_MNIST_CLASSES))


def _parts(split: str) -> tuple[str, ...]:
    return ("train", "test") if split == "all" else (split,)


def _joined(parts: dict[str, _Part], split: str, **more: object) -> Bunch:
    chosen = [parts[part] for part in _parts(split)]
    return Bunch(
        data=np.concatenate([images for images, _ in chosen]),
        target=np.concatenate([labels for _, labels in chosen]).astype(np.int64),
        **more,
    )


def _read_idx_parts(
    title: str,
    folder: Path,
    subfolders: tuple[str, ...],
    split: str,
    remote: dict[str, RemoteFile],
) -> dict[str, _Part]:
    """Read the parts of `split`; files that are missing are downloaded from `remote`."""
    return {
        part: _read_idx_part(
            title, part, *(_idx_path(title, folder, subfolders, name, remote) for name in names)
        )
        for part, names in _IDX_NAMES.items()
        if part in _parts(split)
    }


def _idx_path(
    title: str,
    folder: Path,
    subfolders: tuple[str, ...],
    name: str,
    remote: dict[str, RemoteFile],
) -> Path:
    path = find_file(folder, [name, f"{name}.gz"], subfolders)
    if path is None and name in remote:
        return download_file(remote[name], folder / subfolders[0])
    if path is None:
        all_names = ", ".join(f"{known}.gz" for names in _IDX_NAMES.values() for known in names)
        raise FileNotFoundError(
            f"{title} is not complete in {folder}: {name}[.gz] is missing. Put the files "
            f"{all_names} into {folder / subfolders[0]}, or pass download=True to download them"
        )
    return path


def _read_idx_part(title: str, part: str, images_path: Path, labels_path: Path) -> _Part:
    images, labels = read_idx(images_path), read_idx(labels_path)
    _check_images_and_labels(images, labels, f"{images_path} and {labels_path}")
    first = tuple(labels[:10].tolist())
    for other, first_labels in _FIRST_LABELS.items():
        if other != title and first == first_labels[part]:
            raise DataFileError(f"{labels_path} is a file of {other}, not of {title}")
    return images, labels


def _read_mnist_npz(path: Path) -> dict[str, _Part]:
    keras_keys = ("x_train", "y_train", "x_test", "y_test")
    arrays = read_npz(path, ("x", "y", "split"), keras_keys)
    if "split" in arrays:
        images, labels, is_test = arrays["x"], arrays["y"], arrays["split"]
        _check_images_and_labels(images, labels, str(path))
        if is_test.shape != labels.shape or not np.isin(is_test, (0, 1)).all():
            raise DataFileError(
                f"{path}: 'split' must contain one 0 (train) or 1 (test) for each y"
            )
        rows = {"train": is_test == 0, "test": is_test == 1}
        return {part: (images[mask], labels[mask]) for part, mask in rows.items()}
    parts = {part: (arrays[f"x_{part}"], arrays[f"y_{part}"]) for part in ("train", "test")}
    for images, labels in parts.values():
        _check_images_and_labels(images, labels, str(path))
    return parts


def _check_images_and_labels(images: np.ndarray, labels: np.ndarray, source: str) -> None:
    """Raise DataFileError unless images are 28 by 28 bytes and each has a label from 0 to 9."""
    if images.dtype != np.uint8 or images.shape[1:] != (28, 28):
        raise DataFileError(
            f"{source}: expected uint8 images of shape (n, 28, 28), got {images.dtype} "
            f"{images.shape}; the files of images and of labels may be interchanged"
        )
    if labels.shape != images.shape[:1] or not np.isin(labels, np.arange(10)).all():
        raise DataFileError(
            f"{source}: expected one label of 0 to 9 for each of {len(images)} images, got an "
            f"array of shape {labels.shape}"
        )
