"""``gandetect evaluate``: metrics of scores and threshold from labels."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gandetect.cli.options import (
    UsageError,
    add_data,
    add_model,
    add_outlier_perc,
    add_output,
    add_protocol,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from gandetect.cli.data import Samples

# The names of the measured milliseconds per sample, and their batch sizes.
TIMES = {"ms_alone": 1, "ms_in_batch_of_64": 64}


def add_evaluate(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "evaluate",
        help="evaluate a fitted detector on labelled data",
        description=(
            "Evaluate a fitted detector on labelled data: the scores by AUROC, average precision "
            "and the best F1 over all thresholds, the threshold by precision, recall, F1 and "
            "false-alarm rate of the anomalies, and pixel maps by the masks of mvtec. --data "
            "mvtec:all evaluates the model of each category and adds the means; MODEL is then the "
            "folder of <category>.model that fit --data mvtec:all writes."
        ),
    )
    add_model(parser)
    add_data(parser)
    add_protocol(parser)
    add_outlier_perc(parser)
    parser.add_argument(
        "--timing",
        action="store_true",
        help="also measure the milliseconds for scoring a sample, alone and in a batch of "
        "64: the median of repeated calls",
    )
    add_output(parser)
    parser.set_defaults(run=run_evaluate)


def run_evaluate(options: Namespace) -> None:
    """Score the samples, compute metrics from the labels, and write them."""
    from gandetect.cli.data import names_all
    from gandetect.cli.output import check_table, write_columns, write_record

    check_table(options)
    if not names_all(options.data):
        write_record(_judged_by_the_data(options), options)
        return
    from gandetect.cli.categories import model_of, one_by_one, side_by_side, with_means

    of_category = one_by_one(options)
    for category, its_options in of_category.items():
        its_options.model = model_of(options.model, category)
        if not Path(its_options.model).is_file():  # raised before any category is evaluated
            raise FileNotFoundError(
                f"there is no file {its_options.model}, the model of {category}"
            )
    records = {name: _judged_by_the_data(its) for name, its in of_category.items()}
    write_columns(with_means(side_by_side(records)), options)


def _judged_by_the_data(options: Namespace) -> dict[str, float]:
    from gandetect.cli.data import anomalies
    from gandetect.cli.score import model_and_samples, scores_and_flags

    detector, samples = model_and_samples(options)
    is_anomaly = anomalies(samples, options)
    if is_anomaly.all() or not is_anomaly.any():
        kind = "anomalies" if is_anomaly.any() else "normal"
        raise UsageError(
            f"the labels must have normal samples as well as anomalies, but all {len(samples)} "
            f"samples of {options.data} are {kind}: add samples of the other kind, or correct the "
            "labels or the class options"
        )
    scores, is_flagged = scores_and_flags(detector, samples, options.outlier_perc)
    record = judged(is_anomaly, scores, is_flagged)
    if options.timing:
        record |= milliseconds(detector, len(samples), lambda rows: _array(samples.take(rows)))
    if samples.masks is not None:
        from gandetect.metrics import per_region_overlap, pixel_average_precision, pixel_roc_auc

        maps = detector.anomaly_map(samples.X)
        record["pixel_roc_auc"] = pixel_roc_auc(samples.masks, maps)
        record["pixel_average_precision"] = pixel_average_precision(samples.masks, maps)
        record["per_region_overlap"] = per_region_overlap(samples.masks, maps)
    return record


def _array(samples: Samples) -> Any:
    """Return the samples in memory, because reading files is not measured."""
    if not hasattr(samples.X, "stack"):
        return samples.named
    differ = len(set(samples.X.shapes())) > 1
    return list(samples.X) if differ else samples.X.stack()


def milliseconds(
    detector: Any, n_samples: int, take: Callable[[NDArray[np.intp]], Any]
) -> dict[str, float]:
    """Measure the milliseconds for scoring a sample, by the names in `TIMES`.

    Parameters
    ----------
    detector : object
        Has `score_samples` or `anomaly_score`.
    n_samples : int
        If it is smaller than the batch, samples are repeated.
    take : callable
        Maps positions to samples in memory.
    """
    import numpy as np

    from gandetect.metrics import milliseconds_per_sample

    return {
        name: milliseconds_per_sample(detector, take(np.arange(size) % n_samples))
        for name, size in TIMES.items()
    }


def judged(
    is_anomaly: NDArray[np.bool_], scores: NDArray[np.float64], is_flagged: NDArray[np.bool_]
) -> dict[str, float]:
    """Compute the metrics of scores and flags from labels.

    Parameters
    ----------
    is_anomaly, is_flagged : ndarray of shape (n_samples,)
    scores : ndarray of shape (n_samples,)
        Larger is more anomalous.

    Returns
    -------
    dict of str to float
        Shares are between 0 and 1; precision, recall and F1 are those of the anomalies.
    """
    import numpy as np
    from sklearn.metrics import (
        average_precision_score,
        f1_score,
        precision_recall_curve,
        precision_score,
        recall_score,
        roc_auc_score,
    )

    precision, recall, _ = precision_recall_curve(is_anomaly, scores)
    return {
        "samples": len(is_anomaly),
        "anomalies": int(is_anomaly.sum()),
        "roc_auc": float(roc_auc_score(is_anomaly, scores)),
        "average_precision": float(average_precision_score(is_anomaly, scores)),
        "best_f1": float(np.max(2 * precision * recall / np.maximum(precision + recall, 1e-12))),
        "share_flagged": float(is_flagged.mean()),
        "precision": float(precision_score(is_anomaly, is_flagged, zero_division=0.0)),
        "recall": float(recall_score(is_anomaly, is_flagged)),
        "f1": float(f1_score(is_anomaly, is_flagged)),
        "false_alarm_rate": float(is_flagged[~is_anomaly].mean()),
    }
