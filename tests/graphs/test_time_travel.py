"""Forks of a search, drained searches, and budgets that are raised later, on every saver."""

import sqlite3
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.errors import GraphDrained
from langgraph.runtime import RunControl

from rlm_agent import Budget, Completion, FakePolicy, Request
from rlm_agent.graphs.machine.rules import Reasoner
from rlm_agent.structure.consistency import check_graph
from tests.graphs.scripts import ask, found, grown, reason, thread, wander

SOME = ["mcts", "beam_search", "best_first", "llama_berry", "graph_of_thoughts", "lats", "tot_dfs", "react"]
FEW = ["mcts", "graph_of_thoughts"]
SAVERS = [("memory", case) for case in SOME] + [
    (kind, case) for kind in ("sqlite", "postgres") for case in FEW
]
"""Savers, and the cases that they are tried with."""

EMPTY: dict[str, Any] = {"messages": []}
Saver = BaseCheckpointSaver[Any]


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def saver(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Saver]:
    if request.param == "memory":
        yield InMemorySaver()
    elif request.param == "sqlite":
        with closing(sqlite3.connect(tmp_path / "t.db", check_same_thread=False)) as connection:
            yield SqliteSaver(connection)
    else:
        with PostgresSaver.from_conn_string(request.getfixturevalue("postgres_url")) as saver:
            saver.setup()
            yield saver


@pytest.fixture(params=["sqlite", "postgres"])
async def async_saver(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Saver]:
    if request.param == "sqlite":
        async with AsyncSqliteSaver.from_conn_string(str(tmp_path / "t.db")) as saver:
            yield saver
    else:
        async with AsyncPostgresSaver.from_conn_string(request.getfixturevalue("postgres_url")) as saver:
            await saver.setup()
            yield saver


@pytest.fixture
def own(request: pytest.FixtureRequest) -> RunnableConfig:
    """A thread of the test's own, as a server outlives a test."""
    return thread(request.node.name)


def unbroken(case: str, **keywords: Any) -> tuple[Any, ...]:
    """What a run without interruption finds."""
    reasoner = reason(case, checkpointer=InMemorySaver(), **keywords)
    reasoner.invoke(ask(), thread())
    return found(reasoner.get_state(thread()).values)


def moments_of(reasoner: Reasoner, config: RunnableConfig) -> list[Any]:
    """The states of a thread in which a search is under way, the oldest first."""
    return [one for one in reasoner.get_state_history(config) if one.next and one.values.get("run")][::-1]


