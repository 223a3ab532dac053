"""The threshold of a percentage, p-values, and what they flag."""

import re
import warnings
from functools import partial

import numpy as np
import pytest

from gandetect import GANomalyDetector, load
from gandetect.model.statistics import (
    WORST_SCORE,
    benjamini_hochberg,
    check_percentage,
    check_scores,
    conformal_p_values,
    threshold_at_percentile,
    threshold_of_tail,
    warn_of_fraction,
    warn_of_ties,
)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, WORST_SCORE])
def test_no_threshold_is_set_by_what_overflows(bad):
    check_scores(np.array([-1.0, 1e37]))
    for scores in (bad, np.array([0.0, bad, 1.0])):
        with pytest.raises(ValueError, match="not finite"):
            check_scores(scores)


@pytest.mark.parametrize("percentage", [0, 1, 7, 10, 29, 50, 58, 99, 100])
def test_this_percentage_of_distinct_scores_exceeds_it(percentage):
    scores = np.random.default_rng(0).permutation(1000) / 7
    assert (scores > threshold_at_percentile(scores, percentage)).sum() == 10 * percentage


def test_between_two_scores_it_is_interpolated():
    # Of 5 intervals that 4 scores make, 3.75 lie below: three quarters of the way from 2 to 10.
    scores = np.array([10.0, 0.0, 2.0, 1.0])
    assert threshold_at_percentile(scores, 25) == 8.0
    # The 75th percentile as numpy has it by default lies a quarter of the way.
    assert threshold_at_percentile(scores, 25, method="linear") == 4.0


@pytest.mark.parametrize("n", [19, 50])
def test_this_percentage_of_new_scores_exceeds_it(n):
    """By "weibull". The mean level of 20,000 sets has a standard deviation below 0.05 %."""
    scores = np.random.default_rng(0).uniform(size=(20_000, n))
    levels = {
        method: 1 - np.mean([threshold_at_percentile(s, 5, method=method) for s in scores])
        for method in ("weibull", "linear")
    }
    assert abs(levels["weibull"] - 0.05) < 0.002
    assert levels["linear"] > 0.06


def test_with_few_scores_it_lies_beyond_the_largest():
    # The median is 2, and 3 and 6 lie on average 2.5 above it; of 5 scores a sixth lies beyond.
    scores = np.array([1.0, 6.0, 2.0, 3.0, 0.0])
    expected = 6 + 2.5 * np.log((1 / 6) / 0.05)
    assert threshold_at_percentile(scores, 5) == pytest.approx(expected)
    assert threshold_at_percentile(np.ones(1), 5) == 1
    # 5 % is one of 20: with 19 scores the largest just will do, with 18 it would flag too many.
    assert threshold_at_percentile(np.arange(19.0), 5) == pytest.approx(18)
    assert threshold_at_percentile(np.arange(18.0), 5) > 17.1
    # 19 suffice for 5.1 %: the 20 x 0.949 = 18.98th of them, two of which it lies between.
    assert threshold_at_percentile(np.arange(19.0), 5.1) == pytest.approx(17.98)


@pytest.mark.parametrize("draw", ["normal", "standard_exponential", "standard_t"])
def test_few_scores_keep_their_word_about(draw):
    """The largest of 11 would flag 8.3 %."""
    rng = np.random.default_rng(0)
    sample = partial(getattr(rng, draw), *([3] if draw == "standard_t" else []))
    new = sample(size=20_000)
    thresholds = [threshold_at_percentile(s, 5) for s in sample(size=(500, 11))]
    assert 0.035 < (new > np.array(thresholds)[:, None]).mean() < 0.065


@pytest.mark.parametrize("percentage", [0, 0.5, 30, 99.9])
def test_ties_are_not_flagged(percentage):
    scores = np.full(50, 0.1)
    assert (scores > threshold_at_percentile(scores, percentage)).sum() == 0


