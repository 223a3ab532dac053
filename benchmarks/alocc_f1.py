"""The MNIST experiment of ALOCC: F1 of the inliers with 10 to 50 % outliers; append to a CSV.

    python benchmarks/alocc_f1.py --data DATA --out benchmarks/results/alocc_f1.csv
    python benchmarks/alocc_f1.py --data DATA --along --epochs 40 --out along.csv

Each digit in turn is the inlier; the outliers of the test set are the nine others (section 4 of
"Adversarially Learned One-Class Classifier for Novelty Detection", CVPR 2018). The splits are
those of the protocol mnist-one-normal, except that `N_HELD` training images are held out for a
threshold.

F1 is measured for three thresholds τ. "train" flags 10 % of the training images and "held" 5 % of
the held-out images; both do not use the test set. "best" is the largest F1 of all τ on the test
set, an upper bound. The paper does not report how its τ was chosen.

With ``--along`` the test set is scored every few epochs of a training instead, with the current
weights and with their exponential moving average, each without and with the second phase
(`tuning_fraction`). The figures are the AUROC of D(R(x)), the published score, and of the
reconstruction error.

Fits that the file already contains are skipped. F1 and curves are written to different files.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from markdown_tables import markdown, mean_and_spread
from numpy.typing import NDArray
from protocols import Split, load_split, select
from runs import Run, grouped, parser_of, rows_of, run_all
from sklearn.metrics import roc_auc_score

from gandetect import ExponentialMovingAverage
from gandetect.detectors.alocc import ALOCCDetector
from gandetect.metrics import f1_over_tau
from gandetect.training import current_run

OUTLIER_SHARES = (0.1, 0.2, 0.3, 0.4, 0.5)
PUBLISHED = (0.97, 0.92, 0.92, 0.91, 0.88)  # D(R(X)) in figure 8, read from the vector graphic
SCORES = ("default", "paper", "reconstruction")
N_HELD = 400
EVERY_N_EPOCHS = 2
TUNING_FRACTIONS = (0.0, 0.3)


@dataclass(kw_only=True)
class F1Run(Run):
    """One fit, score and share of outliers; all runs of one fit are measured together."""

    KEY: ClassVar[tuple[str, ...]] = ("name", "seed", "epochs", "score", "outlier_share")

    epochs: int | str
    score: str = SCORES[0]
    outlier_share: float = OUTLIER_SHARES[0]
    f1_best: float | None = None
    f1_train: float | None = None
    f1_held: float | None = None
    f1_constant: float | None = None
    auroc: float | None = None
    fit_seconds: float | None = None


@dataclass(kw_only=True)
class AlongRun(Run):
    """One fit, epoch and kind of weights; all runs of one fit are measured together."""

    KEY: ClassVar[tuple[str, ...]] = (
        "name",
        "seed",
        "epochs",
        "tuning_fraction",
        "epoch",
        "average",
    )

    epochs: int | str
    tuning_fraction: float
    epoch: int = EVERY_N_EPOCHS
    average: int = 0  # 1: exponential moving average of the weights
    auroc_refined: float | None = None
    auroc_reconstruction: float | None = None


def measure_f1(run: F1Run, split: Split, parameters: dict[str, Any]) -> Iterator[F1Run]:
    """Fit one detector; yield a run for each score and share of outliers."""
    X_train, X_held = split.X_train[:-N_HELD], split.X_train[-N_HELD:]
    start = time.perf_counter()
    detector = ALOCCDetector(contamination=0.1, random_state=run.seed, **parameters).fit(X_train)
    fit_seconds = round(time.perf_counter() - start, 1)
    for name in SCORES:
        detector.set_params(score=None if name == "default" else name)
        scores = detector.anomaly_score(split.X_test)
        if name != "default":  # `fit` sets the threshold of the default score
            detector.infer_threshold(X_train, outlier_perc=10)
        taus = {
            "train": detector.threshold_,
            "held": detector.infer_threshold(X_held, outlier_perc=5).threshold_,
        }
        auroc = round(float(roc_auc_score(split.y_test, scores)), 6)
        for share in OUTLIER_SHARES:
            f1 = f1_by_threshold(split.y_test, scores, taus, share, run.seed)
            found: dict[str, Any] = {**f1, "auroc": auroc, "fit_seconds": fit_seconds}
            yield replace(run, score=name, outlier_share=share, **found)


def f1_by_threshold(
    y_test: NDArray, scores: NDArray, taus: dict[str, float], share: float, seed: int
) -> dict[str, float]:
    """Return F1 of the inliers at each threshold, the best one, and of a constant prediction."""
    drawn: dict[str, Any] = {"outlier_share": share, "random_state": seed}
    curve = f1_over_tau(y_test, scores, **drawn)
    found = {"f1_best": curve.f1.max()}
    for name, tau in taus.items():
        found[f"f1_{name}"] = f1_over_tau(y_test, scores, [tau], **drawn).f1[0]
    found["f1_constant"] = curve.constant_f1
    return {name: round(float(value), 6) for name, value in found.items()}


class AlongTraining:
    """A callback that scores a test set every few epochs, with the weights and their average.

    Parameters
    ----------
    split : Split
    every_n_epochs : int
    """

    def __init__(self, split: Split, every_n_epochs: int) -> None:
        self.split = split
        self.every_n_epochs = every_n_epochs
        self.found: list[dict[str, Any]] = []

    def setup(self, estimator: Any, context: Any) -> None:
        """Run before the first task."""

    def teardown(self, estimator: Any, context: Any) -> None:
        """Run after the last task."""

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        """Run before training and before each epoch."""

    def on_fit_task_end(self, estimator: Any, context: Any) -> None:
        """Score the test set, and restore the weights."""
        run = current_run()
        if context.task_name == "fit" or len(run.history) % self.every_n_epochs:
            return
        weights = {name: value.clone() for name, value in run.networks.state_dict().items()}
        for is_average in (False, True):
            if is_average:
                run.networks.load_state_dict(run.extra["average"], strict=False)
            aurocs = self.aurocs(run.networks.eval(), run.model.scaler)
            self.found.append({"epoch": len(run.history), "average": int(is_average), **aurocs})
        run.networks.load_state_dict(weights)

    def aurocs(self, nets: Any, scaler: Callable[[NDArray], torch.Tensor]) -> dict[str, float]:
        """Return the AUROC of the published score and the reconstruction error, over members."""
        refined, errors = [], []
        n_members = nets.discriminator.n_members
        with torch.inference_mode():
            for images in np.array_split(self.split.X_test, 20):
                x = scaler(images[:, None])
                x = x.expand(n_members, *x.shape)
                x_hat = nets.refiner(x)
                refined.append(-nets.discriminator(x_hat)[0].mean(0))
                errors.append((x - x_hat).square().flatten(2).mean((0, 2)))
        parts = {"auroc_refined": torch.cat(refined), "auroc_reconstruction": torch.cat(errors)}
        return {
            name: round(float(roc_auc_score(self.split.y_test, part)), 6)
            for name, part in parts.items()
        }


def measure_along(run: AlongRun, split: Split, parameters: dict[str, Any]) -> Iterator[AlongRun]:
    """Fit without or with the second phase; yield a run for each evaluation."""
    along = AlongTraining(split, EVERY_N_EPOCHS)
    detector = ALOCCDetector(
        random_state=run.seed, tuning_fraction=run.tuning_fraction, **parameters
    )
    # The callback of the average comes first, because the other callback uses the average.
    detector.set_callbacks(ExponentialMovingAverage(), along).fit(split.X_train)
    for found in along.found:
        yield replace(run, **found)


def f1_table(rows: list[dict[str, str]]) -> Iterator[list[str]]:
    """Yield a line for each score and threshold: mean F1 over digits, with spread over seeds."""
    yield ["published D(R(X))", *(f"{f1:.2f}" for f1 in PUBLISHED), ""]
    yield ["everything an inlier", *_f1_cells(rows, "constant"), "0.500"]
    for score in SCORES:
        of_score = [row for row in rows if row["score"] == score]
        auroc = over_seeds(of_score, "auroc")
        for threshold in ("best", "held", "train"):
            yield [f"{score}, τ {threshold}", *_f1_cells(of_score, threshold), auroc]


def _f1_cells(rows: list[dict[str, str]], threshold: str) -> list[str]:
    by_share = grouped(rows, ["outlier_share"])
    return [over_seeds(by_share[str(share),], f"f1_{threshold}") for share in OUTLIER_SHARES]


def along_table(rows: list[dict[str, str]]) -> Iterator[list[Any]]:
    """Yield a line for each training and kind of weights: AUROC in the last third of the epochs."""
    last = max((int(row["epoch"]) for row in rows), default=0)
    late = [row for row in rows if int(row["epoch"]) > last * 2 / 3]
    for (tuning_fraction, average), of_kind in grouped(
        late, ["tuning_fraction", "average"]
    ).items():
        values = np.array(
            [
                [float(row["auroc_refined"]) for row in of_fit]
                for of_fit in grouped(of_kind, ["name", "seed"]).values()
            ]
        )
        name = "average of the weights" if average == "1" else "weights as they are"
        steps = np.abs(np.diff(values, axis=1))
        figures = [values.mean(), values.min(axis=1).mean(), steps.mean() if steps.size else 0.0]
        yield [f"{name}, tuning_fraction={tuning_fraction}", *map(float, figures)]


def over_seeds(rows: list[dict[str, str]], column: str) -> str:
    """Return the mean over the digits as mean ± standard deviation over the seeds."""
    by_seed = grouped(rows, ["seed"]).values()
    return mean_and_spread(
        [np.mean([float(row[column]) for row in of_seed]) for of_seed in by_seed]
    )


def report(path: Path, epochs: int | str = "auto") -> str:
    """Return the F1 table of the fits with this number of epochs."""
    shares = [f"{share:.0%}" for share in OUTLIER_SHARES]
    heads = ["F1 of the inliers, outliers", *shares, "AUROC"]
    return markdown(heads, f1_table(_rows_with(path, F1Run, epochs)))


def report_along(path: Path, epochs: int | str = "auto") -> str:
    """Return the table of curves of the fits with this number of epochs."""
    heads = ["D(R(x)) over the last third of the epochs", "mean AUROC", "lowest", "mean step"]
    return markdown(heads, along_table(_rows_with(path, AlongRun, epochs)))


def _rows_with(path: Path, kind: type[Run], epochs: int | str) -> list[dict[str, str]]:
    return [row for row in rows_of(path, kind) if row["epochs"] == str(epochs)]


def planned_runs(names: Sequence[str], seeds: Sequence[int], epochs: Any, along: bool) -> list[Run]:
    """Return the first run of every requested fit."""
    runs: list[Run] = []
    for name in names:
        for seed in seeds:
            fit: dict[str, Any] = {
                "name": name,
                "detector": "ALOCC",
                "seed": seed,
                "epochs": epochs,
            }
            if along:
                runs += [AlongRun(**fit, tuning_fraction=share) for share in TUNING_FRACTIONS]
            else:
                runs.append(F1Run(**fit))
    return runs


def main(argv: Sequence[str] | None = None) -> int:
    """Run the missing rows of the file, and print the table."""
    parser = parser_of(__doc__)
    add = parser.add_argument
    add("--data", type=Path, required=True, help="folder with mnist.npz")
    add("--digits", default="all", help="all, tune, report or digits")
    add("--epochs", type=int, help="instead of the detector's default")
    add("--along", action="store_true", help="AUROC along the training instead of F1")
    args = parser.parse_args(argv)
    epochs = "auto" if args.epochs is None else args.epochs
    names = select("mnist-one-normal", args.digits)
    measure: Any = measure_along if args.along else measure_f1

    def measured(run: Run) -> Iterator[Run]:
        split = load_split(args.data, "mnist-one-normal", run.name, run.seed)
        yield from measure(run, split, {"epochs": epochs})

    went_well = run_all(planned_runs(names, args.seeds, epochs, args.along), args, measured)
    print((report_along if args.along else report)(args.out, epochs))
    return 0 if went_well else 1


if __name__ == "__main__":
    sys.exit(main())
