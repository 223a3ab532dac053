"""The loop, and what it does when a loss is not finite."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from torch import nn

from gandetect import ExponentialMovingAverage, GANomalyDetector
from gandetect.training.loop import TrainingRun, train, update


class TestUpdate:
    def test_one_step_worked_by_hand(self):
        # loss = mean over samples of w * x = 2 w; its gradient is 2, the step 0.1 * 2.
        w = nn.Parameter(torch.tensor([[1.0]]))
        update(torch.optim.SGD([w], lr=0.1), w * torch.tensor([[1.0, 3.0]]))
        assert w.item() == pytest.approx(0.8)

    def test_members_learn_as_they_would_alone(self):
        w = nn.Parameter(torch.ones(3, 1))
        x = torch.tensor([[1.0, 3.0], [2.0, 4.0], [0.0, 0.0]])
        update(torch.optim.SGD([w], lr=0.1), w * x)
        torch.testing.assert_close(w.detach(), torch.tensor([[0.8], [0.7], [1.0]]))

    def test_a_loss_without_samples(self):
        w = nn.Parameter(torch.ones(2))
        update(torch.optim.SGD([w], lr=0.5), w * torch.tensor([1.0, 2.0]))
        torch.testing.assert_close(w.detach(), torch.tensor([0.5, 0.0]))

    def test_no_other_weight_gets_a_gradient(self):
        own, other = nn.Parameter(torch.ones(1, 1)), nn.Parameter(torch.ones(1, 1))
        update(torch.optim.SGD([own], lr=0.1), own * other)
        assert other.grad is None
        assert own.item() == pytest.approx(0.9)

    def test_gradients_do_not_pile_up(self):
        w = nn.Parameter(torch.ones(1, 1))
        optimizer = torch.optim.SGD([w], lr=0.1)
        for _ in range(2):
            update(optimizer, w * torch.ones(1, 1))
        assert w.item() == pytest.approx(0.8)

    def test_two_losses_of_one_forward_pass(self):
        a, b = nn.Parameter(torch.ones(1, 1)), nn.Parameter(torch.ones(1, 1))
        product = a * b
        update(torch.optim.SGD([a], lr=0.1), product, retain_graph=True)
        assert a.item() == pytest.approx(0.9)
        with pytest.raises(RuntimeError):  # torch's word for weights changed under the graph
            update(torch.optim.SGD([b], lr=0.1), product)


class Tasks:
    """Epochs without callbacks; can stop after some."""

    def __init__(self, stop_after=None):
        self.stop_after = stop_after
        self.calls = []

    def begin(self):
        self.calls.append("begin")

    def end(self):
        self.calls.append("end")
        return self.calls.count("end") == self.stop_after


class Run:
    """A network of one number, and batches of given sizes."""

    def __init__(self, n_epochs, batch_sizes=(2,)):
        networks = nn.ModuleDict({"n": nn.Linear(1, 1, bias=False)})
        nn.init.zeros_(networks["n"].weight)
        optimizers = {"o": torch.optim.SGD(networks.parameters(), lr=1.0)}
        self.run = TrainingRun(networks, optimizers, n_epochs, n_samples=2)
        batches = [torch.ones(1, size, 1) for size in batch_sizes]
        self.data = SimpleNamespace(n_batches=len(batches), epoch=lambda: iter(batches))
        self.weight = networks["n"].weight

    def train(self, step, tasks=None, validate=dict):
        train(self.run, step, self.data, validate, tasks or Tasks())

    def move(self):
        with torch.no_grad():
            self.weight.add_(1.0)


class TestTrain:
    def test_records_and_progress(self):
        toy, progress = Run(3, (2, 2)), []

        def step(x, p):
            progress.append(p)
            return {"loss": torch.full((1, 2), float(len(progress)))}

        tasks = Tasks()
        toy.train(step, tasks, lambda: {"validation_loss": 7.0})
        np.testing.assert_allclose(progress, [0, 1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6])
        assert toy.run.history == [
            {"epoch": 1, "loss": 1.5, "validation_loss": 7.0},
            {"epoch": 2, "loss": 3.5, "validation_loss": 7.0},
            {"epoch": 3, "loss": 5.5, "validation_loss": 7.0},
        ]
        assert toy.run.n_updates == 6
        assert tasks.calls == ["begin", "end"] * 3
        assert toy.run.stop_reason == "all epochs done"

    def test_means_are_over_samples_not_over_batches(self):
        toy = Run(1, (3, 1))
        toy.train(lambda x, _: {"loss": torch.full((1, x.shape[1]), float(x.shape[1]))})
        assert toy.run.history[0]["loss"] == pytest.approx((3 * 3 + 1) / 4)

    def test_means_of_members(self):
        toy = Run(1)
        toy.train(lambda *_: {"loss": torch.tensor([[1.0, 2.0], [3.0, 6.0]])})
        assert toy.run.history[0]["loss"] == pytest.approx(3.0)

    def test_networks_train_and_then_do_not(self):
        toy, modes = Run(2), []

        def step(*_):
            modes.append(toy.run.networks.training)
            return {"loss": torch.zeros(1, 2)}

        toy.train(step, validate=lambda: modes.append(toy.run.networks.training) or {})
        assert modes == [True, False, True, False]

    def test_true_stops(self):
        toy = Run(9)
        toy.train(lambda *_: {"loss": torch.zeros(1, 2)}, Tasks(stop_after=2))
        assert len(toy.run.history) == 2

    def test_it_continues_where_the_history_ends(self):
        toy, progress = Run(4), []
        toy.run.history[:] = [{"epoch": 1}, {"epoch": 2}]
        toy.train(lambda _, p: progress.append(p) or {"loss": torch.zeros(1, 2)})
        assert progress == [0.5, 0.75]
        assert [record["epoch"] for record in toy.run.history] == [1, 2, 3, 4]


class TestState:
    def test_resumed_is_the_same(self):
        a, b = Run(3), Run(3)
        a.move()
        a.run.history.append({"epoch": 1, "loss": 0.5})
        a.run.n_updates, a.run.extra["kept"] = 7, {"by": "a callback"}
        with torch.random.fork_rng():
            torch.manual_seed(5)
            state = a.run.state()
            expected = torch.rand(3)
            b.run.resume(state)
            assert torch.equal(torch.rand(3), expected)
        assert b.weight.item() == 1.0
        assert b.run.history == a.run.history
        assert (b.run.n_updates, b.run.extra) == (7, {"kept": {"by": "a callback"}})

    def test_the_optimizer_that_steps_last(self):
        run = Run(1).run
        run.optimizers["second"] = last = torch.optim.SGD(run.networks.parameters(), lr=1.0)
        assert run.last_optimizer() is last


class TestNotFinite:
    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_the_last_snapshot_is_restored(self, value):
        toy, n_steps = Run(400), []

        def step(*_):
            n_steps.append(None)
            toy.move()
            return {"loss": torch.full((1, 2), value if len(n_steps) == 251 else 1.0)}

        with pytest.warns(ConvergenceWarning, match="'loss' was not finite in epoch 251") as caught:
            toy.train(step)
        assert "after 228 updates" in str(caught[0].message)
        assert "learning_rate" in str(caught[0].message)
        assert toy.weight.item() == 228.0
        assert "epoch 251" in toy.run.stop_reason

    def test_history_ends_with_the_weights_that_were_restored(self):
        """Records of epochs whose weights are gone would show a training that is not there."""
        toy, n_steps = Run(400), []

        def step(*_):
            n_steps.append(None)
            return {"loss": torch.full((1, 2), np.nan if len(n_steps) == 251 else 1.0)}

        with pytest.warns(ConvergenceWarning):
            toy.train(step)
        assert len(toy.run.history) == 228

    def test_a_short_training_does_not_lose_everything(self):
        """The last good weights are those of the last good epoch, not the random first ones."""
        toy, n_steps = Run(40), []

        def step(*_):
            n_steps.append(None)
            toy.move()
            return {"loss": torch.full((1, 2), np.nan if len(n_steps) == 31 else 1.0)}

        with pytest.warns(ConvergenceWarning):
            toy.train(step)
        assert toy.weight.item() > 0

    def test_a_snapshot_is_never_of_broken_weights(self):
        """The update after a finite loss may break the weights: the next loss shows it."""
        toy, n_steps = Run(200), []

        def step(*_):
            n_steps.append(None)
            loss = torch.full((1, 2), toy.weight.item() * 0 + 1.0)
            toy.move()
            if len(n_steps) == 100:
                with torch.no_grad():
                    toy.weight.fill_(np.nan)
            return {"loss": loss}

        with pytest.warns(ConvergenceWarning):
            toy.train(step)
        assert np.isfinite(toy.weight.item())

    def test_the_last_update_may_break_the_weights(self):
        toy = Run(2)

        def step(_, progress):
            if progress > 0:
                with torch.no_grad():
                    toy.weight.fill_(np.inf)
            return {"loss": torch.ones(1, 2)}

        with pytest.warns(ConvergenceWarning):
            toy.train(step)
        assert np.isfinite(toy.weight.item())

    def test_a_detector_with_a_loss_of_nan(self, Detector, make, rows, monkeypatch):
        step = Detector._train_step
        calls = []

        def breaking(self, nets, optimizers, x, progress):
            calls.append(None)
            losses = step(self, nets, optimizers, x, progress)
            if len(calls) == 4:
                with torch.no_grad():
                    for weight in nets.parameters():
                        weight.fill_(np.nan)
                return {name: loss * np.nan for name, loss in losses.items()}
            return losses

        monkeypatch.setattr(Detector, "_train_step", breaking)
        with pytest.warns(ConvergenceWarning, match="in epoch 4"):
            detector = make(Detector, epochs=9).fit(rows[:60])
        assert "not finite" in detector.stop_reason_
        assert detector.n_iter_ == len(detector.history_) < 4
        assert np.isfinite(detector.anomaly_score(rows)).all()
        assert (detector.predict(rows[:60]) == -1).sum() == 6

    @pytest.mark.parametrize("epochs", [1, 2, 10])
    @pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
    def test_a_learning_rate_of_1e30(self, Detector, make, rows, epochs):
        detector = make(Detector, epochs=epochs, learning_rate=1e30).fit(rows[:60])
        assert np.isfinite(detector.anomaly_score(rows)).all()
        assert np.isfinite(detector.threshold_)

    def test_the_moving_average_is_not_broken(self, rows, monkeypatch):
        step = GANomalyDetector._train_step

        def breaking(self, nets, optimizers, x, progress):
            if progress >= 0.5:
                x = x * np.nan
            return step(self, nets, optimizers, x, progress)

        monkeypatch.setattr(GANomalyDetector, "_train_step", breaking)
        detector = GANomalyDetector(epochs=4, n_estimators=1, random_state=0)
        with pytest.warns(ConvergenceWarning):
            detector.set_callbacks(ExponentialMovingAverage(0.9)).fit(rows[:60])
        assert np.isfinite(detector.anomaly_score(rows)).all()
