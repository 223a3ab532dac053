"""Networks for images: strided convolutions of any height, width and number of channels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from numbers import Integral
from typing import Any, TypeVar

import torch
from sklearn.utils import check_scalar
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import skip_init

from gandetect.networks.members import (
    Autoencoder,
    ChannelBatchNorm,
    Discriminator,
    Dropout,
    MemberLinear,
    Transform,
    add_spectral_norm,
    like,
    make_joins,
    run_joining,
    run_keeping,
    to_channels,
    to_members,
)
from gandetect.networks.mlp import OUTPUT_ACTIVATIONS, check_options
from gandetect.networks.unet import (
    Ascent,
    Descent,
    Frame,
    PatchDiscriminator,
    Restorer,
    RestoringEncoder,
    Segmenter,
    level_widths,
)

_LEAK = 0.2
_MAX_HALVINGS = 5
_MAX_PATCH_HALVINGS = 3

N = TypeVar("N", bound=nn.Module)


@dataclass(frozen=True, kw_only=True)
class ConvNet:
    """DCGAN's convolutional networks, as GANomaly uses them, for images of any size.

    Each convolution halves the image and doubles the width until the shorter side is below 8
    pixels (at most five times). Images are padded by repeating their borders, so that they can be
    halved, and outputs are cropped to the size of the images.

    Parameters
    ----------
    n_filters : int, default=16
        Width of the first layer. GANomaly's paper uses 64. With 16 a laptop trains in a minute, and
        the detection on MNIST was better than with 32.
    discriminator_filters : int or None, default=None
        Width of the discriminator's first layer; None is `n_filters`.
    segmenter_filters : int or None, default=None
        Width of the first layer of RDNA's discriminant; None is `n_filters`.
    patch_size : {1, 2, 4}, default=1
        RDNA's networks convert squares with this side into single pixels with more channels, which
        avoids the finest and most expensive layers.
    n_extra_layers : int, default=0
        Up to 100 extra 3 x 3 convolutions at the finest resolution (GANomaly's ``extralayers``).
    normalization : {"batch", "group", None}, default="batch"
        The normalisation after each convolution, except the first one of an encoder or
        discriminator and the last one of a decoder, as in DCGAN. Scoring uses the running
        statistics.
    dropout : float in [0, 1), default=0.0
        The rate of dropout after each layer of a discriminator, in training only.
    spectral_norm : bool, default=False
        Spectral normalisation of the discriminator's layers.
    output_activation : {"auto", "linear", "sigmoid", "tanh"}, default="auto"
        The last activation of the decoder. "auto" takes the one with the range of values that the
        detector's `scaling` gives.

    References
    ----------
    Radford, Metz and Chintala, "Unsupervised representation learning with deep convolutional
    generative adversarial networks", ICLR 2016.

    Examples
    --------
    >>> from gandetect import GANomalyDetector
    >>> from gandetect.networks import ConvNet
    >>> detector = GANomalyDetector(architecture=ConvNet(n_filters=32, spectral_norm=True))
    """

    n_filters: int = 16
    discriminator_filters: int | None = None
    segmenter_filters: int | None = None
    patch_size: int = 1
    n_extra_layers: int = 0
    normalization: str | None = "batch"
    dropout: float = 0.0
    spectral_norm: bool = False
    output_activation: str = "auto"

    def __post_init__(self) -> None:
        check_scalar(self.n_filters, "n_filters", Integral, min_val=1)
        check_scalar(self.n_extra_layers, "n_extra_layers", Integral, min_val=0, max_val=100)
        for name in ("discriminator_filters", "segmenter_filters"):
            if getattr(self, name) is not None:
                check_scalar(getattr(self, name), name, Integral, min_val=1)
        if self.patch_size not in (1, 2, 4):
            raise ValueError(f"patch_size must be 1, 2 or 4, got {self.patch_size!r}.")
        check_options(self, normalizations=("batch", "group", None))

    def bind(
        self,
        input_shape: tuple[int, ...],
        n_members: int,
        output_activation: str,
        generator: torch.Generator,
    ) -> BoundConvNet:
        """Return the maker of networks for images (channels, height, width)."""
        if len(input_shape) != 3:
            raise ValueError(
                "ConvNet is an architecture for images, but X contains samples of shape "
                f"{input_shape}: use MLP, or give image_shape."
            )
        return BoundConvNet(self, input_shape, n_members, output_activation, generator)


class BoundConvNet:
    """A `ConvNet` bound to the shape of the images: it creates the networks of a method."""

    def __init__(
        self,
        architecture: ConvNet,
        input_shape: tuple[int, ...],
        n_members: int,
        output_activation: str,
        generator: torch.Generator,
    ) -> None:
        self.architecture = architecture
        self.n_members = n_members
        self.output_activation = output_activation
        self.generator = generator
        self.n_channels, self.height, self.width = input_shape
        shorter = min(self.height, self.width)
        self.n_halvings = min(int(math.log2(max(shorter / 4, 1))), _MAX_HALVINGS)
        step = 2**self.n_halvings
        self.bottom = (math.ceil(self.height / step), math.ceil(self.width / step))

    def encoder(self, out_dim: int, n_inputs: int = 1) -> _Encoder:
        """Create an encoder from `n_inputs` images (K, B, C, H, W) to codes (K, B, out_dim)."""
        trunk, width = self._trunk(self.architecture.n_filters, n_inputs)
        head = self._linear(width * math.prod(self.bottom), out_dim)
        return self._initialised(_Encoder(trunk, head, self.n_members))

    def decoder(self, in_dim: int) -> _Decoder:
        """Create a decoder from codes (K, B, in_dim) to images (K, B, C, H, W)."""
        widths = self._widths(self.architecture.n_filters)[::-1]
        stem = self._linear(in_dim, widths[0] * math.prod(self.bottom))
        layers: list[nn.Module] = []
        for n_in, n_out in pairwise(widths):
            layers += [*self._normalized(n_in), nn.ReLU(inplace=True)]
            layers.append(self._transposed(n_in, n_out))
        layers += [*self._normalized(widths[-1]), nn.ReLU(inplace=True)]
        layers += self._extra_layers(widths[-1], nn.ReLU(inplace=True))
        if self.n_halvings:
            layers.append(self._transposed(widths[-1], self.n_channels))
        else:
            layers.append(self._conv(widths[-1], self.n_channels, (3, 3), 1, 1))
        layers.append(OUTPUT_ACTIVATIONS[self.output_activation]())
        size = (self.height, self.width)
        return self._initialised(
            _Decoder(stem, nn.Sequential(*layers), self.n_members, self.bottom, size)
        )

    def refiner(self, latent_dim: int, skip: str | None = None) -> Autoencoder:
        """Create an autoencoder of images (K, B, C, H, W), whose `encoder` returns the codes.

        With `skip` "add" or "concat", the maps after each activation of the encoder are also joined
        to the corresponding maps of the decoder.
        """
        widths = self._widths(self.architecture.n_filters)[::-1]
        widths += widths[-1:] * self.architecture.n_extra_layers
        joins = make_joins(skip, widths, self.n_members, partial(self._conv, size=(1, 1)))
        return _Refiner(
            self.encoder(latent_dim), self.decoder(latent_dim), self._initialised(joins)
        )

    def discriminator(self, code_dim: int = 0, n_inputs: int = 1) -> Discriminator:
        """Create a discriminator of `n_inputs` images and a code, to logits and features."""
        n_filters = self.architecture.discriminator_filters or self.architecture.n_filters
        trunk, width = self._trunk(n_filters, n_inputs, self.architecture.dropout)
        n_flat = width * math.prod(self.bottom)
        network: nn.Module
        if code_dim:
            network = _PairDiscriminator(trunk, n_flat, code_dim, self)
        else:
            network = _Discriminator(trunk, self._linear(n_flat, 1), self.n_members)
        network = self._initialised(network)
        if self.architecture.spectral_norm:
            add_spectral_norm(network, self.n_members, self.generator)
        return network

    def restorer(self, latent_dim: int) -> Autoencoder:
        """Create an autoencoder of images without skips, whose `encoder` returns the codes."""
        frame, widths = self._framed(self.architecture.n_filters, _MAX_HALVINGS - 1)
        n_folded = self.n_channels * frame.patch_size**2
        # Not trained, because no loss depends on the codes. A random projection approximately
        # preserves distances.
        shape = (self.n_members, widths[-1], latent_dim)
        projection = torch.empty(shape, **like())
        if not projection.is_meta:
            projection.normal_(generator=self.generator).div_(latent_dim**0.5)
        encoder = RestoringEncoder(frame, Descent(n_folded, widths, self._unit), projection)
        ascent = Ascent(widths, self._unit, self.n_members, skips=False)
        head = nn.Sequential(
            self._biased(widths[0], n_folded), OUTPUT_ACTIVATIONS[self.output_activation]()
        )
        return self._initialised(Restorer(encoder, ascent, head))

    def segmenter(self, n_inputs: int = 1) -> Transform:
        """Create a network from `n_inputs` images to one logit for each pixel (K, B, H, W)."""
        n_filters = self.architecture.segmenter_filters or self.architecture.n_filters
        frame, widths = self._framed(n_filters, _MAX_HALVINGS)
        n_squares = frame.patch_size**2
        descent = Descent(n_inputs * self.n_channels * n_squares, widths, self._unit)
        ascent = Ascent(widths, self._unit, self.n_members, skips=True)
        return self._initialised(
            Segmenter(frame, descent, ascent, self._biased(widths[0], n_squares))
        )

    def patch_discriminator(self, n_inputs: int = 1) -> Discriminator:
        """Create a network from `n_inputs` images to logits of patches (K, B, h, w), and features.

        It has no normalisation, because batches of real and of simulated samples have different
        means.
        """
        n_halvings = min(self.n_halvings, _MAX_PATCH_HALVINGS)
        n_filters = self.architecture.discriminator_filters or self.architecture.n_filters
        widths = [n_inputs * self.n_channels, *(n_filters * 2**i for i in range(n_halvings or 1))]
        size, stride = ((4, 4), 2) if n_halvings else ((3, 3), 1)
        layers: list[nn.Module] = []
        for n_in, n_out in pairwise(widths):
            layers += [
                self._conv(n_in, n_out, size, stride, 1),
                nn.LeakyReLU(_LEAK, inplace=True),
                Dropout(self.architecture.dropout, self.generator, channels=True),
            ]
        frame = Frame(self.n_members, (self.height, self.width), 2**n_halvings, 1)
        head = self._biased(widths[-1], 1)
        network = self._initialised(PatchDiscriminator(frame, nn.Sequential(*layers), head))
        if self.architecture.spectral_norm:
            add_spectral_norm(network, self.n_members, self.generator)
        return network

    def _framed(self, n_filters: int, max_halvings: int) -> tuple[Frame, list[int]]:
        """Return the frame of a network with at most `max_halvings`, and the widths of levels."""
        patch_size = self.architecture.patch_size
        n_folds = patch_size.bit_length() - 1
        n_halvings = max(min(self.n_halvings, max_halvings) - n_folds, 0)
        size = (self.height, self.width)
        frame = Frame(self.n_members, size, patch_size * 2**n_halvings, patch_size)
        return frame, level_widths(n_filters, n_halvings)

    def _unit(self, n_in: int, n_out: int) -> nn.Module:
        return nn.Sequential(
            self._conv(n_in, n_out, (3, 3), 1, 1),
            *self._normalized(n_out),
            nn.ReLU(inplace=True),
        )

    def _biased(self, n_in: int, n_out: int) -> nn.Conv2d:
        """Create a last layer; it has a bias, because no normalisation follows."""
        return self._conv(n_in, n_out, (3, 3), 1, 1, bias=True)

    def _widths(self, n_filters: int) -> list[int]:
        return [n_filters * 2**i for i in range(max(self.n_halvings, 1))]

    def _trunk(
        self, n_filters: int, n_inputs: int, dropout: float = 0.0
    ) -> tuple[nn.Sequential, int]:
        """Return the convolutions down to the coarsest map, and the width of this map."""
        widths = self._widths(n_filters)
        size, stride = ((4, 4), 2) if self.n_halvings else ((3, 3), 1)
        dropouts: list[nn.Module] = (
            [Dropout(dropout, self.generator, channels=True)] if dropout else []
        )
        layers: list[nn.Module] = [
            _Pad(self.bottom, 2**self.n_halvings),
            self._conv(n_inputs * self.n_channels, widths[0], size, stride, 1),
            nn.LeakyReLU(_LEAK, inplace=True),
            *dropouts,
            *self._extra_layers(widths[0], nn.LeakyReLU(_LEAK, inplace=True)),
        ]
        for n_in, n_out in pairwise(widths):
            layers.append(self._conv(n_in, n_out, (4, 4), 2, 1))
            layers += [*self._normalized(n_out), nn.LeakyReLU(_LEAK, inplace=True), *dropouts]
        return nn.Sequential(*layers), widths[-1]

    def _extra_layers(self, width: int, activation: nn.Module) -> list[nn.Module]:
        return [
            layer
            for _ in range(self.architecture.n_extra_layers)
            for layer in (
                self._conv(width, width, (3, 3), 1, 1),
                *self._normalized(width),
                activation,
            )
        ]

    def _linear(self, n_in: int, n_out: int) -> MemberLinear:
        return MemberLinear(self.n_members, n_in, n_out, self.generator)

    def _conv(
        self,
        n_in: int,
        n_out: int,
        size: tuple[int, int],
        stride: int = 1,
        padding: int = 0,
        bias: bool = False,
    ) -> nn.Conv2d:
        k = self.n_members
        # skip_init, because torch draws initial weights from the global generator.
        layer: nn.Conv2d = skip_init(
            nn.Conv2d, k * n_in, k * n_out, size, stride, padding, groups=k, bias=bias, **like()
        )
        return layer

    def _transposed(self, n_in: int, n_out: int) -> nn.ConvTranspose2d:
        k = self.n_members
        layer: nn.ConvTranspose2d = skip_init(
            nn.ConvTranspose2d, k * n_in, k * n_out, 4, 2, 1, groups=k, bias=False, **like()
        )
        return layer

    def _initialised(self, network: N) -> N:
        return _initialised(network, self.generator)

    def _normalized(self, width: int) -> list[nn.Module]:
        kind = self.architecture.normalization
        if kind is None:
            return []
        if kind == "batch":
            return [ChannelBatchNorm(self.n_members * width, **like())]
        # No group contains channels of several members: four groups for each member, or fewer if
        # the width is not a multiple of four.
        groups = self.n_members * math.gcd(4, width)
        return [nn.GroupNorm(groups, self.n_members * width, **like())]


class _Pad(nn.Module):
    """Pad an image by repeating its border, so that its size is a multiple of the coarsest map."""

    def __init__(self, bottom: tuple[int, int], step: int) -> None:
        super().__init__()
        self.size = (bottom[0] * step, bottom[1] * step)

    def forward(self, x: Tensor) -> Tensor:
        rows, columns = self.size[0] - x.shape[-2], self.size[1] - x.shape[-1]
        if rows == 0 and columns == 0:
            return x
        margins = (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2)
        return F.pad(x, margins, mode="replicate")


class _Encoder(nn.Module):
    """A convolutional encoder.

    Its last convolution covers the whole coarsest map, so it is computed as a linear layer, which
    is faster.
    """

    def __init__(self, trunk: nn.Sequential, head: Transform, n_members: int) -> None:
        super().__init__()
        self.trunk, self.head, self.n_members = trunk, head, n_members

    def forward(self, *inputs: Tensor) -> Tensor:
        maps = self.trunk(to_channels(torch.cat(inputs, dim=2)))
        return self.head(to_members(maps, self.n_members).flatten(2))


class _Decoder(nn.Module):
    """The decoder, with the layers of the encoder in reverse.

    Its first transposed convolution is computed as a linear layer.
    """

    def __init__(
        self,
        stem: Transform,
        layers: nn.Sequential,
        n_members: int,
        bottom: tuple[int, int],
        size: tuple[int, int],
    ) -> None:
        super().__init__()
        self.stem, self.layers, self.n_members = stem, layers, n_members
        self.bottom, self.size = bottom, size

    def forward(self, z: Tensor) -> Tensor:
        return self.cropped(self.layers(self.first_maps(z)))

    def first_maps(self, z: Tensor) -> Tensor:
        return to_channels(self.stem(z).unflatten(2, (-1, *self.bottom)))

    def cropped(self, x: Tensor) -> Tensor:
        # The centre is cropped, so that each pixel has its position in the unpadded image.
        top = (x.shape[-2] - self.size[0]) // 2
        left = (x.shape[-1] - self.size[1]) // 2
        x = x[..., top : top + self.size[0], left : left + self.size[1]]
        return to_members(x, self.n_members)


class _Refiner(nn.Module):
    def __init__(self, encoder: _Encoder, decoder: _Decoder, joins: nn.ModuleList) -> None:
        super().__init__()
        self.encoder, self.decoder, self.joins = encoder, decoder, joins

    def forward(self, x: Tensor) -> Tensor:
        if not self.joins:
            x_hat: Tensor = self.decoder(self.encoder(x))
            return x_hat
        maps, kept = run_keeping(self.encoder.trunk, to_channels(x))
        z = self.encoder.head(to_members(maps, self.encoder.n_members).flatten(2))
        maps = run_joining(self.decoder.layers, self.decoder.first_maps(z), kept, self.joins)
        return self.decoder.cropped(maps)


class _Discriminator(nn.Module):
    """A discriminator of images; its features are the last map before the logit layer."""

    def __init__(self, trunk: nn.Module, head: nn.Module, n_members: int) -> None:
        super().__init__()
        self.trunk, self.head, self.n_members = trunk, head, n_members

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        maps = to_members(self.trunk(to_channels(torch.cat(inputs, dim=2))), self.n_members)
        return self.head(maps.flatten(2)).squeeze(-1), maps


class _PairDiscriminator(nn.Module):
    """A discriminator of pairs (image, code); its features are the last joint layer (EGBAD)."""

    def __init__(self, trunk: nn.Module, n_flat: int, code_dim: int, make: BoundConvNet) -> None:
        super().__init__()
        self.trunk, self.n_members = trunk, make.n_members
        width = 128
        self.from_image = make._linear(n_flat, width)
        self.from_code = make._linear(code_dim, width)
        self.joint = make._linear(2 * width, width)
        self.head = make._linear(width, 1)
        self.dropout = Dropout(make.architecture.dropout, make.generator)

    def joint_layers(self) -> tuple[nn.Module, ...]:
        """Return the layers whose input depends on the code or on features joined with it."""
        return self.from_image, self.from_code, self.joint, self.head

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        *images, z = inputs
        maps = self.trunk(to_channels(torch.cat(images, dim=2)))
        flat = to_members(maps, self.n_members).flatten(2)
        both = torch.cat([self.from_image(flat), self.from_code(z)], dim=-1)
        features = self.joint(self.dropout(F.leaky_relu(both, _LEAK)))
        features = self.dropout(F.leaky_relu(features, _LEAK))
        return self.head(features).squeeze(-1), features


def _initialised(network: N, generator: torch.Generator) -> N:
    """Initialise as DCGAN: weights N(0, 0.02), scales of batch norm N(1, 0.02), biases 0."""
    joint = network.joint_layers() if isinstance(network, _PairDiscriminator) else ()
    for layer in network.modules():
        if any(p.is_meta for p in layer.parameters(recurse=False)):
            continue
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | MemberLinear):
            std = 0.02
            if layer in joint:
                # EGBAD's scale of 0.02 is for layers with widths of 512 and 1,024. In a narrow
                # layer, the contribution of the code would be too small with it.
                std = layer.weight.shape[1] ** -0.5
            nn.init.normal_(layer.weight, 0.0, std, generator=generator)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1.0, 0.02, generator=generator)
            nn.init.zeros_(layer.bias)
    # Grouped convolutions of few channels run up to twice as fast in this layout on CPUs.
    layout: dict[str, Any] = {"memory_format": torch.channels_last}
    return network.to(**layout)
