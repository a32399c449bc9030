"""Units: exact factors, what does not fit, and text that pint's own evaluator never gets to see."""

import contextlib
import time
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_agent.tools.rational import ExpressionError
from rlm_agent.tools.units import UnitError, Units, converted


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("3.5 miles to km", "5.632704 km"),
        ("90 km/hour to m/s", "25 m/s"),
        ("10 km per hour in m per s", "25/9 ≈ 2.777777778 m per s"),
        ("20 degC to degF", "68 degF"),
        ("20 celsius in fahrenheit", "68 fahrenheit"),
        ("0 K to degC", "-273.15 degC"),
        ("(1 + 2) ft to inch", "36 inch"),
        ("5 m^2 to cm**2", "50000 cm**2"),
        ("5 in to cm", "12.7 cm"),
        ("1 lb -> kg", "0.45359237 kg"),
        ("1 N m to J", "1 J"),
        ("1/3 cup to ml", "78.8627455 ml"),
        ("180 degrees to radian", "≈ 3.141592654 radian"),
    ],
)
def test_a_quantity_is_brought_into_other_units(asked: str, said: str) -> None:
    assert Units().call(asked) == said


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ("3 kg to m", "Cannot convert from 'kilogram' ([mass]) to 'meter' ([length])"),
        ("3 foo to m", "'foo' is not defined in the unit registry"),
        ("3 m", "write a number, its unit, to, and another unit"),
        ("m to km", "write a number, its unit"),
        ("", "write a number, its unit"),
        ("1 m**9**9**9 to km", "write a number, its unit"),
        ("1 m**99 to km", "write a number, its unit"),
        ("1 m to __import__('os')", "write a number, its unit"),
        ("1 m to open", "'open' is not defined"),
        ("1 (m*m) to km", "write a number, its unit"),
        ("1 m " + "to km " * 100, "write a number, its unit"),
    ],
)
def test_what_cannot_be_converted_says_why(asked: str, reason: str) -> None:
    with pytest.raises(UnitError) as refusal:
        Units().call(asked)
    assert reason in str(refusal.value)


def test_a_number_is_read_by_the_calculator_within_its_limits() -> None:
    with pytest.raises(ExpressionError):
        Units().call("9**9**9**9 m to km")


@given(st.fractions(min_value=-1000, max_value=1000), st.sampled_from(["mile", "inch", "yard", "km", "m"]))
def test_there_and_back_nothing_is_lost(number: Fraction, unit: str) -> None:
    assert converted(converted(number, unit, "ft"), "ft", unit) == number


@given(st.text(alphabet="09.eE*^/ ()mkgtoinper%-_'\"[]{}°", max_size=200))
def test_no_text_takes_long_or_raises_anything_else(text: str) -> None:
    started = time.monotonic()
    with contextlib.suppress(UnitError, ExpressionError):
        assert isinstance(Units().call(text), str)
    assert time.monotonic() - started < 5


async def test_awaited_it_says_the_same() -> None:
    assert await Units().acall("2 km to m") == "2000 m"
