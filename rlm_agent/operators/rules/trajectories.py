"""Trajectories of moves, each a step with the observation of what came of it, simulated from a leaf.

Source: LATS (Zhou et al., arXiv 2310.04406), §4, and the authors' code for HotPotQA.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

from rlm_agent.models.drive import Asking
from rlm_agent.operators.evaluate import evaluate
from rlm_agent.operators.prune import alike, close, duplicates, twin
from rlm_agent.operators.rules.means import Means
from rlm_agent.operators.rules.observations import is_observation, observed
from rlm_agent.operators.select import best, own_value
from rlm_agent.operators.setting import Outcome, Setting, nothing, only
from rlm_agent.structure.budget import Allowance
from rlm_agent.structure.index import ENDS
from rlm_agent.structure.thoughts import ThoughtGraph
from rlm_agent.tasks.answers import normalise


@dataclass(frozen=True, slots=True)
class Simulation:
    """How moves are simulated: so many new ones (`branching`) at each thought on the way, up to `depth` moves
    a chain, valued by λ = `share` as in `value`, with `means` or without.
    """

    branching: int
    depth: int
    share: float
    means: Means = field(default_factory=Means)

    def run(
        self, graph: ThoughtGraph, start: str, count: int, setting: Setting, allowance: Allowance
    ) -> Asking[Outcome]:
        """Write `count` moves under `start` and value them, then more under the best of them, and so on to an
        end. `outputs` are all new thoughts; repeats are closed unvalued, and so are moves at the depth limit.
        """
        outcome, id = nothing(), start
        while True:
            grown, left = graph.updated(outcome.writes), allowance.less(outcome.usage)
            written = yield from self.means.advance(grown, [(id, count)], setting, left)
            grown, left = grown.updated(written.writes), left.less(written.usage)
            whole = [new for new in written.outputs if observed(grown, new) == twin(grown, new) == new]
            judged = yield from evaluate(grown, whole, setting, left)
            outcome = outcome.followed_by(written).followed_by(replace(judged, outputs=[]))
            grown = graph.updated(outcome.writes)
            outcome = outcome.followed_by(only(close(grown, self._over(grown, written.outputs))))
            grown = graph.updated(outcome.writes)
            following = self.following(grown, id, written.outputs)
            if following is None or grown.stats[following]["closed"]:
                return outcome
            id, count = following, self.branching

    def value(self, graph: ThoughtGraph, id: str) -> float:
        """V = λ · LM + (1 − λ) · SC of a move, in [0, 1]: LM is what the value model says of it with its
        observation, SC its `agreement`; SC alone where no model has said anything.
        """
        known, consistency = graph.stats[observed(graph, id)]["value"], agreement(graph, id)
        return consistency if known is None else self.share * known + (1 - self.share) * consistency

    def following(self, graph: ThoughtGraph, id: str, fresh: Collection[str]) -> str | None:
        """The move that a simulation goes on with from another: among the `fresh` ones under it, the best
        that ends the chain or, where none does, that of the highest value; None where all failed or repeat.
        """
        new = [child for child in graph.children(observed(graph, id)) if child in fresh]
        ends = [child for child in new if graph.thoughts[child]["kind"] == "final"]
        return best(graph, ends, own_value) or best(graph, _usable(graph, new), self.value)

    def reward(self, graph: ThoughtGraph, start: str, fresh: Collection[str]) -> tuple[str, float]:
        """Where the simulation came to that began at `start` and wrote `fresh`, and its return in [-1, 1].

        2v − 1 for the value v of the end of a chain, 0 where nobody has judged it; −1 where no new move was
        of use or the depth limit was reached, and 2V − 1 of the last move where an allowance ended it.
        """
        end = start
        while (following := self.following(graph, end, fresh)) is not None:
            end = following
        place, known = observed(graph, end), graph.stats[end]["value"]
        if graph.thoughts[end]["kind"] == "final":
            return place, 0.0 if known is None else 2 * known - 1
        if any(child in fresh for child in graph.children(place)) or moves(graph, end) >= self.depth:
            return place, -1.0
        return place, 2 * self.value(graph, end) - 1

    def _over(self, graph: ThoughtGraph, fresh: Sequence[str]) -> list[str]:
        return duplicates(graph, fresh) + [id for id in fresh if moves(graph, id) >= self.depth]


def moves(graph: ThoughtGraph, id: str) -> int:
    """How many steps of a chain are the policy's own."""
    return sum(not is_observation(graph, step) for step in graph.chain(id))


def agreement(graph: ThoughtGraph, id: str) -> float:
    """Self-consistency: the share of a thought's siblings, all counted, that say the same."""
    parent = graph.thoughts[id]["parent"]
    return 1.0 if parent is None else len(alike(graph, id)) / graph.stats[parent]["children"]


def new_failures(graph: ThoughtGraph, fresh: Sequence[str], most: int) -> list[str]:
    """The first end among `fresh` of each wrong answer not reflected on yet: `most`, with those that were.

    None where a right one is among them. Wrong is what a verifier rejects, so ask only where there is one.
    """
    values = {id: graph.stats[id]["value"] for id in fresh if graph.thoughts[id]["kind"] == "final"}
    wrong = [id for id, value in values.items() if value == 0.0]
    if not wrong or 1.0 in values.values():
        return []
    known_ends = reflected(graph, most)
    known = {normalise(graph.thoughts[id]["answer"]) for id in known_ends}
    first: dict[str, str] = {}
    for id in wrong:
        first.setdefault(normalise(graph.thoughts[id]["answer"]), id)
    return [id for answer, id in first.items() if answer not in known][: most - len(known_ends)]


def reflected(graph: ThoughtGraph, most: int) -> list[str]:
    """The first `most` ends that were reflected on."""
    return list(islice((id for id in graph.find(ENDS) if "feedback" in graph.stats[id]), most))


def _usable(graph: ThoughtGraph, ids: Sequence[str]) -> list[str]:
    """Those of `ids` that can be gone on from, and repeat no sibling."""
    going_on = [id for id in ids if graph.thoughts[observed(graph, id)]["kind"] == "step"]
    return [id for id in going_on if twin(graph, id) == id]
