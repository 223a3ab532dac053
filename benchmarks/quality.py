"""Measure detectors by the protocols of `protocols.py`; append one row for each run to a CSV.

    python benchmarks/quality.py --data DATA --protocol adbench --detectors GANomaly,knn --out a.csv

A run is one detector with given parameters on one set or digit with one seed. Runs that the file
already contains are skipped, so that an interrupted benchmark can be continued. A run that ended in
an error is repeated.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import results_file
import torch
from detectors import is_ours, make_detector
from numpy.typing import NDArray
from options import add_parameters, as_params, words
from protocols import PROTOCOLS, Split, data_file, load_split, select
from sklearn.metrics import average_precision_score, roc_auc_score
from threadpoolctl import threadpool_limits

OUTLIER_PERC = 5.0  # share of normal rows flagged on the half that sets the threshold


@dataclass(kw_only=True)
class Row:
    """One run: detector, data, results, times and versions."""

    protocol: str
    name: str  # the set or the digit
    detector: str
    label: str
    params: str  # JSON; empty braces for default parameters
    seed: int
    auroc: float | None = None
    average_precision: float | None = None
    auroc_paper: float | None = None  # with score="paper"
    average_precision_paper: float | None = None
    false_alarm_rate: float | None = None  # target: OUTLIER_PERC / 100
    fit_seconds: float | None = None
    score_seconds: float | None = None
    n_train: int | None = None
    n_test: int | None = None
    prevalence: float | None = None  # share of anomalies in the test set
    threads: int
    gandetect: str
    torch: str
    sklearn: str
    pyod: str
    error: str = ""


COLUMNS = tuple(field.name for field in fields(Row))
KEY = ("protocol", "name", "detector", "label", "params", "seed")


def read_rows(path: Path) -> list[dict[str, str]]:
    """Read the complete rows of a CSV of this benchmark."""
    return results_file.read_rows(path, COLUMNS)


def open_results(path: Path) -> results_file.Results:
    """Open the CSV for appending."""
    return results_file.Results(path, COLUMNS, KEY)


def measure(split: Split, row: Row, params: dict[str, Any], *, paper: bool) -> None:
    """Fit and score one detector, and complete the row."""
    ours = is_ours(row.detector)
    X_train, X_test, y_test = split if ours else _as_rows(split)
    row.n_train, row.n_test, row.prevalence = len(X_train), len(X_test), round(y_test.mean(), 4)
    detector = make_detector(
        row.detector, row.seed, standardise=row.protocol == "adbench", **params
    )

    start = time.perf_counter()
    detector.fit(X_train)
    fitted = time.perf_counter()
    scores = detector.score_samples(X_test)
    scored = time.perf_counter()

    row.fit_seconds, row.score_seconds = round(fitted - start, 4), round(scored - fitted, 4)
    row.auroc, row.average_precision = _ranking(y_test, scores)
    if ours:
        row.false_alarm_rate = _false_alarm_rate(detector, X_test[y_test == 0])
    if ours and paper:
        detector.set_params(score="paper")
        row.auroc_paper, row.average_precision_paper = _ranking(
            y_test, detector.score_samples(X_test)
        )


def _as_rows(split: Split) -> Split:
    """Flatten images for the baselines, with pixels from 0 to 1."""
    if split.X_train.ndim == 2:
        return split
    X_train, X_test = (
        X.reshape(len(X), -1).astype(np.float32) / 255 for X in (split.X_train, split.X_test)
    )
    return Split(X_train, X_test, split.y_test)


def _ranking(y_test: NDArray, scores: NDArray) -> tuple[float, float]:
    """Return AUROC and average precision of scores that are larger for normal rows."""
    auroc = roc_auc_score(y_test, -scores)
    return round(float(auroc), 6), round(float(average_precision_score(y_test, -scores)), 6)


def _false_alarm_rate(detector: Any, X_normal: NDArray) -> float:
    """Set the threshold on one half of the normal test rows; return the alarm rate on the other."""
    detector.infer_threshold(X_normal[::2], outlier_perc=OUTLIER_PERC)
    return round(float(np.mean(detector.predict(X_normal[1::2]) == -1)), 6)


def planned_rows(args: argparse.Namespace) -> Iterator[Row]:
    """Yield all requested runs: for each name and seed, in this order, every detector."""
    runs = itertools.product(args.names, args.seeds, args.detectors)
    for name, seed, detector in runs:
        ours = is_ours(detector)
        yield Row(
            protocol=args.protocol,
            name=name,
            detector=detector,
            label=args.label if ours else "",
            params=as_params(args, detector),
            seed=seed,
            threads=args.threads,
            gandetect=_version("gandetect"),
            torch=_version("torch"),
            sklearn=_version("sklearn"),
            pyod=_version("pyod"),
        )


def _version(module: str) -> str:
    """Return the version of a module; empty if it is not installed."""
    try:
        return str(importlib.import_module(module).__version__)
    except ModuleNotFoundError:
        return ""


def run(row: Row, args: argparse.Namespace) -> bool:
    """Do one run; an error is stored in the row. Return whether there was no error."""
    params = dict(args.set) if is_ours(row.detector) else {}
    try:
        split = load_split(args.data, row.protocol, row.name, row.seed)
        measure(split, row, params, paper=args.paper)
    except Exception as error:  # one failed run must not end a long benchmark
        traceback.print_exc()
        row.error = f"{type(error).__name__}: {error}"
    outcome = row.error or f"AUROC {row.auroc:.3f}, {row.fit_seconds:.1f} s to fit"
    print(f"{row.name} {row.detector} {row.label} seed {row.seed}: {outcome}", flush=True)
    return not row.error


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data", type=Path, required=True, help="folder with adbench/*.npz and mnist.npz")
    add("--protocol", choices=PROTOCOLS, required=True)
    add("--detectors", type=words, default="GANomaly,knn,iforest", help="names, comma-separated")
    add("--seeds", type=_integers, default="0,1,2", help="each fixes the split and the detector")
    add("--sets", default="all", help="all, tune, report or names (adbench)")
    add("--digits", default="all", help="all, tune, report or digits (MNIST)")
    add_parameters(parser)
    add("--label", default="", help="a name for these parameters, for the report")
    add("--paper", action="store_true", help='also measure ours with score="paper" (new rows)')
    add("--out", type=Path, required=True, help="the CSV to append to")
    add("--threads", type=int, default=1, help="CPU threads of one run")
    args = parser.parse_args(argv)
    try:
        _check(args)
    except (ImportError, OSError, TypeError, ValueError) as error:
        parser.error(str(error))
    return args


def _check(args: argparse.Namespace) -> None:
    """Check for errors that would occur in every row, such as an unknown name or a missing file."""
    args.names = select(args.protocol, args.sets if args.protocol == "adbench" else args.digits)
    for name in args.names:
        path = data_file(args.data, args.protocol, name)
        if not path.is_file():
            raise FileNotFoundError(f"There is no file {path}; see --data and --sets.")
    for name in args.detectors:
        params = dict(args.set) if is_ours(name) else {}
        make_detector(name, random_state=0, standardise=True, **params)


def _integers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; return 1 if any run ended in an error."""
    args = parse_arguments(argv)
    results = open_results(args.out)
    planned = list(planned_rows(args))
    to_do = [row for row in planned if results.key_of(asdict(row)) not in results.done]
    print(f"{len(planned)} runs, {len(planned) - len(to_do)} of them already in {args.out}")
    torch.set_num_threads(args.threads)
    # The first optimizer of a process imports torch's compiler, which takes seconds; this must not
    # be measured as part of a fit.
    torch.optim.Adam([torch.zeros(1, requires_grad=True)])
    all_went_well = True
    with threadpool_limits(args.threads):
        for row in to_do:
            all_went_well &= run(row, args)
            results.add(asdict(row))
    return 0 if all_went_well else 1


if __name__ == "__main__":
    sys.exit(main())
