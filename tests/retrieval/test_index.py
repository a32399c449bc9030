"""An index beside a plain reference that does everything the slow way; and what adding costs."""

import asyncio
import json
import math
import operator
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlm_agent.retrieval.adding import Change
from rlm_agent.retrieval.chunks import Chunk, Pieces
from rlm_agent.retrieval.extras import needed
from rlm_agent.retrieval.index import DocumentIndex
from rlm_agent.retrieval.protocols import Retriever
from rlm_agent.retrieval.vectors import Sizes
from rlm_agent.structure.errors import IndexMismatchError, InputError, MissingExtraError
from tests.retrieval.embedding import Counting

EMBEDDINGS = Counting()
SIGNS: dict[str, Any] = {"$gt": operator.gt, "$gte": operator.ge, "$lt": operator.lt, "$lte": operator.le}


def direction(vector: list[float]) -> Any:
    return np.array(vector) / np.linalg.norm(vector)


class Reference:
    """What an index is to hold and to find: a dictionary, loops over it, and formulas from the papers."""

    def __init__(self) -> None:
        self.held: dict[str, Chunk] = {}

    def put(self, chunks: list[Chunk]) -> None:
        for chunk in {chunk.id: chunk for chunk in chunks}.values():
            there = self.held.get(chunk.id)
            if there is None or there.text != chunk.text:
                self.held.pop(chunk.id, None)  # what changes its text moves to the end
            self.held[chunk.id] = chunk

    def passing(self, wanted: dict[str, Any]) -> dict[str, Chunk]:
        return {id: chunk for id, chunk in self.held.items() if passes(chunk.metadata, wanted)}

    def cosines(self, query: str, among: dict[str, Chunk]) -> list[tuple[str, float]]:
        asked = direction(EMBEDDINGS.embed_query(query))
        scores = {id: float(direction(EMBEDDINGS.embed_query(c.text)) @ asked) for id, c in among.items()}
        return sorted(scores.items(), key=lambda pair: -round(pair[1], 5))

    def bm25(self, query: str, among: dict[str, Chunk]) -> list[tuple[str, float]]:
        words = {id: re.findall(r"\w+", chunk.text.lower()) for id, chunk in self.held.items()}
        mean = sum(map(len, words.values())) / max(len(words), 1)
        scores = dict.fromkeys(among, 0.0)
        for word in re.findall(r"\w+", query.lower()):
            having = sum(word in text for text in words.values())
            rare = math.log(1 + (len(words) - having + 0.5) / (having + 0.5))
            for id in among:
                often = words[id].count(word)
                length = 1 - 0.75 + 0.75 * len(words[id]) / mean if mean else 1
                scores[id] += rare * often / (often + 1.5 * length) if often else 0
        return sorted(
            ((id, score) for id, score in scores.items() if score), key=lambda pair: -round(pair[1], 5)
        )

    def search(self, query: str, k: int, wanted: dict[str, Any], mode: str) -> list[tuple[str, float]]:
        among = self.passing(wanted)
        rankings = {"vector": self.cosines(query, among), "lexical": self.bm25(query, among)}
        if mode != "hybrid":
            return rankings[mode][:k]
        fused: dict[str, float] = {}
        for ranking in rankings.values():
            for rank, (id, _) in enumerate(ranking, 1):
                fused[id] = fused.get(id, 0) + 1 / (60 + rank)
        return sorted(fused.items(), key=lambda pair: -pair[1])[:k]


def passes(metadata: Any, wanted: dict[str, Any]) -> bool:
    return all(holds(metadata.get(key), value) for key, value in wanted.items())


def holds(held: Any, value: Any) -> bool:
    if isinstance(held, list):
        return any(holds(one, value) for one in held)
    if isinstance(value, list):
        return any(holds(held, one) for one in value)
    if isinstance(value, dict):
        comparable = kind(held) == kind(next(iter(value.values())))
        return comparable and all(SIGNS[sign](held, bound) for sign, bound in value.items())
    return kind(held) == kind(value) and held == value


