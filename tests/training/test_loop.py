"""The loop, and what it does when a loss is not finite."""

import copy
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from torch import nn
from torch.utils.data import Dataset, TensorDataset

from gandetect import AdversarialVAEDetector, ExponentialMovingAverage, GANomalyDetector
from gandetect.archive import DAMAGE
from gandetect.distributed import RandomNumbers
from gandetect.networks.members import MemberAdam
from gandetect.training import current_run
from gandetect.training.loop import TrainingRun, train, update
from tests.helpers import needs_callbacks


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

    @pytest.mark.parametrize("shape", [(), (2, 3, 4)])
    def test_a_loss_that_is_not_one_value_for_each_sample_is_refused(self, shape):
        w = nn.Parameter(torch.ones(2))
        loss = w.sum() * torch.ones(shape)
        with pytest.raises(ValueError, match=r"update takes a loss in the shape \(K, B\)"):
            update(torch.optim.SGD([w], lr=0.5), loss)
        torch.testing.assert_close(w.detach(), torch.ones(2))

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


class Toy(nn.Module):
    """What a training needs of a model: a network of one number a member."""

    device = torch.device("cpu")

    def __init__(self, n_members=1, schedule=None):
        super().__init__()
        self.settings = SimpleNamespace(schedule=schedule)
        self.n = nn.Linear(1, n_members, bias=False)
        nn.init.zeros_(self.n.weight)

    @property
    def networks(self):
        return nn.ModuleDict({"n": self.n})

    def is_sound(self):
        return True

    def progress(self, run):
        return run.progress_of_fit


class Run:
    """A training of such a network, and batches of given sizes."""

    def __init__(
        self, n_epochs, batch_sizes=(2,), n_members=1, make=torch.optim.SGD, schedule=None
    ):
        model = Toy(n_members, schedule)
        random = RandomNumbers(0, torch.device("cpu"))
        self.run = TrainingRun(model, {}, random, n_epochs, n_samples=2)
        self.run.start_with({"o": make(model.parameters(), lr=1.0)})
        batches = [torch.ones(1, size, 1) for size in batch_sizes]
        self.data = SimpleNamespace(n_batches=len(batches), epoch=lambda: iter(batches))
        self.weight = model.n.weight

    def train(self, step, tasks=None, validate=dict):
        train(self.run, step, self.data, validate, tasks or Tasks())

    def move(self):
        with torch.no_grad():
            self.weight.add_(1.0)


class TestTrain:
    def test_records_and_progress(self):
        toy, progress = Run(3, (2, 2)), []

        def step(x):
            progress.append(toy.run.progress)
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
        toy.train(lambda x: {"loss": torch.full((1, x.shape[1]), float(x.shape[1]))})
        assert toy.run.history[0]["loss"] == pytest.approx((3 * 3 + 1) / 4)

    def test_means_of_members(self):
        toy = Run(1)
        toy.train(lambda x: {"loss": torch.tensor([[1.0, 2.0], [3.0, 6.0]])})
        assert toy.run.history[0]["loss"] == pytest.approx(3.0)

    def test_networks_train_and_then_do_not(self):
        toy, modes = Run(2), []

        def step(x):
            modes.append(toy.run.model.n.training)
            return {"loss": torch.zeros(1, 2)}

        toy.train(step, validate=lambda: modes.append(toy.run.model.n.training) or {})
        assert modes == [True, False, True, False]

    def test_true_stops(self):
        toy = Run(9)
        toy.train(lambda x: {"loss": torch.zeros(1, 2)}, Tasks(stop_after=2))
        assert len(toy.run.history) == 2

    def test_it_continues_where_the_history_ends(self):
        toy, progress = Run(4), []
        toy.run.history[:] = [{"epoch": 1}, {"epoch": 2}]
        toy.train(lambda x: progress.append(toy.run.progress) or {"loss": torch.zeros(1, 2)})
        assert progress == [0.5, 0.75]
        assert [record["epoch"] for record in toy.run.history] == [1, 2, 3, 4]

    def test_an_interrupt_keeps_what_was_learned(self):
        toy = Run(9)

        def step(x):
            if len(toy.run.history) == 2:
                raise KeyboardInterrupt
            toy.move()
            return {"loss": torch.zeros(1, 2)}

        with pytest.warns(ConvergenceWarning, match="interrupted after epoch 2; the current"):
            toy.train(step)
        assert toy.run.is_interrupted and not toy.run.is_done
        assert toy.weight.item() == 2


def fused_adam(parameters, lr):
    return torch.optim.Adam(parameters, lr=lr, betas=(0.5, 0.9), fused=True)


