"""ARMAP: a reward model that judges whole trajectories, used by best-of-N, by Reflexion or by MCTS.

Source: Chen et al., arXiv 2502.12130, and the authors' code for the numbers; Reflexion is Shinn et al., arXiv
2303.11366. How the reward model is trained stands in `rlm_agent.training.reward`.
"""

from dataclasses import replace
from typing import Literal

from typing_extensions import Unpack

from rlm_agent.graphs.machine.common import Common, Model, build
from rlm_agent.graphs.machine.graph import takes_context
from rlm_agent.graphs.machine.rules import Reasoner, Rules, Search
from rlm_agent.graphs.mcts import create_mcts
from rlm_agent.graphs.shared.chains import sample_chains
from rlm_agent.models.drive import Asking
from rlm_agent.models.prompts import prompts_of
from rlm_agent.models.protocols import Policy
from rlm_agent.models.resolve import load_policy, load_value
from rlm_agent.models.rewards import OutcomeValue
from rlm_agent.operators.generate import generate
from rlm_agent.operators.refine import critique, recalling
from rlm_agent.operators.select import best, own_value
from rlm_agent.operators.setting import Outcome, Setting, nothing
from rlm_agent.operators.writing import Plan
from rlm_agent.structure.budget import Allowance
from rlm_agent.structure.errors import InputError, UnknownNameError
from rlm_agent.structure.ids import child_id
from rlm_agent.structure.thoughts import ThoughtGraph

_HALF = 0.5
_MEMORY = 3  # reflections that an attempt has in mind: "usually set to 1-3" (Reflexion, §3)


@takes_context
def create_armap(
    model: Model = "mini",
    *,
    planner: Literal["best_of_n", "reflexion", "mcts"] = "best_of_n",
    n: int = 10,
    threshold: float | None = None,
    **common: Unpack[Common],
) -> Reasoner:
    """A reasoner that plans by a reward model, the `value`, which scores finished trajectories only.

    planner: "best_of_n" samples `n` trajectories, and the highest reward wins. "reflexion" makes one attempt
        after another, up to `n`, each in the light of what the policy learned from the last three, until a
        reward reaches the threshold; greedy, as in the authors' code, unless a temperature is given. "mcts"
        is `create_mcts` with UCT, `n` simulations, and the reward at the end of each rollout.
    n: the authors' scripts for the Game of 24 have 100, 10 and 100, those for ScienceWorld 10 attempts and 10
        simulations.
    threshold: of Reflexion, in [0, 1], ½ by default: the authors' on the Game of 24, 0 for the logit.

    Where there is a verifier, its verdict takes the reward's place, as the true reward may in their code.

    Deviations: the reward is a probability, not its logit. Where no attempt reaches the threshold, the one of
    the highest reward holds the answer; theirs is the last, or on ScienceWorld the first. Their UCT divides
    by 1 + N instead of √N, and discounts returns by .9. `common` is documented at `Common`. Raises
    `InputError` without a reward model or a verifier, for a threshold beside another planner, and for
    Reflexion with a specialist that has not learned to reflect and to try again.
    """
    _check(planner, n, threshold)
    policy = load_policy(model)
    common["name"] = common.get("name") or "armap"
    _reward(policy, common)
    if planner == "mcts":
        return create_mcts(policy, simulations=n, formula="uct", **common)
    if planner == "best_of_n":
        return build("armap", policy, Rules(select=sample_chains(n, None), answer=best), common)
    prompts_of(policy).having("reflect", "retry")
    least = _HALF if threshold is None else threshold

    def enough(search: Search, left: int) -> bool:
        graph, ended = search.graph, _last_ends(search.graph, 1)
        return any(own_value(graph, id) >= least for id in ended if graph.thoughts[id]["kind"] == "final")

    rules = Rules(select=sample_chains(n, 1, enough), expand=retry, answer=best)
    return build("armap", policy, rules, common, temperature=0.0)


def retry(graph: ThoughtGraph, plan: Plan, setting: Setting, allowance: Allowance) -> Asking[Outcome]:
    """`generate`, before which each new attempt reflects on the last, and has the reflections in mind."""
    said, begins = nothing(), plan[0][0] == graph.root
    if begins and (ended := _last_ends(graph, 1)):
        said = yield from critique(graph, ended, setting, allowance, "reflect")
    grown, left = graph.updated(said.writes), allowance.less(said.usage)
    ended = _last_ends(grown, _MEMORY if begins else _MEMORY + 1)
    written = yield from generate(grown, plan, recalling(grown, ended, setting), left)
    return replace(said.followed_by(written), outputs=written.outputs)


def _last_ends(graph: ThoughtGraph, most: int) -> list[str]:
    """Where the last attempts have come to, at most so many."""
    born = graph.stats[graph.root]["children"]
    return [_end(graph, child_id(graph.root, index)) for index in range(max(0, born - most), born)]


def _end(graph: ThoughtGraph, id: str) -> str:
    """Where an attempt has come to: its latest thought."""
    while born := graph.stats[id]["children"]:
        id = child_id(id, born - 1)
    return id


def _reward(policy: Policy, common: Common) -> None:
    """Let the value among the keywords judge finished trajectories only."""
    value = load_value(common.get("value"), policy)
    if value is not None:
        common["value"] = OutcomeValue(value)
    elif common.get("verifier") is None and policy.task is None:
        raise InputError("armap plans by rewards; give the reward model as a value, or a verifier")


def _check(planner: str, n: int, threshold: float | None) -> None:
    if planner not in ("best_of_n", "reflexion", "mcts"):
        raise UnknownNameError(f"there is no planner {planner!r}; choose one of best_of_n, reflexion, mcts")
    if n < 1:
        raise InputError(f"n={n} makes no trajectory; give at least 1")
    if threshold is None:
        return
    if planner != "reflexion":
        raise InputError(f"threshold={threshold} belongs to planner='reflexion'; leave it out")
    if not 0 <= threshold <= 1:
        raise InputError(f"threshold={threshold} is not a reward; give a number in [0, 1]")
