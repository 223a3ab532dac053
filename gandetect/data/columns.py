"""Encoding a table of numbers, strings, dates and missing values as a matrix, and decoding."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self, TypeVar

import numpy as np
import torch
from torch import Tensor

from gandetect.data.dates import ORDERS, order_of
from gandetect.data.frames import (
    Column,
    Dates,
    Frame,
    Numbers,
    Words,
    as_dates,
    as_numbers,
    as_words,
    is_date,
    is_number,
    key_of,
    listed,
    local_microseconds,
    name_at,
    number_of,
    read_frame,
    table_like,
)
from gandetect.data.values import (
    MIN_ID_ROWS,
    check_digits,
    identifier_reason,
    skew_of,
    sound_limits,
    wild_values_warning,
)

KINDS = ("number", "category", "date", "day-first date", "month-first date", "drop")

# The distance, in standard deviations of a number, of a change of category and of a missing value.
# Chosen on planted faults and on the tuning sets: see benchmarks/README.md.
SWAP = 1.0
GAP = 0.5
# The distance of values that no training row has: a missing value in a complete column, or another
# value in a constant one.
UNUSUAL = 3.0
_HEIGHT = SWAP / math.sqrt(2)  # of a one-hot entry; a change of category changes two entries
# A value is missing if its encoded indicator is larger than this.
GAP_LEVEL = min(GAP, _HEIGHT) / 2
# A value of a category has its own position if it occurs in at least 0.5 % of the rows, or in at
# least 5 rows, but never if it occurs in one row only; at most the 100 most frequent values have
# one.
_RARE_SHARE = 0.005
_RARE_ROWS = (2, 5)
_MAX_LEVELS = 100
# A column of numbers and a few strings is read as codes if it has at most this number of different
# values; with more values, a string is more likely an undeclared missing value.
_MAX_CODES = 20
# Standard deviations beyond which numbers are compressed logarithmically.
_KNEE, _LARGEST = 5.0, 1e300
# Values farther from the median than this number of interquartile ranges do not affect the scale.
_WILD = 1000.0
_DAY = 86_400_000_000  # microseconds
_UNITS = (3_600_000_000, 60_000_000, 1_000_000)  # an hour, a minute, a second
_YEARS = (-719_000 * _DAY, 2_932_000 * _DAY)  # valid dates, years 1 to 9999, counted from 1970
# A number with decimals and a unit, currency or decimal comma, such as "3.12 kg", "$1,234.50" or
# "0,7", but no identifier such as "12-0345", "10.0.0.1" or "A17".
_WITH_UNIT = re.compile(r"\D{0,8}(?:\d{1,3}(?:[.,' ]\d{3})+|\d+)[.,]\d+\D{0,8}")
_OF_MEASURED = "strings of numbers with other characters, most of which occur once"

A = TypeVar("A", np.ndarray, Tensor)


class CellError(ValueError):
    """A cell cannot be read as the kind of its column.

    Parameters
    ----------
    before, after : str
        The message before and after the row.
    row : int
        The position of the row.

    Examples
    --------
    >>> from gandetect.data.columns import CellError
    >>> print(CellError("Column 'x' contains inf in", 3, "."), CellError("In", 3, ".").in_row(7))
    Column 'x' contains inf in row 3. In row 7.
    """

    def __init__(self, before: str, row: int, after: str) -> None:
        super().__init__(before, row, after)
        self.row = row

    def __str__(self) -> str:
        before, row, after = self.args
        return f"{before} row {row}{after}"

    def in_row(self, row: int) -> CellError:
        """Return the error of the same cell in a table with further rows."""
        return CellError(self.args[0], row, self.args[2])


@dataclass(frozen=True)
class Block:
    """Encoded columns that belong together.

    Parameters
    ----------
    column : int
        Position in the table.
    kind : {"value", "cycle", "gap", "categories", "constant"}
        "value" is a standardised number, or a time; "cycle" a sine and a cosine; "gap" is 0, or
        `heights` where the value is missing; "categories" has one column for each value, one for
        all rare and unknown values and one for missing values if there were any; one of them is
        set to its height and the others are 0; "constant" is 0, or `heights` for another value.
    start, stop : int
        The slice of the encoded columns.
    heights : tuple of float
        One for each encoded column, 1 where the value is a number.
    """

    column: int
    kind: str
    start: int
    stop: int
    heights: tuple[float, ...]


@dataclass(frozen=True)
class TableColumn:
    """The kind of a column of the table, and the values of its encoding.

    Parameters
    ----------
    name : str
    kind : {"number", "category", "boolean", "date", "constant", "id", "drop"}
        The kinds "id" and "drop" are left out.
    why : str
        The reason as text.
    n_values : int
        Different values among the training rows.
    gap_share : float
        Share of the training rows, 0 to 1.
    start, stop : int
        Its slice of the encoded columns, empty for a column that is left out.
    levels : tuple of str, int, float or bool
        The values of a category with their own positions, the most frequent first; the one value
        of a constant, empty for a constant of missing values.
    has_rare : bool
        Whether there were values without their own position.
    scale : tuple of float
        Mean and standard deviation of a number, or of the days from the first date.
    skew : tuple of float
        Side, end and unit for the logarithm of a skewed number, as returned by `skew_of`; empty for
        other columns.
    low, high : float
        Range of the scaled training values.
    first : int
        The first date, in microseconds from 1970.
    zone : str
        The time zone of a date.
    unit : int
        The largest unit (day, hour, minute or second, in microseconds) of which all times are
        multiples.
    cycles : tuple of {"hour", "weekday", "month"}
        The cycles that vary in the training rows.
    order : {"", "day", "month"}
        Which comes first in dates that are strings such as 3/4/2026.
    """

    name: str
    kind: str
    why: str
    n_values: int
    gap_share: float
    start: int = 0
    stop: int = 0
    levels: tuple[Any, ...] = ()
    has_rare: bool = False
    scale: tuple[float, ...] = (0.0, 1.0)
    skew: tuple[float, ...] = ()
    low: float = 0.0
    high: float = 0.0
    first: int = 0
    zone: str = ""
    unit: int = 1
    cycles: tuple[str, ...] = ()
    order: str = ""

    def check(self) -> None:
        """Raise TypeError or ValueError if this is not a possible result of a fit."""
        numbers = (*self.scale, *self.skew, self.low, self.high, self.gap_share)
        if not all(isinstance(text, str) for text in (self.name, self.why, self.zone)):
            raise TypeError("its column has no name")
        if not all(isinstance(x, int | float) and math.isfinite(x) for x in numbers):
            raise TypeError(f"its column {self.name!r} has no scale")
        if len(self.scale) != 2 or not self.scale[1] > 0:
            raise ValueError(f"its column {self.name!r} has no scale")
        if self.skew and not (len(self.skew) == 3 and abs(self.skew[0]) == 1 and self.skew[2] > 0):
            raise ValueError(f"its column {self.name!r} has no logarithm")
        is_known = self.kind in ("number", "category", "boolean", "date", "constant", "id", "drop")
        is_known = is_known and self.order in ORDERS
        if not is_known or not set(self.cycles) <= set(_CYCLES) or self.high < self.low:
            raise ValueError(f"its column {self.name!r} is of an unknown kind")
        if not isinstance(self.levels, tuple) or not all(
            isinstance(level, str | bool | int | float) for level in self.levels
        ):
            raise TypeError(f"its column {self.name!r} has invalid values")
        counts = (self.n_values, self.start, self.stop, self.first, self.unit)
        if not all(type(count) is int for count in counts) or self.unit < 1:
            raise TypeError(f"its column {self.name!r} has an invalid position")
        if self.first < _YEARS[0] or self.first > _YEARS[1]:
            raise ValueError(f"its column {self.name!r} has no first date")

    @property
    def is_left_out(self) -> bool:
        """Whether the column is left out of the encoding."""
        return self.kind in ("id", "drop")

    @property
    def has_gaps(self) -> bool:
        """Whether missing values have an indicator."""
        return self.gap_share > 0 and self.kind not in ("id", "drop", "constant")

    @property
    def parts(self) -> list[tuple[str, tuple[float, ...]]]:
        """Kinds and heights of its blocks."""
        if self.is_left_out:
            return []
        if self.kind == "constant":
            return [("constant", (UNUSUAL,))]
        if self.kind in ("category", "boolean"):
            other = _HEIGHT if self.has_rare else UNUSUAL
            heights = [_HEIGHT] * len(self.levels) + [other] + [_HEIGHT] * self.has_gaps
            return [("categories", tuple(heights))]
        cycles = [("cycle", (1.0, 1.0))] * len(self.cycles)
        return [("value", (1.0,)), *cycles, *[("gap", (GAP,))] * self.has_gaps]

    def blocks(self, column: int) -> list[Block]:
        """Its encoded columns in their order; `column` is its position in the table."""
        found, start = [], self.start
        for kind, heights in self.parts:
            found.append(Block(column, kind, start, start + len(heights), heights))
            start += len(heights)
        return found


@dataclass(frozen=True)
class ColumnEncoder:
    """Encode a table as a matrix of numbers for networks and distances, and decode it.

    Numbers are standardised, and compressed logarithmically beyond 5 standard deviations. Strings,
    booleans and other categories become one-hot blocks, in which rare and unknown values share one
    position. Dates become the time from the first date, which is compressed logarithmically beyond
    the training rows, and hour, weekday and month as sine and cosine, if they vary. Missing values
    have an indicator column, or a position of the one-hot block; in a column without missing values
    in training they are as anomalous as an unknown value. Constants become a column that is 0
    unless the value differs. Columns in which nearly every value is unique are left out. The
    encoded values are scaled.

    An encoder is data: it contains numbers and strings only, and the same table gives the same
    matrix. Exported graphs take the encoded matrix, because a graph cannot encode strings.

    Parameters
    ----------
    columns : tuple of TableColumn
        In the order of the table.
    missing_values : tuple of str, int or float
        Marks of missing values in addition to None, NaN, NaT, pandas' NA and empty strings.
    has_names : bool
        Whether the columns have names. Then they are matched by name, in any order.

    Examples
    --------
    >>> table = {"amount": [12.5, 80.0, None, 31.0], "country": ["DE", "FR", "DE", "FR"]}
    >>> encoder = ColumnEncoder.fitted(table)
    >>> [(column.name, column.kind) for column in encoder.columns]
    [('amount', 'number'), ('country', 'category')]
    >>> x = encoder.encode(table)
    >>> x.shape, encoder.missing(x)[2].tolist()
    ((4, 5), [True, False])
    >>> encoder.decode(x)["country"].tolist()
    ['DE', 'FR', 'DE', 'FR']
    """

    columns: tuple[TableColumn, ...]
    missing_values: tuple[Any, ...] = ()
    has_names: bool = True

    @classmethod
    def fitted(
        cls,
        X: Any,
        columns: str | Mapping[Any, str] | Sequence[Any] = "auto",
        missing_values: Any = (),
    ) -> Self:
        """Determine the kind of each column of a table, and its scale or values.

        Parameters
        ----------
        X : table or array-like of shape (n, d), or Frame
            pandas, polars or pyarrow, a dict of columns, an array with named fields, or an array
            or list of rows.
        columns : {"auto"}, mapping of str or int to str, or sequence of these, default="auto"
            "auto" uses the type of a column as scikit-learn's ``categorical_features="from_dtype"``
            does: numbers and time differences are numbers; strings, booleans and the categorical
            dtype of the table are categories; dates are dates. Strings that are all numbers,
            without a leading zero and all with the same sign of money or per cent if any, or all
            dates (`gandetect.data.dates.moment_of`), are read as such. A column of one value is a
            constant. Two kinds of columns are left out, with a warning: strings if more than half
            of the rows have a unique one, and integers without repetition or missing values, if the
            name of the column contains "id", "uuid", "key" or "index", or if they are the
            consecutive numbers of at least 50 rows.

            A mapping from names or positions of columns to "number", "category", "date" or "drop"
            sets the kinds of these columns; "auto" applies to the others. "day-first date" and
            "month-first date" set the order of 3/4/2026, if no date of the column shows it. A
            sequence has the columns that are categories.
        missing_values : str, number or iterable of them, default=()
            Strings or numbers that mark missing values, such as "?" or -999, in addition to None,
            NaN, NaT, pandas' NA and empty strings.

        Returns
        -------
        ColumnEncoder

        Raises
        ------
        TypeError
            If X is not a table, a cell is neither a number, a string, a boolean nor a date, or
            `columns` is neither "auto" nor a mapping or a sequence.
        ValueError
            If `columns` has an unknown column, if a column cannot be read as its kind or is a
            mixture of numbers and strings, if a number is infinite, or if no column is left.

        Warns
        -----
        UserWarning
            If "auto" leaves columns out, with their names.
        """
        missing_values = listed(missing_values)
        dropped = left_out_by(columns)
        frame = X if isinstance(X, Frame) else read_frame(X, missing_values, dropped)
        if len(frame) == 0:
            raise ValueError("Found 0 rows: the encoder needs at least 1 row.")
        told = _told(frame, columns)
        found: list[TableColumn] = []
        width = 0
        for name, column in zip(frame.names, frame.columns, strict=True):
            described = _described(name, column, told.get(name))
            size = sum(len(heights) for _, heights in described.parts)
            found.append(replace(described, start=width, stop=width + size))
            width += size
        ids = [repr(column.name) for column in found if column.kind == "id"]
        if not width:
            raise ValueError(
                f"No column of X can be used: {', '.join(frame.names)} are left out. "
                "Set their kinds by columns."
            )
        if ids:
            warnings.warn(
                "Columns left out as identifiers, because their values hardly repeat: "
                f"{', '.join(ids)}. To use them set their kind, as in columns={{{ids[0]}: "
                "'category'}; 'drop' leaves them out without this warning."
                f"{_how_to_read(found)}",
                UserWarning,
                stacklevel=2,
            )
        return cls(tuple(found), missing_values, frame.has_names)

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Self:
        """Create an encoder from the result of ``dataclasses.asdict``, also if read from JSON.

        Raises
        ------
        TypeError, ValueError, KeyError
            If the data do not describe an encoder.
        """
        tuples = ("levels", "scale", "skew", "cycles")
        columns = []
        for found in data["columns"]:
            values: dict[str, Any] = {k: tuple(v) if k in tuples else v for k, v in found.items()}
            # Files of earlier versions have no `skew`, which is empty except for skewed numbers.
            if values.pop("log_scale", None):
                raise ValueError(
                    f"its column {values['name']!r} is skewed, and was scaled by a version before "
                    "0.1.0: fit again"
                )
            columns.append(TableColumn(**values))
        encoder = cls(tuple(columns), tuple(data["missing_values"]), bool(data["has_names"]))
        encoder.check()
        return encoder

    def check(self) -> None:
        """Raise TypeError or ValueError if this is not a possible result of `fitted`."""
        if not (isinstance(self.columns, tuple) and isinstance(self.missing_values, tuple)):
            raise TypeError("its encoder has no columns")
        width = 0
        for column in self.columns:
            if not isinstance(column, TableColumn):
                raise TypeError("its encoder has invalid columns")
            column.check()
            size = sum(len(heights) for _, heights in column.parts)
            if (column.start, column.stop) != (width, width + size):
                raise ValueError(f"its column {column.name!r} has an invalid position")
            width += size
        names = [column.name for column in self.columns]
        if not width or len(set(names)) < len(names):
            raise ValueError("its encoder has no columns, or columns with equal names")

    @property
    def width(self) -> int:
        """The number of encoded columns."""
        return self.columns[-1].stop

    @property
    def left_out(self) -> list[str]:
        """The names of the columns that are left out."""
        return [column.name for column in self.columns if column.is_left_out]

    @property
    def blocks(self) -> list[Block]:
        """The blocks of the encoded columns, in order."""
        return [block for i, column in enumerate(self.columns) for block in column.blocks(i)]

    def encode(self, X: Any) -> np.ndarray:
        """Encode a table.

        Parameters
        ----------
        X : table or array-like of shape (n, d), or Frame
            A table with the columns that the encoder was fitted with, matched by name if both have
            names. Columns that are left out may be absent. Dates without a time zone are read as
            UTC if the training rows had a time zone, and those with one as UTC if these had none.
            Large tables can be encoded some rows at a time, by `Frame.rows`.

        Returns
        -------
        ndarray of float32, shape (n, width)

        Raises
        ------
        TypeError
            If X is not a table, or a cell is neither a number, a string, a boolean nor a date.
        ValueError
            If columns are missing or unknown, a column of numbers or dates has other values, or a
            number is infinite. The message names the row and the value.
        """
        frame = X if isinstance(X, Frame) else read_frame(X, self.missing_values, self.left_out)
        encoded = np.zeros((len(frame), self.width), dtype=np.float32)
        for column, cells in zip(self.columns, self._matched(frame), strict=True):
            if cells is not None and not column.is_left_out:
                encoded[:, column.start : column.stop] = _encoded(column, cells)
        return encoded

    def read(self, X: Any) -> Frame:
        """Return the columns of a table in the order of the encoder, with parsed numbers and dates.

        Parameters and errors are those of `encode`. Encoding the result some rows at a time is
        faster than encoding parts of another frame.
        """
        frame = X if isinstance(X, Frame) else read_frame(X, self.missing_values, self.left_out)
        n_rows = len(frame)
        found: list[Column] = []
        for column, cells in zip(self.columns, self._matched(frame), strict=True):
            if cells is None or column.is_left_out:
                cells = Words(np.full(n_rows, -1), [])
            if column.kind in ("number", "date"):
                cells = (_numbers if column.kind == "number" else _dates)(column, cells)
            found.append(cells)
        return Frame([column.name for column in self.columns], found, self.has_names)

    def missing(self, encoded: A) -> A:
        """Return which cells of the table are missing, for columns with missing training values.

        Parameters
        ----------
        encoded : ndarray or Tensor of shape (n, width)

        Returns
        -------
        ndarray or Tensor of bool, shape (n, n columns of the table)
        """
        places = [self._gap_place(column) for column in self.columns]
        return self._above(encoded, places)

    def observed(self, encoded: A) -> A:
        """Return which encoded values are observed; the error of a missing value has no meaning.

        The indicators of missing values count as observed.

        Parameters
        ----------
        encoded : ndarray or Tensor of shape (n, width)

        Returns
        -------
        ndarray or Tensor of bool, shape (n, width)
        """
        return ~self._above(encoded, self.gap_places)

    @property
    def gap_places(self) -> list[int]:
        """For each encoded value, the encoded column that marks it as missing; -1 for none."""
        return [
            self._gap_place(self.columns[block.column]) if block.kind in ("value", "cycle") else -1
            for block in self.blocks
            for _ in range(block.start, block.stop)
        ]

    def per_column(self, values: A) -> A:
        """Sum the values of encoded columns to one number for each column of the table.

        Parameters
        ----------
        values : ndarray or Tensor of shape (n, width)

        Returns
        -------
        ndarray or Tensor of shape (n, n columns of the table)
            0 for columns that are left out.
        """
        summed: A = values @ _beside(values, self.membership)
        return summed

    @property
    def membership(self) -> np.ndarray:
        """1 where an encoded column belongs to a column of the table: float32 (width, n)."""
        membership = np.zeros((self.width, len(self.columns)), dtype=np.float32)
        for i, column in enumerate(self.columns):
            membership[column.start : column.stop, i] = 1
        return membership

    def decode(self, encoded: np.ndarray | Tensor, like: Any = None) -> Any:
        """Convert encoded rows, or a network's output, to the units and categories of the table.

        Parameters
        ----------
        encoded : ndarray or Tensor of shape (n, width)
        like : table of n rows, default=None
            The table that was encoded. The result has its type and its columns in their order;
            columns that the encoder leaves out are copied from it.

        Returns
        -------
        table, or dict of str to ndarray without `like`
            Numbers as float64 with the precision of float32, NaN if missing; dates as datetime64 in
            local time of their time zone, rounded to whole days, hours, minutes or seconds if all
            training values are such, NaT if missing; the most likely value of a category, None if
            missing and "(other)" for rare and unknown values.
        """
        x = encoded.detach().cpu().numpy() if isinstance(encoded, Tensor) else encoded
        used = [column for column in self.columns if not column.is_left_out]
        decoded = {
            column.name: _decoded(column, x[:, column.start : column.stop].astype(np.float64))
            for column in used
        }
        if like is None:
            return decoded
        frame = read_frame(like, self.missing_values, self.left_out)
        by_name = self._is_named(frame)
        names = frame.names if by_name else [column.name for column in self.columns]
        cells = [
            decoded[name] if name in decoded else _objects(column)
            for name, column in zip(names, frame.columns, strict=True)
        ]
        return table_like(like, dict(zip(frame.names, cells, strict=True)))

    def facts(self) -> list[dict[str, Any]]:
        """The kind, number of values, share of missing values and reason of each column."""
        return [
            {
                "column": column.name,
                "kind": column.kind,
                "values": column.n_values,
                "gaps": column.gap_share,
                "decision": column.why,
            }
            for column in self.columns
        ]

    def describe(self) -> str:
        """Return the result of `facts` as text, one line for each column."""
        facts = self.facts()
        shown = [{**fact, "gaps": f"{100 * fact['gaps']:.3g} %"} for fact in facts]
        lines = [tuple(shown[0]), *(tuple(map(str, fact.values())) for fact in shown)]
        widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
        return "\n".join(
            "  ".join(cell.ljust(n) for cell, n in zip(line, widths, strict=True)).rstrip()
            for line in lines
        )

    def _is_named(self, frame: Frame) -> bool:
        """Whether the columns of another table are matched by name.

        Those of a table with columns 0, 1, ... have no names, except in another order.
        """
        known = {column.name for column in self.columns}
        return frame.has_names and (self.has_names or set(frame.names) == known)

    def _matched(self, frame: Frame) -> list[Column | None]:
        """The columns of another table in the order of the encoder."""
        if not self._is_named(frame):
            if len(frame.columns) != len(self.columns):
                raise ValueError(
                    f"X has {len(frame.columns)} columns, but the encoder was fitted with "
                    f"{len(self.columns)}: {', '.join(column.name for column in self.columns)}."
                )
            return list(frame.columns)
        found = dict(zip(frame.names, frame.columns, strict=True))
        known = {column.name for column in self.columns}
        lacking = [c.name for c in self.columns if c.name not in found and not c.is_left_out]
        unknown = [name for name in frame.names if name not in known]
        problems = ["lacks " + ", ".join(map(repr, lacking))] * bool(lacking)
        problems += ["has also " + ", ".join(map(repr, unknown))] * bool(unknown)
        if problems:
            raise ValueError(
                f"X {' and '.join(problems)}: it must have the columns that the encoder was fitted "
                "with"
                + (
                    ", and no others (on the command line --id-column, --label-column and "
                    "--drop-columns leave some out)."
                    if unknown
                    else "."
                )
            )
        return [found.get(column.name) for column in self.columns]

    @staticmethod
    def _gap_place(column: TableColumn) -> int:
        """The position of the encoded indicator of missing values, -1 if there is none."""
        return column.stop - 1 if column.has_gaps else -1

    def _above(self, encoded: A, places: Sequence[int]) -> A:
        """Whether the encoded columns at `places` are set; never for -1."""
        index = np.array(places, dtype=np.int64)
        is_set: A = encoded[..., index] > GAP_LEVEL
        is_known: A = is_set & _beside(is_set, index >= 0)
        return is_known


def _beside(values: A, array: np.ndarray) -> A:
    """An array with the type and device of `values`."""
    if isinstance(values, Tensor):
        tensor = torch.as_tensor(array, device=values.device)
        return tensor.to(values.dtype) if values.is_floating_point() else tensor
    return array


def checked_columns(columns: Any) -> dict[Any, str]:
    """The kinds of the parameter `columns`, by name or position.

    Raises
    ------
    TypeError, ValueError
        If `columns` is not valid for `ColumnEncoder.fitted`.
    """
    if isinstance(columns, str) and columns == "auto":
        return {}
    if hasattr(columns, "tolist"):  # an array, or an Index of pandas, as df.columns[2:]
        columns = columns.tolist()
    if isinstance(columns, list | tuple | set | frozenset):
        columns = dict.fromkeys(columns, "category")
    if not isinstance(columns, Mapping):
        raise TypeError(
            "columns must be 'auto', a mapping from names or positions to kinds, as in "
            f"{{'age': 'number'}}, or a list of those that are categories, not {columns!r}."
        )
    for key, kind in columns.items():
        if isinstance(key, bool):
            raise TypeError(
                "columns must have names or positions of columns, not a mask of booleans: pass "
                "numpy.flatnonzero(mask)."
            )
        if kind not in KINDS:
            raise ValueError(f"columns[{key!r}] must be one of {KINDS}, not {kind!r}.")
    return dict(columns)


def left_out_by(columns: Any) -> list[Any]:
    """Names and positions of the columns that the parameter `columns` leaves out."""
    return [key for key, kind in checked_columns(columns).items() if kind == "drop"]


def _told(frame: Frame, columns: Any) -> dict[str, str]:
    """The kinds of the parameter `columns`, by the names of the columns."""
    told: dict[str, str] = {}
    for key, kind in checked_columns(columns).items():
        name = name_at(frame.names, key)
        if name is None:
            raise ValueError(
                f"columns has {key!r}, but X has only {', '.join(map(repr, frame.names))}."
            )
        if told.setdefault(name, kind) != kind:
            raise ValueError(
                f"columns sets {name!r} to {told[name]!r}, and by {key!r} to {kind!r}: a column "
                "has one kind."
            )
    return told


def _described(name: str, column: Column, told: str | None) -> TableColumn:
    """Determine the kind of a column, and the values of its encoding."""
    words = as_words(column)
    counts = np.bincount(words.codes[~words.missing], minlength=len(words.levels))
    found = TableColumn(name, "drop", "", len(words.levels), float(words.missing.mean()))
    if told == "drop":
        return replace(found, why="set by columns")
    if len(words.levels) == 0:
        return replace(found, kind="constant", why="gaps only")
    if len(words.levels) == 1 and not found.gap_share:
        level = _data(words.levels[0])
        return replace(found, kind="constant", why=f"{level!r} in every row", levels=(level,))
    kind, why = (told, "set by columns") if told else _kind_of(name, column, words, counts)
    if kind.endswith("date"):
        order, _, kind = kind.rpartition("-first ")
        found = replace(found, order=order or _order(name, words))
    found = replace(found, kind=kind, why=why)
    if kind == "number":
        return _with_scale(found, _numbers(found, column))
    if kind == "date":
        return _with_times(found, _dates(found, column))
    return _with_levels(found, words, counts) if kind in ("category", "boolean") else found


def _kind_of(name: str, column: Column, words: Words, counts: np.ndarray) -> tuple[str, str]:
    """The inferred kind of a column, and the reason."""
    if len(words.levels) == 1 and not words.is_category:
        return "category", "one value and missing values"
    if isinstance(column, Dates):
        return "date", "dates"
    if isinstance(column, Numbers):
        return _id_or_number(name, column, "numbers")
    if words.is_category:
        return "category", "categorical dtype"
    if all(isinstance(level, bool) for level in words.levels):
        return "boolean", "true or false"
    others = [level for level in words.levels if not is_number(level)]
    numbers = as_numbers(words)
    if isinstance(numbers, Numbers):
        return _id_or_number(name, numbers, "strings that are all numbers")
    if all(is_date(level, "day") or is_date(level, "month") for level in words.levels):
        return "date", "strings that are all dates"
    _refuse_mixture(name, words)
    n_present = int(counts.sum())
    if n_present >= MIN_ID_ROWS and (counts == 1).sum() > n_present / 2:
        with_number = sum(bool(_WITH_UNIT.fullmatch(str(level))) for level in words.levels)
        is_measured = 2 * with_number > len(words.levels)
        return "id", _OF_MEASURED if is_measured else "strings, most of which occur once"
    return "category", "strings" if len(others) == len(words.levels) else "strings and numbers"


def _how_to_read(columns: Sequence[TableColumn]) -> str:
    """What to do with columns of numbers in text, for a warning; "" if there are none."""
    names = [repr(column.name) for column in columns if column.why == _OF_MEASURED]
    if not names:
        return ""
    return (
        f" In {', '.join(names)} are numbers with other characters: to use them as numbers, remove "
        "units, currencies and marks of thousands, and write decimals with a point."
    )


def _order(name: str, words: Words) -> str:
    """The first of day and month in dates such as 3/4/2026; raises if it is ambiguous."""
    texts = [level for level in words.levels if isinstance(level, str)]
    order = order_of(texts)
    if order is None:
        raise ValueError(
            f"Column {name!r} contains dates such as {texts[0]!r}, in which the day or the month "
            f"may come first: set columns={{{name!r}: 'day-first date'}} or 'month-first date'."
        )
    return order


def _refuse_mixture(name: str, words: Words) -> None:
    """Raise ValueError for a string in a column of numbers or dates."""
    for what, is_one in (("numbers", is_number), ("dates", is_date)):
        others = [i for i, level in enumerate(words.levels) if not is_one(level)]
        texts = [str(words.levels[i]) for i in others]
        # A string with a digit that is not a number is a code like the others: "007", "12b". In a
        # column of measured values it is not: "<0.5" is below the limit of detection.
        numbers = [number for level in words.levels if (number := number_of(level)) is not None]
        is_measured = 2 * sum(number % 1 != 0 for number in numbers) > len(numbers)
        is_code = not is_measured and any(char.isdigit() for text in texts for char in text)
        if len(words.levels) > max(_MAX_CODES, 2 * len(others)) and not is_code:
            row = int(np.argmax(np.isin(words.codes, others)))
            value = words.levels[words.codes[row]]
            raise CellError(
                f"Column {name!r} contains {what}, but {value!r} in",
                row,
                f": if it marks a missing value, set missing_values=({value!r},) (on the command "
                f"line --missing {value!r}), else columns={{{name!r}: 'category'}}.",
            )


def _id_or_number(name: str, column: Numbers, why: str) -> tuple[str, str]:
    """Return "id" or "number" for a column of numbers, and the reason: `why` for a number."""
    reason = None if column.missing.any() else identifier_reason(name, column.values)
    return ("id", reason) if reason else ("number", why)


def _numbers(column: TableColumn, cells: Column) -> Numbers:
    """Read cells as finite numbers."""
    numbers = as_numbers(cells)
    if isinstance(numbers, tuple):
        row, value = numbers
        raise CellError(
            f"Column {column.name!r} has numbers, but",
            row,
            f" contains {value!r}: correct it, add it to missing_values, or fit with "
            f"columns={{{column.name!r}: 'category'}}.",
        )
    finite = np.isfinite(numbers.values)
    if not finite.all():
        row = int(np.argmin(finite))
        raise CellError(
            f"Column {column.name!r} contains {numbers.values[row]} in",
            row,
            ": a number must be finite, and a missing value None or NaN.",
        )
    return numbers


def _dates(column: TableColumn, cells: Column) -> Dates:
    """Read cells as dates."""
    dates = as_dates(cells, column.order)
    if isinstance(dates, tuple):
        row, value = dates
        raise CellError(
            f"Column {column.name!r} has dates, but",
            row,
            f" contains {value!r}, which is neither a date in ISO 8601 (2026-03-31, "
            "2026-03-31T12:00:00) nor in another unambiguous form (31.03.2026, 31 March 2026): "
            "correct it, parse the column first, add it to missing_values, or fit with "
            f"columns={{{column.name!r}: 'category'}}.",
        )
    return dates


def _data(level: Any) -> Any:
    """A value as data: a string for values other than numbers and booleans."""
    return level if isinstance(level, str | bool | int | float) else key_of(level)


def _with_levels(column: TableColumn, words: Words, counts: np.ndarray) -> TableColumn:
    """Set the positions of the values that are not rare."""
    total: dict[str, int] = {}
    values: dict[str, Any] = {}
    for level, count in zip(words.levels, counts.tolist(), strict=True):
        key = key_of(level)
        total[key] = total.get(key, 0) + count
        values.setdefault(key, _data(level))
    least = min(max(_RARE_ROWS[0], _RARE_SHARE * len(words.codes)), _RARE_ROWS[1])
    order = sorted(total, key=lambda key: (-total[key], key))
    kept = [key for key in order if total[key] >= least][:_MAX_LEVELS]
    n_rare = len(order) - len(kept)
    why = f"{column.why}; {n_rare} of {len(order)} values are rare" if n_rare else column.why
    levels = tuple(values[key] for key in kept)
    return replace(column, levels=levels, has_rare=n_rare > 0, why=why, n_values=len(order))


def _moments(values: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation without extreme values; the latter is never 0."""
    low, middle, high = np.percentile(values, [25, 50, 75])
    if high > low:
        values = values[np.abs(values - middle) <= _WILD * (high - low)]
    size = float(np.abs(values).max()) or 1.0  # so that squares do not overflow
    center, spread = float((values / size).mean()), float((values / size).std())
    is_constant = spread <= 10 * np.finfo(np.float64).eps * abs(center)
    return center * size, 1.0 if is_constant else spread * size


