"""The scores of a parameter search over the values of one parameter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from gandetect.plotting.display import Display
from gandetect.plotting.style import BLACK, MARKERS, OKABE_ITO, legend_above, matplotlib_module

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# The key of the only line when a single parameter was searched.
_ALONE = ""
# The horizontal distance between the error bars of lines over the same word.
_SHIFT = 0.1


@dataclass(eq=False, repr=False, kw_only=True)
class ParameterSweepDisplay(Display):
    """Score over the values of a parameter: mean and standard deviation over the splits.

    If other parameters were searched too, each combination of their values is one line. The axis
    is logarithmic if the values are a geometric series; words are placed at equal distances. A
    ring marks the best mean.

    Create it with `from_estimator` or `from_predictions`; `plot` draws it again.

    Parameters
    ----------
    parameter : str
        Name of the parameter.
    values : sequence
        The values of the parameter.
    scores : dict of str to ndarray of shape (n_values, n_splits)
        By the name of the line. NaN where there is no score.
    score_name : str, default="Score"
        The name of the metric; larger is better.

    Attributes
    ----------
    {axes}
    lines_ : dict of str to matplotlib Line2D
        The means, by the name of the line. One standard deviation is drawn above and below them.

    References
    ----------
    .. [1] S. Akcay, A. Atapour-Abarghouei, T. P. Breckon, "GANomaly: Semi-Supervised Anomaly
       Detection via Adversarial Training", ACCV 2018, Figure 5.

    Examples
    --------
    >>> from gandetect.plotting import ParameterSweepDisplay
    >>> display = ParameterSweepDisplay.from_predictions(
    ...     [1, 10, 100], [[0.6, 0.7], [0.8, 0.9], [0.7, 0.7]], parameter="reconstruction_weight"
    ... )
    >>> display.ax_.get_xscale(), display.ax_.get_xlabel()
    ('log', 'reconstruction_weight')
    """

    parameter: str
    values: Sequence[Any]
    scores: Mapping[str, NDArray[np.float64]]
    score_name: str = "Score"

    @classmethod
    def from_estimator(
        cls,
        search: Any,
        parameter: str | None = None,
        *,
        metric: str | None = None,
        score_name: str | None = None,
        ax: Axes | None = None,
    ) -> Self:
        """Draw the results of a fitted search.

        Parameters
        ----------
        search : GridSearchCV or another search of scikit-learn
            The fitted search.
        parameter : str or None, default=None
            The parameter on the horizontal axis, named as in ``param_grid``. None takes the only
            one. If ``param_grid`` is a list, grids without this parameter are left out.
        metric : str or None, default=None
            The metric to draw, if the search has several.
        score_name : str or None, default=None
            The label of the vertical axis. None takes the name of the metric.
        {ax}

        Returns
        -------
        ParameterSweepDisplay

        Raises
        ------
        NotFittedError
            If the search is not fitted.
        TypeError
            If `search` is not a search.
        ValueError
            If there are several parameters or metrics and none is named, the name is unknown, or
            there are more lines than distinct colours.
        """
        if not hasattr(search, "cv_results_"):
            if hasattr(search, "cv"):
                check_is_fitted(search)
            raise TypeError(f"{type(search).__name__} has no cv_results_: pass a fitted search.")
        candidates = search.cv_results_["params"]
        names = list(dict.fromkeys(name for params in candidates for name in params))
        parameter = _chosen("parameter", parameter, names)
        metric = _metric(search, metric)
        values = _distinct(params[parameter] for params in candidates if parameter in params)
        splits = np.column_stack(
            [search.cv_results_[f"split{i}_test_{metric}"] for i in range(search.n_splits_)]
        )
        scores: dict[str, NDArray[np.float64]] = {}
        for params, measured in zip(candidates, splits, strict=True):
            if parameter not in params:  # a candidate of another grid in the list
                continue
            others = {name: value for name, value in params.items() if name != parameter}
            line = ", ".join(f"{_short(name)}={value!r}" for name, value in others.items())
            of_line = scores.setdefault(line, np.full((len(values), splits.shape[1]), np.nan))
            of_line[values.index(params[parameter])] = measured
        if score_name is None:
            score_name = _score_name(search, metric)
        display = cls(parameter=parameter, values=values, scores=scores, score_name=score_name)
        return display.plot(ax=ax)

    @classmethod
    def from_predictions(
        cls,
        values: Sequence[Any],
        scores: ArrayLike | Mapping[str, ArrayLike],
        *,
        parameter: str,
        score_name: str = "Score",
        ax: Axes | None = None,
    ) -> Self:
        """Draw given scores.

        Parameters
        ----------
        values : sequence
            The values of the parameter.
        scores : array-like of shape (n_values, n_splits), or dict of such
            The scores of one line, or of several lines by their names.
        parameter : str
            Name of the parameter.
        score_name : str, default="Score"
            The name of the metric; larger is better.
        {ax}

        Returns
        -------
        ParameterSweepDisplay

        Raises
        ------
        ValueError
            If there is not one row of scores for each value, or there are more lines than distinct
            colours.
        """
        lines = scores if isinstance(scores, Mapping) else {_ALONE: scores}
        arrays = {name: np.asarray(line, dtype=np.float64) for name, line in lines.items()}
        for line in arrays.values():
            if line.ndim != 2 or len(line) != len(values):
                raise ValueError(
                    f"scores must have the shape ({len(values)}, n_splits), one row for each "
                    f"value, got {line.shape}."
                )
        display = cls(
            parameter=parameter, values=list(values), scores=arrays, score_name=score_name
        )
        return display.plot(ax=ax)

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw the lines.

        Parameters
        ----------
        {ax}

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If there are more lines than distinct colours.
        """
        if len(self.scores) > len(OKABE_ITO):
            raise ValueError(
                f"At most {len(OKABE_ITO)} lines can be drawn, but the search has "
                f"{len(self.scores)}: draw another parameter, or search fewer values of the others."
            )
        ax = self._draw_in(ax, figsize=(6.4, 3.8 + 0.2 * len(self.scores)))
        places = self._places()
        self.lines_ = {}
        for i, (name, line) in enumerate(self.scores.items()):
            # Words have no values between them, so no line connects them; the error bars of
            # different lines are shifted so that they do not overlap.
            is_numeric = self._is_numeric()
            shift = 0.0 if is_numeric else _SHIFT * (i - (len(self.scores) - 1) / 2)
            order = np.argsort(places, kind="stable")
            x, mean, std = places[order] + shift, line.mean(axis=1)[order], line.std(axis=1)[order]
            if is_numeric:
                ax.fill_between(x, mean - std, mean + std, color=OKABE_ITO[i], alpha=0.15, lw=0)
            else:
                ax.errorbar(x, mean, yerr=std, color=OKABE_ITO[i], linestyle="none", capsize=4)
            self.lines_[name] = ax.plot(
                x,
                mean,
                color=OKABE_ITO[i],
                marker=MARKERS[i],
                linestyle="-" if is_numeric else "none",
                linewidth=1.8,
                label=name or None,
            )[0]
        self._ring_the_best()
        self._label_the_values(places)
        n_splits = next(iter(self.scores.values())).shape[1]
        ax.set_xlabel(_short(self.parameter))
        ax.set_ylabel(f"{self.score_name}\nmean ± std over {n_splits} splits")
        ax.spines[["top", "right"]].set_visible(False)
        legend_above(ax, n_columns=1)
        return self

    def _is_numeric(self) -> bool:
        return all(isinstance(value, Real) and not isinstance(value, bool) for value in self.values)

    def _places(self) -> NDArray[np.float64]:
        """Return the position of each value on the axis: itself if numeric, else its index."""
        return np.array(self.values if self._is_numeric() else range(len(self.values)), dtype=float)

    def _ring_the_best(self) -> None:
        points = np.concatenate([np.asarray(line.get_xydata()) for line in self.lines_.values()])
        x, mean = points[np.nanargmax(points[:, 1])]
        value = self.values[int(np.abs(self._places() - x).argmin())]
        self.ax_.plot(
            x,
            mean,
            marker="o",
            markersize=14,
            markerfacecolor="none",
            markeredgecolor=BLACK,
            linestyle="none",
            label=f"best: {mean:.3f} at {value}",
        )

    def _label_the_values(self, places: NDArray[np.float64]) -> None:
        """Set ticks at the searched values only."""
        if _is_geometric(places):
            self.ax_.set_xscale("log")
        if not self._is_numeric():
            self.ax_.margins(x=0.25)
        self.ax_.set_xticks(places, [f"{value}" for value in self.values])
        self.ax_.xaxis.set_minor_locator(matplotlib_module("ticker").NullLocator())


