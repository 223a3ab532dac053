"""A sphinx extension: the tables of the benchmarks, from the CSVs in benchmarks/results.

They are made when the documentation is built, so that a table cannot say anything else than the
runs that are recorded. The table of published figures stands in README.md and in the guides as
well, which are read as they are: run as a script, this file writes it there, and a test compares.
"""

import csv
import json
import re
import sys
from importlib import import_module
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import markdown_tables  # noqa: E402
import published  # noqa: E402
import report  # noqa: E402
import results_file  # noqa: E402
from protocols import halves  # noqa: E402

SEEDS = (0, 1, 2)
# What is shown, by task: protocols of quality.py, and files.
SECTIONS = {
    "Tables": ("adbench", "tables", "planted_cells", "kdd"),
    "Known anomalies": ("few_labels", "few_labels_mnist"),
    "Images": ("mnist-one-normal", "mnist-one-anomalous", "industrial"),
    "Attacks on a classifier": ("adversarial",),
    "Attacks on the detector": ("robustness",),
    "Anomalies in the training data": ("contamination", "http"),
    "Thresholds, settings and diagnostics": ("thresholds", "selection", "training_report"),
    "Published figures": ("published", "alocc_f1", "alocc_along"),
    "Speed and memory": ("speed", "growth", "memory", "photographs", "scale", "processes"),
}
# The last is for files that are not named above.
OTHERS = "Others"
# The heading of a table, and what its numbers are.
TITLES = {
    "adbench": ("21 public sets", "Trained on normal rows only; the best first."),
    "mnist-one-anomalous": ("Ten digits, one of them the anomaly", "The best first."),
    "mnist-one-normal": ("Ten digits, one of them normal", "The best first."),
    "speed": ("Speed", "Ratios of median times, beside the limit that the project promises."),
    "memory": ("Memory", "Growth of a process in MB while it fits and scores a memory map."),
    "kdd": ("Network traffic", "KDD Cup 1999 by EGBAD's protocol."),
    "photographs": (
        "Larger photographs",
        "RDNA on features: processor seconds on one thread, and the largest resident size.",
    ),
    "planted_cells": (
        "Which cell is wrong",
        "Rows in which the map's largest value is at a cell that was planted.",
    ),
    "published": ("By the papers' protocols", "Runs beside the figures that were published."),
    "alocc_f1": ("ALOCC's F1", "MNIST, one digit the inlier."),
    "alocc_along": ("ALOCC along the training", "MNIST, digit 2 the inlier."),
    "adversarial": ("Detection and correction", "Means over attacks and seeds."),
    "robustness": (
        "The score under attack",
        "AUROC; of `guarded` the share of samples that pass classifier and detector.",
    ),
    "few_labels": (
        "A few known anomalies",
        "AUROC / average precision on public sets, by how many anomalies were labelled.",
    ),
    "few_labels_mnist": (
        "A few known anomalies among images",
        "The same on MNIST, with one digit as the anomaly and 1,000 training images.",
    ),
    "contamination": ("21 public sets", "Mean AUROC with anomalies among the training rows."),
    "http": (
        "Attacks that are many and alike",
        "Mean AUROC on http connections of KDD Cup 1999 with attacks among the training rows.",
    ),
    "industrial": ("Photographs with defects", "MVTec AD's bottles, and magnetic tiles."),
    "selection": ("Choosing a setting without labels", "With 95 % intervals over the sets."),
    "tables": (
        "Categories and missing values",
        "With planted faults.",
    ),
    "thresholds": (
        "Thresholds",
        "What is flagged where 5 % are asked for, and by flag_by_fdr at 10 %.",
    ),
    "training_report": ("Training diagnostics", "Trainings with a warning."),
    "growth": ("Growth", "The power of the size that each time grows with; 1 is linear."),
    "scale": (
        "Scale",
        "Throughput, growth of memory in MB, and the power of n that the time grows with.",
    ),
    "processes": ("Two processes", "Against one with the same batches."),
}
# The function of a benchmark that averages the runs of a file; other files stand as they are.
_OWN_FILE = (
    "adversarial",
    "alocc_f1",
    "contamination",
    "few_labels",
    "growth",
    "industrial",
    "kdd",
    "photographs",
    "planted_cells",
    "published",
    "robustness",
    "selection",
    "tables",
    "thresholds",
    "training_report",
)
REPORTS = {name: (name, "report") for name in _OWN_FILE}
REPORTS["alocc_along"] = ("alocc_f1", "report_along")
REPORTS["few_labels_mnist"] = ("few_labels", "report")
REPORTS["http"] = ("contamination", "report")
# Files whose table stands in a guide too, as generated/NAME.md.
IN_GUIDES = ("robustness",)
# The pages with a table of published figures, and of which method; None: of all.
ROOT = BENCHMARKS.parent
PUBLISHED_PAGES = {
    ROOT / "README.md": None,
    **{
        ROOT / "docs" / "guide" / f"{page}.md": method
        for page, method in [
            ("ganomaly", "GANomaly"),
            ("bigan", "BiGAN"),
            ("alocc", "ALOCC"),
            ("adversarial_vae", "AdversarialVAE"),
            ("rdna", "RDNA"),
        ]
    },
}
_PUBLISHED_TABLE = re.compile(
    r"(<!-- published figures: benchmarks/published.py -->\n\n).*?(\n\n<!-- end -->)", re.DOTALL
)


def setup(app):
    """Have the tables written before the pages are read."""
    app.connect("builder-inited", write_tables)
    return {"parallel_read_safe": True}


