"""The options of several commands, and the types of their values."""

from __future__ import annotations

import argparse
import ast
import difflib
import inspect
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gandetect

if TYPE_CHECKING:
    from gandetect.base import BaseDetector

Setting = tuple[str, Any]

_DATA = """\
a table (.csv, .tsv, .txt, also compressed as .gz; .parquet, or a folder of these; - for a table on
standard input), an array (.npy, .npz), a folder of images, one image, or a data set by name: mnist,
fashion-mnist, cifar10, kddcup99, mvtec:CATEGORY, adbench:SET (see gandetect datasets); for
fit and evaluate, mvtec:all is every category"""


class UsageError(ValueError):
    """The options are incompatible, or one has an invalid value."""


def known_detectors() -> list[str]:
    """Return the names of the detectors."""
    return [
        name for name in gandetect.__all__ if name.endswith("Detector") and name != "BaseDetector"
    ]


def detector_name(text: str) -> str:
    """Find the name of a detector, in upper or lower case, with or without "Detector"."""
    plain_names = {_plain(name): name for name in known_detectors()}
    if _plain(text) not in plain_names:
        raise argparse.ArgumentTypeError(
            f"there is no detector {text!r}; choose from {', '.join(known_detectors())}"
        )
    return plain_names[_plain(text)]


def _plain(name: str) -> str:
    return re.sub("[-_ ]", "", name).lower().removesuffix("detector")


def detector_names(text: str) -> list[str]:
    """Find the detectors of a list like "ganomaly,bigan"."""
    return list(dict.fromkeys(detector_name(name) for name in names(text)))


def names(text: str) -> list[str]:
    """Split a list like "a,b" at its commas."""
    entries = [entry.strip() for entry in text.split(",")]
    if not all(entries):
        raise argparse.ArgumentTypeError(f"a name is missing in {text!r}")
    return entries


def number(
    convert: Callable[[str], Any],
    minimum: float,
    maximum: float = float("inf"),
    *,
    with_limits: bool = True,
) -> Callable[[str], Any]:
    """Return the argparse type of an option whose value is a number in a range."""
    kind = "an integer" if convert is int else "a number"
    limits = f"at least {minimum:g}" if maximum == float("inf") else f"{minimum:g} to {maximum:g}"
    if not with_limits:
        limits = f"above {minimum:g} and below {maximum:g}"

    def checked(text: str) -> Any:
        try:
            value = convert(text)
        except ValueError:
            value = float("nan")
        is_limit = value in (minimum, maximum)
        if not minimum <= value <= maximum or (is_limit and not with_limits):
            raise argparse.ArgumentTypeError(f"expected {kind}, {limits}, got {text!r}")
        return value

    return checked


def character(text: str) -> str:
    """Read one character, or the name of one, such as "tab"."""
    return {"tab": "\t", "\\t": "\t", "space": " "}.get(text.lower(), text)


def image_size(text: str) -> int | tuple[int, int]:
    """Read "64" as the longer side and "48,64" as height and width."""
    try:
        sides = [int(side) for side in text.split(",")]
    except ValueError:
        sides = []
    if len(sides) not in (1, 2) or min(sides) < 1:
        raise argparse.ArgumentTypeError(f"expected N or HEIGHT,WIDTH in pixels, got {text!r}")
    return sides[0] if len(sides) == 1 else (sides[0], sides[1])


def bit_depth(text: str) -> str | int:
    """Read "auto" or a number of bits."""
    return text if text == "auto" else int(number(int, 8, 16)(text))


