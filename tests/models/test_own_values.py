"""Values by rollout, verifier and heuristic: what they are worth, what they cost, and what may go wrong."""

import asyncio
import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from rlm_agent import Budget, FakePolicy, FakeValue, Steps, Verdict, create_beam_search, create_reasoner
from rlm_agent.models.fake import Reply
from rlm_agent.models.protocols import Candidate, Completion, Composite, Policy, Request, Score, Value
from rlm_agent.models.resolve import load_policy, load_value
from rlm_agent.models.rollouts import RolloutValue
from rlm_agent.models.values import FunctionValue, MixedValue, VerifierValue
from rlm_agent.structure.errors import InputError
from rlm_agent.tasks.registry import get_task
from tests.models.chains import candidate

STEPS = Steps(max_tokens=6, max_steps=4)


def is_right(question: str, answer: str) -> Verdict:
    return Verdict(answer == "right")


def walk(question: str, prefix: str) -> list[Reply]:
    """Behind "left", the ends right, wrong, right, and a step that says nothing, in turn; else "left"."""
    if prefix.endswith("left\n"):
        return [("right", -1.0, True), ("wrong", -1.0, True), ("right", -1.0, True), ("", -1.0)]
    return [("left", -1.0)]


def rollouts(policy: Policy | None = None, **keywords: Any) -> RolloutValue:
    return RolloutValue(
        policy or FakePolicy(walk, cycle=True), STEPS, **{"verifier": is_right, "samples": 4, **keywords}
    )


def test_a_rollout_value_is_the_share_of_right_ends_and_counts_what_they_cost() -> None:
    """From "left" a step of 2 tokens each, or of 1 for the empty one; from nothing "left" goes before."""
    value = rollouts()
    (near,) = value.score([candidate("q", "left")])
    assert (near.value, near.tokens, near.calls, near.error) == (0.5, 7, 4, None)
    (far,) = value.score([candidate("q")])
    assert (far.value, far.tokens, far.calls) == (0.5, 4 * 2 + 7, 8)
    assert near.calls <= value.most_calls and far.tokens <= value.most_tokens


def test_a_chain_that_has_ended_is_judged_as_it_is() -> None:
    right, wrong = rollouts().score(
        [candidate("q", "right", final=True), candidate("q", "wrong", final=True)]
    )
    assert (right.value, wrong.value, right.calls, right.tokens) == (1.0, 0.0, 0, 0)


def test_a_chain_has_the_same_value_in_any_company_and_asynchronously() -> None:
    policy = FakePolicy(walk)
    chains = [candidate("q"), candidate("q", "left"), candidate("why", "left"), candidate("q", "on", "left")]
    value = rollouts(policy, samples=5)
    together = value.score(chains)
    assert [value.score([chain])[0] for chain in chains] == together
    assert asyncio.run(value.ascore(chains)) == together
    assert len({request.seed for request in policy.requests[:20]}) == 20
    assert value.score([]) == []


def test_rollouts_end_where_their_tokens_or_steps_do_and_are_worth_nothing() -> None:
    endless = FakePolicy(lambda question, prefix: [("on and on", -1.0)])
    value = rollouts(endless, samples=2, max_tokens=7)
    (score,) = value.score([candidate("q")])
    assert (score.value, score.error, score.tokens) == (0.0, None, 2 * (4 + 3))
    assert value.most_tokens == 14
    (score,) = rollouts(endless, samples=2).score([candidate("q")])
    assert (score.value, score.calls) == (0.0, 2 * STEPS.max_steps)


def test_rollouts_that_fail_to_be_made_are_left_out_and_where_all_do_the_chain_is_in_error() -> None:
    some = FakePolicy(walk, cycle=True, fails={0: "connection reset", 1: "connection reset"})
    (score,) = rollouts(some).score([candidate("q", "left")])
    assert (score.value, score.error, score.calls) == (0.5, None, 4)
    none = FakePolicy(walk, fails=dict.fromkeys(range(8), "connection refused"))
    first, second = rollouts(none).score([candidate("q", "left"), candidate("r", "left")])
    assert first.error == second.error == "connection refused"


class Short(FakePolicy):
    """A policy that loses its last reply."""

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        return super().generate(requests)[:-1]


def test_too_few_completions_are_an_error_of_all_chains() -> None:
    (score,) = rollouts(Short(walk)).score([candidate("q", "left")])
    assert score.error == "the policy sent 3 completions for 4 requests"


class Told:
    """A value that says what it was told to."""

    identity = "told"

    def __init__(self, *scores: Score) -> None:
        self.scores = scores

    def score(self, candidates: Sequence[Candidate]) -> list[Score]:
        return list(self.scores)

    async def ascore(self, candidates: Sequence[Candidate]) -> list[Score]:
        return list(self.scores)


def test_a_value_may_judge_the_ends_and_what_it_does_not_know_is_left_out() -> None:
    """Three of four rollouts end; the fourth failed and is worth 0."""
    ends = Told(Score(0.9, 5), Score(math.nan, 5), Score(0.3, 5))
    (score,) = rollouts(verifier=None, value=ends).score([candidate("q", "left")])
    assert score.value == pytest.approx((0.9 + 0.3 + 0.0) / 3)
    assert (score.calls, score.prompt_tokens) == (4 + 3, 4 * 2 + 15)
    (score,) = rollouts(verifier=None, value=Told(Score(0.5))).score([candidate("q", "left")])
    assert (score.value, score.error) == (0.0, None), "the failed rollout is all that is known"


