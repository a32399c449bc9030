"""What operators share that let the policy write thoughts: from places in the graph to requests and back."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rlm_agent.models.drive import Asking, ask_policy
from rlm_agent.models.protocols import Completion, Request
from rlm_agent.operators.distinct import fresh_code
from rlm_agent.operators.setting import Outcome, Setting
from rlm_agent.structure.budget import Usage, add_usage, no_usage
from rlm_agent.structure.ids import child_id, derive_seed
from rlm_agent.structure.steps import Steps
from rlm_agent.structure.thoughts import Kind, Thought, ThoughtGraph, Writes, fresh_stats

Plan = Sequence[tuple[str, int]]
"""Ids of thoughts, and how many children each is to get."""

Place = tuple[str, int]
"""A parent's id and the index of a child under it."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A thought to be written: its place, the thought whose steps it goes on from, and what is asked for it.

    `noted` is stored with the thought as it is, such as `parents` of an aggregate.
    """

    place: Place
    base: str
    request: Request
    noted: Mapping[str, Any] = field(default_factory=dict)


def draft(graph: ThoughtGraph, place: Place, setting: Setting, max_tokens: int, *, base: str) -> Draft:
    """One more child at a place, going on from the steps of `base`, in the setting's conversation."""
    unit, end = setting.steps.granularity, setting.steps.answer_end
    stop = (unit.delimiter,) if unit.delimiter else ()
    request = Request(
        messages=setting.messages,
        prefix=prefix_of(graph, base, setting),
        max_tokens=max_tokens,
        seed=derive_seed(setting.seed, child_id(*place)),
        stop=stop,
        decoding=setting.decoding,
        thought=child_id(*place),
        stop_tokens=stop if unit.token else (),
        end_tokens=(end.token,) if end.token else (),
        code=fresh_code(graph, place, setting.seed) if setting.distinct else None,
    )
    return Draft(place, base, request)


def compose(graph: ThoughtGraph, drafts: Sequence[Draft], setting: Setting) -> Asking[Outcome]:
    """Let the policy write all drafts in one batch; `outputs` are the ids of the new thoughts, in order.

    A reply that cannot be used (an error, cut off, refused by the step checker, an end without an answer)
    becomes a failed thought with its reason and harms no sibling.
    """
    started = time.monotonic()
    completions = yield from ask_policy(setting.policy, [draft.request for draft in drafts])
    thoughts = {
        child_id(*draft.place): read(graph, draft, completion, setting)
        for draft, completion in zip(drafts, completions, strict=True)
    }
    usage = spent_on(completions, time.monotonic() - started, nodes=len(drafts))
    return Outcome(_writes(graph, thoughts), list(thoughts), usage)


def read(graph: ThoughtGraph, draft: Draft, completion: Completion, setting: Setting) -> Thought:
    """The thought that a completion amounts to."""
    parent, index = draft.place
    text, kind, found = _judge(graph, draft.base, completion, setting.steps)
    thought = Thought(
        parent=parent,
        index=index,
        depth=graph.thoughts[draft.base]["depth"] + 1,
        kind=kind,
        text=text,
        tokens=completion.tokens,
        logprob=round(completion.logprob, 6),
    )
    if completion.interval is not None:
        thought["interval"] = list(completion.interval)
    if draft.base != parent:
        thought["base"] = draft.base
    thought.update({**found, **draft.noted})  # type: ignore[typeddict-item]
    return thought


def prefix_of(graph: ThoughtGraph, id: str, setting: Setting) -> str:
    """The assistant's turn down to a thought, as the policy is asked to continue it."""
    delimiter = setting.steps.granularity.delimiter
    return "".join(f"{step}{delimiter}" for step in graph.steps(id))


def places(graph: ThoughtGraph, plan: Plan) -> list[Place]:
    """The places of the planned children, behind those that are there."""
    born: Counter[str] = Counter()
    found = []
    for parent, count in plan:
        for _ in range(count):
            found.append((parent, graph.stats[parent]["children"] + born[parent]))
            born[parent] += 1
    return found


def spent_on(completions: Sequence[Completion], seconds: float, *, nodes: int) -> Usage:
    """What completions cost that were written for so many new thoughts."""
    usage = Usage({**no_usage(), "seconds": seconds, "nodes": nodes})
    for completion in completions:
        spent = no_usage()
        spent["prompt_tokens"] = completion.prompt_tokens
        spent["cached_tokens"] = completion.cached_tokens
        spent["completion_tokens"] = completion.tokens
        spent["model_calls"] = completion.calls
        usage = add_usage(usage, spent)
    return usage


def _judge(
    graph: ThoughtGraph, base: str, completion: Completion, steps: Steps
) -> tuple[str, Kind, dict[str, str]]:
    """The step's text; step, final or failed; and what is to be noted with it."""
    if completion.finish == "error":
        return completion.text, "failed", {"reason": completion.error or "the model gave no reply"}
    before = graph.steps(base) if steps.answer_end.in_text else ()
    text, ending = steps.cut(before, completion.text, completion.finish, completion.tokens)
    if ending == "length":
        return text, "failed", {"reason": f"cut off after {completion.tokens} tokens"}
    return text, *_judge_step(graph, base, text, steps, final=ending == "end")


def _judge_step(
    graph: ThoughtGraph, base: str, text: str, steps: Steps, *, final: bool
) -> tuple[Kind, dict[str, str]]:
    """What a step that has come to its end amounts to."""
    noted = {}
    if steps.check is not None:
        checked = steps.check(graph.question, graph.thoughts[base].get("state"), text)
        if checked.reason is not None:
            return "failed", {"reason": checked.reason}
        noted = {"state": checked.state} if checked.state is not None else {}
        final = final or checked.final
    elif not final and steps.granularity.is_empty(text):
        return "failed", {"reason": "an empty step"}
    if final:
        chain = steps.granularity.for_answer([*graph.steps(base), text])
        answer = steps.answer(graph.question, chain)
        if answer is None:
            return "failed", {**noted, "reason": "ended without an answer"}
        return "final", {**noted, "answer": answer}
    if graph.thoughts[base]["depth"] + 1 >= steps.max_steps:
        return "failed", {**noted, "reason": f"no answer within {steps.max_steps} steps"}
    return "step", noted


def _writes(graph: ThoughtGraph, thoughts: dict[str, Thought]) -> Writes:
    stats = {id: fresh_stats(thought) for id, thought in thoughts.items()}
    born = Counter(thought["parent"] for thought in thoughts.values())
    for parent, count in born.items():
        if parent is not None:
            before = graph.stats[parent]
            stats[parent] = {**before, "children": before["children"] + count}
    return Writes(thoughts, stats)
