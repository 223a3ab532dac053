"""A few known anomalies: who is labelled, who is judged, and what learns from it."""

import re
import sys
from pathlib import Path

import few_labels
import numpy as np
import pytest
from protocols import REPORT_DIGITS, REPORT_SETS, Split

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
PAGES = {
    name: (ROOT / name).read_text(encoding="utf-8")
    for name in ("README.md", "docs/guide/known_anomalies.md", "benchmarks/README.md")
}


def blobs(seed=0, n_normal=200):
    """Normal rows around 0, and three kinds of anomaly, 30 of each."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n_normal + 100, 4))
    anomalous = np.concatenate([rng.normal(size=(30, 4)) + 6 * np.eye(4)[i] for i in range(3)])
    y = np.repeat([0, 1], [100, 90])
    return Split(X[:n_normal], np.concatenate([X[n_normal:], anomalous]), y)


def test_labelled_anomalies_are_not_judged():
    split = blobs()
    found = few_labels.cases(split, seed=0)
    kinds = {few_labels.RANDOM: (1, 5, 10), few_labels.OTHER: (10,), few_labels.SAME: (10,)}
    assert set(found) == {(protocol, k) for protocol, ks in kinds.items() for k in ks}
    for (_, k), case in found.items():
        assert len(case.labelled) == k
        assert split.y_test[case.labelled].all()
        assert not set(case.labelled) & set(case.judged)
        assert (split.y_test[case.judged] == 0).sum() == 100


def test_one_kind_is_labelled_and_the_others_are_judged():
    split = blobs()
    kind = np.concatenate([np.full(100, -1), np.repeat([0, 1, 2], 30)])
    found = few_labels.cases(split, seed=0)
    other, same = found[few_labels.OTHER, 10], found[few_labels.SAME, 10]
    assert np.array_equal(other.labelled, same.labelled)
    (labelled,) = set(kind[other.labelled])
    assert set(kind[other.judged]) == {-1, 0, 1, 2} - {labelled}
    assert set(kind[same.judged]) == {-1, labelled}


def test_sets_with_few_anomalies_have_fewer_cases():
    split = blobs()
    few = Split(split.X_train, split.X_test[:112], split.y_test[:112])
    assert {k for protocol, k in few_labels.cases(few, 0) if protocol == "random"} == {1, 5}


@pytest.mark.parametrize("name", ["5-nn", "log-ratio", "extra-trees", "5-nn + extra-trees"])
def test_baselines_rank_anomalies_higher(name):
    split = blobs()
    case = few_labels.cases(split, 0)[few_labels.RANDOM, 10]
    X, test = few_labels.standardised(split.X_train, split.X_test)
    scores = few_labels.BASELINES[name](X, test[case.labelled], test[case.judged], 0)
    y = split.y_test[case.judged]
    assert np.median(scores[y == 1]) > np.quantile(scores[y == 0], 0.9)


def test_rows_of_a_run(tmp_path, monkeypatch, capsys):
    split = blobs()
    monkeypatch.setattr(few_labels, "load_split", lambda *_: split)
    out = tmp_path / "out.csv"
    arguments = ["--data", tmp_path, "--out", out, "--sets", "toy", "--seeds", "0"]
    small = ["--set", "epochs=1", "--set", "n_estimators=1"]
    monkeypatch.setattr(
        sys,
        "argv",
        ["few_labels.py", *map(str, arguments), "--detectors", "GANomaly,5-nn", *small],
    )
    assert few_labels.main() == 0
    rows = few_labels.rows_of(out, few_labels.LabelsRun)
    assert len(rows) == 5 * 3  # cases times with labels, without labels and 5-NN
    by = {(row["labels"], row["protocol"], row["n_known"]): row for row in rows}
    assert int(by["learn", "random", "5"]["n_train"]) == 205
    assert int(by["ignore", "random", "5"]["n_train"]) == 200
    assert "other kinds, 10" in capsys.readouterr().out
    # Nothing is measured twice.
    assert few_labels.main() == 0
    assert len(few_labels.rows_of(out, few_labels.LabelsRun)) == 15


def test_detectors_are_compared_on_what_each_was_run_on():
    case = {"seed": "0", "protocol": "random", "n_known": "1", "params": "{}", "labels": ""}
    figures = {"auroc": "0.7", "average_precision": "0.5"}
    both = {**case, **figures, "name": "a", "detector": "5-nn"}
    shown = few_labels.table(
        [
            both,
            {**both, "name": "b", "auroc": "0.1"},  # a set that the other was not run on
            {**both, "detector": "log-ratio", "auroc": "0.8"},
        ]
    )
    assert shown.startswith("1 pairs of set and seed")
    assert "| 5-nn | 0.700 / 0.500 |" in shown and "| log-ratio | 0.800 / 0.500 |" in shown


def test_a_digit_is_a_set_of_images(monkeypatch):
    rng = np.random.default_rng(0)
    split = Split(
        rng.normal(size=(1200, 8, 8)), rng.normal(size=(40, 8, 8)), np.repeat([0, 1], [10, 30])
    )
    asked = []
    monkeypatch.setattr(few_labels, "load_split", lambda *call: asked.append(call) or split)
    few = few_labels.split_of("data", "7", 2)
    assert asked == [("data", "mnist-one-anomalous", "7", 2)]
    assert len(few.X_train) == 1000
    case = few_labels.cases(few, 0)[few_labels.RANDOM, 5]
    rows, test = few_labels.standardised(few.X_train, few.X_test[case.judged])
    assert (rows.shape, test.shape) == ((1000, 64), (35, 64))


def lines_of(name):
    """The cells of the report half by the detector: AUROC / average precision."""
    rows = few_labels.rows_of(RESULTS / f"{name}.csv", few_labels.LabelsRun)
    _, table = few_labels.table(rows, REPORT_SETS + REPORT_DIGITS).split("\n\n")
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    return {re.sub(r" \{.*?\}", "", head): values for head, *values in cells}


@pytest.mark.parametrize(
    ("name", "detector", "baselines"),
    [
        ("few_labels", "AdversarialVAE", ("extra-trees", "5-nn", "pyod.XGBOD")),
        ("few_labels_mnist", "ALOCC", ("extra-trees", "5-nn")),
    ],
)
def test_the_tables_of_pages_are_those_of_the_runs(name, detector, baselines):
    lines = lines_of(name)
    rows = {key.split()[-1]: line for key, line in lines.items() if key.startswith(detector)}
    for of_report in (rows["learn"], rows["ignore"], *(lines[key] for key in baselines)):
        assert f"| {' | '.join(of_report)} |" in PAGES["benchmarks/README.md"]
        shown = [*of_report[:3], of_report[-1]]
        assert f"| {' | '.join(shown)} |" in PAGES["docs/guide/known_anomalies.md"]


def test_the_figures_of_the_readme_are_those_of_the_runs():
    text = " ".join(PAGES["README.md"].split())
    _, _, paragraph = text.partition("**What adds more.**")
    paragraph = paragraph.partition("The second is")[0]
    figures = set()
    for name in ("few_labels", "few_labels_mnist"):
        for line in lines_of(name).values():
            figures |= {cell.split(" / ")[0].removeprefix("0") for cell in (line[0], line[2])}
    stated = re.findall(r"(?<!\d)\.\d{3}\b", paragraph)
    assert len(stated) >= 8
    assert set(stated) <= figures
