"""Reading X (arrays, memory maps, paths, torch Datasets) into batches.

`read` checks X as scikit-learn does and converts it to a `Source`, which has a length, the layout
of a sample and a method that reads samples. Images that a source returns have channels first.
"""

from __future__ import annotations

import copy
import mmap
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

import joblib
import numpy as np
import torch
from sklearn.utils.validation import check_array, validate_data
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, Subset

from gandetect.data.columns import (
    CellError,
    ColumnEncoder,
    checked_columns,
    left_out_by,
)
from gandetect.data.frames import (
    Frame,
    as_words,
    listed,
    name_at,
    needs_encoding,
    read_frame,
)
from gandetect.data.images import ImageFiles, ImageFolder
from gandetect.data.parquet import ParquetRows, is_parquet, is_plain, read_parquet
from gandetect.data.plausibility import (
    channels_warning,
    folder_warning,
    mismatch_hint,
    names_warning,
    windows_warning,
)
from gandetect.data.tables import (
    MISSING_VALUES,
    Table,
    is_table,
    read_table,
    whole_if_possible,
)
from gandetect.data.values import (
    checked_sample,
    checked_values,
    identifier_reason,
    identifier_warning,
    labels_warning,
    looks_like_labels,
)

# Number of values read at once in one pass over a source: 16 MiB as float32.
_VALUES_A_BLOCK = 4_194_304
# Number of rows read from a memory map in random order before its pages are released; the operating
# system maps about 64 KiB for each row.
_ROWS_BETWEEN_RELEASES = 256
# Scaled training data up to this many bytes stay in memory as one tensor.
_RESIDENT_BYTES = 2**28

# Number of rows that are searched for the values of a column that looks like labels.
_ROWS_LOOKED_AT = 1000

A = TypeVar("A", np.ndarray, Tensor)


@dataclass(frozen=True)
class Layout:
    """The layout of the values of a sample, in X and in the networks.

    Parameters
    ----------
    input_shape : tuple of int
        Shape of one sample of X; for images in flat rows, the shape of an image.
    sample_shape : tuple of int
        Shape of one sample as input of the networks: (d,) or (C, H, W).
    channel_axis : int or None
        The channel axis of one image of X.
    is_flat : bool
        Whether the samples are images that are passed as flat rows.
    image_settings : dict or None
        The parameters of `ImageFolder` with which the training images were read from files; images
        to score are read in the same way.
    encoder : ColumnEncoder or None
        The encoder of a table. A sample is then a row (n_columns,) of X, and its encoded values
        (width,) for the networks.
    varies : bool
        Whether height and width differ between images; the shapes then contain the largest ones.
    """

    input_shape: tuple[int, ...]
    sample_shape: tuple[int, ...]
    channel_axis: int | None
    is_flat: bool = False
    image_settings: dict[str, Any] | None = field(default=None, compare=False)
    encoder: ColumnEncoder | None = field(default=None, compare=False, repr=False)
    varies: bool = field(default=False, compare=False, repr=False)

    @property
    def is_image(self) -> bool:
        """Whether a sample is an image."""
        return len(self.sample_shape) > 1

    @property
    def n_values(self) -> int:
        """The number of values in a sample."""
        return int(np.prod(self.sample_shape))

    @property
    def n_features(self) -> int:
        """The number of values in a sample of X."""
        return int(np.prod(self.input_shape))

    @property
    def of_graph(self) -> Layout:
        """The layout for an exported graph: encoded rows for a table, unchanged for others."""
        if self.encoder is None:
            return self
        return replace(self, input_shape=self.sample_shape, encoder=None)

    @property
    def has_channels_last(self) -> bool:
        """Whether the images of X have channels last."""
        return len(self.input_shape) == 3 and self.channel_axis in (-1, 2)

    def channels_first(self, x: A) -> A:
        """Convert samples (n, ...) in the layout of X, array or tensor, to (n, *sample_shape)."""
        if not self.varies:
            x = x.reshape(len(x), *self.input_shape)
        if self.has_channels_last:
            x = x.swapaxes(2, 3).swapaxes(1, 2)
        if self.varies:
            return x if x.ndim == 4 else x[:, None]
        return x.reshape(len(x), *self.sample_shape)

    def takes(self, other: Layout) -> bool:
        """Return whether samples of another layout have the shape of this layout."""
        if not self.varies:
            return not other.varies and other.sample_shape == self.sample_shape
        return other.is_image and other.sample_shape[0] == self.sample_shape[0]

    def restored(self, x: np.ndarray, *, flat: bool = True, like: Any = None) -> Any:
        """Convert samples (n, *sample_shape) back to the layout of X.

        Parameters
        ----------
        x : ndarray
        flat : bool, default=True
            Whether images that were passed as flat rows are flattened again.
        like : object, default=None
            The data that were encoded. For a table the result is a table of its type, otherwise a
            dict of columns.
        """
        if self.encoder is not None:
            is_in_memory = not isinstance(like, str | os.PathLike | Frame | NamedRows | Table)
            return self.encoder.decode(x, like if is_in_memory else None)
        if self.has_channels_last:
            x = np.moveaxis(x, 1, -1)
        return (
            x.reshape(len(x), -1) if self.is_flat and flat else x.reshape(len(x), *self.input_shape)
        )