@pytest.mark.parametrize(("saver", "case"), SAVERS, indirect=["saver"])
def test_every_moment_can_be_looked_at_and_gone_on_from(case: str, saver: Saver, own: RunnableConfig) -> None:
    """The trees of later moments contain those of earlier ones; from any of them the end is the same."""
    reasoner = reason(case, checkpointer=saver, budget=Budget(calls=24))
    reasoner.invoke(ask(), own)
    expected = found(reasoner.get_state(own).values)
    moments = moments_of(reasoner, own)
    before: dict[str, Any] = {}
    for moment in moments:
        values = moment.values
        check_graph(values["thoughts"], values["stats"], values["run"])
        assert before.items() <= values["thoughts"].items()
        before = values["thoughts"]
    for moment in moments[:: max(1, len(moments) // 3)]:
        reasoner.invoke(None, moment.config)
        assert found(reasoner.get_state(own).values) == expected


@pytest.mark.parametrize(("saver", "case"), SAVERS, indirect=["saver"])
def test_a_budget_is_raised_and_the_same_search_goes_on(case: str, saver: Saver, own: RunnableConfig) -> None:
    """In three parts, where the terms of a question say so, until nothing is left to do."""
    reasoner = reason(case, checkpointer=saver, budget=Budget(calls=9))
    reasoner.invoke(ask(), own)
    before = reasoner.get_state(own).values["thoughts"]
    for calls in (20, 45):
        reasoner.invoke({**EMPTY, "terms": {"budget": {"calls": calls}}}, own)
        values = reasoner.get_state(own).values
        assert {id: values["thoughts"][id] for id in before} == before
        assert values["usage"]["model_calls"] <= calls
        check_graph(values["thoughts"], values["stats"], values["run"])
        before = values["thoughts"]


async def test_budgets_are_raised_asynchronously(async_saver: Saver, own: RunnableConfig) -> None:
    """The first budget ends with a round, so that nothing shows where it ended."""
    reasoner = reason("x1", checkpointer=async_saver, budget=Budget(calls=8))
    await reasoner.ainvoke(ask(), own)
    await reasoner.ainvoke({**EMPTY, "terms": {"budget": {"calls": 40}}}, own)
    assert found((await reasoner.aget_state(own)).values) == unbroken("x1", budget=Budget(calls=40))


def test_a_fork_has_a_budget_of_its_own(saver: Saver, own: RunnableConfig) -> None:
    """From the middle of a finished search one goes on with less, and the longer one stays where it was."""
    reasoner = reason("x1", checkpointer=saver, budget=Budget(calls=40))
    reasoner.invoke(ask(), own)
    end = reasoner.get_state(own)
    moments = moments_of(reasoner, own)
    middle = moments[len(moments) // 2]
    spent = middle.values["usage"]["model_calls"]
    reasoner.invoke({**EMPTY, "terms": {"budget": {"calls": spent + 6}}}, middle.config)
    fork = reasoner.get_state(own).values
    assert middle.values["thoughts"].items() <= fork["thoughts"].items()
    assert spent < fork["usage"]["model_calls"] <= spent + 6 < end.values["usage"]["model_calls"]
    assert found(reasoner.get_state(end.config).values) == found(end.values)


def test_a_fork_under_another_seed_begins_the_question_anew(saver: Saver, own: RunnableConfig) -> None:
    reasoner = reason("x1", checkpointer=saver, budget=Budget(calls=20))
    reasoner.invoke(ask(), own)
    end = reasoner.get_state(own)
    middle = moments_of(reasoner, own)[10]
    reasoner.invoke({**EMPTY, "terms": {"seed": 8}}, middle.config)
    fork = reasoner.get_state(own).values
    assert fork["run"]["seed"] == 8 and fork["run"]["root"] != end.values["run"]["root"]
    texts = [fork["thoughts"][id]["text"] for id in grown(fork).walk()]
    assert texts[0] == "where to?" and texts != [
        end.values["thoughts"][id]["text"] for id in grown(end.values).walk()
    ]
    assert found(reasoner.get_state(end.config).values) == found(end.values)


class Draining(FakePolicy):
    """A policy at whose third batch somebody wants the run to stop."""

    def __init__(self, control: RunControl) -> None:
        super().__init__(wander)
        self._control, self._batches = control, 0

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        self._batches += 1
        if self._batches == 3:
            self._control.request_drain("the machine is wanted")
        return super().generate(requests)


@pytest.mark.parametrize(("saver", "case"), [one for one in SAVERS if one[1] != "react"], indirect=["saver"])
def test_a_drained_search_stops_after_its_superstep_and_goes_on_later(
    case: str, saver: Saver, own: RunnableConfig
) -> None:
    control = RunControl()
    policy = Draining(control)
    with pytest.raises(GraphDrained, match="the machine is wanted"):
        reason(case, policy, checkpointer=saver).invoke(ask(), own, control=control)
    reasoner = reason(case, later := FakePolicy(wander), checkpointer=saver)
    assert reasoner.get_state(own).next
    reasoner.invoke(None, own)
    assert found(reasoner.get_state(own).values) == unbroken(case)
    whole = FakePolicy(wander)
    reason(case, whole).invoke(ask())
    assert len(policy.requests) + len(later.requests) == len(whole.requests)


async def test_a_drained_async_search_goes_on_later(async_saver: Saver, own: RunnableConfig) -> None:
    control = RunControl()
    reasoner = reason("mcts", Draining(control), checkpointer=async_saver)
    with pytest.raises(GraphDrained):
        await reasoner.ainvoke(ask(), own, control=control)
    await reasoner.ainvoke(None, own)
    assert found((await reasoner.aget_state(own)).values) == unbroken("mcts")
