"""KDD Cup 1999 by EGBAD's protocol: precision, recall and F1 at the top 20 % of test scores.

    python benchmarks/kdd.py --data DATA --detectors BiGAN,knn,iforest --out results/kdd.csv

Attacks, 80 % of the file, are the normal class, and ``normal.`` traffic is the anomaly. For each
seed, a random half of the attacks is for training; the test set is the other half, with normal
traffic as 20 % of its rows. Rows have 121 columns, including seven one-hot encoded categories. The
scores of the test set itself determine the threshold, as published, so that the figures measure
only the ranking.

To save time, every detector uses `--max-train` rows of the training half; the file consists of a
few kinds of rows with many repetitions. Runs that the CSV already contains are skipped.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from detectors import make_detector
from markdown_tables import markdown, mean_and_spread
from options import add_parameters, as_params
from runs import Run, add_detectors, grouped, parser_of, rows_of, run_all
from sklearn.metrics import precision_recall_fscore_support, roc_auc_score

from gandetect.datasets import load_kddcup99, one_class_rows_split
from gandetect.model.statistics import threshold_at_percentile

OUTLIER_FRACTION = 0.2
FIGURES = ("precision", "recall", "f1", "auroc")

# From the tables of the papers: Zenati et al., arXiv:1802.06222 (cross-entropy score), and Zenati
# et al., ICDM 2018.
PUBLISHED = {
    "EGBAD, published": (0.9200, 0.9582, 0.9372),
    "ALAD, published": (0.9427, 0.9577, 0.9501),
}


@dataclass(kw_only=True)
class KddRun(Run):
    """One run: results and times."""

    KEY: ClassVar[tuple[str, ...]] = ("detector", "params", "max_train", "seed")

    params: str  # JSON; empty braces for default parameters
    max_train: int
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


_load = cache(load_kddcup99)


def measure(run: KddRun, data: Path) -> Iterator[KddRun]:
    """Split, fit and score, and complete the run."""
    kdd = _load(data)
    X_train, X_test, y_test = one_class_rows_split(
        kdd.data,
        kdd.target,
        random_state=run.seed,
        max_train=run.max_train,
        max_test=None,
        outlier_fraction=OUTLIER_FRACTION,
    )
    detector = make_detector(run.detector, run.seed, standardise=True, **json.loads(run.params))
    start = time.perf_counter()
    detector.fit(X_train)
    fitted = time.perf_counter()
    scores = -detector.score_samples(X_test)
    scored = time.perf_counter()

    flagged = scores > threshold_at_percentile(scores, 100 * OUTLIER_FRACTION)
    figures = precision_recall_fscore_support(y_test, flagged, average="binary")
    run.precision, run.recall, run.f1 = (round(float(figure), 4) for figure in figures[:3])
    run.auroc = round(float(roc_auc_score(y_test, scores)), 4)
    run.n_train, run.n_test = len(X_train), len(X_test)
    run.prevalence = round(float(y_test.mean()), 4)
    run.fit_seconds, run.score_seconds = round(fitted - start, 2), round(scored - fitted, 2)
    yield run


def report(path: Path) -> str:
    """Return a table of means and standard deviations over seeds, below the published figures."""
    lines: list[list[Any]] = [
        [name, "", "", *(f"{figure:.3f}" for figure in figures), "", "", ""]
        for name, figures in PUBLISHED.items()
    ]
    for key, runs in grouped(rows_of(path, KddRun), ["detector", "params", "max_train"]).items():
        cells = [mean_and_spread([float(run[name]) for run in runs]) for name in FIGURES]
        seconds = np.mean([float(run["fit_seconds"]) for run in runs])
        lines.append([*key, *cells, f"{seconds:.0f}", len(runs)])
    heads = ["detector", "parameters", "training rows", "precision", "recall", "F1", "AUROC"]
    return markdown([*heads, "fit s", "seeds"], lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the missing rows of the CSV, and print the table of all rows."""
    parser = parser_of(__doc__)
    add_detectors(parser, ["BiGAN", "knn", "iforest"])
    add = parser.add_argument
    add("--data", type=Path, required=True, help="folder with kddcup.data_10_percent.gz")
    add("--max-train", type=int, default=10_000, help="training rows of the half that is drawn")
    add_parameters(parser)
    args = parser.parse_args(argv)
    planned = [
        KddRun(
            name="kddcup99",
            detector=detector,
            params=as_params(args, detector),
            max_train=args.max_train,
            seed=seed,
            threads=args.threads,
        )
        for seed in args.seeds
        for detector in args.detectors
    ]
    went_well = run_all(planned, args, lambda run: measure(run, args.data))
    print(report(args.out))
    return 0 if went_well else 1


if __name__ == "__main__":
    sys.exit(main())
