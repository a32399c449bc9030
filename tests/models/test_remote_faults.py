"""Faults between client and server: nothing is lost, nothing counted twice, nobody waits for ever."""

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_agent import Budget, create_reasoner
from rlm_agent.evaluation.runs import solve
from rlm_agent.models.protocols import Message, Request
from rlm_agent.models.remote.client import Patience
from rlm_agent.models.remote.faults import after
from rlm_agent.models.remote.gate import Gate
from rlm_agent.models.remote.policy import RemotePolicy
from rlm_agent.structure.errors import ServerError, UnansweredError
from rlm_agent.tasks.registry import get_task
from tests.proxy import FAULTS, spoiling
from tests.scripted import Asked, scripted
from tests.servers import serving

BUDGET = 120
SHORT = Patience(attempt=1.5, total=60.0, tries=16)


@pytest.fixture(scope="module")
def llama() -> Iterator[str]:
    """The URL of llama.cpp's server."""
    with serving("llama.cpp", slots=4) as url:
        yield url


def ask(seed: int = 0, **more: Any) -> Request:
    """A request for a step."""
    return Request((Message(role="user", content="4 9 10 13 : 24"),), "", 30, seed, ("\n",), **more)


def test_searches_survive_a_third_of_answers_spoilt(llama: str) -> None:
    """The tokens of each search are those in the proxy's book, which counts each request once."""
    task = get_task("game24")
    problems = task.sample("test", 12, 1)

    with spoiling(llama, seed=3, stalls=4.0) as proxy:

        def search(index: int) -> list[tuple[int, int, float]]:
            policy = RemotePolicy(f"{proxy.url}/v1?client={index}", patience=SHORT)
            reasoner = create_reasoner(
                "mcts", policy, steps="game24", budget=Budget(tokens=BUDGET), seed=index
            )
            rows, before = [], 0
            for problem in problems[index::4]:
                started = time.monotonic()
                tokens = solve(reasoner, task, problem).completion_tokens
                booked = proxy.books[str(index)].tokens
                rows.append((tokens, booked - before, time.monotonic() - started))
                before = booked
            policy.close()
            return rows

        with ThreadPoolExecutor(4) as pool:
            rows = [row for part in pool.map(search, range(4)) for row in part]
        assert len(rows) == len(problems)
        assert sum(proxy.faults[fault] for fault in FAULTS) > 10
    assert all(0 < tokens <= BUDGET for tokens, _, _ in rows)
    assert [tokens for tokens, _, _ in rows] == [booked for _, booked, _ in rows]


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_alone_ends_in_time(llama: str, fault: str) -> None:
    patience = Patience(attempt=0.3, total=5.0, tries=3)
    with spoiling(llama, rate=1.0, stalls=1.0, kinds=(fault,)) as proxy:
        policy = RemotePolicy(f"{proxy.url}/v1", patience=patience)
        started = time.monotonic()
        with pytest.raises(UnansweredError, match="no usable answer after 3 tries"):
            policy.generate([ask()])
        assert time.monotonic() - started < patience.total + 1
        assert policy.meter.failed == policy.meter.tries == 3
        assert policy.meter.requests == 0
        policy.close()


def test_the_deadline_holds_over_all_tries_and_the_waiting() -> None:
    with scripted(lambda asked: (429, {}, {"retry-after": "50"})) as server:
        policy = RemotePolicy(f"{server.url}/v1", patience=Patience(total=0.5))
        started = time.monotonic()
        with pytest.raises(UnansweredError, match=r"within 0.5 seconds"):
            policy.generate([ask()])
        assert time.monotonic() - started < 3
        policy.close()


def test_one_request_that_fails_spares_its_siblings() -> None:
    def script(asked: Asked) -> Any:
        if asked.path == "/v1/models":
            return 200, {"data": [{"id": "m", "owned_by": "vllm"}]}
        if asked.body["seed"] == 1:
            return 500, {"error": {"message": "out of luck"}}
        message = {"role": "assistant", "content": "x"}
        return 200, {"choices": [{"finish_reason": "length", "message": message}]}

    with scripted(script) as server:
        policy = RemotePolicy(f"{server.url}/v1", patience=Patience(tries=2), logprobs=False)
        found = policy.generate([ask(0), ask(1), ask(2)])
        policy.close()
    assert [one.finish for one in found] == ["length", "error", "length"]
    assert "500" in (found[1].error or "") and server.url.split("//")[1] in (found[1].error or "")
    assert found[1].tokens == 0


