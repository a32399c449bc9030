"""Reviews: the conditions on which a search stops for a human."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from rlm_agent.graphs.machine.rules import Search
from rlm_agent.operators.backpropagate import expected_value
from rlm_agent.operators.edit import human
from rlm_agent.operators.writing import most_for_a_step
from rlm_agent.structure.budget import Usage
from rlm_agent.structure.errors import InputError, UnknownNameError
from rlm_agent.structure.thoughts import ThoughtGraph


@dataclass(frozen=True, slots=True)
class Review:
    """When a search stops for a human. Of several conditions each stops it, and none twice in a round.

    depth: before a thought at that depth gets its first children; the question has depth 0.
    tokens: before a round whose planned children may take more tokens than that, without what a rollout adds.
    every: before the next round after each so many tokens that were generated.
    tie: where the values of the best two open or finished candidates are no further apart than that.
    answer: before the search concludes, once for each thought that holds the answer.
    when: a pure function of the search, asked before each round: the reason for a stop, or None.

    Raises `InputError` for numbers out of range, and where nothing is given.
    """

    depth: int | None = None
    tokens: int | None = None
    every: int | None = None
    tie: float | None = None
    answer: bool = False
    when: Callable[[Search], str | None] | None = None

    def __post_init__(self) -> None:
        least = {"depth": 0, "tokens": 0, "every": 1, "tie": 0}
        given = {name: number for name in least if (number := getattr(self, name)) is not None}
        if any(number < least[name] for name, number in given.items()) or given.get("tie", 0) > 1:
            raise InputError(
                f"{given} stop no search; depth and tokens begin at 0, every at 1, tie is in [0, 1]"
            )
        if not (self.rounds or self.answer):
            raise InputError("a review without a condition never stops a search; give one, or leave it out")

    @property
    def rounds(self) -> bool:
        """Whether there are conditions that are looked at before each round."""
        return any(one is not None for one in (self.depth, self.tokens, self.every, self.tie, self.when))

    def held(self, search: Search, usage: Usage, seen: Mapping[str, Any]) -> dict[str, Any]:
        """The conditions that hold before a round, by name, with what is to be noted of each as `seen`.

        None holds again for what is noted of it already.
        """
        notes = {
            "depth": self._at_depth(search, seen.get("depth", [])),
            "tokens": self._expensive(search),
            "every": self._spent(usage, seen.get("every", 0)),
            "tie": self._level(search.graph),
            "when": self._wanted(search),
        }
        return {name: note for name, note in notes.items() if note is not None and note != seen.get(name)}

    def _at_depth(self, search: Search, seen: list[str]) -> list[str] | None:
        """The thoughts of the depth that get their first children, if no human has seen one of them."""
        thoughts, stats = search.graph.thoughts, search.graph.stats
        planned = [id for id, _ in search.run["plan"] if thoughts[id]["depth"] == self.depth]
        first = [id for id in planned if not stats[id]["children"]]
        return first if any(id not in seen and not human(thoughts[id]) for id in first) else None

    def _expensive(self, search: Search) -> int | None:
        """The round, if it may take too much."""
        if self.tokens is None:
            return None
        _, longest = most_for_a_step(search.setting)
        most = min(sum(count for _, count in search.run["plan"]) * longest, search.allowance.tokens)
        return search.run["round"] if most > self.tokens else None

    def _spent(self, usage: Usage, before: int) -> int | None:
        """What was spent, if it is enough more than before."""
        spent = usage["completion_tokens"]
        return spent if self.every is not None and spent - before >= self.every else None

    def _level(self, graph: ThoughtGraph) -> list[str] | None:
        """The best two candidates, if they are level."""
        if self.tie is None:
            return None
        values = {id: expected_value(graph, id) for id in graph.walk() if is_candidate(graph, id)}
        best = sorted(values, key=lambda id: -values[id])[:2]
        level = len(best) == 2 and values[best[0]] - values[best[1]] <= self.tie
        return best if level else None

    def _wanted(self, search: Search) -> list[Any] | None:
        """The reason that the function gives, and the round."""
        reason = None if self.when is None else self.when(search)
        return None if reason is None else [reason, search.run["round"]]


_NAMED = {"answer": Review(answer=True), "round": Review(tokens=0), "tie": Review(tie=0.02)}


def review_of(given: Review | str | None) -> Review | None:
    """A review, or the one of that name: `"answer"`, `"round"` (before each round) or `"tie"` (within 0.02).

    Raises `UnknownNameError` for another name, and `InputError` for what is no review.
    """
    if isinstance(given, str):
        if given not in _NAMED:
            raise UnknownNameError(f"there is no review {given!r}; choose one of {', '.join(_NAMED)}")
        return _NAMED[given]
    if given is not None and not isinstance(given, Review):
        raise InputError(f"{type(given).__name__} is no review; give a Review or {', '.join(_NAMED)}")
    return given


def is_candidate(graph: ThoughtGraph, id: str) -> bool:
    """Whether a thought is finished or open without children, and something is known of its worth."""
    thought, stats = graph.thoughts[id], graph.stats[id]
    stands = thought["kind"] == "final" or not (stats["closed"] or stats["children"])
    known = stats["value"] is not None or stats["visits"] > 0
    return stands and known and id != graph.root and not graph.dropped(id)
