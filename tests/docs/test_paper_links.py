"""Papers, issues and repositories that the documentation names are links."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def extension(monkeypatch):
    pytest.importorskip("docutils")
    pytest.importorskip("sphinx")
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    import paper_links

    return paper_links


def links_in(extension, text):
    return [
        (node.astext(), node["refuri"])
        for node in extension.linked(text)
        if type(node).__name__ == "reference"
    ]


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("arXiv:1805.06725", "https://arxiv.org/abs/1805.06725"),
        ("samet-akcay/ganomaly#9", "https://github.com/samet-akcay/ganomaly/issues/9"),
        ("VitjanZ/DRAEM", "https://github.com/VitjanZ/DRAEM"),
    ],
)
def test_what_is_named_is_a_link_and_the_rest_stays(extension, name, address):
    text = f"See ({name}), and more."
    assert links_in(extension, text) == [(name, address)]
    assert "".join(node.astext() for node in extension.linked(text)) == text
    assert links_in(extension, name) == [(name, address)]


@pytest.mark.parametrize("text", ["and/or", "rows/columns", "issue #9", "arXiv", "16/32 bits"])
def test_what_only_looks_alike_is_no_link(extension, text):
    assert links_in(extension, text) == []


def test_the_repositories_of_the_readme_are_all_known(extension):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [name for name in extension.REPOSITORIES if f"github.com/{name}" not in text] == []
