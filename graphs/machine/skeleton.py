"""The one state machine under every search strategy: begin → select → generate → evaluate → … → conclude.

A strategy is a choice of rules (`Rules`) over this skeleton; its nodes bear the operators' names. The nodes
are bodies of code that ask models (`models/drive.py`), so that the same graph serves `invoke` and `ainvoke`.
"""

from itertools import pairwise
from typing import Any

from langchain_core.runnables import Runnable, RunnableConfig
from langgraph.graph import END, START, StateGraph

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
    for operator, body in {"begin": nodes.begin, **loop, "conclude": nodes.conclude}.items():
        builder.add_node(operator, BothWays(operator, body))
    operators = list(loop)
    builder.add_edge(START, "begin")
    for operator, following in pairwise(operators[1:]):
        builder.add_edge(operator, following)
    builder.add_conditional_edges("begin", nodes.goes_on, {True: "select", False: "conclude"})
    builder.add_conditional_edges("select", nodes.has_plan, {True: rules.expand_as, False: "conclude"})
    builder.add_conditional_edges(operators[-1], nodes.goes_on, {True: "select", False: "conclude"})
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


class BothWays(Runnable[Any, State]):
    """One body of code as a node for plain and for async runs.

    LangGraph traces a node by itself; a `RunnableLambda` would trace it again, and look at the signature of
    the body in each round, which takes longer than most bodies.
    """

    def __init__(self, name: str, body: Node) -> None:
        self.name = name
        self._body = body

    def invoke(self, input: State, config: RunnableConfig | None = None, **kwargs: Any) -> State:
        return drive(self._body(input))

    async def ainvoke(self, input: State, config: RunnableConfig | None = None, **kwargs: Any) -> State:
        return await adrive(self._body(input))
