"""Embedding models: sentence-transformers behind LangChain's interface, and what any other one is asked."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from langchain_core.embeddings import Embeddings
from numpy.typing import NDArray

from rlm_agent.retrieval.local import LocalModel
from rlm_agent.structure.errors import InputError

Vectors = NDArray[np.float32]


class SentenceTransformerEmbeddings(LocalModel, Embeddings):
    """A model of sentence-transformers, with the prompts for queries and documents that it came with.

    It is loaded as `LocalModel` says.
    """

    kind = "SentenceTransformer"

    @cached_property
    def identity(self) -> str:
        """A hash of the weights, the prompts and the longest text; where the model lies does not matter."""
        told = (sorted(self._model.prompts.items()), self._model.max_seq_length)
        return f"sentence-transformers:{self._hash(told)}"

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """One vector of length 1 a text."""
        with self._lock:
            vectors = self._model.encode_document(texts, **self._options())
        found: list[list[float]] = vectors.tolist()
        return found

    def embed_query(self, text: str) -> list[float]:
        """A vector of length 1, computed alone: in a batch its last bits depend on the other queries."""
        with self._lock:
            vectors = self._model.encode_query([text], **self._options())
        found: list[float] = vectors[0].tolist()
        return found

    def _options(self) -> dict[str, Any]:
        return {
            "batch_size": self._batch_size,
            "normalize_embeddings": True,
            "show_progress_bar": False,
            "convert_to_numpy": True,
        }


def identity_of(embeddings: Embeddings | None) -> str:
    """What an index notes of its embedding model: an `identity` of its own, or its class and model name."""
    if embeddings is None:
        return "none"
    identity = getattr(embeddings, "identity", None)
    if isinstance(identity, str):
        return identity
    names = (getattr(embeddings, attribute, None) for attribute in ("model", "model_name"))
    return ":".join([type(embeddings).__name__, *(name for name in names if isinstance(name, str))])


def embed_texts(embeddings: Embeddings, texts: Sequence[str]) -> Vectors:
    """Vectors of texts to be found, normalised; shape (n, dimension)."""
    return normalised(embeddings.embed_documents(list(texts)), len(texts))


def embed_queries(embeddings: Embeddings, queries: Sequence[str]) -> Vectors:
    """Vectors of queries, normalised; shape (n, dimension)."""
    return normalised([embeddings.embed_query(query) for query in queries], len(queries))


def normalised(vectors: Sequence[Sequence[float]], count: int) -> Vectors:
    """Vectors of length 1, so that an inner product is a cosine; a vector of zeros stays one.

    Raises `InputError` where there are not `count` vectors of one dimension, all finite.
    """
    try:
        array = np.array(vectors, np.float64)
    except (TypeError, ValueError) as error:
        raise _no_vectors() from error
    if array.ndim != 2 or len(array) != count or not array.shape[1] or not np.isfinite(array).all():
        raise _no_vectors()
    length = np.linalg.norm(array, axis=1, keepdims=True)
    return (array / np.where(length > 0, length, 1)).astype(np.float32)


def _no_vectors() -> InputError:
    return InputError(
        "the embedding model gave something else than one finite vector a text; use another embedding model"
    )
