"""The backup by hand, on the whole path, and what it can never do."""

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_agent.operators.backpropagate import average, backpropagate, backpropagate_all
from rlm_agent.structure.thoughts import ThoughtGraph
from tests.structure.trees import graft, grown, marked, plant

TREE = {"q": ["a", "b"], "a": ["aa", "ab"]}


def backed_up(
    *returns: tuple[str, float], gamma: float = 1.0, learning_rate: float = 1.0
) -> dict[str, tuple[int, float]]:
    """Visits and q by text after these returns, in turn."""
    graph, ids = grown(TREE)
    leaves = [(ids[text], value) for text, value in returns]
    graph = graph.updated(backpropagate_all(graph, leaves, gamma=gamma, learning_rate=learning_rate))
    return {text: (graph.stats[id]["visits"], graph.stats[id]["q"]) for text, id in ids.items()}


def test_the_whole_path_is_updated_and_the_root_with_it() -> None:
    assert backed_up(("aa", 0.6)) == {
        "q": (1, 0.6),
        "a": (1, 0.6),
        "b": (0, 0.0),
        "aa": (1, 0.6),
        "ab": (0, 0.0),
    }


def test_returns_are_weighted_by_visits_as_computed_by_hand() -> None:
    """With lr = 1, γ = 1, the returns aa ← 0.8, ab ← −0.4, b ← 0.5, aa ← 0.2.

    aa ← .8: a = .8, q = .8.  ab ← −.4: a = (2·.8 + 2·−.4)/4 = .2; q = .2.
    b ← .5: q = (N_a + 1 = 3: 3·.2 + 2·.5)/5 = .32.
    aa ← .2: a = (3·.2 + 2·−.4)/5 = −.04 with N = 3; q = (4·−.04 + 2·.5)/6 = .14.
    """
    found = backed_up(("aa", 0.8), ("ab", -0.4), ("b", 0.5), ("aa", 0.2))
    assert {text: visits for text, (visits, _) in found.items()} == {"q": 4, "a": 3, "b": 1, "aa": 2, "ab": 1}
    assert {text: q for text, (_, q) in found.items()} == pytest.approx(
        {"q": 0.14, "a": -0.04, "b": 0.5, "aa": 0.2, "ab": -0.4}
    )


def test_gamma_discounts_and_the_learning_rate_blends_at_every_level() -> None:
    """With lr = ½, γ = .9 every level keeps half of its q and takes .45 of its children's mean.

    aa ← 1: a = .45 · 1 = .45; q = .45 · .45 = .2025.
    b ← −1: the mean over a (N = 1) and b (N = 1) is (2·.45 + 2·−1)/4 = −.275;
    q = ½ · .2025 + .45 · −.275 = −.0225.
    """
    found = backed_up(("aa", 1.0), ("b", -1.0), gamma=0.9, learning_rate=0.5)
    assert {text: q for text, (_, q) in found.items()} == pytest.approx(
        {"q": -0.0225, "a": 0.45, "b": -1.0, "aa": 1.0, "ab": 0.0}
    )


def test_a_return_at_the_root_itself_is_its_value() -> None:
    graph = plant()
    writes = backpropagate(graph, graph.root, 0.5)
    assert (writes.stats[graph.root]["visits"], writes.stats[graph.root]["q"]) == (1, 0.5)


def test_only_statistics_of_the_path_are_written_and_the_rest_of_them_stays() -> None:
    graph, ids = grown(TREE)
    graph = marked(graph, ids["a"], value=0.7, closed=True)
    writes = backpropagate(graph, ids["aa"], 0.5)
    assert writes.thoughts == {}
    assert set(writes.stats) == {ids["q"], ids["a"], ids["aa"]}
    kept = writes.stats[ids["a"]]
    assert (kept["value"], kept["closed"], kept["children"]) == (0.7, True, 2)


def test_a_backup_changes_none_of_its_inputs() -> None:
    graph, ids = grown(TREE)
    before = copy.deepcopy((graph.thoughts, graph.stats))
    backpropagate_all(graph, [(ids["aa"], 1.0), (ids["b"], 0.0)], gamma=0.9, learning_rate=0.5)
    assert (graph.thoughts, graph.stats) == before


@st.composite
def searches(draw: st.DrawFn) -> list[tuple[int, float]]:
    """Returns in the order of their coming: the number of the parent of a new leaf, and the leaf's return."""
    count = draw(st.integers(1, 25))
    return [(draw(st.integers(0, number)), draw(st.floats(-1, 1))) for number in range(count)]


@given(searches(), st.floats(0.0, 1.0), st.floats(0.01, 1.0))
def test_q_stays_within_the_returns_and_every_backup_is_counted(
    returns: list[tuple[int, float]], gamma: float, learning_rate: float
) -> None:
    graph: ThoughtGraph = plant()
    ids = [graph.root]
    for parent, value in returns:
        graph, leaf = graft(graph, ids[parent], "s")
        ids.append(leaf)
        graph = graph.updated(backpropagate(graph, leaf, value, gamma=gamma, learning_rate=learning_rate))
    assert all(-1 - 1e-12 <= stats["q"] <= 1 + 1e-12 for stats in graph.stats.values())
    assert graph.stats[graph.root]["visits"] == len(returns)
    for id in ids:
        below = sum(graph.stats[child]["visits"] for child in graph.children(id))
        assert graph.stats[id]["visits"] == below + (id != graph.root)


def test_an_average_counts_each_return_once_along_the_whole_path() -> None:
    """Returns 1 and 0 at b under a, −1 at c: q of b ½, of a ½, of the root 0."""
    graph, ids = grown({"q": ["a", "c"], "a": ["b"]})
    stats = average(graph, [(ids["b"], 1.0), (ids["b"], 0.0), (ids["c"], -1.0)]).stats
    found = {name: (stats[id]["visits"], stats[id]["q"]) for name, id in ids.items()}
    assert found == {"q": (3, 0.0), "a": (2, 0.5), "b": (2, 0.5), "c": (1, -1.0)}
    assert average(graph, []).stats == {}


def test_an_average_goes_on_from_what_was_backed_up_before() -> None:
    graph, ids = grown({"q": ["a"]})
    before = graph.updated(average(graph, [(ids["a"], 1.0)]))
    stats = average(before, [(ids["a"], -0.5)]).stats
    assert stats[graph.root]["visits"] == 2 and stats[graph.root]["q"] == pytest.approx(0.25)
