"""Samples beside what the networks make of them, and where the two part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from gandetect.plotting.display import Display
from gandetect.plotting.style import BLACK, BLUE, ORANGE, VERMILLION

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.gridspec import GridSpecFromSubplotSpec

# More do not fit into one figure in a size at which anything is seen.
_MAX_SAMPLES = 24


@dataclass(eq=False, repr=False, kw_only=True)
class ReconstructionDisplay(Display):
    """Samples, their reconstructions and their anomaly maps, a column a sample.

    Images stand above their reconstructions and maps. Rows are bars, a feature's input beside
    its reconstruction, the features with the largest anomaly map on top.

    Make it with `from_estimator` or `from_predictions`; `plot` draws it again.

    Parameters
    ----------
    X, X_hat : ndarray of shape (n_samples, n_features) or (n_samples, height, width[, channels])
        The samples and their reconstructions.
    anomaly_map : ndarray of shape (n_samples, n_features) or (n_samples, height, width)
        Larger is more anomalous.
    titles : sequence of str
        One a sample, above its column.
    feature_names : sequence of str or None, default=None
        One a feature. None counts them: x0, x1, ...
    value_label : str, default="Value"
        What the bars of rows measure.
    masks : ndarray of bool of shape (n_samples, height, width) or None, default=None
        Of images, the true anomalies, outlined in the inputs and the maps.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The frame, not drawn itself.
    axes_ : ndarray of Axes of shape (1, n_samples) or (3, n_samples)
        Of rows one line; of images the inputs, the reconstructions and the maps.
    figure_ : matplotlib Figure

    Examples
    --------
    >>> import numpy as np
    >>> from gandetect.plotting import ReconstructionDisplay
    >>> X = np.eye(4)[None]
    >>> display = ReconstructionDisplay.from_predictions(X, 0.9 * X, titles=["a diagonal"])
    >>> [ax.get_ylabel() for ax in display.axes_[:, 0]]
    ['input', 'reconstruction', 'anomaly map']
    """

    X: NDArray[Any]
    X_hat: NDArray[Any]
    anomaly_map: NDArray[Any]
    titles: Sequence[str]
    feature_names: Sequence[str] | None = None
    value_label: str = "Value"
    masks: NDArray[np.bool_] | None = None

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: ArrayLike,
        *,
        titles: Sequence[str] | None = None,
        feature_names: Sequence[str] | None = None,
        n_features: int = 10,
        masks: ArrayLike | None = None,
        ax: Axes | None = None,
    ) -> Self:
        """Draw what a fitted detector makes of some samples.

        Parameters
        ----------
        estimator : BaseDetector
            A fitted detector of gandetect.
        X : array-like
            Up to 24 samples, as the detector takes them: rows or images.
        titles : sequence of str or None, default=None
            One a sample. None gives the anomaly scores.
        feature_names : sequence of str or None, default=None
            Of rows. None takes ``feature_names_in_`` if there are any.
        n_features : int, default=10
            Of rows, how many features to show: those with the largest anomaly map.
        masks : array-like of shape (n, height, width) or None, default=None
            Of images, what is not 0 is the true anomaly, which is outlined.
        ax : matplotlib Axes or None, default=None
            The frame to draw in, made by ``subplots``; None makes a figure.

        Returns
        -------
        ReconstructionDisplay

        Raises
        ------
        TypeError
            If `estimator` does not reconstruct; of a pipeline pass the last step, and X as the
            steps before it leave X.
        ValueError
            If X has more than 24 samples or another shape than the detector was fitted with, or
            there is not one title a sample.
        """
        check_reconstructs(estimator)
        check_is_fitted(estimator)
        if titles is None:
            titles = [f"score {score:.2f}" for score in estimator.anomaly_score(X)]
        X_hat, anomaly_map = estimator.reconstruct(X), estimator.anomaly_map(X)
        value_label = "Value"
        if len(estimator.sample_shape_) > 1:
            X, X_hat = (_images(estimator, images) for images in (X, X_hat))
        else:
            # In the user's units one column of thousands would leave all others without a bar.
            X, X_hat = (estimator.scaler_(np.asarray(rows)).numpy() for rows in (X, X_hat))
            value_label = "Scaled value"
        if feature_names is None:
            feature_names = getattr(estimator, "feature_names_in_", None)
        return cls.from_predictions(
            X,
            X_hat,
            anomaly_map=anomaly_map,
            titles=titles,
            feature_names=feature_names,
            value_label=value_label,
            n_features=n_features,
            masks=masks,
            ax=ax,
        )

    @classmethod
    def from_predictions(
        cls,
        X: ArrayLike,
        X_hat: ArrayLike,
        *,
        anomaly_map: ArrayLike | None = None,
        titles: Sequence[str] | None = None,
        feature_names: Sequence[str] | None = None,
        value_label: str = "Value",
        n_features: int = 10,
        masks: ArrayLike | None = None,
        ax: Axes | None = None,
    ) -> Self:
        """Draw samples and reconstructions that are there already.

        Parameters
        ----------
        X, X_hat : array-like of shape (n, n_features) or (n, height, width[, channels])
            Up to 24 samples and their reconstructions, in the same units.
        anomaly_map : array-like of shape (n, n_features) or (n, height, width), default=None
            None takes the absolute difference, its mean over the channels.
        titles : sequence of str or None, default=None
            One a sample. None gives their numbers.
        feature_names, n_features, masks, ax
            As in `from_estimator`.
        value_label : str, default="Value"
            What the bars of rows measure.

        Returns
        -------
        ReconstructionDisplay

        Raises
        ------
        ValueError
            If the shapes do not go together, there are more than 24 samples, or there is not one
            title a sample and one name a feature.
        """
        X, X_hat = np.asarray(X), np.asarray(X_hat)
        _check_shapes(X, X_hat)
        anomaly_map = _difference(X, X_hat) if anomaly_map is None else np.asarray(anomaly_map)
        if anomaly_map.shape != X.shape[:3]:
            raise ValueError(
                f"anomaly_map has the shape {anomaly_map.shape}, X needs {X.shape[:3]}."
            )
        titles = [f"sample {i}" for i in range(len(X))] if titles is None else titles
        check_length("titles", titles, len(X))
        if X.ndim == 2 and feature_names is not None:
            check_length("feature_names", feature_names, X.shape[1])
        outlined = None if masks is None else np.asarray(masks) != 0
        if outlined is not None and (X.ndim == 2 or outlined.shape != X.shape[:3]):
            raise ValueError(f"masks has the shape {outlined.shape}, X the shape {X.shape}.")
        display = cls(
            X=X,
            X_hat=X_hat,
            anomaly_map=anomaly_map,
            titles=titles,
            feature_names=feature_names,
            value_label=value_label,
            masks=outlined,
        )
        return display.plot(ax=ax, n_features=n_features)

    def plot(self, ax: Axes | None = None, *, n_features: int = 10) -> Self:
        """Draw the samples.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            The frame to draw in, made by ``subplots``; None makes a figure.
        n_features : int, default=10
            Of rows, how many features to show.

        Returns
        -------
        self
        """
        is_rows = self.X.ndim == 2
        n_samples, n_shown = len(self.X), min(n_features, self.X.shape[1])
        rows_size = (2.4 + 1.7 * n_samples, 1.5 + 0.32 * n_shown)
        tallness = 1.0 if is_rows else np.clip(self.X.shape[1] / self.X.shape[2], 0.3, 3.0)
        images_size = (1.4 + 1.1 * n_samples, 0.9 + 3.3 * tallness)
        self._draw_in(ax, figsize=rows_size if is_rows else images_size).set_axis_off()
        if is_rows:
            self._plot_rows(n_shown)
        else:
            self._plot_images()
        for panel, title in zip(self.axes_[0], self.titles, strict=True):
            panel.set_title(title, fontsize="medium")
        return self

    def _plot_rows(self, n_shown: int) -> None:
        """Draw a panel a sample, with the same features in all of them."""
        n_samples, n_features = self.X.shape
        # The first line of the grid holds the legend, which would else cover titles or bars.
        grid = _frame_grid(self.ax_, 2, 1, height_ratios=[1, 3 + 1.5 * n_shown], hspace=0)
        self.axes_ = (
            grid[1].subgridspec(1, n_samples).subplots(sharex=True, sharey=True, squeeze=False)
        )
        shown = np.argsort(-self.anomaly_map.max(axis=0), kind="stable")[:n_shown]
        names = self.feature_names
        if names is None:
            names = [f"x{i}" for i in range(n_features)]
        places = np.arange(n_shown)
        for ax, x, x_hat in zip(self.axes_[0], self.X, self.X_hat, strict=True):
            ax.barh(places - 0.2, x[shown], 0.4, color=BLUE, label="input")
            ax.barh(
                places + 0.2,
                x_hat[shown],
                0.4,
                color=ORANGE,
                # Hatched, so that the two are told apart in grey as well.
                hatch="////",
                edgecolor="white",
                linewidth=0,
                label="reconstruction",
            )
            ax.axvline(0, color=BLACK, linewidth=0.8)
            ax.spines[["top", "right"]].set_visible(False)
            ax.tick_params(left=False)
            ax.set_xlabel(self.value_label)
        first = self.axes_[0, 0]
        first.set_yticks(places, [names[i] for i in shown])
        first.invert_yaxis()
        if n_shown < n_features:
            first.set_ylabel(f"{n_shown} of {n_features} features, most anomalous first")
        legend_ax = self.figure_.add_subplot(grid[0])
        legend_ax.set_axis_off()
        legend_ax.legend(
            *first.get_legend_handles_labels(), loc="center left", ncols=2, frameon=False
        )

    def _plot_images(self) -> None:
        """Draw inputs, reconstructions and maps, each kind in one scale of colours."""
        n_samples = len(self.X)
        grid = _frame_grid(self.ax_, 3, n_samples + 1, width_ratios=[1] * n_samples + [0.1])
        panels = grid.subplots(squeeze=False)
        self.axes_ = panels[:, :-1]
        low, high = float(self.X.min()), float(self.X.max())
        map_range = min(0.0, float(self.anomaly_map.min())), float(self.anomaly_map.max())
        for i in range(n_samples):
            for ax, image in zip(self.axes_[:2, i], (self.X[i], self.X_hat[i]), strict=True):
                ax.imshow(_in_unit_range(image, low, high), cmap="gray", vmin=0, vmax=1)
            heat = self.axes_[2, i].imshow(self.anomaly_map[i], cmap="cividis", clim=map_range)
            if self.masks is not None and self.masks[i].any():
                for ax in self.axes_[::2, i]:
                    _outline(ax, self.masks[i])
        for ax in self.axes_.flat:
            ax.set(xticks=[], yticks=[])
        kinds = ("input", "reconstruction", "anomaly map")
        for ax, kind in zip(self.axes_[:, 0], kinds, strict=True):
            ax.set_ylabel(kind)
        for empty in panels[:2, -1]:
            empty.remove()
        self.figure_.colorbar(heat, cax=panels[2, -1], label="anomalous →")


def _frame_grid(ax: Axes, n_rows: int, n_columns: int, **options: Any) -> GridSpecFromSubplotSpec:
    """Divide the place of the frame among panels."""
    place = ax.get_subplotspec()
    if place is None:
        raise ValueError("ax must be made by subplots or add_subplot, whose place can be divided.")
    return place.subgridspec(n_rows, n_columns, **options)


def _outline(ax: Axes, mask: NDArray[np.bool_]) -> None:
    """Draw the outline of a mask on its image, along the edges of the pixels."""
    ax.set_autoscale_on(False)
    n_cells = max(1, 256 // max(mask.shape))  # in a pixel: a contour cuts the corners of cells
    cells = np.pad(mask.repeat(n_cells, axis=0).repeat(n_cells, axis=1), 1)
    rows, columns = ((np.arange(n) - 0.5) / n_cells - 0.5 for n in cells.shape)
    ax.contour(columns, rows, cells, levels=[0.5], colors=VERMILLION, linewidths=1.5)


def _difference(X: NDArray[Any], X_hat: NDArray[Any]) -> NDArray[np.float64]:
    """Return how far the reconstruction is off, the mean over the channels of an image."""
    difference = np.abs(X.astype(float) - X_hat)
    return np.asarray(difference.mean(axis=-1) if X.ndim == 4 else difference)


def _images(estimator: Any, images: ArrayLike) -> NDArray[Any]:
    """Bring images of the detector's layout to (n, height, width[, channels])."""
    images = np.asarray(images)
    images = images.reshape(len(images), *estimator.input_shape_)
    channels_first = estimator.channel_axis == 0 and estimator.image_shape is None
    return np.moveaxis(images, 1, -1) if channels_first and images.ndim == 4 else images


