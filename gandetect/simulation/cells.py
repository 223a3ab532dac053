"""Simulated anomalies in rows: corrupted cells."""

from __future__ import annotations

import torch
from torch import Tensor

from gandetect.simulation.perlin import drawing_from

# Cells that changed by less, in scaled units, are not labelled as corrupted, because their labels
# would be noise.
_TOLERANCE = 0.1
# The range from which the share of corrupted cells in a row is drawn. It includes whole rows, so
# that rows in which every value is wrong are learned as anomalies too.
_SHARES = (0.05, 1.0)


def corrupt_cells(
    x: Tensor,
    probability: float = 0.5,
    opacity: tuple[float, float] = (0.1, 1.0),
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Corrupt a random share of the cells of some rows, at least one cell of each.

    A cell is replaced by the value of another row in its column, by a value from a uniform
    distribution over a range 30 % wider than that of its column, or by its own value plus Gaussian
    noise with a standard deviation between 0.3 and 3.

    Parameters
    ----------
    x : Tensor of shape (K, B, d)
        Standardised rows.
    probability : float, default=0.5
        The probability that a row is corrupted.
    opacity : tuple of float, default=(0.1, 1.0)
        The range from which the weight of the new value in a corrupted cell is drawn, for each row.
    generator : torch.Generator or None, default=None
        On the CPU.

    Returns
    -------
    x_corrupted : Tensor of the shape of x
    mask : Tensor of the shape of x
        1 where a cell changed by at least 0.1 standard deviations, else 0.
    """
    n_members, n_rows, _ = x.shape
    rows = (n_members, n_rows, 1)
    g = drawing_from(generator)
    chance = torch.rand(x.shape, generator=g)
    # The cell with the smallest random number is always corrupted, so that each row has one.
    share = torch.empty(rows).uniform_(*_SHARES, generator=g)
    mask = (chance < share) | (chance == chance.amin(dim=-1, keepdim=True))
    mask = (mask & (torch.rand(rows, generator=g) < probability)).to(x.device)

    other = torch.randint(n_rows, x.shape, generator=g).to(x.device)
    low, high = x.amin(dim=1, keepdim=True), x.amax(dim=1, keepdim=True)
    share_of_range = torch.rand(x.shape, generator=g).to(x)
    anywhere = torch.lerp(low, high, 1.3 * share_of_range - 0.15)
    scale = 0.3 * 10 ** torch.rand(rows, generator=g)
    noise = torch.randn(x.shape, generator=g)
    candidates = torch.stack([x.gather(1, other), anywhere, x + (scale * noise).to(x)])
    kind = torch.randint(len(candidates), (1, *x.shape), generator=g).to(x.device)
    replaced = candidates.gather(0, kind)[0]
    share_of_new = torch.empty(rows).uniform_(*opacity, generator=g).to(x)
    x_corrupted = torch.where(mask, torch.lerp(x, replaced, share_of_new), x)
    return x_corrupted, mask * moved_cells(x, x_corrupted)


def moved_cells(x: Tensor, x_corrupted: Tensor) -> Tensor:
    """Return 1 where a cell changed by at least 0.1 standard deviations, else 0."""
    return ((x_corrupted - x).abs() >= _TOLERANCE).to(x)
