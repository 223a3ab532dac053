"""The pictures of the demo: score histograms, inputs with reconstructions, and reports."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gandetect.base import BaseDetector
from gandetect.demo.evaluation import Outcome
from gandetect.demo.tasks import Task
from gandetect.plotting import ReconstructionDisplay, ScoreHistogramDisplay
from gandetect.plotting.style import matplotlib_module
from gandetect.reporting import write_report

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PANELS_A_LINE = 3
_DPI = 110


def save_pictures(task: Task, outcomes: Mapping[str, Outcome], folder: Path) -> list[Path]:
    """Save the score histograms of a task, reconstructions of images, and a report.

    The report is on RDNA if it was run, otherwise on the first detector.

    Returns
    -------
    list of pathlib.Path
    """
    stem = task.name.replace(",", "").replace(" ", "-")
    paths = [folder / f"{stem}-scores.png"]
    _score_histograms(task, outcomes).savefig(paths[0], dpi=_DPI)
    ours = {name: o for name, o in outcomes.items() if isinstance(o.method, BaseDetector)}
    for name, outcome in ours.items():
        if not task.is_table and not outcome.method.get_params().get("backbone"):
            paths.append(folder / f"{stem}-{name}-reconstructions.png")
            _reconstructions(task, outcome).savefig(paths[-1], dpi=_DPI)
    if ours:
        name = "RDNADetector" if "RDNADetector" in ours else next(iter(ours))
        paths.append(folder / f"{stem}-{name}-report.html")
        about = {"task": f"{task.name}: {task.what_is_normal}"}
        write_report(
            ours[name].method, task.X_test, paths[-1], task.y_test, n_largest=20, about=about
        )
    return paths


def _score_histograms(task: Task, outcomes: Mapping[str, Outcome]) -> Figure:
    """Draw one panel for each method; without pyplot, so it needs no display."""
    n_columns = min(_PANELS_A_LINE, len(outcomes))
    n_lines = math.ceil(len(outcomes) / n_columns)
    figure: Figure = matplotlib_module("figure").Figure(
        figsize=(4.8 * n_columns, 0.4 + 3.2 * n_lines), layout="constrained"
    )
    panels = figure.subplots(n_lines, n_columns, squeeze=False).ravel()
    for panel, (name, outcome) in zip(panels, outcomes.items(), strict=False):
        ScoreHistogramDisplay.from_predictions(
            task.y_test,
            outcome.scores,
            threshold=outcome.method.threshold_,
            bins=20,
            name=name,
            ax=panel,
        )
    for empty in panels[len(outcomes) :]:
        empty.remove()
    figure.suptitle(task.name)
    return figure


def _reconstructions(task: Task, outcome: Outcome) -> Figure:
    """Draw the first normal and the first anomalous test samples, without further selection."""
    shown = np.concatenate([np.flatnonzero(task.y_test == label)[:5] for label in (0, 1)])
    titles = [
        f"{'anomalous' if task.y_test[i] else 'normal'}\n"
        f"{'flagged' if outcome.scores[i] > outcome.method.threshold_ else 'passed'}"
        f" ({outcome.scores[i]:.2f})"
        for i in shown
    ]
    figure: Figure = matplotlib_module("figure").Figure(figsize=(12.4, 4.5), layout="constrained")
    ReconstructionDisplay.from_estimator(
        outcome.method,
        task.X_test[shown],
        titles=titles,
        ax=figure.subplots(),
    )
    figure.suptitle(f"{outcome.result.method}: {task.name}")
    return figure
