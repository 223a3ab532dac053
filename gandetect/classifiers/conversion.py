"""Exact conversion of fitted scikit-learn classifiers to tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV, SGDClassifier
from sklearn.multiclass import OneVsRestClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler
from torch import Tensor

from gandetect.classifiers.forms import DenseClassifier, GaussianClassifier, OneVsRest

Form = DenseClassifier | OneVsRest | GaussianClassifier


def converted(estimator: Any) -> Form | None:
    """Convert the ``predict_proba`` of a fitted classifier to the same function of tensors.

    Parameters
    ----------
    estimator : fitted classifier or Pipeline
        LogisticRegression, LogisticRegressionCV, LinearDiscriminantAnalysis, SGDClassifier with
        ``loss="log_loss"``, MLPClassifier, GaussianNB or OneVsRestClassifier of these; also in a
        Pipeline after StandardScaler, MinMaxScaler, MaxAbsScaler, RobustScaler, PCA or
        TruncatedSVD.

    Returns
    -------
    DenseClassifier, OneVsRest, GaussianClassifier or None
        None for any other class. Subclasses are not converted, because they can override any
        method.
    """
    if type(estimator) is Pipeline:
        return _of_pipeline(
            [step for _, step in estimator.steps if step not in (None, "passthrough")]
        )
    convert = _CLASSIFIERS.get(type(estimator))
    return convert(estimator) if convert else None


def _of_pipeline(steps: Sequence[Any]) -> Form | None:
    *transformers, last = steps
    form = converted(last)
    for transformer in reversed(transformers):
        affine = _TRANSFORMERS.get(type(transformer))
        if form is None or affine is None or getattr(transformer, "clip", False):
            return None
        form = form.after(*map(_tensor, affine(transformer)))
    return form


def _of_linear(estimator: Any) -> DenseClassifier:
    return DenseClassifier((_tensor(estimator.coef_.T),), (_tensor(estimator.intercept_),))


def _of_sgd(estimator: SGDClassifier) -> DenseClassifier | OneVsRest | None:
    if estimator.loss != "log_loss":
        return None
    linear = _of_linear(estimator)
    (weight,), (bias,) = linear.weights, linear.biases
    if len(bias) == 1:
        return linear
    return OneVsRest(
        tuple(
            DenseClassifier((weight[:, i : i + 1].clone(),), (bias[i : i + 1].clone(),))
            for i in range(len(bias))
        )
    )


def _of_perceptron(estimator: MLPClassifier) -> DenseClassifier | None:
    if np.ndim(estimator.classes_[0]) or (
        estimator.out_activation_ == "logistic" and estimator.n_outputs_ > 1
    ):
        return None  # multilabel: no probability distribution over the classes
    return DenseClassifier(
        tuple(_tensor(weight) for weight in estimator.coefs_),
        tuple(_tensor(bias) for bias in estimator.intercepts_),
        estimator.activation,
    )


def _of_naive_bayes(estimator: GaussianNB) -> GaussianClassifier:
    return GaussianClassifier(
        _tensor(estimator.theta_),
        _tensor(estimator.var_),
        _tensor(estimator.class_prior_).log(),
    )


def _of_one_vs_rest(estimator: OneVsRestClassifier) -> Form | None:
    if estimator.multilabel_:
        return None
    members = [converted(member) for member in estimator.estimators_]
    flat = [m for m in members if isinstance(m, DenseClassifier | GaussianClassifier)]
    if len(flat) < len(members):
        return None
    return flat[0] if len(flat) == 1 else OneVsRest(tuple(flat))


_CLASSIFIERS: dict[type, Callable[[Any], Form | None]] = {
    LogisticRegression: _of_linear,
    LogisticRegressionCV: _of_linear,
    LinearDiscriminantAnalysis: _of_linear,
    SGDClassifier: _of_sgd,
    MLPClassifier: _of_perceptron,
    GaussianNB: _of_naive_bayes,
    OneVsRestClassifier: _of_one_vs_rest,
}


def _centred_and_divided(
    center: np.ndarray | None, scale: np.ndarray | None, n: int
) -> tuple[np.ndarray, np.ndarray]:
    center = np.zeros(n) if center is None else center
    scale = np.ones(n) if scale is None else scale
    return np.diag(1 / scale), -center / scale


def _of_standard(scaler: StandardScaler) -> tuple[np.ndarray, np.ndarray]:
    center = scaler.mean_ if scaler.with_mean else None
    return _centred_and_divided(center, scaler.scale_, scaler.n_features_in_)


def _of_robust(scaler: RobustScaler) -> tuple[np.ndarray, np.ndarray]:
    return _centred_and_divided(scaler.center_, scaler.scale_, scaler.n_features_in_)


def _of_max_abs(scaler: MaxAbsScaler) -> tuple[np.ndarray, np.ndarray]:
    return _centred_and_divided(None, scaler.scale_, scaler.n_features_in_)


def _of_min_max(scaler: MinMaxScaler) -> tuple[np.ndarray, np.ndarray]:
    return np.diag(scaler.scale_), scaler.min_


def _of_components(pca: PCA) -> tuple[np.ndarray, np.ndarray]:
    matrix = pca.components_.T
    if pca.whiten:
        matrix = matrix / np.sqrt(pca.explained_variance_)
    return matrix, -pca.mean_ @ matrix


def _of_singular_vectors(svd: TruncatedSVD) -> tuple[np.ndarray, np.ndarray]:
    return svd.components_.T, np.zeros(len(svd.components_))


_TRANSFORMERS: dict[type, Callable[[Any], tuple[np.ndarray, np.ndarray]]] = {
    StandardScaler: _of_standard,
    RobustScaler: _of_robust,
    MaxAbsScaler: _of_max_abs,
    MinMaxScaler: _of_min_max,
    PCA: _of_components,
    TruncatedSVD: _of_singular_vectors,
}


def _tensor(values: Any) -> Tensor:
    return torch.from_numpy(np.array(values, dtype=np.float64, order="C"))
