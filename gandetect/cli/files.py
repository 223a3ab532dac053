"""Samples and labels from the files that users have."""

from __future__ import annotations

import csv
import warnings
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gandetect.cli.options import UsageError
from gandetect.cli.resizing import is_resizable, resized
from gandetect.data.images import IMAGE_SUFFIXES, ImageFiles, ImageFolder
from gandetect.data.parquet import index_columns
from gandetect.datasets.files import DataFileError, read_npz, reason_of
from gandetect.datasets.splits import take

_ARRAY_NAMES = ("X", "x", "data")
_LABEL_NAMES = ("y", "target", "labels")


@dataclass(frozen=True, eq=False, kw_only=True)
class Samples:
    """What ``--data`` names.

    Parameters
    ----------
    X : ndarray or ImageFiles
    labels : ndarray of shape (n_samples,) or None, default=None
        As they stand in the data.
    class_names : sequence of str, default=()
        Names of the labels 0, 1, ...
    feature_names : list of str or None, default=None
        Of the columns of a table; empty for a table without names, None for what is no table.
    names : list of str or None, default=None
        Of the samples: the paths of images.
    masks : sequence of ndarray or None, default=None
        Where in each image the anomaly is.
    is_split : bool, default=False
        Whether these are already the part of a published split that was asked for.
    has_classes : bool, default=False
        Whether the labels are classes of which none is an anomaly by itself.
    """

    X: Any
    labels: NDArray[Any] | None = None
    class_names: Sequence[str] = ()
    feature_names: list[str] | None = None
    names: list[str] | None = None
    masks: Any = None
    is_split: bool = False
    has_classes: bool = False

    def __len__(self) -> int:
        return len(self.X)

    def take(self, rows: NDArray[np.intp]) -> Samples:
        """Return some of the samples, with all that belongs to them."""
        return replace(
            self,
            X=take(self.X, rows),
            labels=None if self.labels is None else self.labels[rows],
            names=None if self.names is None else [self.names[row] for row in rows],
            masks=None if self.masks is None else [self.masks[row] for row in rows],
        )


def read_path(path: Path, options: Namespace) -> Samples:
    """Read a file or a folder, and the labels that the options name.

    Raises
    ------
    DataFileError
        If the file is damaged or not what its ending says.
    UsageError
        If its ending is unknown, or an option is for another kind of file.
    """
    suffix = path.suffix.lower()
    if path.is_dir():
        samples = _read_folder(path, options)
    elif suffix in IMAGE_SUFFIXES:
        samples = _of_images(ImageFiles([path], options.image_size, options.channels), path.parent)
    elif suffix in _READERS:
        samples = _READERS[suffix](path, options)
    else:
        known = ", ".join((*_READERS, *IMAGE_SUFFIXES))
        raise UsageError(f"the ending of {path} is not one of {known}")
    _refuse_options_of_others(path, samples, options)
    if isinstance(samples.X, np.ndarray):
        samples = replace(samples, X=resized(samples.X, options.image_size, options.channels))
    return replace(samples, labels=_read_labels(options, samples)) if options.labels else samples


def _refuse_options_of_others(path: Path, samples: Samples, options: Namespace) -> None:
    """Raise rather than leave an option without effect."""
    is_table = samples.feature_names is not None
    is_images = isinstance(samples.X, ImageFiles) or is_resizable(samples.X)
    has_label_name = is_table or path.suffix.lower() == ".npz"
    effects = {
        "--label-column": (options.label_column, has_label_name),
        "--drop-columns": (options.drop_columns, is_table),
        "--delimiter": (options.delimiter, path.suffix.lower() == ".csv"),
        "--image-size": (options.image_size, is_images),
        "--channels": (options.channels, is_images),
    }
    for option, (is_given, has_effect) in effects.items():
        if is_given and not has_effect:
            raise UsageError(f"{option} has no meaning for {path}")


def _read_npy(path: Path, options: Namespace) -> Samples:
    return Samples(X=_load_npy(path))


def _load_npy(path: Path) -> NDArray[Any]:
    try:
        # A map of the file: a large array is read batch by batch.
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise
    except (ValueError, OSError, EOFError) as error:
        raise DataFileError(
            f"{path} can not be read as an array of numbers: {reason_of(error)}"
        ) from error
    if not isinstance(array, np.memmap) or array.ndim == 0:
        raise DataFileError(f"{path} is not one array of samples")
    return array


def _read_npz(path: Path, options: Namespace) -> Samples:
    labels = _LABEL_NAMES if options.label_column is None else (options.label_column,)
    key_sets: list[tuple[str, ...]] = [(array, label) for array in _ARRAY_NAMES for label in labels]
    if options.label_column is None:
        key_sets += [(array,) for array in _ARRAY_NAMES]
    X, *rest = read_npz(path, *key_sets).values()
    if rest and rest[0].shape != X.shape[:1]:
        raise DataFileError(f"{path} has labels of shape {rest[0].shape} for {X.shape[:1]} samples")
    return Samples(X=X, labels=rest[0] if rest else None)


