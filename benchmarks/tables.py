"""Measure detection of anomalies and planted faults in tables with words and missing values.

    python benchmarks/tables.py --data DATA --detectors GANomaly,knn-mean --out results/tables.csv

Two results are measured on each set. The first is the ranking of its anomalies (AUROC, average
precision). The second is the detection of faults: in normal rows one cell is made faulty, and the
threshold flags 5 % of the unchanged rows. The figures are the share of faulty rows that are
flagged, and the share of these in which a faulty column is first in the map. A fault is another
word, a number shifted by 3 standard deviations, two exchanged columns, or the value of another row;
each in a quarter of the rows.

Detectors of gandetect get the table. Baselines get the usual encoding: numbers with the median in
gaps, standardised, and one-hot words, with gaps as a separate word. With ``--encoding encoder``
they get the rows as encoded by gandetect for the networks. Half of the normal rows, at most 1,500,
are for training. Runs that the file already contains are skipped.
"""

from __future__ import annotations

import csv
import gzip
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from detectors import is_ours, make_detector
from markdown_tables import markdown
from numpy.typing import NDArray
from options import add_parameters, as_params, words
from runs import Run, add_detectors, grouped, mean_of, parser_of, rows_of, run_all
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from gandetect.data.columns import ColumnEncoder
from gandetect.data.frames import as_numbers, read_frame

MAX_TRAIN_ROWS = 1500
MAX_TEST_ROWS = 10_000
MAX_PLANTED_ROWS = 1000
OUTLIER_PERC = 5.0
MOVED_BY = 3.0  # standard deviations
GAP = "?"
KDD = "kddcup.data_10_percent.gz"
KDD_ANOMALIES = 0.2  # share of the test rows, as in EGBAD
# The file, and its anomalous class; in EGBAD's protocol attacks are the normal class.
SETS = {
    "hypothyroid": ("mixed/hypothyroid.csv", "hypothyroid"),
    "mushroom-edible": ("mixed/mushroom.csv", "p"),
    "mushroom-poisonous": ("mixed/mushroom.csv", "e"),
    "kddcup99": (KDD, "normal."),
}
FIGURES = ("auroc", "average_precision", "caught", "ranked_first")

Table = dict[str, NDArray]  # columns of strings, as in the file


@dataclass(kw_only=True)
class TableRun(Run):
    """One run and its results."""

    KEY: ClassVar[tuple[str, ...]] = ("name", "detector", "encoding", "params", "gaps", "seed")

    encoding: str
    params: str  # JSON; empty braces for default parameters
    gaps: float  # share of the cells that were emptied
    auroc: float | None = None
    average_precision: float | None = None
    caught: float | None = None  # share of the rows with a fault
    ranked_first: float | None = None  # share of the flagged rows; gandetect only
    n_train: int | None = None
    n_test: int | None = None
    prevalence: float | None = None  # share of anomalies in the test set


@cache
def load(folder: Path, name: str) -> tuple[Table, NDArray]:
    """Read a set: its columns, and 1 for each anomaly."""
    path, anomaly = SETS[name]
    opened = gzip.open if path == KDD else open
    with opened(folder / path, "rt", newline="") as file:
        rows = list(csv.reader(file))
    columns = list(map(np.array, zip(*rows, strict=True)))
    if path == KDD:  # without a header; the class is the last column
        return {f"c{i}": values for i, values in enumerate(columns[:-1])}, columns[-1] == anomaly
    table = {str(values[0]): values[1:] for values in columns}
    return table, table.pop("class") == anomaly


