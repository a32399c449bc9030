"""Whether a stored graph of thoughts hangs together, as after somebody has edited it.

The rules of a search take that for granted and would fail deep inside, loop, or go on with nonsense. So it is
looked at once, before a search goes on from a graph that it has not grown itself.
"""

from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any

from rlm_agent.structure.errors import CheckpointError
from rlm_agent.structure.ids import child_id
from rlm_agent.structure.shapes import shape
from rlm_agent.structure.thoughts import Stats, Thought


def check_graph(thoughts: Mapping[str, Any], stats: Mapping[str, Any], run: Mapping[str, Any]) -> None:
    """Raise `CheckpointError` for the first thing that is wrong with a graph of thoughts.

    thoughts, stats: by id, of all questions of a thread. run: where the search stands; of it `root`, `plan`,
    `fresh` and `best` are read, the types of which are taken for granted. It takes linear time.
    """
    for fault in _faults(thoughts, stats, run):
        raise CheckpointError(
            f"the stored tree is inconsistent: {fault}; go on from a checkpoint before it was edited, "
            "or put it right by another edit"
        )


def _faults(thoughts: Mapping[str, Any], stats: Mapping[str, Any], run: Mapping[str, Any]) -> Iterator[str]:
    """All that is wrong; what comes later takes for granted that nothing came before."""
    yield from _misshapen(thoughts, Thought, "thought")
    yield from _misshapen(stats, Stats, "statistics")
    for id in thoughts.keys() ^ stats.keys():
        yield f"{id} has {'no statistics' if id in thoughts else 'statistics and is no thought'}"
    for id, thought in thoughts.items():
        yield from _misplaced(id, thought, thoughts, stats)
        yield from _impossible(id, stats[id])
    yield from _miscounted(thoughts, stats)
    yield from _dangling(thoughts, stats)
    yield from _circles(thoughts)
    yield from _lost(thoughts, run)


def _misshapen(records: Mapping[str, Any], kind: type, name: str) -> Iterator[str]:
    check = shape(kind)
    for id, record in records.items():
        if type(id) is not str:
            yield f"the id {id!r} is no str"
        if (fault := check(record)) is not None:
            yield f"of the {name} of {id}, {fault}"


def _misplaced(
    id: str, thought: Thought, thoughts: Mapping[str, Thought], stats: Mapping[str, Stats]
) -> Iterator[str]:
    parent = thought["parent"]
    if (parent is None) != (thought["kind"] == "root"):
        yield f"{id} has the kind {thought['kind']!r} and the parent {parent}"
    if thought["depth"] < 0 or thought["tokens"] < 0:
        yield f"{id} has a depth or a number of tokens below 0"
    if parent is None:
        return
    if parent not in thoughts:
        yield f"the parent {parent} of {id} is missing"
    elif not 0 <= thought["index"] < stats[parent]["children"]:
        yield f"{id} is child {thought['index']} of {parent}, which counts {stats[parent]['children']}"
    elif id != child_id(parent, thought["index"]):
        yield f"{id} is not the id of child {thought['index']} of {parent}"


def _impossible(id: str, stats: Stats) -> Iterator[str]:
    value = stats["value"]
    if stats["visits"] < 0 or stats["children"] < 0:
        yield f"{id} has a count below 0"
    if not -1 <= stats["q"] <= 1:
        yield f"{id} has a q of {stats['q']}, which is not in [-1, 1]"
    if value is not None and not 0 <= value <= 1:
        yield f"{id} has a value of {value}, which is not in [0, 1]"


def _miscounted(thoughts: Mapping[str, Thought], stats: Mapping[str, Stats]) -> Iterator[str]:
    """With the indices in range and the ids as they have to be, children are missing if there are too few."""
    born = dict.fromkeys(thoughts, 0)
    for thought in thoughts.values():
        if thought["parent"] is not None:
            born[thought["parent"]] += 1
    for id, number in born.items():
        if number != stats[id]["children"]:
            yield f"{id} counts {stats[id]['children']} children and has {number}"


def _dangling(thoughts: Mapping[str, Thought], stats: Mapping[str, Stats]) -> Iterator[str]:
    for id, thought in thoughts.items():
        for other in (*_made_of(thought), *_named(stats[id])):
            if other not in thoughts:
                yield f"{id} names {other}, which is missing"


def _made_of(thought: Thought) -> Iterator[str]:
    """The thoughts that were there before one, and led to it."""
    if thought["parent"] is not None:
        yield thought["parent"]
    if "base" in thought:
        yield thought["base"]
    yield from thought.get("parents", ())


def _named(stats: Stats) -> Iterator[str]:
    yield from stats.get("population", ())
    yield from stats.get("preferences", ())
    yield from stats.get("kept", ())
    if "merged" in stats:
        yield stats["merged"]


def _circles(thoughts: Mapping[str, Thought]) -> Iterator[str]:
    try:
        TopologicalSorter({id: [*_made_of(thought)] for id, thought in thoughts.items()}).prepare()
    except CycleError as error:
        yield f"the thoughts {' → '.join(error.args[1])} were made of each other"


def _lost(thoughts: Mapping[str, Thought], run: Mapping[str, Any]) -> Iterator[str]:
    """What the run points to and is not there."""
    root, best = run["root"], run["best"]
    if root not in thoughts or thoughts[root]["kind"] != "root":
        yield f"the root {root} of the search is missing"
    for entry in run["plan"]:
        if [type(one) for one in entry] != [str, int]:
            yield f"the plan holds {entry!r:.60}, which is no thought and number of children"
    pointed = [id for id, _ in run["plan"]] + run["fresh"] + ([] if best is None else [best])
    for id in pointed:
        if id not in thoughts:
            yield f"the search points to {id}, which is missing"
