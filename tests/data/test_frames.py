"""Tables of every kind are read alike, and come back as one of their kind."""

import datetime
import decimal
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from gandetect.data.frames import (
    Dates,
    Numbers,
    Words,
    as_numbers,
    as_words,
    local_microseconds,
    needs_encoding,
    read_frame,
    table_like,
)

UTC = datetime.UTC
COLUMNS = {
    "whole": [1, 2, 3, 4],
    "number": [1.5, None, 3.0, 4.5],
    "word": ["a", "b", None, "a"],
    "logical": [True, False, None, True],
    "moment": [datetime.datetime(2024, 1, 1, 12), None, *[datetime.datetime(2024, 2, 1)] * 2],
    "day": [datetime.date(2024, 1, 1), datetime.date(2024, 1, 2), None, datetime.date(2024, 1, 1)],
    "aware": [datetime.datetime(2024, 7, 1, 12, tzinfo=UTC), None, None, None],
    "length": [datetime.timedelta(hours=1), None, datetime.timedelta(seconds=1.5), None],
    "decimal": [decimal.Decimal("1.25"), None, decimal.Decimal(3), decimal.Decimal(0)],
    "bytes": [b"x", b"y", None, b"x"],
    "time": [datetime.time(1, 0, 2), None, datetime.time(0), datetime.time(0)],
}


def cells(column):
    """The cells of a column as Python has them, None in a gap."""
    words = as_words(column)
    return [None if code < 0 else words.levels[code] for code in words.codes]


def as_kind(kind, columns):
    if kind == "dict of lists":
        return columns
    if kind == "dict of arrays":
        return {name: np.array(values, dtype=object) for name, values in columns.items()}
    if kind == "rows":
        return [list(row) for row in zip(*columns.values(), strict=True)]
    if kind == "array":
        return np.array(list(columns.values()), dtype=object).T
    if kind == "fields":
        table = np.empty(4, [(name, object) for name in columns])
        for name, values in columns.items():
            table[name] = values
        return table
    if kind == "pandas objects":
        return pd.DataFrame({k: pd.Series(v, dtype=object) for k, v in columns.items()})
    package = pytest.importorskip(kind.split()[-1])
    if kind == "pandas":
        return package.DataFrame(columns)
    if kind == "polars":
        return package.DataFrame(columns)
    if kind == "arrow in pandas":
        pa = pytest.importorskip("pyarrow")
        return pa.table(columns).to_pandas(types_mapper=pd.ArrowDtype)
    return package.table(columns)


KINDS = [
    "dict of lists",
    "dict of arrays",
    "rows",
    "array",
    "fields",
    "pandas",
    "pandas objects",
    "polars",
    "pyarrow",
    "arrow in pandas",
]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_table_holds_the_same(kind):
    frame = read_frame(as_kind(kind, COLUMNS))
    assert len(frame) == 4
    assert frame.has_names == (kind not in ("rows", "array"))
    found = dict(zip(COLUMNS, frame.columns, strict=True))
    for name in ("whole", "number", "length", "decimal", "time"):
        assert isinstance(found[name], Numbers), name
    for name in ("moment", "day", "aware"):
        assert isinstance(found[name], Dates), name
    for name in ("word", "logical", "bytes"):
        assert isinstance(found[name], Words), name
    expected = {
        **COLUMNS,
        "day": [day and datetime.datetime(*day.timetuple()[:3]) for day in COLUMNS["day"]],
        "aware": [datetime.datetime(2024, 7, 1, 12), None, None, None],
        "length": [3600, None, 1.5, None],
        "decimal": [1.25, None, 3, 0],
        "bytes": ["x", "y", None, "x"],
        "time": [3602, None, 0, 0],
    }
    assert {name: cells(column) for name, column in found.items()} == expected
    assert found["aware"].zone == "UTC"
    assert found["moment"].zone == ""


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_taken_by_position(kind):
    frame = read_frame(as_kind(kind, COLUMNS))
    part = frame.rows(np.array([3, 0]))
    assert len(part) == 2
    for whole, some in zip(frame.columns, part.columns, strict=True):
        assert cells(some) == [cells(whole)[3], cells(whole)[0]]


def test_columns_of_pandas_of_every_dtype():
    table = pd.DataFrame(
        {
            "Int64": pd.array([1, None], dtype="Int64"),
            "Float32": pd.array([1.5, None], dtype="Float32"),
            "boolean": pd.array([True, None], dtype="boolean"),
            "string": pd.array(["a", None], dtype="string"),
            "category": pd.Categorical([3, None]),
            "interval": pd.cut([1.0, np.nan], [0, 2]),
            "period": pd.PeriodIndex(["2024-01", None], freq="M"),
            "zone": pd.to_datetime(["2024-07-01 12:00", None]).tz_localize("Europe/Berlin"),
            "sparse": pd.arrays.SparseArray([1.0, np.nan]),
            "uint8": np.array([1, 255], dtype=np.uint8),
        }
    )
    frame = read_frame(table)
    found = dict(zip(frame.names, frame.columns, strict=True))
    assert {name: cells(column) for name, column in found.items()} == {
        "Int64": [1, None],
        "Float32": [1.5, None],
        "boolean": [True, None],
        "string": ["a", None],
        "category": [3, None],
        "interval": ["(0, 2]", None],
        "period": [datetime.datetime(2024, 1, 1), None],
        "zone": [datetime.datetime(2024, 7, 1, 10), None],
        "sparse": [1.0, None],
        "uint8": [1, 255],
    }
    assert found["category"].is_category
    assert found["interval"].is_category
    assert not found["string"].is_category
    assert found["zone"].zone == "Europe/Berlin"


