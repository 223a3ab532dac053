"""What passes for a number: checks of the user's values that scikit-learn does not make.

Nothing here changes X or depends on a detector. A missing value, a time or a word never becomes a
number, and numbers that float64 cannot tell apart are refused instead of rounded.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from decimal import Decimal
from fractions import Fraction
from numbers import Complex, Integral, Real
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch.utils.data import DataLoader, IterableDataset

# Above this, float64 does not hold every integer.
_EXACT_INTEGERS = 2**53
# A column whose values spread over fewer of float64's steps than this has lost its digits.
_FEWEST_STEPS = 1024


def checked_values(X: Any, name: str = "X", *, fit: bool = False) -> Any:
    """Refuse what is no real number in X, and convert what scikit-learn cannot read.

    To be called before scikit-learn's validation, which it does not replace: the number of
    dimensions, of samples and of features, and sparse matrices are left to that. Errors begin
    with scikit-learn's words where it has some.

    Parameters
    ----------
    X : array-like, tensor or data frame
        A list, numpy array, torch tensor, or a table of pandas, polars or pyarrow. The values of
        a memory map are not read, as they are checked when they are read later.
    name : str, default="X"
        What errors call X.
    fit : bool, default=False
        Whether a scale is about to be learned from X: then the values of a column must differ by
        more than float64 rounds them. A single sample to be scored says nothing of that.

    Returns
    -------
    array-like
        A data frame as it came, so that its names are kept. A tensor, list or object array as a
        numpy array: of a tensor that requires a gradient its values, of bfloat16 float32 ones, of
        a decimal or a fraction the nearest float64 number.

    Raises
    ------
    TypeError
        For a DataLoader, an IterableDataset, a generator, a mapping, a lazy or sparse table, for
        times, and for objects that are no numbers.
    ValueError
        For missing values (NaN, None, NaT, NA, null, masked), infinity, words (also those that
        look like numbers), complex numbers, rows of unequal length, and columns of large numbers
        that float64 cannot tell apart.

    Examples
    --------
    >>> from gandetect.data.values import checked_values
    >>> checked_values([[1, 2.5], [3, 4.0]])
    array([[1. , 2.5],
           [3. , 4. ]])
    >>> checked_values([[1.0, 2.0], [3.0, None]])
    Traceback (most recent call last):
        ...
    ValueError: Input X contains NaN: column 1 misses 1 of 2 values. Impute them (for instance \
with sklearn.impute.SimpleImputer), or leave out these samples.
    """
    _refuse_no_table(X, name)
    if isinstance(X, torch.Tensor):
        X = _of_tensor(X, name)
    if sparse.issparse(X):
        return X
    columns = _columns_of(X)
    if columns is not None:
        for label, column in columns:
            _check_values(np.asarray(column)[:, None], name, [label], fit)
        return X
    array = _of_list(X, name) if isinstance(X, list | tuple) else _as_array(X, name)
    if array is None or isinstance(array, np.memmap):
        return X
    converted = _check_values(array, name, None, fit)
    return X if converted is array and not isinstance(X, list | tuple) else converted


def checked_sample(item: Any, position: int) -> NDArray[Any]:
    """One item of a torch Dataset as a numeric array.

    Parameters
    ----------
    item : array-like, tensor, or tuple that begins with one
        What the dataset gave. Labels behind a sample are not looked at.
    position : int
        Its number, for errors.

    Returns
    -------
    ndarray
        The sample, whose values are not looked at.

    Raises
    ------
    TypeError
        If the item is a mapping or holds no real numbers.

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
            f"{what} is a {type(item).__name__} with the keys {_shown(item)}: a dataset must give "
            "the sample itself, or a tuple that begins with it."
        )
    if isinstance(item, torch.Tensor):
        item = _of_tensor(item, what)
    sample = np.asarray(item)
    if sample.dtype.kind not in "biuf":
        given = type(item).__name__ if sample.dtype.kind == "O" else f"dtype {sample.dtype}"
        raise TypeError(
            f"Samples of the dataset must be numeric, but sample {position} has {given}: give "
            "arrays or tensors of numbers."
        )
    return sample


