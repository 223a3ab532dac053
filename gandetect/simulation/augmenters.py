"""DRAEM's augmentation of textures and of normal images, on batches of tensors.

The operations and their ranges are those of the released code: each texture gets three different
ones of ten operations, and three in ten normal images are rotated.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

_N_CHANGES = 3
_TURNED_SHARE = 0.3
_TURNED_DEGREES = 90.0
_LEVELS = 256
# The weights of red, green and blue in the brightness of a pixel.
_LUMA = (0.299, 0.587, 0.114)


def changed_as_published(textures: Tensor, g: torch.Generator) -> Tensor:
    """Apply three of ten operations to each texture.

    Parameters
    ----------
    textures : Tensor of shape (n, channels, height, width)
        Values in [0, 1].
    g : torch.Generator
        On the CPU.

    Returns
    -------
    Tensor of the same shape, with values in [0, 1]

    Notes
    -----
    The operations, with amounts in units of 255 levels, are: gamma of 0.5 to 2 for each channel;
    brightness times 0.8 to 1.2 and plus -30 to 30; sharpness from none to three times; hue and
    saturation plus -50 to 50 (colour images only); solarisation, which inverts values above a
    threshold of 32 to 128, with probability 0.5; posterisation to 1 to 8 bits; inversion; contrast
    stretching, with up to a fifth of the values clipped at each end; histogram equalisation;
    rotation by -45 to 45 degrees, with black corners.

    References
    ----------
    Zavrtanik, Kristan and Skočaj, "DRAEM: a discriminatively trained reconstruction embedding for
    surface anomaly detection", ICCV 2021, section 3.3, and its released code.
    """
    chosen = torch.stack([torch.randperm(len(_CHANGES), generator=g) for _ in textures])
    changed = textures.clone()
    for step in range(_N_CHANGES):
        for number, change in enumerate(_CHANGES):
            which = (chosen[:, step] == number).nonzero()[:, 0].to(textures.device)
            if len(which):
                changed[which] = change(changed[which], g).clamp(0, 1)
    return changed


def turned_as_published(x: Tensor, fill: float, g: torch.Generator) -> Tensor:
    """Rotate three in ten images by -90 to 90 degrees.

    Parameters
    ----------
    x : Tensor of shape (n, channels, height, width)
    fill : float
        The value of the corners, which the rotated image does not cover.
    g : torch.Generator
        On the CPU.
    """
    is_turned = torch.rand(len(x), generator=g) < _TURNED_SHARE
    which = is_turned.nonzero()[:, 0].to(x.device)
    degrees = _drawn(len(which), -_TURNED_DEGREES, _TURNED_DEGREES, g)[:, 0, 0, 0]
    turned = x.clone()
    if len(which):
        turned[which] = fill + _turned(x[which] - fill, degrees)
    return turned


def _drawn(n: int, low: float, high: float, g: torch.Generator, n_values: int = 1) -> Tensor:
    return torch.empty(n, n_values, 1, 1).uniform_(low, high, generator=g)


def _turned(x: Tensor, degrees: Tensor) -> Tensor:
    """Rotate images about their centres; pixels from outside of the image are 0."""
    height, width = x.shape[2:]
    angle = (degrees * (math.pi / 180)).to(x)
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    # Coordinates of the grid are -1 to 1 on both axes, so they are scaled by the aspect ratio.
    rows = [
        torch.stack([cos, -sin * (height / width), zero], dim=1),
        torch.stack([sin * (width / height), cos, zero], dim=1),
    ]
    grid = F.affine_grid(torch.stack(rows, dim=1), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, align_corners=False)


def _gamma(x: Tensor, g: torch.Generator) -> Tensor:
    power: Tensor = x ** _drawn(len(x), 0.5, 2.0, g, x.shape[1]).to(x)
    return power


def _brightness(x: Tensor, g: torch.Generator) -> Tensor:
    factor = _drawn(len(x), 0.8, 1.2, g).to(x)
    offset = _drawn(len(x), -30 / 255, 30 / 255, g).to(x)
    luma = x.mean(1, keepdim=True)
    if x.shape[1] == 3:
        luma = (x * torch.tensor(_LUMA).to(x)[:, None, None]).sum(1, keepdim=True)
    return x + (factor - 1) * luma + offset


def _sharpness(x: Tensor, g: torch.Generator) -> Tensor:
    kernel = torch.ones(3, 3)
    kernel[1, 1] = 5
    kernel = (kernel / kernel.sum()).to(x).expand(x.shape[1], 1, 3, 3)
    smooth = F.conv2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), kernel, groups=x.shape[1])
    return torch.lerp(smooth, x, _drawn(len(x), 0, 3, g).to(x))


def _hue_and_saturation(x: Tensor, g: torch.Generator) -> Tensor:
    hue_shift, more = _drawn(len(x), -50 / 255, 50 / 255, g, 2).to(x).chunk(2, dim=1)
    if x.shape[1] != 3:
        return x
    hue, saturation, value = _hsv(x)
    return _rgb((hue + hue_shift) % 1, (saturation + more).clamp(0, 1), value)


def _solarized(x: Tensor, g: torch.Generator) -> Tensor:
    threshold = _drawn(len(x), 32 / 255, 128 / 255, g).to(x)
    is_changed = (torch.rand(len(x), 1, 1, 1, generator=g) < 0.5).to(x.device)
    return torch.where(is_changed & (x >= threshold), 1 - x, x)


def _posterized(x: Tensor, g: torch.Generator) -> Tensor:
    bits = torch.randint(1, 9, (len(x), 1, 1, 1), generator=g).to(x.device)
    step = 2 ** (8 - bits)
    levels = (x * (_LEVELS - 1)).round().long()
    return (levels - levels % step).to(x) / (_LEVELS - 1)


def _inverted(x: Tensor, g: torch.Generator) -> Tensor:
    return 1 - x


def _stretched(x: Tensor, g: torch.Generator) -> Tensor:
    """Stretch the contrast over all levels, for each channel separately."""
    cut = _drawn(len(x), 0, 0.2, g)[:, 0, 0, 0]
    ordered = x.flatten(2).sort(dim=2).values
    n_values = ordered.shape[2]
    first = (cut * (n_values - 1)).long().to(x.device)[:, None, None].expand(-1, x.shape[1], -1)
    low = ordered.gather(2, first)[..., None]
    high = ordered.gather(2, n_values - 1 - first)[..., None]
    is_flat = high <= low
    return torch.where(is_flat, x, (x - low) / (high - low).masked_fill(is_flat, 1))


def _equalized(x: Tensor, g: torch.Generator) -> Tensor:
    """Equalise the histogram of each channel."""
    n_images = x.shape[0] * x.shape[1]
    levels = (x.clamp(0, 1) * (_LEVELS - 1)).round().long().reshape(n_images, -1)
    offset = _LEVELS * torch.arange(n_images, device=x.device)[:, None]
    counts = torch.bincount((levels + offset).flatten(), minlength=_LEVELS * n_images)
    below = counts.reshape(n_images, _LEVELS).cumsum(1)
    first = counts.reshape(n_images, _LEVELS).gather(1, levels.amin(1, keepdim=True))
    spread = below[:, -1:] - first
    equal = (below - first).clamp(min=0).to(x) / spread.clamp(min=1).to(x)
    found = torch.where(spread > 0, equal.gather(1, levels), x.reshape(n_images, -1))
    return found.reshape(x.shape)


def _half_turned(x: Tensor, g: torch.Generator) -> Tensor:
    return _turned(x, _drawn(len(x), -45, 45, g)[:, 0, 0, 0])


_CHANGES: tuple[Callable[[Tensor, torch.Generator], Tensor], ...] = (
    _gamma,
    _brightness,
    _sharpness,
    _hue_and_saturation,
    _solarized,
    _posterized,
    _inverted,
    _stretched,
    _equalized,
    _half_turned,
)


def _hsv(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return hue, saturation and value, all in [0, 1], (n, 1, height, width) each."""
    value, which = x.max(1, keepdim=True)
    chroma = value - x.amin(1, keepdim=True)
    is_grey = chroma == 0
    # The difference of the two colours after and before the strongest one on the colour circle.
    following = x.gather(1, (which + 1) % 3) - x.gather(1, (which + 2) % 3)
    hue = (2 * which + following / chroma.masked_fill(is_grey, 1)) / 6
    saturation = chroma / value.masked_fill(value == 0, 1)
    return hue.masked_fill(is_grey, 0) % 1, saturation, value


def _rgb(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    place = (torch.tensor([5.0, 3.0, 1.0]).to(hue)[:, None, None] + 6 * hue) % 6
    return value - value * saturation * torch.minimum(place, 4 - place).clamp(0, 1)