@dataclass(frozen=True, eq=False)
class NamedRows:
    """Rows with column names; the names determine the order of columns in later data.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
    names : sequence of str
    """

    X: np.ndarray
    names: Sequence[str]

    def in_order(self, known: Sequence[str]) -> np.ndarray:
        """Return the columns with these names, in this order.

        Raises
        ------
        ValueError
            If a column is missing or unknown.
        """
        names = list(self.names)
        missing = [name for name in known if name not in names]
        surplus = [name for name in names if name not in set(known)]
        for odd, what in ((missing, "lack the column"), (surplus, "have a further column")):
            if odd:
                raise ValueError(
                    f"the data {what} {odd[0]!r}: the model was fitted to the columns "
                    f"{', '.join(map(str, known[:20]))}; leave out columns that are not features"
                )
        return self.X[:, [names.index(name) for name in known]]


class Source(Protocol):
    """Samples that can be read in parts.

    Attributes
    ----------
    layout : Layout
    is_lazy : bool
        Whether repeated reading may give other values, as with augmentation in a Dataset.
    is_slow : bool
        Whether reading in a separate thread is safe, and faster.
    """

    layout: Layout
    is_lazy: bool
    is_slow: bool

    def __len__(self) -> int: ...

    def read(self, index: slice | np.ndarray) -> np.ndarray:
        """Return the samples at `index`, (n, *sample_shape), numeric and finite."""


class ArraySource:
    """An array, a memory map or the rows of a Parquet file.

    In training, the samples are kept in memory if their size permits it.

    Parameters
    ----------
    X : ndarray or ParquetRows of shape (n_samples, ...)
    layout : Layout
    """

    is_lazy = False
    is_slow = False

    def __init__(self, X: Any, layout: Layout) -> None:
        self.X, self.layout = X, layout
        self._is_checked = isinstance(X, np.ndarray) and not isinstance(X, np.memmap)

    def __len__(self) -> int:
        return len(self.X)

    def read(self, index: slice | np.ndarray) -> np.ndarray:
        """Read the samples, copied if X is not an array in memory."""
        if self._is_checked:
            rows: np.ndarray = self.X[index]
            return self.layout.channels_first(rows)
        parts = [index]
        if isinstance(index, np.ndarray) and len(index) > _ROWS_BETWEEN_RELEASES:
            parts = [index[part] for part in slices(len(index), _ROWS_BETWEEN_RELEASES)]
        taken = []
        for part in parts:
            taken.append(np.array(self.X[part]))
            _release(getattr(self.X, "_copy", self.X))
        x = taken[0] if len(taken) == 1 else np.concatenate(taken)
        check_finite(x)
        return self.layout.channels_first(x)


class FrameSource:
    """An encoded table.

    Parameters
    ----------
    frame : Frame
    layout : Layout
        The layout, which contains the encoder.
    """

    is_lazy = False
    is_slow = False

    def __init__(self, frame: Frame, layout: Layout) -> None:
        assert layout.encoder is not None
        self.encoder, self.layout = layout.encoder, layout
        self.frame = self.encoder.read(frame)
        self._encoded: np.ndarray | None = None
        if 4 * len(self) * layout.n_values <= _RESIDENT_BYTES:
            self._encoded = self.encoder.encode(self.frame)

    def __len__(self) -> int:
        return len(self.frame)

    def read(self, index: slice | np.ndarray) -> np.ndarray:
        """Read encoded rows; those of a large table are encoded on reading."""
        if self._encoded is not None:
            return self._encoded[index]
        return self.encoder.encode(self.frame.rows(index))


