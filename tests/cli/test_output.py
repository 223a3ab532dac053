import json
from argparse import Namespace

import numpy as np
import pytest

from gandetect.cli.output import check_place, write_columns, write_record

COLUMNS = {"name": ["a", "long"], "n": np.array([1, 20]), "share": np.array([0.5, 0.123456])}


def options(format=None, out=None):
    return Namespace(format=format, out=out)


def test_a_table(capsys):
    write_columns(COLUMNS, options())
    assert capsys.readouterr().out == (
        "name   n   share\n"
        "a      1     0.5\n"
        "long  20  0.1235\n"
    )  # fmt: skip


def test_csv_has_all_digits(capsys):
    write_columns(COLUMNS, options("csv"))
    assert capsys.readouterr().out == "name,n,share\na,1,0.5\nlong,20,0.123456\n"


def test_json_is_a_list_of_objects(capsys):
    write_columns(COLUMNS, options("json"))
    first, second = json.loads(capsys.readouterr().out)
    assert first == {"name": "a", "n": 1, "share": 0.5}
    assert second["share"] == 0.123456


def test_a_record(capsys):
    record = {"roc_auc": np.float64(0.98765), "n": 3, "more": None}
    write_record(record, options())
    assert capsys.readouterr().out == "roc_auc  0.9877\nn        3\nmore     -\n"
    write_record(record, options("csv"))
    assert capsys.readouterr().out == "name,value\nroc_auc,0.98765\nn,3\nmore,\n"
    write_record(record, options("json"))
    assert json.loads(capsys.readouterr().out) == {"roc_auc": 0.98765, "n": 3, "more": None}


@pytest.mark.parametrize(
    ("name", "format", "start"),
    [
        ("x.csv", None, "name,n,"),
        ("x.json", None, "[\n {"),
        ("x.txt", None, "name   n"),
        ("x.json", "csv", "name,n,"),
    ],
)
def test_files_by_their_ending(name, format, start, tmp_path, capsys):
    path = tmp_path / name
    path.write_text("what was there before")
    write_columns(COLUMNS, options(format, str(path)))
    assert path.read_text().startswith(start)
    assert capsys.readouterr().out == ""
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_a_place_where_no_file_can_be(tmp_path):
    check_place(None)
    check_place(str(tmp_path / "x"))
    with pytest.raises(FileNotFoundError, match="no such folder"):
        check_place(str(tmp_path / "x" / "y"))
    with pytest.raises(IsADirectoryError, match="it is a folder"):
        check_place(str(tmp_path))
