"""The only training loop, and the only place where an optimizer steps."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor, nn
from torch.optim import Optimizer

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
    history : list of dict
        One record an epoch: its number and the mean of every loss.
    n_updates : int
    stop_reason : str
        Why training ended.
    extra : dict
        What callbacks keep: a tree of data, stored and resumed with the rest.
    """

    networks: nn.ModuleDict
    optimizers: dict[str, Optimizer]
    n_epochs: int
    history: list[dict[str, float]] = field(default_factory=list)
    n_updates: int = 0
    stop_reason: str = "all epochs done"
    extra: dict[str, Any] = field(default_factory=dict)

    def state(self) -> dict[str, Any]:
        """Everything that the next epoch depends on, random numbers included."""
        return {
            "networks": self.networks.state_dict(),
            "optimizers": {name: o.state_dict() for name, o in self.optimizers.items()},
            "history": self.history,
            "n_updates": self.n_updates,
            "extra": self.extra,
            "random": torch.get_rng_state(),
        }

    def resume(self, state: dict[str, Any]) -> None:
        """Continue from what `state` gave, to the same bits."""
        self.networks.load_state_dict(state["networks"])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
        self.history[:] = state["history"]
        self.n_updates = state["n_updates"]
        self.extra.update(state["extra"])
        torch.set_rng_state(state["random"])

    def last_optimizer(self) -> Optimizer:
        """The optimizer that a method names last, which is the one that steps last."""
        return list(self.optimizers.values())[-1]


class Epochs(Protocol):
    """What surrounds each epoch: scikit-learn's tasks, and so the callbacks."""

    def begin(self) -> None:
        """Run before an epoch."""

    def end(self) -> bool:
        """Run after an epoch; True stops."""


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

    Warns
    -----
    ConvergenceWarning
        When a loss is not finite; the weights of the last snapshot before it are restored.
    """
    snapshot = _copy_weights(run.networks)
    updates_at_snapshot = run.n_updates
    try:
        for epoch in range(len(run.history), run.n_epochs):
            tasks.begin()
            run.networks.train()
            means = _Means()
            for i, x in enumerate(data.epoch()):
                means.add(step(x, (epoch + i / data.n_batches) / run.n_epochs), x.shape[1])
                run.n_updates += 1
            record = {"epoch": epoch + 1, **means.result()}
            if not all(math.isfinite(value) for value in record.values()):
                run.networks.load_state_dict(snapshot)
                run.stop_reason = f"a loss was not finite in epoch {epoch + 1}"
                _warn_not_finite(record, updates_at_snapshot)
                return
            if run.n_updates - updates_at_snapshot >= _UPDATES_BETWEEN_SNAPSHOTS:
                snapshot = _copy_weights(run.networks)
                updates_at_snapshot = run.n_updates
            run.networks.eval()
            run.history.append({**record, **validate()})
            if tasks.end():
                run.stop_reason = f"stopped by a callback after epoch {epoch + 1}"
                return
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
        values = (torch.stack(list(self.sums.values())) / self.n_samples).tolist()
        return dict(zip(self.sums, values, strict=True))


def _copy_weights(networks: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in networks.state_dict().items()}


def _warn_not_finite(record: dict[str, float], n_updates: int) -> None:
    bad = [name for name, value in record.items() if not math.isfinite(value)]
    warnings.warn(
        f"The loss {bad[0]!r} was not finite in epoch {record['epoch']}: training stopped and the "
        f"weights after {n_updates} updates were restored. Lower the learning_rate.",
        ConvergenceWarning,
        stacklevel=5,
    )
