"""The options that several commands have, and the types of their values."""

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
a table (.csv, .tsv, .txt, also packed as .gz; .parquet, or a folder of these; - for a table on
standard input), an array (.npy, .npz), a folder of images, one image, or a data set by name: mnist,
fashion-mnist, cifar10, kddcup99, mvtec:CATEGORY, adbench:SET (see gandetect datasets); for
fit and evaluate, mvtec:all is every category"""


class UsageError(ValueError):
    """The options do not fit together, or one has a value that cannot be used."""


def known_detectors() -> list[str]:
    """Return the names of the detectors."""
    return [
        name for name in gandetect.__all__ if name.endswith("Detector") and name != "BaseDetector"
    ]


def detector_name(text: str) -> str:
    """Find a detector's name, given in any case, with or without "Detector" at its end."""
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
    """Cut a list like "a,b" at its commas."""
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
    """Make the type of an option whose value is a number between two others, or one of these."""
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
    """Read one character, or the name of one that is hard to type."""
    return {"tab": "\t", "\\t": "\t", "space": " "}.get(text.lower(), text)


def image_size(text: str) -> int | tuple[int, int]:
    """Read "64" as a square and "48,64" as height and width."""
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
    """Add what says where the samples come from."""
    group = parser.add_argument_group("data")
    group.add_argument("--data", required=True, metavar="DATA", help=_DATA)
    group.add_argument(
        "--data-dir",
        metavar="DIR",
        help="folder of the data sets that have names (default: that of GANDETECT_DATA)",
    )
    group.add_argument("--download", action="store_true", help="fetch a data set that is not there")
    group.add_argument(
        "--label-column",
        metavar="NAME",
        help="column of a table, by name or number from 0, or array of an .npz, that holds labels",
    )
    group.add_argument(
        "--label-file",
        metavar="FILE",
        help="labels in a file of their own: .npy, one a line, or the marks that a report exports",
    )
    group.add_argument(
        "--id-column",
        metavar="NAME",
        help="column of a table that names the rows; it is no feature, and predict writes it",
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
        help="what stands for a gap in a table, such as ?, beside empty cells, NA, NaN and null",
    )
    _add_text(group)
    group.add_argument(
        "--image-size",
        type=image_size,
        metavar="N",
        help="resize images to N or HEIGHT,WIDTH (default: as the model was fitted, which keeps "
        "what --image-size, --keep-aspect, --channels and --bit-depth said)",
    )
    group.add_argument(
        "--keep-aspect",
        action="store_true",
        help="give the longer side --image-size, and squeeze no image",
    )
    group.add_argument(
        "--channels", type=int, choices=(1, 3), help="make images grey (1) or coloured (3)"
    )
    group.add_argument(
        "--bit-depth",
        type=bit_depth,
        metavar="N",
        help="bits that the values in image files of more than 8 use, to bring them to 8; auto "
        "keeps all levels (default: auto)",
    )
    group.add_argument(
        "--on-error",
        choices=("stop", "skip"),
        help="skip leaves image files out that cannot be read (default: stop)",
    )


def _add_text(group: Any) -> None:
    """Add how the text of a table is written, where it is not to be found out."""
    group.add_argument(
        "--delimiter",
        type=character,
        metavar="CHAR",
        help="between the cells of a table in a text file, such as ; or tab (default: found out)",
    )
    group.add_argument(
        "--decimal",
        choices=(".", ","),
        metavar="MARK",
        help="decimal mark of a table, . or , (default: found out)",
    )
    group.add_argument(
        "--thousands",
        type=character,
        metavar="CHAR",
        help="between groups of three digits (default: numbers with such groups are refused)",
    )
    group.add_argument(
        "--encoding",
        metavar="NAME",
        help="of the text of a table, such as latin-1 (default: UTF-8, or what its beginning says)",
    )
    group.add_argument(
        "--header",
        choices=("yes", "no"),
        help="whether the first line of a table names its columns (default: found out)",
    )


