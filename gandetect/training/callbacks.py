"""Callbacks in scikit-learn's protocol: attach them with ``detector.set_callbacks(...)``.

scikit-learn's own `ProgressBar` and `ScoringMonitor` attach in the same way. One task is one
epoch; a callback that returns True at its end stops the training.
"""

from __future__ import annotations

import os
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import torch
from sklearn.utils import check_scalar
from torch.optim.swa_utils import get_ema_multi_avg_fn

from gandetect.archive import (
    DAMAGE,
    ArchiveError,
    check_writable,
    check_writable_folder,
    read_archive,
    write_archive,
)
from gandetect.distributed import is_first
from gandetect.training.loop import TrainingRun, check_weights, current_run
from gandetect.training.protocol import CallbackContext


class Callback:
    """The protocol's four hooks, doing nothing; the root task is named "fit"."""

    def setup(self, estimator: Any, context: CallbackContext) -> None:
        """Run before the first task."""

    def teardown(self, estimator: Any, context: CallbackContext) -> None:
        """Run after the last task, also when fit raises."""

    def on_fit_task_begin(self, estimator: Any, context: CallbackContext) -> None:
        """Run before training and before each epoch."""

    def on_fit_task_end(self, estimator: Any, context: CallbackContext) -> bool | None:
        """Run after each epoch and after training; True stops."""


class EarlyStopping(Callback):
    """Stop when a loss has not fallen for some epochs, and restore the best weights.

    Parameters
    ----------
    monitor : str or None, default=None
        A key of the records in ``history_``. Those that begin with ``"validation_"`` are there when
        the detector has a `validation_fraction`; they are computed on samples kept from training.
        None is the first of these that there is: "validation_reconstruction", another validation
        loss, "reconstruction", another loss.
    patience : int, default=10
        Epochs without improvement before training stops.
    min_delta : float, default=0.0
        A fall of no more than this is no improvement.
    restore_best : bool, default=True
        Whether the networks go back to their weights after the best epoch.

    Examples
    --------
    >>> import numpy as np
    >>> from gandetect import EarlyStopping, GANomalyDetector
    >>> X = np.random.default_rng(0).normal(size=(200, 4))
    >>> detector = GANomalyDetector(validation_fraction=0.2, epochs=50, random_state=0)
    >>> detector.set_callbacks(EarlyStopping(patience=3)).fit(X).n_iter_ <= 50
    True
    """

    def __init__(
        self,
        monitor: str | None = None,
        *,
        patience: int = 10,
        min_delta: float = 0.0,
        restore_best: bool = True,
    ) -> None:
        check_scalar(patience, "patience", Integral, min_val=1)
        check_scalar(min_delta, "min_delta", Real, min_val=0)
        self.monitor = monitor
        self.patience = patience
        self.min_delta = min_delta
        self.restore_best = restore_best

    def on_fit_task_begin(self, estimator: Any, context: CallbackContext) -> None:
        """Refuse a validation loss that will not be there, before anything is trained."""
        if context.task_name != "fit":
            return
        run = current_run()
        if self.restore_best:
            run.at_end.append(lambda: _restore_best(run))
        if not (self.monitor or "").startswith("validation_"):
            return
        if not estimator.validation_fraction:
            raise ValueError(
                f"EarlyStopping monitors {self.monitor!r}, which needs samples kept from "
                "training: set validation_fraction above 0, or pass another loss as monitor."
            )
        model = run.model
        shape = (model.n_members, 2, *model.layout.sample_shape)
        with torch.no_grad():
            losses = model.validation_losses(
                torch.zeros(shape, dtype=torch.float32, device=model.device)
            )
        self._check_monitor(estimator, [f"validation_{name}" for name in losses])

    def _check_monitor(self, estimator: Any, names: list[str]) -> None:
        if self.monitor is not None and self.monitor not in names:
            raise ValueError(
                f"EarlyStopping monitors {self.monitor!r}, but the losses of "
                f"{type(estimator).__name__} are {names}: pass one of them as monitor."
            )

    def _monitored(self, names: list[str]) -> str:
        if self.monitor is not None:
            return self.monitor
        validation = [name for name in names if name.startswith("validation_")]
        preferred = "validation_reconstruction", *validation, "reconstruction", *names
        return next(name for name in preferred if name in names)

    def on_fit_task_end(self, estimator: Any, context: CallbackContext) -> bool | None:
        """Compare the last epoch with the best; True after `patience` epochs without one."""
        if context.task_name == "fit":
            return None
        run = current_run()
        names = [name for name in run.history[-1] if name != "epoch"]
        self._check_monitor(estimator, names)
        monitor = self._monitored(names)
        # From the history alone, so that a resumed run stops where an uninterrupted one does.
        best, best_epoch = float("inf"), 0
        for record in run.history[run.n_epochs_before :]:
            if record[monitor] < best - self.min_delta:
                best, best_epoch = record[monitor], int(record["epoch"])
        if self.restore_best and best_epoch == run.history[-1]["epoch"]:
            weights = run.networks.state_dict()
            run.extra["best_weights"] = {name: w.clone() for name, w in weights.items()}
        return run.history[-1]["epoch"] - best_epoch >= self.patience


