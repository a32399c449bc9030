"""Problems of a split, drawn at random and never twice."""

import random
from collections.abc import Iterator
from itertools import combinations_with_replacement

import numpy as np

from rlm_agent.tasks.countdown.moves import reachable
from rlm_agent.tasks.countdown.puzzle import Puzzle, Split
from rlm_agent.tasks.countdown.solver import reaches

LARGEST_NUMBER = 13
LARGEST_TARGET = 100
_NUMBERS = range(1, LARGEST_NUMBER + 1)


def game24_puzzles(split: Split) -> list[Puzzle]:
    """All solvable puzzles of four numbers from 1 to 13 with the target 24, of one split."""
    every = combinations_with_replacement(_NUMBERS, 4)
    puzzles = (Puzzle(numbers, 24) for numbers in every)
    return [p for p in puzzles if p.split == split and 24 in reachable(p.numbers)]


def draw_game24(split: Split, rng: random.Random) -> Iterator[Puzzle]:
    """The solvable Game of 24 puzzles of a split, shuffled."""
    puzzles = game24_puzzles(split)
    rng.shuffle(puzzles)
    yield from puzzles


def draw_countdown(split: Split, rng: random.Random) -> Iterator[Puzzle]:
    """Puzzles of four numbers from 1 to 13: numbers uniform, then a target uniform among the whole ones that
    can be reached from them, up to 100. Endless for all practical purposes (over 100,000 puzzles)."""
    seen = set()
    while True:
        numbers = random_numbers(rng, 4)
        puzzle = Puzzle(numbers, rng.choice(whole_targets(numbers)))
        if puzzle.split == split and puzzle not in seen:
            seen.add(puzzle)
            yield puzzle


def draw_five(split: Split, rng: random.Random) -> Iterator[Puzzle]:
    """Puzzles of five numbers from 1 to 13, target up to 100, all uniform, kept where it can be reached.

    Endless for all practical purposes (some 600,000 puzzles).
    """
    seen = set()
    while True:
        puzzle = Puzzle(random_numbers(rng, 5), rng.randint(1, LARGEST_TARGET))
        if puzzle.split == split and puzzle not in seen and _solvable(puzzle):
            seen.add(puzzle)
            yield puzzle


def draw_five24(split: Split, rng: random.Random) -> Iterator[Puzzle]:
    """The solvable puzzles of five numbers from 1 to 13 with the target 24, of one split, shuffled."""
    puzzles = [Puzzle(numbers, 24) for numbers in combinations_with_replacement(_NUMBERS, 5)]
    rng.shuffle(puzzles)
    yield from (puzzle for puzzle in puzzles if puzzle.split == split and _solvable(puzzle))


def _solvable(puzzle: Puzzle) -> bool:
    numbers, target = np.array([puzzle.numbers], dtype=float), np.array([puzzle.target], dtype=float)
    return bool(reaches(numbers, target)[0])


def random_numbers(rng: random.Random, count: int) -> tuple[int, ...]:
    """Numbers from 1 to 13, each drawn by itself, ascending."""
    return tuple(sorted(rng.randint(1, LARGEST_NUMBER) for _ in range(count)))


def whole_targets(numbers: tuple[int, ...]) -> list[int]:
    """The whole numbers from 1 to 100 that can be reached, ascending."""
    return sorted(
        int(value)
        for value in reachable(tuple(sorted(numbers)))
        if value.denominator == 1 and 1 <= value <= LARGEST_TARGET
    )
