"""The engine: a model that serves any number of threads, event loops and graphs at once."""

import asyncio
import os
import threading
import time
import weakref
from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue

from rlm_agent.models.gguf.engine.adapters import Adapters
from rlm_agent.models.gguf.engine.cache import Cache
from rlm_agent.models.gguf.engine.calls import Call, Heard
from rlm_agent.models.gguf.engine.fitness import require_branches
from rlm_agent.models.gguf.engine.jobs import Job, Result, Tokens
from rlm_agent.models.gguf.engine.scheduler import Scheduler
from rlm_agent.models.gguf.engine.tuning import tuned_context
from rlm_agent.models.gguf.engine.worker import Worker
from rlm_agent.models.gguf.file import ModelFile
from rlm_agent.structure.errors import InputError

DEFAULT_CONTEXT = 4096
Piece = tuple[int, bytes]
"""The index of a job, and what one of its tokens spells."""

_CALLS = 256
"""Calls at a time; one more waits before its jobs are even looked at."""


class Engine:
    """Runs jobs on a GGUF file.

    What a job brings depends on the job alone, to the bit: neither on who shares its batch nor on what is
    cached. That holds on the CPU (`gpu_layers=0`) and as long as `exact`; without it the faster kernel is
    chosen by a measurement, and larger batches are fed.

    `context` bounds the tokens of one sequence and, shared prefixes counted once, of all cached ones.
    `threads` is measured where it is None. `adapters` are LoRA files by name. After `stall` seconds in one
    batch the engine is given up. Safe to share between threads and event loops.
    Raises `ModelFileError` for files that cannot be loaded or are not fit for branches, `DecodeError` where
    memory does not suffice.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        context: int | None = None,
        threads: int | None = None,
        gpu_layers: int = 0,
        exact: bool = True,
        adapters: Mapping[str, str | Path] | None = None,
        stall: float = 600.0,
    ) -> None:
        cells = DEFAULT_CONTEXT if context is None else context
        if cells < 1:
            raise InputError(f"a context of {cells} tokens holds nothing; give at least 1")
        self.file = file = ModelFile(Path(path), gpu_layers, repacked=gpu_layers > 0 or not exact)
        require_branches(file)
        self.longest = min(cells, file.trained_context)
        # In a thread that ends, and its OpenMP pool with it: a second pool would slow down the worker's.
        with ThreadPoolExecutor(1) as once:
            tuning = once.submit(tuned_context, file, cells=cells, threads=threads, exact=exact)
            inner, self.settings = tuning.result()
        self._context = inner
        self._adapters = Adapters(file, inner, adapters or {})
        self._cache = Cache(inner, self._adapters)
        scheduler = Scheduler(file, self._cache, parallel=self.settings.parallel, longest=self.longest)

        def free() -> None:
            inner.close()
            file.close()

        self._worker = Worker(scheduler, free, stall=stall)
        self._close = weakref.finalize(self, _stop, self._worker, os.getpid())
        self._room = threading.BoundedSemaphore(_CALLS)

    @property
    def decoded(self) -> int:
        """How many tokens were fed so far, prompts and generated ones."""
        return self._cache.decoded

    def complete(self, jobs: Sequence[Job]) -> list[Result]:
        """The results of all jobs, in order; an interrupt while waiting cancels them.

        Raises `DecodeError` where the engine is closed or fails; a fault of one job is told in its result.
        """
        self._require_usable(jobs)
        with self._room:
            call = self._submit(jobs)
            try:
                return call.future.result()
            except BaseException:
                call.future.cancel()
                raise

    async def acomplete(self, jobs: Sequence[Job]) -> list[Result]:
        """See `complete`; cancelling the task cancels the jobs."""
        self._require_usable(jobs)
        await self._enter()
        try:
            return await asyncio.wrap_future(self._submit(jobs).future)
        finally:
            self._room.release()

    def stream(self, jobs: Sequence[Job], *, timeout: float | None = None) -> Generator[Piece | list[Result]]:
        """The bytes of each token as it is drawn, with the index of its job, and last all results, in order.

        Leaving the iteration cancels the jobs. Raises what `complete` raises, and `TimeoutError` where they
        are not through after `timeout` seconds.
        """
        self._require_usable(jobs)
        end = None if timeout is None else time.monotonic() + timeout
        pieces: SimpleQueue[Piece | None] = SimpleQueue()
        with self._room:
            call = self._submit(jobs, lambda *piece: pieces.put(piece))
            call.future.add_done_callback(lambda _: pieces.put(None))
            try:
                while (piece := pieces.get(timeout=end and max(0.0, end - time.monotonic()))) is not None:
                    yield piece
                yield call.future.result()
            except Empty as error:
                raise _too_slow(timeout) from error
            finally:
                call.future.cancel()

    async def astream(
        self,
        jobs: Sequence[Job],
        *,
        timeout: float | None = None,  # noqa: ASYNC109  as in `stream`
    ) -> AsyncGenerator[Piece | list[Result]]:
        """See `stream`; cancelling the task cancels the jobs, too."""
        self._require_usable(jobs)
        loop, pieces = asyncio.get_running_loop(), asyncio.Queue[Piece | None]()
        end = None if timeout is None else loop.time() + timeout

        def put(piece: Piece | None) -> None:
            with suppress(RuntimeError):  # the loop was closed, and nobody listens
                loop.call_soon_threadsafe(pieces.put_nowait, piece)

        await self._enter()
        try:
            call = self._submit(jobs, lambda *piece: put(piece))
            call.future.add_done_callback(lambda _: put(None))
            try:
                while (piece := await _before(end, pieces)) is not None:
                    yield piece
                yield call.future.result()
            except TimeoutError as error:
                raise _too_slow(timeout) from error
            finally:
                call.future.cancel()
        finally:
            self._room.release()

    def release(self, tokens: Tokens, keep: int, adapter: str | None = None) -> None:
        """Nobody will go on from `tokens`: forget all that does beyond the first `keep` of them."""
        self._worker.tell(lambda: self._cache.release(tokens, keep, adapter))

    def forget(self) -> None:
        """Forget all cached prefixes; for when nothing runs."""
        done = threading.Event()
        self._worker.tell(self._cache.clear)
        self._worker.tell(done.set)
        done.wait()

    def close(self) -> None:
        """Fail what is under way and free the model; the engine cannot be used afterwards."""
        self._close()

    async def _enter(self) -> None:
        while not self._room.acquire(blocking=False):  # noqa: ASYNC110  what wakes threads wakes no loop
            await asyncio.sleep(0.01)

    def _submit(self, jobs: Sequence[Job], heard: Heard | None = None) -> Call:
        call = Call(jobs, heard)
        if jobs:
            self._worker.submit(call)
        else:
            call.future.set_result([])
        return call

    def _require_usable(self, jobs: Sequence[Job]) -> None:
        self._context.require_usable()
        self._worker.require_running()
        for job in jobs:
            if job.adapter not in self._adapters:
                raise InputError(f"there is no adapter {job.adapter!r}; load the model with it")


async def _before(end: float | None, pieces: asyncio.Queue[Piece | None]) -> Piece | None:
    """The next piece; `TimeoutError` where none has come by the loop's time `end`."""
    async with asyncio.timeout_at(end):
        return await pieces.get()


def _too_slow(timeout: float | None) -> TimeoutError:
    return TimeoutError(f"the model was not through after {timeout} seconds; allow more, or fewer tokens")


def _stop(worker: Worker, pid: int) -> None:
    """Stop a worker, except in a process that was forked off, where its thread does not exist."""
    if os.getpid() == pid:
        worker.stop()
