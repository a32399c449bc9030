"""O1 Journey: a tree and its journey derived by hand, a plain loop, and what must not stop it."""

import math
from functools import partial
from typing import Any

import pytest
from langchain_core.messages import AnyMessage
from langgraph.checkpoint.memory import InMemorySaver

from rlm_agent import Budget, FakePolicy, FakeValue, Steps, ThoughtGraph
from rlm_agent.graphs.journey import create_journey
from rlm_agent.models.drive import drive
from rlm_agent.models.fake import Reply
from rlm_agent.models.prompts import Prompts
from rlm_agent.models.protocols import Message
from rlm_agent.operators.evaluate import evaluate
from rlm_agent.operators.generate import generate
from rlm_agent.operators.prune import twin
from rlm_agent.operators.select import own_value, top
from rlm_agent.operators.setting import Setting
from rlm_agent.structure.budget import Allowance
from rlm_agent.structure.errors import InputError
from tests.graphs import scripts
from tests.graphs.scripts import (
    PLENTY,
    STEPS,
    accepts,
    ask,
    found,
    guess,
    ternary,
    thread,
    wander,
    whole_path,
)
from tests.structure.trees import plant

searched = partial(scripts.searched, create_journey)


def told(values: dict[str, Any]) -> list[str]:
    """The reasoning beside the last reply, line by line."""
    reply: AnyMessage = values["messages"][-1]
    lines: list[str] = reply.additional_kwargs["reasoning_content"].split("\n")
    return lines


GOLDEN = {
    "a": 0.6, "b": 0.4, "aa": 0.9, "ab": 0.2, "ba": 0.7, "bb": 0.1,
    "aaa": 0.3, "aab": 0.8, "baa": 0.5, "bab": 0.05,
}  # fmt: skip
BEGINNING = "Wait. That is not the answer. I go back to the beginning and try something else."


def golden_script(question: str, prefix: str) -> list[Reply]:
    """Each thought has the children "a" and "b", in turn; the third step ends a chain."""
    if question != "where to?":
        return [("told\nagain", -1.0, True)]
    return [(letter, -1.0, prefix.count("\n") == 2) for letter in "ab"]


def golden(**keywords: Any) -> tuple[ThoughtGraph, dict[str, Any]]:
    value = FakeValue(lambda steps: GOLDEN["".join(steps)])
    policy = FakePolicy(golden_script, cycle=True)
    return searched(policy, **{"width": 2, "expansions": 2, "value": value, **keywords})


def test_the_journey_is_the_walk_derived_by_hand() -> None:
    """Two chains are kept, two steps each.

    1. root: a .6, b .4, and each again, which is merged. 2. aa .9, ab .2, ba .7, bb .1: aa and ba are kept.
    3. aaa .3, aab .8, baa .5, bab .05 are finished. The best is aab.
    The way there, with one wrong branch at each step: b, ba (before bb), baa; back to the root; a, ab, which
    was pruned; back to a; aa, aaa; back to aa; aab.
    """
    graph, values = golden()
    assert values["answer"] == "aab" and values["run"]["stopped"] == "exhausted"
    assert told(values) == [
        "b", "a", "a", BEGINNING,
        "a", "b", "Wait. This leads nowhere. I go back to step 1 and try something else.",
        "a", "a", "Wait. That is not the answer. I go back to step 2 and try something else.",
        "b",
    ]  # fmt: skip
    merged = {id: stats["merged"] for id, stats in graph.stats.items() if "merged" in stats}
    a, b, a_again, b_again = graph.children(graph.root)
    assert merged == {a_again: a, b_again: b}
    assert {"".join(graph.steps(id)) for id in graph.walk()} == {"", *GOLDEN}


@pytest.mark.parametrize(("wrong", "length"), [(0, 3), (1, 11), (2, 11)])
def test_wrong_bounds_the_branches_at_each_step(wrong: int, length: int) -> None:
    """There is only one wrong branch at each step of the golden tree."""
    _, values = golden(wrong=wrong)
    assert len(told(values)) == length
    if wrong == 0:
        assert told(values) == ["a", "a", "b"]


