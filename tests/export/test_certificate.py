"""What certificates accept and refuse, by hand; and certificates that are damaged."""

import dataclasses
import hashlib
import json

import numpy as np
import pytest

from gandetect import ALOCCDetector, ArchiveError, GANomalyDetector
from gandetect.export.certificate import Certificate, ParityError, ParityWarning, certify
from tests.helpers import one_detector

CERTIFICATE = Certificate(
    detector="D",
    gandetect="1",
    torch="2",
    input_shape=(2,),
    feature_names=["a", "b"],
    threshold=1.5,
    block_size=4,
    unit=1.0,
    score_unit=1.0,
    max_difference=0.0,
    origin="given",
    X=np.arange(6, dtype=np.float32).reshape(3, 2),
    anomaly_score=np.array([0.0, 1.0, 1000.0]),
    label=np.array([1, 1, -1]),
)
LABELS = CERTIFICATE.label


def edited(**changes):
    """The text with other values, and with the checksum of those."""
    values = {**json.loads(CERTIFICATE.to_json()), **changes}
    del values["sha256"]
    content = json.dumps(values, sort_keys=True).encode()
    return json.dumps({**values, "sha256": hashlib.sha256(content).hexdigest()})


def array(*values):
    """As JSON has it."""
    return json.loads(
        dataclasses.replace(CERTIFICATE, X=np.array(values), anomaly_score=np.zeros(1)).to_json()
    )["X"]


class TestCheck:
    def test_relative_above_the_unit_and_absolute_below(self):
        assert CERTIFICATE.difference(np.array([1e-6, 1.0, 1000.0])) == pytest.approx(1e-6)
        assert CERTIFICATE.difference(np.array([0.0, 1.0, 1000.5])) == pytest.approx(5e-4)

    def test_the_unit(self):
        certificate = dataclasses.replace(CERTIFICATE, unit=0.01)
        assert certificate.difference(np.array([1e-6, 1.0, 1000.0])) == pytest.approx(1e-4)

    def test_what_is_near_enough(self):
        scores = CERTIFICATE.anomaly_score + np.array([9e-6, -9e-6, 9e-3])
        assert CERTIFICATE.check(scores, LABELS) == pytest.approx(9e-6)

    @pytest.mark.parametrize("error", [[2e-4, 0, 0], [0, 0, 0.2], [np.nan, 0, 0], [np.inf, 0, 0]])
    def test_what_is_not(self, error):
        with pytest.raises(ParityError, match="differs"):
            CERTIFICATE.check(CERTIFICATE.anomaly_score + error, LABELS)

    @pytest.mark.parametrize("error", [[2e-5, 0, 0], [0, 0, 2e-2]])
    def test_what_rounding_may_be(self, error):
        with pytest.warns(ParityWarning, match="differs by 2.0e-05"):
            found = CERTIFICATE.check(CERTIFICATE.anomaly_score + error, LABELS)
        assert found == pytest.approx(2e-5)

    def test_a_larger_tolerance(self):
        scores = CERTIFICATE.anomaly_score + np.array([0.01, 0, 0])
        assert CERTIFICATE.check(scores, LABELS, tolerance=0.02) == pytest.approx(0.01)

    def test_a_smaller_tolerance(self):
        with pytest.warns(ParityWarning, match="1.0e-06"):
            CERTIFICATE.check(
                CERTIFICATE.anomaly_score + np.array([1e-6, 0, 0]), LABELS, tolerance=5e-7
            )

    def test_a_limit(self):
        scores = CERTIFICATE.anomaly_score + np.array([0.01, 0, 0])
        with pytest.warns(ParityWarning):
            CERTIFICATE.check(scores, LABELS, limit=0.1)
        with pytest.raises(ParityError, match="differs"):
            CERTIFICATE.check(scores, LABELS, limit=0.001)

    def test_what_was_told_when_the_file_was_written(self):
        certificate = dataclasses.replace(CERTIFICATE, max_difference=5e-5)
        certificate.check(CERTIFICATE.anomaly_score + np.array([6e-5, 0, 0]), LABELS)

    def test_wrong_labels(self):
        with pytest.raises(ParityError, match="1 of 3 samples"):
            CERTIFICATE.check(CERTIFICATE.anomaly_score, np.array([1, -1, -1]))

    @pytest.mark.parametrize("label", [1, -1])
    def test_on_the_threshold_the_label_is_the_natives(self, label):
        certificate = dataclasses.replace(
            CERTIFICATE, threshold=1.0, label=np.array([1, label, -1])
        )
        certificate.check(CERTIFICATE.anomaly_score, certificate.label)
        with pytest.raises(ParityError, match="labels"):
            certificate.check(CERTIFICATE.anomaly_score, np.array([1, -label, -1]))

    @pytest.mark.parametrize(
        ("scores", "labels"),
        [
            (CERTIFICATE.anomaly_score[:, None], LABELS),
            (CERTIFICATE.anomaly_score, LABELS[:1]),
            (np.array(["a", "b", "c"]), LABELS),
            (CERTIFICATE.anomaly_score, LABELS.astype(str)),
        ],
    )
    def test_something_else_than_scores_and_labels(self, scores, labels):
        with pytest.raises(ParityError, match="one score and one label"):
            CERTIFICATE.check(scores, labels)


