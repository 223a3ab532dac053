"""How results are written: as a table, CSV, JSON or Parquet, to a file or to standard output."""

from __future__ import annotations

import csv
import io
import json
import os
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gandetect.archive import check_writable, written_aside
from gandetect.cli.options import UsageError

_FORMATS = {".csv": "csv", ".json": "json", ".parquet": "parquet", ".txt": "table", "": "table"}


# A spreadsheet takes a cell that begins so for a formula, and runs it.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def check_place(path: str | None) -> None:
    """Refuse a place where no file can be written before the work, not after it."""
    if path is not None:
        check_writable(os.path.expanduser(path))  # a slash at the end stays


def check_format(options: Namespace) -> None:
    """Refuse a table of a kind that cannot be written before the work, not after it."""
    if _format(options) == "parquet":
        _pyarrow()


def write_columns(columns: Mapping[str, Any], options: Namespace) -> None:
    """Write a line a sample, a method or whatever the columns are of."""
    lists = {name: _plain(column) for name, column in columns.items()}
    rows = list(zip(*lists.values(), strict=True))
    kind = _format(options)
    if kind == "parquet":
        return _write(_parquet(lists), options)
    if kind == "json":
        text = json.dumps([dict(zip(lists, row, strict=True)) for row in rows], indent=1) + "\n"
    elif kind == "csv":
        text = _csv([list(lists), *rows])
    else:
        text = _table(lists)
    _write(text.encode(), options)


def write_record(record: Mapping[str, Any], options: Namespace) -> None:
    """Write one thing that has several values: in a table and in CSV, a line a value."""
    names, values = list(record), _plain(list(record.values()))
    kind = _format(options)
    if kind == "parquet":  # whose columns have one type each
        return _write(_parquet({name: [value] for name, value in record.items()}), options)
    if kind == "json":
        text = json.dumps(dict(zip(names, values, strict=True)), indent=1) + "\n"
    elif kind == "csv":
        text = _csv([("name", "value"), *zip(names, values, strict=True)])
    else:
        width = max(map(len, names))
        shown = zip(names, values, strict=True)
        text = "".join(f"{name:{width}}  {_shown(value)}\n" for name, value in shown)
    _write(text.encode(), options)


def _format(options: Namespace) -> str:
    suffix = Path(options.out or "").suffix.lower()
    if suffix == ".parquet" and options.format:
        raise UsageError(f"--format {options.format} is not that of --out {options.out}")
    if options.format:
        return str(options.format)
    if suffix not in _FORMATS:
        known = ", ".join(filter(None, _FORMATS))
        raise UsageError(
            f"the ending of --out {options.out} is not one of {known}, or none: --format says "
            "how to write a file of another"
        )
    return _FORMATS[suffix]


def _write(content: bytes, options: Namespace) -> None:
    if options.out is None:
        print(content.decode(), end="")
        return
    with written_aside(os.path.expanduser(options.out)) as file:
        file.write(content)


def _plain(column: Sequence[Any]) -> list[Any]:
    """Python's own numbers and words instead of numpy's, and words that can be written."""
    values = (value.item() if isinstance(value, np.generic) else value for value in column)
    return [
        # The name of a file may hold bytes that are no text.
        value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value
        for value in values
    ]


def _csv(rows: Sequence[Sequence[Any]]) -> str:
    with io.StringIO(newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(map(_harmless, row) for row in rows)
        return file.getvalue()


def _harmless(cell: Any) -> Any:
    """A cell that no spreadsheet runs."""
    is_formula = isinstance(cell, str) and cell.startswith(_FORMULA_STARTS)
    return f"'{cell}" if is_formula else cell


def _parquet(lists: Mapping[str, list[Any]]) -> bytes:
    pyarrow = _pyarrow()
    content = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(dict(lists)), content)
    return content.getvalue()


def _pyarrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError(
            'writing .parquet needs pyarrow: pip install "gandetect[arrow]"'
        ) from error
    return pyarrow


def _table(lists: Mapping[str, list[Any]]) -> str:
    """Columns side by side, words on the left of theirs and numbers on the right."""
    cells = []
    for name, column in lists.items():
        texts = [name, *map(_shown, column)]
        width = max(map(len, texts))
        is_words = any(isinstance(value, str) for value in column)
        cells.append([text.ljust(width) if is_words else text.rjust(width) for text in texts])
    return "".join("  ".join(line).rstrip() + "\n" for line in zip(*cells, strict=True))


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
