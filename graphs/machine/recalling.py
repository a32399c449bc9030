"""Where a search begins from what is remembered, and what of it is remembered in the end."""

from rlm_agent.graphs.machine.memory import Recalled, Solved, recall, remember
from rlm_agent.graphs.machine.rules import Parts, Search
from rlm_agent.models.drive import Asking
from rlm_agent.operators.rules.observations import in_one_step
from rlm_agent.operators.writing import births
from rlm_agent.structure.ids import child_id
from rlm_agent.structure.thoughts import Thought, ThoughtGraph, Writes, fresh_stats

RECALL = "recall"
"""The operator of a thought that was not thought but remembered."""


def remembering(parts: Parts, id: str, root: Thought) -> Asking[Writes]:
    """A root with notes on questions like its own; below it, if it may be reused, the solution of before."""
    plain = Writes({id: root}, {id: fresh_stats(root)})
    if parts.memory is None:
        return plain
    general = parts.policy.task is None
    if not general and not parts.memory.reuse:
        return plain
    known: Recalled = yield from recall(parts.memory, topic_of(parts), root["text"], notes=general)
    if known.notes:
        root = Thought({**root, "recalled": list(known.notes)})
    plain = Writes({id: root}, {id: fresh_stats(root)})
    solved = known.same
    if solved is None or root.get("given") or not parts.memory.reuse or not _holds(parts, solved):
        return plain
    thought = _again(parts, id, solved)
    below = births(ThoughtGraph(id, plain.thoughts, plain.stats), {child_id(id, 0): thought})
    below.stats[child_id(id, 0)]["value"] = 1.0
    return plain.followed_by(below)


def keeping(parts: Parts, search: Search, best: str | None, verified: bool) -> Asking[None]:
    """Remember what a search has found, unless that is remembered already, and what it has learned."""
    if parts.memory is None:
        return
    graph, solved = search.graph, None
    answer = None if best is None else graph.thoughts[best].get("answer")
    if best is not None and answer is not None and graph.thoughts[best].get("operator") != RECALL:
        lines = parts.steps.granularity.for_answer(graph.steps(best))
        solved = Solved(graph.question, answer, tuple(lines), verified)
    yield from remember(parts.memory, topic_of(parts), graph, solved)


def topic_of(parts: Parts) -> str:
    """What a memory is of: the task of a specialist, or anything."""
    return parts.policy.task or "general"


def _holds(parts: Parts, solved: Solved) -> bool:
    """Whether the verifier, asked again, accepts what is remembered, and that would end the search."""
    if parts.verifier is None or not parts.stop_when_verified:
        return False
    return parts.verifier(solved.question, solved.answer).correct


def _again(parts: Parts, root: str, solved: Solved) -> Thought:
    return Thought(
        parent=root,
        index=0,
        depth=1,
        kind="final",
        text=in_one_step("\n".join(solved.steps), parts.steps),
        tokens=0,
        logprob=0.0,
        answer=solved.answer,
        operator=RECALL,
    )