class MixedSource:
    """Images whose heights and widths differ, read in batches of one shape.

    Parameters
    ----------
    images : sequence of ndarray
    shapes : sequence of tuple of int
        The shapes of the images.
    channel_axis : int or None
    rows : ndarray of int or None, default=None
        The selected images; None for all.

    Raises
    ------
    ValueError
        If the images differ in more than height and width.
    """

    is_lazy = True

    def __init__(
        self,
        images: Sequence[np.ndarray] | ImageFiles,
        shapes: Sequence[tuple[int, ...]],
        channel_axis: int | None,
        rows: np.ndarray | None = None,
    ) -> None:
        self.images, self.shapes, self.channel_axis = images, shapes, channel_axis
        self.rows = np.arange(len(images)) if rows is None else rows
        if len({len(shape) for shape in shapes}) > 1:
            raise ValueError(
                "Some images are grey, (height, width), and some have channels: convert them to "
                "one kind (for files by ImageFolder(path, channels=1) or channels=3)."
            )
        largest = tuple(max(sides) for sides in zip(*shapes, strict=True))
        self.layout = Layout(
            largest,
            sample_shape_of(largest, channel_axis),
            channel_axis,
            image_settings=images.settings if isinstance(images, ImageFiles) else None,
            varies=True,
        )
        n_channels = {sample_shape_of(shape, channel_axis)[0] for shape in shapes}
        if len(n_channels) > 1:
            raise ValueError(f"The images have {sorted(n_channels)} channels: all must be equal.")
        self.is_slow = _is_of_files(images)

    def __len__(self) -> int:
        return len(self.rows)

    def chosen(self, rows: np.ndarray) -> MixedSource:
        """Return a source with some of the images."""
        return MixedSource(self.images, self.shapes, self.channel_axis, self.rows[rows])

    def groups(self, rows: np.ndarray) -> list[np.ndarray]:
        """Split selected images into groups of one shape; the order within a group is kept."""
        groups: dict[tuple[int, ...], list[int]] = {}
        for row in rows:
            groups.setdefault(self.shapes[self.rows[row]], []).append(int(row))
        return [np.array(group) for group in groups.values()]

    def read(self, index: slice | np.ndarray) -> np.ndarray:
        """Read and stack images that have the same shape."""
        places = self.rows[index]
        x = np.stack([checked_sample(self.images[i], i) for i in places])
        check_finite(x)
        return self.layout.channels_first(x)


class ChosenSource:
    """A selection of the samples of another source.

    Parameters
    ----------
    source : Source
    rows : ndarray of int
    """

    def __init__(self, source: Source, rows: np.ndarray) -> None:
        self.source, self.rows = source, rows
        self.layout, self.is_lazy, self.is_slow = source.layout, source.is_lazy, source.is_slow

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, index: slice | np.ndarray) -> np.ndarray:
        """Read the samples."""
        return self.source.read(self.rows[index])


class DatasetSource:
    """A torch Dataset, or an object with a length and samples by index; reads one by one.

    An item is a sample, or a tuple whose first entry is the sample (labels are ignored).
    """

    is_lazy = True

    def __init__(self, dataset: Any, channel_axis: int | None) -> None:
        try:
            n_samples = len(dataset)
        except Exception as error:  # the user's __len__ may raise any error
            raise TypeError(
                f"The length of the dataset, a {type(dataset).__name__}, cannot be read ({error}): "
                "its __len__ must return the number of samples."
            ) from error
        if n_samples == 0:
            raise ValueError("The dataset is empty: at least 1 sample is required.")
        self.dataset = dataset
        shape = self._item(0).shape
        self.layout = Layout(
            shape,
            sample_shape_of(shape, channel_axis),
            channel_axis,
            image_settings=dataset.settings if isinstance(dataset, ImageFiles) else None,
        )
        self.is_slow = _is_of_files(dataset)

    def __len__(self) -> int:
        return len(self.dataset)

    def read(self, index: slice | np.ndarray) -> np.ndarray:
        """Read and stack the samples."""
        if isinstance(index, slice):
            index = positions(index, len(self))
        items = [self._item(int(i)) for i in index]
        for i, item in zip(index, items, strict=True):
            if item.shape != self.layout.input_shape:
                raise ValueError(
                    f"Sample {i} of the dataset has shape {item.shape}, the first has "
                    f"{self.layout.input_shape}: all must have the same shape."
                )
        x = np.stack(items)
        check_finite(x)
        return self.layout.channels_first(x)

    def _item(self, i: int) -> np.ndarray:
        return checked_sample(self.dataset[i], i)


