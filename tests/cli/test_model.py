import numpy as np
import pytest

import gandetect
from gandetect.cli.data import Samples
from gandetect.cli.model import in_known_order, remember_columns, scores_and_flags
from gandetect.cli.options import UsageError


@pytest.fixture
def detector(model):
    return gandetect.load(model)


def samples_of(names):
    return Samples(X=np.arange(2.0 * len(names)).reshape(2, -1), feature_names=names)


def test_columns_are_brought_into_the_order_of_the_fit(detector):
    assert list(detector.feature_names_in_) == ["a", "b", "c"]
    samples = in_known_order(detector, samples_of(["c", "a", "b"]))
    assert samples.X.tolist() == [[1, 2, 0], [4, 5, 3]]
    assert not hasattr(detector, "feature_names_in_")
    remember_columns(detector, samples)
    assert list(detector.feature_names_in_) == ["a", "b", "c"]


@pytest.mark.parametrize("names", [["a", "b", "c"], []])
def test_columns_in_order_or_without_names_stay(detector, names):
    samples = samples_of(names)
    assert in_known_order(detector, samples) is samples


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a", "b"], "lack the column 'c'"),
        (["a", "b", "c", "d"], "have a further column 'd'"),
    ],
)
def test_other_columns(detector, names, message):
    with pytest.raises(UsageError, match=message):
        in_known_order(detector, samples_of(names))


def test_flags_are_those_of_predict(detector, cli_rows):
    samples = in_known_order(detector, Samples(X=cli_rows[0]))
    scores, is_flagged = scores_and_flags(detector, samples, None)
    np.testing.assert_array_equal(scores, detector.anomaly_score(samples.X))
    np.testing.assert_array_equal(is_flagged, detector.predict(samples.X) == -1)
    _, is_flagged = scores_and_flags(detector, samples, 10.0)
    assert is_flagged.sum() == 6