def _with_scale(column: TableColumn, numbers: Numbers) -> TableColumn:
    """Compute the scale of numbers."""
    given = numbers.values[~numbers.missing][:, None]
    check_digits(given, given, "X", [column.name])
    values = given[:, 0].astype(np.float64)
    if told := wild_values_warning(values[:, None], [column.name]):
        warnings.warn(told, UserWarning, stacklevel=2)
    low, high = sound_limits(values[:, None])
    skew = skew_of(np.clip(values[:, None], low, high))[:, 0]
    if skew[0]:
        column = replace(
            column,
            skew=tuple(float(number) for number in skew),
            why=f"{column.why}, skewed: as its logarithm",
        )
    column = replace(column, scale=_moments(_unskewed(column.skew, values)))
    scaled = _scaled(column, values)
    return replace(column, low=float(scaled.min()), high=float(scaled.max()))


def _unskewed(skew: tuple[float, ...], values: np.ndarray) -> np.ndarray:
    """Skewed numbers as the logarithm of 1 + their distance from the end; others as they are."""
    if not skew:
        return values
    side, end, unit = skew
    with np.errstate(over="ignore"):
        distance = np.clip((side * values - end) / unit, -_LARGEST, _LARGEST)
    logarithm = np.log1p(np.maximum(distance, 0))
    found: np.ndarray = side * np.where(distance > 0, logarithm, distance)
    return found


