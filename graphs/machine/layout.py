"""How the operations that a user lists become a graph: which waits for which, and what cannot be run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from itertools import combinations
from typing import Annotated

from rlm_agent.graphs.machine.rules import Parts
from rlm_agent.graphs.machine.state import merge_one, search_state
from rlm_agent.operators.operations.base import Operation
from rlm_agent.operators.operations.choosing import Score
from rlm_agent.operators.select import best
from rlm_agent.structure.budget import Budget, Usage
from rlm_agent.structure.errors import InputError, UnknownNameError
from rlm_agent.structure.ids import child_id, derive_seed
from rlm_agent.structure.thoughts import ThoughtGraph


def operations_state(budget: Budget) -> type:
    """The state of a search, with what each operation has spent, by the id of what stands for it."""

    class OperationsState(search_state(budget)):  # type: ignore[misc]  # the base depends on the budget
        spent: Annotated[dict[str, Usage], merge_one]

    return OperationsState


@dataclass(frozen=True, slots=True)
class Layout:
    """Operations, those that others wait for first, and which are the input of which.

    All operations of one of the `levels`, counted from 0, run at the same time, and after those below. What
    those among `parts` write is no solution, since a later operation makes something else of it.
    """

    operations: tuple[Operation, ...]
    before: Mapping[str, tuple[str, ...]]
    levels: Mapping[str, int]
    parts: frozenset[str]

    @property
    def last(self) -> list[str]:
        """The operations whose thoughts are the input of no other."""
        fed = {name for names in self.before.values() for name in names}
        return [one.name for one in self.operations if one.name not in fed]

    @property
    def identity(self) -> str:
        """What a stored search has to agree with, as far as it can be told: functions are not looked into."""
        return f"{derive_seed(0, *(f'{one.identity}<{self.before[one.name]}' for one in self.operations)):x}"

    def nodes(self, root: str) -> dict[str, str]:
        """The ids of the thoughts that stand for the operations, by name."""
        return {one.name: child_id(root, index) for index, one in enumerate(self.operations)}


def lay_out(operations: Sequence[Operation], parts: Parts) -> Layout:
    """The layout of operations as a user lists them, for a strategy that is made with these parts.

    Raises `InputError` for none, for names that stand twice or are LangGraph's or the state's own, for inputs
    that do not exist or go in a circle, and for operations that cannot work.
    """
    before = _inputs(operations)
    levels: dict[str, int] = {}
    try:
        for name in TopologicalSorter(before).static_order():
            levels[name] = max((levels[one] + 1 for one in before[name]), default=0)
    except CycleError as error:
        circle = " → ".join(error.args[1][::-1])
        raise InputError(
            f"the operations {circle} wait for each other; leave one out of an `after`"
        ) from error
    for one in operations:
        one.check(parts.prompts, parts.verifier, fed=bool(before[one.name]))
    ordered = tuple(sorted(operations, key=lambda one: levels[one.name]))
    layout = Layout(ordered, before, levels, _parts(ordered, before))
    _check_scores(layout)
    return layout


def _parts(ordered: Sequence[Operation], before: Mapping[str, Sequence[str]]) -> frozenset[str]:
    """The operations whose thoughts a later one makes something else of."""
    parts: set[str] = set()
    for one in reversed(ordered):
        if one.remakes or one.name in parts:
            parts.update(before[one.name])
    return frozenset(parts)


def _inputs(operations: Sequence[Operation]) -> dict[str, tuple[str, ...]]:
    """The names of the operations that each one comes after."""
    names = [one.name for one in operations]
    taken = {"begin", "conclude", "__start__", "__end__", *operations_state(Budget()).__annotations__}
    if not names:
        raise InputError("a graph without operations answers nothing; give at least one")
    before = {}
    for place, one in enumerate(operations):
        if one.name in before:
            raise InputError(f"two operations are named {one.name!r}; give each a name of its own")
        if one.name in taken or not one.name or set(one.name) & set("|:"):
            raise InputError(
                f"an operation cannot be named {one.name!r}; choose another word, without | or :"
            )
        default = names[place - 1 : place] if place else []
        after = (one.after,) if isinstance(one.after, str) else one.after
        before[one.name] = tuple(dict.fromkeys(default if after is None else after))
        for name in before[one.name]:
            if name not in names:
                raise UnknownNameError(
                    f"{one.name!r} comes after {name!r}, which is none of the operations {', '.join(names)}"
                )
    return before


def _check_scores(layout: Layout) -> None:
    """Two operations that score the same thoughts at the same time would overwrite each other."""
    sources: dict[str, set[str]] = {}
    for one in layout.operations:
        passed = (sources[name] for name in layout.before[one.name]) if one.passes else ()
        sources[one.name] = {one.name}.union(*passed)
    scores = [one for one in layout.operations if isinstance(one, Score)]
    for one, other in combinations(scores, 2):
        at_once = layout.levels[one.name] == layout.levels[other.name]
        if at_once and sources[one.name] & sources[other.name]:
            raise InputError(
                f"{one.name!r} and {other.name!r} score the same thoughts at once; put one after the other"
            )


def kept_answer(layout: Layout, graph: ThoughtGraph, finals: Sequence[str]) -> str | None:
    """The best answer among those that the last operations pass on, or else the latest ones."""
    ids = layout.nodes(graph.root)
    for names in (layout.last, *([one.name] for one in reversed(layout.operations))):
        passed = {id for name in names for id in graph.stats[ids[name]].get("kept", [])}
        if passed & set(finals):
            return best(graph, [id for id in finals if id in passed])
    return best(graph, finals)
