"""
How do I write a detector whose score is a search?
==================================================

AnoGAN (Schlegl et al. 2017) was the first detector made of a generative adversarial network. It has
no encoder: a generator learns to draw normal samples, and the code of a sample is found by gradient
descent, as the one from which the generator comes closest to it. What it cannot come close to is
anomalous.

The hooks are those of :doc:`plot_write_your_own_detector`. What is new: `encode` needs gradients
while it scores, no exported file can hold it, and it takes its time.
"""

# %%
# The model
# ---------
# Scoring runs without gradients, so the search enables them with ``torch.enable_grad()``. The code
# of each sample is optimized independently: the loss is a sum over samples. All searches start at
# the mean of the prior, so that scores are reproducible.

from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral
from typing import ClassVar

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.utils import check_scalar
from torch import Tensor
from torch.optim import Adam, Optimizer

from gandetect import BaseDetector
from gandetect.base import check_real
from gandetect.losses import (
    loss_as_fake,
    loss_as_real,
    mean_squared_error,
    norm_distance,
)
from gandetect.metrics import roc_auc_scorer
from gandetect.model import Model, Part, value_of
from gandetect.networks import NetworkMaker
from gandetect.plotting import ReconstructionDisplay, ScoreHistogramDisplay
from gandetect.training import TrainingRun, update

# Of the search: how far a code is moved down the slope of its loss, and what is kept of the last
# move.
RATE, MOMENTUM = 0.5, 0.8


class AnoGANModel(Model["AnoGANDetector"]):
    """Generator and discriminator, and the score of what the generator comes closest with."""

    part_weights: ClassVar[Mapping[str, tuple[float, float]]] = {
        "residual": (1.0, 1.0),
        "feature": (0.1, 0.1),
        "neighbours": (0.0, 0.0),
    }
    auto_members: ClassVar[tuple[int, int]] = (4, 1)
    # With a rate that rises, neither of the two networks follows the other.
    auto_schedule: ClassVar[tuple[str | None, str | None]] = (None, None)
    cannot_be_exported: ClassVar[str | None] = (
        "its score searches codes by gradient, which the operators of "
        "exported files cannot do"
    )

    def build(self, make: NetworkMaker) -> None:
        self.generator = make.decoder(self.latent_dim)
        self.discriminator = make.discriminator()

    def optimizers(self) -> dict[str, Optimizer]:
        rate = self.settings.learning_rate
        return {
            name: Adam(network.parameters(), rate, (0.5, 0.999))
            for name, network in self.networks.items()
        }

    def training_step(
        self, x: Tensor, run: TrainingRun
    ) -> dict[str, Tensor]:
        like_codes = x.new_empty(*x.shape[:2], self.latent_dim)
        z = run.random.normal_like(like_codes)
        x_fake = self.generator(z)
        # A pass for each, so that batch normalisation does not mix real
        # and generated samples.
        real_logits, _ = self.discriminator(x)
        fake_logits, _ = self.discriminator(x_fake)
        generator = loss_as_real(fake_logits)
        update(run.optimizers["generator"], generator, retain_graph=True)
        discriminator = loss_as_real(real_logits)
        discriminator += loss_as_fake(fake_logits)
        update(run.optimizers["discriminator"], discriminator)
        return {"generator": generator, "discriminator": discriminator}

    def encode(self, x: Tensor) -> Tensor:
        # Gradients are needed whatever the caller has set in torch.
        with torch.inference_mode(False), torch.enable_grad():
            return self._searched(x.clone())

    def _searched(self, x: Tensor) -> Tensor:
        """The codes (K, B, latent_dim) of the samples that are closest to x."""
        z = x.new_zeros(*x.shape[:2], self.latent_dim)
        features = self.discriminator(x)[1].detach()
        move = torch.zeros_like(z)
        for _ in range(self.settings.n_steps):
            z.requires_grad_()
            (slope,) = torch.autograd.grad(
                self._distance(x, features, z).sum(), z
            )
            # Of length 1 at most: far from every sample that it can draw,
            # the slope is steep.
            slope = slope / slope.norm(dim=-1, keepdim=True).clamp(min=1.0)
            move = MOMENTUM * move - RATE * (1 - MOMENTUM) * slope
            z = z.detach() + move
        return z

    def _distance(self, x: Tensor, features: Tensor, z: Tensor) -> Tensor:
        """How far G(z) is from x and from its features: squares, whose slopes do not jump."""
        x_hat, weight = self.generator(z), self.settings.feature_weight
        features_hat = self.discriminator(x_hat)[1]
        feature = mean_squared_error(features, features_hat)
        residual = mean_squared_error(x, x_hat)
        return (1 - weight) * residual + weight * feature

    def parts(self, x: Tensor) -> dict[str, Part]:
        x_hat = self.reconstruct(x)
        features, features_hat = (
            self.discriminator(of)[1] for of in (x, x_hat)
        )
        return {
            "residual": norm_distance(x, x_hat, degree=1),
            "feature": norm_distance(features, features_hat, degree=1),
        }

    def paper_score(self, parts: Mapping[str, Part]) -> Tensor:
        weight = self.settings.feature_weight
        residual = value_of(parts["residual"])
        feature = value_of(parts["feature"])
        return (1 - weight) * residual + weight * feature

    def reconstruct(self, x: Tensor) -> Tensor:
        return self.generator(self.encode(x))

    def discriminator_features(self, x: Tensor) -> Tensor:
        return self.discriminator(x)[1]


@dataclass(eq=False, repr=False, kw_only=True)
class AnoGANDetector(BaseDetector):
    """AnoGAN: a generator of normal samples, and the code of each found by gradient descent.

    Parameters
    ----------
    feature_weight : float in [0, 1], default=0.1
        Share of the discriminator's features in the search and in ``score="paper"``, the
        difference of the samples themselves having the rest.
    n_steps : int, default=50
        Of the search. Scoring takes as many passes forward and backward; the paper has 500.
    {shared_parameters}
    """

    feature_weight: float = 0.1
    n_steps: int = 50

    model_class: ClassVar[type[AnoGANModel]] = AnoGANModel

    def _check_own_parameters(self) -> None:
        check_real(self, "feature_weight", 0, 1)
        check_scalar(self.n_steps, "n_steps", Integral, min_val=1)


# %%
# Digits
# ------
# It learns to draw sixes, and is asked about fours.

digits = load_digits()
sixes, fours = (digits.images[digits.target == n] for n in (6, 4))
detector = AnoGANDetector(latent_dim=8, random_state=0).fit(sixes[:120])
X = np.concatenate([sixes[120:], fours])
is_anomaly = np.repeat([0, 1], [len(sixes) - 120, len(fours)])
for score in (None, "paper", "residual", "feature"):
    auroc = roc_auc_scorer(detector.set_params(score=score), X, is_anomaly)
    print(f"score={score!r}: AUROC {auroc:.3f}")
detector.set_params(score=None)
_ = ScoreHistogramDisplay.from_estimator(detector, X, is_anomaly)

# %%
# What the generator comes closest with: a six for a six, and the six that is most like each four.

_ = ReconstructionDisplay.from_estimator(
    detector, np.concatenate([sixes[120:123], fours[:3]])
)

# %%
# A method that cannot be exported gives the reason in ``cannot_be_exported``, which is the message
# of the error. It can be saved, loaded and pickled like any other.
