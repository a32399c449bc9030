"""Several calls in one step, what is remembered of them, and calls that somebody has to approve."""

from collections.abc import Sequence
from typing import Any

import pytest

from rlm_agent import FakePolicy, Toolbox
from rlm_agent.models.drive import Act, drive
from rlm_agent.models.protocols import Message
from rlm_agent.operators.act import act
from rlm_agent.operators.setting import Outcome, Setting
from rlm_agent.structure.budget import Allowance
from rlm_agent.structure.thoughts import ThoughtGraph
from rlm_agent.tools.approval import Pending
from rlm_agent.tools.protocols import Tool
from rlm_agent.tools.syntax import JsonCalls
from tests.operators.test_act import Recorder
from tests.structure.trees import graft, plant

SETTING = Setting(FakePolicy(lambda question, prefix: []), (Message(role="user", content="q"),), 7)


def call(name: str, argument: str) -> str:
    return f'{{"name": "{name}", "arguments": {{"argument": "{argument}"}}}}'


def box(*tools: Any, **keywords: Any) -> Toolbox:
    return Toolbox(tools, syntax=JsonCalls(), **keywords)


def answered(
    graph: ThoughtGraph, texts: Sequence[str], tools: Toolbox, **keywords: Any
) -> tuple[ThoughtGraph, list[str]]:
    """The graph after `act` on new thoughts under the root, and what the observations say."""
    ids = []
    for text in texts:
        graph, id = graft(graph, graph.root, text)
        ids.append(id)
    outcome: Outcome = drive(act(graph, ids, SETTING, tools, Allowance(), **keywords))
    graph = graph.updated(outcome.writes)
    return graph, [graph.thoughts[id]["text"] for id in outcome.outputs]


def test_several_calls_of_a_step_are_made_together_and_answered_in_one_observation() -> None:
    graph, id = graft(plant(), plant().root, f"Action: {call('look', 'x')}; {call('near', 'y')}")
    look, near = Recorder(), Recorder("near", str.lower)
    running = act(graph, [id], SETTING, box(look, near), Allowance())
    question = next(running)
    assert isinstance(question, Act)
    assert [(tool.name, argument) for tool, argument in question.calls] == [("look", "x"), ("near", "y")]
    _, said = answered(plant(), [f"Action: {call('look', 'x')}; {call('near', 'Y')}"], box(look, near))
    assert said == ["Observation: [1] X [2] y"]


def test_what_several_calls_came_to_is_known_one_by_one() -> None:
    look = Recorder()
    graph, said = answered(plant(), [f"Action: {call('look', 'x')} {call('look', 'y')}"], box(look))
    assert said == ["Observation: [1] X [2] Y"] and look.asked == ["x", "y"]
    later = [f"Action: {call('look', 'y')}", f"Action: {call('look', 'z')} {call('look', 'x')}"]
    graph, said = answered(graph, later, box(look))
    assert said == ["Observation: Y", "Observation: [1] Z [2] X"] and look.asked == ["x", "y", "z"]


def test_the_same_call_twice_in_a_step_is_made_once_but_not_where_it_has_effects() -> None:
    look, pay = Recorder(), Recorder("pay", safe=False)
    twice = [
        f"Action: {call('look', 'x')} {call('look', 'x')}",
        f"Action: {call('pay', '5')}; {call('pay', '6')}",
    ]
    _, said = answered(plant(), twice, box(look, pay), committed=True)
    assert said == ["Observation: [1] X [2] X", "Observation: [1] 5 [2] 6"]
    assert look.asked == ["x"] and pay.asked == ["5", "6"]


def test_a_bad_call_harms_none_beside_it() -> None:
    text = f'Action: {call("look", "x")} {{"name": "serach"}} {{"name": "look"}}'
    _, (said,) = answered(plant(), [text], box(Recorder()))
    assert said == (
        "Observation: [1] X [2] Error: there is no tool 'serach'; the tools are look "
        "[3] Error: look takes 'argument' alone, a text; the tools are look"
    )


def test_a_repeated_call_is_found_without_a_walk_over_the_graph() -> None:
    class Counted(dict[str, Any]):
        looked = 0

        def __getitem__(self, key: str) -> Any:
            Counted.looked += 1
            return super().__getitem__(key)

    look, tools = Recorder(), box(Recorder())
    graph, _ = answered(plant(), [f"Action: {call('look', 'x')}"], box(look))
    for index in range(500):
        graph, _ = graft(graph, graph.root, f"thought {index}")
    graph, id = graft(graph, graph.root, f"so Action: {call('look', 'x')}")
    graph = ThoughtGraph(graph.root, Counted(graph.thoughts), graph.stats, graph.index)
    for _ in range(2):
        Counted.looked = 0
        outcome = drive(act(graph, [id], SETTING, tools, Allowance()))
    (thought,) = outcome.writes.thoughts.values()
    assert thought["text"] == "Observation: X" and Counted.looked < 20


class Judge:
    """A gate that decides by a table, and keeps what it was asked."""

    identity = "judge"

    def __init__(self, everything: bool = False, **reasons: str) -> None:
        self.asked: list[Pending] = []
        self._everything, self._reasons = everything, reasons

    def wants(self, tool: Tool) -> bool:
        return self._everything or not tool.idempotent

    def decide(self, calls: Sequence[Pending]) -> list[str | None]:
        self.asked += calls
        return [self._reasons.get(f"_{one.argument}") for one in calls]


def test_a_call_with_effects_is_made_where_it_is_approved_though_no_path_is_committed() -> None:
    judge, pay, look = Judge(_6="too much", _7=""), Recorder("pay", safe=False), Recorder()
    texts = [f"Action: {call('pay', amount)}" for amount in "567"] + [f"Action: {call('look', 'x')}"]
    graph, said = answered(plant(), texts, box(pay, look, gate=judge))
    assert said == [
        "Observation: 5",
        "Observation: Error: the call was not approved: too much",
        "Observation: Error: the call was not approved",
        "Observation: X",
    ]
    assert pay.asked == ["5"] and [one.argument for one in judge.asked] == ["5", "6", "7"]
    assert len({one.id for one in judge.asked}) == 3 and {one.thought for one in judge.asked} < set(
        graph.thoughts
    )


def test_nobody_is_asked_twice_for_what_is_known_or_cannot_be_called() -> None:
    judge, look = Judge(everything=True, _no="no"), Recorder()
    texts = [
        f"Action: {call('look', 'x')}",
        f"So Action: {call('look', 'x')}",
        f"Action: {call('serach', 'x')}",
    ]
    graph, _ = answered(plant(), texts, box(look, gate=judge))
    assert [one.argument for one in judge.asked] == ["x"]
    graph, said = answered(graph, [f"Again Action: {call('look', 'x')}"], box(look, gate=judge))
    assert said == ["Observation: X"] and len(judge.asked) == 1
    _, said = answered(graph, [f"Action: {call('look', 'no')}"], box(look, gate=judge))
    assert said == ["Observation: Error: the call was not approved: no"] and look.asked == ["x"]


def test_a_gate_that_suspends_does_so_before_anything_is_called() -> None:
    class Suspends(Judge):
        def decide(self, calls: Sequence[Pending]) -> list[str | None]:
            raise InterruptedError

    pay, look = Recorder("pay", safe=False), Recorder()
    with pytest.raises(InterruptedError):
        answered(
            plant(), [f"Action: {call('look', 'x')} {call('pay', '5')}"], box(pay, look, gate=Suspends())
        )
    assert not look.asked and not pay.asked
