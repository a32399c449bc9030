"""Killed at any moment, a writer loses nothing that it acknowledged and leaves an index that can be read."""

import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rlm_agent.retrieval.chunks import Chunk, Pieces
from rlm_agent.retrieval.index import STORE, DocumentIndex
from rlm_agent.retrieval.vectors import Sizes
from tests.retrieval.embedding import Counting

ROOT = Path(__file__).parent.parent.parent
SIZES = Sizes(flat=10)
LEAVES = 8

# Writes document after document, each of several chunks, and deletes every third again; whenever one is done
# it says so. Indexes are brought up to date all the time, so that their files are written all the time, too.
WRITER = """
import sys
from tests.retrieval.test_crash import document, open_index
index = open_index(sys.argv[1])
for number in range(int(sys.argv[2]), 100_000):
    index.put_documents([document(number)])
    print("put", number, flush=True)
    if number % 3 == 0:
        index.delete(documents=[str(number)])
        print("deleted", number, flush=True)
    if number % 2 == 0:
        index.settle()
"""


def document(number: int) -> Pieces:
    name = str(number)
    chunks = [
        Chunk(f"{name}.{leaf}", f"leaf {leaf} of {name}", name, document=name) for leaf in range(LEAVES)
    ]
    return Pieces(name, name.encode(), chunks)


def open_index(folder: str | Path) -> DocumentIndex:
    return DocumentIndex(folder, Counting(), sizes=SIZES)


def kill_writer(folder: Path, first: int, after: float) -> list[tuple[str, int]]:
    """Let a writer write for some seconds after its first word, kill it, and return what it acknowledged."""
    command = [sys.executable, "-c", WRITER, str(folder), str(first)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout
        lines = [process.stdout.readline()]
        time.sleep(after)
        process.send_signal(signal.SIGKILL)
        lines += process.stdout.readlines()
    assert process.returncode == -signal.SIGKILL
    words = [line.split() for line in lines if line.endswith("\n")]  # the last one may be torn
    return [(word, int(number)) for word, number in words]


def survive(folder: Path, rounds: int, seed: int) -> None:
    moments = random.Random(seed)
    there: set[int] = set()
    first = 0
    for _ in range(rounds):
        told = kill_writer(folder, first, moments.uniform(0, 0.6))
        for word, number in told:
            there = there | {number} if word == "put" else there - {number}
        last = told[-1][1]
        first = last + 2
        with sqlite3.connect(folder / STORE) as sql:
            assert sql.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        sql.close()
        with open_index(folder) as index:
            # What was under way when it was killed is there whole or not at all.
            known = set(map(int, index.store.documents()))
            assert known ^ there <= {last, last + 1}
            there = known
            assert set(index.all_ids()) == {f"{number}.{leaf}" for number in there for leaf in range(LEAVES)}
            assert index.store.sizes() == {str(number): LEAVES for number in there}
            for number in list(there)[-3:]:
                for mode in ("vector", "lexical"):
                    (found,) = index.search([f"leaf 3 of {number}"], 1, mode=mode)
                    assert found[0].id == f"{number}.3"
    with DocumentIndex(None, Counting()) as fresh:
        fresh.put_documents([document(number) for number in there])
        assert same(folder, fresh)


def same(folder: Path, fresh: DocumentIndex) -> bool:
    """Whether an index has the fingerprint of one that was written in one go."""
    with open_index(folder) as index, index.store.reading(), fresh.store.reading():
        return index.store.get("fingerprint") == fresh.store.get("fingerprint")


def test_killed_writer_loses_nothing(tmp_path: Path) -> None:
    survive(tmp_path / "index", rounds=2, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 4))
def test_writer_killed_many_times_loses_nothing(tmp_path: Path, seed: int) -> None:
    survive(tmp_path / "index", rounds=8, seed=seed)


def test_writers_take_turns(tmp_path: Path) -> None:
    writers = [open_index(tmp_path) for _ in range(2)]
    for number in range(20):
        writers[number % 2].put_documents([document(number)])
        (found,) = writers[(number + 1) % 2].search([f"leaf 5 of {number}"], 1, mode="vector")
        assert found[0].id == f"{number}.5"
    writers[0].delete(documents=map(str, range(10)))
    (found,) = writers[1].search(["leaf 5 of 3"], 200, mode="vector")
    assert {passage.source for passage in found} == set(map(str, range(10, 20)))
    for writer in writers:
        writer.close()
