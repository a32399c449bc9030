"""What serving costs and stands: overhead a request, many clients for a long time, odd requests.

    python benchmarks/serve.py overhead [REQUESTS]           # 400 by default
    python benchmarks/serve.py soak [MINUTES] [CLIENTS]      # 10 and 200 by default
    python benchmarks/serve.py schema [EXAMPLES]             # 1,000 by default, by schemathesis' command

Each starts a server of its own in another process. `overhead` asks a chain of `mini` in turn directly and
over HTTP, by httpx on a connection that stays open. Times hold for this machine and its load; processor time,
of this process for a direct call and of the server for a request, holds under load as well.

In `soak` every client asks without a pause, by mixed strategies and interfaces, streamed and not; one request
in five is left after a random time. The server is through with a request when its search has ended, so that
the time from a client's leaving to that moment is how long the search went on.
"""

import asyncio
import json
import multiprocessing
import random
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import httpx
from starlette.types import ASGIApp, Receive, Scope, Send

from rlm_agent import create_chain
from rlm_agent.evaluation.strategies import parse_strategy
from rlm_agent.serve.application import create_app
from rlm_agent.serve.catalogue import Catalogue
from rlm_agent.serve.limits import Limits
from rlm_agent.serve.running import Server, listen, url_of
from rlm_agent.tasks.registry import get_task

PUZZLE = "4 9 10 13 : 24"
STRATEGIES = ("chain", "best_of_n", "beam_search", "mcts")
CHAT, RESPONSES = "/v1/chat/completions", "/v1/responses"
MARK = "x-request"
LEAVING = 0.2


class Noting:
    """Notes when the server was through with each request that bears a mark."""

    def __init__(self, app: ASGIApp, told: Connection) -> None:
        self.app = app
        self.told = told

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self.app(scope, receive, send)
        finally:
            for name, value in scope.get("headers", ()):
                if name == MARK.encode():
                    self.told.send((value.decode(), time.monotonic()))


def serve(told: Connection) -> None:
    """A server that tells its URL and then its notes."""
    limits = Limits()
    catalogue = Catalogue({"mini": "mini"}, [parse_strategy(name) for name in STRATEGIES])
    listening = listen("127.0.0.1", 0)
    server = Server(
        Noting(create_app(catalogue, limits=limits), told), limits, lambda: told.send(url_of(listening))
    )
    server.run([listening])


@contextmanager
def served() -> Iterator[tuple[str, int, Connection]]:
    """The URL of a server, its process, and what it notes."""
    here, there = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(there,), daemon=True)
    process.start()
    try:
        yield here.recv(), process.pid or 0, here
    finally:
        process.terminate()
        process.join(30)


async def overhead(requests: int) -> None:
    """Medians of direct calls and of requests, taken in turn, and of the differences."""
    reasoner = create_chain("mini")
    body = {"model": "chain:mini", "messages": [{"role": "user", "content": PUZZLE}], "seed": 1}
    ways, rng = ("direct", "HTTP", "streamed"), random.Random(0)
    taken: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    with served() as (url, pid, _):
        async with httpx.AsyncClient(base_url=url, timeout=60) as web:
            for turn in range(requests + 20):
                for way in rng.sample(ways, len(ways)):  # who comes second finds warmer caches
                    clock = time.CLOCK_PROCESS_CPUTIME_ID if way == "direct" else (~pid << 3) | 2
                    started, spent = time.perf_counter(), time.clock_gettime(clock)
                    if way == "direct":
                        await reasoner.ainvoke({"messages": [("user", PUZZLE)], "terms": {"seed": 1}})
                    else:
                        await web.post(CHAT, json={**body, "stream": way == "streamed"})
                    times = time.perf_counter() - started, time.clock_gettime(clock) - spent
                    if turn >= 20:  # what is loaded and cached by the first calls is not counted
                        taken[way].append((times[0] * 1000, times[1] * 1000))
    for kind, name in enumerate(("time", "processor time")):
        for way in ways:
            values = [times[kind] for times in taken[way]]
            pairs = zip(values, (times[kind] for times in taken["direct"]), strict=True)
            more = statistics.median(value - direct for value, direct in pairs)
            print(
                f"{name}, {way}: p50 {statistics.median(values):.2f}, p10 {_quantile(values, 0.1):.2f} ms; "
                f"median of what it is more than the direct call beside it {more:.2f} ms"
            )


@dataclass
class Tally:
    """What happened to the clients."""

    outcomes: Counter[str] = field(default_factory=Counter)
    left: dict[str, float] = field(default_factory=dict)
    ended: dict[str, float] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    rss: list[float] = field(default_factory=list)


async def soak(minutes: float, clients: int) -> None:
    """So many clients for so many minutes."""
    puzzles = get_task("game24").problems("test", 100, 0) + get_task("countdown").problems("test", 100, 0)
    tally, end = Tally(), time.monotonic() + minutes * 60
    with served() as (url, pid, notes):
        threading.Thread(target=_note, args=(notes, tally), daemon=True).start()
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=clients)
        async with httpx.AsyncClient(base_url=url, timeout=300, limits=limits) as web:
            watching = asyncio.create_task(_watch(tally, pid, end))
            await asyncio.gather(
                *(_client(web, random.Random(number), puzzles, tally, end) for number in range(clients))
            )
            await watching
            await asyncio.sleep(2)
            health = (await web.get("/health")).json()
    _report(tally, health)


