"""Refine: criticise a thought, then write it anew in the light of that (blueprint §1, update operators).

Source: Self-Refine (Madaan et al., arXiv 2303.17651). The critique is a textual evaluation and an operator by
itself; what it says is kept as `Stats.feedback`.
"""

import time
from collections.abc import Sequence
from dataclasses import replace

from rlm_agent.models.drive import Asking, ask_policy
from rlm_agent.models.protocols import Completion, Message, Request
from rlm_agent.operators.setting import Outcome, Setting
from rlm_agent.operators.writing import Draft, Plan, compose, draft, places, spent_on
from rlm_agent.structure.budget import Allowance
from rlm_agent.structure.ids import derive_seed
from rlm_agent.structure.thoughts import Stats, ThoughtGraph, Writes


def critique(
    graph: ThoughtGraph, ids: Sequence[str], setting: Setting, allowance: Allowance
) -> Asking[Outcome]:
    """Let the policy say what is wrong with each of `ids`; `outputs` are those that got `Stats.feedback`.

    What the allowance does not cover is left out from the end. Raises `InputError` for a policy that has not
    learned to criticise.
    """
    ask, started = setting.prompts.require("critique"), time.monotonic()
    fitting, max_tokens = allowance.samples(len(ids), setting.steps.longest, nodes=0)
    asked = list(ids)[:fitting]
    requests = [_criticising(graph, id, setting, ask, max_tokens) for id in asked]
    completions = yield from ask_policy(setting.policy, requests)
    said = {id: _said(one) for id, one in zip(asked, completions, strict=True)}
    stats = {id: Stats({**graph.stats[id], "feedback": text}) for id, text in said.items() if text}
    usage = spent_on(completions, time.monotonic() - started, nodes=0)
    return Outcome(Writes({}, stats), list(stats), usage).logged("critique", ids)


def refine(graph: ThoughtGraph, plan: Plan, setting: Setting, allowance: Allowance) -> Asking[Outcome]:
    """`critique` the planned thoughts that have no feedback yet, then `rewrite` each as often as planned."""
    new = [id for id, _ in plan if "feedback" not in graph.stats[id]]
    said = yield from critique(graph, new, setting, allowance)
    grown = graph.updated(said.writes)
    rewritten = yield from rewrite(grown, plan, setting, allowance.less(said.usage))
    return replace(said.followed_by(rewritten), outputs=rewritten.outputs)


def rewrite(graph: ThoughtGraph, plan: Plan, setting: Setting, allowance: Allowance) -> Asking[Outcome]:
    """New versions of the planned thoughts that have feedback, in one batch; `outputs` are their ids.

    A new version is a child of the thought that it replaces, and goes on from the steps that stood before
    that one (`Thought.base`). Raises `InputError` for a policy that has not learned to rewrite.
    """
    ask = setting.prompts.require("rewrite")
    known = [(id, count) for id, count in plan if "feedback" in graph.stats[id]]
    wanted = sum(count for _, count in known)
    fitting, max_tokens = allowance.samples(wanted, setting.steps.longest)
    drafts = [_rewriting(graph, place, setting, ask, max_tokens) for place in places(graph, known)[:fitting]]
    outcome = yield from compose(graph, drafts, setting)
    return outcome.logged("refine", [id for id, _ in plan])


def _criticising(graph: ThoughtGraph, id: str, setting: Setting, ask: str, max_tokens: int) -> Request:
    return Request(
        messages=(*setting.messages, *_attempt(graph, id, setting), Message(role="user", content=ask)),
        prefix="",
        max_tokens=max_tokens,
        seed=derive_seed(setting.seed, "critique", id),
        decoding=setting.decoding,
        thought=id,
    )


def _rewriting(
    graph: ThoughtGraph, place: tuple[str, int], setting: Setting, ask: str, max_tokens: int
) -> Draft:
    id, _ = place
    turns = (
        *_attempt(graph, id, setting),
        Message(role="user", content=setting.prompts.require("critique")),
        Message(role="assistant", content=graph.stats[id]["feedback"]),
        Message(role="user", content=ask),
    )
    base = graph.base(id) or graph.root
    made = draft(graph, place, setting.asking(*turns), max_tokens, base=base)
    return replace(made, noted={"operator": "refine"})


def _attempt(graph: ThoughtGraph, id: str, setting: Setting) -> tuple[Message, ...]:
    delimiter = setting.steps.granularity.delimiter
    return (Message(role="assistant", content=delimiter.join(graph.steps(id))),)


def _said(completion: Completion) -> str:
    return "" if completion.finish in ("error", "length") else completion.text.strip()
