"""RDNA: mend what is anomalous, and learn from simulated anomalies to say where it was."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.base import clone
from sklearn.utils import check_scalar
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from gandetect.base import BaseDetector
from gandetect.data.reading import read
from gandetect.data.sources import channels_restored
from gandetect.losses import (
    focal_loss,
    loss_to_label,
    mean_squared_error,
    structural_similarity,
)
from gandetect.model.parameters import check_choice, check_real
from gandetect.model.scaling import Scaler
from gandetect.model.scoring import Part, value_of
from gandetect.networks import ConvNet
from gandetect.simulation import ImageAnomalies, corrupt_cells
from gandetect.simulation.textures import check_source
from gandetect.training.device import RandomState, draw_seed, isolated_seed
from gandetect.training.loop import update

# Images of this side, made smaller if larger, unless another size is asked for.
_AUTO_SIZE = 64
# Pixels in a batch of images: some more of the small ones, which are mostly overhead.
_PIXELS_A_BATCH = 2**15
# Share of the training over which the adversarial losses grow to their full weight.
_WARM_UP = 0.2
# Side of the square over which a map is averaged before its maximum is taken, in 256ths of the
# image's longer side: about half of DRAEM's 21, in which small defects drown.
_SMOOTHED = 11
# Share of a row's cells, the most anomalous ones, that its score is the mean of.
_TOP_CELLS = 0.2
# How far from 0 scaled images are known, to networks that learn from -1 or 0 to 1.
_KNOWN = 3.0
# Epochs to train where only the clock decides.
_UNTIL_STOPPED = 100_000


@dataclass(eq=False, repr=False, kw_only=True)
class RDNADetector(BaseDetector):
    """RDNA: a network that mends anomalies, and one that says where it did.

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
        the Describable Textures Dataset's; or images (n, height, width[, channels]).
    anomaly_probability : float in (0, 1], default=0.5
        Share of the samples that get an anomaly; the others teach what is none.
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
    n_features_in_, feature_names_in_, input_shape_
        What X looked like.

    Notes
    -----
    The map is the squared probability times the root of the difference to the reconstruction. The
    parts of the score of images are the largest values, smoothed, of it ("map"), of the probability
    ("discriminant", DRAEM's score and ``score="paper"``) and of the difference ("reconstruction");
    those of rows are the means of the map, of the likeliest fifth of the cells and of the
    difference; and "neighbours", "sample_neighbours" and "subsampled_neighbours". The default of
    images is the map; of rows the next four, weighted 0.5, 1, 2 and 3.

    `architecture` has the widths, as ``ConvNet(n_filters=32, segmenter_filters=16)``.
    ``n_estimators="auto"`` is 1 for images, where two cost twice as much, and 4 for rows.

    Of RDNA only a description and results on MVTec AD are public. Discriminators judge patches,
    one of them beside masks, by least squares; their weight grows over the first fifth of training.

    Departures from DRAEM and its code, on purpose:

    - Widths are those of the architecture, 16 by default, not 128 and 64; levels follow the size.
      The decoders have two convolutions a level, not three.
    - SSIM has no padding.
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

    part_weights: ClassVar[dict[str, tuple[float, float]]] = {
        "map": (0.0, 1.0),
        "discriminant": (0.5, 0.0),
        "reconstruction": (1.0, 0.0),
        "neighbours": (2.0, 0.0),
        "sample_neighbours": (3.0, 0.0),
        "subsampled_neighbours": (0.0, 0.0),
    }
    auto_members: ClassVar[tuple[int, int]] = (4, 1)
    auto_updates: ClassVar[tuple[int, int]] = (800, 4000)
    auto_scaling: ClassVar[tuple[str, str]] = ("standard", "unit")

    @classmethod
    def preset(cls, name: str, **parameters: Any) -> Self:
        """A detector of images with settings that suit a machine.

        Parameters
        ----------
        name : {"laptop", "gpu", "paper"}
            "laptop", 64 pixels and width 16, costs 1, counted in multiply-adds of training on an
            image; "gpu", 256 pixels and widths 32 and 16, about 40; "paper", DRAEM's 256 pixels and
            widths 128 and 64, about 600.
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

    def simulate(self, X: Any, random_state: RandomState = None) -> tuple[np.ndarray, np.ndarray]:
        """Simulate anomalies on X, as a fit to X would: see what the detector trains on.

        Parameters
        ----------
        X : array-like, Dataset or path
            As in `fit`; the detector need not be fitted.
        random_state : int, RandomState, Generator or None, default=None
            An integer gives the same anomalies each time.

        Returns
        -------
        X_simulated : ndarray
            In the units of X; images in the size that `image_size` comes to. A share of
            `anomaly_probability` has an anomaly.
        masks : ndarray of shape (n_samples, n_features) or (n_samples, height, width)
            1 where the sample was changed, else 0.
        """
        # A copy learns the shape and scale of X, which may be another than that of the fit.
        detector = clone(self)
        detector._check_own_parameters()
        source = read(detector, X, reset=True)
        is_image = detector._is_fitted_to_images()
        detector.scaler_ = Scaler.fitted(detector._scaling(), [source.read(slice(None))], is_image)
        simulated, masks = [], []
        with isolated_seed(draw_seed(random_state), torch.device("cpu")), torch.inference_mode():
            anomalies = detector._prepare_training()
            for start in range(0, len(source), 64):
                x = detector.scaler_(source.read(slice(start, start + 64)))[None]
                x, mask = detector._corrupted(anomalies, detector._resized(x))
                simulated.append(detector.scaler_.inverse(x[0].double()))
                masks.append(mask[0])
        x, mask = torch.cat(simulated).numpy(), torch.cat(masks).numpy()
        shape = detector.input_shape_
        if is_image and len(shape) == 3:
            return channels_restored(x, shape, self.channel_axis), mask
        return (x[:, 0] if is_image else x), mask

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
        for name in ("augment", "mixed_precision"):
            check_choice(self, name, (True, False))
        if self.max_time is not None:
            check_real(self, "max_time", 1e-3)

    def _n_epochs(self, n_batches: int) -> int:
        if self.max_time is not None and self.epochs == "auto":
            return _UNTIL_STOPPED
        return super()._n_epochs(n_batches)

    def _batch_size(self) -> int:
        if self.batch_size != "auto" or not self._is_fitted_to_images():
            return super()._batch_size()
        return min(max(_PIXELS_A_BATCH // math.prod(self._network_shape()[1:]), 8), 16)

    def _network_shape(self) -> tuple[int, ...]:
        if not self._is_fitted_to_images() or self.image_size is None:
            return self.sample_shape_
        n_channels, *size = self.sample_shape_
        longest = _AUTO_SIZE if self.image_size == "auto" else int(self.image_size)
        factor = min(longest / max(size), 1)
        return (n_channels, *(max(round(factor * side), 1) for side in size))

    def _resized(self, x: Tensor) -> Tensor:
        """Images (K, B, C, H, W) in the networks' size; rows as they are."""
        size = self._network_shape()[1:]
        if x.shape[3:] == size:
            return x
        return F.interpolate(x.flatten(0, 1), size, mode="area").unflatten(0, x.shape[:2])

    # The hooks.

    def _build_networks(self, make: Any) -> dict[str, nn.Module]:
        networks = {
            "reconstructor": make.restorer(self.latent_dim_),
            "discriminant": make.segmenter(n_inputs=3),
        }
        if self.adversarial_weight:
            networks["sample_discriminator"] = make.patch_discriminator()
            networks["mask_discriminator"] = make.patch_discriminator(n_inputs=2)
        return networks

    def _build_optimizers(self, nets: Any) -> dict[str, Optimizer]:
        modules = [*nets.reconstructor.parameters(), *nets.discriminant.parameters()]
        # DRAEM's momentum for what has a target of its own; DCGAN's for the adversaries.
        optimizers: dict[str, Optimizer] = {
            "modules": torch.optim.Adam(modules, self.learning_rate, fused=True)
        }
        if self.adversarial_weight:
            optimizers["discriminators"] = self._adam(
                nets.sample_discriminator, nets.mask_discriminator
            )
        return optimizers

    def _prepare_training(self) -> ImageAnomalies | None:
        if not self._is_fitted_to_images():
            return None
        n_channels, *size = self._network_shape()
        return ImageAnomalies(
            self.anomaly_source,
            n_channels,
            (size[0], size[1]),
            scales=self.mask_scales,
            probability=self.anomaly_probability,
            opacity=self.opacity,
            augment=self.augment,
        )

    def _train_step(
        self, nets: Any, optimizers: dict[str, Optimizer], x: Tensor, progress: float
    ) -> dict[str, Tensor]:
        progress = self._progress(progress)
        self._set_learning_rate(optimizers, progress)
        x = self._resized(x)
        x_corrupted, mask = self._corrupted(self._run.prepared, x)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.mixed_precision):
            x_hat, logits = self._restored_and_judged(nets, x_corrupted)
        x_hat, logits = x_hat.float(), logits.float()

        # 1. The two modules: restore what was there, and say what was not.
        losses = {"reconstruction": mean_squared_error(x, x_hat)}
        loss = losses["reconstruction"]
        if self._is_fitted_to_images() and self.similarity_weight:
            low, high = self._range(x)
            losses["similarity"] = 1 - structural_similarity(x, x_hat, high - low)
            loss = loss + self.similarity_weight * losses["similarity"]
        losses["discriminant"] = focal_loss(logits, mask, self.focal_gamma)
        loss = loss + self.focal_weight * losses["discriminant"]
        if not self.adversarial_weight:
            update(optimizers["modules"], loss)
            return losses
        masks = torch.cat([mask, torch.sigmoid(logits)], dim=1)
        if self._is_fitted_to_images():
            masks = masks.unsqueeze(2).expand(-1, -1, x.shape[2], -1, -1)
        judged = [
            nets.sample_discriminator(torch.cat([x, x_hat], dim=1))[0],
            nets.mask_discriminator(torch.cat([x_corrupted, x_corrupted], dim=1), masks)[0],
        ]
        (real, fake), (real_mask, fake_mask) = (logits.chunk(2, dim=1) for logits in judged)
        losses["adversarial"] = loss_to_label(fake, 1) + loss_to_label(fake_mask, 1)
        weight = self.adversarial_weight * min(progress / _WARM_UP, 1)
        update(optimizers["modules"], loss + weight * losses["adversarial"], retain_graph=True)

        # 2. The discriminators: tell samples from reconstructions, and masks from answers.
        losses["discriminators"] = (
            loss_to_label(real, 1)
            + loss_to_label(fake, 0)
            + loss_to_label(real_mask, 1)
            + loss_to_label(fake_mask, 0)
        )
        update(optimizers["discriminators"], losses["discriminators"])
        return losses

    def _progress(self, progress: float) -> float:
        """The share of the training that is done, by epochs or by the clock."""
        if self.max_time is None:
            return progress
        return min(max(progress, self._run.seconds / self.max_time), 1)

    def _set_learning_rate(self, optimizers: dict[str, Optimizer], progress: float) -> None:
        factor = 1.0
        if self.schedule == "cosine":
            factor = 0.5 + 0.5 * math.cos(math.pi * progress)
        elif self.schedule == "steps":
            factor = 0.2 ** ((progress >= 0.8) + (progress >= 0.9))
        for optimizer in optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = factor * self.learning_rate

    def _should_stop(self, record: dict[str, float]) -> str | None:
        if self.max_time is None or self._run.seconds < self.max_time:
            return None
        return f"max_time={self.max_time} reached after epoch {record['epoch']}"

    def _corrupted(self, anomalies: ImageAnomalies | None, x: Tensor) -> tuple[Tensor, Tensor]:
        """The batch with anomalies, and where they are: (K, B, d) or (K, B, H, W)."""
        if anomalies is None:
            return corrupt_cells(x, self.anomaly_probability, self.opacity)
        x_corrupted, mask = anomalies(x.flatten(0, 1), *self._range(x))
        return x_corrupted.unflatten(0, x.shape[:2]), mask.unflatten(0, x.shape[:2])

    def _range(self, x: Tensor) -> tuple[float, float]:
        """The least and the largest value of scaled images, or of the batch."""
        fixed = {"unit": (0.0, 1.0), "symmetric": (-1.0, 1.0)}
        if self.scaler_.kind in fixed:
            return fixed[self.scaler_.kind]
        low, high = x.min().item(), x.max().item()
        return low, high if high > low else low + 1

    def _restored_and_judged(self, nets: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        """The reconstruction, and a logit for each pixel or cell."""
        x_hat = nets.reconstructor(x)
        return x_hat, nets.discriminant(x, x_hat, (x - x_hat).abs())

    def _score_parts(self, nets: Any, x: Tensor) -> dict[str, Part]:
        located, probability, difference = self._seen(nets, self._resized(x))
        if self._is_fitted_to_images():
            return {
                "map": _largest_smoothed(located),
                "discriminant": lambda: _largest_smoothed(probability),
                "reconstruction": lambda: _largest_smoothed(difference),
            }
        n_top = math.ceil(_TOP_CELLS * x.shape[-1])
        return {
            "map": located.mean(-1),
            "discriminant": probability.topk(n_top, dim=-1).values.mean(-1),
            "reconstruction": difference.mean(-1),
        }

    def _seen(self, nets: Any, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """For each cell (K, B, d) or pixel (K, B, H, W): map, probability and difference."""
        is_image = self._is_fitted_to_images()
        # The networks know nothing of values far from all images: these are anomalies as such.
        has_range = is_image and self.scaler_.kind in ("unit", "symmetric")
        known = x.clamp(-_KNOWN, _KNOWN) if has_range else x
        x_hat, logits = self._restored_and_judged(nets, known)
        probability, difference = torch.sigmoid(logits), (known - x_hat).abs()
        if not is_image:
            return probability.square() * difference.sqrt(), probability, difference
        difference = difference.mean(dim=2)
        excess = (x - known).abs().mean(dim=2)
        located = probability.square() * difference.sqrt() + excess
        return located, probability, difference + excess

    def _paper_score(self, parts: dict[str, Any]) -> Tensor:
        return value_of(parts["discriminant"])

    def _encode(self, nets: Any, x: Tensor) -> Tensor:
        return nets.reconstructor.encoder(self._resized(x))

    def _reconstruct(self, nets: Any, x: Tensor) -> Tensor:
        x_hat = nets.reconstructor(self._resized(x))
        if x_hat.shape == x.shape:
            return x_hat
        enlarged = F.interpolate(x_hat.flatten(0, 1), x.shape[3:], mode="bilinear")
        return enlarged.unflatten(0, x.shape[:2])

    def _anomaly_map(self, nets: Any, x: Tensor) -> Tensor:
        located, *_ = self._seen(nets, self._resized(x))
        if located.shape[2:] in (x.shape[2:], x.shape[3:]):
            return located
        return F.interpolate(located, x.shape[3:], mode="bilinear")


def _largest_smoothed(maps: Tensor) -> Tensor:
    """The largest mean over a square of maps (K, B, H, W): (K, B)."""
    side = round(_SMOOTHED * max(maps.shape[2:]) / 256)
    side += (side + 1) % 2
    return F.avg_pool2d(maps, side, stride=1, padding=side // 2).amax(dim=(2, 3))
