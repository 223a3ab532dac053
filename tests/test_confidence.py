"""What a score means: p-values, false-discovery rates, and the spread between members."""

import copy

import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError

from gandetect import BiGANDetector, GANomalyDetector, load
from gandetect.model.statistics import benjamini_hochberg, conformal_p_values, false_discovery_bound
from tests.helpers import one_detector


@pytest.fixture
def detector(fitted_to_rows):
    return copy.deepcopy(fitted_to_rows)


class TestPValue:
    def test_of_rows_kept_from_training(self, Detector, make, rows):
        detector = make(Detector, validation_fraction=0.25).fit(rows[:200])
        assert detector.normal_scores_.shape == (50,)
        difference = detector.normal_scores_[:, None] - detector.anomaly_score(rows[:200])
        assert np.abs(difference).min(axis=1).max() < 1e-5
        p_values = detector.p_value(rows)
        assert p_values.dtype == np.float64
        assert ((p_values >= 1 / 51) & (p_values <= 1)).all()
        # Small where the score is high.
        assert (np.diff(p_values[np.argsort(detector.anomaly_score(rows))]) <= 0).all()

    @one_detector
    def test_of_rows_given_later(self, detector, rows):
        assert detector.calibrate_p_values(rows[200:700]) is detector
        by_hand = conformal_p_values(
            detector.anomaly_score(rows[700:]), detector.anomaly_score(rows[200:700])
        )
        np.testing.assert_array_equal(detector.p_value(rows[700:]), by_hand)

    @one_detector
    def test_normal_rows_have_the_level_they_should(self, detector, rows):
        """500 rows to compare with and 400 new ones: standard deviation 1.5 % at a level of 5 %."""
        p_values = detector.calibrate_p_values(rows[200:700]).p_value(rows[700:])
        for level in (0.05, 0.2, 0.5):
            spread = np.sqrt(level * (1 - level) * (1 / 502 + 1 / 400))
            assert abs((p_values <= level).mean() - level) < 4 * spread

    @one_detector
    def test_without_normal_samples(self, detector, rows):
        with pytest.raises(NotFittedError, match=r"calibrate_p_values.*validation_fraction"):
            detector.p_value(rows)

    @one_detector
    def test_before_fit(self, Detector, rows):
        for method in ("p_value", "calibrate_p_values", "flag_by_fdr", "score_std"):
            with pytest.raises(NotFittedError, match="not fitted yet"):
                getattr(Detector(), method)(rows)

    @one_detector
    def test_another_fit_forgets_them(self, detector, rows):
        detector.calibrate_p_values(rows[200:300]).fit(rows[:60])
        with pytest.raises(NotFittedError):
            detector.p_value(rows)

    @one_detector
    def test_going_on_with_the_training_forgets_them(self, detector, rows):
        detector.calibrate_p_values(rows[200:300]).set_params(warm_start=True).fit(rows[:60])
        with pytest.raises(NotFittedError):
            detector.p_value(rows)

    @one_detector
    def test_another_score_needs_them_anew(self, detector, rows):
        detector.calibrate_p_values(rows[200:300]).set_params(score="paper")
        with pytest.raises(ValueError, match="calibrate_p_values"):
            detector.p_value(rows)
        detector.calibrate_p_values(rows[200:300]).p_value(rows)

    @one_detector
    def test_saved_and_loaded(self, detector, rows, tmp_path):
        detector.calibrate_p_values(rows[200:300]).save(tmp_path / "detector")
        loaded = load(tmp_path / "detector")
        np.testing.assert_array_equal(loaded.p_value(rows), detector.p_value(rows))

    @one_detector
    def test_of_images(self, fitted_to_images, images):
        detector = copy.deepcopy(fitted_to_images).calibrate_p_values(images[60:100])
        assert detector.p_value(images[100:]).shape == (50,)


