"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np


def markdown(heads: Sequence[str], lines: Iterable[Sequence[Any]]) -> str:
    """Return a table in Markdown, with three digits for floats."""
    rows = [heads, ["---"] * len(heads), *lines]
    return "\n".join(
        f"| {' | '.join(f'{c:.3f}' if isinstance(c, float) else str(c) for c in row)} |"
        for row in rows
    )


def mean_and_spread(values: Sequence[float]) -> str:
    """Return the mean as text, ± the standard deviation (n - 1) if there are several values."""
    spread = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{spread}"
