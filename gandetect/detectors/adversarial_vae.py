"""AdversarialVAE: an auto-encoder that keeps a classifier's answers, and drops attacks on it."""

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

# What beside a function is taken.
_OR_MODULE = dict.fromkeys(("encoder", "decoder", "vae"), " or a module")
# What `optimizer` names.
_OPTIMIZERS: Mapping[str, Callable[..., Optimizer]] = {
    "adam": partial(Adam, fused=True),
    "adamw": partial(AdamW, fused=True),
    "rmsprop": partial(RMSprop, alpha=0.9, foreach=True),
    "sgd": partial(SGD, momentum=0.9, fused=True),
}
# Samples that a covariance is taken from at most.
_MAX_LEARNED_FROM = 20_000


class AdversarialVAEModel(GuardingModel["AdversarialVAEDetector"]):
    """Encoder and decoder, the classifier they guard, and the score of its two answers."""

    part_weights: ClassVar[Mapping[str, tuple[float, float]]] = {
        "divergence": (0.0, 0.0),
        "reconstruction": (1.0, 1.0),
        "prior": (0.0, 0.0),
        "neighbours": (2.0, 3.0),
        "sample_neighbours": (3.0, 0.0),
        "subsampled_neighbours": (0.0, 0.0),
    }
    # Where there is a classifier, of rows and of images: the default weights, the updates that
    # epochs="auto" stands for, and what noise_std="auto" does.
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
            # A draw and its mirror image: their mean is exactly the code's.
            self.draws = torch.cat([half, -half])[: s.n_samples]
            if s.log_variance is None:
                self.draws = torch.zeros_like(half[:1])
            self.error_scale = self._error_scale(samples)

    @classmethod
    def resolved(cls, settings: Any, layout: Layout) -> dict[str, Any]:
        found = super().resolved(settings, layout)
        if settings.classifier is not None:
            # The noise that rows are trained with is that of their own units.
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
        # 1. A code drawn from the encoder's distribution, and its reconstruction.
        mean, log_variance = self.posterior(self.noisy(run.seen(x), run))
        z = (
            mean
            if log_variance is None
            else mean + (log_variance / 2).exp() * run.random.normal_like(mean)
        )
        x_hat = self.decoder(z)

        # 2. The classifier should answer both alike, and both should be alike.
        losses: dict[str, Tensor] = {"reconstruction": self._reconstruction_loss(x, x_hat)}
        log_p = log_p_hat = None
        if self.classifier is not None:
            with torch.no_grad():
                log_p, hidden = self.answers(x)
            log_p_hat, hidden_hat = self.answers(x_hat)
            losses["model"] = self._divergence(log_p, hidden, log_p_hat, hidden_hat)
        # 3. The codes should be distributed like the prior.
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
            # A divergence has no unit, a squared error that of the scaled samples: what they
            # vary by in a batch makes them comparable, early in training and late.
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
        """The reconstructions of x, one for each of the draws that all samples share."""
        mean, log_variance = self.posterior(x)
        spread = 0.0 if log_variance is None else (log_variance / 2).exp()
        for draw in self.draws.to(x.device):
            yield self.decoder(mean + spread * draw)

    def _reconstruction_loss(self, x: Tensor, x_hat: Tensor) -> Tensor:
        if self.settings.cov_elbo is None:
            return mean_squared_error(x, x_hat, self.observed(x))
        return gaussian_error(x, x_hat, self.error_scale.to(x.device), self.observed(x))

    def _error_scale(self, samples: TrainingSamples) -> Tensor:
        """What `cov_elbo` came to: see `losses.gaussian_error`."""
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
            parts["prior"] = divergence_from_prior(mean, log_variance)
        if self.classifier is not None:
            parts["divergence"] = lambda: self._mean_divergence(x)
        return parts

    def _mean_divergence(self, x: Tensor) -> Tensor:
        """Mean over the draws of the divergence of the classifier's answers."""
        # All members are given the same samples, so that one of them is asked for.
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
        """Raise ValueError if the score asks for a part that these parameters do not give."""
        s = self.settings
        absent = {
            "divergence": "classifier" if self.classifier is None else None,
            "prior": "log_variance" if s.log_variance is None else None,
        }
        for part, weight in self.weights().items():
            if weight and absent.get(part):
                raise ValueError(
                    f"score={s.chosen_score!r} asks for the part {part!r}, which needs a "
                    f"{absent[part]}, but {absent[part]}=None."
                )

    def own_data(self) -> dict[str, Any]:
        return {**super().own_data(), "draws_": self.draws, "error_scale_": self.error_scale}

    def restore_own_data(self, data: dict[str, Any]) -> None:
        super().restore_own_data(data)
        self.draws, self.error_scale = data["draws_"], data["error_scale_"]
        if self.draws.ndim != 4 or self.draws.shape[-1] != self.latent_dim:
            raise ValueError("its draws are not those of its codes")


