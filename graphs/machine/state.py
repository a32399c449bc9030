"""What a search keeps between supersteps, and how it is checkpointed in linear space.

What is in an ordinary channel is written whole at every superstep: a growing tree, but also a long question.
Here all that is not tiny lives in delta channels, of which only the writes are stored, with a snapshot now
and then.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, NotRequired, TypeVar

from langchain_core.messages import AnyMessage
from langgraph.graph.message import add_messages
from langgraph.managed import RemainingSteps
from typing_extensions import TypedDict  # typing's own has no JSON schema before Python 3.12

from rlm_agent.structure.budget import Budget
from rlm_agent.structure.thoughts import Stats, Thought

V = TypeVar("V")

LAYOUT = 2
"""The version of what a thread stores. It counts up when nobody can go on from what was stored before."""

_TOKENS_A_THOUGHT = 8  # a low guess, so that a token budget does not understate the number of supersteps
_SUPERSTEPS_A_THOUGHT = 4
_SNAPSHOTS = 4
_FEWEST_STEPS = 200


class Terms(TypedDict, total=False):
    """What may be said of one question beside its text: it overrides what the reasoner was made with.

    `given` are steps that the answer begins with, `budget` the keywords of a `Budget`, `seed` decides every
    draw. Given without a new question, a budget lets the last search go on under it.
    """

    given: list[str]
    budget: dict[str, float | None]
    seed: int


class ReviewRecord(TypedDict):
    """What reviews have come to: what was last `seen`, by condition, and how the search goes on since.

    `approved` as it was planned, `added` with thoughts of a human to evaluate, `edited` with a new plan.
    """

    seen: dict[str, Any]
    verdict: Literal["approved", "added", "edited"]


class Run(TypedDict):
    """Where a search stands: everything small that changes from superstep to superstep.

    `version` is the `LAYOUT` of all that is stored. `turn` counts the human messages so far and decides
    `root`; `asked` is the id of the message that asked. `round` counts the passes through the loop. `plan` is
    what select chose last, `fresh` what came of it, `silent` counts the last rounds in which the policy wrote
    nothing at all. `stopped` says why the search ended, `best` which thought holds the answer, `verified`
    whether a verifier accepted it. `budget` holds the keywords of the budget in force where the question
    brought its own, and `review` what humans have looked at.
    """

    version: int
    turn: int
    root: str
    seed: int
    identity: str
    asked: str
    reply: str
    round: int
    plan: list[list[Any]]
    fresh: list[str]
    silent: int
    stopped: str | None
    best: str | None
    verified: bool | None
    budget: dict[str, float | None] | None
    review: NotRequired[ReviewRecord]


class ReasonerInput(TypedDict):
    """What goes in: a conversation that ends in a question, and the terms for this question, if any."""

    messages: list[AnyMessage]
    terms: NotRequired[Terms | None]


class ReasonerOutput(TypedDict):
    """What comes out: the conversation with the reply, the bare answer, and what it cost."""

    messages: list[AnyMessage]
    answer: str | None
    usage: dict[str, float]  # a `Usage`, in a form that has a JSON schema


def merge(current: dict[str, V], writes: Sequence[dict[str, V]]) -> dict[str, V]:
    """The reducer of channels that hold mappings: later writes win, the current value is left as it is.

    Copying is deliberate: a saver may still be writing the old value in another thread.
    """
    merged = dict(current)
    for write in writes:
        merged.update(write)
    return merged


def merge_one(current: dict[str, V], write: dict[str, V]) -> dict[str, V]:
    """`merge` as an ordinary reducer, for a LangGraph without delta channels."""
    return merge(current, [write])


def search_state(budget: Budget) -> type:
    """The state schema of a search under a budget, which decides how often snapshots are taken.

    Snapshots at a fixed frequency would make the space quadratic in the end; with their number
    fixed instead, it stays linear.
    """
    thoughts = budget.nodes or (budget.tokens or 0) // _TOKENS_A_THOUGHT or budget.calls or 0
    frequency = max(_FEWEST_STEPS, thoughts * _SUPERSTEPS_A_THOUGHT // _SNAPSHOTS)

    class SearchState(TypedDict):
        messages: Annotated[list[AnyMessage], _conversation(frequency)]
        terms: NotRequired[Terms | None]
        answer: NotRequired[str | None]
        usage: NotRequired[Annotated[dict[str, Any], _written_only(frequency)]]
        run: NotRequired[Annotated[dict[str, Any], _written_only(frequency)]]
        thoughts: NotRequired[Annotated[dict[str, Thought], _growing(frequency)]]
        stats: NotRequired[Annotated[dict[str, Stats], _growing(frequency)]]
        remaining_steps: NotRequired[RemainingSteps]

    return SearchState


def _conversation(frequency: int) -> Any:
    """The same for messages, by LangGraph's own reducer for them."""
    try:
        from langgraph.channels import DeltaChannel
        from langgraph.graph.message import _messages_delta_reducer
    except ImportError:
        return add_messages
    reducer: Any = _messages_delta_reducer  # which its own channel does not know to be a reducer
    return DeltaChannel(reducer, snapshot_frequency=frequency)


def _written_only(frequency: int) -> Any:
    """A delta channel where LangGraph has it (it is in beta there), else a plain reducer."""
    try:
        from langgraph.channels import DeltaChannel
    except ImportError:
        return merge_one
    return DeltaChannel(merge, snapshot_frequency=frequency)


def _growing(frequency: int) -> Any:
    """The same for what becomes large, which is not copied at every write."""
    try:
        from rlm_agent.graphs.machine.growing import Growing
    except ImportError:
        return merge_one
    return Growing(merge, snapshot_frequency=frequency)
