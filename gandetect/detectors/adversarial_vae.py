"""AdversarialVAE: an auto-encoder that preserves a classifier's predictions, but not attacks."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import torch
from sklearn.utils import check_scalar
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from gandetect.base import check_choice, check_real
from gandetect.data.sources import Layout
from gandetect.defence import GuardingDetector, GuardingModel
from gandetect.losses import (
    divergence,
    divergence_from_prior,
    gaussian_error,
    gaussian_scale,
    mean_absolute_error,
    mean_squared_error,
)
from gandetect.model import Part, value_of
from gandetect.model.parameters import SharedParameters
from gandetect.networks import NetworkMaker
from gandetect.networks.members import SGD, Adam, AdamW, PerMember, RMSprop, check_answer
from gandetect.training import TrainingRun, TrainingSamples, update
from gandetect.training.protocol import with_callbacks

# What these parameters accept in addition to a function.
_OR_MODULE = dict.fromkeys(("encoder", "decoder", "vae"), " or a module")
# The optimizers by their names in `optimizer`.
_OPTIMIZERS: Mapping[str, Callable[..., Optimizer]] = {
    "adam": partial(Adam, fused=True),
    "adamw": partial(AdamW, fused=True),
    "rmsprop": partial(RMSprop, alpha=0.9, foreach=True),
    "sgd": partial(SGD, momentum=0.9, fused=True),
}
# Largest number of samples that a covariance is computed from.
_MAX_LEARNED_FROM = 20_000


class AdversarialVAEModel(GuardingModel["AdversarialVAEDetector"]):
    """Encoder, decoder, the protected classifier, and the score of its two predictions."""

    part_weights: ClassVar[Mapping[str, tuple[float, float]]] = {
        "divergence": (0.0, 0.0),
        "reconstruction": (1.0, 1.0),
        "prior": (0.0, 0.0),
        "neighbours": (2.0, 3.0),
        "sample_neighbours": (3.0, 0.0),
        "subsampled_neighbours": (0.0, 0.0),
    }
    # With a classifier, for rows and for images: the default weights, the number of updates of
    # epochs="auto", and the value of noise_std="auto".
    part_weights_of_classifier: ClassVar[Mapping[str, tuple[float, float]]] = {
        "divergence": (0.5, 1.0),
        "reconstruction": (1.0, 1.0),
    }
    auto_updates_of_classifier: ClassVar[tuple[int, int]] = (800, 1500)
    auto_noise_std: ClassVar[tuple[float, float]] = (0.4, 1.0)
    can_be_robust: ClassVar[bool] = True
    network_parameters: ClassVar[tuple[str, ...]] = (
        "log_variance",
        "n_samples",
        "hidden_layers",
        "encoder",
        "decoder",
        "vae",
    )
    code_parameters: ClassVar[tuple[str, ...]] = (
        "classifier",
        "encoder",
        "decoder",
        "vae",
        "optimizer",
        "loss_fn",
        "metrics",
    )

    draws: Tensor
    error_scale: Tensor

    def build(self, make: NetworkMaker) -> None:
        s, shape, latent_dim = self.settings, self.layout.sample_shape, self.latent_dim
        n_outputs = latent_dim if s.log_variance is None else 2 * latent_dim
        self.heads = {}
        encoders: list[nn.Module] = []
        decoders: list[nn.Module] = []
        for _ in range(self.n_members):
            if s.vae is not None:
                pair: Any = _own("vae", s.vae, shape, latent_dim)
                encoders.append(pair.encoder)
                decoders.append(pair.decoder)
                continue
            if s.encoder is not None:
                encoders.append(_own("encoder", s.encoder, shape, n_outputs))
            if s.decoder is not None:
                decoders.append(_own("decoder", s.decoder, latent_dim, shape))
        self.encoder = PerMember(encoders) if encoders else make.encoder(n_outputs)
        self.decoder = PerMember(decoders) if decoders else make.decoder(latent_dim)
        self.eval()
        if encoders:
            x = torch.zeros(self.n_members, 2, *shape, dtype=torch.float32, device="cpu")
            check_answer("encoder", self.encoder(x), (2, n_outputs))
        if decoders:
            z = torch.zeros(self.n_members, 2, latent_dim, dtype=torch.float32, device="cpu")
            check_answer("decoder", self.decoder(z), (2, *shape))

    @classmethod
    def runs_foreign_code(cls, settings: SharedParameters) -> bool:
        foreign = ("encoder", "decoder", "vae", "optimizer", "loss_fn", "metrics")
        given = [vars(settings)[name] for name in foreign]
        is_given = any(value is not None and not isinstance(value, str) for value in given)
        return is_given or super().runs_foreign_code(settings)

    def prepare(self, samples: TrainingSamples, run: TrainingRun) -> None:
        super().prepare(samples, run)
        self._check_score_has_parts()
        s = self.settings
        if not run.n_epochs_before:
            shape = (-(-s.n_samples // 2), 1, 1, self.latent_dim)
            generator = run.random.generator
            half = torch.randn(shape, generator=generator, dtype=torch.float32, device="cpu")
            # Antithetic draws: their mean is exactly that of the code.
            self.draws = torch.cat([half, -half])[: s.n_samples]
            if s.log_variance is None:
                self.draws = torch.zeros_like(half[:1])
            self.error_scale = self._error_scale(samples)

    @classmethod
    def resolved(cls, settings: Any, layout: Layout) -> dict[str, Any]:
        found = super().resolved(settings, layout)
        if settings.classifier is not None:
            # The noise of rows is in the units of the scaled rows.
            if settings.schedule == "auto":
                found["schedule"] = None
            if settings.scaling == "auto" and not layout.is_image:
                found["scaling"] = "standard"
        return found

    def n_updates(self) -> int:
        if self.classifier is None:
            return super().n_updates()
        return self.auto_updates_of_classifier[self.layout.is_image]

    def optimizers(self) -> dict[str, Optimizer]:
        s = self.settings
        weights = [p for net in (self.encoder, self.decoder) for p in net.parameters()]
        if callable(s.optimizer):
            return {"encoder_decoder": s.optimizer(weights, lr=s.learning_rate)}
        make = _OPTIMIZERS[s.optimizer or "adam"]
        return {"encoder_decoder": make(weights, lr=s.learning_rate)}

    def training_step(self, x: Tensor, run: TrainingRun) -> dict[str, Tensor]:
        s = self.settings
        # 1. Draw a code from the encoder's distribution, and reconstruct.
        mean, log_variance = self.posterior(self.noisy(run.seen(x), run))
        z = (
            mean
            if log_variance is None
            else mean + (log_variance / 2).exp() * run.random.normal_like(mean)
        )
        x_hat = self.decoder(z)

        # 2. Match the classifier's predictions for both, and the reconstruction to the sample.
        losses: dict[str, Tensor] = {"reconstruction": self._reconstruction_loss(x, x_hat)}
        log_p = log_p_hat = None
        if self.classifier is not None:
            with torch.no_grad():
                log_p, hidden = self.answers(x)
            log_p_hat, hidden_hat = self.answers(x_hat)
            losses["model"] = self._divergence(log_p, hidden, log_p_hat, hidden_hat)
        # 3. Match the distribution of the codes to the prior.
        if log_variance is not None:
            losses["prior"] = divergence_from_prior(mean, log_variance)
        if s.loss_fn is None:
            losses["loss"] = self._weighted(losses)
        else:
            losses["loss"] = _checked_loss(s.loss_fn(x, x_hat, log_p, log_p_hat), x)
            losses["loss"] = losses["loss"] + s.beta * losses.get("prior", 0.0)
        update(run.optimizers["encoder_decoder"], losses["loss"])
        for name, metric in (s.metrics or {}).items():
            losses[name] = metric(x, x_hat.detach())
        return losses

    def _weighted(self, losses: Mapping[str, Tensor]) -> Tensor:
        """The sum of the losses with `w_model`, `w_recon` and `beta`."""
        reconstruction = losses["reconstruction"]
        total = self.settings.w_recon * reconstruction + self.settings.beta * losses.get(
            "prior", 0.0
        )
        if self.classifier is None:
            return total
        model = losses["model"]
        if self.settings.cov_elbo is None and self.settings.w_recon:
            # A divergence has no unit, a squared error has that of the scaled samples: scaling by
            # the variation within a batch makes them comparable throughout the training.
            spread, own_spread = reconstruction.detach().std(1), model.detach().std(1)
            model = (spread / (own_spread + 1e-10))[:, None] * model
        return self.settings.w_model * model + total

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Mean and log-variance of the codes' distribution; None without a variance."""
        if self.settings.log_variance is None:
            return self.encoder(x), None
        mean, log_variance = self.encoder(x).chunk(2, dim=-1)
        return mean, F.softplus(
            log_variance
        ) if self.settings.log_variance == "softplus" else log_variance

    def drawn(self, x: Tensor) -> Iterator[Tensor]:
        """The reconstructions of x, one for each draw; all samples have the same draws."""
        mean, log_variance = self.posterior(x)
        spread = 0.0 if log_variance is None else (log_variance / 2).exp()
        for draw in self.draws.to(x.device):
            yield self.decoder(mean + spread * draw)

    def _reconstruction_loss(self, x: Tensor, x_hat: Tensor) -> Tensor:
        if self.settings.cov_elbo is None:
            return mean_squared_error(x, x_hat, self.observed(x))
        return gaussian_error(x, x_hat, self.error_scale.to(x.device), self.observed(x))

    def _error_scale(self, samples: TrainingSamples) -> Tensor:
        """The covariance factor for `cov_elbo`: see `losses.gaussian_error`."""
        cov_elbo = self.settings.cov_elbo
        if isinstance(cov_elbo, str):
            x = samples.scaled(_MAX_LEARNED_FROM).flatten(1)
            return gaussian_scale(x, full=cov_elbo == "full")
        return torch.tensor(1.0 if cov_elbo is None else float(cov_elbo), dtype=torch.float32)

    def parts(self, x: Tensor) -> dict[str, Part]:
        mean, log_variance = self.posterior(x)
        parts: dict[str, Part] = {
            "reconstruction": mean_absolute_error(x, self.decoder(mean), self.observed(x)),
        }
        if log_variance is not None:
            parts["prior"] = partial(divergence_from_prior, mean, log_variance)
        if self.classifier is not None:
            parts["divergence"] = lambda: self._mean_divergence(x)
        return parts

    def _mean_divergence(self, x: Tensor) -> Tensor:
        """Mean over the draws of the divergence of the classifier's predictions."""
        # All members have the same samples, so that the prediction of one suffices.
        log_p, hidden = self.answers(x[:1])
        total: Tensor | float = 0.0
        for x_hat in self.drawn(x):
            total = total + self._divergence(log_p, hidden, *self.answers(x_hat))
        return torch.as_tensor(total) / len(self.draws)

    def _divergence(
        self, log_p: Tensor, hidden: list[Tensor], log_p_hat: Tensor, hidden_hat: list[Tensor]
    ) -> Tensor:
        total = divergence((log_p / self.settings.temperature).log_softmax(-1), log_p_hat)
        for name, h, h_hat in zip(
            self.settings.hidden_layers or (), hidden, hidden_hat, strict=True
        ):
            weight = (self.settings.hidden_weights or {}).get(name, 1.0)
            total = total + weight * divergence(h.log_softmax(-1), h_hat.log_softmax(-1))
        return total

    def default_weights(self) -> dict[str, float]:
        if self.classifier is None:
            return super().default_weights()
        is_image = self.layout.is_image
        return {name: pair[is_image] for name, pair in self.part_weights_of_classifier.items()}

    def paper_score(self, parts: Mapping[str, Part]) -> Tensor:
        return value_of(parts["reconstruction" if self.classifier is None else "divergence"])

    def encode(self, x: Tensor) -> Tensor:
        return self.posterior(x)[0]

    def reconstruct(self, x: Tensor) -> Tensor:
        return self.decoder(self.encode(x))

    def _check_score_has_parts(self) -> None:
        """Raise ValueError if the score has a part that these parameters do not provide."""
        s = self.settings
        absent = {
            "divergence": "classifier" if self.classifier is None else None,
            "prior": "log_variance" if s.log_variance is None else None,
        }
        for part, weight in self.weights().items():
            if weight and absent.get(part):
                raise ValueError(
                    f"score={s.chosen_score!r} has the part {part!r}, which needs a "
                    f"{absent[part]}, but {absent[part]}=None."
                )

    def own_data(self) -> dict[str, Any]:
        return {**super().own_data(), "draws_": self.draws, "error_scale_": self.error_scale}

    def restore_own_data(self, data: dict[str, Any]) -> None:
        super().restore_own_data(data)
        self.draws, self.error_scale = data["draws_"], data["error_scale_"]
        if self.draws.ndim != 4 or self.draws.shape[-1] != self.latent_dim:
            raise ValueError("its draws do not match the size of its codes")


