"""A short attack on a classifier, to try a defence with.

To measure one, use a library of attacks: ``benchmarks/adversarial.py`` takes foolbox's.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from gandetect.classifiers import check_answers, classes_of, taken

__all__ = ["projected_gradient"]

_AT_ONCE = 512


def projected_gradient(
    classifier: Any,
    X: NDArray[Any],
    y: NDArray[Any],
    *,
    eps: float,
    norm: float = np.inf,
    n_steps: int = 20,
    step_size: float | None = None,
    clip: tuple[float, float] | None = None,
    stop_when_fooled: bool = False,
) -> NDArray[np.float64]:
    """Projected gradient descent: the strongest attack within a distance of each sample.

    Each step goes up the gradient of the classifier's cross-entropy with the true label, and back
    into the ball of radius `eps` around the sample.

    Parameters
    ----------
    classifier : nn.Module or fitted classifier
        A torch network, or a scikit-learn classifier that `AdversarialVAEDetector` can convert
        exactly.
    X : ndarray of shape (n_samples, ...)
        In the classifier's units; images as a torch network takes them, channels first.
    y : ndarray of shape (n_samples,)
        True labels.
    eps : float
        Radius of the ball, in the units of X.
    norm : {inf, 2}, default=inf
        Of the ball: the largest change of a value, or the Euclidean length of all.
    n_steps : int, default=20
    step_size : float or None, default=None
        None is ``2.5 * eps / n_steps``, with which a sample can cross its ball.
    clip : tuple of float or None, default=None
        The smallest and the largest value that a sample may have.
    stop_when_fooled : bool, default=False
        Whether a sample is left alone once its label is wrong: the smallest change that these
        steps find, instead of the most confident wrong answer.

    Returns
    -------
    ndarray of the shape of X, float64

    Raises
    ------
    TypeError
        If the classifier has no gradient.
    ValueError
        If `eps` or `norm` cannot be used, or a label is none of the classifier's.

    References
    ----------
    Madry, Makelov, Schmidt, Tsipras and Vladu, "Towards deep learning models resistant to
    adversarial attacks", ICLR 2018.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import LogisticRegression
    >>> from gandetect.attacks import projected_gradient
    >>> X, y = load_digits(return_X_y=True)
    >>> classifier = LogisticRegression(C=0.01, max_iter=1000).fit(X, y)
    >>> X_attacked = projected_gradient(classifier, X, y, eps=2.0, clip=(0, 16))
    >>> bool(classifier.score(X_attacked, y) < 0.5 * classifier.score(X, y))
    True
    >>> float(abs(X_attacked - X).max())
    2.0
    """
    if not eps > 0:
        raise ValueError(f"eps must be above 0, got {eps!r}.")
    if norm not in (np.inf, 2):
        raise ValueError(f"norm must be inf or 2, got {norm!r}.")
    x = torch.from_numpy(np.array(X, dtype=np.float64))
    model = taken(classifier, "auto", x[:64])
    if model is None:
        raise TypeError(f"{type(classifier).__name__} has no gradient to climb.")
    with torch.no_grad():
        classes = classes_of(classifier, check_answers(model, x[:2]))
    targets = _numbers(y, classes)
    step = 2.5 * eps / n_steps if step_size is None else step_size
    attacked = []
    for start, target in zip(x.split(_AT_ONCE), targets.split(_AT_ONCE), strict=True):
        x_adv = start.clone()
        for _ in range(n_steps):
            x_adv = x_adv + step * _direction(model, x_adv, target, norm, stop_when_fooled)
            x_adv = start + _projected(x_adv - start, eps, norm)
            x_adv = x_adv if clip is None else x_adv.clamp(*clip)
        attacked.append(x_adv)
    return torch.cat(attacked).numpy()


def _numbers(y: NDArray[Any], classes: NDArray[Any]) -> Tensor:
    unknown = np.setdiff1d(y, classes)
    if len(unknown):
        raise ValueError(f"The classifier has no class {unknown[0]}; it has {classes.tolist()}.")
    order = np.argsort(classes)
    return torch.from_numpy(order[np.searchsorted(classes, np.asarray(y), sorter=order)])


def _direction(
    model: Any, x: Tensor, target: Tensor, norm: float, stop_when_fooled: bool
) -> Tensor:
    """Steepest ascent of the cross-entropy, of length 1 in this norm."""
    x = x.detach().requires_grad_()
    log_p = model.log_probabilities(x)
    (slope,) = torch.autograd.grad(F.nll_loss(log_p, target, reduction="sum"), x)
    direction = slope.sign() if norm == np.inf else slope / _length(slope).clamp(min=1e-30)
    if stop_when_fooled:
        is_right = log_p.argmax(1) == target
        direction = direction * is_right.reshape(-1, *[1] * (x.ndim - 1))
    return direction


def _projected(change: Tensor, eps: float, norm: float) -> Tensor:
    if norm == np.inf:
        return change.clamp(-eps, eps)
    return change * (eps / _length(change).clamp(min=eps))


def _length(x: Tensor) -> Tensor:
    """Euclidean length of each sample, in a shape that divides x."""
    length: Tensor = torch.linalg.vector_norm(x.flatten(1), dim=1)
    return length.reshape(-1, *[1] * (x.ndim - 1))
