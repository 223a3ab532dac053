"""What every detector promises, written once.

A method is four hooks (`_build_networks`, `_build_optimizers`, `_train_step`, `_score_parts`) and
what it adds to the parameters; everything public is here.
"""

from __future__ import annotations

import copy
import math
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    OutlierMixin,
    TransformerMixin,
)
from sklearn.callback import CallbackSupportMixin, with_callbacks
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn
from torch.optim import Optimizer

from gandetect import archive
from gandetect.callbacks import EpochTasks
from gandetect.data import Source, TrainingData, blocks, channels_restored, scoring_blocks
from gandetect.device import RandomState, draw_seed, isolated_seed, resolve_device
from gandetect.networks import ARCHITECTURES, Architecture, default_architecture
from gandetect.parameters import SHARED_PARAMETERS, ScoreParameter, check_parameters, check_score
from gandetect.reading import read
from gandetect.scaling import MATCHING_ACTIVATION, Scaler
from gandetect.scoring import Calibration, mix
from gandetect.thresholds import threshold_at_percentile
from gandetect.training import TrainingRun, train

# Rows on which parts are standardised and the first threshold is set, when there are more: enough
# for any quantile, and the memory stays flat.
_MAX_CALIBRATION_ROWS = 50_000
SAVED_CLASSES = (Scaler, Calibration, *ARCHITECTURES)
_LEARNED = (
    "scaler_",
    "calibration_",
    "history_",
    "input_shape_",
    "sample_shape_",
    "n_features_in_",
    "feature_names_in_",
    "n_iter_",
    "stop_reason_",
    "threshold_",
    "threshold_score_",
)


