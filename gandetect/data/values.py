"""Checks and warnings for the values of X that scikit-learn does not provide.

No function changes X or depends on a detector. Missing values, times and strings are not converted
to numbers. Numbers that float64 cannot distinguish are an error, and extreme values give a warning.
"""

from __future__ import annotations

import datetime
import io
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from decimal import Decimal
from fractions import Fraction
from numbers import Complex, Integral, Real
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from scipy.cluster.hierarchy import linkage
from sklearn.base import BaseEstimator
from torch.utils.data import DataLoader, Dataset, IterableDataset

from gandetect.data.images import IMAGE_SUFFIXES

# Above this, float64 cannot represent every integer.
_EXACT_INTEGERS = 2**53
# A column whose values span fewer steps of float64 than this has lost its precision.
_FEWEST_STEPS = 1024
# The factor by which an extreme value is farther from the median than all other values.
_WILD_FACTOR = 100
# The relative tolerance for values in single precision, which rounds to 6e-8.
_SINGLE_ROUNDING = 1e-6
# The number of samples that are searched for groups, and the smallest ratio of the distance from a
# group to other samples to the largest step inside the group. The ratio was at most 3.5 in the
# normal halves of 21 benchmark sets, and mostly over 20 with added duplicates.
_MOST_LINKED = 1000
_APART = 6
# With fewer rows, identifiers are not detected.
MIN_ID_ROWS = 10
# From this number of rows on, consecutive integers are the numbers of the rows.
_MIN_NUMBERED_ROWS = 50
_ID_WORDS = {"id", "ids", "uuid", "guid", "rowid", "index", "idx", "pk", "key", "unnamed"}
_TIMES = (
    datetime.date,
    datetime.time,
    datetime.timedelta,
    np.datetime64,
    np.timedelta64,
)
# Columns with a larger absolute skewness are scaled by their logarithm.
_SKEWED = 1.5
# Last words of the names of columns of labels.
_LABEL_WORDS = {
    *("label", "labels", "class", "target", "truth", "groundtruth"),
    *("anomaly", "anomalous", "outlier", "fraud", "fraudulent", "attack", "defect", "defective"),
    *("isanomaly", "isoutlier", "isfraud", "isattack", "isdefect"),
}


def checked_values(X: Any, name: str = "X", *, fit: bool = False) -> Any:
    """Check that values of X are real numbers, and convert types unknown to scikit-learn.

    Call it before scikit-learn's validation, which checks the number of dimensions, samples and
    features, and sparse matrices. Messages begin with the text of scikit-learn's message, if there
    is one.

    Parameters
    ----------
    X : array-like, tensor or data frame
        A list, numpy array, torch tensor, or a table of pandas, polars or pyarrow. The values of
        a memory map are not checked here, but when they are read.
    name : str, default="X"
        The name of X in errors.
    fit : bool, default=False
        Whether a scale is fitted to X. Then the values of a column must differ by more than the
        precision of float64; this is not checked in scoring.

    Returns
    -------
    array-like
        A data frame is returned unchanged, so that its names are kept. A tensor, list or object
        array becomes a numpy array: a tensor that requires a gradient is detached, bfloat16 becomes
        float32, and a decimal or a fraction the nearest float64 number.

    Raises
    ------
    TypeError
        For a DataLoader, an IterableDataset, a generator, a mapping, a lazy or sparse table, for
        times, and for objects that are not numbers.
    ValueError
        For missing values (NaN, None, NaT, NA, null, masked), infinity, strings (also those that
        look like numbers), complex numbers, rows of unequal length, and columns of large numbers
        that float64 cannot distinguish.

    Examples
    --------
    >>> from gandetect.data.values import checked_values
    >>> checked_values([[1, 2.5], [3, 4.0]])
    array([[1. , 2.5],
           [3. , 4. ]])
    >>> checked_values([[1.0, 2.0], [3.0, None]])
    Traceback (most recent call last):
        ...
    ValueError: Input X contains NaN: 1 of 2 values are missing in column 1. Impute them (for \
instance with sklearn.impute.SimpleImputer), leave out these samples, or fit a detector with \
columns={} or to a table, which encode missing values.
    """
    if sparse.issparse(X):  # one of its types is also a mapping
        return X
    _refuse_no_table(X, name)
    if isinstance(X, torch.Tensor):
        X = _of_tensor(X, name)
    if (found := _columns_of(X)) is not None:
        columns = list(found)
        if not columns:
            raise ValueError(f"Found 0 features in {name}: the table has no columns.")
        check_names_differ([label for label, _ in columns], name)
        for i, (label, column) in enumerate(columns):
            values = _cells_of(column)[:, None]
            converted = _check_values(values, name, [label], fit)
            if converted is not values:
                X = _with_column(X, i, label, converted[:, 0])
        return X
    array = _of_list(X, name) if isinstance(X, list | tuple) else _as_array(X, name)
    if array is None:
        return X
    if isinstance(array, np.memmap):
        # For numbers, only the dtype is checked, without reading a page.
        _check_values(array[: array.dtype.kind not in "biuf"], name, None, fit)
        return X
    converted = _check_values(array, name, None, fit)
    # A Series is not converted, so that scikit-learn raises its own error.
    return (
        X
        if converted is array and not isinstance(X, list | tuple | np.ma.MaskedArray)
        else converted
    )


