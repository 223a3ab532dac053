"""Adversarial training: samples are perturbed to increase a loss before each update."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from gandetect.distributed import RandomNumbers
from gandetect.losses import mean_squared_error
from gandetect.model.ascent import Ball, ascent, gradient_at
from gandetect.model.fitted import Model

# Steps of the attack on a batch, and the attack size as a multiple of `robust`. Networks trained at
# the size `robust` itself were hardly more robust than others (benchmarks/ideas.md).
_N_STEPS = 3
_MARGIN = 3.0


def attacked(model: Model[Any], x: Tensor, random: RandomNumbers) -> Tensor:
    """Return a batch perturbed to increase the distance of its reconstruction from the batch.

    Parameters
    ----------
    model : Model
    x : Tensor of shape (K, B, ...)
    random : RandomNumbers
        Draws the starting points of attacks.
    """

    def error(moved: Tensor) -> Tensor:
        return mean_squared_error(x, model.reconstruct(moved), model.observed(x))

    return moved_up(model, x, error, random)


def moved_up(
    model: Model[Any], x: Tensor, value: Callable[[Tensor], Tensor], random: RandomNumbers
) -> Tensor:
    """Return a batch with each sample perturbed by at most `robust` to increase a value.

    During the attack the networks are in evaluation mode, as in scoring; afterwards they are set to
    training mode.

    Parameters
    ----------
    model : Model
    x : Tensor of shape (K, B, ...)
    value : callable
        Returns the value to increase, (K, B).
    random : RandomNumbers
        Draws the starting points of attacks.
    """
    is_image = model.layout.is_image
    eps = _MARGIN * model.settings.robust * model.scaler.eps_unit(is_image)
    ball = Ball(x, eps, limits=model.scaler.scaled_range() if is_image else None, n_axes=2)
    model.eval()
    start = ball.at(random.uniform(*x.shape))
    *_, found = ascent(lambda x: gradient_at(x, value(x)), ball, n_steps=_N_STEPS, start=start)
    model.train()
    return found.detach()
