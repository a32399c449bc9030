"""Whether a search that was stored can be gone on with, as after an edit or by another version.

A search trusts its own state. What was loaded may come from anywhere, so it is looked at once, whole, before
anything is done with it: by whoever goes on with it first, which after a crash is any node.
"""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from rlm_agent.graphs.machine.state import LAYOUT, Run
from rlm_agent.structure.budget import Usage
from rlm_agent.structure.consistency import check_graph
from rlm_agent.structure.errors import CheckpointError
from rlm_agent.structure.shapes import shape

_KEPT = 256
"""Threads that run on one reasoner at the same time and are looked at once only."""

_SHAPES = {"run": Run, "usage": Usage, "thoughts": dict, "stats": dict}


class Restoring:
    """What was looked at, by the oldest thought of a thread: loaded again, it is another record."""

    def __init__(self) -> None:
        self._seen: OrderedDict[int, Any] = OrderedDict()

    def check(self, state: Mapping[str, Any]) -> None:
        """Raise `CheckpointError` for a state with a search in it that nobody could go on from."""
        thoughts = state.get("thoughts")
        oldest = next(iter(thoughts.values()), None) if isinstance(thoughts, dict) else None
        if oldest is not None and self._seen.get(id(oldest)) is oldest:
            return
        _check(state)
        self._seen[id(oldest)] = oldest
        while len(self._seen) > _KEPT:
            self._seen.popitem(last=False)


def _check(state: Mapping[str, Any]) -> None:
    run = state["run"]
    version = run.get("version", 0)
    if version != LAYOUT:
        raise CheckpointError(
            f"the thread was stored in layout {version!r:.60}, and this version of rlm-agent reads {LAYOUT}; "
            "use the version of before, or begin a new thread"
        )
    for channel, kind in _SHAPES.items():
        if (fault := shape(kind)(state.get(channel))) is not None:
            raise CheckpointError(
                f"the stored {channel} cannot be read: {fault}; go on from a checkpoint before it was edited"
            )
    check_graph(state["thoughts"], state["stats"], run)
