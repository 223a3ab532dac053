import argparse

import pytest

from gandetect import BiGANDetector, GANomalyDetector
from gandetect.cli.options import detector_class, detector_classes, image_size, names, number


@pytest.mark.parametrize("text", ["ganomaly", "GANomaly", "GANomalyDetector", "ganomalydetector"])
def test_a_detector_by_any_spelling(text):
    assert detector_class(text) is GANomalyDetector


def test_several_detectors():
    assert detector_classes("bigan,ganomaly") == {
        "BiGANDetector": BiGANDetector,
        "GANomalyDetector": GANomalyDetector,
    }


def test_names():
    assert names("a, b") == ["a", "b"]


def test_numbers():
    assert number(int, 1)("3") == 3
    assert number(float, 0, 100)("2.5") == 2.5
    assert number(float, 0, 100)("100") == 100
    assert number(float, 0, 1, with_limits=False)("0.2") == 0.2


@pytest.mark.parametrize(("text", "size"), [("64", 64), ("48,64", (48, 64))])
def test_image_sizes(text, size):
    assert image_size(text) == size


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        (detector_class, "gnomaly", "there is no detector 'gnomaly'"),
        (detector_classes, "bigan,gnomaly", "there is no detector 'gnomaly'"),
        (names, "a,,b", "a name is missing"),
        (number(int, 1), "1.5", "an integer, at least 1, got '1.5'"),
        (number(int, 1), "0", "an integer, at least 1, got '0'"),
        (number(float, 0, 100), "101", "a number, 0 to 100, got '101'"),
        (number(float, 0, 100), "nan", "a number, 0 to 100, got 'nan'"),
        (number(float, 0, 1, with_limits=False), "0", "a number, above 0 and below 1, got '0'"),
        (number(float, 0, 1, with_limits=False), "1", "a number, above 0 and below 1, got '1'"),
        (image_size, "0", "N or HEIGHT,WIDTH"),
        (image_size, "1,2,3", "N or HEIGHT,WIDTH"),
        (image_size, "x", "N or HEIGHT,WIDTH"),
    ],
)
def test_values_that_can_not_be_used(kind, text, message):
    with pytest.raises(argparse.ArgumentTypeError, match=message):
        kind(text)
