"""Training: the loop, the state of a run, and `update`, the only function that steps optimizers."""

from __future__ import annotations

import copy
import hashlib
import math
import re
import time
import warnings
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from numbers import Real
from typing import Any, Protocol, Self

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor, nn
from torch.optim import Optimizer
from tqdm import tqdm  # text, because saved pages of a notebook do not contain widgets

from gandetect import distributed
from gandetect.data.sources import Source, TrainingData, blocks, parts_of
from gandetect.data.values import duplicates_warning
from gandetect.distributed import RandomNumbers
from gandetect.model.fitted import (
    POINTS,
    REFERENCES,
    REFERENCES_OF_IMAGES,
    REFERENCES_OF_TABLES,
    ROBUST_REFERENCES,
    Model,
    thinned,
)
from gandetect.model.known import KNOWN, MAX_NORMAL, AnomalyTrees, KnownAnomalies, KnownDistances
from gandetect.model.statistics import (
    Calibration,
    Scaler,
    check_scores,
    threshold_at_percentile,
    threshold_of_tail,
    without_farthest,
)
from gandetect.networks.members import Dropout, MemberAdam
from gandetect.training.report import Beginning, Reconstructions, TrainingReport, TrainingWarning
from gandetect.training.robust import attacked
from gandetect.training.trimming import not_among_worst, trimmed
from gandetect.versions import VERSIONS

# The number of updates between snapshots of the weights, which are restored if a loss is not
# finite. Snapshots are frequent enough to lose little training, and take negligible time.
_UPDATES_BETWEEN_SNAPSHOTS = 100
# The largest number of stored training samples for distances, and of their values. More samples
# need memory and time, and improve the scores little.
_MAX_REFERENCES, _MAX_REFERENCE_VALUES = 2_000, 2**24
# The largest number of values of training samples that the training report uses.
_REPORT_VALUES = 2**15
# Parameters that a checkpoint does not have to match, because they do not affect the training.
_WITHOUT_EFFECT = {"verbose", "device", "n_jobs", "score", "contamination", "store_references"}
# Parameters that may differ between the processes of one fit; the seed of the first is used.
_OF_EACH_PROCESS = {"verbose", "device", "n_jobs", "random_state"}

# The schedules of the learning rate.
SCHEDULES = ("auto", "one-cycle", "cosine", "steps", None)
# For "one-cycle": the share of the training in which the rate increases, and its factors at the
# beginning and at the maximum.
_CLIMB, _FIRST, _TOP = 0.25, 0.3, 3.0

# The current training in this thread.
_CURRENT: ContextVar[TrainingRun] = ContextVar("current_run")


def current_run() -> TrainingRun:
    """The current training in this thread, for callbacks.

    Raises
    ------
    RuntimeError
        If no detector is being fitted in this thread.
    """
    try:
        return _CURRENT.get()
    except LookupError:
        raise RuntimeError("No detector is being fitted in this thread.") from None


def update(optimizer: Optimizer, loss: Tensor, retain_graph: bool = False) -> None:
    """Update the weights of one optimizer, and no others, by a loss.

    Parameters
    ----------
    optimizer : Optimizer
        Only its own parameters get gradients.
    loss : Tensor of shape (K, B) or (K,)
        One value for each member and sample. It is averaged over the samples and summed over the
        members, so that each member is trained as a single one.
    retain_graph : bool, default=False
        True if a second loss uses the same forward pass.

    Raises
    ------
    ValueError
        If the loss has another number of axes: a mean over all members would train each of them
        with another learning rate in an ensemble of another size.
    """
    if loss.ndim not in (1, 2):
        raise ValueError(
            f"update takes a loss in the shape (K, B), one value for each member and sample, or "
            f"(K,), but this one has the shape {tuple(loss.shape)}: average over the axes of a "
            "sample only."
        )
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    optimizer.zero_grad(set_to_none=True)
    total = loss.mean(-1).sum() if loss.ndim == 2 else loss.sum()
    total.backward(inputs=parameters, retain_graph=retain_graph)
    distributed.average_gradients(parameters)
    optimizer.step()


def rate_factor(schedule: str | None, progress: float) -> float:
    """Return the factor of the learning rate at a completed share of the training.

    Parameters
    ----------
    schedule : {"one-cycle", "cosine", "steps", None}
    progress : float in [0, 1]

    Returns
    -------
    float

    References
    ----------
    Smith and Topin, "Super-convergence: very fast training of neural networks using large learning
    rates", 2018 (one cycle; here with constant momentum). Loshchilov and Hutter, "SGDR: stochastic
    gradient descent with warm restarts", ICLR 2017 (cosine, without restarts).
    """
    if schedule == "one-cycle":
        if progress < _CLIMB:
            return _along_cosine(_FIRST, _TOP, progress / _CLIMB)
        return _along_cosine(_TOP, 0.0, (progress - _CLIMB) / (1 - _CLIMB))
    if schedule == "cosine":
        return _along_cosine(1.0, 0.0, progress)
    if schedule == "steps":
        return float(0.2 ** ((progress >= 0.8) + (progress >= 0.9)))
    return 1.0


