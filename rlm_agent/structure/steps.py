"""What a step is, when it is legal, what answer a chain of steps gives, and whether that is right."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from rlm_agent.structure.errors import InputError, ProblemError
from rlm_agent.structure.formats import MODEL_END, AnswerEnd, Ending, StepFormat, delimited
from rlm_agent.structure.ids import fingerprint


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

    `read` brings a question to its canonical text or raises `ProblemError`. A step ends as `format` says, or,
    without one, at `delimiter`; an answer ends with the model's end-of-generation token, and as `answer_end`
    says (`structure/formats.py` has both). `max_tokens` bounds one step, which under `WHOLE` is the whole
    solution, and `max_steps` the depth of a chain; a format of n tokens a step overrules `max_tokens`.
    `granularity` is the format in force. Raises `InputError` for an empty delimiter, or one beside a format.
    """

    delimiter: str = "\n"
    max_tokens: int = 128
    max_steps: int = 32
    read: Callable[[str], str] = read_any
    check: StepChecker | None = None
    answer: Answerer = last_step
    format: StepFormat | None = None
    answer_end: AnswerEnd = MODEL_END
    granularity: StepFormat = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.format is not None and self.delimiter != "\n":
            raise InputError(f"the delimiter {self.delimiter!r} stands beside a format; give one of them")
        object.__setattr__(self, "granularity", self.format or delimited(self.delimiter))

    @property
    def longest(self) -> int:
        """The most tokens that one step may take."""
        return self.granularity.count or self.max_tokens

    @property
    def identity(self) -> str:
        """What decides where steps and answers end; stored with a run."""
        unit, end = self.granularity, self.answer_end
        regex = (unit.regex.pattern, unit.regex.flags) if unit.regex is not None else None
        parts = (unit.delimiter, unit.token, unit.count, regex, unit.whole, end.marker, end.boxed, end.token)
        return fingerprint(*parts)

    @property
    def instruction(self) -> str:
        """How a general model is asked to write its steps and its answer."""
        return f"{self.granularity.instruction} {self.answer_end.instruction}"

    def prefix(self, steps: Sequence[str]) -> str:
        """The assistant's turn that these steps make, as a policy is asked to continue it."""
        return self.granularity.delimiter.join([*steps, ""])

    def cut(self, before: Sequence[str], text: str, ending: Ending, tokens: int) -> tuple[str, Ending]:
        """The step in what was generated after the steps `before`, and whether it ends a step or the answer.

        `tokens` is how many were generated; "length" for a step that was cut off.
        """
        unit = self.granularity
        text, ending = unit.cut(text, ending, tokens)
        if self.answer_end.in_text:
            gap = "\n" if unit.token else unit.delimiter  # a special token ends a line, too
            earlier = "".join(f"{step}{gap}" for step in before)
            rest = {"stop": gap, "end": "\n", "length": ""}[ending]
            end = self.answer_end.find(f"{earlier}{text}{rest}", len(earlier))
            if end is not None:
                return text[: end - len(earlier)], "end"
        return text, "end" if unit.whole and ending == "stop" else ending