def read(
    detector: Any, X: Any, layout: Layout | None = None, kept: np.ndarray | None = None
) -> Source:
    """Check X and convert it to a source of samples.

    Parameters
    ----------
    detector : estimator
        Its `image_shape`, `channel_axis`, `columns` and `missing_values` determine how X is read.
        Without a layout, scikit-learn's checks store the number and the names of the columns on the
        detector; with a layout, they compare with the stored ones.
    X : array-like, Dataset or path
    layout : Layout or None, default=None
        The layout of the training samples; None in `fit`.
    kept : ndarray of bool, shape (n_samples,), or None, default=None
        The selected samples; None for all.

    Raises
    ------
    TypeError
        For sparse, object or complex data.
    ValueError
        For X that is empty, not finite, of a shape that cannot be read, or of another shape than
        the detector was fitted with.
    """
    source: Source
    if isinstance(X, str | os.PathLike) and is_table(X) and not is_parquet(X):
        X = _table_of(detector, X, layout)
    is_path = isinstance(X, str | os.PathLike)
    frame = _frame_of(detector, X, layout)
    if frame is not None:
        source = _read_frame(detector, frame, layout, kept)
    elif is_path and is_parquet(X):
        source = _read_parquet(detector, X, layout)
    elif isinstance(X, NamedRows | Table):
        source = _read_named(detector, X, layout)
    elif is_path:
        if not os.path.exists(X):
            raise FileNotFoundError(f"there is no file or folder {os.fspath(X)}")
        settings = layout.image_settings if layout else None
        source = _read_files(detector, ImageFolder(X, **(settings or {})))
    elif isinstance(X, ImageFiles):
        source = _read_files(detector, X)
    elif (shapes := _differing_shapes(X)) is not None:
        source = MixedSource(X, shapes, detector.channel_axis)
    elif isinstance(X, Dataset) and _has_length(X):
        source = DatasetSource(X, detector.channel_axis)
    else:
        source = _read_array(detector, X, layout)
    if kept is not None and frame is None:
        rows = _positions_of(kept, len(source))
        if isinstance(source, MixedSource):
            source = source.chosen(rows)
        else:
            source = ChosenSource(source, rows)
    found = source.layout
    if layout is None:
        if len(source) < 2:
            raise ValueError(f"Found {len(source)} sample: at least 2 are required to fit.")
        detector.n_features_in_ = found.n_features
        _warn_of_what_it_looks_like(source, detector)
    elif not layout.takes(found):
        hint = mismatch_hint(found.input_shape, layout.input_shape, len(source)) or ""
        which = "images of several shapes, the largest" if found.varies else "samples of shape"
        raise ValueError(
            f"X contains {which} {found.input_shape}, but {type(detector).__name__} was "
            f"fitted with samples of shape {layout.input_shape}. {hint}".rstrip()
        )
    return source


def _has_length(dataset: Any) -> bool:
    return not isinstance(dataset, IterableDataset) and hasattr(dataset, "__len__")


def _read_files(detector: Any, files: ImageFiles) -> Source:
    """Return a source of image files; their shapes may differ if the aspect ratio is kept."""
    shapes = files.shapes() if files.keep_aspect else []
    if len(set(shapes)) > 1:
        return MixedSource(files, shapes, detector.channel_axis)
    return DatasetSource(files, detector.channel_axis)


def _differing_shapes(X: Any) -> list[tuple[int, ...]] | None:
    """Return the shapes of a list of images that differ in shape; None for other data."""
    is_list = isinstance(X, list | tuple) or (type(X) is np.ndarray and X.dtype == object)
    if not is_list or not all(isinstance(x, np.ndarray) and x.ndim in (2, 3) for x in X):
        return None
    shapes = [x.shape for x in X]
    return shapes if len(set(shapes)) > 1 else None


def _warn_of_what_it_looks_like(source: Source, detector: Any) -> None:
    """Warn about samples that are probably misread."""
    layout = source.layout
    found = []
    if len(layout.input_shape) == 3:
        found.append(channels_warning(layout.input_shape, detector.channel_axis))
    is_of_files = isinstance(source, DatasetSource) and source.is_slow
    may_be_windows = not (layout.is_flat or layout.varies or is_of_files)
    if len(layout.input_shape) == 2 and may_be_windows:
        found.append(windows_warning(source.read(slice(0, 256))[:, 0]))
    files = _all_files(source)
    if isinstance(files, ImageFolder):
        told = folder_warning(files.paths, files.root)
        found.append(told or names_warning(files.paths, str(files.root)))
    elif files is not None:
        found.append(names_warning(files.paths))
    found += _doubtful_columns(source, detector)
    for sentence in filter(None, found):
        warnings.warn(sentence, UserWarning, stacklevel=6)