def test_another_accepted_answer_is_no_wrong_branch() -> None:
    """baa is right, too: nothing under the root is wrong, and what is told goes straight to the best."""
    both = {"aab", "baa"}

    def verifier(question: str, answer: str) -> Any:
        return accepts(answer if answer in both else "none")(question, answer)

    _, values = golden(verifier=verifier, stop_when_verified=False, budget=Budget(calls=20))
    assert BEGINNING not in told(values)
    _, values = golden(verifier=accepts("aab"), stop_when_verified=False, budget=Budget(calls=20))
    assert BEGINNING in told(values)


def test_an_equal_answer_is_no_wrong_branch_without_a_verifier() -> None:
    _, values = golden(steps=Steps(answer=lambda question, steps: steps[-1]))
    assert values["answer"] == "b"
    assert BEGINNING not in told(values), "baa says a, which is wrong, but bab says b, so that b is right"


def test_a_general_model_tells_the_journey_again_where_that_is_asked_for() -> None:
    graph, values = golden(smoothed=True)
    assert told(values) == ["told", "again"] and values["answer"] == "aab"
    plain, expected = golden()
    assert len(graph.thoughts) == len(plain.thoughts) + 1
    assert values["usage"]["nodes"] == expected["usage"]["nodes"] + 1
    assert values["usage"]["completion_tokens"] > expected["usage"]["completion_tokens"]


class Specialist(FakePolicy):
    """Knows no words but those of its steps."""

    prompts = Prompts.lacking()


def test_a_specialist_leaves_the_journey_as_it_is() -> None:
    policy = Specialist(golden_script, cycle=True)
    value = FakeValue(lambda steps: GOLDEN["".join(steps)])
    _, values = searched(policy, width=2, expansions=2, value=value, smoothed=True)
    assert told(values) == told(golden()[1])


def test_with_nothing_left_the_journey_is_left_as_it_is() -> None:
    """The tree takes 12 calls; after them there is nothing left to tell it again."""
    calls = golden()[1]["usage"]["model_calls"]
    _, values = golden(smoothed=True, budget=Budget(calls=calls))
    assert told(values) == told(golden()[1])
    assert values["usage"]["model_calls"] == calls and values["run"]["stopped"] == "calls"


@pytest.mark.parametrize("fault", ["", "word " * 99])
def test_a_journey_that_is_not_told_to_its_end_is_left_as_it_is(fault: str) -> None:
    def script(question: str, prefix: str) -> list[Reply]:
        return golden_script(question, prefix) if question == "where to?" else [(fault, -1.0)]

    value = FakeValue(lambda steps: GOLDEN["".join(steps)])
    graph, values = searched(
        FakePolicy(script, cycle=True), width=2, expansions=2, value=value, smoothed=True
    )
    assert told(values) == told(golden()[1]) and values["answer"] == "aab"
    assert sum(thought["kind"] == "failed" for thought in graph.thoughts.values()) == 1


@pytest.mark.parametrize("value", [None, FakeValue(lambda steps: GOLDEN["".join(steps)])])
def test_a_search_that_goes_on_does_not_tell_the_same_journey_twice(value: FakeValue | None) -> None:
    """Without a value the likeliest chain is the best, and the journey told again is likelier than any."""
    saver = InMemorySaver()
    policy = FakePolicy(golden_script, cycle=True)
    reasoner = create_journey(
        policy, width=2, expansions=2, value=value, smoothed=True, checkpointer=saver,
        steps=Steps(answer=whole_path), budget=PLENTY, seed=5,
    )  # fmt: skip
    reasoner.invoke(ask(), thread())
    before, asked = reasoner.get_state(thread()).values, len(policy.requests)
    reasoner.invoke({"messages": []}, thread())
    after = reasoner.get_state(thread()).values
    assert len(policy.requests) == asked and found(after) == found(before)
    assert told(after) == ["told", "again"]


