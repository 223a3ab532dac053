"""scikit-learn's callbacks and ours, alone and together."""

import itertools
import sys

import numpy as np
import pytest
import torch
from sklearn.callback import ProgressBar, ScoringMonitor

from gandetect import (
    MLP,
    Checkpoint,
    EarlyStopping,
    ExponentialMovingAverage,
    GANomalyDetector,
    TensorBoardLog,
)
from gandetect.archive import ArchiveError, read_archive, write_archive
from gandetect.metrics import average_precision_scorer, roc_auc_scorer


def small(**parameters):
    return GANomalyDetector(
        **{"epochs": 6, "n_estimators": 1, "random_state": 0, "latent_dim": 2, **parameters}
    )


def assert_same(a, b, X):
    np.testing.assert_array_equal(a.anomaly_score(X), b.anomaly_score(X))
    assert a.history_ == b.history_
    assert a.threshold_ == b.threshold_


class Watcher:
    """A callback that does nothing, and can stop after some epochs or raise in one."""

    def __init__(self, stop_after=None, raise_in=None):
        self.stop_after = stop_after
        self.raise_in = raise_in
        self.calls = []

    def setup(self, estimator, context):
        self.calls.append("setup")

    def teardown(self, estimator, context):
        self.calls.append("teardown")

    def on_fit_task_begin(self, estimator, context):
        self.calls.append(f"begin {context.task_name}")
        if self.calls.count("begin epoch") == self.raise_in:
            raise KeyboardInterrupt

    def on_fit_task_end(self, estimator, context):
        self.calls.append(f"end {context.task_name}")
        return self.calls.count("end epoch") == self.stop_after


class TestProtocol:
    def test_one_task_is_one_epoch(self, Detector, make, rows):
        watcher = Watcher()
        make(Detector).set_callbacks(watcher).fit(rows[:30])
        epoch = ["begin epoch", "end epoch"]
        assert watcher.calls == ["setup", "begin fit", *epoch, *epoch, "end fit", "teardown"]

    def test_true_stops(self, Detector, make, rows):
        detector = make(Detector, epochs=9).set_callbacks(Watcher(stop_after=3)).fit(rows[:30])
        assert detector.n_iter_ == len(detector.history_) == 3
        assert "callback after epoch 3" in detector.stop_reason_

    def test_without_a_stop_all_epochs_are_done(self, fitted_to_rows):
        assert fitted_to_rows.stop_reason_ == "all epochs done"

    def test_teardown_when_fit_raises(self, rows):
        watcher = Watcher()
        detector = small().set_callbacks(watcher, EarlyStopping("nothing"))
        with pytest.raises(ValueError, match="monitors"):
            detector.fit(rows[:30])
        assert watcher.calls[-1] == "teardown"
        assert small().set_callbacks(watcher).fit(rows[:30]).n_iter_ == 6

    def test_watching_changes_no_bit(self, Detector, make, rows):
        y = np.arange(60) % 5 == 0
        monitor = ScoringMonitor(scoring={"roc_auc": roc_auc_scorer})
        watched = make(Detector, verbose=1).set_callbacks(Watcher(), monitor).fit(rows[:60], y)
        assert_same(watched, make(Detector).fit(rows[:60], y), rows)


class TestScoringMonitor:
    def test_it_logs_once_an_epoch(self, Detector, make, rows):
        y = np.arange(60) % 5 == 0
        monitor = ScoringMonitor(
            scoring={"roc_auc": roc_auc_scorer, "ap": average_precision_scorer}
        )
        detector = make(Detector, epochs=3).set_callbacks(monitor).fit(rows[:60], y)
        log = monitor.get_logs().data
        assert len(log) == detector.n_iter_ == 3
        assert {record["task_name"] for record in log} == {"epoch"}
        assert log[-1]["roc_auc"] == roc_auc_scorer(detector, rows[:60], y)
        assert log[-1]["ap"] == average_precision_scorer(detector, rows[:60], y)

    def test_until_a_callback_stops(self, Detector, make, rows):
        y = np.arange(60) % 5 == 0
        monitor = ScoringMonitor(scoring={"roc_auc": roc_auc_scorer})
        detector = make(Detector, epochs=9).set_callbacks(monitor, Watcher(stop_after=2))
        assert detector.fit(rows[:60], y).n_iter_ == len(monitor.get_logs().data) == 2

    def test_on_images(self, Detector, make, images, tiny_convnet):
        y = np.arange(20) % 5 == 0
        monitor = ScoringMonitor(scoring={"roc_auc": roc_auc_scorer})
        detector = make(Detector, architecture=tiny_convnet).set_callbacks(monitor)
        assert detector.fit(images[:20], y).n_iter_ == len(monitor.get_logs().data)