def kind(value: Any) -> str:
    return "number" if type(value) in (int, float) else type(value).__name__


TEXTS = st.lists(st.sampled_from("red green blue 5 kg, Kg".split()), min_size=1, max_size=4).map(" ".join)
VALUES = st.sampled_from([1, 2, 3, True, False, "1", "b", "c"])
METADATA = st.fixed_dictionaries({}, optional={"x": VALUES, "y": VALUES | st.lists(VALUES, max_size=2)})
CHUNKS = st.builds(Chunk, st.sampled_from("abcdefgh"), TEXTS, st.just("somewhere"), METADATA)
NUMBERS = st.sampled_from([1, 2, 3])
RANGES = st.fixed_dictionaries(
    {}, optional={"$gt": NUMBERS, "$gte": NUMBERS, "$lt": NUMBERS, "$lte": NUMBERS}
)
WANTED = st.fixed_dictionaries(
    {}, optional={"x": VALUES | RANGES.filter(bool) | st.lists(VALUES, max_size=3), "y": VALUES}
)
STEPS = st.lists(st.lists(CHUNKS, max_size=6) | st.sets(st.sampled_from("abcdefgh"), max_size=3), max_size=5)


@pytest.mark.parametrize("sizes", [Sizes(), Sizes(flat=2)], ids=["flat", "hnsw"])
@settings(max_examples=40)
@given(steps=STEPS, query=TEXTS, k=st.integers(1, 9), wanted=WANTED)
def test_index_finds_what_the_reference_finds(
    sizes: Sizes, steps: list[Any], query: str, k: int, wanted: dict[str, Any]
) -> None:
    reference = Reference()
    with DocumentIndex(None, EMBEDDINGS, sizes=sizes) as index:
        for step in steps:
            if isinstance(step, list):
                index.put(step)
                reference.put(step)
            else:
                index.delete(step)
                reference.held = {id: one for id, one in reference.held.items() if id not in step}
            index.search(["red"], 1)  # so that what follows the store has something to follow
        assert len(index) == len(reference.held)
        for mode in ("vector", "lexical", "hybrid"):
            (found,) = index.search([query], k, filter=wanted, mode=mode)
            expected = reference.search(query, k, wanted, mode)
            assert [passage.id for passage in found] == [id for id, _ in expected]
            assert [passage.score for passage in found] == pytest.approx([s for _, s in expected], abs=1e-5)
            assert all(passage.text == reference.held[passage.id].text for passage in found)
            assert all(dict(passage.metadata) == reference.held[passage.id].metadata for passage in found)


def test_every_filter_finds_what_passes() -> None:
    values = [1, 2, 2.5, -1, True, False, "1", "b", "", [1, "b"], [True], [], None, {"1": 1}]
    chunks = [Chunk(str(at), "same text", "", {"x": value}) for at, value in enumerate(values)]
    chunks.append(Chunk("none", "same text", "", {"y": 1}))
    plain = [value for value in values if isinstance(value, (int, float, str))]
    ranges = [{sign: bound} for sign in ("$gt", "$gte", "$lt", "$lte") for bound in (1, 2.5, "b", "")]
    both = [{"$gte": 1, "$lt": 2.5}, {"$gt": 2, "$lt": 2}]
    with DocumentIndex() as index:
        index.put(chunks)
        for wanted in [*plain, *ranges, *both, [], *([one, other] for one in plain for other in plain)]:
            (found,) = index.search(["text"], 50, filter={"x": wanted})
            expected = {chunk.id for chunk in chunks if passes(chunk.metadata, {"x": wanted})}
            assert {passage.id for passage in found} == expected, wanted


def numbered(start: int, stop: int) -> list[Chunk]:
    return [Chunk(str(number), f"text {number}", "somewhere") for number in range(start, stop)]


