"""Resample: which particles live on, by weight and by chance (blueprint §1, traversal operators).

A particle is a chain on its way; the root's `Stats.population` says how many of them stand at which thoughts.
"""

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import accumulate

from rlm_agent.structure.ids import derive_seed
from rlm_agent.structure.thoughts import Stats, ThoughtGraph, Writes

_CLIP = 1e-7


def population(graph: ThoughtGraph) -> Counter[str]:
    """How many particles stand where, in the order of `walk`."""
    return Counter(graph.stats[graph.root].get("population", {}))


def moved(graph: ThoughtGraph, fresh: Sequence[str]) -> Counter[str]:
    """The population after one particle has gone to each of the `fresh` thoughts from its parent.

    The root sends out as many as are asked for; of the others, those left over stay where they are.
    """
    counts = population(graph)
    counts.subtract(parent for id in fresh if (parent := graph.thoughts[id]["parent"]) is not None)
    counts.update(fresh)
    return +counts


def resample(
    counts: Mapping[str, int],
    log_weights: Mapping[str, float],
    points: Sequence[float],
    temperature: float = 1.0,
) -> Counter[str]:
    """Multinomial resampling: how many of the points in [0, 1) fall on each thought.

    Its share of [0, 1) is its number of particles times the softmax of log_weight / `temperature`. A weight
    of −∞ has no share; where all are −∞, nobody lives on.
    """
    ids = list(counts)
    heaviest = max((log_weights[id] for id in ids), default=-math.inf)
    if heaviest == -math.inf:
        return Counter()
    # Divided after the subtraction, so that no low temperature makes an infinity of the heaviest.
    shares = [counts[id] * math.exp((log_weights[id] - heaviest) / temperature) for id in ids]
    ends = list(accumulate(shares))
    return Counter(ids[bisect_right(ends, point * ends[-1])] for point in points)


def settle(graph: ThoughtGraph, counts: Mapping[str, int], left: Sequence[str]) -> Writes:
    """Let the particles stand as `counts` says; `left` are the thoughts where they stood before.

    A thought without particles and without children, where they might have gone, is closed.
    """
    stats = {}
    for id in dict.fromkeys([*left, *counts]):
        before = graph.stats[id]
        closed = before["closed"] or not (counts.get(id) or before["children"])
        stats[id] = Stats({**before, "closed": closed})
    living = sorted((id for id, count in counts.items() if count), key=lambda id: _place(graph, id))
    root = stats.get(graph.root, graph.stats[graph.root])
    stats[graph.root] = Stats({**root, "population": {id: counts[id] for id in living}})
    return Writes({}, stats)


def _place(graph: ThoughtGraph, id: str) -> list[int]:
    """What sorts thoughts in the order of `walk`."""
    return [graph.thoughts[step]["index"] for step in graph.path(id)[1:]]


def draw_points(count: int, seed: int, *counter: str | int) -> list[float]:
    """`count` points in [0, 1), decided by `seed` and `counter`."""
    # A float holds 53 bits: with all 63, the largest would be rounded up to 1.
    return [(derive_seed(seed, *counter, number) >> 10) / 2**53 for number in range(count)]


def logit(probability: float) -> float:
    """ln(p / (1 − p)), p clipped to [1e-7, 1 − 1e-7] as in its_hub."""
    clipped = max(_CLIP, min(probability, 1 - _CLIP))
    return math.log(clipped / (1 - clipped))
