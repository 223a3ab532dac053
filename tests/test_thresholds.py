"""The threshold of a percentage."""

import numpy as np
import pytest

from gandetect.thresholds import threshold_at_percentile


@pytest.mark.parametrize("percentage", [0, 1, 7, 10, 29, 50, 58, 99, 100])
def test_this_percentage_of_distinct_scores_exceeds_it(percentage):
    scores = np.random.default_rng(0).permutation(1000) / 7
    assert (scores > threshold_at_percentile(scores, percentage)).sum() == 10 * percentage


def test_between_two_scores_it_is_interpolated():
    # The 75th percentile of 0, 1, 2, 10 lies a quarter of the way from 2 to 10.
    assert threshold_at_percentile(np.array([10.0, 0.0, 2.0, 1.0]), 25) == 4.0


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