def add_data(parser: argparse.ArgumentParser) -> None:
    """Add the options for reading the samples."""
    group = parser.add_argument_group("data")
    group.add_argument("--data", required=True, metavar="DATA", help=_DATA)
    group.add_argument(
        "--data-dir",
        metavar="DIR",
        help="folder of the data sets with names (default: GANDETECT_DATA)",
    )
    group.add_argument("--download", action="store_true", help="download a missing data set")
    group.add_argument(
        "--label-column",
        metavar="NAME",
        help="column of labels of a table, by name or number from 0, or array of an .npz",
    )
    group.add_argument(
        "--label-file",
        metavar="FILE",
        help="separate file of labels: .npy, one for each line, or exported marks of a report",
    )
    group.add_argument(
        "--id-column",
        metavar="NAME",
        help="column of a table that identifies the rows; not a feature, written by predict",
    )
    group.add_argument(
        "--drop-columns", type=names, default=[], metavar="A,B", help="columns of a table to ignore"
    )
    group.add_argument(
        "--missing",
        "--missing-values",
        type=names,
        default=[],
        metavar="A,B",
        help=(
            "additional marks of missing values, such as ?; empty cells, NA, NaN and null always "
            "mark missing values"
        ),
    )
    _add_text(group)
    group.add_argument(
        "--image-size",
        type=image_size,
        metavar="N",
        help="resize images: N is the longer side, and the aspect ratio is kept; HEIGHT,WIDTH is "
        "the size of all images (default: the settings of the model for --image-size, "
        "--keep-aspect, --channels and --bit-depth)",
    )
    group.add_argument(
        "--keep-aspect",
        action="store_true",
        help="keep the aspect ratio also with --image-size HEIGHT,WIDTH: neither side exceeds its "
        "size",
    )
    group.add_argument(
        "--channels", type=int, choices=(1, 3), help="convert images to grey (1) or colour (3)"
    )
    group.add_argument(
        "--bit-depth",
        type=bit_depth,
        metavar="N",
        help="number of bits that image files of more than 8 bits use, to convert them to 8; auto "
        "keeps all levels (default: auto)",
    )
    group.add_argument(
        "--on-error",
        choices=("stop", "skip"),
        help="skip leaves out image files that cannot be read (default: stop)",
    )


def _add_text(group: Any) -> None:
    """Add the options for the text format of a table, which override its detection."""
    group.add_argument(
        "--delimiter",
        type=character,
        metavar="CHAR",
        help="delimiter of the cells of a text table, such as ; or tab (default: detected)",
    )
    group.add_argument(
        "--decimal",
        choices=(".", ","),
        metavar="MARK",
        help="decimal mark of a table, . or , (default: detected)",
    )
    group.add_argument(
        "--thousands",
        type=character,
        metavar="CHAR",
        help="thousands separator (default: detected; an error if it is ambiguous)",
    )
    group.add_argument(
        "--encoding",
        metavar="NAME",
        help="encoding of a text table, such as latin-1 (default: UTF-8, or its byte order mark)",
    )
    group.add_argument(
        "--header",
        choices=("yes", "no"),
        help="whether the first line of a table names its columns (default: detected)",
    )


def data_folder(options: argparse.Namespace) -> Path:
    """Return the folder of the named data sets.

    Raises
    ------
    UsageError
        If neither the option nor the environment variable is set.
    """
    from gandetect.datasets.files import DATA_DIR_VARIABLE, resolve_data_dir

    if options.data_dir is None and not os.environ.get(DATA_DIR_VARIABLE):
        raise UsageError(
            "the data folder is not set: pass --data-dir, or set the environment variable "
            f"{DATA_DIR_VARIABLE} to the folder of the data sets"
        )
    return resolve_data_dir(options.data_dir)


def add_protocol(parser: argparse.ArgumentParser) -> None:
    """Add the options that define the anomalies, and the training and test parts."""
    group = parser.add_argument_group(
        "protocol",
        "The labels of anomalies (default: 1 in labels 0 and 1, -1 in labels -1 and 1, true in "
        "booleans, and words such as fraud or anomaly together with normal), and the part "
        "of the data. The same options and seed give the same parts in every command.",
    )
    group.add_argument(
        "--anomalous-class",
        "--anomalous",
        type=names,
        metavar="A,B",
        help="these classes are anomalies, all others are normal; with --normal-class, samples of "
        "other classes are left out",
    )
    group.add_argument(
        "--normal-class",
        type=names,
        metavar="A,B",
        help="these classes are normal, all others are anomalies",
    )
    group.add_argument(
        "--part",
        choices=("train", "test", "all"),
        help="train: a part of the normal samples; test: the other normal samples and the "
        "anomalies; all: no split (default: all of a file, for fit without labelled anomalies; for "
        "a data set with a name, train for fit, and test for the other commands)",
    )
    group.add_argument(
        "--outlier-fraction",
        type=number(float, 0, 1, with_limits=False),
        metavar="F",
        help="share of anomalies in the test part (default: all anomalies)",
    )
    group.add_argument(
        "--n-train",
        type=number(int, 1),
        metavar="N",
        help="number of training samples (default: 80%% of the normal samples if classes are "
        "given, else half of them)",
    )
    add_seed(group)


