"""Adversarial training: what the networks see is first moved to where they err most."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from gandetect.distributed import RandomNumbers
from gandetect.losses import mean_squared_error
from gandetect.model.ascent import Ball, ascent, gradient_at
from gandetect.model.fitted import Model

# Steps of the attack on a batch, and how many times as far as `robust` it goes: networks that are
# trained at that size alone were hardly more robust at it than others (benchmarks/ideas.md).
_N_STEPS = 3
_MARGIN = 3.0


def attacked(model: Model[Any], x: Tensor, random: RandomNumbers) -> Tensor:
    """A batch moved to where its reconstruction is farthest from what the batch was.

    Parameters
    ----------
    model : Model
    x : Tensor of shape (K, B, ...)
    random : RandomNumbers
        Of the places where attacks begin.
    """

    def error(moved: Tensor) -> Tensor:
        return mean_squared_error(x, model.reconstruct(moved), model.observed(x))

    return moved_up(model, x, error, random)


def moved_up(
    model: Model[Any], x: Tensor, value: Callable[[Tensor], Tensor], random: RandomNumbers
) -> Tensor:
    """A batch with each sample moved, as far as `robust` says, to where a value is larger.

    Meanwhile the networks are in evaluation mode, as when they score; then they train again.

    Parameters
    ----------
    model : Model
    x : Tensor of shape (K, B, ...)
    value : callable
        Gives (K, B).
    random : RandomNumbers
        Of the places where attacks begin.
    """
    is_image = model.layout.is_image
    eps = _MARGIN * model.settings.robust * model.scaler.eps_unit(is_image)
    ball = Ball(x, eps, limits=model.scaler.scaled_range() if is_image else None, n_axes=2)
    model.eval()
    start = ball.at(random.uniform(*x.shape))
    *_, found = ascent(lambda x: gradient_at(x, value(x)), ball, n_steps=_N_STEPS, start=start)
    model.train()
    return found.detach()
