"""Samples, their reconstructions and their anomaly maps."""

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
    from matplotlib.image import AxesImage

# More samples than this would be too small to see in one figure.
_MAX_SAMPLES = 24
# The largest opacity of a map over a photograph.
_OPACITY = 0.6


@dataclass(eq=False, repr=False, kw_only=True)
class ReconstructionDisplay(Display):
    """Samples, their reconstructions and their anomaly maps, one column for each sample.

    Images are drawn above their reconstructions and maps. If there are no reconstructions, as for
    RDNA with a backbone, the map is drawn over the photograph, in the photograph's size. All maps
    share one colour scale. Rows are drawn as bars, the input of a feature next to its
    reconstruction, with the features of the largest anomaly map on top.

    Create it with `from_estimator` or `from_predictions`; `plot` draws it again.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features) or (n_samples, height, width[, channels])
        The samples. Images without reconstructions may be a list of arrays that differ in shape.
    X_hat : ndarray of the shape of X, or None
        Their reconstructions. None if the method does not reconstruct images.
    anomaly_map : ndarray of shape (n_samples, n_features) or (n_samples, height, width)
        Larger is more anomalous. A list of arrays if X is one.
    titles : sequence of str
        One title for each sample, above its column.
    feature_names : sequence of str or None, default=None
        One name for each feature. None names them x0, x1, ...
    value_label : str, default="Value"
        For rows, the label of the axis of the bars.
    masks : ndarray of bool of shape (n_samples, height, width) or None, default=None
        For images, the true anomalies, outlined in the inputs and the maps.
    level : float or None, default=None
        Areas above it in a map over a photograph are outlined in white.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes that are divided into panels; they are not drawn.
    axes_ : ndarray of Axes of shape (1, n_samples), (2, n_samples) or (3, n_samples)
        For rows one line of panels; for images the inputs, the reconstructions if there are any,
        and the maps.
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

    X: Any
    X_hat: NDArray[Any] | None
    anomaly_map: Any
    titles: Sequence[str]
    feature_names: Sequence[str] | None = None
    value_label: str = "Value"
    masks: Sequence[NDArray[np.bool_]] | None = None
    level: float | None = None

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
        """Draw the reconstructions and anomaly maps that a fitted detector gives some samples.

        Parameters
        ----------
        estimator : BaseDetector
            A fitted detector of gandetect.
        X : array-like
            Up to 24 samples, rows or images, in the layout of `fit`; also a list of images that
            differ in shape.
        titles : sequence of str or None, default=None
            One title for each sample. None shows the anomaly scores.
        feature_names : sequence of str or None, default=None
            For rows. None takes ``feature_names_in_`` if the detector has them.
        n_features : int, default=10
            For rows, how many features to show: those with the largest anomaly map.
        masks : array-like of shape (n, height, width) or None, default=None
            For images, the true anomalies: pixels that are not 0 are outlined. A list if the images
            differ in shape.
        ax : matplotlib Axes or None, default=None
            Axes made by ``subplots``, which are divided into panels; None makes a figure.

        Returns
        -------
        ReconstructionDisplay

        Raises
        ------
        TypeError
            If `estimator` does not reconstruct. For a pipeline, pass its last step, and X
            transformed by the other steps.
        ValueError
            If X has more than 24 samples or another shape than the detector was fitted with, or
            there is not one title for each sample.

        Notes
        -----
        In maps over photographs, areas are outlined whose values exceed the largest value in the
        maps of all shown images that are not flagged, as ``gandetect map`` does.
        """
        check_reconstructs(estimator)
        check_is_fitted(estimator)
        if titles is None:
            titles = [f"score {score:.2f}" for score in estimator.anomaly_score(X)]
        anomaly_map = estimator.anomaly_map(X)
        if estimator.model_.gives_maps:  # features are reconstructed, not images
            is_flagged = estimator.predict(X) < 0
            usual = [m for m, flagged in zip(anomaly_map, is_flagged, strict=True) if not flagged]
            return cls.from_predictions(
                _photographs(estimator, X),
                None,
                anomaly_map=anomaly_map,
                titles=titles,
                masks=masks,
                level=outline_level(usual or anomaly_map),
                ax=ax,
            )
        X_hat = estimator.reconstruct(X)
        value_label = "Value"
        if len(estimator.sample_shape_) > 1:
            X, X_hat = (_images(estimator, images) for images in (X, X_hat))
        else:
            # In the user's units, one column with values in the thousands would make the bars of
            # all other columns invisible.
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
        X_hat: ArrayLike | None,
        *,
        anomaly_map: Any = None,
        titles: Sequence[str] | None = None,
        feature_names: Sequence[str] | None = None,
        value_label: str = "Value",
        n_features: int = 10,
        masks: Any = None,
        level: float | None = None,
        ax: Axes | None = None,
    ) -> Self:
        """Draw given samples and reconstructions.

        Parameters
        ----------
        X : array-like of shape (n, n_features) or (n, height, width[, channels])
            Up to 24 samples. With ``X_hat=None``, images, which may be a list of arrays that
            differ in shape.
        X_hat : array-like of the shape of X, or None
            Reconstructions in the same units. None draws the maps over the images.
        anomaly_map : array-like of shape (n, n_features) or (n, height, width), default=None
            None takes the absolute difference, for images its mean over the channels. A list if X
            is one.
        titles : sequence of str or None, default=None
            One title for each sample. None numbers them.
        feature_names, n_features, masks, ax
            As in `from_estimator`.
        value_label : str, default="Value"
            For rows, the label of the axis of the bars.
        level : float or None, default=None
            Areas above it in a map over an image are outlined in white.

        Returns
        -------
        ReconstructionDisplay

        Raises
        ------
        ValueError
            If the shapes do not match, there are more than 24 samples, or there is not one title
            for each sample and one name for each feature.
        """
        shown, maps = _of_one_shape(X), anomaly_map
        if X_hat is None:
            _check_photographs(shown, maps)
            maps = _of_one_shape(maps)
        else:
            shown, X_hat = np.asarray(X), np.asarray(X_hat)
            _check_shapes(shown, X_hat)
            maps = _difference(shown, X_hat) if maps is None else np.asarray(maps)
        is_rows = shown[0].ndim == 1
        if _shapes(maps) != [shape[:2] for shape in _shapes(shown)]:
            raise ValueError(
                f"anomaly_map has the shape {_shape(maps)}, X needs {_shape(shown, 2)}."
            )
        titles = [f"sample {i}" for i in range(len(shown))] if titles is None else titles
        check_length("titles", titles, len(shown))
        if is_rows and feature_names is not None:
            check_length("feature_names", feature_names, len(shown[0]))
        outlined = None if masks is None else [np.asarray(mask) != 0 for mask in masks]
        if outlined is not None and (is_rows or _shapes(outlined) != _shapes(maps)):
            raise ValueError(
                f"masks has the shape {_shape(outlined)}, X the shape {_shape(shown)}."
            )
        display = cls(
            X=shown,
            X_hat=X_hat,
            anomaly_map=maps,
            titles=titles,
            feature_names=feature_names,
            value_label=value_label,
            masks=outlined,
            level=level,
        )
        return display.plot(ax=ax, n_features=n_features)

    def plot(self, ax: Axes | None = None, *, n_features: int = 10) -> Self:
        """Draw the samples.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Axes made by ``subplots``, which are divided into panels; None makes a figure.
        n_features : int, default=10
            For rows, how many features to show.

        Returns
        -------
        self
        """
        is_rows = self.X[0].ndim == 1
        n_samples, n_shown = len(self.X), min(n_features, len(self.X[0]))
        rows_size = (2.4 + 1.7 * n_samples, 1.5 + 0.32 * n_shown)
        tallest = 1.0 if is_rows else max(image.shape[0] / image.shape[1] for image in self.X)
        n_lines, side = (2, 2.2) if self.X_hat is None else (3, 1.1)
        height = n_lines * side * float(np.clip(tallest, 0.3, 3.0))
        images_size = (1.4 + side * n_samples, 0.9 + height)
        self._draw_in(ax, figsize=rows_size if is_rows else images_size).set_axis_off()
        if is_rows:
            self._plot_rows(n_shown)
        else:
            self._plot_images()
        for panel, title in zip(self.axes_[0], self.titles, strict=True):
            panel.set_title(title, fontsize="medium")
        return self

    def _plot_rows(self, n_shown: int) -> None:
        """Draw one panel for each sample, with the same features in all of them."""
        assert self.X_hat is not None
        n_samples, n_features = self.X.shape
        # The first row of the grid is for the legend, so that it covers no titles or bars.
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
                # A hatch distinguishes the two in greyscale too.
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
        """Draw inputs, reconstructions and maps; each kind has one colour scale."""
        n_samples = len(self.X)
        lines = {"input": self.X, "reconstruction": self.X_hat}
        lines = {kind: images for kind, images in lines.items() if images is not None}
        grid = _frame_grid(
            self.ax_, len(lines) + 1, n_samples + 1, width_ratios=[1] * n_samples + [0.1]
        )
        panels = grid.subplots(squeeze=False)
        self.axes_ = panels[:, :-1]
        low = min(float(image.min()) for image in self.X)
        high = max(float(image.max()) for image in self.X)
        map_range = (
            min(0.0, min(float(m.min()) for m in self.anomaly_map)),
            max(float(m.max()) for m in self.anomaly_map),
        )
        for i, of_map in enumerate(self.axes_[-1]):
            for ax, images in zip(self.axes_[:, i], lines.values(), strict=False):
                ax.imshow(_in_unit_range(images[i], low, high), cmap="gray", vmin=0, vmax=1)
            heat = self._draw_map(of_map, i, low, high, map_range)
            if self.masks is not None and self.masks[i].any():
                for ax in (self.axes_[0, i], of_map):
                    _outline(ax, self.masks[i], VERMILLION)
        for ax in self.axes_.flat:
            ax.set(xticks=[], yticks=[])
        for ax, kind in zip(self.axes_[:, 0], [*lines, "anomaly map"], strict=True):
            ax.set_ylabel(kind)
        for empty in panels[:-1, -1]:
            empty.remove()
        self.figure_.colorbar(heat, cax=panels[-1, -1], label="anomalous →")

    def _draw_map(
        self, ax: Axes, i: int, low: float, high: float, map_range: tuple[float, float]
    ) -> AxesImage:
        """Draw a map alone or, without a reconstruction, over its image."""
        values = np.asarray(self.anomaly_map[i])
        if self.X_hat is not None:
            return ax.imshow(values, cmap="cividis", clim=map_range)
        ax.imshow(_in_unit_range(self.X[i], low, high), cmap="gray", vmin=0, vmax=1)
        share = (values - map_range[0]) / ((map_range[1] - map_range[0]) or 1.0)
        # Small values are transparent, so that the image is visible there.
        opacity = _OPACITY * np.sqrt(share.clip(0, 1))
        heat = ax.imshow(values, cmap="inferno", clim=map_range, alpha=opacity)
        if self.level is not None and (values > self.level).any():
            _outline(ax, values > self.level, "white")
        return heat


def _frame_grid(ax: Axes, n_rows: int, n_columns: int, **options: Any) -> GridSpecFromSubplotSpec:
    """Divide the place of `ax` in its figure into a grid of panels."""
    place = ax.get_subplotspec()
    if place is None:
        raise ValueError(
            "ax must be created by subplots or add_subplot, so that its area can be divided."
        )
    return place.subgridspec(n_rows, n_columns, **options)


def outline_level(maps: Sequence[NDArray[Any]]) -> float:
    """Return the largest value in the maps of samples that are not flagged, for `level`."""
    return max(float(np.max(of_one)) for of_one in maps)


def _outline(ax: Axes, mask: NDArray[np.bool_], color: str) -> None:
    """Draw the outline of a mask on its image, along the edges of the pixels."""
    ax.set_autoscale_on(False)
    n_cells = max(1, 256 // max(mask.shape))  # per pixel: a contour cuts off the corners of cells
    cells = np.pad(mask.repeat(n_cells, axis=0).repeat(n_cells, axis=1), 1)
    rows, columns = ((np.arange(n) - 0.5) / n_cells - 0.5 for n in cells.shape)
    ax.contour(columns, rows, cells, levels=[0.5], colors=color, linewidths=1.5)


def _difference(X: NDArray[Any], X_hat: NDArray[Any]) -> NDArray[np.float64]:
    """Return the absolute reconstruction error, for images the mean over the channels."""
    difference = np.abs(X.astype(float) - X_hat)
    return np.asarray(difference.mean(axis=-1) if X.ndim == 4 else difference)


def _photographs(estimator: Any, images: Any) -> Any:
    """Convert images that may differ in shape to (height, width[, channels]) each."""
    if not estimator.model_.layout.varies:
        return _images(estimator, np.stack([np.asarray(image) for image in images]))
    is_first = estimator.channel_axis == 0
    arrays = [np.asarray(image) for image in images]
    return [np.moveaxis(a, 0, -1) if is_first and a.ndim == 3 else a for a in arrays]


def _of_one_shape(values: Any) -> Any:
    """Return one array, or a list of arrays if they differ in shape."""
    arrays = [np.asarray(value) for value in values]
    return np.stack(arrays) if len(set(_shapes(arrays))) == 1 else arrays


def _shapes(arrays: Any) -> list[tuple[int, ...]]:
    return [np.shape(array) for array in arrays]


def _shape(arrays: Any, n_axes: int | None = None) -> Any:
    """Return the shape of all as one array, or the list of their first `n_axes` axes."""
    shapes = [shape[:n_axes] for shape in _shapes(arrays)]
    return (len(shapes), *shapes[0]) if len(set(shapes)) == 1 else shapes


def _images(estimator: Any, images: ArrayLike) -> NDArray[Any]:
    """Convert images in the detector's layout to (n, height, width[, channels])."""
    images = np.asarray(images)
    images = images.reshape(len(images), *estimator.input_shape_)
    channels_first = estimator.channel_axis == 0 and estimator.image_shape is None
    return np.moveaxis(images, 1, -1) if channels_first and images.ndim == 4 else images


