"""ALOCC's own experiment on MNIST: F1 of the inliers with 10 to 50 % outliers; append to a CSV.

    python benchmarks/alocc_f1.py --data DATA --out benchmarks/results/alocc_f1.csv
    python benchmarks/alocc_f1.py --data DATA --along --epochs 40 --out along.csv

Each digit in turn is the inlier; the outliers of the test set are the nine others (section 4 of
"Adversarially Learned One-Class Classifier for Novelty Detection", CVPR 2018). The splits are
those of the protocol mnist-one-normal, but for `N_HELD` training images that are kept for a
threshold.

F1 is given for three thresholds τ. "train" and "held" let the detector flag 10 % of the training
images, or 5 % of held-out ones, and know nothing of the test set. "best" is the largest F1 of all
τ, found on the test set: an upper bound. The paper does not say how its τ was chosen.

``--along`` scores the test set every few epochs of a training instead, with the weights as they
are and with their exponential moving average, each without and with the second phase
(`tuning_fraction`): AUROC of D(R(x)), the published score, and of the reconstruction error.

Fits that the file already holds are skipped.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from protocols import Split, load_split, select
from sklearn.metrics import roc_auc_score
from threadpoolctl import threadpool_limits

from gandetect import ExponentialMovingAverage
from gandetect.detectors.alocc import ALOCCDetector
from gandetect.metrics import f1_over_tau

OUTLIER_SHARES = (0.1, 0.2, 0.3, 0.4, 0.5)
PUBLISHED = (0.97, 0.92, 0.92, 0.91, 0.88)  # D(R(X)) in figure 8, read from the vector graphic
SCORES = ("default", "paper", "reconstruction")
N_HELD = 400
EVERY_N_EPOCHS = 2
TUNING_FRACTIONS = (0.0, 0.3)

Rows = list[dict[str, Any]]


def f1_rows(split: Split, seed: int, parameters: dict[str, Any]) -> Rows:
    """Fit one detector; give a row for each score and share of outliers."""
    X_train, X_held = split.X_train[:-N_HELD], split.X_train[-N_HELD:]
    start = time.perf_counter()
    detector = ALOCCDetector(contamination=0.1, random_state=seed, **parameters).fit(X_train)
    fit_seconds = round(time.perf_counter() - start, 1)
    rows = []
    for name in SCORES:
        detector.set_params(score=None if name == "default" else name)
        scores = detector.anomaly_score(split.X_test)
        if name != "default":  # whose threshold `fit` has set
            detector.infer_threshold(X_train, outlier_perc=10)
        taus = {
            "train": detector.threshold_,
            "held": detector.infer_threshold(X_held, outlier_perc=5).threshold_,
        }
        auroc = round(float(roc_auc_score(split.y_test, scores)), 6)
        for share in OUTLIER_SHARES:
            f1 = f1_by_threshold(split.y_test, scores, taus, share, seed)
            rows.append(
                {"score": name, "outlier_share": share, **f1, "auroc": auroc, "fit_s": fit_seconds}
            )
    return rows


def f1_by_threshold(
    y_test: NDArray, scores: NDArray, taus: dict[str, float], share: float, seed: int
) -> dict[str, float]:
    """F1 of the inliers at each threshold, at the best one, and of a constant answer."""
    drawn: dict[str, Any] = {"outlier_share": share, "random_state": seed}
    curve = f1_over_tau(y_test, scores, **drawn)
    found = {"f1_best": curve.f1.max()}
    for name, tau in taus.items():
        found[f"f1_{name}"] = f1_over_tau(y_test, scores, [tau], **drawn).f1[0]
    found["f1_constant"] = curve.constant_f1
    return {name: round(float(value), 6) for name, value in found.items()}


class AlongTraining:
    """A callback that scores a test set every few epochs, by the weights and by their average.

    Parameters
    ----------
    split : Split
    every_n_epochs : int
    """

    def __init__(self, split: Split, every_n_epochs: int) -> None:
        self.split = split
        self.every_n_epochs = every_n_epochs
        self.rows: Rows = []

    def setup(self, estimator: Any, context: Any) -> None:
        """Run before the first task."""

    def teardown(self, estimator: Any, context: Any) -> None:
        """Run after the last task."""

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        """Run before training and before each epoch."""

    def on_fit_task_end(self, estimator: Any, context: Any) -> None:
        """Score, and leave the weights as they were."""
        run = estimator.current_run()
        if context.task_name == "fit" or len(run.history) % self.every_n_epochs:
            return
        weights = {name: value.clone() for name, value in run.networks.state_dict().items()}
        for is_average in (False, True):
            if is_average:
                run.networks.load_state_dict(run.extra["average"], strict=False)
            aurocs = self.aurocs(run.networks.eval(), estimator.scaler_)
            self.rows.append({"epoch": len(run.history), "average": int(is_average), **aurocs})
        run.networks.load_state_dict(weights)

    def aurocs(self, nets: Any, scaler: Callable[[NDArray], torch.Tensor]) -> dict[str, float]:
        """AUROC of the published score and of the reconstruction error, means over members."""
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


def along_rows(split: Split, seed: int, parameters: dict[str, Any]) -> Rows:
    """Fit without and with the second phase; give a row for each scoring."""
    rows = []
    for tuning_fraction in TUNING_FRACTIONS:
        along = AlongTraining(split, EVERY_N_EPOCHS)
        detector = ALOCCDetector(random_state=seed, tuning_fraction=tuning_fraction, **parameters)
        # The average first: it is what the other one scores by.
        detector.set_callbacks(ExponentialMovingAverage(), along).fit(split.X_train)
        rows += [{"tuning_fraction": tuning_fraction, **row} for row in along.rows]
    return rows


def read(path: Path) -> list[dict[str, str]]:
    """Read the rows of a file of results, none if there is no file."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def append(path: Path, rows: Rows) -> None:
    """Append the rows of one fit at once, and a header to a new file."""
    is_new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        if is_new:
            writer.writeheader()
        writer.writerows(rows)


