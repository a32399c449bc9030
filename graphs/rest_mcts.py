"""ReST-MCTS*: tree search guided by a process value, with a short greedy rollout from the best new step.

Source: Zhang et al., arXiv 2406.03816, the search MCTS* (section 3 and appendix), and the authors' code for
what the paper leaves open.
"""

import time
from collections.abc import Sequence
from dataclasses import replace

from typing_extensions import Unpack

from rlm_agent.graphs.machine.common import Common, Model, build
from rlm_agent.graphs.machine.graph import takes_context
from rlm_agent.graphs.machine.rules import Reasoner, Rules, Search
from rlm_agent.graphs.shared.beams import best_answer
from rlm_agent.models.drive import Asking
from rlm_agent.operators.backpropagate import backpropagate, expected_value
from rlm_agent.operators.evaluate import evaluate
from rlm_agent.operators.generate import generate
from rlm_agent.operators.prune import all_closed, close, duplicates, exhausted, twin
from rlm_agent.operators.select import best, follow, own_value, uct
from rlm_agent.operators.setting import Outcome, Setting
from rlm_agent.operators.writing import Plan
from rlm_agent.structure.budget import Allowance, Usage, no_usage
from rlm_agent.structure.errors import InputError
from rlm_agent.structure.thoughts import ThoughtGraph, Writes


@takes_context
def create_rest_mcts(
    model: Model = "mini",
    *,
    branching: int = 3,
    c: float = 0.7,
    rollout: int = 3,
    alpha: float = 0.5,
    threshold: float = 0.9,
    simulations: int | None = None,
    **common: Unpack[Common],
) -> Reasoner:
    """A reasoner that grows a tree by values V in [0, 1], one expansion and one short rollout a round.

    branching: new steps of an expanded thought. c: exploration, see `operators.select.uct`.
    rollout: how many steps, of one sample each, are carried on from the best new step; 0 for none.
    alpha: that step's V becomes (1 − α) · V + α · the largest value of the rollout.
    threshold: without a verifier, the first finished chain of at least this value ends the search.
    simulations: bound on the rounds; None leaves it to the budget. All defaults are the authors'.

    V is a thought's own value before its first visit and, above a visited one, the mean of the visited
    children's, weighted by visits; the state's q is 2V − 1. The best finished chain holds the answer.

    Deviations: the paper's value model is trained on `quality_value`; one that gives probabilities of
    success is used as it is, and what nobody has valued counts ½. The paper ends at any selected thought of
    V ≥ .9, but only finished chains hold an answer here. The rollout's steps stay in the tree and count
    among their parents' `branching` children. Equal siblings are closed, and so is a thought whose children
    all are; the root gets `branching` new ones instead. There is no self-critic to ask whether a chain
    has ended: a chain ends itself. `common` is documented at `Common`.
    """
    _check(branching, c, rollout, alpha, threshold, simulations)

    def missing(graph: ThoughtGraph, id: str) -> int:
        return max(0, branching - graph.stats[id]["children"])

    def wants_children(graph: ThoughtGraph, id: str) -> bool:
        return missing(graph, id) > 0 or all_closed(graph, graph.children(id))

    def given_up(graph: ThoughtGraph, id: str) -> bool:
        return id != graph.root and not missing(graph, id)

    def scores(graph: ThoughtGraph, id: str, children: Sequence[str]) -> list[float]:
        visits = {id: graph.stats[id]["visits"] for id in (id, *children)}
        return [uct(expected_value(graph, child), visits[id], visits[child], c=c) for child in children]

    def select(search: Search) -> Plan:
        graph = search.graph
        done = search.setting.verifier is None and good(graph, search.run["fresh"], threshold)
        leaf = None if done else follow(graph, wants_children, scores)
        return [] if leaf is None else [(leaf, missing(graph, leaf) or branching)]

    def expand(graph: ThoughtGraph, plan: Plan, setting: Setting, allowance: Allowance) -> Asking[Outcome]:
        outcome = yield from _generate_valued(graph, plan, setting, allowance)
        grown = graph.updated(outcome.writes)
        id = best_new(grown, plan[0][0])
        for _ in range(rollout):
            if id is None or grown.stats[id]["closed"]:
                break
            left = allowance.less(outcome.usage)
            step = yield from _generate_valued(grown, [(id, 1)], setting, left)
            outcome = outcome.followed_by(step)
            grown = graph.updated(outcome.writes)
            id = next((twin(grown, id) for id in step.outputs), None)
        return outcome

    def backup(search: Search) -> Writes:
        graph, fresh = search.graph, search.run["fresh"]
        expanded = search.run["plan"][0][0]
        rolled = [twin(graph, id) for id in fresh if graph.thoughts[id]["parent"] != expanded]
        leaf = best_new(graph, expanded) or expanded
        value = expected_value(graph, leaf)
        ahead = max((expected_value(graph, id) for id in rolled), default=value)
        q = 2 * ((1 - alpha) * value + alpha * ahead) - 1
        writes = backpropagate(graph, leaf, q, learning_rate=1.0, smoothing=0)
        return writes.followed_by(exhausted(graph.updated(writes), fresh, given_up))

    rules = Rules(select=select, expand=expand, backpropagate=backup, answer=best_answer, rounds=simulations)
    return build("rest_mcts", model, rules, common)


def good(graph: ThoughtGraph, ids: Sequence[str], threshold: float) -> bool:
    """Whether one of these thoughts ends a chain and has at least that value."""
    return any(graph.thoughts[id]["kind"] == "final" and own_value(graph, id) >= threshold for id in ids)


def best_new(graph: ThoughtGraph, id: str) -> str | None:
    """The child of the highest V among those not visited, not failed and no repeats; None without any."""
    new = [child for child in graph.children(id) if not graph.stats[child]["visits"]]
    usable = [child for child in new if graph.thoughts[child]["kind"] != "failed"]
    return best(graph, [child for child in usable if twin(graph, child) == child], expected_value)


def _generate_valued(
    graph: ThoughtGraph, plan: Plan, setting: Setting, allowance: Allowance
) -> Asking[Outcome]:
    """`generate`, then `evaluate` at once, as a greedy rollout needs it; repeats are closed."""
    written = yield from generate(graph, plan, setting, allowance)
    grown, started = graph.updated(written.writes), time.monotonic()
    judged = yield from evaluate(grown, written.outputs, setting, allowance.less(written.usage))
    grown = grown.updated(judged.writes)
    seconds = time.monotonic() - started
    outcome = written.followed_by(
        replace(judged, outputs=[], usage=Usage({**judged.usage, "seconds": seconds}))
    )
    return outcome.followed_by(Outcome(close(grown, duplicates(grown, written.outputs)), [], no_usage()))


def _check(
    branching: int, c: float, rollout: int, alpha: float, threshold: float, simulations: int | None
) -> None:
    if branching < 1 or rollout < 0 or (simulations is not None and simulations < 1):
        raise InputError(
            f"branching={branching}, rollout={rollout}, simulations={simulations} grow no tree; "
            "give at least 1, 0 and 1"
        )
    if not c >= 0 or not 0 <= alpha <= 1 or not 0 <= threshold <= 1:
        raise InputError(
            f"c={c}, alpha={alpha}, threshold={threshold}: give at least 0, and numbers in [0, 1]"
        )
