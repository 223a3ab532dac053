"""From the parts of a score to one number a sample."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

# A part of a score (K, B), or a function that computes it where it is wanted.
Part = Tensor | Callable[[], Tensor]

# Neighbours whose distances are averaged, as in k-nearest-neighbour detectors.
_N_NEIGHBOURS = 5
# How far, of its norm, a code may come out elsewhere: exported, or on another device.
_ROUNDING = 2e-6
# Draws of references among which distances are taken too, the size of one, and the share of all
# references that one may take: small, so that few anomalies get into each.
_N_DRAWS, _DRAW_SIZE, _DRAW_SHARE = 16, 64, 1 / 8
# The least spread of a reference, of their mean.
_LEAST_SPREAD = 0.05
# References whose spreads are found at once, which bounds the memory.
_BLOCK = 512


@dataclass(frozen=True, eq=False)
class Calibration:
    """Mean and spread of each part on training samples, a member at a time.

    Parts have units of their own (a norm of codes, a mean of pixels, a logit), which differ from
    member to member; standardised they can be weighted and averaged.

    Parameters
    ----------
    mean, spread : dict of str to Tensor of shape (n_members,), float64
    """

    mean: dict[str, Tensor]
    spread: dict[str, Tensor]

    @classmethod
    def of(cls, parts: Mapping[str, Tensor]) -> Calibration:
        """From the parts of training samples, (K, n) each."""
        mean, spread = {}, {}
        for name, values in parts.items():
            values = values.double()
            mean[name] = values.mean(1)
            deviation = values.std(1, correction=0)
            # A part that is the same for all training samples keeps its own units.
            spread[name] = torch.where(deviation > 1e-12, deviation, 1.0)
        return cls(mean, spread)

    def standardised(self, name: str, values: Tensor) -> Tensor:
        """The part (K, B) in standard deviations of the training samples."""
        return (values - self.mean[name][:, None]) / self.spread[name][:, None]


@dataclass(frozen=True, eq=False)
class Neighbours:
    """References among training samples, from which the distance of a new one is taken.

    Distances to a reference count in units of the square root of how far it lies from its own
    nearest ones. A plain distance finds nothing beside a dense group, and calls a whole sparse
    group anomalous; the quotient of distances, as the local outlier factor has it, takes a dense
    group's every border for an anomaly. Half of the correction did better than either.

    Parameters
    ----------
    points : Tensor of shape (n_members, n_references, n_dimensions)
    spreads : Tensor of shape (n_members, n_references)
        By which squared distances to each reference are divided.

    References
    ----------
    Breunig, Kriegel, Ng and Sander, "LOF: identifying density-based local outliers", SIGMOD 2000.
    """

    points: Tensor
    spreads: Tensor

    @classmethod
    def of(cls, points: Tensor) -> Neighbours:
        """From references (n_members, n_references, n_dimensions), whose spreads are found."""
        plain = cls.plain(points)
        blocks = points.split(_BLOCK, dim=1)
        spreads = torch.cat([plain.distance(block) for block in blocks], dim=1)
        # Samples that occur many times have no distance to each other, but do to all others.
        usual = spreads.mean(dim=1, keepdim=True)
        spreads = torch.maximum(spreads, _LEAST_SPREAD * usual)
        return cls(points, torch.where(usual > 0, spreads, 1.0))

    @classmethod
    def plain(cls, points: Tensor) -> Neighbours:
        """From references to which distances count as they are."""
        return cls(points, torch.ones_like(points[..., 0]))

    @classmethod
    def among_draws(cls, points: Tensor) -> Neighbours:
        """From references (1, n_references, n_dimensions): each draw stands as a member."""
        return cls.plain(points[0, draws(points.shape[1])])

    def distance(self, z: Tensor) -> Tensor:
        """Mean distance of points (K, B, n_dimensions) to the nearest references: (K, B).

        Points that are the same for all members, (1, B, n_dimensions), may be given once.

        A reference at no distance but that of rounding is passed over, once: it is the sample's
        own, and a training sample must not look nearer to the others than a new one does.
        """
        points, spreads = self.points.to(z.device), self.spreads.to(z.device)
        z = z.expand(len(points), -1, -1)
        n_nearest = min(_N_NEIGHBOURS + 1, points.shape[1])
        # A matrix product finds the nearest: |z|² - 2 z·p + |p|², all over the spread, from the
        # centre of the references, where squared distances lose the fewest digits.
        center = points.mean(dim=1, keepdim=True)
        p, z_p = points - center, z - center
        ones, z_ones = torch.ones_like(p[..., :1]), torch.ones_like(z_p[..., :1])
        terms = torch.cat([-2 * p, ones, p.square().sum(-1, keepdim=True)], dim=-1)
        z_terms = torch.cat([z_p, z_p.square().sum(-1, keepdim=True), z_ones], dim=-1)
        squares = torch.bmm(z_terms, (terms / spreads.unsqueeze(-1)).mT)
        nearest = squares.topk(n_nearest, dim=-1, largest=False).indices
        # Only theirs are then taken without rounding.
        members = torch.arange(points.shape[0], device=z.device)[:, None, None]
        plain = torch.linalg.vector_norm(points[members, nearest] - z[:, :, None], dim=-1)
        usual_norm = torch.linalg.vector_norm(points, dim=-1).mean(dim=1, keepdim=True)
        norm = torch.maximum(torch.linalg.vector_norm(z, dim=-1), usual_norm)
        has_own = plain.amin(-1) <= _ROUNDING * norm
        distances = (plain / spreads[members, nearest].sqrt()).sort(dim=-1).values
        if n_nearest == 1:
            return distances[..., 0]
        return torch.where(has_own, distances[..., 1:].mean(-1), distances[..., :-1].mean(-1))


def draws(n: int) -> Tensor:
    """Small random draws from n references: their numbers, (n_draws, size).

    Among few references the nearest are far apart, and a distance to them says how a sample lies to
    the whole. A group of anomalies that is dense enough to be near each other in all of the
    training samples has hardly a member in a draw.

    References
    ----------
    Zimek, Gaudet, Campello and Sander, "Subsampling for efficient and effective unsupervised
    outlier detection ensembles", KDD 2013.
    """
    size = max(min(int(_DRAW_SHARE * n), _DRAW_SIZE), min(n, _N_NEIGHBOURS + 1))
    # A generator of its own: detectors are looked at in training, whose draws must not change.
    generator = torch.Generator().manual_seed(0)
    return torch.stack([torch.randperm(n, generator=generator)[:size] for _ in range(_N_DRAWS)])


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
    mixed = sum(
        weight / total * calibration.standardised(name, value_of(parts[name]).cpu().double())
        for name, weight in weights.items()
        if weight
    )
    return torch.as_tensor(mixed)
