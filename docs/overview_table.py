"""A sphinx extension: the table of the landing page, from the runs in benchmarks/results.

One line for each detector and task of which every run is recorded, beside the two simple
detectors that anyone would try first, in the same runs.
"""

from pathlib import Path

from benchmark_tables import BENCHMARKS, columns_of

import markdown_tables  # isort: skip  (benchmark_tables puts the folder of the benchmarks on the path)
import report  # isort: skip
from protocols import PROTOCOLS, halves  # isort: skip

from gandetect import detectors

SEEDS = (0, 1, 2)
TASKS = {
    "adbench": "tables: 21 public sets",
    "mnist-one-anomalous": "images: ten digits, one of them the anomaly",
    "mnist-one-normal": "images: ten digits, one of them normal",
}
# What is beside them, as the benchmark names it: the best of several ways to count is taken.
SIMPLE = {"5 nearest neighbours": ("knn", "knn-mean"), "IsolationForest": ("iforest",)}
# The detectors by the name that the benchmark gives them.
OURS = {name.removesuffix("Detector"): name for name in detectors.__all__}


def setup(app):
    """Have the table written before the pages are read."""
    app.connect("builder-inited", write_table)
    return {"parallel_read_safe": True}


def write_table(app):
    """Write docs/generated/overview.md."""
    target = Path(app.srcdir, "generated", "overview.md")
    target.parent.mkdir(exist_ok=True)
    target.write_text(overview(BENCHMARKS / "results") + "\n", encoding="utf-8")


def overview(results):
    """The table of the CSVs of quality.py in a folder, in Markdown, the best of a task first."""
    paths = [path for path in sorted(results.glob("*.csv")) if "protocol" in columns_of(path)]
    heads = ["task", "detector", "mean AUROC", *SIMPLE]
    return markdown_tables.markdown(heads, lines_of(report.read_results(paths)))


def lines_of(runs):
    """The lines of all tasks; no cell is empty, as what lacks a run is left out."""
    for protocol in PROTOCOLS:
        simple = [best(runs[protocol], protocol, names) for names in SIMPLE.values()]
        if None in simple:
            continue
        measured = [(best(runs[protocol], protocol, [name]), name) for name in OURS]
        measured = [(figure, name) for figure, name in measured if figure is not None]
        for figure, name in sorted(measured, key=lambda pair: -pair[0].mean):
            figures = [
                str(column).replace(" ", "\N{NO-BREAK SPACE}") for column in (figure, *simple)
            ]
            yield [TASKS[protocol], f"`{OURS[name]}`", *figures]


def best(runs, protocol, names):
    """The largest AUROC of the detectors at their defaults; None if no one has all runs."""
    tuning, reported = halves(protocol)
    columns = [report.Column(runs[name], "auroc", tuning + reported, SEEDS) for name in names]
    complete = [column for column in columns if column.is_complete]
    return max(complete, key=lambda column: column.mean, default=None)
