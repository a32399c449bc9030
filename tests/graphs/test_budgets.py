"""No budget is ever exceeded, by any strategy, and what is reported is what the models counted."""

from collections.abc import Sequence
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlm_agent import Budget, Completion, FakePolicy, FakeValue, Request, Steps
from rlm_agent.models.fake import Reply
from tests.graphs.scripts import (
    ASIDES,
    CASES,
    LOOPS,
    NEED_VALUES,
    RETRIEVING,
    SINGLE,
    ask,
    guess,
    reason,
    wander,
)

bounds = st.none() | st.integers(1, 50)


class Counting(FakePolicy):
    """A fake that keeps its replies."""

    def __init__(self) -> None:
        super().__init__(wander)
        self.completions: list[Completion] = []

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        replies = super().generate(requests)
        self.completions += replies
        return replies


@pytest.mark.parametrize(
    ("case", "valued"),
    [(case, valued) for case in CASES for valued in (True, False) if valued or case not in NEED_VALUES],
)
@settings(max_examples=8)
@given(tokens=bounds, calls=bounds, nodes=bounds, seed=st.integers(0, 999))
def test_no_budget_is_exceeded_and_usage_is_what_the_models_counted(
    case: str, valued: bool, tokens: int | None, calls: int | None, nodes: int | None, seed: int
) -> None:
    if tokens is calls is nodes is None:
        calls = 40
    policy, value = Counting(), FakeValue(guess)
    reasoner = reason(
        case,
        policy,
        value=value if valued else None,
        seed=seed,
        budget=Budget(tokens=tokens, calls=calls, nodes=nodes),
    )
    usage = reasoner.invoke(ask())["usage"]
    written = sum(completion.tokens for completion in policy.completions)
    assert tokens is None or written <= tokens
    assert nodes is None or usage["nodes"] <= nodes
    assert calls is None or len(policy.completions) + len(value.candidates) <= calls
    assert usage["completion_tokens"] == written
    assert usage["nodes"] == len(policy.completions) or case in (*ASIDES, *RETRIEVING)
    assert usage["model_calls"] == len(policy.completions) + len(value.candidates)
    assert usage["prompt_tokens"] == sum(completion.prompt_tokens for completion in policy.completions)


@pytest.mark.parametrize("case", list(CASES))
def test_a_budget_of_one_call_makes_one_call(case: str) -> None:
    policy = FakePolicy(wander)
    reason(case, policy, budget=Budget(calls=1)).invoke(ask())
    assert len(policy.requests) == 1


@pytest.mark.parametrize("case", [case for case in LOOPS if case not in NEED_VALUES])
def test_no_call_begins_after_the_seconds(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    now, begun = 0.0, []

    def slow(question: str, prefix: str) -> list[Reply]:
        return [("on", -1.0), ("and on", -1.0)]

    class Slow(FakePolicy):
        def generate(self, requests: Sequence[Request]) -> list[Completion]:
            nonlocal now
            begun.append(now)
            now += 1.0
            return super().generate(requests)

    clock = SimpleNamespace(monotonic=lambda: now)
    monkeypatch.setattr("rlm_agent.graphs.machine.nodes.time", clock)
    monkeypatch.setattr("rlm_agent.operators.writing.time", clock)
    steps = Steps(max_tokens=4, max_steps=100)
    reasoner = reason(case, Slow(slow), value=None, steps=steps, budget=Budget(seconds=4.5))
    result = reasoner.invoke(ask())
    assert begun == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert result["usage"]["seconds"] == 5.0


@pytest.mark.parametrize("case", [case for case in CASES if case not in (*SINGLE, *NEED_VALUES)])
@pytest.mark.parametrize("bound", ["tokens", "calls", "nodes"])
def test_the_bound_that_ended_a_search_is_named_and_used_up(case: str, bound: str) -> None:
    amount = 11
    result = reason(case, value=None, budget=Budget(**{bound: amount})).invoke(ask())
    counted = {"tokens": "completion_tokens", "calls": "model_calls", "nodes": "nodes"}[bound]
    assert result["usage"][counted] == amount
    assert result["messages"][-1].usage_metadata["output_tokens"] == result["usage"]["completion_tokens"]
