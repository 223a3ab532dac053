"""Conformal p-values for which no normal sample is kept from the training."""

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
    """p-values from all training samples: each is scored by a detector that did not see it.

    `BaseDetector.calibrate_p_values` and `validation_fraction` take samples away from the training.
    Where there are few, that costs either. Here the samples are divided into folds, and a detector
    is fitted to the others of each: all samples are trained on, by all detectors but one, and all
    calibrate. The price is a fit a fold, and a weaker promise.

    Parameters
    ----------
    detector : estimator
        Any outlier detector that scikit-learn can clone and whose sign is known: those of
        gandetect, scikit-learn's, and pipelines that end in one. It is not fitted itself.
    n_folds : int, default=5
        At least 2. More folds leave out less, and take more fits.
    random_state : int, RandomState or None, default=None
        Of the division into folds.

    Attributes
    ----------
    detectors_ : list of estimator
        One a fold, fitted to all others.
    normal_scores_ : list of ndarray
        Of each fold, the anomaly scores of its samples by the detector that did not see them.

    See Also
    --------
    BaseDetector.p_value : With samples kept from the training, one fit, and the exact promise.

    Notes
    -----
    Of new normal samples a share of at most about ``2 a`` has a p-value of at most ``a``; in
    simulations it is near ``a``. `flag_by_fdr` has no proven bound with such p-values, and none is
    given on false discoveries after the fact: for these calibrate with samples of their own.

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
        """Fit a detector to all samples but those of a fold, for each fold.

        Parameters
        ----------
        X : array-like, table, ImageFolder or ImageFiles
            Normal samples, as far as you know.
        y : ignored
            Nothing is learned from it.

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
        """How often a normal sample would score as high as each sample, or higher.

        Parameters
        ----------
        X : array-like, table, ImageFolder or ImageFiles

        Returns
        -------
        ndarray of shape (n_samples,), float64
            In (0, 1], small for anomalies: at least ``1 / (n + 1)`` of n training samples.
        """
        check_is_fitted(self)
        scores = [scores_of(detector, X) for detector in self.detectors_]
        return cross_conformal_p_values(scores, self.normal_scores_)

    def flag_by_fdr(self, X: Any, false_discovery_rate: float = 0.05) -> np.ndarray:
        """Flag samples by Benjamini and Hochberg's rule, as `BaseDetector.flag_by_fdr` does.

        Parameters
        ----------
        X : array-like, table, ImageFolder or ImageFiles
        false_discovery_rate : float in (0, 1), default=0.05

        Returns
        -------
        ndarray of shape (n_samples,), bool
        """
        return benjamini_hochberg(self.p_value(X), false_discovery_rate)