def _note(notes: Connection, tally: Tally) -> None:
    """Take the notes as they come: a full pipe would hold the server up."""
    with suppress(EOFError, OSError):
        while True:
            name, at = notes.recv()
            tally.ended[name] = at


async def _client(
    web: httpx.AsyncClient, rng: random.Random, puzzles: list[str], tally: Tally, end: float
) -> None:
    number = 0
    await asyncio.sleep(rng.random() * 5)
    while time.monotonic() < end:
        number += 1
        mark = f"{rng.random()}-{number}"
        path, body = _drawn(rng, puzzles)
        leaves = rng.random() < LEAVING
        try:
            async with asyncio.timeout(rng.expovariate(2) if leaves else None):
                outcome = await _ask(web, path, body, mark)
        except TimeoutError:
            tally.left[mark] = time.monotonic()
            outcome = "left"
        except (httpx.HTTPError, AssertionError) as error:
            tally.errors.append(repr(error))
            outcome = "error"
        tally.outcomes[outcome] += 1
        if outcome == "429":
            await asyncio.sleep(rng.uniform(1.0, 5.0))


async def _ask(web: httpx.AsyncClient, path: str, body: dict[str, Any], mark: str) -> str:
    async with web.stream("POST", path, json=body, headers={MARK: mark}) as reply:
        if reply.status_code == 429:
            assert int(reply.headers["retry-after"]) >= 1
            return "429"
        assert reply.status_code == 200, f"{reply.status_code} {(await reply.aread())[:300]!r}"
        if body["stream"]:
            last = [line async for line in _lines(reply)][-1]
            if "server_busy" in last or "rate_limit_exceeded" in last:
                return "429 in the stream"
            ends = ("response.completed", "response.incomplete")
            assert last == "[DONE]" or json.loads(last).get("type") in ends, last
        else:
            whole = json.loads(await reply.aread())
            assert whole.get("choices") or whole.get("output"), whole
    return f"{path}{' streamed' if body['stream'] else ''}"


async def _lines(reply: httpx.Response) -> AsyncIterator[str]:
    async for line in reply.aiter_lines():
        if line.startswith("data: "):
            yield line.removeprefix("data: ")


def _drawn(rng: random.Random, puzzles: list[str]) -> tuple[str, dict[str, Any]]:
    """A request: its path and its body."""
    body: dict[str, Any] = {
        "model": f"{rng.choice(STRATEGIES)}:mini",
        "stream": rng.random() < 0.5,
        "rlm": {"thoughts": rng.random() < 0.3, "parameters": {"stop_when_verified": rng.random() < 0.8}},
    }
    puzzle, tokens = rng.choice(puzzles), rng.randint(50, 2000)
    if rng.random() < 0.3:
        return RESPONSES, {**body, "input": puzzle, "max_output_tokens": tokens}
    messages = [{"role": "user", "content": puzzle}]
    return CHAT, {**body, "messages": messages, "max_tokens": tokens, "n": rng.choice((1, 1, 1, 2))}


async def _watch(tally: Tally, pid: int, end: float) -> None:
    """Resident memory of the server every ten seconds, in MiB."""
    while time.monotonic() < end:
        tally.rss.append(_resident(pid))
        await asyncio.sleep(10)


def _resident(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024


def _report(tally: Tally, health: dict[str, Any]) -> None:
    stops = sorted(max(0.0, tally.ended[mark] - at) for mark, at in tally.left.items() if mark in tally.ended)
    print(f"answers: {sum(tally.outcomes.values())}, {dict(tally.outcomes)}")
    print(f"errors other than 429: {len(tally.errors)} {Counter(tally.errors).most_common(5)}")
    if stops:
        print(
            f"left: {len(tally.left)}, of which reached the server {len(stops)}; their searches went on for "
            f"p50 {statistics.median(stops) * 1000:.0f} ms, p99 {_quantile(stops, 0.99) * 1000:.0f} ms, "
            f"at most {stops[-1] * 1000:.0f} ms"
        )
    print(f"resident memory by the minute, MiB: {[round(each) for each in tally.rss[::6]]}")
    quarters = [tally.rss[len(tally.rss) * i // 4 : len(tally.rss) * (i + 1) // 4] for i in range(4)]
    print(f"its medians by the quarter: {[round(statistics.median(each), 1) for each in quarters if each]}")
    print(f"in the end: {health}")


def schema(examples: int) -> None:
    """Schemathesis' own command, all of its phases."""
    with served() as (url, _, _):
        command = [str(Path(sys.executable).parent / "schemathesis"), "run", f"{url}/openapi.json"]
        options = ["--max-examples", str(examples), "--checks", "not_a_server_error", "--seed", "1"]
        raise SystemExit(subprocess.run([*command, *options], check=False).returncode)


def _quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def main() -> None:
    """Run what the command line names."""
    what, numbers = sys.argv[1] if len(sys.argv) > 1 else "", [float(text) for text in sys.argv[2:]]
    match what:
        case "overhead":
            asyncio.run(overhead(int((numbers or [400])[0])))
        case "soak":
            asyncio.run(soak(numbers[0] if numbers else 10, int(numbers[1]) if len(numbers) > 1 else 200))
        case "schema":
            schema(int((numbers or [1000])[0]))
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main()
