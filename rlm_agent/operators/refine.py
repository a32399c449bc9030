"""Refine: criticise a thought, then write it anew in the light of that (blueprint §1, update operators).

Source: Self-Refine (Madaan et al., arXiv 2303.17651). The critique is a textual evaluation and an operator by
itself; what it says is kept as `Stats.feedback`.
"""

import time
from collections.abc import Sequence

from rlm_agent.models.drive import Asking, ask_policy
from rlm_agent.models.protocols import Completion, Message, Request
from rlm_agent.operators.setting import Outcome, Setting, only
from rlm_agent.operators.writing import Draft, Plan, Shares, compose, draft, places, shares, spent_on
from rlm_agent.structure.budget import Allowance
from rlm_agent.structure.ids import derive_seed
from rlm_agent.structure.thoughts import Stats, ThoughtGraph, Writes


def critique(
    graph: ThoughtGraph,
    ids: Sequence[str],
    setting: Setting,
    allowance: Allowance,
    skill: str = "critique",
) -> Asking[Outcome]:
    """Let the policy say what is wrong with each of `ids`; `outputs` are those that got `Stats.feedback`.

    With the `skill` "reflect" it says what to learn from a failed attempt. What the allowance does not cover
    is left out from the end. Raises `InputError` for a policy that has not learned the skill.
    """
    ask, started = setting.prompts.require(skill), time.monotonic()
    share = shares(allowance, len(ids), setting, nodes=0)
    asked = list(ids)[: share.count]
    requests = [_criticising(graph, id, setting, (skill, ask), share) for id in asked]
    completions = yield from ask_policy(setting.policy, requests)
    said = {id: _said(one) for id, one in zip(asked, completions, strict=True)}
    stats = {id: Stats({**graph.stats[id], "feedback": text}) for id, text in said.items() if text}
    usage = spent_on(completions, time.monotonic() - started, nodes=0)
    return Outcome(Writes({}, stats), list(stats), usage).logged(skill, ids)


def recalling(graph: ThoughtGraph, ids: Sequence[str], setting: Setting) -> Setting:
    """The search in which the question is put with the feedback on these earlier attempts, if there is any.

    Raises `InputError` for a policy that has not learned to make use of it.
    """
    said = [graph.stats[id]["feedback"] for id in ids if "feedback" in graph.stats[id]]
    return setting.put(setting.prompts.require("retry"), reflections="\n\n".join(said)) if said else setting


def refusals(graph: ThoughtGraph, ids: Sequence[str]) -> Writes:
    """Let the reason why each failed one of `ids` was refused be its feedback: nobody need be asked."""
    reasons = {id: reason for id in ids if (reason := graph.thoughts[id].get("reason")) is not None}
    return Writes({}, {id: Stats({**graph.stats[id], "feedback": reason}) for id, reason in reasons.items()})


def refine(graph: ThoughtGraph, plan: Plan, setting: Setting, allowance: Allowance) -> Asking[Outcome]:
    """`critique` the planned thoughts that have no feedback yet, then `rewrite` each as often as planned."""
    new = [id for id, _ in plan if "feedback" not in graph.stats[id]]
    said = yield from critique(graph, new, setting, allowance)
    return (yield from _rewritten(graph, said, plan, setting, allowance))


def improve(graph: ThoughtGraph, plan: Plan, setting: Setting, allowance: Allowance) -> Asking[Outcome]:
    """`refine`, with a new critique each time; refused thoughts are refined like others.

    The reason why a thought was refused serves a general model as the critique; a specialist, who knows
    critiques of its own form only, criticises it itself.
    """
    ids = [id for id, _ in plan]
    noted = refusals(graph, ids) if setting.policy.task is None else Writes({}, {})
    untold = [id for id in ids if id not in noted.stats]
    said = yield from critique(graph.updated(noted), untold, setting, allowance)
    return (yield from _rewritten(graph, only(noted).followed_by(said), plan, setting, allowance))


def _rewritten(
    graph: ThoughtGraph, said: Outcome, plan: Plan, setting: Setting, allowance: Allowance
) -> Asking[Outcome]:
    """What was said about the planned thoughts, and then the rewrites, which alone are put out."""
    left = allowance.less(said.usage)
    rewritten = yield from rewrite(graph.updated(said.writes), plan, setting, left)
    both = said.followed_by(rewritten)
    return Outcome(both.writes, rewritten.outputs, both.usage, both.trace)


def rewrite(graph: ThoughtGraph, plan: Plan, setting: Setting, allowance: Allowance) -> Asking[Outcome]:
    """New versions of the planned thoughts that have feedback, in one batch; `outputs` are their ids.

    A new version is a child of the thought that it replaces, and goes on from the steps that stood before
    that one (`Thought.base`). Raises `InputError` for a policy that has not learned to rewrite.
    """
    ask = setting.prompts.require("rewrite")
    known = [(id, count) for id, count in plan if "feedback" in graph.stats[id]]
    share = shares(allowance, sum(count for _, count in known), setting)
    drafts = [_rewriting(graph, place, setting, ask, share) for place in places(graph, known)[: share.count]]
    outcome = yield from compose(graph, drafts, setting)
    return outcome.logged("refine", [id for id, _ in plan])


def _criticising(
    graph: ThoughtGraph, id: str, setting: Setting, asked: tuple[str, str], share: Shares
) -> Request:
    """`asked` is a skill and the words for it; one that is asked after more children is drawn anew."""
    skill, ask = asked
    return Request(
        messages=(*setting.messages, *_attempt(graph, id, setting), Message(role="user", content=ask)),
        prefix="",
        max_tokens=share.tokens,
        seed=derive_seed(setting.seed, skill, id, graph.stats[id]["children"]),
        decoding=setting.decoding,
        thought=id,
        calls=share.calls,
        operator=skill,
        aside=True,
    )


def _rewriting(
    graph: ThoughtGraph, place: tuple[str, int], setting: Setting, ask: str, share: Shares
) -> Draft:
    id, _ = place
    turns = (
        *_attempt(graph, id, setting),
        Message(role="user", content=setting.prompts.require("critique")),
        Message(role="assistant", content=graph.stats[id]["feedback"]),
        Message(role="user", content=ask),
    )
    base = graph.base(id) or graph.root
    return draft(
        graph, place, setting, share.tokens, base=base, calls=share.calls, operator="refine", turns=turns
    )


def _attempt(graph: ThoughtGraph, id: str, setting: Setting) -> tuple[Message, ...]:
    delimiter = setting.steps.granularity.delimiter
    return (Message(role="assistant", content=delimiter.join(graph.steps(id))),)


def _said(completion: Completion) -> str:
    return "" if completion.finish in ("error", "length") else completion.text.strip()
