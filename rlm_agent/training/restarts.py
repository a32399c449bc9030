"""Where training by restarts begins: in the middle of chains that went right or wrong, at a reflection.

Source: Restart and Explore, Algorithm 1 of Satori (Shen et al., arXiv 2502.02508).
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from rlm_agent.structure.errors import InputError
from rlm_agent.structure.ids import derive_seed
from rlm_agent.structure.metaactions import REFLECT, split_tag
from rlm_agent.structure.thoughts import ThoughtGraph

Origin = Literal["question", "right", "wrong"]


@dataclass(frozen=True, slots=True)
class Chain:
    """A finished chain of action-thought, a line a step, and whether its answer is right."""

    question: str
    steps: tuple[str, ...]
    right: bool


@dataclass(frozen=True, slots=True)
class Restart:
    """An initial state: the question, the steps that are kept, and what they were taken from.

    In the assistant's turn, `opening` is where the policy goes on: the steps, a line each, and the tag that
    makes it reflect; nothing for a question by itself. Satori rewards a right answer after a wrong chain and
    punishes a wrong one after a right chain, which `origin` tells apart.
    """

    question: str
    steps: tuple[str, ...] = ()
    origin: Origin = "question"

    @property
    def opening(self) -> str:
        """The assistant's turn as far as it is given."""
        return "".join(f"{step}\n" for step in self.steps) + (REFLECT if self.steps else "")


def judged_chains(graph: ThoughtGraph) -> list[Chain]:
    """The finished chains of a search on which a verifier gave its verdict, in the order of `walk`."""
    ends = [(id, graph.stats[id]["value"]) for id in graph.finals()]
    return [
        Chain(graph.question, tuple(graph.steps(id)), value == 1.0)
        for id, value in ends
        if value in (0.0, 1.0)
    ]


def restarts(chains: Sequence[Chain], most: int, seed: int) -> list[Restart]:
    """The states to train from: each question, and restarts from one right and one wrong chain of it.

    Both are drawn at random among the question's chains, as are the steps to drop from their ends, `most`
    at most (T in the paper). Questions come in the order of their first chains. Deviations: a step is left to
    reflect on, and no reflection follows another. Raises `InputError` for a `most` below 0.
    """
    if most < 0:
        raise InputError(f"most={most} drops no steps; give at least 0")
    by_question: dict[str, list[Chain]] = defaultdict(list)
    for chain in chains:
        by_question[chain.question].append(chain)
    return [state for alike in by_question.values() for state in _of_question(alike, most, seed)]


def _of_question(chains: Sequence[Chain], most: int, seed: int) -> Iterator[Restart]:
    question = chains[0].question
    yield Restart(question)
    origins: tuple[Origin, ...] = ("right", "wrong")
    for origin in origins:
        kept = [_beginnings(chain, most) for chain in chains if chain.right == (origin == "right")]
        usable = [beginnings for beginnings in kept if beginnings]
        if usable:
            drawn = usable[derive_seed(seed, question, origin, "chain") % len(usable)]
            steps = drawn[derive_seed(seed, question, origin, "steps") % len(drawn)]
            yield Restart(question, steps, origin)


def _beginnings(chain: Chain, most: int) -> list[tuple[str, ...]]:
    """What is left of a chain without its last steps, `most` at most, where that may be reflected on."""
    shortest = max(1, len(chain.steps) - most)
    kept = [chain.steps[:length] for length in range(shortest, len(chain.steps) + 1)]
    return [steps for steps in kept if split_tag(steps[-1]).tag != REFLECT]
