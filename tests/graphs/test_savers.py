"""A seed decides the search: whatever keeps it, however it is called, and whether or not it broke off."""

import json
import sqlite3
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

from rlm_agent import Budget, FakePolicy, FakeValue, Steps, create_mcts
from rlm_agent.structure.errors import CheckpointError
from rlm_agent.structure.formats import PARAGRAPH
from tests.graphs.scripts import (
    CASES,
    FOUND,
    NEED_VALUES,
    X1,
    Mortal,
    ask,
    found,
    guess,
    reason,
    thread,
    wander,
)

EMPTY: dict[str, Any] = {"messages": []}
"""The input that goes on with the search of the last question."""


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[SqliteSaver]:
    with closing(sqlite3.connect(tmp_path / "memory.db", check_same_thread=False)) as connection:
        yield SqliteSaver(connection)


@pytest.fixture
async def async_sqlite(tmp_path: Path) -> AsyncIterator[AsyncSqliteSaver]:
    async with AsyncSqliteSaver.from_conn_string(str(tmp_path / "async.db")) as saver:
        yield saver


@pytest.fixture(params=list(CASES))
def case(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def unbroken(case: str, **keywords: Any) -> tuple[Any, ...]:
    """What a run without any saver finds."""
    return found(reason(case, **keywords).invoke(ask(), output_keys=FOUND))


def rebuilt(updates: Sequence[dict[str, Any]]) -> tuple[Any, ...]:
    """What a stream of updates amounts to."""
    values: dict[str, Any] = {"thoughts": {}, "stats": {}}
    for update in updates:
        for written in update.values():
            for channel, value in written.items():
                values[channel] = {**values[channel], **value} if channel in ("thoughts", "stats") else value
    return found(values)


def test_memory_and_sqlite_and_no_saver_find_the_same(case: str, sqlite: SqliteSaver) -> None:
    expected = unbroken(case)
    for saver in (InMemorySaver(), sqlite):
        reasoner = reason(case, checkpointer=saver)
        reasoner.invoke(ask(), thread())
        assert found(reasoner.get_state(thread()).values) == expected
    assert len(expected[0]) > 4


def test_a_stream_finds_the_same(case: str) -> None:
    reasoner = reason(case, checkpointer=InMemorySaver())
    updates = list(reasoner.stream(ask(), thread(), stream_mode="updates"))
    assert rebuilt(updates) == found(reasoner.get_state(thread()).values) == unbroken(case)


async def test_async_calls_and_async_sqlite_find_the_same(case: str, async_sqlite: AsyncSqliteSaver) -> None:
    expected = unbroken(case)
    assert found(await reason(case).ainvoke(ask(), output_keys=FOUND)) == expected
    reasoner = reason(case, checkpointer=async_sqlite)
    updates = [update async for update in reasoner.astream(ask(), thread(), stream_mode="updates")]
    state = await reasoner.aget_state(thread())
    assert rebuilt(updates) == found(state.values) == expected


async def test_a_plain_call_works_within_a_running_loop(case: str, sqlite: SqliteSaver) -> None:
    reasoner = reason(case, checkpointer=sqlite)
    reasoner.invoke(ask(), thread())
    assert found(reasoner.get_state(thread()).values) == unbroken(case)


def test_another_seed_finds_something_else() -> None:
    assert len({str(unbroken("x1", seed=seed)[0]) for seed in range(5)}) == 5


def test_a_seed_that_was_not_given_is_drawn_once_and_kept_with_the_run() -> None:
    found_by_seed = []
    for name in "12":
        reasoner = reason("x1", seed=None, checkpointer=(saver := InMemorySaver()), budget=Budget(calls=12))
        reasoner.invoke(ask(), thread(name))
        values = reasoner.get_state(thread(name)).values
        seed = values["run"]["seed"]
        assert found(values) == unbroken("x1", seed=seed, budget=Budget(calls=12))
        more = reason("x1", seed=None, checkpointer=saver, budget=Budget(calls=40))
        more.invoke(EMPTY, thread(name))
        assert more.get_state(thread(name)).values["run"]["seed"] == seed
        found_by_seed.append(seed)
    assert found_by_seed[0] != found_by_seed[1]


def test_a_finished_search_goes_on_with_a_bigger_budget_as_if_it_had_never_stopped(
    sqlite: SqliteSaver,
) -> None:
    """The first budget ends with a round: 4 nodes, 8 calls."""
    first = reason("x1", checkpointer=sqlite, budget=Budget(calls=8))
    first.invoke(ask(), thread())
    before = first.get_state(thread()).values
    second = reason("x1", checkpointer=sqlite, budget=Budget(calls=40))
    result = second.invoke(EMPTY, thread())
    after = second.get_state(thread()).values
    assert found(after) == unbroken("x1", budget=Budget(calls=40))
    assert len(before["thoughts"]) == 5 < len(after["thoughts"])
    assert [message.id for message in result["messages"]] == [message.id for message in before["messages"]]
    assert result["messages"][-1].content == result["answer"]


@pytest.mark.parametrize("first", [1, 7, 23])
def test_going_on_leaves_the_thoughts_of_before_as_they_were(case: str, first: int) -> None:
    saver = InMemorySaver()
    reason(case, checkpointer=saver, budget=Budget(calls=first)).invoke(ask(), thread())
    reasoner = reason(case, checkpointer=saver, budget=Budget(calls=60))
    before = reasoner.get_state(thread()).values["thoughts"]
    reasoner.invoke(EMPTY, thread())
    after = reasoner.get_state(thread()).values
    assert {id: after["thoughts"][id] for id in before} == before
    assert after["usage"]["model_calls"] <= 60


def test_going_on_with_nothing_left_to_spend_changes_nothing(case: str) -> None:
    own = {} if case in NEED_VALUES else {"value": None}
    reasoner = reason(case, checkpointer=InMemorySaver(), budget=Budget(nodes=5), **own)
    reasoner.invoke(ask(), thread())
    before = reasoner.get_state(thread()).values
    reasoner.invoke(EMPTY, thread())
    after = reasoner.get_state(thread()).values
    assert found(after) == found(before)
    assert after["messages"] == before["messages"]


def batches_of(case: str) -> int:
    """How many batches a whole run of a case asks of its policy."""
    policy = Mortal(10_000)
    reason(case, policy).invoke(ask())
    return 10_000 - policy._left


@pytest.mark.parametrize("share", [0.0, 0.4, 0.9])
def test_a_search_that_broke_off_is_taken_up_by_another_process(
    case: str, share: float, tmp_path: Path
) -> None:
    """A new connection, saver, policy and graph stand for the other process."""
    path = tmp_path / "thread.db"
    with closing(sqlite3.connect(path, check_same_thread=False)) as connection:
        broken = reason(case, Mortal(int(share * batches_of(case))), checkpointer=SqliteSaver(connection))
        with pytest.raises(ConnectionError, match="the model is gone"):
            broken.invoke(ask(), thread())
    with closing(sqlite3.connect(path, check_same_thread=False)) as connection:
        reasoner = reason(case, checkpointer=SqliteSaver(connection))
        reasoner.invoke(None, thread())
        assert found(reasoner.get_state(thread()).values) == unbroken(case)


async def test_a_search_that_broke_off_is_taken_up_asynchronously(async_sqlite: AsyncSqliteSaver) -> None:
    with pytest.raises(ConnectionError):
        await reason("mcts", Mortal(3), checkpointer=async_sqlite).ainvoke(ask(), thread())
    reasoner = reason("mcts", checkpointer=async_sqlite)
    await reasoner.ainvoke(None, thread())
    assert found((await reasoner.aget_state(thread())).values) == unbroken("mcts")


@pytest.mark.parametrize("case", ["mcts", "x1", "beam_search"])
def test_a_fork_of_any_moment_ends_in_the_same_tree(case: str) -> None:
    reasoner = reason(case, checkpointer=InMemorySaver(), budget=Budget(calls=30))
    reasoner.invoke(ask(), thread())
    expected = found(reasoner.get_state(thread()).values)
    moments = [state for state in reasoner.get_state_history(thread()) if state.next]
    for moment in moments[:-1:4]:
        reasoner.invoke(None, moment.config)
        assert found(reasoner.get_state(thread()).values) == expected


class Other(FakePolicy):
    """Another model than `FakePolicy`."""

    identity = "other"


@pytest.mark.parametrize(
    "other",
    [{"policy": Other(wander)}, {"value": None}, {"case": "mcts"}, {"steps": Steps(format=PARAGRAPH)}],
    ids=["policy", "value", "strategy", "steps"],
)
def test_a_search_is_not_continued_by_another_model_or_strategy(other: dict[str, Any]) -> None:
    saver = InMemorySaver()
    case = "best_of_n"
    reason(case, checkpointer=saver, budget=Budget(calls=8)).invoke(ask(), thread())
    reasoner = reason(**{"case": case, "checkpointer": saver, **other})
    before = reasoner.get_state(thread()).values
    with pytest.raises(
        CheckpointError, match="use the strategy, the models and the step format of before, or ask"
    ):
        reasoner.invoke(EMPTY, thread())
    assert found(reasoner.get_state(thread()).values) == found(before)
    assert reasoner.invoke(ask("something new?"), thread())["usage"]["nodes"] > 0


def test_a_search_that_broke_off_is_not_taken_up_by_another_model() -> None:
    saver = InMemorySaver()
    with pytest.raises(ConnectionError):
        reason("x1", Mortal(2), checkpointer=saver).invoke(ask(), thread())
    with pytest.raises(CheckpointError):
        reason("x1", Other(wander), checkpointer=saver).invoke(None, thread())


def test_a_new_question_starts_a_fresh_tree_and_leaves_the_old_one_readable(sqlite: SqliteSaver) -> None:
    reasoner = reason("x1", checkpointer=sqlite)
    reasoner.invoke(ask("first?"), thread())
    old = reasoner.get_state(thread()).values
    reasoner.invoke(ask("second?"), thread())
    new = reasoner.get_state(thread()).values
    assert new["run"]["root"] != old["run"]["root"]
    assert new["thoughts"][new["run"]["root"]]["text"] == "second?"
    assert {id: new["thoughts"][id] for id in old["thoughts"]} == old["thoughts"]
    assert {id: new["stats"][id] for id in old["stats"]} == old["stats"]
    assert len(new["thoughts"]) == len(old["thoughts"]) + 1 + new["usage"]["nodes"]


def test_a_question_that_was_edited_is_a_new_one() -> None:
    reasoner = reason("x1", checkpointer=InMemorySaver())
    reasoner.invoke({"messages": [HumanMessage("first?", id="m")]}, thread())
    old = reasoner.get_state(thread()).values
    reasoner.invoke({"messages": [HumanMessage("edited?", id="m")]}, thread())
    new = reasoner.get_state(thread()).values
    assert new["thoughts"][new["run"]["root"]]["text"] == "edited?"
    assert {id: new["thoughts"][id] for id in old["thoughts"]} == old["thoughts"]


def test_the_state_is_plain_json_and_holds_the_whole_search(case: str) -> None:
    reasoner = reason(case, checkpointer=InMemorySaver())
    reasoner.invoke(ask(), thread())
    values = reasoner.get_state(thread()).values
    plain = {channel: values[channel] for channel in ("thoughts", "stats", "run", "usage", "answer")}
    assert json.loads(json.dumps(plain)) == plain
    assert set(values["thoughts"]) == set(values["stats"])
    assert values["run"]["root"] in values["thoughts"]


def stored_bytes(connection: sqlite3.Connection) -> int:
    """The bytes of all that was serialised; keys and indexes, which are SQLite's matter, are left out."""
    (checkpoints,) = connection.execute("SELECT SUM(LENGTH(checkpoint) + LENGTH(metadata)) FROM checkpoints")
    (writes,) = connection.execute("SELECT SUM(LENGTH(value)) FROM writes")
    return int(checkpoints[0] + writes[0])


def bytes_a_thought(simulations: int, path: Path) -> float:
    """What is stored for each thought of a tree with four new ones a simulation; the question is long."""

    def script(question: str, prefix: str) -> list[Any]:
        return [(f"{direction} and on to the next corner of the maze", -1.4) for direction in "NESW"]

    with closing(sqlite3.connect(path, check_same_thread=False)) as connection:
        reasoner = create_mcts(
            FakePolicy(script, cycle=True),
            **{**X1, "branching": 4, "simulations": simulations},
            value=FakeValue(guess),
            steps=Steps(max_tokens=20, max_steps=10_000),
            budget=Budget(nodes=4 * simulations),
            seed=1,
            checkpointer=SqliteSaver(connection),
        )
        reasoner.invoke(ask("where to? " * 400), thread())
        thoughts = reasoner.get_state(thread()).values["thoughts"]
        assert len(thoughts) == 1 + 4 * simulations
        return stored_bytes(connection) / len(thoughts)


@pytest.mark.parametrize("simulations", [250, pytest.param(1250, marks=pytest.mark.slow)])
def test_a_thought_costs_three_kilobytes_of_storage_in_small_and_large_trees(
    simulations: int, tmp_path: Path
) -> None:
    small = bytes_a_thought(25, tmp_path / "small.db")
    large = bytes_a_thought(simulations, tmp_path / "large.db")
    assert small > 1000 and max(small, large) <= 3000
    assert large <= 1.25 * small