def check_names_differ(names: Sequence[Any], name: str = "X") -> None:
    """Raise a ValueError if two columns of a table have the same name.

    Parameters
    ----------
    names : sequence
        The names of the columns.
    name : str, default="X"
        The name of the table in messages.

    Examples
    --------
    >>> from gandetect.data.values import check_names_differ
    >>> check_names_differ(["a", "b", "a"])
    Traceback (most recent call last):
        ...
    ValueError: Columns must differ in their names, but X has 2 with the name 'a': rename one.
    """
    label, n = Counter(names).most_common(1)[0]
    if n > 1:
        raise ValueError(
            f"Columns must differ in their names, but {name} has {n} with the name {label!r}: "
            "rename one."
        )


def checked_sample(item: Any, position: int) -> NDArray[Any]:
    """Convert one item of a torch Dataset to a numeric array.

    Parameters
    ----------
    item : array-like, tensor, or tuple that begins with one
        The item of the dataset. Labels after a sample are ignored.
    position : int
        The index of the item, for messages.

    Returns
    -------
    ndarray
        The sample; its values are not checked.

    Raises
    ------
    TypeError
        If the item is a mapping or does not contain real numbers.

    Examples
    --------
    >>> import torch
    >>> from gandetect.data.values import checked_sample
    >>> checked_sample((torch.ones(2, dtype=torch.bfloat16, requires_grad=True), "label"), 0)
    array([1., 1.], dtype=float32)
    """
    what = f"Sample {position} of the dataset"
    if isinstance(item, tuple | list) and len(item):
        item = item[0]
    if isinstance(item, Mapping):
        raise TypeError(
            f"{what} is a {type(item).__name__} with the keys {_shown(item)}: a dataset must "
            "return the sample itself, or a tuple that begins with it."
        )
    if isinstance(item, torch.Tensor):
        item = _of_tensor(item, what)
    sample = np.asarray(item)
    if sample.dtype.kind not in "biuf":
        given = type(item).__name__ if sample.dtype.kind == "O" else f"dtype {sample.dtype}"
        raise TypeError(
            f"Samples of the dataset must be numeric, but sample {position} has {given}: return "
            "arrays or tensors of numbers."
        )
    if sample.size == 0:
        raise ValueError(
            f"{what} is empty, of shape {sample.shape}: at least one number is required."
        )
    return sample


