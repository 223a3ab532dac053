"""Training diagnostics: problems detected from weights, reconstructions and scores.

The diagnostics do not use settings, the duration of the training or labels. They detect unchanged
weights, reconstructions that do not depend on the samples, constant scores, and errors as large as
those of untrained networks, for any cause.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor, nn
from torch.optim import Optimizer

from gandetect.losses import mean_absolute_error, mean_squared_error

# With fewer distinct samples, equal reconstructions do not indicate a problem.
_MIN_SAMPLES = 10
# After fewer updates, reconstructions that have not improved, or do not depend on the input, do not
# indicate a problem.
_MIN_UPDATES = 100
# A ratio of the error to that of untrained networks that is reported after any number of updates.
_DIVERGED = 3.0
# Standard deviation between reconstructions, relative to that of samples, that counts as zero.
_COLLAPSED = 1e-2
# The same limit if the mean of all samples is a much better reconstruction. A network that still
# approaches that mean has an error near that of the mean.
_COLLAPSED_AROUND_NO_SAMPLE, _WORSE_THAN_MEAN = 0.3, 1.5
# Standard deviation of a part of the score, relative to its mean, that may be float32 rounding.
_CONSTANT = 1e-5
# Growth of a network's weights that counts as divergence. The error does not show it if an
# activation bounds the outputs, as for images.
_EXPLODED = 50.0
# A loss of the discriminator below which its gradients are too small for training.
_SATURATED = 1e-6


class TrainingWarning(ConvergenceWarning):  # type: ignore[misc]  # scikit-learn has no types
    """A problem of the training in `training_report_`, with its remedy."""


@dataclass(frozen=True)
class TrainingReport:
    """Measured values of a finished training, and the problems that they show.

    Parameters
    ----------
    problems : dict of str to str
        Each problem with its remedy; empty if none was found. The keys are "diverged",
        "weights_did_not_move", "weights_exploded", "no_better_than_untrained",
        "collapsed_generator", "constant_scores" and "saturated_discriminator".
    n_updates : int
    n_samples : int
        Number of different training samples whose reconstructions were used. With fewer than 10 no
        problem is reported.
    still_networks : tuple of str
        Networks whose weights did not change in optimizer steps.
    weight_growth : dict of str to float
        For each network, the Euclidean norm of its weights, divided by the norm before training.
    reconstruction_error, untrained_error : tuple of float
        For each member, the mean absolute error in scaled units, after and before training.
    reconstruction_spread : tuple of float
        For each member, the standard deviation of the reconstructions between samples, divided by
        that of the samples; 0 if all reconstructions are equal.
    score_spread : tuple of float
        For each member, the largest standard deviation of a part of the score over training
        samples, relative to the mean of that part.
    discriminator_loss : float or None
        Mean over the last epoch, if the method has a loss of this name.
    error_to_mean : tuple of float
        For each member, the mean squared error, divided by the error of a constant reconstruction,
        the mean of all samples; above 1 if this constant is the better reconstruction. Empty in
        files of versions without this value.

    Examples
    --------
    >>> import numpy as np
    >>> from gandetect import GANomalyDetector
    >>> X = np.random.default_rng(0).normal(size=(100, 4))
    >>> GANomalyDetector(epochs=20, random_state=0).fit(X).training_report_.problems
    {}
    """

    problems: dict[str, str]
    n_updates: int
    n_samples: int
    still_networks: tuple[str, ...]
    weight_growth: dict[str, float]
    reconstruction_error: tuple[float, ...]
    untrained_error: tuple[float, ...]
    reconstruction_spread: tuple[float, ...]
    score_spread: tuple[float, ...]
    discriminator_loss: float | None
    error_to_mean: tuple[float, ...] = ()

    def message(self) -> str:
        """Return the problems in one paragraph, for the warning."""
        return " ".join(self.problems.values()) + " See training_report_ for the figures."


@dataclass(frozen=True, eq=False)
class Reconstructions:
    """Figures on reconstructions, (K,) each.

    Parameters
    ----------
    error : Tensor
        Mean absolute error in scaled units.
    spread : Tensor
        Standard deviation of the reconstructions between samples, divided by that of the samples.
    error_to_mean : Tensor
        Mean squared error, divided by the error of the mean of all samples as reconstruction.
    n_samples : int
        The number of samples, without duplicates.
    """

    error: Tensor
    spread: Tensor
    error_to_mean: Tensor
    n_samples: int

    @classmethod
    def of(cls, x: Tensor, x_hat: Tensor) -> Reconstructions:
        """Compute the figures from scaled samples (n, K, ...) and their reconstructions."""
        x, x_hat = x.flatten(2).double(), x_hat.flatten(2).double()
        variance_in, variance_out = (v.var(0, correction=0).mean(-1) for v in (x, x_hat))
        return cls(
            error=mean_absolute_error(x, x_hat).mean(0),
            spread=(variance_out / variance_in).sqrt(),
            error_to_mean=mean_squared_error(x, x_hat).mean(0) / variance_in,
            n_samples=len(x[:, 0].unique(dim=0)),
        )


@dataclass(frozen=True, eq=False)
class Beginning:
    """The state of the networks before the training.

    Parameters
    ----------
    networks : ModuleDict
    reconstruct : callable
        Returns `Reconstructions` of some training samples by the current networks.
    digests : dict of str to bytes
        Digests of the networks' parameters, which take less memory than copies.
    sizes : dict of str to float
        Euclidean norm of the weights of each network.
    untrained_error : tuple of float
        Mean absolute error of each member before its first training.
    """

    networks: nn.ModuleDict
    reconstruct: Callable[[], Reconstructions]
    digests: dict[str, bytes]
    sizes: dict[str, float]
    untrained_error: tuple[float, ...]

    @classmethod
    def of(
        cls,
        networks: nn.ModuleDict,
        reconstruct: Callable[[], Reconstructions],
        earlier: TrainingReport | None,
    ) -> Beginning:
        """Record the current networks; `earlier` is the report of their earlier training."""
        digests = {name: _digest(p) for name, p in networks.named_parameters()}
        sizes = {name: _size(network.parameters()) for name, network in networks.items()}
        error = earlier.untrained_error if earlier else tuple(reconstruct().error.tolist())
        return cls(networks, reconstruct, digests, sizes, error)

    def still_networks(self, optimizers: Iterable[Optimizer]) -> tuple[str, ...]:
        """Return the networks whose weights are all unchanged although they were to be trained.

        A network that no optimizer has updated is not counted, such as a discriminator during a
        warm-up. If no network was updated, all are returned.
        """
        stepped = {id(p) for optimizer in optimizers for p in optimizer.state}
        still = []
        for name, network in self.networks.items():
            own = dict(network.named_parameters(prefix=name))
            if stepped and not any(id(p) in stepped for p in own.values()):
                continue
            trainable = {n: p for n, p in own.items() if p.requires_grad}
            if trainable and all(_digest(p) == self.digests[n] for n, p in trainable.items()):
                still.append(name)
        return tuple(still)

    def weight_growth(self) -> dict[str, float]:
        """Return the norm of each network's weights, divided by the norm before the training."""
        growth = {}
        for name, network in self.networks.items():
            if self.sizes[name] > 0:
                growth[name] = _size(network.parameters()) / self.sizes[name]
        return growth

    def report(self, run: Any, parts: Mapping[str, Tensor]) -> TrainingReport:
        """Return the report on the networks after the training `run`.

        Parameters
        ----------
        run : TrainingRun
        parts : dict of str to Tensor of shape (K, n)
            The parts of the score of training samples.
        """
        now = self.reconstruct()
        # Restored weights, and a training interrupted in its first updates, are not reported.
        was_moved = run.n_updates and not run.has_diverged
        still = self.still_networks(run.optimizers.values()) if was_moved else ()
        losses = run.history[-1] if run.history else {}
        spreads = torch.stack([_relative_spread(values) for values in parts.values()])
        report = TrainingReport(
            problems={},
            n_updates=run.n_updates,
            n_samples=now.n_samples,
            still_networks=still,
            weight_growth=self.weight_growth(),
            reconstruction_error=tuple(now.error.tolist()),
            untrained_error=self.untrained_error,
            reconstruction_spread=tuple(now.spread.tolist()),
            error_to_mean=tuple(now.error_to_mean.tolist()),
            score_spread=tuple(spreads.amax(0).tolist()),
            discriminator_loss=losses.get("discriminator"),
        )
        report.problems.update(_problems(report, run.has_diverged))
        return report


