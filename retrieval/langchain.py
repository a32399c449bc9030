"""The index as LangChain's `VectorStore` and `BaseRetriever`."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import repeat
from typing import Any, Self

import numpy as np
from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.retrievers import BaseRetriever
from langchain_core.vectorstores import VectorStore
from langchain_core.vectorstores.utils import maximal_marginal_relevance
from pydantic import ConfigDict

from rlm_agent.retrieval.chunks import Chunk, chunk_id, plain_json
from rlm_agent.retrieval.filters import Filter
from rlm_agent.retrieval.index import DocumentIndex
from rlm_agent.retrieval.protocols import Passage
from rlm_agent.retrieval.searching import Mode
from rlm_agent.structure.errors import InputError


class IndexVectorStore(VectorStore):
    """An index that has embeddings, as a vector store; searches are by cosine, unless `mode` says otherwise.

    Methods take a `filter` over metadata (`rlm_agent.retrieval.filters`). The asynchronous ones are
    LangChain's: they run the others in a thread.
    """

    def __init__(self, index: DocumentIndex) -> None:
        if index.embeddings is None:
            raise InputError("a vector store has embeddings; give them to the index")
        self.index = index

    @property
    def embeddings(self) -> Embeddings:
        """The index's."""
        assert self.index.embeddings is not None
        return self.index.embeddings

    @classmethod
    def from_texts(
        cls,
        texts: list[str],
        embedding: Embeddings,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        **kwargs: Any,
    ) -> Self:
        """A store of texts; `kwargs` are `DocumentIndex`'s, such as its `folder`."""
        store = cls(DocumentIndex(kwargs.pop("folder", None), embedding, **kwargs))
        store.add_texts(texts, metadatas, ids=ids)
        return store

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """Add texts, or replace those of the same ids; a text without an id gets one that follows from it and
        its metadata. The source is the metadata's `source`, if it is a text. Returns the ids.
        """
        given = list(texts)
        for listed in (metadatas, ids):
            if listed is not None and len(listed) != len(given):
                raise InputError(f"there are {len(given)} texts and {len(listed)} of what goes with them")
        chunks = [
            _chunk(text, metadata or {}, id)
            for text, metadata, id in zip(given, metadatas or repeat({}), ids or repeat(None), strict=False)
        ]
        self.index.put(chunks)
        return [chunk.id for chunk in chunks]

    def delete(self, ids: list[str] | None = None, **kwargs: Any) -> bool:
        """Delete by id, or everything where no ids are given; unknown ones are passed over."""
        self.index.delete(self.index.all_ids() if ids is None else ids)
        return True

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """The documents of these ids, in their order; unknown ones are left out."""
        return [
            Document(chunk.text, id=chunk.id, metadata=dict(chunk.metadata)) for chunk in self.index.get(ids)
        ]

    def similarity_search(
        self, query: str, k: int = 4, *, filter: Filter | None = None, mode: Mode = "vector", **kwargs: Any
    ) -> list[Document]:
        """At most `k` documents, best first."""
        return [found for found, _ in self.similarity_search_with_score(query, k, filter=filter, mode=mode)]

    def similarity_search_with_score(
        self, query: str, k: int = 4, *, filter: Filter | None = None, mode: Mode = "vector", **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """At most `k` documents with their scores, best first; cosines, unless `mode` is another one."""
        (passages,) = self.index.search([query], k, filter=filter, mode=mode)
        return [(_document(passage), passage.score) for passage in passages]

    def similarity_search_by_vector(
        self, embedding: list[float], k: int = 4, *, filter: Filter | None = None, **kwargs: Any
    ) -> list[Document]:
        """At most `k` documents by their cosines with a vector, best first."""
        return [_document(passage) for passage, _ in self.index.search_vector(embedding, k, filter=filter)]

    def max_marginal_relevance_search(
        self, query: str, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **kwargs: Any
    ) -> list[Document]:
        """`k` of the best `fetch_k` that differ from each other (Carbonell and Goldstein, SIGIR 1998)."""
        vector = self.embeddings.embed_query(query)
        return self.max_marginal_relevance_search_by_vector(vector, k, fetch_k, lambda_mult, **kwargs)

    def max_marginal_relevance_search_by_vector(
        self,
        embedding: list[float],
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        *,
        filter: Filter | None = None,
        **kwargs: Any,
    ) -> list[Document]:
        """As `max_marginal_relevance_search`, for a vector; `lambda_mult` of 1 looks at similarity alone."""
        found = self.index.search_vector(embedding, max(fetch_k, k), filter=filter)
        query = np.array(embedding, np.float32)
        chosen = maximal_marginal_relevance(query, [list(vector) for _, vector in found], lambda_mult, k)
        return [_document(found[at][0]) for at in chosen]

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        """Cosines, from −1 to 1, as relevance from 0 to 1."""
        return lambda cosine: min(max((1 + cosine) / 2, 0.0), 1.0)


class IndexRetriever(BaseRetriever):
    """An index as a retriever: `k` documents a query, found by the index's mode or by another one.

    Metadata say with `source` where a document comes from, if they do not anyway. `k` and `filter` may be
    given to `invoke`, too.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    index: DocumentIndex
    k: int = 4
    filter: dict[str, Any] | None = None
    mode: Mode | None = None

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, **kwargs: Any
    ) -> list[Document]:
        (passages,) = self.index.search([query], **self._asked(**kwargs))
        return list(_sourced(passages))

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, **kwargs: Any
    ) -> list[Document]:
        (passages,) = await self.index.asearch([query], **self._asked(**kwargs))
        return list(_sourced(passages))

    def _asked(self, **given: Any) -> dict[str, Any]:
        return {"k": self.k, "filter": self.filter, "mode": self.mode, **given}


def _chunk(text: str, metadata: dict[str, Any], id: str | None) -> Chunk:
    source = metadata.get("source")
    made = id or chunk_id(text, plain_json(metadata))
    return Chunk(made, text, source if isinstance(source, str) else made, metadata)


def _document(passage: Passage) -> Document:
    return Document(passage.text, id=passage.id, metadata=dict(passage.metadata))


def _sourced(passages: Iterable[Passage]) -> Iterator[Document]:
    for passage in passages:
        metadata = {"source": passage.source, **passage.metadata}
        yield Document(passage.text, id=passage.id, metadata=metadata)
