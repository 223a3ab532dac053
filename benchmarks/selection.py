"""Measure the rank correlation of the score against simulated anomalies with the true AUROC.

    python benchmarks/selection.py --data DATA --detectors GANomaly --out selection.csv

On each public set a grid of settings is fitted to four fifths of the training rows, scored without
labels on the last fifth, and with labels on the test set. The reported figures are Spearman's rank
correlation of the two over the settings, and the true AUROC of the setting with the best score, of
the default, of a random choice (the mean over the settings) and of the best setting; with 95 %
intervals from resampling the sets.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from detectors import our_detectors
from markdown_tables import markdown
from numpy.typing import NDArray
from protocols import load_split
from runs import Run, add_detectors, add_sets, grouped, parser_of, rows_of, run_all
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from gandetect.metrics import scores_of
from gandetect.selection import ROW_KINDS, simulated_anomaly_scorer

# Settings that need a separate fit; the first values are the defaults.
FITS = [
    {"latent_dim": latent_dim, "learning_rate": learning_rate}
    for latent_dim, learning_rate in itertools.product(("auto", 2, "d"), (1e-3, 1e-4))
]
SCORES = (None, "paper", "reconstruction", "neighbours")
N_RESAMPLES = 2000


@dataclass(kw_only=True)
class SelectionRun(Run):
    """One setting, with its true AUROC and its scores without labels."""

    KEY: ClassVar[tuple[str, ...]] = ("name", "detector", "seed", "setting")

    setting: str  # JSON
    auroc: float | None = None
    simulated: float | None = None
    permuted: float | None = None
    shifted: float | None = None
    uniform: float | None = None


def settings_of(detector: str) -> list[dict[str, Any]]:
    """Return the settings of a detector: those that need a fit, combined with each score."""
    parts = our_detectors()[detector].part_weights
    scores = [score for score in SCORES if score in (None, "paper") or score in parts]
    return [{**fit, "score": score} for fit in FITS for score in scores]


def measure(run: SelectionRun, data: Path) -> Iterator[SelectionRun]:
    """Fit once, and measure all scores of the fitted detector."""
    split = load_split(data, "adbench", run.name, run.seed)
    rows = np.random.default_rng(run.seed).permutation(len(split.X_train))
    kept, trained = np.split(split.X_train[rows], [max(len(rows) // 5, 2)])
    setting = json.loads(run.setting)
    fit = {name: value for name, value in setting.items() if name != "score"}
    if fit["latent_dim"] == "d":
        fit["latent_dim"] = trained.shape[1]
    Detector = our_detectors()[run.detector]
    # A detector fitted with all parts in its score can return each part as the score.
    parts = [
        name for name, (of_rows, _) in Detector.part_weights.items() if of_rows or name in SCORES
    ]
    score = dict.fromkeys(parts, 1.0)
    detector = Detector(random_state=run.seed, score=score, **fit).fit(trained)
    for other in settings_of(run.detector):
        if {**other, "score": setting["score"]} != setting:
            continue
        detector.set_params(score=other["score"])
        by_kind = simulated_anomaly_scorer.by_kind(detector, kept)
        auroc = roc_auc_score(split.y_test, scores_of(detector, split.X_test))
        yield replace(
            run,
            setting=json.dumps(other),
            auroc=round(float(auroc), 6),
            simulated=round(float(np.mean(list(by_kind.values()))), 6),
            **{kind: round(value, 6) for kind, value in by_kind.items()},
        )


def figures_of_a_set(rows: list[dict[str, str]], criterion: str) -> NDArray:
    """Return correlation, and AUROC of the choice, default, random and best: means over seeds."""
    figures = []
    for group in grouped(rows, ["seed"]).values():
        auroc, score = (np.array([float(r[c]) for r in group]) for c in ("auroc", criterion))
        is_default = [json.loads(r["setting"]) == {**FITS[0], "score": None} for r in group]
        is_constant = np.ptp(score) == 0 or np.ptp(auroc) == 0
        correlation = 0.0 if is_constant else spearmanr(score, auroc).statistic
        best = auroc[score == score.max()].mean()
        figures.append([correlation, best, auroc[is_default].mean(), auroc.mean(), auroc.max()])
    return np.mean(figures, axis=0)


def report(path: Path) -> str:
    """Return a table: means over the sets, with intervals, for each detector and criterion."""
    rng = np.random.default_rng(0)
    lines = []
    for (detector,), rows in grouped(rows_of(path, SelectionRun), ["detector"]).items():
        for criterion in ("simulated", *ROW_KINDS):
            by_set = grouped(rows, ["name"]).values()
            figures = np.array([figures_of_a_set(group, criterion) for group in by_set])
            drawn = rng.integers(len(figures), size=(N_RESAMPLES, len(figures)))
            low, high = np.percentile(figures[drawn].mean(axis=1), [2.5, 97.5], axis=0)
            means = figures.mean(axis=0)
            cells = [
                f"{m:.3f} ({a:.3f} to {b:.3f})" for m, a, b in zip(means, low, high, strict=True)
            ]
            lines.append([detector, criterion, *cells])
    heads = ["correlation", "AUROC of the pick", "the default", "at random", "the best"]
    return markdown(["detector", "criterion", *heads], lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark and print its table."""
    parser = parser_of(__doc__)
    add_detectors(parser)
    add_sets(parser)
    args = parser.parse_args(argv)
    planned = [
        SelectionRun(name=name, detector=detector, seed=seed, setting=json.dumps(setting))
        for name, seed, detector in itertools.product(args.sets, args.seeds, args.detectors)
        for setting in settings_of(detector)
    ]
    went_well = run_all(planned, args, lambda run: measure(run, args.data))
    print(report(args.out))
    return 0 if went_well else 1


if __name__ == "__main__":
    sys.exit(main())
