"""The Enhanced Borda Count, on worked numbers, and the kept ranking against one that is made anew."""

from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_agent.operators.backpropagate import visited
from rlm_agent.operators.rules.borda import admit, highest_ranked, ranked, standing
from rlm_agent.operators.rules.ranking import Ranking
from rlm_agent.operators.rules.rivals import new_pairs
from rlm_agent.operators.rules.shares import Shares
from rlm_agent.structure.thoughts import Stats, ThoughtGraph, Writes
from tests.operators import dense_borda
from tests.operators.dense_borda import (
    borda_values,
    local_score,
    passed_up,
    preferences_among,
    quantiles,
    rerank,
    wins,
)
from tests.structure.trees import graft, grown, marked, plant

Table = dict[str, dict[str, float]]


def known(ids: str, **pairs: float) -> Table:
    """The preferences among one-letter ids; `ab=0.8` says that P(a ≻ b) is .8."""
    table: Table = {id: {} for id in ids}
    for (first, second), probability in ((tuple(pair), p) for pair, p in pairs.items()):
        table[first][second], table[second][first] = probability, 1 - probability
    return table


@pytest.mark.parametrize(
    ("table", "counts", "scores"),
    [
        (known("a"), {"a": 0}, {"a": 0.5}),  # 0 / 0 in the paper
        (known("abcd"), dict.fromkeys("abcd", 0), dict.fromkeys("abcd", 0.5)),  # nothing is known
        (known("ab", ab=0.5), {"a": 1, "b": 1}, {"a": 0.5, "b": 0.5}),  # each wins against the other
        # a ≻ b ≻ c, and so a ≻ c, which nobody has said.
        (known("abc", ab=0.8, bc=0.6), {"a": 2, "b": 1, "c": 0}, {"a": 1, "b": 0.5, "c": 0}),
        # A cycle: all win against all. P sums to .9 + .4 for a, .1 + .7 for b, .6 + .3 for c.
        (known("abc", ab=0.9, bc=0.7, ca=0.6), dict.fromkeys("abc", 2), {"a": 1, "b": 0, "c": 0.5}),
        # The cycle stands below d: 3 and 2, 2, 2.
        (
            known("abcd", ab=0.9, bc=0.7, ca=0.6, da=0.5001),
            {"a": 2, "b": 2, "c": 2, "d": 3},
            {"a": 2 / 3, "b": 0, "c": 1 / 3, "d": 1},
        ),
        # b and c are alike below a: they share the ranks 2 and 3.
        (known("abc", ab=0.9, ac=0.9), {"a": 2, "b": 0, "c": 0}, {"a": 1, "b": 0.25, "c": 0.25}),
    ],
)
def test_counts_and_quantiles_by_hand(table: Table, counts: dict[str, int], scores: dict[str, float]) -> None:
    assert wins(list(table), table) == counts
    assert quantiles(list(table), table) == pytest.approx(scores)


@st.composite
def tables(draw: st.DrawFn) -> Table:
    """Preferences among up to eight, any pair of them unknown."""
    ids = "abcdefgh"[: draw(st.integers(1, 8))]
    p = st.none() | st.sampled_from([0.0, 0.3, 0.5, 0.7, 1.0])
    pairs = {f"{a}{b}": draw(p) for number, a in enumerate(ids) for b in ids[number + 1 :]}
    return known(ids, **{pair: p for pair, p in pairs.items() if p is not None})


def textbook(ids: Sequence[str], table: Table) -> dict[str, int]:
    """Floyd's and Warshall's three loops over a matrix of truth values."""
    beats = {(a, b): table[a].get(b, 0) >= 0.5 for a in ids for b in ids}
    for through in ids:
        for a in ids:
            for b in ids:
                beats[a, b] = beats[a, b] or (beats[a, through] and beats[through, b])
    return {a: sum(beats[a, b] for b in ids if b != a) for a in ids}


@given(tables(), st.randoms(use_true_random=False))
def test_counts_are_those_of_the_closure_and_no_order_of_ids_matters(table: Table, rng: Any) -> None:
    ids = list(table)
    assert wins(ids, table) == textbook(ids, table)
    scores = quantiles(ids, table)
    assert all(0 <= score <= 1 for score in scores.values())
    assert sum(scores.values()) == pytest.approx(len(ids) / 2)
    rng.shuffle(ids)
    assert quantiles(ids, table) == pytest.approx(scores)


