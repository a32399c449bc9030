"""Arithmetic on dates, after explicit formats: nothing is guessed, and nobody asks what day it is."""

import re
from datetime import datetime, timedelta
from typing import Any

from rlm_agent.structure.errors import MissingExtraError
from rlm_agent.tools.calling import Threaded
from rlm_agent.tools.protocols import takes_text

FORMATS = (
    "%Y-%m-%d",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%d %H:%M:%S",
    "%Y-%m-%dT%H:%M",
    "%Y-%m-%dT%H:%M:%S",
    "%Y/%m/%d",
    "%d.%m.%Y",
    "%d.%m.%Y %H:%M",
    "%d %B %Y",
    "%d %b %Y",
    "%B %d, %Y",
    "%b %d, %Y",
    "%B %d %Y",
)
"""How a date may be written; months and weekdays are English, the year has four digits."""

_SPAN = re.compile(r"\s*([+-])\s*([0-9]{1,7})\s*(year|month|week|day|hour|minute|second|weekday)s?(?![a-z])")
_UNTIL = re.compile(r"\s(?:to|until|till)\s")
_LESS = re.compile(r"\s-\s")
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_LONGEST = 200
_MOST_WEEKDAYS = 100_000
_MOST_SHOWN = 40


class DateError(ValueError):
    """A date, or a sum of one, that cannot be read or does not exist; the message says why."""


class Dates(Threaded):
    """The tool `dates`: the date so long before or after another, or how long it is between two.

    `2024-01-31 + 1 month - 2 days` is a date with its weekday; where a month is too short, it is the last day
    of it. Weekdays are counted from Monday to Friday. `2024-01-31 to 2024-03-01` is a number of days, in
    years, months and days as well, and so is `2024-03-01 - 2024-01-31`. A date alone tells its weekday, its
    day of the year and its ISO week. `FORMATS` says how dates are written. Raises `DateError` for all else.
    """

    name = "dates"
    description = (
        "Computes with dates, such as 2024-01-31 + 1 month - 2 days, or 2024-01-31 to 2024-03-01. "
        "A date alone tells its weekday."
    )
    idempotent = True
    parameters = takes_text("expression")

    def call(self, argument: str) -> str:
        """What is asked, as text. Raises `MissingExtraError` without python-dateutil."""
        text = " ".join(argument.split())
        if len(text) > _LONGEST:
            raise DateError(f"it is longer than {_LONGEST} characters")
        ends = _UNTIL.split(text, maxsplit=1)
        first = _SPAN.search(text)
        if len(ends) == 1 and first is not None:
            return _described(moved(read_date(text[: first.start()]), text[first.start() :]))
        if len(ends) == 1:
            ends = _LESS.split(text, maxsplit=1)[::-1]
        return between(*map(read_date, ends)) if len(ends) == 2 else _described(read_date(text))


def read_date(text: str) -> datetime:
    """A date, with a time of day or without. Raises `DateError` for what has none of the `FORMATS`."""
    for form in FORMATS:
        try:
            return datetime.strptime(text.strip(), form)  # noqa: DTZ007 - dates of no place
        except ValueError:
            continue
    raise DateError(f"{text.strip()[:_MOST_SHOWN]!r} is no date; write it like 2024-01-31 or 31 January 2024")


def moved(date: datetime, spans: str) -> datetime:
    """A date after spans such as `+ 1 month - 2 days`, one by one. Raises `DateError`."""
    delta = _relative()
    while spans.strip():
        span = _SPAN.match(spans)
        if span is None:
            raise DateError(f"{spans.strip()[:_MOST_SHOWN]!r} is no span; write it like + 3 weeks")
        count, unit = int(span[1] + span[2]), span[3]
        try:
            date = _weekdays(date, count) if unit == "weekday" else date + delta(**{f"{unit}s": count})
        except DateError:
            raise
        except (OverflowError, ValueError):
            raise DateError("it lies outside of the years 1 to 9999") from None
        spans = spans[span.end() :]
    return date


def between(start: datetime, end: datetime) -> str:
    """How long it is from one date to another, as text; negative where the other one is earlier."""
    sign, whole = ("-" if end < start else ""), abs(end - start)
    parts = _relative()(max(start, end), min(start, end))
    named = [
        _counted(getattr(parts, f"{unit}s"), unit)
        for unit in ("year", "month", "day", "hour", "minute", "second")
        if getattr(parts, f"{unit}s")
    ]
    days = f"{sign}{_counted(whole.days, 'day')}"
    exact = timedelta(days=whole.days) == whole
    if len(named) < 2 and exact and (not named or named[0].endswith(("day", "days"))):
        return days
    return f"{days if exact else f'{sign}{whole}'} ({', '.join(named)})"


def _weekdays(date: datetime, count: int) -> datetime:
    if abs(count) > _MOST_WEEKDAYS:
        raise DateError(f"more than {_MOST_WEEKDAYS} weekdays are not counted")
    step = timedelta(days=1 if count > 0 else -1)
    left = abs(count)
    while left:
        date += step
        left -= date.weekday() < 5
    return date


def _described(date: datetime) -> str:
    timed = date.time() != datetime.min.time()
    text = date.isoformat(sep=" ") if timed else date.date().isoformat()
    week = date.isocalendar()
    return (
        f"{text} ({_DAYS[date.weekday()]}, day {date.timetuple().tm_yday} of the year, "
        f"week {week.week} of {week.year})"
    )


def _counted(count: int, unit: str) -> str:
    return f"{count} {unit}{'' if count == 1 else 's'}"


def _relative() -> Any:
    try:
        from dateutil.relativedelta import relativedelta
    except ImportError as error:
        raise MissingExtraError("python-dateutil", "tools") from error
    return relativedelta
