"""What is decided about the columns of a table, and how they become numbers and come back."""

import dataclasses
import datetime
import itertools
import json
import math
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.spatial.distance import cdist

from gandetect.archive import read_archive, write_archive
from gandetect.data.columns import ColumnEncoder, TableColumn
from gandetect.data.frames import read_frame

N = 400


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "amount": rng.gamma(1, 50, N).round(2),
            "age": rng.normal(40, 9, N),
            "rooms": rng.integers(1, 9, N),
            "country": rng.choice(["DE", "FR", "US"], N),
            "member": rng.random(N) < 0.3,
            "when": pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 9000, N), "h"),
            "currency": "EUR",
        }
    )
    table.loc[::10, "age"] = np.nan
    table.loc[::8, "country"] = None
    return table


@pytest.fixture
def encoder(table):
    return ColumnEncoder.fitted(table)


def column_of(encoder, name):
    return next(column for column in encoder.columns if column.name == name)


def slice_of(encoder, encoded, name):
    column = column_of(encoder, name)
    return encoded[:, column.start : column.stop]


def kinds(table, **given):
    return {c.name: c.kind for c in ColumnEncoder.fitted(table, **given).columns}


def change_of(encoder, table, row, **cells):
    """How far each column of a row is moved when some of its cells are changed."""
    changed = table.astype(dict.fromkeys(cells, object))
    for name, value in cells.items():
        changed.loc[row, name] = value
    before, after = encoder.encode(table)[row], encoder.encode(changed)[row]
    moved = np.sqrt(encoder.per_column(np.square(after - before)[None])[0])
    return dict(zip(table.columns, moved, strict=True))


# What is decided


def test_each_column_is_read_by_its_type(table):
    assert kinds(table) == {
        "amount": "number",
        "age": "number",
        "rooms": "number",
        "country": "category",
        "member": "boolean",
        "when": "date",
        "currency": "constant",
    }


def test_words_from_a_file_are_read_by_what_they_say(table):
    words = {
        "number": ["12", " -3.5", "1e3", ".5"] * 5,
        "zip": ["01234", "12345", "99999", "12345"] * 5,
        "date": ["2024-01-31", "2024-02-01T12:00:00Z", "2024-02-01 12:00", "2024-02-03"] * 5,
        "no date": ["2024-01-31", "2024-02-31", "2024-01-31", "2024-02-31"] * 5,
        "not finite": ["nan", "inf", "1_000", "0x1f"] * 5,
        "mixed": ["a", 1, 2.5, True] * 5,
    }
    assert kinds(words) == {
        "number": "number",
        "zip": "category",
        "date": "date",
        "no date": "category",
        "not finite": "category",
        "mixed": "category",
    }


def test_what_the_table_calls_a_category_is_one():
    values = pd.Series([3, 1, 1, None] * 10).astype("category")
    encoder = ColumnEncoder.fitted(pd.DataFrame({"a": values, "b": range(40)}))
    assert column_of(encoder, "a").kind == "category"
    assert column_of(encoder, "a").levels == (1, 3)


@pytest.mark.parametrize("key", ["rooms", 2, -5])
def test_the_user_decides_by_name_or_position(table, key):
    assert kinds(table, columns={key: "category"})["rooms"] == "category"
    rows = table.to_numpy(dtype=object)
    if key != "rooms":
        assert kinds(rows, columns={key: "category"})["2"] == "category"


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("customer", [f"C{i}" for i in range(60)]),
        ("note", [f"text {i if i > 20 else 0}" for i in range(60)]),
        ("id", np.random.default_rng(0).permutation(10**6)[:60]),
        ("customerID", [str(i) for i in 1000 + 7 * np.arange(60)]),
        ("Unnamed: 0", np.arange(60) * 2),
        ("n", np.random.default_rng(0).permutation(60) + 5),
    ],
)
def test_identifiers_are_left_out_with_a_warning(name, values):
    table = pd.DataFrame({name: values, "x": np.arange(60) % 7})
    with pytest.warns(UserWarning, match=f"{name!r}.*'category'"):
        encoder = ColumnEncoder.fitted(table)
    assert column_of(encoder, name).kind == "id"
    assert encoder.encode(table[["x"]]).shape == (60, 1)
    decoded = encoder.decode(encoder.encode(table), like=table)
    assert decoded[name].tolist() == table[name].tolist()


