"""What LangGraph's policies do for a search: another try, a limit of time, and its own options."""

import asyncio
import inspect
from collections.abc import Collection, Sequence
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langgraph.cache.memory import InMemoryCache
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import CachePolicy, RetryPolicy

from rlm_agent import Budget, Completion, FakePolicy, FakeValue, Request, create_reasoner, question_key
from rlm_agent.graphs.machine.policies import RETRY, transient
from rlm_agent.models.protocols import Candidate
from rlm_agent.structure.errors import CheckpointError, InputError, ModelError
from tests.graphs.scripts import CASES, FOUND, LOOPS, ask, found, guess, reason, thread, wander

QUICK = RetryPolicy(initial_interval=0.0, jitter=False, max_attempts=20, retry_on=transient)


class Faulty(FakePolicy):
    """A policy that is out of reach at some of its calls, before or after it has written."""

    def __init__(
        self, faults: Collection[int], *, late: bool = False, error: type[Exception] = ConnectionError
    ):
        super().__init__(wander)
        self.tried, self._faults, self._late, self._error = 0, faults, late, error

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        self.tried += 1
        if self.tried in self._faults and not self._late:
            raise self._error("out of reach")
        written = super().generate(requests)
        if self.tried in self._faults:
            raise self._error("lost on the way back")
        return written


def unbroken(case: str) -> Any:
    return found(reason(case).invoke(ask(), thread(), output_keys=FOUND))


@pytest.mark.parametrize("case", [case for case in CASES if case not in ("llama_berry", "reflexion")])
def test_a_node_that_is_tried_again_counts_once_and_grows_the_same_tree(case: str) -> None:
    policy = Faulty({1, 3, 4, 8})
    searched = reason(case, policy, retry=QUICK).invoke(ask(), thread(), output_keys=FOUND)
    assert found(searched) == unbroken(case)
    assert policy.tried >= 2


@given(st.sets(st.integers(1, 60), max_size=12), st.booleans())
@settings(max_examples=30)
def test_no_fault_changes_the_search(faults: set[int], late: bool) -> None:
    alone = {fault for fault in faults if fault - 1 not in faults}
    searched = reason("mcts_parallel", Faulty(alone, late=late), retry=QUICK)
    assert found(searched.invoke(ask(), thread(), output_keys=FOUND)) == unbroken("mcts_parallel")


async def test_an_async_node_is_tried_again() -> None:
    class Late(FakePolicy):
        tried = 0

        async def agenerate(self, requests: Sequence[Request]) -> list[Completion]:
            self.tried += 1
            if self.tried in (2, 5):
                raise TimeoutError("no reply")
            return await super().agenerate(requests)

    searched = await reason("x1", Late(wander), retry=QUICK).ainvoke(ask(), thread(), output_keys=FOUND)
    assert found(searched) == unbroken("x1")


def test_a_value_out_of_reach_is_asked_again() -> None:
    class Distant(FakeValue):
        tried = 0

        def score(self, candidates: Sequence[Candidate]) -> Any:
            self.tried += 1
            if self.tried % 2:
                raise httpx.ConnectTimeout("no reply")
            return super().score(candidates)

    value = Distant(guess)
    searched = reason("mcts", value=value, retry=QUICK).invoke(ask(), thread(), output_keys=FOUND)
    assert found(searched) == unbroken("mcts") and value.tried > 4


def test_after_three_attempts_the_error_ends_the_run_and_the_thread_can_go_on() -> None:
    policy = Faulty({3, 4, 5})
    thrice = RETRY._replace(initial_interval=0.0)
    reasoner = reason("mcts", policy, retry=thrice, checkpointer=InMemorySaver())
    with pytest.raises(ConnectionError):
        reasoner.invoke(ask(), thread())
    assert policy.tried == 5
    reasoner.invoke(None, thread())
    assert found(reasoner.get_state(thread()).values) == unbroken("mcts")


def test_by_default_a_lost_connection_is_tried_again_and_others_are_not() -> None:
    assert RETRY.max_attempts == 3 and RETRY.retry_on is transient
    node = create_reasoner("mcts", FakePolicy(wander)).builder.nodes["generate"]
    assert node.retry_policy == RETRY
    policy = Faulty({1}, error=ValueError)
    with pytest.raises(ValueError, match="out of reach"):
        create_reasoner("chain", policy).invoke(ask())
    assert policy.tried == 1
    policy = Faulty({1})
    with pytest.raises(ConnectionError):
        create_reasoner("chain", policy, retry=False).invoke(ask())
    assert policy.tried == 1