@dataclass(eq=False, repr=False, kw_only=True)
class AdversarialVAEDetector(GuardingDetector):
    """AdversarialVAE: detects and corrects adversarial examples for a classifier.

    A variational auto-encoder is trained so that a classifier gives the same prediction for a
    sample and for its reconstruction. The change by an attack is not reconstructed. So the two
    predictions differ, which detects the attack, and the prediction for the reconstruction is
    mostly the correct one (`correct`).

    Without a classifier and without class labels it is a plain variational auto-encoder, an outlier
    detector like the others: its score has the reconstruction error, standardised, and the mean
    distances to the five nearest training codes and, on rows, samples. With a classifier, the score
    is the divergence of the predictions and the reconstruction error, which has twice the weight on
    rows: a strong attack moves a sample away from the data, a small one is near the decision
    boundary. ``score="paper"`` is the divergence alone.

    Parameters
    ----------
    classifier : nn.Module, fitted classifier or None, default=None
        The classifier to protect. The input of a torch network is samples in the units of X as
        float, images with channels first; the network is copied, never changed. LogisticRegression,
        LinearDiscriminantAnalysis, SGDClassifier with log loss, OneVsRestClassifier of these,
        MLPClassifier and GaussianNB, also after scalers or PCA in a Pipeline, are converted
        exactly. For any other classifier with ``predict_proba`` a network is fitted to its
        probabilities, with a warning that reports the accuracy. Pass a scikit-learn classifier in a
        `FrozenEstimator`; otherwise `clone` and grid search make an unfitted copy. None: `fit`
        trains a small network on `class_labels`, if they are given.
    classifier_output : {"auto", "logits", "probabilities"}, default="auto"
        The output of a torch network; "auto" infers it from its values.
    w_model : float, default=0.1
        Weight of the Kullback-Leibler divergence of the classifier's predictions in the loss. It is
        scaled in each batch to the variation of the squared reconstruction error, unless `w_recon`
        is 0 or `cov_elbo` is given.
    w_recon : float, default=1.0
        Weight of the reconstruction error. With the published default of 0, attacks on a linear
        classifier are not detected, because they move samples along the one direction that the code
        must preserve. Without `cov_elbo` the error is a mean over the values of a sample. With it,
        it is a log-likelihood: a sum over the values and a mean over the batch, as in alibi-detect
        from 0.3.1 on, so that its weights can be used unchanged. Earlier versions sum over the
        batch: multiply their weight by their batch size (1e-5 with 64 samples becomes 6.4e-4).
    beta : float, default=0.01
        Weight of the divergence of the codes from the standard normal, averaged over dimensions.
    cov_elbo : float, "diag", "full" or None, default=None
        The reconstruction error. None: the mean squared error. Otherwise the Gaussian negative
        log-likelihood: a float is the standard deviation of all values (alibi-detect's "sim"),
        "diag" uses that of each value over the training samples, and "full" their covariance.
    noise_std : float or "auto", default="auto"
        Largest standard deviation, in units of the scaled samples, of the noise on the input of the
        encoder in training (denoising); that of each sample is drawn from 0 to this value. The
        losses compare with the clean sample, so that noise, and the change by an attack, is
        removed. "auto" is 0.4 for rows, 1 for images (half their range), and 0 without a
        classifier.
    attacked_fraction : float in [0, 1], default=0.5
        Share of the samples that have an attack instead of random noise: one gradient ascent step
        on the classifier's loss, of the size of the noise, in many values or a few.
    temperature : float, default=1.0
        Below 1 it sharpens the prediction for the sample, above 1 it smooths it.
    hidden_layers : dict of str to int or None, default=None
        Hidden layers of the classifier whose outputs are compared too, each after a fixed random
        projection to this number of units and a softmax. The names are those of ``named_modules``
        of a network, and "0", "1" and so on for an MLPClassifier.
    hidden_weights : dict of str to float or None, default=None
        Weights of these divergences; 1 for layers that are not given.
    log_variance : {"linear", "softplus", None}, default="linear"
        The variance of the encoder. "softplus" keeps it at 1 or more, as in the published code;
        None is an auto-encoder without sampling (alibi-detect's AdversarialAE).
    n_samples : int, default=4
        Number of sampled reconstructions for the score. The published 10 rank no better, within
        0.002 of AUROC, and take more than twice the time. The draws are stored in the detector and
        are the same for all samples, so that scores are reproducible. Fit again after changing it.
    encoder, decoder : nn.Module, callable or None, default=None
        Networks of your own. The encoder is a module from ``(n, *sample_shape)`` to ``(n, n_out)``,
        mean and log-variance concatenated; the decoder is a module from ``(n, latent_dim)`` back.
        Set `latent_dim` to this width. Images have channels first, and values are scaled. Every
        member trains a copy with the initial weights of the module, which is not changed. Or
        functions that make them, called once for each member, so that the initial weights differ:
        ``encoder(sample_shape, n_out)`` and ``decoder(latent_dim, sample_shape)``.
    vae : nn.Module, callable or None, default=None
        Instead of both: a module with the modules ``encoder`` and ``decoder``, copied as above, or
        a function ``vae(sample_shape, latent_dim)`` that makes an object with both.
    optimizer : {"adam", "adamw", "rmsprop", "sgd"}, callable or None, default=None
        A name, or a function ``optimizer(weights, lr=learning_rate)`` such as
        ``torch.optim.NAdam``; None is Adam. "rmsprop" has a decay of 0.9, "sgd" a momentum of 0.9.
        A name is saved with the detector; a function is code, and is not saved.
    loss_fn : callable or None, default=None
        ``loss_fn(x, x_hat, log_p, log_p_hat)`` replaces the weighted sum of divergence and
        reconstruction error. Its arguments have two leading axes, members K and samples B, and it
        returns (K, B). Without a classifier the last two are None.
    metrics : dict of str to callable or None, default=None
        Functions ``metric(x, x_hat)`` that return (K, B); their means are in ``history_``.
    data_type : str or None, default=None
        The data type in the metadata of `detect`; None is "tabular" or "image".
    threshold : float or None, default=None
        The threshold that `fit` sets, in units of the score, instead of that of `contamination`.
        `infer_threshold` replaces it.
    {shared_parameters}

    Attributes
    ----------
    networks_ : ModuleDict
        "encoder" and "decoder", of all members.
    classifier_ : object or None
        The frozen classifier.
    classes_ : ndarray of shape (n_classes,)
        The labels of the classifier, from 0 for a torch network. Only if there is a classifier.
    threshold_, offset_ : float
        A sample is flagged when its anomaly score exceeds ``threshold_ = -offset_``.
    history_ : list of dict
        One record for each epoch: "epoch", "loss", "reconstruction", "prior", "model", `metrics`.
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
    gandetect.attacks.projected_gradient : Generates attacks.

    Notes
    -----
    The parts of the score are "divergence", the mean over `n_samples` reconstructions of the
    Kullback-Leibler divergence of the classifier's predictions, with that of `hidden_layers`;
    "reconstruction", the mean absolute error; "prior", the divergence of the code from the standard
    normal; "neighbours" and "sample_neighbours", the distances of the code and of the sample to the
    nearest training codes and samples; and "subsampled_neighbours", the distance of the sample to
    the nearest samples in random subsamples of 64, averaged over 16 subsamples. ``score="paper"``
    is the divergence alone.

    The published AdversarialVAE is ``w_model=1, w_recon=0, beta=0, noise_std=0, n_samples=10,
    log_variance="softplus", score="paper", n_estimators=1``; AdversarialAE is the same with
    ``log_variance=None`` and a `temperature` of 0.5.

    `fit` ignores y unless `labels` is set: in a search, y is for the scorer alone.

    Deliberate differences from the paper and its code:

    - The default loss has a weight of the reconstruction error, and a prior of the codes.
    - With a classifier the input of the encoder has noise or an attack in training, as in
      Defense-VAE [3]_: without them, far fewer attacks are corrected.
    - The divergence is scaled to the squared error, without a gradient. alibi-detect scales the
      error to the divergence. With a linear classifier the divergence approaches 0, and with it the
      weight of the error.
    - Divergences are not limited to 16.1; the code limits them by clipping probabilities at 1e-7.
      For a network that returns probabilities the limit is 87, that of float32: return logits for
      very confident networks.
    - Draws are fixed and antithetic; the code draws anew for each score.
    - The classifier is a frozen copy in evaluation mode; the code freezes the original.
    - X is scaled for the auto-encoder, and scaled back for the classifier.
    - The default is an ensemble of members whose standardised scores are averaged.

    References
    ----------
    .. [1] Vacanti and Van Looveren, "Adversarial detection and correction by matching prediction
       distributions", arXiv:2002.09364, 2020.
    .. [2] Kingma and Welling, "Auto-encoding variational Bayes", ICLR 2014.
    .. [3] Li and Ji, "Defense-VAE: a fast and accurate defense against adversarial attacks",
       ECML PKDD Workshops 2019.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.frozen import FrozenEstimator
    >>> from sklearn.linear_model import LogisticRegression
    >>> from gandetect import AdversarialVAEDetector
    >>> from gandetect.attacks import projected_gradient
    >>> X, y = load_digits(return_X_y=True)
    >>> classifier = LogisticRegression(C=0.01, max_iter=10_000).fit(X, y)
    >>> X_attacked = projected_gradient(classifier, X[:200], y[:200], eps=2.0, clip=(0, 16))
    >>> detector = AdversarialVAEDetector(
    ...     classifier=FrozenEstimator(classifier), epochs=10, random_state=0
    ... )
    >>> answer = detector.fit(X).correct(X_attacked)["data"]
    >>> before, after = ((answer[of] == y[:200]).mean() for of in ("no_defense", "defense"))
    >>> bool(after > before)
    True
    """

    classifier: Any = None
    classifier_output: str = "auto"
    w_model: float = 0.1
    w_recon: float = 1.0
    beta: float = 0.01
    cov_elbo: float | str | None = None
    noise_std: float | str = "auto"
    attacked_fraction: float = 0.5
    temperature: float = 1.0
    hidden_layers: Mapping[str, int] | None = None
    hidden_weights: Mapping[str, float] | None = None
    log_variance: str | None = "linear"
    n_samples: int = 4
    encoder: nn.Module | Callable[..., nn.Module] | None = None
    decoder: nn.Module | Callable[..., nn.Module] | None = None
    vae: nn.Module | Callable[..., Any] | None = None
    optimizer: str | Callable[..., Optimizer] | None = None
    loss_fn: Callable[..., Tensor] | None = None
    metrics: Mapping[str, Callable[[Tensor, Tensor], Tensor]] | None = None
    data_type: str | None = None
    threshold: float | None = None

    model_class: ClassVar[type[AdversarialVAEModel]] = AdversarialVAEModel

    def _check_own_parameters(self) -> None:
        check_choice(self, "classifier_output", ("auto", "logits", "probabilities"))
        check_choice(self, "log_variance", ("linear", "softplus", None))
        for name in ("w_model", "w_recon", "beta"):
            check_real(self, name, 0)
        if self.noise_std != "auto":
            check_real(self, "noise_std", 0)
        check_real(self, "attacked_fraction", 0, 1)
        if self.threshold is not None:
            check_scalar(self.threshold, "threshold", Real)
            if not math.isfinite(self.threshold):
                raise ValueError(f"threshold must be finite or None, got {self.threshold!r}.")
        check_scalar(self.temperature, "temperature", Real, min_val=0, include_boundaries="neither")
        check_scalar(self.n_samples, "n_samples", Integral, min_val=1)
        if self.cov_elbo is not None and self.cov_elbo not in ("diag", "full"):
            check_scalar(
                self.cov_elbo,
                "cov_elbo, if it is neither None nor 'diag' nor 'full',",
                Real,
                min_val=0,
                include_boundaries="neither",
            )
        if isinstance(self.optimizer, str):
            check_choice(self, "optimizer", tuple(_OPTIMIZERS))
        for name in ("encoder", "decoder", "vae", "optimizer", "loss_fn"):
            value = getattr(self, name)
            is_name = name == "optimizer" and isinstance(value, str)
            if value is not None and not is_name and not callable(value):
                raise TypeError(
                    f"{name} must be None, or a function{_OR_MODULE.get(name, '')}, got {value!r}."
                )
        if isinstance(self.vae, nn.Module):
            for name in ("encoder", "decoder"):
                if not isinstance(getattr(self.vae, name, None), nn.Module):
                    raise TypeError(
                        f"vae={type(self.vae).__name__} must have a module {name!r}, or be a "
                        "function that creates an object with one."
                    )
        if self.vae is not None and (self.encoder is not None or self.decoder is not None):
            raise ValueError("Pass either vae, or encoder and decoder, not both.")
        for name in ("hidden_layers", "hidden_weights", "metrics"):
            if not isinstance(getattr(self, name), Mapping | None):
                raise TypeError(f"{name} must be None or a dict, got {getattr(self, name)!r}.")
        unknown = set(self.hidden_weights or ()) - set(self.hidden_layers or ())
        if unknown:
            raise ValueError(
                f"hidden_weights has {sorted(unknown)}, which hidden_layers does not have."
            )

    @with_callbacks  # type: ignore[untyped-decorator]
    def fit(self, X: Any, y: Any = None, *, class_labels: Any = None) -> Self:
        """Fit the detector to clean samples, and to the classifier's predictions for them.

        Parameters
        ----------
        X : array-like, Dataset or path
            As for every detector: rows, images, flat rows with `image_shape`, a memory map, a torch
            Dataset or a folder of images. Samples that are assumed to be free of attacks.
        y : ignored
            There for scikit-learn's interface.
        class_labels : array-like of shape (n_samples,) or None, default=None
            Labels of classes, used only if `classifier` is None: a small network is then trained on
            them as the classifier. Without both there is no classifier.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            If a parameter, the classifier, X or `class_labels` is invalid; nothing is trained, and
            the result of an earlier fit is kept.

        Warns
        -----
        UserWarning
            If a network is fitted to the classifier's probabilities: how closely it matches.
        ConvergenceWarning
            If a loss is not finite: the last finite weights are restored. If Ctrl-C ends the
            training: the current weights are kept, and KeyboardInterrupt is raised.
        """
        earlier = vars(self).get("model_")
        try:
            return self._fit(X, y, class_labels)
        finally:  # a fit that Ctrl-C ends sets fitted attributes too
            if self.threshold is not None and vars(self).get("model_") is not earlier:
                self.threshold_ = self.threshold


def _own(name: str, given: Callable[..., Any], *arguments: Any) -> Any:
    """The network of a member: a copy of a module, or the result of a function."""
    if not isinstance(given, nn.Module):
        return given(*arguments)
    try:
        return copy.deepcopy(given).requires_grad_()
    except Exception as error:
        raise TypeError(
            f"{name}={type(given).__name__} cannot be copied ({error}), but a detector trains a "
            "copy: pass a function that creates the object."
        ) from error


def _checked_loss(loss: Tensor, x: Tensor) -> Tensor:
    if not isinstance(loss, Tensor) or loss.shape != x.shape[:2]:
        shape = tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
        raise ValueError(
            "loss_fn must return one value for each member and sample, a tensor of shape "
            f"{tuple(x.shape[:2])}; got {shape}."
        )
    return loss
