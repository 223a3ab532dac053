import runpy
import sys

import pytest

import gandetect


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["--version"], 0, f"gandetect {gandetect.__version__}\n"),
        (
            ["demo", "--detectors", "Gnomaly"],
            2,
            "gandetect demo: error: argument --detectors: there",
        ),
    ],
)
def test_the_package_runs_as_a_program(arguments, code, told, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["gandetect", *arguments])
    with pytest.raises(SystemExit) as exit_:
        runpy.run_module("gandetect", run_name="__main__")
    assert exit_.value.code == code
    out, err = capsys.readouterr()
    assert (out + err).startswith(told)
