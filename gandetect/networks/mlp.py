"""Networks for rows: multilayer perceptrons, all members at once."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from numbers import Integral, Real
from typing import Any

import torch
from sklearn.utils import check_scalar
from torch import Tensor, nn

from gandetect.networks.members import (
    Autoencoder,
    Discriminator,
    Dropout,
    MemberBatchNorm,
    MemberLinear,
    Transform,
    add_spectral_norm,
    like,
    make_joins,
    run_joining,
    run_keeping,
)

OUTPUT_ACTIVATIONS = {"linear": nn.Identity, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh}
_LEAK = 0.2


def check_options(architecture: Any, normalizations: tuple[str | None, ...]) -> None:
    """Raise TypeError or ValueError for an option that cannot be used."""
    choices = {
        "normalization": normalizations,
        "output_activation": ("auto", *OUTPUT_ACTIVATIONS),
        "spectral_norm": (True, False),
    }
    for name, allowed in choices.items():
        if getattr(architecture, name) not in allowed:
            raise ValueError(
                f"{name} must be one of {list(allowed)}, got {getattr(architecture, name)!r}."
            )
    check_scalar(
        architecture.dropout, "dropout", Real, min_val=0, max_val=1, include_boundaries="left"
    )


@dataclass(frozen=True, kw_only=True)
class MLP:
    """Multilayer perceptrons for rows; the decoder has the layers of the encoder in reverse.

    Parameters
    ----------
    hidden_dims : tuple of int or None, default=None
        Widths of the hidden layers of an encoder, from the row to the code. A decoder has them in
        reverse order. A discriminator has them in this order, and its last hidden layer is the
        feature layer. None takes (64, 32), the widths of EGBAD's tabular encoder, which the
        benchmark confirmed.
    normalization : {None, "batch", "layer"}, default=None
        The normalisation after each hidden layer except the first. The default is none, because
        rows are standardised, and batch statistics couple the rows of a batch.
    dropout : float in [0, 1), default=0.0
        The rate of dropout after each hidden layer of a discriminator, in training only.
    spectral_norm : bool, default=False
        Spectral normalisation of the discriminator's layers.
    output_activation : {"auto", "linear", "sigmoid", "tanh"}, default="auto"
        The last activation of the decoder. "auto" takes the one with the range of values that the
        detector's `scaling` gives.

    Examples
    --------
    >>> from gandetect import GANomalyDetector
    >>> from gandetect.networks import MLP
    >>> detector = GANomalyDetector(architecture=MLP(hidden_dims=(128, 64)))
    """

    hidden_dims: tuple[int, ...] | None = None
    normalization: str | None = None
    dropout: float = 0.0
    spectral_norm: bool = False
    output_activation: str = "auto"

    def __post_init__(self) -> None:
        if self.hidden_dims is not None:
            if not isinstance(self.hidden_dims, tuple | list):
                raise TypeError(f"hidden_dims must be a tuple of int, got {self.hidden_dims!r}.")
            for width in self.hidden_dims:
                check_scalar(width, "every entry of hidden_dims", Integral, min_val=1)
            if not self.hidden_dims:
                raise ValueError("hidden_dims must contain at least one width, got ().")
        check_options(self, normalizations=(None, "batch", "layer"))

    def bind(
        self,
        input_shape: tuple[int, ...],
        n_members: int,
        output_activation: str,
        generator: torch.Generator,
    ) -> BoundMLP:
        """Return the maker of networks for rows of this shape, with weights from this generator."""
        if len(input_shape) != 1:
            raise ValueError(
                f"MLP is an architecture for rows, but X contains samples of shape {input_shape}: "
                "use ConvNet, or flatten the images."
            )
        return BoundMLP(self, input_shape[0], n_members, output_activation, generator)


class BoundMLP:
    """An `MLP` bound to the width of the rows: it creates the networks of a method."""

    def __init__(
        self,
        architecture: MLP,
        n_features: int,
        n_members: int,
        output_activation: str,
        generator: torch.Generator,
    ) -> None:
        self.architecture = architecture
        self.n_features = n_features
        self.n_members = n_members
        self.output_activation = output_activation
        self.generator = generator
        self.hidden_dims = architecture.hidden_dims or (64, 32)

    def encoder(self, out_dim: int, n_inputs: int = 1) -> nn.Sequential:
        """Create an encoder from `n_inputs` rows (K, B, d) to codes (K, B, out_dim)."""
        dims = (n_inputs * self.n_features, *self.hidden_dims)
        return _Joined(self._hidden(dims), self._linear(dims[-1], out_dim))

    def decoder(self, in_dim: int) -> nn.Sequential:
        """Create a decoder from codes (K, B, in_dim) to rows (K, B, d)."""
        dims = (in_dim, *reversed(self.hidden_dims))
        return nn.Sequential(
            self._hidden(dims),
            self._linear(dims[-1], self.n_features),
            OUTPUT_ACTIVATIONS[self.output_activation](),
        )

    def refiner(self, latent_dim: int, skip: str | None = None) -> Autoencoder:
        """Create an autoencoder of rows (K, B, d), whose `encoder` returns the codes.

        With `skip` "add" or "concat", each hidden layer of the encoder is also joined to the
        corresponding layer of the decoder.
        """
        joins = make_joins(skip, reversed(self.hidden_dims), self.n_members, self._linear)
        return _Refiner(self.encoder(latent_dim), self.decoder(latent_dim), joins)

    def discriminator(self, code_dim: int = 0, n_inputs: int = 1) -> Discriminator:
        """Create a discriminator of `n_inputs` rows and a code, to logits and features."""
        dims = (n_inputs * self.n_features + code_dim, *self.hidden_dims)
        network = _Discriminator(
            self._hidden(dims, self.architecture.dropout),
            self._linear(dims[-1], 1),
        )
        if self.architecture.spectral_norm:
            add_spectral_norm(network, self.n_members, self.generator)
        return network

    def restorer(self, latent_dim: int) -> Autoencoder:
        """Create an autoencoder of rows (K, B, d), whose `encoder` returns the codes."""
        return self.refiner(latent_dim)

    def patch_discriminator(self, n_inputs: int = 1) -> Discriminator:
        """Create a network as by `discriminator`: a row is one patch."""
        return self.discriminator(n_inputs=n_inputs)

    def segmenter(self, n_inputs: int = 1) -> Transform:
        """Create a network from `n_inputs` rows (K, B, d) to one logit for each feature (K, B, d).

        The logit of each feature also depends directly on this feature of the last input.
        """
        return _Segmenter(self.encoder(self.n_features, n_inputs), self.n_members, self.n_features)

    def _linear(self, n_in: int, n_out: int) -> MemberLinear:
        return MemberLinear(self.n_members, n_in, n_out, self.generator)

    def _hidden(self, dims: tuple[int, ...], dropout: float = 0.0) -> nn.Sequential:
        layers: list[nn.Module] = []
        for i, (n_in, n_out) in enumerate(pairwise(dims)):
            layers.append(self._linear(n_in, n_out))
            if i > 0:
                layers.extend(self._normalization(n_out))
            layers.append(nn.LeakyReLU(_LEAK, inplace=True))
            if dropout:
                layers.append(Dropout(dropout, self.generator))
        return nn.Sequential(*layers)

    def _normalization(self, width: int) -> list[nn.Module]:
        kind = self.architecture.normalization
        if kind is None:
            return []
        if kind == "batch":
            return [MemberBatchNorm(self.n_members, width)]
        return [nn.LayerNorm(width, elementwise_affine=False)]


class _Joined(nn.Sequential):
    """A stack of layers whose input is one tensor, or several concatenated along the features."""

    def forward(self, *inputs: Tensor) -> Tensor:
        x = inputs[0] if len(inputs) == 1 else torch.cat(inputs, dim=-1)
        for layer in self:
            x = layer(x)
        return x


class _Refiner(nn.Module):
    def __init__(
        self, encoder: nn.Sequential, decoder: nn.Sequential, joins: nn.ModuleList
    ) -> None:
        super().__init__()
        self.encoder, self.decoder, self.joins = encoder, decoder, joins

    def forward(self, x: Tensor) -> Tensor:
        x_hat: Tensor
        if not self.joins:
            x_hat = self.decoder(self.encoder(x))
            return x_hat
        to_hidden, to_code = self.encoder
        to_mirrored, to_row, activation = self.decoder
        assert isinstance(to_hidden, nn.Sequential) and isinstance(to_mirrored, nn.Sequential)
        hidden, kept = run_keeping(to_hidden, x)
        mirrored = run_joining(to_mirrored, to_code(hidden), kept, self.joins)
        x_hat = activation(to_row(mirrored))
        return x_hat


class _Segmenter(nn.Module):
    """One logit for each feature, from the whole row and, by a direct connection, the feature."""

    def __init__(self, encoder: Transform, n_members: int, n_features: int) -> None:
        super().__init__()
        self.encoder = encoder
        # Hidden layers narrower than the row mix its features; the direct connection does not.
        self.weight = nn.Parameter(torch.ones(n_members, 1, n_features, **like()))

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.encoder(*inputs) + self.weight * inputs[-1]


class _Discriminator(nn.Module):
    def __init__(self, features: nn.Sequential, head: nn.Module) -> None:
        super().__init__()
        self.features = features
        self.head = head

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (K, B) and features (K, B, width)."""
        features = self.features(inputs[0] if len(inputs) == 1 else torch.cat(inputs, dim=-1))
        return self.head(features).squeeze(-1), features
