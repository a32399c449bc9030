"""The Enhanced Borda Count of a search's solutions, kept up to date from round to round.

Source: LLaMA-Berry (Zhang et al., arXiv 2410.02884). Preferences P(i ≻ j) make a win-loss matrix
M_ij = [P(i ≻ j) ≥ ½], its transitive closure C gives each one its Borda count Σ_j C_ij, those of equal counts
are compared softly by P, and the rank becomes the quantile 1 − (rank − 1) / (n − 1).

A ranking holds nothing that does not follow from the thoughts and their `Stats.preferences`, so that it can
be made again at any time. A new solution costs a few operations on arrays with an element a solution.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from rlm_agent.operators.rules.borda import Admissions, highest_ranked, is_ranked, standing
from rlm_agent.operators.rules.closure import Closure
from rlm_agent.operators.rules.column import Column, dense, quantiles
from rlm_agent.operators.rules.local import LocalScores
from rlm_agent.operators.rules.shares import Numbers, Places, Shares
from rlm_agent.structure.thoughts import Stats, ThoughtGraph, Writes

_DIGITS = 9
_KEY = "ranking"


class Ranking:
    """The thoughts that were admitted, in that order (`ids`), and what each is worth among them.

    Of its global score Q_g and its local score Q_l, both in [0, 1], a thought gets α · Q_g + (1 − α) · Q_l,
    or Q_g alone where there is no Q_l, and then a share γ of its children's (`Shares`). That, brought to
    [-1, 1], is their `worth`, of shape (n,). `said` are the texts of the thoughts, and `offspring` the
    admitted children of each.

    A win is P ≥ ½. One of a higher `standing` is surely better than one of a lower, unasked. Q_l is the mean
    of P against those of its parent and its children of whom it is known.

    Deviations: a cycle of preferences gives no win against oneself, and a pair that was never compared is won
    by nobody unless others lead from one to the other. The softer comparison sums up P against all of equal
    count, ½ where unknown. Those that are equal in that, too, share the mean of their ranks (the paper leaves
    them open), so that all are worth ½ where nothing is known, and so is a single one, for which the paper
    has 0 / 0.
    """

    def __init__(self, *, alpha: float, gamma: float) -> None:
        self.ids: list[str] = []
        self.place: dict[str, int] = {}
        self.said: set[str] = set()
        self.offspring: dict[str, list[str]] = defaultdict(list)
        self.worth: Numbers = np.empty(0)
        self._q: Any = self.worth.data  # which has single numbers faster
        self._admissions = Admissions()
        self._shares = Shares(gamma)
        self._closure = Closure()
        self._known: list[dict[int, float]] = []
        self._tally = [0, 0, 0]
        self._heights = Column(np.intp)
        self._components = Column(np.intp)
        self._excess = Column(np.float64)
        self._cyclic = False
        self._local = LocalScores(alpha)
        self._order: Places = np.empty(0, np.intp)

    @classmethod
    def of(cls, graph: ThoughtGraph, *, alpha: float, gamma: float) -> "Ranking":
        """The ranking of a graph: that which was kept from the last round, or a new one, as after a stop."""
        kept = graph.index.derived.get(_KEY)
        ranking: Ranking = kept if kept and kept.follows(graph) else cls(alpha=alpha, gamma=gamma)
        graph.index.derived[_KEY] = ranking
        ranking.take_up(graph)
        return ranking

    def follows(self, graph: ThoughtGraph) -> bool:
        """Whether what it holds is the beginning of the ranking of a graph.

        It is not where a node is tried again that had come further.
        """
        return not self.ids or is_ranked(graph.stats[self.ids[-1]])

    def take_up(self, graph: ThoughtGraph) -> None:
        """Take up the thoughts that were admitted since."""
        new = self._admissions.since(graph)
        for id in new:
            self._add(graph, id)
        if new:
            worth = self._shares.passed_up(self._local.mixed(self.quantiles()))
            worth *= 2
            worth -= 1
            self.worth, self._q = worth, worth.data

    def q(self, id: str) -> float:
        """What a ranked thought is worth, brought to [-1, 1]."""
        q: float = self._q[self.place[id]]
        return q

    def highest(self, graph: ThoughtGraph, ids: Sequence[str]) -> str | None:
        """The thought of the highest q among `ids`, as `highest_ranked` has it."""
        return highest_ranked(graph, ids, dict(zip(self.ids, self.worth.tolist(), strict=True)))

    def ordered(self) -> Places:
        """The numbers of the thoughts by q, the best first; of equal ones the elder first."""
        known, worse = self._order, -self.worth
        if len(known) < len(worse):  # little moves in a round, so that the last order is nearly the new one
            known = np.concatenate((known, np.arange(len(known), len(worse))))
            found = worse.take(known)
            order = found.argsort(kind="stable")
            known, found = known.take(order), found.take(order)
            level = found[1:] == found[:-1]
            if level.any() and (level & (known[1:] < known[:-1])).any():
                known = np.argsort(worse, kind="stable")
            self._order = known
        return known

    def open_to_doubt(self) -> Places:
        """Of the thoughts `ordered`, those of a standing of 1."""
        order = self.ordered()
        return order if self._tally[1] == len(order) else order[self._heights.all[order] == 1]

    def quantiles(self) -> Numbers:
        """The global score Q_g of each thought: 1 for the first, 0 for the last; shape (n,)."""
        wins = self.wins()
        return quantiles(dense(wins, self._excess.all) if self._cyclic else wins)

    def wins(self) -> Places:
        """The Borda count of each thought: against how many others it wins, directly or through others."""
        counts = self._closure.counts
        if len(self.ids) in self._tally:  # of one standing, as nearly always
            return counts
        return np.asarray(counts + np.cumsum([0, *self._tally])[self._heights.all])

    def writes(self, graph: ThoughtGraph) -> Writes:
        """The q of all, for those who read it in the statistics."""
        return self.noted(Writes({}, {id: graph.stats[id] for id in self.ids}))

    def noted(self, writes: Writes) -> Writes:
        """These writes of statistics, with the q of the thoughts that they are of."""
        place, q = self.place, self.q
        noted: dict[str, Stats] = {
            id: {**stats, "q": q(id)} if id in place else stats for id, stats in writes.stats.items()
        }
        return Writes(writes.thoughts, noted)

    def _add(self, graph: ThoughtGraph, id: str) -> None:
        new, height = len(self.ids), standing(graph, id)
        self.ids.append(id)
        self.said.add(graph.thoughts[id]["text"].strip())
        self._heights.append(height)
        self._tally[height] += 1
        heights, place = self._heights.all, self.place
        said = [(place[other], p) for other, p in graph.stats[id]["preferences"].items() if other in place]
        known = {other: p for other, p in said if heights[other] == height}
        self._known.append(known)
        for other, p in known.items():
            self._known[other][new] = 1 - p
        self._components.append(new)
        self._excess.append(0.0)
        self._compare(new)
        self.place[id] = new
        self._adopt(graph.thoughts[id]["parent"], new)

    def _compare(self, new: int) -> None:
        """Enter a new one into the closure, and weigh those anew whose cycles it has changed."""
        known = self._known[new]
        below = [other for other, p in known.items() if p >= 0.5]
        above = [other for other in known if self._known[other][new] >= 0.5]
        cycle = self._closure.add(below, above)
        if len(cycle) == 1:
            return
        labels = self._components.all[cycle]
        largest = np.bincount(labels).argmax()
        joined = cycle[labels != largest].tolist()
        self._components.all[joined] = largest
        for one in set(joined).union(*(self._known[other] for other in joined)):
            self._excess.all[one] = self._softly(one)
        self._cyclic = bool(self._excess.all.any())

    def _softly(self, one: int) -> float:
        """By how much the sum of its P against those of its count exceeds ½ each.

        Two that were compared have the same count only if each wins against the other: within a cycle.
        """
        components = self._components.all
        known = [p for other, p in self._known[one].items() if components[other] == components[one]]
        return round(math.fsum([*known, -0.5 * len(known)]), _DIGITS)

    def _adopt(self, parent: str | None, new: int) -> None:
        """Enter a new one under its parent, and what is known of the two into their local scores."""
        elder = self.place.get(parent or "")
        self._shares.add(elder)
        self._local.add()
        if parent is not None:
            self.offspring[parent].append(self.ids[new])
        if elder is None:
            return
        for one, other in ((new, elder), (elder, new)):
            if (p := self._between(one, other)) is not None:
                self._local.note(one, p)

    def _between(self, one: int, other: int) -> float | None:
        """P(one ≻ other), as far as it is known."""
        heights = self._heights.all
        if heights[one] != heights[other]:
            return float(heights[one] > heights[other])
        return self._known[one].get(other)
