"""Layers with the weights of all members of an ensemble, computed as one operation.

On a CPU, launching operations dominates the computing time of a small network. Eight members in one
operation therefore take far less time than eight networks one after another. For rows ``(K, B, d)``
a layer is one batched matrix product; for images ``(B, K * C, H, W)`` it is a convolution with one
group for each member. Members share no weight and no statistic.
"""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol, Self, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.optim import Optimizer

from gandetect.distributed import batch_norm, n_processes

SKIPS = (None, "add", "concat")
_ACTIVATIONS = (nn.ReLU, nn.LeakyReLU)
# The smallest number of outputs with which a layer is computed in evaluation mode.
LEAST_WIDTH = 16
_DEVICE = ContextVar("device", default="cpu")

AnyOptimizer = TypeVar("AnyOptimizer", bound=Optimizer)


def like() -> dict[str, Any]:
    """Return dtype and device for new networks, independent of torch's default settings."""
    return {"dtype": torch.float32, "device": _DEVICE.get()}


@contextmanager
def without_weights() -> Iterator[None]:
    """Create networks with shapes only, for weights that are loaded later."""
    token = _DEVICE.set("meta")
    try:
        yield
    finally:
        _DEVICE.reset(token)


class Network(Protocol):
    """The methods of a network that detectors use, in addition to calling it."""

    training: bool

    def parameters(self) -> Iterator[nn.Parameter]:
        """As of `torch.nn.Module`."""

    def eval(self) -> Any:
        """As of `torch.nn.Module`."""

    def train(self, mode: bool = True) -> Any:
        """As of `torch.nn.Module`."""

    def requires_grad_(self, requires_grad: bool = True) -> Any:
        """As of `torch.nn.Module`."""

    def state_dict(self) -> dict[str, Any]:
        """As of `torch.nn.Module`."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> Any:
        """As of `torch.nn.Module`."""


class Transform(Network, Protocol):
    """A network from one tensor, or several concatenated ones, to one tensor."""

    def __call__(self, *inputs: Tensor) -> Tensor:
        """Transform the inputs."""


class Autoencoder(Transform, Protocol):
    """A network from samples to samples through a code, which its `encoder` returns."""

    @property
    def encoder(self) -> Transform:
        """The network from samples to codes."""


class Discriminator(Network, Protocol):
    """A network from samples to logits and the features from which they are computed."""

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits and the features of the inputs."""


class NetworkMaker(Protocol):
    """An architecture bound to the shape of a sample: it creates networks of all members.

    Samples are rows (K, B, d) or images (K, B, C, H, W), K members and B samples.
    """

    architecture: Any
    n_members: int
    generator: torch.Generator

    def encoder(self, out_dim: int, n_inputs: int = 1) -> Transform:
        """Create a network from `n_inputs` samples to codes (K, B, out_dim)."""

    def decoder(self, in_dim: int) -> Transform:
        """Create a network from codes (K, B, in_dim) to samples."""

    def refiner(self, latent_dim: int, skip: str | None = None) -> Autoencoder:
        """Create an autoencoder of samples, with skip connections "add", "concat" or None."""

    def discriminator(self, code_dim: int = 0, n_inputs: int = 1) -> Discriminator:
        """Create a network from `n_inputs` samples and a code to logits (K, B) and features."""

    def restorer(self, latent_dim: int) -> Autoencoder:
        """Create an autoencoder without skip connections, of high resolution for images."""

    def patch_discriminator(self, n_inputs: int = 1) -> Discriminator:
        """Create a network to one logit for each patch, and features; a row is one patch."""

    def segmenter(self, n_inputs: int = 1) -> Transform:
        """Create a network to one logit for each feature (K, B, d) or pixel (K, B, H, W)."""


