"""How many requests a server is asked at once: as many as it bears.

Additive increase, multiplicative decrease, as TCP has it (Chiu and Jain 1989): half as many after a sign of
crowding (a 429, a 503, a timeout, an answer that took most of the time it may take), one more after as many
good answers as run at once. Batching servers answer the slower the more they are asked, and get more done
for it: a growing latency alone is therefore no such sign.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager


class Gate:
    """Lets up to `most` requests pass at once, in the order in which they came; one event loop only."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.limit = float(most)
        self.running = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._halved = 0.0
        self._closed_until = 0.0

    @asynccontextmanager
    async def passing(self) -> AsyncGenerator[None]:
        """Wait for a turn, and give it back."""
        await self._enter()
        try:
            yield
        finally:
            self.running -= 1
            self._admit()

    def good(self) -> None:
        """A request was answered well."""
        self.limit = min(float(self.most), self.limit + 1 / self.limit)

    def crowded(self, began: float, wait: float | None = None) -> None:
        """A request that began at this time of the loop met a crowd; nobody begins for `wait` seconds.

        Requests that began before the last halving tell nothing new.
        """
        now = asyncio.get_running_loop().time()
        if began >= self._halved:
            self.limit, self._halved = max(1.0, self.limit / 2), now
        if wait:
            self._closed_until = max(self._closed_until, now + wait)

    async def _enter(self) -> None:
        loop = asyncio.get_running_loop()
        if self._waiting or self.running >= int(self.limit):
            turn = loop.create_future()
            self._waiting.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                self._leave(turn)
                raise
        else:
            self.running += 1
        try:
            # It may be closed again meanwhile.
            while (wait := self._closed_until - loop.time()) > 0:  # noqa: ASYNC110
                await asyncio.sleep(wait)
        except asyncio.CancelledError:
            self.running -= 1
            self._admit()
            raise

    def _leave(self, turn: "asyncio.Future[None]") -> None:
        """Somebody no longer waits, and may have been given a turn already."""
        if turn.done() and not turn.cancelled():
            self.running -= 1
            self._admit()
        elif turn in self._waiting:
            self._waiting.remove(turn)

    def _admit(self) -> None:
        while self._waiting and self.running < int(self.limit):
            turn = self._waiting.popleft()
            if not turn.done():
                self.running += 1
                turn.set_result(None)
