"""The random numbers of a fit, and one fit in several processes.

`torchrun` starts the same script in every process, one for each GPU or core, on one or several
machines. Each process trains on its share of every batch. Gradients and batch statistics are
averaged over the processes (all-reduce), so that the weights are the same in all processes. Without
`torchrun`, the functions for several processes do nothing.
"""

from __future__ import annotations

import atexit
import io
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

# The environment variable with the seconds that a process waits for the others. The end of a
# process closes its connections, which the others detect at once. The time applies to lost
# machines, and must exceed the longest computation of one process while the others wait.
PATIENCE_VARIABLE = "GANDETECT_PATIENCE"
_PATIENCE_SECONDS = 600.0

T = TypeVar("T")
RandomState = int | np.random.RandomState | np.random.Generator | None

# Whether all processes are at this point, so that they can share a computation.
_ALL_ARE_HERE = ContextVar("all_are_here", default=False)


class ProcessLostError(RuntimeError):
    """Another process of the fit has ended or does not respond."""


def join_process_group(device: torch.device) -> None:
    """Join the group of the processes that `torchrun` has started, until this process ends.

    A group that the caller has already initialised is used unchanged. The backend is NCCL for GPUs,
    otherwise Gloo.

    Parameters
    ----------
    device : torch.device
        For a CUDA device without an index, the index is the local rank of this process.

    Raises
    ------
    ProcessLostError
        If not all processes connect within ``GANDETECT_PATIENCE`` seconds.
    """
    if not dist.is_available() or dist.is_initialized() or not dist.is_torchelastic_launched():
        return
    if device.type == "cuda" and device.index is None:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    patience = _patience()
    try:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=patience)
    except RuntimeError as error:
        raise ProcessLostError(
            f"Process {os.environ.get('RANK')} of {os.environ.get('WORLD_SIZE')} could not join "
            "the others: one of them has ended before its fit, has not started it within "
            f"{patience.total_seconds():g} seconds ({PATIENCE_VARIABLE} in the environment), or "
            "cannot be reached. See the error message of that process."
        ) from error
    atexit.register(dist.destroy_process_group)


def n_processes() -> int:
    """Return the number of processes in the fit."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return the rank of this process: 0 for the first process, and for a single one."""
    return dist.get_rank() if n_processes() > 1 else 0


def is_first() -> bool:
    """Return whether this process writes files and shows progress.

    Before the group is joined, the environment variable ``RANK`` is used, but only if `torchrun`
    has set it, because job schedulers use the same name for other purposes.
    """
    if n_processes() > 1:
        return rank() == 0
    launched = dist.is_available() and dist.is_torchelastic_launched()
    return not launched or os.environ.get("RANK", "0") == "0"


