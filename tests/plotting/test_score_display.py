import numpy as np
import pytest
from sklearn.ensemble import IsolationForest

from gandetect import GANomalyDetector
from gandetect.plotting import F1OverTauDisplay, RocDisplay, ScoreHistogramDisplay

Y = [0, 0, 0, 0, 1, 1]
SCORES = [0.0, 0.1, 0.1, 0.4, 0.6, 1.0]
DISPLAYS = [F1OverTauDisplay, RocDisplay, ScoreHistogramDisplay]


@pytest.mark.parametrize("Picture", DISPLAYS)
def test_scores_are_kept_by_kind(Picture):
    display = Picture.from_predictions(Y, SCORES, threshold=0.5, name="a method")
    assert display.normal_scores.tolist() == [0.0, 0.1, 0.1, 0.4]
    assert display.anomalous_scores.tolist() == [0.6, 1.0]
    assert (display.threshold, display.name) == (0.5, "a method")


@pytest.mark.parametrize("Picture", DISPLAYS)
def test_the_threshold_is_the_detectors_own_number(Picture):
    """One that is off by a rounding error would flag the samples that tie with it."""
    X = np.random.default_rng(0).normal(size=(50, 3))
    y = np.arange(50) % 2
    detector = GANomalyDetector(epochs=1, n_estimators=1, random_state=0).fit(X)
    detector.threshold_ = float(np.sort(detector.anomaly_score(X))[40])
    display = Picture.from_estimator(detector, X, y)
    assert display.threshold == detector.threshold_
    scores = np.concatenate([display.normal_scores, display.anomalous_scores])
    assert np.sum(scores > display.threshold) == np.sum(detector.predict(X) == -1) == 9


def test_a_detector_without_an_offset_has_its_threshold_computed():
    class Wrapped:
        def __init__(self, forest):
            self.score_samples, self.decision_function = (
                forest.score_samples,
                forest.decision_function,
            )

    X = np.random.default_rng(0).normal(size=(50, 3))
    forest = IsolationForest(contamination=0.2, random_state=0).fit(X)
    display = RocDisplay.from_estimator(Wrapped(forest), X, np.arange(50) % 2)
    assert display.threshold == pytest.approx(-forest.offset_)