def _scaled(column: TableColumn, values: np.ndarray) -> np.ndarray:
    """Standardise numbers (n,), after the logarithm of skewed ones."""
    return _apply(column.scale, _unskewed(column.skew, values.astype(np.float64)))


def _unscaled(column: TableColumn, scaled: np.ndarray) -> np.ndarray:
    """The inverse of `_scaled`."""
    values = _invert(column.scale, scaled)
    if not column.skew:
        return values
    side, end, unit = column.skew
    along = side * values
    distance = np.where(along > 0, np.expm1(np.clip(along, 0, 650)), along)
    numbers: np.ndarray = side * (end + unit * distance)
    return numbers


def _apply(scale: Sequence[float], values: np.ndarray) -> np.ndarray:
    """Standardise, with logarithmic compression beyond the knee."""
    with np.errstate(over="ignore"):
        scaled = np.clip((values - scale[0]) / scale[1], -_LARGEST, _LARGEST)
    beyond = np.maximum(np.abs(scaled) - _KNEE, 0)
    scaled = np.where(beyond > 0, np.sign(scaled) * (_KNEE + np.log1p(beyond)), scaled)
    return scaled.astype(np.float32).astype(np.float64)


def _invert(scale: Sequence[float], scaled: np.ndarray) -> np.ndarray:
    size = np.abs(scaled)
    stretched = _KNEE + np.expm1(np.clip(size - _KNEE, 0, 80))
    scaled = np.where(size > _KNEE, np.copysign(stretched, scaled), scaled)
    return scaled * scale[1] + scale[0]


