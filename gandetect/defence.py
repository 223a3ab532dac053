"""Detectors that protect a classifier: conversion, predictions and corrected labels."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from gandetect import __version__
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
from gandetect.model import Model
from gandetect.model.fitted import P, thinned
from gandetect.training import TrainingRun, TrainingSamples

# The number of samples with which a classifier is checked, and the largest number for training one.
_N_TRIED = 64
_MAX_LEARNED_FROM = 20_000
# The largest power of the gradient for the change of a value in an attack: with 0 all values change
# equally, with 3 mainly a few.
_MAX_POWER = 3.0


class GuardingModel(Model[P]):
    """A model with a classifier, and its predictions for samples and reconstructions.

    Attributes
    ----------
    classifier : Classifier or None
        The classifier as a frozen, differentiable function.
    classes : ndarray of shape (n_classes,) or None
        The labels of the classifier.
    heads : dict of str to Tensor of shape (width, n_units)
        A fixed random projection for each of `hidden_layers`.
    """

    # The value of noise_std="auto" with a classifier, for rows and for images.
    auto_noise_std: ClassVar[tuple[float, float]]

    classifier: Any = None
    classes: np.ndarray | None = None
    heads: dict[str, Tensor]

    def drawn(self, x: Tensor) -> Iterator[Tensor]:
        """Yield reconstructions of x (K, B, ...), one for each draw."""
        raise NotImplementedError

    def labels(self, x: Tensor) -> Tensor:
        """Return the indices of the classes of x and of its reconstructions, (B, 2)."""
        guarded = sum(self.answers(x_hat)[0].exp().mean(0) for x_hat in self.drawn(x))
        unguarded = self.answers(x[:1])[0][0]
        return torch.stack([unguarded.argmax(-1), torch.as_tensor(guarded).argmax(-1)], dim=1)

    def answers(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return log-probabilities (K, B, n_classes) of scaled samples, and logits of the heads."""
        layers: Mapping[str, int] = vars(self.settings)["hidden_layers"] or {}
        samples = self.in_units(x.flatten(0, 1))
        if isinstance(self.classifier, ModuleClassifier):
            self.classifier.to(x.device)
        log_p, hidden = self.classifier.with_hidden(samples, list(layers))
        logits = [
            (h.to(x.dtype) @ self.heads[name].to(x)).unflatten(0, x.shape[:2])
            for name, h in zip(layers, hidden, strict=True)
        ]
        return log_p.to(x.dtype).unflatten(0, x.shape[:2]), logits

    def noisy(self, x: Tensor, run: TrainingRun) -> Tensor:
        """Add noise from 0 to `noise_std`, random or an attack, to samples (K, B, ...)."""
        s = vars(self.settings)
        noise_std = s["noise_std"]
        if noise_std == "auto":
            of_kind = self.auto_noise_std[self.layout.is_image]
            noise_std = 0.0 if self.classifier is None else of_kind
        if not noise_std:
            return x
        share = run.random.uniform(*x.shape[:2], *[1] * (x.ndim - 2))
        noise = run.random.normal_like(x)
        # Batches are in random order, so that the first samples are a random selection.
        n_attacked = round(s["attacked_fraction"] * x.shape[1])
        if self.classifier is not None and n_attacked:
            noise[:, :n_attacked] = self.attack(x[:, :n_attacked], run)
        noisy = x + float(noise_std) * share * noise
        return noisy.clamp(x.min(), x.max()) if self.layout.is_image else noisy

    def attack(self, x: Tensor, run: TrainingRun) -> Tensor:
        """Return the change of scaled samples (K, B, ...) that affects the predictions most.

        Its root mean square is 1. It is the direction of steepest ascent in a norm that is drawn
        for each sample: all values change equally (the sign of the gradient), in proportion to
        their gradient, or mainly a few values change.
        """
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            log_p, _ = self.answers(x)
            (slope,) = torch.autograd.grad(log_p.amax(-1).sum(), x)
        axes = tuple(range(2, x.ndim))
        size = slope.abs() / slope.abs().amax(axes, keepdim=True).clamp(min=1e-30)
        power = _MAX_POWER * run.random.uniform(*x.shape[:2], *[1] * len(axes))
        change = -slope.sign() * size**power
        return change / change.square().mean(axes, keepdim=True).sqrt().clamp(min=1e-12)

    def in_units(self, x: Tensor) -> Tensor:
        """Convert scaled samples (n, *sample_shape) to the units of the classifier."""
        samples = self.scaler.inverse(x.double())
        if not self.classifier.takes_rows:
            return samples
        if self.layout.has_channels_last:
            samples = samples.movedim(1, -1)
        return samples.flatten(1)

    # Preparation of the classifier.

    def prepare(self, samples: TrainingSamples, run: TrainingRun) -> None:
        """Set the classifier, or train one on the class labels; raise errors for invalid ones."""
        given = vars(self.settings)["classifier"]
        is_there = self.classifier is not None or self.classes is not None
        if is_there and given is None and samples.class_labels is None:
            return  # keep the classifier that was trained on the labels of the first fit
        self.classifier, self.classes, self.heads = None, None, {}
        generator = run.random.generator
        if given is not None:
            self._take(given, samples, generator)
        elif samples.class_labels is not None:
            n = len(samples.source)
            self.classes, numbers = checked_labels(samples.class_labels, n)
            kept = thinned(samples.rows, _MAX_LEARNED_FROM)
            self.classifier = learned_from_labels(
                self._as_rows(samples), numbers[kept], len(self.classes), generator
            )
        if vars(self.settings)["hidden_layers"]:
            self._make_heads(samples, generator)

    def _take(self, given: Any, samples: TrainingSamples, generator: torch.Generator) -> None:
        tried = samples.scaled(_N_TRIED).to(self.device)
        in_units = self.scaler.inverse(tried.double())
        output = vars(self.settings)["classifier_output"]
        self.classifier = taken(given, output, in_units)
        if self.classifier is None:
            self.classifier = _surrogate(given, self._as_rows(samples), generator)
        with torch.no_grad():
            n_classes = check_answers(self.classifier, self.in_units(tried))
        self.classes = classes_of(given, n_classes)

    def _make_heads(self, samples: TrainingSamples, generator: torch.Generator) -> None:
        """Draw a random projection of each hidden layer, with the width in `hidden_layers`."""
        layers: Mapping[str, int] = vars(self.settings)["hidden_layers"]
        if self.classifier is None:
            raise ValueError(
                "hidden_layers needs a classifier: pass one, or class_labels to train one."
            )
        with torch.no_grad():
            tried = self.in_units(samples.scaled(2).to(self.device))
            _, hidden = self.classifier.with_hidden(tried, list(layers))
        for name, h in zip(layers, hidden, strict=True):
            shape = (h.shape[1], layers[name])
            self.heads[name] = (
                torch.randn(shape, generator=generator, dtype=torch.float32, device="cpu")
                / h.shape[1] ** 0.5
            )

    def _as_rows(self, samples: TrainingSamples) -> np.ndarray:
        """Return samples as flat rows, in the units and the order of X."""
        x = self.layout.restored(samples.read(_MAX_LEARNED_FROM))
        return np.asarray(x, dtype=np.float64).reshape(len(x), -1)

    # Saved data.

    def own_data(self) -> dict[str, Any]:
        """Return the classifier as data, or the weights of a network that is code."""
        given, classifier = vars(self.settings)["classifier"], self.classifier
        data: dict[str, Any] = {"heads_": self.heads, "classifier_": classifier}
        if self.classes is not None:
            data["classes_"] = self.classes
        if isinstance(classifier, FORMS) and given is not None and self.classes is not None:
            data["parameters"] = {"classifier": LabelledClassifier(classifier, self.classes)}
        if isinstance(classifier, ModuleClassifier):
            # The weights of the network are data; its code is not.
            weights = dict(classifier.module.state_dict())
            data["classifier_"] = {"output": classifier.output, "weights": weights}
        return data

    def restore_own_data(self, data: dict[str, Any]) -> None:
        """Restore the classifier from data, and from the arguments of `load`."""
        self.heads = {str(name): head for name, head in data["heads_"].items()}
        self.classes, classifier = data.get("classes_"), data["classifier_"]
        if self.classes is not None and np.ndim(self.classes) != 1:
            raise ValueError("its classes are not a list of labels")
        if isinstance(classifier, Mapping):
            given = unwrapped(vars(self.settings)["classifier"])
            if not isinstance(given, nn.Module):
                raise TypeError("its classifier is a torch network, but the given one is not")
            weights = classifier["weights"]
            classifier = ModuleClassifier(given, classifier["output"])
            classifier.module.load_state_dict(weights)
        if classifier is not None and not isinstance(classifier, (*FORMS, ModuleClassifier)):
            raise TypeError("its classifier is invalid")
        self.classifier = classifier
        if classifier is not None and self.classes is not None:
            shape = (1, 2, *self.layout.sample_shape)
            log_p, _ = self.answers(torch.zeros(shape, device=self.device, dtype=torch.float32))
            if log_p.shape[-1] != len(self.classes):
                raise ValueError("its classes do not match its classifier")


