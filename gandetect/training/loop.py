"""The only training loop, and the only place where an optimizer steps."""

from __future__ import annotations

import copy
import math
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor, nn
from torch.optim import Optimizer

from gandetect.training import distributed

# How often, in updates, the weights are kept in case the next losses are not finite: often enough
# to lose little, seldom enough to cost nothing beside the updates.
_UPDATES_BETWEEN_SNAPSHOTS = 100


def update(optimizer: Optimizer, loss: Tensor, retain_graph: bool = False) -> None:
    """Move the weights of one optimizer, and no others, down a loss.

    Parameters
    ----------
    optimizer : Optimizer
        Its own parameters are the only ones that get a gradient.
    loss : Tensor of shape (K, B) or (K,)
        One value a member and sample. It is averaged over the samples and summed over the
        members, so that each member learns as it would alone.
    retain_graph : bool, default=False
        True where a second loss is taken from the same forward pass.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    optimizer.zero_grad(set_to_none=True)
    total = loss.mean(-1).sum() if loss.ndim > 1 else loss.sum()
    total.backward(inputs=parameters, retain_graph=retain_graph)
    distributed.average_gradients(parameters)
    optimizer.step()


@dataclass
class TrainingRun:
    """All that changes while a detector learns, so that it can be stored and taken up again.

    Attributes
    ----------
    networks : ModuleDict
    optimizers : dict of str to Optimizer
    n_epochs : int
        The epochs to train in all.
    n_samples : int
        Of X, by which a stored run knows its own.
    history : list of dict
        One record an epoch: its number and the mean of every loss.
    n_epochs_before : int
        The epochs of earlier fits that `warm_start` goes on from.
    learned : callable
        Gives the attributes that a detector has learned if training ends here.
    n_updates : int
    seconds : float
        Spent so far, what came before it was taken up again included.
    is_done : bool
        Whether training has ended by itself or was stopped by a callback or the method.
    has_diverged : bool
        Whether a loss or a weight was not finite, and earlier weights were restored.
    stop_reason : str
        Why training ended.
    extra : dict
        What callbacks keep: a tree of data, stored and resumed with the rest.
    prepared : object
        What the method made before the first step, and needs in each; it is not stored.
    """

    networks: nn.ModuleDict
    optimizers: dict[str, Optimizer]
    n_epochs: int
    n_samples: int
    history: list[dict[str, float]] = field(default_factory=list)
    n_epochs_before: int = 0
    learned: Callable[[], dict[str, Any]] = dict
    n_updates: int = 0
    seconds: float = 0.0
    is_done: bool = False
    has_diverged: bool = False
    stop_reason: str = "all epochs done"
    extra: dict[str, Any] = field(default_factory=dict)
    prepared: Any = None

    def learned_together(self) -> dict[str, Any]:
        """What `learned` gives; several processes divide the work, unless one was interrupted."""
        with distributed.all_are_here(self.is_done):
            return self.learned()

    def state(self) -> dict[str, Any]:
        """Everything that the next epoch depends on, random numbers included."""
        return {
            "networks": self.networks.state_dict(),
            "optimizers": {name: o.state_dict() for name, o in self.optimizers.items()},
            "history": self.history,
            "n_updates": self.n_updates,
            "seconds": self.seconds,
            "extra": self.extra,
            "n_samples": self.n_samples,
            "is_done": self.is_done,
            "has_diverged": self.has_diverged,
            "stop_reason": self.stop_reason,
            "random": torch.get_rng_state(),
        }

    def resume(self, state: dict[str, Any]) -> None:
        """Continue from what `state` gave, to the same bits; whatever else it holds raises."""
        if not all(
            isinstance(value, float | int) for r in state["history"] for value in r.values()
        ):
            raise TypeError("its history is not one of numbers")
        self.networks.load_state_dict(state["networks"])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
            _lay_out_as_parameters(optimizer)
        self.history[:] = state["history"]
        self.n_updates, self.seconds = int(state["n_updates"]), float(state["seconds"])
        device = next(self.networks.parameters()).device
        self.extra.update(_moved(state["extra"], device))
        self.is_done, self.stop_reason = bool(state["is_done"]), str(state["stop_reason"])
        self.has_diverged = bool(state["has_diverged"])
        torch.set_rng_state(state["random"])

    def begin_as_first(self) -> None:
        """Begin with the state of the first process, which may have taken up a checkpoint."""
        if distributed.n_processes() > 1:
            state = distributed.tree_from_first(self.state())
            if distributed.rank() > 0:
                self.resume(state)

    def last_optimizer(self) -> Optimizer:
        """The optimizer that a method names last, which is the one that steps last."""
        return list(self.optimizers.values())[-1]


class Epochs(Protocol):
    """What surrounds each epoch: scikit-learn's tasks, and so the callbacks."""

    def begin(self) -> None:
        """Run before an epoch."""

    def end(self) -> bool:
        """Run after an epoch; True stops, and the run then has the reason."""


class Batches(Protocol):
    """Where an epoch's batches come from."""

    n_batches: int

    def epoch(self) -> Iterable[Tensor]:
        """The batches (K, B, ...) of one epoch."""


