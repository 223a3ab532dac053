"""Command-line options that several benchmarks use."""

from __future__ import annotations

import argparse
import ast
import json
from typing import Any

from detectors import is_ours


def assignment(text: str) -> tuple[str, Any]:
    """Read NAME=VALUE with a Python literal as the value."""
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    try:
        return name, ast.literal_eval(value)
    except (SyntaxError, ValueError):
        return name, value  # a plain string, as in --set score=paper


def add_parameters(parser: argparse.ArgumentParser, whose: str = "our detectors") -> None:
    """Add ``--set NAME=VALUE``."""
    parser.add_argument(
        "--set",
        type=assignment,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help=f"a parameter of {whose}, repeatable; the value in Python's notation",
    )


def as_params(args: argparse.Namespace, detector: str) -> str:
    """Return the parameters of ``--set`` as JSON; empty braces for a baseline."""
    return json.dumps(dict(args.set) if is_ours(detector) else {}, sort_keys=True)


def words(text: str) -> list[str]:
    """Read names separated by commas."""
    return [word.strip() for word in text.split(",")]
