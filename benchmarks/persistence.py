"""What it costs in time to store a search: `mini`, four leaves a superstep, with and without SQLite.

    python -m benchmarks.persistence [--rounds 7] [--tokens 1000] [--durability sync] [--synchronous normal]

Each round searches the same problem of the game of 24 by `mcts`: plainly and async, each without a
saver and with one (`SqliteSaver`, `AsyncSqliteSaver`), in another order each round. Connections are opened
before. The figures are the least and the median of the rounds, in seconds of wall time and of processor time
(of all threads); on a busy machine the least says more. `--synchronous` is SQLite's setting: whether
each commit waits for the disk. Without that, a process that is killed loses nothing either, but a machine
that loses its power may lose the last commits.
"""

import argparse
import asyncio
import sqlite3
import statistics
import tempfile
import time
from collections import defaultdict
from contextlib import closing
from pathlib import Path
from typing import Any

from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

from rlm_agent import Budget, create_mcts
from rlm_agent.models.resolve import load_policy

QUESTION = {"messages": [("user", "2 3 10 10 : 24")]}
THREAD: Any = {"configurable": {"thread_id": "1"}}
Spent = tuple[float, float]


def clocks() -> Spent:
    """Wall time and processor time."""
    return time.perf_counter(), time.process_time()


def since(started: Spent) -> Spent:
    """What has passed of both."""
    wall, processor = clocks()
    return wall - started[0], processor - started[1]


def plainly(options: dict[str, Any], path: Path | None, synchronous: str, durability: Any) -> Spent:
    """What one search by `invoke` takes."""
    if path is None:
        reasoner, started = create_mcts(**options), clocks()
        reasoner.invoke(QUESTION)
        return since(started)
    with closing(sqlite3.connect(path, check_same_thread=False)) as connection:
        saver = SqliteSaver(connection)
        saver.setup()
        connection.execute(f"PRAGMA synchronous={synchronous}")
        reasoner, started = create_mcts(**options, checkpointer=saver), clocks()
        reasoner.invoke(QUESTION, THREAD, durability=durability)
        return since(started)


async def in_tasks(options: dict[str, Any], path: Path | None, synchronous: str, durability: Any) -> Spent:
    """What one search by `ainvoke` takes."""
    if path is None:
        reasoner, started = create_mcts(**options), clocks()
        await reasoner.ainvoke(QUESTION)
        return since(started)
    async with AsyncSqliteSaver.from_conn_string(str(path)) as saver:
        await saver.setup()
        await saver.conn.execute(f"PRAGMA synchronous={synchronous}")
        reasoner, started = create_mcts(**options, checkpointer=saver), clocks()
        await reasoner.ainvoke(QUESTION, THREAD, durability=durability)
        return since(started)


def main() -> None:
    """Print a row for each way of calling and each clock."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--tokens", type=int, default=1000)
    parser.add_argument("--parallel", type=int, default=4)
    parser.add_argument("--durability", choices=["async", "sync"], default="async")
    parser.add_argument("--synchronous", choices=["full", "normal"], default="full")
    given = parser.parse_args()
    ways = [(way, stored) for way in ("invoke", "ainvoke") for stored in (False, True)]
    taken: dict[tuple[str, bool], list[Spent]] = defaultdict(list)
    fixed = {"model": load_policy("mini"), "budget": Budget(tokens=given.tokens), "stop_when_verified": False}
    for number in range(given.rounds + 1):
        options = {**fixed, "parallel": given.parallel, "seed": 3}
        for way, stored in ways[number % 4 :] + ways[: number % 4]:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "threads.db" if stored else None
                work = options, path, given.synchronous, given.durability
                spent = plainly(*work) if way == "invoke" else asyncio.run(in_tasks(*work))
            if number:  # the first round warms up
                taken[way, stored].append(spent)
    print(f"mini, {given.parallel} leaves a superstep, {given.tokens} tokens, {given.rounds} rounds")
    print(f"durability {given.durability}, synchronous {given.synchronous}")
    for way in ("invoke", "ainvoke"):
        for clock, name in enumerate(("wall", "processor")):
            bare, kept = ([one[clock] for one in taken[way, stored]] for stored in (False, True))
            for of, pick in (("least", min), ("median", statistics.median)):
                without, stored_too = pick(bare), pick(kept)
                print(
                    f"{way:8} {name:10} {of:7} without {without:6.3f} s, with SQLite {stored_too:6.3f} s, "
                    f"overhead {100 * (stored_too / without - 1):5.1f}%",
                    flush=True,
                )


if __name__ == "__main__":
    main()