class MemberLinear(nn.Module):
    """One linear layer per member, (K, B, in) to (K, B, out), initialised like torch's Linear."""

    def __init__(
        self, n_members: int, in_features: int, out_features: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_members, in_features, out_features, **like()))
        self.bias = nn.Parameter(torch.empty(n_members, 1, out_features, **like()))
        if self.weight.is_meta:
            return
        bound = 1 / math.sqrt(in_features)
        nn.init.uniform_(self.weight, -bound, bound, generator=generator)
        nn.init.uniform_(self.bias, -bound, bound, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        """Multiply every member's batch by that member's weights."""
        width = self.bias.shape[-1]
        if self.training or width == 1 or width >= LEAST_WIDTH:
            return torch.baddbmm(self.bias, x, self.weight)
        # In matrix products with few outputs, the rounding of MKL depends on the position of a row
        # in the batch (measured with AVX-512 on AMD, for 5 to 7 and 9 to 11 outputs). Therefore
        # the product is computed with more outputs, and the additional ones are discarded.
        missing = (0, LEAST_WIDTH - width)
        bias, weight = (nn.functional.pad(values, missing) for values in (self.bias, self.weight))
        return torch.baddbmm(bias, x, weight)[..., :width]


class _OverProcesses(nn.modules.batchnorm._BatchNorm):
    """Batch normalisation over the batches of all processes of a fit."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training and n_processes() > 1:
            return batch_norm(x, self)
        return super().forward(x)


class ChannelBatchNorm(_OverProcesses, nn.BatchNorm2d):
    """Batch normalisation of maps (B, K * C, H, W)."""


class Dropout(nn.Module):
    """Dropout of single values or, for maps (B, C, H, W), of whole channels, in training only.

    torch's dropout draws from the global generator; this one draws from the generator of the fit.
    """

    def __init__(self, share: float, generator: torch.Generator, *, channels: bool = False) -> None:
        super().__init__()
        self.share, self.channels = share, channels
        self.generator: torch.Generator | None = generator

    def forward(self, x: Tensor) -> Tensor:
        """Set a share of x to 0 and scale the rest, so that the mean is unchanged."""
        if not self.training or not self.share:
            return x
        shape = (*x.shape[:2], 1, 1) if self.channels else x.shape
        generator = self.generator
        where = x.device if generator is None else generator.device
        kept = torch.rand(shape, generator=generator, device=where).to(x.device) >= self.share
        return x * kept / (1 - self.share)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "generator": None}  # it belongs to the fit

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        copied = type(self).__new__(type(self))
        copied.__dict__.update(copy.deepcopy(self.__getstate__(), memo))
        return copied


class PerMember(nn.Module):
    """One network of the user for each member, run one after another, on (K, B, ...)."""

    def __init__(self, networks: Iterable[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks).float()

    def forward(self, x: Tensor) -> Tensor:
        """Apply each network to the batch of its member."""
        return torch.stack([net(part) for net, part in zip(self.networks, x, strict=True)])


def check_answer(name: str, answer: Tensor, expected: tuple[int, ...]) -> None:
    """Raise ValueError if the output of a user's network has an unexpected shape.

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
    """Batch normalisation of rows (K, B, d), separately for each member."""

    def __init__(self, n_members: int, n_features: int) -> None:
        super().__init__(n_members * n_features, **like())

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each feature of each member over the samples."""
        rows = super().forward(x.transpose(0, 1).flatten(1))
        members: Tensor = rows.unflatten(1, (x.shape[0], x.shape[2]))
        return members.transpose(0, 1)


class MemberSpectralNorm(nn.Module):
    """Divide the weight of each member by its largest singular value (Miyato et al., ICLR 2018).

    `add_spectral_norm` registers it after the weights are initialised. Each forward pass in
    training mode makes one power iteration, as in the paper. Evaluation mode makes none, so that
    scores are reproducible.
    """

    def __init__(self, weight: Tensor, n_members: int, generator: torch.Generator) -> None:
        super().__init__()
        self.n_members = n_members
        matrix = self._as_matrices(weight)
        u = torch.empty_like(matrix[:, :, 0])
        if not u.is_meta:
            u.normal_(generator=generator)
        self.register_buffer("u", nn.functional.normalize(u, dim=-1))
        self.u: Tensor
        with torch.no_grad():
            for _ in range(0 if u.is_meta else 15):
                self._iterate(matrix)

    def _as_matrices(self, weight: Tensor) -> Tensor:
        if weight.ndim == 3:  # of a MemberLinear, already one matrix per member
            return weight
        return weight.reshape(self.n_members, weight.shape[0] // self.n_members, -1)

    def _iterate(self, matrix: Tensor) -> Tensor:
        """One step of the power iteration on (K, rows, columns); returns the right vector."""
        v = nn.functional.normalize(torch.einsum("krc,kr->kc", matrix, self.u), dim=-1)
        self.u = nn.functional.normalize(torch.einsum("krc,kc->kr", matrix, v), dim=-1)
        return v

    def forward(self, weight: Tensor) -> Tensor:
        """Return the weight, with a largest singular value of 1 for each member."""
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


def add_spectral_norm(module: nn.Module, n_members: int, generator: torch.Generator) -> None:
    """Register spectral normalisation on every layer of `module` that has a weight matrix."""
    layers = [m for m in module.modules() if isinstance(m, MemberLinear | nn.Conv2d)]
    for layer in layers:
        norm = MemberSpectralNorm(layer.weight.detach(), n_members, generator)
        parametrize.register_parametrization(layer, "weight", norm)


def to_channels(x: Tensor) -> Tensor:
    """Convert (K, B, C, H, W) to (B, K * C, H, W), the layout of grouped convolutions."""
    return x.transpose(0, 1).flatten(1, 2).contiguous(memory_format=torch.channels_last)


def to_members(x: Tensor, n_members: int) -> Tensor:
    """Convert (B, K * C, ...) to (K, B, C, ...)."""
    members: Tensor = x.unflatten(1, (n_members, -1))
    return members.transpose(0, 1)


def reset_members(module: nn.Module, collapsed: Tensor, fresh: nn.Module) -> None:
    """Set the weights of the members where `collapsed` (K,) is true to those of `fresh`, in place.

    This works for all parameters and buffers, because each contains its members consecutively along
    the first axis.
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


def _without_compiler(cls: type[AnyOptimizer]) -> type[AnyOptimizer]:
    """Avoid the import of torch's compiler, which takes a second, by an optimizer of torch.

    torch wraps these methods to exclude them from compiled code. gandetect compiles no code, so the
    wrappers are removed.
    """
    for name in ("add_param_group", "zero_grad", "state_dict", "load_state_dict"):
        setattr(cls, name, inspect.unwrap(getattr(cls, name)))
    cls.step = torch.no_grad()(inspect.unwrap(cls.step))  # type: ignore[method-assign]
    return cls


@_without_compiler
class Adam(torch.optim.Adam):
    """torch's optimizer of this name, with the same bits."""


@_without_compiler
class AdamW(torch.optim.AdamW):
    """torch's optimizer of this name, with the same bits."""


@_without_compiler
class RMSprop(torch.optim.RMSprop):
    """torch's optimizer of this name, with the same bits."""


@_without_compiler
class SGD(torch.optim.SGD):
    """torch's optimizer of this name, with the same bits."""


class MemberAdam(Adam):
    """Adam with a separate restart of single members, including their step counts.

    torch's Adam has one step count for each tensor, which contains the weights of all members. With
    moments of 0 and the step count of the others, the first step of a restarted member would be
    many times too large. Therefore each member has its own step count from the first `restart` on.

    Parameters
    ----------
    parameters : iterable of Parameter
        Each contains its members consecutively along the first axis.
    n_members : int
    lr : float
    betas : tuple of float

    References
    ----------
    Kingma and Ba, "Adam: a method for stochastic optimization", ICLR 2015, algorithm 1.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        n_members: int,
        lr: float,
        betas: tuple[float, float],
    ) -> None:
        super().__init__(parameters, lr, betas, fused=True)
        self.n_members = n_members
        for group in self.param_groups:
            group["counts_members"] = False

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every weight that has a gradient."""
        if not self.param_groups[0]["counts_members"]:
            # torch wraps the `step` of each class to call the hooks of the optimizer. It is
            # unwrapped here, so that the hooks run once.
            step: Any = inspect.unwrap(torch.optim.Adam.step)
            step(self)
            return
        for group in self.param_groups:
            beta_1, beta_2 = group["betas"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                step, mean, square = (state[name] for name in ("step", "exp_avg", "exp_avg_sq"))
                step += 1
                mean.lerp_(p.grad, 1 - beta_1)
                square.mul_(beta_2).addcmul_(p.grad, p.grad, value=1 - beta_2)
                shape = (-1, *[1] * p.ndim)
                size = (group["lr"] / (1 - beta_1**step)).reshape(shape)
                correction = (1 - beta_2**step).sqrt().reshape(shape)
                weights, mean, square = (_by_member(v, step) for v in (p, mean, square))
                weights.sub_(size * mean / (square.sqrt() / correction + group["eps"]))

    def restart(self, members: Tensor) -> None:
        """Reset the moments and step counts of the members where `members` (K,) is true."""
        for group in self.param_groups:
            group["counts_members"] = True
        for state in self.state.values():
            state["step"] = state["step"].expand(self.n_members).clone()
            for value in state.values():
                _by_member(value, members).mul_(
                    (~members).reshape(-1, *[1] * value.ndim).to(value.dtype)
                )


def _by_member(values: Tensor, collapsed: Tensor) -> Tensor:
    """Return a view of (K * n, ...) as (K, n, ...)."""
    view: Tensor = values.unflatten(0, (len(collapsed), -1))
    return view


class AddSkip(nn.Module):
    """Add the stored activation of the encoder to that of the decoder, of the same shape."""

    def forward(self, x: Tensor, kept: Tensor) -> Tensor:
        """Both (K, B, d), or (B, K * C, H, W)."""
        return x + kept


class ConcatSkip(nn.Module):
    """Concatenate the stored activation of the encoder with the decoder's, and project both.

    Parameters
    ----------
    n_members : int
    join : Module
        A linear layer or 1 x 1 convolution from twice the width to the width.
    """

    def __init__(self, n_members: int, join: nn.Module) -> None:
        super().__init__()
        self.n_members = n_members
        self.join: Transform = join

    def forward(self, x: Tensor, kept: Tensor) -> Tensor:
        """Both (K, B, d), or (B, K * C, H, W)."""
        if x.ndim == 3:
            return self.join(torch.cat([x, kept], dim=-1))
        both = [maps.unflatten(1, (self.n_members, -1)) for maps in (x, kept)]
        return self.join(torch.cat(both, dim=2).flatten(1, 2))


def make_joins(
    skip: str | None, widths: Iterable[int], n_members: int, join: Callable[[int, int], nn.Module]
) -> nn.ModuleList:
    """Create one join for each activation of the decoder; none without skips.

    Parameters
    ----------
    skip : {None, "add", "concat"}
    widths : iterable of int
        The widths of the decoder's activations, in the order in which they run.
    n_members : int
    join : callable
        ``join(n_in, n_out)`` creates the layer that joins concatenated features.
    """
    if skip == "add":
        return nn.ModuleList(AddSkip() for _ in widths)
    if skip == "concat":
        return nn.ModuleList(ConcatSkip(n_members, join(2 * width, width)) for width in widths)
    return nn.ModuleList()


def run_keeping(layers: Iterable[nn.Module], x: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Run layers one after the other; return the result and the output of each activation."""
    kept = []
    for layer in layers:
        x = layer(x)
        if isinstance(layer, _ACTIVATIONS):
            kept.append(x)
    return x, kept


def run_joining(
    layers: Iterable[nn.Module], x: Tensor, kept: list[Tensor], joins: Iterable[nn.Module]
) -> Tensor:
    """Run layers; after each activation join the stored outputs in reverse order."""
    skips = zip(reversed(kept), joins, strict=True)
    for layer in layers:
        x = layer(x)
        if isinstance(layer, _ACTIVATIONS):
            skip, join = next(skips)
            x = join(x, skip)
    return x
