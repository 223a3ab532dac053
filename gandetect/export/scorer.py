"""What loading an exported file gives: a scorer with a detector's signs, and nothing to train."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np
from sklearn.utils import check_array

from gandetect.archive import ArchiveError
from gandetect.export.certificate import Certificate

# Anomaly scores and labels, (n,) each, of samples (n, *input_shape) in float64.
Run = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


class ExportedScorer:
    """An exported detector that has been checked against its certificate.

    `load_onnx` and `load_torch_export` make it. Its methods have the names and signs of a
    detector's; it keeps no state and may be called from several threads.

    Parameters
    ----------
    run : callable
        Runs the exported graph on one block of samples.
    certificate : Certificate

    Attributes
    ----------
    certificate : Certificate
    difference : float
        From the native scores of the reference batch, as measured while loading.
    threshold_, offset_ : float
        A sample is flagged when its anomaly score exceeds ``threshold_ = -offset_``.

    Raises
    ------
    ParityError
        If the graph does not give the scores that the certificate promises.
    ArchiveError
        If the graph cannot be run on the samples of the certificate.
    """

    def __init__(self, run: Run, certificate: Certificate) -> None:
        self._run = run
        self.certificate = certificate
        self.threshold_ = certificate.threshold
        self.offset_ = -certificate.threshold
        try:
            found = self._in_blocks(certificate.X)
        except Exception as error:  # the errors of onnxruntime and torch have no class in common
            raise ArchiveError(
                f"The exported {certificate.detector} cannot score the samples of its own "
                f"certificate: {error}"
            ) from error
        self.difference = certificate.check(*found)

    def anomaly_score(self, X: Any) -> np.ndarray:
        """The detector's anomaly score, larger for worse: see `BaseDetector.anomaly_score`.

        Parameters
        ----------
        X : array-like of shape ``(n_samples, *input_shape)``
            Or flat rows of images.

        Returns
        -------
        ndarray of shape (n_samples,), float64

        Raises
        ------
        ValueError
            If X is empty, not finite, or of another shape or with other columns than in `fit`.
        TypeError
            If X is not numeric.
        """
        return self.scores_and_labels(X)[0]

    def score_samples(self, X: Any) -> np.ndarray:
        """Minus `anomaly_score`, as scikit-learn has it.

        Parameters
        ----------
        X : array-like of shape ``(n_samples, *input_shape)``

        Returns
        -------
        ndarray of shape (n_samples,), float64
        """
        return -self.anomaly_score(X)

    def predict(self, X: Any) -> np.ndarray:
        """+1 for inliers and -1 for outliers.

        Parameters
        ----------
        X : array-like of shape ``(n_samples, *input_shape)``

        Returns
        -------
        ndarray of shape (n_samples,), int
        """
        return self.scores_and_labels(X)[1]

    def scores_and_labels(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        """What `anomaly_score` and `predict` give, from one pass.

        Parameters
        ----------
        X : array-like of shape ``(n_samples, *input_shape)``

        Returns
        -------
        ndarray of shape (n_samples,), float64
        ndarray of shape (n_samples,), int
        """
        return self._in_blocks(self._checked(X))

    def _in_blocks(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Not at once: the distances to neighbours take much memory for many samples."""
        size = self.certificate.block_size
        blocks = [
            self._run(X[start : start + size].astype(np.float64))
            for start in range(0, len(X), size)
        ]
        scores, labels = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
        return scores, labels

    def _checked(self, X: Any) -> np.ndarray:
        names, columns = self.certificate.feature_names, getattr(X, "columns", None)
        if names is not None and columns is not None and list(columns) != names:
            raise ValueError(
                "The columns of X are not those that the detector was fitted to, in their order: "
                f"{names}."
            )
        X = check_array(X, allow_nd=True, ensure_2d=False)
        shape = self.certificate.input_shape
        if X.ndim == 2 and len(shape) > 1 and X.shape[1] == prod(shape):
            X = X.reshape(len(X), *shape)
        if X.shape[1:] != shape:
            raise ValueError(
                f"X holds samples of shape {X.shape[1:]}, but the exported detector takes {shape}."
            )
        return X
