"""A fitted detector from its file, beside samples in the columns that it knows."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from gandetect.base import BaseDetector
from gandetect.cli.data import Samples, read_samples, samples_to_score
from gandetect.cli.options import UsageError
from gandetect.loading import load
from gandetect.model.thresholds import threshold_at_percentile


def model_and_samples(options: Namespace) -> tuple[BaseDetector, Samples]:
    """Read the model and the samples that it is to look at."""
    detector = load(options.model)
    if options.device is not None:
        detector.set_params(device=options.device)
    samples = samples_to_score(read_samples(options, "test"), options)
    return detector, in_known_order(detector, samples)


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
    scores = detector.anomaly_score(samples.X)
    threshold = detector.threshold_
    if outlier_perc is not None:
        threshold = threshold_at_percentile(scores, outlier_perc)
    return scores, scores > threshold


def remember_columns(detector: BaseDetector, samples: Samples) -> None:
    """Have the names of a table's columns saved with the detector."""
    if samples.feature_names:
        detector.feature_names_in_ = np.array(samples.feature_names, dtype=object)


def in_known_order(detector: BaseDetector, samples: Samples) -> Samples:
    """Bring the columns of a table into the order of those that the detector was fitted to.

    The names then have done their duty: the detector forgets them, as X is an array without any.

    Raises
    ------
    UsageError
        If a column is missing or is one too many.
    """
    known = detector.__dict__.pop("feature_names_in_", None)
    if known is None or not samples.feature_names or list(known) == samples.feature_names:
        return samples
    missing = [name for name in known if name not in samples.feature_names]
    surplus = [name for name in samples.feature_names if name not in known]
    for names, what in ((missing, "lack the column"), (surplus, "have a further column")):
        if names:
            raise UsageError(
                f"the data {what} {names[0]!r}: the model was fitted to {', '.join(known[:20])} "
                "(--drop-columns and --label-column say which columns are no features)"
            )
    order = [samples.feature_names.index(name) for name in known]
    return replace(samples, X=samples.X[:, order], feature_names=list(known))