@pytest.mark.parametrize(
    ("form", "are_numbers"),
    [
        ("{:.2f} kg", True),
        ("${:,.2f}", True),
        ("EUR {:.1f}", True),
        ("A{:.0f}", False),
        ("10.0.{:.0f}.1", False),
        ("2-{:05.0f}", False),
        ("v{:.1f}.3", False),
    ],
)
def test_numbers_with_units_among_identifiers_are_told(form, are_numbers):
    values = [form.format(1000.5 + 1.1 * i) for i in range(60)]
    table = pd.DataFrame({"weight": values, "x": np.arange(60) % 7})
    with pytest.warns(UserWarning, match="Columns left out as identifiers") as warned:
        encoder = ColumnEncoder.fitted(table)
    message = str(warned[0].message)
    assert ("In 'weight' are numbers with other characters" in message) == are_numbers
    assert ("numbers" in column_of(encoder, "weight").why) == are_numbers


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("price", np.random.default_rng(0).normal(size=60)),
        ("identity", np.arange(60.0)),
        ("id", np.arange(60.0) / 2),
        ("seconds", np.arange(60) * 10),
        ("seconds", np.cumsum(1 + np.arange(60) % 3)),
        ("humid", np.random.default_rng(0).permutation(10**6)[:60]),
        ("year", np.arange(1990, 2020)),
        ("id", [1, 1, *range(58)]),
        ("name", [f"C{i % 40}" for i in range(60)]),
    ],
)
def test_values_that_merely_differ_make_no_identifier(name, values):
    assert kinds({name: values, "x": np.arange(len(values)) % 7})[name] != "id"


def test_fill_values_are_told_with_the_way_to_name_them(table):
    table["amount"] = table["amount"].where(np.arange(N) % 40 > 0, -999999)
    with pytest.warns(UserWarning, match=r"^Column 'amount' of X .*: 10 of 400, such as -999999,"):
        ColumnEncoder.fitted(table)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoder = ColumnEncoder.fitted(table, missing_values=(-999999,))
    assert column_of(encoder, "amount").gap_share == 10 / N


def test_dropped_columns_are_left_out_without_a_warning():
    table = {"note": [f"text {i}" for i in range(60)], "x": np.arange(60) % 7}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoder = ColumnEncoder.fitted(table, columns={"note": "drop"})
    assert encoder.width == 1


def test_the_description_says_a_line_a_column(encoder, table):
    lines = encoder.describe().splitlines()
    assert len(lines) == 1 + table.shape[1]
    [line] = [line for line in lines if line.startswith("age ")]
    assert "number" in line
    assert "10 %" in line
    [line] = [line for line in lines if line.startswith("amount ")]
    assert "logarithm" in line


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"sum": "number"}, r"'sum', but X has only 'amount', 'age'"),
        ({7: "number"}, "7, but X has only"),
        ({"age": "float"}, r"\['age'\] must be one of .*'number'.* not 'float'"),
        ({"country": "number"}, "'country' has numbers, but row 1 contains"),
        ({"country": "date"}, "'country' has dates, but row 1 contains .* ISO 8601"),
        ({"age": "date"}, "'age' has dates, but row 1 contains"),
        ({"age": "number", 1: "drop"}, "sets 'age' to 'number', and by 1 to 'drop'"),
        (dict.fromkeys(range(7), "drop"), "No column of X can be used"),
    ],
)
def test_what_cannot_be_decided_so_is_refused(table, columns, message):
    with pytest.raises(ValueError, match=message):
        ColumnEncoder.fitted(table, columns)


