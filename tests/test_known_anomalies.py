"""A few known anomalies: what every detector makes of them."""

import copy
import pickle
import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_validate

import gandetect
from gandetect import ConvNet, GANomalyDetector, RDNADetector
from gandetect.metrics import roc_auc_scorer
from gandetect.model.known import KNOWN, AnomalyTrees, KnownDistances
from tests.helpers import assert_equal_scores, one_detector

N_NORMAL, N_KNOWN = 300, 8


def normal_rows(rng, n):
    return rng.normal(size=(n, 6))


def of_kind(rng, n, column, shift):
    rows = normal_rows(rng, n)
    rows[:, column] += shift
    return rows


@pytest.fixture(scope="module")
def planted():
    """Training rows and labels, normal rows to judge by, and anomalies of two kinds.

    Of the other kind are rows that are far from all normal ones.
    """
    rng = np.random.default_rng(0)
    X = np.concatenate([normal_rows(rng, N_NORMAL), of_kind(rng, N_KNOWN, 1, 3.0)])
    y = np.arange(len(X)) >= N_NORMAL
    return {
        "X": X,
        "y": y,
        "normal": normal_rows(rng, 200),
        "labelled": of_kind(rng, 100, 1, 3.0),
        "other": of_kind(rng, 100, 4, -9.0),
    }


def auroc(detector, planted, kind):
    normal, anomalous = planted["normal"], planted[kind]
    y = np.arange(len(normal) + len(anomalous)) >= len(normal)
    return roc_auc_score(y, detector.anomaly_score(np.concatenate([normal, anomalous])))


@pytest.fixture(scope="module")
def learned(Detector, make, planted):
    return make(Detector, labels="learn").fit(planted["X"], planted["y"])


@pytest.fixture(scope="module")
def without(Detector, make, planted):
    return make(Detector, labels="exclude").fit(planted["X"], planted["y"])


def test_labels_help_with_the_kind_that_was_labelled(learned, without, planted):
    assert auroc(without, planted, "labelled") < 0.93
    assert auroc(learned, planted, "labelled") > auroc(without, planted, "labelled") + 0.04


def test_another_kind_is_still_found(learned, without, planted):
    assert auroc(without, planted, "other") > 0.97
    # Most lose nothing; GANomaly, whose score has no neighbours, 0.05.
    assert auroc(learned, planted, "other") > auroc(without, planted, "other") - 0.06


def test_known_anomalies_are_not_trained_on_as_normal(learned, without):
    """Neither the scale nor the references have seen them."""
    for name in ("center", "spread"):
        np.testing.assert_array_equal(
            getattr(learned.scaler_, name), getattr(without.scaler_, name)
        )
    for name, found in learned.neighbours_.items():
        if name != "neighbours":  # of codes, which are those of other networks
            np.testing.assert_array_equal(found.points, without.neighbours_[name].points)


@one_detector
def test_new_normal_rows_are_not_flagged_by_the_trees(learned, planted):
    """The threshold knows how trees err about rows that they have not seen."""
    assert (learned.predict(planted["normal"]) == -1).mean() < 0.2


@one_detector
def test_the_part_has_half_of_the_default_score(learned):
    weights = learned.model_.weights()
    assert weights[KNOWN] == pytest.approx(sum(weights.values()) / 2)
    assert isinstance(learned.model_.known, AnomalyTrees)


@one_detector
def test_the_part_alone_is_a_score(learned, planted):
    alone = copy.copy(learned).set_params(score=KNOWN)
    assert auroc(alone, planted, "labelled") > 0.9
    mixed = copy.copy(learned).set_params(score={KNOWN: 1.0, "reconstruction": 1.0})
    assert mixed.anomaly_score(planted["normal"]).std() > 0


@one_detector
def test_the_published_score_has_no_such_part(learned, planted):
    paper = copy.copy(learned).set_params(score="paper")
    assert KNOWN not in paper.model_.scoring_as(paper).weights()
    assert np.isfinite(paper.anomaly_score(planted["normal"])).all()


def test_the_same_call_gives_the_same_bits(learned, planted):
    again = clone(learned).fit(planted["X"], planted["y"])
    X = planted["labelled"]
    np.testing.assert_array_equal(again.anomaly_score(X), learned.anomaly_score(X))
    np.testing.assert_array_equal(again.query(X, 7), learned.query(X, 7))


