"""Catalogue problems: the collection and its files, the lookup, and answers recomputed from the documents."""

import random
from collections import Counter
from fractions import Fraction
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlm_agent.retrieval.protocols import Retriever
from rlm_agent.tasks.calculations import Calculated
from rlm_agent.tasks.catalogue.collection import collection, document_of, documents, line_of
from rlm_agent.tasks.catalogue.generator import draw_catalogue
from rlm_agent.tasks.catalogue.lookup import CatalogueRetriever
from rlm_agent.tasks.catalogue.products import (
    WORDINGS,
    any_product,
    confusable,
    passage,
    shipped_brand,
)
from tests.tasks.sums import NUMBER, by_hand

FOLDER = Path(__file__).parents[2] / "examples" / "catalogue"
LOOK = CatalogueRetriever()


def test_collection_is_a_few_thousand_products_that_no_name_is_shared_by() -> None:
    products = collection()
    assert len(products) == len({one.query for one in products}) == len({line_of(one) for one in products})
    assert len(products) == 2880
    assert all(shipped_brand(one.brand) for one in products)
    assert set(Counter(one.name for one in products).values()) == {3}  # in the list of each year


def test_shipped_documents_are_what_the_generator_makes() -> None:
    texts = documents()
    assert {path.name for path in FOLDER.glob("*.md")} == set(texts)
    for name, text in texts.items():
        assert (FOLDER / name).read_text(encoding="utf-8") == text
    assert len(texts) == 60 and sum(map(len, texts.values())) < 1_000_000


def test_each_product_stands_in_its_document_as_a_paragraph_with_all_its_numbers() -> None:
    texts = {name: text.split("\n\n") for name, text in documents().items()}
    for one in collection():
        assert [part.strip() for part in texts[document_of(one)]].count(line_of(one)) == 1
        assert {one.price, str(one.grams), str(one.box), str(one.year)} <= set(NUMBER.findall(line_of(one)))


@given(st.integers(0, 2**32))
@settings(max_examples=60)
def test_products_to_train_on_are_of_other_brands_and_can_be_told_apart(seed: int) -> None:
    rng = random.Random(seed)
    one = any_product(rng)
    other = confusable(one, rng)
    assert not shipped_brand(one.brand) and not shipped_brand(other.brand)
    ours, theirs = ((p.brand, p.kind, p.variant, p.year) for p in (one, other))
    assert sum(mine != its for mine, its in zip(ours, theirs, strict=True)) == 1
    assert len({passage(one, wording) for wording in range(WORDINGS)}) == WORDINGS


def test_both_queries_for_a_product_find_it_first() -> None:
    products = collection()[::40]
    for queries in ([one.query for one in products], [one.reworded for one in products]):
        for one, found in zip(products, LOOK.search(queries, 3), strict=True):
            assert (found[0].text, found[0].source) == (line_of(one), document_of(one))
            scores = [passage.score for passage in found]
            assert scores == sorted(scores, reverse=True) and scores[0] > scores[1]


async def test_lookup_is_a_retriever_of_at_most_k_passages_in_both_colours() -> None:
    assert isinstance(LOOK, Retriever)
    queries = ["lamp", "nothing like it anywhere: xyzzy", ""]
    found = LOOK.search(queries, 4)
    assert [len(passages) for passages in found] == [4, 0, 0]
    assert await LOOK.asearch(queries, 4) == found
    assert LOOK.identity == CatalogueRetriever().identity


def test_answers_follow_from_the_documents_alone() -> None:
    lines = {one.query: line_of(one) for one in collection()}
    for problem in islice(draw_catalogue("test", random.Random(5)), 300):
        told = NUMBER.findall(" ".join((problem.text, *(lines[name] for name in problem.names))))
        known = {*told, "100"}
        for one in problem.calculations:
            assert set(NUMBER.findall(one.expression)) <= known, (problem.text, one)
            assert by_hand(one.expression) == Fraction(one.result)
            known.add(one.result)


def test_no_answer_can_be_had_from_the_question_alone() -> None:
    for problem in islice(draw_catalogue("test", random.Random(6)), 200):
        known, looked_up = {*NUMBER.findall(problem.text), "100"}, set()
        for one in problem.calculations:
            looked_up |= set(NUMBER.findall(one.expression)) - known
            known.add(one.result)
        assert looked_up, problem.text


def test_splits_never_overlap() -> None:
    drawn = {
        split: {one.key for one in islice(draw_catalogue(split, random.Random(2)), 300)}
        for split in ("train", "validation", "test")
    }
    assert not drawn["train"] & drawn["test"] and not drawn["train"] & drawn["validation"]
    assert not drawn["test"] & drawn["validation"]


@pytest.mark.parametrize("field", ["names", "calculations"])
def test_another_product_or_another_number_makes_another_problem(field: str) -> None:
    first, second = islice(draw_catalogue("test", random.Random(3)), 2)
    parts = {"names": first.names, "calculations": first.calculations, field: getattr(second, field)}
    assert Calculated(first.text, **parts).key != first.key
