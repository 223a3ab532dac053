import argparse

import pytest

from gandetect import MLP, ConvNet, GANomalyDetector, detectors
from gandetect.cli.options import (
    UsageError,
    build_detector,
    character,
    chosen,
    detector_class,
    detector_name,
    detector_names,
    image_size,
    known_detectors,
    names,
    number,
    setting,
)


@pytest.mark.parametrize("text", ["ganomaly", "GANomaly", "GANomalyDetector", "ganomalydetector"])
def test_a_detector_by_any_spelling(text):
    assert detector_class(detector_name(text)) is GANomalyDetector


def test_all_detectors_are_known():
    assert set(known_detectors()) == {
        name for name in detectors.__all__ if hasattr(getattr(detectors, name), "anomaly_score")
    }


def test_several_detectors():
    assert detector_names("bigan,ganomaly,BiGAN") == ["BiGANDetector", "GANomalyDetector"]


def test_names():
    assert names("a, b") == ["a", "b"]


def test_numbers():
    assert number(int, 1)("3") == 3
    assert number(float, 0, 100)("2.5") == 2.5
    assert number(float, 0, 100)("100") == 100
    assert number(float, 0, 1, with_limits=False)("0.2") == 0.2


@pytest.mark.parametrize(
    ("text", "expected"), [(";", ";"), ("tab", "\t"), (r"\t", "\t"), ("space", " ")]
)
def test_characters(text, expected):
    assert character(text) == expected


@pytest.mark.parametrize(("text", "size"), [("64", 64), ("48,64", (48, 64))])
def test_image_sizes(text, size):
    assert image_size(text) == size


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        (detector_name, "gnomaly", "there is no detector 'gnomaly'"),
        (detector_names, "bigan,gnomaly", "there is no detector 'gnomaly'"),
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


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("epochs=5", ("epochs", 5)),
        (" epochs = 5 ", ("epochs", 5)),
        ("image_shape=(28, 28)", ("image_shape", (28, 28))),
        ("score=None", ("score", None)),
        ("score={'latent': 1.0}", ("score", {"latent": 1.0})),
        ("score='paper'", ("score", "paper")),
        ("score=paper", ("score", "paper")),
        ("scaling=a=b", ("scaling", "a=b")),
        ("learning_rate=-1e-3", ("learning_rate", -1e-3)),
        ("architecture=MLP()", ("architecture", MLP())),
        ("architecture=ConvNet(n_filters=4)", ("architecture", ConvNet(n_filters=4))),
    ],
)
def test_values_are_literals_architectures_or_words(text, expected):
    assert setting(text) == expected


@pytest.mark.parametrize(
    "text", ["architecture=open('x')", "architecture=MLP(dropout=open('x'))", "epochs=1+(2"]
)
def test_nothing_else_is_run(text):
    name, _, value = text.partition("=")
    assert setting(text) == (name, value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epochs", "expected NAME=VALUE"),
        ("=5", "expected NAME=VALUE"),
        ("a b=5", "expected NAME=VALUE"),
        ("architecture=MLP(depth=3)", "MLP.depth=3. is invalid: .*'depth'"),
        ("architecture=ConvNet(n_filters=-1)", "is invalid: n_filters"),
    ],
)
def test_settings_that_can_not_be_read(text, message):
    with pytest.raises(argparse.ArgumentTypeError, match=message):
        setting(text)


def test_options_and_settings_are_joined():
    assert chosen([("epochs", 2)], {"device": "cpu", "contamination": None}) == {
        "device": "cpu",
        "epochs": 2,
    }


def test_a_parameter_given_twice():
    with pytest.raises(UsageError, match="epochs is given twice: 2 and 3"):
        chosen([("epochs", 2), ("epochs", 3)], {})


def test_a_detector_with_its_parameters():
    detector = build_detector(GANomalyDetector, {"epochs": 7, "score": "paper"})
    assert detector.get_params() == GANomalyDetector(epochs=7, score="paper").get_params()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"epoch": 1}, "no parameter 'epoch'; did you mean 'epochs'"),
        ({"zzz": 1}, "no parameter 'zzz'; it has .*latent_dim"),
        ({"epochs": -1}, "epochs"),
        ({"scaling": "none at all"}, "scaling must be one of"),
        ({"architecture": "MLP(3"}, "architecture must be None or an architecture"),
    ],
)
def test_parameters_that_can_not_be_used(parameters, message):
    with pytest.raises(UsageError, match=message):
        build_detector(GANomalyDetector, parameters)
