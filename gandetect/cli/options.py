"""The options that several commands have, and the types of their values."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from gandetect.base import BaseDetector
from gandetect.demo.methods import select_detectors

_DATA = """\
a file (.npy, .npz, .csv, .tsv, .parquet), a folder of images, one image, or a data set by name:
mnist, fashion-mnist, cifar10, kddcup99, mvtec:CATEGORY, adbench:SET (see gandetect datasets); for
fit and evaluate, mvtec:all is every category"""


class UsageError(ValueError):
    """The options do not fit together, or one has a value that cannot be used."""


def detector_class(text: str) -> type[BaseDetector]:
    """Find a detector by its name, in any case, with or without "Detector" at its end."""
    try:
        (found,) = select_detectors([text]).values()
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return found


def detector_classes(text: str) -> dict[str, type[BaseDetector]]:
    """Find the detectors of a list like "ganomaly,bigan"."""
    try:
        return select_detectors(names(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


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


def image_size(text: str) -> int | tuple[int, int]:
    """Read "64" as a square and "48,64" as height and width."""
    try:
        sides = [int(side) for side in text.split(",")]
    except ValueError:
        sides = []
    if len(sides) not in (1, 2) or min(sides) < 1:
        raise argparse.ArgumentTypeError(f"expected N or HEIGHT,WIDTH in pixels, got {text!r}")
    return sides[0] if len(sides) == 1 else (sides[0], sides[1])


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
        "--labels", metavar="FILE", help="labels in a file of their own, .npy or one a line"
    )
    group.add_argument(
        "--drop-columns", type=names, default=[], metavar="A,B", help="columns of a table to ignore"
    )
    group.add_argument(
        "--delimiter", metavar="CHAR", help="between the values of a .csv (default: a comma)"
    )
    group.add_argument(
        "--image-size", type=image_size, metavar="N", help="resize images to N or HEIGHT,WIDTH"
    )
    group.add_argument(
        "--channels", type=int, choices=(1, 3), help="make images grey (1) or coloured (3)"
    )


def add_protocol(parser: argparse.ArgumentParser) -> None:
    """Add what says which samples are anomalies, and which are trained and tested on."""
    group = parser.add_argument_group(
        "protocol",
        "Which labels mean an anomaly (without these: 1 of 0 and 1, -1 of -1 and 1), and which "
        "part of the data is used. The same options and seed give the same parts in every command.",
    )
    group.add_argument(
        "--anomalous-class",
        type=names,
        metavar="A,B",
        help="these classes are anomalies, all others are normal",
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


def add_outlier_perc(parser: argparse.ArgumentParser) -> None:
    """Add a threshold other than the model's."""
    parser.add_argument(
        "--outlier-perc",
        type=number(float, 0, 100),
        metavar="P",
        help="put the threshold where it flags P percent of the data, instead of the model's",
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
