"""The parameters that all detectors share: their defaults, and what they mean."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

from sklearn.base import BaseEstimator

from gandetect.distributed import RandomState
from gandetect.networks import Architecture

# Stands in the docstring of every detector, where it says {shared_parameters}.
SHARED_PARAMETERS = """latent_dim : int or "auto", default="auto"
        Size of the latent code. "auto" is half the number of columns of rows, and 32 for images.
    architecture : MLP, ConvNet or None, default=None
        The networks: widths, normalisation, spectral normalisation, dropout. None is ``MLP()``
        for rows and ``ConvNet()`` for images.
    n_estimators : int or "auto", default="auto"
        Number of members: networks trained side by side from their own random weights, each on
        its own shuffles, whose standardised scores are averaged. "auto" is 8 for rows, where
        eight cost about two to three times one, and 2 for images; RDNA has 4 and 1. Of rows of
        more than 256 columns, where each member costs as much as the first, it is fewer: the
        share 256 over the number of columns of them, and at least a quarter.
    epochs : int or "auto", default="auto"
        Passes over X. "auto" is as many as make up a fixed number of updates, and at least one,
        so that 50 rows and 500,000 are both served.
    batch_size : int or "auto", default="auto"
        Samples in an update; "auto" is 64, and 8 to 16 for RDNA's images. More than there are
        samples is one batch of them all; batches are of nearly equal size, and no sample is
        dropped.
    learning_rate : float, default=1e-3
        Step size of the optimizers.
    schedule : {"auto", "one-cycle", "cosine", "steps", None}, default="auto"
        How the step size goes over the training. "one-cycle": up from 0.3 to 3 times
        `learning_rate` in the first quarter of it, then down to 0, which needs fewer updates for
        the same score; "cosine": from `learning_rate` down to 0; "steps": to a fifth of it after
        80 % of the training and again after 90 %, as in DRAEM's code; None: it stays. "auto" is
        "one-cycle" for rows, and for images None, or "cosine" for those of RDNA.
    contamination : float in (0, 0.5] or "auto", default=0.1
        Share of the training samples that `fit` lets the threshold flag. "auto" is for a share of
        anomalies that is not known, but is less than a quarter: it aims at 5 % of the normal ones,
        and puts the threshold at ``median + log2(10) * (upper quartile - median)`` of the scores,
        where an exponential tail through both has 5 % left. Training samples score lower than new
        ones: for a false-alarm rate you can rely on, call `infer_threshold` with normal samples
        kept from `fit`.
    image_shape : tuple of int or None, default=None
        (height, width) or, with channels, (height, width, channels) for images that come as flat
        rows, as in a Pipeline.
    channel_axis : {-1, 0, None}, default=-1
        The axis of one image that holds the channels, as in scikit-image: -1 for
        (n, height, width, channels), 0 for (n, channels, height, width), None for images without
        one.
    scaling : {"auto", "unskewed", "standard", "robust", "unit", "symmetric", "none"}, \
            default="auto"
        Fitted to X. "standard": mean 0 and standard deviation 1 a column; "unskewed": the same,
        after taking the logarithm of columns whose skewness is beyond 1.5, such as amounts and
        counts; "robust": by median and quartiles; all three with values beyond 5 scales compressed
        to their logarithm. "unit" and "symmetric": the range to [0, 1] or [-1, 1]. "auto" is
        "unskewed" for rows, "standard" for those with a classifier, and "symmetric"
        for images, "unit" for those of RDNA; encoded tables are scaled already, and take "auto" or
        "none". The decoder's output activation follows it.
    columns : {"auto"}, dict, list or None, default="auto"
        How the columns of a table are read. "auto": a pandas, polars or pyarrow table, or one in a
        CSV or Parquet file, with anything but numbers and booleans in it, or with gaps, is encoded;
        the type of a column says how, and what was decided stands in ``columns_``. A dict from
        names or positions of columns to "number", "category", "date" or "drop" decides for these,
        a list names those that are categories, as scikit-learn's ``categorical_features`` does;
        with either, also an empty one, arrays are encoded too. None: words and gaps are refused.
    missing_values : str, number or tuple of them, default=()
        Words or numbers that stand for a gap in a table, such as "?" or -999, beside None, NaN,
        NaT, pandas' NA and empty words. If there are any, X is encoded whatever it is.
    labels : {"ignore", "exclude", "learn"}, default="ignore"
        What `fit` does with y. "ignore": nothing. "exclude": samples that y calls anomalous are
        left out of the training. "learn": they are left out and learned from: discriminators take
        them, and mixtures of them with normal samples near them, for further fakes, and the default
        score has one more part, "known_anomalies", which tells samples like them from normal ones.
        Anomalous are 1 of 0 and 1, -1 of -1 and 1, and True, or what `anomaly_label` says; NaN and
        None are samples without a label, which are trained on as normal ones.
    anomaly_label : str, number or None, default=None
        With `labels`, the label of the anomalies in y, such as "fraud" of words.
    store_references : bool, default=True
        Whether the fitted detector keeps up to 2,000 training samples and their codes, scaled, to
        measure distances to. Without them the default score leaves these distances out, and
        neither a saved nor an exported file holds a training sample. On rows that costs AUROC, over
        21 public sets from 0.02 (GANomaly) to 0.06 (AdversarialVAE, RDNA).
    score : str, dict or None, default=None
        What `anomaly_score` returns. None: the default weighted mean of standardised parts, which
        the benchmark shows best; "paper": the published score, mean over the members; the name of
        a part; or a dict of part names and weights. May be changed after `fit`; set the threshold
        again when you do. In the default of an encoded table (see `columns`) the distance to the
        nearest training rows, "sample_neighbours", weighs three times as much as all others.
    validation_fraction : float in [0, 1), default=0.0
        Share of X kept from training. If there is any, ``history_`` has validation losses, and the
        threshold and the p-values are taken from these samples: `contamination` is then the share
        of new normal samples that it flags on average.
    trim : float in [0, 0.5], default=0.0
        Share of each batch that an update leaves out: the samples with the largest reconstruction
        error. For training data with anomalies: about the share that you expect, or a little more.
        The same share of all training samples is left out of the score's calibration and of its
        references, and of these another such share, those farthest from the rest; the default
        score of rows also has "subsampled_neighbours". Costs one more forward pass per update.
    robust : float, default=0.0
        Size of the attacks that the score is to hold against: the largest change of a value, in
        standard deviations of a column of rows (with the default `scaling`), or as a share of the
        range of images. Above 0, networks are trained on samples that three steps of projected
        gradient ascent have moved to where they err most, three times as far, and the default score
        changes: on rows it is of distances alone, measured by the L4 norm and not in units of the
        neighbours' own distances; on images the distance of codes, and RDNA's discriminant. Parts
        of the score that an error of reconstruction makes up hold least. A fit takes two to five
        times as long. For arrays of numbers; not with RDNA's `backbone`. With few
        rows it can do harm: the guide on attacks says what it gives back, and what not.
    warm_start : bool, default=False
        Whether a further `fit` continues from the networks of the last one.
    device : str, default="auto"
        "auto" (CUDA, else MPS, else CPU), "cpu", "cuda", "cuda:1", "mps".
    n_jobs : int or None, default=None
        Threads that torch computes with on a CPU, in this fit and in what is computed with it;
        the process's own number is left as it was. -1 is all cores. None: one for a fit to rows of
        up to 256 columns, whose products are too small to be divided, and elsewhere as many as
        torch has. On cores that other programs use as well, threads wait for each other: set 1
        there. Where `torch.set_num_threads` was called, its number stays for matrix products.
    random_state : int, RandomState, Generator or None, default=None
        An integer makes `fit` repeatable bit by bit on one machine, also beside other fits in
        threads of one process. numpy's and torch's global generators are neither read nor changed.
    verbose : int, default=0
        1 shows a progress bar with the losses."""


class ScoreParameter:
    """Lets a detector have a parameter `score` and, to scikit-learn, no method of that name.

    scikit-learn takes an attribute `score` for the method that judges an estimator. Reading it on
    a detector therefore raises AttributeError, so that a search without `scoring` gets
    scikit-learn's own clear error; the value stands in ``get_params()["score"]``.
    """

    def __get__(self, detector: object, owner: type) -> None:
        if detector is not None:
            raise AttributeError(
                "score is a parameter, not a method: read it with get_params()['score']. To judge "
                "a detector use the scorers of gandetect.metrics."
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
            # Newer versions of Python take the indentation away themselves.
            shared = inspect.cleandoc(SHARED_PARAMETERS)
            cls.__doc__ = inspect.cleandoc(cls.__doc__).replace("{shared_parameters}", shared)