def _all_files(source: Source) -> ImageFiles | None:
    """Return the image files that a source reads; None if some were excluded by their labels."""
    files: Any = None
    if isinstance(source, MixedSource) and len(source) == len(source.images):
        files = source.images
    elif isinstance(source, DatasetSource):
        files = source.dataset
    return files if isinstance(files, ImageFiles) else None


def _doubtful_columns(source: Source, detector: Any) -> list[str | None]:
    """Return warnings about columns that look like labels or identifiers but are features.

    Columns that `columns` sets are not doubtful. Identifiers in a table that is encoded are left
    out by its encoder.
    """
    names = list(vars(detector).get("feature_names_in_", ()))
    if not names or source.layout.is_image:
        return []
    columns = detector.columns
    kinds = {} if columns is None or isinstance(columns, str) else checked_columns(columns)
    told = {name_at(names, key) for key in kinds}
    is_encoded = isinstance(source, FrameSource)
    head = None if is_encoded else source.read(slice(0, _ROWS_LOOKED_AT))
    found = []
    for i, name in enumerate(names):
        if name in told:
            continue
        if isinstance(source, FrameSource):
            if looks_like_labels(name):
                found.append(labels_warning(name, as_words(source.frame.columns[i]).levels))
        elif head is not None and looks_like_labels(name):
            found.append(labels_warning(name, np.unique(head[:, i]).tolist()))
        elif head is not None and identifier_reason(name, whole_if_possible(head[:, i])):
            found.append(identifier_warning(name))
    return found


def _table_of(detector: Any, path: str | os.PathLike[str], layout: Layout | None) -> Table:
    """Read a table from a text file."""
    encoder = layout.encoder if layout else None
    gaps = encoder.missing_values if encoder else listed(detector.missing_values)
    missing_values = (*MISSING_VALUES, *map(str, gaps))
    table = read_table(path, missing_values=missing_values)
    table.check_rows()
    texts = columns_of_words(encoder) if layout else columns_called_words(detector.columns)
    words = [name for name in texts if name in table.names]
    return read_table(path, missing_values=missing_values, words=words) if words else table


def frame_of(table: Table, missing_values: Any = ()) -> Frame:
    """Convert a table that was read from a file to a Frame."""
    columns = map(whole_if_possible, table.columns)
    frame = read_frame(dict(zip(table.names, columns, strict=True)), missing_values)
    return Frame(frame.names, frame.columns, table.has_names)


def columns_of_words(encoder: ColumnEncoder | None) -> list[str]:
    """Return the columns that were strings in training; all files are read with them as strings."""
    return [
        column.name
        for column in (encoder.columns if encoder else ())
        if column.kind == "date"
        or (column.kind == "category" and any(isinstance(level, str) for level in column.levels))
    ]


def columns_called_words(columns: Any) -> list[str]:
    """Return columns set as categories or dates; they are read as text from files, as "007"."""
    if columns is None or isinstance(columns, str):
        return []
    return [
        str(name)
        for name, kind in checked_columns(columns).items()
        if kind == "category" or kind.endswith("date")
    ]


def _frame_of(detector: Any, X: Any, layout: Layout | None) -> Any:
    """Return X as a table for the encoder; None if X is not encoded."""
    encoder = layout.encoder if layout else None
    if encoder is None and (layout or detector.columns is None or detector.image_shape):
        return None
    is_auto = isinstance(detector.columns, str) and np.size(detector.missing_values) == 0
    is_asked_for = encoder is not None or not is_auto
    if isinstance(X, str | os.PathLike) and is_parquet(X):
        if not is_asked_for and is_plain(X):
            return None
        left_out = encoder.left_out if encoder else left_out_by(detector.columns)
        X = read_parquet(X, words=columns_of_words(encoder), left_out=map(str, left_out))
    if isinstance(X, Table):
        if not (is_asked_for or X.obstacles()):
            return None
        return frame_of(X, detector.missing_values)
    if isinstance(X, NamedRows) and is_asked_for:
        return read_frame(dict(zip(X.names, X.X.T, strict=True)), detector.missing_values)
    if isinstance(X, Frame) or is_asked_for:
        return X
    is_table_in_memory = not isinstance(X, np.ndarray | list | tuple | Mapping)
    return X if is_table_in_memory and needs_encoding(X) else None


