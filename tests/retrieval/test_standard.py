"""langchain-tests' standard suites, whole."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.retrievers import BaseRetriever
from langchain_core.vectorstores import VectorStore
from langchain_tests.integration_tests import RetrieversIntegrationTests, VectorStoreIntegrationTests

from rlm_agent.retrieval.chunks import Chunk
from rlm_agent.retrieval.index import DocumentIndex
from rlm_agent.retrieval.langchain import IndexRetriever, IndexVectorStore


class TestVectorStoreInFolder(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self, tmp_path: Path) -> Iterator[VectorStore]:
        with DocumentIndex(tmp_path, self.get_embeddings()) as index:
            yield IndexVectorStore(index)


class TestVectorStoreInMemory(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self) -> Iterator[VectorStore]:
        with DocumentIndex(None, self.get_embeddings()) as index:
            yield IndexVectorStore(index)


class TestRetriever(RetrieversIntegrationTests):
    @pytest.fixture(autouse=True)
    def _open(self) -> Iterator[None]:
        with DocumentIndex(None, DeterministicFakeEmbedding(size=8)) as index:
            index.put(Chunk(str(number), f"text {number}", f"source {number}") for number in range(5))
            self._index = index
            yield

    @property
    def retriever_constructor(self) -> type[BaseRetriever]:
        return IndexRetriever

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        return {"index": self._index}

    @property
    def retriever_query_example(self) -> str:
        return "text"
