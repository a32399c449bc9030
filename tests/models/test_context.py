"""The context itself: sequences, cells, and what llama.cpp refuses."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from rlm_agent.models.gguf.engine.context import EXACT_BATCH, MAX_SEQUENCES, CacheFullError, Context, Row
from rlm_agent.models.gguf.file import ModelFile
from rlm_agent.structure.errors import DecodeError

CELLS = 300


@pytest.fixture(scope="module")
def opened(tiny: Path) -> Iterator[Context]:
    file = ModelFile(tiny)
    context = Context(file, cells=CELLS, batch=EXACT_BATCH, threads=1, flash_attention=True)
    yield context
    context.close()
    file.close()


@pytest.fixture
def context(opened: Context) -> Context:
    opened.clear()
    return opened


def rows(sequence: int, start: int, count: int, *, output: bool = True) -> list[Row]:
    return [Row(3 + position, position, sequence, output) for position in range(start, start + count)]


def test_only_the_wanted_logits_come_back_and_in_order(context: Context) -> None:
    sequence = context.open()
    every = context.decode(rows(sequence, 0, 130)).logits
    assert every.shape == (130, 320)
    other = context.open()
    marked = [Row(r.token, r.position, other, r.position in (0, 62, 63, 129)) for r in rows(other, 0, 130)]
    assert (context.decode(marked).logits == every[[0, 62, 63, 129]]).all()
    assert context.decode(rows(context.open(), 0, 5, output=False)).logits.shape == (0, 320)
    assert context.decode([]).logits.shape == (0, 320)


def test_what_comes_back_outlives_the_next_call(context: Context) -> None:
    first = context.decode(rows(context.open(), 0, 2)).logits
    kept = first.copy()
    context.decode([Row(50, 0, context.open(), True)] * 1)
    assert (first == kept).all()


def test_fork_shares_what_was_computed_and_takes_no_cell(context: Context) -> None:
    parent = context.open()
    context.decode(rows(parent, 0, 20))
    room = context.room
    children = [context.fork(parent, 10) for _ in range(3)]
    assert context.room == room
    logits = context.decode([Row(99, 10, child, True) for child in children]).logits
    assert (logits == logits[0]).all()
    fresh = context.open()
    context.decode(rows(fresh, 0, 10))
    assert (context.decode([Row(99, 10, fresh, True)]).logits == logits[0]).all()


def test_parent_can_be_dropped_before_its_fork(context: Context) -> None:
    parent = context.open()
    expected = context.decode(rows(parent, 0, 12)).logits[-1]
    child = context.fork(parent, 11)
    context.drop(parent)
    assert (context.decode(rows(child, 11, 1)).logits[0] == expected).all()


def test_cells_of_dropped_sequences_are_free_after_clear_only(context: Context) -> None:
    """Or else the cells of a sequence would lie out of order, and sums come out otherwise."""
    sequence = context.open()
    context.decode(rows(sequence, 0, 100))
    context.drop(sequence)
    assert context.room == CELLS - 100
    context.clear()
    assert context.room == CELLS


def test_sequences_that_are_given_back_can_be_opened_again(context: Context) -> None:
    every = [context.open() for _ in range(MAX_SEQUENCES)]
    assert len(set(every)) == MAX_SEQUENCES
    for sequence in every:
        context.drop(sequence)
    assert {context.open() for _ in range(MAX_SEQUENCES)} == set(every)


def test_all_cells_can_be_used_even_one_row_at_a_time(context: Context) -> None:
    sequence = context.open()
    for position in range(CELLS):
        assert context.decode(rows(sequence, position, 1)).logits.shape == (1, 320)
    assert context.room == 0


def test_full_cache_is_told_before_anything_is_fed(context: Context) -> None:
    sequence = context.open()
    expected = context.decode(rows(sequence, 0, CELLS - 5)).logits[-1]
    with pytest.raises(CacheFullError, match="larger context"):
        context.decode(rows(context.open(), 0, 6))
    assert context.room == 5
    assert (context.decode(rows(context.fork(sequence, CELLS - 6), CELLS - 6, 1)).logits[0] == expected).all()


def test_what_llama_cpp_refuses_is_a_decode_error(context: Context) -> None:
    sequence = context.open()
    with pytest.raises(DecodeError, match="gave up"):
        context.decode([Row(3, 0, sequence, True), Row(3, 7, sequence, True)])
    context.clear()
    assert np.isfinite(context.decode(rows(context.open(), 0, 3)).logits).all()


def test_closed_context_says_so(tiny: Path) -> None:
    file = ModelFile(tiny)
    context = Context(file, cells=10, batch=EXACT_BATCH, threads=1, flash_attention=True)
    context.require_usable()
    context.close()
    context.close()
    with pytest.raises(DecodeError, match="closed"):
        context.require_usable()
    file.close()
