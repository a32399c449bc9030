"""Arithmetic on untrusted text: exact where it is arithmetic, refused in no time where it is not."""

import contextlib
import inspect
import sys
import time
from dataclasses import dataclass
from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from rlm_agent.tools.rational import MAX_CHARACTERS, MAX_DIGITS, ExpressionError, evaluate


@dataclass(frozen=True)
class Expression:
    """A text, what it is worth (None: it divides by zero), and its literals from left to right."""

    text: str
    value: Fraction | None
    literals: tuple[int, ...]


def literal(number: int) -> Expression:
    return Expression(str(number), Fraction(number), (number,))


def negated(operand: Expression) -> Expression:
    value = None if operand.value is None else -operand.value
    return Expression(f"-{operand.text}", value, operand.literals)


def combined(left: Expression, op: str, right: Expression, space: str) -> Expression:
    text = f"({left.text}{space}{op}{space}{right.text})"
    return Expression(text, apply(left.value, op, right.value), left.literals + right.literals)


def apply(left: Fraction | None, op: str, right: Fraction | None) -> Fraction | None:
    if left is None or right is None or (op == "/" and right == 0):
        return None
    return {"+": left + right, "-": left - right, "*": left * right, "/": left / (right or 1)}[op]


numbers = st.integers(0, 10**MAX_DIGITS - 1).map(literal) | st.integers(0, 13).map(literal)
expressions = st.recursive(
    numbers,
    lambda inner: (
        st.builds(combined, inner, st.sampled_from("+-*/"), inner, st.sampled_from(["", " "]))
        | inner.map(negated)
    ),
    max_leaves=10,
)


@given(expressions)
def test_value_and_literals_equal_those_of_the_expression_tree(expression: Expression) -> None:
    assume(len(expression.text) <= MAX_CHARACTERS)
    if expression.value is None:
        with pytest.raises(ExpressionError, match="divides by zero"):
            evaluate(expression.text)
    else:
        assert evaluate(expression.text) == (expression.value, list(expression.literals))


@given(st.text(max_size=40) | st.text("0123456789+-*/() .,_eEjx", max_size=40))
def test_any_text_gives_a_value_or_an_expression_error(text: str) -> None:
    with contextlib.suppress(ExpressionError):
        value, literals = evaluate(text)
        assert isinstance(value, Fraction)
        assert all(str(literal) in text for literal in literals)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1 + 2 * 3", 7),
        ("2 - 3 - 4", -5),
        ("8 / 4 / 2", 1),
        ("-2 * 3", -6),
        ("2 - -3", 5),
        (" 7 ", 7),
        ("1 / 3 + 1 / 6", Fraction(1, 2)),
        ("00 + 1", 1),
    ],
)
def test_precedence_and_signs_are_those_of_arithmetic(text: str, value: Fraction) -> None:
    assert evaluate(text)[0] == value


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os')",
        "__import__('os').system('true')",
        "(lambda: 1)()",
        "[1][0]",
        "1 if 1 else 2",
        "1; 2",
        "print(1)",
        "a",
        "True",
        "1.5",
        "1e3",
        "0x10",
        "1_000",
        "1j",
        "'1'",
        "1, 2",
        "+1",
        "~1",
        "7 % 4",
        "7 // 4",
        "2 ** 3",
        "2 * * 3",
        "1 < 2",
        "4(2)",
        "(4)(2)",
        "4 2",
        "007",
        "1\n",
        "1\t+ 1",
        "1 +",
        "()",
        "(1",
        "1)",
        "",
        " ",
    ],
)
def test_anything_but_plain_arithmetic_is_refused(text: str) -> None:
    with pytest.raises(ExpressionError):
        evaluate(text)


@pytest.mark.parametrize("digit", ["٣", "３", "३", "²", "½", "Ⅷ"])
def test_digits_outside_ascii_are_refused(digit: str) -> None:
    with pytest.raises(ExpressionError):
        evaluate(f"{digit} + 1")


@pytest.mark.parametrize("text", ["1 / 0", "0 / 0", "1 / (2 - 2)", "1 / (1 / 3 - 2 / 6)"])
def test_division_by_zero_is_refused(text: str) -> None:
    with pytest.raises(ExpressionError, match="divides by zero"):
        evaluate(text)


@pytest.mark.parametrize("text", ["9**9**9", "9 ** 9 ** 9", "9**9**9**9**9", "*".join(["9" * 99] * 9999)])
def test_expensive_text_is_refused_at_once(text: str) -> None:
    started = time.perf_counter()
    with pytest.raises(ExpressionError):
        evaluate(text)
    assert time.perf_counter() - started < 0.5


def test_limits_are_met_exactly() -> None:
    assert evaluate("9" * MAX_DIGITS)[0] == 10**MAX_DIGITS - 1
    with pytest.raises(ExpressionError, match="digits"):
        evaluate("9" * (MAX_DIGITS + 1))
    assert evaluate("1".ljust(MAX_CHARACTERS))[0] == 1
    with pytest.raises(ExpressionError, match="characters"):
        evaluate("1".ljust(MAX_CHARACTERS + 1))


@pytest.mark.parametrize("depth", [10, 100, 149])
def test_deep_nesting_is_read_or_refused_but_never_breaks_the_parser(depth: int) -> None:
    assert evaluate("(" * depth + "5" + ")" * depth)[0] == 5
    assert evaluate("-" * 2 * depth + "5")[0] == 5


@pytest.mark.parametrize("frames", [50, 200])
def test_nesting_that_exhausts_the_stack_is_refused(frames: int) -> None:
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack(0)) + frames)
    try:
        with pytest.raises(ExpressionError):
            evaluate("-" * (MAX_CHARACTERS - 1) + "5")
    finally:
        sys.setrecursionlimit(limit)