def report_f1(rows: list[dict[str, str]]) -> Iterator[str]:
    """Make a table a score and threshold: mean F1 over the digits, mean and spread over seeds."""
    yield "| F1 of the inliers, outliers in % | 10 | 20 | 30 | 40 | 50 | AUROC |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    yield table_row("published D(R(X))", [*(f"{f1:.2f}" for f1 in PUBLISHED), ""])
    yield table_row("everything an inlier", [*f1_cells(rows, "constant"), "0.500"])
    for score in SCORES:
        of_score = [row for row in rows if row["score"] == score]
        auroc = mean_and_spread(of_score, "auroc")
        for threshold in ("best", "held", "train"):
            yield table_row(f"{score}, τ {threshold}", [*f1_cells(of_score, threshold), auroc])


def f1_cells(rows: list[dict[str, str]], threshold: str) -> list[str]:
    """F1 at each share of outliers."""
    by_share = {
        share: [row for row in rows if float(row["outlier_share"]) == share]
        for share in OUTLIER_SHARES
    }
    return [mean_and_spread(of_share, f"f1_{threshold}") for of_share in by_share.values()]


def report_along(rows: list[dict[str, str]]) -> Iterator[str]:
    """Make a table: AUROC over the last third of the training, its mean and its lowest."""
    yield "| D(R(x)) over the last third of the epochs | mean AUROC | lowest | mean step |"
    yield "| --- | --- | --- | --- |"
    last = max((int(row["epoch"]) for row in rows), default=0)
    curves: dict[tuple[str, str], dict[tuple[str, str], list[float]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for row in rows:
        if int(row["epoch"]) > last * 2 / 3:
            curve = curves[row["tuning_fraction"], row["average"]][row["digit"], row["seed"]]
            curve.append(float(row["auroc_refined"]))
    for (tuning_fraction, average), of_fits in curves.items():
        values = np.array(list(of_fits.values()))
        name = "average of the weights" if average == "1" else "weights as they are"
        steps = np.abs(np.diff(values, axis=1))
        figures = [values.mean(), values.min(axis=1).mean(), steps.mean() if steps.size else 0.0]
        yield table_row(
            f"{name}, tuning_fraction={tuning_fraction}", [f"{figure:.3f}" for figure in figures]
        )


def mean_and_spread(rows: list[dict[str, str]], column: str) -> str:
    """Mean over the seeds of the mean over the digits, ± its standard deviation over the seeds."""
    by_seed = defaultdict(list)
    for row in rows:
        by_seed[row["seed"]].append(float(row[column]))
    means = [np.mean(values) for values in by_seed.values()]
    spread = f" ± {np.std(means, ddof=1):.3f}" if len(means) > 1 else ""
    return f"{np.mean(means):.3f}{spread}"


def table_row(name: str, cells: Sequence[str]) -> str:
    """One row of a table in Markdown."""
    return f"| {name} | {' | '.join(cells)} |"


def main(argv: Sequence[str] | None = None) -> int:
    """Run what the file does not hold yet; print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data", type=Path, required=True, help="folder with mnist.npz")
    add("--out", type=Path, required=True, help="the CSV to append to, one for each kind of table")
    add("--seeds", default="0,1,2", help="each fixes the split and the detector")
    add("--digits", default="all", help="all, tune, report or digits")
    add("--epochs", type=int, help="instead of the detector's default")
    add("--along", action="store_true", help="AUROC along the training instead of F1")
    add("--threads", type=int, default=1, help="CPU threads")
    args = parser.parse_args(argv)

    if any(("average" in row) != args.along for row in read(args.out)):
        parser.error(f"{args.out} holds the other kind of table; choose a new file.")
    epochs = "auto" if args.epochs is None else args.epochs
    torch.set_num_threads(args.threads)
    rows_of = along_rows if args.along else f1_rows
    for digit in select("mnist-one-normal", args.digits):
        for seed in map(int, args.seeds.split(",")):
            key = {"digit": digit, "seed": str(seed), "epochs": str(epochs)}
            if any(key.items() <= row.items() for row in read(args.out)):
                continue
            split = load_split(args.data, "mnist-one-normal", digit, seed)
            with threadpool_limits(args.threads):
                rows = rows_of(split, seed, {"epochs": epochs})
            append(args.out, [{**key, **row} for row in rows])
            print(f"digit {digit}, seed {seed}: done", flush=True)
    report = report_along if args.along else report_f1
    print("\n".join(report([row for row in read(args.out) if row["epochs"] == str(epochs)])))
    return 0


if __name__ == "__main__":
    sys.exit(main())
