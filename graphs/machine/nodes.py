"""The bodies of the skeleton's nodes, and the decisions on its edges."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from rlm_agent.graphs.machine import conversation
from rlm_agent.graphs.machine.recalling import keeping, remembering
from rlm_agent.graphs.machine.rules import Search, Told
from rlm_agent.graphs.machine.searching import Searching, State
from rlm_agent.graphs.machine.state import Run, Terms
from rlm_agent.graphs.machine.telling import Standing, tell, thought_event, value_events
from rlm_agent.graphs.machine.terms import plant
from rlm_agent.models.drive import Asking
from rlm_agent.operators.retrieve import before
from rlm_agent.structure.budget import Usage, add_usage, no_usage
from rlm_agent.structure.events import AnswerEvent, operator_event
from rlm_agent.structure.ids import root_id
from rlm_agent.structure.thoughts import Overlay, Thought, ThoughtGraph, Writes, fresh_stats

Node = Callable[[State], Asking[State]]


@dataclass(frozen=True)
class Nodes(Searching):
    """The bodies of the nodes and the decisions on the edges, for one strategy."""

    standing: Standing = field(default_factory=Standing, init=False, repr=False)

    def begin(self, state: State) -> Asking[State]:
        """Plant the root of a new question, or go on with the search of the last one."""
        asked = conversation.last_question(state["messages"])
        question = self.parts.steps.read(asked.text)
        terms, run = state.get("terms") or Terms(), state.get("run") or None
        if run is not None:
            self.restoring.check(state)
        if run is not None and run["asked"] == asked.id and self.asks(state, run, question, terms):
            self.check_identity(run)
            budget = terms.get("budget", run.get("budget"))
            return {"run": {**run, "stopped": None, "silent": 0, "budget": budget}, "terms": None}
        # A conversation that was edited or trimmed plants no root over an older one.
        turn = max(conversation.turn_of(state["messages"]), run["turn"] + 1 if run else 1)
        root = plant(question, terms.get("given", []), self.parts.steps)
        root, usage = yield from self._opened(root_id(turn), root)
        planted = yield from remembering(self.parts, root_id(turn), root)
        reused = next((id for id in planted.thoughts if id != root_id(turn)), None)
        run = self.new_run(turn, str(asked.id), terms)
        return {
            "run": run if reused is None else Run({**run, "best": reused, "verified": True}),
            "thoughts": planted.thoughts,
            "stats": planted.stats,
            "usage": usage,
            # What is None already is not written: a channel that never was takes no place in checkpoints.
            **{name: None for name in ("answer", "terms") if state.get(name) is not None},
        }

    def select(self, state: State) -> Asking[State]:
        """Plan the next expansion by the strategy's rule."""
        yield from ()
        search = self.search(state)
        tell(*self.standing.before_a_round(search, self.best))
        plan = self.rules.select(search)
        tell(operator_event("select", [search.graph.root], [id for id, _ in plan]))
        listed = [[id, count] for id, count in plan]
        return {"run": {**search.run, "plan": listed, "fresh": [], "round": search.run["round"] + 1}}

    def select_on(self, state: State) -> Asking[State]:
        """`select` in the node that ends a round; an empty plan if no other round may begin."""
        if self.goes_on(state):
            return (yield from self.select(state))
        return {"run": {**state["run"], "plan": []}}

    def expand(self, state: State) -> Asking[State]:
        """Let the policy write the planned thoughts."""
        search, started = self.search(state), time.monotonic()
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
        search, started = self.search(state), time.monotonic()
        run = search.run
        outcome = yield from self.rules.evaluate(search.graph, run["fresh"], search.setting, search.allowance)
        graph = search.graph.updated(outcome.writes)
        tell(*outcome.trace, *(thought_event(graph, id) for id in run["fresh"]))
        tell(*value_events("evaluate", search.graph, outcome.writes, run["fresh"]))
        self.release(search, graph, run["fresh"])
        accepted = next((id for id in run["fresh"] if self.accepted(graph, id)), None)
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
            search = self.search(state)
            first, *others = search.by_parent()
            writes = rule(first)
            for view in others:
                writes = writes.followed_by(rule(replace(view, graph=search.graph.updated(writes))))
            self.release(search, search.graph.updated(writes), list(writes.stats))
            tell(operator_event(operator, search.run["fresh"], list(writes.stats)))
            tell(*value_events(operator, search.graph, writes))
            return {"stats": writes.stats}

        return node

    def conclude(self, state: State) -> Asking[State]:
        """Choose the answer and reply to the conversation."""
        search, started = self.search(state), time.monotonic()
        graph, run = search.graph, search.run
        stopped = self.why_stopped(state) or "exhausted"
        best = self.best(search)
        answer = None if best is None else graph.thoughts[best].get("answer")
        verified = None if best is None or self.parts.verifier is None else self.accepted(graph, best)
        told = Told() if best is None else (yield from self.rules.narrate(search, best))
        writes = told.outcome.writes
        grown = graph.updated(writes)
        usage = _spent(state["usage"], told.outcome.usage, started)
        self.release(search, graph, graph.children(graph.root), ended=True)
        event = AnswerEvent(event="answer", answer=answer, verified=verified, stopped=stopped, usage=usage)
        tell(*told.outcome.trace, *(thought_event(grown, id) for id in writes.thoughts), *told.spans)
        tell(*value_events("conclude", graph, writes, writes.thoughts))
        tell(*self.standing.in_the_end(search, self.budget(run).left(usage), best), event)
        yield from keeping(self.parts, search, best, bool(verified))
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
        return self.why_stopped(state) is None

    def has_plan(self, state: State) -> bool:
        """Whether select found anything to do, and was not broken off by the time."""
        return bool(state["run"]["plan"]) and self.seconds_left(state) != 0

    def broken_off(self, state: State, seconds: float) -> State:
        """What a node writes that was broken off after so many seconds: the time alone."""
        usage = add_usage(state["usage"], Usage({**no_usage(), "seconds": seconds}))
        return {"run": {**state["run"], "fresh": []}, "usage": usage}

    def _opened(self, id: str, root: Thought) -> Asking[tuple[Thought, Usage]]:
        """The root with what is retrieved for the question, and what that took."""
        if self.parts.retrieval is None:
            return root, no_usage()
        graph, started = ThoughtGraph(id, {id: root}, {id: fresh_stats(root)}), time.monotonic()
        outcome = yield from before(graph, self.parts.steps, self.parts.retrieval)
        tell(*outcome.trace)
        return outcome.writes.thoughts[id], _spent(no_usage(), outcome.usage, started)


def at_once(first: Node, *others: Node) -> Node:
    """One node of an operator and of others that ask no model, each in the light of what was written before.

    The others write statistics, or where the run stands.
    """

    def node(state: State) -> Asking[State]:
        update = yield from first(state)
        for body in others:
            seen = Overlay(state["stats"], update["stats"])
            later = yield from body({**state, **update, "stats": seen})
            update = {**update, **later, "stats": {**update["stats"], **later.get("stats", {})}}
        return update

    return node


def _spent(before: Usage, usage: Usage, started: float) -> Usage:
    return add_usage(before, Usage({**usage, "seconds": time.monotonic() - started}))


def _said_something(usage: Usage) -> bool:
    """Whether the policy wrote anything, or others made thoughts without asking it."""
    return usage["completion_tokens"] > 0 or (usage["nodes"] > 0 and not usage["model_calls"])
