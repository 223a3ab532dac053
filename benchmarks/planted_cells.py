"""Measure how often the anomaly map of rows identifies shifted cells.

    python benchmarks/planted_cells.py --data DATA --out results/planted_cells.csv

In held-out normal rows of real sets, one to three cells are shifted by three to five standard
deviations of their column. The threshold flags 5 % of the unchanged rows. The benchmark measures
the share of flagged rows among the changed rows, and in which share of these the largest value of
the map is at a shifted cell. A run is one set with one seed; runs that the file already contains
are skipped.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from detectors import make_detector
from markdown_tables import markdown
from numpy.typing import NDArray
from options import add_parameters, as_params
from protocols import load_split
from runs import Run, add_detectors, add_sets, grouped, mean_of, parser_of, rows_of, run_all

OUTLIER_PERC = 5.0
MAX_PLANTED = 3
MOVED_BY = (3.0, 5.0)  # standard deviations
SETS = ["28_pendigits", "30_satellite", "6_cardio"]
FIGURES = ("caught", "ranked_first", "by_chance")


@dataclass(kw_only=True)
class PlantedRun(Run):
    """One run and its results."""

    KEY: ClassVar[tuple[str, ...]] = ("name", "detector", "params", "seed")

    params: str
    n_rows: int | None = None
    caught: float | None = None  # share of the rows
    ranked_first: float | None = None  # share of the flagged rows
    by_chance: float | None = None  # the share for a map of random numbers


def plant(X: NDArray, deviations: NDArray, seed: int) -> tuple[NDArray, NDArray]:
    """Shift one to three cells of each row; return the rows, and which cells were shifted."""
    rng = np.random.default_rng(seed)
    columns = np.flatnonzero(deviations > 0)
    X, planted = X.astype(float), np.zeros(X.shape, dtype=bool)
    for row, moved in zip(X, planted, strict=True):
        chosen = rng.permutation(columns)[: rng.integers(1, MAX_PLANTED + 1)]
        sign = rng.choice([-1, 1], len(chosen))
        row[chosen] += sign * rng.uniform(*MOVED_BY, len(chosen)) * deviations[chosen]
        moved[chosen] = True
    return X, planted


def measure(run: PlantedRun, data: Path) -> Iterator[PlantedRun]:
    """Fit to normal rows, shift cells of other rows, and compare with the anomaly map."""
    split = load_split(data, "adbench", run.name, run.seed)
    detector = make_detector(run.detector, run.seed, standardise=True, **json.loads(run.params))
    detector.fit(split.X_train)
    normal = split.X_test[split.y_test == 0]
    detector.infer_threshold(normal, OUTLIER_PERC)
    X, planted = plant(normal, split.X_train.std(axis=0), run.seed)
    is_caught = detector.predict(X) == -1
    first = detector.anomaly_map(X).argmax(axis=1)
    run.n_rows, run.caught = len(X), round(float(is_caught.mean()), 4)
    run.ranked_first = round(float(planted[np.arange(len(X)), first][is_caught].mean()), 4)
    run.by_chance = round(float(planted.mean()), 4)
    yield run


def report(path: Path) -> str:
    """Return a table of means over the seeds."""
    groups = grouped(rows_of(path, PlantedRun), ["detector", "params", "name"])
    return markdown(
        ["detector", "parameters", "set", "caught", "planted cell first", "by chance", "seeds"],
        [
            [*key, *(mean_of(rows, figure) for figure in FIGURES), len(rows)]
            for key, rows in groups.items()
        ],
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the missing rows of the CSV, and print the table of all rows."""
    parser = parser_of(__doc__)
    add_detectors(parser, ["RDNA"])
    add_sets(parser)
    add_parameters(parser)
    parser.set_defaults(sets=SETS)
    args = parser.parse_args(argv)
    planned = [
        PlantedRun(name=name, detector=detector, params=as_params(args, detector), seed=seed)
        for name in args.sets
        for seed in args.seeds
        for detector in args.detectors
    ]
    went_well = run_all(planned, args, lambda run: measure(run, args.data))
    print(report(args.out))
    return 0 if went_well else 1


if __name__ == "__main__":
    sys.exit(main())
