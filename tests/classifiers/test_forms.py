"""Classifiers as data: numbers worked by hand, hidden layers, certainty without rounding."""

import math

import numpy as np
import pytest
import torch

from gandetect.archive import read_archive, write_archive
from gandetect.classifiers import (
    FORMS,
    DenseClassifier,
    GaussianClassifier,
    LabelledClassifier,
    OneVsRest,
)


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


def one_logit(weight):
    return DenseClassifier((tensor([weight]),), (tensor(0.0),))


X = tensor([2.0], [-1.0])


def test_one_logit_is_the_second_class():
    p = one_logit(1.0).log_probabilities(X).exp()
    second = [1 / (1 + math.exp(-2.0)), 1 / (1 + math.exp(1.0))]
    torch.testing.assert_close(p, tensor(*[[1 - q, q] for q in second]))


def test_certainty_is_not_rounded():
    log_p = one_logit(1000.0).log_probabilities(X)
    torch.testing.assert_close(log_p[0], tensor(-2000.0, 0.0))


def test_hidden_layers_are_what_comes_after_their_activations():
    form = DenseClassifier(
        (tensor([1.0, -1.0]), tensor([1.0, 0.0], [0.0, 1.0])),
        (tensor(0.0, 1.0), tensor(0.0, 0.0)),
        "relu",
    )
    log_p, (hidden,) = form.with_hidden(X, ["0"])
    torch.testing.assert_close(hidden, tensor([2.0, 0.0], [0.0, 2.0]))
    torch.testing.assert_close(log_p, hidden.log_softmax(1))


@pytest.mark.parametrize(
    ("form", "message"),
    [
        (one_logit(1.0), "has the hidden layers \\[\\]"),
        (OneVsRest((one_logit(1.0), one_logit(2.0))), "OneVsRest has no hidden layers"),
        (GaussianClassifier(tensor([0.0]), tensor([1.0]), tensor(0.0)), "no hidden layers"),
    ],
)
def test_hidden_layers_that_are_not_there(form, message):
    with pytest.raises(ValueError, match=message):
        form.with_hidden(X, ["1"])


def test_one_against_the_rest_divides_by_the_sum():
    p = OneVsRest((one_logit(1.0), one_logit(0.0))).log_probabilities(X[:1]).exp()
    own = 1 / (1 + math.exp(-2.0))
    torch.testing.assert_close(p, tensor([own / (own + 0.5), 0.5 / (own + 0.5)]))


def test_gaussians():
    """At 2, between N(0, 1) and N(3, 4) of equal priors."""
    form = GaussianClassifier(tensor([0.0], [3.0]), tensor([1.0], [4.0]), tensor(0.5, 0.5).log())
    densities = [math.exp(-2.0), math.exp(-1 / 8) / 2]
    expected = tensor([density / sum(densities) for density in densities])
    torch.testing.assert_close(form.log_probabilities(X[:1]).exp()[0], expected[0])


def test_they_are_saved_as_data(tmp_path):
    form = OneVsRest((one_logit(1.0), one_logit(0.5)))
    labelled = LabelledClassifier(form, np.array(["cat", "dog"]))
    classes = (LabelledClassifier, *FORMS)
    write_archive(tmp_path / "file", {"classifier": labelled}, classes)
    loaded = read_archive(tmp_path / "file", classes)["classifier"]
    assert loaded.classes_.tolist() == ["cat", "dog"]
    assert torch.equal(loaded.form.log_probabilities(X), form.log_probabilities(X))


def test_gradients_flow():
    x = X.clone().requires_grad_()
    OneVsRest((one_logit(1.0), one_logit(2.0))).log_probabilities(x)[:, 0].sum().backward()
    assert (x.grad != 0).all()