class TestText:
    def test_there_and_back(self):
        found = Certificate.from_json(CERTIFICATE.to_json(), "file")
        for field in dataclasses.fields(Certificate):
            ours, theirs = getattr(CERTIFICATE, field.name), getattr(found, field.name)
            np.testing.assert_array_equal(ours, theirs)
            assert type(ours) is type(theirs)
        assert found.X.dtype == np.float32

    @pytest.mark.parametrize("text", [None, ""])
    def test_none(self, text):
        with pytest.raises(ArchiveError, match="no certificate"):
            Certificate.from_json(text, "file")

    @pytest.mark.parametrize(
        "change",
        [
            {"format": 4},
            {"graph": 1},
            {"format": None},
            {"input_shape": [3]},
            {"input_shape": None},
            {"block_size": 0},
            {"threshold": "high"},
            {"unknown": 1},
            {"anomaly_score": {"dtype": "float64", "shape": [0], "data": ""}},
            {"X": {"dtype": "object", "shape": [1], "data": ""}},
            {"X": {"dtype": "float32", "shape": [3, 2], "data": "AAAA"}},
            {"X": {"dtype": "float32", "shape": [10**30], "data": "AAAA"}},
            {"X": {"dtype": "float32", "shape": [0, 2], "data": ""}},
            {"X": {"dtype": "float32", "shape": [-1, 2], "data": "AAAAAAAAAAA="}},
            {"X": []},
            {"label": array(1, 1, 0)},
            {"label": array(1, 1)},
            {"label": None},
            {"origin": "elsewhere"},
            {"origin": None},
            {"X": array([0.0, 1.0], [np.nan, 0.0], [1.0, 1.0])},
            {"anomaly_score": array(0.0, np.inf, 1.0)},
            {"threshold": float("nan")},
            {"threshold": float("inf")},
            {"threshold": "1.5"},
            {"unit": 1e30},
            {"unit": 0.0},
            {"unit": -1.0},
            {"unit": float("inf")},
            {"unit": None},
            {"max_difference": float("inf")},
            {"max_difference": -1.0},
            {"max_difference": float("nan")},
            {"feature_names": 5},
            {"feature_names": ["a"]},
            {"feature_names": [1, 2]},
            {"feature_names": "ab"},
            {"block_size": "5"},
            {"block_size": 5.5},
            {"block_size": True},
            {"block_size": 2**13},
            {"input_shape": [2.0]},
            {"input_shape": []},
            {"detector": None},
        ],
        ids=str,
    )
    def test_damaged(self, change):
        with pytest.raises(ArchiveError, match="damaged"):
            Certificate.from_json(edited(**change), "file")

    @pytest.mark.parametrize("change", [{}, {"unit": float(CERTIFICATE.anomaly_score.std())}])
    def test_what_may_stand_there(self, change):
        assert Certificate.from_json(edited(**change), "file").detector == "D"

    def test_a_format_without_labels(self):
        values = json.loads(edited(format=1))
        del values["label"], values["origin"], values["sha256"]
        content = json.dumps(values, sort_keys=True).encode()
        text = json.dumps({**values, "sha256": hashlib.sha256(content).hexdigest()})
        np.testing.assert_array_equal(Certificate.from_json(text, "file").label, LABELS)

    def test_more_samples_than_are_ever_written(self):
        n = 257
        certificate = dataclasses.replace(
            CERTIFICATE, X=np.zeros((n, 2)), anomaly_score=np.zeros(n), label=np.ones(n, dtype=int)
        )
        with pytest.raises(ArchiveError, match="arrays"):
            Certificate.from_json(certificate.to_json(), "file")

    def test_more_entries_than_are_ever_written(self):
        with pytest.raises(ArchiveError, match="entries"):
            Certificate.from_json("[" + "[]," * 600_000 + "[]]", "file")

    def test_an_edit_is_found_by_the_checksum(self):
        text = CERTIFICATE.to_json().replace("1.5", "1.4")
        with pytest.raises(ArchiveError, match="checksum"):
            Certificate.from_json(text, "file")

    def test_without_a_checksum(self):
        values = json.loads(CERTIFICATE.to_json())
        del values["sha256"]
        with pytest.raises(ArchiveError, match="checksum"):
            Certificate.from_json(json.dumps(values), "file")

    def test_another_order_of_bytes(self):
        certificate = dataclasses.replace(CERTIFICATE, X=CERTIFICATE.X.astype(">f4"))
        found = Certificate.from_json(certificate.to_json(), "file")
        np.testing.assert_array_equal(found.X, CERTIFICATE.X)

    @pytest.mark.parametrize("text", ["{", "[]", "1", "[" * 100_000])
    def test_no_certificate_at_all(self, text):
        with pytest.raises(ArchiveError, match="damaged"):
            Certificate.from_json(text, "file")


