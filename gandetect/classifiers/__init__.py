"""Classifiers for detectors: differentiable, frozen, with inputs in the units of X."""

from gandetect.classifiers.conversion import converted
from gandetect.classifiers.forms import (
    FORMS,
    Classifier,
    DenseClassifier,
    GaussianClassifier,
    LabelledClassifier,
    OneVsRest,
)
from gandetect.classifiers.learned import checked_labels, learned_from_labels
from gandetect.classifiers.module import ModuleClassifier
from gandetect.classifiers.surrogate import distilled
from gandetect.classifiers.taking import check_answers, classes_of, taken, unwrapped

__all__ = [
    "FORMS",
    "Classifier",
    "DenseClassifier",
    "GaussianClassifier",
    "LabelledClassifier",
    "ModuleClassifier",
    "OneVsRest",
    "check_answers",
    "checked_labels",
    "classes_of",
    "converted",
    "distilled",
    "learned_from_labels",
    "taken",
    "unwrapped",
]
