"""Words, fused rankings and rerankers, beside values that were worked out by hand."""

import math
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlm_agent.retrieval.chunks import Chunk
from rlm_agent.retrieval.fusion import reciprocal_rank_fusion
from rlm_agent.retrieval.index import DocumentIndex
from rlm_agent.retrieval.lexical import make_lexical, read_lexical, words


def test_score_of_bm25_by_hand() -> None:
    index = make_lexical([(3, "red hat"), (7, "red red shoe box"), (9, "blue")])
    rows, scores = index.search("RED", 5)
    # Three texts of 7/3 words on average, two of which have "red": idf = ln(1 + 1.5/2.5).
    idf, mean = math.log(1.6), 7 / 3
    expected = {
        7: idf * 2 / (2 + 1.5 * (0.25 + 0.75 * 4 / mean)),
        3: idf * 1 / (1 + 1.5 * (0.25 + 0.75 * 2 / mean)),
    }
    assert rows.tolist() == list(expected)
    assert scores.tolist() == pytest.approx(list(expected.values()))


def test_words_keep_digits_and_single_letters_of_any_script() -> None:
    assert words("5 kg, Größe_7: é a-b") == ["5", "kg", "größe_7", "é", "a", "b"]


TEXTS = st.lists(st.lists(st.sampled_from("abcd"), max_size=5).map(" ".join), max_size=12)


@settings(max_examples=40)
@given(TEXTS, st.integers(1, 4), st.sampled_from(["a", "a b", "d", "x", ""]))
def test_few_are_the_first_of_many(texts: list[str], depth: int, query: str) -> None:
    index = make_lexical(enumerate(texts))
    rows, scores = index.search(query, 100)
    assert sorted(zip((-scores).tolist(), rows.tolist(), strict=True)) == list(
        zip((-scores).tolist(), rows.tolist(), strict=True)
    )
    assert index.search(query, depth)[0].tolist() == rows[:depth].tolist()
    keep = np.arange(0, len(texts), 2)
    assert index.search(query, depth, keep)[0].tolist() == [row for row in rows if row % 2 == 0][:depth]


@settings(max_examples=30)
@given(TEXTS)
def test_index_of_words_that_was_written_answers_the_same(texts: list[str]) -> None:
    index = make_lexical(enumerate(texts))
    with tempfile.TemporaryDirectory() as folder:
        index.write(Path(folder) / "file")
        again = read_lexical(Path(folder) / "file")
    for query in ("a", "b c", "x"):
        one, other = index.search(query, 5), again.search(query, 5)
        assert (one[0].tolist(), one[1].tolist()) == (other[0].tolist(), other[1].tolist())


def test_fusion_by_hand() -> None:
    fused = reciprocal_rank_fusion([["a", "b", "c"], ["c", "a"]])
    assert fused == [("a", 1 / 61 + 1 / 62), ("c", 1 / 63 + 1 / 61), ("b", 1 / 62)]
    assert reciprocal_rank_fusion([]) == reciprocal_rank_fusion([[], []]) == []
    assert [item for item, _ in reciprocal_rank_fusion([["a", "b"], ["b", "a"]])] == ["a", "b"]


class Backwards:
    """Prefers texts by their last letter."""

    identity = "backwards"

    def score(self, query: str, texts: Sequence[str]) -> list[float]:
        return [float(ord(text[-1])) for text in texts]


def test_reranker_orders_what_was_found() -> None:
    chunks = [Chunk(letter, f"text {letter}", "") for letter in "abcdefgh"]
    with DocumentIndex(reranker=Backwards()) as index, DocumentIndex() as plain:
        index.put([*chunks, Chunk("z", "another z", "")])
        plain.put([*chunks, Chunk("z", "another z", "")])
        ((first, second),) = index.search(["text"], 2)
        assert [(first.id, first.score), (second.id, second.score)] == [("h", 104.0), ("g", 103.0)]
        assert index.identity != plain.identity
