"""The summary of a fitted detector, as data and as text."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from gandetect.versions import VERSIONS

# The largest number of characters of a value that is neither a number nor a string, such as a
# network of the user.
_LONGEST_VALUE = 300
_WIDTH = 96


class Summary(dict[str, Any]):
    """Facts about a fitted detector: a dict of numbers, strings, lists and dicts.

    It is printed as text and can be passed to `json.dumps`. `BaseDetector.summary` returns it and
    documents its entries.
    """

    def __repr__(self) -> str:
        return "\n".join(_lines(self, ""))

    __str__ = __repr__


def summary_of(detector: Any) -> Summary:
    """Return the facts about a fitted detector; see `BaseDetector.summary`."""
    model = detector.model_
    threshold = {"value": model.threshold, **model.threshold_origin}
    weights = {
        name: sum(p.numel() for p in network.parameters())
        for name, network in model.networks.items()
    }
    parts = {name: weight for name, weight in model.weights().items() if weight}
    facts = {
        "detector": type(detector).__name__,
        "fitted_to": _fitted_to(model),
        "parameters": model.settings.get_params(deep=False),
        "networks": {"members": model.n_members, "weights": weights},
        "training": _training(detector),
        "score": {**model.score_definition(), "weights_of_parts": parts},
        "threshold": threshold,
        "p_values": None if model.normal_scores is None else {"samples": len(model.normal_scores)},
        "versions": {"fitted_with": model.fitted_on.get("versions"), "here": VERSIONS},
    }
    return Summary({name: _plain(value) for name, value in facts.items()})


def _fitted_to(model: Any) -> dict[str, Any]:
    """Return the number and the layout of the training samples."""
    layout, counts = model.layout, model.fitted_on
    kind = "table" if layout.encoder else "images" if layout.is_image else "rows"
    found: dict[str, Any] = {
        "samples": counts.get("n_samples"),
        "kept_for_validation": counts.get("n_validation"),
        "left_out_by_labels": counts.get("n_excluded"),
        "kind": kind,
        "sample_shape": list(layout.input_shape),
        "shape_in_networks": list(layout.sample_shape),
        "scaling": model.scaler.kind,
    }
    if model.settings.labels == "learn":
        found["known_anomalies"] = found.pop("left_out_by_labels")
    if layout.image_settings:
        found["images_are_read"] = layout.image_settings
    if layout.encoder:
        found["columns"] = layout.encoder.facts()
    elif (names := vars(model.settings).get("feature_names_in_")) is not None:
        found["columns"] = [str(name) for name in names]
    return found


def _training(detector: Any) -> dict[str, Any]:
    """Return the duration of the training, the reason why it ended, and the diagnostics."""
    report = asdict(detector.training_report_)
    last = detector.history_[-1] if detector.history_ else {}
    return {
        "epochs": detector.n_iter_,
        "updates": report.pop("n_updates"),
        "stop_reason": detector.stop_reason_,
        "problems": report.pop("problems"),
        "last_losses": {name: v for name, v in last.items() if name != "epoch"},
        "diagnostics": report,
    }


def _plain(value: Any) -> Any:
    """Return a value unchanged if JSON supports it, otherwise as text."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping) and all(isinstance(name, str) for name in value):
        return {name: _plain(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return textwrap.shorten(repr(value), _LONGEST_VALUE, placeholder=" ...")


def _lines(facts: Mapping[str, Any], indent: str) -> list[str]:
    """Return one line for each fact; nested facts are indented below their name."""
    lines = []
    for key, value in facts.items():
        name = f"{indent}{key}:"
        if isinstance(value, Mapping) and value:
            lines += [name, *_lines(value, indent + "  ")]
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            lines += [name, *_table(value, indent + "  ")]
        else:
            lines += textwrap.wrap(
                f"{name} {shown(value)}",
                _WIDTH,
                subsequent_indent=indent + "    ",
                break_on_hyphens=False,
            )
    return lines


def _table(records: list[Mapping[str, Any]], indent: str) -> list[str]:
    rows = [list(records[0]), *([shown(v) for v in record.values()] for record in records)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        indent + "  ".join(cell.ljust(n) for cell, n in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def shown(value: Any) -> str:
    """Return a value of a summary as text."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.5g}"
    if isinstance(value, list):
        return ", ".join(map(shown, value)) or "none"
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {shown(entry)}" for name, entry in value.items()) or "none"
    return str(value)
