"""What the graph tests share: scripted policies, values and verifiers, every strategy, looks at its tree."""

from collections.abc import Callable, Sequence
from typing import Any

from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver

from rlm_agent import (
    Budget,
    Completion,
    FakePolicy,
    FakeValue,
    Request,
    Steps,
    ThoughtGraph,
    Verdict,
    create_reasoner,
)
from rlm_agent.graphs.machine.rules import Reasoner
from rlm_agent.models.fake import Reply, Script
from rlm_agent.models.retrieval import Retrieval
from rlm_agent.operators.operations.base import Operation
from rlm_agent.operators.operations.choosing import KeepBest, KeepValid, Score, Selector
from rlm_agent.operators.operations.making import Aggregate, Generate, Improve, ValidateAndImprove
from rlm_agent.structure.budget import Usage
from rlm_agent.structure.formats import WHOLE
from rlm_agent.structure.ids import derive_seed
from tests.operators.libraries import Library

MCTS: dict[str, Any] = {
    "branching": 1,
    "widening": 0.5,
    "rollout": True,
    "simulations": None,
    "c1": 1.25,
    "c2": 19652.0,
    "prior": "policy",
    "parallel": 1,
    "formula": "puct",
    "c": 2**0.5,
    "patience": 1,
    "gamma": 1.0,
    "learning_rate": 0.5,
    "answer_by": "value",
    "distinct": False,
    "merge": False,
    "adaptive": False,
}
"""Every parameter of MCTS, with progressive widening and rollouts."""

X1: dict[str, Any] = {
    **MCTS,
    "branching": 2,
    "widening": 0.0,
    "rollout": False,
    "prior": "uniform",
    "learning_rate": 1.0,
}
"""Every parameter of MCTS, as in x1."""

OPERATIONS: tuple[Operation, ...] = (
    Generate("one", k=3, ask="one side of {question}"),
    Score("weigh_one"),
    KeepBest("best_one", n=2),
    Generate("other", k=4, ask="the other side of {question}", after=()),
    Score("weigh_other"),
    KeepBest("best_other", n=2),
    Aggregate("join", k=6, ask="join {inputs}", after=("best_one", "best_other")),
    Score("weigh_join"),
    KeepBest("best_join", n=3),
    Improve("improve", k=2, ask="better than {input}"),
    ValidateAndImprove(
        "validate",
        tries=2,
        valid=lambda question, text: text.startswith("answer"),
        ask="mend {input}",
        after=("best_join",),
    ),
    Score("weigh", after=("improve", "validate")),
    KeepValid("valid", valid=lambda question, text: text != "left"),
    Selector("pick", choose=lambda question, texts: range(len(texts))),
)
"""A graph of operations of every kind that the wandering policy can go through, with two joins."""

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "chain": ("chain", {}),
    "self_consistency": ("self_consistency", {"n": 7, "parallel": 3, "agreement": None}),
    "agreement": ("self_consistency", {"n": 30, "parallel": 2, "agreement": 0.95}),
    "best_of_n": ("best_of_n", {"n": 6, "parallel": None, "aggregation": "min", "weighted": True}),
    "beam_search": ("beam_search", {"width": 2, "expansions": 2, "adaptive": False}),
    "beam_adaptive": ("beam_search", {"width": 2, "expansions": 2, "adaptive": True}),
    "dvts": ("dvts", {"n": 4, "width": 2}),
    "particle_filtering": (
        "particle_filtering",
        {"particles": 4, "resample_finished": True, "resampling_temperature": 1.0},
    ),
    "tot_bfs": (
        "tree_of_thoughts",
        {"search": "bfs", "proposals": 3, "breadth": 2, "threshold": None, "rounds": None},
    ),
    "tot_dfs": (
        "tree_of_thoughts",
        {"search": "dfs", "proposals": 3, "breadth": 2, "threshold": None, "rounds": None},
    ),
    "best_first": ("best_first", {"parallel": 2, "trust": 2.0, "hope": 0.3}),
    "rest_mcts": (
        "rest_mcts",
        {"branching": 3, "c": 0.7, "rollout": 3, "alpha": 0.5, "threshold": 0.9, "simulations": None},
    ),
    "mcts": ("mcts", MCTS),
    "x1": ("mcts", X1),
    "graph_of_thoughts": ("graph_of_thoughts", {"operations": OPERATIONS}),
    "mcts_distinct": ("mcts", {**MCTS, "distinct": True}),
    "mcts_parallel": ("mcts", {**MCTS, "parallel": 3, "adaptive": True}),
    "uct": ("mcts", {**X1, "formula": "uct", "parallel": 2, "merge": True}),
}

