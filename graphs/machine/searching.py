"""What a node sees of a state: the search, its budget, whether it has ended, and which reasoner it is of."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from langchain_core.messages import AnyMessage

from rlm_agent.graphs.machine import conversation
from rlm_agent.graphs.machine.restoring import Restoring
from rlm_agent.graphs.machine.rules import Parts, Rules, Search
from rlm_agent.graphs.machine.state import LAYOUT, Run, Terms
from rlm_agent.graphs.machine.terms import read_budget
from rlm_agent.models.protocols import Caching
from rlm_agent.operators.prune import alike, all_closed
from rlm_agent.operators.setting import Setting
from rlm_agent.operators.writing import prefix_of
from rlm_agent.structure.budget import Budget
from rlm_agent.structure.errors import CheckpointError
from rlm_agent.structure.ids import root_id
from rlm_agent.structure.index import Indices
from rlm_agent.structure.thoughts import ThoughtGraph

State = dict[str, Any]
_SETTING = "setting"  # where the index of a search keeps it from round to round
_SILENT_ROUNDS = 3  # a policy that fails outright spends no tokens, so that no token budget ends its search
_SPARE_SUPERSTEPS = 8  # enough to end a round and to conclude before LangGraph's recursion limit


@dataclass(frozen=True)
class Searching:
    """A strategy with its parts, and the searches by it that states hold."""

    name: str
    strategy: str
    rules: Rules
    parts: Parts
    indices: Indices = field(default_factory=Indices, init=False, repr=False)
    restoring: Restoring = field(default_factory=Restoring, init=False, repr=False)

    @cached_property
    def identity(self) -> str:
        """What decides the search beside the question and the parameters; stored with a run."""
        parts = (self.parts.policy, self.parts.value, self.parts.preference, self.parts.steps)
        return "|".join((self.strategy, *(part.identity if part else "" for part in parts)))

    def search(self, state: State) -> Search:
        """The search that a state holds; `CheckpointError` for that of another reasoner."""
        self.restoring.check(state)
        run = state["run"]
        self.check_identity(run)
        root, thoughts = run["root"], state["thoughts"]
        graph = ThoughtGraph(root, thoughts, state["stats"], self.indices.of(thoughts[root]))
        kept = graph.index.derived.get(_SETTING)
        if kept is None or kept[0] is not state["messages"] or kept[1].seed != run["seed"]:
            kept = state["messages"], self._setting(graph, run, state["messages"])
            graph.index.derived[_SETTING] = kept
        return Search(graph, run, kept[1], self.budget(run).left(state["usage"]))

    def _setting(self, graph: ThoughtGraph, run: Run, messages: Sequence[AnyMessage]) -> Setting:
        """What all operators of a search share."""
        parts, notes = self.parts, graph.thoughts[graph.root].get("recalled", ())
        return Setting(
            policy=parts.policy,
            messages=conversation.policy_messages(
                messages, graph.question, parts.policy, parts.system_prompt, notes
            ),
            seed=run["seed"],
            steps=parts.steps,
            decoding=parts.decoding,
            value=parts.value,
            verifier=parts.verifier,
            preference=parts.preference,
            prompts=parts.prompts,
            distinct=self.rules.distinct,
            traced=self.rules.traced,
        )

    def best(self, search: Search) -> str | None:
        """The thought that holds the answer so far: one whose acceptance ends the search, or by the rule."""
        if search.run["verified"] and self.parts.stop_when_verified:
            return search.run["best"]
        return self.rules.answer(search.graph, search.graph.finals())

    def accepted(self, graph: ThoughtGraph, id: str) -> bool:
        """Whether the verifier has accepted the answer of a thought."""
        final = graph.thoughts[id]["kind"] == "final"
        return final and self.parts.verifier is not None and graph.stats[id]["value"] == 1.0

    def why_stopped(self, state: State) -> str | None:
        """Why no other round may begin; None where one may."""
        run: Run = state["run"]
        if run["stopped"] is not None:
            return run["stopped"]
        if run["verified"] and self.parts.stop_when_verified:
            return "verified"
        if (spent := self.budget(run).left(state["usage"]).spent) is not None:
            return spent
        if run["silent"] >= _SILENT_ROUNDS:
            return "no reply from the model"
        if self.rules.rounds is not None and run["round"] >= self.rules.rounds:
            return "rounds"
        return "recursion limit" if state["remaining_steps"] < _SPARE_SUPERSTEPS else None

    def seconds_left(self, state: State) -> float | None:
        """How long a node may take; None where the budget does not bound seconds."""
        bound = self.budget(state["run"]).seconds
        return None if bound is None else max(0.0, bound - state["usage"]["seconds"])

    def release(
        self, search: Search, graph: ThoughtGraph, ids: Sequence[str], *, ended: bool = False
    ) -> None:
        """Tell a policy that caches which of these thoughts nobody will go on from; all, if it has ended."""
        policy, setting = self._cache, search.setting
        if policy is None:
            return
        dead = [id for id in ids if ended or all_closed(graph, alike(graph, id))]
        parents = [graph.thoughts[id]["parent"] or graph.root for id in dead]
        prefixes = (
            [prefix_of(graph, id, setting) for id in pair] for pair in zip(parents, dead, strict=True)
        )
        policy.release(setting.messages, [(parent, prefix) for parent, prefix in prefixes])

    def asks(self, state: State, run: Run, question: str, terms: Terms) -> bool:
        """Whether the stored search is that of this question under these terms."""
        root = state["thoughts"][run["root"]]
        same_start = "given" not in terms or terms["given"] == root.get("given", [])
        return root["text"] == question and same_start and terms.get("seed", run["seed"]) == run["seed"]

    def new_run(self, turn: int, asked: str, terms: Terms) -> Run:
        """A run that is about to begin, in answer to the message `asked`."""
        seed = terms.get("seed", self.parts.seed)
        return Run(
            version=LAYOUT,
            turn=turn,
            root=root_id(turn),
            seed=conversation.draw_seed() if seed is None else seed,
            identity=self.identity,
            asked=asked,
            reply=conversation.new_id(),
            round=0,
            plan=[],
            fresh=[],
            silent=0,
            stopped=None,
            best=None,
            verified=None,
            budget=terms.get("budget"),
        )

    def budget(self, run: Run) -> Budget:
        """The budget in force."""
        own = run.get("budget")
        return self.parts.budget if own is None else read_budget(own)

    def check_identity(self, run: Run) -> None:
        """Raise `CheckpointError` where a stored run is that of another reasoner."""
        if run["identity"] != self.identity:
            raise CheckpointError(
                f"the stored search was made with {run['identity']!r}, this reasoner is {self.identity!r}; "
                "use the strategy, the models and the step format of before, or ask a new question"
            )

    @cached_property
    def _cache(self) -> Caching | None:
        return self.parts.policy if isinstance(self.parts.policy, Caching) else None
