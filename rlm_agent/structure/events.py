"""What a search tells those who watch it, in the `custom` stream of its graph."""

from collections.abc import Sequence
from typing import Literal, TypedDict

from rlm_agent.structure.budget import Usage


class OperatorEvent(TypedDict):
    """One operator has run: the unit of trace-based supervision.

    `inputs` and `outputs` are ids of thoughts; `model_calls` and `tokens` (generated) are this run's own.
    """

    event: Literal["operator"]
    operator: str
    inputs: list[str]
    outputs: list[str]
    model_calls: int
    tokens: int


def operator_event(
    operator: str, inputs: Sequence[str], outputs: Sequence[str], usage: Usage | None = None
) -> OperatorEvent:
    """The event of one call of an operator; `usage` is what that call cost, None for nothing."""
    return OperatorEvent(
        event="operator",
        operator=operator,
        inputs=list(inputs),
        outputs=list(outputs),
        model_calls=usage["model_calls"] if usage else 0,
        tokens=usage["completion_tokens"] if usage else 0,
    )


class SpanEvent(TypedDict):
    """What a piece of a text amounts to, as the call of an operator, read off it once the search is over.

    It stands in the text of `thought`, from `begin` up to `end`; `inputs` and `outputs` are ids of thoughts.
    """

    event: Literal["span"]
    operator: str
    inputs: list[str]
    outputs: list[str]
    thought: str
    begin: int
    end: int


class ThoughtEvent(TypedDict):
    """A thought was added to the graph; `value` is its evaluation in [0, 1] where it has one."""

    event: Literal["thought"]
    id: str
    parent: str | None
    depth: int
    kind: str
    text: str
    reason: str | None
    value: float | None


class Worth(TypedDict):
    """What is known of a thought: its evaluation in [0, 1], its mean return in [-1, 1], and its backups."""

    value: float | None
    q: float
    visits: int


class ValueEvent(TypedDict):
    """Thoughts that were told already are worth something else now, by an evaluation or by a backup."""

    event: Literal["value"]
    operator: str
    thoughts: dict[str, Worth]


class BestEvent(TypedDict):
    """Another thought would be the answer if the search ended here; `value` is its own evaluation."""

    event: Literal["best"]
    thought: str
    answer: str | None
    value: float | None


class BudgetEvent(TypedDict):
    """What is left as the round of that number, or an operation, begins, and in the end; None: no bound."""

    event: Literal["budget"]
    round: int
    tokens: int | None
    calls: int | None
    nodes: int | None
    seconds: float | None


class AnswerEvent(TypedDict):
    """The search is over: its answer, whether a verifier accepted it, and why the search stopped."""

    event: Literal["answer"]
    answer: str | None
    verified: bool | None
    stopped: str
    usage: Usage


Event = OperatorEvent | SpanEvent | ThoughtEvent | ValueEvent | BestEvent | BudgetEvent | AnswerEvent

DEEDS = ("operator", "span", "thought", "answer")
"""The events that tell what a search did, and not how it stood meanwhile."""
