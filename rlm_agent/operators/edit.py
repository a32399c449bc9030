"""Edit: what a human changes in the graph of thoughts, all that is asked for or nothing.

Thoughts are immutable. So a text that is edited becomes a thought of its own beside the old one, and what is
pruned stays in the graph, closed and `dropped`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from rlm_agent.models.protocols import Completion
from rlm_agent.operators.prune import alike
from rlm_agent.operators.rules.borda import ranked
from rlm_agent.operators.setting import Outcome, Setting, nothing
from rlm_agent.operators.writing import births, draft, places, read
from rlm_agent.structure.budget import Allowance, Usage, no_usage
from rlm_agent.structure.edits import AddEdit, PruneEdit, StopEdit, TextEdit, ValueEdit
from rlm_agent.structure.errors import EditError, InputError
from rlm_agent.structure.ids import child_id
from rlm_agent.structure.shapes import shape
from rlm_agent.structure.thoughts import Stats, Thought, ThoughtGraph, Writes

HUMAN = "human"
"""The `Thought.operator` of what a human wrote."""


def edit(
    graph: ThoughtGraph, edits: Sequence[Mapping[str, Any]], setting: Setting, allowance: Allowance
) -> Outcome:
    """Make the edits one after another; `outputs` are the new thoughts, to be evaluated as any.

    edits: each an `Edit` of `structure.edits`; that a search is to stop, changes nothing here.

    A human's thought is read and checked as one of the policy's, costs no tokens, and counts as sure: its
    log-probability is 0. A thought that is exhausted is opened again where it gets an open descendant. Raises
    `EditError` with a reason for each edit that cannot be done; then none is.
    """
    outcome, refused = nothing(), list[str]()
    for number, one in enumerate(edits, 1):
        try:
            outcome = outcome.followed_by(_made(graph.updated(outcome.writes), one, setting))
        except InputError as error:
            refused.append(f"edit {number}: {error}")
    if outcome.usage["nodes"] > allowance.nodes:
        refused.append(f"the budget allows {max(0, int(allowance.nodes))} more thoughts; raise it")
    if refused:
        raise EditError(refused)
    return outcome.logged("edit", list(dict.fromkeys(id for id in map(subject, edits) if id is not None)))


def subject(edit: Mapping[str, Any]) -> str | None:
    """The id of the thought that an edit is about; None for the end of the search."""
    verb = next(verb for verb in _VERBS if verb in edit)
    return None if verb == "stop" else str(edit[verb])


def _made(graph: ThoughtGraph, edit: Mapping[str, Any], setting: Setting) -> Outcome:
    verbs = [verb for verb in _VERBS if verb in edit] if type(edit) is dict else []
    if len(verbs) != 1:
        raise InputError(f"{edit!r:.80} is no edit; give one of {', '.join(_VERBS)}")
    kind, make = _VERBS[verbs[0]]
    if (fault := shape(kind)(edit)) is not None:
        raise InputError(f"{edit!r:.80} cannot be read: {fault}")
    about = subject(edit)
    if about is not None and (about not in graph.thoughts or graph.path(about)[0] != graph.root):
        raise InputError(f"this question has no thought {about!r:.40}")
    if about is not None and graph.dropped(about):
        raise InputError(f"{about} was pruned before")
    return make(graph, edit, setting)


def _added(graph: ThoughtGraph, edit: Mapping[str, Any], setting: Setting) -> Outcome:
    parent: str = edit["add"]
    thought, whole = graph.thoughts[parent], setting.steps.granularity.whole
    if graph.stats[parent]["closed"]:
        kinds = {"final": "ends a chain", "failed": "was refused itself"}
        raise InputError(f"nothing follows {parent}, which {kinds.get(thought['kind'], 'is closed')}")
    # A whole solution does not go on from another one: it stands in its place, as a rewrite does.
    base = graph.base(parent) if whole and parent != graph.root else parent
    return _written(graph, parent, base or parent, edit, setting)


def _replaced(graph: ThoughtGraph, edit: Mapping[str, Any], setting: Setting) -> Outcome:
    old: str = edit["edit"]
    pruned = _pruned(graph, {"prune": old}, setting)
    parent = graph.thoughts[old]["parent"] or graph.root
    written = _written(graph.updated(pruned.writes), parent, graph.base(old) or parent, edit, setting)
    return pruned.followed_by(written)


def _written(
    graph: ThoughtGraph,
    parent: str,
    base: str,
    edit: Mapping[str, Any],
    setting: Setting,
) -> Outcome:
    """A thought of a human's as the next child of a parent."""
    text: str = edit["text"].strip()
    if (delimiter := setting.steps.granularity.delimiter) and delimiter in text:
        raise InputError(f"{text!r:.80} is more than one step; add one after another")
    (place,) = places(graph, [(parent, 1)])
    asked = draft(graph, place, setting, setting.steps.longest, base=base)
    said = Completion(text, 0, 0.0, "end" if edit.get("final") else "stop")
    thought = read(graph, replace(asked, noted={"operator": HUMAN}), said, setting)
    if thought["kind"] == "failed":
        raise InputError(f"{text!r:.80} is refused: {thought['reason']}")
    if thought["text"] != text and thought["kind"] != "final":
        raise InputError(f"{text!r:.80} is more than one step; the first is {thought['text']!r:.80}")
    id = child_id(*place)
    writes = births(graph, {id: thought})
    grown = graph.updated(writes)
    if same := [one for one in alike(grown, id) if grown.dropped(one)]:
        raise InputError(f"{text!r:.80} says what {same[0]} says, which is pruned")
    writes = writes.followed_by(_opened(grown, id))
    return Outcome(writes, [id], Usage({**no_usage(), "nodes": 1}))


