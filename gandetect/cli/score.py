"""``gandetect score``, ``predict`` and ``correct``: one line for each sample."""

from __future__ import annotations

import re
from argparse import Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gandetect.cli.options import (
    UsageError,
    add_data,
    add_model,
    add_outlier_perc,
    add_output,
    add_protocol,
    given_classifier,
    number,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from gandetect.base import BaseDetector
    from gandetect.cli.data import Samples


# The names of the columns of a result.
_RESULT = re.compile(
    r"sample|prediction|anomaly_score|p_value|(column|value|expected)_\d+|"
    r"corrected|no_defense|defense|is_adversarial"
)


def add_score(commands: Any) -> None:
    """Add the command ``score``."""
    parser = commands.add_parser(
        "score",
        help="write the anomaly score of each sample",
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
        help="write the predicted label of each sample",
        description=(
            "Write a prediction for each sample, -1 for an anomaly and 1 for a normal sample, "
            "and its anomaly score."
        ),
    )
    add_model(parser)
    add_data(parser)
    add_protocol(parser)
    add_outlier_perc(parser)
    parser.add_argument(
        "--p-values",
        action="store_true",
        help="write p-values; the model must be fitted with, e.g., --set validation_fraction=0.2",
    )
    parser.add_argument(
        "--explain",
        type=number(int, 1),
        metavar="N",
        help="write the N most anomalous columns of each row, with value and expected value",
    )
    add_output(parser)
    parser.set_defaults(run=run_predict)


def add_correct(commands: Any) -> None:
    """Add the command ``correct``."""
    parser = commands.add_parser(
        "correct",
        help="correct the labels of a classifier for adversarial examples",
        description=(
            "Write the label of each sample, corrected for attacks: for a sample that the detector "
            "flags (AdversarialVAE) it is the classifier's label of the reconstruction "
            "(defense), for any other that of the sample (no_defense)."
        ),
    )
    add_model(parser)
    add_data(parser)
    add_protocol(parser)
    add_output(parser)
    parser.set_defaults(run=run_correct)


def run_score(options: Namespace) -> None:
    """Score the samples and write the scores."""
    from gandetect.cli.output import check_table, write_columns

    check_table(options)
    detector, samples = model_and_samples(options)
    scores = detector.anomaly_score(samples.named)
    write_columns({sample_column(options): names_of(samples), "anomaly_score": scores}, options)


def run_predict(options: Namespace) -> None:
    """Predict and write the labels."""
    import numpy as np

    from gandetect.cli.output import check_table, write_columns

    check_table(options)
    detector, samples = model_and_samples(options)
    scores, is_flagged = scores_and_flags(detector, samples, options.outlier_perc)
    columns = {
        sample_column(options): names_of(samples),
        "prediction": np.where(is_flagged, -1, 1),
        "anomaly_score": scores,
    }
    if options.p_values:
        columns["p_value"] = detector.p_value(samples.named)
    if options.explain:
        columns |= explanations(detector, samples, options.explain)
    write_columns(columns, options)


def run_correct(options: Namespace) -> None:
    """Correct and write the class labels."""
    from gandetect.cli.output import check_table, write_columns
    from gandetect.defence import GuardingDetector

    check_table(options)
    detector, samples = model_and_samples(options)
    if not isinstance(detector, GuardingDetector):
        raise UsageError(
            f"{options.model} contains the class {type(detector).__name__}, which has no "
            "classifier: correct needs a model of AdversarialVAE"
        )
    data = detector.correct(samples.named)["data"]
    columns = {
        sample_column(options): names_of(samples),
        "corrected": data["corrected"],
        "no_defense": data["no_defense"],
        "defense": data["defense"],
        "is_adversarial": data["is_adversarial"],
        "anomaly_score": data["instance_score"],
    }
    write_columns(columns, options)


def explanations(detector: BaseDetector, samples: Samples, n_columns: int) -> dict[str, list[str]]:
    """Return the most anomalous columns of each row, the most anomalous first.

    Raises
    ------
    UsageError
        If the samples are images.
    """
    from gandetect.reporting.explanations import unusual_columns

    if len(detector.sample_shape_) > 1:
        raise UsageError("--explain is for rows: use gandetect map for images")
    found: dict[str, list[str]] = {}
    for row in unusual_columns(detector, samples.named, n_columns):
        for place, cells in enumerate(row, 1):
            for what, cell in zip(("column", "value", "expected"), cells, strict=True):
                found.setdefault(f"{what}_{place}", []).append(cell)
    return found


def sample_column(options: Namespace) -> str:
    """Return the name of the column of a result that identifies the samples."""
    name = options.id_column
    is_free = name and not name.lstrip("-").isdecimal() and not _RESULT.fullmatch(name)
    return str(name) if is_free else "sample"


def names_of(samples: Samples) -> Sequence[Any]:
    """Return the paths of images, or the numbers of other samples from 0."""
    return samples.names if samples.names is not None else range(len(samples))


def model_and_samples(options: Namespace) -> tuple[BaseDetector, Samples]:
    """Read the model and the samples, images with the settings of the model."""
    from gandetect.cli.data import read_samples, samples_to_score
    from gandetect.data.sources import columns_of_words
    from gandetect.loading import load

    detector = load(options.model, **given_classifier(options))
    if options.device is not None:
        detector.set_params(device=options.device)
    layout = detector.model_.layout
    words = columns_of_words(layout.encoder)
    samples = read_samples(options, "test", None, layout.image_settings or {}, words)
    return detector, samples_to_score(samples, options)


def scores_and_flags(
    detector: BaseDetector, samples: Samples, outlier_perc: float | None
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Score the samples once, and return which are above the threshold.

    Parameters
    ----------
    detector : BaseDetector
    samples : Samples
    outlier_perc : float or None
        The percentage to flag; None uses the threshold of the detector.

    Warns
    -----
    UserWarning
        As in `BaseDetector.infer_threshold`.
    """
    import torch

    from gandetect.model.statistics import threshold_at_percentile, warn_of_fraction, warn_of_ties

    scores = detector.anomaly_score(samples.named)
    if outlier_perc is None:
        return scores, detector.model_.label(torch.from_numpy(scores)).numpy() < 0
    threshold = threshold_at_percentile(scores, outlier_perc)
    warn_of_fraction(outlier_perc)
    warn_of_ties(scores, threshold, outlier_perc)
    return scores, scores > threshold
