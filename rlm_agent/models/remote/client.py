"""One pooled client of a server: tries again what may succeed, gives up in time, and counts what it did."""

import asyncio
import json
import os
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import httpx
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt

from rlm_agent.models.remote.address import Address
from rlm_agent.models.remote.events import data_of
from rlm_agent.models.remote.faults import Fleeting, fault_of, pause, transport_fault
from rlm_agent.models.remote.gate import Gate
from rlm_agent.models.remote.pools import Pools
from rlm_agent.structure.errors import InputError, UnansweredError

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
_ERROR_BYTES = 1 << 16
_UNREADABLE = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""What reading an answer may run into that is not as it should be."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long, in seconds, and how often a server is tried, and how much it may say.

    `connect` bounds the time until a connection stands, `attempt` that of one try from its first byte to its
    last, `total` that of a request with all its tries and the waiting for its turn. `bytes` bounds an answer.
    """

    connect: float = 10.0
    attempt: float = 300.0
    total: float = 900.0
    tries: int = 10
    bytes: int = 1 << 24

    def __post_init__(self) -> None:
        if min(self.connect, self.attempt, self.total) <= 0 or self.tries < 1 or self.bytes < 1:
            raise InputError("a server needs some time, at least one try and at least one byte; give more")


@dataclass(slots=True)
class Meter:
    """What a client did: `requests` that were answered, in so many `tries`, `failed` ones among them."""

    requests: int = 0
    tries: int = 0
    failed: int = 0


class Hearing(Protocol[T_co]):
    """Hears a stream: `add` tells whether all is there that is wanted, `result` what it amounts to."""

    def add(self, event: Any, /) -> bool:
        """Take one more event."""

    def result(self) -> T_co:
        """What was heard; raises where the stream ended too soon."""


class Client:
    """Asks the server at an address; lives on one event loop (`loop.py`).

    What comes back is the result of `read` or of a `Hearing`, made from one whole answer: tries that failed
    leave nothing behind. Raises `UnansweredError` where `patience` ended, and what `fault_of` says of answers
    that will not change.
    """

    def __init__(
        self, address: Address, patience: Patience, concurrency: int, verify: ssl.SSLContext | bool = True
    ) -> None:
        if concurrency < 1:
            raise InputError(f"concurrency={concurrency} asks nothing; give at least 1")
        self.address = address
        self.patience = patience
        self.meter = Meter()
        self._concurrency = concurrency
        self._verify = verify
        self._pid = 0
        self._begin()

    def _begin(self) -> None:
        """Begin anew in a process that was forked off: the connections are its parent's."""
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self.gate, self.lock = Gate(self._concurrency), asyncio.Lock()
            self._pools: Pools | None = None

    async def get(self, path: str, read: Callable[[Any], T], *, tries: int | None = None) -> T:
        """What `read` makes of the JSON at `path`."""
        return await self._persist(lambda: self._whole("GET", path, None, read), tries)

    async def post(
        self, path: str, body: dict[str, Any], read: Callable[[Any], T], *, tries: int | None = None
    ) -> T:
        """What `read` makes of the JSON that answers `body`."""
        return await self._persist(lambda: self._whole("POST", path, body, read), tries)

    async def stream(self, path: str, body: dict[str, Any], hearing: Callable[[], Hearing[T]]) -> T:
        """What a `Hearing`, a new one each try, makes of a stream; it is left as soon as that has enough."""
        return await self._persist(lambda: self._streamed(path, body, hearing()), None)

    async def close(self) -> None:
        """Close all connections; the next request opens new ones."""
        pools, self._pools = self._pools, None
        if pools is not None:
            await pools.close()

    async def _persist(self, attempt: Callable[[], Awaitable[T]], tries: int | None) -> T:
        self._begin()
        patience = self.patience
        retrying = AsyncRetrying(
            stop=stop_after_attempt(tries or patience.tries),
            wait=pause,
            retry=retry_if_exception_type(Fleeting),
            sleep=asyncio.sleep,
            reraise=True,
        )
        try:
            async with asyncio.timeout(patience.total):
                result: T = await retrying(self._counted, attempt)
        except Fleeting as error:
            raise self._unanswered(f"after {tries or patience.tries} tries ({error})") from None
        except TimeoutError:
            raise self._unanswered(f"within {patience.total:g} seconds") from None
        self.meter.requests += 1
        return result

    async def _counted(self, attempt: Callable[[], Awaitable[T]]) -> T:
        async with self.gate.passing():
            began = asyncio.get_running_loop().time()
            self.meter.tries += 1
            try:
                result = await attempt()
            except Fleeting as error:
                self.meter.failed += 1
                if error.crowded:
                    self.gate.crowded(began, error.after)
                raise
            if asyncio.get_running_loop().time() - began > self.patience.attempt / 2:
                self.gate.crowded(began)
            else:
                self.gate.good()
            return result

    async def _whole(
        self, method: str, path: str, body: dict[str, Any] | None, read: Callable[[Any], T]
    ) -> T:
        async with self._answer(method, path, body) as response:
            data = await self._bytes(response)
        return self._read(lambda: read(json.loads(data)))

    async def _streamed(self, path: str, body: dict[str, Any], hearing: Hearing[T]) -> T:
        async with (
            self._answer("POST", path, body) as response,
            aclosing(data_of(response, self.patience.bytes)) as told,
        ):
            async for data in told:
                if self._read(lambda data=data: hearing.add(json.loads(data))):  # type: ignore[misc]
                    break
        return self._read(hearing.result)

    @asynccontextmanager
    async def _answer(
        self, method: str, path: str, body: dict[str, Any] | None
    ) -> AsyncGenerator[httpx.Response]:
        """An answer that says 200, within the time of one try; what is raised is a fault of ours."""
        # Half a surrogate pair, which a model may write, has no bytes.
        content = None if body is None else json.dumps(body, ensure_ascii=False).encode(errors="replace")
        try:
            async with asyncio.timeout(self.patience.attempt):
                with self._open().one() as pool:
                    request = pool.build_request(method, self.address.at(path), content=content)
                    response = await pool.send(request, stream=True)
                    try:
                        if response.status_code != httpx.codes.OK:
                            said = await self._bytes(response, most=_ERROR_BYTES)
                            raise fault_of(self.address, response, said)
                        yield response
                    finally:
                        await response.aclose()
        except TimeoutError:
            seconds = self.patience.attempt
            raise Fleeting(f"no whole answer within {seconds:g} seconds", crowded=True) from None
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            raise transport_fault(self.address, error) from None

    async def _bytes(self, response: httpx.Response, most: int | None = None) -> bytes:
        """The body; of more than `most` only the beginning, and `Fleeting` beyond what is allowed."""
        data = bytearray()
        async for piece in response.aiter_raw():
            data += piece
            if most is not None and len(data) > most:
                break
            if len(data) > self.patience.bytes:
                raise Fleeting(f"more than {self.patience.bytes} bytes")
        return bytes(data)

    def _read(self, read: Callable[[], T]) -> T:
        try:
            return read()
        except _UNREADABLE as error:
            raise Fleeting(f"an answer that cannot be read ({type(error).__name__})") from None

    def _unanswered(self, when: str) -> UnansweredError:
        return UnansweredError(
            f"{self.address.shown} gave no usable answer {when}; see whether it runs, or give more patience"
        )

    def _open(self) -> Pools:
        if self._pools is None:
            patience, most = self.patience, self.gate.most
            self._pools = Pools(self.address, connect=patience.connect, verify=self._verify, most=most)
        return self._pools
