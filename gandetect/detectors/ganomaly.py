"""GANomaly: encode, decode, encode again; an anomaly's second code is far from its first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gandetect.base import BaseDetector
from gandetect.losses import (
    loss_as_fake,
    loss_as_real,
    mean_absolute_error,
    mean_squared_error,
    norm_distance,
)
from gandetect.training import update


@dataclass(eq=False, repr=False, kw_only=True)
class GANomalyDetector(BaseDetector):
    """x"""

    adversarial_weight: float = 1.0
    reconstruction_weight: float = 50.0
    latent_weight: float = 1.0
    adversarial_loss: str = "feature"
    score_norm: str = "l1"
    collapse_loss: float | None = 1e-5

    part_weights: ClassVar[dict[str, float]] = {
        "latent": 1.0,
        "reconstruction": 1.0,
        "feature": 0.0,
        "discriminator": 0.0,
    }

    def _build_networks(self, make: Any) -> dict[str, nn.Module]:
        return {
            "encoder": make.encoder(self._latent_dim()),
            "decoder": make.decoder(self._latent_dim()),
            "re_encoder": make.encoder(self._latent_dim()),
            "discriminator": make.discriminator(),
        }

    def _build_optimizers(self, nets: Any) -> dict[str, Optimizer]:
        return {
            "generator": self._adam(nets.encoder, nets.decoder, nets.re_encoder),
            "discriminator": self._adam(nets.discriminator),
        }

    def _train_step(
        self, nets: Any, optimizers: dict[str, Optimizer], x: Tensor, progress: float
    ) -> dict[str, Tensor]:
        z = nets.encoder(x)
        x_hat = nets.decoder(z)
        z_hat = nets.re_encoder(x_hat)
        logits, features = nets.discriminator(torch.cat([x, x_hat], dim=1))
        real_logits, fake_logits = logits.chunk(2, dim=1)
        real_features, fake_features = features.chunk(2, dim=1)

        # 1. The generator
        adversarial = mean_squared_error(real_features.detach(), fake_features)
        reconstruction = mean_absolute_error(x, x_hat)
        latent = mean_squared_error(z, z_hat)
        update(
            optimizers["generator"],
            self.adversarial_weight * adversarial
            + self.reconstruction_weight * reconstruction
            + self.latent_weight * latent,
            retain_graph=True,
        )
        # 2. The discriminator
        d_loss = (loss_as_real(real_logits) + loss_as_fake(fake_logits)) / 2
        update(optimizers["discriminator"], d_loss)
        return {
            "adversarial": adversarial,
            "reconstruction": reconstruction,
            "latent": latent,
            "discriminator": d_loss,
        }

    def _score_parts(self, nets: Any, x: Tensor) -> dict[str, Tensor]:
        z = nets.encoder(x)
        x_hat = nets.decoder(z)
        z_hat = nets.re_encoder(x_hat)
        return {
            "latent": norm_distance(z, z_hat, 1),
            "reconstruction": mean_absolute_error(x, x_hat),
        }

    def _paper_score(self, parts):
        return parts["latent"]

    def _encode(self, nets: Any, x: Tensor) -> Tensor:
        return nets.encoder(x)

    def _reconstruct(self, nets: Any, x: Tensor) -> Tensor:
        return nets.decoder(nets.encoder(x))
