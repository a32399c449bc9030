"""Channels that hold a growing mapping: written in place where nobody can tell, else copied.

A tree of ten thousand thoughts takes longer to copy than a round of most strategies takes, and nearly always
nobody looks at what it was before.
"""

from collections.abc import Mapping, Sequence
from sys import getrefcount
from typing import Any

from langgraph.channels import DeltaChannel

Values = dict[str, Any]


class Merge:
    """A reducer of mappings: later writes win, and a value that anybody holds stays as it is.

    The value that the last one came of is kept. Once nobody else holds it, it is brought up to date and
    becomes the next value; as long as anybody does, such as a saver that is still writing it in another
    thread, or whoever reads the stream of values, the next one is a copy. Of one series of values at a time.
    """

    __name__ = "merge"  # LangGraph asks reducers for it

    def __init__(self) -> None:
        self._last: Values | None = None
        self._before: Values = {}
        self._writes: Sequence[Mapping[str, Any]] = ()

    def __call__(self, current: Values, writes: Sequence[Mapping[str, Any]]) -> Values:
        """The `current` value with these writes, in their order."""
        if current is self._last and self._holders() == _NOBODY_ELSE:
            merged, missing = self._before, (*self._writes, *writes)
        else:
            merged, missing = dict(current), tuple(writes)
        for write in missing:
            merged.update(write)
        self._last, self._before, self._writes = merged, current, tuple(writes)
        return merged

    def _holders(self) -> int:
        """How many references there are to the value before the last."""
        return getrefcount(self._before)


_NOBODY_ELSE = Merge()._holders()
"""What is counted where there is but our own reference."""


class Growing(DeltaChannel[Values]):  # noqa: PLW1641  its base has no hash either
    """A delta channel of a mapping, which only the writes are stored of; each has a `Merge` of its own."""

    __slots__ = ()

    def __init__(self, reducer: Any, typ: Any = None, *, snapshot_frequency: int) -> None:
        super().__init__(Merge(), typ, snapshot_frequency=snapshot_frequency)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Growing) and other.snapshot_frequency == self.snapshot_frequency
