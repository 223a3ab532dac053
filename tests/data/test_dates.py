from datetime import datetime

import pytest

from gandetect.data.dates import moment_of, order_of


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-03-31", "2026-03-31"),
        ("2026-03-31 17:06:30.25", "2026-03-31T17:06:30.250000"),
        (" 2026-03-31T17:06Z ", "2026-03-31T17:06:00+00:00"),
        ("2026/3/31", "2026-03-31"),
        ("31.03.2026", "2026-03-31"),
        ("1.2.2026 7:05", "2026-02-01T07:05:00"),
        ("31 March 2026", "2026-03-31"),
        ("1. Feb. 2026", "2026-02-01"),
        ("01-Sep-2026", "2026-09-01"),
        ("Mar 31, 2026 12:30:01 AM", "2026-03-31T00:30:01"),
        ("March 31 2026, 12:30 pm", "2026-03-31T12:30:00"),
    ],
)
def test_certain_forms_are_read(text, expected):
    assert moment_of(text) == datetime.fromisoformat(expected)


@pytest.mark.parametrize(
    "text",
    [
        *("", "x", "2026", "30.02.2026", "2026-02-30", "3/4/2026", "31.13.2026", "20260331"),
        *("10:30", "1 Foo 2026", "31.03.26", "1.1.2026 13:00 PM", "1.1.2026 25:00", "2026-3-1"),
    ],
)
def test_what_is_no_date_or_not_certain_is_none(text):
    assert moment_of(text) is None


def test_the_order_of_day_and_month_is_told_or_found():
    assert moment_of("3/4/2026", "day") == datetime(2026, 4, 3)
    assert moment_of("3-4-2026", "month") == datetime(2026, 3, 4)
    assert moment_of("31/4/2026", "month") is None
    assert order_of(["1/2/2026", "12/31/2026"]) == "month"
    assert order_of(["1/2/2026", "12/31/2026", "31/12/2026"]) == ""
    assert order_of(["1/2/2026 10:00", "2/1/2026"]) is None
    assert order_of(["2026-01-02", "words"]) == ""


def test_compact_dates_are_read_where_dates_are_meant():
    assert moment_of("20260331", compact=True) == datetime(2026, 3, 31)
    assert moment_of("20261331", compact=True) is None
    assert moment_of("45000", compact=True) is None
