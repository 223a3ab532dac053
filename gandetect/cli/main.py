"""The commands together: their parser, their exit codes, and errors told in one line."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

from gandetect import __version__
from gandetect.cli import animate, benchmark, datasets, demo, evaluate, fit, score
from gandetect.cli import map as map_command
from gandetect.cli.options import UsageError
from gandetect.cli.wording import for_commands
from gandetect.distributed import ProcessLostError

OK, FAILED, MISUSED, INTERRUPTED = 0, 1, 2, 130

# What the package raises for input that it cannot use, and Python for files that it cannot.
_USER_ERRORS = (ValueError, TypeError, OSError, ImportError, MemoryError, ProcessLostError)

COMMANDS: tuple[Callable[[Any], None], ...] = (
    fit.add_fit,
    score.add_score,
    score.add_predict,
    evaluate.add_evaluate,
    map_command.add_map,
    animate.add_animate,
    benchmark.add_benchmark,
    datasets.add_datasets,
    demo.add_demo,
)

_EPILOG = """\
Each command says more with --help. Exit codes: 0, done; 1, failed, such as for a file that is
missing or damaged; 2, the arguments cannot be used; 130, interrupted. Errors and progress go to
standard error, results to standard output.
"""


class _Parser(argparse.ArgumentParser):
    """A parser that tells a mistake in one line; `argparse` prints the usage before it."""

    def error(self, message: str) -> NoReturn:
        self.exit(
            MISUSED, f"{self.prog}: error: {for_commands(message)} (see {self.prog} --help)\n"
        )


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of all commands; each sets ``run``, a function of the options."""
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
    for add_command in COMMANDS:
        add_command(commands)
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
        The exit code: 0; 1 if the command failed, which is told in one line; 2 for options that
        do not fit together; 130 for Ctrl-C.

    Raises
    ------
    SystemExit
        With code 2 for arguments that cannot be read, with 0 after ``--help``.
    """
    options = argparse.Namespace(traceback=False)
    try:
        options = build_parser().parse_args(arguments)
        with _warnings_in_one_line():
            options.run(options)
            sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read the output has closed it, as `head` does; Python would complain at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except _USER_ERRORS as error:
        if options.traceback:
            raise
        _tell("error", str(error) or type(error).__name__)
        return MISUSED if isinstance(error, UsageError) else FAILED
    except KeyboardInterrupt:
        print("gandetect: interrupted", file=sys.stderr)
        return INTERRUPTED
    return OK


@contextmanager
def _warnings_in_one_line() -> Iterator[None]:
    """Show warnings as errors are shown, without the line of code that they come from."""
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: _tell("warning", str(message))
        yield


def _tell(kind: str, message: str) -> None:
    print(f"gandetect: {kind}: {for_commands(message)}", file=sys.stderr)