def data_folder(options: argparse.Namespace) -> Path:
    """Return the folder of the data sets that have names.

    Raises
    ------
    UsageError
        If neither the option nor the environment names it.
    """
    from gandetect.datasets.files import DATA_DIR_VARIABLE, resolve_data_dir

    if options.data_dir is None and not os.environ.get(DATA_DIR_VARIABLE):
        raise UsageError(
            "no data folder is known: give --data-dir, or set the environment variable "
            f"{DATA_DIR_VARIABLE} to the folder that holds the data sets"
        )
    return resolve_data_dir(options.data_dir)


def add_protocol(parser: argparse.ArgumentParser) -> None:
    """Add what says which samples are anomalies, and which are trained and tested on."""
    group = parser.add_argument_group(
        "protocol",
        "Which labels mean an anomaly (without these: 1 of 0 and 1, -1 of -1 and 1, true of false "
        "and true, and words such as fraud or anomaly beside normal), and which part "
        " of the data is used. The same options and seed give the same parts in every command.",
    )
    group.add_argument(
        "--anomalous-class",
        "--anomalous",
        type=names,
        metavar="A,B",
        help="these classes are anomalies, all others are normal; beside --normal-class, those of "
        "neither are left out",
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
        help="train: some of the normal samples; test: the other normal ones and the anomalies; "
        "all: no split (default: all of a file, but to fit without what is labelled an anomaly; of "
        "a data set with a name, train to fit, and test for the other commands)",
    )
    group.add_argument(
        "--outlier-fraction",
        type=number(float, 0, 1, with_limits=False),
        metavar="F",
        help="share of anomalies in the test part (default: all that there are)",
    )
    group.add_argument(
        "--n-train",
        type=number(int, 1),
        metavar="N",
        help="samples of the training part (default: 80%% of the normal samples where classes are "
        "given, else half of them)",
    )
    add_seed(group)


def add_seed(parser: Any) -> None:
    """Add the seed of all that is drawn."""
    parser.add_argument(
        "--seed",
        type=number(int, 0, 2**32 - 1),
        default=0,
        metavar="N",
        help="of the split and of the detector (default: 0)",
    )


def add_device(parser: Any, default: str | None) -> None:
    """Add where the networks run."""
    parser.add_argument(
        "--device", default=default, metavar="D", help="auto, cpu, cuda, cuda:1 or mps"
    )


def add_model(parser: argparse.ArgumentParser) -> None:
    """Add the fitted detector, and where it runs."""
    parser.add_argument("model", metavar="MODEL", help="file that gandetect fit wrote")
    add_device(parser, None)
    add_classifier(parser)


def add_classifier(parser: Any) -> None:
    """Add the file of the classifier that a detector guards."""
    parser.add_argument(
        "--classifier",
        metavar="FILE",
        help="the classifier that AdversarialVAE guards: .skops, which is data, or .pt2 of "
        "torch.export, which runs its author's code when it is opened, and which a model leaves "
        "out so that every command needs it",
    )


def given_classifier(options: argparse.Namespace) -> dict[str, Any]:
    """Return the classifier of ``--classifier`` under its parameter's name, if there is one."""
    if options.classifier is None:
        return {}
    from gandetect.classifiers.files import read_classifier

    return {"classifier": read_classifier(options.classifier)}


def add_outlier_perc(parser: argparse.ArgumentParser) -> None:
    """Add a threshold other than the model's."""
    parser.add_argument(
        "--outlier-perc",
        type=number(float, 0, 100),
        metavar="P",
        help="put the threshold where it flags P percent of the data (5 for one sample in twenty), "
        "instead of the model's",
    )


def add_output(parser: argparse.ArgumentParser) -> None:
    """Add where the result goes, and how it is written."""
    group = parser.add_argument_group("output")
    group.add_argument(
        "--format",
        choices=("table", "csv", "json"),
        help="of the result (default: what the ending of --out says, else a table)",
    )
    group.add_argument("--out", metavar="FILE", help="file of the result (default: show it)")


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


def detector_class(name: str) -> type[BaseDetector]:
    """Return the class of a detector by its full name."""
    found: type[BaseDetector] = getattr(gandetect, name)
    return found


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