def _refuse_no_table(X: Any, name: str) -> None:
    """Raise TypeError for what holds samples, but cannot be read in any order."""
    kind = type(X).__name__
    if isinstance(X, DataLoader):
        way_out = "pass its dataset (loader.dataset); batches are made by batch_size"
    elif isinstance(X, IterableDataset):
        way_out = "pass a Dataset that has __len__ and __getitem__, or an array"
    elif isinstance(X, Mapping):
        way_out = f"pass an array or a table (pandas.DataFrame({name}))"
    elif isinstance(X, Iterator):
        way_out = f"it can be read only once, so pass a list or an array (list({name}))"
    elif isinstance(X, Set):
        way_out = "it has no order, so pass a list or an array"
    elif kind == "LazyFrame":
        way_out = f"collect it first ({name}.collect())"
    elif X is None:
        way_out = "pass an array, a table, a Dataset or a path"
    else:
        return
    raise TypeError(f"{name} cannot be a {kind}: {way_out}.")


def _of_tensor(X: torch.Tensor, name: str) -> NDArray[Any]:
    if X.layout != torch.strided:
        raise TypeError(
            f"Sparse data was passed for {name}, but dense data is required: call to_dense()."
        )
    if X.device.type == "meta":
        raise TypeError(f"{name} is a tensor on the device 'meta', which holds no values.")
    X = X.detach().cpu().resolve_conj().resolve_neg()
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
            raise ValueError(f"{name} is not rectangular: {error}") from error
        raise ValueError(
            f"The samples of {name} differ in shape: the first has {shapes[0]}, sample {odd} has "
            f"{shapes[odd]}; all must have one shape."
        ) from error
    # numpy turns the numbers beside a word into words, too.
    return np.asarray(X, dtype=object) if array.dtype.kind in "US" else array


def _as_array(X: Any, name: str) -> NDArray[Any] | None:
    """X as an array, or None for what scikit-learn is to judge."""
    if np.ma.isMaskedArray(X):
        if np.ma.is_masked(X):
            raise _missing(name, f"{int(np.ma.count_masked(X))} of {X.size} values are masked")
        return np.asarray(X)
    if isinstance(X, np.ndarray):
        return X
    return np.asarray(X) if hasattr(X, "__array__") else None


def _columns_of(X: Any) -> Iterator[tuple[Any, Any]] | None:
    """The columns of a table with their names, or None if X is none."""
    if hasattr(X, "iloc") and hasattr(X, "columns"):  # pandas
        return ((label, X.iloc[:, i]) for i, label in enumerate(X.columns))
    if hasattr(X, "column_names"):  # pyarrow
        return zip(X.column_names, X.itercolumns(), strict=True)
    if hasattr(X, "get_columns"):  # polars
        return ((column.name, column) for column in X.get_columns())
    return None