@pytest.mark.parametrize("size", [1 << 20, 1 << 12])
def test_a_huge_answer_is_not_read_to_its_end(size: int) -> None:
    """Whether it is one line, or many."""
    sent = threading.Event()

    def flood() -> Iterator[Any]:
        for _ in range(1 << 14):
            yield {"choices": [], "more": "x" * size}
        sent.set()

    def script(asked: Asked) -> Any:
        if asked.path == "/v1/models":
            return 200, {"data": [{"id": "m", "owned_by": "openai"}]}
        return 200, flood()

    with scripted(script) as server:
        patience = Patience(tries=2, bytes=1 << 16)
        policy = RemotePolicy(f"{server.url}/v1", patience=patience, logprobs=False)
        with pytest.raises(UnansweredError, match="more than 65536 bytes"):
            policy.generate([ask()])
        policy.close()
    assert not sent.is_set()


def test_the_server_is_asked_less_when_it_is_crowded_and_more_again_later() -> None:
    async def life() -> list[float]:
        gate, limits = Gate(8), [8.0]
        for began in ("now", "early", "now", "now"):
            # Who began before the last halving tells nothing new.
            gate.crowded(asyncio.get_running_loop().time() if began == "now" else 0.0)
            limits.append(gate.limit)
            await asyncio.sleep(0.001)
        for _ in range(100):
            gate.good()
        return [*limits, gate.limit]

    assert asyncio.run(life()) == [8.0, 4.0, 4.0, 2.0, 1.0, 8.0]


class Visitors:
    """Some who pass a gate, stay inside until they are let out, and may give up before."""

    def __init__(self, most: int) -> None:
        self.gate = Gate(most)
        self.inside: list[asyncio.Event] = []
        self.tasks: list[asyncio.Task[None]] = []

    async def visit(self) -> None:
        async with self.gate.passing():
            leave = asyncio.Event()
            self.inside.append(leave)
            await leave.wait()

    async def act(self, act: str) -> None:
        match act:
            case "enter":
                self.tasks.append(asyncio.create_task(self.visit()))
            case "leave" if self.inside:
                self.inside.pop(0).set()
            case "cancel" if self.tasks:
                self.tasks.pop().cancel()
            case "crowded":
                self.gate.crowded(asyncio.get_running_loop().time())
            case "good":
                self.gate.good()
        await self.settle()

    async def settle(self) -> None:
        for _ in range(3):
            await asyncio.sleep(0)

    async def end(self) -> None:
        for _ in range(len(self.tasks) + 2):
            while self.inside:
                self.inside.pop().set()
            await self.settle()


ACTS = st.lists(st.sampled_from(["enter", "leave", "cancel", "crowded", "good"]), max_size=60)


@given(ACTS, st.integers(1, 4))
def test_a_gate_never_lets_more_pass_than_it_says_and_forgets_nobody(acts: list[str], most: int) -> None:
    async def life() -> None:
        visitors = Visitors(most)
        for act in acts:
            await visitors.act(act)
            assert 0 <= visitors.gate.running <= most
        await visitors.end()
        assert all(task.done() for task in visitors.tasks)
        assert visitors.gate.running == 0

    asyncio.run(life())


def test_retry_after_is_heeded_and_bounded() -> None:
    assert after(None) is None
    assert after("soon") is None
    assert after("nan") is None
    assert after("2.5") == 2.5
    assert after("-3") == 0.0
    assert after("99999999") == 60.0
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    assert 25 < (after(soon) or 0) <= 30


def test_a_server_that_went_away_is_said_to_have() -> None:
    with scripted(lambda asked: (200, {"data": [{"id": "m"}]})) as server:
        url = server.url
    policy = RemotePolicy(f"{url}/v1", patience=Patience(tries=2))
    with pytest.raises(ServerError, match="see whether it runs"):
        policy.generate([ask()])
    policy.close()
