"""A memory bank of patches of normal images, and the distances of new patches to it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Number of nearest references whose mean distance is the own distance of a reference.
_N_OWN = 3
# Number of references, and of patches, whose distances are computed at once; limits the memory.
_BLOCK, _MOST_PATCHES = 2048, 2**14
# The smallest distance: the square root has no gradient at 0.
_LEAST_SQUARE = 1e-12
# The smallest own distance of a reference, relative to their mean.
_LEAST_UNIT = 0.05


class PatchBank(nn.Module):
    """Distances of patches to the nearest references from normal images.

    A patch is the mean of 3 x 3 cells of a feature map, which is first averaged over `stride` times
    `stride` cells. A distance in own units is divided by the square root of the mean distance of
    the reference to its three nearest references (local scaling), so that strong variation in
    normal images has less weight.

    Parameters
    ----------
    n_references : int
    n_features : int
        Channels of the feature maps.
    stride : int, default=2
        The stride of patches in cells of a feature map.

    Attributes
    ----------
    references : Tensor of shape (n_references, n_features)
    units : Tensor of shape (n_references,)
        The divisor of the squared distances to each reference in own units.
    origins : Tensor of shape (n_references,) or None
        The number of the image of each reference; None if it is unknown.

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
        self.origins: Tensor | None = None

    @classmethod
    def of(
        cls,
        patches: Sequence[Tensor],
        n_references: int = 10_000,
        *,
        origins: Sequence[Tensor] | None = None,
        stride: int = 2,
        generator: torch.Generator,
    ) -> Self:
        """Create a memory bank of patches from `drawn_patches`.

        Parameters
        ----------
        patches : sequence of Tensor (n, n_features)
        n_references : int, default=10_000
            The largest number of references; all patches if there are fewer.
        origins : sequence of Tensor (n,) or None, default=None
            For each patch the number of its image, by which `forward` can leave an image out.
        stride : int, default=2
            The stride of the patches.
        generator : torch.Generator
            The only source of random numbers.
        """
        references = torch.cat(list(patches))
        chosen = torch.arange(len(references))
        if len(references) > n_references:  # only with more images than `n_references`
            chosen = torch.randperm(len(references), generator=generator)[:n_references]
            references = references[chosen.to(references.device)]
        bank = cls(len(references), references.shape[1], stride)
        bank.references = references
        if origins is not None:
            bank.origins = torch.cat(list(origins))[chosen].to(references.device)
        own = [bank._own_distance(block) for block in references.split(_BLOCK)]
        bank.units = torch.cat(own)
        usual = bank.units.mean()
        # Duplicate references have a distance of 0 to each other.
        bank.units = bank.units.clamp(min=_LEAST_UNIT * usual) if usual > 0 else bank.units + 1
        return bank

    def _own_distance(self, points: Tensor) -> Tensor:
        """Return the mean distance of references to the nearest other references."""
        n_nearest = min(_N_OWN + 1, len(self.references))
        squares = _squared_distances(points, self.references)
        nearest = squares.topk(n_nearest, dim=1, largest=False).values.clamp(min=0).sqrt()
        return nearest[:, 1:].mean(1) if n_nearest > 1 else nearest[:, 0]

    def forward(self, maps: Tensor, without: int | None = None) -> tuple[Tensor, Tensor]:
        """Return the distance of each patch to the nearest reference, plain and in own units.

        Parameters
        ----------
        maps : Tensor of shape (n, n_features, h, w)
        without : int or None, default=None
            The number of an image whose references are ignored: this image itself, so that its
            distances are those of a new image.

        Returns
        -------
        distances, in_own_units : Tensor of shape (n, ⌈h / stride⌉, ⌈w / stride⌉)
            Distances, at least 0.
        """
        patches = _patches(maps, self.stride)
        points = patches.flatten(2).mT.flatten(0, 1)
        # An exported model processes a batch of any size at once.
        is_traced = torch.compiler.is_compiling()
        parts = (points,) if is_traced else points.split(_MOST_PATCHES)
        found = [self._nearest(part, without) for part in parts]
        nearest = (torch.cat(d) for d in zip(*found, strict=True))
        distances, in_own_units = (d.unflatten(0, (-1, *patches.shape[2:])) for d in nearest)
        return distances, in_own_units

    def _nearest(self, points: Tensor, without: int | None) -> list[Tensor]:
        """Return the distance of points (n, n_features) to the nearest reference, in both units."""
        plain, own = [], []
        ignored = None if self.origins is None or without is None else self.origins == without
        if ignored is not None and ignored.all():  # the only image
            ignored = None
        for start in range(0, len(self.references), _BLOCK):
            block = slice(start, start + _BLOCK)
            squares = _squared_distances(points, self.references[block])
            if ignored is not None:
                squares = squares.masked_fill(ignored[block], math.inf)
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
    """Draw patches of each image at random, without repetition.

    The number is the same for each image, so that images of all sizes have equal weight.

    Parameters
    ----------
    maps : Tensor of shape (n, n_features, h, w)
    n_each : int
        Number of patches of an image, or all if there are fewer.
    stride : int, default=2
        See `PatchBank`.
    inside : Tensor of shape (h, w) or None, default=None
        True for the cells inside the region; None for all.
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
    """Standardisation of maps at each position, by mean and standard deviation.

    Both are computed on held-out normal images. A quarter of the mean standard deviation is added
    to each standard deviation, because with few images some are small by chance. Means and standard
    deviations are averaged over 3 x 3 cells.

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
        """Fit to maps of held-out normal images.

        Parameters
        ----------
        maps : Tensor of shape (n, h, w), or sequence of such tensors
            Maps of different sizes are interpolated to the largest height and width.
        """
        if not isinstance(maps, Tensor):
            size = [max(m.shape[axis] for m in maps) for axis in (1, 2)]
            maps = torch.cat([_resized(m[:, None], size)[:, 0] for m in maps])
        calibration = cls(maps.shape[1:])
        spread = maps.std(0, correction=0)
        calibration.mean = _averaged(maps.mean(0)[None, None], 3)[0, 0]
        calibration.spread = _averaged(spread[None, None], 3)[0, 0] + spread.mean() / 4
        if not calibration.spread.mean() > 0:  # a single map, or all equal
            calibration.spread = torch.ones_like(spread)
        return calibration

    def forward(self, maps: Tensor) -> Tensor:
        """Return maps (n, h, w) in standard deviations from the mean at each position."""
        size = maps.shape[1:]
        mean, spread = (_resized(v[None, None], size)[:, 0] for v in (self.mean, self.spread))
        return (maps - mean) / spread


def gaussian_smoothed(maps: Tensor, deviation: float) -> Tensor:
    """Smooth maps by a Gaussian window, with replicated borders.

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
    """Return all squared distances, (n, d) to (m, d); rounding can make them negative."""
    return torch.addmm(
        points.square().sum(1, keepdim=True) + references.square().sum(1),
        points,
        references.T,
        alpha=-2,
    )
