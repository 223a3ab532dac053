"""BiGAN: encoder and generator, each taught by a discriminator of pairs to undo the other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.utils import check_scalar
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn
from torch.optim import Optimizer

from gandetect.base import BaseDetector
from gandetect.data.sources import channels_restored
from gandetect.losses import loss_as_fake, loss_as_real, mean_absolute_error, norm_distance
from gandetect.model.parameters import check_choice, check_real
from gandetect.model.scoring import Part, value_of
from gandetect.networks import MLP
from gandetect.training.device import RandomState, draw_seed, isolated_seed, resolve_device
from gandetect.training.loop import update

# Samples drawn at once, so that memory grows only with what is returned.
_DRAWN_AT_ONCE = 256


@dataclass(eq=False, repr=False, kw_only=True)
class BiGANDetector(BaseDetector):
    """BiGAN: a generator, an encoder that inverts it, and a discriminator of pairs.

    The discriminator tells a sample with its code, (x, E(x)), from a code with its sample,
    (G(z), z); the generator and the encoder each learn to make their pairs pass for the other's.
    Where they succeed they undo one another, on what is normal: an anomaly comes back changed.
    With ``variant="alad"`` two more discriminators hold them to it.

    The default score is ``alpha`` of the reconstruction part and ``1 - alpha`` of the
    discriminator's, standardised, and beside them the mean distance to the five nearest training
    codes: on rows as much of it; on images twelve times as much, and five times as much of the
    distance between the codes of a sample and of its reconstruction. These two are not part of
    the published method; ``score="paper"`` is the published score alone.

    Parameters
    ----------
    variant : {"bigan", "alad"}, default="bigan"
        "bigan" is Efficient GAN-based anomaly detection (EGBAD) [1]_. "alad" is adversarially
        learned anomaly detection [2]_: a discriminator tells (x, x) from (x, G(E(x))), another
        (z, z) from (z, E(G(z))), and the feature part is taken from the first of them.
    reconstruction_weight : float, default=50.0
        Weight of the mean absolute error of G(E(x)) in the loss of both networks. With 0, as
        published, nothing but the adversarial game makes them inverse to each other.
    stochastic_encoder : bool or "auto", default="auto"
        Whether the encoder has a mean and a variance, of which training draws its codes; scores
        and codes are always those of the mean. "auto" is True for rows and False for images,
        as did better on the benchmark's tuning half.
    label_smoothing : float in [0, 0.5), default=0.0
        The discriminators learn ``1 - label_smoothing`` for real pairs.
    instance_noise : float, default=0.0
        Standard deviation, in scaled units, of noise on the samples that the discriminator of
        pairs sees in training; it fades to 0 at the end.
    alpha : float in [0, 1], default=0.9
        Share of the reconstruction part in the score, the discriminator's part having the rest.
        After changing it, or one of the two below, set the threshold again.
    discriminator_score : {"feature", "cross_entropy"}, default="feature"
        The discriminator's part: the distance of its features of (x, E(x)) and (G(E(x)), E(x)), or
        the cross-entropy of taking (x, E(x)) for real.
    degree : {1, 2}, default=1
        Of the norms in the score: the sum of absolutes, or Euclid's.
    beta_1 : float in [0, 1), default=0.5
        Adam's decay of the mean gradient; DCGAN's value.
    {shared_parameters}

    Attributes
    ----------
    networks_ : ModuleDict
        "encoder", "generator" and "discriminator", of all members; for "alad" also
        "discriminator_xx" and "discriminator_zz".
    threshold_, offset_ : float
        A sample is flagged when its anomaly score exceeds ``threshold_ = -offset_``.
    history_ : list of dict
        One record an epoch: "epoch", "encoder", "generator", "reconstruction", "discriminator".
    n_iter_ : int
        Epochs trained.
    stop_reason_ : str
        Why training ended.
    training_report_ : TrainingReport
        What went wrong in the training, if anything did.
    n_features_in_, feature_names_in_, input_shape_
        What X looked like.

    See Also
    --------
    GANomalyDetector : Reconstructs and encodes a second time; draws no new samples.
    ExponentialMovingAverage : Averaged weights, which the published code scores with.

    Notes
    -----
    The parts of the score are "reconstruction", the norm of x - G(E(x));
    "discriminator_feature" and "discriminator_cross_entropy", above; "latent", the norm of
    E(x) - E(G(E(x))); and "neighbours", "sample_neighbours" and "subsampled_neighbours", the
    distances of the code and of the sample to the nearest training ones, and of the sample to the
    nearest of few, the mean over 16 draws of 64. On tabular data the cross-entropy is near chance
    by itself.

    Widths, dropout, spectral normalisation and the output activation belong to `architecture`:
    EGBAD's dropout is ``MLP(dropout=0.2)``, a discriminator of another width
    ``ConvNet(discriminator_filters=32)``. The published average of weights is
    ``set_callbacks(ExponentialMovingAverage(0.999))``, which warms up.

    Departures from the papers and their code, on purpose:

    - The loss has a reconstruction term. Users of the released code found an F1 of 0.95, then
      0.32 and 0.29 on the same data (issue 7 of houssamzenati/Efficient-GAN-Anomaly-Detection).
    - X is scaled inside; the released code drops the result of its scaler (the same issue).
    - The cross-entropy part is taken at (x, E(x)), as in EGBAD's equation; its code takes
      (G(E(x)), E(x)).
    - One batch, and one pass of the discriminators over it, serves all updates of a step, where
      the released code first updates the discriminator, then the others on another batch.
    - The encoder of rows is stochastic while training, as BiGAN allows; EGBAD's is not.
    - ALAD's discriminator of codes, an option of its code, is always there; it compares samples
      along their channels, where the code stacks images on top of each other.
    - Adam's rate is 1e-3, not 1e-5, for training takes 800 updates of rows; networks and code are
      the ones that all detectors share, without dropout by default.
    - The parts are standardised on training samples before `alpha` mixes them: as norms, their
      scales depend on the width of X.
    - The default is an ensemble of members whose standardised scores are averaged.

    References
    ----------
    .. [1] Zenati, Foo, Lecouat, Manek and Chandrasekhar, "Efficient GAN-based anomaly detection",
       arXiv:1802.06222, 2018.
    .. [2] Zenati, Romain, Foo, Lecouat and Chandrasekhar, "Adversarially learned anomaly
       detection", ICDM 2018.
    .. [3] Donahue, Krähenbühl and Darrell, "Adversarial feature learning", ICLR 2017.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from gandetect import BiGANDetector
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> benign, malignant = X[y == 1], X[y == 0]
    >>> detector = BiGANDetector(epochs=20, random_state=0).fit(benign[:250])
    >>> detector = detector.infer_threshold(benign[250:], outlier_perc=5)
    >>> bool((detector.predict(malignant) == -1).mean() > 0.7)
    True
    >>> detector.sample(3, random_state=0).shape
    (3, 30)
    """

    variant: str = "bigan"
    reconstruction_weight: float = 50.0
    stochastic_encoder: bool | str = "auto"
    label_smoothing: float = 0.0
    instance_noise: float = 0.0
    alpha: float = 0.9
    discriminator_score: str = "feature"
    degree: int = 1
    beta_1: float = 0.5

    part_weights: ClassVar[dict[str, tuple[float, float]]] = {
        "reconstruction": (0.9, 0.18),
        "discriminator_feature": (0.1, 0.02),
        "discriminator_cross_entropy": (0.0, 0.0),
        "latent": (0.0, 1.0),
        "neighbours": (1.0, 2.5),
        "sample_neighbours": (2.0, 0.0),
        "subsampled_neighbours": (0.0, 0.0),
    }
    score_parameters: ClassVar[tuple[str, ...]] = ("alpha", "discriminator_score", "degree")

    def _check_own_parameters(self) -> None:
        check_choice(self, "variant", ("bigan", "alad"))
        check_choice(self, "discriminator_score", ("feature", "cross_entropy"))
        check_choice(self, "degree", (1, 2))
        check_choice(self, "stochastic_encoder", (True, False, "auto"))
        check_real(self, "reconstruction_weight", 0)
        check_real(self, "instance_noise", 0)
        check_real(self, "beta_1", 0, 1, include_boundaries="left")
        check_scalar(self.alpha, "alpha", Real, min_val=0, max_val=1)
        check_scalar(
            self.label_smoothing,
            "label_smoothing",
            Real,
            min_val=0,
            max_val=0.5,
            include_boundaries="left",
        )

    def _build_networks(self, make: Any) -> dict[str, nn.Module]:
        latent_dim = self.latent_dim_
        networks = {
            "encoder": make.encoder(latent_dim * (2 if self._is_stochastic() else 1)),
            "generator": make.decoder(latent_dim),
            "discriminator": make.discriminator(code_dim=latent_dim),
        }
        if self.variant == "alad":
            # Codes are rows whatever the samples are.
            on_codes = MLP(
                dropout=make.architecture.dropout, spectral_norm=make.architecture.spectral_norm
            ).bind((latent_dim,), make.n_members, "linear")
            networks["discriminator_xx"] = make.discriminator(n_inputs=2)
            networks["discriminator_zz"] = on_codes.discriminator(n_inputs=2)
        return networks

    def _build_optimizers(self, nets: Any) -> dict[str, Optimizer]:
        discriminators = [net for name, net in nets.items() if name.startswith("discriminator")]
        return {
            "encoder_generator": self._adam(nets.encoder, nets.generator, beta_1=self.beta_1),
            "discriminator": self._adam(*discriminators, beta_1=self.beta_1),
        }

    def _train_step(
        self, nets: Any, optimizers: dict[str, Optimizer], x: Tensor, progress: float
    ) -> dict[str, Tensor]:
        z = self._code_in_training(nets, x)
        z_prior = torch.randn_like(z)
        x_hat, x_fake = nets.generator(torch.cat([z, z_prior], dim=1)).chunk(2, dim=1)
        noise_std = self.instance_noise * (1 - progress)
        judged = [
            _judge(
                nets.discriminator,
                (_noisy(x, noise_std), z),
                (_noisy(x_fake, noise_std), z_prior),
            )
        ]
        if self.variant == "alad":
            z_hat = self._code_in_training(nets, x_fake)
            judged += [
                _judge(nets.discriminator_xx, (x, x), (x, x_hat)),
                _judge(nets.discriminator_zz, (z_prior, z_prior), (z_prior, z_hat)),
            ]

        # 1. The encoder wants its pair taken for generated, the generator its own for real. The
        #    sum teaches each its own loss: neither's adversarial loss depends on the other.
        (real_logits, fake_logits), *cycles = judged
        encoder, generator = loss_as_fake(real_logits), loss_as_real(fake_logits)
        reconstruction = mean_absolute_error(x, x_hat)
        loss = encoder + generator + self.reconstruction_weight * reconstruction
        for _, cycle_logits in cycles:
            loss = loss + loss_as_real(cycle_logits)
        update(optimizers["encoder_generator"], loss, retain_graph=True)

        # 2. The discriminators tell real from generated.
        label = 1 - self.label_smoothing
        discriminator = torch.stack(
            [loss_as_real(real, label) + loss_as_fake(fake) for real, fake in judged]
        ).sum(0)
        update(optimizers["discriminator"], discriminator)
        return {
            "encoder": encoder,
            "generator": generator,
            "reconstruction": reconstruction,
            "discriminator": discriminator,
        }

    def _is_stochastic(self) -> bool:
        if self.stochastic_encoder == "auto":
            return not self._is_fitted_to_images()
        return bool(self.stochastic_encoder)

    def _code_in_training(self, nets: Any, x: Tensor) -> Tensor:
        if not self._is_stochastic():
            return nets.encoder(x)
        mean, log_variance = nets.encoder(x).chunk(2, dim=-1)
        return mean + (log_variance / 2).exp() * torch.randn_like(mean)

    def _score_parts(self, nets: Any, x: Tensor) -> dict[str, Part]:
        z = self._encode(nets, x)
        x_hat = nets.generator(z)

        def feature() -> Tensor:
            if self.variant == "alad":
                features, features_hat = (
                    nets.discriminator_xx(x, x),
                    nets.discriminator_xx(x, x_hat),
                )
            else:
                features, features_hat = nets.discriminator(x, z), nets.discriminator(x_hat, z)
            return norm_distance(features[1], features_hat[1], self.degree)

        return {
            "reconstruction": norm_distance(x, x_hat, self.degree),
            "discriminator_feature": feature,
            "discriminator_cross_entropy": lambda: loss_as_real(nets.discriminator(x, z)[0]),
            "latent": lambda: norm_distance(z, self._encode(nets, x_hat), self.degree),
        }

    def _discriminator_features(self, nets: Any, x: Tensor) -> Tensor:
        return nets.discriminator(x, self._encode(nets, x))[1]

    def _weights(self) -> Mapping[str, float]:
        weights = super()._weights()
        if self.chosen_score is not None:
            return weights
        published = weights["reconstruction"] + weights["discriminator_feature"]
        return {
            "reconstruction": published * self.alpha,
            f"discriminator_{self.discriminator_score}": published * (1 - self.alpha),
            "latent": weights["latent"],
            **{name: weights[name] for name in weights if name.endswith("neighbours")},
        }

    def _paper_score(self, parts: dict[str, Any]) -> Tensor:
        discriminator = value_of(parts[f"discriminator_{self.discriminator_score}"])
        if self.variant == "alad":
            return discriminator
        return self.alpha * parts["reconstruction"] + (1 - self.alpha) * discriminator

    def _encode(self, nets: Any, x: Tensor) -> Tensor:
        # Of a stochastic encoder, the mean: scores are not drawn.
        return nets.encoder(x)[..., : self.latent_dim_]

    def _reconstruct(self, nets: Any, x: Tensor) -> Tensor:
        return nets.generator(self._encode(nets, x))

    def sample(self, n_samples: int = 1, random_state: RandomState = None) -> np.ndarray:
        """Draw new samples from the generators of all members in turn.

        Parameters
        ----------
        n_samples : int, default=1
        random_state : int, RandomState, Generator or None, default=None
            An integer draws the same samples each time.

        Returns
        -------
        ndarray of shape (n_samples, n_features) or ``(n_samples, *input_shape_)``, float64
            In the shape and the units of X: of images that came as flat rows, flat rows.
        """
        check_is_fitted(self)
        check_scalar(n_samples, "n_samples", Integral, min_val=1)
        device = resolve_device(self.device)
        generator = self.networks_.to(device)["generator"]
        n_members = self.n_members_
        with isolated_seed(draw_seed(random_state), torch.device("cpu")), torch.inference_mode():
            z = torch.randn(-(-n_samples // n_members), n_members, self.latent_dim_)
            drawn = [
                self.scaler_.inverse(generator(part.transpose(0, 1).to(device)).cpu().double())
                for part in z.split(_DRAWN_AT_ONCE)
            ]
        x = torch.cat(drawn, dim=1).transpose(0, 1).flatten(0, 1)[:n_samples].numpy()
        x = channels_restored(x, self.input_shape_, self.channel_axis)
        return x.reshape(len(x), -1) if self.is_flat_ else x


def _judge(
    discriminator: nn.Module, real: tuple[Tensor, Tensor], fake: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """Logits of a real and of a fake pair, from one pass over both."""
    first, second = (torch.cat(halves, dim=1) for halves in zip(real, fake, strict=True))
    logits, _ = discriminator(first, second)
    real_logits, fake_logits = logits.chunk(2, dim=1)
    return real_logits, fake_logits


def _noisy(x: Tensor, std: float) -> Tensor:
    return x + std * torch.randn_like(x) if std else x
