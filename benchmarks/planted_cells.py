"""Does the map of rows name the cells that were moved?

    python benchmarks/planted_cells.py --data DATA --out results/planted_cells.csv

In normal rows of real sets that the detector has not seen, one to three cells are moved by three to
five standard deviations of their column. Of the rows that are then caught, at a threshold that
flags 5 % of the rows as they were, counts in how many the largest value of the map is at a cell
that was moved. A run is one set with one seed; those that the file already holds are skipped.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import torch
from detectors import make_detector
from numpy.typing import NDArray
from protocols import Split, load_split
from quality import assignment
from results_file import Results, read_rows
from threadpoolctl import threadpool_limits

import gandetect

OUTLIER_PERC = 5.0
MAX_PLANTED = 3
MOVED_BY = (3.0, 5.0)  # standard deviations


@dataclass(kw_only=True)
class Row:
    """One run: what was run, on what, and what came of it."""

    name: str
    detector: str
    params: str
    seed: int
    n_rows: int | None = None
    caught: float | None = None  # share of the rows
    ranked_first: float | None = None  # share of the caught rows
    by_chance: float | None = None  # what a map of random numbers would reach
    gandetect: str = gandetect.__version__
    torch: str = torch.__version__
    error: str = ""

    @property
    def key(self) -> tuple[str, ...]:
        """What tells this run from every other, as text."""
        return tuple(str(getattr(self, column)) for column in KEY)


COLUMNS = tuple(field.name for field in fields(Row))
KEY = ("name", "detector", "params", "seed")


def plant(X: NDArray, deviations: NDArray, seed: int) -> tuple[NDArray, NDArray]:
    """Move one to three cells of each row that vary; return the rows, and which cells they are."""
    rng = np.random.default_rng(seed)
    columns = np.flatnonzero(deviations > 0)
    X, planted = X.astype(float), np.zeros(X.shape, dtype=bool)
    for row, moved in zip(X, planted, strict=True):
        chosen = rng.permutation(columns)[: rng.integers(1, MAX_PLANTED + 1)]
        sign = rng.choice([-1, 1], len(chosen))
        row[chosen] += sign * rng.uniform(*MOVED_BY, len(chosen)) * deviations[chosen]
        moved[chosen] = True
    return X, planted


def measure(split: Split, row: Row) -> None:
    """Fit to normal rows, plant, and see whether the map finds what was planted."""
    detector = make_detector(row.detector, row.seed, standardise=True, **json.loads(row.params))
    detector.fit(split.X_train)
    normal = split.X_test[split.y_test == 0]
    detector.infer_threshold(normal, OUTLIER_PERC)
    X, planted = plant(normal, split.X_train.std(axis=0), row.seed)
    is_caught = detector.predict(X) == -1
    first = detector.anomaly_map(X).argmax(axis=1)
    row.n_rows, row.caught = len(X), round(float(is_caught.mean()), 4)
    row.ranked_first = round(float(planted[np.arange(len(X)), first][is_caught].mean()), 4)
    row.by_chance = round(float(planted.mean()), 4)


def table(rows: Iterable[dict[str, str]]) -> str:
    """Markdown: means over the seeds."""
    runs: dict[tuple[str, ...], list[list[float]]] = defaultdict(list)
    figures = ("caught", "ranked_first", "by_chance")
    for row in rows:
        runs[row["detector"], row["params"], row["name"]].append([float(row[f]) for f in figures])
    lines = [
        "| detector | set | caught | planted cell first | by chance | seeds |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for (detector, params, name), of_name in runs.items():
        cells = " | ".join(f"{value:.3f}" for value in np.mean(of_name, axis=0))
        label = detector if params == "{}" else f"{detector} {params}"
        lines.append(f"| {label} | {name} | {cells} | {len(of_name)} |")
    return "\n".join(lines)


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data", type=Path, required=True, help="folder with adbench/*.npz")
    add("--sets", default="28_pendigits,30_satellite,6_cardio", help="comma-separated")
    add("--detectors", default="RDNA", help="names of ours, comma-separated")
    add("--seeds", default="0,1,2", help="each fixes the split, the cells and the detector")
    add(
        "--set",
        type=assignment,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a parameter of the detectors, repeatable; the value in Python's notation",
    )
    add("--out", type=Path, required=True, help="the CSV to append to")
    add("--threads", type=int, default=1, help="CPU threads of one run")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run what the CSV does not hold yet, and print the table of all it holds."""
    args = parse_arguments(argv)
    results = Results(args.out, COLUMNS, KEY)
    torch.set_num_threads(args.threads)
    params = json.dumps(dict(args.set), sort_keys=True)
    with threadpool_limits(args.threads):
        for name in args.sets.split(","):
            for seed in map(int, args.seeds.split(",")):
                for detector in args.detectors.split(","):
                    row = Row(name=name, detector=detector, params=params, seed=seed)
                    if row.key not in results.done:
                        measure(load_split(args.data, "adbench", name, seed), row)
                        results.add(asdict(row))
                        print(f"{name} {detector} seed {seed}: {row.ranked_first}", flush=True)
    print(table(read_rows(args.out, COLUMNS)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
