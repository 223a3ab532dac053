"""Losses and distances: pure functions that return one value for each sample.

Every function takes tensors with two leading axes, members and samples, and reduces the other axes:
``(K, B, ...)`` to ``(K, B)``. Training averages the result, scoring uses it unchanged, so that a
loss and the score of the same name are equal. Errors of rows may have a weight for each value: see
`Model.observed`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = [
    "divergence",
    "divergence_from_prior",
    "focal_loss",
    "gaussian_error",
    "gaussian_scale",
    "gradient_penalty",
    "loss_as_fake",
    "loss_as_real",
    "loss_to_label",
    "mean_absolute_error",
    "mean_squared_error",
    "norm_distance",
    "structural_similarity",
]


def mean_absolute_error(x: Tensor, x_hat: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean of the absolute differences over the values of each sample."""
    error = (x - x_hat).abs()
    return (error if weights is None else error * weights).flatten(2).mean(-1)


def mean_squared_error(x: Tensor, x_hat: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean of the squared differences over the values of each sample."""
    error = (x - x_hat).square()
    return (error if weights is None else error * weights).flatten(2).mean(-1)


def norm_distance(x: Tensor, x_hat: Tensor, degree: int, weights: Tensor | None = None) -> Tensor:
    """The norm of the difference of each sample: L1 (1) or Euclidean, L2 (2)."""
    difference = (x - x_hat).flatten(2)
    if weights is not None:
        difference = difference * (weights if degree == 1 else weights.sqrt())
    if degree == 1:  # torch's norm is fifteen times slower over short axes
        return difference.abs().sum(-1)
    length: Tensor = torch.linalg.vector_norm(difference, dim=-1)
    return length


def loss_as_real(logits: Tensor, label: float = 1.0) -> Tensor:
    """Binary cross-entropy of discriminator logits (K, B) against the label of real samples.

    Parameters
    ----------
    logits : Tensor of shape (K, B)
    label : float, default=1.0
        A value below 1 is one-sided label smoothing.
    """
    return F.softplus(-logits) + (1.0 - label) * logits


def loss_as_fake(logits: Tensor) -> Tensor:
    """Binary cross-entropy of discriminator logits (K, B) against the label of fake samples."""
    return F.softplus(logits)


def divergence(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Kullback-Leibler divergence of distributions over the last axis, KL(p, q)."""
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def divergence_from_prior(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Mean over the dimensions of a code of its KL divergence from the standard normal."""
    return ((mean.square() + log_variance.exp() - log_variance - 1) / 2).mean(-1)


def gaussian_error(
    x: Tensor, x_hat: Tensor, scale: Tensor, weights: Tensor | None = None
) -> Tensor:
    """Negative log-likelihood of samples under a normal distribution around x_hat.

    Parameters
    ----------
    x, x_hat : Tensor of shape (K, B, ...)
    scale : Tensor of shape (), (d,) or (d, d)
        Standard deviation of all values, of each value, or the Cholesky factor of a covariance.
    weights : Tensor of shape (K, B, d) or None, default=None
        Weights of the squared differences.
    """
    difference = (x - x_hat).flatten(2)
    if weights is not None:
        difference = difference * weights.sqrt()
    d = difference.shape[-1]
    if scale.ndim == 2:
        flat = torch.linalg.solve_triangular(scale, difference.flatten(0, 1).mT, upper=False)
        squares: Tensor = flat.square().sum(0).unflatten(0, difference.shape[:2])
        log_determinant = scale.diagonal().log().sum()
    else:
        squares = (difference / scale).square().sum(-1)
        log_determinant = scale.expand(d).log().sum()
    return squares / 2 + log_determinant + d * math.log(2 * math.pi) / 2


def gaussian_scale(x: Tensor, *, full: bool) -> Tensor:
    """Return the scale of samples for `gaussian_error`.

    Parameters
    ----------
    x : Tensor of shape (n_samples, d)
    full : bool
        Whether to use the full covariance of the columns.

    Returns
    -------
    Tensor of shape (d,) or, if `full`, (d, d), float32
        The standard deviation of each column, or the Cholesky factor of the covariance.
    """
    x = x.double()
    if not full:
        return x.std(0, correction=0).clamp(min=1e-3).float()
    covariance = x.T.cov().reshape(x.shape[1], -1)
    # With more columns than rows, or duplicate columns, the covariance is singular.
    ridge = 1e-3 * covariance.diagonal().mean().clamp(min=1e-3) * torch.eye(x.shape[1])
    factor: Tensor = torch.linalg.cholesky(covariance + ridge)
    return factor.float()


def gradient_penalty(
    critic: Callable[[Tensor], Tensor], x_real: Tensor, x_fake: Tensor, share: Tensor
) -> Tensor:
    """Gradient penalty of WGAN-GP between real and fake samples.

    Parameters
    ----------
    critic : callable
        Maps samples (K, B, ...) to one value each (K, B).
    x_real, x_fake : Tensor of shape (K, B, ...)
    share : Tensor of shape (K, B)
        Uniform in [0, 1]: the position between a real and a fake sample at which the gradient is
        computed.

    Returns
    -------
    Tensor of shape (K, B)
        The squared difference between the Euclidean (L2) norm of the gradient and 1, for the
        optimizer of the critic.

    References
    ----------
    Gulrajani et al., "Improved training of Wasserstein GANs", NeurIPS 2017, equation 3.
    """
    share = share.reshape(*share.shape, *[1] * (x_real.ndim - 2))
    between = torch.lerp(x_real.detach(), x_fake.detach(), share).requires_grad_()
    (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    steepness: Tensor = torch.linalg.vector_norm(slope.flatten(2), dim=-1)
    return (steepness - 1).square()


def loss_to_label(logits: Tensor, label: float) -> Tensor:
    """Mean squared difference between outputs (K, B, ...) and a label: the LSGAN loss."""
    return (logits - label).square().reshape(*logits.shape[:2], -1).mean(-1)


def focal_loss(logits: Tensor, target: Tensor, gamma: float = 2.0) -> Tensor:
    """Focal loss: cross-entropy of logits (K, B, ...) with less weight of well-classified values.

    Parameters
    ----------
    logits : Tensor of shape (K, B, ...)
        One value for each pixel or feature: the difference of the two logits of a softmax.
    target : Tensor of the shape of `logits`
        1 for anomalous, 0 for normal.
    gamma : float, default=2.0
        The cross-entropy is weighted by ``(1 - p) ** gamma``, p being the probability given to the
        target; 0 is the plain cross-entropy.

    References
    ----------
    Lin, Goyal, Girshick, He and Dollár, "Focal loss for dense object detection", ICCV 2017,
    equation 4.
    """
    # The logit of the correct class: of p if anomalous, of 1 - p if normal.
    right = torch.where(target > 0.5, logits, -logits)
    loss = torch.sigmoid(-right) ** gamma * F.softplus(-right)
    return loss.flatten(2).mean(-1)


def structural_similarity(x: Tensor, x_hat: Tensor, data_range: float = 1.0) -> Tensor:
    """Structural similarity (SSIM) of images (K, B, C, H, W): 1 for equal ones.

    Parameters
    ----------
    x, x_hat : Tensor of shape (K, B, C, H, W)
    data_range : float, default=1.0
        The difference between the largest and the smallest possible value.

    Returns
    -------
    Tensor of shape (K, B)
        The mean over channels and over all windows inside the image.

    Notes
    -----
    Windows are Gaussian with a standard deviation of 1.5 pixels, 11 pixels wide, or as wide as a
    smaller image permits. There is no padding, which would increase the similarity at the border.

    References
    ----------
    Wang, Bovik, Sheikh and Simoncelli, "Image quality assessment: from error visibility to
    structural similarity", IEEE Transactions on Image Processing, 2004.
    """
    window_rows, window_columns = (_gaussian_windows(side).to(x) for side in x.shape[-2:])
    maps = torch.stack([x, x_hat, x * x, x_hat * x_hat, x * x_hat])
    mean, mean_hat, square, square_hat, product = window_rows @ maps @ window_columns.mT
    variance, variance_hat = square - mean * mean, square_hat - mean_hat * mean_hat
    covariance = product - mean * mean_hat
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    similarity: Tensor = (2 * mean * mean_hat + c1) * (2 * covariance + c2)
    similarity = similarity / (
        (mean * mean + mean_hat * mean_hat + c1) * (variance + variance_hat + c2)
    )
    return similarity.flatten(2).mean(-1)


def _gaussian_windows(side: int) -> Tensor:
    """Return the windows along one axis as rows of a matrix; matrix products are fast."""
    width = min(11, side - (side + 1) % 2)
    offset = torch.arange(width, dtype=torch.float32) - width // 2
    window = torch.exp(-(offset**2) / (2 * 1.5**2))
    matrix = torch.zeros(side - width + 1, side)
    for i in range(len(matrix)):
        matrix[i, i : i + width] = window / window.sum()
    return matrix