@pytest.mark.parametrize("columns", [[False, True], np.array([False, True])])
def test_a_mask_is_not_taken_for_positions(columns):
    with pytest.raises(TypeError, match=r"numpy\.flatnonzero\(mask\)"):
        ColumnEncoder.fitted({"a": [1, 2], "b": [3, 4]}, columns)


def test_columns_may_be_those_of_another_table(table):
    assert kinds(table, columns=table[["rooms"]].columns)["rooms"] == "category"


@pytest.mark.parametrize("columns", ["by magic", 3, None])
def test_what_tells_of_no_columns_is_refused(table, columns):
    with pytest.raises(TypeError, match=r"'auto', a mapping .* or a list"):
        ColumnEncoder.fitted(table, columns)


def test_a_word_between_numbers_is_asked_for():
    ages = [*map(str, range(30)), "unknown"]
    with pytest.raises(
        ValueError, match=r"'age' contains numbers, but 'unknown' in row 30.*missing"
    ):
        ColumnEncoder.fitted({"age": ages})
    encoder = ColumnEncoder.fitted({"age": ages}, missing_values=["unknown"])
    assert column_of(encoder, "age").kind == "number"
    assert encoder.missing(encoder.encode({"age": [3, "unknown"]})).tolist() == [[False], [True]]


def test_a_value_below_what_can_be_measured_is_told():
    measured = [f"{0.1 * i:.2f}" for i in range(35)]
    with pytest.raises(ValueError, match=r"'lead' contains numbers, but '<0.05' in row 35: if"):
        ColumnEncoder.fitted(pd.DataFrame({"lead": measured + ["<0.05"] * 30}))
    assert kinds({"code": [str(i) for i in range(35)] + ["12b"] * 40}) == {"code": "category"}


def test_a_word_between_dates_is_asked_for():
    days = [f"2024-01-{i:02}" for i in range(1, 29)] + ["never"]
    with pytest.raises(ValueError, match=r"'day' contains dates, but 'never' in row 28.*missing"):
        ColumnEncoder.fitted({"day": days})
    assert kinds({"day": days}, missing_values="never") == {"day": "date"}


@pytest.mark.parametrize("value", [5, 0.1, "x", True, datetime.date(2024, 1, 1)])
def test_one_value_and_gaps_are_a_category(value):
    encoder = ColumnEncoder.fitted({"a": [value, None] * 20})
    assert column_of(encoder, "a").kind in ("category", "boolean")
    encoded = encoder.encode({"a": [value, None, "another"]})
    assert cdist(encoded[:2], encoded[2:]).min() > cdist(encoded[:1], encoded[1:2]).max()


def test_a_table_without_rows_is_refused(table):
    with pytest.raises(ValueError, match="Found 0 rows"):
        ColumnEncoder.fitted(table[:0])


# What is encoded


def test_rows_become_finite_numbers_in_blocks(encoder, table):
    encoded = encoder.encode(table)
    assert encoded.dtype == np.float32
    assert encoded.shape == (N, encoder.width)
    assert np.isfinite(encoded).all()
    ends = [(block.start, block.stop) for block in encoder.blocks]
    assert ends[0][0] == 0
    assert ends[-1][1] == encoder.width
    assert all(stop == start for (_, stop), (start, _) in itertools.pairwise(ends))
    for block in encoder.blocks:
        assert len(block.heights) == block.stop - block.start
        if block.kind == "categories":
            one_hot = encoded[:, block.start : block.stop] / np.float32(block.heights)
            np.testing.assert_allclose(np.sort(one_hot, axis=1)[:, -1], 1, rtol=1e-6)
            assert ((one_hot != 0).sum(axis=1) == 1).all()


