"""What every detector promises, written once.

A method is four hooks (`_build_networks`, `_build_optimizers`, `_train_step`, `_score_parts`) and
what it adds to the parameters; everything public is here.
"""

from __future__ import annotations

import copy
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import ClassNamePrefixFeaturesOutMixin, OutlierMixin, TransformerMixin
from sklearn.callback import CallbackSupportMixin, with_callbacks
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn
from torch.optim import Optimizer

from gandetect.data.reading import read
from gandetect.data.sources import Source, TrainingData, blocks, channels_restored
from gandetect.model.confidence import ConfidenceMixin
from gandetect.model.inference import thinned
from gandetect.model.parameters import check_parameters, check_score
from gandetect.model.persistence import PersistenceMixin
from gandetect.model.scaling import MATCHING_ACTIVATION, Scaler
from gandetect.model.scoring import Calibration, Part, value_of
from gandetect.model.thresholds import check_scores, overflow_as_worst, threshold_at_percentile
from gandetect.networks import default_architecture
from gandetect.training import distributed
from gandetect.training.callbacks import EpochTasks
from gandetect.training.device import draw_seed, isolated_seed, resolve_device
from gandetect.training.loop import TrainingRun, train
from gandetect.training.report import Beginning, TrainingWarning
from gandetect.training.trimming import trimmed

# Rows on which parts are standardised and the first threshold is set, when there are more: enough
# for any quantile, and the memory stays flat.
_MAX_CALIBRATION_ROWS = 50_000


