"""Retrieval as a branching operator against retrieving once, where a third of the first passages mislead.

    python benchmarks/misled.py [--n 200] [--budget-tokens 200 ...] [--split test] [--model mini-tools]

Catalogue problems, whose numbers stand in documents. For every third query, by a hash of its text, the
retriever's first two passages change places, so that the first one is about something else. All have the
calculator, the same value (`support`: how far passages cover what was asked, and what numbers follow from)
and the same budget of generated tokens. `mcts` branches over up to four passages of a query; the others see
the first passage of a query alone, in however many chains the budget allows. Nobody sees a gold answer.
"""

import argparse
import asyncio
import hashlib
from collections.abc import Sequence
from typing import Any

from rlm_agent import Budget, Retrieval, create_reasoner
from rlm_agent.evaluation.metrics import wilson
from rlm_agent.evaluation.runs import Result, solve
from rlm_agent.models.resolve import load_policy
from rlm_agent.retrieval.protocols import Passage, Retriever
from rlm_agent.tasks.registry import get_task
from rlm_agent.tasks.task import Problem

TASK = "catalogue"
BRANCHES = 4
CONTENDERS: dict[str, tuple[str, int, dict[str, Any]]] = {
    "one chain": ("react", 1, {}),
    "self_consistency": ("self_consistency", 1, {"n": 1000, "parallel": 1, "temperature": 0.5}),
    "best_of_n": ("best_of_n", 1, {"n": 1000, "parallel": 1, "temperature": 0.5}),
    "mcts, first passage": ("mcts", 1, {"temperature": 0.5}),
    "mcts over passages": ("mcts", BRANCHES, {"temperature": 0.0}),
}
"""Temperatures were chosen on the validation split among 0, .3, .5 and 1; one chain is greedy."""


class Misleading:
    """A retriever that misleads by the first passage of every third query."""

    def __init__(self, inner: Retriever) -> None:
        self.inner = inner

    @property
    def identity(self) -> str:
        """See `Retriever`."""
        return f"misleading:{self.inner.identity}"

    def search(self, queries: Sequence[str], k: int) -> list[list[Passage]]:
        """See `Retriever`."""
        found = self.inner.search(queries, max(k, 2))
        return [_swapped(query, one)[:k] for query, one in zip(queries, found, strict=True)]

    async def asearch(self, queries: Sequence[str], k: int) -> list[list[Passage]]:
        """See `Retriever`; in a thread."""
        return await asyncio.to_thread(self.search, queries, k)


def _swapped(query: str, found: list[Passage]) -> list[Passage]:
    misleads = int(hashlib.sha256(query.encode()).hexdigest(), 16) % 3 == 0
    return [found[1], found[0], *found[2:]] if misleads and len(found) > 1 else found


def solved(name: str, model: str, problems: Sequence[Problem], tokens: int) -> list[Result]:
    """How a contender ends on each of the problems."""
    strategy, alternatives, parameters = CONTENDERS[name]
    task = get_task(TASK)
    assert task.retriever is not None
    reasoner = create_reasoner(
        strategy,
        load_policy(model),
        steps=TASK,
        value="support",
        tools=list(task.tools),
        retriever=Retrieval(Misleading(task.retriever()), when="asked", alternatives=alternatives),
        budget=Budget(tokens=tokens),
        seed=0,
        **parameters,
    )
    return [solve(reasoner, task, problem) for problem in problems]


def main() -> None:
    """Print a row a contender and budget."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--n", type=int, default=200)
    parser.add_argument("--budget-tokens", type=int, action="append")
    parser.add_argument("--split", default="test", choices=("train", "validation", "test"))
    parser.add_argument("--model", default="mini-tools")
    given = parser.parse_args()
    problems = get_task(TASK).sample(given.split, given.n, 0)
    for tokens in given.budget_tokens or [200, 400, 800]:
        ended = {name: solved(name, given.model, problems, tokens) for name in CONTENDERS}
        for name, results in ended.items():
            right = [bool(one.verified) for one in results]
            low, high = wilson(sum(right), len(right))
            spent = sum(one.completion_tokens for one in results) / len(results)
            print(
                f"{tokens:>6} {name:<20} {100 * sum(right) / len(right):5.1f}% "
                f"[{100 * low:.1f}, {100 * high:.1f}] {spent:6.0f} tokens",
                flush=True,
            )


if __name__ == "__main__":
    main()
