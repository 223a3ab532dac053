"""Layers that hold the weights of all members of an ensemble, and run them as one operation.

On a CPU the cost of a small network is the cost of launching its operations, so that eight members
trained side by side cost far less than eight networks one after another. Rows run as
``(K, B, d)`` through one batched matrix product a layer; images run as ``(B, K * C, H, W)``
through convolutions with one group a member. Members share no weight and no statistic.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from gandetect.training.distributed import batch_norm, n_processes


class MemberLinear(nn.Module):
    """One linear layer a member: (K, B, in) to (K, B, out), initialised as torch's Linear."""

    def __init__(self, n_members: int, in_features: int, out_features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_members, in_features, out_features))
        self.bias = nn.Parameter(torch.empty(n_members, 1, out_features))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weights and biases uniformly within one over the square root of the inputs."""
        bound = 1 / math.sqrt(self.weight.shape[1])
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        """Multiply every member's batch by that member's weights."""
        return torch.baddbmm(self.bias, x, self.weight)


class _OverProcesses:
    """Batch normalisation whose batch is that of all processes that share a fit."""

    def forward(self: Any, x: Tensor) -> Tensor:
        if self.training and n_processes() > 1:
            return batch_norm(x, self)
        return super().forward(x)  # type: ignore[misc]  # of the layer that this is mixed into


class ChannelBatchNorm(_OverProcesses, nn.BatchNorm2d):
    """Batch normalisation of maps (B, K * C, H, W)."""


class PerMember(nn.Module):
    """One network of the user's own a member, run one after another: (K, B, ...) to (K, B, ...)."""

    def __init__(self, networks: Iterable[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, x: Tensor) -> Tensor:
        """Give every network its own member's batch."""
        return torch.stack([net(part) for net, part in zip(self.networks, x, strict=True)])


def check_answer(name: str, answer: Tensor, expected: tuple[int, ...]) -> None:
    """Raise ValueError if networks of the user's own, of this name, answer in another shape.

    Parameters
    ----------
    name : str
    answer : Tensor of shape (K, B, ...)
    expected : tuple of int
        (B, ...)
    """
    if tuple(answer.shape[1:]) != expected:
        raise ValueError(
            f"The networks of {name}= return samples of shape {tuple(answer.shape[2:])}, but "
            f"{expected[1:]} is needed."
        )


class MemberBatchNorm(_OverProcesses, nn.BatchNorm1d):
    """Batch normalisation of rows (K, B, d), each member over its own batch."""

    def __init__(self, n_members: int, n_features: int) -> None:
        super().__init__(n_members * n_features)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each feature of each member over the samples."""
        rows = super().forward(x.transpose(0, 1).flatten(1))
        return rows.unflatten(1, (x.shape[0], x.shape[2])).transpose(0, 1)


class MemberSpectralNorm(nn.Module):
    """Divide every member's weight by its largest singular value (Miyato et al., ICLR 2018).

    Registered with `add_spectral_norm` after the weights are initialised. One power iteration a
    training forward pass, as in the paper; none in eval mode, so that scores repeat.
    """

    def __init__(self, weight: Tensor, n_members: int) -> None:
        super().__init__()
        self.n_members = n_members
        matrix = self._as_matrices(weight)
        self.register_buffer("u", nn.functional.normalize(torch.randn(matrix.shape[:2]), dim=-1))
        self.u: Tensor
        with torch.no_grad():
            for _ in range(15):
                self._iterate(matrix)

    def _as_matrices(self, weight: Tensor) -> Tensor:
        if weight.ndim == 3:  # a MemberLinear's, which is a matrix a member as it is
            return weight
        return weight.reshape(self.n_members, weight.shape[0] // self.n_members, -1)

    def _iterate(self, matrix: Tensor) -> Tensor:
        """One step of the power iteration on (K, rows, columns); returns the right vector."""
        v = nn.functional.normalize(torch.einsum("krc,kr->kc", matrix, self.u), dim=-1)
        self.u = nn.functional.normalize(torch.einsum("krc,kc->kr", matrix, v), dim=-1)
        return v

    def forward(self, weight: Tensor) -> Tensor:
        """Return the weight with a largest singular value of one a member."""
        matrix = self._as_matrices(weight)
        with torch.no_grad():
            if self.training:
                v = self._iterate(matrix)
            else:
                v = nn.functional.normalize(torch.einsum("krc,kr->kc", matrix, self.u), dim=-1)
        sigma = torch.einsum("kr,krc,kc->k", self.u, matrix, v)
        return weight / sigma.repeat_interleave(weight.shape[0] // self.n_members).reshape(
            -1, *[1] * (weight.ndim - 1)
        )


def add_spectral_norm(module: nn.Module, n_members: int) -> None:
    """Register spectral normalisation on every layer of `module` that has a weight matrix."""
    layers = [m for m in module.modules() if isinstance(m, MemberLinear | nn.Conv2d)]
    for layer in layers:
        norm = MemberSpectralNorm(layer.weight.detach(), n_members)
        parametrize.register_parametrization(layer, "weight", norm)


def to_channels(x: Tensor) -> Tensor:
    """(K, B, C, H, W) to (B, K * C, H, W), the layout of grouped convolutions."""
    return x.transpose(0, 1).flatten(1, 2).contiguous(memory_format=torch.channels_last)


def to_members(x: Tensor, n_members: int) -> Tensor:
    """(B, K * C, ...) back to (K, B, C, ...)."""
    return x.unflatten(1, (n_members, -1)).transpose(0, 1)


def reset_members(module: nn.Module, collapsed: Tensor, fresh: nn.Module) -> None:
    """Give the members where `collapsed` (K,) is true the weights of `fresh`, in place.

    Every parameter and buffer of these layers holds its members one behind the other along its
    first axis, which is what makes this one rule for all of them.
    """
    for old, new in zip(module.state_dict().values(), fresh.state_dict().values(), strict=True):
        if old.ndim > 0:
            _by_member(old, collapsed).copy_(
                torch.where(
                    collapsed.reshape(-1, *[1] * old.ndim),
                    _by_member(new, collapsed),
                    _by_member(old, collapsed),
                )
            )


def reset_optimizer_members(optimizer: torch.optim.Optimizer, collapsed: Tensor) -> None:
    """Forget the optimizer's moments for the members where `collapsed` (K,) is true."""
    for state in optimizer.state.values():
        for value in state.values():
            if torch.is_tensor(value) and value.ndim > 0:
                _by_member(value, collapsed).mul_(
                    (~collapsed).reshape(-1, *[1] * value.ndim).to(value.dtype)
                )


def _by_member(values: Tensor, collapsed: Tensor) -> Tensor:
    """A view of (K * n, ...) as (K, n, ...)."""
    return values.unflatten(0, (len(collapsed), -1))
