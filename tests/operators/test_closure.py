"""The incremental closure against the textbook's, after each addition."""

from collections.abc import Sequence
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from rlm_agent.operators.rules.closure import Closure

Edges = set[tuple[int, int]]


def textbook(size: int, edges: Edges) -> list[set[int]]:
    """Floyd's and Warshall's three loops; what each node reaches, itself included."""
    reached = [{node} | {b for a, b in edges if a == node} for node in range(size)]
    for through in range(size):
        for node in range(size):
            if through in reached[node]:
                reached[node] |= reached[through]
    return reached


def grow(additions: Sequence[tuple[Sequence[int], Sequence[int]]], *, every: int = 1) -> None:
    """Add nodes with edges to and from older ones, and compare what is known after `every` few."""
    closure, edges = Closure(), Edges()
    for new, drawn in enumerate(additions):
        below, above = (sorted({other % new for other in others if new}) for others in drawn)
        edges |= {(new, b) for b in below} | {(a, new) for a in above}
        component = closure.add(below, above)
        if new % every:
            continue
        reached = textbook(new + 1, edges)
        assert closure.counts.tolist() == [len(others) - 1 for others in reached]
        assert component.tolist() == sorted(node for node in reached[new] if new in reached[node])


some = st.lists(st.integers(0, 10**6), max_size=3)


@given(st.lists(st.tuples(some, some), max_size=14))
def test_counts_and_components_are_those_of_the_textbook(
    additions: list[tuple[list[int], list[int]]],
) -> None:
    grow(additions)


def test_more_nodes_than_a_word_has_bits() -> None:
    """Sparse both ways, so that late additions join what was apart, across words and across a regrowth."""
    for seed in range(2):
        draw = Random(seed).randrange
        grow([([draw(10**6)] * draw(2), [draw(10**6)] * draw(2)) for _ in range(70)], every=23)


def test_more_words_than_two() -> None:
    """Rings and ladders whose parts meet late, where whole words and the last one have gains."""
    for seed in range(3):
        draw = Random(seed).randrange
        sparse = [([draw(10**6)] * (draw(3) > 0), [draw(10**6)] * (draw(3) > 1)) for _ in range(140)]
        late = [([draw(140)], [draw(140)]) for _ in range(10)]
        grow([*sparse, *late], every=149 if seed else 137)
