"""The table of the landing page: every figure from a recorded run, and no cell without one."""

import csv
import itertools
import re
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
def record(extension, tmp_path, monkeypatch):
    """Write runs of one digit normal, with the AUROC of each detector."""
    monkeypatch.setattr(extension, "EARLIER", set())

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
    extension.write_tables(SimpleNamespace(srcdir=tmp_path))
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
    figures = [[cell.split(" ")[0] for cell in line[1:]] for line in lines]
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


def test_what_an_earlier_version_recorded_is_left_out(extension, record, monkeypatch):
    folder = record(ALOCC=0.8, GANomaly=0.7, knn=0.6, iforest=0.5)
    monkeypatch.setattr(extension, "EARLIER", {("mnist-one-normal", "ALOCC")})
    lines = lines_of(extension.overview(folder))[2:]
    assert [line[1] for line in lines] == ["`GANomalyDetector`"]


def test_connections_are_read_from_a_file_of_their_own(extension, tmp_path, monkeypatch):
    monkeypatch.setattr(extension, "EARLIER", set())
    recorded = (ROOT / "benchmarks" / "results" / "kdd.csv").read_text(encoding="utf-8")
    (tmp_path / "kdd.csv").write_text(recorded, encoding="utf-8")
    lines = lines_of(extension.overview(tmp_path))[2:]
    assert {line[0] for line in lines} == {extension.TASKS["kdd"]}
    assert "`BiGANDetector`" in {line[1] for line in lines}


class TestReadme:
    """README.md is text: its figures are those of the recorded runs."""

    @pytest.fixture
    def readme(self):
        return (ROOT / "README.md").read_text(encoding="utf-8")

    @pytest.fixture
    def adbench(self, extension):
        results = ROOT / "benchmarks" / "results"
        return extension.report.read_results(results.glob("adbench*.csv"))["adbench"]

    def test_its_table_with_one_line_a_detector(self, extension, readme):
        table = extension.front_table(ROOT / "benchmarks" / "results")
        assert {line[0].strip("`") for line in lines_of(table)[2:]} == set(
            extension.detectors.__all__
        )
        assert f"\n{table}\n" in readme

    def test_its_table_of_the_public_sets(self, extension, readme, adbench):
        names = {
            "`AdversarialVAEDetector`, without a classifier": "AdversarialVAE",
            "5 nearest neighbours, mean distance": "knn-mean",
            "5 nearest neighbours, largest distance": "knn",
            "local outlier factor": "lof",
            "PyOD's AutoEncoder": "pyod.AutoEncoder",
            "IsolationForest": "iforest",
            "one-class SVM": "ocsvm",
            "PyOD's ALAD": "pyod.ALAD",
            **{f"`{ours}`": name for name, ours in extension.OURS.items()},
        }
        tuning, reported = extension.halves("adbench")
        columns = (("auroc", tuning + reported), ("auroc", reported))
        columns = (*columns, ("average_precision", tuning + reported))
        table = readme.partition("| AUROC, other half |")[2].partition("\n\n")[0]
        lines = lines_of(table)[2:]
        assert len(lines) == 12
        for title, *figures in lines:
            runs = adbench[names[title]]
            expected = [
                str(extension.report.Column(runs, column, sets, extension.SEEDS))
                for column, sets in columns
            ]
            assert figures == expected, title

    def test_its_figures_without_the_adversary_and_of_the_papers(self, extension, readme, adbench):
        text = readme.partition("Without the adversarial loss ")[2].partition("\n\n")[0]
        without, papers = " ".join(text.split()).split("The published scores")

        def mean(title, column):
            sets = [name for half in extension.halves("adbench") for name in half]
            return extension.report.Column(adbench[title], column, sets, extension.SEEDS).mean

        begin = [f"{name} without the adversarial loss" for name in ("ALOCC", "RDNA", "BiGAN")]
        parts = "latent and reconstruction alone"
        begin += [f"GANomaly without the adversarial loss, {parts}", f"GANomaly {parts}"]
        titles = [next(title for title in adbench if title.startswith(start)) for start in begin]
        expected = [f"{mean(title, 'auroc'):.3f}" for title in titles]
        assert re.findall(r"0\.\d{3}", without) == expected
        found = re.findall(r"(0\.\d{3}) \((\w+)\)", papers)
        assert len(found) == 5
        assert found == [(f"{mean(name, 'auroc_paper'):.3f}", name) for _, name in found]
