"""Simulated anomalies on images: a mask, a texture that fills it, and an opacity."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from gandetect.simulation.augmenters import changed_as_published, turned_as_published
from gandetect.simulation.perlin import drawing_from, perlin_masks
from gandetect.simulation.textures import Textures, texture_pool

_N_MASKS = 512
# The longer side of masks and textures; for larger images they are enlarged.
_LARGEST_SIDE = 512
# The probability of each change of a texture.
_CHANGE_PROBABILITY = 0.3


class ImageAnomalies:
    """Adds simulated anomalies to images.

    Masks and procedural textures are drawn from pools that are generated once. Each draw is
    shifted, mirrored and transposed at random, so that repetitions are rare; this takes a few per
    cent of the time of a training step. If the source is a folder or an array, all its images are
    used, each read when it is drawn.

    Parameters
    ----------
    source : str, path or ndarray
        See `texture_pool`.
    n_channels : int
    size : tuple of int
        Height and width of most images. For other sizes, and above 512 pixels, masks and textures
        are resized.
    scales : tuple of int
        See `perlin_masks`.
    probability : float
        The probability that an image gets an anomaly.
    opacity : tuple of float
        The range from which the opacity of the texture is drawn.
    augment : bool or "published"
        Whether brightness, contrast, tones and levels of textures are varied; "published" changes
        textures, and rotates normal images, as DRAEM's code does.
    generator : torch.Generator or None, default=None
        On the CPU; draws the pools and all later random numbers.

    References
    ----------
    Zavrtanik, Kristan and Skočaj, "DRAEM: a discriminatively trained reconstruction embedding for
    surface anomaly detection", ICCV 2021, section 3.3.
    """

    def __init__(
        self,
        source: Any,
        n_channels: int,
        size: tuple[int, int],
        *,
        scales: tuple[int, int] = (0, 5),
        probability: float = 0.5,
        opacity: tuple[float, float] = (0.1, 1.0),
        augment: bool | str = True,
        generator: torch.Generator | None = None,
    ) -> None:
        self.generator = drawing_from(generator)
        factor = min(_LARGEST_SIDE / max(size), 1)
        size = (max(round(factor * size[0]), 1), max(round(factor * size[1]), 1))
        self.masks = perlin_masks(_N_MASKS, size, scales, generator=self.generator)
        self.textures = texture_pool(source, n_channels, size, self.generator)
        self.probability, self.opacity, self.augment = probability, opacity, augment

    def __call__(self, x: Tensor, low: float = 0.0, high: float = 1.0) -> tuple[Tensor, Tensor]:
        """Add anomalies to a batch.

        Parameters
        ----------
        x : Tensor of shape (n, channels, height, width)
        low, high : float, default=0.0, 1.0
            The values of black and of white in x.

        Returns
        -------
        x_corrupted : Tensor of the shape of x
        mask : Tensor of shape (n, height, width)
            1 where x was changed, else 0.
        """
        n, g = len(x), self.generator
        mask = _taken(self.masks[:, None], n, g).to(x)
        if mask.shape[2:] != x.shape[2:]:
            mask = F.interpolate(mask, x.shape[2:])
        mask = mask[:, 0]
        mask = mask * (torch.rand(n, 1, 1, generator=g) < self.probability).to(x)
        texture = self._textures(x, low, high)
        opacity = torch.empty(n, 1, 1).uniform_(*self.opacity, generator=g).to(x)
        return torch.lerp(x, texture, (mask * opacity)[:, None]), mask

    def varied(self, x: Tensor, low: float = 0.0) -> Tensor:
        """Augment normal images (n, channels, height, width) for training; `low` is black."""
        if self.augment != "published":
            return x
        return turned_as_published(x, low, self.generator)

    def _textures(self, x: Tensor, low: float, high: float) -> Tensor:
        if self.textures is None:
            texture = (_taken(x, len(x), self.generator) - low) / (high - low)
        else:
            texture = _taken(self.textures, len(x), self.generator).to(x)
            if texture.shape[2:] != x.shape[2:]:
                texture = F.interpolate(texture, x.shape[2:], mode="bilinear")
        if self.augment == "published":
            texture = changed_as_published(texture, self.generator)
        elif self.augment:
            texture = _changed(texture, self.generator)
        return low + (high - low) * texture


def _taken(pool: Tensor | Textures, n: int, g: torch.Generator) -> Tensor:
    """Draw `n` images (m, C, H, W), each rolled, mirrored and, if square, transposed at random."""
    height, width = pool.shape[-2:]
    rows, columns = _shifted(n, height, g)[:, :, None], _shifted(n, width, g)[:, None, :]
    if height == width:
        is_turned = torch.rand(n, 1, 1, generator=g) < 0.5
        rows, columns = torch.where(is_turned, columns, rows), torch.where(is_turned, rows, columns)
    images = pool[torch.randint(len(pool), (n,), generator=g)]
    image, rows, columns = (
        index.to(images.device) for index in (torch.arange(n)[:, None, None], rows, columns)
    )
    # Indexing on both sides of the channel axis moves the index axes first, and the channels last.
    return images[image, :, rows, columns].movedim(-1, 1)


def _shifted(n: int, length: int, g: torch.Generator) -> Tensor:
    """Return indices 0 to `length` - 1, (n, length), rolled, and reversed with probability 0.5."""
    index = (torch.arange(length) + torch.randint(length, (n, 1), generator=g)) % length
    return torch.where(torch.rand(n, 1, generator=g) < 0.5, index, length - 1 - index)


def _changed(texture: Tensor, g: torch.Generator) -> Tensor:
    """Vary tones, contrast and levels of textures (n, C, H, W) in [0, 1]."""
    n, n_channels = texture.shape[:2]

    def drawn(low: float, high: float, n_values: int = 1) -> Tensor:
        return torch.empty(n, n_values, 1, 1).uniform_(low, high, generator=g).to(texture)

    def sometimes(changed: Tensor, unchanged: Tensor) -> Tensor:
        is_changed = (torch.rand(n, 1, 1, 1, generator=g) < _CHANGE_PROBABILITY).to(texture.device)
        return torch.where(is_changed, changed, unchanged)

    levels = drawn(2, 8).round()
    texture = sometimes((texture * levels).round() / levels, texture)
    texture = sometimes(torch.where(texture > drawn(0.3, 0.9), 1 - texture, texture), texture)
    texture = sometimes(texture.clamp(min=1e-3) ** (2 ** drawn(-1, 1, n_channels)), texture)
    contrasted = 0.5 + (texture - 0.5) * drawn(0.4, 1.6) + drawn(-0.2, 0.2, n_channels)
    return sometimes(contrasted, texture).clamp(0, 1)
