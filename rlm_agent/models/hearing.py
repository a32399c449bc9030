"""Text that is read while it is written: what of it is sure already."""

import codecs
from collections.abc import Sequence
from typing import AnyStr


class Text:
    """Bytes as text, as far as it is sure: whole letters, and no beginning of what would stop it."""

    def __init__(self, stops: Sequence[str] = ()) -> None:
        self.stopped_by: str | None = None
        self._stops = [stop for stop in stops if stop]
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._held = ""

    def feed(self, piece: bytes, *, final: bool = False) -> str:
        """What is sure with one more piece; nothing behind a stop."""
        if self.stopped_by is not None:
            return ""
        self._held += self._decode(piece, final)
        if (found := first_stop(self._held, self._stops)) is not None:
            end, self.stopped_by = found
        else:
            end = len(self._held) - (0 if final else begun(self._held, self._stops))
        sure, self._held = self._held[:end], self._held[end:]
        return sure


def first_stop(text: AnyStr, stops: Sequence[AnyStr]) -> tuple[int, AnyStr] | None:
    """Where the first stop begins that is complete, and which it is; the longest of those that end there.

    The first to end, not the first to begin: so it is the same one however the text came in pieces.
    """
    found = [(at + len(stop), at, stop) for stop in stops if (at := text.find(stop)) >= 0]
    return min(found)[1:] if found else None


def begun(text: str, marks: Sequence[str]) -> int:
    """How many letters at the end of `text` may be the beginning of a mark."""
    longest = max(map(len, marks), default=1) - 1
    for count in range(min(longest, len(text)), 0, -1):
        if any(mark.startswith(text[-count:]) for mark in marks):
            return count
    return 0
