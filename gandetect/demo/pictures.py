"""What the demo draws: score histograms, and inputs beside their reconstructions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gandetect.demo.evaluation import Outcome
from gandetect.demo.tasks import Task
from gandetect.plotting import ReconstructionDisplay, ScoreHistogramDisplay
from gandetect.plotting.style import matplotlib_module

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PANELS_A_LINE = 3
_DPI = 110


def save_pictures(task: Task, outcomes: Mapping[str, Outcome], folder: Path) -> list[Path]:
    """Save the score histograms of a task, and the reconstructions of each detector.

    Returns
    -------
    list of pathlib.Path
    """
    stem = task.name.replace(",", "").replace(" ", "-")
    paths = [folder / f"{stem}-scores.png"]
    _score_histograms(task, outcomes).savefig(paths[0], dpi=_DPI)
    for name, outcome in outcomes.items():
        if hasattr(outcome.method, "reconstruct"):
            paths.append(folder / f"{stem}-{name}-reconstructions.png")
            _reconstructions(task, outcome).savefig(paths[-1], dpi=_DPI)
    return paths


def _score_histograms(task: Task, outcomes: Mapping[str, Outcome]) -> Figure:
    """Draw a panel a method. A figure without pyplot needs no display and opens no window."""
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
    """Draw the first normal and the first anomalous test samples, chosen by nothing else."""
    n_of_a_kind = 2 if task.is_rows else 5
    shown = np.concatenate([np.flatnonzero(task.y_test == label)[:n_of_a_kind] for label in (0, 1)])
    titles = [
        f"{'anomalous' if task.y_test[i] else 'normal'}\n"
        f"{'flagged' if outcome.scores[i] > outcome.method.threshold_ else 'passed'}"
        f" ({outcome.scores[i]:.2f})"
        for i in shown
    ]
    size = (9.2, 5.0) if task.is_rows else (12.4, 4.5)
    figure: Figure = matplotlib_module("figure").Figure(figsize=size, layout="constrained")
    ReconstructionDisplay.from_estimator(
        outcome.method,
        task.X_test[shown],
        titles=titles,
        feature_names=task.feature_names,
        ax=figure.subplots(),
    )
    figure.suptitle(f"{outcome.result.method}: {task.name}")
    return figure
