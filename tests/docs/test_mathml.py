"""Formulas of the documentation, as a browser gets them."""

from pathlib import Path
from types import SimpleNamespace

import pytest

nodes = pytest.importorskip("docutils.nodes", reason="docutils comes with the extra docs")
errors = pytest.importorskip("sphinx.errors", reason="sphinx comes with the extra docs")

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def extension(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    import mathml

    return mathml


def written(visit, formula):
    """What the HTML has after a formula was visited."""
    translator = SimpleNamespace(body=[])
    with pytest.raises(nodes.SkipNode):  # or its text would follow
        visit(translator, nodes.math("", formula))
    return "".join(translator.body)


def test_a_formula_within_a_line(extension):
    html = written(extension.visit_math, r"\hat x")
    assert html.startswith("<math ") and html.endswith("</math>")
    assert "<mover" in html and "display" not in html


def test_a_formula_of_its_own_can_scroll(extension):
    html = written(extension.visit_math_block, r"\lVert z \rVert")
    assert html.startswith('<div class="formula"><math ') and html.endswith("</math></div>\n")
    assert 'display="block"' in html


def test_sizes_of_brackets_are_left_to_the_browser(extension):
    with_sizes = written(extension.visit_math, r"\mathrm{KL}\big(a \,\|\, b\Bigr)")
    assert with_sizes == written(extension.visit_math, r"\mathrm{KL}(a \,\|\, b)")


def test_what_cannot_be_drawn_stops_the_build(extension):
    translator = SimpleNamespace(body=[])
    with pytest.raises(errors.ExtensionError, match="nosuchcommand"):
        extension.visit_math(translator, nodes.math("", r"\nosuchcommand"))