def ranking_of(graph: ThoughtGraph, count: int | None = None, *, gamma: float = 0.1) -> Ranking:
    """The ranking of the first `count` thoughts that a graph ranks, or of all."""
    ranking, ids = Ranking(alpha=0.9, gamma=gamma), ranked(graph)
    ranking.take_up(graph if count is None else unranked(graph, ids[count:]))
    return ranking


def unranked(graph: ThoughtGraph, ids: Sequence[str]) -> ThoughtGraph:
    """The graph in which some thoughts were not admitted yet."""
    stats = {id: Stats({**graph.stats[id]}) for id in ids}
    for one in stats.values():
        del one["preferences"]
    return graph.updated(Writes({}, stats))


def family() -> tuple[ThoughtGraph, dict[str, str]]:
    """Three solutions that are ranked, b and c rewrites of a; P(a ≻ b) = .8 and P(b ≻ c) = .6 are known."""
    graph, ids = grown({"q": ["a"], "a": ["b", "c"]})
    for name, said in (("a", {}), ("b", {"a": 0.2}), ("c", {"b": 0.4})):
        graph = marked(graph, ids[name], preferences={ids[other]: p for other, p in said.items()})
    return graph, ids


def by_name(ids: dict[str, str], values: Any) -> dict[str, Any]:
    return {name: values[id] for name, id in ids.items() if id in values}


def test_values_mix_the_rank_with_what_the_neighbours_say() -> None:
    """Q_g is 1, ½, 0. Q_l is .8 for a, compared with its child b; .2 for b, compared with its parent; none
    for c, which was compared with its sibling only. Q is .9 + .08, .45 + .02 and 0.
    """
    graph, ids = family()
    table = preferences_among(graph, ranked(graph))
    assert by_name(ids, {id: local_score(graph, id, table) for id in table}) == {
        "a": 0.8,
        "b": 0.2,
        "c": None,
    }
    assert by_name(ids, borda_values(graph, ranked(graph), table, alpha=0.9)) == pytest.approx(
        {"a": 0.98, "b": 0.47, "c": 0.0}
    )
    assert ranking_of(graph, gamma=0.0).worth == pytest.approx([0.96, -0.06, -1.0])


def test_parents_have_a_share_of_each_child_in_the_order_of_birth() -> None:
    """.9 · .98 + .1 · .47 = .929 by b, then .9 · .929 + .1 · 0 = .8361 by c; q is twice that, less 1."""
    graph, ids = family()
    values = {ids["a"]: 0.98, ids["b"]: 0.47, ids["c"]: 0.0}
    assert by_name(ids, passed_up(graph, values, gamma=0.1)) == pytest.approx(
        {"a": 0.8361, "b": 0.47, "c": 0}
    )
    after = graph.updated(ranking_of(graph).writes(graph))
    q = {id: stats["q"] for id, stats in after.stats.items()}
    assert by_name(ids, q) == pytest.approx({"q": 0.0, "a": 0.6722, "b": -0.06, "c": -1.0})


def test_shares_reach_up_through_several_generations() -> None:
    """b: ½ · .4 + ½ · 1 = .7, then a: ½ · 0 + ½ · .7 = .35."""
    graph, ids = grown({"q": ["a"], "a": ["b"], "b": ["c"]})
    found = passed_up(graph, {ids["a"]: 0.0, ids["b"]: 0.4, ids["c"]: 1.0}, gamma=0.5)
    assert by_name(ids, found) == pytest.approx({"a": 0.35, "b": 0.7, "c": 1.0})
    shares = Shares(0.5)
    for parent in (None, 0, 1):
        shares.add(parent)
    assert shares.passed_up(np.array([0.0, 0.4, 1.0])) == pytest.approx([0.35, 0.7, 1.0])


def test_many_shares_at_once_are_those_taken_one_by_one() -> None:
    """Forty parents of up to four children each, some of whom have children in turn."""
    rng, shares = Random(0), Shares(0.3)
    parents: list[int | None] = [None, *[0] * 40, *(rng.randrange(1, 41) for _ in range(80)), *range(41, 91)]
    values = [rng.random() for _ in parents]
    for parent in parents:
        shares.add(parent)
    found = list(values)
    for id in reversed(range(len(parents))):
        for child in (child for child, parent in enumerate(parents) if parent == id):
            found[id] = (1 - 0.3) * found[id] + 0.3 * found[child]
    assert shares.passed_up(np.array(values)).tolist() == found


