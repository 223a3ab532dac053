"""RDNA on the features of a frozen network: training data of its modules, and the joint score.

Every cell of the concatenated feature maps is a vector. The modules are trained on simulated
anomalies, whose features are computed once, and on normal vectors with noise, which gradient ascent
makes harder to classify for the discriminant module (GLASS [1]_).

References
----------
.. [1] Chen et al., "A unified anomaly synthesis strategy with gradient ascent for industrial
   anomaly detection and localization", ECCV 2024, arXiv 2407.09359.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gandetect.losses import loss_as_real
from gandetect.model.known import shrunk_masks
from gandetect.model.patches import PatchBank, PlaceCalibration, gaussian_smoothed
from gandetect.networks.backbone import Backbone, Box, cut
from gandetect.networks.members import MemberBatchNorm, MemberLinear
from gandetect.simulation import ImageAnomalies

_LEAK = 0.2
# Range of the standard deviation of the noise on standardised vectors.
_NOISE = (0.05, 0.5)
# Largest number of updates in an epoch.
_MOST_BATCHES = 100
# Largest number of stored vectors of known defects, and of normal vectors to search for origins.
_MOST_KNOWN, _MOST_NORMAL = 5_000, 5_000
# Standard deviation, in cells, of the window that smooths maps.
_SMOOTHING = 1.0
# The smallest scale by which a map is divided.
_LEAST_SPREAD = 1e-6
# The scale of the distances in a map is multiplied by it after training on masks of known defects.
_LESS_OF_BANK = 4.0


@dataclass(frozen=True, eq=False)
class SimulatedFeatures:
    """Vectors of images with simulated anomalies, from which batches are drawn.

    Parameters
    ----------
    corrupted, clean : Tensor of shape (n, n_features)
        Vectors of cells with the anomaly, and of the same cells of the same image without it.
    labels : Tensor of shape (n,)
        1 if most of the cell was changed, 0 if the cell is unchanged.
    """

    corrupted: Tensor
    clean: Tensor
    labels: Tensor

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Concatenate several sets of vectors."""
        fields = ([p.corrupted, p.clean, p.labels] for p in parts)
        return cls(*(torch.cat(values) for values in zip(*fields, strict=True)))

    def normal(self) -> SimulatedFeatures:
        """Return the vectors of unchanged cells, which may be next to an anomaly.

        If there are none, return the vectors of the images without anomalies.
        """
        is_normal = self.labels == 0
        if not is_normal.any():
            return SimulatedFeatures(self.clean, self.clean, torch.zeros_like(self.labels))
        return SimulatedFeatures(
            self.corrupted[is_normal], self.clean[is_normal], self.labels[is_normal]
        )

    def draw(self, n_members: int, n: int, generator: torch.Generator) -> Tensor:
        """Draw a batch (n_members, n, 2 n_features + 1) of corrupted, clean and label joined."""
        index = torch.randint(len(self.labels), (n_members, n), generator=generator)
        index = index.to(self.labels.device)
        parts = (self.corrupted[index], self.clean[index], self.labels[index][..., None])
        return torch.cat(parts, dim=-1).float()


@dataclass(frozen=True, eq=False)
class FeatureBatches:
    """Batches (n_members, batch_size, ...) of simulated vectors, drawn anew in each epoch."""

    pool: SimulatedFeatures
    n_members: int
    batch_size: int
    generator: torch.Generator

    @property
    def n_batches(self) -> int:
        """The number of batches in one pass over the vectors, at most a hundred."""
        return min(max(round(len(self.pool.labels) / self.batch_size), 1), _MOST_BATCHES)

    def epoch(self) -> Iterator[Tensor]:
        """Yield the batches of one epoch."""
        for _ in range(self.n_batches):
            yield self.pool.draw(self.n_members, self.batch_size, self.generator)


