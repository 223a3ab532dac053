"""Scorers that labels cannot invert, F1 over the threshold, pixel metrics against exact ones."""

import pickle
import time
import tracemalloc
from dataclasses import FrozenInstanceError
from functools import partial

import matplotlib
import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator, OutlierMixin, clone
from sklearn.covariance import EllipticEnvelope
from sklearn.ensemble import IsolationForest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import (
    average_precision_score,
    check_scoring,
    f1_score,
    get_scorer,
    roc_auc_score,
)
from sklearn.model_selection import (
    GridSearchCV,
    LearningCurveDisplay,
    StratifiedKFold,
    ValidationCurveDisplay,
    cross_val_score,
)
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import OneClassSVM

from gandetect.metrics import (
    AnomalyScorer,
    average_precision_scorer,
    detection_rate_at_fpr,
    f1_over_tau,
    milliseconds_per_sample,
    per_region_overlap,
    pixel_average_precision,
    pixel_roc_auc,
    roc_auc_scorer,
)

# Scorers.

IS_ANOMALY = np.arange(120) % 6 == 0


@pytest.fixture(scope="module")
def X():
    rng = np.random.default_rng(0)
    return rng.normal(size=(120, 3)) + 2.0 * IS_ANOMALY[:, None]


class OnlyDecision(OutlierMixin, BaseEstimator):
    """A detector of scikit-learn's convention that has no score_samples."""

    def __init__(self, inlier=1, outlier=-1, sign=-1):
        self.inlier = inlier
        self.outlier = outlier
        self.sign = sign

    def fit(self, X, y=None):
        return self

    def decision_function(self, X):
        return self.sign * (np.linalg.norm(X, axis=1) - 2.0)

    def predict(self, X):
        return np.where(np.linalg.norm(X, axis=1) <= 2.0, self.inlier, self.outlier)


DETECTORS = {
    "isolation forest": IsolationForest(n_estimators=20, random_state=0),
    "local outlier factor": LocalOutlierFactor(novelty=True),
    "one-class SVM": OneClassSVM(gamma="scale"),
    "elliptic envelope": EllipticEnvelope(random_state=0),
    "pipeline": make_pipeline(StandardScaler(), IsolationForest(n_estimators=20, random_state=0)),
    "only decision_function": OnlyDecision(),
}
LABELS = {
    "0 and 1": (IS_ANOMALY.astype(int), None),
    "0.0 and 1.0": (IS_ANOMALY.astype(float), None),
    "booleans": (IS_ANOMALY, None),
    "list": (IS_ANOMALY.tolist(), None),
    "-1 and 1": (np.where(IS_ANOMALY, -1, 1), None),
    "strings": (np.where(IS_ANOMALY, "fraud", "fine"), "fraud"),
    "objects": (np.where(IS_ANOMALY, "fraud", "fine").astype(object), "fraud"),
    "1 is named normal": (np.where(IS_ANOMALY, 0, 1), 0),
    "many classes": (np.where(IS_ANOMALY, 7, np.arange(120) % 5), 7),
}


@pytest.mark.parametrize("detector", DETECTORS.values(), ids=DETECTORS)
@pytest.mark.parametrize(
    ("scorer", "metric"),
    [(roc_auc_scorer, roc_auc_score), (average_precision_scorer, average_precision_score)],
)
def test_every_labelling_gives_the_value_of_the_anomalies(X, detector, scorer, metric):
    detector = clone(detector).fit(X[~IS_ANOMALY])
    expected = metric(IS_ANOMALY, -detector.decision_function(X))
    values = {
        name: scorer.with_anomaly_label(label)(detector, X, y)
        for name, (y, label) in LABELS.items()
    }
    assert expected > 0.6
    assert values == dict.fromkeys(LABELS, pytest.approx(expected, abs=1e-12))


