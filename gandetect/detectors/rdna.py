"""RDNA: restore what is anomalous, and learn from simulated anomalies to say where it was."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.base import clone
from sklearn.utils import check_scalar
from torch import Tensor
from torch.nn import functional as F
from torch.optim import Adam, Optimizer

from gandetect.base import BaseDetector, check_choice, check_real
from gandetect.data.sources import blocks, read, slices
from gandetect.distributed import RandomNumbers, RandomState, draw_seed
from gandetect.losses import (
    focal_loss,
    loss_to_label,
    mean_squared_error,
    structural_similarity,
)
from gandetect.model import Model, Part, own_torch_settings, value_of
from gandetect.model.scaling import Scaler
from gandetect.networks import ConvNet, NetworkMaker
from gandetect.simulation import ImageAnomalies, corrupt_cells
from gandetect.simulation.textures import check_source
from gandetect.training import TrainingRun, TrainingSamples, update

# Images of this side, made smaller if larger, unless another size is asked for.
_AUTO_SIZE = 64
# Pixels in a batch of images: some more of the small ones, which are mostly overhead.
_PIXELS_A_BATCH = 2**15
# Share of the training over which the adversarial losses grow to their full weight.
_WARM_UP = 0.2
# Side of the square over which a map is averaged before its maximum is taken, in 256ths of the
# image's longer side: about half of DRAEM's, in which small defects drown.
_SMOOTHED = 11
_PUBLISHED_SMOOTHED = 21
# Share of a row's cells, the most anomalous ones, that its score is the mean of.
_TOP_CELLS = 0.2
# How far from 0 scaled images are known, to networks that learn from -1 or 0 to 1.
_KNOWN = 3.0
# Epochs to train where only the clock decides.
_UNTIL_STOPPED = 100_000


class RDNAModel(Model["RDNADetector"]):
    """Reconstruction module, discriminant and their discriminators, and the score of a map."""

    part_weights: ClassVar[Mapping[str, tuple[float, float]]] = {
        "map": (0.0, 1.0),
        "discriminant": (0.5, 0.0),
        "reconstruction": (1.0, 0.0),
        "neighbours": (2.0, 0.0),
        "sample_neighbours": (3.0, 0.0),
        "subsampled_neighbours": (0.0, 0.0),
    }
    score_parameters: ClassVar[tuple[str, ...]] = ("map",)
    network_parameters: ClassVar[tuple[str, ...]] = ("image_size",)
    auto_members: ClassVar[tuple[int, int]] = (4, 1)
    auto_updates: ClassVar[tuple[int, int]] = (800, 4000)
    auto_scaling: ClassVar[tuple[str, str]] = ("standard", "unit")

    def build(self, make: NetworkMaker) -> None:
        self.reconstructor = make.restorer(self.latent_dim)
        self.discriminant = make.segmenter(n_inputs=3)
        if self.settings.adversarial_weight:
            self.sample_discriminator = make.patch_discriminator()
            self.mask_discriminator = make.patch_discriminator(n_inputs=2)

    def network_shape(self) -> tuple[int, ...]:
        image_size = self.settings.image_size
        if not self.layout.is_image or image_size is None:
            return self.layout.sample_shape
        n_channels, *size = self.layout.sample_shape
        longest = _AUTO_SIZE if image_size == "auto" else int(image_size)
        factor = min(longest / max(size), 1)
        return (n_channels, *(max(round(factor * side), 1) for side in size))

    def n_epochs(self, n_batches: int) -> int:
        if self.settings.max_time is not None and self.settings.epochs == "auto":
            return _UNTIL_STOPPED
        return super().n_epochs(n_batches)

    def batch_size(self) -> int:
        if self.settings.batch_size != "auto" or not self.layout.is_image:
            return super().batch_size()
        return min(max(_PIXELS_A_BATCH // math.prod(self.network_shape()[1:]), 8), 16)

    def optimizers(self) -> dict[str, Optimizer]:
        rate = self.settings.learning_rate
        modules = [*self.reconstructor.parameters(), *self.discriminant.parameters()]
        # DRAEM's momentum for what has a target of its own; DCGAN's for the adversaries.
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
        """What simulates anomalies on images; None for rows."""
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
        self.set_learning_rate(run.optimizers, progress)
        x = self.resized(x)
        x_corrupted, mask = self.corrupted(run.prepared, x, run.random)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=s.mixed_precision):
            x_hat, logits = self.restored_and_judged(x_corrupted)
        x_hat, logits = x_hat.float(), logits.float()

        # 1. The two modules: restore what was there, and say what was not.
        losses = {"reconstruction": mean_squared_error(x, x_hat, self.observed(x))}
        loss = losses["reconstruction"]
        if self.layout.is_image and s.similarity_weight:
            low, high = self._range(x)
            losses["similarity"] = 1 - structural_similarity(x, x_hat, high - low)
            loss = loss + s.similarity_weight * losses["similarity"]
        losses["discriminant"] = focal_loss(logits, mask, s.focal_gamma)
        loss = loss + s.focal_weight * losses["discriminant"]
        if not s.adversarial_weight:
            update(run.optimizers["modules"], loss)
            return losses
        # Each discriminator judges real and fake in passes of their own.
        real, fake = (self.sample_discriminator(images)[0] for images in (x, x_hat))
        real_mask, fake_mask = (
            self.mask_discriminator(x_corrupted, self._as_images(masks, x))[0]
            for masks in (mask, torch.sigmoid(logits))
        )
        losses["adversarial"] = loss_to_label(fake, 1) + loss_to_label(fake_mask, 1)
        weight = s.adversarial_weight * min(progress / _WARM_UP, 1)
        update(run.optimizers["modules"], loss + weight * losses["adversarial"], retain_graph=True)

        # 2. The discriminators: tell samples from reconstructions, and masks from answers.
        losses["discriminators"] = (
            loss_to_label(real, 1)
            + loss_to_label(fake, 0)
            + loss_to_label(real_mask, 1)
            + loss_to_label(fake_mask, 0)
        )
        update(run.optimizers["discriminators"], losses["discriminators"])
        return losses

    def _as_images(self, masks: Tensor, x: Tensor) -> Tensor:
        """Masks in the shape of the samples that they stand beside."""
        return masks.unsqueeze(2).expand_as(x) if self.layout.is_image else masks

    def progress(self, run: TrainingRun) -> float:
        """The share of the training that is done, by epochs or by the clock."""
        max_time = self.settings.max_time
        if max_time is None:
            return run.progress
        return min(max(run.progress, run.seconds / max_time), 1)

    def set_learning_rate(self, optimizers: dict[str, Optimizer], progress: float) -> None:
        """Set what `schedule` says of the learning rate at this share of the training."""
        factor = 1.0
        if self.settings.schedule == "cosine":
            factor = 0.5 + 0.5 * math.cos(math.pi * progress)
        elif self.settings.schedule == "steps":
            factor = 0.2 ** ((progress >= 0.8) + (progress >= 0.9))
        for optimizer in optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = factor * self.settings.learning_rate

    def should_stop(self, run: TrainingRun) -> str | None:
        max_time = self.settings.max_time
        if max_time is None or run.seconds < max_time:
            return None
        return f"max_time={max_time} reached after epoch {run.history[-1]['epoch']}"

    def corrupted(
        self, anomalies: ImageAnomalies | None, x: Tensor, random: RandomNumbers
    ) -> tuple[Tensor, Tensor]:
        """The batch with anomalies, and where they are: (K, B, d) or (K, B, H, W)."""
        s = self.settings
        if anomalies is None:
            return corrupt_cells(x, s.anomaly_probability, s.opacity, random.generator)
        x_corrupted, mask = anomalies(x.flatten(0, 1), *self._range(x))
        return x_corrupted.unflatten(0, x.shape[:2]), mask.unflatten(0, x.shape[:2])

    def resized(self, x: Tensor) -> Tensor:
        """Images (K, B, C, H, W) in the networks' size; rows as they are."""
        size = self.network_shape()[1:]
        if x.shape[3:] == size:
            return x
        return F.interpolate(x.flatten(0, 1), size, mode="area").unflatten(0, x.shape[:2])

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
                "map": _largest_smoothed(located),
                "discriminant": lambda: _largest_smoothed(probability, _PUBLISHED_SMOOTHED),
                "reconstruction": lambda: _largest_smoothed(difference),
            }
        n_top = math.ceil(_TOP_CELLS * x.shape[-1])
        return {
            "map": located.mean(-1),
            "discriminant": probability.topk(n_top, dim=-1).values.mean(-1),
            "reconstruction": difference.mean(-1),
        }

    def _seen(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """For each cell (K, B, d) or pixel (K, B, H, W): map, probability and difference."""
        is_image = self.layout.is_image
        # The networks know nothing of values far from all images: these are anomalies as such.
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
        return located, probability, difference + excess

    def paper_score(self, parts: Mapping[str, Part]) -> Tensor:
        return value_of(parts["discriminant"])

    def encode(self, x: Tensor) -> Tensor:
        return self.reconstructor.encoder(self.resized(x))

    def reconstruct(self, x: Tensor) -> Tensor:
        x_hat = self.reconstructor(self.resized(x))
        if x_hat.shape == x.shape:
            return x_hat
        enlarged = F.interpolate(x_hat.flatten(0, 1), x.shape[3:], mode="bilinear")
        return enlarged.unflatten(0, x.shape[:2])

    def anomaly_map(self, x: Tensor) -> Tensor:
        located, *_ = self._seen(self.resized(x))
        if located.shape[2:] in (x.shape[2:], x.shape[3:]):
            return located
        return F.interpolate(located, x.shape[3:], mode="bilinear")


def _largest_smoothed(maps: Tensor, smoothed: int = _SMOOTHED) -> Tensor:
    """The largest mean over a square of maps (K, B, H, W): (K, B)."""
    side = round(smoothed * max(maps.shape[2:]) / 256)
    side += (side + 1) % 2
    return F.avg_pool2d(maps, side, stride=1, padding=side // 2).amax(dim=(2, 3))


@dataclass(eq=False, repr=False, kw_only=True)
class RDNADetector(BaseDetector):
    """RDNA: a network that restores what is anomalous, and one that says where that was.

    Both learn from anomalies that are simulated on normal samples: blobs of texture on images,
    cells that do not belong in rows. The reconstruction module gives back what was there before,
    the discriminant module sees the sample beside its reconstruction and says for each pixel or
    cell whether it is anomalous. Each has a discriminator: one tells normal samples from
    reconstructions, the other true masks from those of the discriminant.

    Without the adversarial part (``adversarial_weight=0``) this is DRAEM [1]_, on which RDNA [2]_
    builds.

    Parameters
    ----------
    image_size : int, "auto" or None, default="auto"
        Images whose longer side is larger are made smaller inside, by averaging; `anomaly_map` and
        `reconstruct` answer in the size of X. Time grows with its square. "auto" is 64, None
        keeps the size of X.
    anomaly_source : {"procedural", "patches"}, path or ndarray, default="procedural"
        What simulated anomalies on images are filled with: made-up clouds, stripes and mosaics;
        shifted and mirrored pieces of other training images; the images of a folder, such as
        the Describable Textures Dataset's; or images (n, height, width[, channels]). All images
        are used; of a folder each is read when it is drawn, and up to 256 MiB are kept.
    anomaly_probability : float in (0, 1], default=0.5
        Share of the samples that get an anomaly; the others stay as they are.
    opacity : tuple of float, default=(0.1, 1.0)
        Between which two the share of the new content in an anomaly is drawn.
    mask_scales : tuple of int, default=(0, 5)
        Between which powers of two the number of a mask's noise cells along each axis is drawn:
        raise the first for small defects, lower the second for large ones.
    augment : bool, default=True
        Whether tones, contrast and levels of the content are varied.
    adversarial_weight : float, default=0.001
        Of the two adversarial losses, after a warm-up. With 0 no discriminator is built.
    similarity_weight : float, default=1.0
        Of the structural dissimilarity of images beside the squared error.
    focal_weight : float, default=1.0
        Of the discriminant's loss.
    focal_gamma : float, default=2.0
        How little what is already clear weighs in it; 0 is the plain cross-entropy.
    schedule : {"cosine", "steps", None}, default="cosine"
        How the learning rate falls over the training: to 0 along a cosine, or to a fifth after 80 %
        and again after 90 % of it, as in DRAEM's code.
    max_time : float or None, default=None
        Seconds after which training stops, at the end of an epoch. The learning rate falls with
        what is nearer to its end, the epochs or the time; with ``epochs="auto"`` the time alone
        decides. Results then depend on the machine's speed.
    mixed_precision : bool, default=False
        Whether training runs in bfloat16 where that loses little: up to twice as fast on GPUs and
        on CPUs with instructions for it (AMX), slower on others. Scores never do.
    map : {"product", "probability"}, default="product"
        What `anomaly_map` and the score's part "map" are. "product": the squared probability times
        the root of the difference to the reconstruction, which was the better one on bottles.
        "probability": the discriminant's probability alone, the map that DRAEM and RDNA publish
        figures of. May be changed after `fit`; where the score is of the map, set the threshold
        again.
    {shared_parameters}

    Attributes
    ----------
    networks_ : ModuleDict
        "reconstructor" and "discriminant", of all members; with an `adversarial_weight` also
        "sample_discriminator" and "mask_discriminator".
    threshold_, offset_ : float
        A sample is flagged when its anomaly score exceeds ``threshold_ = -offset_``.
    history_ : list of dict
        One record an epoch: "epoch", "reconstruction", "similarity" (images), "discriminant", and
        with an `adversarial_weight` "adversarial" and "discriminators".
    n_iter_, stop_reason_
        Epochs trained, and why training ended.
    training_report_ : TrainingReport
        What went wrong in the training, if anything did.
    n_features_in_, feature_names_in_, input_shape_
        What X looked like.

    See Also
    --------
    GANomalyDetector : Learns from normal samples alone, without simulated anomalies.
    gandetect.metrics.pixel_average_precision : Judges its maps by masks of the anomalies.
    gandetect.datasets.load_mvtec : Photographs with masks, as both papers use them.

    Notes
    -----
    The parts of the score of images are the largest values, smoothed, of the map ("map"), of the
    probability ("discriminant", DRAEM's score and ``score="paper"``) and of the difference
    ("reconstruction"): the mean over a square whose side is 21/256 of the image's longer one for
    "discriminant", as in DRAEM, and 11/256 for the other two, in which small defects show;
    those of rows are the means of the map, of the likeliest fifth of the cells and of the
    difference; and "neighbours", "sample_neighbours" and "subsampled_neighbours". The default of
    images is the map; of rows the next four, weighted 0.5, 1, 2 and 3.

    In rows, a simulated anomaly is a random share of the cells, 5 to 100 %, at least one. Each of
    them is replaced by another row's value of that column, by a value drawn evenly over a range
    somewhat wider than the column's, or by itself with Gaussian noise of 0.3 to 3 standard
    deviations; `opacity` says how much of the new value it takes. Cells that moved by less than 0.1
    standard deviations are not called anomalous.

    `architecture` has the widths, as ``ConvNet(n_filters=32, segmenter_filters=16)``.
    ``n_estimators="auto"`` is 1 for images, where two cost twice as much, and 4 for rows.

    Of RDNA only a description and results on MVTec AD are public. Discriminators judge patches,
    one of them beside masks, by least squares; their weight grows over the first fifth of training.

    Departures from DRAEM and its code, on purpose:

    - Widths are those of the architecture, 16 by default, not 128 and 64; levels follow the size.
      The decoders have two convolutions a level, not three.
    - SSIM has no padding.
    - Textures are shifted, mirrored and turned; each image of `anomaly_source` is used.
    - The map is a product, and "map" smooths over a smaller square; ``map="probability"`` and
      ``score="paper"`` are the published ones.
    - The discriminant also sees the absolute difference of the two images, and has one logit a
      pixel, where a softmax of two has their difference.
    - Reconstructions end in an activation that covers the range of the scaled images.
    - Perlin noise is rolled, mirrored and turned by quarters, not rotated freely, and no mask is
      empty; normal images are not rotated.
    - Batches hold 8 or, if they are small, 16 images; Adam's rate is 1e-3 and falls along a cosine.
    - Rows have no counterpart in either.

    References
    ----------
    .. [1] Zavrtanik, Kristan and Skočaj, "DRAEM: a discriminatively trained reconstruction
       embedding for surface anomaly detection", ICCV 2021.
    .. [2] Liu, Li, Cheng and Luo, "RDNA"; known by the description in its repository.

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
    """

    image_size: int | str | None = "auto"
    anomaly_source: Any = "procedural"
    anomaly_probability: float = 0.5
    opacity: tuple[float, float] = (0.1, 1.0)
    mask_scales: tuple[int, int] = (0, 5)
    augment: bool = True
    adversarial_weight: float = 0.001
    similarity_weight: float = 1.0
    focal_weight: float = 1.0
    focal_gamma: float = 2.0
    schedule: str | None = "cosine"
    max_time: float | None = None
    mixed_precision: bool = False
    map: str = "product"

    model_class: ClassVar[type[RDNAModel]] = RDNAModel

    @classmethod
    def preset(cls, name: str, **parameters: Any) -> Self:
        """A detector of images with settings that suit a machine.

        Parameters
        ----------
        name : {"laptop", "gpu", "paper"}
            "laptop", 64 pixels and width 16, costs 1, counted in multiply-adds of training on an
            image; "gpu", 256 pixels and widths 32 and 16, about 40; "paper", DRAEM's 256 pixels and
            widths 128 and 64, about 600. Its two modules have 72.4 million weights, of which the
            released code of DRAEM has 97.4: the decoders here have two convolutions a level.
        **parameters
            Of the detector, also in place of those that the preset has.

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
            },
        }
        if name not in presets:
            raise ValueError(f"name must be one of {list(presets)}, got {name!r}.")
        return cls(**{**presets[name], **parameters})

    def simulate(self, X: Any, random_state: RandomState = None) -> tuple[Any, np.ndarray]:
        """Simulate anomalies on X, as a fit to X would: see what the detector trains on.

        Parameters
        ----------
        X : array-like, Dataset or path
            As in `fit`; the detector need not be fitted.
        random_state : int, RandomState, Generator or None, default=None
            An integer gives the same anomalies each time.

        Returns
        -------
        X_simulated : ndarray or table
            In the units of X; images in the size that `image_size` comes to. A share of
            `anomaly_probability` has an anomaly.
        masks : ndarray of shape (n_samples, n_features) or (n_samples, height, width)
            1 where the sample was changed, else 0.
        """
        # A copy learns the shape and scale of X, which may be another than that of the fit.
        settings: Any = clone(self)
        settings.check_parameters()
        source = read(settings, X)
        layout, random = source.layout, RandomNumbers(draw_seed(random_state), torch.device("cpu"))
        vars(settings).update(self.model_class.resolved(settings, layout))
        scaler = Scaler.fitted(settings.scaling, blocks(source), layout.is_image)
        model = self.model_class.made(settings, layout, scaler, random, empty=True)
        simulated, masks = [], []
        with own_torch_settings(torch.device("cpu")):
            anomalies = model.anomalies(random)
            for part in slices(len(source), 64):
                x = model.resized(scaler(source.read(part))[None])
                x, mask = model.corrupted(anomalies, x, random)
                simulated.append(scaler.inverse(x[0].double()))
                masks.append(mask[0])
        images, where = torch.cat(simulated).numpy(), torch.cat(masks).numpy()
        if layout.encoder is not None:
            return layout.restored(images, like=X), layout.encoder.per_column(where).clip(max=1)
        if len(layout.input_shape) == 3:
            return (np.moveaxis(images, 1, -1) if layout.has_channels_last else images), where
        return (images[:, 0] if layout.is_image else images), where

    def _check_own_parameters(self) -> None:
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
                raise ValueError(f"{name} must rise, between 0 and {most}, got {value!r}.")
        for name in ("adversarial_weight", "similarity_weight", "focal_weight", "focal_gamma"):
            check_real(self, name, 0)
        check_choice(self, "schedule", ("cosine", "steps", None))
        check_choice(self, "map", ("product", "probability"))
        for name in ("augment", "mixed_precision"):
            check_choice(self, name, (True, False))
        if self.max_time is not None:
            check_real(self, "max_time", 1e-3)
