"""What a search keeps between supersteps, and how it is checkpointed in linear space.

A growing tree in an ordinary channel is written whole at every superstep. Here thoughts and statistics
live in two delta channels, of which only the writes are stored, with a snapshot now and then.
"""

from collections.abc import Sequence
from typing import Annotated, Any, NotRequired, TypedDict, TypeVar

from langchain_core.messages import AnyMessage
from langgraph.graph.message import add_messages
from langgraph.managed import RemainingSteps

from rlm_agent.structure.budget import Budget, Usage
from rlm_agent.structure.thoughts import Stats, Thought

V = TypeVar("V")

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


class Run(TypedDict):
    """Where a search stands: everything small that changes from superstep to superstep.

    `turn` counts the human messages so far and decides `root`; `asked` is the id of the message that asked.
    `round` counts the passes through the loop. `plan` is what select chose last, `fresh` what came
    of it, `silent` counts the last rounds in which the policy wrote nothing at all.
    `stopped` says why the search ended, `best` which thought holds the answer, `verified` whether a verifier
    accepted it. `budget` holds the keywords of the budget in force where the question brought its own.
    """

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


class ReasonerInput(TypedDict):
    """What goes in: a conversation that ends in a question, and the terms for this question, if any."""

    messages: Annotated[list[AnyMessage], add_messages]
    terms: NotRequired[Terms | None]


class ReasonerOutput(TypedDict):
    """What comes out: the conversation with the reply, the bare answer, and what it cost."""

    messages: Annotated[list[AnyMessage], add_messages]
    answer: str | None
    usage: Usage


def merge(current: dict[str, V], writes: Sequence[dict[str, V]]) -> dict[str, V]:
    """The reducer of both tree channels: later writes win, the current value is left as it is.

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
        messages: Annotated[list[AnyMessage], add_messages]
        terms: NotRequired[Terms | None]
        answer: NotRequired[str | None]
        usage: NotRequired[Usage]
        run: NotRequired[Run]
        thoughts: NotRequired[Annotated[dict[str, Thought], _tree_channel(frequency)]]
        stats: NotRequired[Annotated[dict[str, Stats], _tree_channel(frequency)]]
        remaining_steps: NotRequired[RemainingSteps]

    return SearchState


def _tree_channel(frequency: int) -> Any:
    """A delta channel where LangGraph has it (it is in beta there), else a plain reducer."""
    try:
        from langgraph.channels import DeltaChannel
    except ImportError:
        return merge_one
    return DeltaChannel(merge, snapshot_frequency=frequency)
