"""What a task is: how its problems are read, stepped through, drawn and judged."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from rlm_agent.retrieval.protocols import Retriever
from rlm_agent.structure.steps import Steps, Verifier
from rlm_agent.tasks.answers import normalise
from rlm_agent.tasks.countdown.puzzle import Split
from rlm_agent.tools.protocols import Tool


@dataclass(frozen=True, slots=True)
class Problem:
    """A question and, where its answer cannot be verified from the question alone, the gold answer.

    The gold answer is for grading: it stays with the evaluation, and no search ever sees it.
    """

    text: str
    gold: str | None = None


class Drawn(Protocol):
    """A problem as a generator makes it."""

    @property
    def text(self) -> str:
        """The question, canonical."""


@dataclass(frozen=True, slots=True)
class Task:
    """A family of problems.

    `draw(split, rng)` yields distinct problems of a split, in an order that `rng` decides; they have an
    `answer` where there is no `verifier`. `coat` makes steps of a chain that reflects, where the task knows
    such. `tools` are what its problems are solved with, and `retriever` makes what they are looked up in,
    where there is such a thing.
    """

    name: str
    title: str
    example: str
    steps: Steps
    verifier: Verifier | None
    draw: Callable[[Split, random.Random], Iterator[Drawn]]
    coat: Steps | None = None
    tools: Sequence[Tool] = ()
    retriever: Callable[[], Retriever] | None = None

    def sample(self, split: Split, count: int, seed: int) -> list[Problem]:
        """Up to `count` distinct problems of a split, fewer where there are no more."""
        drawn = self.draw(split, random.Random(f"{self.name}/{split}/{seed}"))
        return [
            Problem(one.text, getattr(one, "answer", None))
            for one, _ in zip(drawn, range(count), strict=False)
        ]

    def problems(self, split: Split, count: int, seed: int) -> list[str]:
        """The questions of a `sample`."""
        return [problem.text for problem in self.sample(split, count, seed)]

    def grade(self, problem: Problem, answer: str | None) -> bool | None:
        """Whether an answer is right, by the verifier or by the gold answer; None where neither is known."""
        if self.verifier is None and problem.gold is None:
            return None
        if answer is None:
            return False
        if self.verifier is not None:
            return self.verifier(problem.text, answer).correct
        return normalise(answer) == normalise(problem.gold or "")
