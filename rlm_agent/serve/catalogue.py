"""Which reasoners there are: strategies on models, by the names that clients use."""

import math
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints
from urllib.parse import parse_qsl, urlsplit

from rlm_agent import __version__
from rlm_agent.evaluation.strategies import Strategy, check_kinds, means_of
from rlm_agent.graphs.machine.common import Model
from rlm_agent.graphs.machine.rules import Reasoner
from rlm_agent.graphs.reasoner import STRATEGIES, create_reasoner, get_strategy
from rlm_agent.models.protocols import Policy
from rlm_agent.models.resolve import load_policy
from rlm_agent.serve.faults import Fault
from rlm_agent.structure.errors import InputError, ModelError
from rlm_agent.structure.ids import fingerprint
from rlm_agent.tasks.registry import get_task

_KEPT = 64
"""Reasoners made for parameters that clients gave; the least used goes first."""

_LARGEST = 10_000
_LONGEST = 64
_NAMED = re.compile(r"([\w.-]+)=(.+)")
_VALUE = re.compile(r"head|label|arithmetic|support|rollout:[0-9]{1,2}")
"""The values that a client may name; a path is none of them."""


@dataclass(frozen=True, slots=True)
class Offer:
    """A strategy on a model; `name` is `strategy:model`, `identity` says what else decides a search."""

    name: str
    strategy: Strategy
    model: str
    identity: str

    def fingerprint(self, parameters: Mapping[str, Any]) -> str:
        """The same for two searches that differ in their question and their seed alone."""
        own = {**self.strategy.parameters, **parameters}
        return f"fp_{fingerprint(__version__, self.name, sorted(own.items()), self.identity)}"


class Catalogue:
    """The reasoners of a server.

    models: a model by the name that clients use for it.
    strategies: those on offer with their parameters, the first is that of a model's bare name; where it is
        empty, those of `STRATEGIES` that work with a model, `mcts` first.
    value: what values thoughts unless a client says otherwise.
    tools: whether specialists are given the tools and the retriever of their task.
    Raises what `create_reasoner` raises, where a strategy that was named does not work with a model.
    """

    def __init__(
        self,
        models: Mapping[str, Model],
        strategies: Sequence[Strategy] = (),
        *,
        value: str | None = None,
        tools: bool = True,
    ) -> None:
        if not models:
            raise InputError("there is no model to serve; name one")
        self._policies = {name: load_policy(model) for name, model in models.items()}
        self._common = {name: _common(policy, value, tools) for name, policy in self._policies.items()}
        self._made: OrderedDict[str, Reasoner] = OrderedDict()
        self._offers: dict[str, Offer] = {}
        every = [Strategy(name, name, {}) for name in sorted(STRATEGIES, key=lambda name: name != "mcts")]
        for model, policy in self._policies.items():
            for strategy in strategies or every:
                try:
                    self.reasoner(strategy, model, {})
                except InputError:
                    if strategies:
                        raise
                    continue
                name = f"{strategy.name}:{model}"
                identity = f"{policy.identity}, value {value}, tools {tools}"
                self._offers.setdefault(name, Offer(name, strategy, model, identity))
            if not any(offer.model == model for offer in self._offers.values()):
                raise InputError(f"no strategy works with {model!r} as it is; name one, with its parameters")

    @property
    def names(self) -> list[str]:
        """The names of all that is on offer, `strategy:model`."""
        return list(self._offers)

    def find(self, name: str, strategy: str | None = None) -> Offer:
        """What `strategy:model` or a model's bare name stands for.

        `strategy` goes before that of the name. Raises `Fault` where there is no such reasoner.
        """
        model = name if name in self._policies else name.partition(":")[2]
        if strategy is not None:
            name = f"{strategy}:{model}"
        elif name in self._policies:
            name = next(offer.name for offer in self._offers.values() if offer.model == model)
        if name not in self._offers:
            raise Fault(
                404,
                f"there is no model {name[:200]!r}; GET /v1/models lists those there are",
                param="model",
                code="model_not_found",
            )
        return self._offers[name]

    def reasoner(self, strategy: Strategy, model: str, parameters: Mapping[str, Any]) -> Reasoner:
        """The reasoner of a strategy on a model, with these parameters over the strategy's own.

        Raises `InputError` for parameters that it does not take, or that no client may set.
        """
        key = repr((strategy.name, model, sorted(parameters.items())))
        if key in self._made:
            self._made.move_to_end(key)
            return self._made[key]
        made = self._made[key] = self._make(strategy, model, parameters)
        if len(self._made) > _KEPT + len(self._offers):
            self._made.popitem(last=False)
        return made

    def _make(self, strategy: Strategy, model: str, parameters: Mapping[str, Any]) -> Reasoner:
        check_kinds(Strategy(strategy.text, strategy.name, {**strategy.parameters, **parameters}))
        _check_safe(strategy.name, parameters)
        options = {**self._common[model], **strategy.parameters, **parameters}
        try:
            return create_reasoner(
                strategy.name, self._policies[model], name=f"{strategy.name}:{model}", **options
            )
        except ModelError as error:
            if not parameters:
                raise
            raise InputError(f"{model!r} cannot be used with these parameters") from error


def names_of(models: Sequence[str]) -> dict[str, str]:
    """Models, each written as itself or as `name=model`, by the names for clients.

    Unless one is given, that of a file is its own without the folder, and that of a server's URL the model
    behind its `#`, or the host. Raises `InputError` where two have one name.
    """
    named: dict[str, str] = {}
    for text in models:
        given = _NAMED.fullmatch(text)
        name, model = given.groups() if given else (_plain_name(text), text)
        if name in named:
            raise InputError(f"two models are called {name!r}; name one of them, as in other={model}")
        named[name] = model
    return named


def _plain_name(model: str) -> str:
    """A name that shows no path and no query."""
    if "://" not in model:
        return Path(model).stem if model.endswith(".gguf") else model
    url = urlsplit(model)
    return dict(parse_qsl(url.fragment)).get("model") or url.hostname or "remote"


def _common(policy: Policy, value: str | None, tools: bool) -> dict[str, Any]:
    task = get_task(policy.task) if policy.task else None
    means = means_of(task, tools=tools, retriever=tools) if task else {}
    return {"value": value, **means}


def _check_safe(strategy: str, parameters: Mapping[str, Any]) -> None:
    """What a client gives must be no path, nor so large that making it ready costs much."""
    hints = get_type_hints(get_strategy(strategy))
    for name, given in parameters.items():
        if name == "value":
            safe = given is None or _VALUE.fullmatch(str(given)) is not None
        elif isinstance(given, str):
            safe = len(given) <= _LONGEST and Path not in get_args(hints.get(name))
        else:
            safe = given is None or (math.isfinite(given) and abs(given) <= _LARGEST)
        if not safe:
            names = "; it may be head, label, arithmetic, support or rollout:N" if name == "value" else ""
            raise InputError(f"no client may set {name!r} to that; leave it out, or take less{names}")
