"""From what the user has (arrays, memory maps, folders, torch Datasets) to batches.

Everything that can be fitted becomes a `Source`: a length, the shape of one sample and a way to
read some of them. Images have their channels first here, and nowhere else before.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import joblib
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Subset

from gandetect.data.images import ImageFiles, ImageFolder
from gandetect.training.distributed import from_first, share

# Numbers read at once when a source is walked through: 16 MiB as float32.
_VALUES_A_BLOCK = 4_194_304
# Scaled training data up to this many bytes stay in memory as one tensor.
_RESIDENT_BYTES = 2**28


class Source(Protocol):
    """Samples that can be read some at a time.

    Attributes
    ----------
    input_shape : tuple of int
        Of one sample, as the user has it.
    sample_shape : tuple of int
        Of one sample, as the networks see it: (d,) or (C, H, W).
    is_flat : bool
        Whether the samples are images that came as flat rows.
    is_lazy : bool
        Whether reading may give other values the next time, as a Dataset that augments does.
    is_slow : bool
        Whether reading is worth a thread of its own, and may be done by one.
    """

    input_shape: tuple[int, ...]
    sample_shape: tuple[int, ...]
    is_flat: bool
    is_lazy: bool
    is_slow: bool

    def __len__(self) -> int: ...

    def read(self, index: slice | np.ndarray) -> np.ndarray:
        """The samples at `index`, (n, *sample_shape), numeric and finite."""


class ArraySource:
    """An array in memory, or a memory map, which is read through its file.

    Both train alike: what decides whether the samples stay in memory is their size alone.

    Parameters
    ----------
    X : ndarray of shape (n_samples, ...)
    sample_shape : tuple of int
        (d,) for rows, (C, H, W) for images.
    channel_axis : int or None
        Of one image: the axis of X that holds the channels, counted without the samples' axis.
    image_shape : tuple of int or None
        The shape of one image as the user gave it, where X holds flat rows.
    """

    is_lazy = False
    is_slow = False

    def __init__(
        self,
        X: np.ndarray,
        sample_shape: tuple[int, ...],
        channel_axis: int | None = None,
        image_shape: tuple[int, ...] | None = None,
    ) -> None:
        self.X = X
        self.sample_shape = sample_shape
        self.channel_axis = channel_axis
        self.image_shape = image_shape
        self.input_shape = image_shape or X.shape[1:]
        self.is_flat = image_shape is not None
        self._is_mapped = isinstance(X, np.memmap)
        self._file_offset = _file_offset(X) if isinstance(X, np.memmap) else None
        self._path = str(getattr(X, "filename", ""))

    def __len__(self) -> int:
        return len(self.X)

    def read(self, index: slice | np.ndarray) -> np.ndarray:
        """Take the samples, copied where X is a memory map."""
        if not self._is_mapped:
            x = self.X[index]
        elif self._file_offset is None:
            x = np.array(self.X[index])
        else:
            x = self._read_file(index, self._file_offset)
        if self._is_mapped:
            check_finite(x)
        return channels_first(x, self.sample_shape, self.channel_axis, self.image_shape)

    def _read_file(self, index: slice | np.ndarray, offset: int) -> np.ndarray:
        """Read samples from the file of the memory map.

        Touching the map would make its pages resident, and with them whole neighbourhoods that
        the system maps along: a batch of random rows can bring in the whole file.
        """
        rows = positions(index, len(self))
        x = np.empty((len(rows), *self.X.shape[1:]), self.X.dtype)
        values = x.reshape(-1).view(np.uint8).reshape(len(rows), -1)
        with open(self._path, "rb", buffering=0) as file:
            # Runs of neighbours, such as a slice, are one read.
            starts = np.flatnonzero(np.diff(rows, prepend=-2) != 1)
            for start, stop in zip(starts, [*starts[1:], len(rows)], strict=True):
                file.seek(offset + int(rows[start]) * values.shape[1])
                n_read = file.readinto(values[start:stop].data)
                if n_read != values[start:stop].size:
                    raise ValueError(
                        f"The file of the memory map, {self._path!r}, ends before the map does: "
                        "it was cut off since it was mapped."
                    )
        return x


class DatasetSource:
    """A torch Dataset, or anything with a length and samples by index; reads one by one.

    An item is a sample, or a tuple whose first entry is the sample (labels are not looked at).
    """

    is_lazy = True
    is_flat = False

    def __init__(self, dataset: Any, channel_axis: int | None) -> None:
        if len(dataset) == 0:
            raise ValueError("The dataset is empty: at least 1 sample is required.")
        self.dataset = dataset
        first = self._item(0)
        self.channel_axis = channel_axis
        self.input_shape = first.shape
        self.sample_shape = sample_shape_of(first.shape, channel_axis)
        self.is_slow = _is_of_files(dataset)

    def __len__(self) -> int:
        return len(self.dataset)

    def read(self, index: slice | np.ndarray) -> np.ndarray:
        """Read and stack the samples."""
        if isinstance(index, slice):
            index = positions(index, len(self))
        items = [self._item(int(i)) for i in index]
        for i, item in zip(index, items, strict=True):
            if item.shape != self.input_shape:
                raise ValueError(
                    f"Sample {i} of the dataset has shape {item.shape}, the first has "
                    f"{self.input_shape}: all must have one shape."
                )
        x = np.stack(items)
        check_finite(x)
        return channels_first(x, self.sample_shape, self.channel_axis)

    def _item(self, i: int) -> np.ndarray:
        item = self.dataset[i]
        item = np.asarray(item[0] if isinstance(item, tuple | list) else item)
        if item.dtype.kind not in "biuf":
            raise TypeError(
                f"Samples of the dataset must be numeric, but sample {i} has dtype {item.dtype}."
            )
        return item


def _is_of_files(dataset: Any) -> bool:
    """Whether a Dataset is one of images in files, which are decoded, or a part of one.

    No other may be read by a thread: one that augments may draw from torch's generator, whose
    order of draws would be left to chance, and some libraries serve one thread only.
    """
    while type(dataset) is Subset:
        dataset = dataset.dataset
    return type(dataset) in (ImageFiles, ImageFolder)


def sample_shape_of(shape: tuple[int, ...], channel_axis: int | None) -> tuple[int, ...]:
    """(d,) or (C, H, W) for one sample of the user's `shape`.

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
            f"The images have shape {shape}, which is three axes: say with channel_axis=-1 or "
            "channel_axis=0 which one holds the channels."
        )
    return (shape[0], *shape[1:]) if channel_axis in (0, -3) else (shape[2], *shape[:2])


