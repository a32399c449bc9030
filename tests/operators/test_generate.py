"""What the policy's replies become, how many are asked for, and that none harms another."""

import copy
from collections.abc import Sequence
from types import MappingProxyType, SimpleNamespace
from typing import Any

import pytest

from rlm_agent import FakePolicy, Steps
from rlm_agent.models.drive import adrive, drive
from rlm_agent.models.fake import Reply, Script
from rlm_agent.models.protocols import Message
from rlm_agent.operators.generate import generate, generate_to_end, rollout
from rlm_agent.operators.setting import Outcome, Setting
from rlm_agent.operators.writing import Plan
from rlm_agent.structure.budget import Allowance
from rlm_agent.structure.formats import BOXED, EOIS, WHOLE, end_token, marker, pattern, tokens
from rlm_agent.structure.ids import child_id
from rlm_agent.structure.steps import Checked
from rlm_agent.structure.thoughts import Thought, ThoughtGraph
from rlm_agent.tasks.answers import free_answer
from tests.structure.trees import graft, grown, plant

MESSAGES = (Message(role="user", content="q"),)


def always(*replies: Reply) -> Script:
    """The same replies whatever was written before."""
    return lambda question, prefix: replies


def setting(script: Script, *, fails: dict[int, str] | None = None, **steps: Any) -> Setting:
    policy = FakePolicy(script, cycle=True, fails=fails)
    return Setting(policy, MESSAGES, 7, steps=Steps(**{"max_tokens": 5, "max_steps": 3, **steps}))


def asked(s: Setting) -> list[Any]:
    policy = s.policy
    assert isinstance(policy, FakePolicy)
    return policy.requests


def born(
    s: Setting, count: int = 1, graph: ThoughtGraph | None = None, allowance: Allowance | None = None
) -> list[Thought]:
    """The thoughts that `count` samples under the root become."""
    graph = graph or plant()
    outcome = drive(generate(graph, [(graph.root, count)], s, allowance or Allowance()))
    return [outcome.writes.thoughts[id] for id in outcome.outputs]


def test_a_step_a_final_and_their_numbers() -> None:
    step, final = born(setting(always(("one step", -0.5), ("the end", -0.7, True))), 2)
    assert step == Thought(
        parent=plant().root, index=0, depth=1, kind="step", text="one step", tokens=3, logprob=-0.5
    )
    assert (final["kind"], final["answer"], final["index"]) == ("final", "the end", 1)


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (("far too many words for this", 0.0), "cut off after 5 tokens"),
        (("far too many words for this", 0.0, True), "cut off after 5 tokens"),
        (("", 0.0), "an empty step"),
        (("  ", 0.0), "an empty step"),
        (("", 0.0, True), "ended without an answer"),
    ],
)
def test_a_reply_that_cannot_be_used_fails_with_its_reason_and_spares_its_siblings(
    reply: Reply, reason: str
) -> None:
    first, bad, last = born(setting(always(("a", 0.0), reply, ("b", 0.0))), 3)
    assert (first["kind"], last["kind"]) == ("step", "step")
    assert bad["kind"] == "failed" and bad["reason"] == reason
    assert "answer" not in bad


def test_an_error_fails_with_its_reason_and_spares_its_siblings() -> None:
    first, bad, last = born(setting(always(("a", 0.0)), fails={1: "connection reset"}), 3)
    assert (first["kind"], last["kind"]) == ("step", "step")
    assert (bad["kind"], bad["reason"], bad["tokens"]) == ("failed", "connection reset", 0)


def test_a_chain_that_is_too_deep_fails_but_may_end_at_the_last_depth() -> None:
    graph, ids = grown({"q": ["a"], "a": ["aa"]})
    s = setting(always(("more", 0.0), ("the end", 0.0, True)))
    outcome = drive(generate(graph, [(ids["aa"], 2)], s, Allowance()))
    deep, final = (outcome.writes.thoughts[id] for id in outcome.outputs)
    assert (deep["kind"], deep["reason"]) == ("failed", "no answer within 3 steps")
    assert (final["kind"], final["depth"]) == ("final", 3)


def count_down(question: str, state: str | None, step: str) -> Checked:
    """Steps are numbers that go down from the state to 0."""
    if not step.isdigit() or (state is not None and int(step) >= int(state)):
        return Checked(reason=f"{step!r} is not below {state}")
    return Checked(state=step, final=step == "0")


