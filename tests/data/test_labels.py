import numpy as np
import pandas as pd
import pytest

from gandetect.data.labels import anomalous, kept_by


@pytest.mark.parametrize(
    "y",
    [
        [0, 1, 0],
        np.array([0.0, 1.0, np.nan]),
        [1, -1, 1],
        [np.nan, -1, np.nan],
        [False, True, False],
        [None, True, False],
        pd.Series([0, 1, None], dtype="Int64"),
        pd.Series([False, True, None], dtype="boolean"),
    ],
    ids=str,
)
def test_the_second_is_anomalous(y):
    assert anomalous(y).tolist() == [False, True, False]
    assert kept_by(y).tolist() == [True, False, True]


@pytest.mark.parametrize("y", [[0, 0], [np.nan, np.nan], [1, -1][:0], [False, False], [None, 0]])
def test_none_is_anomalous(y):
    assert not anomalous(y).any()


def test_booleans_that_are_all_true_are_all_anomalous():
    assert anomalous([True, True]).all()


@pytest.mark.parametrize(
    ("y", "error", "message"),
    [
        (["fraud", "ok"], TypeError, "y == word"),
        (np.array(["0", "1"]), TypeError, "y == word"),
        ([0, 1, 2], ValueError, "must hold 0 and 1"),
        ([-1, 0, 1], ValueError, "must hold 0 and 1"),
        ([1, 1], ValueError, "nothing but 1"),
        ([[0, 1]], ValueError, "one label a sample"),
        (3, ValueError, "one label a sample"),
    ],
    ids=str,
)
def test_other_labels_are_refused(y, error, message):
    with pytest.raises(error, match=message):
        anomalous(y)


def test_excluding_needs_labels():
    with pytest.raises(ValueError, match="needs y"):
        kept_by(None)
