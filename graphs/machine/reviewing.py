"""The nodes in which a search stops for a human: what it shows, and how it goes on after the reply."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NotRequired

from langgraph.config import get_config
from langgraph.types import interrupt
from typing_extensions import TypedDict

from rlm_agent.graphs.machine.nodes import Nodes
from rlm_agent.graphs.machine.review import Review
from rlm_agent.graphs.machine.rules import Search
from rlm_agent.graphs.machine.searching import State
from rlm_agent.graphs.machine.state import ReviewRecord, Run
from rlm_agent.graphs.machine.telling import tell
from rlm_agent.models.drive import Asking
from rlm_agent.operators.edit import edit
from rlm_agent.operators.setting import Outcome
from rlm_agent.structure.budget import Usage, add_usage
from rlm_agent.structure.errors import EditError, InputError
from rlm_agent.structure.thoughts import ThoughtGraph

REVIEW, REVIEW_ANSWER = "review", "review_answer"
"""The nodes in which a search stops, before a round and before it concludes."""

_SAVER = "__pregel_checkpointer"  # where LangGraph puts what a run is stored by


class ThoughtView(TypedDict):
    """A thought as a human gets to see it; `steps` are the texts that lead to it, its own included."""

    id: str
    kind: str
    depth: int
    text: str
    value: float | None
    visits: int
    steps: list[str]
    answer: NotRequired[str]


class ReviewRequest(TypedDict):
    """What a search says when it stops: the value of the interrupt, under the key `review`.

    `plan` are the thoughts that are to be expanded next, none before the end, `tied` the two that are level,
    `best` the one that holds the answer so far. `budget` is what is left; None is unbounded. After edits that
    could not be done, `refused` says why; none of them was.
    """

    reason: str
    question: str
    plan: list[ThoughtView]
    best: ThoughtView | None
    budget: dict[str, float | None]
    tied: NotRequired[list[ThoughtView]]
    refused: NotRequired[list[str]]


@dataclass(frozen=True, slots=True)
class Reviewing:
    """A node that stops a search, before a round or, `ending`, before it concludes; `before` which node."""

    nodes: Nodes
    review: Review
    before: str
    ending: bool

    def node(self, state: State) -> Asking[State]:
        """Stop where the review says so, until somebody replies, and do what the reply says."""
        yield from ()
        search = self.nodes.search(state)
        record = search.run.get("review") or ReviewRecord(seen={}, verdict="approved")
        reasons = self._reasons(search, state["usage"], record["seen"])
        approved = ReviewRecord(seen={**record["seen"], **reasons}, verdict="approved")
        if reasons:
            return self._replied(search, state["usage"], reasons, approved)
        return {} if record["verdict"] == "approved" else {"run": {**search.run, "review": approved}}

    def verdict(self, state: State) -> str:
        """How the search goes on: as planned, with new thoughts, with a new plan, or not at all."""
        verdict: str = state["run"].get("review", {"verdict": "approved"})["verdict"]
        return "over" if verdict == "edited" and not self.nodes.goes_on(state) else verdict

    def _replied(
        self, search: Search, usage: Usage, reasons: Mapping[str, Any], record: ReviewRecord
    ) -> State:
        if get_config().get("configurable", {}).get(_SAVER) is None:
            raise InputError(
                f"{self.nodes.name!r} waits for a review and is stored nowhere; give it a checkpointer"
            )
        reviewed = replace(search, run=Run({**search.run, "review": record}))
        request = self._request(search, reasons)
        while True:
            said = interrupt({"review": request})
            if said is True or said == "approve":
                return {"run": reviewed.run}
            try:
                outcome, update = edited(self.nodes, reviewed, usage, said, planned=not self.ending)
            except EditError as error:
                request = ReviewRequest({**request, "refused": error.refused})
                continue
            grown = search.graph.updated(outcome.writes)
            self.nodes.release(search, grown, [id for id in outcome.writes.stats if grown.dropped(id)])
            tell(*outcome.trace)
            return update

    def _reasons(self, search: Search, usage: Usage, seen: Mapping[str, Any]) -> dict[str, Any]:
        """The conditions that hold and have not stopped the search before, with what is noted of each."""
        if search.run["stopped"] is not None:
            return {}
        if self.ending:
            best = [self.nodes.best(search)]
            return {} if seen.get("answer") == best else {"answer": best}
        return self.review.held(search, usage, seen)

    def _request(self, search: Search, reasons: Mapping[str, Any]) -> ReviewRequest:
        graph, left, best = search.graph, search.allowance, self.nodes.best(search)
        bounds = {name: getattr(left, name) for name in ("tokens", "calls", "nodes", "seconds")}
        said = [reasons["when"][0] if name == "when" else name for name in reasons]
        request = ReviewRequest(
            reason=", ".join(said),
            question=graph.question,
            plan=[] if self.ending else [view(graph, id) for id, _ in search.run["plan"]],
            best=None if best is None else view(graph, best),
            budget={name: None if bound == math.inf else bound for name, bound in bounds.items()},
        )
        if "tie" in reasons:
            request["tied"] = [view(graph, id) for id in reasons["tie"]]
        return request


def reviews_of(nodes: Nodes, review: Review | None, before: Mapping[str, str]) -> dict[str, Reviewing]:
    """The nodes that a review needs, by name; `before` says which node each comes before."""
    if review is None:
        return {}
    wanted = {REVIEW: review.rounds, REVIEW_ANSWER: review.answer}
    return {
        name: Reviewing(nodes, review, before[name], ending=name == REVIEW_ANSWER)
        for name in wanted
        if wanted[name]
    }


def edited(nodes: Nodes, search: Search, usage: Usage, edits: Any, *, planned: bool) -> tuple[Outcome, State]:
    """The outcome of a human's edits of a search, and what is written; `operators.edit` has the edits.

    `planned` says that a round was planned and not begun: it is planned anew. Raises `EditError`.
    """
    edits = [edits] if isinstance(edits, Mapping) else edits
    if not isinstance(edits, list) or not edits:
        raise EditError([f"{edits!r:.80} is neither an approval nor a list of edits; give True or a list"])
    graph, run = search.graph, search.run
    outcome = edit(graph, edits, search.setting, search.allowance)
    grown = graph.updated(outcome.writes)
    dropped = [id for id in outcome.writes.stats if grown.dropped(id)]
    seen = run.get("review", {"seen": {}})["seen"]
    run = Run(
        {
            **run,
            "plan": [[id, count] for id, count in run["plan"] if id not in dropped],
            "fresh": outcome.outputs,
            "round": run["round"] - planned,
            "silent": 0,
            "stopped": "human" if any("stop" in one for one in edits) else None,
            "review": ReviewRecord(seen=seen, verdict="added" if outcome.outputs else "edited"),
        }
    )
    if run["best"] in dropped:
        other = next((id for id in grown.finals() if nodes.accepted(grown, id)), None)
        run = Run({**run, "best": other, "verified": None if other is None else True})
    return outcome, {
        "run": run,
        "thoughts": outcome.writes.thoughts,
        "stats": outcome.writes.stats,
        "usage": add_usage(usage, outcome.usage),
    }


def view(graph: ThoughtGraph, id: str) -> ThoughtView:
    """A thought as a human gets to see it."""
    thought, stats = graph.thoughts[id], graph.stats[id]
    seen = ThoughtView(
        id=id,
        kind=thought["kind"],
        depth=thought["depth"],
        text=thought["text"],
        value=stats["value"],
        visits=stats["visits"],
        steps=graph.steps(id),
    )
    if "answer" in thought:
        seen["answer"] = thought["answer"]
    return seen
