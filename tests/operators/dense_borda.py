"""The Enhanced Borda Count, made anew from all preferences by dense loops: the reference for `ranking`."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import groupby

from rlm_agent.operators.rules.borda import ranked, standing
from rlm_agent.structure.thoughts import Stats, ThoughtGraph, Writes

Preferences = Mapping[str, Mapping[str, float]]
"""P(first ≻ second) by first and second, for the pairs that were compared; P(a ≻ b) + P(b ≻ a) = 1."""


def preferences_among(graph: ThoughtGraph, ids: Sequence[str]) -> dict[str, dict[str, float]]:
    """What is known of the preferences between these thoughts.

    One of a higher `standing` is surely better than one of a lower, unasked; where it is equal,
    `Stats.preferences` of the younger one holds what a model has said.
    """
    heights = {id: standing(graph, id) for id in ids}
    known: dict[str, dict[str, float]] = {
        id: {other: float(height > at) for other, at in heights.items() if at != height}
        for id, height in heights.items()
    }
    for id, height in heights.items():
        for other, p in graph.stats[id].get("preferences", {}).items():
            if heights.get(other) == height:
                known[id][other], known[other][id] = p, 1 - p
    return known


def wins(ids: Sequence[str], preferences: Preferences) -> dict[str, int]:
    """The Borda count of each: how many others it wins against, directly or through others.

    A win is P ≥ ½. The closure is Floyd's and Warshall's, with a row of the matrix in the bits of an integer:
    n² operations on n bits for n ids. Deviation: a cycle of preferences gives no win against oneself, and a
    pair that was never compared is won by nobody unless others lead from one to the other.
    """
    place = {id: number for number, id in enumerate(ids)}
    rows = [sum(1 << place[other] for other, p in preferences[id].items() if p >= 0.5) for id in ids]
    for through in range(len(rows)):
        rows = [row | rows[through] if row >> through & 1 else row for row in rows]
    return {id: (rows[number] & ~(1 << number)).bit_count() for id, number in place.items()}


def quantiles(ids: Sequence[str], preferences: Preferences) -> dict[str, float]:
    """The global score Q_g of each in [0, 1]: 1 for the first in the ranking, 0 for the last.

    Those of equal Borda counts are ordered by the sum of their P against each other, ½ where unknown. Those
    that are equal in that, too, share the mean of their ranks (deviation: the paper leaves them open), so
    that all are worth ½ where nothing is known, and so is a single one, for which the paper has 0 / 0.
    """
    peers: dict[int, list[str]] = defaultdict(list)
    counts = wins(ids, preferences)
    for id, count in counts.items():
        peers[count].append(id)

    def key(id: str) -> tuple[int, float]:
        return counts[id], round(math.fsum(preferences[id].get(peer, 0.5) for peer in peers[counts[id]]), 9)

    scores, rank = dict[str, float](), 0
    for _, group in groupby(sorted(ids, key=key, reverse=True), key):
        equal = list(group)
        mean = rank + (len(equal) - 1) / 2
        scores |= dict.fromkeys(equal, 1 - mean / (len(ids) - 1) if len(ids) > 1 else 0.5)
        rank += len(equal)
    return scores


def local_score(graph: ThoughtGraph, id: str, preferences: Preferences) -> float | None:
    """The local score Q_l in [0, 1]: the mean of P against those of its neighbours that it was compared with.

    Neighbours are the parent and the children; None where nothing is known of any.
    """
    parent = graph.thoughts[id]["parent"]
    neighbours = graph.children(id) if parent is None else [parent, *graph.children(id)]
    known = [preferences[id][other] for other in neighbours if other in preferences[id]]
    return math.fsum(known) / len(known) if known else None


def borda_values(
    graph: ThoughtGraph, ids: Sequence[str], preferences: Preferences, *, alpha: float
) -> dict[str, float]:
    """The value of each in [0, 1]: α · Q_g + (1 − α) · Q_l, with Q_g alone where there is no Q_l; ordered."""
    overall, values = quantiles(ids, preferences), {}
    for id in ids:
        near = local_score(graph, id, preferences)
        values[id] = overall[id] if near is None else alpha * overall[id] + (1 - alpha) * near
    return values


def passed_up(graph: ThoughtGraph, values: dict[str, float], *, gamma: float) -> dict[str, float]:
    """Values in which each thought has a share of its children's, bottom up; of those only that have one.

    `values` come in the order in which the thoughts were born.

    Q ← (1 − γ) · Q + γ · Q_child for each child in the order of its birth (LLaMA-Berry, arXiv 2410.02884).
    """
    found = dict(values)
    for id in reversed(values):
        for child in graph.children(id):
            if child in found:
                found[id] = (1 - gamma) * found[id] + gamma * found[child]
    return found


def rerank(graph: ThoughtGraph, *, alpha: float, gamma: float) -> Writes:
    """Give all ranked thoughts their q, 2Q − 1 for `borda_values` with a share γ of the children's."""
    ids = ranked(graph)
    values = borda_values(graph, ids, preferences_among(graph, ids), alpha=alpha)
    shared = passed_up(graph, values, gamma=gamma)
    return Writes({}, {id: Stats({**graph.stats[id], "q": 2 * value - 1}) for id, value in shared.items()})


def new_pairs(graph: ThoughtGraph, ids: Sequence[str], most: int) -> list[tuple[str, str]]:
    """With whom each of the new thoughts `ids` is to be compared, at most `most` others each.

    Those are its parent, and thoughts from all over the ranking by q: the transitive closure tells the rest.
    Only thoughts of a `standing` of 1 are compared; of all others enough is known.
    """
    open_to_doubt = [id for id in ranked(graph) if standing(graph, id) == 1]
    others = [id for id in open_to_doubt if id not in ids]
    pairs = []
    for id in (id for id in ids if id in open_to_doubt):
        pairs += [(id, other) for other in _rivals(graph, id, others, most)]
        others.append(id)
    return pairs


def _rivals(graph: ThoughtGraph, id: str, others: Sequence[str], most: int) -> list[str]:
    near = [other for other in others if other == graph.thoughts[id]["parent"]][:most]
    far = sorted((other for other in others if other not in near), key=lambda other: -graph.stats[other]["q"])
    left = min(most - len(near), len(far))
    return near + [far[number * len(far) // left] for number in range(left)]
