"""Which samples are anomalies, and which of them a command works on."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gandetect.cli.data import is_named
from gandetect.cli.files import Samples
from gandetect.cli.options import UsageError
from gandetect.cli.wording import for_commands
from gandetect.datasets import one_class_rows_split, one_class_split
from gandetect.metrics import is_anomalous


def training_samples(samples: Samples, options: Namespace) -> Samples:
    """Return what to fit: normal samples as far as the options tell.

    Raises
    ------
    UsageError
        If the data have classes and the options do not say what is normal.
    """
    if samples.is_split:
        return samples
    if _part(options, "train") == "all":
        if not _has_class_options(options) and (options.part or not _tells(samples.labels)):
            return samples
        return samples.take(np.flatnonzero(~anomalies(samples, options)))
    if samples.has_classes and not _has_class_options(options):
        raise UsageError(
            f"{options.data} has classes: say what is an anomaly with --anomalous-class or "
            "--normal-class, or fit to everything with --part all"
        )
    train, test = _split(samples, options)
    return samples.take(train if _part(options, "train") == "train" else test)


def samples_to_score(samples: Samples, options: Namespace) -> Samples:
    """Return what to score: all of a file, and the test part of a data set that has a name."""
    part = _part(options, "test")
    if samples.is_split or part == "all":
        return samples
    if samples.has_classes and not _has_class_options(options) and options.part is None:
        return samples
    train, test = _split(samples, options)
    return samples.take(train if part == "train" else test)


def is_split_here(samples: Samples, options: Namespace) -> bool:
    """Whether a fit leaves a test part of these samples."""
    return not samples.is_split and _part(options, "train") == "train"


def anomalies(samples: Samples, options: Namespace) -> NDArray[np.bool_]:
    """Say which samples are anomalies.

    Raises
    ------
    UsageError
        If there are no labels, or they do not tell.
    """
    if samples.labels is None:
        raise UsageError(
            f"{options.data} has no labels: name them with --label-column or --labels, or put "
            "images into a folder a class"
        )
    if not _has_class_options(options):
        try:
            return is_anomalous(samples.labels)
        except ValueError as error:
            told = for_commands(str(error)).removesuffix(".").replace("y has", "the data have", 1)
            raise UsageError(
                f"{told}; say which are anomalies with --anomalous-class or --normal-class"
            ) from error
    is_chosen = np.isin(samples.labels, _chosen_labels(samples, options))
    return ~is_chosen if options.anomalous_class is None else is_chosen


def _split(samples: Samples, options: Namespace) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the positions of the training and of the test samples."""
    is_anomaly = anomalies(samples, options).astype(np.int64)
    rows = np.arange(len(samples))
    if _has_class_options(options):
        train, test, _ = one_class_split(
            rows,
            is_anomaly,
            anomalous_class=1,
            n_train=options.n_train,
            outlier_fraction=options.outlier_fraction,
            random_state=options.seed,
        )
    else:
        train, test, _ = one_class_rows_split(
            rows,
            is_anomaly,
            random_state=options.seed,
            max_train=options.n_train,
            max_test=None,
            outlier_fraction=options.outlier_fraction,
        )
    return train, test


def _part(options: Namespace, default: str) -> str:
    part = options.part or (default if is_named(options.data) else "all")
    for option in ("outlier_fraction", "n_train"):
        if part == "all" and getattr(options, option) is not None:
            raise UsageError(
                f"--{option.replace('_', '-')} is about a split: add --part train or --part test"
            )
    return part


def _tells(labels: NDArray[Any] | None) -> bool:
    """Whether labels say by themselves which samples are anomalies."""
    return labels is not None and set(labels.tolist()) in ({0, 1}, {-1, 1})


def _has_class_options(options: Namespace) -> bool:
    if options.anomalous_class and options.normal_class:
        raise UsageError("give one of --anomalous-class and --normal-class")
    return bool(options.anomalous_class or options.normal_class)


def _chosen_labels(samples: Samples, options: Namespace) -> list[Any]:
    """Find the labels of the classes that an option names, by label or by the class's name."""
    labels = np.unique(samples.labels).tolist()  # type: ignore[arg-type]  # there are labels
    by_text = {str(label): label for label in labels}
    by_text |= {name: i for i, name in enumerate(samples.class_names) if i in labels}
    chosen = options.anomalous_class or options.normal_class
    unknown = [name for name in chosen if name not in by_text]
    if unknown:
        there = ", ".join(str(label) for label in labels[:20])
        raise UsageError(f"class {unknown[0]!r} is not in the labels, which are {there}")
    return [by_text[name] for name in chosen]
