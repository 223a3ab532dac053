"""From the parts of a score to one number a sample, by their statistics on training samples."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn

# A part of a score (K, B), or a function that computes it where it is wanted.
Part = Tensor | Callable[[], Tensor]

# Neighbours whose distances are averaged, as in k-nearest-neighbour detectors.
_N_NEIGHBOURS = 5
# How far, of its norm, a code may come out elsewhere: in another batch, exported, or on another
# device. Convolutions of many layers were seen to move codes by 6e-6.
_ROUNDING = 5e-5
# Draws of references among which distances are taken too, the size of one, and the share of all
# references that one may take: small, so that few anomalies get into each.
_N_DRAWS, _DRAW_SIZE, _DRAW_SHARE = 16, 64, 1 / 8
# The least scale of a reference, of their mean.
_LEAST_SCALE = 0.05
# The standard deviation of a part that is constant but for rounding, relative to its mean.
_CONSTANT = 1e-6
# References whose scales are found at once, which bounds the memory.
_BLOCK_VALUES = 2**20


class OnCPU(nn.Module):
    """A module of double-precision buffers, which some devices lack: it stays on the CPU."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        return self


class Calibration(OnCPU):
    """Mean and standard deviation of each part on training samples, a member at a time.

    Parts have units of their own (a norm of codes, a mean of pixels, a logit), which differ from
    member to member; standardised they can be weighted and averaged.

    Parameters
    ----------
    mean, spread : dict of str to Tensor of shape (n_members,), float64
        By the name of the part.
    """

    def __init__(self, mean: Mapping[str, Tensor], spread: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.names = tuple(mean)
        self.register_buffer("means", torch.stack([mean[name] for name in self.names]))
        self.register_buffer("spreads", torch.stack([spread[name] for name in self.names]))
        self.means: Tensor
        self.spreads: Tensor

    @classmethod
    def of(cls, parts: Mapping[str, Tensor]) -> Self:
        """From the parts of training samples, (K, n) each."""
        mean, spread = {}, {}
        for name, values in parts.items():
            values = values.double()
            mean[name] = values.mean(1)
            deviation = values.std(1, correction=0)
            # A part that is the same for all training samples, but for rounding in float32, keeps
            # its own units.
            varies = deviation > torch.clamp(_CONSTANT * mean[name].abs(), min=1e-12)
            spread[name] = torch.where(varies, deviation, 1.0)
        return cls(mean, spread)

    @property
    def mean(self) -> dict[str, Tensor]:
        """The mean of each part, (n_members,)."""
        return dict(zip(self.names, self.means, strict=True))

    @property
    def spread(self) -> dict[str, Tensor]:
        """The standard deviation of each part, (n_members,)."""
        return dict(zip(self.names, self.spreads, strict=True))

    def standardised(self, name: str, values: Tensor) -> Tensor:
        """The part (K, B) in standard deviations of the training samples."""
        i = self.names.index(name)
        return (values.cpu().double() - self.means[i][:, None]) / self.spreads[i][:, None]


class Neighbours(nn.Module):
    """References among training samples, from which the distance of a new one is taken.

    Distances to a reference count in units of the square root of how far it lies from its own
    nearest ones (local scaling, by half as much as in the local outlier factor). A plain distance
    misses anomalies near a dense group, and flags a whole sparse group; the quotient of distances
    flags the border of a dense group. The square root did better than either in
    benchmarks/ideas.md.

    Parameters
    ----------
    points : Tensor of shape (n_members, n_references, n_dimensions)
    spreads : Tensor of shape (n_members, n_references)
        By which squared distances to each reference are divided.

    References
    ----------
    Breunig, Kriegel, Ng and Sander, "LOF: identifying density-based local outliers", SIGMOD 2000.
    """

    def __init__(self, points: Tensor, spreads: Tensor) -> None:
        super().__init__()
        self.register_buffer("points", points)
        self.register_buffer("spreads", spreads)
        self.points: Tensor
        self.spreads: Tensor
        # What a matrix product needs to find the nearest: |z|² - 2 z·p + |p|², all over the
        # scale, from the centre of the references, where squared distances lose fewest digits.
        center = points.mean(dim=1, keepdim=True)
        p = points - center
        terms = torch.cat(
            [-2 * p, torch.ones_like(p[..., :1]), p.square().sum(-1, keepdim=True)], dim=-1
        )
        usual_norm = torch.linalg.vector_norm(points, dim=-1).mean(dim=1, keepdim=True)
        self.register_buffer("center", center, persistent=False)
        self.register_buffer("terms", (terms / spreads.unsqueeze(-1)).mT, persistent=False)
        self.register_buffer("usual_norm", usual_norm, persistent=False)
        self.center: Tensor
        self.terms: Tensor
        self.usual_norm: Tensor

    @classmethod
    def of(cls, points: Tensor) -> Self:
        """From references (n_members, n_references, n_dimensions), whose spreads are found."""
        plain = cls.plain(points)
        n_members, _, n_dimensions = points.shape
        blocks = points.split(max(_BLOCK_VALUES // (n_members * n_dimensions), 1), dim=1)
        spreads = torch.cat([plain.distance(block) for block in blocks], dim=1)
        # Samples that occur many times have no distance to each other, but do to all others.
        usual = spreads.mean(dim=1, keepdim=True)
        spreads = torch.maximum(spreads, _LEAST_SCALE * usual)
        return cls(points, torch.where(usual > 0, spreads, 1.0))

    @classmethod
    def plain(cls, points: Tensor) -> Self:
        """From references to which distances count as they are."""
        return cls(points, torch.ones_like(points[..., 0]))

    @classmethod
    def among_draws(cls, points: Tensor) -> Self:
        """From references (1, n_references, n_dimensions): each draw stands as a member."""
        return cls.plain(points[0, draws(points.shape[1])])

    def distance(self, z: Tensor) -> Tensor:
        """Mean distance of points (K, B, n_dimensions) to the nearest references: (K, B).

        Points that are the same for all members, (1, B, n_dimensions), may be given once.

        A reference at no distance but that of rounding is passed over, once: it is the sample's
        own, and a training sample must not be nearer to the others than a new one.
        """
        points, spreads = self.points, self.spreads
        z = z.expand(len(points), -1, -1)
        n_nearest = min(_N_NEIGHBOURS + 1, points.shape[1])
        z_p = z - self.center
        z_terms = torch.cat(
            [z_p, z_p.square().sum(-1, keepdim=True), torch.ones_like(z_p[..., :1])], dim=-1
        )
        squares = torch.bmm(z_terms, self.terms)
        nearest = squares.topk(n_nearest, dim=-1, largest=False).indices
        # Only theirs are then taken without rounding.
        members = torch.arange(points.shape[0], device=z.device)[:, None, None]
        plain = torch.linalg.vector_norm(points[members, nearest] - z[:, :, None], dim=-1)
        norm = torch.maximum(torch.linalg.vector_norm(z, dim=-1), self.usual_norm)
        has_own = plain.amin(-1) <= _ROUNDING * norm
        distances: Tensor = (plain / spreads[members, nearest].sqrt()).sort(dim=-1).values
        if n_nearest == 1:
            return distances[..., 0]
        return torch.where(has_own, distances[..., 1:].mean(-1), distances[..., :-1].mean(-1))


def draws(n: int) -> Tensor:
    """Small random draws from n references: their numbers, (n_draws, size).

    Among few references the nearest are far apart, so that a distance to them compares a sample
    with the whole distribution. A group of anomalies, near to each other among all training
    samples, has hardly a member in a draw.

    References
    ----------
    Zimek, Gaudet, Campello and Sander, "Subsampling for efficient and effective unsupervised
    outlier detection ensembles", KDD 2013.
    """
    size = max(min(int(_DRAW_SHARE * n), _DRAW_SIZE), min(n, _N_NEIGHBOURS + 1))
    # A generator of its own: detectors are looked at in training, whose draws must not change.
    numbers: dict[str, Any] = {"generator": torch.Generator().manual_seed(0), "device": "cpu"}
    return torch.stack([torch.randperm(n, **numbers)[:size] for _ in range(_N_DRAWS)])


def without_farthest(points: Tensor, share: float) -> Tensor:
    """References (n_members, n, n_dimensions) without those that are farthest from the whole.

    Parameters
    ----------
    points : Tensor
    share : float in [0, 0.5]
        Of each member's references: for those that may hold anomalies.
    """
    n = points.shape[1]
    if not share:
        return points
    among_few = [Neighbours.plain(points[:, draw]).distance(points) for draw in draws(n)]
    nearest = torch.stack(among_few).mean(0).argsort(dim=1, stable=True)[:, : n - int(share * n)]
    return points[torch.arange(len(points))[:, None], nearest.sort(dim=1).values]


def value_of(part: Part) -> Tensor:
    """The values (K, B) of a part, computed now if they were not."""
    return part() if callable(part) else part


def mix(
    parts: Mapping[str, Part], weights: Mapping[str, float], calibration: Calibration
) -> Tensor:
    """Weighted mean of standardised parts, a member at a time: (K, B) each to (K, B)."""
    total = sum(weights.values())
    weighted: Iterable[Tensor] = (
        weight / total * calibration.standardised(name, value_of(parts[name]))
        for name, weight in weights.items()
        if weight
    )
    return torch.stack(list(weighted)).sum(0)
