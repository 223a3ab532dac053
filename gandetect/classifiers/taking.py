"""Check the user's `classifier` and convert it to one that a detector can use."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from gandetect.classifiers.conversion import Form, converted
from gandetect.classifiers.forms import FORMS, LabelledClassifier
from gandetect.classifiers.module import TOLERANCE, ModuleClassifier, found_output


def unwrapped(given: Any) -> Any:
    """Return the estimator inside scikit-learn's FrozenEstimator; others are returned unchanged."""
    return given.estimator if isinstance(given, FrozenEstimator) else given


def taken(given: Any, output: str, x: Tensor) -> Form | ModuleClassifier | None:
    """Return a differentiable form of a classifier, if it has one without a surrogate.

    Parameters
    ----------
    given : nn.Module, fitted classifier, or one of `FORMS`
    output : {"auto", "logits", "probabilities"}
        The kind of output of a module; "auto" detects it from the output for `x`.
    x : Tensor of shape (n, *sample_shape)
        Samples in the units of X, on which a module is tested.

    Returns
    -------
    Form, ModuleClassifier or None
        None for a classifier that needs a surrogate.

    Raises
    ------
    NotFittedError
        If it is an estimator that is not fitted.
    TypeError
        If it is not a classifier, or cannot be copied.
    ValueError
        If it does not accept samples of this shape.
    """
    given = unwrapped(given)
    if isinstance(given, LabelledClassifier):
        return given.form
    if isinstance(given, FORMS):
        return given
    if isinstance(given, nn.Module):
        return _taken_module(given, output, x)
    if isinstance(given, type) or not hasattr(given, "fit"):
        raise TypeError(
            "classifier must be a torch nn.Module, a fitted scikit-learn classifier or None, got "
            f"{given!r}."
        )
    _check_fitted(given)
    n_features = int(np.prod(x.shape[1:]))
    expected = getattr(given, "n_features_in_", n_features)
    if expected != n_features:
        raise ValueError(
            f"The classifier {type(given).__name__} was fitted to {expected} features, but X has "
            f"{n_features}: the detector and the classifier must get the same features."
        )
    form = converted(given)
    if form is None and not hasattr(given, "predict_proba"):
        raise TypeError(
            f"The classifier {type(given).__name__} has neither a gradient nor predict_proba: pass "
            "a classifier with predict_proba, for instance "
            "sklearn.calibration.CalibratedClassifierCV, or a torch nn.Module."
        )
    return form


def classes_of(given: Any, n_classes: int) -> np.ndarray:
    """Return the labels of the classes; for a module these are integers from 0."""
    classes = getattr(unwrapped(given), "classes_", None)
    return np.arange(n_classes) if classes is None else np.asarray(classes)


def check_answers(classifier: Any, x: Tensor) -> int:
    """Apply a classifier to samples in its layout, check the output, and return its class count.

    Raises
    ------
    ValueError
        If the output is not finite, has not one row for each sample, or has fewer than two
        classes.
    """
    log_p: Tensor = classifier.log_probabilities(x)
    if log_p.ndim != 2 or len(log_p) != len(x) or log_p.shape[1] < 2:
        raise ValueError(
            f"The classifier returns an array of shape {tuple(log_p.shape)} for {len(x)} samples: "
            "it must be (n_samples, n_classes) with at least two classes."
        )
    if not bool(log_p.isfinite().all()):
        raise ValueError("The outputs of the classifier for samples of X are not all finite.")
    return log_p.shape[1]


def _check_fitted(estimator: Any) -> None:
    try:
        check_is_fitted(estimator)
    except NotFittedError as error:
        raise NotFittedError(
            f"The classifier {type(estimator).__name__} is not fitted. Fit it first. If it was "
            "fitted, it was cloned, as in cross-validation and grid search, and a clone is not "
            "fitted: pass classifier=FrozenEstimator(fitted) from sklearn.frozen."
        ) from error


def _taken_module(given: nn.Module, output: str, x: Tensor) -> ModuleClassifier:
    classifier = ModuleClassifier(given, "logits")
    with torch.no_grad():
        try:
            classifier.to(x.device)
            answer = classifier.raw(x)
        except Exception as error:
            raise ValueError(
                f"The classifier {type(given).__name__} cannot be applied to samples of shape "
                f"{tuple(x.shape[1:])}, channels first, in the units of X: {error}"
            ) from error
        if not isinstance(answer, Tensor) or answer.ndim != 2:
            raise ValueError(
                "The classifier must return a tensor (n_samples, n_classes), got "
                f"{tuple(answer.shape) if isinstance(answer, Tensor) else type(answer).__name__}."
            )
    found = found_output(answer)
    looks_like_both = found == "logits" and bool(((answer >= 0) & (answer <= 1)).all())
    if found == "logits" and (output == "probabilities" or (output == "auto" and looks_like_both)):
        raise ValueError(
            f"The outputs of the classifier (first row: {answer[0].tolist()}) are not "
            f"probabilities: some are negative or a row does not sum to 1 within {TOLERANCE}. Add "
            "a softmax as the last layer, or pass classifier_output='logits' if they are logits."
        )
    classifier.output = found if output == "auto" else output
    return classifier
