"""The extension that writes the benchmarks' tables into the documentation."""

from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def extension(monkeypatch):
    for folder in ("docs", "benchmarks"):
        monkeypatch.syspath_prepend(str(ROOT / folder))
    import benchmark_tables

    return benchmark_tables


def test_the_recorded_runs(extension, tmp_path):
    extension.write_tables(SimpleNamespace(srcdir=tmp_path))
    text = (tmp_path / "generated" / "benchmarks.md").read_text(encoding="utf-8")
    for name in (*extension.halves("adbench")[1], "iforest", "GANomaly"):
        assert f"\n| {name} |" in text
    headings = [line.lstrip("# ") for line in text.split("\n") if line.startswith("###")]
    recorded = [path.stem for path in (ROOT / "benchmarks" / "results").glob("*.csv")]
    shown = {title for name, (title, _) in extension.TITLES.items() if name in recorded}
    assert shown <= set(headings) and headings[0] == "Tables"
    assert extension.OTHERS not in headings


def test_every_table_fits_the_page(extension, tmp_path):
    """No cell is wide and few stand in a row: the page does not scroll, nor need the table."""
    extension.write_tables(SimpleNamespace(srcdir=tmp_path))
    text = (tmp_path / "generated" / "benchmarks.md").read_text(encoding="utf-8")
    assert max(line.count(" | ") + 1 for line in text.split("\n") if line.startswith("|")) <= 11


def test_runs_are_averaged_as_their_benchmark_does(extension, tmp_path):
    extension.write_tables(SimpleNamespace(srcdir=tmp_path))
    text = (tmp_path / "generated" / "benchmarks.md").read_text(encoding="utf-8")
    assert "| EGBAD, published |" in text and "| published D(R(X)) |" in text
    assert "planted cell first" in text


def test_a_guide_has_its_own_table(extension, tmp_path):
    extension.write_tables(SimpleNamespace(srcdir=tmp_path))
    text = (tmp_path / "generated" / "robustness.md").read_text(encoding="utf-8")
    assert "| AdversarialVAE |" in text and "| 5-NN |" in text
    assert text in (tmp_path / "generated" / "benchmarks.md").read_text(encoding="utf-8")


def test_other_files_stand_as_they_are(extension, tmp_path):
    (tmp_path / "an_idea.csv").write_text("name,value\na,1\nb,2\n", encoding="utf-8")
    assert extension.benchmark_tables(tmp_path) == (
        "### Others\n\n#### an idea\n\n\n\n| name | value |\n| --- | --- |\n| a | 1 |\n| b | 2 |\n"
    )


def test_the_commit_of_a_row_is_not_shown(extension, tmp_path):
    text = "name,value,error,commit\na,1,\nb,2,,0123abcde\n"
    (tmp_path / "runs.csv").write_text(text, encoding="utf-8")
    shown = extension.benchmark_tables(tmp_path).split("\n")[6:9]
    assert shown == ["| name | value | error |", "| --- | --- | --- |", "| a | 1 | |"]


def test_parameters_stand_as_a_person_writes_them(extension):
    table = 'detector | {} | 0.9 |\n| x | {"alpha": 0.5, "kind": "a"} | {} |'
    shown = extension.without_empty_braces(table)
    assert shown == "detector | defaults | 0.9 |\n| x | `alpha=0.5, kind='a'` | {} |"


def test_it_runs_before_the_pages_are_read(extension):
    connected = {}
    extension.setup(SimpleNamespace(connect=connected.__setitem__))
    assert connected == {"builder-inited": extension.write_tables}


def test_published_figures_stand_in_the_pages_as_they_are_recorded(extension):
    """If not, python docs/benchmark_tables.py writes them."""
    for page, method in extension.PUBLISHED_PAGES.items():
        text = page.read_text(encoding="utf-8")
        assert extension.with_published_figures(text, method) == text, page.name
    with pytest.raises(ValueError, match="0 tables"):
        extension.with_published_figures("# A page\n", None)
