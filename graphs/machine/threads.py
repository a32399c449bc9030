"""One run at a time on a thread.

LangGraph lets a second one begin. Both go on from the same checkpoint then, and what one of them finds is
hidden behind what the other stores last. That is seen within a process; runs in two processes are not.
"""

import asyncio
import threading
from collections.abc import AsyncGenerator, Generator, Iterator
from contextlib import aclosing, contextmanager
from typing import Any, NamedTuple, Protocol, cast, runtime_checkable

from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import ensure_config, merge_configs
from langgraph.graph.state import CompiledStateGraph

from rlm_agent.graphs.machine.traces import alooked_after, looked_after
from rlm_agent.structure.errors import BusyError

_LENT = "__pregel_checkpointer"
"""Where an outer graph puts its saver for the graphs within it."""

_LOOKS, _BETWEEN_LOOKS = 50, 0.01  # in seconds


class Seat(NamedTuple):
    """What only one run can have at a time: a thread of a saver and, within an outer graph, of a node."""

    saver: int
    thread: str
    node: str


@runtime_checkable
class Buffering(Protocol):
    """A saver that writes later than it is told to; at the end of a run it writes all."""

    def flush(self) -> None:
        """Return when all is written."""


_lock = threading.Lock()
_taken: dict[Seat, list[object]] = {}
"""Who has a seat; several may, which keep histories of their own."""


class OneRunAThread(CompiledStateGraph[Any, Any, Any, Any]):
    """A compiled graph that refuses a second run on a thread by a `BusyError`."""

    def stream(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Iterator[Any]:
        """As LangGraph's, which `invoke` goes through as well."""
        own = _own(self, config)
        with _sitting(*_seat(self, own)):
            try:
                chunks = cast("Generator[Any]", super().stream(input, config, **kwargs))
                yield from looked_after(own, chunks)
            finally:
                _flush(self.checkpointer)

    async def astream(
        self, input: Any, config: RunnableConfig | None = None, **kwargs: Any
    ) -> AsyncGenerator[Any]:
        """As LangGraph's, which `ainvoke` goes through as well."""
        own = _own(self, config)
        seat, who = _seat(self, own)
        if seat is not None and not seat.node:
            await _patience(seat, who)
        with _sitting(seat, who):
            chunks = cast("AsyncGenerator[Any]", super().astream(input, config, **kwargs))
            try:
                async with aclosing(alooked_after(own, chunks)) as told:
                    async for chunk in told:
                        yield chunk
            finally:
                await asyncio.to_thread(_flush, self.checkpointer)


def _own(graph: OneRunAThread, config: RunnableConfig | None) -> RunnableConfig:
    """The configuration of a run, with what the graph itself brings."""
    return merge_configs(graph.config, ensure_config(config))


def _seat(graph: OneRunAThread, config: RunnableConfig) -> tuple[Seat | None, object]:
    """The seat that a run needs, None where nothing of it is stored, and who takes it."""
    settings = config["configurable"]
    namespace = settings.get("checkpoint_ns", "")
    saver = settings.get(_LENT) if namespace else graph.checkpointer
    # A graph within another one has a history of its own for each task, unless it says True.
    if not saver or "thread_id" not in settings or (namespace and graph.checkpointer is not True):
        return None, None
    # In strict mode LangGraph copies savers; what they write to stays the same object.
    place = getattr(saver, "conn", None) or getattr(saver, "storage", saver)
    node = "|".join(part.split(":")[0] for part in namespace.split("|"))
    # What one task calls several times has numbered histories. At the top, nobody is like anybody else.
    return Seat(id(place), str(settings["thread_id"]), node), namespace or object()


def _flush(saver: object) -> None:
    """What a run has stored is written when it ends, however it ends."""
    if isinstance(saver, Buffering):
        saver.flush()


def _is_taken(seat: Seat, who: object) -> bool:
    return any(other != who for other in _taken.get(seat, ()))


async def _patience(seat: Seat, who: object) -> None:
    """Wait a little for the end of a run whose iterator was left: asyncio closes it somewhat later."""
    for _ in range(_LOOKS):
        if not _is_taken(seat, who):
            return
        await asyncio.sleep(_BETWEEN_LOOKS)


@contextmanager
def _sitting(seat: Seat | None, who: object) -> Iterator[None]:
    if seat is None:
        yield
        return
    with _lock:
        if _is_taken(seat, who):
            raise BusyError(_refusal(seat))
        _taken.setdefault(seat, []).append(who)
    try:
        yield
    finally:
        with _lock:
            _taken[seat].remove(who)
            if not _taken[seat]:
                del _taken[seat]


def _refusal(seat: Seat) -> str:
    if seat.node:
        return (
            f"another branch runs {seat.node!r}, and by checkpointer=True both have one history; "
            "leave the checkpointer out"
        )
    return f"the thread {seat.thread!r} is busy with another run; wait for its end, or use another thread"
