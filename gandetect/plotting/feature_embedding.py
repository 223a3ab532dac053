"""Features of normal and anomalous samples in a two-dimensional embedding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.utils import check_array, check_consistent_length

from gandetect.metrics import is_anomalous
from gandetect.plotting.display import Display
from gandetect.plotting.style import BLUE, VERMILLION, legend_above

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# t-SNE compares all pairs of samples: more columns than this take more time and add noise.
_MAX_COLUMNS = 50
_METHODS = {"features": "discriminator_features", "codes": "transform"}


@dataclass(eq=False, repr=False, kw_only=True)
class FeatureEmbeddingDisplay(Display):
    """t-SNE of the discriminator's features, or of the codes, of normal and anomalous samples.

    Points that are close in the picture are close in the space of the features or codes. Distances
    between groups of points, and the sizes of groups, have no meaning.

    Create it with `from_estimator` or `from_predictions`; `plot` draws it again.

    Parameters
    ----------
    embedding : ndarray of shape (n_samples, 2)
        The position of each sample.
    is_anomaly : ndarray of bool of shape (n_samples,)
        Which samples are anomalies.
    {name}

    Attributes
    ----------
    {axes}

    References
    ----------
    .. [1] S. Akcay, A. Atapour-Abarghouei, T. P. Breckon, "GANomaly: Semi-Supervised Anomaly
       Detection via Adversarial Training", ACCV 2018, Figure 6 (b).
    .. [2] L. van der Maaten, G. Hinton, "Visualizing Data using t-SNE", JMLR 9, 2008.

    Examples
    --------
    >>> import numpy as np
    >>> from gandetect.plotting import FeatureEmbeddingDisplay
    >>> features = np.random.default_rng(0).normal(size=(40, 3))
    >>> features[30:] += 9
    >>> y = np.repeat([0, 1], [30, 10])
    >>> display = FeatureEmbeddingDisplay.from_predictions(y, features, perplexity=5)
    >>> display.embedding.shape
    (40, 2)
    """

    embedding: NDArray[np.float64]
    is_anomaly: NDArray[np.bool_]
    name: str | None = None

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: ArrayLike,
        *,
        of: str = "features",
        perplexity: float = 30.0,
        random_state: int | None = 0,
        anomaly_label: Any = None,
        name: str | None = None,
        ax: Axes | None = None,
    ) -> Self:
        """Draw the embedding of the features that a fitted detector gives labelled samples.

        Parameters
        ----------
        estimator : BaseDetector
            A fitted detector of gandetect.
        X : array-like, Dataset or path
            Some hundreds of samples; with more, t-SNE is slow and the points overlap.
        {labels}
            Without labels, pass ``detector.predict(X)`` to show which samples are flagged.
        of : {"features", "codes"}, default="features"
            What to embed: the discriminator's features of a sample, or its latent code.
        perplexity : float, default=30.0
            The approximate number of neighbours of a sample, as in `sklearn.manifold.TSNE`; below
            the number of samples.
        random_state : int or None, default=0
            Seed of t-SNE. Another seed can give a different picture.
        {anomaly_label}
        {class_name}
        {ax}

        Returns
        -------
        FeatureEmbeddingDisplay

        Raises
        ------
        TypeError
            If `estimator` has no such features. For a pipeline, pass its last step, and X
            transformed by the other steps.
        ValueError
            If `of` is unknown, labels are missing or do not determine the anomalies, or the number
            of samples is not above `perplexity`.
        """
        if of not in _METHODS:
            raise ValueError(f'of must be "features" or "codes", got {of!r}.')
        method = _METHODS[of]
        if not hasattr(estimator, method):
            raise TypeError(
                f"{type(estimator).__name__} has no method {method}: pass a detector of gandetect "
                "(for a pipeline, its last step, and the output of the other steps as X)."
            )
        return cls.from_predictions(
            y,
            getattr(estimator, method)(X),
            perplexity=perplexity,
            random_state=random_state,
            anomaly_label=anomaly_label,
            name=type(estimator).__name__ if name is None else name,
            ax=ax,
        )

    @classmethod
    def from_predictions(
        cls,
        y_true: ArrayLike,
        features: ArrayLike,
        *,
        perplexity: float = 30.0,
        random_state: int | None = 0,
        anomaly_label: Any = None,
        name: str | None = None,
        ax: Axes | None = None,
    ) -> Self:
        """Draw the embedding of given features.

        Parameters
        ----------
        y_true : array-like of shape (n_samples,)
            Labels, as in `from_estimator`.
        features : array-like of shape (n_samples, n_features)
            Features or codes. If there are more than 50 columns, the first 50 principal components
            are used.
        perplexity, random_state, anomaly_label
            As in `from_estimator`.
        {name}
        {ax}

        Returns
        -------
        FeatureEmbeddingDisplay

        Raises
        ------
        ValueError
            If labels are missing or do not determine the anomalies, features are not finite, or
            the number of samples is not above `perplexity`.
        """
        is_anomaly = is_anomalous(y_true, anomaly_label)
        columns = check_array(features, input_name="features")
        check_consistent_length(is_anomaly, columns)
        if min(columns.shape) > _MAX_COLUMNS:
            columns = PCA(_MAX_COLUMNS, random_state=random_state).fit_transform(columns)
        t_sne = TSNE(perplexity=perplexity, random_state=random_state)
        display = cls(embedding=t_sne.fit_transform(columns), is_anomaly=is_anomaly, name=name)
        return display.plot(ax=ax)

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw the samples as points.

        Parameters
        ----------
        {ax}

        Returns
        -------
        self
        """
        ax = self._draw_in(ax, figsize=(5.4, 5.0))
        kinds = [
            ("normal", ~self.is_anomaly, "o", BLUE),
            ("anomalous", self.is_anomaly, "x", VERMILLION),
        ]
        for kind, chosen, marker, color in kinds:
            ax.plot(
                *self.embedding[chosen].T,
                linestyle="none",
                marker=marker,
                markersize=5,
                markerfacecolor="none",
                color=color,
                zorder=2.0 if chosen.mean() > 0.5 else 3.0,  # the rarer kind is drawn on top
                label=f"{kind} ({chosen.sum()})",
            )
        ax.set(xticks=[], yticks=[], xlabel="t-SNE 1", ylabel="t-SNE 2")
        ax.set_aspect("equal")
        legend_above(ax, n_columns=2, title=self.name)
        return self
