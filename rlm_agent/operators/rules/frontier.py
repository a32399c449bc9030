"""The frontier of a search: its open thoughts by promise, kept up to date from round to round.

It holds nothing that does not follow from the graph of thoughts, so that it can be made again at any time.
"""

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence

from rlm_agent.structure.index import state_of
from rlm_agent.structure.thoughts import ThoughtGraph

Promise = Callable[[ThoughtGraph, str, Mapping[str, float]], float | None]
"""What the next child of a thought is worth, from its children's promises; None if it has none itself."""

Full = Callable[[ThoughtGraph, str], bool]
"""Whether a thought can have no further child, though what descends from it can."""


class Frontier:
    """The promises of all thoughts, the open ones ordered for each depth, and the states that are known.

    An open thought's index is its promise / the steps that are missing to the mean length of the chains that
    have ended, at least 1; one that is full has none. `root` is the very record of the root from which the
    frontier was made, and `round` the round that it is good for: see `fits`.
    """

    def __init__(
        self, graph: ThoughtGraph, round: int, promise: Promise, full: Full = lambda graph, id: False
    ) -> None:
        self.round = round
        self.promises: dict[str, float] = {}
        self.states: set[str] = set()
        self._root = graph.thoughts[graph.root]
        self._promise = promise
        self._full = full
        self._lengths = self._ended = 0
        self._heaps: dict[int, list[tuple[float, tuple[int, ...], str]]] = {}
        self._take_up(graph, reversed(list(graph.walk())))

    def fits(self, graph: ThoughtGraph, round: int) -> bool:
        """Whether it belongs to this graph as it is in this round.

        A graph that was loaded, and may have been edited, has another record of its root, if an equal one.
        """
        return self._root is graph.thoughts[graph.root] and self.round == round

    def best(self, graph: ThoughtGraph, count: int) -> list[str]:
        """The `count` open thoughts of the highest indices, ties in the order of `walk`."""
        length = self._lengths / self._ended if self._ended else 0.0
        found = []
        for depth in self._heaps:
            missing = max(1.0, length - depth)
            first = self._first(graph, depth, count)
            found += [(worth / missing, place, id) for worth, place, id in first]
        return [id for _, _, id in sorted(found)[:count]]

    def known(self, graph: ThoughtGraph, fresh: Sequence[str]) -> list[str]:
        """Those of the `fresh` thoughts whose state is known, or an earlier one's; failed ones aside."""
        seen, known = set[str](), []
        for id in fresh:
            state = state_of(graph.thoughts[id])
            if state is None:
                continue
            if state in self.states or state in seen:
                known.append(id)
            seen.add(state)
        return known

    def grow(self, graph: ThoughtGraph, fresh: Sequence[str]) -> None:
        """Take up the `fresh` thoughts of a round, and what they change above them."""
        depths = {id: depth for new in fresh for depth, id in enumerate(graph.path(new))}
        upward = sorted(depths, key=lambda id: -depths[id])
        new = set(fresh)
        self._take_up(graph, [id for id in upward if id in new])
        self._weigh(graph, [id for id in upward if id not in new])
        self.round += 1

    def _take_up(self, graph: ThoughtGraph, ids: Iterable[str]) -> None:
        """Thoughts that are new to it, children before their parents."""
        for id in ids:
            thought = graph.thoughts[id]
            if (state := state_of(thought)) is not None:
                self.states.add(state)
            if thought["kind"] == "final":
                self._lengths += thought["depth"]
                self._ended += 1
            self._weigh(graph, [id])

    def _weigh(self, graph: ThoughtGraph, ids: Iterable[str]) -> None:
        for id in ids:
            promise = self._promise(graph, id, self.promises)
            if promise is None:
                self.promises.pop(id, None)
                continue
            self.promises[id] = promise
            if self._is_open(graph, id):
                place = tuple(graph.thoughts[step]["index"] for step in graph.path(id)[1:])
                heap = self._heaps.setdefault(graph.thoughts[id]["depth"], [])
                heapq.heappush(heap, (-promise, place, id))

    def _is_open(self, graph: ThoughtGraph, id: str) -> bool:
        return not graph.stats[id]["closed"] and not self._full(graph, id)

    def _first(self, graph: ThoughtGraph, depth: int, count: int) -> list[tuple[float, tuple[int, ...], str]]:
        """The best of one depth; entries that have been overtaken since they were made are thrown away."""
        heap = self._heaps[depth]
        first: list[tuple[float, tuple[int, ...], str]] = []
        while heap and len(first) < count:
            entry = heapq.heappop(heap)
            worth, _, id = entry
            stands = self._is_open(graph, id) and self.promises.get(id) == -worth
            if stands and entry not in first:
                first.append(entry)
        for entry in first:
            heapq.heappush(heap, entry)
        return first