def channels_first(
    x: np.ndarray,
    sample_shape: tuple[int, ...],
    channel_axis: int | None,
    image_shape: tuple[int, ...] | None = None,
) -> np.ndarray:
    """Samples (n, ...) in the user's layout to (n, *sample_shape)."""
    if image_shape is not None:
        x = x.reshape(len(x), *image_shape)
    if x.ndim == 4 and channel_axis in (-1, 2):
        return np.moveaxis(x, -1, 1)
    return x.reshape(len(x), *sample_shape)


def channels_restored(x: np.ndarray, input_shape: tuple[int, ...], channel_axis: int | None) -> Any:
    """Samples (n, C, H, W) or (n, d) back to the user's layout (n, *input_shape)."""
    if len(input_shape) == 3 and channel_axis in (-1, 2):
        return np.moveaxis(x, 1, -1)
    return x.reshape(len(x), *input_shape)


def positions(index: slice | np.ndarray, n: int) -> np.ndarray:
    """The numbers of the samples at `index`, of `n`; no longer than what is asked for."""
    return np.arange(*index.indices(n)) if isinstance(index, slice) else np.asarray(index)


def check_finite(x: np.ndarray) -> None:
    """Raise ValueError if a sample that was read lazily holds NaN or infinity."""
    if x.dtype.kind == "f" and not np.isfinite(x).all():
        raise ValueError(
            "Input contains NaN or infinity: remove or impute those samples (for instance with "
            "sklearn.impute.SimpleImputer)."
        )


def blocks(source: Source) -> Iterator[np.ndarray]:
    """Walk through a source once, some megabytes at a time."""
    return read_in_turn(source, slices(len(source), _rows_a_block(source)))


def slices(n: int, size: int) -> Iterator[slice]:
    """Cut `n` samples into parts of `size`, the last one of what is left."""
    return (slice(start, start + size) for start in range(0, n, size))