def test_add_embeds_only_what_is_new(index: DocumentIndex, embeddings: Counting) -> None:
    index.put(numbered(0, 1000))
    index.settle()
    embeddings.asked.clear()
    assert index.put(numbered(0, 1010)) == Change(added=10, unchanged=1000, embedded=10)
    assert embeddings.asked == [chunk.text for chunk in numbered(1000, 1010)]
    assert len(index) == 1010


def test_texts_that_move_between_ids_are_not_embedded_again(
    index: DocumentIndex, embeddings: Counting
) -> None:
    index.put([Chunk("a", "one", ""), Chunk("b", "two", "")])
    embeddings.asked.clear()
    assert index.put([Chunk("a", "two", ""), Chunk("b", "one", ""), Chunk("c", "one", "")]) == Change(
        added=1, replaced=2
    )
    assert embeddings.asked == []
    (found,) = index.search(["one"], 3, mode="vector")
    assert [(passage.id, round(passage.score, 5)) for passage in found[:2]] == [("b", 1.0), ("c", 1.0)]


def test_new_metadata_replace_old_ones_without_embedding(index: DocumentIndex, embeddings: Counting) -> None:
    index.put([Chunk("a", "one", "old", {"year": 1, "kept": "x"})])
    embeddings.asked.clear()
    rows = index.store.latest()
    assert index.put([Chunk("a", "one", "new", {"year": 2})]) == Change(replaced=1)
    assert index.store.latest() == rows
    assert embeddings.asked == []
    assert index.search(["one"], filter={"year": 1}) == [[]]
    ((passage,),) = index.search(["one"], filter={"year": 2})
    assert (passage.source, passage.metadata) == ("new", {"year": 2})


def test_document_is_replaced_whole(index: DocumentIndex, embeddings: Counting) -> None:
    def document(*texts: str) -> Pieces:
        chunks = [Chunk(f"d{text}", text, "", document="d") for text in texts]
        return Pieces("d", json.dumps(texts).encode(), chunks)

    index.put([Chunk("alone", "one", "")])
    index.put_documents([document("one", "two", "three")])
    assert index.put_documents([document("two", "four")]) == Change(
        added=1, unchanged=1, deleted=2, embedded=1
    )
    assert index.all_ids() == ["alone", "dtwo", "dfour"]
    assert index.store.documents() == {"d": json.dumps(["two", "four"]).encode()}
    index.delete(documents=["d", "unknown"])
    assert index.all_ids() == ["alone"]
    assert index.store.documents() == {}


def test_identity_follows_contents_and_not_their_history(tmp_path: Path) -> None:
    with DocumentIndex(tmp_path / "a", EMBEDDINGS) as one, DocumentIndex(None, EMBEDDINGS) as other:
        one.put(numbered(0, 3))
        other.put(reversed(numbered(0, 5)))
        assert one.identity != other.identity
        other.delete(["3", "4"])
        assert one.identity == other.identity
        other.put([Chunk("0", "text 0", "elsewhere")])
        assert one.identity != other.identity
        other.put([Chunk("0", "text 0", "somewhere")])
        assert one.identity == other.identity
        before = one.identity
    with (
        DocumentIndex(tmp_path / "a", EMBEDDINGS) as same,
        DocumentIndex(tmp_path / "a", EMBEDDINGS, mode="lexical") as lexical,
    ):
        assert same.identity == before != lexical.identity


def test_nothing_is_written_where_one_of_many_cannot_be(index: DocumentIndex) -> None:
    index.put(numbered(0, 2))
    before = index.identity
    with pytest.raises(InputError, match="plain JSON"):
        index.put([*numbered(0, 9), Chunk("bad", "bad", "", {"x": object()})])
    with pytest.raises(InputError, match="surrogate"):
        index.put([*numbered(0, 9), Chunk("bad", "\ud800", "")])
    assert (len(index), index.identity) == (2, before)


class Wrong(Counting):
    """An embedding model that answers something else."""

    answer: Any = None

    def embed_documents(self, texts: list[str]) -> Any:
        return self.answer


