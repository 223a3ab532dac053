"""What scikit-learn lacks: scorers that labels cannot invert, F1 over the threshold, pixel metrics.

An anomaly score is larger for worse, ``-score_samples(X)``, and a sample is called an inlier when
its score is at most the threshold, as in ``predict``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from sklearn.metrics import auc, average_precision_score, roc_auc_score
from sklearn.utils import assert_all_finite, check_array, check_random_state, column_or_1d

__all__ = [
    "AnomalyScorer",
    "F1Curve",
    "average_precision_scorer",
    "detection_rate_at_fpr",
    "f1_over_tau",
    "per_region_overlap",
    "pixel_average_precision",
    "pixel_roc_auc",
    "roc_auc_scorer",
]

FloatArray = NDArray[np.float64]
Mask = NDArray[np.bool_]
Images = Iterable[ArrayLike]
_N_BINS = 2**16


@dataclass(frozen=True, repr=False)
class AnomalyScorer:
    """A scorer for ``scoring=`` that knows which label means an anomaly.

    ``scoring="roc_auc"`` takes label 1 as positive, but the decision function of an outlier
    detector is larger for inliers, so with 1 for anomalies it silently gives 1 - AUROC. This
    scorer gives the same value for {0, 1} and {False, True} (1 is the anomaly), for {-1, 1} (-1 is
    the anomaly, as in scikit-learn), and for any labels when `anomaly_label` names the anomaly.

    Pass `sklearn.callback.ScoringMonitor` a dict, ``{"roc_auc": roc_auc_scorer}``: scikit-learn
    1.9 logs a scorer without a name only if `make_scorer` made it, which cannot check the sign.

    Parameters
    ----------
    metric : callable
        ``metric(is_anomaly, anomaly_score) -> float``, larger for better, such as
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
            A fitted outlier detector, or a pipeline that ends in one.
        X : array-like of shape (n_samples, ...)
            What the detector scores.
        y : array-like of shape (n_samples,)
            Labels, in a convention of the class.

        Returns
        -------
        float

        Raises
        ------
        ValueError
            If `y` has one class, missing labels, or labels that leave open what is an anomaly.
        TypeError
            If `estimator` cannot score, or only by a ``decision_function`` of unknown sign.
        """
        return float(self.metric(is_anomalous(y, self.anomaly_label), scores_of(estimator, X)))

    def __repr__(self) -> str:
        """Name the metric without its address, so that a printed search is the same each time."""
        label = "" if self.anomaly_label is None else f", anomaly_label={self.anomaly_label!r}"
        return f"AnomalyScorer({getattr(self.metric, '__name__', self.metric)}{label})"


#: Scorer of the area under the ROC curve.
roc_auc_scorer = AnomalyScorer(roc_auc_score)
#: Scorer of the average precision, the anomalies being the positive class.
average_precision_scorer = AnomalyScorer(average_precision_score)


def is_anomalous(y: ArrayLike | None, anomaly_label: Any = None) -> Mask:
    """Say which samples are anomalies, or refuse when that would be a guess."""
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
    """Score X so that larger is more anomalous, whoever wrote the detector."""
    name = type(estimator).__name__
    if hasattr(estimator, "score_samples"):
        return -np.asarray(estimator.score_samples(X))
    if not hasattr(estimator, "decision_function"):
        raise TypeError(f"{name} has no score_samples (LocalOutlierFactor: with novelty=True).")
    # PyOD's decision_function is larger for anomalies, a classifier's for its second class, and
    # both predict labels of their own; one that is larger for inliers goes with -1 and 1.
    if hasattr(estimator, "predict") and not set(np.unique(estimator.predict(X))) <= {-1, 1}:
        raise TypeError(
            f"{name} does not predict -1 for outliers and 1 for inliers, so the sign of its "
            "decision_function is unknown; a score_samples that is larger for inliers would do."
        )
    return -np.asarray(estimator.decision_function(X))


def _check_scores(scores: ArrayLike, name: str) -> FloatArray:
    """Turn scores into a 1-D array that is finite and not empty."""
    checked = check_array(scores, ensure_2d=False, dtype=np.float64, input_name=name)
    return np.asarray(column_or_1d(checked, input_name=name))


@dataclass(frozen=True, eq=False)
class F1Curve:
    """The F1 score of the inliers over the threshold, beside that of a constant answer.

    Parameters
    ----------
    taus : ndarray of shape (n_taus,)
        Thresholds of the anomaly score.
    f1 : ndarray of shape (n_taus,)
        F1 score at each threshold, the inliers being the positive class.
    constant_f1 : float
        F1 score of calling everything an inlier: a detector earns only what it has above this.
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
    """Compute the F1 score of the inliers over the threshold τ, as ALOCC reports it.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        Labels: {0, 1} or booleans (1 is an outlier), {-1, 1} (-1 is), or any others.
    anomaly_score : array-like of shape (n_samples,)
        Scores, larger for more anomalous samples.
    taus : array-like of shape (n_taus,), default=None
        Thresholds, in units of `anomaly_score`. None takes every distinct score: the whole curve.
    outlier_share : float, default=None
        Share of outliers to evaluate at, in (0, 1); the paper's are 0.1 to 0.5. All inliers are
        kept and outliers are drawn without replacement. None takes the samples as they are.
    anomaly_label : object, default=None
        The label of outliers, needed for any others.
    random_state : int, RandomState or None, default=None
        Draws the outliers. With the same int, a larger share adds to those of a smaller one.

    Returns
    -------
    F1Curve
        Thresholds, F1 scores, the F1 score of a constant answer, and the share of outliers.

    Raises
    ------
    ValueError
        If labels are ambiguous, scores not finite, lengths different, or outliers too few.

    Notes
    -----
    A sample is called an inlier when it scores at most τ. ALOCC [1]_ calls x one when D(R(x)) > τ:
    with the anomaly score 1 - D(R(x)), its τ is 1 - τ here. With p the share of inliers, calling
    everything one has F1 = 2p / (1 + p): .947, .889, .824, .750, .667 at 10, ..., 50 % outliers.

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
    """Count the outliers that have this share beside all inliers."""
    if not 0 < outlier_share < 1:
        raise ValueError(f"outlier_share must be in (0, 1), got {outlier_share!r}.")
    n_outliers = round(n_inliers * outlier_share / (1 - outlier_share))
    if not 1 <= n_outliers <= n_available:
        raise ValueError(
            f"outlier_share={outlier_share} beside {n_inliers} inliers takes {n_outliers} "
            f"outliers, which must be from 1 to the {n_available} there are."
        )
    return n_outliers


def detection_rate_at_fpr(
    normal_scores: ArrayLike, anomaly_scores: ArrayLike, fpr: float = 0.05
) -> float:
    """Compute the share of anomalies found when a given share of normal samples is flagged.

    Parameters
    ----------
    normal_scores : array-like of shape (n_normal,)
        Anomaly scores of normal samples, preferably not those of training.
    anomaly_scores : array-like of shape (n_anomalies,)
        Anomaly scores of anomalies.
    fpr : float, default=0.05
        False alarm rate, in [0, 1). The threshold is the smallest of `normal_scores` that at most
        this share of them exceeds: their ``1 - fpr`` quantile.

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
    # NumPy's default quantile lies between two scores and can flag more than was asked for.
    threshold = np.quantile(normal, 1 - fpr, method="inverted_cdf")
    return float(np.mean(_check_scores(anomaly_scores, "anomaly_scores") > threshold))


