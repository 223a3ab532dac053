"""The demo's second table: attacks on a classifier of digits, detected and corrected."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from sklearn.datasets import load_digits
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

from gandetect.attacks import projected_gradient
from gandetect.detectors import AdversarialVAEDetector

FALSE_ALARM_PERC = 5.0
EPOCHS = 60
# The norm of each attack and its limit in that norm, for pixels from 0 to 16.
ATTACKS = {"maximum norm 2": (np.inf, 2.0), "Euclidean norm 10": (2, 10.0)}


@dataclass(frozen=True, kw_only=True)
class Defence:
    """One line of the table; all shares are measured on the same test digits.

    Parameters
    ----------
    attack : str
    accuracy_clean, accuracy_attacked : float
        Accuracy of the classifier without a detector.
    accuracy_corrected : float
        Accuracy on the attacked digits, where flagged digits get the label of their reconstruction.
    share_caught : float
        Share of the successful attacks that are flagged.
    """

    attack: str
    accuracy_clean: float
    accuracy_attacked: float
    accuracy_corrected: float
    share_caught: float


def attack_and_defend(seed: int, epochs: int | None = None) -> list[Defence]:
    """Train a classifier and a detector on digits, attack the classifier, and measure the defence.

    Parameters
    ----------
    seed : int
        Seed of the split, the classifier and the detector.
    epochs : int or None, default=None
        Epochs of the detector; a small number gives a quick result.

    Returns
    -------
    list of Defence
    """
    X, y = load_digits(return_X_y=True)
    X_train, X_rest, y_train, y_rest = train_test_split(
        X, y, test_size=0.4, stratify=y, random_state=seed
    )
    half = len(X_rest) // 2
    X_clean, X_test, y_test = X_rest[:half], X_rest[half:], y_rest[half:]
    classifier = MLPClassifier((64,), early_stopping=True, random_state=seed).fit(X_train, y_train)
    detector = AdversarialVAEDetector(
        classifier=FrozenEstimator(classifier), epochs=epochs or EPOCHS, random_state=seed
    )
    detector.fit(X_train).infer_threshold(X_clean, outlier_perc=FALSE_ALARM_PERC)
    clean = classifier.predict(X_test)
    defences = []
    for name, (norm, eps) in ATTACKS.items():
        attacked = projected_gradient(
            classifier, X_test, y_test, eps=eps, norm=norm, clip=(0, X.max())
        )
        answer = detector.correct(attacked)["data"]
        fooled = (clean == y_test) & (answer["no_defense"] != y_test)
        defences.append(
            Defence(
                attack=name,
                accuracy_clean=float(np.mean(clean == y_test)),
                accuracy_attacked=float(np.mean(answer["no_defense"] == y_test)),
                accuracy_corrected=float(np.mean(answer["corrected"] == y_test)),
                share_caught=float(np.mean(answer["is_adversarial"][fooled])),
            )
        )
    return defences


def defence_table(defences: Iterable[Defence]) -> str:
    """Return the table as text."""
    lines = [
        f"{'attacks on a classifier of digits':36}{'accuracy:':9}{'clean':>8}{'attacked':>11}"
        f"{'corrected':>12}{'caught':>10}"
    ]
    lines += [
        f"  PGD, {d.attack:38}{d.accuracy_clean:8.1%}{d.accuracy_attacked:11.1%}"
        f"{d.accuracy_corrected:12.1%}{d.share_caught:10.1%}"
        for d in defences
    ]
    lines.append(
        "Accuracy: share of the test digits with the correct label. Caught: share of the "
        f"successful attacks that the detector flags, with a threshold for {FALSE_ALARM_PERC:.0f} "
        "% false alarms."
    )
    return "\n".join(lines)
