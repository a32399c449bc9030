"""Self-consistency: independent chains vote on the answer (Wang et al., arXiv 2203.11171)."""

from collections.abc import Callable

from typing_extensions import Unpack

from rlm_agent.graphs.machine.common import Common, Model, build
from rlm_agent.graphs.machine.graph import takes_context
from rlm_agent.graphs.machine.rules import Reasoner, Rules, Search
from rlm_agent.graphs.shared.chains import sample_chains
from rlm_agent.graphs.shared.retrieving import furnish
from rlm_agent.models.resolve import load_policy
from rlm_agent.operators.rules.adaptive import agreed
from rlm_agent.operators.select import vote
from rlm_agent.structure.errors import InputError
from rlm_agent.tasks.answers import normalise


@takes_context
def create_self_consistency(
    model: Model = "mini",
    *,
    n: int = 40,
    parallel: int | None = None,
    agreement: float | None = None,
    **common: Unpack[Common],
) -> Reasoner:
    """A reasoner that samples `n` chains (the paper: 40), `parallel` at a time, and lets them vote.

    parallel: None begins all at once, or, with an agreement, one after the other.
    agreement: end as soon as the leading answer is, with this probability, the likelier one of the two most
        frequent, or cannot be overtaken any more: Adaptive-Consistency (arXiv 2305.11860; .95 there) with its
        Beta criterion. Chains that are under way then are left.

    Answers are normalised before they are compared; ties go to the first seen. A verifier has no vote, but
    ends the search where it accepts an answer, unless `stop_when_verified=False`. Deviation: the default
    temperature is 1, for policies with good coverage. Chains may call `tools` and ask a
    `retriever`. `common` is documented at `Common`.
    """
    if agreement is None:
        select = sample_chains(n, parallel)
    elif not 0.5 < agreement <= 1:
        raise InputError(f"agreement={agreement} is no majority; give a number above .5, up to 1, or None")
    else:
        select = sample_chains(n, parallel or 1, agreement_of(agreement))
    policy = load_policy(model)
    strategy, means = furnish("self_consistency", policy, common, alternatives=1)
    rules = Rules(
        select=select,
        expand=means.expand,
        traced=means.traced,
        answer=lambda graph, ids: vote(graph, ids, normalise),
    )
    return build(strategy, policy, rules, common)


def agreement_of(least: float) -> Callable[[Search, int], bool]:
    """Whether the answers of a search agree, given the number of chains that are still to vote."""

    def enough(search: Search, outstanding: int) -> bool:
        graph = search.graph
        news = any(graph.thoughts[id]["kind"] == "final" for id in search.run["fresh"])
        return news and agreed(
            [normalise(graph.thoughts[id]["answer"]) for id in graph.ends()], outstanding, least
        )

    return enough
