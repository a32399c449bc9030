"""The one state machine under every search strategy: begin → select → generate → evaluate → … → conclude.

A strategy is a choice of rules (`Rules`) over this skeleton; its nodes bear the operators' names. The nodes
are bodies of code that ask models (`models/drive.py`), so that the same graph serves `invoke` and `ainvoke`.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from langchain_core.runnables import RunnableLambda
from langgraph.config import get_stream_writer
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph

from rlm_agent.graphs import conversation
from rlm_agent.graphs.state import ReasonerInput, ReasonerOutput, Run, search_state
from rlm_agent.models.drive import Asking, adrive, drive
from rlm_agent.models.protocols import Caching, Decoding, Policy, Value
from rlm_agent.operators.evaluate import evaluate
from rlm_agent.operators.generate import Plan, generate, prefix_of
from rlm_agent.operators.prune import alike, all_closed
from rlm_agent.operators.setting import Outcome, Setting
from rlm_agent.structure.budget import Allowance, Budget, Usage, add_usage, no_usage
from rlm_agent.structure.errors import CheckpointError
from rlm_agent.structure.events import AnswerEvent, Event, OperatorEvent, ThoughtEvent
from rlm_agent.structure.ids import root_id
from rlm_agent.structure.steps import Steps, Verifier
from rlm_agent.structure.thoughts import Thought, ThoughtGraph, Writes, fresh_stats

Reasoner = CompiledStateGraph[Any, Any, Any, Any]
"""A compiled graph over messages."""

State = dict[str, Any]
Node = Callable[[State], Asking[State]]
_SILENT_ROUNDS = 3  # a policy that fails outright spends no tokens, so that no token budget ends its search
_SPARE_SUPERSTEPS = 8  # enough to end a round and to conclude before LangGraph's recursion limit


@dataclass(frozen=True, slots=True)
class Search:
    """What a rule sees: the graph of thoughts, where the run stands, the setting and what is left."""

    graph: ThoughtGraph
    run: Run
    setting: Setting
    allowance: Allowance


@dataclass(frozen=True, slots=True)
class Rules:
    """What makes a strategy.

    `select` plans which thoughts get how many children (an empty plan ends the search), `expand` generates
    them, `prune` and `backpropagate` write statistics after evaluation and are no nodes of the graph where
    they are None, `answer` picks among the thoughts that ended a chain, and `rounds` bounds the passes
    through the loop. With `distinct`, siblings differ as far as the policy can see to it.
    """

    select: Callable[[Search], Plan]
    answer: Callable[[ThoughtGraph, Sequence[str]], str | None]
    expand: Callable[[ThoughtGraph, Plan, Setting, Allowance], Asking[Outcome]] = generate
    prune: Callable[[Search], Writes] | None = None
    backpropagate: Callable[[Search], Writes] | None = None
    rounds: int | None = None
    distinct: bool = False


@dataclass(frozen=True, slots=True)
class Parts:
    """The models, the rules of the task and the limits that every strategy is made with."""

    policy: Policy
    steps: Steps
    budget: Budget
    value: Value | None = None
    verifier: Verifier | None = None
    decoding: Decoding = field(default_factory=Decoding)
    system_prompt: str | None = None
    seed: int | None = None
    stop_when_verified: bool = True


def compile_search(name: str, strategy: str, rules: Rules, parts: Parts, **options: Any) -> Reasoner:
    """The state machine of a strategy; `options` are LangGraph's (`checkpointer`, `store`)."""
    nodes = _Nodes(name, strategy, rules, parts)
    loop: dict[str, Node] = {"select": nodes.select, "generate": nodes.generate, "evaluate": nodes.evaluate}
    if rules.prune is not None:
        loop["prune"] = nodes.writing("prune", rules.prune)
    if rules.backpropagate is not None:
        loop["backpropagate"] = nodes.writing("backpropagate", rules.backpropagate)
    builder: StateGraph[Any, Any, Any, Any] = StateGraph(
        search_state(parts.budget), input_schema=ReasonerInput, output_schema=ReasonerOutput
    )
    for operator, body in {"begin": nodes.begin, **loop, "conclude": nodes.conclude}.items():
        builder.add_node(operator, _both_ways(operator, body))
    operators = list(loop)
    builder.add_edge(START, "begin")
    for operator, following in pairwise(operators[1:]):
        builder.add_edge(operator, following)
    builder.add_conditional_edges("begin", nodes.goes_on, {True: "select", False: "conclude"})
    builder.add_conditional_edges("select", nodes.has_plan, {True: "generate", False: "conclude"})
    builder.add_conditional_edges(operators[-1], nodes.goes_on, {True: "select", False: "conclude"})
    builder.add_edge("conclude", END)
    return builder.compile(name=name, **options)


