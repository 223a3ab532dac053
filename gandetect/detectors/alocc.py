"""ALOCC: a refiner of normal samples, and a discriminator of what it could not refine."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Integral
from typing import Any, ClassVar

import torch
from sklearn.utils import check_scalar
from torch import Tensor
from torch.optim import Optimizer

from gandetect.base import BaseDetector, check_choice, check_real
from gandetect.losses import gradient_penalty, loss_as_fake, loss_as_real, mean_squared_error
from gandetect.model import Model, Part, value_of
from gandetect.networks import Network, NetworkMaker
from gandetect.networks.members import SKIPS, Adam, RMSprop
from gandetect.training import TrainingRun, update

Loss = Callable[[Tensor], Tensor]

# The discriminator's losses for logits of real and of refined samples. The refiner's loss for its
# refined samples is the first of them, as if they were real.
_ADVERSARIAL_LOSSES: dict[str, tuple[Loss, Loss]] = {
    "gan": (loss_as_real, loss_as_fake),
    "lsgan": (lambda logits: (logits - 1).square(), torch.square),
    "wasserstein": (torch.neg, torch.positive),
}
# Until this share of the training the early copy follows the refiner, then it stands still.
_EARLY = 0.3


class ALOCCModel(Model["ALOCCDetector"]):
    """Refiner and discriminator, and the score of a refined sample."""

    part_weights: ClassVar[Mapping[str, tuple[float, float]]] = {
        "refined": (0.0, 0.25),
        "raw": (0.0, 0.0),
        "reconstruction": (1.0, 0.0),
        "neighbours": (2.0, 1.0),
        "sample_neighbours": (3.0, 0.0),
        "subsampled_neighbours": (0.0, 0.0),
    }
    network_parameters: ClassVar[tuple[str, ...]] = ("skip",)
    can_be_robust: ClassVar[bool] = True

    def build(self, make: NetworkMaker) -> None:
        self.refiner = make.refiner(self.latent_dim, self.settings.skip)
        self.discriminator = make.discriminator()
        if self.tuning_fraction():
            self.early_refiner = copy.deepcopy(self.refiner)
            self.early_refiner.requires_grad_(False)

    def tuning_fraction(self) -> float:
        """The share at the end of the training in which the discriminator alone learns."""
        if self.settings.tuning_fraction != "auto":
            return float(self.settings.tuning_fraction)
        return 0.3 if self.layout.is_image else 0.0

    def optimizers(self) -> dict[str, Optimizer]:
        return {
            "refiner": self._optimizer_of(self.refiner),
            "discriminator": self._optimizer_of(self.discriminator),
        }

    def _optimizer_of(self, network: Network) -> Optimizer:
        s, parameters = self.settings, list(network.parameters())
        options: dict[str, Any] = {"lr": s.learning_rate, "weight_decay": s.weight_decay}
        if s.optimizer == "adam":
            return Adam(parameters, **options, betas=(s.beta_1, 0.999), fused=True)
        return RMSprop(parameters, **options, alpha=0.9, foreach=True)

    def training_step(self, x: Tensor, run: TrainingRun) -> dict[str, Tensor]:
        s = self.settings
        if run.progress >= 1 - self.tuning_fraction():
            return self._tuning_step(x, run)
        if self.tuning_fraction() and run.progress <= _EARLY:
            self.early_refiner.load_state_dict(self.refiner.state_dict())
        clean = self.clean_error(x)
        as_real, _ = _ADVERSARIAL_LOSSES[s.adversarial_loss]

        # 1. The refiner takes the noise away, against the discriminator.
        for _ in range(s.n_refiner_steps):
            x_hat = self.refiner(run.seen(x) + s.noise_std * run.random.normal_like(x))
            fake_logits, _ = self.discriminator(x_hat)
            adversarial = as_real(fake_logits)
            reconstruction = mean_squared_error(x, x_hat, self.observed(x))
            squared_norm = reconstruction * x[0, 0].numel()
            refiner_loss = adversarial + s.reconstruction_weight * squared_norm
            update(run.optimizers["refiner"], refiner_loss, retain_graph=True)

        # 2. The discriminator tells samples from refined ones.
        discriminator = self._discriminator_loss((x,), (x_hat,), [fake_logits], run)
        update(run.optimizers["discriminator"], discriminator)
        return {
            "adversarial": adversarial,
            "reconstruction": reconstruction,
            "discriminator": discriminator,
            **clean,
        }

    def _tuning_step(self, x: Tensor, run: TrainingRun) -> dict[str, Tensor]:
        """OGNet's second phase: the discriminator alone learns good from bad reconstructions."""
        self.refiner.eval()
        self.early_refiner.eval()
        with torch.no_grad():
            x_hat, x_early = self.refiner(x), self.early_refiner(x)
            # The mean of two samples that the shuffle has put side by side belongs to no class.
            x_pseudo = self.refiner((x_early + x_early.roll(1, dims=1)) / 2)
        discriminator = self._discriminator_loss((x, x_hat), (x_early, x_pseudo), None, run)
        update(run.optimizers["discriminator"], discriminator)
        as_real, _ = _ADVERSARIAL_LOSSES[self.settings.adversarial_loss]
        with torch.no_grad():
            refined_logits, _ = self.discriminator(x_hat)
        return {
            "adversarial": as_real(refined_logits),
            "reconstruction": mean_squared_error(x, x_hat, self.observed(x)),
            "discriminator": discriminator,
            **self.clean_error(x),
        }

    def _discriminator_loss(
        self,
        good: tuple[Tensor, ...],
        bad: tuple[Tensor, ...],
        bad_logits: list[Tensor] | None,
        run: TrainingRun,
    ) -> Tensor:
        """Its loss on good and bad samples and known anomalies, each kind in a pass of its own."""
        s = self.settings
        as_real, as_fake = _ADVERSARIAL_LOSSES[s.adversarial_loss]
        good_logits = [self.discriminator(kind)[0] for kind in good]
        if bad_logits is None:
            bad_logits = [self.discriminator(kind)[0] for kind in bad]
        loss = torch.cat([as_real(logits) for logits in good_logits], dim=1)
        loss = loss + torch.cat([as_fake(logits) for logits in bad_logits], dim=1)
        if s.adversarial_loss == "wasserstein":
            real, fake = torch.cat(good, dim=1), torch.cat(bad, dim=1)
            share = run.random.uniform(*real.shape[:2])
            penalty = gradient_penalty(lambda x: self.discriminator(x)[0], real, fake, share)
            loss = loss + s.gradient_penalty_weight * penalty
        if (known := run.known_fakes(good[0].shape[1] // 2)) is not None:
            loss = loss + as_fake(self.discriminator(known)[0]).mean(1, keepdim=True)
        return loss

    def clean_error(self, x: Tensor) -> dict[str, Tensor]:
        """The error of reconstructing x without noise, where `rec_bound` asks for it."""
        if self.settings.rec_bound is None:
            return {}
        was_training = self.refiner.training
        self.refiner.eval()
        with torch.no_grad():
            error = mean_squared_error(x, self.refiner(x), self.observed(x))
        self.refiner.train(was_training)
        return {"clean_reconstruction": error}

    def should_stop(self, run: TrainingRun) -> str | None:
        record, bound = run.history[-1], self.settings.rec_bound
        if bound is None:
            return None
        errors = [record["clean_reconstruction"]]
        if "validation_reconstruction" in record:
            errors.append(record["validation_reconstruction"])
        if max(errors) >= bound:
            return None
        return f"the reconstruction error fell below rec_bound in epoch {record['epoch']}"

    def parts(self, x: Tensor) -> dict[str, Part]:
        x_hat = self.refiner(x)
        return {
            "refined": lambda: -self.discriminator(x_hat)[0],
            "raw": lambda: -self.discriminator(x)[0],
            "reconstruction": mean_squared_error(x, x_hat, self.observed(x)),
        }

    def paper_score(self, parts: Mapping[str, Part]) -> Tensor:
        return value_of(parts["refined"])

    def encode(self, x: Tensor) -> Tensor:
        return self.refiner.encoder(x)

    def reconstruct(self, x: Tensor) -> Tensor:
        return self.refiner(x)

    def discriminator_features(self, x: Tensor) -> Tensor:
        return self.discriminator(x)[1]


@dataclass(eq=False, repr=False, kw_only=True)
class ALOCCDetector(BaseDetector):
    """ALOCC: a refiner against a discriminator, the refiner fed with noisy samples.

    A refiner R, a denoising autoencoder, learns to give normal samples back without the noise
    that was added to them; a discriminator D learns to tell them from real ones. What R has not
    learned to reconstruct comes out distorted. That is measured by D, by R's error, or by how far
    R's code lies from those of training samples.

    The default score of rows is a weighted mean of three standardised parts: the distances to the
    five nearest training samples (3) and codes (2), and the reconstruction error (1). That of
    images is the distance to codes (1) with the published score, D of the refined sample (1/4).
    Distances are not part of the published method; ``score="paper"`` is the published score alone.

    Parameters
    ----------
    noise_std : float, default=0.155
        Standard deviation of the noise that is added to scaled samples, drawn again for each step
        of R and in training only.
    reconstruction_weight : float, default=0.4
        λ, the weight of R's squared error beside its adversarial loss. The error is the squared
        norm, a sum over the values of a sample, as the paper writes it: where code takes their
        mean, the paper's 0.4 would be 314 on MNIST.
    n_refiner_steps : int, default=1
        Steps of R for each step of D. The released code takes 2.
    optimizer : {"adam", "rmsprop"}, default="adam"
        Adam, or RMSprop with a decay of 0.9 as in the released code.
    weight_decay : float, default=0.0
        L2 penalty of the optimizers.
    skip : {None, "add", "concat"}, default=None
        Connections from each activation of R's encoder to the one that mirrors it in the decoder,
        added to it or concatenated. The sample bypasses the code: R then reconstructs anomalies
        too, and detection is worse.
    adversarial_loss : {"gan", "lsgan", "wasserstein"}, default="gan"
        Cross-entropy; least squares against 1 and 0; or differences of D's means with a gradient
        penalty. Batch normalisation couples the samples whose slopes the penalty bounds: for
        "wasserstein" on images pass ``ConvNet(normalization="group")``.
    gradient_penalty_weight : float, default=10.0
        Weight of the squared difference from 1 of the norm of D's slope, for "wasserstein" only.
    rec_bound : float or None, default=None
        ρ, the paper's rule of stopping: training ends after the first epoch in which R's mean
        squared error on clean samples, in units of scaled data, lies below it on training
        samples and, with a `validation_fraction`, on those kept from training as well. On
        standardised rows an error of 1 is that of answering the mean. None trains for `epochs`;
        `EarlyStopping` stops at a plateau.
    tuning_fraction : float in [0, 0.7) or "auto", default="auto"
        Share at the end of the training in which D alone learns, as in OGNet's second phase, to
        tell good (samples, their refined versions) from bad (versions by an early copy of R, and
        by R of the means of two of these). The copy is R as it was after 0.3 of the training.
        "auto" is 0.3 for images and 0 for rows (see Notes). A training that is stopped early
        stops before it.
    beta_1 : float in [0, 1), default=0.5
        Adam's decay of the mean gradient; DCGAN's value. RMSprop has none.
    {shared_parameters}

    Attributes
    ----------
    networks_ : ModuleDict
        "refiner" and "discriminator", of all members; with `tuning_fraction`, "early_refiner".
    threshold_, offset_ : float
        A sample is flagged when its anomaly score exceeds ``threshold_ = -offset_``.
    history_ : list of dict
        One record an epoch: "epoch", "adversarial" (R's), "reconstruction" (mean squared error of
        noisy samples against clean ones), "discriminator"; with `rec_bound`,
        "clean_reconstruction".
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
    EarlyStopping : Stop when the reconstruction error has not fallen for some epochs.
    ExponentialMovingAverage : Score with averaged weights, which vary less from step to step.
    gandetect.metrics.f1_over_tau : The F1 curve over the threshold that the paper reports.

    Notes
    -----
    The parts of the score are "refined", minus D's logit of R(x), the published score; "raw",
    minus the logit of x itself; "reconstruction", the mean squared error; and "neighbours",
    "sample_neighbours" and "subsampled_neighbours", the distances of the code and of the sample to
    the nearest training ones, and of the sample to the nearest of few, the mean over 16 draws of
    64.
    On most tabular data D takes anomalies for more real than normal rows: there its two parts are
    offered for study. With images of one kind the second phase trains it better (AUROC of the
    published score on MNIST, digit 2 normal, one member, 600 updates: 0.69 without, 0.89 with it);
    with nine digits normal the published score stays weak.

    The paper calls x an inlier when D(R(x)) > τ and does not say how to choose τ (issue 6 of
    khalooei/ALOCC-CVPR2018); here it comes from quantiles of the scores, by `contamination` or
    `infer_threshold`.

    Departures from the paper [1]_ and its code, on purpose:

    - R has a code of `latent_dim` in its middle, and strides in its convolutions; the paper's is
      convolutional throughout, and has no code to give to `transform`.
    - R steps before D. Steps alternate as in the released code, of which the first is D's.
    - Noise is drawn again at each step; the released code draws it once (and compares with the
      noisy image, by cross-entropy: issue 13).
    - Scores come from networks in evaluation mode and are logits, which do not tie where a
      probability rounds to 1.
    - OGNet [2]_ weights its four kinds of samples; here they weigh the same.
    - Images are of any size. Rows, which the paper does not treat, use multilayer perceptrons.
    - The default is an ensemble of members whose standardised scores are averaged.

    References
    ----------
    .. [1] Sabokrou, Khalooei, Fathy and Adeli, "Adversarially learned one-class classifier for
       novelty detection", CVPR 2018.
    .. [2] Zaheer, Lee, Astrid and Lee, "Old is gold: redefining the adversarially learned
       one-class classifier training paradigm", CVPR 2020.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from gandetect import ALOCCDetector
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> benign, malignant = X[y == 1], X[y == 0]
    >>> detector = ALOCCDetector(epochs=20, random_state=0).fit(benign[:250])
    >>> detector = detector.infer_threshold(benign[250:], outlier_perc=5)
    >>> bool((detector.predict(malignant) == -1).mean() > 0.7)
    True
    """

    noise_std: float = 0.155
    reconstruction_weight: float = 0.4
    n_refiner_steps: int = 1
    optimizer: str = "adam"
    weight_decay: float = 0.0
    skip: str | None = None
    adversarial_loss: str = "gan"
    gradient_penalty_weight: float = 10.0
    rec_bound: float | None = None
    tuning_fraction: float | str = "auto"
    beta_1: float = 0.5

    model_class: ClassVar[type[ALOCCModel]] = ALOCCModel

    def _check_own_parameters(self) -> None:
        for name in (
            "noise_std",
            "reconstruction_weight",
            "weight_decay",
            "gradient_penalty_weight",
        ):
            check_real(self, name, 0)
        check_real(self, "beta_1", 0, 1, include_boundaries="left")
        if self.rec_bound is not None:
            check_real(self, "rec_bound", 0)
        if self.tuning_fraction != "auto":
            check_real(self, "tuning_fraction", 0, 1 - _EARLY, include_boundaries="left")
        check_scalar(self.n_refiner_steps, "n_refiner_steps", Integral, min_val=1)
        check_choice(self, "optimizer", ("adam", "rmsprop"))
        check_choice(self, "skip", SKIPS)
        check_choice(self, "adversarial_loss", tuple(_ADVERSARIAL_LOSSES))
