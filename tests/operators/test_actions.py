"""The five actions of rStar: which may follow which, what each asks, and where its thought stands."""

import pytest

from rlm_agent import FakePolicy, Steps
from rlm_agent.models.drive import drive
from rlm_agent.models.fake import Reply
from rlm_agent.models.prompts import Prompts
from rlm_agent.models.protocols import Message
from rlm_agent.operators.rules.actions import ACTIONS, act, following, known_actions, to_the_end
from rlm_agent.operators.setting import Setting
from rlm_agent.structure.budget import Allowance
from rlm_agent.structure.errors import InputError, UnknownNameError
from rlm_agent.structure.thoughts import Thought, ThoughtGraph
from tests.structure.trees import plant

PROMPTS = Prompts(subquestion="{question} ask", answer="{question} again {step}", rephrase="{question} anew")


def script(question: str, prefix: str) -> list[Reply]:
    """What was asked, with the number of steps before it; an end after three."""
    return [(f"{question} {prefix.count(chr(10))}", -1.0, prefix.count("\n") == 3)]


def setting(policy: FakePolicy, steps: Steps | None = None) -> Setting:
    return Setting(policy, (Message(role="user", content="q"),), 7, steps or Steps(), prompts=PROMPTS)


def taken(
    graph: ThoughtGraph, id: str, actions: list[str], policy: FakePolicy
) -> tuple[ThoughtGraph, list[str]]:
    outcome = drive(act(graph, id, actions, setting(policy), Allowance()))
    return graph.updated(outcome.writes), outcome.outputs


@pytest.mark.parametrize(
    ("after", "may_follow"),
    [
        (None, ["step", "finish", "subquestion", "rephrase"]),
        ("step", ["step", "finish"]),
        ("finish", []),
        ("subquestion", ["step", "finish", "subquestion", "answer"]),
        ("answer", ["step", "finish", "subquestion"]),
        ("rephrase", ["step", "finish", "subquestion"]),
    ],
)
def test_each_action_may_follow_what_the_paper_lets_it_follow(
    after: str | None, may_follow: list[str]
) -> None:
    thought = Thought(parent=None, index=0, depth=0, kind="step", text="", tokens=0, logprob=0.0)
    if after is not None:
        thought["operator"] = after
    assert following(thought, ACTIONS) == may_follow
    assert following(thought, ("finish", "answer")) == [a for a in may_follow if a in ("finish", "answer")]


def test_a_policy_has_the_actions_that_it_has_words_for() -> None:
    assert known_actions(None, Prompts()) == ACTIONS
    assert known_actions(None, Prompts.lacking()) == ("step", "finish")
    assert known_actions(None, Prompts.lacking(rephrase="anew")) == ("step", "finish", "rephrase")
    assert known_actions(["finish", "step"], Prompts.lacking()) == ("step", "finish")


@pytest.mark.parametrize("action", ["subquestion", "answer", "rephrase"])
def test_an_action_without_words_is_refused_by_its_name(action: str) -> None:
    with pytest.raises(InputError, match=f"has not learned to {action}"):
        known_actions(("step", action), Prompts.lacking())


def test_names_that_are_none_and_actions_that_begin_nothing_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="no action 'guess'; choose among step, finish"):
        known_actions(("guess",), Prompts())
    for asked in ((), ("answer",), ("answer", "rephrase")):
        with pytest.raises(InputError, match="add one of step, finish, subquestion"):
            known_actions(asked, Prompts())


def test_one_batch_asks_each_action_in_its_own_words() -> None:
    policy, graph = FakePolicy(script), plant("q")
    graph, (first, *_) = taken(graph, graph.root, ["subquestion"], policy)
    policy.requests.clear()
    graph, ids = taken(graph, first, ["step", "finish", "subquestion", "answer"], policy)
    assert [request.messages[-1]["content"] for request in policy.requests] == [
        "q", "q", "q ask", "q again q ask 0"
    ]  # fmt: skip
    assert [request.prefix for request in policy.requests] == ["q ask 0\n"] * 3 + [""]
    assert len({request.seed for request in policy.requests}) == 4
    assert [graph.thoughts[id].get("operator") for id in ids] == ["step", "finish", "subquestion", "answer"]
    assert graph.children(first) == ids


def test_what_answers_a_sub_question_again_stands_in_its_place() -> None:
    policy, graph = FakePolicy(script), plant("q")
    graph, (step,) = taken(graph, graph.root, ["step"], policy)
    graph, (asked,) = taken(graph, step, ["subquestion"], policy)
    graph, (again,) = taken(graph, asked, ["answer"], policy)
    assert graph.thoughts[again]["parent"] == asked and graph.thoughts[again]["base"] == step
    assert graph.chain(again) == [step, again]
    assert graph.thoughts[again]["depth"] == graph.thoughts[asked]["depth"] == 2
    first = taken(graph, graph.root, ["subquestion"], policy)
    graph, (instead,) = taken(first[0], first[1][0], ["answer"], policy)
    assert graph.thoughts[instead]["base"] == graph.root and graph.steps(instead) == ["q again q ask 0 0"]


def test_a_finish_goes_on_to_its_end_by_thoughts_that_bear_its_name() -> None:
    policy, graph = FakePolicy(script), plant("q")
    graph, begun = taken(graph, graph.root, ["finish", "finish"], policy)
    outcome = drive(to_the_end(graph, begun, setting(policy), Allowance()))
    graph = graph.updated(outcome.writes)
    assert [graph.path(id)[1] for id in graph.finals()] == begun  # equal texts, and yet two chains
    assert {graph.thoughts[id].get("operator") for id in outcome.outputs} == {"finish"}
    assert outcome.usage["nodes"] == len(outcome.outputs) == 6
    assert [event["operator"] for event in outcome.trace] == ["generate"] * 3


@pytest.mark.parametrize("allowance", [Allowance(calls=3), Allowance(nodes=3), Allowance(tokens=12)])
def test_what_the_allowance_does_not_cover_is_left_out_from_the_end(allowance: Allowance) -> None:
    policy, graph = FakePolicy(script), plant("q")
    steps = Steps(max_tokens=4)
    outcome = drive(act(graph, graph.root, ["step"] * 5, setting(policy, steps), allowance))
    assert len(outcome.outputs) == 3
    graph = graph.updated(outcome.writes)
    rest = drive(to_the_end(graph, outcome.outputs, setting(policy, steps), allowance.less(outcome.usage)))
    assert rest.usage["completion_tokens"] + outcome.usage["completion_tokens"] <= allowance.tokens
    assert len(policy.requests) <= min(allowance.calls, allowance.nodes, 4)
