"""LATS: Monte Carlo tree search over thoughts, actions and observations, with reflections on failures.

Source: Zhou et al., arXiv 2310.04406, and the authors' code for HotPotQA for the numbers and what the paper
leaves open.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

from typing_extensions import Unpack

from rlm_agent.graphs.machine.common import Common, Model, build
from rlm_agent.graphs.machine.graph import takes_context
from rlm_agent.graphs.machine.rules import Reasoner, Rules, Search
from rlm_agent.graphs.shared.beams import best_answer
from rlm_agent.graphs.shared.retrieving import furnish
from rlm_agent.models.drive import Asking
from rlm_agent.models.prompts import prompts_of
from rlm_agent.models.resolve import load_policy
from rlm_agent.operators.backpropagate import average
from rlm_agent.operators.edit import human
from rlm_agent.operators.evaluate import evaluate, verify
from rlm_agent.operators.prune import all_closed, exhausted
from rlm_agent.operators.refine import critique, recalling
from rlm_agent.operators.rules.observations import observed
from rlm_agent.operators.rules.trajectories import Simulation, new_failures, reflected
from rlm_agent.operators.select import follow, uct
from rlm_agent.operators.setting import Outcome, Setting, nothing
from rlm_agent.operators.writing import Plan
from rlm_agent.structure.budget import Allowance
from rlm_agent.structure.errors import InputError
from rlm_agent.structure.thoughts import ThoughtGraph, Writes

_FIRST = 1e6  # above all that a visited child may reach


@takes_context
def create_lats(
    model: Model = "mini",
    *,
    branching: int = 5,
    c: float = math.sqrt(2),
    share: float = 0.5,
    depth: int = 7,
    reflections: int = 3,
    simulations: int | None = 50,
    **common: Unpack[Common],
) -> Reasoner:
    """A reasoner that grows a tree of moves by simulations, and learns from those that failed.

    branching: new moves of an expanded thought (5). depth: how many moves a chain may take (7).
    c: exploration in UCT, q + c · √(ln N / N_child) for q in [-1, 1] (√2 in the authors' code).
    share: λ in the value of a move, V = λ · LM + (1 − λ) · SC: LM is what the value model says of it with its
        observation, and SC the share of its siblings that say the same. ½ is ours.
    reflections: on how many failures with different answers the policy reflects (3 in their code).
    simulations: bound on the rounds (50); None leaves it to the budget.

    A move is a step and, where it calls one of the `tools` or asks the `retriever`, its observation; see
    `create_react`. Tools with effects are not called, since no path is committed. In a round, the leaf that
    UCT comes to gets its moves, unvisited children coming first and the best of them before others; then the
    best new move does, and so on, until a move ends the chain or is the last that `depth` allows. The first
    returns 2v − 1 for its value v, so that an answer that the verifier rejects returns −1, and the second −1;
    q is the mean return. A rejected answer that is new is reflected on: `Stats.feedback` of its thought holds
    the reflection, and the question is put with all of them from then on. The best finished chain holds the
    answer.

    Where the policy has not learned to reflect and to try again, as `mini` has not, or where nobody verifies
    answers, there are no reflections. `mini` knows no tools, so that a move is a step, and refuses to be
    given any. Without a value model, V is SC.

    Deviations: their code has no SC, returns the mean value along a simulation, and 0 above a rejected
    answer; its simulations are dropped, and here they stay in the tree. Of several ends that one batch
    brings, the best returns. Equal siblings are closed, and so is a thought whose children all are; the root
    gets new ones. `common` is documented at `Common`. Raises `InputError` as
    `graphs.shared.retrieving.furnish` does.
    """
    _check(branching, depth, reflections, simulations, c=c, share=share)
    policy = load_policy(model)
    strategy, means = furnish("lats", policy, common, alternatives=1)
    prompts = prompts_of(policy)
    learned = reflections if prompts.reflect and prompts.retry else 0
    simulation = Simulation(branching, depth, share, means)

    def missing(graph: ThoughtGraph, id: str) -> int:
        """How many moves a thought is still short of; one that called a tool has its observation alone."""
        return max(0, branching - graph.stats[id]["children"]) if observed(graph, id) == id else 0

    def wants_children(graph: ThoughtGraph, id: str) -> bool:
        return missing(graph, id) > 0 or all_closed(graph, graph.children(id))

    def given_up(graph: ThoughtGraph, id: str) -> bool:
        return id != graph.root and not missing(graph, id)

    def scores(graph: ThoughtGraph, id: str, children: Sequence[str]) -> list[float]:
        stats = {child: graph.stats[child] for child in children}
        values = [
            one["q"] if one["visits"] else simulation.value(graph, child) for child, one in stats.items()
        ]
        visits, parent = [one["visits"] for one in stats.values()], graph.stats[id]["visits"]
        return [uct(v, parent, n, c=c, unvisited=_FIRST) for v, n in zip(values, visits, strict=True)]

    def select(search: Search) -> Plan:
        leaf = follow(search.graph, wants_children, scores)
        return [] if leaf is None else [(leaf, missing(search.graph, leaf) or branching)]

    def expand(graph: ThoughtGraph, plan: Plan, setting: Setting, allowance: Allowance) -> Asking[Outcome]:
        asking = recalling(graph, reflected(graph, learned), setting) if learned else setting
        outcome = yield from simulation.run(graph, *plan[0], asking, allowance)
        if not learned or setting.verifier is None:
            return outcome
        grown, left = graph.updated(outcome.writes), allowance.less(outcome.usage)
        failures = new_failures(grown, outcome.outputs, learned)
        said = (yield from critique(grown, failures, setting, left, "reflect")) if failures else nothing()
        return outcome.followed_by(replace(said, outputs=[]))

    def backup(search: Search) -> Writes:
        graph, fresh = search.graph, search.run["fresh"]
        if not fresh:
            return Writes({}, {})
        writes = average(graph, [simulation.reward(graph, search.run["plan"][0][0], set(fresh))])
        return writes.followed_by(exhausted(graph.updated(writes), fresh, given_up))

    rules = Rules(
        select=select,
        expand=expand,
        evaluate=_judge,
        backpropagate=backup,
        answer=best_answer,
        rounds=simulations,
        traced=means.traced,
    )
    return build(strategy, policy, rules, common)


def _judge(
    graph: ThoughtGraph, ids: Sequence[str], setting: Setting, allowance: Allowance
) -> Asking[Outcome]:
    """The value model has been asked of the policy's moves as soon as they were written, not of humans'."""
    by_humans = any(human(graph.thoughts[id]) for id in ids)
    return (evaluate if by_humans else verify)(graph, ids, setting, allowance)


def _check(
    branching: int, depth: int, reflections: int, simulations: int | None, *, c: float, share: float
) -> None:
    if branching < 1 or depth < 1 or reflections < 0 or (simulations is not None and simulations < 1):
        raise InputError(
            f"branching={branching}, depth={depth}, reflections={reflections}, simulations={simulations}: "
            "give at least 1, 1, 0 and 1"
        )
    if not 0 <= c < math.inf or not 0 <= share <= 1:
        raise InputError(f"c={c}, share={share}: give at least 0, and a number in [0, 1]")