def pixel_roc_auc(masks: Images, anomaly_maps: Images) -> float:
    """Compute the area under the ROC curve of all pixels of all images.

    Parameters
    ----------
    masks : array-like of shape (n_images, height, width) or iterable of (height, width) arrays
        Ground truth: 0 for normal pixels, anything else for anomalous ones. Sizes may differ. An
        iterable is read twice, an image at a time, so the images need not fit in memory.
    anomaly_maps : array-like or iterable, of the same shapes as `masks`
        Anomaly scores, larger for more anomalous pixels; compared in float32.

    Returns
    -------
    float
        Area under the curve, in [0, 1].

    Raises
    ------
    ValueError
        If an image is not 2-D, a map is not finite, shapes or numbers of images differ, or all
        pixels are of one kind.
    TypeError
        If an iterable can be read only once, as a generator.

    Notes
    -----
    Memory holds one image and histograms of 65,536 bins. A first pass counts scores in cells at
    most 1/128 of a score wide, a second splits each cell evenly, into bins by its shares of normal
    and of anomalous pixels. Scores in one bin count as ties: the area is off by at most half the
    sum over bins of the product of both shares, about 1e-5 unless scores crowd within many cells.

    Examples
    --------
    >>> from gandetect.metrics import pixel_roc_auc
    >>> pixel_roc_auc([[[0, 0], [1, 1]]], [[[0.1, 0.6], [0.5, 0.9]]])
    0.75
    """
    return _area_under_curve(_score_histograms(masks, anomaly_maps), max_fpr=1.0)


def pixel_average_precision(masks: Images, anomaly_maps: Images) -> float:
    """Compute the average precision of all pixels of all images.

    Binned as in `pixel_roc_auc`: off by at most the largest share of the anomalous pixels in a bin
    of unequal scores, about 3e-5, times the variation of the precision along the curve.

    Parameters
    ----------
    masks, anomaly_maps : array-like or iterable
        As in `pixel_roc_auc`.

    Returns
    -------
    float
        Average precision of the anomalous pixels, in [0, 1]; chance is their share.

    Raises
    ------
    ValueError, TypeError
        As `pixel_roc_auc`.

    Examples
    --------
    >>> from gandetect.metrics import pixel_average_precision
    >>> round(pixel_average_precision([[[0, 0], [1, 1]]], [[[0.1, 0.6], [0.5, 0.9]]]), 3)
    0.833
    """
    normal, anomalous = _score_histograms(masks, anomaly_maps)[:, ::-1]
    true_positives = np.cumsum(anomalous)
    precision = true_positives / np.maximum(true_positives + np.cumsum(normal), 1)
    return float(np.sum(anomalous * precision) / true_positives[-1])


