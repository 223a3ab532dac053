"""Parsing dates: ISO 8601, and other unambiguous formats."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime, timedelta

# The first of day and month if both are numbers before the year; "" if no date has this form.
ORDERS = ("", "day", "month")

_ISO = re.compile(
    r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d([.,]\d{1,9})?)?(Z|[+-]\d\d(:?\d\d)?)?)?"  # time and zone
)
_CLOCK = (
    r"(?:,? (?P<hour>\d\d?):(?P<minute>\d\d)(?::(?P<second>\d\d)(?P<fraction>[.,]\d{1,9})?)?"
    r"(?: ?(?P<half>[AaPp])[Mm])?)?"
)
_NAME = r"(?P<month>[A-Za-z]{3,9})\.?"
_CERTAIN = tuple(
    re.compile(form + _CLOCK)
    for form in (
        r"(?P<year>\d{4})[/.](?P<month>\d\d?)[/.](?P<day>\d\d?)",
        # With dots as separators the day comes first.
        r"(?P<day>\d\d?)\.(?P<month>\d\d?)\.(?P<year>\d{4})",
        r"(?P<day>\d\d?)[.]?[ -]" + _NAME + r"[ -](?P<year>\d{4})",
        _NAME + r" (?P<day>\d\d?),? (?P<year>\d{4})",
    )
)
_OPEN = {
    "day": re.compile(r"(?P<day>\d\d?)[/-](?P<month>\d\d?)[/-](?P<year>\d{4})" + _CLOCK),
    "month": re.compile(r"(?P<month>\d\d?)[/-](?P<day>\d\d?)[/-](?P<year>\d{4})" + _CLOCK),
}
_COMPACT = re.compile(r"(?P<year>(?:19|20)\d\d)(?P<month>\d\d)(?P<day>\d\d)")
_MONTHS = (
    *("january", "february", "march", "april", "may", "june", "july", "august"),
    *("september", "october", "november", "december"),
)


def moment_of(text: str, order: str = "", *, compact: bool = False) -> datetime | None:
    """Read a date, with a time or without.

    Parameters
    ----------
    text : str
        A date in ISO 8601; or with the year first (2026/3/31), with dots (31.3.2026), with the
        English name of the month (31 March 2026, Mar 31, 2026), or as 31/3/2026 if `order` is
        given. Times such as 17:06:30 and 5:06 PM may follow.
    order : {"", "day", "month"}, default=""
    compact : bool, default=False
        Whether 20260331 is also read as a date.

    Returns
    -------
    datetime or None
        None if the text is not a date.

    Examples
    --------
    >>> from gandetect.data.dates import moment_of
    >>> moment_of("31.03.2026").isoformat(), moment_of("3/4/2026 5:06 PM", "month").isoformat()
    ('2026-03-31T00:00:00', '2026-03-04T17:06:00')
    >>> moment_of("3/4/2026") is None
    True
    """
    text = text.strip()
    try:
        if _ISO.fullmatch(text):
            return datetime.fromisoformat(text)
        forms = (*_CERTAIN, *([_OPEN[order]] if order else []), *([_COMPACT] if compact else []))
        found = next((match for form in forms if (match := form.fullmatch(text))), None)
        return None if found is None else _moment(found.groupdict())
    except ValueError:  # the 30th of February
        return None


def order_of(texts: Iterable[str]) -> str | None:
    """Whether the day or the month comes first in dates such as 31/3/2026, by all dates.

    Parameters
    ----------
    texts : iterable of str

    Returns
    -------
    {"", "day", "month"} or None
        "" if no date has this form, or if they contradict each other; None if it is ambiguous.

    Examples
    --------
    >>> from gandetect.data.dates import order_of
    >>> order_of(["3/4/2026", "31/3/2026"]), order_of(["3/4/2026"]), order_of(["2026-04-03"])
    ('day', None, '')
    """
    written = [text.strip() for text in texts if _OPEN["day"].fullmatch(text.strip())]
    if not written:
        return ""
    possible = [order for order in _OPEN if all(moment_of(text, order) for text in written)]
    return None if len(possible) == 2 else "".join(possible)


def _moment(parts: dict[str, str | None]) -> datetime:
    """The date of the matched parts; ValueError if there is none."""
    year, month, day, hour, minute, second = (
        parts.get(name) or "0" for name in ("year", "month", "day", "hour", "minute", "second")
    )
    if month.isalpha():
        named = [i for i, name in enumerate(_MONTHS, 1) if name.startswith(month.lower())]
        if not named:
            raise ValueError(month)
        month = str(named[0])
    found = datetime(int(year), int(month), int(day), int(hour), int(minute), int(second))
    if half := parts.get("half"):
        if not 1 <= found.hour <= 12:
            raise ValueError(hour)
        found = found.replace(hour=found.hour % 12 + 12 * (half.lower() == "p"))
    fraction = (parts.get("fraction") or "")[1:7]
    return found + timedelta(microseconds=int(fraction.ljust(6, "0")))
