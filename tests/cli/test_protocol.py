from argparse import Namespace

import numpy as np
import pytest

from gandetect.cli.files import Samples
from gandetect.cli.options import UsageError
from gandetect.cli.protocol import anomalies, is_split_here, samples_to_score, training_samples

NONE_GIVEN = {
    "data": "rows.csv",
    "part": None,
    "anomalous_class": None,
    "normal_class": None,
    "outlier_fraction": None,
    "n_train": None,
    "seed": 0,
}


def given(**options):
    return Namespace(**{**NONE_GIVEN, **options})


def samples_of(labels, **about):
    labels = None if labels is None else np.asarray(labels)
    return Samples(X=np.arange(100).reshape(100, 1), labels=labels, **about)


CLASSES = np.repeat(["a", "b", "c", "d"], 25)
BINARY = np.repeat([0, 1], [80, 20])


class TestAnomalies:
    @pytest.mark.parametrize("labels", [BINARY, BINARY.astype(bool), 1 - 2 * BINARY])
    def test_labels_that_tell(self, labels):
        np.testing.assert_array_equal(anomalies(samples_of(labels), given()), BINARY == 1)

    def test_classes(self):
        samples = samples_of(CLASSES)
        expected = np.isin(CLASSES, ["b", "d"])
        for options in ({"anomalous_class": ["b", "d"]}, {"normal_class": ["a", "c"]}):
            np.testing.assert_array_equal(anomalies(samples, given(**options)), expected)

    def test_classes_by_number_and_by_name(self):
        samples = samples_of(np.repeat([0, 1], 50), class_names=("cat", "dog"))
        for name in ("1", "dog"):
            is_anomaly = anomalies(samples, given(anomalous_class=[name]))
            assert is_anomaly.tolist() == [False] * 50 + [True] * 50

    @pytest.mark.parametrize(
        ("labels", "options", "message"),
        [
            (None, {}, "rows.csv has no labels"),
            (CLASSES, {}, r"the data have the labels 'a', 'b', 'c', 'd'.*\(-1 is\); say which"),
            (np.zeros(100), {}, "as well as anomalies; say which are .* --anomalous-class"),
            (CLASSES, {"normal_class": ["e"]}, "class 'e' is not in the labels, which are a, b"),
            (CLASSES, {"normal_class": ["a"], "anomalous_class": ["b"]}, "one of"),
        ],
    )
    def test_labels_that_do_not_tell(self, labels, options, message):
        with pytest.raises(UsageError, match=message):
            anomalies(samples_of(labels), given(**options))


class TestFiles:
    def test_all_of_a_file_is_used(self):
        for labels in (None, CLASSES, np.zeros(100), BINARY):
            samples = samples_of(labels)
            assert training_samples(samples, given(part="all")) is samples
            assert samples_to_score(samples, given()) is samples
            if labels is not BINARY:
                assert training_samples(samples, given()) is samples

    @pytest.mark.parametrize("labels", [BINARY, BINARY.astype(bool), 1 - 2 * BINARY])
    def test_a_fit_leaves_out_what_is_labelled_an_anomaly(self, labels):
        kept = training_samples(samples_of(labels), given())
        assert kept.X.ravel().tolist() == list(range(80))

    def test_a_fit_takes_the_normal_ones_that_are_named(self):
        kept = training_samples(samples_of(CLASSES), given(anomalous_class=["a"]))
        assert kept.X.ravel().tolist() == list(range(25, 100))

    @pytest.mark.parametrize(
        ("labels", "options", "n_train", "n_test", "n_anomalous"),
        [
            (CLASSES, {"anomalous_class": ["a"]}, 60, 40, 25),
            (CLASSES, {"normal_class": ["a"], "n_train": 10}, 10, 90, 75),
            (CLASSES, {"anomalous_class": ["a"], "outlier_fraction": 0.25}, 60, 20, 5),
            (BINARY, {}, 40, 60, 20),
            (BINARY, {"outlier_fraction": 0.2}, 40, 50, 10),
        ],
    )
    def test_parts(self, labels, options, n_train, n_test, n_anomalous):
        samples = samples_of(labels)
        train = training_samples(samples, given(part="train", **options))
        test = samples_to_score(samples, given(part="test", **options))
        assert (len(train), len(test)) == (n_train, n_test)
        assert not set(train.X.ravel()) & set(test.X.ravel())
        is_anomaly = dict(enumerate(anomalies(samples, given(**options_of_classes(options)))))
        assert not any(is_anomaly[row] for row in train.X.ravel())
        assert sum(is_anomaly[row] for row in test.X.ravel()) == n_anomalous

    def test_what_leaves_a_test_part(self):
        assert is_split_here(samples_of(BINARY), given(part="train"))
        assert is_split_here(samples_of(BINARY), given(data="adbench:x"))
        assert not is_split_here(samples_of(BINARY), given())
        assert not is_split_here(samples_of(BINARY, is_split=True), given(data="mvtec:x"))

    def test_the_seed_decides_the_split(self):
        samples = samples_of(BINARY)
        first, again, other = (
            training_samples(samples, given(part="train", seed=seed)).X.ravel().tolist()
            for seed in (0, 0, 1)
        )
        assert first == again != other

    def test_a_share_without_a_split(self):
        with pytest.raises(UsageError, match="--outlier-fraction is about a split"):
            samples_to_score(samples_of(BINARY), given(outlier_fraction=0.2))


def options_of_classes(options):
    return {name: value for name, value in options.items() if name.endswith("class")}


class TestNamedDataSets:
    def test_parts_are_the_default(self):
        samples = samples_of(BINARY)
        assert len(training_samples(samples, given(data="adbench:x"))) == 40
        assert len(samples_to_score(samples, given(data="adbench:x"))) == 60
        assert len(samples_to_score(samples, given(data="adbench:x", part="all"))) == 100

    def test_classes_must_be_chosen_to_fit(self):
        samples = samples_of(CLASSES, has_classes=True)
        with pytest.raises(UsageError, match="mnist has classes"):
            training_samples(samples, given(data="mnist"))
        assert training_samples(samples, given(data="mnist", part="all")) is samples
        assert samples_to_score(samples, given(data="mnist")) is samples

    def test_a_published_split_stays(self):
        samples = samples_of(BINARY, is_split=True)
        assert training_samples(samples, given(data="mvtec:nut")) is samples
        assert samples_to_score(samples, given(data="mvtec:nut")) is samples
