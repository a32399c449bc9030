"""One body of code for plain and async callers.

An operator that needs a model or a tool is a generator: it yields what it asks (`Generate`, `Evaluate`,
`Compare` or `Act`) and is sent the replies. It never calls a model itself, so it is the same code under
`drive` and `adrive`.
"""

from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from rlm_agent.models.protocols import (
    Candidate,
    Completion,
    Piece,
    Policy,
    Preference,
    Request,
    Score,
    Streaming,
    Value,
)
from rlm_agent.tools.calling import Calls, Limits, acall_all, call_all

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Generate:
    """Ask a policy for completions; a list of `Completion` is sent back."""

    policy: Policy
    requests: Sequence[Request]


@dataclass(frozen=True, slots=True)
class Evaluate:
    """Ask a value for scores; a list of `Score` is sent back."""

    value: Value
    candidates: Sequence[Candidate]


@dataclass(frozen=True, slots=True)
class Compare:
    """Ask a preference for scores of pairs; a list of `Score` is sent back."""

    preference: Preference
    pairs: Sequence[tuple[Candidate, Candidate]]


@dataclass(frozen=True, slots=True)
class Act:
    """Call tools, all at the same time; a list of texts is sent back, one a call."""

    calls: Calls
    limits: Limits


Question = Generate | Evaluate | Compare | Act
Asking = Generator[Question, Any, T]
"""A computation that asks models on its way to a `T`."""


def ask_policy(policy: Policy, requests: Sequence[Request]) -> Asking[list[Completion]]:
    """`yield from` this to get completions; no request, no question."""
    return (yield Generate(policy, requests)) if requests else []


def ask_value(value: Value, candidates: Sequence[Candidate]) -> Asking[list[Score]]:
    """`yield from` this to get scores; no candidate, no question."""
    return (yield Evaluate(value, candidates)) if candidates else []


def ask_preference(
    preference: Preference, pairs: Sequence[tuple[Candidate, Candidate]]
) -> Asking[list[Score]]:
    """`yield from` this to have pairs compared; no pair, no question."""
    return (yield Compare(preference, pairs)) if pairs else []


def ask_tools(calls: Calls, limits: Limits) -> Asking[list[str]]:
    """`yield from` this to have tools called; no call, no question."""
    return (yield Act(calls, limits)) if calls else []


class Listener(Protocol):
    """Somebody who wants to hear what policies write while they write it."""

    def listen(
        self, requests: Sequence[Request], told: Generator[Piece | list[Completion]]
    ) -> list[Completion]:
        """Hear the pieces of the completions; the completions come last, and are returned."""

    async def alisten(
        self, requests: Sequence[Request], told: AsyncGenerator[Piece | list[Completion]]
    ) -> list[Completion]:
        """The same without blocking the event loop."""


def drive(asking: Asking[T], listener: Listener | None = None) -> T:
    """Run to the end, calling models in this thread; `listener` hears what the policies write."""
    reply: Any = None
    while True:
        try:
            question = asking.send(reply)
        except StopIteration as stop:
            result: T = stop.value
            return result
        match question:
            case Generate(policy, requests):
                reply = (
                    policy.generate(requests)
                    if listener is None
                    else listener.listen(requests, _streamed(policy, requests))
                )
            case Evaluate(value, candidates):
                reply = value.score(candidates)
            case Compare(preference, pairs):
                reply = preference.prefer(pairs)
            case Act(calls, limits):
                reply = call_all(calls, limits)


async def adrive(asking: Asking[T], listener: Listener | None = None) -> T:
    """Run to the end, awaiting models; `listener` hears what the policies write."""
    reply: Any = None
    while True:
        try:
            question = asking.send(reply)
        except StopIteration as stop:
            result: T = stop.value
            return result
        match question:
            case Generate(policy, requests):
                reply = (
                    await policy.agenerate(requests)
                    if listener is None
                    else await listener.alisten(requests, _astreamed(policy, requests))
                )
            case Evaluate(value, candidates):
                reply = await value.ascore(candidates)
            case Compare(preference, pairs):
                reply = await preference.aprefer(pairs)
            case Act(calls, limits):
                reply = await acall_all(calls, limits)


def _streamed(policy: Policy, requests: Sequence[Request]) -> Generator[Piece | list[Completion]]:
    """What a policy writes, piece by piece; of one that does not stream, whole texts in the end."""
    if isinstance(policy, Streaming):
        yield from policy.stream(requests)
    else:
        yield from _told(policy.generate(requests))


async def _astreamed(policy: Policy, requests: Sequence[Request]) -> AsyncGenerator[Piece | list[Completion]]:
    """See `_streamed`."""
    if isinstance(policy, Streaming):
        async with aclosing(policy.astream(requests)) as told:
            async for one in told:
                yield one
    else:
        for one in _told(await policy.agenerate(requests)):
            yield one


def _told(completions: list[Completion]) -> Generator[Piece | list[Completion]]:
    yield from (Piece(index, one.text) for index, one in enumerate(completions) if one.text)
    yield completions
