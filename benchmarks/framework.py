"""What the framework itself costs: processor time a thought that is no model's, in small and in large trees.

    python benchmarks/framework.py [THOUGHTS ...]    # 100 and 10,000 by default

A scripted policy and a scripted value grow a tree of so many thoughts by each strategy. Their own time is
measured and taken off, and neither keeps what it was asked. The figure is the median of five runs of a small
tree, or of one run of a large one, in milliseconds of processor time a thought.
"""

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any, TypeVar

from rlm_agent import Budget, Completion, FakePolicy, FakeValue, Request, Steps, Verdict, create_reasoner
from rlm_agent.models.fake import Reply, Script
from rlm_agent.models.protocols import Candidate, Score
from rlm_agent.structure.ids import derive_seed

T = TypeVar("T")

STEPS = Steps(max_tokens=16, max_steps=24)
ENDLESS = Steps(max_tokens=16, max_steps=10**9)
ROUNDS = 5
STRATEGIES: dict[str, dict[str, Any]] = {
    "best_of_n": {"n": 100_000, "parallel": 1},
    "self_consistency": {"n": 100_000, "parallel": 16},
    "beam_search": {},
    "dvts": {},
    "particle_filtering": {},
    "tree_of_thoughts, bfs": {},
    "tree_of_thoughts, dfs": {"search": "dfs"},
    "rest_mcts": {},
    "best_first": {"parallel": 4},
    "mcts": {},
    "mcts, merge": {"merge": True},
    "mcts, x1": {"branching": 4, "widening": 0.0, "rollout": False},
    "lats": {"simulations": None},
    "rstar": {"actions": ["step"]},
    "journey": {},
    "armap, reflexion": {"n": 100_000, "planner": "reflexion"},
    "coat": {},
    "llama_berry": {"patience": 10**9},
    "llama_berry, all new": {},
    "chain": {},
    "react": {},
}
CHAINS = ("chain", "react")
"""What writes one chain at a time: here one of as many steps as there are to be thoughts."""
ALL_NEW = ("llama_berry, all new",)
"""Where the policy never says the same twice: all solutions are ranked, and each changes the ranks."""


def script(question: str, prefix: str) -> list[Reply]:
    """Twelve ways on from everywhere, no two of which lead to the same text, and now and then an end."""
    depth = prefix.count("\n")
    return [(f"step {number} of {depth}", -1.0, depth > 5 and number == 0) for number in range(12)]


def endless(question: str, prefix: str) -> list[Reply]:
    """One way on, and no end."""
    return [("a step", -1.0)]


def all_new() -> Script:
    """One solution, another one each time."""
    numbers = count()
    return lambda question, prefix: [(f"solution {next(numbers)}", -1.0, True)]


def script_of(name: str) -> Script:
    """What the policy says to a strategy."""
    if name in ALL_NEW:
        return all_new()
    return endless if name in CHAINS else script


class Clock:
    """How much processor time was spent in models."""

    spent = 0.0

    def timed(self, ask: Callable[[Sequence[Any]], list[T]], batch: Sequence[Any]) -> list[T]:
        """The replies of a model to a batch."""
        started = time.process_time()
        replies = ask(batch)
        self.spent += time.process_time() - started
        return replies


class TimedPolicy(FakePolicy):
    """A scripted policy whose time is taken."""

    def __init__(self, script: Script, clock: Clock) -> None:
        super().__init__(script)
        self.clock = clock

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        self.requests.clear()
        return self.clock.timed(super().generate, requests)


class TimedValue(FakeValue):
    """A scripted value whose time is taken."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(lambda steps: derive_seed(0, *steps) / 2**63)
        self.clock = clock

    def score(self, candidates: Sequence[Candidate]) -> list[Score]:
        self.candidates.clear()
        return self.clock.timed(super().score, candidates)


def cost(name: str, parameters: dict[str, Any], thoughts: int) -> float:
    """Milliseconds of processor time a thought beside the models', in a tree of so many thoughts."""
    clock, chain = Clock(), name in CHAINS
    reasoner = create_reasoner(
        name.split(",")[0],
        TimedPolicy(script_of(name), clock),
        value=TimedValue(clock),
        steps=ENDLESS if chain else STEPS,
        budget=Budget(nodes=thoughts),
        seed=1,
        verifier=lambda question, answer: Verdict(False),
        **parameters,
    )
    started = time.process_time()
    usage = reasoner.invoke({"messages": [("user", "where to?")]}, {"recursion_limit": 10**6})["usage"]
    return 1000 * (time.process_time() - started - clock.spent) / usage["nodes"]


def main(sizes: Sequence[int]) -> None:
    """Print one row a strategy."""
    print("strategy".ljust(24), *(f"{size:>12,}" for size in sizes))
    for name, parameters in STRATEGIES.items():
        medians = [
            statistics.median(cost(name, parameters, size) for _ in range(ROUNDS if size < 1000 else 1))
            for size in sizes
        ]
        print(name.ljust(24), *(f"{median:>12.2f}" for median in medians), flush=True)


if __name__ == "__main__":
    main([int(size) for size in sys.argv[1:]] or [100, 10_000])
