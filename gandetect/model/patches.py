"""References among the patches of normal images, and how far new patches are from them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# References to which each one's own distance is taken.
_N_OWN = 3
# References, and patches of an image, whose distances are computed at once: bounds the memory.
_BLOCK, _MOST_PATCHES = 2048, 2**14
# Of a distance: at 0 the root has no gradient.
_LEAST_SQUARE = 1e-12
# The least distance of a reference to its own nearest ones, of their mean.
_LEAST_UNIT = 0.05


class PatchBank(nn.Module):
    """Distances of patches to the nearest among references from normal images.

    A patch is the mean of 3 x 3 cells of a feature map, which is first averaged `stride` times
    `stride` cells. A distance in own units is divided by the square root of the reference's mean
    distance to the three references nearest to it: what varies much in normal images counts less.

    Parameters
    ----------
    n_references : int
    n_features : int
        Channels of the feature maps.
    stride : int, default=2
        By how many cells of a feature map patches are apart.

    Attributes
    ----------
    references : Tensor of shape (n_references, n_features)
    units : Tensor of shape (n_references,)
        By which squared distances to each reference are divided in own units.

    References
    ----------
    Roth et al., "Towards total recall in industrial anomaly detection", CVPR 2022.

    Examples
    --------
    >>> import torch
    >>> from gandetect.model.patches import PatchBank, drawn_patches
    >>> generator = torch.Generator().manual_seed(0)
    >>> maps = torch.rand(20, 6, 32, 24, generator=generator)
    >>> bank = PatchBank.of([drawn_patches(maps, 25, generator=generator)], generator=generator)
    >>> distances, in_own_units = bank(maps + 1)
    >>> distances.shape
    torch.Size([20, 16, 12])
    """

    references: Tensor
    units: Tensor

    def __init__(self, n_references: int, n_features: int, stride: int = 2) -> None:
        super().__init__()
        self.stride = stride
        self.register_buffer("references", torch.zeros(n_references, n_features))
        self.register_buffer("units", torch.ones(n_references))

    @classmethod
    def of(
        cls,
        patches: Sequence[Tensor],
        n_references: int = 10_000,
        *,
        stride: int = 2,
        generator: torch.Generator,
    ) -> Self:
        """References among the patches that `drawn_patches` gave.

        Parameters
        ----------
        patches : sequence of Tensor (n, n_features)
        n_references : int, default=10_000
            At most so many; all patches if they are fewer.
        stride : int, default=2
            With which they were drawn.
        generator : torch.Generator
            The only source of random numbers.
        """
        references = torch.cat(list(patches))
        if len(references) > n_references:  # fewer are wanted than there are images
            order = torch.randperm(len(references), generator=generator)[:n_references]
            references = references[order.to(references.device)]
        bank = cls(len(references), references.shape[1], stride)
        bank.references = references
        own = [bank._own_distance(block) for block in references.split(_BLOCK)]
        bank.units = torch.cat(own)
        usual = bank.units.mean()
        # References that occur many times have no distance to each other.
        bank.units = bank.units.clamp(min=_LEAST_UNIT * usual) if usual > 0 else bank.units + 1
        return bank

    def _own_distance(self, points: Tensor) -> Tensor:
        """The mean distance of references to the nearest ones but themselves."""
        n_nearest = min(_N_OWN + 1, len(self.references))
        squares = _squared_distances(points, self.references)
        nearest = squares.topk(n_nearest, dim=1, largest=False).values.clamp(min=0).sqrt()
        return nearest[:, 1:].mean(1) if n_nearest > 1 else nearest[:, 0]

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Distance of each patch to the nearest reference, plain and in own units.

        Parameters
        ----------
        maps : Tensor of shape (n, n_features, h, w)

        Returns
        -------
        distances, in_own_units : Tensor of shape (n, ⌈h / stride⌉, ⌈w / stride⌉)
            At least 0.
        """
        patches = _patches(maps, self.stride)
        points = patches.flatten(2).mT.flatten(0, 1)
        # What is exported takes any number of images, and so takes them all at once.
        is_traced = torch.compiler.is_compiling()
        parts = (points,) if is_traced else points.split(_MOST_PATCHES)
        nearest = (torch.cat(d) for d in zip(*map(self._nearest, parts), strict=True))
        distances, in_own_units = (d.unflatten(0, (-1, *patches.shape[2:])) for d in nearest)
        return distances, in_own_units

    def _nearest(self, points: Tensor) -> list[Tensor]:
        """The distance of points (n, n_features) to the nearest reference, in both units."""
        plain, own = [], []
        for start in range(0, len(self.references), _BLOCK):
            block = slice(start, start + _BLOCK)
            squares = _squared_distances(points, self.references[block])
            plain.append(squares.amin(1))
            own.append((squares / self.units[block]).amin(1))
        return [torch.stack(d).amin(0).clamp(min=_LEAST_SQUARE).sqrt() for d in (plain, own)]


