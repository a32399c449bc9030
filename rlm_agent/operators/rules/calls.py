"""Calls of tools that thoughts make: which wait for an observation, and what is told without calling."""

from collections.abc import Container, Mapping, Sequence

from rlm_agent.operators.rules.observations import is_observation
from rlm_agent.structure.ids import fingerprint
from rlm_agent.structure.index import answered
from rlm_agent.structure.thoughts import ThoughtGraph
from rlm_agent.tools.actions import OBSERVATION, Call, Unreadable
from rlm_agent.tools.approval import Pending
from rlm_agent.tools.calling import ERROR
from rlm_agent.tools.syntax import Asked
from rlm_agent.tools.toolbox import Toolbox

Key = tuple[Call | Unreadable, str]
"""An action, and whose it is where it is not the same for all who ask."""


def asking(graph: ThoughtGraph, ids: Sequence[str], tools: Toolbox) -> list[tuple[str, Asked]]:
    """The actions of those of `ids` that wait for an observation."""
    found = []
    for id in ids:
        thought, stats = graph.thoughts[id], graph.stats[id]
        if thought["kind"] != "step" or stats["closed"] or stats["children"] or is_observation(graph, id):
            continue
        if actions := tools.asked(thought["text"]):
            found.append((id, actions))
    return found


def key_of(id: str, action: Call | Unreadable, tools: Toolbox) -> Key:
    """The key of an action that a thought asks for."""
    return action, "" if isinstance(action, Call) and tools[action.name].idempotent else id


def told(graph: ThoughtGraph, key: Key, tools: Toolbox, *, committed: bool) -> str | None:
    """What can be told without a call: why there is none, or what the same call has come to before."""
    action, owner = key
    if isinstance(action, Unreadable):
        return f"{ERROR}{action.reason}; the tools are {', '.join(tools)}"
    if not owner:
        return _said_before(graph, action)
    if committed or (tools.gate is not None and tools.gate.wants(tools[action.name])):
        return None
    return f"{ERROR}{action.name} has effects, and is not called while other ways are tried"


def _said_before(graph: ThoughtGraph, call: Call) -> str | None:
    """What the first observation says of a call that the same question has made before."""
    mark = mark_of(call)
    for id in graph.find(answered(mark))[:1]:
        thought = graph.thoughts[id]
        alone = [thought["text"].removeprefix(OBSERVATION)]
        return thought.get("said", alone)[thought["called"].index(mark)]
    return None


def refused(
    graph: ThoughtGraph, keys: Mapping[str, Sequence[Key]], known: Container[Key], tools: Toolbox
) -> dict[Key, str]:
    """What is told of the calls that nobody approved, though somebody has to."""
    if tools.gate is None:
        return {}
    waiting: dict[Key, Pending] = {}
    for id, listed in keys.items():
        for key in listed:
            action, _ = key
            if isinstance(action, Call) and key not in known and tools.gate.wants(tools[action.name]):
                waiting.setdefault(key, Pending(id, action.name, action.argument))
    decisions = tools.gate.decide(list(waiting.values())) if waiting else []
    return {
        key: f"{ERROR}the call was not approved{f': {reason}' if reason else ''}"
        for key, reason in zip(waiting, decisions, strict=True)
        if reason is not None
    }


def mark_of(call: Call) -> str:
    """What tells one call from another."""
    return fingerprint(call.name, call.argument)