@dataclass(eq=False, repr=False, kw_only=True)
class BaseDetector(
    CallbackSupportMixin,
    ClassNamePrefixFeaturesOutMixin,
    OutlierMixin,
    TransformerMixin,
    BaseEstimator,
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

    latent_dim: int | str = "auto"
    architecture: Architecture | None = None
    n_estimators: int | str = "auto"
    epochs: int | str = "auto"
    batch_size: int = 64
    learning_rate: float = 1e-3
    contamination: float = 0.1
    image_shape: tuple[int, ...] | None = None
    channel_axis: int | None = -1
    scaling: str = "auto"
    score: str | Mapping[str, float] | None = ScoreParameter()  # type: ignore[assignment]  # reads None on the class
    validation_fraction: float = 0.0
    warm_start: bool = False
    device: str = "auto"
    random_state: RandomState = None
    verbose: int = 0

    # The names of the parts that `_score_parts` returns, and their weights in the default score.
    part_weights: ClassVar[dict[str, float]]
    # Updates that epochs="auto" stands for, of rows and of images.
    auto_updates: ClassVar[tuple[int, int]] = (1000, 1000)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.__doc__:
            cls.__doc__ = cls.__doc__.replace("{shared_parameters}", SHARED_PARAMETERS)

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
    def _score_parts(self, nets: Any, x: Tensor) -> dict[str, Tensor]:
        """Parts of the score, (K, B) each, larger for worse, without random numbers."""

    @abstractmethod
    def _paper_score(self, parts: dict[str, Tensor]) -> Tensor:
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

    def _validation_losses(self, nets: Any, x: Tensor) -> dict[str, Tensor]:
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
            Dataset, which are read batch by batch; or the path of a folder of images. At least 2
            samples, normal ones as far as you know.
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
        """
        check_parameters(self)
        device = resolve_device(self.device)
        with self._all_or_nothing(), isolated_seed(draw_seed(self.random_state), device):
            source = read(self, X, reset=True)
            self._fit(source, X, y, device)
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
        """
        check_is_fitted(self)
        check_score(self)
        return self._score(read(self, X))

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
            If `score` was changed after the threshold was set.
        """
        scores = self.score_samples(X)
        if self.chosen_score != self.threshold_score_:
            raise ValueError(
                f"The threshold was set with score={self.threshold_score_!r} and means nothing "
                f"for score={self.chosen_score!r}: call infer_threshold or fit again."
            )
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
        return np.where(self.decision_function(X) < 0, -1, 1)

    def infer_threshold(self, X: Any, outlier_perc: float = 5.0) -> Self:
        """Move the threshold so that this percentage of X is flagged.

        Parameters
        ----------
        X : array-like, Dataset or path
            As in `fit`. On a mixed batch, give the percentage of outliers you expect in it; on
            normal samples kept from `fit`, the percentage is the false-alarm rate you accept.
        outlier_perc : float in [0, 100], default=5.0
            With 0 nothing in X is flagged, with 100 everything. Samples that tie with the
            threshold are not flagged, so that ties flag fewer, never more.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If `outlier_perc` lies outside [0, 100].
        """
        scores = self.anomaly_score(X)
        self.threshold_ = threshold_at_percentile(scores, outlier_perc)
        self.threshold_score_ = self.chosen_score
        return self

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

        def codes(nets: Any, x: Tensor) -> Tensor:
            return self._encode(nets, x).transpose(0, 1).flatten(1)

        return self._apply(codes, read(self, X))

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

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save the fitted detector as data only: JSON and tensors in one safetensors file.

        Parameters
        ----------
        path : str or path
            The file is replaced as a whole, or not at all. Read it with `gandetect.load`.

        Raises
        ------
        TypeError
            If a parameter is not data, such as a network or a function of your own.
        """
        check_is_fitted(self)
        parameters = self.get_params(deep=False)
        if not isinstance(self.random_state, int | None):
            parameters["random_state"] = None  # a generator's state is no part of what was learned
        learned = {name: getattr(self, name) for name in _LEARNED if hasattr(self, name)}
        tree = {
            "detector": type(self).__name__,
            "parameters": parameters,
            "learned": learned,
            "networks": dict(self.networks_.state_dict()),
        }
        archive.write_archive(path, tree, SAVED_CLASSES)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Load a detector of this class that `save` wrote; its scores are the same bits.

        Parameters
        ----------
        path : str or path

        Returns
        -------
        detector

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ArchiveError
            If the file is damaged or holds something else.
        """
        tree = archive.read_archive(path, SAVED_CLASSES)
        if tree.get("detector") != cls.__name__:
            raise archive.ArchiveError(
                f"{str(path)!r} holds a {tree.get('detector')}, not a {cls.__name__}: use "
                "gandetect.load."
            )
        return cls.from_tree(tree)

    # Inside.

    def _fit(self, source: Source, X: Any, y: Any, device: torch.device) -> None:
        rows, held = self._hold_out(len(source))
        go_on = self.warm_start and hasattr(self, "networks_")
        if go_on:
            self.networks_ = copy.deepcopy(self.networks_)  # a fit that fails must not move them
        else:
            is_image = len(self.sample_shape_) > 1
            self.scaler_ = Scaler.fitted(self.scaling, blocks(source), is_image)
            self.networks_ = self._make_networks()
        nets = self.networks_.to(device)
        data = TrainingData(source, rows, self.scaler_, self._n_members(), self.batch_size, device)
        history = list(self.history_) if go_on else []
        n_epochs = len(history) + self._n_epochs(data.n_batches)
        self._run = TrainingRun(nets, self._build_optimizers(nets), n_epochs, history)
        try:
            fit_task = self._init_callback_context(max_subtasks=n_epochs)
            fit_task.call_on_fit_task_begin(estimator=self, X=X, y=y)
            with EpochTasks(
                self, fit_task, X, y, partial(self._learned, source, rows, held)
            ) as tasks:
                train(
                    self._run,
                    partial(self._train_step, nets, self._run.optimizers),
                    data,
                    partial(self._validate, source, held),
                    tasks,
                )
            fit_task.call_on_fit_task_end(estimator=self, X=X, y=y)
            nets.eval()
            vars(self).update(self._learned(source, rows, held))
        finally:
            del self._run

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

    def _learned(self, source: Source, rows: np.ndarray, held: np.ndarray) -> dict[str, Any]:
        """What is learned when the networks are: calibration, threshold and history."""
        rows, held = (_thinned(kept, _MAX_CALIBRATION_ROWS) for kept in (rows, held))
        calibration = Calibration.of(self._parts(source, rows))
        scores = self._score(source, held if len(held) else rows, calibration)
        return {
            "calibration_": calibration,
            "threshold_": threshold_at_percentile(scores, 100 * self.contamination),
            "threshold_score_": self.chosen_score,
            "history_": self._run.history,
            "n_iter_": len(self._run.history),
            "stop_reason_": self._run.stop_reason,
        }

    def _validate(self, source: Source, held: np.ndarray) -> dict[str, float]:
        """Means of the validation losses, by names that begin with "validation_"."""
        if not len(held):
            return {}
        losses = self._by_sample(self._validation_losses, source, held)
        return {f"validation_{name}": float(values.mean()) for name, values in losses.items()}

    def _parts(self, source: Source, rows: np.ndarray) -> dict[str, Tensor]:
        """The parts of the score of some samples, (K, n) each."""
        parts = self._by_sample(self._score_parts, source, rows)
        return {name: values.transpose(0, 1) for name, values in parts.items()}

    def _by_sample(
        self, function: Callable[[Any, Tensor], dict[str, Tensor]], source: Source, rows: np.ndarray
    ) -> dict[str, Tensor]:
        """What `function` gives for some samples, (n, K) each."""
        names: list[str] = []

        def stacked(nets: Any, x: Tensor) -> Tensor:
            values = function(nets, x)
            names[:] = values
            return torch.stack(list(values.values())).permute(2, 1, 0)

        columns = torch.from_numpy(self._apply(stacked, source, rows)).unbind(2)
        return dict(zip(names, columns, strict=True))

    def _score(
        self,
        source: Source,
        rows: np.ndarray | None = None,
        calibration: Calibration | None = None,
    ) -> np.ndarray:
        calibration = calibration or self.calibration_

        def anomaly_score(nets: Any, x: Tensor) -> Tensor:
            parts = self._score_parts(nets, x)
            if self.chosen_score == "paper":
                return self._paper_score(parts).cpu().double().mean(0)
            return mix(parts, self._weights(), calibration)

        return self._apply(anomaly_score, source, rows)

    def _weights(self) -> Mapping[str, float]:
        score = self.chosen_score
        if score is None:
            return self.part_weights
        return {score: 1.0} if isinstance(score, str) else score

    def _apply(
        self,
        function: Callable[[Any, Tensor], Tensor],
        source: Source,
        rows: np.ndarray | None = None,
    ) -> np.ndarray:
        """Join what ``function(nets, x)``, samples first, gives for each block of samples.

        Blocks have one size, and what depends on a sample is computed inside them, so that it
        comes out in the same bits wherever the sample stands.
        """
        device = resolve_device(self.device)
        nets = self.networks_.to(device)
        size = _block_size(self.sample_shape_)
        results = []
        with torch.inference_mode():
            for x, n_real in scoring_blocks(source, rows, self.scaler_, size, device):
                x = x.expand(self._n_members(), *x.shape)
                results.append(function(nets, x)[:n_real].cpu())
        return torch.cat(results).numpy()

    def _make_networks(self) -> nn.ModuleDict:
        architecture = self.architecture or default_architecture(self.sample_shape_)
        activation = architecture.output_activation
        if activation == "auto":
            activation = MATCHING_ACTIVATION[self.scaler_.kind]
        make = architecture.bind(self.sample_shape_, self._n_members(), activation)
        return nn.ModuleDict(self._build_networks(make)).eval()

    def _n_members(self) -> int:
        if self.n_estimators != "auto":
            return int(self.n_estimators)
        return 8 if len(self.sample_shape_) == 1 else 2

    def _latent_dim(self) -> int:
        if self.latent_dim != "auto":
            return int(self.latent_dim)
        return self.sample_shape_[0] if len(self.sample_shape_) == 1 else 32

    def _n_epochs(self, n_batches: int) -> int:
        if self.epochs != "auto":
            return int(self.epochs)
        return math.ceil(self.auto_updates[len(self.sample_shape_) > 1] / n_batches)

    def _adam(self, *modules: nn.Module) -> Optimizer:
        """Adam with DCGAN's momentum over the weights of these modules."""
        parameters = [p for module in modules for p in module.parameters()]
        return torch.optim.Adam(parameters, self.learning_rate, betas=(0.5, 0.999), fused=True)

    def current_run(self) -> TrainingRun:
        """The training under way, for callbacks."""
        return self._run

    def fingerprint(self) -> str:
        """What a checkpoint must agree on: the detector, its parameters and the shape of X."""
        parameters = {
            name: value
            for name, value in self.get_params(deep=False).items()
            if name not in ("verbose", "device", "score", "contamination")
        }
        return f"{type(self).__name__} {self.sample_shape_} {parameters}"

    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        """Put back what an earlier fit learned if this one raises."""
        before = {name: value for name, value in vars(self).items() if name.endswith("_")}
        try:
            yield
        except BaseException:
            for name in [name for name in vars(self) if name.endswith("_")]:
                delattr(self, name)
            vars(self).update(before)
            raise

    @classmethod
    def from_tree(cls, tree: dict[str, Any]) -> Self:
        """Rebuild a detector from what `save` stored."""
        detector = cls(**tree["parameters"])
        vars(detector).update(tree["learned"])
        detector._restore_networks(tree["networks"])
        return detector

    def _restore_networks(self, weights: dict[str, Tensor]) -> None:
        with isolated_seed(0, torch.device("cpu")):  # the initial weights are overwritten
            self.networks_ = self._make_networks()
        self.networks_.load_state_dict(weights)

    # scikit-learn's protocol.

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The parameters by name, with those of nested estimators if `deep`."""
        parameters = {field.name: vars(self)[field.name] for field in fields(self)}
        if deep:
            for name, value in list(parameters.items()):
                if hasattr(value, "get_params") and not isinstance(value, type):
                    nested = value.get_params().items()
                    parameters.update({f"{name}__{key}": entry for key, entry in nested})
        return parameters

    @property
    def chosen_score(self) -> str | Mapping[str, float] | None:
        """The parameter `score`; see `ScoreParameter` for why it is read here."""
        return vars(self)["score"]

    @property
    def offset_(self) -> float:
        """``-threshold_``, in units of `score_samples`."""
        return -self.threshold_

    @property
    def _n_features_out(self) -> int:
        return self._n_members() * self._latent_dim()

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "threshold_")

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        if "networks_" not in state:
            return state
        # Weights on the CPU instead of networks: they open on a machine without the device.
        weights = {name: w.cpu() for name, w in state["networks_"].state_dict().items()}
        return {**state, "networks_": weights}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "networks_" in state:
            self._restore_networks(state["networks_"])


def _thinned(rows: np.ndarray, n_max: int) -> np.ndarray:
    """At most `n_max` of the rows, evenly spread."""
    return rows if len(rows) <= n_max else rows[np.linspace(0, len(rows) - 1, n_max).astype(int)]


def _block_size(sample_shape: tuple[int, ...]) -> int:
    """Samples scored at once: as many as keep the operations busy and the memory small."""
    if len(sample_shape) == 1:
        return 512
    return 2 ** int(math.log2(min(max(2**18 // math.prod(sample_shape), 8), 64)))
