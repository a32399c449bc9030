"""Generate: the policy writes new thoughts under given ones (blueprint §1, structure operators)."""

import time
from collections import Counter
from collections.abc import Sequence

from rlm_agent.models.drive import Asking, ask_policy
from rlm_agent.models.protocols import Completion, Request
from rlm_agent.operators.distinct import fresh_code
from rlm_agent.operators.prune import close, duplicates, twin
from rlm_agent.operators.setting import Outcome, Setting
from rlm_agent.structure.budget import Allowance, Usage, add_usage, no_usage
from rlm_agent.structure.ids import child_id, derive_seed
from rlm_agent.structure.steps import Steps
from rlm_agent.structure.thoughts import Kind, Thought, ThoughtGraph, Writes, fresh_stats

Plan = Sequence[tuple[str, int]]
"""Ids of thoughts, and how many children each is to get."""

Place = tuple[str, int]
"""A parent's id and the index of a child under it."""


def generate(graph: ThoughtGraph, plan: Plan, setting: Setting, allowance: Allowance) -> Asking[Outcome]:
    """Sample one step for each planned child, all in one batch; `outputs` are the new ids, in order.

    What the allowance does not cover is left out from the end of the plan. A reply that cannot be used
    (an error, cut off, refused by the step checker, an end without an answer) becomes a failed thought
    with its reason and harms no sibling.
    """
    wanted = sum(count for _, count in plan)
    fitting, max_tokens = allowance.samples(wanted, setting.steps.longest)
    places = _places(graph, plan)[:fitting]
    requests = [_request(graph, place, setting, max_tokens) for place in places]
    started = time.monotonic()
    completions = yield from ask_policy(setting.policy, requests)
    thoughts = {
        child_id(*place): read(graph, place, completion, setting)
        for place, completion in zip(places, completions, strict=True)
    }
    usage = _usage(completions, time.monotonic() - started)
    return Outcome(_writes(graph, thoughts), list(thoughts), usage)


def rollout(
    graph: ThoughtGraph, starts: Sequence[str], setting: Setting, allowance: Allowance
) -> Asking[Outcome]:
    """Continue each of `starts` by single children until all chains have ended or the allowance has.

    The chains stay in the graph as ordinary thoughts, so that nothing generated is lost to the search. A
    thought that says what an elder sibling says is closed, and the chain goes on from that sibling.
    """
    outcome = Outcome(Writes({}, {}), [], no_usage())
    fresh = list(starts)
    while fresh:
        grown = graph.updated(outcome.writes)
        doubles = duplicates(grown, fresh)
        outcome = outcome.followed_by(Outcome(close(grown, doubles), [], no_usage()))
        grown = graph.updated(outcome.writes)
        frontier = dict.fromkeys(twin(grown, id) for id in fresh)
        plan = [(id, 1) for id in frontier if not grown.stats[id]["closed"]]
        step = yield from generate(grown, plan, setting, allowance.less(outcome.usage))
        outcome = outcome.followed_by(step)
        fresh = step.outputs
    return outcome


def generate_to_end(
    graph: ThoughtGraph, plan: Plan, setting: Setting, allowance: Allowance
) -> Asking[Outcome]:
    """`generate`, then a `rollout` from each new thought."""
    first = yield from generate(graph, plan, setting, allowance)
    rest = yield from rollout(
        graph.updated(first.writes), first.outputs, setting, allowance.less(first.usage)
    )
    return first.followed_by(rest)


def read(graph: ThoughtGraph, place: Place, completion: Completion, setting: Setting) -> Thought:
    """The thought that a completion amounts to at its place in the graph."""
    parent, index = place
    text, kind, extra = _judge(graph, parent, completion, setting.steps)
    thought = Thought(
        parent=parent,
        index=index,
        depth=graph.thoughts[parent]["depth"] + 1,
        kind=kind,
        text=text,
        tokens=completion.tokens,
        logprob=round(completion.logprob, 6),
    )
    if completion.interval is not None:
        thought["interval"] = list(completion.interval)
    thought.update(extra)  # type: ignore[typeddict-item]
    return thought


