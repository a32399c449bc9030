"""What a step is, when it is legal, what answer a chain of steps gives, and whether that is right."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from rlm_agent.structure.errors import ProblemError


@dataclass(frozen=True, slots=True)
class Checked:
    """What a step checker says of one step.

    `state` is the canonical state after a legal step (equal states are interchangeable); `reason`
    says why a step is refused and is None for a legal one; `final` tells that no step can follow.
    """

    state: str | None = None
    reason: str | None = None
    final: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a verifier says of a candidate answer: right or not, and why not."""

    correct: bool
    reason: str = ""


class StepChecker(Protocol):
    """Checks one step in the light of the question and of the state before it."""

    def __call__(self, question: str, state: str | None, step: str, /) -> Checked:
        """`state` is None before the first step."""


class Verifier(Protocol):
    """Judges a candidate by the question alone; it never sees a reference answer."""

    def __call__(self, question: str, answer: str, /) -> Verdict:
        """Must neither raise nor execute anything of `answer`."""


Answerer = Callable[[str, Sequence[str]], str | None]
"""From the question and the steps of a finished chain to its answer, or None where there is none."""


def read_any(question: str) -> str:
    """Any question, stripped; `ProblemError` for an empty one."""
    if not question.strip():
        raise ProblemError("the question is empty; ask something")
    return question.strip()


def last_step(question: str, steps: Sequence[str]) -> str | None:
    """The default answer of a finished chain: its last step, whole."""
    return steps[-1].strip() or None if steps else None


@dataclass(frozen=True, slots=True)
class Steps:
    """How a question is read, how a policy's text is cut into steps, and what those amount to.

    `read` brings a question to its canonical text or raises `ProblemError`. `delimiter` ends a step and the
    model's end-of-generation token ends the answer; `max_tokens` bounds one step, `max_steps` the depth of
    a chain.
    """

    delimiter: str = "\n"
    max_tokens: int = 128
    max_steps: int = 32
    read: Callable[[str], str] = read_any
    check: StepChecker | None = None
    answer: Answerer = last_step
