"""What the demo compares: our detectors, and two methods of scikit-learn's beside them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from gandetect import detectors
from gandetect.base import BaseDetector
from gandetect.demo.tasks import Task
from gandetect.model.statistics import threshold_at_percentile


class KNearestNeighbors(NearestNeighbors):  # type: ignore[misc]  # scikit-learn has no types
    """Score by the mean distance to the nearest training samples."""

    def score_samples(self, X: NDArray[Any]) -> NDArray[np.float64]:
        """Return the negated distance: larger is more normal."""
        distances, _ = self.kneighbors(X)
        return np.asarray(-distances.mean(axis=1))


class Baseline:
    """A method of scikit-learn's behind the methods of our detectors that the demo calls.

    Parameters
    ----------
    estimator : object
        With ``fit(X)`` and ``score_samples(X)`` for rows; images are flattened.
    """

    threshold_: float

    def __init__(self, estimator: Any) -> None:
        self.estimator = estimator

    def fit(self, X: NDArray[Any]) -> Self:
        """Fit the estimator to normal samples."""
        self.estimator.fit(X.reshape(len(X), -1))
        return self

    def anomaly_score(self, X: NDArray[Any]) -> NDArray[np.float64]:
        """Return scores that are larger for anomalies."""
        return np.asarray(-self.estimator.score_samples(X.reshape(len(X), -1)))

    def infer_threshold(self, X: NDArray[Any], outlier_perc: float) -> Self:
        """Move the threshold so that this percentage of X is flagged."""
        self.threshold_ = threshold_at_percentile(self.anomaly_score(X), outlier_perc)
        return self

    def predict(self, X: NDArray[Any]) -> NDArray[np.int64]:
        """+1 for inliers, -1 for outliers."""
        return np.where(self.anomaly_score(X) > self.threshold_, -1, 1)


def select_detectors(names: Sequence[str] | None = None) -> dict[str, type[BaseDetector]]:
    """Find detectors by their names.

    Parameters
    ----------
    names : sequence of str or None, default=None
        Names of classes, in any case, which may do without "Detector" at their end. None takes all.

    Returns
    -------
    dict of str to type

    Raises
    ------
    ValueError
        If there is no detector of a name.
    """
    exported = {name: getattr(detectors, name) for name in detectors.__all__}
    known = {
        name: entry
        for name, entry in exported.items()
        if isinstance(entry, type) and issubclass(entry, BaseDetector)
    }
    if names is None:
        return known
    full_names = {_plain(name): name for name in known}
    chosen = {}
    for name in names:
        full_name = full_names.get(_plain(name))
        if full_name is None:
            raise ValueError(f"there is no detector {name!r}; choose from {', '.join(known)}.")
        chosen[full_name] = known[full_name]
    return chosen


def _plain(name: str) -> str:
    """What names that mean one detector have in common."""
    return re.sub("[-_ ]", "", name).lower().removesuffix("detector")


def make_methods(
    task: Task,
    classes: Mapping[str, type[BaseDetector]],
    seed: int,
    parameters: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Build, by name, the detectors and the baselines.

    The detectors are at their defaults, but for the epochs and the batch size of the task and for
    what `parameters` says.
    """
    training = {"epochs": task.epochs, "batch_size": task.batch_size}
    given = {**training, "random_state": seed, **(parameters or {})}
    ours = {name: cls(**given) for name, cls in classes.items()}
    neighbors: Any = KNearestNeighbors(n_neighbors=5)
    if task.is_rows:  # pixels have one unit, columns have their own
        neighbors = make_pipeline(StandardScaler(), neighbors)
    return {
        **ours,
        "IsolationForest": Baseline(IsolationForest(random_state=seed)),
        "k-nearest neighbours": Baseline(neighbors),
    }
