"""A strategy of your own is a page: iterative broadening, over the rules and operators of the package.

Ginsberg and Harvey, "Iterative broadening" (AAAI 1990): search depth first with one child a thought; where
that ends without an answer, search again with two, then three. What was written stays, and is not paid twice.
"""

from collections.abc import Callable

from typing_extensions import Unpack

from rlm_agent import Budget, ThoughtGraph
from rlm_agent.graphs.machine.common import Common, Model, build
from rlm_agent.graphs.machine.rules import Reasoner, Rules, Search
from rlm_agent.graphs.shared.beams import best_answer, ranking
from rlm_agent.operators.backtrack import backtrack
from rlm_agent.operators.prune import close, duplicates
from rlm_agent.operators.writing import Plan
from rlm_agent.structure.errors import InputError
from rlm_agent.structure.thoughts import Writes


def create_iterative_broadening(
    model: Model = "mini", *, most: int = 8, **common: Unpack[Common]
) -> Reasoner:
    """A reasoner that searches depth first with 1, 2, … `most` children a thought, the best of them first."""
    if most < 1:
        raise InputError(f"most={most} writes nothing; give at least 1")
    score = ranking(common)  # by the value, or else by the likelihood of the chain

    def select(search: Search) -> Plan:
        """A child for the first thought in depth-first order that is short of one; no plan ends the run."""
        if search.graph.finals() and search.setting.verifier is None:
            return []
        waiting = (backtrack(search.graph, score, short_of(breadth)) for breadth in range(1, most + 1))
        return [(id, 1) for id in waiting if id is not None][:1]

    def prune(search: Search) -> Writes:
        """A step that an elder sibling has said already leads nowhere new."""
        return close(search.graph, duplicates(search.graph, search.run["fresh"]))

    return build("iterative_broadening", model, Rules(select, best_answer, prune=prune), common)


def short_of(breadth: int) -> Callable[[ThoughtGraph, str], bool]:
    """Whether a thought that can be continued has less than so many children."""
    return lambda graph, id: not graph.stats[id]["closed"] and graph.stats[id]["children"] < breadth


if __name__ == "__main__":
    reasoner = create_iterative_broadening("mini", value="head", budget=Budget(tokens=3000), seed=1)
    result = reasoner.invoke({"messages": [("user", "4 9 10 13 : 24")]})
    print(result["answer"], result["usage"])
    print(reasoner.get_graph().draw_mermaid())
