import numpy as np
import pandas as pd
import pytest

from gandetect.data.labels import anomalous, checked_masks, known_by


@pytest.mark.parametrize(
    "y",
    [
        [0, 1, 0],
        np.array([0.0, 1.0, np.nan]),
        [1, -1, 1],
        [np.nan, -1, np.nan],
        [False, True, False],
        [None, True, False],
        pd.Series([0, 1, None], dtype="Int64"),
        pd.Series([False, True, None], dtype="boolean"),
    ],
    ids=str,
)
def test_the_second_is_anomalous(y):
    assert anomalous(y).tolist() == [False, True, False]
    for labels in ("exclude", "learn"):
        assert known_by(labels, y).tolist() == [False, True, False]


@pytest.mark.parametrize("y", [[0, 0], [np.nan, np.nan], [1, -1][:0], [False, False], [None, 0]])
def test_none_is_anomalous(y):
    assert not anomalous(y).any()


def test_booleans_that_are_all_true_are_all_anomalous():
    assert anomalous([True, True]).all()


@pytest.mark.parametrize(
    ("y", "error", "message"),
    [
        (["fraud", "ok"], TypeError, "anomaly_label"),
        (np.array(["0", "1"]), TypeError, "y == label"),
        ([0, 1, 2], ValueError, "must contain 0 and 1"),
        ([-1, 0, 1], ValueError, "must contain 0 and 1"),
        ([1, 1], ValueError, "contains only the label 1"),
        ([[0, 1]], ValueError, "one label for each sample"),
        ([[0], [1]], ValueError, r"got the shape \(2, 1\)\. Pass y\.ravel\(\)\."),
        (3, ValueError, "one label for each sample, got int"),
        ({0: 1}, ValueError, "one label for each sample, got dict"),
    ],
    ids=str,
)
def test_other_labels_are_refused(y, error, message):
    with pytest.raises(error, match=message):
        anomalous(y)


@pytest.mark.parametrize(
    ("y", "label"),
    [
        (["ok", "fraud", None], "fraud"),
        (np.array(["ok", "fraud", "spam"]), "fraud"),
        (pd.Series(["ok", "fraud", None], dtype="category"), "fraud"),
        (pd.Series(["ok", "fraud", None], dtype="string"), "fraud"),
        ([0, 2, np.nan], 2),
        (np.ma.array([0, 2, 2], mask=[False, False, True]), 2),
        ([1, 0, 1], 0),
        ([True, False, True], False),
    ],
    ids=str,
)
def test_the_anomaly_may_be_named(y, label):
    assert anomalous(y, label).tolist() == [False, True, False]


def test_what_is_asked_for_needs_labels():
    for labels in ("exclude", "learn"):
        with pytest.raises(ValueError, match=f"labels='{labels}' needs y"):
            known_by(labels, None)


def test_labels_that_are_all_missing_are_told():
    with pytest.warns(UserWarning, match="has no anomaly, only missing labels"):
        assert not known_by("learn", [np.nan, None]).any()


def test_nothing_to_learn_from_is_told():
    with pytest.warns(UserWarning, match="has no anomaly .fraud., only fine, ok"):
        assert not known_by("learn", ["ok", "fine", None], "fraud").any()
    with pytest.warns(UserWarning, match="has no anomaly"):
        known_by("learn", [0, 0])
    assert not known_by("exclude", [0, 0]).any()


def test_a_label_that_y_does_not_hold_is_told():
    told = "labels='exclude', but y has no anomaly 'Bad', only bad, good"
    with pytest.warns(UserWarning, match=told):
        assert not known_by("exclude", ["bad", "good", None], "Bad").any()
    # A part of the samples, as of a cross-validation, may be all normal.
    assert not known_by("exclude", ["good", "good"], "bad").any()


def masks_of(*anomalous):
    masks = np.zeros((4, 3, 5), dtype=bool)
    masks[list(anomalous), 1, 2] = True
    return masks


def test_masks_say_which_images_are_anomalous():
    masks, y = checked_masks(masks_of(1, 3).astype(float), None, "learn")
    assert masks.dtype == bool
    assert y.tolist() == [False, True, False, True]


def test_an_anomalous_image_may_have_an_empty_mask():
    masks, y = checked_masks(masks_of(1), ["ok", "bad", "bad", None], "learn", "bad")
    assert masks[1].any()
    assert list(y) == ["ok", "bad", "bad", None]


@pytest.mark.parametrize(
    ("masks", "y", "labels", "error", "message"),
    [
        (masks_of(1), [0, 1, 0, 0], "exclude", ValueError, "labels='learn'"),
        (masks_of(1)[0], None, "learn", ValueError, r"\(n_samples, height, width\)"),
        ([np.ones((2, 3)), np.ones((3, 2, 1))], None, "learn", ValueError, "mask 1 must have"),
        ([np.zeros((2, 3)), np.zeros((3, 2))], None, "learn", ValueError, "masks are all empty"),
        (masks_of(1).astype(str), None, "learn", TypeError, "0 and 1"),
        (masks_of(1) * 255, None, "learn", ValueError, "masks > 0"),
        (masks_of(), [0, 1, 0, 0], "learn", ValueError, "all empty"),
        (masks_of(1), [0, 1, 0], "learn", ValueError, "4 masks for 3 labels"),
        (masks_of(1, 2), [0, 1, 0, 0], "learn", ValueError, "image 2 has a mask"),
        (masks_of(1, 2), [0, 1, np.nan, 0], "learn", ValueError, "image 2 has a mask"),
    ],
)
def test_masks_that_cannot_be_used_are_refused(masks, y, labels, error, message):
    with pytest.raises(error, match=message):
        checked_masks(masks, y, labels)
