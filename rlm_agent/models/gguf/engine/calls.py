"""Calls: the jobs that one caller asks for together, and the order in which callers take turns."""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress

from rlm_agent.models.gguf.engine.jobs import Job, Result

Heard = Callable[[int, bytes], None]
"""Is told the index of a job and the bytes of a token that was drawn for it."""


class Call:
    """Some jobs of one caller; `future` gets their results, in order, when the last of them has ended.

    Cancelling the future cancels what is left of the jobs. `heard` is called in the engine's thread with the
    index of a job and the bytes of each token that is drawn for it; it has to be quick and must not raise.
    """

    def __init__(self, jobs: Sequence[Job], heard: Heard | None = None) -> None:
        self.jobs = list(jobs)
        self.heard = heard
        self.future: Future[list[Result]] = Future()
        self._results: dict[int, Result] = {}

    def finish(self, index: int, result: Result) -> None:
        """Hand in the result of a job."""
        self._results[index] = result
        if len(self._results) == len(self.jobs):
            with suppress(InvalidStateError):  # it was cancelled just now
                self.future.set_result([self._results[index] for index in range(len(self.jobs))])

    def fail(self, error: BaseException) -> None:
        """End the whole call by an error."""
        with suppress(InvalidStateError):
            self.future.set_exception(error)


Place = tuple[Call, int]
"""A call and the index of one of its jobs."""


class Queue:
    """The jobs that wait; callers take turns, job by job."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[Call, deque[int]] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, call: Call) -> None:
        """Let all jobs of a call wait."""
        if call.jobs:
            self._waiting[call] = deque(range(len(call.jobs)))

    def turns(self) -> Iterator[Place]:
        """All jobs that wait, a first one of each call, then a second one of each, and so on."""
        for call in [call for call in self._waiting if call.future.done()]:
            del self._waiting[call]
        lines = {call: list(indices) for call, indices in self._waiting.items()}
        for rank in range(max(map(len, lines.values()), default=0)):
            yield from ((call, line[rank]) for call, line in lines.items() if rank < len(line))

    def take(self, place: Place) -> None:
        """A job was admitted: its call goes to the end of the line."""
        call, index = place
        self._waiting[call].remove(index)
        self._waiting.move_to_end(call)
        if not self._waiting[call]:
            del self._waiting[call]

    def drain(self) -> list[Call]:
        """All calls that wait, which then wait no more."""
        calls = list(self._waiting)
        self._waiting.clear()
        return calls