def add_seed(parser: Any) -> None:
    """Add the random seed."""
    parser.add_argument(
        "--seed",
        type=number(int, 0, 2**32 - 1),
        default=0,
        metavar="N",
        help="seed of the split and of the detector (default: 0)",
    )


def add_device(parser: Any, default: str | None) -> None:
    """Add the device of the networks."""
    parser.add_argument(
        "--device", default=default, metavar="D", help="auto, cpu, cuda, cuda:1 or mps"
    )


def add_model(parser: argparse.ArgumentParser) -> None:
    """Add the fitted detector and its device."""
    parser.add_argument("model", metavar="MODEL", help="file of gandetect fit")
    add_device(parser, None)
    add_classifier(parser)


def add_classifier(parser: Any) -> None:
    """Add the file of the classifier that a detector protects."""
    parser.add_argument(
        "--classifier",
        metavar="FILE",
        help=(
            "the classifier that AdversarialVAE protects: a .skops file, which contains data only, "
            "or a .pt2 file of torch.export, which runs code of its author when it is loaded; a "
            ".pt2 classifier is not saved in the model, so that every command needs this option"
        ),
    )


def given_classifier(options: argparse.Namespace) -> dict[str, Any]:
    """Return the classifier of ``--classifier`` by the name of its parameter; empty without it."""
    if options.classifier is None:
        return {}
    from gandetect.classifiers.files import read_classifier

    return {"classifier": read_classifier(options.classifier)}


def add_outlier_perc(parser: argparse.ArgumentParser) -> None:
    """Add the option for a threshold other than that of the model."""
    parser.add_argument(
        "--outlier-perc",
        type=number(float, 0, 100),
        metavar="P",
        help="flag P percent of the data (5 for one sample in twenty) instead of using the "
        "threshold of the model",
    )


def add_output(parser: argparse.ArgumentParser) -> None:
    """Add the path and the format of the result."""
    group = parser.add_argument_group("output")
    group.add_argument(
        "--format",
        choices=("table", "csv", "json"),
        help="format of the result (default: by the extension of --out, else a table)",
    )
    group.add_argument("--out", metavar="FILE", help="output file (default: standard output)")


def add_set(parser: Any) -> None:
    """Add the option ``--set``."""
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
    """Read ``name=value``: the value is a Python literal, an architecture, or else a string."""
    name, equals, value = (part.strip() for part in text.partition("="))
    if not equals or not name.isidentifier():
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, got {text!r}")
    try:
        return name, _value(ast.parse(value, mode="eval").body)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return name, value


def _value(node: ast.expr) -> Any:
    """Evaluate a literal, or a call of an architecture with literals; run no other code."""
    if not isinstance(node, ast.Call):
        return ast.literal_eval(node)
    from gandetect.networks import ARCHITECTURES

    architectures = {architecture.__name__: architecture for architecture in ARCHITECTURES}
    name = ast.unparse(node.func)
    if name not in architectures or node.args:
        raise ValueError(name)
    arguments = {str(word.arg): ast.literal_eval(word.value) for word in node.keywords}
    try:
        return architectures[name](**arguments)
    except (TypeError, ValueError) as error:
        call = ast.unparse(node)
        raise argparse.ArgumentTypeError(f"{call} is invalid: {error}") from error


def chosen(settings: Iterable[Setting], options: Mapping[str, Any]) -> dict[str, Any]:
    """Merge the parameters of ``--set`` with those of other options.

    Parameters
    ----------
    settings : iterable of (str, object)
        The values of ``--set``.
    options : mapping of str to object
        Values of other options by the name of the parameter; None if an option is not given.

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


def detector_class(name: str) -> type[BaseDetector]:
    """Return the class of a detector by its full name."""
    found: type[BaseDetector] = getattr(gandetect, name)
    return found


def build_detector(Detector: type[BaseDetector], parameters: Mapping[str, Any]) -> BaseDetector:
    """Create a detector.

    Raises
    ------
    UsageError
        For an unknown parameter (the message suggests the nearest name), or an invalid value.
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
