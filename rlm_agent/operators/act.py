"""Act: let tools answer the thoughts that call them (blueprint §1, ecosystem operators).

Source: ReAct (Yao et al., arXiv 2210.03629): a step may be an action, and the observation of what came of it
is the next step of the chain, which the policy reads before it goes on.
"""

import time
from collections.abc import Mapping, Sequence

from rlm_agent.models.drive import Asking, ask_tools
from rlm_agent.operators.prune import twin
from rlm_agent.operators.rules.calls import Key, asking, key_of, mark_of, refused, told
from rlm_agent.operators.rules.observations import ACT, observation
from rlm_agent.operators.setting import Outcome, Setting, nothing
from rlm_agent.operators.writing import births
from rlm_agent.structure.budget import Allowance, Usage, no_usage
from rlm_agent.structure.ids import child_id
from rlm_agent.structure.thoughts import Thought, ThoughtGraph
from rlm_agent.tools.actions import Call
from rlm_agent.tools.toolbox import Toolbox


def act(
    graph: ThoughtGraph,
    ids: Sequence[str],
    setting: Setting,
    tools: Toolbox,
    allowance: Allowance,
    *,
    committed: bool = False,
    repeats: bool = False,
) -> Asking[Outcome]:
    """Let the tools answer those of `ids` that call them, all at the same time; `outputs` are observations.

    An observation is the only child of the thought that called, and the next step of its chain; where the
    thought made several calls it numbers what they came to. It takes no tokens, and one node; thoughts that
    the nodes or the time do not cover are left for later, and those that are answered, closed, or, without
    `repeats`, say what an elder sibling says are left alone.

    What cannot be called, fails, or takes too long is told of in the observation. An identical call of the
    same question has the same observation, be it a failure, and is not made again. A tool with effects is
    called only where the path is `committed`, which says that no other way will be tried, or where the
    toolbox has a gate and the call was approved; and then every time that it is asked for. A run that breaks
    off in a call makes it again. Tools see their argument alone.

    The gate is asked before anything is called, so that it may suspend the search.
    """
    asked = [one for one in asking(graph, ids, tools) if repeats or twin(graph, one[0]) == one[0]]
    room = 0 if allowance.spent else int(min(len(asked), allowance.nodes))
    asked, started = asked[:room], time.monotonic()
    if not asked:
        return nothing()
    keys = {id: [key_of(id, action, tools) for action in actions] for id, actions in asked}
    wanted = dict.fromkeys(key for listed in keys.values() for key in listed)
    known = {
        key: text for key in wanted if (text := told(graph, key, tools, committed=committed)) is not None
    }
    known |= refused(graph, keys, known, tools)
    missing = [key for key in wanted if key not in known]
    calls = [(tools[action.name], action.argument) for action, _ in missing if isinstance(action, Call)]
    known |= zip(missing, (yield from ask_tools(calls, tools.limits)), strict=True)
    thoughts = {child_id(id, 0): _answer(graph, id, listed, known, setting) for id, listed in keys.items()}
    usage = Usage({**no_usage(), "nodes": len(thoughts), "seconds": time.monotonic() - started})
    outcome = Outcome(births(graph, thoughts), list(thoughts), usage)
    return outcome.logged(ACT, [id for id, _ in asked])


def _answer(
    graph: ThoughtGraph, id: str, keys: Sequence[Key], known: Mapping[Key, str], setting: Setting
) -> Thought:
    """The observation of all that a thought has called; it remembers what others may ask as well."""
    said = [known[key] for key in keys]
    numbered = " ".join(f"[{number}] {text}" for number, text in enumerate(said, 1))
    thought = observation(graph, (id, 0), said[0] if len(said) == 1 else numbered, setting)
    called = [mark_of(action) if isinstance(action, Call) and not owner else "" for action, owner in keys]
    if any(called):
        thought["called"] = called
        thought.update({"said": said} if len(said) > 1 else {})
    return thought
