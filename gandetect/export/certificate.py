"""Exported files: writing and reading ONNX and torch.export files, and their certificates."""

from __future__ import annotations

import base64
import copy
import dataclasses
import hashlib
import importlib
import io
import json
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from math import isclose, isfinite, isnan, prod
from numbers import Real
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import torch
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted
from torch.export import Dim, ExportedProgram

from gandetect import __version__
from gandetect.archive import ArchiveError, check_writable, is_archive, written_aside
from gandetect.base import BaseDetector
from gandetect.data.columns import ColumnEncoder
from gandetect.data.sources import ArraySource, read
from gandetect.model import Model
from gandetect.model.fitted import SCORE_TOLERANCE, check_n_jobs, thinned
from gandetect.model.statistics import WORST_SCORE

# The lowest version of torch, as in the extra "export" of setup.cfg.
_LEAST_TORCH = "2.9"

FORMAT = 3
# The largest difference of a score that passes without a warning, in the certificate's unit.
TOLERANCE = 1e-5
# The largest difference with which a file is written: 0.1 standard deviations of the training
# scores. For images, differences of 1e-5 to 1e-4 are usual. They are larger if a part of the score
# hardly varies over the training samples, because its scaling multiplies the rounding of float32.
LARGEST_DIFFERENCE = 0.1
# The largest number of values in a reference batch, and of samples.
_REFERENCE_VALUES, _REFERENCE_SAMPLES = 2**18, 256
# The largest number of entries of all lists in the text of a certificate; most are column names.
_MOST_ENTRIES = 2**20
# The largest block size in samples. It limits the memory that a forged certificate can request.
_MOST_IN_A_BLOCK = 2**12
_ORIGINS = ("given", "training", "artificial")
_CHECKSUM = "sha256"
# The errors that parsing an invalid certificate may raise.
_DAMAGE = (ValueError, TypeError, KeyError, OverflowError, AttributeError, RecursionError)
_DTYPES = {np.dtype(code).name for code in "?efd" + np.typecodes["AllInteger"]}


class ParityError(ValueError):
    """An exported file whose scores or labels differ from those of its detector."""


class ParityWarning(UserWarning):
    """An exported file whose scores differ by more than the tolerance, but whose labels do not.

    Networks compute in float32, and two runtimes add in different orders. The certificate has the
    difference.
    """


@dataclass(frozen=True, eq=False, kw_only=True)
class Certificate:
    """A reference batch with its native scores, against which an exported file is checked.

    Parameters
    ----------
    detector : str
        The class of the detector.
    gandetect, torch : str
        The versions that wrote the file.
    input_shape : tuple of int
        Shape of one sample as input of the graph.
    feature_names : list of str or None
        The names of the columns of X in `fit`, in their order.
    threshold : float
    block_size : int
        Number of samples to score at once.
    unit : float
        The unit of the difference for smaller scores: 1 for standardised scores, which are in
        standard deviations of the training samples, and for other scores their standard deviation
        over the reference batch.
    score_unit : float
        The unit of the rounding error of a score near a threshold.
    max_difference : float
        The largest difference when the file was written, see `difference`.
    origin : {"given", "training", "artificial"}
        The origin of X: given by the user, partly training samples that the detector stores for its
        score, or only artificial samples. A difference on artificial samples has less meaning for
        real ones.
    X : ndarray of shape ``(n, *input_shape)``
    anomaly_score : ndarray of shape (n,), float64
        The scores of the detector itself (native scores).
    label : ndarray of shape (n,), int
        The labels of the detector itself, +1 or -1.
    encoder : ColumnEncoder or None, default=None
        For a detector of encoded tables, it converts a table to the input of the graph.
    graph : str or None, default=None
        SHA-256 of the ONNX model without its metadata. None for a `torch.export` program, whose
        archive contains checksums, and in files of earlier versions.
    """

    detector: str
    gandetect: str
    torch: str
    input_shape: tuple[int, ...]
    feature_names: list[str] | None
    threshold: float
    block_size: int
    unit: float
    score_unit: float
    max_difference: float
    origin: str
    X: np.ndarray
    anomaly_score: np.ndarray
    label: np.ndarray
    encoder: ColumnEncoder | None = None
    graph: str | None = None

    def difference(self, anomaly_score: np.ndarray) -> float:
        """Return the largest difference from the native scores.

        The difference is relative for scores larger than `unit`, because float32 has seven digits,
        and in multiples of `unit` for smaller scores.
        """
        differences = np.abs(anomaly_score - self.anomaly_score)
        return float(np.max(differences / self._scales()))

    def check(
        self,
        anomaly_score: np.ndarray,
        label: np.ndarray,
        tolerance: float = TOLERANCE,
        limit: float | None = None,
    ) -> float:
        """Return `difference`, and raise `ParityError` if the file differs from its detector.

        Parameters
        ----------
        anomaly_score, label : ndarray of shape (n,)
            The output of the file for X.
        tolerance : float in [0, inf), default=1e-5
            The largest difference without a warning. A difference up to twice `max_difference`
            never gives a warning, because the warning was given when the file was written.
        limit : float or None, default=None
            The largest difference with a warning instead of an error. None is ten times the largest
            difference without a warning.

        Raises
        ------
        ParityError
            If the difference exceeds the limit and the tolerance or is not a number, if a label
            differs, or if the output is not one score and one label for each sample.

        Warns
        -----
        ParityWarning
            If the difference exceeds the tolerance, but not the limit.
        """
        n = (len(self.X),)
        kinds = anomaly_score.dtype.kind + label.dtype.kind
        if (anomaly_score.shape, label.shape, kinds) != (n, n, "fi"):
            raise ParityError(
                f"The exported {self.detector} does not return one score and one label for each "
                "sample."
            )
        difference = self.difference(anomaly_score)
        expected = max(tolerance, 2 * self.max_difference)
        found = (
            f"The exported {self.detector} differs by {difference:.1e} from the native score on "
            f"the reference batch, more than {expected:.0e}."
        )
        if not difference <= max(expected, 10 * expected if limit is None else limit):
            raise ParityError(
                f"{found} A part of the score that hardly varies over the training samples makes "
                "the rounding of float32 large: train longer, leave that part out of `score`, use "
                "the saved detector itself, or pass a larger `tolerance`."
            )
        n_others = int((label != self.label).sum())
        if n_others:
            raise ParityError(
                f"The exported {self.detector} labels {n_others} of {len(self.X)} samples of the "
                "reference batch differently from the native detector. If their scores lie within "
                f"{difference:.1e} of the threshold, set another one with `infer_threshold`."
            )
        if difference > expected:
            warnings.warn(
                f"{found} All labels agree. Runtimes round float32 differently: pass "
                f"tolerance={1.2 * difference:.1e} to accept this difference.",
                ParityWarning,
                stacklevel=2,
            )
        return difference

    def to_json(self) -> str:
        """Return the certificate as text, with arrays in base64."""
        values = asdict(self)
        if self.encoder is None:
            del values["encoder"]
        arrays = {name: _encode(values.pop(name)) for name in ("X", "anomaly_score", "label")}
        values = {"format": FORMAT, **values, **arrays}
        return json.dumps({**values, _CHECKSUM: _checksum(values)})

    @classmethod
    def from_json(cls, text: str | None, where: str) -> Certificate:
        """Read a certificate from a text of `to_json`, found in the file `where`.

        Raises
        ------
        ArchiveError
            If there is no certificate, or it is damaged. Time and memory are proportional to the
            length of the text.
        """
        if not text:
            raise ArchiveError(f"{where!r} has no certificate: gandetect did not export it.")
        try:
            if sum(map(text.count, "[{,")) > _MOST_ENTRIES:
                raise ValueError("it has too many entries")
            values = json.loads(text)
            found = values.pop(_CHECKSUM, None)
            version = values["format"]
            if version not in (1, 2, FORMAT):
                raise ValueError("it has another format")
            if found != _checksum(values):
                raise ValueError("its checksum does not match its content")
            del values["format"]
            values["input_shape"] = tuple(values["input_shape"])
            for name in ("X", "anomaly_score") + ("label",) * (version > 1):
                values[name] = _decode(values[name])
            if version == 1:  # version 1 has neither labels nor an origin
                is_flagged = values["anomaly_score"] > values["threshold"]
                values |= {"label": np.where(is_flagged, -1, 1), "origin": "artificial"}
            if "encoder" in values:
                values["encoder"] = ColumnEncoder.from_data(values["encoder"])
            values.setdefault("score_unit", values["unit"])  # missing in earlier files
            certificate = cls(**values)
            _refuse_nonsense(certificate)
        except _DAMAGE as error:
            raise ArchiveError(f"The certificate of {where!r} is damaged: {error}") from error
        return certificate

    def _scales(self) -> np.ndarray:
        scales: np.ndarray = np.maximum(self.unit, np.abs(self.anomaly_score))
        return scales


