"""A calculator: exact arithmetic on rationals and decimals, on text that nobody trusts."""

import re
from fractions import Fraction

from rlm_agent.tools.protocols import takes_text
from rlm_agent.tools.rational import ExpressionError, evaluate

_SIGNS = str.maketrans({"×": "*", "·": "*", "÷": "/", "−": "-"})
_COMMA = re.compile(r"(?<=[0-9]),(?=[0-9]{3}(?![0-9]))")
_DECIMAL = re.compile(r"([0-9]*)\.([0-9]*)")
_MOST_DIGITS = 14
"""The most digits of a decimal, and the most decimals of a result that is written out."""

_LONGEST_FRACTION = 40


class Calculator:
    """The tool `calculator`: the value of an arithmetic expression, computed exactly.

    Integers and decimals, `+ - * /` and parentheses; `×`, `·`, `÷`, `−` and commas between thousands are
    understood as well. A result with more than 14 decimals is a fraction, with its decimals to ten digits
    beside it. Raises `ExpressionError` for anything else; see `tools.rational` for the limits.
    """

    name = "calculator"
    description = "Computes an arithmetic expression exactly, such as (3 + 4.5) * 2 / 7."
    idempotent = True
    parameters = takes_text("expression")

    def call(self, argument: str) -> str:
        """The value of an expression, as text."""
        return written(exactly(argument))

    async def acall(self, argument: str) -> str:
        """The same; it is over at once."""
        return self.call(argument)


def exactly(text: str) -> Fraction:
    """The value of an arithmetic expression as the calculator understands it. Raises `ExpressionError`."""
    plain = _COMMA.sub("", text.translate(_SIGNS)).strip()
    return evaluate(_DECIMAL.sub(_as_fraction, plain))[0]


def _as_fraction(decimal: re.Match[str]) -> str:
    whole, part = decimal[1], decimal[2]
    digits = whole + part
    if not digits or len(digits) > _MOST_DIGITS:
        raise ExpressionError(f"{decimal[0][:40]!r} is no decimal of at most {_MOST_DIGITS} digits")
    return f"({int(digits)}/{10 ** len(part)})"


def written(value: Fraction) -> str:
    """A number in decimals, or, where there would be too many, as a fraction with its first ten digits."""
    scaled = value * 10**_MOST_DIGITS
    if scaled.denominator > 1:
        fraction = f"{value} " if len(str(value)) <= _LONGEST_FRACTION else ""
        return f"{fraction}≈ {float(value):.10g}"
    sign, digits = ("-" if value < 0 else ""), str(abs(scaled.numerator)).rjust(_MOST_DIGITS + 1, "0")
    return f"{sign}{digits[:-_MOST_DIGITS]}.{digits[-_MOST_DIGITS:]}".rstrip("0").rstrip(".")
