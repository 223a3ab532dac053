"""Perlin noise, many images at once, and the masks that come from it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

# Noise above this share of its largest possible value is masked (DRAEM's code); about 6 % of an
# image.
_THRESHOLD = 0.5
# A cell of the noise is no smaller than this many pixels: finer noise is not noise, but pixels.
_MIN_CELL = 4
# Images made at once, and their pixels, which bounds the memory.
_CHUNK, _CHUNK_PIXELS = 64, 2**22


def drawing_from(generator: torch.Generator | None) -> torch.Generator:
    """The generator that is given, or a new one with a seed from the operating system."""
    if generator is None:
        generator = torch.Generator()
        generator.seed()
    return generator


def perlin_noise(
    cells: Tensor, size: tuple[int, int], generator: torch.Generator | None = None
) -> Tensor:
    """Gradient noise that repeats at its borders, so that it may be rolled without a seam.

    Parameters
    ----------
    cells : Tensor of shape (n, 2), int
        Cells of the lattice along the height and the width, for each image.
    size : tuple of int
        Height and width, at least 1.
    generator : torch.Generator or None, default=None

    Returns
    -------
    Tensor of shape (n, height, width)
        Between -1 and 1.

    References
    ----------
    Perlin, "Improving noise", SIGGRAPH 2002: the fade of degree 5.
    """
    angle = (
        2
        * math.pi
        * torch.rand(len(cells), *cells.amax(0).tolist(), generator=drawing_from(generator))
    )
    image = torch.arange(len(cells))[:, None, None]
    # Pixel centres: on the lattice's points the noise is 0, whatever the gradients.
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
    """Powers of two, drawn for each axis on its own: (n, 2)."""
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
    """Masks of blobs of all sizes, none of them empty.

    Parameters
    ----------
    n : int
    size : tuple of int
        Height and width, at least 1.
    scales : tuple of int, default=(0, 5)
        The lattice has 2 to the power of a number between these two as cells along each axis, but
        no cells of less than 4 pixels.
    threshold : float, default=0.5
        Noise above it is masked. If there is none, noise within a fifth of the peak is masked.
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
