"""What a score means: thresholds, p-values, false-discovery rates, the spread of members."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from gandetect.data.reading import read
from gandetect.model.inference import InferenceMixin
from gandetect.model.parameters import check_score
from gandetect.model.thresholds import (
    benjamini_hochberg,
    check_scores,
    conformal_p_values,
    overflow_as_worst,
    threshold_at_percentile,
)


class ConfidenceMixin(InferenceMixin):
    """What a fitted detector says about its own scores."""

    def anomaly_score(self, X: Any) -> np.ndarray:
        """Larger is more anomalous."""
        raise NotImplementedError

    def infer_threshold(self, X: Any, outlier_perc: float = 5.0) -> Self:
        """Move the threshold so that this percentage of X is flagged.

        Parameters
        ----------
        X : array-like, Dataset or path
            As in `fit`. On a mixed batch, give the percentage of outliers you expect in it; on
            normal samples kept from `fit`, the percentage is the false-alarm rate you accept.
        outlier_perc : float in [0, 100], default=5.0
            With 0 nothing in X is flagged, with 100 everything. Samples that tie with the
            threshold are not flagged, so that ties flag fewer, never more. The threshold lies
            where this percentage of *new* samples exceeds it on average; if X has fewer than
            ``100 / outlier_perc - 1`` samples, beyond their largest score, by the shape of their
            upper half.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If `outlier_perc` lies outside [0, 100], or a sample of X is so far from those of `fit`
            that its score overflows; the threshold then stays where it was.
        """
        scores = self.anomaly_score(X)
        check_scores(scores)
        self.threshold_ = threshold_at_percentile(scores, outlier_perc)
        self.threshold_score_ = self._score_definition()
        return self

    def p_value(self, X: Any) -> np.ndarray:
        """How often a normal sample would score as high as each sample, or higher.

        These are conformal p-values: they compare a score with those of normal samples that were
        kept from training, and assume only that new normal samples come from where those came
        from. Of normal samples, on average at most a share ``a`` has a p-value of at most ``a``.

        Parameters
        ----------
        X : array-like, Dataset or path
            As in `fit`.

        Returns
        -------
        ndarray of shape (n_samples,), float64
            In (0, 1], small for anomalies: at least ``1 / (n + 1)`` with n samples to compare
            with, so that 99 of them can just show 0.01.

        Raises
        ------
        NotFittedError
            If no samples were kept from training: fit with `validation_fraction` above 0, or call
            `calibrate_p_values`.
        ValueError
            If `score` was changed since.

        See Also
        --------
        flag_by_fdr : Which samples to flag, for a bound on the share of false alarms among them.
        """
        check_is_fitted(self)
        if not hasattr(self, "normal_scores_"):
            raise NotFittedError(
                f"This {type(self).__name__} has no normal samples to take p-values from: call "
                "calibrate_p_values with normal samples kept from fit, or fit with "
                "validation_fraction above 0."
            )
        self._check_same_score(
            self.normal_scores_score_, "The p-values were calibrated", "call calibrate_p_values"
        )
        return conformal_p_values(self.anomaly_score(X), self.normal_scores_)

    def calibrate_p_values(self, X: Any) -> Self:
        """Take p-values from these samples from now on.

        Parameters
        ----------
        X : array-like, Dataset or path
            Normal samples, as in `fit`, that were *not* given to `fit`: those score lower than
            new ones, and p-values from them are too small. The more, the finer the p-values.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If a sample of X is so far from those of `fit` that its score overflows.
        """
        scores = self.anomaly_score(X)
        check_scores(scores)
        self.normal_scores_ = np.sort(scores)
        self.normal_scores_score_ = self._score_definition()
        return self

    def flag_by_fdr(self, X: Any, false_discovery_rate: float = 0.05) -> np.ndarray:
        """Flag samples so that few of those flagged are normal (Benjamini and Hochberg's rule).

        A threshold bounds the false alarms among normal samples; where anomalies are rare, most
        alarms are still false. This bounds their share among the alarms. It looks at all of X at
        once, so that a sample may be flagged in one batch and not in another.

        Parameters
        ----------
        X : array-like, Dataset or path
            As in `fit`.
        false_discovery_rate : float in (0, 1), default=0.05
            The bound on the expected share of normal samples among those flagged.

        Returns
        -------
        ndarray of shape (n_samples,), bool
            True for samples that are flagged. Nothing can be flagged in n samples of which k stand
            out unless the p-values come from at least ``n / (k * false_discovery_rate)`` samples.

        Raises
        ------
        NotFittedError, ValueError
            As in `p_value`; ValueError also for a rate outside (0, 1).
        """
        return benjamini_hochberg(self.p_value(X), false_discovery_rate)

    def score_std(self, X: Any) -> np.ndarray:
        """How much the members disagree about each sample.

        The standard deviation of the anomaly score between members, each of which began with its
        own random weights: where it is large, another `random_state` may rank the sample
        elsewhere.

        Parameters
        ----------
        X : array-like, Dataset or path
            As in `fit`.

        Returns
        -------
        ndarray of shape (n_samples,), float64
            In units of `anomaly_score`, which is the mean of the same scores. Divided by the root
            of the number of members it is the standard error of that mean.

        Raises
        ------
        ValueError
            If the detector has one member: 0 would say that it is sure.
        """
        check_is_fitted(self)
        check_score(self)
        if self.n_members_ < 2:
            raise ValueError(
                "score_std compares members, but the detector was fitted with one: fit with "
                "n_estimators of at least 2."
            )
        parts_of = self._fitted_parts_function()

        def spread(nets: Any, x: Tensor) -> Tensor:
            return self._member_scores(parts_of(nets, x), self.calibration_).std(0)

        return overflow_as_worst(self._apply(spread, read(self, X)))

    def _check_threshold(self) -> None:
        """Raise ValueError if what the score is made of was changed after the threshold was set."""
        self._check_same_score(
            self.threshold_score_, "The threshold was set", "call infer_threshold"
        )

    def _check_same_score(self, definition: dict[str, Any], what: str, remedy: str) -> None:
        """Raise ValueError if scores are computed in another way than by `definition`."""
        for name, now in self._score_definition().items():
            before = definition.get(name)
            if now != before:
                raise ValueError(
                    f"{what} with {name}={before!r} and cannot be used with {name}={now!r}: "
                    f"{remedy} or fit again."
                )
