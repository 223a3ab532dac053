import argparse

import pytest

from gandetect import MLP, ConvNet, GANomalyDetector
from gandetect.cli.options import UsageError
from gandetect.cli.parameters import build_detector, chosen, setting


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
        ("architecture=MLP(depth=3)", "MLP.depth=3. cannot be made: .*'depth'"),
        ("architecture=ConvNet(n_filters=-1)", "cannot be made: n_filters"),
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