class TestProgress:
    def test_scikit_learns_progress_bar(self, Detector, make, rows, capsys):
        pytest.importorskip("rich")
        make(Detector).set_callbacks(ProgressBar()).fit(rows[:30])
        assert Detector.__name__ in capsys.readouterr().out

    def test_verbose_shows_losses(self, Detector, make, rows, capsys):
        detector = make(Detector, verbose=1).fit(rows[:30])
        shown = capsys.readouterr().err
        assert Detector.__name__ in shown
        assert "2/2" in shown
        for name in detector.history_[-1]:
            assert name == "epoch" or f"{name}=" in shown

    def test_silence(self, Detector, make, rows, capsys):
        make(Detector).fit(rows[:30]).predict(rows)
        captured = capsys.readouterr()
        assert captured.out + captured.err == ""


class TestEarlyStopping:
    def test_it_goes_back_to_the_best_epoch(self, Detector, make, rows):
        losses = [5.0, 3.0, 4.0, 2.0, 2.5, 2.1, 9.0, 1.0]
        weights = []

        class Falling(EarlyStopping):
            def on_fit_task_end(self, estimator, context):
                run = estimator.current_run()
                if context.task_name == "epoch":
                    run.history[-1]["made up"] = losses[len(weights)]
                    weights.append({n: w.clone() for n, w in run.networks.state_dict().items()})
                return super().on_fit_task_end(estimator, context)

        detector = make(Detector, epochs=8).set_callbacks(Falling("made up", patience=3))
        detector.fit(rows[:60])
        assert detector.n_iter_ == len(weights) == 7
        for name, weight in detector.networks_.state_dict().items():
            assert torch.equal(weight, weights[3][name]), name

    def test_without_restoring(self, rows):
        stopping = EarlyStopping("discriminator", patience=1, min_delta=1e9, restore_best=False)
        detector = small().set_callbacks(stopping).fit(rows[:60])
        assert detector.n_iter_ == 2
        np.testing.assert_array_equal(
            detector.anomaly_score(rows), small(epochs=2).fit(rows[:60]).anomaly_score(rows)
        )

    def test_min_delta(self, rows):
        detector = small(epochs=30).set_callbacks(
            EarlyStopping("reconstruction", patience=4, min_delta=1e9)
        )
        # The first epoch is better than none; no later one is better by so much.
        assert detector.fit(rows[:60]).n_iter_ == 5

    def test_a_loss_on_rows_kept_from_training(self, rows):
        stopping = EarlyStopping("validation_reconstruction", patience=2)
        detector = small(epochs=40, validation_fraction=0.3, learning_rate=0.1)
        detector.set_callbacks(stopping).fit(rows[:60])
        losses = [record["validation_reconstruction"] for record in detector.history_]
        assert detector.n_iter_ in {40, int(np.argmin(losses)) + 1 + 2}

    def test_a_second_fit_knows_nothing_of_the_first(self, rows):
        stopping = EarlyStopping("reconstruction", patience=1, min_delta=1e9)
        detector = small().set_callbacks(stopping)
        assert [detector.fit(rows[:60]).n_iter_ for _ in "12"] == [2, 2]

    def test_a_warm_start_has_its_own_patience(self, rows):
        stopping = EarlyStopping("reconstruction", patience=2, min_delta=1e9)
        detector = small(warm_start=True).set_callbacks(stopping).fit(rows[:60])
        assert detector.n_iter_ == 3
        assert detector.fit(rows[:60]).n_iter_ == 6


