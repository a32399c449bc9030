"""`/v1/responses`: one search, at once or as a stream of OpenAI's events."""

import time
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from rlm_agent.serve.events import SILENCE, Events, begun, event
from rlm_agent.serve.faults import fault_of
from rlm_agent.serve.keys import Client
from rlm_agent.serve.options import Message, conversation
from rlm_agent.serve.orders import Office
from rlm_agent.serve.reports import report_of
from rlm_agent.serve.responses_schema import (
    Incomplete,
    InputDetails,
    Item,
    MessageItem,
    OutputDetails,
    OutputText,
    ReasoningItem,
    ReasoningText,
    ResponseBody,
    ResponseRequest,
    ResponseUsage,
)
from rlm_agent.serve.searching import Found, Order, Thought, Told


async def respond(office: Office, client: Client, request: Request, body: ResponseRequest) -> Response:
    """Answer a request, at once or as a stream. Raises `Fault` and `InputError` for what cannot be done."""
    order = office.order(
        client,
        body,
        conversation(_messages(body), office.limits.max_messages, "input"),
        max_tokens=body.max_output_tokens,
        effort=body.reasoning.effort if body.reasoning else None,
    )
    reply = _Reply(order, body)
    if not body.stream:
        (found,) = await office.all_found(request, order)
        return Response(reply.whole(found).model_dump_json(), media_type="application/json")
    feed, silence = office.feed(order), office.limits.keep_alive
    told = await begun(request, feed, silence)
    return Events(feed, reply.stream(told))


def _messages(body: ResponseRequest) -> list[Message]:
    system = [Message(role="system", content=body.instructions)] if body.instructions else []
    if isinstance(body.input, str):
        return [*system, Message(role="user", content=body.input)]
    return [*system, *(item for item in body.input if isinstance(item, Item))]


class _Reply:
    """How what was found is put."""

    def __init__(self, order: Order, body: ResponseRequest) -> None:
        self._head: dict[str, Any] = {
            "id": f"resp_{uuid.uuid4().hex}",
            "created_at": int(time.time()),
            "model": order.name,
            "instructions": body.instructions,
            "metadata": body.metadata or {},
            "temperature": body.temperature,
            "top_p": body.top_p,
            "max_output_tokens": body.max_output_tokens,
        }
        self._ids = f"rs_{uuid.uuid4().hex}", f"msg_{uuid.uuid4().hex}"
        self._thoughts = order.thoughts
        self._count = 0

    def whole(self, found: Found, thoughts: str | None = None) -> ResponseBody:
        """All of it; `thoughts` go before the reasoning that was found."""
        reasoning = found.reasoning if thoughts is None else thoughts
        return ResponseBody(
            **self._head,
            status="completed" if found.answer is not None else "incomplete",
            output=[*([self._reasoning(reasoning)] if reasoning else []), self._message(found.text)],
            usage=_usage(found),
            incomplete_details=None if found.answer is not None else Incomplete(reason="max_output_tokens"),
            rlm=report_of(found),
        )

    async def stream(self, told: AsyncIterator[Told | None]) -> AsyncIterator[bytes]:
        """Piece by piece."""
        begun = ResponseBody(**self._head, status="in_progress").model_dump()
        for kind in ("created", "in_progress"):
            yield self._event(kind, response=begun)
        try:
            async for piece in self._pieces(told):
                yield piece
        except Exception as error:  # noqa: BLE001  the status is sent already, and the client has to be told
            fault = fault_of(error)
            code = "rate_limit_exceeded" if fault.status_code == 429 else "server_error"
            failed = {"code": code, "message": str(fault.detail)}
            yield self._event("failed", response={**begun, "status": "failed", "error": failed})

    async def _pieces(self, told: AsyncIterator[Told | None]) -> AsyncIterator[bytes]:
        thoughts = ""
        async for each in told:
            if each is None:
                yield SILENCE
            elif isinstance(each, Thought):
                if not thoughts:
                    for piece in self._reasoning_begins():
                        yield piece
                thoughts += f"{each.text}\n"
                yield self._thought(f"{each.text}\n")
            else:
                for piece in self._end(each, thoughts):
                    yield piece

    def _end(self, found: Found, thoughts: str) -> Iterator[bytes]:
        told = thoughts if self._thoughts else found.reasoning
        if told and not thoughts:
            yield from self._reasoning_begins()
            yield from map(self._thought, told.splitlines(keepends=True))
        if told:
            yield from self._reasoning_ends(told)
        index = 1 if told else 0
        yield from self._answer(found.text, index)
        whole = self.whole(found, told)
        yield self._event(whole.status, response=whole.model_dump())

    def _reasoning_begins(self) -> Iterator[bytes]:
        item = ReasoningItem(id=self._ids[0], status="in_progress", content=[])
        yield self._event("output_item.added", output_index=0, item=item.model_dump())
        part = ReasoningText(text="").model_dump()
        yield self._event("content_part.added", **self._place(0), part=part)

    def _thought(self, text: str) -> bytes:
        return self._event("reasoning_text.delta", **self._place(0), delta=text)

    def _reasoning_ends(self, text: str) -> Iterator[bytes]:
        yield self._event("reasoning_text.done", **self._place(0), text=text)
        part = ReasoningText(text=text).model_dump()
        yield self._event("content_part.done", **self._place(0), part=part)
        yield self._event("output_item.done", output_index=0, item=self._reasoning(text).model_dump())

    def _answer(self, text: str, index: int) -> Iterator[bytes]:
        place = {**self._place(1), "output_index": index}
        item = MessageItem(id=self._ids[1], status="in_progress", content=[])
        yield self._event("output_item.added", output_index=index, item=item.model_dump())
        yield self._event("content_part.added", **place, part=OutputText(text="").model_dump())
        yield self._event("output_text.delta", **place, delta=text, logprobs=[])
        yield self._event("output_text.done", **place, text=text, logprobs=[])
        yield self._event("content_part.done", **place, part=OutputText(text=text).model_dump())
        yield self._event("output_item.done", output_index=index, item=self._message(text).model_dump())

    def _event(self, kind: str, **fields: Any) -> bytes:
        body = {"type": f"response.{kind}", "sequence_number": self._count, **fields}
        self._count += 1
        return event(body, body["type"])

    def _place(self, item: int) -> dict[str, Any]:
        return {"item_id": self._ids[item], "output_index": 0, "content_index": 0}

    def _reasoning(self, text: str) -> ReasoningItem:
        return ReasoningItem(id=self._ids[0], content=[ReasoningText(text=text)])

    def _message(self, text: str) -> MessageItem:
        return MessageItem(id=self._ids[1], content=[OutputText(text=text)])


def _usage(found: Found) -> ResponseUsage:
    spent = found.usage
    read, written = spent["prompt_tokens"] + spent["cached_tokens"], spent["completion_tokens"]
    return ResponseUsage(
        input_tokens=read,
        input_tokens_details=InputDetails(cached_tokens=spent["cached_tokens"]),
        output_tokens=written,
        output_tokens_details=OutputDetails(reasoning_tokens=written),
        total_tokens=read + written,
    )