def test_rows_are_encoded_alike_alone_and_together(encoder, table):
    frame = read_frame(table)
    parts = [encoder.encode(frame.rows(slice(i, i + 150))) for i in range(0, N, 150)]
    np.testing.assert_array_equal(np.concatenate(parts), encoder.encode(table))
    index = np.array([7, 3, 3])
    np.testing.assert_array_equal(encoder.encode(frame.rows(index)), encoder.encode(table)[index])


def test_the_order_of_the_rows_decides_nothing(table, encoder):
    other = ColumnEncoder.fitted(table[::-1])
    np.testing.assert_allclose(other.encode(table), encoder.encode(table), atol=1e-4)
    assert [c.levels for c in other.columns] == [c.levels for c in encoder.columns]


def test_columns_are_found_by_name(encoder, table):
    np.testing.assert_array_equal(encoder.encode(table[table.columns[::-1]]), encoder.encode(table))


def test_rows_without_names_are_read_by_position(table, encoder):
    rows = table.to_numpy(dtype=object)
    np.testing.assert_array_equal(encoder.encode(rows), encoder.encode(table))
    with pytest.raises(ValueError, match=r"has 6 columns, but .* with 7"):
        encoder.encode(rows[:, :6])


def test_other_columns_are_named(encoder, table):
    with pytest.raises(ValueError, match=r"lacks 'age', 'when' and has also 'salary'"):
        encoder.encode(table.drop(columns=["age", "when"]).assign(salary=1))


def test_numbers_are_standardised_and_nearly_invertible(table, encoder):
    numbers = slice_of(encoder, encoder.encode(table), "rooms")[:, 0]
    assert numbers.mean() == pytest.approx(0, abs=1e-5)
    assert numbers.std() == pytest.approx(1, abs=1e-5)
    for name, rtol in (("rooms", 1e-5), ("amount", 1e-4)):
        values = pd.DataFrame({name: [-50.0, 0.0, 1e-3, 3.0, 1e4, 1e7]})
        changed = pd.concat([table[:6].drop(columns=name), values], axis=1)
        encoded = encoder.encode(changed)
        assert (np.diff(slice_of(encoder, encoded, name)[:, 0]) > 0).all()
        decoded = encoder.decode(encoded)[name]
        np.testing.assert_allclose(decoded, values[name], rtol=rtol, atol=1e-4)


def test_one_wild_value_does_not_hide_the_others():
    values = np.random.default_rng(0).normal(size=200)
    wild = values.copy()
    wild[3] = 9.97e36
    with pytest.warns(UserWarning, match=r"contains extreme values: 1 of 200, such as 9\.97e\+36,"):
        encoder = ColumnEncoder.fitted({"x": wild})
    expected = ColumnEncoder.fitted({"x": values}).encode({"x": values[10:]})
    np.testing.assert_allclose(encoder.encode({"x": wild[10:]}), expected, atol=0.05)
    assert encoder.encode({"x": wild})[3] > expected.max()


def test_whole_numbers_of_any_size_are_numbers():
    huge = [10**30, 2**63 + 7, -5, 0] * 5
    encoder = ColumnEncoder.fitted({"x": huge})
    assert column_of(encoder, "x").kind == "number"
    np.testing.assert_allclose(
        encoder.decode(encoder.encode({"x": [10**30]}))["x"], [1e30], rtol=1e-4
    )


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("abc", r"'age' has numbers, but row 5 contains 'abc'.*missing_values.*'category'"),
        (np.inf, r"'age' contains inf in row 5.*finite"),
        (10**400, r"'age' contains inf in row 5"),
        (datetime.date(2024, 1, 1), r"'age' has numbers, but row 5 contains"),
    ],
)
def test_what_is_no_number_is_named(encoder, table, cell, message):
    changed = table.astype({"age": object})
    changed.loc[5, "age"] = cell
    with pytest.raises(ValueError, match=message):
        encoder.encode(changed)


