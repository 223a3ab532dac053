"""Reading tables as columns of numbers, dates or strings with missing values.

A table is one of pandas, polars or pyarrow, a dict of columns, an array with named fields, or an
array or list of rows. A package is imported only for its own tables.
"""

from __future__ import annotations

import math
import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from numbers import Integral, Real
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

from gandetect.data.dates import moment_of
from gandetect.data.parquet import index_columns
from gandetect.data.tables import bare_number, number_in_ascii
from gandetect.data.values import check_names_differ

# A number with a decimal point. Not "007", which is a code, nor "nan", "inf" or "1_000".
_NUMBER = re.compile(r"[+-]?(0|[1-9]\d*|(?=\.\d))(\.\d*)?([eE][+-]?\d+)?")
_OFFSET = re.compile(r"(?:UTC)?([+-])(\d\d):?(\d\d)")
_MICROSECOND = timedelta(microseconds=1)
_EPOCH = datetime(1970, 1, 1)
_NUMERIC = (Real, Decimal)
_CELLS = (str, date, *_NUMERIC)
_TIMES = (time, timedelta, np.timedelta64)
# Rows of a table that are searched first for values other than numbers.
_HEAD_ROWS = 100


@dataclass(frozen=True, eq=False)
class Numbers:
    """A column of numbers.

    Parameters
    ----------
    values : ndarray of shape (n,)
        In the dtype of the table, so that large integers keep their digits. 0 if missing.
    missing : ndarray of bool, shape (n,)
    are_times : bool, default=False
        Whether they are the seconds of durations or of times of day.
    """

    values: np.ndarray
    missing: np.ndarray
    are_times: bool = False


@dataclass(frozen=True, eq=False)
class Dates:
    """A column of dates and times.

    Parameters
    ----------
    values : ndarray of int64, shape (n,)
        Microseconds from 1970 on, in UTC if the table has a time zone. 0 if missing.
    missing : ndarray of bool, shape (n,)
    zone : str
        Name or offset of the time zone, empty without one.
    """

    values: np.ndarray
    missing: np.ndarray
    zone: str = ""


@dataclass(frozen=True, eq=False)
class Words:
    """A column of other values, as codes of its different values.

    Parameters
    ----------
    codes : ndarray of int64, shape (n,)
        Positions in `levels`, -1 if missing.
    levels : list
        The different values: str, bool, int, float, datetime, ...
    is_category : bool
        Whether the column has the categorical dtype of the table.
    """

    codes: np.ndarray
    levels: list[Any]
    is_category: bool = False

    @property
    def missing(self) -> np.ndarray:
        """Whether each value is missing: bool (n,)."""
        return self.codes < 0


Column = Numbers | Dates | Words


@dataclass(frozen=True, eq=False)
class Frame:
    """A table, column by column.

    Parameters
    ----------
    names : list of str
        The names of the columns; those without names have their positions, "0", "1", ...
    columns : list of Numbers, Dates or Words
    has_names : bool
        Whether the columns have names.
    """

    names: list[str]
    columns: list[Column]
    has_names: bool

    def __len__(self) -> int:
        return len(self.columns[0].missing) if self.columns else 0

    def rows(self, index: slice | np.ndarray) -> Frame:
        """Return some of its rows, by positions."""
        return Frame(self.names, [_rows(column, index) for column in self.columns], self.has_names)

    def kept(self, index: np.ndarray) -> Frame:
        """Return some of its rows as if the table had no others."""
        columns = [_used(_rows(column, index)) for column in self.columns]
        return Frame(self.names, columns, self.has_names)


def needs_encoding(X: Any) -> bool:
    """Whether X is a table that needs a `ColumnEncoder`.

    A table of numbers and booleans without missing values needs none, nor does an array of numbers,
    in which a missing value is an error. The type of an array, and often the first rows of a table,
    are sufficient.

    Parameters
    ----------
    X : table, array-like or anything else
        Other data, such as a torch Dataset or a path, need none.

    Returns
    -------
    bool

    Examples
    --------
    >>> import numpy as np
    >>> needs_encoding(np.zeros((3, 2))), needs_encoding({"a": [1.0, None], "b": ["x", "y"]})
    (False, True)
    """
    if isinstance(X, list | tuple):
        try:
            X = np.asarray(X)
        except ValueError:  # rows that differ in length raise when X is read
            return False
    if isinstance(X, Mapping) or (isinstance(X, np.ndarray) and X.dtype.names):
        return True
    if isinstance(X, np.ndarray):
        if X.ndim != 2 or X.dtype.kind in "biufc":
            return False
        return X.dtype.kind != "O" or not all(map(_is_plain, X.ravel().tolist()))
    if _package_of(X) is None or _columns_of_table(X) is None:
        return False
    head = X.slice(0, _HEAD_ROWS) if _package_of(X) == "pyarrow" else X.head(_HEAD_ROWS)
    return _has_more_than_numbers(head) or _has_more_than_numbers(X)


