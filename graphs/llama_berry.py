"""LLaMA-Berry: Monte Carlo tree search over whole solutions, which are criticised, rewritten and compared.

Source: Zhang et al., arXiv 2410.02884: SR-MCTS, pairwise preferences, the Enhanced Borda Count.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from typing_extensions import Unpack

from rlm_agent.graphs.machine.common import Common, Model, build
from rlm_agent.graphs.machine.graph import takes_context
from rlm_agent.graphs.machine.rules import Reasoner, Rules, Search, Told, tell_steps
from rlm_agent.models.drive import Asking
from rlm_agent.models.preferences import choose_preference
from rlm_agent.models.prompts import prompts_of
from rlm_agent.models.resolve import load_policy, load_value
from rlm_agent.operators.backpropagate import visited
from rlm_agent.operators.evaluate import compare, evaluate
from rlm_agent.operators.generate import generate
from rlm_agent.operators.prune import close, exhausted
from rlm_agent.operators.refine import improve
from rlm_agent.operators.rules.borda import admit
from rlm_agent.operators.rules.descent import Descent
from rlm_agent.operators.rules.ranking import Ranking
from rlm_agent.operators.rules.rivals import new_pairs
from rlm_agent.operators.setting import Outcome, Setting, only
from rlm_agent.operators.writing import Plan
from rlm_agent.structure.budget import Allowance
from rlm_agent.structure.errors import InputError
from rlm_agent.structure.formats import WHOLE
from rlm_agent.structure.steps import Steps
from rlm_agent.structure.thoughts import ThoughtGraph, Writes
from rlm_agent.structure.wholes import in_one
from rlm_agent.tasks.answers import free_answer

RankingOf = Callable[[ThoughtGraph], Ranking]
"""From a graph to the ranking of its solutions."""

_WHOLE = Steps(format=WHOLE, max_tokens=1024, answer=free_answer)  # of a general model


@takes_context
def create_llama_berry(
    model: Model = "mini",
    *,
    starts: int = 1,
    max_children: int = 2,
    c: float = 1.4,
    alpha: float = 0.9,
    gamma: float = 0.1,
    comparisons: int = 8,
    patience: int = 3,
    simulations: int | None = None,
    **common: Unpack[Common],
) -> Reasoner:
    """A reasoner whose thoughts are whole solutions, each a rewrite of its parent in the light of a critique.

    starts: solutions that are sampled first, under the question (the paper: 1).
    max_children: a solution is fully explored, and the search goes on below it, once it has so many rewrites
        and one of them a higher Q (2).
    c: exploration in UCT, Q + c · √(ln (N + 1) / N_child) (1.4).
    alpha: Q = α · Q_g + (1 − α) · Q_l, see `operators.rules.ranking` (0.9).
    gamma: share of a child in the backup, Q ← (1 − γ) · Q + γ · Q_child (0.1).
    comparisons: with how many others a new solution is compared at most; the paper has all.
    patience: a solution is given up after so many rewrites that fail to say anything new.
    simulations: bound on the rounds, the first solution's included (8 or 16); None leaves it to the budget.

    The `preference` compares solutions; by default it is made of the `value` if there is one, else the policy
    is asked. A solution that the step checker refuses is worse than any that stands, unasked, and is
    rewritten like others: a general model gets the reason as the critique, a specialist criticises it. One
    that a verifier accepts is better than all others. What was said before is closed, and so is a solution
    of which the policy has no usable critique. The highest Q holds the answer. The backup is done, and the
    next round planned, within the node `evaluate`.

    Deviations: the constants are recalled but for c and the + 1, which its authors' MCTSr has. The paper
    reads P off the logits of a trained model. Each solution changes the ranks and so all Q, which follow from
    the preferences; the statistics note them as of a solution's last visit, and all when the search ends. Q_l
    is the mean of P over parent and children, as we read it. Patience is ours. `common` is documented at
    `Common`. Raises `InputError` for a specialist that cannot criticise, rewrite and compare.
    """
    _check(starts, max_children, comparisons, patience, simulations, c=c, alpha=alpha, gamma=gamma)
    policy = load_policy(model)
    prompts = prompts_of(policy).having("critique", "rewrite")
    value = load_value(common.pop("value", None), policy)
    common["preference"] = choose_preference(common.get("preference"), value, policy, prompts)
    if isinstance(given := common.get("steps"), Steps):
        common["steps"] = in_one(given)

    ranking_of = partial(Ranking.of, alpha=alpha, gamma=gamma)

    def descent(graph: ThoughtGraph) -> Descent:
        return Descent(ranking_of(graph), starts, max_children, patience, c)

    def expand(graph: ThoughtGraph, plan: Plan, setting: Setting, allowance: Allowance) -> Asking[Outcome]:
        operator = generate if plan[0][0] == graph.root else improve
        return operator(graph, plan, setting, allowance)

    def assess(
        graph: ThoughtGraph, ids: Sequence[str], setting: Setting, allowance: Allowance
    ) -> Asking[Outcome]:
        ranking = ranking_of(graph)
        outcome = yield from evaluate(graph, ids, setting, allowance)
        outcome = outcome.followed_by(only(admit(graph.updated(outcome.writes), ids, ranking.said)))
        grown, left = graph.updated(outcome.writes), allowance.less(outcome.usage)
        compared = yield from compare(grown, new_pairs(grown, ids, ranking, comparisons), setting, left)
        return outcome.followed_by(compared)

    def back_up(search: Search) -> Writes:
        graph, fresh, dead = search.graph, search.run["fresh"], _beyond_critique(search)
        down = descent(graph)
        writes = down.ranking.noted(visited(graph, fresh))
        if dead:
            writes = writes.followed_by(close(graph.updated(writes), dead))
        return writes.followed_by(exhausted(graph.updated(writes), [*fresh, *dead], down.given_up))

    rules = Rules(
        select=lambda search: descent(search.graph).plan(search.graph),
        expand=expand,
        evaluate=assess,
        backpropagate=back_up,
        at_once=True,
        answer=lambda graph, ids: ranking_of(graph).highest(graph, ids),
        narrate=partial(_narrate, ranking_of),
        rounds=simulations,
        expand_as="refine",
    )
    return build("llama_berry", policy, rules, common, whole=_WHOLE)


def _narrate(ranking_of: RankingOf, search: Search, best: str) -> Asking[Told]:
    """The steps that lead to the answer; beside them, all Q are noted."""
    told = yield from tell_steps(search, best)
    return replace(told, outcome=only(ranking_of(search.graph).writes(search.graph)))


def _beyond_critique(search: Search) -> list[str]:
    """The solution that was to be rewritten, where the policy had no usable critique of it."""
    graph, run = search.graph, search.run
    if run["fresh"] or search.allowance.spent is not None:
        return []
    return [id for id, _ in run["plan"] if id != graph.root and "feedback" not in graph.stats[id]]


def _check(*counts: int | None, c: float, alpha: float, gamma: float) -> None:
    if any(count is not None and count < 1 for count in counts):
        raise InputError("starts, max_children, comparisons, patience and simulations: give at least 1 each")
    if not c >= 0 or not 0 <= alpha <= 1 or not 0 <= gamma <= 1:
        raise InputError(f"c={c}, alpha={alpha}, gamma={gamma}: give at least 0, and numbers in [0, 1]")
