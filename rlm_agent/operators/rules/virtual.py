"""Select several leaves for one batch: each as if the visits of those before it were under way, and lost.

Source: virtual loss (Chaslot, Winands and van den Herik, "Parallel Monte-Carlo Tree Search", 2008). What is
pretended here stays in the plan of one round: nothing of it is written, and the backup knows nothing of it.
"""

from collections import Counter
from collections.abc import Callable

from rlm_agent.operators.prune import all_closed, close
from rlm_agent.operators.writing import Plan
from rlm_agent.structure.ids import child_id
from rlm_agent.structure.thoughts import Stats, ThoughtGraph, Writes

Pick = Callable[[ThoughtGraph], str | None]
Missing = Callable[[ThoughtGraph, str], int]
"""How many children a thought is short of."""


def pick_several(graph: ThoughtGraph, count: int, pick: Pick, missing: Missing) -> Plan:
    """Up to `count` leaves, with the children that each is short of, at least one; fewer where all are taken.

    A leaf may be picked again where its visits under way entitle it to more children.
    """
    plan: Counter[str] = Counter()
    for left in range(count - 1, -1, -1):
        leaf = pick(graph)
        if leaf is None:
            break
        born = max(1, missing(graph, leaf))
        plan[leaf] += born
        if left:
            graph = lose(graph, leaf, born, missing)
    return list(plan.items())


def lose(graph: ThoughtGraph, leaf: str, born: int, missing: Missing) -> ThoughtGraph:
    """The graph as if so many children of a leaf were born and each had come back with a return of −1.

    The children are closed, and so is each thought above them that has no open child and is short of none:
    whoever selects next goes elsewhere.
    """
    path = graph.path(leaf)
    stats = {id: _visited(graph.stats[id], born) for id in path}
    first = stats[leaf]["children"]
    stats[leaf]["children"] += born
    unborn = Stats(visits=0, q=0.0, value=None, children=0, closed=True)
    stats |= {child_id(leaf, first + number): unborn for number in range(born)}
    lost = graph.updated(Writes({}, stats))
    for id in reversed(path):
        if not all_closed(lost, lost.children(id)) or missing(lost, id) > 0:
            break
        lost = lost.updated(close(lost, [id]))
    return lost


def _visited(stats: Stats, losses: int) -> Stats:
    visits = stats["visits"] + losses
    return Stats({**stats, "visits": visits, "q": (stats["q"] * stats["visits"] - losses) / visits})
