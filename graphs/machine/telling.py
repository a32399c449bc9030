"""Telling those who watch a search, in the `custom` stream of its graph, what happens."""

from langgraph.config import get_stream_writer

from rlm_agent.structure.events import Event, ThoughtEvent
from rlm_agent.structure.thoughts import ThoughtGraph


def tell(*events: Event) -> None:
    """Write events to the `custom` stream of the graph whose node this is called in."""
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
