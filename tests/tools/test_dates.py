"""Dates: sums and differences derived by hand, and against the standard library."""

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_agent.tools.dates import DateError, Dates


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("2024-01-31 + 1 month", "2024-02-29 (Thursday, day 60 of the year, week 9 of 2024)"),
        ("2023-01-31 + 1 month", "2023-02-28 (Tuesday, day 59 of the year, week 9 of 2023)"),
        ("2024-01-31 + 1 month - 2 days", "2024-02-27 (Tuesday, day 58 of the year, week 9 of 2024)"),
        ("31 January 2024 + 3 weeks", "2024-02-21 (Wednesday, day 52 of the year, week 8 of 2024)"),
        ("February 29, 2024 - 1 year", "2023-02-28 (Tuesday, day 59 of the year, week 9 of 2023)"),
        ("2024-05-03 + 1 weekday", "2024-05-06 (Monday, day 127 of the year, week 19 of 2024)"),
        ("2024-05-06 - 6 weekdays", "2024-04-26 (Friday, day 117 of the year, week 17 of 2024)"),
        ("2024-05-03 23:30 + 1 hour", "2024-05-04 00:30:00 (Saturday, day 125 of the year, week 18 of 2024)"),
        ("29.02.2024", "2024-02-29 (Thursday, day 60 of the year, week 9 of 2024)"),
        ("2021-01-01", "2021-01-01 (Friday, day 1 of the year, week 53 of 2020)"),
        ("2024-01-31 to 2024-03-01", "30 days (1 month, 1 day)"),
        ("2024-03-01 - 2023-12-25", "67 days (2 months, 5 days)"),
        ("2023-12-25 - 2024-03-01", "-67 days (2 months, 5 days)"),
        ("2024-05-03 - May 1, 2024", "2 days"),
        ("1 May 2024 until 1 May 2025", "365 days (1 year)"),
        ("2024-05-03 to 2024-05-03", "0 days"),
        ("2024-05-03 10:00 to 2024-05-03 12:30", "2:30:00 (2 hours, 30 minutes)"),
    ],
)  # fmt: skip
def test_dates_are_added_to_and_taken_from_each_other(asked: str, said: str) -> None:
    assert Dates().call(asked) == said


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ("29.02.2023", "'29.02.2023' is no date"),
        ("tomorrow", "'tomorrow' is no date; write it like 2024-01-31"),
        ("", "'' is no date"),
        ("01/02/2024", "is no date"),
        ("24-01-31", "is no date"),
        ("2024-05-03 + 3 moons", "is no date"),
        ("2024-01-01 + 2 years + 1", "'+ 1' is no span"),
        ("9999-12-31 + 1 day", "it lies outside of the years 1 to 9999"),
        ("2024-01-31 + 9999999 years", "it lies outside of the years 1 to 9999"),
        ("2024-01-31 + 9999999 weekdays", "more than 100000 weekdays are not counted"),
        ("2024-01-31 " + "+ 1 day " * 100, "it is longer than 200 characters"),
    ],
)
def test_what_is_no_date_or_does_not_exist_says_why(asked: str, reason: str) -> None:
    with pytest.raises(DateError) as refusal:
        Dates().call(asked)
    assert reason in str(refusal.value)


_DATES = st.dates(date(1900, 1, 1), date(2100, 1, 1))


@given(_DATES, st.integers(-5000, 5000))
def test_days_agree_with_the_standard_library(day: date, count: int) -> None:
    sign = "-" if count < 0 else "+"
    end = day + timedelta(days=count)
    assert Dates().call(f"{day} {sign} {abs(count)} days").startswith(f"{end} ({end:%A}, ")
    assert Dates().call(f"{day} to {end}").startswith(f"{count} day")


@given(_DATES, st.integers(1, 400))
def test_weekdays_are_counted_one_by_one(day: date, count: int) -> None:
    end = day
    while count:
        end += timedelta(days=1)
        count -= end.weekday() < 5
    asked = sum((day + timedelta(days=n)).weekday() < 5 for n in range(1, (end - day).days + 1))
    assert Dates().call(f"{day} + {asked} weekdays").startswith(str(end))
