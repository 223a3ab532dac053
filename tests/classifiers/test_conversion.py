"""A converted classifier answers as scikit-learn's own does."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.multiclass import OneVsRestClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    MaxAbsScaler,
    MinMaxScaler,
    PolynomialFeatures,
    RobustScaler,
    StandardScaler,
)

from gandetect.classifiers import DenseClassifier, OneVsRest, converted

TWO_CLASSES = load_breast_cancer(return_X_y=True)
THREE_CLASSES = load_iris(return_X_y=True)
TOLERANCE = 1e-6


def linear():
    return LogisticRegression(max_iter=300)


def stochastic(loss="log_loss"):
    return SGDClassifier(loss=loss, alpha=0.1, random_state=0)


def perceptron(activation="relu"):
    return MLPClassifier((5, 4), activation=activation, max_iter=15, random_state=0, tol=1.0)


CLASSIFIERS = {
    "LogisticRegression": linear(),
    "LinearDiscriminantAnalysis": LinearDiscriminantAnalysis(),
    "SGDClassifier": stochastic(),
    "GaussianNB": GaussianNB(),
    "OneVsRest of LogisticRegression": OneVsRestClassifier(linear()),
    "OneVsRest of LDA": OneVsRestClassifier(LinearDiscriminantAnalysis()),
    "OneVsRest of GaussianNB": OneVsRestClassifier(GaussianNB()),
    "OneVsRest of MLPClassifier": OneVsRestClassifier(perceptron()),
    **{f"MLPClassifier, {name}": perceptron(name) for name in ("relu", "tanh", "logistic")},
    "MLPClassifier, identity": perceptron("identity"),
}
TRANSFORMERS = {
    "StandardScaler": [StandardScaler()],
    "StandardScaler without mean": [StandardScaler(with_mean=False)],
    "StandardScaler without std": [StandardScaler(with_std=False)],
    "MinMaxScaler": [MinMaxScaler((-1, 2))],
    "MaxAbsScaler": [MaxAbsScaler()],
    "RobustScaler": [RobustScaler()],
    "PCA": [StandardScaler(), PCA(3)],
    "PCA, whitened": [StandardScaler(), PCA(3, whiten=True)],
    "TruncatedSVD": [StandardScaler(), TruncatedSVD(2, random_state=0), MinMaxScaler()],
    "passthrough": ["passthrough"],
}


def assert_same_answers(estimator, X):
    form = converted(estimator)
    p = form.log_probabilities(torch.from_numpy(X)).exp().numpy()
    np.testing.assert_allclose(p, estimator.predict_proba(X), rtol=0, atol=TOLERANCE)
    return form


@pytest.mark.parametrize("data", [TWO_CLASSES, THREE_CLASSES], ids=["two", "three"])
@pytest.mark.parametrize("name", CLASSIFIERS)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_classifiers(name, data):
    X, y = data
    X = (X - X.mean(0)) / X.std(0)
    assert_same_answers(CLASSIFIERS[name].fit(X, y), X)


@pytest.mark.parametrize("last", ["LogisticRegression", "GaussianNB", "OneVsRest of GaussianNB"])
@pytest.mark.parametrize("name", TRANSFORMERS)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_pipelines(name, last):
    X, y = THREE_CLASSES
    X = X * [1.0, 100.0, 0.01, 1.0] + [0.0, 1e4, 0.0, -3.0]
    assert_same_answers(make_pipeline(*TRANSFORMERS[name], CLASSIFIERS[last]).fit(X, y), X)


def test_two_transformers_before_naive_bayes_stay_in_order():
    X, y = TWO_CLASSES
    pipeline = make_pipeline(StandardScaler(), PCA(4, whiten=True), MinMaxScaler(), GaussianNB())
    assert_same_answers(pipeline.fit(X, y), X)


def test_scalers_are_folded_into_the_first_layer():
    X, y = THREE_CLASSES
    form = assert_same_answers(make_pipeline(MinMaxScaler(), linear()).fit(X, y), X)
    assert isinstance(form, DenseClassifier)
    assert len(form.weights) == 1


def test_three_classes_of_sgd_are_one_against_the_rest():
    assert isinstance(converted(stochastic().fit(*THREE_CLASSES)), OneVsRest)


class Changed(LogisticRegression):
    def predict_proba(self, X):
        return super().predict_proba(X)[:, ::-1]


@pytest.mark.parametrize(
    "estimator",
    [
        RandomForestClassifier(3),
        stochastic("modified_huber"),
        Changed(),
        make_pipeline(PolynomialFeatures(), LinearDiscriminantAnalysis()),
        make_pipeline(MinMaxScaler(clip=True), LinearDiscriminantAnalysis()),
        make_pipeline(StandardScaler(), RandomForestClassifier(3)),
        OneVsRestClassifier(RandomForestClassifier(3)),
    ],
    ids=lambda estimator: repr(estimator)[:40],
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_what_is_something_else_is_not_converted(estimator):
    assert converted(estimator.fit(*THREE_CLASSES)) is None


@pytest.mark.parametrize("estimator", [perceptron(), OneVsRestClassifier(linear())], ids=repr)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_several_labels_a_sample_are_not_converted(estimator):
    X, y = THREE_CLASSES
    labels = np.eye(3, dtype=int)[y]
    labels[::2, 0] = 1
    assert converted(estimator.fit(X, labels)) is None
