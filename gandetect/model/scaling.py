"""The input scaler, which is fitted with a detector and is a part of its model."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from gandetect.data.values import change_of_constant, sound_limits, wild_values_warning
from gandetect.model.scoring import OnCPU

SCALINGS = ("auto", "standard", "robust", "unit", "symmetric", "none")

# The decoder's output activation that covers the range each scaling maps to.
MATCHING_ACTIVATION = {
    "standard": "linear",
    "robust": "linear",
    "unit": "sigmoid",
    "symmetric": "tanh",
    "none": "linear",
}

# Standardised values beyond this many scales grow only by their logarithm: one extreme value must
# not dominate a row's other columns, yet a larger one must still score higher.
_KNEE = 5.0
# Scaled values end here, lest squares and products of them overflow in the networks' float32.
_LIMIT = 1e15
# Centers and scales up to which sums of their squares are float64 numbers.
_LARGEST = 1e151
# Rows from which medians and quartiles are taken when there are more.
_MAX_QUANTILE_ROWS = 20_000
# Values of the first rows by which it is judged which values are extreme.
_MAX_HEAD_VALUES = 2**22


class Scaler(OnCPU):
    """An invertible map from the user's units to the networks' input.

    Parameters
    ----------
    kind : {"standard", "robust", "unit", "symmetric", "none"}
        "standard" subtracts the mean and divides by the standard deviation of each column,
        "robust" does so with the median and the interquartile range; both compress what lies
        beyond 5 scales to its logarithm. "unit" maps the range of the training data to [0, 1]
        and "symmetric" to [-1, 1]; the range is 0 to 255 for 8-bit images, whatever of it X
        holds. "none" changes nothing. Scaled values end at 1e15 on either side.
    center, spread : array-like of float64
        One a column for rows, one in all for images. A spread of 0 is that of a column that was
        constant in training.

    Notes
    -----
    The arithmetic is in float64, so that a column around 1e9 with a scale of 1 keeps its digits;
    only the result is float32.
    """

    def __init__(self, kind: str, center: ArrayLike, spread: ArrayLike) -> None:
        super().__init__()
        self.kind = kind
        for name, values in (("center", center), ("spread", spread)):
            self.register_buffer(name, torch.tensor(np.asarray(values), dtype=torch.float64))
        self.center: Tensor
        self.spread: Tensor
        self.has_constants = not bool(self.spread.all())

    @classmethod
    def fitted(cls, kind: str, blocks: Iterable[np.ndarray], is_image: bool) -> Self:
        """Fit to data that come in blocks of samples, each (n, ...), all read once.

        Parameters
        ----------
        kind : {"standard", "robust", "unit", "symmetric", "none"}
        blocks : iterable of ndarray
        is_image : bool
            Images share one center and scale, rows have one a column.

        Raises
        ------
        ValueError
            If values are too large for a center and a scale that are finite.
        """
        if kind == "none":
            size = max(abs(float(end)) for x in blocks for end in (x.min(), x.max()))
            if size > _LIMIT:
                raise ValueError(
                    f"X holds values of up to {size:.0e}, and scaling='none' takes up to "
                    f"{_LIMIT:.0e}: divide X by a power of ten, or choose another scaling."
                )
            return cls(kind, np.zeros(1), np.ones(1))
        with np.errstate(over="ignore", invalid="ignore"):
            center, spread = _center_and_spread(kind, blocks, is_image)
        sound = (np.abs(center) <= _LARGEST) & (spread <= _LARGEST)
        if not sound.all():
            where = "The pixels" if is_image else f"Column {int(np.argmin(sound))} of X"
            raise ValueError(
                f"{where} cannot be scaled: values are so large that one cannot compute with their "
                "mean or scale. Divide by a power of ten, take logarithms, or leave out the "
                "samples that hold them."
            )
        negligible = spread <= 10 * np.finfo(np.float64).eps * np.abs(center)
        return cls(kind, center, np.where(negligible, 0.0, spread))

    def __call__(self, x: np.ndarray | Tensor) -> Tensor:
        """Scale samples (n, ...), an array of any numeric dtype or a tensor, to float32."""
        scaled: Tensor = super().__call__(x)
        return scaled

    def forward(self, x: np.ndarray | Tensor) -> Tensor:
        """Scale in operations that torch can export."""
        if isinstance(x, np.ndarray):
            x = torch.from_numpy(np.ascontiguousarray(x.astype(np.float64)))
        if self.kind != "none":
            x = self._standardised(x.double())
        if self.kind in ("standard", "robust"):
            beyond = x.abs() - _KNEE
            # Not log1p, which in torch 2.5 is infinite for the largest numbers.
            compressed = x.sign() * (_KNEE + (1 + beyond.clamp(min=0)).log())
            x = torch.where(beyond > 0, compressed, x)
        return x.float().clamp(-_LIMIT, _LIMIT)

    def _standardised(self, x: Tensor) -> Tensor:
        center, spread = self._shaped(self.center, x), self._shaped(self.spread, x)
        if not self.has_constants:
            return (x - center) / spread
        # A column that was constant has no scale: any change counts alike, whatever its unit.
        is_constant = spread == 0
        change = change_of_constant(x, center, _KNEE)
        return torch.where(is_constant, change, (x - center) / torch.where(is_constant, 1, spread))

    def inverse(self, x: Tensor) -> Tensor:
        """Back to the user's units: (..., *sample shape) on any device, differentiable."""
        if self.kind == "none":
            return x
        if self.kind in ("standard", "robust"):
            size = x.abs()
            stretched = _KNEE + torch.expm1((size - _KNEE).clamp(0, 80))
            x = torch.where(size > _KNEE, torch.copysign(stretched, x), x)
        return x * self.spread.to(x) + self.center.to(x)

    def fitted_range(self) -> tuple[float, float] | None:
        """The smallest and the largest training value of images, where the kind keeps them."""
        center, spread = float(self.center[0]), float(self.spread[0])
        ranges = {
            "unit": (center, center + spread),
            "symmetric": (center - spread, center + spread),
        }
        return ranges.get(self.kind)

    @staticmethod
    def _shaped(values: Tensor, x: Tensor) -> Tensor:
        return values if x.ndim == 2 else values.reshape(-1, *[1] * (x.ndim - 1))