def _read_frame(
    detector: Any, X: Any, layout: Layout | None, kept: np.ndarray | None
) -> FrameSource:
    """Return a table as an encoded source; the encoder is fitted if there is none."""
    encoder = layout.encoder if layout else None
    left_out = encoder.left_out if encoder else left_out_by(detector.columns)
    frame = X if isinstance(X, Frame) else read_frame(X, detector.missing_values, left_out)
    rows = np.arange(len(frame)) if kept is None else _positions_of(kept, len(frame))
    if kept is not None:
        frame = frame.kept(rows)
    try:
        if layout is None:
            layout = _layout_of_table(detector, frame)
        if not len(frame):
            raise ValueError("Found 0 samples in X: at least 1 is required.")
        return FrameSource(frame, layout)
    except CellError as error:
        raise error.in_row(int(rows[error.row])) from None


def _layout_of_table(detector: Any, frame: Frame) -> Layout:
    if detector.scaling not in ("auto", "none"):
        raise ValueError(
            f"scaling={detector.scaling!r} is for numbers, but X is a table whose encoder scales "
            "the columns: leave scaling at 'auto', or pass numbers and columns=None."
        )
    encoder = ColumnEncoder.fitted(frame, detector.columns, detector.missing_values)
    if frame.has_names:
        detector.feature_names_in_ = np.array(frame.names, dtype=object)
    return Layout((len(encoder.columns),), (encoder.width,), None, encoder=encoder)


def _positions_of(kept: np.ndarray, n: int) -> np.ndarray:
    if len(kept) != n:
        raise ValueError(
            f"Found input variables with inconsistent numbers of samples: [{n}, {len(kept)}]."
        )
    return np.flatnonzero(kept)


def _read_named(detector: Any, X: Any, layout: Layout | None) -> ArraySource:
    """Read rows with column names, or the rows of a table in a text file."""
    if isinstance(X, Table):
        if not X.has_names:
            return _read_array(detector, X.matrix(), layout)
        X = NamedRows(X.matrix(), X.names)
    known = vars(detector).get("feature_names_in_")
    if layout is None:
        source = _read_array(detector, X.X, layout)
        detector.feature_names_in_ = np.array(X.names, dtype=object)
        return source
    if known is None:
        return _read_array(detector, X.X, layout)
    # scikit-learn would warn that an array has no names, but the names were compared above.
    nameless = copy.copy(detector)
    del nameless.__dict__["feature_names_in_"]
    return _read_array(nameless, X.in_order(known), layout)


def _read_array(detector: Any, X: Any, layout: Layout | None) -> ArraySource:
    reset = layout is None
    if reset or not _is_plain(X):
        X = checked_values(X, fit=reset)
    n_dimensions = getattr(X, "ndim", None) or np.ndim(X if hasattr(X, "__len__") else 0)
    checks: dict[str, Any] = {
        "dtype": "numeric",
        "ensure_min_samples": 2 if reset else 1,
        "ensure_all_finite": False,
    }
    # The values of a memory map are checked when they are read, so that its pages are not read
    # twice. They are read first when the scaler is fitted.
    head = X[:2] if isinstance(X, np.memmap) else X
    if n_dimensions <= 2:
        if layout is not None and layout.is_image and np.shape(X) == layout.input_shape:
            raise ValueError("X is one sample: pass X[None].")
        checked = validate_data(detector, head, reset=reset, **checks)
    else:
        checked = check_array(head, allow_nd=True, **checks)
    if isinstance(X, np.memmap):
        checked = X
    return ArraySource(checked, _layout(detector, checked.shape[1:]))


def _is_plain(X: Any) -> bool:
    """Return whether X is an array of finite numbers that gives no warning."""
    if type(X) is not np.ndarray or X.dtype.kind not in "fbiu" or X.dtype.itemsize > 8:
        return False
    return X.dtype.kind != "f" or bool(np.isfinite(X).all())


def _read_parquet(
    detector: Any, path: str | os.PathLike[str], layout: Layout | None
) -> ArraySource:
    rows = ParquetRows(path)
    # The values are checked when they are read, like those of a memory map.
    validate_data(detector, rows.head(), reset=layout is None, ensure_all_finite=False)
    return ArraySource(rows, _layout(detector, rows.shape[1:]))


def _layout(detector: Any, shape: tuple[int, ...]) -> Layout:
    """Return the layout of samples of this shape, by the parameters of the detector."""
    image_shape, axis = detector.image_shape, detector.channel_axis
    if image_shape is None:
        if 0 in shape:
            raise ValueError(f"Samples of shape {shape} are empty: every size must be at least 1.")
        return Layout(shape, sample_shape_of(shape, axis), axis)
    image_shape = tuple(image_shape)
    if shape == image_shape:
        return Layout(shape, sample_shape_of(shape, axis), axis)
    if len(shape) != 1 or shape[0] != np.prod(image_shape):
        raise ValueError(
            f"image_shape={image_shape} needs images of that shape, or rows of "
            f"{int(np.prod(image_shape))} features, but X contains samples of shape {shape}."
        )
    return Layout(image_shape, sample_shape_of(image_shape, axis), axis, is_flat=True)