def train(
    run: TrainingRun,
    step: Callable[[Tensor, float], dict[str, Tensor]],
    data: Batches,
    validate: Callable[[], dict[str, float]],
    tasks: Epochs,
    is_sound: Callable[[], bool] = lambda: True,
) -> None:
    """Train until the epochs are done, a callback stops, a loss is not finite, or Ctrl-C.

    Parameters
    ----------
    run : TrainingRun
        Continues where its history ends.
    step : callable
        ``step(x, progress)`` updates the networks with one batch and returns named losses, one
        value a member and sample; `progress` grows from 0 to 1 over the whole training.
    data : Batches
    validate : callable
        Gives the record's validation losses after an epoch.
    tasks : Epochs
    is_sound : callable
        Whether the networks give finite results, beside having finite weights.

    Warns
    -----
    ConvergenceWarning
        When a loss is not finite; the weights of the last snapshot before it are restored.
    """
    run.begin_as_first()
    snapshot = _Snapshot(run, is_sound)
    start = time.perf_counter() - run.seconds
    try:
        for epoch in range(len(run.history), run.n_epochs):
            if run.is_done:
                return
            tasks.begin()
            distributed.draw_own_random_numbers(epoch)
            run.networks.train()
            means = _Means()
            for i, x in enumerate(data.epoch()):
                means.add(step(x, (epoch + i / data.n_batches) / run.n_epochs), x.shape[1])
                run.n_updates += 1
                run.seconds = time.perf_counter() - start
            record = {"epoch": epoch + 1, **means.result()}
            if not all(math.isfinite(value) for value in record.values()):
                return snapshot.restore(run, record)
            run.networks.eval()
            with distributed.all_are_here():
                run.history.append({**record, **validate()})
            if snapshot.is_due(run) and not snapshot.take(run):
                return snapshot.restore(run, record)
            run.is_done = distributed.any_says(tasks.end()) or len(run.history) == run.n_epochs
    except KeyboardInterrupt:
        # What was learned in hours must not be lost to one key.
        run.stop_reason = f"interrupted after epoch {len(run.history)}"
        warnings.warn(
            f"Training was {run.stop_reason}; what was learned so far is kept.",
            ConvergenceWarning,
            stacklevel=4,
        )


class _Means:
    """Mean of each loss over an epoch, left on the device until it is asked for."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.n_samples = 0

    def add(self, losses: dict[str, Tensor], n_samples: int) -> None:
        self.n_samples += n_samples
        for name, loss in losses.items():
            mean = loss.detach().mean()
            if name in self.sums:
                self.sums[name].add_(mean, alpha=n_samples)
            else:
                self.sums[name] = mean * n_samples

    def result(self) -> dict[str, float]:
        means = torch.stack(list(self.sums.values())) / self.n_samples
        return dict(zip(self.sums, distributed.averaged(means).tolist(), strict=True))


class _Snapshot:
    """The last weights known to be good, and what belongs to them."""

    def __init__(self, run: TrainingRun, is_sound: Callable[[], bool]) -> None:
        self.is_sound = is_sound
        self.take(run)

    def is_due(self, run: TrainingRun) -> bool:
        """Each time the updates have doubled, later every so many, and at the end."""
        is_last = len(run.history) == run.n_epochs
        wait = min(self.n_updates, _UPDATES_BETWEEN_SNAPSHOTS)
        return is_last or run.n_updates - self.n_updates >= wait

    def take(self, run: TrainingRun) -> bool:
        """Keep the weights if they are good; whether they are."""
        weights = run.networks.state_dict()
        if not all(bool(w.isfinite().all()) for w in weights.values()) or not self.is_sound():
            return False
        self.weights = {name: w.clone() for name, w in weights.items()}
        self.extra = copy.deepcopy(run.extra)
        self.n_updates, self.n_epochs = run.n_updates, len(run.history)
        return True

    def restore(self, run: TrainingRun, record: dict[str, float]) -> None:
        """Go back to the good weights, and warn."""
        bad = [name for name, value in record.items() if not math.isfinite(value)]
        what = f"The loss {bad[0]!r} was" if bad else "The weights were"
        run.networks.load_state_dict(self.weights)
        run.extra.clear()
        run.extra.update(self.extra)
        del run.history[self.n_epochs :]
        run.is_done = run.has_diverged = True
        run.stop_reason = f"{what.lower()} not finite in epoch {record['epoch']}"
        warnings.warn(
            f"{what} not finite in epoch {record['epoch']}: training stopped and the weights "
            f"after {self.n_updates} updates were restored. Lower the learning_rate.",
            ConvergenceWarning,
            stacklevel=6,
        )


def _moved(tree: Any, device: torch.device) -> Any:
    """A tree of data with its tensors on the device: they are stored and sent on the CPU."""
    if torch.is_tensor(tree):
        return tree.to(device)
    if isinstance(tree, dict):
        return {key: _moved(value, device) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_moved(value, device) for value in tree]
    return tuple(_moved(value, device) for value in tree) if isinstance(tree, tuple) else tree


def _lay_out_as_parameters(optimizer: Optimizer) -> None:
    """Give an optimizer's loaded moments the memory layout of their parameters.

    A fused step walks through both in the order of memory, and would pair the wrong numbers.

    Raises
    ------
    ValueError
        If a moment has another shape than its parameter: a fused step would write beyond it.
    """
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if not torch.is_tensor(value) or value.ndim == 0:
                continue
            if value.shape != parameter.shape:
                raise ValueError(f"the optimizer's {name!r} has the shape of another parameter")
            state[name] = torch.empty_like(parameter).copy_(value).detach()
