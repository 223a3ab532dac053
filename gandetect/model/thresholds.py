"""From anomaly scores to what is flagged: thresholds, p-values, false-discovery rates."""

from __future__ import annotations

import math
import warnings
from numbers import Real
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from numpy.typing import ArrayLike
from scipy.stats import false_discovery_control

# The score of a sample so far from all others that the networks' numbers overflow: a number that
# float32 has as well, in which exported graphs may keep it.
WORST_SCORE = 2.0**126


def check_scores(anomaly_scores: ArrayLike) -> None:
    """Raise ValueError if a score stands for an overflow: thresholds are not set by such."""
    if not (np.abs(anomaly_scores) < WORST_SCORE).all():
        raise ValueError(
            "Scores of X are not finite, and no threshold can be set by them: leave out samples "
            "with values far from all others, or divide X by a power of ten before fit."
        )


def check_percentage(outlier_perc: Any) -> None:
    """Raise TypeError or ValueError unless this is a percentage."""
    if not isinstance(outlier_perc, Real) or isinstance(outlier_perc, bool):
        raise TypeError(
            f"outlier_perc must be a number from 0 to 100, such as 5 for 5 %, got {outlier_perc!r}."
        )
    if not 0 <= float(outlier_perc) <= 100:
        raise ValueError(f"outlier_perc must be in [0, 100], got {outlier_perc!r}.")


def warn_of_fraction(outlier_perc: float) -> None:
    """Warn of a percentage that was probably meant as a fraction.

    Parameters
    ----------
    outlier_perc : float in [0, 100]

    Warns
    -----
    UserWarning
        If it lies between 0 and 1.

    Examples
    --------
    >>> from gandetect.model.thresholds import warn_of_fraction
    >>> warn_of_fraction(5)
    """
    if 0 < outlier_perc < 1:
        warnings.warn(
            f"outlier_perc={outlier_perc:g} is a percentage, not a fraction, and flags "
            f"{outlier_perc:g} % of the samples: pass {100 * outlier_perc:g} to flag "
            f"{100 * outlier_perc:g} %.",
            UserWarning,
            stacklevel=3,
        )


def warn_of_ties(anomaly_scores: np.ndarray, threshold: float, outlier_perc: float) -> None:
    """Warn of a threshold that flags far fewer scores than asked, because many equal it.

    Parameters
    ----------
    anomaly_scores : ndarray of shape (n_samples,)
        By which the threshold was set.
    threshold : float
        As `threshold_at_percentile` gives it.
    outlier_perc : float in [0, 100]
        The percentage that was asked for.

    Warns
    -----
    UserWarning
        If at least one sample and a fifth of those asked for are not flagged. It says both
        percentages, and which one would flag the ties too.

    Examples
    --------
    >>> import numpy as np
    >>> from gandetect.model.thresholds import threshold_at_percentile, warn_of_ties
    >>> scores = np.arange(100.0)
    >>> warn_of_ties(scores, threshold_at_percentile(scores, 5), 5)
    """
    n = len(anomaly_scores)
    n_asked = n * outlier_perc / 100
    n_flagged = int((anomaly_scores > threshold).sum())
    n_tied = int((anomaly_scores == threshold).sum())
    n_missed = n_asked - n_flagged
    # Of distinct scores, less than one sample is missed.
    if n_missed < max(1, n_asked / 5):
        return
    # Where the threshold is the next lower score.
    larger = math.ceil(1e4 * (n_flagged + n_tied + 1) / (n + 1)) / 100
    warnings.warn(
        f"The threshold flags {100 * n_flagged / n:.3g} % of the samples and not "
        f"{outlier_perc:g} %: the scores of {100 * n_tied / n:.3g} % are equal to it, and ties are "
        f"not flagged. With outlier_perc={larger:g} they are flagged too.",
        UserWarning,
        stacklevel=3,
    )


def threshold_at_percentile(
    anomaly_scores: np.ndarray,
    outlier_perc: float,
    *,
    method: Literal["linear", "weibull"] = "weibull",
) -> float:
    """The threshold above which `outlier_perc` percent of the scores lie.

    A sample is flagged when its score is strictly greater than the threshold.

    Parameters
    ----------
    anomaly_scores : ndarray of shape (n_samples,)
        Larger is more anomalous.
    outlier_perc : float in [0, 100]
        The percentage to flag. With 0 nothing that was given is flagged, with 100 everything is.
        Between the two the threshold is interpolated between neighbouring scores; scores that tie
        with it are not flagged, so that ties flag fewer, never more.
    method : {"linear", "weibull"}, default="weibull"
        Where between neighbouring scores, by numpy's names. Both flag this percentage of the
        scores that were given, to the nearest one or two. With "weibull" this percentage of *new*
        scores from the same source exceeds the threshold on average, however few scores were
        given: of n of them, as long as the percentage is at least ``100 / (n + 1)``. Below, the
        threshold lies above all scores, where an exponential tail, as steep as the upper half of
        the scores, has this percentage left: of 11 normally distributed scores and 5 %, 4.6 %,
        where the largest score would flag 8.3 %. With "linear" it is more, by nearly ``100 / n``
        points.

    Returns
    -------
    float

    Raises
    ------
    TypeError, ValueError
        If `outlier_perc` is no number, or lies outside [0, 100].

    Examples
    --------
    >>> import numpy as np
    >>> from gandetect.model.thresholds import threshold_at_percentile
    >>> scores = np.arange(100.0)
    >>> int((scores > threshold_at_percentile(scores, 5)).sum())
    5
    """
    check_percentage(outlier_perc)
    if outlier_perc == 100:
        return float(np.nextafter(np.min(anomaly_scores), -np.inf))
    n_too_few = 100 / outlier_perc - 1 if outlier_perc else 0
    if method == "weibull" and len(anomaly_scores) < n_too_few:
        return _in_the_tail(anomaly_scores, outlier_perc / 100)
    return float(np.percentile(anomaly_scores, 100 - outlier_perc, method=method))


