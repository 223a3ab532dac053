import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from PIL import Image
from scipy import sparse
from torch.utils.data import TensorDataset

from gandetect.data.sources import NamedRows
from gandetect.data.tables import read_table
from gandetect.datasets import ImageFiles, ImageFolder, one_class_rows_split, one_class_split
from gandetect.datasets.splits import take

# Class 0: 50 samples, class 1: 30, class 2: 20. X holds the number of the sample.
Y = np.repeat([0, 1, 2], [50, 30, 20])
X = np.arange(100)[:, None]


def _check(X_train, X_test, y_test, anomalies):
    """No sample twice, none anomalous in training, and every label right."""
    train, test = np.asarray(X_train)[:, 0], np.asarray(X_test)[:, 0]
    used = np.concatenate([train, test])
    assert len(np.unique(used)) == len(used)
    assert not np.isin(train, anomalies).any()
    np.testing.assert_array_equal(y_test, np.isin(test, anomalies))
    assert y_test.dtype == np.int64


def test_one_anomalous_takes_80_percent_of_the_normal_samples():
    X_train, X_test, y_test = one_class_split(X, Y, anomalous_class=1, random_state=0)
    _check(X_train, X_test, y_test, np.arange(50, 80))
    assert (len(X_train), len(X_test), y_test.sum()) == (56, 44, 30)


def test_one_normal():
    X_train, X_test, y_test = one_class_split(X, Y, normal_class=1, random_state=0)
    _check(X_train, X_test, y_test, np.r_[0:50, 80:100])
    assert (len(X_train), len(X_test), y_test.sum()) == (24, 76, 70)


def test_several_classes():
    X_train, X_test, y_test = one_class_split(X, Y, anomalous_class=[1, 2], random_state=0)
    _check(X_train, X_test, y_test, np.arange(50, 100))
    assert len(X_train) == 40


def test_classes_with_names():
    names = np.array(["cat", "dog", "eel"])[Y]
    _, _, y_test = one_class_split(X, names, normal_class="cat", random_state=0)
    assert (len(y_test), y_test.sum()) == (60, 50)


def test_class_zero_is_a_class():
    _, _, y_test = one_class_split(X, Y, anomalous_class=0, random_state=0)
    assert y_test.sum() == 50


def test_counts():
    X_train, X_test, y_test = one_class_split(
        X, Y, anomalous_class=2, n_train=40, n_test_normal=10, n_test_anomalous=5, random_state=0
    )
    _check(X_train, X_test, y_test, np.arange(80, 100))
    assert (len(X_train), len(X_test), y_test.sum()) == (40, 15, 5)


def test_training_leaves_what_the_test_asks_for():
    X_train, _, y_test = one_class_split(X, Y, anomalous_class=2, n_test_normal=70)
    assert (len(X_train), len(y_test)) == (10, 90)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        # 16 normal samples are left of 80: 4 anomalies are a fifth.
        ({"outlier_fraction": 0.2}, (16, 4)),
        # 20 anomalies are too many for 16 normal samples at a tenth, too few at nine tenths.
        ({"outlier_fraction": 0.1}, (16, 2)),
        ({"outlier_fraction": 0.9}, (2, 18)),
        ({"outlier_fraction": 0.8}, (5, 20)),
        ({"outlier_fraction": 0.5, "n_test_normal": 7}, (7, 7)),
        ({"outlier_fraction": 0.25, "n_test_anomalous": 4}, (12, 4)),
    ],
)
def test_outlier_fraction(counts, expected):
    X_train, X_test, y_test = one_class_split(X, Y, anomalous_class=2, random_state=0, **counts)
    _check(X_train, X_test, y_test, np.arange(80, 100))
    assert len(X_train) == 64
    assert (len(y_test) - y_test.sum(), y_test.sum()) == expected


def test_seeds():
    def split(seed):
        return one_class_split(X, Y, anomalous_class=2, n_test_anomalous=10, random_state=seed)

    for first, second in zip(split(3), split(3), strict=True):
        np.testing.assert_array_equal(first, second)
    for first, second in zip(split(3), split(4), strict=True):
        assert not np.array_equal(first, second)


def test_the_test_set_is_shuffled():
    _, _, y_test = one_class_split(X, Y, anomalous_class=1, random_state=0)
    assert np.count_nonzero(np.diff(y_test)) > 5


