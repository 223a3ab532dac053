"""What stands in every exported file: samples, their native scores, and how near the file came."""

from __future__ import annotations

import base64
import hashlib
import json
import warnings
from dataclasses import asdict, dataclass
from math import isclose, isfinite, prod
from typing import Any

import numpy as np
import torch

from gandetect import __version__
from gandetect.archive import ArchiveError
from gandetect.base import BaseDetector
from gandetect.data.columns import ColumnEncoder
from gandetect.data.sources import ArraySource, read
from gandetect.model.fitted import thinned

FORMAT = 2
# The largest difference of a score that passes without a warning, in the certificate's unit.
TOLERANCE = 1e-5
# The largest difference with which a file is written: a tenth of what training scores vary. Of
# images 1e-5 to 1e-4 is usual, and more where a part of the score hardly varies over the training
# samples, which multiplies the rounding of float32.
LARGEST_DIFFERENCE = 0.1
# Numbers in a reference batch, and samples.
_REFERENCE_VALUES, _REFERENCE_SAMPLES = 2**18, 256
# Entries of all lists in a certificate's text, of which names of columns are the most.
_MOST_ENTRIES = 2**20
# Samples of a block: those of a forged certificate must not ask for all the memory at once.
_MOST_IN_A_BLOCK = 2**12
_ORIGINS = ("given", "training", "artificial")
_CHECKSUM = "sha256"
# What reading a text that is no certificate may raise.
_DAMAGE = (ValueError, TypeError, KeyError, OverflowError, AttributeError, RecursionError)
_DTYPES = {np.dtype(code).name for code in "?efd" + np.typecodes["AllInteger"]}


class ParityError(ValueError):
    """An exported file whose scores or labels are not those of the detector it came from."""


class ParityWarning(UserWarning):
    """An exported file whose scores differ by more than the tolerance, but whose labels do not.

    Networks compute in float32, and two runtimes add up in different orders. The certificate says
    by how much they differ.
    """


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
        Of one sample, as the graph takes it.
    feature_names : list of str or None
        The columns that X had in `fit`, in their order.
    threshold : float
    block_size : int
        Samples to score at once.
    unit : float
        What a difference is measured in where scores are smaller: 1 for standardised scores,
        which are in standard deviations of the training samples already, and for other scores
        their standard deviation over the reference batch.
    score_unit : float
        What the rounding of a score near a threshold is measured in.
    max_difference : float
        The largest difference when the file was written, see `difference`.
    origin : {"given", "training", "artificial"}
        Where X comes from: it was given by the user, or a part of it is training samples that the
        detector keeps for its score, or all of it is artificial. A difference over artificial
        samples says less about real ones.
    X : ndarray of shape ``(n, *input_shape)``
    anomaly_score : ndarray of shape (n,), float64
        Native.
    label : ndarray of shape (n,), int
        Native: +1 or -1.
    encoder : ColumnEncoder or None, default=None
        Of a detector of tables with columns of any kind: it makes of a table what the graph takes.
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

    def difference(self, anomaly_score: np.ndarray) -> float:
        """The largest difference from the native scores.

        It is relative for scores larger than `unit`, since float32 has seven digits, and in
        units for smaller ones.
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
        """Return `difference`, and raise `ParityError` if the file is not what it was made from.

        Parameters
        ----------
        anomaly_score, label : ndarray of shape (n,)
            What the file gives for X.
        tolerance : float in [0, inf), default=1e-5
            The largest difference that passes without a warning. Twice the `max_difference` passes
            in any case: it was told when the file was written.
        limit : float or None, default=None
            The largest difference that passes with a warning. None is ten times what passes
            without one.

        Raises
        ------
        ParityError
            If the difference exceeds the limit and the tolerance or is not a number, or a label is
            another, or the file gives something else than a score and a label a sample.

        Warns
        -----
        ParityWarning
            If the difference exceeds the tolerance, but not the limit.
        """
        n = (len(self.X),)
        kinds = anomaly_score.dtype.kind + label.dtype.kind
        if (anomaly_score.shape, label.shape, kinds) != (n, n, "fi"):
            raise ParityError(f"The exported {self.detector} gives no score and label a sample.")
        difference = self.difference(anomaly_score)
        expected = max(tolerance, 2 * self.max_difference)
        found = (
            f"The exported {self.detector} differs by {difference:.1e} from the native score on "
            f"the reference batch, more than {expected:.0e}."
        )
        if not difference <= max(expected, 10 * expected if limit is None else limit):
            raise ParityError(
                f"{found} A part of the score that hardly varies over the training samples makes "
                "the rounding of float32 large: train longer, leave that part out of `score`, "
                "use the saved detector itself, or give a larger `tolerance`."
            )
        n_others = int((label != self.label).sum())
        if n_others:
            raise ParityError(
                f"The exported {self.detector} gives {n_others} of {len(self.X)} samples of the "
                f"reference batch other labels than the native. If their scores lie within "
                f"{difference:.1e} of the threshold, set another one with `infer_threshold`."
            )
        if difference > expected:
            warnings.warn(
                f"{found} All labels agree. Two runtimes round float32 differently: give "
                f"tolerance={1.2 * difference:.1e} if that is near enough.",
                ParityWarning,
                stacklevel=2,
            )
        return difference

    def to_json(self) -> str:
        """As text, arrays in base64."""
        values = asdict(self)
        if self.encoder is None:
            del values["encoder"]
        arrays = {name: _encode(values.pop(name)) for name in ("X", "anomaly_score", "label")}
        values = {"format": FORMAT, **values, **arrays}
        return json.dumps({**values, _CHECKSUM: _checksum(values)})

    @classmethod
    def from_json(cls, text: str | None, where: str) -> Certificate:
        """From `to_json`'s text, found in the file `where`.

        Raises
        ------
        ArchiveError
            If there is no certificate, or it is damaged. Time and memory are in proportion to the
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
            if version not in (1, FORMAT):
                raise ValueError("it has another format")
            if found != _checksum(values):
                raise ValueError("its checksum is not that of its content")
            del values["format"]
            values["input_shape"] = tuple(values["input_shape"])
            for name in ("X", "anomaly_score") + ("label",) * (version > 1):
                values[name] = _decode(values[name])
            if version == 1:  # it has neither labels nor where its samples come from
                is_flagged = values["anomaly_score"] > values["threshold"]
                values |= {"label": np.where(is_flagged, -1, 1), "origin": "artificial"}
            if "encoder" in values:
                values["encoder"] = ColumnEncoder.from_data(values["encoder"])
            values.setdefault("score_unit", values["unit"])  # of earlier files
            certificate = cls(**values)
            _refuse_nonsense(certificate)
        except _DAMAGE as error:
            raise ArchiveError(f"The certificate of {where!r} is damaged: {error}") from error
        return certificate

    def _scales(self) -> np.ndarray:
        scales: np.ndarray = np.maximum(self.unit, np.abs(self.anomaly_score))
        return scales


