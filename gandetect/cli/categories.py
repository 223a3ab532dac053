"""``mvtec:all``: the categories of a data set in MVTec's layout, one after the other."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gandetect.cli.options import UsageError, data_folder
from gandetect.datasets.mvtec import categories_in

# In the order of the scripts of DRAEM and RDNA, which number the categories from 0; -1 is all.
NUMBERED = (
    "capsule",
    "bottle",
    "carpet",
    "leather",
    "pill",
    "transistor",
    "tile",
    "cable",
    "zipper",
    "toothbrush",
    "metal_nut",
    "hazelnut",
    "screw",
    "grid",
    "wood",
)


def category_of(member: str, folder: Path) -> str:
    """Return the category of a name, or of a number that is not the name of a category.

    Raises
    ------
    UsageError
        If `member` is "all", or not a category.
    """
    if member in ("all", "-1"):
        raise UsageError(
            f"mvtec:{member} is for fit and evaluate only: name one category, as in mvtec:bottle"
        )
    if not member.isdecimal() or member in categories_in(folder):
        return member
    if int(member) >= len(NUMBERED):
        raise UsageError(f"mvtec:{member} is not a category: categories are numbered from 0 to 14")
    return NUMBERED[int(member)]


def one_by_one(options: Namespace) -> dict[str, Namespace]:
    """Return the options of a command for each category in the folder.

    Raises
    ------
    FileNotFoundError
        If there is no category.
    """
    folder = data_folder(options)
    names = categories_in(folder)
    if not names:
        raise FileNotFoundError(
            f"{folder} has no category: put mvtec/<category>/train/good/*.png and test/ into it"
        )
    return {
        name: Namespace(**{**vars(options), "data": f"mvtec:{name}"})
        for name in sorted(names, key=lambda name: (_number(name), name))
    }


def model_of(folder: str, category: str) -> str:
    """Return the path of the detector of a category."""
    return str(Path(folder).expanduser() / f"{category}.model")


def side_by_side(records: Mapping[str, Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Return the columns of a table with one line for each category."""
    names = list(dict.fromkeys(name for record in records.values() for name in record))
    values = {name: [record.get(name) for record in records.values()] for name in names}
    return {"category": list(records), **values}


def with_means(columns: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
    """Add a line of the means of all columns that are not counts."""
    means: dict[str, Any] = {"category": "mean"}
    for name, values in columns.items():
        if all(isinstance(value, float) for value in values):
            means[name] = float(np.mean(values))
    return {name: [*values, means.get(name)] for name, values in columns.items()}


def _number(name: str) -> int:
    return NUMBERED.index(name) if name in NUMBERED else len(NUMBERED)
