"""Statistics of training samples that a model stores: scales, references, thresholds."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from numbers import Real
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import torch
from numpy.typing import ArrayLike
from scipy.stats import false_discovery_control
from torch import Tensor, nn

from gandetect.data.values import (
    change_of_constant,
    skew_of,
    sound_limits,
    wild_pixels_warning,
    wild_values_warning,
)
from gandetect.networks.members import LEAST_WIDTH

# From the parts of a score to one number for each sample.

# A part of a score (K, B), or a function that computes it on demand.
Part = Tensor | Callable[[], Tensor]

# Neighbours whose distances are averaged, as in k-nearest-neighbour detectors.
_N_NEIGHBOURS = 5
# The largest change of a code, relative to its norm, in another batch, in an exported model or on
# another device. Deep convolutional networks were observed to change codes by 6e-6.
_ROUNDING = 5e-5
# Number of random subsamples of references, their size, and the largest share of all references in
# one: small, so that each contains few anomalies.
_N_DRAWS, _DRAW_SIZE, _DRAW_SHARE = 16, 64, 1 / 8
# The smallest scale of a reference, relative to their mean.
_LEAST_SCALE = 0.05
# The relative standard deviation below which a part is constant except for rounding.
_CONSTANT = 1e-6
# Number of references whose scales are computed at once, which bounds the memory.
_BLOCK_VALUES = 2**20
# The ratio of candidates to nearest references, by the norm of the distance. The candidates are
# near by the Euclidean (L2) norm, which a matrix product computes.
CANDIDATES = {1.0: 4, 2.0: 1, 4.0: 2}
# The largest sizes of the groups in a search of nearest references, level by level, and the least
# number of groups in a level for which its minima are faster than a full search.
_GROUPS, _LEAST_GROUPS = (10, 5), 25


class OnCPU(nn.Module):
    """A module of double-precision buffers on the CPU, because some devices lack float64."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        return self


