"""Writing and reading the two formats: ONNX and torch.export."""

from __future__ import annotations

import copy
import dataclasses
import importlib
import io
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch.export import Dim, ExportedProgram

from gandetect.archive import ArchiveError, written_aside
from gandetect.base import BaseDetector
from gandetect.export.certificate import Certificate, certify
from gandetect.export.scorer import ExportedScorer, Run
from gandetect.model import Model

# Under which name a file holds its certificate.
_KEY = "gandetect"
_CPU = ("CPUExecutionProvider",)


def to_onnx(detector: BaseDetector, path: str | os.PathLike[str], X: Any = None) -> Certificate:
    """Write a fitted detector as an ONNX model that any ONNX runtime can run.

    The model takes ``X`` ``(n, *input_shape_)`` of doubles, in the units and the layout of `fit`
    and for any n, and gives ``anomaly_score`` (n,), doubles, and ``label`` (n,), +1 or -1. A sample
    with a value that is not a number is labelled -1.

    Parameters
    ----------
    detector : BaseDetector
        Fitted.
    path : str or path
        The file is replaced as a whole, or not at all. Read it with `load_onnx`, or with
        onnxruntime itself.
    X : array-like, Dataset, path or None, default=None
        Samples for the certificate: at most 256 rows, or fewer large images, are taken, evenly
        spread, and stored in the file. None draws artificial ones; your own, such as held-out
        normal samples, certify more.

    Returns
    -------
    Certificate
        Its `max_difference` is the largest difference from the native scores.

    Raises
    ------
    ParityError
        If the scores of the model differ by more than 1e-5 from the native ones. Nothing is
        written.
    ValueError
        If `score` was changed after the threshold was set.
    ImportError
        Without onnx, onnxscript and onnxruntime: ``pip install "gandetect[export]"``.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> from gandetect import GANomalyDetector
    >>> from gandetect.export import load_onnx, to_onnx
    >>> X = np.random.default_rng(0).normal(size=(100, 4))
    >>> detector = GANomalyDetector(epochs=2, n_estimators=1, random_state=0).fit(X)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     certificate = to_onnx(detector, f"{folder}/detector.onnx", X)
    ...     scorer = load_onnx(f"{folder}/detector.onnx")
    >>> bool(np.allclose(scorer.anomaly_score(X), detector.anomaly_score(X), atol=1e-5))
    True
    """
    check_is_fitted(detector)
    _require("onnx"), _require("onnxscript")
    certificate = certify(detector, X)
    names: dict[str, Any] = {"input_names": ["X"], "output_names": ["anomaly_score", "label"]}
    with warnings.catch_warnings(), torch.no_grad():
        # The exporter copies trees in a way that torch itself deprecates.
        warnings.simplefilter("ignore", FutureWarning)
        program = torch.onnx.export(_traced(detector), dynamo=True, verbose=False, **names)
    assert program is not None
    model = program.model_proto
    certificate = _measured(_onnx_run(model.SerializeToString(), _CPU)[0], certificate)
    entry = model.metadata_props.add()
    entry.key, entry.value = _KEY, certificate.to_json()
    with written_aside(path) as file:
        file.write(model.SerializeToString())
    return certificate


def load_onnx(path: str | os.PathLike[str], providers: Sequence[str] = _CPU) -> ExportedScorer:
    """Load what `to_onnx` wrote, and check it against its certificate.

    Parameters
    ----------
    path : str or path
    providers : sequence of str, default=("CPUExecutionProvider",)
        What onnxruntime is to run the model on, in order of preference.

    Returns
    -------
    ExportedScorer

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ArchiveError
        If it is damaged, or `to_onnx` did not write it.
    ParityError
        If, here, its scores differ by more than 1e-5 from those of the detector.
    ImportError
        Without onnxruntime: ``pip install "gandetect[export]"``.
    """
    run, metadata = _onnx_run(_content(path), providers, str(path))
    return ExportedScorer(run, Certificate.from_json(metadata.get(_KEY), str(path)))


