"""Embedding models: sentence-transformers behind LangChain's interface, and what any other one is asked."""

import hashlib
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from langchain_core.embeddings import Embeddings
from numpy.typing import NDArray

from rlm_agent.retrieval.extras import needed
from rlm_agent.structure.errors import InputError, ModelError

Vectors = NDArray[np.float32]


class SentenceTransformerEmbeddings(Embeddings):
    """A model of sentence-transformers, with the prompts for queries and documents that it came with.

    `model` is a folder or the name of a model. Nothing is downloaded unless `download` allows it, code that
    comes with a model is never run, and weights are read as safetensors alone. Raises `ModelError` where the
    model cannot be loaded, `MissingExtraError` without sentence-transformers.
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
        # Tokenizers must not be used by two threads at once.
        self._lock = threading.Lock()
        library = needed("sentence_transformers")
        self._model = load_quietly(library.SentenceTransformer, model, device, download)

    @cached_property
    def identity(self) -> str:
        """A hash of the weights, the prompts and the longest text; where the model lies does not matter."""
        told = (sorted(self._model.prompts.items()), self._model.max_seq_length)
        return f"sentence-transformers:{weights_hash(self._model, told)}"

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


def load_quietly(kind: Any, model: str | Path, device: str | None, download: bool) -> Any:
    """A model of a class of sentence-transformers, without progress bars; `ModelError` where it fails."""
    try:
        with _no_bars():
            return kind(
                str(model),
                device=device,
                local_files_only=not download,
                trust_remote_code=False,
                model_kwargs={"use_safetensors": True},
            )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        (reason, *_) = str(error).splitlines() or [""]
        raise ModelError(
            f"the embedding model {model} cannot be loaded ({reason[:200]}); "
            "name a folder that holds one, or allow its download"
        ) from error


def weights_hash(model: Any, told: object = None) -> str:
    """16 hexadecimal digits that follow from a model's weights and from what else is told of it."""
    digest = hashlib.sha256(repr(told).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


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


@contextmanager
def _no_bars() -> Iterator[None]:
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]
