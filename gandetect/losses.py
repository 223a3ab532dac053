"""Losses and distances: pure functions that give one value a sample.

Every function takes tensors with two leading axes, members and samples, and reduces the axes
behind them: ``(K, B, ...)`` in, ``(K, B)`` out. Training averages the result, scoring uses it as
it is, so that a loss and the score made from it cannot drift apart.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F


def mean_absolute_error(x: Tensor, x_hat: Tensor) -> Tensor:
    """Mean of the absolute differences over the values of each sample."""
    return (x - x_hat).abs().flatten(2).mean(-1)


def mean_squared_error(x: Tensor, x_hat: Tensor) -> Tensor:
    """Mean of the squared differences over the values of each sample."""
    return (x - x_hat).square().flatten(2).mean(-1)


def norm_distance(x: Tensor, x_hat: Tensor, degree: int) -> Tensor:
    """The norm of the difference of each sample: the sum of absolutes (1) or Euclid's (2)."""
    return torch.linalg.vector_norm((x - x_hat).flatten(2), ord=degree, dim=-1)


def loss_as_real(logits: Tensor, label: float = 1.0) -> Tensor:
    """Binary cross-entropy of discriminator logits (K, B) against the label of real samples.

    Parameters
    ----------
    logits : Tensor of shape (K, B)
    label : float, default=1.0
        Less than 1 smooths the label (one-sided label smoothing).
    """
    return F.softplus(-logits) + (1.0 - label) * logits


def loss_as_fake(logits: Tensor) -> Tensor:
    """Binary cross-entropy of discriminator logits (K, B) against the label of fake samples."""
    return F.softplus(logits)


def gradient_penalty(critic: Callable[[Tensor], Tensor], x_real: Tensor, x_fake: Tensor) -> Tensor:
    """How far the critic's slope is from one between real and fake samples (WGAN-GP).

    Parameters
    ----------
    critic : callable
        From samples (K, B, ...) to one value each (K, B).
    x_real, x_fake : Tensor of shape (K, B, ...)
        The slope is taken at one point, drawn evenly, on the line between each two.

    Returns
    -------
    Tensor of shape (K, B)
        The squared difference from 1 of the gradient's Euclidean norm, to be stepped on by the
        critic's optimizer.

    References
    ----------
    Gulrajani et al., "Improved training of Wasserstein GANs", NeurIPS 2017, equation 3.
    """
    share = torch.rand(*x_real.shape[:2], *[1] * (x_real.ndim - 2), device=x_real.device)
    between = torch.lerp(x_real.detach(), x_fake.detach(), share).requires_grad_()
    (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    return (torch.linalg.vector_norm(slope.flatten(2), dim=-1) - 1).square()