def simulate_features(
    backbone: Backbone,
    images: Tensor,
    maps: Tensor,
    anomalies: ImageAnomalies,
    *,
    n_vectors: int = 460,
    part: tuple[Box, Box] | None = None,
    inside: Tensor | None = None,
    generator: torch.Generator,
) -> SimulatedFeatures:
    """Simulate an anomaly on each image, and keep some vectors of each.

    Parameters
    ----------
    backbone : Backbone
    images : Tensor of shape (n, channels, H, W)
        Values in [0, 1].
    maps : Tensor of shape (n, n_features, h, w)
        The feature maps of the images, or of a part of them.
    anomalies : ImageAnomalies
        Must have a `probability` of 1; every image still has normal cells.
    n_vectors : int, default=460
        Number of vectors of each image, half of them anomalous if there are enough.
    part : tuple of (Box, Box) or None, default=None
        The tile of the images, and the part of the maps: see `backbone.pieces`.
    inside : Tensor of shape (h, w) or None, default=None
        True for the cells inside the region; None for all.
    generator : torch.Generator
        Draws the selection of cells; `anomalies` has its own generator.

    Returns
    -------
    SimulatedFeatures
        Vectors in float16, which halves the memory.
    """
    corrupted, mask = anomalies(images)
    after = backbone(corrupted)
    if part is not None:
        after = cut(after, *part)
        (top, left, *_), (*kept_from, bottom, right) = part
        mask = mask[:, kept_from[0] - top : bottom - top, kept_from[1] - left : right - left]
    share = F.adaptive_avg_pool2d(mask[:, None], after.shape[2:])
    if inside is not None:  # cells outside the region are neither anomalous nor normal
        share = torch.where(inside, share, 0.25)
    kept = []
    for with_it, without, cells in zip(
        after.flatten(2).mT, maps.flatten(2).mT, share.flatten(1), strict=True
    ):
        index = _some(cells, n_vectors, generator)
        values = (with_it[index], without[index], (cells[index] > 0.5).to(maps))
        kept.append(SimulatedFeatures(*(v.half() for v in values)))
    return SimulatedFeatures.joined(kept)


def known_features(
    parts: Iterable[tuple[Tensor, Tensor, Tensor | None]],
    normals: SimulatedFeatures,
    generator: torch.Generator,
) -> tuple[SimulatedFeatures, SimulatedFeatures] | None:
    """Return the vectors of known defects, and of other cells of the same images.

    Parameters
    ----------
    parts : iterable of (Tensor (n, n_features, h, w), Tensor (n, H, W), Tensor (h, w) or None)
        The feature maps of images with a known defect, their masks, and True for the cells inside
        the region.
    normals : SimulatedFeatures
        Normal cells; for each defect the nearest one is used as the cell without the defect.
    generator : torch.Generator
        Draws the selection of cells.

    Returns
    -------
    defects, others : SimulatedFeatures
        A cell is defective if at least half of it is masked, or if it has the largest masked share
        for a small defect. Other partly masked cells are in neither set. None if no cell inside the
        region is defective.
    """
    defects, others = [], []
    for maps, masks, inside in parts:
        size = (maps.shape[2], maps.shape[3])
        vectors = maps.flatten(2).mT.flatten(0, 1)
        counts = torch.ones(size, dtype=torch.bool) if inside is None else inside
        counts = counts.to(maps.device).expand(len(maps), *size).flatten()
        is_defect = shrunk_masks(masks, size).flatten() > 0
        is_other = F.adaptive_avg_pool2d(masks[:, None], size).flatten() == 0
        # Thinned here as well, because a large photograph has many cells.
        n_most = _MOST_KNOWN * len(maps)
        defects.append(_thinned(vectors[is_defect & counts], generator, n_most))
        others.append(_thinned(vectors[is_other & counts], generator, n_most))
    if not any(map(len, defects)):
        return None
    of_defects, beside = (_thinned(torch.cat(v), generator) for v in (defects, others))
    clean = _thinned(normals.clean, generator, _MOST_NORMAL).to(of_defects)
    origins = clean[torch.cdist(of_defects, clean).argmin(1)]
    if not len(beside):  # all cells of the images are defective
        beside = clean
    return (
        SimulatedFeatures(of_defects, origins, torch.ones_like(of_defects[:, 0])),
        SimulatedFeatures(beside, beside, torch.zeros_like(beside[:, 0])),
    )


def _thinned(vectors: Tensor, generator: torch.Generator, n_max: int = _MOST_KNOWN) -> Tensor:
    """Select vectors at random if there are more than the limit."""
    if len(vectors) <= n_max:
        return vectors
    order = torch.randperm(len(vectors), generator=generator)[:n_max]
    return vectors[order.to(vectors.device)]


