"""What operators share that let the policy write thoughts: from places in the graph to requests and back."""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any

from rlm_agent.models.drive import Asking, ask_policy
from rlm_agent.models.protocols import Completion, Message, Request, Trace, is_composite
from rlm_agent.models.reading import Behind, next_step, read_step
from rlm_agent.operators.rules.distinct import fresh_code
from rlm_agent.operators.setting import Outcome, Setting
from rlm_agent.structure.budget import Allowance, Usage, add_usage, no_usage
from rlm_agent.structure.ids import child_id, derive_seed
from rlm_agent.structure.thoughts import Thought, ThoughtGraph, Writes, fresh_stats

_DIGITS = 6

Plan = Sequence[tuple[str, int]]
"""Ids of thoughts, and how many children each is to get."""

Place = tuple[str, int]
"""A parent's id and the index of a child under it."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A thought to be written: its place, the thought whose steps it goes on from, and what is asked for it.

    `noted` is stored with the thought as it is, such as `parents` of an aggregate. `mend` is what is made of
    the reply before it is read, such as the beginning that was put in the policy's mouth set before it.
    """

    place: Place
    base: str
    request: Request
    noted: Mapping[str, Any] = field(default_factory=dict)
    mend: Callable[[Completion], Completion] = lambda completion: completion

    @property
    def asked(self) -> Request:
        """The request, with the operator that is noted."""
        operator = self.noted.get("operator", self.request.operator)
        return self.request if operator == self.request.operator else replace(self.request, operator=operator)


@dataclass(frozen=True, slots=True)
class Shares:
    """How many completions an allowance covers, and the most `tokens` and `calls` that each may take."""

    count: int
    tokens: int
    calls: int


def shares(allowance: Allowance, wanted: int, setting: Setting, *, nodes: int = 1) -> Shares:
    """What an allowance gives for up to `wanted` steps by the policy, with so many thoughts (`nodes`) each.

    A composite policy has what it may take at most counted for each, or all that is left where that is less:
    what several of them spend never adds up to more than there is.
    """
    calls, tokens = most_for_a_step(setting)
    calls = max(1, int(min(calls, allowance.calls)))
    return Shares(*allowance.samples(wanted, tokens, nodes=nodes, calls=calls), calls)


def most_for_a_step(setting: Setting) -> tuple[int, int]:
    """The most calls and tokens that one step by the policy may take."""
    policy = setting.policy
    if is_composite(policy):
        return policy.most_calls, policy.most_tokens
    return 1, setting.steps.longest


def draft(
    graph: ThoughtGraph,
    place: Place,
    setting: Setting,
    max_tokens: int,
    *,
    base: str,
    calls: int = 1,
    operator: str | None = None,
    turns: tuple[Message, ...] = (),
) -> Draft:
    """One more child at a place, going on from the steps of `base`, in the setting's conversation.

    `turns` stand at the end of that. The `operator` is noted with it, where that is not generate.
    """
    id = child_id(*place)
    request = next_step(
        setting.messages + turns,
        prefix_of(graph, base, setting),
        setting.steps,
        decoding=setting.decoding,
        max_tokens=max_tokens,
        seed=derive_seed(setting.seed, id),
        thought=id,
        code=fresh_code(graph, place, setting.seed) if setting.distinct else None,
        alternatives=0 if setting.traced else None,
        calls=calls,
        operator=operator or "generate",
    )
    return Draft(place, base, request, {} if operator is None else {"operator": operator})


def compose(graph: ThoughtGraph, drafts: Sequence[Draft], setting: Setting) -> Asking[Outcome]:
    """Let the policy write all drafts in one batch; `outputs` are the ids of the new thoughts, in order.

    A reply that cannot be used (an error, cut off, refused by the step checker, an end without an answer)
    becomes a failed thought with its reason and harms no sibling.
    """
    started = time.monotonic()
    completions = yield from ask_policy(setting.policy, [draft.asked for draft in drafts])
    thoughts = {
        child_id(*draft.place): read(graph, draft, draft.mend(completion), setting)
        for draft, completion in zip(drafts, completions, strict=True)
    }
    usage = spent_on(completions, time.monotonic() - started, nodes=len(drafts))
    return Outcome(births(graph, thoughts), list(thoughts), usage)


def read(graph: ThoughtGraph, draft: Draft, completion: Completion, setting: Setting) -> Thought:
    """The thought that a completion amounts to."""
    (parent, index), base = draft.place, graph.thoughts[draft.base]
    behind = Behind(graph.question, base["depth"], base.get("state"), lambda: graph.steps(draft.base))
    reading = read_step(behind, completion, setting.steps)
    thought = Thought(
        parent=parent,
        index=index,
        depth=base["depth"] + 1,
        kind=reading.kind,
        text=reading.text,
        tokens=completion.tokens,
        logprob=round(completion.logprob, _DIGITS),
    )
    if completion.interval is not None:
        thought["interval"] = list(completion.interval)
    if draft.base != parent:
        thought["base"] = draft.base
    uncertainty = _uncertainty(completion.trace) if setting.traced else {}
    thought.update({**uncertainty, **reading.noted, **draft.noted})  # type: ignore[typeddict-item]
    return thought


def prefix_of(graph: ThoughtGraph, id: str, setting: Setting) -> str:
    """The assistant's turn down to a thought, as the policy is asked to continue it."""
    return graph.prefix(id, setting.steps.granularity.delimiter)


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


def _uncertainty(trace: Trace | None) -> dict[str, float]:
    """What is noted of a trace: plain numbers, the means over its tokens."""
    if trace is None or not trace.entropies:
        return {}
    means = {"entropy": fmean(trace.entropies), "varentropy": fmean(trace.varentropies)}
    return {name: round(mean, _DIGITS) for name, mean in means.items()}


def births(graph: ThoughtGraph, thoughts: dict[str, Thought]) -> Writes:
    """New thoughts with fresh statistics, counted as children of their parents."""
    stats = {id: fresh_stats(thought) for id, thought in thoughts.items()}
    born = Counter(thought["parent"] for thought in thoughts.values())
    for parent, count in born.items():
        if parent is not None:
            before = graph.stats[parent]
            stats[parent] = {**before, "children": before["children"] + count}
    return Writes(thoughts, stats)
