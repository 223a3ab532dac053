"""Parquet files and directories as an array of rows, read batch by batch (extra ``arrow``)."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from gandetect.data.tables import Table, is_inexact

_SUFFIXES = (".parquet", ".pq")
# Number of values decoded at once: 8 MiB as float64.
_VALUES_A_BATCH = 2**20


def is_parquet(path: str | os.PathLike[str]) -> bool:
    """Return whether the path is a Parquet file or a directory that contains Parquet files."""
    path = Path(path)
    return path.suffix.lower() in _SUFFIXES if path.is_file() else bool(_files(path))


def is_plain(path: str | os.PathLike[str]) -> bool:
    """Return whether Parquet data are numbers only and, by their metadata, have no missing values.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import pyarrow
    >>> from pyarrow import parquet
    >>> from gandetect.data.parquet import is_plain
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "rows.parquet")
    ...     parquet.write_table(pyarrow.table({"a": [1, 2], "kind": ["ok", "bad"]}), path)
    ...     is_plain(path)
    False
    """
    parquet = _pyarrow_parquet()
    for file in _existing(path):
        with parquet.ParquetFile(file) as opened:
            places = _columns(opened)
            if any(_dtype_of(field).kind not in "biuf" for field in places.values()):
                return False
            groups = map(opened.metadata.row_group, range(opened.metadata.num_row_groups))
            found = [group.column(i).statistics for group in groups for i in places]
            if any(known and known.has_null_count and known.null_count for known in found):
                return False
    return True


def read_parquet(
    path: str | os.PathLike[str],
    *,
    missing_values: Iterable[str] = (),
    words: Iterable[str] = (),
    left_out: Iterable[str] = (),
) -> Table:
    """Read a Parquet file, or all Parquet files below a directory, as a table in memory.

    Parameters
    ----------
    path : str or path
        As in `ParquetRows`.
    missing_values : iterable of str, default=()
        Strings that mark missing values, in addition to nulls, NaN and empty strings.
    words : iterable of str, default=()
        Columns, by name or number, that are always read as strings.
    left_out : iterable of str, default=()
        Names of columns that are not used. They may be absent or contain nested values.

    Returns
    -------
    Table
        The table; its `lines` are row numbers from 1.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    TypeError
        If a column contains nested values, such as lists.
    ValueError
        If there is no row, a file is damaged, the files differ in their columns, or two columns
        have the same name.
    ImportError
        Without pyarrow: ``pip install "gandetect[arrow]"``.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import pyarrow
    >>> from pyarrow import parquet
    >>> from gandetect.data.parquet import read_parquet
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "rows.parquet")
    ...     parquet.write_table(pyarrow.table({"a": [1, None], "kind": ["ok", "bad"]}), path)
    ...     table = read_parquet(path)
    >>> table.names, table.columns[0].tolist(), table.columns[1].tolist()
    (['a', 'kind'], [1.0, nan], ['ok', 'bad'])
    """
    parquet = _pyarrow_parquet()
    import pyarrow as pa

    tables = []
    for file in _existing(path):
        try:
            with parquet.ParquetFile(file) as opened:
                part = opened.read()
        except pa.ArrowInvalid as error:
            raise ValueError(f"{file} cannot be read as a Parquet file: {error}") from error
        tables.append(part.drop_columns(index_columns(part.schema)))
        if tables[-1].schema.remove_metadata() != tables[0].schema.remove_metadata():
            raise ValueError(
                f"{str(file)!r} has different columns from {str(_existing(path)[0])!r}."
            )
    whole = pa.concat_tables(tables)
    if not whole.num_rows:
        raise ValueError(f"{path} contains no rows")
    names = list(whole.column_names)
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(
            f"{path} has several columns with the name {twice!r}: names of columns must be unique"
        )
    missing = {"", *missing_values}
    table = Table(
        source=os.fspath(path),
        names=names,
        columns=[np.empty(0)] * len(names),
        lines=np.arange(1, whole.num_rows + 1),
        unit="row",
    )
    as_words = {table.position(name) for name in words}
    unused = set(left_out)
    for i, name in enumerate(names):
        kind = whole.column(i).type
        if pa.types.is_nested(kind) and name in unused:
            as_words.add(i)
        if i not in as_words and pa.types.is_nested(kind):
            raise TypeError(
                f"column {name!r} of {path} has the type {kind}, but a cell must be a number, a "
                "string, a boolean, a date, a time or a duration: convert it to columns of these "
                "types, or leave it out"
            )
        try:
            table.columns[i] = _values(whole.column(i), i in as_words, missing)
        except pa.ArrowInvalid as error:
            raise ValueError(f"column {name!r} of {path} cannot be read: {error}") from error
    return table


def _values(column: Any, is_words: bool, missing: set[str]) -> np.ndarray:
    """Return a column in the form of `Table.columns`."""
    import pyarrow as pa
    from pyarrow import types

    if types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    kind = column.type
    is_number = types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)
    if not is_words and types.is_boolean(kind) and not column.null_count:
        return np.asarray(column.to_numpy())
    if not is_words and (types.is_date(kind) or types.is_timestamp(kind)):
        return np.asarray(column.cast(pa.timestamp("us")).to_numpy())
    if not is_words and (types.is_time(kind) or types.is_duration(kind)):
        unit = pa.duration("us") if types.is_duration(kind) else pa.time64("us")
        return np.array(column.cast(unit, safe=False).to_pylist(), dtype=object)
    if not is_words and is_number:
        values = np.asarray(column.cast(pa.float64(), safe=False).to_numpy())
        large: Any = np.flatnonzero(np.abs(values) >= 2**53) if types.is_integer(kind) else []
        if not any(is_inexact(str(column[int(i)])) for i in large):
            return values
    texts = [None if value is None else str(value) for value in column.to_pylist()]
    return np.array([None if text in missing else text for text in texts], dtype=object)


class ParquetRows:
    """The rows of a Parquet file, or of all Parquet files below a directory in order of names.

    It is indexed like an array. Reading a single row of a Parquet file decodes its whole row group.
    Therefore consecutive rows, as in scoring, are streamed. For random access, as in training, all
    rows are first copied batch by batch to a memory map in a temporary file, which is deleted with
    this object.

    A file is open only while it is read, because a directory may contain more files than a process
    may open. An index written by pandas or Dask is not a column.

    Parameters
    ----------
    path : str or path
        In a directory, entries whose name begins with "_" or "." are ignored, as in pyarrow, Dask
        and Spark: they are metadata or unfinished files.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    TypeError
        If a column is not numeric.
    ValueError
        If the files differ in their columns, or have no row.
    ImportError
        Without pyarrow: ``pip install "gandetect[arrow]"``.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        parquet = _pyarrow_parquet()
        paths = _existing(path)
        self.files: list[tuple[Path, int]] = []  # with their numbers of rows
        fields = None
        for path in paths:
            with parquet.ParquetFile(path) as file:
                self.files.append((path, file.metadata.num_rows))
                found = list(_columns(file).values())
            fields = found if fields is None else fields
            if found != fields:
                raise ValueError(f"{str(path)!r} has different columns from {str(paths[0])!r}.")
        self._fields = fields or []
        self.names = [field.name for field in self._fields]
        self.dtype = _common_dtype(self._fields)
        self.shape = (sum(n for _, n in self.files), len(self.names))
        if not self.shape[0]:
            raise ValueError(f"{path} contains no rows")
        self._stream: Iterator[np.ndarray] = iter(())
        self._position = -1
        self._rest = np.empty((0, self.shape[1]), self.dtype)
        self._copy: np.ndarray | None = None

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: slice | np.ndarray) -> np.ndarray:
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
        else:
            start, stop, step = (int(index[0]), int(index[-1]) + 1, 1) if len(index) else (0, 0, 1)
            step = 1 if (np.diff(index) == 1).all() else 0
        if step != 1:
            return np.asarray(self._copied()[index])
        return self._run(start, max(stop - start, 0))

    def _run(self, start: int, n: int) -> np.ndarray:
        """Return `n` rows from `start` on; continues the stream if it is at this position."""
        if start != self._position:
            self._stream, self._rest = self.batches(start), self._rest[:0]
        parts, n_found = [self._rest], len(self._rest)
        while n_found < n:
            parts.append(next(self._stream))
            n_found += len(parts[-1])
        x = np.concatenate(parts)
        self._rest, self._position = x[n:], start + n
        return x[:n]

    def _copied(self) -> np.ndarray:
        if self._copy is None:
            folder = tempfile.mkdtemp(prefix="gandetect-")
            weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
            path = Path(folder, "rows")
            with path.open("wb") as file:
                for x in self.batches():
                    file.write(x.tobytes())
            self._copy = np.memmap(path, self.dtype, "r", shape=self.shape)
        return self._copy

    def batches(self, start: int = 0) -> Iterator[np.ndarray]:
        """Yield the rows from `start` on, in batches (n, d).

        Raises
        ------
        ValueError
            If a file was changed after this object was created, or a value is missing.
        """
        parquet = _pyarrow_parquet()
        n_rows = max(1, _VALUES_A_BATCH // max(1, self.shape[1]))
        for path, n_in_file in self.files:
            if start >= n_in_file:
                start -= n_in_file
                continue
            with parquet.ParquetFile(path) as file:
                columns = _columns(file)
                found = (file.metadata.num_rows, list(columns.values()))
                if found != (n_in_file, self._fields):
                    raise ValueError(
                        f"{str(path)!r} was changed while it was read: fit or score again."
                    )
                groups, start = _groups_from(file, start)
                for batch in file.iter_batches(n_rows, row_groups=groups, use_threads=False):
                    if start < batch.num_rows:
                        yield self._as_array(batch.select(list(columns)))[start:]
                    start = max(0, start - batch.num_rows)

    def head(self) -> Any:
        """The first rows as a table, with the names of its columns."""
        import pyarrow as pa

        columns = next(self.batches())[:2].T
        return pa.table(dict(zip(self.names, columns, strict=True)))

    def _as_array(self, batch: Any) -> np.ndarray:
        x = np.empty((batch.num_rows, batch.num_columns), self.dtype)
        for i, column in enumerate(batch.columns):
            values = column.to_numpy(zero_copy_only=False)  # a null becomes NaN
            if column.null_count:
                raise ValueError(
                    f"Column {self.names[i]!r} has missing values (null or NaN): remove or impute "
                    "those rows."
                )
            x[:, i] = values
        return x


def _existing(path: str | os.PathLike[str]) -> list[Path]:
    paths = [Path(path)] if Path(path).is_file() else _files(Path(path))
    if not paths:
        raise FileNotFoundError(f"There is no Parquet file {str(path)!r}.")
    return paths


def _files(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in _SUFFIXES
        and not any(part.startswith(("_", ".")) for part in path.relative_to(folder).parts)
        and path.is_file()  # Dask and Spark give directories the names of files
    )


def _columns(file: Any) -> dict[int, Any]:
    """Return the fields of a file by position, without the index columns of pandas' metadata."""
    index = index_columns(file.schema_arrow)
    return {i: field for i, field in enumerate(file.schema_arrow) if field.name not in index}


def index_columns(schema: Any) -> list[str]:
    """Return the names of the index columns in the pandas metadata of an Arrow schema."""
    entries = (schema.pandas_metadata or {}).get("index_columns", [])
    # A range is an index without a column, stored as a dict.
    return [entry for entry in entries if isinstance(entry, str)]


def _groups_from(file: Any, start: int) -> tuple[list[int], int]:
    """Return the row groups from the one with row `start` on, and the position of that row."""
    first = 0
    while start >= file.metadata.row_group(first).num_rows:
        start -= file.metadata.row_group(first).num_rows
        first += 1
    return list(range(first, file.metadata.num_row_groups)), start


def _dtype_of(field: Any) -> np.dtype:
    try:
        kind: np.dtype = np.dtype(field.type.to_pandas_dtype())
    except NotImplementedError:  # of nested values
        kind = np.dtype(object)
    return kind


def _common_dtype(fields: list[Any]) -> np.dtype:
    dtypes = list(map(_dtype_of, fields))
    others = [
        f"{field.name!r} is {field.type}"
        for field, dtype in zip(fields, dtypes, strict=True)
        if dtype.kind not in "biuf"
    ]
    if others:
        raise TypeError(
            f"Columns must be numeric, but {', '.join(others)}: drop the others, or encode them as "
            "numbers."
        )
    return np.result_type(*dtypes) if dtypes else np.dtype(np.float64)


def _pyarrow_parquet() -> Any:
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise ImportError(
            'reading Parquet files needs pyarrow: pip install "gandetect[arrow]"'
        ) from error
    return parquet
