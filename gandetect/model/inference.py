"""Running fitted networks over samples: blocks, parts of the score, scores."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from gandetect.data.reading import read
from gandetect.data.sources import Source, scoring_blocks
from gandetect.losses import mean_absolute_error
from gandetect.model.scoring import Calibration, Neighbours, Part, mix, value_of, without_farthest
from gandetect.model.shared import SharedParameters
from gandetect.training.device import resolve_device
from gandetect.training.distributed import divided
from gandetect.training.report import Reconstructions
from gandetect.training.trimming import not_among_worst

# Training codes kept to measure distances to: more add memory and time, and little else.
_MAX_REFERENCES = 2_000

# Values of training samples that the report on the training looks at.
_REPORT_VALUES = 2**15

PartsFunction = Callable[[Any, Tensor], dict[str, Part]]


class InferenceMixin(SharedParameters):
    """What a detector does with networks that it does not train."""

    # The parts of the score and their weights in the default score, of rows and of images: those
    # that `_score_parts` returns, and the distances that `_POINTS` names.
    part_weights: ClassVar[dict[str, tuple[float, float]]]
    # The method's own parameters that say how the score is computed.
    score_parameters: ClassVar[tuple[str, ...]] = ()

    def _score_parts(self, nets: Any, x: Tensor) -> dict[str, Part]:
        raise NotImplementedError

    def _paper_score(self, parts: dict[str, Any]) -> Tensor:
        raise NotImplementedError

    def _encode(self, nets: Any, x: Tensor) -> Tensor:
        raise NotImplementedError

    def _reconstruct(self, nets: Any, x: Tensor) -> Tensor:
        raise NotImplementedError

    def _discriminator_features(self, nets: Any, x: Tensor) -> Tensor:
        """What the discriminator sees in x, (K, B, ...)."""
        return nets.discriminator(x)[1]

    def discriminator_features(self, X: Any) -> np.ndarray:
        """What the discriminator sees in X, that of the members side by side.

        Parameters
        ----------
        X : array-like, Dataset or path
            As in `fit`.

        Returns
        -------
        ndarray of shape (n_samples, n_estimators * n_features)
            The features in which real and made samples are told apart, flattened.

        Raises
        ------
        TypeError
            If the method has no discriminator.
        """
        check_is_fitted(self)
        if "discriminator" not in self.networks_:
            raise TypeError(f"{type(self).__name__} has no discriminator: see transform for codes.")

        def features(nets: Any, x: Tensor) -> Tensor:
            return self._discriminator_features(nets, x).transpose(0, 1).flatten(1)

        return self._apply(features, read(self, X))

    def _parts(
        self, parts_of: PartsFunction, source: Source, rows: np.ndarray
    ) -> dict[str, Tensor]:
        """What `parts_of` gives for some samples, (K, n) each."""
        names: list[str] = []

        def stacked(nets: Any, x: Tensor) -> Tensor:
            values = parts_of(nets, x)
            names[:] = values
            return torch.stack([value_of(part) for part in values.values()]).permute(2, 0, 1)

        # Laid out as in a block that is scored: a mean over members adds in the same order.
        columns = torch.from_numpy(self._apply(stacked, source, rows)).permute(1, 2, 0).contiguous()
        return dict(zip(names, columns, strict=True))

    def _scored_parts(self, parts: dict[str, Tensor]) -> dict[str, Tensor]:
        """Of the parts (K, n), those that the chosen score is made of."""
        if self.chosen_score == "paper":
            return {"paper": self._paper_score(parts)}
        return {name: parts[name] for name, weight in self._weights().items() if weight}

    def _that_fit(self, source: Source, rows: np.ndarray) -> np.ndarray:
        """Which of the rows are not among the share `trim` whose reconstructions are worst."""
        if not self.trim:
            return np.ones(len(rows), dtype=bool)
        errors = self._apply(
            lambda nets, x: mean_absolute_error(x, self._reconstruct(nets, x)).mean(0), source, rows
        )
        return not_among_worst(errors, self.trim)

    def _reconstructions(self, source: Source, rows: np.ndarray) -> Reconstructions:
        """How some samples come out of the networks as they are."""

        def in_and_out(nets: Any, x: Tensor) -> Tensor:
            return torch.stack([x, self._reconstruct(nets, x)], dim=2).transpose(0, 1)

        x, x_hat = torch.from_numpy(self._apply(in_and_out, source, rows)).unbind(2)
        return Reconstructions.of(x, x_hat)

    def _rows_of_the_report(self, rows: np.ndarray) -> np.ndarray:
        """Some of the training samples: few enough to cost next to nothing."""
        return thinned(rows, min(max(_REPORT_VALUES // self.n_features_in_, 16), 256))

    def _points(self, part: str, source: Source, rows: np.ndarray | None = None) -> Tensor:
        """What a part of the score measures distances between, (n, K, n_dimensions): codes, say."""
        of = _POINTS[part]
        points = self._apply(lambda nets, x: of(self, nets, x).transpose(0, 1), source, rows)
        return torch.from_numpy(points)

    def _neighbour_parts(self) -> list[str]:
        """The parts of the score that are distances to training samples."""
        return [name for name in _POINTS if self._weights().get(name)]

    def _neighbours(self, source: Source, rows: np.ndarray) -> dict[str, Neighbours]:
        """What the score measures distances to, of some training samples, by the part."""
        rows = thinned(rows, _MAX_REFERENCES)
        neighbours = {}
        for part in self._neighbour_parts():
            points = self._points(part, source, rows).transpose(0, 1).contiguous()
            neighbours[part] = _NEIGHBOURS[part](without_farthest(points, self.trim))
        return neighbours

    def _parts_function(self, neighbours: Mapping[str, Neighbours]) -> PartsFunction:
        """The method's parts, and the distances to neighbours where the score has them."""
        wanted = self._neighbour_parts()
        if not wanted:
            return self._score_parts
        if not set(wanted) <= set(neighbours):
            raise ValueError(
                f"The detector was fitted without {sorted(set(wanted) - set(neighbours))} in its "
                f"score: fit it again with score={self.chosen_score!r}."
            )

        def parts_of(nets: Any, x: Tensor) -> dict[str, Part]:
            parts = self._score_parts(nets, x)
            for name in wanted:
                points = _POINTS[name](self, nets, x)
                distance = neighbours[name].distance(points)
                # Samples are the same for all members, and so is the mean over draws of them.
                distance = distance.mean(0, keepdim=True) if len(points) == 1 else distance
                parts[name] = distance.expand(len(x), -1)
            return parts

        return parts_of

    def _fitted_parts_function(self) -> PartsFunction:
        """The parts of the score, with the neighbours that were learned."""
        return self._parts_function(getattr(self, "neighbours_", {}))

    def _fitted_score_function(self) -> Callable[[Any, Tensor], Tensor]:
        """The function of networks and a scaled batch (K, B, ...) that gives its scores (B,)."""
        return self._score_function(self._fitted_parts_function(), self.calibration_)

    def _score_function(
        self, parts_of: PartsFunction, calibration: Calibration
    ) -> Callable[[Any, Tensor], Tensor]:
        return lambda nets, x: self._member_scores(parts_of(nets, x), calibration).mean(0)

    def _member_scores(self, parts: dict[str, Any], calibration: Calibration) -> Tensor:
        """Each member's anomaly scores (K, B), from the parts."""
        if self.chosen_score == "paper":
            return self._paper_score(parts).cpu().double()
        return mix(parts, self._weights(), calibration)

    def _score_definition(self) -> dict[str, Any]:
        """The parameters by which scores are computed: for others a threshold means nothing."""
        score = self.chosen_score
        own = {name: getattr(self, name) for name in self.score_parameters}
        if score is None:
            own["trim"] = bool(self.trim)
        return {"score": dict(score) if isinstance(score, Mapping) else score, **own}

    def _weights(self) -> Mapping[str, float]:
        score = self.chosen_score
        if score is None:
            is_image = self._is_fitted_to_images()
            weights = {name: pair[is_image] for name, pair in self.part_weights.items()}
            if self.trim:
                # Anomalies that were trained on are near to others like them, but few of them are
                # in a small draw.
                weights["subsampled_neighbours"] = weights["sample_neighbours"]
            return weights
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
        size = block_size(self.sample_shape_)

        def compute(rows: np.ndarray | None) -> np.ndarray:
            results = []
            with torch.inference_mode():
                for x, n_real in scoring_blocks(source, rows, self.scaler_, size, device):
                    x = x.expand(self.n_members_, *x.shape)
                    results.append(function(nets, x)[:n_real].cpu())
            return torch.cat(results).numpy()

        return compute(None) if rows is None else divided(compute, rows, size)


