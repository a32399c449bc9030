"""The nodes of a graph of operations, each of which does its own part at its own time.

What an operation has written are children of a thought that stands for it, a closed child of the root, so
that operations which run at the same time write nothing that another one writes.
"""

import math
import sys
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from rlm_agent.graphs.machine.layout import Layout
from rlm_agent.graphs.machine.nodes import Node, Nodes
from rlm_agent.graphs.machine.rules import Search
from rlm_agent.graphs.machine.searching import State
from rlm_agent.graphs.machine.telling import tell, thought_event, value_events
from rlm_agent.models.drive import Asking
from rlm_agent.operators.operations.base import Operation, Work
from rlm_agent.operators.prune import close
from rlm_agent.operators.writing import births
from rlm_agent.structure.budget import Allowance, Usage, add_usage, no_usage
from rlm_agent.structure.ids import child_id
from rlm_agent.structure.thoughts import Stats, Thought, ThoughtGraph


@dataclass(frozen=True, slots=True)
class OperationNodes(Nodes):
    """The bodies of the nodes of a graph of operations."""

    layout: Layout

    def begin(self, state: State) -> Asking[State]:
        """As in any search, and plant the thoughts that stand for the operations."""
        written = yield from Nodes.begin(self, state)
        if "thoughts" not in written:
            return written
        ((root, thought),) = written["thoughts"].items()
        graph = ThoughtGraph(root, written["thoughts"], written["stats"])
        planted = {
            child_id(root, index): _standing_for(one, root, index, thought["depth"])
            for index, one in enumerate(self.layout.operations)
        }
        graph = graph.updated(births(graph, planted))
        stats = {root: graph.stats[root], **close(graph, list(planted)).stats}
        tell(*(thought_event(graph, id) for id in planted))
        return {**written, "thoughts": {root: thought, **planted}, "stats": stats}

    def operation(self, operation: Operation) -> Node:
        """The node of an operation, which runs once, as soon as it can.

        It is left out while it has no input, and, if it asks models, once the search is over or where nothing
        of the budget falls to it. What asks no models runs again if the search goes on.
        """

        def node(state: State) -> Asking[State]:
            state, started = self._told(state), time.monotonic()
            search = self.search(state)
            work = self._work(search, operation)
            wanted = operation.wants(len(work.inputs), search.setting)
            asks = wanted.calls > 0
            over = self.why_stopped(state) is not None or not work.allowance.offers(wanted)
            ran = "kept" in search.graph.stats[work.node]
            if not work.inputs or (asks and (over or ran)):
                return {"stats": {}}
            tell(*self.standing.budget(search))
            outcome = yield from operation.run(work)
            if asks and not (outcome.outputs or outcome.writes.thoughts):
                return {"stats": {}}  # its share was too small for anything
            graph = search.graph.updated(outcome.writes)
            tell(*outcome.trace, *(thought_event(graph, id) for id in outcome.writes.thoughts))
            tell(*value_events(operation.operator, search.graph, outcome.writes, outcome.writes.thoughts))
            kept = {work.node: Stats({**graph.stats[work.node], "kept": outcome.outputs})}
            spent = Usage({**outcome.usage, "seconds": time.monotonic() - started})
            return {
                "thoughts": outcome.writes.thoughts,
                "stats": {**outcome.writes.stats, **kept},
                "spent": {work.node: spent},
            }

        return node

    def conclude(self, state: State) -> Asking[State]:
        """As in any search."""
        return (yield from Nodes.conclude(self, self._told(state)))

    def _told(self, state: State) -> State:
        """The state, with what operations that run at the same time cannot write themselves.

        That is the usage, and an answer that the verifier accepts. The number of supersteps is known from
        the start, so that none need be spared.
        """
        self.restoring.check(state)
        run, ids = state["run"], self.layout.nodes(state["run"]["root"])
        graph = ThoughtGraph(run["root"], state["thoughts"], state["stats"])
        accepted = next((id for id in graph.finals() if self.accepted(graph, id)), None)
        if accepted is not None:
            run = {**run, "best": accepted, "verified": True}
        known = state.get("spent", {})
        spent = {name: known[id] for name, id in ids.items() if id in known}
        return {**state, "run": run, "usage": self._total(spent), "remaining_steps": sys.maxsize}

    def _total(self, spent: Mapping[str, Usage]) -> Usage:
        """The sum, but of the seconds of operations that ran side by side only the longest."""
        total, seconds = no_usage(), defaultdict[int, float](float)
        for name, usage in spent.items():
            level = self.layout.levels[name]
            seconds[level] = max(seconds[level], usage["seconds"])
            total = add_usage(total, usage)
        return Usage({**total, "seconds": math.fsum(seconds.values())})

    def _work(self, search: Search, operation: Operation) -> Work:
        """What an operation works with; what is left is divided among those of its level."""
        level = self.layout.levels[operation.name]
        peers = [one for one in self.layout.operations if self.layout.levels[one.name] == level]
        shares = search.allowance.divided([self._wanted(search, one) for one in peers])
        return Work(
            search.graph,
            self.layout.nodes(search.graph.root)[operation.name],
            self._given(search.graph, operation),
            search.setting,
            shares[peers.index(operation)],
            operation.name not in self.layout.parts,
        )

    def _wanted(self, search: Search, operation: Operation) -> Allowance:
        """What an operation still wants: nothing if it has run, or has no input."""
        graph, given = search.graph, self._given(search.graph, operation)
        ran = "kept" in graph.stats[self.layout.nodes(graph.root)[operation.name]]
        return Allowance(0, 0, 0, 0) if ran or not given else operation.wants(len(given), search.setting)

    def _given(self, graph: ThoughtGraph, operation: Operation) -> list[str]:
        """What the operations before it, as far as they have run, pass on; the root where there is none."""
        before, ids = self.layout.before[operation.name], self.layout.nodes(graph.root)
        passed = [id for name in before for id in graph.stats[ids[name]].get("kept", [])]
        return list(dict.fromkeys(passed)) if before else [graph.root]


def _standing_for(operation: Operation, root: str, index: int, depth: int) -> Thought:
    return Thought(
        parent=root,
        index=index,
        depth=depth,
        kind="step",
        text=operation.name,
        tokens=0,
        logprob=0.0,
        operator=operation.operator,
    )
