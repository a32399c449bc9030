"""How many threads a batch gets: all that were chosen, or one for a while when others need the cores.

The threads of a batch wait for each other some hundred times in it, spinning. Where another process takes a
core, a batch of a millisecond may so take two hundred, and one thread alone is far ahead of several.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_FORGIVEN = 2.0
"""Times of what is typical that a batch may take before it counts as held up."""

_DRAIN = 0.5
"""How much of the typical time each batch makes good of what was lost."""

_BEARABLE = 0.03
"""Seconds that may be lost, beside one typical batch, before threads are given up."""

_RISE, _FALL = 1 / 256, 1 / 16
"""How far a batch moves the typical time; what is slow for a while shall not pass for typical."""

_SHORTEST, _LONGEST = 1.0, 32.0
"""Seconds with one thread; doubled as long as the cores turn out to be busy still."""


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Pace:
    """Gives batches `most` threads through `use`, and one while that is faster; `clock` counts seconds."""

    def __init__(
        self, most: int, use: Callable[[int], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most = most
        self._use = use
        self._clock = clock
        self._typical: dict[int, float] = {}
        self._lost = 0.0
        self._returned = float("-inf")
        self._pause = _SHORTEST
        self._until: float | None = None

    @contextmanager
    def batch(self, rows: int) -> Iterator[None]:
        """Compute a batch of so many rows inside."""
        began = self._clock()
        if self._until is not None and began >= self._until:
            self._return(began)
        yield
        if self._until is None:
            self._judge(rows.bit_length(), began, self._clock())

    def _judge(self, size: int, began: float, ended: float) -> None:
        """Count what was lost against the typical time of batches of about this size."""
        seconds = ended - began
        typical = self._typical.setdefault(size, seconds)
        bearable = _FORGIVEN * typical
        self._lost = max(0.0, self._lost + max(0.0, seconds - bearable) - _DRAIN * typical)
        moved = min(seconds, bearable) - typical
        self._typical[size] = typical + moved * (_RISE if moved > 0 else _FALL)
        if self._lost > _BEARABLE + typical:
            self._give_way(ended)

    def _give_way(self, now: float) -> None:
        soon = now - self._returned < self._pause
        self._pause = min(2 * self._pause, _LONGEST) if soon else _SHORTEST
        self._until = now + self._pause
        self._use(1)

    def _return(self, now: float) -> None:
        self._until = None
        self._lost = 0.0
        self._returned = now
        self._use(self._most)
