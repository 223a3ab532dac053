"""A small network that is trained to imitate a classifier (a surrogate)."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import skip_init

from gandetect.classifiers.forms import DenseClassifier

_HIDDEN_DIMS = (64, 64)
_MAX_UPDATES = 1500
# Limits the number of updates when there are few samples.
_MAX_EPOCHS = 200
_BATCH_SIZE = 128
_LEARNING_RATE = 2e-3
_WEIGHT_DECAY = 1e-4


def trained_network(X: np.ndarray, p: np.ndarray, generator: torch.Generator) -> DenseClassifier:
    """Train a network that predicts class probabilities from rows.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        Rows in the units of X. They are standardised for training; the result contains the
        standardisation in its first layer.
    p : ndarray of shape (n, n_classes)
        Probabilities; for labels, ones and zeros.
    generator : torch.Generator
        On the CPU; draws the initial weights and the batches.
    """
    center, spread = X.mean(0, dtype=np.float64), X.std(0, dtype=np.float64)
    spread = np.where(spread > 0, spread, 1.0)
    x = torch.from_numpy((X - center) / spread).float()
    target = torch.from_numpy(p).float()
    dims = (x.shape[1], *_HIDDEN_DIMS, target.shape[1])
    layers = [_linear(n_in, n_out, generator) for n_in, n_out in pairwise(dims)]
    network = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])
    optimizer = torch.optim.AdamW(
        network.parameters(), _LEARNING_RATE, weight_decay=_WEIGHT_DECAY, fused=True
    )
    n_updates = min(_MAX_UPDATES, _MAX_EPOCHS * math.ceil(len(x) / _BATCH_SIZE))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_updates)
    n_done = 0
    while n_done < n_updates:
        for rows in torch.randperm(len(x), generator=generator).split(_BATCH_SIZE)[
            : n_updates - n_done
        ]:
            loss = nn.functional.cross_entropy(network(x[rows]), target[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            n_done += 1
    form = DenseClassifier(
        tuple(layer.weight.detach().double().T.contiguous() for layer in layers),
        tuple(layer.bias.detach().double() for layer in layers),
        "relu",
    )
    return form.after(torch.diag(torch.from_numpy(1 / spread)), torch.from_numpy(-center / spread))


def distilled(
    predict_proba: Callable[[np.ndarray], np.ndarray], X: np.ndarray, generator: torch.Generator
) -> tuple[DenseClassifier, float, float]:
    """Train a network that imitates a classifier, and measure how well it does.

    It is trained on three quarters of X and on points between and around these rows, where
    reconstructions and attacked samples are, and is evaluated on the remaining quarter.

    Parameters
    ----------
    predict_proba : callable
        Maps rows (n, d) to probabilities (n, n_classes).
    X : ndarray of shape (n, d)
    generator : torch.Generator

    Returns
    -------
    network : DenseClassifier
    agreement : float
        Share of the held-out rows to which both give the same class.
    mean_difference : float
        Mean absolute difference of their probabilities on the held-out rows.
    """
    order = torch.randperm(len(X), generator=generator).numpy()
    held, rows = X[order[: max(len(X) // 4, 1)]], X[order[len(X) // 4 :]]
    inputs = np.concatenate([rows, *(_around(rows, generator) for _ in range(2))])
    network = trained_network(inputs, predict_proba(inputs), generator)
    asked, answered = predict_proba(held), _probabilities(network, held)
    agreement = float(np.mean(asked.argmax(1) == answered.argmax(1)))
    return network, agreement, float(np.abs(asked - answered).mean())


def _linear(n_in: int, n_out: int, generator: torch.Generator) -> nn.Linear:
    """Return a torch layer whose initial weights, of torch's distribution, `generator` draws."""
    layer: nn.Linear = skip_init(nn.Linear, n_in, n_out, dtype=torch.float32, device="cpu")
    for values in (layer.weight, layer.bias):
        nn.init.uniform_(values, -(n_in**-0.5), n_in**-0.5, generator=generator)
    return layer


def _around(X: np.ndarray, g: torch.Generator) -> np.ndarray:
    """Return points between pairs of rows, with added noise."""
    share = torch.rand(len(X), 1, generator=g).numpy()
    others = X[torch.randperm(len(X), generator=g).numpy()]
    noise = torch.randn(X.shape, generator=g).numpy() * X.std(0) * (0.3 / math.sqrt(2))
    points: np.ndarray = share * X + (1 - share) * others + noise
    return points


def _probabilities(network: DenseClassifier, X: np.ndarray) -> np.ndarray:
    log_p: Tensor = network.log_probabilities(torch.from_numpy(np.asarray(X, dtype=np.float64)))
    return log_p.exp().numpy()
