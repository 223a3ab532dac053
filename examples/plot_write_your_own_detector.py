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
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from gandetect import MLP, BaseDetector, losses
from gandetect.base import check_real
from gandetect.metrics import roc_auc_scorer
from gandetect.model import Model, Part, value_of
from gandetect.networks import NetworkMaker
from gandetect.plotting import ScoreHistogramDisplay, TrainingCurveDisplay
from gandetect.training import TrainingRun, update


class AdversarialAutoencoderModel(Model["AdversarialAutoencoderDetector"]):
    """Encoder, decoder and a discriminator of codes."""

    # The parts of the score, and their weights in the default score of
    # rows and of images. Every method can name distances to samples.
    part_weights: ClassVar[Mapping[str, tuple[float, float]]] = {
        "reconstruction": (1.0, 1.0),
        "code": (1.0, 1.0),
        "neighbours": (0.0, 0.0),
        "sample_neighbours": (0.0, 0.0),
    }

    def build(self, make: NetworkMaker) -> None:
        # `make` gives networks for the kind of data at hand; codes are
        # rows whatever that is.
        shape, n = (self.latent_dim,), self.n_members
        codes = MLP().bind(shape, n, "linear", make.generator)
        self.encoder = make.encoder(self.latent_dim)
        self.decoder = make.decoder(self.latent_dim)
        self.discriminator = codes.discriminator()

    def optimizers(self) -> dict[str, Optimizer]:
        rate, betas = self.settings.learning_rate, (0.5, 0.999)
        autoencoder = nn.ModuleList([self.encoder, self.decoder])
        return {
            name: Adam(network.parameters(), rate, betas)
            for name, network in (
                ("discriminator", self.discriminator),
                ("autoencoder", autoencoder),
            )
        }

    def training_step(
        self, x: Tensor, run: TrainingRun
    ) -> dict[str, Tensor]:
        # 1. The discriminator tells draws from codes. Random numbers are
        # those of the fit.
        z = self.encoder(x)
        real_logits, _ = self.discriminator(run.random.normal_like(z))
        fake_logits, _ = self.discriminator(z.detach())
        discriminator = losses.loss_as_real(real_logits) / 2
        discriminator += losses.loss_as_fake(fake_logits) / 2
        update(run.optimizers["discriminator"], discriminator)

        # 2. The autoencoder reconstructs, and passes its codes for draws.
        reconstruction = losses.mean_absolute_error(x, self.decoder(z))
        adversarial = losses.loss_as_real(self.discriminator(z)[0])
        weight = self.settings.reconstruction_weight
        loss = weight * reconstruction + adversarial
        update(run.optimizers["autoencoder"], loss)
        return {
            "reconstruction": reconstruction,
            "adversarial": adversarial,
            "discriminator": discriminator,
        }

    def parts(self, x: Tensor) -> dict[str, Part]:
        z = self.encoder(x)
        x_hat = self.decoder(z)
        return {
            "reconstruction": losses.mean_absolute_error(x, x_hat),
            # Minus the log density of a draw, but for constants.
            "code": z.square().mean(dim=-1),
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
benign = X[y == 1]
X_train, X_kept = train_test_split(benign, test_size=0.5, random_state=0)
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
    detector.set_params(score=part)
    auroc = roc_auc_scorer(detector, X_judged, is_anomaly)
    print(f"{part:15s} AUROC {auroc:.3f}")
detector.set_params(score=None)

# %%
# Images
# ------
# Not a line of it is about rows, so it takes images as well.

digits = load_digits()
sixes, fours = (digits.images[digits.target == n] for n in (6, 4))
detector = AdversarialAutoencoderDetector(epochs=40, random_state=0).fit(
    sixes[:120]
)
X_judged = np.concatenate([sixes[120:], fours])
is_anomaly = np.repeat([0, 1], [len(sixes) - 120, len(fours)])
auroc = roc_auc_scorer(detector, X_judged, is_anomaly)
print(f"sixes against fours: AUROC {auroc:.3f}")

# %%
# ``detector.save(path)`` and ``AdversarialAutoencoderDetector.load(path)`` work without further
# code; `gandetect.load` reads only detectors of the package. To add the detector to the package,
# with the tests of every guarantee, follow the guide for contributors.
