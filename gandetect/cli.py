"""The command line: arguments only; what a command does lives in the module that it calls.

A further command is one function that adds its parser, named in `_COMMANDS`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from gandetect import __version__
from gandetect.demo import run_demo

# What the package raises for input that it cannot use, and Python for files that it cannot.
_USER_ERRORS = (ValueError, TypeError, OSError, ImportError)


def _add_demo(commands: Any) -> None:
    parser = commands.add_parser(
        "demo",
        help="fit every detector to real data, print a table, save pictures",
        description=(
            "Fit every detector to data that ships with scikit-learn (rows: breast cancer; images: "
            "digits), infer thresholds, predict; print one table with two baselines in it and "
            "save pictures. Takes a minute or two."
        ),
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--out", default="demo-output", metavar="DIR", help="folder for pictures")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of splits and methods")
    parser.add_argument(
        "--detectors",
        type=_names,
        default=argparse.SUPPRESS,
        metavar="A,B",
        help="only these detectors, such as GANomaly (default: all)",
    )
    parser.add_argument(
        "--epochs",
        type=int,
        default=argparse.SUPPRESS,
        metavar="N",
        help="of every fit, for a quicker look (default: 40 to 200, by task)",
    )
    parser.set_defaults(run=run_demo)


_COMMANDS = (_add_demo,)


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise argparse.ArgumentTypeError(f"a name is missing in {text!r}")
    return names


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of all commands; each sets ``run``, which takes its other arguments."""
    parser = argparse.ArgumentParser(
        prog="gandetect", description="Adversarial anomaly detection on rows and images."
    )
    parser.add_argument("--version", action="version", version=f"gandetect {__version__}")
    parser.add_argument(
        "--traceback", action="store_true", help="show where in the code an error arose"
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for add_command in _COMMANDS:
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
        The exit code: 0, 2 for a user's mistake, which is told in one line, or 130 for Ctrl-C.
    """
    options = vars(build_parser().parse_args(arguments))
    run, show_traceback = options.pop("run"), options.pop("traceback")
    try:
        run(**options)
    except _USER_ERRORS as error:
        if show_traceback:
            raise
        print(f"gandetect: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("gandetect: interrupted", file=sys.stderr)
        return 130
    return 0
