"""One step of a chain of action-thought, told as what its meta-action does.

Source: Satori (Shen et al., arXiv 2502.02508): a step continues, reflects, or explores. The chain is the
policy's own; only the beginning of a step may be put in its mouth.
"""

from collections.abc import Sequence
from dataclasses import replace

from rlm_agent.models.drive import Asking
from rlm_agent.operators.rules.spans import trace_last
from rlm_agent.operators.rules.think import go_on
from rlm_agent.operators.setting import Outcome, Setting
from rlm_agent.structure.budget import Allowance
from rlm_agent.structure.events import operator_event
from rlm_agent.structure.metaactions import CONTINUE, REFLECT, split_tag
from rlm_agent.structure.thoughts import Thought, ThoughtGraph, Writes


def act(
    graph: ThoughtGraph, id: str, begun: str, setting: Setting, allowance: Allowance, longest: int
) -> Asking[Outcome]:
    """The next step of a chain, in at most `longest` tokens, begun with `begun`; `outputs` is its id, if any.

    `Thought.operator` says `reflect` or `explore` where the step does. A step that continues or explores is
    logged as generate, a reflection as critique and as backtrack to the thought that it names.
    """
    written = yield from go_on(graph, id, begun, setting, allowance, longest)
    named = {new: _named(written.writes.thoughts[new]) for new in written.outputs}
    writes = Writes({**written.writes.thoughts, **named}, written.writes.stats)
    grown = graph.updated(writes)
    spans = [span for new in written.outputs for span in trace_last(grown, new)]
    told = [
        operator_event(span["operator"], span["inputs"], span["outputs"], None if number else written.usage)
        for number, span in enumerate(spans)
    ]
    return replace(written, writes=writes, trace=tuple(told) or written.trace)


def standing(graph: ThoughtGraph, ids: Sequence[str]) -> list[str]:
    """A chain without the reflections at its end, on which nothing can be reflected."""
    kept = list(ids)
    while kept and split_tag(graph.thoughts[kept[-1]]["text"]).tag == REFLECT:
        kept.pop()
    return kept


def _named(thought: Thought) -> Thought:
    action = split_tag(thought["text"])
    return thought if action.tag in (None, CONTINUE) else Thought({**thought, "operator": action.name})
