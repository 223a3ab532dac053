"""Perlin noise for batches of images, and masks made from it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

# Pixels whose noise exceeds this share of its largest possible value are masked, as in DRAEM's
# code; about 6 % of an image.
_THRESHOLD = 0.5
# The smallest side of a lattice cell in pixels; smaller cells would give independent pixels.
_MIN_CELL = 4
# The largest number of images computed at once, and of their pixels, which limit the memory.
_CHUNK, _CHUNK_PIXELS = 64, 2**22


def drawing_from(generator: torch.Generator | None) -> torch.Generator:
    """Return the given generator, or a new one with a seed from the operating system."""
    if generator is None:
        generator = torch.Generator()
        generator.seed()
    return generator


def perlin_noise(
    cells: Tensor, size: tuple[int, int], generator: torch.Generator | None = None
) -> Tensor:
    """Return periodic gradient noise, which can be rolled without a visible border.

    Parameters
    ----------
    cells : Tensor of shape (n, 2), int
        The number of lattice cells along the height and the width, for each image.
    size : tuple of int
        Height and width, at least 1.
    generator : torch.Generator or None, default=None

    Returns
    -------
    Tensor of shape (n, height, width)
        Values between -1 and 1.

    References
    ----------
    Perlin, "Improving noise", SIGGRAPH 2002: the fade function of degree 5.
    """
    angle = (
        2
        * math.pi
        * torch.rand(len(cells), *cells.amax(0).tolist(), generator=drawing_from(generator))
    )
    image = torch.arange(len(cells))[:, None, None]
    # Evaluated at pixel centres, because on the lattice points the noise is always 0.
    y, x = (
        (torch.arange(s, dtype=torch.float32) + 0.5) / s * cells[:, axis : axis + 1]
        for axis, s in enumerate(size)
    )
    y, x = y[:, :, None], x[:, None, :]
    row, column = y.floor().long(), x.floor().long()
    fade_y, fade_x = (t**3 * (t * (6 * t - 15) + 10) for t in (y - row, x - column))

    def corner(down: int, right: int) -> Tensor:
        n_rows, n_columns = cells[:, 0, None, None], cells[:, 1, None, None]
        theta = angle[image, (row + down) % n_rows, (column + right) % n_columns]
        return theta.cos() * (y - row - down) + theta.sin() * (x - column - right)

    top = torch.lerp(corner(0, 0), corner(0, 1), fade_x.expand(-1, size[0], -1))
    bottom = torch.lerp(corner(1, 0), corner(1, 1), fade_x.expand(-1, size[0], -1))
    return math.sqrt(2) * torch.lerp(top, bottom, fade_y.expand(-1, -1, size[1]))


def random_cells(
    n: int,
    size: tuple[int, int],
    scales: tuple[int, int],
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw powers of two, (n, 2), for each axis separately."""
    largest = [max(int(math.log2(max(side / _MIN_CELL, 1))), 0) for side in size]
    generator = drawing_from(generator)
    exponents = [
        torch.randint(
            min(scales[0], most),
            min(scales[1], most) + 1,
            (n,),
            generator=generator,
        )
        for most in largest
    ]
    return 2 ** torch.stack(exponents, dim=1)


def perlin_masks(
    n: int,
    size: tuple[int, int],
    scales: tuple[int, int] = (0, 5),
    threshold: float = _THRESHOLD,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return masks of blobs of various sizes; no mask is empty.

    Parameters
    ----------
    n : int
    size : tuple of int
        Height and width, at least 1.
    scales : tuple of int, default=(0, 5)
        The range of the exponent e, drawn for each axis: the lattice has 2**e cells along that
        axis, but no cells below 4 pixels.
    threshold : float, default=0.5
        Pixels with noise above it are masked. If there are none, pixels within a fifth of the
        largest noise are masked.
    generator : torch.Generator or None, default=None

    Returns
    -------
    Tensor of shape (n, height, width), bool
    """
    generator = drawing_from(generator)
    masks = []
    chunk = min(max(_CHUNK_PIXELS // math.prod(size), 1), _CHUNK)
    for start in range(0, n, chunk):
        cells = random_cells(min(chunk, n - start), size, scales, generator)
        noise = perlin_noise(cells, size, generator)
        peak = noise.amax(dim=(1, 2), keepdim=True)
        masks.append(noise >= (peak - 0.2 * peak.abs()).clamp(max=threshold))
    return torch.cat(masks)
