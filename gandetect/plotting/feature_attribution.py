"""Why one row was flagged: the features that differ from the values the network expected."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from gandetect.plotting.display import Display
from gandetect.plotting.reconstruction import check_length, check_reconstructs
from gandetect.plotting.style import BLUE, GREEN, VERMILLION, legend_above

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(eq=False, repr=False, kw_only=True)
class FeatureAttributionDisplay(Display):
    """The features of one row, sorted by how anomalous they are, with their expected values.

    Create it with `from_estimator` or `from_predictions`; `plot` draws it again.

    Parameters
    ----------
    x, x_hat : ndarray of shape (n_features,)
        The row and the values that the network expected, in the same units; for a table with
        words, dates and gaps an array of objects.
    anomaly_map : ndarray of shape (n_features,)
        Larger is more anomalous.
    feature_names : sequence of str
        One name for each feature.
    {name}

    Attributes
    ----------
    {axes}
    bars_ : matplotlib BarContainer
        The most anomalous feature first.

    Examples
    --------
    >>> from gandetect.plotting import FeatureAttributionDisplay
    >>> display = FeatureAttributionDisplay.from_predictions(
    ...     [20.1, 3.0], [14.2, 3.1], feature_names=["radius", "texture"]
    ... )
    >>> [label.get_text() for label in display.ax_.get_yticklabels()]
    ['radius = 20.1', 'texture = 3']
    """

    x: NDArray[Any]
    x_hat: NDArray[Any]
    anomaly_map: NDArray[np.float64]
    feature_names: Sequence[str]
    name: str | None = None

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        feature_names: Sequence[str] | None = None,
        n_features: int = 10,
        name: str | None = None,
        ax: Axes | None = None,
    ) -> Self:
        """Draw which features of a row explain the score that a fitted detector gives it.

        Parameters
        ----------
        estimator : BaseDetector
            A fitted detector of gandetect.
        X : array-like or table of shape (1, n_features)
            The row, as in ``X[[i]]`` or ``X.iloc[[i]]``.
        feature_names : sequence of str or None, default=None
            One name for each feature. None takes ``feature_names_in_`` if the detector has them.
        n_features : int, default=10
            How many features to show: the most anomalous ones.
        name : str or None, default=None
            Title; None states the anomaly score and the threshold.
        {ax}

        Returns
        -------
        FeatureAttributionDisplay

        Raises
        ------
        TypeError
            If `estimator` does not reconstruct. For a pipeline, pass its last step, and X
            transformed by the other steps.
        ValueError
            If X does not have exactly one row.
        """
        check_reconstructs(estimator)
        check_is_fitted(estimator)
        if np.shape(X)[:1] != (1,) or np.ndim(X) != 2 or len(estimator.sample_shape_) != 1:
            raise ValueError(
                f"X must be one row of shape (1, n_features), got {np.shape(X)}: pass X[[i]] or "
                "X.iloc[[i]]; of images draw a ReconstructionDisplay."
            )
        if name is None:
            score = estimator.anomaly_score(X)[0]
            name = f"anomaly score {score:.2f}, threshold {estimator.threshold_:.2f}"
        if feature_names is None:
            feature_names = getattr(estimator, "feature_names_in_", None)
        return cls.from_predictions(
            np.asarray(X)[0],
            np.asarray(estimator.reconstruct(X))[0],
            anomaly_map=estimator.anomaly_map(X)[0],
            feature_names=feature_names,
            n_features=n_features,
            name=name,
            ax=ax,
        )

    @classmethod
    def from_predictions(
        cls,
        x: ArrayLike,
        x_hat: ArrayLike,
        *,
        anomaly_map: ArrayLike | None = None,
        feature_names: Sequence[str] | None = None,
        n_features: int = 10,
        name: str | None = None,
        ax: Axes | None = None,
    ) -> Self:
        """Draw a given row and its reconstruction.

        Parameters
        ----------
        x, x_hat : array-like of shape (n_features,)
            The row and the expected values, in the same units.
        anomaly_map : array-like of shape (n_features,), default=None
            Larger is more anomalous. None takes the absolute difference, which is comparable
            between features only if they have the same unit.
        feature_names : sequence of str or None, default=None
            One name for each feature. None names them x0, x1, ...
        n_features : int, default=10
            How many features to show: the most anomalous ones.
        {name}
        {ax}

        Returns
        -------
        FeatureAttributionDisplay

        Raises
        ------
        ValueError
            If the shapes do not match, there is not one name for each feature, or some values are
            not numbers and `anomaly_map` is None.
        """
        x, x_hat = map(_numbers_if_possible, (x, x_hat))
        shapes = [np.shape(row) for row in (x, x_hat, anomaly_map) if row is not None]
        if x.ndim != 1 or len(set(shapes)) > 1:
            raise ValueError(
                "x, x_hat and anomaly_map must be rows (n_features,) of one length, got "
                f"{', '.join(map(str, shapes))}."
            )
        if anomaly_map is None and not x.dtype == x_hat.dtype == np.float64:
            raise ValueError("anomaly_map is required if values are not all numbers.")
        anomaly_map = np.abs(x - x_hat) if anomaly_map is None else np.asarray(anomaly_map)
        if feature_names is None:
            feature_names = [f"x{i}" for i in range(len(x))]
        check_length("feature_names", feature_names, len(x))
        display = cls(
            x=x, x_hat=x_hat, anomaly_map=anomaly_map, feature_names=feature_names, name=name
        )
        return display.plot(ax=ax, n_features=n_features)

    def plot(self, ax: Axes | None = None, *, n_features: int = 10) -> Self:
        """Draw one bar for each feature.

        Parameters
        ----------
        {ax}
        n_features : int, default=10
            How many features to show: the most anomalous ones.

        Returns
        -------
        self
        """
        shown = np.argsort(-self.anomaly_map, kind="stable")[:n_features]
        ax = self._draw_in(ax, figsize=(8.0, 1.4 + 0.36 * len(shown)))
        kinds = [_relation(self.x[i], self.x_hat[i]) for i in shown]
        self.bars_ = ax.barh(
            [f"{self.feature_names[i]} = {_told(self.x[i])}" for i in shown],
            self.anomaly_map[shown],
            color=[_STYLES[kind][0] for kind in kinds],
            # Hatches distinguish the bars in greyscale too.
            hatch=[_STYLES[kind][1] for kind in kinds],
            edgecolor="white",
            linewidth=0,
        )
        ax.bar_label(
            self.bars_,
            [f"expected {_told(self.x_hat[i])}" for i in shown],
            padding=4,
            fontsize="small",
        )
        ax.margins(x=0.25)
        ax.set_xlim(left=0)
        ax.invert_yaxis()
        ax.tick_params(left=False)
        ax.spines[["top", "right"]].set_visible(False)
        ax.set_xlabel("Anomaly map (larger is more anomalous)")
        if len(shown) < len(self.x):
            ax.set_ylabel(f"{len(shown)} of {len(self.x)} features")
        for kind, (color, hatch) in _STYLES.items():
            if kind == "other than" and kind not in kinds:
                continue
            ax.barh(
                [0],
                [0],
                color=color,
                hatch=hatch,
                edgecolor="white",
                linewidth=0,
                label=f"{kind} the expected value",
            )
        legend_above(ax, n_columns=2 + ("other than" in kinds), title=self.name)
        return self


# Colour and hatch of a bar, by the relation of the value to the expected one.
_STYLES = {"above": (VERMILLION, "////"), "below": (BLUE, ""), "other than": (GREEN, "....")}


def _numbers_if_possible(values: ArrayLike) -> NDArray[Any]:
    array = np.asarray(values)
    try:
        return array.astype(np.float64)
    except (TypeError, ValueError):
        return array.astype(object)


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool | np.bool_) and value == value


def _relation(value: Any, expected: Any) -> str:
    if _is_number(value) and _is_number(expected):
        return "above" if value > expected else "below"
    return "other than"


def _told(value: Any) -> str:
    """Return a value as text, "missing" for a gap."""
    if value is None or value != value:
        return "missing"
    return f"{value:.4g}" if _is_number(value) else str(value)
