"""The demo's third table: the gain from a few known anomalies."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from sklearn.datasets import load_digits
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.metrics import average_precision_score, roc_auc_score

from gandetect.datasets import one_class_split
from gandetect.detectors import AdversarialVAEDetector

N_KNOWN = 10
DIGIT = 3
EPOCHS = 20


@dataclass(frozen=True, kw_only=True)
class Known:
    """One line of the table; all lines are measured on the same test digits.

    Parameters
    ----------
    method : str
    n_known : int
        The number of labelled anomalies in training.
    roc_auc, average_precision : float
    """

    method: str
    n_known: int
    roc_auc: float
    average_precision: float


def with_and_without(seed: int, epochs: int | None = None) -> list[Known]:
    """Detect one digit among all others, without and with some known samples of that digit.

    Parameters
    ----------
    seed : int
        Seed of the split and of the methods.
    epochs : int or None, default=None
        Epochs of the detector; a small number gives a quick result.

    Returns
    -------
    list of Known
        The detector without and with known anomalies, and a classifier trained on the same rows.
    """
    data = load_digits()
    X_train, X_rest, y_rest = one_class_split(
        data.data, data.target, anomalous_class=DIGIT, n_train=640, random_state=seed
    )
    known = np.random.default_rng(seed).choice(np.flatnonzero(y_rest), N_KNOWN, replace=False)
    is_test = ~np.isin(np.arange(len(y_rest)), known)
    X_test, y_test = X_rest[is_test], y_rest[is_test]
    X = np.concatenate([X_train, X_rest[known]])
    y = np.repeat([0, 1], [len(X_train), N_KNOWN])

    def detector(labels: str) -> AdversarialVAEDetector:
        return AdversarialVAEDetector(labels=labels, epochs=epochs or EPOCHS, random_state=seed)

    trees = ExtraTreesClassifier(200, class_weight="balanced", random_state=seed).fit(X, y)
    scores = {
        ("AdversarialVAEDetector", 0): detector("exclude").fit(X, y).anomaly_score(X_test),
        ("AdversarialVAEDetector", N_KNOWN): detector("learn").fit(X, y).anomaly_score(X_test),
        ("extremely randomised trees", N_KNOWN): trees.predict_proba(X_test)[:, 1],
    }
    return [
        Known(
            method=method,
            n_known=n,
            roc_auc=float(roc_auc_score(y_test, values)),
            average_precision=float(average_precision_score(y_test, values)),
        )
        for (method, n), values in scores.items()
    ]


def known_table(results: Iterable[Known]) -> str:
    """Return the table as text."""
    lines = [f"{f'digit {DIGIT} as the anomaly':36}{'known':>9}{'AUROC':>9}{'average':>11}"]
    lines += [
        f"  {r.method:34}{r.n_known:9d}{r.roc_auc:9.3f}{r.average_precision:11.3f}" for r in results
    ]
    lines.append(
        'Known: number of labelled anomalies in the training set (labels="learn"). Average: '
        "average precision."
    )
    return "\n".join(lines)
