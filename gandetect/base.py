"""The base class of all detectors: scikit-learn's interface to a fitted model.

A method is a file with two classes: a `Model`, whose hooks define training and scoring, and a
subclass of `BaseDetector` with its parameters. All public methods are in this module.
"""

from __future__ import annotations

import copy
import math
import os
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar, cast

import numpy as np
import torch
from sklearn.base import ClassNamePrefixFeaturesOutMixin, OutlierMixin, TransformerMixin
from sklearn.exceptions import NotFittedError
from sklearn.utils import Tags, check_scalar
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from gandetect.archive import DAMAGE, ArchiveError, packed, read_archive, unpacked, write_archive
from gandetect.data.columns import checked_columns
from gandetect.data.frames import listed
from gandetect.data.labels import LABELS, known_by
from gandetect.data.plausibility import range_warning
from gandetect.data.sources import (
    MixedSource,
    Source,
    blocks,
    parts_of,
    read,
    sample_shape_of,
)
from gandetect.distributed import RandomNumbers, draw_seed, join_process_group, same_seed
from gandetect.model.fitted import (
    Model,
    are_weights,
    check_n_jobs,
    limited_to,
    own_torch_settings,
    resolve_device,
)
from gandetect.model.known import KNOWN, worth_labelling
from gandetect.model.parameters import SharedParameters
from gandetect.model.statistics import (
    SCALINGS,
    Calibration,
    Scaler,
    benjamini_hochberg,
    check_percentage,
    check_scores,
    conformal_p_values,
    false_discovery_bound,
    threshold_at_percentile,
    warn_of_fraction,
    warn_of_ties,
)
from gandetect.networks import Architecture
from gandetect.saving import SAVED, SAVED_CLASSES, restore, tree_of
from gandetect.training.loop import SCHEDULES, FitTasks, TrainingRun, current_run, fit_model
from gandetect.training.protocol import CallbackSupportMixin, with_callbacks

if TYPE_CHECKING:
    from gandetect.summary import Summary

# Number of images whose range of values is compared with that of the training images.
_N_LOOKED_AT = 8
# Parameters that must not change for a warm start, in addition to those of a method's networks.
_SHAPING = (
    *("n_estimators", "latent_dim", "architecture", "scaling", "image_shape", "channel_axis"),
    *("columns", "missing_values"),
)

T = TypeVar("T")


