"""Arrays of any shape, type and values: a method gives a result, or a TypeError or ValueError."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from gandetect import GANomalyDetector

METHODS = ["score_samples", "predict", "decision_function", "transform", "reconstruct"]
N_COLUMNS = 3

SETTINGS = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
dtypes = st.one_of(
    arrays.boolean_dtypes(),
    arrays.integer_dtypes(endianness="?"),
    arrays.unsigned_integer_dtypes(),
    arrays.floating_dtypes(endianness="?"),
    arrays.complex_number_dtypes(),
    arrays.byte_string_dtypes(max_len=2),
    arrays.unicode_string_dtypes(max_len=2),
    arrays.datetime64_dtypes(),
    arrays.timedelta64_dtypes(),
)
any_shape = arrays.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=4)
# Rows that could be scored as far as their shape goes.
rows_shape = st.tuples(st.integers(1, 5), st.just(N_COLUMNS))
any_array = st.one_of(any_shape, rows_shape).flatmap(lambda shape: arrays.arrays(dtypes, shape))
any_rows = rows_shape.flatmap(
    lambda shape: arrays.arrays(arrays.floating_dtypes(endianness="="), shape)
)


@pytest.fixture(scope="module")
def fitted():
    X = np.random.default_rng(0).normal(size=(30, N_COLUMNS))
    return GANomalyDetector(epochs=1, n_estimators=1, random_state=0).fit(X)


def result_or_refusal(method, X):
    """What the method returns, or None if it refuses X."""
    try:
        return method(X)
    except (TypeError, ValueError) as error:
        assert str(error), "the refusal says nothing"
        return None


@pytest.mark.parametrize("method", [*METHODS, "anomaly_map"])
@given(X=any_array)
@SETTINGS
def test_scoring(fitted, method, X):
    result = result_or_refusal(getattr(fitted, method), X)
    if result is not None:
        assert len(result) == len(X)
        assert np.isfinite(result).all()


@given(X=any_rows)
@SETTINGS
def test_finite_rows_are_scored(fitted, X):
    scores = result_or_refusal(fitted.score_samples, X)
    assert (scores is not None) == bool(np.isfinite(X).all())


@given(X=any_array)
@SETTINGS
def test_fit(X):
    detector = GANomalyDetector(epochs=1, n_estimators=1, random_state=0)
    if result_or_refusal(detector.fit, X) is None:
        assert not hasattr(detector, "networks_")
    else:
        assert np.isfinite(detector.threshold_)


@given(X=any_array, outlier_perc=st.floats() | st.integers())
@SETTINGS
def test_infer_threshold(fitted, X, outlier_perc):
    before = fitted.threshold_
    if result_or_refusal(lambda X: fitted.infer_threshold(X, outlier_perc), X) is None:
        assert fitted.threshold_ == before
    else:
        assert np.isfinite(fitted.threshold_)
