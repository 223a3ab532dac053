"""The splits: sizes, no overlap, the anomaly rate, and the same split from the same seed."""

import numpy as np
import protocols
import pytest


def made_rows(n_normal, n_anomalies):
    """Rows that are told apart by their only value; the anomalies come last."""
    X = np.arange(n_normal + n_anomalies, dtype=float)[:, None]
    return X, np.repeat([0, 1], [n_normal, n_anomalies])


def made_images(n_train=6000, n_test=1200, n_scarce=900):
    """One-pixel images of ten digits, told apart by their value; digit 5 is scarce in the test."""
    n_each = [n_train] * 10 + [n_test] * 5 + [n_scarce] + [n_test] * 4
    digits = np.repeat(np.tile(np.arange(10), 2), n_each)
    parts = np.repeat([0, 1], [10 * n_train, 9 * n_test + n_scarce])
    return np.arange(len(digits))[:, None, None], digits, parts


def test_halves_part_the_sets_and_the_digits():
    assert len(protocols.ADBENCH_SETS) == 21
    assert list(protocols.ADBENCH_SETS) == sorted(protocols.ADBENCH_SETS)
    for protocol in protocols.PROTOCOLS:
        tuning, report = protocols.halves(protocol)
        assert not set(tuning) & set(report)
        assert sorted(tuning + report) == list(protocols.select(protocol, "all"))
    assert protocols.halves("adbench")[1][:2] == ("14_glass", "20_letter")
    assert protocols.halves("mnist-one-normal")[0] == ("0", "1", "2", "3", "4")


def test_select_takes_halves_and_names():
    assert protocols.select("adbench", "tune") == protocols.TUNING_SETS
    assert protocols.select("adbench", "45_wine, 47_yeast") == ("45_wine", "47_yeast")
    assert protocols.select("mnist-one-anomalous", "report") == ("5", "6", "7", "8", "9")
    with pytest.raises(ValueError, match="some of 0,1"):
        protocols.select("mnist-one-anomalous", "3,10")
    with pytest.raises(ValueError, match="Unknown protocol"):
        protocols.select("mnist", "all")


def test_small_set_is_used_whole():
    X, y = made_rows(101, 30)
    split = protocols.split_rows(X, y, seed=0)
    assert split.X_train.shape == (50, 1)
    assert split.X_test.shape == (81, 1)
    assert split.y_test.sum() == 30
    assert sorted(np.concatenate([split.X_train, split.X_test]).ravel()) == list(range(131))


def test_only_normal_rows_are_trained_on_and_labels_stay_with_their_rows():
    X, y = made_rows(300, 40)
    split = protocols.split_rows(X, y, seed=3)
    assert (split.X_train < 300).all()
    np.testing.assert_array_equal(split.y_test, split.X_test.ravel() >= 300)


@pytest.mark.parametrize(
    ("n_anomalies", "n_kept"),
    [
        (400, 148),  # 400 of 5,400 left to test on are 7.4 %, of 2,000: 148
        (30, 20),  # 30 of 5,030 would be 12 of 2,000, too few to measure with
        (15, 15),  # there are no 20
    ],
)
def test_large_set_is_thinned_at_its_own_rate(n_anomalies, n_kept):
    X, y = made_rows(10_000, n_anomalies)
    split = protocols.split_rows(X, y, seed=0)
    assert len(split.X_train) == 2000
    assert len(split.X_test) == 2000
    assert split.y_test.sum() == n_kept
    assert not np.isin(split.X_train, split.X_test).any()
    assert len(np.unique(split.X_test)) == 2000


def test_test_rows_are_not_sorted_by_class():
    split = protocols.split_rows(*made_rows(400, 200), seed=0)
    assert 0 < split.y_test[:200].sum() < 200


def test_seed_fixes_the_split_of_rows():
    X, y = made_rows(3000, 100)
    first, again, other = (protocols.split_rows(X, y, seed) for seed in (1, 1, 2))
    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, two)
    assert not np.array_equal(first.X_train, other.X_train)


@pytest.mark.parametrize("digit", [0, 5])
@pytest.mark.parametrize("one_normal", [True, False])
def test_images_have_the_stated_sizes_and_do_not_overlap(digit, one_normal):
    images, digits, parts = made_images()
    is_normal = (digits == digit) == one_normal
    X_train, X_test, y_test = protocols.split_images(images, is_normal, parts, seed=0)
    assert (len(X_train), len(X_test), y_test.sum()) == (4000, 2000, 1000)
    assert len(np.unique(np.concatenate([X_train, X_test]))) == 6000
    train, test = X_train.ravel(), X_test.ravel()  # a pixel is the image's place in the arrays
    assert is_normal[train].all()
    assert (parts[train] == 0).all()
    np.testing.assert_array_equal(y_test, ~is_normal[test])
    # Of the scarce digit 100 are missing in the test part, and no more are taken elsewhere.
    assert (parts[test] == 0).sum() == (100 if digit == 5 else 0)
    assert (digits[test[parts[test] == 0]] == digit).all()


def test_seed_fixes_the_split_of_images():
    images, digits, parts = made_images()
    first, again, other = (
        protocols.split_images(images, digits == 3, parts, seed) for seed in (1, 1, 2)
    )
    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, two)
    assert not np.array_equal(first.X_train, other.X_train)


def test_too_few_images_are_told():
    images, digits, parts = made_images(n_train=4050)
    with pytest.raises(ValueError, match="Use the whole of MNIST"):
        protocols.split_images(images, digits == 5, parts, seed=0)


def test_load_split_knows_which_digit_is_the_anomaly(tmp_path):
    images, digits, parts = made_images()
    np.savez(tmp_path / "mnist.npz", x=images, y=digits, split=parts)
    for protocol, label_of_seven in [("mnist-one-anomalous", 1), ("mnist-one-normal", 0)]:
        _, X_test, y_test = protocols.load_split(tmp_path, protocol, "7", seed=0)
        sevens = digits[X_test.ravel()] == 7
        assert sevens.sum() == 1000
        assert (y_test[sevens] == label_of_seven).all()
        assert (y_test[~sevens] == 1 - label_of_seven).all()


def test_load_split_reads_the_rows_of_a_set(tmp_path):
    X, y = made_rows(60, 10)
    (tmp_path / "adbench").mkdir()
    np.savez(tmp_path / "adbench" / "1_made.npz", X=X, y=y)
    loaded = protocols.load_split(tmp_path, "adbench", "1_made", seed=4)
    np.testing.assert_array_equal(loaded.X_test, protocols.split_rows(X, y, 4).X_test)
