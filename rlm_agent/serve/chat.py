"""`/v1/chat/completions`: a search for each choice, at once or as a stream."""

import time
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from rlm_agent.models.hearing import Text
from rlm_agent.serve.chat_schema import (
    Answer,
    ChatChunk,
    ChatCompletion,
    ChatRequest,
    ChatUsage,
    Choice,
    ChunkChoice,
    CompletionDetails,
    Delta,
    PromptDetails,
)
from rlm_agent.serve.events import SILENCE, Events, begun, event, with_faults
from rlm_agent.serve.keys import Client
from rlm_agent.serve.options import conversation
from rlm_agent.serve.orders import Office
from rlm_agent.serve.reports import reason_of, report_of, total
from rlm_agent.serve.searching import Found, Order, Thought, Told

_DONE = b"data: [DONE]\n\n"


async def complete(office: Office, client: Client, request: Request, body: ChatRequest) -> Response:
    """Answer a request, at once or as a stream. Raises `Fault` and `InputError` for what cannot be done."""
    order = office.order(
        client,
        body,
        conversation(body.messages, office.limits.max_messages, "messages"),
        max_tokens=_least(body.max_tokens, body.max_completion_tokens),
        effort=body.reasoning_effort,
        choices=body.n or 1,
        seed=body.seed,
    )
    stops = [body.stop] if isinstance(body.stop, str) else body.stop or []
    reply = _Reply(order, stops)
    if not body.stream:
        whole = reply.whole(await office.all_found(request, order))
        return Response(whole.model_dump_json(), media_type="application/json")
    feed, silence = office.feed(order), office.limits.keep_alive
    told = await begun(request, feed, silence)
    with_usage = bool(body.stream_options and body.stream_options.include_usage)
    return Events(feed, with_faults(reply.stream(told, with_usage)))


class _Reply:
    """How what was found is put."""

    def __init__(self, order: Order, stops: Sequence[str]) -> None:
        self._head: dict[str, Any] = {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": order.name,
            "system_fingerprint": order.fingerprint,
        }
        self._stops = stops
        self._thoughts = order.thoughts

    def whole(self, found: Sequence[Found]) -> ChatCompletion:
        """All of it."""
        choices = [
            Choice(
                index=each.choice,
                message=Answer(content=self._content(each), reasoning_content=each.reasoning or None),
                finish_reason=reason_of(each),
                rlm=report_of(each),
            )
            for each in found
        ]
        return ChatCompletion(**self._head, choices=choices, usage=_usage(found))

    async def stream(self, told: AsyncIterator[Told | None], with_usage: bool) -> AsyncIterator[bytes]:
        """Piece by piece."""
        found: list[Found] = []
        spoken: set[int] = set()
        async for each in told:
            if each is None:
                yield SILENCE
                continue
            if each.choice not in spoken:
                spoken.add(each.choice)
                yield self._chunk(each.choice, Delta(role="assistant", content=""))
            if isinstance(each, Thought):
                yield self._chunk(each.choice, Delta(reasoning_content=f"{each.text}\n"))
                continue
            found.append(each)
            for piece in self._end(each):
                yield piece
        if with_usage:
            yield event(
                ChatChunk(**self._head, object="chat.completion.chunk", choices=[], usage=_usage(found))
            )
        yield _DONE

    def _end(self, found: Found) -> Iterator[bytes]:
        for line in () if self._thoughts else found.reasoning.splitlines(keepends=True):
            yield self._chunk(found.choice, Delta(reasoning_content=line))
        yield self._chunk(found.choice, Delta(content=self._content(found)))
        yield self._chunk(found.choice, Delta(), finish_reason=reason_of(found), rlm=report_of(found))

    def _chunk(self, index: int, delta: Delta, **end: Any) -> bytes:
        choice = ChunkChoice(**{"index": index, "delta": delta, "finish_reason": None, **end})
        return event(ChatChunk(**self._head, object="chat.completion.chunk", choices=[choice]))

    def _content(self, found: Found) -> str:
        return Text(self._stops).feed(found.text.encode(), final=True)


def _usage(found: Sequence[Found]) -> ChatUsage:
    spent = total(found)
    prompt, completion = spent["prompt_tokens"] + spent["cached_tokens"], spent["completion_tokens"]
    return ChatUsage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=prompt + completion,
        prompt_tokens_details=PromptDetails(cached_tokens=spent["cached_tokens"]),
        completion_tokens_details=CompletionDetails(reasoning_tokens=completion),
    )


def _least(*bounds: int | None) -> int | None:
    return min((bound for bound in bounds if bound is not None), default=None)