def _check_values(
    array: NDArray[Any], name: str, labels: Sequence[Any] | None, fit: bool
) -> NDArray[Any]:
    """Raise for what is no real and finite number; objects and long doubles become float64."""

    def place(bad: NDArray[np.bool_]) -> str:
        return _place(bad, labels)

    kind = array.dtype.kind
    if kind in "mM":
        raise TypeError(
            f"{name} must be numeric, but {place(np.ones(array.shape, bool))} holds times "
            f"({array.dtype}): turn them into numbers first, such as hours since a date, and "
            "impute missing ones (NaT)."
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
            raise _missing(name, f"{place(bad)} misses {_count(bad)}")
        raise ValueError(
            f"Input {name} contains infinity or a value too large for dtype('float64'): "
            f"{place(~finite)} has {_count(~finite)} of this kind. Replace them, or leave out "
            "these samples."
        )
    if fit and array.ndim == 2 and len(array):
        _check_digits(array, exact, name, labels)
    return array


def _of_objects(
    array: NDArray[Any], name: str, place: Callable[[NDArray[np.bool_]], str]
) -> NDArray[np.float64]:
    """Objects that are real numbers, one by one; missing ones and others are refused."""
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
        raise _missing(name, f"{place(missing)} misses {_count(missing)}")
    return values


def _no_number(value: Any, name: str, where: str) -> Exception:
    """The error for an object in X."""
    if isinstance(value, str | bytes):
        return _words(name, where, value)
    if isinstance(value, Complex):
        return _complex(name, where)
    if isinstance(
        value, datetime.date | datetime.time | datetime.timedelta | np.datetime64 | np.timedelta64
    ):
        return TypeError(
            f"{name} must be numeric, but {where} holds times ({value!r}): turn them into numbers "
            "first, such as hours since a date."
        )
    return TypeError(
        f"argument must be a string or a real number, not '{type(value).__name__}': {where} of "
        f"{name} holds one, and only numbers can be read."
    )


def _words(name: str, where: str, value: Any) -> ValueError:
    return ValueError(
        f"could not convert string to float: {where} of {name} holds {value!r}. Encode words (for "
        "instance with sklearn.preprocessing.OneHotEncoder), and convert numbers that came as text "
        "with astype(float)."
    )


def _complex(name: str, where: str) -> ValueError:
    return ValueError(
        f"Complex data not supported: {where} of {name} holds complex numbers. Pass their real and "
        "imaginary parts as two columns."
    )


def _missing(name: str, what: str) -> ValueError:
    return ValueError(
        f"Input {name} contains NaN: {what}. Impute them (for instance with "
        "sklearn.impute.SimpleImputer), or leave out these samples."
    )


def _place(bad: NDArray[np.bool_], labels: Sequence[Any] | None) -> str:
    """Where the first of what is marked lies: the column of rows, the sample of images."""
    if bad.ndim == 2:
        column = int(np.argmax(bad.any(axis=0))) if bad.size else 0
        return f"column {labels[column]!r}" if labels is not None else f"column {column}"
    return f"sample {int(np.argmax(bad.reshape(len(bad), -1).any(axis=1)))}" if bad.size else "it"


def _count(bad: NDArray[np.bool_]) -> str:
    """How many are marked in the place that `_place` names."""
    if bad.ndim == 2:
        bad = bad[:, np.argmax(bad.any(axis=0))]
    elif bad.ndim:
        bad = bad[np.argmax(bad.reshape(len(bad), -1).any(axis=1))]
    return f"{int(bad.sum())} of {bad.size} values"


def _shown(values: Any) -> str:
    return ", ".join(map(repr, list(values)[:6]))


def _check_digits(
    values: NDArray[Any], exact: NDArray[Any], name: str, labels: Sequence[Any] | None
) -> None:
    """Raise ValueError for a column whose differences are lost among the digits of float64."""
    if values.dtype.kind not in "iuf" or values.dtype.itemsize < 8:
        return
    ends = values.min(axis=0).astype(np.float64), values.max(axis=0).astype(np.float64)
    sizes = np.maximum(*np.abs(ends))
    for i in np.flatnonzero(sizes >= _EXACT_INTEGERS):
        width = _exact(exact[:, i].max()) - _exact(exact[:, i].min())
        step = float(np.spacing(sizes[i]))
        # Floats that are all alike may be a constant; of integers the next one would be rounded.
        is_constant = width == 0 and exact.dtype.kind == "f"
        if width < _FEWEST_STEPS * Fraction(step) and not is_constant:
            which = repr(labels[i]) if labels is not None else str(i)
            raise ValueError(
                f"Column {which} of {name} holds numbers around {sizes[i]:.3g} that differ by "
                f"{float(width):.3g} at most, which float64 cannot tell apart (its neighbours are "
                f"{step:.3g} apart there): subtract an offset from the column first, such as its "
                "smallest value."
            )


def _exact(value: Any) -> Fraction:
    if isinstance(value, Integral | np.bool_):
        return Fraction(int(value))
    return Fraction(value if isinstance(value, Decimal | Fraction) else float(value))
