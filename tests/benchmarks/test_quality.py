"""The runner: a row a run, none twice, an error does not stop it, ours get what is ours."""

import json

import detectors
import numpy as np
import pytest
import quality
import torch
from sklearn.base import BaseEstimator


class DistanceDetector(BaseEstimator):
    """Stands for one of ours: the distance to the mean; its ``"paper"`` score is that negated."""

    def __init__(self, *, power=1, score="default", random_state=None):
        self.power = power
        self.score = score
        self.random_state = random_state

    def fit(self, X):
        if self.power == 0:
            raise RuntimeError("no power")
        self.center_ = X.mean(axis=0)
        self.is_raw_ = bool(abs(self.center_).max() > 50)
        return self

    def score_samples(self, X):
        assert self.is_raw_, "our detectors scale inside"
        scores = -(np.abs(X - self.center_).sum(axis=1) ** self.power)
        return -scores if self.score == "paper" else scores

    def infer_threshold(self, X, outlier_perc):
        self.offset_ = np.percentile(self.score_samples(X), outlier_perc)
        return self

    def predict(self, X):
        return np.where(self.score_samples(X) >= self.offset_, 1, -1)


@pytest.fixture
def data(tmp_path):
    """Two easy sets: the anomalies lie far off."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "data" / "adbench"
    folder.mkdir(parents=True)
    for name in ("1_one", "2_two"):
        X = np.concatenate([rng.normal(100, 1, (400, 3)), rng.normal(110, 1, (40, 3))])
        np.savez(folder / f"{name}.npz", X=X, y=np.repeat([0, 1], [400, 40]))
    return folder.parent


@pytest.fixture
def benchmark(data, tmp_path, monkeypatch):
    """Run the benchmark on the two sets; return its exit code and all rows of its file."""
    monkeypatch.setattr(detectors, "our_detectors", lambda: {"Distance": DistanceDetector})
    out = tmp_path / "out.csv"

    def run(names, *options):
        arguments = ["--data", data, "--protocol", "adbench", "--sets", "1_one,2_two"]
        arguments += ["--detectors", names, "--seeds", "0,1", "--out", out, *options]
        code = quality.main([str(argument) for argument in arguments])
        return code, quality.read_rows(out)

    run.out = out
    n_threads = torch.get_num_threads()
    yield run
    torch.set_num_threads(n_threads)  # the benchmark sets them for its whole process


def test_a_row_for_each_set_detector_and_seed(benchmark):
    code, rows = benchmark("knn,iforest")
    assert code == 0
    runs = {(row["name"], row["detector"], row["seed"]) for row in rows}
    assert len(rows) == len(runs) == 8
    for row in rows:
        assert float(row["auroc"]) == 1.0
        assert float(row["average_precision"]) == 1.0
        assert float(row["fit_seconds"]) > 0
        assert (row["n_train"], row["n_test"], row["prevalence"]) == ("200", "240", "0.1667")
        assert row["sklearn"] and row["torch"]
        assert (row["params"], row["false_alarm_rate"], row["error"]) == ("{}", "", "")


def test_second_run_adds_only_what_is_missing(benchmark):
    _, first = benchmark("knn")
    text = benchmark.out.read_text()
    _, again = benchmark("knn")
    assert benchmark.out.read_text() == text
    _, more = benchmark("knn,knn-mean")
    assert first == again == more[:4]
    assert [row["detector"] for row in more[4:]] == ["knn-mean"] * 4


def test_goes_on_after_a_row_that_was_cut_short(benchmark):
    _, whole = benchmark("knn")
    text = benchmark.out.read_text()
    benchmark.out.write_text(text[: text.rindex(",1.0,")])
    assert len(quality.read_rows(benchmark.out)) == 3
    _, rows = benchmark("knn")
    identity = [[row[column] for column in quality.KEY] for row in rows]
    assert identity == [[row[column] for column in quality.KEY] for row in whole]


def test_foreign_file_is_refused(benchmark):
    benchmark.out.write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="choose a new file"):
        benchmark("knn")
    assert benchmark.out.read_text() == "a,b\n1,2\n"


def test_error_is_a_row_and_is_tried_again(benchmark, capsys):
    code, rows = benchmark("Distance,knn", "--set", "power=0")
    assert code == 1
    assert [row["error"] for row in rows] == ["RuntimeError: no power", ""] * 4
    assert "no power" in capsys.readouterr().err
    code, rows = benchmark("Distance,knn", "--set", "power=0")
    assert code == 1
    assert len(rows) == 8 + 4


def test_parameters_and_label_are_for_ours_alone(benchmark):
    code, rows = benchmark("Distance,knn", "--set", "power=2", "--set", "score=plain")
    assert code == 0
    for row in rows:
        ours = row["detector"] == "Distance"
        assert json.loads(row["params"]) == ({"power": 2, "score": "plain"} if ours else {})
    _, rows = benchmark("Distance,knn", "--label", "cheap")
    added = rows[8:]
    assert [(row["detector"], row["label"]) for row in added] == [("Distance", "cheap")] * 4


def test_ours_tell_false_alarms_and_the_papers_score(benchmark):
    _, rows = benchmark("Distance", "--paper")
    for row in rows:
        assert float(row["auroc"]) == 1.0
        assert float(row["auroc_paper"]) == 0.0
        # 5 of 100 normal rows lie beyond the threshold; another 100 come near that.
        assert 0 <= float(row["false_alarm_rate"]) <= 0.15


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--detectors", "nearest"], "Unknown detector 'nearest'"),
        (["--detectors", "pyod.nearest"], "Unknown PyOD detector 'nearest'"),
        (["--detectors", "Distance", "--set", "strength=2"], "strength"),
        (["--set", "power"], "is not NAME=VALUE"),
        (["--sets", "3_three"], "There is no file"),
    ],
)
def test_mistakes_are_told_before_the_first_run(benchmark, capsys, options, message):
    with pytest.raises(SystemExit):
        benchmark("knn", *options)
    assert message in capsys.readouterr().err
    assert not benchmark.out.exists()


def test_baselines_on_images_get_flat_pixels_from_0_to_1():
    images = np.full((4, 2, 3), 255, dtype=np.uint8)
    rows = quality._as_rows(quality.Split(images, images[:2], np.array([0, 1])))
    assert rows.X_train.shape == (4, 6)
    assert rows.X_test.shape == (2, 6)
    assert (rows.X_train == 1.0).all()


def test_nearest_neighbours_by_hand():
    X = np.array([[0.0], [1.0], [3.0]])
    largest = detectors.KNearestNeighbors(n_neighbors=2).fit(X)
    mean = detectors.KNearestNeighbors(n_neighbors=2, method="mean").fit(X)
    np.testing.assert_allclose(largest.score_samples([[4.0]]), [-3.0])
    np.testing.assert_allclose(mean.score_samples([[4.0]]), [-2.0])


def test_pca_scores_what_the_components_leave_out():
    X = np.column_stack([np.linspace(-3, 3, 20), np.zeros(20)])
    pca = detectors.PCAReconstruction(n_components=1).fit(X)
    np.testing.assert_allclose(pca.score_samples(np.array([[2.0, 0.0], [0.0, 3.0]])), [0, -9])
    with pytest.raises(ValueError, match="use this baseline on images"):
        detectors.PCAReconstruction(n_components=2).fit(X)
