"""Compute by need: votes that end early, and breadth by how unsure the policy is."""

import math
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver

from rlm_agent import (
    Budget,
    FakePolicy,
    Steps,
    ThoughtGraph,
    create_beam_search,
    create_mcts,
    create_reasoner,
    create_self_consistency,
)
from rlm_agent.graphs.machine.rules import Reasoner
from rlm_agent.models.fake import Reply
from rlm_agent.operators.rules.adaptive import Adaptive
from rlm_agent.structure.errors import InputError
from tests.graphs.scripts import MCTS, ask, grown, thread

PLENTY = Budget(calls=1000)


def voting(answers: str, **keywords: Any) -> tuple[int, Any]:
    """How many chains of one step were begun before these answers, in turn, agreed; and on what."""

    def script(question: str, prefix: str) -> list[Reply]:
        return [(answer, -1.0, True) for answer in answers]

    policy = FakePolicy(script, cycle=True)
    own = {"n": len(answers), "agreement": 0.95, **keywords}
    result = create_self_consistency(policy, **own, steps=Steps(), budget=PLENTY).invoke(ask())
    return len(policy.requests), result["answer"]


@pytest.mark.parametrize(
    ("answers", "chains", "answer"),
    [
        ("a" * 40, 4, "a"),
        ("b" + "a" * 39, 7, "a"),
        ("ab" * 20, 40, "a"),
        ("abcdaefgahij", 11, "a"),
        ("aab", 2, "a"),
        ("aaab", 3, "a"),
    ],
)
def test_a_vote_ends_when_it_is_sure_or_cannot_turn(answers: str, chains: int, answer: str) -> None:
    """Sure at .95 are 4 against 0 (31/32) and 6 against 1 (247/256), but neither 3 against 0 nor 5 against 1.

    Before that, a vote cannot turn when more votes are ahead than are left: 2 against 0 of 3, 3 against 0 of
    4, 3 against 1 of 12 when one is left. A tie might go to an answer that was seen before.
    """
    assert voting(answers) == (chains, answer)


def test_without_an_agreement_all_chains_are_sampled() -> None:
    assert voting("a" * 40, agreement=None) == (40, "a")


def test_chains_vote_as_they_end_and_those_under_way_are_left() -> None:
    """Four chains side by side end at once and agree; the answer of the fifth is not waited for."""

    def script(question: str, prefix: str) -> list[Reply]:
        if not prefix:
            return [("a", -1.0, True)] * 4 + [("on", -1.0)]
        return [("on", -1.0)]

    policy = FakePolicy(script, cycle=True)
    reasoner = create_self_consistency(
        policy, n=20, parallel=5, agreement=0.9, steps=Steps(max_steps=20), budget=PLENTY
    )
    assert reasoner.invoke(ask())["answer"] == "a"
    assert len(policy.requests) == 5


def test_failed_chains_do_not_vote() -> None:
    policy = FakePolicy(lambda question, prefix: [("", -1.0), ("a", -1.0, True)], cycle=True)
    own: dict[str, Any] = {"n": 20, "agreement": 0.95, "steps": Steps(), "budget": PLENTY}
    assert create_self_consistency(policy, **own).invoke(ask())["answer"] == "a"
    assert len(policy.requests) == 8


@pytest.mark.parametrize("agreement", [0.0, 0.5, 1.1, math.nan])
def test_an_agreement_that_is_no_majority_is_refused(agreement: float) -> None:
    with pytest.raises(InputError, match="is no majority; give a number above"):
        create_self_consistency(FakePolicy(lambda question, prefix: []), agreement=agreement)


def fork(question: str, prefix: str) -> list[Reply]:
    """Behind "sure" one way on; behind "torn" two even ones; behind "odd" one, and an unlikely one."""
    if prefix.endswith("torn\n"):
        return [("torn", -1.0), ("odd", -1.0)]
    if prefix.endswith("odd\n"):
        return [("odd", -0.1), ("sure", -4.0)]
    return [("sure", -1.0)] if prefix else [("torn", -1.0), ("odd", -1.0), ("sure", -1.0)]


def traced(reasoner: Reasoner) -> ThoughtGraph:
    reasoner.invoke(ask(), thread())
    return grown(reasoner.get_state(thread()).values)


