"""Measure how well attacks on a classifier are detected and corrected; append runs to a CSV.

    python benchmarks/adversarial.py --data DATA --out results/adversarial.csv

A task is a data set and a classifier: a convolutional network on MNIST, and LogisticRegression and
MLPClassifier on rows that scikit-learn includes. foolbox attacks the clean test samples, each
attack at two strengths: the smallest successful change, and the largest allowed change
(`adversarial_tasks.py`). A detector is fitted to the clean training samples. One half of the clean
test samples sets its threshold, for 5 % false alarms; the other half is compared with the
successful attacks.

The baselines of AdversarialVAE are the largest probability of the classifier, its entropy, the
error of a plain autoencoder, and the distance to the 5 nearest training samples.

The networks and attacks are stored in `--kept`. Runs that the CSV already contains are skipped, so
that an interrupted benchmark can be continued.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
import torch
from adversarial_tasks import ATTACKS, STRENGTHS, TASKS, Task, attacked, make_task
from detectors import KNearestNeighbors
from markdown_tables import markdown
from numpy.typing import NDArray
from options import add_parameters
from results_file import Results, read_rows
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import roc_auc_score
from threadpoolctl import threadpool_limits

import gandetect
from gandetect import AdversarialVAEDetector
from gandetect.model.statistics import threshold_at_percentile

FALSE_ALARM_PERC = 5.0
PUBLISHED = (
    "Published for orientation (AdversarialAE, CIFAR-10, ResNet-56): AUROC 0.93 against C&W, 0.89 "
    "against SLIDE, accuracy 0.00 corrected to 0.80 and 0.82."
)


@dataclass(kw_only=True)
class Row:
    """One detector against one attack."""

    task: str
    attack: str
    strength: str
    detector: str
    label: str
    params: str
    seed: int
    n_train: int
    n_test: int
    success_rate: float | None = None  # of the attack, on correctly classified samples
    auroc: float | None = None
    detection_rate: float | None = None  # at FALSE_ALARM_PERC
    false_alarm_rate: float | None = None  # measured on the other half
    accuracy_clean: float | None = None
    accuracy_attacked: float | None = None
    accuracy_corrected: float | None = None  # flagged: label of the reconstruction
    accuracy_defended: float | None = None  # all samples: label of the reconstruction
    accuracy_clean_corrected: float | None = None
    fit_seconds: float | None = None
    threads: int
    gandetect: str = gandetect.__version__
    torch: str = torch.__version__
    sklearn: str = sklearn.__version__
    error: str = ""


COLUMNS = tuple(field.name for field in fields(Row))
KEY = ("task", "attack", "strength", "detector", "label", "params", "seed", "n_train", "n_test")


class FromProbabilities:
    """Score by the uncertainty of the classifier.

    Parameters
    ----------
    task : Task
    entropy : bool
        Whether to use the entropy of the probabilities; otherwise the largest probability.
    """

    def __init__(self, task: Task, *, entropy: bool) -> None:
        self.task, self.entropy = task, entropy

    def fit(self, X: NDArray) -> FromProbabilities:
        """Do nothing, because the classifier is already fitted."""
        return self

    def anomaly_score(self, X: NDArray) -> NDArray:
        """Return scores that are larger where the classifier is less certain."""
        p = self.task.probabilities(X)
        if not self.entropy:
            return -p.max(1)
        return -(p * np.log(np.maximum(p, 1e-300))).sum(1)


class FromNeighbours:
    """Score by the distance to the training samples."""

    def fit(self, X: NDArray) -> FromNeighbours:
        """Store the training samples."""
        self.neighbours = KNearestNeighbors().fit(X.reshape(len(X), -1))
        return self

    def anomaly_score(self, X: NDArray) -> NDArray:
        """Return the distances to the training samples."""
        return -self.neighbours.score_samples(X.reshape(len(X), -1))


def make_detector(name: str, task: Task, seed: int, params: dict[str, Any]) -> Any:
    """Create an AdversarialVAEDetector or a baseline."""
    if name == "AdversarialVAE":
        classifier = task.classifier
        if not isinstance(classifier, torch.nn.Module):
            classifier = FrozenEstimator(classifier)
        return AdversarialVAEDetector(classifier=classifier, random_state=seed, **params)
    if name == "autoencoder":
        return AdversarialVAEDetector(
            log_variance=None, score="reconstruction", n_estimators=1, random_state=seed
        )
    if name == "knn":
        return FromNeighbours()
    return FromProbabilities(task, entropy=name == "entropy")


DETECTORS = ("AdversarialVAE", "autoencoder", "knn", "confidence", "entropy")


def defended_labels(detector: Any, task: Task, X: NDArray) -> NDArray | None:
    """Return the labels of the reconstructions, if the detector reconstructs."""
    if not isinstance(detector, AdversarialVAEDetector):
        return None
    if detector.classifier is None:
        return task.labels(detector.reconstruct(X).astype(np.float32))
    return np.searchsorted(detector.classes_, detector.correct(X)["data"]["defense"])


def measure(row: Row, task: Task, detector: Any, X_attacked: NDArray) -> None:
    """Score clean and attacked samples; fill in the row."""
    y = np.searchsorted(np.unique(task.y_train), task.y_test)
    clean, labels = task.labels(task.X_test), task.labels(X_attacked)
    was_right = clean == y
    fooled = was_right & (labels != y)
    row.accuracy_clean, row.accuracy_attacked = _mean(was_right), _mean(labels == y)
    row.success_rate = _mean(fooled[was_right])
    scores, scores_attacked = (detector.anomaly_score(X) for X in (task.X_test, X_attacked))
    threshold = threshold_at_percentile(scores[::2], FALSE_ALARM_PERC)
    row.false_alarm_rate = _mean(scores[1::2] > threshold)
    if fooled.any():
        is_attack = np.repeat([0, 1], [len(scores[1::2]), fooled.sum()])
        both = np.concatenate([scores[1::2], scores_attacked[fooled]])
        row.auroc = round(float(roc_auc_score(is_attack, both)), 6)
        row.detection_rate = _mean(scores_attacked[fooled] > threshold)
    defended = defended_labels(detector, task, X_attacked)
    if defended is not None:
        corrected = np.where(scores_attacked > threshold, defended, labels)
        row.accuracy_corrected, row.accuracy_defended = _mean(corrected == y), _mean(defended == y)
        clean_defended = defended_labels(detector, task, task.X_test)
        corrected = np.where(scores > threshold, clean_defended, clean)
        row.accuracy_clean_corrected = _mean(corrected == y)


def _mean(values: NDArray) -> float:
    return round(float(np.mean(values)), 6)


def planned_rows(args: argparse.Namespace, task_name: str, seed: int, name: str) -> Iterator[Row]:
    """Yield the rows of one detector against every attack, at both strengths."""
    ours = name == "AdversarialVAE"
    for attack in args.attacks:
        for strength in STRENGTHS:
            yield Row(
                task=task_name,
                attack=attack,
                strength=strength,
                detector=name,
                label=args.label if ours else "",
                params=json.dumps(dict(args.set), sort_keys=True) if ours else "{}",
                seed=seed,
                n_train=args.n_train,
                n_test=args.n_test,
                threads=args.threads,
            )


def run(args: argparse.Namespace, task: Task, rows: Sequence[Row], results: Results) -> bool:
    """Fit one detector and measure it against the attacks; return whether there was no error."""
    first, went_well = rows[0], True
    try:
        start = time.perf_counter()
        params = json.loads(first.params)
        detector = make_detector(first.detector, task, first.seed, params)
        detector.fit(task.X_train[: args.n_train])
        seconds = round(time.perf_counter() - start, 2)
    except Exception as error:  # one failed run must not end a long benchmark
        traceback.print_exc()
        results.add(asdict(first) | {"error": f"{type(error).__name__}: {error}"})
        return False
    for row in rows:
        row.fit_seconds = seconds
        try:
            X = attacked(task, row.task, row.seed, row.attack, row.strength, args.kept)
            measure(row, task, detector, X)
        except Exception as error:
            traceback.print_exc()
            row.error, went_well = f"{type(error).__name__}: {error}", False
        results.add(asdict(row))
        print(f"{_title(row)}: {row.error or f'AUROC {row.auroc}'}", flush=True)
    return went_well


def _title(row: Row) -> str:
    return f"{row.task} {row.attack} {row.strength} {row.detector} seed {row.seed}"


def report(path: Path) -> str:
    """Return a table: a line for each task, strength and detector, means over attacks and seeds."""
    groups: dict[tuple[str, ...], list[dict[str, str]]] = defaultdict(list)
    for row in read_rows(path, COLUMNS):
        if not row["error"]:
            name = " ".join(filter(None, (row["detector"], row["label"])))
            groups[row["task"], row["strength"], name].append(row)
    figures = {
        "AUROC": "auroc",
        "found": "detection_rate",
        "attacked": "accuracy_attacked",
        "corrected": "accuracy_corrected",
        "defended": "accuracy_defended",
        "clean": "accuracy_clean",
        "clean, corrected": "accuracy_clean_corrected",
    }
    lines = [
        [*key, *(_cell(of_group, column) for column in figures.values()), len(of_group)]
        for key, of_group in sorted(groups.items())
    ]
    return f"{markdown(['task', 'strength', 'detector', *figures, 'runs'], lines)}\n\n{PUBLISHED}"


def _cell(rows: Sequence[dict[str, str]], column: str) -> str:
    values = [float(row[column]) for row in rows if row[column]]
    return f"{np.mean(values):.3f}" if values else ""


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data", type=Path, help="folder with mnist.npz, for mnist/cnn")
    add("--kept", type=Path, default=Path("adversarial-kept"), help="folder of the attacks")
    add("--tasks", type=_among(TASKS), default=",".join(TASKS), help="comma-separated")
    add("--attacks", type=_among(ATTACKS), default=",".join(ATTACKS), help="comma-separated")
    add("--detectors", type=_among(DETECTORS), default=",".join(DETECTORS), help="comma-separated")
    add("--seeds", default="0,1,2", help="each fixes split, classifier, attacks and detector")
    add("--n-train", type=int, default=10_000, help="samples that a detector learns from")
    add("--n-test", type=int, default=500, help="test samples that are attacked")
    add_parameters(parser, "AdversarialVAE")
    add("--label", default="", help="a name for these parameters, for the report")
    add("--out", type=Path, required=True, help="the CSV to append to")
    add("--threads", type=int, default=1, help="CPU threads of one run")
    args = parser.parse_args(argv)
    if "mnist/cnn" in args.tasks and args.data is None:
        parser.error("mnist/cnn needs --data, a folder with mnist.npz; see also --tasks.")
    return args


def _among(known: Sequence[str]) -> Any:
    def names(text: str) -> list[str]:
        chosen = text.split(",")
        unknown = set(chosen) - set(known)
        if unknown:
            raise argparse.ArgumentTypeError(f"{sorted(unknown)} are none of {', '.join(known)}")
        return chosen

    return names


def main(argv: Sequence[str] | None = None) -> int:
    """Run the missing rows of the CSV, and print the table of all rows."""
    args = parse_arguments(argv)
    results = Results(args.out, COLUMNS, KEY)
    torch.set_num_threads(args.threads)
    all_went_well = True
    with threadpool_limits(args.threads):
        for task_name in args.tasks:
            for seed in map(int, args.seeds.split(",")):
                planned = [list(planned_rows(args, task_name, seed, n)) for n in args.detectors]
                to_do = [
                    [row for row in rows if results.key_of(asdict(row)) not in results.done]
                    for rows in planned
                ]
                if not any(to_do):
                    continue
                task = make_task(
                    task_name, seed, data=args.data, kept=args.kept, n_test=args.n_test
                )
                for rows in filter(None, to_do):
                    all_went_well &= run(args, task, rows, results)
    print(report(args.out))
    return 0 if all_went_well else 1


if __name__ == "__main__":
    sys.exit(main())
