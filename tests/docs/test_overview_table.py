"""The table of the landing page: every figure from a recorded run, and no cell without one."""

import csv
import itertools
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def extension(monkeypatch):
    for folder in ("docs", "benchmarks"):
        monkeypatch.syspath_prepend(str(ROOT / folder))
    import overview_table

    return overview_table


@pytest.fixture
def record(extension, tmp_path):
    """Write runs of one digit normal, with the AUROC of each detector."""

    def write(seeds=(0, 1, 2), **auroc):
        protocol = "mnist-one-normal"
        names = [name for half in extension.halves(protocol) for name in half]
        with (tmp_path / "runs.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, recorded_columns(), restval="")
            writer.writeheader()
            for (detector, value), name, seed in itertools.product(auroc.items(), names, seeds):
                run = {"protocol": protocol, "name": name, "params": "{}", "seed": seed}
                writer.writerow({**run, "detector": detector.replace("_", "-"), "auroc": value})
        return tmp_path

    return write


def recorded_columns():
    """What a file of the benchmark has."""
    with (ROOT / "benchmarks" / "results" / "adbench.csv").open(encoding="utf-8") as file:
        return next(csv.reader(file))


def lines_of(text):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.split("\n")]


def test_the_recorded_runs_fill_every_cell(extension, tmp_path):
    extension.write_table(SimpleNamespace(srcdir=tmp_path))
    heads, _, *lines = lines_of((tmp_path / "generated" / "overview.md").read_text("utf-8").strip())
    assert heads == [
        "task",
        "detector",
        "mean AUROC",
        "5 nearest neighbours",
        "IsolationForest",
    ]
    assert {line[1].strip("`") for line in lines} <= set(extension.detectors.__all__)
    assert lines and all(cell not in ("", "-") for line in lines for cell in line)


def test_detectors_are_in_order_beside_the_better_way_to_count_neighbours(extension, record):
    folder = record(ALOCC=0.8, BiGAN=0.9, knn=0.6, knn_mean=0.7, iforest=0.5)
    lines = lines_of(extension.overview(folder))[2:]
    space = "\N{NO-BREAK SPACE}"
    figures = [[cell.split(space)[0] for cell in line[1:]] for line in lines]
    assert figures == [
        ["`BiGANDetector`", "0.900", "0.700", "0.500"],
        ["`ALOCCDetector`", "0.800", "0.700", "0.500"],
    ]


@pytest.mark.parametrize("missing", ["iforest", "ALOCC"])
def test_without_all_runs_there_is_no_line(extension, record, missing):
    auroc = {"ALOCC": 0.8, "knn": 0.6, "iforest": 0.5}
    del auroc[missing]
    assert len(lines_of(extension.overview(record(**auroc)))) == 2


def test_a_seed_that_was_not_run_leaves_the_detector_out(extension, record):
    folder = record(seeds=(0, 1), ALOCC=0.8, knn=0.6, iforest=0.5)
    assert len(lines_of(extension.overview(folder))) == 2