@dataclass(eq=False, repr=False, kw_only=True)
class BaseDetector(
    CallbackSupportMixin,  # type: ignore[misc]  # scikit-learn has no types
    ClassNamePrefixFeaturesOutMixin,  # type: ignore[misc]
    OutlierMixin,  # type: ignore[misc]
    TransformerMixin,  # type: ignore[misc]
    SharedParameters,
):
    """Base class of all detectors, which implements their public methods.

    A subclass is a keyword-only dataclass (``@dataclass(eq=False, repr=False, kw_only=True)``)
    whose fields are its own parameters, and whose ``model_class`` is its `Model`.

    Parameters
    ----------
    {shared_parameters}

    Attributes
    ----------
    model_ : Model
        All that scoring needs, as one torch module: ``model_(X)`` returns scores and labels.
    history_ : list of dict
        One record for each epoch: its number, and the mean of every loss.
    n_iter_ : int
        Number of epochs.
    stop_reason_ : str
        The reason why training ended.
    training_report_ : TrainingReport
        The problems that were found in the training, and the measured values.
    n_features_in_ : int
        Number of values in a sample: columns of rows, or height times width times channels.
    feature_names_in_ : ndarray of str
        Only if X had column names.

    See Also
    --------
    GANomalyDetector : The shortest complete example of a method.
    """

    model_class: ClassVar[type[Model[Any]]]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if isinstance(getattr(cls, "model_class", None), type):
            cls.part_weights = cls.model_class.part_weights

    # The parts of the score and their weights in the default score, for rows and for images.
    part_weights: ClassVar[Mapping[str, tuple[float, float]]] = {}

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Get the parameters by name, with those of nested estimators if `deep`."""
        parameters = {field.name: vars(self)[field.name] for field in fields(self)}
        if deep:
            for name, value in list(parameters.items()):
                if hasattr(value, "get_params") and not isinstance(value, type):
                    nested = value.get_params().items()
                    parameters.update({f"{name}__{key}": entry for key, entry in nested})
        return parameters

    @property
    def chosen_score(self) -> str | Mapping[str, float] | None:
        """The value of the parameter `score`, which `ScoreParameter` hides as an attribute."""
        score: str | Mapping[str, float] | None = vars(self)["score"]
        return score

    def set_params(self, **params: Any) -> Self:
        """Set parameters, as of any estimator of scikit-learn.

        Parameters
        ----------
        **params : dict
            By name; ``classifier__C`` is the parameter C of the parameter classifier.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If there is no such parameter, or the object before ``__`` has no parameters to set.
        """
        own = self.get_params(deep=False) | params
        for key in params:
            name, delimiter, _ = key.partition("__")
            if delimiter and name in own and not hasattr(own[name], "set_params"):
                raise ValueError(
                    f"{key} cannot be set, since {name}={own[name]!r} has no parameters to set: "
                    f"set {name} itself."
                )
        super().set_params(**params)
        return self

    def __setattr__(self, name: str, value: object) -> None:
        if vars(self).get("_is_frozen"):
            raise AttributeError(f"{name} is set by fit, and cannot be changed.")
        super().__setattr__(name, value)

    @with_callbacks  # type: ignore[untyped-decorator]
    def fit(self, X: Any, y: Any = None) -> Self:
        """Fit the detector to normal samples.

        Parameters
        ----------
        X : array-like, Dataset or path
            Rows (n_samples, n_features); images (n_samples, height, width), or with channels on
            `channel_axis`; flat rows with `image_shape`; a numpy memory map or a torch Dataset,
            which are read batch by batch; or the path of a folder of images, or of a table in a CSV
            or Parquet file or directory. A table of pandas, polars or pyarrow, or in a file, may
            have strings, categories, dates and missing values: see `columns`. At least 2 samples,
            which are assumed to be normal.
        y : array-like of shape (n_samples,) or None, default=None
            Labels of known anomalies; the parameter `labels` sets whether they are ignored, left
            out of the training, or trained on.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            If a parameter or X is invalid; nothing is trained, and the result of an earlier fit is
            kept.

        Warns
        -----
        ConvergenceWarning
            If a loss is not finite: the last finite weights are restored. If Ctrl-C ends the
            training: the current weights are kept, and KeyboardInterrupt is raised.
        TrainingWarning
            If the training failed; ``training_report_`` has the problems.
        UserWarning
            If ``labels="learn"`` and y has no anomaly.
        """
        return self._fit(X, y)

    def _fit(
        self,
        X: Any,
        y: Any = None,
        class_labels: Any = None,
        masks: np.ndarray | list[np.ndarray] | None = None,
    ) -> Self:
        self.check_parameters()
        device = resolve_device(self.device)
        join_process_group(device)
        random = RandomNumbers(same_seed(draw_seed(self.random_state)), device)
        earlier: Model[Any] | None = vars(self).get("model_") if self.warm_start else None
        with own_torch_settings(device, training=True):
            settings: Any = self._settings()
            if earlier is not None:
                auto = settings._model_class().resolved(settings, earlier.layout)
                if settings.scaling == "auto":  # other parameters may change the default
                    auto["scaling"] = earlier.settings.scaling
                vars(settings).update(**_columns_of(earlier.settings), **auto)
                self._check_same_networks(settings, earlier)
            is_known: np.ndarray | None = None
            if settings.labels != "ignore":
                is_known = known_by(settings.labels, y, settings.anomaly_label)
            kept = None if is_known is None else ~is_known
            source = read(settings, X, earlier.layout if earlier else None, kept)
            known: Source | None = None
            if is_known is not None and settings.labels == "learn" and is_known.any():
                known = read(settings, X, source.layout, is_known)
            if class_labels is not None and kept is not None:
                class_labels = np.asarray(class_labels)[kept]
            layout = earlier.layout if earlier else source.layout
            if masks is not None:
                _check_masks(masks, source)
            if settings.robust and layout.encoder is not None:
                raise ValueError(
                    "robust perturbs numbers, but X is a table with strings, dates or missing "
                    f"values: set robust=0, got {settings.robust!r}, or pass numbers only."
                )
            model_class = settings._model_class()
            if layout.varies and not model_class.takes_any_size:
                raise ValueError(
                    f"The images differ in height or width, and {type(self).__name__} needs one "
                    "shape: resize them, for files with ImageFolder(path, image_size=(height, "
                    "width)) (--image-size HEIGHT,WIDTH on the command line), or use RDNADetector "
                    "with a backbone."
                )
            vars(settings).update(model_class.resolved(settings, layout), _is_frozen=True)
            if earlier is None:
                scaler = Scaler.fitted(settings.scaling, blocks(source), layout.is_image)
                model = model_class.made(settings, layout, scaler, random)
            else:
                model = earlier.copied(settings)
            model.fitted_on = {"n_excluded": 0 if kept is None else int((~kept).sum())}
            with limited_to(model.n_jobs_of_fit()):
                learned, is_interrupted = fit_model(
                    model,
                    source,
                    FitTasks(self, X, y),
                    random,
                    device,
                    y,
                    class_labels,
                    self.history_ if earlier else (),
                    self.training_report_ if earlier else None,
                    known,
                    _chosen(masks, is_known),
                )
        self.learn(learned.pop("model_"), **learned)
        if is_interrupted:
            raise KeyboardInterrupt
        return self

    def current_run(self) -> TrainingRun:
        """The current training in this thread, for callbacks.

        Raises
        ------
        RuntimeError
            If no detector is being fitted in this thread.
        """
        return current_run()

    def fitted_so_far(self) -> Self:
        """A detector with the current weights of the training, for callbacks.

        Raises
        ------
        RuntimeError
            If no detector is being fitted in this thread.
        """
        detector = copy.copy(self)
        learned = current_run().learned()
        detector.learn(learned.pop("model_"), **learned)
        return detector

    def learn(self, model: Model[Any], **learned: Any) -> None:
        """Replace the fitted attributes of an earlier fit by the given ones, all at once."""
        kept = _without_learned(vars(self))
        columns = _columns_of(model.settings)
        self.__dict__ = {**kept, **columns, **learned, "model_": model}

    def score_samples(self, X: Any) -> np.ndarray:
        """The negative of `anomaly_score`, with scikit-learn's sign.

        Parameters
        ----------
        X : array-like, Dataset or path
            As in `fit`.

        Returns
        -------
        ndarray of shape (n_samples,), float64
            Larger is more normal.
        """
        return -self.anomaly_score(X)

    def anomaly_score(self, X: Any) -> np.ndarray:
        """The anomaly score A(x) of the papers: larger is more anomalous.

        Repeating a call gives the same bits, and the detector is not changed. The position of a
        sample in X and the number of samples may change its score by 1e-5 standard deviations, or
        1e-5 of the score if that is larger, because a matrix product may round differently.

        Parameters
        ----------
        X : array-like, Dataset or path
            As in `fit`.

        Returns
        -------
        ndarray of shape (n_samples,), float64
            With the default `score`, in standard deviations of the training samples' scores. Always
            finite: 2**126 if the networks overflow.
        """
        model = self._scoring_model()
        return model.in_blocks(model.score, self._read(X, model))

    def decision_function(self, X: Any) -> np.ndarray:
        """``score_samples(X) - offset_``: negative for outliers.

        A score that exceeds the threshold by no more than its rounding error counts as equal to it.

        Parameters
        ----------
        X : array-like, Dataset or path
            As in `fit`.

        Returns
        -------
        ndarray of shape (n_samples,), float64

        Raises
        ------
        ValueError
            If `score`, or a parameter of the method's score, was changed after the threshold was
            set.
        """
        model = self._scoring_model()
        model.check_threshold()
        scores = model.in_blocks(model.score, self._read(X, model))
        return model.decision(torch.from_numpy(scores)).numpy()

    def predict(self, X: Any) -> np.ndarray:
        """+1 for inliers and -1 for outliers, whose anomaly score exceeds ``threshold_``.

        A sample whose score exceeds it by no more than its rounding error is an inlier, so that a
        label does not depend on the other samples of X.

        Parameters
        ----------
        X : array-like, Dataset or path
            As in `fit`.

        Returns
        -------
        ndarray of shape (n_samples,), int
        """
        return np.where(self.decision_function(X) >= 0, 1, -1)

    def transform(self, X: Any) -> np.ndarray:
        """The latent codes of X, concatenated over the members.

        Parameters
        ----------
        X : array-like, Dataset or path
            As in `fit`.

        Returns
        -------
        ndarray of shape (n_samples, n_estimators * latent_dim)
            The codes of all members, side by side. With a `backbone`, whose features are the same
            for all members, ``(n_samples, latent_dim_)``.
        """
        model = self._fitted_model()
        codes = model.in_blocks(lambda x: model.codes(x).transpose(0, 1), self._read(X, model))
        return codes.reshape(len(codes), -1)

    def reconstruct(self, X: Any) -> Any:
        """The reconstruction of X in the units of X, averaged over the members.

        Parameters
        ----------
        X : array-like, Dataset or path
            As in `fit`.

        Returns
        -------
        ndarray of the shape of X, or table
            For an encoded table, a table of the same type, in its units and categories; for a table
            in a file, a dict of columns.
        """
        model = self._fitted_model()

        def in_units_of_x(x: Tensor) -> Tensor:
            return model.scaler.inverse(model.reconstruct(x).mean(0).cpu().double())

        x_hat = model.in_blocks(in_units_of_x, self._read(X, model))
        return model.layout.restored(x_hat, like=X)

    def anomaly_map(self, X: Any) -> np.ndarray:
        """The anomaly of each feature or pixel: larger is more anomalous.

        Parameters
        ----------
        X : array-like, Dataset or path
            As in `fit`.

        Returns
        -------
        ndarray of shape (n_samples, n_features) or (n_samples, height, width)
            The mean over the members, in scaled units; for images that differ in shape, a list of
            maps. For an encoded table, one value for each column, approximately in standard
            deviations of the training rows: two thirds of it are the reconstruction error, and one
            third the difference to the nearest training rows. 0 for columns that are left out.
        """
        model = self._scoring_model()
        maps: np.ndarray = model.anomaly_maps(self._read(X, model))
        return maps

    def discriminator_features(self, X: Any) -> np.ndarray:
        """The discriminator's features of X, concatenated over the members.

        Parameters
        ----------
        X : array-like, Dataset or path
            As in `fit`.

        Returns
        -------
        ndarray of shape (n_samples, n_estimators * n_features)
            The output of the discriminator's feature layer, flattened.

        Raises
        ------
        TypeError
            If the method has no discriminator.
        """
        model = self._fitted_model()
        return model.in_blocks(
            lambda x: model.discriminator_features(x).transpose(0, 1).flatten(1),
            self._read(X, model),
        )

    def infer_threshold(self, X: Any, outlier_perc: float = 5.0) -> Self:
        """Set the threshold so that this percentage of X is flagged.

        Parameters
        ----------
        X : array-like, Dataset or path
            As in `fit`. For a mixed batch, give the expected percentage of outliers in it. For
            held-out normal samples, the percentage is the accepted false-alarm rate.
        outlier_perc : float in [0, 100], default=5.0
            In percent. With 0 no sample of X is flagged, with 100 all are. Samples whose score
            equals the threshold are not flagged, so that ties flag fewer samples, never more. On
            average this percentage of *new* samples exceeds the threshold. If X has fewer than
            ``100 / outlier_perc - 1`` samples, the threshold is beyond their largest score,
            extrapolated from the upper half of the scores.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If `outlier_perc` is outside [0, 100], or a sample of X is so far from those of `fit`
            that its score overflows; the threshold is then not changed.
        TypeError
            If `outlier_perc` is not a number.

        Warns
        -----
        UserWarning
            If `outlier_perc` is between 0 and 1, where a fraction may be meant, or if ties flag far
            fewer samples than requested.
        """
        check_percentage(outlier_perc)
        warn_of_fraction(outlier_perc)
        model = self._scoring_model()
        scores = model.in_blocks(model.score, self._read(X, model))
        check_scores(scores)
        threshold = threshold_at_percentile(scores, outlier_perc)
        warn_of_ties(scores, threshold, outlier_perc)
        model = model.with_threshold(
            threshold, scores, rule="infer_threshold", outlier_perc=float(outlier_perc)
        )
        if outlier_perc == 100:
            # Below all values that count as equal to the smallest score.
            model.threshold -= 2 * model.score_tolerance
        self.model_ = model
        return self

    def p_value(self, X: Any) -> np.ndarray:
        """The probability that a normal sample has a score at least as large as each sample.

        These are conformal p-values: they compare a score with those of held-out normal samples,
        and assume only that new normal samples have the same distribution. On average, at most a
        share ``a`` of the normal samples has a p-value of at most ``a``.

        Parameters
        ----------
        X : array-like, Dataset or path
            As in `fit`.

        Returns
        -------
        ndarray of shape (n_samples,), float64
            In (0, 1], small for anomalies: at least ``1 / (n + 1)`` with n calibration samples, so
            that a p-value of 0.01 needs 99 of them.

        Raises
        ------
        NotFittedError
            If there are no calibration samples: fit with `validation_fraction` above 0, or call
            `calibrate_p_values`.
        ValueError
            If `score` was changed after the calibration.

        See Also
        --------
        flag_by_fdr : Flags samples with control of the false discovery rate.
        """
        model = self._scoring_model()
        if model.normal_scores is None:
            raise NotFittedError(
                f"This {type(self).__name__} has no normal samples to compute p-values from: call "
                "calibrate_p_values with held-out normal samples, or fit with "
                "validation_fraction above 0."
            )
        model.check_same_score(
            model.normal_scores_definition,
            "The p-values were calibrated",
            "call calibrate_p_values",
        )
        scores = model.in_blocks(model.score, self._read(X, model))
        return conformal_p_values(scores, model.normal_scores)

    def calibrate_p_values(self, X: Any) -> Self:
        """Compute p-values from the scores of these samples.

        Parameters
        ----------
        X : array-like, Dataset or path
            Normal samples, in the form of `fit`, that were *not* passed to `fit`: training samples
            have lower scores than new ones, and their p-values are too small. More samples give
            finer p-values.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If a sample of X is so far from those of `fit` that its score overflows.
        """
        model = self._scoring_model()
        scores = model.in_blocks(model.score, self._read(X, model))
        check_scores(scores)
        self.model_ = model.with_normal_scores(scores)
        return self

    def flag_by_fdr(self, X: Any, false_discovery_rate: float = 0.05) -> np.ndarray:
        """Flag samples with control of the false discovery rate (Benjamini-Hochberg procedure).

        A threshold bounds the share of false alarms among normal samples; if anomalies are rare,
        most alarms are false. This method bounds the expected share of false alarms among the
        alarms. The flags depend on all of X, so that a sample may be flagged in one batch and not
        in another.

        Parameters
        ----------
        X : array-like, Dataset or path
            As in `fit`.
        false_discovery_rate : float in (0, 1), default=0.05
            The bound on the expected share of normal samples among the flagged samples.

        Returns
        -------
        ndarray of shape (n_samples,), bool
            True for flagged samples. To flag k anomalies among n samples, the p-values must be
            calibrated with at least ``n / (k * false_discovery_rate)`` samples.

        Raises
        ------
        NotFittedError, ValueError
            As in `p_value`; ValueError also for a rate outside (0, 1).
        """
        return benjamini_hochberg(self.p_value(X), false_discovery_rate)

    def false_discovery_bound(
        self, X: Any, is_flagged: Any = None, confidence: float = 0.95
    ) -> int:
        """Upper confidence bound on the number of normal samples among the flagged ones.

        `flag_by_fdr` controls a mean, and selects the samples itself. This method bounds the number
        in the given batch with a probability, for any selection: the samples above a threshold, the
        ten with the largest scores, or a manual selection.

        Parameters
        ----------
        X : array-like, Dataset or path
            All samples that the flagged ones were selected from, as in `fit`.
        is_flagged : array-like of bool, shape (n_samples,), or None, default=None
            The selected samples. None selects those that `predict` flags.
        confidence : float in (0, 1), default=0.95
            The probability that the bound holds for all selections simultaneously, over the draw of
            the calibration samples and of X.

        Returns
        -------
        int
            From 0 to the number of flagged samples. A useful bound for one flagged sample among n
            needs several times ``n`` calibration samples.

        Raises
        ------
        NotFittedError, TypeError, ValueError
            As in `p_value`; also for a confidence outside (0, 1), or if `is_flagged` is not one
            boolean for each sample.
        """
        p_values = self.p_value(X)
        flags = self.predict(X) == -1 if is_flagged is None else is_flagged
        n_normal = len(self.normal_scores_)
        return false_discovery_bound(p_values, flags, n_normal, confidence)

    def score_std(self, X: Any) -> np.ndarray:
        """The standard deviation of the anomaly score between the members.

        The members have different initial weights: if the standard deviation is large, another
        `random_state` may give a very different score.

        Parameters
        ----------
        X : array-like, Dataset or path
            As in `fit`.

        Returns
        -------
        ndarray of shape (n_samples,), float64
            In units of `anomaly_score`, which is the mean of the same scores. Divided by the square
            root of the number of members it is the standard error of that mean.

        Raises
        ------
        ValueError
            If the detector has one member, because a value of 0 would suggest certainty.
        """
        model = self._scoring_model()
        if model.n_members < 2:
            raise ValueError(
                "score_std compares members, but the detector was fitted with one: fit with "
                "n_estimators of at least 2."
            )

        def deviation(x: Tensor) -> Tensor:
            return model.finite(model.member_scores(model.all_parts(x)).std(0))

        return model.in_blocks(deviation, self._read(X, model))

    def summary(self) -> Summary:
        """A summary of the fitted detector: data, parameters, networks, training and threshold.

        Returns
        -------
        Summary
            A dict that prints as text and can be passed to `json.dumps`:

            - ``"fitted_to"``: the numbers of samples for training, for validation and left out by
              labels, their kind and shape, the settings for reading image files, and for a table
              the kind of each column and the reason for it;
            - ``"parameters"``: those of the fit, with the value that replaced each "auto";
            - ``"networks"``: the number of members, and of the weights of each network over all
              members;
            - ``"training"``: epochs, updates, the reason why it ended, and the training
              diagnostics;
            - ``"score"``: the parts of the score of the threshold, with their weights;
            - ``"threshold"``: its value, the rule that set it, and the number of samples;
            - ``"p_values"``: the number of calibration samples, or None;
            - ``"versions"``: those of the fit, and the installed ones.

            Entries that a file of an earlier version lacks are None.

        Examples
        --------
        >>> import numpy as np
        >>> from gandetect import GANomalyDetector
        >>> X = np.random.default_rng(0).normal(size=(100, 4))
        >>> facts = GANomalyDetector(epochs=2, random_state=0).fit(X).summary()
        >>> facts["fitted_to"]["samples"], facts["threshold"]["rule"]
        (100, 'contamination')
        """
        from gandetect.summary import summary_of

        check_is_fitted(self)
        return summary_of(self)

    def query(self, X: Any, n: int = 10) -> np.ndarray:
        """Select the samples whose labels are the most informative.

        They are near to the threshold, relative to the standard deviation between the members, and
        far from each other. Label them, and fit again with
        ``labels="learn"``; with ``warm_start=True`` the training continues from the current
        weights.

        Parameters
        ----------
        X : array-like, Dataset or path
            Samples without labels, as in `fit`.
        n : int, default=10
            Number of samples to select, at most that of X.

        Returns
        -------
        ndarray of int, shape (n,)
            Positions in X, in the order of selection. Repeating a call gives the same result.

        Raises
        ------
        TypeError, ValueError
            If `n` is not an integer from 1 to the number of samples; ValueError also if the score
            was changed after the threshold was set.

        Notes
        -----
        The distance of the score to the threshold is divided by the sum of `score_std` and its mean
        over X. The 5 n samples with the smallest quotients are the candidates. The first selected
        sample has the smallest quotient, and each further one is the candidate that is farthest
        from the selected ones [1]_, by the scaled values of rows and by the codes of images. With
        one member the distance to the threshold is used alone, which is uncertainty sampling [2]_.
        The use of the disagreement between members is query by committee [3]_.

        References
        ----------
        .. [1] Sener and Savarese, "Active learning for convolutional neural networks: a core-set
           approach", ICLR 2018.
        .. [2] Lewis and Gale, "A sequential algorithm for training text classifiers", SIGIR 1994.
        .. [3] Seung, Opper and Sompolinsky, "Query by committee", COLT 1992.

        Examples
        --------
        >>> from sklearn.datasets import load_breast_cancer
        >>> from gandetect import AdversarialVAEDetector
        >>> X, y = load_breast_cancer(return_X_y=True)
        >>> detector = AdversarialVAEDetector(epochs=5, random_state=0).fit(X[y == 1][:250])
        >>> len(set(detector.query(X, n=5)))
        5
        """
        check_scalar(n, "n", Integral, min_val=1)
        model = self._scoring_model()
        model.check_threshold()
        source = self._read(X, model)
        if n > len(source):
            raise ValueError(f"n={n} samples were requested, but X has {len(source)}.")

        def seen(x: Tensor) -> Tensor:
            scores = model.member_scores(model.all_parts(x))
            spread = scores.std(0, correction=0)
            points = model.known_points(x).transpose(0, 1).flatten(1).cpu().double()
            return torch.cat([model.finite(scores.mean(0))[:, None], spread[:, None], points], 1)

        scores, spread, points = np.split(model.in_blocks(seen, source), (1, 2), axis=1)
        unit = spread + spread.mean() if spread.any() else 1.0
        margin = np.abs(scores - model.threshold) / unit
        return worth_labelling(margin[:, 0], points, int(n))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save the fitted detector as data only: JSON and tensors in one safetensors file.

        With the default score of rows the file contains up to 2,000 training samples, which can be
        converted back to the units of X, and with that of images as many codes.
        ``store_references=False`` leaves them out.

        Parameters
        ----------
        path : str or path
            The write is atomic. Read the file with `gandetect.load`.

        Raises
        ------
        TypeError
            If a parameter is not data, such as an architecture of your own.
        """
        check_is_fitted(self)
        write_archive(path, tree_of(self), SAVED_CLASSES)

    @classmethod
    def load(cls, path: str | os.PathLike[str], **given: Any) -> Self:
        """Load a detector of this class from a file of `save`.

        On one machine it gives the same scores as the saved detector, bit by bit.

        Parameters
        ----------
        path : str or path
        **given
            The parameters that `save` left out because they are user code, such as
            ``classifier=network``.

        Returns
        -------
        detector

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ArchiveError
            If the file is damaged or does not contain such a detector.
        TypeError
            If a parameter that the file left out is not given, or another one is given.
        """
        return cls.from_tree(read_archive(path, SAVED_CLASSES, SAVED), path, given)

    @classmethod
    def from_tree(
        cls, tree: dict[str, Any], path: str | os.PathLike[str], given: Mapping[str, Any]
    ) -> Self:
        """The detector of this class in the tree of a file; raises typed errors."""
        found = tree.get("detector")
        if not isinstance(found, str) or found != cls.__name__:  # an array compares as an array
            raise ArchiveError(
                f"{str(path)!r} contains the class {found}, not {cls.__name__}: use gandetect.load."
            )
        left_out = tree.get("left_out", [])
        if not isinstance(left_out, list) or any(
            not isinstance(name, str) or name not in cls.model_class.code_parameters
            for name in left_out
        ):
            raise ArchiveError(
                f"{str(path)!r} is damaged: it does not contain the parameters {left_out!r}, which "
                "are data."
            )
        if set(left_out) != set(given):
            wanted = ", ".join(f"{name}=..." for name in left_out) or "no parameters"
            raise TypeError(
                f"{str(path)!r} does not contain {left_out}, which are user code: pass {wanted} to "
                f"load; got {sorted(given)}."
            )
        try:
            with own_torch_settings(torch.device("cpu")):
                return restore(cls, tree, given)
        except DAMAGE as error:
            raise ArchiveError(f"{str(path)!r} is not a complete detector: {error}") from error

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()
        if "model_" not in state:
            return state
        try:
            # As in a file: an array of bytes, which can be read on a machine without the device, #
            # and which formats that support numpy but not torch can store.
            tree = tree_of(self)
            if tree["left_out"]:
                raise TypeError("code cannot be stored as data")
            content = np.frombuffer(packed(tree, SAVED_CLASSES), dtype=np.uint8)
        # User code, and parameters that are invalid, are pickled unchanged.
        except (TypeError, ValueError):
            return {**state, "model_": copy.deepcopy(state["model_"]).cpu()}
        return {**_without_learned(state), "_fitted": content}

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        content = state.pop("_fitted", None)
        super().__setstate__(state)
        if content is not None:
            tree = unpacked(np.asarray(content).tobytes(), SAVED_CLASSES)
            learned = _learned_of(restore(type(self), tree, {}))
            self.learn(learned.pop("model_"), **learned)

    def __copy__(self) -> Self:
        copied = type(self).__new__(type(self))
        copied.__dict__.update(vars(self))
        return copied

    # Internal methods.

    def _model_class(self) -> type[Model[Any]]:
        """The class of the model for these parameters."""
        model_class = getattr(type(self), "model_class", None)
        if model_class is None:
            raise TypeError(
                f"{type(self).__name__} has no model_class: a detector names the class of its "
                "model, a subclass of gandetect.model.Model, in a class attribute of that name."
            )
        return cast(type[Model[Any]], model_class)

    def _settings(self) -> Self:
        """A copy of the detector with its parameters only."""
        copied = type(self).__new__(type(self))
        for name, value in self.get_params(deep=False).items():
            is_plain = isinstance(value, dict | list | tuple)
            copied.__dict__[name] = copy.deepcopy(value) if is_plain else value
        return copied

    def _fitted_model(self) -> Model[Any]:
        check_is_fitted(self)
        model: Model[Any] = self.model_
        device = resolve_device(self.device)
        return model if model.device == device else model.to(device)

    def _scoring_model(self) -> Model[Any]:
        """The fitted model, set to compute the score of the parameters."""
        model = self._fitted_model()
        self._check_score()
        return model.scoring_as(self)

    def _read(self, X: Any, model: Model[Any]) -> Source:
        source = read(model.settings, X, model.layout)
        if model.layout.is_image and (fitted_range := model.scaler.fitted_range()):
            first = source.read(next(iter(parts_of(source, None, _N_LOOKED_AT))))
            told = range_warning(fitted_range, first)
            if told:
                warnings.warn(told, UserWarning, stacklevel=3)
        return source

    def _check_same_networks(self, settings: Self, earlier: Model[Any]) -> None:
        """Raise ValueError if `warm_start` cannot continue with the existing networks."""
        model_class = settings._model_class()
        before, now = vars(earlier.settings), vars(settings)

        def changed(names: Iterable[str]) -> list[str]:
            return [
                name
                for name in dict.fromkeys(names)
                if before[name] is not now[name] and not _equal(before[name], now[name])
            ]

        differing = changed((*_SHAPING, *model_class.network_parameters))
        if not differing:
            made = model_class.empty(settings, earlier.layout, earlier.scaler)
            shapes, shapes_before = (
                {name: value.shape for name, value in model.networks.state_dict().items()}
                for model in (made, earlier)
            )
            if shapes == shapes_before:
                return
            shared = {field.name for field in fields(SharedParameters)}
            differing = changed(set(self.get_params(deep=False)) - shared)
        was = " and ".join(f"{name}={before[name]!r}" for name in differing) or "other shapes"
        given = " and ".join(f"got {name}={now[name]!r}" for name in differing)
        raise ValueError(
            f"warm_start=True continues with networks of {was}, but "
            f"{given or 'the parameters define other shapes'}: restore "
            f"{'it' if len(differing) == 1 else 'them'}, or fit with warm_start=False."
        )

    def check_parameters(self) -> None:
        """Raise TypeError or ValueError for the first invalid parameter."""
        for name in ("latent_dim", "n_estimators", "epochs", "batch_size"):
            if getattr(self, name) != "auto":
                _check_count(self, name)
        _check_count(self, "verbose", minimum=0)
        check_real(self, "learning_rate", 0)
        check_choice(self, "schedule", SCHEDULES)
        check_n_jobs(self.n_jobs)
        if not (isinstance(self.contamination, str) and self.contamination == "auto"):
            check_real(self, "contamination", 0, 0.5, include_boundaries="right")
        check_real(self, "validation_fraction", 0, 1, include_boundaries="left")
        check_real(self, "trim", 0, 0.5)
        check_real(self, "robust", 0)
        if self.robust and not self._model_class().can_be_robust:
            raise ValueError(
                f"{type(self).__name__} with these parameters has no adversarial training: set "
                f"robust=0, got {self.robust!r}."
            )
        check_choice(self, "scaling", SCALINGS)
        check_choice(self, "channel_axis", (-1, 0, None))
        check_choice(self, "labels", LABELS)
        if not isinstance(self.anomaly_label, str | Real | None):
            raise TypeError(
                f"anomaly_label must be None, a string or a number, got {self.anomaly_label!r}."
            )
        _check_columns(self.columns, self.missing_values)
        for name in ("store_references", "warm_start"):
            check_choice(self, name, (True, False))
        self._check_score()
        self._check_own_parameters()
        _check_image_shape(self.image_shape)
        architecture = self.architecture
        if isinstance(architecture, type) or not (
            architecture is None or hasattr(architecture, "bind")
        ):
            raise TypeError(
                "architecture must be None or an architecture object such as MLP() or ConvNet(), "
                f"got {architecture!r}."
            )

    def _check_own_parameters(self) -> None:
        """Raise TypeError or ValueError for an invalid parameter of the method."""

    def _check_score(self) -> None:
        """Raise ValueError unless `score` is None, "paper", a part, or weights of parts."""
        score, names = self.chosen_score, {KNOWN, *self._model_class().part_weights}
        if score is None or (isinstance(score, str) and score in {"paper", *names}):
            return
        if are_weights(score, names):
            return
        raise ValueError(
            f"score must be None, 'paper', one of the parts {sorted(names)}, or a dict of parts "
            f"and weights of at least 0 that are not all 0; got {score!r}."
        )

    # Fitted attributes.

    @property
    def networks_(self) -> nn.ModuleDict:
        """The networks of all members, by role."""
        return self._of_model(lambda model: model.networks)

    @property
    def scaler_(self) -> Scaler:
        """The input scaler."""
        return self._of_model(lambda model: model.scaler)

    @property
    def calibration_(self) -> Calibration:
        """Mean and standard deviation of the score's parts on training samples."""
        calibration = self._of_model(lambda model: model.calibration)
        assert calibration is not None  # every fit sets it
        return calibration

    @property
    def neighbours_(self) -> dict[str, Any]:
        """The reference samples of distances, by part of the score."""
        return self._of_model(lambda model: dict(model.neighbours.items()))

    @property
    def architecture_(self) -> Architecture:
        """The architecture of the fit."""
        architecture: Architecture = self._of_model(lambda model: model.settings.architecture)
        return architecture

    @property
    def n_members_(self) -> int:
        """The number of members of the fit."""
        return self._of_model(lambda model: model.n_members)

    @property
    def latent_dim_(self) -> int:
        """The size of the latent code of the fit."""
        return self._of_model(lambda model: model.latent_dim)

    @property
    def input_shape_(self) -> tuple[int, ...]:
        """Shape of a sample of X; for images in flat rows, the shape of an image."""
        return self._of_model(lambda model: model.layout.input_shape)

    @property
    def sample_shape_(self) -> tuple[int, ...]:
        """Shape of a sample as input of the networks: (d,) or (channels, height, width)."""
        return self._of_model(lambda model: model.layout.sample_shape)

    @property
    def is_flat_(self) -> bool:
        """Whether the samples are images that are passed as flat rows."""
        return self._of_model(lambda model: model.layout.is_flat)

    @property
    def columns_(self) -> str:
        """The kind of each column and the reason for it, one per line; for encoded tables only."""
        encoder = self._of_model(lambda model: model.layout.encoder)
        if encoder is None:
            raise AttributeError(
                f"This {type(self).__name__} was fitted to numbers and has no encoded columns."
            )
        return str(encoder.describe())

    @property
    def normal_scores_(self) -> np.ndarray:
        """Sorted anomaly scores of the held-out normal samples, if there are any."""
        scores = self._of_model(lambda model: model.normal_scores)
        if scores is None:
            raise AttributeError("There are no held-out samples: call calibrate_p_values.")
        return scores

    @property
    def threshold_(self) -> float:
        """The anomaly score above which a sample is flagged; may be set."""
        return self._of_model(lambda model: model.threshold)

    @threshold_.setter
    def threshold_(self, value: float) -> None:
        model = self._scoring_model()
        try:
            threshold = math.nan if isinstance(value, str | bytes | bool) else float(value)
        except (TypeError, ValueError):
            threshold = math.nan
        if not math.isfinite(threshold):
            raise ValueError(f"threshold_ must be a finite number, got {value!r}.")
        self.model_ = model.with_threshold(threshold, rule="set by hand")

    @property
    def offset_(self) -> float:
        """``-threshold_``, in units of `score_samples`."""
        return -self.threshold_

    def _of_model(self, get: Callable[[Model[Any]], T]) -> T:
        """Apply `get` to the model; raise AttributeError before `fit`, as scikit-learn does."""
        if "model_" not in vars(self):
            raise AttributeError(f"This {type(self).__name__} is not fitted: call fit first.")
        return get(self.model_)

    # scikit-learn's protocol.

    def _html_repr(self) -> str:
        """The HTML representation in a notebook."""
        from gandetect.notebook import with_codes

        return with_codes(super()._html_repr())

    def _get_doc_link(self) -> str:
        """The address of the class's documentation, which scikit-learn's HTML links to."""
        from gandetect.notebook import documentation_page

        return documentation_page(type(self))

    def _get_params_html(self, *args: Any, **options: Any) -> Any:
        """The table of parameters in the HTML representation, alone and in a pipeline."""
        from gandetect.notebook import with_tooltips

        return with_tooltips(super()._get_params_html(*args, **options), type(self))

    @property
    def _n_features_out(self) -> int:
        return (1 if self.model_.has_common_codes else self.n_members_) * self.latent_dim_

    def __sklearn_is_fitted__(self) -> bool:
        return "model_" in vars(self)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags


