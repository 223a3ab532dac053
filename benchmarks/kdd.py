"""KDD Cup 1999 by EGBAD's protocol: precision, recall and F1 at the top 20 % of test scores.

    python benchmarks/kdd.py --data DATA --detectors BiGAN,knn,iforest --out results/kdd.csv

Attacks, 80 % of the file, are the normal class, and ``normal.`` traffic is the anomaly. A seed
draws half of the attacks to train on; the test set is the other half and as much normal traffic as
makes 20 % of it. Rows have 121 columns, seven categories being one-hot. The test set's own scores
set the threshold, as published, so that the figures measure the ranking alone.

Of the training half, `--max-train` rows are used, by every detector, to save time: the file is made
of a few kinds of row, many times over. Runs that the CSV already holds are skipped.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import sklearn
import torch
from detectors import is_ours, make_detector
from numpy.typing import NDArray
from quality import assignment
from sklearn.metrics import precision_recall_fscore_support, roc_auc_score
from threadpoolctl import threadpool_limits

import gandetect
from gandetect.datasets import load_kddcup99, one_class_rows_split
from gandetect.thresholds import threshold_at_percentile

OUTLIER_FRACTION = 0.2
FIGURES = ("precision", "recall", "f1")

# Of the papers' own tables: Zenati et al., arXiv:1802.06222 (cross-entropy score), and Zenati et
# al., ICDM 2018.
PUBLISHED = {
    "EGBAD, published": (0.9200, 0.9582, 0.9372),
    "ALAD, published": (0.9427, 0.9577, 0.9501),
}


@dataclass(kw_only=True)
class Row:
    """One run: what was run, on what, how well and how long, with which versions."""

    detector: str
    params: str  # JSON; empty braces for a detector at its defaults
    max_train: int
    seed: int
    precision: float | None = None
    recall: float | None = None
    f1: float | None = None
    auroc: float | None = None
    n_train: int | None = None
    n_test: int | None = None
    prevalence: float | None = None
    fit_seconds: float | None = None
    score_seconds: float | None = None
    threads: int
    gandetect: str = gandetect.__version__
    torch: str = torch.__version__
    sklearn: str = sklearn.__version__

    @property
    def key(self) -> tuple[str, ...]:
        """What tells this run from every other, as text."""
        return (self.detector, self.params, str(self.max_train), str(self.seed))


COLUMNS = tuple(field.name for field in fields(Row))


def measure(row: Row, X: NDArray, y: NDArray) -> None:
    """Split, fit and score; fill in the row."""
    X_train, X_test, y_test = one_class_rows_split(
        X,
        y,
        random_state=row.seed,
        max_train=row.max_train,
        max_test=None,
        outlier_fraction=OUTLIER_FRACTION,
    )
    params = json.loads(row.params)
    detector = make_detector(row.detector, row.seed, standardise=True, **params)
    start = time.perf_counter()
    detector.fit(X_train)
    fitted = time.perf_counter()
    scores = -detector.score_samples(X_test)
    scored = time.perf_counter()

    flagged = scores > threshold_at_percentile(scores, 100 * OUTLIER_FRACTION)
    figures = precision_recall_fscore_support(y_test, flagged, average="binary")
    row.precision, row.recall, row.f1 = (round(float(figure), 4) for figure in figures[:3])
    row.auroc = round(float(roc_auc_score(y_test, scores)), 4)
    row.n_train, row.n_test = len(X_train), len(X_test)
    row.prevalence = round(float(y_test.mean()), 4)
    row.fit_seconds, row.score_seconds = round(fitted - start, 2), round(scored - fitted, 2)


def read_rows(path: Path) -> list[Row]:
    """Read the whole rows of a CSV of results; a line that was cut short does not count."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise ValueError(f"{path} has other columns than this benchmark; choose a new file.")
        return [Row(**line) for line in reader if None not in line.values()]


def append(path: Path, row: Row) -> None:
    """Append a row, and have it on disk before the next run starts."""
    is_new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if is_new:
            writer.writeheader()
        writer.writerow(asdict(row))


def table(rows: Iterable[Row]) -> str:
    """Markdown: mean and standard deviation over the seeds, below the published figures."""
    lines = [
        "| detector | precision | recall | F1 | AUROC | fit s | seeds |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, figures in PUBLISHED.items():
        lines.append(f"| {name} | " + " | ".join(f"{f:.3f}" for f in figures) + " | | | |")
    runs: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        params = "" if row.params == "{}" else f" {row.params}"
        runs[f"{row.detector}{params}, {row.max_train} training rows"].append(row)
    for name, of_name in runs.items():
        cells = [
            _mean_and_spread([float(getattr(row, figure)) for row in of_name])
            for figure in (*FIGURES, "auroc")
        ]
        seconds = np.mean([float(row.fit_seconds or 0) for row in of_name])
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {seconds:.0f} | {len(of_name)} |")
    return "\n".join(lines)


def _mean_and_spread(values: Sequence[float]) -> str:
    spread = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{spread}"


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data", type=Path, required=True, help="folder with kddcup.data_10_percent.gz")
    add("--detectors", default="BiGAN,knn,iforest", help="names, comma-separated")
    add("--seeds", default="0,1,2", help="each fixes the split and the detector")
    add("--max-train", type=int, default=10_000, help="training rows of the half that is drawn")
    add(
        "--set",
        type=assignment,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a parameter of our detectors, repeatable; the value in Python's notation",
    )
    add("--out", type=Path, required=True, help="the CSV to append to")
    add("--threads", type=int, default=1, help="CPU threads of one run")
    return parser.parse_args(argv)


def planned_rows(args: argparse.Namespace) -> list[Row]:
    """All runs that were asked for."""
    return [
        Row(
            detector=name,
            params=json.dumps(dict(args.set), sort_keys=True) if is_ours(name) else "{}",
            max_train=args.max_train,
            seed=int(seed),
            threads=args.threads,
        )
        for seed in args.seeds.split(",")
        for name in args.detectors.split(",")
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Run what the CSV does not hold yet, and print the table of all it holds."""
    args = parse_arguments(argv)
    done = {row.key for row in read_rows(args.out)}
    to_do = [row for row in planned_rows(args) if row.key not in done]
    if to_do:
        kdd = load_kddcup99(args.data)
        torch.set_num_threads(args.threads)
        with threadpool_limits(args.threads):
            for row in to_do:
                measure(row, kdd.data, kdd.target)
                append(args.out, row)
                print(f"{row.detector} seed {row.seed}: F1 {row.f1}", flush=True)
    print(table(read_rows(args.out)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