def test_what_is_no_date_is_named(encoder, table):
    changed = table.astype({"when": object})
    changed.loc[5, "when"] = "yesterday"
    with pytest.raises(ValueError, match="'when' has dates, but row 5 contains 'yesterday'"):
        encoder.encode(changed)


@pytest.mark.parametrize("value", ["34", 34.0, np.float32(34), True])
def test_numbers_are_read_from_words_and_booleans(encoder, table, value):
    found = change_of(encoder, table, 1, age=value)
    expected = change_of(encoder, table, 1, age=float(value))
    assert found == pytest.approx(expected, abs=1e-5)


def test_a_swap_weighs_like_a_move_of_a_number(encoder, table):
    row = int(np.flatnonzero(table["country"] == "DE")[0])
    swapped = change_of(encoder, table, row, country="FR")["country"]
    room = table["rooms"].std()
    moved = change_of(encoder, table, row, rooms=table["rooms"].mean() + 3 * room)["rooms"]
    assert 0.3 < swapped / moved < 3
    assert change_of(encoder, table, row, member=not table.loc[row, "member"])["member"] == swapped


def test_values_that_were_never_seen_are_the_most_unusual(encoder, table):
    row = int(np.flatnonzero(table["country"] == "DE")[0])
    usual = max(change_of(encoder, table, row, country=c)["country"] for c in ("FR", None))
    assert change_of(encoder, table, row, country="XX")["country"] > usual
    assert change_of(encoder, table, row, member="maybe")["member"] > usual
    assert change_of(encoder, table, row, currency="USD")["currency"] > usual


def test_a_gap_where_there_was_none_is_unusual(encoder, table):
    nearest = np.sort(cdist(encoder.encode(table), encoder.encode(table)), axis=1)[:, 1]
    for name in ("amount", "rooms", "member", "when", "currency"):
        changed = table.astype({name: object})
        changed[name] = None
        distances = cdist(encoder.encode(changed), encoder.encode(table)).min(axis=1)
        assert (distances > np.percentile(nearest, 75)).all()
        assert change_of(encoder, table, 3, **{name: None})[name] > 1


def test_rare_values_share_a_place():
    words = ["a"] * 500 + ["b"] * 480 + ["c"] * 3 + [f"x{i}" for i in range(17)]
    encoder = ColumnEncoder.fitted({"w": words})
    assert column_of(encoder, "w").levels == ("a", "b")
    encoded = encoder.encode({"w": ["c", "x4", "never seen", "a"]})
    assert (encoded[0] == encoded[1]).all()
    assert (encoded[0] == encoded[2]).all()
    assert (encoded[0] != encoded[3]).any()
    assert encoder.decode(encoded)["w"].tolist() == ["(other)"] * 3 + ["a"]


def test_the_frequent_ones_of_many_values_have_places():
    rng = np.random.default_rng(0)
    encoder = ColumnEncoder.fitted({"w": [f"w{i}" for i in rng.zipf(1.5, 20_000) % 5000]})
    assert 50 < encoder.width <= 110


def test_values_of_categories_are_found_in_every_form():
    encoder = ColumnEncoder.fitted(
        {"code": [1, 2, 3] * 20, "flag": [True, False, None] * 20}, columns={"code": "category"}
    )
    expected = encoder.encode({"code": [1, 2], "flag": [True, False]})
    for code, flag in ([1.0, 2.0], ["1", "0"]), (["1", " 2 "], ["true", "False"]):
        np.testing.assert_array_equal(encoder.encode({"code": code, "flag": flag}), expected)
    decoded = encoder.decode(expected)
    assert decoded["code"].tolist() == [1, 2]
    assert decoded["flag"].tolist() == [True, False]