class Calibration(OnCPU):
    """Mean and standard deviation of each part on training samples, for each member.

    Parts have different units (a norm of codes, a mean of pixels, a logit), which also differ
    between members; standardised parts can be weighted and averaged.

    Parameters
    ----------
    mean, spread : dict of str to Tensor of shape (n_members,), float64
        Mean and standard deviation, by the name of the part.
    """

    def __init__(self, mean: Mapping[str, Tensor], spread: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.names = tuple(mean)
        self.register_buffer("means", torch.stack([mean[name] for name in self.names]))
        self.register_buffer("spreads", torch.stack([spread[name] for name in self.names]))
        self.means: Tensor
        self.spreads: Tensor

    @classmethod
    def of(
        cls,
        parts: Mapping[str, Tensor],
        units: Mapping[str, Callable[[Tensor], Tensor]] | None = None,
    ) -> Self:
        """Fit to the parts of training samples, (K, n) each.

        `units` maps a part to the function of its standard deviation that it is divided by.
        """
        mean, spread, units = {}, {}, units or {}
        for name, values in parts.items():
            values = values.double()
            mean[name] = values.mean(1)
            deviation = values.std(1, correction=0)
            # A part that is constant on the training samples, except for rounding in float32, is
            # not scaled.
            varies = deviation > torch.clamp(_CONSTANT * mean[name].abs(), min=1e-12)
            spread[name] = torch.where(varies, deviation, 1.0)
            if name in units:
                spread[name] = units[name](deviation)
        return cls(mean, spread)

    @property
    def mean(self) -> dict[str, Tensor]:
        """The mean of each part, (n_members,)."""
        return dict(zip(self.names, self.means, strict=True))

    @property
    def spread(self) -> dict[str, Tensor]:
        """The standard deviation of each part, (n_members,)."""
        return dict(zip(self.names, self.spreads, strict=True))

    def standardised(self, name: str, values: Tensor) -> Tensor:
        """The part (K, B) in standard deviations of the training samples."""
        i = self.names.index(name)
        return (values.cpu().double() - self.means[i][:, None]) / self.spreads[i][:, None]


class Neighbours(nn.Module):
    """Reference training samples, and the distances of new samples to them.

    The distance to a reference is divided by the square root of the reference's own distance to its
    nearest references (local scaling). A plain distance misses anomalies near a dense cluster, and
    flags a whole sparse cluster. The quotient of distances, as in the local outlier factor, flags
    the border of a dense cluster. The square root is better than either in benchmarks/ideas.md.

    Parameters
    ----------
    points : Tensor of shape (n_members, n_references, n_dimensions)
    spreads : Tensor of shape (n_members, n_references)
        The divisor of the squared distances to each reference.
    order : {1.0, 2.0, 4.0}, default=2.0
        The order of the norm of distances. Unless it is 2, it is computed for candidates: some of
        the references nearest by the Euclidean (L2) norm. A lower order gives more weight to many
        small differences; a higher order is less sensitive to a small change of all values.
    axes : Tensor of shape (n_values, n_dimensions) or None, default=None
        The principal axes of the concatenated values of all members, if these are joined to one
        point. `points` then has one member.

    References
    ----------
    Breunig, Kriegel, Ng and Sander, "LOF: identifying density-based local outliers", SIGMOD 2000.
    """

    def __init__(
        self, points: Tensor, spreads: Tensor, order: float = 2.0, axes: Tensor | None = None
    ) -> None:
        super().__init__()
        self.order = order
        self.register_buffer("axes", axes)
        self.axes: Tensor | None
        self.register_buffer("points", points)
        self.register_buffer("spreads", spreads)
        self.points: Tensor
        self.spreads: Tensor
        # The terms of a matrix product that finds the nearest: |z|² - 2 z·p + |p|², divided by the
        # scale, relative to the centre of the references, which is most accurate.
        center = points.mean(dim=1, keepdim=True)
        p = points - center
        terms = torch.cat(
            [-2 * p, torch.ones_like(p[..., :1]), p.square().sum(-1, keepdim=True)], dim=-1
        )
        usual_norm = torch.linalg.vector_norm(points, dim=-1).mean(dim=1, keepdim=True)
        self.register_buffer("center", center, persistent=False)
        self.register_buffer("terms", (terms / spreads.unsqueeze(-1)).mT, persistent=False)
        self.register_buffer("usual_norm", usual_norm, persistent=False)
        self.register_buffer("factors", spreads.rsqrt(), persistent=False)
        self.factors: Tensor
        self.center: Tensor
        self.terms: Tensor
        self.usual_norm: Tensor

    @classmethod
    def of(cls, points: Tensor, order: float = 2.0, axes: Tensor | None = None) -> Self:
        """From references (n_members, n_references, n_dimensions), with computed scales.

        For joined points, `axes` are the axes of the projection.
        """
        plain = cls.plain(points, order)
        n_members, _, n_dimensions = points.shape
        blocks = points.split(max(_BLOCK_VALUES // (n_members * n_dimensions), 1), dim=1)
        spreads = torch.cat([plain.distance(block) for block in blocks], dim=1)
        # Duplicate samples have a distance of 0 to each other.
        usual = spreads.mean(dim=1, keepdim=True)
        spreads = torch.maximum(spreads, _LEAST_SCALE * usual)
        return cls(points, torch.where(usual > 0, spreads, 1.0), order, axes)

    @classmethod
    def of_joined(cls, points: Tensor) -> Self:
        """From the codes of all members (n_members, n_references, n_dimensions), as one point.

        The codes are concatenated and reduced by PCA to the size of one code: members have the same
        samples, so that most differences between them are noise. One search in so few dimensions
        takes the time of one member, and ranks no worse than the mean over all members
        (benchmarks/ideas.md).
        """
        axes = principal_axes(joined(points), points.shape[-1])
        return cls.of(joined(points, axes), axes=axes)

    @classmethod
    def of_joined_table(cls, points: Tensor) -> Self:
        """From the codes of encoded rows of a table: joined, with half of the local scaling."""
        return cls.of_joined(points)._scaled_half()

    @classmethod
    def of_table(cls, points: Tensor, order: float = 2.0) -> Self:
        """From encoded rows of a table, or their codes, with half of the local scaling.

        Rows of categories are often equal, or differ by whole steps, so that the distances to their
        own neighbours are a worse estimate of the density.
        """
        return cls.of(points, order)._scaled_half()

    def _scaled_half(self) -> Self:
        """The same references with half of the local scaling."""
        return type(self)(self.points, self.spreads.sqrt(), self.order, self.axes)

    @classmethod
    def plain(cls, points: Tensor, order: float = 2.0) -> Self:
        """From references without local scaling."""
        return cls(points, torch.ones_like(points[..., 0]), order)

    @classmethod
    def among_draws(cls, points: Tensor, order: float = 2.0) -> Self:
        """From references (1, n_references, n_dimensions): each random subsample is a member."""
        return cls.plain(points[0, draws(points.shape[1])], order)

    def distance(self, z: Tensor) -> Tensor:
        """Mean distance of points (K, B, n_dimensions) to the nearest references: (K, B).

        Points that are the same for all members may have the shape (1, B, n_dimensions); joined
        points have one distance, (1, B).

        One reference at a distance of 0, except for rounding, is ignored: it is the sample itself,
        and a training sample must not have a smaller distance than a new one.
        """
        nearest, plain, has_own = self._nearest(z)
        distances: Tensor = (plain * _taken(self.factors, nearest)).sort(dim=-1).values
        if nearest.shape[-1] == 1:
            return distances[..., 0]
        return torch.where(has_own, distances[..., 1:].mean(-1), distances[..., :-1].mean(-1))

    def differences(self, z: Tensor) -> Tensor:
        """Mean absolute difference of points (K, B, n_dimensions) to references, per dimension.

        The references are those whose distances are averaged in `distance`.
        """
        nearest, plain, has_own = self._nearest(z)
        order = (plain * _taken(self.factors, nearest)).argsort(dim=-1)
        found = _taken(self.points, nearest.gather(-1, order))
        differences: Tensor = (found - z.unsqueeze(2)).abs()
        if nearest.shape[-1] == 1:
            return differences[..., 0, :]
        others, all_but_last = differences[..., 1:, :].mean(2), differences[..., :-1, :].mean(2)
        return torch.where(has_own.unsqueeze(-1), others, all_but_last)

    def _nearest(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The nearest references, their plain distances, and whether one is the sample itself."""
        points = self.points
        z = z.expand(len(points), -1, -1) if self.axes is None else joined(z, self.axes)
        n_nearest = min(_N_NEIGHBOURS + 1, points.shape[1])
        n_candidates = min(CANDIDATES[self.order] * n_nearest, points.shape[1])
        z_p = z - self.center
        z_terms = torch.cat(
            [z_p, z_p.square().sum(-1, keepdim=True), torch.ones_like(z_p[..., :1])], dim=-1
        )
        squares = torch.bmm(z_terms, self.terms)
        nearest = smallest(squares, n_candidates, exact=n_candidates == n_nearest)
        # Only their distances are then computed accurately.
        plain = _norm(_taken(points, nearest) - z[:, :, None], self.order)
        norm = torch.maximum(torch.linalg.vector_norm(z, dim=-1), self.usual_norm)
        has_own = plain.amin(-1) <= _ROUNDING * norm
        if n_candidates > n_nearest:
            plain, kept = plain.topk(n_nearest, dim=-1, largest=False, sorted=False)
            nearest = nearest.gather(-1, kept)
        return nearest, plain, has_own


def _taken(values: Tensor, which: Tensor) -> Tensor:
    """The values (K, n, ...) of each member at positions (K, B, m): (K, B, m, ...)."""
    # One index into all members: torch selects by one index several times faster than by two.
    first = torch.arange(len(values), device=values.device)[:, None, None] * values.shape[1]
    taken: Tensor = values.flatten(0, 1).index_select(0, (which + first).flatten())
    return taken.reshape(*which.shape, *values.shape[2:])


def _norm(differences: Tensor, order: float) -> Tensor:
    """The norm along the last axis."""
    if order == 1:
        # vector_norm has no fast kernel for this norm.
        return differences.abs().sum(-1)
    norm: Tensor = torch.linalg.vector_norm(differences, ord=order, dim=-1)
    return norm


def joined(points: Tensor, axes: Tensor | None = None) -> Tensor:
    """Points (K, B, n) of all members concatenated, (1, B, K * n), or projected on these axes."""
    side_by_side: Tensor = points.transpose(0, 1).flatten(1)
    if axes is None:
        return side_by_side.unsqueeze(0)
    width = axes.shape[1]
    filled = nn.functional.pad(axes, (0, max(LEAST_WIDTH - width, 0)))
    return (side_by_side @ filled)[:, :width].unsqueeze(0)


def principal_axes(points: Tensor, n: int) -> Tensor:
    """The first n principal axes (n_values, n) of points (1, B, n_values)."""
    centered = points[0].double() - points[0].double().mean(0)
    # By the covariance matrix, whose size does not depend on the number of samples.
    vectors: Tensor = torch.linalg.eigh(centered.T @ centered).eigenvectors
    return vectors.flip(1)[:, :n].to(points.dtype).contiguous()


def smallest(
    values: Tensor, n: int, *, exact: bool = True, sizes: Sequence[int] = _GROUPS
) -> Tensor:
    """The positions of the n smallest values along the last axis, in any order.

    For many values the minima of groups are computed first: the n smallest values are in the n
    groups with the smallest minima, which are found in the same way. Minima of groups take a tenth
    of the time of a full search.

    Parameters
    ----------
    values : Tensor
    n : int
    exact : bool, default=True
        False returns the smallest value of each of n groups, which takes less than half of the
        time: candidates, with the smallest value among them.
    sizes : sequence of int
        The sizes of the groups, of those of groups, and so on.
    """
    size, *others = sizes or (values.shape[-1],)
    n_groups = -(-values.shape[-1] // size)
    if n_groups < max(_LEAST_GROUPS, n):
        return values.topk(n, dim=-1, largest=False, sorted=False).indices
    # A group has every n_groups-th value, so that minima are over contiguous rows in memory.
    n_missing = size * n_groups - values.shape[-1]
    filled = nn.functional.pad(values, (0, n_missing), value=math.inf) if n_missing else values
    minima = filled.unflatten(-1, (size, n_groups)).amin(-2)
    groups = smallest(minima, n, exact=exact, sizes=others)
    members = groups.unsqueeze(-1) + torch.arange(size, device=values.device) * n_groups
    grouped = filled.gather(-1, members.flatten(-2))
    if exact:
        among = grouped.topk(n, dim=-1, largest=False, sorted=False).indices
        return members.flatten(-2).gather(-1, among)
    among = grouped.unflatten(-1, members.shape[-2:]).min(-1, keepdim=True).indices
    return members.gather(-1, among).squeeze(-1)


def draws(n: int) -> Tensor:
    """Random subsamples of n references: their positions, (n_draws, size).

    In a small subsample the nearest references are far apart, so that a distance to them compares a
    sample with the whole distribution. A subsample contains few members of a group of anomalies.

    References
    ----------
    Zimek, Gaudet, Campello and Sander, "Subsampling for efficient and effective unsupervised
    outlier detection ensembles", KDD 2013.
    """
    size = max(min(int(_DRAW_SHARE * n), _DRAW_SIZE), min(n, _N_NEIGHBOURS + 1))
    # A separate generator, so that evaluating a detector during training does not change its draws.
    numbers: dict[str, Any] = {"generator": torch.Generator().manual_seed(0), "device": "cpu"}
    return torch.stack([torch.randperm(n, **numbers)[:size] for _ in range(_N_DRAWS)])


def without_farthest(points: Tensor, share: float) -> Tensor:
    """References (n_members, n, n_dimensions) without the share farthest from the rest.

    Parameters
    ----------
    points : Tensor
    share : float in [0, 0.5]
        The share of the references of each member, for references that may contain anomalies.
    """
    n = points.shape[1]
    if not share:
        return points
    among_few = [Neighbours.plain(points[:, draw]).distance(points) for draw in draws(n)]
    nearest = torch.stack(among_few).mean(0).argsort(dim=1, stable=True)[:, : n - int(share * n)]
    return points[torch.arange(len(points))[:, None], nearest.sort(dim=1).values]


def value_of(part: Part) -> Tensor:
    """The values (K, B) of a part, computed if it is a function."""
    return part() if callable(part) else part


def mix(
    parts: Mapping[str, Part], weights: Mapping[str, float], calibration: Calibration
) -> Tensor:
    """Weighted mean of standardised parts of each member: (K, B) each to (K, B)."""
    total = sum(weights.values())
    weighted: Iterable[Tensor] = (
        weight / total * calibration.standardised(name, value_of(parts[name]))
        for name, weight in weights.items()
        if weight
    )
    return torch.stack(list(weighted)).sum(0)


# The input scaler.

SCALINGS = ("auto", "unskewed", "standard", "robust", "unit", "symmetric", "none")
# Scalings by column, which compress extreme values.
_OF_COLUMNS = ("unskewed", "standard", "robust")

# The output activation of the decoder that covers the range of each scaling.
MATCHING_ACTIVATION = {
    "unskewed": "linear",
    "standard": "linear",
    "robust": "linear",
    "unit": "sigmoid",
    "symmetric": "tanh",
    "none": "linear",
}

# Standardised values beyond this many scales are compressed logarithmically: one extreme value must
# not dominate the other columns of a row, but a larger value must have a larger score.
_KNEE = 5.0
# The limit of scaled values, so that their squares and products do not overflow in float32.
_LIMIT = 1e15
# The limit of centers and scales, so that sums of squares do not overflow in float64.
_LARGEST = 1e151
# Largest number of rows from which medians and quartiles are computed.
_MAX_QUANTILE_ROWS = 20_000
# Number of values of the first rows that determine which values are extreme.
_MAX_HEAD_VALUES = 2**22


class Scaler(OnCPU):
    """An invertible map from the units of X to the input of the networks.

    Parameters
    ----------
    kind : {"unskewed", "standard", "robust", "unit", "symmetric", "none"}
        "standard" subtracts the mean and divides by the standard deviation of each column,
        "unskewed" does so after taking the logarithm of columns that are skewed, "robust" does so
        with the median and the interquartile range; all three compress values beyond 5 scales
        logarithmically. "unit" maps the range of the training data to [0, 1] and "symmetric" to
        [-1, 1]; the range of 8-bit images is always 0 to 255. "none" changes nothing. Scaled values
        are limited to 1e15 in absolute value.
    center, spread : array-like of float64
        Center and scale of each column for rows, one of each for images. A scale of 0 is that of a
        column that was constant in training.
    skew : array-like of shape (3, n_columns), float64, or None, default=None
        For "unskewed", for each column: 1 if its tail is towards large values, -1 if towards small
        ones, 0 if it is not skewed; the end without a tail; and the unit of the distance from that
        end in the logarithm of 1 + the distance. Values beyond that end are not transformed.

    Notes
    -----
    The arithmetic is in float64, so that a column around 1e9 with a scale of 1 keeps its precision;
    only the result is float32.
    """

    def __init__(
        self, kind: str, center: ArrayLike, spread: ArrayLike, skew: ArrayLike | None = None
    ) -> None:
        super().__init__()
        self.kind = kind
        for name, values in (("center", center), ("spread", spread), ("skew", skew)):
            ends = None if values is None else torch.tensor(np.asarray(values), dtype=torch.float64)
            self.register_buffer(name, ends)
        self.center: Tensor
        self.spread: Tensor
        self.skew: Tensor | None
        self.has_constants = not bool(self.spread.all())

    @classmethod
    def fitted(cls, kind: str, blocks: Iterable[np.ndarray], is_image: bool) -> Self:
        """Fit to blocks of samples, each (n, ...), which are read once.

        Parameters
        ----------
        kind : {"unskewed", "standard", "robust", "unit", "symmetric", "none"}
        blocks : iterable of ndarray
        is_image : bool
            Images have one center and scale, rows have those of each column.

        Raises
        ------
        ValueError
            If values are too large for a finite center and scale, or if the scaling is by column
            and X has images.
        """
        if kind == "none":
            size = max(abs(float(end)) for x in blocks for end in (x.min(), x.max()))
            if size > _LIMIT:
                raise ValueError(
                    f"X contains values of up to {size:.0e}, but scaling='none' takes up to "
                    f"{_LIMIT:.0e}: divide X by a power of ten, or choose another scaling."
                )
            return cls(kind, np.zeros(1), np.ones(1))
        if kind == "unskewed" and is_image:
            raise ValueError(
                "scaling='unskewed' takes logarithms of columns, but X contains images: leave "
                "scaling at 'auto'."
            )
        skew = None
        ends: list[np.ndarray] = []
        if is_image and kind in ("unit", "symmetric"):
            blocks = _with_ends(blocks, ends)
        with np.errstate(over="ignore", invalid="ignore"):
            if kind != "robust" and not is_image:
                head, blocks = _without_wild_values(iter(blocks))
                if kind == "unskewed":
                    skew = torch.from_numpy(skew_of(head))
                    blocks = (_unskewed(torch.from_numpy(x), skew).numpy() for x in blocks)
            center, spread = _center_and_spread(kind, blocks, is_image)
        sound = (np.abs(center) <= _LARGEST) & (spread <= _LARGEST)
        if not sound.all():
            where = "The pixels" if is_image else f"Column {int(np.argmin(sound))} of X"
            raise ValueError(
                f"{where} cannot be scaled: values are so large that their mean or scale "
                "overflows. Divide by a power of ten, take logarithms, or leave out these "
                "samples."
            )
        if ends and (told := wild_pixels_warning(np.concatenate(ends))):
            warnings.warn(told, UserWarning, stacklevel=8)
        negligible = spread <= 10 * np.finfo(np.float64).eps * np.abs(center)
        return cls(kind, center, np.where(negligible, 0.0, spread), skew)

    def __call__(self, x: np.ndarray | Tensor) -> Tensor:
        """Scale samples (n, ...), an array of any numeric dtype or a tensor, to float32."""
        scaled: Tensor = super().__call__(x)
        return scaled

    def forward(self, x: np.ndarray | Tensor) -> Tensor:
        """Scale in operations that torch can export."""
        if isinstance(x, np.ndarray):
            x = torch.from_numpy(np.ascontiguousarray(x.astype(np.float64)))
        if self.kind != "none":
            x = x.double()
            x = self._standardised(x if self.skew is None else _unskewed(x, self.skew))
        if self.kind in _OF_COLUMNS:
            beyond = x.abs() - _KNEE
            # Not log1p, which is infinite for the largest numbers in torch 2.5.
            compressed = x.sign() * (_KNEE + (1 + beyond.clamp(min=0)).log())
            x = torch.where(beyond > 0, compressed, x)
        return x.float().clamp(-_LIMIT, _LIMIT)

    def _standardised(self, x: Tensor) -> Tensor:
        center, spread = self._shaped(self.center, x), self._shaped(self.spread, x)
        if not self.has_constants:
            return (x - center) / spread
        # A constant column has no scale: every change has the same size, independent of its unit.
        is_constant = spread == 0
        change = change_of_constant(x, center, _KNEE)
        return torch.where(is_constant, change, (x - center) / torch.where(is_constant, 1, spread))

    def inverse(self, x: Tensor) -> Tensor:
        """Convert back to the units of X: (..., *sample shape) on any device, differentiable."""
        if self.kind == "none":
            return x
        if self.kind in _OF_COLUMNS:
            size = x.abs()
            stretched = _KNEE + torch.expm1((size - _KNEE).clamp(0, 80))
            x = torch.where(size > _KNEE, torch.copysign(stretched, x), x)
        x = x * self.spread.to(x) + self.center.to(x)
        return x if self.skew is None else _skewed(x, self.skew.to(x))

    def eps_unit(self, is_image: bool) -> float:
        """The unit of `eps` in scaled values: the range of images, or the scale of a column."""
        return 2.0 if is_image and self.kind == "symmetric" else 1.0

    def reach(self, x: Tensor, eps: Tensor, is_image: bool) -> tuple[Tensor, Tensor]:
        """The smallest and the largest values of samples whose scaled values change by `eps`.

        The compression of values beyond 5 scales is ignored: their change is in scales too.

        Parameters
        ----------
        x : Tensor of shape (n, ...)
            In the units of X, float64.
        eps : Tensor
            The largest change, which broadcasts with a sample.
        """
        change = eps * self.eps_unit(is_image) * self.spread
        if self.skew is None:
            return x - change, x + change
        z = _unskewed(x, self.skew)
        low, high = (_skewed(z + moved, self.skew) for moved in (-change, change))
        # The inverse of the logarithm is not exact: the sample itself is always included.
        return torch.minimum(low, x), torch.maximum(high, x)

    def scaled_range(self) -> tuple[float, float] | None:
        """The smallest and the largest scaled value of training images, if the kind fixes them."""
        return {"unit": (0.0, 1.0), "symmetric": (-1.0, 1.0)}.get(self.kind)

    def fitted_range(self) -> tuple[float, float] | None:
        """The smallest and the largest training value of images, if the kind stores them."""
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
    """Center and scale of the kind; not finite if X is too large."""
    if kind == "robust":
        return _quartiles(blocks, is_image)
    moments = _Moments(is_image)
    for block in blocks:
        moments.add(block)
    if kind in ("standard", "unskewed"):
        return moments.mean, moments.standard_deviation()
    low, width = moments.range()
    return (low + width / 2, width / 2) if kind == "symmetric" else (low, width)


def _with_ends(blocks: Iterable[np.ndarray], ends: list[np.ndarray]) -> Iterator[np.ndarray]:
    """The blocks; the smallest and the largest value of each image are appended to `ends`.

    8-bit images have a fixed range, in which no value is far beyond the others.
    """
    for block in blocks:
        if block.dtype != np.uint8:
            flat = block.reshape(len(block), -1)
            ends.append(np.stack([flat.min(1), flat.max(1)], axis=1).astype(np.float64))
        yield block


def _without_wild_values(
    blocks: Iterator[np.ndarray],
) -> tuple[np.ndarray, Iterator[np.ndarray]]:
    """Rows in which extreme values, such as fill values, are clipped.

    The first rows, which are returned with all blocks, determine the limits. A warning names the
    columns.
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

    def clipped(block: np.ndarray) -> np.ndarray:
        return np.clip(block.astype(np.float64), low, high)

    return clipped(sample), map(clipped, chain(head, blocks))


def _unskewed(x: Tensor, skew: Tensor) -> Tensor:
    """Skewed columns of x (n, d), as the logarithm of 1 + their distance from the end."""
    side, end, unit = skew
    distance = (side * x - end) / unit
    logarithm = (1 + distance.clamp(min=0)).log()
    return torch.where(side == 0, x, side * torch.where(distance > 0, logarithm, distance))


def _skewed(x: Tensor, skew: Tensor) -> Tensor:
    """The inverse of `_unskewed` for x (..., d)."""
    side, end, unit = skew
    x_tail = side * x
    distance = torch.where(x_tail > 0, torch.expm1(x_tail.clamp(0, 80)), x_tail)
    return torch.where(side == 0, x, side * (end + unit * distance))


class _Moments:
    """Mean, scale and range of blocks, by Chan's pairwise update, which is accurate."""

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


# From anomaly scores to flags.

# The score of a sample for which the networks overflow. It is representable in float32, which
# exported graphs may use.
WORST_SCORE = 2.0**126


def check_scores(anomaly_scores: ArrayLike) -> None:
    """Raise ValueError if a score is that of an overflow, which must not set a threshold."""
    if not (np.abs(anomaly_scores) < WORST_SCORE).all():
        raise ValueError(
            "Scores of X are not finite, so that the threshold cannot be set: leave out samples "
            "with values far from all others, or divide X by a power of ten before fit."
        )


def check_percentage(outlier_perc: Any) -> None:
    """Raise TypeError or ValueError unless this is a percentage."""
    if not isinstance(outlier_perc, Real) or isinstance(outlier_perc, bool):
        raise TypeError(
            f"outlier_perc must be a number from 0 to 100, such as 5 for 5 %, got {outlier_perc!r}."
        )
    if not 0 <= float(outlier_perc) <= 100:
        raise ValueError(f"outlier_perc must be in [0, 100], got {outlier_perc!r}.")


def warn_of_fraction(outlier_perc: float) -> None:
    """Warn about a percentage that was probably meant as a fraction.

    Parameters
    ----------
    outlier_perc : float in [0, 100]

    Warns
    -----
    UserWarning
        If it lies between 0 and 1.

    Examples
    --------
    >>> from gandetect.model.statistics import warn_of_fraction
    >>> warn_of_fraction(5)
    """
    if 0 < outlier_perc < 1:
        warnings.warn(
            f"outlier_perc={outlier_perc:g} is a percentage, not a fraction, and flags "
            f"{outlier_perc:g} % of the samples: pass {100 * outlier_perc:g} to flag "
            f"{100 * outlier_perc:g} %.",
            UserWarning,
            stacklevel=3,
        )


def warn_of_ties(anomaly_scores: np.ndarray, threshold: float, outlier_perc: float) -> None:
    """Warn about a threshold that flags far fewer scores than requested because of ties.

    Parameters
    ----------
    anomaly_scores : ndarray of shape (n_samples,)
        The scores that set the threshold.
    threshold : float
        The result of `threshold_at_percentile`.
    outlier_perc : float in [0, 100]
        The requested percentage.

    Warns
    -----
    UserWarning
        If at least one sample and a fifth of the requested ones are not flagged. The warning has
        both percentages, and the one that would flag the ties too.

    Examples
    --------
    >>> import numpy as np
    >>> from gandetect.model.statistics import threshold_at_percentile, warn_of_ties
    >>> scores = np.arange(100.0)
    >>> warn_of_ties(scores, threshold_at_percentile(scores, 5), 5)
    """
    n = len(anomaly_scores)
    n_asked = n * outlier_perc / 100
    n_flagged = int((anomaly_scores > threshold).sum())
    n_tied = int((anomaly_scores == threshold).sum())
    n_missed = n_asked - n_flagged
    # With distinct scores, less than one sample is missed.
    if n_missed < max(1, n_asked / 5):
        return
    # The percentage at which the threshold is the next lower score.
    larger = math.ceil(1e4 * (n_flagged + n_tied + 1) / (n + 1)) / 100
    warnings.warn(
        f"The threshold flags {100 * n_flagged / n:.3g} % of the samples and not "
        f"{outlier_perc:g} %: the scores of {100 * n_tied / n:.3g} % are equal to it, and ties are "
        f"not flagged. With outlier_perc={larger:g} they are flagged too.",
        UserWarning,
        stacklevel=3,
    )


def threshold_at_percentile(
    anomaly_scores: np.ndarray,
    outlier_perc: float,
    *,
    method: Literal["linear", "weibull"] = "weibull",
) -> float:
    """The threshold above which `outlier_perc` percent of the scores lie.

    A sample is flagged when its score is strictly greater than the threshold.

    Parameters
    ----------
    anomaly_scores : ndarray of shape (n_samples,)
        Larger is more anomalous.
    outlier_perc : float in [0, 100]
        The percentage to flag. With 0 none of the given scores is flagged, with 100 all are.
        Otherwise the threshold is interpolated between neighbouring scores; scores that equal it
        are not flagged, so that ties flag fewer, never more.
    method : {"linear", "weibull"}, default="weibull"
        The interpolation between neighbouring scores, by numpy's names. Both flag this percentage
        of the given scores, to within one or two scores. With "weibull" this percentage of *new*
        scores from the same source exceeds the threshold on average, for any number n of scores
        with a percentage of at least ``100 / (n + 1)``. For smaller percentages the threshold is
        above all scores: it is the point that this percentage of an exponential tail exceeds, with
        the slope of the upper half of the scores. For 11 normally distributed scores and 5 % it
        flags 4.6 %, and the largest score would flag 8.3 %. With "linear" the percentage is larger
        by nearly ``100 / n`` points.

    Returns
    -------
    float

    Raises
    ------
    TypeError, ValueError
        If `outlier_perc` is not a number, or is outside [0, 100].

    Examples
    --------
    >>> import numpy as np
    >>> from gandetect.model.statistics import threshold_at_percentile
    >>> scores = np.arange(100.0)
    >>> int((scores > threshold_at_percentile(scores, 5)).sum())
    5
    """
    check_percentage(outlier_perc)
    if outlier_perc == 100:
        return float(np.nextafter(np.min(anomaly_scores), -np.inf))
    n_too_few = 100 / outlier_perc - 1 if outlier_perc else 0
    if method == "weibull" and len(anomaly_scores) < n_too_few:
        return _in_the_tail(anomaly_scores, outlier_perc / 100)
    return float(np.percentile(anomaly_scores, 100 - outlier_perc, method=method))


def _in_the_tail(scores: np.ndarray, share: float) -> float:
    """The point that this share of an exponential tail exceeds; the largest score is at 1/(n+1)."""
    median = np.median(scores)
    upper = scores[scores > median]
    steepness = (upper - median).mean() if len(upper) else 0.0
    return float(scores.max() - steepness * np.log((len(scores) + 1) * share))


# The share of normal samples that contamination="auto" aims at.
_AUTO_SHARE = 0.05


def threshold_of_tail(anomaly_scores: np.ndarray) -> float:
    """The threshold that 5 % of normal samples exceed, from the median and the upper quartile.

    The upper tail of the scores of normal samples is modelled as exponential through their median
    and upper quartile. Anomalies among the samples, if they are less than a quarter, are beyond
    both and change them little, so that their share need not be known.

    Parameters
    ----------
    anomaly_scores : ndarray of shape (n_samples,)
        Larger is more anomalous.

    Returns
    -------
    float
        ``median + log2(10) * (upper quartile - median)``. If the two are equal because of ties, the
        threshold that 5 % of the scores exceed.

    Examples
    --------
    >>> import numpy as np
    >>> from gandetect.model.statistics import threshold_of_tail
    >>> scores = np.random.default_rng(0).exponential(size=1000)
    >>> contaminated = np.concatenate([scores, np.full(100, 50.0)])
    >>> [round(float((scores > threshold_of_tail(s)).mean()), 3) for s in (scores, contaminated)]
    [0.052, 0.016]
    """
    median, upper = np.quantile(anomaly_scores, [0.5, 0.75])
    if upper == median:
        return threshold_at_percentile(anomaly_scores, 100 * _AUTO_SHARE, method="linear")
    return float(median + math.log2(0.5 / _AUTO_SHARE) * (upper - median))


def conformal_p_values(anomaly_scores: np.ndarray, normal_scores: np.ndarray) -> np.ndarray:
    """Conformal p-values: the share of normal samples with a score at least as large.

    If a new sample is normal and its score exchangeable with those of `normal_scores`, its p-value
    is at most ``a`` with a probability of at most ``a``, for any detector and any distribution.

    Parameters
    ----------
    anomaly_scores : ndarray of shape (n_samples,)
        Larger is more anomalous.
    normal_scores : ndarray of shape (n_normal,)
        Scores of normal samples that the detector was not trained on.

    Returns
    -------
    ndarray of shape (n_samples,), float64
        ``(1 + number of normal scores at least as large) / (n_normal + 1)``: never 0, and in steps
        of ``1 / (n_normal + 1)``.

    References
    ----------
    Bates, Candès, Lei, Romano and Sesia, "Testing for outliers with conformal p-values", Annals
    of Statistics 51(1), 2023, equation 2.

    Examples
    --------
    >>> import numpy as np
    >>> from gandetect.model.statistics import conformal_p_values
    >>> conformal_p_values(np.array([0.0, 2.5, 9.0]), np.array([1.0, 2.0, 3.0])).tolist()
    [1.0, 0.5, 0.25]
    """
    ordered = np.sort(normal_scores)
    n_at_least_as_large = len(ordered) - np.searchsorted(ordered, anomaly_scores, side="left")
    return (1.0 + n_at_least_as_large) / (len(ordered) + 1)


def benjamini_hochberg(
    p_values: ArrayLike, false_discovery_rate: float = 0.05
) -> npt.NDArray[np.bool_]:
    """Flag samples with control of the false discovery rate (Benjamini-Hochberg procedure).

    Parameters
    ----------
    p_values : array-like of shape (n_samples,)
        In [0, 1], small for anomalies.
    false_discovery_rate : float in (0, 1), default=0.05
        The bound on the expected share of normal samples among the flagged samples.

    Returns
    -------
    ndarray of shape (n_samples,), bool
        True for flagged samples.

    Raises
    ------
    TypeError, ValueError
        If `false_discovery_rate` is not a number in (0, 1), or a p-value is outside [0, 1].

    References
    ----------
    Benjamini and Hochberg, "Controlling the false discovery rate", Journal of the Royal
    Statistical Society B 57(1), 1995. For the validity with conformal p-values, which are dependent
    because they have the same normal samples: Bates et al., Annals of Statistics 51(1), 2023,
    theorem 2.

    Examples
    --------
    >>> from gandetect.model.statistics import benjamini_hochberg
    >>> benjamini_hochberg([0.01, 0.03, 0.6, 0.02], 0.05).tolist()
    [True, True, False, True]
    """
    if not isinstance(false_discovery_rate, Real) or isinstance(false_discovery_rate, bool):
        raise TypeError(
            f"false_discovery_rate must be a number, such as 0.05, got {false_discovery_rate!r}."
        )
    if not 0 < float(false_discovery_rate) < 1:
        raise ValueError(
            f"false_discovery_rate must be between 0 and 1, got {false_discovery_rate!r}."
        )
    p_values = np.asarray(p_values, dtype=np.float64)
    if not ((p_values >= 0) & (p_values <= 1)).all():
        raise ValueError("p_values must all be in [0, 1].")
    adjusted = false_discovery_control(p_values)
    # Conformal p-values are on a grid and may equal the bound: rounding must not exceed it.
    return adjusted <= false_discovery_rate * (1 + 1e-12)


def cross_conformal_p_values(
    anomaly_scores: Sequence[np.ndarray], normal_scores: Sequence[np.ndarray]
) -> np.ndarray:
    """Cross-conformal p-values, with one detector for each fold.

    Each normal sample is scored by the detector that was not trained on it, so that all samples are
    used for training and for calibration. At most a share of about ``2 a`` of new normal samples
    has a p-value of at most ``a`` for any detector, and nearly ``a`` if leaving out a fold changes
    the scores little; for `conformal_p_values` the share is at most ``a``.

    Parameters
    ----------
    anomaly_scores : sequence of ndarray of shape (n_samples,)
        Scores of the new samples by the detector of each fold; larger is more anomalous.
    normal_scores : sequence of ndarray of shape (n_in_fold,)
        Scores of the samples of each fold, by the detector that was not trained on them.

    Returns
    -------
    ndarray of shape (n_samples,), float64
        ``(1 + number of normal scores at least as large) / (n_normal + 1)``.

    References
    ----------
    Vovk, "Cross-conformal predictors", Annals of Mathematics and Artificial Intelligence 74, 2015.
    The bound: Barber, Candès, Ramdas and Tibshirani, "Predictive inference with the jackknife+",
    Annals of Statistics 49(1), 2021, theorem 4.

    Examples
    --------
    >>> import numpy as np
    >>> from gandetect.model.statistics import cross_conformal_p_values
    >>> normal = np.array([1.0, 2.0]), np.array([10.0])
    >>> cross_conformal_p_values([np.array([0.0, 1.5]), np.array([0.0, 20.0])], normal).tolist()
    [1.0, 0.5]
    """
    n, n_at_least_as_large = 0, np.zeros(len(anomaly_scores[0]))
    for new, normal in zip(anomaly_scores, normal_scores, strict=True):
        n += len(normal)
        n_smaller = np.searchsorted(np.sort(normal), new, side="left")
        n_at_least_as_large += len(normal) - n_smaller
    return np.asarray((1.0 + n_at_least_as_large) / (n + 1))


# Number of simulations for the envelope of the bound on false discoveries, and for its calibration;
# and the number of levels of p-values, evenly spaced in their logarithm.
_N_BOUND_DRAWS, _N_BOUND_LEVELS = 2000, 40


def false_discovery_bound(
    p_values: ArrayLike, is_flagged: ArrayLike, n_normal: int, confidence: float = 0.95
) -> int:
    """Upper confidence bound on the number of normal samples among the flagged ones.

    The bound holds for all sets of samples simultaneously, with this probability: a set may be
    selected by the scores, the p-values and the bounds of other sets.

    Parameters
    ----------
    p_values : array-like of shape (n_samples,)
        Conformal p-values of all samples of the batch, as from `conformal_p_values`.
    is_flagged : array-like of bool, shape (n_samples,)
        The set. It may depend on all data.
    n_normal : int
        Number of calibration samples of the p-values.
    confidence : float in (0, 1), default=0.95
        The probability, over the draw of the normal samples and of the batch.

    Returns
    -------
    int
        From 0 to the number of flagged samples.

    Raises
    ------
    TypeError, ValueError
        If `confidence` is not a number between 0 and 1, a p-value is outside [0, 1], or the shapes
        differ.

    Notes
    -----
    The joint distribution over all j of the number of m normal samples with a p-value of at most
    ``j / (n_normal + 1)`` depends on m and `n_normal` only (for scores without ties; ties make
    p-values larger). An envelope of simulated numbers is exceeded at any of some j with a
    probability of at most ``1 - confidence``. For each j it bounds the number of normal samples
    among the smaller p-values; all flagged samples with larger p-values are added. Half of the
    simulations define the envelope, the other half its width. All samples of the batch are assumed
    to be possibly normal.

    References
    ----------
    Gazin, Blanchard and Roquain, "Transductive conformal inference with adaptive scores", AISTATS
    2024, for the distribution; Blanchard, Neuvial and Roquain, "Post hoc confidence bounds on false
    positives using reference families", Annals of Statistics 48(3), 2020, for the bound. The
    envelope, which is their template, is defined here by the ranks of simulated numbers.

    Examples
    --------
    >>> import numpy as np
    >>> from gandetect.model.statistics import false_discovery_bound
    >>> p_values = np.r_[np.full(20, 1 / 1001), np.linspace(0.01, 1, 80)]
    >>> false_discovery_bound(p_values, p_values < 0.002, n_normal=1000)
    2
    """
    if not isinstance(confidence, Real) or isinstance(confidence, bool):
        raise TypeError(f"confidence must be a number, such as 0.95, got {confidence!r}.")
    if not 0 < float(confidence) < 1:
        raise ValueError(f"confidence must be between 0 and 1, got {confidence!r}.")
    p_values, is_flagged = np.asarray(p_values, dtype=np.float64), np.asarray(is_flagged)
    if not ((p_values >= 0) & (p_values <= 1)).all():
        raise ValueError("p_values must all be in [0, 1].")
    if is_flagged.shape != p_values.shape or is_flagged.dtype != bool:
        raise ValueError(
            f"is_flagged must have one boolean for each sample, {p_values.shape}, got "
            f"{is_flagged.dtype} of shape {is_flagged.shape}."
        )
    levels, most = _most_normal(n_normal, len(p_values), float(confidence))
    # For p-values on a grid, rounding must not change their rank.
    ranks = np.round(p_values[is_flagged] * (n_normal + 1))
    n_above = np.array([int((ranks > level).sum()) for level in levels])
    return int(min((most + n_above).min(initial=len(ranks)), len(ranks)))


@lru_cache(maxsize=32)  # the sets that are chosen from one batch share it
def _most_normal(
    n_normal: int, n_samples: int, confidence: float
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Ranks of p-values, and the largest number of normal samples up to each rank."""
    levels = np.unique(np.geomspace(1, n_normal, _N_BOUND_LEVELS).round().astype(np.int64))
    rng = np.random.default_rng(0)

    def drawn() -> npt.NDArray[np.int64]:
        # The mass of a normal score above the j-th largest of n others, jointly for all levels.
        steps = np.diff(levels, prepend=0, append=n_normal + 1)
        masses = rng.standard_gamma(steps, size=(_N_BOUND_DRAWS, len(steps)))
        masses /= masses.sum(axis=1, keepdims=True)
        counts = rng.multinomial(n_samples, masses)
        return np.asarray(counts.cumsum(axis=1)[:, :-1])

    ordered = np.sort(drawn(), axis=0)[::-1]
    # For each simulation the smallest rank at which it exceeds the envelope.
    others = drawn()
    n_as_large = np.array(
        [
            np.searchsorted(-column, -other, side="right")
            for column, other in zip(ordered.T, others.T, strict=True)
        ]
    )
    # The envelope at rank k is exceeded by a simulation with at most k others as large at a level.
    first = np.sort(n_as_large.min(axis=0))
    n_allowed = int((1 - confidence) * (_N_BOUND_DRAWS + 1)) - 1
    place = int(first[n_allowed]) - 1 if n_allowed >= 0 else -1
    envelope = ordered[place] if place >= 0 else np.full(len(levels), n_samples)
    return levels, np.asarray(envelope, dtype=np.int64)
