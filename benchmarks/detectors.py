"""The detectors of the benchmark by name, with a common interface.

Each has ``fit(X)`` and ``score_samples(X)``, larger for more normal samples, as in scikit-learn.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import io
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import LocalOutlierFactor, NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import OneClassSVM


class KNearestNeighbors(OutlierMixin, BaseEstimator):
    """Score by the distance to the training rows: the k-th nearest, or the mean of the k.

    Parameters
    ----------
    n_neighbors : int, default=5
        PyOD's default, so that the figures are comparable.
    method : {"largest", "mean"}, default="largest"
        PyOD's default is "largest"; "mean" is the average over the k neighbours.
    """

    def __init__(self, n_neighbors: int = 5, method: str = "largest") -> None:
        self.n_neighbors = n_neighbors
        self.method = method

    def fit(self, X: NDArray, y: None = None) -> KNearestNeighbors:
        """Store the training rows."""
        self.neighbors_ = NearestNeighbors(n_neighbors=self.n_neighbors).fit(X)
        return self

    def score_samples(self, X: NDArray) -> NDArray[np.float64]:
        """Return the negated distance of each row."""
        distances, _ = self.neighbors_.kneighbors(X)
        return -(distances[:, -1] if self.method == "largest" else distances.mean(axis=1))


class PCAReconstruction(OutlierMixin, BaseEstimator):
    """Score by the squared error of a reconstruction from the first principal components.

    Parameters
    ----------
    n_components : int, default=32
        Must be smaller than the number of features; otherwise every error would be 0.
    random_state : int, default=None
        Seeds the randomised solver.
    """

    def __init__(self, n_components: int = 32, random_state: int | None = None) -> None:
        self.n_components = n_components
        self.random_state = random_state

    def fit(self, X: NDArray, y: None = None) -> PCAReconstruction:
        """Compute the components."""
        if X.shape[1] <= self.n_components:
            raise ValueError(
                f"{self.n_components} components reconstruct {X.shape[1]} features without error; "
                "use this baseline on images."
            )
        self.pca_ = PCA(self.n_components, random_state=self.random_state).fit(X)
        return self

    def score_samples(self, X: NDArray) -> NDArray[np.float64]:
        """Return the negated reconstruction error of each row."""
        X_hat = self.pca_.inverse_transform(self.pca_.transform(X))
        return -np.square(X - X_hat).sum(axis=1)


class PyODDetector(OutlierMixin, BaseEstimator):
    """A PyOD detector with default parameters, scikit-learn's sign and a seed.

    Parameters
    ----------
    name : str
        The class, one of `PYOD_MODULES`.
    random_state : int
        Seeds the global generators during each call, because most networks of PyOD use them.
    """

    def __init__(self, name: str, random_state: int) -> None:
        self.name = name
        self.random_state = random_state

    def fit(self, X: NDArray, y: None = None) -> PyODDetector:
        """Create the detector for the shape of X and fit it, with labels if it uses them."""
        detector_class = pyod_class(self.name)
        offered = {"n_features": X.shape[1], "random_state": self.random_state, "verbose": 0}
        asked = inspect.signature(detector_class).parameters
        arguments = {name: value for name, value in offered.items() if name in asked}
        with _seeded_and_quiet(self.random_state):
            # Created here, because some detectors seed or use the global generators in __init__.
            detector = detector_class(**arguments)
            self.detector_ = detector.fit(X) if y is None else detector.fit(X, y)
        return self

    def score_samples(self, X: NDArray) -> NDArray[np.float64]:
        """Return PyOD's scores negated, because they are larger for more anomalous samples."""
        with _seeded_and_quiet(self.random_state):
            return -self.detector_.decision_function(X)


PYOD_MODULES = {
    "KNN": "knn",
    "LUNAR": "lunar",
    "DeepSVDD": "deep_svdd",
    "AutoEncoder": "auto_encoder",
    "ECOD": "ecod",
    "VAE": "vae",
    "ALAD": "alad",
    "SO_GAAL": "so_gaal",
    # These need labels: see few_labels.py.
    "DevNet": "devnet",
    "XGBOD": "xgbod",
}


def pyod_class(name: str) -> type:
    """Import one of PyOD's classes."""
    try:
        module = importlib.import_module(f"pyod.models.{PYOD_MODULES[name]}")
    except ImportError as error:
        # The missing package may be another one: some modules of PyOD need packages that PyOD does
        # not install.
        raise ImportError(f'{error}; install the extra: pip install "gandetect[bench]"') from error
    return getattr(module, name)


@contextlib.contextmanager
def _seeded_and_quiet(seed: int) -> Iterator[None]:
    """Seed the global generators and suppress prints; the generators are restored at the end."""
    python_state = random.getstate()
    numpy_state = np.random.get_state()  # noqa: NPY002 - the generator that PyOD draws from
    try:
        with torch.random.fork_rng(), contextlib.redirect_stdout(io.StringIO()):
            random.seed(seed)
            np.random.seed(seed)  # noqa: NPY002
            torch.manual_seed(seed)
            yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)  # noqa: NPY002


BASELINES: dict[str, Callable[[int], Any]] = {
    "knn": lambda seed: KNearestNeighbors(),
    "knn-mean": lambda seed: KNearestNeighbors(method="mean"),
    "lof": lambda seed: LocalOutlierFactor(novelty=True),
    "iforest": lambda seed: IsolationForest(random_state=seed),
    "ocsvm": lambda seed: OneClassSVM(),
    "pca": lambda seed: PCAReconstruction(random_state=seed),
}


def our_detectors() -> dict[str, type]:
    """Return the detectors of `gandetect.detectors`, by their names without ``Detector``."""
    ours = importlib.import_module("gandetect.detectors")
    return {
        name.removesuffix("Detector"): getattr(ours, name)
        for name in ours.__all__
        if name.endswith("Detector") and name != "BaseDetector"
    }


def is_ours(name: str) -> bool:
    """Return whether it is a detector of gandetect, which gets raw data and parameters."""
    return name not in BASELINES and not name.startswith("pyod.")


def make_detector(name: str, random_state: int, *, standardise: bool, **params: Any) -> Any:
    """Create an unfitted detector.

    Parameters
    ----------
    name : str
        A baseline (`BASELINES`), ``pyod.<class>``, or a detector of gandetect such as ``GANomaly``.
    random_state : int
        Seeds the detector.
    standardise : bool
        Whether a baseline gets a scaler, fitted with it. Detectors of gandetect scale themselves.
    **params
        Parameters of a detector of gandetect; the baselines have their default parameters.

    Returns
    -------
    object
        A detector with ``fit`` and ``score_samples``.

    Raises
    ------
    ValueError
        If no detector has this name.
    ImportError
        If the detector needs PyOD and it is not installed.
    """
    if is_ours(name):
        ours = our_detectors()
        if name not in ours:
            known = [*ours, *BASELINES, *(f"pyod.{key}" for key in PYOD_MODULES)]
            raise ValueError(f"Unknown detector {name!r}; choose from {', '.join(known)}.")
        return ours[name](random_state=random_state, **params)
    if name in BASELINES:
        detector = BASELINES[name](random_state)
    else:
        detector = _make_pyod(name.removeprefix("pyod."), random_state)
    return make_pipeline(StandardScaler(), detector) if standardise else detector


def _make_pyod(name: str, random_state: int) -> PyODDetector:
    if name not in PYOD_MODULES:
        raise ValueError(f"Unknown PyOD detector {name!r}; choose from {', '.join(PYOD_MODULES)}.")
    pyod_class(name)  # raises before the first run if PyOD is missing
    return PyODDetector(name, random_state)
