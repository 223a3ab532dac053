"""Fit a method to a task and evaluate it: one line of the table."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from gandetect.demo.tasks import Task


@dataclass(frozen=True, kw_only=True)
class Result:
    """One line of the table; shares are between 0 and 1.

    Parameters
    ----------
    task, method : str
    roc_auc, average_precision : float
        Of the scores of the test samples, without a threshold.
    share_expected : float
        Share of anomalies in the mixed batch, from which the threshold was inferred.
    share_flagged : float
        Share of all test samples that were flagged.
    false_alarm_rate : float
        Share of the normal test samples that were flagged.
    fit_seconds : float
    """

    task: str
    method: str
    roc_auc: float
    average_precision: float
    share_expected: float
    share_flagged: float
    false_alarm_rate: float
    fit_seconds: float


def evaluate(
    task: Task,
    method: str,
    scores: NDArray[np.float64],
    predictions: NDArray[np.int64],
    fit_seconds: float,
) -> Result:
    """Evaluate the scores and predictions of a method on the test samples.

    Parameters
    ----------
    task : Task
    method : str
        Its name.
    scores : ndarray of shape (n_test,)
        Larger is more anomalous.
    predictions : ndarray of shape (n_test,)
        +1 for inliers, -1 for outliers.
    fit_seconds : float

    Returns
    -------
    Result
    """
    is_flagged = predictions == -1
    return Result(
        task=task.name,
        method=method,
        roc_auc=float(roc_auc_score(task.y_test, scores)),
        average_precision=float(average_precision_score(task.y_test, scores)),
        share_expected=task.outlier_perc / 100,
        share_flagged=float(np.mean(is_flagged)),
        false_alarm_rate=float(np.mean(is_flagged[task.y_test == 0])),
        fit_seconds=fit_seconds,
    )


@dataclass(frozen=True, eq=False)
class Outcome:
    """A fitted method, its scores of the test samples, and their evaluation."""

    method: Any
    scores: NDArray[np.float64]
    result: Result


def fit_and_judge(task: Task, name: str, method: Any) -> Outcome:
    """Fit a method, infer its threshold, predict and evaluate."""
    start = time.perf_counter()
    method.fit(task.X_train)
    fit_seconds = time.perf_counter() - start
    method.infer_threshold(task.X_mixed, outlier_perc=task.outlier_perc)
    scores, predictions = method.anomaly_score(task.X_test), method.predict(task.X_test)
    return Outcome(method, scores, evaluate(task, name, scores, predictions, fit_seconds))


def table(results: Iterable[Result]) -> str:
    """Return results as text, one block for each task."""
    lines = [
        f"{'':24}{'AUROC':>7}{'average':>11}{'share':>10}{'share':>9}{'false':>9}{'fit':>9}",
        f"{'':24}{'':7}{'precision':>11}{'expected':>10}{'flagged':>9}{'alarms':>9}{'time':>9}",
    ]
    for task, of_task in itertools.groupby(results, key=lambda result: result.task):
        lines += ["", task]
        lines += [
            f"  {r.method:22}{r.roc_auc:7.3f}{r.average_precision:11.3f}{r.share_expected:10.1%}"
            f"{r.share_flagged:9.1%}{r.false_alarm_rate:9.1%}{r.fit_seconds:7.1f} s"
            for r in of_task
        ]
    return "\n".join(lines)
