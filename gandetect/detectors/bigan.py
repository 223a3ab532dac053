"""BiGAN: an encoder and a generator that a joint discriminator trains to invert each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, ClassVar

import torch
from sklearn.utils import check_scalar
from torch import Tensor
from torch.optim import Optimizer

from gandetect.base import BaseDetector, check_choice, check_real
from gandetect.distributed import RandomState, draw_seed
from gandetect.losses import loss_as_fake, loss_as_real, mean_absolute_error, norm_distance
from gandetect.model import Model, Part, own_torch_settings, value_of
from gandetect.networks import MLP, Discriminator, NetworkMaker
from gandetect.networks.members import Adam
from gandetect.training import TrainingRun, update

# Samples generated at once, so that memory grows with the result only.
_DRAWN_AT_ONCE = 256


class BiGANModel(Model["BiGANDetector"]):
    """Encoder, generator, joint discriminators, and the score of a reconstruction."""

    part_weights: ClassVar[Mapping[str, tuple[float, float]]] = {
        "reconstruction": (0.9, 0.18),
        "discriminator_feature": (0.1, 0.02),
        "discriminator_cross_entropy": (0.0, 0.0),
        "latent": (0.0, 1.0),
        "neighbours": (1.0, 2.5),
        "sample_neighbours": (2.0, 0.0),
        "subsampled_neighbours": (0.0, 0.0),
    }
    score_parameters: ClassVar[tuple[str, ...]] = ("alpha", "discriminator_score", "degree")
    network_parameters: ClassVar[tuple[str, ...]] = ("variant", "stochastic_encoder")
    can_be_robust: ClassVar[bool] = True

    def build(self, make: NetworkMaker) -> None:
        self.encoder = make.encoder(self.latent_dim * (2 if self.is_stochastic() else 1))
        self.generator = make.decoder(self.latent_dim)
        self.discriminator = make.discriminator(code_dim=self.latent_dim)
        if self.settings.variant == "alad":
            # Codes are rows, also if the samples are images.
            on_codes = MLP(
                dropout=make.architecture.dropout, spectral_norm=make.architecture.spectral_norm
            ).bind((self.latent_dim,), make.n_members, "linear", make.generator)
            self.discriminator_xx = make.discriminator(n_inputs=2)
            self.discriminator_zz = on_codes.discriminator(n_inputs=2)

    def optimizers(self) -> dict[str, Optimizer]:
        rate, betas = self.settings.learning_rate, (self.settings.beta_1, 0.999)
        discriminators = [
            p
            for name, network in self.networks.items()
            if name.startswith("discriminator")
            for p in network.parameters()
        ]
        others = [*self.encoder.parameters(), *self.generator.parameters()]
        return {
            "encoder_generator": Adam(others, rate, betas, fused=True),
            "discriminator": Adam(discriminators, rate, betas, fused=True),
        }

    def training_step(self, x: Tensor, run: TrainingRun) -> dict[str, Tensor]:
        s = self.settings
        z = self.drawn_code(run.seen(x), run)
        z_prior = run.random.normal_like(z)
        x_hat, x_fake = self.generator(z), self.generator(z_prior)
        noise_std = s.instance_noise * (1 - run.progress)
        judged = [
            _judged(
                self.discriminator,
                (_noisy(x, noise_std, run), z),
                (_noisy(x_fake, noise_std, run), z_prior),
            )
        ]
        if s.variant == "alad":
            z_hat = self.drawn_code(x_fake, run)
            judged += [
                _judged(self.discriminator_xx, (x, x), (x, x_hat)),
                _judged(self.discriminator_zz, (z_prior, z_prior), (z_prior, z_hat)),
            ]

        # 1. Update encoder and generator: the encoder's pair is to be classified as generated, the
        #    generator's as real. The losses can be added: the adversarial loss of one does not
        #    depend on the other network.
        (real_logits, fake_logits), *cycles = judged
        encoder, generator = loss_as_fake(real_logits), loss_as_real(fake_logits)
        reconstruction = mean_absolute_error(x, x_hat, self.observed(x))
        loss = encoder + generator + s.reconstruction_weight * reconstruction
        for _, cycle_logits in cycles:
            loss = loss + loss_as_real(cycle_logits)
        update(run.optimizers["encoder_generator"], loss, retain_graph=True)

        # 2. Update the discriminators; a known anomaly with its code is a fake pair.
        label = 1 - s.label_smoothing
        discriminator = torch.stack(
            [loss_as_real(real, label) + loss_as_fake(fake) for real, fake in judged]
        ).sum(0)
        if (known := run.known_fakes(x.shape[1] // 2)) is not None:
            known_logits, _ = self.discriminator(known, self.drawn_code(known, run).detach())
            discriminator = discriminator + loss_as_fake(known_logits).mean(1, keepdim=True)
        update(run.optimizers["discriminator"], discriminator)
        return {
            "encoder": encoder,
            "generator": generator,
            "reconstruction": reconstruction,
            "discriminator": discriminator,
        }

    def is_stochastic(self) -> bool:
        """Whether the encoder has a variance."""
        if self.settings.stochastic_encoder == "auto":
            return not self.layout.is_image
        return bool(self.settings.stochastic_encoder)

    def drawn_code(self, x: Tensor, run: TrainingRun) -> Tensor:
        """A code of each sample, drawn from the encoder's distribution if it has one."""
        if not self.is_stochastic():
            return self.encoder(x)
        mean, log_variance = self.encoder(x).chunk(2, dim=-1)
        return mean + (log_variance / 2).exp() * run.random.normal_like(mean)

    def parts(self, x: Tensor) -> dict[str, Part]:
        s = self.settings
        z = self.encode(x)
        x_hat = self.generator(z)

        def feature() -> Tensor:
            if s.variant == "alad":
                pairs = self.discriminator_xx(x, x), self.discriminator_xx(x, x_hat)
            else:
                pairs = self.discriminator(x, z), self.discriminator(x_hat, z)
            return norm_distance(pairs[0][1], pairs[1][1], s.degree)

        return {
            "reconstruction": norm_distance(x, x_hat, s.degree, self.observed(x)),
            "discriminator_feature": feature,
            "discriminator_cross_entropy": lambda: loss_as_real(self.discriminator(x, z)[0]),
            "latent": lambda: norm_distance(z, self.encode(x_hat), s.degree),
        }

    def discriminator_features(self, x: Tensor) -> Tensor:
        return self.discriminator(x, self.encode(x))[1]

    def default_weights(self) -> dict[str, float]:
        weights, s = super().default_weights(), self.settings
        published = weights["reconstruction"] + weights["discriminator_feature"]
        return {
            **weights,
            "discriminator_feature": 0.0,
            "reconstruction": published * s.alpha,
            f"discriminator_{s.discriminator_score}": published * (1 - s.alpha),
        }

    def paper_score(self, parts: Mapping[str, Part]) -> Tensor:
        s = self.settings
        discriminator = value_of(parts[f"discriminator_{s.discriminator_score}"])
        if s.variant == "alad":
            return discriminator
        return s.alpha * value_of(parts["reconstruction"]) + (1 - s.alpha) * discriminator

    def encode(self, x: Tensor) -> Tensor:
        # The mean of a stochastic encoder: scores are deterministic.
        return self.encoder(x)[..., : self.latent_dim]

    def reconstruct(self, x: Tensor) -> Tensor:
        return self.generator(self.encode(x))


