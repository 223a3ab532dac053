"""Skip connections from the activations of an encoder to those that mirror them in its decoder."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

SKIPS = (None, "add", "concat")
_ACTIVATIONS = (nn.ReLU, nn.LeakyReLU)


class AddSkip(nn.Module):
    """Add what the encoder kept to the decoder's activation of the same shape."""

    def forward(self, x: Tensor, kept: Tensor) -> Tensor:
        """Both (K, B, d), or (B, K * C, H, W)."""
        return x + kept


class ConcatSkip(nn.Module):
    """Lay what the encoder kept beside the decoder's activation, and join both to its width.

    Parameters
    ----------
    n_members : int
    join : Module
        A linear layer or 1 x 1 convolution from twice the width to the width.
    """

    def __init__(self, n_members: int, join: nn.Module) -> None:
        super().__init__()
        self.n_members, self.join = n_members, join

    def forward(self, x: Tensor, kept: Tensor) -> Tensor:
        """Both (K, B, d), or (B, K * C, H, W)."""
        if x.ndim == 3:
            return self.join(torch.cat([x, kept], dim=-1))
        both = [maps.unflatten(1, (self.n_members, -1)) for maps in (x, kept)]
        return self.join(torch.cat(both, dim=2).flatten(1, 2))


def make_joins(
    skip: str | None, widths: Iterable[int], n_members: int, join: Callable[[int, int], nn.Module]
) -> nn.ModuleList:
    """One join for each of the decoder's activations; none without skips.

    Parameters
    ----------
    skip : {None, "add", "concat"}
    widths : iterable of int
        Of the decoder's activations, in the order in which they run.
    n_members : int
    join : callable
        ``join(n_in, n_out)`` makes the layer that joins what lies side by side.
    """
    if skip == "add":
        return nn.ModuleList(AddSkip() for _ in widths)
    if skip == "concat":
        return nn.ModuleList(ConcatSkip(n_members, join(2 * width, width)) for width in widths)
    return nn.ModuleList()


def run_keeping(layers: Iterable[nn.Module], x: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Run layers one after the other; return the result and what left each activation."""
    kept = []
    for layer in layers:
        x = layer(x)
        if isinstance(layer, _ACTIVATIONS):
            kept.append(x)
    return x, kept


def run_joining(
    layers: Iterable[nn.Module], x: Tensor, kept: list[Tensor], joins: Iterable[nn.Module]
) -> Tensor:
    """Run layers; after each activation join what was kept, the last that was kept first."""
    skips = zip(reversed(kept), joins, strict=True)
    for layer in layers:
        x = layer(x)
        if isinstance(layer, _ACTIVATIONS):
            skip, join = next(skips)
            x = join(x, skip)
    return x
