"""The traced module gives what the detector gives, before any file is written."""

import copy

import numpy as np
import pytest
import torch
from gandetect.export.graph import ScoringGraph

from gandetect import AdversarialVAEDetector, ConvNet, GANomalyDetector
from gandetect.model.thresholds import WORST_SCORE


def run(detector, X):
    with torch.inference_mode():
        scores, labels = ScoringGraph(detector)(torch.from_numpy(np.asarray(X, dtype=float)))
    return scores.numpy(), labels.numpy()


def test_scores_and_labels(fitted_and_X):
    fitted, X = fitted_and_X
    scores, labels = run(fitted, X)
    assert scores.dtype == np.float64
    np.testing.assert_allclose(scores, fitted.anomaly_score(X), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(labels, fitted.predict(X))


@pytest.mark.parametrize("scaling", ["standard", "robust", "unit", "symmetric", "none"])
def test_scalings(rows, scaling):
    X = rows[:80].copy()
    X[:5] *= 1000  # far beyond the knee
    detector = GANomalyDetector(epochs=1, n_estimators=1, scaling=scaling, random_state=0).fit(X)
    np.testing.assert_allclose(run(detector, X)[0], detector.anomaly_score(X), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("channel_axis", "shape"), [(0, (3, 9, 8)), (-1, (9, 8, 3)), (None, (9, 8))]
)
def test_layouts_of_images(channel_axis, shape):
    X = np.random.default_rng(0).integers(0, 256, size=(20, *shape), dtype=np.uint8)
    detector = GANomalyDetector(
        epochs=1, n_estimators=1, channel_axis=channel_axis, architecture=ConvNet(n_filters=2)
    )
    scores, _ = run(detector.fit(X), X)
    np.testing.assert_allclose(scores, detector.anomaly_score(X), rtol=1e-5, atol=1e-5)


def test_own_codes_are_passed_over(rows):
    """Training samples score alike although their codes come out of another batch size."""
    detector = GANomalyDetector(epochs=2, random_state=0, score="neighbours").fit(rows[:100])
    for n in (1, 3, 100):
        np.testing.assert_allclose(
            run(detector, rows[:n])[0], detector.anomaly_score(rows[:n]), rtol=1e-5, atol=1e-5
        )


@pytest.mark.parametrize("scaling", ["standard", "robust", "unit", "symmetric", "none"])
def test_values_beyond_float32(rows, scaling):
    X = rows[:80]
    detector = GANomalyDetector(epochs=1, n_estimators=1, scaling=scaling, random_state=0).fit(X)
    X = X[:5] * np.array([[1e14], [1e30], [1e39], [1e181], [1e307]])
    scores, labels = run(detector, X)
    np.testing.assert_allclose(scores, detector.anomaly_score(X), rtol=1e-5)
    assert labels.tolist() == detector.predict(X).tolist() == [-1] * 5


def test_an_overflow_is_the_worst(images):
    """Far from its samples the spread of a VAE's code is an exponential beyond float32."""
    detector = AdversarialVAEDetector(
        epochs=1, n_estimators=1, architecture=ConvNet(n_filters=2), random_state=0, score="prior"
    )
    detector.fit(images[:20])
    X = images[:2] * [[[[1.0]]], [[[1e30]]]]
    scores, labels = run(detector, X)
    assert scores[0] != WORST_SCORE
    assert scores[1] == detector.anomaly_score(X)[1] == WORST_SCORE
    assert labels[1] == detector.predict(X)[1] == -1


def test_what_is_not_a_number_is_no_inlier(fitted_to_rows, rows):
    X = rows[:2].copy()
    X[0, 0] = np.nan
    assert run(fitted_to_rows, X)[1].tolist()[0] == -1


def test_the_detector_is_left_as_it_was(fitted_to_rows, rows):
    before = fitted_to_rows.networks_
    run(fitted_to_rows, rows[:5])
    assert fitted_to_rows.networks_ is before


def test_a_threshold_of_another_score(fitted_to_rows):
    changed = copy.deepcopy(fitted_to_rows).set_params(score="paper")
    with pytest.raises(ValueError, match="infer_threshold"):
        ScoringGraph(changed)
