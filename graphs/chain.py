"""Chain of thought: one chain, step by step (Wei et al., arXiv 2201.11903)."""

from typing_extensions import Unpack

from rlm_agent.graphs.machine.common import Common, Model, build
from rlm_agent.graphs.machine.rules import Reasoner, Rules, Search
from rlm_agent.operators.select import best, open_leaves
from rlm_agent.operators.writing import Plan


def create_chain(model: Model = "mini", **common: Unpack[Common]) -> Reasoner:
    """A reasoner that writes one chain and answers with its end.

    Greedy unless a `temperature` is given. `common` is documented at `Common`.
    """

    def select(search: Search) -> Plan:
        return [(id, 1) for id in open_leaves(search.graph)]

    return build("chain", model, Rules(select=select, answer=best), common, temperature=0.0)
