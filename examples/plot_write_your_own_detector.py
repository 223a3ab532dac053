"""
How do I turn an idea into a detector?
======================================

A detector consists of two classes: a model, whose hooks define the networks, the update and the
score, and an estimator, which has the parameters. The base classes provide fitting, thresholds,
saving, ensembles, and the handling of rows and images.

The idea here is the adversarial autoencoder of Makhzani et al. (2015): an autoencoder reconstructs
normal samples, and a discriminator makes its codes look like draws from a normal distribution. An
anomaly is reconstructed badly, or has a code that is no such draw.
"""

# %%
# The model
# ---------
# ``x`` is a batch that is scaled and on the device, with the members of the ensemble first:
# (members, samples, features) for rows. Networks and losses take and return this layout, so that
# the code does not depend on the number of members, or on whether samples are rows or images.
# Parameters are read from ``self.settings``, a copy of the parameters of the fit.

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor
from torch.optim import Adam, Optimizer

from gandetect import MLP, BaseDetector
from gandetect.base import check_real
from gandetect.losses import (
    loss_as_fake,
    loss_as_real,
    mean_absolute_error,
)
from gandetect.metrics import roc_auc_scorer
from gandetect.model import Model, Part, value_of
from gandetect.networks import NetworkMaker
from gandetect.plotting import ScoreHistogramDisplay, TrainingCurveDisplay
from gandetect.training import TrainingRun, update


class AdversarialAutoencoderModel(Model["AdversarialAutoencoderDetector"]):
    """Encoder, decoder and a discriminator of codes."""

    # The parts of the score, and their weights in the default score of
    # rows and of images. The distances to training samples are there for
    # any method that names them.
    part_weights: ClassVar[Mapping[str, tuple[float, float]]] = {
        "reconstruction": (1.0, 1.0),
        "code": (1.0, 1.0),
        "neighbours": (0.0, 0.0),
        "sample_neighbours": (0.0, 0.0),
    }

    def build(self, make: NetworkMaker) -> None:
        # `make` gives networks for the kind of data at hand; codes are
        # rows whatever that is.
        codes = MLP().bind(
            (self.latent_dim,), self.n_members, "linear", make.generator
        )
        self.encoder = make.encoder(self.latent_dim)
        self.decoder = make.decoder(self.latent_dim)
        self.discriminator = codes.discriminator()

    def optimizers(self) -> dict[str, Optimizer]:
        rate = self.settings.learning_rate
        autoencoder = [
            *self.encoder.parameters(),
            *self.decoder.parameters(),
        ]
        return {
            "discriminator": Adam(
                self.discriminator.parameters(), rate, (0.5, 0.999)
            ),
            "autoencoder": Adam(autoencoder, rate, (0.5, 0.999)),
        }

    def training_step(
        self, x: Tensor, run: TrainingRun
    ) -> dict[str, Tensor]:
        # 1. The discriminator tells draws from codes. Random numbers are
        # those of the fit.
        z = self.encoder(x)
        real_logits, _ = self.discriminator(run.random.normal_like(z))
        fake_logits, _ = self.discriminator(z.detach())
        discriminator = (
            loss_as_real(real_logits) + loss_as_fake(fake_logits)
        ) / 2
        update(run.optimizers["discriminator"], discriminator)

        # 2. The autoencoder reconstructs, and passes its codes for draws.
        reconstruction = mean_absolute_error(x, self.decoder(z))
        adversarial = loss_as_real(self.discriminator(z)[0])
        loss = (
            self.settings.reconstruction_weight * reconstruction
            + adversarial
        )
        update(run.optimizers["autoencoder"], loss)
        return {
            "reconstruction": reconstruction,
            "adversarial": adversarial,
            "discriminator": discriminator,
        }

    def parts(self, x: Tensor) -> dict[str, Part]:
        z = self.encoder(x)
        return {
            "reconstruction": mean_absolute_error(x, self.decoder(z)),
            "code": z.square().mean(
                dim=-1
            ),  # minus the log density of a draw, but for constants
        }

    def paper_score(self, parts: Mapping[str, Part]) -> Tensor:
        return value_of(parts["reconstruction"])

    def encode(self, x: Tensor) -> Tensor:
        return self.encoder(x)

    def reconstruct(self, x: Tensor) -> Tensor:
        return self.decoder(self.encoder(x))

    def discriminator_features(self, x: Tensor) -> Tensor:
        return self.discriminator(self.encoder(x))[1]


# %%
# The estimator
# -------------
# A keyword-only dataclass whose fields are its own parameters, checked before anything is trained.


@dataclass(eq=False, repr=False, kw_only=True)
class AdversarialAutoencoderDetector(BaseDetector):
    """An autoencoder whose codes a discriminator makes look like normal draws.

    Parameters
    ----------
    reconstruction_weight : float, default=50.0
        Weight of the mean absolute error of the reconstruction.
    {shared_parameters}
    """

    reconstruction_weight: float = 50.0

    model_class: ClassVar[type[AdversarialAutoencoderModel]] = (
        AdversarialAutoencoderModel
    )

    def _check_own_parameters(self) -> None:
        check_real(self, "reconstruction_weight", 0)


# %%
# Rows
# ----
# It is used like any other detector.

X, y = load_breast_cancer(return_X_y=True)
X_train, X_kept = train_test_split(
    X[y == 1], test_size=0.5, random_state=0
)
detector = AdversarialAutoencoderDetector(epochs=100, random_state=0).fit(
    X_train
)
detector.infer_threshold(X_kept, outlier_perc=5)
print(
    f"{(detector.predict(X[y == 0]) == -1).mean():.0%} of the malignant "
    "rows are flagged"
)

X_judged = np.concatenate([X_kept, X[y == 0]])
is_anomaly = np.repeat([0, 1], [len(X_kept), np.sum(y == 0)])
_ = ScoreHistogramDisplay.from_estimator(detector, X_judged, is_anomaly)

# %%
# The losses that a step returns are in ``history_``, epoch by epoch.

_ = TrainingCurveDisplay.from_estimator(detector)

# %%
# Which part of the score does the work? ``score`` may be changed after fitting. Distances to
# training samples are only there if they were part of the score in ``fit``.

for part in ("reconstruction", "code"):
    auroc = roc_auc_scorer(
        detector.set_params(score=part), X_judged, is_anomaly
    )
    print(f"{part:15s} AUROC {auroc:.3f}")
detector.set_params(score=None)

# %%
# Images
# ------
# Not a line of it is about rows, so it takes images as well.

digits = load_digits()
sixes = digits.images[digits.target == 6]
detector = AdversarialAutoencoderDetector(epochs=40, random_state=0).fit(
    sixes[:120]
)
X_judged = np.concatenate([sixes[120:], digits.images[digits.target == 4]])
is_anomaly = np.repeat(
    [0, 1], [len(sixes) - 120, np.sum(digits.target == 4)]
)
print(
    "sixes against fours: AUROC "
    f"{roc_auc_scorer(detector, X_judged, is_anomaly):.3f}"
)

# %%
# ``detector.save(path)`` and ``AdversarialAutoencoderDetector.load(path)`` work without further
# code; `gandetect.load` reads only detectors of the package. To add the detector to the package,
# with the tests of every guarantee, follow the guide for contributors.