def _in_unit_range(image: NDArray[Any], low: float, high: float) -> NDArray[np.float64]:
    """Bring low and high to 0 and 1, and the image to grey unless it has three channels."""
    scaled = np.clip((image.astype(float) - low) / ((high - low) or 1.0), 0, 1)
    if scaled.ndim == 3 and scaled.shape[-1] != 3:
        return np.asarray(scaled.mean(axis=-1))
    return np.asarray(scaled)


def check_reconstructs(estimator: Any) -> None:
    """Raise TypeError unless an estimator says what it expected, and where X differs."""
    missing = [n for n in ("reconstruct", "anomaly_map") if not hasattr(estimator, n)]
    if missing:
        raise TypeError(
            f"{type(estimator).__name__} has no method {missing[0]}: pass a detector of gandetect "
            "(of a pipeline the last step, pipeline[-1], and X as the steps before it leave it)."
        )


def _check_shapes(X: NDArray[Any], X_hat: NDArray[Any]) -> None:
    if X.ndim not in (2, 3, 4):
        raise ValueError(
            f"X must be rows (n, features) or images (n, height, width[, channels]), got an array "
            f"of shape {X.shape}."
        )
    if X.shape != X_hat.shape:
        raise ValueError(f"X has the shape {X.shape}, but X_hat {X_hat.shape}.")
    if not 1 <= len(X) <= _MAX_SAMPLES:
        raise ValueError(
            f"1 to {_MAX_SAMPLES} samples can be shown, got {len(X)}: pass X[:{_MAX_SAMPLES}]."
        )


def check_length(name: str, values: Sequence[str], n: int) -> None:
    """Raise ValueError unless there are n values."""
    if len(values) != n:
        raise ValueError(f"{name} must have {n} entries, got {len(values)}.")