def check_choice(detector: SharedParameters, name: str, choices: tuple[object, ...]) -> None:
    """Raise ValueError unless the parameter is one of the choices."""
    value = getattr(detector, name)
    if not any(value is choice or value == choice for choice in choices):
        raise ValueError(f"{name} must be one of {list(choices)}, got {value!r}.")


def check_real(
    detector: SharedParameters,
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


def _check_count(detector: SharedParameters, name: str, minimum: int = 1) -> None:
    value = getattr(detector, name)
    if isinstance(value, bool) and name != "verbose":
        raise TypeError(f"{name} must be an integer, got {value!r}.")
    check_scalar(value, name, Integral, min_val=minimum)


def _check_columns(columns: Any, missing_values: Any) -> None:
    if columns is not None and not (isinstance(columns, str) and columns == "auto"):
        checked_columns(columns)
    is_one = isinstance(missing_values, str | bytes | Real)
    if not (is_one or isinstance(missing_values, list | tuple | set | frozenset | np.ndarray)):
        raise TypeError(
            f"missing_values must be a string, a number or a tuple of them, got {missing_values!r}."
        )
    if columns is None and listed(missing_values):
        raise ValueError("missing_values applies to encoded tables only: leave columns at 'auto'.")


def _check_masks(masks: np.ndarray | list[np.ndarray], source: Source) -> None:
    layout = source.layout
    if not layout.is_image:
        raise ValueError("masks are for images, but X contains rows.")
    if isinstance(source, MixedSource):
        sizes = [sample_shape_of(shape, source.channel_axis)[1:] for shape in source.shapes]
    else:
        sizes = [layout.sample_shape[1:]] * len(masks)
    if len(masks) != len(sizes):
        raise ValueError(f"there are {len(masks)} masks for {len(sizes)} images.")
    for i, (mask, size) in enumerate(zip(masks, sizes, strict=True)):
        if mask.shape != size:
            raise ValueError(
                f"masks must have the size of the images: image {i} is {size[0]} x {size[1]}, its "
                f"mask has the shape {mask.shape}."
            )


def _chosen(
    masks: np.ndarray | list[np.ndarray] | None, is_known: np.ndarray | None
) -> np.ndarray | list[np.ndarray] | None:
    """The masks of the known anomalies."""
    if isinstance(masks, list):
        assert is_known is not None
        return [mask for mask, known in zip(masks, is_known, strict=True) if known]
    return None if masks is None else masks[is_known]


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


def _without_learned(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in attributes.items() if not _is_learned(name)}


def _learned_of(detector: BaseDetector) -> dict[str, Any]:
    return {name: value for name, value in vars(detector).items() if _is_learned(name)}


def _is_learned(name: str) -> bool:
    """Whether `fit` sets this attribute."""
    return name.endswith("_") and not name.startswith("_")


def _columns_of(settings: SharedParameters) -> dict[str, Any]:
    """The attributes of the columns of X that scikit-learn's checks set."""
    names = ("n_features_in_", "feature_names_in_")
    return {name: vars(settings)[name] for name in names if name in vars(settings)}


def _equal(a: object, b: object) -> bool:
    """Whether two values of a parameter are equal; they may be arrays."""
    try:
        return bool(a == b)
    except ValueError:
        return bool(np.array_equal(np.asarray(a), np.asarray(b)))
