"""Reading tables from text files such as CSV, for Python and the command line."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import itertools
import os
import re
import sys
import warnings
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, cast
from unicodedata import decimal

import numpy as np
from numpy.typing import NDArray

from gandetect.data.dates import moment_of, order_of

# Marks of missing values of other programs. An empty cell is always a missing value.
MISSING_VALUES = (
    *("NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "-nan", "NaT"),
    *("NULL", "null", "None", "none"),
)
TABLE_SUFFIXES = (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz", ".txt.gz")

_DELIMITERS = (",", ";", "\t", "|")
_BLANKS = " "
# Number of cells that are converted at once.
_CELLS_A_BLOCK = 2**20
_N_LINES_TO_GUESS_FROM = 200
_N_SHOWN = 20
# From this number on float64 cannot represent every integer.
_LARGE = 2**53

_NUMBER_LIKE = re.compile(r"[+-]?[\d.,'’ \xa0]*\d[\d.,]*([eE][+-]?\d+)?")
_WITH_COMMA = re.compile(r"[+-]?(\d+,\d*|,\d+)([eE][+-]?\d+)?")
_IN_COMMA_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}")
_IN_THOUSANDS = re.compile(
    r"[+-]?[1-9]\d{0,2}(?P<thousands>[.,'’ \xa0])\d{3}(?P<more>(?P=thousands)\d{3})*"
    r"((?P<decimal>[.,])\d+)?"
)
_SIGNS = "€$£¥₹"
# Replacements of characters in numbers by ASCII: the typographic minus, hyphens and dashes that
# programs use instead; full-width characters; non-breaking spaces.
_IN_NUMBERS = str.maketrans(
    dict.fromkeys("\u2212\u2010\u2011\u2012\u2013\u2014\ufe58\ufe63\uff0d", "-")
    | {"\uff0b": "+", "\uff0e": ".", "\uff0c": ",", "\uff05": "%", "\uff04": "$"}
    | dict.fromkeys("\u2007\u2009\u202f", "\xa0")
    | {"\uff07": "'"}
    # Invisible characters: zero-width spaces, marks of text direction, and byte order marks inside
    # of concatenated files.
    | dict.fromkeys("\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\ufeff", "")
)
# The beginnings of HTML and XML documents.
_MARKUP = re.compile(r"<(!doctype|!--|\?xml|html|head|body|table)", re.IGNORECASE)
_IN_FRONT = re.compile(rf"([+-]?)([{_SIGNS}])[ \xa0]?([+-]?.*\d.*)")
_BEHIND = re.compile(rf"(.*\d.*?)[ \xa0]?([{_SIGNS}%])")

Row = tuple[int, list[str]]


class ColumnNotFoundError(ValueError):
    """A table has no column of the requested name or number.

    Examples
    --------
    >>> from gandetect.data.tables import ColumnNotFoundError
    >>> issubclass(ColumnNotFoundError, ValueError)
    True
    """


@dataclass(frozen=True, eq=False, kw_only=True)
class Table:
    """The columns of a table in a file.

    Parameters
    ----------
    source : str
        The name of the table in messages: its path.
    names : list of str
        Names of the columns; their numbers from 0 for a table without names.
    columns : list of ndarray of shape (n_rows,)
        float64 for numbers, with NaN if missing; bool for booleans; datetime64 for dates, with NaT
        if missing; object for strings, and for the times and durations of Parquet files, with None
        if missing.
    lines : ndarray of shape (n_rows,)
        The line of the file in which each row begins, from 1; for Parquet, the number of the row.
    has_names : bool, default=True
        Whether the columns have names in the file.
    row_names : ndarray of shape (n_rows,) or None, default=None
        Names of the rows in a first column, as R and pandas write them.
    unit : str, default="line"
        The unit of `lines` in messages.
    """

    source: str
    names: list[str]
    columns: list[NDArray[Any]]
    lines: NDArray[np.intp]
    has_names: bool = True
    row_names: NDArray[Any] | None = None
    unit: str = "line"

    def __len__(self) -> int:
        return len(self.lines)

    def position(self, name: str) -> int:
        """Find a column by its name, otherwise by its number from 0; negative numbers count back.

        Raises
        ------
        ColumnNotFoundError
            If there is no such column.
        """
        return _position(name, self.names, self.source)

    def select(self, positions: Sequence[int]) -> Table:
        """Return a table of some of the columns."""
        return replace(
            self,
            names=[self.names[i] for i in positions],
            columns=[self.columns[i] for i in positions],
        )

    def check_rows(self) -> None:
        """Raise ValueError if there is no row."""
        if len(self):
            return
        raise ValueError(
            f"{self.source} has no rows below the names of its columns "
            f"({_list_of(self.names, 5)}); if this line is a sample, set header=False (on the "
            "command line --header no)"
        )

    def rows(self, index: NDArray[np.intp]) -> Table:
        """Return a table of some of the rows."""
        names = None if self.row_names is None else self.row_names[index]
        columns = [column[index] for column in self.columns]
        return replace(self, columns=columns, lines=self.lines[index], row_names=names)

    def obstacles(self) -> dict[str, str]:
        """The reasons why columns are not numbers, by the name of the column."""
        found = {
            name: _obstacle(column, self.lines, self.unit)
            for name, column in zip(self.names, self.columns, strict=True)
        }
        return {name: what for name, what in found.items() if what}

    def matrix(self) -> NDArray[np.float64]:
        """Return the numbers of all columns.

        Returns
        -------
        ndarray of shape (n_rows, n_columns)

        Raises
        ------
        ValueError
            If a column has strings, dates, missing values or infinity; names all such columns.
        """
        obstacles = self.obstacles()
        if obstacles:
            told = [f"{name!r} ({what})" for name, what in obstacles.items()]
            more = f" and {len(told) - _N_SHOWN} more" if len(told) > _N_SHOWN else ""
            raise ValueError(
                f"{self.source} has columns that are not numbers in every row: "
                f"{', '.join(told[:_N_SHOWN])}{more}; leave them out, impute them, or fit a "
                "detector with columns='auto' to a table with such columns"
            )
        if not self.columns:
            return np.empty((len(self), 0))
        return np.column_stack(self.columns).astype(np.float64, copy=False)


def read_table(
    source: str | os.PathLike[str],
    *,
    delimiter: str | None = None,
    decimal: str | None = None,
    thousands: str | None = None,
    encoding: str | None = None,
    header: bool | str = "auto",
    missing_values: Iterable[str] = MISSING_VALUES,
    words: Iterable[str] = (),
    dates: Iterable[str] = (),
) -> Table:
    r"""Read a table from a text file, and detect its format.

    Every row of the file is a row of the table. Blank lines are ignored; in a table of one column
    this gives a warning, because a blank line may be a missing value. An uncertain detection gives
    a warning, and an ambiguous format is an error.

    Parameters
    ----------
    source : path or "-"
        The file, also compressed by gzip; "-" reads standard input.
    delimiter : str or None, default=None
        The character between the cells; " " is any number of spaces. None detects comma, semicolon,
        tab, bar or spaces.
    decimal : {".", ","} or None, default=None
        The decimal mark. None is the comma if there are cells such as "1,5" or "1.234,5".
    thousands : str or None, default=None
        The thousands separator. None is the mark in cells such as "1.234,5" and "1,234,567", or the
        mark that is not `decimal`; cells such as "1,234" alone, which may be 1234 or 1.234, are an
        error.
    encoding : str or None, default=None
        The encoding of the text. None is UTF-8, or that of a byte order mark.
    header : bool or "auto", default="auto"
        Whether the first line contains the names of the columns. "auto" detects a header if it has
        strings above columns of numbers or strings that do not occur below, or if it is 0, 1, 2,
        ..., as written by pandas.
    missing_values : iterable of str, default=MISSING_VALUES
        Marks of missing values, in addition to empty cells.
    words : iterable of str, default=()
        Columns, by name or number, that are read as text even if they look like numbers, such as
        identifiers with leading zeros.
    dates : iterable of str, default=()
        Columns of dates and times in the formats of `gandetect.data.dates.moment_of`; times with an
        offset are converted to UTC.

    Returns
    -------
    Table

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ColumnNotFoundError
        If a column of `words` or `dates` does not exist.
    ValueError
        If the file is empty or a page of HTML; if a row has more or fewer cells than there are
        names (the message states the line); if a name is duplicate or missing; if the text cannot
        be decoded or its quotes do not match; if a date cannot be read; if the header, the decimal
        mark or the thousands separator is ambiguous.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from gandetect.data.tables import read_table
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "rows.csv")
    ...     _ = path.write_text("a;b\n1,5;2,7\n3;\n", encoding="utf-8")
    ...     table = read_table(path)
    >>> table.names, table.columns[0].tolist(), table.columns[1].tolist()
    (['a', 'b'], [1.5, 3.0], [2.7, nan])
    """
    _check_marks(delimiter, decimal, thousands, header)
    file = _TextFile(source, encoding, delimiter, decimal)
    return _Reader(file, decimal, thousands, missing_values).read(header, words, dates)


def bare_number(text: str) -> tuple[str, str]:
    """Separate a number from its sign of money or per cent.

    Parameters
    ----------
    text : str
        Without surrounding spaces.

    Returns
    -------
    number, sign : str
        The unchanged text and "" if there is no sign.

    Examples
    --------
    >>> from gandetect.data.tables import bare_number
    >>> bare_number("-$12.50"), bare_number("12,50 €"), bare_number("3 %"), bare_number("x")
    (('-12.50', '$'), ('12,50', '€'), ('3', '%'), ('x', ''))
    """
    if not text or not (text[-1] in _SIGNS + "%" or text[0] in _SIGNS or text[1:2] in _SIGNS):
        return text, ""
    if found := _IN_FRONT.fullmatch(text):
        return found[1] + found[3], found[2]
    if found := _BEHIND.fullmatch(text):
        return found[1], found[2]
    return text, ""


def number_in_ascii(text: str) -> str:
    """Convert the digits, the minus sign and the marks of a number to ASCII.

    Parameters
    ----------
    text : str
        Without surrounding spaces.

    Returns
    -------
    str
        The text itself unless it may be a number.

    Examples
    --------
    >>> from gandetect.data.tables import number_in_ascii
    >>> number_in_ascii("\u22121,5"), number_in_ascii("2e\u22123"), number_in_ascii("\uff11\uff12")
    ('-1,5', '2e-3', '12')
    >>> number_in_ascii("3\u20135") == "3\u20135"  # from three to five
    True
    """
    if text.isascii():
        return text
    plain = "".join(str(decimal(c)) if c.isdecimal() else c for c in text.translate(_IN_NUMBERS))
    return plain if _is_number_like(plain) else text


def whole_if_possible(values: NDArray[Any]) -> NDArray[Any]:
    """Convert whole numbers to integers, as labels and identifiers are.

    Parameters
    ----------
    values : ndarray of shape (n_samples,)

    Returns
    -------
    ndarray of shape (n_samples,)
        int64, or `values` if they are not float, or one of them is missing, infinite, not whole, or
        larger than float64 represents exactly.

    Examples
    --------
    >>> import numpy as np
    >>> from gandetect.data.tables import whole_if_possible
    >>> whole_if_possible(np.array([1.0, 2.0]))
    array([1, 2])
    >>> whole_if_possible(np.array([1.0, 2.5]))
    array([1. , 2.5])
    """
    is_whole = values.dtype.kind == "f" and bool((values == np.round(values)).all())
    is_exact = is_whole and bool((np.abs(values) < 2**53).all())
    return values.astype(np.int64) if is_exact else values


def is_table(path: str | os.PathLike[str]) -> bool:
    """Whether the extension of a path is that of a table in a text file."""
    return os.fspath(path).lower().endswith(TABLE_SUFFIXES)


def _check_marks(
    delimiter: str | None, decimal: str | None, thousands: str | None, header: bool | str
) -> None:
    for name, mark in (("delimiter", delimiter), ("thousands", thousands)):
        if mark is not None and (len(mark) != 1 or mark.isalnum() or mark in '"\r\n+-'):
            raise ValueError(f"{name} must be one character between values, got {mark!r}")
    if decimal not in (None, ".", ","):
        raise ValueError(f"decimal must be '.' or ',', got {decimal!r}")
    if thousands is not None and thousands == decimal:
        raise ValueError(f"thousands and decimal cannot both be {thousands!r}")
    if header not in (True, False, "auto"):
        raise ValueError(f"header must be True, False or 'auto', got {header!r}")


class _TextFile:
    """A text file that can be read several times, and its rows."""

    def __init__(
        self,
        source: str | os.PathLike[str],
        encoding: str | None,
        delimiter: str | None,
        decimal: str | None,
    ) -> None:
        self.source = source
        self.name = "standard input" if source == "-" else os.fspath(source)
        self._encoding = self._encoding_of_mark() if encoding is None else _checked(encoding)
        self.n_blank_lines = 0
        with self._opened() as text:
            first = text.readline()
            begin = first
            while begin and not begin.strip():
                begin = text.readline()
        if _MARKUP.match(begin.strip()):
            raise ValueError(
                f"{self.name} cannot be read as a table: it seems to be HTML or XML, "
                f"because it begins with {begin.strip()[:_N_SHOWN]!r}; save the table as CSV"
            )
        named = re.fullmatch(r"sep=(.)\s*", first)  # written for spreadsheets
        self._n_skipped = 1 if named else 0
        if delimiter is None and named:
            delimiter = named[1]
        if delimiter is None and self.name.lower().endswith((".tsv", ".tsv.gz")):
            delimiter = "\t"
        self._delimiter = delimiter or self._guessed_delimiter(decimal)

    def rows(self) -> Iterator[Row]:
        """Yield the line number and the cells of each row, without surrounding spaces."""
        self.n_blank_lines, n_pending, n_cells = 0, 0, 0
        with self._opened() as text:
            for _ in range(self._n_skipped):
                text.readline()
            lines = self._lines(text)
            reader = csv.reader(
                lines, delimiter=self._delimiter, skipinitialspace=True, strict=True
            )
            while True:
                start = self._n_skipped + reader.line_num + 1
                try:
                    cells = next(reader)
                except StopIteration:
                    return
                except csv.Error as error:
                    raise ValueError(
                        f"{self.name} cannot be read as a table: {error}, in the row that begins "
                        f"in line {start} (a quote that opens a cell must close it)"
                    ) from error
                # In a table of one column, a pair of quotes is a row with an empty cell.
                if not cells or (n_cells != 1 and len(cells) == 1 and not cells[0].strip()):
                    n_pending += 1
                    continue
                n_cells = n_cells or len(cells)
                self.n_blank_lines, n_pending = self.n_blank_lines + n_pending, 0
                yield start, [number_in_ascii(cell.strip()) for cell in cells]

    def _lines(self, text: Iterable[str]) -> Iterable[str]:
        if self._delimiter != _BLANKS:
            return text
        return map(_with_single_blanks, text)

    def _packed(self) -> IO[bytes]:
        if self.source == "-":
            return io.BytesIO(_standard_input(sys.stdin.buffer))
        try:
            return Path(self.source).open("rb")
        except FileNotFoundError as error:
            raise FileNotFoundError(f"there is no file {self.name}") from error
        except IsADirectoryError as error:
            raise IsADirectoryError(f"{self.name} is a folder, but must be a file") from error

    @contextmanager
    def _bytes(self) -> Iterator[IO[bytes]]:
        with self._packed() as file:
            is_packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            try:
                yield cast(IO[bytes], gzip.GzipFile(fileobj=file)) if is_packed else file
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                raise ValueError(f"{self.name} is a damaged gzip file: {error}") from error

    @contextmanager
    def _opened(self) -> Iterator[io.TextIOWrapper]:
        with self._bytes() as file, io.TextIOWrapper(file, self._encoding, newline="") as text:
            try:
                yield text
            except UnicodeError as error:
                raise ValueError(self._not_decoded()) from error

    def _encoding_of_mark(self) -> str:
        with self._bytes() as file:
            head = file.read(4096)
        if head.startswith((b"\xff\xfe\x00\x00", b"\x00\x00\xfe\xff")):
            return "utf-32"
        if head.startswith((b"\xff\xfe", b"\xfe\xff")):
            return "utf-16"
        if b"\0" in head:
            if head.startswith((b"PK", b"\xd0\xcf\x11\xe0")):  # .xlsx and the like, .xls
                what = "a workbook or another archive: save it as CSV"
            elif head.startswith(b"PAR1"):
                what = "a Parquet file, which needs the extension .parquet"
            else:
                what = "not text, or UTF-16 without a byte order mark: set its encoding"
            raise ValueError(f"{self.name} cannot be read as a table: it is {what}")
        return "utf-8-sig"

    def _not_decoded(self) -> str:
        """The error message for a line in another encoding."""
        codec = self._encoding.removesuffix("-sig").upper()
        with self._bytes() as file:
            content = file.read()
        try:
            content.decode(self._encoding)
            line = None
        except UnicodeDecodeError as error:
            line = content[: error.start].count(b"\n") + 1
            codec = f"{codec} (byte 0x{content[error.start]:02x})"
        where = f"line {line} of {self.name}" if line else self.name
        return (
            f"{where} is not text in {codec}: set its encoding, which may be latin-1 or cp1252 "
            '(encoding="latin-1", on the command line --encoding latin-1)'
        )

    def _guessed_delimiter(self, decimal: str | None) -> str:
        with self._opened() as text:
            lines = list(itertools.islice(text, _N_LINES_TO_GUESS_FROM))[self._n_skipped :]
        marks = list(_DELIMITERS)
        if decimal == "," and not any('"' in line for line in lines):
            marks.remove(",")  # it would split the numbers
        guesses = [(fit, mark) for mark in marks if (fit := _fit(lines, mark))]
        best = max(guesses, key=lambda guess: guess[0], default=((0, 0.0, 0.0), marks[0]))
        blanks = _fit([_with_single_blanks(line) for line in lines], _BLANKS)
        # Strings contain spaces too; only numbers show that spaces are the delimiter.
        is_blank = blanks is not None and blanks[0] and (blanks[1] == 1.0 or not guesses)
        return _BLANKS if is_blank and blanks > best[0] else best[1]  # type: ignore[operator]


@lru_cache(maxsize=1)
def _standard_input(stream: IO[bytes]) -> bytes:
    """Return the whole standard input, which can be read only once."""
    return stream.read()


def _with_single_blanks(line: str) -> str:
    """Return a line with single spaces as delimiters; non-breaking spaces are kept in numbers."""
    return re.sub(r"\s+", _BLANKS, line, flags=re.ASCII).strip(_BLANKS) + "\n"


def _fit(lines: Sequence[str], delimiter: str) -> tuple[int, float, float] | None:
    """The quality of a delimiter.

    Returns
    -------
    tuple or None
        2 if all rows have the same number of cells, 1 if the first row has one cell less, else 0;
        the share of numbers in the cells; the share of rows with the most frequent number of cells.
        None if there is one column.
    """
    try:
        reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
        rows = [row for row in reader if any(map(str.strip, row))]
    except csv.Error:
        return None
    if max(map(len, rows), default=0) < 2:
        return None
    body = rows[1:] or rows
    width, n_agreeing = Counter(map(len, body)).most_common(1)[0]
    agree = 0
    if n_agreeing == len(body) and width > 1:
        agree = {width: 2, width - 1: 1}.get(len(rows[0]), 0)
    cells = [number_in_ascii(cell.strip()) for row in body for cell in row]
    n_numbers = sum(
        not cell or (" " not in cell and _NUMBER_LIKE.fullmatch(bare_number(cell)[0]) is not None)
        for cell in cells
    )
    return agree, n_numbers / len(cells), n_agreeing / len(body)


class _Reader:
    """Conversion of rows of text to columns of values."""

    def __init__(
        self,
        file: _TextFile,
        decimal: str | None,
        thousands: str | None,
        missing_values: Iterable[str],
    ) -> None:
        self._file = file
        self._decimal = decimal
        self._thousands = thousands and thousands.translate(_IN_NUMBERS)
        self._missing = {"", *(number_in_ascii(value.strip()) for value in missing_values)}
        self._signs: dict[int, set[str]] = {}  # of money or per cent, by the column

    def read(self, header: bool | str, words: Iterable[str], dates: Iterable[str]) -> Table:
        """Read all rows: once for the numbers, and again for the text of the other columns."""
        rows = self._file.rows()
        head = list(itertools.islice(rows, 1))
        if not head:
            raise ValueError(f"{self._file.name} is empty")
        n_rows = max(1, _CELLS_A_BLOCK // len(head[0][1]))
        head += itertools.islice(rows, n_rows)
        names, has_row_names, shape = self._header(head, header)
        has_names, width = names is not None, shape[0]
        names = names or [str(i) for i in range(width)]
        as_words = {_position(name, names, self._file.name) for name in words}
        as_words |= {0} if has_row_names else set()
        as_dates = {_position(name, names, self._file.name) for name in dates}
        if self._thousands is None:
            self._guess_marks(
                head[has_names:], [i for i in range(width) if i not in as_words | as_dates]
            )
        elif self._decimal is None:
            self._decimal = "," if self._thousands == "." else "."
        blocks: list[list[NDArray[Any] | None]] = []
        lines: list[int] = []
        empty: list[int] = []
        for block in _in_blocks(itertools.chain(head[has_names:], rows), n_rows):
            self._check_widths(block, shape, head[0][0], has_names)
            lines += [line for line, _ in block]
            empty += [line for line, row in block if self._missing.issuperset(row)]
            columns = enumerate(zip(*(row[:width] for _, row in block), strict=True))
            blocks.append([None if i in as_words else self._numbers(x, i) for i, x in columns])
        if len(head[0][1]) == 1 and self._file.n_blank_lines:
            n_blank = _count(self._file.n_blank_lines, "blank line")
            _warn(f"{self._file.name} has {n_blank} between the rows, which are ignored")
        if width > 1 and 0 < len(empty) < len(lines):
            n_rows_of_gaps = _count(len(empty), "row")
            _warn(
                f"{self._file.name} has {n_rows_of_gaps} in which all values are missing; they are "
                f"read as samples. The first is line {empty[0]}"
            )
        table = Table(
            source=self._file.name,
            names=names,
            columns=[_joined([block[i] for block in blocks]) for i in range(width)],
            lines=np.array(lines, dtype=np.intp),
            has_names=has_names,
        )
        self._read_texts(table, as_words, as_dates)
        return _without_row_names(table) if has_row_names else table

    def _header(
        self, head: list[Row], header: bool | str
    ) -> tuple[list[str] | None, bool, tuple[int, int]]:
        """Interpret the first row.

        Returns
        -------
        names : list of str or None
            The names, if the first row contains them.
        has_row_names : bool
            Whether the first column names the rows.
        shape : (int, int)
            The number of used cells of a row, and of all its cells; the last cells may be empty in
            all rows.
        """
        (line, first), body = head[0], [row for _, row in head[1:]]
        has_more = {len(row) for row in body} == {len(first) + 1}
        n_cells = len(first) + has_more
        if has_more and all(not row[-1] for row in body):  # each row ends in a delimiter
            body, has_more = [row[:-1] for row in body], False
        elif has_more and header and self._are_names_of_rows([row[0] for row in body], len(first)):
            self._check_names(first, line, first_number=2)
            self._warn_of_row_names("it has no name")
            return ["", *first], True, (n_cells, n_cells)
        if has_more:  # raised where the widths are checked
            n_cells = len(first)
        if header == "auto":
            header = not has_more and self._is_header(first, body, line)
        if not header:
            return None, False, (len(first), n_cells)
        width = len(first)
        while width > 1 and not first[width - 1] and not any(any(row[width - 1 :]) for row in body):
            width -= 1
        is_unnamed = first[0] in ("", "Unnamed: 0") and width > 1
        is_index = is_unnamed and self._names_rows([row[0] for row in body])
        self._check_names(first[is_index:width], line, first_number=1 + is_index)
        if is_index:
            self._warn_of_row_names(f"its name is {first[0]!r}" if first[0] else "it has no name")
        return first[:width], is_index, (width, n_cells)

    def _are_names_of_rows(self, cells: Sequence[str], n_names: int) -> bool:
        """Return whether the first cells are row names, if rows are longer than the first line.

        Otherwise they are the first part of a date with a time, or of numbers with decimal commas
        in a table of one column.
        """
        are_words = not any(cell[:1].isdigit() for cell in cells)
        return len(cells) > 1 and (are_words or n_names > 1) and self._names_rows(cells, are_words)

    def _names_rows(self, cells: Sequence[str], may_be_words: bool = True) -> bool:
        """Return whether cells are row names: distinct, and strings or consecutive numbers."""
        if len(set(cells)) < len(cells) or not self._missing.isdisjoint(cells):
            return False
        if may_be_words and not any(map(_is_float, cells)):
            return True
        start = int(cells[0]) if cells[0].isdecimal() else -1
        return start in (0, 1) and list(cells) == [str(start + i) for i in range(len(cells))]

    def _warn_of_row_names(self, why: str) -> None:
        _warn(f"the first column of {self._file.name} is read as the names of the rows: {why}")

    def _check_names(self, names: Sequence[str], line: int, first_number: int) -> None:
        place = f"line {line} of {self._file.name}"
        for number, name in enumerate(names, first_number):
            if not name:
                raise ValueError(
                    f"column {number} has no name in {place}: give it one (if that line is a "
                    "sample, set header=False, on the command line --header no)"
                )
        name, n = Counter(names).most_common(1)[0] if names else ("", 0)
        if n > 1:
            raise ValueError(
                f"{n} columns have the name {name!r} in {place}: names of columns must be unique"
            )

    def _is_header(self, first: Sequence[str], body: Sequence[Sequence[str]], line: int) -> bool:
        """Whether the first row has the names of the columns, for ``header="auto"``."""
        words = [i for i, cell in enumerate(first) if self._is_word(cell)]
        below = [[row[i] for row in body if i < len(row)] for i in range(len(first))]
        if not words:
            return self._counts(first, below, line)
        if not body or any(self._are_numbers(below[i]) for i in words):
            return True
        recurring = [i for i in words if first[i] in below[i]]
        numbers = [i for i, cell in enumerate(first) if i not in words and _is_float(cell)]
        if any(self._are_numbers(below[i]) for i in numbers):
            if not recurring:
                raise ValueError(self._untold(first, line))
            return False
        is_header = 2 * len(recurring) < len(words)
        if not is_header:
            self._warn_of_header(first, line, "a sample, because its strings occur again below")
        return is_header

    def _counts(self, first: Sequence[str], below: Sequence[list[str]], line: int) -> bool:
        """Return whether a row of numbers is 0, 1, 2, ..., as pandas writes unnamed columns."""
        is_indexed = first[0] == "" and len(first) > 1 and self._names_rows(below[0])
        counted, below = first[is_indexed:], below[is_indexed:]
        start = counted[0]
        if not below[0] or not start.isdecimal() or (start != "0" and len(counted) < 4):
            return False
        if list(counted) != [str(int(start) + i) for i in range(len(counted))]:
            return False
        has_integers = any(re.fullmatch(r"[+-]?\d+", cell) for cells in below for cell in cells)
        if has_integers and (len(counted) < 4 or start != "0") and not is_indexed:
            if len(counted) == 1:
                return False
            raise ValueError(self._untold(first, line))
        self._warn_of_header(first, line, "the names of the columns, as pandas writes them")
        return True

    def _untold(self, first: Sequence[str], line: int) -> str:
        return (
            f"line {line} of {self._file.name} ({_list_of(first, 5)}) may be the names of the "
            "columns or a sample: set header=True or header=False (on the command line --header "
            "yes or --header no)"
        )

    def _warn_of_header(self, first: Sequence[str], line: int, what: str) -> None:
        _warn(
            f"line {line} of {self._file.name} ({_list_of(first, 5)}) is read as {what} "
            "(set header=True or False, on the command line --header yes or no)"
        )

    def _is_word(self, cell: str) -> bool:
        # Marks such as "?" and "-" are missing values here, also if they are not declared.
        is_mark = not any(map(str.isalnum, cell))
        is_number = _is_number_like(cell)
        return not is_mark and not is_number and cell not in self._missing

    def _are_numbers(self, cells: Sequence[str]) -> bool:
        there = [
            cell for cell in cells if cell not in self._missing and any(map(str.isalnum, cell))
        ]
        return bool(there) and all(map(_is_number_like, there))

    def _guess_marks(self, head: Sequence[Row], positions: Sequence[int]) -> None:
        """Detect the decimal mark and the thousands separator; raise if they are ambiguous."""
        columns = []
        shown: dict[str, str] = {}
        for i in positions:
            cells = [(line, row[i]) for line, row in head if i < len(row)]
            cells = [(line, cell) for line, cell in cells if cell not in self._missing]
            kinds = {
                _kind_of_number(cell): f"{cell!r} in line {line}" for line, cell in cells[::-1]
            }
            if None not in kinds:  # None is the kind of strings
                columns.append(cells)
                shown = {**cast(dict[str, str], kinds), **shown}
        certain = {kind: cell for kind, cell in shown.items() if len(kind) == 2}
        if self._decimal is not None:
            # The other mark can only be the thousands separator.
            other = "." if self._decimal == "," else ","
            has_other = other in shown or any(kind.startswith(other) for kind in certain)
            if has_other or (other == "," and "comma or thousands" in shown):
                self._take_marks(other, self._decimal, columns, shown)
            return
        if len(certain) == 1:
            [marks] = certain
            self._take_marks(marks[0], marks[1], columns, shown)
            return
        unclear = shown.get("thousands") or ("," not in shown and shown.get("comma or thousands"))
        if unclear:
            raise ValueError(
                f"{self._file.name} contains {unclear}, which may have a thousands separator: set "
                "the separators (thousands= or decimal=, on the command line --thousands or "
                "--decimal)"
            )
        if ("," in shown and "." in shown) or certain:
            raise self._contradiction(shown)
        self._decimal = "," if "," in shown else "."

    def _take_marks(
        self,
        thousands: str,
        decimal: str,
        columns: Sequence[Sequence[tuple[int, str]]],
        shown: dict[str, str],
    ) -> None:
        """Set these marks, unless they contradict each other."""
        self._thousands, self._decimal = thousands, decimal
        for cells in columns:
            for _, cell in cells:
                try:
                    float(self._plain(bare_number(cell)[0]))
                except ValueError as error:
                    raise self._contradiction({**shown, "": repr(cell)}) from error

    def _contradiction(self, shown: Mapping[str, str]) -> ValueError:
        cells = list(dict.fromkeys(cell for kind, cell in shown.items() if kind))[:2]
        cells = cells if len(cells) == 2 else list(shown.values())[:2]
        return ValueError(
            f"{self._file.name} contains the numbers {' and '.join(cells)}: set the decimal mark "
            '(decimal=",", on the command line --decimal ,), and the thousands separator '
            "(thousands=)"
        )

    def _check_widths(
        self, block: Sequence[Row], shape: tuple[int, int], first_line: int, has_names: bool
    ) -> None:
        width, n_cells = shape
        for line, row in block:
            if len(row) != n_cells or any(row[width:]):
                what = "name" if has_names else "cell"
                raise ValueError(
                    f"line {line} of {self._file.name} has {_count(len(row), 'cell')}, but line "
                    f"{first_line} has {_count(width, what)}"
                )

    def _numbers(self, cells: Sequence[str], position: int) -> NDArray[Any] | None:
        """The values of cells that are all numbers, or all booleans, or missing; else None."""
        is_plain = self._decimal == "." and self._thousands is None
        try:
            if not is_plain or any(map(_is_float, self._missing - _NANS)):
                raise ValueError
            values = np.array(cells, dtype=np.float64)
        except ValueError:
            gaps = [cell in self._missing for cell in cells]
            there = [cell for cell, is_gap in zip(cells, gaps, strict=True) if not is_gap]
            if there and {cell.lower() for cell in there[:_N_SHOWN]} <= {"true", "false"}:
                return self._booleans(cells)
            bare = [bare_number(cell) for cell in there]
            if len({sign for _, sign in bare} | self._signs.get(position, set())) > 1:
                return None  # euros and dollars, or percentages and shares
            self._signs[position] = {sign for _, sign in bare}
            try:
                there = [cell for cell, _ in bare]
                plain = there if is_plain else [self._plain(cell) for cell in there]
                found = np.array(plain, dtype=np.float64)
            except ValueError:
                return None
            is_gap = np.array(gaps, dtype=bool)
            values = np.full(len(cells), np.nan)
            values[~is_gap] = found
        large = np.flatnonzero(np.abs(values) >= _LARGE).tolist()
        if any("_" in cell for cell in cells) or any(is_inexact(cells[i]) for i in large):
            return None
        return values

    @staticmethod
    def _booleans(cells: Sequence[str]) -> NDArray[np.bool_] | None:
        lower = [cell.lower() for cell in cells]
        return np.array(lower) == "true" if set(lower) <= {"true", "false"} else None

    def _plain(self, cell: str) -> str:
        """A number with a decimal point and without thousands separators; other text unchanged."""
        if self._thousands and self._thousands in cell:
            integer, mark, rest = cell.partition(self._decimal or ".")
            first, *groups = integer.split(self._thousands)
            if not first or any(len(group) != 3 for group in groups):
                raise ValueError(cell)
            cell = first + "".join(groups) + mark + rest
        if self._decimal == ",":
            if "." in cell:
                raise ValueError(cell)
            cell = cell.replace(",", ".")
        return cell

    def _read_texts(self, table: Table, as_words: set[int], as_dates: set[int]) -> None:
        """Read the columns that are not numbers."""
        texts: dict[int, list[str | None]] = {
            i: []
            for i, column in enumerate(table.columns)
            if column.dtype == object or i in as_words | as_dates
        }
        if not texts or not len(table):
            return
        for _, row in itertools.islice(self._file.rows(), int(table.has_names), None):
            for i, cells in texts.items():
                cells.append(None if row[i] in self._missing else sys.intern(row[i]))
        for i, cells in texts.items():
            if i in as_dates:
                table.columns[i] = self._as_dates(cells, table, i)
            else:
                table.columns[i] = np.array(cells, dtype=object)

    def _as_dates(self, cells: Sequence[str | None], table: Table, i: int) -> NDArray[Any]:
        values = np.full(len(cells), np.datetime64("NaT", "us"), dtype="datetime64[us]")
        order = order_of(cell for cell in cells if cell is not None)
        for row, cell in enumerate(cells):
            if cell is None:
                continue
            value = moment_of(cell, order or "", compact=True)
            if value is None:
                raise ValueError(
                    f"{cell!r} in line {table.lines[row]} of {table.source}, column "
                    f"{table.names[i]!r}, is not a date like 2024-12-31 or 2024-12-31T23:59:59"
                    + (": the day or the month may come first" if order is None else "")
                )
            values[row] = value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value
        return values


_NANS = {"", *MISSING_VALUES}


def _in_blocks(rows: Iterable[Row], n: int) -> Iterator[list[Row]]:
    rows = iter(rows)
    while block := list(itertools.islice(rows, n)):
        yield block


def _joined(blocks: Sequence[NDArray[Any] | None]) -> NDArray[Any]:
    """Join the parts of a column; an empty array of objects if they have different types."""
    if not blocks:
        return np.empty(0)
    n_kinds = len({None if block is None else block.dtype for block in blocks})
    if n_kinds > 1 or blocks[0] is None:
        return np.empty(0, dtype=object)
    return np.concatenate(blocks)  # type: ignore[arg-type]  # none of them is None


def _without_row_names(table: Table) -> Table:
    return replace(
        table,
        names=table.names[1:],
        columns=table.columns[1:],
        row_names=table.columns[0],
    )


def _obstacle(column: NDArray[Any], lines: NDArray[np.intp], unit: str) -> str:
    """The reason why a column is not numbers; "" if it is."""
    if column.dtype.kind in "bui":
        return ""
    if column.dtype.kind == "M":
        return "dates"
    if column.dtype.kind == "f":
        is_gap = np.isnan(column)
        is_infinite = np.isinf(column)
        if is_infinite.any():
            return f"infinity in {unit} {lines[is_infinite.argmax()]}"
        what = ""
    else:
        is_gap = np.array([value is None for value in column], dtype=bool)
        there = list(dict.fromkeys(column[~is_gap].tolist()))
        kind = "strings"
        if there and not isinstance(there[0], str):
            kind = "times"
        elif there and all(is_inexact(value) for value in there):
            kind = "integers beyond the precision of float64"
        shown = ", ".join(repr(str(value)[:_N_SHOWN]) for value in there[:2])
        what = f"{kind} such as {shown}" if there else ""
    if not is_gap.any():
        return what
    n_missing = _count(int(is_gap.sum()), "missing value")
    told = f"{n_missing}, the first in {unit} {lines[is_gap.argmax()]}"
    return f"{what}, {told}" if what else told


def _kind_of_number(cell: str) -> str | None:
    """Return the mark in a number, if any; the thousands and the decimal mark if it has both."""
    cell = bare_number(cell)[0]
    if _is_float(cell):
        return "." if "." in cell else ""
    if _WITH_COMMA.fullmatch(cell):
        return "comma or thousands" if _IN_COMMA_THOUSANDS.fullmatch(cell) else ","
    found = _IN_THOUSANDS.fullmatch(cell)
    if not found or found["decimal"] == found["thousands"]:
        return None
    if found["decimal"]:
        return found["thousands"] + found["decimal"]
    if found["more"]:
        return found["thousands"] + ("," if found["thousands"] == "." else ".")
    return "thousands"


def _position(name: str, names: Sequence[str], source: str) -> int:
    if name in names:
        return names.index(name)
    if re.fullmatch(r"-?\d+", name) and -len(names) <= int(name) < len(names):
        return int(name) % len(names)
    raise ColumnNotFoundError(f"{source} has no column {name!r}, only {_list_of(names)}")


def _checked(encoding: str) -> str:
    try:
        name = codecs.lookup(encoding).name
    except LookupError as error:
        raise ValueError(f"there is no encoding {encoding!r}") from error
    return "utf-8-sig" if name == "utf-8" else name


def _is_number_like(cell: str) -> bool:
    cell = bare_number(cell)[0]
    return _is_float(cell) or _NUMBER_LIKE.fullmatch(cell) is not None


def _is_float(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text


def is_inexact(text: Any) -> bool:
    """Return whether a text is an integer that float64 cannot represent exactly."""
    is_integer = isinstance(text, str) and re.fullmatch(r"[+-]?\d+", text) is not None
    return is_integer and int(float(text)) != int(text)


def _list_of(names: Sequence[str], n_shown: int = _N_SHOWN) -> str:
    return ", ".join(names[:n_shown]) + (", ..." if len(names) > n_shown else "")


def _count(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def _warn(message: str) -> None:
    warnings.warn(message, UserWarning, stacklevel=2)