def read_frame(X: Any, missing_values: Any = (), left_out: Iterable[Any] = ()) -> Frame:
    """Read a table.

    Parameters
    ----------
    X : table or array-like of shape (n, d)
        pandas, polars or pyarrow, a dict of columns, an array with named fields, or an array or
        list of rows.
    missing_values : str, number or iterable of them, default=()
        Marks of missing values in addition to None, NaN, NaT, pandas' NA and blank strings: strings
        such as "?", which are compared without surrounding spaces, or numbers such as -999.
    left_out : iterable of str or int, default=()
        Names or positions of columns that are not used. Their cells may be any objects.

    Returns
    -------
    Frame

    Raises
    ------
    TypeError
        If X is not a table, or a cell is neither a number, a string, a boolean nor a date.
    ValueError
        If two columns have the same name, or columns differ in length.
    """
    gaps = {key_of(value) for value in listed(missing_values)}
    named = _columns_of_table(X)
    has_names = named is not None
    if named is None:
        rows = _as_rows(X)
        named = [(str(i), rows[:, i]) for i in range(rows.shape[1])]
    names = [str(name) for name, _ in named]
    if has_names and names:
        check_names_differ(names)
    # A pandas table with numbered columns has no names.
    has_names = has_names and names != [str(i) for i in range(len(names))]
    unused = {name_at(names, key) for key in left_out}
    columns = [
        _unread(name, values) if name in unused else _without(_column(name, values), gaps)
        for name, (_, values) in zip(names, named, strict=True)
    ]
    lengths = {name: len(column.missing) for name, column in zip(names, columns, strict=True)}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"Columns must have the same length, but X has columns of {lengths}.")
    return Frame(names, columns, has_names)


def name_at(names: Sequence[str], key: Any) -> str | None:
    """The name of a column that is given by its name or position; None if there is none.

    Negative positions count from the end. A name is preferred to a position.
    """
    if str(key) in names:
        return str(key)
    is_position = isinstance(key, int | np.integer) and -len(names) <= key < len(names)
    return names[key] if is_position else None


def listed(values: Any) -> tuple[Any, ...]:
    """Return one value, or several, as a tuple."""
    return (values,) if isinstance(values, str | bytes | Real) else tuple(values)


def key_of(value: Any) -> str:
    """The text that identifies a value of a category: 3, 3.0 and " 3" are the same value."""
    if isinstance(value, bytes):
        value = value.decode(errors="backslashreplace")
    if isinstance(value, float | np.floating):
        value = float(value)
        return str(int(value)) if value.is_integer() else repr(value)
    if isinstance(value, date):
        moment = datetime(value.year, value.month, value.day) if type(value) is date else value
        return moment.isoformat()
    return number_in_ascii(str(value).strip())


def as_words(column: Column) -> Words:
    """Read any column as codes of its different values."""
    if isinstance(column, Words):
        return column
    present = ~column.missing
    levels, codes = np.unique(column.values[present], return_inverse=True)
    found = np.full(len(present), -1)
    found[present] = codes
    if isinstance(column, Dates):
        return Words(found, [_EPOCH + timedelta(microseconds=int(level)) for level in levels])
    return Words(found, levels.tolist())


def as_numbers(column: Column) -> Numbers | tuple[int, Any]:
    """Read a column as numbers, or return row and value of the first other cell."""
    if isinstance(column, Numbers):
        return column
    if isinstance(column, Dates):
        column = as_words(column)
    numbers = [number_of(level) for level in column.levels]
    signs = [
        bare_number(number_in_ascii(level))[1] for level in column.levels if isinstance(level, str)
    ]
    if len(set(signs)) > 1:  # euros and dollars, or percentages and shares
        numbers = [None] * len(numbers)
    if None in numbers:
        return _first_cell(column, numbers)
    values = np.array(numbers or [0])
    if values.dtype == object:  # whole numbers beyond 64 bits
        values = values.astype(np.float64)
    return Numbers(np.where(column.missing, 0, values[column.codes]), column.missing)