JOURNEY: dict[str, Any] = {"width": 2, "expansions": 2, "wrong": 1, "smoothed": False}
"""Every parameter of a journey."""

LONG_CHAIN: dict[str, Any] = {
    "think_open": "<think>",
    "think_close": "</think>",
    "wait": None,
    "hurry": "Final Answer:",
    "thinking": 12,
    "waits": 2,
}
"""Every parameter of a long chain."""

CASES |= {
    "journey": ("journey", JOURNEY),
    "journey_smoothed": ("journey", {**JOURNEY, "smoothed": True}),
    "long_chain": ("long_chain", LONG_CHAIN),
}


def solved(question: str, steps: Sequence[str]) -> str | None:
    """The answer of a whole solution by the wandering policy: none where it has only gone left or right."""
    return None if steps[-1].split()[:1] in ([], ["left"], ["right"]) else steps[-1]


LLAMA_BERRY: dict[str, Any] = {
    "steps": Steps(format=WHOLE, max_tokens=6, answer=solved),
    "starts": 2,
    "max_children": 2,
    "c": 1.4,
    "alpha": 0.9,
    "gamma": 0.1,
    "comparisons": 3,
    "patience": 2,
    "simulations": None,
}
"""Every parameter of LLaMA-Berry, and steps that make whole solutions of what is said."""

ARMAP: dict[str, Any] = {"planner": "best_of_n", "n": 6, "threshold": None}
"""Every parameter of ARMAP."""

CASES |= {
    "llama_berry": ("llama_berry", LLAMA_BERRY),
    "armap_best_of_n": ("armap", ARMAP),
    "armap_mcts": ("armap", {**ARMAP, "planner": "mcts", "n": 99}),
    "reflexion": ("armap", {**ARMAP, "planner": "reflexion", "threshold": 0.9, "temperature": 1.0}),
}

RSTAR: dict[str, Any] = {
    "actions": None,
    "branching": 2,
    "depth": 3,
    "c": 2.0,
    "simulations": None,
    "discriminator": None,
    "completions": 1,
}
"""Every parameter of rStar."""

COAT: dict[str, Any] = {"restarts": None, "backtrack": 0, "thinking": None}
"""Every parameter of a chain of action-thought."""

CASES |= {
    "rstar": ("rstar", RSTAR),
    "rstar_few": ("rstar", {**RSTAR, "actions": ("step", "finish"), "completions": 0}),
    "coat": ("coat", COAT),
    "coat_back": ("coat", {"restarts": 9, "backtrack": 2, "thinking": 9}),
}

LATS: dict[str, Any] = {
    "branching": 3,
    "c": 2**0.5,
    "share": 0.5,
    "depth": 3,
    "reflections": 3,
    "simulations": None,
}
"""Every parameter of LATS."""

CASES |= {"react": ("react", {}), "lats": ("lats", LATS)}

LIBRARY = Library(default=["a way left", "a longer way", "no way"])
"""A retriever that has three passages for whatever it is asked."""

EACH: dict[str, Any] = {
    "retriever": Retrieval(LIBRARY, when="each", alternatives=3),
    "steps": Steps(max_tokens=6, max_steps=8),
}
"""Observations take a step each."""

RETRIEVING: dict[str, tuple[str, dict[str, Any]]] = {
    "react_each": ("react", EACH),
    "beam_each": ("beam_search", {**CASES["beam_search"][1], **EACH}),
    "best_first_each": ("best_first", {**CASES["best_first"][1], **EACH}),
    "mcts_each": ("mcts", {**MCTS, **EACH}),
    "x1_each": ("mcts", {**X1, **EACH}),
    "mcts_once": ("mcts", {**MCTS, "retriever": Retrieval(LIBRARY, when="once", passages=2)}),
}
"""The cases with a retriever that is asked at every step, or once before the search."""

CASES |= RETRIEVING

SINGLE = ("chain", "react", "react_each", "long_chain", "coat", "coat_back")
"""The cases that write one chain, which an answer or a failure ends before the budget does."""

NEED_VALUES = (
    "particle_filtering",
    "best_first",
    "best_first_each",
    "armap_best_of_n",
    "armap_mcts",
    "reflexion",
)
"""The cases that have no way without a value model."""

