"""How results are written: as a table, CSV or JSON, to a file or to standard output."""

from __future__ import annotations

import csv
import io
import json
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gandetect.archive import written_aside


def check_place(path: str | None) -> None:
    """Refuse a place where no file can be written before the work, not after it."""
    if path is None:
        return
    place = Path(path).expanduser().absolute()
    if not place.parent.is_dir():
        raise FileNotFoundError(f"cannot write {path}: there is no such folder")
    if place.is_dir():
        raise IsADirectoryError(f"cannot write {path}: it is a folder")


def write_columns(columns: Mapping[str, Any], options: Namespace) -> None:
    """Write a line a sample, a method or whatever the columns are of."""
    lists = {name: _plain(column) for name, column in columns.items()}
    rows = list(zip(*lists.values(), strict=True))
    kind = _format(options)
    if kind == "json":
        text = json.dumps([dict(zip(lists, row, strict=True)) for row in rows], indent=1) + "\n"
    elif kind == "csv":
        text = _csv([list(lists), *rows])
    else:
        text = _table(lists)
    _write(text, options)


def write_record(record: Mapping[str, Any], options: Namespace) -> None:
    """Write one thing that has several values: in a table and in CSV, a line a value."""
    names, values = list(record), _plain(list(record.values()))
    kind = _format(options)
    if kind == "json":
        text = json.dumps(dict(zip(names, values, strict=True)), indent=1) + "\n"
    elif kind == "csv":
        text = _csv([("name", "value"), *zip(names, values, strict=True)])
    else:
        width = max(map(len, names))
        shown = zip(names, values, strict=True)
        text = "".join(f"{name:{width}}  {_shown(value)}\n" for name, value in shown)
    _write(text, options)


def _format(options: Namespace) -> str:
    if options.format:
        return str(options.format)
    suffix = Path(options.out or "").suffix.lower()
    return {".csv": "csv", ".json": "json"}.get(suffix, "table")


def _write(text: str, options: Namespace) -> None:
    if options.out is None:
        print(text, end="")
        return
    with written_aside(Path(options.out).expanduser()) as file:
        file.write(text.encode())


def _plain(column: Sequence[Any]) -> list[Any]:
    """Python's own numbers and words instead of numpy's."""
    return [value.item() if isinstance(value, np.generic) else value for value in column]


def _csv(rows: Sequence[Sequence[Any]]) -> str:
    with io.StringIO(newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
        return file.getvalue()


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
