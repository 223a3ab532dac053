"""Measure how often `training_report_` reports problems of successful and of failed trainings.

    python benchmarks/training_report.py --detectors GANomaly --seeds 0-49 --out reports.csv

Successful trainings have the default settings on real data that scikit-learn includes: rows of
benign tumours (357 by 30), rows of handwritten digits (1,797 by 64) and, with `--images`, the same
digits as images. Failed trainings have learning rates of 0 and 10 and gradients of 0, with the
first three of the seeds.

    python benchmarks/training_report.py --small --out reports.csv

uses one member and few updates instead, on the tumours and on the digits as images, and one failed
training: a refiner of ALOCC whose reconstruction loss has such a small weight that it returns the
same image for every sample, on the digit 1, enlarged to 28 pixels.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from detectors import our_detectors
from markdown_tables import markdown
from numpy.typing import NDArray
from runs import Run, add_detectors, grouped, parser_of, rows_of, run_all
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.exceptions import ConvergenceWarning

from gandetect.networks import ConvNet

HEALTHY = "healthy"
CASES: dict[str, dict[str, Any]] = {
    HEALTHY: {},
    "learning_rate=0": {"learning_rate": 0},
    "learning_rate=10": {"learning_rate": 10},
    "gradients of 0": {},
}
N_BROKEN_SEEDS = 3
# One member, and narrow networks for images. The updates are more than 100, from which all rules
# apply, and sufficient for reconstructions better than the mean image.
SMALL = "healthy, small"
COLLAPSED = "collapsed refiner"
ONES = "ones of 28 pixels"
SMALL_CASES: dict[tuple[str, str], dict[str, Any]] = {
    ("breast cancer", SMALL): {"n_estimators": 1, "epochs": 20},
    ("digits as images", SMALL): {
        "n_estimators": 1,
        "epochs": 4,
        "batch_size": 32,
        "architecture": ConvNet(n_filters=4),
    },
    # The settings of Novelty_Detection, in its units, for a network without a bottleneck.
    (ONES, COLLAPSED): {
        "reconstruction_weight": 2.6e-4,
        "noise_std": 0.0955,
        "tuning_fraction": 0.0,
        "optimizer": "rmsprop",
        "weight_decay": 1e-9,
        "learning_rate": 2e-4,
        "batch_size": 32,
        "epochs": 40,
        "n_estimators": 1,
    },
}


@dataclass(kw_only=True)
class ReportRun(Run):
    """One training and its reported problems."""

    KEY: ClassVar[tuple[str, ...]] = ("name", "detector", "case", "seed")

    case: str
    n_warnings: int | None = None
    problems: str = ""


def data_of(name: str) -> NDArray:
    """Return the samples of one of the sets."""
    if name == "breast cancer":
        X, y = load_breast_cancer(return_X_y=True)
        return X[y == 1]
    digits = load_digits()
    if name == ONES:
        ones = np.kron(digits.images[digits.target == 1], np.ones((3, 3)))
        return np.pad(ones, ((0, 0), (2, 2), (2, 2)))
    return digits.images if name == "digits as images" else digits.data


def without_gradients(Detector: type) -> type:
    """Return the class of the detector with networks whose gradients are all 0."""

    class WithoutGradientsModel(Detector.model_class):
        def optimizers(self) -> dict[str, torch.optim.Optimizer]:
            for parameter in self.parameters():
                if parameter.requires_grad:
                    parameter.register_hook(torch.zeros_like)
            return super().optimizers()

    class WithoutGradients(Detector):
        model_class = WithoutGradientsModel

    return WithoutGradients


def measure(run: ReportRun) -> Iterator[ReportRun]:
    """Fit and count the warnings."""
    Detector = our_detectors()[run.detector]
    if run.case == "gradients of 0":
        Detector = without_gradients(Detector)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        parameters = CASES.get(run.case, SMALL_CASES.get((run.name, run.case)))
        detector = Detector(random_state=run.seed, **parameters).fit(data_of(run.name))
    run.n_warnings = sum(issubclass(w.category, ConvergenceWarning) for w in caught)
    run.problems = " ".join(detector.training_report_.problems)
    yield run


def report(path: Path) -> str:
    """Return a table with the number of trainings that had a warning."""
    lines = []
    for key, rows in grouped(rows_of(path, ReportRun), ["name", "detector", "case"]).items():
        n_warned = sum(int(row["n_warnings"]) > 0 for row in rows)
        problems = " ".join(sorted({word for row in rows for word in row["problems"].split()}))
        lines.append([*key, f"{n_warned} of {len(rows)}", problems])
    return markdown(["data", "detector", "case", "warned", "problems"], lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark and print its table."""
    parser = parser_of(__doc__)
    add_detectors(parser)
    parser.set_defaults(seeds=list(range(50)), detectors=list(our_detectors()))
    parser.add_argument("--images", action="store_true", help="also the digits as images")
    parser.add_argument("--small", action="store_true", help="small trainings instead")
    args = parser.parse_args(argv)
    planned = small_runs(args) if args.small else default_runs(args)
    went_well = run_all(planned, args, measure)
    print(report(args.out))
    return 0 if went_well else 1


def default_runs(args: argparse.Namespace) -> list[ReportRun]:
    """Return successful and failed trainings at the default sizes."""
    names = ["breast cancer", "digits", *(["digits as images"] if args.images else [])]
    return [
        ReportRun(name=name, detector=detector, case=case, seed=seed)
        for name, detector, case in itertools.product(names, args.detectors, CASES)
        for seed in (args.seeds if case == HEALTHY else args.seeds[:N_BROKEN_SEEDS])
    ]


def small_runs(args: argparse.Namespace) -> list[ReportRun]:
    """Return small successful trainings for each seed, and the collapsed refiner of ALOCC."""
    return [
        ReportRun(name=name, detector=detector, case=case, seed=seed)
        for (name, case), seed, detector in itertools.product(
            SMALL_CASES, args.seeds, args.detectors
        )
        if case == SMALL or (detector == "ALOCC" and seed in args.seeds[:N_BROKEN_SEEDS])
    ]


if __name__ == "__main__":
    sys.exit(main())
