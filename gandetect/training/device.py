"""Where the tensors live, and whose random numbers they are drawn from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

RandomState = int | np.random.RandomState | np.random.Generator | None

_LARGEST_SEED = 2**31 - 1


def resolve_device(device: str | torch.device) -> torch.device:
    """Turn the user's word for a device into a device that is there.

    Parameters
    ----------
    device : str or torch.device
        ``"auto"`` takes the first of CUDA, MPS and CPU that is there; anything else is a name
        that torch knows, such as ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or ``"mps"``.

    Returns
    -------
    torch.device

    Raises
    ------
    TypeError
        If `device` is neither a string nor a torch.device.
    ValueError
        If torch does not know the name, or the device is not on this machine.

    Examples
    --------
    >>> from gandetect.training.device import resolve_device
    >>> resolve_device("cpu")
    device(type='cpu')
    """
    if not isinstance(device, str | torch.device):
        raise TypeError(f"device must be a string such as 'auto' or 'cpu', got {device!r}.")
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError as error:
        raise ValueError(
            f"Unknown device {device!r}: use 'auto', 'cpu', 'cuda', 'cuda:N' or 'mps'."
        ) from error
    if not _is_there(resolved):
        raise ValueError(
            f"Device {device!r} is not available on this machine: use device='auto' or 'cpu'."
        )
    return resolved


def _is_there(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count()
    if device.type == "mps":
        return torch.backends.mps.is_available()
    return device.type == "cpu"


def draw_seed(random_state: RandomState) -> int:
    """Draw one seed for torch from what scikit-learn calls a random state.

    An integer is used as it is, so that the same integer gives the same bits; a RandomState or
    Generator is advanced by one draw; None takes fresh entropy from the operating system rather
    than from numpy's global generator, which no detector touches.
    """
    if random_state is None:
        return int(np.random.default_rng().integers(_LARGEST_SEED))
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(_LARGEST_SEED))
    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(_LARGEST_SEED))
    if isinstance(random_state, int | np.integer) and not isinstance(random_state, bool):
        if not 0 <= random_state < 2**32:
            raise ValueError(f"random_state must be in [0, 2**32 - 1], got {random_state}.")
        return int(random_state)
    raise ValueError(
        "random_state must be None, an integer, a numpy RandomState or a numpy Generator, "
        f"got {random_state!r}."
    )


@contextmanager
def isolated_seed(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch inside the block, and leave its global generators as they were.

    Parameters
    ----------
    seed : int
        From `draw_seed`.
    device : torch.device
        Its generator is borrowed beside the CPU's.
    """
    accelerators = [device.index or 0] if device.type == "cuda" else []
    mps_state = torch.mps.get_rng_state() if device.type == "mps" else None
    with torch.random.fork_rng(devices=accelerators):
        torch.manual_seed(seed)
        try:
            yield
        finally:
            if mps_state is not None:
                torch.mps.set_rng_state(mps_state)
