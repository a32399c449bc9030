"""What a run is given in its context: it is used, by this run alone, and nothing of it is stored."""

import sqlite3
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypedDict

import pytest
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import START, MessagesState, StateGraph

from rlm_agent import (
    Completion,
    FakePolicy,
    FakeValue,
    ReasonerContext,
    ReasonerPolicy,
    Request,
    as_tool,
    create_best_of_n,
    create_reasoner,
    takes_context,
)
from rlm_agent.graphs.machine.common import Common, build
from rlm_agent.graphs.machine.graph import SearchGraph
from rlm_agent.graphs.machine.rules import Reasoner, Rules
from rlm_agent.graphs.shared.beams import best_answer, onward
from rlm_agent.models.retrieval import Retrieval
from rlm_agent.structure.errors import CheckpointError, InputError
from tests.graphs.scripts import CASES, FOUND, STEPS, accepts, ask, found, guess, reason, thread, wander
from tests.operators.libraries import Library

MAZE = ReasonerContext(policy=FakePolicy(wander))
WANDERS = [case for case in CASES if case not in ("llama_berry", "reflexion")]


def reply(answer: str) -> FakePolicy:
    """A policy that knows one answer."""
    return FakePolicy(lambda question, prefix: [(answer, -1.0, True)], cycle=True)


def chain(**keywords: Any) -> Reasoner:
    return create_reasoner("chain", **{"model": "context", "steps": STEPS, **keywords})


@pytest.mark.parametrize("case", WANDERS)
def test_a_model_from_the_context_searches_as_one_given_before(case: str) -> None:
    before = reason(case).invoke(ask(), thread(), output_keys=FOUND)
    awaiting = reason(case, "context")  # type: ignore[arg-type]
    assert found(awaiting.invoke(ask(), thread(), output_keys=FOUND, context=MAZE)) == found(before)


def test_each_part_of_a_context_takes_the_place_of_what_was_there() -> None:
    library = Library(default=["the sky is blue"])
    reasoner = chain(model=reply("red"), checkpointer=InMemorySaver())
    context = ReasonerContext(
        policy=reply("blue"),
        value=FakeValue(guess),
        verifier=accepts("blue"),
        retriever=Retrieval(library, when="once"),
    )
    reasoner.invoke(ask(), thread(), context=context)
    values = reasoner.get_state(thread()).values
    root = values["thoughts"][values["run"]["root"]]
    assert values["answer"] == "blue" and values["run"]["verified"] is True
    assert root["observed"] and library.asked
    assert chain(model=reply("red")).invoke(ask())["answer"] == "red"


def test_tools_of_a_context_are_called() -> None:
    def script(question: str, prefix: str) -> list[Any]:
        return [("it is 42", -1.0, True)] if "42" in prefix else [("Action: double[21]", -1.0)]

    def double(text: str) -> str:
        return str(2 * int(text))

    context = ReasonerContext(policy=FakePolicy(script, cycle=True), tools=[double])
    assert "42" in create_reasoner("react", "context").invoke(ask(), context=context)["answer"]


def test_runs_side_by_side_are_given_each_their_own() -> None:
    """All policies wait for each other, so that the runs are surely under way at the same time."""
    gate = threading.Barrier(8, timeout=20)

    class Waiting(FakePolicy):
        def generate(self, requests: Sequence[Request]) -> list[Completion]:
            gate.wait()
            return super().generate(requests)

    def run(index: int) -> str:
        policy = Waiting(lambda question, prefix: [(f"answer {index}", -1.0, True)], cycle=True)
        return str(reasoner.invoke(ask(), context=ReasonerContext(policy=policy))["answer"])

    reasoner = chain()
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(run, range(8))) == [f"answer {index}" for index in range(8)]


async def test_async_runs_take_a_context() -> None:
    assert (await chain().ainvoke(ask(), context=ReasonerContext(policy=reply("yes"))))["answer"] == "yes"
    with pytest.raises(InputError, match="pass context="):
        await chain().ainvoke(ask())


def test_what_a_context_made_is_made_once_and_goes_with_it() -> None:
    made = []

    @takes_context
    def create(model: Any, **common: Any) -> Reasoner:
        made.append(model)
        return build("own", model, Rules(onward, best_answer), Common(**common))  # type: ignore[typeddict-item]

    reasoner, context = create("context", steps=STEPS), ReasonerContext(policy=reply("yes"))
    for _ in range(3):
        reasoner.invoke(ask(), context=context)
    assert made == ["context", context.policy]
    graph = reasoner.builder
    assert isinstance(graph, SearchGraph)
    variants = graph._variants
    assert len(variants) == 1
    del context
    assert not variants


def test_nothing_of_a_context_is_stored(tmp_path: Path) -> None:
    @dataclass
    class Secret:
        key: str = "hush-hush-123"

    class Hiding(FakePolicy):
        def __init__(self) -> None:
            super().__init__(wander)
            self.secret = Secret()

    path = tmp_path / "searches.db"
    context = ReasonerContext(policy=Hiding(), value=FakeValue(guess), retriever=Library(default=["text"]))
    with closing(sqlite3.connect(path, check_same_thread=False)) as connection:
        reasoner = reason("mcts", "context", value=None, checkpointer=SqliteSaver(connection))  # type: ignore[arg-type]
        reasoner.invoke(ask(), thread(), context=context)
        state = reasoner.get_state(thread())
        dumped = "\n".join(connection.iterdump())
        blobs = [
            blob for row in connection.execute("select checkpoint, metadata from checkpoints") for blob in row
        ]
        blobs += [blob for (blob,) in connection.execute("select value from writes")]
    assert state.values["answer"] and len(blobs) > 20
    everything = b"".join(blob if isinstance(blob, bytes) else str(blob).encode() for blob in blobs)
    for word in ("hush", "Hiding", "Secret", "ReasonerContext", "__pregel_runtime"):
        assert word.encode() not in everything and word not in dumped


