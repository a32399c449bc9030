"""Sampling steps without replacement, by arithmetic codes.

A code in [0, 1) decides a text (Vilnis et al., arXiv 2210.15458): each text that a policy may write has an
interval of codes, as long as the text is likely. A code outside the intervals of what has been written
already, drawn evenly, brings one of the other texts with the probability that it has among them.
"""

from collections.abc import Iterator, Sequence

from rlm_agent.structure.ids import child_id, derive_seed
from rlm_agent.structure.thoughts import ThoughtGraph

_NOTHING_LEFT = 1e-9
_BELOW_ONE = 1 - 2**-53


def fresh_code(graph: ThoughtGraph, place: tuple[str, int], seed: int) -> float:
    """A code for the child of that parent and index which no elder sibling's interval holds.

    Siblings that are written at the same time may still be alike. Where the elder ones have left nothing,
    any code.
    """
    parent, index = place
    number = derive_seed(seed, "code", child_id(parent, index)) / 2**63
    siblings = (graph.thoughts[id] for id in graph.children(parent))
    taken = [(one["interval"][0], one["interval"][1]) for one in siblings if "interval" in one]
    return outside(taken, number)


def outside(taken: Sequence[tuple[float, float]], number: float) -> float:
    """The number of [0, 1) that stands at the share `number` of all that is not `taken`.

    `taken` are beginnings and lengths of intervals, which may overlap.
    """
    spans = list(_union(taken))
    free = 1 - sum(end - begin for begin, end in spans)
    if free < _NOTHING_LEFT:
        return number
    code = number * free
    for begin, end in spans:
        if code < begin:
            break
        code += end - begin
    return min(code, _BELOW_ONE)


def _union(taken: Sequence[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    """Intervals by their two ends, in order and apart from each other."""
    first = last = 0.0
    for begin, length in sorted(taken):
        if begin > last:
            yield first, last
            first = begin
        last = max(last, begin + length)
    yield first, last