def test_the_scorer_of_scikit_learn_is_inverted_where_ours_is_not(X):
    detector = DETECTORS["isolation forest"].fit(X[~IS_ANOMALY])
    ours = roc_auc_scorer(detector, X, IS_ANOMALY.astype(int))
    theirs = get_scorer("roc_auc")(detector, X, IS_ANOMALY.astype(int))
    assert ours > 0.9
    assert theirs == pytest.approx(1 - ours)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.ones(120), "cv=StratifiedKFold"),
        (np.zeros(120, dtype=bool), "cv=StratifiedKFold"),
        (np.arange(120) % 3 - 1, r"labels -1, 0, 1: use \{0, 1\}"),
        (np.arange(120) % 2 - 1, r"labels -1, 0: use \{0, 1\}"),
        (np.arange(120) % 4, "with_anomaly_label"),
        (np.where(IS_ANOMALY, "fraud", "fine"), "with_anomaly_label"),
        (np.where(IS_ANOMALY, "1", "0"), "with_anomaly_label"),
        (np.where(np.arange(120) == 5, np.nan, IS_ANOMALY), "y contains NaN"),
        (np.where(np.arange(120) == 5, None, IS_ANOMALY), "label every sample"),
        (np.eye(120), "1d array"),
    ],
)
def test_labels_that_leave_the_anomaly_open_are_refused(X, y, message):
    detector = DETECTORS["isolation forest"].fit(X)
    with pytest.raises(ValueError, match=message):
        roc_auc_scorer(detector, X, y)


def test_a_named_anomaly_must_occur(X):
    detector = DETECTORS["isolation forest"].fit(X)
    with pytest.raises(ValueError, match="anomaly_label='frod' is not a label of y"):
        roc_auc_scorer.with_anomaly_label("frod")(detector, X, LABELS["strings"][0])


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (StandardScaler(), "StandardScaler has no score_samples"),
        (LocalOutlierFactor(), "novelty=True"),
        # PyOD's convention: 1 for outliers, and a decision function that is larger for them.
        (OnlyDecision(inlier=0, outlier=1, sign=1), "sign of its decision_function is unknown"),
        (LogisticRegression(), "sign of its decision_function is unknown"),
    ],
)
def test_a_score_of_unknown_sign_is_refused(X, estimator, message):
    y = IS_ANOMALY.astype(int)
    with pytest.raises(TypeError, match=message):
        roc_auc_scorer(estimator.fit(X, y), X, y)


def test_search_in_processes_with_named_labels(X):
    y = LABELS["strings"][0]
    scoring = {
        "roc_auc": roc_auc_scorer.with_anomaly_label("fraud"),
        "average_precision": average_precision_scorer.with_anomaly_label("fraud"),
    }
    search = GridSearchCV(
        DETECTORS["pipeline"],
        {"isolationforest__max_samples": [8, 64]},
        scoring=scoring,
        refit="roc_auc",
        cv=StratifiedKFold(3),
        n_jobs=2,
    )
    search = clone(search).fit(X, y)
    single = GridSearchCV(
        DETECTORS["pipeline"],
        {"isolationforest__max_samples": [8, 64]},
        scoring=roc_auc_scorer,
        cv=StratifiedKFold(3),
    ).fit(X, IS_ANOMALY)
    assert search.best_score_ == single.best_score_ > 0.8
    assert min(search.cv_results_["mean_test_average_precision"]) > 0.4
    # The search is a detector itself, scored through its best one.
    assert roc_auc_scorer(search, X, IS_ANOMALY) > 0.8


def test_cross_validation_agrees_with_the_folds_scored_by_hand(X):
    detector, folds = DETECTORS["one-class SVM"], StratifiedKFold(3)
    by_hand = [
        roc_auc_score(IS_ANOMALY[test], -clone(detector).fit(X[train]).score_samples(X[test]))
        for train, test in folds.split(X, IS_ANOMALY)
    ]
    values = cross_val_score(detector, X, IS_ANOMALY, scoring=roc_auc_scorer, cv=folds)
    np.testing.assert_allclose(values, by_hand)


def test_scorers_survive_pickling_and_cloning_and_say_what_they_are():
    scorer = roc_auc_scorer.with_anomaly_label("fraud")
    assert pickle.loads(pickle.dumps(scorer)) == scorer != roc_auc_scorer
    assert clone(scorer, safe=False) == scorer
    assert check_scoring(IsolationForest(), scorer) is scorer
    assert repr(scorer) == "AnomalyScorer(roc_auc_score, anomaly_label='fraud')"
    assert repr(average_precision_scorer) == "AnomalyScorer(average_precision_score)"