def _along_cosine(start: float, end: float, share: float) -> float:
    """Interpolate from `start` to `end` along half a cosine."""
    return end + (start - end) * (0.5 + 0.5 * math.cos(math.pi * share))


@dataclass(frozen=True, eq=False)
class TrainingSamples:
    """The training samples, for the hooks of a method before and after the training.

    Parameters
    ----------
    source : Source
    rows : ndarray of int
        The training samples; the others are held out for validation.
    scaler : Scaler
    class_labels : object
        As given to `fit`, one for each sample of the source, or None.
    known : Source or None
        Known anomalies, with ``labels="learn"``.
    masks : ndarray of shape (n_known, H, W), list of ndarray of shape (H, W), or None
        The masks of their defects; empty if the position is unknown. A list if shapes differ.
    """

    source: Source
    rows: np.ndarray
    scaler: Scaler
    class_labels: Any = None
    known: Source | None = None
    masks: np.ndarray | list[np.ndarray] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of a sample as input of the networks."""
        return self.source.layout.sample_shape

    def read(self, n_max: int) -> np.ndarray:
        """Read at most `n_max` samples, ``(n, *sample_shape)``, in the units of X."""
        return self.source.read(thinned(self.rows, n_max))

    def scaled(self, n_max: int) -> Tensor:
        """Read at most `n_max` samples, ``(n, *sample_shape)``, scaled."""
        return self.scaler(self.read(n_max))

    def n_most(self, n_max: int) -> int:
        """Return `n_max`, or fewer to limit the number of stored values; at least 2."""
        return min(n_max, max(_MAX_REFERENCE_VALUES // math.prod(self.shape), 2))

    def known_rows(self) -> np.ndarray:
        """Return the positions of the known anomalies for training."""
        n_known = 0 if self.known is None else len(self.known)
        return thinned(np.arange(n_known), self.n_most(_MAX_REFERENCES))

    def known_anomalies(self, device: torch.device) -> KnownAnomalies | None:
        """Return the known anomalies and their nearest normal samples, if all have one shape."""
        if self.known is None or self.source.layout.varies:
            return None
        rows = self.known_rows()
        masks = None if self.masks is None else np.asarray(self.masks)[rows]
        return KnownAnomalies.among(
            self.scaler(self.known.read(rows)).to(device),
            self.scaled(self.n_most(MAX_NORMAL)).to(device),
            None if masks is None else torch.from_numpy(masks).float().to(device),
        )

    def known_defects(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield known anomalous images, scaled, and their masks, in parts of one shape.

        Parameters
        ----------
        size : int
            The largest number of images in a part.

        Yields
        ------
        images : Tensor of shape (n, C, H, W)
        masks : Tensor of shape (n, H, W)
        """
        if self.known is None or self.masks is None:
            return
        for part in parts_of(self.known, self.known_rows(), size):
            masks = np.stack([self.masks[row] for row in part])
            yield self.scaler(self.known.read(part)), torch.from_numpy(masks).float()


