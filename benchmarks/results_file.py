"""The CSV file of a benchmark, to which runs are appended; it can be continued."""

from __future__ import annotations

import csv
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import gandetect

# The last column of every file: the commit of the code with which a row was measured. Old rows have
# an empty value, and old files do not have the column.
COMMIT = "commit"


@cache
def commit() -> str:
    """Return the commit of the package, with "+" if files were changed; "" outside a checkout."""
    git, package = shutil.which("git"), Path(gandetect.__file__).parent
    if git is None:
        return ""

    def answer(*words: str) -> str | None:
        done = subprocess.run([git, *words], cwd=package, capture_output=True, text=True)
        return None if done.returncode else done.stdout.strip()

    # An installed package may be inside the checkout of another project.
    if not answer("ls-files", "--error-unmatch", "__init__.py"):
        return ""
    changed = answer("status", "--porcelain", "--", ".")
    return f"{answer('rev-parse', '--short=9', 'HEAD')}{'+' if changed else ''}"


def read_rows(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Read the complete rows of a CSV of results; a truncated line is ignored.

    Parameters
    ----------
    path : Path
    columns : sequence of str
        The last one is missing in a truncated line.

    Returns
    -------
    list of dict
        The rows, with these columns and "commit" as keys.

    Raises
    ------
    ValueError
        If the file has other columns.
    """
    with path.open(newline="") as file:
        reader = csv.DictReader(file, restval=None)
        if tuple(reader.fieldnames or ()) not in (tuple(columns), (*columns, COMMIT)):
            raise ValueError(f"{path} has other columns than this benchmark; choose a new file.")
        return [
            {**row, COMMIT: row.get(COMMIT) or ""} for row in reader if row[columns[-1]] is not None
        ]


class Results:
    """The CSV file to which results are appended.

    Parameters
    ----------
    path : Path
        Created with its header if it does not exist. In a file without the column "commit", the
        column is added to the header; existing rows are not changed.
    columns : sequence of str
        The last one is "error".
    key : sequence of str
        The columns that identify a run.
    """

    def __init__(self, path: Path, columns: Sequence[str], key: Sequence[str]) -> None:
        self.path, self.columns, self.key = path, tuple(columns), tuple(key)
        self.done: set[tuple[str, ...]] = set()
        if path.exists() and path.stat().st_size:
            rows = read_rows(path, columns)
            self.done = {self.key_of(row) for row in rows if not row["error"]}
            self._end_last_line()
            self._name_commit()
        else:
            self._append([*columns, COMMIT])

    def key_of(self, row: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the values that identify a run, as text."""
        return tuple(str(row[column]) for column in self.key)

    def add(self, row: Mapping[str, Any]) -> None:
        """Append a row, and flush it to the disk."""
        self._append([*(_as_text(row[column]) for column in self.columns), commit()])

    def _append(self, cells: Sequence[str]) -> None:
        with self.path.open("a", newline="") as file:
            csv.writer(file, lineterminator="\n").writerow(cells)

    def _end_last_line(self) -> None:
        # If a process was killed while writing, the next row must not be appended to the partial
        # line.
        if not self.path.read_bytes().endswith(b"\n"):
            with self.path.open("a") as file:
                file.write("\n")

    def _name_commit(self) -> None:
        head, _, rows = self.path.read_text().partition("\n")
        if head.rpartition(",")[2] != COMMIT:
            aside = self.path.with_name(f".{self.path.name}.part")
            aside.write_text(f"{head},{COMMIT}\n{rows}")
            aside.replace(self.path)


def _as_text(value: Any) -> str:
    return "" if value is None else str(value)
