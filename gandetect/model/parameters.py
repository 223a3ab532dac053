"""What the parameters of all detectors mean, and which values they take."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Integral, Real
from typing import TYPE_CHECKING

from sklearn.utils import check_scalar

from gandetect.model.scaling import SCALINGS

if TYPE_CHECKING:
    from gandetect.base import BaseDetector

# Stands in the docstring of every detector, where it says {shared_parameters}.
SHARED_PARAMETERS = """latent_dim : int or "auto", default="auto"
        Size of the latent code. "auto" is half the number of columns of rows, and 32 for images.
    architecture : MLP, ConvNet or None, default=None
        The networks: widths, normalisation, spectral normalisation, dropout. None is ``MLP()``
        for rows and ``ConvNet()`` for images.
    n_estimators : int or "auto", default="auto"
        Number of members: networks trained side by side from their own random weights, each on
        its own shuffles, whose standardised scores are averaged. "auto" is 8 for rows, where
        eight cost about two to three times one, and 2 for images; RDNA has 4 and 1.
    epochs : int or "auto", default="auto"
        Passes over X. "auto" is as many as make up a fixed number of updates, and at least one,
        so that 50 rows and 500,000 are both served.
    batch_size : int or "auto", default="auto"
        Samples in an update; "auto" is 64, and 8 to 16 for RDNA's images. More than there are
        samples is one batch of them all; batches are of nearly equal size, and no sample is
        dropped.
    learning_rate : float, default=1e-3
        Step size of the optimizers.
    contamination : float in (0, 0.5], default=0.1
        Share of the training samples that `fit` lets the threshold flag. Training samples score
        lower than new ones: for a false-alarm rate you can rely on, call `infer_threshold` with
        normal samples kept from `fit`.
    image_shape : tuple of int or None, default=None
        (height, width) or, with channels, (height, width, channels) for images that come as flat
        rows, as in a Pipeline.
    channel_axis : {-1, 0, None}, default=-1
        The axis of one image that holds the channels, as in scikit-image: -1 for
        (n, height, width, channels), 0 for (n, channels, height, width), None for images without
        one.
    scaling : {"auto", "standard", "robust", "unit", "symmetric", "none"}, default="auto"
        Fitted to X. "standard": mean 0 and standard deviation 1 a column, "robust": by median and
        quartiles, both with values beyond 5 spreads compressed to their logarithm; "unit" and
        "symmetric": the range to [0, 1] or [-1, 1]. "auto" is "standard" for rows and "symmetric"
        for images. The decoder's output activation follows it.
    score : str, dict or None, default=None
        What `anomaly_score` returns. None: the default weighted mean of standardised parts, which
        the benchmark shows best; "paper": the published score, mean over the members; the name of
        a part; or a dict of part names and weights. May be changed after `fit`; set the threshold
        again when you do.
    validation_fraction : float in [0, 1), default=0.0
        Share of X kept from training. If there is any, ``history_`` has validation losses, and the
        threshold and the p-values are taken from these samples: `contamination` is then the share
        of new normal samples that it flags on average.
    trim : float in [0, 0.5], default=0.0
        Share of each batch that an update leaves out: the samples whose reconstructions are worst.
        For training data that hold anomalies: about the share you expect, or a little more. The
        same share of all training samples is left out of the score's calibration and its
        neighbours, of which another such share is, those farthest from the whole, and the default
        score of rows takes "subsampled_neighbours" in. Costs one more forward pass an update.
    warm_start : bool, default=False
        Whether a further `fit` goes on from the networks of the last one.
    device : str, default="auto"
        "auto" (CUDA, else MPS, else CPU), "cpu", "cuda", "cuda:1", "mps".
    random_state : int, RandomState, Generator or None, default=None
        An integer makes `fit` repeatable to the bit on one machine. numpy's and torch's global
        generators are neither read nor moved.
    verbose : int, default=0
        1 shows a progress bar with the losses."""


def check_parameters(detector: BaseDetector) -> None:
    """Raise TypeError or ValueError for the first shared parameter that cannot be used."""
    for name in ("latent_dim", "n_estimators", "epochs", "batch_size"):
        if getattr(detector, name) != "auto":
            _check_count(detector, name)
    _check_count(detector, "verbose", minimum=0)
    check_real(detector, "learning_rate", 0)
    check_real(detector, "contamination", 0, 0.5, include_boundaries="right")
    check_real(detector, "validation_fraction", 0, 1, include_boundaries="left")
    check_real(detector, "trim", 0, 0.5)
    check_choice(detector, "scaling", SCALINGS)
    check_choice(detector, "channel_axis", (-1, 0, None))
    check_score(detector)
    detector._check_own_parameters()
    _check_image_shape(detector.image_shape)
    architecture = detector.architecture
    if isinstance(architecture, type) or not (
        architecture is None or hasattr(architecture, "bind")
    ):
        raise TypeError(
            "architecture must be None or an architecture object such as MLP() or ConvNet(), got "
            f"{detector.architecture!r}."
        )


def check_score(detector: BaseDetector) -> None:
    """Raise ValueError unless `score` is None, "paper", a part, or weights of parts."""
    score, names = detector.chosen_score, detector.part_weights
    if score is None or (isinstance(score, str) and score in {"paper", *names}):
        return
    if isinstance(score, Mapping) and score and set(score) <= set(names):
        weights = list(score.values())
        if all(isinstance(w, Real) and 0 <= w < math.inf for w in weights) and sum(weights) > 0:
            return
    raise ValueError(
        f"score must be None, 'paper', one of the parts {sorted(names)}, or a dict of parts and "
        f"weights of at least 0 that are not all 0; got {score!r}."
    )


def check_choice(detector: BaseDetector, name: str, choices: tuple[object, ...]) -> None:
    """Raise ValueError unless the parameter is one of the choices."""
    value = getattr(detector, name)
    if not any(value is choice or value == choice for choice in choices):
        raise ValueError(f"{name} must be one of {list(choices)}, got {value!r}.")


def check_real(
    detector: BaseDetector,
    name: str,
    minimum: float,
    maximum: float | None = None,
    include_boundaries: str = "both",
) -> None:
    """Raise TypeError or ValueError unless the parameter is a finite number between these."""
    value = check_scalar(
        getattr(detector, name),
        name,
        Real,
        min_val=minimum,
        max_val=maximum,
        include_boundaries="left" if maximum is None else include_boundaries,
    )
    if not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number, got {value!r}.")


def _check_count(detector: BaseDetector, name: str, minimum: int = 1) -> None:
    value = getattr(detector, name)
    if isinstance(value, bool) and name != "verbose":
        raise TypeError(f"{name} must be an integer, got {value!r}.")
    check_scalar(value, name, Integral, min_val=minimum)


def _check_image_shape(image_shape: tuple[int, ...] | None) -> None:
    if image_shape is None:
        return
    if (
        not isinstance(image_shape, tuple | list)
        or len(image_shape) not in (2, 3)
        or not all(isinstance(size, Integral) and size >= 1 for size in image_shape)
    ):
        raise ValueError(
            "image_shape must be None, (height, width) or (height, width, channels) with sizes of "
            f"at least 1, got {image_shape!r}."
        )
