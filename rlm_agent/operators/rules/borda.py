"""Enhanced Borda count: one ranking from preferences between pairs (blueprint §1, evaluate operators).

Source: LLaMA-Berry (Zhang et al., arXiv 2410.02884). Preferences P(i ≻ j) make a win-loss matrix
M_ij = [P(i ≻ j) ≥ ½], its transitive closure C gives each one its Borda count Σ_j C_ij, those of equal counts
are compared softly by P, and the rank becomes the quantile 1 − (rank − 1) / (n − 1).
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import groupby

from rlm_agent.operators.backpropagate import passed_up
from rlm_agent.structure.thoughts import Stats, ThoughtGraph, Writes

Preferences = Mapping[str, Mapping[str, float]]
"""P(first ≻ second) by first and second, for the pairs that were compared; P(a ≻ b) + P(b ≻ a) = 1."""


def ranked(graph: ThoughtGraph) -> list[str]:
    """The thoughts that take part in the ranking, in the order of their birth: those that were admitted."""
    return graph.stats[graph.root].get("ranked", [])


def admit(graph: ThoughtGraph, ids: Sequence[str]) -> Writes:
    """Let those of `ids` take part in the ranking, and be selected, that say something that is new among it.

    It is finished thoughts that are ranked; what was closed at its birth is therefore opened.
    """
    said = {graph.thoughts[id]["text"].strip() for id in ranked(graph)} | {""}
    stats = dict[str, Stats]()
    for id in ids:
        if (text := graph.thoughts[id]["text"].strip()) not in said:
            said.add(text)
            stats[id] = Stats({**graph.stats[id], "closed": False, "preferences": {}})
    if stats:
        stats[graph.root] = Stats({**graph.stats[graph.root], "ranked": [*ranked(graph), *stats]})
    return Writes({}, stats)


def standing(graph: ThoughtGraph, id: str) -> int:
    """What is known of a thought without comparing it: 0 if it failed, 2 if it is surely right, else 1."""
    if graph.thoughts[id]["kind"] == "failed":
        return 0
    return 2 if graph.stats[id]["value"] == 1.0 else 1


def preferences_among(graph: ThoughtGraph, ids: Sequence[str]) -> dict[str, dict[str, float]]:
    """What is known of the preferences between these thoughts.

    One of a higher `standing` is surely better than one of a lower, unasked; where it is equal,
    `Stats.preferences` holds what a model has said.
    """
    heights = {id: standing(graph, id) for id in ids}
    known = {}
    for id, height in heights.items():
        said = graph.stats[id].get("preferences", {})
        equal = {other: p for other, p in said.items() if heights.get(other) == height}
        known[id] = equal | {other: float(height > at) for other, at in heights.items() if at != height}
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


def rerank(graph: ThoughtGraph, *, alpha: float, gamma: float) -> Writes:
    """Give all ranked thoughts their q, 2Q − 1 for `borda_values` with a share γ of the children's."""
    ids = ranked(graph)
    values = borda_values(graph, ids, preferences_among(graph, ids), alpha=alpha)
    shared = passed_up(graph, values, gamma=gamma)
    return Writes({}, {id: Stats({**graph.stats[id], "q": 2 * value - 1}) for id, value in shared.items()})


def barren(graph: ThoughtGraph, id: str) -> int:
    """How many children of a thought were not admitted to the ranking: they say nothing that is new."""
    return sum("preferences" not in graph.stats[child] for child in graph.children(id))


def highest_ranked(graph: ThoughtGraph, ids: Sequence[str]) -> str | None:
    """The one of the highest q among `ids`, one that is surely right before all others; None without any."""
    stats = graph.stats
    admitted = set(ranked(graph))
    return max(ids, key=lambda id: (standing(graph, id), id in admitted, stats[id]["q"]), default=None)


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