def test_what_other_packages_call_a_category_is_one():
    pl, pa = pytest.importorskip("polars"), pytest.importorskip("pyarrow")
    words = ["a", "b", None]
    for table in (
        pl.DataFrame({"c": pl.Series(words, dtype=pl.Categorical)}),
        pl.DataFrame({"c": pl.Series(words, dtype=pl.Enum(["a", "b"]))}),
        pa.table({"c": pa.array(words).dictionary_encode()}),
        pa.record_batch({"c": pa.array(words).dictionary_encode()}),
    ):
        [column] = read_frame(table).columns
        assert column.is_category
        assert cells(column) == words


def test_the_index_that_pandas_wrote_is_no_column():
    pa = pytest.importorskip("pyarrow")
    table = pa.Table.from_pandas(pd.DataFrame({"x": [1.0, 2.0]}, index=["a", "b"]))
    assert read_frame(table).names == ["x"]


def test_columns_that_are_only_numbered_have_no_names():
    assert not read_frame(pd.DataFrame([[1, "a"], [2, "b"]])).has_names
    assert read_frame(pd.DataFrame([[1, "a"]], columns=["x", 7])).names == ["x", "7"]


@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        ({"a": [[1], [2]]}, TypeError, "'a' contains a value of type list in row 0"),
        ({"a": [1, {}]}, TypeError, "'a' contains a value of type dict in row 1"),
        ({"a": [1, 2j]}, TypeError, "of type complex in row 1.* leave it out by columns={'a': 'dr"),
        ({"a": 3}, TypeError, "'a' must be a sequence"),
        ({"a": "abc"}, TypeError, "'a' must be a sequence"),
        ({"a": [1, 2], "b": [1]}, ValueError, "the same length"),
        ([[1, 2], [3]], ValueError, "the same length"),
        (np.zeros((2, 2, 2)), TypeError, r"shape \(2, 2, 2\)"),
        (np.zeros((2, 2), complex), TypeError, "complex128"),
        ("rows.csv", TypeError, "it is a str"),
        (
            pd.DataFrame([[1, 2]], columns=["a", "a"]),
            ValueError,
            "X has 2 with the name 'a': rename",
        ),
    ],
)
def test_what_is_no_table_is_refused(X, error, message):
    with pytest.raises(error, match=message):
        read_frame(X)


def test_a_lazy_frame_says_how_to_collect_it():
    pl = pytest.importorskip("polars")
    with pytest.raises(TypeError, match=r"X\.collect\(\)"):
        read_frame(pl.LazyFrame({"a": [1]}))


NUMERIC = pd.DataFrame({"a": [1.0, 2.0], "b": [1, 2], "c": [True, False]})


@pytest.mark.parametrize(
    ("X", "expected"),
    [
        (np.zeros((3, 2)), False),
        (np.full((3, 2), np.nan), False),
        (np.zeros((3, 2, 2)), False),
        (torch.zeros(3, 2), False),
        ([[1, 2.5], [3, True]], False),
        ([[1, 2], [3]], False),
        (np.array([[1, 2.5], [3, True]], dtype=object), False),
        ("folder", False),
        (SimpleNamespace(shape=(3, 2)), False),
        (NUMERIC, False),
        (NUMERIC.astype({"b": "Int64", "c": "boolean"}), False),
        ([[1, "a"], [2, "b"]], True),
        ([[1, None], [2, 3]], True),
        (np.array([["a", "b"]]), True),
        (np.array([[1, "a"]], dtype=object), True),
        (np.array([["2024-01-01"]], dtype="M8[D]"), True),
        (np.zeros(3, [("a", float)]), True),
        ({"a": [1, 2]}, True),
        (NUMERIC.assign(d="x"), True),
        (NUMERIC.assign(d=[1, np.nan]), True),
        (NUMERIC.assign(d=pd.array([1, None], dtype="Int64")), True),
        (NUMERIC.assign(d=pd.Categorical([1, 2])), True),
        (NUMERIC.assign(d=pd.Timestamp(0)), True),
        (NUMERIC.assign(d=pd.Timedelta(1, "h")), True),
        (NUMERIC.assign(d=datetime.time(1)), True),
        (pd.DataFrame({"a": [1.0] * 500 + [np.nan]}), True),
    ],
)
def test_what_needs_encoding(X, expected):
    assert needs_encoding(X) is expected