def test_global_random_state_is_left_alone():
    def state():
        return np.random.get_state()[1].copy()

    before = state()
    one_class_split(X, Y, anomalous_class=1)
    one_class_rows_split(X, Y == 1)
    np.testing.assert_array_equal(state(), before)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({}, "pass either anomalous_class or normal_class"),
        ({"anomalous_class": 1, "normal_class": 0}, "pass either anomalous_class or"),
        ({"anomalous_class": 7}, r"class \[7\] is not in y, which has \[0, 1, 2\]"),
        ({"normal_class": [0, 7]}, "is not in y"),
        ({"normal_class": [0, 1, 2]}, "only the class"),
        ({"anomalous_class": 1, "n_train": 71}, "n_train must be from 1 to 70.*got 71"),
        ({"anomalous_class": 1, "n_train": 0}, "n_train must be from 1 to 70"),
        ({"anomalous_class": 1, "n_test_normal": 70}, "n_train must be from 1 to 70.*got 0"),
        ({"anomalous_class": 1, "n_train": 60, "n_test_normal": 11}, "n_test_normal .* 0 to 10"),
        ({"anomalous_class": 1, "n_test_anomalous": 31}, "n_test_anomalous must be from 0 to 30"),
        ({"anomalous_class": 1, "n_test_anomalous": -1}, "n_test_anomalous must be from 0"),
        ({"anomalous_class": 1, "outlier_fraction": 0}, "between 0 and 1, got 0"),
        ({"anomalous_class": 1, "outlier_fraction": 1.0}, "between 0 and 1, got 1.0"),
        (
            {"anomalous_class": 1, "outlier_fraction": 0.8, "n_test_normal": 10},
            "n_test_anomalous must be from 0 to 30.*got 40",
        ),
        (
            {
                "anomalous_class": 1,
                "outlier_fraction": 0.5,
                "n_test_normal": 5,
                "n_test_anomalous": 5,
            },
            "not with both",
        ),
    ],
)
def test_bad_parameters(parameters, message):
    with pytest.raises(ValueError, match=message):
        one_class_split(X, Y, **parameters)


@pytest.mark.parametrize("split", [one_class_split, one_class_rows_split])
def test_lengths_that_differ(split):
    parameters = {"anomalous_class": 1} if split is one_class_split else {}
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        split(X, Y[:-1], **parameters)


def test_kinds_of_X():
    expected = one_class_split(X, Y, anomalous_class=1, random_state=0)
    as_list = one_class_split(X.tolist(), Y.tolist(), anomalous_class=1, random_state=0)
    frame = one_class_split(pd.DataFrame(X), pd.Series(Y), anomalous_class=1, random_state=0)
    scarce = one_class_split(sparse.csr_array(X), Y, anomalous_class=1, random_state=0)
    for part in (0, 1):
        np.testing.assert_array_equal(as_list[part], expected[part])
        assert isinstance(frame[part], pd.DataFrame)
        np.testing.assert_array_equal(frame[part].to_numpy(), expected[part])
        np.testing.assert_array_equal(scarce[part].toarray(), expected[part])


def test_folders_stay_lazy(tmp_path):
    for value in range(10):
        Image.new("L", (6, 4), value).save(tmp_path / f"{value}.png")
    images = ImageFolder(tmp_path, image_size=(5, 5), channels=3)
    X_train, X_test, y_test = one_class_split(
        images, [0] * 8 + [1] * 2, anomalous_class=1, random_state=0
    )
    assert isinstance(X_train, ImageFiles)
    assert X_train.image_shape == (5, 5, 3)
    assert sorted(int(i[0, 0, 0]) for part in (X_train, X_test) for i in part) == [*range(10)]
    assert [int(image[0, 0, 0]) >= 8 for image in X_test] == y_test.astype(bool).tolist()


def _rows(n_normal, n_anomalous):
    y = np.repeat([0, 1], [n_normal, n_anomalous])
    return np.arange(len(y))[:, None], y


def test_rows_small_sets_are_used_whole():
    X, y = _rows(101, 9)
    X_train, X_test, y_test = one_class_rows_split(X, y, random_state=0)
    _check(X_train, X_test, y_test, np.arange(101, 110))
    assert (len(X_train), len(X_test), y_test.sum()) == (50, 60, 9)


