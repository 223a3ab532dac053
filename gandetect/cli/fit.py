"""``gandetect fit``: from data to a file that holds a fitted detector."""

from __future__ import annotations

import argparse
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np

from gandetect.base import BaseDetector
from gandetect.callbacks import Checkpoint, TensorBoardLog
from gandetect.cli.data import read_samples
from gandetect.cli.files import Samples
from gandetect.cli.model import in_known_order, remember_columns
from gandetect.cli.options import (
    UsageError,
    add_data,
    add_device,
    add_protocol,
    detector_class,
    number,
)
from gandetect.cli.output import check_place, write_record
from gandetect.cli.parameters import add_set, build_detector, chosen
from gandetect.cli.protocol import is_split_here, samples_to_score, training_samples
from gandetect.demo.methods import select_detectors
from gandetect.distributed import is_first
from gandetect.loading import load


def add_fit(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "fit",
        help="fit a detector and save it",
        description=(
            "Fit a detector to samples, normal ones as far as you know, and save it as data only "
            "(safetensors). Where the data have class labels, a detector that learns from them "
            "(AdversarialVAE) gets them."
        ),
    )
    known = [name.removesuffix("Detector") for name in select_detectors()]
    parser.add_argument(
        "detector",
        type=detector_class,
        metavar="DETECTOR",
        help=f"{', '.join(known).lower()}; in any case, with or without 'Detector' at the end",
    )
    add_data(parser)
    add_protocol(parser)
    _add_training(parser)
    _add_keeping(parser)
    parser.set_defaults(run=run_fit)


def _add_training(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("training")
    add_set(group)
    add_device(group, "auto")
    group.add_argument(
        "--contamination",
        type=number(float, 0, 0.5),
        metavar="C",
        help="share of the training samples that the threshold flags",
    )
    group.add_argument(
        "--outlier-perc",
        type=number(float, 0, 100),
        metavar="P",
        help="put the threshold where it flags P percent of --threshold-data",
    )
    group.add_argument(
        "--threshold-data",
        metavar="DATA",
        help="samples for --outlier-perc, read as --data is: normal ones that are not trained on, "
        "or a mixed batch of which you know the share of anomalies",
    )
    group.add_argument(
        "--go-on-from",
        metavar="MODEL",
        help="train the networks of a saved detector further, for as many epochs more; its "
        "parameters hold but for those that are given",
    )
    group.add_argument("--verbose", action="store_true", help="show the progress and the losses")


def _add_keeping(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("output")
    group.add_argument("--out", required=True, metavar="FILE", help="file of the fitted detector")
    group.add_argument(
        "--format",
        choices=("table", "csv", "json"),
        default="table",
        help="of the summary on standard output (default: table)",
    )
    group.add_argument(
        "--checkpoint-dir", metavar="DIR", help="folder in which the training is stored as it goes"
    )
    group.add_argument(
        "--checkpoint-every", type=number(int, 1), metavar="N", help="epochs (default: 1)"
    )
    group.add_argument(
        "--resume",
        action="store_true",
        help="go on from the checkpoint, if there is one, instead of starting afresh",
    )
    group.add_argument(
        "--log-dir", metavar="DIR", help="write the losses of every epoch for TensorBoard"
    )
    group.add_argument(
        "--run-folder",
        metavar="DIR",
        help="write reconstructions, statistics and models as the training goes, for "
        "gandetect animate",
    )
    group.add_argument(
        "--run-every",
        type=number(int, 1),
        default=10,
        metavar="N",
        help="epochs between the images of the run folder (default: 10)",
    )


def run_fit(options: Namespace) -> None:
    """Fit, set the threshold, save and say what came out."""
    detector = _detector(options)
    if (options.outlier_perc is None) != (options.threshold_data is None):
        raise UsageError("--outlier-perc and --threshold-data go together")
    check_place(options.out)
    callbacks = _callbacks(options)
    everything = read_samples(options, "train")
    samples = in_known_order(detector, training_samples(everything, options))
    for_threshold = _threshold_samples(options)
    if options.run_folder and is_first():
        callbacks.append(_run_folder(everything, options))
    if callbacks:
        detector.set_callbacks(*callbacks)
    start = time.perf_counter()
    detector.fit(samples.X, _class_labels(samples))
    seconds = time.perf_counter() - start
    remember_columns(detector, samples)
    if for_threshold is not None:
        X = in_known_order(detector, for_threshold).X
        detector.infer_threshold(X, outlier_perc=options.outlier_perc)
        remember_columns(detector, samples)
    if not is_first():  # of the processes that torchrun started
        return
    detector.save(Path(options.out).expanduser())
    _tell(detector, len(samples), len(everything) - len(samples), seconds, options)


def _detector(options: Namespace) -> BaseDetector:
    """A new detector, or the one that is to be trained further."""
    parameters = _parameters(options)
    if options.go_on_from is None:
        return build_detector(options.detector, parameters)
    detector = load(options.go_on_from)
    if type(detector) is not options.detector:
        raise UsageError(f"{options.go_on_from} holds a {type(detector).__name__}")
    build_detector(options.detector, parameters)
    detector.set_params(**{"warm_start": True, **parameters})
    return detector


def _parameters(options: Namespace) -> dict[str, Any]:
    given = {
        "device": options.device,
        "random_state": options.seed,
        "contamination": options.contamination,
        "verbose": int(options.verbose) or None,
    }
    # What has a default here may be said by --set as well.
    for name in ("device", "random_state"):
        if any(name == setting for setting, _ in options.set):
            del given[name]
    return chosen(options.set, given)


def _callbacks(options: Namespace) -> list[Any]:
    callbacks: list[Any] = []
    if options.checkpoint_dir:
        folder = Path(options.checkpoint_dir).expanduser()
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{options.detector.__name__}.safetensors"
        every = options.checkpoint_every or 1
        callbacks.append(Checkpoint(path, every_n_epochs=every, resume=options.resume))
    elif options.resume or options.checkpoint_every:
        raise UsageError("--resume and --checkpoint-every need --checkpoint-dir")
    if options.log_dir and is_first():
        callbacks.append(TensorBoardLog(Path(options.log_dir).expanduser()))
    return callbacks


def _run_folder(everything: Samples, options: Namespace) -> Any:
    """The callback that writes the run folder, with images of the test part if there is one."""
    from gandetect.run_folder import RunFolder

    X_test = None
    if is_split_here(everything, options):
        X_test = samples_to_score(everything, Namespace(**{**vars(options), "part": "test"})).X
    folder = Path(options.run_folder).expanduser()
    return RunFolder(folder, X_test=X_test, every_n_epochs=options.run_every)


def _threshold_samples(options: Namespace) -> Samples | None:
    if options.threshold_data is None:
        return None
    return read_samples(options, "train", options.threshold_data)


def _class_labels(samples: Samples) -> Any:
    """The labels, for the detector that learns from classes; one class is none."""
    if samples.labels is None or len(np.unique(samples.labels)) < 2:
        return None
    return samples.labels


def _tell(
    detector: BaseDetector, n_samples: int, n_left_out: int, seconds: float, options: Namespace
) -> None:
    record = {
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
    write_record(record, Namespace(format=options.format, out=None))
