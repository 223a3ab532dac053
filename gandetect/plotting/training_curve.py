"""How the losses moved while a detector learned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from gandetect.plotting.display import Display
from gandetect.plotting.style import OKABE_ITO, legend_right, matplotlib_module

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_VALIDATION = "validation_"
# Losses that differ by no more than this factor are seen on a linear axis.
_LINEAR_RATIO = 100
# Of an axis that is logarithmic on both sides of 0.
_LINEAR_BELOW = 0.01


@dataclass(eq=False, repr=False, kw_only=True)
class TrainingCurveDisplay(Display):
    """The losses of each epoch, those on validation samples dashed.

    Make it with `from_estimator`, or from records of your own and `plot`.

    Parameters
    ----------
    history : sequence of dict
        One record an epoch: "epoch" and the losses by name, as in ``history_``. What begins with
        ``"validation_"`` shares the colour of the loss of that name.
    {name}

    Attributes
    ----------
    {axes}
    lines_ : dict of str to matplotlib Line2D
        By the names of the losses.

    Notes
    -----
    The axis is logarithmic when the largest loss is more than 100 times the smallest. If one of
    them is not positive then, as those of a critic may be, it is logarithmic on both sides of 0
    and linear between -0.01 and 0.01.

    Examples
    --------
    >>> from gandetect.plotting import TrainingCurveDisplay
    >>> history = [{"epoch": 1, "latent": 0.5}, {"epoch": 2, "latent": 0.001}]
    >>> display = TrainingCurveDisplay(history=history).plot()
    >>> list(display.lines_), display.ax_.get_yscale()
    (['latent'], 'log')
    """

    history: Sequence[Mapping[str, float]]
    name: str | None = None

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        *,
        losses: Sequence[str] | None = None,
        name: str | None = None,
        ax: Axes | None = None,
    ) -> Self:
        """Draw what a detector recorded in `fit`.

        Parameters
        ----------
        estimator : BaseDetector
            A fitted detector of gandetect.
        losses : sequence of str or None, default=None
            The keys of ``history_`` to draw. None draws all.
        {class_name}
        {ax}

        Returns
        -------
        TrainingCurveDisplay

        Raises
        ------
        TypeError
            If `estimator` has no ``history_``: it is not fitted, or keeps none.
        ValueError
            If training ended before its first epoch did, or one of `losses` is not recorded.
        """
        if not hasattr(estimator, "history_"):
            raise TypeError(
                f"{type(estimator).__name__} has no history_: fit it first; of a pipeline pass the "
                "last step, pipeline[-1]."
            )
        display = cls(
            history=estimator.history_,
            name=type(estimator).__name__ if name is None else name,
        )
        return display.plot(ax=ax, losses=losses)

    def plot(self, ax: Axes | None = None, *, losses: Sequence[str] | None = None) -> Self:
        """Draw the curves.

        Parameters
        ----------
        {ax}
        losses : sequence of str or None, default=None
            The names of those to draw. None draws all.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If the history is empty, or one of `losses` is not in it.
        """
        curves = self._curves(losses)
        ax = self._draw_in(ax, figsize=(6.4, 4.0))
        epochs = [record["epoch"] for record in self.history]
        bases = list(dict.fromkeys(name.removeprefix(_VALIDATION) for name in curves))
        self.lines_ = {}
        for name, values in curves.items():
            self.lines_[name] = ax.plot(
                epochs,
                values,
                color=OKABE_ITO[bases.index(name.removeprefix(_VALIDATION)) % len(OKABE_ITO)],
                linestyle="--" if name.startswith(_VALIDATION) else "-",
                # One epoch alone would be a line without length.
                marker="o" if len(epochs) == 1 else None,
                label=name.replace("_", " "),
            )[0]
        _choose_scale(ax, np.concatenate(list(curves.values())))
        ax.set_xlabel("Epoch")
        ax.set_ylabel("Loss")
        ticker = matplotlib_module("ticker")
        ax.xaxis.set_major_locator(ticker.MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
        ax.spines[["top", "right"]].set_visible(False)
        legend_right(ax)
        if self.name is not None:
            ax.set_title(self.name, loc="left")
        return self

    def _curves(self, losses: Sequence[str] | None) -> dict[str, NDArray[np.float64]]:
        """Return the values of each loss, one an epoch."""
        if not self.history:
            raise ValueError("history has no epoch: there is nothing to draw.")
        # Not the first record alone: a warm start may add validation losses later.
        known = dict.fromkeys(name for record in self.history for name in record)
        del known["epoch"]
        unknown = [name for name in losses or () if name not in known]
        if unknown:
            raise ValueError(f"history has no loss {unknown[0]!r}, only {', '.join(known)}.")
        return {
            name: np.array([record.get(name, np.nan) for record in self.history])
            for name in losses or known
        }


def _choose_scale(ax: Axes, values: NDArray[np.float64]) -> None:
    """Make the axis logarithmic if small losses would not be told from 0 otherwise."""
    sizes = np.abs(values[np.isfinite(values) & (values != 0)])
    if not len(sizes) or sizes.max() <= _LINEAR_RATIO * sizes.min():
        return
    if np.nanmin(values) > 0:
        ax.set_yscale("log")
    else:
        ax.set_yscale("symlog", linthresh=_LINEAR_BELOW)