def _restore_best(run: TrainingRun) -> None:
    if "best_weights" in run.extra:
        run.networks.load_state_dict(run.extra["best_weights"])


class Checkpoint(Callback):
    """Store the training every few epochs, and continue it after an interruption.

    A fit that is stopped (a crash, a closed laptop, Ctrl-C) and started again with the same
    parameters, the same X and y and the same checkpoint file ends with the same bits as one that
    ran through. When a fit completes its epochs the file is left in place; delete it to start
    afresh.

    Parameters
    ----------
    path : str or path
        One file, data only, replaced as a whole at each checkpoint.
    every_n_epochs : int, default=1
    resume : bool, default=True
        Whether a file that is there is continued from. With False it is overwritten.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> from gandetect import Checkpoint, GANomalyDetector
    >>> X = np.random.default_rng(0).normal(size=(100, 4))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     checkpoint = Checkpoint(f"{folder}/run.safetensors")
    ...     detector = GANomalyDetector(epochs=3, random_state=0).set_callbacks(checkpoint)
    ...     detector.fit(X).n_iter_
    3
    """

    def __init__(
        self, path: str | os.PathLike[str], *, every_n_epochs: int = 1, resume: bool = True
    ) -> None:
        check_scalar(every_n_epochs, "every_n_epochs", Integral, min_val=1)
        self.path = path
        self.every_n_epochs = every_n_epochs
        self.resume = resume

    def setup(self, estimator: Any, context: CallbackContext) -> None:
        """Refuse a place that cannot be written before training, not after it."""
        if is_first():
            check_writable(self.path)

    def on_fit_task_begin(self, estimator: Any, context: CallbackContext) -> None:
        """Continue from the file, if there is one; before an epoch, write what came before it."""
        run = current_run()
        if context.task_name != "fit":
            # All callbacks have then done with the last epoch.
            if run.history and len(run.history) % self.every_n_epochs == 0:
                self._write()
        # The others begin with the state of the first process: they may not see its file.
        elif self.resume and is_first() and Path(self.path).exists():
            self._resume()

    def on_fit_task_end(self, estimator: Any, context: CallbackContext) -> bool | None:
        """Write the end of a training that has come to its end."""
        if context.task_name == "fit" and current_run().is_done:
            self._write()
        return None

    def _write(self) -> None:
        if not is_first():  # all processes hold the same, and one of them writes it
            return
        run = current_run()
        write_archive(self.path, {"fingerprint": run.fingerprint(), "run": run.state()})

    def _resume(self) -> None:
        state = read_archive(self.path)
        run = current_run()
        try:
            is_ours = state.get("fingerprint") == run.fingerprint()
            if is_ours and state["run"]["n_samples"] == run.n_samples:
                _check_kept(state["run"]["extra"], run)
                run.resume(state["run"])
                return
        except DAMAGE as error:
            raise ArchiveError(
                f"The checkpoint {str(self.path)!r} does not hold a whole training: {error}"
            ) from error
        raise ValueError(
            f"The checkpoint {str(self.path)!r} belongs to a detector with other parameters "
            "or another X or y. Delete it, or pass resume=False to overwrite it."
        )


def _check_kept(extra: dict[str, Any], run: TrainingRun) -> None:
    """Raise ValueError unless the callbacks below and above can go on with what they kept."""
    if "best_weights" in extra:
        check_weights(extra["best_weights"], run.networks.state_dict())
    if "average" in extra:
        check_weights(extra["average"], _floating(run.networks))
        if type(extra["n_averaged"]) is not int or extra["n_averaged"] < 0:
            raise ValueError(f"its average is one of {extra['n_averaged']!r:.40} updates")