def certify(detector: BaseDetector, X: Any = None) -> Certificate:
    """The certificate of a fitted detector, whose difference is still to be measured.

    Parameters
    ----------
    detector : BaseDetector
    X : array-like, Dataset, path or None
        The reference batch, or more samples, of which some are taken. None draws noise in the
        detector's units for one half. The other half is training samples that the detector keeps
        for its score, or where it keeps none, what the networks reconstruct of the noise, which
        is nearer to what the detector was fitted to.

    Raises
    ------
    TypeError, ValueError
        As `anomaly_score` does, for X that the detector cannot score.
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
    """Where n samples come from, and the samples."""
    rng = np.random.default_rng(0)
    shape = (n - n // 2, *detector.sample_shape_)
    if detector.scaler_.kind in ("unit", "symmetric"):
        noise = rng.uniform(-1, 1, size=shape)
    else:
        noise = rng.normal(size=shape)
    noise = _in_units(detector, torch.from_numpy(noise))
    kept = getattr(detector, "neighbours_", {}).get("sample_neighbours")
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
    """Scaled samples (n, *sample_shape_) in the units and the layout of `fit`."""
    x = detector.scaler_.inverse(scaled.double()).numpy()
    layout = detector.model_.layout.of_graph
    samples: np.ndarray = layout.restored(x, flat=False)
    # The offset of a column may be all that float32 holds.
    return samples.astype(np.float32) if layout.is_image else samples


def _thinned(detector: BaseDetector, X: Any, n: int) -> np.ndarray:
    model = detector.model_
    source = read(model.settings, X, model.layout)
    x: np.ndarray = source.read(thinned(np.arange(len(source)), n))
    x = model.layout.of_graph.restored(x, flat=False)
    return x


def _encode(array: np.ndarray) -> dict[str, Any]:
    array = np.ascontiguousarray(array, array.dtype.newbyteorder("="))  # a name has no byte order
    data = base64.b64encode(array.tobytes()).decode("ascii")
    return {"dtype": array.dtype.name, "shape": array.shape, "data": data}


def _decode(value: dict[str, Any]) -> np.ndarray:
    if value["dtype"] not in _DTYPES:
        raise ValueError(f"an array has dtype {value['dtype']!r}")
    if not all(type(size) is int and size >= 0 for size in value["shape"]):
        raise ValueError("an array has no shape")
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
    n = scores.size
    if not 1 <= n <= _REFERENCE_SAMPLES or scores.shape != (n,) or found.X.shape != (n, *shape):
        raise ValueError("its arrays do not fit together")
    if found.label.shape != (n,) or not np.isin(found.label, (-1, 1)).all():
        raise ValueError("its labels are not +1 and -1")
    if found.origin not in _ORIGINS:
        raise ValueError("it does not say where its samples come from")
    if scores.dtype != np.float64 or not (np.isfinite(scores).all() and np.isfinite(found.X).all()):
        raise ValueError("its samples or scores are no finite numbers")
    if names is not None and not (
        isinstance(names, list)
        and len(names) == (prod(shape) if found.encoder is None else len(found.encoder.columns))
        and all(isinstance(name, str) for name in names)
    ):
        raise ValueError("its names of columns do not fit its samples")
    if found.encoder is not None and shape != (found.encoder.width,):
        raise ValueError("its encoder does not fit its samples")
    if not _is_count(found.block_size) or found.block_size > _MOST_IN_A_BLOCK:
        raise ValueError("it has no size of blocks")
    if not _is_finite(found.threshold):
        raise ValueError("it has no threshold")
    # Another numpy may add up a standard deviation in another order.
    units = (1.0, float(scores.std()))
    if not _is_finite(found.unit) or not any(isclose(found.unit, unit) for unit in units if unit):
        raise ValueError("its unit is not that of its scores")
    if not _is_finite(found.score_unit) or found.score_unit <= 0:
        raise ValueError("it has no unit of scores near a threshold")
    if not _is_finite(found.max_difference) or found.max_difference < 0:
        raise ValueError("its largest difference is none")


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 1


def _is_finite(value: Any) -> bool:
    return isinstance(value, float) and isfinite(value)