class TestReference:
    @one_detector
    def test_drawn(self, fitted_and_X):
        fitted, _ = fitted_and_X
        certificate = certify(fitted)
        assert certificate.origin in ("training", "artificial")
        assert certificate.X.shape[1:] == fitted.input_shape_
        assert len(certificate.X) >= 4
        np.testing.assert_array_equal(
            certificate.anomaly_score, fitted.anomaly_score(certificate.X)
        )
        np.testing.assert_array_equal(certificate.X, certify(fitted).X)

    @one_detector
    def test_given(self, fitted_and_X):
        fitted, X = fitted_and_X
        certificate = certify(fitted, X)
        np.testing.assert_array_equal(certificate.X[0], X[0])
        np.testing.assert_array_equal(certificate.X[-1], X[-1])
        assert len(certificate.X) <= 256
        assert certificate.origin == "given"
        np.testing.assert_array_equal(certificate.label, fitted.predict(certificate.X))

    def test_training_samples_that_the_detector_keeps(self, rows):
        X = 1e6 + rows[:50]  # float32 does not hold such an offset
        detector = ALOCCDetector(epochs=1, n_estimators=1, random_state=0).fit(X)
        certificate = certify(detector)
        assert certificate.origin == "training"
        np.testing.assert_allclose(certificate.X[-len(X) :], X, rtol=0, atol=1e-5)

    def test_a_detector_that_keeps_none(self, rows):
        detector = GANomalyDetector(epochs=1, n_estimators=1, score="reconstruction")
        assert certify(detector.fit(rows[:50])).origin == "artificial"

    def test_the_unit_of_a_published_score(self, rows):
        detector = GANomalyDetector(epochs=1, n_estimators=1, score="paper").fit(rows[:50])
        certificate = certify(detector)
        assert certificate.unit == certificate.anomaly_score.std()
