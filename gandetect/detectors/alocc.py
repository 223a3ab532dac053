"""ALOCC: a denoising auto-encoder (refiner) and a discriminator of refined samples."""

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

# The losses of the discriminator for the logits of real and of refined samples. The loss of the
# refiner is the first of them, applied to refined samples.
_ADVERSARIAL_LOSSES: dict[str, tuple[Loss, Loss]] = {
    "gan": (loss_as_real, loss_as_fake),
    "lsgan": (lambda logits: (logits - 1).square(), torch.square),
    "wasserstein": (torch.neg, torch.positive),
}
# The early copy has the weights of the refiner until this share of the training, then it is fixed.
_EARLY = 0.3


class ALOCCModel(Model["ALOCCDetector"]):
    """Refiner, discriminator, and the score of a refined sample."""

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
        """The share at the end of the training in which only the discriminator is trained."""
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

        # 1. Update the refiner: denoising and adversarial loss.
        for _ in range(s.n_refiner_steps):
            x_hat = self.refiner(run.seen(x) + s.noise_std * run.random.normal_like(x))
            fake_logits, _ = self.discriminator(x_hat)
            adversarial = as_real(fake_logits)
            reconstruction = mean_squared_error(x, x_hat, self.observed(x))
            squared_norm = reconstruction * x[0, 0].numel()
            refiner_loss = adversarial + s.reconstruction_weight * squared_norm
            update(run.optimizers["refiner"], refiner_loss, retain_graph=True)

        # 2. Update the discriminator: samples against refined samples.
        logits = [self.discriminator(x)[0], fake_logits]
        if (known := run.known_fakes(x.shape[1] // 2)) is not None:
            logits.append(self.discriminator(known)[0])
        discriminator = self._discriminator_loss((x,), (x_hat,), logits, run)
        update(run.optimizers["discriminator"], discriminator)
        return {
            "adversarial": adversarial,
            "reconstruction": reconstruction,
            "discriminator": discriminator,
            **clean,
        }

    def _tuning_step(self, x: Tensor, run: TrainingRun) -> dict[str, Tensor]:
        """The second phase of OGNet: train only the discriminator, on good and bad samples."""
        self.refiner.eval()
        self.early_refiner.eval()
        with torch.no_grad():
            x_hat, x_early = self.refiner(x), self.early_refiner(x)
            # The mean of two samples, which are random because of the shuffle, is pseudo-anomalous.
            x_pseudo = self.refiner((x_early + x_early.roll(1, dims=1)) / 2)
        kinds = [x, x_hat, x_early, x_pseudo]
        if (known := run.known_fakes(x.shape[1] // 2)) is not None:
            kinds.append(known)
        # In one pass: with batch statistics of each kind the discriminator would separate the kinds
        # by these, and not rank single samples by the statistics of all training data.
        logits, _ = self.discriminator(torch.cat(kinds, dim=1))
        of_each = logits.split([kind.shape[1] for kind in kinds], dim=1)
        discriminator = self._discriminator_loss((x, x_hat), (x_early, x_pseudo), of_each, run)
        update(run.optimizers["discriminator"], discriminator)
        as_real, _ = _ADVERSARIAL_LOSSES[self.settings.adversarial_loss]
        return {
            "adversarial": as_real(of_each[1]),
            "reconstruction": mean_squared_error(x, x_hat, self.observed(x)),
            "discriminator": discriminator,
            **self.clean_error(x),
        }

    def _discriminator_loss(
        self,
        good: tuple[Tensor, ...],
        bad: tuple[Tensor, ...],
        logits: list[Tensor] | tuple[Tensor, ...],
        run: TrainingRun,
    ) -> Tensor:
        """The discriminator loss on good samples, bad samples and known anomalies.

        `logits` contains those of the kinds in this order, and those of known anomalies last, if
        there are any.
        """
        s, n_good, n_kinds = self.settings, len(good), len(good) + len(bad)
        as_real, as_fake = _ADVERSARIAL_LOSSES[s.adversarial_loss]
        loss = as_real(torch.cat(logits[:n_good], dim=1))
        loss = loss + as_fake(torch.cat(logits[n_good:n_kinds], dim=1))
        if s.adversarial_loss == "wasserstein":
            real, fake = torch.cat(good, dim=1), torch.cat(bad, dim=1)
            share = run.random.uniform(*real.shape[:2])
            penalty = gradient_penalty(lambda x: self.discriminator(x)[0], real, fake, share)
            loss = loss + s.gradient_penalty_weight * penalty
        for known_logits in logits[n_kinds:]:
            loss = loss + as_fake(known_logits).mean(1, keepdim=True)
        return loss

    def clean_error(self, x: Tensor) -> dict[str, Tensor]:
        """The reconstruction error of x without noise, if `rec_bound` is set."""
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
    """ALOCC: a denoising auto-encoder (refiner) and a discriminator.

    The refiner R is trained to remove the noise that is added to normal samples. The discriminator
    D is trained to separate refined samples from real ones. Anomalies are not restored but
    distorted, which is measured by D, by the reconstruction error of R, or by the distance of the
    code of R to the training codes.

    The default score of rows is a weighted mean of three standardised parts: the distances to the
    five nearest training samples (3) and codes (2), and the reconstruction error (1). That of
    images is the distance of codes (1) and the published score, D of the refined sample (1/4).
    Distances are not part of the published method; ``score="paper"`` is the published score alone.

    Parameters
    ----------
    noise_std : float, default=0.155
        Standard deviation of the noise that is added to scaled samples in training. It is drawn
        anew in each update of R.
    reconstruction_weight : float, default=0.4
        λ, the weight of the squared reconstruction error of R; the weight of its adversarial loss
        is 1. The error is the squared norm, a sum over the values of a sample, as in the paper.
        With a mean over the values instead, the paper's 0.4 is 314 on MNIST.
    n_refiner_steps : int, default=1
        Updates of R for each update of D. The released code has 2.
    optimizer : {"adam", "rmsprop"}, default="adam"
        Adam, or RMSprop with a decay of 0.9, as in the released code.
    weight_decay : float, default=0.0
        L2 penalty of the optimizers.
    skip : {None, "add", "concat"}, default=None
        Skip connections from each activation of the encoder of R to the corresponding one of its
        decoder, by addition or concatenation. Samples then bypass the code: R reconstructs
        anomalies too, and detection is worse.
    adversarial_loss : {"gan", "lsgan", "wasserstein"}, default="gan"
        "gan": cross-entropy; "lsgan": LSGAN loss with targets 1 and 0; "wasserstein": difference of
        the means of D with a gradient penalty. Batch normalisation couples the samples whose
        gradients are penalised: for "wasserstein" on images use ``ConvNet(normalization="group")``.
    gradient_penalty_weight : float, default=10.0
        Weight of the squared difference between the gradient norm of D and 1, for "wasserstein"
        only.
    rec_bound : float or None, default=None
        ρ, the stopping criterion of the paper: training ends after the first epoch in which the
        mean squared error of R on clean samples, in units of the scaled data, is below ρ on
        training samples and, with a `validation_fraction`, on held-out samples as well. On
        standardised rows the mean as a constant prediction has an error of 1. None trains for
        `epochs`; `EarlyStopping` stops at a plateau.
    tuning_fraction : float in [0, 0.7) or "auto", default="auto"
        Share at the end of the training in which only D is trained, as in the second phase of
        OGNet. Good samples are real ones and their refined versions. Bad samples are the outputs of
        an early copy of R, and those of R for the means of two of these. The copy is R after 0.3 of
        the training. "auto" is 0.3 for images and 0 for rows (see Notes). A training that is
        stopped early has no second phase.
    beta_1 : float in [0, 1), default=0.5
        Adam's decay rate of the first moment, as in DCGAN. RMSprop has none.
    {shared_parameters}

    Attributes
    ----------
    networks_ : ModuleDict
        "refiner" and "discriminator", of all members; with `tuning_fraction`, "early_refiner".
    threshold_, offset_ : float
        A sample is flagged when its anomaly score exceeds ``threshold_ = -offset_``.
    history_ : list of dict
        One record for each epoch: "epoch", "adversarial" (R's), "reconstruction" (mean squared
        error of noisy samples against clean ones), "discriminator"; with `rec_bound`,
        "clean_reconstruction".
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
    EarlyStopping : Stop if the reconstruction error has not decreased for some epochs.
    ExponentialMovingAverage : Score with averaged weights, which vary less between updates.
    gandetect.metrics.f1_over_tau : The F1 curve over the threshold that the paper reports.

    Notes
    -----
    The parts of the score are "refined", the negative logit of D for R(x), which is the published
    score; "raw", the negative logit for x; "reconstruction", the mean squared error; "neighbours"
    and "sample_neighbours", the distances of the code and of the sample to the nearest training
    codes and samples; and "subsampled_neighbours", the distance of the sample to the nearest
    samples in random subsamples of 64, averaged over 16 subsamples. On most tabular data D ranks
    anomalies as more real than normal rows: there its two parts are available for study. With one
    normal class of images the second phase improves D (AUROC of the published score on MNIST, digit
    2 normal, mean over the last third of the training: 0.40 without it, 0.55 with it). The
    published score remains weak: the default score of images is mostly the distance of codes.

    In the paper x is an inlier if D(R(x)) > τ; it does not state how to choose τ (issue 6 of
    khalooei/ALOCC-CVPR2018). Here τ is a quantile of the scores, by `contamination` or
    `infer_threshold`.

    Deliberate differences from the paper [1]_ and its code:

    - R has a code of `latent_dim` as a bottleneck, and strided convolutions; that of the paper is
      fully convolutional, and has no code for `transform`.
    - R is updated before D. Updates alternate as in the released code, which begins with D.
    - Noise is drawn anew in each update; the released code draws it once (and compares with the
      noisy image, by cross-entropy: issue 13).
    - Networks score in evaluation mode. Scores are logits, which have no ties where a probability
      rounds to 1.
    - OGNet [2]_ weights its four kinds of samples; here they have equal weights.
    - Images may have any size. Rows, which the paper does not treat, use multilayer perceptrons.
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