def test_a_metric_of_ones_own(X):
    scorer = AnomalyScorer(partial(roc_auc_score, max_fpr=0.2))
    detector = DETECTORS["isolation forest"].fit(X)
    expected = roc_auc_score(IS_ANOMALY, -detector.score_samples(X), max_fpr=0.2)
    assert scorer(detector, X, IS_ANOMALY) == expected


def test_learning_and_validation_curves_name_the_metric(X):
    matplotlib.use("Agg")
    named = roc_auc_scorer.with_anomaly_label(True)
    shown = {
        scorer.__name__: LearningCurveDisplay.from_estimator(
            OnlyDecision(),
            X,
            IS_ANOMALY,
            cv=StratifiedKFold(2),
            scoring=scorer,
            train_sizes=[0.5, 0.8, 1.0],
        ).ax_.get_ylabel()
        for scorer in (named, average_precision_scorer)
    }
    assert shown == {
        "roc_auc_score": "Roc auc score",
        "average_precision_score": "Average precision score",
    }
    display = ValidationCurveDisplay.from_estimator(
        OnlyDecision(), X, IS_ANOMALY, param_name="sign", param_range=[-1, 1, 2], scoring=named
    )
    assert display.ax_.get_ylabel() == "Roc auc score"
    assert AnomalyScorer(partial(roc_auc_score, max_fpr=0.2)).__name__ == "partial"


def test_scoring_monitor_logs_both_scores_of_every_task(X):
    callback = pytest.importorskip("sklearn.callback", reason="needs scikit-learn 1.9")

    class MonitoredDistance(callback.CallbackSupportMixin, OutlierMixin, BaseEstimator):
        """A detector that reports one task a coordinate: first blind to the others, then not."""

        @callback.with_callbacks
        def fit(self, X, y=None):
            fit_task = self._init_callback_context(max_subtasks=X.shape[1])
            fit_task.call_on_fit_task_begin(estimator=self, X=X, y=y)
            for n_seen in range(1, X.shape[1] + 1):
                self.n_seen_ = n_seen
                task = fit_task.subcontext(task_name="coordinate")
                task.call_on_fit_task_begin(estimator=self, X=X, y=y)
                task.call_on_fit_task_end(
                    estimator=self, X=X, y=y, reconstruction_attributes={"n_seen_": n_seen}
                )
            fit_task.call_on_fit_task_end(estimator=self, X=X, y=y, reconstruction_attributes={})
            return self

        def score_samples(self, X):
            return -np.linalg.norm(X[:, : self.n_seen_], axis=1)

    scoring = {"roc_auc": roc_auc_scorer, "average_precision": average_precision_scorer}
    monitor = callback.ScoringMonitor(scoring=scoring)
    MonitoredDistance().set_callbacks(monitor).fit(X, IS_ANOMALY)
    log = [row for row in monitor.get_logs().data if row["task_name"] == "coordinate"]
    scores = [np.linalg.norm(X[:, :n_seen], axis=1) for n_seen in (1, 2, 3)]
    assert [row["roc_auc"] for row in log] == [roc_auc_score(IS_ANOMALY, s) for s in scores]
    assert [row["average_precision"] for row in log] == [
        average_precision_score(IS_ANOMALY, s) for s in scores
    ]


# F1 over the threshold, and the detection rate.


def test_f1_by_hand():
    curve = f1_over_tau([1, 1, 1, -1], [0.1, 0.2, 0.6, 0.5])
    np.testing.assert_array_equal(curve.taus, [0.1, 0.2, 0.5, 0.6])
    # TP, FP and FN are 1 0 2, 2 0 1, 2 1 1 and 3 1 0.
    np.testing.assert_allclose(curve.f1, [2 / 4, 4 / 5, 4 / 6, 6 / 7])
    assert curve.constant_f1 == pytest.approx(6 / 7)
    assert curve.outlier_share == 0.25
    with pytest.raises(FrozenInstanceError):
        curve.constant_f1 = 0.0


def test_f1_agrees_with_scikit_learn_at_given_thresholds():
    rng = np.random.default_rng(1)
    y = rng.choice(["good", "bad"], size=200, p=[0.7, 0.3])
    scores = rng.normal(size=200).round(1) + (y == "bad")
    taus = [3.0, -0.4, 0.5]
    curve = f1_over_tau(y, scores, taus, anomaly_label="bad")
    expected = [f1_score(y == "good", scores <= tau) for tau in taus]
    np.testing.assert_allclose(curve.f1, expected)
    np.testing.assert_array_equal(curve.taus, taus)


