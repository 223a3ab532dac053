"""A torch network as a frozen classifier."""

from __future__ import annotations

import copy
import threading
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from gandetect.classifiers.forms import log_softmax_of_logits

# The logarithm of a probability of 0 is no number to learn from; that of any other is.
_SMALLEST_PROBABILITY = torch.finfo(torch.float32).tiny
# Rows of probabilities may miss 1 by this much, from rounding in float32.
TOLERANCE = 1e-4
# Hooks stand on the network, which all threads share.
_HOOKS = threading.Lock()


class ModuleClassifier:
    """A copy of the user's network, in eval mode and without gradients of its weights.

    Parameters
    ----------
    module : nn.Module
        From samples (n, *sample_shape), float, to (n, n_classes) or, for two classes, (n,) or
        (n, 1). It is copied: the caller's own stays as it is.
    output : {"logits", "probabilities"}
        What it returns.

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
                f"classifier={type(module).__name__} cannot be copied ({error}), and a detector "
                "does not touch the network that it is given. A tensor with a gradient history "
                "kept as an attribute is the usual reason: detach it, or make it a buffer."
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
        """What the network returns, (n, n_outputs)."""
        answer: Tensor = self.module(x.to(self.dtype))
        return answer[:, None] if answer.ndim == 1 else answer

    def log_probabilities(self, x: Tensor) -> Tensor:
        """(n, *sample_shape) to (n, n_classes)."""
        answer = self.raw(x)
        if self.output == "logits":
            return log_softmax_of_logits(answer)
        if answer.shape[1] == 1:
            answer = torch.cat([1 - answer, answer], dim=1)
        return answer.clamp(min=_SMALLEST_PROBABILITY).log()

    def with_hidden(self, x: Tensor, layers: Sequence[str]) -> tuple[Tensor, list[Tensor]]:
        """The log-probabilities, and the outputs of the submodules of these names, flat."""
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
    """Whether rows (n, n_outputs) look like probabilities or like logits."""
    if bool((answer < 0).any()):
        return "logits"
    if answer.shape[1] == 1:
        return "probabilities" if bool((answer <= 1).all()) else "logits"
    sums_to_one = (answer.double().sum(1) - 1).abs().max() <= TOLERANCE
    return "probabilities" if bool(sums_to_one) else "logits"
