"""Parameters: good ones pass, each is that of its optimizer, and the documentation knows all."""

import ast
import inspect
import re

import numpy as np
import pytest

from gandetect import MLP, ALOCCDetector, BiGANDetector, GANomalyDetector
from gandetect.model.parameters import SHARED_PARAMETERS
from tests.helpers import one_detector

GOOD = [
    *[("latent_dim", value) for value in (1, "auto", np.int64(3))],
    *[("n_estimators", value) for value in (1, "auto", 8)],
    *[("epochs", value) for value in (1, "auto", 10**6)],
    *[("batch_size", value) for value in (1, 10**9, np.int32(8))],
    *[("learning_rate", value) for value in (1e-9, 1, np.float32(0.1))],
    *[("contamination", value) for value in (1e-9, 0.5, np.float64(0.1))],
    *[("validation_fraction", value) for value in (0, 0.0, 0.999)],
    *[("scaling", value) for value in ("auto", "unskewed", "robust", "unit", "symmetric", "none")],
    *[("channel_axis", value) for value in (-1, 0, None)],
    *[("image_shape", value) for value in (None, (1, 1), (8, 9, 3), [8, 9])],
    *[("verbose", value) for value in (0, 1, 2, True, False)],
    *[("score", value) for value in (None, "paper")],
    *[("architecture", value) for value in (None, MLP(hidden_dims=(3,)))],
]


@pytest.mark.parametrize(("name", "value"), GOOD, ids=[f"{n}={v!r}" for n, v in GOOD])
@one_detector
def test_good_values_pass(Detector, name, value):
    Detector(**{name: value}).check_parameters()


def test_every_part_and_any_weights_of_parts_pass(Detector):
    for part in Detector.part_weights:
        Detector(score=part).check_parameters()
        Detector(score={part: 0.5}).check_parameters()
    Detector(score=dict.fromkeys(Detector.part_weights, 1)).check_parameters()


def test_the_parts_are_named_when_one_is_unknown(Detector):
    with pytest.raises(ValueError) as caught:
        Detector(score="nothing").check_parameters()
    for part in Detector.part_weights:
        assert part in str(caught.value)


def test_nested_parameters():
    class Nested:
        def get_params(self):
            return {"width": 3}

    detector = GANomalyDetector(architecture=Nested())
    assert detector.get_params()["architecture__width"] == 3
    assert "architecture__width" not in detector.get_params(deep=False)


def test_score_is_a_parameter_and_no_method():
    detector = GANomalyDetector(score="paper")
    assert (detector.get_params()["score"], detector.chosen_score) == ("paper", "paper")
    assert not hasattr(detector, "score")


@pytest.mark.parametrize("Adversarial", [ALOCCDetector, BiGANDetector, GANomalyDetector])
class TestBeta1:
    X = np.random.default_rng(0).normal(size=(16, 3))

    def test_is_that_of_every_optimizer(self, Adversarial):
        detector = Adversarial(beta_1=0.25, epochs=1, n_estimators=1, random_state=0).fit(self.X)
        optimizers = detector.model_.optimizers()
        groups = [group for one in optimizers.values() for group in one.param_groups]
        assert {group["betas"] for group in groups} == {(0.25, 0.999)}

    @pytest.mark.parametrize("beta_1", [-0.1, 1.0])
    def test_out_of_range(self, Adversarial, beta_1):
        with pytest.raises(ValueError, match="beta_1"):
            Adversarial(beta_1=beta_1).fit(self.X)


def documented(docstring):
    """The names and types of a numpydoc section of parameters, by name."""
    section = re.search(
        r"Parameters\n-+\n(.*?)(?=\n\S[^\n]*\n-{3,}|\Z)", inspect.cleandoc(docstring), re.DOTALL
    )
    assert section, "the docstring has no section Parameters"
    entries = re.findall(r"^(\w[\w, ]*) : (.+)$", section[1], re.MULTILINE)
    return {name: kind for names, kind in entries for name in names.split(", ")}


class TestDocumentation:
    def test_every_parameter_is_documented(self, Detector):
        assert sorted(documented(Detector.__doc__)) == sorted(Detector().get_params())
        assert "{shared_parameters}" not in Detector.__doc__

    def test_defaults_are_true(self, Detector):
        for name, kind in documented(Detector.__doc__).items():
            stated = re.search(r"default=(.+)$", kind)
            assert stated, f"{name} states no default"
            assert ast.literal_eval(stated[1]) == Detector().get_params()[name], name

    @one_detector
    def test_every_description_is_a_sentence(self, Detector):
        for block in re.split(r"\n {4}(?=\w+ : )", "    " + SHARED_PARAMETERS):
            _, description = block.split("\n", 1)
            assert description.strip()[0].isupper() or description.strip()[0] in '("{0123456789'
            assert description.strip().endswith(".")

    def test_the_docstring_has_an_example_and_references(self, Detector):
        assert ">>> " in Detector.__doc__
        for title in ("Examples", "Notes", "References"):
            assert re.search(rf"^{title}\n-+$", Detector.__doc__, re.MULTILINE), title
