"""What tools answer, what they are not asked, and that the search goes on whatever they do."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from rlm_agent import FakePolicy, Steps
from rlm_agent.models.drive import Act, Generate, adrive, drive
from rlm_agent.models.fake import Reply
from rlm_agent.models.protocols import Completion, Message
from rlm_agent.operators.act import act
from rlm_agent.operators.rules.means import Means
from rlm_agent.operators.rules.observations import acting, mended, observed
from rlm_agent.operators.setting import Outcome, Setting
from rlm_agent.operators.writing import prefix_of
from rlm_agent.structure.budget import Allowance
from rlm_agent.structure.formats import PARAGRAPH
from rlm_agent.structure.ids import child_id, fingerprint, root_id
from rlm_agent.structure.thoughts import ThoughtGraph, fresh_stats
from rlm_agent.tasks.answers import free_answer
from rlm_agent.tools.calculator import Calculator
from rlm_agent.tools.calling import Limits
from rlm_agent.tools.toolbox import Toolbox
from rlm_agent.tools.wrapping import as_tool
from tests.structure.trees import graft, grown, marked, plant


class Recorder:
    """A tool that answers by a function, and keeps what it was asked."""

    def __init__(
        self, name: str = "look", answer: Callable[[str], object] = str.upper, *, safe: bool = True
    ) -> None:
        self.name, self.description, self.idempotent = name, "Looks it up.", safe
        self.asked: list[str] = []
        self._answer = answer

    def call(self, argument: str) -> object:
        self.asked.append(argument)
        return self._answer(argument)

    async def acall(self, argument: str) -> object:
        return self.call(argument)


def setting(*replies: Reply, **steps: Any) -> Setting:
    """The setting of a policy that says the same whatever was written before, in turn."""
    policy = FakePolicy(lambda question, prefix: replies or [("on", -1.0)], cycle=True)
    return Setting(policy, (Message(role="user", content="q"),), 7, steps=Steps(**steps))


def written(*texts: str) -> tuple[ThoughtGraph, list[str]]:
    """A root with a child of each text, and the children."""
    graph, ids = plant(), []
    for text in texts:
        graph, id = graft(graph, graph.root, text)
        ids.append(id)
    return graph, ids


def answered(
    graph: ThoughtGraph, ids: Sequence[str], *tools: Any, allowance: Allowance | None = None, **keywords: Any
) -> tuple[ThoughtGraph, Outcome]:
    """The graph after `act`, and its outcome."""
    limits = keywords.pop("limits", Limits(seconds=20))
    outcome = drive(act(graph, ids, setting(), Toolbox(tools, limits), allowance or Allowance(), **keywords))
    return graph.updated(outcome.writes), outcome


def texts(graph: ThoughtGraph, outcome: Outcome) -> list[str]:
    return [graph.thoughts[id]["text"] for id in outcome.outputs]


def test_a_call_gets_an_observation_as_its_only_child() -> None:
    graph, (plain, call) = written("just a thought", "Action: look[paris]")
    graph, outcome = answered(graph, [plain, call], Recorder())
    (id,) = outcome.outputs
    assert id == child_id(call, 0) == observed(graph, call) and observed(graph, plain) == plain
    assert graph.thoughts[id] == {
        "parent": call, "index": 0, "depth": 2, "kind": "step", "text": "Observation: PARIS",
        "tokens": 0, "logprob": 0.0, "operator": "act",
        "called": [fingerprint("look", "paris")],
    }  # fmt: skip
    assert graph.stats[call]["children"] == 1 and not graph.stats[id]["closed"]
    assert (outcome.usage["nodes"], outcome.usage["model_calls"], outcome.usage["completion_tokens"]) == (
        1,
        0,
        0,
    )
    (event,) = outcome.trace
    assert (event["operator"], event["inputs"], event["outputs"]) == ("act", [call], [id])


def test_the_policy_reads_thought_action_and_observation_in_order() -> None:
    graph, (call,) = written("I look\tAction: no")
    graph, thought = graft(graph, call, "so I look")
    graph, call = graft(graph, thought, "Action: look[x]")
    graph, outcome = answered(graph, [call], Recorder())
    prefix = prefix_of(graph, outcome.outputs[0], setting())
    assert prefix == "I look\tAction: no\nso I look\nAction: look[x]\nObservation: X\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Action: calculator[48/2]", "24"),
        ("She sold <<48/2=", "24"),
        ("Action: calculator[1/0]", "Error: ExpressionError: it divides by zero"),
        ("Action: serach[x]", "Error: there is no tool 'serach'; the tools are look, calculator"),
        (
            "Action: look",
            "Error: 'look' is no action; write Action: name[argument]; the tools are look, calculator",
        ),
    ],
)
def test_what_cannot_be_called_is_told_of_and_the_search_goes_on(text: str, said: str) -> None:
    graph, ids = written(text)
    look = Recorder()
    graph, outcome = answered(graph, ids, look, Calculator())
    assert texts(graph, outcome) == [f"Observation: {said}"]
    assert graph.thoughts[outcome.outputs[0]]["kind"] == "step" and not look.asked


def test_identical_calls_are_made_once_in_a_batch_and_never_again_for_the_question() -> None:
    graph, (first, second, other) = written("Action: look[x]", "So.\nAction: look[x]", "Action: look[y]")
    look = Recorder()
    graph, outcome = answered(graph, [first, second, other], look)
    assert texts(graph, outcome) == ["Observation: X", "Observation: X", "Observation: Y"]
    assert sorted(look.asked) == ["x", "y"]
    graph, later = graft(graph, outcome.outputs[2], "Action 9: look[ x ]")
    graph, outcome = answered(graph, [later], look)
    assert texts(graph, outcome) == ["Observation: X"] and sorted(look.asked) == ["x", "y"]


def test_a_call_of_another_question_is_made_anew() -> None:
    graph, ids = written("Action: look[x]")
    look = Recorder()
    graph, _ = answered(graph, ids, look)
    root = graph.thoughts[graph.root]
    second = ThoughtGraph(
        root_id(2),
        {**graph.thoughts, root_id(2): root},
        {**graph.stats, root_id(2): fresh_stats(root)},
    )
    second, call = graft(second, second.root, "Action: look[x]")
    answered(second, [call], look)
    assert look.asked == ["x", "x"]


def test_a_tool_that_failed_is_not_asked_the_same_again() -> None:
    def fail(argument: str) -> object:
        raise ConnectionError("gone")

    graph, (call,) = written("Action: look[x]")
    look = Recorder(answer=fail)
    graph, outcome = answered(graph, [call], look)
    graph, later = graft(graph, outcome.outputs[0], "Action: look[x]")
    graph, outcome = answered(graph, [later], look)
    assert texts(graph, outcome) == ["Observation: Error: ConnectionError: gone"] and look.asked == ["x"]


def test_a_tool_with_effects_is_called_on_a_committed_path_alone_and_then_each_time() -> None:
    graph, ids = written("Action: pay[5]")
    pay = Recorder("pay", safe=False)
    refused, outcome = answered(graph, ids, pay)
    assert texts(refused, outcome) == [
        "Observation: Error: pay has effects, and is not called while other ways are tried"
    ]
    assert not pay.asked
    graph, outcome = answered(graph, ids, pay, committed=True)
    graph, again = graft(graph, outcome.outputs[0], "Action: pay[5]")
    graph, _ = answered(graph, [again], pay, committed=True)
    assert pay.asked == ["5", "5"]


def test_a_tool_that_hangs_harms_no_other_call() -> None:
    gate = threading.Event()
    graph, ids = written("Action: slow[x]", "Action: look[y]")
    slow = Recorder("slow", lambda argument: gate.wait())
    graph, outcome = answered(graph, ids, slow, Recorder(), limits=Limits(seconds=0.2))
    gate.set()
    assert texts(graph, outcome) == ["Observation: Error: no reply within 0.2 seconds", "Observation: Y"]


@pytest.mark.parametrize("steps", [{}, {"delimiter": "#"}, {"format": PARAGRAPH}])
def test_an_observation_is_one_step_whatever_delimits_steps(steps: dict[str, Any]) -> None:
    look = Recorder(answer=lambda argument: "a\n\nb # c\nd")
    graph, ids = written("Action: look[x]")
    s = setting(**steps)
    outcome = drive(act(graph, ids, s, Toolbox([look]), Allowance()))
    graph = graph.updated(outcome.writes)
    (text,) = texts(graph, outcome)
    assert s.steps.granularity.delimiter not in text
    assert text.split() == [
        "Observation:",
        *("a b # c d" if "#" not in steps.values() else "a b c d").split(),
    ]


def test_an_observation_at_the_last_depth_fails_with_its_reason() -> None:
    graph, ids = written("Action: look[x]")
    outcome = drive(act(graph, ids, setting(max_steps=2), Toolbox([Recorder()]), Allowance()))
    (thought,) = outcome.writes.thoughts.values()
    assert (thought["kind"], thought["reason"]) == ("failed", "no answer within 2 steps")


def test_who_is_answered_closed_failed_final_or_a_repeat_is_left_alone() -> None:
    graph, (call, repeat, closed) = written("Action: look[x]", "Action: look[x]", "Action: look[y]")
    graph, failed = graft(graph, graph.root, "Action: look[z]", "failed")
    graph, final = graft(graph, graph.root, "Action: look[w]", "final", answer="w")
    graph = marked(graph, closed, closed=True)
    look = Recorder(answer=lambda argument: "Action: look[again]")
    ids = [call, repeat, closed, failed, final]
    graph, outcome = answered(graph, ids, look)
    assert look.asked == ["x"] and outcome.outputs == [child_id(call, 0)]
    graph, outcome = answered(graph, [call, *outcome.outputs], look)
    assert look.asked == ["x"] and not outcome.outputs, "what a tool says calls no tool"


@pytest.mark.parametrize(
    ("allowance", "count"),
    [
        (Allowance(nodes=1), 1), (Allowance(nodes=0), 0), (Allowance(seconds=0), 0), (Allowance(tokens=0), 0),
        (Allowance(calls=0), 0), (Allowance(tokens=1, calls=1), 2),
    ],
)  # fmt: skip
def test_what_the_allowance_does_not_cover_is_not_called(allowance: Allowance, count: int) -> None:
    graph, ids = written("Action: look[x]", "Action: look[y]")
    look = Recorder()
    _, outcome = answered(graph, ids, look, allowance=allowance)
    assert len(outcome.outputs) == len(look.asked) == outcome.usage["nodes"] == count


async def test_async_tools_are_awaited_and_say_the_same() -> None:
    async def wait(text: str) -> str:
        """Waits."""
        return text.upper()

    graph, ids = written("Action: wait[x]", "Action: look[y]")
    tools = Toolbox([wait, Recorder()])
    plain = drive(act(graph, ids, setting(), tools, Allowance()))
    awaited = await adrive(act(graph, ids, setting(), tools, Allowance()))
    assert plain.writes == awaited.writes and plain.outputs == awaited.outputs


TOOLS = Toolbox([Calculator()])


def advanced(
    s: Setting, graph: ThoughtGraph, id: str, count: int, **left: float
) -> tuple[ThoughtGraph, Outcome]:
    outcome = drive(Means(TOOLS).advance(graph, [(id, count)], s, Allowance(**left)))
    return graph.updated(outcome.writes), outcome


def test_steps_are_written_in_one_batch_and_then_answered_in_one() -> None:
    s = setting(("think", -1.0), ("Action: calculator[1+1]", -1.0), ("Action: calculator[2+2]", -1.0))
    running = Means(TOOLS).advance(plant(), [(plant().root, 3)], s, Allowance())
    question = next(running)
    assert isinstance(question, Generate) and len(question.requests) == 3
    question = running.send(s.policy.generate(question.requests))
    assert isinstance(question, Act) and [argument for _, argument in question.calls] == ["1+1", "2+2"]


def test_a_call_that_a_budget_left_open_is_answered_before_it_is_gone_on_from() -> None:
    s = setting(("Action: calculator[1+1]", -1.0))
    graph, outcome = advanced(s, plant(), plant().root, 1, nodes=1)
    (call,) = outcome.outputs
    assert graph.stats[call]["children"] == 0
    graph, outcome = advanced(s, graph, call, 1)
    observation, following, answer = outcome.outputs
    assert graph.steps(answer) == [
        "Action: calculator[1+1]", "Observation: 2", "Action: calculator[1+1]", "Observation: 2"
    ]  # fmt: skip
    assert graph.thoughts[following]["parent"] == observation == observed(graph, call)


def test_an_open_call_that_still_cannot_be_answered_is_not_gone_on_from() -> None:
    s = setting(("Action: calculator[1+1]", -1.0))
    graph, ids = written("Action: calculator[1+1]", "Action: calculator[2+2]")
    outcome = drive(Means(TOOLS).advance(graph, [(id, 1) for id in ids], s, Allowance(nodes=1)))
    assert [thought["text"] for thought in outcome.writes.thoughts.values()] == ["Observation: 2"]


@pytest.mark.parametrize(
    ("text", "finish", "becomes"),
    [
        ("Action: calculator[1+1]", "end", "stop"),
        ("so <<1+1=", "end", "stop"),
        ("Action: nothing", "end", "stop"),
        ("Action: Finish[2]", "stop", "end"),
        ("The answer is 2", "end", "end"),
        ("a thought", "stop", "stop"),
        ("Observation: 5", "stop", "error"),
        ("Action: calculator[1+1]\nObservation: 5", "end", "error"),
        ("Action: calculator[1+", "length", "length"),
        ("Observation: 5", "error", "error"),
    ],
)
def test_a_call_ends_no_chain_finish_does_and_no_observation_is_made_up(
    text: str, finish: Any, becomes: str
) -> None:
    reply = Completion(text, 5, -1.0, finish, error="gone" if finish == "error" else None)
    after = mended(reply, TOOLS)
    assert after.finish == becomes
    assert after == replace(reply, finish=after.finish, error=after.error)


def test_an_observation_that_the_policy_makes_up_fails_with_its_reason() -> None:
    graph, outcome = advanced(setting(("Observation: 5", -1.0), ("on", -1.0)), plant(), plant().root, 2)
    bad, good = (graph.thoughts[id] for id in outcome.outputs)
    assert (bad["kind"], bad["reason"]) == ("failed", "an observation that no tool has made")
    assert good["kind"] == "step"


@pytest.mark.parametrize(
    ("chain", "answer"),
    [
        (["Observation: 9", "Action: Finish[4]"], "4"),
        (["Observation: 9", "Finish[]"], None),
        (["it is 3", "Observation: \\boxed{9}", "so that is it"], "3"),
        (["Observation: 9"], None),
        ([], None),
    ],
)
def test_an_answer_is_what_the_policy_says_and_not_what_a_tool_does(
    chain: list[str], answer: str | None
) -> None:
    assert acting(Steps(answer=free_answer)).answer("q", chain) == answer


def test_without_tools_an_action_is_a_step_like_any_other() -> None:
    s = setting(("Action: calculator[1+1]", -1.0, True))
    outcome = drive(Means().advance(plant(), [(plant().root, 1)], s, Allowance()))
    assert [thought["kind"] for thought in outcome.writes.thoughts.values()] == ["final"]


def test_it_changes_neither_graph_nor_earlier_thoughts() -> None:
    graph, texts_and_ids = grown({"q": ["Action: look[x]"]})
    before = dict(graph.thoughts), dict(graph.stats)
    outcome = drive(
        act(graph, list(texts_and_ids.values()), setting(), Toolbox([as_tool(shout)]), Allowance())
    )
    assert (dict(graph.thoughts), dict(graph.stats)) == before
    assert not set(outcome.writes.thoughts) & set(before[0])


def shout(text: str) -> str:
    """Shouts."""
    return text.upper()