def as_dates(column: Column, order: str = "") -> Dates | tuple[int, Any]:
    """Read a column as dates, or return row and value of the first other cell.

    Dates with several time zones, or with and without one, are converted to UTC. `order` is that of
    `gandetect.data.dates.moment_of` for strings such as 3/4/2026; 20260403 is a date too.
    """
    if isinstance(column, Dates):
        return column
    column = as_words(column)
    moments = [_as_moment(level, order, compact=True) for level in column.levels]
    if None in moments:
        return _first_cell(column, moments)
    found = [moment for moment in moments if moment is not None]
    zones = {str(moment.tzinfo or "") for moment in found} or {""}
    values = np.array([_microseconds(moment) for moment in found] or [0])
    zone = zones.pop() if len(zones) == 1 else "UTC"
    return Dates(np.where(column.missing, 0, values[column.codes]), column.missing, zone)


def number_of(level: Any) -> int | float | None:
    """A value or string as a number, also with a sign of money or %; None for others."""
    if isinstance(level, str):
        text = bare_number(number_in_ascii(level.strip()))[0]
        if not _NUMBER.fullmatch(text):
            return None
        level = int(text) if text.lstrip("+-").isdecimal() else float(text)
    if isinstance(level, Integral):
        level = int(level)
        return level if abs(level) < 2**1023 else math.inf
    return float(level) if isinstance(level, _NUMERIC) else None


def is_number(level: Any) -> bool:
    """Whether a value is a number, or a string of one; booleans are not."""
    return not isinstance(level, bool) and number_of(level) is not None


def is_date(level: Any, order: str = "") -> bool:
    """Whether a value is a date, or a string of one."""
    return _as_moment(level, order) is not None


