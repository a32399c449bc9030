"""The terms of one question: given steps, a budget of its own, a seed."""

from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver

from rlm_agent import Budget, FakePolicy, Steps
from rlm_agent.structure.errors import BudgetError, ProblemError
from rlm_agent.structure.steps import Checked
from tests.graphs.scripts import ask, binary, found, grown, reason, thread, wander, whole_path

BINARY = Steps(max_tokens=6, max_steps=4, answer=whole_path)


def asked(**terms: Any) -> dict[str, Any]:
    return {**ask(), "terms": terms}


def letters(question: str, state: str | None, step: str) -> Checked:
    """Steps are legal while they are digits; the state is all of them; four end the answer."""
    state = (state or "") + step
    return Checked(state=state, reason=None if step.isdigit() else "no digit", final=len(state) == 4)


def test_a_search_begins_behind_the_steps_that_are_given() -> None:
    policy = FakePolicy(binary(3))
    reasoner = reason("best_of_n", policy, steps=BINARY, checkpointer=InMemorySaver())
    reasoner.invoke(asked(given=["1", "0"]), thread())
    values = reasoner.get_state(thread()).values
    graph = grown(values)
    assert graph.thoughts[graph.root]["depth"] == 2
    assert {request.prefix for request in policy.requests} == {"1\n0\n"}
    assert values["answer"][:2] == "10" and len(values["answer"]) == 3
    assert {graph.thoughts[id]["depth"] for id in graph.finals()} == {3}


def test_the_checker_goes_on_from_the_state_behind_the_given_steps() -> None:
    steps = Steps(max_tokens=6, max_steps=4, check=letters, answer=whole_path)
    reasoner = reason("chain", FakePolicy(binary(4)), steps=steps, checkpointer=InMemorySaver())
    reasoner.invoke(asked(given=["1", "1"]), thread())
    graph = grown(reasoner.get_state(thread()).values)
    assert graph.thoughts[graph.root]["state"] == "11"
    (final,) = graph.finals()
    assert graph.thoughts[final]["state"].startswith("11")


@pytest.mark.parametrize(("given", "why"), [(["one"], "no digit"), (["1", "0", "1", "0"], "ends the answer")])
def test_given_steps_that_leave_nothing_to_search_are_refused(given: list[str], why: str) -> None:
    steps = Steps(max_tokens=6, max_steps=4, check=letters, answer=whole_path)
    with pytest.raises(ProblemError, match=why):
        reason("chain", FakePolicy(binary(4)), steps=steps).invoke(asked(given=given))


def test_a_question_may_bring_its_own_budget_and_seed() -> None:
    small = reason("best_of_n").invoke(asked(budget={"calls": 2}))
    assert small["usage"]["model_calls"] <= 2
    states = []
    for reasoner, question in ((reason("mcts"), asked(seed=3)), (reason("mcts", seed=3), ask())):
        reasoner.checkpointer = InMemorySaver()
        reasoner.invoke(question, thread())
        states.append(found(reasoner.get_state(thread()).values))
    assert states[0] == states[1]


def test_a_larger_budget_lets_the_same_search_go_on() -> None:
    saver = InMemorySaver()
    whole = reason("x1", budget=Budget(calls=40), checkpointer=InMemorySaver())
    whole.invoke(ask(), thread())
    part = reason("x1", budget=Budget(calls=20), checkpointer=saver)
    part.invoke(ask(), thread())
    part.invoke({"messages": [], "terms": {"budget": {"calls": 40}}}, thread())
    assert found(part.get_state(thread()).values) == found(whole.get_state(thread()).values)


def test_terms_end_with_their_question() -> None:
    policy = FakePolicy(wander)
    reasoner = reason("chain", policy, checkpointer=InMemorySaver())
    reasoner.invoke(asked(given=["left"]), thread())
    begun = len(policy.requests)
    reasoner.invoke(ask("and now?"), thread())
    assert policy.requests[begun].prefix == ""


def test_a_budget_of_unknown_bounds_is_refused() -> None:
    with pytest.raises(BudgetError, match="tokens, calls, nodes and seconds"):
        reason("chain").invoke(asked(budget={"euros": 3}))
