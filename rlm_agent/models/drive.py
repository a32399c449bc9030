"""One body of code for plain and async callers.

An operator that needs a model or a tool is a generator: it yields what it asks (`Generate`, `Evaluate`,
`Compare` or `Act`) and is sent the replies. It never calls a model itself, so it is the same code under
`drive` and `adrive`.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from rlm_agent.models.protocols import Candidate, Completion, Policy, Preference, Request, Score, Value
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


def drive(asking: Asking[T]) -> T:
    """Run to the end, calling models in this thread."""
    reply: Any = None
    while True:
        try:
            question = asking.send(reply)
        except StopIteration as stop:
            result: T = stop.value
            return result
        match question:
            case Generate(policy, requests):
                reply = policy.generate(requests)
            case Evaluate(value, candidates):
                reply = value.score(candidates)
            case Compare(preference, pairs):
                reply = preference.prefer(pairs)
            case Act(calls, limits):
                reply = call_all(calls, limits)


async def adrive(asking: Asking[T]) -> T:
    """Run to the end, awaiting models."""
    reply: Any = None
    while True:
        try:
            question = asking.send(reply)
        except StopIteration as stop:
            result: T = stop.value
            return result
        match question:
            case Generate(policy, requests):
                reply = await policy.agenerate(requests)
            case Evaluate(value, candidates):
                reply = await value.ascore(candidates)
            case Compare(preference, pairs):
                reply = await preference.aprefer(pairs)
            case Act(calls, limits):
                reply = await acall_all(calls, limits)
