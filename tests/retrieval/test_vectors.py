"""Each kind of vector index beside numpy: recall, filters, what is gone, and when it is made anew."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_agent.retrieval.chunks import Chunk
from rlm_agent.retrieval.index import DocumentIndex
from rlm_agent.retrieval.vectors import Sizes, cells, make_index, read_index, write_index
from tests.retrieval.embedding import Counting

DIMENSION, COUNT = 32, 4000
KINDS = {
    "flat": Sizes(),
    "hnsw": Sizes(flat=100),
    "ivfpq": Sizes(flat=100, hnsw=300),
}


def clustered(seed: int, count: int) -> Any:
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(0).standard_normal((20, DIMENSION))
    drawn = centres[random.integers(20, size=count)] + 0.7 * random.standard_normal((count, DIMENSION))
    return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)


VECTORS = clustered(1, COUNT)
QUERIES = clustered(2, 100)


class Given(Counting):
    """The vector of a number, which is the text."""

    size: int = DIMENSION

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        self.asked += texts
        found: list[list[float]] = VECTORS[[int(text) for text in texts]].tolist()
        return found


def numbered(numbers: Any) -> list[Chunk]:
    return [Chunk(str(number), str(number), "", {"half": number % 2, "n": number}) for number in numbers]


def nearest(query: Any, among: list[int], k: int) -> list[int]:
    scores = VECTORS[among] @ query
    return [among[at] for at in np.argsort(-scores)[:k]]


def recall(index: DocumentIndex, among: list[int], **wanted: Any) -> float:
    hits = 0
    for query in QUERIES:
        found = {int(passage.id) for passage, _ in index.search_vector(query, 10, **wanted)}
        assert found <= set(among)
        assert len(found) == min(10, len(among))
        hits += len(found & set(nearest(query, among, 10)))
    return hits / (10 * len(QUERIES))


@pytest.fixture(scope="module", params=KINDS)
def filled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp(request.param)
    with DocumentIndex(folder, Given(), mode="vector", sizes=KINDS[request.param]) as index:
        index.put(numbered(range(COUNT)))
        index.settle()
        yield index, request.param, folder


def test_recall_of_each_kind(filled: Any) -> None:
    index, kind, _ = filled
    assert recall(index, list(range(COUNT))) >= (1.0 if kind == "flat" else 0.97)


@pytest.mark.parametrize("wanted", [{"half": 1}, {"n": {"$lt": 3990}}, {"n": {"$lt": 40}}])
def test_filters_cost_no_recall(filled: Any, wanted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    index, kind, _ = filled
    monkeypatch.setattr("rlm_agent.retrieval.views._FEW", 100)  # so that the others go through the index
    among = [n for n in range(COUNT) if (n % 2 == 1 if "half" in wanted else n < wanted["n"]["$lt"])]
    exact = kind == "flat" or len(among) <= 100
    assert recall(index, among, filter=wanted) >= (1.0 if exact else 0.97)


def test_scores_are_exact_and_in_order(filled: Any) -> None:
    index, _, _ = filled
    for query in QUERIES[:20]:
        found = index.search_vector(query, 10)
        scores = [passage.score for passage, _ in found]
        assert scores == pytest.approx([float(VECTORS[int(p.id)] @ query) for p, _ in found], abs=1e-5)
        assert scores == sorted(scores, reverse=True)
        assert all(np.allclose(vector, VECTORS[int(passage.id)]) for passage, vector in found)


def test_index_read_again_answers_the_same(filled: Any) -> None:
    index, kind, folder = filled
    with DocumentIndex(folder, Given(), mode="vector", sizes=KINDS[kind]) as again:
        for query in QUERIES[:20]:
            one, other = (opened.search_vector(query, 10) for opened in (index, again))
            assert [passage for passage, _ in one] == [passage for passage, _ in other]


@pytest.mark.parametrize("kind", ["hnsw", "ivfpq"])
def test_index_made_twice_is_the_same_to_the_byte(kind: str, tmp_path: Path) -> None:
    for number in range(2):
        with DocumentIndex(tmp_path / str(number), Given(), mode="vector", sizes=KINDS[kind]) as index:
            index.put(numbered(range(3000)))
            index.settle()
    one, other = tmp_path.glob("*/vectors-*")
    assert one.name == other.name
    assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_what_comes_and_goes_later_is_followed(kind: str, tmp_path: Path) -> None:
    there = list(range(1000))
    with DocumentIndex(tmp_path, Given(), mode="vector", sizes=KINDS[kind]) as index:
        index.put(numbered(there))
        index.settle()
        index.put(numbered(range(1000, 1200)))
        index.settle()
        index.delete(["1199", *map(str, range(0, 100, 2))])
        there = [n for n in range(1199) if n % 2 or n >= 100]
        assert len(index.search_vector(VECTORS[1199].tolist(), 10)) == 10
        assert recall(index, there) >= (1.0 if kind == "flat" else 0.95)
    with DocumentIndex(tmp_path, Given(), mode="vector", sizes=KINDS[kind]) as index:
        assert recall(index, there) >= (1.0 if kind == "flat" else 0.95)
        index.delete(map(str, range(1190)))
        found = {int(passage.id) for passage, _ in index.search_vector(QUERIES[0], 50)}
        assert found == set(range(1190, 1199))


def test_kind_follows_the_size(tmp_path: Path) -> None:
    told: list[str] = []

    def tell(what: str, done: int, total: int) -> None:
        told.append(f"{what} {total}")

    sizes = Sizes(flat=300, hnsw=600)
    with DocumentIndex(tmp_path, Given(), mode="vector", sizes=sizes, progress=tell) as index:
        for count in (300, 301, 600, 601):
            index.put(numbered(range(count)))
            index.settle()
            kinds = {path.name.split("-")[0] for path in tmp_path.glob("vectors-*")}
            assert kinds == (set() if count == 300 else {"vectors"})
        assert [line for line in told if line.startswith("training")] == ["training the index 601"]


@given(st.integers(0, 10**7))
def test_cells_are_a_power_of_two_near_four_roots(count: int) -> None:
    assert cells(count) & (cells(count) - 1) == 0
    assert 2.8 * count**0.5 <= cells(count) <= max(5.7 * count**0.5, 4)


def test_file_of_another_kind_or_dimension_is_refused(tmp_path: Path) -> None:
    index = make_index("hnsw", 8, Sizes(), 10)
    index.add(np.arange(3), np.eye(3, 8, dtype=np.float32))
    path = str(tmp_path / "file")
    write_index(index, path)
    assert len(read_index(path, "hnsw", 8, Sizes(), 3)) == 3
    for kind, dimension in (("ivfpq", 8), ("hnsw", 16)):
        with pytest.raises(ValueError, match="is no"):
            read_index(path, kind, dimension, Sizes(), 3)
    (tmp_path / "file").write_bytes(b"nothing that FAISS knows")
    with pytest.raises(ValueError, match="FAISS cannot read"):
        read_index(path, "hnsw", 8, Sizes(), 3)


def test_nothing_is_logged_in_the_ordinary_course(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            with DocumentIndex(tmp_path, Given(), sizes=KINDS["ivfpq"]) as index:
                index.put(numbered(range(400)))
                index.settle()
    assert caplog.records == []
