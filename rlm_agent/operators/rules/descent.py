"""Where LLaMA-Berry's search goes on: down its ranked solutions by UCT (Zhang et al., arXiv 2410.02884)."""

from collections.abc import Sequence
from dataclasses import dataclass

from rlm_agent.operators.prune import all_closed
from rlm_agent.operators.rules.ranking import Ranking
from rlm_agent.operators.select import follow, uct_below
from rlm_agent.operators.writing import Plan
from rlm_agent.structure.thoughts import ThoughtGraph


@dataclass(frozen=True, slots=True)
class Descent:
    """The way down a graph whose solutions are ranked; the parameters are those of `create_llama_berry`."""

    ranking: Ranking
    starts: int
    max_children: int
    patience: int
    c: float

    def plan(self, graph: ThoughtGraph) -> Plan:
        """The solution to be rewritten, or the question, which gets all starts; nothing if all is closed."""
        leaf = follow(graph, self.wants_children, self.scores, self.offspring)
        missing = self.starts - graph.stats[graph.root]["children"]
        return [] if leaf is None else [(leaf, max(1, missing) if leaf == graph.root else 1)]

    def given_up(self, graph: ThoughtGraph, id: str) -> bool:
        """Whether too many rewrites of a solution have said nothing new."""
        barren = graph.stats[id]["children"] - len(self.offspring(graph, id))
        return id != graph.root and barren >= self.patience

    def wants_children(self, graph: ThoughtGraph, id: str) -> bool:
        """Whether a solution is not yet fully explored, or there is nothing left to explore below it."""
        count, below = graph.stats[id]["children"], self.offspring(graph, id)
        if id == graph.root:
            return count < self.starts or all_closed(graph, below)
        if count < self.max_children:
            return True
        stats, q, own = graph.stats, self.ranking.q, self.ranking.q(id)
        goes_deeper = any(q(child) > own and not stats[child]["closed"] for child in below)
        return not goes_deeper and not self.given_up(graph, id)

    def scores(self, graph: ThoughtGraph, id: str, children: Sequence[str]) -> list[float]:
        """UCT of the children by their q, brought to [0, 1]; the parent is visited once more, as in MCTSr."""
        stats, q = graph.stats, self.ranking.q
        score = uct_below(stats[id]["visits"] + 1, c=self.c)
        return [score((q(child) + 1) / 2, stats[child]["visits"]) for child in children]

    def offspring(self, graph: ThoughtGraph, id: str) -> Sequence[str]:
        """The children that were admitted; the others are closed."""
        return self.ranking.offspring.get(id, ())
