"""The puzzle itself: its text, its canonical form, and the split that holds puzzles out of training."""

import hashlib
import re
from dataclasses import dataclass
from typing import Literal

from rlm_agent.structure.errors import ProblemError

Split = Literal["train", "validation", "test"]

MAX_NUMBERS = 6
MAX_NUMBER = 100
MAX_TARGET = 1000
EXAMPLE = "4 9 10 13 : 24"

_TEXT = re.compile(r"\s*([0-9]{1,4}(?:[ ,]+[0-9]{1,4})*)\s*(?::\s*([0-9]{1,5})\s*)?")


@dataclass(frozen=True, slots=True)
class Puzzle:
    """Numbers, each to be used exactly once, and the target to reach with + - * / and parentheses."""

    numbers: tuple[int, ...]
    target: int

    @property
    def text(self) -> str:
        """The canonical text, numbers ascending: `4 9 10 13 : 24`."""
        return f"{' '.join(map(str, sorted(self.numbers)))} : {self.target}"

    @property
    def split(self) -> Split:
        """Where the puzzle belongs, by rule: sha256 of its canonical text as an integer, mod 10.

        0 is validation, 1 and 2 are test, the rest is training.
        """
        residue = int(hashlib.sha256(self.text.encode()).hexdigest(), 16) % 10
        return "validation" if residue == 0 else "test" if residue <= 2 else "train"


def parse(text: str, *, target: int | None = None) -> Puzzle:
    """Read `4 9 10 13 : 24`; the target may be left out where the caller gives one.

    Raises `ProblemError` for any other text and for numbers out of range.
    """
    match = _TEXT.fullmatch(text)
    if match is None or (match[2] is None and target is None):
        raise ProblemError(
            f"{_short(text)} is not a puzzle; write the numbers and the target like '{EXAMPLE}'"
        )
    numbers = tuple(int(number) for number in re.findall(r"[0-9]+", match[1]))
    goal = int(match[2]) if match[2] is not None else target
    if target is not None and goal != target:
        raise ProblemError(
            f"{_short(text)} has the target {goal}, this task has {target}; use the task countdown"
        )
    if not 2 <= len(numbers) <= MAX_NUMBERS:
        raise ProblemError(f"{_short(text)} has {len(numbers)} numbers; give between 2 and {MAX_NUMBERS}")
    if not all(1 <= number <= MAX_NUMBER for number in numbers):
        raise ProblemError(f"{_short(text)} has a number outside 1 to {MAX_NUMBER}; change it")
    assert goal is not None
    if not 1 <= goal <= MAX_TARGET:
        raise ProblemError(f"{_short(text)} has a target outside 1 to {MAX_TARGET}; change it")
    return Puzzle(numbers, goal)


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")