def sound_limits(values: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the limits of the values from which the scale of a column is fitted.

    One extreme value can determine the mean, standard deviation and range of a column: with a fill
    value of 1e36, all other values become equal after scaling. A value is extreme if it is a
    hundred times farther from the median than the next one, and at most a tenth of the values are
    as far.

    Parameters
    ----------
    values : ndarray of shape (n_samples, n_features)
        Rows in the units of X: all, or some thousand of the first.

    Returns
    -------
    low, high : ndarray of shape (n_features,)
        For columns with extreme values, the range of the others around the median; for other
        columns a thousand times their range, and infinite for constant columns. Clip with them only
        the values from which the scale is fitted.

    Examples
    --------
    >>> import numpy as np
    >>> from gandetect.data.values import sound_limits
    >>> low, high = sound_limits(np.array([[1.0], [2.0], [4.0], [3.0], [2.0]] * 4 + [[1e36]]))
    >>> low.tolist(), high.tolist()
    ([0.0], [4.0])
    """
    values = np.asarray(values, dtype=np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        median = np.median(values, axis=0)
        distances = np.sort(np.abs(values - median), axis=0)
        first = max(1, int(np.ceil(0.9 * len(values))))
        inner, outer = distances[first - 1 : -1], distances[first:]
        is_gap = (inner > 0) & (outer > _WILD_FACTOR * inner)
        reach = np.where(distances[-1] > 0, 1e3 * distances[-1], np.inf)
        if len(is_gap):
            at_gap = np.take_along_axis(inner, np.argmax(is_gap, axis=0)[None], axis=0)[0]
            reach = np.where(is_gap.any(axis=0), at_gap, reach)
        return median - reach, median + reach


def identifier_reason(name: str, values: NDArray[Any]) -> str | None:
    """Return why a column of numbers, without missing values, is an identifier.

    Parameters
    ----------
    name : str
    values : ndarray of shape (n_samples,)

    Returns
    -------
    str or None
        None if the column is no identifier. Only integers without repetition are: consecutive ones
        in at least 50 rows, or in at least 10 rows if the name is typical of identifiers.

    Examples
    --------
    >>> import numpy as np
    >>> from gandetect.data.values import identifier_reason
    >>> identifier_reason("customer_id", np.arange(10) ** 2)
    'integers without repetition, and the name of an identifier'
    >>> identifier_reason("age", np.arange(10) ** 2) is None
    True
    """
    n = len(values)
    if values.dtype.kind not in "iu" or n < MIN_ID_ROWS or len(np.unique(values)) < n:
        return None
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)
    if _ID_WORDS & {word.lower() for word in words}:
        return "integers without repetition, and the name of an identifier"
    if n >= _MIN_NUMBERED_ROWS and int(values.max()) - int(values.min()) == n - 1:
        return "consecutive integers"
    return None


def wild_values_warning(values: NDArray[Any], labels: Sequence[Any] | None = None) -> str | None:
    """Warn about columns with a few extreme values.

    Parameters
    ----------
    values : ndarray of shape (n_samples, n_features)
        As in `sound_limits`.
    labels : sequence, default=None
        Names of the columns of an encoded table, which may have missing values.

    Returns
    -------
    str or None
        A sentence for a warning; None if there is no such column.

    Examples
    --------
    >>> import numpy as np
    >>> from gandetect.data.values import wild_values_warning
    >>> wild_values_warning(np.array([[1.0], [2.0], [4.0], [3.0], [2.0]] * 4 + [[1e36]]))[:37]
    'Column 0 of X contains extreme values'
    """
    values = np.asarray(values, dtype=np.float64)
    low, high = sound_limits(values)
    is_wild = (values < low) | (values > high)
    columns = np.flatnonzero(is_wild.any(axis=0))
    if not len(columns):
        return None
    others = f" (and {len(columns) - 1} more)" if len(columns) > 1 else ""
    mark = is_wild[:, columns[0]]
    which, remedy = columns[0], "impute or leave out these samples"
    if labels is not None:
        which, remedy = repr(labels[columns[0]]), "name them in missing_values"
    return (
        f"Column {which}{others} of X contains extreme values: {mark.sum()} of {len(mark)}, such "
        f"as {values[np.argmax(mark), columns[0]]:.6g}, are over {_WILD_FACTOR} times as far from "
        "the median as all others. Its scale was fitted without them. If they mark missing values, "
        f"{remedy}."
    )


def wild_pixels_warning(ends: NDArray[np.float64]) -> str | None:
    """Warn about images with extreme pixels, which determine the scale of all images.

    Parameters
    ----------
    ends : ndarray of shape (n_samples, 2)
        The smallest and the largest value of each image.

    Returns
    -------
    str or None
        A sentence for a warning; None if there are no such images.

    Examples
    --------
    >>> import numpy as np
    >>> from gandetect.data.values import wild_pixels_warning
    >>> print(wild_pixels_warning(np.array([[0.0, 1.0]] * 9 + [[0.0, 1e30]])))
    1 of 10 images have extreme pixels, such as 1e+30, over 100 times as far from the median as \
the others, and their range is the scale of all images. If they mark missing values, replace them, \
or leave out these images.
    """
    low, high = sound_limits(ends.reshape(-1, 1))
    is_wild = (ends < low) | (ends > high)
    if not is_wild.any():
        return None
    return (
        f"{is_wild.any(axis=1).sum()} of {len(ends)} images have extreme pixels, such as "
        f"{ends[is_wild][0]:.6g}, over {_WILD_FACTOR} times as far from the median as the others, "
        "and their range is the scale of all images. If they mark missing values, replace them, or "
        "leave out these images."
    )


def skew_of(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Find the skewed columns of (n, d), with their end and unit.

    For amounts, counts and concentrations, ratios are more meaningful than differences. Therefore
    the logarithm of 1 + (value - end) / unit is scaled in such columns.

    Returns
    -------
    ndarray of shape (3, d)
        First row: 1 for a tail towards large values, -1 for a tail towards small values, 0 for
        neither. Second row: the end without a tail, times that sign. Third row: the distance from
        this end to the median or, if it is 0, the standard deviation.
    """
    mean, deviation = values.mean(0), values.std(0)
    varies = deviation > 10 * np.finfo(np.float64).eps * np.abs(mean)
    standardised = (values - mean) / np.where(varies, deviation, 1.0)
    skewness = np.where(varies, (standardised**3).mean(0), 0.0)
    side = np.where(np.abs(skewness) > _SKEWED, np.sign(skewness), 0.0)
    towards_tail = values * np.where(side < 0, -1.0, 1.0)
    end = towards_tail.min(0)
    unit = np.median(towards_tail, axis=0) - end
    unit = np.where(unit > 0, unit, np.where(deviation > 0, deviation, 1.0))
    return np.stack([side, np.where(side == 0, 0.0, end), unit])


def change_of_constant(x: Any, center: Any, size: float = 5.0) -> Any:
    """Return scaled values of columns that were constant in training, independent of their units.

    Such a column has no scale. Therefore every change beyond the rounding error of single precision
    gets the same size, up or down.

    Parameters
    ----------
    x : ndarray or Tensor of shape (..., n_features)
    center : ndarray or Tensor of shape (n_features,)
        The constants.
    size : float, default=5.0
        The scaled size of a change. The default is the largest size that is not compressed in
        other columns.

    Returns
    -------
    ndarray or Tensor of the shape of `x`
        0, or `size` with the sign of the change.

    Examples
    --------
    >>> import numpy as np
    >>> from gandetect.data.values import change_of_constant
    >>> change_of_constant(np.array([20.0, 20.1, 0.0]), np.array([20.0])).tolist()
    [0.0, 5.0, -5.0]
    """
    rounding = abs(center) * _SINGLE_ROUNDING
    return size * (1.0 * (x - center > rounding) - 1.0 * (x - center < -rounding))


def duplicates_warning(points: NDArray[Any], *, is_scaled: bool = False) -> str | None:
    """Warn about groups of nearly equal training samples that are far from all others.

    A frequent anomaly, such as an attack on a network, is reconstructed well and has near
    neighbours, as normal samples do, and can invert the ranking. Normal data rarely contain such
    groups.

    Parameters
    ----------
    points : ndarray of shape (n_samples, n_features)
        Training samples. Units do not matter.
    is_scaled : bool, default=False
        Whether the points are already scaled. Otherwise each column is standardised. Do not
        standardise encoded tables: it would move rows with a rare category or a missing value far
        from the others.

    Returns
    -------
    str or None
        The text of a warning that recommends `trim`; None if there is no such group. A group has 1
        to 25 % of the samples, at least 4. Its distance to the nearest other sample is over 6 times
        the largest step inside it, and larger than half of all distances from a sample or group to
        the nearest other one. If 40 % of the samples are in such groups, there is no warning.

    Notes
    -----
    Groups are found by single linkage clustering of at most 1,000 samples, drawn with a fixed seed,
    on 64 random projections if there are more than 256 columns. The distances need 4 megabytes.

    Examples
    --------
    >>> import numpy as np
    >>> from gandetect.data.values import duplicates_warning
    >>> X = np.random.default_rng(0).normal(size=(200, 4))
    >>> duplicates_warning(X) is None
    True
    >>> X[100:107] = 9.0
    >>> duplicates_warning(X)[:29]
    '3.5 % of the training samples'
    """
    rng = np.random.default_rng(0)
    points = np.asarray(points).reshape(len(points), -1)
    drawn = np.arange(len(points))
    if len(points) > _MOST_LINKED:
        drawn = np.sort(rng.choice(drawn, _MOST_LINKED, replace=False))
    points = points[drawn].astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        if not is_scaled:
            spread = points.std(axis=0)
            points = (points - points.mean(axis=0)) / np.where(spread > 0, spread, 1)
    n, n_columns = points.shape
    if n < 8 or not np.isfinite(points).all():
        return None
    if n_columns > 256:
        points = points @ rng.normal(size=(n_columns, 64))
    steps = linkage(points, "single")
    groups = steps[:, :2].astype(int)
    sizes = np.append(np.ones(n), steps[:, 3])[groups]
    inside = np.append(np.zeros(n), steps[:, 2])[groups]
    step = steps[:, 2:3]
    is_apart = (
        (sizes >= max(4, 0.01 * n))
        & (sizes <= 0.25 * n)
        & (step > _APART * inside)
        & (step >= np.median(step))
    )
    # In data with few integer values, most samples are duplicates; this is normal.
    if not 0 < sizes[is_apart].sum() < 0.4 * n:
        return None
    at = np.unravel_index(np.argmax(np.where(is_apart, step, 0)), sizes.shape)
    member, share = groups[at], sizes[is_apart].sum() / n
    while member >= n:
        member = groups[member - n].min()
    return (
        f"{100 * share:.2g} % of the training samples, such as number {drawn[member]}, are in "
        "groups of nearly equal samples far from all others: if they may be anomalies, fit with "
        f"trim={min(0.5, np.ceil(150 * share) / 100):g}, which leaves out that share of the "
        "samples."
    )


def looks_like_labels(name: str) -> bool:
    """Return whether the name of a column is typical of labels: is_fraud, class, target, y.

    Examples
    --------
    >>> from gandetect.data.values import looks_like_labels
    >>> [looks_like_labels(name) for name in ("is_fraud", "Label", "y", "yield", "classroom")]
    [True, True, True, False, False]
    """
    words = [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", str(name))]
    return bool(words) and (words == ["y"] or bool(_LABEL_WORDS & {words[-1], "".join(words)}))


def labels_warning(name: str, values: Sequence[Any]) -> str | None:
    """Warn about a column of labels that is used as a feature.

    Parameters
    ----------
    name : str
        A name for which `looks_like_labels` is True.
    values : sequence
        The different values of the column.

    Returns
    -------
    str or None
        None for more than two values, no values, or fractions.

    Examples
    --------
    >>> from gandetect.data.values import labels_warning
    >>> print(labels_warning("is_fraud", [0, 1]))
    Column 'is_fraud', with the values 0 and 1, looks like labels, but is used as a feature: \
leave it out of X (on the command line --label-column is_fraud), or set \
columns={'is_fraud': 'drop'}. columns={'is_fraud': 'category'} keeps it without this warning.
    >>> labels_warning("class", ["first", "second", "third"])
    """
    is_broken = any(isinstance(value, float) and not value.is_integer() for value in values)
    if is_broken or not 1 <= len(values) <= 2:
        return None
    shown = " and ".join(f"{v:g}" if isinstance(v, float) else repr(v) for v in values)
    what = f"the values {shown}" if len(values) == 2 else f"only {shown}"
    return (
        f"Column {name!r}, with {what}, looks like labels, but is used as a feature: "
        f"leave it out of X (on the command line --label-column {name}), or set "
        f"columns={{{name!r}: 'drop'}}. columns={{{name!r}: 'category'}} keeps it without this "
        "warning."
    )


def identifier_warning(name: str) -> str:
    """Warn about a column of identifiers that is used as a feature.

    Examples
    --------
    >>> from gandetect.data.values import identifier_warning
    >>> print(identifier_warning("id"))
    Column 'id' has another whole number in every row, as identifiers have, but is used as a \
feature: leave it out of X (on the command line --id-column id), or set columns={'id': 'drop'}. \
columns={'id': 'number'} keeps it without this warning.
    """
    return (
        f"Column {name!r} has another whole number in every row, as identifiers have, but is used "
        f"as a feature: leave it out of X (on the command line --id-column {name}), or set "
        f"columns={{{name!r}: 'drop'}}. columns={{{name!r}: 'number'}} keeps it without this "
        "warning."
    )


def _refuse_no_table(X: Any, name: str) -> None:
    """Raise TypeError for data that cannot be read in any order."""
    kind = f"a {type(X).__name__}"
    if isinstance(X, DataLoader):
        way_out = "pass its dataset (loader.dataset); batches are made by batch_size"
    elif isinstance(X, IterableDataset):
        kind += ", an IterableDataset"
        way_out = "pass a Dataset that has __len__ and __getitem__, or an array"
    elif isinstance(X, Dataset) and not hasattr(X, "__len__"):
        kind += " without a length"
        way_out = "give the Dataset a __len__, or pass an array"
    elif isinstance(X, Mapping):
        way_out = f"pass an array or a table (pandas.DataFrame({name}))"
    elif isinstance(X, io.IOBase):
        way_out = "pass the path of the file"
    elif isinstance(X, Iterator):
        way_out = f"it can be read only once, so pass a list or an array (list({name}))"
    elif isinstance(X, Set):
        way_out = "it has no order, so pass a list or an array"
    elif kind == "a LazyFrame":
        way_out = f"collect it first ({name}.collect())"
    elif _is_foreign_table(X):
        way_out = f"convert it to a table first (pandas.DataFrame or pyarrow.table({name}))"
    elif X is None or isinstance(X, bytes | type | torch.device | BaseEstimator):
        kind = "None" if X is None else kind
        way_out = "pass an array, a table, a Dataset or a path"
    else:
        return
    raise TypeError(f"{name} cannot be {kind}: {way_out}.")


def _is_foreign_table(X: Any) -> bool:
    """Whether X is a table of a package that is not read: it has a protocol of tables only."""
    protocols = ("__arrow_c_stream__", "__dataframe__")
    is_read = hasattr(X, "__array__") or isinstance(X, type)
    return not is_read and any(hasattr(X, protocol) for protocol in protocols)


def _of_tensor(X: torch.Tensor, name: str) -> NDArray[Any]:
    if X.is_nested:
        raise TypeError(f"{name} is a nested tensor: pass samples of the same shape.")
    if X.layout != torch.strided:
        raise TypeError(
            f"Sparse data was passed for {name}, but dense data is required: call to_dense()."
        )
    if X.device.type == "meta":
        raise TypeError(f"{name} is a tensor on the device 'meta', which has no data.")
    if X.is_quantized:
        raise TypeError(f"{name} is a quantized tensor ({X.dtype}): pass its dequantize().")
    X = X.detach().cpu().resolve_conj().resolve_neg()
    if X.dtype == torch.complex32:  # which numpy does not have
        X = X.to(torch.complex64)
    if X.is_floating_point() and X.dtype not in (torch.float64, torch.float32, torch.float16):
        X = X.float()
    values: NDArray[Any] = X.numpy()
    return values


def _of_list(X: Sequence[Any], name: str) -> NDArray[Any]:
    if any(isinstance(row, torch.Tensor) for row in X):
        X = [_of_tensor(row, name) if isinstance(row, torch.Tensor) else row for row in X]
    if any(np.ma.is_masked(row) for row in X):
        raise _missing(name, "a masked row")
    try:
        array = np.asarray(X)
    except ValueError as error:
        shapes = [np.shape(row) if not isinstance(row, list | tuple) else (len(row),) for row in X]
        odd = next((i for i, shape in enumerate(shapes) if shape != shapes[0]), None)
        if odd is None:
            raise ValueError(f"{name} has an inhomogeneous shape: {error}") from error
        raise ValueError(
            f"{name} has an inhomogeneous shape: its first sample has {shapes[0]}, sample {odd} "
            f"has {shapes[odd]}; all must have the same shape."
        ) from error
    # numpy converts numbers to strings if one value is a string.
    return np.asarray(X, dtype=object) if array.dtype.kind in "US" else array


def _as_array(X: Any, name: str) -> NDArray[Any] | None:
    """Return X as an array, or None if scikit-learn's checks apply."""
    if np.ma.isMaskedArray(X):
        if np.ma.is_masked(X):
            raise _missing(name, f"{int(np.ma.count_masked(X))} of {X.size} values are masked")
        return np.asarray(X)
    if isinstance(X, np.ndarray):
        return X
    return np.asarray(X) if hasattr(X, "__array__") else None


def _columns_of(X: Any) -> Iterator[tuple[Any, Any]] | None:
    """The columns of a table with their names, or None for other data."""
    if hasattr(X, "iloc") and hasattr(X, "columns"):  # pandas
        return ((label, X.iloc[:, i]) for i, label in enumerate(X.columns))
    if hasattr(X, "column_names"):  # pyarrow
        return zip(X.column_names, X.itercolumns(), strict=True)
    if hasattr(X, "get_columns"):  # polars
        return ((column.name, column) for column in X.get_columns())
    return None


def _cells_of(column: Any) -> NDArray[Any]:
    """The cells of one column as an array; integers of 128 bits as objects."""
    has_128_bits = str(getattr(column, "dtype", "")).endswith("Int128")
    return np.array(column.to_list(), dtype=object) if has_128_bits else np.asarray(column)


def _with_column(X: Any, i: int, label: Any, values: NDArray[np.float64]) -> Any:
    """Return the table with decimals as floats; scikit-learn converts them for pandas only."""
    if hasattr(X, "set_column"):  # pyarrow
        return X.set_column(i, label, [values])
    return X if hasattr(X, "iloc") else X.with_columns(X[label].cast(float))


def _check_values(
    array: NDArray[Any], name: str, labels: Sequence[Any] | None, fit: bool
) -> NDArray[Any]:
    """Raise unless values are real and finite; convert objects and long doubles to float64."""

    def place(bad: NDArray[np.bool_]) -> str:
        return _place(bad, labels)

    kind = array.dtype.kind
    if kind in "mM":
        raise TypeError(
            f"{name} must be numeric, but {place(np.ones(array.shape, bool))} contains times "
            f"({array.dtype}): convert them to numbers first, such as hours after a fixed date, "
            "and impute missing ones (NaT)."
        )
    if kind == "c":
        raise _complex(name, place(np.ones(array.shape, bool)))
    if kind in "UST":
        raise _words(name, place(np.ones(array.shape, bool)), array.flat[0] if array.size else "")
    if kind == "V":
        raise TypeError(
            f"{name} has dtype {array.dtype}: convert it to numbers first (structured arrays with "
            "numpy.lib.recfunctions.structured_to_unstructured)."
        )
    exact = array
    if kind == "O":
        array = _of_objects(array, name, place)
    elif kind == "f" and array.dtype.itemsize > 8:
        with np.errstate(over="ignore"):
            array = array.astype(np.float64)
    if array.dtype.kind == "f" and not (finite := np.isfinite(array)).all():
        if np.isnan(array).any():
            bad = np.isnan(array)
            raise _missing(name, f"{_count(bad)} are missing in {place(bad)}")
        raise ValueError(
            f"Input {name} contains infinity or a value too large for dtype('float64'): "
            f"{_count(~finite)} in {place(~finite)}. Replace them, or leave out these samples."
        )
    if fit and array.ndim == 2 and len(array):
        check_digits(array, exact, name, labels)
    return array


def _of_objects(
    array: NDArray[Any], name: str, place: Callable[[NDArray[np.bool_]], str]
) -> NDArray[np.float64]:
    """Convert objects that are real numbers; raise for missing values and other objects."""
    values = np.zeros(array.shape)
    missing = np.zeros(array.shape, dtype=bool)
    for index, value in np.ndenumerate(array):
        if value is None or type(value).__name__ in ("NAType", "NaTType"):
            missing[index] = True
        elif isinstance(value, Real | Decimal | np.bool_):
            try:
                values[index] = float(value)
            except OverflowError:
                values[index] = np.inf
        else:
            here = np.zeros(array.shape, dtype=bool)
            here[index] = True
            raise _no_number(value, name, place(here))
    if missing.any():
        raise _missing(name, f"{_count(missing)} are missing in {place(missing)}")
    return values


def _no_number(value: Any, name: str, where: str) -> Exception:
    """Return the error for an object in X."""
    if isinstance(value, str | bytes):
        return _words(name, where, value)
    if isinstance(value, os.PathLike):
        return _paths(name, where, value)
    if isinstance(value, Complex):
        return _complex(name, where)
    if isinstance(value, _TIMES) or type(value).__name__ == "Period":
        return TypeError(
            f"{name} must be numeric, but {where} contains times ({value!r}): convert them to "
            "numbers first, such as hours after a fixed date."
        )
    return TypeError(
        f"argument must be a string or a real number, not '{type(value).__name__}': {where} of "
        f"{name} contains one, but only numbers are supported."
    )


def _paths(name: str, where: str, value: Any) -> TypeError:
    return TypeError(
        f"{name} must contain samples, but {where} contains the path {os.fspath(value)!r}: for "
        f"images pass gandetect.datasets.ImageFiles({name}); read other files first."
    )


def _words(name: str, where: str, value: Any) -> Exception:
    if isinstance(value, str) and value.lower().endswith(IMAGE_SUFFIXES):
        return _paths(name, where, str(value))
    shown = str(value) if isinstance(value, str) else value  # plain str instead of numpy.str_
    return ValueError(
        f"could not convert string to float: {where} of {name} contains {shown!r}. To encode "
        "strings, fit a detector with columns={} or to a table; convert numbers in text form with "
        "astype(float)."
    )


def _complex(name: str, where: str) -> ValueError:
    return ValueError(
        f"Complex data not supported: {where} of {name} contains complex numbers. Pass their real "
        "and imaginary parts as two columns."
    )


def _missing(name: str, what: str) -> ValueError:
    if not name.startswith("X"):  # such as the maps of a metric, which no detector encodes
        return ValueError(f"Input {name} contains NaN: {what}. Replace them.")
    return ValueError(
        f"Input {name} contains NaN: {what}. Impute them (for instance with "
        "sklearn.impute.SimpleImputer), leave out these samples, or fit a detector with columns={} "
        "or to a table, which encode missing values."
    )


def _place(bad: NDArray[np.bool_], labels: Sequence[Any] | None) -> str:
    """Return the place of the first marked value: the column for rows, the sample for images."""
    if bad.ndim == 0:
        return "it"
    if bad.ndim == 2:
        column = int(np.argmax(bad.any(axis=0))) if bad.size else 0
        return f"column {labels[column]!r}" if labels is not None else f"column {column}"
    return f"sample {int(np.argmax(bad.reshape(len(bad), -1).any(axis=1)))}" if bad.size else "it"


def _count(bad: NDArray[np.bool_]) -> str:
    """Return the number of marked values at the place that `_place` returns."""
    if bad.ndim == 2:
        bad = bad[:, np.argmax(bad.any(axis=0))]
    elif bad.ndim:
        bad = bad[np.argmax(bad.reshape(len(bad), -1).any(axis=1))]
    return f"{int(bad.sum())} of {bad.size} values"


def _shown(values: Any) -> str:
    return ", ".join(map(repr, list(values)[:6]))


def check_digits(
    values: NDArray[Any], exact: NDArray[Any], name: str, labels: Sequence[Any] | None
) -> None:
    """Raise ValueError for a column whose differences are below the precision of float64.

    Parameters
    ----------
    values : ndarray of shape (n, d)
        The numbers; other dtypes than those of 64 bits are not checked.
    exact : ndarray of shape (n, d)
        The same numbers with all their digits, also as objects.
    name : str
        The name of the table in messages.
    labels : sequence of length d, or None
        The names of the columns in messages.
    """
    if values.dtype.kind not in "iuf" or values.dtype.itemsize < 8:
        return
    ends = values.min(axis=0).astype(np.float64), values.max(axis=0).astype(np.float64)
    sizes = np.maximum(*np.abs(ends))
    for i in np.flatnonzero(sizes >= _EXACT_INTEGERS):
        width = _exact(exact[:, i].max()) - _exact(exact[:, i].min())
        step = float(np.spacing(sizes[i]))
        # Equal floats may be a true constant; for equal large integers, the next integer would be
        # rounded to the same float.
        is_constant = width == 0 and exact.dtype.kind == "f"
        if width < _FEWEST_STEPS * Fraction(step) and not is_constant:
            which = repr(labels[int(i)]) if labels is not None else str(i)
            raise ValueError(
                f"Column {which} of {name} contains numbers around {sizes[i]:.3g} that differ by "
                f"{float(width):.3g} at most, which float64 cannot distinguish (its spacing there "
                f"is {step:.3g}): subtract an offset from the column first, such as its smallest "
                "value, or leave the column out if it is an index of the samples."
            )


def _exact(value: Any) -> Fraction:
    if isinstance(value, Integral | np.bool_):
        return Fraction(int(value))
    return Fraction(value if isinstance(value, Decimal | Fraction) else float(value))