@pytest.mark.parametrize(
    ("error", "passing"),
    [
        (ConnectionResetError(), True),
        (TimeoutError(), True),
        (httpx.ReadTimeout(""), True),
        (httpx.ConnectError(""), True),
        (InputError(""), False),
        (CheckpointError(""), False),
        (ModelError(""), False),
        (ValueError(), False),
        (OSError(), False),
        (type("Ours", (ModelError, TimeoutError), {})(), False),
    ],
)
def test_what_may_pass(error: Exception, passing: bool) -> None:
    assert transient(error) is passing


class Hanging(FakePolicy):
    """A policy that never comes back from some call on."""

    def __init__(self, calls: int) -> None:
        super().__init__(wander)
        self._left, self.cancelled = calls, 0

    async def agenerate(self, requests: Sequence[Request]) -> list[Completion]:
        self._left -= 1
        if self._left < 0:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        return await super().agenerate(requests)


@pytest.mark.parametrize("case", LOOPS)
async def test_a_model_that_hangs_ends_a_search_of_bounded_seconds_with_what_it_has(case: str) -> None:
    policy = Hanging(2)
    reasoner = reason(case, policy, budget=Budget(seconds=0.15, calls=60), checkpointer=InMemorySaver())
    async with asyncio.timeout(20):
        result = await reasoner.ainvoke(ask(), thread())
    values = (await reasoner.aget_state(thread())).values
    assert policy.cancelled <= 1 and result["messages"][-1].type == "ai"
    if policy.cancelled:
        assert values["run"]["stopped"] == "seconds" and values["usage"]["seconds"] >= 0.15


async def test_a_search_that_was_out_of_time_goes_on_with_more() -> None:
    saver = InMemorySaver()
    first = reason("mcts", Hanging(3), budget=Budget(seconds=0.1, calls=60), checkpointer=saver)
    await first.ainvoke(ask(), thread())
    before = (await first.aget_state(thread())).values["thoughts"]
    more = {**ask(), "messages": [], "terms": {"budget": {"calls": 60}}}
    after = await reason("mcts", checkpointer=saver).ainvoke(more, thread(), output_keys=FOUND)
    assert before.items() < after["thoughts"].items()


async def test_the_timeout_of_a_model_is_its_own() -> None:
    class Slow(FakePolicy):
        async def agenerate(self, requests: Sequence[Request]) -> list[Completion]:
            raise TimeoutError("the model's own")

    with pytest.raises(TimeoutError, match="own"):
        await reason("chain", Slow(wander), budget=Budget(seconds=60)).ainvoke(ask())


def test_a_run_stops_before_and_after_nodes_as_agents_do() -> None:
    options: dict[str, Any] = {"interrupt_before": ["evaluate"], "checkpointer": InMemorySaver()}
    reasoner = reason("mcts", **options)
    reasoner.invoke(ask(), thread())
    assert reasoner.get_state(thread()).next == ("evaluate",)
    reasoner = reason("graph_of_thoughts", interrupt_after=["one"], checkpointer=InMemorySaver())
    reasoner.invoke(ask(), thread())
    assert "weigh_one" in reasoner.get_state(thread()).next


def test_the_keywords_of_create_agent_are_taken() -> None:
    from langchain.agents import create_agent

    taken = {"model", *inspect.signature(create_reasoner).parameters}
    taken |= set(create_reasoner.__globals__["Common"].__annotations__)
    missing = set(inspect.signature(create_agent).parameters) - taken
    assert missing == {
        "cache",
        "middleware",
        "response_format",
        "state_schema",
        "context_schema",
        "transformers",
    }


def test_debug_is_passed_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert reason("chain", debug=True).debug
    assert not reason("chain").debug


def test_an_app_keeps_the_answers_of_a_reasoner() -> None:
    policy = FakePolicy(wander)
    builder: StateGraph[Any, Any, Any, Any] = StateGraph(MessagesState)
    node = reason("mcts", policy, seed=None)
    builder.add_node("reason", node, cache_policy=CachePolicy(key_func=question_key))
    builder.add_edge(START, "reason")
    app = builder.compile(cache=InMemoryCache())
    first = app.invoke(ask())["messages"][-1].content
    asked = len(policy.requests)
    assert app.invoke(ask())["messages"][-1].content == first and len(policy.requests) == asked
    app.invoke(ask("and now?"))
    assert len(policy.requests) > asked
