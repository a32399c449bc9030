"""What `BufferedSqliteSaver` promises: the order, whole transactions, and when what was put is on disk."""

import asyncio
import importlib
import sqlite3
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langgraph.checkpoint.base import BaseCheckpointSaver, Checkpoint, CheckpointMetadata, empty_checkpoint
from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.checkpoint.conformance.report import ProgressCallbacks
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.errors import GraphDrained
from langgraph.runtime import RunControl

from rlm_agent import BufferedSqliteSaver
from rlm_agent.graphs.machine.pending import Pending
from rlm_agent.structure.errors import MissingExtraError
from tests.graphs.scripts import FOUND, Mortal, ask, found, reason, thread

NEVER = 3600.0
"""A delay that no test waits for."""
FOLLOWED, LAST = ["branch:to:select"], ["run"]


@contextmanager
def opened(path: Path, delay: float = NEVER) -> Iterator[BufferedSqliteSaver]:
    with closing(sqlite3.connect(path, check_same_thread=False, timeout=0)) as connection:
        saver = BufferedSqliteSaver(connection, delay=delay)
        saver.setup()
        try:
            yield saver
        finally:
            saver.flush()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "threads.db"


@pytest.fixture
def saver(path: Path) -> Iterator[BufferedSqliteSaver]:
    with opened(path) as saver:
        yield saver


def on_disk(path: Path) -> list[str]:
    """The checkpoints that another connection sees, then the tasks whose writes it sees."""
    with closing(sqlite3.connect(path)) as connection:
        checkpoints = connection.execute("SELECT checkpoint_id FROM checkpoints ORDER BY rowid").fetchall()
        writes = connection.execute("SELECT task_id FROM writes ORDER BY rowid").fetchall()
    return [id for (id,) in (*checkpoints, *writes)]


def until(true: Callable[[], bool]) -> None:
    """Wait for what another thread does."""
    late = time.monotonic() + 20
    while not true():
        assert time.monotonic() < late
        time.sleep(0.005)


def threads_that_write() -> list[str]:
    return [one.name for one in threading.enumerate() if "_keep_writing" in one.name]


def checkpoint(id: str, updated: Sequence[str] = FOLLOWED) -> Checkpoint:
    return {**empty_checkpoint(), "id": id, "updated_channels": [*updated]}


def at(id: str | None = None, durability: str | None = None) -> Any:
    """The config under which something is put."""
    said = {} if durability is None else {"__pregel_durability": durability}
    return {"configurable": {"thread_id": "1", "checkpoint_ns": "", "checkpoint_id": id, **said}}


def test_a_checkpoint_that_another_follows_waits(saver: BufferedSqliteSaver, path: Path) -> None:
    saver.put(at(), checkpoint("1"), {"source": "loop"}, {})
    saver.put_writes(at("1"), [("run", {})], "task")
    assert on_disk(path) == []
    saver.flush()
    assert on_disk(path) == ["1", "task"]


@pytest.mark.parametrize(
    ("durability", "source", "updated"),
    [
        ("sync", "loop", FOLLOWED),
        ("exit", "loop", FOLLOWED),
        (None, "update", FOLLOWED),
        ("async", "loop", LAST),
    ],
)
async def test_what_cannot_wait_is_written_at_once(
    durability: str | None, source: Any, updated: list[str], path: Path
) -> None:
    metadata: CheckpointMetadata = {"source": source}
    with opened(path) as saver:
        saver.put_writes(at("0"), [("run", {})], "before")
        saver.put(at(durability=durability), checkpoint("1", updated), metadata, {})
        assert on_disk(path) == ["1", "before"]
        await saver.aput(at(durability=durability), checkpoint("2", updated), metadata, {})
        assert on_disk(path) == ["1", "2", "before"]


@pytest.mark.parametrize("channel", ["__error__", "__interrupt__", "__resume__"])
async def test_errors_and_interrupts_are_written_at_once(
    channel: str, saver: BufferedSqliteSaver, path: Path
) -> None:
    saver.put_writes(at("1"), [(channel, "why")], "a")
    assert on_disk(path) == ["a"]
    await saver.aput_writes(at("1"), [(channel, "why")], "b")
    assert on_disk(path) == ["a", "b"]


def test_what_waits_is_on_disk_after_the_delay(path: Path) -> None:
    with opened(path, delay=0.01) as saver:
        saver.put(at(), checkpoint("1"), {"source": "loop"}, {})
        until(lambda: on_disk(path) == ["1"])
        saver.put(at(), checkpoint("2"), {"source": "loop"}, {})
        until(lambda: on_disk(path) == ["1", "2"])
        until(lambda: threads_that_write() == [])


def test_no_thread_is_left_when_all_is_written(saver: BufferedSqliteSaver) -> None:
    saver.put(at(), checkpoint("1"), {"source": "loop"}, {})
    assert len(threads_that_write()) == 1
    saver.put(at(), checkpoint("2", LAST), {"source": "loop"}, {})
    until(lambda: threads_that_write() == [])


