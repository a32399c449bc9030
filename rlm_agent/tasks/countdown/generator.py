"""Problems of a split, drawn at random and never twice."""

import random
from collections.abc import Iterator
from itertools import combinations_with_replacement

from rlm_agent.tasks.countdown.moves import reachable
from rlm_agent.tasks.countdown.puzzle import Puzzle, Split

LARGEST_NUMBER = 13
LARGEST_TARGET = 100


def game24_puzzles(split: Split) -> list[Puzzle]:
    """All solvable puzzles of four numbers from 1 to 13 with the target 24, of one split."""
    every = combinations_with_replacement(range(1, LARGEST_NUMBER + 1), 4)
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
        numbers = tuple(sorted(rng.randint(1, LARGEST_NUMBER) for _ in range(4)))
        puzzle = Puzzle(numbers, rng.choice(whole_targets(numbers)))
        if puzzle.split == split and puzzle not in seen:
            seen.add(puzzle)
            yield puzzle


def whole_targets(numbers: tuple[int, ...]) -> list[int]:
    """The whole numbers from 1 to 100 that can be reached, ascending."""
    return sorted(
        int(value)
        for value in reachable(tuple(sorted(numbers)))
        if value.denominator == 1 and 1 <= value <= LARGEST_TARGET
    )
