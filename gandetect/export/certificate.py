"""What stands in every exported file: samples, their native scores, and how near the file came."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import asdict, dataclass
from math import isclose, isfinite, prod
from typing import Any

import numpy as np
import torch

from gandetect import __version__
from gandetect.archive import ArchiveError
from gandetect.base import BaseDetector
from gandetect.data.sources import read
from gandetect.model.fitted import thinned

FORMAT = 1
# The largest difference of a score that is accepted, in the certificate's unit.
TOLERANCE = 1e-5
# Numbers in a reference batch: 1 MiB as float32.
_REFERENCE_VALUES = 2**18
_CHECKSUM = "sha256"
# What reading a text that is no certificate may raise.
_DAMAGE = (ValueError, TypeError, KeyError, OverflowError, AttributeError, RecursionError)
_DTYPES = {np.dtype(code).name for code in "?efd" + np.typecodes["AllInteger"]}


class ParityError(ValueError):
    """An exported file whose scores or labels are not those of the detector it came from."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Certificate:
    """A reference batch with its native scores, against which an exported file is checked.

    Parameters
    ----------
    detector : str
        Its class.
    gandetect, torch : str
        The versions that wrote the file.
    input_shape : tuple of int
        Of one sample.
    feature_names : list of str or None
        The columns that X had in `fit`, in their order.
    threshold : float
    block_size : int
        Samples to score at once.
    unit : float
        What a difference is measured in where scores are smaller: 1 for standardised scores,
        which are in standard deviations of the training samples already, and for other scores
        their standard deviation over the reference batch.
    max_difference : float
        The largest difference when the file was written, see `difference`.
    X : ndarray of shape ``(n, *input_shape)``
    anomaly_score : ndarray of shape (n,)
        Native.
    """

    detector: str
    gandetect: str
    torch: str
    input_shape: tuple[int, ...]
    feature_names: list[str] | None
    threshold: float
    block_size: int
    unit: float
    max_difference: float
    X: np.ndarray
    anomaly_score: np.ndarray

    def difference(self, anomaly_score: np.ndarray) -> float:
        """The largest difference from the native scores.

        It is relative for scores larger than `unit`, since float32 has seven digits, and in
        units for smaller ones.
        """
        differences = np.abs(anomaly_score - self.anomaly_score)
        return float(np.max(differences / self._scales()))

    def check(self, anomaly_score: np.ndarray, label: np.ndarray) -> float:
        """Return `difference`, and raise `ParityError` if the file is not what it was made from.

        Raises
        ------
        ParityError
            If the difference exceeds 1e-5 or is not a number, or a label is wrong, or the file
            gives something else than a score and a label a sample.
        """
        n = (len(self.X),)
        if (anomaly_score.shape, label.shape) != (n, n) or anomaly_score.dtype.kind != "f":
            raise ParityError(f"The exported {self.detector} gives no score and label a sample.")
        difference = self.difference(anomaly_score)
        if not difference <= TOLERANCE:
            raise ParityError(
                f"The exported {self.detector} differs by {difference:.1e} from the native score "
                f"on the reference batch, more than {TOLERANCE:.0e}. Networks compute in float32, "
                "and a part of the score that hardly varies over the training samples makes their "
                "rounding large: train longer, leave that part out of `score`, or use the saved "
                "detector itself."
            )
        # On the threshold itself rounding decides.
        is_clear = np.abs(self.anomaly_score - self.threshold) > TOLERANCE * self._scales()
        expected = np.where(self.anomaly_score > self.threshold, -1, 1)
        if (label != expected)[is_clear].any():
            raise ParityError(f"The exported {self.detector} gives other labels than the native.")
        return difference

    def to_json(self) -> str:
        """As text, arrays in base64."""
        values = asdict(self)
        arrays = {name: _encode(values.pop(name)) for name in ("X", "anomaly_score")}
        values = {"format": FORMAT, **values, **arrays}
        return json.dumps({**values, _CHECKSUM: _checksum(values)})

    @classmethod
    def from_json(cls, text: str | None, where: str) -> Certificate:
        """From `to_json`'s text, found in the file `where`.

        Raises
        ------
        ArchiveError
            If there is no certificate, or it is damaged.
        """
        if not text:
            raise ArchiveError(f"{where!r} has no certificate: gandetect did not export it.")
        try:
            values = json.loads(text)
            found = values.pop(_CHECKSUM, None)
            if values["format"] != FORMAT:
                raise ValueError("it has another format")
            if found != _checksum(values):
                raise ValueError("its checksum is not that of its content")
            del values["format"]
            values["input_shape"] = tuple(values["input_shape"])
            for name in ("X", "anomaly_score"):
                values[name] = _decode(values[name])
            certificate = cls(**values)
            _refuse_nonsense(certificate)
        except _DAMAGE as error:
            raise ArchiveError(f"The certificate of {where!r} is damaged: {error}") from error
        return certificate

    def _scales(self) -> np.ndarray:
        return np.maximum(self.unit, np.abs(self.anomaly_score))


