"""What may be a classifier, and what the error says if something may not."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from torch import nn

from gandetect.classifiers import (
    DenseClassifier,
    LabelledClassifier,
    ModuleClassifier,
    check_answers,
    classes_of,
    taken,
)

X, Y = load_iris(return_X_y=True)
x = torch.from_numpy(X[:20])


@pytest.fixture(scope="module")
def fitted():
    return LogisticRegression(max_iter=300).fit(X, np.array(["a", "b", "c"])[Y])


def test_a_converted_classifier(fitted):
    for given in (fitted, FrozenEstimator(fitted)):
        assert isinstance(taken(given, "auto", x), DenseClassifier)
        assert classes_of(given, 3).tolist() == ["a", "b", "c"]


def test_a_form_is_taken_as_it_is(fitted):
    form = taken(fitted, "auto", x)
    assert taken(form, "auto", x) is form
    labelled = LabelledClassifier(form, np.array([4, 5, 6]))
    assert taken(labelled, "auto", x) is form
    assert classes_of(labelled, 3).tolist() == [4, 5, 6]


def test_a_network_and_one_that_is_frozen():
    for given in (nn.Linear(4, 3), FrozenEstimator(nn.Linear(4, 3))):
        assert isinstance(taken(given, "auto", x), ModuleClassifier)
        assert classes_of(given, 3).tolist() == [0, 1, 2]


def test_a_classifier_that_has_to_be_imitated():
    assert taken(RandomForestClassifier(2).fit(X, Y), "auto", x) is None


def test_what_is_not_fitted_says_how_clone_spares_it():
    with pytest.raises(NotFittedError, match="FrozenEstimator"):
        taken(LogisticRegression(), "auto", x)


def test_neither_gradient_nor_probabilities():
    with pytest.raises(TypeError, match=r"RidgeClassifier has neither .*predict_proba"):
        taken(RidgeClassifier().fit(X, Y), "auto", x)


@pytest.mark.parametrize("given", ["LogisticRegression", 3, LogisticRegression, np.argmax])
def test_no_classifier(given):
    with pytest.raises(TypeError, match="classifier must be"):
        taken(given, "auto", x)


def test_another_number_of_features(fitted):
    with pytest.raises(ValueError, match="fitted to 4 features, but X has 3"):
        taken(fitted, "auto", x[:, :3])
    with pytest.raises(ValueError, match=r"Linear cannot be applied to samples of shape \(4,\)"):
        taken(nn.Linear(5, 2), "auto", x)


class Answering(nn.Module):
    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def forward(self, x):
        return torch.tensor(self.answer).expand(len(x), -1)


def test_probabilities_that_do_not_sum_to_one():
    for output in ("auto", "probabilities"):
        with pytest.raises(ValueError, match=r"does not sum to 1.*classifier_output='logits'"):
            taken(Answering([0.5, 0.9]), output, x)
    assert taken(Answering([0.5, 0.9]), "logits", x).output == "logits"


def test_negative_probabilities():
    with pytest.raises(ValueError, match="negative"):
        taken(Answering([-0.5, 1.5]), "probabilities", x)
    assert taken(Answering([-0.5, 1.5]), "auto", x).output == "logits"


def test_a_network_that_returns_something_else():
    class Pair(nn.Module):
        def forward(self, x):
            return x[:, None, :].expand(-1, 2, -1)

    with pytest.raises(ValueError, match=r"tensor \(n_samples, n_classes\)"):
        taken(Pair(), "auto", x)


def test_one_class_only():
    with pytest.raises(ValueError, match=r"shape \(20, 1\).*at least two classes"):
        check_answers(OneClass(), x)


class OneClass:
    def log_probabilities(self, x):
        return torch.zeros(len(x), 1)


class NotFinite:
    def log_probabilities(self, x):
        return torch.full((len(x), 2), np.nan)


def test_answers_that_are_not_finite():
    with pytest.raises(ValueError, match="not all finite"):
        check_answers(NotFinite(), x)
