"""What several test files need beside the fixtures of conftest.py."""

from importlib.util import find_spec
from typing import NamedTuple
from zlib import crc32

import numpy as np
import pytest
import torch

from gandetect import detectors
from gandetect.data.sources import read
from gandetect.distributed import RandomNumbers
from gandetect.model import Model
from gandetect.model.fitted import SCORE_TOLERANCE
from gandetect.model.statistics import Scaler
from gandetect.training import TrainingRun, TrainingSamples
from gandetect.training.protocol import HAS_CALLBACKS

# What a fit with callbacks is tested by.
needs_callbacks = pytest.mark.skipif(not HAS_CALLBACKS, reason="needs scikit-learn 1.9")
# An environment without the extra has an older torch, whose own exporter does less.
HAS_EXPORT = find_spec("onnx") is not None
needs_export = pytest.mark.skipif(not HAS_EXPORT, reason="needs the extra export")


def marks_of(code):
    """What an example needs that older releases lack."""
    needs = {
        ".set_callbacks(": needs_callbacks,
        "to_onnx(": needs_export,
        "to_torch_export(": needs_export,
    }
    return [mark for name, mark in needs.items() if name in code]


def one_detector(test):
    """Have one of the registered detectors pass a test, and another one each test.

    For what is one piece of code that all share. What differs between detectors is tested with
    each of them, and so is the contract.
    """
    name = detectors.__all__[crc32(test.__qualname__.encode()) % len(detectors.__all__)]
    cls = getattr(detectors, name)
    return pytest.mark.parametrize("Detector", [cls], ids=[name], indirect=True)(test)


class Untrained(NamedTuple):
    """A model before its first step, the run that would train it, and a batch (K, B, ...)."""

    model: Model
    run: TrainingRun
    x: torch.Tensor


def untrained(detector, X, class_labels=None):
    """What `fit` makes of a detector and X before the first step."""
    model_class, settings = type(detector).model_class, detector._settings()
    source = read(settings, X)
    vars(settings).update(model_class.resolved(settings, source.layout))
    scaler = Scaler.fitted(settings.scaling, [X], source.layout.is_image)
    random = RandomNumbers(0, torch.device("cpu"))
    model = model_class.made(settings, source.layout, scaler, random)
    run = TrainingRun(model, {}, random, n_epochs=1, n_samples=len(X))
    model.prepare(TrainingSamples(source, np.arange(len(X)), scaler, class_labels), run)
    run.optimizers = model.optimizers()
    x = scaler(source.read(slice(0, len(X))))
    model.train()
    return Untrained(model, run, x.expand(model.n_members, *x.shape))


def before_each_step(monkeypatch, Detector, act):
    """Let a fit of this class call ``act(model, x, n)`` before its n-th step, from 1 on."""
    model_class = Detector.model_class
    step, calls = model_class.training_step, []

    def and_before(self, x, run):
        calls.append(None)
        act(self, x, len(calls))
        return step(self, x, run)

    monkeypatch.setattr(model_class, "training_step", and_before)


def interrupt_at(monkeypatch, Detector, n_th):
    """Press Ctrl-C in this step, and in no other, of all fits of this class."""

    def press(model, x, n):
        if n == n_th:
            raise KeyboardInterrupt

    before_each_step(monkeypatch, Detector, press)


def weights_of(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def rounding_of(detector):
    """How far scores by kernels of other makers may differ, in standard deviations.

    A part that varies little among the training samples, as after an epoch, is divided by that
    little, and so is the rounding of 32 bits in its value: a part in a million.
    """
    model = detector.model_
    sizes = {
        name: float((model.calibration.mean[name].abs() / model.calibration.spread[name]).max())
        for name, weight in model.weights().items()
        if weight
    }
    total = sum(model.weights().values())
    mean = sum(model.weights()[name] * size for name, size in sizes.items()) / total
    return max(SCORE_TOLERANCE, 1e-6 * mean)


def assert_equal_scores(found, expected, where=""):
    """Equal to what is promised of a sample in any batch, on any kernel."""
    np.testing.assert_allclose(
        found, expected, rtol=SCORE_TOLERANCE, atol=SCORE_TOLERANCE, err_msg=where
    )