def test_100_flags_ties_too():
    assert (np.full(50, 0.1) > threshold_at_percentile(np.full(50, 0.1), 100)).all()


@pytest.mark.parametrize("scores", [[0.0], [-1e300], [1e-320], [5.0, 5.0, 6.0]])
def test_100_flags_everything(scores):
    assert (np.array(scores) > threshold_at_percentile(np.array(scores), 100)).all()


def test_0_flags_nothing():
    scores = np.random.default_rng(0).normal(size=100)
    assert threshold_at_percentile(scores, 0) == scores.max()


def test_it_is_a_float():
    assert type(threshold_at_percentile(np.arange(5, dtype=np.float32), 10)) is float


@pytest.mark.parametrize("percentage", [-1e-9, 100.1, np.nan, np.inf])
def test_percentages_that_are_none(percentage):
    with pytest.raises(ValueError, match="outlier_perc"):
        threshold_at_percentile(np.arange(5.0), percentage)


@pytest.mark.parametrize("percentage", ["5", None, True, [5], 5j])
def test_percentages_that_are_no_numbers(percentage):
    for check in (check_percentage, partial(threshold_at_percentile, np.arange(5.0))):
        with pytest.raises(TypeError, match=r"outlier_perc must be a number from 0 to 100.* got "):
            check(percentage)


@pytest.mark.parametrize("percentage", [0, 5, np.float32(5), np.int64(100)])
def test_percentages(percentage):
    check_percentage(percentage)


@pytest.mark.parametrize("percentage", [0.05, 0.5, 0.999])
def test_a_fraction_is_warned_of(percentage):
    with pytest.warns(
        UserWarning, match=rf"={percentage} is a percentage.* pass {100 * percentage:g}"
    ):
        warn_of_fraction(percentage)


@pytest.mark.parametrize("percentage", [0, 1, 1.5, 100])
def test_a_percentage_is_not_warned_of(percentage):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_fraction(percentage)


class TestTies:
    def flagged_and_told(self, scores, percentage):
        threshold = threshold_at_percentile(scores, percentage)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            warn_of_ties(scores, threshold, percentage)
        numbers = [re.findall(r"\d+(?:\.\d+)?", str(w.message)) for w in caught]
        return (scores > threshold).mean(), [[float(x) for x in found] for found in numbers]

    @pytest.mark.parametrize("n_above", [1, 13])
    def test_both_shares_and_what_flags_the_ties_are_told(self, n_above):
        """50 copies of one outlier among 1000, of which 5 % are asked for."""
        scores = np.random.default_rng(0).normal(size=1000)
        scores[:50], scores[50 : 50 + n_above] = 9.0, 10.0 + np.arange(n_above)
        share, told = self.flagged_and_told(scores, 5)
        assert share == n_above / 1000
        ((flagged, asked, tied, larger),) = told
        assert (flagged, asked, tied) == (100 * share, 5, 5)
        share, told = self.flagged_and_told(scores, larger)
        assert 1000 * share in (50 + n_above, 51 + n_above)  # rounded up
        assert not told

    @pytest.mark.parametrize("percentage", [0, 0.5, 5, 30, 99.9, 100])
    def test_distinct_scores_are_not_told(self, percentage):
        for n in (1, 2, 19, 20, 1000):
            assert (
                self.flagged_and_told(np.random.default_rng(n).normal(size=n), percentage)[1] == []
            )

    def test_where_nothing_can_be_told_apart(self):
        assert self.flagged_and_told(np.ones(40), 5) == (0, [[0, 5, 100, 100]])
        assert self.flagged_and_told(np.ones(40), 100) == (1, [])
        assert self.flagged_and_told(np.ones(40), 0) == (0, [])

    def test_little_is_not_told(self):
        """Of 10 samples asked for, 8.x may be flagged; of fewer than one, none."""
        scores = np.arange(100.0)
        scores[89:91] = 90.0  # flags 91, ..., 99: nine of ten
        assert self.flagged_and_told(scores, 10) == (0.09, [])
        scores[89:92] = 91.0  # eight of ten: a fifth is missed
        assert self.flagged_and_told(scores, 10)[1] == [[8, 10, 3, 11.89]]
        assert self.flagged_and_told(np.repeat([0.0, 1.0], [17, 2]), 5)[1] == []
        assert len(self.flagged_and_told(np.repeat([0.0, 1.0], [18, 2]), 5)[1]) == 1


