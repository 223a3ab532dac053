"""``gandetect correct``, and the option ``--classifier`` of the commands."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import gandetect

TINY = ("--set", "epochs=2", "--set", "n_estimators=1", "--set", "optimizer=rmsprop")


@pytest.fixture
def rows(tmp_path):
    X = np.random.default_rng(0).normal(size=(40, 3)).round(3)
    path = tmp_path / "rows.csv"
    lines = [f"{a},{b},{c},{'high' if a > 0 else 'low'}" for a, b, c in X.tolist()]
    path.write_text("\n".join(["a,b,c,kind", *lines]) + "\n")
    return X, ("--data", path, "--label-column", "kind")


def test_the_labels_of_a_learned_classifier(run, rows, tmp_path):
    X, data = rows
    out = tmp_path / "guard"
    fit = run("fit", "adversarialvae", *data, "--normal-class", "low,high", "--out", out, *TINY)
    assert fit[0] == 0, fit[2]
    detector = gandetect.load(out)
    assert detector.optimizer == "rmsprop"
    code, text, err = run("correct", out, *data, "--format", "json")
    assert (code, err) == (0, "")
    lines = json.loads(text)
    named = dict(zip("abc", X.T, strict=True))
    expected = detector.correct(pd.DataFrame(named))["data"]
    for name in ("corrected", "no_defense", "defense"):
        assert [line[name] for line in lines] == expected[name].tolist()
    assert {line["no_defense"] for line in lines} <= {"low", "high"}
    assert [line["is_adversarial"] for line in lines] == expected["is_adversarial"].tolist()
    assert [line["anomaly_score"] for line in lines] == expected["instance_score"].tolist()


def test_a_network_in_a_file(run, fails, rows, tmp_path):
    _, data = rows
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 3)).eval()
    shapes = ({0: torch.export.Dim("batch")},)
    program = torch.export.export(net, (torch.zeros(2, 3),), dynamic_shapes=shapes)
    torch.export.save(program, tmp_path / "net.pt2")
    out, given = tmp_path / "guard", ("--classifier", tmp_path / "net.pt2")
    fit = ("fit", "adversarialvae", *data, "--normal-class", "low,high", *given, *TINY)
    assert run(*fit, "--out", out)[0] == 0
    code, text, _ = run("correct", out, *data, *given, "--format", "json")
    assert code == 0
    assert {line["defense"] for line in json.loads(text)} <= {0, 1, 2}
    assert run("predict", out, *data, *given)[0] == 0
    assert json.loads(run("info", out, *given, "--json")[1])["detector"]
    assert run(*fit, "--go-on-from", out, "--out", tmp_path / "more")[0] == 0
    code, err = fails("predict", out, *data)
    assert (code, "classifier=" in err) == (1, True)
    code, err = fails("predict", out, *data, *given, "--out", tmp_path / "net.pt2")
    assert code == 2


def test_mistakes(fails, model, rows, tmp_path):
    _, data = rows
    code, err = fails("correct", model, *data)
    assert (code, "has no classifier" in err) == (2, True)
    fit = ("fit", "adversarialvae", *data, "--normal-class", "low,high", "--out", tmp_path / "m")
    code, err = fails(*fit, "--classifier", tmp_path / "net.pkl")
    assert (code, ".skops or .pt2" in err) == (1, True)
    code, err = fails(*fit, *TINY[:-1], "optimizer=lion")
    assert (code, "optimizer" in err) == (2, True)
    code, err = fails("fit", "bigan", *fit[2:], "--classifier", __file__)
    assert code == 1