def test_gaps_are_columns_of_their_own_and_hide_only_the_value(encoder, table):
    encoded = encoder.encode(table)
    expected = table.isna()
    np.testing.assert_array_equal(encoder.missing(encoded), expected)
    observed = encoder.observed(encoded)
    assert (slice_of(encoder, observed, "age")[:, 0] == ~expected["age"]).all()
    assert observed.sum() == observed.size - expected["age"].sum()
    tensor = torch.from_numpy(encoded)
    np.testing.assert_array_equal(encoder.missing(tensor).numpy(), encoder.missing(encoded))
    np.testing.assert_array_equal(encoder.observed(tensor).numpy(), observed)
    np.testing.assert_allclose(encoder.per_column(tensor), encoder.per_column(encoded), rtol=1e-5)


@pytest.mark.parametrize(
    "gap",
    [None, np.nan, float("nan"), pd.NA, pd.NaT, np.datetime64("NaT", "us"), "", "  ", "?", " ? "],
)
def test_every_kind_of_gap_is_one(gap):
    words = pd.Series(["a", "b"] * 10 + [gap], dtype=object)
    numbers = pd.Series([*range(20), gap], dtype=object)
    dates = pd.Series([*pd.date_range("2024-01-01", periods=20), gap], dtype=object)
    table = pd.DataFrame({"words": words, "numbers": numbers, "dates": dates})
    encoder = ColumnEncoder.fitted(table, missing_values=["?"])
    assert [c.kind for c in encoder.columns] == ["category", "number", "date"]
    assert encoder.missing(encoder.encode(table)).tolist() == [[False] * 3] * 20 + [[True] * 3]


def test_numbers_can_stand_for_gaps():
    table = {"x": [1, 2, 3, -999] * 5, "y": [1.5, -999.0, 2.5, 3.5] * 5}
    for missing in (-999, "-999", [-999.0], {"?", "-999"}):
        encoder = ColumnEncoder.fitted(table, missing_values=missing)
        assert encoder.missing(encoder.encode(table))[:2].tolist() == [[False] * 2, [False, True]]


def test_columns_of_gaps_only_are_constant():
    encoder = ColumnEncoder.fitted({"a": [None] * 20, "b": [1.0, 2.0] * 10})
    assert column_of(encoder, "a").kind == "constant"
    encoded = encoder.encode({"a": [None, "x"], "b": [1, 2]})
    assert encoded[0, 0] == 0
    assert encoded[1, 0] > 1
    assert encoder.decode(encoded)["a"].tolist() == [None, None]


# Dates


def test_dates_have_the_cycles_that_vary():
    days = pd.date_range("2024-01-01", periods=20)
    encoder = ColumnEncoder.fitted({"days": days.to_series(), "hours": days + pd.Timedelta("5h")})
    assert column_of(encoder, "days").cycles == ("weekday",)
    year = pd.date_range("2024-01-01", "2024-12-31", periods=200)
    encoder = ColumnEncoder.fitted({"when": year.to_series()})
    assert column_of(encoder, "when").cycles == ("hour", "weekday", "month")


def test_moments_near_on_the_circle_are_near():
    when = pd.Series(pd.date_range("2024-01-01", periods=24 * 60, freq="h"))
    encoder = ColumnEncoder.fitted({"when": when})
    hour = encoder.encode({"when": when})[:, 1:3]
    distances = cdist(hour, hour)
    assert distances[23, 24] == pytest.approx(distances[3, 4], abs=1e-3)
    assert distances[0, 12] == pytest.approx(2, abs=1e-3)


def test_rows_after_the_training_rows_are_not_unusual_for_that():
    when = pd.Series(pd.date_range("2024-01-01", "2024-12-31", freq="D"))
    encoder = ColumnEncoder.fitted({"when": when})
    time = encoder.encode({"when": pd.to_datetime(["2024-12-31", "2025-01-14", "2025-12-31"])})
    start, soon, later = time[:, 0]
    assert start < soon < start + 0.3
    assert soon < later < start + 2
    [far] = encoder.encode({"when": [datetime.date(2999, 1, 1)]})[:, 0]
    assert far > start + 4