def test_visits_are_counted_along_the_path_once_a_leaf() -> None:
    graph, ids = grown({"q": ["a"], "a": ["b", "c"]})
    after = graph.updated(visited(graph, [ids["b"], ids["c"]]))
    assert by_name(ids, {id: stats["visits"] for id, stats in after.stats.items()}) == {
        "q": 2, "a": 2, "b": 1, "c": 1
    }  # fmt: skip


def population() -> tuple[ThoughtGraph, dict[str, str]]:
    """Solutions of all standings, refused to accepted, and a repeat and an empty one."""
    graph, ids = plant(), {}
    for name, kind, text, value in (
        ("refused", "failed", "1 + 1 = 3", 0.0),
        ("rejected", "final", "1 + 1 = 2", 0.0),
        ("unjudged", "final", "1 * 1 = 1", None),
        ("accepted", "final", "2 * 2 = 4", 1.0),
        ("repeat", "final", " 1 + 1 = 2\n", 0.0),
        ("empty", "failed", " \n", 0.0),
    ):
        graph, ids[name] = graft(graph, graph.root, text, kind, value=value)  # type: ignore[arg-type]
    return graph, ids


def test_what_says_something_new_is_admitted_and_opened() -> None:
    graph, ids = population()
    after = graph.updated(admit(graph, list(ids.values()), ()))
    assert ranked(graph) == []
    assert ranked(after) == [ids[name] for name in ("refused", "rejected", "unjudged", "accepted")]
    assert {name for name, id in ids.items() if after.stats[id]["closed"]} == {"repeat", "empty"}
    ranking = ranking_of(after)
    assert len(ranking.offspring[after.root]) == 4
    later, twin = graft(after, after.root, "1 * 1 = 1", "final")
    assert admit(later, [twin], ranking.said).stats == {}


def test_what_is_known_without_a_comparison_is_not_asked() -> None:
    graph, ids = population()
    graph = graph.updated(admit(graph, list(ids.values()), ()))
    assert [standing(graph, ids[name]) for name in ("refused", "rejected", "unjudged", "accepted")] == [
        0, 1, 1, 2
    ]  # fmt: skip
    table = preferences_among(graph, ranked(graph))
    assert by_name(ids, table[ids["refused"]]) == {"rejected": 0, "unjudged": 0, "accepted": 0}
    assert by_name(ids, table[ids["rejected"]]) == {"refused": 1, "accepted": 0}
    assert by_name(ids, quantiles(ranked(graph), table)) == pytest.approx(
        {"refused": 0, "rejected": 0.5, "unjudged": 0.5, "accepted": 1}
    )
    assert new_pairs(graph, [ids["accepted"], ids["refused"]], ranking_of(graph, 0), 9) == []
    assert new_pairs(graph, list(ids.values()), ranking_of(graph, 0), 9) == [
        (ids["unjudged"], ids["rejected"])
    ]


def tower(count: int) -> Iterator[tuple[ThoughtGraph, list[str]]]:
    """Ranked solutions under the root, the first the best, and the rewrite of one of them as the last."""
    for parent in range(count):
        graph, ids = plant(), list[str]()
        for number in range(count):
            graph, id = graft(graph, graph.root, f"s{number}", "final", q=-number / 10, preferences={})
            ids.append(id)
        graph, id = graft(graph, ids[parent], "new", "final", preferences={})
        yield graph, [*ids, id]


@pytest.mark.parametrize("most", [1, 2, 3, 5, 9])
def test_a_new_thought_is_compared_with_its_parent_and_with_some_of_all_ranks(most: int) -> None:
    for graph, (*ids, new) in tower(6):
        pairs = new_pairs(graph, [new], ranking_of(graph, 6), most)
        others = [other for _, other in pairs]
        assert {first for first, _ in pairs} == {new}
        assert others[0] == graph.thoughts[new]["parent"]
        assert len(set(others)) == len(others) == min(most, 6)
        places = [ids.index(other) for other in others[1:]]
        assert places == sorted(places)
    assert most < 6 or places == [0, 1, 2, 3, 4]


def test_several_new_thoughts_are_compared_among_themselves_once() -> None:
    graph, ids = grown({"q": ["a", "b", "c"]})
    graph = graph.updated(admit(graph, [ids["a"], ids["b"], ids["c"]], ()))
    assert new_pairs(graph, [ids["b"], ids["c"]], ranking_of(graph, 1), 8) == [
        (ids["b"], ids["a"]), (ids["c"], ids["a"]), (ids["c"], ids["b"])
    ]  # fmt: skip


