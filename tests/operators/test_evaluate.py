"""What thoughts are worth, and how the values of steps make the score of a chain."""

import copy
import math
from collections.abc import Sequence

import pytest

from rlm_agent import FakePolicy, FakeValue
from rlm_agent.models.drive import adrive, drive
from rlm_agent.models.protocols import Candidate, Score
from rlm_agent.operators.evaluate import aggregate_scores, chain_value, evaluate
from rlm_agent.operators.setting import Outcome, Setting
from rlm_agent.structure.budget import Allowance
from rlm_agent.structure.errors import InputError, UnknownNameError
from rlm_agent.structure.steps import Verdict
from rlm_agent.structure.thoughts import ThoughtGraph
from tests.structure.trees import graft, marked, plant

MESSAGES = ({"role": "user", "content": "q"},)


def setting(value: FakeValue | None = None, accepted: str | None = None) -> Setting:
    """A setting whose verifier, if any, accepts one answer."""
    policy = FakePolicy(lambda question, prefix: [])
    verifier = None if accepted is None else (lambda question, answer: Verdict(answer == accepted))
    return Setting(policy, MESSAGES, 0, value=value, verifier=verifier)  # type: ignore[arg-type]


def family() -> tuple[ThoughtGraph, dict[str, str]]:
    """A root with a step, a right and a wrong final and a failed thought."""
    graph, ids = plant(), {}
    graph, ids["step"] = graft(graph, graph.root, "step")
    graph, ids["right"] = graft(graph, graph.root, "right", "final", answer="4")
    graph, ids["wrong"] = graft(graph, graph.root, "wrong", "final", answer="5")
    graph, ids["failed"] = graft(graph, graph.root, "failed", "failed")
    return graph, ids


def values(graph: ThoughtGraph, ids: dict[str, str], outcome: Outcome) -> dict[str, float | None]:
    after = graph.updated(outcome.writes)
    return {name: after.stats[id]["value"] for name, id in ids.items()}


def judge(graph: ThoughtGraph, ids: dict[str, str], s: Setting, allowance: Allowance) -> Outcome:
    return drive(evaluate(graph, list(ids.values()), s, allowance))


def test_without_value_model_or_verifier_only_failure_is_known() -> None:
    graph, ids = family()
    outcome = judge(graph, ids, setting(), Allowance())
    expected = {"step": None, "right": None, "wrong": None, "failed": 0.0}
    assert values(graph, ids, outcome) == expected
    assert outcome.outputs == [ids["failed"]]
    assert outcome.usage["model_calls"] == 0


def test_a_verifier_judges_finals_and_the_value_model_only_the_rest() -> None:
    graph, ids = family()
    value = FakeValue(lambda steps: 0.25)
    outcome = judge(graph, ids, setting(value, accepted="4"), Allowance())
    expected = {"step": 0.25, "right": 1.0, "wrong": 0.0, "failed": 0.0}
    assert values(graph, ids, outcome) == expected
    assert [(c.steps, c.final) for c in value.candidates] == [(("step",), False)]
    assert outcome.usage["model_calls"] == 1


def test_without_a_verifier_the_value_model_judges_finals_too() -> None:
    graph, ids = family()
    value = FakeValue(lambda steps: len(steps[-1]) / 10)
    outcome = judge(graph, ids, setting(value), Allowance())
    assert values(graph, ids, outcome) == pytest.approx(
        {"step": 0.4, "right": 0.5, "wrong": 0.5, "failed": 0}
    )
    assert [candidate.final for candidate in value.candidates] == [False, True, True]
    assert all(candidate.messages == MESSAGES for candidate in value.candidates)


@pytest.mark.parametrize(("said", "kept"), [(1.5, 1.0), (-0.5, 0.0), (0.3, 0.3)])
def test_values_are_brought_into_their_range(said: float, kept: float) -> None:
    graph, ids = family()
    outcome = judge(graph, ids, setting(FakeValue(lambda steps: said)), Allowance())
    assert values(graph, ids, outcome)["step"] == kept


class Failing(FakeValue):
    """A value model whose first score of every batch is an error."""

    def score(self, candidates: Sequence[Candidate]) -> list[Score]:
        return [Score(0.5, error="no reply"), *super().score(candidates)[1:]]


def test_a_score_that_failed_is_no_score_and_harms_no_other() -> None:
    graph, ids = family()
    outcome = judge(graph, ids, setting(Failing(lambda steps: 0.7)), Allowance())
    assert values(graph, ids, outcome) == {"step": None, "right": 0.7, "wrong": 0.7, "failed": 0.0}
    assert outcome.usage["model_calls"] == 3


@pytest.mark.parametrize(
    ("allowance", "calls"),
    [
        (Allowance(), 3),
        (Allowance(calls=2), 2),
        (Allowance(calls=0), 0),
        (Allowance(seconds=0), 0),
        (Allowance(tokens=0, nodes=0), 3),
    ],
)
def test_scores_keep_within_calls_and_seconds_and_need_neither_tokens_nor_nodes(
    allowance: Allowance, calls: int
) -> None:
    graph, ids = family()
    value = FakeValue(lambda steps: 0.5)
    outcome = judge(graph, ids, setting(value), allowance)
    assert len(value.candidates) == outcome.usage["model_calls"] == calls


async def test_plain_and_async_evaluation_agree_and_change_no_input() -> None:
    graph, ids = family()
    before = copy.deepcopy((graph.thoughts, graph.stats))
    s = setting(FakeValue(lambda steps: 0.5), accepted="4")
    plain = drive(evaluate(graph, list(ids.values()), s, Allowance()))
    assert await adrive(evaluate(graph, list(ids.values()), s, Allowance())) == plain
    assert (graph.thoughts, graph.stats) == before
    assert plain.writes.thoughts == {}


@pytest.mark.parametrize(("how", "score"), [("last", 0.8), ("min", 0.5), ("prod", 0.36), ("mean", 2.2 / 3)])
def test_step_scores_are_aggregated(how: str, score: float) -> None:
    assert aggregate_scores([0.9, 0.5, 0.8], how) == pytest.approx(score)


def test_an_unknown_aggregation_and_no_scores_are_errors() -> None:
    with pytest.raises(UnknownNameError, match="choose one of min, prod, last, mean"):
        aggregate_scores([0.5], "median")
    with pytest.raises(InputError, match="no step has a score"):
        aggregate_scores([], "min")


def test_the_score_of_a_chain_comes_from_the_steps_that_have_one() -> None:
    graph, id = plant(), plant().root
    for value in (0.5, None, 0.4):
        graph, id = graft(graph, id, "s", value=value)
    assert math.isclose(chain_value("prod")(graph, id), 0.2)
    assert chain_value("last")(marked(graph, id, value=None), id) == 0.5


def test_a_chain_without_any_score_is_worth_nothing() -> None:
    graph, id = graft(plant(), plant().root, "s")
    assert chain_value("min")(graph, id) == 0.0