@pytest.mark.parametrize(
    ("outlier_share", "constant_f1"),
    [(0.1, 0.947), (0.2, 0.889), (0.3, 0.824), (0.4, 0.750), (0.5, 0.667)],
)
def test_constant_answer_at_the_shares_of_the_paper(outlier_share, constant_f1):
    y = np.repeat([0, 1], 1260)  # every share of outliers beside 1,260 inliers is a whole number
    curve = f1_over_tau(y, np.arange(2520.0), outlier_share=outlier_share, random_state=0)
    assert curve.constant_f1 == pytest.approx(constant_f1, abs=5e-4)
    assert curve.outlier_share == pytest.approx(outlier_share)
    # The last threshold calls everything an inlier; the last inlier's parts the two kinds.
    assert curve.f1[-1] == curve.constant_f1
    assert curve.f1[1259] == curve.f1.max() == 1.0
    assert set(curve.taus[:1260]) == set(range(1260))


def test_drawn_outliers_are_nested_distinct_and_set_by_the_seed():
    y, scores = np.repeat([0, 1], 100), np.arange(200.0)
    few, many, again, other = (
        set(f1_over_tau(y, scores, outlier_share=share, random_state=seed).taus[100:])
        for share, seed in [(0.2, 0), (0.4, 0), (0.4, 0), (0.4, 1)]
    )
    assert (len(few), len(many)) == (25, 67)
    assert few < many == again != other


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"anomaly_score": [0.1, 0.2, np.nan, 0.4]}, "anomaly_score contains NaN"),
        ({"anomaly_score": [0.1, 0.2, 0.3]}, "4 labels for 3 scores"),
        ({"taus": [np.inf]}, "taus contains infinity"),
        ({"y_true": [0, 0, 0, 0]}, "normal samples as well as anomalies"),
        ({"outlier_share": 1.0}, r"outlier_share must be in \(0, 1\)"),
        ({"outlier_share": 0.5}, "3 inliers needs 3 outliers"),
        ({"outlier_share": 0.01}, "3 inliers needs 0 outliers"),
    ],
)
def test_f1_refuses_what_it_cannot_use(changes, message):
    arguments = {"y_true": [0, 0, 0, 1], "anomaly_score": [0.1, 0.2, 0.3, 0.4], **changes}
    with pytest.raises(ValueError, match=message):
        f1_over_tau(**arguments)


def test_detection_rate_by_hand():
    normal = np.arange(100.0)
    anomalies = [94.0, 94.5, 95.0, 99.0, 100.0]
    # 95 ... 99 may be flagged at 5 %, so the threshold is 94; at 0 % it is the largest, 99.
    assert detection_rate_at_fpr(normal, anomalies) == 0.8
    assert detection_rate_at_fpr(normal, anomalies, fpr=0.0) == 0.2
    assert detection_rate_at_fpr(normal, normal, fpr=0.05) == 0.05


@pytest.mark.parametrize("n_normal", [1, 7, 10, 33])
def test_the_false_alarm_rate_is_never_exceeded(n_normal):
    normal = np.random.default_rng(n_normal).normal(size=n_normal)
    for fpr in (0.01, 0.05, 0.1, 0.3, 0.9):
        rate = detection_rate_at_fpr(normal, normal, fpr)
        assert fpr - 1 / n_normal < rate <= fpr


def test_detection_rate_refuses_what_it_cannot_use():
    with pytest.raises(ValueError, match=r"fpr must be in \[0, 1\)"):
        detection_rate_at_fpr([0.1], [0.2], fpr=1.0)
    with pytest.raises(ValueError, match="minimum of 1 is required"):
        detection_rate_at_fpr([0.1], [])
    with pytest.raises(ValueError, match="1d array"):
        detection_rate_at_fpr([[0.1, 0.2], [0.3, 0.4]], [0.2])


# Pixels.


def blobs(rng, shape, n_blobs):
    """Draw a mask of rectangles, which may touch."""
    mask = np.zeros(shape, dtype=bool)
    for row, column in rng.integers(0, [shape[0] - 5, shape[1] - 5], size=(n_blobs, 2)):
        mask[row : row + rng.integers(2, 6), column : column + rng.integers(2, 6)] = True
    return mask


