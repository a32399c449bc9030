"""Act: let tools answer the thoughts that call them (blueprint §1, ecosystem operators).

Source: ReAct (Yao et al., arXiv 2210.03629): a step may be an action, and the observation of what came of it
is the next step of the chain, which the policy reads before it goes on.
"""

import time
from collections.abc import Collection, Sequence
from dataclasses import replace

from rlm_agent.models.drive import Asking, ask_tools
from rlm_agent.models.protocols import Completion
from rlm_agent.operators.generate import generate
from rlm_agent.operators.prune import twin
from rlm_agent.operators.setting import Outcome, Setting, nothing
from rlm_agent.operators.writing import Plan, births
from rlm_agent.structure.budget import Allowance, Usage, no_usage
from rlm_agent.structure.ids import child_id
from rlm_agent.structure.steps import Steps
from rlm_agent.structure.thoughts import Thought, ThoughtGraph
from rlm_agent.tools.actions import (
    OBSERVATION,
    Call,
    Unreadable,
    claims_observation,
    read_action,
    read_finish,
)
from rlm_agent.tools.calling import ERROR
from rlm_agent.tools.toolbox import Toolbox

ACT = "act"
"""The `Thought.operator` of an observation."""


def act(
    graph: ThoughtGraph,
    ids: Sequence[str],
    setting: Setting,
    tools: Toolbox,
    allowance: Allowance,
    *,
    committed: bool = False,
) -> Asking[Outcome]:
    """Let the tools answer those of `ids` that call them, all at the same time; `outputs` are observations.

    An observation is the only child of the thought that called, and the next step of its chain. It takes no
    tokens, and one node; calls that the nodes or the time do not cover are left for later, and thoughts
    that are answered, closed, or repeat an elder sibling are left alone.

    What cannot be called, fails, or takes too long is told of in the observation. An identical call of the
    same question has the same observation, be it a failure, and is not made again. A tool with effects is
    called only where the path is `committed`, which says that no other way will be tried, and then every time
    that it is asked for; a run that breaks off in a call makes it again. Tools see their argument alone.
    """
    asked = _asking(graph, ids, tools)
    room = 0 if allowance.spent else int(min(len(asked), allowance.nodes))
    asked, started = asked[:room], time.monotonic()
    if not asked:
        return nothing()
    keys = {id: _key(id, action, tools) for id, action in asked}
    known = _known(graph, keys.values(), tools, committed=committed)
    missing = [key for key in dict.fromkeys(keys.values()) if key not in known]
    calls = [(tools[action.name], action.argument) for action, _ in missing if isinstance(action, Call)]
    known |= zip(missing, (yield from ask_tools(calls, tools.limits)), strict=True)
    thoughts = {child_id(id, 0): _observation(graph, id, known[key], setting) for id, key in keys.items()}
    usage = Usage({**no_usage(), "nodes": len(thoughts), "seconds": time.monotonic() - started})
    outcome = Outcome(births(graph, thoughts), list(thoughts), usage)
    return outcome.logged(ACT, [id for id, _ in asked])


def advance(
    graph: ThoughtGraph,
    plan: Plan,
    setting: Setting,
    tools: Toolbox | None,
    allowance: Allowance,
    *,
    committed: bool = False,
) -> Asking[Outcome]:
    """`generate`, then `act` on what was written; `outputs` are the new thoughts and then their observations.

    Planned thoughts whose calls nobody has answered yet, since a budget ended before, are answered first, and
    it is their observations that are gone on from. Without tools, it is `generate`.
    """
    if tools is None:
        return (yield from generate(graph, plan, setting, allowance))
    ids = [id for id, _ in plan]
    outcome = yield from act(graph, ids, setting, tools, allowance, committed=committed)
    grown = graph.updated(outcome.writes)
    plan = [(observed(grown, id), count) for id, count in plan]
    left = allowance.less(outcome.usage)
    written = yield from generate(grown, plan, setting, left, lambda reply: mended(reply, tools))
    outcome = outcome.followed_by(written)
    grown, left = graph.updated(outcome.writes), allowance.less(outcome.usage)
    answered = yield from act(grown, written.outputs, setting, tools, left, committed=committed)
    return outcome.followed_by(answered)


