"""The score of a child, the descent, and the rules that pick an answer."""

import copy
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_agent.operators.select import (
    best,
    follow,
    likelihood,
    most_visited,
    own_value,
    policy_priors,
    puct,
    puct_scores,
    top,
    uct_scores,
    uniform_priors,
    vote,
)
from rlm_agent.structure.thoughts import Stats, ThoughtGraph
from rlm_agent.tasks.answers import normalise
from tests.structure.trees import graft, grown, marked, plant


def stats(visits: int, q: float = 0.0) -> Stats:
    return Stats(visits=visits, q=q, value=None, children=0, closed=False)


def finals(answers: list[str], scores: list[float] | None = None) -> tuple[ThoughtGraph, list[str]]:
    """A root with one finished chain for each answer, and their ids."""
    graph, ids = plant(), []
    for answer, score in zip(answers, scores or [0.5] * len(answers), strict=True):
        graph, id = graft(graph, graph.root, f"so {answer}", "final", answer=answer, value=score)
        ids.append(id)
    return graph, ids


def test_puct_is_the_value_plus_the_exploration_by_hand() -> None:
    """Algorithm 1 with N_parent = 9, N_child = 2, q = 0.4, prior = 0.25, c1 = 1.25, c2 = 19652.

    q̂ = (0.4 + 1) / 2 = 0.7; √9 / (1 + 2) = 1; ln((9 + 19652 + 1) / 19652) = ln(19662 / 19652)
    = 0.000508724; so 0.7 + 1 · (1.25 + 0.000508724) · 0.25 = 1.012627181.
    """
    assert puct(stats(9), stats(2, 0.4), 0.25, c1=1.25, c2=19652.0) == pytest.approx(1.012627181, abs=1e-9)


def test_a_small_c2_lets_exploration_grow_with_the_visits() -> None:
    """N_parent = 4, N_child = 0, q = 0, prior = 0.5, c1 = 1, c2 = 5: 0.5 + 2 · (1 + ln 2) · 0.5."""
    assert puct(stats(4), stats(0), 0.5, c1=1.0, c2=5.0) == pytest.approx(1.5 + math.log(2), abs=1e-12)


def test_the_score_under_an_unvisited_parent_is_a_number() -> None:
    assert puct(stats(0), stats(0), 1.0) == 0.5
    graph, ids = grown({"q": ["a", "b"]})
    assert descent(graph) == ids["a"]


@given(st.integers(0, 500), st.integers(0, 500), st.floats(-1, 1), st.floats(0, 1))
def test_puct_is_finite_and_sinks_with_the_visits_of_the_child(
    parent: int, child: int, q: float, prior: float
) -> None:
    score = puct(stats(parent), stats(child, q), prior)
    assert math.isfinite(score) and score >= 0
    assert puct(stats(parent), stats(child + 1, q), prior) <= score


def is_leaf(graph: ThoughtGraph, id: str) -> bool:
    return not graph.stats[id]["children"]


def descent(graph: ThoughtGraph) -> str | None:
    return follow(graph, is_leaf, puct_scores(uniform_priors, 1.25, 19652.0))


def test_a_descent_follows_the_best_score_at_every_level() -> None:
    graph, ids = grown({"q": ["a", "b"], "b": ["ba", "bb"]})
    for text, q in {"a": -0.5, "b": 0.5, "ba": 0.9, "bb": -0.9}.items():
        graph = marked(graph, ids[text], visits=3, q=q)
    graph = marked(graph, graph.root, visits=6)
    assert descent(graph) == ids["ba"]


def test_a_descent_prefers_what_is_hardly_visited_where_values_are_alike() -> None:
    graph, ids = grown({"q": ["a", "b"]})
    graph = marked(marked(graph, ids["a"], visits=5), graph.root, visits=6)
    assert descent(marked(graph, ids["b"], visits=1)) == ids["b"]


def test_a_descent_skips_what_is_closed_and_finds_nothing_where_all_is() -> None:
    graph, ids = grown({"q": ["a", "b"]})
    graph = marked(marked(graph, ids["a"], q=1.0, closed=True), graph.root, visits=2)
    assert descent(graph) == ids["b"]
    graph = marked(graph, ids["b"], closed=True)
    assert descent(graph) is None
    assert descent(marked(graph, graph.root, closed=True)) is None