class Plain:
    """The same search as a plain loop over the pure operators, with the beam in a list of its own."""

    def __init__(self, policy: FakePolicy, seed: int) -> None:
        message = Message(role="user", content="where to?")
        self.setting = Setting(policy, (message,), seed, STEPS, value=FakeValue(guess))
        self.graph = plant("where to?")
        self.closed: set[str] = set()
        self.merged: dict[str, str] = {}

    def step(self, plan: list[tuple[str, int]]) -> list[str]:
        written = drive(generate(self.graph, plan, self.setting, Allowance()))
        self.graph = self.graph.updated(written.writes)
        judged = drive(evaluate(self.graph, written.outputs, self.setting, Allowance()))
        self.graph = self.graph.updated(judged.writes)
        return written.outputs

    def run(self, width: int, expansions: int) -> None:
        beam: list[str] = []
        while beam or not self.graph.finals():
            plan = [(id, expansions) for id in beam] or [(self.graph.root, width * expansions)]
            fresh = self.step(plan)
            self.merged |= {id: twin(self.graph, id) for id in fresh if twin(self.graph, id) != id}
            alive = [
                id for id in fresh if self.graph.thoughts[id]["kind"] == "step" and id not in self.merged
            ]
            beam = top(self.graph, alive, own_value, width)
            beam = [id for id in fresh if id in beam]
            self.closed |= set(fresh) - set(beam)


@pytest.mark.parametrize("seed", [3, 11, 23])
def test_a_plain_loop_over_the_operators_grows_the_same_tree(seed: int) -> None:
    graph, _ = searched(
        FakePolicy(ternary), width=3, expansions=3, value=FakeValue(guess), steps=STEPS, seed=seed
    )
    plain = Plain(FakePolicy(ternary), seed)
    plain.run(3, 3)
    assert plain.graph.thoughts == graph.thoughts
    assert plain.closed == {id for id, stats in graph.stats.items() if stats["closed"]}
    assert plain.merged == {id: stats["merged"] for id, stats in graph.stats.items() if "merged" in stats}


def test_replies_that_fail_and_values_that_are_no_numbers_harm_nobody_else() -> None:
    odd = FakeValue(lambda steps: math.nan if steps[-1] == "left" else 0.5)
    policy = FakePolicy(wander, fails={1: "connection reset"})
    graph, values = searched(policy, value=odd, budget=Budget(calls=80), steps=STEPS, smoothed=True)
    assert values["answer"] is not None
    reasons = [thought.get("reason") for thought in graph.thoughts.values()]
    assert reasons.count("connection reset") == 1
    assert "" not in told(values), "what failed is no part of a journey"


@pytest.mark.parametrize("bound", ["tokens", "calls", "nodes"])
def test_the_least_of_budgets_ends_without_an_answer(bound: str) -> None:
    _, values = searched(FakePolicy(golden_script), budget=Budget(**{bound: 1}), smoothed=True)
    assert values["answer"] is None
    assert values["messages"][-1].content == f"No answer was found (stopped: {bound})."


@pytest.mark.parametrize("parameters", [{"width": 0}, {"expansions": 0}, {"wrong": -1}])
def test_parameters_that_make_no_journey_are_refused(parameters: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="make no journey; give at least"):
        create_journey(FakePolicy(wander), **parameters)


@pytest.mark.parametrize("smoothed", [False, True])
def test_mini_tells_how_it_came_to_its_answer(smoothed: bool) -> None:
    reasoner = create_journey("mini", seed=1, smoothed=smoothed)
    result = reasoner.invoke(ask("4 9 10 13 : 24"))
    lines = result["messages"][-1].additional_kwargs["reasoning_content"].split("\n")
    assert result["answer"] is not None and lines[-1].endswith("= 24")
    assert any(line.startswith("Wait. ") for line in lines)
