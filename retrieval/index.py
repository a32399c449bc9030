"""An index of documents: a store, and what is derived from it to search by meaning, by words, or by both."""

import asyncio
import hashlib
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from langchain_core.embeddings import Embeddings

from rlm_agent.retrieval.adding import Change, delete, put
from rlm_agent.retrieval.chunks import Chunk, Pieces
from rlm_agent.retrieval.embeddings import embed_queries, embed_texts, identity_of, normalised
from rlm_agent.retrieval.filters import Filter
from rlm_agent.retrieval.protocols import Passage
from rlm_agent.retrieval.rerank import Reranker, rerank
from rlm_agent.retrieval.searching import Mode, Searcher
from rlm_agent.retrieval.store import Store
from rlm_agent.retrieval.vectors import Sizes, Vectors
from rlm_agent.retrieval.views import Progress, quiet
from rlm_agent.structure.errors import IndexFileError, IndexMismatchError, InputError

STORE = "store.sqlite3"


class DocumentIndex:
    """Chunks of documents in a folder, or in memory, that can be searched. A `Retriever`.

    `embeddings` is any of LangChain's, or None for an index of words alone. `mode` is how queries are
    answered: by `vector`, by cosine; `lexical`, by BM25; or `hybrid`, by both rankings fused, which is the
    default where there are embeddings. With a `reranker`, it orders what was found.

    What a method has acknowledged by returning outlives a crash. Threads may share an index, and processes a
    folder: writers take turns, readers see every write once it is done. Raises `IndexFileError` where the
    folder holds a damaged index or none of ours, `IndexMismatchError` where it was built with another
    embedding model.
    """

    def __init__(
        self,
        folder: str | Path | None = None,
        embeddings: Embeddings | None = None,
        *,
        mode: Mode | None = None,
        reranker: Reranker | None = None,
        sizes: Sizes | None = None,
        batch_size: int = 256,
        progress: Progress = quiet,
    ) -> None:
        self.embeddings = embeddings
        self.mode = self._mode(mode or ("hybrid" if embeddings else "lexical"))
        self._reranker, self._sizes = reranker, sizes or Sizes()
        self._batch_size, self.progress = batch_size, progress
        self.store = Store(_place(folder))
        self._searcher = Searcher(self.store, self._sizes, progress)
        try:
            self._check_model()
        except BaseException:
            self.close()
            raise

    # Writing.

    def put(self, chunks: Iterable[Chunk]) -> Change:
        """Add chunks, or replace those of the same ids; all of them, or none where it raises."""
        return put(self.store, self._embed if self.embeddings else None, chunks)

    def put_documents(self, documents: Sequence[Pieces]) -> Change:
        """Add documents, or replace all of theirs that has changed; all of them, or none where it raises."""
        return put(self.store, self._embed if self.embeddings else None, (), documents)

    def delete(self, ids: Iterable[str] = (), documents: Iterable[str] = ()) -> Change:
        """Delete chunks by id and documents by name; what is unknown is passed over."""
        return delete(self.store, ids, documents)

    def settle(self) -> None:
        """Bring up to date now what searches of this mode need, so that the next one need not."""
        self._searcher.follow(self.mode)

    # Reading.

    @property
    def identity(self) -> str:
        """A hash of the contents and of how they are searched."""
        with self.store.reading():
            contents = self.store.get("fingerprint")
        reranker = self._reranker.identity if self._reranker else None
        told = (contents, identity_of(self.embeddings), self.mode, self._sizes, reranker)
        return f"index:{hashlib.sha256(repr(told).encode()).hexdigest()[:16]}"

    def __len__(self) -> int:
        with self.store.reading():
            return self.store.count()

    def search(
        self, queries: Sequence[str], k: int = 4, *, filter: Filter | None = None, mode: Mode | None = None
    ) -> list[list[Passage]]:
        """For each query at most `k` passages, best first.

        Scores are cosines, BM25, sums of reciprocal ranks or the reranker's, by how they were found. `filter`
        is over metadata (`rlm_agent.retrieval.filters`).
        """
        mode = self._mode(mode or self.mode)
        _check_k(k)
        pool = max(5 * k, 50) if self._reranker else k
        vectors: Sequence[Vectors] = [np.zeros(0, np.float32)] * len(queries)
        if mode != "lexical" and self.embeddings is not None and queries:
            vectors = list(embed_queries(self.embeddings, queries))
        found = self._searcher.passages(queries, vectors, pool, filter, mode)
        if self._reranker is None:
            return found
        return [rerank(self._reranker, query, one, k) for query, one in zip(queries, found, strict=True)]

    async def asearch(
        self, queries: Sequence[str], k: int = 4, *, filter: Filter | None = None, mode: Mode | None = None
    ) -> list[list[Passage]]:
        """As `search`, in a thread."""
        return await asyncio.to_thread(partial(self.search, queries, k, filter=filter, mode=mode))

    def search_vector(
        self, vector: Sequence[float], k: int = 4, *, filter: Filter | None = None
    ) -> list[tuple[Passage, Vectors]]:
        """At most `k` passages by their cosines with a vector, best first, and their own vectors."""
        _check_k(k)
        return self._searcher.neighbours(normalised([vector], 1)[0], k, filter)

    def get(self, ids: Sequence[str]) -> list[Chunk]:
        """Chunks by id, in the order asked for; unknown ones are left out."""
        with self.store.reading():
            chunks = self.store.by_ids(ids)
        return [chunks[id] for id in ids if id in chunks]

    def all_ids(self) -> list[str]:
        """The ids of all chunks, in the order in which they were stored."""
        with self.store.reading():
            return self.store.all_ids()

    def close(self) -> None:
        """Close the store."""
        self.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _mode(self, mode: Mode) -> Mode:
        if mode not in ("vector", "lexical", "hybrid"):
            raise InputError(f"there is no mode {mode!r}; use vector, lexical or hybrid")
        if self.embeddings is None and mode != "lexical":
            raise InputError(f"an index without embeddings cannot be searched by {mode}; give it embeddings")
        return mode

    def _embed(self, texts: Sequence[str]) -> Vectors:
        assert self.embeddings is not None
        blocks = []
        for start in range(0, len(texts), self._batch_size):
            blocks.append(embed_texts(self.embeddings, texts[start : start + self._batch_size]))
            self.progress("embedding", min(start + self._batch_size, len(texts)), len(texts))
        return np.concatenate(blocks)

    def _check_model(self) -> None:
        """Note the embedding model of a new index, and refuse another one."""
        mine = identity_of(self.embeddings)
        with self.store.writing() as writer:
            theirs = self.store.get("embeddings")
            if theirs is None:
                writer.put("embeddings", theirs := mine)
        if theirs != mine:
            raise IndexMismatchError(
                f"{self.store.path or 'the index'} was built with the embedding model {theirs}, "
                f"not with {mine}; use that model, or build the index again in another folder"
            )


def _place(folder: str | Path | None) -> Path | None:
    """The file of a store in a folder, which is made where it is missing."""
    if folder is None:
        return None
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise IndexFileError(f"{folder} cannot be made ({error.strerror}); name another folder") from error
    return Path(folder) / STORE


def _check_k(k: int) -> None:
    if k < 1:
        raise InputError(f"k is {k}; ask for one passage or more")
