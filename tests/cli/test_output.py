import csv
import io
import json
import os
import sys
from argparse import Namespace

import numpy as np
import pytest

from gandetect.cli.options import UsageError
from gandetect.cli.output import check_format, check_place, write_columns, write_record

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


def test_parquet(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    write_columns(COLUMNS, options(out=str(tmp_path / "x.parquet")))
    found = parquet.read_table(tmp_path / "x.parquet").to_pydict()
    assert found == {"name": ["a", "long"], "n": [1, 20], "share": [0.5, 0.123456]}
    record = {"n": 3, "share": np.float64(0.5), "name": "a", "more": None}
    write_record(record, options(out=str(tmp_path / "y.PARQUET")))
    assert parquet.read_table(tmp_path / "y.PARQUET").to_pylist() == [record]


def test_parquet_without_its_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"gandetect\[arrow\]"):
        check_format(options(out=str(tmp_path / "x.parquet")))


@pytest.mark.parametrize("write", [write_columns, write_record])
@pytest.mark.parametrize(
    ("name", "format", "message"),
    [
        ("x.xlsx", None, r"not one of .csv, .json, .parquet, .txt, or none"),
        ("folder.v1", None, r"not one of .csv"),
        ("x.parquet", "csv", "--format csv is not that of --out"),
    ],
)
def test_kinds_of_files_that_are_not_written(name, format, message, write, tmp_path):
    with pytest.raises(UsageError, match=message):
        check_format(options(format, str(tmp_path / name)))
    with pytest.raises(UsageError, match=message):
        write(COLUMNS, options(format, str(tmp_path / name)))
    assert not list(tmp_path.iterdir())


def test_no_cell_of_csv_is_a_formula(capsys):
    starts = ("=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "＝1", "a=1", "1-1", "")
    columns = {"=name": list(starts), "n": [-1.5, -2, *range(6), None]}
    write_columns(columns, options("csv"))
    rows = list(csv.reader(io.StringIO(capsys.readouterr().out, newline="")))
    cells = ["'=1+1", "'+1", "'-1", "'@SUM(A1)", "'\t=1", "'＝1", "a=1", "1-1", ""]
    assert [row[0] for row in rows] == ["'=name", *cells]
    assert [row[1] for row in rows[1:3]] == ["-1.5", "-2"]  # numbers stay numbers
    write_record({"-a": "=b"}, options("csv"))
    assert capsys.readouterr().out == "name,value\n'-a,'=b\n"


@pytest.mark.parametrize("format", ["csv", "json", "table"])
def test_names_of_files_that_are_no_text(format, tmp_path, capsys):
    name = os.fsdecode(b"caf\xe9.png")
    for out in (None, str(tmp_path / "x")):
        write_columns({"sample": [name, "naïve"]}, options(format, out))
    for text in (capsys.readouterr().out, (tmp_path / "x").read_text()):
        assert "caf" in text
        assert "naïve" in (text if format != "json" else json.loads(text)[1]["sample"])


def test_a_place_where_no_file_can_be(tmp_path):
    check_place(None)
    check_place(str(tmp_path / "x"))
    with pytest.raises(FileNotFoundError, match="no such folder"):
        check_place(str(tmp_path / "x" / "y"))
    with pytest.raises(IsADirectoryError, match="it is a folder"):
        check_place(str(tmp_path))
