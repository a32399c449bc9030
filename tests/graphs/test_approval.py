"""Calls that wait for somebody's approval: the run stops, is stored, and goes on as it was decided."""

from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.types import Command

from rlm_agent import Budget, FakePolicy, create_lats, create_mcts, create_react
from rlm_agent.models.fake import Reply
from rlm_agent.structure.errors import UnknownNameError
from rlm_agent.tools.wrapping import as_tool
from tests.graphs.scripts import ask, grown, thread

PLENTY = Budget(calls=1000)
paid: list[str] = []


def pay(amount: str) -> str:
    """Pays an amount."""
    paid.append(amount)
    return f"paid {amount}"


def look(text: str) -> str:
    """Looks something up."""
    return text.upper()


TOOLS = [as_tool(pay, idempotent=False), look]
CHAIN = ["Action: look[price]", "Action: pay[5]", "Action: pay[6]", "Finish[done]"]


@pytest.fixture(autouse=True)
def purse() -> None:
    paid.clear()


def script(question: str, prefix: str) -> list[Reply]:
    return [(CHAIN[prefix.count("Observation")], -1.0)]


def react(policy: FakePolicy | None = None, **keywords: Any) -> Any:
    common: dict[str, Any] = {"tools": TOOLS, "budget": PLENTY, "seed": 5, "checkpointer": InMemorySaver()}
    return create_react(policy or FakePolicy(script), **{**common, **keywords})


def waiting(reasoner: Any) -> list[dict[str, str]]:
    """The calls that wait for an approval."""
    (stopped,) = reasoner.get_state(thread()).interrupts
    listed: list[dict[str, str]] = stopped.value["approve"]
    return listed


def said(reasoner: Any) -> list[str]:
    values = reasoner.get_state(thread()).values
    return [text for text in grown(values).steps(values["run"]["best"]) if text.startswith("Observation")]


def test_a_run_stops_before_each_call_with_effects_and_goes_on_with_a_yes() -> None:
    reasoner = react(approve="effects")
    reasoner.invoke(ask(), thread())
    (call,) = waiting(reasoner)
    assert (call["tool"], call["argument"], paid) == ("pay", "5", [])
    reasoner.invoke(Command(resume=True), thread())
    assert waiting(reasoner)[0]["argument"] == "6" and paid == ["5"]
    assert reasoner.invoke(Command(resume=True), thread())["answer"] == "done"
    assert paid == ["5", "6"] and said(reasoner) == [
        "Observation: PRICE", "Observation: paid 5", "Observation: paid 6"
    ]  # fmt: skip


def test_a_no_is_an_observation_with_its_reason() -> None:
    reasoner = react(approve="effects")
    reasoner.invoke(ask(), thread())
    reasoner.invoke(Command(resume={waiting(reasoner)[0]["id"]: "too much"}), thread())
    reasoner.invoke(Command(resume=False), thread())
    assert not paid and said(reasoner)[1:] == [
        "Observation: Error: the call was not approved: too much",
        "Observation: Error: the call was not approved",
    ]


@pytest.mark.parametrize("reply", [{"another": True}, {}, "yes", 1])
def test_what_is_no_clear_yes_to_this_very_call_approves_nothing(reply: Any) -> None:
    reasoner = react(approve="effects")
    reasoner.invoke(ask(), thread())
    reasoner.invoke(Command(resume=reply), thread())
    assert not paid


def test_all_calls_may_have_to_be_approved_and_none() -> None:
    reasoner = react(approve="all")
    reasoner.invoke(ask(), thread())
    assert waiting(reasoner)[0]["tool"] == "look"
    reasoner = react(approve="never")
    assert reasoner.invoke(ask(), thread())["answer"] == "done" and paid == ["5", "6"]


def test_the_policy_is_asked_nothing_again_when_the_run_goes_on() -> None:
    policy = FakePolicy(script)
    reasoner = react(policy, approve="effects")
    reasoner.invoke(ask(), thread())
    for _ in range(2):
        reasoner.invoke(Command(resume=True), thread())
    assert len(policy.requests) == len(CHAIN)


def test_a_run_that_waited_in_a_file_is_taken_up_by_another_process_as_if_it_had_not(tmp_path: Path) -> None:
    with SqliteSaver.from_conn_string(str(tmp_path / "a.db")) as saver:
        react(approve="effects", checkpointer=saver).invoke(ask(), thread())
    for _ in range(2):
        with SqliteSaver.from_conn_string(str(tmp_path / "a.db")) as saver:
            reasoner = react(approve="effects", checkpointer=saver)
            reasoner.invoke(Command(resume=True), thread())
            thoughts = reasoner.get_state(thread()).values["thoughts"]
    unbroken = react(approve="never")
    unbroken.invoke(ask(), thread())
    assert thoughts == unbroken.get_state(thread()).values["thoughts"] and paid == ["5", "6", "5", "6"]


async def test_async_runs_wait_as_well(tmp_path: Path) -> None:
    async with AsyncSqliteSaver.from_conn_string(str(tmp_path / "a.db")) as saver:
        reasoner = react(approve="effects", checkpointer=saver)
        await reasoner.ainvoke(ask(), thread())
        assert not paid
        await reasoner.ainvoke(Command(resume=True), thread())
        assert (await reasoner.ainvoke(Command(resume=True), thread()))["answer"] == "done"
    assert paid == ["5", "6"]


@pytest.mark.parametrize("create", [create_lats, create_mcts])
def test_a_search_that_commits_to_no_path_may_act_after_an_approval(create: Any) -> None:
    def ways(question: str, prefix: str) -> list[Reply]:
        if "Observation" in prefix:
            return [("Finish[done]", -1.0)]
        return [("Action: pay[5]", -0.5), ("Action: pay[6]", -1.0), ("Action: pay[7]", -1.5)]

    reasoner = create(
        FakePolicy(ways), tools=TOOLS, approve="effects", budget=Budget(nodes=12), seed=3,
        checkpointer=InMemorySaver(),
    )  # fmt: skip
    reasoner.invoke(ask(), thread())
    for _ in range(20):
        if not reasoner.get_state(thread()).interrupts:
            break
        reply = {call["id"]: call["argument"] == "6" for call in waiting(reasoner)}
        reasoner.invoke(Command(resume=reply), thread())
    assert set(paid) == {"6"}
    thoughts = reasoner.get_state(thread()).values["thoughts"].values()
    observations = [one for one in thoughts if one.get("operator") == "act"]
    assert sum(one["text"] == "Observation: paid 6" for one in observations) == len(paid)
    assert any("not approved" in one["text"] for one in observations)


def test_another_word_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="nobody approves 'sometimes'; choose one of never, effects"):
        react(approve="sometimes")
