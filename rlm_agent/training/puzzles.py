"""Worked puzzles of all tasks, held-out ones left out: what the examples of all skills are made of."""

import random
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from rlm_agent.tasks.countdown.generator import LARGEST_NUMBER, game24_puzzles, random_numbers, whole_targets
from rlm_agent.tasks.countdown.moves import Move, Number, State, sample_solution
from rlm_agent.tasks.countdown.puzzle import Puzzle
from rlm_agent.training.plays import FRACTION_WEIGHT, LARGEST_RESULT, plays

SHARES = {"game24": 0.16, "three": 0.04, "four": 0.26, "five24": 0.19, "five": 0.35}
"""Game of 24, Countdown with three and with four numbers, five numbers to 24 and to any target."""


@dataclass(frozen=True, slots=True)
class Worked:
    """A puzzle and the moves of one solution."""

    puzzle: Puzzle
    moves: tuple[Move, ...]

    @property
    def states(self) -> tuple[State, ...]:
        """The states along the solution, the puzzle's own first."""
        return (tuple(sorted(self.puzzle.numbers)), *(move[-1] for move in self.moves))


class HeldOut:
    """What must not be trained on: the splits for validation and test, and canonical texts beside them."""

    def __init__(self, excluded: Collection[str] = ()) -> None:
        self._excluded = frozenset(excluded)

    def puzzle(self, puzzle: Puzzle) -> bool:
        """Whether this puzzle is held out."""
        return puzzle.split != "train" or puzzle.text in self._excluded

    def state(self, state: State, target: int) -> bool:
        """Whether a state on the way to a target is a held-out puzzle of four numbers."""
        if len(state) != 4 or not all(type(n) is int and 1 <= n <= LARGEST_NUMBER for n in state):
            return False
        return self.puzzle(Puzzle(tuple(map(int, state)), target))


def worked(rng: random.Random, held_out: HeldOut) -> Iterator[Worked]:
    """An endless stream of training puzzles in their `SHARES`, each with a random solution."""
    kinds: dict[str, Iterator[Worked]] = {
        "game24": _game24(rng, held_out),
        "three": _countdown(rng, 3),
        "four": _countdown(rng, 4),
        "five24": _five(rng, 24),
        "five": _five(rng, None),
    }
    while True:
        (kind,) = rng.choices(list(SHARES), list(SHARES.values()))
        yield next(one for one in kinds[kind] if _trainable(one, held_out))


def usable(number: Number) -> bool:
    """Whether a result is one that the policy may write; awkward ones are hardly ever needed."""
    return number <= LARGEST_RESULT and number.denominator <= LARGEST_NUMBER


def _trainable(one: Worked, held_out: HeldOut) -> bool:
    if held_out.puzzle(one.puzzle) or not all(usable(move[3]) for move in one.moves):
        return False
    return not any(held_out.state(state, one.puzzle.target) for state in one.states[1:])


def _game24(rng: random.Random, held_out: HeldOut) -> Iterator[Worked]:
    puzzles = [puzzle for puzzle in game24_puzzles("train") if not held_out.puzzle(puzzle)]
    while True:
        yield _solved(rng.choice(puzzles), rng)


def _countdown(rng: random.Random, count: int) -> Iterator[Worked]:
    while True:
        numbers = random_numbers(rng, count)
        yield _solved(Puzzle(numbers, rng.choice(whole_targets(numbers))), rng)


def _solved(puzzle: Puzzle, rng: random.Random) -> Worked:
    moves = sample_solution(puzzle.numbers, puzzle.target, rng, fraction_weight=FRACTION_WEIGHT)
    return Worked(puzzle, tuple(moves))


def _five(rng: random.Random, target: int | None) -> Iterator[Worked]:
    for numbers, met, moves in plays(rng, target):
        yield Worked(Puzzle(numbers, met), tuple(moves))
