"""Textures, the content of simulated anomalies: procedural, or from images."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from gandetect.data.images import ImageFolder
from gandetect.simulation.perlin import drawing_from, perlin_noise, random_cells

SOURCES = ("procedural", "patches")
# Procedural textures: as many as fit into 32 MiB, within these limits. Flips and shifts increase
# their variety.
_POOL_VALUES = 2**23
_POOL_SIZES = (32, 256)
# Bytes of resized textures that are kept in memory, so that they are not read again.
_KEPT_BYTES = 2**28


class Textures:
    """The images of a source as textures with values in [0, 1], each read when it is drawn.

    All images are used. Up to 256 MiB, with 8 bits per value, are kept in memory: all 5,640 images
    of the Describable Textures Dataset at 128 pixels, or about 1,400 of them at 256 pixels. The
    others are read again at each draw.

    Parameters
    ----------
    images : sequence of ndarray
        Images (H, W) or (H, W, C): an array, or an `ImageFolder`.
    n_channels : int
    size : tuple of int
        Height and width.
    """

    def __init__(
        self, images: Sequence[Any] | np.ndarray, n_channels: int, size: tuple[int, int]
    ) -> None:
        self.images = images
        self.shape = (len(images), n_channels, *size)
        # Images of an array are scaled by the range of the array, those of a folder by their own.
        self.limits: tuple[float, float] | None = None
        if isinstance(images, np.ndarray) and images.dtype != np.uint8:
            self.limits = float(images.min()), float(images.max())
        most = max(_KEPT_BYTES // (n_channels * math.prod(size)), 1)
        # One block for all kept textures. Separate allocations between those of temporary textures
        # would fragment the memory, and take a multiple of their size.
        shape = (min(most, len(images)), n_channels, *size)
        self._kept = torch.empty(shape, dtype=torch.uint8, device="cpu")
        self._places: dict[int, int] = {}

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Tensor) -> Tensor:
        """Return textures (n, n_channels, height, width) for an index (n,)."""
        return torch.stack([self._texture(i) for i in index.tolist()]).float() / 255

    def _texture(self, i: int) -> Tensor:
        if i in self._places:
            return self._kept[self._places[i]]
        texture = (255 * self._as_texture(self.images[i])).round().to(torch.uint8)
        if len(self._places) < len(self._kept):
            self._places[i] = len(self._places)
            self._kept[self._places[i]] = texture
        return texture

    def _as_texture(self, image: np.ndarray) -> Tensor:
        x = torch.from_numpy(image.astype(np.float32))
        if image.dtype == np.uint8:
            x = x / 255
        else:
            low, high = self.limits or (float(x.min()), float(x.max()))
            x = (x - low) / max(high - low, 1e-12)
        x = x.movedim(-1, 0) if x.ndim == 3 else x[None]
        _, n_channels, *size = self.shape
        if len(x) != n_channels:
            x = x.mean(dim=0, keepdim=True).expand(n_channels, -1, -1)
        return F.interpolate(x[None], size, mode="bilinear", antialias=True)[0].clamp(0, 1)


def texture_pool(
    source: Any,
    n_channels: int,
    size: tuple[int, int],
    generator: torch.Generator | None = None,
) -> Tensor | Textures | None:
    """Return textures in the size of the networks' input, with values in [0, 1].

    Parameters
    ----------
    source : str, path or ndarray
        "procedural"; a folder of images such as the Describable Textures Dataset; images (n, H, W)
        or (n, H, W, C); or "patches", which has no pool, because these are taken from the batch.
    n_channels : int
    size : tuple of int
        Height and width.
    generator : torch.Generator or None, default=None
        Draws procedural textures.

    Returns
    -------
    Tensor of shape (n, n_channels, height, width), Textures or None
        Procedural textures; all images of a folder or array, read when they are drawn; or None for
        "patches". ``pool[index]`` returns the textures for an index (n,), and ``len(pool)`` their
        number.
    """
    if isinstance(source, str) and source == "patches":
        return None
    if isinstance(source, str) and source == "procedural":
        n = min(max(_POOL_VALUES // (n_channels * math.prod(size)), _POOL_SIZES[0]), _POOL_SIZES[1])
        return procedural_textures(n, n_channels, size, generator)
    if isinstance(source, str | os.PathLike):
        source = ImageFolder(
            source, image_size=size, channels=n_channels if n_channels in (1, 3) else 3
        )
    return Textures(source, n_channels, size)


def check_source(source: Any) -> None:
    """Raise TypeError, ValueError or FileNotFoundError for an invalid source of textures."""
    if isinstance(source, str | os.PathLike):
        if source not in SOURCES and not os.path.isdir(source):
            raise FileNotFoundError(
                f"anomaly_source must be one of {list(SOURCES)}, an array of images or a folder "
                f"of images; there is no folder {str(source)!r}."
            )
        return
    if not isinstance(source, np.ndarray):
        raise TypeError(
            f"anomaly_source must be one of {list(SOURCES)}, an array of images or a folder of "
            f"images, got {type(source).__name__}."
        )
    if source.ndim not in (3, 4) or source.size == 0 or source.dtype.kind not in "buif":
        raise ValueError(
            "anomaly_source must contain numeric images (n, height, width) or (n, height, width, "
            f"channels), got shape {source.shape} of {source.dtype}."
        )
    if not np.isfinite(source).all():
        raise ValueError("anomaly_source contains NaN or infinity.")


def procedural_textures(
    n: int,
    n_channels: int,
    size: tuple[int, int],
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return clouds, stripes and blocks in random colours: (n, n_channels, height, width).

    Values are in [0, 1]. In the ablation study of DRAEM, procedural content is nearly as good as
    photographed textures (96 to 98 % image AUROC) if masks and opacity vary.
    """
    g = drawing_from(generator)
    fields = torch.stack([_clouds(n, size, g), _stripes(n, size, g), _blocks(n, size, g)])
    field = fields[torch.randint(len(fields), (n,), generator=g), torch.arange(n)][:, None]
    first, second = torch.rand(2, n, n_channels, 1, 1, generator=g)
    grain = torch.rand(n, 1, 1, 1, generator=g) * torch.randn(n, n_channels, *size, generator=g)
    return (torch.lerp(first, second, field) + 0.1 * grain).clamp(0, 1)


