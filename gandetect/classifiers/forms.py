"""The functions of scikit-learn's classifiers as tensors and formulas.

The arithmetic is in float64, as in scikit-learn. All results are log-probabilities: differences
between them stay accurate where a probability itself is rounded to 0 or 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "tanh": torch.tanh,
    "logistic": torch.sigmoid,
    "identity": lambda x: x,
}


class Classifier(Protocol):
    """A differentiable function from samples in the units of X to log-probabilities.

    Attributes
    ----------
    takes_rows : bool
        Whether samples are flat rows in the order of X; if not they are (n, *sample_shape).
    """

    takes_rows: ClassVar[bool]

    def log_probabilities(self, x: Tensor) -> Tensor:
        """Return the log-probabilities of the classes (n, n_classes) for samples (n, ...)."""

    def with_hidden(self, x: Tensor, layers: Sequence[str]) -> tuple[Tensor, list[Tensor]]:
        """Return the log-probabilities, and the outputs (n, width) of the given hidden layers."""


@dataclass(frozen=True, eq=False)
class DenseClassifier:
    """A linear model or a multilayer perceptron.

    Parameters
    ----------
    weights, biases : tuple of Tensor, float64
        Of shapes (n_in, n_out) and (n_out,), from the first layer to the last. One output is the
        logit of the second of two classes.
    activation : {"relu", "tanh", "logistic", "identity"}
        The activation after each layer except the last.
    """

    weights: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]
    activation: str = "identity"

    takes_rows: ClassVar[bool] = True

    def log_probabilities(self, x: Tensor) -> Tensor:
        """Return the log-probabilities (n, n_classes) of rows (n, d)."""
        return self.with_hidden(x, ())[0]

    def with_hidden(self, x: Tensor, layers: Sequence[str]) -> tuple[Tensor, list[Tensor]]:
        """Return log-probabilities, and outputs of hidden layers "0", "1", ... after activation."""
        x = x.double()
        outputs = {}
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.addmm(bias.to(x.device), x, weight.to(x.device))
            if i < len(self.weights) - 1:
                x = outputs[str(i)] = _ACTIVATIONS[self.activation](x)
        unknown = set(layers) - set(outputs)
        if unknown:
            raise ValueError(
                f"hidden_layers names {sorted(unknown)}, but the classifier has the hidden layers "
                f"{list(outputs)}."
            )
        return log_softmax_of_logits(x), [outputs[name] for name in layers]

    def after(self, matrix: Tensor, offset: Tensor) -> Self:
        """Return the classifier of rows x that applies this one to ``x @ matrix + offset``.

        The affine map is merged into the first layer, and adds no computation.
        """
        weight = matrix @ self.weights[0]
        bias = offset @ self.weights[0] + self.biases[0]
        return replace(self, weights=(weight, *self.weights[1:]), biases=(bias, *self.biases[1:]))


@dataclass(frozen=True, eq=False)
class OneVsRest:
    """Binary classifiers, one for each class, whose probabilities are divided by their sum.

    Parameters
    ----------
    members : tuple of DenseClassifier or GaussianClassifier
    """

    members: tuple[DenseClassifier | GaussianClassifier, ...]

    takes_rows: ClassVar[bool] = True

    def log_probabilities(self, x: Tensor) -> Tensor:
        """Return the log-probabilities (n, n_classes) of rows (n, d)."""
        own = [member.log_probabilities(x)[:, 1] for member in self.members]
        return torch.stack(own, dim=1).log_softmax(dim=1)

    def with_hidden(self, x: Tensor, layers: Sequence[str]) -> tuple[Tensor, list[Tensor]]:
        """Return the log-probabilities only, because there are no hidden layers."""
        return _without_hidden(self, x, layers)

    def after(self, matrix: Tensor, offset: Tensor) -> Self:
        """The classifier of rows x whose input is ``x @ matrix + offset``."""
        return replace(self, members=tuple(m.after(matrix, offset) for m in self.members))


@dataclass(frozen=True, eq=False)
class GaussianClassifier:
    """Gaussian naive Bayes.

    Parameters
    ----------
    means, variances : Tensor of shape (n_classes, d), float64
    log_priors : Tensor of shape (n_classes,), float64
    matrix : Tensor of shape (d_in, d) or None, default=None
    offset : Tensor of shape (d,) or None, default=None
        An affine map ``x @ matrix + offset`` that is applied first. It is not merged into the
        Gaussians, because a rotation would give them covariances between features.
    """

    means: Tensor
    variances: Tensor
    log_priors: Tensor
    matrix: Tensor | None = None
    offset: Tensor | None = None

    takes_rows: ClassVar[bool] = True

    def log_probabilities(self, x: Tensor) -> Tensor:
        """Return the log-probabilities (n, n_classes) of rows (n, d)."""
        x = x.double()
        if self.matrix is not None and self.offset is not None:
            x = torch.addmm(self.offset.to(x.device), x, self.matrix.to(x.device))
        means, variances = self.means.to(x.device), self.variances.to(x.device)
        squares = ((x[:, None] - means) ** 2 / variances).sum(-1)
        log_determinants = (2 * math.pi * variances).log().sum(-1)
        joint = self.log_priors.to(x.device) - (squares + log_determinants) / 2
        return joint.log_softmax(dim=1)

    def with_hidden(self, x: Tensor, layers: Sequence[str]) -> tuple[Tensor, list[Tensor]]:
        """Return the log-probabilities only, because there are no hidden layers."""
        return _without_hidden(self, x, layers)

    def after(self, matrix: Tensor, offset: Tensor) -> Self:
        """The classifier of rows x whose input is ``x @ matrix + offset``."""
        if self.matrix is not None and self.offset is not None:
            matrix, offset = matrix @ self.matrix, offset @ self.matrix + self.offset
        return replace(self, matrix=matrix, offset=offset)


@dataclass(frozen=True, eq=False)
class LabelledClassifier:
    """A form and the labels of its classes, as a saved detector stores its classifier.

    Parameters
    ----------
    form : DenseClassifier, OneVsRest or GaussianClassifier
    classes_ : ndarray of shape (n_classes,)
    """

    form: DenseClassifier | OneVsRest | GaussianClassifier
    classes_: np.ndarray


FORMS = (DenseClassifier, OneVsRest, GaussianClassifier)


def log_softmax_of_logits(logits: Tensor) -> Tensor:
    """Convert logits (n, n_classes), or (n, 1) of the second class, to log-probabilities."""
    if logits.shape[1] == 1:
        return torch.cat([F.logsigmoid(-logits), F.logsigmoid(logits)], dim=1)
    return logits.log_softmax(dim=1)


def _without_hidden(
    classifier: Classifier, x: Tensor, layers: Sequence[str]
) -> tuple[Tensor, list[Tensor]]:
    if layers:
        raise ValueError(
            f"hidden_layers names {list(layers)}, but a {type(classifier).__name__} has no hidden "
            "layers: leave hidden_layers=None."
        )
    return classifier.log_probabilities(x), []
