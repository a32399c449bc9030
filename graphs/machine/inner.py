"""A reasoner within another one: what is asked of it, what it may spend, and what it has found.

It keeps no checkpoints, neither its own nor among those of the outer one: an outer search that broke off in a
step begins that step anew and, with the same seed, finds the same. The events of an inner search are in the
stream of the outer one, for those who ask for `subgraphs=True`.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

from langchain_core.messages import AnyMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import ensure_config

from rlm_agent.graphs.machine.context import ReasonerContext
from rlm_agent.graphs.machine.graph import nodes_of
from rlm_agent.graphs.machine.listening import within
from rlm_agent.graphs.machine.rules import Reasoner
from rlm_agent.graphs.machine.state import Terms
from rlm_agent.models.awaited import Awaited
from rlm_agent.models.langchain.messages import as_langchain
from rlm_agent.models.protocols import Message
from rlm_agent.structure.errors import InputError
from rlm_agent.structure.thoughts import ThoughtGraph

Create = Callable[..., Reasoner]
"""A `create_*` of a strategy, its model and parameters bound by `functools.partial`."""

Asked = tuple[dict[str, Any], str | None]
"""The input of an inner search, and the outer thought that it looks for; None for one that nobody hears."""

Found = dict[str, Any] | InputError
"""The final state of an inner search, or why it was refused."""

_OPTIONS: dict[str, Any] = {
    "output_keys": ["thoughts", "stats", "run", "usage"],
    "context": ReasonerContext(),  # what the outer run is given is not for the inner one
}
_LIMITS = RunnableConfig(recursion_limit=10_007)  # LangGraph's for a graph by itself; in a batch it has 25


class Inner:
    """An inner reasoner, and what it may spend on one thing that it is asked."""

    def __init__(self, create: Create, tokens: int, calls: int) -> None:
        if tokens < 1 or calls < 1:
            raise InputError(f"tokens={tokens}, calls={calls} let no inner search begin; give at least 1")
        self.reasoner = create(checkpointer=False)
        self.nodes = nodes_of(self.reasoner)
        if isinstance(self.nodes.parts.policy, Awaited):
            raise InputError("an inner reasoner has a model of its own; make it with one")
        own = self.nodes.parts.budget
        self.tokens, self.calls = min(tokens, own.tokens or tokens), min(calls, own.calls or calls)
        self.identity = f"{self.nodes.identity};{self.tokens},{self.calls};{_settings(create)}"

    def question(
        self, messages: Sequence[Message], given: Sequence[str], seed: int, tokens: int, calls: int
    ) -> dict[str, Any]:
        """The input of an inner search behind the given steps; its own bounds hold as well."""
        own = self.nodes.parts.budget
        bounds = {
            "tokens": min(tokens, self.tokens),
            "calls": min(calls, self.calls),
            "nodes": own.nodes,
            "seconds": own.seconds,
        }
        terms = Terms(given=list(given), budget=bounds, seed=seed)
        return {"messages": _conversation(messages), "terms": terms}

    def search(self, asked: Sequence[Asked]) -> list[Found]:
        """The final states, in order; an `InputError` in the place of one that was refused."""
        questions, configs = _prepared(asked)
        found = self.reasoner.batch(questions, configs, return_exceptions=True, **_OPTIONS)
        return [_passed(one) for one in found]

    async def asearch(self, asked: Sequence[Asked]) -> list[Found]:
        """The same without blocking the event loop."""
        questions, configs = _prepared(asked)
        found = await self.reasoner.abatch(questions, configs, return_exceptions=True, **_OPTIONS)
        return [_passed(one) for one in found]


def grown(state: dict[str, Any]) -> ThoughtGraph:
    """The tree of a final state."""
    return ThoughtGraph(state["run"]["root"], state["thoughts"], state["stats"])


def _prepared(asked: Sequence[Asked]) -> tuple[list[dict[str, Any]], list[RunnableConfig]]:
    outer = ensure_config()
    return [question for question, _ in asked], [_LIMITS | within(outer, thought) for _, thought in asked]


def _passed(found: Any) -> Found:
    """A final state or a refusal; whatever else was raised is raised."""
    if isinstance(found, BaseException) and not isinstance(found, InputError):
        raise found
    state: Found = found
    return state


def _conversation(messages: Sequence[Message]) -> list[AnyMessage]:
    """The turns of a conversation; the inner reasoner has a system prompt of its own."""
    return as_langchain([message for message in messages if message["role"] != "system"])


def _settings(create: Create) -> str:
    """The parameters that are bound to `create`, as far as their values are plain ones, for an identity."""
    bound = create.keywords if isinstance(create, functools.partial) else {}
    plain = {name: bound[name] for name in sorted(bound) if isinstance(bound[name], str | int | float | None)}
    return repr(plain)
