"""Where ``--data`` comes from: a path, or a data set that has a name."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gandetect import datasets
from gandetect.cli.categories import category_of
from gandetect.cli.files import Samples, read_path
from gandetect.cli.options import UsageError
from gandetect.cli.resizing import resized
from gandetect.datasets.catalogue import CATALOGUE


def read_samples(options: Namespace, default_part: str, data: str | None = None) -> Samples:
    """Read the samples that ``--data`` names.

    Parameters
    ----------
    options : Namespace
        Those of `options.add_data`.
    default_part : {"train", "test"}
        Which published part is read of a data set that has them, if ``--part`` does not say.
    data : str or None, default=None
        What to read instead of ``options.data``.

    Raises
    ------
    UsageError
        If an option does not fit the data.
    OSError, ValueError
        If the data are missing or damaged.
    """
    data = data or options.data
    family, member = _family_and_member(data)
    if family in _NAMED:
        _refuse_what_has_no_meaning(options, data, family)
        return _NAMED[family](member, options, default_part)
    path = Path(data).expanduser()
    if not path.exists():
        raise FileNotFoundError(
            f"there is no file or folder {path}; --data takes a path or one of {_FORMS}"
        )
    if options.download:
        raise UsageError("--download is for data sets that have a name")
    return read_path(path, options)


def _family_and_member(data: str) -> tuple[str, str | None]:
    family, _, member = data.partition(":")
    return family.lower().replace("_", "-"), member or None


def _refuse_what_has_no_meaning(options: Namespace, data: str, family: str) -> None:
    """Raise rather than leave an option without effect."""
    for name in ("label_column", "labels", "drop_columns", "delimiter"):
        if getattr(options, name):
            raise UsageError(f"--{name.replace('_', '-')} is for files: {data} has its own labels")
    if family in _ROWS and (options.image_size or options.channels):
        raise UsageError(f"--image-size and --channels have no meaning for {data}")
    if options.download and not CATALOGUE[family].remote:
        raise UsageError(
            f"--download cannot fetch {family}, which is not offered for that: put "
            f"{CATALOGUE[family].instructions} into --data-dir"
        )


def _check_member(family: str, member: str | None, members: tuple[str, ...]) -> None:
    if member is not None and member not in members:
        forms = ", ".join(f"{family}:{known}" for known in members)
        raise UsageError(f"there is no {family}:{member}, only {forms}")


def _classes(name: str, load: Callable[..., Any]) -> Callable[..., Samples]:
    """Make the reader of a data set of labelled images, with a published training and test part."""

    def read(member: str | None, options: Namespace, _: str) -> Samples:
        _check_member(name, member, ("train", "test", "all"))
        bunch = load(options.data_dir, split=member or "all", download=options.download)
        return Samples(
            X=resized(bunch.data, options.image_size, options.channels),
            labels=bunch.target,
            class_names=bunch.get("target_names", ()),
            has_classes=True,
        )

    return read


def _kddcup99(member: str | None, options: Namespace, _: str) -> Samples:
    _check_member("kddcup99", member, ("normal", "attack"))
    anomalous = member or "normal"
    bunch = datasets.load_kddcup99(
        options.data_dir, anomalous_class=anomalous, download=options.download
    )
    return Samples(X=bunch.data, labels=bunch.target, feature_names=bunch.feature_names)


def _adbench(member: str | None, options: Namespace, _: str) -> Samples:
    if member is None:
        there = ", ".join(datasets.list_adbench(options.data_dir)) or "none"
        raise UsageError(
            f"adbench needs the name of a set, as in adbench:cardio; there are {there}"
        )
    bunch = datasets.load_adbench(member, options.data_dir)
    return Samples(X=bunch.data, labels=bunch.target)


def _mvtec(member: str | None, options: Namespace, default_part: str) -> Samples:
    part = options.part or default_part
    if member is None or part == "all":
        raise UsageError(
            "mvtec needs the name of a category, as in mvtec:bottle"
            if member is None
            else "mvtec has a training and a test part: --part train or --part test"
        )
    category = category_of(member, options.data_dir)
    bunch = datasets.load_mvtec(
        options.data_dir, category, part, options.image_size, channels=options.channels, lazy=True
    )
    folder = bunch.paths[0].parents[1]
    return Samples(
        X=bunch.images,
        labels=bunch.labels,
        names=[path.relative_to(folder).as_posix() for path in bunch.paths],
        masks=bunch.masks if part == "test" else None,
        is_split=True,
    )


_NAMED: dict[str, Callable[[str | None, Namespace, str], Samples]] = {
    "mnist": _classes("mnist", datasets.load_mnist),
    "fashion-mnist": _classes("fashion-mnist", datasets.load_fashion_mnist),
    "cifar10": _classes("cifar10", datasets.load_cifar10),
    "kddcup99": _kddcup99,
    "mvtec": _mvtec,
    "adbench": _adbench,
}
_ROWS = ("kddcup99", "adbench")
_FORMS = "mnist, fashion-mnist, cifar10, kddcup99, mvtec:CATEGORY, adbench:SET"


def is_named(data: str) -> bool:
    """Whether this is a data set that has a name, not a path."""
    return _family_and_member(data)[0] in _NAMED