@pytest.mark.parametrize("answer", [[], [[]], [[float("nan")] * 16], [["a"]], [[1.0], [1.0, 2.0]], None])
def test_model_that_gives_no_vectors_is_refused(answer: Any) -> None:
    with DocumentIndex(None, Wrong(answer=answer)) as index:
        with pytest.raises(InputError, match="one finite vector a text"):
            index.put(numbered(0, 1))
        assert len(index) == 0


def test_vectors_of_another_dimension_are_refused() -> None:
    with DocumentIndex(None, Counting(size=16)) as index:
        index.put(numbered(0, 2))
        index.embeddings = Counting(size=8)
        with pytest.raises(IndexMismatchError, match="16 dimensions and this model gives 8"):
            index.put(numbered(2, 3))
        with pytest.raises(IndexMismatchError, match="16 dimensions and the query has 8"):
            index.search(["x"], mode="vector")
        assert len(index) == 2


def test_index_of_words_alone(tmp_path: Path) -> None:
    with DocumentIndex(tmp_path) as index:
        index.put([Chunk("a", "a red hat", "x"), Chunk("b", "a blue hat", "y")])
        assert [[passage.id for passage in found] for found in index.search(["red", "hat", "shoe"])] == [
            ["a"],
            ["a", "b"],
            [],
        ]
        with pytest.raises(InputError, match="without embeddings"):
            index.search(["red"], mode="vector")


def test_empty_index_finds_nothing(index: DocumentIndex) -> None:
    for mode in ("vector", "lexical", "hybrid"):
        assert index.search(["one", ""], mode=mode) == [[], []]
    assert index.search([]) == []


def test_texts_without_a_word_are_kept(index: DocumentIndex) -> None:
    index.put([Chunk("a", "...", ""), Chunk("b", "\0", ""), Chunk("c", "", "")])
    assert index.search(["..."], mode="lexical") == [[]]
    assert index.search(["..."], 1, mode="vector")[0][0].id == "a"


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"x": None}, "a text, a number or a boolean"),
        ({"x": {"$near": 1}}, "no range"),
        ({"x": {}}, "no range"),
        ({"x": {"$gt": [1]}}, "a text, a number or a boolean"),
        ({"x": [object()]}, "a text, a number or a boolean"),
        ({"x": 2**63}, "a text, a number or a boolean"),
        ({"x": "\ud800"}, "a text, a number or a boolean"),
        ({1: 1}, "a text, a number or a boolean"),
    ],
)
def test_what_is_no_filter_is_refused(index: DocumentIndex, wanted: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        index.search(["x"], filter=wanted)


def test_names_and_values_of_a_filter_are_never_sql(index: DocumentIndex) -> None:
    index.put([Chunk("a", "one", "", {"'; DROP TABLE chunks; --": "' OR 1=1 --"})])
    assert index.search(["one"], filter={"x' OR '1'='1": "y' OR '1'='1"}) == [[]]
    ((passage,),) = index.search(["one"], filter={"'; DROP TABLE chunks; --": "' OR 1=1 --"})
    assert passage.id == "a"


async def test_index_is_a_retriever_that_threads_share(index: DocumentIndex) -> None:
    assert isinstance(index, Retriever)
    index.put(numbered(0, 50))
    queries = [f"text {number}" for number in range(50)]
    alone = [index.search([query], 3)[0] for query in queries]
    assert index.search(queries, 3) == alone
    writes = [asyncio.create_task(asyncio.to_thread(index.put, numbered(0, 50))) for _ in range(3)]
    together = await asyncio.gather(*(index.asearch([query], 3) for query in queries))
    assert [found for (found,) in together] == alone
    assert [await write for write in writes] == [Change(unchanged=50)] * 3


@pytest.mark.parametrize(
    ("module", "package"), [("faiss", "faiss-cpu"), ("bm25s", "bm25s"), ("bs4", "beautifulsoup4")]
)
def test_missing_package_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch, module: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=rf"{package} is not installed; .*rlm-agent\[retrieval\]"):
        needed(module)
