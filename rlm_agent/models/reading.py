"""How a policy is asked for one more step, and what its completion amounts to."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from rlm_agent.models.protocols import Completion, Decoding, Message, Request
from rlm_agent.structure.steps import Steps
from rlm_agent.structure.thoughts import Kind


def next_step(
    messages: tuple[Message, ...],
    prefix: str,
    steps: Steps,
    *,
    decoding: Decoding,
    max_tokens: int,
    seed: int,
    **further: Any,
) -> Request:
    """The request for the step behind a `prefix`, which ends where `steps` say that a step ends.

    `further` are other fields of the request.
    """
    unit, end = steps.granularity, steps.answer_end
    stop = (unit.delimiter,) if unit.delimiter else ()
    return Request(
        messages=messages,
        prefix=prefix,
        max_tokens=max_tokens,
        seed=seed,
        stop=stop,
        decoding=decoding,
        stop_tokens=stop if unit.token else (),
        end_tokens=(end.token,) if end.token else (),
        **further,
    )


@dataclass(frozen=True, slots=True)
class Behind:
    """Where a step is written: behind so many steps (`depth`) of a chain that have led to a `state`.

    `steps` tells their texts; it is asked only where they matter, since they may be many.
    """

    question: str
    depth: int
    state: str | None
    steps: Callable[[], Sequence[str]]


@dataclass(frozen=True, slots=True)
class Reading:
    """A step's text, what it is, and what is to be noted with it: `state`, `answer`, `reason`."""

    text: str
    kind: Kind
    noted: dict[str, str] = field(default_factory=dict)


def read_step(behind: Behind, completion: Completion, steps: Steps) -> Reading:
    """The step that a completion holds; `failed` where it cannot be used, which harms nobody else."""
    if completion.finish == "error":
        return _failed(completion.text, completion.error or "the model gave no reply")
    before = behind.steps() if steps.answer_end.in_text else ()
    text, ending = steps.cut(before, completion.text, completion.finish, completion.tokens)
    if ending == "length":
        return _failed(text, f"cut off after {completion.tokens} tokens")
    return _ended(behind, text, steps, final=ending == "end")


def _ended(behind: Behind, text: str, steps: Steps, *, final: bool) -> Reading:
    """What a step that has come to its end amounts to."""
    noted = {}
    if steps.check is not None:
        checked = steps.check(behind.question, behind.state, text)
        if checked.reason is not None:
            return _failed(text, checked.reason)
        noted = {"state": checked.state} if checked.state is not None else {}
        final = final or checked.final
    elif not final and steps.granularity.is_empty(text):
        return _failed(text, "an empty step")
    if final:
        chain = steps.granularity.for_answer([*behind.steps(), text])
        answer = steps.answer(behind.question, chain)
        if answer is None:
            return _failed(text, "ended without an answer", noted)
        return Reading(text, "final", {**noted, "answer": answer})
    if behind.depth + 1 >= steps.max_steps:
        return _failed(text, f"no answer within {steps.max_steps} steps", noted)
    return Reading(text, "step", noted)


def _failed(text: str, reason: str, noted: dict[str, str] | None = None) -> Reading:
    return Reading(text, "failed", {**(noted or {}), "reason": reason})
