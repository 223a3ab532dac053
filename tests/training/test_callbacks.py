"""scikit-learn's callbacks and ours, alone and together."""

import itertools
import sys

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning

import gandetect
from gandetect import (
    MLP,
    AdversarialVAEDetector,
    Checkpoint,
    EarlyStopping,
    ExponentialMovingAverage,
    GANomalyDetector,
    TensorBoardLog,
)
from gandetect.archive import ArchiveError, read_archive, write_archive
from gandetect.metrics import average_precision_scorer, roc_auc_scorer
from gandetect.training import current_run
from tests.helpers import one_detector

callback = pytest.importorskip("sklearn.callback", reason="needs scikit-learn 1.9")
ProgressBar, ScoringMonitor = callback.ProgressBar, callback.ScoringMonitor


def small(**parameters):
    return GANomalyDetector(
        **{"epochs": 6, "n_estimators": 1, "random_state": 0, "latent_dim": 2, **parameters}
    )


def interrupted(detector, X, *given):
    """Fit a detector that a callback interrupts, as Ctrl-C does."""
    with (
        pytest.warns(ConvergenceWarning, match="interrupted after"),
        pytest.raises(KeyboardInterrupt),
    ):
        detector.fit(X, *given)
    return detector


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
    @one_detector
    def test_one_task_is_one_epoch(self, Detector, make, rows):
        watcher = Watcher()
        make(Detector).set_callbacks(watcher).fit(rows[:30])
        epoch = ["begin epoch", "end epoch"]
        assert watcher.calls == ["setup", "begin fit", *epoch, *epoch, "end fit", "teardown"]

    @one_detector
    def test_true_stops(self, Detector, make, rows):
        detector = make(Detector, epochs=9).set_callbacks(Watcher(stop_after=3)).fit(rows[:30])
        assert detector.n_iter_ == len(detector.history_) == 3
        assert "callback after epoch 3" in detector.stop_reason_

    @one_detector
    def test_without_a_stop_all_epochs_are_done(self, fitted_to_rows):
        assert fitted_to_rows.stop_reason_ == "all epochs done"

    def test_teardown_when_fit_raises(self, rows):
        watcher = Watcher()
        detector = small().set_callbacks(watcher, EarlyStopping("nothing"))
        with pytest.raises(ValueError, match=r"monitors 'nothing'.*'reconstruction'"):
            detector.fit(rows[:30])
        assert watcher.calls[-1] == "teardown"
        with pytest.raises(RuntimeError, match="No detector is being fitted"):
            current_run()
        assert small().set_callbacks(watcher).fit(rows[:30]).n_iter_ == 6

    @one_detector
    def test_watching_changes_no_bit(self, Detector, make, rows):
        y = np.arange(60) % 5 == 0
        monitor = ScoringMonitor(scoring={"roc_auc": roc_auc_scorer})
        watched = make(Detector, verbose=1).set_callbacks(Watcher(), monitor).fit(rows[:60], y)
        assert_same(watched, make(Detector).fit(rows[:60], y), rows)


def logged(monitor):
    """What was logged of the epochs, and of the whole fit."""
    log = monitor.get_logs().data
    return ([record for record in log if record["task_name"] == name] for name in ("epoch", "fit"))


