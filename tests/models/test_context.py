"""The context itself: sequences, cells, and what llama.cpp refuses."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from rlm_agent.models.gguf.engine.cells import MAX_SEQUENCES, Move, Row
from rlm_agent.models.gguf.engine.context import EXACT_BATCH, CacheFullError, Context
from rlm_agent.models.gguf.engine.nodes import Piece
from rlm_agent.models.gguf.file import ModelFile
from rlm_agent.structure.errors import DecodeError

CELLS = 304


@pytest.fixture(params=[1, 16], scope="module")
def page(request: pytest.FixtureRequest) -> int:
    """Flash attention and cells as they come, and the plain kernel over pages."""
    return int(request.param)


@pytest.fixture(scope="module")
def opened(tiny: Path, page: int) -> Iterator[Context]:
    file = ModelFile(tiny)
    context = Context(file, cells=CELLS, batch=EXACT_BATCH, threads=1, flash_attention=page == 1, page=page)
    yield context
    context.close()
    file.close()


@pytest.fixture
def context(opened: Context) -> Context:
    opened.cells.clear()
    return opened


def rows(sequence: int, start: int, count: int, *, output: bool = True) -> list[Row]:
    return [Row(3 + position, position, sequence, output) for position in range(start, start + count)]


def test_only_the_wanted_logits_come_back_and_in_order(context: Context) -> None:
    sequence = context.cells.open()
    every = context.decode(rows(sequence, 0, 130)).logits
    assert every.shape == (130, 320)
    other = context.cells.open()
    marked = [Row(r.token, r.position, other, r.position in (0, 62, 63, 129)) for r in rows(other, 0, 130)]
    assert (context.decode(marked).logits == every[[0, 62, 63, 129]]).all()
    assert context.decode(rows(context.cells.open(), 0, 5, output=False)).logits.shape == (0, 320)
    assert context.decode([]).logits.shape == (0, 320)


def test_what_comes_back_outlives_the_next_call(context: Context) -> None:
    first = context.decode(rows(context.cells.open(), 0, 2)).logits
    kept = first.copy()
    context.decode([Row(50, 0, context.cells.open(), True)] * 1)
    assert (first == kept).all()


def test_fork_shares_what_was_computed_and_takes_a_page_at_most(context: Context, page: int) -> None:
    parent = context.cells.open()
    context.decode(rows(parent, 0, 20))
    room = context.cells.room
    context.cells.drop(context.cells.fork(parent, 16))
    assert context.cells.room == room
    children = [context.cells.fork(parent, 10) for _ in range(3)]
    assert context.cells.room == room - (0 if page == 1 else 3 * page)
    logits = context.decode([Row(99, 10, child, True) for child in children]).logits
    assert (logits == logits[0]).all()
    fresh = context.cells.open()
    context.decode(rows(fresh, 0, 10))
    assert (context.decode([Row(99, 10, fresh, True)]).logits == logits[0]).all()


def test_parent_can_be_dropped_before_its_fork(context: Context) -> None:
    parent = context.cells.open()
    expected = context.decode(rows(parent, 0, 12)).logits[-1]
    child = context.cells.fork(parent, 11)
    context.cells.drop(parent)
    assert (context.decode(rows(child, 11, 1)).logits[0] == expected).all()


def test_cells_of_dropped_sequences_are_free_after_clear_only(context: Context) -> None:
    """Or else the cells of a sequence would lie out of order, and sums come out otherwise."""
    sequence = context.cells.open()
    context.decode(rows(sequence, 0, 96))
    context.cells.drop(sequence)
    assert context.cells.room == CELLS - 96
    context.cells.clear()
    assert context.cells.room == CELLS


def test_sequences_that_are_given_back_can_be_opened_again(context: Context) -> None:
    many = context.cells.free_sequences
    every = [context.cells.open() for _ in range(many)]
    assert len(set(every)) == many <= MAX_SEQUENCES
    for sequence in every:
        context.cells.drop(sequence)
    assert {context.cells.open() for _ in range(many)} == set(every)


def test_all_cells_can_be_used_even_one_row_at_a_time(context: Context) -> None:
    sequence = context.cells.open()
    for position in range(CELLS):
        assert context.decode(rows(sequence, position, 1)).logits.shape == (1, 320)
    assert context.cells.room == 0


def test_full_cache_is_told_before_anything_is_fed(context: Context, page: int) -> None:
    sequence = context.cells.open()
    expected = context.decode(rows(sequence, 0, CELLS - page)).logits[-1]
    with pytest.raises(CacheFullError, match="larger context"):
        context.decode(rows(context.cells.open(), 0, page + 1))
    assert context.cells.room == page
    again = context.cells.fork(sequence, CELLS - page - 1)
    assert (context.decode(rows(again, CELLS - page - 1, 1)).logits[0] == expected).all()


@pytest.mark.parametrize("sizes", [(20, 7, 30), (16, 16, 16), (3, 2, 1)])
def test_rebuilt_sequences_go_on_to_the_bit(context: Context, sizes: tuple[int, int, int]) -> None:
    """A prompt, a step and another one, saved apart; two sequences end after the step, one goes on."""
    first, second, third = sizes
    whole = context.cells.open()
    expected = context.decode(rows(whole, 0, sum(sizes) + 2)).logits[-2:]
    context.cells.clear()
    made = context.cells.open()
    context.decode(rows(made, 0, sum(sizes), output=False))
    ends = [context.cells.fork(made, first + second) for _ in range(2)]
    places = [
        (0, first, [*ends, made], []),
        (first, first + second, [made], ends),
        (first + second, sum(sizes), [], [made]),
    ]
    moves = []
    for start, end, through, ending in places:
        blob = context.cells.save(made, start, end)
        moves.append(Move(Piece(start, end, blob), through, ending))
    context.cells.rebuild(moves, [])
    assert (context.decode(rows(made, sum(sizes), 2)).logits == expected).all()
    for end in ends:
        assert (context.decode(rows(end, first + second, third + 2)).logits[-2:] == expected).all()


def test_what_llama_cpp_refuses_is_a_decode_error(context: Context) -> None:
    sequence = context.cells.open()
    with pytest.raises(DecodeError, match="gave up"):
        context.decode([Row(3, 0, sequence, True), Row(3, 7, sequence, True)])
    context.cells.clear()
    assert np.isfinite(context.decode(rows(context.cells.open(), 0, 3)).logits).all()


def test_closed_context_says_so(tiny: Path) -> None:
    file = ModelFile(tiny)
    context = Context(file, cells=10, batch=EXACT_BATCH, threads=1, flash_attention=True)
    context.require_usable()
    context.close()
    context.close()
    with pytest.raises(DecodeError, match="closed"):
        context.require_usable()
    file.close()
