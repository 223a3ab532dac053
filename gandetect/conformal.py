"""Cross-conformal p-values, which do not need held-out samples."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.model_selection import KFold
from sklearn.utils.validation import check_is_fitted

from gandetect.datasets.splits import take
from gandetect.metrics import scores_of
from gandetect.model.statistics import benjamini_hochberg, cross_conformal_p_values

__all__ = ["CrossConformal"]


class CrossConformal(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Cross-conformal p-values: each training sample is scored by a detector of another fold.

    `BaseDetector.calibrate_p_values` and `validation_fraction` hold out samples from the training,
    which is a disadvantage with few samples. Here the samples are divided into folds, and for each
    fold a detector is fitted to the other folds: all samples are used for training and for
    calibration. This needs one fit for each fold, and the guarantee is weaker.

    Parameters
    ----------
    detector : estimator
        Any outlier detector that scikit-learn can clone and whose sign is known: detectors of
        gandetect and scikit-learn, and pipelines with one as the last step. It is not fitted;
        clones are.
    n_folds : int, default=5
        At least 2. With more folds, each detector is trained on more samples, and more fits are
        needed.
    random_state : int, RandomState or None, default=None
        Seed of the division into folds.

    Attributes
    ----------
    detectors_ : list of estimator
        One for each fold, fitted to all other folds.
    normal_scores_ : list of ndarray
        The anomaly scores of the samples of each fold by its detector.

    See Also
    --------
    BaseDetector.p_value : With held-out samples, one fit, and the exact guarantee.

    Notes
    -----
    A share of at most about ``2 a`` of new normal samples has a p-value of at most ``a``; in
    simulations it is near ``a``. There is no proof that `flag_by_fdr` controls the false discovery
    rate with these p-values, and no post hoc bound: calibrate with held-out samples for both.

    Examples
    --------
    >>> import numpy as np
    >>> from gandetect import GANomalyDetector
    >>> from gandetect.conformal import CrossConformal
    >>> X = np.random.default_rng(0).normal(size=(60, 3))
    >>> conformal = CrossConformal(GANomalyDetector(epochs=5, random_state=0), random_state=0)
    >>> p_values = conformal.fit(X).p_value([[0.0, 0.0, 0.0], [9.0, 9.0, 9.0]])
    >>> bool(p_values[1] == 1 / 61), bool(p_values[0] > 0.1)
    (True, True)
    """

    def __init__(self, detector: Any, *, n_folds: int = 5, random_state: Any = None) -> None:
        self.detector = detector
        self.n_folds = n_folds
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> Self:
        """Fit one detector for each fold to all other folds.

        Parameters
        ----------
        X : array-like, table, ImageFolder or ImageFiles
            Samples that are assumed to be normal.
        y : ignored
            Not used; present for scikit-learn's interface.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If `n_folds` is below 2, or there are fewer samples.
        """
        folds = KFold(self.n_folds, shuffle=True, random_state=self.random_state)
        n = X.shape[0] if hasattr(X, "shape") else len(X)
        detectors, normal_scores = [], []
        for rest, fold in folds.split(np.zeros((n, 1))):
            detector = clone(self.detector).fit(take(X, rest))
            detectors.append(detector)
            normal_scores.append(scores_of(detector, take(X, fold)))
        self.detectors_, self.normal_scores_ = detectors, normal_scores
        return self

    def p_value(self, X: Any) -> np.ndarray:
        """Return the probability that a normal sample has a score at least as large as each sample.

        Parameters
        ----------
        X : array-like, table, ImageFolder or ImageFiles

        Returns
        -------
        ndarray of shape (n_samples,), float64
            In (0, 1], small for anomalies: at least ``1 / (n + 1)`` with n training samples.
        """
        check_is_fitted(self)
        scores = [scores_of(detector, X) for detector in self.detectors_]
        return cross_conformal_p_values(scores, self.normal_scores_)

    def flag_by_fdr(self, X: Any, false_discovery_rate: float = 0.05) -> np.ndarray:
        """Flag samples by the Benjamini-Hochberg procedure, as `BaseDetector.flag_by_fdr`.

        Parameters
        ----------
        X : array-like, table, ImageFolder or ImageFiles
        false_discovery_rate : float in (0, 1), default=0.05

        Returns
        -------
        ndarray of shape (n_samples,), bool
        """
        return benjamini_hochberg(self.p_value(X), false_discovery_rate)
