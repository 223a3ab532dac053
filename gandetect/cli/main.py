"""The main command: parser, exit codes, and errors in one line."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import NoReturn

from gandetect import __version__
from gandetect.cli.options import UsageError

OK, FAILED, MISUSED, INTERRUPTED = 0, 1, 2, 130

# Errors that the package raises for invalid input, and errors of files.
_USER_ERRORS = (ValueError, TypeError, OSError, ImportError, MemoryError)

# For each command its module, which contains the function add_<command>, and its line in the help.
# Only the module of the given command is imported, so that help and errors do not import torch.
COMMANDS = {
    "fit": ("fit", "fit a detector and save it"),
    "score": ("score", "write the anomaly score of each sample"),
    "predict": ("score", "write the predicted label of each sample"),
    "correct": ("score", "correct the labels of a classifier for adversarial examples"),
    "evaluate": ("evaluate", "evaluate a fitted detector on labelled data"),
    "map": ("map", "write the anomaly map of each sample"),
    "report": (
        "report",
        "write an HTML report on scored data, with curves and the most anomalous samples",
    ),
    "info": ("info", "print the summary of a detector: data, parameters, training, threshold"),
    "animate": ("animate", "make an animation of a training"),
    "benchmark": ("benchmark", "compare detectors with isolation forest and nearest neighbours"),
    "datasets": ("datasets", "list the data sets with names"),
    "demo": ("demo", "fit every detector to real data, print a table, save figures"),
}

_EPILOG = """\
--help after a command lists its options. Exit codes: 0, success; 1, failure, such as a missing or
damaged file; 2, invalid arguments; 130, interrupted. Errors and progress are written to standard
error, results to standard output.
"""


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line; `argparse` prints the usage before them."""

    sets_parameters = False

    def error(self, message: str) -> NoReturn:
        line = " ".join(message.split())
        if self.sets_parameters and line.startswith("unrecognized arguments: --"):
            line += "; parameters of the detector are set by --set NAME=VALUE"
        self.exit(MISUSED, f"{self.prog}: error: {line} (see {self.prog} --help)\n")


def build_parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    """Create the parser of the command in the arguments; its help lists the other commands.

    The command sets ``run``, a function of the options.
    """
    # Options before the command have no value.
    named = next((argument for argument in arguments if not argument.startswith("-")), None)
    parser = _Parser(
        prog="gandetect",
        description="Adversarial anomaly detection on rows and images.",
        epilog=_EPILOG,
    )
    parser.add_argument("--version", action="version", version=f"gandetect {__version__}")
    parser.add_argument("--traceback", action="store_true", help="show the traceback of an error")
    parser.sets_parameters = named == "fit"
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name, (module, what) in COMMANDS.items():
        if name == named:
            getattr(import_module(f"gandetect.cli.{module}"), f"add_{name}")(commands)
        else:
            commands.add_parser(name, help=what)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Parameters
    ----------
    arguments : sequence of str or None, default=None
        The arguments after the name of the program; None reads them from ``sys.argv``.

    Returns
    -------
    int
        The exit code: 0; 1 if the command failed, with one line of error; 2 for incompatible
        options; 130 for Ctrl-C.

    Raises
    ------
    SystemExit
        With code 2 for invalid arguments, with 0 after ``--help``.
    """
    options = argparse.Namespace(traceback=False)
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        with _warnings_in_one_line():
            options = build_parser(arguments).parse_args(arguments)
            _check_model(options)
            options.run(options)
            sys.stdout.flush()
    except BrokenPipeError:
        # The reader of standard output has closed it, as `head` does. Without this redirection,
        # Python would print an error at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except Exception as error:
        if options.traceback or not _is_told(error):
            raise
        _tell("error", str(error) or type(error).__name__)
        return MISUSED if isinstance(error, UsageError) else FAILED
    except KeyboardInterrupt:
        print("gandetect: interrupted", file=sys.stderr)
        return INTERRUPTED
    return OK


def _check_model(options: argparse.Namespace) -> None:
    """Raise FileNotFoundError for a missing model, before torch is imported."""
    model = getattr(options, "model", None)
    if model is not None and not os.path.exists(os.path.expanduser(model)):
        raise FileNotFoundError(f"There is no file {model!r}.")


def _is_told(error: Exception) -> bool:
    """Return whether this is a user error or a failure of the environment, not a defect."""
    distributed = sys.modules.get("gandetect.distributed")
    lost = (distributed.ProcessLostError,) if distributed else ()
    return isinstance(error, (*_USER_ERRORS, *lost))


@contextmanager
def _warnings_in_one_line() -> Iterator[None]:
    """Show each warning in one line, like errors, without the line of code."""
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: _tell("warning", str(message))
        yield


def _tell(kind: str, message: str) -> None:
    print(f"gandetect: {kind}: {' '.join(message.split())}", file=sys.stderr)