class GuardingDetector(BaseDetector):
    """A detector that predicts the labels of a classifier without an attack."""

    model_: GuardingModel[Any]

    @property
    def classifier_(self) -> Classifier | None:
        """The classifier as a frozen, differentiable function; None without one."""
        classifier: Classifier | None = self._of_model(lambda _: self.model_.classifier)
        return classifier

    @property
    def classes_(self) -> np.ndarray:
        """The labels of the classifier, (n_classes,); only if there is one."""
        classes = self._of_model(lambda _: self.model_.classes)
        if classes is None:
            raise AttributeError("The detector has no classifier, and therefore no classes.")
        return classes

    def detect(self, X: Any, return_instance_score: bool = True) -> dict[str, dict[str, Any]]:
        """Return the result of `predict` as a dictionary in the format of alibi-detect.

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
            "data_type", "online", "version" (gandetect's). "data": "is_adversarial", an array of
            0 and 1; "instance_score", the result of `anomaly_score`, or None; "threshold".
        """
        model = self._scoring_model()
        scores = self.anomaly_score(X)
        model.check_threshold()
        return {
            "meta": self._meta(model),
            "data": {
                "is_adversarial": (model.label(torch.from_numpy(scores)) < 0).numpy().astype(int),
                "instance_score": scores if return_instance_score else None,
                "threshold": model.threshold,
            },
        }

    def correct(self, X: Any, return_instance_score: bool = True) -> dict[str, dict[str, Any]]:
        """Return corrected labels: flagged samples get the label of their reconstruction.

        Parameters
        ----------
        X : array-like, Dataset or path
            As in `fit`.
        return_instance_score : bool, default=True
            Whether the scores are returned too.

        Returns
        -------
        dict
            The result of `detect`, with three more arrays of labels from ``classes_`` in "data":
            "no_defense", the labels of X; "defense", the labels of the reconstructions, averaged
            over draws and members; "corrected", the labels of the reconstructions for flagged
            samples, and those of X for all others.

        Raises
        ------
        ValueError
            If the detector has no classifier.
        """
        model: Any = self._scoring_model()
        if model.classifier is None:
            raise ValueError(
                "There are no labels to correct without a classifier: fit with classifier=..., or "
                "with class_labels to train one."
            )
        answer = self.detect(X, return_instance_score)
        no_defense, defense = model.classes[model.in_blocks(model.labels, self._read(X, model)).T]
        is_flagged = answer["data"]["is_adversarial"] == 1
        answer["data"] |= {
            "corrected": np.where(is_flagged, defense, no_defense),
            "no_defense": no_defense,
            "defense": defense,
        }
        return answer

    def _meta(self, model: Any) -> dict[str, Any]:
        return {
            "name": type(self).__name__,
            "detector_type": "outlier" if model.classifier is None else "adversarial",
            "data_type": vars(self)["data_type"]
            or ("image" if model.layout.is_image else "tabular"),
            "online": False,
            "version": __version__,
        }


