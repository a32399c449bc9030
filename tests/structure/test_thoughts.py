"""The id-keyed graph of thoughts as its view shows it."""

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_agent.structure.ids import child_id, root_id
from rlm_agent.structure.thoughts import Kind, Overlay, Stats, Thought, ThoughtGraph, Writes, fresh_stats
from tests.structure.trees import graft, grown, plant

TEXTS = {"q": ["a", "b"], "a": ["aa", "ab"], "b": ["ba"], "ab": ["aba"]}


def test_children_come_in_the_order_of_their_birth_and_are_named_by_it() -> None:
    graph, ids = grown(TEXTS)
    assert graph.children(ids["a"]) == [ids["aa"], ids["ab"]]
    assert graph.children(ids["a"]) == [child_id(ids["a"], 0), child_id(ids["a"], 1)]
    assert graph.children(ids["aba"]) == []


def test_a_path_runs_from_the_root_to_the_thought() -> None:
    graph, ids = grown(TEXTS)
    assert graph.path(ids["aba"]) == [ids["q"], ids["a"], ids["ab"], ids["aba"]]
    assert graph.path(graph.root) == [graph.root]
    assert graph.steps(ids["aba"]) == ["a", "ab", "aba"]
    assert graph.question == "q"


def test_walk_meets_every_thought_once_parents_first_elder_siblings_first() -> None:
    graph, _ = grown(TEXTS)
    assert [graph.thoughts[id]["text"] for id in graph.walk()] == ["q", "a", "aa", "ab", "aba", "b", "ba"]


def test_walk_leaves_out_the_thoughts_of_other_questions() -> None:
    graph, ids = grown(TEXTS)
    other = plant("another")
    older = root_id(2)
    both = graph.updated(
        Writes({older: other.thoughts[other.root]}, {older: other.stats[other.root]}),
    )
    assert older in both.thoughts
    assert set(both.walk()) == set(ids.values())


def test_finals_are_the_ends_of_chains() -> None:
    graph, ids = grown(TEXTS)
    graph, last = graft(graph, ids["b"], "end", "final", answer="4")
    graph, first = graft(graph, ids["aa"], "end", "final", answer="5")
    graph, _ = graft(graph, ids["aa"], "refused", "failed")
    assert graph.finals() == [first, last]


@pytest.mark.parametrize(("kind", "closed"), [("root", 0), ("step", 0), ("final", 1), ("failed", 1)])
def test_only_a_root_or_a_step_is_born_open(kind: Kind, closed: int) -> None:
    thought = Thought(parent=None, index=0, depth=0, kind=kind, text="", tokens=0, logprob=0.0)
    stats = fresh_stats(thought)
    assert stats == Stats(visits=0, q=0.0, value=None, children=0, closed=bool(closed))


def test_an_update_leaves_the_old_graph_as_it_is() -> None:
    graph, ids = grown(TEXTS)
    before = copy.deepcopy((graph.thoughts, graph.stats))
    newer, added = graft(graph, ids["aa"], "more")
    assert (graph.thoughts, graph.stats) == before
    assert added in newer.thoughts and added not in graph.thoughts


def test_later_writes_hold() -> None:
    graph, ids = grown({"q": ["a"]})
    stats = graph.stats[ids["a"]]
    first = Writes({}, {ids["a"]: Stats({**stats, "visits": 1}), "x": stats})
    second = Writes({}, {ids["a"]: Stats({**stats, "visits": 2}), "y": stats})
    together = first.followed_by(second)
    assert together.stats[ids["a"]]["visits"] == 2
    assert set(together.stats) == {ids["a"], "x", "y"}


KEYS = st.sampled_from("abcdef")
LAYERS = st.lists(st.dictionaries(KEYS, st.integers()), max_size=5)


@given(st.dictionaries(KEYS, st.integers()), LAYERS)
def test_an_overlay_reads_as_the_merged_mapping_would(
    below: dict[str, int], layers: list[dict[str, int]]
) -> None:
    merged, laid = dict(below), Overlay(below, {})
    for layer in layers:
        merged.update(layer)
        laid = Overlay(laid, layer)
    assert laid == merged and list(laid) == list(merged) and len(laid) == len(merged)
    assert all((key in laid) == (key in merged) for key in "abcdefg")


def test_updates_in_a_row_lay_one_layer_over_what_was_there() -> None:
    """A tree of any size is never copied, and nothing looks through more than two mappings."""
    graph, ids = grown(TEXTS)
    plain = ThoughtGraph(graph.root, dict(graph.thoughts), dict(graph.stats))
    newer = plain
    for visits in range(5):
        newer = newer.updated(Writes({}, {ids["a"]: Stats({**plain.stats[ids["a"]], "visits": visits})}))
    assert newer.thoughts is plain.thoughts
    assert isinstance(newer.stats, Overlay) and newer.stats.below is plain.stats
    assert set(newer.stats.above) == {ids["a"]} and newer.stats[ids["a"]]["visits"] == 4


def test_a_thought_that_stands_in_another_s_place_goes_on_from_what_stood_before_it() -> None:
    graph, ids = grown({"q": ["a"], "a": ["wrong"], "wrong": ["right"]})
    right = Thought({**graph.thoughts[ids["right"]], "base": ids["a"]})
    graph = graph.updated(Writes({ids["right"]: right}, {}))
    assert graph.steps(ids["right"]) == ["a", "right"]
    assert graph.chain(ids["right"]) == [ids["a"], ids["right"]]
    assert graph.path(ids["right"]) == [graph.root, ids["a"], ids["wrong"], ids["right"]]
    assert (graph.base(ids["a"]), graph.base(graph.root)) == (graph.root, None)