def _in_unit_range(image: NDArray[Any], low: float, high: float) -> NDArray[np.float64]:
    """Scale [low, high] to [0, 1], and convert to grey unless the image has three channels."""
    scaled = np.clip((image.astype(float) - low) / ((high - low) or 1.0), 0, 1)
    if scaled.ndim == 3 and scaled.shape[-1] != 3:
        return np.asarray(scaled.mean(axis=-1))
    return np.asarray(scaled)


def check_reconstructs(estimator: Any) -> None:
    """Raise TypeError unless an estimator has `reconstruct` and `anomaly_map`."""
    missing = [n for n in ("reconstruct", "anomaly_map") if not hasattr(estimator, n)]
    if missing:
        raise TypeError(
            f"{type(estimator).__name__} has no method {missing[0]}: pass a detector of gandetect "
            "(for a pipeline, its last step, pipeline[-1], and the output of the other steps as X)."
        )


def _check_shapes(X: NDArray[Any], X_hat: NDArray[Any]) -> None:
    if X.ndim not in (2, 3, 4):
        raise ValueError(
            f"X must be rows (n, features) or images (n, height, width[, channels]), got an array "
            f"of shape {X.shape}."
        )
    if X.shape != X_hat.shape:
        raise ValueError(f"X has the shape {X.shape}, but X_hat {X_hat.shape}.")
    _check_number(X)


def _check_photographs(X: Any, anomaly_map: Any) -> None:
    _check_number(X)
    if any(image.ndim not in (2, 3) for image in X):
        raise ValueError(
            f"Without X_hat X must be images (height, width[, channels]), got shapes {_shape(X)}."
        )
    if anomaly_map is None:
        raise ValueError("Without X_hat there is no difference to show: pass an anomaly_map.")


def _check_number(X: Any) -> None:
    if not 1 <= len(X) <= _MAX_SAMPLES:
        raise ValueError(
            f"1 to {_MAX_SAMPLES} samples can be shown, got {len(X)}: pass X[:{_MAX_SAMPLES}]."
        )


def check_length(name: str, values: Sequence[str], n: int) -> None:
    """Raise ValueError unless there are `n` values."""
    if len(values) != n:
        raise ValueError(f"{name} must have {n} entries, got {len(values)}.")