def is_observation(graph: ThoughtGraph, id: str) -> bool:
    """Whether a thought is what a tool said."""
    return graph.thoughts[id].get("operator") == ACT


def observed(graph: ThoughtGraph, id: str) -> str:
    """The observation that answers a thought, or the thought itself where it called no tool."""
    first = child_id(id, 0)
    return first if graph.stats[id]["children"] and is_observation(graph, first) else id


def mended(reply: Completion, tools: Toolbox) -> Completion:
    """A reply as one who may act meant it.

    `Finish[answer]` ends the chain, a call does not, though the policy may end its turn with it, and
    an observation that the policy has made up is no step.
    """
    if reply.finish not in ("stop", "end"):
        return reply
    if claims_observation(reply.text):
        return replace(reply, finish="error", error="an observation that no tool has made")
    if read_finish(reply.text) is not None:
        return replace(reply, finish="end")
    return reply if read_action(reply.text, tools) is None else replace(reply, finish="stop")


def acting(steps: Steps) -> Steps:
    """The steps of one who may act: the answer is what is finished with, else what its own steps say."""

    def answer(question: str, chain: Sequence[str]) -> str | None:
        finished = read_finish(chain[-1]) if chain else None
        own = [step for step in chain if not step.startswith(OBSERVATION)]
        return steps.answer(question, own) if finished is None else finished or None

    return replace(steps, answer=answer)


Key = tuple[Call | Unreadable, str]
"""An action, and whose it is where it is not the same for all who ask."""


def _asking(graph: ThoughtGraph, ids: Sequence[str], tools: Toolbox) -> list[tuple[str, Call | Unreadable]]:
    """The actions of those of `ids` that wait for an observation."""
    found = []
    for id in ids:
        thought, stats = graph.thoughts[id], graph.stats[id]
        if thought["kind"] != "step" or stats["closed"] or stats["children"] or is_observation(graph, id):
            continue
        action = read_action(thought["text"], tools)
        if action is not None and twin(graph, id) == id:
            found.append((id, action))
    return found


def _key(id: str, action: Call | Unreadable, tools: Toolbox) -> Key:
    return action, "" if isinstance(action, Call) and tools[action.name].idempotent else id


def _known(graph: ThoughtGraph, keys: Collection[Key], tools: Toolbox, *, committed: bool) -> dict[Key, str]:
    """What can be told without a call: why there is none, or what the same call has come to before."""
    known, open_keys = {}, set()
    for key in keys:
        action, owner = key
        if isinstance(action, Unreadable):
            known[key] = f"{ERROR}{action.reason}; the tools are {', '.join(tools)}"
        elif owner and not committed:
            known[key] = f"{ERROR}{action.name} has effects, and is not called while other ways are tried"
        elif not owner:
            open_keys.add(key)
    return known | _said_before(graph, open_keys, tools)


def _said_before(graph: ThoughtGraph, keys: Collection[Key], tools: Toolbox) -> dict[Key, str]:
    """The graph is the cache: what observations of this question say, by the call that they answer."""
    arguments = [action.argument for action, _ in keys if isinstance(action, Call)]
    found: dict[Key, str] = {}
    for id, thought in graph.thoughts.items() if arguments else ():
        parent = thought["parent"]
        if thought.get("operator") != ACT or parent is None:
            continue
        text = graph.thoughts[parent]["text"]
        action = read_action(text, tools) if any(argument in text for argument in arguments) else None
        key = None if action is None else (action, "")
        if key in keys and key is not None and graph.path(id)[0] == graph.root:
            found.setdefault(key, thought["text"].removeprefix(OBSERVATION))
    return found


def _observation(graph: ThoughtGraph, id: str, said: str, setting: Setting) -> Thought:
    """What a tool said as a thought; its text is one step, whatever delimits steps."""
    steps, depth = setting.steps, graph.thoughts[id]["depth"] + 1
    parts = said.split(steps.granularity.delimiter) if steps.granularity.delimiter else [said]
    thought = Thought(
        parent=id,
        index=0,
        depth=depth,
        kind="step" if depth < steps.max_steps else "failed",
        text=OBSERVATION + " ".join(part.strip() for part in parts if part.strip()),
        tokens=0,
        logprob=0.0,
        operator=ACT,
    )
    if thought["kind"] == "failed":
        thought["reason"] = f"no answer within {steps.max_steps} steps"
    return thought