def _digest(weights: Tensor) -> bytes:
    """Return a digest by which changed weights are detected."""
    values = weights.detach().cpu().flatten().numpy()
    return hashlib.sha256(values.view(np.uint8).data).digest()


def _size(weights: Iterable[Tensor]) -> float:
    """Euclidean norm of all weights together."""
    norms = [torch.linalg.vector_norm(w.detach(), dtype=torch.float64) for w in weights]
    return float(torch.linalg.vector_norm(torch.stack(norms))) if norms else 0.0


def _relative_spread(values: Tensor) -> Tensor:
    """Return the standard deviation of values (K, n), divided by the absolute mean."""
    values = values.double()
    size = values.abs().mean(1)
    return torch.where(size > 0, values.std(1, correction=0) / size, 0.0)


def _problems(report: TrainingReport, has_diverged: bool) -> dict[str, str]:
    """Return each problem with its remedy."""
    if report.n_samples < _MIN_SAMPLES:
        return {}
    is_late = report.n_updates >= _MIN_UPDATES
    bound = 1.0 if is_late else _DIVERGED
    n_members = len(report.reconstruction_error)
    pairs = zip(report.reconstruction_error, report.untrained_error, strict=True)
    n_no_better = sum(not error < bound * untrained for error, untrained in pairs)
    errors_to_mean = report.error_to_mean or (1.0,) * n_members
    n_worse = sum(not error <= 1 for error in errors_to_mean)
    n_alike = sum(
        not spread > (_COLLAPSED if error <= _WORSE_THAN_MEAN else _COLLAPSED_AROUND_NO_SAMPLE)
        for spread, error in zip(report.reconstruction_spread, errors_to_mean, strict=True)
    )
    n_constant = sum(not spread > _CONSTANT for spread in report.score_spread)
    exploded = [name for name, by in report.weight_growth.items() if not by < _EXPLODED]
    loss = report.discriminator_loss
    found = {
        "diverged": has_diverged,
        "weights_did_not_move": bool(report.still_networks),
        "weights_exploded": bool(exploded),
        "no_better_than_untrained": 2 * n_no_better >= n_members,
        "collapsed_generator": is_late and 2 * n_alike >= n_members,
        "constant_scores": 2 * n_constant >= n_members,
        "saturated_discriminator": loss is not None and abs(loss) < _SATURATED,
    }
    sentences = {
        "diverged": (
            "A loss or a weight was not finite, and earlier weights were restored: lower the "
            "learning_rate, or scale X."
        ),
        "weights_did_not_move": (
            f"No weight of {' and '.join(report.still_networks)} changed: raise the learning_rate, "
            "and check that the losses have gradients and weights above 0."
        ),
        "weights_exploded": (
            f"The weights of {' and '.join(exploded)} grew by a factor of {_EXPLODED:.0f} or more: "
            "lower the learning_rate, or scale X."
        ),
        "no_better_than_untrained": (
            f"{n_no_better} of {n_members} members reconstruct training samples no better than "
            "before training: lower the learning_rate, or train for more epochs."
        ),
        "collapsed_generator": (
            f"{n_alike} of {n_members} members reconstruct different samples almost equally"
            + (", and worse than their mean would be" if n_worse else "")
            + ": train for more epochs, change the learning_rate, or raise latent_dim or the "
            "weight of the reconstruction loss."
        ),
        "constant_scores": (
            f"{n_constant} of {n_members} members give all training samples the same score: lower "
            "the learning_rate, or choose another score."
        ),
        "saturated_discriminator": (
            f"The discriminator's loss is {loss}: it separates samples from generated ones without "
            "errors, so that the generator gets no useful gradient. Lower the learning_rate, or "
            "use dropout or spectral normalisation (architecture)."
        ),
    }
    return {name: sentences[name] for name, is_so in found.items() if is_so}