def test_a_checker_refuses_notes_states_and_ends_chains() -> None:
    graph, below = graft(plant(), plant().root, "3", state="3")
    s = setting(always(("2", 0.0), ("5", 0.0), ("", 0.0), ("0", 0.0)), check=count_down)
    outcome = drive(generate(graph, [(below, 4)], s, Allowance()))
    step, refused, empty, final = (outcome.writes.thoughts[id] for id in outcome.outputs)
    assert (step["kind"], step["state"]) == ("step", "2")
    assert (refused["kind"], refused["reason"]) == ("failed", "'5' is not below 3")
    assert (empty["kind"], empty["reason"]) == ("failed", "'' is not below 3")
    assert (final["kind"], final["state"], final["answer"]) == ("final", "0", "0")


def test_an_end_from_which_no_answer_can_be_read_fails() -> None:
    def unreadable(question: str, steps: Sequence[str]) -> None:
        return None

    (bad,) = born(setting(always(("dunno", 0.0, True)), answer=unreadable))
    assert (bad["kind"], bad["reason"]) == ("failed", "ended without an answer")


def test_the_policy_continues_what_the_path_wrote_with_a_seed_of_its_own() -> None:
    graph, ids = grown({"q": ["a", "b"], "a": ["aa"]})
    s = setting(always(("x", 0.0)))
    drive(generate(graph, [(ids["aa"], 2), (ids["b"], 1)], s, Allowance()))
    requests = asked(s)
    assert [request.prefix for request in requests] == ["a\naa\n", "a\naa\n", "b\n"]
    assert [request.thought for request in requests] == [
        child_id(ids["aa"], 0),
        child_id(ids["aa"], 1),
        child_id(ids["b"], 0),
    ]
    assert len({request.seed for request in requests}) == 3
    assert all(request.messages == MESSAGES and request.stop == ("\n",) for request in requests)


def test_one_batch_may_plan_a_thought_twice() -> None:
    graph = plant()
    plan: Plan = [(graph.root, 1), (graph.root, 2)]
    outcome = drive(generate(graph, plan, setting(always(("x", 0.0))), Allowance()))
    assert outcome.outputs == [child_id(graph.root, index) for index in range(3)]
    assert outcome.writes.stats[graph.root]["children"] == 3


def test_children_are_numbered_on_from_those_there_are() -> None:
    graph, ids = grown({"q": ["a", "b"]})
    outcome = drive(generate(graph, [(graph.root, 1)], setting(always(("x", 0.0))), Allowance()))
    assert outcome.outputs == [child_id(graph.root, 2)]
    assert graph.updated(outcome.writes).children(graph.root) == [ids["a"], ids["b"], *outcome.outputs]


@pytest.mark.parametrize(
    ("allowance", "count", "max_tokens"),
    [
        (Allowance(calls=2), 2, 5),
        (Allowance(nodes=3), 3, 5),
        (Allowance(tokens=14), 2, 5),
        (Allowance(tokens=4), 1, 4),
        (Allowance(tokens=0), 0, 0),
        (Allowance(seconds=-1), 0, 0),
    ],
)
def test_a_plan_is_cut_to_the_allowance_from_its_end(
    allowance: Allowance, count: int, max_tokens: int
) -> None:
    graph, ids = grown({"q": ["a", "b"]})
    s = setting(always(("x", 0.0)))
    plan = [(ids["a"], 2), (ids["b"], 2)]
    outcome = drive(generate(graph, plan, s, allowance))
    places = [child_id(ids[parent], index) for parent in "ab" for index in range(2)]
    assert outcome.outputs == places[:count]
    assert [request.max_tokens for request in asked(s)] == [max_tokens] * count


def test_usage_is_what_the_policy_reports() -> None:
    graph = plant("two words")
    s = setting(always(("a", 0.0), ("b c", 0.0), ("far too many words for this", 0.0)))
    usage = drive(generate(graph, [(graph.root, 3)], s, Allowance())).usage
    assert usage["completion_tokens"] == 2 + 3 + 5
    assert (usage["model_calls"], usage["nodes"], usage["prompt_tokens"]) == (3, 3, 3)


def outcome_of(what: Outcome) -> tuple[Any, ...]:
    """An outcome without the seconds that it took."""
    return what.writes, what.outputs, {**what.usage, "seconds": 0}