class TestConformalPValues:
    def test_by_hand(self):
        normal = np.array([3.0, 1.0, 2.0, 2.0])
        # At least as large: 4, 4, 3, 1, 0 of 4; one is added to both.
        p_values = conformal_p_values(np.array([0.0, 1.0, 2.0, 2.5, 9.0]), normal)
        np.testing.assert_allclose(p_values, [1, 1, 4 / 5, 2 / 5, 1 / 5])

    def test_they_keep_their_level(self):
        """Each of 99 + 1 normal scores is as likely as any to be the last: P(p <= k / 100) = k %.

        The level of one calibration set varies with a standard deviation of 2.2 % (at 5 %), so
        that the mean of 2,000 sets has one of 0.05 %; four of these, and the noise of 20 new
        scores a set, 0.11 %, make bounds of 0.5 %.
        """
        rng = np.random.default_rng(0)
        scores = rng.standard_cauchy(size=(2000, 119))
        p_values = np.array([conformal_p_values(row[99:], row[:99]) for row in scores])
        for level in (0.01, 0.05, 0.1, 0.5):
            spread = np.sqrt(level * (1 - level) * (1 / 101 + 1 / 20) / 2000)
            assert abs((p_values <= level + 1e-9).mean() - level) < 4 * spread


class TestBenjaminiHochberg:
    def test_by_hand(self):
        # Sorted, with the bounds 0.01, 0.02, ..., 0.05: 0.005, 0.021, 0.028 (the last below its
        # own bound, 0.03, so that the second is flagged too), 0.3, 0.9.
        p_values = [0.3, 0.028, 0.005, 0.9, 0.021]
        flagged = benjamini_hochberg(p_values, 0.05)
        assert flagged.dtype == bool
        np.testing.assert_array_equal(flagged, [False, True, True, False, True])

    def test_each_bound_is_that_of_its_rank(self):
        assert benjamini_hochberg([0.04, 0.3, 0.2], 0.05).tolist() == [False, False, False]
        assert benjamini_hochberg([0.05 * 1.001], 0.05).tolist() == [False]
        assert benjamini_hochberg([0.0, 1.0], 0.05).tolist() == [True, False]

    def test_nothing_stands_out(self):
        assert not benjamini_hochberg(np.linspace(0.1, 1, 50), 0.05).any()

    @pytest.mark.parametrize("n", [3, 7, 49, 99])
    def test_a_p_value_on_the_bound_is_flagged(self, n):
        for k in range(1, n + 1):
            p_values = np.where(np.arange(n) < k, 0.1 * k / n, 1.0)
            assert benjamini_hochberg(p_values, 0.1).sum() == k

    @pytest.mark.parametrize("rate", [0, 1, -0.1, 1.5, np.nan])
    def test_rates_that_are_none(self, rate):
        with pytest.raises(ValueError, match="false_discovery_rate"):
            benjamini_hochberg([0.5], rate)

    @pytest.mark.parametrize("rate", ["0.05", None, True])
    def test_rates_that_are_no_numbers(self, rate):
        with pytest.raises(TypeError, match="false_discovery_rate must be a number"):
            benjamini_hochberg([0.5], rate)

    @pytest.mark.parametrize("p_value", [-0.1, 1.1, np.nan])
    def test_p_values_that_are_none(self, p_value):
        with pytest.raises(ValueError, match="p_values"):
            benjamini_hochberg([0.5, p_value])

    def test_with_conformal_p_values_it_keeps_its_rate(self):
        """At 20 %, with 90 % of the samples normal, at most 18 % of the flagged are expected to be.

        A batch's share of false discoveries has a standard deviation below 15 %, that of the mean
        of 500 below 0.7 %: the bound is four of these above 18 %. That power is left, 60 % of the
        anomalies at least, shows that the bound is not kept by flagging nothing.
        """
        rng = np.random.default_rng(0)
        is_anomaly = np.arange(100) < 10
        shares, powers = [], []
        for _ in range(500):
            normal, batch = rng.normal(size=400), rng.normal(size=100) + 4 * is_anomaly
            flagged = benjamini_hochberg(conformal_p_values(batch, normal), 0.2)
            shares.append((flagged & ~is_anomaly).sum() / max(flagged.sum(), 1))
            powers.append(flagged[is_anomaly].mean())
        assert 0.1 < np.mean(shares) < 0.18 + 0.028
        assert np.mean(powers) > 0.6