def test_dates_come_back_as_the_clocks_show_them():
    when = pd.Series(pd.date_range("2024-03-30", periods=48, freq="h", tz="Europe/Berlin"))
    encoder = ColumnEncoder.fitted({"when": when})
    decoded = encoder.decode(encoder.encode({"when": when}))["when"]
    np.testing.assert_array_equal(decoded, when.dt.tz_localize(None).to_numpy("datetime64[us]"))
    other = encoder.encode({"when": when.dt.tz_convert("America/New_York")})
    np.testing.assert_array_equal(other, encoder.encode({"when": when}))
    with_gaps = when.where(np.arange(48) % 5 > 0)
    encoder = ColumnEncoder.fitted({"when": with_gaps})
    decoded = encoder.decode(encoder.encode({"when": with_gaps}))["when"]
    np.testing.assert_array_equal(np.isnat(decoded), with_gaps.isna())


def test_days_come_back_as_days():
    days = np.array(["2024-01-31", "2024-02-29", "2023-12-24"] * 4, dtype="datetime64[D]")
    encoder = ColumnEncoder.fitted({"day": days})
    np.testing.assert_array_equal(encoder.decode(encoder.encode({"day": days}))["day"], days)


# And back


@pytest.mark.parametrize("kind", ["pandas", "polars", "pyarrow", "dict", "rows"])
def test_a_table_comes_back_as_one_of_its_kind(encoder, table, kind):
    package = None if kind in ("dict", "rows") else pytest.importorskip(kind)
    if kind == "polars":
        like = package.from_pandas(table)
    elif kind == "pyarrow":
        like = package.Table.from_pandas(table)
    else:
        like = {"pandas": table, "dict": dict(table), "rows": table.to_numpy(object)}[kind]
    decoded = encoder.decode(torch.from_numpy(encoder.encode(like)), like=like)
    assert isinstance(decoded, type(like))
    if kind == "rows":
        decoded = pd.DataFrame(decoded, columns=table.columns)
    elif kind == "pyarrow":
        decoded = decoded.to_pydict()
    decoded = pd.DataFrame({name: list(decoded[name]) for name in table})
    np.testing.assert_allclose(
        decoded["age"].astype(float), table["age"], rtol=1e-5, equal_nan=True
    )
    for name in ("country", "member", "currency"):
        found = decoded[name].astype(object).where(decoded[name].notna(), None)
        assert (
            found.tolist() == table[name].astype(object).where(table[name].notna(), None).tolist()
        )
    assert (pd.to_datetime(decoded["when"]) == table["when"]).all()


def test_what_a_network_makes_of_a_row_comes_back_too(encoder):
    made = np.random.default_rng(0).normal(scale=3, size=(50, encoder.width)).astype(np.float32)
    decoded = encoder.decode(made)
    assert set(decoded["country"]) <= {"DE", "FR", "US", None, "(other)"}
    assert set(decoded["member"]) <= {True, False, "(other)"}
    assert np.isnan(decoded["age"]).any()
    assert np.isfinite(decoded["amount"]).all()
    assert encoder.decode(1e6 * made)["when"].dtype.kind == "M"
    when = pd.date_range("2024-01-01", periods=9, tz="Europe/Berlin").to_series()
    years = ColumnEncoder.fitted({"when": when}).decode(np.full((1, 3), 1e6))["when"]
    assert years.astype("M8[Y]").astype(int)[0] + 1970 == 9997


def test_an_encoder_is_data(encoder, table, tmp_path):
    classes = (ColumnEncoder, TableColumn)
    write_archive(tmp_path / "encoder", {"encoder": encoder}, classes)
    loaded = read_archive(tmp_path / "encoder", classes)["encoder"]
    assert loaded == encoder
    np.testing.assert_array_equal(loaded.encode(table), encoder.encode(table))