def member_adam(parameters, lr):
    return MemberAdam(parameters, 3, lr, (0.5, 0.9))


@pytest.fixture(params=[fused_adam, member_adam], ids=["fused", "of members"])
def adam(request):
    """A run of three members, whose optimizer has stepped twice."""
    toy = Run(5, n_members=3, make=request.param)
    toy.run.history.append({"epoch": 1, "loss": 0.5, "validation_loss": np.inf})
    toy.run.n_updates, toy.run.extra["kept"] = 2, {"by": "a callback"}
    x = torch.arange(6.0).reshape(3, 2)
    for _ in range(2):
        update(toy.run.optimizers["o"], toy.weight * x)
    if request.param is member_adam:
        toy.run.optimizers["o"].restart(torch.tensor([False, True, False]))
    return toy, lambda: Run(5, n_members=3, make=request.param), x


class TestState:
    def test_resumed_goes_on_to_the_same_bits(self, adam):
        toy, make, x = adam
        other = make()
        state = copy.deepcopy(toy.run.state())
        other.run.resume(state)
        assert other.run.history == toy.run.history
        assert (other.run.n_updates, other.run.extra) == (2, {"kept": {"by": "a callback"}})
        drawn = []
        for one in (toy, other):
            update(one.run.optimizers["o"], one.weight * x)
            drawn.append(one.run.random.uniform(3))
        assert torch.equal(*drawn)
        assert torch.equal(toy.weight, other.weight)

    def test_the_optimizer_that_steps_last(self):
        run = Run(1).run
        run.optimizers["second"] = last = torch.optim.SGD(run.networks.parameters(), lr=1.0)
        assert run.last_optimizer() is last

    @pytest.mark.parametrize("name", ["step", "exp_avg", "exp_avg_sq"])
    @pytest.mark.parametrize(
        "forge",
        [
            lambda v: v.new_tensor(1.0) if v.ndim else v[None],
            lambda v: v.new_ones(1, 1),
            lambda v: v.new_ones(7, 3),
            lambda v: v.double(),
            lambda v: v.to(torch.complex64),
            lambda v: v.int(),
            lambda v: v * torch.nan,
            lambda v: v * 0 + torch.inf,
            lambda v: v.tolist(),
            lambda v: None,
        ],
        ids=["scalar", "1 x 1", "large", "double", "complex", "int", "nan", "inf", "list", "none"],
    )
    def test_a_forged_moment_or_count_is_refused(self, adam, name, forge):
        toy, make, _ = adam
        state = copy.deepcopy(toy.run.state())
        of_weight = state["optimizers"]["o"]["state"][0]
        of_weight[name] = forge(of_weight[name])
        with pytest.raises(ValueError, match=f"its '{name}'"):
            make().run.resume(state)

    @pytest.mark.parametrize("name", ["step", "exp_avg_sq"])
    def test_what_cannot_be_negative(self, adam, name):
        toy, make, _ = adam
        state = copy.deepcopy(toy.run.state())
        state["optimizers"]["o"]["state"][0][name].fill_(-1.0)
        with pytest.raises(ValueError, match=f"its '{name}' is negative"):
            make().run.resume(state)

    @pytest.mark.parametrize(
        ("path", "value"),
        [
            (["optimizers", "o", "state", 1], {}),
            (["optimizers", "o", "state", "0"], {}),
            (["optimizers", "o", "state", 0], {}),
            (["optimizers", "o", "state", 0, "more"], torch.ones(1)),
            (["optimizers", "o", "state"], []),
            (["optimizers", "o", "param_groups"], []),
            (["optimizers", "o", "param_groups", 0, "lr"], np.nan),
            (["optimizers", "o", "param_groups", 0, "lr"], torch.ones(5)),
            (["optimizers", "o", "param_groups", 0, "lr"], -1.0),
            (["optimizers", "o", "param_groups", 0, "betas"], (0.5, 1.5)),
            (["optimizers", "o", "param_groups", 0, "eps"], torch.tensor(1e-8)),
            (["optimizers", "o", "param_groups", 0, "params"], [1]),
            (["optimizers", "o", "param_groups", 0, "more"], 1),
            (["networks", "n.weight"], torch.zeros(3)),
            (["networks", "n.weight"], torch.full((3, 1), np.nan)),
            (["networks", "n.weight"], torch.zeros(3, 1).double()),
            (["networks", "other"], torch.zeros(3, 1)),
            (["networks"], {}),
            (["history"], {}),
            (["history"], [{"epoch": i + 1, "loss": 1.0} for i in range(6)]),
            (["history", 0], {"loss": 1.0}),
            (["history", 0], {"epoch": 2, "loss": 1.0}),
            (["history", 0, "loss"], np.nan),
            (["history", 0, "loss"], "low"),
            (["history", 0, "loss"], torch.ones(3)),
            (["history", 0, 7], 1.0),
            (["n_updates"], -1),
            (["n_updates"], np.inf),
            (["seconds"], np.nan),
            (["is_done"], "no"),
            (["extra"], []),
            (["stop_reason"], 3),
            (["random"], {}),
            (["random", "cpu"], torch.zeros(3, dtype=torch.uint8)),
            (["random", "cpu"], torch.zeros(5056, dtype=torch.uint8)),
            (["random", "cpu"], 3),
        ],
        ids=lambda value: "-".join(map(str, value)) if isinstance(value, list) else "",
    )
    def test_a_forged_state_is_refused(self, adam, path, value):
        toy, make, _ = adam
        state = copy.deepcopy(toy.run.state())
        place = state
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = value
        with pytest.raises(DAMAGE):
            make().run.resume(state)

    def test_random_numbers_that_would_be_read_beyond_their_batch(self, adam):
        toy, make, _ = adam
        state = copy.deepcopy(toy.run.state())
        of_cpu = state["random"]["cpu"].numpy()
        for n_left, position in ((624, 624), (600, 600), (1, 1)):
            of_cpu[8:12] = np.array([n_left], dtype="i4").view(np.uint8)
            of_cpu[16:24] = np.array([position], dtype="i8").view(np.uint8)
            with pytest.raises(ValueError, match="random numbers"):
                make().run.resume(state)


