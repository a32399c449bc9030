"""Graphs of thoughts built by hand, for the tests of what works on them."""

from typing import Any, cast

from rlm_agent.structure.ids import child_id, root_id
from rlm_agent.structure.thoughts import Kind, Stats, Thought, ThoughtGraph, Writes, fresh_stats


def plant(question: str = "q") -> ThoughtGraph:
    """A graph of one root."""
    root = Thought(parent=None, index=0, depth=0, kind="root", text=question, tokens=0, logprob=0.0)
    return ThoughtGraph(root_id(1), {root_id(1): root}, {root_id(1): fresh_stats(root)})


def graft(
    graph: ThoughtGraph,
    parent: str,
    text: str,
    kind: Kind = "step",
    *,
    tokens: int = 1,
    logprob: float = 0.0,
    state: str | None = None,
    answer: str | None = None,
    **stats: Any,
) -> tuple[ThoughtGraph, str]:
    """The graph with one more child under `parent`, and the child's id; `stats` differ from fresh ones."""
    index = graph.stats[parent]["children"]
    id = child_id(parent, index)
    thought = Thought(
        parent=parent,
        index=index,
        depth=graph.thoughts[parent]["depth"] + 1,
        kind=kind,
        text=text,
        tokens=tokens,
        logprob=logprob,
    )
    if state is not None:
        thought["state"] = state
    if answer is not None:
        thought["answer"] = answer
    born = Stats({**graph.stats[parent], "children": index + 1})
    own = changed(fresh_stats(thought), **stats)
    return graph.updated(Writes({id: thought}, {parent: born, id: own})), id


def changed(before: Stats, **stats: Any) -> Stats:
    """Statistics with some of them changed."""
    return cast("Stats", {**before, **stats})


def grown(texts: dict[str, list[str]]) -> tuple[ThoughtGraph, dict[str, str]]:
    """The graph whose root is "q" and in which each text has the listed children; and the ids by text."""
    graph = plant()
    ids = {"q": graph.root}
    for parent, children in texts.items():
        for text in children:
            graph, ids[text] = graft(graph, ids[parent], text)
    return graph, ids


def marked(graph: ThoughtGraph, id: str, **stats: Any) -> ThoughtGraph:
    """The graph with some statistics of one thought changed."""
    return graph.updated(Writes({}, {id: changed(graph.stats[id], **stats)}))
