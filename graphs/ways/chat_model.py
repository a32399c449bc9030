"""A reasoner as a chat model, for any code that takes one."""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing, closing
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models.base import LangSmithParams
from langchain_core.language_models.chat_models import BaseChatModel, generate_from_stream
from langchain_core.messages import AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from pydantic import ConfigDict, PrivateAttr

from rlm_agent.graphs.machine.rules import Reasoner
from rlm_agent.graphs.ways.atomic import Atomic, Found
from rlm_agent.models.hearing import Text
from rlm_agent.structure.errors import UnknownNameError
from rlm_agent.structure.events import Event

_TERMS = frozenset(("seed", "budget", "given"))
_IGNORED = frozenset(("stream",))


class ReasonerChatModel(BaseChatModel):
    """A chat model that reasons before it answers.

    reasoner: what a `create_*` has made. Its checkpointer is not used: a call is one step of whatever is
        around.
    stop: texts that end the answer and are not part of it.
    progress: whether a stream tells the thoughts of the search as they come, before the reasoning and the
        answer: events (`ThoughtEvent`) in `additional_kwargs["thoughts"]` of chunks without content. Most of
        them lead to no answer, so that they are not passed off as reasoning.

    The content of a reply is the answer, or that there is none; the steps to it are its reasoning
    (`content_blocks`, `additional_kwargs["reasoning_content"]`), its `usage_metadata` counts all that was
    written. A stream brings the reasoning line by line and then the answer, once the search has found it.
    Leaving an async stream, or cancelling its task, ends the search. A call may say `seed`, `budget` and
    `given`, see `Terms`. Tools belong to the reasoner, and none can be bound.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    reasoner: Any
    stop: list[str] | None = None
    progress: bool = False
    streaming: bool = False
    _atomic: Atomic = PrivateAttr()

    def __init__(self, reasoner: Reasoner, **fields: Any) -> None:
        super().__init__(**{"reasoner": reasoner, **fields})
        self._atomic = Atomic(reasoner)

    @property
    def model_name(self) -> str:
        """What it is called in traces."""
        return self._atomic.name

    @property
    def _llm_type(self) -> str:
        return "reasoner"

    @property
    def _identifying_params(self) -> Mapping[str, Any]:
        return {"name": self.model_name, "stop": self.stop}

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        return {**super()._get_ls_params(stop=stop, **kwargs), "ls_provider": "rlm-agent"}

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return generate_from_stream(self._told(self._atomic.ask(messages, None, **_terms(kwargs)), stop))

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        found = await self._atomic.aask(messages, None, **_terms(kwargs))
        return generate_from_stream(self._told(found, stop))

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        terms = _terms(kwargs)
        if not self.progress:
            yield from self._told(self._atomic.ask(messages, None, **terms), stop)
            return
        with closing(self._atomic.stream(messages, None, **terms)) as told:
            for one in told:
                yield from self._chunks(one, stop)

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        terms = _terms(kwargs)
        if not self.progress:
            for chunk in self._told(await self._atomic.aask(messages, None, **terms), stop):
                yield chunk
            return
        async with aclosing(self._atomic.astream(messages, None, **terms)) as told:
            async for one in told:
                for chunk in self._chunks(one, stop):
                    yield chunk

    def _chunks(self, told: Event | Found, stop: Sequence[str] | None) -> Iterator[ChatGenerationChunk]:
        if isinstance(told, Found):
            yield from self._told(told, stop)
        elif told["event"] == "thought":
            yield ChatGenerationChunk(
                message=AIMessageChunk(content="", additional_kwargs={"thoughts": [told]})
            )

    def _told(self, found: Found, stop: Sequence[str] | None) -> Iterator[ChatGenerationChunk]:
        for line in found.reasoning.splitlines(keepends=True):
            thought = AIMessageChunk(content="", additional_kwargs={"reasoning_content": line})
            yield ChatGenerationChunk(message=thought)
        text = Text(self.stop or () if stop is None else stop)
        kept = {
            key: value for key, value in found.reply.additional_kwargs.items() if key != "reasoning_content"
        }
        answer = AIMessageChunk(
            content=text.feed(str(found.reply.text).encode(), final=True),
            additional_kwargs=kept,
            chunk_position="last",
            usage_metadata=found.reply.usage_metadata,
            response_metadata={
                "finish_reason": "length" if found.answer is None else "stop",
                "model_name": self.model_name,
                "model_provider": "rlm-agent",
            },
        )
        yield ChatGenerationChunk(message=answer)


def _terms(kwargs: dict[str, Any]) -> dict[str, Any]:
    if unknown := sorted(set(kwargs) - _TERMS - _IGNORED):
        raise UnknownNameError(
            f"ReasonerChatModel has no parameter {unknown[0]!r}; it takes {', '.join(sorted(_TERMS))}, and "
            "the reasoner's own are given where it is made"
        )
    return {name: value for name, value in kwargs.items() if name in _TERMS}