def per_region_overlap(masks: Images, anomaly_maps: Images, max_fpr: float = 0.3) -> float:
    """Compute the area under the per-region overlap (PRO) curve.

    The overlap at a threshold is the flagged share of a ground-truth region, averaged over the
    regions of all images, so that a small defect counts as much as a large one [1]_. This is the
    recall of pixels that weigh one over the size of their region, so it is binned as in
    `pixel_roc_auc`, with an error at most ``1 / max_fpr`` times as large.

    Parameters
    ----------
    masks, anomaly_maps : array-like or iterable
        As in `pixel_roc_auc`. Pixels connected by a side or a corner are a region, as in the
        evaluation code of MVTec AD.
    max_fpr : float, default=0.3
        Flagged share of all normal pixels at which the curve ends, in (0, 1]; 0.3 is the paper's.

    Returns
    -------
    float
        Area up to `max_fpr`, divided by `max_fpr`, in [0, 1]; chance is ``max_fpr / 2``.

    Raises
    ------
    ValueError, TypeError
        As `pixel_roc_auc`, and ValueError if `max_fpr` is out of range.

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
    return _area_under_curve(_score_histograms(masks, anomaly_maps, by_region=True), max_fpr)


def _area_under_curve(histograms: FloatArray, max_fpr: float) -> float:
    """Integrate the weighted recall over the false positive rate, as a share of the best."""
    falling = np.cumsum(histograms[:, ::-1], axis=1)
    fpr, recall = np.insert(falling / falling[:, -1:], 0, 0.0, axis=1)
    stop = np.searchsorted(fpr, max_fpr, side="right")
    last_recall = np.interp(max_fpr, fpr, recall)
    area = auc(np.append(fpr[:stop], max_fpr), np.append(recall[:stop], last_recall))
    return float(area / max_fpr)


def _score_histograms(masks: Images, anomaly_maps: Images, by_region: bool = False) -> FloatArray:
    """Count normal pixels (row 0) and anomalous ones or regions (row 1) by rising score."""
    if isinstance(masks, Iterator) or isinstance(anomaly_maps, Iterator):
        raise TypeError("masks and anomaly_maps are read twice, a generator only once: pass lists.")

    def histograms(bin_of: Callable[[NDArray[np.uint32]], NDArray[np.integer]]) -> FloatArray:
        counts = np.zeros((2, _N_BINS))
        for mask, keys in _images(masks, anomaly_maps):
            bins = bin_of(keys)
            counts[0] += np.bincount(bins[~mask], minlength=_N_BINS)
            weights = _region_weights(mask) if by_region else None
            counts[1] += np.bincount(bins[mask], weights, minlength=_N_BINS)
        return counts

    cells = histograms(lambda keys: keys >> 16)
    for counts, kind in zip(cells, ("normal", "anomalous"), strict=True):
        if not counts.any():
            raise ValueError(f"masks hold no {kind} pixel: the metric needs both kinds.")
    # The mean of both classes' shares, so that bins are fine where the rare class is, too.
    n_bins = _N_BINS * np.mean(cells / cells.sum(axis=1, keepdims=True), axis=0)
    first_bin = np.cumsum(n_bins) - n_bins

    def bin_of(keys: NDArray[np.uint32]) -> NDArray[np.integer]:
        bins = first_bin[keys >> 16] + n_bins[keys >> 16] * ((keys & 0xFFFF) / 2**16)
        return np.minimum(bins.astype(np.intp), _N_BINS - 1)

    return histograms(bin_of)


def _region_weights(mask: Mask) -> FloatArray:
    """Weigh anomalous pixels so that every connected region weighs one."""
    regions, _ = ndimage.label(mask, structure=np.ones((3, 3)))
    region = regions[mask]
    return 1 / np.bincount(region)[region]


def _images(masks: Images, anomaly_maps: Images) -> Iterator[tuple[Mask, NDArray[np.uint32]]]:
    """Check and yield each mask with the keys of its map."""
    for index, (mask, anomaly_map) in enumerate(zip_longest(masks, anomaly_maps)):
        if mask is None or anomaly_map is None:
            raise ValueError(f"masks and anomaly_maps differ in length: one has no image {index}.")
        mask, scores = np.asarray(mask), np.asarray(anomaly_map, dtype=np.float32)
        if mask.ndim != 2 or mask.shape != scores.shape:
            raise ValueError(
                f"masks[{index}] has shape {mask.shape} and anomaly_maps[{index}] has shape "
                f"{scores.shape}: both must be the same (height, width)."
            )
        assert_all_finite(mask, input_name=f"masks[{index}]")
        assert_all_finite(scores, input_name=f"anomaly_maps[{index}]")
        yield mask != 0, _order_keys(scores)


def _order_keys(scores: NDArray[np.float32]) -> NDArray[np.uint32]:
    """Turn scores into unsigned integers of the same order, which split evenly into bins."""
    bits = (scores + np.float32(0)).view(np.uint32)  # + 0 makes one pattern of -0.0 and 0.0
    # The bits of a positive float rise with it, those of a negative one fall.
    return np.where(bits >> 31 == 1, ~bits, bits | np.uint32(1 << 31))
