import argparse
import contextlib
import json
import os
import re
import shlex
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import gandetect
from gandetect import cli, demo
from gandetect.cli.fit import _parameters
from gandetect.cli.main import COMMANDS, build_parser
from gandetect.cli.options import build_detector, detector_class

ROOT = Path(__file__).parents[2]
# The function of the same name hides it.
main_module = sys.modules["gandetect.cli.main"]


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


def test_the_demo_as_a_program(tmp_path):
    options = ("--detectors", "GANomaly", "--epochs", "1", "--seed", "3")
    done = gandetect_command("demo", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "AUROC" in done.stdout
    # It takes part in two of the tasks, of which one has images; every task has its baselines.
    assert done.stdout.count("GANomalyDetector  ") == 2
    assert "[8/8]" in done.stderr
    folder = tmp_path / "demo-output"
    assert len(list(folder.glob("*-scores.png"))) == 3
    assert len(list(folder.glob("*-GANomalyDetector-reconstructions.png"))) == 1
    assert len(list(folder.glob("*-GANomalyDetector-report.html"))) == 2
    assert str(folder) in done.stdout


def test_fit_and_evaluate_as_programs(tmp_path, table):
    labels = ("--data", str(table), "--label-column", "kind", "--normal-class", "good")
    fitted = gandetect_command(
        "fit", "BiGAN", *labels, "--set", "epochs=1", "--out", "model", cwd=tmp_path
    )
    assert (fitted.returncode, fitted.stderr) == (0, "")
    assert "BiGANDetector" in fitted.stdout
    judged = gandetect_command("evaluate", "model", *labels, "--format", "csv", cwd=tmp_path)
    assert (judged.returncode, judged.stderr) == (0, "")
    assert judged.stdout.startswith("name,value\nsamples,60\nanomalies,10\n")


def test_a_mistake_as_a_program_leaves_one_line_and_no_traceback(tmp_path):
    done = gandetect_command("fit", "ganomaly", "--data", "x.csv", "--out", "m", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("gandetect: error: there is no file or folder x.csv")
    assert done.stderr.count("\n") == 1


def test_a_reader_that_goes_away_is_no_crash(table, model):
    arguments = ["score", str(model), "--data", str(table), "--label-column", "kind"]
    process = subprocess.Popen(
        [sys.executable, "-m", "gandetect", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.close()
    with process.stderr:
        assert process.stderr.read() == b""
    assert process.wait() == 1


def test_version(run):
    assert run("--version") == (0, f"gandetect {gandetect.__version__}\n", "")


def commands_of_parser(name):
    """The action that holds the parsers of the commands, where one of them is named."""
    (commands,) = (
        action
        for action in build_parser([name])._actions
        if isinstance(action, argparse._SubParsersAction)
    )
    return commands


def test_every_command_is_listed_as_it_lists_itself(run):
    code, out, _ = run("--help")
    assert code == 0
    assert list(re.findall(r"^    (\w+)  ", out, re.MULTILINE)) == list(COMMANDS)
    for name, (_, what) in COMMANDS.items():
        told = {action.dest: action.help for action in commands_of_parser(name)._choices_actions}
        assert told[name] == what


@pytest.mark.parametrize("name", COMMANDS)
def test_help_says_what_every_option_is_for(name, run):
    parser = commands_of_parser(name).choices[name]
    assert parser.description
    for action in parser._actions:
        assert action.help, action.dest
    code, out, err = run(name, "--help")
    assert (code, err) == (0, "")
    for action in parser._actions:
        for option in action.option_strings:
            assert option in out


COMMANDS_WITHOUT_WORK = """
import contextlib, io, json, sys
from gandetect.cli import main
for arguments in json.loads(sys.argv[1]):
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            code = main(arguments)
    except SystemExit as exit_:
        code = exit_.code
    print(code, sorted({"torch", "sklearn", "scipy", "numpy"} & set(sys.modules)))
"""


def test_help_and_mistakes_do_not_wait_for_torch():
    fit = ["fit", "ganomaly", "--data", "x", "--out", "y"]
    helps = [["--help"], ["--version"], *([name, "--help"] for name in COMMANDS)]
    mistakes = [
        ["dome"],
        ["fit", "gnomaly", "--data", "x", "--out", "y"],
        [*fit, "--outlier-perc", "101"],
        [*fit, "--bit-depth", "7"],
        ["predict", "--data", "x"],
        ["benchmark", "ganomaly", "--data", "x", "--seeds", "0"],
    ]
    missing = [[name, "no_model", "--data", "x"] for name in ("score", "predict", "evaluate")]
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS_WITHOUT_WORK, json.dumps([*helps, *mistakes, *missing])],
        capture_output=True,
        text=True,
        timeout=100,
    )
    expected = ["0 []"] * len(helps) + ["2 []"] * len(mistakes) + ["1 []"] * len(missing)
    assert done.stdout.splitlines() == expected, done.stderr


def test_a_message_of_many_lines_becomes_one(monkeypatch, run, fails):
    def fail(*_, **__):
        raise ValueError("one\n  two")

    monkeypatch.setattr(demo, "run_demo", fail)
    assert fails("demo") == (1, "gandetect: error: one two\n")
    with pytest.raises(ValueError, match="one"):
        cli.main(["--traceback", "demo"])


def test_a_warning_is_one_line(monkeypatch, run):
    def warn(*_, **__):
        warnings.simplefilter("always")
        warnings.warn("one\n  two", stacklevel=1)

    monkeypatch.setattr(demo, "run_demo", warn)
    assert run("demo") == (0, "", "gandetect: warning: one two\n")


def test_a_defect_is_not_taken_for_a_mistake(monkeypatch):
    def fail(*_, **__):
        raise AssertionError

    monkeypatch.setattr(demo, "run_demo", fail)
    with pytest.raises(AssertionError):
        cli.main(["demo"])


def test_ctrl_c(monkeypatch, run):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "run_demo", interrupt)
    assert run("demo") == (130, "", "gandetect: interrupted\n")


def test_ctrl_c_before_the_command_runs(monkeypatch, run):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(main_module, "build_parser", interrupt)
    assert run("demo") == (130, "", "gandetect: interrupted\n")


def test_ctrl_c_in_a_training_leaves_the_model_that_was_there(monkeypatch, run, table, tmp_path):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(gandetect.GANomalyDetector, "fit", interrupt)
    (tmp_path / "m").write_bytes(b"a good one")
    labels = ("--data", table, "--label-column", "kind", "--normal-class", "good")
    code, out, err = run("fit", "ganomaly", *labels, "--out", tmp_path / "m")
    assert (code, out, err) == (130, "", "gandetect: interrupted\n")
    assert (tmp_path / "m").read_bytes() == b"a good one"


def test_messages_name_options(fails, table, model, tmp_path, monkeypatch):
    monkeypatch.delenv("GANDETECT_DATA", raising=False)
    fit = ("fit", "ganomaly", "--normal-class", "1", "--out", tmp_path / "m")
    assert "pass --data-dir" in fails(*fit, "--data", "mnist")[1]
    for name in ("mnist", "fashion-mnist", "cifar10", "kddcup99"):
        _, err = fails(*fit, "--data", name, "--data-dir", tmp_path)
        assert "add --download" in err
    code, err = fails("evaluate", model, "--data", table, "--label-column", "kind")
    assert (code, "good (50), bad (10); define the anomalies by" in err) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "COMMAND"),
        (["dome"], "invalid choice: 'dome'"),
        (["demo", "--seed", "x"], "an integer, 0 to"),
        (["demo", "--epochs", "0"], "at least 1"),
        (["demo", "--detectors", "A,,B"], "a name is missing"),
        (["demo", "--detectors", "Gnomaly"], "there is no detector 'Gnomaly'; choose from"),
        (["demo", "extra"], "extra"),
        (["fit"], "required"),
        (["fit", "gnomaly", "--data", "x", "--out", "y"], "there is no detector 'gnomaly'"),
        (["fit", "ganomaly", "--data", "x", "--out", "y", "--set", "epochs"], "NAME=VALUE"),
        (["fit", "ganomaly", "--data", "x", "--out", "y", "--epochs", "3"], "by --set NAME=VALUE"),
    ],
)
def test_arguments_that_can_not_be_read(arguments, message, fails):
    code, err = fails(*arguments)
    assert code == 2
    assert message in err


def commands_of(page):
    """The lines of a page that begin with gandetect, joined where they go on below."""
    for block in re.findall(r"^```sh\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            if line.split()[:1] == ["gandetect"]:
                yield shlex.split(line)[1:]


PAGES = [page for page in sorted((ROOT / "docs").rglob("*.md")) if any(commands_of(page))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_commands_on_pages_can_be_read(page, monkeypatch):
    for command in commands_of(page):
        options = build_parser(command).parse_args(command)
        if command[0] == "fit":
            monkeypatch.setattr(options, "device", "cpu")
            with contextlib.suppress(FileNotFoundError):  # the reader's own folders
                build_detector(detector_class(options.detector), _parameters(options))