class TestFlagByFdr:
    @one_detector
    def test_is_the_rule_of_p_values(self, detector, rows):
        detector.calibrate_p_values(rows[200:700])
        for rate in (0.05, 0.5):
            np.testing.assert_array_equal(
                detector.flag_by_fdr(rows, rate), benjamini_hochberg(detector.p_value(rows), rate)
            )

    @one_detector
    def test_flags_what_is_far_away(self, detector, rows):
        detector.calibrate_p_values(rows[200:700])
        X = np.concatenate([rows[700:], rows[700:720] + 100])
        flagged = detector.flag_by_fdr(X, 0.1)
        assert flagged[400:].all()
        assert flagged[:400].mean() < 0.05


class TestFalseDiscoveryBound:
    @one_detector
    def test_of_what_predict_flags_and_of_any_choice(self, detector, rows):
        detector.calibrate_p_values(rows[200:700])
        X = np.concatenate([rows[700:], rows[700:720] + 100])
        detector.infer_threshold(X, outlier_perc=100 * 20 / 420)
        is_flagged = detector.predict(X) == -1
        by_hand = false_discovery_bound(detector.p_value(X), is_flagged, 500, 0.9)
        assert detector.false_discovery_bound(X, confidence=0.9) == by_hand
        assert detector.false_discovery_bound(X, is_flagged, 0.9) == by_hand < 20
        assert detector.false_discovery_bound(X, ~is_flagged) == 400

    @one_detector
    def test_without_normal_samples(self, detector, rows):
        with pytest.raises(NotFittedError, match="calibrate_p_values"):
            detector.false_discovery_bound(rows)


class TestScoreStd:
    @pytest.mark.parametrize("score", [None, "paper"])
    def test_is_the_spread_between_members(self, detector, rows, score):
        detector.set_params(score=score)
        spread = detector.score_std(rows)
        assert spread.shape == (1100,)
        assert spread.dtype == np.float64
        assert (spread > 0).all()

    def test_by_hand(self, rows):
        detector = GANomalyDetector(
            epochs=2, n_estimators=3, random_state=0, score="reconstruction"
        ).fit(rows[:100])
        x = detector.scaler_(rows[:5]).expand(3, 5, 6)
        with torch.inference_mode():
            error = (x - detector.model_.reconstruct(x)).abs().mean(-1).double()
        scores = detector.calibration_.standardised("reconstruction", error)
        np.testing.assert_allclose(detector.score_std(rows[:5]), scores.std(0), rtol=1e-5)
        np.testing.assert_allclose(detector.anomaly_score(rows[:5]), scores.mean(0), rtol=1e-5)

    def test_one_member_has_none(self, rows):
        detector = GANomalyDetector(epochs=1, n_estimators=1, random_state=0).fit(rows[:50])
        with pytest.raises(ValueError, match="n_estimators"):
            detector.score_std(rows)

    @one_detector
    def test_of_images(self, fitted_to_images, images):
        assert (fitted_to_images.score_std(images) > 0).all()


class TestWhatTheScoreIsMadeOf:
    """A threshold does not outlive what it was set with."""

    @pytest.mark.parametrize(
        "changed", [{"alpha": 0.5}, {"degree": 2}, {"discriminator_score": "cross_entropy"}]
    )
    def test_of_bigan(self, rows, changed):
        detector = BiGANDetector(epochs=1, n_estimators=1, random_state=0).fit(rows[:50])
        ((name, value),) = changed.items()
        before = detector.get_params()[name]
        detector.set_params(**changed)
        with pytest.raises(ValueError, match=rf"{name}={before!r}.*{name}={value!r}.*infer_thres"):
            detector.predict(rows)
        detector.infer_threshold(rows).predict(rows)

    def test_of_ganomaly(self, rows):
        detector = GANomalyDetector(epochs=1, n_estimators=1, random_state=0).fit(rows[:50])
        with pytest.raises(ValueError, match="score_norm='l1'"):
            detector.set_params(score_norm="l2").predict(rows)

    def test_weights_that_are_changed_in_place(self, rows):
        weights = {"reconstruction": 1.0}
        detector = GANomalyDetector(epochs=1, n_estimators=1, random_state=0, score=weights)
        detector.fit(rows[:50])
        weights["latent"] = 1.0
        assert detector.model_.weights() == {"reconstruction": 1.0}
        with pytest.raises(ValueError, match="infer_threshold"):
            detector.predict(rows)
