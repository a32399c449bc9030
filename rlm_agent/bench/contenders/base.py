"""What every contender is given and what it offers."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from rlm_agent.bench.workload import Tokens, Tree


@dataclass(frozen=True, slots=True)
class Setting:
    """The model file; threads to compute with, None for the contender to choose; what has to fit, in tokens.

    `cells` is the size of all trees together, shared parts counted once, and `longest` that of the longest
    branch.
    """

    path: Path
    threads: int | None
    cells: int
    longest: int


class Contender(Protocol):
    """One way to write trees. Only `play` is timed; it begins with an empty cache, on an open contender."""

    name: str
    about: str
    """Kernel, threads, slots: what it came to be set to when it was opened."""

    def open(self) -> None:
        """Load the model."""

    def play(self, trees: Sequence[Tree]) -> list[list[Tokens]]:
        """Write the trees: of each, what stands in the nodes 1, 2, …, in order."""

    def forget(self) -> None:
        """Empty the cache."""

    def close(self) -> None:
        """Free the model."""
