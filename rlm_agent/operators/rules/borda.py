"""Which solutions are ranked against each other, and which of them stands highest (see `ranking`)."""

from collections.abc import Container, Mapping, Sequence

from rlm_agent.structure.index import ALL
from rlm_agent.structure.thoughts import Stats, ThoughtGraph, Writes


def is_ranked(stats: Stats) -> bool:
    """Whether a thought takes part in the ranking: whether it was admitted."""
    return "preferences" in stats


def ranked(graph: ThoughtGraph) -> list[str]:
    """The thoughts that take part in the ranking, in the order of their birth."""
    return [id for id in graph.find(ALL) if is_ranked(graph.stats[id])]


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
    return Writes({}, stats)


class Admissions:
    """Which thoughts of a search were admitted since it was looked at last."""

    def __init__(self) -> None:
        self._seen = 0
        self._waiting: list[str] = []

    def since(self, graph: ThoughtGraph) -> list[str]:
        """Those that were admitted since; one that was not visited yet may be admitted later."""
        born, stats = graph.find(ALL), graph.stats
        if not self._waiting and self._seen == len(born):
            return []
        looked_at = [*self._waiting, *born[self._seen :]]
        self._seen = len(born)
        self._waiting = [id for id in looked_at if not (is_ranked(stats[id]) or stats[id]["visits"])]
        return [id for id in looked_at if is_ranked(stats[id])]


def standing(graph: ThoughtGraph, id: str) -> int:
    """What is known of a thought without comparing it: 0 if it failed, 2 if it is surely right, else 1."""
    if graph.thoughts[id]["kind"] == "failed":
        return 0
    return 2 if graph.stats[id]["value"] == 1.0 else 1


def highest_ranked(graph: ThoughtGraph, ids: Sequence[str], q: Mapping[str, float]) -> str | None:
    """The one of the highest q among `ids`; None without any.

    One that is surely right comes before all others, and one that is ranked, which alone has a `q`, before
    one that is not.
    """
    return max(ids, key=lambda id: (standing(graph, id), id in q, q.get(id, 0.0)), default=None)
