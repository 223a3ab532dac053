from dataclasses import replace

import numpy as np
import pytest

from gandetect.demo.evaluation import Result, evaluate, fit_and_judge, table
from gandetect.demo.tasks import Task

RESULT = Result(
    task="a task",
    method="a method",
    roc_auc=0.9,
    average_precision=0.8125,
    share_expected=0.3,
    share_flagged=0.251,
    false_alarm_rate=0.05,
    fit_seconds=1.25,
)


@pytest.fixture
def task():
    return Task(
        name="numbers",
        what_is_normal="small ones are",
        X_train=np.array([[0.0], [1.0]]),
        X_mixed=np.array([[0.0], [1.0], [2.0], [3.0], [9.0]]),
        outlier_perc=20.0,
        X_test=np.array([[1.0], [4.0], [2.0], [8.0], [3.5]]),
        y_test=np.array([0, 0, 0, 1, 1]),
        epochs=1,
    )


class Magnitude:
    """Scores a row by its value, and writes down what it is asked."""

    def __init__(self):
        self.calls = []

    def fit(self, X):
        self.calls.append(("fit", len(X)))
        return self

    def infer_threshold(self, X, outlier_perc):
        self.calls.append(("infer_threshold", len(X), outlier_perc))
        self.threshold_ = 3.0

    def anomaly_score(self, X):
        return X[:, 0]

    def predict(self, X):
        return np.where(self.anomaly_score(X) > self.threshold_, -1, 1)


def test_a_result_worked_by_hand(task):
    scores = np.array([1.0, 4.0, 2.0, 8.0, 3.5])
    predictions = np.array([1, -1, 1, -1, -1])
    result = evaluate(task, "magnitude", scores, predictions, 0.5)
    # Of the six pairs of an anomaly and a normal sample only (3.5, 4) is in the wrong order; by
    # falling score the anomalies come first and third: (1/1 + 2/3) / 2.
    assert result == Result(
        task="numbers",
        method="magnitude",
        roc_auc=pytest.approx(5 / 6),
        average_precision=pytest.approx(5 / 6),
        share_expected=0.2,
        share_flagged=0.6,
        false_alarm_rate=pytest.approx(1 / 3),
        fit_seconds=0.5,
    )


def test_the_main_job_is_fit_infer_threshold_predict(task):
    method = Magnitude()
    outcome = fit_and_judge(task, "magnitude", method)
    assert method.calls == [("fit", 2), ("infer_threshold", 5, 20.0)]
    assert outcome.method is method
    assert outcome.scores.tolist() == [1.0, 4.0, 2.0, 8.0, 3.5]
    assert outcome.result.share_flagged == 0.6
    assert 0 <= outcome.result.fit_seconds < 5


def test_a_line_a_result_and_a_block_a_task():
    text = table([RESULT, replace(RESULT, method="another"), replace(RESULT, task="a second")])
    lines = text.splitlines()
    assert lines[2:] == [
        "",
        "a task",
        "  a method                0.900      0.812     30.0%    25.1%     5.0%    1.2 s",
        "  another                 0.900      0.812     30.0%    25.1%     5.0%    1.2 s",
        "",
        "a second",
        "  a method                0.900      0.812     30.0%    25.1%     5.0%    1.2 s",
    ]


def test_the_columns_of_the_table_are_aligned():
    long = replace(RESULT, method="AdversarialVAEDetector", fit_seconds=123.4, share_flagged=1.0)
    lines = table([RESULT, long]).splitlines()
    widths = {len(line) for line in (lines[0], lines[1], *lines[4:])}
    assert widths == {len(lines[0])}
    assert lines[0].split() == ["AUROC", "average", "share", "share", "false", "fit"]
    assert lines[1].split() == ["precision", "expected", "flagged", "alarms", "time"]
