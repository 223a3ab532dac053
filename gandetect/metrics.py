"""Metrics in addition to scikit-learn's: scorers with a checked sign, F1 over thresholds, pixels.

An anomaly score is larger for more anomalous samples, ``-score_samples(X)``. A sample is an inlier
if its score is at most the threshold, as in ``predict``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import zip_longest
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from sklearn.metrics import auc, average_precision_score, roc_auc_score
from sklearn.utils import (
    assert_all_finite,
    check_array,
    check_random_state,
    check_scalar,
    column_or_1d,
)

from gandetect.data.values import checked_values

__all__ = [
    "AnomalyScorer",
    "F1Curve",
    "average_precision_scorer",
    "detection_rate_at_fpr",
    "f1_over_tau",
    "milliseconds_per_sample",
    "per_region_overlap",
    "pixel_average_precision",
    "pixel_roc_auc",
    "roc_auc_scorer",
]

FloatArray = NDArray[np.float64]
Mask = NDArray[np.bool_]
Images = Iterable[ArrayLike]
Keys = NDArray[np.uint64]
# The largest error of a pixel metric, relative to scikit-learn's metric of all pixels.
_LARGEST_ERROR = 4e-6
# In the first reading, pixels are counted by this number of leading bits of the keys of scores.
_FIRST_BITS = 18
# The largest number of parts of a bin in one reading; bins with many scores are split again.
_MOST_PARTS = 2**17
_NO_IMAGE = object()


@dataclass(frozen=True, repr=False)
class AnomalyScorer:
    """A scorer for ``scoring=`` with the correct sign for the label of the anomalies.

    ``scoring="roc_auc"`` uses label 1 as positive, but the decision function of an outlier detector
    is larger for inliers, so that with 1 for anomalies it gives 1 - AUROC without a warning. This
    scorer gives the same value for {0, 1} and {False, True} (1 is the anomaly), for {-1, 1} (-1 is
    the anomaly, as in scikit-learn), and for any labels with `anomaly_label`.

    Pass it to `sklearn.callback.ScoringMonitor` in a dict, ``{"roc_auc": roc_auc_scorer}``.
    scikit-learn 1.9 logs a scorer without a name only if it was created by `make_scorer`, which
    cannot check the sign.

    Parameters
    ----------
    metric : callable
        ``metric(is_anomaly, anomaly_score) -> float``, larger is better, such as
        `sklearn.metrics.roc_auc_score`. A module-level function keeps the scorer picklable.
    anomaly_label : object, default=None
        The label of anomalies; all others are normal. None reads it from the labels, as above.

    Examples
    --------
    >>> from sklearn.ensemble import IsolationForest
    >>> from gandetect.metrics import roc_auc_scorer
    >>> X = [[0.0], [0.1], [0.2], [9.0]]
    >>> detector = IsolationForest(random_state=0).fit(X)
    >>> roc_auc_scorer(detector, X, [0, 0, 0, 1]), roc_auc_scorer(detector, X, [1, 1, 1, -1])
    (1.0, 1.0)
    >>> roc_auc_scorer.with_anomaly_label("fraud")(detector, X, ["ok", "ok", "ok", "fraud"])
    1.0
    """

    metric: Callable[[Mask, FloatArray], float]
    anomaly_label: Any = None

    def with_anomaly_label(self, anomaly_label: Any) -> AnomalyScorer:
        """Return a scorer with the same metric for other labels.

        Parameters
        ----------
        anomaly_label : object
            The label of anomalies in ``y``; every other label is normal.

        Returns
        -------
        AnomalyScorer
        """
        return replace(self, anomaly_label=anomaly_label)

    def __call__(self, estimator: Any, X: Any, y: ArrayLike) -> float:
        """Score a fitted detector; larger is better.

        Parameters
        ----------
        estimator : object
            A fitted outlier detector, or a pipeline with one as its last step.
        X : array-like of shape (n_samples, ...)
            The samples.
        y : array-like of shape (n_samples,)
            Labels in one of the conventions of the class.

        Returns
        -------
        float

        Raises
        ------
        ValueError
            If `y` has one class, missing labels, or ambiguous labels.
        TypeError
            If `estimator` cannot score, or only by a ``decision_function`` of unknown sign.
        """
        return float(self.metric(is_anomalous(y, self.anomaly_label), scores_of(estimator, X)))

    @property
    def __name__(self) -> str:
        """The name of the metric, for the axis of learning and validation curves."""
        return str(getattr(self.metric, "__name__", type(self.metric).__name__))

    def __repr__(self) -> str:
        """Return the name of the metric without an address, so that output is reproducible."""
        label = "" if self.anomaly_label is None else f", anomaly_label={self.anomaly_label!r}"
        return f"AnomalyScorer({getattr(self.metric, '__name__', self.metric)}{label})"


#: Scorer of the area under the ROC curve.
roc_auc_scorer = AnomalyScorer(roc_auc_score)
#: Scorer of the average precision, with the anomalies as the positive class.
average_precision_scorer = AnomalyScorer(average_precision_score)


def is_anomalous(y: ArrayLike | None, anomaly_label: Any = None) -> Mask:
    """Return which samples are anomalies; raise ValueError for ambiguous labels."""
    y = np.asarray(column_or_1d(y))
    assert_all_finite(y, input_name="y")
    labels = set(y.tolist())
    shown = ", ".join(sorted(map(repr, labels))[:6])
    if len(labels) < 2 or None in labels:
        raise ValueError(
            f"y has the labels {shown}: it must label every sample, and have normal samples as "
            "well as anomalies (in cross-validation, pass cv=StratifiedKFold())."
        )
    if anomaly_label is None:
        if labels not in ({0, 1}, {-1, 1}):
            raise ValueError(
                f"y has the labels {shown}: use {{0, 1}} or booleans (1 is an anomaly), {{-1, 1}} "
                '(-1 is), or name the anomaly: roc_auc_scorer.with_anomaly_label("fraud").'
            )
        anomaly_label = 1 if labels == {0, 1} else -1
    if anomaly_label not in labels:
        raise ValueError(f"anomaly_label={anomaly_label!r} is not a label of y ({shown}).")
    return np.asarray(y == anomaly_label, dtype=bool)


def scores_of(estimator: Any, X: Any) -> FloatArray:
    """Score X so that larger is more anomalous, for detectors of any package."""
    name = type(estimator).__name__
    if hasattr(estimator, "score_samples"):
        return -np.asarray(estimator.score_samples(X))
    if not hasattr(estimator, "decision_function"):
        raise TypeError(f"{name} has no score_samples (LocalOutlierFactor: with novelty=True).")
    # PyOD's decision_function is larger for anomalies, that of a classifier for its second class,
    # and both predict other labels than -1 and 1. A detector that predicts -1 and 1 follows
    # scikit-learn's convention, in which decision_function is larger for inliers.
    if hasattr(estimator, "predict") and not set(np.unique(estimator.predict(X))) <= {-1, 1}:
        raise TypeError(
            f"{name} does not predict -1 for outliers and 1 for inliers, so the sign of its "
            "decision_function is unknown: add a method score_samples that is larger for inliers."
        )
    return -np.asarray(estimator.decision_function(X))


def _check_scores(scores: ArrayLike, name: str) -> FloatArray:
    """Convert scores to a 1-D array that is finite and not empty."""
    checked = check_array(scores, ensure_2d=False, dtype=np.float64, input_name=name)
    try:
        return np.asarray(column_or_1d(checked))
    except ValueError as err:  # scikit-learn below 1.8 has no parameter for the name
        raise ValueError(
            f"{name} must be a 1d array with one score for each sample, got shape {checked.shape}."
        ) from err


@dataclass(frozen=True, eq=False)
class F1Curve:
    """The F1 score of the inliers over the threshold, with that of a constant prediction.

    Parameters
    ----------
    taus : ndarray of shape (n_taus,)
        Thresholds of the anomaly score.
    f1 : ndarray of shape (n_taus,)
        F1 score at each threshold, with the inliers as the positive class.
    constant_f1 : float
        F1 score of predicting inliers only, the baseline of the curve.
    outlier_share : float
        Share of outliers among the samples of the curve.
    """

    taus: FloatArray
    f1: FloatArray
    constant_f1: float
    outlier_share: float


def f1_over_tau(
    y_true: ArrayLike,
    anomaly_score: ArrayLike,
    taus: ArrayLike | None = None,
    *,
    outlier_share: float | None = None,
    anomaly_label: Any = None,
    random_state: int | np.random.RandomState | None = None,
) -> F1Curve:
    """Compute the F1 score of the inliers over the threshold τ, as in the paper of ALOCC.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        Labels: {0, 1} or booleans (1 is an outlier), {-1, 1} (-1 is an outlier), or any other
        values with `anomaly_label`.
    anomaly_score : array-like of shape (n_samples,)
        Scores, larger for more anomalous samples.
    taus : array-like of shape (n_taus,), default=None
        Thresholds, in units of `anomaly_score`. None uses every distinct score: the whole curve.
    outlier_share : float, default=None
        Share of outliers in the evaluated samples, in (0, 1); the paper uses 0.1 to 0.5. All
        inliers are kept and outliers are drawn without replacement. None uses all samples.
    anomaly_label : object, default=None
        The label of outliers; required for other labels than {0, 1}, booleans and {-1, 1}.
    random_state : int, RandomState or None, default=None
        Seed of the draw of outliers. With the same integer, a larger share contains the outliers of
        a smaller one.

    Returns
    -------
    F1Curve
        Thresholds, F1 scores, the F1 score of a constant prediction, and the share of outliers.

    Raises
    ------
    ValueError
        If labels are ambiguous, scores not finite, lengths different, or outliers too few.

    Notes
    -----
    A sample is an inlier if its score is at most τ. In ALOCC [1]_ x is an inlier if D(R(x)) > τ;
    with the anomaly score 1 - D(R(x)), the τ of the paper is 1 - τ here. With p as the share of
    inliers, predicting inliers only has F1 = 2p / (1 + p): .947, .889, .824, .750, .667 at 10, ...,
    50 % outliers.

    References
    ----------
    .. [1] M. Sabokrou, M. Khalooei, M. Fathy, E. Adeli, "Adversarially Learned One-Class
       Classifier for Novelty Detection", CVPR 2018, Figure 8.

    Examples
    --------
    >>> from gandetect.metrics import f1_over_tau
    >>> curve = f1_over_tau([0, 0, 0, 1], [0.1, 0.2, 0.6, 0.5], taus=[0.2, 0.5])
    >>> curve.f1.round(3).tolist(), round(curve.constant_f1, 3)
    ([0.8, 0.667], 0.857)
    """
    scores = _check_scores(anomaly_score, "anomaly_score")
    is_outlier = is_anomalous(y_true, anomaly_label)
    if len(is_outlier) != len(scores):
        raise ValueError(f"y_true has {len(is_outlier)} labels for {len(scores)} scores.")
    inliers, outliers = scores[~is_outlier], scores[is_outlier]
    if outlier_share is not None:
        n_drawn = _n_outliers(outlier_share, len(inliers), len(outliers))
        outliers = check_random_state(random_state).permutation(outliers)[:n_drawn]
    tau = np.union1d(inliers, outliers) if taus is None else _check_scores(taus, "taus")
    true_positives = np.searchsorted(np.sort(inliers), tau, side="right")
    false_positives = np.searchsorted(np.sort(outliers), tau, side="right")
    return F1Curve(
        taus=tau,
        f1=2 * true_positives / (true_positives + false_positives + len(inliers)),
        constant_f1=2 * len(inliers) / (2 * len(inliers) + len(outliers)),
        outlier_share=len(outliers) / (len(inliers) + len(outliers)),
    )


def _n_outliers(outlier_share: float, n_inliers: int, n_available: int) -> int:
    """Return the number of outliers that gives this share together with all inliers."""
    if not 0 < outlier_share < 1:
        raise ValueError(f"outlier_share must be in (0, 1), got {outlier_share!r}.")
    n_outliers = round(n_inliers * outlier_share / (1 - outlier_share))
    if not 1 <= n_outliers <= n_available:
        raise ValueError(
            f"outlier_share={outlier_share} with {n_inliers} inliers needs {n_outliers} "
            f"outliers, which must be from 1 to the {n_available} available ones."
        )
    return n_outliers


def detection_rate_at_fpr(
    normal_scores: ArrayLike, anomaly_scores: ArrayLike, fpr: float = 0.05
) -> float:
    """Compute the share of detected anomalies at a given false-alarm rate.

    Parameters
    ----------
    normal_scores : array-like of shape (n_normal,)
        Anomaly scores of normal samples, preferably not of training samples.
    anomaly_scores : array-like of shape (n_anomalies,)
        Anomaly scores of anomalies.
    fpr : float, default=0.05
        False-alarm rate, in [0, 1). The threshold is the ``1 - fpr`` quantile of `normal_scores`:
        the smallest of these scores that is exceeded by at most this share of them.

    Returns
    -------
    float
        Share of `anomaly_scores` above the threshold, in [0, 1].

    Raises
    ------
    ValueError
        If scores are empty or not finite, or `fpr` is out of range.

    Examples
    --------
    >>> from gandetect.metrics import detection_rate_at_fpr
    >>> detection_rate_at_fpr([0.1, 0.2, 0.3, 0.4], [0.2, 0.35, 0.5, 0.6], fpr=0.25)
    0.75
    """
    if not 0 <= fpr < 1:
        raise ValueError(f"fpr must be in [0, 1), got {fpr!r}.")
    normal = _check_scores(normal_scores, "normal_scores")
    # NumPy's default quantile can be between two scores, and flag more samples than requested.
    threshold = np.quantile(normal, 1 - fpr, method="inverted_cdf")
    return float(np.mean(_check_scores(anomaly_scores, "anomaly_scores") > threshold))


def milliseconds_per_sample(estimator: Any, X: Any, n_repeats: int = 9) -> float:
    """Measure the milliseconds for scoring a sample in a batch of this size.

    Parameters
    ----------
    estimator : object
        A fitted detector with `score_samples` or `anomaly_score`.
    X : array-like of shape (n_samples, ...)
        One batch in memory: a single sample for the latency, 64 or more for the throughput.
    n_repeats : int, default=9
        Number of measured calls, after a first call that allocates memory and is not measured.

    Returns
    -------
    float
        The median over the calls of the milliseconds of wall time, divided by the number of
        samples.

    Notes
    -----
    The time depends on the machine, its other load, and the number of threads of torch. The median
    is not affected by a few delayed calls.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.ensemble import IsolationForest
    >>> from gandetect.metrics import milliseconds_per_sample
    >>> X = np.random.default_rng(0).normal(size=(64, 4))
    >>> forest = IsolationForest(n_estimators=10, random_state=0).fit(X)
    >>> milliseconds_per_sample(forest, X) < milliseconds_per_sample(forest, X[:1])
    True
    """
    check_scalar(n_repeats, "n_repeats", Integral, min_val=1)
    score = getattr(estimator, "score_samples", None) or estimator.anomaly_score
    n_samples = len(score(X))
    seconds = []
    for _ in range(n_repeats):
        start = time.perf_counter()
        score(X)
        seconds.append(time.perf_counter() - start)
    return float(1000 * np.median(seconds) / n_samples)


def pixel_roc_auc(masks: Images, anomaly_maps: Images) -> float:
    """Compute the area under the ROC curve of all pixels of all images.

    Parameters
    ----------
    masks : array-like of shape (n_images, height, width) or iterable of (height, width) arrays
        Ground truth: 0 for normal pixels, other values for anomalous ones. Sizes may differ. An
        iterable is read several times, one image at a time, so that the images need not fit in
        memory; it must return the same images each time.
    anomaly_maps : array-like or iterable, of the same shapes as `masks`
        Anomaly scores, larger for more anomalous pixels; compared in float64.

    Returns
    -------
    float
        Area under the curve, in [0, 1]. It differs by at most 4e-6 from scikit-learn's
        `roc_auc_score` of all pixels.

    Raises
    ------
    ValueError
        If an image is not 2-D, a mask or map is not finite, shapes or numbers of images differ,
        all pixels have one class, or an iterable returns other values when it is read again.
    TypeError
        If an iterable can be read only once, as a generator, or contains other values than real
        numbers.

    Notes
    -----
    Pixels are counted in bins of scores. This needs some ten megabytes for any number of images, in
    addition to one image. The counts give a bound of the error, because only the order of unequal
    scores inside a bin is unknown. Every further reading splits the bins with the largest errors,
    until their sum is below 4e-6. Two or three readings are usual, and one if there are few
    distinct scores.

    Examples
    --------
    >>> from gandetect.metrics import pixel_roc_auc
    >>> pixel_roc_auc([[[0, 0], [1, 1]]], [[[0.1, 0.6], [0.5, 0.9]]])
    0.75
    """
    return _area_under_curve(masks, anomaly_maps, max_fpr=1.0, by_region=False)


def pixel_average_precision(masks: Images, anomaly_maps: Images) -> float:
    """Compute the average precision of all pixels of all images.

    Parameters
    ----------
    masks, anomaly_maps : array-like or iterable
        As in `pixel_roc_auc`.

    Returns
    -------
    float
        Average precision of the anomalous pixels, in [0, 1]. It differs by at most 4e-6 from
        scikit-learn's `average_precision_score` of all pixels. The chance level is the share of
        anomalous pixels.

    Raises
    ------
    ValueError, TypeError
        As in `pixel_roc_auc`.

    Examples
    --------
    >>> from gandetect.metrics import pixel_average_precision
    >>> round(pixel_average_precision([[[0, 0], [1, 1]]], [[[0.1, 0.6], [0.5, 0.9]]]), 3)
    0.833
    """

    def largest_errors(normal: FloatArray, anomalous: FloatArray) -> FloatArray:
        # The difference between the two extreme orders in a bin: all anomalous pixels first, and
        # all normal pixels first.
        positives, negatives = np.cumsum(anomalous), np.cumsum(normal)
        best = positives / np.maximum(positives + negatives - normal, 1)
        first = positives - anomalous + 1
        errors: FloatArray = (best - first / (first + negatives)) * anomalous / positives[-1]
        return errors

    normal, anomalous = _counts(masks, anomaly_maps, largest_errors)
    true_positives = np.cumsum(anomalous)
    precision = true_positives / (true_positives + np.cumsum(normal))
    return float(np.sum(anomalous * precision) / true_positives[-1])


def per_region_overlap(masks: Images, anomaly_maps: Images, max_fpr: float = 0.3) -> float:
    """Compute the area under the per-region overlap (PRO) curve.

    The overlap at a threshold is the flagged share of a ground-truth region, averaged over the
    regions of all images, so that small and large defects have equal weight [1]_. It equals the
    recall of pixels weighted by 1 / (size of their region).

    Parameters
    ----------
    masks, anomaly_maps : array-like or iterable
        As in `pixel_roc_auc`. Pixels connected by a side or a corner form a region, as in the
        evaluation code of MVTec AD.
    max_fpr : float, default=0.3
        Flagged share of all normal pixels at which the curve ends, in (0, 1]; the paper uses 0.3.

    Returns
    -------
    float
        Area up to `max_fpr`, divided by `max_fpr`, in [0, 1]. It differs by at most 4e-6 from the
        area with all scores as thresholds. The chance level is ``max_fpr / 2``.

    Raises
    ------
    ValueError, TypeError
        As in `pixel_roc_auc`; ValueError also if `max_fpr` is out of range.

    References
    ----------
    .. [1] P. Bergmann, K. Batzner, M. Fauser, D. Sattlegger, C. Steger, "The MVTec Anomaly
       Detection Dataset: A Comprehensive Real-World Dataset for Unsupervised Anomaly Detection",
       International Journal of Computer Vision 129, 2021.

    Examples
    --------
    >>> from gandetect.metrics import per_region_overlap
    >>> per_region_overlap([[[1, 0, 0], [0, 0, 1]]], [[[9, 1, 1], [1, 8, 5]]], max_fpr=0.5)
    0.75
    """
    if not 0 < max_fpr <= 1:
        raise ValueError(f"max_fpr must be in (0, 1], got {max_fpr!r}.")
    return _area_under_curve(masks, anomaly_maps, max_fpr, by_region=True)


def _area_under_curve(
    masks: Images, anomaly_maps: Images, max_fpr: float, by_region: bool
) -> float:
    """Integrate the weighted recall over the false positive rate, relative to the largest area."""

    def largest_errors(normal: FloatArray, anomalous: FloatArray) -> FloatArray:
        # The curve passes through the box of each bin. The error of a straight line is at most half
        # of the box, and the whole box where the integral ends inside the bin.
        boxes: FloatArray = normal / normal.sum() * (anomalous / anomalous.sum()) / max_fpr
        right = np.cumsum(normal) / normal.sum()
        left = right - normal / normal.sum()
        return boxes * np.where(right <= max_fpr, 0.5, left <= max_fpr)

    counts = _counts(masks, anomaly_maps, largest_errors, by_region)
    rising = np.cumsum(counts, axis=1)
    fpr, recall = np.insert(rising / rising[:, -1:], 0, 0.0, axis=1)
    stop = np.searchsorted(fpr, max_fpr, side="right")
    last_recall = np.interp(max_fpr, fpr, recall)
    area = auc(np.append(fpr[:stop], max_fpr), np.append(recall[:stop], last_recall))
    return float(area / max_fpr)


def _counts(
    masks: Images,
    anomaly_maps: Images,
    largest_errors: Callable[[FloatArray, FloatArray], FloatArray],
    by_region: bool = False,
) -> FloatArray:
    """Count normal pixels (row 0) and anomalous ones or regions (row 1) in bins of falling scores.

    Bins are split until the sum of their `largest_errors`, which bound the effect of the unknown
    order inside each bin, is below `_LARGEST_ERROR`.
    """
    if isinstance(masks, Iterator) or isinstance(anomaly_maps, Iterator):
        raise TypeError(
            "masks and anomaly_maps are read several times, a generator only once: pass lists."
        )
    starts = np.arange(2**_FIRST_BITS, dtype=np.uint64) << np.uint64(64 - _FIRST_BITS)
    stops = starts | np.uint64(2 ** (64 - _FIRST_BITS) - 1)
    n_pixels: list[int] = []
    while True:
        bins = _Bins(starts, stops)
        n_read = 0
        for mask, keys in _images(masks, anomaly_maps):
            bins.add(0, keys[~mask])
            bins.add(1, keys[mask], _region_weights(mask) if by_region else None)
            n_read += mask.size
        n_pixels.append(n_read)
        if bins.have_missed or n_read != n_pixels[0]:
            raise ValueError(
                "masks or anomaly_maps gave other values when they were read again: pass lists, "
                "or iterables with the same images in the same order each time."
            )
        for counts, kind in zip(bins.counts, ("normal", "anomalous"), strict=True):
            if not counts.any():
                raise ValueError(f"masks contain no {kind} pixel: the metric needs both classes.")
        used = np.flatnonzero(bins.counts.any(axis=0))[::-1]
        falling, low, high = bins.counts[:, used], bins.lowest[used], bins.highest[used]
        errors = np.where(low < high, largest_errors(*falling), 0.0)
        if errors.sum() <= _LARGEST_ERROR:
            return falling
        # The smallest number of parts for which the sum is half of the bound, if the scores are
        # uniformly distributed in each bin.
        sizes = np.sqrt(errors[::-1])
        n_parts = np.ceil(sizes * (2 * sizes.sum() / _LARGEST_ERROR)).clip(1, _MOST_PARTS)
        starts, stops = _split(low[::-1], high[::-1], n_parts.astype(np.int64))


class _Bins:
    """Counts of two kinds in bins of keys, and the lowest and the highest key in each."""

    def __init__(self, starts: Keys, stops: Keys) -> None:
        self.starts, self.stops = starts, stops
        self.counts = np.zeros((2, len(starts)))
        self.lowest, self.highest = stops.copy(), starts.copy()
        self.have_missed = False

    def add(self, kind: int, keys: Keys, weights: FloatArray | None = None) -> None:
        """Count keys, each with weight 1 or with the given weight."""
        if not len(keys):
            return
        order = np.argsort(keys)
        keys = keys[order]
        at = np.searchsorted(self.starts, keys, side="right") - 1
        first = np.flatnonzero(np.diff(at, prepend=-2))
        stop = np.append(first[1:], len(keys))
        found, low, high = at[first], keys[first], keys[stop - 1]
        self.have_missed |= bool(found[0] < 0 or (high > self.stops[found]).any())
        self.counts[kind, found] += (
            stop - first if weights is None else np.add.reduceat(weights[order], first)
        )
        self.lowest[found] = np.minimum(self.lowest[found], low)
        self.highest[found] = np.maximum(self.highest[found], high)


def _split(low: Keys, high: Keys, n_parts: NDArray[np.int64]) -> tuple[Keys, Keys]:
    """Split each closed range of keys into parts of equal width."""
    width = (high - low) // n_parts.astype(np.uint64) + np.uint64(1)
    n_parts = np.minimum(n_parts, ((high - low) // width).astype(np.int64) + 1)
    part = np.arange(n_parts.sum()) - np.repeat(np.cumsum(n_parts) - n_parts, n_parts)
    of_part = np.repeat(width, n_parts)
    starts = np.repeat(low, n_parts) + of_part * part.astype(np.uint64)
    return starts, np.minimum(starts + (of_part - np.uint64(1)), np.repeat(high, n_parts))


def _region_weights(mask: Mask) -> FloatArray:
    """Return weights of the anomalous pixels, with a sum of 1 for each connected region."""
    regions, _ = ndimage.label(mask, structure=np.ones((3, 3)))
    region = regions[mask]
    weights: FloatArray = 1 / np.bincount(region)[region]
    return weights


def _images(masks: Images, anomaly_maps: Images) -> Iterator[tuple[Mask, Keys]]:
    """Check and yield each mask with the keys of its map."""
    for what, given in (("masks", masks), ("anomaly_maps", anomaly_maps)):
        if not (hasattr(given, "__iter__") or hasattr(given, "__getitem__")):
            raise TypeError(
                f"{what} must be a sequence of images (height, width), got {type(given).__name__}."
            )
    for index, images in enumerate(zip_longest(masks, anomaly_maps, fillvalue=_NO_IMAGE)):
        if any(image is _NO_IMAGE for image in images):
            raise ValueError(f"masks and anomaly_maps differ in length: one has no image {index}.")
        names = f"masks[{index}]", f"anomaly_maps[{index}]"
        mask, scores = map(np.asarray, map(checked_values, images, names))
        if mask.ndim != 2 or mask.shape != scores.shape:
            raise ValueError(
                f"masks[{index}] has shape {mask.shape} and anomaly_maps[{index}] has shape "
                f"{scores.shape}: both must be the same (height, width)."
            )
        yield mask != 0, _order_keys(scores.astype(np.float64))


def _order_keys(scores: FloatArray) -> Keys:
    """Convert scores to unsigned integers with the same order, for bins of equal width."""
    bits = (scores + 0.0).view(np.uint64)  # + 0 converts -0.0 to 0.0
    # As integers, the bits of positive floats increase with the value, those of negative floats
    # decrease.
    return np.where(bits >> np.uint64(63) == 1, ~bits, bits | np.uint64(1 << 63))
