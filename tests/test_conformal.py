import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import KFold

from gandetect import GANomalyDetector
from gandetect.conformal import CrossConformal
from gandetect.model.statistics import benjamini_hochberg, conformal_p_values


class Mahalanobis(OutlierMixin, BaseEstimator):
    """Scores by the distance in an estimated covariance, which overfits in many dimensions."""

    def fit(self, X, y=None):
        self.mean_ = X.mean(axis=0)
        self.precision_ = np.linalg.inv(np.cov(X.T) + 0.05 * np.eye(X.shape[1]))
        return self

    def score_samples(self, X):
        difference = np.asarray(X) - self.mean_
        return -np.einsum("ij,jk,ik->i", difference, self.precision_, difference)


def test_by_hand():
    X = np.random.default_rng(0).normal(size=(30, 3))
    conformal = CrossConformal(Mahalanobis(), n_folds=3, random_state=0).fit(X)
    new = np.random.default_rng(1).normal(size=(5, 3))
    n_larger = np.zeros(5)
    for rest, fold in KFold(3, shuffle=True, random_state=0).split(X):
        detector = Mahalanobis().fit(X[rest])
        normal, scores = -detector.score_samples(X[fold]), -detector.score_samples(new)
        n_larger += (normal[:, None] >= scores).sum(axis=0)
    np.testing.assert_allclose(conformal.p_value(new), (1 + n_larger) / 31)
    assert [len(scores) for scores in conformal.normal_scores_] == [10, 10, 10]


def simulated(p_values, n=40, d=8, n_new=40, repeats=300):
    """p-values of new normal samples, over draws of the training and of the new samples."""
    found = []
    for seed in range(repeats):
        rng = np.random.default_rng(seed)
        X, new = rng.normal(size=(n, d)), rng.normal(size=(n_new, d))
        found.append(p_values(X, new))
    return np.array(found)


def cross(X, new):
    return CrossConformal(Mahalanobis(), random_state=0).fit(X).p_value(new)


def split(X, new):
    half = len(X) // 2
    detector = Mahalanobis().fit(X[:half])
    return conformal_p_values(-detector.score_samples(new), -detector.score_samples(X[half:]))


@pytest.mark.parametrize("level", [0.05, 0.1, 0.2])
def test_normal_samples_have_the_level_they_should(level):
    """Of 300 draws: the standard error of a share is at most 0.7 %."""
    shares = {how: (simulated(how) <= level).mean(axis=1) for how in (cross, split)}
    for how, of_draws in shares.items():
        error = of_draws.std() / np.sqrt(len(of_draws))
        # The promise of `cross` is 2 a; what it keeps to is a.
        assert of_draws.mean() <= level + 3 * error, how
        assert of_draws.mean() >= level / 3, how


def test_more_is_found_than_with_samples_that_are_kept():
    """From 40 samples in 8 dimensions, 20 to train on leave a poor covariance."""

    def found(how):
        rng = np.random.default_rng(0)
        of_draws = []
        for _ in range(100):
            X, anomalies = rng.normal(size=(40, 8)), rng.normal(size=(20, 8)) * 1.7
            of_draws.append((how(X, anomalies) <= 0.1).mean())
        return np.mean(of_draws)

    assert found(cross) > found(split) + 0.05


def test_false_discoveries_are_near_their_bound():
    """There is no proof for cross-conformal p-values: what is simulated keeps to the bound."""
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(150):
        X = rng.normal(size=(60, 4))
        new = np.concatenate([rng.normal(size=(40, 4)), rng.normal(size=(10, 4)) + 6])
        conformal = CrossConformal(Mahalanobis(), random_state=0).fit(X)
        flagged = conformal.flag_by_fdr(new, 0.2)
        np.testing.assert_array_equal(flagged, benjamini_hochberg(conformal.p_value(new), 0.2))
        shares.append(flagged[:40].sum() / max(flagged.sum(), 1))
    assert np.mean(shares) <= 0.2 + 3 * np.std(shares) / np.sqrt(150)


def test_of_a_detector_and_a_table():
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"a": rng.normal(size=40), "word": rng.choice(["x", "y"], 40)})
    detector = GANomalyDetector(epochs=2, n_estimators=1, random_state=0)
    conformal = CrossConformal(detector, n_folds=2, random_state=0).fit(X)
    p_values = conformal.p_value(X)
    assert p_values.shape == (40,)
    assert p_values.min() >= 1 / 41
    assert not hasattr(detector, "model_")


def test_before_fit():
    with pytest.raises(NotFittedError):
        CrossConformal(Mahalanobis()).p_value([[0.0]])


def test_too_few_samples():
    with pytest.raises(ValueError, match="n_splits=5"):
        CrossConformal(Mahalanobis()).fit(np.zeros((3, 2)))