def _with_times(column: TableColumn, dates: Dates) -> TableColumn:
    """Find the first date, the scale of the days after it, and the cycles that vary."""
    values = dates.values[~dates.missing]
    column = replace(column, first=int(values.min()), zone=dates.zone)
    days = (values - column.first) / _DAY
    scale = _moments(days)
    local = local_microseconds(values, dates.zone)
    cycles = tuple(name for name, phase in _CYCLES.items() if len(np.unique(phase(local))) > 1)
    # Days are those of local time, in which some hours occur twice in a year, and others do not.
    units = [_DAY] * (not (local % _DAY).any()) + [u for u in _UNITS if not (values % u).any()]
    scaled = (days - scale[0]) / scale[1]
    why = f"{column.why}, with {', '.join(cycles)}" if cycles else column.why
    low, high = float(scaled.min()), float(scaled.max())
    return replace(
        column, scale=scale, unit=[*units, 1][0], cycles=cycles, low=low, high=high, why=why
    )


# The phase of a cycle, 0 to 1, from local time. 1970 began on a Thursday.
_CYCLES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "hour": lambda local: local % _DAY / _DAY,
    "weekday": lambda local: (local // _DAY + 3) % 7 / 7,
    "month": lambda local: local.astype("M8[us]").astype("M8[M]").astype(np.int64) % 12 / 12,
}


