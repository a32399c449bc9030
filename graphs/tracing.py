"""Watching a search from outside: all that it tells, from its first event to its answer."""

from collections.abc import Iterator
from typing import cast

from langchain_core.runnables import RunnableConfig

from rlm_agent.graphs.machine.rules import Reasoner
from rlm_agent.structure.events import Event


def trace(reasoner: Reasoner, question: str, *, config: RunnableConfig | None = None) -> Iterator[Event]:
    """Run a reasoner on a question: its events as they happen, the last of which tells the answer.

    `config` is LangGraph's; a reasoner with a checkpointer needs one that names a thread. Raises what the
    reasoner raises.
    """
    for event in reasoner.stream({"messages": [("user", question)]}, config, stream_mode="custom"):
        yield cast("Event", event)