@dataclass(eq=False, repr=False, kw_only=True)
class BiGANDetector(BaseDetector):
    """BiGAN: a generator, an encoder that inverts it, and a joint discriminator D(x, z).

    The joint discriminator separates a sample with its code, (x, E(x)), from a code with its
    sample, (G(z), z). The generator and the encoder are trained so that it cannot separate them.
    Then they invert one another on normal samples, and anomalies are reconstructed badly.
    ``variant="alad"`` adds cycle consistency by two more discriminators.

    The default score is ``alpha`` times the reconstruction part plus ``1 - alpha`` times the
    discriminator part, standardised, and other parts. On rows these are the mean distances to the
    five nearest training codes (the same weight) and samples (twice the weight). On images they are
    the distance of codes (12.5 times) and that between the codes of a sample and its reconstruction
    (5 times). These are not part of the published method; ``score="paper"`` is the published score
    alone.

    Parameters
    ----------
    variant : {"bigan", "alad"}, default="bigan"
        "bigan" is Efficient GAN-based anomaly detection (EGBAD) [1]_. "alad" is adversarially
        learned anomaly detection [2]_: a discriminator separates (x, x) from (x, G(E(x))), another
        (z, z) from (z, E(G(z))), and the feature part is that of the first of them.
    reconstruction_weight : float, default=50.0
        Weight of the mean absolute error of G(E(x)) in the loss of both networks. With 0, as
        published, only the adversarial loss makes them invert each other.
    stochastic_encoder : bool or "auto", default="auto"
        Whether the encoder has a mean and a variance, from which training draws codes; scores and
        codes always use the mean. "auto" is True for rows and False for images, which was better on
        the tuning half of the benchmark.
    label_smoothing : float in [0, 0.5), default=0.0
        The target of the discriminators for real pairs is ``1 - label_smoothing``.
    instance_noise : float, default=0.0
        Standard deviation, in scaled units, of noise on the samples of the joint discriminator in
        training; it decays to 0 at the end.
    alpha : float in [0, 1], default=0.9
        Weight of the reconstruction part in the score; the discriminator part has ``1 - alpha``.
        After a change of it, or of one of the next two, set the threshold again.
    discriminator_score : {"feature", "cross_entropy"}, default="feature"
        The discriminator part: the distance between its features of (x, E(x)) and (G(E(x)), E(x)),
        or its cross-entropy for (x, E(x)) with the label "real".
    degree : {1, 2}, default=1
        The degree of the norms in the score: 1 for L1, 2 for the Euclidean (L2) norm.
    beta_1 : float in [0, 1), default=0.5
        Adam's decay rate of the first moment, as in DCGAN.
    {shared_parameters}

    Attributes
    ----------
    networks_ : ModuleDict
        "encoder", "generator" and "discriminator", of all members; for "alad" also
        "discriminator_xx" and "discriminator_zz".
    threshold_, offset_ : float
        A sample is flagged when its anomaly score exceeds ``threshold_ = -offset_``.
    history_ : list of dict
        One record for each epoch: "epoch", "encoder", "generator", "reconstruction",
        "discriminator".
    n_iter_ : int
        Number of epochs.
    stop_reason_ : str
        The reason why training ended.
    training_report_ : TrainingReport
        The problems that were found in the training.
    n_features_in_, feature_names_in_, input_shape_
        Number and names of the features of X, and the shape of a sample.

    See Also
    --------
    GANomalyDetector : Reconstructs and encodes a second time; does not generate samples.
    ExponentialMovingAverage : Averages the weights for scoring, as the published code does.

    Notes
    -----
    The parts of the score are "reconstruction", the norm of x - G(E(x));
    "discriminator_feature" and "discriminator_cross_entropy", above; "latent", the norm of
    E(x) - E(G(E(x))); "neighbours" and "sample_neighbours", the distances of the code and of the
    sample to the nearest training codes and samples; and "subsampled_neighbours", the distance of
    the sample to the nearest samples in random subsamples of 64, averaged over 16 subsamples. On
    tabular data the cross-entropy alone is near chance.

    Widths, dropout, spectral normalisation and the output activation are parameters of
    `architecture`: EGBAD's dropout is ``MLP(dropout=0.2)`` for rows and ``ConvNet(dropout=0.5)``
    for images, a discriminator of another width ``ConvNet(discriminator_filters=32)``. The
    published averaging of weights is ``set_callbacks(ExponentialMovingAverage(0.999))``, which has
    a warm-up. EGBAD's settings are ``reconstruction_weight=0, stochastic_encoder=False,
    n_estimators=1, score="paper"`` and these.

    Deliberate differences from the papers and their code:

    - The loss has a reconstruction term. Users of the released code report an F1 of 0.95, 0.32 and
      0.29 on the same data (issue 7 of houssamzenati/Efficient-GAN-Anomaly-Detection).
    - The detector scales X; the released code discards the result of its scaler (the same issue).
    - The cross-entropy part uses (x, E(x)), as in EGBAD's equation; its code uses (G(E(x)), E(x)).
    - All updates of a step use the same batch; the released code first updates the discriminator,
      then the others on another batch. Real and generated pairs, and their codes, have separate
      forward passes, as published.
    - The encoder of rows is stochastic in training, as BiGAN allows; EGBAD's is not.
    - ALAD's discriminator of codes, an option of its code, is always used; it concatenates images
      along their channels, the code concatenates them along their height.
    - Adam's learning rate is 1e-3, not 1e-5, because training has 340 updates of rows and 500 of
      images; the networks are those of all detectors, without dropout by default.
    - On images the layers in which the discriminator joins sample and code are initialised with a
      standard deviation of ``n_inputs ** -0.5``. The published 0.02 is for layers of 512 and 1,024
      units. In layers of 128 the effect of the code on the discriminator is initially too small,
      and encoder and generator do not become inverse to each other.
    - The parts are standardised on training samples before `alpha` weights them: as norms, their
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

    model_class: ClassVar[type[BiGANModel]] = BiGANModel

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

    def sample(self, n_samples: int = 1, random_state: RandomState = None) -> Any:
        """Generate new samples by the generators of all members in turn.

        Parameters
        ----------
        n_samples : int, default=1
        random_state : int, RandomState, Generator or None, default=None
            An integer makes the result reproducible.

        Returns
        -------
        ndarray of shape (n_samples, n_features) or ``(n_samples, *input_shape_)``, float64
            In the shape and the units of X: flat rows if images were passed as flat rows; a dict of
            columns for an encoded table.
        """
        model: BiGANModel = self._fitted_model()  # type: ignore[assignment]  # its model_class
        check_scalar(n_samples, "n_samples", Integral, min_val=1)
        n_members, device = model.n_members, model.device
        generator = torch.Generator().manual_seed(draw_seed(random_state))
        shape = (-(-n_samples // n_members), n_members, model.latent_dim)
        z = torch.randn(shape, generator=generator, dtype=torch.float32, device="cpu")
        with own_torch_settings(device):
            drawn = [
                model.scaler.inverse(
                    model.generator(part.transpose(0, 1).to(device)).cpu().double()
                )
                for part in z.split(_DRAWN_AT_ONCE)
            ]
        x = torch.cat(drawn, dim=1).transpose(0, 1).flatten(0, 1)[:n_samples].numpy()
        return model.layout.restored(x)


def _judged(
    discriminator: Discriminator, real: tuple[Tensor, Tensor], fake: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """Logits of a real and of a fake pair, each from a separate forward pass.

    In one pass, batch normalisation would separate them by their common statistics, and give each
    the gradient of the other.
    """
    return discriminator(*real)[0], discriminator(*fake)[0]


def _noisy(x: Tensor, std: float, run: TrainingRun) -> Tensor:
    return x + std * run.random.normal_like(x) if std else x
