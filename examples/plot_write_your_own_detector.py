"""
How do I turn an idea into a detector?
======================================

A detector is four hooks: which networks there are, who moves which of them, what one update does,
and how a sample is scored. Fitting, thresholds, saving, ensembles, rows and images come with the
base class.

The idea here is the adversarial autoencoder of Makhzani et al. (2015): an autoencoder reconstructs
normal samples, and a discriminator makes its codes look like draws from a normal distribution. An
anomaly is reconstructed badly, or has a code that is no such draw.
"""

# %%
# The detector
# ------------
# ``x`` is a batch that is scaled and on the device, with the members of the ensemble first:
# (members, samples, features) for rows. Networks and losses take and give this layout, so that
# nothing here knows how many members there are, or whether samples are rows or images.

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.model_selection import train_test_split

from gandetect import MLP, BaseDetector
from gandetect.losses import loss_as_fake, loss_as_real, mean_absolute_error
from gandetect.metrics import roc_auc_scorer
from gandetect.plotting import ScoreHistogramDisplay, TrainingCurveDisplay
from gandetect.training.loop import update


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

    # The parts of the score, and their weights in the default score of rows and of images.
    part_weights: ClassVar = {"reconstruction": (1.0, 1.0), "code": (1.0, 1.0)}

    def _build_networks(self, make):
        # `make` gives networks for the kind of data at hand; codes are rows whatever that is.
        on_codes = MLP().bind((self.latent_dim_,), make.n_members, "linear")
        return {
            "encoder": make.encoder(self.latent_dim_),
            "decoder": make.decoder(self.latent_dim_),
            "discriminator": on_codes.discriminator(),
        }

    def _build_optimizers(self, nets):
        return {
            "autoencoder": self._adam(nets.encoder, nets.decoder),
            "discriminator": self._adam(nets.discriminator),
        }

    def _train_step(self, nets, optimizers, x, progress):
        # 1. The discriminator tells draws from codes.
        z = nets.encoder(x)
        real_logits, _ = nets.discriminator(torch.randn_like(z))
        fake_logits, _ = nets.discriminator(z.detach())
        discriminator = (loss_as_real(real_logits) + loss_as_fake(fake_logits)) / 2
        update(optimizers["discriminator"], discriminator)

        # 2. The autoencoder reconstructs, and passes its codes for draws.
        reconstruction = mean_absolute_error(x, nets.decoder(z))
        adversarial = loss_as_real(nets.discriminator(z)[0])
        loss = self.reconstruction_weight * reconstruction + adversarial
        update(optimizers["autoencoder"], loss)
        return {
            "reconstruction": reconstruction,
            "adversarial": adversarial,
            "discriminator": discriminator,
        }

    def _score_parts(self, nets, x):
        z = nets.encoder(x)
        return {
            "reconstruction": mean_absolute_error(x, nets.decoder(z)),
            "code": z.square().mean(dim=-1),  # minus the log density of a draw, but for constants
        }

    def _paper_score(self, parts):
        return parts["reconstruction"]

    def _encode(self, nets, x):
        return nets.encoder(x)

    def _reconstruct(self, nets, x):
        return nets.decoder(nets.encoder(x))

    def _discriminator_features(self, nets, x):
        return nets.discriminator(nets.encoder(x))[1]


# %%
# Rows
# ----
# It is used like any other detector.

X, y = load_breast_cancer(return_X_y=True)
X_train, X_kept = train_test_split(X[y == 1], test_size=0.5, random_state=0)
detector = AdversarialAutoencoderDetector(epochs=100, random_state=0).fit(X_train)
detector.infer_threshold(X_kept, outlier_perc=5)
print(f"{(detector.predict(X[y == 0]) == -1).mean():.0%} of the malignant rows are flagged")

X_judged = np.concatenate([X_kept, X[y == 0]])
is_anomaly = np.repeat([0, 1], [len(X_kept), np.sum(y == 0)])
_ = ScoreHistogramDisplay.from_estimator(detector, X_judged, is_anomaly)

# %%
# The losses that a step returns are in ``history_``, epoch by epoch.

_ = TrainingCurveDisplay.from_estimator(detector)

# %%
# Which part of the score does the work? ``score`` may be changed after fitting.

for part in detector.part_weights:
    auroc = roc_auc_scorer(detector.set_params(score=part), X_judged, is_anomaly)
    print(f"{part:15s} AUROC {auroc:.3f}")
detector.set_params(score=None)

# %%
# Images
# ------
# Not a line of it is about rows, so it takes images as well.

digits = load_digits()
sixes = digits.images[digits.target == 6]
detector = AdversarialAutoencoderDetector(epochs=40, random_state=0).fit(sixes[:120])
X_judged = np.concatenate([sixes[120:], digits.images[digits.target == 4]])
is_anomaly = np.repeat([0, 1], [len(sixes) - 120, np.sum(digits.target == 4)])
print(f"sixes against fours: AUROC {roc_auc_scorer(detector, X_judged, is_anomaly):.3f}")

# %%
# To make it one of ``gandetect``'s own, with tests that hold it to every promise of the others,
# follow the guide for contributors. It is saved with pickle until then: `gandetect.load` opens the
# package's own detectors alone.