class TestExponentialMovingAverage:
    def test_the_average_of_every_update(self, rows, monkeypatch):
        """Against an average made by hand of the weights after each update."""
        weights = []
        step = GANomalyDetector._train_step

        def remembering(self, nets, optimizers, x, progress):
            losses = step(self, nets, optimizers, x, progress)
            weights.append(nets.encoder[0][0].weight.detach().clone())
            return losses

        make_networks = GANomalyDetector._make_networks

        def first(self):
            networks = make_networks(self)
            if not weights:
                weights.append(networks.encoder[0][0].weight.detach().clone())
            return networks

        monkeypatch.setattr(GANomalyDetector, "_train_step", remembering)
        monkeypatch.setattr(GANomalyDetector, "_make_networks", first)
        detector = small(epochs=5).set_callbacks(ExponentialMovingAverage(0.5, warm_up=False))
        detector.fit(rows[:120])
        average = weights[0]
        for w in weights[1:]:
            average = 0.5 * average + 0.5 * w
        found = detector.networks_.encoder[0][0].weight
        np.testing.assert_allclose(found.detach(), average, rtol=1e-4, atol=1e-6)

    def test_decay_0_is_the_last_weights(self, Detector, make, rows):
        averaged = make(Detector).set_callbacks(ExponentialMovingAverage(0.0)).fit(rows[:60])
        np.testing.assert_array_equal(
            averaged.anomaly_score(rows), make(Detector).fit(rows[:60]).anomaly_score(rows)
        )

    def test_training_goes_on_as_without_it(self, Detector, make, rows):
        averaged = make(Detector).set_callbacks(ExponentialMovingAverage(0.9)).fit(rows[:60])
        plain = make(Detector).fit(rows[:60])
        assert averaged.history_ == plain.history_
        assert (averaged.anomaly_score(rows) != plain.anomaly_score(rows)).any()

    def test_spectral_norm_follows_the_average(self, rows):
        """Whatever is averaged, the normalised weight has a largest singular value of one."""
        detector = small(architecture=MLP(spectral_norm=True), epochs=40, learning_rate=0.03)
        detector.set_callbacks(ExponentialMovingAverage(0.9)).fit(rows[:60])
        weight = detector.networks_.discriminator.head.weight.detach()[0]
        assert np.linalg.norm(weight, 2) == pytest.approx(1, abs=0.05)


CALLBACKS = {
    "checkpoint alone": [],
    "average": [lambda: ExponentialMovingAverage(0.9)],
    "stopping": [lambda: EarlyStopping("reconstruction", patience=4)],
    "both": [
        lambda: ExponentialMovingAverage(0.9),
        lambda: EarlyStopping("reconstruction", patience=4),
    ],
}
ORDERS = [
    (name, order)
    for name, others in CALLBACKS.items()
    for order in itertools.permutations(range(len(others) + 1))
]