def _both_ways(name: str, body: Node) -> RunnableLambda[Any, State]:
    """One body of code as a node for plain and for async runs."""

    def run(state: State) -> State:
        return drive(body(state))

    async def arun(state: State) -> State:
        return await adrive(body(state))

    return RunnableLambda(run, afunc=arun, name=name)


@dataclass(frozen=True, slots=True)
class _Nodes:
    """The bodies of the nodes and the decisions on the edges, for one strategy."""

    name: str
    strategy: str
    rules: Rules
    parts: Parts

    def begin(self, state: State) -> Asking[State]:
        """Plant the root of a new question, or go on with the search of the last one."""
        yield from ()
        asked = conversation.last_question(state["messages"])
        question = self.parts.steps.read(asked.text)
        run: Run | None = state.get("run")
        if (
            run is not None
            and run["asked"] == asked.id
            and state["thoughts"][run["root"]]["text"] == question
        ):
            self._check_identity(run)
            return {"run": {**run, "stopped": None, "silent": 0}}
        # A conversation that was edited or trimmed plants no root over an older one.
        turn = max(conversation.turn_of(state["messages"]), run["turn"] + 1 if run else 1)
        root = Thought(
            parent=None,
            index=0,
            depth=0,
            kind="root",
            text=question,
            tokens=0,
            logprob=0.0,
        )
        return {
            "run": self._new_run(turn, str(asked.id)),
            "thoughts": {root_id(turn): root},
            "stats": {root_id(turn): fresh_stats(root)},
            "usage": no_usage(),
            "answer": None,
        }

    def select(self, state: State) -> Asking[State]:
        """Plan the next expansion by the strategy's rule."""
        yield from ()
        search = self._search(state)
        plan = self.rules.select(search)
        _tell(_operator("select", [search.graph.root], [id for id, _ in plan], no_usage()))
        listed = [[id, count] for id, count in plan]
        return {"run": {**search.run, "plan": listed, "fresh": [], "round": search.run["round"] + 1}}

    def generate(self, state: State) -> Asking[State]:
        """Let the policy write the planned thoughts."""
        search, started = self._search(state), time.monotonic()
        plan = [(id, count) for id, count in search.run["plan"]]
        outcome = yield from self.rules.expand(search.graph, plan, search.setting, search.allowance)
        _tell(_operator("generate", [id for id, _ in plan], outcome.outputs, outcome.usage))
        silent = 0 if outcome.usage["completion_tokens"] else search.run["silent"] + 1
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
        outcome = yield from evaluate(search.graph, run["fresh"], search.setting, search.allowance)
        graph = search.graph.updated(outcome.writes)
        _tell(_operator("evaluate", run["fresh"], outcome.outputs, outcome.usage))
        _tell(*(_thought(graph, id) for id in run["fresh"]))
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
            _tell(_operator(operator, search.run["fresh"], list(writes.stats), no_usage()))
            return {"stats": writes.stats}

        return node

    def conclude(self, state: State) -> Asking[State]:
        """Choose the answer and reply to the conversation."""
        yield from ()
        search = self._search(state)
        graph, run = search.graph, search.run
        stopped = self._why_stopped(state) or "exhausted"
        best = run["best"] if stopped == "verified" else self.rules.answer(graph, graph.finals())
        answer = None if best is None else graph.thoughts[best].get("answer")
        verified = None if best is None or self.parts.verifier is None else self._accepted(graph, best)
        steps = [] if best is None else self.parts.steps.granularity.for_answer(graph.steps(best))
        usage: Usage = state["usage"]
        self._release(search, graph, graph.children(graph.root), ended=True)
        _tell(AnswerEvent(event="answer", answer=answer, verified=verified, stopped=stopped, usage=usage))
        message = conversation.reply(run["reply"], answer, steps, stopped, usage, self.name)
        run = Run({**run, "plan": [], "fresh": [], "stopped": stopped, "best": best, "verified": verified})
        return {"messages": [message], "answer": answer, "run": run}

    def goes_on(self, state: State) -> bool:
        """Whether another round may begin."""
        return self._why_stopped(state) is None

    def has_plan(self, state: State) -> bool:
        """Whether select found anything to do."""
        return bool(state["run"]["plan"])

    def _release(
        self, search: Search, graph: ThoughtGraph, ids: Sequence[str], *, ended: bool = False
    ) -> None:
        """Tell a policy that caches which of these thoughts nobody will go on from; all, if it has ended."""
        policy, setting = self.parts.policy, search.setting
        if not isinstance(policy, Caching):
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
        if (spent := self.parts.budget.left(state["usage"]).spent) is not None:
            return spent
        if run["silent"] >= _SILENT_ROUNDS:
            return "no reply from the model"
        if self.rules.rounds is not None and run["round"] >= self.rules.rounds:
            return "rounds"
        return "recursion limit" if state["remaining_steps"] < _SPARE_SUPERSTEPS else None

    def _search(self, state: State) -> Search:
        parts, run = self.parts, state["run"]
        self._check_identity(run)
        graph = ThoughtGraph(run["root"], state["thoughts"], state["stats"])
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
            distinct=self.rules.distinct,
        )
        return Search(graph, run, setting, parts.budget.left(state["usage"]))

    def _new_run(self, turn: int, asked: str) -> Run:
        seed = self.parts.seed
        return Run(
            turn=turn,
            root=root_id(turn),
            seed=conversation.draw_seed() if seed is None else seed,
            identity=self._identity,
            asked=asked,
            reply=conversation.new_id(),
            round=0,
            plan=[],
            fresh=[],
            silent=0,
            stopped=None,
            best=None,
            verified=None,
        )

    @property
    def _identity(self) -> str:
        value = self.parts.value
        return "|".join((self.strategy, self.parts.policy.identity, value.identity if value else ""))

    def _check_identity(self, run: Run) -> None:
        if run["identity"] != self._identity:
            raise CheckpointError(
                f"the stored search was made with {run['identity']!r}, this reasoner is {self._identity!r}; "
                "use the strategy and the model of before, or ask a new question"
            )

    def _accepted(self, graph: ThoughtGraph, id: str) -> bool:
        final = graph.thoughts[id]["kind"] == "final"
        return final and self.parts.verifier is not None and graph.stats[id]["value"] == 1.0


def _spent(before: Usage, usage: Usage, started: float) -> Usage:
    return add_usage(before, Usage({**usage, "seconds": time.monotonic() - started}))


def _tell(*events: Event) -> None:
    writer = get_stream_writer()
    for event in events:
        writer(event)


def _operator(operator: str, inputs: Sequence[str], outputs: Sequence[str], usage: Usage) -> OperatorEvent:
    return OperatorEvent(
        event="operator",
        operator=operator,
        inputs=list(inputs),
        outputs=list(outputs),
        model_calls=usage["model_calls"],
        tokens=usage["completion_tokens"],
    )


def _thought(graph: ThoughtGraph, id: str) -> ThoughtEvent:
    thought = graph.thoughts[id]
    return ThoughtEvent(
        event="thought",
        id=id,
        parent=thought["parent"],
        depth=thought["depth"],
        kind=thought["kind"],
        text=thought["text"],
        reason=thought.get("reason"),
        value=graph.stats[id]["value"],
    )
