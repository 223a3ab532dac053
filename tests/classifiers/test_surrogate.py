"""A network learns to answer as a classifier that has no gradient."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier

from gandetect.classifiers import distilled


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


def test_it_agrees_with_a_forest_and_says_how_well(generator):
    X, y = load_iris(return_X_y=True)
    forest = RandomForestClassifier(20, random_state=0).fit(X, y)
    network, agreement, difference = distilled(forest.predict_proba, X, generator)
    p = network.log_probabilities(torch.from_numpy(X)).exp().numpy()
    assert p.shape == (150, 3)
    assert (p.argmax(1) == forest.predict(X)).mean() > 0.9
    assert 0.8 < agreement <= 1
    assert 0 < difference < 0.1


def test_a_classifier_without_a_rule_is_reported_as_badly_imitated(generator):
    X = np.random.default_rng(0).normal(size=(200, 3))
    answers = np.random.default_rng(1)

    def at_random(rows):
        return np.eye(2)[answers.integers(2, size=len(rows))]

    _, agreement, difference = distilled(at_random, X, generator)
    assert agreement < 0.75
    assert difference > 0.25


def test_a_constant_column_does_no_harm(generator):
    X = np.column_stack([np.linspace(-1, 1, 100), np.full(100, 7.0)])

    def positive(rows):
        return np.eye(2)[(rows[:, 0] > 0).astype(int)]

    network, agreement, _ = distilled(positive, X, generator)
    assert agreement > 0.9
    assert all(weight.isfinite().all() for weight in network.weights)
