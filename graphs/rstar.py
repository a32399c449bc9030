"""rStar: tree search over five reasoning actions, whose answers a second model has to come to as well.

Source: Qi et al., arXiv 2408.06195, §3.2 (the search) and §3.3 (mutual consistency), and the authors' code
for what the paper leaves open.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from typing_extensions import Unpack

from rlm_agent.graphs.machine.common import Common, Model, build
from rlm_agent.graphs.machine.graph import takes_context
from rlm_agent.graphs.machine.rules import Reasoner, Rules, Search
from rlm_agent.models.drive import Asking
from rlm_agent.models.prompts import prompts_of
from rlm_agent.models.protocols import Policy
from rlm_agent.models.resolve import load_policy
from rlm_agent.operators.backpropagate import average
from rlm_agent.operators.evaluate import verify
from rlm_agent.operators.prune import exhausted
from rlm_agent.operators.rules.actions import STEP, SUBQUESTION, following, known_actions
from rlm_agent.operators.rules.consistency import best_agreed, confidences, discriminate, is_probe, own_ends
from rlm_agent.operators.rules.rollouts import roll_out, rollout_end, unseen_first
from rlm_agent.operators.select import follow, own_value, uct_scores
from rlm_agent.operators.setting import Outcome, Setting
from rlm_agent.operators.writing import Plan
from rlm_agent.structure.budget import Allowance
from rlm_agent.structure.errors import InputError
from rlm_agent.structure.thoughts import ThoughtGraph, Writes


@takes_context
def create_rstar(
    model: Model = "mini",
    *,
    actions: Sequence[str] | None = None,
    branching: int = 5,
    depth: int = 5,
    c: float = 2.0,
    simulations: int | None = None,
    discriminator: str | Path | Policy | None = None,
    completions: int = 1,
    **common: Unpack[Common],
) -> Reasoner:
    """A reasoner that grows a tree of actions by rollouts, and answers as far as a second model agrees.

    actions: of `operators.rules.actions.ACTIONS`: A1 `step`, A2 `finish`, A3 `subquestion`, A4 `answer`, A5
        `rephrase`; None takes those that the policy has learned. `mini` has learned none but the first two.
    branching: how many children A1 and A3 each make (5; 3 in the authors' code); the others make one.
    depth: how many actions a chain may take (5, and 8 on MATH). c: exploration in UCT (2 in their code).
    simulations: bound on the rollouts (32; 16 in their script); None leaves it to the budget.
    discriminator: the second model (Phi3-mini in the paper); by default the policy itself.
    completions: how often it completes each finished chain (1; 4 in their code); 0 trusts the search alone.

    In a round, the thought that UCT comes to takes all actions that may follow it, then a random one of
    its new children does, and so on to an end; children that nobody has visited come first, at random. The
    reward of a finished chain is its confidence, the share of the finished chains that have its answer, or,
    with a verifier, its verdict. Of the chains that the discriminator comes to as well, or of all where there
    are none, that of the highest mean reward along its path times its confidence holds the answer.

    Deviations: the authors take the confidence of 32 samples for each A2; here every finished chain
    votes, is backed up in the round that wrote it, and is discriminated at once, so that no budget has to be
    set aside. A2 writes its steps one by one. A5 adds a step where they replace the question. Of equal
    siblings by one action all but the first are closed, as is a thought whose children all are; the root acts
    anew. With a verifier, nobody discriminates. No value model is asked. How the paper forms a
    trajectory's reward from those of its steps is not known to us. `common` is documented at `Common`. Raises
    `InputError` for an action that the policy has not learned, such as A3 to A5 of `mini`.
    """
    _check(branching, depth, c, simulations, completions)
    policy = load_policy(model)
    second = policy if discriminator is None else load_policy(discriminator)
    known = known_actions(actions, prompts_of(policy))
    scores = uct_scores(c)

    def wanted(graph: ThoughtGraph, id: str) -> list[str]:
        many = {STEP: branching, SUBQUESTION: branching}
        return [one for one in following(graph.thoughts[id], known) for _ in range(many.get(one, 1))]

    def select(search: Search) -> Plan:
        graph = search.graph
        prefer = unseen_first(scores, search.setting.seed)
        leaf = follow(graph, lambda graph, id: not graph.stats[id]["children"], prefer) or graph.root
        return [(leaf, len(wanted(graph, leaf)))]

    def expand(graph: ThoughtGraph, plan: Plan, setting: Setting, allowance: Allowance) -> Asking[Outcome]:
        outcome = yield from roll_out(graph, plan[0][0], wanted, depth, setting, allowance)
        ends = [id for id in outcome.outputs if outcome.writes.thoughts[id]["kind"] == "final"]
        if not ends or not completions or setting.verifier is not None:
            return outcome
        if second is not policy:
            setting = replace(setting, policy=second, decoding=second.decoding)
        grown, left = graph.updated(outcome.writes), allowance.less(outcome.usage)
        return outcome.followed_by((yield from discriminate(grown, ends, setting, left, completions)))

    rules = Rules(
        select=select,
        expand=expand,
        evaluate=verify,
        backpropagate=_backpropagate,
        answer=best_agreed,
        rounds=simulations,
    )
    # A stored search is not gone on with against another discriminator.
    strategy = "rstar" if second is policy else f"rstar against {second.identity}"
    common["name"] = common.get("name") or "rstar"
    return build(strategy, policy, rules, common)


def _backpropagate(search: Search) -> Writes:
    graph, run = search.graph, search.run
    fresh = [id for id in run["fresh"] if not is_probe(graph, id)]
    ends = [id for id in fresh if graph.thoughts[id]["kind"] == "final"]
    if search.setting.verifier is None:
        reward = confidences(graph, own_ends(graph, graph.ends()))
    else:
        reward = {id: own_value(graph, id) for id in ends}
    returns = [(id, 2 * reward[id] - 1) for id in ends]
    last = rollout_end(graph, run["plan"][0][0], fresh, search.setting.seed)
    came_to_nothing = graph.stats[last]["closed"] or graph.stats[last]["children"] > 0
    if came_to_nothing and last not in (graph.root, *ends):
        returns.append((last, -1.0))
    writes = average(graph, returns)
    return writes.followed_by(exhausted(graph.updated(writes), fresh, lambda graph, id: id != graph.root))


def _check(branching: int, depth: int, c: float, simulations: int | None, completions: int) -> None:
    if branching < 1 or depth < 1 or (simulations is not None and simulations < 1):
        raise InputError(
            f"branching={branching}, depth={depth}, simulations={simulations} grow no tree; give at least 1"
        )
    if not 0 <= c < math.inf or completions < 0:
        raise InputError(f"c={c}, completions={completions}: give numbers of at least 0")