def test_not_more_than_some_hundred_statements_wait(saver: BufferedSqliteSaver, path: Path) -> None:
    for number in range(600):
        saver.put(at(), checkpoint(f"{number:03}"), {"source": "loop"}, {})
    assert len(on_disk(path)) > 500


def do(step: str, id: str, saver: BaseCheckpointSaver[Any]) -> None:
    """Put something of this id, or read."""
    if step in ("put", "last"):
        one: Checkpoint = {**checkpoint(id, LAST if step == "last" else FOLLOWED), "ts": ""}
        saver.put(at(), one, {"source": "loop"}, {})
    elif step in ("write", "error"):
        saver.put_writes(at(id), [("__error__" if step == "error" else "run", id)], id)
    else:
        [*saver.list(at())]


PUT_OFF = ("put", "write")


@settings(max_examples=40)
@given(st.lists(st.tuples(st.sampled_from([*PUT_OFF, "last", "error", "read"]), st.booleans()), max_size=25))
def test_the_file_holds_a_beginning_of_what_was_put_and_in_the_end_what_sqlite_saver_writes(
    steps: list[tuple[str, bool]],
) -> None:
    with TemporaryDirectory() as folder, closing(sqlite3.connect(":memory:")) as reference:
        path, order = Path(folder) / "threads.db", list[str]()
        whole = SqliteSaver(reference)
        whole.setup()
        with opened(path) as saver:
            for number, (step, copied) in enumerate(steps):
                id = f"{number:02}"
                do(step, id, saver.with_allowlist({("some.module", "Name")}) if copied else saver)
                do(step, id, whole)
                order += [] if step == "read" else [id]
                stored = sorted(on_disk(path))
                assert stored == order[: len(stored)]
                assert step in PUT_OFF or stored == order
        with closing(sqlite3.connect(path)) as written:
            for table in ("checkpoints", "writes"):
                rows = f"SELECT * FROM {table} ORDER BY checkpoint_id"
                assert written.execute(rows).fetchall() == reference.execute(rows).fetchall()


def test_a_transaction_that_fails_leaves_nothing_and_is_tried_again(
    saver: BufferedSqliteSaver, path: Path
) -> None:
    saver.conn.execute(
        "CREATE TRIGGER full BEFORE INSERT ON checkpoints WHEN NEW.checkpoint_id = '2' "
        "BEGIN SELECT RAISE(ABORT, 'the disk is full'); END"
    )
    for id in "123":
        saver.put(at(), checkpoint(id), {"source": "loop"}, {})
    with pytest.raises(sqlite3.Error, match="the disk is full"):
        saver.flush()
    assert on_disk(path) == []
    with pytest.raises(sqlite3.Error, match="the disk is full"):
        saver.put(at(), checkpoint("4", LAST), {"source": "loop"}, {})
    with pytest.raises(sqlite3.Error, match="the disk is full"):
        saver.get_tuple(at())
    saver.conn.execute("DROP TRIGGER full")
    saver.put(at(), checkpoint("5", LAST), {"source": "loop"}, {})
    assert on_disk(path) == ["1", "2", "3", "4", "5"]


def test_what_came_while_a_transaction_failed_stays_behind_it() -> None:
    pending = Pending(lambda: None, NEVER)
    pending.execute("first", [1])
    failed = pending.take()
    pending.execute("second", [2])
    pending.give_back(failed)
    assert pending.take() == [("first", [[1]]), ("second", [[2]])]