@pytest.mark.parametrize("operator", [generate, generate_to_end])
async def test_plain_and_async_agree_and_change_no_input(operator: Any) -> None:
    script = always(("a", -0.1), ("b", -0.2), ("a", -0.3), ("the end", -1.0, True))
    graph, ids = grown({"q": ["a", "b"]})
    frozen = ThoughtGraph(graph.root, MappingProxyType(graph.thoughts), MappingProxyType(graph.stats))
    before = copy.deepcopy((graph.thoughts, graph.stats))
    plan = [(ids["b"], 3)]
    plain = drive(operator(frozen, plan, setting(script), Allowance()))
    later = await adrive(operator(frozen, plan, setting(script), Allowance()))
    assert outcome_of(plain) == outcome_of(later)
    assert (graph.thoughts, graph.stats) == before
    assert plan == [(ids["b"], 3)]


def two_ways(question: str, prefix: str) -> list[Reply]:
    """Two first steps, then one step on, then the end."""
    depth = prefix.count("\n")
    return [("left", 0.0), ("right", 0.0)] if depth == 0 else [("on", 0.0, depth == 2)]


def test_a_rollout_goes_on_to_the_end_and_keeps_every_thought() -> None:
    graph, s = plant(), setting(two_ways, max_steps=5)
    outcome = drive(generate_to_end(graph, [(graph.root, 2)], s, Allowance()))
    grown_on = graph.updated(outcome.writes)
    assert [grown_on.steps(id) for id in grown_on.finals()] == [["left", "on", "on"], ["right", "on", "on"]]
    assert sorted(outcome.outputs) == sorted(set(grown_on.walk()) - {graph.root})
    assert outcome.usage["model_calls"] == 6


def test_a_rollout_merges_a_step_said_twice_and_goes_on_from_the_elder() -> None:
    graph, s = plant(), setting(two_ways, max_steps=5)
    outcome = drive(generate_to_end(graph, [(graph.root, 3)], s, Allowance()))
    grown_on = graph.updated(outcome.writes)
    left, right, again = grown_on.children(graph.root)
    assert grown_on.stats[again]["closed"] and not grown_on.stats[again]["children"]
    assert not grown_on.stats[left]["closed"] and grown_on.stats[left]["children"] == 1
    assert grown_on.stats[right]["children"] == 1


@pytest.mark.parametrize("allowance", [Allowance(calls=3), Allowance(nodes=3), Allowance(tokens=8)])
def test_a_rollout_ends_with_the_allowance(allowance: Allowance) -> None:
    graph, s = plant(), setting(always(("x", 0.0)), max_steps=50)
    outcome = drive(rollout(*started(graph), s, allowance))
    assert outcome.usage["model_calls"] <= min(allowance.calls, allowance.nodes)
    assert outcome.usage["completion_tokens"] <= allowance.tokens
    assert 3 <= len(asked(s)) <= 4


def started(graph: ThoughtGraph) -> tuple[ThoughtGraph, list[str]]:
    graph, id = graft(graph, graph.root, "begun")
    return graph, [id]


def test_a_rollout_begins_no_call_after_its_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    def slow(question: str, prefix: str) -> list[Reply]:
        nonlocal now
        now += 2.0
        return [("x", 0.0)]

    monkeypatch.setattr("rlm_agent.operators.writing.time", SimpleNamespace(monotonic=lambda: now))
    s = setting(slow, max_steps=50)
    outcome = drive(rollout(*started(plant()), s, Allowance(seconds=5)))
    assert len(asked(s)) == 3
    assert outcome.usage["seconds"] == 6.0


def test_a_block_of_tokens_is_a_step_and_not_cut_off() -> None:
    graph, begun = graft(plant(), plant().root, "so 4 2 ")
    s = setting(always(("a b c d e", 0.0), ("the end", 0.0, True)), format=tokens(3), answer=free_answer)
    outcome = drive(generate(graph, [(begun, 2)], s, Allowance()))
    block, final = (outcome.writes.thoughts[id] for id in outcome.outputs)
    assert (block["kind"], block["text"], block["tokens"]) == ("step", "a b c", 3)
    assert (final["kind"], final["answer"]) == ("final", "2")
    request = asked(s)[0]
    assert (request.prefix, request.stop, request.max_tokens) == ("so 4 2 ", (), 3)


