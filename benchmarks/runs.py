"""Common code of the benchmarks: runs, each recorded once in a CSV, and tables.

A run is a dataclass with the columns of its CSV. Runs that the file already contains are skipped,
and a run that ended in an error is repeated, as in `quality.py`.
"""

from __future__ import annotations

import argparse
import sys
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import ClassVar, TypeVar

import numpy as np
import sklearn
import torch
from options import words
from protocols import ADBENCH_SETS, select
from results_file import Results, read_rows
from threadpoolctl import threadpool_limits

import gandetect


@dataclass(kw_only=True)
class Run:
    """One run; a benchmark adds its own columns, and `KEY` names those that identify a run."""

    KEY: ClassVar[tuple[str, ...]] = ("name", "detector", "seed")

    name: str  # the data set
    detector: str
    seed: int
    gandetect: str = gandetect.__version__
    torch: str = torch.__version__
    sklearn: str = sklearn.__version__
    error: str = ""

    @classmethod
    def columns(cls) -> tuple[str, ...]:
        """Return the header of the CSV."""
        return tuple(field.name for field in fields(cls))


R = TypeVar("R", bound=Run)


def parser_of(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with the options of all these benchmarks."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--seeds", type=integers, default=[0, 1, 2], help="each fixes the data and the detector")
    add("--out", type=Path, required=True, help="the CSV to append to")
    add("--threads", type=int, default=1, help="CPU threads of one run")
    return parser


def add_detectors(parser: argparse.ArgumentParser, default: Sequence[str] = ("GANomaly",)) -> None:
    """Add the option for the detectors to run."""
    parser.add_argument(
        "--detectors", type=words, default=list(default), help="names, comma-separated"
    )


def add_sets(parser: argparse.ArgumentParser) -> None:
    """Add the further options of a benchmark on the public sets."""
    parser.add_argument("--data", type=Path, required=True, help="folder with adbench/*.npz")
    parser.add_argument(
        "--sets",
        type=lambda text: select("adbench", text),
        default=ADBENCH_SETS,
        help="all, tune, report or names",
    )


def run_all(
    planned: Sequence[R], args: argparse.Namespace, measure: Callable[[R], Iterable[R]]
) -> bool:
    """Measure the runs that the CSV does not contain; return whether there was no error.

    ``measure(run)`` yields the completed run, and other runs that were measured with it, such as
    other scores of the same fitted detector. These are not measured again.
    """
    kind = type(planned[0])
    try:
        results = Results(args.out, kind.columns(), kind.KEY)
    except ValueError as error:
        sys.exit(str(error))
    torch.set_num_threads(args.threads)
    all_went_well = True
    with threadpool_limits(args.threads):
        for run in planned:
            if _key(run) in results.done:
                continue
            try:
                done = list(measure(run))
            except Exception as error:  # one failed run must not end a long benchmark
                traceback.print_exc()
                run.error = f"{type(error).__name__}: {error}"
                done, all_went_well = [run], False
            for row in done:
                if _key(row) not in results.done:
                    results.add(asdict(row))
                if not row.error:
                    results.done.add(_key(row))
            print(*_key(run), run.error or "done", flush=True)
    return all_went_well


def _key(run: Run) -> tuple[str, ...]:
    return tuple(str(getattr(run, column)) for column in run.KEY)


def rows_of(path: Path, kind: type[Run]) -> list[dict[str, str]]:
    """Read the runs without errors."""
    return [row for row in read_rows(path, kind.columns()) if not row["error"]]


def grouped(
    rows: Iterable[dict[str, str]], columns: Sequence[str]
) -> dict[tuple[str, ...], list[dict[str, str]]]:
    """Group rows by their values in these columns, in the order of the file."""
    groups: dict[tuple[str, ...], list[dict[str, str]]] = defaultdict(list)
    for row in rows:
        groups[tuple(row[column] for column in columns)].append(row)
    return groups


def mean_of(rows: Iterable[dict[str, str]], column: str) -> float:
    """Return the mean over the sets of the mean over the seeds; ignore rows without a value."""
    by_set = grouped([row for row in rows if row[column]], ["name"])
    return float(np.mean([np.mean([float(r[column]) for r in group]) for group in by_set.values()]))


def integers(text: str) -> list[int]:
    """Read integers separated by commas, or a range such as 0-49."""
    first, dash, last = text.partition("-")
    return list(range(int(first), int(last) + 1)) if dash else [int(i) for i in text.split(",")]
