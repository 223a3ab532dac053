"""The methods that the demo compares: gandetect's detectors, and two methods of scikit-learn."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.compose import make_column_transformer
from sklearn.ensemble import IsolationForest
from sklearn.impute import SimpleImputer
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from gandetect import detectors
from gandetect.base import BaseDetector
from gandetect.data.tables import Table
from gandetect.demo.tasks import Task
from gandetect.model.statistics import threshold_at_percentile


class KNearestNeighbors(NearestNeighbors):  # type: ignore[misc]  # scikit-learn has no types
    """Score by the mean distance to the nearest training samples."""

    def score_samples(self, X: NDArray[Any]) -> NDArray[np.float64]:
        """Return the negated distance: larger is more normal."""
        distances, _ = self.kneighbors(X)
        return np.asarray(-distances.mean(axis=1))


class Baseline:
    """A method of scikit-learn with the interface of gandetect's detectors that the demo uses.

    Parameters
    ----------
    estimator : object
        An object with ``fit(X)`` and ``score_samples(X)`` for rows; images are flattened, and
        tables become arrays of objects.
    """

    threshold_: float

    def __init__(self, estimator: Any) -> None:
        self.estimator = estimator

    def fit(self, X: Any) -> Self:
        """Fit the estimator to normal samples."""
        self.estimator.fit(_as_rows(X))
        return self

    def anomaly_score(self, X: Any) -> NDArray[np.float64]:
        """Return scores that are larger for anomalies."""
        return np.asarray(-self.estimator.score_samples(_as_rows(X)))

    def infer_threshold(self, X: Any, outlier_perc: float) -> Self:
        """Set the threshold so that this percentage of X is flagged."""
        self.threshold_ = threshold_at_percentile(self.anomaly_score(X), outlier_perc)
        return self

    def predict(self, X: Any) -> NDArray[np.int64]:
        """Return +1 for inliers and -1 for outliers."""
        return np.where(self.anomaly_score(X) > self.threshold_, -1, 1)


def _as_rows(X: Any) -> NDArray[Any]:
    if isinstance(X, Table):
        return np.array([column.astype(object) for column in X.columns]).T
    return np.asarray(X.reshape(len(X), -1))


def _encoded(table: Table) -> Any:
    """Return a transformer that encodes words and imputes gaps with scikit-learn's classes."""
    is_word = np.array([column.dtype.kind == "O" for column in table.columns])
    words, numbers = np.flatnonzero(is_word), np.flatnonzero(~is_word)
    one_hot = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    return make_column_transformer(
        (make_pipeline(SimpleImputer(), StandardScaler()), numbers), (one_hot, words)
    )


def select_detectors(names: Sequence[str] | None = None) -> dict[str, type[BaseDetector]]:
    """Find detectors by their names.

    Parameters
    ----------
    names : sequence of str or None, default=None
        Names of classes, in lower or upper case, with or without "Detector" at the end. None takes
        all.

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
    """Return a canonical form of the name of a detector."""
    return re.sub("[-_ ]", "", name).lower().removesuffix("detector")


def make_methods(
    task: Task,
    classes: Mapping[str, type[BaseDetector]],
    seed: int,
    parameters: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Create the detectors and the baselines, by name.

    The detectors have their defaults, except the epochs, the batch size, the parameters of the
    task, and `parameters`.
    """
    given = {"epochs": task.epochs, "batch_size": task.batch_size, "random_state": seed}
    if task.detectors is not None:
        classes = {name: cls for name, cls in classes.items() if name in task.detectors}
    own = {name: {**task.parameters.get(name, {}), **(parameters or {})} for name in classes}
    ours = {name: cls(**{**given, **own[name]}) for name, cls in classes.items()}
    baselines: dict[str, Any] = {
        "IsolationForest": IsolationForest(random_state=seed),
        "k-nearest neighbours": KNearestNeighbors(n_neighbors=5),
    }
    if task.is_table:
        baselines = {
            name: make_pipeline(_encoded(task.X_train), method)
            for name, method in baselines.items()
        }
    return {**ours, **{name: Baseline(method) for name, method in baselines.items()}}
