"""Two processes on this machine, started as torchrun starts them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from gandetect import distributed
from gandetect.networks.members import ChannelBatchNorm
from tests.helpers import HAS_CALLBACKS, needs_callbacks

FIT = """
import os, sys
import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits
from gandetect import ALOCCDetector, GANomalyDetector

X, y = load_breast_cancer(return_X_y=True)
rows, images = X[y == 1][:256], load_digits().images[:128]
of_rows = GANomalyDetector(epochs=4, n_estimators=2, random_state=0).fit(rows)
of_images = GANomalyDetector(
    epochs=2, n_estimators=2, random_state=0, validation_fraction=0.5
).fit(images)
with_noise = ALOCCDetector(epochs=2, n_estimators=2, random_state=None).fit(rows)
np.savez(
    sys.argv[1] + os.environ.get("RANK", "alone"),
    rows=of_rows.anomaly_score(rows),
    images=of_images.anomaly_score(images),
    noise=with_noise.anomaly_score(rows),
    loss=[record["reconstruction"] for record in of_rows.history_],
    validation=[record["validation_reconstruction"] for record in of_images.history_],
    thresholds=[detector.threshold_ for detector in (of_rows, of_images, with_noise)],
    references=of_images.neighbours_["neighbours"].points.flatten()[::97],
)
"""

DIES = """
import os, sys
import numpy as np
from gandetect import Checkpoint, GANomalyDetector
from gandetect.training import current_run

class Dies:
    def setup(self, estimator, context): pass
    def teardown(self, estimator, context): pass
    def on_fit_task_begin(self, estimator, context):
        run = current_run()
        if len(run.history) == 2 and len(sys.argv) > 2 and os.environ.get("RANK") == sys.argv[2]:
            os._exit(9)
    def on_fit_task_end(self, estimator, context): pass

X = np.random.default_rng(0).normal(size=(64, 4))
detector = GANomalyDetector(epochs=5, n_estimators=1, random_state=0)
detector.set_callbacks(Checkpoint(sys.argv[1]), Dies()).fit(X)
print(detector.n_iter_)
"""

DIFFERENT = """
import os
import numpy as np
import torch
from torch.utils.data import TensorDataset
from gandetect import AdversarialVAEDetector, GANomalyDetector

is_second = os.environ["RANK"] == "1"
X = np.random.default_rng(0).normal(size=(60, 4))
other = X.copy()
other[31, 2] += 1e-9
pixels = np.random.default_rng(0).integers(0, 256, (20, 4, 4), dtype=np.uint8)
y = (X[:, is_second] > 0).astype(int)
order = np.arange(60)
order[20:40] = order[20:40][::-1] if is_second else order[20:40]
dataset = TensorDataset(torch.from_numpy(X[order]))
for own_X, given, parameters in [
    (X[: 50 if is_second else None], {}, {}),
    (X[:, : 3 if is_second else None], {}, {}),
    (other if is_second else X, {}, {}),
    (X[order], {}, {}),
    (pixels[::-1] if is_second else pixels, {}, {}),
    (dataset, {}, {}),
    (X, {"y": y}, {}),
    (X, {"class_labels": y}, {}),
    (X, {}, {"epochs": 2 if is_second else 1}),
    (X, {}, {"learning_rate": 0.1 if is_second else 0.01}),
]:
    Detector = AdversarialVAEDetector if "class_labels" in given else GANomalyDetector
    try:
        Detector(**{"epochs": 1, "n_estimators": 1, **parameters}).fit(own_X, **given)
    except ValueError as error:
        what, _, values = str(error).partition("but their ")[2].partition(" are ")
        print(what, values if len(values) < 20 else "")
# These may differ.
own = np.random.RandomState(is_second)
detector = GANomalyDetector(epochs=1, n_estimators=1, random_state=own, verbose=int(is_second))
print(detector.fit(X).n_iter_)
"""

UNEQUAL = """
import os, sys, warnings
import numpy as np
from gandetect import Checkpoint, ExponentialMovingAverage, GANomalyDetector, RunFolder
from gandetect.training import current_run

folder, rank = f"{sys.argv[1]}unequal", os.environ["RANK"]
X = np.random.default_rng(0).normal(size=(64, 4))

class Interrupts:
    def setup(self, estimator, context): pass
    def teardown(self, estimator, context): pass
    def on_fit_task_begin(self, estimator, context):
        if len(current_run().history) == 2:
            raise KeyboardInterrupt
    def on_fit_task_end(self, estimator, context): pass

