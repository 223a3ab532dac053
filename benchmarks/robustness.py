"""Measure the AUROC of scores under attack; append one row for each attack to a CSV.

    python benchmarks/robustness.py --data DATA --out results/robustness.csv

A detector is fitted to the normal samples of the splits of `quality.py`. Every test sample is
perturbed, within a largest change of a value, so that normal samples score higher and anomalies
lower: projected gradient descent in 20 steps on the score (`gandetect.attacks.attack_score`). Sizes
are shares of the standard deviation of a column, or of the range of pixels. The baselines are the
mean distance to the 5 nearest training samples and, for images, the largest distance of a patch of
pixels to the nearest training patch; both have a gradient almost everywhere.

A score may seem robust only because its gradient is not useful to an attack. Therefore there are
three more attacks of each size: random corners of the ball, an attack transferred from another
detector, and descent from several random points with a fourth of the step size. "worst" uses for
each sample the most wrong score of all these attacks, and is reported.

With ``--tasks guarded`` the detector is AdversarialVAE, which protects a classifier of rows that
scikit-learn includes, and "adaptive" is an attack with access to both (`attack_defence`). The sizes
are shares of the range of a column. The reported figure is the share of correctly classified
samples that become misclassified without an alarm, at a threshold of 5 % false alarms.

Runs that the CSV already contains are skipped, so that an interrupted benchmark can be continued.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from adversarial_tasks import make_task
from detectors import is_ours, make_detector
from markdown_tables import markdown, mean_and_spread
from numpy.typing import NDArray
from options import add_parameters, as_params, words
from protocols import Split, load_split
from runs import Run, grouped, parser_of, rows_of, run_all
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import roc_auc_score
from torch import Tensor
from torch.nn import functional as F

from gandetect import AdversarialVAEDetector, ConvNet
from gandetect.attacks import attack_defence, attack_score, projected_gradient
from gandetect.model.ascent import Ball, highest
from gandetect.model.patches import PatchBank, drawn_patches

IMAGES = "mnist-one-normal"
# The largest changes: in standard deviations for rows, in shares of the range of pixels for images.
SIZES = {"adbench": (0.05, 0.1), IMAGES: (2 / 255, 8 / 255), "guarded": (0.05, 0.1)}
# Three small sets, and a digit, of the report half.
NAMES = {
    "adbench": ("14_glass", "37_Stamps", "4_breastw"),
    IMAGES: ("7",),
    "guarded": ("breast_cancer/LogisticRegression", "digits/MLP"),
}
DETECTORS = {
    "adbench": ("GANomaly", "BiGAN", "ALOCC", "AdversarialVAE", "RDNA", "5-NN"),
    IMAGES: ("GANomaly", "BiGAN", "ALOCC", "AdversarialVAE", "RDNA", "5-NN", "nearest patches"),
    "guarded": ("AdversarialVAE",),
}
N_STEPS, N_STARTS = 20, 3
# Trainings are smaller than the defaults, because an attack in each update takes the time of
# several updates: training samples, updates (half as many for RDNA, whose updates take longest),
# and parameters. They are the same with and without `robust`.
N_TRAIN = {"adbench": 1000, IMAGES: 500}
N_UPDATES = {"adbench": 400, IMAGES: 300}
SMALLER = {
    "adbench": {"n_estimators": 2, "batch_size": 64},
    IMAGES: {"n_estimators": 1, "architecture": ConvNet(n_filters=8)},
}
FALSE_ALARM_PERC = 5.0
GUARDED = ("noise", "pgd", "adaptive")


@dataclass(kw_only=True)
class RobustnessRun(Run):
    """One detector under one attack."""

    KEY: ClassVar[tuple[str, ...]] = (
        *("task", "name", "detector", "params", "seed", "attack", "eps"),
    )

    task: str
    params: str
    attack: str = "none"
    eps: float = 0.0
    n_train: int | None = None
    n_test: int | None = None
    auroc: float | None = None
    fooled: float | None = None  # guarded: share of correctly classified samples
    evaded: float | None = None  # share misclassified without an alarm
    fit_seconds: float | None = None


class Differentiable:
    """A differentiable score in torch operations, of samples scaled as in gandetect."""

    def fit(self, X: NDArray) -> Differentiable:
        """Fit the scaling, and store the references of distances."""
        self.is_image = X.ndim > 2
        if self.is_image:
            self.center, self.scale = np.zeros(1), np.array(255.0)
        else:
            self.center, self.scale = X.mean(0), X.std(0)
            self.scale[self.scale == 0] = 1.0
        self.learn(self.scaled(torch.from_numpy(X.astype(np.float64))))
        return self

    def scaled(self, x: Tensor) -> Tensor:
        """Return samples in standard deviations, or in shares of the range."""
        return (x - torch.from_numpy(self.center)) / torch.from_numpy(np.asarray(self.scale))

    def learn(self, x: Tensor) -> None:
        """Store references from scaled samples."""
        raise NotImplementedError

    def distance(self, x: Tensor) -> Tensor:
        """Return the score of scaled samples."""
        raise NotImplementedError

    def anomaly_score(self, X: NDArray) -> NDArray:
        """Return scores that are larger for more anomalous samples."""
        with torch.no_grad():
            return self.distance(self.scaled(torch.from_numpy(X.astype(np.float64)))).numpy()

    def attacked(
        self, X: NDArray, y: NDArray, radius: NDArray, share: float, n_starts: int
    ) -> NDArray:
        """Attack the score as `attack_score` does for detectors of gandetect."""
        generator, found = torch.Generator().manual_seed(0), []
        sign = torch.from_numpy(np.where(y == 1, -1.0, 1.0))
        for x, s in zip(
            torch.from_numpy(X.astype(np.float64)).split(100), sign.split(100), strict=True
        ):
            limits = (0.0, 255.0) if self.is_image else None
            ball = Ball(x, torch.from_numpy(radius), limits=limits)
            best = None
            for i in range(n_starts):
                start = None if i == 0 else ball.drawn(generator)
                moved, value = highest(
                    lambda x, s=s: s * self.distance(self.scaled(x)),
                    ball,
                    n_steps=N_STEPS,
                    step=ball.eps * share,
                    start=start,
                )
                if best is None:
                    best, kept = value, moved
                is_better = (value > best).reshape(-1, *[1] * (x.ndim - 1))
                best, kept = torch.maximum(best, value), torch.where(is_better, moved, kept)
            found.append(kept.detach())
        return torch.cat(found).numpy()


class NearestSamples(Differentiable):
    """Mean distance to the 5 nearest training samples."""

    def learn(self, x: Tensor) -> None:
        """Store the training samples."""
        self.references = x.flatten(1)

    def distance(self, x: Tensor) -> Tensor:
        """Return the mean Euclidean distance."""
        distances = torch.cdist(x.flatten(1), self.references)
        return distances.topk(5, largest=False).values.mean(1)


class NearestPatches(Differentiable):
    """Largest distance of a patch of 5 x 5 pixels to the nearest of 2,000 training patches."""

    def learn(self, x: Tensor) -> None:
        """Store patches of the training images."""
        generator, maps = torch.Generator().manual_seed(0), self.maps(x)
        patches = drawn_patches(maps, 2 + 2000 // len(x), stride=1, generator=generator)
        self.bank = PatchBank.of([patches], 2000, stride=1, generator=generator)

    def maps(self, x: Tensor) -> Tensor:
        """Return the neighbourhood of every second pixel as its features."""
        side = (x.shape[1] - 1) // 2 + 1
        unfolded = F.unfold(x[:, None].float(), 5, padding=2, stride=2)
        return unfolded.unflatten(2, (side, -1))

    def distance(self, x: Tensor) -> Tensor:
        """Return the largest distance over all patches of an image."""
        return self.bank(self.maps(x))[0].amax(dim=(1, 2)).double()


BASELINES: dict[str, Callable[[], Differentiable]] = {
    "5-NN": NearestSamples,
    "nearest patches": NearestPatches,
}


def measure(run: RobustnessRun, data: Path) -> Iterator[RobustnessRun]:
    """Fit one detector and measure it under every attack."""
    if run.task == "guarded":
        yield from measure_guarded(run)
        return
    split = _thinned(load_split(data, run.task, run.name, run.seed), run)
    X, y = split.X_test, split.y_test
    start = time.perf_counter()
    detector = _fitted(run, split.X_train)
    run.fit_seconds = round(time.perf_counter() - start, 2)
    run.n_train, run.n_test = len(split.X_train), len(X)
    clean = detector.anomaly_score(X)
    run.auroc = _auroc(y, clean)
    yield run
    surrogate = _surrogate_of(run, split.X_train)
    sign, random = np.where(y == 1, -1.0, 1.0), np.random.default_rng(run.seed)
    for eps in SIZES[run.task]:
        # In the units of X, so that attacks on detectors with different scalings are alike.
        radius = eps * np.asarray(255.0 if X.ndim > 2 else split.X_train.std(0))
        step = 2.5 / N_STEPS
        moved = {
            "noise": _corners(X, radius, random),
            "transfer": _attacked(surrogate, X, y, radius, step, 1),
            "pgd": _attacked(detector, X, y, radius, step, 1),
            "restarts": _attacked(detector, X, y, radius, step / 4, N_STARTS),
        }
        scores = {name: detector.anomaly_score(x) for name, x in moved.items()}
        scores["worst"] = sign * np.max([sign * s for s in (clean, *scores.values())], axis=0)
        for attack, found in scores.items():
            yield replace(run, attack=attack, eps=round(eps, 6), auroc=_auroc(y, found))


def _thinned(split: Split, run: RobustnessRun) -> Split:
    """Return at most 150 test samples of each class, and fewer training samples."""
    rng = np.random.default_rng(run.seed)
    kept = [rng.permutation(np.flatnonzero(split.y_test == kind))[:150] for kind in (0, 1)]
    rows = np.sort(np.concatenate(kept))
    n_train = N_TRAIN[run.task]
    return Split(split.X_train[:n_train], split.X_test[rows], split.y_test[rows])


def _fitted(run: RobustnessRun, X: NDArray) -> Any:
    if not is_a_detector_of_ours(run.detector):
        return BASELINES[run.detector]().fit(X)
    settings: dict[str, Any] = dict(SMALLER[run.task])
    if run.task == IMAGES:
        settings["batch_size"] = 16 if run.detector == "RDNA" else 64
    n_updates = N_UPDATES[run.task] // (2 if run.detector == "RDNA" else 1)
    settings["epochs"] = max(round(n_updates / -(-len(X) // settings["batch_size"])), 1)
    params = {**settings, **json.loads(run.params)}
    return make_detector(run.detector, run.seed, standardise=False, **params).fit(X)


def is_a_detector_of_ours(name: str) -> bool:
    """Return whether it is a detector of gandetect, which takes parameters."""
    return name not in BASELINES and is_ours(name)


def _surrogate_of(run: RobustnessRun, X: NDArray) -> Any:
    """Return the source of transferred attacks: 5-NN, and a small network for 5-NN and patches."""
    if is_a_detector_of_ours(run.detector):
        return NearestSamples().fit(X)
    return _fitted(replace(run, detector="AdversarialVAE", params="{}"), X)


def _attacked(
    detector: Any, X: NDArray, y: NDArray, radius: NDArray, share: float, n_starts: int
) -> NDArray:
    """Attack by at most `radius`, in steps of this share of it."""
    if isinstance(detector, Differentiable):
        return detector.attacked(X, y, radius, share, n_starts)
    return attack_score(
        detector,
        X,
        y == 1,
        eps=radius,
        units="X",
        n_steps=N_STEPS,
        step_size=share * float(radius.max()),
        n_starts=n_starts,
    )


def _corners(X: NDArray, radius: NDArray, random: np.random.Generator) -> NDArray:
    """Move every value by the largest change, up or down at random."""
    moved = X + radius * random.choice([-1.0, 1.0], size=X.shape)
    return np.clip(moved, 0, 255) if X.ndim > 2 else moved


def _auroc(y: NDArray, scores: NDArray) -> float:
    return round(float(roc_auc_score(y, scores)), 6)


def measure_guarded(run: RobustnessRun) -> Iterator[RobustnessRun]:
    """Fit a detector that protects a classifier, and attack both."""
    task = make_task(run.name, run.seed, data=None, kept=Path(), n_test=200)
    start = time.perf_counter()
    detector = AdversarialVAEDetector(
        classifier=FrozenEstimator(task.classifier),
        random_state=run.seed,
        **json.loads(run.params),
    ).fit(task.X_train)
    run.fit_seconds = round(time.perf_counter() - start, 2)
    X, y = task.X_test[1::2], task.y_test[1::2]
    detector.infer_threshold(task.X_test[::2], outlier_perc=FALSE_ALARM_PERC)
    run.n_train, run.n_test = len(task.X_train), len(X)
    is_right = task.classifier.predict(X) == y
    clean = detector.anomaly_score(X)

    def row(attack: str, eps: float, moved: NDArray) -> RobustnessRun:
        moved = moved.astype(np.float32)
        is_fooled = (task.classifier.predict(moved) != y)[is_right]
        scores = detector.anomaly_score(moved)[is_right]
        is_missed = detector.predict(moved)[is_right] == 1
        auroc = None
        if is_fooled.any():
            kinds = np.repeat([0, 1], [len(clean), is_fooled.sum()])
            auroc = _auroc(kinds, np.concatenate([clean, scores[is_fooled]]))
        return replace(
            run,
            attack=attack,
            eps=eps,
            auroc=auroc,
            fooled=round(float(is_fooled.mean()), 6),
            evaded=round(float((is_fooled & is_missed).mean()), 6),
        )

    yield row("none", 0.0, X)
    random = np.random.default_rng(run.seed)
    for eps in SIZES["guarded"]:
        noise = np.clip(X + eps * random.choice([-1.0, 1.0], size=X.shape), 0, 1)
        yield row("noise", eps, noise)
        alone = projected_gradient(task.classifier, X, y, eps=eps, n_steps=N_STEPS, clip=(0, 1))
        yield row("pgd", eps, alone)
        both = attack_defence(
            detector, X, y, eps=eps, units="X", n_steps=2 * N_STEPS, n_starts=4, clip=(0, 1)
        )
        yield row("adaptive", eps, both)


def report(path: Path) -> str:
    """Return tables of AUROC under attack, of the attacks, and of undetected attacks."""
    rows = rows_of(path, RobustnessRun)
    plain = [row for row in rows if row["task"] != "guarded"]
    guarded = [row for row in rows if row["task"] == "guarded"]
    tables = []
    if plain:
        shown = {"no attack": ("none", -1), "smaller": ("worst", 0), "larger": ("worst", 1)}
        tables.append(_table(plain, shown, "auroc"))
        compared = ("noise", "transfer", "pgd", "restarts", "worst")
        tables.append(_table(plain, {attack: (attack, 1) for attack in compared}, "auroc"))
    if guarded:
        shown = {f"{a} {e:g}": (a, i) for i, e in enumerate(SIZES["guarded"]) for a in GUARDED}
        tables.append(_table(guarded, shown, "evaded"))
    return "\n\n".join(tables)


def _table(
    rows: Sequence[dict[str, str]], shown: Mapping[str, tuple[str, int]], column: str
) -> str:
    """Return a table: a line for each data set and detector, mean ± deviation over the seeds.

    `shown` contains the attack of each column and the index of its size; -1 is no attack.
    """
    lines = []
    for (kind, name, detector, params), group in sorted(
        grouped(rows, ["task", "name", "detector", "params"]).items()
    ):
        sizes = [round(size, 6) for size in SIZES[kind]] + [0.0]
        words = detector if params == "{}" else f"{detector} {_in_words(params)}"
        cells = []
        for attack, which in shown.values():
            found = [
                float(row[column])
                for row in group
                if row["attack"] == attack and float(row["eps"]) == sizes[which] and row[column]
            ]
            cells.append(mean_and_spread(found) if found else "-")
        n_seeds = len({row["seed"] for row in group})
        lines.append([f"{kind} {name}", words, n_seeds, *cells])
    return markdown(["data", "detector", "seeds", *shown], lines)


def _in_words(params: str) -> str:
    return ", ".join(f"{name}={value}" for name, value in json.loads(params).items())


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = parser_of(__doc__)
    add = parser.add_argument
    add("--data", type=Path, help="folder with adbench/*.npz and mnist.npz")
    add("--tasks", type=words, default=list(SIZES), help=f"of {', '.join(SIZES)}")
    add("--names", type=words, default=None, help="sets, digits or tasks instead of the usual ones")
    add("--detectors", type=words, default=None, help="names, comma-separated")
    add_parameters(parser)
    return parser.parse_args(argv)


def planned(args: argparse.Namespace) -> list[RobustnessRun]:
    """Return the runs to fit; every run is measured under all attacks."""
    return [
        RobustnessRun(
            task=kind,
            name=name,
            detector=detector,
            params=as_params(args, detector) if is_a_detector_of_ours(detector) else "{}",
            seed=seed,
        )
        for kind in args.tasks
        for seed in args.seeds
        for name in args.names or NAMES[kind]
        for detector in args.detectors or DETECTORS[kind]
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the missing rows of the CSV, and print the tables of all rows."""
    args = parse_arguments(argv)
    went_well = run_all(planned(args), args, lambda run: measure(run, args.data))
    print(report(args.out))
    return 0 if went_well else 1


if __name__ == "__main__":
    sys.exit(main())
