"""The published figure beside ours, with the published settings and with the defaults, in a CSV.

    python benchmarks/published.py --data DATA --out benchmarks/results/published.csv
    python benchmarks/published.py --data DATA --experiments BiGAN --n-train 1000 --out small.csv

Data are those of the protocols mnist-one-normal and mnist-one-anomalous. ``--n-train`` takes the
first training images only: a row says with how many it was measured. Fits that the file already
holds are skipped.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from detectors import our_detectors
from markdown_tables import markdown, mean_and_spread
from options import words
from protocols import Split, load_split
from runs import Run, grouped, parser_of, rows_of, run_all
from sklearn.metrics import average_precision_score, roc_auc_score

from gandetect import ExponentialMovingAverage
from gandetect.metrics import f1_over_tau
from gandetect.networks import ConvNet

SETTINGS = ("published", "default")
OUTLIER_SHARE = 0.3


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A task that a paper or its code reports on, and the settings that it was reported with."""

    detector: str
    protocol: str
    digit: str
    measure: str
    # The figure, and where it stands; empty if the paper has none of this task.
    published: str
    parameters: Mapping[str, Any]
    decay: float | None = None  # of the average of the weights
    default_parameters: Mapping[str, Any] = field(default_factory=dict)


_BIGAN = {
    "reconstruction_weight": 0.0,
    "stochastic_encoder": False,
    "n_estimators": 1,
    "score": "paper",
}
EXPERIMENTS = {
    "BiGAN MNIST 0 normal": Experiment(
        detector="BiGAN",
        protocol="mnist-one-normal",
        digit="0",
        measure="auroc",
        published="",
        parameters=_BIGAN,
    ),
    "BiGAN MNIST 0 normal, dropout and averaged weights": Experiment(
        detector="BiGAN",
        protocol="mnist-one-normal",
        digit="0",
        measure="auroc",
        published="",
        parameters={**_BIGAN, "architecture": ConvNet(dropout=0.2)},
        decay=0.99,
    ),
    "ALOCC MNIST 1 normal": Experiment(
        detector="ALOCC",
        protocol="mnist-one-normal",
        digit="1",
        measure="f1",
        published="0.918 (Novelty_Detection, D(R(x)) at τ = 0.4, read off its plot)",
        parameters={
            "noise_std": 0.0955,
            "reconstruction_weight": 0.4,
            "rec_bound": 0.038,
            "tuning_fraction": 0.0,
            "optimizer": "rmsprop",
            "weight_decay": 1e-9,
            "learning_rate": 2e-4,
            "batch_size": 128,
            "epochs": 100,
            "validation_fraction": 0.2,
            "n_estimators": 1,
            "score": "paper",
        },
    ),
    "GANomaly MNIST 2 anomalous": Experiment(
        detector="GANomaly",
        protocol="mnist-one-anomalous",
        digit="2",
        measure="auroc",
        published="0.920 (first arXiv version, read off its table)",
        parameters={"score": "paper", "n_estimators": 1},
    ),
}


@dataclass(kw_only=True)
class PublishedRun(Run):
    """One fit of an experiment."""

    KEY: ClassVar[tuple[str, ...]] = ("name", "settings", "seed", "n_train")

    settings: str
    n_train: int
    auroc: float | None = None
    average_precision: float | None = None
    f1: float | None = None  # of the inliers, best τ, 30 % outliers in the test set
    n_epochs: int | None = None
    problems: str = ""
    fit_seconds: float | None = None


def measure(run: PublishedRun, split: Split) -> Iterator[PublishedRun]:
    """Fit once, and judge the scores of the test set."""
    experiment = EXPERIMENTS[run.name]
    is_published = run.settings == "published"
    parameters = experiment.parameters if is_published else experiment.default_parameters
    detector = our_detectors()[run.detector](random_state=run.seed, **parameters)
    if is_published and experiment.decay is not None:
        detector.set_callbacks(ExponentialMovingAverage(experiment.decay))
    start = time.perf_counter()
    detector.fit(split.X_train[: run.n_train])
    run.fit_seconds = round(time.perf_counter() - start, 1)
    scores = detector.anomaly_score(split.X_test)
    run.auroc = round(float(roc_auc_score(split.y_test, scores)), 6)
    run.average_precision = round(float(average_precision_score(split.y_test, scores)), 6)
    curve = f1_over_tau(split.y_test, scores, outlier_share=OUTLIER_SHARE, random_state=run.seed)
    run.f1 = round(float(curve.f1.max()), 6)
    run.n_epochs = detector.n_iter_
    run.problems = " ".join(detector.training_report_.problems)
    yield run


def report(path: Path) -> str:
    """A line an experiment and number of training images."""
    lines = []
    groups = grouped(rows_of(path, PublishedRun), ["name", "n_train"])
    for (name, n_train), rows in groups.items():
        experiment = EXPERIMENTS[name]
        by_settings = grouped(rows, ["settings"])
        ours = [
            mean_and_spread([float(row[experiment.measure]) for row in found]) if found else ""
            for found in (by_settings.get((settings,), []) for settings in SETTINGS)
        ]
        n_seeds = len({row["seed"] for row in rows})
        lines.append(
            [name, experiment.measure, experiment.published or "none", *ours, n_train, str(n_seeds)]
        )
    head = ["task", "figure", "published", "published settings", "default", "images", "seeds"]
    return markdown(head, lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark and print its table."""
    parser = parser_of(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with mnist.npz")
    parser.add_argument("--n-train", type=int, default=4000, help="training images of a fit")
    for name, choices in [("experiments", list(EXPERIMENTS)), ("settings", list(SETTINGS))]:
        parser.add_argument(
            f"--{name}", type=words, default=choices, help="beginnings of names, comma-separated"
        )
    args = parser.parse_args(argv)
    chosen = [name for name in EXPERIMENTS if name.startswith(tuple(args.experiments))]
    planned = [
        PublishedRun(
            name=name,
            detector=EXPERIMENTS[name].detector,
            settings=settings,
            seed=seed,
            n_train=args.n_train,
        )
        for name in chosen
        for settings in SETTINGS
        if settings in args.settings
        for seed in args.seeds
    ]
    if not planned:
        parser.error(f"--experiments: choose from {', '.join(EXPERIMENTS)}.")

    def measured(run: PublishedRun) -> Iterator[PublishedRun]:
        experiment = EXPERIMENTS[run.name]
        split = load_split(args.data, experiment.protocol, experiment.digit, run.seed)
        return measure(run, split)

    went_well = run_all(planned, args, measured)
    print(report(args.out))
    return 0 if went_well else 1


if __name__ == "__main__":
    sys.exit(main())