def share(batch: Any) -> Any:
    """Return the share of this process: every n-th sample, with equal numbers for all processes."""
    n = n_processes()
    if n == 1:
        return batch
    return batch[: len(batch) // n * n][rank() :: n]


def averaged(values: Tensor) -> Tensor:
    """Return the mean of the values over all processes."""
    if n_processes() == 1:
        return values
    total = values.detach().clone()
    _together(lambda: dist.all_reduce(total))
    return total / n_processes()


def from_first(values: Tensor) -> Tensor:
    """Return the values of the first process."""
    if n_processes() > 1:
        values = values.contiguous()
        _together(lambda: dist.broadcast(values, src=0))
    return values


def copy_from_first(module: nn.Module) -> None:
    """Copy the weights and statistics of a module from the first process."""
    if n_processes() > 1:
        for value in module.state_dict().values():
            value.copy_(from_first(value))


@contextmanager
def all_are_here(yes: bool = True) -> Iterator[None]:
    """Share the computations of `divided` between the processes in this block.

    Use it only for code that all processes execute. Code that one process executes alone, such as
    a callback of the first process, or code after an interruption, must be outside of the block;
    otherwise it waits for the other processes.
    """
    token = _ALL_ARE_HERE.set(yes)
    try:
        yield
    finally:
        _ALL_ARE_HERE.reset(token)


def divided(
    compute: Callable[[np.ndarray], np.ndarray], rows: np.ndarray, block: int
) -> np.ndarray:
    """Return `compute` of some samples; each process computes a share of the blocks."""
    n_blocks = -(-len(rows) // block)
    if not _ALL_ARE_HERE.get() or not 1 < n_processes() <= n_blocks:
        return compute(rows)
    first, last = (n_blocks * (rank() + i) // n_processes() * block for i in (0, 1))
    return np.concatenate(_from_all(compute(rows[first:last])))


def average_gradients(parameters: list[nn.Parameter]) -> None:
    """Average the gradients over the processes with one all-reduce."""
    if n_processes() == 1:
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    mean = averaged(torch.cat([gradient.flatten() for gradient in gradients]))
    for gradient, part in zip(gradients, mean.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view(gradient.shape))


def same_seed(seed: int) -> int:
    """Return the seed of the first process, with which all processes initialise their networks."""
    first: int = tree_from_first(seed)
    return first


def tree_from_first(tree: Any) -> Any:
    """Return a tree of data of the first process (broadcast), with tensors on the CPU."""
    if n_processes() == 1:
        return tree
    buffer = io.BytesIO()
    if rank() == 0:
        torch.save(tree, buffer)
    sent = [buffer.getvalue()]
    _together(lambda: dist.broadcast_object_list(sent, src=0))
    if rank() == 0:
        return tree
    # Pickled, like all objects that torch.distributed sends. This is safe, because the processes of
    # one fit run the same script.
    return torch.load(io.BytesIO(sent[0]), map_location="cpu", weights_only=False)


def any_says(yes: bool) -> bool:
    """Return whether `yes` is True in any process."""
    return bool(averaged(torch.tensor(float(yes))) > 0)


def check_same(facts: Callable[[], dict[str, Any]]) -> None:
    """Raise ValueError if the properties of a fit differ between the processes.

    Parameters
    ----------
    facts : callable
        Returns numbers and strings by the names of the properties, in the plural. It is not called
        if there is a single process.
    """
    if n_processes() == 1:
        return
    all_facts = _from_all(facts())
    for what in all_facts[0]:  # the first difference can be the reason for others
        values = [there.get(what) for there in all_facts]
        if any(value != values[0] for value in values):
            raise ValueError(
                "The processes of one fit must be given the same X, y and parameters, but their "
                f"{what} are [{', '.join(map(str, values))}]."
            )


class _BatchNorm(torch.autograd.Function):
    """Batch normalisation by the statistics of all processes, with one all-reduce in each pass.

    The arithmetic is that of torch for given statistics. Its gradient omits the dependence of the
    statistics on the samples, which is added here with sums over all processes.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, var: Tensor, eps: float
    ) -> Tensor:
        ctx.save_for_backward(x, weight, mean, var)
        ctx.eps = eps
        return torch.batch_norm(x, weight, bias, mean, var, False, 0.0, eps, False)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise NotImplementedError(
                "Batch normalisation over several processes has no second derivative, which a "
                "gradient penalty needs: use an architecture with normalization='group'."
            )
        x, weight, mean, var = ctx.saved_tensors
        # Only the gradients of weight and bias are computed here, because they are the sums over
        # samples that are needed. The gradient of x, including the part through the statistics, is
        # an affine function of the incoming gradients and of x in each channel.
        _, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
            gradients[0], x, weight, mean, var, None, None, False, ctx.eps, [False, True, True]
        )
        n_samples = x.numel() // x.shape[1]
        slope, shift = averaged(torch.stack([of_weight, of_bias])) / n_samples
        inverse_std = (var + ctx.eps).rsqrt()
        slope = -weight * slope * inverse_std.square()
        shift = -weight * shift * inverse_std - slope * mean
        of_x = torch.batch_norm(
            gradients[0], weight, shift, torch.zeros_like(mean), var, False, 0.0, ctx.eps, False
        )
        of_x.addcmul_(x, slope.view(-1, *[1] * (x.ndim - 2)))
        return of_x, of_weight, of_bias, None, None, None


def batch_norm(x: Tensor, layer: Any) -> Tensor:
    """Normalise channels (axis 1) as a BatchNorm layer does, over the batches of all processes.

    torch's SyncBatchNorm works on GPUs only. Every process must have the same number of samples.

    Raises
    ------
    NotImplementedError
        If a second derivative is computed.
    """
    with torch.no_grad():
        own_mean, own_var = torch.batch_norm_update_stats(x, None, None, 0.0)
        # In double precision, so that subtracting the square of a large mean loses no digits.
        own_mean, own_var = own_mean.double(), own_var.double()
        mean, square = averaged(torch.stack([own_mean, own_var + own_mean.square()]))
        var = (square - mean.square()).clamp_(min=0).to(layer.weight.dtype)
        mean = mean.to(layer.weight.dtype)
        n = x.numel() // x.shape[1] * n_processes()
        layer.running_mean.lerp_(mean, layer.momentum)
        layer.running_var.lerp_(var * n / max(n - 1, 1), layer.momentum)
        layer.num_batches_tracked.add_(1)
    normalized: Callable[..., Tensor] = _BatchNorm.apply
    return normalized(x, layer.weight, layer.bias, mean, var, layer.eps)


def _from_all(own: T) -> list[T]:
    """Return the values of all processes, in the order of their ranks."""
    everyones = [own] * n_processes()
    _together(lambda: dist.all_gather_object(everyones, own))
    return everyones


def _together(exchange: Callable[[], Any]) -> None:
    try:
        exchange()
    except RuntimeError as error:
        raise ProcessLostError(
            f"Process {rank()} of {n_processes()} has lost the connection to the others: one of "
            "them has ended or does not respond. See the error message of that process. With a "
            "Checkpoint, start all processes again to continue from the last checkpoint. If a "
            f"process was only slow, set {PATIENCE_VARIABLE} to more seconds."
        ) from error


def _patience() -> timedelta:
    """Return the time that a process waits for the others before it raises ProcessLostError."""
    given = os.environ.get(PATIENCE_VARIABLE)
    try:
        seconds = _PATIENCE_SECONDS if given is None else float(given)
        patience = timedelta(seconds=seconds)
    except (ValueError, OverflowError):
        patience = timedelta(0)
    if patience <= timedelta(0):
        raise ValueError(f"{PATIENCE_VARIABLE} must be a number of seconds above 0, got {given!r}.")
    return patience


# Random numbers.

_LARGEST_SEED = 2**31 - 1
# The number of random numbers that torch's CPU generator (Mersenne twister) generates at once.
_N_RANDOM = 624
# Held while torch's global generator is used for code that accepts no other generator.
_GLOBAL_GENERATOR = threading.RLock()


def draw_seed(random_state: RandomState) -> int:
    """Draw one seed for torch from a random state as in scikit-learn.

    An integer is used unchanged, so that the same integer gives the same bits. A RandomState or
    Generator is advanced by one draw. None takes entropy from the operating system, because
    detectors do not use numpy's global generator.
    """
    if random_state is None:
        return int(np.random.default_rng().integers(_LARGEST_SEED))
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(_LARGEST_SEED))
    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(_LARGEST_SEED))
    if isinstance(random_state, int | np.integer) and not isinstance(random_state, bool):
        if not 0 <= random_state < 2**32:
            raise ValueError(f"random_state must be in [0, 2**32 - 1], got {random_state}.")
        return int(random_state)
    raise ValueError(
        "random_state must be None, an integer, a numpy RandomState or a numpy Generator, "
        f"got {random_state!r}."
    )


class RandomNumbers:
    """The random numbers of one fit, independent of torch's global generators.

    Parameters
    ----------
    seed : int
        The result of `draw_seed`.
    device : torch.device
        The device on which noise for batches is drawn.

    Attributes
    ----------
    generator : torch.Generator
        On the CPU; draws initial weights, orders of samples and simulated anomalies.
    """

    def __init__(self, seed: int, device: torch.device) -> None:
        self.seed, self.device = seed, device
        self.generator = torch.Generator().manual_seed(seed)
        self._of_device = self.generator
        if device.type != "cpu":
            self._of_device = torch.Generator(device).manual_seed(seed)

    def normal_like(self, x: Tensor) -> Tensor:
        """Draw standard normal numbers with the shape, dtype and device of x."""
        return torch.randn(x.shape, dtype=x.dtype, device=x.device, generator=self._of_device)

    def uniform(self, *shape: int) -> Tensor:
        """Draw numbers uniformly from [0, 1), float32, on the device."""
        options: dict[str, Any] = {"dtype": torch.float32, "device": self.device}
        return torch.rand(shape, **options, generator=self._of_device)

    def state(self) -> dict[str, Tensor]:
        """Return the states of the generators."""
        return {"cpu": self.generator.get_state(), "device": self._of_device.get_state()}

    def set_state(self, state: dict[str, Tensor]) -> None:
        """Set the states of the generators to the result of `state`.

        Raises
        ------
        TypeError, ValueError, RuntimeError, LookupError
            If `state` is not a valid state of these generators.
        """
        # torch does not check that the remaining numbers of a block match the position in it, and
        # would read beyond the block.
        of_cpu = state["cpu"].numpy()[8:24]
        n_left, position = int(of_cpu[:4].view("i4")[0]), int(of_cpu[8:].view("i8")[0])
        if (n_left, position) != (1, 0) and n_left + position != _N_RANDOM + 1:
            raise ValueError("the state of its random numbers is invalid")
        self.generator.set_state(state["cpu"])
        self._of_device.set_state(state["device"])

    def begin_epoch(self, epoch: int) -> None:
        """Reseed all processes except the first, so that each draws different noise."""
        if rank() > 0:
            seed = (self.seed + 1_000_003 * rank() + epoch) % 2**63
            for generator in (self.generator, self._of_device):
                generator.manual_seed(seed)

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Set torch's global generator to the state of the fit's generator, for user code.

        The state of the global generator is restored afterwards. A lock allows one thread at a
        time, so that the results of a thread do not depend on the others.
        """
        with _GLOBAL_GENERATOR:
            before = torch.get_rng_state()
            torch.set_rng_state(self.generator.get_state())
            try:
                yield
            finally:
                self.generator.set_state(torch.get_rng_state())
                torch.set_rng_state(before)
