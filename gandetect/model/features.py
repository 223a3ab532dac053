"""RDNA on the features of a frozen network: what its modules learn from, and how maps are joined.

Every cell of a joined feature map is a vector of its own. The modules learn from simulated
anomalies that were pushed through the backbone once, and from noise on normal vectors that the
discriminant itself makes harder (GLASS [1]_).

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
# Between which two the standard deviation of noise on standardised vectors is drawn.
_NOISE = (0.05, 0.5)
# Updates in an epoch at most: simulated vectors are as many as one asks for.
_MOST_BATCHES = 100
# Vectors of known defects that are kept at most, and normal ones among which origins are sought.
_MOST_KNOWN, _MOST_NORMAL = 5_000, 5_000
# Standard deviation, in cells, of the window that smooths maps.
_SMOOTHING = 1.0
# The least spread of a map by which it is divided.
_LEAST_SPREAD = 1e-6


@dataclass(frozen=True, eq=False)
class SimulatedFeatures:
    """Vectors of images with simulated anomalies, to draw batches from.

    Parameters
    ----------
    corrupted, clean : Tensor of shape (n, n_features)
        With the anomaly, and of the same cell of the same image without.
    labels : Tensor of shape (n,)
        1 where most of the cell was changed, 0 where nothing was.
    """

    corrupted: Tensor
    clean: Tensor
    labels: Tensor

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """All of them as one."""
        fields = ([p.corrupted, p.clean, p.labels] for p in parts)
        return cls(*(torch.cat(values) for values in zip(*fields, strict=True)))

    def normal(self) -> SimulatedFeatures:
        """The vectors of cells where nothing was changed, which may lie beside an anomaly.

        If there are none, those of images without an anomaly.
        """
        is_normal = self.labels == 0
        if not is_normal.any():
            return SimulatedFeatures(self.clean, self.clean, torch.zeros_like(self.labels))
        return SimulatedFeatures(
            self.corrupted[is_normal], self.clean[is_normal], self.labels[is_normal]
        )

    def draw(self, n_members: int, n: int, generator: torch.Generator) -> Tensor:
        """A batch (n_members, n, 2 n_features + 1): corrupted, clean and label side by side."""
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
        """As many as hold the pool once, up to a hundred."""
        return min(max(round(len(self.pool.labels) / self.batch_size), 1), _MOST_BATCHES)

    def epoch(self) -> Iterator[Tensor]:
        """The batches of one epoch."""
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
    """Put an anomaly onto each of a few normal images, and keep some vectors of each.

    Parameters
    ----------
    backbone : Backbone
    images : Tensor of shape (n, channels, H, W)
        With values in [0, 1].
    maps : Tensor of shape (n, n_features, h, w)
        What the backbone makes of them, or of a part of them.
    anomalies : ImageAnomalies
        Give it a `probability` of 1: cells without an anomaly are in every image.
    n_vectors : int, default=460
        Vectors kept of each image, half of them anomalous if there are so many.
    part : tuple of (Box, Box) or None, default=None
        Where the images are, and of which part the maps are: see `backbone.pieces`.
    inside : Tensor of shape (h, w) or None, default=None
        True for the cells of the maps that count; None for all.
    generator : torch.Generator
        Of the cells that are kept; anomalies have their own.

    Returns
    -------
    SimulatedFeatures
        In float16, which halves the memory.
    """
    corrupted, mask = anomalies(images)
    after = backbone(corrupted)
    if part is not None:
        after = cut(after, *part)
        (top, left, *_), (*kept_from, bottom, right) = part
        mask = mask[:, kept_from[0] - top : bottom - top, kept_from[1] - left : right - left]
    share = F.adaptive_avg_pool2d(mask[:, None], after.shape[2:])
    if inside is not None:  # neither anomalous nor normal outside
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
    """The vectors of known defects, and of other cells of the same images.

    Parameters
    ----------
    parts : iterable of (Tensor (n, n_features, h, w), Tensor (n, H, W), Tensor (h, w) or None)
        What the backbone makes of images with a known defect, their masks, and True for the cells
        that count.
    normals : SimulatedFeatures
        Of normal cells: the nearest one stands for what a defect would have been without it.
    generator : torch.Generator
        Of the cells that are kept.

    Returns
    -------
    defects, others : SimulatedFeatures
        A cell is one of a defect if half of it is, or most of its largest cell; cells with less of
        it are neither. None if no cell that counts is one of a defect.
    """
    defects, others = [], []
    for maps, masks, inside in parts:
        size = (maps.shape[2], maps.shape[3])
        vectors = maps.flatten(2).mT.flatten(0, 1)
        counts = torch.ones(size, dtype=torch.bool) if inside is None else inside
        counts = counts.to(maps.device).expand(len(maps), *size).flatten()
        is_defect = shrunk_masks(masks, size).flatten() > 0
        is_other = F.adaptive_avg_pool2d(masks[:, None], size).flatten() == 0
        defects.append(vectors[is_defect & counts])
        others.append(vectors[is_other & counts])
    if not any(map(len, defects)):
        return None
    of_defects, beside = (_thinned(torch.cat(v), generator) for v in (defects, others))
    clean = _thinned(normals.clean, generator, _MOST_NORMAL).to(of_defects)
    origins = clean[torch.cdist(of_defects, clean).argmin(1)]
    if not len(beside):  # images that are defective all over
        beside = clean
    return (
        SimulatedFeatures(of_defects, origins, torch.ones_like(of_defects[:, 0])),
        SimulatedFeatures(beside, beside, torch.zeros_like(beside[:, 0])),
    )


def _thinned(vectors: Tensor, generator: torch.Generator, n_max: int = _MOST_KNOWN) -> Tensor:
    """Some of the vectors, if there are more."""
    if len(vectors) <= n_max:
        return vectors
    order = torch.randperm(len(vectors), generator=generator)[:n_max]
    return vectors[order.to(vectors.device)]


def _some(cells: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """Numbers of n cells, half of them mostly anomalous, the others not at all, if there are."""
    order = torch.randperm(len(cells), generator=generator).to(cells.device)
    is_anomalous, is_normal = cells[order] > 0.5, cells[order] == 0
    anomalous = order[is_anomalous][: n // 2]
    return torch.cat([anomalous, order[is_normal][: n - len(anomalous)]])


class VectorNetwork(nn.Module):
    """A perceptron a member for vectors (K, n, d), of which several are joined.

    Parameters
    ----------
    n_members : int
    widths : sequence of int
        Of what comes in, of the hidden layers, and of what comes out.
    generator : torch.Generator
        Of the weights.
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
        """Vectors (K, n, d) each to (K, n, widths[-1])."""
        return self.last(self.hidden(torch.cat(inputs, dim=-1)))