def _is_of_files(dataset: Any) -> bool:
    """Return whether a Dataset is `ImageFiles` or a subset of them.

    Other Datasets must not be read in a thread: their augmentation may draw from torch's global
    generator, in an order that would not be reproducible, and some libraries are not thread-safe.
    """
    while type(dataset) is Subset:
        dataset = dataset.dataset
    return type(dataset) in (ImageFiles, ImageFolder)


def sample_shape_of(shape: tuple[int, ...], channel_axis: int | None) -> tuple[int, ...]:
    """Return (d,) or (C, H, W) for one sample of X of this shape.

    Raises
    ------
    ValueError
        If a sample has more than three axes, or three and no channel axis.
    """
    if len(shape) == 1:
        return tuple(shape)
    if len(shape) == 2:
        return (1, *shape)
    if len(shape) != 3:
        raise ValueError(
            f"A sample must be a row (d,) or an image (H, W) or (H, W, C), got shape {shape}."
        )
    if channel_axis is None:
        raise ValueError(
            f"The images have shape {shape} with three axes: set channel_axis=-1 or "
            "channel_axis=0, the axis of the channels."
        )
    return (shape[0], *shape[1:]) if channel_axis in (0, -3) else (shape[2], *shape[:2])


def positions(index: slice | np.ndarray, n: int) -> np.ndarray:
    """Return the positions of the samples at `index`, of `n` samples."""
    return np.arange(*index.indices(n)) if isinstance(index, slice) else np.asarray(index)


def check_finite(x: np.ndarray) -> None:
    """Raise ValueError if a sample read lazily contains NaN or infinity."""
    if x.dtype.kind == "f" and not np.isfinite(x).all():
        raise ValueError(
            "Input contains NaN or infinity: remove or impute those samples (for instance with "
            "sklearn.impute.SimpleImputer)."
        )


def blocks(source: Source) -> Iterator[np.ndarray]:
    """Iterate over a source once, in blocks of some megabytes and one shape."""
    return read_in_turn(source, parts_of(source, None, _rows_a_block(source)))


def parts_of(source: Source, rows: np.ndarray | None, size: int) -> Iterator[Any]:
    """Split samples into parts of at most `size` with the same shape.

    The parts are in the order of the rows (None for all), or in that of `MixedSource.groups` if
    shapes differ.
    """
    if isinstance(source, MixedSource):
        groups = source.groups(np.arange(len(source)) if rows is None else rows)
        return (group[part] for group in groups for part in slices(len(group), size))
    parts = slices(len(source) if rows is None else len(rows), size)
    return parts if rows is None else (rows[part] for part in parts)


def slices(n: int, size: int) -> Iterator[slice]:
    """Split `n` samples into parts of `size`; the last one has the rest."""
    return (slice(start, start + size) for start in range(0, n, size))


def read_in_turn(
    source: Source,
    parts: Iterable[slice] | Iterable[np.ndarray],
    reading: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> Iterator[np.ndarray]:
    """Read the parts of a source in order.

    For a slow source, a thread reads the next part during the computation if torch does not use all
    cores; if it does, the thread was measured to be slower.
    """
    if not source.is_slow or torch.get_num_threads() >= joblib.cpu_count():
        for part in parts:
            with reading():
                x = source.read(part)
            yield x
        return
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="gandetect-reading") as thread:
        next_one = None
        for part in parts:
            this, next_one = next_one, thread.submit(source.read, part)
            if this is not None:
                yield this.result()
        if next_one is not None:
            yield next_one.result()


