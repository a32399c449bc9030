"""Strategies as text."""

from typing import Any

import pytest

from rlm_agent import Budget, FakePolicy, FakeValue
from rlm_agent.evaluation.strategies import expand, make_reasoner, parse_strategy
from rlm_agent.graphs.reasoner import STRATEGIES
from rlm_agent.structure.errors import InputError
from rlm_agent.tasks.registry import get_task


def make(text: str, **options: Any) -> Any:
    policy = FakePolicy(lambda question, prefix: [("1 + 1 = 2 | 2", 0.0)])
    return make_reasoner(parse_strategy(text), get_task("countdown"), policy, Budget(calls=5), 0, **options)


def test_parameters_are_read_by_their_kinds() -> None:
    strategy = parse_strategy("mcts:branching=2,widening=0.5,rollout=false,simulations=none,prior=policy")
    assert strategy.name == "mcts"
    assert strategy.parameters == {
        "branching": 2,
        "widening": 0.5,
        "rollout": False,
        "simulations": None,
        "prior": "policy",
    }


def test_all_stands_for_every_strategy_once() -> None:
    texts = expand(["mcts:branching=2", "all", "mcts"])
    assert texts[0] == "mcts:branching=2"
    assert [text.partition(":")[0] for text in texts[1:]] == list(STRATEGIES)


def test_sampling_of_all_can_use_a_large_budget() -> None:
    (text,) = (text for text in expand(["all"]) if text.startswith("best_of_n:"))
    assert parse_strategy(text).parameters == {"n": 1000, "parallel": 1}


def test_value_of_a_strategy_goes_before_that_of_all() -> None:
    with pytest.raises(InputError, match="does not allow"):
        make("beam_search", value="head")
    assert make("beam_search:value=none", value="head")


def test_object_as_a_value_serves_all() -> None:
    assert make("particle_filtering", value=FakeValue(lambda steps: 0.5))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("mcts:branching", "no parameter"),
        ("mcts:branching=two", "give a whole number"),
        ("mcts:rollout=1", "give true or false"),
        ("mcts:simulations=many", "give a whole number or none"),
        ("mcts:prior=best", "give policy or uniform"),
        ("mcts:value=3", "give a name or none"),
        ("mcts:temperature=nan", "give a number"),
        ("mcts:verifier=countdown", "use Python"),
        ("mcts:branchin=2", "did you mean 'branching'"),
    ],
)
def test_parameter_that_does_not_fit_is_refused(text: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        make(text)
