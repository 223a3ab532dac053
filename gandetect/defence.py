"""What a detector does that stands guard before a classifier: take it, ask it, correct it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from gandetect.base import BaseDetector
from gandetect.classifiers import (
    FORMS,
    Classifier,
    LabelledClassifier,
    ModuleClassifier,
    check_answers,
    checked_labels,
    classes_of,
    distilled,
    learned_from_labels,
    taken,
    unwrapped,
)
from gandetect.classifiers.module import TOLERANCE
from gandetect.data.reading import read
from gandetect.data.sources import Source, channels_restored
from gandetect.model.inference import thinned

# Samples that a classifier is tried with, and that one is learned or imitated from at most.
_N_TRIED = 64
_MAX_LEARNED_FROM = 20_000
# Up to which power of its slope a value changes in an attack: at 0 all values do, at 3 few.
_MAX_POWER = 3.0


class DefendingDetector(BaseDetector):
    """A detector's classifier, from the parameter to corrected labels.

    Attributes
    ----------
    classifier_ : Classifier or None
        The classifier as a frozen, differentiable function.
    classes_ : ndarray of shape (n_classes,)
        Only if there is a classifier.
    heads_ : dict of str to Tensor of shape (width, n_units)
        A fixed random projection of each of `hidden_layers`.
    """

    classifier_: Any
    classes_: np.ndarray
    heads_: dict[str, Tensor]

    classifier: Any
    classifier_output: str
    noise_std: float | str
    attacked_fraction: float
    hidden_layers: Mapping[str, int] | None
    data_type: str | None

    # What noise_std="auto" stands for, of rows and of images, where there is a classifier.
    auto_noise_std: ClassVar[tuple[float, float]]

    def _drawn(self, nets: Any, x: Tensor) -> Iterator[Tensor]:
        """Reconstructions of x (K, B, ...), one for each draw."""
        raise NotImplementedError

    def detect(self, X: Any, return_instance_score: bool = True) -> dict[str, dict[str, Any]]:
        """What `predict` says, as the dictionary that users of alibi-detect know.

        Parameters
        ----------
        X : array-like, Dataset or path
            As in `fit`.
        return_instance_score : bool, default=True
            Whether the scores are returned too.

        Returns
        -------
        dict
            "meta": "name", "detector_type" ("adversarial", or "outlier" without a classifier),
            "data_type", "online". "data": "is_adversarial", an array of 0 and 1;
            "instance_score", what `anomaly_score` gives, or None; "threshold".
        """
        scores = self.anomaly_score(X)
        self._check_threshold()
        return {
            "meta": self._meta(),
            "data": {
                "is_adversarial": (scores > self.threshold_).astype(int),
                "instance_score": scores if return_instance_score else None,
                "threshold": self.threshold_,
            },
        }

    def correct(self, X: Any, return_instance_score: bool = True) -> dict[str, dict[str, Any]]:
        """Labels that an attack has not moved: flagged samples get that of their reconstruction.

        Parameters
        ----------
        X : array-like, Dataset or path
            As in `fit`.
        return_instance_score : bool, default=True
            Whether the scores are returned too.

        Returns
        -------
        dict
            As from `detect`, and three more arrays of labels from ``classes_`` in "data":
            "no_defense", what the classifier says of X; "defense", what it says of the
            reconstructions, mean over draws and members; "corrected", the latter for flagged
            samples and the former for all others.

        Raises
        ------
        ValueError
            If the detector has no classifier.
        """
        check_is_fitted(self)
        if self.classifier_ is None:
            raise ValueError(
                "There are no labels to correct without a classifier: fit with classifier=..., or "
                "with class labels y to learn one from."
            )
        answer = self.detect(X, return_instance_score)
        no_defense, defense = self.classes_[self._apply(self._labels, read(self, X)).T]
        is_flagged = answer["data"]["is_adversarial"] == 1
        answer["data"] |= {
            "corrected": np.where(is_flagged, defense, no_defense),
            "no_defense": no_defense,
            "defense": defense,
        }
        return answer

    def _meta(self) -> dict[str, Any]:
        kind = "image" if self._is_fitted_to_images() else "tabular"
        return {
            "name": type(self).__name__,
            "detector_type": "outlier" if self.classifier_ is None else "adversarial",
            "data_type": self.data_type or kind,
            "online": False,
        }

    def _labels(self, nets: Any, x: Tensor) -> Tensor:
        """Numbers of the classes of x and of its reconstructions: (B, 2)."""
        defended = sum(self._answers(x_hat)[0].exp().mean(0) for x_hat in self._drawn(nets, x))
        undefended = self._answers(x[:1])[0][0]
        return torch.stack([undefended.argmax(-1), torch.as_tensor(defended).argmax(-1)], dim=1)

    def _answers(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Log-probabilities (K, B, n_classes) of scaled samples, and the heads' logits."""
        samples = self._in_units(x.flatten(0, 1))
        if isinstance(self.classifier_, ModuleClassifier):
            self.classifier_.to(x.device)
        log_p, hidden = self.classifier_.with_hidden(samples, list(self.hidden_layers or ()))
        logits = [
            (h.to(x.dtype) @ self.heads_[name].to(x)).unflatten(0, x.shape[:2])
            for name, h in zip(self.hidden_layers or (), hidden, strict=True)
        ]
        return log_p.to(x.dtype).unflatten(0, x.shape[:2]), logits

    def _noisy(self, x: Tensor) -> Tensor:
        """The samples (K, B, ...) with noise, from none to `noise_std`, random or an attack."""
        noise_std = self.noise_std
        if noise_std == "auto":
            is_image = self._is_fitted_to_images()
            noise_std = 0.0 if self.classifier_ is None else self.auto_noise_std[is_image]
        if not noise_std:
            return x
        share = torch.rand(*x.shape[:2], *[1] * (x.ndim - 2), device=x.device)
        noise = torch.randn_like(x)
        # Batches are in random order, so that the first samples are as good as any.
        n_attacked = round(self.attacked_fraction * x.shape[1])
        if self.classifier_ is not None and n_attacked:
            noise[:, :n_attacked] = self._attack(x[:, :n_attacked])
        noisy = x + float(noise_std) * share * noise
        return noisy.clamp(x.min(), x.max()) if self._is_fitted_to_images() else noisy

    def _attack(self, x: Tensor) -> Tensor:
        """The change of scaled samples (K, B, ...) that moves the answers most; its rms is 1.

        It is the steepest one in a norm that is drawn for each sample: every value changes alike
        (the sign of the gradient), by its slope, or few do.
        """
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            log_p, _ = self._answers(x)
            (slope,) = torch.autograd.grad(log_p.amax(-1).sum(), x)
        axes = tuple(range(2, x.ndim))
        size = slope.abs() / slope.abs().amax(axes, keepdim=True).clamp(min=1e-30)
        power = _MAX_POWER * torch.rand(*x.shape[:2], *[1] * len(axes), device=x.device)
        change = -slope.sign() * size**power
        return change / change.square().mean(axes, keepdim=True).sqrt().clamp(min=1e-12)

    def _in_units(self, x: Tensor) -> Tensor:
        """Scaled samples (n, *sample_shape) as the classifier takes them."""
        samples = self.scaler_.inverse(x.double())
        if not self.classifier_.takes_rows:
            return samples
        if len(self.input_shape_) == 3 and self.channel_axis == -1:
            samples = samples.movedim(1, -1)
        return samples.flatten(1)

    # From the parameter to a classifier.

    def _take_classifier(
        self, source: Source, rows: np.ndarray, y: Any, device: torch.device, go_on: bool
    ) -> None:
        """Set what a detector has of its classifier, or raise a typed error."""
        if go_on and self.classifier is None:
            return  # the one learned from the labels of the first fit is still there
        self.classifier_, self.heads_ = None, {}
        self.__dict__.pop("classes_", None)
        if self.classifier is not None:
            self._take_given_classifier(source, rows, device)
        elif y is not None:
            self.classes_, numbers = checked_labels(y, len(source))
            kept = thinned(rows, _MAX_LEARNED_FROM)
            X = self._as_rows(source, kept)
            self.classifier_ = learned_from_labels(X, numbers[kept], len(self.classes_))
        if self.hidden_layers:
            self._make_heads(source, rows, device)

    def _take_given_classifier(
        self, source: Source, rows: np.ndarray, device: torch.device
    ) -> None:
        tried = self._sample_of(source, rows[:_N_TRIED]).to(device)
        in_units = self.scaler_.inverse(tried.double())
        self.classifier_ = taken(self.classifier, self.classifier_output, in_units)
        if self.classifier_ is None:
            self.classifier_ = self._surrogate(
                self._as_rows(source, thinned(rows, _MAX_LEARNED_FROM))
            )
        with torch.no_grad():
            n_classes = check_answers(self.classifier_, self._in_units(tried))
        self.classes_ = classes_of(self.classifier, n_classes)

    def _surrogate(self, X: np.ndarray) -> Classifier:
        """A network that imitates the classifier, with a warning that says how well."""
        given = unwrapped(self.classifier)

        def predict_proba(rows: np.ndarray) -> np.ndarray:
            with warnings.catch_warnings():
                # The columns are those that it was fitted to, if without their names.
                warnings.filterwarnings("ignore", "X does not have valid feature names")
                return checked_probabilities(given.predict_proba(rows), len(rows))

        network, agreement, difference = distilled(predict_proba, X)
        warnings.warn(
            f"The classifier {type(given).__name__} has no gradient, so a network was taught to "
            f"answer as it does. They give the same class to {agreement:.1%} of samples kept from "
            f"the teaching, and their probabilities differ by {difference:.3f} in the mean. "
            "Scores and corrected labels are those of the network.",
            UserWarning,
            stacklevel=2,
        )
        return network

    def _make_heads(self, source: Source, rows: np.ndarray, device: torch.device) -> None:
        """Draw a random projection of each hidden layer, as wide as `hidden_layers` says."""
        names = self.hidden_layers or {}
        if self.classifier_ is None:
            raise ValueError("hidden_layers are a classifier's: give one, or y to learn one from.")
        with torch.no_grad():
            tried = self._in_units(self._sample_of(source, rows[:2]).to(device))
            _, hidden = self.classifier_.with_hidden(tried, list(names))
        for name, h in zip(names, hidden, strict=True):
            self.heads_[name] = torch.randn(h.shape[1], names[name]) / h.shape[1] ** 0.5

    def _sample_of(self, source: Source, rows: np.ndarray) -> Tensor:
        """Some scaled samples (n, *sample_shape), all at once."""
        return self.scaler_(source.read(thinned(rows, _MAX_LEARNED_FROM)))

    def _as_rows(self, source: Source, rows: np.ndarray) -> np.ndarray:
        """Samples as flat rows, in the units and the order of X."""
        x = channels_restored(source.read(rows), self.input_shape_, self.channel_axis)
        return np.asarray(x, dtype=np.float64).reshape(len(rows), -1)

    # What travels with a saved detector.

    def _saved_parameters(self) -> dict[str, Any]:
        parameters = super()._saved_parameters()
        if self.classifier is not None and isinstance(self.classifier_, FORMS):
            parameters["classifier"] = LabelledClassifier(self.classifier_, self.classes_)
        return parameters

    def _saved_learned(self) -> dict[str, Any]:
        learned = super()._saved_learned()
        if isinstance(self.classifier_, ModuleClassifier):
            # Its weights are data, its code is not.
            weights = dict(self.classifier_.module.state_dict())
            learned["classifier_"] = {"output": self.classifier_.output, "weights": weights}
        return learned

    def _restore_networks(self, weights: dict[str, Tensor]) -> None:
        super()._restore_networks(weights)
        if isinstance(self.classifier_, Mapping):
            saved = self.classifier_
            self.classifier_ = ModuleClassifier(unwrapped(self.classifier), saved["output"])
            self.classifier_.module.load_state_dict(saved["weights"])


def checked_probabilities(p: Any, n_samples: int) -> np.ndarray:
    """The answer of a ``predict_proba``, or ValueError if it is no distribution over classes."""
    p = np.asarray(p, dtype=np.float64)
    if p.ndim != 2 or len(p) != n_samples or p.shape[1] < 2:
        raise ValueError(
            f"predict_proba answers {n_samples} samples with an array of shape {p.shape}: it must "
            "be (n_samples, n_classes) with at least two classes."
        )
    if (p < 0).any() or not np.allclose(p.sum(1), 1, atol=TOLERANCE):
        raise ValueError(
            "predict_proba answers with numbers that are negative or do not sum to 1: a classifier "
            "of several labels a sample cannot be defended."
        )
    return p
