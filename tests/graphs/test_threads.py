"""A second run on a busy thread is refused; runs that do not meet, and those that have ended, are not."""

import asyncio
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import Send

from rlm_agent import Budget, Completion, FakePolicy, Request
from rlm_agent.graphs.machine.rules import Reasoner
from rlm_agent.structure.consistency import check_graph
from rlm_agent.structure.errors import BusyError
from tests.graphs.scripts import Mortal, ask, found, reason, thread, wander

FEW = Budget(calls=6)


class Waiting(FakePolicy):
    """A policy that says when it is asked first, and answers only when it is told to."""

    def __init__(self) -> None:
        super().__init__(wander)
        self.asked, self.told = threading.Event(), threading.Event()

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        self.asked.set()
        assert self.told.wait(10)
        return super().generate(requests)

    async def agenerate(self, requests: Sequence[Request]) -> list[Completion]:
        self.asked.set()
        assert await asyncio.to_thread(self.told.wait, 10)
        return FakePolicy.generate(self, requests)


def test_a_second_run_on_a_busy_thread_is_refused() -> None:
    """Also by another reasoner with the same saver, and not on another thread or by another saver."""
    policy, saver = Waiting(), InMemorySaver()
    reasoner = reason("x1", policy, checkpointer=saver, budget=FEW)
    other = reason("x1", checkpointer=saver, budget=FEW)
    first = threading.Thread(target=reasoner.invoke, args=(ask("first?"), thread()))
    first.start()
    try:
        assert policy.asked.wait(10)
        for second in (reasoner, other):
            with pytest.raises(BusyError, match="the thread '1' is busy with another run; wait for its end"):
                second.invoke(ask("second?"), thread())
        other.invoke(ask("second?"), thread("2"))
        reason("x1", checkpointer=InMemorySaver(), budget=FEW).invoke(ask("second?"), thread())
    finally:
        policy.told.set()
        first.join()
    expected = reason("x1", budget=FEW, checkpointer=InMemorySaver())
    expected.invoke(ask("first?"), thread())
    assert found(reasoner.get_state(thread()).values) == found(expected.get_state(thread()).values)
    assert len(reasoner.invoke(ask("second?"), thread())["messages"]) == 4


async def test_a_second_async_run_on_a_busy_thread_is_refused() -> None:
    policy = Waiting()
    reasoner = reason("x1", policy, checkpointer=InMemorySaver(), budget=FEW)
    first = asyncio.create_task(reasoner.ainvoke(ask("first?"), thread()))
    await asyncio.to_thread(policy.asked.wait, 10)
    with pytest.raises(BusyError):
        await reasoner.ainvoke(ask("second?"), thread())
    policy.told.set()
    assert (await first)["usage"]["nodes"] > 0
    assert len((await reasoner.ainvoke(ask("second?"), thread()))["messages"]) == 4


def test_a_stream_that_was_left_and_a_run_that_failed_are_over() -> None:
    saver = InMemorySaver()
    with pytest.raises(ConnectionError):
        reason("x1", Mortal(1), checkpointer=saver, budget=FEW).invoke(ask(), thread())
    reasoner = reason("x1", checkpointer=saver, budget=FEW)
    stream = reasoner.stream(None, thread(), stream_mode="updates")
    next(stream)
    with pytest.raises(BusyError):
        reasoner.invoke(None, thread())
    stream.close()  # type: ignore[attr-defined]
    assert reasoner.invoke(None, thread())["usage"]["model_calls"] > 0


async def test_an_async_stream_that_was_left_and_a_task_that_was_cancelled_are_over() -> None:
    policy = Waiting()
    reasoner = reason("x1", policy, checkpointer=InMemorySaver(), budget=FEW)
    task = asyncio.create_task(reasoner.ainvoke(ask(), thread()))
    await asyncio.to_thread(policy.asked.wait, 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    policy.told.set()
    async for _ in reasoner.astream(None, thread(), stream_mode="updates"):
        break
    assert (await reasoner.ainvoke(None, thread()))["usage"]["model_calls"] > 0


def test_runs_of_two_processes_leave_a_thread_that_can_be_read(tmp_path: Path) -> None:
    """Two connections stand for them. The second goes on from what the first has stored by then, as a branch
    of its own; the first ends as if it were alone."""
    policies = [Waiting(), Waiting()]
    with ExitStack() as stack:
        savers = [stack.enter_context(SqliteSaver.from_conn_string(str(tmp_path / "t.db"))) for _ in policies]
        runs = []
        for saver, policy, question in zip(savers, policies, ("first?", "second?"), strict=True):
            reasoner = reason("x1", policy, checkpointer=saver, budget=FEW)
            runs.append(threading.Thread(target=reasoner.invoke, args=(ask(question), thread())))
            runs[-1].start()
            assert policy.asked.wait(10)
        for run, policy in zip(runs, policies, strict=True):
            policy.told.set()
            run.join()
        history = list(reasoner.get_state_history(thread()))
        ends = {state.values["messages"][-2].content: state.values for state in history if not state.next}
        assert set(ends) == {"first?", "second?"}
        for end in ends.values():
            check_graph(end["thoughts"], end["stats"], end["run"])
        alone = reason("x1", checkpointer=InMemorySaver(), budget=FEW)
        alone.invoke(ask("first?"), thread())
        assert found(ends["first?"]) == found(alone.get_state(thread()).values)
        assert reasoner.invoke(ask("third?"), thread())["usage"]["nodes"] > 0


def fanned(inner: Reasoner) -> Any:
    """A graph that sends three questions to a reasoner at the same time."""
    builder = StateGraph(MessagesState)
    builder.add_node("inner", inner)
    questions = [Send("inner", ask(f"{word}?")) for word in ("one", "two", "three")]
    builder.add_conditional_edges(START, lambda state: questions, ["inner"])
    builder.add_edge("inner", END)
    return builder.compile(checkpointer=InMemorySaver())


async def test_branches_of_a_graph_run_a_reasoner_at_once() -> None:
    app = fanned(reason("x1", budget=FEW))
    assert len(app.invoke(ask(), thread())["messages"]) == 7
    assert len((await app.ainvoke(ask(), thread("2")))["messages"]) == 7


async def test_branches_that_would_share_one_history_are_refused() -> None:
    policy = Waiting()
    app = fanned(reason("x1", policy, budget=FEW, checkpointer=True))
    with pytest.raises(BusyError, match="another branch runs 'inner', and by checkpointer=True"):
        await app.ainvoke(ask(), thread())
    policy.told.set()
    assert app.get_state(thread()).values["messages"]


def test_a_reasoner_with_a_history_of_its_own_runs_once_a_turn() -> None:
    """What `checkpointer=True` is for: a node that remembers its own conversation."""
    inner = reason("x1", budget=FEW, checkpointer=True)
    builder = StateGraph(MessagesState)
    builder.add_node("inner", inner)
    builder.add_edge(START, "inner")
    app: Any = builder.compile(checkpointer=InMemorySaver())
    for turn in (1, 2):
        assert len(app.invoke(ask(f"question {turn}?"), thread())["messages"]) == 2 * turn