@dataclass(eq=False, repr=False, kw_only=True)
class AdversarialVAEDetector(GuardingDetector):
    """AdversarialVAE: detects inputs made to fool a classifier, and corrects them.

    A variational auto-encoder is trained so that a classifier gives the same answer for a sample
    and for its reconstruction. What an attack adds to a sample is not reconstructed: the
    classifier's two answers differ, which detects the attack, and the second one is mostly the
    right one (`correct`).

    Without a classifier and without labels it is a plain variational auto-encoder, an outlier
    detector like the others: its score has the reconstruction error, standardised, and the mean
    distances to the five nearest training codes and, on rows, samples. With one, the score is the
    divergence of the answers and the reconstruction error, with twice its weight on rows: a strong
    attack moves a sample away from the data, a small one leaves it near the decision boundary.
    ``score="paper"`` is the divergence alone.

    Parameters
    ----------
    classifier : nn.Module, fitted classifier or None, default=None
        What is to be defended. A torch network takes samples in the units of X as float, images
        with their channels first, and is copied, never changed. LogisticRegression,
        LinearDiscriminantAnalysis, SGDClassifier with log loss, OneVsRestClassifier of these,
        MLPClassifier and GaussianNB, also in a Pipeline behind scalers or PCA, are converted
        exactly; any other classifier with ``predict_proba`` is imitated by a network, with a
        warning that says how well. Pass a scikit-learn classifier in a `FrozenEstimator`, or
        `clone` and with it grid search will make it an unfitted one. None: `fit` learns a small
        network from `class_labels`, if they are given.
    classifier_output : {"auto", "logits", "probabilities"}, default="auto"
        What a torch network returns; "auto" looks at its answers.
    w_model : float, default=0.1
        Weight of the Kullback-Leibler divergence of the classifier's answers in the loss. It is
        scaled in each batch to the variation of the squared reconstruction error, unless `w_recon`
        is 0 or `cov_elbo` is given.
    w_recon : float, default=1.0
        Weight of the reconstruction error. The published default is 0, with which a linear
        classifier's attacks, along the one direction that the code must keep, are not detected.
        Without `cov_elbo` the error is a mean over the values of a sample. With it, a
        log-likelihood: a sum over the values, and a mean over the batch, as in alibi-detect from
        0.3.1 on, so that its weights mean the same here. Earlier ones took the sum over the batch:
        multiply their weight by their batch size (their 1e-5 with 64 samples is 6.4e-4).
    beta : float, default=0.01
        Weight of the divergence of the codes from the standard normal, mean over their dimensions.
    cov_elbo : float, "diag", "full" or None, default=None
        The reconstruction error. None: the mean squared one. Otherwise the Gaussian negative
        log-likelihood, with this standard deviation of all values (alibi-detect's "sim"), that of
        each value over the training samples, or their covariance.
    noise_std : float or "auto", default="auto"
        Largest standard deviation, in units of the scaled samples, of the noise that the encoder
        gets in training; that of each sample is drawn between 0 and it. The losses know only the
        clean sample, so that the noise, and with it what an attack adds, is to be removed.
        "auto" is 0.4 for rows and 1 for images, half their range, and 0 without a classifier.
    attacked_fraction : float in [0, 1], default=0.5
        Share of the samples whose noise is an attack, not random: one step up the gradient of the
        classifier's loss, as large as the noise would be, in many values or a few.
    temperature : float, default=1.0
        Below 1 it sharpens the classifier's answer to the sample, above 1 it smooths it.
    hidden_layers : dict of str to int or None, default=None
        Hidden layers of the classifier whose outputs are compared too, each after a fixed random
        projection to so many units and a softmax. A network's are named as in
        ``named_modules``, those of an MLPClassifier "0", "1" and so on.
    hidden_weights : dict of str to float or None, default=None
        Weights of these divergences; 1 where nothing is said.
    log_variance : {"linear", "softplus", None}, default="linear"
        The encoder's variance. "softplus" holds it at 1 or more, as in the published code; None
        is an auto-encoder without noise (alibi-detect's AdversarialAE).
    n_samples : int, default=4
        Reconstructions a sample that are drawn for the score; the published 10 rank no better,
        within 0.002 of AUROC, and cost more than twice as much. The draws belong to the detector
        and are the same for all samples, so that scores repeat. Fit again after changing it.
    encoder, decoder : nn.Module, callable or None, default=None
        Networks of your own: a module from ``(n, *sample_shape)`` to ``(n, n_out)``, mean and
        log-variance side by side, and one back from ``(n, latent_dim)``; set `latent_dim` to its
        width. Images have their channels first, and values are scaled. Every member trains a copy,
        which begins with the module's weights, and yours stays as it is. Or functions that make
        them, called once a member, whose members then differ from the start:
        ``encoder(sample_shape, n_out)`` and ``decoder(latent_dim, sample_shape)``.
    vae : nn.Module, callable or None, default=None
        Instead of both: a module that has modules ``encoder`` and ``decoder``, copied as above, or
        ``vae(sample_shape, latent_dim)``, which makes an object that has them.
    optimizer : {"adam", "adamw", "rmsprop", "sgd"}, callable or None, default=None
        By name, or ``optimizer(weights, lr=learning_rate)``, such as ``torch.optim.NAdam``; None
        is Adam. "rmsprop" has a decay of 0.9, "sgd" a momentum of 0.9. A name is saved with the
        detector; a function is code, and is not.
    loss_fn : callable or None, default=None
        ``loss_fn(x, x_hat, log_p, log_p_hat)`` instead of the weighted sum of divergence and
        reconstruction: tensors with two leading axes, members K and samples B, to (K, B). Without
        a classifier the latter two are None.
    metrics : dict of str to callable or None, default=None
        ``metric(x, x_hat)`` to (K, B), whose means are kept in ``history_`` and shown.
    data_type : str or None, default=None
        Named in the metadata of `detect`; None is "tabular" or "image".
    threshold : float or None, default=None
        The threshold that `fit` sets, in units of the score, instead of the one that
        `contamination` gives. `infer_threshold` moves it.
    {shared_parameters}

    Attributes
    ----------
    networks_ : ModuleDict
        "encoder" and "decoder", of all members.
    classifier_ : object or None
        The frozen classifier.
    classes_ : ndarray of shape (n_classes,)
        Its labels; those of a torch network are numbers from 0. Only if there is a classifier.
    threshold_, offset_ : float
        A sample is flagged when its anomaly score exceeds ``threshold_ = -offset_``.
    history_ : list of dict
        One record an epoch: "epoch", "loss", "reconstruction", "prior", "model", `metrics`.
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
    gandetect.attacks.projected_gradient : Makes attacks to try it with.

    Notes
    -----
    The parts of the score are "divergence", the mean over `n_samples` reconstructions of the
    Kullback-Leibler divergence of the classifier's answers, with that of `hidden_layers`;
    "reconstruction", the mean absolute error; "prior", the divergence of the code from the
    standard normal; and "neighbours", "sample_neighbours" and "subsampled_neighbours", the
    distances of the code and of the sample to the nearest training ones, and of the sample to the
    nearest of few, the mean over 16 draws of 64. ``score="paper"`` is the divergence alone.

    The published AdversarialVAE is ``w_model=1, w_recon=0, beta=0, noise_std=0, n_samples=10,
    log_variance="softplus", score="paper", n_estimators=1``; AdversarialAE is the same with
    ``log_variance=None`` and a `temperature` of 0.5.

    `fit` does not learn from y unless `labels` says so: in a search, y is for the scorer alone.

    Departures from the paper and its code, on purpose:

    - The reconstruction has a weight in the default loss, and codes a prior.
    - With a classifier the encoder sees samples with noise or under attack in training, as in
      Defense-VAE [3]_: without, far fewer attacks are corrected.
    - The divergence is scaled to the squared error, without a gradient. alibi-detect scales the
      error to the divergence, which with a linear classifier nears 0 and takes the error with it.
    - Divergences are not capped at 16.1, as by the code's clipping of probabilities at 1e-7. Of a
      network that returns probabilities they end at 87, where a float32 ends: let one that is very
      sure of itself return logits.
    - Draws are fixed, and come in pairs of a draw and its mirror image; the code draws each time.
    - The classifier is a frozen copy in eval mode; the code freezes the caller's.
    - X is scaled inside, and scaled back for the classifier.
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
                        "function that makes an object which has."
                    )
        if self.vae is not None and (self.encoder is not None or self.decoder is not None):
            raise ValueError("Give either vae or encoder and decoder, not both.")
        for name in ("hidden_layers", "hidden_weights", "metrics"):
            if not isinstance(getattr(self, name), Mapping | None):
                raise TypeError(f"{name} must be None or a dict, got {getattr(self, name)!r}.")
        unknown = set(self.hidden_weights or ()) - set(self.hidden_layers or ())
        if unknown:
            raise ValueError(f"hidden_weights has {sorted(unknown)}, which hidden_layers has not.")

    @with_callbacks  # type: ignore[untyped-decorator]
    def fit(self, X: Any, y: Any = None, *, class_labels: Any = None) -> Self:
        """Learn what is normal, and how the classifier answers it.

        Parameters
        ----------
        X : array-like, Dataset or path
            As for every detector: rows, images, flat rows with `image_shape`, a memory map, a torch
            Dataset or a folder of images. Samples without attacks, as far as you know.
        y : ignored
            There for scikit-learn's interface.
        class_labels : array-like of shape (n_samples,) or None, default=None
            Labels of classes, looked at only if `classifier` is None: a small network then learns
            them and is the classifier. Without both there is none.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            If a parameter, the classifier, X or `class_labels` cannot be used; nothing is trained,
            and what an earlier fit learned stays as it was.

        Warns
        -----
        UserWarning
            If the classifier has to be imitated: how well that went.
        ConvergenceWarning
            If a loss is not finite: the last good weights are kept. If Ctrl-C ends the training:
            what was learned is kept, and KeyboardInterrupt is raised.
        """
        earlier = vars(self).get("model_")
        try:
            return self._fit(X, y, class_labels)
        finally:  # a fit that Ctrl-C ends has learned something too
            if self.threshold is not None and vars(self).get("model_") is not earlier:
                self.threshold_ = self.threshold


def _own(name: str, given: Callable[..., Any], *arguments: Any) -> Any:
    """What a member trains: a copy of a module, or what a function makes."""
    if not isinstance(given, nn.Module):
        return given(*arguments)
    try:
        return copy.deepcopy(given).requires_grad_()
    except Exception as error:
        raise TypeError(
            f"{name}={type(given).__name__} cannot be copied ({error}), and a detector does not "
            "train the network that it is given: pass a function that makes one."
        ) from error


def _checked_loss(loss: Tensor, x: Tensor) -> Tensor:
    if not isinstance(loss, Tensor) or loss.shape != x.shape[:2]:
        shape = tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
        raise ValueError(
            "loss_fn must return one value a member and sample, a tensor of shape "
            f"{tuple(x.shape[:2])}; got {shape}."
        )
    return loss