@one_detector
def test_saved_and_pickled_detectors_score_the_same_bits(learned, planted, tmp_path):
    learned.save(tmp_path / "model")
    X = planted["labelled"]
    for again in (gandetect.load(tmp_path / "model"), pickle.loads(pickle.dumps(learned))):
        np.testing.assert_array_equal(again.anomaly_score(X), learned.anomaly_score(X))
        np.testing.assert_array_equal(again.predict(X), learned.predict(X))


@one_detector
def test_one_row_scores_as_in_a_batch(learned, planted):
    X = planted["labelled"][:5]
    each = np.concatenate([learned.anomaly_score(x[None]) for x in X])
    assert_equal_scores(each, learned.anomaly_score(X))


@one_detector
def test_what_is_set_later_does_not_change_what_was_learned(learned, planted):
    X = planted["labelled"]
    changed = copy.copy(learned).set_params(labels="ignore", anomaly_label="fraud")
    np.testing.assert_array_equal(changed.anomaly_score(X), learned.anomaly_score(X))
    stored = pickle.loads(pickle.dumps(changed))
    assert stored.labels == "ignore"
    np.testing.assert_array_equal(stored.anomaly_score(X), learned.anomaly_score(X))


@pytest.mark.parametrize(
    ("form", "parameters"),
    [
        (lambda y: y.astype(int), {}),
        (lambda y: np.where(y, -1, 1), {}),
        (lambda y: np.where(y, -1, np.nan), {}),
        (lambda y: np.where(y, "fraud", "sold"), {"anomaly_label": "fraud"}),
        (lambda y: ["fraud" if label else None for label in y], {"anomaly_label": "fraud"}),
        (lambda y: np.where(y, 7, 3), {"anomaly_label": 7}),
    ],
    ids=["0 and 1", "-1 and 1", "no label", "words", "word or none", "numbers"],
)
def test_every_form_of_labels_says_the_same(make, planted, form, parameters):
    """Booleans beside them: to the same bits."""
    few = {"labels": "learn", "epochs": 1, "n_estimators": 1}
    X, y = planted["X"][-60:], planted["y"][-60:]
    expected = make(GANomalyDetector, **few).fit(X, y).anomaly_score(X)
    found = make(GANomalyDetector, **few, **parameters).fit(X, form(y)).anomaly_score(X)
    np.testing.assert_array_equal(found, expected)


@one_detector
def test_words_without_a_name_are_refused(Detector, make, planted):
    detector = make(Detector, labels="learn")
    with pytest.raises(TypeError, match="anomaly_label"):
        detector.fit(planted["X"], np.where(planted["y"], "fraud", "sold"))
    with pytest.raises(TypeError, match="anomaly_label must be None, a string or a number"):
        detector.set_params(anomaly_label=["fraud"]).fit(planted["X"], planted["y"])
    assert "model_" not in vars(detector)


@one_detector
def test_learning_needs_labels(Detector, make, planted):
    with pytest.raises(ValueError, match="labels='learn' needs y"):
        make(Detector, labels="learn").fit(planted["X"])
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        make(Detector, labels="learn").fit(planted["X"], planted["y"][:-1])


def test_without_an_anomaly_it_learns_as_without_labels(make, planted):
    X, y = planted["X"][:50], np.zeros(50)
    with pytest.warns(UserWarning, match="has no anomaly"):
        learned = make(GANomalyDetector, labels="learn").fit(X, y)
    expected = make(GANomalyDetector).fit(X)
    np.testing.assert_array_equal(learned.anomaly_score(X), expected.anomaly_score(X))
    with (
        pytest.warns(UserWarning, match="has no anomaly"),
        pytest.raises(ValueError, match="the detector has none: fit with labels='learn'"),
    ):
        make(GANomalyDetector, labels="learn", score=KNOWN).fit(X, y)


@one_detector
def test_the_part_is_refused_before_training_without_labels(Detector, make, planted):
    with pytest.raises(ValueError, match="the detector has none: fit with labels='learn'"):
        make(Detector, score=KNOWN).fit(planted["X"])
    fitted = make(GANomalyDetector, epochs=1).fit(planted["X"])
    with pytest.raises(ValueError, match="the detector has none"):
        fitted.set_params(score=KNOWN).anomaly_score(planted["X"])


