"""A sphinx extension: the tables of the benchmarks, from the CSVs in benchmarks/results.

They are made when the documentation is built, so that a table cannot say anything else than the
runs that are recorded.
"""

import csv
import sys
from importlib import import_module
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import markdown_tables  # noqa: E402
import report  # noqa: E402
import results_file  # noqa: E402

# What the numbers of a file are that is shown as it stands.
TITLES = {
    "speed": "Ratios of median times, beside the limit that the project promises itself.",
    "memory": "Growth of a process in MB while it fits and scores a memory map.",
    "kdd": "KDD Cup 1999 by EGBAD's protocol.",
    "planted_cells": "Rows in which the map's largest value is at a cell that was planted.",
    "alocc_f1": "ALOCC on MNIST, one digit the inlier.",
    "alocc_along": "ALOCC on MNIST, digit 2 the inlier, along the training.",
    "adversarial": "Attacks on classifiers: means over attacks and seeds.",
    "contamination": "Mean AUROC with anomalies among the training rows.",
    "http": "Mean AUROC on http connections of KDD Cup 1999 with attacks among the training rows.",
    "industrial": "Defects on images.",
    "selection": "Choosing a setting without labels.",
    "tables": "Tables with categories and missing values, with planted faults.",
    "thresholds": "What is flagged where 5 % are asked for, and by flag_by_fdr at 10 %.",
    "training_report": "Trainings with a warning.",
    "scale": "Throughput, growth of memory in MB, and the power of n that the time grows with.",
    "processes": "Two processes against one with the same batches.",
}
# The function of a benchmark that averages the runs of a file; other files stand as they are.
_OWN_FILE = (
    "adversarial",
    "alocc_f1",
    "contamination",
    "industrial",
    "kdd",
    "planted_cells",
    "selection",
    "tables",
    "thresholds",
    "training_report",
)
REPORTS = {name: (name, "report") for name in _OWN_FILE}
REPORTS["alocc_along"] = ("alocc_f1", "report_along")
REPORTS["http"] = ("contamination", "report")


def setup(app):
    """Have the tables written before the pages are read."""
    app.connect("builder-inited", write_tables)
    return {"parallel_read_safe": True}


def write_tables(app):
    """Write docs/generated/benchmarks.md."""
    target = Path(app.srcdir, "generated", "benchmarks.md")
    target.parent.mkdir(exist_ok=True)
    target.write_text(benchmark_tables(BENCHMARKS / "results"), encoding="utf-8")


def benchmark_tables(results):
    """The tables of all CSVs in a folder, in Markdown: runs of quality.py are averaged."""
    paths = sorted(results.glob("*.csv"))
    quality = [path for path in paths if "protocol" in columns_of(path)]
    parts = [report.tables(quality, reference="iforest", with_each_set=True)] if quality else []
    parts += [titled_table(path) for path in paths if path not in quality]
    return "\n".join(parts)


def titled_table(path):
    """What a benchmark reports of its file, or the file as it stands."""
    if path.stem in REPORTS:
        module, function = REPORTS[path.stem]
        table = getattr(import_module(module), function)(path)
    else:
        table = plain_table(path)
    return f"### {path.stem.replace('_', ' ')}\n\n{TITLES.get(path.stem, '')}\n\n{table}\n"


def columns_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return next(csv.reader(file), [])


def plain_table(path):
    """A CSV as it stands, without the commit of each row."""
    with path.open(newline="", encoding="utf-8") as file:
        heads, *rows = csv.reader(file)
    heads = [head for head in heads if head != results_file.COMMIT]
    return markdown_tables.markdown(heads, [row[: len(heads)] for row in rows])
