"""RDNA on the features of a frozen network: what its modules learn from, and how.

Every cell of a joined feature map is a vector of its own. The reconstruction module gives back what
would be normal there, the discriminant module sees the vector beside its reconstruction and says
whether it is anomalous; each has a discriminator. They learn from simulated anomalies that were
pushed through the backbone once, and from noise on normal vectors that the discriminant itself
makes harder (GLASS [1]_).

References
----------
.. [1] Chen et al., "A unified anomaly synthesis strategy with gradient ascent for industrial
   anomaly detection and localization", ECCV 2024.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from gandetect.losses import focal_loss, loss_as_real, mean_squared_error
from gandetect.model.patches import PatchBank, PlaceCalibration, gaussian_smoothed
from gandetect.networks.backbone import Backbone
from gandetect.networks.members import MemberBatchNorm, MemberLinear
from gandetect.simulation import ImageAnomalies
from gandetect.training.device import isolated_seed
from gandetect.training.loop import update

_LEAK = 0.2
# Widths of the discriminant, of a discriminator, and of the reconstruction module on either side
# of its bottleneck.
_DISCRIMINANT_WIDTHS = (256, 128)
_DISCRIMINATOR_WIDTHS = (128,)
_RECONSTRUCTOR_WIDTHS = (128, 32, 128)
# Share of the training over which the adversarial losses grow to their full weight, and after which
# noise is hardened: before, the discriminant's gradient says little.
_WARM_UP = 0.2
# Images that are simulated on at once.
_N_AT_ONCE = 8
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

    def normal(self) -> SimulatedFeatures:
        """The vectors of cells where nothing was changed, which may lie beside an anomaly."""
        is_normal = self.labels == 0
        return SimulatedFeatures(
            self.corrupted[is_normal], self.clean[is_normal], self.labels[is_normal]
        )

    def draw(
        self, n_members: int, n: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Batches (n_members, n, ...) of `corrupted`, `clean` and `labels`, in float32."""
        index = torch.randint(len(self.labels), (n_members, n), generator=generator)
        index = index.to(self.labels.device)
        return tuple(v[index].float() for v in (self.corrupted, self.clean, self.labels))  # type: ignore[return-value]


