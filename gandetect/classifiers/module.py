"""A torch network as a frozen classifier."""

from __future__ import annotations

import copy
import threading
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from gandetect.classifiers.forms import log_softmax_of_logits

# A lower limit of probabilities, because the logarithm of 0 is infinite and has no gradient.
_SMALLEST_PROBABILITY = torch.finfo(torch.float32).tiny
# The sum of a row of probabilities may differ from 1 by this much, because of rounding in float32.
TOLERANCE = 1e-4
# Forward hooks are registered on the network, which all threads share.
_HOOKS = threading.Lock()


class ModuleClassifier:
    """A copy of the user's network, in evaluation mode and without gradients of its weights.

    Parameters
    ----------
    module : nn.Module
        Maps samples (n, *sample_shape), float, to (n, n_classes) or, for two classes, to (n,) or
        (n, 1). It is copied; the caller's network is not changed.
    output : {"logits", "probabilities"}
        The kind of its output.

    Raises
    ------
    TypeError
        If it cannot be copied.
    """

    takes_rows: ClassVar[bool] = False

    def __init__(self, module: nn.Module, output: str) -> None:
        try:
            copied = copy.deepcopy(module)
        except Exception as error:
            raise TypeError(
                f"classifier={type(module).__name__} cannot be copied ({error}), but a detector "
                "uses a copy of the network. The usual cause is an attribute that is a tensor with "
                "a gradient history: detach it, or make it a buffer."
            ) from error
        self.module = copied.eval().requires_grad_(False)
        self.output = output
        first = next(self.module.parameters(), None)
        self.dtype = torch.float32 if first is None else first.dtype

    def to(self, device: torch.device) -> ModuleClassifier:
        """Move the copy to a device."""
        self.module.to(device)
        return self

    def raw(self, x: Tensor) -> Tensor:
        """Return the output of the network, (n, n_outputs)."""
        answer: Tensor = self.module(x.to(self.dtype))
        return answer[:, None] if answer.ndim == 1 else answer

    def log_probabilities(self, x: Tensor) -> Tensor:
        """Return the log-probabilities (n, n_classes) for samples (n, *sample_shape)."""
        answer = self.raw(x)
        if self.output == "logits":
            return log_softmax_of_logits(answer)
        if answer.shape[1] == 1:
            answer = torch.cat([1 - answer, answer], dim=1)
        return answer.clamp(min=_SMALLEST_PROBABILITY).log()

    def with_hidden(self, x: Tensor, layers: Sequence[str]) -> tuple[Tensor, list[Tensor]]:
        """Return the log-probabilities, and the flattened outputs of the named submodules."""
        if not layers:
            return self.log_probabilities(x), []
        submodules = dict(self.module.named_modules())
        unknown = [name for name in layers if name not in submodules]
        if unknown:
            raise ValueError(
                f"hidden_layers names {unknown}, but the classifier has only the submodules "
                f"{[name for name in submodules if name]}."
            )
        outputs: dict[str, Tensor] = {}

        def keep(name: str) -> Any:
            return lambda module, inputs, output: outputs.update({name: output.flatten(1)})

        with _HOOKS:
            hooks = [submodules[name].register_forward_hook(keep(name)) for name in layers]
            try:
                log_p = self.log_probabilities(x)
            finally:
                for hook in hooks:
                    hook.remove()
        return log_p, [outputs[name] for name in layers]


def found_output(answer: Tensor) -> str:
    """Return whether rows (n, n_outputs) are probabilities or logits, judged by their values."""
    if bool((answer < 0).any()):
        return "logits"
    if answer.shape[1] == 1:
        return "probabilities" if bool((answer <= 1).all()) else "logits"
    sums_to_one = (answer.double().sum(1) - 1).abs().max() <= TOLERANCE
    return "probabilities" if bool(sums_to_one) else "logits"
