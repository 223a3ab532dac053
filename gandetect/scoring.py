"""From the parts of a score to one number a sample."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


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


def mix(
    parts: Mapping[str, Tensor], weights: Mapping[str, float], calibration: Calibration
) -> Tensor:
    """Weighted mean of standardised parts over parts and members: (K, B) each to (B,)."""
    total = sum(weights.values())
    mixed = sum(
        weight / total * calibration.standardised(name, parts[name].cpu().double())
        for name, weight in weights.items()
        if weight
    )
    return torch.as_tensor(mixed).mean(0)