def heavy_tailed(rng, mask):
    scores = rng.lognormal(sigma=3, size=mask.shape) * np.where(mask, 20, 1)
    scores[0, 0] = 1e12
    return scores


def spread_over_all_sizes(rng, mask):
    return np.sign(rng.normal(size=mask.shape)) * 10.0 ** rng.uniform(-305, 305, mask.shape)


def shifted_normal(rng, mask):
    return rng.normal(size=mask.shape) + 1.5 * mask


SCORES = {
    "normal": shifted_normal,
    "single precision": lambda rng, mask: shifted_normal(rng, mask).astype(np.float32),
    "heavy-tailed": heavy_tailed,
    "far from zero": lambda rng, mask: 1e3 + shifted_normal(rng, mask),
    "far for single precision": lambda rng, mask: 1 + 1e-12 * shifted_normal(rng, mask),
    "crowded": lambda rng, mask: rng.integers(900, size=mask.shape) + 1e-9 * rng.random(mask.shape),
    "close to 1": lambda rng, mask: 1 - np.exp(-rng.gamma(4, size=mask.shape) - 2.0 * mask),
    "saturated": lambda rng, mask: np.tanh(9 * shifted_normal(rng, mask)),
    "tied": lambda rng, mask: shifted_normal(rng, mask).round(1),
    "whole": lambda rng, mask: shifted_normal(rng, mask).round().astype(np.int8),
    "-1 and 0": lambda rng, mask: np.minimum(shifted_normal(rng, mask).round(), 0).clip(-1),
    "huge": lambda rng, mask: 1e307 * shifted_normal(rng, mask),
    "denormal": lambda rng, mask: 5e-324 * (1000 * shifted_normal(rng, mask)).round(),
    "of all sizes": spread_over_all_sizes,
    "constant": lambda rng, mask: np.full(mask.shape, -0.5),
    "all found": lambda rng, mask: rng.normal(size=mask.shape) + 100 * mask,
    "none found": lambda rng, mask: rng.normal(size=mask.shape) - 100 * mask,
}


def make_images(scores, n_images, side, n_blobs):
    rng = np.random.default_rng(0)
    masks = [blobs(rng, (side, side + 3 * i % 7), n_blobs * (i % 2)) for i in range(n_images)]
    return masks, [SCORES[scores](rng, mask) for mask in masks]


def flat(images):
    return np.concatenate([image.ravel() for image in images])


@pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered")  # of sums of huge scores
@pytest.mark.parametrize("scores", SCORES)
@pytest.mark.parametrize(("n_images", "side"), [(4, 32), (8, 160)])
def test_pixel_metrics_agree_with_those_of_all_pixels_at_once(scores, n_images, side):
    masks, maps = make_images(scores, n_images, side, n_blobs=4 if side == 32 else 40)
    exact_area = roc_auc_score(flat(masks), flat(maps))
    exact_precision = average_precision_score(flat(masks), flat(maps))
    assert pixel_roc_auc(masks, maps) == pytest.approx(exact_area, abs=1e-5)
    assert pixel_average_precision(masks, maps) == pytest.approx(exact_precision, abs=1e-5)


@pytest.mark.parametrize("metric", [pixel_roc_auc, pixel_average_precision, per_region_overlap])
@pytest.mark.parametrize("step", [1.0, 0.5, 1e-3])
def test_maps_of_few_digits_score_the_same_on_both_sides_of_zero(metric, step):
    rng = np.random.default_rng(0)
    mask = rng.random((4, 64, 64)) < 0.05
    maps = ((rng.normal(size=mask.shape) + 2 * mask - 1) / step).round()
    below, across, above = (metric(mask, step * (maps + k)) for k in (-(10**6), 0, 10**6))
    assert below == pytest.approx(across, abs=1e-12) == above


