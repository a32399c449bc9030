"""LangChain's retrievers as retrievers, and a search as the call of a tool, bounded like one."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever

from rlm_agent.retrieval.protocols import Passage, Retriever
from rlm_agent.structure.errors import InputError
from rlm_agent.structure.ids import fingerprint
from rlm_agent.tools.calling import in_thread

_OWN = BaseRetriever._aget_relevant_documents
_NAMES = ("source", "title", "id")
_SIMPLE = (str, int, float, bool, type(None))


class Search:
    """The search for some queries as the call of a tool; `found` holds, in the end, what each came to.

    It raises `TypeError` where the retriever returns anything but a list of passages for each query.
    """

    name = "search"
    description = "Searches."
    idempotent = True

    def __init__(self, retriever: Retriever, queries: Sequence[str], k: int) -> None:
        self.found: list[list[Passage]] = []
        self._retriever, self._queries, self._k = retriever, list(queries), k

    def call(self, argument: str) -> object:
        """See `Tool`."""
        return self._take(self._retriever.search(self._queries, self._k))

    async def acall(self, argument: str) -> object:
        """See `Tool`."""
        return self._take(await self._retriever.asearch(self._queries, self._k))

    def _take(self, answers: object) -> str:
        found = [_passages(answer, self._k) for answer in _each(answers, len(self._queries) + 1)]
        if len(found) != len(self._queries):
            raise TypeError(f"the retriever answered {len(found)} of {len(self._queries)} queries")
        self.found = found
        return "found"


@dataclass(frozen=True, slots=True)
class WrappedRetriever:
    """A LangChain retriever that answers several queries, one after the other, or, awaited, side by side.

    Its identity is its type and name; what is indexed in it is not looked into.
    """

    retriever: BaseRetriever

    @property
    def identity(self) -> str:
        """See `Retriever`."""
        kind = type(self.retriever)
        return f"{kind.__module__}.{kind.__qualname__}:{self.retriever.get_name()}"

    def search(self, queries: Sequence[str], k: int) -> list[list[Passage]]:
        """See `Retriever`; its order is the ranking, and the scores are made of it."""
        return [_ranked(self.retriever.invoke(query), k) for query in queries]

    async def asearch(self, queries: Sequence[str], k: int) -> list[list[Passage]]:
        """See `Retriever`. LangChain's own threads cannot be given up, so that ours are taken instead."""
        if type(self.retriever)._aget_relevant_documents is _OWN:
            found: Any = await in_thread(lambda: self.search(queries, k))
            return list(found)
        answers = await asyncio.gather(*(self.retriever.ainvoke(query) for query in queries))
        return [_ranked(answer, k) for answer in answers]


def as_retriever(thing: Any) -> Retriever:
    """A `Retriever` of a retriever or of LangChain's `BaseRetriever`; `InputError` for anything else."""
    if isinstance(thing, Retriever) and not isinstance(thing, type):
        return thing
    if isinstance(thing, BaseRetriever):
        return WrappedRetriever(thing)
    raise InputError(f"{type(thing).__name__} is no retriever; give a Retriever or a LangChain BaseRetriever")


def _ranked(documents: object, k: int) -> list[Passage]:
    """Documents as passages, the first of the highest score."""
    return [_passage(document, 1 / rank) for rank, document in enumerate(islice(_each(documents, k), k), 1)]


def _passage(document: object, score: float) -> Passage:
    if not isinstance(document, Document):
        raise TypeError(f"the retriever returned {type(document).__name__}, which is no document")
    plain = {key: value for key, value in document.metadata.items() if isinstance(value, _SIMPLE)}
    source = next((str(plain[name]) for name in _NAMES if plain.get(name)), document.id or "")
    if plain.get("page") is not None:
        source = f"{source}, page {plain['page']}"
    id = document.id or fingerprint(source, document.page_content)
    return Passage(id, document.page_content, source, score, plain)


def _passages(answer: object, k: int) -> list[Passage]:
    """What a query came to, if it is passages; more than `k` are left."""
    found = list(_each(answer, k))
    for one in found:
        if not isinstance(one, Passage) or not all(isinstance(part, str) for part in _parts(one)):
            raise TypeError(f"the retriever returned {type(one).__name__}, which is no passage")
    return found


def _each(thing: object, most: int) -> list[Any]:
    """The first members of a list, or of something like one; `TypeError` for anything else."""
    if not isinstance(thing, Iterable) or isinstance(thing, str | bytes | Mapping):
        raise TypeError(f"the retriever returned {type(thing).__name__}, which is no list")
    return list(islice(thing, most))


def _parts(passage: Passage) -> tuple[object, object]:
    return passage.text, passage.source