def fitted(*callbacks):
    detector = GANomalyDetector(epochs=4, n_estimators=1, random_state=0)
    try:
        return detector.set_callbacks(ExponentialMovingAverage(0.9), *callbacks).fit(X)
    except KeyboardInterrupt:
        return detector

def checkpoint():
    os.makedirs(f"{folder}/{rank}", exist_ok=True)  # as on machines that share no disk
    return Checkpoint(f"{folder}/{rank}/run")

warnings.simplefilter("ignore")
assert fitted(checkpoint(), Interrupts()).n_iter_ == 2
resumed = fitted(checkpoint(), RunFolder(f"{folder}/run-of-{rank}"))
whole = fitted()
going_on = GANomalyDetector(epochs=1, n_estimators=1, random_state=0, warm_start=True).fit(X)
for weight in going_on.networks_.parameters():
    weight.data *= 1 + int(rank)
going_on.fit(X)
np.savez(
    f"{folder}/{rank}.npz",
    resumed=resumed.anomaly_score(X),
    whole=whole.anomaly_score(X),
    going_on=going_on.anomaly_score(X),
)
"""

NEVER_JOINS = """
import os
if os.environ["RANK"] == "1":
    raise SystemExit(9)
import numpy as np
from gandetect import GANomalyDetector
GANomalyDetector(epochs=1).fit(np.eye(8, 4))
"""


def start(script: str, *arguments: str, n_processes: int = 2) -> list[subprocess.Popen]:
    """Start a script in processes that find each other as those of torchrun do."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # Gloo would look up this machine's name, which need not lead back to it.
    loopback = {"GLOO_SOCKET_IFNAME": "lo0" if sys.platform == "darwin" else "lo"}
    master = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    common = {**master, **loopback, "OMP_NUM_THREADS": "1"}
    processes = []
    for rank in range(n_processes):
        group = {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(n_processes),
            "TORCHELASTIC_RUN_ID": "test",
        }
        processes.append(
            subprocess.Popen(
                [sys.executable, "-c", script, *arguments],
                env={**os.environ, **common, **(group if n_processes > 1 else {})},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    return processes


def finish(processes: list[subprocess.Popen]) -> list[tuple[int, str, str]]:
    """Exit code, output and errors of each process."""
    results = []
    for process in processes:
        out, err = process.communicate(timeout=300)
        # Older versions of torch print of their connections on standard output.
        lines = [line for line in out.splitlines() if not line.startswith("[Gloo]")]
        results.append((process.returncode, "\n".join(lines), err))
    return results


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("distributed")


@pytest.fixture(scope="module")
def outputs(folder: Path) -> list[str]:
    """What two processes print that run all of it, one script after the other."""
    script = FIT + DIFFERENT + (UNEQUAL if HAS_CALLBACKS else "")
    results = finish(start(script, f"{folder}/"))
    for code, _, err in results:
        assert code == 0, err
    return [out for _, out, _ in results]


@pytest.fixture(scope="module")
def fitted(folder: Path, outputs: list[str]) -> dict[str, dict[str, np.ndarray]]:
    ((code, _, err),) = finish(start(FIT, f"{folder}/", n_processes=1))
    assert code == 0, err
    return {file.stem: dict(np.load(file)) for file in folder.glob("*.npz")}


class TestTwoProcesses:
    @pytest.mark.parametrize("what", ["rows", "images", "loss", "validation"])
    def test_they_learn_what_one_does(self, fitted, what):
        # Batches of one size are shared out evenly here, so only rounding differs.
        np.testing.assert_allclose(fitted["0"][what], fitted["alone"][what], atol=1e-4)

    @pytest.mark.parametrize(
        "what", ["rows", "images", "noise", "loss", "validation", "thresholds", "references"]
    )
    def test_they_end_with_the_same_weights(self, fitted, what):
        # "noise" draws random numbers in training, and its seed is not fixed.
        np.testing.assert_array_equal(fitted["0"][what], fitted["1"][what])

    @needs_callbacks
    def test_one_that_dies_ends_the_other_and_the_checkpoint_resumes(self, tmp_path):
        checkpoint = str(tmp_path / "run.safetensors")
        (code, _, err), (code_of_victim, _, _) = finish(start(DIES, checkpoint, "1"))
        assert code_of_victim == 9
        assert code == 1
        assert "ProcessLostError" in err
        for code, out, err in finish(start(DIES, checkpoint)):
            assert code == 0, err
            assert out.strip() == "5"

    def test_another_x_y_or_other_parameters_in_each_are_refused(self, outputs):
        for out in outputs:
            assert out.splitlines() == [
                "numbers of samples [60, 50].",
                "shapes of a sample [(4,), (3,)].",
                *["checksums of samples and labels, in their order, "] * 6,
                "values of epochs [1, 2].",
                "values of learning_rate [0.01, 0.1].",
                "1",
            ]

    @needs_callbacks
    def test_all_begin_as_the_first_which_alone_writes(self, folder, outputs):
        folder = folder / "unequal"
        first, second = np.load(folder / "0.npz"), np.load(folder / "1.npz")
        for what in ("resumed", "whole", "going_on"):
            np.testing.assert_array_equal(first[what], second[what], err_msg=what)
        # The second draws no noise here, so that nothing else is lost by resuming.
        np.testing.assert_array_equal(first["resumed"], first["whole"])
        folders = sorted(path.name for path in folder.iterdir() if path.is_dir())
        assert folders == ["0", "1", "run-of-0"]
        assert not list((folder / "1").iterdir())

    def test_one_that_never_joins_is_told_of(self, monkeypatch):
        monkeypatch.setenv("GANDETECT_PATIENCE", "2")
        (code, _, err), (code_of_other, _, _) = finish(start(NEVER_JOINS))
        assert (code, code_of_other) == (1, 9)
        assert "ProcessLostError: Process 0 of 2 could not join the others" in err
        assert "within 2 seconds (GANDETECT_PATIENCE" in err


class TestAlone:
    def test_nothing_is_exchanged(self):
        values = torch.arange(3.0)
        assert distributed.n_processes() == 1
        assert distributed.is_first()
        assert distributed.averaged(values) is values
        assert distributed.from_first(values) is values
        assert distributed.share(values) is values
        assert distributed.tree_from_first(values) is values
        distributed.check_same(lambda: pytest.fail("nothing is to be looked at"))

    @pytest.mark.parametrize("rank", ["0", "1", "", "node3"])
    def test_a_rank_that_torchrun_did_not_set_counts_for_nothing(self, monkeypatch, rank):
        monkeypatch.setenv("RANK", rank)
        assert distributed.is_first()
        assert distributed.rank() == 0
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", "test")
        assert distributed.is_first() == (rank == "0")

    def test_no_group_is_made_without_torchrun(self):
        distributed.join_process_group(torch.device("cpu"))
        assert not torch.distributed.is_initialized()

    @pytest.mark.parametrize("patience", ["soon", "0", "-1", "nan", "inf"])
    def test_a_patience_that_is_none(self, monkeypatch, patience):
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", "test")
        monkeypatch.setenv("GANDETECT_PATIENCE", patience)
        with pytest.raises(ValueError, match="GANDETECT_PATIENCE must be"):
            distributed.join_process_group(torch.device("cpu"))


def test_batch_norm_is_torchs_where_there_is_one_process():
    torch.manual_seed(0)
    x = torch.randn(6, 3, 4, 4, requires_grad=True)
    theirs, ours = nn.BatchNorm2d(3), ChannelBatchNorm(3)
    expected, got = theirs(x), distributed.batch_norm(x, ours)
    torch.testing.assert_close(got, expected)
    torch.testing.assert_close(ours.running_mean, theirs.running_mean)
    torch.testing.assert_close(ours.running_var, theirs.running_var)
    assert ours.num_batches_tracked == theirs.num_batches_tracked
    weights = torch.randn_like(x)
    for layer, y in ((theirs, expected), (ours, got)):
        layer.gradients = torch.autograd.grad(
            (y * weights).sum(), [x, layer.weight, layer.bias], retain_graph=True
        )
    torch.testing.assert_close(ours.gradients, theirs.gradients, atol=1e-5, rtol=1e-4)
    with pytest.raises(NotImplementedError, match="normalization='group'"):
        torch.autograd.grad((got * weights).sum(), x, create_graph=True)


def test_the_variance_keeps_its_digits_beside_a_large_mean():
    x = torch.randn(64, 3, 4, 4, generator=torch.Generator().manual_seed(0)) + 1e4
    layer = ChannelBatchNorm(3)
    normalized = distributed.batch_norm(x, layer)
    torch.testing.assert_close(normalized, nn.BatchNorm2d(3)(x), atol=5e-3, rtol=0)
    torch.testing.assert_close(layer.running_var, 0.9 + 0.1 * x.var(dim=(0, 2, 3)))


def test_a_variance_that_rounds_below_zero_is_none(monkeypatch):
    """The mean square of several processes may round to less than the square of the mean."""

    def rounded(values):
        return torch.stack([values[0], values[1] * (1 - 1e-3)])

    monkeypatch.setattr(distributed, "averaged", rounded)
    x = torch.ones(6, 3, 4, 4)
    layer = ChannelBatchNorm(3)
    normalized = distributed.batch_norm(x, layer)
    torch.testing.assert_close(normalized, torch.zeros_like(x))
    assert (layer.running_var >= 0).all()


def test_statistics_of_layers_come_from_the_first_process_too(monkeypatch):
    layer = nn.BatchNorm1d(2)
    monkeypatch.setattr(distributed, "n_processes", lambda: 2)
    monkeypatch.setattr(distributed, "from_first", lambda values: torch.full_like(values, 7))
    distributed.copy_from_first(layer)
    assert all((value == 7).all() for value in layer.state_dict().values())


@pytest.mark.parametrize("n_processes", [2, 3, 8])
def test_one_process_that_says_yes_is_enough(monkeypatch, n_processes):
    monkeypatch.setattr(distributed, "n_processes", lambda: n_processes)
    monkeypatch.setattr(distributed.dist, "all_reduce", lambda own: own.add_(1))
    assert distributed.any_says(False)  # as another has said yes
    monkeypatch.setattr(distributed.dist, "all_reduce", lambda own: None)
    assert not distributed.any_says(False)


@pytest.mark.parametrize("other", [0, 1, 2])
def test_whichever_process_begins_with_something_else_is_told(monkeypatch, other):
    seeds = [5 + (rank == other) for rank in range(3)]
    monkeypatch.setattr(distributed, "n_processes", lambda: 3)
    monkeypatch.setattr(distributed, "_from_all", lambda own: [{"seeds": seed} for seed in seeds])
    with pytest.raises(ValueError, match=rf"their seeds are \[{', '.join(map(str, seeds))}\]"):
        distributed.check_same(lambda: {"seeds": seeds[0]})


def test_every_process_gets_as_many_samples(monkeypatch):
    monkeypatch.setattr(distributed, "n_processes", lambda: 2)
    batch = np.arange(7)
    shares = []
    for rank in (0, 1):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        shares.append(distributed.share(batch).tolist())
    assert shares == [[0, 2, 4], [1, 3, 5]]


class TestDividedWork:
    def computed(self, monkeypatch, n_processes, n_rows, block):
        """The samples that each process computes something of."""
        asked = []
        monkeypatch.setattr(distributed, "n_processes", lambda: n_processes)
        monkeypatch.setattr(distributed.dist, "all_gather_object", lambda parts, own: None)
        for rank in range(n_processes):
            monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
            distributed.divided(
                lambda rows: asked.append(rows.tolist()) or rows, np.arange(n_rows), block
            )
        return asked

    @pytest.mark.parametrize("n_processes", [2, 3, 5])
    @pytest.mark.parametrize("n_rows", [20, 23, 41])
    def test_whole_blocks_in_order_each_in_one_process(self, monkeypatch, n_processes, n_rows):
        with distributed.all_are_here():
            asked = self.computed(monkeypatch, n_processes, n_rows, block=4)
        assert [row for rows in asked for row in rows] == list(range(n_rows))
        assert all(len(rows) % 4 == 0 for rows in asked[:-1])
        assert max(map(len, asked)) - min(map(len, asked)) <= 2 * 4 - 1

    def test_not_where_some_may_not_come(self, monkeypatch):
        everything = list(range(23))
        assert self.computed(monkeypatch, 2, 23, block=4) == [everything] * 2
        with distributed.all_are_here(), distributed.all_are_here(False):
            assert self.computed(monkeypatch, 2, 23, block=4) == [everything] * 2

    def test_not_where_a_process_would_have_nothing(self, monkeypatch):
        with distributed.all_are_here():
            assert self.computed(monkeypatch, 3, 8, block=4) == [list(range(8))] * 3

    def test_an_error_ends_it(self):
        with pytest.raises(ValueError, match="of the caller's"), distributed.all_are_here():
            raise ValueError("of the caller's")
        assert not distributed._ALL_ARE_HERE.get()


def test_gradients_are_averaged_in_any_layout(monkeypatch):
    parameters = [nn.Parameter(torch.zeros(2, 3, 4, 4)), nn.Parameter(torch.zeros(5))]
    unused = nn.Parameter(torch.zeros(2))
    gradients = [torch.randn(2, 3, 4, 4), torch.randn(5)]
    parameters[0].grad = gradients[0].clone(memory_format=torch.channels_last)
    parameters[1].grad = gradients[1].clone()
    monkeypatch.setattr(distributed, "n_processes", lambda: 2)
    monkeypatch.setattr(distributed, "averaged", lambda values: values / 2)
    distributed.average_gradients([*parameters, unused])
    for parameter, gradient in zip(parameters, gradients, strict=True):
        torch.testing.assert_close(parameter.grad, gradient / 2)
    assert unused.grad is None


class TestDrawSeed:
    @pytest.mark.parametrize("seed", [0, 7, 2**32 - 1, np.int64(7), np.uint8(7)])
    def test_an_integer_is_itself(self, seed):
        assert distributed.draw_seed(seed) == seed
        assert type(distributed.draw_seed(seed)) is int

    @pytest.mark.parametrize("generator", [np.random.RandomState, np.random.default_rng])
    def test_generators_are_advanced(self, generator):
        a, b = generator(0), generator(0)
        seeds = [distributed.draw_seed(a) for _ in range(3)]
        assert seeds == [distributed.draw_seed(b) for _ in range(3)]
        assert len(set(seeds)) == 3

    def test_none_is_new_each_time(self):
        state = np.random.get_state()[1].copy()
        assert distributed.draw_seed(None) != distributed.draw_seed(None)
        np.testing.assert_array_equal(np.random.get_state()[1], state)

    @pytest.mark.parametrize("seed", [-1, 2**32, 1.0, "0", True, [1]])
    def test_what_is_no_seed(self, seed):
        with pytest.raises(ValueError, match="random_state must be"):
            distributed.draw_seed(seed)


class TestRandomNumbers:
    def numbers(self, seed=3):
        return distributed.RandomNumbers(seed, torch.device("cpu"))

    def test_the_seed_decides_and_nobody_else_is_disturbed(self):
        before = torch.get_rng_state()
        drawn = []
        for random in (self.numbers(), self.numbers(), self.numbers(4)):
            torch.rand(1)
            with random.lent():
                borrowed = torch.rand(4)
            own = random.uniform(4)
            drawn.append([borrowed, own, random.normal_like(torch.zeros(4).double())])
        assert torch.equal(torch.cat(drawn[0]), torch.cat(drawn[1]))
        assert not torch.equal(torch.cat(drawn[0]), torch.cat(drawn[2]))
        assert len(set(torch.cat(drawn[0]).tolist())) == 12
        torch.set_rng_state(before)
        with self.numbers().lent():
            torch.rand(4)
        assert torch.equal(torch.get_rng_state(), before)

    def test_types_and_shapes(self):
        random = self.numbers()
        x = random.uniform(1000, 2)
        assert (x.shape, x.dtype) == ((1000, 2), torch.float32)
        assert 0 <= x.min() < 0.01 and 0.99 < x.max() < 1
        z = random.normal_like(torch.zeros(5000, dtype=torch.float64))
        assert z.dtype == torch.float64
        assert abs(z.mean()) < 0.1 and abs(z.std() - 1) < 0.1

    def test_what_was_lent_is_given_back_when_it_raises(self):
        random, before = self.numbers(), torch.get_rng_state()
        with pytest.raises(RuntimeError), random.lent():
            torch.rand(4)
            raise RuntimeError
        assert torch.equal(torch.get_rng_state(), before)
        assert not torch.equal(random.uniform(4), self.numbers().uniform(4))

    def test_no_other_thread_is_lent_the_generator_at_the_same_time(self):
        numbers = distributed.RandomNumbers(0, torch.device("cpu"))
        with numbers.lent(), ThreadPoolExecutor(1) as another:
            is_free = another.submit(distributed._GLOBAL_GENERATOR.acquire, blocking=False)
            assert not is_free.result()

    def test_they_go_on_from_a_state(self):
        random, other = self.numbers(), self.numbers(9)
        random.uniform(5)
        state = random.state()
        expected = [random.uniform(3), random.normal_like(torch.zeros(3))]
        other.set_state(state)
        assert torch.equal(other.uniform(3), expected[0])
        assert torch.equal(other.normal_like(torch.zeros(3)), expected[1])

    def test_every_process_draws_others_and_the_first_as_alone(self, monkeypatch):
        drawn = []
        for rank in (0, 1, 2):
            monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
            random = self.numbers()
            for epoch in (0, 1):
                random.begin_epoch(epoch)
                drawn.append(tuple(random.uniform(3).tolist()))
        assert len(set(drawn)) == 6
        alone = self.numbers()
        assert drawn[:2] == [tuple(alone.uniform(3).tolist()) for _ in range(2)]
