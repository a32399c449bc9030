"""Best-of-N: independent chains, of which a verifier or a value model picks one."""

from typing_extensions import Unpack

from rlm_agent.graphs.machine.common import Common, Model, build
from rlm_agent.graphs.machine.graph import takes_context
from rlm_agent.graphs.machine.rules import Reasoner, Rules
from rlm_agent.graphs.shared.chains import sample_chains
from rlm_agent.graphs.shared.retrieving import furnish
from rlm_agent.models.resolve import load_policy
from rlm_agent.operators.evaluate import chain_value
from rlm_agent.operators.select import best, vote
from rlm_agent.tasks.answers import normalise


@takes_context
def create_best_of_n(
    model: Model = "mini",
    *,
    n: int = 16,
    parallel: int | None = None,
    aggregation: str = "last",
    weighted: bool = False,
    **common: Unpack[Common],
) -> Reasoner:
    """A reasoner that samples `n` chains, `parallel` at a time (None: all), and answers with the best.

    A chain's score is the `aggregation` (`min`, `prod`, `last`, `mean`) of its steps' values, the verdict
    on its answer counting as the last; `weighted` sums the scores of equal answers first (Li et al., arXiv
    2206.02336). Ties go to the first. Chains may call `tools` and ask a `retriever`. `common` is
    documented at `Common`.
    """
    score, policy = chain_value(aggregation), load_policy(model)
    strategy, means = furnish("best_of_n", policy, common, alternatives=1)
    rules = Rules(
        expand=means.expand,
        traced=means.traced,
        select=sample_chains(n, parallel),
        answer=(
            (lambda graph, ids: vote(graph, ids, normalise, weight=score))
            if weighted
            else (lambda graph, ids: best(graph, ids, score))
        ),
    )
    return build(strategy, policy, rules, common)