def test_a_traced_thought_notes_the_means_of_its_tokens() -> None:
    """Of two even replies: entropy ln 2, varentropy 0 at the first of two tokens; nothing at the second.

    Of e^−.1 and e^−4: p = 1/(1 + e^−3.9) = .980160, H = .097415, and Σ p (ln p + H)² = .295784.
    """
    reasoner = create_beam_search(
        FakePolicy(fork), width=8, expansions=4, adaptive=True, steps=Steps(max_steps=4),
        budget=Budget(nodes=60), seed=1, checkpointer=InMemorySaver(),
    )  # fmt: skip
    graph = traced(reasoner)
    noted = {}
    for id in graph.walk():
        parent = graph.thoughts[id]["parent"]
        if parent is not None and parent != graph.root:
            thought = graph.thoughts[id]
            noted[graph.thoughts[parent]["text"]] = (thought["entropy"], thought["varentropy"])
    assert noted["torn"] == pytest.approx((math.log(2) / 2, 0.0), abs=1e-6)
    assert noted["odd"] == pytest.approx((0.097415 / 2, 0.295784 / 2), abs=1e-6)
    assert noted["sure"] == (0.0, 0.0)


def widths(graph: ThoughtGraph) -> dict[tuple[str, str], set[int]]:
    """How many children thoughts have, by what was said before them and by what they say."""
    found: dict[tuple[str, str], set[int]] = {}
    for id in graph.walk():
        parent, children = graph.thoughts[id]["parent"], graph.stats[id]["children"]
        if parent is not None and children:
            key = (graph.thoughts[parent]["text"], graph.thoughts[id]["text"])
            found.setdefault(key, set()).add(children)
    return found


def test_a_beam_is_wider_where_a_step_hides_a_fork_and_narrower_where_the_policy_was_sure() -> None:
    """Of four new steps a chain: two behind a sure step, eight where entropy is low and varentropy high."""
    rule = Adaptive(entropy=0.1, varentropy=0.1, widen=2.0)
    reasoner = create_beam_search(
        FakePolicy(fork), width=8, expansions=4, adaptive=rule, steps=Steps(max_steps=4),
        budget=Budget(nodes=100), seed=1, checkpointer=InMemorySaver(),
    )  # fmt: skip
    found = widths(traced(reasoner))
    assert found["sure", "sure"] == {2}
    assert found["odd", "odd"] == {8}
    assert found["torn", "torn"] == {4}


def test_a_tree_search_is_wider_where_the_policy_wavers_between_a_likely_and_an_odd_way() -> None:
    """x1 with four children: eight behind "odd", two behind what was surely "sure"."""
    rule = Adaptive(entropy=0.1, varentropy=0.1, widen=2.0)
    own = {**MCTS, "branching": 4, "widening": 0.0, "rollout": False, "adaptive": rule, "simulations": 40}
    reasoner = create_mcts(
        FakePolicy(fork), **own, steps=Steps(max_steps=6), budget=PLENTY, seed=1, checkpointer=InMemorySaver()
    )
    found = widths(traced(reasoner))
    assert (found["odd", "odd"], found["sure", "sure"]) == ({8}, {2})


@pytest.mark.parametrize("strategy", ["mcts", "beam_search"])
def test_mini_tells_how_sure_it_was_and_breadth_follows(strategy: str) -> None:
    """Without the rule nothing is traced, and the same seed writes the same first steps."""
    trees: list[ThoughtGraph] = []
    for adaptive in (True, False):
        reasoner = create_reasoner(
            strategy,
            adaptive=adaptive,
            seed=5,
            budget=Budget(tokens=600),
            stop_when_verified=False,
            checkpointer=InMemorySaver(),
        )
        reasoner.invoke({"messages": [("user", "2 3 10 10 : 24")]}, thread())
        trees.append(grown(reasoner.get_state(thread()).values))
    with_rule, without = trees
    steps = [thought for thought in with_rule.thoughts.values() if thought["tokens"]]
    assert all(thought["entropy"] >= 0 and thought["varentropy"] >= 0 for thought in steps)
    assert len({Adaptive().advise(thought["entropy"], thought["varentropy"]) for thought in steps}) > 1
    assert not any("entropy" in thought for thought in without.thoughts.values())
    first = [tree.thoughts[tree.children(tree.root)[0]]["text"] for tree in trees]
    assert first[0] == first[1]
