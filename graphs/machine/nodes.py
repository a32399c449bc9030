"""The bodies of the skeleton's nodes, and the decisions on its edges."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from rlm_agent.graphs.machine import conversation
from rlm_agent.graphs.machine.rules import Parts, Rules, Search, Told
from rlm_agent.graphs.machine.state import Run, Terms
from rlm_agent.graphs.machine.telling import tell, thought_event
from rlm_agent.graphs.machine.terms import plant, read_budget
from rlm_agent.models.drive import Asking
from rlm_agent.models.protocols import Caching
from rlm_agent.operators.prune import alike, all_closed
from rlm_agent.operators.retrieve import before
from rlm_agent.operators.setting import Setting
from rlm_agent.operators.writing import prefix_of
from rlm_agent.structure.budget import Budget, Usage, add_usage, no_usage
from rlm_agent.structure.errors import CheckpointError
from rlm_agent.structure.events import AnswerEvent, operator_event
from rlm_agent.structure.ids import root_id
from rlm_agent.structure.index import Indices
from rlm_agent.structure.thoughts import Thought, ThoughtGraph, Writes, fresh_stats

State = dict[str, Any]
Node = Callable[[State], Asking[State]]
_SILENT_ROUNDS = 3  # a policy that fails outright spends no tokens, so that no token budget ends its search
_SPARE_SUPERSTEPS = 8  # enough to end a round and to conclude before LangGraph's recursion limit


@dataclass(frozen=True)
class Nodes:
    """The bodies of the nodes and the decisions on the edges, for one strategy."""

    name: str
    strategy: str
    rules: Rules
    parts: Parts
    indices: Indices = field(default_factory=Indices, init=False, repr=False)

    def begin(self, state: State) -> Asking[State]:
        """Plant the root of a new question, or go on with the search of the last one."""
        asked = conversation.last_question(state["messages"])
        question = self.parts.steps.read(asked.text)
        terms, run = state.get("terms") or Terms(), state.get("run")
        if run is not None and run["asked"] == asked.id and self._asks(state, run, question, terms):
            self._check_identity(run)
            budget = terms.get("budget", run.get("budget"))
            return {"run": {**run, "stopped": None, "silent": 0, "budget": budget}, "terms": None}
        # A conversation that was edited or trimmed plants no root over an older one.
        turn = max(conversation.turn_of(state["messages"]), run["turn"] + 1 if run else 1)
        root = plant(question, terms.get("given", []), self.parts.steps)
        root, usage = yield from self._opened(root_id(turn), root)
        return {
            "run": self._new_run(turn, str(asked.id), terms),
            "thoughts": {root_id(turn): root},
            "stats": {root_id(turn): fresh_stats(root)},
            "usage": usage,
            "answer": None,
            "terms": None,
        }

    def select(self, state: State) -> Asking[State]:
        """Plan the next expansion by the strategy's rule."""
        yield from ()
        search = self._search(state)
        plan = self.rules.select(search)
        tell(operator_event("select", [search.graph.root], [id for id, _ in plan]))
        listed = [[id, count] for id, count in plan]
        return {"run": {**search.run, "plan": listed, "fresh": [], "round": search.run["round"] + 1}}

    def expand(self, state: State) -> Asking[State]:
        """Let the policy write the planned thoughts."""
        search, started = self._search(state), time.monotonic()
        plan = [(id, count) for id, count in search.run["plan"]]
        outcome = yield from self.rules.expand(search.graph, plan, search.setting, search.allowance)
        tell(*outcome.trace)
        silent = 0 if _said_something(outcome.usage) else search.run["silent"] + 1
        return {
            "run": {**search.run, "fresh": outcome.outputs, "silent": silent},
            "thoughts": outcome.writes.thoughts,
            "stats": outcome.writes.stats,
            "usage": _spent(state["usage"], outcome.usage, started),
        }

    def evaluate(self, state: State) -> Asking[State]:
        """Judge the fresh thoughts; note the first that a verifier accepts."""
        search, started = self._search(state), time.monotonic()
        run = search.run
        outcome = yield from self.rules.evaluate(search.graph, run["fresh"], search.setting, search.allowance)
        graph = search.graph.updated(outcome.writes)
        tell(*outcome.trace, *(thought_event(graph, id) for id in run["fresh"]))
        self._release(search, graph, run["fresh"])
        accepted = next((id for id in run["fresh"] if self._accepted(graph, id)), None)
        if accepted is not None and not run["verified"]:
            run = Run({**run, "best": accepted, "verified": True})
        return {
            "run": run,
            "stats": outcome.writes.stats,
            "usage": _spent(state["usage"], outcome.usage, started),
        }

    def writing(self, operator: str, rule: Callable[[Search], Writes]) -> Node:
        """A node that only writes statistics, by a rule of the strategy."""

        def node(state: State) -> Asking[State]:
            yield from ()
            search = self._search(state)
            writes = rule(search)
            self._release(search, search.graph.updated(writes), list(writes.stats))
            tell(operator_event(operator, search.run["fresh"], list(writes.stats)))
            return {"stats": writes.stats}

        return node

    def conclude(self, state: State) -> Asking[State]:
        """Choose the answer and reply to the conversation."""
        search, started = self._search(state), time.monotonic()
        graph, run = search.graph, search.run
        stopped = self._why_stopped(state) or "exhausted"
        best = run["best"] if stopped == "verified" else self.rules.answer(graph, graph.finals())
        answer = None if best is None else graph.thoughts[best].get("answer")
        verified = None if best is None or self.parts.verifier is None else self._accepted(graph, best)
        told = Told() if best is None else (yield from self.rules.narrate(search, best))
        writes = told.outcome.writes
        grown = graph.updated(writes)
        usage = _spent(state["usage"], told.outcome.usage, started)
        self._release(search, graph, graph.children(graph.root), ended=True)
        event = AnswerEvent(event="answer", answer=answer, verified=verified, stopped=stopped, usage=usage)
        tell(*told.outcome.trace, *(thought_event(grown, id) for id in writes.thoughts), *told.spans, event)
        sources = [] if best is None else grown.sources(best)
        message = conversation.reply(run["reply"], answer, told.lines, sources, stopped, usage, self.name)
        run = Run({**run, "stopped": stopped, "best": best, "verified": verified})
        return {
            "messages": [message],
            "answer": answer,
            "run": run,
            "thoughts": writes.thoughts,
            "stats": writes.stats,
            "usage": usage,
        }

    def goes_on(self, state: State) -> bool:
        """Whether another round may begin."""
        return self._why_stopped(state) is None

    def has_plan(self, state: State) -> bool:
        """Whether select found anything to do."""
        return bool(state["run"]["plan"])

    def _opened(self, id: str, root: Thought) -> Asking[tuple[Thought, Usage]]:
        """The root with what is retrieved for the question, and what that took."""
        if self.parts.retrieval is None:
            return root, no_usage()
        graph, started = ThoughtGraph(id, {id: root}, {id: fresh_stats(root)}), time.monotonic()
        outcome = yield from before(graph, self.parts.steps, self.parts.retrieval)
        tell(*outcome.trace)
        return outcome.writes.thoughts[id], _spent(no_usage(), outcome.usage, started)

    def _release(
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

    def _why_stopped(self, state: State) -> str | None:
        run: Run = state["run"]
        if run["verified"] and self.parts.stop_when_verified:
            return "verified"
        if (spent := self._budget(run).left(state["usage"]).spent) is not None:
            return spent
        if run["silent"] >= _SILENT_ROUNDS:
            return "no reply from the model"
        if self.rules.rounds is not None and run["round"] >= self.rules.rounds:
            return "rounds"
        return "recursion limit" if state["remaining_steps"] < _SPARE_SUPERSTEPS else None

    def _search(self, state: State) -> Search:
        parts, run = self.parts, state["run"]
        self._check_identity(run)
        root, thoughts = run["root"], state["thoughts"]
        graph = ThoughtGraph(root, thoughts, state["stats"], self.indices.of(thoughts[root]))
        messages = conversation.policy_messages(
            state["messages"], graph.question, parts.policy, parts.system_prompt
        )
        setting = Setting(
            policy=parts.policy,
            messages=messages,
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
        return Search(graph, run, setting, self._budget(run).left(state["usage"]))

    def _asks(self, state: State, run: Run, question: str, terms: Terms) -> bool:
        """Whether the stored search is that of this question under these terms."""
        root = state["thoughts"][run["root"]]
        same_start = "given" not in terms or terms["given"] == root.get("given", [])
        return root["text"] == question and same_start and terms.get("seed", run["seed"]) == run["seed"]

    def _budget(self, run: Run) -> Budget:
        own = run.get("budget")
        return self.parts.budget if own is None else read_budget(own)

    def _new_run(self, turn: int, asked: str, terms: Terms) -> Run:
        seed = terms.get("seed", self.parts.seed)
        return Run(
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

    @cached_property
    def _cache(self) -> Caching | None:
        return self.parts.policy if isinstance(self.parts.policy, Caching) else None

    @cached_property
    def identity(self) -> str:
        """What decides the search beside the question and the parameters; stored with a run."""
        parts = (self.parts.policy, self.parts.value, self.parts.preference, self.parts.steps)
        return "|".join((self.strategy, *(part.identity if part else "" for part in parts)))

    def _check_identity(self, run: Run) -> None:
        if run["identity"] != self.identity:
            raise CheckpointError(
                f"the stored search was made with {run['identity']!r}, this reasoner is {self.identity!r}; "
                "use the strategy, the models and the step format of before, or ask a new question"
            )

    def _accepted(self, graph: ThoughtGraph, id: str) -> bool:
        final = graph.thoughts[id]["kind"] == "final"
        return final and self.parts.verifier is not None and graph.stats[id]["value"] == 1.0


def _spent(before: Usage, usage: Usage, started: float) -> Usage:
    return add_usage(before, Usage({**usage, "seconds": time.monotonic() - started}))


def _said_something(usage: Usage) -> bool:
    """Whether the policy wrote anything, or others made thoughts without asking it."""
    return usage["completion_tokens"] > 0 or (usage["nodes"] > 0 and not usage["model_calls"])
