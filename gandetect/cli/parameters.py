"""``--set name=value``: any parameter of a detector, checked against its signature."""

from __future__ import annotations

import argparse
import ast
import difflib
import inspect
from collections.abc import Iterable, Mapping
from typing import Any

from gandetect.base import BaseDetector
from gandetect.cli.options import UsageError
from gandetect.networks import ARCHITECTURES

Setting = tuple[str, Any]


def add_set(parser: Any) -> None:
    """Add the option."""
    parser.add_argument(
        "--set",
        action="append",
        type=setting,
        default=[],
        metavar="NAME=VALUE",
        help="any parameter of the detector, as in --set epochs=50 --set image_shape=(28,28) "
        "--set score=paper --set architecture=ConvNet(n_filters=32); may be repeated",
    )


def setting(text: str) -> Setting:
    """Read ``name=value``: a Python literal, an architecture, or else a word."""
    name, equals, value = (part.strip() for part in text.partition("="))
    if not equals or not name.isidentifier():
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, got {text!r}")
    try:
        return name, _value(ast.parse(value, mode="eval").body)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return name, value


def _value(node: ast.expr) -> Any:
    """A literal, or a call of an architecture with literals; nothing else is ever run."""
    if not isinstance(node, ast.Call):
        return ast.literal_eval(node)
    architectures = {architecture.__name__: architecture for architecture in ARCHITECTURES}
    name = ast.unparse(node.func)
    if name not in architectures or node.args:
        raise ValueError(name)
    arguments = {str(word.arg): ast.literal_eval(word.value) for word in node.keywords}
    try:
        return architectures[name](**arguments)
    except (TypeError, ValueError) as error:
        call = ast.unparse(node)
        raise argparse.ArgumentTypeError(f"{call} cannot be made: {error}") from error


def chosen(settings: Iterable[Setting], options: Mapping[str, Any]) -> dict[str, Any]:
    """Join what ``--set`` says with what options of the same meaning say.

    Parameters
    ----------
    settings : iterable of (str, object)
        From ``--set``.
    options : mapping of str to object
        Values of other options by the parameter's name; None stands for an option left out.

    Raises
    ------
    UsageError
        If a parameter is given twice.
    """
    parameters = {name: value for name, value in options.items() if value is not None}
    for name, value in settings:
        if name in parameters:
            raise UsageError(f"{name} is given twice: {parameters[name]!r} and {value!r}")
        parameters[name] = value
    return parameters


def build_detector(Detector: type[BaseDetector], parameters: Mapping[str, Any]) -> BaseDetector:
    """Build a detector, or say which parameter it does not have or take.

    Raises
    ------
    UsageError
        With the nearest name, for a name that is not in the signature; for a value that the
        detector refuses.
    """
    known = list(inspect.signature(Detector).parameters)
    for name in parameters:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(sorted(known))}"
            raise UsageError(f"{Detector.__name__} has no parameter {name!r}; {hint}")
    try:
        detector = Detector(**parameters)
        detector.check_parameters()
    except (TypeError, ValueError) as error:
        raise UsageError(str(error)) from error
    return detector
