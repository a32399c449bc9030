"""Critiques, rewrites and refusals: what is asked, where a new version stands, and what a failure costs."""

import copy

import pytest

from rlm_agent import Checked, FakePolicy, Steps
from rlm_agent.models.drive import adrive, drive
from rlm_agent.models.fake import Reply
from rlm_agent.models.prompts import Prompts
from rlm_agent.models.protocols import Message
from rlm_agent.operators.refine import critique, improve, recalling, refine, refusals, rewrite
from rlm_agent.operators.setting import Outcome, Setting
from rlm_agent.structure.budget import Allowance
from rlm_agent.structure.errors import InputError
from rlm_agent.structure.ids import child_id
from rlm_agent.structure.thoughts import ThoughtGraph, Writes
from tests.structure.trees import graft, grown, marked, plant

PROMPTS = Prompts()
QUESTION = Message(role="user", content="q")


def script(question: str, prefix: str) -> list[Reply]:
    """A critique where one is asked for, else a step."""
    return [("too bold", -1.0, True)] if question == PROMPTS.critique else [("bb", -1.0)]


def setting(
    policy: FakePolicy | None = None, *, steps: Steps | None = None, prompts: Prompts = PROMPTS
) -> Setting:
    return Setting(policy or FakePolicy(script), (QUESTION,), 7, steps or Steps(), prompts=prompts)


def said(text: str) -> Message:
    return Message(role="assistant", content=text)


def asked(text: str | None) -> Message:
    assert text is not None
    return Message(role="user", content=text)


def test_a_critique_is_asked_after_the_whole_attempt_and_kept_as_feedback() -> None:
    graph, ids = grown({"q": ["a"], "a": ["b"]})
    policy = FakePolicy(script)
    outcome = drive(critique(graph, [ids["b"]], setting(policy), Allowance()))
    (request,) = policy.requests
    assert request.messages == (QUESTION, said("a\nb"), asked(PROMPTS.critique))
    assert (request.prefix, request.stop, request.thought) == ("", (), ids["b"])
    assert outcome.outputs == [ids["b"]]
    assert outcome.writes.thoughts == {}
    assert outcome.writes.stats == {ids["b"]: {**graph.stats[ids["b"]], "feedback": "too bold"}}
    (event,) = outcome.trace
    assert (event["operator"], event["inputs"], event["outputs"]) == ("critique", [ids["b"]], [ids["b"]])
    assert (outcome.usage["model_calls"], outcome.usage["nodes"]) == (1, 0)
    assert event["tokens"] == outcome.usage["completion_tokens"] == 3


def test_a_reflection_is_asked_in_its_own_words() -> None:
    graph, ids = grown({"q": ["a"]})
    policy = FakePolicy(script)
    outcome = drive(critique(graph, [ids["a"]], setting(policy), Allowance(), "reflect"))
    assert policy.requests[0].messages[-1] == asked(PROMPTS.reflect)
    assert outcome.trace[0]["operator"] == "reflect"


def test_a_rewrite_is_a_child_that_stands_in_the_place_of_what_it_replaces() -> None:
    graph, ids = grown({"q": ["a"], "a": ["b"]})
    graph = marked(graph, ids["b"], feedback="too bold")
    policy = FakePolicy(script)
    outcome = drive(rewrite(graph, [(ids["b"], 2)], setting(policy), Allowance()))
    turns = (said("a\nb"), asked(PROMPTS.critique), said("too bold"), asked(PROMPTS.rewrite))
    assert [request.messages for request in policy.requests] == [(QUESTION, *turns)] * 2
    assert {request.prefix for request in policy.requests} == {"a\n"}
    assert len({request.seed for request in policy.requests}) == 2
    assert outcome.outputs == [child_id(ids["b"], 0), child_id(ids["b"], 1)]
    after = graph.updated(outcome.writes)
    new = after.thoughts[outcome.outputs[0]]
    assert (new["parent"], new.get("base"), new["depth"]) == (ids["b"], ids["a"], 2)
    assert new.get("operator") == "refine"
    assert after.steps(outcome.outputs[0]) == ["a", "bb"]
    assert after.path(outcome.outputs[0]) == [graph.root, ids["a"], ids["b"], outcome.outputs[0]]
    assert after.stats[ids["b"]]["children"] == 2 and after.stats[ids["b"]].get("feedback") == "too bold"


def test_a_version_of_a_version_goes_on_from_the_same_steps() -> None:
    graph, ids = grown({"q": ["a"]})
    for _ in range(2):
        leaf = list(graph.walk())[-1]
        outcome = drive(refine(graph, [(leaf, 1)], setting(), Allowance()))
        graph = graph.updated(outcome.writes)
    first, second = list(graph.walk())[2:]
    assert [graph.thoughts[id].get("base") for id in (first, second)] == [graph.root, graph.root]
    assert [graph.thoughts[id]["depth"] for id in (ids["a"], first, second)] == [1, 1, 1]
    assert graph.steps(second) == ["bb"]


