"""Select: which thoughts go on, and which one holds the answer (blueprint §1, traversal operators)."""

import math
from collections import defaultdict
from collections.abc import Callable, Sequence

from rlm_agent.structure.thoughts import Stats, ThoughtGraph

Score = Callable[[ThoughtGraph, str], float]
"""How good a thought is; larger is better."""

Scores = Callable[[ThoughtGraph, str, Sequence[str]], Sequence[float]]
"""How good each of some children of a thought is, in the light of the thought itself."""


def top(graph: ThoughtGraph, ids: Sequence[str], score: Score, count: int) -> list[str]:
    """The `count` ids with the highest scores, best first; ties keep their order."""
    return sorted(ids, key=lambda id: -score(graph, id))[:count]


def own_value(graph: ThoughtGraph, id: str) -> float:
    """A thought's own evaluation, 0 where it has none."""
    return graph.stats[id]["value"] or 0.0


def likelihood(graph: ThoughtGraph, id: str) -> float:
    """The logarithm of the probability that the policy gives the whole chain up to a thought."""
    return math.fsum(graph.thoughts[step]["logprob"] for step in graph.chain(id))


def most_visited(graph: ThoughtGraph, ids: Sequence[str]) -> str | None:
    """The thought with the most visits, ties by value, then the first; None without any."""
    return max(ids, key=lambda id: (graph.stats[id]["visits"], own_value(graph, id)), default=None)


def best(graph: ThoughtGraph, ids: Sequence[str], score: Score = own_value) -> str | None:
    """The thought with the highest score, the first of several; None without any."""
    return max(ids, key=lambda id: score(graph, id), default=None)


def vote(
    graph: ThoughtGraph, ids: Sequence[str], key: Callable[[str], str], weight: Score | None = None
) -> str | None:
    """A thought whose answer has the most votes; None without any.

    Answers are the same when their `key` is; each counts 1, or its `weight`. Of several winners the one
    seen first wins, and it is also the first of its group that is returned.
    """
    groups: dict[str, list[str]] = defaultdict(list)
    for id in ids:
        groups[key(graph.thoughts[id].get("answer", ""))].append(id)
    sizes = [math.fsum(weight(graph, id) if weight else 1.0 for id in group) for group in groups.values()]
    return list(groups.values())[sizes.index(max(sizes))][0] if groups else None


def policy_priors(graph: ThoughtGraph, ids: Sequence[str]) -> list[float]:
    """Softmax over siblings of the mean log-probability of a step's tokens; sums to 1."""
    means = [graph.thoughts[id]["logprob"] / max(1, graph.thoughts[id]["tokens"]) for id in ids]
    weights = [math.exp(mean - max(means)) for mean in means]
    return [weight / math.fsum(weights) for weight in weights]


def uniform_priors(graph: ThoughtGraph, ids: Sequence[str]) -> list[float]:
    """The same prior for every sibling."""
    return [1 / len(ids)] * len(ids)


PRIORS = {"policy": policy_priors, "uniform": uniform_priors}


def puct(parent: Stats, child: Stats, prior: float, *, c1: float = 1.25, c2: float = 19652.0) -> float:
    """The score of a child, x1's Algorithm 1 (arXiv 2501.11223) after AlphaZero.

    q̂ + √N_parent / (1 + N_child) · (c1 + ln((N_parent + c2 + 1) / c2)) · prior, where q̂ is q brought from
    [-1, 1] to [0, 1]. Deviation: x1 prints √(N_parent − 1) and bears children with N = 1, which is the
    same where every expansion is counted once, and no number at an unvisited root.
    """
    exploration = c1 + math.log((parent["visits"] + c2 + 1) / c2)
    q = (child["q"] + 1) / 2
    return q + math.sqrt(parent["visits"]) / (1 + child["visits"]) * exploration * prior


def uct(value: float, parent: int, visits: int, *, c: float, unvisited: float = 1.0) -> float:
    """The score of a child of a value, visited so many times under a parent visited so many times.

    value + c · √(ln N_parent / N_child), as ReST-MCTS* has it (arXiv 2406.03816; its authors' code has
    2 ln N_parent). For a child without visits that is no number: it is value + `unvisited`, 1 in their code.
    """
    return uct_below(parent, c=c, unvisited=unvisited)(value, visits)


def uct_below(parent: int, *, c: float, unvisited: float = 1.0) -> Callable[[float, int], float]:
    """`uct` for children of a parent visited so many times, by their values and visits."""
    explored = math.log(max(1, parent))

    def score(value: float, visits: int) -> float:
        return value + c * math.sqrt(explored / visits) if visits else value + unvisited

    return score


def follow(
    graph: ThoughtGraph,
    wants_children: Callable[[ThoughtGraph, str], bool],
    scores: Scores,
    offspring: Callable[[ThoughtGraph, str], Sequence[str]] = ThoughtGraph.children,
) -> str | None:
    """From the root along the best-scored open child to a thought that wants children; None if all is closed.

    Ties go to the first child. `offspring` are the children that may be open.
    """
    id, stats = graph.root, graph.stats
    while not stats[id]["closed"] and not wants_children(graph, id):
        children = [child for child in offspring(graph, id) if not stats[child]["closed"]]
        if not children:
            return None
        found = scores(graph, id, children)
        id = children[found.index(max(found))]
    return None if stats[id]["closed"] else id


def puct_scores(priors: Callable[[ThoughtGraph, Sequence[str]], list[float]], c1: float, c2: float) -> Scores:
    """`puct` for children, among whom the priors are distributed."""

    def scores(graph: ThoughtGraph, id: str, children: Sequence[str]) -> list[float]:
        stats = graph.stats
        return [
            puct(stats[id], stats[child], prior, c1=c1, c2=c2)
            for child, prior in zip(children, priors(graph, children), strict=True)
        ]

    return scores


def uct_scores(c: float) -> Scores:
    """`uct` for children by their q, brought to [0, 1]; those that nobody has visited come first."""

    def scores(graph: ThoughtGraph, id: str, children: Sequence[str]) -> list[float]:
        score = uct_below(graph.stats[id]["visits"], c=c, unvisited=math.inf)
        return [
            score((one["q"] + 1) / 2, one["visits"]) for one in (graph.stats[child] for child in children)
        ]

    return scores
