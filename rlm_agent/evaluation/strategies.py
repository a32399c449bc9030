"""Strategies written as text, `name:key=value,key=value`, and what makes a reasoner of one."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from rlm_agent.graphs.machine.common import Common, Model
from rlm_agent.graphs.machine.rules import Reasoner
from rlm_agent.graphs.reasoner import STRATEGIES, create_reasoner, get_strategy, parameters_of
from rlm_agent.structure.budget import Budget
from rlm_agent.structure.errors import InputError
from rlm_agent.tasks.task import Task

ALL = "all"
"""Stands for every strategy there is."""

UNBOUNDED = {
    "self_consistency": "n=1000,parallel=1",
    "best_of_n": "n=1000,parallel=1",
    "tree_of_thoughts": "search=dfs,proposals=10,breadth=10",
    "lats": "simulations=none",
    "armap": "planner=mcts,n=1000",
}
"""The parameters under which a strategy can use any budget, where its defaults may end it before.

Chains are sampled one at a time, which is the cheapest way to a verified answer. A tree of thoughts that was
searched once is not begun anew, so that it has to be wide; depth first, and not wider, since it came to the
most answers on 60 validation puzzles of Countdown at 500, 1,000 and 2,000 tokens.
"""

_COMMON = ("value", "temperature", "top_k", "top_p", "min_p", "stop_when_verified")
"""The keywords of all strategies that make sense as text."""

_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a name", NoneType: "none"}


@dataclass(frozen=True, slots=True)
class Strategy:
    """A strategy with its parameters, written `name` or `name:key=value,key=value`."""

    text: str
    name: str
    parameters: dict[str, Any]


def parse_strategy(text: str) -> Strategy:
    """Read `best_of_n:n=64,parallel=1`; `InputError` where a parameter is not `key=value`."""
    name, _, rest = text.partition(":")
    parameters = {}
    for part in filter(None, rest.split(",")):
        key, equals, value = part.partition("=")
        if not equals:
            raise InputError(f"{part!r} in {text!r} is no parameter; write name:key=value,key=value")
        parameters[key.strip()] = _value(value.strip())
    return Strategy(text, name, parameters)


def expand(texts: Sequence[str]) -> list[str]:
    """The texts, each once, with `all` replaced by every strategy so that it can use any budget."""
    named = (every_strategy() if text == ALL else [text] for text in texts)
    return list(dict.fromkeys(text for group in named for text in group))


def every_strategy() -> list[str]:
    """The text of every strategy, with the parameters under which it can use any budget."""
    return [f"{name}:{UNBOUNDED[name]}" if name in UNBOUNDED else name for name in STRATEGIES]


def make_reasoner(
    strategy: Strategy,
    task: Task,
    model: Model,
    budget: Budget,
    seed: int | None,
    value: str | None = None,
    **options: Any,
) -> Reasoner:
    """The reasoner of a strategy on a task, with the task's steps and verifier.

    A value among the strategy's parameters goes before `value`. Raises `InputError` for a parameter that
    cannot be given as text or whose value is of another kind, and what `create_reasoner` raises.
    """
    check_kinds(strategy)
    return create_reasoner(
        strategy.name,
        model,
        steps=task.steps,
        verifier=task.verifier,
        budget=budget,
        seed=seed,
        **{"value": value, **options, **strategy.parameters},
    )


def means_of(task: Task, *, tools: bool = True, retriever: bool = True) -> dict[str, Any]:
    """A task's tools and retriever as options of `make_reasoner`, where they are wanted."""
    means: dict[str, Any] = {}
    if tools and task.tools:
        means["tools"] = list(task.tools)
    if retriever and task.retriever is not None:
        means["retriever"] = task.retriever()
    return means


def check_kinds(strategy: Strategy) -> None:
    """`InputError` for a parameter that cannot be given as text, or whose value is of another kind."""
    create = get_strategy(strategy.name)
    hints = {**get_type_hints(create), **get_type_hints(Common)}
    kinds = {name: hints[name] for name in (*parameters_of(create), *_COMMON)}
    for name, value in strategy.parameters.items():
        if name not in kinds and name in (*hints, "strategy"):
            raise InputError(f"{name!r} in {strategy.text!r} cannot be given as text; use Python for it")
        if name in kinds and not _fits(value, kinds[name]):
            raise InputError(f"{name}={value} in {strategy.text!r} does not fit; give {_words(kinds[name])}")


def _fits(value: Any, kind: Any) -> bool:
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if alternatives := get_args(kind):
        return any(_fits(value, alternative) for alternative in alternatives)
    if isinstance(value, bool):
        return kind is bool
    if kind is float:
        return isinstance(value, int | float) and not math.isnan(value)
    return isinstance(value, kind)


def _words(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return " or ".join(get_args(kind))
    if alternatives := get_args(kind):
        return " or ".join(filter(None, map(_words, alternatives)))
    return _WORDS.get(kind, "")


def _value(text: str) -> Any:
    for convert in (int, float):
        try:
            return convert(text)
        except ValueError:
            continue
    return {"true": True, "false": False, "none": None}.get(text.lower(), text)
