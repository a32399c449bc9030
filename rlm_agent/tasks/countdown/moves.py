"""Moves between states, and the exact solver built on them.

A state is the ascending tuple of the numbers left. Values are `int` where they are whole, else
`Fraction`, so that equal values are equal and hash alike.
"""

import random
from collections.abc import Iterator
from fractions import Fraction
from functools import lru_cache

Number = int | Fraction
State = tuple[Number, ...]
Move = tuple[str, Number, Number, Number, State]
"""Operation, its two numbers, the result, and the state that follows."""

MAX_EXACT_NUMBERS = 5
"""Up to so many numbers the solver answers within a second or two."""


def divide(a: Number, b: Number) -> Number:
    """The exact quotient a / b, b not zero, as an int where it is whole."""
    quotient = Fraction(a) / b
    return quotient.numerator if quotient.denominator == 1 else quotient


def apply(op: str, a: Number, b: Number) -> Number:
    """The exact result of one of `+ - * /`."""
    match op:
        case "+":
            return a + b
        case "-":
            return a - b
        case "*":
            return a * b
    return divide(a, b)


def moves(state: State) -> Iterator[Move]:
    """Every distinct move `(op, a, b, result, next state)` from a state.

    Sums and products come once, larger operand first. Results below zero are left out: for a target
    of at least zero, signs can always be pushed outwards, so no solvable puzzle is lost.
    """
    seen = set()
    for i, b in enumerate(state):
        for j in range(i + 1, len(state)):
            a = state[j]
            if (a, b) in seen:
                continue
            seen.add((a, b))
            rest = state[:i] + state[i + 1 : j] + state[j + 1 :]
            yield "+", a, b, a + b, _join(rest, a + b)
            yield "*", a, b, a * b, _join(rest, a * b)
            yield "-", a, b, a - b, _join(rest, a - b)
            if b:
                yield "/", a, b, (c := divide(a, b)), _join(rest, c)
            if a and a != b:
                yield "/", b, a, (c := divide(b, a)), _join(rest, c)


def _join(rest: State, value: Number) -> State:
    return tuple(sorted((*rest, value)))


@lru_cache(maxsize=400_000)
def reachable(state: State) -> frozenset[Number]:
    """All values of at least zero that a state can be brought to, every number used once."""
    if len(state) == 1:
        return frozenset(state)
    values: set[Number] = set()
    for *_, following in moves(state):
        values |= reachable(following)
    return frozenset(values)


def solvable(numbers: tuple[int, ...], target: int) -> bool | None:
    """Whether the target can be reached; None where there are too many numbers to tell quickly."""
    if len(numbers) > MAX_EXACT_NUMBERS:
        return None
    return _solvable(tuple(sorted(numbers)), target)


def _solvable(state: State, target: int) -> bool:
    if len(state) <= 4:
        return target in reachable(state)
    return any(_solvable(following, target) for *_, following in moves(state))


def sample_solution(
    numbers: tuple[int, ...], target: int, rng: random.Random, *, fraction_weight: float = 1.0
) -> list[Move]:
    """One solution, its moves drawn at random among those from which the target stays reachable.

    Moves with a fractional result weigh `fraction_weight`, all others 1. Raises `ValueError` where
    the target cannot be reached.
    """
    state: State = tuple(sorted(numbers))
    path = []
    while len(state) > 1:
        viable = [move for move in moves(state) if target in reachable(move[-1])]
        if not viable:
            raise ValueError(f"{target} cannot be reached from {numbers}")
        weights = [1.0 if move[3].denominator == 1 else fraction_weight for move in viable]
        path.append(rng.choices(viable, weights)[0])
        state = path[-1][-1]
    return path
