"""One event loop in a thread of its own, on which all clients live.

A pool of connections belongs to the loop that opened it, and callers bring any number of loops, or none.
"""

import asyncio
import atexit
import os
import threading
import weakref
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from concurrent.futures import Future
from contextlib import suppress
from operator import attrgetter
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")
P = TypeVar("P")
Emit = Callable[[P], None]


_SECONDS_TO_CLOSE = 2.0
_lock = threading.Lock()
_running: dict[int, asyncio.AbstractEventLoop] = {}
_threads: dict[int, threading.Thread] = {}
_closing: list["weakref.finalize[..., object]"] = []


def the_loop() -> asyncio.AbstractEventLoop:
    """The loop of this process; what was forked off gets another one."""
    with _lock:
        if os.getpid() not in _running:
            _running.clear()
            _running[os.getpid()] = loop = asyncio.new_event_loop()
            thread = threading.Thread(target=loop.run_forever, name="rlm-remote", daemon=True)
            _threads[os.getpid()] = thread
            thread.start()
        return _running[os.getpid()]


def run(work: Coroutine[Any, Any, T]) -> T:
    """Wait for what runs on that loop; an interrupt while waiting cancels it."""
    future = asyncio.run_coroutine_threadsafe(work, the_loop())
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


async def arun(work: Coroutine[Any, Any, T]) -> T:
    """The same without blocking the caller's loop; cancelling the caller cancels the work."""
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, the_loop()))


def listen(work: Callable[[Emit[P]], Coroutine[Any, Any, T]]) -> Generator[P | T]:
    """What the work emits as it comes, and last what it returns; leaving the iteration cancels it."""
    heard: SimpleQueue[tuple[P] | None] = SimpleQueue()
    future = asyncio.run_coroutine_threadsafe(work(lambda piece: heard.put((piece,))), the_loop())
    future.add_done_callback(lambda _: heard.put(None))
    try:
        while (piece := heard.get()) is not None:
            yield piece[0]
        yield future.result()
    finally:
        future.cancel()


async def alisten(work: Callable[[Emit[P]], Coroutine[Any, Any, T]]) -> AsyncGenerator[P | T]:
    """See `listen`; the caller's loop stays free."""
    own, heard = asyncio.get_running_loop(), asyncio.Queue[tuple[P] | None]()

    def put(piece: tuple[P] | None) -> None:
        with suppress(RuntimeError):  # the caller's loop was closed, and nobody listens
            own.call_soon_threadsafe(heard.put_nowait, piece)

    future: Future[T] = asyncio.run_coroutine_threadsafe(work(lambda piece: put((piece,))), the_loop())
    future.add_done_callback(lambda _: put(None))
    try:
        while (piece := await heard.get()) is not None:
            yield piece[0]
        yield future.result()
    finally:
        future.cancel()


def close_with(owner: object, close: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Close something on that loop when its owner, or the process, has come to an end."""
    last = weakref.finalize(owner, _later, close)
    last.atexit = False  # it would come when the loop is gone
    _closing[:] = [*filter(attrgetter("alive"), _closing), last]


def _later(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    loop = _running.get(os.getpid())
    if loop is not None:
        asyncio.run_coroutine_threadsafe(work(), loop)


def _end() -> None:
    """Close what is open, wait shortly for it, and close the loop."""
    if os.getpid() not in _running:
        return
    for last in _closing:
        last()
    loop = _running.pop(os.getpid())

    async def rest() -> None:
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        await asyncio.gather(*others, return_exceptions=True)

    with suppress(TimeoutError):
        asyncio.run_coroutine_threadsafe(rest(), loop).result(_SECONDS_TO_CLOSE)
    loop.call_soon_threadsafe(loop.stop)
    _threads[os.getpid()].join(_SECONDS_TO_CLOSE)
    if not loop.is_running():
        loop.close()


atexit.register(_end)