def _some(cells: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """Return the indices of n cells, if possible half of them anomalous, the others unchanged."""
    order = torch.randperm(len(cells), generator=generator).to(cells.device)
    is_anomalous, is_normal = cells[order] > 0.5, cells[order] == 0
    anomalous = order[is_anomalous][: n // 2]
    return torch.cat([anomalous, order[is_normal][: n - len(anomalous)]])


class VectorNetwork(nn.Module):
    """A multilayer perceptron for each member, for concatenated vectors (K, n, d).

    Parameters
    ----------
    n_members : int
    widths : sequence of int
        Sizes of the input, of the hidden layers, and of the output.
    generator : torch.Generator
        Draws the initial weights.
    """

    def __init__(self, n_members: int, widths: Sequence[int], generator: torch.Generator) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for n_in, n_out in pairwise(widths[:-1]):
            layers += [
                MemberLinear(n_members, n_in, n_out, generator),
                MemberBatchNorm(n_members, n_out),
                nn.LeakyReLU(_LEAK),
            ]
        self.hidden = nn.Sequential(*layers)
        self.last = MemberLinear(n_members, widths[-2], widths[-1], generator)

    def forward(self, *inputs: Tensor) -> Any:
        """Map vectors (K, n, d) to (K, n, widths[-1])."""
        return self.last(self.hidden(torch.cat(inputs, dim=-1)))


class VectorDiscriminator(VectorNetwork):
    """A discriminator of vectors: logits (K, n, 1), and its features."""

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits, and the features of the last hidden layer."""
        features = self.hidden(torch.cat(inputs, dim=-1))
        return self.last(features), features


def noisy(vectors: Tensor, generator: torch.Generator) -> Tensor:
    """Add Gaussian noise to vectors (K, n, d); each has a standard deviation from 0.05 to 0.5."""
    low, high = _NOISE
    deviation = low + (high - low) * torch.rand(*vectors.shape[:2], 1, generator=generator)
    noise = deviation * torch.randn(vectors.shape, generator=generator)
    return vectors + noise.to(vectors)


def hardened(
    judge: Callable[[Tensor], Tensor], vectors: Tensor, origins: Tensor, n_steps: int, size: float
) -> Tensor:
    """Move anomalous vectors towards a smaller predicted probability of an anomaly.

    Each step has `size` times the distance from the origin, along the gradient of the cross-entropy
    with the label of anomalies, and is projected back to that distance.

    Parameters
    ----------
    judge : callable
        Maps vectors to logits, with networks in evaluation mode and without gradients of weights.
    vectors, origins : Tensor of shape (K, n, d)
        The anomalous vectors, and the normal ones from which they were made.
    n_steps : int
        0 does not change the vectors.
    size : float

    Returns
    -------
    Tensor of shape (K, n, d)
        The moved vectors; their distances from `origins` are those of `vectors`.
    """
    radius = torch.linalg.vector_norm(vectors - origins, dim=-1, keepdim=True)
    for _ in range(n_steps):
        moved = vectors.detach().requires_grad_()
        (slope,) = torch.autograd.grad(loss_as_real(judge(moved)).sum(), moved)
        moved = vectors + size * radius * F.normalize(slope, dim=-1)
        vectors = origins + radius * F.normalize(moved - origins, dim=-1)
    return vectors.detach()


class FeatureScore(nn.Module):
    """Joint map and score of images from the discriminant module and a memory bank of patches.

    The anomaly map is the sum of the predicted probability and the plain distance to the nearest
    patch, each smoothed and standardised over the cells of held-out normal images. The score is the
    sum of the largest values of two other maps, standardised over these images: of the probability,
    and of the locally scaled distance calibrated by position, both smoothed. The calibration of the
    distance improves the score, but blurs the map. The probability is small for normal images at
    all positions, and is not calibrated.

    Parameters
    ----------
    bank : PatchBank
    distance_place : PlaceCalibration

    Attributes
    ----------
    mean, spread : Tensor of shape (2,)
        Mean and standard deviation of probability and distance over the cells of held-out images.
    peak_mean, peak_spread : Tensor of shape (2,)
        Mean and standard deviation of the largest values of both.
    """

    mean: Tensor
    spread: Tensor
    peak_mean: Tensor
    peak_spread: Tensor

    def __init__(
        self,
        bank: PatchBank,
        distance_place: PlaceCalibration,
    ) -> None:
        super().__init__()
        self.bank, self.distance_place = bank, distance_place
        for name in ("mean", "peak_mean"):
            self.register_buffer(name, torch.zeros(2))
        for name in ("spread", "peak_spread"):
            self.register_buffer(name, torch.ones(2))

    @classmethod
    def of(
        cls,
        bank: PatchBank,
        kept: Sequence[Sequence[Tensor]],
        inside: Tensor | None = None,
        *,
        trained_on: Sequence[Tensor] = (),
        knows_defects: bool = False,
    ) -> Self:
        """Fit all scales to held-out normal images.

        Parameters
        ----------
        bank : PatchBank
        kept : sequence of (probability, distances, in_own_units)
            The arguments of `forward` for images that neither the modules nor the bank were trained
            on.
        inside : Tensor of shape (h, w) or None, default=None
            True for the cells inside the region; None for all.
        trained_on : sequence of Tensor of shape (n, h', w'), default=()
            `in_own_units` of training images, each to the references of the other images. They make
            the calibration of distances by position more accurate.
        knows_defects : bool, default=False
            Whether the discriminant module was trained on masks of known defects. Then it locates
            other defects better than the bank, and the distance has half of its weight in the map.
        """
        score = cls(bank, PlaceCalibration.of([*(own for *_, own in kept), *trained_on]))
        parts = [score._parts(maps[0], maps[1], maps[2], inside) for maps in kept]
        counted = slice(None) if inside is None else inside.flatten()
        cells = torch.cat([m.flatten(3)[..., counted].flatten(1) for m, _ in parts], dim=1)
        score.mean, score.spread = _mean_and_spread(cells)
        if knows_defects:
            score.spread[1] *= _LESS_OF_BANK
        peaks = torch.cat([peaks.flatten(1) for _, peaks in parts], dim=1)
        score.peak_mean, score.peak_spread = _mean_and_spread(peaks)
        return score

    @classmethod
    def loaded(cls, state: Mapping[str, Tensor]) -> Self:
        """Create the object from a state dict.

        Raises
        ------
        LookupError, RuntimeError, ValueError
            If the state is not that of a `FeatureScore`.
        """
        n_references, n_features = state["bank.references"].shape
        place = PlaceCalibration(state["distance_place.mean"].shape)
        score = cls(PatchBank(n_references, n_features), place)
        score.load_state_dict(dict(state))
        return score

    def _parts(
        self,
        probability: Tensor,
        distances: Tensor,
        in_own_units: Tensor,
        inside: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """Return the two maps (2, K, n, h, w), and the largest values (2, K, n) for the score."""
        coarse = torch.stack([distances, self.distance_place(in_own_units)])
        fine = F.interpolate(coarse, probability.shape[2:], mode="bilinear")
        flat = gaussian_smoothed(probability.flatten(0, 1), _SMOOTHING)
        of_modules = flat.unflatten(0, probability.shape[:2])
        # Patches are the same for all members.
        plain, placed = (gaussian_smoothed(maps, _SMOOTHING).expand_as(of_modules) for maps in fine)
        maps, scored = (torch.stack([of_modules, of_bank]) for of_bank in (plain, placed))
        return maps, _largest(scored, inside)

    def forward(
        self,
        probability: Tensor,
        distances: Tensor,
        in_own_units: Tensor,
        inside: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return anomaly maps and scores.

        Parameters
        ----------
        probability : Tensor of shape (K, n, h, w)
            The probability of an anomaly in each cell, by each member.
        distances, in_own_units : Tensor of shape (n, h', w')
            The output of the memory bank.
        inside : Tensor of shape (h, w) or None, default=None
            True for the cells inside the region; None for all.

        Returns
        -------
        anomaly_map : Tensor of shape (K, n, h, w)
        score : Tensor of shape (K, n)
        of_patches : Tensor of shape (K, n)
            The part of the memory bank in the score.
        """
        smoothed, peaks = self._parts(probability, distances, in_own_units, inside)
        mean, spread = (v[:, None, None, None, None] for v in (self.mean, self.spread))
        standardised = (smoothed - mean) / spread
        scores = (peaks - self.peak_mean[:, None, None]) / self.peak_spread[:, None, None]
        return standardised.sum(0), scores.sum(0), scores[1]


def largest_smoothed(maps: Tensor, inside: Tensor | None = None) -> Tensor:
    """Return the largest value (K, n) of each smoothed map (K, n, h, w)."""
    smoothed = gaussian_smoothed(maps.flatten(0, 1), _SMOOTHING)
    return _largest(smoothed.unflatten(0, maps.shape[:2]), inside)


def _largest(maps: Tensor, inside: Tensor | None) -> Tensor:
    """Return the largest value of maps (..., h, w) in the cells inside the region."""
    if inside is not None:
        maps = torch.where(inside, maps, -torch.inf)
    return maps.amax(dim=(-2, -1))


def _mean_and_spread(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of each row; the latter is 1 for a constant row."""
    spread, mean = torch.std_mean(values, dim=1, correction=0)
    return mean, torch.where(spread > _LEAST_SPREAD, spread, 1.0)
