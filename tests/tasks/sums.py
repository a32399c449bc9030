"""Arithmetic on sums of products, without the calculator."""

import operator
import re
from collections.abc import Callable
from fractions import Fraction

NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?")

SIGNS: dict[str, Callable[[Fraction, Fraction], Fraction]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
}


def by_hand(expression: str) -> Fraction:
    """The value of a sum of products, without the calculator; what is written holds no parentheses."""
    parts = re.split(r"([+-])", expression)
    terms = [_product(term) for term in parts[::2]]
    total = terms[0]
    for sign, term in zip(parts[1::2], terms[1:], strict=True):
        total = SIGNS[sign](total, term)
    return total


def _product(term: str) -> Fraction:
    parts = re.split(r"([*/])", term)
    value = Fraction(parts[0])
    for sign, factor in zip(parts[1::2], parts[2::2], strict=True):
        value = SIGNS[sign](value, Fraction(factor))
    return value
