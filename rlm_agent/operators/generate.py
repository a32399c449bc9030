"""Generate: the policy writes new thoughts under given ones (blueprint §1, structure operators)."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from rlm_agent.models.drive import Asking
from rlm_agent.models.protocols import Completion
from rlm_agent.operators.prune import close, duplicates, twin
from rlm_agent.operators.setting import Outcome, Setting, nothing, only
from rlm_agent.operators.writing import Plan, compose, draft, places, shares
from rlm_agent.structure.budget import Allowance
from rlm_agent.structure.thoughts import ThoughtGraph


def generate(
    graph: ThoughtGraph,
    plan: Plan,
    setting: Setting,
    allowance: Allowance,
    mend: Callable[[Completion], Completion] | None = None,
) -> Asking[Outcome]:
    """Sample one step for each planned child, all in one batch; `outputs` are the new ids, in order.

    What the allowance does not cover is left out from the end of the plan. See `writing.compose` for replies
    that cannot be used, and `writing.Draft` for `mend`.
    """
    wanted = sum(count for _, count in plan)
    share = shares(allowance, wanted, setting)
    drafts = [
        draft(graph, place, setting, share.tokens, base=place[0], calls=share.calls)
        for place in places(graph, plan)[: share.count]
    ]
    if mend is not None:
        drafts = [replace(draft, mend=mend) for draft in drafts]
    outcome = yield from compose(graph, drafts, setting)
    return outcome.logged("generate", [id for id, _ in plan])


Expand = Callable[[ThoughtGraph, Plan, Setting, Allowance], Asking[Outcome]]
"""How planned children come to be: `generate`, or what asks others beside the policy."""


def rollout(
    graph: ThoughtGraph,
    starts: Sequence[str],
    setting: Setting,
    allowance: Allowance,
    expand: Expand = generate,
) -> Asking[Outcome]:
    """Continue each of `starts` by single children until all chains have ended or the allowance has.

    The chains stay in the graph as ordinary thoughts, so that nothing generated is lost to the search. A
    thought that says what an elder sibling says is closed, and the chain goes on from that sibling.
    """
    outcome = nothing()
    fresh = list(starts)
    while fresh:
        grown = graph.updated(outcome.writes)
        doubles = duplicates(grown, fresh)
        outcome = outcome.followed_by(only(close(grown, doubles)))
        grown = graph.updated(outcome.writes)
        frontier = dict.fromkeys(twin(grown, id) for id in fresh)
        plan = [(id, 1) for id in frontier if not grown.stats[id]["closed"]]
        step = yield from expand(grown, plan, setting, allowance.less(outcome.usage))
        outcome = outcome.followed_by(step)
        fresh = step.outputs
    return outcome


def generate_to_end(
    graph: ThoughtGraph, plan: Plan, setting: Setting, allowance: Allowance, expand: Expand = generate
) -> Asking[Outcome]:
    """`generate`, then a `rollout` from each new thought."""
    first = yield from expand(graph, plan, setting, allowance)
    left = allowance.less(first.usage)
    rest = yield from rollout(graph.updated(first.writes), first.outputs, setting, left, expand)
    return first.followed_by(rest)