def _center_and_spread(
    kind: str, blocks: Iterable[np.ndarray], is_image: bool
) -> tuple[np.ndarray, np.ndarray]:
    """What the kind subtracts, and what it divides by; not finite where X is too large."""
    if kind == "robust":
        return _quartiles(blocks, is_image)
    moments = _Moments(is_image)
    if not is_image:
        blocks = _without_wild_values(iter(blocks))
    for block in blocks:
        moments.add(block)
    if kind == "standard":
        return moments.mean, moments.standard_deviation()
    low, width = moments.range()
    return (low + width / 2, width / 2) if kind == "symmetric" else (low, width)


def _without_wild_values(blocks: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """Blocks of rows in which values far beyond all others, such as fill values, are clipped.

    What is far is judged by the first rows. A warning names the columns.
    """
    head, n_rows, n_values = [], 0, 0
    for block in blocks:
        head.append(block)
        n_rows, n_values = n_rows + len(block), n_values + block.size
        if n_rows >= _MAX_QUANTILE_ROWS or n_values >= _MAX_HEAD_VALUES:
            break
    sample = np.concatenate(head)[:_MAX_QUANTILE_ROWS]
    low, high = sound_limits(sample)
    if told := wild_values_warning(sample):
        warnings.warn(told, UserWarning, stacklevel=9)
    for block in chain(head, blocks):
        yield np.clip(block.astype(np.float64), low, high)


class _Moments:
    """Mean, scale and range of blocks, by Chan's pairwise update, which loses no digits."""

    def __init__(self, is_image: bool) -> None:
        self.axis = None if is_image else 0
        self.n = 0
        self.mean = np.zeros(1)
        self.squares = np.zeros(1)
        self.low = np.full(1, np.inf)
        self.high = np.full(1, -np.inf)

    def add(self, block: np.ndarray) -> None:
        values = block.astype(np.float64)
        n = values.size if self.axis is None else len(values)
        mean = np.atleast_1d(values.mean(axis=self.axis))
        squares = np.atleast_1d(((values - mean) ** 2).sum(axis=self.axis))
        shift = mean - self.mean
        total = self.n + n
        self.squares = self.squares + squares + shift**2 * (self.n * n / total)
        self.mean = self.mean + shift * (n / total)
        self.n = total
        full_range = block.dtype == np.uint8 and self.axis is None
        low, high = (0.0, 255.0) if full_range else (values.min(self.axis), values.max(self.axis))
        self.low, self.high = np.minimum(self.low, low), np.maximum(self.high, high)

    def standard_deviation(self) -> np.ndarray:
        return np.sqrt(self.squares / self.n)

    def range(self) -> tuple[np.ndarray, np.ndarray]:
        return self.low, self.high - self.low


def _quartiles(blocks: Iterable[np.ndarray], is_image: bool) -> tuple[np.ndarray, np.ndarray]:
    """Median and normal-consistent interquartile range of the first rows."""
    kept: list[np.ndarray] = []
    n_kept = 0
    for block in blocks:
        if n_kept < _MAX_QUANTILE_ROWS:
            kept.append(np.array(block, dtype=np.float64))
            n_kept += len(block)
    values = np.concatenate(kept)
    quartiles = np.percentile(values, [25, 50, 75], axis=None if is_image else 0)
    low, median, high = (np.atleast_1d(q) for q in quartiles)
    spread = (high - low) / 1.349
    # A column that is constant over its middle half still has a standard deviation.
    deviation = np.atleast_1d(values.std(axis=None if is_image else 0))
    return median, np.where(spread > 0, spread, deviation)