def test_the_highest_is_one_that_is_surely_right_then_one_that_is_ranked_then_by_q() -> None:
    graph, ids = population()
    finals = graph.finals()
    assert highest_ranked(graph, finals, {ids["unjudged"]: 1.0}) == ids["accepted"]
    assert highest_ranked(graph, [], {}) is None
    graph = marked(graph, ids["accepted"], value=None)
    assert highest_ranked(graph, finals, {ids["rejected"]: -0.4, ids["unjudged"]: -0.2}) == ids["unjudged"]


def batch(graph: ThoughtGraph, rng: Random, kinds: float) -> tuple[ThoughtGraph, list[str]]:
    """One to three new solutions below a ranked one or the root; some repeat, fail or are right."""
    parent, ids = rng.choice([graph.root, *ranked(graph)]), []
    for _ in range(rng.choice([1, 1, 1, 3])):
        kind, value = (
            rng.choice([("failed", 0.0), ("final", 1.0)]) if rng.random() < kinds else ("final", None)
        )
        text = f"s{rng.randrange(200)}"
        graph, id = graft(graph, parent, text, kind, value=value)  # type: ignore[arg-type]
        ids.append(id)
    return graph, ids


def prefer(graph: ThoughtGraph, pairs: Sequence[tuple[str, str]], rng: Random, ties: float) -> ThoughtGraph:
    """The graph after most of the pairs were compared, by chance or by the text."""
    for pair in pairs:
        if rng.random() < 0.1:
            continue
        first, second = (int(graph.thoughts[id]["text"][1:]) for id in pair)
        p = rng.choice([0.0, 0.3, 0.5, rng.random(), 1.0]) if rng.random() < ties else float(first > second)
        id, other = pair
        graph = marked(graph, id, preferences={**graph.stats[id].get("preferences", {}), other: p})
    return graph


@pytest.mark.parametrize("ties", [0.0, 0.05, 1.0])
@pytest.mark.parametrize(("kinds", "gamma"), [(0.0, 0.1), (0.3, 0.5)])
@pytest.mark.parametrize("seed", range(2))
def test_a_kept_ranking_is_that_of_dense_loops_to_the_bit(
    ties: float, kinds: float, gamma: float, seed: int
) -> None:
    """Over seventy rounds, so that closures grow beyond a word of 64 bits."""
    rng, graph, kept = Random(seed), plant(), Ranking(alpha=0.9, gamma=gamma)
    for _ in range(70):
        graph, fresh = batch(graph, rng, kinds)
        assert admit(graph, fresh, kept.said) == admit(
            graph, fresh, {graph.thoughts[id]["text"] for id in ranked(graph)}
        )
        graph = graph.updated(admit(graph, fresh, kept.said))
        most = rng.choice([1, 3, 8])
        pairs = new_pairs(graph, fresh, kept, most)
        assert pairs == dense_borda.new_pairs(graph, fresh, most)
        graph = prefer(graph, pairs, rng, ties)
        kept.take_up(graph)
        anew = rerank(graph, alpha=0.9, gamma=gamma)
        assert kept.writes(graph) == anew
        graph = graph.updated(anew)
    dense = quantiles(ranked(graph), preferences_among(graph, ranked(graph)))
    assert kept.quantiles().tolist() == [dense[id] for id in ranked(graph)]
    assert ranking_of(graph, gamma=gamma).worth.tolist() == kept.worth.tolist()


def test_a_ranking_is_not_gone_on_with_for_other_thoughts() -> None:
    graph, ids = family()
    kept = ranking_of(graph)
    assert kept.follows(graph)
    assert not kept.follows(unranked(graph, [ids["c"]]))
    assert not kept.follows(unranked(graph, [ids["b"], ids["c"]]))


def test_a_ranking_waits_for_thoughts_that_nobody_has_judged_yet() -> None:
    """b is admitted after it was first seen; c, visited without, never will be and is waited for no more."""
    graph, ids = family()
    early = unranked(graph, [ids["b"], ids["c"]])
    kept = ranking_of(early)
    assert kept.ids == [ids["a"]]
    kept.take_up(marked(early, ids["c"], visits=1))
    kept.take_up(marked(graph, ids["c"], visits=1))
    assert kept.ids == [ids["a"], ids["b"]]
