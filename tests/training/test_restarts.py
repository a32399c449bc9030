"""Where training by restarts begins."""

import pytest

from rlm_agent.structure.errors import InputError
from rlm_agent.structure.metaactions import REFLECT
from rlm_agent.training.restarts import Chain, Restart, judged_chains, restarts
from tests.structure.trees import graft, plant

RIGHT = Chain("q", ("<|continue|>a", "<|continue|>b", "<|continue|>c"), True)
WRONG = Chain("q", ("<|continue|>a", "<|reflect|>no", "<|explore|>d"), False)


def test_a_restart_keeps_a_beginning_and_ends_in_the_reflection_that_is_to_be_written() -> None:
    assert Restart("q", ("<|continue|>a", "<|continue|>b"), "right").opening == (
        "<|continue|>a\n<|continue|>b\n<|reflect|>"
    )
    assert Restart("q").opening == ""


def test_without_steps_to_drop_the_whole_chains_are_reflected_on() -> None:
    assert restarts([RIGHT, WRONG], 0, seed=1) == [
        Restart("q"), Restart("q", RIGHT.steps, "right"), Restart("q", WRONG.steps, "wrong")
    ]  # fmt: skip


def test_at_most_so_many_steps_are_dropped_at_random_and_one_is_left() -> None:
    lengths = {len(restarts([RIGHT], 2, seed)[1].steps) for seed in range(50)}
    assert lengths == {1, 2, 3}
    assert {len(restarts([RIGHT], 1, seed)[1].steps) for seed in range(50)} == {2, 3}
    assert {len(restarts([RIGHT], 99, seed)[1].steps) for seed in range(50)} == {1, 2, 3}


def test_no_reflection_follows_another() -> None:
    found = {restarts([WRONG], 2, seed)[1].steps for seed in range(50)}
    assert found == {WRONG.steps, WRONG.steps[:1]}
    assert restarts([Chain("q", (f"{REFLECT}first",), False)], 5, seed=1) == [Restart("q")]


def test_one_right_and_one_wrong_chain_of_each_question_are_drawn() -> None:
    chains = [Chain(question, (f"{question}{n}",), n % 2 == 0) for n in range(6) for question in "xy"]
    found = restarts(chains, 3, seed=5)
    assert [(state.question, state.origin) for state in found] == [
        (question, origin) for question in "xy" for origin in ("question", "right", "wrong")
    ]
    drawn = {restarts(chains, 3, seed)[1].steps for seed in range(50)}
    assert drawn == {("x0",), ("x2",), ("x4",)}


def test_a_question_that_only_went_one_way_has_only_that_restart() -> None:
    assert [state.origin for state in restarts([RIGHT, RIGHT], 1, seed=2)] == ["question", "right"]
    assert restarts([Chain("q", (), False)], 1, seed=2) == [Restart("q")]
    assert restarts([], 1, seed=2) == []


def test_the_same_seed_draws_the_same_whatever_other_questions_there_are() -> None:
    other = Chain("other", ("<|continue|>z",), True)
    alone, together = restarts([RIGHT, WRONG], 2, seed=9), restarts([other, RIGHT, WRONG], 2, seed=9)
    assert [state for state in together if state.question == "q"] == alone


def test_chains_are_taken_from_a_search_as_the_verifier_judged_them() -> None:
    graph = plant()
    graph, a = graft(graph, graph.root, "a")
    graph, _ = graft(graph, a, "b", "final", answer="1", value=1.0)
    graph, _ = graft(graph, graph.root, "c", "final", answer="2", value=0.0)
    graph, _ = graft(graph, graph.root, "d", "final", answer="3")
    graph, _ = graft(graph, graph.root, "e", "final", answer="4", value=0.7)
    assert judged_chains(graph) == [Chain("q", ("a", "b"), True), Chain("q", ("c",), False)]


def test_dropping_fewer_steps_than_none_is_refused() -> None:
    with pytest.raises(InputError, match="most=-1"):
        restarts([RIGHT], -1, seed=1)
