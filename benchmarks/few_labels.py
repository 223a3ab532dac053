"""Measure the effect of a few known anomalies in addition to normal rows.

    python benchmarks/few_labels.py --data DATA --out results/few_labels.csv
    python benchmarks/few_labels.py --data DATA --sets 5,6,7,8,9 --out results/few_labels_mnist.csv

On the public sets, split as in `quality.py`, or on MNIST with the digit of that name as the
anomaly and the first 1,000 of its training images. Three protocols:

- "random": 1, 5 or 10 of the test set's anomalies, drawn at random, are labelled and removed from
  the test set;
- "other kinds": the anomalies are clustered (k-means, 3 clusters), up to 10 of one cluster are
  labelled, and the evaluation uses the anomalies of the other clusters: kinds without labels;
- "labelled kind": the same detector, evaluated on the remaining anomalies of the labelled cluster.

A set is used if at least 5 anomalies remain for the evaluation. Detectors of gandetect are fitted
to the normal rows and the labelled anomalies with ``labels="learn"``, and without labels with
``labels="ignore"``. Baselines get standardised rows; for images, rows of pixels. ``5-nn`` uses
normal rows only; ``log-ratio`` is log d(normal) minus half of log d(nearest labelled anomaly);
``extra-trees`` are those of scikit-learn, trained on the labels; ``5-nn + extra-trees`` is the sum
of the ranks of 5-NN and of trees that are also trained on mixtures (NNG-Mix), so that it needs all
test rows at once; ``pyod.DevNet reversed`` and ``pyod.XGBOD`` are from PyOD. DevNet of PyOD 3.6.7
gives smaller scores to anomalies, so its scores are negated. Runs that the file already contains
are skipped.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from detectors import PyODDetector, is_ours, make_detector
from markdown_tables import markdown
from numpy.typing import NDArray
from options import add_parameters
from protocols import (
    MNIST_DIGITS,
    REPORT_DIGITS,
    REPORT_SETS,
    TUNING_DIGITS,
    TUNING_SETS,
    Split,
    load_split,
)
from runs import Run, add_detectors, add_sets, grouped, mean_of, parser_of, rows_of, run_all
from scipy.stats import rankdata
from sklearn.cluster import KMeans
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

KNOWN = (1, 5, 10)
LEAST_JUDGED = 5
N_CLUSTERS = 3
N_NORMAL_IMAGES = 1000
# The metric by which detectors are compared.
CASE = ("name", "seed", "protocol", "n_known")
RANDOM, OTHER, SAME = "random", "other kinds", "labelled kind"
# Standardised values are clipped to this limit.
LIMIT = 30.0


@dataclass(kw_only=True)
class LabelsRun(Run):
    """One run and its results."""

    KEY: ClassVar[tuple[str, ...]] = (
        *("name", "detector", "params", "labels"),
        *("protocol", "n_known", "seed"),
    )

    params: str  # JSON; empty braces for default parameters
    labels: str  # the parameter `labels`; empty for a baseline
    protocol: str
    n_known: int  # labelled anomalies; an upper limit for kinds
    auroc: float | None = None
    average_precision: float | None = None
    fit_seconds: float | None = None
    n_train: int | None = None
    n_test: int | None = None
    prevalence: float | None = None  # share of anomalies in the evaluated rows


class Case(NamedTuple):
    """Which test rows are labelled anomalies, and which rows are evaluated."""

    labelled: NDArray[np.intp]
    judged: NDArray[np.intp]


def split_of(folder: Any, name: str, seed: int) -> Split:
    """Split a public set, or MNIST with a digit as the anomaly."""
    if name not in MNIST_DIGITS:
        return load_split(folder, "adbench", name, seed)
    split = load_split(folder, "mnist-one-anomalous", name, seed)
    return split._replace(X_train=split.X_train[:N_NORMAL_IMAGES])


def cases(split: Split, seed: int) -> dict[tuple[str, int], Case]:
    """Draw the labelled anomalies of each protocol, if enough anomalies remain."""
    rng = np.random.default_rng(100 + seed)
    normal = np.flatnonzero(split.y_test == 0)
    anomalous = rng.permutation(np.flatnonzero(split.y_test == 1))
    found = {}
    for k in KNOWN:
        if len(anomalous) >= k + LEAST_JUDGED:
            judged = np.concatenate([normal, anomalous[k:]])
            found[RANDOM, k] = Case(anomalous[:k], judged)
    _, X = standardised(split.X_train, split.X_test)
    cluster = KMeans(N_CLUSTERS, n_init=3, random_state=seed).fit_predict(X[anomalous])
    is_inside = cluster == rng.integers(N_CLUSTERS)
    inside, outside = anomalous[is_inside], anomalous[~is_inside]
    k = max(KNOWN)
    for protocol, rest in ((OTHER, outside), (SAME, inside[k:])):
        if len(rest) >= LEAST_JUDGED:
            found[protocol, k] = Case(inside[:k], np.concatenate([normal, rest]))
    return found


def standardised(X_train: NDArray, X_test: NDArray) -> tuple[NDArray, NDArray]:
    """Standardise rows, or the pixels of images, by the training samples."""
    rows = [X.reshape(len(X), -1) for X in (X_train, X_test)]
    scaler = StandardScaler().fit(rows[0])
    train, test = (np.clip(scaler.transform(X), -LIMIT, LIMIT) for X in rows)
    return train, test


def distance(references: NDArray, X: NDArray, n: int, *, own: bool = False) -> NDArray:
    """Return the mean distance to the n nearest references; with `own`, exclude the row itself."""
    n = min(n, len(references) - own)
    found, _ = NearestNeighbors(n_neighbors=n + own).fit(references).kneighbors(X)
    mean: NDArray = found[:, int(own) :].mean(axis=1)
    return mean


def mixtures(X: NDArray, known: NDArray, n: int, rng: np.random.Generator) -> NDArray:
    """Mix known anomalies with normal rows near them (NNG-Mix)."""
    near = NearestNeighbors(n_neighbors=min(10, len(X))).fit(X).kneighbors(known)[1]
    which = rng.integers(0, len(known), n)
    neighbour = X[near[which, rng.integers(0, near.shape[1], n)]]
    share = rng.beta(0.5, 0.5, (n, 1))
    share = np.maximum(share, 1 - share)
    mixed: NDArray = share * known[which] + (1 - share) * neighbour
    return mixed + rng.normal(0, 0.1, mixed.shape)


def trees(X: NDArray, anomalous: NDArray, test: NDArray, seed: int) -> NDArray:
    """Return the share of votes of extra trees trained on the labels."""
    forest = ExtraTreesClassifier(
        100, min_samples_leaf=2, class_weight="balanced", random_state=seed
    )
    y = np.arange(len(X) + len(anomalous)) >= len(X)
    votes: NDArray = forest.fit(np.concatenate([X, anomalous]), y).predict_proba(test)[:, 1]
    return votes


# Maps standardised normal rows, known anomalies, test rows and the seed to anomaly scores.
Baseline = Callable[[NDArray, NDArray, NDArray, int], NDArray]


def five_nn(X: NDArray, known: NDArray, test: NDArray, seed: int) -> NDArray:
    """Return the mean distance to the five nearest normal rows."""
    return distance(X, test, 5)


def log_ratio(X: NDArray, known: NDArray, test: NDArray, seed: int) -> NDArray:
    """Return the log of the 5-NN distance minus half of the log of the distance to an anomaly."""
    tiny = 1e-9
    of_normal, of_known = distance(X, test, 5), distance(known, test, 1)
    ratio: NDArray = np.log(of_normal + tiny) - 0.5 * np.log(of_known + tiny)
    return ratio


def both(X: NDArray, known: NDArray, test: NDArray, seed: int) -> NDArray:
    """Return the sum of the ranks of 5-NN, and of trees on rows and their 5-NN distances."""
    mixed = mixtures(X, known, max(200, len(X) // 5), np.random.default_rng(seed))

    def seen(rows: NDArray, *, own: bool = False) -> NDArray:
        return np.column_stack([rows, np.log(distance(X, rows, 5, own=own) + 1e-9)])

    anomalous = np.concatenate([seen(known), seen(mixed)])
    votes = trees(seen(X, own=True), anomalous, seen(test), seed)
    ranks: NDArray = rankdata(distance(X, test, 5)) + rankdata(votes)
    return ranks


def of_pyod(name: str, sign: float = 1.0) -> Baseline:
    """Return the scores of a PyOD detector that uses labels, multiplied by `sign`."""

    def scores(X: NDArray, known: NDArray, test: NDArray, seed: int) -> NDArray:
        y = np.arange(len(X) + len(known)) >= len(X)
        detector = PyODDetector(name, seed)
        detector.fit(np.concatenate([X, known]), y.astype(int))
        # PyOD's DevNet scores batches of 512 rows, and fails if the last one has a single row.
        n_spare = int(len(test) % 512 == 1)
        found: NDArray = detector.score_samples(np.concatenate([test, test[:n_spare]]))
        return -sign * found[: len(test)]

    return scores


BASELINES: dict[str, Baseline] = {
    "5-nn": five_nn,
    "log-ratio": log_ratio,
    "extra-trees": trees,
    "5-nn + extra-trees": both,
    "pyod.DevNet reversed": of_pyod("DevNet", -1.0),
    "pyod.XGBOD": of_pyod("XGBOD"),
}


def measure(run: LabelsRun, folder: Any) -> Iterator[LabelsRun]:
    """Fit and evaluate; one fit is used for all runs that need the same labels or none."""
    split = split_of(folder, run.name, run.seed)
    found = cases(split, run.seed)
    if (run.protocol, run.n_known) not in found:
        return
    asked = found[run.protocol, run.n_known]
    without_labels = run.labels == "ignore" or run.detector == "5-nn"
    scores, seconds = fitted_scores(run, split, asked)
    for (protocol, k), case in found.items():
        if without_labels or np.array_equal(case.labelled, asked.labelled):
            y = split.y_test[case.judged]
            yield replace(
                run,
                protocol=protocol,
                n_known=k,
                auroc=round(float(roc_auc_score(y, scores[case.judged])), 6),
                average_precision=round(float(average_precision_score(y, scores[case.judged])), 6),
                fit_seconds=round(seconds, 3),
                n_train=len(split.X_train) + (0 if without_labels else len(case.labelled)),
                n_test=len(y),
                prevalence=round(float(y.mean()), 4),
            )


def fitted_scores(run: LabelsRun, split: Split, case: Case) -> tuple[NDArray, float]:
    """Return the anomaly scores of the test rows, and the seconds of the fit."""
    known = split.X_test[case.labelled]
    start = time.perf_counter()
    if not is_ours_here(run.detector):
        X, test = standardised(split.X_train, split.X_test)
        scores = np.zeros(len(test))
        # Some baselines use all test rows at once, and the labelled rows are not test rows.
        rows = np.arange(len(test))
        if run.detector != "5-nn":
            rows = np.setdiff1d(rows, case.labelled)
        baseline = BASELINES[run.detector]
        scores[rows] = baseline(X, test[case.labelled], test[rows], run.seed)
        return scores, time.perf_counter() - start
    detector = make_detector(
        run.detector, run.seed, standardise=False, labels=run.labels, **json.loads(run.params)
    )
    if run.labels == "ignore":
        detector.fit(split.X_train)
    else:
        y = np.arange(len(split.X_train) + len(known)) >= len(split.X_train)
        detector.fit(np.concatenate([split.X_train, known]), y)
    seconds = time.perf_counter() - start
    return -detector.score_samples(split.X_test), seconds


def is_ours_here(detector: str) -> bool:
    """Return whether it is a detector of gandetect."""
    return detector not in BASELINES and is_ours(detector)


def table(rows: list[dict[str, str]], half: tuple[str, ...] | None = None) -> str:
    """Return a table of means over the sets and seeds with runs of every detector."""
    rows = [row for row in rows if half is None or row["name"] in half]
    by_detector = grouped(rows, ("detector", "params", "labels"))
    of_each = [set(grouped(group, CASE)) for group in by_detector.values()]
    shared = set.intersection(*of_each) if of_each else set()
    columns = [*((RANDOM, k) for k in KNOWN), (SAME, max(KNOWN)), (OTHER, max(KNOWN))]
    lines = []
    for key, group in by_detector.items():
        line = [" ".join(part for part in key if part not in ("", "{}"))]
        compared = [row for case, (row,) in grouped(group, CASE).items() if case in shared]
        by_column = grouped(compared, ("protocol", "n_known"))
        for protocol, k in columns:
            found = by_column.get((protocol, str(k)), [])
            line.append(
                f"{mean_of(found, 'auroc'):.3f} / {mean_of(found, 'average_precision'):.3f}"
                if found
                else ""
            )
        lines.append(line)
    n_runs = len({(name, seed) for name, seed, *_ in shared})
    header = ["", *(f"{protocol}, {k}" for protocol, k in columns)]
    return f"{n_runs} pairs of set and seed:\n\n{markdown(header, lines)}"


def report(path: Path) -> str:
    """Return the tables of a file: of all its sets, and of each half with sets in the file."""
    rows = rows_of(path, LabelsRun)
    halves = {
        "Tuning half": TUNING_SETS + TUNING_DIGITS,
        "Report half": REPORT_SETS + REPORT_DIGITS,
    }
    tables = [f"All sets, {table(rows)}"]
    tables += [
        f"{title}, {table(rows, half)}"
        for title, half in halves.items()
        if any(row["name"] in half for row in rows)
    ]
    return "\n\n".join(tables)


def main() -> int:
    """Run the missing rows, and print the tables."""
    parser = parser_of(__doc__)
    add_sets(parser)
    add_detectors(parser, ("AdversarialVAE", *list(BASELINES)[:4]))
    add_parameters(parser)
    args = parser.parse_args()
    params = json.dumps(dict(args.set), sort_keys=True)
    planned = [
        LabelsRun(
            name=name,
            detector=detector,
            params=params if is_ours_here(detector) else "{}",
            labels=labels,
            protocol=protocol,
            n_known=k,
            seed=seed,
        )
        for seed in args.seeds
        for name in args.sets
        for detector in args.detectors
        for labels in (("learn", "ignore") if is_ours_here(detector) else ("",))
        for protocol, k in [*((RANDOM, k) for k in KNOWN), (OTHER, max(KNOWN)), (SAME, max(KNOWN))]
    ]
    all_went_well = run_all(planned, args, lambda run: measure(run, args.data))
    print(report(args.out))
    return 0 if all_went_well else 1


if __name__ == "__main__":
    sys.exit(main())
