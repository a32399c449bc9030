"""With whom new solutions are compared, so that few comparisons place them among all others."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from rlm_agent.operators.rules.borda import standing
from rlm_agent.operators.rules.ranking import Ranking
from rlm_agent.structure.thoughts import ThoughtGraph

_UNRANKED: Final = 0.0
"""The q of a thought that has not been ranked yet."""


def new_pairs(graph: ThoughtGraph, ids: Sequence[str], ranking: Ranking, most: int) -> list[tuple[str, str]]:
    """With whom each of `ids` is to be compared, which were admitted to the `ranking`: `most` others at most.

    Those are its parent, and thoughts from all over the ranking by q: the transitive closure tells the rest.
    Only thoughts of a `standing` of 1 are compared; of all others enough is known.
    """
    pairs, newer = list[tuple[str, str]](), list[str]()
    for id in ids:
        if "preferences" in graph.stats[id] and standing(graph, id) == 1:
            pairs += [(id, other) for other in _rivals(graph, id, ranking, newer, most)]
            newer.append(id)
    return pairs


def _rivals(graph: ThoughtGraph, id: str, ranking: Ranking, newer: Sequence[str], most: int) -> list[str]:
    far, parent = ranking.open_to_doubt(), graph.thoughts[id]["parent"] or ""
    at = np.flatnonzero(far == ranking.place.get(parent, -1)).tolist()  # one at most
    near, others = [parent] * len(at), len(far) - len(at) + len(newer)
    left = min(most - len(near), others)
    picked = [number * others // left for number in range(left)]
    if not newer:
        picked = [place + (at != [] and place >= at[0]) for place in picked]
        return near + [ranking.ids[place] for place in far.take(picked).tolist()]
    far = np.delete(far, at)
    better = int((ranking.worth[far] >= _UNRANKED).sum())
    names = [ranking.ids[one] for one in far.tolist()]
    names[better:better] = newer
    return near + [names[place] for place in picked]
