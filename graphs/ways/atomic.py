"""A reasoner asked as one asks a model: a conversation goes in, a reply comes out, nothing is stored."""

from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import aclosing, closing
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.runnables import RunnableConfig

from rlm_agent.graphs.machine.rules import Reasoner
from rlm_agent.graphs.machine.state import Terms
from rlm_agent.models.langchain.conversation import conversation
from rlm_agent.structure.budget import Usage
from rlm_agent.structure.errors import InputError
from rlm_agent.structure.events import Event

_STEPS = 10_007
"""LangGraph's limit for a graph by itself; an agent around it may have a lower one of its own."""

_WATCHED: dict[str, Any] = {
    "stream_mode": ["custom", "values"],
    "output_keys": ["messages", "answer", "usage"],
}


@dataclass(frozen=True, slots=True)
class Found:
    """The reply, the bare answer, None where there is none, and what it cost."""

    reply: AIMessage
    answer: str | None
    usage: Usage

    @property
    def reasoning(self) -> str:
        """The steps to the answer, a line each."""
        return str(self.reply.additional_kwargs.get("reasoning_content", ""))


class Atomic:
    """A reasoner without a checkpointer, as a model has none: broken off, it begins anew.

    Its events and tokens are in the streams of the graph around it, for those who ask for `subgraphs=True`.
    """

    def __init__(self, reasoner: Reasoner) -> None:
        self.reasoner = reasoner.copy(update={"checkpointer": False})
        self.name = reasoner.name

    def ask(self, messages: Sequence[BaseMessage], config: RunnableConfig | None, **terms: Any) -> Found:
        """The reply to the last human message; `terms` are `Terms`.

        Raises `InputError` for messages that are not text, for a conversation without a question, and where
        the reasoner would wait for somebody's approval.
        """
        return self._found(self.reasoner.invoke(_state(messages, terms), _config(config)))

    async def aask(
        self, messages: Sequence[BaseMessage], config: RunnableConfig | None, **terms: Any
    ) -> Found:
        """See `ask`; the event loop stays free."""
        return self._found(await self.reasoner.ainvoke(_state(messages, terms), _config(config)))

    def stream(
        self, messages: Sequence[BaseMessage], config: RunnableConfig | None, **terms: Any
    ) -> Generator[Event | Found]:
        """See `ask`: the events of the search as they come, and last what it found.

        Leaving the iteration ends the search once the operator under way is through.
        """
        state: dict[str, Any] = {}
        with closing(self.reasoner.stream(_state(messages, terms), _config(config), **_WATCHED)) as told:  # type: ignore[type-var]
            for mode, one in told:
                if mode == "custom":
                    yield one
                else:
                    state = one
        yield self._found(state)

    async def astream(
        self, messages: Sequence[BaseMessage], config: RunnableConfig | None, **terms: Any
    ) -> AsyncGenerator[Event | Found]:
        """See `stream`; the event loop stays free, and leaving the iteration ends the search at once."""
        state: dict[str, Any] = {}
        events = self.reasoner.astream(_state(messages, terms), _config(config), **_WATCHED)
        async with aclosing(events) as told:  # type: ignore[type-var]
            async for mode, one in told:
                if mode == "custom":
                    yield one
                else:
                    state = one
        yield self._found(state)

    def _found(self, state: dict[str, Any]) -> Found:
        reply = state["messages"][-1] if state.get("messages") else None
        if "__interrupt__" in state or not isinstance(reply, AIMessage):
            raise InputError(
                f"{self.name!r} waits for somebody before it answers; use the reasoner itself as a node"
            )
        return Found(reply, state["answer"], state["usage"])


def _state(messages: Sequence[BaseMessage], terms: dict[str, Any]) -> dict[str, Any]:
    conversation(messages)  # refuses what is not text
    copies = [message.model_copy() for message in messages]  # LangGraph writes ids into what it is given
    given = {name: value for name, value in terms.items() if value is not None}
    return {"messages": copies, "terms": Terms(**given) if given else None}  # type: ignore[typeddict-item]


def _config(config: RunnableConfig | None) -> RunnableConfig:
    return {**(config or {}), "recursion_limit": _STEPS}