def _encoded(column: TableColumn, cells: Column) -> np.ndarray:
    """The encoded columns of a column that is not left out."""
    if column.kind == "constant":
        words = as_words(cells)
        is_other = [not any(_is_same(x, y) for y in column.levels) for x in words.levels]
        return UNUSUAL * np.array([*is_other, bool(column.levels)])[words.codes, None]
    if column.kind in ("category", "boolean"):
        return _one_hot(column, as_words(cells))
    encoded = np.zeros((len(cells.missing), column.stop - column.start))
    if column.kind == "number":
        numbers = _numbers(column, cells)
        encoded[:, 0] = _scaled(column, numbers.values)
    else:
        dates = _dates(column, cells)
        scaled = ((dates.values - column.first) / _DAY - column.scale[0]) / column.scale[1]
        # Dates after those of the training rows are not anomalous by themselves: see ColumnEncoder.
        inside = np.clip(scaled, column.low, column.high)
        encoded[:, 0] = inside + np.sign(scaled - inside) * np.log1p(np.abs(scaled - inside))
        local = local_microseconds(dates.values, column.zone)
        for i, name in enumerate(column.cycles):
            angle = 2 * np.pi * _CYCLES[name](local)
            encoded[:, 2 * i + 1], encoded[:, 2 * i + 2] = np.sin(angle), np.cos(angle)
    encoded[cells.missing] = 0
    if column.has_gaps:
        encoded[:, -1] = GAP * cells.missing
    else:
        encoded[cells.missing, 0] = column.high + UNUSUAL
    return encoded


