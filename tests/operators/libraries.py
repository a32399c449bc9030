"""Retrievers for tests: small, scripted, counted, and bad in every way."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

from rlm_agent.retrieval.protocols import Passage


class Library:
    """A retriever that answers by a table from queries to texts, best first, and keeps what it was asked.

    The i-th text of a query stands in `query/i`. `default` answers what is not in the table.
    """

    identity = "library"

    def __init__(self, texts: dict[str, list[str]] | None = None, default: Sequence[str] = ()) -> None:
        self.asked: list[tuple[tuple[str, ...], int]] = []
        self._texts, self._default = texts or {}, default

    def search(self, queries: Sequence[str], k: int) -> list[list[Passage]]:
        self.asked.append((tuple(queries), k))
        return [self._found(query)[:k] for query in queries]

    async def asearch(self, queries: Sequence[str], k: int) -> list[list[Passage]]:
        return self.search(queries, k)

    def _found(self, query: str) -> list[Passage]:
        texts = self._texts.get(query, self._default)
        return [Passage(f"{query}#{i}", text, f"{query}/{i}", 1 / (i + 1)) for i, text in enumerate(texts)]


class Bad:
    """A retriever whose answer is whatever a function makes of the queries."""

    identity = "bad"

    def __init__(self, answer: Callable[[Sequence[str], int], Any]) -> None:
        self._answer = answer

    def search(self, queries: Sequence[str], k: int) -> Any:
        return self._answer(queries, k)

    async def asearch(self, queries: Sequence[str], k: int) -> Any:
        if self._answer is hangs:
            await asyncio.sleep(20)
        return self._answer(queries, k)


def passage(text: str, source: str = "s") -> Passage:
    return Passage("id", text, source, 1.0)


def raises(queries: Sequence[str], k: int) -> Any:
    raise OSError("the index is gone")


def hangs(queries: Sequence[str], k: int) -> Any:
    time.sleep(20)


def endless(queries: Sequence[str], k: int) -> Any:
    """More passages than there are numbers."""

    def forever() -> Any:
        while True:
            yield passage("x")

    return [forever() for _ in queries]