def local_microseconds(values: np.ndarray, zone: str) -> np.ndarray:
    """The local time of a time zone in microseconds from 1970 on, from UTC."""
    if not zone:
        return values
    # Offsets of time zones change at quarters of an hour only.
    quarters, codes = np.unique(values // 900_000_000, return_inverse=True)
    offsets = [_offset_at(int(quarter) * 900, zone) for quarter in quarters]
    return values + np.array(offsets, dtype=np.int64)[codes]


def table_like(X: Any, columns: Mapping[str, np.ndarray]) -> Any:
    """A table of the type of X with other columns.

    Parameters
    ----------
    X : table or array-like
    columns : mapping of str to ndarray
        Dates as datetime64, strings and missing values in an array of objects.

    Returns
    -------
    pandas.DataFrame (with the index of X), polars.DataFrame, pyarrow.Table, dict, or ndarray of
    object of shape (n, d)
    """
    package = _package_of(X)
    if package == "pandas":
        import pandas as pd

        table = pd.DataFrame(dict(columns), index=X.index)
        if [str(name) for name in X.columns] == list(columns):  # names that are no strings
            table.columns = X.columns
        return table
    if package == "polars":
        import polars as pl

        return pl.DataFrame(
            {name: pl.Series(values, nan_to_null=True) for name, values in columns.items()}
        )
    if package == "pyarrow":
        import pyarrow as pa

        return pa.table({k: pa.array(values, from_pandas=True) for k, values in columns.items()})
    if isinstance(X, Mapping):
        return dict(columns)
    if isinstance(X, np.ndarray) and X.dtype.names:
        table = np.empty(len(X), [(name, values.dtype) for name, values in columns.items()])
        for name, values in columns.items():
            table[name] = values
        return table
    rows = np.empty((len(X), len(columns)), dtype=object)
    for i, values in enumerate(columns.values()):
        rows[:, i] = values
    return rows


def _columns_of_table(X: Any) -> list[tuple[Any, Any]] | None:
    """Names and columns of data with named columns, None for other data."""
    package = _package_of(X)
    if package == "pandas" and hasattr(X, "columns"):
        return [(name, X.iloc[:, i]) for i, name in enumerate(X.columns)]
    if package == "polars" and hasattr(X, "collect"):
        raise TypeError("X is a LazyFrame of polars, which has no rows: pass X.collect().")
    if package == "polars" and hasattr(X, "columns"):
        return list(zip(X.columns, X.get_columns(), strict=True))
    if package == "pyarrow" and hasattr(X, "schema"):
        index = index_columns(X.schema)
        names = X.schema.names
        return [(name, X.column(i)) for i, name in enumerate(names) if name not in index]
    if isinstance(X, np.ndarray) and X.dtype.names:
        return [(name, X[name]) for name in X.dtype.names]
    return list(X.items()) if isinstance(X, Mapping) else None


def _as_rows(X: Any) -> np.ndarray:
    if isinstance(X, list | tuple):
        rows = [list(_items(row)) for row in X]
        if len({len(row) for row in rows}) > 1:
            raise ValueError("Rows must have the same length, but those of X differ.")
        # As objects: numpy would convert numbers to strings if one cell is a string.
        X = np.empty((len(rows), len(rows[0]) if rows else 0), dtype=object)
        for i, row in enumerate(rows):
            X[i] = row
    if not isinstance(X, np.ndarray) or X.ndim != 2 or X.dtype.kind in "cV":
        raise TypeError(
            f"X must be a table or an array of rows, but it is a {type(X).__name__}"
            + (f" of shape {X.shape} and dtype {X.dtype}." if isinstance(X, np.ndarray) else ".")
        )
    return X


def _items(row: Any) -> Iterable[Any]:
    return row if isinstance(row, list | tuple | np.ndarray) else [row]


def _column(name: str, values: Any) -> Column:
    """Read one column of any kind."""
    readers = {"pandas": _pandas_column, "polars": _polars_column, "pyarrow": _arrow_column}
    package = _package_of(values)
    if package:
        return readers[package](name, values)
    if isinstance(values, np.ndarray) and values.ndim == 1:
        return _array_column(name, values)
    if isinstance(values, Sequence) and not isinstance(values, str | bytes):
        return _factorised(name, values)
    raise TypeError(f"Column {name!r} must be a sequence of values, not {type(values).__name__}.")


def _unread(name: str, values: Any) -> Column:
    """Read a column that is not used, whose cells may be any objects."""
    try:
        return _column(name, values)
    except TypeError:
        to_list = getattr(values, "to_pylist", None) or getattr(values, "to_list", None)
        cells = list(to_list() if to_list else values)
        return Words(np.arange(len(cells)), cells)


def _array_column(name: str, values: np.ndarray) -> Column:
    if isinstance(values, np.ma.MaskedArray):  # masked cells are missing, whatever is below them
        column = _array_column(name, values.data)
        return _hidden(column, np.ma.getmaskarray(values))
    kind = values.dtype.kind
    if kind not in "iufmM":
        return _factorised(name, values.tolist())
    if kind in "mM":
        missing = np.isnat(values)
        whole = np.where(missing, 0, values.astype(f"{kind}8[us]").astype(np.int64))
        return Dates(whole, missing) if kind == "M" else Numbers(whole / 1e6, missing, True)
    missing = np.isnan(values) if kind == "f" else np.zeros(len(values), dtype=bool)
    return Numbers(np.where(missing, 0, values) if missing.any() else values, missing)


def _pandas_column(name: str, values: Any) -> Column:
    dtype = values.dtype
    if isinstance(dtype, np.dtype) or dtype.name.startswith("Sparse"):
        return _array_column(name, np.asarray(values))
    if hasattr(dtype, "pyarrow_dtype"):
        return _arrow_column(name, values.array.__arrow_array__())
    if dtype.name == "category":
        categories = [_plain(value) for value in values.cat.categories.tolist()]
        # Intervals, as from pandas.cut, are strings.
        named = [x if x is None or isinstance(x, _CELLS) else str(x) for x in categories]
        levels = as_words(_factorised(name, named))
        codes = np.append(levels.codes, -1)[values.cat.codes.to_numpy()]
        # A categorical dtype may have values that no row has.
        return _used(Words(codes, levels.levels, is_category=True))
    if dtype.kind == "M" and hasattr(dtype, "tz"):
        dates = _array_column(name, values.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy())
        return Dates(dates.values, dates.missing, str(dtype.tz))  # type: ignore[union-attr]  # of moments
    if dtype.kind in "iuf":
        missing = values.isna().to_numpy()
        return Numbers(values.to_numpy(dtype=dtype.numpy_dtype, na_value=0), missing)
    if dtype.name.startswith("period"):
        return _array_column(name, values.dt.to_timestamp().to_numpy())
    return _factorised(name, values.tolist())


def _polars_column(name: str, values: Any) -> Column:
    dtype = values.dtype
    kind = dtype.base_type().__name__
    if kind in ("Int128", "UInt128"):  # numpy has no such integers
        return _factorised(name, values.to_list())
    if dtype.is_numeric() and kind != "Decimal":
        return _with_gaps(name, values.fill_null(0).to_numpy(), values.is_null().to_numpy())
    if kind in ("Date", "Datetime", "Duration"):
        return _in_zone(_array_column(name, values.to_numpy()), getattr(dtype, "time_zone", None))
    return _called_category(_factorised(name, values.to_list()), kind in ("Categorical", "Enum"))


def _arrow_column(name: str, values: Any) -> Column:
    import pyarrow as pa

    kind = values.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        missing = values.is_null().to_numpy(zero_copy_only=False)
        return _with_gaps(name, values.fill_null(0).to_numpy(zero_copy_only=False), missing)
    if pa.types.is_duration(kind) or pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        zone = getattr(kind, "tz", None)
        is_length = pa.types.is_duration(kind)
        values = values.cast(
            pa.duration("us") if is_length else pa.timestamp("us", zone), safe=False
        )
        return _in_zone(_array_column(name, values.to_numpy(zero_copy_only=False)), zone)
    return _called_category(_factorised(name, values.to_pylist()), pa.types.is_dictionary(kind))


def _with_gaps(name: str, values: np.ndarray, missing: np.ndarray) -> Numbers:
    column = _array_column(name, values)
    assert isinstance(column, Numbers)
    return Numbers(column.values, column.missing | missing)


def _in_zone(column: Column, zone: str | None) -> Column:
    return Dates(column.values, column.missing, zone) if zone else column  # type: ignore[union-attr]  # of moments


def _hidden(column: Column, mask: np.ndarray) -> Column:
    """The column with further missing values."""
    if isinstance(column, Words):
        return _used(replace(column, codes=np.where(mask, -1, column.codes)))
    missing = column.missing | mask
    return replace(column, values=np.where(missing, 0, column.values), missing=missing)


def _used(column: Column) -> Column:
    """The column as it would be read without the levels that no row has."""
    if not isinstance(column, Words):
        return column
    used, codes = np.unique(np.append(column.codes, -1), return_inverse=True)
    levels = [column.levels[code] for code in used[1:].tolist()]
    return _of_levels(codes[:-1] - 1, levels, column.is_category)


def _called_category(column: Column, is_category: bool) -> Column:
    words = as_words(column)
    return Words(words.codes, words.levels, is_category=True) if is_category else column


def _factorised(name: str, values: Iterable[Any]) -> Column:
    """Read any values, one by one."""
    # The class is part of the key, because 1, 1.0 and True are the same key of a dict.
    places: dict[tuple[type, Hashable], int] = {}
    try:
        found = [places.setdefault((value.__class__, value), len(places)) for value in values]
    except TypeError as error:  # lists and dicts cannot be keys
        row, cell = next((i, x) for i, x in enumerate(values) if not _is_hashable(x))
        raise _no_cell(name, row, cell) from error
    codes = np.array(found, dtype=np.int64)
    levels = [_plain(value) for _, value in places]
    for i, level in enumerate(levels):
        if level is not None and not isinstance(level, _CELLS):
            raise _no_cell(name, int(np.argmax(codes == i)), level)
    column = _of_levels(codes, levels)
    kinds = {kind for (kind, _), level in zip(places, levels, strict=True) if level is not None}
    are_times = bool(kinds) and all(issubclass(kind, _TIMES) for kind in kinds)
    return replace(column, are_times=True) if isinstance(column, Numbers) and are_times else column


def _is_hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def _no_cell(name: str, row: int, cell: Any) -> TypeError:
    return TypeError(
        f"Column {name!r} contains a value of type {type(cell).__name__} in row {row}: a cell must "
        "be a number, a string, a boolean, a date, a time or a duration. Convert the column, or "
        f"leave it out by columns={{{name!r}: 'drop'}}."
    )


def _rows(column: Column, index: slice | np.ndarray) -> Column:
    if isinstance(column, Words):
        return replace(column, codes=column.codes[index])
    return replace(column, values=column.values[index], missing=column.missing[index])


def _of_levels(codes: np.ndarray, levels: list[Any], is_category: bool = False) -> Column:
    """A column of codes; -1 and the codes of levels that are None are missing values."""
    present = np.array([level is not None for level in levels] + [False])
    codes = np.where(present, np.cumsum(present) - 1, -1)[codes]
    words = Words(codes, [level for level in levels if level is not None], is_category)
    for kind, read in ((date, as_dates), (_NUMERIC, as_numbers)):
        column = read(words)
        is_of_kind = all(isinstance(x, kind) and not isinstance(x, bool) for x in words.levels)
        if words.levels and not is_category and is_of_kind and not isinstance(column, tuple):
            return column
    return words


def _plain(value: Any) -> Any:
    """A value as a Python object; None for every kind of missing value."""
    if isinstance(value, np.datetime64 | np.timedelta64):
        value = None if np.isnat(value) else value.astype(f"{value.dtype.kind}8[us]")
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return None
    if isinstance(value, bytes):
        value = value.decode(errors="backslashreplace")
    if isinstance(value, str):
        return value if value.strip() else None
    if isinstance(value, time):
        return value.hour * 3600 + value.minute * 60 + value.second + value.microsecond / 1e6
    if isinstance(value, timedelta):
        return value.total_seconds()
    return None if isinstance(value, _NUMERIC) and value != value else value


def _without(column: Column, gaps: set[str]) -> Column:
    """Replace the given values by missing values."""
    if not gaps or isinstance(column, Dates):
        return column
    if isinstance(column, Words):
        levels = [None if key_of(level) in gaps else level for level in column.levels]
        return _of_levels(column.codes, levels, column.is_category)
    called = [float(gap) for gap in gaps if _NUMBER.fullmatch(gap)]
    missing = column.missing | np.isin(column.values, called)
    return Numbers(np.where(missing, 0, column.values), missing)


def _is_plain(value: Any) -> bool:
    return isinstance(value, Real) and value == value


def _has_more_than_numbers(X: Any) -> bool:
    for name, values in _columns_of_table(X) or ():
        column = _column(str(name), values)
        is_logical = isinstance(column, Words) and all(isinstance(x, bool) for x in column.levels)
        are_numbers = isinstance(column, Numbers) and not column.are_times
        if column.missing.any() or not (are_numbers or is_logical):
            return True
    return False


def _package_of(X: Any) -> str | None:
    """The package of the class of X, or of one of its base classes."""
    packages = (kind.__module__.partition(".")[0] for kind in type(X).__mro__)
    return next((name for name in packages if name in ("pandas", "polars", "pyarrow")), None)


def _as_moment(level: Any, order: str = "", *, compact: bool = False) -> datetime | None:
    if compact and isinstance(level, int | float) and 0 < level < 1e8:
        level = f"{level:.0f}"
    if isinstance(level, str):
        return moment_of(level, order, compact=compact)
    if isinstance(level, datetime):
        return level
    return datetime(level.year, level.month, level.day) if isinstance(level, date) else None


def _microseconds(moment: datetime) -> int:
    if moment.tzinfo is not None:
        moment = moment.astimezone(UTC).replace(tzinfo=None)
    return (moment - _EPOCH) // _MICROSECOND


def _offset_at(seconds: int, zone: str) -> int:
    """The offset of a time zone from UTC, in microseconds."""
    offset = _OFFSET.fullmatch(zone)
    if offset:
        sign, hours, minutes = offset.groups()
        return int(sign + "1") * (int(hours) * 3600 + int(minutes) * 60) * 1_000_000
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    try:
        return (moment.astimezone(ZoneInfo(zone)).utcoffset() or timedelta()) // _MICROSECOND
    except (KeyError, ValueError):  # UTC without a database of zones, or a zone without a name
        return 0


def _first_cell(column: Words, read: Sequence[Any]) -> tuple[int, Any]:
    """Row and value of the first cell whose level could not be read: it is None in `read`."""
    is_bad = np.array([*(level is None for level in read), False])
    row = int(np.argmax(is_bad[column.codes]))
    return row, column.levels[column.codes[row]]
