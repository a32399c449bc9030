"""An index in a folder, and the folder of a model that is a package."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from rlm_agent.retrieval.index import DocumentIndex
from tests.retrieval.embedding import Counting, minilm_folder


@pytest.fixture
def embeddings() -> Counting:
    return Counting()


@pytest.fixture
def index(tmp_path: Path, embeddings: Counting) -> Iterator[DocumentIndex]:
    with DocumentIndex(tmp_path / "index", embeddings) as opened:
        yield opened


@pytest.fixture(scope="session")
def minilm() -> Path:
    return minilm_folder()
