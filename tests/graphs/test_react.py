"""ReAct: a chain with actions, derived by hand, from a plain loop, resumed, and whatever tools do to it."""

import asyncio
import threading
from typing import Any

import pytest
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver

from rlm_agent import Budget, Calculator, FakePolicy, Steps, ThoughtGraph, Toolbox, create_chain, create_react
from rlm_agent.models.drive import drive
from rlm_agent.models.fake import Reply
from rlm_agent.operators.rules.means import Means
from rlm_agent.operators.rules.observations import acting
from rlm_agent.operators.setting import Setting
from rlm_agent.structure.budget import Allowance
from rlm_agent.structure.errors import CheckpointError, InputError
from rlm_agent.structure.formats import WHOLE, tokens
from rlm_agent.tasks.answers import free_answer
from rlm_agent.tools.calling import Limits
from rlm_agent.tools.wrapping import as_tool
from tests.graphs.scripts import Mortal, ask, found, grown, thread, wander
from tests.structure.trees import plant

PLENTY = Budget(calls=1000)
CHAIN = [
    "A train goes 90 km in 1.5 h.",
    "Action: calculator[90/1.5]",
    "Observation: 60",
    "In 48 minutes it goes 60 km/h times <<48/60=",
    "Observation: 0.8",
    "Action: towns[48 km on]",
    "Observation: Error: there is no tool 'towns'; the tools are calculator, near",
    "Action: near[48]",
    "Observation: Ulm, or Aalen",
    "Action: Finish[Ulm]",
]
"""A chain with a thought, a call, an inline call, an unknown tool, another call, and a finish."""


@tool
def near(distance: int) -> str:
    """Names towns at a distance in km."""
    return "Ulm,\nor Aalen" if distance == 48 else "nothing"


def tells(question: str, prefix: str) -> list[Reply]:
    """The next step of the chain; its last action comes with the model's own end."""
    step = CHAIN[prefix.count("\n")]
    return [(step, -0.5, step.startswith("Action: near")), ("Action: Finish[Bonn]", -3.0)]


def searched(policy: FakePolicy, **keywords: Any) -> tuple[ThoughtGraph, dict[str, Any]]:
    """The tree after one question, and the values of the final state."""
    common: dict[str, Any] = {"tools": [Calculator(), near], "budget": PLENTY, "seed": 5}
    reasoner = create_react(policy, **{**common, **keywords}, checkpointer=InMemorySaver())
    reasoner.invoke(ask(), thread())
    values = reasoner.get_state(thread()).values
    return grown(values), values


def test_a_chain_holds_thoughts_actions_and_observations_in_order() -> None:
    graph, values = searched(FakePolicy(tells))
    assert graph.steps(values["run"]["best"]) == CHAIN
    assert values["answer"] == "Ulm" and values["run"]["stopped"] == "exhausted"
    operators = [graph.thoughts[id].get("operator") for id in graph.chain(values["run"]["best"])]
    assert [one == "act" for one in operators] == [step.startswith("Observation") for step in CHAIN]
    assert values["usage"]["nodes"] == 10 and values["usage"]["model_calls"] == 6


def test_a_plain_loop_over_the_operators_writes_the_same_chain() -> None:
    policy = FakePolicy(tells)
    _, values = searched(policy, seed=5)
    asked, graph = policy.requests[0], plant("where to?")
    means = Means(Toolbox([Calculator(), near]), committed=True)
    s = Setting(policy, asked.messages, 5, acting(Steps(answer=free_answer)), asked.decoding)
    id = graph.root
    while graph.thoughts[id]["kind"] != "final":
        outcome = drive(means.advance(graph, [(id, 1)], s, Allowance()))
        graph, id = graph.updated(outcome.writes), outcome.outputs[-1]
    assert dict(graph.thoughts) == values["thoughts"]