class TestScoringMonitor:
    @one_detector
    def test_it_logs_every_epoch_and_the_finished_fit(self, Detector, make, rows):
        y = np.arange(60) % 5 == 0
        monitor = ScoringMonitor(
            scoring={"roc_auc": roc_auc_scorer, "ap": average_precision_scorer}
        )
        detector = make(Detector).set_callbacks(monitor).fit(rows[:60], y)
        epochs, of_fit = logged(monitor)
        assert (len(epochs), len(of_fit)) == (detector.n_iter_, 1)
        for record in (epochs[-1], *of_fit):
            assert record["roc_auc"] == roc_auc_scorer(detector, rows[:60], y)
            assert record["ap"] == average_precision_scorer(detector, rows[:60], y)

    @pytest.mark.parametrize("at", [0, 1, 2])
    def test_the_finished_fit_has_the_weights_that_other_callbacks_put_in_place(self, rows, at):
        y = np.arange(60) % 5 == 0
        monitor = ScoringMonitor(scoring={"roc_auc": roc_auc_scorer})
        callbacks = [
            EarlyStopping("reconstruction", patience=3, min_delta=1e9),
            ExponentialMovingAverage(0.99),
        ]
        callbacks.insert(at, monitor)
        detector = small(learning_rate=0.1).set_callbacks(*callbacks).fit(rows[:60], y)
        epochs, (of_fit,) = logged(monitor)
        assert len(epochs) == detector.n_iter_ == 4
        assert of_fit["roc_auc"] == roc_auc_scorer(detector, rows[:60], y)
        assert of_fit["roc_auc"] != epochs[-1]["roc_auc"]

    @one_detector
    def test_until_a_callback_stops(self, Detector, make, rows):
        y = np.arange(60) % 5 == 0
        monitor = ScoringMonitor(scoring={"roc_auc": roc_auc_scorer})
        detector = make(Detector, epochs=9).set_callbacks(monitor, Watcher(stop_after=2))
        assert detector.fit(rows[:60], y).n_iter_ == 2
        assert [len(records) for records in logged(monitor)] == [2, 1]

    def test_on_images(self, images, tiny_convnet):
        y = np.arange(20) % 5 == 0
        monitor = ScoringMonitor(scoring={"roc_auc": roc_auc_scorer})
        detector = small(architecture=tiny_convnet, epochs=2).set_callbacks(monitor)
        detector.fit(images[:20], y)
        assert [len(records) for records in logged(monitor)] == [2, 1]


class TestProgress:
    @one_detector
    def test_scikit_learns_progress_bar(self, Detector, make, rows, capsys):
        pytest.importorskip("rich")
        make(Detector).set_callbacks(ProgressBar()).fit(rows[:30])
        assert Detector.__name__ in capsys.readouterr().out

    def test_it_runs_from_0_to_100_percent_also_in_a_warm_start(self, rows, monkeypatch):
        pytest.importorskip("rich")
        # The class that draws has no public name.
        RichProgressMonitor = sys.modules[ProgressBar.__module__].RichProgressMonitor
        shown = []
        end = RichProgressMonitor._on_task_end

        def record(self, info):
            end(self, info)
            shown.append(self.root_rich_task.progress)

        monkeypatch.setattr(RichProgressMonitor, "_on_task_end", record)
        detector = small(epochs=2, warm_start=True).set_callbacks(ProgressBar())
        for _ in range(2):
            shown.clear()
            detector.fit(rows[:30])
            assert shown == pytest.approx([0.5, 1, 1])

    @one_detector
    def test_verbose_shows_losses(self, Detector, make, rows, capsys):
        detector = make(Detector, verbose=1).fit(rows[:30])
        shown = capsys.readouterr().err
        assert Detector.__name__ in shown
        assert "2/2" in shown
        for name in detector.history_[-1]:
            assert name == "epoch" or f"{name}=" in shown

    @one_detector
    def test_silence(self, Detector, make, rows, capsys):
        make(Detector).fit(rows[:30]).predict(rows)
        captured = capsys.readouterr()
        assert captured.out + captured.err == ""


