"""Chain of thought: one chain, step by step (Wei et al., arXiv 2201.11903)."""

from typing_extensions import Unpack

from rlm_agent.graphs.machine.common import Common, Model, build
from rlm_agent.graphs.machine.graph import takes_context
from rlm_agent.graphs.machine.rules import Reasoner, Rules
from rlm_agent.graphs.shared.beams import onward
from rlm_agent.graphs.shared.retrieving import furnish
from rlm_agent.models.resolve import load_policy
from rlm_agent.operators.select import best


@takes_context
def create_chain(model: Model = "mini", **common: Unpack[Common]) -> Reasoner:
    """A reasoner that writes one chain and answers with its end.

    Greedy unless a `temperature` is given; with tools or a retriever, it is `create_react`. `common` is
    documented at `Common`.
    """
    policy = load_policy(model)
    strategy, means = furnish("chain", policy, common, committed=True, alternatives=1)
    rules = Rules(select=onward, expand=means.expand, answer=best, traced=means.traced)
    return build(strategy, policy, rules, common, temperature=0.0)
