"""Chain of action-thought: one chain that continues, reflects and explores, and may be started again.

Source: Satori (Shen et al., arXiv 2502.02508): COAT and, for `backtrack`, its Restart and Explore
(Algorithm 1).
"""

import math
from dataclasses import replace

from typing_extensions import Unpack

from rlm_agent.graphs.machine.common import Common, Model, build
from rlm_agent.graphs.machine.graph import takes_context
from rlm_agent.graphs.machine.rules import Reasoner, Rules, Search
from rlm_agent.graphs.shared.beams import begin, best_answer, leaves
from rlm_agent.graphs.shared.tagged import tagged_steps
from rlm_agent.models.drive import Asking
from rlm_agent.models.prompts import prompts_of
from rlm_agent.models.resolve import load_policy
from rlm_agent.operators.rules.coat import act, standing
from rlm_agent.operators.setting import Outcome, Setting
from rlm_agent.operators.writing import Plan
from rlm_agent.structure.budget import Allowance
from rlm_agent.structure.errors import InputError
from rlm_agent.structure.ids import derive_seed
from rlm_agent.structure.metaactions import REFLECT
from rlm_agent.structure.steps import Steps
from rlm_agent.structure.thoughts import ThoughtGraph
from rlm_agent.tasks.answers import free_answer

_STEPS = Steps(max_steps=64, answer=free_answer)
"""Of a general model: a line is a step, and the policy ends the chain."""


@takes_context
def create_coat(
    model: Model = "mini",
    *,
    restarts: int | None = None,
    backtrack: int = 0,
    thinking: int | None = None,
    **common: Unpack[Common],
) -> Reasoner:
    """A reasoner that writes one chain of action-thought, and starts again where that came to no result.

    restarts: how often, at most; None leaves it to the budget, 0 is the paper's single chain. A result is an
        answer, and, where there is a verifier, one that it accepts.
    backtrack: a restart drops so many steps at most of the chain that failed, at random at least one, and
        makes the policy reflect there (T in Restart and Explore); 0 begins a new chain at the question.
    thinking: how many tokens a chain may take; None leaves it to the budget and to `Steps.max_steps`.

    The policy is asked in the words `Prompts.coat`, which explain the three meta-actions to a general model;
    a line without a tag goes on with what the line before it did. A specialist's task says how the lines are
    checked (`Task.coat`). `Thought.operator` is `reflect` or `explore`, and each step is logged as the
    operators that it amounts to: see `operators.rules.coat`. The first chain is greedy, as the paper
    evaluates, unless a `temperature` is given; restarts are drawn at the policy's own temperature.

    Deviations: the paper restarts in training only, from correct chains, too (`training.restarts`); its T
    is not known to us. A chain that fills its tokens or its steps begins anew at the question. `common` is
    documented at `Common`. Raises `InputError` for a specialist that has not learned to.
    """
    _check(restarts, backtrack, thinking)
    policy = load_policy(model)
    ask = prompts_of(policy).require("coat")
    common["steps"] = tagged_steps(policy, common) or _STEPS
    most = math.inf if thinking is None else thinking

    def left(graph: ThoughtGraph, id: str) -> float:
        """How many tokens the chain that leads to a thought may still take."""
        return most - sum(graph.thoughts[step]["tokens"] for step in graph.chain(id))

    def restart(search: Search, end: str) -> str:
        """Where to go on after a chain that failed at `end`."""
        graph, setting = search.graph, search.setting
        full = graph.thoughts[end]["depth"] >= setting.steps.max_steps or left(graph, end) <= 0
        if full or not backtrack:
            return graph.root
        dropped = 1 + derive_seed(setting.seed, "restart", end) % backtrack
        return [graph.root, *standing(graph, graph.chain(end)[:-dropped])][-1]

    def select(search: Search) -> Plan:
        graph, run = search.graph, search.run
        if not run["fresh"]:
            return [(id, count) for id, count in run["plan"]] or begin(search, 1)
        unfinished = [id for id in leaves(search) if left(graph, id) > 0]
        if unfinished:
            return [(unfinished[0], 1)]
        if not begin(search, 1) or (restarts is not None and ends(graph) > restarts):
            return []
        return [(restart(search, run["fresh"][-1]), 1)]

    def expand(graph: ThoughtGraph, plan: Plan, setting: Setting, allowance: Allowance) -> Asking[Outcome]:
        id, asking = plan[0][0], setting.put(ask)
        begun = REFLECT if id != graph.root and graph.stats[id]["children"] else ""
        if restarted(graph, id) and not setting.decoding.temperature:
            own = setting.policy.decoding.temperature
            asking = replace(asking, decoding=replace(setting.decoding, temperature=own))
        longest = int(min(left(graph, id), setting.steps.longest))
        return (yield from act(graph, id, begun, asking, allowance, longest))

    rules = Rules(select=select, expand=expand, answer=best_answer)
    return build("coat", policy, rules, common, temperature=0.0)


def ends(graph: ThoughtGraph) -> int:
    """How many chains have come to an end, whatever it was: each has one last thought."""
    return sum(not graph.stats[id]["children"] for id in graph.walk())


def restarted(graph: ThoughtGraph, id: str) -> bool:
    """Whether what comes after a thought belongs to another chain than the first."""
    return graph.stats[id]["children"] > 0 or any(graph.thoughts[step]["index"] for step in graph.chain(id))


def _check(restarts: int | None, backtrack: int, thinking: int | None) -> None:
    if backtrack < 0 or (restarts is not None and restarts < 0) or (thinking is not None and thinking < 1):
        raise InputError(
            f"restarts={restarts}, backtrack={backtrack}, thinking={thinking} make no chain; "
            "give at least 0, 0 and 1"
        )
    if restarts == 0 and backtrack:
        raise InputError(f"backtrack={backtrack} belongs to restarts, of which there are none; allow some")
