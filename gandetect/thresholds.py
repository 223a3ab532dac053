"""From anomaly scores to the threshold above which a sample is flagged."""

from __future__ import annotations

import numpy as np


def threshold_at_percentile(anomaly_scores: np.ndarray, outlier_perc: float) -> float:
    """The threshold above which `outlier_perc` percent of the scores lie.

    A sample is flagged when its score is strictly greater than the threshold.

    Parameters
    ----------
    anomaly_scores : ndarray of shape (n_samples,)
        Larger is more anomalous.
    outlier_perc : float in [0, 100]
        The percentage to flag. With 0 nothing that was given is flagged, with 100 everything is.
        Between the two the threshold is interpolated linearly between neighbouring scores; scores
        that tie with it are not flagged, so that ties flag fewer, never more.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If `outlier_perc` lies outside [0, 100].

    Examples
    --------
    >>> import numpy as np
    >>> from gandetect.thresholds import threshold_at_percentile
    >>> scores = np.arange(100.0)
    >>> int((scores > threshold_at_percentile(scores, 5)).sum())
    5
    """
    if not 0 <= outlier_perc <= 100:
        raise ValueError(f"outlier_perc must be in [0, 100], got {outlier_perc!r}.")
    if outlier_perc == 100:
        return float(np.nextafter(np.min(anomaly_scores), -np.inf))
    return float(np.percentile(anomaly_scores, 100 - outlier_perc))