def _rows_a_block(source: Source) -> int:
    return max(1, _VALUES_A_BLOCK // source.layout.n_values)


class TrainingData:
    """Training samples as shuffled, scaled batches on the device.

    Data that fit in memory are scaled once and kept on the device as one tensor, from which each
    member takes different random batches. Lazy data are read batch by batch, in the same order for
    all members, so that each sample is read once in an epoch.

    Parameters
    ----------
    source : Source
    rows : ndarray of int
        The training samples; the others are held out for validation.
    scaler : callable
    n_members, batch_size : int
    device : torch.device
    generator : torch.Generator
        Draws the order of the samples; on the CPU.
    share : callable
        Maps the positions in a batch to those of this process.
    from_first : callable
        Maps the order of this process to that of the first process.
    reading : callable
        Creates the context manager in which samples are read.
    """

    def __init__(
        self,
        source: Source,
        rows: np.ndarray,
        scaler: Callable[[np.ndarray], Tensor],
        n_members: int,
        batch_size: int,
        device: torch.device,
        generator: torch.Generator,
        share: Callable[[Any], Any] = lambda batch: batch,
        from_first: Callable[[Tensor], Tensor] = lambda order: order,
        reading: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        self.source, self.rows, self.scaler = source, rows, scaler
        self.n_members, self.device, self.generator = n_members, device, generator
        self.share, self.from_first, self.reading = share, from_first, reading
        # Batches of nearly equal size, with at least two samples for batch statistics.
        self.n_batches = max(1, min(round(len(rows) / batch_size), len(rows) // 2))
        n_bytes = 4 * len(rows) * source.layout.n_values
        self.resident: Tensor | None = None
        if not source.is_lazy and n_bytes <= _RESIDENT_BYTES:
            self.resident = self._scaled().to(device)

    def _scaled(self) -> Tensor:
        """Return all samples, scaled in parts, because the arithmetic in float64 needs memory."""
        shape = (len(self.rows), *self.source.layout.sample_shape)
        scaled = torch.empty(shape, dtype=torch.float32, device="cpu")
        for part in slices(len(self.rows), _rows_a_block(self.source)):
            scaled[part] = self.scaler(self.source.read(self.rows[part]))
        return scaled

    def epoch(self) -> Iterator[Tensor]:
        """Yield the batches (K, B, ...) of one epoch."""
        n = len(self.rows)
        numbers: dict[str, Any] = {"generator": self.generator, "device": "cpu"}
        if self.resident is not None:
            order = torch.rand(self.n_members, n, **numbers, dtype=torch.float32).argsort(dim=1)
            order = self.from_first(order.to(self.device))
            for part in order.tensor_split(self.n_batches, dim=1):
                yield self.resident[self.share(part.T).T]
            return
        order = self.from_first(torch.randperm(n, **numbers).to(self.device))
        batches = np.array_split(self.rows[order.cpu().numpy()], self.n_batches)
        # Sorted within the batch, so that neighbours on disk are read together.
        parts = (np.sort(self.share(batch)) for batch in batches)
        for x in read_in_turn(self.source, parts, self.reading):
            scaled = self.scaler(x).to(self.device)
            yield scaled.expand(self.n_members, *scaled.shape)


def in_order(results: list[Tensor], source: Source, rows: np.ndarray | None) -> Any:
    """Join the results of the parts of `parts_of`, in the order of the rows.

    Returns
    -------
    ndarray, or list of ndarray
        A list if the results have the shapes of images that differ.
    """
    if not isinstance(source, MixedSource):
        return torch.cat(results).numpy()
    wanted = np.arange(len(source)) if rows is None else rows
    place = {row: i for i, row in enumerate(np.concatenate(source.groups(wanted)))}
    if len({found.shape[1:] for found in results}) == 1:
        return torch.cat(results).numpy()[[place[row] for row in wanted]]
    each = [values.numpy() for found in results for values in found]
    return [each[place[row]] for row in wanted]


def scoring_blocks(
    source: Source,
    rows: np.ndarray | None,
    scaler: Callable[[np.ndarray], Tensor],
    size: int,
    multiple: int,
    device: torch.device,
) -> Iterator[tuple[Tensor, int]]:
    """Yield scaled blocks of at most `size` samples, and the number of real samples in each.

    The rounding of a matrix product can depend on the number of rows, unless this is a multiple of
    the block size of the processor. Therefore each block is padded to a `multiple` by repeating its
    first sample.
    """
    for values in read_in_turn(source, parts_of(source, rows, size)):
        x = scaler(values)
        n_real, n_missing = len(x), -len(x) % multiple
        if n_missing:
            x = torch.cat([x, x[:1].expand(n_missing, *x.shape[1:])])
        yield x.to(device), n_real


def _release(X: Any) -> None:
    """Release the pages of a memory map that have been read.

    Pages that are read stay in memory, together with neighbouring pages that the system maps, so
    that a few batches of random rows would load the whole file. The pages of a copy-on-write map
    are not released, because they contain the changes of the user.
    """
    pages = getattr(X, "_mmap", None)
    if isinstance(pages, mmap.mmap) and X.mode != "c" and hasattr(pages, "madvise"):
        pages.madvise(mmap.MADV_DONTNEED)
