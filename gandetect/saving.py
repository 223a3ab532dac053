"""Conversion of a fitted detector to a tree of data, for files and pickles, and back."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from numbers import Integral
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from gandetect.classifiers import FORMS, LabelledClassifier
from gandetect.data.columns import ColumnEncoder, TableColumn
from gandetect.data.sources import Layout
from gandetect.model.fitted import POINTS, Model, are_weights
from gandetect.model.known import KNOWN, AnomalyTrees, KnownDistances
from gandetect.model.statistics import CANDIDATES, Calibration, Neighbours, Scaler
from gandetect.networks import ARCHITECTURES
from gandetect.training.report import TrainingReport


class Restorable(Protocol):
    """The interface of a detector that `restore` uses; the class itself is in a higher module."""

    def __init__(self, **parameters: Any) -> None: ...

    def check_parameters(self) -> None:
        """Raise TypeError or ValueError for an invalid parameter."""

    def learn(self, model: Model[Any], **learned: Any) -> None:
        """Set the fitted attributes."""


D = TypeVar("D", bound=Restorable)

# The version of the stored form. Files of version 1 do not contain these entries, and files of
# version 2 do not contain "part_weights".
_VERSION = 3
# The classes that a saved file may contain, in addition to numbers, strings and tensors. The first
# four occur only in files of version 1.
_DATA_CLASSES: tuple[type, ...] = (LabelledClassifier, *FORMS, *ARCHITECTURES)
SAVED_CLASSES: tuple[type, ...] = (
    *(Scaler, Calibration, Neighbours, TrainingReport),
    *(ColumnEncoder, TableColumn),
    *_DATA_CLASSES,
)
# What `read_archive` must find in a file of `save`.
SAVED = (
    "detector",
    "contains no detector that save wrote. If it is a checkpoint, fit with Checkpoint(path) to end "
    "its training, and save the detector.",
)
# The largest number of values of a sample for all members in a file, above that of any real
# detector; it limits the memory that a forged file can request.
_MOST_VALUES = 2**27


def is_code(value: Any) -> bool:
    """Return whether the value of a parameter is user code, which is not data."""
    return not isinstance(value, (type(None), bool, int, float, str, *_DATA_CLASSES))


def tree_of(detector: Any) -> dict[str, Any]:
    """Convert a fitted detector to a tree of data.

    Raises
    ------
    TypeError, ValueError
        If a parameter is invalid, or is user code that was changed after the fit.
    """
    detector.check_parameters()
    model: Any = detector.model_
    settings = model.settings
    used, own = settings.get_params(deep=False), model.own_data()
    asked = detector.get_params(deep=False)
    for name, value in own.pop("parameters", {}).items():
        if asked[name] is used[name]:
            asked[name] = value
        used[name] = value
    code, code_used = (
        {name for name in model.code_parameters if is_code(values[name])}
        for values in (asked, used)
    )
    for name in sorted(code & code_used):
        if asked[name] is not used[name] and asked[name] != used[name]:
            raise TypeError(
                f"{name} contains user code and was changed after fit, but a file can refer to "
                "only one version: restore the old value, or fit again."
            )
    return {
        "version": _VERSION,
        "detector": type(detector).__name__,
        "parameters": _as_data(asked, code),
        "left_out": sorted(code | code_used),
        "fitted_parameters": _as_data(used, code_used),
        "feature_names": vars(settings).get("feature_names_in_"),
        "layout": asdict(replace(model.layout, encoder=None)),
        "encoder": model.layout.encoder,
        "map_scale": model.map_scale,
        "networks": dict(model.networks.state_dict()),
        "scaler": {"kind": model.scaler.kind, **dict(model.scaler.named_buffers())},
        "calibration": {"mean": model.calibration.mean, "spread": model.calibration.spread},
        "neighbours": {
            name: {"order": found.order, **found.state_dict()}
            for name, found in model.neighbours.items()
        },
        "known": None if model.known is None else model.known.values_of(),
        "part_weights": model.default_part_weights,
        "threshold": model.threshold,
        "score_unit": model.score_unit,
        "threshold_definition": model.threshold_definition,
        "threshold_origin": model.threshold_origin,
        "fitted_on": model.fitted_on,
        "normal_scores": model.normal_scores,
        "normal_scores_definition": model.normal_scores_definition,
        "own": own,
        "training": {
            "history": detector.history_,
            "stop_reason": detector.stop_reason_,
            "report": asdict(detector.training_report_),
        },
    }


def restore(cls: type[D], tree: dict[str, Any], given: Mapping[str, Any]) -> D:
    """Create a detector from a tree of `tree_of`; on one machine, its scores have the same bits.

    Parameters
    ----------
    cls : type
        The class of the detector.
    tree : dict
        A tree of this version or of an earlier one.
    given : dict of str to object
        The parameters that are code.

    Raises
    ------
    LookupError, TypeError, ValueError, AttributeError, RuntimeError, OverflowError
        If the tree does not describe a complete detector that can score.
    """
    is_older = "version" not in tree
    if is_older:
        tree = _of_first_form(tree)
    elif tree["version"] not in (2, _VERSION):
        raise ValueError(f"it has version {tree['version']!r}: update gandetect")
    detector = cls(**{**given, **tree["parameters"]})
    settings: Any = cls(**{**given, **tree["fitted_parameters"]})
    model_class = settings._model_class()
    definitions = [dict(tree[f"{what}_definition"]) for what in ("threshold", "normal_scores")]
    has_normal_scores = tree["normal_scores"] is not None
    if is_older:  # newer parameters of the score are missing; their defaults give the same score
        known = {name: vars(settings)[name] for name in model_class.score_parameters}
        definitions = [{**known, **definition} for definition in definitions]
    # The parameters of the fit, the current ones, and those of thresholds and p-values.
    belonging = [_changed(settings, d) for d in definitions[: 1 + has_normal_scores]]
    for parameters in (settings, detector, *belonging):
        parameters.check_parameters()
        _check_device(parameters.device)
    if settings.architecture is None and model_class.has_architecture:
        raise ValueError("the architecture of its networks is missing")
    layout = _layout(tree["layout"], tree.get("encoder"), settings.n_estimators)
    vars(settings)["n_features_in_"] = layout.n_features
    if tree["feature_names"] is not None:
        names = np.asarray(tree["feature_names"])
        if names.shape != (layout.n_features,):
            raise ValueError("its names of columns do not match its samples")
        vars(settings)["feature_names_in_"] = names
    vars(settings)["_is_frozen"] = True
    scaler = _scaler(tree["scaler"], settings.scaling, layout)
    model = model_class.empty(settings, layout, scaler)
    _load(model.networks, tree["networks"])
    model.eval()
    former = model.of_kind({**model.part_weights, **model.former_weights})
    weights = tree.get("part_weights", former)
    if weights != model.default_part_weights and not are_weights(weights, model.part_weights):
        raise ValueError("the weights of its score are invalid")
    model.default_part_weights = dict(weights)
    model.calibration = Calibration(**tree["calibration"])
    model.neighbours = nn.ModuleDict(
        {str(name): Neighbours(**found) for name, found in tree["neighbours"].items()}
    )
    # Files of earlier versions have no entry for known anomalies.
    model.known = _known(tree.get("known"), model)
    model.threshold, model.score_unit = float(tree["threshold"]), float(tree["score_unit"])
    if not (math.isfinite(model.threshold) and 0 < model.score_unit < math.inf):
        raise ValueError("its threshold is not a finite number")
    model.threshold_definition, model.normal_scores_definition = definitions
    model.threshold_origin = _facts(tree.get("threshold_origin", {}))
    model.fitted_on = _facts(tree.get("fitted_on", {}))
    if has_normal_scores:
        model.normal_scores = np.sort(np.asarray(tree["normal_scores"], dtype=np.float64).ravel())
        if not len(model.normal_scores) or not np.isfinite(model.normal_scores).all():
            raise ValueError("its scores of normal samples are not finite")
    if layout.encoder is not None:
        scale = np.asarray(tree["map_scale"], dtype=np.float64)
        if scale.ndim == 2:  # files of earlier versions: maps of the networks only
            scale = scale[None]
        n_kinds = 1 + ("sample_neighbours" in model.neighbours)
        is_shaped = scale.shape in [(n, 2, layout.n_features) for n in range(1, n_kinds + 1)]
        if not (is_shaped and np.isfinite(scale).all() and (scale[:, 1] > 0).all()):
            raise ValueError("the scale of its maps is invalid")
        model.map_scale = scale
    elif tree.get("map_scale") is not None:
        raise ValueError("its maps have a scale, which is for tables only")
    model.restore_own_data(tree["own"])
    _check_sound(model)
    training = tree["training"]
    report = training["report"]
    if not all(isinstance(record, dict) for record in training["history"]):
        raise TypeError("its history is not a list of dicts")
    detector.learn(
        model,
        history_=list(training["history"]),
        n_iter_=len(training["history"]),
        stop_reason_=str(training["stop_reason"]),
        training_report_=report if isinstance(report, TrainingReport) else _report(report),
    )
    return detector


def _as_data(parameters: Mapping[str, Any], left_out: Iterable[str]) -> dict[str, Any]:
    """Return the parameters without the omitted ones, as values that can be stored."""
    kept = {name: value for name, value in parameters.items() if name not in left_out}
    if not isinstance(kept["random_state"], Integral | None):
        kept["random_state"] = None  # the state of a generator is not stored
    return {
        name: str(value) if isinstance(value, torch.device) else value
        for name, value in kept.items()
    }


def _changed(settings: Any, definition: Mapping[str, Any]) -> Any:
    """Return the parameters, with those of the score replaced by a definition."""
    names = {"score", *settings._model_class().score_parameters}
    if definition.keys() != names:
        raise ValueError(
            f"the parameters {sorted(names ^ definition.keys())} of a threshold are missing or "
            "unknown"
        )
    return type(settings)(**{**settings.get_params(deep=False), **definition})


def _check_device(device: Any) -> None:
    """Raise TypeError or ValueError if the name is not a device of torch."""
    if not isinstance(device, str):
        raise TypeError(f"its device is {device!r}")
    if device == "auto":
        return
    try:
        torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"its device is {device!r}, which torch does not know") from error


def _layout(values: Mapping[str, Any], encoder: Any, n_members: int) -> Layout:
    layout = Layout(**{**values, "encoder": encoder})
    shapes = layout.input_shape, layout.sample_shape
    if not all(isinstance(side, int) and side >= 1 for shape in shapes for side in shape):
        raise ValueError("the shape of its samples is invalid")
    if encoder is not None:
        if not isinstance(encoder, ColumnEncoder):
            raise TypeError("its encoder is invalid")
        encoder.check()
        if shapes != ((len(encoder.columns),), (encoder.width,)):
            raise ValueError("its encoder does not match its samples")
    elif math.prod(shapes[0]) != math.prod(shapes[1]) or len(shapes[1]) not in (1, 3):
        raise ValueError("the two shapes of its samples do not match")
    has_flags = isinstance(layout.is_flat, bool) and isinstance(layout.varies, bool)
    if layout.channel_axis not in (-3, -1, 0, 2, None) or not has_flags:
        raise ValueError("the axes of its samples are invalid")
    if not isinstance(layout.image_settings, dict | None):
        raise TypeError("its image settings are invalid")
    # A file with small convolution weights could declare huge images.
    if n_members * layout.n_values > _MOST_VALUES:
        raise ValueError(
            f"its {n_members} members with {layout.n_values} values for each sample exceed the "
            "limit"
        )
    return layout


def _scaler(values: Mapping[str, Any], scaling: str, layout: Layout) -> Scaler:
    scaler = Scaler(**values)
    sizes = {1} if layout.is_image else {1, layout.n_values}
    for ends in (scaler.center, scaler.spread):
        if ends.ndim != 1 or len(ends) not in sizes or not bool(ends.isfinite().all()):
            raise ValueError("its scale does not match its samples")
    skew = scaler.skew
    if (skew is None) != (scaling != "unskewed"):
        raise ValueError("its skewness parameters do not match its scaling")
    if skew is not None:
        is_shaped = skew.shape == (3, layout.n_values) and bool(skew.isfinite().all())
        if not is_shaped or not bool((skew[2] > 0).all()) or not bool((skew[0].abs() <= 1).all()):
            raise ValueError("its skewness parameters are invalid")
    # A scale of 0 belongs to a column that was constant.
    if scaler.kind != scaling or not bool((scaler.spread >= 0).all()):
        raise ValueError("its scale does not match its scaling")
    return scaler


def _known(values: Mapping[str, Any] | None, model: Model[Any]) -> nn.Module | None:
    """Restore the classifier of known anomalies."""
    if values is None:
        return None
    if model.layout.is_image:
        return KnownDistances.loaded(values, model.n_members, model.latent_dim)
    return AnomalyTrees.loaded(values, model.layout.n_values)


def _check_sound(model: Model[Any]) -> None:
    """Raise an error if a part of the score cannot be computed."""
    if not model.is_sound():
        raise ValueError("its networks do not give finite numbers")
    for name, found in model.neighbours.items():
        assert isinstance(found, Neighbours)
        points, spreads = found.points, found.spreads
        if found.order not in CANDIDATES:
            raise ValueError(f"the norm of its {name!r} is unknown")
        sizes = {"codes": model.latent_dim, "samples": model.layout.n_values}
        shape = (model.n_members * model.latent_dim, model.latent_dim)
        axes = found.axes
        if axes is not None and (POINTS[name] != "codes" or axes.shape != shape or len(points) > 1):
            raise ValueError(f"its {name!r} do not match the codes of its members")
        if points.ndim != 3 or not points.shape[1] or points.shape[2] != sizes[POINTS[name]]:
            raise ValueError(f"its {name!r} have another shape than its samples or codes")
        if spreads.shape != points.shape[:2] or not bool((spreads > 0).all()):
            raise ValueError(f"its {name!r} have invalid scales")
        if any(t.dtype != torch.float32 or not bool(t.isfinite().all()) for t in found.buffers()):
            raise ValueError(f"its {name!r} are not finite")
    x = model.probe()
    calibration = model.calibration
    assert calibration is not None
    if not set(model.all_parts(x)) <= set(calibration.names) <= {KNOWN, *model.part_weights}:
        raise ValueError("its calibration does not have the parts of its score")
    for values in calibration.buffers():
        if values.shape[1:] != (model.n_members,) or values.dtype != torch.float64:
            raise ValueError("its calibration does not match its members")
    if not bool(calibration.means.isfinite().all() & (calibration.spreads > 0).all()):
        raise ValueError("its calibration is not finite or not positive")
    if x.shape[2:] == model.layout.sample_shape:
        model(torch.zeros(2, *model.layout.of_graph.input_shape, dtype=torch.float64))
    else:  # for large images this takes long, and detects no more errors
        model.score(x)


def _facts(values: Any) -> dict[str, Any]:
    """Check and return numbers and strings by name, for the summary."""
    if not isinstance(values, dict) or not all(
        isinstance(name, str) and (isinstance(value, int | float | str) or _facts(value))
        for name, value in values.items()
    ):
        raise TypeError("its facts about the fit are invalid")
    return values


_OTHER_BACKBONE = (
    "the weights of its backbone do not fit into the one that was passed to load: pass a network "
    "with the layers of that of the fit"
)


def _load(networks: nn.ModuleDict, weights: Mapping[str, Tensor]) -> None:
    """Load the weights of networks, with memory for those on the meta device."""
    expected = networks.state_dict(keep_vars=True)
    if expected.keys() != weights.keys():
        differing = sorted(expected.keys() ^ weights.keys())
        if all(name.startswith("backbone.") for name in differing):
            raise ValueError(_OTHER_BACKBONE)
        raise ValueError(f"its networks have missing or unknown weights: {differing[:3]}")
    for name, like in expected.items():
        value = weights[name]
        if value.shape != like.shape or value.dtype != like.dtype:
            if name.startswith("backbone."):
                raise ValueError(_OTHER_BACKBONE)
            raise ValueError(f"the weights {name!r} have another shape or type")
        *path, last = name.split(".")
        module = networks.get_submodule(".".join(path))
        # In the memory layout with which the network was created.
        laid_out = torch.empty_strided(like.shape, like.stride(), dtype=like.dtype, device="cpu")
        laid_out.copy_(value)
        if last in module._parameters:
            module._parameters[last] = nn.Parameter(laid_out, like.requires_grad)
        else:
            module._buffers[last] = laid_out


def _report(values: Mapping[str, Any]) -> TrainingReport:
    return TrainingReport(**values)


def _of_first_form(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Convert the tree of a file of version 1 to the current version."""
    learned = dict(tree["learned"])
    parameters = dict(tree["parameters"])
    used = {
        **parameters,
        "n_estimators": learned.pop("n_members_"),
        "latent_dim": learned.pop("latent_dim_"),
        "architecture": learned.pop("architecture_"),
        "scaling": learned["scaler_"].kind,
    }
    names = learned.pop("feature_names_in_", None)
    scaler, calibration = learned.pop("scaler_"), learned.pop("calibration_")
    axis = parameters.get("channel_axis", -1)
    return {
        "parameters": parameters,
        "fitted_parameters": used,
        "feature_names": names,
        "layout": {
            "input_shape": learned.pop("input_shape_"),
            "sample_shape": learned.pop("sample_shape_"),
            "channel_axis": axis,
            "is_flat": learned.pop("is_flat_"),
        },
        "networks": tree["networks"],
        "scaler": {"kind": scaler.kind, **dict(scaler.named_buffers())},
        "calibration": {"mean": calibration.mean, "spread": calibration.spread},
        "neighbours": {
            name: {"points": found.points, "spreads": found.spreads}
            for name, found in learned.pop("neighbours_", {}).items()
        },
        "threshold": learned.pop("threshold_"),
        "score_unit": 1.0,
        "threshold_definition": _without_trim(learned.pop("threshold_score_")),
        "normal_scores": learned.pop("normal_scores_", None),
        "normal_scores_definition": _without_trim(learned.pop("normal_scores_score_", {})),
        "training": {
            "history": learned.pop("history_"),
            "stop_reason": learned.pop("stop_reason_"),
            "report": learned.pop("training_report_"),
        },
        # The remaining entries are the fitted data of the method.
        "own": {name: value for name, value in learned.items() if name != "n_features_in_"},
    }


def _without_trim(definition: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in definition.items() if name not in ("trim", "n_iter_")}
