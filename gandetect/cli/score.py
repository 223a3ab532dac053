"""``gandetect score`` and ``gandetect predict``: a line a sample."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from typing import Any

import numpy as np

from gandetect.cli.data import Samples
from gandetect.cli.model import model_and_samples, scores_and_flags
from gandetect.cli.options import add_data, add_model, add_outlier_perc, add_output, add_protocol
from gandetect.cli.output import write_columns
from gandetect.cli.targets import check_table


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
    check_table(options)
    detector, samples = model_and_samples(options)
    scores = detector.anomaly_score(samples.X)
    write_columns({"sample": names_of(samples), "anomaly_score": scores}, options)


def run_predict(options: Namespace) -> None:
    """Predict, and write."""
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