class TestEarlyStopping:
    @one_detector
    def test_it_goes_back_to_the_best_epoch(self, Detector, make, rows):
        losses = [5.0, 3.0, 4.0, 2.0, 2.5, 2.1, 9.0, 1.0]
        weights = []

        class Falling(EarlyStopping):
            def on_fit_task_end(self, estimator, context):
                run = current_run()
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
        detector = small(schedule=None).set_callbacks(stopping).fit(rows[:60])
        assert detector.n_iter_ == 2
        short = small(epochs=2, schedule=None).fit(rows[:60])
        np.testing.assert_array_equal(detector.anomaly_score(rows), short.anomaly_score(rows))

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

    @one_detector
    def test_a_validation_loss_that_cannot_be_there_is_told_before_training(
        self, Detector, make, rows
    ):
        def fit(monitor, share):
            watcher = Watcher()
            detector = make(Detector, validation_fraction=share)
            detector.set_callbacks(watcher, EarlyStopping(monitor)).fit(rows[:60])
            return detector, watcher

        for share, message in ((0.0, "set validation_fraction above 0"), (0.2, "'validation_")):
            with pytest.raises(ValueError, match=rf"monitors 'validation_nothing'.*{message}"):
                fit("validation_nothing", share)
        detector, _ = fit(None, 0.2)
        for name in detector.history_[-1]:
            if name != "epoch":
                fit(name, 0.2)

    @pytest.mark.parametrize(
        ("losses", "chosen"),
        [
            (["generator", "reconstruction", "validation_x", "validation_reconstruction"], 3),
            (["generator", "reconstruction", "validation_x"], 2),
            (["generator", "reconstruction"], 1),
            (["generator", "critic"], 0),
        ],
    )
    def test_without_a_name_it_takes_what_there_is(self, losses, chosen, rows):
        """Detectors of the user's own have losses of other names."""

        class Renaming(EarlyStopping):
            def on_fit_task_end(self, estimator, context):
                if context.task_name == "epoch":
                    record = current_run().history[-1]
                    epoch = record.pop("epoch")
                    record.clear()
                    record.update(dict.fromkeys(losses, 1.0), epoch=epoch)
                    record[losses[chosen]] = -float(epoch)  # falls, and no other does
                return super().on_fit_task_end(estimator, context)

        detector = small(epochs=5).set_callbacks(Renaming(patience=1)).fit(rows[:30])
        assert detector.n_iter_ == 5

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
    @pytest.mark.parametrize(
        ("warm_up", "decays"),
        [
            (False, [0.5] * 10),
            (True, [2 / 11, 3 / 12, 4 / 13, 5 / 14, 6 / 15, 7 / 16, 8 / 17, 0.5]),
        ],
        ids=["from the first update", "warm-up"],
    )
    def test_the_average_of_every_update(self, rows, monkeypatch, warm_up, decays):
        """Against an average made by hand of the weights after each update."""
        weights = []
        step = GANomalyDetector.model_class.training_step

        def remembering(self, x, run):
            if not weights:
                weights.append(self.encoder[0][0].weight.detach().clone())
            losses = step(self, x, run)
            weights.append(self.encoder[0][0].weight.detach().clone())
            return losses

        monkeypatch.setattr(GANomalyDetector.model_class, "training_step", remembering)
        callback = ExponentialMovingAverage(0.5, warm_up=warm_up)
        detector = small(epochs=5).set_callbacks(callback).fit(rows[:120])
        average = weights[0]
        assert len(weights) == 11
        for w, decay in zip(weights[1:], [*decays, 0.5, 0.5], strict=False):
            average = decay * average + (1 - decay) * w
        found = detector.networks_.encoder[0][0].weight
        np.testing.assert_allclose(found.detach(), average, rtol=1e-4, atol=1e-6)

    @one_detector
    def test_decay_0_is_the_last_weights(self, Detector, make, rows):
        averaged = make(Detector).set_callbacks(ExponentialMovingAverage(0.0)).fit(rows[:60])
        np.testing.assert_array_equal(
            averaged.anomaly_score(rows), make(Detector).fit(rows[:60]).anomaly_score(rows)
        )

    @one_detector
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


