"""The tables: means worked by hand, and nothing averaged that is not whole."""

from dataclasses import asdict

import protocols
import pytest
import quality
import report


def write(path, runs):
    """Write rows of the adbench protocol: (set, detector, seed, AUROC), the rest alike."""
    results = quality.open_results(path)
    for name, detector, seed, auroc, *error in runs:
        row = quality.Row(
            protocol="adbench",
            name=name,
            detector=detector,
            label="",
            params="{}",
            seed=seed,
            auroc=auroc,
            average_precision=auroc / 2,
            fit_seconds=2.0 if detector == "slow" else 0.5,
            score_seconds=0.5,
            threads=1,
            gandetect="1.0",
            torch="2",
            sklearn="1",
            pyod="",
            error="".join(error),
        )
        results.add(asdict(row))


def whole(detector, aurocs):
    """Give every set the same AUROC, one for each seed."""
    return [
        (name, detector, seed, auroc)
        for name in protocols.ADBENCH_SETS
        for seed, auroc in enumerate(aurocs)
    ]


def printed(capsys, *arguments):
    """Run the report; return the cells of each line of its first table by the line's title."""
    assert report.main([str(argument) for argument in arguments]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0]: dict(zip(rows[0], row, strict=True)) for row in rows[2:]}


def test_mean_spread_and_time_by_hand(tmp_path, capsys):
    write(tmp_path / "a.csv", whole("fast", [0.7, 0.8]) + whole("slow", [0.9, 0.9]))
    table = printed(capsys, tmp_path / "a.csv", "--seeds", "0,1")
    assert list(table) == ["slow", "fast"]  # the best first
    # Over the seeds: mean 0.75, standard deviation sqrt((0.05² + 0.05²) / 1) = 0.0707.
    assert table["fast"]["all AUROC"] == "0.750 ± 0.071"
    assert table["fast"]["tuning AP"] == "0.375 ± 0.035"
    assert table["slow"]["report AUROC"] == "0.900 ± 0.000"
    assert (table["fast"]["time"], table["slow"]["time"]) == ("1.0", "2.5")


def test_halves_are_averaged_apart(tmp_path, capsys):
    runs = [(name, "knn", 0, 0.5) for name in protocols.TUNING_SETS]
    runs += [(name, "knn", 0, 0.92) for name in protocols.REPORT_SETS]
    write(tmp_path / "a.csv", runs)
    row = printed(capsys, tmp_path / "a.csv", "--seeds", "0")["knn"]
    # Eleven sets and ten sets: (11 * 0.5 + 10 * 0.92) / 21 = 0.7.
    assert row["tuning AUROC"] == "0.500"
    assert row["report AUROC"] == "0.920"
    assert row["all AUROC"] == "0.700"


def test_incomplete_halves_are_marked(tmp_path, capsys):
    write(tmp_path / "a.csv", [(name, "knn", 0, 0.8) for name in protocols.TUNING_SETS[:4]])
    row = printed(capsys, tmp_path / "a.csv", "--seeds", "0,1,2")["knn"]
    assert row["tuning AUROC"] == "incomplete 4/33"
    assert row["all AUROC"] == "incomplete 4/63"
    assert "report AUROC" not in row  # nothing was run there
    assert (row["fit s"], row["time"]) == ("-", "-")


def test_times_are_told_for_the_half_that_is_there(tmp_path, capsys):
    runs = [(name, "knn", 0, 0.8) for name in protocols.TUNING_SETS]
    runs += [(name, "slow", 0, 0.8) for name in protocols.TUNING_SETS]
    write(tmp_path / "a.csv", [*runs, (protocols.REPORT_SETS[0], "slow", 0, 0.1)])
    row = printed(capsys, tmp_path / "a.csv", "--seeds", "0")["slow"]
    assert (row["fit s"], row["score s"], row["time"]) == ("2.000", "0.500", "2.5")


def test_error_counts_as_missing_until_it_is_mended(tmp_path, capsys):
    runs = whole("knn", [0.8])
    write(tmp_path / "a.csv", [*runs[:20], (*runs[20], "OSError: lost")])
    row = printed(capsys, tmp_path / "a.csv", "--seeds", "0")["knn"]
    assert (row["all AUROC"], row["errors"]) == ("incomplete 20/21", "1")
    write(tmp_path / "b.csv", [runs[20]])
    row = printed(capsys, tmp_path / "a.csv", tmp_path / "b.csv", "--seeds", "0")["knn"]
    assert (row["all AUROC"], row["errors"]) == ("0.800", "0")


def test_title_tells_parameters_apart():
    row = {"detector": "GANomaly", "label": "", "params": "{}"}
    assert report.title(row) == "GANomaly"
    one = row | {"label": "one member", "params": '{"n_estimators": 1}'}
    assert report.title(one) == "GANomaly one member (n_estimators=1)"


def test_per_set_and_unknown_reference(tmp_path, capsys):
    write(tmp_path / "a.csv", whole("knn", [0.6, 0.8]))
    report.main([str(tmp_path / "a.csv"), "--seeds", "0,1", "--per-set"])
    assert "| 14_glass | report | 0.700 ± 0.141 |" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        report.main([str(tmp_path / "a.csv"), "--reference", "lof"])
    assert "'lof' is not among knn" in capsys.readouterr().err