def test_a_failure_in_the_background_is_logged_and_made_good(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(path, delay=0.01) as saver, closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        saver.put(at(), checkpoint("1"), {"source": "loop"}, {})
        until(lambda: "locked" in caplog.text)
        other.rollback()
        saver.put(at(), checkpoint("2"), {"source": "loop"}, {})
        until(lambda: on_disk(path) == ["1", "2"])


def test_a_full_disk_ends_the_run_and_what_was_stored_goes_on(path: Path) -> None:
    with opened(path) as saver:
        saver.conn.execute(
            "CREATE TRIGGER full BEFORE INSERT ON checkpoints WHEN (SELECT COUNT(*) FROM checkpoints) >= 9 "
            "BEGIN SELECT RAISE(ABORT, 'the disk is full'); END"
        )
        with pytest.raises(sqlite3.Error, match="the disk is full"):
            reason("mcts", checkpointer=saver).invoke(ask(), thread(), durability="sync")
        saver.conn.execute("DROP TRIGGER full")
        reasoner = reason("mcts", checkpointer=saver)
        reasoner.invoke(None, thread())
        assert found(reasoner.get_state(thread()).values) == found(
            reason("mcts").invoke(ask(), output_keys=FOUND)
        )


@pytest.mark.parametrize("case", ["mcts_parallel", "beam_search", "graph_of_thoughts"])
async def test_searches_find_the_same_and_another_saver_reads_them(case: str, path: Path) -> None:
    expected = found(reason(case).invoke(ask(), output_keys=FOUND))
    with opened(path) as saver, closing(sqlite3.connect(path, check_same_thread=False)) as connection:
        reasoner, reader = (reason(case, checkpointer=one) for one in (saver, SqliteSaver(connection)))
        reasoner.invoke(ask(), thread("plain"))
        await reasoner.ainvoke(ask(), thread("async"))
        for name in ("plain", "async"):
            assert found(reader.get_state(thread(name)).values) == expected
            assert found((await reasoner.aget_state(thread(name))).values) == expected
            moments = [one.config async for one in reasoner.aget_state_history(thread(name))]
            assert moments == [one.config for one in reader.get_state_history(thread(name))]


def test_under_sync_each_superstep_is_on_disk_before_the_next(path: Path) -> None:
    with opened(path) as saver:
        reasoner = reason("mcts", checkpointer=saver)
        updates = reasoner.stream(ask(), thread(), stream_mode="updates", durability="sync")
        for ended, _ in enumerate(updates):
            with closing(sqlite3.connect(path)) as other:
                ((stored,),) = other.execute("SELECT COUNT(*) FROM checkpoints")
            assert stored > ended


def breaks_off(saver: BufferedSqliteSaver) -> None:
    with pytest.raises(ConnectionError):
        reason("mcts", Mortal(5), checkpointer=saver).invoke(ask(), thread())


def drains(saver: BufferedSqliteSaver) -> None:
    control, reasoner = RunControl(), reason("mcts", checkpointer=saver)
    updates = reasoner.stream(ask(), thread(), control=control, stream_mode="updates")
    for _ in range(5):
        next(updates)
    control.request_drain("enough")
    with pytest.raises(GraphDrained):
        list(updates)


def waits(saver: BufferedSqliteSaver) -> None:
    reason("mcts", checkpointer=saver, interrupt_before=["evaluate"]).invoke(ask(), thread())


def is_reviewed(saver: BufferedSqliteSaver) -> None:
    reason("mcts", checkpointer=saver, review="round").invoke(ask(), thread())


def is_left(saver: BufferedSqliteSaver) -> None:
    stream: Any = reason("mcts", checkpointer=saver).stream(ask(), thread())
    for _ in range(5):
        next(stream)
    stream.close()


def is_left_in_tasks(saver: BufferedSqliteSaver) -> None:
    async def leave() -> None:
        stream: Any = reason("mcts", checkpointer=saver).astream(ask(), thread())
        for _ in range(5):
            await anext(stream)
        await stream.aclose()

    asyncio.run(leave())


@pytest.mark.parametrize("way", [breaks_off, drains, waits, is_reviewed, is_left, is_left_in_tasks])
def test_all_is_on_disk_when_a_run_ends_however_it_ends(
    way: Callable[[BufferedSqliteSaver], None], path: Path
) -> None:
    with opened(path) as saver:
        way(saver)
        stored = on_disk(path)
        assert len(stored) > 4
        saver.flush()
        assert on_disk(path) == stored
        reasoner = reason("mcts", checkpointer=saver)
        if way is not is_reviewed:
            reasoner.invoke(None, thread())
            expected = found(reason("mcts").invoke(ask(), output_keys=FOUND))
            assert found(reasoner.get_state(thread()).values) == expected


def test_many_runs_share_a_saver(path: Path) -> None:
    expected = found(reason("mcts").invoke(ask(), output_keys=FOUND))
    with opened(path, delay=0.001) as saver:
        reasoner = reason("mcts", checkpointer=saver)

        def run(name: str) -> None:
            reasoner.invoke(ask(), thread(name))

        async def run_all(names: Sequence[str]) -> None:
            await asyncio.gather(*(reasoner.ainvoke(ask(), thread(name)) for name in names))

        with ThreadPoolExecutor(4) as pool:
            [*pool.map(run, "abcd")]
        asyncio.run(run_all("efgh"))
        for name in "abcdefgh":
            assert found(reasoner.get_state(thread(name)).values) == expected


async def test_a_thread_that_is_deleted_is_gone(saver: BufferedSqliteSaver, path: Path) -> None:
    for delete in (saver.adelete_thread, lambda name: asyncio.to_thread(saver.delete_thread, name)):
        saver.put(at(), checkpoint("1"), {"source": "loop"}, {})
        await delete("1")
        assert on_disk(path) == []


async def test_langgraph_s_own_suite_for_savers_passes(path: Path) -> None:
    """What neither this saver nor LangGraph's for SQLite offers is left out: copies, pruning."""

    @checkpointer_test(name="BufferedSqliteSaver")
    async def made() -> AsyncIterator[BufferedSqliteSaver]:
        with TemporaryDirectory() as folder, opened(Path(folder) / "threads.db") as saver:
            yield saver

    report = await validate(made, progress=ProgressCallbacks.quiet())
    assert report.passed_all_base(), report.to_dict()


def test_without_sqlite_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "rlm_agent.graphs.machine.saver"
    monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "langgraph.checkpoint.sqlite", None)
    with pytest.raises(MissingExtraError, match=r"rlm-agent\[persist\]"):
        importlib.import_module(name)
