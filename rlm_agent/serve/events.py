"""Server-sent events that carry JSON."""

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from rlm_agent.serve.faults import body_of, fault_of
from rlm_agent.serve.feed import Feed, unless_gone
from rlm_agent.serve.searching import Told

SILENCE = b": searching\n\n"
"""A comment, which all clients pass over; proxies see that somebody is there."""


def event(body: BaseModel | Mapping[str, Any], kind: str | None = None) -> bytes:
    """An event with this body, fields that were not set left out; `kind` is its name."""
    named = f"event: {kind}\n" if kind else ""
    text = body.model_dump_json(exclude_unset=True) if isinstance(body, BaseModel) else json.dumps(body)
    return f"{named}data: {text}\n\n".encode()


class Events(StreamingResponse):
    """Events made of a feed, which is closed with the response, and however the response ends."""

    media_type = "text/event-stream"

    def __init__(self, feed: Feed[Told], content: AsyncIterator[bytes]) -> None:
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        super().__init__(content, headers=headers)
        self._feed = feed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._feed.close()


async def begun(request: Request, feed: Feed[Told], silence: float) -> AsyncIterator[Told | None]:
    """What a feed tells, from when it has told something or was silent for a while.

    So what goes wrong at once is an error with its status, and no stream. Raises what the feed raises until
    then, and `Fault` (499) where the client leaves; the feed is closed then.
    """
    items = feed.items(silence)
    try:
        first = await unless_gone(request, anext(items))
    except BaseException:
        await feed.close()
        raise

    async def all_items() -> AsyncIterator[Told | None]:
        yield first
        async for item in items:
            yield item

    return all_items()


async def with_faults(content: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The events, and an error in OpenAI's shape where they break off."""
    try:
        async for piece in content:
            yield piece
    except Exception as error:  # noqa: BLE001  the status is sent already, and the client has to be told
        yield event(body_of(fault_of(error)), "error")
