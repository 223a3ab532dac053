"""Print the tables of the quality benchmark, in Markdown, from CSVs that `quality.py` wrote.

    python benchmarks/report.py results/*.csv --seeds 0,1,2 --reference iforest --per-set

A mean is printed only if all its runs exist: every set (or digit) of that half with every seed.
Otherwise the cell states how many of the runs exist.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from markdown_tables import markdown
from protocols import PROTOCOLS, halves
from quality import read_rows

# From (name of the set or digit, seed) to the row of that run.
Runs = dict[tuple[str, int], dict[str, str]]


def read_results(paths: Iterable[Path]) -> dict[str, dict[str, Runs]]:
    """Read the runs by protocol and detector; the last one if a run is repeated."""
    results: dict[str, dict[str, Runs]] = {protocol: defaultdict(dict) for protocol in PROTOCOLS}
    for path in paths:
        for row in read_rows(path):
            results[row["protocol"]][title(row)][row["name"], int(row["seed"])] = row
    return results


def title(row: dict[str, str]) -> str:
    """Return the label of a detector, with its parameters if any were set."""
    params = ", ".join(f"{name}={value!r}" for name, value in json.loads(row["params"]).items())
    return " ".join(filter(None, (row["detector"], row["label"], params and f"({params})")))


class Column:
    """One measured figure of one detector on given sets, as an array of sets by seeds.

    Parameters
    ----------
    runs : dict
        The detector's runs.
    column : str
        The column of the CSV.
    names : sequence of str
        The sets or digits.
    seeds : sequence of int
        The seeds.
    """

    def __init__(self, runs: Runs, column: str, names: Sequence[str], seeds: Sequence[int]) -> None:
        good = {key: run for key, run in runs.items() if not run["error"]}
        self.values = np.array(
            [
                [float(good.get((name, seed), {}).get(column) or "nan") for seed in seeds]
                for name in names
            ]
        )

    @property
    def n_measured(self) -> int:
        """The number of runs with a figure."""
        return int(np.isfinite(self.values).sum())

    @property
    def is_complete(self) -> bool:
        """Whether there is a figure for every set and every seed."""
        return self.n_measured == self.values.size

    @property
    def mean(self) -> float:
        """The mean, or nan if a run is missing."""
        return float(self.values.mean())

    @property
    def spread(self) -> float:
        """The standard deviation over the seeds of the mean over the sets."""
        means = self.values.mean(axis=0)
        return float(means.std(ddof=1)) if len(means) > 1 else math.nan

    def __str__(self) -> str:
        """Return mean and standard deviation, or the number of existing runs."""
        if not self.n_measured:
            return "-"
        if not self.is_complete:
            return f"incomplete {self.n_measured}/{self.values.size}"
        spread = "" if math.isnan(self.spread) else f" ± {self.spread:.3f}"
        return f"{self.mean:.3f}{spread}"


def summary(
    protocol: str, detectors: dict[str, Runs], seeds: Sequence[int], reference: str
) -> list[str]:
    """Return the table of one protocol: a line for each detector, the best first."""
    tuning, report = halves(protocol)
    parts = {"all": tuning + report, "tuning": tuning, "report": report}
    columns = {
        f"{part} {head}": (column, names)
        for part, names in parts.items()
        for head, column in (("AUROC", "auroc"), ("AP", "average_precision"))
    }
    columns["paper's score, AUROC"] = ("auroc_paper", parts["all"])
    columns["false alarms"] = ("false_alarm_rate", parts["all"])
    table = {
        name: {head: Column(runs, *which, seeds) for head, which in columns.items()}
        for name, runs in detectors.items()
    }
    heads = [head for head in columns if any(line[head].n_measured for line in table.values())]
    # Times are comparable on the same sets only: on all sets, or on one half if only this was run.
    whole = [part for part in parts if table[reference][f"{part} AUROC"].is_complete]
    part = whole[0] if whole else "all"
    times = {name: Times(runs, parts[part], seeds) for name, runs in detectors.items()}
    lines = []
    for name in sorted(table, key=lambda name: _rank(table[name][f"{part} AUROC"])):
        numbers = [str(table[name][head]) for head in heads]
        n_errors = sum(bool(run["error"]) for run in detectors[name].values())
        lines.append([name, *numbers, *times[name].cells(times[reference]), n_errors])
    note = f"Mean seconds of a run on {part} sets; time 1 = {reference}."
    made = markdown(["detector", *heads, "fit s", "score s", "time", "errors"], lines)
    return [made, "", f"{note} {versions(detectors.values())}"]


class Times:
    """Mean seconds of the runs of a detector, nan if a run is missing.

    Parameters
    ----------
    runs : dict
        The detector's runs.
    names : sequence of str
        The sets or digits.
    seeds : sequence of int
        The seeds.
    """

    def __init__(self, runs: Runs, names: Sequence[str], seeds: Sequence[int]) -> None:
        self.fit = Column(runs, "fit_seconds", names, seeds).mean
        self.score = Column(runs, "score_seconds", names, seeds).mean

    def cells(self, reference: Times) -> list[str]:
        """Return the seconds of fit and score, and their sum relative to that of the reference."""
        ratio = (self.fit + self.score) / (reference.fit + reference.score)
        return [_plain(self.fit, 3), _plain(self.score, 3), _plain(ratio, 1)]


def per_set(protocol: str, detectors: dict[str, Runs], seeds: Sequence[int]) -> list[str]:
    """Return the table of AUROC on each set: mean and standard deviation over the seeds."""
    tuning, report = halves(protocol)
    lines = []
    for name in sorted(tuning + report):
        cells = [str(Column(runs, "auroc", [name], seeds)) for runs in detectors.values()]
        lines.append([name, "tuning" if name in tuning else "report", *cells])
    return [markdown(["set", "half", *detectors], lines)]


def versions(detectors: Iterable[Runs]) -> str:
    """Return one line with the versions of the runs; several versions are listed."""
    rows = [row for runs in detectors for row in runs.values()]
    parts = []
    for column in ("gandetect", "torch", "sklearn", "pyod", "threads"):
        found = sorted({row[column] for row in rows if row[column]})
        if found:
            parts.append(f"{column} {' and '.join(found)}")
    return f"Measured with {', '.join(parts)}."


def _rank(column: Column) -> float:
    return -column.mean if column.is_complete else math.inf


def _plain(number: float, digits: int) -> str:
    return f"{number:.{digits}f}" if math.isfinite(number) else "-"


def tables(
    paths: Iterable[Path],
    seeds: str = "0,1,2",
    reference: str | None = None,
    with_each_set: bool = False,
) -> str:
    """Return the tables of all protocols; times are relative to `reference` or the first one."""
    numbers = [int(seed) for seed in seeds.split(",")]
    lines = []
    for protocol, detectors in read_results(paths).items():
        if not detectors:
            continue
        first = reference or next(iter(detectors))
        if first not in detectors:
            raise ValueError(f"{first!r} is not among {', '.join(detectors)}.")
        lines += [f"### {protocol}, seeds {seeds}", ""]
        lines += [*summary(protocol, detectors, numbers, first), ""]
        if with_each_set:
            lines += [*per_set(protocol, detectors, numbers), ""]
    return "".join(f"{line}\n" for line in lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path, nargs="+", help="CSVs of quality.py")
    parser.add_argument("--seeds", default="0,1,2", help="the seeds that a whole mean needs")
    parser.add_argument(
        "--reference", help="the detector, with its label, whose time is 1 (default: the first)"
    )
    parser.add_argument("--per-set", action="store_true", help="also AUROC on each set")
    args = parser.parse_args(argv)
    try:
        print(tables(args.results, args.seeds, args.reference, args.per_set), end="")
    except ValueError as error:
        parser.error(str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