def _opened(graph: ThoughtGraph, id: str) -> Writes:
    """Open the closed ancestors of an open thought: they were exhausted before it was there."""
    above = [] if graph.stats[id]["closed"] else graph.path(id)[:-1]
    closed = [one for one in above if graph.stats[one]["closed"]]
    return Writes({}, {one: Stats({**graph.stats[one], "closed": False}) for one in closed})


def _pruned(graph: ThoughtGraph, edit: Mapping[str, Any], setting: Setting) -> Outcome:
    top = subject(edit)
    assert top is not None
    if top == graph.root:
        raise InputError("the question itself cannot be changed or pruned; ask another one, or stop")
    pending, stats = [top], dict[str, Stats]()
    while pending:
        id = pending.pop()
        stats[id] = Stats({**graph.stats[id], "closed": True, "dropped": True})
        pending += graph.children(id)
    root = graph.stats[graph.root]
    if "population" in root:
        living = {id: count for id, count in root["population"].items() if id not in stats}
        stats[graph.root] = Stats({**root, "population": living})
    return Outcome(Writes({}, stats), [], no_usage())


def _revalued(graph: ThoughtGraph, edit: Mapping[str, Any], setting: Setting) -> Outcome:
    id, value = edit["revalue"], float(edit["value"])
    if not 0 <= value <= 1:
        raise InputError(f"{value} is no value; give a number in [0, 1]")
    thought = graph.thoughts[id]
    if thought["kind"] in ("root", "failed"):
        raise InputError(f"{id} is {'the question' if id == graph.root else 'refused'}: it has no value")
    if thought["kind"] == "final" and setting.verifier is not None:
        raise InputError(f"{id} is an answer that the verifier has judged; prune it instead")
    if ranked(graph):
        raise InputError("this search compares solutions instead of valuing them; prune or add some")
    stats = _carried_up(graph, id, 2 * value - 1)
    stats[id] = Stats({**stats.get(id, graph.stats[id]), "value": value})
    return Outcome(Writes({}, stats), [], no_usage())


def _carried_up(graph: ThoughtGraph, id: str, q: float) -> dict[str, Stats]:
    """Set the q of a thought that was visited, and shift that of each thought above it by the share of its
    visits that went this way: as if all that was backed up here had been so much more or less.

    That is exact where q is a mean of returns. Where a backup forgets (x1), later visits correct it.
    """
    stats = dict[str, Stats]()
    if not graph.stats[id]["visits"]:
        return stats
    shift = q - graph.stats[id]["q"]
    for one, above in pairwise([*reversed(graph.path(id)), ""]):
        before = graph.stats[one]
        stats[one] = Stats({**before, "q": max(-1.0, min(1.0, before["q"] + shift))})
        if above and graph.stats[above]["visits"]:
            shift *= min(1.0, before["visits"] / graph.stats[above]["visits"])
    return stats


def _stopped(graph: ThoughtGraph, edit: Mapping[str, Any], setting: Setting) -> Outcome:
    return nothing()


_Make = Callable[[ThoughtGraph, Mapping[str, Any], Setting], Outcome]
_VERBS: dict[str, tuple[type, _Make]] = {
    "add": (AddEdit, _added),
    "edit": (TextEdit, _replaced),
    "prune": (PruneEdit, _pruned),
    "revalue": (ValueEdit, _revalued),
    "stop": (StopEdit, _stopped),
}


def human(thought: Thought) -> bool:
    """Whether a human wrote a thought."""
    return thought.get("operator") == HUMAN
