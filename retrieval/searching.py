"""Answering queries from a store and the indexes that follow it."""

from collections.abc import Sequence
from typing import Literal

from rlm_agent.retrieval.filters import Filter
from rlm_agent.retrieval.fusion import reciprocal_rank_fusion
from rlm_agent.retrieval.protocols import Passage
from rlm_agent.retrieval.snapshots import Snapshots
from rlm_agent.retrieval.store import Store
from rlm_agent.retrieval.vectors import Rows, Sizes, Vectors
from rlm_agent.retrieval.views import LexicalView, Progress, VectorView
from rlm_agent.structure.errors import IndexMismatchError

Mode = Literal["vector", "lexical", "hybrid"]

Ranking = Sequence[tuple[int, float]]
"""Rows and scores, best first."""


class Searcher:
    """Rankings of a store's chunks, by one mode or another."""

    def __init__(self, store: Store, sizes: Sizes, progress: Progress) -> None:
        self._store, self._progress = store, progress
        snapshots = Snapshots(store)
        self._vectors = VectorView(store, snapshots, sizes)
        self._lexical = LexicalView(store, snapshots)

    def follow(self, mode: Mode) -> None:
        """Bring up to date what a mode needs."""
        with self._store.lock:
            with self._store.reading():
                dimension = self._store.dimension()
            if mode != "lexical" and dimension:
                self._vectors.follow(dimension, self._progress)
            if mode != "vector":
                self._lexical.follow(self._progress)

    def passages(
        self, queries: Sequence[str], vectors: Sequence[Vectors], k: int, wanted: Filter | None, mode: Mode
    ) -> list[list[Passage]]:
        """At most `k` passages a query; `vectors` are the queries', and not used where words alone are."""
        with self._store.lock:
            self.follow(mode)
            with self._store.reading():
                keep = None if wanted is None else self._store.matching(wanted)
                return [
                    self._passages(self._rank(query, vector, k, keep, mode))
                    for query, vector in zip(queries, vectors, strict=True)
                ]

    def neighbours(self, vector: Vectors, k: int, wanted: Filter | None) -> list[tuple[Passage, Vectors]]:
        """At most `k` passages by their cosines with a vector, and their own vectors."""
        with self._store.lock:
            self.follow("vector")
            with self._store.reading():
                keep = None if wanted is None else self._store.matching(wanted)
                ranking = self._by_vector(vector, k, keep)
                held = self._store.vectors([row for row, _ in ranking])
                ranking = [pair for pair in ranking if pair[0] in held]
                return list(zip(self._passages(ranking), (held[row] for row, _ in ranking), strict=True))

    def _rank(self, query: str, vector: Vectors, k: int, keep: Rows | None, mode: Mode) -> Ranking:
        if mode == "vector":
            return self._by_vector(vector, k, keep)
        if mode == "lexical":
            return self._by_words(query, k, keep)
        pool = max(4 * k, 50)  # what is in the first k of neither ranking may be among the first k of both
        rankings = (self._by_vector(vector, pool, keep), self._by_words(query, pool, keep))
        return reciprocal_rank_fusion([[row for row, _ in ranking] for ranking in rankings])[:k]

    def _by_vector(self, vector: Vectors, k: int, keep: Rows | None) -> Ranking:
        dimension = self._store.dimension()
        if not dimension:
            return []
        if dimension != len(vector):
            raise IndexMismatchError(
                f"the index holds vectors of {dimension} dimensions and the query has {len(vector)}; "
                "use the embedding model that it was built with"
            )
        return _pairs(*self._vectors.search(vector, k, keep))

    def _by_words(self, query: str, k: int, keep: Rows | None) -> Ranking:
        return _pairs(*self._lexical.search(query, k, keep))

    def _passages(self, ranking: Ranking) -> list[Passage]:
        chunks = self._store.chunks([row for row, _ in ranking])
        return [
            Passage(chunk.id, chunk.text, chunk.source, score, chunk.metadata)
            for row, score in ranking
            if (chunk := chunks.get(row)) is not None
        ]


def _pairs(rows: Rows, scores: Vectors) -> Ranking:
    return list(zip(rows.tolist(), scores.tolist(), strict=True))
