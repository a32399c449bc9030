"""Reranking: a cross-encoder reads a query and a passage together, and judges better than vectors can."""

import threading
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Protocol

from rlm_agent.retrieval.embeddings import load_quietly, weights_hash
from rlm_agent.retrieval.extras import needed
from rlm_agent.retrieval.protocols import Passage


class Reranker(Protocol):
    """Scores passages for a query."""

    @property
    def identity(self) -> str:
        """What decides its scores."""

    def score(self, query: str, texts: Sequence[str]) -> Sequence[float]:
        """One score a text, higher for better ones."""


class CrossEncoderReranker:
    """A cross-encoder of sentence-transformers (Nogueira and Cho, arXiv 1901.04085), with one output.

    `model` is a folder or the name of a model, loaded as `SentenceTransformerEmbeddings` loads its own.
    """

    def __init__(
        self,
        model: str | Path,
        *,
        batch_size: int = 32,
        device: str | None = None,
        download: bool = False,
    ) -> None:
        self._batch_size = batch_size
        self._lock = threading.Lock()
        library = needed("sentence_transformers")
        self._model = load_quietly(library.CrossEncoder, model, device, download)

    @cached_property
    def identity(self) -> str:
        """A hash of the weights."""
        return f"cross-encoder:{weights_hash(self._model)}"

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
