"""A model in training, for tests of single steps."""

import numpy as np
import pytest
import torch

from gandetect.data.sources import read
from gandetect.distributed import RandomNumbers
from gandetect.model.statistics import Scaler
from gandetect.training import TrainingRun, TrainingSamples


def begin_training(detector, X, n_samples=32):
    """What `fit` has before its first update: a model, the run, and a batch of `n_samples`.

    Its settings can be set, and its random numbers are those of the seed 0.
    """
    settings = detector._settings()
    settings.check_parameters()
    source = read(settings, X)
    vars(settings).update(detector.model_class.resolved(settings, source.layout))
    X_all = source.read(np.arange(len(source)))
    scaler = Scaler.fitted(settings.scaling, [X_all], source.layout.is_image)
    random = RandomNumbers(0, torch.device("cpu"))
    model = detector.model_class.made(settings, source.layout, scaler, random)
    run = TrainingRun(model, {}, random, n_epochs=1, n_samples=len(source))
    samples = TrainingSamples(source, np.arange(len(source)), scaler)
    model.prepare(samples, run)
    run.optimizers = model.optimizers()
    model.train()
    x = scaler(X_all[:n_samples])
    return model, run, x.expand(model.n_members, *x.shape)


@pytest.fixture(scope="session")
def in_training():
    return begin_training
