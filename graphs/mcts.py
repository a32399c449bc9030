"""Monte Carlo tree search over steps: select → generate → evaluate → backpropagate, round after round.

Source: x1's Algorithm 1 (Besta et al., arXiv 2501.11223, appendix) for the score of a child and the backup.
"""

import math
from collections.abc import Sequence
from typing import Literal

from typing_extensions import Unpack

from rlm_agent.graphs.machine.common import Common, Model, build
from rlm_agent.graphs.machine.graph import takes_context
from rlm_agent.graphs.machine.rules import Reasoner, Rules, Search
from rlm_agent.graphs.shared.retrieving import furnish
from rlm_agent.models.resolve import load_policy
from rlm_agent.operators.backpropagate import backpropagate_all
from rlm_agent.operators.prune import all_closed, close, elders, exhausted, known_states, repeats, twin
from rlm_agent.operators.rules.adaptive import Adaptive
from rlm_agent.operators.rules.virtual import pick_several
from rlm_agent.operators.select import PRIORS, best, follow, most_visited, puct_scores, uct_scores
from rlm_agent.operators.writing import Plan
from rlm_agent.structure.errors import InputError, UnknownNameError
from rlm_agent.structure.thoughts import ThoughtGraph, Writes


@takes_context
def create_mcts(
    model: Model = "mini",
    *,
    branching: int = 1,
    widening: float = 0.5,
    rollout: bool = True,
    simulations: int | None = None,
    parallel: int = 1,
    formula: Literal["puct", "uct"] = "puct",
    c: float = math.sqrt(2),
    c1: float = 1.25,
    c2: float = 19652.0,
    prior: Literal["policy", "uniform"] = "uniform",
    patience: int = 3,
    gamma: float = 1.0,
    learning_rate: float = 0.5,
    answer_by: Literal["value", "visits"] = "value",
    distinct: bool = False,
    merge: bool = False,
    adaptive: Adaptive | bool = False,
    **common: Unpack[Common],
) -> Reasoner:
    """A reasoner that grows a tree where its statistics promise most.

    branching, widening: a thought visited N times may have ⌈branching · (N + 1)^widening⌉ children
        (progressive widening); `widening=0` is x1's fixed branching.
    rollout: carry each new step on to the end of its chain, and keep that chain in the tree.
    simulations: bound on the rounds; None leaves it to the budget.
    parallel: leaves a round, written in one batch; picked with a virtual loss, see `operators.rules.virtual`.
    formula: how a child is scored. c: exploration in UCT, √2 as in UCB1 for returns in [0, 1].
    c1, c2: exploration in PUCT, 1.25 and 19652 in x1. prior: of a child in PUCT, see `operators.select`.
    patience: with widening, a thought all of whose children are closed is given up once so many samples
        under it have brought nothing new; the root never is.
    gamma, learning_rate: of the backup, see `operators.backpropagate`; x1 has γ in [.95, 1], lr = 1.
    answer_by: of the finished chains, take that of the highest value, or the most visited one. Neither
        has a share of the exploration term.
    distinct: sample the children of a thought without replacement, see `operators.rules.distinct`.
    merge: a step whose state is known from anywhere in the tree is closed, and returns what is known of the
        state. So the tree stays a tree: one thought of a state is searched, and its statistics are its own.
    adaptive: multiply the number of children by how unsure the policy was, see `operators.rules.adaptive`.

    A leaf's return is 2v − 1 for its value v in [0, 1], 0 where nobody has valued it. Deviations from x1:
    x1 itself is `branching` ≥ 2, `widening=0`, `rollout=False`, and mixes model values and rollouts by α
    where here the backup does. Where a thought calls one of the `tools` or asks the `retriever`, its children
    are observations, one for a call and one for each passage that is found: they are widened, scored and
    backed up as steps are. `common` is documented at `Common`.
    """
    _check(branching, widening, prior, patience, learning_rate)
    if parallel < 1 or not c >= 0 or formula not in ("puct", "uct"):
        raise InputError(
            f"parallel={parallel}, formula={formula!r}, c={c}: give at least 1, puct or uct, and 0"
        )
    answers = {"value": best, "visits": most_visited}
    score = uct_scores(c) if formula == "uct" else puct_scores(PRIORS[prior], c1, c2)
    rule, policy = Adaptive.named(adaptive), load_policy(model)
    strategy, means = furnish("mcts", policy, common)

    def missing(graph: ThoughtGraph, id: str) -> int:
        """How many children a thought is still short of."""
        stats = graph.stats[id]
        wanted = branching * math.pow(stats["visits"] + 1, widening)
        wanted *= rule.factor(graph, id) if rule else 1
        return int(min(math.ceil(wanted), means.capacity(graph, id))) - stats["children"]

    def wants_children(graph: ThoughtGraph, id: str) -> bool:
        return missing(graph, id) > 0 or (all_closed(graph, graph.children(id)) and not means.full(graph, id))

    def given_up(graph: ThoughtGraph, id: str) -> bool:
        """Whether a thought without open children is not worth another one."""
        if means.full(graph, id):
            return True
        if widening == 0:
            return missing(graph, id) <= 0
        return id != graph.root and repeats(graph, id) >= patience

    def select(search: Search) -> Plan:
        return pick_several(
            search.graph, parallel, lambda graph: follow(graph, wants_children, score), missing
        )

    def merge_known(search: Search) -> Writes:
        return close(search.graph, known_states(search.graph, search.run["fresh"]))

    def backpropagate(search: Search) -> Writes:
        graph = search.graph
        leaves = _leaves(graph, search.run["fresh"])
        known = elders(graph, leaves) if merge else {}
        returns = [(leaf, _return(graph, known.get(leaf, leaf))) for leaf in leaves]
        backed_up = backpropagate_all(graph, returns, gamma=gamma, learning_rate=learning_rate)
        return backed_up.followed_by(exhausted(graph.updated(backed_up), leaves, given_up))

    rules = Rules(
        select=select,
        expand=means.expand_to_end if rollout else means.expand,
        prune=merge_known if merge else None,
        backpropagate=backpropagate,
        answer=answers[answer_by],
        rounds=simulations,
        distinct=distinct,
        traced=rule is not None or means.traced,
    )
    return build(strategy, policy, rules, common)


def _check(branching: int, widening: float, prior: str, patience: int, learning_rate: float) -> None:
    if branching < 1 or not 0 <= widening <= 1:
        raise InputError(f"branching={branching}, widening={widening}: give at least 1, and 0 to 1")
    if patience < 1:
        raise InputError(f"patience={patience} gives everything up; give at least 1")
    if not 0 < learning_rate <= 1:
        raise InputError(f"learning_rate={learning_rate} learns nothing; give a number in (0, 1]")
    if prior not in PRIORS:
        raise UnknownNameError(f"there is no prior {prior!r}; choose one of {', '.join(PRIORS)}")


def _leaves(graph: ThoughtGraph, fresh: Sequence[str]) -> list[str]:
    """Where a simulation ended, chain by chain: a fresh thought without children, or an elder closed one."""
    ends = (twin(graph, id) if graph.thoughts[id]["kind"] == "step" else id for id in fresh)
    return list(
        dict.fromkeys(id for id in ends if graph.stats[id]["closed"] or not graph.stats[id]["children"])
    )


def _return(graph: ThoughtGraph, leaf: str) -> float:
    """In [-1, 1]: of an exhausted thought what it is known to be worth, of a new one what its value says."""
    stats = graph.stats[leaf]
    if stats["children"]:
        return stats["q"]
    return 0.0 if stats["value"] is None else 2 * stats["value"] - 1
