"""``gandetect score`` and ``gandetect predict``: a line a sample."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gandetect.cli.options import add_data, add_model, add_outlier_perc, add_output, add_protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from gandetect.base import BaseDetector
    from gandetect.cli.data import Samples


def add_score(commands: Any) -> None:
    """Add the command ``score``."""
    parser = commands.add_parser(
        "score",
        help="say how anomalous each sample is",
        description="Write the anomaly score of each sample: larger is more anomalous.",
    )
    add_model(parser)
    add_data(parser)
    add_protocol(parser)
    add_output(parser)
    parser.set_defaults(run=run_score)


def add_predict(commands: Any) -> None:
    """Add the command ``predict``."""
    parser = commands.add_parser(
        "predict",
        help="say which samples are anomalies",
        description=(
            "Write a prediction for each sample, -1 for an anomaly and 1 for a normal sample, "
            "beside its anomaly score."
        ),
    )
    add_model(parser)
    add_data(parser)
    add_protocol(parser)
    add_outlier_perc(parser)
    add_output(parser)
    parser.set_defaults(run=run_predict)


def run_score(options: Namespace) -> None:
    """Score, and write."""
    from gandetect.cli.output import check_table, write_columns

    check_table(options)
    detector, samples = model_and_samples(options)
    scores = detector.anomaly_score(samples.named)
    write_columns({"sample": names_of(samples), "anomaly_score": scores}, options)


def run_predict(options: Namespace) -> None:
    """Predict, and write."""
    import numpy as np

    from gandetect.cli.output import check_table, write_columns

    check_table(options)
    detector, samples = model_and_samples(options)
    scores, is_flagged = scores_and_flags(detector, samples, options.outlier_perc)
    columns = {
        "sample": names_of(samples),
        "prediction": np.where(is_flagged, -1, 1),
        "anomaly_score": scores,
    }
    write_columns(columns, options)


def names_of(samples: Samples) -> Sequence[Any]:
    """Paths of images, and numbers of anything else, from 0."""
    return samples.names if samples.names is not None else range(len(samples))


def model_and_samples(options: Namespace) -> tuple[BaseDetector, Samples]:
    """Read the model and the samples that it is to look at, images as it was fitted to them."""
    from gandetect.cli.data import read_samples, samples_to_score
    from gandetect.loading import load

    detector = load(options.model)
    if options.device is not None:
        detector.set_params(device=options.device)
    settings = detector.model_.layout.image_settings
    samples = read_samples(options, "test", image_settings=settings or {})
    return detector, samples_to_score(samples, options)


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

    Warns
    -----
    UserWarning
        As `BaseDetector.infer_threshold` does.
    """
    import torch

    from gandetect.model.thresholds import threshold_at_percentile, warn_of_fraction, warn_of_ties

    scores = detector.anomaly_score(samples.named)
    if outlier_perc is None:
        return scores, detector.model_.label(torch.from_numpy(scores)).numpy() < 0
    threshold = threshold_at_percentile(scores, outlier_perc)
    warn_of_fraction(outlier_perc)
    warn_of_ties(scores, threshold, outlier_perc)
    return scores, scores > threshold