def write_tables(app):
    """Write docs/generated/benchmarks.md, and the tables of guides."""
    target = Path(app.srcdir, "generated", "benchmarks.md")
    target.parent.mkdir(exist_ok=True)
    target.write_text(benchmark_tables(BENCHMARKS / "results"), encoding="utf-8")
    for name in IN_GUIDES:
        table = file_table(BENCHMARKS / "results" / f"{name}.csv")
        target.with_name(f"{name}.md").write_text(table, encoding="utf-8")


def benchmark_tables(results):
    """The tables of all CSVs in a folder, in Markdown, by task."""
    files = {path.stem: path for path in sorted(results.glob("*.csv"))}
    quality = quality_files(results)
    runs = report.read_results(quality)
    tables = {
        protocol: quality_tables(protocol, found) for protocol, found in runs.items() if found
    }
    tables |= {name: file_table(path) for name, path in files.items() if path not in quality}
    named = [name for names in SECTIONS.values() for name in names]
    sections = {**SECTIONS, OTHERS: [name for name in tables if name not in named]}
    lines = []
    for section, names in sections.items():
        there = [name for name in names if name in tables]
        lines += [f"### {section}", ""] if there else []
        for name in there:
            heading, sentence = TITLES.get(name, (name.replace("_", " "), ""))
            lines += [f"#### {heading}", "", sentence, "", tables[name], ""]
    return "\n".join(lines)


def quality_files(results):
    """The CSVs of quality.py in a folder: those with a protocol that no other benchmark wrote."""
    paths = sorted(results.glob("*.csv"))
    return [path for path in paths if path.stem not in REPORTS and "protocol" in columns_of(path)]


def quality_tables(protocol, detectors):
    """The means of a protocol and, folded away, those of each set, narrow enough for a page."""
    tuning, reported = halves(protocol)
    columns = {
        "AUROC": ("auroc", tuning + reported),
        "AUROC, other half": ("auroc", reported),
        "AP": ("average_precision", tuning + reported),
        "paper's score": ("auroc_paper", tuning + reported),
        "false alarms": ("false_alarm_rate", tuning + reported),
    }
    table = {
        name: {head: report.Column(runs, *which, SEEDS) for head, which in columns.items()}
        for name, runs in detectors.items()
    }
    order = sorted(
        table,
        key=lambda name: -table[name]["AUROC"].mean if table[name]["AUROC"].is_complete else 1,
    )
    lines = [[name_of(name), *(unbroken(table[name][head]) for head in columns)] for name in order]
    parts = [markdown_tables.markdown(["detector", *columns], lines)]
    at_defaults = [name for name in order if "(" not in name and " " not in name]
    names = sorted(tuning + reported)
    for start in range(0, len(at_defaults), 5):  # as many as fit beside one another
        shown = at_defaults[start : start + 5]
        rows = [
            [name, *(unbroken(report.Column(detectors[d], "auroc", [name], SEEDS)) for d in shown)]
            for name in names
        ]
        of_each = markdown_tables.markdown(["AUROC on", *shown], rows)
        parts.append(f":::{{dropdown}} Each set: {', '.join(shown)}\n{of_each}\n:::")
    parts.append(report.versions(detectors.values()))
    return "\n\n".join(parts)


def name_of(title):
    """A detector with its parameters as code, which may break between them."""
    name, bracket, parameters = title.partition(" (")
    return f"{name}, `{parameters.removesuffix(')')}`" if bracket else name


def unbroken(column):
    """A figure whose standard deviation stays on its line."""
    return str(column).replace(" ", "\N{NO-BREAK SPACE}")


def with_published_figures(text, method):
    """The text of a page, with its table of published figures as the runs have it now."""
    table = published.report(BENCHMARKS / "results" / "published.csv", method)
    found, n = _PUBLISHED_TABLE.subn(lambda match: match[1] + table + match[2], text)
    if n != 1:
        raise ValueError(f"The page has {n} tables of published figures, not one.")
    return found


def write_published_figures():
    """Write the tables of published figures into the pages that have one."""
    for page, method in PUBLISHED_PAGES.items():
        text = page.read_text(encoding="utf-8")
        page.write_text(with_published_figures(text, method), encoding="utf-8")


def file_table(path):
    """What a benchmark reports of its file, or the file as it stands."""
    if path.stem in REPORTS:
        module, function = REPORTS[path.stem]
        table = getattr(import_module(module), function)(path)
    else:
        table = plain_table(path)
    return without_empty_braces(table)


def without_empty_braces(table):
    """A table in which parameters at their defaults say so, and others are code."""
    lines = []
    for line in table.split("\n"):
        cells = [cell.strip() for cell in line.split(" | ")]
        lines.append(" | ".join(parameters_of(cell) for cell in cells))
    return "\n".join(lines)


def parameters_of(cell):
    """A cell of JSON as a person writes parameters; any other may break behind a slash."""
    if not (cell.startswith("{") and cell.endswith("}")):
        return cell.replace("/", "/\N{ZERO WIDTH SPACE}")
    parameters = json.loads(cell)
    text = ", ".join(f"{name}={value!r}" for name, value in parameters.items())
    return f"`{text}`" if text else "defaults"


def columns_of(path):
    """The header of a CSV."""
    with path.open(newline="", encoding="utf-8") as file:
        return next(csv.reader(file), [])


def plain_table(path):
    """A CSV as it stands, without the commit of each row."""
    with path.open(newline="", encoding="utf-8") as file:
        heads, *rows = csv.reader(file)
    heads = [head for head in heads if head != results_file.COMMIT]
    return markdown_tables.markdown(heads, [row[: len(heads)] for row in rows])


if __name__ == "__main__":
    write_published_figures()
