"""What a model writes, read while it is written: text, and calls of tools.

A grammar holds calls to the form that `call_grammar` forces, so that their beginning and their end are known
at the very token; see there for the forms.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from rlm_agent.models.gguf.toolcalls import Style
from rlm_agent.models.hearing import begun

Calls = Literal["none", "auto", "forced", "first"]
"""No calls; text that may end in calls; calls alone; calls or else text, as the first letters decide."""


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of text, or of the arguments of the call of that `index`, whose first piece has its `name`."""

    text: str
    index: int | None = None
    name: str | None = None


class Reader:
    """Reads what a model writes in a `style`, piece by piece."""

    def __init__(self, calls: Calls, style: Style) -> None:
        self.complete = 0
        self._style = style
        self._calls = calls
        self._held = ""
        self._index = -1
        self._head = re.compile(rf'\{{"name": "([^"]+)", "{re.escape(style.arguments)}": ')
        self._arguments: _Arguments | None = None
        self._seeks = calls == "forced"
        self._begins = calls == "first" or (calls == "auto" and style.bare)

    def feed(self, text: str) -> Iterator[Part]:
        """What has become clear by some more text."""
        self._held += text
        before = None
        while self._held and before != (before := self._state()):
            yield from self._step()

    def end(self) -> Iterator[Part]:
        """What is left. A call that was broken off gets an end that no parser takes for one."""
        if self._arguments is not None:
            yield Part(self._arguments.spoiled(), self._index)
        elif self._seeks and "{" in self._held:
            opened = self._held[self._held.index("{") :]
            yield Part(opened + _Arguments(opened).spoiled(), self._index + 1, "")
        elif not self._seeks and self._held:
            yield Part(self._held)
        self._held = ""

    def _state(self) -> tuple[object, ...]:
        return self._held, self._arguments, self._seeks, self._begins

    def _step(self) -> Iterator[Part]:
        if self._arguments is not None:
            yield from self._argue(self._arguments)
        elif self._seeks:
            yield from self._seek()
        elif self._begins:
            self._begin()
        else:
            yield from self._pass()

    def _begin(self) -> None:
        """Decide by the first letters whether calls follow."""
        rest, opening = self._held.lstrip(), self._style.opening
        if rest.startswith(opening) or (self._calls == "auto" and rest.startswith("{")):
            self._seeks, self._begins = True, False
        elif rest and not opening.startswith(rest):
            self._begins = False

    def _pass(self) -> Iterator[Part]:
        """Text is passed on, up to the opening of a call."""
        opening, held = self._style.opening, self._held
        looks = self._calls == "auto"
        at = held.find(opening) if looks else -1
        end = at if at >= 0 else len(held) - (begun(held, [opening]) if looks else 0)
        if end:
            yield Part(held[:end])
        self._seeks = at >= 0
        self._held = held[end + len(opening) :] if at >= 0 else held[end:]

    def _seek(self) -> Iterator[Part]:
        """Nothing but the beginning of a call can come, and what stands between two."""
        if found := self._head.search(self._held):
            self._index += 1
            self._held = self._held[found.end() :]
            self._arguments = _Arguments()
            yield Part("", self._index, found[1])

    def _argue(self, arguments: "_Arguments") -> Iterator[Part]:
        end = arguments.read(self._held)
        yield Part(self._held[:end], self._index)
        self._held = self._held[end:]
        if arguments.ended:
            self.complete += 1
            self._arguments = None


class _Arguments:
    """How far a JSON object has come."""

    def __init__(self, begun: str = "") -> None:
        self.ended = False
        self._open: list[str] = []
        self._string = self._escaped = False
        self.read(begun)

    def read(self, text: str) -> int:
        """How much of `text` belongs to the object."""
        for at, letter in enumerate(text):
            self._take(letter)
            if self.ended:
                return at + 1
        return len(text)

    def _take(self, letter: str) -> None:
        if self._string:
            self._string = self._escaped or letter != '"'
            self._escaped = not self._escaped and letter == "\\"
        elif letter == '"':
            self._string = True
        elif letter in "{[":
            self._open.append("]" if letter == "{" else "}")
        elif letter in "}]":
            self._open.pop()
            self.ended = not self._open

    def spoiled(self) -> str:
        """Letters that make what was read no JSON.

        LangChain completes arguments that were broken off, and an agent would act on half of them.
        """
        quote = ('\\"' if self._escaped else '"') if self._string else ""
        return quote + (self._open[-1] if self._open else "}")
