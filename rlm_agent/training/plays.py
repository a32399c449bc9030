"""Puzzles of five numbers with solutions, found by playing forward at random: thousands of games at once.

The exact solver would be too slow to make hundreds of such puzzles a second.
"""

import random
from collections import Counter
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from rlm_agent.tasks.countdown.generator import LARGEST_NUMBER, LARGEST_TARGET
from rlm_agent.tasks.countdown.moves import Move, Number, apply
from rlm_agent.tasks.countdown.solver import Floats

Choices = NDArray[np.int64]
"""[games, moves, 3]: the places of two numbers, and an operation."""
Play = tuple[tuple[int, ...], int, list[Move]]
"""Numbers, ascending; the whole target that they were brought to; and the moves that did it."""

LARGEST_RESULT = 400
FRACTION_WEIGHT = 0.25
"""Fractions are rarely needed; a policy that tries them less often wastes fewer attempts."""
_NUMBERS, _SETS, _GAMES = 5, 24, 1024
_NONE = 1e6
"""Stands for the result of a division by zero, and for all that is larger."""
_ROUNDING = 1e-9


def plays(rng: random.Random, target: int | None = None) -> Iterator[Play]:
    """Endless games over random numbers that come to `target`, or to any whole number up to 100.

    Each set of numbers is played 1,024 times and gives at most one game: a random one among those that met
    the target that has come least so far, so that targets that are rarely met are not rare.
    """
    generator = np.random.default_rng(rng.getrandbits(64))
    wanted = range(1, LARGEST_TARGET + 1) if target is None else (target,)
    come: Counter[int] = Counter()
    while True:
        dealt = np.sort(generator.integers(1, LARGEST_NUMBER + 1, (_SETS, _NUMBERS)), axis=1)
        choices, ends = _play(generator, np.repeat(dealt, _GAMES, axis=0).astype(float))
        for number, numbers in enumerate(dealt.tolist()):
            games = slice(number * _GAMES, (number + 1) * _GAMES)
            met = set(np.unique(ends[games]).astype(int).tolist()) & set(wanted)
            if met:
                goal = min(met, key=lambda each: (come[each], rng.random()))
                come[goal] += 1
                game = rng.choice(np.flatnonzero(ends[games] == goal).tolist())
                yield tuple(numbers), goal, _replay(tuple(numbers), choices[games][game].tolist())


def _play(generator: np.random.Generator, hands: Floats) -> tuple[Choices, Floats]:
    """The choices made from `hands` [games, numbers], and the whole targets met; 0 for a game to forget."""
    games, numbers = hands.shape
    rows, alive, made = np.arange(games), np.ones(games, dtype=bool), []
    for left in range(numbers, 1, -1):
        first, second = generator.integers(0, left, games), generator.integers(0, left - 1, games)
        second += second >= first
        operation = generator.integers(0, len(_OPERATIONS), (games,))
        one, other = hands[rows, first], hands[rows, second]
        results = _results(np.maximum(one, other), np.minimum(one, other), operation)
        whole = np.abs(results - np.rint(results)) < _ROUNDING
        tried = whole | (generator.random(games) < FRACTION_WEIGHT)
        alive &= tried & (results <= LARGEST_RESULT)
        made.append(np.stack((first, second, operation), axis=1))
        hands[rows, first] = np.where(whole, np.rint(results), results)
        hands[rows, second] = hands[:, left - 1]
    ends = hands[:, 0]
    alive &= (ends >= 1) & (ends <= LARGEST_TARGET) & (ends == np.rint(ends))
    return np.stack(made, axis=1), np.where(alive, ends, 0)


_OPERATIONS = ("+", "-", "*", "/", "\\")
"""The last one divides the smaller number by the larger."""


def _results(a: Floats, b: Floats, operation: NDArray[np.int64]) -> Floats:
    """The results with a >= b; one too large to be of use where there is none."""
    with np.errstate(divide="ignore", invalid="ignore"):
        results = np.choose(operation, (a + b, a - b, a * b, a / b, b / a))
    found: Floats = np.nan_to_num(results, nan=_NONE, posinf=_NONE).clip(max=_NONE)
    return found


def _replay(hand: tuple[int, ...], choices: list[tuple[int, int, int]]) -> list[Move]:
    """The moves of a game, exactly."""
    numbers: list[Number] = list(hand)
    moves = []
    for first, second, operation in choices:
        a, b = sorted((numbers[first], numbers[second]), reverse=True)
        sign, a, b = (_OPERATIONS[operation], a, b) if _OPERATIONS[operation] != "\\" else ("/", b, a)
        numbers[first] = result = apply(sign, a, b)
        numbers[second] = numbers[-1]
        numbers.pop()
        moves.append((sign, a, b, result, tuple(sorted(numbers))))
    return moves
