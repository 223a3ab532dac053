"""A fitted detector from its file, beside samples in the columns that it knows."""

from __future__ import annotations

from argparse import Namespace

import numpy as np
import torch
from numpy.typing import NDArray

from gandetect.base import BaseDetector
from gandetect.cli.data import Samples, read_samples, samples_to_score
from gandetect.loading import load
from gandetect.model.thresholds import threshold_at_percentile


def model_and_samples(options: Namespace) -> tuple[BaseDetector, Samples]:
    """Read the model and the samples that it is to look at."""
    detector = load(options.model)
    if options.device is not None:
        detector.set_params(device=options.device)
    return detector, samples_to_score(read_samples(options, "test"), options)


def scores_and_flags(
    detector: BaseDetector, samples: Samples, outlier_perc: float | None
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Score the samples, once, and say which are above the threshold.

    Parameters
    ----------
    detector : BaseDetector
    samples : Samples
    outlier_perc : float or None
        The percentage to flag; None takes the threshold of the detector.
    """
    scores = detector.anomaly_score(samples.named)
    if outlier_perc is not None:
        return scores, scores > threshold_at_percentile(scores, outlier_perc)
    return scores, detector.model_.label(torch.from_numpy(scores)).numpy() < 0