def test_priors_sum_to_one_and_follow_the_mean_log_probability_of_a_token() -> None:
    graph = plant()
    graph, first = graft(graph, graph.root, "a", tokens=2, logprob=2 * math.log(0.6))
    graph, second = graft(graph, graph.root, "b", tokens=4, logprob=4 * math.log(0.2))
    assert policy_priors(graph, [first, second]) == pytest.approx([0.75, 0.25])
    assert uniform_priors(graph, [first, second]) == [0.5, 0.5]


def test_top_keeps_the_best_and_leaves_ties_in_their_order() -> None:
    graph, ids = finals(["a", "b", "c", "d"], [0.2, 0.7, 0.2, 0.9])
    assert top(graph, ids, own_value, 3) == [ids[3], ids[1], ids[0]]
    assert top(graph, ids, own_value, 9) == [ids[3], ids[1], ids[0], ids[2]]


def test_the_likelihood_of_a_chain_is_that_of_all_its_steps() -> None:
    graph, id = plant(), plant().root
    for logprob in (-0.5, -0.25, -1.0):
        graph, id = graft(graph, id, "s", logprob=logprob)
    assert likelihood(graph, id) == -1.75


def test_the_best_answer_is_the_first_of_the_highest_value_whatever_the_visits() -> None:
    graph, ids = finals(["a", "b", "c"], [0.3, 0.8, 0.8])
    graph = marked(graph, ids[0], visits=1000, q=1.0)
    assert best(graph, ids) == ids[1]
    assert best(graph, []) is None


def test_the_most_visited_answer_is_found_with_ties_broken_by_value() -> None:
    graph, ids = finals(["a", "b", "c"], [0.9, 0.3, 0.4])
    for id, visits in zip(ids, (1, 4, 4), strict=True):
        graph = marked(graph, id, visits=visits)
    assert most_visited(graph, ids) == ids[2]
    assert most_visited(graph, []) is None


@pytest.mark.parametrize(
    ("answers", "winner"),
    [("a b a c a", 0), ("x y y x", 0), ("y x x", 1), ("2 3 3 2.0 4/2", 0), ("only", 0)],
)
def test_the_most_frequent_answer_wins_and_ties_go_to_the_first_seen(answers: str, winner: int) -> None:
    graph, ids = finals(answers.split())
    assert vote(graph, ids, normalise) == ids[winner]


def test_no_answer_has_no_vote() -> None:
    assert vote(plant(), [], normalise) is None


@pytest.mark.parametrize(
    ("answers", "scores", "majority", "weighted", "single"),
    [
        ("12 7 12 7 7", [0.9, 0.3, 0.4, 0.3, 0.3], "7", "12", "12"),
        ("7 12 7 3", [0.2, 0.9, 0.3, 0.1], "7", "12", "12"),
    ],
)
def test_a_weighted_vote_sums_the_scores_of_equal_answers(
    answers: str, scores: list[float], majority: str, weighted: str, single: str
) -> None:
    graph, ids = finals(answers.split(), scores)
    chosen = [vote(graph, ids, normalise), vote(graph, ids, normalise, own_value), best(graph, ids)]
    assert [graph.thoughts[id]["answer"] for id in chosen if id] == [majority, weighted, single]


def test_similar_texts_with_different_answers_do_not_merge_in_a_vote() -> None:
    said = "The total number of apples in all baskets is {} apples."
    answers = [said.format(12), said.format(15), said.format(15)]
    graph, ids = finals(answers)
    assert vote(graph, ids, normalise) == ids[1]


def test_selecting_changes_nothing() -> None:
    graph, ids = finals(["a", "b", "a"], [0.1, 0.2, 0.3])
    before = copy.deepcopy((graph.thoughts, graph.stats, ids))
    top(graph, ids, own_value, 2)
    vote(graph, ids, normalise, own_value)
    best(graph, ids)
    descent(graph)
    assert (graph.thoughts, graph.stats, ids) == before


def test_uct_scores_bring_q_to_the_unit_range_and_put_what_nobody_has_visited_first() -> None:
    """Under 4 visits: (.6 + 1)/2 + 2·√(ln 4 / 3) = 2.159541."""
    graph, ids = grown({"q": ["a", "b"]})
    graph = marked(marked(graph, ids["a"], visits=3, q=0.6), graph.root, visits=4)
    scores = uct_scores(2.0)(graph, graph.root, [ids["a"], ids["b"]])
    assert scores == [pytest.approx(0.8 + 2 * math.sqrt(math.log(4) / 3)), math.inf]
