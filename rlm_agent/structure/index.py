"""Where thoughts of a kind are found without a walk over the graph.

An index holds nothing that does not follow from the thoughts, so that it can be made again at any time, as
after a search was loaded. While a search runs, it takes up in each round what was born in the last.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any, Generic, TypeVar

T = TypeVar("T")

Record = Mapping[str, Any]
"""A thought."""

Key = tuple[str, ...]
"""What thoughts are found by."""

ALL: Key = ("all",)
"""Of all thoughts."""

ENDS: Key = ("final",)
"""Of all thoughts that end a chain."""

_KEPT = 16
"""Searches that run on one reasoner at the same time and keep their indices."""

_KEPT_TEXTS = 64
"""Thoughts of one search whose chains' texts are kept: enough for chains that are written side by side."""


def meaning(thought: Record) -> str:
    """What a thought says: its state or, without one, its text."""
    said: str = thought.get("state", thought["text"].strip())
    return said


def state_of(thought: Record) -> str | None:
    """The state by which others may know a thought; None without one, and of a failed thought."""
    return None if thought["kind"] == "failed" else thought.get("state")


def in_state(state: str) -> Key:
    """The key of all thoughts in a state."""
    return ("state", state)


def alike_to(thought: Record) -> Key:
    """The key of a thought and its siblings that say the same."""
    return ("alike", thought["parent"] or "", thought["kind"], meaning(thought))


def asked_for(query: str) -> Key:
    """The key of the first observations of what was found for a query."""
    return ("query", query)


def answered(call: str) -> Key:
    """The key of the observations that answer a call, by its fingerprint."""
    return ("call", call)


def _keys(thought: Record) -> Iterator[Key]:
    yield ALL
    if thought["kind"] == "final":
        yield ENDS
    if "query" in thought:
        yield asked_for(thought["query"])
    for call in thought.get("called", ()):
        yield answered(call)
    if thought["kind"] == "failed":
        return
    if thought["parent"] is not None:
        yield alike_to(thought)
    if (state := state_of(thought)) is not None:
        yield in_state(state)


class Index:
    """The thoughts of one question by their keys, in the order of their birth.

    It belongs to one mapping of thoughts to which others are only ever added. `derived` holds what a strategy
    makes of them and would not make anew in each round.
    """

    def __init__(self) -> None:
        self.derived: dict[str, Any] = {}
        self._seen = 0
        self._members: set[str] = set()
        self._found: dict[Key, list[str]] = {}
        self._texts = _Chains[tuple[str, ...]]((), _behind)
        self._joined: dict[str, _Chains[str]] = {}

    def find(
        self, key: Key, root: str, thoughts: Mapping[str, Record], fresh: Mapping[str, Record]
    ) -> Sequence[str]:
        """The ids under a key in the question of `root`: of `thoughts`, and of `fresh` ones beside them."""
        self._take_up(root, thoughts)
        known = self._found.get(key, [])
        new = [id for id, thought in fresh.items() if id not in self._members and key in _keys(thought)]
        return [*known, *new] if new else known

    def texts(
        self, id: str, root: str, thoughts: Mapping[str, Record], fresh: Mapping[str, Record]
    ) -> tuple[str, ...]:
        """The texts of the steps that lead from `root` to one of `thoughts`, or of `fresh` ones beside."""
        return self._texts.of(id, root, thoughts, fresh)

    def joined(
        self, delimiter: str, id: str, root: str, thoughts: Mapping[str, Record], fresh: Mapping[str, Record]
    ) -> str:
        """The same texts as one, each with the delimiter behind it."""
        if delimiter not in self._joined:
            self._joined[delimiter] = _Chains("", partial(_joined, delimiter))
        return self._joined[delimiter].of(id, root, thoughts, fresh)

    def _take_up(self, root: str, thoughts: Mapping[str, Record]) -> None:
        born = len(thoughts) - self._seen
        if not born:
            return
        newest = reversed(thoughts if isinstance(thoughts, dict) else list(thoughts))
        for id in reversed(list(islice(newest, born))):
            thought = thoughts[id]
            if id != root and thought["parent"] not in self._members:
                continue  # of another question
            self._members.add(id)
            for key in _keys(thought):
                self._found.setdefault(key, []).append(id)
        self._seen += born


class _Chains(Generic[T]):
    """What the texts of chains add up to, from `nothing`.

    That of the thoughts which were last asked for is kept, so that a long chain is not walked down again for
    each step. Fresh thoughts may yet come to nothing: theirs is not.
    """

    def __init__(self, nothing: T, add: Callable[[T, list[str]], T]) -> None:
        self._nothing, self._add = nothing, add
        self._kept: OrderedDict[str, T] = OrderedDict()

    def of(self, id: str, root: str, thoughts: Mapping[str, Record], fresh: Mapping[str, Record]) -> T:
        """The sum for the chain that leads to a thought."""
        if id in self._kept and id not in fresh:
            self._kept.move_to_end(id)
            return self._kept[id]
        step: str | None = id
        behind, own = self._nothing, list[str]()
        while step is not None and step != root:
            if step not in fresh and (kept := self._kept.get(step)) is not None:
                behind = kept
                break
            thought = fresh[step] if step in fresh else thoughts[step]
            own.append(thought["text"])
            step = thought.get("base", thought["parent"])
        whole = self._add(behind, own[::-1]) if own else behind
        if id not in fresh:
            self._kept[id] = whole
            while len(self._kept) > _KEPT_TEXTS:
                self._kept.popitem(last=False)
        return whole


def _behind(before: tuple[str, ...], texts: list[str]) -> tuple[str, ...]:
    return before + tuple(texts)


def _joined(delimiter: str, before: str, texts: list[str]) -> str:
    return before + delimiter.join((*texts, ""))


class Indices:
    """The indices of the searches that run at the moment, by the record of their question.

    A graph that was loaded, and may have been edited, has another record of its question, if an equal one.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[int, tuple[Record, Index]] = OrderedDict()

    def of(self, question: Record) -> Index:
        """The index of the search for this very record."""
        kept = self._kept.get(id(question))
        if kept is None:
            kept = self._kept[id(question)] = question, Index()
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(id(question))
        return kept[1]
