"""Backpropagate: carry what was learned at a leaf up to the root (blueprint §1, update operators)."""

from collections import Counter
from collections.abc import Sequence

from rlm_agent.structure.thoughts import Stats, ThoughtGraph, Writes


def backpropagate(
    graph: ThoughtGraph,
    leaf: str,
    value: float,
    *,
    gamma: float = 1.0,
    learning_rate: float = 0.5,
    smoothing: int = 1,
) -> Writes:
    """Count a visit and update q along the whole path from a leaf to the root, root included.

    The leaf's q becomes `value`, in [-1, 1]. Above it, x1's Algorithm 1 (arXiv 2501.11223):
    q ← (1 − lr) · q + lr · γ · Σ (N_c + s) q_c / Σ (N_c + s) over the children c that were visited, where
    s is `smoothing`. Deviation: x1 prints N_c, which divides 0 by 0 at the first expansion of children born
    at 0, unless those that nobody visited are left out.
    """
    path = graph.path(leaf)
    stats = {leaf: Stats({**graph.stats[leaf], "visits": graph.stats[leaf]["visits"] + 1, "q": value})}
    for id in reversed(path[:-1]):
        before = graph.stats[id]
        target = gamma * _mean_over_children(graph, id, stats, smoothing)
        q = (1 - learning_rate) * before["q"] + learning_rate * target
        stats[id] = Stats({**before, "visits": before["visits"] + 1, "q": q})
    return Writes({}, stats)


def backpropagate_all(
    graph: ThoughtGraph, leaves: Sequence[tuple[str, float]], *, gamma: float, learning_rate: float
) -> Writes:
    """`backpropagate` for each (leaf, value) in turn."""
    writes = Writes({}, {})
    for leaf, value in leaves:
        grown = graph.updated(writes)
        writes = writes.followed_by(
            backpropagate(grown, leaf, value, gamma=gamma, learning_rate=learning_rate)
        )
    return writes


def visited(graph: ThoughtGraph, leaves: Sequence[str]) -> Writes:
    """Count a visit along the whole path to each of `leaves`, from the root."""
    visits = Counter(id for leaf in leaves for id in graph.path(leaf))
    before = {id: graph.stats[id] for id in visits}
    return Writes({}, {id: {**before[id], "visits": before[id]["visits"] + n} for id, n in visits.items()})


def average(graph: ThoughtGraph, returns: Sequence[tuple[str, float]]) -> Writes:
    """Count a visit for each (leaf, return in [-1, 1]), and take it into the mean q along the whole path.

    q ← q + (return − q) / N, N counting this visit; as sums, Q ← Q + r, N ← N + 1 (rStar, arXiv 2408.06195).
    """
    stats: dict[str, Stats] = {}
    for leaf, value in returns:
        for id in graph.path(leaf):
            before = stats.get(id, graph.stats[id])
            visits = before["visits"] + 1
            q = before["q"] + (value - before["q"]) / visits
            stats[id] = Stats({**before, "visits": visits, "q": q})
    return Writes({}, stats)


def expected_value(graph: ThoughtGraph, id: str) -> float:
    """In [0, 1]: what was backed up to a thought, or its own value before; ½ where that is unknown."""
    stats = graph.stats[id]
    if stats["visits"]:
        return (stats["q"] + 1) / 2
    return 0.5 if stats["value"] is None else stats["value"]


def _mean_over_children(graph: ThoughtGraph, id: str, fresh: dict[str, Stats], smoothing: int) -> float:
    children = [fresh.get(child, graph.stats[child]) for child in graph.children(id)]
    visited = [child for child in children if child["visits"]]
    weight = sum(child["visits"] + smoothing for child in visited)
    return sum((child["visits"] + smoothing) * child["q"] for child in visited) / weight
