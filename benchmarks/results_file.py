"""A CSV that a benchmark appends to, and goes on from after it was broken off."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def read_rows(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Read the whole rows of a CSV of results; a line that was cut short does not count.

    Parameters
    ----------
    path : Path
    columns : sequence of str
        The last one is what a line that was cut short lacks.
    """
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != tuple(columns):
            raise ValueError(f"{path} has other columns than this benchmark; choose a new file.")
        return [row for row in reader if row[columns[-1]] is not None]


class Results:
    """The CSV that results are appended to.

    Parameters
    ----------
    path : Path
        Created with its header if it does not exist.
    columns : sequence of str
        The last one is "error".
    key : sequence of str
        The columns that tell a run from every other.
    """

    def __init__(self, path: Path, columns: Sequence[str], key: Sequence[str]) -> None:
        self.path, self.columns, self.key = path, tuple(columns), tuple(key)
        self.done: set[tuple[str, ...]] = set()
        if path.exists() and path.stat().st_size:
            rows = read_rows(path, columns)
            self.done = {self.key_of(row) for row in rows if not row["error"]}
            self._end_last_line()
        else:
            self._append(columns)

    def key_of(self, row: Mapping[str, Any]) -> tuple[str, ...]:
        """What tells this run from every other, as text."""
        return tuple(str(row[column]) for column in self.key)

    def add(self, row: Mapping[str, Any]) -> None:
        """Append a row, and have it on disk before the next run starts."""
        self._append([_as_text(row[column]) for column in self.columns])

    def _append(self, cells: Sequence[str]) -> None:
        with self.path.open("a", newline="") as file:
            csv.writer(file, lineterminator="\n").writerow(cells)

    def _end_last_line(self) -> None:
        # After a run that was killed while writing, the next row must not join its half line.
        if not self.path.read_bytes().endswith(b"\n"):
            with self.path.open("a") as file:
                file.write("\n")


def _as_text(value: Any) -> str:
    return "" if value is None else str(value)
