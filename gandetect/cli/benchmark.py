"""``gandetect benchmark``: detectors against two baselines, on the user's labelled data."""

from __future__ import annotations

import dataclasses
import inspect
from argparse import Namespace
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gandetect.cli.evaluate import TIMES, milliseconds
from gandetect.cli.options import (
    UsageError,
    add_data,
    add_device,
    add_output,
    add_protocol,
    add_set,
    build_detector,
    chosen,
    detector_class,
    detector_names,
    number,
)

if TYPE_CHECKING:
    from gandetect.base import BaseDetector
    from gandetect.cli.data import Samples
    from gandetect.demo.tasks import Task

_MEASURES = (
    "roc_auc",
    "average_precision",
    "share_expected",
    "share_flagged",
    "false_alarm_rate",
    "fit_seconds",
    *TIMES,
)


def add_benchmark(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "benchmark",
        help="compare detectors with isolation forest and nearest neighbours",
        description=(
            "For each seed, split labelled data by the one-class protocol; fit the detectors, "
            "IsolationForest and k-nearest neighbours to the training part; infer thresholds from "
            "one half of the test part with its share of anomalies; evaluate on the other half. "
            "The table also has the milliseconds for scoring a sample, alone and in a batch of 64: "
            "the median of repeated calls. "
            "--set sets a parameter of those detectors that have it."
        ),
    )
    parser.add_argument(
        "detectors",
        type=detector_names,
        metavar="DETECTORS",
        help="one, or several as in ganomaly,bigan",
    )
    add_data(parser)
    add_protocol(parser)
    group = parser.add_argument_group("runs")
    group.add_argument(
        "--seeds",
        type=number(int, 1),
        default=3,
        metavar="N",
        help="number of seeds, beginning with --seed (default: 3)",
    )
    group.add_argument(
        "--every-run", action="store_true", help="write every run instead of means over the seeds"
    )
    add_set(group)
    add_device(group, "auto")
    add_output(parser)
    parser.set_defaults(run=run_benchmark)


def run_benchmark(options: Namespace) -> None:
    """Run every method on every seed, and write the table."""
    from gandetect.cli.output import check_table, write_columns
    from gandetect.demo.evaluation import fit_and_judge
    from gandetect.demo.run import announcer

    check_table(options)
    if options.part is not None:
        raise UsageError("a benchmark uses the training part and the test part: leave out --part")
    detectors = {name: detector_class(name) for name in options.detectors}
    parameters = _of_each(detectors, chosen(options.set, {"device": options.device}))
    n_methods = len(detectors) + 2
    announced = announcer(options.seeds * n_methods)
    results = []
    for seed in range(options.seed, options.seed + options.seeds):
        task = _task(Namespace(**{**vars(options), "seed": seed}))
        for name, method in _methods(task, detectors, seed, parameters).items():
            with announced(f"seed {seed}: {name}"):
                outcome = fit_and_judge(task, name, method)
                X = task.X_test
                times = milliseconds(outcome.method, len(X), X.__getitem__)
                results.append({"seed": seed, **dataclasses.asdict(outcome.result), **times})
    write_columns(_every_run(results) if options.every_run else _means(results), options)


def _of_each(
    detectors: Mapping[str, type[BaseDetector]], parameters: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """Return the given parameters of each detector; raise if no detector has a parameter."""
    of_each = {}
    known = {name: inspect.signature(Detector).parameters for name, Detector in detectors.items()}
    for name, Detector in detectors.items():
        of_each[name] = {
            parameter: value
            for parameter, value in parameters.items()
            if parameter in known[name] or not any(parameter in of for of in known.values())
        }
        build_detector(Detector, of_each[name])
    return of_each


def _methods(
    task: Task,
    detectors: Mapping[str, type[BaseDetector]],
    seed: int,
    parameters: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """Create the detectors, each with its own parameters, and the baselines."""
    from gandetect.demo.methods import make_methods

    ours = {
        name: make_methods(task, {name: Detector}, seed, parameters[name])[name]
        for name, Detector in detectors.items()
    }
    return {**ours, **make_methods(task, {}, seed)}


def _task(options: Namespace) -> Task:
    """Split the data with one seed, as `fit` and `evaluate` do."""
    import numpy as np

    from gandetect.cli.data import anomalies, read_samples, samples_to_score, training_samples
    from gandetect.demo.tasks import task_of_split

    parts = []
    for part in ("train", "test"):
        options.part = part
        samples = read_samples(options, part)
        select = training_samples if part == "train" else samples_to_score
        parts.append(select(samples, options))
    train, test = parts
    split = (_array(train), _array(test), anomalies(test, options).astype(np.int64))
    return task_of_split(
        split, options.seed, name=options.data, what_is_normal="by its labels", epochs="auto"
    )


def _array(samples: Samples) -> Any:
    """Return the samples as an array in memory, which the baselines require."""
    return samples.X.stack() if hasattr(samples.X, "stack") else samples.X


def _every_run(results: list[dict[str, Any]]) -> dict[str, list[Any]]:
    names = ("method", "seed", *_MEASURES)
    return {name: [result[name] for result in results] for name in names}


def _means(results: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """Return means over the seeds, and the standard deviations of AUROC and average precision."""
    import numpy as np

    columns: dict[str, list[Any]] = {}
    for method in dict.fromkeys(result["method"] for result in results):
        runs = [result for result in results if result["method"] == method]
        row: dict[str, Any] = {"method": method, "seeds": len(runs)}
        for measure in _MEASURES:
            values = [run[measure] for run in runs]
            row[measure] = float(np.mean(values))
            if measure in ("roc_auc", "average_precision"):
                row[f"{measure}_sd"] = float(np.std(values))
        for name, value in row.items():
            columns.setdefault(name, []).append(value)
    return columns
