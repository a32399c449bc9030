"""Aggregate: join several thoughts into one (blueprint §1, structure operators).

Source: Graph of Thoughts (Besta et al., arXiv 2308.09687, §3.2).
"""

from collections.abc import Sequence
from dataclasses import replace

from rlm_agent.models.drive import Asking
from rlm_agent.models.patterns import list_choices
from rlm_agent.operators.setting import Outcome, Setting
from rlm_agent.operators.writing import Draft, Shares, compose, draft, places, shares
from rlm_agent.structure.budget import Allowance
from rlm_agent.structure.thoughts import ThoughtGraph


def aggregate(
    graph: ThoughtGraph,
    groups: Sequence[Sequence[str]],
    setting: Setting,
    allowance: Allowance,
    count: int = 1,
) -> Asking[Outcome]:
    """Join each group of thoughts into one new thought, `count` times; `outputs` are the new ids, in order.

    A new thought is a child of the first of its group and names the others as further `parents`; it stands
    for a whole chain, which begins at the root. What the allowance does not cover is left out from the end.
    Raises `InputError` for a policy that has not learned to aggregate.
    """
    ask = setting.prompts.require("aggregate")
    plan = [(group[0], count) for group in groups]
    share = shares(allowance, len(groups) * count, setting)
    members = [group for group in groups for _ in range(count)]
    drafts = [
        _joining(graph, place, group, setting, ask, share)
        for place, group in list(zip(places(graph, plan), members, strict=True))[: share.count]
    ]
    outcome = yield from compose(graph, drafts, setting)
    return outcome.logged("aggregate", [id for group in groups for id in group])


def _joining(
    graph: ThoughtGraph,
    place: tuple[str, int],
    group: Sequence[str],
    setting: Setting,
    ask: str,
    share: Shares,
) -> Draft:
    choices = list_choices([graph.steps(id) for id in group])
    put = setting.put(ask, choices=choices)
    made = draft(graph, place, put, share.tokens, base=graph.root, calls=share.calls)
    return replace(made, noted={"operator": "aggregate", "parents": list(group[1:])})
