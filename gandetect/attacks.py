"""Attacks for evaluating a defence: on a classifier, on a detector, and on both together.

To evaluate the defence of a classifier, use a library of attacks as well:
``benchmarks/adversarial.py`` uses foolbox. Such libraries do not attack the score of a detector.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from numbers import Real
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_scalar
from torch import Tensor
from torch.nn import functional as F

from gandetect.base import BaseDetector
from gandetect.classifiers import check_answers, classes_of, taken
from gandetect.data.labels import anomalous
from gandetect.data.sources import read, slices
from gandetect.defence import GuardingModel
from gandetect.distributed import RandomState, draw_seed
from gandetect.model import Model, own_torch_settings
from gandetect.model.ascent import Ball, ascent, better, gradient_at, highest

__all__ = ["attack_defence", "attack_score", "projected_gradient"]

_AT_ONCE = 512


def projected_gradient(
    classifier: Any,
    X: NDArray[Any],
    y: NDArray[Any],
    *,
    eps: float,
    norm: float = np.inf,
    n_steps: int = 20,
    step_size: float | None = None,
    clip: tuple[float, float] | None = None,
    stop_when_fooled: bool = False,
) -> NDArray[np.float64]:
    """Projected gradient descent (PGD) on a classifier, within a ball around each sample.

    Each step follows the gradient of the classifier's cross-entropy with the true label, and is
    projected onto the ball of radius `eps` around the sample.

    Parameters
    ----------
    classifier : nn.Module or fitted classifier
        A torch network, or a scikit-learn classifier that `AdversarialVAEDetector` can convert
        exactly.
    X : ndarray of shape (n_samples, ...)
        Samples in the units of the classifier; images with channels first.
    y : ndarray of shape (n_samples,)
        True labels.
    eps : float
        Radius of the ball, in the units of X.
    norm : {inf, 2}, default=inf
        Norm of the ball: the largest change of a value, or the Euclidean (L2) norm.
    n_steps : int, default=20
    step_size : float or None, default=None
        None is ``2.5 * eps / n_steps``, with which a sample can cross its ball.
    clip : tuple of float or None, default=None
        The smallest and the largest value that a sample may have.
    stop_when_fooled : bool, default=False
        Whether a sample is not changed further once its label is wrong. This gives the smallest
        change among the steps, instead of the most confident wrong label.

    Returns
    -------
    ndarray of the shape of X, float64

    Raises
    ------
    TypeError
        If the classifier has no gradient.
    ValueError
        If `eps` or `norm` is invalid, or a label is not one of the labels of the classifier.

    References
    ----------
    Madry, Makelov, Schmidt, Tsipras and Vladu, "Towards deep learning models resistant to
    adversarial attacks", ICLR 2018.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import LogisticRegression
    >>> from gandetect.attacks import projected_gradient
    >>> X, y = load_digits(return_X_y=True)
    >>> classifier = LogisticRegression(C=0.01, max_iter=10_000).fit(X, y)
    >>> X_attacked = projected_gradient(classifier, X, y, eps=2.0, clip=(0, 16))
    >>> bool(classifier.score(X_attacked, y) < 0.5 * classifier.score(X, y))
    True
    >>> float(abs(X_attacked - X).max())
    2.0
    """
    check_scalar(eps, "eps", Real)
    if not eps > 0:
        raise ValueError(f"eps must be above 0, got {eps!r}.")
    if norm not in (np.inf, 2):
        raise ValueError(f"norm must be inf or 2, got {norm!r}.")
    x = torch.from_numpy(np.array(X, dtype=np.float64))
    model = taken(classifier, "auto", x[:64])
    if model is None:
        raise TypeError(
            f"{type(classifier).__name__} has no gradient, which the attack needs: pass a torch "
            "nn.Module, or a differentiable scikit-learn classifier such as LogisticRegression."
        )
    with torch.no_grad():
        classes = classes_of(classifier, check_answers(model, x[:2]))
    targets = _numbers(y, classes)
    attacked = []
    for start, target in zip(x.split(_AT_ONCE), targets.split(_AT_ONCE), strict=True):

        def slope(x: Tensor, target: Tensor = target) -> Tensor:
            log_p = model.log_probabilities(x)
            found = gradient_at(x, F.nll_loss(log_p, target, reduction="none"))
            if stop_when_fooled:
                is_right = log_p.argmax(1) == target
                found = found * is_right.reshape(-1, *[1] * (x.ndim - 1))
            return found

        *_, x_adv = ascent(slope, Ball(start, eps, norm, clip), n_steps=n_steps, step=step_size)
        attacked.append(x_adv)
    return torch.cat(attacked).numpy()


def attack_score(
    detector: BaseDetector,
    X: Any,
    y: ArrayLike | None = None,
    *,
    eps: float | NDArray[Any],
    units: str = "scaled",
    n_steps: int = 20,
    step_size: float | None = None,
    n_starts: int = 1,
    clip: tuple[float, float] | str | None = "auto",
    random_state: RandomState = 0,
) -> NDArray[Any]:
    """Perturb samples so that the scores of normal ones rise and those of anomalies fall.

    The attack is projected gradient descent on `anomaly_score`, through the networks of all members
    and the distances to neighbours and patches, with `eps` as the largest change of a value. Of all
    steps, the sample with the most wrong score is returned. The trees in the score of rows with
    ``labels="learn"`` have no gradient: the attack ignores them.

    Parameters
    ----------
    detector : BaseDetector
        The fitted detector.
    X : array-like, Dataset or path
        As in `fit`; it is read into memory.
    y : array-like of shape (n_samples,) or None, default=None
        Labels of anomalies, as 0 and 1, 1 and -1 or booleans. The scores of anomalies are lowered,
        and those of other samples raised. None uses the predictions of the detector, so that the
        attack is on the predicted labels.
    eps : float or ndarray of the shape of a sample
        The largest change of a value, in `units`.
    units : {"scaled", "X"}, default="scaled"
        "scaled": those of the detector's `scaling`. For rows, the standard deviation of the column,
        or another scale; where "unskewed" takes the logarithm of a column, the standard deviation
        of the logarithm, so that small values can change less than large ones. For images, the
        range of the training images, so that 8/255 are 8 grey levels of 8-bit images. "X": the
        units of X. Use these to compare detectors with different scalings.
    n_steps : int, default=20
    step_size : float or None, default=None
        In the units of `eps`; None is ``2.5 * eps / n_steps``, with which a sample can cross its
        ball.
    n_starts : int, default=1
        The number of starting points: the first is the sample, each further one a random point of
        its ball. More starts give a stronger attack if the score is not smooth.
    clip : tuple of float, "auto" or None, default="auto"
        The smallest and the largest value that a sample may have, in the units of X. "auto" is the
        range of the training images, and None for rows.
    random_state : int, RandomState, Generator or None, default=0
        Seed of the random starts.

    Returns
    -------
    ndarray of the shape of X
        The attacked samples, in the dtype of X if it is floating point, otherwise in float64.

    Raises
    ------
    NotFittedError
        If the detector is not fitted.
    TypeError
        If the detector was fitted to an encoded table, because the encoding has no gradient.
    ValueError
        If `eps` or `units` is invalid, or y does not match X.

    See Also
    --------
    attack_defence : Attacks a classifier together with the detector that protects it.

    References
    ----------
    Madry, Makelov, Schmidt, Tsipras and Vladu, "Towards deep learning models resistant to
    adversarial attacks", ICLR 2018.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from gandetect import GANomalyDetector
    >>> from gandetect.attacks import attack_score
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> benign, malignant = X[y == 1], X[y == 0]
    >>> detector = GANomalyDetector(epochs=20, random_state=0).fit(benign[:250])
    >>> detector = detector.infer_threshold(benign[250:], outlier_perc=5)
    >>> attacked = attack_score(detector, malignant, [True] * 212, eps=0.1)
    >>> found, still = ((detector.predict(x) == -1).mean() for x in (malignant, attacked))
    >>> bool(still < found)
    True
    """
    model, x, limits = _prepared(detector, X, eps, units, clip)
    if y is None:
        signs = np.where(detector.predict(X) > 0, 1.0, -1.0)
    else:
        signs = np.where(anomalous(y), -1.0, 1.0)
    if len(signs) != len(x):
        raise ValueError(f"y has {len(signs)} labels, but X has {len(x)} samples.")

    def attacked(part: slice, starts: Iterator[Tensor | None], ball: Ball) -> Tensor:
        step = _step(ball, eps, step_size)
        sign = torch.from_numpy(signs[part])
        best_x, best = ball.center, None
        for start in starts:
            x, found = highest(
                lambda x: sign * _score(model, x), ball, n_steps=n_steps, step=step, start=start
            )
            best_x, best = (x, found) if best is None else better(best_x, best, x, found)
        return best_x

    found = _in_parts(model, x, limits, n_starts, random_state, attacked)
    return _as_given(model, X, found)


def attack_defence(
    detector: BaseDetector,
    X: Any,
    y: ArrayLike,
    *,
    eps: float | NDArray[Any],
    units: str = "scaled",
    n_steps: int = 20,
    step_size: float | None = None,
    n_starts: int = 2,
    clip: tuple[float, float] | str | None = "auto",
    random_state: RandomState = 0,
) -> NDArray[Any]:
    """Attack a classifier together with the detector that protects it, with access to both.

    Each step follows the gradient of the classifier until the predicted class is wrong, and then
    the gradient of the score until it is below the threshold of the detector [1]_. Every second
    start uses orthogonal gradients, so that a step towards one goal does not affect the other. Of
    all steps, the sample that is nearest to both goals is returned.

    Parameters
    ----------
    detector : AdversarialVAEDetector
        A detector fitted with a classifier, or with class labels. If the classifier has no
        gradient, the network that was fitted to its probabilities is attacked.
    X : array-like, Dataset or path
        As in `fit`; it is read into memory.
    y : array-like of shape (n_samples,)
        True labels, from ``classes_``.
    eps, units, n_steps, step_size, clip, random_state
        As in `attack_score`.
    n_starts : int, default=2
        The number of starting points: the first two are the sample, each further one is a random
        point of its ball.

    Returns
    -------
    ndarray of the shape of X
        The attacked samples, in the dtype of X if it is floating point, otherwise in float64.

    Raises
    ------
    NotFittedError, ValueError
        As in `attack_score`; ValueError also if a label is not one of the labels of the classifier.
    TypeError
        As in `attack_score`, and if the detector has no classifier.

    References
    ----------
    .. [1] Bryniarski, Hingun, Pachuca, Wang and Carlini, "Evading adversarial example detection
       defenses with orthogonal projected gradient descent", ICLR 2022.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.frozen import FrozenEstimator
    >>> from sklearn.linear_model import LogisticRegression
    >>> from gandetect import AdversarialVAEDetector
    >>> from gandetect.attacks import attack_defence
    >>> X, y = load_iris(return_X_y=True)
    >>> classifier = LogisticRegression(max_iter=300).fit(X, y)
    >>> detector = AdversarialVAEDetector(
    ...     classifier=FrozenEstimator(classifier), epochs=20, random_state=0
    ... ).fit(X)
    >>> X_attacked = attack_defence(detector, X, y, eps=0.5)
    >>> is_wrong = classifier.predict(X_attacked) != y
    >>> bool((is_wrong & (detector.predict(X_attacked) == 1)).sum() > 10)
    True
    """
    model, x, limits = _prepared(detector, X, eps, units, clip)
    if not isinstance(model, GuardingModel) or model.classifier is None or model.classes is None:
        raise TypeError(
            f"This {type(detector).__name__} has no classifier: pass a detector that was fitted "
            "with one."
        )
    guard: Any = model
    targets = _numbers(np.asarray(y), model.classes)
    if len(targets) != len(x):
        raise ValueError(f"y has {len(targets)} labels, but X has {len(x)} samples.")

    def attacked(part: slice, starts: Iterator[Tensor | None], ball: Ball) -> Tensor:
        step = _step(ball, eps, step_size)
        target = targets[part].to(guard.device)
        best_x, best = ball.center, None
        goals: list[Tensor] = []

        def least(x: Tensor) -> Tensor:
            """Return the smaller margin of the two goals; above 0 both goals are reached."""
            scaled = _scaled(guard, x)
            log_p = guard.answers(scaled[:1])[0][0].cpu().double()
            of_target = F.one_hot(target.cpu(), log_p.shape[1]).bool()
            others = log_p.masked_fill(of_target, -torch.inf).amax(1)
            goals[:] = others - log_p[of_target], guard.threshold - guard.score(scaled)
            return torch.minimum(*goals)

        def slope(x: Tensor, _: Tensor, apart: bool) -> Tensor:
            fooled, hidden = (gradient_at(x, goal, keep=True) for goal in goals)
            if apart:
                fooled, hidden = _without(fooled, hidden), _without(hidden, fooled)
            is_first = (goals[0] <= 0) | ((goals[1] > 0) & (goals[0] < goals[1]))
            return torch.where(is_first.reshape(-1, *[1] * (x.ndim - 1)), fooled, hidden)

        for i, start in enumerate(starts):
            x, found = highest(
                least,
                ball,
                n_steps=n_steps,
                step=step,
                start=start,
                slope=partial(slope, apart=i % 2 == 1),
            )
            best_x, best = (x, found) if best is None else better(best_x, best, x, found)
        return best_x

    found = _in_parts(guard, x, limits, n_starts, random_state, attacked, n_centred=2)
    return _as_given(guard, X, found)


def _prepared(
    detector: BaseDetector,
    X: Any,
    eps: float | NDArray[Any],
    units: str,
    clip: tuple[float, float] | str | None,
) -> tuple[Model[Any], Tensor, tuple[Tensor, Tensor]]:
    """Return the model, X in the layout of the networks, and its least and largest values."""
    sizes = np.asarray(eps)
    if sizes.dtype.kind not in "iuf":
        raise TypeError(f"eps must be a number or an array of numbers, got {eps!r}.")
    sizes = sizes.astype(np.float64)
    if not (np.isfinite(sizes) & (sizes >= 0)).all() or not sizes.any():
        raise ValueError(f"eps must be above 0 and finite, got {eps!r}.")
    if units not in ("scaled", "X"):
        raise ValueError(f"units must be 'scaled' or 'X', got {units!r}.")
    model = detector._scoring_model()
    layout = model.layout
    if layout.encoder is not None:
        raise TypeError(
            "The detector was fitted to an encoded table, and strings, dates and missing values "
            "have no gradient: pass a detector that was fitted to an array of numbers."
        )
    source = read(model.settings, X, layout)
    x = torch.from_numpy(source.read(slice(0, len(source))).astype(np.float64))
    radius = torch.from_numpy(sizes)
    if radius.ndim:
        radius = layout.channels_first(radius[None])[0]
    if units == "scaled":
        low, high = model.scaler.reach(x, radius, layout.is_image)
    else:
        low, high = x - radius, x + radius
    ends = model.scaler.fitted_range() if clip == "auto" and layout.is_image else None
    if isinstance(clip, tuple | list):
        ends = (float(clip[0]), float(clip[1]))
    if ends is not None:
        # Values of X that are outside the limits are allowed to stay there.
        low = torch.maximum(low, x.clamp(max=ends[0]))
        high = torch.minimum(high, x.clamp(min=ends[1]))
    return model, x, (low, high)


def _in_parts(
    model: Model[Any],
    x: Tensor,
    limits: tuple[Tensor, Tensor],
    n_starts: int,
    random_state: RandomState,
    attacked: Callable[[slice, Iterator[Tensor | None], Ball], Tensor],
    n_centred: int = 1,
) -> Tensor:
    """Compute `attacked` for parts of the samples with their starts and balls."""
    generator = torch.Generator().manual_seed(draw_seed(random_state))
    found = []
    with own_torch_settings(model.device, training=True):
        for part in slices(len(x), model.block_size()):
            center = x[part]
            low, high = (values[part] for values in limits)
            ball = Ball(center, torch.maximum(high - center, center - low), limits=(low, high))

            def starts(ball: Ball = ball) -> Iterator[Tensor | None]:
                for i in range(n_starts):
                    yield None if i < n_centred else ball.drawn(generator)

            found.append(attacked(part, starts(), ball).detach())
    return torch.cat(found)


def _step(ball: Ball, eps: float | NDArray[Any], step_size: float | None) -> Any:
    """Return a step in the units of X from one in the units of `eps`; None for the default."""
    return None if step_size is None else ball.eps * (step_size / float(np.max(eps)))


def _scaled(model: Model[Any], x: Tensor) -> Tensor:
    """Scale samples (n, *sample_shape) in the units of X for the networks."""
    scaled = model.scaler(x).to(model.device)
    return scaled.expand(model.n_members, *scaled.shape)


def _score(model: Model[Any], x: Tensor) -> Tensor:
    return model.score(_scaled(model, x))


def _without(slope: Tensor, other: Tensor) -> Tensor:
    """Return a gradient without its component along another one."""
    flat, along = slope.flatten(1), other.flatten(1)
    share = (flat * along).sum(1, keepdim=True) / along.square().sum(1, keepdim=True).clamp(1e-30)
    return (flat - share * along).reshape(slope.shape)


def _as_given(model: Model[Any], X: Any, x: Tensor) -> NDArray[Any]:
    """Return samples in the layout of X, and in its dtype if it is floating point."""
    found = np.asarray(model.layout.restored(x.numpy()))
    given = getattr(X, "dtype", None)
    is_float = isinstance(given, np.dtype) and given.kind == "f"
    return found.astype(given) if is_float else found


def _numbers(y: NDArray[Any], classes: NDArray[Any]) -> Tensor:
    unknown = np.setdiff1d(y, classes)
    if len(unknown):
        raise ValueError(f"The classifier has no class {unknown[0]}; it has {classes.tolist()}.")
    order = np.argsort(classes)
    return torch.from_numpy(order[np.searchsorted(classes, np.asarray(y), sorter=order)])