class TestStored:
    def test_an_encoder_comes_back_from_json(self, table):
        encoder = ColumnEncoder.fitted(table)
        data = json.loads(json.dumps(dataclasses.asdict(encoder)))
        assert ColumnEncoder.from_data(data) == encoder

    def test_of_a_version_with_another_scale_of_skewed_numbers(self, table):
        encoder = ColumnEncoder.fitted(table)
        data = json.loads(json.dumps(dataclasses.asdict(encoder)))
        for column in data["columns"]:
            column["log_scale"] = []
        assert ColumnEncoder.from_data(data) == encoder
        data["columns"][0]["log_scale"] = [1.0, 0.0, 1.0]
        with pytest.raises(ValueError, match=r"is skewed.*fit again"):
            ColumnEncoder.from_data(data)

    @pytest.mark.parametrize(
        "change",
        [
            {"kind": "magic"},
            {"start": 1},
            {"stop": 99},
            {"scale": (0.0, 0.0)},
            {"scale": (0.0,)},
            {"scale": (0.0, math.inf)},
            {"skew": (1.0, 0.0, 0.0)},
            {"skew": (2.0, 0.0, 1.0)},
            {"skew": (1.0, 0.0)},
            {"cycles": ("year",)},
            {"levels": (None,)},
            {"levels": ["a"]},
            {"name": 3},
            {"unit": 0},
            {"first": 2**62},
            {"low": 1.0, "high": 0.0},
        ],
        ids=str,
    )
    def test_what_no_fit_has_made_is_refused(self, table, change):
        encoder = ColumnEncoder.fitted(table)
        first, *others = encoder.columns
        forged = dataclasses.replace(first, **change)
        with pytest.raises((TypeError, ValueError)):
            ColumnEncoder((forged, *others)).check()

    def test_columns_of_one_name_or_none_are_refused(self, table):
        encoder = ColumnEncoder.fitted(table)
        with pytest.raises((TypeError, ValueError)):
            ColumnEncoder(()).check()
        with pytest.raises(TypeError):
            ColumnEncoder((3,)).check()
        first, second = encoder.columns[:2]
        with pytest.raises(ValueError, match="equal names"):
            ColumnEncoder((first, dataclasses.replace(second, name=first.name))).check()


@pytest.mark.parametrize("order", [[1, 0], [0, 1]])
def test_numbers_in_another_order_are_names(order):
    table = pd.DataFrame({0: [1.0, 2.0, None] * 4, 1: [5.0, 70.0, 6.0] * 4})
    encoder = ColumnEncoder.fitted(table)
    turned = table[order]
    np.testing.assert_array_equal(encoder.encode(turned), encoder.encode(table))
    decoded = encoder.decode(encoder.encode(turned), turned)
    assert decoded.columns.tolist() == order
    np.testing.assert_allclose(decoded[1], table[1], rtol=1e-5)


def test_a_dropped_column_may_hold_anything():
    table = {"x": [1.0, 2.0, 3.0], "tags": [["a"], [], ["b"]]}
    encoder = ColumnEncoder.fitted(table, {"tags": "drop"})
    assert encoder.decode(encoder.encode(table), table)["tags"].tolist() == table["tags"]
    with pytest.raises(TypeError, match=r"'tags' .* type list in row 0.*{'tags': 'drop'}"):
        ColumnEncoder.fitted(table)


def test_numbers_that_float64_cannot_distinguish_are_refused():
    table = {"x": np.arange(5, dtype=np.uint64) + 2**63, "word": [*"abaab"]}
    with pytest.raises(ValueError, match=r"'x' of X contains numbers .* cannot distinguish"):
        ColumnEncoder.fitted(table)


def test_rows_that_were_read_are_encoded_alike(table):
    encoder = ColumnEncoder.fitted(table)
    frame = encoder.read(table)
    np.testing.assert_array_equal(encoder.encode(frame), encoder.encode(table))
    np.testing.assert_array_equal(
        encoder.encode(frame.rows(slice(1, 3))), encoder.encode(table)[1:3]
    )
