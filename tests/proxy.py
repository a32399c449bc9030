"""A proxy that spoils answers by a seed, and keeps the books on those that it let through."""

import asyncio
import json
import random
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

import httpx

FAULTS = ("429", "500", "503", "reset", "half", "garbage", "stall", "drip", "longer", "shorter")
_HEAD = "HTTP/1.1 {} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n{}\r\n"


@dataclass(slots=True)
class Book:
    """What was let through for one client: of each body that it sent, the tokens of the last whole answer.

    A client that gave up just before may ask once more for what it was sent; it counts the last answer.
    """

    answered: dict[bytes, int] = field(default_factory=dict)

    @property
    def tokens(self) -> int:
        """How many tokens were generated, each request counted once."""
        return sum(self.answered.values())


@dataclass
class Proxy:
    """Spoils `rate` of all answers of the server at `target`; a client names itself by `?client=`.

    `stalls` is how many seconds a stall lasts, and a slow drip. `faults` counts what was done.
    """

    target: str
    rate: float
    seed: int
    stalls: float
    kinds: tuple[str, ...] = FAULTS
    books: dict[str, Book] = field(default_factory=dict)
    faults: Counter[str] = field(default_factory=Counter)
    url: str = ""

    async def serve(self, stop: asyncio.Event, ready: threading.Event) -> None:
        """Serve until `stop`."""
        self._draw = random.Random(self.seed)
        async with httpx.AsyncClient(timeout=60) as self._client:
            server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
            self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            ready.set()
            await stop.wait()
            server.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while await self._answer(reader, writer):
                pass
        with suppress(ConnectionError):
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; whether the connection may be used again."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        method, path, _ = head.split(" ", 2)
        headers = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        fault = self._draw.choice(self.kinds) if self._draw.random() < self.rate else None
        self.faults[fault or "none"] += 1
        if fault in ("429", "500", "503", "reset", "stall"):
            return await self._refuse(fault, writer)
        kept = {name: value for name, value in headers.items() if name in ("authorization", "content-type")}
        answer = await self._client.request(method, self.target + path, content=body, headers=kept)
        if fault is not None:
            return await self._spoil(fault, answer.content, writer)
        writer.write(_HEAD.format(answer.status_code, len(answer.content), "").encode() + answer.content)
        await writer.drain()
        self._book(path, body, answer)
        return True

    async def _refuse(self, fault: str, writer: asyncio.StreamWriter) -> bool:
        if fault == "reset":
            writer.transport.abort()
            return False
        if fault == "stall":
            await asyncio.sleep(self.stalls)
            return False
        said = b'{"error": {"message": "no", "type": "server_error"}}'
        extra = "retry-after: 0.05\r\n" if fault == "429" else ""
        writer.write(_HEAD.format(fault, len(said), extra).encode() + said)
        await writer.drain()
        return True

    async def _spoil(self, fault: str, content: bytes, writer: asyncio.StreamWriter) -> bool:
        half = content[: len(content) // 2]
        length = {"longer": len(content) + 50, "shorter": len(content) // 3}.get(fault, len(content))
        if fault == "garbage":
            content = b'{"content": ' + b"x" * (len(content) - 12)
        writer.write(_HEAD.format(200, length, "").encode())
        if fault == "drip":
            for byte in half:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(self.stalls / max(1, len(half)))
        else:
            writer.write(half if fault == "half" else content)
            await writer.drain()
        return fault == "garbage"

    def _book(self, path: str, body: bytes, answer: httpx.Response) -> None:
        client = parse_qs(urlsplit(path).query).get("client", [""])[0]
        if answer.status_code == 200 and path.startswith("/completion"):
            book = self.books.setdefault(client, Book())
            book.answered[body] = json.loads(answer.content)["tokens_predicted"]


@contextmanager
def spoiling(
    target: str, *, rate: float = 0.3, seed: int = 0, stalls: float = 2.0, **more: object
) -> Iterator[Proxy]:
    """A proxy before `target` as long as the context lasts, in a thread of its own."""
    proxy = Proxy(target, rate, seed, stalls, **more)  # type: ignore[arg-type]
    loop, ready = asyncio.new_event_loop(), threading.Event()
    stop = asyncio.Event()

    async def main() -> None:
        await proxy.serve(stop, ready)
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def run() -> None:
        loop.run_until_complete(main())
        loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    ready.wait()
    try:
        yield proxy
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
