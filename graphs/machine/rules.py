"""What makes a strategy: its rules over the common skeleton, and the parts that every one is made with."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from langgraph.graph.state import CompiledStateGraph

from rlm_agent.graphs.machine.memory import Memory
from rlm_agent.graphs.machine.state import Run
from rlm_agent.models.drive import Asking
from rlm_agent.models.prompts import Prompts
from rlm_agent.models.protocols import Decoding, Policy, Preference, Value
from rlm_agent.models.retrieval import Retrieval
from rlm_agent.operators.edit import human
from rlm_agent.operators.evaluate import evaluate
from rlm_agent.operators.generate import generate
from rlm_agent.operators.setting import Outcome, Setting, nothing
from rlm_agent.operators.writing import Plan
from rlm_agent.structure.budget import Allowance, Budget
from rlm_agent.structure.events import SpanEvent
from rlm_agent.structure.steps import Steps, Verifier
from rlm_agent.structure.thoughts import ThoughtGraph, Writes

Reasoner = CompiledStateGraph[Any, Any, Any, Any]
"""A compiled graph over messages."""


@dataclass(frozen=True, slots=True)
class Search:
    """What a rule sees: the graph of thoughts, where the run stands, the setting and what is left."""

    graph: ThoughtGraph
    run: Run
    setting: Setting
    allowance: Allowance

    def by_parent(self) -> Sequence["Search"]:
        """What rules see that take in what is fresh: where humans wrote it, each parent's own in turn.

        It is then as if that parent had been expanded: many rules look at the first of the plan for it.
        """
        fresh, thoughts = self.run["fresh"], self.graph.thoughts
        if not fresh or not human(thoughts[fresh[0]]):
            return [self]
        families: dict[str, list[str]] = {}
        for id in fresh:
            families.setdefault(thoughts[id]["parent"] or self.graph.root, []).append(id)
        return [
            replace(self, run=Run({**self.run, "plan": [[parent, len(ids)]], "fresh": ids}))
            for parent, ids in families.items()
        ]


@dataclass(frozen=True, slots=True)
class Told:
    """The reasoning of the reply, line by line, what it took to put it so, and what is read off it."""

    lines: Sequence[str] = ()
    outcome: Outcome = field(default_factory=nothing)
    spans: Sequence[SpanEvent] = ()


def tell_steps(search: Search, best: str) -> Asking[Told]:
    """The reasoning is the steps that lead to the answer."""
    yield from ()
    return Told(search.setting.steps.granularity.for_answer(search.graph.steps(best)))


@dataclass(frozen=True, slots=True)
class Rules:
    """What makes a strategy.

    `select` plans which thoughts get how many children (an empty plan ends the search), `expand` makes them,
    in a node that is named for the operator `expand_as`, and `evaluate` judges those that are fresh. `prune`
    and `backpropagate` write statistics after that and are no nodes of the graph where they are None; with
    `at_once` they do so within the node `evaluate`, and the next round is planned there, too, since a
    superstep takes longer than any of them. `answer` picks among the thoughts that ended a chain, and
    `rounds` bounds the passes through the loop. With `distinct`, siblings differ as far as the policy can see
    to it; with `traced`, thoughts note how sure it was of them. `narrate` says, in the end, what reasoning
    stands beside the answer of the best thought.
    """

    select: Callable[[Search], Plan]
    answer: Callable[[ThoughtGraph, Sequence[str]], str | None]
    expand: Callable[[ThoughtGraph, Plan, Setting, Allowance], Asking[Outcome]] = generate
    evaluate: Callable[[ThoughtGraph, Sequence[str], Setting, Allowance], Asking[Outcome]] = evaluate
    prune: Callable[[Search], Writes] | None = None
    backpropagate: Callable[[Search], Writes] | None = None
    at_once: bool = False
    rounds: int | None = None
    distinct: bool = False
    traced: bool = False
    expand_as: str = "generate"
    narrate: Callable[[Search, str], Asking[Told]] = tell_steps


@dataclass(frozen=True, slots=True)
class Parts:
    """The models, the rules of the task and the limits that every strategy is made with.

    `retrieval` is what is asked once, before the search, `memory` what is kept after it, for others.
    """

    policy: Policy
    steps: Steps
    budget: Budget
    value: Value | None = None
    verifier: Verifier | None = None
    preference: Preference | None = None
    retrieval: Retrieval | None = None
    memory: Memory | None = None
    prompts: Prompts = field(default_factory=Prompts)
    decoding: Decoding = field(default_factory=Decoding)
    system_prompt: str | None = None
    seed: int | None = None
    stop_when_verified: bool = True