def certify(detector: BaseDetector, X: Any = None) -> Certificate:
    """Create the certificate of a fitted detector, without the measured difference.

    Parameters
    ----------
    detector : BaseDetector
    X : array-like, Dataset, path or None
        The reference batch, or more samples, from which some are selected. With None, one half is
        noise in the units of X. The other half is training samples that the detector stores for its
        score. If it stores none, the other half is reconstructions of the noise, which are nearer
        to the training data.

    Raises
    ------
    TypeError, ValueError
        As in `anomaly_score`, for X that the detector cannot score.
    """
    n_fitting = _REFERENCE_VALUES // prod(detector.sample_shape_)
    n = int(np.clip(n_fitting, 4, _REFERENCE_SAMPLES))
    model = detector.model_.scoring_as(detector)
    layout = model.layout.of_graph
    origin, reference = _drawn(detector, n) if X is None else ("given", _thinned(detector, X, n))
    scores = model.in_blocks(model.score, ArraySource(reference, layout))
    is_standardised = detector.chosen_score != "paper"
    names = getattr(detector, "feature_names_in_", None)
    return Certificate(
        detector=type(detector).__name__,
        gandetect=__version__,
        torch=torch.__version__,
        input_shape=layout.input_shape,
        feature_names=None if names is None else [str(name) for name in names],
        threshold=float(detector.threshold_),
        block_size=detector.model_.block_size(),
        unit=1.0 if is_standardised else float(scores.std()) or 1.0,
        score_unit=detector.model_.score_unit,
        max_difference=0.0,
        origin=origin,
        X=reference,
        anomaly_score=scores,
        label=model.label(torch.from_numpy(scores)).numpy(),
        encoder=model.layout.encoder,
    )