class Noisy(Dataset):
    """Samples with noise of torch's, or of numpy's."""

    def __init__(self, X, by_numpy=False):
        self.X, self.by_numpy = X, by_numpy

    def __len__(self):
        return len(self.X)

    def __getitem__(self, i):
        noise = np.random.default_rng().random() if self.by_numpy else torch.rand(1).item()
        return self.X[i] + 0.01 * noise


@needs_callbacks
class TestFingerprint:
    """What a checkpoint and the processes of one fit agree on: parameters, X and y."""

    @pytest.fixture
    def found(self):
        def fingerprint(X, y=None, Detector=GANomalyDetector, labels=None, **parameters):
            found = []

            class Looks:
                def setup(self, estimator, context): ...
                def teardown(self, estimator, context): ...
                def on_fit_task_end(self, estimator, context): ...

                def on_fit_task_begin(self, estimator, context):
                    if context.task_name == "fit":
                        found.append(current_run().fingerprint())

            chosen = {"epochs": 1, "n_estimators": 1, "random_state": 0, **parameters}
            detector = Detector(**chosen).set_callbacks(Looks())
            detector.fit(X, y) if labels is None else detector.fit(X, class_labels=labels)
            return found[0]

        return fingerprint

    def test_any_sample_any_order_any_label_any_parameter(self, found):
        X = np.random.default_rng(0).normal(size=(12, 3))
        y = np.arange(12) % 2
        changed = X.copy()
        changed[7, 1] += 1e-9
        others = [
            found(X),
            found(changed),
            found(X[::-1]),
            found(X[:11]),
            found(X.astype(np.float32)),
            found(X, y),
            found(X, 1 - y),
            found(X, np.array(["a", "b"])[y]),
            found(X, scaling="none"),
            found(X, random_state=1),
            found(X, Detector=AdversarialVAEDetector),
            found(X, Detector=AdversarialVAEDetector, labels=y),
            found(X, Detector=AdversarialVAEDetector, labels=1 - y),
        ]
        assert len(set(others)) == len(others)
        assert found(X.tolist()) == others[0]
        assert found(np.asfortranarray(X), y.tolist()) == others[5]
        assert found(X, contamination=0.2, score="paper", verbose=1) == others[0]

    def test_of_a_dataset(self, found):
        X = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)
        plain, other = (TensorDataset(torch.from_numpy(x)) for x in (X, X[::-1].copy()))
        before = torch.get_rng_state()
        assert found(plain) == found(plain) != found(other)
        assert found(Noisy(X)) == found(Noisy(X)) != found(Noisy(X[::-1]))
        # Other noise each time is taken for what it is.
        assert found(Noisy(X, by_numpy=True)) == found(Noisy(X, by_numpy=True))
        torch.set_rng_state(before)


