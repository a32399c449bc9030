"""Diverse Verifier Tree Search: many small trees side by side, each searched greedily.

Source: Beeching, Tunstall and Rush, "Scaling test-time compute with open models" (2024), and its code,
search-and-learn.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby

from typing_extensions import Unpack

from rlm_agent.graphs.machine.common import Common, Model, build
from rlm_agent.graphs.machine.graph import takes_context
from rlm_agent.graphs.machine.rules import Reasoner, Rules, Search
from rlm_agent.graphs.shared.beams import begin, best_answer, hopeless, leaves, ranking
from rlm_agent.graphs.shared.retrieving import furnish
from rlm_agent.models.resolve import load_policy
from rlm_agent.operators.prune import close
from rlm_agent.operators.select import best
from rlm_agent.operators.writing import Plan
from rlm_agent.structure.errors import InputError
from rlm_agent.structure.thoughts import ThoughtGraph, Writes


@takes_context
def create_dvts(model: Model = "mini", *, n: int = 16, width: int = 4, **common: Unpack[Common]) -> Reasoner:
    """A reasoner that searches n / `width` subtrees of the root, independently of each other.

    In each round a subtree gets `width` new steps under its last one, at first under the root; the best of
    them goes on and the others are closed. Steps are ranked by their value, or, without a value model, by
    the likelihood of the whole chain under the policy. Unlike a beam, no subtree takes another's place,
    and equal steps of two subtrees are both kept.

    A subtree ends where its best new step ends a chain, or where no new step can be continued; an answer that
    the verifier rejects is out of the ranking. When all subtrees have ended without an answer, or with
    none that the verifier accepts, n / `width` new ones are begun until the budget is spent. The
    best of all finished chains, ranked alike, holds the answer.

    Deviations from search-and-learn: no last round that is written to the end in one piece; a chain that
    ended, but was not the best of its siblings, may hold the answer in any round, not only in the last.
    A step that calls one of the `tools` or asks the `retriever` gets observations in the place of new steps.
    `common` is documented at `Common`. Raises `InputError` where n is no multiple of `width`.
    """
    if n < 1 or width < 1 or n % width:
        raise InputError(f"n={n}, width={width} make no whole subtrees; n must be a multiple of width")
    score, policy = ranking(common), load_policy(model)
    strategy, means = furnish("dvts", policy, common)

    def select(search: Search) -> Plan:
        return [(id, width) for id in leaves(search)] or begin(search, n)

    def prune(search: Search) -> Writes:
        graph = search.graph
        losers: list[str] = []
        for family in families(graph, search.run["fresh"], width):
            chosen = best(graph, [id for id in family if not hopeless(search, id)], score)
            losers += [id for id in family if id != chosen]
        return close(graph, losers)

    rules = Rules(select=select, expand=means.expand, prune=prune, answer=best_answer, traced=means.traced)
    return build(strategy, policy, rules, common)


def families(graph: ThoughtGraph, fresh: Sequence[str], width: int) -> Iterator[list[str]]:
    """The new steps of each subtree: `width` siblings in a row, fewer where the budget ran short."""
    for _, group in groupby(fresh, key=lambda id: graph.thoughts[id]["parent"]):
        siblings = list(group)
        yield from (siblings[start : start + width] for start in range(0, len(siblings), width))