def test_one_known_anomaly_is_enough(Detector, make, planted):
    X, y = planted["X"][: N_NORMAL + 1], planted["y"][: N_NORMAL + 1]
    detector = make(Detector, labels="learn", epochs=1).fit(X, y)
    assert detector.anomaly_score(X)[-1] > np.median(detector.anomaly_score(X))


@one_detector
def test_rows_are_learned_from_without_keeping_any(Detector, make, planted, tmp_path):
    """Trees hold no row: splits are drawn at random."""
    parameters = {"labels": "learn", "store_references": False}
    detector = make(Detector, **parameters).fit(planted["X"], planted["y"])
    assert not detector.neighbours_
    assert auroc(detector, planted, "labelled") > 0.9


def test_labels_and_validation_and_trim_go_together(make, planted):
    detector = make(GANomalyDetector, labels="learn", validation_fraction=0.2, trim=0.1)
    detector.fit(planted["X"], planted["y"])
    assert len(detector.normal_scores_) == int(0.2 * N_NORMAL)
    assert (detector.p_value(planted["labelled"]) <= 0.1).mean() > 0.5


@one_detector
def test_new_labels_are_learned_from_the_networks_that_are_there(Detector, make, planted):
    X, y = planted["X"], planted["y"].copy()
    y[-4:] = False
    few = np.concatenate([X[:-4], X[-4:]])
    detector = make(Detector, labels="learn", warm_start=True, epochs=1).fit(few, y)
    before = auroc(detector, planted, "labelled")
    detector.fit(X, planted["y"])
    assert detector.n_iter_ == 2
    assert auroc(detector, planted, "labelled") > before - 0.02
    # Without labels again, nothing is known.
    detector.set_params(labels="ignore").fit(X[:N_NORMAL])
    assert detector.model_.known is None


@one_detector
def test_a_search_and_cross_validation_pass_labels_safely(Detector, make, planted):
    """Metrics see y of the parts that are judged; a fit learns from its own part if asked."""
    X, y = planted["X"], planted["y"].astype(int)
    folds = StratifiedKFold(2, shuffle=True, random_state=0)
    seen = []
    learn = Detector._fit

    def noted(self, X, y=None, *args, **kwargs):
        seen.append((self.labels, None if y is None else np.asarray(y).sum()))
        return learn(self, X, y, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Detector, "_fit", noted)
        search = GridSearchCV(
            make(Detector, epochs=1, n_estimators=1),
            {"labels": ["ignore", "learn"]},
            scoring=roc_auc_scorer,
            cv=folds,
            refit=False,
            error_score="raise",
        ).fit(X, y)
        scores = cross_validate(
            make(Detector, labels="learn", epochs=1, n_estimators=1),
            X,
            y,
            scoring=roc_auc_scorer,
            cv=folds,
            error_score="raise",
        )["test_score"]
    # Of 8 anomalies, a fold's test part has 4, of which the fit hears nothing.
    assert {n for _, n in seen} == {4}
    ignored, of_learning = search.cv_results_["mean_test_score"]
    assert of_learning == pytest.approx(scores.mean())
    assert of_learning > ignored - 0.02


def test_default_fits_do_not_look_at_labels(make, planted):
    X, y = planted["X"], planted["y"]
    expected = make(GANomalyDetector).fit(X).anomaly_score(X)
    for labels in (y, y.astype(int), np.where(y, "fraud", "sold"), np.full(len(y), np.nan)):
        np.testing.assert_array_equal(
            make(GANomalyDetector).fit(X, labels).anomaly_score(X), expected
        )


@pytest.fixture(scope="module")
def defects():
    """Stripes, some with a square of another brightness; labels and masks."""
    rng = np.random.default_rng(0)

    def stripes(n):
        phase = rng.uniform(0, 6, size=(n, 1, 1))
        x = np.sin(np.arange(12)[None, None] / 2 + phase) * np.ones((n, 12, 1))
        return x + 0.05 * rng.normal(size=x.shape)

    normal, defective = stripes(40), stripes(6)
    masks = np.zeros((46, 12, 12), dtype=bool)
    for i in range(6):
        row, column = rng.integers(1, 8, size=2)
        place = (slice(row, row + 3), slice(column, column + 3))
        defective[(i, *place)] = 2.0
        masks[(40 + i, *place)] = True
    return np.concatenate([normal, defective]), np.arange(46) >= 40, masks


