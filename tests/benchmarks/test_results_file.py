"""A CSV that a broken-off benchmark goes on from."""

import pytest
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
    assert read_rows(path, COLUMNS)[1] == {"name": "b", "seed": "1", "auroc": "", "error": ""}
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
    path.write_text(path.read_text()[:-6])
    results = Results(path, COLUMNS, KEY)
    assert results.done == {("a", "0")}
    results.add(row("b", 0))
    assert [line["name"] for line in read_rows(path, COLUMNS)] == ["a", "b"]


def test_a_foreign_file_is_refused(tmp_path):
    path = tmp_path / "results.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="choose a new file"):
        Results(path, COLUMNS, KEY)