@dataclass
class TrainingRun:
    """The state of a training, which can be stored and resumed.

    Attributes
    ----------
    model : Model
        The model whose networks are trained; its other parts are set at the end.
    optimizers : dict of str to Optimizer
    random : RandomNumbers
        The random numbers of this training: ``random.normal_like(x)``, ``random.uniform(K, B)``.
    n_epochs : int
        The total number of epochs.
    n_samples : int
        The number of samples of X. A resumed checkpoint must have the same number.
    history : list of dict
        One record for each epoch: its number and the mean of every loss.
    n_epochs_before : int
        The epochs of earlier fits that `warm_start` continues from.
    learned : callable
        Returns the fitted attributes of a detector whose training ends at this point.
    checksum : callable
        Returns the checksum of X, y and the class labels.
    first_rates : dict of str to list of float
        The initial learning rates of the optimizers, one for each group.
    progress : float
        The completed share of the whole training, 0 to 1, including earlier fits.
    n_updates : int
    seconds : float
        Elapsed time, including the time before an interruption.
    is_done : bool
        Whether training has completed all epochs or was stopped by a callback or the method.
    has_diverged : bool
        Whether a loss or a weight was not finite, and earlier weights were restored.
    is_interrupted : bool
        Whether Ctrl-C ended the training.
    stop_reason : str
        The reason why training ended.
    extra : dict
        The state of callbacks: a tree of data, stored in checkpoints and restored on resuming.
    at_end : list of callable
        Called in order at the end of training, before any callback: functions that replace the last
        weights.
    prepared : object
        Data that the method computes before the first step and needs in each; not stored.
    known : KnownAnomalies or None
        Known anomalies as fake samples for discriminators; not stored.
    trees : AnomalyTrees or None
        The trees that classify rows as known anomalies or normal.
    """

    model: Model[Any]
    optimizers: dict[str, Optimizer]
    random: RandomNumbers
    n_epochs: int
    n_samples: int
    history: list[dict[str, float]] = field(default_factory=list)
    n_epochs_before: int = 0
    learned: Callable[[], dict[str, Any]] = dict
    checksum: Callable[[], str] = str
    first_rates: dict[str, list[float]] = field(default_factory=dict)
    progress: float = 0.0
    n_updates: int = 0
    seconds: float = 0.0
    is_done: bool = False
    has_diverged: bool = False
    is_interrupted: bool = False
    stop_reason: str = "all epochs done"
    extra: dict[str, Any] = field(default_factory=dict)
    at_end: list[Callable[[], Any]] = field(default_factory=list)
    prepared: Any = None
    known: KnownAnomalies | None = None
    trees: AnomalyTrees | None = None

    def seen(self, x: Tensor) -> Tensor:
        """Return the input of the networks for a batch: with `robust`, the attacked batch.

        The targets are computed from the original batch.
        """
        return attacked(self.model, x, self.random) if self.model.settings.robust else x

    def __post_init__(self) -> None:
        self.networks = self.model.networks

    def known_fakes(self, n: int) -> Tensor | None:
        """Return known anomalies and mixtures (K, n, ...) for a discriminator, if there are any.

        At least two are returned, because batch statistics need two.
        """
        if self.known is None:
            return None
        return self.known.fakes(self.model.n_members, max(n, 2), self.random.generator)

    def learned_together(self) -> dict[str, Any]:
        """Return the result of `learned`; processes share the work unless one was interrupted."""
        with distributed.all_are_here(self.is_done):
            return self.learned()

    def fingerprint(self) -> str:
        """Return the properties that a checkpoint must match: detector, parameters, X and y."""
        settings = self.model.settings
        parameters = {
            name: value
            for name, value in settings.get_params(deep=False).items()
            if name not in _WITHOUT_EFFECT
        }
        shape = self.model.layout.sample_shape
        return f"{type(settings).__name__} {shape} {self.checksum()} {_repeatable(parameters)}"

    def state(self) -> dict[str, Any]:
        """Return all data on which the next epoch depends, including random numbers."""
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
            "random": self.random.state(),
        }

    def resume(self, state: dict[str, Any]) -> None:
        """Continue from the result of `state`; the training gives the same bits as without a stop.

        Raises
        ------
        LookupError, TypeError, ValueError, AttributeError, RuntimeError, OverflowError
            If it is not a valid state of this training.
        """
        _check_history(state["history"], self.n_epochs)
        kinds = {"n_updates": int, "seconds": float, "extra": dict, "stop_reason": str}
        for name, kind in {**kinds, "is_done": bool, "has_diverged": bool}.items():
            if type(state[name]) is not kind:
                raise TypeError(f"its {name} is {state[name]!r:.40}")
        for name in ("n_updates", "seconds"):
            if not 0 <= state[name] < math.inf:
                raise ValueError(f"its {name} is {state[name]!r:.40}")
        check_weights(state["networks"], self.networks.state_dict())
        self.networks.load_state_dict(state["networks"])
        if not self.model.is_sound():
            raise ValueError("its networks do not give finite numbers")
        for name, optimizer in self.optimizers.items():
            _load(optimizer, state["optimizers"][name])
        self.history[:] = state["history"]
        self.n_updates, self.seconds = state["n_updates"], state["seconds"]
        self.extra.update(_moved(state["extra"], self.model.device))
        self.is_done, self.stop_reason = state["is_done"], state["stop_reason"]
        self.has_diverged = state["has_diverged"]
        self.random.set_state(state["random"])

    def begin_as_first(self) -> None:
        """Begin with the state of the first process, which may have resumed a checkpoint."""
        if distributed.n_processes() > 1:
            state = distributed.tree_from_first(self.state())
            if distributed.rank() > 0:
                self.resume(state)

    def start_with(self, optimizers: dict[str, Optimizer]) -> None:
        """Set the optimizers; `schedule` multiplies their learning rates."""
        self.optimizers = optimizers
        self.first_rates = {
            name: [group["lr"] for group in optimizer.param_groups]
            for name, optimizer in optimizers.items()
        }

    @property
    def progress_of_fit(self) -> float:
        """Return the completed share, 0 to 1, of this fit without earlier fits."""
        n_before = self.n_epochs_before
        return (self.progress * self.n_epochs - n_before) / max(self.n_epochs - n_before, 1)

    def set_learning_rates(self) -> None:
        """Set the learning rates of `schedule` at this point of the training.

        Optimizers of the user may have several groups with different rates.
        """
        schedule = self.model.settings.schedule
        if schedule is None:
            return
        factor = rate_factor(schedule, self.model.progress(self))
        for name, optimizer in self.optimizers.items():
            for group, rate in zip(optimizer.param_groups, self.first_rates[name], strict=True):
                group["lr"] = factor * rate

    def last_optimizer(self) -> Optimizer:
        """The optimizer that steps last in an update."""
        return list(self.optimizers.values())[-1]


class Epochs(Protocol):
    """The hooks before and after each epoch, which run the callbacks."""

    def begin(self) -> None:
        """Run before an epoch."""

    def end(self) -> bool:
        """Run after an epoch; True stops the training, and the run then states the reason."""


class Batches(Protocol):
    """The source of the batches of an epoch."""

    n_batches: int

    def epoch(self) -> Iterable[Tensor]:
        """The batches (K, B, ...) of one epoch."""


