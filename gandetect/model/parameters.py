"""The parameters that all detectors share: their defaults and their documentation."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

from sklearn.base import BaseEstimator

from gandetect.distributed import RandomState
from gandetect.networks import Architecture

# Replaces {shared_parameters} in the docstring of every detector.
SHARED_PARAMETERS = """latent_dim : int or "auto", default="auto"
        Size of the latent code. "auto" is half the number of columns of rows, and 32 for images.
    architecture : MLP, ConvNet or None, default=None
        The networks: widths, normalisation, spectral normalisation, dropout. None is ``MLP()``
        for rows and ``ConvNet()`` for images.
    n_estimators : int or "auto", default="auto"
        Number of members: networks that are trained in parallel from different initial weights and
        with different shuffles, and whose standardised scores are averaged. "auto" is 8 for rows,
        which need two to three times the time of one, and 2 for images; for RDNA it is 4 and 1. For
        rows with more than 256 columns, where the time grows with the number of members, it is
        multiplied by 256 divided by the number of columns, and by at least a quarter.
    epochs : int or "auto", default="auto"
        Passes over X. "auto" is the number that gives a fixed number of updates, and at least one,
        so that it is suitable for 50 rows and for 500,000.
    batch_size : int or "auto", default="auto"
        Samples in an update; "auto" is 64. For RDNA it is 8 to 16 for images, and for rows with
        more than 8,192 columns the number that have 524,288 values, but at least 16. If it exceeds
        the number of samples, there is one batch. Batches have nearly equal sizes, and no sample is
        dropped.
    learning_rate : float, default=1e-3
        Step size of the optimizers.
    schedule : {"auto", "one-cycle", "cosine", "steps", None}, default="auto"
        The schedule of the learning rate. "one-cycle": from 0.3 to 3 times `learning_rate` in the
        first quarter of the training, then down to 0, which needs fewer updates for the same score;
        "cosine": from `learning_rate` down to 0; "steps": divided by 5 after 80 % of the training
        and again after 90 %, as in DRAEM's code; None: constant. "auto" is "one-cycle" for rows,
        None for images and for AdversarialVAE with a classifier, and "cosine" for RDNA on images.
    contamination : float in (0, 0.5] or "auto", default=0.1
        Share of the training samples above the threshold that `fit` sets. "auto" is for an unknown
        share of anomalies below a quarter: it aims at flagging 5 % of the normal samples. The
        threshold is ``median + log2(10) * (upper quartile - median)`` of the scores, the point that
        5 % of an exponential tail through both exceed. Training samples have lower scores than new
        ones: for a known false-alarm rate, call `infer_threshold` with held-out normal samples.
    image_shape : tuple of int or None, default=None
        (height, width) or, with channels, (height, width, channels) of images that are passed as
        flat rows, as in a Pipeline.
    channel_axis : {-1, 0, None}, default=-1
        The axis of one image that holds the channels, as in scikit-image: -1 for
        (n, height, width, channels), 0 for (n, channels, height, width), None for images without
        one.
    scaling : {"auto", "unskewed", "standard", "robust", "unit", "symmetric", "none"}, \
            default="auto"
        Fitted to X. "standard": mean 0 and standard deviation 1 of each column; "unskewed": the
        same, after taking the logarithm of columns with an absolute skewness above 1.5, such as
        amounts and counts; "robust": by median and quartiles. All three compress values beyond 5
        scales logarithmically. "unit" and "symmetric": the range to [0, 1] or [-1, 1]. "auto" is
        "unskewed" for rows, "standard" for rows with a classifier or with `robust`, "symmetric" for
        images, and "unit" for RDNA on images. The encoder of a table scales its columns, so that
        tables take "auto" or "none". The scaling determines the output activation of the decoder.
    columns : {"auto"}, dict, list or None, default="auto"
        The kinds of the columns of a table. "auto": a pandas, polars or pyarrow table, or one in a
        CSV or Parquet file, is encoded if it has columns other than numbers and booleans, or
        missing values. The kind of each column is inferred from its type and values; ``columns_``
        lists the kinds. A dict from names or positions of columns to "number", "category", "date"
        or "drop" sets the kinds of these columns. A list has the columns that are categories, as
        scikit-learn's ``categorical_features``. With a dict or a list, also an empty one, arrays
        are encoded too. With None strings and missing values raise an error.
    missing_values : str, number or tuple of them, default=()
        Strings or numbers that mark missing values in a table, such as "?" or -999, in addition to
        None, NaN, NaT, pandas' NA and empty strings. If given, X is always encoded.
    labels : {"ignore", "exclude", "learn"}, default="ignore"
        The use of y in `fit`. "ignore": y is not used. "exclude": samples that y labels as
        anomalies are left out of the training. "learn": they are used as known anomalies.
        Discriminators are trained to classify them, and their mixtures with nearby normal samples,
        as fake, and the default score has one more part, "known_anomalies", which separates similar
        samples from normal ones. The label of anomalies is 1 in labels 0 and 1, -1 in labels -1 and
        1, True in booleans, or `anomaly_label`. NaN and None mark samples without a label, which
        are trained on as normal samples.
    anomaly_label : str, number or None, default=None
        With `labels`, the label of the anomalies in y, such as "fraud".
    store_references : bool, default=True
        Whether the fitted detector stores up to 2,000 training samples and their codes, scaled, as
        references of distances. Without them the default score omits these distances, and neither a
        saved nor an exported file contains a training sample. On rows this reduces the AUROC, over
        21 public sets by 0.02 (GANomaly) to 0.06 (AdversarialVAE, RDNA).
    score : str, dict or None, default=None
        The score that `anomaly_score` returns. None: the default weighted mean of standardised
        parts, which is the best in the benchmark; "paper": the published score, averaged over the
        members; the name of a part; or a dict of part names and weights. It may be changed after
        `fit`; then set the threshold again. In the default of an encoded table (see `columns`) the
        distance to the nearest training rows, "sample_neighbours", has three times the weight of
        all other parts.
    validation_fraction : float in [0, 1), default=0.0
        Share of X that is held out from training. Above 0, ``history_`` has validation losses, and
        the threshold and the p-values are computed from these samples: `contamination` is then the
        share of new normal samples that the threshold flags on average.
    trim : float in [0, 0.5], default=0.0
        Share of each batch that an update leaves out: the samples with the largest reconstruction
        error. For training data with anomalies: about their expected share, or a little more. The
        calibration of the score and its references leave out the same share of all training
        samples; the references then leave out the same share again, those farthest from the rest.
        The default score of rows also has "subsampled_neighbours". It needs one more forward pass
        per update.
    robust : float, default=0.0
        Size of the attacks that the training defends against: the largest change of a value, in
        standard deviations of a column of rows, or as a share of the range of images (in units of
        another `scaling`, if one is set). Above 0, the networks are trained on samples that three
        steps of projected gradient ascent have moved towards a larger error, by up to three times
        this size, and the default score changes. On rows it consists of distances alone, by the L4
        norm and without local scaling; on images it is the distance of codes, and for RDNA the
        probability of the discriminant module. Parts that are a reconstruction error are the least
        robust. The default scaling of rows is then "standard", because a small change of a value
        can be a large change of its logarithm. A fit takes two to five times as long. It is for
        arrays of numbers, and not for RDNA's `backbone`. With few rows it can reduce the AUROC: the
        guide on attacks has the figures.
    warm_start : bool, default=False
        Whether a further `fit` starts from the weights of the last one, with its scaling.
    device : str, default="auto"
        "auto" (CUDA, else MPS, else CPU), "cpu", "cuda", "cuda:1", "mps".
    n_jobs : int or None, default=None
        Number of threads that torch uses on a CPU in the fit and in scoring; the number of threads
        of the process is restored. -1 is all cores. None is one thread for a fit to rows of up to
        256 columns, whose matrix products are too small to be divided, and otherwise the number
        that torch uses. If other programs use the cores, threads wait for each other: set 1 then.
        After a call of `torch.set_num_threads`, its number applies to matrix products.
    random_state : int, RandomState, Generator or None, default=None
        An integer makes `fit` reproducible bit by bit on one machine, also if other threads of the
        process fit detectors. The global generators of numpy and torch are neither read nor
        changed.
    verbose : int, default=0
        1 shows a progress bar with the losses."""


class ScoreParameter:
    """Descriptor of the parameter `score`, which hides it from scikit-learn as a method.

    scikit-learn uses an attribute `score` as the method that evaluates an estimator. Reading it on
    a detector therefore raises AttributeError, so that a search without `scoring` raises
    scikit-learn's own error; ``get_params()["score"]`` has the value.
    """

    def __get__(self, detector: object, owner: type) -> None:
        if detector is not None:
            raise AttributeError(
                "score is a parameter, not a method: read it with get_params()['score']. To "
                "evaluate a detector use the scorers of gandetect.metrics."
            )

    def __set__(self, detector: object, value: object) -> None:
        vars(detector)["score"] = value


@dataclass(eq=False, repr=False, kw_only=True)
class SharedParameters(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """The parameters of every detector, each declared once."""

    latent_dim: int | str = "auto"
    architecture: Architecture | None = None
    n_estimators: int | str = "auto"
    epochs: int | str = "auto"
    batch_size: int | str = "auto"
    learning_rate: float = 1e-3
    schedule: str | None = "auto"
    contamination: float | str = 0.1
    image_shape: tuple[int, ...] | None = None
    channel_axis: int | None = -1
    scaling: str = "auto"
    columns: Any = "auto"
    missing_values: Any = ()
    labels: str = "ignore"
    anomaly_label: Any = None
    store_references: bool = True
    score: Any = ScoreParameter()
    validation_fraction: float = 0.0
    trim: float = 0.0
    robust: float = 0.0
    warm_start: bool = False
    device: str = "auto"
    n_jobs: int | None = None
    random_state: RandomState = None
    verbose: int = 0

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.__doc__:
            # Python 3.13 and later remove the indentation of docstrings.
            shared = inspect.cleandoc(SHARED_PARAMETERS)
            cls.__doc__ = inspect.cleandoc(cls.__doc__).replace("{shared_parameters}", shared)