class VectorDiscriminator(VectorNetwork):
    """Judges vectors by a logit (K, n, 1); as all discriminators it gives its features too."""

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Logits, and the features that they are made from."""
        features = self.hidden(torch.cat(inputs, dim=-1))
        return self.last(features), features


def noisy(vectors: Tensor, generator: torch.Generator) -> Tensor:
    """Vectors (K, n, d) with Gaussian noise, whose deviation is drawn for each from 0.05 to 0.5."""
    low, high = _NOISE
    deviation = low + (high - low) * torch.rand(*vectors.shape[:2], 1, generator=generator)
    noise = deviation * torch.randn(vectors.shape, generator=generator)
    return vectors + noise.to(vectors)


def hardened(
    judge: Callable[[Tensor], Tensor], vectors: Tensor, origins: Tensor, n_steps: int, size: float
) -> Tensor:
    """Move anomalous vectors to where the discriminant takes them for normal.

    Each step goes `size` times the distance from the origin along the gradient of the
    cross-entropy against the label of anomalies, and then back to that distance.

    Parameters
    ----------
    judge : callable
        From vectors to logits, with networks in evaluation mode; no weight gets a gradient.
    vectors, origins : Tensor of shape (K, n, d)
        The anomalous vectors, and the normal ones that they were made of.
    n_steps : int
        0 leaves the vectors as they are.
    size : float

    Returns
    -------
    Tensor of shape (K, n, d)
        As far from the origins as `vectors`.
    """
    radius = torch.linalg.vector_norm(vectors - origins, dim=-1, keepdim=True)
    for _ in range(n_steps):
        moved = vectors.detach().requires_grad_()
        (slope,) = torch.autograd.grad(loss_as_real(judge(moved)).sum(), moved)
        moved = vectors + size * radius * F.normalize(slope, dim=-1)
        vectors = origins + radius * F.normalize(moved - origins, dim=-1)
    return vectors.detach()


class FeatureScore(nn.Module):
    """Map and score of images from the discriminant and from a bank of patches, joined.

    The anomaly map is the sum of the discriminant's probability and the plain distance to the
    nearest patch, each smoothed and standardised over the cells of normal images that were kept
    aside. The score is the sum of the largest values of two other maps, standardised over these
    images: of the probability, and of the distance in own units calibrated by place, both smoothed.
    What distance is usual at a place says much of whether an image is normal, but blurs where it is
    not; a probability is small wherever images are normal, and its spread at a place is chance.

    Parameters
    ----------
    bank : PatchBank
    distance_place : PlaceCalibration

    Attributes
    ----------
    mean, spread : Tensor of shape (2,)
        Of the cells of probability and distance on images kept aside.
    peak_mean, peak_spread : Tensor of shape (2,)
        Of the largest values of both.
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
        cls, bank: PatchBank, kept: Sequence[Sequence[Tensor]], inside: Tensor | None = None
    ) -> Self:
        """Learn all scales from normal images that were kept aside.

        Parameters
        ----------
        bank : PatchBank
        kept : sequence of (probability, distances, in_own_units)
            As `forward` takes them, of images that neither the modules nor the bank have seen.
        inside : Tensor of shape (h, w) or None, default=None
            True for the cells that count; None for all.
        """
        score = cls(bank, PlaceCalibration.of([own for *_, own in kept]))
        parts = [score._parts(maps[0], maps[1], maps[2], inside) for maps in kept]
        counted = slice(None) if inside is None else inside.flatten()
        cells = torch.cat([m.flatten(3)[..., counted].flatten(1) for m, _ in parts], dim=1)
        score.mean, score.spread = _mean_and_spread(cells)
        peaks = torch.cat([peaks.flatten(1) for _, peaks in parts], dim=1)
        score.peak_mean, score.peak_spread = _mean_and_spread(peaks)
        return score

    @classmethod
    def loaded(cls, state: Mapping[str, Tensor]) -> Self:
        """What had this state dict.

        Raises
        ------
        LookupError, RuntimeError, ValueError
            If it is the state of something else.
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
        """The two maps (2, K, n, h, w), and the largest values (2, K, n) that the score is of."""
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
        """Anomaly maps and scores.

        Parameters
        ----------
        probability : Tensor of shape (K, n, h, w)
            Of each cell to be anomalous, by each member.
        distances, in_own_units : Tensor of shape (n, h', w')
            What the bank gives.
        inside : Tensor of shape (h, w) or None, default=None
            True for the cells that count; None for all.

        Returns
        -------
        anomaly_map : Tensor of shape (K, n, h, w)
        score : Tensor of shape (K, n)
        of_patches : Tensor of shape (K, n)
            The share of the bank in the score.
        """
        smoothed, peaks = self._parts(probability, distances, in_own_units, inside)
        mean, spread = (v[:, None, None, None, None] for v in (self.mean, self.spread))
        standardised = (smoothed - mean) / spread
        scores = (peaks - self.peak_mean[:, None, None]) / self.peak_spread[:, None, None]
        return standardised.sum(0), scores.sum(0), scores[1]


def largest_smoothed(maps: Tensor, inside: Tensor | None = None) -> Tensor:
    """The largest value of each smoothed map (K, n, h, w): (K, n)."""
    smoothed = gaussian_smoothed(maps.flatten(0, 1), _SMOOTHING)
    return _largest(smoothed.unflatten(0, maps.shape[:2]), inside)


def _largest(maps: Tensor, inside: Tensor | None) -> Tensor:
    """The largest value of maps (..., h, w) in the cells that count."""
    if inside is not None:
        maps = torch.where(inside, maps, -torch.inf)
    return maps.amax(dim=(-2, -1))


def _mean_and_spread(values: Tensor) -> tuple[Tensor, Tensor]:
    """Of each row; a row whose values are all alike keeps its units."""
    spread, mean = torch.std_mean(values, dim=1, correction=0)
    return mean, torch.where(spread > _LEAST_SPREAD, spread, 1.0)