def _in_the_tail(scores: np.ndarray, share: float) -> float:
    """Where an exponential tail has this share left, of which the largest score has 1 / (n + 1)."""
    median = np.median(scores)
    upper = scores[scores > median]
    steepness = (upper - median).mean() if len(upper) else 0.0
    return float(scores.max() - steepness * np.log((len(scores) + 1) * share))


def conformal_p_values(anomaly_scores: np.ndarray, normal_scores: np.ndarray) -> np.ndarray:
    """How often a normal sample scores at least as high, by the scores of normal samples.

    If a new sample is normal and its score exchangeable with those of `normal_scores`, its
    p-value is at most ``a`` with a probability of at most ``a``, whatever the detector and the
    distribution are.

    Parameters
    ----------
    anomaly_scores : ndarray of shape (n_samples,)
        Larger is more anomalous.
    normal_scores : ndarray of shape (n_normal,)
        Scores of normal samples that the detector did not learn from.

    Returns
    -------
    ndarray of shape (n_samples,), float64
        ``(1 + how many normal scores are at least as large) / (n_normal + 1)``: never 0, and in
        steps of ``1 / (n_normal + 1)``.

    References
    ----------
    Bates, Candès, Lei, Romano and Sesia, "Testing for outliers with conformal p-values", Annals
    of Statistics 51(1), 2023, equation 2.

    Examples
    --------
    >>> import numpy as np
    >>> from gandetect.model.thresholds import conformal_p_values
    >>> conformal_p_values(np.array([0.0, 2.5, 9.0]), np.array([1.0, 2.0, 3.0])).tolist()
    [1.0, 0.5, 0.25]
    """
    ordered = np.sort(normal_scores)
    n_at_least_as_large = len(ordered) - np.searchsorted(ordered, anomaly_scores, side="left")
    return (1.0 + n_at_least_as_large) / (len(ordered) + 1)


def benjamini_hochberg(
    p_values: ArrayLike, false_discovery_rate: float = 0.05
) -> npt.NDArray[np.bool_]:
    """Flag as many samples as a bound on the share of false alarms among them allows.

    Parameters
    ----------
    p_values : array-like of shape (n_samples,)
        In [0, 1], small for anomalies.
    false_discovery_rate : float in (0, 1), default=0.05
        The bound on the expected share of normal samples among those that are flagged.

    Returns
    -------
    ndarray of shape (n_samples,), bool
        True for the samples to flag, none where nothing stands out.

    Raises
    ------
    TypeError, ValueError
        If `false_discovery_rate` is no number or lies outside (0, 1), or a p-value outside [0, 1].

    References
    ----------
    Benjamini and Hochberg, "Controlling the false discovery rate", Journal of the Royal
    Statistical Society B 57(1), 1995. That the rule holds for conformal p-values, which share
    their normal samples and so depend on each other: Bates et al., Annals of Statistics 51(1),
    2023, theorem 2.

    Examples
    --------
    >>> from gandetect.model.thresholds import benjamini_hochberg
    >>> benjamini_hochberg([0.01, 0.03, 0.6, 0.02], 0.05).tolist()
    [True, True, False, True]
    """
    if not isinstance(false_discovery_rate, Real) or isinstance(false_discovery_rate, bool):
        raise TypeError(
            f"false_discovery_rate must be a number, such as 0.05, got {false_discovery_rate!r}."
        )
    if not 0 < float(false_discovery_rate) < 1:
        raise ValueError(
            f"false_discovery_rate must lie between 0 and 1, got {false_discovery_rate!r}."
        )
    p_values = np.asarray(p_values, dtype=np.float64)
    if not ((p_values >= 0) & (p_values <= 1)).all():
        raise ValueError("p_values must all lie in [0, 1].")
    adjusted = false_discovery_control(p_values)
    # Conformal p-values lie on a grid, and so on the bound itself: rounding must not lift them.
    return adjusted <= false_discovery_rate * (1 + 1e-12)
