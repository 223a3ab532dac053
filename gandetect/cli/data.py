"""Where ``--data`` comes from: a path, or a data set that has a name."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gandetect import datasets
from gandetect.cli.files import Samples, read_path
from gandetect.cli.options import UsageError


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
    family, _, member = data.partition(":")
    read = _NAMED.get(family.lower().replace("_", "-"))
    if read is not None:
        _refuse_options_of_files(options, data)
        return read(member or None, options, default_part)
    path = Path(data).expanduser()
    if not path.exists():
        raise FileNotFoundError(
            f"there is no file or folder {path}; --data takes a path or one of {_FORMS}"
        )
    if options.download:
        raise UsageError("--download is for data sets that have a name")
    return read_path(path, options)


def _refuse_options_of_files(options: Namespace, data: str) -> None:
    for name in ("label_column", "labels", "drop_columns", "delimiter"):
        if getattr(options, name):
            raise UsageError(f"--{name.replace('_', '-')} is for files: {data} has its own labels")
    if not data.lower().startswith("mvtec") and (options.image_size or options.channels):
        raise UsageError(f"--image-size and --channels have no meaning for {data}")


def _classes(load: Callable[..., Any]) -> Callable[..., Samples]:
    """Make the reader of a data set of labelled images, with a published training and test part."""

    def read(member: str | None, options: Namespace, _: str) -> Samples:
        bunch = load(options.data_dir, split=member or "all", download=options.download)
        return Samples(
            X=bunch.data,
            labels=bunch.target,
            class_names=bunch.get("target_names", ()),
            has_classes=True,
        )

    return read


def _kddcup99(member: str | None, options: Namespace, _: str) -> Samples:
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
    bunch = datasets.load_mvtec(
        options.data_dir, member, part, options.image_size, channels=options.channels, lazy=True
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
    "mnist": _classes(datasets.load_mnist),
    "fashion-mnist": _classes(datasets.load_fashion_mnist),
    "cifar10": _classes(datasets.load_cifar10),
    "kddcup99": _kddcup99,
    "mvtec": _mvtec,
    "adbench": _adbench,
}
_FORMS = "mnist, fashion-mnist, cifar10, kddcup99, mvtec:CATEGORY, adbench:SET"


def is_named(data: str) -> bool:
    """Whether this is a data set that has a name, not a path."""
    return data.partition(":")[0].lower().replace("_", "-") in _NAMED
