"""Several leaves for one batch, by virtual losses worked out by hand."""

import copy

import pytest

from rlm_agent.operators.rules.virtual import lose, pick_several
from rlm_agent.operators.select import follow, puct_scores, uniform_priors
from rlm_agent.structure.ids import child_id
from rlm_agent.structure.thoughts import ThoughtGraph
from tests.structure.trees import grown, marked


def short_of_two(graph: ThoughtGraph, id: str) -> int:
    return 2 - graph.stats[id]["children"]


def pick(graph: ThoughtGraph) -> str | None:
    return follow(
        graph, lambda graph, id: short_of_two(graph, id) > 0, puct_scores(uniform_priors, 1.0, 1e12)
    )


def two_leaves() -> tuple[ThoughtGraph, dict[str, str]]:
    graph, ids = grown({"q": ["a", "b"]})
    for text, q in {"a": 0.6, "b": -0.2}.items():
        graph = marked(graph, ids[text], visits=3, q=q)
    return marked(graph, graph.root, visits=6, q=0.2), ids


def test_visits_under_way_count_as_lost() -> None:
    """Two losses under a: q(a) = (3 · .6 − 2)/5 = −.04, q(root) = (6 · .2 − 2)/8 = −.1."""
    graph, ids = two_leaves()
    lost = lose(graph, ids["a"], 2, short_of_two)
    assert (lost.stats[ids["a"]]["visits"], lost.stats[graph.root]["visits"]) == (5, 8)
    assert lost.stats[ids["a"]]["q"] == pytest.approx(-0.04)
    assert lost.stats[graph.root]["q"] == pytest.approx(-0.1)
    assert lost.stats[ids["b"]] == graph.stats[ids["b"]]


def test_children_under_way_are_closed_and_so_is_what_is_short_of_no_more() -> None:
    graph, ids = two_leaves()
    lost = lose(graph, ids["a"], 2, short_of_two)
    assert lost.stats[child_id(ids["a"], 1)]["closed"] and lost.stats[ids["a"]]["closed"]
    assert not lost.stats[graph.root]["closed"]
    both = lose(lost, ids["b"], 2, short_of_two)
    assert both.stats[graph.root]["closed"] and pick(both) is None
    half = lose(graph, ids["a"], 1, short_of_two)
    assert not half.stats[ids["a"]]["closed"]


def test_leaves_of_one_batch_differ_and_are_as_many_as_there_are() -> None:
    graph, ids = two_leaves()
    before = copy.deepcopy((graph.thoughts, graph.stats))
    assert pick_several(graph, 1, pick, short_of_two) == [(ids["a"], 2)]
    assert pick_several(graph, 2, pick, short_of_two) == [(ids["a"], 2), (ids["b"], 2)]
    assert pick_several(graph, 9, pick, short_of_two) == [(ids["a"], 2), (ids["b"], 2)]
    assert (graph.thoughts, graph.stats) == before, "nothing of what was pretended is written"


def test_a_leaf_is_picked_again_where_its_visits_under_way_entitle_it_to_more() -> None:
    """With as many children as visits, the root is short of one more after each."""
    graph, _ = grown({"q": []})

    def as_many_as_visits(graph: ThoughtGraph, id: str) -> int:
        return graph.stats[id]["visits"] + 1 - graph.stats[id]["children"]

    plan = pick_several(graph, 3, lambda graph: graph.root, as_many_as_visits)
    assert plan == [(graph.root, 3)]
