"""Backtrack: where a depth-first search goes on, deeper or back up (blueprint §1, traversal operators)."""

from collections.abc import Callable, Iterator

from rlm_agent.operators.select import Score, top
from rlm_agent.structure.thoughts import ThoughtGraph

Test = Callable[[ThoughtGraph, str], bool]


def depth_first(graph: ThoughtGraph, score: Score, enters: Test | None = None) -> Iterator[str]:
    """Ids, parents first and the best of several siblings first, with all that is below it.

    With `enters`, nothing below a thought is visited that it says no to.
    """
    pending = [graph.root]
    while pending:
        id = pending.pop()
        yield id
        children = graph.children(id) if enters is None or enters(graph, id) else []
        pending.extend(reversed(top(graph, children, score, len(children))))


def backtrack(graph: ThoughtGraph, score: Score, waits: Test, enters: Test | None = None) -> str | None:
    """The thought that a depth-first search visits next: the first in its order that still waits, or None.

    That is the best child of the thought at hand or, where none waits, the next best sibling upward; nothing
    below a thought that `enters`, if given, says no to. It
    follows from the graph alone, so that a search that was broken off goes on alike.
    """
    return next((id for id in depth_first(graph, score, enters) if waits(graph, id)), None)