class FitTasks:
    """scikit-learn's tasks around a fit and its epochs, and the progress bar of `verbose`.

    Parameters
    ----------
    detector : BaseDetector
    X, y : as given to fit
    """

    def __init__(self, detector: Any, X: Any, y: Any) -> None:
        self.detector = detector
        self.given: dict[str, Any] = {"estimator": detector, "X": X, "y": y}

    @contextmanager
    def around(self, run: TrainingRun) -> Iterator[Self]:
        """Begin the task of the fit, and end it after the training unless this fails."""
        self.run = run
        n_epochs = run.n_epochs - run.n_epochs_before
        self.fit_task = self.detector._init_callback_context(max_subtasks=n_epochs)
        self.fit_task.call_on_fit_task_begin(**self.given)
        self.bar = tqdm(
            total=run.n_epochs,
            initial=len(run.history),
            desc=type(self.detector).__name__,
            unit="epoch",
            disable=not self.detector.verbose or not distributed.is_first(),
        )
        try:
            yield self
        finally:
            self.bar.close()
        for finish in run.at_end:
            finish()
        self.fit_task.call_on_fit_task_end(**self.given, reconstruction_attributes=run.learned)

    def begin(self) -> None:
        """Begin the task of an epoch."""
        self.task = self.fit_task.subcontext(task_name="epoch")
        self.task.call_on_fit_task_begin(**self.given)

    def end(self) -> bool:
        """End the task of the epoch; True if a callback or the method stops the training."""
        run = self.run
        if self.detector.verbose:
            losses = {name: value for name, value in run.history[-1].items() if name != "epoch"}
            self.bar.set_postfix(losses, refresh=False)
            self.bar.total = self._n_expected()
            self.bar.update()
        reason = run.model.should_stop(run)
        stopped = self.task.call_on_fit_task_end(
            **self.given, reconstruction_attributes=run.learned
        )
        if stopped:
            run.stop_reason = f"stopped by a callback after epoch {len(run.history)}"
        if reason:
            run.stop_reason = reason
        return bool(stopped) or reason is not None

    def _n_expected(self) -> int:
        """The number of epochs of the whole training, which a limit of time may end earlier."""
        run = self.run
        n_done = len(run.history) - run.n_epochs_before
        share = max(n_done / (run.n_epochs - run.n_epochs_before), run.model.progress(run))
        return run.n_epochs_before + max(round(n_done / share), n_done)


