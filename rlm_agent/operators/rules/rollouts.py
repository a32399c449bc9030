"""Rollouts by actions: from a thought by random new ones to an end (rStar, Qi et al., arXiv 2408.06195)."""

import math
from collections.abc import Callable, Collection, Sequence

from rlm_agent.models.drive import Asking
from rlm_agent.operators.prune import close
from rlm_agent.operators.rules.actions import FINISH, act, to_the_end
from rlm_agent.operators.rules.consistency import is_probe
from rlm_agent.operators.select import Scores
from rlm_agent.operators.setting import Outcome, Setting, nothing, only
from rlm_agent.structure.budget import Allowance
from rlm_agent.structure.ids import derive_seed
from rlm_agent.structure.thoughts import ThoughtGraph

Wanted = Callable[[ThoughtGraph, str], Sequence[str]]
"""The actions that a thought is to take, each as often as it makes children."""


def roll_out(
    graph: ThoughtGraph, leaf: str, wanted: Wanted, depth: int, setting: Setting, allowance: Allowance
) -> Asking[Outcome]:
    """Let a thought take its actions, then a random one of its new children, and so on to an end.

    Chains may take so many actions (`depth`). `outputs` are all new thoughts; those that no action may
    follow, and those that say what an elder sibling by the same action says, are closed.
    """
    outcome, id = nothing(), leaf
    while True:
        grown, left = graph.updated(outcome.writes), allowance.less(outcome.usage)
        taken = yield from _take(grown, id, wanted(grown, id), depth, setting, left)
        outcome = outcome.followed_by(taken)
        grown = graph.updated(outcome.writes)
        chosen = _choose(grown, id, taken.outputs, setting.seed)
        if chosen is None or grown.stats[chosen]["closed"]:
            return outcome
        id = chosen


def rollout_end(graph: ThoughtGraph, leaf: str, fresh: Collection[str], seed: int) -> str:
    """Where the rollout came to that began at `leaf` and wrote the `fresh` thoughts."""
    end = leaf
    while (chosen := _choose(graph, end, fresh, seed)) is not None:
        end = chosen
    return end


def unseen_first(scores: Scores, seed: int) -> Scores:
    """Scores by which children that nobody has visited come before all others, in a random order."""

    def prefer(graph: ThoughtGraph, id: str, children: Sequence[str]) -> Sequence[float]:
        unseen = [not graph.stats[child]["visits"] for child in children]
        if not any(unseen):
            return scores(graph, id, children)
        drawn = [float(derive_seed(seed, "unseen", child)) for child in children]
        return [number if new else -math.inf for number, new in zip(drawn, unseen, strict=True)]

    return prefer


def _take(
    graph: ThoughtGraph,
    id: str,
    actions: Sequence[str],
    depth: int,
    setting: Setting,
    allowance: Allowance,
) -> Asking[Outcome]:
    """Take actions at a thought, each to its end, and close what is not to be gone on from."""
    taken = yield from act(graph, id, actions, setting, allowance)
    grown = graph.updated(taken.writes)
    begun = [new for new in taken.outputs if grown.thoughts[new].get("operator") == FINISH]
    rest = yield from to_the_end(grown, begun, setting, allowance.less(taken.usage))
    outcome = taken.followed_by(rest)
    grown = graph.updated(outcome.writes)
    going_on = [] if len(graph.path(id)) >= depth else _originals(grown, id)
    ended = [new for new in outcome.outputs if new not in going_on]
    return outcome.followed_by(only(close(grown, ended)))


def _originals(graph: ThoughtGraph, id: str) -> list[str]:
    """The children that actions may follow, of equal ones by the same action the first."""
    first: dict[tuple[str, str], str] = {}
    for child in graph.children(id):
        thought = graph.thoughts[child]
        action = thought["operator"]
        if thought["kind"] == "step" and action != FINISH:
            first.setdefault((action, thought.get("state", thought["text"].strip())), child)
    return list(first.values())


def _choose(graph: ThoughtGraph, id: str, fresh: Collection[str], seed: int) -> str | None:
    """The child that a rollout goes on to: one of the `fresh` ones that failed not, nor repeat; or None."""
    originals = _originals(graph, id)
    new = [child for child in graph.children(id) if child in fresh and not is_probe(graph, child)]
    new = [child for child in new if child in originals or _has_ended(graph, child)]
    if not new:
        return None
    return new[derive_seed(seed, "rollout", id, graph.stats[id]["visits"]) % len(new)]


def _has_ended(graph: ThoughtGraph, id: str) -> bool:
    """Whether a thought is the end of a chain, or the beginning of one that is written to its end."""
    thought = graph.thoughts[id]
    return thought["kind"] == "final" or (thought["kind"] == "step" and thought["operator"] == FINISH)