@dataclass(eq=False, repr=False, kw_only=True)
class BaseDetector(
    CallbackSupportMixin,
    ClassNamePrefixFeaturesOutMixin,
    OutlierMixin,
    TransformerMixin,
    PersistenceMixin,
    ConfidenceMixin,
    ABC,
):
    """Base of all detectors: subclass it, fill four hooks, and everything public is there.

    A subclass is a keyword-only dataclass (``@dataclass(eq=False, repr=False, kw_only=True)``)
    whose fields are its own parameters.

    Parameters
    ----------
    {shared_parameters}

    See Also
    --------
    GANomalyDetector : The shortest complete example of the hooks.
    """

    # What a method states. `x` is a scaled batch (K, B, ...) on the device, K the members.

    @abstractmethod
    def _build_networks(self, make: Any) -> dict[str, nn.Module]:
        """The networks by their roles, made by `make`."""

    @abstractmethod
    def _build_optimizers(self, nets: Any) -> dict[str, Optimizer]:
        """The optimizers by whom they move, the one that steps last being the last."""

    @abstractmethod
    def _train_step(
        self, nets: Any, optimizers: dict[str, Optimizer], x: Tensor, progress: float
    ) -> dict[str, Tensor]:
        """Update the networks once; return the losses, (K, B) each."""

    @abstractmethod
    def _score_parts(self, nets: Any, x: Tensor) -> dict[str, Part]:
        """Parts of the score, (K, B) each, larger for worse, without random numbers.

        A part that few scores want may be a function without arguments that computes it.
        """

    @abstractmethod
    def _paper_score(self, parts: dict[str, Any]) -> Tensor:
        """The published score, (K, B), from the parts."""

    @abstractmethod
    def _encode(self, nets: Any, x: Tensor) -> Tensor:
        """Latent codes (K, B, latent_dim)."""

    @abstractmethod
    def _reconstruct(self, nets: Any, x: Tensor) -> Tensor:
        """Reconstructions in the shape of x."""

    def _anomaly_map(self, nets: Any, x: Tensor) -> Tensor:
        """How anomalous each feature (K, B, d) or pixel (K, B, H, W) is."""
        difference = (x - self._reconstruct(nets, x)).abs()
        return difference.mean(dim=2) if difference.ndim == 5 else difference

    def _prepare(
        self, source: Source, rows: np.ndarray, y: Any, device: torch.device, go_on: bool
    ) -> None:
        """Before training: learn what the losses need of the training samples `rows`, and of y."""

    def _check_own_parameters(self) -> None:
        """Raise TypeError or ValueError for a parameter of the method that cannot be used."""

    def _should_stop(self, record: dict[str, float]) -> str | None:
        """After an epoch, with its record of the history: the reason to stop, or None."""

    def _network_shape(self) -> tuple[int, ...]:
        """The shape of a sample that the networks are made for."""
        return self.sample_shape_

    def _prepare_training(self) -> Any:
        """What `_train_step` needs in each step; it is kept in ``current_run().prepared``."""

    def _validation_losses(self, nets: Any, x: Tensor) -> dict[str, Part]:
        """Losses on rows kept from training, (K, B) each."""
        return self._score_parts(nets, x)

    # What every detector does.

    @with_callbacks
    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn what is normal.

        Parameters
        ----------
        X : array-like, Dataset or path
            Rows (n_samples, n_features); images (n_samples, height, width) or with channels where
            `channel_axis` says; flat rows with `image_shape`; a numpy memory map or a torch
            Dataset, which are read batch by batch; or the path of a folder of images, or of a
            Parquet file or directory. At least 2 samples, normal ones as far as you know.
        y : ignored
            There for scikit-learn's interface.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            If a parameter or X cannot be used; nothing is trained, and what an earlier fit
            learned stays as it was.

        Warns
        -----
        ConvergenceWarning
            If a loss is not finite (the last good weights are kept), or Ctrl-C ends the training
            (what was learned is kept).
        TrainingWarning
            If the training came to nothing; ``training_report_`` says in what way.
        """
        check_parameters(self)
        device = resolve_device(self.device)
        distributed.join_process_group(device)
        seed = distributed.same_seed(draw_seed(self.random_state))
        with self._all_or_nothing(), isolated_seed(seed, device):
            go_on = self.warm_start and hasattr(self, "networks_")
            source = read(self, X, reset=not go_on)
            if go_on:
                self._check_same_networks()
            self._fit(source, X, y, device, go_on)
        return self

    def score_samples(self, X: Any) -> np.ndarray:
        """How normal each sample is: the negative of `anomaly_score`, as scikit-learn has it.

        Parameters
        ----------
        X : array-like, Dataset or path
            As in `fit`.

        Returns
        -------
        ndarray of shape (n_samples,), float64
            Larger is more normal.
        """
        return -self.anomaly_score(X)

    def anomaly_score(self, X: Any) -> np.ndarray:
        """The score A(x) of the papers: larger is more anomalous.

        A sample scores the same bits alone, in any batch and in any order, and nothing is
        written to the detector.

        Parameters
        ----------
        X : array-like, Dataset or path
            As in `fit`.

        Returns
        -------
        ndarray of shape (n_samples,), float64
            With the default `score`, in standard deviations of the training samples' scores.
            Always finite: 2**126 where the networks' numbers overflow.
        """
        check_is_fitted(self)
        check_score(self)
        source = read(self, X)
        return overflow_as_worst(self._apply(self._fitted_score_function(), source))

    def decision_function(self, X: Any) -> np.ndarray:
        """``score_samples(X) - offset_``: negative for outliers.

        Parameters
        ----------
        X : array-like, Dataset or path
            As in `fit`.

        Returns
        -------
        ndarray of shape (n_samples,), float64

        Raises
        ------
        ValueError
            If `score`, or what the method's score is made of, was changed after the threshold
            was set.
        """
        scores = self.score_samples(X)
        self._check_threshold()
        return scores - self.offset_

    def predict(self, X: Any) -> np.ndarray:
        """+1 for inliers and -1 for outliers, whose anomaly score exceeds ``threshold_``.

        Parameters
        ----------
        X : array-like, Dataset or path
            As in `fit`.

        Returns
        -------
        ndarray of shape (n_samples,), int
        """
        return np.where(self.decision_function(X) >= 0, 1, -1)

    def transform(self, X: Any) -> np.ndarray:
        """The latent codes of X, those of the members side by side.

        Parameters
        ----------
        X : array-like, Dataset or path
            As in `fit`.

        Returns
        -------
        ndarray of shape (n_samples, n_estimators * latent_dim)
        """
        check_is_fitted(self)
        return self._points("neighbours", read(self, X)).flatten(1).numpy()

    def reconstruct(self, X: Any) -> np.ndarray:
        """What the networks make of X, in X's units: the mean over the members.

        Parameters
        ----------
        X : array-like, Dataset or path
            As in `fit`.

        Returns
        -------
        ndarray of the shape of X
        """
        check_is_fitted(self)
        source = read(self, X)

        def in_units_of_x(nets: Any, x: Tensor) -> Tensor:
            return self.scaler_.inverse(self._reconstruct(nets, x).mean(0).cpu().double())

        x_hat = self._apply(in_units_of_x, source)
        x_hat = channels_restored(x_hat, self.input_shape_, self.channel_axis)
        return x_hat.reshape(len(x_hat), -1) if source.is_flat else x_hat

    def anomaly_map(self, X: Any) -> np.ndarray:
        """Where in each sample the anomaly is: larger is more anomalous.

        Parameters
        ----------
        X : array-like, Dataset or path
            As in `fit`.

        Returns
        -------
        ndarray of shape (n_samples, n_features) or (n_samples, height, width)
            The mean over the members, in scaled units.
        """
        check_is_fitted(self)

        def maps(nets: Any, x: Tensor) -> Tensor:
            return self._anomaly_map(nets, x).mean(0).double()

        return self._apply(maps, read(self, X))

    # Inside.

    def _fit(self, source: Source, X: Any, y: Any, device: torch.device, go_on: bool) -> None:
        rows, held = self._hold_out(len(source))
        if go_on:
            self.networks_ = copy.deepcopy(self.networks_)  # a fit that fails must not move them
        else:
            for name in ("neighbours_", "training_report_"):
                self.__dict__.pop(name, None)
            self.n_members_, self.latent_dim_ = self._n_members(), self._latent_dim()
            self.architecture_ = self.architecture or default_architecture(self.sample_shape_)
            is_image = self._is_fitted_to_images()
            self.scaler_ = Scaler.fitted(self._scaling(), blocks(source), is_image)
            self.networks_ = self._make_networks()
        n_before = len(self.history_) if go_on else 0
        distributed.check_same(partial(self._common_ground, source, n_before))
        self._prepare(source, rows, y, device, go_on)
        nets = self.networks_.to(device)
        data = TrainingData(source, rows, self.scaler_, self.n_members_, self._batch_size(), device)
        history = list(self.history_) if go_on else []
        n_epochs = len(history) + self._n_epochs(data.n_batches)
        optimizers = self._build_optimizers(nets)
        if not self._is_sound(device):
            raise ValueError("Scores overflow before any training: divide X by a power of ten.")
        report_rows = self._rows_of_the_report(rows)
        beginning = Beginning.of(
            nets,
            partial(self._reconstructions, source, report_rows),
            self.training_report_ if go_on else None,
        )
        learned = partial(self._learned, source, rows, held, beginning)
        self._run = TrainingRun(
            nets, optimizers, n_epochs, len(source), history, len(history), learned
        )
        try:
            self._run.prepared = self._prepare_training()
            fit_task = self._init_callback_context(max_subtasks=n_epochs)
            fit_task.call_on_fit_task_begin(estimator=self, X=X, y=y)
            with EpochTasks(self, fit_task, X, y) as tasks:
                train(
                    self._run,
                    self._step(nets),
                    data,
                    partial(self._validate, source, held),
                    tasks,
                    partial(self._is_sound, device),
                )
            fit_task.call_on_fit_task_end(estimator=self, X=X, y=y)
            nets.eval()
            self.__dict__.pop("normal_scores_", None)
            self.__dict__.update(self._run.learned_together())
            check_scores(self.threshold_)
            if self.training_report_.problems and not self._run.has_diverged:
                warnings.warn(self.training_report_.message(), TrainingWarning, stacklevel=4)
        finally:
            del self._run

    def _step(self, nets: nn.ModuleDict) -> Callable[[Tensor, float], dict[str, Tensor]]:
        """The method's step, on what is left of a batch."""
        step = partial(self._train_step, nets, self._run.optimizers)
        return trimmed(step, nets, self._reconstruct, self.trim) if self.trim else step

    def _check_same_networks(self) -> None:
        """Raise ValueError if `warm_start` cannot go on with the networks that are there."""
        asked: dict[str, Any] = {
            "n_estimators": self._n_members(),
            "latent_dim": self._latent_dim(),
        }
        learned: dict[str, Any] = {"n_estimators": self.n_members_, "latent_dim": self.latent_dim_}
        if self.architecture is not None:
            asked["architecture"], learned["architecture"] = self.architecture, self.architecture_
        for name, value in asked.items():
            if value != learned[name]:
                raise ValueError(
                    f"warm_start=True goes on from networks with {name}={learned[name]!r}, but "
                    f"{name} is now {value!r}: set it back, or fit with warm_start=False."
                )

    def _hold_out(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        """The samples to train on and those kept for validation, in the order of X."""
        n_held = int(n * self.validation_fraction)
        order = torch.randperm(n).numpy() if n_held else np.arange(n)
        if n - n_held < 2:
            raise ValueError(
                f"validation_fraction={self.validation_fraction} leaves {n - n_held} of {n} "
                "samples to train on: lower it, or give more samples."
            )
        return np.sort(order[n_held:]), np.sort(order[:n_held])

    def _learned(
        self, source: Source, rows: np.ndarray, held: np.ndarray, beginning: Beginning
    ) -> dict[str, Any]:
        """What is learned when the networks are: references, calibration, threshold, history."""
        rows, held = (thinned(kept, _MAX_CALIBRATION_ROWS) for kept in (rows, held))
        learned: dict[str, Any] = {
            "threshold_score_": self._score_definition(),
            "history_": self._run.history,
            "n_iter_": len(self._run.history),
            "stop_reason_": self._run.stop_reason,
        }
        fits = self._that_fit(source, rows)
        neighbours = self._neighbours(source, rows[fits])
        if neighbours:
            learned["neighbours_"] = neighbours
        parts_of = self._parts_function(neighbours)
        parts = self._parts(parts_of, source, rows)
        fitting = {name: values[:, fits] for name, values in parts.items()}
        calibration = learned["calibration_"] = Calibration.of(fitting)
        learned["training_report_"] = beginning.report(self._run, self._scored_parts(fitting))
        if len(held):
            scores = self._apply(self._score_function(parts_of, calibration), source, held)
        else:  # the same samples, whose parts are there
            scores = self._member_scores(parts, calibration).mean(0).numpy()
        # Of training samples the share itself is flagged; of others, the share of new ones.
        learned["threshold_"] = threshold_at_percentile(
            scores, 100 * self.contamination, method="weibull" if len(held) else "linear"
        )
        if len(held):
            learned["normal_scores_"] = np.sort(scores)
            learned["normal_scores_score_"] = self._score_definition()
        return learned

    @torch.inference_mode()
    def _is_sound(self, device: torch.device) -> bool:
        """Whether the parts of the score are finite, for the middle of the scaled range."""
        x = torch.full((self.n_members_, 2, *self.sample_shape_), 0.1, device=device)
        parts = self._score_parts(self.networks_, x)
        return all(bool(value_of(part).isfinite().all()) for part in parts.values())

    def _validate(self, source: Source, held: np.ndarray) -> dict[str, float]:
        """Means of the validation losses, by names that begin with "validation_"."""
        if not len(held):
            return {}
        losses = self._parts(self._validation_losses, source, held)
        return {f"validation_{name}": float(values.mean()) for name, values in losses.items()}

    def _make_networks(self) -> nn.ModuleDict:
        activation = self.architecture_.output_activation
        if activation == "auto":
            activation = MATCHING_ACTIVATION[self.scaler_.kind]
        make = self.architecture_.bind(self._network_shape(), self.n_members_, activation)
        return nn.ModuleDict(self._build_networks(make)).eval()

    def _adam(self, *modules: nn.Module, beta_1: float = 0.5) -> Optimizer:
        """Adam with DCGAN's momentum, or another, over the weights of these modules."""
        parameters = [p for module in modules for p in module.parameters()]
        return torch.optim.Adam(parameters, self.learning_rate, betas=(beta_1, 0.999), fused=True)

    def current_run(self) -> TrainingRun:
        """The training under way, for callbacks."""
        return self._run

    def fitted_so_far(self) -> Self:
        """A detector as if the training under way had ended here, for callbacks."""
        detector = copy.copy(self)
        del detector._run
        detector.__dict__.update(self._run.learned())
        return detector

    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        """Put back what an earlier fit learned if this one raises."""
        before = {name: value for name, value in vars(self).items() if name.endswith("_")}
        try:
            yield
        except BaseException:
            for name in [name for name in vars(self) if name.endswith("_")]:
                delattr(self, name)
            self.__dict__.update(before)
            raise

    # scikit-learn's protocol.

    @property
    def offset_(self) -> float:
        """``-threshold_``, in units of `score_samples`."""
        return -self.threshold_

    @property
    def _n_features_out(self) -> int:
        return self.n_members_ * self.latent_dim_

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "threshold_")

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags
