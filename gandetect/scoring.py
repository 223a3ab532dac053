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
    """Training codes, from which the distance of a new code to its nearest ones is taken.

    Parameters
    ----------
    codes : Tensor of shape (n_members, n_references, latent_dim)
    """

    codes: Tensor

    def distance(self, z: Tensor) -> Tensor:
        """Mean distance of codes (K, B, latent_dim) to the nearest training codes: (K, B).

        A training code at no distance but that of rounding is passed over, once: it is the
        sample's own, and a training sample must not look nearer to the others than a new one does.
        """
        codes = self.codes.to(z.device)
        n_nearest = min(_N_NEIGHBOURS + 1, codes.shape[1])
        # A matrix product finds the nearest: squared distances from the centre of the codes, where
        # they lose the fewest digits, but for a term that is the same for all codes.
        center = codes.mean(dim=1, keepdim=True)
        centred = codes - center
        norms = centred.square().sum(-1).unsqueeze(1)
        nearest = torch.baddbmm(norms, z - center, centred.mT, alpha=-2).topk(
            n_nearest, dim=-1, largest=False
        )
        # Only theirs are then taken without rounding.
        members = torch.arange(codes.shape[0], device=z.device)[:, None, None]
        differences = codes[members, nearest.indices] - z[:, :, None]
        distances = torch.linalg.vector_norm(differences, dim=-1).sort(dim=-1).values
        if n_nearest == 1:
            return distances[..., 0]
        usual_norm = torch.linalg.vector_norm(codes, dim=-1).mean(dim=1, keepdim=True)
        norm = torch.maximum(torch.linalg.vector_norm(z, dim=-1), usual_norm)
        is_own = distances[..., 0] <= _ROUNDING * norm
        return torch.where(is_own, distances[..., 1:].mean(-1), distances[..., :-1].mean(-1))


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
