"""The fitted model: one torch module from a sample in the units of X to its score and label."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import lru_cache, partial
from numbers import Integral, Real
from typing import Any, ClassVar, Generic, Self, TypeVar

import joblib
import numpy as np
import torch
from sklearn.utils import check_scalar
from threadpoolctl import ThreadpoolController
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.overrides import TorchFunctionMode

from gandetect.data.columns import GAP_LEVEL
from gandetect.data.sources import Layout, Source, in_order, scoring_blocks
from gandetect.distributed import RandomNumbers, divided
from gandetect.losses import mean_absolute_error
from gandetect.model.known import KNOWN, KNOWN_WEIGHT
from gandetect.model.parameters import SharedParameters
from gandetect.model.statistics import (
    MATCHING_ACTIVATION,
    WORST_SCORE,
    Calibration,
    Neighbours,
    Part,
    Scaler,
    mix,
    value_of,
)
from gandetect.networks import MLP, ConvNet, NetworkMaker
from gandetect.networks.members import without_weights

# The largest difference of a score between batches, positions, numbers of threads or processors: in
# standard deviations, or relative to the score if that is larger.
SCORE_TOLERANCE = 1e-5
# The largest default size of codes.
_LONGEST_CODE = 256
# Rows with more columns have fewer members by default.
_WIDE = 256
# Weight of the distance to the nearest rows of a table in a default score, as a multiple of that of
# all other parts: networks reconstruct categories and missing values worse than numbers. See
# benchmarks/ideas.md.
WEIGHT_IN_TABLES = 3.0
# Weights of the reconstruction error and of the difference to the nearest rows in maps of tables.
_WEIGHTS_IN_MAPS = (2.0, 1.0)
# Number of values in a block of samples: large enough for efficiency, small enough for memory.
_BLOCK_VALUES = 2**18
# Largest number of samples that standardise the parts and set the first threshold.
_MOST_CALIBRATED = 50_000
# For rows and for images: the number of samples in a block is a multiple of this. With these, and
# with the padded outputs of `MemberLinear`, a sample was observed to have the same bits at any
# position of any batch, with Intel's MKL (AVX-512, AVX2 and compatible kernels) and oneDNN.
_MULTIPLES = (16, 8)

# What a method must define.
_HOOKS = (
    *("part_weights", "build", "optimizers", "training_step"),
    *("parts", "paper_score", "encode", "reconstruct"),
)

P = TypeVar("P", bound=SharedParameters)
PartsFunction = Callable[[Tensor], Mapping[str, Part]]


class Model(nn.Module, Generic[P]):
    """Scaler, networks of all members, calibration, references and threshold of one fit.

    A method subclasses it: `build` makes the networks, `training_step` trains them, and `parts`,
    `encode` and `reconstruct` use them. In these hooks ``x`` is a batch that is scaled and on the
    device, with the members first: rows ``(K, B, d)``, images ``(K, B, C, H, W)``. Everything that
    needs a score (`BaseDetector`, exported files, Dask, the server) uses this object.

    Parameters
    ----------
    settings : BaseDetector
        The parameters of the fit, with the values that replaced "auto". They cannot be changed, and
        are independent of later changes of the detector.
    layout : Layout
        The layout of a sample.
    scaler : Scaler
    generator : torch.Generator
        The generator of the initial weights, on the CPU.
    """

    # The parts of the score and their weights in the default score, for rows and for images: the
    # parts that `parts` returns, and the distances to references in `POINTS`.
    part_weights: ClassVar[Mapping[str, tuple[float, float]]] = {}
    # The weights for files that do not contain their weights, if they differ.
    former_weights: ClassVar[Mapping[str, tuple[float, float]]] = {}
    # The method's own parameters of the score: they may be set after `fit`.
    score_parameters: ClassVar[tuple[str, ...]] = ()
    # The method's own parameters of the networks: they must not change for a warm start.
    network_parameters: ClassVar[tuple[str, ...]] = ()
    # Parameters that may be user code: they are not in the file, and must be passed to `load`.
    code_parameters: ClassVar[tuple[str, ...]] = ()
    # The number of members for n_estimators="auto", for rows and for images.
    auto_members: ClassVar[tuple[int, int]] = (8, 2)
    # Whether all members have the same codes, as those of a frozen backbone.
    has_common_codes: ClassVar[bool] = False
    # The number of updates for epochs="auto", for rows and for images.
    auto_updates: ClassVar[tuple[int, int]] = (340, 500)
    # The value of schedule="auto", for rows and for images.
    auto_schedule: ClassVar[tuple[str | None, str | None]] = ("one-cycle", None)
    # Whether `forward` returns maps (n, H, W) after scores and labels.
    gives_maps: ClassVar[bool] = False
    # The folder of the images of `shown` in a run folder; None for none.
    shown_as: ClassVar[str | None] = None
    # Whether an architecture makes the networks.
    has_architecture: ClassVar[bool] = True
    # Whether images may differ in height and width.
    takes_any_size: ClassVar[bool] = False
    # The value of scaling="auto", for rows and for images.
    auto_scaling: ClassVar[tuple[str, str]] = ("unskewed", "symmetric")
    # Whether `training_step` passes ``run.seen(x)`` to the networks, so that `robust` is supported.
    can_be_robust: ClassVar[bool] = False
    # The reason why the model cannot be exported, after "because"; None if it can.
    cannot_be_exported: str | None = None

    def __init__(
        self, settings: P, layout: Layout, scaler: Scaler, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.settings, self.layout = settings, layout
        self.n_members = int(settings.n_estimators)
        self.latent_dim = int(settings.latent_dim)
        self._check_method()
        before = set(self._modules)
        self.build(self.maker(generator))
        if loose := [*self._parameters, *self._buffers]:
            # Files, copies for a warm start, and stored best weights contain only the networks.
            raise TypeError(
                f"{type(self).__name__}.build sets the tensors {loose} on the model itself: put "
                "them into a torch.nn.Module, so that they are saved and copied."
            )
        self.network_names = tuple(name for name in self._modules if name not in before)
        self.eval()
        self.scaler = scaler
        # Stored in a file, so that its scores do not change if a later version has other weights.
        self.default_part_weights = self.weights_of_a_fit()
        # The indicator of missing values of each encoded value of a table; -1 for none.
        places = layout.encoder.gap_places if layout.encoder else [-1]
        has_gaps = max(places) >= 0
        gap_places = torch.tensor(places, device="cpu") if has_gaps else None
        self.register_buffer("gap_places", gap_places, persistent=False)
        self.gap_places: Tensor | None
        # Mean and standard deviation over training rows of the deviation in each column of a table,
        # by the networks and by the nearest rows, if these are stored: (1 or 2, 2, n_columns).
        self.map_scale: np.ndarray | None = None
        self.neighbours = nn.ModuleDict()
        # The classifier of known anomalies, if the detector was trained on labels.
        self.known: nn.Module | None = None
        self.calibration: Calibration | None = None
        self.threshold = math.nan
        # The unit of the rounding of a score: 1 for standardised scores.
        self.score_unit = 1.0
        self.threshold_definition: dict[str, Any] = {}
        # The rule of the threshold, the training data and the versions; empty in files of earlier
        # versions.
        self.threshold_origin: dict[str, Any] = {}
        self.fitted_on: dict[str, Any] = {}
        # Sorted scores of held-out normal samples, for p-values.
        self.normal_scores: np.ndarray | None = None
        self.normal_scores_definition: dict[str, Any] = {}

    def _check_method(self) -> None:
        """Raise TypeError if a subclass does not define a hook that every method needs."""
        absent = [name for name in _HOOKS if getattr(type(self), name) is getattr(Model, name)]
        if absent:
            raise TypeError(
                f"{type(self).__name__} does not define {', '.join(absent)}, which every method "
                "needs: CONTRIBUTING.md describes the hooks."
            )

    # Hooks of a method.

    def build(self, make: NetworkMaker) -> None:
        """Create the networks of all members, as attributes with the names of their roles."""
        raise NotImplementedError

    def optimizers(self) -> dict[str, Optimizer]:
        """The optimizers by the networks that they train, in the order of their updates."""
        raise NotImplementedError

    def training_step(self, x: Tensor, run: Any) -> dict[str, Tensor]:
        """Update the networks once; return the losses, (K, B) each.

        `run` is the `gandetect.training.TrainingRun`: its optimizers, its random numbers, its
        progress from 0 to 1.
        """
        raise NotImplementedError

    def parts(self, x: Tensor) -> dict[str, Part]:
        """Parts of the score, (K, B) each, larger for more anomalous, without random numbers.

        A part that few scores use may be a function without arguments that computes it.
        """
        raise NotImplementedError

    def paper_score(self, parts: Mapping[str, Part]) -> Tensor:
        """The published score, (K, B), from the parts."""
        raise NotImplementedError

    def encode(self, x: Tensor) -> Tensor:
        """Return latent codes (K, B, latent_dim)."""
        raise NotImplementedError

    def codes(self, x: Tensor) -> Tensor:
        """The latent codes that differ: (K, B, latent_dim), or (1, B, latent_dim) if all agree."""
        return self.encode(x)[: 1 if self.has_common_codes else None]

    def reconstruct(self, x: Tensor) -> Tensor:
        """Return reconstructions in the shape of x."""
        raise NotImplementedError

    def anomaly_map(self, x: Tensor) -> Tensor:
        """The anomaly map of features (K, B, d) or pixels (K, B, H, W)."""
        difference = (x - self.reconstruct(x)).abs()
        return difference.mean(dim=2) if difference.ndim == 5 else difference

    def shown(self, x: Tensor) -> Tensor:
        """Images of the training input, for `shown_as`: (B, n, C, H, W) in [0, 1].

        The n images of a sample are drawn in a column. Random numbers are the same in each call.
        """
        raise NotImplementedError

    def in_and_out(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The targets of the reconstruction, (K, B, ...), and the reconstructions."""
        return x, self.reconstruct(x)

    def discriminator_features(self, x: Tensor) -> Tensor:
        """The features (K, B, ...) of the discriminator."""
        raise TypeError(
            f"{type(self.settings).__name__} has no features of a discriminator: see transform "
            "for codes."
        )

    def observed(self, x: Tensor) -> Tensor | None:
        """Weights of the values of rows in a mean error: (K, B, d), or None if all are equal.

        A missing value of a table has no target: its weight is 0, and the other weights are scaled
        so that the mean weight of a row is 1.
        """
        if self.gap_places is None:
            return None
        is_gap = (x[..., self.gap_places] > GAP_LEVEL) & (self.gap_places >= 0)
        weights = (~is_gap).to(x.dtype)
        return weights / weights.mean(-1, keepdim=True).clamp(min=1 / weights.shape[-1])

    def validation_losses(self, x: Tensor) -> Mapping[str, Part]:
        """Losses on held-out samples, (K, B) each."""
        return self.parts(x)

    def prepare(self, samples: Any, run: Any) -> None:
        """Compute what the losses need from the training samples, before the first epoch.

        `samples` is a `gandetect.training.TrainingSamples`; data for this training only are stored
        in ``run.prepared``.
        """

    def batches(self, run: Any) -> Any:
        """The source of batches if these are not samples of X: a `training.loop.Batches`."""
        return None

    def finish(self, samples: Any, run: Any) -> None:
        """Compute what the score needs in addition to the trained networks.

        It is called on a copy at each point where training may end, and must not draw random
        numbers.
        """

    def progress(self, run: Any) -> float:
        """The completed share of this fit, for `schedule`."""
        progress: float = run.progress_of_fit
        return progress

    def should_stop(self, run: Any) -> str | None:
        """Return after an epoch the reason to stop, or None."""
        return None

    def network_shape(self) -> tuple[int, ...]:
        """The shape of a sample as input of the networks."""
        return self.layout.sample_shape

    def n_updates(self) -> int:
        """The number of updates for epochs="auto"."""
        return self.auto_updates[self.layout.is_image]

    def n_epochs(self, n_batches: int) -> int:
        """The number of epochs, for a number of updates in each epoch."""
        epochs = self.settings.epochs
        return math.ceil(self.n_updates() / n_batches) if epochs == "auto" else int(epochs)

    def calibrated_on(self, rows: np.ndarray, run: Any) -> np.ndarray:
        """The training samples that standardise the parts and set the first threshold.

        Their number is sufficient for any quantile, and bounds the memory.
        """
        return thinned(rows, _MOST_CALIBRATED)

    def n_jobs_of_fit(self) -> int | None:
        """The number of threads of a fit, None for that of torch."""
        n_jobs: int | None = self.settings.n_jobs
        if n_jobs is None and not self.layout.is_image and self.layout.n_values <= _WIDE:
            return 1
        return n_jobs

    def batch_size(self) -> int:
        """The number of samples in an update."""
        return 64 if self.settings.batch_size == "auto" else int(self.settings.batch_size)

    def own_data(self) -> dict[str, Any]:
        """The fitted data of the method other than its networks, to be saved.

        The entry "parameters" has the data that replace parameters which are code.
        """
        return {}

    def restore_own_data(self, data: dict[str, Any]) -> None:
        """Restore the result of `own_data`."""

    @classmethod
    def runs_foreign_code(cls, settings: SharedParameters) -> bool:
        """Whether user code is run, which may use torch's global generator."""
        return not cls.__module__.startswith("gandetect.")

    @classmethod
    def made(cls, settings: Any, layout: Layout, scaler: Scaler, random: RandomNumbers) -> Self:
        """A new model, whose networks are initialised with these random numbers."""
        with random.lent() if cls.runs_foreign_code(settings) else nullcontext():
            return cls(settings, layout, scaler, random.generator)

    @classmethod
    def empty(cls, settings: Any, layout: Layout, scaler: Scaler) -> Self:
        """A new model, whose networks have no weights."""
        with without_weights():
            if cls.runs_foreign_code(settings):
                return cls.made(settings, layout, scaler, RandomNumbers(0, torch.device("cpu")))
            return cls(settings, layout, scaler, torch.Generator("cpu"))

    def copied(self, settings: P) -> Self:
        """A copy whose training can be continued with these settings."""
        other = self.shallow()
        other.settings = settings
        other.default_part_weights = self.weights_of_a_fit()
        for name in self.network_names:
            other._modules[name] = copy.deepcopy(self._modules[name])
        return other

    @classmethod
    def resolved(cls, settings: SharedParameters, layout: Layout) -> dict[str, Any]:
        """The values that replace "auto" in `settings`, for samples of this layout."""
        is_image = layout.is_image
        d = layout.sample_shape[0]
        auto: dict[str, Any] = {
            "n_estimators": cls._members(layout),
            "latent_dim": 32 if is_image else min((d + 1) // 2, _LONGEST_CODE),
            "scaling": cls.auto_scaling[is_image],
            "schedule": cls.auto_schedule[is_image],
        }
        if settings.robust and auto["scaling"] == "unskewed":
            # A small change of a value can be a large change of its logarithm.
            auto["scaling"] = "standard"
        found = {name: getattr(settings, name) for name in auto}
        found = {name: auto[name] if value == "auto" else value for name, value in found.items()}
        if layout.encoder is not None:
            found["scaling"] = "none"
        architecture = settings.architecture or (ConvNet() if is_image else MLP())
        return {**found, "architecture": architecture}

    @classmethod
    def _members(cls, layout: Layout) -> int:
        """The number of members for n_estimators="auto".

        For narrow rows, most of the time is the launching of operations, so that further members
        take little time. For wide rows, time and memory are proportional to the number of members.
        """
        most = cls.auto_members[layout.is_image]
        if layout.is_image or layout.n_values <= _WIDE:
            return most
        return max(most * _WIDE // layout.n_values, most // 4, 1)

    # The networks.

    def maker(self, generator: torch.Generator) -> NetworkMaker:
        """The architecture, bound to the shape of a sample and the members."""
        architecture = self.settings.architecture
        assert architecture is not None
        activation = architecture.output_activation
        if activation == "auto":
            activation = MATCHING_ACTIVATION[self.settings.scaling]
        return architecture.bind(self.network_shape(), self.n_members, activation, generator)

    @property
    def networks(self) -> nn.ModuleDict:
        """The networks, by role."""
        modules = dict(self.named_children())
        networks = nn.ModuleDict({name: modules[name] for name in self.network_names})
        networks.training = self.training
        return networks

    @property
    def device(self) -> torch.device:
        """The device of the networks."""
        return next((p.device for p in self.parameters()), torch.device("cpu"))

    def train(self, mode: bool = True) -> Self:
        """Set the mode of the networks only."""
        for name in getattr(self, "network_names", self._modules):
            module = self._modules[name]
            if module is not None:
                module.train(mode)
        self.training = mode
        return self

    # From a sample to its score and label.

    def forward(self, X: Tensor) -> tuple[Tensor, ...]:
        """Anomaly scores (n,) in float64 and labels (n,), +1 or -1.

        Parameters
        ----------
        X : Tensor of shape ``(n, *input_shape_)``, float64
            In the units and layout of X.
        """
        score = self.score(self.scaled(X))
        return score, self.label(score)

    def scaled(self, X: Tensor) -> Tensor:
        """Samples in the units of X as a batch: scaled, on the device, with the members first."""
        if self.layout.has_channels_last:
            X = X.movedim(-1, 1)
        x = self.scaler(X.reshape(X.shape[0], *self.layout.sample_shape)).to(self.device)
        return x.unsqueeze(0).expand(self.n_members, *x.shape)

    def score(self, x: Tensor, parts: dict[str, Part] | None = None) -> Tensor:
        """Anomaly scores (B,), float64, of a scaled batch: always finite."""
        return self.finite(self.member_scores(self.all_parts(x, parts)).mean(0))

    @staticmethod
    def finite(score: Tensor) -> Tensor:
        """The scores, with `WORST_SCORE` for those that are not finite."""
        return torch.where(score.abs() < WORST_SCORE, score, WORST_SCORE)

    def decision(self, score: Tensor, threshold: Tensor | None = None) -> Tensor:
        """The threshold minus the score; 0 if they differ by rounding only.

        A threshold may be given as a tensor, instead of that of the model.
        """
        if threshold is None:
            difference = self.threshold - score
            is_equal = (difference < 0) & (difference >= -self.score_tolerance)
        else:
            difference = threshold - score
            size = threshold.abs().clamp(self.score_unit, WORST_SCORE)
            tolerance = SCORE_TOLERANCE * size
            is_equal = (difference < 0) & (difference >= -tolerance)
        return torch.where(is_equal, 0.0, difference)

    def label(self, score: Tensor, threshold: Tensor | None = None) -> Tensor:
        """+1 for inliers, -1 for outliers."""
        return torch.where(self.decision(score, threshold) >= 0, 1, -1)

    @property
    def score_tolerance(self) -> float:
        """The largest difference between two computations of a score near the threshold."""
        return SCORE_TOLERANCE * max(self.score_unit, abs(self.threshold))

    def all_parts(self, x: Tensor, parts: dict[str, Part] | None = None) -> dict[str, Part]:
        """The parts of the method, and the distances to references if the score has them."""
        parts = self.parts(x) if parts is None else parts
        for name in self.distances():
            neighbours = dict(self.neighbours.items()).get(name)
            if not isinstance(neighbours, Neighbours):
                raise ValueError(
                    f"The detector was fitted without {name!r} in its score: fit it again with "
                    f"score={self.chosen_score!r}."
                )
            distance = neighbours.distance(self.points(name, x))
            # Distances of samples, and means over subsamples, are the same for all members.
            if name != "neighbours":
                distance = distance.mean(0, keepdim=True)
            parts[name] = distance.expand(len(x), -1)
        if self.weights().get(KNOWN):
            self.check_knows(self.known)
            assert self.known is not None
            parts[KNOWN] = self.known(self.known_points(x)).expand(len(x), -1)
        return parts

    def check_knows(self, known: Any) -> None:
        """Raise ValueError if the score needs known anomalies, and there are none."""
        if known is None and self.weights().get(KNOWN):
            raise ValueError(
                f"{KNOWN!r} in the score needs known anomalies, but the detector has none: fit "
                "with labels='learn' and a y with anomalies."
            )

    def known_points(self, x: Tensor) -> Tensor:
        """The points that are compared with known anomalies: rows (1, B, d), or codes (K, B, n)."""
        return self.encode(x) if self.layout.is_image else x[:1]

    def member_scores(self, parts: Mapping[str, Part]) -> Tensor:
        """Each member's anomaly scores (K, B), float64, from the parts."""
        if self.chosen_score == "paper":
            return self.paper_score(parts).cpu().double()
        assert self.calibration is not None
        return mix(parts, self.weights(), self.calibration)

    def scored_parts(self, parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The parts (K, n) that the score contains."""
        if self.chosen_score == "paper":
            return {"paper": self.paper_score(parts)}
        return {name: parts[name] for name, weight in self.weights().items() if weight}

    def weights(self) -> Mapping[str, float]:
        """The weights of the parts in the score."""
        score = self.chosen_score
        if isinstance(score, str):
            return {} if score == "paper" else {score: 1.0}
        if score is not None:
            return score
        weights = self.default_weights()
        if self.known is not None:
            weights[KNOWN] = KNOWN_WEIGHT[self.layout.is_image] * sum(weights.values())
        return weights

    def of_kind(self, weights: Mapping[str, tuple[float, float]]) -> dict[str, float]:
        """The weights for rows or for images from pairs of both."""
        return {name: pair[self.layout.is_image] for name, pair in weights.items()}

    def weights_of_a_fit(self) -> dict[str, float]:
        """The weights in the default score of this fit, of rows, tables or images."""
        weights = self.of_kind(self.part_weights)
        if self.layout.encoder is not None and "sample_neighbours" in weights:
            others = sum(weights.values()) - weights["sample_neighbours"]
            weights["sample_neighbours"] = WEIGHT_IN_TABLES * others
        return weights

    def default_weights(self) -> dict[str, float]:
        """The weights if `score` is None, without the part of known anomalies."""
        weights = dict(self.default_part_weights)
        if self.settings.trim and "sample_neighbours" in weights:
            # Anomalies in the training data are near to similar ones, but a small subsample
            # contains few of them.
            weights["subsampled_neighbours"] = weights["sample_neighbours"]
        s = self.settings
        has_distances = not self.layout.is_image or weights.get("neighbours")
        if s.robust and s.store_references and has_distances:
            # An attack changes the reconstruction error most.
            robust = {n: w for n, w in self.of_kind(ROBUST_WEIGHTS).items() if n in weights}
            weights = dict.fromkeys(weights, 0.0) | robust if any(robust.values()) else weights
        return self.without_references(weights)

    def without_references(self, weights: dict[str, float]) -> dict[str, float]:
        """The weights without distances, if no references are stored."""
        if self.settings.store_references:
            return weights
        return {name: 0.0 if name in POINTS else weight for name, weight in weights.items()}

    def distances(self) -> list[str]:
        """The parts of the score that are distances to training samples."""
        weights = self.weights()
        return [name for name in POINTS if weights.get(name)]

    def points(self, part: str, x: Tensor) -> Tensor:
        """The points of a distance in the score, (K or 1, B, n_dimensions)."""
        # Scaled samples are the same for all members.
        return self.encode(x) if POINTS[part] == "codes" else x[:1].flatten(2)

    def score_definition(self) -> dict[str, Any]:
        """The parameters of the score: a threshold is valid for these only."""
        score = self.chosen_score
        own = {name: getattr(self.settings, name) for name in self.score_parameters}
        return {"score": dict(score) if isinstance(score, Mapping) else score, **own}

    def check_same_score(self, definition: Mapping[str, Any], what: str, remedy: str) -> None:
        """Raise ValueError if the parameters of the score differ from `definition`."""
        for name, now in self.score_definition().items():
            before = definition.get(name, now)  # files of earlier versions may lack the parameter
            if now != before:
                raise ValueError(
                    f"{what} with {name}={before!r} and cannot be used with {name}={now!r}: "
                    f"{remedy} or fit again."
                )

    @property
    def chosen_score(self) -> str | Mapping[str, float] | None:
        """The parameter `score`."""
        score: str | Mapping[str, float] | None = vars(self.settings)["score"]
        return score

    def check_threshold(self) -> None:
        """Raise ValueError if the score was changed after the threshold was set."""
        self.check_same_score(
            self.threshold_definition, "The threshold was set", "call infer_threshold"
        )

    # Over all samples of a source.

    def in_blocks(
        self,
        function: Callable[[Tensor], Tensor],
        source: Source,
        rows: np.ndarray | None = None,
    ) -> np.ndarray:
        """Concatenate the results of ``function(x)``, samples first, over blocks of samples.

        For images whose shapes differ it is a list of arrays, if the shapes of the results differ.
        """
        size, multiple = self.block_size(), self.block_multiple()
        device = self.device

        def compute(rows: np.ndarray | None) -> np.ndarray:
            results = []
            with own_torch_settings(device), limited_to(self.settings.n_jobs):
                for x, n in scoring_blocks(source, rows, self.scaler, size, multiple, device):
                    x = x.expand(self.n_members, *x.shape)
                    results.append(function(x)[:n].detach().cpu())
            found: np.ndarray = in_order(results, source, rows)
            return found

        return compute(None) if rows is None else divided(compute, rows, size)

    def block_multiple(self) -> int:
        """The number of samples in a block is a multiple of this."""
        return _MULTIPLES[self.layout.is_image]

    def block_size(self) -> int:
        """The number of samples that are computed at once."""
        multiple = self.block_multiple()
        most = 64 if self.layout.is_image else 1024
        size = min(max(_BLOCK_VALUES // self.layout.n_values, multiple), most)
        return size // multiple * multiple

    def parts_of(self, source: Source, rows: np.ndarray, of: PartsFunction) -> dict[str, Tensor]:
        """The result of `of` for a selection of samples, (K, n) each."""
        names: list[str] = []

        def stacked(x: Tensor) -> Tensor:
            values = of(x)
            names[:] = values
            return torch.stack([value_of(part) for part in values.values()]).permute(2, 0, 1)

        # In the memory layout of a scored block, so that means over members add in the same order.
        columns = torch.from_numpy(self.in_blocks(stacked, source, rows))
        return dict(zip(names, columns.permute(1, 2, 0).contiguous(), strict=True))

    def reconstruction_errors(self, source: Source, rows: np.ndarray) -> np.ndarray:
        """The mean absolute error of a selection of samples, averaged over the members."""
        return self.in_blocks(
            lambda x: mean_absolute_error(x, self.reconstruct(x), self.observed(x)).mean(0),
            source,
            rows,
        )

    def anomaly_maps(self, source: Source, rows: np.ndarray | None = None) -> Any:
        """The anomaly maps of samples, averaged over the members; one value per column of a table.

        A list for images whose shapes differ.
        """
        encoder = self.layout.encoder
        if encoder is None:
            return self.in_blocks(lambda x: self.anomaly_map(x).mean(0).double(), source, rows)
        maps = self._maps_of_columns(source, rows)
        if self.map_scale is not None:
            maps = (maps[:, : len(self.map_scale)] - self.map_scale[:, 0]) / self.map_scale[:, 1]
        mean: np.ndarray = np.average(maps, axis=1, weights=_WEIGHTS_IN_MAPS[: maps.shape[1]])
        return mean

    def _maps_of_columns(self, source: Source, rows: np.ndarray | None) -> np.ndarray:
        """The deviation in each column of a table, by the networks and by the nearest rows.

        The array has the shape (n, 1 or 2, n_columns): 1 if no reference rows are stored.
        """
        encoder = self.layout.encoder
        assert encoder is not None
        membership = torch.from_numpy(encoder.membership)
        nearest = dict(self.neighbours.items()).get("sample_neighbours")

        def of_columns(x: Tensor) -> Tensor:
            values = [self.anomaly_map(x).mean(0)]
            if isinstance(nearest, Neighbours):
                z = self.points("sample_neighbours", x)
                values.append(nearest.differences(z).mean(0))
            weights = self.observed(x[:1])
            is_there = 1 if weights is None else weights[0].sign()
            return torch.stack([(v * is_there) @ membership.to(v) for v in values], 1).double()

        return self.in_blocks(of_columns, source, rows)

    def with_map_scale(self, source: Source, rows: np.ndarray) -> Self:
        """A model whose maps of tables are standardised on these training rows.

        A map is a weighted mean of the reconstruction error and, if references are stored, of the
        difference to the nearest training rows. For each column the mean is subtracted, and the
        rest is divided by the standard deviation plus a quarter of the mean standard deviation, so
        that columns with little variation do not dominate.
        """
        other = self.shallow()
        if self.layout.encoder is not None:
            maps = self._maps_of_columns(source, rows)
            spread = maps.std(axis=0)
            spread = spread + np.where(spread.any(axis=1), spread.mean(axis=1) / 4, 1.0)[:, None]
            other.map_scale = np.stack([maps.mean(axis=0), spread], axis=1)
        return other

    def probe(self) -> Tensor:
        """Return two scaled samples of zeros, (K, 2, ...), to test whether a model can score."""
        shape = (self.n_members, 2, *self.layout.sample_shape)
        return torch.zeros(shape, device=self.device, dtype=torch.float32)

    @torch.no_grad()
    def is_sound(self) -> bool:
        """Whether the parts of the score are finite for samples of zeros."""
        x = self.probe() + 0.1
        return all(bool(value_of(part).isfinite().all()) for part in self.parts(x).values())

    @torch.no_grad()
    def check_hooks(self) -> None:
        """Raise ValueError if the results of the hooks of a method are inconsistent."""
        name, of_each = type(self).__name__, (self.n_members, 2)
        shape = (*of_each, *self.layout.sample_shape)
        x = torch.zeros(shape, device=self.device, dtype=torch.float32)
        parts = self.parts(x)
        if unknown := sorted(set(parts) - set(self.part_weights)):
            raise ValueError(f"{name}.parts returns {unknown}, which is not in part_weights.")
        scored = {part for part, weight in self.weights().items() if weight} - {KNOWN, *POINTS}
        if absent := sorted(scored - set(parts)):
            raise ValueError(
                f"The score has the parts {absent}, which {name}.parts does not return."
            )
        checked: dict[str, tuple[Tensor, tuple[int, ...]]] = {}
        checked |= {part: (value_of(value), of_each) for part, value in parts.items()}
        checked["encode"] = self.encode(x), (*of_each, self.latent_dim)
        checked["reconstruct"] = self.reconstruct(x), shape
        for hook, (found, expected) in checked.items():
            if tuple(found.shape) != expected:
                raise ValueError(
                    f"{name} returns {hook!r} in the shape {tuple(found.shape)}, but with "
                    f"{self.n_members} members and 2 samples it must be {expected}."
                )

    # Modified copies, which do not change shared objects.

    def shallow(self) -> Self:
        """A copy that shares networks and buffers, which may be replaced."""
        copied = copy.copy(self)
        for kind in ("_modules", "_buffers"):
            copied.__dict__[kind] = dict(self.__dict__[kind])
        return copied

    def scoring_as(self, detector: SharedParameters) -> Self:
        """The model itself, or one that shares its networks with the score of `detector`."""
        names = ("score", "n_jobs", *self.score_parameters)
        asked, used = vars(detector), vars(self.settings)
        if all(asked[name] is used[name] or asked[name] == used[name] for name in names):
            return self
        other = self.shallow()
        other.settings = copy.copy(self.settings)
        other.settings.__dict__.update({name: copy.deepcopy(asked[name]) for name in names})
        return other

    def with_threshold(
        self, threshold: float, scores: np.ndarray | None = None, **origin: Any
    ) -> Self:
        """A model with another threshold, and the scores that it was computed from, if any.

        `origin` is the rule as text.
        """
        other = self.shallow()
        other.threshold = float(threshold)
        n = {} if scores is None else {"n_samples": len(scores)}
        other.threshold_origin = {**origin, **n}
        if self.chosen_score != "paper":
            other.score_unit = 1.0
        elif scores is not None:
            other.score_unit = float(np.std(scores)) or 1.0
        other.threshold_definition = self.score_definition()
        return other

    def with_normal_scores(self, scores: np.ndarray) -> Self:
        """A model that computes p-values from these scores of normal samples."""
        other = self.shallow()
        other.normal_scores = np.sort(scores)
        other.normal_scores_definition = self.score_definition()
        return other


# The points of the distances in a score, by part.
POINTS = {
    "neighbours": "codes",
    "sample_neighbours": "samples",
    "subsampled_neighbours": "samples",
}
# With `robust`: the norm of distances, and the weights of the default score, for rows and images.
ROBUST_ORDER = 4.0
ROBUST_WEIGHTS = {
    "neighbours": (2.0, 1.0),
    "sample_neighbours": (3.0, 0.0),
    "subsampled_neighbours": (3.0, 0.0),
}
# The references of distances for images: there are few members, each with its own references.
REFERENCES_OF_IMAGES: dict[str, Callable[[Tensor], nn.Module]] = {
    "neighbours": Neighbours.of,
    "sample_neighbours": Neighbours.of,
    "subsampled_neighbours": Neighbours.among_draws,
}
# For rows of numbers, whose columns are individual features: for these the L1 norm is better than
# the Euclidean (L2) norm; for codes it is not.
REFERENCES: dict[str, Callable[[Tensor], nn.Module]] = {
    **REFERENCES_OF_IMAGES,
    "neighbours": Neighbours.of_joined,
    "sample_neighbours": partial(Neighbours.of, order=1.0),
}
# For tables.
REFERENCES_OF_TABLES: dict[str, Callable[[Tensor], nn.Module]] = {
    **REFERENCES,
    "neighbours": Neighbours.of_joined_table,
    "sample_neighbours": partial(Neighbours.of_table, order=1.0),
}
# With `robust`: without local scaling, because a small change of a sample can move it nearer to
# references with a larger scale.
ROBUST_REFERENCES = {
    "neighbours": partial(Neighbours.plain, order=ROBUST_ORDER),
    "sample_neighbours": partial(Neighbours.plain, order=ROBUST_ORDER),
    "subsampled_neighbours": partial(Neighbours.among_draws, order=ROBUST_ORDER),
}


def are_weights(value: Any, names: Iterable[str]) -> bool:
    """Whether this is a mapping from these names of parts to valid weights of a score."""
    if not isinstance(value, Mapping) or not set(value) <= set(names):
        return False
    weights = value.values()
    are_numbers = all(isinstance(w, Real) and 0 <= float(w) < math.inf for w in weights)
    return are_numbers and sum(weights) > 0


def thinned(rows: np.ndarray, n_max: int) -> np.ndarray:
    """At most `n_max` of the rows, evenly spaced."""
    return rows if len(rows) <= n_max else rows[np.linspace(0, len(rows) - 1, n_max).astype(int)]


class _Float32(TorchFunctionMode):
    """Create tensors without a given dtype in float32, in this thread only.

    torch's default dtype, which the user may have set, applies to all threads.
    """

    makers = (torch.empty, torch.eye, torch.linspace, torch.rand, torch.randn, torch.zeros)

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if function in self.makers and kwargs.get("dtype") is None:
            kwargs = {**kwargs, "dtype": torch.float32}
        return function(*args, **kwargs)


@contextmanager
def own_torch_settings(device: torch.device, *, training: bool = False) -> Iterator[None]:
    """Compute with torch's default settings: no inference mode, autocast or other dtype.

    Parameters
    ----------
    device : torch.device
    training : bool, default=False
        Whether gradients are recorded. A score that needs gradients uses ``torch.enable_grad()``.
    """
    # torch before 2.6 has no call that gives the device of an enclosing `with torch.device(...)`.
    is_on_cpu = torch.empty(0).device.type == "cpu"
    with (
        torch.inference_mode(False),
        torch.set_grad_enabled(training),
        torch.autocast("cpu", enabled=False),
        torch.autocast(device.type, enabled=False),
        nullcontext() if is_on_cpu else torch.device("cpu"),
        nullcontext() if torch.get_default_dtype() == torch.float32 else _Float32(),
    ):
        yield


@contextmanager
def limited_to(n_jobs: int | None) -> Iterator[None]:
    """Limit the number of threads in this Python thread, and restore it at the end.

    torch's `set_num_threads` applies to the whole process: it would change the number of threads of
    a concurrent fit, and with it the bits of its result.

    Parameters
    ----------
    n_jobs : int or None
        As in scikit-learn: -1 is all cores, -2 all but one. None changes nothing.

    Raises
    ------
    TypeError, ValueError
        If `n_jobs` is not an integer, or 0.
    """
    check_n_jobs(n_jobs)
    if n_jobs is None:
        yield
        return
    # In a thread without earlier torch operations, the first use would reset the number.
    torch.get_num_threads()
    with _controller().limit(limits=joblib.effective_n_jobs(n_jobs), user_api="openmp"):
        yield


def check_n_jobs(n_jobs: Any) -> None:
    """Raise TypeError or ValueError unless this is a number of threads or None."""
    if isinstance(n_jobs, bool):
        raise TypeError(f"n_jobs must be an integer, got {n_jobs!r}.")
    if n_jobs is not None:
        check_scalar(n_jobs, "n_jobs", Integral)
    if n_jobs == 0:
        raise ValueError("n_jobs must be a number of threads, or -1 for all cores, got 0.")


@lru_cache
def _controller() -> ThreadpoolController:
    """The thread pools of this process, cached because their search takes milliseconds."""
    return ThreadpoolController()


def resolve_device(device: str | torch.device) -> torch.device:
    """Return an available device by its name.

    Parameters
    ----------
    device : str or torch.device
        ``"auto"`` is the first available of CUDA, MPS and CPU; otherwise a name of torch, such as
        ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or ``"mps"``.

    Returns
    -------
    torch.device

    Raises
    ------
    TypeError
        If `device` is neither a string nor a torch.device.
    ValueError
        If the name is unknown to torch, or the device is not available.

    Examples
    --------
    >>> from gandetect.model.fitted import resolve_device
    >>> resolve_device("cpu")
    device(type='cpu')
    """
    if not isinstance(device, str | torch.device):
        raise TypeError(f"device must be a string such as 'auto' or 'cpu', got {device!r}.")
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError as error:
        raise ValueError(
            f"Unknown device {device!r}: use 'auto', 'cpu', 'cuda', 'cuda:N' or 'mps'."
        ) from error
    if not _is_there(resolved):
        raise ValueError(
            f"Device {device!r} is not available on this machine: use device='auto' or 'cpu'."
        )
    return resolved


def _is_there(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count()
    if device.type == "mps":
        return torch.backends.mps.is_available()
    return device.type == "cpu"