def _is_geometric(places: NDArray[np.float64]) -> bool:
    """Return whether the ratios, not the differences, of neighbours are approximately equal."""
    places = np.sort(places)
    if len(places) < 3 or places[0] <= 0:
        return False
    return bool(np.std(np.diff(np.log(places))) < 0.5 * np.std(np.diff(places)) / places.mean())


def _distinct(values: Any) -> list[Any]:
    """Return the values without repetition. Compares by equality: some values have no hash."""
    distinct: list[Any] = []
    for value in values:
        if value not in distinct:
            distinct.append(value)
    return distinct


def _chosen(what: str, name: str | None, names: Sequence[str]) -> str:
    if name is None and len(names) == 1:
        return names[0]
    if name is None or name not in names:
        raise ValueError(f"{what} must be one of {', '.join(map(repr, names))}, got {name!r}.")
    return name


def _metric(search: Any, metric: str | None) -> str:
    """Return the name of a metric in ``cv_results_``."""
    prefix = "mean_test_"
    names = [name.removeprefix(prefix) for name in search.cv_results_ if name.startswith(prefix)]
    return _chosen("metric", metric, names)


def _score_name(search: Any, metric: str) -> str:
    """Return the name of a metric; scikit-learn names a single one "score"."""
    scoring = search.scoring[metric] if isinstance(search.scoring, Mapping) else search.scoring
    if isinstance(scoring, str):
        return scoring.replace("_", " ")
    function = getattr(scoring, "metric", None)
    named = getattr(function, "__name__", metric).replace("_", " ").replace("roc auc", "ROC AUC")
    return named[:1].upper() + named[1:]


def _short(name: str) -> str:
    """Return the name of a parameter without the names of pipeline steps."""
    return name.rpartition("__")[2]