def test_refine_criticises_only_what_has_no_feedback_and_puts_out_the_new_versions() -> None:
    graph, ids = grown({"q": ["a", "b"]})
    graph = marked(graph, ids["a"], feedback="known")
    policy = FakePolicy(script)
    outcome = drive(refine(graph, [(ids["a"], 1), (ids["b"], 1)], setting(policy), Allowance()))
    assert [request.thought for request in policy.requests] == [ids["b"], *outcome.outputs]
    assert [event["operator"] for event in outcome.trace] == ["critique", "refine"]
    assert outcome.usage["model_calls"] == 3 and outcome.usage["nodes"] == 2
    after = graph.updated(outcome.writes)
    assert [after.stats[ids[name]].get("feedback") for name in "ab"] == ["known", "too bold"]
    assert [after.thoughts[id]["parent"] for id in outcome.outputs] == [ids["a"], ids["b"]]


def test_a_critique_that_fails_leaves_its_thought_and_harms_no_other() -> None:
    graph, ids = grown({"q": ["a", "b"]})
    policy = FakePolicy(script, fails={0: "connection reset"})
    outcome = drive(refine(graph, [(ids["a"], 1), (ids["b"], 1)], setting(policy), Allowance()))
    assert [outcome.writes.thoughts[id]["parent"] for id in outcome.outputs] == [ids["b"]]
    assert ids["a"] not in outcome.writes.stats
    assert outcome.usage["model_calls"] == 3


@pytest.mark.parametrize("reply", ["", "  \n", "word " * 200], ids=["silence", "blank", "cut off"])
def test_a_critique_that_says_nothing_or_does_not_end_is_none(reply: str) -> None:
    graph, ids = grown({"q": ["a"]})
    policy = FakePolicy(lambda question, prefix: [(reply, -1.0, True)])
    outcome = drive(refine(graph, [(ids["a"], 2)], setting(policy), Allowance()))
    assert (outcome.outputs, outcome.writes.stats) == ([], {})
    assert outcome.usage["completion_tokens"] > 0 and outcome.usage["model_calls"] == 1


def test_a_rewrite_that_cannot_be_used_is_a_failed_thought_beside_its_sibling() -> None:
    graph, ids = grown({"q": ["a"]})
    graph = marked(graph, ids["a"], feedback="too bold")
    policy = FakePolicy(script, fails={0: "connection reset"})
    outcome = drive(rewrite(graph, [(ids["a"], 2)], setting(policy), Allowance()))
    failed, kept = (outcome.writes.thoughts[id] for id in outcome.outputs)
    assert (failed["kind"], failed.get("reason"), kept["kind"]) == ("failed", "connection reset", "step")


def test_a_rewrite_is_checked_against_the_state_before_what_it_replaces() -> None:
    def below(question: str, state: str | None, step: str) -> Checked:
        return Checked(state=step) if int(step) < int(state or 9) else Checked(reason=f"not below {state}")

    graph, a = graft(plant(), plant().root, "5", state="5")
    graph, b = graft(graph, a, "2", state="2")
    graph = marked(graph, b, feedback="too low")
    policy = FakePolicy(lambda question, prefix: [("4", -1.0), ("6", -1.0)], cycle=True)
    outcome = drive(rewrite(graph, [(b, 2)], setting(policy, steps=Steps(check=below)), Allowance()))
    good, bad = (outcome.writes.thoughts[id] for id in outcome.outputs)
    assert (good["kind"], good.get("state")) == ("step", "4")
    assert (bad["kind"], bad.get("reason")) == ("failed", "not below 5")


@pytest.mark.parametrize(
    ("allowance", "calls"),
    [
        (Allowance(calls=0), 0),
        (Allowance(calls=1), 1),
        (Allowance(calls=3), 3),
        (Allowance(nodes=1), 3),
        (Allowance(nodes=0), 0),
        (Allowance(seconds=0), 0),
        (Allowance(tokens=128), 3),
        (Allowance(), 4),
    ],
)
def test_the_allowance_cuts_from_the_end_and_critiques_need_no_nodes(
    allowance: Allowance, calls: int
) -> None:
    """Two critiques of at most 128 tokens, then two rewrites; with 128 tokens, one critique and one rewrite.

    The critique that fell off leaves its thought without a rewrite, so that 125 tokens are for one only.
    """
    graph, ids = grown({"q": ["a", "b"]})
    policy = FakePolicy(script)
    outcome = drive(refine(graph, [(ids["a"], 1), (ids["b"], 1)], setting(policy), allowance))
    assert len(policy.requests) == outcome.usage["model_calls"] <= allowance.calls
    assert outcome.usage["nodes"] <= allowance.nodes
    assert outcome.usage["completion_tokens"] <= allowance.tokens
    assert len(policy.requests) == (2 if allowance.tokens == 128 else calls)