def exact_per_region_overlap(regions, maps, max_fpr):
    """Go through every threshold; `regions` are integer images, 0 for normal pixels."""
    curve = [(0.0, 0.0)]
    normal = np.concatenate([m[r == 0] for r, m in zip(regions, maps, strict=True)])
    insides = [m[r == i] for r, m in zip(regions, maps, strict=True) for i in range(1, r.max() + 1)]
    for threshold in np.unique(flat(maps))[::-1]:
        overlap = np.mean([np.mean(inside >= threshold) for inside in insides])
        curve.append((np.mean(normal >= threshold), overlap))
    fpr, overlap = np.transpose(curve)
    grid = np.append(fpr[fpr <= max_fpr], max_fpr)
    return np.trapezoid(np.append(overlap[fpr <= max_fpr], np.interp(max_fpr, fpr, overlap)), grid)


@pytest.mark.parametrize("scores", SCORES)
@pytest.mark.parametrize("max_fpr", [0.05, 0.3, 1.0])
def test_per_region_overlap_agrees_with_every_threshold(scores, max_fpr):
    rng = np.random.default_rng(3)
    regions = [np.zeros((24, 20 + i), dtype=int) for i in range(3)]
    regions[0][2:4, 2:5], regions[0][10:20, 8:16], regions[2][0, 0] = 1, 2, 1
    masks = [region > 0 for region in regions]
    maps = [SCORES[scores](rng, mask) for mask in masks]
    exact = exact_per_region_overlap(regions, maps, max_fpr) / max_fpr
    assert per_region_overlap(masks, maps, max_fpr) == pytest.approx(exact, abs=1e-5)


def test_regions_count_alike_whatever_their_size_and_touch_at_corners():
    mask = np.zeros((1, 6, 6))
    mask[0, :3, :3] = 255  # one region of ten pixels: the tenth touches it at a corner
    mask[0, 3, 3] = 255
    mask[0, 5, 0] = 1  # and one of a single pixel
    found_small, found_large = np.zeros((2, 1, 6, 6))
    found_small[0, 5, 0] = 1.0
    found_large[0, :4, :4] = mask[0, :4, :4]
    # One of two regions is found at no false positive; the rest is a straight line to (1, 1).
    expected = 0.5 + 0.5 * 0.3 / 2
    assert per_region_overlap(mask, found_small) == pytest.approx(expected)
    assert per_region_overlap(mask, found_large) == pytest.approx(expected)


def test_order_is_all_that_counts():
    mask, scores = [[[0, 1, 0, 1]]], np.array([[[-2.0, -1.0, 0.0, 3.0]]])
    for anomaly_map in (scores, np.exp(scores), scores * 1e-40, scores * 1e38, scores - 7):
        assert pixel_roc_auc(mask, anomaly_map) == 0.75
    assert pixel_roc_auc(mask, -scores) == 0.25
    assert pixel_roc_auc(mask, [[[0.0, -0.0, 0.0, -0.0]]]) == 0.5
    assert pixel_average_precision(mask, [[[7, 7, 7, 7]]]) == 0.5
    assert per_region_overlap(mask, [[[7, 7, 7, 7]]]) == pytest.approx(0.15)


class Lazy:
    """Images that exist one at a time, and can be read again."""

    def __init__(self, n_images, side, of):
        self.n_images, self.side, self.of = n_images, side, of

    def __iter__(self):
        for seed in range(self.n_images):
            rng = np.random.default_rng(seed)
            mask = blobs(rng, (self.side, self.side), 10)
            yield mask if self.of == "masks" else SCORES["normal"](rng, mask)


@pytest.mark.parametrize("metric", [pixel_roc_auc, pixel_average_precision, per_region_overlap])
def test_memory_does_not_grow_with_the_number_of_images(metric):
    def peak(n_images):
        tracemalloc.start()
        value = metric(Lazy(n_images, 128, "masks"), Lazy(n_images, 128, "maps"))
        memory = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return value, memory

    peak(1)
    (few, few_bytes), (many, many_bytes) = peak(30), peak(120)
    assert few == pytest.approx(many, abs=0.2)
    assert many_bytes < few_bytes + 45 * 128 * 128 * 8  # half of the maps that were added
    assert many == metric(list(Lazy(120, 128, "masks")), list(Lazy(120, 128, "maps")))


GOOD = np.zeros((2, 4, 5))
BAD = np.array([np.zeros((4, 5)), np.eye(4, 5)])