def read_in_turn(
    source: Source, parts: Iterable[slice] | Iterable[np.ndarray]
) -> Iterator[np.ndarray]:
    """Read one part of a source after the other.

    Of a slow source the next part is read by a thread while the caller works on one, if torch
    leaves a core free: with none it was measured to be slower.
    """
    if not source.is_slow or torch.get_num_threads() >= joblib.cpu_count():
        yield from map(source.read, parts)
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
    return max(1, _VALUES_A_BLOCK // int(np.prod(source.sample_shape)))


class TrainingData:
    """Training samples as shuffled, scaled batches on the device.

    Data that fit are scaled once and stay on the device as one tensor, of which each member takes
    its own random slices. Lazy data are read batch by batch, in one order for all members, so
    that nothing is read more than once an epoch.

    Parameters
    ----------
    source : Source
    rows : ndarray of int
        The samples to train on; the others were held out.
    scaler : callable
    n_members, batch_size : int
    device : torch.device
    """

    def __init__(
        self,
        source: Source,
        rows: np.ndarray,
        scaler: Any,
        n_members: int,
        batch_size: int,
        device: torch.device,
    ) -> None:
        self.source, self.rows, self.scaler = source, rows, scaler
        self.n_members, self.device = n_members, device
        # Batches of nearly equal size, none of one sample: batch statistics need two.
        self.n_batches = max(1, min(round(len(rows) / batch_size), len(rows) // 2))
        n_bytes = 4 * len(rows) * int(np.prod(source.sample_shape))
        self.resident: Tensor | None = None
        if not source.is_lazy and n_bytes <= _RESIDENT_BYTES:
            self.resident = self._scaled().to(device)

    def _scaled(self) -> Tensor:
        """All samples, scaled some at a time: the arithmetic is in float64."""
        scaled = torch.empty(len(self.rows), *self.source.sample_shape)
        for part in slices(len(self.rows), _rows_a_block(self.source)):
            scaled[part] = self.scaler(self.source.read(self.rows[part]))
        return scaled

    def epoch(self) -> Iterator[Tensor]:
        """The batches (K, B, ...) of one epoch, in an order drawn from torch's generator."""
        n = len(self.rows)
        if self.resident is not None:
            order = torch.rand(self.n_members, n).argsort(dim=1).to(self.device)
            for part in from_first(order).tensor_split(self.n_batches, dim=1):
                yield self.resident[share(part.T).T]
        else:
            shuffled = self.rows[from_first(torch.randperm(n, device=self.device)).cpu().numpy()]
            batches = np.array_split(shuffled, self.n_batches)
            # Sorted within the batch: neighbours on disk are read together.
            for x in read_in_turn(self.source, (np.sort(share(batch)) for batch in batches)):
                scaled = self.scaler(x).to(self.device)
                yield scaled.expand(self.n_members, *scaled.shape)


def scoring_blocks(
    source: Source, rows: np.ndarray | None, scaler: Any, size: int, device: torch.device
) -> Iterator[tuple[Tensor, int]]:
    """Scaled blocks of exactly `size` samples, and how many of each are real.

    A matrix product may round differently for another batch size, so every block that is scored
    has one size: a sample scores the same bits alone, in a batch and in any order. The last block
    is filled up by repeating its first sample.
    """
    parts = slices(len(source) if rows is None else len(rows), size)
    for values in read_in_turn(source, parts if rows is None else (rows[part] for part in parts)):
        x = scaler(values)
        n_real = len(x)
        if n_real < size:
            x = torch.cat([x, x[:1].expand(size - n_real, *x.shape[1:])])
        yield x.to(device), n_real


def _file_offset(X: np.memmap) -> int | None:
    """Where in its file the values of a memory map begin; None if they do not lie there in order.

    A copy-on-write map (mode "c") may hold changes of the user's that its file does not.
    """
    if X.mode == "c" or not X.flags.c_contiguous or X.filename is None:
        return None
    root: Any = X
    while isinstance(root.base, np.ndarray):
        root = root.base
    if not isinstance(root, np.memmap):
        return None
    here, there = (array.__array_interface__["data"][0] for array in (X, root))
    return root.offset + here - there
