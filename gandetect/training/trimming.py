"""Trimmed training: the samples with the largest errors, which may be anomalies, are left out."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gandetect.losses import mean_absolute_error
from gandetect.model.fitted import Model

Step = Callable[[Tensor], dict[str, Tensor]]


def trimmed(step: Step, model: Model[Any], share: float) -> Step:
    """Return a step that leaves out the samples with the largest reconstruction errors.

    Parameters
    ----------
    step : callable
        Updates the networks with a batch.
    model : Model
    share : float in [0, 0.5]
    """

    def step_without_worst(x: Tensor) -> dict[str, Tensor]:
        model.eval()  # so that the running batch statistics do not include the samples left out
        with torch.no_grad():
            errors = mean_absolute_error(x, model.reconstruct(x), model.observed(x))
        model.train()
        return step(without_worst(x, errors, share))

    return step_without_worst


def without_worst(x: Tensor, errors: Tensor, share: float) -> Tensor:
    """Return the batch (K, B, ...) without the samples of each member with the largest errors.

    Parameters
    ----------
    x : Tensor of shape (K, B, ...)
    errors : Tensor of shape (K, B)
    share : float in [0, 0.5]
        The share of the batch, rounded up: leaving out a normal sample does less harm than training
        on an anomaly. Two samples are kept, because batch statistics need two.
    """
    n_samples = x.shape[1]
    n_kept = max(n_samples - math.ceil(share * n_samples), min(2, n_samples))
    kept = errors.topk(n_kept, dim=1, largest=False).indices
    return x[torch.arange(len(x), device=x.device)[:, None], kept]


def not_among_worst(errors: np.ndarray, share: float) -> np.ndarray:
    """Return an inlier mask that excludes the share of samples with the largest errors."""
    n = len(errors)
    n_kept = max(n - math.ceil(share * n), min(2, n))
    kept = np.zeros(n, dtype=bool)
    kept[np.argsort(errors, kind="stable")[:n_kept]] = True
    return kept
