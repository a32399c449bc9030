"""What it costs in time to store a search: `mini`, four leaves a superstep, with and without SQLite.

    python -m benchmarks.persistence [--rounds 15] [--tokens 2000] [--durability sync] [--synchronous normal]
    python -m benchmarks.persistence --replayed    # the model's replies are recorded first

Each round searches the same problem of the game of 24 by `mcts`, by `invoke` and by `ainvoke`: without a
saver, with LangGraph's saver for SQLite and with `BufferedSqliteSaver`, in another order each round.
Connections are opened before. A percentage is the median of ratios within a round, since a machine is not
equally fast from minute to minute; of wall time, and of processor time of all threads. Microseconds are of
processor time, beyond that of a superstep without a saver. Where replies are recorded, all time is Python's.

`--synchronous` is SQLite's setting: whether each commit waits for the disk. Without that, a process that is
killed loses nothing either, but a machine that loses its power may lose the last commits.
"""

import argparse
import asyncio
import gc
import random
import sqlite3
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any, NamedTuple

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

from rlm_agent import Budget, BufferedSqliteSaver, Completion, Policy, Request, create_mcts
from rlm_agent.models.resolve import load_policy

QUESTION = {"messages": [("user", "2 3 10 10 : 24")]}
THREAD: Any = {"configurable": {"thread_id": "1"}}
WAYS = ("invoke", "ainvoke")
SAVERS = ("none", "SqliteSaver", "BufferedSqliteSaver")
Key = tuple[str, str]


class Spent(NamedTuple):
    """Seconds of a search."""

    wall: float
    processor: float


class Replayed:
    """A policy that says at once what another has said to the same request."""

    def __init__(self, policy: Policy) -> None:
        self.identity, self.task, self.decoding = policy.identity, policy.task, policy.decoding
        self._policy, self._said = policy, dict[tuple[str, int, int], Completion]()

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """See `Policy`."""
        keys = [(request.prefix, request.seed, request.max_tokens) for request in requests]
        new = {key: request for key, request in zip(keys, requests, strict=True) if key not in self._said}
        self._said.update(zip(new, self._policy.generate([*new.values()]) if new else [], strict=True))
        return [self._said[key] for key in keys]

    async def agenerate(self, requests: Sequence[Request]) -> list[Completion]:
        """See `Policy`."""
        return self.generate(requests)


@asynccontextmanager
async def opened(way: str, kind: str, path: str, synchronous: str) -> AsyncIterator[BaseCheckpointSaver[Any]]:
    """A saver of a kind, for one way to call."""
    pragma = f"PRAGMA synchronous={synchronous}"
    if kind == "SqliteSaver" and way == "ainvoke":
        async with AsyncSqliteSaver.from_conn_string(path) as waiting:
            await waiting.setup()
            await waiting.conn.execute(pragma)
            yield waiting
        return
    with closing(sqlite3.connect(path, check_same_thread=False)) as connection:
        saver = (BufferedSqliteSaver if kind == "BufferedSqliteSaver" else SqliteSaver)(connection)
        saver.setup()
        connection.execute(pragma)
        yield saver


async def timed(way: str, saver: BaseCheckpointSaver[Any] | None, options: Any, durability: Any) -> Spent:
    """What one search takes."""
    reasoner = create_mcts(**options, checkpointer=saver)
    kept: Any = {} if saver is None else {"config": THREAD, "durability": durability}
    gc.collect()
    started = time.perf_counter(), time.process_time()
    if way == "ainvoke":
        await reasoner.ainvoke(QUESTION, **kept)
    else:
        reasoner.invoke(QUESTION, **kept)
    return Spent(time.perf_counter() - started[0], time.process_time() - started[1])


async def search(way: str, kind: str, given: argparse.Namespace, options: Any) -> Spent:
    """What one search takes with a saver of a kind."""
    if kind == "none":
        return await timed(way, None, options, None)
    with tempfile.TemporaryDirectory() as folder:
        async with opened(way, kind, str(Path(folder) / "threads.db"), given.synchronous) as saver:
            return await timed(way, saver, options, given.durability)


def shape(options: Any) -> tuple[int, float]:
    """How many supersteps the search has, and how many leaves are written on the average when some are."""
    updates = [*create_mcts(**options).stream(QUESTION, stream_mode="updates")]
    written = [update["generate"]["thoughts"] for update in updates if "generate" in update]
    leaves = [len(thoughts.keys() - {one["parent"] for one in thoughts.values()}) for thoughts in written]
    return len(updates), statistics.mean(leaves)


def tell(way: str, kind: str, taken: dict[Key, list[Spent]], count: int) -> None:
    """Print what a saver costs."""
    bare, kept = taken[way, "none"], taken[way, kind]
    pairs = [*zip(kept, bare, strict=True)]
    wall, processor = (
        statistics.median(one[clock] / other[clock] for one, other in pairs) for clock in (0, 1)
    )
    more = statistics.median(one.processor - other.processor for one, other in pairs)
    without = statistics.median(one.wall for one in bare)
    print(
        f"{way:7} {kind:19} {without:6.3f} s without, wall {100 * (wall - 1):+6.1f}%, "
        f"processor {100 * (processor - 1):+6.1f}%, {1e6 * more / count:5.0f} us a superstep",
        flush=True,
    )


def main() -> None:
    """Print a row for each way of calling and each saver."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--tokens", type=int, default=2000)
    parser.add_argument("--parallel", type=int, default=4)
    parser.add_argument("--durability", choices=["async", "sync"], default="async")
    parser.add_argument("--synchronous", choices=["full", "normal"], default="full")
    parser.add_argument("--replayed", action="store_true")
    given = parser.parse_args()
    policy: Policy = load_policy("mini")
    policy = Replayed(policy) if given.replayed else policy
    options = {"model": policy, "budget": Budget(tokens=given.tokens), "parallel": given.parallel, "seed": 3}
    options |= {"branching": 3, "stop_when_verified": False}
    runs = [(way, kind) for way in WAYS for kind in SAVERS]
    taken: dict[Key, list[Spent]] = defaultdict(list)
    count, leaves = shape(options)
    for number in range(given.rounds + 1):
        for way, kind in random.Random(number).sample(runs, len(runs)):
            spent = asyncio.run(search(way, kind, given, options))
            if number:  # the first round warms up
                taken[way, kind].append(spent)
    print(f"mini, {leaves:.1f} leaves a round, {given.tokens} tokens, {count} supersteps")
    print(f"{given.rounds} rounds, durability {given.durability}, synchronous {given.synchronous}")
    for way in WAYS:
        for kind in SAVERS[1:]:
            tell(way, kind, taken, count)


if __name__ == "__main__":
    main()
