"""How the learning rate goes over a training."""

import numpy as np
import pytest

from gandetect import AdversarialVAEDetector, GANomalyDetector, RDNADetector
from gandetect.training.loop import rate_factor


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("one-cycle", [0.3, 3.0, 1.5, 0]),
        ("cosine", [1, (1 + np.cos(np.pi / 4)) / 2, (1 + np.cos(0.625 * np.pi)) / 2, 0]),
        ("steps", [1, 1, 1, 0.04]),
        (None, [1, 1, 1, 1]),
    ],
)
def test_rate_factor(schedule, expected):
    found = [rate_factor(schedule, progress) for progress in (0.0, 0.25, 0.625, 1.0)]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_one_cycle_climbs_and_falls_without_a_jump():
    rates = [rate_factor("one-cycle", progress) for progress in np.linspace(0, 1, 401)]
    top = int(np.argmax(rates))
    assert top == 100
    assert (np.diff(rates[: top + 1]) > 0).all() and (np.diff(rates[top:]) < 0).all()
    assert np.abs(np.diff(rates)).max() < 0.05


@pytest.mark.parametrize(
    ("detector", "X", "expected"),
    [
        (GANomalyDetector(), np.eye(8), "one-cycle"),
        (RDNADetector(), np.eye(8), "one-cycle"),
        (GANomalyDetector(), np.ones((4, 8, 8)) * np.arange(8), None),
        (RDNADetector(), np.ones((4, 8, 8)) * np.arange(8), "cosine"),
        (GANomalyDetector(schedule="steps"), np.eye(8), "steps"),
        (AdversarialVAEDetector(schedule=None), np.eye(8), None),
    ],
)
def test_auto(detector, X, expected):
    detector.set_params(epochs=1, random_state=0).fit(X)
    assert detector.model_.settings.schedule == expected


@pytest.mark.parametrize("schedule", ["linear", 1, "constant"])
def test_it_is_checked(schedule):
    with pytest.raises((TypeError, ValueError), match="schedule"):
        GANomalyDetector(schedule=schedule).fit(np.eye(8))
