"""Which solutions are ranked against each other, and which of them stands highest (see `ranking`)."""

from collections.abc import Container, Sequence

from rlm_agent.structure.thoughts import Stats, ThoughtGraph, Writes


def ranked(graph: ThoughtGraph) -> list[str]:
    """The thoughts that take part in the ranking, in the order of their birth: those that were admitted."""
    return graph.stats[graph.root].get("ranked", [])


def admit(graph: ThoughtGraph, ids: Sequence[str], known: Container[str]) -> Writes:
    """Let those of `ids` take part in the ranking, and be selected, whose texts are not `known` there.

    It is finished thoughts that are ranked; what was closed at its birth is therefore opened.
    """
    said, stats = {""}, dict[str, Stats]()
    for id in ids:
        text = graph.thoughts[id]["text"].strip()
        if text not in said and text not in known:
            said.add(text)
            stats[id] = Stats({**graph.stats[id], "closed": False, "preferences": {}})
    if stats:
        stats[graph.root] = Stats({**graph.stats[graph.root], "ranked": [*ranked(graph), *stats]})
    return Writes({}, stats)


def standing(graph: ThoughtGraph, id: str) -> int:
    """What is known of a thought without comparing it: 0 if it failed, 2 if it is surely right, else 1."""
    if graph.thoughts[id]["kind"] == "failed":
        return 0
    return 2 if graph.stats[id]["value"] == 1.0 else 1


def highest_ranked(graph: ThoughtGraph, ids: Sequence[str]) -> str | None:
    """The one of the highest q among `ids`, one that is surely right before all others; None without any."""
    stats = graph.stats
    admitted = set(ranked(graph))
    return max(ids, key=lambda id: (standing(graph, id), id in admitted, stats[id]["q"]), default=None)