ASIDES = ("llama_berry", "reflexion")
"""The cases whose policy is asked for more than thoughts: for critiques, reflections and judgements."""

PLANTED = {"graph_of_thoughts": len(OPERATIONS)}
"""How many thoughts the cases begin with beside the root that are no loop from select to select."""

LOOPS = [case for case in CASES if case not in PLANTED]
"""The cases that are, and in which thoughts are judged as soon as they are written."""

STEPS = Steps(max_tokens=6, max_steps=4)
PLENTY = Budget(calls=10_000)


def wander(question: str, prefix: str) -> list[Reply]:
    """Two ways on, an end whose answer depends on the way, and two replies that fail."""
    return [
        ("left", -0.5),
        ("right then on", -1.0),
        (f"answer {prefix.count('left')}", -1.2, True),
        ("", -3.0),
        ("word after word after word after word", -3.0),
    ]


def ternary(question: str, prefix: str) -> list[Reply]:
    """Two ways on, one of which ends at the fourth step, and a reply that fails."""
    return [("left", -0.5), ("right", -0.6, prefix.count("\n") == 3), ("", -2.0)]


def binary(depth: int) -> Script:
    """A full binary tree of steps "0" and "1" whose chains end at `depth`, each with its own answer."""

    def script(question: str, prefix: str) -> list[Reply]:
        path = prefix.replace("\n", "")
        last = len(path) + 1 == depth
        return [(digit, -1.0, last) for digit in "01"]

    return script


class Mortal(FakePolicy):
    """A policy that is gone after some batches."""

    def __init__(self, batches: int) -> None:
        super().__init__(wander)
        self._left = batches

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        self._left -= 1
        if self._left < 0:
            raise ConnectionError("the model is gone")
        return super().generate(requests)


def whole_path(question: str, steps: Sequence[str]) -> str:
    """The answer of a chain is all of its steps."""
    return "".join(steps)


def guess(steps: Sequence[str]) -> float:
    """A value in (0, 1) that a chain's text decides."""
    return 0.05 + 0.9 * derive_seed(0, *steps) / 2**63


def accepts(answer: str) -> Any:
    """A verifier that accepts one answer."""
    return lambda question, candidate: Verdict(candidate == answer)


def reason(case: str, policy: FakePolicy | None = None, **keywords: Any) -> Reasoner:
    """The reasoner of a case over the wandering policy, valued by `guess`, or as the keywords say."""
    strategy, parameters = CASES[case]
    common = {
        "value": FakeValue(guess),
        "steps": STEPS,
        "seed": 7,
        "budget": Budget(calls=60),
        "retry": False,
    }
    return create_reasoner(strategy, policy or FakePolicy(wander), **{**common, **parameters, **keywords})


def ask(text: str = "where to?") -> dict[str, Any]:
    """The input that asks one question."""
    return {"messages": [HumanMessage(text)]}


def thread(name: str = "1", limit: int = 10_007) -> RunnableConfig:
    """The configuration of one thread; the limit is LangGraph's on supersteps, by default its own."""
    return {"configurable": {"thread_id": name}, "recursion_limit": limit}


def grown(values: dict[str, Any]) -> ThoughtGraph:
    """The tree of the last question in a state's values."""
    return ThoughtGraph(values["run"]["root"], values["thoughts"], values["stats"])


def searched(
    create: Callable[..., Reasoner], policy: FakePolicy, **keywords: Any
) -> tuple[ThoughtGraph, dict[str, Any]]:
    """The tree after one question to what `create` makes, and the values of the final state."""
    common: dict[str, Any] = {"steps": Steps(answer=whole_path), "budget": PLENTY, "seed": 5}
    reasoner = create(policy, **{**common, **keywords}, checkpointer=InMemorySaver())
    reasoner.invoke(ask(), thread())
    values = reasoner.get_state(thread()).values
    return grown(values), values


def counted(usage: Usage) -> dict[str, Any]:
    """A usage without its seconds, which no two runs share."""
    return {**usage, "seconds": 0}


def found(values: dict[str, Any]) -> tuple[Any, ...]:
    """What two runs of one search have in common: thoughts, statistics, answer and usage."""
    return values["thoughts"], values["stats"], values["answer"], counted(values["usage"])


FOUND = ["thoughts", "stats", "answer", "usage"]
"""The channels that `found` reads."""
