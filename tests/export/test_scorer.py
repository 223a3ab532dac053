"""A scorer over a graph that is worked by hand: the sum of a sample, flagged above 2."""

import numpy as np
import pandas as pd
import pytest

from gandetect import ArchiveError
from gandetect.export import ExportedScorer, ParityError
from gandetect.export.certificate import Certificate

X = np.array([[0.0, 1.0], [2.0, 3.0], [-1.0, 0.0], [1.0, 0.5], [4.0, 4.0]])


def certificate(**changes):
    values = {
        "detector": "D",
        "gandetect": "1",
        "torch": "2",
        "input_shape": (2,),
        "feature_names": None,
        "threshold": 2.0,
        "block_size": 2,
        "unit": 1.0,
        "max_difference": 0.0,
        "X": X[:2],
        "anomaly_score": np.array([1.0, 5.0]),
    }
    return Certificate(**{**values, **changes})


def run(x):
    assert x.dtype == np.float64
    assert len(x) <= 2
    scores = x.reshape(len(x), -1).sum(axis=1)
    return scores, np.where(scores > 2, -1, 1)


def test_signs():
    scorer = ExportedScorer(run, certificate())
    np.testing.assert_array_equal(scorer.anomaly_score(X), [1, 5, -1, 1.5, 8])
    np.testing.assert_array_equal(scorer.score_samples(X), [-1, -5, 1, -1.5, -8])
    np.testing.assert_array_equal(scorer.predict(X), [1, -1, 1, 1, -1])
    assert (scorer.threshold_, scorer.offset_, scorer.difference) == (2.0, -2.0, 0.0)


def test_a_graph_that_is_not_the_certificates():
    with pytest.raises(ParityError):
        ExportedScorer(lambda x: (run(x)[0] + 1e-3, run(x)[1]), certificate())


def test_a_graph_that_cannot_be_run():
    def fails(x):
        raise RuntimeError("no such input")

    with pytest.raises(ArchiveError, match="no such input"):
        ExportedScorer(fails, certificate())


def test_scores_and_labels_come_from_one_pass():
    calls = []
    scorer = ExportedScorer(lambda x: (calls.append(len(x)), run(x))[1], certificate())
    calls.clear()
    scores, labels = scorer.scores_and_labels(X)
    assert calls == [2, 2, 1]
    np.testing.assert_array_equal(scores, scorer.anomaly_score(X))
    np.testing.assert_array_equal(labels, scorer.predict(X))


def test_flat_images():
    x = np.ones((2, 2, 3))
    scorer = ExportedScorer(
        run, certificate(input_shape=(2, 3), X=x, anomaly_score=np.array([6.0, 6.0]))
    )
    np.testing.assert_array_equal(scorer.anomaly_score(x.reshape(2, 6)), [6, 6])


@pytest.mark.parametrize(
    ("bad", "error", "words"),
    [
        (np.zeros((0, 2)), ValueError, "minimum of 1"),
        (np.zeros((3, 4)), ValueError, "shape"),
        (np.zeros(2), ValueError, "shape"),
        ([[np.nan, 0]], ValueError, "NaN"),
        ([["a", "b"]], ValueError, "numeric|convert"),
        ([[1j, 0]], ValueError, "Complex"),
        (None, ValueError, "dimension"),
    ],
)
def test_bad_input(bad, error, words):
    with pytest.raises((error, TypeError), match=words):
        ExportedScorer(run, certificate()).predict(bad)


def test_names_of_columns():
    scorer = ExportedScorer(run, certificate(feature_names=["a", "b"]))
    scorer.predict(pd.DataFrame(X, columns=["a", "b"]))
    with pytest.raises(ValueError, match="columns"):
        scorer.predict(pd.DataFrame(X, columns=["b", "a"]))