def simulate_features(
    backbone: Backbone,
    images: Sequence[Tensor],
    maps: Sequence[Tensor],
    anomalies: ImageAnomalies,
    *,
    n_images: int = 400,
    n_vectors: int = 460,
    generator: torch.Generator,
) -> SimulatedFeatures:
    """Put anomalies onto normal images, and keep some vectors of each.

    Parameters
    ----------
    backbone : Backbone
    images : Tensor of shape (n, channels, H, W) or sequence of Tensor (channels, H, W)
        With values in [0, 1]; of the anomalies' height and width or smaller.
    maps : Tensor of shape (n, n_features, h, w) or sequence of Tensor (n_features, h, w)
        What the backbone makes of them, in any floating type.
    anomalies : ImageAnomalies
        Give it a `probability` of 1: cells without an anomaly are in every image.
    n_images : int, default=400
        How many images get an anomaly; each of `images` as often as others, or once more.
    n_vectors : int, default=460
        Vectors kept of each, half of them anomalous if there are so many.
    generator : torch.Generator
        The only source of random numbers; torch's own is left as it was.
    """
    # As often each, then equal shapes together.
    chosen = [
        i
        for _ in range(-(-n_images // len(images)))
        for i in torch.randperm(len(images), generator=generator).tolist()
    ][:n_images]
    chosen.sort(key=lambda i: tuple(images[i].shape))
    seed = int(torch.randint(2**31, (), generator=generator))
    kept: list[tuple[Tensor, Tensor, Tensor]] = []
    with isolated_seed(seed, images[0].device), torch.no_grad():
        for block in _blocks_of_one_shape(chosen, images):
            x = torch.stack([images[i] for i in block])
            corrupted, mask = _corrupted(anomalies, x)
            after = backbone(corrupted)
            share = F.adaptive_avg_pool2d(mask[:, None], after.shape[2:])
            for i, vectors, cells in zip(block, after.flatten(2).mT, share.flatten(1), strict=True):
                index = _some(cells, n_vectors)
                clean = maps[i].flatten(1).T[index]
                labels = (cells[index] > 0.5).to(clean.dtype)
                kept.append((vectors[index].to(clean.dtype), clean, labels))
    return SimulatedFeatures(*(torch.cat(parts) for parts in zip(*kept, strict=True)))


def _blocks_of_one_shape(chosen: list[int], images: Sequence[Tensor]) -> list[list[int]]:
    blocks: list[list[int]] = []
    for i in chosen:
        last = blocks[-1] if blocks else []
        if last and len(last) < _N_AT_ONCE and images[last[0]].shape == images[i].shape:
            last.append(i)
        else:
            blocks.append([i])
    return blocks


def _corrupted(anomalies: ImageAnomalies, x: Tensor) -> tuple[Tensor, Tensor]:
    """Images with anomalies of a larger size, of which they get the corner."""
    height, width = x.shape[2:]
    rows, columns = anomalies.masks.shape[1:]
    frame = F.pad(x, (0, columns - width, 0, rows - height), mode="replicate")
    corrupted, mask = anomalies(frame)
    return corrupted[..., :height, :width], mask[..., :height, :width]


def _some(cells: Tensor, n: int) -> Tensor:
    """Numbers of n cells, half of them mostly anomalous, the others not at all, if there are."""
    order = torch.randperm(len(cells)).to(cells.device)
    is_anomalous, is_normal = cells[order] > 0.5, cells[order] == 0
    anomalous = order[is_anomalous][: n // 2]
    return torch.cat([anomalous, order[is_normal][: n - len(anomalous)]])


def build_networks(
    n_features: int, n_members: int = 1, *, restores: bool = True, adversarial: bool = True
) -> dict[str, nn.Module]:
    """The modules of RDNA for vectors (n_members, n, n_features).

    Parameters
    ----------
    n_features : int
    n_members : int, default=1
    restores : bool, default=True
        Whether the reconstruction module is built.
    adversarial : bool, default=True
        Whether each module gets a discriminator.

    Returns
    -------
    dict of str to Module
        "discriminant", which sees a vector and, if `restores`, its reconstruction and their
        absolute difference; "reconstructor"; and their discriminators, "mask_discriminator",
        which sees a probability behind the vector, and "sample_discriminator".
    """
    seen = (3 if restores else 1) * n_features
    widths: dict[str, tuple[int, ...]] = {"discriminant": (seen, *_DISCRIMINANT_WIDTHS, 1)}
    if restores:
        widths["reconstructor"] = (n_features, *_RECONSTRUCTOR_WIDTHS, n_features)
    if adversarial:
        widths["mask_discriminator"] = (n_features + 1, *_DISCRIMINATOR_WIDTHS, 1)
    if adversarial and restores:
        widths["sample_discriminator"] = (n_features, *_DISCRIMINATOR_WIDTHS, 1)
    return {name: _perceptron(n_members, w) for name, w in widths.items()}


def _perceptron(n_members: int, widths: Sequence[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(widths[:-1]):
        layers += [MemberLinear(n_members, n_in, n_out), MemberBatchNorm(n_members, n_out)]
        layers.append(nn.LeakyReLU(_LEAK))
    return nn.Sequential(*layers, MemberLinear(n_members, widths[-2], widths[-1]))


def reconstruct_and_judge(nets: Any, vectors: Tensor) -> tuple[Tensor, Tensor]:
    """The reconstructions (K, n, d) of vectors (K, n, d), and a logit (K, n, 1) each.

    Without a reconstruction module the vectors stand for their reconstructions.
    """
    if "reconstructor" not in nets:
        return vectors, nets["discriminant"](vectors)
    restored = nets["reconstructor"](vectors)
    seen = torch.cat([vectors, restored, (vectors - restored).abs()], dim=-1)
    return restored, nets["discriminant"](seen)


def judge_maps(nets: Any, maps: Tensor, n_members: int = 1) -> tuple[Tensor, Tensor]:
    """What the modules say of each cell of joined maps.

    Parameters
    ----------
    nets : mapping of str to Module
    maps : Tensor of shape (n, d, h, w)
    n_members : int, default=1

    Returns
    -------
    logits, difference : Tensor of shape (n_members, n, h, w)
        Of the cell to be anomalous; and the mean absolute difference to the reconstruction, 0
        without a reconstruction module.
    """
    vectors = maps.movedim(1, -1).flatten(0, 2).expand(n_members, -1, -1)
    restored, logits = reconstruct_and_judge(nets, vectors)
    shape = (n_members, -1, *maps.shape[2:])
    return logits.reshape(shape), (vectors - restored).abs().mean(-1).reshape(shape)


def noisy(vectors: Tensor, deviations: tuple[float, float], generator: torch.Generator) -> Tensor:
    """Normal vectors (K, n, d) with Gaussian noise, whose deviation is drawn for each of them.

    Parameters
    ----------
    vectors : Tensor of shape (K, n, d)
        Standardised.
    deviations : tuple of float
        Between which two the standard deviation is drawn.
    generator : torch.Generator
    """
    low, high = deviations
    deviation = low + (high - low) * torch.rand(*vectors.shape[:2], 1, generator=generator)
    noise = deviation * torch.randn(vectors.shape, generator=generator)
    return vectors + noise.to(vectors)


def hardened(nets: Any, vectors: Tensor, origins: Tensor, n_steps: int, size: float) -> Tensor:
    """Move anomalous vectors to where the discriminant takes them for normal.

    Each step goes `size` times the distance from the origin along the gradient of the
    cross-entropy against the label of anomalies, and then back to that distance.

    Parameters
    ----------
    nets : mapping of str to Module
        Used in evaluation mode, and left in the mode that they were in; no weight gets a gradient.
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
    modules = [nets[name] for name in ("reconstructor", "discriminant") if name in nets]
    modes = [module.training for module in modules]
    for module in modules:
        module.eval()
    radius = torch.linalg.vector_norm(vectors - origins, dim=-1, keepdim=True)
    for _ in range(n_steps):
        moved = vectors.detach().requires_grad_()
        loss = loss_as_real(reconstruct_and_judge(nets, moved)[1]).sum()
        (slope,) = torch.autograd.grad(loss, moved)
        moved = vectors + size * radius * F.normalize(slope, dim=-1)
        vectors = origins + radius * F.normalize(moved - origins, dim=-1)
    for module, mode in zip(modules, modes, strict=True):
        module.train(mode)
    return vectors.detach()


@dataclass(frozen=True, kw_only=True)
class FeatureTraining:
    """How the modules learn.

    Parameters
    ----------
    batch_size : int, default=1024
        Simulated vectors in a batch; half as many normal ones and as many with noise come beside.
    hardened_noise : tuple of (int, float), default=(2, 0.3)
        Steps by which the adversary hardens noise, and the size of one; 0 steps is plain noise.
    noise : tuple of float, default=(0.05, 0.5)
        Between which two the standard deviation of noise is drawn.
    adversarial_weight : float, default=0.001
        Of the two adversarial losses, after a warm-up.
    focal_weight, focal_gamma : float, default=1.0, 2.0
        Of the discriminant's loss.
    """

    batch_size: int = 1024
    hardened_noise: tuple[int, float] = (2, 0.3)
    noise: tuple[float, float] = (0.05, 0.5)
    adversarial_weight: float = 0.001
    focal_weight: float = 1.0
    focal_gamma: float = 2.0


def train_step(
    nets: Any,
    optimizers: dict[str, Optimizer],
    pool: SimulatedFeatures,
    normals: SimulatedFeatures,
    progress: float,
    training: FeatureTraining,
    *,
    n_members: int = 1,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """Draw a batch and update all modules once.

    Parameters
    ----------
    nets : mapping of str to Module
        From `build_networks`, in training mode.
    optimizers : dict of str to Optimizer
        "modules" of the reconstruction and the discriminant module, and with an
        `adversarial_weight` "discriminators" of the two others.
    pool, normals : SimulatedFeatures
        All vectors, and those of unchanged cells (``pool.normal()``).
    progress : float in [0, 1]
        How much of the training is done.
    training : FeatureTraining
    n_members : int, default=1
    generator : torch.Generator
        The only source of random numbers.

    Returns
    -------
    dict of str to Tensor of shape (n_members, n)
        The losses "discriminant" and, with a reconstruction module, "reconstruction"; and with an
        `adversarial_weight` "adversarial" and "discriminators".

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from gandetect.model.features import (
    ...     FeatureTraining, SimulatedFeatures, build_networks, train_step
    ... )
    >>> generator = torch.Generator().manual_seed(0)
    >>> clean = torch.randn(500, 8, generator=generator)
    >>> labels = (torch.arange(500) % 2).float()
    >>> pool = SimulatedFeatures(clean + 3 * labels[:, None], clean, labels)
    >>> nets = nn.ModuleDict(build_networks(8, adversarial=False))
    >>> optimizers = {"modules": torch.optim.AdamW(nets.parameters())}
    >>> training = FeatureTraining(batch_size=64, adversarial_weight=0)
    >>> losses = train_step(
    ...     nets, optimizers, pool, pool.normal(), 0.5, training, generator=generator
    ... )
    >>> sorted(losses)
    ['discriminant', 'reconstruction']
    """
    n_noisy = training.batch_size // 2
    corrupted, clean, labels = pool.draw(n_members, training.batch_size, generator)
    normal, normal_clean, _ = normals.draw(n_members, n_noisy, generator)
    origins, origins_clean, _ = normals.draw(n_members, n_noisy, generator)
    noise = noisy(origins, training.noise, generator)
    if progress >= _WARM_UP:
        noise = hardened(nets, noise, origins, *training.hardened_noise)
    x = torch.cat([corrupted, normal, noise], dim=1)
    target = torch.cat([clean, normal_clean, origins_clean], dim=1)
    is_noise = torch.arange(2 * n_noisy, device=x.device) >= n_noisy
    mask = torch.cat([labels, is_noise.to(x).expand(n_members, -1)], dim=1)[..., None]

    # 1. The modules: restore what was there, and say what was not.
    restored, logits = reconstruct_and_judge(nets, x)
    losses = {"discriminant": focal_loss(logits, mask, training.focal_gamma)}
    loss = training.focal_weight * losses["discriminant"]
    if "reconstructor" in nets:
        losses["reconstruction"] = mean_squared_error(target, restored)
        loss = loss + losses["reconstruction"]
    if not training.adversarial_weight:
        update(optimizers["modules"], loss)
        return losses
    masks = torch.cat([mask, torch.sigmoid(logits)], dim=1)
    beside = torch.cat([torch.cat([x, x], dim=1), masks], dim=-1)
    judged = [nets["mask_discriminator"](beside)]
    if "sample_discriminator" in nets:
        judged.append(nets["sample_discriminator"](torch.cat([target, restored], dim=1)))
    real, fake = torch.stack(judged).chunk(2, dim=2)
    losses["adversarial"] = (fake - 1).square().sum(0)[..., 0]
    weight = training.adversarial_weight * min(progress / _WARM_UP, 1)
    update(optimizers["modules"], loss + weight * losses["adversarial"], retain_graph=True)

    # 2. The discriminators: tell vectors from reconstructions, and masks from answers.
    losses["discriminators"] = ((real - 1).square() + fake.square()).sum(0)[..., 0]
    update(optimizers["discriminators"], losses["discriminators"])
    return losses


class FeatureScore(nn.Module):
    """Map and score of images from the discriminant and from a bank of patches, joined.

    The anomaly map is the sum of the discriminant's probability and the plain distance to the
    nearest patch, each smoothed and standardised over the cells of normal images that were kept
    aside. The score is the sum of the largest values of two other maps, standardised over these
    images: of the probability, and of the distance in own units, both calibrated by place and
    smoothed. What is usual at a place says much of whether an image is normal, but blurs where it
    is not.

    Parameters
    ----------
    bank : PatchBank
    probability_place, distance_place : PlaceCalibration

    Attributes
    ----------
    mean, spread : Tensor of shape (2,)
        Of the cells of probability and distance on images kept aside.
    peak_mean, peak_spread : Tensor of shape (2,)
        Of the largest values of both, calibrated by place.
    """

    mean: Tensor
    spread: Tensor
    peak_mean: Tensor
    peak_spread: Tensor

    def __init__(
        self,
        bank: PatchBank,
        probability_place: PlaceCalibration,
        distance_place: PlaceCalibration,
    ) -> None:
        super().__init__()
        self.bank = bank
        self.probability_place, self.distance_place = probability_place, distance_place
        for name in ("mean", "peak_mean"):
            self.register_buffer(name, torch.zeros(2))
        for name in ("spread", "peak_spread"):
            self.register_buffer(name, torch.ones(2))

    @classmethod
    def of(cls, nets: Any, bank: PatchBank, kept: Sequence[Tensor], n_members: int = 1) -> Self:
        """Learn all scales from the maps of normal images that were kept aside.

        Parameters
        ----------
        nets : mapping of str to Module
            Trained, in evaluation mode.
        bank : PatchBank
        kept : Tensor of shape (n, n_features, h, w) or sequence of Tensor (n_features, h, w)
            Of images that neither `nets` nor `bank` have seen.
        n_members : int, default=1
        """
        with torch.no_grad():
            images = [maps[None].float() for maps in kept]
            found = [(_probability(nets, maps, n_members), *bank(maps)) for maps in images]
            places = [PlaceCalibration.of([maps[i][0] for maps in found]) for i in (0, 2)]
            score = cls(bank, *places)
            parts = [score._parts(*maps) for maps in found]
            cells = torch.cat([smoothed.flatten(1) for smoothed, _ in parts], dim=1)
            score.mean, score.spread = _mean_and_spread(cells)
            peaks = torch.cat([peaks for _, peaks in parts], dim=1)
            score.peak_mean, score.peak_spread = _mean_and_spread(peaks)
        return score

    def _parts(
        self, probability: Tensor, distances: Tensor, in_own_units: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The two maps (2, n, h, w), and the largest values (2, n) of those by place."""
        coarse = torch.stack([distances, self.distance_place(in_own_units)])
        distances, placed = F.interpolate(coarse, probability.shape[1:], mode="bilinear")
        maps = (probability, distances, self.probability_place(probability), placed)
        smoothed = torch.stack([gaussian_smoothed(m, _SMOOTHING) for m in maps])
        return smoothed[:2], smoothed[2:].amax(dim=(2, 3))

    def forward(self, nets: Any, maps: Tensor, n_members: int = 1) -> tuple[Tensor, Tensor]:
        """Anomaly maps and scores.

        Parameters
        ----------
        nets : mapping of str to Module
        maps : Tensor of shape (n, n_features, h, w)
        n_members : int, default=1

        Returns
        -------
        anomaly_map : Tensor of shape (n, h, w)
        score : Tensor of shape (n,)
        """
        smoothed, peaks = self._parts(_probability(nets, maps, n_members), *self.bank(maps))
        mean, spread = (v[:, None, None, None] for v in (self.mean, self.spread))
        standardised = (smoothed - mean) / spread
        score = (peaks - self.peak_mean[:, None]) / self.peak_spread[:, None]
        return standardised.sum(0), score.sum(0)


def _mean_and_spread(values: Tensor) -> tuple[Tensor, Tensor]:
    """Of each row; a row whose values are all alike keeps its units."""
    spread, mean = torch.std_mean(values, dim=1, correction=0)
    return mean, torch.where(spread > _LEAST_SPREAD, spread, 1.0)


def _probability(nets: Any, maps: Tensor, n_members: int) -> Tensor:
    """Of each cell to be anomalous, in the mean of the members: (n, h, w)."""
    return torch.sigmoid(judge_maps(nets, maps, n_members)[0]).mean(0)
