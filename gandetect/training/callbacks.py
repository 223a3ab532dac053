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

# What `read_archive` must find in a file of `Checkpoint`.
_CHECKPOINT = (
    "fingerprint",
    "is no checkpoint, such as a file of save: pass Checkpoint a path of its own.",
)


class Callback:
    """The four hooks of the protocol, which do nothing; the root task is named "fit"."""

    def setup(self, estimator: Any, context: CallbackContext) -> None:
        """Run before the first task."""

    def teardown(self, estimator: Any, context: CallbackContext) -> None:
        """Run after the last task, also when fit raises."""

    def on_fit_task_begin(self, estimator: Any, context: CallbackContext) -> None:
        """Run before training and before each epoch."""

    def on_fit_task_end(self, estimator: Any, context: CallbackContext) -> bool | None:
        """Run after each epoch and after training; True stops."""


class EarlyStopping(Callback):
    """Stop if a loss has not decreased for some epochs, and restore the best weights.

    Parameters
    ----------
    monitor : str or None, default=None
        A key of the records in ``history_``. Keys that begin with ``"validation_"`` exist if the
        detector has a `validation_fraction`; they are losses on held-out samples. None is the first
        existing one of: "validation_reconstruction", another validation loss, "reconstruction",
        another loss.
    patience : int, default=10
        Epochs without improvement before training stops.
    min_delta : float, default=0.0
        A decrease of at most this is not an improvement.
    restore_best : bool, default=True
        Whether the weights after the best epoch are restored.

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
        """Raise ValueError for a missing validation loss, before the training."""
        if context.task_name != "fit":
            return
        run = current_run()
        if self.restore_best:
            run.at_end.append(lambda: _restore_best(run))
        if not (self.monitor or "").startswith("validation_"):
            return
        if not estimator.validation_fraction:
            raise ValueError(
                f"EarlyStopping monitors {self.monitor!r}, which needs held-out samples: "
                "set validation_fraction above 0, or pass another loss as monitor."
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
        """Compare the last epoch with the best; True if there is no improvement."""
        if context.task_name == "fit":
            return None
        run = current_run()
        names = [name for name in run.history[-1] if name != "epoch"]
        self._check_monitor(estimator, names)
        monitor = self._monitored(names)
        # Only the history is used, so that a resumed training stops at the same epoch as an
        # uninterrupted one.
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
    """Store the state of the training every few epochs, and resume it after an interruption.

    An interrupted fit (by a crash or Ctrl-C) that is started again with the same parameters, the
    same X and y and the same checkpoint file gives the same bits as an uninterrupted one. After a
    complete fit the file is not deleted; delete it to train from the start.

    Parameters
    ----------
    path : str or path
        One file, data only; the write of each checkpoint is atomic.
    every_n_epochs : int, default=1
    resume : bool, default=True
        Whether an existing file is resumed. With False it is overwritten.

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
        """Raise OSError before the training if the file cannot be written."""
        if is_first():
            check_writable(self.path)

    def on_fit_task_begin(self, estimator: Any, context: CallbackContext) -> None:
        """Resume from the file, if there is one; before an epoch, write the previous state."""
        run = current_run()
        if context.task_name != "fit":
            # All callbacks have then processed the last epoch.
            if run.history and len(run.history) % self.every_n_epochs == 0:
                self._write()
        # The other processes receive the state of the first, because they may lack its file.
        elif self.resume and is_first() and Path(self.path).exists():
            self._resume()

    def on_fit_task_end(self, estimator: Any, context: CallbackContext) -> bool | None:
        """Write the final state of a completed training."""
        if context.task_name == "fit" and current_run().is_done:
            self._write()
        return None

    def _write(self) -> None:
        if not is_first():  # all processes have the same state; the first one writes it
            return
        run = current_run()
        write_archive(self.path, {"fingerprint": run.fingerprint(), "run": run.state()})

    def _resume(self) -> None:
        state = read_archive(self.path, holds=_CHECKPOINT)
        run = current_run()
        try:
            is_ours = state.get("fingerprint") == run.fingerprint()
            if is_ours and state["run"]["n_samples"] == run.n_samples:
                _check_kept(state["run"]["extra"], run)
                run.resume(state["run"])
                return
        except DAMAGE as error:
            raise ArchiveError(
                f"The checkpoint {str(self.path)!r} is not a complete training: {error}"
            ) from error
        raise ValueError(
            f"The checkpoint {str(self.path)!r} belongs to a detector with other parameters "
            "or another X or y. Delete it, or pass resume=False to overwrite it."
        )


def _check_kept(extra: dict[str, Any], run: TrainingRun) -> None:
    """Raise ValueError if the callbacks cannot continue with their stored state."""
    if "best_weights" in extra:
        check_weights(extra["best_weights"], run.networks.state_dict())
    if "average" in extra:
        check_weights(extra["average"], _floating(run.networks))
        if type(extra["n_averaged"]) is not int or extra["n_averaged"] < 0:
            raise ValueError(f"the number of updates of its average is {extra['n_averaged']!r:.40}")


class ExponentialMovingAverage(Callback):
    """Score with an exponential moving average of the weights instead of their last values.

    In adversarial training the weights oscillate; their average varies less. It is updated after
    every step, with the batch statistics, and replaces the weights at the end of training.

    Parameters
    ----------
    decay : float in [0, 1), default=0.999
        Weight of the previous average. EGBAD uses 0.999 on images and 0.9999 on rows.
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
        """Start averaging after each step of the last optimizer of an update."""
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
            # Looked up in each step, because resuming and spectral normalisation replace them.
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
        Folder of the event files, created if needed. A fit that resumes from a checkpoint appends.

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
        """Raise ImportError before the training if TensorBoard is missing."""
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
