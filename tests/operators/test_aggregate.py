"""Several thoughts joined into one: what is asked, where the new thought stands, and what a failure costs."""

import copy

import pytest

from rlm_agent import FakePolicy, Steps
from rlm_agent.models.drive import adrive, drive
from rlm_agent.models.fake import Reply
from rlm_agent.models.prompts import Prompts
from rlm_agent.models.protocols import Message
from rlm_agent.operators.aggregate import aggregate
from rlm_agent.operators.setting import Outcome, Setting
from rlm_agent.structure.budget import Allowance
from rlm_agent.structure.errors import InputError
from rlm_agent.structure.formats import WHOLE
from rlm_agent.structure.ids import child_id
from tests.structure.trees import grown

SYSTEM, QUESTION = Message(role="system", content="be brief"), Message(role="user", content="q {x}")
PROMPTS = Prompts.lacking(aggregate="{question} from\n{choices}\ntogether")


def script(question: str, prefix: str) -> list[Reply]:
    return [("joined one", -1.0, True), ("joined two", -1.2, True)]


def setting(policy: FakePolicy, *, prompts: Prompts = PROMPTS) -> Setting:
    return Setting(policy, (SYSTEM, QUESTION), 7, Steps(format=WHOLE, max_tokens=20), prompts=prompts)


def test_a_group_is_put_with_the_question_and_its_child_names_the_others() -> None:
    graph, ids = grown({"q": ["a", "b"], "a": ["{question}"]})
    policy, group = FakePolicy(script), [ids["{question}"], ids["b"]]
    outcome = drive(aggregate(graph, [group], setting(policy), Allowance()))
    (request,) = policy.requests
    assert request.messages[0] == SYSTEM
    assert request.messages[1]["content"] == (
        "q {x} from\nAttempt 1:\na\n{question}\n\nAttempt 2:\nb\ntogether"
    )
    assert (request.prefix, request.thought) == ("", outcome.outputs[0])
    assert outcome.outputs == [child_id(ids["{question}"], 0)]
    after = graph.updated(outcome.writes)
    new = after.thoughts[outcome.outputs[0]]
    assert (new["parent"], new.get("base"), new.get("parents")) == (group[0], graph.root, [ids["b"]])
    assert (new["depth"], new.get("operator"), new["kind"]) == (1, "aggregate", "final")
    assert after.steps(outcome.outputs[0]) == [new["text"]]
    assert after.stats[group[0]]["children"] == 1 and after.stats[ids["b"]]["children"] == 0
    (event,) = outcome.trace
    assert (event["operator"], event["inputs"]) == ("aggregate", group)


def test_each_group_is_joined_as_often_as_asked_and_each_time_anew() -> None:
    graph, ids = grown({"q": ["a", "b", "c"]})
    groups = [[ids["a"], ids["b"]], [ids["a"], ids["c"]], [ids["c"]]]
    policy = FakePolicy(script)
    outcome = drive(aggregate(graph, groups, setting(policy), Allowance(), count=2))
    after = graph.updated(outcome.writes)
    joined = [after.thoughts[id] for id in outcome.outputs]
    assert [one["parent"] for one in joined] == [ids[name] for name in "aaaacc"]
    assert [one["index"] for one in joined] == [0, 1, 2, 3, 0, 1]
    assert [one.get("parents") for one in joined] == [[ids["b"]]] * 2 + [[ids["c"]]] * 2 + [[]] * 2
    assert len({request.seed for request in policy.requests}) == 6


def test_what_the_allowance_does_not_cover_is_left_out_from_the_end() -> None:
    graph, ids = grown({"q": ["a", "b"]})
    groups = [[ids["a"]], [ids["b"]]]
    for allowance, count in (
        (Allowance(calls=3), 3),
        (Allowance(nodes=1), 1),
        (Allowance(tokens=50), 2),
        (Allowance(tokens=7), 1),
        (Allowance(calls=0), 0),
    ):
        policy = FakePolicy(script)
        outcome = drive(aggregate(graph, groups, setting(policy), allowance, count=2))
        assert len(policy.requests) == len(outcome.outputs) == outcome.usage["nodes"] == count
        assert outcome.usage["completion_tokens"] <= allowance.tokens


def test_a_reply_that_fails_is_a_failed_thought_beside_its_siblings() -> None:
    graph, ids = grown({"q": ["a", "b"]})
    policy = FakePolicy(script, fails={1: "connection reset"})
    outcome = drive(aggregate(graph, [[ids["a"], ids["b"]]], setting(policy), Allowance(), count=3))
    kinds = [outcome.writes.thoughts[id]["kind"] for id in outcome.outputs]
    assert kinds == ["final", "failed", "final"]
    assert outcome.writes.thoughts[outcome.outputs[1]].get("parents") == [ids["b"]]


class Deep(FakePolicy):
    """A policy that may take three calls and fifty tokens for one completion."""

    most_calls = 3
    most_tokens = 50


def test_a_composite_policy_has_what_it_may_take_counted() -> None:
    graph, ids = grown({"q": ["a"]})
    policy = Deep(script)
    drive(aggregate(graph, [[ids["a"]]], setting(policy), Allowance(calls=7), count=5))
    assert [(request.calls, request.max_tokens) for request in policy.requests] == [(3, 50)] * 2


def test_a_specialist_that_cannot_aggregate_is_refused() -> None:
    graph, ids = grown({"q": ["a"]})
    policy = FakePolicy(script)
    asking = aggregate(graph, [[ids["a"]]], setting(policy, prompts=Prompts.lacking()), Allowance())
    with pytest.raises(InputError, match="has not learned to aggregate"):
        drive(asking)
    assert policy.requests == []


async def test_plain_and_async_runs_agree_and_change_no_input() -> None:
    graph, ids = grown({"q": ["a", "b"]})
    before = copy.deepcopy((graph.thoughts, graph.stats))

    def settled(outcome: Outcome) -> Outcome:
        return Outcome(outcome.writes, outcome.outputs, {**outcome.usage, "seconds": 0})

    groups = [[ids["a"], ids["b"]]]
    plain = drive(aggregate(graph, groups, setting(FakePolicy(script)), Allowance(), count=2))
    other = await adrive(aggregate(graph, groups, setting(FakePolicy(script)), Allowance(), count=2))
    assert settled(other) == settled(plain)
    assert (graph.thoughts, graph.stats) == before
