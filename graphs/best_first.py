"""Best-first search: wherever a step promises most for what it will cost, one more child is written.

Sources: Koh et al., arXiv 2407.01476 (best-first search by a value model). One child at a time and the
index, the chance to end well that the next token buys, are ours.
"""

import math
from collections.abc import Mapping
from functools import partial

from typing_extensions import Unpack

from rlm_agent.graphs.machine.common import Common, Model, build
from rlm_agent.graphs.machine.graph import takes_context
from rlm_agent.graphs.machine.rules import Reasoner, Rules, Search
from rlm_agent.graphs.shared.retrieving import furnish
from rlm_agent.models.resolve import load_policy
from rlm_agent.operators.prune import close, known_states, novelty
from rlm_agent.operators.rules.frontier import Frontier
from rlm_agent.operators.select import best
from rlm_agent.operators.writing import Plan
from rlm_agent.structure.errors import InputError
from rlm_agent.structure.thoughts import ThoughtGraph, Writes

_LEAST = 1e-3
"""What a thought is worth at least: a value of 0 may be wrong, and would never be looked into again."""

_KEPT = 64
"""How many searches' frontiers are kept from round to round; others are made anew."""


@takes_context
def create_best_first(
    model: Model = "mini",
    *,
    parallel: int = 1,
    trust: float = 2.0,
    hope: float = 0.3,
    **common: Unpack[Common],
) -> Reasoner:
    """A reasoner that gives the `parallel` most promising thoughts one more child each, round after round.

    trust: how many children a thought's own value weighs as much as, see `promise`.
    hope: what counts as the value of the root, and of other thoughts without one.

    A thought's index is its promise / the steps that are missing to the mean length of the chains that have
    ended so far. Thoughts that lead to a state known from anywhere in the tree are closed. The value
    is the model's own head unless another is given. A thought that calls one of the `tools` or asks the
    `retriever` gets its observations one by one, too. `common` is documented at `Common`.
    """
    if parallel < 1 or not trust > 0 or not 0 <= hope <= 1:
        raise InputError(
            f"parallel={parallel}, trust={trust}, hope={hope}: give at least 1, more than 0, and 0 to 1"
        )
    if common.get("value") is None:
        common["value"] = "head"

    policy = load_policy(model)
    strategy, means = furnish("best_first", policy, common)
    frontiers: dict[str, Frontier] = {}

    def frontier_of(search: Search) -> Frontier:
        """The frontier that was kept from the last round, or a new one, as after a stop."""
        kept = frontiers.pop(search.run["reply"], None)
        if kept is None or not kept.fits(search.graph, search.run["round"]):
            rule = partial(promise, trust=trust, hope=hope)
            kept = Frontier(search.graph, search.run["round"], rule, means.full)
        frontiers[search.run["reply"]] = kept
        for forgotten in list(frontiers)[:-_KEPT]:
            frontiers.pop(forgotten, None)
        return kept

    def select(search: Search) -> Plan:
        return [(id, 1) for id in frontier_of(search).best(search.graph, parallel)]

    def prune(search: Search) -> Writes:
        graph, fresh = search.graph, search.run["fresh"]
        kept = frontiers.get(search.run["reply"])
        if kept is None or not kept.fits(graph, search.run["round"] - 1):
            return close(graph, known_states(graph, fresh))
        writes = close(graph, kept.known(graph, fresh))
        kept.grow(graph.updated(writes), fresh)
        return writes

    rules = Rules(
        select=select,
        expand=means.expand,
        prune=prune,
        answer=best,
        distinct=True,
        traced=means.traced,
    )
    return build(strategy, policy, rules, common)


def promise(
    graph: ThoughtGraph, id: str, found: Mapping[str, float], *, trust: float, hope: float
) -> float | None:
    """What the next child of a thought may be expected to be worth, in [0, 1]; None for a repeat.

    Its `novelty` · (trust · V + Σ promises of its children) / (trust + their number): its own value V,
    corrected by what came of it so far, as `found` has it. Children that lead where the tree has been already
    count for the novelty alone; those that failed are worth nothing.
    """
    if graph.thoughts[id]["kind"] == "failed":
        return 0.0
    if is_repeat(graph, id):
        return None
    value = graph.stats[id]["value"]
    own = hope if value is None else max(value, _LEAST)
    new = [found[child] for child in graph.children(id) if child in found]
    return novelty(graph, id) * (trust * own + math.fsum(new)) / (trust + len(new))


def is_repeat(graph: ThoughtGraph, id: str) -> bool:
    """Whether a step was closed because its state is known."""
    stats = graph.stats[id]
    return graph.thoughts[id]["kind"] == "step" and stats["closed"] and not stats["children"]
