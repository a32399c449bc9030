"""Closing what is not worth going on with."""

import copy

from rlm_agent.operators.prune import (
    all_closed,
    beyond_top,
    close,
    duplicates,
    elders,
    exhausted,
    known_states,
    repeats,
    twin,
)
from rlm_agent.operators.select import own_value
from rlm_agent.structure.thoughts import ThoughtGraph
from tests.structure.trees import graft, grown, marked, plant


def always(graph: ThoughtGraph, id: str) -> bool:
    return True


def test_closing_changes_nothing_but_that() -> None:
    graph, ids = grown({"q": ["a", "b"]})
    graph = marked(graph, ids["a"], visits=3, value=0.5)
    before = copy.deepcopy((graph.thoughts, graph.stats))
    writes = close(graph, [ids["a"]])
    assert writes.thoughts == {}
    assert writes.stats == {ids["a"]: {**graph.stats[ids["a"]], "closed": True}}
    assert (graph.thoughts, graph.stats) == before


def test_siblings_of_one_text_are_twins_of_the_eldest() -> None:
    graph, ids = plant(), []
    for text in ("1 + 2", "2 + 1", " 1 + 2 ", "1 + 2"):
        graph, id = graft(graph, graph.root, text)
        ids.append(id)
    assert [twin(graph, id) for id in ids] == [ids[0], ids[1], ids[0], ids[0]]
    assert duplicates(graph, ids) == [ids[2], ids[3]]


def test_states_decide_where_there_are_any() -> None:
    graph, root = plant(), plant().root
    graph, first = graft(graph, root, "1 + 2", state="3")
    graph, second = graft(graph, root, "2 + 1", state="3")
    graph, third = graft(graph, root, "1 + 2", state="-3")
    assert [twin(graph, id) for id in (first, second, third)] == [first, first, third]


def test_neither_cousins_nor_kinds_nor_failures_nor_roots_are_twins() -> None:
    graph, ids = grown({"q": ["a", "b"]})
    graph, cousin = graft(graph, ids["a"], "same")
    graph, other = graft(graph, ids["b"], "same")
    graph, end = graft(graph, ids["b"], "same", "final", answer="4")
    graph, failed = graft(graph, ids["b"], "bad", "failed")
    graph, again = graft(graph, ids["b"], "bad", "failed")
    everyone = [cousin, other, end, failed, again, graph.root]
    assert [twin(graph, id) for id in everyone] == everyone


def test_what_is_open_and_not_among_the_best_is_beyond_the_top() -> None:
    graph, ids = plant(), []
    for value in (0.1, 0.9, 0.5, 0.5, 1.0):
        graph, id = graft(graph, graph.root, str(value), value=value)
        ids.append(id)
    graph = marked(graph, ids[4], closed=True)
    assert beyond_top(graph, ids, own_value, 2) == [ids[0], ids[3]]
    assert beyond_top(graph, ids, own_value, 9) == []


def test_all_closed_is_about_each() -> None:
    graph, ids = grown({"q": ["a", "b"]})
    graph = marked(graph, ids["a"], closed=True)
    assert all_closed(graph, [ids["a"]]) and all_closed(graph, [])
    assert not all_closed(graph, [ids["a"], ids["b"]])


def test_exhaustion_closes_ancestors_up_to_the_first_with_something_open() -> None:
    graph, ids = grown({"q": ["a", "b"], "a": ["aa"], "aa": ["aaa", "aab"]})
    graph = marked(marked(graph, ids["aaa"], closed=True), ids["aab"], closed=True)
    before = copy.deepcopy((graph.thoughts, graph.stats))
    writes = exhausted(graph, [ids["aaa"], ids["aab"]], always)
    assert set(writes.stats) == {ids["aa"], ids["a"]}
    assert all(stats["closed"] for stats in writes.stats.values())
    assert (graph.thoughts, graph.stats) == before
    graph = marked(graph, ids["b"], closed=True)
    assert set(exhausted(graph, [ids["aab"]], always).stats) == {ids["aa"], ids["a"], ids["q"]}


def test_a_thought_that_is_not_given_up_stays_open_and_its_ancestors_with_it() -> None:
    graph, ids = grown({"q": ["a"], "a": ["aa"]})
    graph = marked(graph, ids["aa"], closed=True)
    assert exhausted(graph, [ids["aa"]], lambda graph, id: id != ids["a"]).stats == {}
    assert set(exhausted(graph, [ids["aa"]], lambda graph, id: id != ids["q"]).stats) == {ids["a"]}


def test_a_child_that_failed_or_says_what_an_elder_said_is_a_repeat() -> None:
    graph, root = plant(), plant().root
    assert repeats(graph, root) == 0
    for text, kind, expected in [
        ("a", "step", 0),
        ("b", "step", 0),
        ("a", "step", 1),
        ("", "failed", 2),
        ("", "failed", 3),
        ("c", "final", 3),
        (" b", "step", 4),
    ]:
        graph, _ = graft(graph, root, text, kind)  # type: ignore[arg-type]
        assert repeats(graph, root) == expected


def test_a_known_state_is_that_of_whoever_is_visited_most_in_it() -> None:
    graph = plant()
    graph, first = graft(graph, graph.root, "a", state="s", visits=1)
    graph, second = graft(graph, first, "b", state="s", visits=4)
    graph, failed = graft(graph, graph.root, "f", "failed", state="t", visits=9)
    graph, fresh = graft(graph, graph.root, "c", state="s")
    graph, new = graft(graph, graph.root, "d", state="t")
    graph, again = graft(graph, graph.root, "e", state="t")
    graph, stateless = graft(graph, graph.root, "g")
    ids = [fresh, new, failed, again, stateless]
    assert elders(graph, ids) == {fresh: second, again: new}
    assert known_states(graph, ids) == [fresh, again]
    assert elders(graph, [second]) == {second: second}, "nobody knows more of that state"
