"""A sphinx extension: the tables of the landing page, from the runs in benchmarks/results.

One line for each detector and task of which every run is recorded, beside the two simple
detectors that anyone would try first, in the same runs. README.md has the table with one line a
detector as text; a test compares it with `front_table`.
"""

from pathlib import Path
from typing import NamedTuple

from benchmark_tables import BENCHMARKS, quality_files

import kdd  # isort: skip  (benchmark_tables puts the folder of the benchmarks on the path)
import markdown_tables  # isort: skip
import report  # isort: skip
from protocols import halves  # isort: skip
from runs import mean_of, rows_of  # isort: skip

from gandetect import detectors

SEEDS = (0, 1, 2)
KDD = "kdd"
TASKS = {
    "adbench": "tables: 21 public sets",
    KDD: "network traffic: KDD Cup 1999",
    "mnist-one-anomalous": "images: ten digits, one of them the anomaly",
    "mnist-one-normal": "images: ten digits, one of them normal",
}
# Recorded with an earlier version of a detector, whose scores were others: not shown until run
# again.
EARLIER = {
    ("mnist-one-anomalous", "ALOCC"),
    ("mnist-one-anomalous", "BiGAN"),
    ("mnist-one-anomalous", "GANomaly"),
    ("mnist-one-normal", "BiGAN"),
    (KDD, "BiGAN"),
}
# What is beside them, as the benchmark names it: the best of several ways to count is taken.
SIMPLE = {"5 nearest neighbours": ("knn", "knn-mean"), "IsolationForest": ("iforest",)}
# The detectors by the name that the benchmark gives them.
OURS = {name.removesuffix("Detector"): name for name in detectors.__all__}
# The task that stands for a detector in the table with one line each, and its use in words.
FRONT = {
    "ALOCC": ("mnist-one-normal", "small images with one or several normal classes"),
    "AdversarialVAE": ("adbench", "tables; attacks on a classifier"),
    "BiGAN": ("adbench", "tables; generating samples"),
    "RDNA": ("adbench", "locating anomalous cells or pixels"),
    "GANomaly": ("adbench", "large tables, network traffic; codes for other estimators"),
}


class Figure(NamedTuple):
    """A mean over the seeds, and as text with its standard deviation."""

    mean: float
    text: str


def setup(app):
    """Have the tables written before the pages are read."""
    app.connect("builder-inited", write_tables)
    return {"parallel_read_safe": True}


def write_tables(app):
    """Write docs/generated/overview.md and docs/generated/front.md."""
    folder = Path(app.srcdir, "generated")
    folder.mkdir(exist_ok=True)
    for name, table in (("overview", overview), ("front", front_table)):
        # The standard deviation stays on the line of its mean.
        text = table(BENCHMARKS / "results").replace(" ± ", "\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}")
        (folder / f"{name}.md").write_text(f"{text}\n", encoding="utf-8")


def overview(results):
    """The table of the CSVs in a folder, in Markdown, the best of a task first."""
    heads = ["task", "detector", "mean AUROC", *SIMPLE]
    return markdown_tables.markdown(heads, lines_of(figures_of(results)))


def front_table(results):
    """One line a detector: what it is for, and its figure beside the simple ones."""
    figures = figures_of(results)
    lines = []
    for name, (task, use) in FRONT.items():
        simple = [best(figures[task], names) for names in SIMPLE.values()]
        columns = (figures[task][name], *simple)
        lines.append([f"`{OURS[name]}`", use, TASKS[task], *(column.text for column in columns)])
    return markdown_tables.markdown(
        ["detector", "use it for", "measured on", "AUROC", *SIMPLE], lines
    )


def lines_of(figures):
    """The lines of all tasks; no cell is empty, as what lacks a run is left out."""
    for task, measured in figures.items():
        simple = [best(measured, names) for names in SIMPLE.values()]
        if None in simple:
            continue
        ours = [(figure, name) for name, figure in measured.items() if name in OURS]
        for figure, name in sorted(ours, key=lambda pair: -pair[0].mean):
            texts = [column.text for column in (figure, *simple)]
            yield [TASKS[task], f"`{OURS[name]}`", *texts]


def best(measured, names):
    """The largest of these figures, None if there is none."""
    found = [measured[name] for name in names if name in measured]
    return max(found, default=None)


def figures_of(results):
    """By task and detector, at its defaults, the AUROC if all of its runs are there."""
    found = {task: {} for task in TASKS}
    for protocol, runs in report.read_results(quality_files(results)).items():
        names = [name for half in halves(protocol) for name in half]
        for detector in list(runs):
            column = report.Column(runs[detector], "auroc", names, SEEDS)
            if column.is_complete and (protocol, detector) not in EARLIER:
                found[protocol][detector] = Figure(column.mean, str(column))
    path = results / "kdd.csv"
    rows = rows_of(path, kdd.KddRun) if path.exists() else []
    for detector in {row["detector"] for row in rows}:
        own = [row for row in rows if row["detector"] == detector and row["params"] == "{}"]
        is_current = (KDD, detector) not in EARLIER
        if is_current and {int(row["seed"]) for row in own} == set(SEEDS):
            text = markdown_tables.mean_and_spread([float(row["auroc"]) for row in own])
            found[KDD][detector] = Figure(mean_of(own, "auroc"), text)
    return found
