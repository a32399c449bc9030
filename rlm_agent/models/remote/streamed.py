"""A streamed answer: told as it comes, and tried again where it breaks off."""

from collections.abc import Callable
from typing import Any

from rlm_agent.models.protocols import Completion, Piece
from rlm_agent.models.remote.wire import Ask, Dialect, Heard
from rlm_agent.structure.errors import UnansweredError


class Given:
    """What a listener was told of a request, over all its tries: a new try may only go on from there."""

    def __init__(self, index: int, emit: Callable[[Piece], None] | None) -> None:
        self._index = index
        self._emit = emit
        self._said = ""

    def tell(self, text: str) -> None:
        """All of a text that is sure so far; `UnansweredError` where something else was told before."""
        if self._emit is None:
            return
        if text.startswith(self._said):
            if fresh := text[len(self._said) :]:
                self._said = text
                self._emit(Piece(self._index, fresh))
        elif not self._said.startswith(text):
            raise UnansweredError("a stream broke off, and its repetition says something else; ask again")


class Stream:
    """Hears one try of a request; see `Hearing`."""

    def __init__(self, dialect: Dialect, ask: Ask, given: Given) -> None:
        self._dialect = dialect
        self._ask = ask
        self._given = given
        self._heard = Heard.of(ask)
        self._sure = ""

    def add(self, event: Any) -> bool:
        """Take an event. Behind a stop nothing is wanted; behind the server's own end may come its usage."""
        stopped = False
        for part in self._dialect.parts(event, self._ask)[:1]:
            stopped = self._heard.take(part)
        self._tell(final=False)
        return stopped

    def result(self) -> Completion:
        """The completion."""
        completion = self._heard.completion(self._ask.request)
        self._tell(final=True)
        return completion

    def _tell(self, *, final: bool) -> None:
        self._sure += self._heard.text.fresh(final=final)
        self._given.tell(self._sure)
