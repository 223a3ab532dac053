"""How the learning rate goes over a training."""

from __future__ import annotations

import math

SCHEDULES = ("auto", "one-cycle", "cosine", "steps", None)
# Of "one-cycle": the share of the training in which the rate climbs, and how many times the
# learning rate it is at the beginning and at the top.
_CLIMB, _FIRST, _TOP = 0.25, 0.3, 3.0


def rate_factor(schedule: str | None, progress: float) -> float:
    """By what the learning rate is multiplied at a share of the training that is done.

    Parameters
    ----------
    schedule : {"one-cycle", "cosine", "steps", None}
    progress : float in [0, 1]

    Returns
    -------
    float

    References
    ----------
    Smith and Topin, "Super-convergence: very fast training of neural networks using large learning
    rates", 2018 (one cycle; the momentum stays here). Loshchilov and Hutter, "SGDR: stochastic
    gradient descent with warm restarts", ICLR 2017 (cosine, without restarts).
    """
    if schedule == "one-cycle":
        if progress < _CLIMB:
            return _along_cosine(_FIRST, _TOP, progress / _CLIMB)
        return _along_cosine(_TOP, 0.0, (progress - _CLIMB) / (1 - _CLIMB))
    if schedule == "cosine":
        return _along_cosine(1.0, 0.0, progress)
    if schedule == "steps":
        return float(0.2 ** ((progress >= 0.8) + (progress >= 0.9)))
    return 1.0


def _along_cosine(start: float, end: float, share: float) -> float:
    """From `start` to `end` along half a cosine."""
    return end + (start - end) * (0.5 + 0.5 * math.cos(math.pi * share))