def test_a_block_that_the_allowance_shortens_is_cut_off() -> None:
    s = setting(always(("a b c d e", 0.0)), format=tokens(3))
    (short,) = born(s, 2, allowance=Allowance(tokens=2))
    assert (short["kind"], short["reason"]) == ("failed", "cut off after 2 tokens")


def test_a_pattern_cuts_a_step_whose_tokens_count_in_full() -> None:
    s = setting(
        always(("a. b c", -1.0), ("a b c", 0.0), ("a b c d e f", 0.0), (". a", 0.0), ("a.", 0.0, True)),
        format=pattern(r"\. ?|,"),
    )
    cut, endless, cut_off, short, final = born(s, 5)
    assert (cut["kind"], cut["text"], cut["tokens"], cut["logprob"]) == ("step", "a. ", 4, -1.0)
    assert (endless["kind"], endless["text"]) == ("step", "a b c")
    assert (cut_off["kind"], cut_off["reason"]) == ("failed", "cut off after 5 tokens")
    assert (short["kind"], short["text"]) == ("step", ". ")
    assert (final["kind"], final["answer"]) == ("final", "a.")
    assert all(request.stop == () and request.max_tokens == 5 for request in asked(s))


def test_a_pattern_that_cuts_off_nothing_but_white_space_leaves_an_empty_step() -> None:
    (empty,) = born(setting(always((" \n a", 0.0)), format=pattern(r"\n")))
    assert (empty["kind"], empty["reason"]) == ("failed", "an empty step")


def test_steps_between_special_tokens_name_them_to_the_policy() -> None:
    graph, begun = graft(plant(), plant().root, "a\nb")
    s = setting(always(("x", 0.0)), format=EOIS, answer_end=end_token("</answer>"))
    drive(generate(graph, [(begun, 1)], s, Allowance()))
    (request,) = asked(s)
    assert request.prefix == "a\nb<eois>"
    assert request.stop == request.stop_tokens == ("<eois>",)
    assert request.end_tokens == ("</answer>",)


def test_by_default_the_policy_is_told_of_no_special_token() -> None:
    s = setting(always(("x", 0.0)))
    born(s)
    (request,) = asked(s)
    assert (request.stop, request.stop_tokens, request.end_tokens) == (("\n",), (), ())


def test_a_whole_solution_ends_its_chain() -> None:
    s = setting(always(("1\n2", 0.0, True), ("a b c d e f", 0.0), ("3", 0.0)), format=WHOLE)
    right, cut_off, stopped = born(s, 3)
    assert (right["kind"], right["text"], right["answer"]) == ("final", "1\n2", "2")
    assert (cut_off["kind"], cut_off["reason"]) == ("failed", "cut off after 5 tokens")
    assert (stopped["kind"], stopped["answer"]) == ("final", "3")


def test_a_box_ends_the_answer_before_the_model_does_and_what_follows_is_dropped() -> None:
    graph, begun = graft(plant(), plant().root, "\\boxed{1")
    s = setting(
        always(("2} or so", 0.0), ("2} a b c d e", 0.0), ("2", 0.0), ("3", 0.0, True)),
        format=tokens(3),
        answer_end=BOXED,
        answer=free_answer,
    )
    outcome = drive(generate(graph, [(begun, 4)], s, Allowance()))
    ended, long, step, final = (outcome.writes.thoughts[id] for id in outcome.outputs)
    assert (ended["kind"], ended["text"], ended["answer"], ended["tokens"]) == ("final", "2}", "12", 3)
    assert (long["kind"], long["text"], long["answer"]) == ("final", "2}", "12")
    assert step["kind"] == "step"
    assert (final["kind"], final["answer"]) == ("final", "13")


def test_a_marked_line_ends_the_answer_and_a_marker_in_the_middle_does_not() -> None:
    s = setting(always(("#### 42", 0.0), ("so #### 42", 0.0)), answer_end=marker("####"))
    final, step = born(s, 2)
    assert (final["kind"], final["answer"]) == ("final", "#### 42")
    assert step["kind"] == "step"


def test_a_checker_sees_the_step_as_it_was_cut() -> None:
    (step,) = born(setting(always(("7. and on", 0.0)), format=pattern(r"(?=\.)"), check=count_down))
    assert (step["kind"], step["text"], step["state"]) == ("step", "7", "7")
