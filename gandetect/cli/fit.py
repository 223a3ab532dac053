"""``gandetect fit``: fit a detector and save it to a file."""

from __future__ import annotations

import argparse
import time
import warnings
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gandetect.cli.options import (
    Setting,
    UsageError,
    add_classifier,
    add_data,
    add_device,
    add_protocol,
    add_set,
    build_detector,
    chosen,
    detector_class,
    detector_name,
    given_classifier,
    known_detectors,
    names,
    number,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from gandetect.base import BaseDetector
    from gandetect.cli.data import Samples

# Number of test images in the run folder.
_N_SHOWN = 16


def add_fit(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "fit",
        help="fit a detector and save it",
        description=(
            "Fit a detector to samples that are assumed to be normal, and save it as data only "
            "(safetensors). Anomalies by labels or options are left out, or trained on with "
            "--labels learn; AdversarialVAE trains its classifier on the classes of the normal "
            "samples. --data "
            "mvtec:all fits one for each category. If it is interrupted, no model is written."
        ),
    )
    known = [name.removesuffix("Detector") for name in known_detectors()]
    parser.add_argument(
        "detector",
        type=detector_name,
        metavar="DETECTOR",
        help=f"{', '.join(known).lower()}; in upper or lower case, with or without 'Detector'",
    )
    add_data(parser)
    add_protocol(parser)
    _add_training(parser)
    _add_keeping(parser)
    parser.set_defaults(run=run_fit)


def _add_training(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("training")
    group.add_argument(
        "--labels",
        choices=("ignore", "exclude", "learn"),
        help="use of samples that labels or options define as anomalies: ignore trains on them as "
        "on all others, exclude leaves them out (the default), and learn uses them as known "
        "anomalies",
    )
    add_set(group)
    group.add_argument(
        "--date-columns",
        type=names,
        default=[],
        metavar="A,B",
        help="columns of a table that hold dates (default: detected from the values)",
    )
    add_device(group, "auto")
    add_classifier(group)
    group.add_argument(
        "--contamination",
        type=_contamination,
        metavar="C",
        help="share of the training samples that the threshold flags, or auto",
    )
    group.add_argument(
        "--outlier-perc",
        type=number(float, 0, 100),
        metavar="P",
        help="set the threshold that flags P percent of --threshold-data (5 for one sample in "
        "twenty)",
    )
    group.add_argument(
        "--threshold-data",
        metavar="DATA",
        help="samples for --outlier-perc, read in the same way as --data: held-out normal samples, "
        "or a mixed batch with a known share of anomalies",
    )
    group.add_argument(
        "--go-on-from",
        metavar="MODEL",
        help="continue the training of a saved detector for the same number of epochs; its "
        "parameters apply except those that are given",
    )
    group.add_argument("--verbose", action="store_true", help="show the progress and the losses")


def _contamination(text: str) -> str | float:
    """Read "auto" or a share."""
    return text if text == "auto" else float(number(float, 0, 0.5)(text))


def _add_keeping(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("output")
    group.add_argument(
        "--out",
        required=True,
        metavar="FILE",
        help="file of the fitted detector; for mvtec:all, the folder of <category>.model",
    )
    group.add_argument(
        "--format",
        choices=("table", "csv", "json"),
        default="table",
        help="format of the summary on standard output (default: table)",
    )
    group.add_argument(
        "--checkpoint-dir", metavar="DIR", help="folder of the checkpoints of the training"
    )
    group.add_argument(
        "--checkpoint-every", type=number(int, 1), metavar="N", help="in epochs (default: 1)"
    )
    group.add_argument(
        "--resume",
        action="store_true",
        help="continue from the checkpoint, if there is one, instead of starting again",
    )
    group.add_argument(
        "--log-dir", metavar="DIR", help="write the losses of every epoch for TensorBoard"
    )
    group.add_argument(
        "--run-folder",
        metavar="DIR",
        help="write reconstructions, statistics and models during the training, for "
        "gandetect animate",
    )
    group.add_argument(
        "--run-every",
        type=number(int, 1),
        default=10,
        metavar="N",
        help="epochs between the images of the run folder (default: 10)",
    )
    group.add_argument(
        "--run-test-data",
        metavar="DATA",
        help="test images to reconstruct, read in the same way as --data (default: the "
        "test part of --data, if it has one)",
    )


def run_fit(options: Namespace) -> None:
    """Fit, and print the summary."""
    from gandetect.cli.data import names_all
    from gandetect.cli.output import check_training, write_columns, write_record

    _refuse_what_does_not_go_together(options)
    check_training(options)
    where = Namespace(format=options.format, out=None)
    if not names_all(options.data):
        if (record := _fitted(options)) is not None:
            write_record(record, where)
        return
    from gandetect.cli.categories import one_by_one, side_by_side

    records = {}
    for category, its_options in one_by_one(options).items():
        if (record := _fitted(_in_folders_of(category, its_options))) is not None:
            records[category] = record
    if records:
        write_columns(side_by_side(records), where)


def _refuse_what_does_not_go_together(options: Namespace) -> None:
    from gandetect.cli.data import names_all

    if (options.outlier_perc is None) != (options.threshold_data is None):
        raise UsageError("--outlier-perc and --threshold-data must be given together")
    if options.run_test_data and not options.run_folder:
        raise UsageError("--run-test-data needs --run-folder")
    for name in ("threshold_data", "go_on_from", "run_test_data"):
        if names_all(options.data) and getattr(options, name):
            raise UsageError(
                f"--{name.replace('_', '-')} is for one category, but {options.data} is all "
                "categories"
            )


def _in_folders_of(category: str, options: Namespace) -> Namespace:
    """Return the options of a category, with its own output paths."""
    from gandetect.cli.categories import model_of

    folder = Path(options.out).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    own = {"out": model_of(options.out, category)}
    for name in ("checkpoint_dir", "log_dir", "run_folder"):
        if getattr(options, name):
            own[name] = str(Path(getattr(options, name)) / category)
    return Namespace(**{**vars(options), **own})


def _fitted(options: Namespace) -> dict[str, Any] | None:
    """Fit, set the threshold and save; return the summary in the first process."""
    import numpy as np

    from gandetect.cli.data import known_anomalies, read_samples, training_samples
    from gandetect.distributed import is_first

    detector = _detector(options)
    labels = _use_of_labels(detector, options)
    callbacks = _callbacks(options)
    known = (options.go_on_from and detector.model_.layout.image_settings) or {}
    words = _words_of(detector, options)
    everything = read_samples(options, "train", None, known, words)
    samples = training_samples(everything, options, labels)
    is_known = known_anomalies(samples, options) if labels == "learn" else None
    for_threshold = None
    if options.threshold_data is not None:
        for_threshold = _other_samples(options, "train", options.threshold_data, known)
    if options.run_folder and is_first():
        callbacks.append(_run_folder(everything, options, known))
    if callbacks:
        detector.set_callbacks(*callbacks)
    start = time.perf_counter()
    # An interrupt ends the command here: an existing file of --out is kept.
    own = _beside(detector, samples, options, is_known)
    detector.fit(samples.named, is_known, **own)
    seconds = time.perf_counter() - start
    if for_threshold is not None:
        detector.infer_threshold(for_threshold.named, outlier_perc=options.outlier_perc)
    if not is_first():  # only the first process of torchrun writes
        return None
    if isinstance(samples.X, np.ndarray):
        # Images in files have image settings already.
        model = detector.model_
        model.layout = replace(model.layout, image_settings=samples.image_settings)
    detector.save(Path(options.out).expanduser())
    record = _summary(detector, len(samples), len(everything) - len(samples), seconds, options)
    if is_known is not None:
        record["known_anomalies"] = int(is_known.sum())
    return record


def _beside(
    detector: BaseDetector,
    samples: Samples,
    options: Namespace,
    is_known: NDArray[np.bool_] | None,
) -> dict[str, Any]:
    """Return the further arguments of `fit`: class labels, and masks of known defects."""
    taken = signature(detector.fit).parameters
    classes = _classes_of_normal(samples, options)
    found = {}
    if classes is not None and "class_labels" in taken:
        found["class_labels"] = classes
    if is_known is not None and samples.masks is not None and "masks" in taken:
        import numpy as np

        # Samples that are not marked as anomalies are used as normal ones, whatever their masks.
        masks = [
            mask > 0 if known else np.zeros_like(mask, dtype=bool)
            for mask, known in zip(samples.masks, is_known, strict=True)
        ]
        if any(mask.any() for mask in masks):
            found["masks"] = masks
    return found


def _detector(options: Namespace) -> BaseDetector:
    """Return a new detector, or the detector whose training is continued."""
    parameters = _parameters(options)
    built = build_detector(detector_class(options.detector), parameters)
    if options.go_on_from is None:
        return built
    from gandetect.loading import load

    detector = load(options.go_on_from, **_left_out(parameters))
    if type(detector) is not type(built):
        raise UsageError(
            f"{options.go_on_from} contains the class {type(detector).__name__}, not "
            f"{type(built).__name__}: name that detector after fit, or leave out --go-on-from"
        )
    detector.set_params(**{"warm_start": True, **parameters})
    return detector


def _left_out(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters that the file of a model omits because they are code."""
    from torch import nn

    return {name: value for name, value in parameters.items() if isinstance(value, nn.Module)}


def _words_of(detector: BaseDetector, options: Namespace) -> list[str]:
    """Return the columns of a table that are read as text."""
    from gandetect.data.sources import columns_called_words, columns_of_words

    if options.go_on_from:
        return columns_of_words(detector.model_.layout.encoder)
    return columns_called_words(detector.columns)


def _use_of_labels(detector: BaseDetector, options: Namespace) -> str | None:
    """Return the use of labels: of an option, of --set, or of the continued model."""
    is_said = options.labels is not None or any(name == "labels" for name, _ in options.set)
    labels = detector.labels if is_said or detector.labels == "learn" else None
    # The command leaves out these samples itself, so the detector needs no labels.
    detector.set_params(labels="learn" if labels == "learn" else "ignore")
    return labels


def _parameters(options: Namespace) -> dict[str, Any]:
    given = {
        **given_classifier(options),
        "device": options.device,
        "random_state": options.seed,
        "contamination": options.contamination,
        "verbose": int(options.verbose) or None,
        "labels": options.labels,
    }
    if options.missing:  # stored in the model for later tables
        given["missing_values"] = tuple(options.missing)
    settings = [_with_dates(setting, options.date_columns) for setting in options.set]
    if options.date_columns and all(name != "columns" for name, _ in settings):
        given["columns"] = dict.fromkeys(options.date_columns, "date")
    # Options with a default may be overridden by --set.
    for name in ("device", "random_state"):
        if any(name == setting for setting, _ in settings):
            del given[name]
    return chosen(settings, given)


def _with_dates(setting: Setting, date_columns: Sequence[str]) -> Setting:
    """Merge the columns of ``--set`` with those of ``--date-columns``."""
    name, columns = setting
    if name != "columns" or not date_columns:
        return setting
    if not isinstance(columns, dict):
        raise UsageError("with --date-columns, --set columns= must be a mapping, as in columns={}")
    return name, {**dict.fromkeys(date_columns, "date"), **columns}


def _callbacks(options: Namespace) -> list[Any]:
    from gandetect.cli.output import checkpoint_file
    from gandetect.training.callbacks import Checkpoint, TensorBoardLog

    callbacks: list[Any] = []
    if options.checkpoint_dir:
        path = checkpoint_file(options)
        path.parent.mkdir(parents=True, exist_ok=True)
        every = options.checkpoint_every or 1
        callbacks.append(Checkpoint(path, every_n_epochs=every, resume=options.resume))
    elif options.resume or options.checkpoint_every:
        raise UsageError("--resume and --checkpoint-every need --checkpoint-dir")
    if options.log_dir:
        callbacks.append(TensorBoardLog(Path(options.log_dir).expanduser()))
    return callbacks


def _run_folder(everything: Samples, options: Namespace, known: Mapping[str, Any]) -> Any:
    """Return the callback that writes the run folder, with test images if there are any."""
    from gandetect.cli.data import is_split_here, read_samples, samples_to_score
    from gandetect.training.run_folder import RunFolder

    X_test = None
    test_options = Namespace(**{**vars(options), "part": "test"})
    if options.run_test_data is not None:
        X_test = _spread(_other_samples(test_options, "test", options.run_test_data, known)).X
    elif is_split_here(everything, options):
        X_test = samples_to_score(everything, test_options).X
    elif everything.is_split:
        try:
            X_test = _spread(read_samples(test_options, "test", image_settings=known)).X
        except FileNotFoundError as error:  # a fit does not need test images
            warnings.warn(f"the run folder shows no test images: {error}", stacklevel=2)
    pictures: dict[str, Any] = {}
    if find_spec("matplotlib") is not None:
        from gandetect.plotting import draw_losses

        pictures = {"draw_losses": draw_losses}
    folder = Path(options.run_folder).expanduser()
    return RunFolder(folder, X_test=X_test, every_n_epochs=options.run_every, **pictures)


def _spread(samples: Samples) -> Samples:
    """Select evenly spaced samples, because the first samples of a folder have one class only."""
    import numpy as np

    n_shown = min(_N_SHOWN, len(samples))
    return samples.take(np.linspace(0, len(samples) - 1, n_shown).round().astype(np.intp))


def _other_samples(
    options: Namespace, default_part: str, data: str, known: Mapping[str, Any]
) -> Samples:
    """Read data other than ``--data``, without a file of labels."""
    from gandetect.cli.data import is_named, read_samples

    own = {"label_file": None, "download": options.download and is_named(data)}
    return read_samples(Namespace(**{**vars(options), **own}), default_part, data, known)


def _classes_of_normal(samples: Samples, options: Namespace) -> Any:
    """Return the classes of normal samples, for a detector with a classifier.

    Options must define the normal classes; other labels may mark anomalies, and are not classes.
    """
    has_classes = options.anomalous_class or options.normal_class
    if not has_classes or samples.labels is None or len(set(samples.labels.tolist())) < 2:
        return None
    return samples.labels


def _summary(
    detector: BaseDetector, n_samples: int, n_left_out: int, seconds: float, options: Namespace
) -> dict[str, Any]:
    return {
        "detector": type(detector).__name__,
        "samples": n_samples,
        "left_out": n_left_out,
        "sample_shape": " x ".join(map(str, detector.input_shape_)),
        "members": detector.n_members_,
        "epochs": detector.n_iter_,
        "stopped": detector.stop_reason_,
        "seconds": seconds,
        "threshold": detector.threshold_,
        "model": options.out,
    }
