"""A saver for SQLite that commits in groups: what several supersteps have stored is one transaction.

It is LangGraph's `SqliteSaver` with its tables, so that either reads what the other has written. A commit
costs more than what is in it, and threads that decode on all cores feel any other that works; so checkpoints
are serialized where they are put, and written together a little later, in their order (group commit, DeWitt
et al., SIGMOD 1984).
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
)
from langgraph.checkpoint.serde.base import SerializerProtocol

from rlm_agent.graphs.machine.pending import Pending, Statement
from rlm_agent.structure.errors import MissingExtraError

try:
    from langgraph.checkpoint.sqlite import SqliteSaver
except ImportError as error:
    raise MissingExtraError("langgraph-checkpoint-sqlite", "persist") from error

_DURABILITY = "__pregel_durability"
"""Where LangGraph notes the durability that a run was asked for; absent, it is `"async"`."""

_WHAT_FOLLOWS = ("branch:to:", "__pregel_tasks")
"""How the names of the channels begin that say what runs in the next superstep."""

_MOST = 512
"""So many statements wait at most, some hundred supersteps."""


class BufferedSqliteSaver(SqliteSaver):
    """LangGraph's `SqliteSaver`, for plain and async runs alike, with several supersteps a commit.

    With `durability="async"`, LangGraph's default, a superstep is on disk `delay` seconds after it was put.
    Under another durability all is written at once; so is what nothing follows, as far as can be seen: the
    end of a run, an interrupt, an error, `update_state`. Who reads through the saver finds all that was put.
    A transaction holds what was put in its order and nothing in part: a process that is killed leaves
    a moment of the search that it can go on from.

    Where a transaction fails, the next put or read raises `sqlite3.Error`, too, unless it succeeds with what
    is still pending. `flush` before the connection is closed; `from_conn_string` does.
    """

    def __init__(
        self, conn: sqlite3.Connection, *, serde: SerializerProtocol | None = None, delay: float = 0.05
    ) -> None:
        """`conn` is used by several threads (`check_same_thread=False`); `delay` is in seconds."""
        super().__init__(conn, serde=serde)
        self._pending = Pending(self.flush, delay)  # which the copies that LangGraph makes share

    @classmethod
    @contextmanager
    def from_conn_string(cls, conn_string: str) -> "Iterator[BufferedSqliteSaver]":
        """A saver for the file of this name, whose connection is closed in the end."""
        with super().from_conn_string(conn_string) as saver:
            assert isinstance(saver, cls)
            try:
                yield saver
            finally:
                saver.flush()

    def flush(self) -> None:
        """Write what is pending and return when it is committed; raises `sqlite3.Error`."""
        with self.lock:
            statements = self._pending.take()
            try:
                self._commit(statements)
            except BaseException:
                self._pending.give_back(statements)
                raise

    @contextmanager
    def cursor(self, transaction: bool = True) -> Iterator[sqlite3.Cursor]:
        """What `SqliteSaver` writes with, which is put off, or reads with, after what was put off."""
        if transaction:
            yield cast("sqlite3.Cursor", self._pending)
            return
        self.flush()
        with super().cursor(transaction=False) as cursor:
            yield cursor

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """See `BaseCheckpointSaver`."""
        stored = super().put(config, checkpoint, metadata, new_versions)
        self._write(self._is_due(config) or not _goes_on(checkpoint, metadata))
        return stored

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """See `BaseCheckpointSaver`."""
        super().put_writes(config, writes, task_id, task_path)
        self._write(self._is_due(config) or _is_special(writes))

    def delete_thread(self, thread_id: str) -> None:
        """See `BaseCheckpointSaver`."""
        super().delete_thread(thread_id)
        self.flush()

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """See `BaseCheckpointSaver`."""
        return await asyncio.to_thread(self.get_tuple, config)

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """See `BaseCheckpointSaver`; all are read before the first comes."""
        listed = self.list(config, filter=filter, before=before, limit=limit)
        for one in await asyncio.to_thread(tuple, listed):
            yield one

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """See `BaseCheckpointSaver`."""
        stored = super().put(config, checkpoint, metadata, new_versions)
        await self._awrite(self._is_due(config) or not _goes_on(checkpoint, metadata))
        return stored

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """See `BaseCheckpointSaver`."""
        super().put_writes(config, writes, task_id, task_path)
        await self._awrite(self._is_due(config) or _is_special(writes))

    async def adelete_thread(self, thread_id: str) -> None:
        """See `BaseCheckpointSaver`."""
        await asyncio.to_thread(self.delete_thread, thread_id)

    async def aget_delta_channel_history(self, **asked: Any) -> Any:
        """See `BaseCheckpointSaver`."""
        return await asyncio.to_thread(partial(self.get_delta_channel_history, **asked))

    def _write(self, at_once: bool) -> None:
        self.flush() if at_once else self._pending.within_time()

    async def _awrite(self, at_once: bool) -> None:
        await asyncio.to_thread(self.flush) if at_once else self._pending.within_time()

    def _commit(self, statements: Sequence[Statement]) -> None:
        if statements:
            self.setup()
            with self.conn:
                for sql, rows in statements:
                    self.conn.executemany(sql, rows)

    def _is_due(self, config: RunnableConfig) -> bool:
        """Whether what is pending is written at once: as the run wants it, or because it is much."""
        return config["configurable"].get(_DURABILITY, "async") != "async" or len(self._pending) > _MOST


def _goes_on(checkpoint: Checkpoint, metadata: CheckpointMetadata) -> bool:
    """Whether another superstep of the same run follows."""
    written = checkpoint.get("updated_channels") or ()
    return metadata.get("source") == "loop" and any(name.startswith(_WHAT_FOLLOWS) for name in written)


def _is_special(writes: Sequence[tuple[str, Any]]) -> bool:
    """Whether these tell of an error or of an interrupt, which nothing may follow."""
    return any(channel in WRITES_IDX_MAP for channel, _ in writes)
