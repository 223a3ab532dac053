"""A small network is learned from labels."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris

from gandetect.classifiers import checked_labels, learned_from_labels


def test_it_learns_the_classes():
    X, y = load_iris(return_X_y=True)
    network = learned_from_labels(X, y, 3, torch.Generator().manual_seed(0))
    answers = network.log_probabilities(torch.from_numpy(X)).argmax(1).numpy()
    assert (answers == y).mean() > 0.95


def test_labels_of_any_kind_are_numbered():
    classes, numbers = checked_labels(["dog", "cat", "dog"], 3)
    assert classes.tolist() == ["cat", "dog"]
    assert numbers.tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([1, 1, 1], "class_labels has one class, .*do not pass class_labels"),
        ([1, 2], "class_labels has 2 labels, but X has 3 samples"),
        (["a", None, "b"], "^1 of 3 labels in class_labels is missing: label each"),
        (np.ma.array([0, 1, 1], mask=[0, 0, 1]), "^1 of 3 labels in class_labels is missing"),
        ([0, 1, np.nan], "^1 of 3 labels in class_labels is missing"),
        ([0.1, 0.2, 0.3], "Unknown label type: continuous"),
        (np.eye(3), "1d|y should be a 1d array"),
    ],
)
def test_labels_that_cannot_be_learned(y, message):
    with pytest.raises(ValueError, match=message):
        checked_labels(y, 3)
