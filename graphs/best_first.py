"""Best-first search: wherever a step promises most for what it will cost, one more child is written.

Sources: Koh et al., arXiv 2407.01476 (best-first search by a value model). One child at a time and the
index, the chance to end well that the next token buys, are ours.
"""

import math

from typing_extensions import Unpack

from rlm_agent.graphs.common import Common, Model, build
from rlm_agent.graphs.rules import Reasoner, Rules, Search
from rlm_agent.operators.prune import close, known_states, novelty
from rlm_agent.operators.select import best
from rlm_agent.operators.writing import Plan
from rlm_agent.structure.errors import InputError
from rlm_agent.structure.thoughts import ThoughtGraph, Writes

_LEAST = 1e-3
"""What a thought is worth at least: a value of 0 may be wrong, and would never be looked into again."""


def create_best_first(
    model: Model = "mini",
    *,
    parallel: int = 1,
    trust: float = 2.0,
    hope: float = 0.3,
    **common: Unpack[Common],
) -> Reasoner:
    """A reasoner that gives the `parallel` most promising thoughts one more child each, round after round.

    trust: how many children a thought's own value weighs as much as, see `promises`.
    hope: what counts as the value of the root, and of other thoughts without one.

    A thought's index is its promise / the steps that are missing to the mean length of the chains that have
    ended so far. Thoughts that lead to a state known from anywhere in the tree are closed. The value
    is the model's own head unless another is given. `common` is documented at `Common`.
    """
    if parallel < 1 or not trust > 0 or not 0 <= hope <= 1:
        raise InputError(
            f"parallel={parallel}, trust={trust}, hope={hope}: give at least 1, more than 0, and 0 to 1"
        )
    if common.get("value") is None:
        common["value"] = "head"

    def select(search: Search) -> Plan:
        graph = search.graph
        promise, length = promises(graph, trust, hope), mean_length(graph)

        def index(id: str) -> float:
            return promise[id] / max(1.0, length - graph.thoughts[id]["depth"])

        frontier = [id for id in graph.walk() if not graph.stats[id]["closed"]]
        return [(id, 1) for id in sorted(frontier, key=index, reverse=True)[:parallel]]

    def prune(search: Search) -> Writes:
        return close(search.graph, known_states(search.graph, search.run["fresh"]))

    return build("best_first", model, Rules(select=select, prune=prune, answer=best, distinct=True), common)


def promises(graph: ThoughtGraph, trust: float, hope: float) -> dict[str, float]:
    """What the next child of each thought may be expected to be worth, in [0, 1].

    Its `novelty` · (trust · V + Σ promises of its children) / (trust + their number): its own value V,
    corrected by what came of it so far. Children that lead where the tree has been already count for the
    novelty alone; those that failed are worth nothing.
    """
    found: dict[str, float] = {}
    for id in reversed(list(graph.walk())):
        value = graph.stats[id]["value"]
        own = hope if value is None else max(value, _LEAST)
        new = [found[child] for child in graph.children(id) if child in found]
        promise = (trust * own + math.fsum(new)) / (trust + len(new))
        if graph.thoughts[id]["kind"] == "failed":
            found[id] = 0.0
        elif not is_repeat(graph, id):
            found[id] = promise * novelty(graph, id)
    return found


def is_repeat(graph: ThoughtGraph, id: str) -> bool:
    """Whether a step was closed because its state is known."""
    stats = graph.stats[id]
    return graph.thoughts[id]["kind"] == "step" and stats["closed"] and not stats["children"]


def mean_length(graph: ThoughtGraph) -> float:
    """The mean depth of the chains that have come to an answer; 0 where none has."""
    depths = [graph.thoughts[id]["depth"] for id in graph.finals()]
    return math.fsum(depths) / len(depths) if depths else 0.0
