"""Searches for a request: let in, run one after another, counted, and stopped when nobody waits for them."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from langchain_core.messages import BaseMessage

from rlm_agent.graphs.machine.rules import Reasoner
from rlm_agent.graphs.machine.state import Run, Terms
from rlm_agent.serve.admission import Deposit, Gate
from rlm_agent.serve.faults import Fault
from rlm_agent.serve.metrics import Metrics
from rlm_agent.structure.budget import Usage, no_usage
from rlm_agent.structure.errors import InputError

_WATCHED = ("messages", "answer", "usage", "run", "spent")
"""What is looked at of the state after each superstep, where the graph has it."""

_SLACK = 10.0
"""Seconds for the last model call of a search, which begins before the time is up."""


@dataclass(frozen=True, slots=True)
class Thought:
    """A thought of the search for a choice, as it came."""

    choice: int
    text: str


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found: the reply and the reasoning beside it; `answer` is None where there is none."""

    choice: int
    seed: int
    text: str
    reasoning: str
    answer: str | None
    verified: bool | None
    stopped: str
    usage: Usage


Told = Thought | Found
Tell = Callable[[Told], None]


@dataclass(frozen=True, slots=True)
class Order:
    """What a request asks for: a search for each of the `seeds`. `name` is that of the reasoner."""

    name: str
    fingerprint: str
    reasoner: Reasoner
    messages: Sequence[BaseMessage]
    budget: dict[str, float | None]
    seeds: Sequence[int]
    thoughts: bool
    deposit: Deposit


@dataclass(slots=True)
class _Run:
    """How far a search has come: what is known of its state."""

    started: float = field(default_factory=time.monotonic)
    state: dict[str, Any] = field(default_factory=dict)

    @property
    def tokens(self) -> int:
        """Generated so far; a graph of operations sums them up in the end only."""
        whole: Usage = self.state.get("usage") or no_usage()
        parts: dict[str, Usage] = self.state.get("spent", {})
        return max(whole["completion_tokens"], sum(part["completion_tokens"] for part in parts.values()))

    @property
    def stopped(self) -> str | None:
        """Why it ended, None where it has not."""
        run: Run | None = self.state.get("run")
        return run and run["stopped"]


class Desk:
    """Takes orders."""

    def __init__(self, gate: Gate, metrics: Metrics) -> None:
        self._gate = gate
        self._metrics = metrics

    async def serve(self, order: Order, tell: Tell) -> None:
        """Run an order's searches and tell what they find, a `Found` each in the end.

        Raises `Fault` (429) where the server is too busy, `TimeoutError` where a search outlives its time,
        and what the search raises. Cancelled, it stops the search.
        """
        used = 0
        try:
            async with self._gate.pass_through():
                for choice, seed in enumerate(order.seeds):
                    run = _Run()
                    try:
                        tell(await self._search(order, choice, seed, run, tell))
                    finally:
                        used += run.tokens
        finally:
            order.deposit.settle(used)

    async def _search(self, order: Order, choice: int, seed: int, run: _Run, tell: Tell) -> Found:
        ended = "error"
        try:
            async with asyncio.timeout((order.budget["seconds"] or 0) + _SLACK):
                await self._follow(order, choice, seed, run, tell)
            found = _found(choice, seed, run)
            ended = "no answer" if found.answer is None else "answer"
            self._metrics.spent(order.name, found.usage)
            return found
        except InputError:
            ended = "refused"
            raise
        except asyncio.CancelledError:
            ended = "cancelled"
            raise
        finally:
            if run.stopped is None:
                self._metrics.broken_off(order.name, run.tokens)
            self._metrics.searched(order.name, ended, time.monotonic() - run.started)

    async def _follow(self, order: Order, choice: int, seed: int, run: _Run, tell: Tell) -> None:
        messages = [message.model_copy() for message in order.messages]  # LangGraph writes ids into them
        asked = {"messages": messages, "terms": Terms(seed=seed, budget=order.budget)}
        # Events cost a quarter of a small model's search: they are asked for where somebody sees them.
        modes: list[Any] = ["values", "custom"] if order.thoughts else ["values"]
        keys = [key for key in _WATCHED if key in order.reasoner.channels]
        heard: AsyncIterator[Any] = order.reasoner.astream(asked, stream_mode=modes, output_keys=keys)
        async for mode, told in heard:
            if mode == "values":
                run.state = told
            elif told["event"] == "thought" and told["text"]:
                tell(Thought(choice, told["text"]))


def _found(choice: int, seed: int, run: _Run) -> Found:
    """Raises `Fault` where the model was asked and nothing came of it at all."""
    state = run.state
    if run.stopped is None:
        raise Fault(409, "the search waits for somebody's approval, which nobody can give here", code="waits")
    usage: Usage = state["usage"]
    if state["answer"] is None and usage["model_calls"] and not usage["completion_tokens"]:
        raise Fault(502, "the model gave no reply; try again later", code="model_unavailable")
    reply = state["messages"][-1]
    return Found(
        choice=choice,
        seed=seed,
        text=str(reply.text),
        reasoning=str(reply.additional_kwargs.get("reasoning_content", "")),
        answer=state["answer"],
        verified=state["run"]["verified"],
        stopped=run.stopped,
        usage=usage,
    )
