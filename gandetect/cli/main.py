"""The commands together: their parser, their exit codes, and errors reported in one line."""

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

# What the package raises for input that it cannot use, and Python for files that it cannot.
_USER_ERRORS = (ValueError, TypeError, OSError, ImportError, MemoryError)

# Of each command its module, which has the function add_<command>, and its line in the help. Only
# the module of the command that is run is imported, so that help and mistakes are told at once.
COMMANDS = {
    "fit": ("fit", "fit a detector and save it"),
    "score": ("score", "say how anomalous each sample is"),
    "predict": ("score", "say which samples are anomalies"),
    "correct": ("score", "correct a classifier's labels of samples that were made to fool it"),
    "evaluate": ("evaluate", "judge a fitted detector by labels"),
    "map": ("map", "write where in each sample the anomaly is"),
    "report": (
        "report",
        "write a page about scored data, with curves and the most anomalous samples",
    ),
    "info": ("info", "say what a fitted detector is: data, parameters, training, threshold"),
    "animate": ("animate", "make an animation of a training"),
    "benchmark": ("benchmark", "compare detectors with isolation forest and nearest neighbours"),
    "datasets": ("datasets", "list the data sets that have names"),
    "demo": ("demo", "fit every detector to real data, print a table, save pictures"),
}

_EPILOG = """\
Each command says more with --help. Exit codes: 0, done; 1, failed, such as for a file that is
missing or damaged; 2, the arguments cannot be used; 130, interrupted. Errors and progress go to
standard error, results to standard output.
"""


class _Parser(argparse.ArgumentParser):
    """A parser that tells a mistake in one line; `argparse` prints the usage before it."""

    def error(self, message: str) -> NoReturn:
        line = " ".join(message.split())
        self.exit(MISUSED, f"{self.prog}: error: {line} (see {self.prog} --help)\n")


def build_parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    """Build the parser of the command that the arguments name, and list the others.

    The command sets ``run``, a function of the options.
    """
    # Before the command stand only options that take no value.
    named = next((argument for argument in arguments if not argument.startswith("-")), None)
    parser = _Parser(
        prog="gandetect",
        description="Adversarial anomaly detection on rows and images.",
        epilog=_EPILOG,
    )
    parser.add_argument("--version", action="version", version=f"gandetect {__version__}")
    parser.add_argument(
        "--traceback", action="store_true", help="show where in the code an error arose"
    )
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
        What follows the program's name; None takes it from ``sys.argv``.

    Returns
    -------
    int
        The exit code: 0; 1 if the command failed, which is reported in one line; 2 for options that
        do not fit together; 130 for Ctrl-C.

    Raises
    ------
    SystemExit
        With code 2 for arguments that cannot be read, with 0 after ``--help``.
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
        # Whoever read the output has closed it, as `head` does; Python would complain at its end.
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
    """Raise FileNotFoundError for a model that is not there, before torch is imported."""
    model = getattr(options, "model", None)
    if model is not None and not os.path.exists(os.path.expanduser(model)):
        raise FileNotFoundError(f"There is no file {model!r}.")


def _is_told(error: Exception) -> bool:
    """Whether this is a mistake of the user's or a failure around the program, not a defect."""
    distributed = sys.modules.get("gandetect.distributed")
    lost = (distributed.ProcessLostError,) if distributed else ()
    return isinstance(error, (*_USER_ERRORS, *lost))


@contextmanager
def _warnings_in_one_line() -> Iterator[None]:
    """Show warnings as errors are shown, without the line of code that they come from."""
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: _tell("warning", str(message))
        yield


def _tell(kind: str, message: str) -> None:
    print(f"gandetect: {kind}: {' '.join(message.split())}", file=sys.stderr)
