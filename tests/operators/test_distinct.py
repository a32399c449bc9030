"""Sampling without replacement: codes that avoid intervals, and siblings that differ in the end."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_agent import FakePolicy, Steps, ThoughtGraph
from rlm_agent.models.drive import drive
from rlm_agent.models.protocols import Message
from rlm_agent.operators.generate import generate
from rlm_agent.operators.rules.distinct import outside
from rlm_agent.operators.setting import Setting
from rlm_agent.structure.budget import Allowance
from tests.structure.trees import plant

REPLIES = [("much", -0.1), ("some", -2.0), ("little", -4.0), ("least", -7.0)]
grid = st.integers(0, 32)


@given(st.lists(st.tuples(grid, grid), max_size=6), st.floats(0, 1, exclude_max=True))
def test_codes_lie_outside_at_their_share_of_what_is_free(
    spans: list[tuple[int, int]], number: float
) -> None:
    """On a grid of 32 cells, where what is free can be counted."""
    taken = [(begin / 32, min(length, 32 - begin) / 32) for begin, length in spans]
    cells = {cell for begin, length in spans for cell in range(begin, min(32, begin + length))}
    free = [cell for cell in range(32) if cell not in cells]
    code = outside(taken, number)
    assert 0 <= code < 1
    if not free:
        assert code == number
        return
    share = Fraction(number) * len(free)
    assert code == pytest.approx((free[int(share)] + float(share - int(share))) / 32, abs=1e-12)


def grown(count: int, seed: int, *, distinct: bool) -> ThoughtGraph:
    """A root and so many children, one after the other."""
    asked = (Message(role="user", content="q"),)
    setting = Setting(FakePolicy(lambda question, prefix: REPLIES), asked, seed, Steps(), distinct=distinct)
    graph = plant()
    for _ in range(count):
        outcome = drive(generate(graph, [(graph.root, 1)], setting, Allowance()))
        graph = graph.updated(outcome.writes)
    return graph


@given(st.integers(0, 2**31))
def test_siblings_differ_until_everything_has_been_said(seed: int) -> None:
    graph = grown(4, seed, distinct=True)
    said = [graph.thoughts[id]["text"] for id in graph.children(graph.root)]
    assert sorted(said) == sorted(text for text, _ in REPLIES)


def test_first_children_are_distributed_as_without_it_and_second_ones_as_if_the_first_were_impossible() -> (
    None
):
    """Of 2,000 pairs: P(much first) = .86, and P(some second | much first) = .863 by the weights."""
    pairs = [
        tuple(graph.thoughts[id]["text"] for id in graph.children(graph.root))
        for graph in (grown(2, seed, distinct=True) for seed in range(2000))
    ]
    first = sum(pair[0] == "much" for pair in pairs)
    assert first / 2000 == pytest.approx(0.853, abs=0.03)
    second = sum(pair == ("much", "some") for pair in pairs)
    assert second / first == pytest.approx(0.876, abs=0.03)


def test_without_it_no_code_is_asked_for() -> None:
    graph = grown(3, 1, distinct=False)
    assert all("interval" not in thought for thought in graph.thoughts.values())
