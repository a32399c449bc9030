"""Prune: close thoughts that are not worth going on with (blueprint §1, structure operators).

A pruned thought stays in the graph, closed: nothing is forgotten, and it can be looked at.
"""

from collections import Counter
from collections.abc import Callable, Sequence

from rlm_agent.operators.select import Score, top
from rlm_agent.structure.index import alike_to, in_state, meaning, state_of
from rlm_agent.structure.thoughts import Stats, ThoughtGraph, Writes


def close(graph: ThoughtGraph, ids: Sequence[str]) -> Writes:
    """Close each of `ids`, so that it is never selected again."""
    return Writes({}, {id: Stats({**graph.stats[id], "closed": True}) for id in ids})


def alike(graph: ThoughtGraph, id: str) -> Sequence[str]:
    """A thought and its siblings that say the same, in the order of their birth.

    Siblings say the same when their states are equal, or, without states, their texts.
    """
    thought = graph.thoughts[id]
    if thought["parent"] is None or thought["kind"] == "failed":
        return [id]
    return graph.find(alike_to(thought))


def twin(graph: ThoughtGraph, id: str) -> str:
    """The first-born sibling that says the same as a thought, or the thought itself."""
    return alike(graph, id)[0]


def duplicates(graph: ThoughtGraph, ids: Sequence[str]) -> list[str]:
    """Those of `ids` that have an elder sibling which says the same."""
    able = [id for id in ids if graph.thoughts[id]["kind"] not in ("root", "failed")]
    return [id for id in able if twin(graph, id) != id]


def known_states(graph: ThoughtGraph, ids: Sequence[str]) -> list[str]:
    """Those of `ids` whose state another thought anywhere has, or an earlier one of them; failed ones aside.

    Equal states are interchangeable, whichever way led there; thoughts without a state are their own.
    """
    return list(elders(graph, ids))


def elders(graph: ThoughtGraph, ids: Sequence[str]) -> dict[str, str]:
    """The most visited thought in the state of each of `known_states`, which may be that thought itself.

    Of several, the first-born.
    """
    later, found = set(ids), dict[str, str]()
    for id in ids:
        state = state_of(graph.thoughts[id])
        same = [] if state is None else graph.find(in_state(state))
        met = [one for one in same if one == id or one not in later]
        later.discard(id)
        if len(met) > 1:
            found[id] = max(met, key=lambda one: graph.stats[one]["visits"])
    return found


def beyond_top(graph: ThoughtGraph, ids: Sequence[str], score: Score, count: int) -> list[str]:
    """Those of `ids` that are open and not among the `count` best of the open ones."""
    alive = [id for id in ids if not graph.stats[id]["closed"]]
    kept = set(top(graph, alive, score, count))
    return [id for id in alive if id not in kept]


def all_closed(graph: ThoughtGraph, ids: Sequence[str]) -> bool:
    """Whether none of `ids` can be selected any more."""
    return all(graph.stats[id]["closed"] for id in ids)


def repeats(graph: ThoughtGraph, id: str) -> int:
    """How many children of a thought brought nothing new: failed, or said what an elder sibling said."""
    kept = [child for child in graph.children(id) if graph.thoughts[child]["kind"] != "failed"]
    return graph.stats[id]["children"] - len({meaning(graph.thoughts[child]) for child in kept})


def novelty(graph: ThoughtGraph, id: str) -> float:
    """The chance that the next child of a thought brings something new, 1 before the first.

    (f + 1) / (n + 1) for n children, of which f say what none of the others says: Good's estimate of the
    unseen (Biometrika 40, 1953), smoothed. A failed child says nothing.
    """
    kept = [child for child in graph.children(id) if graph.thoughts[child]["kind"] != "failed"]
    said = Counter(meaning(graph.thoughts[child]) for child in kept)
    singles = sum(count == 1 for count in said.values())
    return (singles + 1) / (graph.stats[id]["children"] + 1)


def exhausted(
    graph: ThoughtGraph, leaves: Sequence[str], given_up: Callable[[ThoughtGraph, str], bool]
) -> Writes:
    """Close the ancestors of `leaves` that have no open child and are to be given up; bottom up."""
    writes = Writes({}, {})
    for leaf in leaves:
        for id in reversed(graph.path(leaf)[:-1]):
            grown = graph.updated(writes)
            if not given_up(grown, id) or not all_closed(grown, grown.children(id)):
                break
            writes = writes.followed_by(close(grown, [id]))
    return writes