def test_tables_of_numbers_need_no_encoding_in_any_package():
    pl, pa = pytest.importorskip("polars"), pytest.importorskip("pyarrow")
    for make in (pl.DataFrame, pa.table):
        assert not needs_encoding(make({"a": [1.0, 2.0], "b": [True, False]}))
        assert needs_encoding(make({"a": [1.0, None]}))
        assert needs_encoding(make({"a": ["x", "y"]}))


@pytest.mark.parametrize("kind", ["dict of arrays", "array", "fields", "pandas"])
def test_a_table_of_the_same_kind_has_the_new_columns(kind):
    like = as_kind(kind, COLUMNS)
    if kind == "pandas":
        like.index = list("wxyz")
    table = table_like(like, {"n": np.arange(4.0), "w": np.array(["a", None, "b", "c"], object)})
    assert type(table) is type(like)
    assert cells(read_frame(table).columns[1]) == ["a", None, "b", "c"]
    if kind == "pandas":
        assert table.index.tolist() == list("wxyz")


def test_gaps_are_gaps_in_other_packages():
    pl, pa = pytest.importorskip("polars"), pytest.importorskip("pyarrow")
    columns = {"n": np.array([1.0, np.nan]), "w": np.array([None, "b"], object)}
    table = table_like(pl.DataFrame({"a": [1, 2]}), columns)
    assert table.to_dict(as_series=False) == {"n": [1.0, None], "w": [None, "b"]}
    table = table_like(pa.table({"a": [1, 2]}), columns)
    assert table.to_pydict() == {"n": [1.0, None], "w": [None, "b"]}


@pytest.mark.parametrize(
    ("zone", "hours"),
    [("", 0), ("UTC", 0), ("Europe/Berlin", 2), ("+05:30", 5.5), ("UTC-03:00", -3), ("nowhere", 0)],
)
def test_clocks_show_the_time_of_their_zone(zone, hours):
    summer = np.array([datetime.datetime(2024, 7, 1)], "M8[us]").astype(np.int64)
    assert (local_microseconds(summer, zone) - summer).tolist() == [hours * 3_600_000_000]


@pytest.mark.parametrize("kind", KINDS)
def test_a_column_that_is_not_used_may_hold_anything(kind):
    columns = {"whole": [1, 2, 3, 4], "lists": [[1], [2], [3], [4]]}
    if kind == "array":
        X = np.empty((4, 2), dtype=object)
        X[:, 0], X[:, 1] = columns.values()
    else:
        X = as_kind(kind, columns)
    for key in ("lists", 1, -1) if read_frame(X, left_out=[1]).has_names else (1, -1):
        frame = read_frame(X, left_out=[key])
        assert cells(frame.columns[0]) == [1, 2, 3, 4]
        assert len(frame) == 4


@pytest.mark.parametrize("dtype", [float, object, "U3"])
def test_a_masked_cell_is_a_gap_whatever_is_below_the_mask(dtype):
    X = np.ma.array([[1.5, 7], [999, 8], [2.5, 7]], dtype=dtype, mask=[[0, 0], [1, 0], [0, 1]])
    first, second = read_frame(X).columns
    assert [cell and float(cell) for cell in cells(first)] == [1.5, None, 2.5]
    assert [cell and float(cell) for cell in cells(second)] == [7, 8, None]
    assert "999" not in map(str, as_words(first).levels)


def test_values_that_no_row_has_do_not_count():
    table = pd.DataFrame({"x": pd.Categorical(["a", "b", "a"], categories=[*"abc"])})
    assert as_words(read_frame(table).columns[0]).levels == ["a", "b"]
    mixed = read_frame({"x": [1.5, "broken", 2.5, 1.5]})
    kept = mixed.kept(np.array([0, 2, 3])).columns[0]
    assert isinstance(kept, Numbers)
    assert cells(kept) == [1.5, 2.5, 1.5]


def test_integers_of_128_bits():
    pl = pytest.importorskip("polars")
    table = pl.DataFrame({"x": pl.Series([1, None, 3]).cast(pl.Int128)})
    assert cells(read_frame(table).columns[0]) == [1, None, 3]


@pytest.mark.parametrize("names", [[1, 0], [("a", 1), ("a", 2)]])
def test_names_that_are_no_strings_come_back(names):
    table = pd.DataFrame([[1.0, "x"]], columns=pd.Index(names))
    other = table_like(table, {str(name): np.array([2.0]) for name in names})
    assert other.columns.equals(table.columns)


def test_a_typographic_minus_is_the_sign_of_a_number():
    frame = read_frame(
        {"a": ["\u22121.5", "2e\u20131", "\uff13"], "b": ["\u22129", "x", "x\u22121"]}, [-9]
    )
    numbers = as_numbers(frame.columns[0])
    assert isinstance(numbers, Numbers)
    assert numbers.values.tolist() == [-1.5, 0.2, 3]
    assert frame.columns[1].missing.tolist() == [True, False, False]
    assert frame.columns[1].levels == ["x", "x\u22121"]
