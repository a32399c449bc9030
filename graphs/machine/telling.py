"""Telling those who watch a search, in the `custom` stream of its graph, what happens."""

import math
from collections.abc import Callable, Collection
from typing import Any
from weakref import WeakKeyDictionary

from langgraph.config import get_stream_writer

from rlm_agent.graphs.machine.rules import Search
from rlm_agent.structure.budget import Allowance
from rlm_agent.structure.events import BestEvent, BudgetEvent, Event, ThoughtEvent, ValueEvent, Worth
from rlm_agent.structure.index import ENDS, Index
from rlm_agent.structure.thoughts import Stats, ThoughtGraph, Writes

Best = Callable[[Search], str | None]
"""The thought that would be the answer if a search ended now."""


def _to_nobody(event: Any) -> None:
    pass


def watched() -> bool:
    """Whether anybody watches the graph whose node this is called in.

    LangGraph does not say. Where nobody asks for `custom`, its writer is a function that does nothing, and
    so has the code of any such function; whatever else a writer may be, it counts as somebody.
    """
    code = getattr(get_stream_writer(), "__code__", None)
    return code is None or code.co_code != _to_nobody.__code__.co_code


def tell(*events: Event) -> None:
    """Write events to the `custom` stream of the graph whose node this is called in."""
    if events:
        writer = get_stream_writer()
        for event in events:
            writer(event)


def thought_event(graph: ThoughtGraph, id: str) -> ThoughtEvent:
    """The event of a thought, as it stands."""
    thought = graph.thoughts[id]
    return ThoughtEvent(
        event="thought",
        id=id,
        parent=thought["parent"],
        depth=thought["depth"],
        kind=thought["kind"],
        text=thought["text"],
        reason=thought.get("reason"),
        value=graph.stats[id]["value"],
    )


def value_events(
    operator: str, graph: ThoughtGraph, writes: Writes, fresh: Collection[str] = ()
) -> list[ValueEvent]:
    """The event of what an operator's writes change about the worth of thoughts, but for `fresh` ones."""
    if not watched():
        return []
    told = {id: _worth(stats) for id, stats in writes.stats.items() if id not in fresh}
    new = {
        id: worth for id, worth in told.items() if id not in graph.stats or worth != _worth(graph.stats[id])
    }
    return [ValueEvent(event="value", operator=operator, thoughts=new)] if new else []


class Standing:
    """How searches stand: what is left of their budgets, and what would be their answers."""

    def __init__(self) -> None:
        self._told: WeakKeyDictionary[Index, tuple[int, str | None]] = WeakKeyDictionary()

    def budget(self, search: Search) -> list[BudgetEvent]:
        """The event of what is left, where rounds are not counted."""
        return [_budget_event(search.run["round"], search.allowance)] if watched() else []

    def before_a_round(self, search: Search, best_of: Best) -> list[Event]:
        """The events when a round begins.

        The best so far is looked for only where a chain has ended since, as that takes a walk over the graph.
        """
        if not watched():
            return []
        graph, run = search.graph, search.run
        ends, best = self._told.get(graph.index, (0, None))
        born = len(graph.find(ENDS))
        if born != ends:
            best = best_of(search)
        return [_budget_event(run["round"] + 1, search.allowance), *self._best_events(graph, born, best)]

    def in_the_end(self, search: Search, left: Allowance, best: str | None) -> list[Event]:
        """The events when the search is over, so much is left, and `best` is its answer."""
        if not watched():
            return []
        events = self._best_events(search.graph, len(search.graph.find(ENDS)), best)
        return [_budget_event(search.run["round"], left), *events]

    def _best_events(self, graph: ThoughtGraph, ends: int, best: str | None) -> list[BestEvent]:
        _, told = self._told.get(graph.index, (0, None))
        self._told[graph.index] = ends, best
        if best is None or best == told:
            return []
        answer, value = graph.thoughts[best].get("answer"), graph.stats[best]["value"]
        return [BestEvent(event="best", thought=best, answer=answer, value=value)]


def _worth(stats: Stats) -> Worth:
    return Worth(value=stats["value"], q=stats["q"], visits=stats["visits"])


def _budget_event(round: int, left: Allowance) -> BudgetEvent:
    def whole(bound: float) -> int | None:
        return None if bound == math.inf else max(0, int(bound))

    return BudgetEvent(
        event="budget",
        round=round,
        tokens=whole(left.tokens),
        calls=whole(left.calls),
        nodes=whole(left.nodes),
        seconds=None if left.seconds == math.inf else max(0.0, left.seconds),
    )