def test_rollouts_hold_to_the_rules_of_the_task() -> None:
    """Behind a step, the checker's state is that of the step: only what is left may be used."""
    task = get_task("game24")

    def script(question: str, prefix: str) -> list[Reply]:
        lines = ["4 * 6 = 24", "1 * 24 = 24 | 24"] if prefix.endswith("| 4 6\n") else ["1 * 4 = 4 | 4 6"]
        return [(line, -1.0) for line in lines]

    policy = FakePolicy(script, cycle=True)
    value = RolloutValue(policy, task.steps, verifier=task.verifier, samples=2)
    (score,) = value.score([candidate("1 1 4 6 : 24", "1 * 1 = 1 | 1 4 6")])
    assert (score.value, score.calls) == (0.5, 4)


@pytest.mark.parametrize(
    "keywords",
    [{"samples": 0}, {"max_tokens": 0}, {"verifier": None}, {"value": FakeValue(lambda steps: 0.5)}],
)
def test_rollouts_that_nobody_can_make_or_judge_are_refused(keywords: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        rollouts(**keywords)


def test_a_verifier_knows_of_ends_alone() -> None:
    value = VerifierValue(is_right, Steps())
    assert all(isinstance(value, protocol) for protocol in (Value, Composite))
    open_chain, right, wrong, none = value.score(
        [
            candidate("q", "right"),
            candidate("q", "so", "right", final=True),
            candidate("q", "wrong", final=True),
            candidate("q", " ", final=True),
        ]
    )
    assert open_chain.error == "the chain has not come to its end"
    assert [score.value for score in (right, wrong, none)] == [1.0, 0.0, 0.0]
    assert {score.calls for score in (open_chain, right, wrong, none)} == {0}
    assert asyncio.run(value.ascore([candidate("q", "right", final=True)]))[0].value == 1.0


def count_steps(question: str, steps: Sequence[str]) -> float:
    return len(steps) / len(question)


def test_a_function_sees_the_question_and_the_steps() -> None:
    value = FunctionValue(count_steps)
    scores = value.score([candidate("four", "a"), candidate("four", *"abcdef"), candidate("four")])
    assert [(score.value, score.error, score.calls) for score in scores] == [
        (0.25, None, 0), (1.0, None, 0), (0.0, None, 0),
    ]  # fmt: skip
    assert value.identity == "function:count_steps"
    assert FunctionValue(count_steps, "length").identity == "function:length"
    assert asyncio.run(value.ascore([candidate("four", "a")])) == scores[:1]


@pytest.mark.parametrize(
    ("function", "fault"),
    [
        (lambda question, steps: 1 / len(steps), "the value raised ZeroDivisionError: division by zero"),
        (lambda question, steps: math.nan if not steps else 0.5, "the value is no number"),
        (lambda question, steps: None if not steps else 0.5, "the value raised TypeError"),
    ],
)
def test_a_function_that_raises_or_says_no_number_harms_that_chain_alone(
    function: Callable[[str, Sequence[str]], Any], fault: str
) -> None:
    bad, good = FunctionValue(function, "f").score([candidate("q"), candidate("q", "a", "b")])
    assert bad.error is not None and bad.error.startswith(fault)
    assert (good.value, good.error) == (0.5, None)


def test_a_mixture_costs_what_its_parts_cost_together() -> None:
    mixed = MixedValue([rollouts(), FakeValue(lambda steps: 1.0), FunctionValue(count_steps)])
    (score,) = mixed.score([candidate("qqqq", "left")])
    assert score.value == pytest.approx((0.5 + 1.0 + 0.25) / 3)
    assert (score.tokens, score.calls) == (7, 5)
    assert (mixed.most_calls, mixed.most_tokens) == (rollouts().most_calls + 1, rollouts().most_tokens)


@pytest.mark.parametrize("bound", [{"calls": 30}, {"tokens": 60}, {"calls": 7, "tokens": 25}])
def test_no_budget_is_exceeded_by_rollouts(bound: dict[str, int]) -> None:
    policy = FakePolicy(walk)
    value = RolloutValue(policy, STEPS, verifier=is_right, samples=2, max_tokens=8)
    reasoner = create_beam_search(
        policy, width=2, expansions=2, value=value, steps=STEPS, budget=Budget(**bound), seed=3
    )
    usage = reasoner.invoke({"messages": [("user", "q")]})["usage"]
    assert usage["model_calls"] == len(policy.requests) <= bound.get("calls", math.inf)
    assert usage["completion_tokens"] <= bound.get("tokens", math.inf)


def test_free_values_are_asked_though_no_call_is_left() -> None:
    value = FunctionValue(lambda question, steps: 0.75, "f")
    reasoner = create_reasoner(
        "best_of_n", FakePolicy(walk), n=1, value=value, steps=STEPS, budget=Budget(calls=1), seed=3
    )
    told: list[Any] = list(reasoner.stream({"messages": [("user", "q")]}, stream_mode="custom"))
    assert [event["value"] for event in told if event["event"] == "thought"] == [0.75]


def test_rollouts_have_a_name_where_somebody_judges_their_ends() -> None:
    mini, task = load_policy("mini"), get_task("countdown")
    value = load_value("rollout:2", mini, task.steps, task.verifier)
    assert isinstance(value, RolloutValue) and value.samples == 2
    reasoner = create_reasoner("beam_search", "mini", width=1, expansions=2, value="rollout:2", seed=1)
    usage = reasoner.invoke({"messages": [("user", "3 5 7 : 8")]})["usage"]
    assert 0 < usage["completion_tokens"] <= 4000
    with pytest.raises(InputError, match="give a verifier, or the name of a task"):
        load_value("rollout:2", mini)
    with pytest.raises(InputError, match="give at least 1"):
        load_value("rollout:0", mini, task.steps, task.verifier)
