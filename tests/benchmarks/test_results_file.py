"""A CSV that a broken-off benchmark goes on from."""

import re
import shutil
from pathlib import Path

import pytest
import results_file
from results_file import Results, read_rows

COLUMNS = ("name", "seed", "auroc", "error")
KEY = ("name", "seed")


def row(name, seed, auroc=0.5, error=""):
    return {"name": name, "seed": seed, "auroc": auroc, "error": error}


def test_what_was_added_is_done(tmp_path):
    path = tmp_path / "results.csv"
    results = Results(path, COLUMNS, KEY)
    results.add(row("a", 0))
    results.add(row("b", 1, None))
    cells = {"name": "b", "seed": "1", "auroc": "", "error": "", "commit": results_file.commit()}
    assert read_rows(path, COLUMNS)[1] == cells
    again = Results(path, COLUMNS, KEY)
    assert again.done == {("a", "0"), ("b", "1")}
    assert again.key_of(row("a", 0)) in again.done


def test_an_error_is_tried_again(tmp_path):
    path = tmp_path / "results.csv"
    Results(path, COLUMNS, KEY).add(row("a", 0, error="ValueError: no"))
    assert not Results(path, COLUMNS, KEY).done


def test_a_line_that_was_cut_short_does_not_count(tmp_path):
    path = tmp_path / "results.csv"
    results = Results(path, COLUMNS, KEY)
    results.add(row("a", 0))
    results.add(row("b", 0))
    path.write_text(path.read_text().rpartition(",0.5")[0])
    results = Results(path, COLUMNS, KEY)
    assert results.done == {("a", "0")}
    results.add(row("b", 0))
    assert [line["name"] for line in read_rows(path, COLUMNS)] == ["a", "b"]


def test_a_foreign_file_is_refused(tmp_path):
    path = tmp_path / "results.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="choose a new file"):
        Results(path, COLUMNS, KEY)


def test_the_commit_is_that_of_the_package():
    if shutil.which("git") is None or not (Path(__file__).parents[2] / ".git").exists():
        assert results_file.commit() == ""
    else:
        assert re.fullmatch(r"[0-9a-f]{9,}\+?", results_file.commit())


def test_a_package_outside_a_checkout_has_no_commit(monkeypatch, tmp_path):
    monkeypatch.setattr(results_file.gandetect, "__file__", str(tmp_path / "__init__.py"))
    assert results_file.commit.__wrapped__() == ""


def test_older_rows_stay_as_they_are(monkeypatch, tmp_path):
    path = tmp_path / "results.csv"
    path.write_text("name,seed,auroc,error\na,0,0.5,\n")
    assert [line["commit"] for line in read_rows(path, COLUMNS)] == [""]
    monkeypatch.setattr(results_file, "commit", lambda: "abc")
    results = Results(path, COLUMNS, KEY)
    assert results.done == {("a", "0")}
    results.add(row("b", 0))
    Results(path, COLUMNS, KEY)
    assert path.read_text() == "name,seed,auroc,error,commit\na,0,0.5,\nb,0,0.5,,abc\n"
    assert [line["commit"] for line in read_rows(path, COLUMNS)] == ["", "abc"]
