"""The graph that a search is compiled from: its nodes run plainly and async, and under a run's context."""

import asyncio
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial, wraps
from typing import Any, ParamSpec
from weakref import WeakKeyDictionary

from langchain_core.runnables import Runnable, RunnableConfig
from langgraph.graph import StateGraph
from langgraph.types import Command

from rlm_agent.graphs.machine.context import ReasonerContext, current_context
from rlm_agent.graphs.machine.listening import listener_of
from rlm_agent.graphs.machine.nodes import Node, Nodes
from rlm_agent.graphs.machine.policies import RETRY, Retry
from rlm_agent.graphs.machine.rules import Reasoner
from rlm_agent.graphs.machine.searching import State
from rlm_agent.graphs.machine.spans import traced
from rlm_agent.graphs.machine.state import ReasonerInput, ReasonerOutput
from rlm_agent.graphs.machine.threads import OneRunAThread
from rlm_agent.graphs.machine.traces import TRACE
from rlm_agent.models.awaited import Awaited
from rlm_agent.models.drive import adrive, drive
from rlm_agent.structure.errors import InputError

P = ParamSpec("P")
_FOR_ONE_RUN = ("checkpointer", "store", "interrupt_before", "interrupt_after")


def takes_context(create: Callable[P, Reasoner]) -> Callable[P, Reasoner]:
    """Let the reasoners that a `create_*` makes be given a `ReasonerContext` by each run.

    For a run with a context, a reasoner is made anew, with the context in the place of some of its
    arguments, so that a strategy needs to know nothing of it. `create` takes a model first, and keywords.
    """

    @wraps(create)
    def made(*args: P.args, **kwargs: P.kwargs) -> Reasoner:
        reasoner = create(*args, **kwargs)
        given: dict[str, Any] = {**({"model": args[0]} if args else {}), **kwargs}
        settings = {name: value for name, value in given.items() if name not in _FOR_ONE_RUN}
        if isinstance(reasoner.builder, SearchGraph):
            make: Callable[..., Reasoner] = create
            reasoner.builder.remake = partial(make, **settings)
        return reasoner

    return made


class SearchGraph(StateGraph[Any, Any, Any, Any]):
    """A state machine that knows what it searches with, and what it searches with under a context."""

    remake: Callable[..., Reasoner] | None = None

    def __init__(self, search: Nodes, state: type, retry: Retry = True) -> None:
        super().__init__(
            state,
            context_schema=ReasonerContext,
            input_schema=ReasonerInput,
            output_schema=ReasonerOutput,
        )
        self.search = search
        self._retry = (RETRY if retry else None) if isinstance(retry, bool) else retry
        self._variants: WeakKeyDictionary[ReasonerContext, SearchGraph] = WeakKeyDictionary()
        self._lock = threading.Lock()

    def compile(self, **options: Any) -> Reasoner:  # type: ignore[override]  # of keywords alone
        """As LangGraph's, into a graph that refuses a second run on a thread."""
        reasoner = super().compile(**options).with_config(metadata={"rlm_strategy": self.search.strategy})
        reasoner.__class__ = OneRunAThread  # which has no fields of its own; LangGraph asks for no class
        return reasoner

    def add_operator(
        self, operator: str, body: Node, fork: "Fork | None" = None, *, timed: bool = False
    ) -> None:
        """Add the node of an operator, and the fork behind it; see `BothWays` for `timed`."""
        self.add_node(
            operator,
            BothWays(self, operator, body, fork, timed=timed),
            destinations=None if fork is None else {node: str(case) for case, node in fork.ends.items()},
            retry_policy=self._retry,
            trace_policy=TRACE,
        )

    def under(self, context: ReasonerContext | None) -> "SearchGraph":
        """This graph as it is made with a context; itself where there is nothing in the context.

        Raises `InputError` where a model is missing, or where the context does not fit the strategy.
        """
        graph = self
        if context is not None and context.given:
            with self._lock:
                graph = self._variants.get(context) or self._variant(context)
                self._variants[context] = graph
        if isinstance(graph.search.parts.policy, Awaited):
            graph.search.parts.policy.refuse()
        return graph

    def _variant(self, context: ReasonerContext) -> "SearchGraph":
        if self.remake is None:
            raise InputError(
                f"the strategy {self.search.strategy!r} takes no context; decorate what makes it by "
                "takes_context, or leave the context out"
            )
        graph = self.remake(**context.given).builder
        assert isinstance(graph, SearchGraph)
        if graph.nodes.keys() != self.nodes.keys():
            raise InputError(
                f"with this context {self.search.name!r} would be another graph "
                f"({', '.join(graph.nodes)}); make a reasoner of its own for it"
            )
        return graph


def nodes_of(reasoner: Reasoner) -> Nodes:
    """What a reasoner of this skeleton searches with; `InputError` for another graph."""
    if not isinstance(reasoner.builder, SearchGraph):
        raise InputError(f"{reasoner.name!r} is no search over thoughts; nest one that a create_* has made")
    return reasoner.builder.search


@dataclass(frozen=True, slots=True)
class Fork:
    """Which node follows, by what the state is after a node has written."""

    decide: Callable[[State], bool | str]
    ends: Mapping[Any, str]


class BothWays(Runnable[Any, State | Command[str]]):
    """One body of code as a node for plain and for async runs, with the fork behind it, if there is one.

    LangGraph traces a node by itself; a `RunnableLambda` would trace it again, and look at the signature of
    the body in each round, which takes longer than most bodies. A conditional edge would copy the tree to
    see what the node has just written.

    LangGraph's own timeout refuses nodes that also run plainly, and ends the run. A node that is `timed` is
    instead broken off in an async run where the seconds of the budget have passed, and the search concludes.
    """

    def __init__(
        self, graph: SearchGraph, name: str, body: Node, fork: Fork | None = None, *, timed: bool = False
    ) -> None:
        self.name = self._operator = name
        self._graph, self._body, self._fork, self._timed = graph, body, fork, timed

    def invoke(
        self, input: State, config: RunnableConfig | None = None, **kwargs: Any
    ) -> State | Command[str]:
        node = self._now()
        with closing(traced(node._body(input), config)) as asking:
            return node._onward(input, drive(asking, listener_of(config)))

    async def ainvoke(
        self, input: State, config: RunnableConfig | None = None, **kwargs: Any
    ) -> State | Command[str]:
        node = self._now()
        return node._onward(input, await node._in_time(input, config))

    def _now(self) -> "BothWays":
        """This node, as the context of the run makes it."""
        graph = self._graph.under(current_context())
        if graph is self._graph:
            return self
        node = graph.nodes[self._operator].runnable
        assert isinstance(node, BothWays)
        return node

    async def _in_time(self, state: State, config: RunnableConfig | None) -> State:
        nodes, started = self._graph.search, time.monotonic()
        try:
            async with asyncio.timeout(nodes.seconds_left(state) if self._timed else None) as limit:
                with closing(traced(self._body(state), config)) as asking:
                    return await adrive(asking, listener_of(config))
        except TimeoutError:
            if not limit.expired():
                raise
            return nodes.broken_off(state, time.monotonic() - started)

    def _onward(self, state: State, update: State) -> State | Command[str]:
        fork = self._fork
        if fork is None:
            return update
        return Command(update=update, goto=fork.ends[fork.decide({**state, **update})])
