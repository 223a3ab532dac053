"""The losses of a training over its epochs."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from gandetect.archive import written_aside
from gandetect.plotting.display import Display
from gandetect.plotting.style import (
    BLACK,
    MARKERS,
    OKABE_ITO,
    legend_right,
    matplotlib_module,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_VALIDATION = "validation_"
# The key of the sum of the losses in ``history_``.
_SUM = "loss"
# The approximate number of markers on each line; they distinguish lines without their colours.
_N_MARKERS = 5
# The axis is linear if the losses differ by at most this factor.
_LINEAR_RATIO = 100
# The linear range of an axis that is logarithmic on both sides of 0.
_LINEAR_BELOW = 0.01


@dataclass(eq=False, repr=False, kw_only=True)
class TrainingCurveDisplay(Display):
    """The losses of each epoch; losses on validation samples are dashed.

    Create it with `from_estimator`, or with `from_predictions` from a recorded history; `plot`
    draws it again.

    Parameters
    ----------
    history : sequence of dict
        One record for each epoch: "epoch" and the losses by name, as in ``history_``. A loss
        ``"validation_<name>"`` has the colour and the marker of the loss ``"<name>"``.
    {name}

    Attributes
    ----------
    {axes}
    lines_ : dict of str to matplotlib Line2D
        The lines by the names of the losses.

    Notes
    -----
    If there are several losses, the one named "loss" is their sum. It is drawn last, as a thin
    black dash-dotted line, so that a thicker line of an equal loss stays visible behind it.

    The axis is logarithmic when the largest loss is more than 100 times the smallest. If some
    losses are also not positive, as those of a critic may be, the axis is logarithmic on both
    sides of 0 and linear between -0.01 and 0.01.

    Examples
    --------
    >>> from gandetect.plotting import TrainingCurveDisplay
    >>> history = [{"epoch": 1, "latent": 0.5}, {"epoch": 2, "latent": 0.001}]
    >>> display = TrainingCurveDisplay.from_predictions(history)
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
        """Draw the losses that a detector recorded in `fit`.

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
            If `estimator` has no ``history_``: it is not fitted, or records none.
        ValueError
            If training ended within the first epoch, or one of `losses` is not recorded.
        """
        if not hasattr(estimator, "history_"):
            raise TypeError(
                f"{type(estimator).__name__} has no history_: fit it first; for a pipeline, pass "
                "its last step, pipeline[-1]."
            )
        display = cls(
            history=estimator.history_,
            name=type(estimator).__name__ if name is None else name,
        )
        return display.plot(ax=ax, losses=losses)

    @classmethod
    def from_predictions(
        cls,
        history: Sequence[Mapping[str, Any]] | str | os.PathLike[str],
        *,
        losses: Sequence[str] | None = None,
        name: str | None = None,
        ax: Axes | None = None,
    ) -> Self:
        """Draw given losses.

        Parameters
        ----------
        history : sequence of dict, or path
            One record for each epoch, as in ``history_``; or a CSV file of such records, as
            ``stats/history.csv`` in the folder of a `RunFolder`. Values may be text, as returned by
            `csv.DictReader`; empty values are gaps in the line.
        losses : sequence of str or None, default=None
            The names of the losses to draw. None draws all.
        {name}
        {ax}

        Returns
        -------
        TrainingCurveDisplay

        Raises
        ------
        ValueError
            If the history is empty, a record has no epoch, a value is not a number, one of `losses`
            is not in it, or the file is not a CSV file.
        """
        records: Sequence[Mapping[str, Any]]
        records = _read_records(history) if isinstance(history, str | os.PathLike) else history
        if any("epoch" not in record for record in records):
            raise ValueError('history needs an "epoch" in each record.')
        numbers = [{key: _number(key, value) for key, value in r.items()} for r in records]
        return cls(history=numbers, name=name).plot(ax=ax, losses=losses)

    def plot(self, ax: Axes | None = None, *, losses: Sequence[str] | None = None) -> Self:
        """Draw the curves.

        Parameters
        ----------
        {ax}
        losses : sequence of str or None, default=None
            The names of the losses to draw. None draws all.

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
        # The sum is drawn last: as a thin line it does not hide a loss that it equals.
        bases.sort(key=lambda base: base == _SUM)
        self.lines_ = {}
        for name, values in curves.items():
            is_validation = name.startswith(_VALIDATION)
            place = bases.index(name.removeprefix(_VALIDATION))
            self.lines_[name] = ax.plot(
                epochs,
                values,
                label=name.replace("_", " "),
                **_style(place, len(bases), len(epochs)),
            )[0]
            if bases[place] == _SUM and len(bases) > 1:
                self.lines_[name].set(
                    color=BLACK, linestyle="-.", linewidth=1, marker="x", zorder=3
                )
            if is_validation:
                self.lines_[name].set_linestyle("--")
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
        """Return the values of each loss, one for each epoch."""
        if not self.history:
            raise ValueError("history has no epoch: there is nothing to draw.")
        # All records are searched for names, because a warm start may add validation losses.
        known = dict.fromkeys(name for record in self.history for name in record)
        del known["epoch"]
        unknown = [name for name in losses or () if name not in known]
        if unknown:
            raise ValueError(f"history has no loss {unknown[0]!r}, only {', '.join(known)}.")
        return {
            name: np.array([record.get(name, np.nan) for record in self.history])
            for name in losses or known
        }


def draw_losses(history: Sequence[Mapping[str, float]], path: str | os.PathLike[str]) -> None:
    """Write a picture of the losses; pass this function to `gandetect.RunFolder`.

    Parameters
    ----------
    history : sequence of dict
        As in ``history_``.
    path : str or path
        The .png file to write.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from sklearn.datasets import load_breast_cancer
    >>> from gandetect import GANomalyDetector, RunFolder
    >>> from gandetect.plotting import draw_losses
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> with TemporaryDirectory() as folder:
    ...     run = RunFolder(folder, every_n_epochs=2, draw_losses=draw_losses)
    ...     _ = GANomalyDetector(epochs=4, random_state=0).set_callbacks(run).fit(X[y == 1])
    ...     sorted(path.name for path in Path(folder, "stats").iterdir())
    ['epoch_0002.png', 'epoch_0004.png', 'history.csv']
    """
    # Not a pyplot figure: pyplot is not safe to use from a training in another thread.
    figure = matplotlib_module("figure").Figure(figsize=(6.4, 4.8), layout="constrained")
    TrainingCurveDisplay.from_predictions(history, ax=figure.subplots())
    with written_aside(path) as file:
        figure.savefig(file, format="png", dpi=100)


def _style(place: int, n_losses: int, n_epochs: int) -> dict[str, Any]:
    """Return the colour and marker of a loss; markers of different losses are at other epochs."""
    step = max(n_epochs // _N_MARKERS, 1)
    return {
        "color": OKABE_ITO[place % len(OKABE_ITO)],
        # If colours repeat, their markers differ.
        "marker": MARKERS[(place + place // len(OKABE_ITO)) % len(MARKERS)],
        "linewidth": 2,
        "markersize": 5,
        "markevery": (place * step // n_losses, step),
    }


def _read_records(path: str | os.PathLike[str]) -> list[dict[str, str]]:
    """Return the rows of a CSV file, none longer than its header."""
    try:
        with Path(path).open(newline="", encoding="utf-8") as file:
            records = list(csv.DictReader(file))
    except (UnicodeError, csv.Error) as error:
        raise ValueError(f"{str(path)!r} is not a CSV file of losses: {error}") from error
    if any(None in record for record in records):
        raise ValueError(
            f"{str(path)!r} is not a CSV file of losses: a row has more cells than the header."
        )
    return records


def _number(key: str, value: Any) -> float:
    """Convert a value of a record to float; values from a file are text."""
    try:
        return float("nan") if value in ("", None) else float(value)
    except (TypeError, ValueError):
        raise ValueError(f"history has {value!r} for {key!r}, which is not a number.") from None


def _choose_scale(ax: Axes, values: NDArray[np.float64]) -> None:
    """Make the axis logarithmic if small losses would look like 0 on a linear one."""
    sizes = np.abs(values[np.isfinite(values) & (values != 0)])
    if not len(sizes) or sizes.max() <= _LINEAR_RATIO * sizes.min():
        return
    if np.nanmin(values) > 0:
        ax.set_yscale("log")
    else:
        ax.set_yscale("symlog", linthresh=_LINEAR_BELOW)