@pytest.mark.filterwarnings("ignore:Training was interrupted")
class TestCheckpoint:
    def test_resumed_is_uninterrupted_to_the_bit(self, Detector, make, rows, tmp_path):
        X, path = rows[:60], tmp_path / "run"
        interrupted = make(Detector, epochs=5, validation_fraction=0.2)
        interrupted.set_callbacks(Checkpoint(path), Watcher(raise_in=4))
        with pytest.warns(match="interrupted after epoch 3"):
            interrupted.fit(X)
        resumed = make(Detector, epochs=5, validation_fraction=0.2)
        resumed.set_callbacks(Checkpoint(path)).fit(X)
        assert resumed.n_iter_ == 5
        assert_same(resumed, make(Detector, epochs=5, validation_fraction=0.2).fit(X), rows)

    def test_on_images(self, Detector, make, images, tiny_convnet, tmp_path):
        X, path = images[:20], tmp_path / "run"
        make(Detector, architecture=tiny_convnet).set_callbacks(
            Checkpoint(path), Watcher(raise_in=2)
        ).fit(X)
        resumed = make(Detector, architecture=tiny_convnet).set_callbacks(Checkpoint(path)).fit(X)
        assert_same(resumed, make(Detector, architecture=tiny_convnet).fit(X), images)

    @pytest.mark.parametrize(("name", "order"), ORDERS, ids=[f"{n}-{o}" for n, o in ORDERS])
    @pytest.mark.parametrize("at", [2, 4])
    def test_with_others_in_any_order(self, rows, tmp_path, name, order, at):
        def callbacks(*more):
            all_of_them = [Checkpoint(tmp_path / "run"), *[make() for make in CALLBACKS[name]]]
            return [*[all_of_them[i] for i in order], *more]

        X = rows[:60]
        small().set_callbacks(*callbacks(Watcher(raise_in=at + 1))).fit(X)
        resumed = small().set_callbacks(*callbacks()).fit(X)
        (tmp_path / "run").unlink()
        assert_same(resumed, small().set_callbacks(*callbacks()).fit(X), rows)

    @pytest.mark.parametrize("order", [0, 1])
    def test_resumed_at_the_best_epoch(self, rows, tmp_path, order):
        """The best weights are those of the epoch after which the file was written."""

        def callbacks(*more):
            both = [
                Checkpoint(tmp_path / "run"),
                EarlyStopping("reconstruction", patience=3, min_delta=1e9),
            ]
            return [both[order], both[1 - order], *more]

        X = rows[:60]
        small().set_callbacks(*callbacks(Watcher(raise_in=2))).fit(X)
        resumed = small().set_callbacks(*callbacks()).fit(X)
        assert resumed.n_iter_ == 4
        (tmp_path / "run").unlink()
        assert_same(resumed, small().set_callbacks(*callbacks()).fit(X), rows)

    @pytest.mark.parametrize("order", [0, 1])
    def test_a_run_that_was_stopped_early_stays_stopped(self, rows, tmp_path, order):
        both = [
            Checkpoint(tmp_path / "run"),
            EarlyStopping("reconstruction", patience=1, min_delta=1e9),
        ]
        detector = small().set_callbacks(both[order], both[1 - order])
        scores = detector.fit(rows[:60]).anomaly_score(rows)
        assert detector.n_iter_ == 2
        assert detector.fit(rows[:60]).n_iter_ == 2
        np.testing.assert_array_equal(detector.anomaly_score(rows), scores)

    def test_a_completed_run_is_not_trained_again(self, rows, tmp_path, monkeypatch):
        detector = small().set_callbacks(Checkpoint(tmp_path / "run")).fit(rows[:60])
        scores = detector.anomaly_score(rows)

        def reached(*_):
            raise AssertionError("a completed run was trained again")

        monkeypatch.setattr(GANomalyDetector, "_train_step", reached)
        np.testing.assert_array_equal(detector.fit(rows[:60]).anomaly_score(rows), scores)

    def test_every_n_epochs(self, rows, tmp_path):
        path = tmp_path / "run"
        checkpoint = Checkpoint(path, every_n_epochs=2)
        small(epochs=5).set_callbacks(checkpoint, Watcher(raise_in=4)).fit(rows[:60])
        assert len(read_archive(path)["run"]["history"]) == 2
        small(epochs=5).set_callbacks(checkpoint).fit(rows[:60])
        assert len(read_archive(path)["run"]["history"]) == 5, "the end is written too"

    def test_without_resuming_the_file_is_overwritten(self, rows, tmp_path):
        path = tmp_path / "run"
        small(epochs=1).set_callbacks(Checkpoint(path)).fit(rows[:60])
        detector = small(epochs=2).set_callbacks(Checkpoint(path, resume=False)).fit(rows[:60])
        assert detector.n_iter_ == 2
        assert len(read_archive(path)["run"]["history"]) == 2

    @pytest.mark.parametrize("change", [{"latent_dim": 3}, {"epochs": 9}, {"random_state": 1}])
    def test_another_detectors_file(self, rows, tmp_path, change):
        checkpoint = Checkpoint(tmp_path / "run")
        small().set_callbacks(checkpoint).fit(rows[:60])
        with pytest.raises(ValueError, match=r"other parameters .* resume=False"):
            small(**change).set_callbacks(checkpoint).fit(rows[:60])

    @pytest.mark.parametrize("X", [np.ones((60, 3)), "fewer rows", "other values"])
    def test_another_x(self, rows, tmp_path, X):
        checkpoint = Checkpoint(tmp_path / "run")
        small().set_callbacks(checkpoint).fit(rows[:60])
        X = {"fewer rows": rows[:50], "other values": rows[:60] + 1}.get(str(X), X)
        with pytest.raises(ValueError, match="another"):
            small().set_callbacks(checkpoint).fit(X)

    def test_what_changes_no_training_may_change(self, rows, tmp_path):
        checkpoint = Checkpoint(tmp_path / "run")
        small().set_callbacks(checkpoint, Watcher(raise_in=3)).fit(rows[:60])
        detector = small(contamination=0.2, score="paper").set_callbacks(checkpoint)
        assert detector.fit(rows[:60]).n_iter_ == 6

    def test_a_file_that_is_something_else(self, rows, tmp_path):
        (tmp_path / "run").write_bytes(b"something else")
        with pytest.raises(ArchiveError, match="damaged"):
            small().set_callbacks(Checkpoint(tmp_path / "run")).fit(rows[:60])
        write_archive(tmp_path / "run", {"a": 1})
        with pytest.raises(ValueError, match="belongs to"):
            small().set_callbacks(Checkpoint(tmp_path / "run")).fit(rows[:60])

    def test_only_the_first_process_reads_and_writes(self, rows, tmp_path, monkeypatch):
        checkpoint = Checkpoint(tmp_path / "run")
        small(epochs=1).set_callbacks(checkpoint).fit(rows[:30])
        monkeypatch.setenv("RANK", "1")
        elsewhere = Checkpoint(tmp_path / "not there" / "run")
        # Of another detector: the first would refuse it.
        small(epochs=2).set_callbacks(checkpoint, elsewhere).fit(rows[:30])
        assert len(read_archive(tmp_path / "run")["run"]["history"]) == 1

    def test_a_relative_path(self, rows, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        small(epochs=1).set_callbacks(Checkpoint("run")).fit(rows[:30])
        assert [path.name for path in tmp_path.iterdir()] == ["run"]


class TestTensorBoardLog:
    def test_the_losses_of_every_epoch_are_written(self, rows, tmp_path):
        pytest.importorskip("tensorboard")
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        detector = small(epochs=3)
        detector.set_callbacks(TensorBoardLog(tmp_path / "logs")).fit(rows[:50])
        events = EventAccumulator(str(tmp_path / "logs")).Reload()
        losses = set(detector.history_[0]) - {"epoch"}
        assert set(events.Tags()["scalars"]) == {f"loss/{name}" for name in losses}
        for name in losses:
            written = [(event.step, event.value) for event in events.Scalars(f"loss/{name}")]
            expected = [(record["epoch"], record[name]) for record in detector.history_]
            np.testing.assert_allclose(written, expected, rtol=1e-6)

    def test_only_the_first_process_writes(self, rows, tmp_path, monkeypatch):
        monkeypatch.setenv("RANK", "1")
        monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)  # nor needs it
        small(epochs=1).set_callbacks(TensorBoardLog(tmp_path / "logs")).fit(rows[:50])
        assert not (tmp_path / "logs").exists()

    def test_without_tensorboard_nothing_is_trained(self, rows, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
        detector = small().set_callbacks(TensorBoardLog(tmp_path / "logs"))
        with pytest.raises(ImportError, match=r"gandetect\[tensorboard\]"):
            detector.fit(rows[:50])
        assert not (tmp_path / "logs").exists()


class TestDamagedCheckpoints:
    """Whole files whose content is no training: the checksum is right."""

    @pytest.mark.parametrize(
        "part",
        ["networks", "optimizers", "random", "history", "n_updates", "records", "moments", "run"],
    )
    def test_refused(self, rows, tmp_path, part):
        X, path = rows[:30], tmp_path / "checkpoint"
        small(epochs=1).set_callbacks(Checkpoint(path)).fit(X)
        tree = read_archive(path)
        run = tree["run"]
        if part == "moments":  # of another shape: a fused step would write beyond it
            for state in run["optimizers"]["generator"]["state"].values():
                state["exp_avg"] = torch.zeros(1)
        elif part == "records":
            run["history"] = [{"epoch": 1, "generator": "low"}]
        elif part == "run":
            tree["run"] = 3
        else:
            run[part] = None if part == "n_updates" else 3
        write_archive(path, tree)
        with pytest.raises(ArchiveError, match="whole training"):
            small(epochs=1).set_callbacks(Checkpoint(path)).fit(X)
