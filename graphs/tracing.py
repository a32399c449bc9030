"""Watching a search from outside: all that it tells, from its first event to its answer."""

from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing
from typing import Any, cast

from langchain_core.runnables import RunnableConfig

from rlm_agent.graphs.machine.rules import Reasoner
from rlm_agent.structure.events import Event


def trace(
    reasoner: Reasoner, question: str, *, config: RunnableConfig | None = None
) -> Generator[Event, None, None]:
    """Run a reasoner on a question: its events as they happen, the last of which tells the answer.

    `config` is LangGraph's; a reasoner with a checkpointer needs one that names a thread. Leaving the
    iteration ends the search once the operator under way is through. Raises what the reasoner raises.
    """
    for event in reasoner.stream(_asked(question), config, stream_mode="custom"):
        yield cast("Event", event)


async def atrace(
    reasoner: Reasoner, question: str, *, config: RunnableConfig | None = None
) -> AsyncGenerator[Event, None]:
    """See `trace`; the event loop stays free, and leaving the iteration ends the search at once."""
    events = reasoner.astream(_asked(question), config, stream_mode="custom")
    async with aclosing(cast("AsyncGenerator[Event, None]", events)) as told:
        async for event in told:
            yield event


def _asked(question: str) -> dict[str, Any]:
    return {"messages": [("user", question)]}
