"""Projected gradient ascent: maximise a function within a ball around each sample."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Ball:
    """The set to which samples may be moved.

    Parameters
    ----------
    center : Tensor of shape (n, ...)
        The samples; with a leading axis of members, (K, B, ...), if `n_axes` is 2.
    eps : float or Tensor
        The radius; for the L-infinity norm also a tensor with one radius for each value, which
        broadcasts with `center`.
    norm : {inf, 2}, default=inf
        The L-infinity norm (largest change of a value) or the Euclidean (L2) norm.
    limits : tuple of float or Tensor, or None, default=None
        The smallest and the largest value that a sample may have.
    n_axes : int, default=1
        Number of leading axes that index samples.
    """

    center: Tensor
    eps: float | Tensor
    norm: float = math.inf
    limits: tuple[Any, Any] | None = None
    n_axes: int = 1

    def projected(self, x: Tensor) -> Tensor:
        """Return the projection of samples onto the set."""
        change = x - self.center
        if self.norm == math.inf:
            eps = torch.as_tensor(self.eps, dtype=change.dtype, device=change.device)
            change = change.clamp(-eps, eps)
        else:
            change = change * (self.eps / self._length(change).clamp(min=float(self.eps)))
        x = self.center + change
        return x if self.limits is None else x.clamp(*self.limits)

    def drawn(self, generator: torch.Generator) -> Tensor:
        """Draw a point for each sample, uniform over the allowed changes of its values."""
        return self.at(torch.rand(self.center.shape, generator=generator, dtype=torch.float32))

    def at(self, share: Tensor) -> Tensor:
        """Return the point of each sample at this share, 0 to 1, of the range of each value."""
        return self.projected(self.center + self.eps * (2 * share - 1).to(self.center))

    def steepest(self, slope: Tensor) -> Tensor:
        """Return the direction of steepest ascent with norm 1; 0 if the gradient is 0."""
        if self.norm == math.inf:
            return slope.sign()
        return slope / self._length(slope).clamp(min=1e-30)

    def _length(self, x: Tensor) -> Tensor:
        """Euclidean (L2) norm of each sample, in a shape that broadcasts with x."""
        length: Tensor = torch.linalg.vector_norm(x.flatten(self.n_axes), dim=-1)
        return length.reshape(*length.shape, *[1] * (x.ndim - self.n_axes))


def ascent(
    slope: Callable[[Tensor], Tensor],
    ball: Ball,
    *,
    n_steps: int,
    step: float | Tensor | None = None,
    start: Tensor | None = None,
) -> Iterator[Tensor]:
    """Yield the samples after each gradient step with projection onto the ball.

    Parameters
    ----------
    slope : callable
        Returns the gradient at samples of the shape of ``ball.center``; these require gradients.
    ball : Ball
    n_steps : int
    step : float, Tensor or None, default=None
        Norm of a step; None is ``2.5 * ball.eps / n_steps``, with which a sample can cross the
        ball.
    start : Tensor or None, default=None
        The initial samples; None is the centre.

    Yields
    ------
    Tensor of the shape of ``ball.center``

    References
    ----------
    Madry, Makelov, Schmidt, Tsipras and Vladu, "Towards deep learning models resistant to
    adversarial attacks", ICLR 2018.

    Examples
    --------
    >>> import torch
    >>> from gandetect.model.ascent import Ball, ascent
    >>> ball = Ball(torch.zeros(1, 2), eps=0.5)
    >>> *_, x = ascent(lambda x: torch.tensor([[1.0, -3.0]]), ball, n_steps=3)
    >>> x.tolist()
    [[0.5, -0.5]]
    """
    step = 2.5 * ball.eps / n_steps if step is None else step
    x = ball.center if start is None else start
    for _ in range(n_steps):
        with torch.enable_grad():
            direction = ball.steepest(slope(x.detach().requires_grad_())).detach()
        x = ball.projected(x + step * direction)
        yield x


def highest(
    function: Callable[[Tensor], Tensor],
    ball: Ball,
    *,
    n_steps: int,
    step: float | Tensor | None = None,
    start: Tensor | None = None,
    slope: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the samples with the largest value among the steps of an ascent and its start.

    Parameters
    ----------
    function : callable
        Returns one value for each sample, (n,) or (K, B).
    ball, n_steps, step, start
        As in `ascent`.
    slope : callable or None, default=None
        ``slope(x, values)`` returns the ascent direction; None is the gradient of the values.

    Returns
    -------
    x : Tensor of the shape of ``ball.center``
    values : Tensor, one for each sample
    """
    best_x, best = ball.center, None

    def note(x: Tensor, values: Tensor) -> None:
        nonlocal best_x, best
        if best is None:
            best_x, best = x, values
            return
        best_x, best = better(best_x, best, x, values)

    def gradient(x: Tensor) -> Tensor:
        values = function(x)
        found = gradient_at(x, values) if slope is None else slope(x, values)
        note(x.detach(), values.detach())
        return found

    *_, x = ascent(gradient, ball, n_steps=n_steps, step=step, start=start)
    with torch.no_grad():
        note(x, function(x))
    assert best is not None
    return best_x, best


def better(x: Tensor, values: Tensor, other: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Return for each sample the point with the larger of two values, and this value."""
    is_better = others > values
    shape = (*values.shape, *[1] * (x.ndim - values.ndim))
    return torch.where(is_better.reshape(shape), other, x), torch.where(is_better, others, values)


def gradient_at(x: Tensor, values: Tensor, *, keep: bool = False) -> Tensor:
    """Return the gradient of the sum of values with respect to x; 0 if there is none.

    `keep` retains the graph for further gradients.
    """
    if not values.requires_grad:
        return torch.zeros_like(x)
    (found,) = torch.autograd.grad(values.sum(), x, retain_graph=keep)
    return found