def to_torch_export(
    detector: BaseDetector, path: str | os.PathLike[str], X: Any = None
) -> Certificate:
    """Write a fitted detector as a `torch.export` program, which needs torch alone to be run.

    The program takes X ``(n, *input_shape_)``, float64, in the units and the layout of `fit`, for
    any n, and returns the anomaly scores (n,), float64, and the labels (n,), +1 or -1.

    Parameters
    ----------
    detector : BaseDetector
        Fitted.
    path : str or path
        By custom with the suffix ``.pt2``. The file is replaced as a whole, or not at all.
    X : array-like, Dataset, path or None, default=None
        Samples for the certificate, as in `to_onnx`.

    Returns
    -------
    Certificate

    Raises
    ------
    ParityError
        If the scores of the program differ by more than 1e-5 from the native ones. Nothing is
        written.
    ValueError
        If `score` was changed after the threshold was set.
    """
    check_is_fitted(detector)
    certificate = certify(detector, X)
    program = _traced(detector)
    certificate = _measured(_torch_run(program), certificate)
    content = io.BytesIO()
    torch.export.save(program, content, extra_files={_KEY: certificate.to_json()})
    with written_aside(path) as file:
        file.write(content.getvalue())
    return certificate


def load_torch_export(path: str | os.PathLike[str]) -> ExportedScorer:
    """Load what `to_torch_export` wrote, and check it against its certificate.

    torch may unpickle parts of such a file: open only what comes from someone you trust.

    Parameters
    ----------
    path : str or path

    Returns
    -------
    ExportedScorer

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ArchiveError
        If it is damaged, or `to_torch_export` did not write it.
    ParityError
        If, here, its scores differ by more than 1e-5 from those of the detector.
    """
    content = _content(path)
    extra_files = {_KEY: ""}
    try:
        program = torch.export.load(io.BytesIO(content), extra_files=extra_files)
    except Exception as error:  # torch says neither which errors this raises, nor always the same
        raise ArchiveError(f"{str(path)!r} is damaged or no torch.export program.") from error
    return ExportedScorer(_torch_run(program), Certificate.from_json(extra_files[_KEY], str(path)))


def _traced(detector: BaseDetector) -> ExportedProgram:
    model = exportable(detector)
    example = torch.zeros(3, *model.layout.input_shape, dtype=torch.float64)
    with torch.no_grad():
        return torch.export.export(
            model, (example,), dynamic_shapes=({0: Dim("n_samples")},), strict=False
        )


def exportable(detector: BaseDetector) -> Model[Any]:
    """The fitted model on the CPU, with the score of the detector's parameters.

    Raises
    ------
    ValueError
        If `score` was changed after the threshold was set.
    """
    model = detector.model_.scoring_as(detector)
    model.check_threshold()
    copied = copy.deepcopy(model).cpu().eval()
    # torch.export.save warns of weights that lie in memory in an order of their own.
    layout: dict[str, Any] = {"memory_format": torch.contiguous_format}
    for network in copied.networks.values():
        network.to(**layout)
    return copied


def _measured(run: Run, certificate: Certificate) -> Certificate:
    difference = ExportedScorer(run, certificate).difference
    return dataclasses.replace(certificate, max_difference=difference)


def _onnx_run(
    model: bytes, providers: Sequence[str], where: str = "The model"
) -> tuple[Run, dict[str, str]]:
    """How to run a model, and the texts that stand in it."""
    onnxruntime = _require("onnxruntime")
    try:
        session = onnxruntime.InferenceSession(model, providers=list(providers))
        metadata = session.get_modelmeta().custom_metadata_map
    except Exception as error:  # onnxruntime's errors have no class in common
        raise ArchiveError(f"{where!r} is damaged or no ONNX model: {error}") from error

    def run(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        scores, labels = session.run(["anomaly_score", "label"], {"X": X})
        return scores, labels

    return run, metadata


def _torch_run(program: ExportedProgram) -> Run:
    module = program.module()

    def run(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with torch.inference_mode():
            scores, labels = module(torch.from_numpy(np.ascontiguousarray(X)))
        return scores.numpy(), labels.numpy()

    return run


def _content(path: str | os.PathLike[str]) -> bytes:
    if not Path(path).is_file():
        raise FileNotFoundError(f"There is no file {str(path)!r}.")
    return Path(path).read_bytes()


def _require(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(f'exported files need {name}: pip install "gandetect[export]"') from error