def test_the_policy_is_told_of_the_tools_and_of_how_to_end() -> None:
    policy = FakePolicy(tells)
    searched(policy, system_prompt="Be brief.")
    told = policy.requests[0].messages[0]["content"]
    assert told.startswith("Be brief.\n\n")
    assert "- calculator: Computes" in told and "- near: Names towns at a distance in km." in told
    assert "Action: name[argument]" in told and "Finish[answer]" in told


def test_without_tools_it_is_the_chain() -> None:
    for seed in range(5):
        common: dict[str, Any] = {"seed": seed, "temperature": 1.0, "steps": Steps(), "budget": PLENTY}
        react, chain = FakePolicy(wander), FakePolicy(wander)
        answer = create_react(react, tools=[], **common).invoke(ask())["answer"]
        assert answer == create_chain(chain, **common).invoke(ask())["answer"]
        assert react.requests == chain.requests


async def test_async_runs_await_the_tools_and_write_the_same() -> None:
    async def near(text: str) -> str:
        """Names towns."""
        await asyncio.sleep(0)
        return "Ulm, or Aalen"

    tools = [Calculator(), near]
    plain = create_react(FakePolicy(tells), tools=tools, budget=PLENTY, seed=5)
    keys = ["thoughts", "stats", "answer", "usage"]
    awaited = await plain.ainvoke(ask(), output_keys=keys)
    assert awaited["answer"] == "Ulm"
    assert found(awaited) == found(await asyncio.to_thread(plain.invoke, ask(), output_keys=keys))


@pytest.mark.parametrize("batches", range(6))
def test_a_run_that_broke_off_is_taken_up_and_calls_no_tool_again(batches: int) -> None:
    called: list[str] = []

    def near(text: str) -> str:
        """Names towns."""
        called.append(text)
        return "Ulm, or Aalen"

    class Breaks(Mortal):
        def __init__(self) -> None:
            super().__init__(batches)
            self._script = tells

    saver, tools = InMemorySaver(), [Calculator(), as_tool(near, idempotent=False)]
    with pytest.raises(ConnectionError):
        create_react(Breaks(), tools=tools, budget=PLENTY, seed=5, checkpointer=saver).invoke(ask(), thread())
    reasoner = create_react(FakePolicy(tells), tools=tools, budget=PLENTY, seed=5, checkpointer=saver)
    reasoner.invoke(None, thread())
    values = reasoner.get_state(thread()).values
    assert grown(values).steps(values["run"]["best"]) == CHAIN
    assert called == ["48"]


@pytest.mark.parametrize("nodes", range(1, 11))
def test_a_run_that_a_budget_ended_goes_on_with_a_larger_one_as_if_it_had_not(nodes: int) -> None:
    saver, tools = InMemorySaver(), [Calculator(), near]
    first = create_react(
        FakePolicy(tells), tools=tools, budget=Budget(nodes=nodes), seed=5, checkpointer=saver
    )
    usage = first.invoke(ask(), thread())["usage"]
    assert usage["nodes"] == nodes
    second = create_react(FakePolicy(tells), tools=tools, budget=PLENTY, seed=5, checkpointer=saver)
    second.invoke({"messages": []}, thread())
    _, unbroken = searched(FakePolicy(tells))
    assert second.get_state(thread()).values["thoughts"] == unbroken["thoughts"]


def test_a_run_is_not_taken_up_with_other_tools() -> None:
    saver = InMemorySaver()
    common: dict[str, Any] = {"seed": 5, "checkpointer": saver}
    tools = [Calculator(), near]
    create_react(FakePolicy(tells), tools=tools, budget=Budget(nodes=3), **common).invoke(ask(), thread())
    other = create_react(FakePolicy(tells), tools=[Calculator()], budget=PLENTY, **common)
    with pytest.raises(CheckpointError):
        other.invoke({"messages": []}, thread())
    assert other.name == "react"