def _codes_of(detector: InferenceMixin, nets: Any, x: Tensor) -> Tensor:
    return detector._encode(nets, x)


def _samples_of(detector: InferenceMixin, nets: Any, x: Tensor) -> Tensor:
    """Scaled samples, which are the same for all members: (1, B, n_values)."""
    return x[:1].flatten(2)


# What each of these parts of a score measures distances between.
_POINTS = {
    "neighbours": _codes_of,
    "sample_neighbours": _samples_of,
    "subsampled_neighbours": _samples_of,
}
# What these distances are measured to, made of such points of training samples.
_NEIGHBOURS = {
    "neighbours": Neighbours.of,
    "sample_neighbours": Neighbours.of,
    "subsampled_neighbours": Neighbours.among_draws,
}


def thinned(rows: np.ndarray, n_max: int) -> np.ndarray:
    """At most `n_max` of the rows, evenly spread."""
    return rows if len(rows) <= n_max else rows[np.linspace(0, len(rows) - 1, n_max).astype(int)]


def block_size(sample_shape: tuple[int, ...]) -> int:
    """Samples scored at once: as many as keep the operations busy and the memory small."""
    if len(sample_shape) == 1:
        return 512
    return 2 ** int(math.log2(min(max(2**18 // math.prod(sample_shape), 8), 64)))
