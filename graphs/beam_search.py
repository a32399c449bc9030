"""Beam search over steps, guided by a value model or by the policy's own likelihood.

Sources: Snell et al., arXiv 2408.03314 (PRM-guided); with its constants n = width · expansions.
"""

import math

from typing_extensions import Unpack

from rlm_agent.graphs.machine.common import Common, Model, build
from rlm_agent.graphs.machine.graph import takes_context
from rlm_agent.graphs.machine.rules import Reasoner, Rules, Search
from rlm_agent.graphs.shared.beams import begin, best_answer, leaves, ranking
from rlm_agent.graphs.shared.retrieving import furnish
from rlm_agent.models.resolve import load_policy
from rlm_agent.operators.prune import beyond_top, close, duplicates
from rlm_agent.operators.rules.adaptive import Adaptive
from rlm_agent.operators.writing import Plan
from rlm_agent.structure.errors import InputError
from rlm_agent.structure.thoughts import ThoughtGraph, Writes


@takes_context
def create_beam_search(
    model: Model = "mini",
    *,
    width: int = 4,
    expansions: int = 4,
    adaptive: Adaptive | bool = False,
    **common: Unpack[Common],
) -> Reasoner:
    """A reasoner that keeps the `width` best unfinished chains and gives each `expansions` new steps a round.

    Chains are ranked by their last step's value, or, without a value model, by the likelihood of the
    whole chain under the policy. Finished chains are kept aside and do not take a place in the beam; the best
    of them, ranked alike, holds the answer. Steps that lead to one state are merged before the ranking. A
    beam that has run empty without an answer, or with none that the verifier accepts, is started anew from
    the root until the budget is spent. A step that calls one of the `tools` or asks the `retriever` gets
    observations in the place of new steps. `common` is documented at `Common`.

    adaptive: a chain gets fewer or more than `expansions` new steps by how sure the policy was of its last
        one, see `operators.rules.adaptive`.
    """
    if width < 1 or expansions < 1:
        raise InputError(f"width={width}, expansions={expansions} keep no beam; both must be at least 1")
    score, rule, policy = ranking(common), Adaptive.named(adaptive), load_policy(model)
    strategy, means = furnish("beam_search", policy, common)

    def wanted(graph: ThoughtGraph, id: str) -> int:
        return math.ceil(expansions * (rule.factor(graph, id) if rule else 1))

    def select(search: Search) -> Plan:
        beam = [(id, wanted(search.graph, id)) for id in leaves(search)]
        return beam or begin(search, width * expansions)

    def prune(search: Search) -> Writes:
        graph, fresh = search.graph, search.run["fresh"]
        merged = close(graph, duplicates(graph, fresh))
        return merged.followed_by(close(graph, beyond_top(graph.updated(merged), fresh, score, width)))

    rules = Rules(
        select=select,
        expand=means.expand,
        prune=prune,
        answer=best_answer,
        traced=rule is not None or means.traced,
    )
    return build(strategy, policy, rules, common)