def test_a_tool_with_effects_is_called_since_the_chain_is_committed() -> None:
    paid: list[str] = []

    def pay(text: str) -> str:
        """Pays."""
        paid.append(text)
        return "paid"

    def script(question: str, prefix: str) -> list[Reply]:
        return [("Action: pay[5]", -1.0)] if prefix.count("\n") < 4 else [("Finish[done]", -1.0)]

    _, values = searched(FakePolicy(script), tools=[as_tool(pay, idempotent=False)])
    assert values["answer"] == "done" and paid == ["5", "5"]


def test_tools_that_raise_hang_or_say_far_too_much_end_nothing() -> None:
    gate = threading.Event()

    def fails(text: str) -> str:
        """Fails."""
        raise RuntimeError("broken")

    def hangs(text: str) -> str:
        """Hangs."""
        gate.wait()
        return ""

    def floods(text: str) -> str:
        """Floods."""
        return "word " * 10**6

    names = ["fails", "hangs", "floods"]

    def script(question: str, prefix: str) -> list[Reply]:
        done = prefix.count("Observation")
        return [(f"Action: {names[done]}[x]" if done < 3 else "Finish[still here]", -1.0)]

    box = Toolbox([fails, hangs, floods], Limits(seconds=0.2, characters=60))
    graph, values = searched(FakePolicy(script), tools=box)
    gate.set()
    said = [graph.thoughts[id]["text"] for id in graph.walk() if "operator" in graph.thoughts[id]]
    assert said[:2] == [
        "Observation: Error: RuntimeError: broken",
        "Observation: Error: no reply within 0.2 seconds",
    ]
    assert len(said[2]) < 120 and values["answer"] == "still here"


def test_a_chain_of_nothing_but_calls_ends_at_its_last_step() -> None:
    def script(question: str, prefix: str) -> list[Reply]:
        return [(f"Action: calculator[{prefix.count('Action')} + 1]", -1.0)]

    graph, values = searched(FakePolicy(script), steps=Steps(max_steps=6))
    assert values["answer"] is None and values["run"]["stopped"] == "exhausted"
    reasons = [thought["reason"] for thought in values["thoughts"].values() if thought["kind"] == "failed"]
    assert reasons == ["no answer within 6 steps"]
    assert max(thought["depth"] for thought in graph.thoughts.values()) == 6


def test_a_calculator_knows_no_gold_answer_and_tools_see_their_argument_alone() -> None:
    seen: list[tuple[Any, ...]] = []

    class Spy:
        name, description, idempotent = "spy", "Spies.", True

        def call(self, *arguments: Any) -> str:
            seen.append(arguments)
            return "seen"

        async def acall(self, argument: str) -> str:
            return self.call(argument)

    def script(question: str, prefix: str) -> list[Reply]:
        return [("Finish[1]" if prefix else "Action: spy[me]", -1.0)]

    question = ask()
    question["messages"][0].additional_kwargs = {"gold": "POISON-417"}
    create_react(FakePolicy(script), tools=[Spy()], budget=PLENTY).invoke(question)
    assert seen == [("me",)]


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"steps": Steps(format=WHOLE)}, "leave steps out, or give steps by line or paragraph"),
        ({"steps": Steps(format=tokens(4))}, "leave steps out, or give steps by line or paragraph"),
        ({"tools": "calculator"}, "str is no tool"),
        ({"tools": Calculator()}, "Calculator is no list of tools; give a list or a Toolbox"),
        ({"tools": [Calculator(), Calculator()]}, "two tools are named 'calculator'; rename one"),
        ({"retriever": object()}, "object is no retriever; give a Retriever or a LangChain BaseRetriever"),
    ],
)
def test_what_contradicts_itself_is_refused_with_a_remedy(keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        create_react(FakePolicy(tells), **{"tools": [Calculator()], **keywords})


def test_a_specialist_that_has_not_learned_to_act_is_given_no_tools() -> None:
    with pytest.raises(InputError, match="this model has not learned to act; use a general model"):
        create_react(FakePolicy(tells, task="game24"), tools=[Calculator()])
    create_react(FakePolicy(tells, task="game24"))
