"""Adaptive compute: how wide to search by how sure the policy was, and when enough chains agree.

Sources: token uncertainty in the blueprint (Besta et al., arXiv 2501.11223): low entropy with high varentropy
asks for search, high entropy with low varentropy for clarification or refinement. And Adaptive-Consistency
(Aggarwal et al., arXiv 2305.11860).
"""

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal, Self

from rlm_agent.structure.errors import InputError
from rlm_agent.structure.thoughts import ThoughtGraph

Advice = Literal["go on", "search", "refine", "sample"]


@dataclass(frozen=True, slots=True)
class Adaptive:
    """How many children a thought gets by the uncertainty of the policy's tokens there.

    `entropy` (nats) and `varentropy` (nats²) part low from high; the defaults are about the medians of
    `mini`'s steps on Countdown. Where both are low the policy is sure, and 1/`widen` of the children will do.
    Low entropy with high varentropy hides a fork: there are `widen` times as many. With high entropy there
    are as many as without the rule; where the varentropy is low, `advise` says to refine, which is another
    operator's matter. Raises `InputError` for negative bounds, or a `widen` below 1.
    """

    entropy: float = 0.2
    varentropy: float = 0.15
    widen: float = 2.0

    def __post_init__(self) -> None:
        if not (self.entropy >= 0 and self.varentropy >= 0 and 1 <= self.widen < math.inf):
            raise InputError(f"{self} widens nothing; give bounds of at least 0, and widen of at least 1")

    @classmethod
    def named(cls, adaptive: Self | bool) -> Self | None:
        """The rule itself, the one of the defaults for True, none for False."""
        if isinstance(adaptive, bool):
            return cls() if adaptive else None
        return adaptive

    def advise(self, entropy: float, varentropy: float) -> Advice:
        """What the uncertainty of a text advises, by the blueprint."""
        if entropy <= self.entropy:
            return "search" if varentropy > self.varentropy else "go on"
        return "sample" if varentropy > self.varentropy else "refine"

    def factor(self, graph: ThoughtGraph, id: str) -> float:
        """By what the number of a thought's children is to be multiplied; 1 where nothing was traced.

        What counts is what the policy wrote under the thought, or, before it has, the thought itself.
        """
        born = [child for child in graph.children(id) if child in graph.thoughts]  # some may be under way
        texts = _traced(graph, born) or _traced(graph, [id])
        if not texts:
            return 1.0
        advice = self.advise(fmean(entropy for entropy, _ in texts), fmean(spread for _, spread in texts))
        return {"go on": 1 / self.widen, "search": self.widen}.get(advice, 1.0)


def _traced(graph: ThoughtGraph, ids: Sequence[str]) -> list[tuple[float, float]]:
    """The entropy and varentropy of those thoughts that know theirs."""
    thoughts = [graph.thoughts[id] for id in ids]
    return [(one["entropy"], one["varentropy"]) for one in thoughts if "entropy" in one]


def lead(votes: Iterable[Hashable]) -> tuple[int, int]:
    """How many votes the first and the second choice have."""
    (_, first), (_, second) = [*Counter(votes).most_common(2), (None, 0), (None, 0)][:2]
    return first, second


def confidence(first: int, second: int) -> float:
    """The probability that the leading answer is the likelier one of the two most frequent.

    P(p > ½) for p ~ Beta(first + 1, second + 1), as in arXiv 2305.11860: with n = first + second + 1, the
    probability of at most `first` heads in n throws of a coin.
    """
    throws = first + second + 1
    return float(sum(math.comb(throws, heads) for heads in range(first + 1)) / 2**throws)


def agreed(votes: Iterable[Hashable], outstanding: int, least: float) -> bool:
    """Whether the vote is over: so sure, or so far ahead that the `outstanding` votes cannot overtake."""
    first, second = lead(votes)
    return first > 0 and (confidence(first, second) >= least or first - second > outstanding)