def test_a_search_goes_on_with_the_context_of_before_alone() -> None:
    reasoner = reason("mcts", "context", checkpointer=InMemorySaver(), interrupt_before=["evaluate"])  # type: ignore[arg-type]
    reasoner.invoke(ask(), thread(), context=MAZE)
    before = reasoner.get_state(thread()).values
    with pytest.raises(InputError, match=r"pass context=ReasonerContext\(policy="):
        reasoner.invoke(None, thread())
    other = FakePolicy(wander)
    other.identity = "another one"
    with pytest.raises(CheckpointError, match="another one"):
        reasoner.invoke(None, thread(), context=ReasonerContext(policy=other))
    assert reasoner.get_state(thread()).values == before
    reasoner.interrupt_before_nodes = ()
    again = reasoner.invoke(None, thread(), context=ReasonerContext(policy=FakePolicy(wander)))
    unbroken = reason("mcts").invoke(ask(), thread(), output_keys=FOUND)
    assert again["answer"] == unbroken["answer"]
    assert reasoner.get_state(thread()).values["thoughts"] == unbroken["thoughts"]


class Mine(TypedDict):
    user: str
    reasoner: ReasonerContext | None


@dataclass
class Ours:
    user: str
    reasoner: ReasonerContext | None = None


def app(node: Reasoner, schema: type | None) -> Any:
    builder: StateGraph[Any, Any, Any, Any] = StateGraph(MessagesState, context_schema=schema)
    builder.add_node("reason", node)
    builder.add_edge(START, "reason")
    return builder.compile()


@pytest.mark.parametrize(
    ("schema", "context"),
    [
        (ReasonerContext, ReasonerContext(policy=reply("yes"))),
        (Mine, {"user": "u", "reasoner": ReasonerContext(policy=reply("yes"))}),
        (Ours, Ours("u", ReasonerContext(policy=reply("yes")))),
        (None, ReasonerContext(policy=reply("yes"))),
    ],
)
def test_an_app_hands_a_context_down(schema: type | None, context: Any) -> None:
    assert app(chain(), schema).invoke(ask(), context=context)["messages"][-1].content == "yes"


@pytest.mark.parametrize(
    ("schema", "context"), [(Mine, {"user": "u"}), (Ours, Ours("u")), (Mine, {"policy": "mini"})]
)
def test_the_context_of_an_app_is_none_of_ours(schema: type, context: Any) -> None:
    node = chain(model=reply("own"))
    assert app(node, schema).invoke(ask(), context=context)["messages"][-1].content == "own"


def test_a_reasoner_as_a_tool_is_given_the_context_of_the_app() -> None:
    tool = as_tool(chain())

    def call(state: Any, config: RunnableConfig) -> Any:
        return {"messages": [AIMessage(tool.invoke({"question": "where to?"}, config))]}

    builder: StateGraph[Any, Any, Any, Any] = StateGraph(MessagesState, context_schema=Ours)
    agent = builder.add_node("call", call).add_edge(START, "call").compile()
    context = Ours("u", ReasonerContext(policy=reply("yes")))
    assert agent.invoke(ask(), context=context)["messages"][-1].content == "yes"
    assert "pass context=" in agent.invoke(ask(), context=Ours("u"))["messages"][-1].content


def test_an_inner_reasoner_keeps_its_model() -> None:
    create = partial(create_best_of_n, reply("inner"), n=1, steps=STEPS)
    outer = ReasonerContext(policy=ReasonerPolicy(create))
    assert chain().invoke(ask(), context=outer)["answer"] == "inner"
    with pytest.raises(InputError, match="model of its own"):
        ReasonerPolicy(partial(create_best_of_n, "context"))


@pytest.mark.parametrize(
    ("keywords", "reason"),
    [
        ({"policy": "/etc/model.gguf"}, "names no model"),
        ({"policy": "openai:gpt"}, "names no model"),
        ({"policy": "context"}, "names no model"),
        ({"value": "head.gguf"}, "names no value"),
        ({"value": "math_shepherd:model.gguf"}, "names no value"),
        ({"value": "rollout:4\n"}, "names no value"),
        ({"preference": {"x": 1}}, "no preference"),
    ],
)
def test_a_context_from_a_client_opens_no_files(keywords: dict[str, Any], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        chain().invoke(ask(), context=keywords)
    assert ReasonerContext(policy="mini", value="rollout:4").given == {"model": "mini", "value": "rollout:4"}


def test_what_a_context_cannot_change_is_refused() -> None:
    plain = build("own", reply("yes"), Rules(onward, best_answer), {"steps": STEPS})
    assert plain.invoke(ask(), context=ReasonerContext())["answer"] == "yes"
    with pytest.raises(InputError, match="takes no context"):
        plain.invoke(ask(), context=MAZE)
    voting = create_reasoner("graph_of_thoughts", reply("yes"))
    with pytest.raises(InputError, match="would be another graph"):
        voting.invoke(ask(), context=ReasonerContext(verifier=accepts("yes")))
    with pytest.raises(InputError, match="takes no tools"):
        create_reasoner("journey", "context").invoke(
            ask(), context=ReasonerContext(policy=reply("yes"), tools=[len])
        )
