"""Exact arithmetic over the rationals, on text that nobody trusts.

Text is parsed with `ast` and only the nodes of a whitelist are walked: nothing is ever evaluated by
Python itself, names and calls are refused, and so is `**`, which could take for ever.
"""

import ast
import operator
import re
from collections.abc import Callable
from fractions import Fraction

MAX_CHARACTERS = 300
MAX_DIGITS = 15

_OPERATORS: dict[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_ALPHABET = re.compile(r"[0-9+\-*/() ]*")
_LONG_NUMBER = re.compile(rf"[0-9]{{{MAX_DIGITS + 1},}}")


class ExpressionError(ValueError):
    """The text is not an arithmetic expression; the message is one clause that says why."""


def evaluate(text: str) -> tuple[Fraction, list[int]]:
    """The value of an expression over integers, and its integer literals from left to right.

    Allowed are `+ - * /`, parentheses and a leading minus. Raises `ExpressionError` for any other
    text, for a division by zero, and for text or numbers past the limits of this module.
    """
    if len(text) > MAX_CHARACTERS:
        raise ExpressionError(f"it is longer than {MAX_CHARACTERS} characters")
    if not _ALPHABET.fullmatch(text) or "**" in text or "//" in text:
        raise ExpressionError("it holds something other than integers, + - * / and parentheses")
    if _LONG_NUMBER.search(text):
        raise ExpressionError(f"it holds a number of more than {MAX_DIGITS} digits")
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        raise ExpressionError("it cannot be read as arithmetic") from None
    literals: list[int] = []
    try:
        return _walk(tree.body, literals), literals
    except ZeroDivisionError:
        raise ExpressionError("it divides by zero") from None
    except RecursionError:
        raise ExpressionError("it is nested too deeply") from None


def _walk(node: ast.expr, literals: list[int]) -> Fraction:
    match node:
        case ast.Constant(value=int() as number):
            literals.append(number)
            return Fraction(number)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_walk(operand, literals)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            first = _walk(left, literals)
            return _OPERATORS[type(op)](first, _walk(right, literals))
    raise ExpressionError("it holds something other than integers, + - * / and parentheses")
