"""Who is let in: a few searches run, some requests wait, and the rest are told when to come back."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from rlm_agent.serve.faults import Fault
from rlm_agent.serve.keys import Client
from rlm_agent.serve.limits import Limits

_LONGEST = 60.0
_WEIGHT = 0.2
"""Of the newest search in the average of how long they take."""


class Gate:
    """Lets so many searches run at a time, in the order in which they were asked for."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._free = asyncio.Semaphore(limits.concurrency)
        self._took = 1.0
        self.running = 0
        self.waiting = 0

    @asynccontextmanager
    async def pass_through(self) -> AsyncIterator[None]:
        """A place among those who run. Raises `Fault` (429) where too many wait, or after too long a wait."""
        await self._enter()
        started = time.monotonic()
        self.running += 1
        try:
            yield
        finally:
            self.running -= 1
            self._free.release()
            self._took += _WEIGHT * (time.monotonic() - started - self._took)

    async def _enter(self) -> None:
        if self._free.locked() and self.waiting >= self._limits.queue:
            raise self._busy()
        self.waiting += 1
        try:
            async with asyncio.timeout(self._limits.max_seconds):
                await self._free.acquire()
        except TimeoutError:
            raise self._busy() from None
        finally:
            self.waiting -= 1

    def _busy(self) -> Fault:
        """How long those before would take, if they are as the last ones were."""
        wait = self._took * (self.waiting + 1) / self._limits.concurrency
        return Fault(
            429,
            "the server is busy; come back later",
            code="server_busy",
            retry_after=min(wait, _LONGEST),
        )


class Deposit:
    """What a client pays for a request: the whole budget at first; `settle` gives back what was not used."""

    def __init__(self, client: Client, tokens: int) -> None:
        """Raises `Fault` (429) where the client has used up its requests or tokens of this minute."""
        for what, bucket, amount in (("requests", client.requests, 1), ("tokens", client.tokens, tokens)):
            if wait := bucket.wait(amount):
                raise Fault(
                    429,
                    f"this key has used up its {what} of this minute",
                    code="rate_limit_exceeded",
                    retry_after=wait,
                )
        client.requests.take(1)
        client.tokens.take(tokens)
        self._client = client
        self._tokens = tokens

    def settle(self, used: int) -> None:
        """The request is over and has taken so many tokens."""
        self._client.tokens.take(used - self._tokens)
