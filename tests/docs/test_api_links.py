"""Which pieces of code in a page are names of the API."""

import re
from pathlib import Path

import pytest

pytest.importorskip("sphinx", reason="sphinx comes with the extra docs")

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def public_name(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    import api_links

    return api_links.public_name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("gandetect.load", "gandetect.load"),
        ("gandetect.load()", "gandetect.load"),
        ("GANomalyDetector", "gandetect.GANomalyDetector"),
        ('BiGANDetector(variant="alad")', "gandetect.BiGANDetector"),
        ("RocDisplay", "gandetect.plotting.RocDisplay"),
        ("roc_auc_scorer", "gandetect.metrics.roc_auc_scorer"),
        ("to_onnx", "gandetect.export.to_onnx"),
        ("gandetect fit", None),
        ("epochs=50", None),
        ("architecture=MLP(hidden_dims=(4,))", None),
        ("fit", None),
    ],
)
def test_names_and_other_code(public_name, text, name):
    assert public_name(text) == name


def test_every_public_module_is_in_the_index_of_the_api():
    folder = ROOT / "docs" / "api"
    text = "".join(path.read_text(encoding="utf-8") for path in folder.glob("*.rst"))
    init = (ROOT / "gandetect" / "__init__.py").read_text(encoding="utf-8")
    modules = re.findall(r'^    "(\w+)",$', init.partition("_SUBMODULES = (")[2], re.MULTILINE)
    assert {"losses", "networks", "training"} <= set(modules)
    missing = [name for name in modules if f"gandetect.{name}" not in text]
    assert missing == []