def fit_model(
    model: Model[Any],
    source: Source,
    tasks: FitTasks,
    random: RandomNumbers,
    device: torch.device,
    y: Any = None,
    class_labels: Any = None,
    history: Iterable[dict[str, float]] = (),
    earlier: TrainingReport | None = None,
    known: Source | None = None,
    masks: np.ndarray | list[np.ndarray] | None = None,
) -> tuple[dict[str, Any], bool]:
    """Train the networks of a model, and compute its references, calibration and threshold.

    Parameters
    ----------
    model : Model
        A new model, or for a warm start a copy of the earlier one.
    source : Source
    tasks : FitTasks
    random : RandomNumbers
    device : torch.device
    y, class_labels : as given to fit
        y is used only to check that checkpoints and other processes have the same y.
    history : iterable of dict
        The history of earlier fits that this fit continues.
    earlier : TrainingReport or None
        The report on the earlier training.
    known : Source or None
        Known anomalies.
    masks : ndarray of shape (n_known, H, W), list of ndarray of shape (H, W), or None
        The masks of their defects.

    Returns
    -------
    learned : dict of str to object
        The attributes that the detector learns.
    is_interrupted : bool
        Whether Ctrl-C ended the training.
    """
    settings, history = model.settings, list(history)
    rows, held = _hold_out(len(source), settings.validation_fraction, random.generator)
    of_masks = masks if isinstance(masks, list) else [] if masks is None else [masks]
    checksum = _Checksum(source, known, (y, class_labels, *of_masks))
    distributed.check_same(partial(_common_ground, model, source, len(history), checksum))
    samples = TrainingSamples(source, rows, model.scaler, class_labels, known, masks)
    if not settings.trim and not source.is_lazy:
        _warn_of_duplicates(samples)
    model.to(device)
    for module in model.modules():
        if isinstance(module, Dropout):
            module.generator = random.generator
    is_foreign = model.runs_foreign_code(settings)
    run = TrainingRun(model, {}, random, 0, len(source), history, len(history), checksum=checksum)
    model.known = None  # belongs to an earlier fit, with other labels
    model.check_knows(known)
    if known is not None:
        _check_may_keep_codes(model)
        run.known = samples.known_anomalies(device)
        if run.known is not None and not model.layout.is_image:
            run.trees = AnomalyTrees.of(run.known, random.generator).to(device)
    model.prepare(samples, run)
    data: Batches = model.batches(run) or TrainingData(
        source,
        rows,
        model.scaler,
        model.n_members,
        model.batch_size(),
        device,
        random.generator,
        distributed.share,
        distributed.from_first,
        random.lent if source.is_lazy and not source.is_slow else nullcontext,
    )
    run.n_epochs = len(history) + model.n_epochs(data.n_batches)
    run.start_with(model.optimizers())
    if is_foreign:
        model.check_hooks()
    if not model.is_sound():
        raise ValueError("Scores overflow before any training: divide X by a power of ten.")
    n_reported = min(max(_REPORT_VALUES // model.layout.n_values, 16), 256)
    reconstructions = partial(_reconstructions, model, source, thinned(rows, n_reported))
    beginning = Beginning.of(run.networks, reconstructions, earlier)
    run.learned = partial(_learned, run, samples, held, beginning)
    step: Callable[[Tensor], dict[str, Tensor]] = partial(_step, model, run)
    if is_foreign:
        step = partial(_foreign_step, step, random, model.n_members, type(model).__name__)
    if settings.trim:
        step = trimmed(step, model, settings.trim)
    token = _CURRENT.set(run)
    try:
        with tasks.around(run) as epochs:
            train(run, step, data, partial(_validate, model, source, held), epochs)
        model.eval()
        learned = run.learned_together()
        check_scores(learned["model_"].threshold)
    finally:
        _CURRENT.reset(token)
    report = learned["training_report_"]
    if report.problems and not run.has_diverged:
        warnings.warn(report.message(), TrainingWarning, stacklevel=5)
    return learned, run.is_interrupted


def train(
    run: TrainingRun,
    step: Callable[[Tensor], dict[str, Tensor]],
    data: Batches,
    validate: Callable[[], dict[str, float]],
    tasks: Epochs,
) -> None:
    """Train until the epochs are done, a callback stops, a loss is not finite, or Ctrl-C.

    Parameters
    ----------
    run : TrainingRun
        The state; the training continues after the last epoch of its history.
    step : callable
        Updates the networks with one batch and returns named losses, one value for each member and
        sample.
    data : Batches
    validate : callable
        Returns the validation losses after an epoch, for the record of the epoch.
    tasks : Epochs

    Warns
    -----
    ConvergenceWarning
        If a loss is not finite; the weights of the last snapshot are then restored.
    """
    run.begin_as_first()
    snapshot = _Snapshot(run)
    start = time.perf_counter() - run.seconds
    try:
        for epoch in range(len(run.history), run.n_epochs):
            if run.is_done:
                return
            tasks.begin()
            run.random.begin_epoch(epoch)
            run.model.train()
            means = _Means()
            for i, x in enumerate(data.epoch()):
                run.progress = (epoch + i / data.n_batches) / run.n_epochs
                run.set_learning_rates()
                means.add(step(x), x.shape[1])
                run.n_updates += 1
                run.seconds = time.perf_counter() - start
            record = {"epoch": epoch + 1, **means.result()}
            if not all(math.isfinite(value) for value in record.values()):
                return snapshot.restore(run, record)
            run.model.eval()
            with distributed.all_are_here():
                run.history.append({**record, **validate()})
            if snapshot.is_due(run) and not snapshot.take(run):
                return snapshot.restore(run, record)
            run.is_done = distributed.any_says(tasks.end()) or len(run.history) == run.n_epochs
    except KeyboardInterrupt:
        # Ctrl-C must not discard hours of training. KeyboardInterrupt is raised again after the
        # fitted attributes are set.
        run.is_interrupted = True
        run.stop_reason = f"interrupted after epoch {len(run.history)}"
        warnings.warn(
            f"Training was {run.stop_reason}; the current weights are kept.",
            ConvergenceWarning,
            stacklevel=6,
        )


def _step(model: Model[Any], run: TrainingRun, x: Tensor) -> dict[str, Tensor]:
    return model.training_step(x, run)


def _foreign_step(
    step: Callable[[Tensor], dict[str, Tensor]],
    random: RandomNumbers,
    n_members: int,
    name: str,
    x: Tensor,
) -> dict[str, Tensor]:
    """A step of user code: it may draw global random numbers, and its losses are checked."""
    with random.lent():
        losses = step(x)
    if not isinstance(losses, dict) or not losses:
        raise TypeError(
            f"{name}.training_step must return a dict of losses, got {type(losses).__name__}."
        )
    for key, loss in losses.items():
        if not isinstance(loss, Tensor):
            raise TypeError(
                f"{name}.training_step returns {key!r} as {type(loss).__name__}: a loss is a "
                "tensor (K, B), one value for each member and sample."
            )
        if loss.ndim not in (1, 2) or len(loss) != n_members:
            raise ValueError(
                f"{name}.training_step returns {key!r} in the shape {tuple(loss.shape)}, but with "
                f"{n_members} members and {x.shape[1]} samples it must be "
                f"{(n_members, x.shape[1])}."
            )
    return losses


def _warn_of_duplicates(samples: TrainingSamples) -> None:
    """Warn about groups of nearly equal training samples that are far from all others."""
    n_most = min(_MAX_REFERENCES, max(_MAX_REFERENCE_VALUES // math.prod(samples.shape), 2))
    points = samples.scaled(n_most).flatten(1).numpy()
    is_encoded = samples.source.layout.encoder is not None
    if told := duplicates_warning(points, is_scaled=is_encoded):
        warnings.warn(told, TrainingWarning, stacklevel=6)


def _hold_out(n: int, share: float, generator: torch.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return the training samples and the held-out samples, in the order of X."""
    n_held = int(n * share)
    order = np.arange(n)
    if n_held:
        order = torch.randperm(n, generator=generator, device="cpu").numpy()
    if n - n_held < 2:
        raise ValueError(
            f"validation_fraction={share} leaves {n - n_held} of {n} samples for training: lower "
            "it, or pass more samples."
        )
    return np.sort(order[n_held:]), np.sort(order[:n_held])


def _validate(model: Model[Any], source: Source, held: np.ndarray) -> dict[str, float]:
    """Return the means of the validation losses, by names that begin with "validation_"."""
    if not len(held):
        return {}
    losses = model.parts_of(source, held, model.validation_losses)
    return {f"validation_{name}": float(values.mean()) for name, values in losses.items()}


def _reconstructions(model: Model[Any], source: Source, rows: np.ndarray) -> Reconstructions:
    """Return figures on the reconstructions of selected samples by the current networks."""

    def in_and_out(x: Tensor) -> Tensor:
        return torch.stack(model.in_and_out(x), dim=2).transpose(0, 1)

    x, x_hat = torch.from_numpy(model.in_blocks(in_and_out, source, rows)).unbind(2)
    return Reconstructions.of(x, x_hat)


def _learned(
    run: TrainingRun, samples: TrainingSamples, held: np.ndarray, beginning: Beginning
) -> dict[str, Any]:
    """Return the fitted attributes of a detector whose training ends at this point."""
    source = samples.source
    counts = {"n_samples": len(samples.rows), "n_validation": len(held)}
    rows, held = (run.model.calibrated_on(kept, run) for kept in (samples.rows, held))
    model, trim = run.model.shallow(), run.model.settings.trim
    # The references of an earlier fit were computed with other weights.
    model.normal_scores, model.normal_scores_definition = None, {}
    model.fitted_on = {**model.fitted_on, **counts, "versions": VERSIONS}
    model.finish(samples, run)
    fits = np.ones(len(rows), dtype=bool)
    if trim:
        fits = not_among_worst(model.reconstruction_errors(source, rows), trim)
    model.neighbours = nn.ModuleDict(_references(model, source, rows[fits], trim))
    model.known = run.trees
    if samples.known is not None and model.layout.is_image:
        model.known = _known_distances(model, samples)
    parts = model.parts_of(source, rows, model.all_parts)
    if run.trees is not None and KNOWN in parts:
        parts[KNOWN] = _of_unseen(model, run.trees, samples, rows).expand(model.n_members, -1)
    fitting = {name: values[:, fits] for name, values in parts.items()}
    units = {} if run.trees is None else {KNOWN: run.trees.unit}
    model.calibration = Calibration.of(fitting, units)
    model = model.with_map_scale(source, thinned(rows[fits], _MAX_REFERENCES))
    report = beginning.report(run, model.scored_parts(fitting))
    if len(held):
        scores = model.in_blocks(model.score, source, held)
    else:  # the same samples, whose parts are already computed
        scores = model.member_scores(parts).mean(0).numpy()
    contamination = model.settings.contamination
    if contamination == "auto":
        threshold = threshold_of_tail(scores)
    else:
        # On training samples, exactly this share is flagged. On held-out samples, the threshold is
        # chosen so that this share of new samples is flagged.
        method: Any = "weibull" if len(held) else "linear"
        threshold = threshold_at_percentile(scores, 100 * float(contamination), method=method)
    model = model.with_threshold(
        threshold,
        scores,
        rule="contamination",
        contamination=contamination,
        samples="validation" if len(held) else "training",
    )
    return {
        "model_": model.with_normal_scores(scores) if len(held) else model,
        "history_": run.history,
        "n_iter_": len(run.history),
        "stop_reason_": run.stop_reason,
        "training_report_": report,
    }


def _check_may_keep_codes(model: Model[Any]) -> None:
    """Raise ValueError if distances to known anomalous images are forbidden."""
    if model.layout.is_image and not model.settings.store_references:
        raise ValueError(
            "labels='learn' keeps the codes of known anomalous images, and of normal ones, to "
            "measure distances to: set store_references=True, or labels='exclude'."
        )


def _known_distances(model: Model[Any], samples: TrainingSamples) -> KnownDistances:
    """Return distances of images to known anomalous images, by codes of the current networks."""
    assert samples.known is not None

    def codes(source: Source, rows: np.ndarray) -> Tensor:
        values = model.in_blocks(lambda x: model.encode(x).transpose(0, 1), source, rows)
        return torch.from_numpy(values).transpose(0, 1).contiguous()

    normal = codes(samples.source, thinned(samples.rows, samples.n_most(_MAX_REFERENCES)))
    known = codes(samples.known, samples.known_rows())
    return KnownDistances(normal, known).to(model.device)


def _of_unseen(
    model: Model[Any], trees: AnomalyTrees, samples: TrainingSamples, rows: np.ndarray
) -> Tensor:
    """Return the log-odds of training rows, (1, n), by the trees that were not trained on each row.

    Trees rarely misclassify their training rows. With log-odds of all trees, new rows would appear
    anomalous in comparison.
    """
    half = np.full(len(samples.source), -1)
    seen = thinned(samples.rows, samples.n_most(MAX_NORMAL))
    half[seen] = np.arange(len(seen)) % 2
    shares = model.in_blocks(lambda x: trees.shares(x[:1]).T, samples.source, rows)
    return trees.of_unseen(torch.from_numpy(shares).T, torch.from_numpy(half[rows]))


def _references(
    model: Model[Any], source: Source, rows: np.ndarray, trim: float
) -> dict[str, nn.Module]:
    """Return the references of distances, selected training samples, by part of the score."""
    n_most = max(_MAX_REFERENCE_VALUES // model.layout.n_values, 1)
    rows = thinned(rows, min(_MAX_REFERENCES, n_most))
    points: dict[str, Tensor] = {}
    references: dict[str, nn.Module] = {}
    make: Mapping[str, Callable[[Tensor], nn.Module]]
    if model.settings.robust:
        make = ROBUST_REFERENCES
    elif model.layout.is_image:
        make = REFERENCES_OF_IMAGES
    else:
        make = REFERENCES if model.layout.encoder is None else REFERENCES_OF_TABLES
    for part in model.distances():
        of = POINTS[part]
        if of not in points:
            values = model.in_blocks(
                lambda x, part=part: model.points(part, x).transpose(0, 1),  # type: ignore[misc]
                source,
                rows,
            )
            columns = torch.from_numpy(values).transpose(0, 1).contiguous()
            points[of] = without_farthest(columns, trim)
        references[part] = make[part](points[of]).to(model.device)
    return references


def _common_ground(
    model: Model[Any], source: Source, n_epochs_before: int, checksum: Callable[[], str]
) -> dict[str, Any]:
    """Return the properties that must be equal in all processes of a fit, by name."""
    facts: dict[str, Any] = {"classes": type(model.settings).__name__}
    for name, value in model.settings.get_params(deep=False).items():
        if name not in _OF_EACH_PROCESS:
            facts[f"values of {name}"] = _repeatable(value)
    facts["numbers of samples"] = len(source)
    facts["shapes of a sample"] = model.layout.sample_shape
    facts["numbers of epochs before this fit"] = n_epochs_before
    facts["checksums of samples and labels, in their order,"] = checksum()
    return facts


def _repeatable(value: object) -> str:
    """Return a value as text, without memory addresses, which differ between processes."""
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))


class _Checksum:
    """SHA-256 of all samples in their order, and of labels; computed on demand.

    If X has random augmentation with its own generator, only the number of samples is used.
    """

    def __init__(
        self, source: Source, known: Source | None = None, labels: tuple[Any, ...] = ()
    ) -> None:
        self.source, self.known, self.labels = source, known, labels
        self.found: str | None = None

    def __call__(self) -> str:
        if self.found is None:
            found = hashlib.sha256(f"{len(self.source)} {self.source.layout}".encode())
            first = next(iter(parts_of(self.source, None, 4)))
            looks = []
            for _ in range(2):
                with self._reading():
                    looks.append(self.source.read(first).tobytes())
            if looks[0] == looks[1]:
                with self._reading():
                    for block in blocks(self.source):
                        found.update(np.ascontiguousarray(block).view(np.uint8).data)
            if self.known is not None:
                for block in blocks(self.known):
                    found.update(block.tobytes())
            for labels in self.labels:
                values = np.asarray(labels)
                if values.dtype == object:
                    values = values.astype(str)
                found.update(f"{values.dtype} {values.shape}".encode())
                found.update(np.ascontiguousarray(values).tobytes())
            self.found = found.hexdigest()
        return self.found

    def _reading(self) -> AbstractContextManager[None]:
        """Read with a fixed state of torch's generator, which is restored afterwards."""
        is_foreign = self.source.is_lazy and not self.source.is_slow
        return RandomNumbers(0, torch.device("cpu")).lent() if is_foreign else nullcontext()


class _Means:
    """Mean of each loss over an epoch, accumulated on the device."""

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
    """The last finite weights, with their state."""

    def __init__(self, run: TrainingRun) -> None:
        self.weights: dict[str, Tensor] = {}
        self.take(run)

    def is_due(self, run: TrainingRun) -> bool:
        """Return whether a snapshot is due: after each doubling of the updates, later regularly."""
        is_last = len(run.history) == run.n_epochs
        wait = min(self.n_updates, _UPDATES_BETWEEN_SNAPSHOTS)
        return is_last or run.n_updates - self.n_updates >= wait

    def take(self, run: TrainingRun) -> bool:
        """Store the weights if they are finite; return whether they are."""
        weights = run.networks.state_dict()
        finite = all(bool(w.isfinite().all()) for w in weights.values())
        if not finite or not run.model.is_sound():
            return False
        if self.weights:  # in place, because two copies of wide networks need much memory
            for name, w in weights.items():
                self.weights[name].copy_(w)
        else:
            self.weights = {name: w.clone() for name, w in weights.items()}
        self.extra = copy.deepcopy(run.extra)
        self.n_updates, self.n_epochs = run.n_updates, len(run.history)
        return True

    def restore(self, run: TrainingRun, record: dict[str, float]) -> None:
        """Restore the last finite weights, and warn."""
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
            stacklevel=8,
        )


def _moved(tree: Any, device: torch.device) -> Any:
    """Return a tree of data with its tensors on `device`; they are stored and sent on the CPU."""
    if torch.is_tensor(tree):
        return tree.to(device)
    if isinstance(tree, dict):
        return {key: _moved(value, device) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_moved(value, device) for value in tree]
    return tuple(_moved(value, device) for value in tree) if isinstance(tree, tuple) else tree


def check_weights(weights: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> None:
    """Raise ValueError unless these are finite tensors of such names, shapes and types."""
    if weights.keys() != like.keys():
        raise ValueError(
            "its networks have missing or unknown weights: "
            f"{sorted(weights.keys() ^ like.keys())[:3]}"
        )
    for name, value in weights.items():
        _check_tensor(name, value, like[name])


def _check_tensor(name: str, value: Any, like: Tensor) -> None:
    if not torch.is_tensor(value) or (value.shape, value.dtype) != (like.shape, like.dtype):
        raise ValueError(f"its {name!r} has another shape or type")
    if not value.isfinite().all():
        raise ValueError(f"its {name!r} is not finite")


def _check_history(history: Any, n_epochs: int) -> None:
    """Raise ValueError unless this is a list of records of the first epochs with numeric values."""
    if type(history) is not list or len(history) > n_epochs:
        raise ValueError(f"its history must have at most {n_epochs} epochs")
    for i, record in enumerate(history):
        if record["epoch"] != i + 1:
            raise ValueError(f"its epoch {i + 1} is {record['epoch']!r:.40}")
        for name, value in record.items():
            # The loss of held-out samples may overflow; training continues then.
            is_validation = name.startswith("validation_")
            if not isinstance(value, Real) or not (is_validation or math.isfinite(value)):
                raise ValueError(f"its loss {name!r} is {value!r:.40}")


def _load(optimizer: Optimizer, stored: dict[str, Any]) -> None:
    """Restore the state of an optimizer, each tensor in the memory layout of its parameter.

    A fused step reads both in the order of memory. With another layout it would combine wrong
    elements, or write beyond a tensor that is too small. Therefore a state with another shape or
    dtype than that of the optimizer raises an error.

    Raises
    ------
    ValueError
        If the state does not fit the optimizer.
    """
    groups = optimizer.state_dict()["param_groups"]
    for group, own, given in zip(
        optimizer.param_groups, groups, stored["param_groups"], strict=True
    ):
        # Only the learning rate may change during training.
        rate = own["lr"] = _plain(given["lr"])
        if not isinstance(rate, int | float) or not 0 <= rate < math.inf:
            raise ValueError(f"its learning rate is {rate!r:.40}")
        if isinstance(optimizer, MemberAdam) and isinstance(given.get("counts_members"), bool):
            # This shape is valid too: it occurs after the first restart of a member.
            group["counts_members"] = own["counts_members"] = given["counts_members"]
        if repr(_plain(given)) != repr(_plain(own)):
            raise ValueError("the settings of its optimizer differ")
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    laid_out: dict[int, dict[str, Any]] = {}
    for number, state in stored["state"].items():
        if type(number) is not int or not 0 <= number < len(parameters):
            raise ValueError("the state of its optimizer does not match its parameters")
        expected = _expected_state(optimizer, parameters[number])
        if state.keys() != expected.keys():
            raise ValueError(f"the state of its optimizer contains {sorted(state)}")
        laid_out[number] = dict(state)
        for name, like in expected.items():
            value = state[name]
            if not torch.is_tensor(like):
                if type(value) is not type(like):
                    raise ValueError(f"its {name!r} has another type")
                continue
            _check_tensor(name, value, like)
            if name in ("step", "exp_avg_sq") and (value < 0).any():
                raise ValueError(f"its {name!r} is negative")
            laid_out[number][name] = torch.empty_like(like).copy_(value)
    optimizer.load_state_dict({"state": laid_out, "param_groups": groups})
    for number, state in laid_out.items():
        # torch may have changed their memory layout.
        optimizer.state[parameters[number]].update(state)


def _plain(value: Any) -> Any:
    """Convert the numbers in settings to Python's types."""
    if isinstance(value, dict):
        return {name: _plain(entry) for name, entry in sorted(value.items())}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return value.item() if isinstance(value, np.generic) else value


def _expected_state(optimizer: Optimizer, parameter: Tensor) -> dict[str, Any]:
    """Return the state of a copy of the optimizer for a parameter after a step with gradient 0."""
    of_group = next(
        {name: value for name, value in group.items() if name != "params"}
        for group in optimizer.param_groups
        if any(p is parameter for p in group["params"])
    )
    probe = nn.Parameter(parameter.detach().clone())
    probe.grad = torch.zeros_like(probe)
    other = copy.copy(optimizer)
    other.__dict__ = {**optimizer.__dict__, "state": defaultdict(dict)}
    other.param_groups = [{**of_group, "params": [probe]}]
    for hooks in ("_optimizer_step_pre_hooks", "_optimizer_step_post_hooks"):
        other.__dict__[hooks] = OrderedDict()
    if isinstance(other, MemberAdam) and of_group["counts_members"]:
        other.param_groups[0]["counts_members"] = False
        other.step()
        other.restart(torch.zeros(other.n_members, dtype=torch.bool, device=probe.device))
        return dict(other.state[probe])
    other.step()
    return dict(other.state[probe])