def _one_hot(column: TableColumn, words: Words) -> np.ndarray:
    places = {key_of(level): i for i, level in enumerate(column.levels)}
    if column.kind == "boolean":
        # The same value may be written differently in a file.
        for i, level in enumerate(column.levels):
            places.update({str(int(level)): i, str(level).lower(): i})
    other = len(column.levels)
    found = [places.get(key_of(level), other) for level in words.levels]
    codes = np.array([*found, other + column.has_gaps])[words.codes]
    [(_, heights)] = column.parts
    encoded = np.zeros((len(codes), len(heights)))
    encoded[np.arange(len(codes)), codes] = np.array(heights)[codes]
    return encoded


def _is_same(x: Any, y: Any) -> bool:
    """Whether two values are equal: as strings, or as numbers to the precision of float32."""
    if is_number(x) and is_number(y):
        return math.isclose(number_of(x) or 0, number_of(y) or 0, rel_tol=1e-6)
    return key_of(x) == key_of(y)


def _decoded(column: TableColumn, encoded: np.ndarray) -> np.ndarray:
    """The decoded cells of a column."""
    n = len(encoded)
    if column.kind in ("category", "boolean", "constant"):
        values = np.empty(len(column.levels) + 2, dtype=object)
        values[: len(column.levels)] = column.levels
        if column.kind == "constant":
            return values[np.zeros(n, dtype=int)]
        values[len(column.levels)] = "(other)"
        [(_, heights)] = column.parts
        cells: np.ndarray = values[(encoded / np.array(heights)).argmax(axis=1)]
        return cells
    missing = (encoded[:, -1] > GAP / 2) if column.has_gaps else np.zeros(n, dtype=bool)
    if column.kind == "number":
        return np.where(missing, np.nan, _unscaled(column, encoded[:, 0]))
    inside = np.clip(encoded[:, 0], column.low, column.high)
    beyond = np.clip(encoded[:, 0] - inside, -50, 50)
    days = inside + np.sign(beyond) * np.expm1(np.abs(beyond))
    first, last = _YEARS
    moments = np.clip(
        (days * column.scale[1] + column.scale[0]) * _DAY, first - column.first, last - column.first
    ).astype(np.int64)
    moments += column.first
    if column.unit == _DAY:
        moments = local_microseconds(moments, column.zone)
    moments = (moments + column.unit // 2) // column.unit * column.unit
    if column.unit != _DAY:
        moments = local_microseconds(moments, column.zone)
    dates: np.ndarray = moments.astype("M8[us]")
    dates[missing] = np.datetime64("NaT", "us")
    return dates


def _objects(column: Column) -> np.ndarray:
    """The cells of a column as objects, None if missing."""
    words = as_words(column)
    values = np.empty(len(words.levels) + 1, dtype=object)
    values[:-1] = words.levels
    cells: np.ndarray = values[words.codes]
    return cells
