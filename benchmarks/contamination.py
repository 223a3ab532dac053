"""Measure the loss of AUROC from anomalies in the training rows, with and without `trim`.

    python benchmarks/contamination.py --data DATA --detectors GANomaly --out contamination.csv
    python benchmarks/contamination.py --data DATA --http --detectors GANomaly --out http.csv

The protocol is that of `quality.py` on the public sets, with one difference: half of a set's
anomalies are removed first, and as many of them as give the share replace training rows. The test
set, with the other half, is the same for every share. If a set has too few anomalies for a share,
all of the removed ones are trained on; the CSV has their number. `trim` is one value for every
share, because users do not know the share.

With ``--http`` the set is the http connections of KDD Cup 1999 (logarithms of duration and of the
bytes sent and received); 3.5 % of its training rows are attacks that are nearly equal.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from detectors import is_ours, make_detector
from markdown_tables import markdown
from numpy.typing import NDArray
from protocols import Split, data_file, split_rows
from runs import Run, add_detectors, add_sets, grouped, mean_of, parser_of, rows_of, run_all
from sklearn.metrics import roc_auc_score

from gandetect.datasets import load_kddcup99

SHARES = (0.0, 0.01, 0.05, 0.1)
HTTP, HTTP_SHARES = "http", (0.0, 0.035)


@dataclass(kw_only=True)
class ContaminatedRun(Run):
    """One detector, fitted to rows with a given share of anomalies."""

    KEY: ClassVar[tuple[str, ...]] = ("name", "detector", "trim", "share", "seed")

    trim: float
    share: float
    auroc: float | None = None
    n_train: int | None = None
    n_trained_anomalies: int | None = None
    fit_seconds: float | None = None


def public_set(folder: Path, name: str) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Read a set of ADBench."""
    with np.load(data_file(folder, "adbench", name), allow_pickle=False) as arrays:
        return arrays["X"], arrays["y"]


@cache
def http_connections(folder: Path) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Read the http connections of KDD Cup 1999; attacks are the anomalies."""
    kdd = load_kddcup99(folder, anomalous_class="attack")
    names = kdd.feature_names
    is_http = kdd.data[:, names.index("service=http")] == 1
    columns = [names.index(name) for name in ("duration", "src_bytes", "dst_bytes")]
    return np.log(kdd.data[is_http][:, columns] + 0.1), kdd.target[is_http]


def contaminated_split(folder: Path, name: str, share: float, seed: int) -> tuple[Split, int]:
    """Split a set, with anomalies in the training rows; also return their number."""
    X, y = http_connections(folder) if name == HTTP else public_set(folder, name)
    rng = np.random.default_rng(seed)
    anomalous = rng.permutation(np.flatnonzero(y == 1))
    spare = anomalous[: len(anomalous) // 2]
    kept = np.setdiff1d(np.arange(len(X)), spare)
    split = split_rows(X[kept], y[kept], seed)
    n_anomalies = min(round(share * len(split.X_train)), len(spare))
    X_train = split.X_train.copy()
    X_train[rng.permutation(len(X_train))[:n_anomalies]] = X[spare[:n_anomalies]]
    return split._replace(X_train=X_train), n_anomalies


def measure(run: ContaminatedRun, data: Path) -> Iterator[ContaminatedRun]:
    """Fit the detector and score the test rows."""
    split, run.n_trained_anomalies = contaminated_split(data, run.name, run.share, run.seed)
    run.n_train = len(split.X_train)
    params: dict[str, Any] = {"trim": run.trim} if is_ours(run.detector) else {}
    detector = make_detector(run.detector, run.seed, standardise=True, **params)
    start = time.perf_counter()
    detector.fit(split.X_train)
    run.fit_seconds = round(time.perf_counter() - start, 3)
    scores = -detector.score_samples(split.X_test)
    run.auroc = round(float(roc_auc_score(split.y_test, scores)), 6)
    yield run


def report(path: Path) -> str:
    """Return the mean AUROC at each share, and the loss at the largest share."""
    lines = []
    every = rows_of(path, ContaminatedRun)
    for (detector, trim), rows in grouped(every, ["detector", "trim"]).items():
        by_share = {float(share): group for (share,), group in grouped(rows, ["share"]).items()}
        aurocs = [mean_of(by_share[share], "auroc") for share in sorted(by_share)]
        title = f"{detector}, trim={trim}" if is_ours(detector) else detector
        lines.append([title, *aurocs, aurocs[0] - aurocs[-1]])
    shares = sorted({float(row["share"]) for row in every})
    of_shares = (f"{100 * share:g}% anomalous" for share in shares)
    return markdown(["detector", *of_shares, "fall"], lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark and print its table."""
    parser = parser_of(__doc__)
    add_detectors(parser)
    add_sets(parser)
    parser.add_argument("--http", action="store_true", help="the http connections of KDD instead")
    parser.add_argument("--trim", type=float, default=0.1, help="of ours, beside trim=0")
    args = parser.parse_args(argv)
    planned = [
        ContaminatedRun(name=name, detector=detector, trim=trim, share=share, seed=seed)
        for name, seed, detector, share in itertools.product(
            [HTTP] if args.http else args.sets,
            args.seeds,
            ["knn", *(["iforest"] if args.http else []), *args.detectors],
            HTTP_SHARES if args.http else SHARES,
        )
        for trim in ((0.0, args.trim) if is_ours(detector) else (0.0,))
    ]
    went_well = run_all(planned, args, lambda run: measure(run, args.data))
    print(report(args.out))
    return 0 if went_well else 1


if __name__ == "__main__":
    sys.exit(main())
