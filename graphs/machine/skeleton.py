"""The one state machine under every search strategy: begin → select → generate → evaluate → … → conclude.

A strategy is a choice of rules (`Rules`) over this skeleton; its nodes bear the operators' names. The nodes
are bodies of code that ask models (`models/drive.py`), so that the same graph serves `invoke` and `ainvoke`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from langchain_core.runnables import Runnable, RunnableConfig
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command

from rlm_agent.graphs.machine.nodes import Node, Nodes, State
from rlm_agent.graphs.machine.rules import Parts, Reasoner, Rules
from rlm_agent.graphs.machine.state import ReasonerInput, ReasonerOutput, search_state
from rlm_agent.models.drive import adrive, drive
from rlm_agent.structure.errors import InputError


def compile_search(name: str, strategy: str, rules: Rules, parts: Parts, **options: Any) -> Reasoner:
    """The state machine of a strategy; `options` are LangGraph's (`checkpointer`, `store`)."""
    nodes = Nodes(name, strategy, rules, parts)
    loop: dict[str, Node] = {
        "select": nodes.select,
        rules.expand_as: nodes.expand,
        "evaluate": nodes.evaluate,
    }
    if rules.prune is not None:
        loop["prune"] = nodes.writing("prune", rules.prune)
    if rules.backpropagate is not None:
        loop["backpropagate"] = nodes.writing("backpropagate", rules.backpropagate)
    builder = SearchGraph(
        search_state(parts.budget), input_schema=ReasonerInput, output_schema=ReasonerOutput
    )
    builder.search = nodes
    select, expand, *others = loop
    again = Fork(nodes.goes_on, select, "conclude")
    forks = {"begin": again, select: Fork(nodes.has_plan, expand, "conclude"), others[-1]: again}
    for operator, body in {"begin": nodes.begin, **loop, "conclude": nodes.conclude}.items():
        fork = forks.get(operator)
        ends = None if fork is None else {fork.then: "True", fork.otherwise: "False"}
        builder.add_node(operator, BothWays(operator, body, fork), destinations=ends)
    builder.add_edge(START, "begin")
    for operator, following in pairwise((expand, *others)):
        builder.add_edge(operator, following)
    builder.add_edge("conclude", END)
    return builder.compile(name=name, **options)


class SearchGraph(StateGraph[Any, Any, Any, Any]):
    """A state machine that knows what it searches with."""

    search: Nodes


def nodes_of(reasoner: Reasoner) -> Nodes:
    """What a reasoner of this skeleton searches with; `InputError` for another graph."""
    if not isinstance(reasoner.builder, SearchGraph):
        raise InputError(f"{reasoner.name!r} is no search over thoughts; nest one that a create_* has made")
    return reasoner.builder.search


@dataclass(frozen=True, slots=True)
class Fork:
    """Which of two nodes follows, by what the state is after a node has written."""

    decide: Callable[[State], bool]
    then: str
    otherwise: str


class BothWays(Runnable[Any, State | Command[str]]):
    """One body of code as a node for plain and for async runs, with the fork behind it, if there is one.

    LangGraph traces a node by itself; a `RunnableLambda` would trace it again, and look at the signature of
    the body in each round, which takes longer than most bodies. A conditional edge would copy the tree to
    see what the node has just written.
    """

    def __init__(self, name: str, body: Node, fork: Fork | None = None) -> None:
        self.name = name
        self._body = body
        self._fork = fork

    def invoke(
        self, input: State, config: RunnableConfig | None = None, **kwargs: Any
    ) -> State | Command[str]:
        return self._onward(input, drive(self._body(input)))

    async def ainvoke(
        self, input: State, config: RunnableConfig | None = None, **kwargs: Any
    ) -> State | Command[str]:
        return self._onward(input, await adrive(self._body(input)))

    def _onward(self, state: State, update: State) -> State | Command[str]:
        fork = self._fork
        if fork is None:
            return update
        goes = fork.then if fork.decide({**state, **update}) else fork.otherwise
        return Command(update=update, goto=goes)
