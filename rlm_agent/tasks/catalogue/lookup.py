"""A retriever over the shipped collection, by words alone."""

import asyncio
from collections.abc import Sequence
from functools import cache

from rlm_agent.retrieval.chunks import chunk_id
from rlm_agent.retrieval.lexical import LexicalIndex, make_lexical
from rlm_agent.retrieval.protocols import Passage
from rlm_agent.structure.ids import fingerprint
from rlm_agent.tasks.catalogue.collection import collection, document_of, line_of


class CatalogueRetriever:
    """BM25 over the products of the collection, a passage each.

    The index is made when it is first asked, once a process. Raises `MissingExtraError` without bm25s then.
    """

    @property
    def identity(self) -> str:
        """See `Retriever`."""
        return f"bm25:{fingerprint([line_of(one) for one in collection()])}"

    def search(self, queries: Sequence[str], k: int) -> list[list[Passage]]:
        """See `Retriever`."""
        return [_found(query, k) for query in queries]

    async def asearch(self, queries: Sequence[str], k: int) -> list[list[Passage]]:
        """See `Retriever`; in a thread."""
        return await asyncio.to_thread(self.search, queries, k)


@cache
def _index() -> LexicalIndex:
    return make_lexical(enumerate(map(line_of, collection())))


def _found(query: str, k: int) -> list[Passage]:
    rows, scores = _index().search(query, k)
    return [_passage(row, score) for row, score in zip(rows.tolist(), scores.tolist(), strict=True)]


def _passage(row: int, score: float) -> Passage:
    one = collection()[row]
    text, source = line_of(one), document_of(one)
    return Passage(chunk_id(text, source), text, source, score, {"year": one.year, "kind": one.kind})