class TestCheckpoint:
    def test_resumed_is_uninterrupted_to_the_bit(self, Detector, make, rows, tmp_path):
        X, path = rows[:60], tmp_path / "run"
        detector = make(Detector, epochs=5, validation_fraction=0.2)
        interrupted(detector.set_callbacks(Checkpoint(path), Watcher(raise_in=4)), X)
        assert detector.n_iter_ == 3 and detector.stop_reason_ == "interrupted after epoch 3"
        assert np.isfinite(detector.anomaly_score(rows)).all()
        resumed = make(Detector, epochs=5, validation_fraction=0.2)
        resumed.set_callbacks(Checkpoint(path)).fit(X)
        assert resumed.n_iter_ == 5
        assert_same(resumed, make(Detector, epochs=5, validation_fraction=0.2).fit(X), rows)

    def test_a_saved_detector_is_not_a_checkpoint(self, rows, tmp_path):
        """And the other way round: each names what it is, and neither says that it is damaged."""
        path = tmp_path / "run"
        small().fit(rows[:60]).save(path)
        with pytest.raises(ArchiveError, match=r"run' is no checkpoint.*a path of its own"):
            small().set_callbacks(Checkpoint(path)).fit(rows[:60])
        path.unlink()
        small().set_callbacks(Checkpoint(path)).fit(rows[:60])
        for load in (gandetect.load, GANomalyDetector.load):
            with pytest.raises(ArchiveError, match=r"that save wrote.*Checkpoint\(path"):
                load(path)

    @one_detector
    def test_on_images(self, Detector, make, images, tiny_convnet, tmp_path):
        X, path = images[:20], tmp_path / "run"
        detector = make(Detector, architecture=tiny_convnet)
        interrupted(detector.set_callbacks(Checkpoint(path), Watcher(raise_in=2)), X)
        resumed = make(Detector, architecture=tiny_convnet).set_callbacks(Checkpoint(path)).fit(X)
        assert_same(resumed, make(Detector, architecture=tiny_convnet).fit(X), images)

    def test_members_that_started_anew_go_on_with_their_own_counts(self, rows, tmp_path):
        """Of a discriminator that collapses all the time in the first epochs."""
        X, path = rows[:60], tmp_path / "run"

        def detector():
            return small(n_estimators=3, collapse_loss=0.69, learning_rate=0.003, schedule=None)

        interrupted(detector().set_callbacks(Checkpoint(path), Watcher(raise_in=4)), X)
        state = read_archive(path)["run"]["optimizers"]["discriminator"]["state"]
        counts = {tuple(of_weight["step"].tolist()) for of_weight in state.values()}
        assert any(len(set(of_members)) > 1 for of_members in counts)
        resumed = detector().set_callbacks(Checkpoint(path)).fit(X)
        assert_same(resumed, detector().fit(X), rows)

    @pytest.mark.parametrize(("name", "order"), ORDERS, ids=[f"{n}-{o}" for n, o in ORDERS])
    @pytest.mark.parametrize("at", [2, 4])
    def test_with_others_in_any_order(self, rows, tmp_path, name, order, at):
        def callbacks(*more):
            all_of_them = [Checkpoint(tmp_path / "run"), *[make() for make in CALLBACKS[name]]]
            return [*[all_of_them[i] for i in order], *more]

        X = rows[:60]
        interrupted(small().set_callbacks(*callbacks(Watcher(raise_in=at + 1))), X)
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
        interrupted(small().set_callbacks(*callbacks(Watcher(raise_in=2))), X)
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

        monkeypatch.setattr(GANomalyDetector.model_class, "training_step", reached)
        np.testing.assert_array_equal(detector.fit(rows[:60]).anomaly_score(rows), scores)

    def test_every_n_epochs(self, rows, tmp_path):
        path = tmp_path / "run"
        checkpoint = Checkpoint(path, every_n_epochs=2)
        interrupted(small(epochs=5).set_callbacks(checkpoint, Watcher(raise_in=4)), rows[:60])
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

    @pytest.mark.parametrize("change", ["fewer columns", "fewer rows", "another value", "order"])
    def test_another_x(self, rows, tmp_path, change):
        checkpoint = Checkpoint(tmp_path / "run")
        X = rows[:60].copy()
        small(epochs=1).set_callbacks(checkpoint).fit(X)
        before = (tmp_path / "run").read_bytes()
        X[7, 3] += 1e-9
        X = {
            "fewer columns": rows[:60, :3],
            "fewer rows": rows[:50],
            "another value": X,
            "order": rows[:60][::-1],
        }[change]
        with pytest.raises(ValueError, match=r"another X or y\. Delete it"):
            small(epochs=1).set_callbacks(checkpoint).fit(X)
        assert (tmp_path / "run").read_bytes() == before

    @pytest.mark.parametrize("scaling", ["symmetric", "none", "unit"])
    def test_8_bit_images_that_have_one_scale(self, tmp_path, tiny_convnet, scaling):
        X = np.random.default_rng(0).integers(0, 256, size=(2, 12, 5, 5), dtype=np.uint8)
        checkpoint = Checkpoint(tmp_path / "run")
        detector = small(architecture=tiny_convnet, epochs=1, scaling=scaling)
        scores = detector.set_callbacks(checkpoint).fit(X[0]).anomaly_score(X[0])
        with pytest.raises(ValueError, match="another X"):
            detector.fit(X[1])
        np.testing.assert_array_equal(detector.anomaly_score(X[0]), scores)

    @pytest.mark.parametrize("name", ["y", "class_labels"])
    def test_other_labels(self, rows, tmp_path, name):
        checkpoint = Checkpoint(tmp_path / "run")
        labels = np.arange(30) % 2

        def fit(**given):
            detector = AdversarialVAEDetector(epochs=1, n_estimators=1, random_state=0)
            return detector.set_callbacks(checkpoint).fit(rows[:30], **given)

        fit(**{name: labels})
        for other in (1 - labels, np.array(["a", "b"])[labels], None):
            with pytest.raises(ValueError, match="another X or y"):
                fit(**{name: other})
        assert fit(**{name: labels.tolist()}).n_iter_ == 1

    def test_what_changes_no_training_may_change(self, rows, tmp_path):
        checkpoint = Checkpoint(tmp_path / "run")
        interrupted(small().set_callbacks(checkpoint, Watcher(raise_in=3)), rows[:60])
        detector = small(contamination=0.2, score="paper").set_callbacks(checkpoint)
        assert detector.fit(rows[:60]).n_iter_ == 6

    def test_a_file_that_is_something_else(self, rows, tmp_path):
        (tmp_path / "run").write_bytes(b"something else")
        with pytest.raises(ArchiveError, match="damaged"):
            small().set_callbacks(Checkpoint(tmp_path / "run")).fit(rows[:60])
        write_archive(tmp_path / "run", {"a": 1})
        with pytest.raises(ArchiveError, match="is no checkpoint"):
            small().set_callbacks(Checkpoint(tmp_path / "run")).fit(rows[:60])

    def test_only_the_first_process_reads_and_writes(self, rows, tmp_path, monkeypatch):
        checkpoint = Checkpoint(tmp_path / "run")
        small(epochs=1).set_callbacks(checkpoint).fit(rows[:30])
        monkeypatch.setattr("gandetect.training.callbacks.is_first", lambda: False)
        elsewhere = Checkpoint(tmp_path / "not there" / "run")
        # Of another detector: the first would refuse it.
        small(epochs=2).set_callbacks(checkpoint, elsewhere).fit(rows[:30])
        assert len(read_archive(tmp_path / "run")["run"]["history"]) == 1

    @pytest.mark.parametrize("rank", ["1", "", "node3"])
    def test_a_rank_that_is_not_of_torchrun_counts_for_nothing(
        self, rows, tmp_path, monkeypatch, rank
    ):
        """Job arrays, MPI and cluster schedulers use the name for their own ends."""
        monkeypatch.setenv("RANK", rank)
        small(epochs=1).set_callbacks(Checkpoint(tmp_path / "run")).fit(rows[:30])
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
        monkeypatch.setattr("gandetect.training.callbacks.is_first", lambda: False)
        monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)  # nor needs it
        small(epochs=1).set_callbacks(TensorBoardLog(tmp_path / "logs")).fit(rows[:50])
        assert not (tmp_path / "logs").exists()

    def test_without_tensorboard_nothing_is_trained(self, rows, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
        detector = small().set_callbacks(TensorBoardLog(tmp_path / "logs"))
        with pytest.raises(ImportError, match=r"gandetect\[tensorboard\]"):
            detector.fit(rows[:50])
        assert not (tmp_path / "logs").exists()


def that_keep(path):
    """All callbacks that keep something in a checkpoint."""
    stopping = EarlyStopping("reconstruction", patience=9)
    return [Checkpoint(path), ExponentialMovingAverage(0.9), stopping]


@pytest.fixture(scope="module")
def written(rows, tmp_path_factory):
    """The checkpoint of a training that was interrupted after two of six epochs."""
    path = tmp_path_factory.mktemp("checkpoint") / "run"
    detector = small(n_estimators=2).set_callbacks(*that_keep(path), Watcher(raise_in=3))
    interrupted(detector, rows[:30])
    return path


class TestForgedCheckpoints:
    """Whole files, whose checksum is right and whose content is no training of ours."""

    def resume(self, written, rows, tmp_path, forge):
        tree = read_archive(written)
        forge(tree)
        path = tmp_path / "forged"
        write_archive(path, tree)
        return small(n_estimators=2).set_callbacks(*that_keep(path)).fit(rows[:30])

    def test_what_is_not_forged_is_resumed(self, written, rows, tmp_path):
        assert self.resume(written, rows, tmp_path, lambda tree: None).n_iter_ == 6

    @pytest.mark.parametrize("optimizer", ["generator", "discriminator"])
    @pytest.mark.parametrize("name", ["exp_avg", "exp_avg_sq", "step"])
    @pytest.mark.parametrize(
        "forge",
        [
            lambda v: torch.tensor(0.0) if v.ndim else torch.zeros(10**5),
            lambda v: torch.zeros(1),
            lambda v: torch.zeros(10**5).double(),
            lambda v: v.double(),
            lambda v: v * torch.nan,
        ],
        ids=["scalar", "one", "many", "double", "nan"],
    )
    def test_moments_and_counts(self, written, rows, tmp_path, optimizer, name, forge):
        """A fused step would write beyond a tensor that is too small."""

        def change(tree):
            for of_weight in tree["run"]["optimizers"][optimizer]["state"].values():
                of_weight[name] = forge(of_weight[name])

        with pytest.raises(ArchiveError, match=f"is not a complete training: its '{name}'"):
            self.resume(written, rows, tmp_path, change)

    @pytest.mark.parametrize(
        ("path", "value"),
        [
            ("run", 3),
            ("run/networks", 3),
            ("run/optimizers", {}),
            ("run/optimizers/generator", 3),
            ("run/random", 3),
            ("run/random/cpu", torch.full((5056,), 255, dtype=torch.uint8)),
            ("run/history", [{"epoch": 1, "reconstruction": "low"}]),
            ("run/history", [{"epoch": 1, "reconstruction": float("nan")}]),
            ("run/history", [{"epoch": i + 1, "reconstruction": 1.0} for i in range(99)]),
            ("run/history", []),
            ("run/n_updates", None),
            ("run/n_updates", float("inf")),
            ("run/seconds", float("nan")),
            ("run/n_samples", None),
            ("run/extra", 3),
            ("run/extra/average", {}),
            ("run/extra/average", 3),
            ("run/extra/n_averaged", -1),
            ("run/extra/n_averaged", torch.ones(3)),
            ("run/extra/best_weights", {}),
            ("run/extra/best_weights", None),
        ],
    )
    def test_other_parts(self, written, rows, tmp_path, path, value):
        def change(tree):
            *parents, last = path.split("/")
            for name in parents:
                tree = tree[name]
            tree[last] = value

        if path == "run/history" and value == []:
            # Records that are missing are those of epochs that are trained once more.
            assert self.resume(written, rows, tmp_path, change).n_iter_ == 6
            return
        with pytest.raises((ArchiveError, ValueError), match=r"complete training|another X or y"):
            self.resume(written, rows, tmp_path, change)

    @pytest.mark.parametrize("kept", ["average", "best_weights"])
    @pytest.mark.parametrize(
        "forge",
        [lambda w: torch.tensor(0.0), lambda w: w * torch.nan, lambda w: w.double(), lambda w: 3],
        ids=["scalar", "nan", "double", "number"],
    )
    def test_weights_that_callbacks_kept(self, written, rows, tmp_path, kept, forge):
        def change(tree):
            weights = tree["run"]["extra"][kept]
            name = next(iter(weights))
            weights[name] = forge(weights[name])

        with pytest.raises(ArchiveError, match="complete training"):
            self.resume(written, rows, tmp_path, change)
