"""What the standard suites leave out: filters, relevance, diversity, retrievers, other ways in."""

import math
from pathlib import Path

import pytest
from langchain_core.documents import Document

from rlm_agent.retrieval.index import DocumentIndex
from rlm_agent.retrieval.langchain import IndexRetriever, IndexVectorStore
from rlm_agent.structure.errors import InputError
from tests.retrieval.embedding import Counting


class Angles(Counting):
    """Texts are angles in degrees; unit vectors in the plane."""

    def embed_query(self, text: str) -> list[float]:
        return [math.cos(math.radians(float(text))), math.sin(math.radians(float(text)))]

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self.embed_query(text) for text in texts]


@pytest.fixture
def store() -> IndexVectorStore:
    metadatas = [{"n": number, "source": f"s{number}"} for number in range(4)]
    return IndexVectorStore.from_texts(["0", "10", "11", "90"], Angles(), metadatas, ids=list("abcd"))


def test_scores_are_cosines_and_relevance_lies_between_0_and_1(store: IndexVectorStore) -> None:
    found = store.similarity_search_with_score("0", 4)
    assert [document.id for document, _ in found] == list("abcd")
    assert [score for _, score in found] == pytest.approx([1.0, 0.9848, 0.9816, 0.0], abs=1e-4)
    relevant = store.similarity_search_with_relevance_scores("180", 4)
    assert [(document.id, round(score, 3)) for document, score in relevant] == [
        ("d", 0.5),
        ("c", 0.009),
        ("b", 0.008),
        ("a", 0.0),
    ]


def test_diverse_documents_are_preferred(store: IndexVectorStore) -> None:
    assert [one.id for one in store.max_marginal_relevance_search("4", 2, lambda_mult=1.0)] == ["a", "b"]
    assert [one.id for one in store.max_marginal_relevance_search("9", 2, lambda_mult=0.1)] == ["b", "d"]
    found = store.max_marginal_relevance_search("9", 2, filter={"n": {"$lt": 2}})
    assert {one.id for one in found} == {"a", "b"}


def test_filters_and_vectors(store: IndexVectorStore) -> None:
    assert [one.id for one in store.similarity_search("0", filter={"n": [2, 3]})] == ["c", "d"]
    assert [one.id for one in store.similarity_search_by_vector([0.0, 2.0], 2)] == ["d", "c"]
    assert [one.id for one in store.similarity_search("11", 1, mode="lexical")] == ["c"]
    retriever = store.as_retriever(search_kwargs={"k": 1, "filter": {"n": 3}})
    assert [one.id for one in retriever.invoke("0")] == ["d"]


def test_text_without_id_gets_one_that_follows_from_it(store: IndexVectorStore) -> None:
    first = store.add_documents([Document("20", metadata={"x": 1}), Document("20", metadata={"x": 2})])
    assert store.add_texts(["20"], [{"x": 1}]) == first[:1]
    assert len(set(first)) == 2
    assert len(store.index) == 6


def test_everything_is_deleted_where_no_ids_are_given(store: IndexVectorStore) -> None:
    assert store.delete() is True
    assert store.similarity_search("0") == []


def test_lists_that_do_not_go_together_are_refused(store: IndexVectorStore) -> None:
    with pytest.raises(InputError, match="2 texts and 1"):
        store.add_texts(["1", "2"], [{}])
    with pytest.raises(InputError, match="has embeddings"):
        IndexVectorStore(DocumentIndex())


async def test_retriever_names_sources_and_takes_a_filter(store: IndexVectorStore) -> None:
    retriever = IndexRetriever(index=store.index, k=2, mode="vector", filter={"n": [1, 2, 3]})
    assert [one.metadata["source"] for one in retriever.invoke("0")] == ["s1", "s2"]
    assert await retriever.ainvoke("0") == retriever.invoke("0")
    assert [one.id for one in retriever.invoke("0", filter={"n": 3})] == ["d"]


async def test_store_in_a_folder_is_there_the_next_time(tmp_path: Path) -> None:
    store = await IndexVectorStore.afrom_texts(["0", "90"], Angles(), folder=tmp_path)
    store.index.close()
    with DocumentIndex(tmp_path, Angles()) as index:
        assert [one.page_content for one in IndexVectorStore(index).similarity_search("80", 1)] == ["90"]