def _drawn(detector: BaseDetector, n: int) -> tuple[str, np.ndarray]:
    """Return the origin of n samples, and the samples."""
    rng = np.random.default_rng(0)
    shape = (n - n // 2, *detector.sample_shape_)
    if detector.scaler_.kind in ("unit", "symmetric"):
        noise = rng.uniform(-1, 1, size=shape)
    else:
        noise = rng.normal(size=shape)
    noise = _in_units(detector, torch.from_numpy(noise))
    kept = getattr(detector, "neighbours_", {}).get("sample_neighbours")
    if kept is None and detector.model_.gives_maps:  # features are reconstructed, not samples
        return "artificial", noise
    if kept is None:
        model, layout = detector.model_, detector.model_.layout.of_graph
        source = ArraySource(noise[: n // 2], layout)
        near = model.in_blocks(lambda x: model.reconstruct(x).mean(0), source)
        return "artificial", np.concatenate([noise, _in_units(detector, torch.from_numpy(near))])
    points = kept.points[0].cpu()
    points = points[thinned(np.arange(len(points)), n // 2)]
    near = _in_units(detector, points.double().reshape(-1, *detector.sample_shape_))
    return "training", np.concatenate([noise, near])


def _in_units(detector: BaseDetector, scaled: torch.Tensor) -> np.ndarray:
    """Convert scaled samples (n, *sample_shape_) to the units and the layout of `fit`."""
    x = detector.scaler_.inverse(scaled.double()).numpy()
    layout = detector.model_.layout.of_graph
    samples: np.ndarray = layout.restored(x, flat=False)
    # Columns stay float64: for a large offset, float32 would lose the differences in a column.
    return samples.astype(np.float32) if layout.is_image else samples


def _thinned(detector: BaseDetector, X: Any, n: int) -> np.ndarray:
    model = detector.model_
    source = read(model.settings, X, model.layout)
    x: np.ndarray = source.read(thinned(np.arange(len(source)), n))
    x = model.layout.of_graph.restored(x, flat=False)
    return x


def _encode(array: np.ndarray) -> dict[str, Any]:
    # Native byte order, because the name of a dtype does not contain the byte order.
    array = np.ascontiguousarray(array, array.dtype.newbyteorder("="))
    data = base64.b64encode(array.tobytes()).decode("ascii")
    return {"dtype": array.dtype.name, "shape": array.shape, "data": data}


def _decode(value: dict[str, Any]) -> np.ndarray:
    if value["dtype"] not in _DTYPES:
        raise ValueError(f"an array has dtype {value['dtype']!r}")
    if not all(type(size) is int and size >= 0 for size in value["shape"]):
        raise ValueError("an array has an invalid shape")
    data = base64.b64decode(value["data"], validate=True)
    return np.frombuffer(data, value["dtype"]).reshape(value["shape"])


def _checksum(values: dict[str, Any]) -> str:
    """A checksum that detects accidental damage; it is not a signature."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _refuse_nonsense(found: Certificate) -> None:
    """Raise ValueError for values that `certify` cannot have written.

    With a large unit, or a threshold that is not a number, any file would pass the check.
    """
    shape, names, scores = found.input_shape, found.feature_names, found.anomaly_score
    if not all(isinstance(text, str) for text in (found.detector, found.gandetect, found.torch)):
        raise ValueError("its texts are not strings")
    if not shape or not all(_is_count(size) for size in shape):
        raise ValueError("the shape of its samples is invalid")
    n = scores.size
    if not 1 <= n <= _REFERENCE_SAMPLES or scores.shape != (n,) or found.X.shape != (n, *shape):
        raise ValueError("the shapes of its arrays do not match")
    if found.label.shape != (n,) or not np.isin(found.label, (-1, 1)).all():
        raise ValueError("its labels are not +1 and -1")
    if found.origin not in _ORIGINS:
        raise ValueError("the origin of its samples is unknown")
    if scores.dtype != np.float64 or not (np.isfinite(scores).all() and np.isfinite(found.X).all()):
        raise ValueError("its samples or scores are not finite")
    if names is not None and not (
        isinstance(names, list)
        and len(names) == (prod(shape) if found.encoder is None else len(found.encoder.columns))
        and all(isinstance(name, str) for name in names)
    ):
        raise ValueError("its names of columns do not match its samples")
    if found.encoder is not None and shape != (found.encoder.width,):
        raise ValueError("its encoder does not match its samples")
    if not _is_count(found.block_size) or found.block_size > _MOST_IN_A_BLOCK:
        raise ValueError("its block size is invalid")
    if not _is_finite(found.threshold):
        raise ValueError("it has no threshold")
    # Another version of numpy may sum a standard deviation in another order.
    units = (1.0, float(scores.std()))
    if not _is_finite(found.unit) or not any(isclose(found.unit, unit) for unit in units if unit):
        raise ValueError("its unit does not match its scores")
    if not _is_finite(found.score_unit) or found.score_unit <= 0:
        raise ValueError("its unit of scores near the threshold is invalid")
    if not _is_finite(found.max_difference) or found.max_difference < 0:
        raise ValueError("its largest difference is invalid")
    if not isinstance(found.graph, str | None):
        raise ValueError("its checksum of the graph is invalid")


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 1


def _is_finite(value: Any) -> bool:
    return isinstance(value, float) and isfinite(value)


# The two formats.

# Maps samples (n, *input_shape) in float64 to anomaly scores and labels, (n,) each, and to maps
# (n, height, width) if the model has any.
Run = Callable[[np.ndarray], Sequence[np.ndarray]]

# The key of the certificate in the metadata of a file.
_KEY = "gandetect"
_CPU = ("CPUExecutionProvider",)

# The permitted operators of ONNX's default domain, to which detectors and torch's layers are
# exported. None of them runs other graphs, draws random numbers or reads anything but its inputs.
_OPERATORS = (
    "Abs Add And ArgMax ArgMin AveragePool BatchNormalization Cast CastLike Ceil Celu Clip Concat "
    "Constant ConstantOfShape Conv ConvTranspose Cos CumSum DepthToSpace Div Dropout Einsum Elu "
    "Equal Erf Exp Expand Flatten Floor Gather GatherElements GatherND Gelu Gemm GlobalAveragePool "
    "GlobalMaxPool Greater GreaterOrEqual GroupNormalization HardSigmoid HardSwish Identity "
    "InstanceNormalization IsInf IsNaN LayerNormalization LeakyRelu Less LessOrEqual Log "
    "LogSoftmax MatMul Max MaxPool Mean Min Mish Mod Mul Neg NonZero Not Or PRelu Pad Pow Range "
    "Reciprocal ReduceL1 ReduceL2 ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd "
    "ReduceSum ReduceSumSquare Relu Reshape Resize Round ScatterElements ScatterND Selu "
    "SequenceAt Shape Sigmoid Sign Sin Size Slice Softmax Softplus Softsign SpaceToDepth Split "
    "SplitToSequence Sqrt Squeeze Sub Sum Tan Tanh Tile TopK Transpose Trilu Unsqueeze Where "
    "Xor"
)
# The fields of a model and of its parts that `to_onnx` writes. Fields for graphs inside of
# operators, functions, training, sparse or external data are not permitted.
_FIELDS = {
    "ModelProto": "ir_version opset_import producer_name producer_version domain model_version "
    "doc_string graph metadata_props",
    "GraphProto": "name node initializer input output value_info doc_string metadata_props",
    "NodeProto": "name op_type domain overload input output attribute doc_string metadata_props",
    "AttributeProto": "name type f i s t floats ints strings doc_string",
    "TensorProto": "name dims data_type raw_data float_data int32_data int64_data double_data "
    "uint64_data doc_string",
}
# The largest number of fields in a model, many times that of the largest exported graph. The limit
# is needed because a parsed empty message takes up to a hundred times the memory of its two bytes.
_MOST_FIELDS = 2**18


@contextmanager
def _without_torchvision() -> Iterator[None]:
    """Omit the warnings of torch's exporter that torchvision, which no model needs, is missing."""
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")

    def is_other(record: logging.LogRecord) -> bool:
        return "torchvision is not installed" not in record.getMessage()

    logger.addFilter(is_other)
    try:
        yield
    finally:
        logger.removeFilter(is_other)


def to_onnx(
    detector: BaseDetector,
    path: str | os.PathLike[str],
    X: Any = None,
    *,
    tolerance: float = TOLERANCE,
) -> Certificate:
    """Write a fitted detector as an ONNX model for any ONNX runtime.

    The model takes ``X`` ``(n, *input_shape_)`` of doubles, in the units and the layout of `fit`
    and for any n, and returns ``anomaly_score`` (n,), doubles, and ``label`` (n,), +1 or -1; for an
    `RDNADetector` with a backbone also ``anomaly_map`` (n, height, width), doubles. A sample with a
    value that is not a number is labelled -1. The optional second input ``threshold``, a double
    without axes, defaults to `threshold_`.

    For a detector of encoded tables the input is encoded rows ``(n, width)``, because a graph
    cannot encode strings. The file contains the encoder as data: the scorer of `load_onnx` takes
    tables, and its ``certificate.encoder.encode(table)`` computes the rows for another runtime.

    Parameters
    ----------
    detector : BaseDetector
        The fitted detector.
    path : str or path
        The file to write. The write is atomic. Read the file with `load_onnx`, or directly with
        onnxruntime.
    X : array-like, Dataset, path or None, default=None
        Samples for the certificate: at most 256 rows, or fewer large images, are selected at equal
        intervals, and stored in the file unchanged. Pass your own samples, such as held-out normal
        ones. None uses training samples that the detector stores for its score, and artificial
        ones; `origin` of the certificate names the source.
    tolerance : float in [0, inf), default=1e-5
        The largest difference of a score without a warning, in standard deviations of the training
        scores, or relative to larger scores. The default is the agreement of two runtimes in
        float32 for most detectors of rows; scores of images often differ by up to 1e-4. Labels must
        agree for all samples of the certificate with any tolerance.

    Returns
    -------
    Certificate
        Its `max_difference` is the largest difference from the native scores.

    Raises
    ------
    ParityError
        If the scores of the model differ from the native ones by more than the tolerance and by
        more than 0.1, or a label differs. Nothing is written.
    TypeError, ValueError
        If `tolerance` is not a number or negative, the detector cannot score X, `score` was changed
        after the threshold was set, the method cannot be exported, torch cannot trace or translate
        the networks, or they need an operator that `load_onnx` does not permit.
    ImportError
        Without onnx, onnxscript and onnxruntime, or if torch is older than 2.9:
        ``pip install "gandetect[export]"``.

    Warns
    -----
    ParityWarning
        If the scores differ by more than the tolerance. The file is written, and its certificate
        has the difference.

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
    _check_torch()
    _check_detector(detector)
    _check_tolerance(tolerance)
    check_writable(path)
    onnx, _ = _require("onnx"), _require("onnxscript")
    model = exportable(detector)
    certificate = certify(detector, X)
    outputs = ["anomaly_score", "label", "anomaly_map"][: 3 if detector.model_.gives_maps else 2]
    names: dict[str, Any] = {"input_names": ["X", "threshold"], "output_names": outputs}
    with warnings.catch_warnings(), _without_torchvision(), torch.no_grad():
        # The exporter copies trees in a way that torch itself deprecates.
        warnings.simplefilter("ignore", FutureWarning)
        traced = _traced(_WithThreshold(model), torch.tensor(model.threshold, dtype=torch.float64))
        try:
            program = torch.onnx.export(traced, dynamo=True, verbose=False, **names)
        except Exception as error:  # torch does not document its errors, and versions differ
            raise TypeError(
                f"{type(detector).__name__} cannot be exported to ONNX, because torch.onnx cannot "
                f"translate its networks or its score: {_first_line(error)} Use other layers in "
                "the networks, or to_torch_export."
            ) from error
    assert program is not None
    graph = program.model_proto
    # An initializer with the name of an input is the default of that input.
    default = np.array(model.threshold)
    graph.graph.initializer.append(onnx.numpy_helper.from_array(default, "threshold"))
    if graph.functions:  # older exporters write a function for each of torch's operators
        graph = onnx.inliner.inline_local_functions(graph)
    del graph.metadata_props[:]
    content = graph.SerializeToString()
    try:
        _checked_model(content)
    except ValueError as error:
        raise ValueError(
            f"This detector cannot be an ONNX model that load_onnx opens: {error}. Use other "
            "layers in the networks, or to_torch_export."
        ) from error
    run = _onnx_run(content, _CPU, "The model")
    certificate = _measured(run, certificate, tolerance)
    certificate = dataclasses.replace(certificate, graph=_digest(content))
    entry = graph.metadata_props.add()
    entry.key, entry.value = _KEY, certificate.to_json()
    with written_aside(path) as file:
        file.write(graph.SerializeToString())
    return certificate


def load_onnx(
    path: str | os.PathLike[str],
    providers: Sequence[str] = _CPU,
    *,
    tolerance: float = TOLERANCE,
    threshold: float | None = None,
    n_jobs: int | None = None,
) -> ExportedScorer:
    """Load a file of `to_onnx`, and check it against its certificate.

    The file is parsed before onnxruntime opens it: a model with control flow, functions, external
    data, or an operator or a domain that `to_onnx` does not write, raises an error. A permitted
    model uses its inputs only, but may need much memory, and may return any score: a certificate is
    not a signature. Open models from unknown sources in a process with limits.

    Parameters
    ----------
    path : str or path
    providers : sequence of str, default=("CPUExecutionProvider",)
        The execution providers of onnxruntime, in order of preference.
    tolerance : float in [0, inf), default=1e-5
        The largest difference of a score without a warning; at least twice the `max_difference` of
        the certificate.
    threshold : float or None, default=None
        The threshold of the anomaly score. None is the exported one.
    n_jobs : int or None, default=None
        The number of threads of an operator, as in scikit-learn: -1 is all cores. None leaves it to
        onnxruntime, which uses all cores. 1 suits a server with several workers.

    Returns
    -------
    ExportedScorer

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ArchiveError
        If the file is damaged, or was not written by `to_onnx`.
    ParityError
        If the scores on this machine differ from those of the detector by more than ten times the
        tolerance, or a label differs.
    TypeError, ValueError
        If `tolerance` is not a number or negative, `threshold` is not a number or NaN, `n_jobs` is
        not an integer or 0, or `providers` is a string or names an unknown provider.
    ImportError
        Without onnx and onnxruntime: ``pip install "gandetect[export]"``. For a trusted model,
        onnxruntime alone is sufficient.

    Warns
    -----
    ParityWarning
        If the scores on this machine differ by more than the tolerance.
    """
    _check_tolerance(tolerance)
    _check_threshold(threshold)
    check_n_jobs(n_jobs)
    _check_providers(_require("onnxruntime"), providers)
    content = _content(path)
    try:
        model = _checked_model(content)
    except ValueError as error:
        raise ArchiveError(
            f"{str(path)!r} is damaged, or to_onnx did not write it: {error}."
        ) from error
    texts = [entry.value for entry in model.metadata_props if entry.key == _KEY]
    certificate = Certificate.from_json(texts[0] if texts else None, str(path))
    del model.metadata_props[:]
    content = model.SerializeToString()
    if certificate.graph not in (None, _digest(content)):
        raise ArchiveError(
            f"{str(path)!r} is damaged or was changed: its graph does not match the certificate."
        )
    run = _onnx_run(content, providers, str(path), n_jobs)
    return ExportedScorer(run, certificate, tolerance, threshold)


def to_torch_export(
    detector: BaseDetector,
    path: str | os.PathLike[str],
    X: Any = None,
    *,
    tolerance: float = TOLERANCE,
) -> Certificate:
    """Write a fitted detector as a `torch.export` program, which needs torch only.

    The program takes X ``(n, *input_shape_)``, float64, in the units and the layout of `fit`, for
    any n, and returns the anomaly scores (n,), float64, and the labels (n,), +1 or -1; for an
    `RDNADetector` with a backbone also the maps (n, height, width), float64. For encoded tables see
    `to_onnx`.

    Parameters
    ----------
    detector : BaseDetector
        The fitted detector.
    path : str or path
        The file to write, usually with the extension ``.pt2``. The write is atomic.
    X : array-like, Dataset, path or None, default=None
        Samples for the certificate, as in `to_onnx`.
    tolerance : float in [0, inf), default=1e-5
        The largest difference of a score that passes without a warning, as in `to_onnx`.

    Returns
    -------
    Certificate

    Raises
    ------
    ParityError
        If the scores of the program differ from the native ones by more than the tolerance and by
        more than 0.1, or a label differs. Nothing is written.
    ImportError
        If torch is older than 2.9.
    TypeError, ValueError
        If `tolerance` is not a number or negative, the detector cannot score X, `score` was changed
        after the threshold was set, the method cannot be exported, or torch cannot trace the
        networks.

    Warns
    -----
    ParityWarning
        If the scores differ by more than the tolerance.
    """
    _check_torch()
    _check_detector(detector)
    _check_tolerance(tolerance)
    check_writable(path)
    model = exportable(detector)
    certificate = certify(detector, X)
    program = _traced(model)
    certificate = _measured(_torch_run(program), certificate, tolerance)
    content = io.BytesIO()
    torch.export.save(program, content, extra_files={_KEY: certificate.to_json()})
    with written_aside(path) as file:
        file.write(content.getvalue())
    return certificate


def load_torch_export(
    path: str | os.PathLike[str],
    *,
    tolerance: float = TOLERANCE,
    threshold: float | None = None,
) -> ExportedScorer:
    """Load a file of `to_torch_export`, and check it against its certificate.

    **Opening such a file can run code from the file**: `torch.export.load` unpickles parts of it
    before any check is possible. Open only files whose author you trust. Otherwise, use files for
    `gandetect.load` or `load_onnx`.

    Parameters
    ----------
    path : str or path
    tolerance : float in [0, inf), default=1e-5
        The largest difference of a score that passes without a warning, as in `load_onnx`.
    threshold : float or None, default=None
        The threshold of the anomaly score, as in `load_onnx`.

    Returns
    -------
    ExportedScorer

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ArchiveError
        If the file is damaged, or was not written by `to_torch_export`.
    ParityError
        If the scores on this machine differ from those of the detector by more than ten times the
        tolerance, or a label differs.
    TypeError, ValueError
        If `tolerance` is not a number or negative, or `threshold` is not a number or NaN.

    Warns
    -----
    ParityWarning
        If the scores on this machine differ by more than the tolerance.
    """
    _check_tolerance(tolerance)
    _check_threshold(threshold)
    content = _content(path)
    extra_files = {_KEY: ""}
    try:
        program = torch.export.load(io.BytesIO(content), extra_files=extra_files)
    except Exception as error:  # torch does not document its errors, and versions differ
        raise ArchiveError(f"{str(path)!r} is damaged or not a torch.export program.") from error
    certificate = Certificate.from_json(extra_files[_KEY], str(path))
    return ExportedScorer(_torch_run(program), certificate, tolerance, threshold)


class ExportedScorer:
    """An exported detector that has been checked against its certificate.

    `load_onnx` and `load_torch_export` return it. Its methods have the names and sign conventions
    of a detector. It has no mutable state and can be called from several threads.

    Parameters
    ----------
    run : callable
        Runs the exported graph on one block of samples.
    certificate : Certificate
    tolerance : float in [0, inf), default=1e-5
        As in `load_onnx`.
    threshold : float or None, default=None
        As in `load_onnx`.

    Attributes
    ----------
    certificate : Certificate
    difference : float
        The difference from the native scores of the reference batch, measured on loading.
    threshold_, offset_ : float
        The exported or the given threshold: a sample is flagged if its anomaly score exceeds
        ``threshold_ = -offset_``. `predict` accepts another threshold for one call.

    Raises
    ------
    ParityError
        If the scores and labels of the graph differ from those of the certificate.
    ArchiveError
        If the graph cannot be run on the samples of the certificate.
    """

    def __init__(
        self,
        run: Run,
        certificate: Certificate,
        tolerance: float = TOLERANCE,
        threshold: float | None = None,
    ) -> None:
        self._run = run
        self.certificate = certificate
        self.threshold_ = certificate.threshold if threshold is None else float(threshold)
        self.offset_ = -self.threshold_
        try:
            scores, labels = _in_blocks(run, certificate.X, certificate.block_size)
        except Exception as error:  # onnxruntime and torch have no common class of errors
            raise ArchiveError(
                f"The exported {certificate.detector} cannot score the samples of its own "
                f"certificate: {error}"
            ) from error
        self.difference = certificate.check(scores, labels, tolerance)

    def anomaly_score(self, X: Any) -> np.ndarray:
        """Return the anomaly score, larger for more anomalous: see `BaseDetector.anomaly_score`.

        Parameters
        ----------
        X : array-like of shape ``(n_samples, *input_shape)``
            The samples; images may also be flat rows.

        Returns
        -------
        ndarray of shape (n_samples,), float64

        Raises
        ------
        ValueError
            If X is empty, of another shape or with other columns than in `fit`, or has a value that
            is missing (None, NaN), infinite, or beyond float64.
        TypeError
            If X is not a numeric array.
        """
        return self.scores_and_labels(X)[0]

    def score_samples(self, X: Any) -> np.ndarray:
        """Return the negative of `anomaly_score`, with scikit-learn's sign.

        Parameters
        ----------
        X : array-like of shape ``(n_samples, *input_shape)``

        Returns
        -------
        ndarray of shape (n_samples,), float64
        """
        return -self.anomaly_score(X)

    def predict(self, X: Any, threshold: float | None = None) -> np.ndarray:
        """Return +1 for inliers and -1 for outliers.

        Parameters
        ----------
        X : array-like of shape ``(n_samples, *input_shape)``
        threshold : float or None, default=None
            The threshold of the anomaly score. None is `threshold_`.

        Returns
        -------
        ndarray of shape (n_samples,), int

        Raises
        ------
        TypeError, ValueError
            As in `anomaly_score`, and if `threshold` is not a number or NaN.
        """
        return self.scores_and_labels(X, threshold)[1]

    def scores_and_labels(
        self, X: Any, threshold: float | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the results of `anomaly_score` and `predict`, computed together.

        Parameters
        ----------
        X : array-like of shape ``(n_samples, *input_shape)``
        threshold : float or None, default=None
            As in `predict`. A score within 1e-5 of it (in the certificate's `score_unit`, and
            relative to a larger threshold) is not flagged, because of rounding.

        Returns
        -------
        ndarray of shape (n_samples,), float64
        ndarray of shape (n_samples,), int

        Raises
        ------
        TypeError, ValueError
            As in `predict`.
        """
        _check_threshold(threshold)
        scores, labels = _in_blocks(self._run, self._checked(X), self.certificate.block_size)
        threshold = self.threshold_ if threshold is None else threshold
        if threshold == self.certificate.threshold:
            return scores, labels
        size = min(max(self.certificate.score_unit, abs(threshold)), WORST_SCORE)
        margin = SCORE_TOLERANCE * size
        return scores, np.where(scores > threshold + margin, -1, 1)

    def anomaly_map(self, X: Any) -> np.ndarray:
        """Return the anomaly map: see `BaseDetector.anomaly_map`.

        Parameters
        ----------
        X : array-like of shape ``(n_samples, *input_shape)``

        Returns
        -------
        ndarray of shape (n_samples, height, width), float64

        Raises
        ------
        TypeError, ValueError
            As in `anomaly_score`; TypeError also if the file has no maps. Only files of an
            `RDNADetector` with a backbone have maps.
        """
        maps = _in_blocks(self._run, self._checked(X), self.certificate.block_size, slice(2, None))
        if not maps:
            raise TypeError(
                "This file has scores and labels only: maps are exported for an RDNADetector "
                "with a backbone."
            )
        return maps[0]

    def _checked(self, X: Any) -> np.ndarray:
        if self.certificate.encoder is not None:
            return self.certificate.encoder.encode(X)
        names, columns = self.certificate.feature_names, getattr(X, "columns", None)
        if names is not None and columns is not None and list(columns) != names:
            raise ValueError(
                "The columns of X must be those that the detector was fitted to, in the same "
                f"order: {names}."
            )
        x: np.ndarray = check_array(
            _numbers(X), allow_nd=True, ensure_2d=False, ensure_all_finite=False
        )
        if not np.isfinite(x).all():
            kind = "NaN" if np.isnan(x).any() else "infinity"
            raise ValueError(f"Input X contains {kind}: leave out or impute the sample.")
        shape = self.certificate.input_shape
        if x.ndim == 2 and len(shape) > 1 and x.shape[1] == prod(shape):
            x = x.reshape(len(x), *shape)
        if x.shape[1:] != shape:
            hint = " X is one sample: pass [X]." if x.shape == shape else ""
            raise ValueError(
                f"X contains samples of shape {x.shape[1:]}, but the exported detector takes "
                f"{shape}.{hint}"
            )
        return x


def _in_blocks(run: Run, X: np.ndarray, size: int, outputs: slice = slice(2)) -> list[np.ndarray]:
    """Run the graph in blocks, because distances to neighbours need much memory."""
    parts = (X[start : start + size].astype(np.float64) for start in range(0, len(X), size))
    blocks = [run(part)[outputs] for part in parts]
    return [np.concatenate(of_blocks) for of_blocks in zip(*blocks, strict=True)]


def _numbers(X: Any) -> np.ndarray:
    """Return X as an array of numbers; raise for text and missing values."""
    if isinstance(X, torch.Tensor):
        X = X.detach().cpu()
        X = X.float() if X.dtype == torch.bfloat16 else X  # which numpy does not have
    if isinstance(X, np.ma.MaskedArray) and np.ma.getmaskarray(X).any():
        raise ValueError("X has a missing value (masked): leave out or impute the sample.")
    try:
        array = np.asarray(X)
    except ValueError as error:
        raise ValueError("X has samples that differ in length: all must have one shape.") from error
    if array.ndim == 0:
        raise TypeError(f"X must be an array of samples, got {type(X).__name__}.")
    if array.dtype.kind != "O":
        types = {str} if array.dtype.kind in "USMmV" else set()
    else:
        types = {type(value) for value in array.flat}
    if types & {str, bytes}:
        raise TypeError("X must be numeric, but contains text or dates.")
    if {"NoneType", "NAType", "NaTType"} & {found.__name__ for found in types}:
        raise ValueError("X has a missing value (None, NA or NaT): leave out or impute the sample.")
    try:
        return array.astype(np.float64) if types else array
    except OverflowError as error:
        raise ValueError("X has an integer that is too large for float64.") from error
    except (TypeError, ValueError) as error:
        raise TypeError(f"X must be numeric: {error}") from error


class _WithThreshold(torch.nn.Module):
    """A model whose threshold is a second input."""

    def __init__(self, model: Model[Any]) -> None:
        super().__init__()
        self.model, self.layout, self.settings = model, model.layout, model.settings

    def forward(self, X: torch.Tensor, threshold: torch.Tensor) -> tuple[torch.Tensor, ...]:
        score, _, *maps = self.model(X)
        return score, self.model.label(score, threshold), *maps


def _traced(model: Model[Any] | _WithThreshold, *thresholds: torch.Tensor) -> ExportedProgram:
    example = torch.zeros(3, *model.layout.of_graph.input_shape, dtype=torch.float64)
    shapes = ({0: Dim("n_samples")}, *[None for _ in thresholds])
    try:
        with torch.no_grad():
            return torch.export.export(
                model, (example, *thresholds), dynamic_shapes=shapes, strict=False
            )
    except Exception as error:  # torch does not document its errors, and versions differ
        name = type(model.settings).__name__
        raise TypeError(
            f"{name} cannot be exported, because torch.export cannot follow its networks or its "
            f"score: {_first_line(error)} The usual causes are gradients in a score, calls of "
            "numpy, and decisions on the values of a tensor. Use torch operations only, or save "
            "the detector with its method save."
        ) from error


def _first_line(error: BaseException) -> str:
    """The first line of the cause of an error of torch; further lines are about its internals."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].rstrip(".: ") + "."


def exportable(detector: BaseDetector) -> Model[Any]:
    """Return the fitted model on the CPU, with the `score` of the detector's parameters.

    Raises
    ------
    TypeError
        If the method cannot be exported.
    ValueError
        If `score` was changed after the threshold was set.
    """
    model = detector.model_.scoring_as(detector)
    reason = getattr(model, "cannot_be_exported", None)
    if reason is not None:
        raise TypeError(f"{type(detector).__name__} cannot be exported because {reason}")
    model.check_threshold()
    copied = copy.deepcopy(model).cpu().eval()
    # torch.export.save warns of tensors that are views of others, or are not contiguous.
    for tensor in (*copied.parameters(), *copied.buffers()):
        tensor.data = tensor.detach().clone(memory_format=torch.contiguous_format)
    return copied


def _check_torch() -> None:
    """Raise an error for an exporter that does not accept the graphs of detectors."""
    if torch.__version__ < _LEAST_TORCH:
        raise ImportError(
            f"Exporting needs torch {_LEAST_TORCH} or newer, and this is torch "
            f'{torch.__version__}: pip install --upgrade "gandetect[export]".'
        )


def _check_detector(detector: Any) -> None:
    if not isinstance(detector, BaseDetector):
        raise TypeError(
            f"Only a detector can be exported, got {type(detector).__name__}: for a pipeline, pass "
            "the last step, pipeline[-1], and the output of the other steps as X, "
            "pipeline[:-1].transform(X)."
        )
    check_is_fitted(detector)


def _check_tolerance(tolerance: float) -> None:
    if not isinstance(tolerance, Real) or isinstance(tolerance, bool):
        raise TypeError(f"tolerance must be a number, got {tolerance!r}.")
    if not 0 <= tolerance < float("inf"):
        raise ValueError(f"tolerance must be a finite number of at least 0, got {tolerance!r}.")


def _check_threshold(threshold: float | None) -> None:
    if threshold is None:
        return
    if isinstance(threshold, bool) or not isinstance(threshold, Real):
        raise TypeError(f"threshold must be a number or None, got {threshold!r}.")
    if isnan(threshold):
        raise ValueError("threshold must be a number or None, got NaN.")


def _measured(run: Run, certificate: Certificate, tolerance: float) -> Certificate:
    scores, labels = _in_blocks(run, certificate.X, certificate.block_size)
    difference = certificate.check(scores, labels, tolerance, LARGEST_DIFFERENCE)
    return dataclasses.replace(certificate, max_difference=difference)


def _checked_model(content: bytes) -> Any:
    """Parse the onnx.ModelProto of a file, and check that it contains only what `to_onnx` writes.

    Raises
    ------
    ValueError
        If it contains anything else, or is damaged. The fields are counted before they are parsed,
        so that memory is proportional to the size of the file.
    """
    onnx, operators = _require("onnx"), set(_OPERATORS.split())
    try:
        _count_fields(memoryview(content), onnx.ModelProto.DESCRIPTOR)
        model = onnx.ModelProto.FromString(content)
    except (IndexError, RecursionError) as error:
        raise ValueError("it is not an ONNX model") from error
    except ValueError:
        raise
    except Exception as error:  # protobuf's implementations raise different errors
        raise ValueError(f"it is not an ONNX model ({error})") from error
    for node in model.graph.node:
        if node.domain not in ("", "ai.onnx") or node.op_type not in operators:
            name = f"{node.domain}.{node.op_type}".strip(".")
            raise ValueError(f"it has the unsupported operator {name[:99]!r}")
    attributes = [found for node in model.graph.node for found in node.attribute]
    for tensor in (*model.graph.initializer, *(a.t for a in attributes if a.HasField("t"))):
        # Eight entries per byte: more than any data type has.
        if len(tensor.dims) > 16 or not 0 <= prod(tensor.dims) <= 8 * tensor.ByteSize():
            raise ValueError(f"the tensor {tensor.name[:99]!r} does not have the shape of its data")
    return model


def _count_fields(data: memoryview, kind: Any, n: int = 0) -> int:
    """Return the number of fields of a serialized message and its submessages, plus `n`.

    Raises
    ------
    ValueError
        If there are too many, or one is unknown or not written by `to_onnx`.
    IndexError
        If the message is truncated.
    """
    names, at = _FIELDS.get(kind.name, "").split(), 0
    while at < len(data):
        key, at = _varint(data, at)
        field = kind.fields_by_number.get(key >> 3)
        if field is None or (names and field.name not in names):
            name = field.name if field else key >> 3
            raise ValueError(f"its {kind.name} has the unknown field {name!r}")
        n += 1
        if n > _MOST_FIELDS:
            raise ValueError(f"it has more than {_MOST_FIELDS} fields")
        size = {1: 8, 5: 4}.get(key & 7, 0)
        if key & 7 == 0:
            _, at = _varint(data, at)
        elif key & 7 == 2:
            size, at = _varint(data, at)
        elif not size:
            raise ValueError("it is not an ONNX model")
        if key & 7 == 2 and field.message_type:
            n = _count_fields(data[at : at + size], field.message_type, n)
        at += size
    if at > len(data):
        raise IndexError
    return n


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """Return the variable-length integer at a position, and the position after it."""
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise ValueError("it is not an ONNX model")


def _onnx_run(model: bytes, providers: Sequence[str], where: str, n_jobs: int | None = None) -> Run:
    """Return the function that runs a model."""
    onnxruntime = _require("onnxruntime")
    options = onnxruntime.SessionOptions()
    if n_jobs is not None:
        options.intra_op_num_threads = joblib.effective_n_jobs(n_jobs)
    options.log_severity_level = 3  # hides warnings about inputs with a default
    try:
        session = onnxruntime.InferenceSession(model, options, providers=list(providers))
    except Exception as error:  # onnxruntime's errors have no common class
        raise ArchiveError(f"{where!r} is damaged or not an ONNX model: {error}") from error

    maps = [output.name for output in session.get_outputs() if output.name == "anomaly_map"]

    def run(X: np.ndarray) -> Sequence[np.ndarray]:
        found: list[np.ndarray] = session.run(["anomaly_score", "label", *maps], {"X": X})
        return found

    return run


def _check_providers(onnxruntime: Any, providers: Any) -> None:
    """Raise for names that onnxruntime would print an error of, and replace by others.

    A known provider that is not installed is no error: the next one of the sequence is used.
    """
    available = onnxruntime.get_available_providers()
    if isinstance(providers, str) or not isinstance(providers, Sequence):
        raise TypeError(
            f"providers must be a sequence of names, such as {available[-1:]}, got {providers!r}."
        )
    names = [given[0] if isinstance(given, tuple) and given else given for given in providers]
    known = {*onnxruntime.get_all_providers(), *available}
    if unknown := [name for name in names if name not in known]:
        raise ValueError(
            f"onnxruntime has no execution provider {unknown[0]!r}: here it has {available}."
        )


def _torch_run(program: ExportedProgram) -> Run:
    module = program.module()

    def run(X: np.ndarray) -> Sequence[np.ndarray]:
        with torch.inference_mode():
            found = module(torch.from_numpy(np.ascontiguousarray(X)))
        return [values.numpy() for values in found]

    return run


def _content(path: str | os.PathLike[str]) -> bytes:
    if Path(path).is_dir():
        raise ArchiveError(f"{str(path)!r} is a folder, not an exported file.")
    if not Path(path).is_file():
        raise FileNotFoundError(f"There is no file {str(path)!r}.")
    content = Path(path).read_bytes()
    if is_archive(content):
        raise ArchiveError(
            f"{str(path)!r} is a file of save or Checkpoint, not an exported file: a saved "
            "detector is read by gandetect.load."
        )
    return content


def _require(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(f'exported files need {name}: pip install "gandetect[export]"') from error
