"""The thread that owns a context: it takes calls in and steps while there is work."""

import threading
import time
from collections import deque
from collections.abc import Callable

from rlm_agent.models.gguf.engine.calls import Call
from rlm_agent.models.gguf.engine.scheduler import Scheduler
from rlm_agent.structure.errors import DecodeError, RlmError

_LOOKS = 2.0  # seconds between two looks of the watchdog


class Worker:
    """Runs a scheduler in a thread of its own, until `stop`, and then `free`.

    A batch that takes longer than `stall` seconds breaks the worker: all calls fail, and it takes no more.
    """

    def __init__(self, scheduler: Scheduler, free: Callable[[], None], *, stall: float) -> None:
        self._scheduler = scheduler
        self._free = free
        self._stall = stall
        self._wake = threading.Condition()
        self._inbox: deque[Callable[[], None]] = deque()
        self._calls: set[Call] = set()
        self._end: str | None = None
        self._began: float | None = None
        self._stopped = threading.Event()
        for target in (self._run, self._watch):
            threading.Thread(target=target, name=f"rlm-agent {target.__name__}", daemon=True).start()

    def submit(self, call: Call) -> None:
        """Let the jobs of a call run; its future tells how they end."""
        with self._wake:
            self.require_running()
            self._calls.add(call)
        call.future.add_done_callback(lambda _: self._calls.discard(call))
        self.tell(lambda: self._scheduler.submit(call))

    def tell(self, action: Callable[[], None]) -> None:
        """Have the thread do something between two batches."""
        with self._wake:
            self._inbox.append(action)
            self._wake.notify()

    def require_running(self) -> None:
        """`DecodeError` where the worker was stopped or is broken."""
        if self._end is not None:
            raise DecodeError(self._end)

    def stop(self) -> None:
        """Fail what is under way, free the model, and return when that is done."""
        with self._wake:
            self._end = self._end or "this model was closed; load it again"
            self._wake.notify()
        self._stopped.wait(self._stall)

    def _run(self) -> None:
        while (end := self._end) is None:
            self._attend()
            if self._scheduler.busy:
                self._guarded(self._scheduler.step)
        self._fail(DecodeError(end))
        self._scheduler.reset()
        self._free()
        self._stopped.set()

    def _attend(self) -> None:
        with self._wake:
            while not (self._inbox or self._end or self._scheduler.busy):
                self._wake.wait()
            actions = list(self._inbox)
            self._inbox.clear()
        for action in actions:
            self._guarded(action)

    def _guarded(self, action: Callable[[], None]) -> None:
        self._began = time.monotonic()
        try:
            action()
        except RlmError as error:
            self._give_up(error)
        except Exception as error:  # noqa: BLE001  whatever it is, nobody may wait for ever
            self._give_up(DecodeError(f"the engine failed ({type(error).__name__}: {error}); report this"))
        self._began = None

    def _give_up(self, error: RlmError) -> None:
        """What is in the context cannot be relied on any more: tell all callers, and begin anew."""
        self._fail(error)
        self._scheduler.reset()

    def _fail(self, error: RlmError) -> None:
        for call in list(self._calls):
            call.fail(error)

    def _watch(self) -> None:
        while not self._stopped.wait(_LOOKS):
            began = self._began
            if began is not None and time.monotonic() - began > self._stall:
                self._end = (
                    f"one batch took more than {self._stall:g} seconds; load a smaller model, or again"
                )
                self._fail(DecodeError(self._end))
                return