@pytest.mark.parametrize(
    ("n_normal", "n_anomalous", "n_test_anomalous"),
    [
        # A test set of 6000 + 2000 has a quarter of anomalies.
        (12000, 2000, 500),
        # 6000 + 60 would be 19.8 of 2000.
        (12000, 60, 20),
        # There are no more than 12.
        (12000, 12, 12),
        # 100 + 9900: 99 %.
        (200, 9900, 1980),
    ],
)
def test_rows_of_a_cut_test_set_keep_their_share(n_normal, n_anomalous, n_test_anomalous):
    X, y = _rows(n_normal, n_anomalous)
    X_train, X_test, y_test = one_class_rows_split(X, y, random_state=0)
    _check(X_train, X_test, y_test, np.arange(n_normal, len(y)))
    assert len(X_train) == min(2000, n_normal // 2)
    assert len(X_test) == 2000
    assert y_test.sum() == n_test_anomalous


def test_rows_at_least_20_anomalies_are_kept():
    X, y = _rows(20000, 100)
    # 10,000 + 100 at 2,000 would keep 19.8, at 1,000 9.9.
    assert one_class_rows_split(X, y, 0)[2].sum() == 20
    assert one_class_rows_split(X, y, 0, max_test=1000)[2].sum() == 20
    assert one_class_rows_split(X, y, 0, max_test=4000)[2].sum() == 40


def test_rows_without_limits():
    X, y = _rows(9000, 60)
    X_train, X_test, y_test = one_class_rows_split(X, y, 0, max_train=None, max_test=None)
    assert (len(X_train), len(X_test), y_test.sum()) == (4500, 4560, 60)


def test_rows_with_the_share_of_egbad():
    # EGBAD's test on KDD Cup 1999: all normal rows left, and anomalies for a fifth.
    X, y = _rows(8000, 2000)
    X_train, X_test, y_test = one_class_rows_split(
        X, y, 0, max_train=None, max_test=None, outlier_fraction=0.2
    )
    _check(X_train, X_test, y_test, np.arange(8000, 10000))
    assert (len(X_train), len(X_test), y_test.sum()) == (4000, 5000, 1000)
    assert one_class_rows_split(X, y, 0, outlier_fraction=0.2)[2].mean() == 0.2


def test_rows_seeds():
    X, y = _rows(100, 10)
    first, again, other = (one_class_rows_split(X, y, seed)[0] for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([1, -1, 1], r"both 0 \(normal\) and 1 \(anomaly\), got \[-1, 1\]"),
        ([0, 0, 0], r"got \[0\]"),
        ([0, 1, 2], r"got \[0, 1, 2\]"),
        ([0, 1, 1], "one normal row"),
    ],
)
def test_rows_with_bad_labels(y, message):
    with pytest.raises(ValueError, match=message):
        one_class_rows_split(np.zeros((3, 1)), y)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"max_train": 0}, "max_train must be at least 1, got 0"),
        ({"max_test": 1}, "max_test must be at least 2, got 1"),
        ({"outlier_fraction": 1.5}, "outlier_fraction must be between 0 and 1, got 1.5"),
    ],
)
def test_rows_with_bad_parameters(parameters, message):
    with pytest.raises(ValueError, match=message):
        one_class_rows_split(*_rows(10, 5), **parameters)


def test_some_samples_of_every_container(tmp_path):
    X = np.arange(12.0).reshape(6, 2)
    rows = np.array([4, 1])
    assert take(X, rows).tolist() == X[rows].tolist()
    assert take(X.tolist(), rows).tolist() == X[rows].tolist()
    named = take(NamedRows(X, ["a", "b"]), rows)
    assert (named.X.tolist(), named.names) == (X[rows].tolist(), ["a", "b"])
    of_dataset = take(TensorDataset(torch.from_numpy(X)), rows)
    assert of_dataset[0][0].tolist() == X[4].tolist()
    frame = pd.DataFrame({"b": np.arange(6.0), "c": list("abcdef")})
    assert take(frame, rows)["b"].tolist() == frame["b"].iloc[rows].tolist()
    assert take(pl.from_pandas(frame), rows)["b"].to_list() == frame["b"].iloc[rows].tolist()
    assert take(pa.Table.from_pandas(frame), rows)["b"].to_pylist() == (
        frame["b"].iloc[rows].tolist()
    )
    frame.to_csv(tmp_path / "x.csv", index=False)
    assert take(read_table(tmp_path / "x.csv"), rows).columns[1].tolist() == ["e", "b"]


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA, pd.NaT])
def test_a_missing_label_is_none_of_a_class(missing):
    X, y = np.zeros((9, 2)), np.array([missing, 0, 0, 0, 0, 0, 1, 1, missing], dtype=object)
    with pytest.raises(ValueError, match=r"^2 of 9 labels in y are missing: label each"):
        one_class_split(X, y, anomalous_class=1)
    with pytest.raises(ValueError, match=r"^2 of 9 labels in y are missing: label each"):
        one_class_split(X, y, normal_class=0)
    with pytest.raises(ValueError, match=r"^2 of 9 labels in y are missing: label each"):
        one_class_rows_split(X, y)
