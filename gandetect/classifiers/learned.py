"""A small classifier that is trained on labels when the user gives no classifier."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d

from gandetect.classifiers.forms import DenseClassifier
from gandetect.classifiers.surrogate import trained_network
from gandetect.data.labels import check_labelled


def checked_labels(y: Any, n_samples: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the classes in y, and the index of the class of each sample.

    Raises
    ------
    ValueError
        If y has not one label for each sample, has missing labels, is continuous, or has fewer
        than two classes.
    """
    check_labelled(y, "class_labels")
    y = column_or_1d(y, warn=True)
    if len(y) != n_samples:
        raise ValueError(f"class_labels has {len(y)} labels, but X has {n_samples} samples.")
    check_classification_targets(y)
    classes, numbers = np.unique(y, return_inverse=True)
    if len(classes) < 2:
        raise ValueError(
            f"class_labels has one class, {classes.tolist()[0]!r}: a classifier needs at least "
            "two. To detect outliers without a classifier, do not pass class_labels."
        )
    return classes, numbers


def learned_from_labels(
    X: np.ndarray, numbers: np.ndarray, n_classes: int, generator: torch.Generator
) -> DenseClassifier:
    """Train a network of two hidden layers of 64 units on labels.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        Rows in the units of X.
    numbers : ndarray of int of shape (n,)
        The indices of their classes.
    n_classes : int
    generator : torch.Generator
    """
    return trained_network(X, np.eye(n_classes)[numbers], generator)