def prefix_of(graph: ThoughtGraph, id: str, setting: Setting) -> str:
    """The assistant's turn down to a thought, as the policy is asked to continue it."""
    delimiter = setting.steps.granularity.delimiter
    return "".join(f"{step}{delimiter}" for step in graph.steps(id))


def _judge(
    graph: ThoughtGraph, parent: str, completion: Completion, steps: Steps
) -> tuple[str, Kind, dict[str, str]]:
    """The step's text; step, final or failed; and what is to be noted with it."""
    if completion.finish == "error":
        return completion.text, "failed", {"reason": completion.error or "the model gave no reply"}
    before = graph.steps(parent) if steps.answer_end.in_text else ()
    text, ending = steps.cut(before, completion.text, completion.finish, completion.tokens)
    if ending == "length":
        return text, "failed", {"reason": f"cut off after {completion.tokens} tokens"}
    return text, *_judge_step(graph, parent, text, steps, final=ending == "end")


def _judge_step(
    graph: ThoughtGraph, parent: str, text: str, steps: Steps, *, final: bool
) -> tuple[Kind, dict[str, str]]:
    """What a step that has come to its end amounts to."""
    noted = {}
    if steps.check is not None:
        checked = steps.check(graph.question, graph.thoughts[parent].get("state"), text)
        if checked.reason is not None:
            return "failed", {"reason": checked.reason}
        noted = {"state": checked.state} if checked.state is not None else {}
        final = final or checked.final
    elif not final and steps.granularity.is_empty(text):
        return "failed", {"reason": "an empty step"}
    if final:
        chain = steps.granularity.for_answer([*graph.steps(parent), text])
        answer = steps.answer(graph.question, chain)
        if answer is None:
            return "failed", {**noted, "reason": "ended without an answer"}
        return "final", {**noted, "answer": answer}
    if graph.thoughts[parent]["depth"] + 1 >= steps.max_steps:
        return "failed", {**noted, "reason": f"no answer within {steps.max_steps} steps"}
    return "step", noted


def _places(graph: ThoughtGraph, plan: Plan) -> list[Place]:
    born: Counter[str] = Counter()
    places = []
    for parent, count in plan:
        for _ in range(count):
            places.append((parent, graph.stats[parent]["children"] + born[parent]))
            born[parent] += 1
    return places


def _request(graph: ThoughtGraph, place: Place, setting: Setting, max_tokens: int) -> Request:
    unit, end = setting.steps.granularity, setting.steps.answer_end
    stop = (unit.delimiter,) if unit.delimiter else ()
    return Request(
        messages=setting.messages,
        prefix=prefix_of(graph, place[0], setting),
        max_tokens=max_tokens,
        seed=derive_seed(setting.seed, child_id(*place)),
        stop=stop,
        decoding=setting.decoding,
        thought=child_id(*place),
        stop_tokens=stop if unit.token else (),
        end_tokens=(end.token,) if end.token else (),
        code=fresh_code(graph, place, setting.seed) if setting.distinct else None,
    )


def _writes(graph: ThoughtGraph, thoughts: dict[str, Thought]) -> Writes:
    stats = {id: fresh_stats(thought) for id, thought in thoughts.items()}
    born = Counter(thought["parent"] for thought in thoughts.values())
    for parent, count in born.items():
        if parent is not None:
            before = graph.stats[parent]
            stats[parent] = {**before, "children": before["children"] + count}
    return Writes(thoughts, stats)


def _usage(completions: Sequence[Completion], seconds: float) -> Usage:
    usage = Usage({**no_usage(), "seconds": seconds})
    for completion in completions:
        spent = no_usage()
        spent["prompt_tokens"] = completion.prompt_tokens
        spent["cached_tokens"] = completion.cached_tokens
        spent["completion_tokens"] = completion.tokens
        spent["model_calls"] = spent["nodes"] = 1
        usage = add_usage(usage, spent)
    return usage
