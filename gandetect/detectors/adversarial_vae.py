"""AdversarialVAE: an auto-encoder that keeps a classifier's answers, and drops attacks on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.utils import check_scalar
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from gandetect.data.sources import Source
from gandetect.defence import DefendingDetector
from gandetect.losses import (
    divergence,
    divergence_from_prior,
    gaussian_error,
    gaussian_scale,
    mean_absolute_error,
    mean_squared_error,
)
from gandetect.model.parameters import check_choice, check_real
from gandetect.model.scoring import Part, value_of
from gandetect.networks.members import PerMember, check_answer
from gandetect.training.loop import update


@dataclass(eq=False, repr=False, kw_only=True)
class AdversarialVAEDetector(DefendingDetector):
    """AdversarialVAE: catches inputs made to fool a classifier, and undoes them.

    A variational auto-encoder is trained so that a classifier answers its reconstruction as it
    answers the sample. What an attack adds to a sample is lost on the way through the code: the
    classifier's two answers differ, by which the attack is found, and the second one is, mostly,
    the right one (`correct`).

    Without a classifier and without labels it is a plain variational auto-encoder, an outlier
    detector like the others: its score is the reconstruction error, standardised, and the mean
    distance to the five nearest training codes. With one, the score is the divergence of the
    answers and the reconstruction error, which weighs twice as much on rows and as much on images:
    an attack that is sure of itself leaves the data, one that is not lies near the boundary.
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
        network from y, if there is y.
    classifier_output : {"auto", "logits", "probabilities"}, default="auto"
        What a torch network returns; "auto" looks at its answers.
    w_model : float, default=0.1
        Weight of the Kullback-Leibler divergence of the classifier's answers in the loss. It is
        scaled in each batch to the spread of the squared reconstruction error, unless `w_recon`
        is 0 or `cov_elbo` is given.
    w_recon : float, default=1.0
        Weight of the reconstruction error. The published default is 0, with which a linear
        classifier's attacks, that move along the one direction the code must keep, pass unseen.
    beta : float, default=0.01
        Weight of the divergence of the codes from the standard normal, mean over their dimensions.
    cov_elbo : float, "diag", "full" or None, default=None
        The reconstruction error. None: the mean squared one. Otherwise the Gaussian negative
        log-likelihood, with this standard deviation of all values (alibi-detect's "sim"), that of
        each value over the training samples, or their covariance.
    noise_std : float or "auto", default="auto"
        Largest standard deviation, in units of the scaled samples, of the noise that the encoder
        sees in training; that of each sample is drawn between 0 and it. The losses know only the
        clean sample, so that the noise, and with it what an attack adds, is to be taken away.
        "auto" is 0.4 for rows and 1 for images, half their range, and 0 without a classifier.
    attacked_fraction : float in [0, 1], default=0.5
        Share of the samples whose noise is an attack, not random: one step up the gradient of the
        classifier's loss, as large as the noise would be, spread over many values or a few.
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
    encoder, decoder : callable or None, default=None
        Networks of your own, one call a member: ``encoder(sample_shape, n_out)`` returns a module
        from ``(n, *sample_shape)`` to ``(n, n_out)``, mean and log-variance side by side;
        ``decoder(latent_dim, sample_shape)`` one back. Images have their channels first, and
        values are scaled.
    vae : callable or None, default=None
        Instead of both: ``vae(sample_shape, latent_dim)`` returns an object that has modules
        ``encoder`` and ``decoder``.
    optimizer : callable or None, default=None
        ``optimizer(weights, lr=learning_rate)``, such as ``torch.optim.RMSprop``; None is Adam.
    loss_fn : callable or None, default=None
        ``loss_fn(x, x_hat, log_p, log_p_hat)`` instead of the weighted sum of divergence and
        reconstruction: tensors with two leading axes, members K and samples B, to (K, B). Without
        a classifier the latter two are None.
    metrics : dict of str to callable or None, default=None
        ``metric(x, x_hat)`` to (K, B), whose means are kept in ``history_`` and shown.
    data_type : str or None, default=None
        Named in the metadata of `detect`; None is "tabular" or "image".
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

    In a search, y is for the scorer, and a given classifier is not touched by it. But without a
    classifier `fit` takes y for the labels of classes, also if they mean normal and anomalous.

    Departures from the paper and its code, on purpose:

    - The reconstruction has a weight in the default loss, and codes a prior.
    - With a classifier the encoder sees samples with noise or under attack in training, as in
      Defense-VAE [3]_: without, far fewer attacks are undone.
    - The divergence is scaled to the squared error, without a gradient. alibi-detect scales the
      error to the divergence, which with a linear classifier nears 0 and takes the error with it.
    - Divergences are not capped at 16.1, as by the code's clipping of probabilities.
    - Draws are fixed, and come in pairs of a draw and its mirror image; the code draws anew.
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
    >>> classifier = LogisticRegression(C=0.01, max_iter=1000).fit(X, y)
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
    encoder: Callable[..., nn.Module] | None = None
    decoder: Callable[..., nn.Module] | None = None
    vae: Callable[..., nn.Module] | None = None
    optimizer: Callable[..., Optimizer] | None = None
    loss_fn: Callable[..., Tensor] | None = None
    metrics: Mapping[str, Callable[[Tensor, Tensor], Tensor]] | None = None
    data_type: str | None = None

    part_weights: ClassVar[dict[str, tuple[float, float]]] = {
        "divergence": (0.0, 0.0),
        "reconstruction": (1.0, 1.0),
        "prior": (0.0, 0.0),
        "neighbours": (2.0, 3.0),
        "sample_neighbours": (3.0, 0.0),
        "subsampled_neighbours": (0.0, 0.0),
    }
    # Where there is a classifier, of rows and of images: the default weights, the updates that
    # epochs="auto" stands for, and what noise_std="auto" does.
    part_weights_of_classifier: ClassVar[dict[str, tuple[float, float]]] = {
        "divergence": (0.5, 1.0),
        "reconstruction": (1.0, 1.0),
    }
    auto_updates_of_classifier: ClassVar[tuple[int, int]] = (800, 1500)
    auto_noise_std: ClassVar[tuple[float, float]] = (0.4, 1.0)
    code_parameters: ClassVar[tuple[str, ...]] = (
        "classifier",
        "encoder",
        "decoder",
        "vae",
        "optimizer",
        "loss_fn",
        "metrics",
    )

    def _check_own_parameters(self) -> None:
        check_choice(self, "classifier_output", ("auto", "logits", "probabilities"))
        check_choice(self, "log_variance", ("linear", "softplus", None))
        for name in ("w_model", "w_recon", "beta"):
            check_real(self, name, 0)
        if self.noise_std != "auto":
            check_real(self, "noise_std", 0)
        check_real(self, "attacked_fraction", 0, 1)
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
        for name in ("encoder", "decoder", "vae", "optimizer", "loss_fn"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, nn.Module) or not callable(value)):
                raise TypeError(
                    f"{name} must be None or a function that is called in fit, got {value!r}."
                )
        if self.vae is not None and (self.encoder is not None or self.decoder is not None):
            raise ValueError("Give either vae or encoder and decoder, not both.")
        for name in ("hidden_layers", "hidden_weights", "metrics"):
            if not isinstance(getattr(self, name), Mapping | None):
                raise TypeError(f"{name} must be None or a dict, got {getattr(self, name)!r}.")
        unknown = set(self.hidden_weights or ()) - set(self.hidden_layers or ())
        if unknown:
            raise ValueError(f"hidden_weights has {sorted(unknown)}, which hidden_layers has not.")

    def _prepare(
        self, source: Source, rows: np.ndarray, y: Any, device: torch.device, go_on: bool
    ) -> None:
        self._take_classifier(source, rows, y, device, go_on)
        self._check_score_has_parts()
        if go_on:
            return
        half = torch.randn(-(-self.n_samples // 2), 1, 1, self.latent_dim_)
        # A draw and its mirror image: their mean is exactly the code's.
        self.draws_ = torch.cat([half, -half])[: self.n_samples]
        if self.log_variance is None:
            self.draws_ = torch.zeros(1, 1, 1, self.latent_dim_)
        self.error_scale_ = self._error_scale(source, rows)

    def _build_networks(self, make: Any) -> dict[str, nn.Module]:
        shape, latent_dim = self.sample_shape_, self.latent_dim_
        n_outputs = latent_dim if self.log_variance is None else 2 * latent_dim
        if self.vae is not None:
            pairs: list[Any] = [self.vae(shape, latent_dim) for _ in range(self.n_members_)]
            networks: dict[str, nn.Module] = {
                "encoder": PerMember(pair.encoder for pair in pairs),
                "decoder": PerMember(pair.decoder for pair in pairs),
            }
        else:
            members = range(self.n_members_)
            networks = {
                "encoder": PerMember(self.encoder(shape, n_outputs) for _ in members)
                if self.encoder
                else make.encoder(n_outputs),
                "decoder": PerMember(self.decoder(latent_dim, shape) for _ in members)
                if self.decoder
                else make.decoder(latent_dim),
            }
        if self.vae or self.encoder or self.decoder:
            x = torch.zeros(self.n_members_, 2, *shape)
            check_answer("encoder", networks["encoder"].eval()(x), (2, n_outputs))
            z = torch.zeros(self.n_members_, 2, latent_dim)
            check_answer("decoder", networks["decoder"].eval()(z), (2, *shape))
        return networks

    def _updates(self) -> tuple[int, int]:
        return self.auto_updates if self.classifier_ is None else self.auto_updates_of_classifier

    def _build_optimizers(self, nets: Any) -> dict[str, Optimizer]:
        weights = [p for net in (nets.encoder, nets.decoder) for p in net.parameters()]
        if self.optimizer is None:
            optimizer: Optimizer = torch.optim.Adam(weights, self.learning_rate, fused=True)
        else:
            optimizer = self.optimizer(weights, lr=self.learning_rate)
        return {"encoder_decoder": optimizer}

    def _train_step(
        self, nets: Any, optimizers: dict[str, Optimizer], x: Tensor, progress: float
    ) -> dict[str, Tensor]:
        # 1. A code drawn from the encoder's distribution, and what the decoder makes of it.
        mean, log_variance = self._posterior(nets, self._noisy(x))
        z = (
            mean
            if log_variance is None
            else mean + (log_variance / 2).exp() * torch.randn_like(mean)
        )
        x_hat = nets.decoder(z)

        # 2. The classifier should answer both alike, and both should be alike.
        losses: dict[str, Tensor] = {"reconstruction": self._reconstruction_loss(x, x_hat)}
        log_p = log_p_hat = None
        if self.classifier_ is not None:
            with torch.no_grad():
                log_p, hidden = self._answers(x)
            log_p_hat, hidden_hat = self._answers(x_hat)
            losses["model"] = self._divergence(log_p, hidden, log_p_hat, hidden_hat)
        # 3. The codes should be spread like the prior.
        if log_variance is not None:
            losses["prior"] = divergence_from_prior(mean, log_variance)
        if self.loss_fn is None:
            losses["loss"] = self._weighted(losses)
        else:
            losses["loss"] = _checked_loss(self.loss_fn(x, x_hat, log_p, log_p_hat), x)
            losses["loss"] = losses["loss"] + self.beta * losses.get("prior", 0.0)
        update(optimizers["encoder_decoder"], losses["loss"])
        for name, metric in (self.metrics or {}).items():
            losses[name] = metric(x, x_hat.detach())
        return losses

    def _weighted(self, losses: Mapping[str, Tensor]) -> Tensor:
        """The sum of the losses with `w_model`, `w_recon` and `beta`."""
        reconstruction = losses["reconstruction"]
        total = self.w_recon * reconstruction + self.beta * losses.get("prior", 0.0)
        if self.classifier_ is None:
            return total
        model = losses["model"]
        if self.cov_elbo is None and self.w_recon:
            # A divergence has no unit, a squared error that of the scaled samples: what they
            # vary by in a batch makes them comparable, early in training and late.
            spread, own_spread = reconstruction.detach().std(1), model.detach().std(1)
            model = (spread / (own_spread + 1e-10))[:, None] * model
        return self.w_model * model + total

    def _posterior(self, nets: Any, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Mean and log-variance of the codes' distribution; None without a variance."""
        if self.log_variance is None:
            return nets.encoder(x), None
        mean, log_variance = nets.encoder(x).chunk(2, dim=-1)
        return mean, F.softplus(log_variance) if self.log_variance == "softplus" else log_variance

    def _drawn(self, nets: Any, x: Tensor) -> Iterator[Tensor]:
        """The reconstructions of x, one for each of the draws that all samples share."""
        mean, log_variance = self._posterior(nets, x)
        spread = 0.0 if log_variance is None else (log_variance / 2).exp()
        for draw in self.draws_.to(x.device):
            yield nets.decoder(mean + spread * draw)

    def _reconstruction_loss(self, x: Tensor, x_hat: Tensor) -> Tensor:
        if self.cov_elbo is None:
            return mean_squared_error(x, x_hat)
        return gaussian_error(x, x_hat, self.error_scale_.to(x.device))

    def _error_scale(self, source: Source, rows: np.ndarray) -> Tensor:
        """What `cov_elbo` came to: see `losses.gaussian_error`."""
        if self.cov_elbo not in ("diag", "full"):
            return torch.tensor(1.0 if self.cov_elbo is None else float(self.cov_elbo))
        x = self._sample_of(source, rows).flatten(1)
        return gaussian_scale(x, full=self.cov_elbo == "full")

    def _score_parts(self, nets: Any, x: Tensor) -> dict[str, Part]:
        mean, log_variance = self._posterior(nets, x)
        parts: dict[str, Part] = {
            "reconstruction": mean_absolute_error(x, nets.decoder(mean)),
        }
        if log_variance is not None:
            parts["prior"] = divergence_from_prior(mean, log_variance)
        if self.classifier_ is not None:
            parts["divergence"] = lambda: self._mean_divergence(nets, x)
        return parts

    def _mean_divergence(self, nets: Any, x: Tensor) -> Tensor:
        """Mean over the draws of the divergence of the classifier's answers."""
        # All members are given the same samples, so that one of them is asked for.
        log_p, hidden = self._answers(x[:1])
        total: Tensor | float = 0.0
        for x_hat in self._drawn(nets, x):
            total = total + self._divergence(log_p, hidden, *self._answers(x_hat))
        return torch.as_tensor(total) / len(self.draws_)

    def _divergence(
        self, log_p: Tensor, hidden: list[Tensor], log_p_hat: Tensor, hidden_hat: list[Tensor]
    ) -> Tensor:
        total = divergence((log_p / self.temperature).log_softmax(-1), log_p_hat)
        for name, h, h_hat in zip(self.hidden_layers or (), hidden, hidden_hat, strict=True):
            weight = (self.hidden_weights or {}).get(name, 1.0)
            total = total + weight * divergence(h.log_softmax(-1), h_hat.log_softmax(-1))
        return total

    def _weights(self) -> Mapping[str, float]:
        if self.chosen_score is not None or self.classifier_ is None:
            return super()._weights()
        is_image = self._is_fitted_to_images()
        return {name: pair[is_image] for name, pair in self.part_weights_of_classifier.items()}

    def _paper_score(self, parts: dict[str, Any]) -> Tensor:
        return value_of(parts["reconstruction" if self.classifier_ is None else "divergence"])

    def _encode(self, nets: Any, x: Tensor) -> Tensor:
        return self._posterior(nets, x)[0]

    def _reconstruct(self, nets: Any, x: Tensor) -> Tensor:
        return nets.decoder(self._encode(nets, x))

    def _check_score_has_parts(self) -> None:
        """Raise ValueError if the score asks for a part that these parameters do not give."""
        absent = {
            "divergence": "classifier" if self.classifier_ is None else None,
            "prior": "log_variance" if self.log_variance is None else None,
        }
        for part, weight in self._weights().items():
            if weight and absent.get(part):
                raise ValueError(
                    f"score={self.chosen_score!r} asks for the part {part!r}, which needs a "
                    f"{absent[part]}, but {absent[part]}=None."
                )

    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn what is normal, and how the classifier answers it.

        Parameters
        ----------
        X : array-like, Dataset or path
            As for every detector: rows, images, flat rows with `image_shape`, a memory map, a torch
            Dataset or a folder of images. Samples that nobody attacked, as far as you know.
        y : array-like of shape (n_samples,) or None, default=None
            Labels of classes, looked at only if `classifier` is None: a small network then learns
            them and is the classifier. Without both there is none.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            If a parameter, the classifier, X or y cannot be used; nothing is trained, and what an
            earlier fit learned stays as it was.

        Warns
        -----
        UserWarning
            If the classifier has to be imitated: how well that went.
        ConvergenceWarning
            If a loss is not finite (the last good weights are kept), or Ctrl-C ends the training
            (what was learned is kept).
        """
        return super().fit(X, y)


def _checked_loss(loss: Tensor, x: Tensor) -> Tensor:
    if not isinstance(loss, Tensor) or loss.shape != x.shape[:2]:
        shape = tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
        raise ValueError(
            "loss_fn must return one value a member and sample, a tensor of shape "
            f"{tuple(x.shape[:2])}; got {shape}."
        )
    return loss
