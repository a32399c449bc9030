"""The means of a search beside its policy: tools that thoughts call, and a retriever that they ask.

A thought that calls or asks is answered when it is expanded: its children are observations and not what
the policy writes, so that a strategy selects, values and prunes them like any other thought.
"""

import math
from dataclasses import dataclass, replace

from rlm_agent.models.drive import Asking
from rlm_agent.models.protocols import Completion
from rlm_agent.models.retrieval import Retrieval
from rlm_agent.operators.act import act
from rlm_agent.operators.generate import generate, generate_to_end
from rlm_agent.operators.prune import twin
from rlm_agent.operators.retrieve import retrieve, shown_by
from rlm_agent.operators.rules.observations import is_observation, mended
from rlm_agent.operators.setting import Outcome, Setting, nothing
from rlm_agent.operators.writing import Plan
from rlm_agent.structure.budget import Allowance
from rlm_agent.structure.ids import child_id
from rlm_agent.structure.thoughts import ThoughtGraph
from rlm_agent.tools.actions import Call, claims_observation
from rlm_agent.tools.syntax import Asked
from rlm_agent.tools.toolbox import Toolbox


@dataclass(frozen=True, slots=True)
class Means:
    """What thoughts may call (`tools`) and ask (`retrieval`); without either, the policy writes all.

    Where the policy asks by an action, the search is among the tools. `committed` says that no other way
    than the one chain is tried, so that tools with effects may be called. See `act` and `retrieve`.
    """

    tools: Toolbox | None = None
    retrieval: Retrieval | None = None
    committed: bool = False

    @property
    def traced(self) -> bool:
        """Whether the policy has to say how sure it was."""
        return self.retrieval is not None and self.retrieval.when == "unsure"

    def expand(
        self, graph: ThoughtGraph, plan: Plan, setting: Setting, allowance: Allowance
    ) -> Asking[Outcome]:
        """Answer the planned thoughts that call or ask, and let the policy write under the others.

        A call has one observation, a query at most as many as it is given children here, the next best ones.
        A thought that has all of its observations is gone on from behind the first open one. `outputs` are
        the new thoughts.
        """
        if self.tools is None and self.retrieval is None:
            return (yield from generate(graph, plan, setting, allowance)) if plan else nothing()
        plan = [(onward, count) for id, count in plan if (onward := self._onward(graph, id)) is not None]
        queries = {id: query for id, _ in plan if (query := self.query(graph, id)) is not None}
        calls = [id for id, _ in plan if id not in queries and self.actions(graph, id)]
        rest = [(id, count) for id, count in plan if id not in queries and id not in calls]
        outcome = nothing()
        if self.tools is not None and calls:
            outcome = yield from act(
                graph, calls, setting, self.tools, allowance, committed=self.committed, repeats=True
            )
        if self.retrieval is not None and queries:
            asked, left = [one for one in plan if one[0] in queries], allowance.less(outcome.usage)
            found = yield from retrieve(graph, asked, queries, setting, self.retrieval, left)
            outcome = outcome.followed_by(found)
        if rest:
            left = allowance.less(outcome.usage)
            outcome = outcome.followed_by((yield from generate(graph, rest, setting, left, self._mended)))
        return outcome

    def expand_to_end(
        self, graph: ThoughtGraph, plan: Plan, setting: Setting, allowance: Allowance
    ) -> Asking[Outcome]:
        """`expand`, then carry each chain on to its end, through what its thoughts call and ask."""
        return generate_to_end(graph, plan, setting, allowance, self.expand)

    def advance(
        self, graph: ThoughtGraph, plan: Plan, setting: Setting, allowance: Allowance
    ) -> Asking[Outcome]:
        """`expand`, and at once one observation for each new thought that calls or asks, repeats excepted.

        Planned thoughts that nobody has answered yet, since a budget ended before, are answered first, and it
        is their observations that are gone on from.
        """
        open_calls = [(id, 1) for id, _ in plan if self._waits(graph, id)]
        outcome = yield from self.expand(graph, open_calls, setting, allowance)
        grown, left = graph.updated(outcome.writes), allowance.less(outcome.usage)
        written = yield from self.expand(grown, plan, setting, left)
        outcome, grown = outcome.followed_by(written), grown.updated(written.writes)
        calls = [(id, 1) for id in written.outputs if self._waits(grown, id) and twin(grown, id) == id]
        answers = yield from self.expand(grown, calls, setting, left.less(written.usage))
        return outcome.followed_by(answers)

    def capacity(self, graph: ThoughtGraph, id: str) -> float:
        """How many children a thought can have: of those that are answered, one for each observation."""
        if self.retrieval is not None and self.query(graph, id) is not None:
            answered = child_id(id, 0) in graph.thoughts  # a child may be counted that is still under way
            return len(shown_by(graph, id)) if answered else self.retrieval.alternatives
        return 1 if self.actions(graph, id) else math.inf

    def full(self, graph: ThoughtGraph, id: str) -> bool:
        """Whether a thought has all of its observations."""
        return graph.stats[id]["children"] >= self.capacity(graph, id)

    def actions(self, graph: ThoughtGraph, id: str) -> Asked:
        """What a step calls, or has meant to; nothing for the steps that the policy goes on from."""
        if self.tools is None or not _own(graph, id):
            return ()
        return self.tools.asked(graph.thoughts[id]["text"])

    def query(self, graph: ThoughtGraph, id: str) -> str | None:
        """What a step asks the retriever for; None where it does not."""
        retrieval = self.retrieval
        if retrieval is None or not _own(graph, id):
            return None
        thought, actions = graph.thoughts[id], self.actions(graph, id)
        alone = actions[0] if len(actions) == 1 else None  # among others it is a tool like them
        if isinstance(alone, Call) and alone.name == retrieval.name:
            return alone.argument
        unsure = retrieval.when == "unsure" and thought.get("entropy", 0.0) >= retrieval.entropy
        return thought["text"].strip() if not actions and (unsure or retrieval.when == "each") else None

    def _waits(self, graph: ThoughtGraph, id: str) -> bool:
        """Whether a thought calls or asks and has no observation."""
        return not graph.stats[id]["children"] and self.capacity(graph, id) < math.inf

    def _onward(self, graph: ThoughtGraph, id: str) -> str | None:
        if not self.full(graph, id):
            return id
        return next((child for child in graph.children(id) if not graph.stats[child]["closed"]), None)

    def _mended(self, reply: Completion) -> Completion:
        if self.tools is not None:
            return mended(reply, self.tools)
        return refusing(reply)


def refusing(reply: Completion) -> Completion:
    """A reply, but an error where the policy has made an observation up."""
    made_up = reply.finish in ("stop", "end") and claims_observation(reply.text)
    return replace(reply, finish="error", error="an observation that nobody has made") if made_up else reply


def _own(graph: ThoughtGraph, id: str) -> bool:
    return graph.thoughts[id]["kind"] == "step" and not is_observation(graph, id)