def _read_csv(path: Path, options: Namespace) -> Samples:
    delimiter = options.delimiter or ("\t" if path.suffix.lower() == ".tsv" else ",")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            header = next(csv.reader(file, delimiter=delimiter), [])
    except (csv.Error, TypeError, UnicodeDecodeError) as error:
        raise DataFileError(f"{path} can not be read as a table: {error}") from error
    has_names = not all(map(_is_number, header))
    columns = header if has_names else [str(column) for column in range(len(header))]
    features, label = _columns(path, columns, options)

    def read(usecols: list[int], dtype: type) -> NDArray[Any]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of a file without rows, told below
            return np.loadtxt(
                path,
                dtype=dtype,
                delimiter=delimiter,
                skiprows=int(has_names),
                usecols=usecols,
                quotechar='"',
                comments=None,
                encoding="utf-8-sig",
                ndmin=2,
            )

    try:
        X = read(features, float)
        labels = None if label is None else _numbers_if_all_are(read([label], str)[:, 0])
    except ValueError as error:
        raise DataFileError(
            f"{path} is not a table of numbers: {error} (--drop-columns leaves columns out)"
        ) from error
    return Samples(X=X, labels=labels, feature_names=_some_names(columns, features, has_names))


def _read_parquet(path: Path, options: Namespace) -> Samples:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise ImportError(
            'reading .parquet needs pyarrow: pip install "gandetect[arrow]"'
        ) from error
    try:
        table = parquet.read_table(path)
    except pyarrow.ArrowInvalid as error:
        raise DataFileError(f"{path} can not be read as a Parquet file: {error}") from error
    table = table.drop_columns(index_columns(table.schema))
    features, label = _columns(path, table.column_names, options)
    try:
        X = np.column_stack([table.column(column).to_numpy().astype(float) for column in features])
    except (ValueError, TypeError) as error:
        raise DataFileError(
            f"{path} is not a table of numbers: {error} (--drop-columns leaves columns out)"
        ) from error
    labels = None if label is None else table.column(label).to_numpy()
    if labels is not None and labels.dtype == object:
        labels = labels.astype(str)
    return Samples(X=X, labels=labels, feature_names=_some_names(table.column_names, features))


def _columns(path: Path, columns: list[str], options: Namespace) -> tuple[list[int], int | None]:
    """Return the positions of the features and of the labels."""
    label = None
    if options.label_column is not None:
        label = _position(path, columns, options.label_column)
    dropped = {_position(path, columns, name) for name in options.drop_columns}
    features = [i for i in range(len(columns)) if i != label and i not in dropped]
    if not features:
        raise DataFileError(f"{path} has no column of features")
    return features, label


def _position(path: Path, columns: list[str], name: str) -> int:
    if name in columns:
        return columns.index(name)
    if name.removeprefix("-").isdigit() and -len(columns) <= int(name) < len(columns):
        return int(name) % len(columns)
    raise UsageError(f"{path} has no column {name!r}, only {', '.join(columns[:20])}")


def _some_names(
    columns: list[str], features: list[int], has_names: bool = True
) -> list[str] | None:
    return [columns[feature] for feature in features] if has_names else []


def _read_folder(path: Path, options: Namespace) -> Samples:
    return _of_images(ImageFolder(path, options.image_size, channels=options.channels), path)


def _of_images(images: ImageFiles, root: Path) -> Samples:
    """Images, labelled by the folders that they are in, if there are several."""
    names = [path.relative_to(root).as_posix() for path in images.paths]
    labels = np.array([path.parent.name for path in images.paths])
    has_labels = len(np.unique(labels)) > 1
    return Samples(X=images, names=names, labels=labels if has_labels else None)


def _read_labels(options: Namespace, samples: Samples) -> NDArray[Any]:
    path = Path(options.labels)
    if path.suffix.lower() == ".npy":
        labels = np.array(_load_npy(path))
    else:
        try:
            lines = path.read_text(encoding="utf-8-sig").split("\n")
        except UnicodeDecodeError as error:
            raise DataFileError(f"{path} is not text in UTF-8: {error}") from error
        labels = _numbers_if_all_are(np.array([line.strip() for line in lines if line.strip()]))
    if labels.shape != (len(samples),):
        raise DataFileError(
            f"{path} holds labels of shape {labels.shape} for {len(samples)} samples"
        )
    return labels


def _numbers_if_all_are(texts: NDArray[np.str_]) -> NDArray[Any]:
    try:
        numbers = texts.astype(float)
    except ValueError:
        return texts
    is_whole = np.isfinite(numbers).all() and (numbers == np.round(numbers)).all()
    return numbers.astype(np.int64) if is_whole else numbers


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


_READERS = {
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".parquet": _read_parquet,
}
