import os
import subprocess
import sys

import pytest

import gandetect
from gandetect import cli


def gandetect_command(*arguments, cwd=None):
    """Run the command as a user does, without a display."""
    environment = {name: value for name, value in os.environ.items() if name != "DISPLAY"}
    return subprocess.run(
        [sys.executable, "-m", "gandetect", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**environment, "OMP_NUM_THREADS": "1"},
        timeout=300,
    )


def test_demo_from_the_command_line(tmp_path):
    options = ("--detectors", "GANomaly", "--epochs", "1", "--seed", "3")
    done = gandetect_command("demo", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "AUROC" in done.stdout
    assert done.stdout.count("GANomalyDetector  ") == 3
    assert "[9/9]" in done.stderr
    folder = tmp_path / "demo-output"
    assert len(list(folder.glob("*-scores.png"))) == 3
    assert len(list(folder.glob("*-GANomalyDetector-reconstructions.png"))) == 3
    assert str(folder) in done.stdout


@pytest.fixture
def recorded(monkeypatch):
    """The arguments with which commands are called, instead of their work."""
    calls = []
    monkeypatch.setattr(cli, "run_demo", lambda **options: calls.append(options))
    return calls


def test_what_the_demo_is_called_with(recorded):
    assert cli.main(["demo"]) == 0
    assert cli.main(["demo", "--out", "here", "--seed", "5", "--detectors", "A, B"]) == 0
    assert cli.main(["demo", "--epochs", "2"]) == 0
    assert recorded == [
        {"out": "demo-output", "seed": 0},
        {"out": "here", "seed": 5, "detectors": ["A", "B"]},
        {"out": "demo-output", "seed": 0, "epochs": 2},
    ]


def test_version(capsys):
    with pytest.raises(SystemExit) as exit_:
        cli.main(["--version"])
    assert exit_.value.code == 0
    assert capsys.readouterr().out == f"gandetect {gandetect.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["demo", "--detectors", "Gnomaly"], "there is no detector 'Gnomaly'; choose from"),
        (["demo", "--detectors", "GANomaly", "--epochs", "0"], "epochs"),
        (["demo", "--out", __file__], "File exists"),
    ],
)
def test_a_mistake_is_told_in_one_line(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(arguments) == 2
    err = capsys.readouterr().err
    last = err.splitlines()[-1]
    assert "gandetect: error: " in last
    assert message in last
    assert "Traceback" not in err


def test_a_message_of_many_lines_becomes_one(monkeypatch, capsys):
    def fail(**options):
        raise ValueError("one\n  two")

    monkeypatch.setattr(cli, "run_demo", fail)
    assert cli.main(["demo"]) == 2
    assert capsys.readouterr().err == "gandetect: error: one two\n"
    with pytest.raises(ValueError, match="one"):
        cli.main(["--traceback", "demo"])


def test_a_defect_is_not_taken_for_a_mistake(monkeypatch):
    def fail(**options):
        raise AssertionError

    monkeypatch.setattr(cli, "run_demo", fail)
    with pytest.raises(AssertionError):
        cli.main(["demo"])


def test_ctrl_c(monkeypatch, capsys):
    def interrupt(**options):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "run_demo", interrupt)
    assert cli.main(["demo"]) == 130
    assert capsys.readouterr().err == "gandetect: interrupted\n"


@pytest.mark.parametrize(
    "arguments",
    [[], ["dome"], ["demo", "--seed", "x"], ["demo", "--detectors", "A,,B"], ["demo", "extra"]],
)
def test_arguments_that_can_not_be_read(arguments, capsys):
    with pytest.raises(SystemExit) as exit_:
        cli.main(arguments)
    assert exit_.value.code == 2
    assert "error:" in capsys.readouterr().err


def test_help_names_every_option(capsys):
    with pytest.raises(SystemExit):
        cli.main(["demo", "--help"])
    text = capsys.readouterr().out
    for option in ("--out", "--seed", "--detectors", "--epochs"):
        assert option in text
