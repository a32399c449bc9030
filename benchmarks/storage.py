"""What a search stores for each thought, in small and in large trees.

    python -m benchmarks.storage [--saver sqlite|postgres] [THOUGHTS ...]    # 100, 1,000, 5,000 and 20,000

A scripted policy grows a tree by `mcts`, four thoughts of about forty characters a round; a round takes four
supersteps. `stored` are the bytes of all that was serialised, checkpoints and writes; `in all` is what the
database takes on the disk, keys and indexes included. Both are given for a thought.
"""

import argparse
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from langgraph.checkpoint.base import BaseCheckpointSaver

from rlm_agent import Budget, FakePolicy, FakeValue, Steps, create_mcts
from rlm_agent.models.fake import Reply
from rlm_agent.structure.ids import derive_seed
from tests.postgres import postgres

SIZES = [100, 1000, 5000, 20_000]


def script(question: str, prefix: str) -> list[Reply]:
    """Four ways on from everywhere."""
    return [(f"{direction} and on to the next corner of the maze", -1.4) for direction in "NESW"]


def grow(saver: BaseCheckpointSaver[Any], thread: str, thoughts: int) -> int:
    """Search till there are so many thoughts; returns how many there are."""
    reasoner = create_mcts(
        FakePolicy(script, cycle=True),
        branching=4,
        widening=0.0,
        rollout=False,
        prior="uniform",
        learning_rate=1.0,
        value=FakeValue(lambda steps: derive_seed(0, *steps) / 2**63),
        steps=Steps(max_tokens=20, max_steps=10_000),
        budget=Budget(nodes=thoughts),
        seed=1,
        checkpointer=saver,
    )
    question = {"messages": [("user", "where to?")]}
    config: Any = {"configurable": {"thread_id": thread}, "recursion_limit": 10**6}
    nodes: int = reasoner.invoke(question, config)["usage"]["nodes"]
    return nodes


@contextmanager
def on_sqlite() -> Iterator[tuple[BaseCheckpointSaver[Any], Any]]:
    """A saver, and what says how much it has stored: serialised, and on the disk."""
    from langgraph.checkpoint.sqlite import SqliteSaver

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "threads.db"
        with closing(sqlite3.connect(path, check_same_thread=False)) as connection:

            def stored() -> tuple[int, int]:
                (states,) = connection.execute(
                    "SELECT SUM(LENGTH(checkpoint) + LENGTH(metadata)) FROM checkpoints"
                ).fetchone()
                (writes,) = connection.execute("SELECT SUM(LENGTH(value)) FROM writes").fetchone()
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                return states + writes, path.stat().st_size

            yield SqliteSaver(connection), stored


@contextmanager
def on_postgres() -> Iterator[tuple[BaseCheckpointSaver[Any], Any]]:
    """The same of a throw-away Postgres."""
    from langgraph.checkpoint.postgres import PostgresSaver

    with postgres() as url, PostgresSaver.from_conn_string(url) as saver:
        saver.setup()
        connection: Any = saver.conn
        sizes = {
            "checkpoints": "LENGTH(checkpoint::text) + LENGTH(metadata::text)",
            "checkpoint_writes": "LENGTH(blob)",
            "checkpoint_blobs": "LENGTH(blob)",
        }

        def stored() -> tuple[int, int]:
            serialised = whole = 0
            for table, size in sizes.items():
                row = connection.execute(
                    f"SELECT COALESCE(SUM({size}), 0) AS bytes, pg_total_relation_size('{table}') AS whole "
                    f"FROM {table}"
                ).fetchone()
                serialised, whole = serialised + row["bytes"], whole + row["whole"]
            return int(serialised), int(whole)

        yield saver, stored


def main() -> None:
    """Print a row for each size."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--saver", choices=["sqlite", "postgres"], default="sqlite")
    parser.add_argument("thoughts", nargs="*", type=int, default=SIZES)
    given = parser.parse_args()
    print(
        f"{'thoughts':>10} {'stored':>10} {'in all':>10} {'seconds':>10}   (bytes a thought, {given.saver})"
    )
    for size in given.thoughts:
        with {"sqlite": on_sqlite, "postgres": on_postgres}[given.saver]() as (saver, stored):
            started = time.monotonic()
            thoughts = grow(saver, "1", size) + 1
            seconds = time.monotonic() - started
            serialised, whole = stored()
        print(
            f"{thoughts:>10,} {serialised / thoughts:>10,.0f} {whole / thoughts:>10,.0f} {seconds:>10.1f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