def drawn_patches(
    maps: Tensor,
    n_each: int,
    *,
    stride: int = 2,
    inside: Tensor | None = None,
    generator: torch.Generator,
) -> Tensor:
    """Some patches of each image, at places without repetition.

    As many of each: what a whole image shows counts the same in all of them, whatever its size.

    Parameters
    ----------
    maps : Tensor of shape (n, n_features, h, w)
    n_each : int
        Patches of an image, or all if they are fewer.
    stride : int, default=2
        See `PatchBank`.
    inside : Tensor of shape (h, w) or None, default=None
        True for the cells that count; None for all.
    generator : torch.Generator
        The only source of random numbers.

    Returns
    -------
    Tensor of shape (n * n_each, n_features)
    """
    drawn = []
    found = _patches(maps, stride).flatten(2).mT
    if inside is not None:
        share = F.avg_pool2d(inside[None, None].to(maps), stride, ceil_mode=True)
        found = found[:, share.flatten() >= min(0.5, float(share.max()))]
    for patches in found:
        order = torch.randperm(len(patches), generator=generator)[:n_each]
        drawn.append(patches[order.to(patches.device)])
    return torch.cat(drawn)


class PlaceCalibration(nn.Module):
    """Maps in what is usual at their place: less the mean, divided by the spread.

    Both are those of normal images that nothing else was learned from. A quarter of the mean spread
    is added to every spread, as a spread of few images may be small by chance; and means and
    spreads are averaged over 3 x 3 cells.

    Parameters
    ----------
    size : sequence of int
        Height and width of the maps; maps of another size are calibrated by interpolation.

    Attributes
    ----------
    mean, spread : Tensor of shape (h, w)

    Examples
    --------
    >>> import torch
    >>> from gandetect.model.patches import PlaceCalibration
    >>> border = torch.zeros(4, 4)
    >>> border[0] = 5
    >>> maps = border + torch.rand(30, 4, 4, generator=torch.Generator().manual_seed(0))
    >>> bool(PlaceCalibration.of(maps)(maps).mean().abs() < 1)
    True
    """

    mean: Tensor
    spread: Tensor

    def __init__(self, size: Sequence[int]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(tuple(size)))
        self.register_buffer("spread", torch.ones(tuple(size)))

    @classmethod
    def of(cls, maps: Tensor | Sequence[Tensor]) -> Self:
        """From maps of kept-aside normal images.

        Parameters
        ----------
        maps : Tensor of shape (n, h, w), or sequence of such tensors
            Those of other sizes are interpolated to the largest height and width.
        """
        if not isinstance(maps, Tensor):
            size = [max(m.shape[axis] for m in maps) for axis in (1, 2)]
            maps = torch.cat([_resized(m[:, None], size)[:, 0] for m in maps])
        calibration = cls(maps.shape[1:])
        spread = maps.std(0, correction=0)
        calibration.mean = _averaged(maps.mean(0)[None, None], 3)[0, 0]
        calibration.spread = _averaged(spread[None, None], 3)[0, 0] + spread.mean() / 4
        if not calibration.spread.mean() > 0:  # a single map, or all alike
            calibration.spread = torch.ones_like(spread)
        return calibration

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (n, h, w) in standard deviations from what is usual at each place."""
        size = maps.shape[1:]
        mean, spread = (_resized(v[None, None], size)[:, 0] for v in (self.mean, self.spread))
        return (maps - mean) / spread


def gaussian_smoothed(maps: Tensor, deviation: float) -> Tensor:
    """Smooth maps by a Gaussian window, with the border repeated.

    Parameters
    ----------
    maps : Tensor of shape (n, h, w)
    deviation : float
        Standard deviation of the window, in cells.
    """
    reach = max(math.ceil(3 * deviation), 1)
    offsets = torch.arange(-reach, reach + 1, device=maps.device, dtype=maps.dtype)
    window = torch.exp(-(offsets**2) / (2 * deviation**2))
    window = (window / window.sum())[None, None]
    x = F.pad(maps[:, None], (reach,) * 4, mode="replicate")
    return F.conv2d(F.conv2d(x, window[..., None]), window[:, :, None])[:, 0]


def _patches(maps: Tensor, stride: int) -> Tensor:
    """Average maps (n, C, h, w) over squares of `stride`, then over 3 x 3 of these."""
    if stride > 1:
        maps = F.avg_pool2d(maps, stride, ceil_mode=True)
    return F.avg_pool2d(maps, 3, stride=1, padding=1, count_include_pad=False)


def _averaged(maps: Tensor, side: int) -> Tensor:
    return F.avg_pool2d(F.pad(maps, (side // 2,) * 4, mode="replicate"), side, stride=1)


def _resized(maps: Tensor, size: Sequence[int]) -> Tensor:
    size = tuple(size)
    return maps if maps.shape[2:] == size else F.interpolate(maps, size, mode="bilinear")


def _squared_distances(points: Tensor, references: Tensor) -> Tensor:
    """All squared distances, (n, d) to (m, d); rounding may take them below 0."""
    return torch.addmm(
        points.square().sum(1, keepdim=True) + references.square().sum(1),
        points,
        references.T,
        alpha=-2,
    )
