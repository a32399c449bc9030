"""Worked Countdown and Game of 24 puzzles as training text, held-out ones left out."""

import random
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from rlm_agent.tasks.countdown.checker import write_step
from rlm_agent.tasks.countdown.generator import LARGEST_NUMBER, game24_puzzles, whole_targets
from rlm_agent.tasks.countdown.moves import sample_solution
from rlm_agent.tasks.countdown.puzzle import Puzzle

LARGEST_RESULT = 400
FRACTION_WEIGHT = 0.25
"""Fractions are rarely needed; a policy that tries them less often wastes fewer attempts."""


@dataclass(frozen=True, slots=True)
class Example:
    """A prompt, which is not in the loss, and the solution to be learned, without end-of-answer."""

    prompt: str
    solution: str


def examples(
    seed: int, *, excluded: Collection[str] = (), game24_share: float = 0.4, three_share: float = 0.15
) -> Iterator[Example]:
    """An endless stream: Game of 24 puzzles, Countdown of three numbers, the rest of four.

    Puzzles of the validation and test splits and those whose canonical text is in `excluded` never
    appear. The stream is the same for the same seed.
    """
    rng = random.Random(f"puzzles/{seed}")
    game24 = [puzzle for puzzle in game24_puzzles("train") if puzzle.text not in excluded]
    while True:
        kind = rng.random()
        if kind < game24_share:
            puzzle = rng.choice(game24)
        else:
            puzzle = _countdown(rng, 3 if kind < game24_share + three_share else 4)
            if not _trainable(puzzle, excluded):
                continue
        if (example := solve(puzzle, rng)) is not None:
            yield example


def solve(puzzle: Puzzle, rng: random.Random) -> Example | None:
    """The puzzle with a random solution; None where that solution has awkward numbers in it."""
    path = sample_solution(puzzle.numbers, puzzle.target, rng, fraction_weight=FRACTION_WEIGHT)
    for _, _, _, result, _ in path:
        if result > LARGEST_RESULT or result.denominator > LARGEST_NUMBER:
            return None
    return Example(f"{puzzle.text}\n", "\n".join(write_step(*move) for move in path))


def _countdown(rng: random.Random, count: int) -> Puzzle:
    numbers = tuple(sorted(rng.randint(1, LARGEST_NUMBER) for _ in range(count)))
    return Puzzle(numbers, rng.choice(whole_targets(numbers)))


def _trainable(puzzle: Puzzle, excluded: Collection[str]) -> bool:
    return puzzle.split == "train" and puzzle.text not in excluded