def certify(detector: BaseDetector, X: Any = None) -> Certificate:
    """The certificate of a fitted detector, whose difference is still to be measured.

    Parameters
    ----------
    detector : BaseDetector
    X : array-like, Dataset, path or None
        The reference batch, or more samples, of which some are taken. None draws noise in the
        detector's units and has the networks reconstruct it, which brings it near to what the
        detector was fitted to.
    """
    n = int(np.clip(_REFERENCE_VALUES // prod(detector.sample_shape_), 4, 256))
    reference = _noise(detector, n) if X is None else _thinned(detector, X, n)
    scores = detector.anomaly_score(reference)
    is_standardised = detector.chosen_score != "paper"
    names = getattr(detector, "feature_names_in_", None)
    return Certificate(
        detector=type(detector).__name__,
        gandetect=__version__,
        torch=torch.__version__,
        input_shape=tuple(detector.input_shape_),
        feature_names=None if names is None else [str(name) for name in names],
        threshold=float(detector.threshold_),
        block_size=detector.model_.block_size(),
        unit=1.0 if is_standardised else float(scores.std()) or 1.0,
        max_difference=0.0,
        X=reference,
        anomaly_score=scores,
    )


def _noise(detector: BaseDetector, n: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    shape = (n - n // 2, *detector.sample_shape_)
    if detector.scaler_.kind in ("unit", "symmetric"):
        noise = rng.uniform(-1, 1, size=shape)
    else:
        noise = rng.normal(size=shape)
    x = detector.scaler_.inverse(torch.from_numpy(noise)).numpy()
    layout = detector.model_.layout
    x = layout.restored(x).astype(np.float32)
    x = np.concatenate([x, detector.reconstruct(x[: n // 2]).astype(np.float32)])
    return x.reshape(len(x), *layout.input_shape)


def _thinned(detector: BaseDetector, X: Any, n: int) -> np.ndarray:
    model = detector.model_
    source = read(model.settings, X, model.layout)
    return model.layout.restored(source.read(thinned(np.arange(len(source)), n)), flat=False)


def _encode(array: np.ndarray) -> dict[str, Any]:
    array = np.ascontiguousarray(array, array.dtype.newbyteorder("="))  # a name has no byte order
    data = base64.b64encode(array.tobytes()).decode("ascii")
    return {"dtype": array.dtype.name, "shape": array.shape, "data": data}


def _decode(value: dict[str, Any]) -> np.ndarray:
    if value["dtype"] not in _DTYPES:
        raise ValueError(f"an array has dtype {value['dtype']!r}")
    data = base64.b64decode(value["data"], validate=True)
    return np.frombuffer(data, value["dtype"]).reshape(value["shape"])


def _checksum(values: dict[str, Any]) -> str:
    """It finds what was damaged by accident; whoever wants to deceive can compute it as well."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _refuse_nonsense(found: Certificate) -> None:
    """Raise ValueError for values that `certify` cannot have put there.

    With a unit large enough, or a threshold that is not a number, any file would pass.
    """
    shape, names, scores = found.input_shape, found.feature_names, found.anomaly_score
    if not all(isinstance(text, str) for text in (found.detector, found.gandetect, found.torch)):
        raise ValueError("its texts are no texts")
    if not shape or not all(_is_count(size) for size in shape):
        raise ValueError("it has no shape of samples")
    if len(scores) == 0 or found.X.shape != (len(scores), *shape):
        raise ValueError("its arrays do not fit together")
    if scores.dtype != np.float64 or not (np.isfinite(scores).all() and np.isfinite(found.X).all()):
        raise ValueError("its samples or scores are no finite numbers")
    if names is not None and not (
        isinstance(names, list)
        and len(names) == prod(shape)
        and all(isinstance(name, str) for name in names)
    ):
        raise ValueError("its names of columns do not fit its samples")
    if not _is_count(found.block_size) or found.block_size > 2**20:
        raise ValueError("it has no size of blocks")
    if not _is_finite(found.threshold):
        raise ValueError("it has no threshold")
    # Another numpy may add up a standard deviation in another order.
    units = (1.0, float(scores.std()))
    if not _is_finite(found.unit) or not any(isclose(found.unit, unit) for unit in units if unit):
        raise ValueError("its unit is not that of its scores")
    if not _is_finite(found.max_difference) or not 0 <= found.max_difference <= TOLERANCE:
        raise ValueError("its largest difference is none that is accepted")


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 1


def _is_finite(value: Any) -> bool:
    return isinstance(value, float) and isfinite(value)
