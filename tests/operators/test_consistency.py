"""What finished chains are worth by agreement: votes, and a second model that sees a beginning."""

from typing import Any

import pytest

from rlm_agent import FakePolicy, Steps, ThoughtGraph
from rlm_agent.models.drive import adrive, drive
from rlm_agent.models.fake import Reply
from rlm_agent.models.protocols import Message
from rlm_agent.operators.rules.consistency import (
    best_agreed,
    confidences,
    consistent,
    discriminate,
    is_probe,
    masked,
    own_ends,
)
from rlm_agent.operators.setting import Setting
from rlm_agent.structure.budget import Allowance
from rlm_agent.structure.thoughts import Thought, Writes
from tests.structure.trees import graft, marked, plant


def long_chain(length: int, answer: str = "7") -> tuple[ThoughtGraph, list[str]]:
    """A finished chain of so many steps, and its ids."""
    graph = plant()
    ids = [graph.root]
    for number in range(1, length + 1):
        last = number == length
        graph, id = graft(
            graph, ids[-1], str(number), "final" if last else "step", answer=answer if last else None
        )
        ids.append(id)
    return graph, ids[1:]


def saying(*answers: str) -> FakePolicy:
    """A policy that goes on with "on" once and then says one of the answers, in turn, at the end."""

    def script(question: str, prefix: str) -> list[Reply]:
        return [(answer, -1.0, True) for answer in answers] if prefix.endswith("on\n") else [("on", -1.0)]

    return FakePolicy(script, cycle=True)


def setting(policy: FakePolicy, **steps: Any) -> Setting:
    return Setting(policy, (Message(role="user", content="q"),), 7, Steps(**steps))


def test_confidence_is_the_share_of_the_votes_and_equal_answers_are_equal() -> None:
    graph = plant()
    ids = []
    for answer in ("1/2", "3", "0.5", "3", "3"):
        graph, id = graft(graph, graph.root, answer, "final", answer=answer)
        ids.append(id)
    assert list(confidences(graph, ids).values()) == [0.4, 0.6, 0.4, 0.6, 0.6]
    assert confidences(graph, []) == {}


@pytest.mark.parametrize(
    ("length", "shown"), [(1, {0}), (2, {1}), (3, {1, 2}), (5, {1, 2, 3, 4}), (10, set(range(2, 9)))]
)
def test_between_a_fifth_and_four_fifths_of_a_chain_are_shown_and_never_all(
    length: int, shown: set[int]
) -> None:
    graph, ids = long_chain(length)
    places = [graph.root, *ids]
    found = {places.index(masked(graph, ids[-1], seed)) for seed in range(200)}
    assert found == shown


def test_a_completion_goes_on_from_what_is_shown_and_stays_closed_in_the_tree() -> None:
    graph, ids = long_chain(4)
    policy = saying("7")
    outcome = drive(discriminate(graph, [ids[-1]], setting(policy), Allowance(), 2))
    grown = graph.updated(outcome.writes)
    starts = [masked(graph, ids[-1], 7, number) for number in range(2)]
    assert [request.prefix for request in policy.requests[:2]] == [
        "".join(f"{step}\n" for step in graph.steps(start)) for start in starts
    ]
    assert len(outcome.outputs) == 4 and all(is_probe(grown, id) for id in outcome.outputs)
    assert all(grown.stats[id]["closed"] for id in outcome.outputs)
    assert {grown.thoughts[id]["parents"][0] for id in outcome.outputs} == {ids[-1]}
    assert own_ends(grown, grown.finals()) == [ids[-1]]
    assert [(event["operator"], event["inputs"]) for event in outcome.trace] == [("discriminate", [ids[-1]])]
    assert outcome.trace[0]["model_calls"] == len(policy.requests) == outcome.usage["nodes"] == 4


@pytest.mark.parametrize(
    ("said", "agrees"),
    [
        (["7"], True),
        (["7.0"], True),
        (["8"], False),
        (["7", "8"], True),
        (["8", "8", "7"], False),
        ([""], False),
    ],
)
def test_a_chain_is_consistent_if_half_of_its_completions_come_to_its_answer(
    said: list[str], agrees: bool
) -> None:
    graph, ids = long_chain(4)
    outcome = drive(discriminate(graph, [ids[-1]], setting(saying(*said)), Allowance(), len(said)))
    assert consistent(graph.updated(outcome.writes), [ids[-1]]) == ([ids[-1]] if agrees else [])


def test_what_was_not_completed_is_not_consistent() -> None:
    graph, ids = long_chain(4)
    assert consistent(graph, [ids[-1]]) == []
    for allowance in (Allowance(calls=0), Allowance(calls=1), Allowance(seconds=0)):
        outcome = drive(discriminate(graph, [ids[-1]], setting(saying("7")), allowance))
        assert len(outcome.outputs) == max(0, min(1, allowance.calls)) * (allowance.seconds > 0)
        assert consistent(graph.updated(outcome.writes), [ids[-1]]) == []


def test_a_completion_that_fails_harms_no_other() -> None:
    graph, ids = long_chain(4)
    policy = saying("7")
    policy._fails = {0: "connection reset"}
    outcome = drive(discriminate(graph, [ids[-1]], setting(policy), Allowance(), 2))
    reasons = [thought.get("reason") for thought in outcome.writes.thoughts.values()]
    assert reasons.count("connection reset") == 1
    assert consistent(graph.updated(outcome.writes), [ids[-1]]) == [ids[-1]]


def test_the_answer_has_the_highest_reward_times_confidence_among_those_agreed_upon() -> None:
    """Rewards (q + 1)/2 along the path: a .9 and .5 → .7, b .8, c .2; confidences ⅔, ⅓, ⅔."""
    graph = plant()
    graph, way = graft(graph, graph.root, "way", q=0.8, visits=2)
    graph, a = graft(graph, way, "a", "final", answer="1", q=0.0, visits=1)
    graph, b = graft(graph, graph.root, "b", "final", answer="2", q=0.6, visits=1)
    graph, c = graft(graph, graph.root, "c", "final", answer="1", q=-0.6, visits=1)
    ends = [a, b, c]
    assert best_agreed(graph, ends) == a  # .7 · ⅔ = .47 against .8 · ⅓ = .27 and .2 · ⅔ = .13
    graph, probe = graft(graph, graph.root, "2", "final", answer="2")
    completed = Thought({**graph.thoughts[probe], "operator": "discriminate", "parents": [b]})
    graph = graph.updated(Writes({probe: completed}, {}))
    assert best_agreed(graph, [*ends, probe]) == b
    accepted = marked(graph, c, value=1.0)
    assert best_agreed(accepted, [*ends, probe]) == c
    assert best_agreed(graph, []) is None and best_agreed(graph, [probe]) is None


async def test_plain_and_async_agree() -> None:
    graph, ids = long_chain(5)
    plain = drive(discriminate(graph, [ids[-1]], setting(saying("7")), Allowance(), 3))
    later = await adrive(discriminate(graph, [ids[-1]], setting(saying("7")), Allowance(), 3))
    assert (plain.writes, plain.outputs) == (later.writes, later.outputs)