def _clouds(n: int, size: tuple[int, int], g: torch.Generator) -> Tensor:
    octaves = [
        perlin_noise(random_cells(n, size, (k, k), g), size, g) / (k + 1) for k in range(1, 5)
    ]
    return (0.5 + torch.stack(octaves).sum(0)).clamp(0, 1)


def _stripes(n: int, size: tuple[int, int], g: torch.Generator) -> Tensor:
    """Return waves of random direction, distorted by noise, with smooth or sharp edges."""
    angle, phase = math.pi * torch.rand(2, n, 1, 1, generator=g)
    n_waves = 2 + (max(size) / 6) * torch.rand(n, 1, 1, generator=g)
    y = torch.linspace(0, 1, size[0])[None, :, None]
    x = torch.linspace(0, 1, size[1])[None, None, :]
    bent = perlin_noise(random_cells(n, size, (1, 2), g), size, g)
    bent = bent * 2 * torch.rand(n, 1, 1, generator=g)
    wave = torch.sin(2 * math.pi * n_waves * (y * angle.sin() + x * angle.cos()) + phase + bent)
    return 0.5 + 0.5 * torch.tanh(wave * 10 ** torch.rand(n, 1, 1, generator=g))


def _blocks(n: int, size: tuple[int, int], g: torch.Generator) -> Tensor:
    """Return a mosaic of grey squares with sides of one pixel or more."""
    most = max(int(math.log2(max(size) / 2)), 0)
    side = 2 ** torch.randint(0, 1 + most, (n, 1, 1), generator=g)
    values = torch.rand(n, *size, generator=g)
    row = torch.arange(size[0])[None, :, None] // side
    column = torch.arange(size[1])[None, None, :] // side
    return values[torch.arange(n)[:, None, None], row, column]
