"""Work that tells what it finds to somebody who may leave."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, Generic, TypeVar

from starlette.requests import Request
from starlette.types import Receive

from rlm_agent.serve.faults import client_left

T = TypeVar("T")


class Feed(Generic[T]):
    """What a work tells, in order, while it runs in a task of its own; `close` cancels it."""

    def __init__(self, work: Callable[[Callable[[T], None]], Coroutine[Any, Any, None]]) -> None:
        self._told: asyncio.Queue[T | None] = asyncio.Queue()
        self._task = asyncio.create_task(work(self._told.put_nowait))
        self._task.add_done_callback(lambda _: self._told.put_nowait(None))

    async def items(self, silence: float) -> AsyncIterator[T | None]:
        """What is told, and None each time that nothing was for so many seconds.

        Raises what the work raises, once all that it told was taken.
        """
        while True:
            try:
                async with asyncio.timeout(silence):
                    item = await self._told.get()
            except TimeoutError:
                yield None
                continue
            if item is None:
                await self._task
                return
            yield item

    async def close(self) -> None:
        """End the work, if it has not ended, and wait until it has."""
        self._task.cancel()
        await asyncio.wait([self._task])
        if not self._task.cancelled():
            self._task.exception()  # who has left is not told


async def unless_gone(request: Request, work: Awaitable[T]) -> T:
    """What the work brings; it is cancelled where the client leaves, and `Fault` (499) raised."""
    task = asyncio.ensure_future(work)
    left = asyncio.create_task(_leaves(request.receive))
    try:
        await asyncio.wait((task, left), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise client_left()
        return task.result()
    finally:
        for each in (task, left):
            each.cancel()
        await asyncio.gather(task, left, return_exceptions=True)


async def _leaves(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