class TestSchedule:
    def rates(self, toy, optimizer):
        found = []

        def step(x):
            found.append([group["lr"] for group in optimizer.param_groups])
            return {"loss": torch.ones(1, 2)}

        toy.train(step)
        return found

    def test_the_rates_follow_it(self):
        toy = Run(4, schedule="steps")
        assert self.rates(toy, toy.run.optimizers["o"]) == [[1.0]] * 4
        toy = Run(10, schedule="steps")
        found = self.rates(toy, toy.run.optimizers["o"])
        np.testing.assert_allclose(np.ravel(found), [1] * 8 + [0.2, 0.04])

    def test_groups_keep_their_proportion(self):
        toy = Run(2, schedule="cosine")
        groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": lr} for lr in (1.0, 0.1)]
        optimizer = torch.optim.SGD(groups)
        toy.run.start_with({"o": optimizer})
        np.testing.assert_allclose(self.rates(toy, optimizer), [[1.0, 0.1], [0.5, 0.05]])

    def test_a_fit_that_goes_on_begins_it_anew(self):
        toy = Run(6, schedule="cosine")
        toy.run.n_epochs_before = 4
        toy.run.history[:] = [{"epoch": i + 1} for i in range(4)]
        np.testing.assert_allclose(self.rates(toy, toy.run.optimizers["o"]), [[1.0], [0.5]])


class TestNotFinite:
    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_the_last_snapshot_is_restored(self, value):
        toy, n_steps = Run(400), []

        def step(x):
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

        def step(x):
            n_steps.append(None)
            return {"loss": torch.full((1, 2), np.nan if len(n_steps) == 251 else 1.0)}

        with pytest.warns(ConvergenceWarning):
            toy.train(step)
        assert len(toy.run.history) == 228

    def test_a_short_training_does_not_lose_everything(self):
        """The last good weights are those of the last good epoch, not the random first ones."""
        toy, n_steps = Run(40), []

        def step(x):
            n_steps.append(None)
            toy.move()
            return {"loss": torch.full((1, 2), np.nan if len(n_steps) == 31 else 1.0)}

        with pytest.warns(ConvergenceWarning):
            toy.train(step)
        assert toy.weight.item() > 0

    def test_a_snapshot_is_never_of_broken_weights(self):
        """The update after a finite loss may break the weights: the next loss shows it."""
        toy, n_steps = Run(200), []

        def step(x):
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

        def step(x):
            if toy.run.progress > 0:
                with torch.no_grad():
                    toy.weight.fill_(np.inf)
            return {"loss": torch.ones(1, 2)}

        with pytest.warns(ConvergenceWarning):
            toy.train(step)
        assert np.isfinite(toy.weight.item())

    def test_a_detector_with_a_loss_of_nan(self, Detector, make, rows, monkeypatch):
        step = Detector.model_class.training_step
        calls = []

        def breaking(self, x, run):
            calls.append(None)
            losses = step(self, x, run)
            if len(calls) == 4:
                with torch.no_grad():
                    for weight in self.networks.parameters():
                        weight.fill_(np.nan)
                return {name: loss * np.nan for name, loss in losses.items()}
            return losses

        monkeypatch.setattr(Detector.model_class, "training_step", breaking)
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

    @needs_callbacks
    def test_the_moving_average_is_not_broken(self, rows, monkeypatch):
        step = GANomalyDetector.model_class.training_step

        def breaking(self, x, run):
            return step(self, x * np.nan if run.progress >= 0.5 else x, run)

        monkeypatch.setattr(GANomalyDetector.model_class, "training_step", breaking)
        detector = GANomalyDetector(epochs=4, n_estimators=1, random_state=0)
        with pytest.warns(ConvergenceWarning):
            detector.set_callbacks(ExponentialMovingAverage(0.9)).fit(rows[:60])
        assert np.isfinite(detector.anomaly_score(rows)).all()


_FITS = """
import sys
import numpy as np
import gandetect
from gandetect import detectors
rng = np.random.default_rng(0)
small = {"epochs": 2, "n_estimators": 1, "random_state": 0}
for name in detectors.__all__:
    for X in (rng.normal(size=(20, 3)), rng.normal(size=(8, 8, 8))):
        architecture = gandetect.ConvNet(n_filters=2) if X.ndim == 3 else None
        getattr(gandetect, name)(architecture=architecture, **small).fit(X)
        print(name, X.ndim, "torch._dynamo" in sys.modules)
"""


def test_a_fit_does_not_import_torchs_compiler():
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _FITS], capture_output=True, text=True
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 10, done.stderr
    assert [line for line in lines if not line.endswith("False")] == []