def split(name: str, y: NDArray, seed: int) -> tuple[NDArray, NDArray]:
    """Draw the positions of the normal training rows and of the test rows."""
    rng = np.random.default_rng(seed)
    normal, anomalous = rng.permutation(np.flatnonzero(~y)), rng.permutation(np.flatnonzero(y))
    train = normal[: min(MAX_TRAIN_ROWS, len(normal) // 2)]
    rest = normal[len(train) :]
    if name == "kddcup99":
        rest = rest[: int(MAX_TEST_ROWS * (1 - KDD_ANOMALIES))]
        anomalous = anomalous[: int(MAX_TEST_ROWS * KDD_ANOMALIES)]
    return train, np.concatenate([rest, anomalous])


def rows_at(table: Table, index: NDArray) -> Table:
    """Return some rows of a table."""
    return {name: values[index] for name, values in table.items()}


def emptied(table: Table, share: float, seed: int) -> Table:
    """Replace a share of the cells by gaps."""
    rng = np.random.default_rng(seed)
    return {
        name: np.where(rng.random(len(values)) < share, GAP, values)
        for name, values in table.items()
    }


def one_hot_and_median(train: Table, *tables: Table) -> list[NDArray]:
    """Encode as usual: medians in gaps of numbers, standardised, and one-hot words."""
    encoded: list[list[NDArray]] = [[] for _ in tables]
    for name, column in zip(train, read_frame(train, [GAP]).columns, strict=True):
        is_number = not isinstance(as_numbers(column), tuple) and not column.missing.all()
        if is_number:
            fitted = StandardScaler().fit(_imputed(train[name], train[name]))
        else:
            fitted = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
            fitted.fit(train[name][:, None])
        for parts, table in zip(encoded, tables, strict=True):
            cells = _imputed(table[name], train[name]) if is_number else table[name][:, None]
            parts.append(fitted.transform(cells))
    return [np.hstack(parts) for parts in encoded]


def _imputed(values: NDArray, train: NDArray) -> NDArray:
    median = np.median(train[train != GAP].astype(float))
    return np.where(values == GAP, str(median), values).astype(float)[:, None]


def plant(table: Table, train: Table, seed: int) -> tuple[Table, NDArray]:
    """Make one cell of each row faulty, or exchange two; return the table and the faulty cells.

    Rows in which a fault would have no effect are not changed, and have no faulty cell.
    """
    rng = np.random.default_rng(seed)
    names = list(table)
    frame = read_frame(train, [GAP])
    numbers = {
        name: read.values[~read.missing].std()
        for name, column in zip(names, frame.columns, strict=True)
        if not isinstance(read := as_numbers(column), tuple) and not column.missing.all()
    }
    numbers = {name: spread for name, spread in numbers.items() if spread > 0}
    categories = [
        name for name in names if name not in numbers and len(set(train[name]) - {GAP}) > 1
    ]
    faulty = {name: values.astype(object) for name, values in table.items()}
    places = np.zeros((len(table[names[0]]), len(names)), dtype=bool)
    for row in range(len(places)):
        kind = rng.choice(["word", "number", "exchange", "other row"])
        kept = {name: values[row] for name, values in faulty.items()}
        if kind == "word" and categories:
            name = rng.choice(categories)
            faulty[name][row] = rng.choice(sorted(set(train[name]) - {kept[name], GAP}))
        elif kind == "number" and numbers:
            name = rng.choice(list(numbers))
            if kept[name] != GAP:
                step = rng.choice([-MOVED_BY, MOVED_BY]) * numbers[name]
                faulty[name][row] = str(float(kept[name]) + step)
        elif kind == "exchange":
            of_one_kind = [group for group in (list(numbers), categories) if len(group) > 1]
            first, second = rng.choice(of_one_kind[rng.integers(len(of_one_kind))], 2, False)
            faulty[first][row], faulty[second][row] = kept[second], kept[first]
        elif kind == "other row":
            name = rng.choice(names)
            faulty[name][row] = rng.choice(train[name])
        places[row] = [faulty[name][row] != kept[name] for name in names]
    return {name: values.astype(str) for name, values in faulty.items()}, places


def measure(run: TableRun, data: Path) -> Iterator[TableRun]:
    """Fit to normal rows, and measure the ranking of anomalies and the detection of faults."""
    whole, y = load(data, run.name)
    train_rows, test_rows = split(run.name, y, run.seed)
    table = emptied(whole, run.gaps, run.seed) if run.gaps else whole
    train, test, y = rows_at(table, train_rows), rows_at(table, test_rows), y[test_rows]
    normal = rows_at(test, np.flatnonzero(~y)[:MAX_PLANTED_ROWS])
    planted, places = plant(normal, train, run.seed)
    parameters = json.loads(run.params)
    X: Any
    if run.encoding == "detector":
        X, X_test, X_normal, X_planted = train, test, normal, planted
        parameters["missing_values"] = (GAP,)
    elif run.encoding == "encoder":
        encoder = ColumnEncoder.fitted(train, missing_values=[GAP])
        X, X_test, X_normal, X_planted = map(encoder.encode, (train, test, normal, planted))
    else:
        X, X_test, X_normal, X_planted = one_hot_and_median(train, train, test, normal, planted)
    detector = make_detector(run.detector, run.seed, standardise=False, **parameters)
    detector.fit(X)
    scores, normal_scores, planted_scores = (
        -detector.score_samples(rows) for rows in (X_test, X_normal, X_planted)
    )
    run.n_train, run.n_test, run.prevalence = len(train_rows), len(y), round(float(y.mean()), 4)
    run.auroc = round(float(roc_auc_score(y, scores)), 4)
    run.average_precision = round(float(average_precision_score(y, scores)), 4)
    is_faulty = places.any(axis=1)
    threshold = np.percentile(normal_scores, 100 - OUTLIER_PERC)
    is_caught = is_faulty & (planted_scores > threshold)
    run.caught = round(float(is_caught.sum() / is_faulty.sum()), 4)
    if is_ours(run.detector) and is_caught.any():
        first = detector.anomaly_map(planted)[is_caught].argmax(axis=1)
        run.ranked_first = round(float(places[is_caught, first].mean()), 4)
    yield run


def report(path: Path) -> str:
    """Return a table of means over the seeds."""
    groups = grouped(rows_of(path, TableRun), ["name", "gaps", "detector", "encoding", "params"])
    heads = ["set", "gaps", "detector", "encoding", "parameters", "AUROC", "AP", "caught"]
    return markdown(
        [*heads, "faulty column first", "seeds"],
        [
            [
                *key,
                *("" if not rows[0][name] else mean_of(rows, name) for name in FIGURES),
                len(rows),
            ]
            for key, rows in sorted(groups.items())
        ],
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the missing rows of the CSV, and print the table of all rows."""
    parser = parser_of(__doc__)
    add_detectors(parser, ["GANomaly", "knn-mean", "iforest"])
    add = parser.add_argument
    add("--data", type=Path, required=True, help="folder with mixed/*.csv and the KDD file")
    add("--sets", type=words, default=list(SETS), help="names, comma-separated")
    add("--gaps", type=float, default=0.0, help="share of the cells that are emptied beforehand")
    add(
        "--encoding",
        choices=["usual", "encoder"],
        default="usual",
        help="what baselines get: one-hot words and medians, or what ours get",
    )
    add_parameters(parser)
    args = parser.parse_args(argv)
    planned = [
        TableRun(
            name=name,
            detector=detector,
            encoding="detector" if is_ours(detector) else args.encoding,
            params=as_params(args, detector),
            gaps=args.gaps,
            seed=seed,
        )
        for name in args.sets
        for seed in args.seeds
        for detector in args.detectors
    ]
    went_well = run_all(planned, args, lambda run: measure(run, args.data))
    print(report(args.out))
    return 0 if went_well else 1


if __name__ == "__main__":
    sys.exit(main())