@pytest.mark.parametrize("metric", [pixel_roc_auc, pixel_average_precision, per_region_overlap])
@pytest.mark.parametrize(
    ("masks", "maps", "message"),
    [
        (GOOD, GOOD, "no anomalous pixel"),
        (GOOD + 1, GOOD, "no normal pixel"),
        ([], [], "no normal pixel"),
        (BAD, [np.zeros((4, 5)), np.zeros((5, 4))], r"masks\[1\] has shape \(4, 5\) and .*\(5, 4"),
        (BAD[1], BAD[1], r"masks\[0\] has shape \(5,\)"),
        (BAD[..., None], BAD[..., None], r"masks\[0\] has shape \(4, 5, 1\)"),
        (BAD, GOOD[:1], "one has no image 1"),
        (BAD[:1], GOOD, "one has no image 1"),
        (BAD, np.where(BAD == 1, np.nan, BAD), r"anomaly_maps\[1\] contains NaN.*Replace them\.$"),
        (np.where(BAD == 1, np.nan, BAD), BAD, r"masks\[1\] contains NaN"),
        (BAD, np.where(BAD == 1, None, BAD), r"anomaly_maps\[1\] contains NaN"),
        (BAD, np.where(BAD == 1, -np.inf, BAD), r"anomaly_maps\[1\] contains infinity"),
        (BAD, np.ma.masked_equal(BAD, 1), r"anomaly_maps\[1\] contains NaN"),
        (BAD, BAD.astype(str), r"could not convert .* of anomaly_maps\[0\]"),
        (BAD, BAD + 1j, "Complex data not supported"),
    ],
)
def test_pixel_metrics_refuse_what_they_cannot_use(metric, masks, maps, message):
    with pytest.raises(ValueError, match=message):
        metric(masks, maps)


def test_what_can_be_read_only_once_is_refused():
    with pytest.raises(TypeError, match="read several times"):
        pixel_roc_auc(BAD, (anomaly_map for anomaly_map in BAD))


class Fickle(Lazy):
    """Images that are others each time they are read, as those of a Dataset that augments."""

    def __iter__(self):
        self.shift = getattr(self, "shift", 0) + 1e-3
        return (image + self.shift for image in super().__iter__())


@pytest.mark.parametrize("metric", [pixel_roc_auc, pixel_average_precision, per_region_overlap])
def test_images_that_change_between_readings_are_refused(metric):
    with pytest.raises(ValueError, match="gave other values when they were read again"):
        metric(list(Lazy(3, 64, "masks")), Fickle(3, 64, "maps"))


def test_tensors_are_maps():
    mask = torch.tensor([[[0, 1], [0, 1]]])
    maps = torch.tensor([[[0.0, 1.0], [2.0, 3.0]]], dtype=torch.bfloat16, requires_grad=True)
    assert pixel_roc_auc(mask, maps) == 0.75


@pytest.mark.parametrize("max_fpr", [0, -0.1, 1.1, float("nan")])
def test_a_limit_outside_the_curve_is_refused(max_fpr):
    with pytest.raises(ValueError, match=r"max_fpr must be in \(0, 1\]"):
        per_region_overlap(BAD, BAD, max_fpr)


class Sleeper:
    """Takes 2 ms a call, and 20 ms in the first one and in every fourth."""

    def __init__(self):
        self.n_calls = 0

    def score_samples(self, X):
        time.sleep(0.02 if self.n_calls % 4 == 0 else 0.002)
        self.n_calls += 1
        return np.zeros(len(X))


def test_milliseconds_are_a_median_without_the_first_call():
    sleeper = Sleeper()
    assert 1.9 <= milliseconds_per_sample(sleeper, np.zeros((1, 2))) < 15
    assert sleeper.n_calls == 10
    assert milliseconds_per_sample(Sleeper(), np.zeros((4, 2))) < 4
    with pytest.raises(ValueError, match="n_repeats"):
        milliseconds_per_sample(sleeper, np.zeros((1, 2)), n_repeats=0)


@pytest.mark.parametrize("metric", [pixel_roc_auc, pixel_average_precision, per_region_overlap])
def test_what_is_no_sequence_of_images_is_named(metric):
    images = np.eye(4)[None]
    with pytest.raises(TypeError, match=r"^masks must be a sequence of images .* got NoneType"):
        metric(None, images)
    with pytest.raises(TypeError, match=r"^anomaly_maps must be a sequence of images .* got float"):
        metric(images, 0.5)