SMALL = {"architecture": ConvNet(n_filters=4), "latent_dim": 4, "epochs": 1}


def test_images_are_told_by_their_codes(Detector, make, defects, tmp_path):
    X, y, _ = defects
    detector = make(Detector, labels="learn", **SMALL).fit(X, y)
    assert isinstance(detector.model_.known, KnownDistances)
    assert detector.model_.known.anomalous.shape[1] == 6
    known_part = copy.copy(detector).set_params(score=KNOWN).anomaly_score(X)
    assert known_part[40:].mean() > known_part[:40].mean()
    detector.save(tmp_path / "model")
    again = gandetect.load(tmp_path / "model")
    np.testing.assert_array_equal(again.anomaly_score(X), detector.anomaly_score(X))
    assert sorted(set(detector.query(X, 5))) == sorted(detector.query(X, 5))


@one_detector
def test_codes_of_known_images_are_not_kept_against_the_users_will(Detector, make, defects):
    X, y, _ = defects
    with pytest.raises(ValueError, match="store_references=True"):
        make(Detector, labels="learn", store_references=False, **SMALL).fit(X, y)


def test_masks_alone_say_what_is_anomalous(make, defects):
    X, y, masks = defects
    detector = make(RDNADetector, labels="learn", n_estimators=1, **SMALL).fit(X, masks=masks)
    same = make(RDNADetector, labels="learn", n_estimators=1, **SMALL).fit(X, y, masks=masks)
    np.testing.assert_array_equal(detector.anomaly_score(X), same.anomaly_score(X))
    unmasked = make(RDNADetector, labels="learn", n_estimators=1, **SMALL).fit(X, y)
    assert not np.array_equal(detector.anomaly_map(X), unmasked.anomaly_map(X))


@pytest.mark.parametrize(
    ("X", "masks", "message"),
    [
        (lambda X: X, lambda m: m[:, :-1], "must have the size of the images"),
        (lambda X: X, lambda m: m[:-1], "masks for 46 labels"),
        (lambda X: X.reshape(46, -1), lambda m: m, "but X contains rows"),
    ],
    ids=["size", "number", "rows"],
)
def test_masks_that_do_not_fit_are_refused_before_training(make, defects, X, masks, message):
    images, y, of_images = defects
    detector = make(RDNADetector, labels="learn", n_estimators=1, epochs=1)
    with pytest.raises(ValueError, match=message):
        detector.fit(X(images), y, masks=masks(of_images))
    assert "model_" not in vars(detector)


def test_masks_are_not_taken_silently(make, defects):
    X, y, masks = defects
    with pytest.raises(ValueError, match="labels='learn'"):
        make(RDNADetector).fit(X, y, masks=masks)


@one_detector
def test_what_to_label_next(learned, planted):
    pool = np.concatenate([planted["normal"], planted["labelled"], planted["other"]])
    chosen = learned.query(pool, 12)
    assert chosen.dtype.kind == "i"
    assert len(set(chosen.tolist())) == 12
    distance = np.abs(learned.anomaly_score(pool) - learned.threshold_)
    assert np.median(distance[chosen]) < np.median(distance)
    assert sorted(learned.query(pool[:9], 9)) == list(range(9))


@one_detector
def test_equal_samples_are_not_asked_for_twice(learned, planted):
    pool = np.repeat(planted["normal"][:5], 30, axis=0)
    assert len(np.unique(pool[learned.query(pool, 4)], axis=0)) == 4


@pytest.mark.parametrize(
    ("n", "error"), [(0, ValueError), (201, ValueError), (1.5, TypeError), ("all", TypeError)]
)
@one_detector
def test_a_number_of_samples_that_are_not_there(learned, planted, n, error):
    with pytest.raises(error, match="n"):
        learned.query(planted["normal"], n)


def test_one_member_is_asked_too(make, planted):
    with pytest.raises(NotFittedError):
        make(GANomalyDetector).query(planted["X"], 2)
    detector = make(GANomalyDetector, n_estimators=1).fit(planted["X"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(detector.query(planted["normal"], 4)) == 4
