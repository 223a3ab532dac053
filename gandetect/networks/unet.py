"""U-Nets for images: the reconstruction network and the segmentation network of RDNA.

As in DRAEM, the contracting path halves the image by pooling and the expanding path doubles it by
interpolation. `conv.py` creates the networks, with their widths and normalisation.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gandetect.networks.members import to_channels, to_members

# A function of input and output width that creates a 3 x 3 convolution with normalisation and
# activation.
Unit = Callable[[int, int], nn.Module]
# Deeper levels have the width of the fourth. They contain most weights, and their maps are small.
_MAX_WIDENING = 8


def level_widths(width: int, n_halvings: int) -> list[int]:
    """Return the widths from the finest level to the coarsest."""
    return [width * min(2**i, _MAX_WIDENING) for i in range(n_halvings + 1)]


class Frame(nn.Module):
    """Convert images (K, B, C, H, W) to padded maps (B, K * C * patch², ...), and back.

    Parameters
    ----------
    n_members : int
    size : tuple of int
        Height and width of the images.
    multiple : int
        The padded height and width are multiples of it, so that they can be halved.
    patch_size : int
        The pixels of squares with this side become channels, which avoids the finest and most
        expensive levels.
    """

    def __init__(
        self, n_members: int, size: tuple[int, int], multiple: int, patch_size: int
    ) -> None:
        super().__init__()
        self.n_members, self.size, self.patch_size = n_members, size, patch_size
        rows, columns = (-side % multiple for side in size)
        self.margins = (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Concatenate the inputs' channels, pad by repeating the border, and fold."""
        x = to_channels(torch.cat(inputs, dim=2) if len(inputs) > 1 else inputs[0])
        if any(self.margins):
            x = F.pad(x, self.margins, mode="replicate")
        if self.patch_size > 1:
            x = F.pixel_unshuffle(x, self.patch_size)
        return x.contiguous(memory_format=torch.channels_last)

    def undone(self, maps: Tensor) -> Tensor:
        """Unfold, remove the padding, and move the members first: (K, B, C, H, W)."""
        if self.patch_size > 1:
            maps = F.pixel_shuffle(maps, self.patch_size)
        left, _, top, _ = self.margins
        maps = maps[..., top : top + self.size[0], left : left + self.size[1]]
        return to_members(maps, self.n_members)


class Descent(nn.Module):
    """The contracting path: two units at each level, with pooling between levels."""

    def __init__(self, n_in: int, widths: list[int], unit: Unit) -> None:
        super().__init__()
        self.levels = nn.ModuleList(
            nn.Sequential(unit(above, width), unit(width, width))
            for above, width in pairwise([n_in, *widths])
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the maps of all levels, from the finest to the coarsest."""
        maps = [self.levels[0](x)]
        for level in list(self.levels)[1:]:
            maps.append(level(F.max_pool2d(maps[-1], 2)))
        return maps


class Ascent(nn.Module):
    """The expanding path: interpolation and two units at each level, with skips or without."""

    def __init__(self, widths: list[int], unit: Unit, n_members: int, *, skips: bool) -> None:
        super().__init__()
        self.n_members, self.skips = n_members, skips
        # The output width of each level is the input width of the next; the finest two are equal.
        ends = [widths[0], *widths[:-1]]
        levels = []
        for i in reversed(range(len(widths) - 1)):
            n_in = widths[i + 1] if i == len(widths) - 2 else ends[i + 1]
            levels.append(
                nn.Sequential(
                    unit(n_in + skips * widths[i], ends[i]),
                    unit(ends[i], ends[i]),
                )
            )
        self.levels = nn.ModuleList(levels)

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Return a map at the finest level from the maps of a contracting path."""
        x = maps[-1]
        for level, beside in zip(self.levels, maps[-2::-1], strict=True):
            x = F.interpolate(x, scale_factor=2, mode="bilinear")
            x = level(_beside(x, beside, self.n_members) if self.skips else x)
        return x


class RestoringEncoder(nn.Module):
    """An encoder to the coarsest maps, and to codes: a fixed projection of the means of maps."""

    def __init__(self, frame: Frame, descent: Descent, projection: Tensor) -> None:
        super().__init__()
        self.frame, self.descent = frame, descent
        self.register_buffer("projection", projection)
        self.projection: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """Return codes (K, B, latent_dim)."""
        means = self.descent(self.frame(x))[-1].mean(dim=(2, 3))
        return torch.bmm(to_members(means, self.frame.n_members), self.projection)


class Restorer(nn.Module):
    """Encoder and decoder without skip connections, which cannot copy anomalies."""

    def __init__(self, encoder: RestoringEncoder, ascent: Ascent, head: nn.Module) -> None:
        super().__init__()
        self.encoder, self.ascent, self.head = encoder, ascent, head

    def forward(self, x: Tensor) -> Tensor:
        """Return reconstructions of images (K, B, C, H, W)."""
        maps = self.encoder.descent(self.encoder.frame(x))
        return self.encoder.frame.undone(self.head(self.ascent(maps)))


class Segmenter(nn.Module):
    """A U-Net with one logit for each pixel."""

    def __init__(self, frame: Frame, descent: Descent, ascent: Ascent, head: nn.Module) -> None:
        super().__init__()
        self.frame, self.descent, self.ascent, self.head = frame, descent, ascent, head

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return logits (K, B, H, W) of one or several concatenated images (K, B, C, H, W)."""
        maps = self.ascent(self.descent(self.frame(*inputs)))
        return self.frame.undone(self.head(maps)).squeeze(2)


class PatchDiscriminator(nn.Module):
    """A PatchGAN discriminator: one logit for each patch of an image (Isola et al., CVPR 2017)."""

    def __init__(self, frame: Frame, layers: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.frame, self.layers, self.head = frame, layers, head

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (K, B, h, w) and features of concatenated images (K, B, C, H, W)."""
        features = self.layers(self.frame(*inputs))
        logits = to_members(self.head(features), self.frame.n_members)
        return logits.squeeze(2), to_members(features, self.frame.n_members)


def _beside(x: Tensor, y: Tensor, n_members: int) -> Tensor:
    """Join maps (B, K * a, H, W) and (B, K * b, H, W) along the channels of each member."""
    if n_members == 1:
        return torch.cat([x, y], dim=1)
    parts = [maps.unflatten(1, (n_members, -1)) for maps in (x, y)]
    return torch.cat(parts, dim=2).flatten(1, 2).contiguous(memory_format=torch.channels_last)
