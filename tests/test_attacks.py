"""An attack stays in its ball, and fools."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from torch import nn

from gandetect import AdversarialVAEDetector, GANomalyDetector
from gandetect.attacks import attack_defence, attack_score, projected_gradient
from tests.helpers import one_detector

X, Y = load_iris(return_X_y=True)
NAMES = np.array(["c", "a", "b"])[Y]


@pytest.fixture(scope="module")
def classifier():
    return LogisticRegression(max_iter=300).fit(X, NAMES)


@pytest.mark.parametrize("norm", [np.inf, 2])
def test_it_fools_within_its_ball(classifier, norm):
    attacked = projected_gradient(classifier, X, NAMES, eps=1.0, norm=norm)
    assert classifier.score(attacked, NAMES) < 0.6 < 0.9 < classifier.score(X, NAMES)
    lengths = np.linalg.norm(attacked - X, ord=norm, axis=1)
    np.testing.assert_allclose(lengths.max(), 1.0, atol=1e-9)


def test_one_step_is_the_sign_of_the_gradient():
    """Of a linear classifier: away from the weight of the true class."""
    model = nn.Linear(2, 2, bias=False)
    model.weight.data = torch.tensor([[1.0, -1.0], [0.0, 2.0]])
    attacked = projected_gradient(model, np.ones((1, 2)), np.array([0]), eps=0.5, n_steps=1)
    np.testing.assert_allclose(attacked, [[0.5, 1.5]])


def test_it_stays_in_the_range(classifier):
    attacked = projected_gradient(classifier, X, NAMES, eps=3.0, clip=(1.0, 5.0))
    assert attacked.min() >= 1.0
    assert attacked.max() <= 5.0


def test_it_can_stop_when_the_classifier_is_fooled(classifier):
    far = projected_gradient(classifier, X, NAMES, eps=2.0, norm=2, n_steps=40)
    near = projected_gradient(
        classifier, X, NAMES, eps=2.0, norm=2, n_steps=40, stop_when_fooled=True
    )
    was_wrong = classifier.predict(X) != NAMES
    np.testing.assert_array_equal(near[was_wrong], X[was_wrong])
    both = (classifier.predict(far) != NAMES) & (classifier.predict(near) != NAMES) & ~was_wrong
    assert both.sum() > 50
    changes = [np.linalg.norm((to - X)[both], axis=1).mean() for to in (near, far)]
    assert changes[0] < 0.8 * changes[1]


def test_images():
    images = np.random.default_rng(0).uniform(size=(6, 2, 5, 4))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten(), nn.Linear(18, 3))
    y = model(torch.from_numpy(images).float()).argmax(1).numpy()
    attacked = projected_gradient(model, images, y, eps=1.0, norm=2)
    assert attacked.shape == images.shape
    assert (model(torch.from_numpy(attacked).float()).argmax(1).numpy() != y).any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"eps": 0}, "eps must be above 0"),
        ({"norm": 1}, "norm must be inf or 2"),
        ({"y": np.full(150, "z")}, "no class z"),
    ],
)
def test_what_cannot_be_used(classifier, change, message):
    arguments = {"y": NAMES, "eps": 1.0, **change}
    with pytest.raises(ValueError, match=message):
        projected_gradient(classifier, X, **arguments)


def test_a_radius_that_is_no_number(classifier):
    with pytest.raises(TypeError, match="eps must be an instance of"):
        projected_gradient(classifier, X, NAMES, eps="large")


def test_no_gradient():
    forest = RandomForestClassifier(2).fit(X, NAMES)
    with pytest.raises(TypeError, match="RandomForestClassifier has no gradient"):
        projected_gradient(forest, X, NAMES, eps=1.0)


def spread_of(detector):
    return detector.scaler_.spread.numpy()


class TestScore:
    def test_normal_up_and_anomalies_down_within_the_ball(self, fitted_to_rows, rows):
        before = torch.get_rng_state(), np.random.get_state()[1].copy()
        X, given = rows[:40].copy(), rows[:40].copy()
        y = np.arange(40) % 2
        moved = [
            attack_score(fitted_to_rows, X, y, eps=0.2, n_steps=5, n_starts=2) for _ in range(2)
        ]
        np.testing.assert_array_equal(*moved)
        np.testing.assert_array_equal(X, given)
        assert torch.equal(before[0], torch.get_rng_state())
        np.testing.assert_array_equal(before[1], np.random.get_state()[1])
        change = np.abs(moved[0] - X) / spread_of(fitted_to_rows)
        assert 0.1 < change.max() <= 0.2 * (1 + 1e-9)
        difference = fitted_to_rows.anomaly_score(moved[0]) - fitted_to_rows.anomaly_score(X)
        assert (difference[y == 0] > -1e-6).all()
        assert (difference[y == 1] < 1e-6).all()
        assert np.abs(difference).mean() > 0.05

    @one_detector
    def test_it_is_stronger_than_noise(self, fitted_to_rows, rows):
        X, y = rows[:40], np.zeros(40)
        signs = np.random.default_rng(0).choice([-1, 1], size=X.shape)
        noisy = X + 0.2 * spread_of(fitted_to_rows) * signs
        moved = attack_score(fitted_to_rows, X, y, eps=0.2, n_steps=5)
        found, of_noise = (fitted_to_rows.anomaly_score(x).mean() for x in (moved, noisy))
        assert found > of_noise

    def test_every_part_of_the_score_has_a_gradient(self, Detector, make, rows):
        X = rows[:20]
        for part in Detector.model_class.part_weights:
            if part == "divergence":  # there is no classifier
                continue
            detector = make(Detector, score=part).fit(rows[:80])
            moved = attack_score(detector, X, np.zeros(20), eps=0.3, n_steps=3)
            assert detector.anomaly_score(moved).mean() > detector.anomaly_score(X).mean(), part

    def test_without_y_it_is_on_the_label(self, make, rows):
        detector = make(GANomalyDetector, epochs=5).fit(rows[:300])
        X = np.vstack([rows[300:340], rows[300:310] + 1])
        labels = detector.predict(X)
        again = detector.predict(attack_score(detector, X, eps=0.5))
        assert (again != labels).sum() > 5

    @one_detector
    def test_more_starts_find_no_less(self, fitted_to_rows, rows):
        found = [
            fitted_to_rows.anomaly_score(
                attack_score(
                    fitted_to_rows, rows[:20], np.zeros(20), eps=0.3, n_steps=3, n_starts=n
                )
            )
            for n in (1, 3)
        ]
        assert (found[1] >= found[0] - 1e-5).all()

    @one_detector
    def test_a_radius_for_each_column_in_its_units(self, fitted_to_rows, rows):
        eps = np.array([0.0, 0.5, 0.01, 0.0, 0.2, 0.3])
        moved = attack_score(fitted_to_rows, rows[:20], np.ones(20) > 0, eps=eps, units="X")
        change = np.abs(moved - rows[:20]).max(0)
        assert (change <= eps * (1 + 1e-9)).all()
        assert (change[[0, 3]] == 0).all()
        assert change[1] > 0.1

    @one_detector
    def test_a_radius_in_scales_of_the_logarithm_of_skewed_columns(self, Detector, make):
        X = np.exp(np.random.default_rng(0).normal(size=(300, 3)) * [2, 2, 0.1])
        X[:, 1] *= -1000
        detector = make(Detector).fit(X)
        assert detector.scaler_.skew[0].tolist() == [1, -1, 0]
        moved = attack_score(detector, X[:50], np.zeros(50), eps=0.2, n_steps=5, n_starts=2)
        change = (detector.scaler_(moved) - detector.scaler_(X[:50])).abs().numpy()
        assert ((change.max(0) > 0.1) & (change.max(0) <= 0.2 + 1e-5)).all()

    @one_detector
    def test_a_constant_column_is_not_moved(self, Detector, make):
        X = np.exp(2 * np.random.default_rng(0).normal(size=(100, 3)))
        X[:, 1] = 7.3
        moved = attack_score(make(Detector).fit(X), X[:20], np.zeros(20), eps=0.2, n_starts=2)
        assert (moved[:, 1] == 7.3).all()
        assert (moved[:, 0] != X[:20, 0]).any()

    @pytest.mark.parametrize(
        ("given", "expected"),
        [("float32", "float32"), ("float64", "float64"), ("int64", "float64")],
    )
    def test_types(self, make, given, expected):
        X = (100 * np.random.default_rng(0).normal(size=(60, 4))).astype(given)
        moved = attack_score(make(GANomalyDetector).fit(X), X[:5], [0] * 5, eps=0.1)
        assert moved.dtype == expected

    def test_images_stay_in_their_range_and_layout(self, Detector, make, images, tiny_convnet):
        detector = make(Detector, architecture=tiny_convnet, latent_dim=4, epochs=1)
        detector.fit(images[:24])
        low, high = images[:24].min(), images[:24].max()
        X = images[24:30]
        moved = attack_score(detector, X, np.zeros(6), eps=0.05, n_steps=3)
        assert moved.shape == X.shape
        change = np.abs(moved - X)
        assert 0 < change.max() <= 0.05 * (high - low) * (1 + 1e-9)
        # A pixel that lies outside may stay there.
        assert (moved >= np.minimum(X, low)).all()
        assert (moved <= np.maximum(X, high)).all()
        assert detector.anomaly_score(moved).mean() > detector.anomaly_score(X).mean()

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"eps": 0.0}, "eps must be above 0"),
            ({"eps": np.nan}, "eps must be above 0"),
            ({"units": "pixels"}, "units must be"),
            ({"y": [0, 1]}, "y has 2 labels, but X has 20 samples"),
        ],
    )
    def test_what_cannot_be_used(self, make, rows, change, message):
        detector = make(GANomalyDetector).fit(rows[:60])
        with pytest.raises(ValueError, match=message):
            attack_score(detector, rows[:20], **{"y": [0] * 20, "eps": 0.1, **change})

    @pytest.mark.parametrize("eps", ["large", None, True, [1j]])
    def test_a_radius_that_is_no_number(self, make, rows, eps):
        detector = make(GANomalyDetector).fit(rows[:60])
        with pytest.raises(TypeError, match="eps must be a number or an array of numbers, got"):
            attack_score(detector, rows[:20], eps=eps)

    def test_words_have_no_gradient(self, make):
        table = pd.DataFrame({"a": [1.0, 2.0, 3.0] * 4, "b": list("xyz") * 4})
        detector = make(GANomalyDetector).fit(table)
        with pytest.raises(TypeError, match="no gradient"):
            attack_score(detector, table, eps=0.1)

    def test_the_detector_has_to_be_fitted(self):
        with pytest.raises(NotFittedError):
            attack_score(GANomalyDetector(), X, eps=0.1)


@pytest.fixture(scope="module")
def guard(classifier):
    detector = AdversarialVAEDetector(
        classifier=FrozenEstimator(classifier), epochs=20, n_estimators=2, random_state=0
    )
    return detector.fit(X)


class TestDefence:
    def test_it_goes_past_both(self, guard, classifier):
        def share_past(attacked):
            is_wrong = classifier.predict(attacked) != NAMES
            return (is_wrong & (guard.predict(attacked) == 1)).mean()

        eps = 0.6
        moved = attack_defence(guard, X, NAMES, eps=eps, units="X")
        assert np.abs(moved - X).max() <= eps * (1 + 1e-9)
        alone = projected_gradient(classifier, X, NAMES, eps=eps)
        assert share_past(moved) > share_past(alone) + 0.05
        again = attack_defence(guard, X, NAMES, eps=eps, units="X")
        np.testing.assert_array_equal(again, moved)

    def test_what_cannot_be_used(self, guard, make):
        with pytest.raises(ValueError, match="no class z"):
            attack_defence(guard, X, np.full(150, "z"), eps=0.1)
        with pytest.raises(ValueError, match="y has 2 labels"):
            attack_defence(guard, X, NAMES[:2], eps=0.1)
        with pytest.raises(TypeError, match="has no classifier"):
            attack_defence(make(GANomalyDetector).fit(X), X, NAMES, eps=0.1)
