"""The calculator is exact, and computes nothing but arithmetic."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_agent.tools.calculator import Calculator
from rlm_agent.tools.protocols import Tool
from rlm_agent.tools.rational import ExpressionError

compute = Calculator().call


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("48/2", "24"),
        ("0.1 + 0.2", "0.3"),
        ("(3 + 4.5) * 2", "15"),
        ("-7/8", "-0.875"),
        ("1/3", "1/3 ≈ 0.3333333333"),
        ("-2/3*100", "-200/3 ≈ -66.66666667"),
        ("1,234,567 * 2", "2469134"),
        ("6 × 7 ÷ 2 − 1", "20"),
        (".5 + 5.", "5.5"),
        ("0.05*20", "1"),
        ("100*1000", "100000"),
        ("0/5", "0"),
        ("1/100000000000000", "0.00000000000001"),
        (" 2 ", "2"),
    ],
)
def test_a_value_is_exact_and_written_as_people_do(expression: str, value: str) -> None:
    assert compute(expression) == value


@pytest.mark.parametrize(
    "expression",
    ["", "2**9", "9//2", "1/0", "x", "__import__('os')", "1 2", "1.2.3", ".", "3%2", "1e5", "(" * 200, "1,23",
     "1.23456789012345", "9" * 16, "1+" * 200 + "1"],
)  # fmt: skip
def test_what_is_no_arithmetic_is_refused_with_a_reason(expression: str) -> None:
    with pytest.raises(ExpressionError):
        compute(expression)


@given(st.integers(-(10**6), 10**6), st.integers(1, 10**6))
def test_no_quotient_is_rounded(numerator: int, denominator: int) -> None:
    said, *_ = compute(f"{numerator}/{denominator}").split(" ≈ ")
    assert Fraction(said) == Fraction(numerator, denominator)


@given(st.decimals(-9999, 9999, places=4), st.decimals(-9999, 9999, places=4))
def test_sums_of_decimals_are_what_pencil_and_paper_give(a: object, b: object) -> None:
    said, *_ = compute(f"({a}) + ({b})").split(" ≈ ")
    assert Fraction(said) == Fraction(str(a)) + Fraction(str(b))


async def test_it_is_a_tool_of_both_colours_without_effects() -> None:
    tool = Calculator()
    assert isinstance(tool, Tool)
    assert tool.idempotent
    assert await tool.acall("1+1") == tool.call("1+1") == "2"
