"""The parameters that all detectors share, and what their automatic values stand for."""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator
from torch import nn

from gandetect.model.parameters import SHARED_PARAMETERS
from gandetect.model.scaling import Scaler
from gandetect.model.scoring import Calibration, Neighbours
from gandetect.networks import Architecture
from gandetect.training.device import RandomState
from gandetect.training.report import TrainingReport

if TYPE_CHECKING:
    from gandetect.data.sources import Source

# What a checkpoint need not agree on: these change nothing about the training.
_WITHOUT_EFFECT = {"verbose", "device", "score", "contamination"}
# What the processes of one fit need not agree on: the seed is the first's.
_OF_EACH_PROCESS = {"verbose", "device", "random_state"}
# Samples that the processes compare, and how many of their values.
_N_COMPARED, _MAX_COMPARED_VALUES = 8, 10_000


class Learned(BaseEstimator):
    """What `fit` learns.

    Attributes
    ----------
    networks_ : ModuleDict
        The networks of all members by their roles.
    scaler_ : Scaler
    n_members_, latent_dim_ : int
        What `n_estimators` and `latent_dim` came to.
    architecture_ : MLP or ConvNet
        What `architecture` came to.
    calibration_ : Calibration
        Mean and spread of the score's parts on training samples.
    neighbours_ : dict of str to Neighbours
        Codes of training samples, and these themselves, as far as the score has a distance to them.
    threshold_ : float
        The anomaly score above which a sample is flagged.
    threshold_score_ : dict
        `score`, and the method's own parameters of its score, that the threshold was set with.
    normal_scores_ : ndarray
        Sorted anomaly scores of normal samples kept from training, if there are any.
    normal_scores_score_ : dict
        As `threshold_score_`, for `normal_scores_`.
    training_report_ : TrainingReport
        Whether training went wrong, and the figures that tell.
    history_ : list of dict
        One record an epoch: its number, and the mean of every loss.
    n_iter_ : int
        Epochs trained.
    stop_reason_ : str
        Why training ended.
    n_features_in_ : int
        Values in a sample: columns of rows, or height times width times channels.
    feature_names_in_ : ndarray of str
        Only if X had column names.
    input_shape_ : tuple of int
        Shape of a sample as the user has it.
    sample_shape_ : tuple of int
        Shape of a sample as the networks see it: (d,) or (channels, height, width).
    is_flat_ : bool
        Whether the samples were images that came as flat rows.
    """

    networks_: nn.ModuleDict
    scaler_: Scaler
    n_members_: int
    latent_dim_: int
    architecture_: Architecture
    calibration_: Calibration
    neighbours_: dict[str, Neighbours]
    threshold_: float
    threshold_score_: dict[str, Any]
    normal_scores_: np.ndarray
    normal_scores_score_: dict[str, Any]
    training_report_: TrainingReport
    history_: list[dict[str, float]]
    n_iter_: int
    stop_reason_: str
    n_features_in_: int
    input_shape_: tuple[int, ...]
    sample_shape_: tuple[int, ...]
    is_flat_: bool


class ScoreParameter:
    """Lets a detector have a parameter `score` and, to scikit-learn, no method of that name.

    scikit-learn takes an attribute `score` for the method that judges an estimator. Reading it on
    a detector therefore raises AttributeError, so that a search without `scoring` gets
    scikit-learn's own clear error; the value stands in ``get_params()["score"]``.
    """

    def __get__(self, detector: SharedParameters | None, owner: type) -> None:
        if detector is not None:
            raise AttributeError(
                "score is a parameter, not a method: read it with get_params()['score']. To judge "
                "a detector use the scorers of gandetect.metrics."
            )

    def __set__(self, detector: SharedParameters, value: object) -> None:
        detector.__dict__["score"] = value


@dataclass(eq=False, repr=False, kw_only=True)
class SharedParameters(Learned):
    """The seventeen parameters of every detector, each said once."""

    latent_dim: int | str = "auto"
    architecture: Architecture | None = None
    n_estimators: int | str = "auto"
    epochs: int | str = "auto"
    batch_size: int | str = "auto"
    learning_rate: float = 1e-3
    contamination: float = 0.1
    image_shape: tuple[int, ...] | None = None
    channel_axis: int | None = -1
    scaling: str = "auto"
    score: Any = ScoreParameter()
    validation_fraction: float = 0.0
    trim: float = 0.0
    warm_start: bool = False
    device: str = "auto"
    random_state: RandomState = None
    verbose: int = 0

    # Members that n_estimators="auto" stands for, of rows and of images.
    auto_members: ClassVar[tuple[int, int]] = (8, 2)
    # Updates that epochs="auto" stands for, of rows and of images.
    auto_updates: ClassVar[tuple[int, int]] = (800, 500)
    # What scaling="auto" stands for, of rows and of images.
    auto_scaling: ClassVar[tuple[str, str]] = ("standard", "symmetric")

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.__doc__:
            cls.__doc__ = cls.__doc__.replace("{shared_parameters}", SHARED_PARAMETERS)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Get the parameters by name, with those of nested estimators if `deep`."""
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

    def fingerprint(self) -> str:
        """What a checkpoint must agree on: the detector, its parameters and what X looks like."""
        parameters = self.get_params(deep=False)
        kept = {name: parameters[name] for name in parameters if name not in _WITHOUT_EFFECT}
        data = zlib.crc32(self.scaler_.center.tobytes() + self.scaler_.spread.tobytes())
        return f"{type(self).__name__} {self.sample_shape_} {data} {kept}"

    def _common_ground(self, source: Source, n_epochs_before: int) -> dict[str, Any]:
        """What the processes of one fit must agree on, by what it is called in the plural."""
        facts: dict[str, Any] = {"classes": type(self).__name__}
        for name, value in self.get_params(deep=False).items():
            if name not in _OF_EACH_PROCESS:
                # Where in memory something stands is each process's own.
                facts[f"values of {name}"] = re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))
        facts["numbers of samples"] = len(source)
        facts["shapes of a sample"] = self.sample_shape_
        facts["numbers of epochs before this fit"] = n_epochs_before
        if not source.is_lazy:  # an X that augments gives each process samples of its own
            rows = np.linspace(0, len(source) - 1, _N_COMPARED).astype(int)
            values = self.scaler_(source.read(np.unique(rows))).flatten().numpy()
            facts["samples"] = values[:: len(values) // _MAX_COMPARED_VALUES + 1]
        center, spread = self.scaler_.center, self.scaler_.spread
        facts["means or ranges of X"] = np.stack([center / spread, np.log(spread)])
        return facts

    def _is_fitted_to_images(self) -> bool:
        return len(self.sample_shape_) > 1

    def _n_members(self) -> int:
        if self.n_estimators != "auto":
            return int(self.n_estimators)
        return self.auto_members[self._is_fitted_to_images()]

    def _latent_dim(self) -> int:
        if self.latent_dim != "auto":
            return int(self.latent_dim)
        return 32 if self._is_fitted_to_images() else (self.sample_shape_[0] + 1) // 2

    def _batch_size(self) -> int:
        return 64 if self.batch_size == "auto" else int(self.batch_size)

    def _scaling(self) -> str:
        if self.scaling != "auto":
            return self.scaling
        return self.auto_scaling[self._is_fitted_to_images()]

    def _n_epochs(self, n_batches: int) -> int:
        if self.epochs != "auto":
            return int(self.epochs)
        return math.ceil(self._updates()[self._is_fitted_to_images()] / n_batches)

    def _updates(self) -> tuple[int, int]:
        """The updates that epochs="auto" stands for, of rows and of images."""
        return self.auto_updates
