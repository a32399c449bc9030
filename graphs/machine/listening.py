"""What policies write, in the `messages` stream of a graph while it is written.

The chunks of a completion bear the id of the thought that it will be as `rlm_node` in their metadata, beside
the operator that asked for it (`rlm_operator`). It is the id of their message, too, in a subgraph behind its
namespace, since two searches may give their thoughts the same ids. What is said about a thought, such as a
critique, has that thought as its `rlm_node` and a message id of its own. In a search within a search,
`rlm_within` names the outer thought that is looked for.

What belongs to no thought is not heard: judgements, grades, rollouts of a value.
"""

from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from contextlib import aclosing, closing
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from langchain_core.callbacks import BaseCallbackHandler, BaseCallbackManager
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, LLMResult
from langchain_core.runnables import RunnableConfig
from langgraph.constants import TAG_NOSTREAM

from rlm_agent.models.protocols import Completion, Piece, Request

try:  # LangGraph has no public name for it
    from langgraph.pregel._messages import StreamMessagesHandler

    _HANDLERS: tuple[type, ...] = (StreamMessagesHandler,)
except ImportError:
    _HANDLERS = ()

NS_SEP = "|"
"""What LangGraph puts between the parts of a namespace."""

WITHIN = "rlm_within"
"""In the metadata of an inner run: the outer thought that it looks for, behind those that this is within."""

Told = Piece | list[Completion]


@dataclass(frozen=True, slots=True)
class MessagesStream:
    """A `Listener` for those who have asked for the `messages` stream of a run."""

    handlers: Sequence[BaseCallbackHandler]
    tags: Sequence[str]
    metadata: Mapping[str, Any]

    def listen(self, requests: Sequence[Request], told: Generator[Told]) -> list[Completion]:
        """See `Listener`."""
        with closing(told), _Hearing(self, requests) as hearing:
            for one in told:
                hearing.take(one)
        return hearing.completions

    async def alisten(self, requests: Sequence[Request], told: AsyncGenerator[Told]) -> list[Completion]:
        """See `Listener`."""
        async with aclosing(told):
            with _Hearing(self, requests) as hearing:
                async for one in told:
                    hearing.take(one)
        return hearing.completions


def listener_of(config: RunnableConfig | None) -> MessagesStream | None:
    """Those who listen to the run of a node; None where nobody does."""
    callbacks = (config or {}).get("callbacks")
    handlers = callbacks.handlers if isinstance(callbacks, BaseCallbackManager) else callbacks or ()
    listening = [handler for handler in handlers if isinstance(handler, _HANDLERS)]
    if not listening or config is None or TAG_NOSTREAM in config.get("tags", ()):
        return None
    return MessagesStream(listening, config.get("tags", ()), config.get("metadata", {}))


def within(config: RunnableConfig, thought: str | None) -> RunnableConfig:
    """What a run within this one is told: the thought that it looks for; without one, that nobody listens."""
    if thought is None:
        return {"tags": [TAG_NOSTREAM]}
    around = config.get("metadata", {}).get(WITHIN)
    return {"metadata": {WITHIN: f"{around}/{thought}" if around else thought}}


class _Hearing:
    """A batch of completions that is heard: a run of a chat model for each."""

    def __init__(self, stream: MessagesStream, requests: Sequence[Request]) -> None:
        self.completions: list[Completion] = []
        self._stream = stream
        self._runs = {index: uuid4() for index, request in enumerate(requests) if request.thought}
        graph, _, _ = stream.metadata.get("langgraph_checkpoint_ns", "").rpartition(NS_SEP)
        self._ids = [_message_id(request, graph) for request in requests]
        self._requests = requests

    def __enter__(self) -> "_Hearing":
        for index, run in self._runs.items():
            request = self._requests[index]
            told = {"rlm_node": request.thought, "rlm_operator": request.operator}
            for handler in self._stream.handlers:
                metadata, tags = {**self._stream.metadata, **told}, [*self._stream.tags]
                handler.on_chat_model_start({}, [[]], run_id=run, tags=tags, metadata=metadata)
        return self

    def take(self, told: Told) -> None:
        """Pass on a piece; the completions are kept."""
        if isinstance(told, list):
            self.completions = told
        elif (run := self._runs.get(told.request)) is not None:
            message = AIMessageChunk(content=told.text, id=self._ids[told.request])
            chunk = ChatGenerationChunk(message=message)
            for handler in self._stream.handlers:
                handler.on_llm_new_token(told.text, chunk=chunk, run_id=run)

    def __exit__(self, *raised: object) -> None:
        """Whole messages, for those who want no chunks; nothing is heard twice."""
        texts = {index: one.text for index, one in enumerate(self.completions) if one.text}
        for index, run in self._runs.items():
            message = AIMessage(content=texts.get(index, ""), id=self._ids[index])
            result = LLMResult(generations=[[ChatGeneration(message=message)] if index in texts else []])
            for handler in self._stream.handlers:
                handler.on_llm_end(result, run_id=run)


def _message_id(request: Request, graph: str) -> str:
    about = f"{request.thought}:{request.operator}" if request.aside else str(request.thought)
    return f"{graph}/{about}" if graph else about