class TestThresholdOfTail:
    def test_of_an_exponential_tail_five_per_cent_are_left(self):
        scores = np.random.default_rng(0).exponential(size=100_000)
        assert (scores > threshold_of_tail(scores)).mean() == pytest.approx(0.05, abs=0.003)

    def test_of_normally_distributed_scores_fewer(self):
        scores = np.random.default_rng(0).normal(size=100_000)
        assert 0.005 < (scores > threshold_of_tail(scores)).mean() < 0.05

    @pytest.mark.parametrize("share", [0.05, 0.1, 0.2])
    def test_anomalies_move_it_little_and_are_flagged(self, share):
        rng = np.random.default_rng(0)
        normal, anomalous = rng.exponential(size=5000), 20 + rng.exponential(size=int(5000 * share))
        threshold = threshold_of_tail(np.concatenate([normal, anomalous]))
        assert (anomalous > threshold).all()
        assert 0.005 < (normal > threshold).mean() <= 0.055

    def test_scores_that_are_mostly_alike(self):
        scores = np.r_[np.zeros(900), np.arange(1, 101.0)]
        assert (scores > threshold_of_tail(scores)).mean() == pytest.approx(0.05, abs=0.002)

    @pytest.mark.parametrize("validation_fraction", [0.0, 0.25])
    def test_a_detector_with_it(self, validation_fraction, tmp_path):
        X = np.random.default_rng(0).normal(size=(200, 4))
        detector = GANomalyDetector(
            epochs=3,
            n_estimators=1,
            contamination="auto",
            validation_fraction=validation_fraction,
            random_state=0,
        ).fit(X)
        scores = detector.normal_scores_ if validation_fraction else detector.anomaly_score(X)
        assert detector.threshold_ == pytest.approx(threshold_of_tail(scores), abs=1e-5)
        detector.save(tmp_path / "model")
        facts = load(tmp_path / "model").summary()
        assert facts["threshold"]["contamination"] == "auto"
        assert facts["parameters"]["contamination"] == "auto"

    @pytest.mark.parametrize(("value", "error"), [("many", TypeError), (None, TypeError)])
    def test_what_is_neither(self, value, error):
        with pytest.raises(error, match="contamination"):
            GANomalyDetector(contamination=value).check_parameters()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, "1", None, True, [1.0], np.ones(2)])
def test_a_threshold_set_by_hand_is_a_finite_number(value):
    X = np.random.default_rng(0).normal(size=(20, 2))
    detector = GANomalyDetector(epochs=1, n_estimators=1, random_state=0).fit(X)
    before = detector.threshold_
    with pytest.raises(ValueError, match="threshold_ must be a finite number, got"):
        detector.threshold_ = value
    assert detector.threshold_ == before
    for number in (3, np.float32(3), np.array(3.0)):
        detector.threshold_ = number
        assert detector.threshold_ == 3.0