class ExponentialMovingAverage(Callback):
    """Score with a running average of the weights instead of their last values.

    In adversarial training the weights oscillate; their average varies less. It is taken
    after every update, batch statistics included, and replaces the weights when training ends.

    Parameters
    ----------
    decay : float in [0, 1), default=0.999
        Weight of the average so far. EGBAD uses 0.999 on images and 0.9999 on rows.
    warm_up : bool, default=True
        Use ``min(decay, (1 + t) / (10 + t))`` at update t. Without it a short training averages
        mostly the random initial weights.

    Examples
    --------
    >>> import numpy as np
    >>> from gandetect import ExponentialMovingAverage, GANomalyDetector
    >>> X = np.random.default_rng(0).normal(size=(100, 4))
    >>> detector = GANomalyDetector(epochs=3, random_state=0)
    >>> detector.set_callbacks(ExponentialMovingAverage(0.99)).fit(X).n_iter_
    3
    """

    def __init__(self, decay: float = 0.999, *, warm_up: bool = True) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"decay must be in [0, 1), got {decay!r}.")
        self.decay = decay
        self.warm_up = warm_up

    def on_fit_task_begin(self, estimator: Any, context: CallbackContext) -> None:
        """Begin to average after each step of the optimizer that steps last in an update."""
        if context.task_name != "fit":
            return
        run = current_run()
        initial = _floating(run.networks)
        run.extra.setdefault("average", {name: w.clone() for name, w in initial.items()})
        run.extra.setdefault("n_averaged", 0)

        def after_step(*_: Any) -> None:
            t = run.extra["n_averaged"] = run.extra["n_averaged"] + 1
            decay = min(self.decay, (1 + t) / (10 + t)) if self.warm_up else self.decay
            mix = get_ema_multi_avg_fn(decay)
            # Looked up at each step: resuming replaces one, spectral normalisation the other.
            weights = _floating(run.networks)
            mix(list(run.extra["average"].values()), list(weights.values()), t)

        run.last_optimizer().register_step_post_hook(after_step)
        run.at_end.append(lambda: run.networks.load_state_dict(run.extra["average"], strict=False))


def _floating(networks: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {n: w for n, w in networks.state_dict().items() if w.is_floating_point()}


class TensorBoardLog(Callback):
    """Write the losses of every epoch for TensorBoard.

    Show them with ``tensorboard --logdir DIR``. Needs ``pip install "gandetect[tensorboard]"``.

    Parameters
    ----------
    log_dir : str or path
        Folder of the event files; made if needed. A fit that continues from a checkpoint adds to
        what is there.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> from gandetect import GANomalyDetector, TensorBoardLog
    >>> X = np.random.default_rng(0).normal(size=(100, 4))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     detector = GANomalyDetector(epochs=3, random_state=0)
    ...     detector.set_callbacks(TensorBoardLog(folder)).fit(X).n_iter_
    3
    """

    def __init__(self, log_dir: str | os.PathLike[str]) -> None:
        self.log_dir = log_dir
        self._writer: Any = None

    def setup(self, estimator: Any, context: CallbackContext) -> None:
        """Refuse before training where TensorBoard is missing."""
        if is_first():
            _summary_writer_class()
            check_writable_folder(self.log_dir)

    def on_fit_task_begin(self, estimator: Any, context: CallbackContext) -> None:
        """Open the event file."""
        if context.task_name == "fit" and is_first():
            self._writer = _summary_writer_class()(str(self.log_dir))

    def on_fit_task_end(self, estimator: Any, context: CallbackContext) -> bool | None:
        """Write the losses of the epoch."""
        if context.task_name != "fit" and self._writer is not None:
            *_, record = current_run().history
            for name, value in record.items():
                if name != "epoch":
                    self._writer.add_scalar(f"loss/{name}", value, int(record["epoch"]))
            self._writer.flush()
        return None

    def teardown(self, estimator: Any, context: CallbackContext) -> None:
        """Close the event file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def _summary_writer_class() -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ImportError(
            'TensorBoardLog needs tensorboard: pip install "gandetect[tensorboard]"'
        ) from error
    return SummaryWriter