def _surrogate(given: Any, X: np.ndarray, generator: torch.Generator) -> Classifier:
    """Fit a network to the probabilities of the classifier, and warn."""
    given = unwrapped(given)

    def predict_proba(rows: np.ndarray) -> np.ndarray:
        with warnings.catch_warnings():
            # The columns are those of the classifier's fit, but without names.
            warnings.filterwarnings("ignore", "X does not have valid feature names")
            return checked_probabilities(given.predict_proba(rows), len(rows))

    network, agreement, difference = distilled(predict_proba, X, generator)
    warnings.warn(
        f"The classifier {type(given).__name__} has no gradient, so a network was fitted to its "
        f"probabilities. Both predict the same class for {agreement:.1%} of held-out samples, and "
        f"the mean difference of their probabilities is {difference:.3f}. Scores and corrected "
        "labels are computed with the network.",
        UserWarning,
        stacklevel=2,
    )
    return network


def checked_probabilities(answer: Any, n_samples: int) -> np.ndarray:
    """Return the result of ``predict_proba``; raise unless rows are probability distributions."""
    p: np.ndarray = np.asarray(answer, dtype=np.float64)
    if p.ndim != 2 or len(p) != n_samples or p.shape[1] < 2:
        raise ValueError(
            f"predict_proba returns an array of shape {p.shape} for {n_samples} samples: it must "
            "be (n_samples, n_classes) with at least two classes."
        )
    if (p < 0).any() or not np.allclose(p.sum(1), 1, atol=TOLERANCE):
        raise ValueError(
            "predict_proba returns numbers that are negative or do not sum to 1: a multilabel "
            "classifier cannot be used."
        )
    return p