class Deep(FakePolicy):
    """A policy that may take three calls and fifty tokens for one completion."""

    most_calls = 3
    most_tokens = 50


def test_a_composite_policy_has_what_it_may_take_counted() -> None:
    graph, ids = grown({"q": ["a", "b"]})
    plan = [(ids["a"], 1), (ids["b"], 1)]
    policy = Deep(script)
    drive(refine(graph, plan, setting(policy), Allowance(calls=5)))
    assert [request.calls for request in policy.requests] == [3, 3]
    assert {request.max_tokens for request in policy.requests} == {50}
    policy = Deep(script)
    drive(critique(graph, [ids["a"], ids["b"]], setting(policy), Allowance(tokens=60)))
    assert len(policy.requests) == 1


def refused() -> tuple[ThoughtGraph, str, str]:
    """A solution that was refused and one that stands."""
    graph = plant()
    graph, bad = graft(graph, graph.root, "A", "failed")
    graph = graph.updated(Writes({bad: {**graph.thoughts[bad], "reason": "it shouts"}}, {}))
    graph, good = graft(graph, graph.root, "b", "final", answer="b")
    return graph, bad, good


def test_the_reason_of_a_refusal_is_feedback_of_its_own() -> None:
    graph, bad, good = refused()
    assert refusals(graph, [bad, good]).stats == {bad: {**graph.stats[bad], "feedback": "it shouts"}}


@pytest.mark.parametrize(("task", "feedback"), [(None, "it shouts"), ("game24", "too bold")])
def test_improve_takes_a_refusals_reason_for_a_general_model_only(task: str | None, feedback: str) -> None:
    graph, bad, good = refused()
    policy = FakePolicy(script, task=task)
    outcome = drive(improve(graph, [(bad, 1), (good, 1)], setting(policy), Allowance()))
    after = graph.updated(outcome.writes)
    assert [after.stats[id].get("feedback") for id in (bad, good)] == [feedback, "too bold"]
    assert [after.thoughts[id]["parent"] for id in outcome.outputs] == [bad, good]
    assert len(policy.requests) == (3 if task is None else 4)
    assert after.stats[bad]["closed"] and after.stats[good]["closed"]


def test_improve_draws_a_new_critique_each_time() -> None:
    graph, _, good = refused()
    policy = FakePolicy(script)
    for _ in range(2):
        outcome = drive(improve(graph, [(good, 1)], setting(policy), Allowance()))
        graph = graph.updated(outcome.writes)
    first, _, second, _ = policy.requests
    assert first.messages == second.messages and first.seed != second.seed
    assert graph.stats[good]["children"] == 2


def test_feedback_enters_the_question_only_where_there_is_some() -> None:
    graph, ids = grown({"q": ["a", "b"]})
    s = setting()
    assert recalling(graph, list(ids.values()), s) is s
    for name, lesson in (("a", "one"), ("b", "two")):
        graph = marked(graph, ids[name], feedback=lesson)
    (message,) = recalling(graph, [ids["a"], ids["b"]], s).messages
    assert message["content"] == "q\n\nThese were your thoughts on earlier attempts:\n\none\n\ntwo"


@pytest.mark.parametrize("skill", ["critique", "reflect"])
def test_a_specialist_that_cannot_criticise_is_refused(skill: str) -> None:
    graph, ids = grown({"q": ["a"]})
    asking = critique(graph, [ids["a"]], setting(prompts=Prompts.lacking()), Allowance(), skill)
    with pytest.raises(InputError, match=f"has not learned to {skill}"):
        drive(asking)


def test_a_specialist_that_cannot_rewrite_or_recall_is_refused() -> None:
    graph, ids = grown({"q": ["a"]})
    graph = marked(graph, ids["a"], feedback="too bold")
    s = setting(prompts=Prompts.lacking(critique="critique"))
    with pytest.raises(InputError, match="has not learned to rewrite"):
        drive(rewrite(graph, [(ids["a"], 1)], s, Allowance()))
    with pytest.raises(InputError, match="has not learned to retry"):
        recalling(graph, [ids["a"]], s)


async def test_plain_and_async_runs_agree_and_change_no_input() -> None:
    graph, ids = grown({"q": ["a", "b"]})
    before = copy.deepcopy((graph.thoughts, graph.stats))

    def settled(outcome: Outcome) -> Outcome:
        return Outcome(outcome.writes, outcome.outputs, {**outcome.usage, "seconds": 0})

    plan = [(ids["a"], 2), (ids["b"], 1)]
    plain = drive(refine(graph, plan, setting(), Allowance()))
    assert settled(await adrive(refine(graph, plan, setting(), Allowance()))) == settled(plain)
    assert (graph.thoughts, graph.stats) == before
