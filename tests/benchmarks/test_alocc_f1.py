"""ALOCC's experiment: what it measures, what it leaves alone, what it adds up."""

from dataclasses import replace

import alocc_f1
import numpy as np
import pytest
from protocols import Split

from gandetect import ConvNet, ExponentialMovingAverage
from gandetect.detectors.alocc import ALOCCDetector
from tests.helpers import needs_callbacks

PARAMETERS = {"epochs": 4, "n_estimators": 2, "architecture": ConvNet(n_filters=4)}


@pytest.fixture(scope="module")
def split():
    """Bars that lie are normal, bars that stand are not."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 50, size=(100, 8, 8)).astype(np.uint8)
    images[:80, 3:5] += 200
    images[80:, :, 3:5] += 200
    return Split(images[:60], images[60:], np.repeat([0, 1], 20))


def test_f1_at_the_thresholds():
    y, scores = np.array([0, 0, 0, 0, 1, 1]), np.array([1.0, 2.0, 3.0, 6.0, 5.0, 7.0])
    found = alocc_f1.f1_by_threshold(y, scores, {"held": 2.0}, share=1 / 3, seed=0)
    # τ = 2 finds 2 of 4 inliers; τ = 3 three, τ = 6 all of them with one outlier among them.
    expected = {"f1_best": 8 / 9, "f1_held": 4 / 6, "f1_constant": 8 / 10}
    assert found == pytest.approx(expected, abs=1e-6)


def test_a_row_for_each_score_and_share(split, monkeypatch):
    monkeypatch.setattr(alocc_f1, "N_HELD", 20)
    fit = alocc_f1.F1Run(name="3", detector="ALOCC", seed=0, epochs=4)
    runs = list(alocc_f1.measure_f1(fit, split, PARAMETERS))
    keys = [(run.score, run.outlier_share) for run in runs]
    assert sorted(keys) == sorted(
        (name, share) for name in alocc_f1.SCORES for share in alocc_f1.OUTLIER_SHARES
    )
    for run in runs:
        assert run.f1_best >= max(run.f1_train, run.f1_held, run.f1_constant)


@needs_callbacks
def test_scoring_along_the_training_changes_nothing(split):
    plain, watched = (ALOCCDetector(random_state=0, **PARAMETERS) for _ in "12")
    along = alocc_f1.AlongTraining(split, every_n_epochs=2)
    plain.set_callbacks(ExponentialMovingAverage()).fit(split.X_train)
    watched.set_callbacks(ExponentialMovingAverage(), along).fit(split.X_train)
    np.testing.assert_array_equal(
        plain.anomaly_score(split.X_test), watched.anomaly_score(split.X_test)
    )
    assert [(row["epoch"], row["average"]) for row in along.found] == [
        (2, 0),
        (2, 1),
        (4, 0),
        (4, 1),
    ]


@needs_callbacks
def test_the_last_scoring_by_the_average_is_what_the_detector_scores(split):
    along = alocc_f1.AlongTraining(split, every_n_epochs=4)
    detector = ALOCCDetector(random_state=0, score="paper", **PARAMETERS)
    detector.set_callbacks(ExponentialMovingAverage(), along).fit(split.X_train)
    scores = detector.anomaly_score(split.X_test)
    auroc = alocc_f1.roc_auc_score(split.y_test, scores)
    assert along.found[-1]["auroc_refined"] == pytest.approx(auroc, abs=1e-6)


def test_means_over_digits_and_spread_over_seeds():
    rows = [
        {"seed": seed, "auroc": auroc}
        for seed, auroc in [("0", "0.8"), ("0", "0.9"), ("1", "0.9"), ("1", "1.0")]
    ]
    assert alocc_f1.over_seeds(rows, "auroc") == "0.900 ± 0.071"  # of 0.85 and 0.95
    assert alocc_f1.over_seeds(rows[:2], "auroc") == "0.850"


def test_the_curves_of_a_training():
    rows = [
        {"name": "1", "seed": "0", "epoch": epoch, "tuning_fraction": "0.0", "average": "0"}
        | {"auroc_refined": auroc}
        for epoch, auroc in [("2", "0.1"), ("4", "0.5"), ("6", "0.9"), ("8", "0.7"), ("9", "0.8")]
    ]
    [[name, *figures]] = alocc_f1.along_table(rows)
    assert name == "weights as they are, tuning_fraction=0.0"
    # Epochs 8 and 9: beyond two thirds of nine.
    assert figures == pytest.approx([0.75, 0.7, 0.1])


def test_a_fit_that_the_file_holds_is_not_repeated(tmp_path, monkeypatch, capsys):
    fits = []

    def measure(run, split, parameters):
        fits.append(run.seed)
        f1 = {f"f1_{name}": 0.5 for name in ("best", "held", "train", "constant")}
        for score in alocc_f1.SCORES:
            for share in alocc_f1.OUTLIER_SHARES:
                yield replace(run, score=score, outlier_share=share, auroc=0.5, **f1)

    monkeypatch.setattr(alocc_f1, "measure_f1", measure)
    monkeypatch.setattr(alocc_f1, "load_split", lambda *_: None)
    out = tmp_path / "out.csv"
    arguments = ["--data", "none", "--out", str(out), "--digits", "3"]
    alocc_f1.main([*arguments, "--seeds", "0"])
    alocc_f1.main([*arguments, "--seeds", "0,1"])
    assert fits == [0, 1]
    assert len(alocc_f1.rows_of(out, alocc_f1.F1Run)) == 2 * 15
    assert "| published D(R(X)) | 0.97 |" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="choose a new file"):
        alocc_f1.main([*arguments, "--along"])
