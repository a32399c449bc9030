"""Packages of the `retrieval` extra, imported when they are first needed: some take seconds to load."""

from importlib import import_module
from typing import Any

from rlm_agent.structure.errors import MissingExtraError

_PACKAGES = {
    "bm25s": "bm25s",
    "bs4": "beautifulsoup4",
    "faiss": "faiss-cpu",
    "langchain_text_splitters": "langchain-text-splitters",
    "pypdf": "pypdf",
    "sentence_transformers": "sentence-transformers",
}


def needed(module: str) -> Any:
    """A module of the extra; `MissingExtraError` where its package is not installed."""
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingExtraError(_PACKAGES[module], "retrieval") from error
