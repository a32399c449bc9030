"""Reranking: a cross-encoder reads a query and a passage together, and judges better than vectors can."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Protocol

from rlm_agent.retrieval.local import LocalModel
from rlm_agent.retrieval.protocols import Passage


class Reranker(Protocol):
    """Scores passages for a query."""

    @property
    def identity(self) -> str:
        """What decides its scores."""

    def score(self, query: str, texts: Sequence[str]) -> Sequence[float]:
        """One score a text, higher for better ones."""


class CrossEncoderReranker(LocalModel):
    """A cross-encoder of sentence-transformers (Nogueira and Cho, arXiv 1901.04085), with one output.

    It is loaded as `LocalModel` says.
    """

    kind = "CrossEncoder"

    @cached_property
    def identity(self) -> str:
        """A hash of the weights."""
        return f"cross-encoder:{self._hash()}"

    def score(self, query: str, texts: Sequence[str]) -> list[float]:
        """See `Reranker`."""
        if not texts:
            return []
        with self._lock:
            scores = self._model.predict(
                [(query, text) for text in texts], batch_size=self._batch_size, show_progress_bar=False
            )
        return [float(score) for score in scores]


def rerank(reranker: Reranker, query: str, passages: Sequence[Passage], k: int) -> list[Passage]:
    """The best `k` passages by a reranker's scores, best first; equal ones stay in the order they came in."""
    scores = reranker.score(query, [passage.text for passage in passages])
    scored = [replace(passage, score=score) for passage, score in zip(passages, scores, strict=True)]
    return sorted(scored, key=lambda passage: -passage.score)[:k]
