"""What the embedded model has learned beside writing steps: to criticise, rewrite, compare and reflect."""

from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver

from rlm_agent import Budget, create_reasoner
from rlm_agent.models.judges import JudgePreference
from rlm_agent.models.prompts import prompts_of
from rlm_agent.models.protocols import Candidate, Decoding, Message
from rlm_agent.models.resolve import load_policy
from rlm_agent.structure.errors import InputError
from tests.graphs.scripts import ask, grown, thread

QUESTION = "4 9 10 13 : 24"
HARD = "5 8 9 13 : 24"
RIGHT = ("13 - 9 = 4 | 4 4 10", "10 - 4 = 6 | 4 6", "6 * 4 = 24")
WRONG = ("10 + 4 = 14 | 9 13 14", "14 + 13 = 27 | 9 27", "27 - 9 = 18")


def searched(strategy: str, question: str, **parameters: Any) -> tuple[dict[str, Any], list[Any]]:
    """The state after a search on mini that does not end at an answer, and the operators that it told of."""
    reasoner = create_reasoner(
        strategy,
        "mini",
        budget=Budget(tokens=800),
        seed=3,
        stop_when_verified=False,
        checkpointer=InMemorySaver(),
        **parameters,
    )
    told: list[Any] = list(reasoner.stream(ask(question), thread(), stream_mode="custom"))
    values: dict[str, Any] = reasoner.get_state(thread()).values
    return values, [event["operator"] for event in told if event["event"] == "operator"]


def test_llama_berry_rewrites_what_mini_criticises_and_compares() -> None:
    values, operators = searched("llama_berry", HARD)
    assert {"generate", "critique", "refine", "compare"} <= set(operators)
    graph = grown(values)
    rewritten = [id for id in graph.walk() if graph.thoughts[id].get("operator") == "refine"]
    said = [stats["feedback"] for stats in values["stats"].values() if "feedback" in stats]
    assert rewritten and said
    assert all(text == "right" or text.startswith("wrong at ") for text in said)


def test_coat_goes_back_where_mini_reflects() -> None:
    values, operators = searched("coat", HARD, restarts=3)
    assert {"generate", "critique", "backtrack"} <= set(operators)
    assert any(thought.get("operator") == "reflect" for thought in values["thoughts"].values())


def test_mini_prefers_what_is_right() -> None:
    policy = load_policy("mini")
    preference = JudgePreference(
        policy, prompts_of(policy).require("prefer"), samples=3, decoding=Decoding(temperature=1.0)
    )
    asked = (Message(role="user", content=QUESTION),)
    right, wrong = Candidate(asked, RIGHT, True), Candidate(asked, WRONG, True)
    forth, back = preference.prefer([(right, wrong), (wrong, right)])
    assert forth.error is None and back.error is None
    assert forth.value > 0.5 > back.value


@pytest.mark.parametrize("skill", ["aggregate", "reflect", "subquestion", "rephrase"])
def test_a_skill_that_mini_lacks_is_said_to_be_lacking(skill: str) -> None:
    with pytest.raises(InputError, match=f"has not learned to {skill}"):
        prompts_of(load_policy("mini")).require(skill)
