"""Graph of Thoughts: sorting derived by hand, a plain loop, what runs side by side, what must not stop it."""

import asyncio
import functools
import json
import math
import re
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langgraph.checkpoint.memory import InMemorySaver

from rlm_agent import (
    Aggregate,
    Budget,
    Completion,
    FakePolicy,
    FakeValue,
    Generate,
    Improve,
    KeepBest,
    KeepValid,
    Reason,
    Request,
    Score,
    Selector,
    Steps,
    ThoughtGraph,
    ValidateAndImprove,
    create_best_of_n,
    create_graph_of_thoughts,
    create_reasoner,
)
from rlm_agent.graphs.machine.layout import lay_out
from rlm_agent.graphs.machine.rules import Parts, Reasoner
from rlm_agent.graphs.nested import ReasonerPolicy
from rlm_agent.models.drive import drive
from rlm_agent.models.fake import Reply, Script
from rlm_agent.models.prompts import Prompts
from rlm_agent.models.protocols import Message
from rlm_agent.operators.operations.base import Operation, Work
from rlm_agent.operators.setting import Setting
from rlm_agent.operators.writing import births
from rlm_agent.structure.budget import Allowance
from rlm_agent.structure.errors import CheckpointError, InputError
from rlm_agent.structure.formats import WHOLE
from rlm_agent.structure.ids import child_id
from rlm_agent.structure.thoughts import Thought
from rlm_agent.tasks.registry import get_task
from tests.graphs.scripts import (
    OPERATIONS,
    STEPS,
    Mortal,
    accepts,
    ask,
    counted,
    found,
    grown,
    guess,
    reason,
    thread,
    wander,
)
from tests.structure.trees import plant

PLENTY = Budget(calls=10_000)
NUMBERS = "9 1 7 3 0 5 2 8 6 4 1 9 3 7 5 0 2 6 8 4 9 3 1 7 0 5 8 2 6 4 3 1"
"""32 digits; each half holds all ten."""


def ordered(numbers: Sequence[str], mistakes: int) -> str:
    """The numbers sorted, but for so many pairs of neighbours that are swapped."""
    line = sorted(numbers)
    ascents = [place for place, (low, high) in enumerate(pairwise(line)) if low < high]
    for place in ascents[: 2 * mistakes : 2]:
        line[place], line[place + 1] = line[place + 1], line[place]
    return " ".join(line)


def sorting(**mistakes: Sequence[int]) -> Script:
    """Sorts the digits of a prompt; the mistakes of its replies, in turn, stand under its first word."""
    turns: Counter[str] = Counter()

    def script(prompt: str, prefix: str) -> list[Reply]:
        kind, numbers = prompt.split(":")[0], re.findall(r"\d", prompt)
        turns[kind] += 1
        if kind == "Split":
            return [(f"{' '.join(numbers[:16])} | {' '.join(numbers[16:])}", -1.0, True)]
        return [(ordered(numbers, mistakes[kind][turns[kind] - 1]), -1.0, True)]

    return script


def correct(part: slice = slice(0, 32)) -> Callable[[str, str], float]:
    """1 / (1 + E), where E is the paper's error scope: descents, and digits too many or too few."""

    def score(question: str, text: str) -> float:
        given, numbers = question.split()[part], text.split()
        descents = sum(first > second for first, second in pairwise(numbers))
        return 1 / (1 + descents + (Counter(numbers) - Counter(given)).total() + len(given) - len(numbers))

    return score


SORTING: tuple[Operation, ...] = (
    Generate("split", ask="Split: {question}", parts=2, parse=lambda text: text.split(" | ")),
    Selector("left", choose=lambda question, halves: [0]),
    Selector("right", choose=lambda question, halves: [1], after=["split"]),
    Generate("sort_left", k=5, ask="Left: {input}", after=["left"]),
    Generate("sort_right", k=5, ask="Right: {input}", after=["right"]),
    Score("score_left", by=correct(slice(0, 16)), after=["sort_left"]),
    Score("score_right", by=correct(slice(16, 32)), after=["sort_right"]),
    KeepBest("best_left", after=["score_left"]),
    KeepBest("best_right", after=["score_right"]),
    Aggregate("join", k=10, ask="Join: {inputs}", after=["best_left", "best_right"]),
    Score("score_join", by=correct()),
    KeepBest("best_join"),
    Improve("improve", k=10, ask="Mend: {input}"),
    Score("score_improved", by=correct(), after=["improve", "best_join"]),
    KeepBest("best"),
)
"""Sorting-32 of the paper; operations stand in the order of their levels."""

MISTAKES = {
    "Left": [2, 0, 1, 3, 0],
    "Right": [2, 1, 4, 1, 3],
    "Join": [4, 3, 2, 5, 2, 5, 3, 2, 4, 3],
    "Mend": [1, 3, 0, 2, 0, 1, 1, 2, 3, 1],
}


def run(policy: Any, operations: Sequence[Operation], question: str = "q", **common: Any) -> dict[str, Any]:
    """The values of the final state."""
    keywords: dict[str, Any] = {"budget": PLENTY, "seed": 5, "checkpointer": InMemorySaver(), **common}
    reasoner = create_graph_of_thoughts(policy, operations=operations, **keywords)
    reasoner.invoke(ask(question), thread())
    values: dict[str, Any] = reasoner.get_state(thread()).values
    return values


def standing(graph: ThoughtGraph) -> dict[str, str]:
    """The ids of the thoughts that stand for the operations, by their names."""
    return {graph.thoughts[id]["text"]: id for id in graph.children(graph.root)}


def written(graph: ThoughtGraph, name: str) -> list[str]:
    """The texts that an operation wrote."""
    return [graph.thoughts[id]["text"] for id in graph.children(standing(graph)[name])]


def kept(graph: ThoughtGraph, name: str) -> list[str]:
    """The texts that an operation passed on."""
    return [graph.thoughts[id]["text"] for id in graph.stats[standing(graph)[name]].get("kept", [])]


def always(*texts: str) -> Script:
    return lambda question, prefix: [(text, -1.0, True) for text in texts]


def test_sorting_is_the_graph_derived_by_hand() -> None:
    """A text with m pairs swapped has m descents and is worth 1 / (1 + m).

    Left: 2 0 1 3 0 mistakes, the second is the first of the best. Right: 2 1 4 1 3, the second. They are
    joined with 4 3 2 … mistakes, the third is the best, and improved with 1 3 0 …, the third has none.
    """
    graph = grown(run(FakePolicy(sorting(**MISTAKES)), SORTING, NUMBERS))
    left, right = NUMBERS.split()[:16], NUMBERS.split()[16:]
    assert list(standing(graph)) == [one.name for one in SORTING]
    assert written(graph, "split") == [" ".join(left), " ".join(right)]
    assert (kept(graph, "left"), kept(graph, "right")) == ([" ".join(left)], [" ".join(right)])
    made = {
        "sort_left": (left, "Left", 1),
        "sort_right": (right, "Right", 1),
        "join": (left + right, "Join", 2),
        "improve": (left + right, "Mend", 2),
    }
    for name, (numbers, kind, best) in made.items():
        ids = graph.children(standing(graph)[name])
        assert [graph.thoughts[id]["text"] for id in ids] == [ordered(numbers, m) for m in MISTAKES[kind]]
        assert [graph.stats[id]["value"] for id in ids] == [1 / (1 + m) for m in MISTAKES[kind]]
        assert {graph.thoughts[id]["kind"] for id in ids} == {"step" if "sort" in name else "final"}
        choice = {
            "sort_left": "best_left",
            "sort_right": "best_right",
            "join": "best_join",
            "improve": "best",
        }
        assert graph.stats[standing(graph)[choice[name]]]["kept"] == [ids[best]]


def test_the_answer_and_the_cost_of_sorting() -> None:
    values = run(policy := FakePolicy(sorting(**MISTAKES)), SORTING, NUMBERS)
    assert values["answer"] == " ".join(sorted(NUMBERS.split()))
    assert values["run"]["stopped"] == "exhausted"
    assert len(policy.requests) == values["usage"]["model_calls"] == 1 + 5 + 5 + 10 + 10
    assert values["usage"]["nodes"] == 2 + 5 + 5 + 10 + 10


def test_the_reasoning_beside_the_answer_is_what_it_was_made_of() -> None:
    values = run(FakePolicy(sorting(**MISTAKES)), SORTING, NUMBERS)
    left, right = NUMBERS.split()[:16], NUMBERS.split()[16:]
    assert values["messages"][-1].additional_kwargs["reasoning_content"].split("\n") == [
        " ".join(left), " ".join(right), ordered(left, 0), ordered(right, 1),
        ordered(left + right, 2), ordered(left + right, 0),
    ]  # fmt: skip


def test_what_no_improvement_betters_stays_the_answer() -> None:
    values = run(FakePolicy(sorting(**{**MISTAKES, "Mend": [3] * 10})), SORTING, NUMBERS)
    assert values["answer"] == ordered(NUMBERS.split(), 2)


def test_thoughts_name_what_they_were_made_of() -> None:
    graph = grown(run(FakePolicy(sorting(**MISTAKES)), SORTING, NUMBERS))
    ids, stats = standing(graph), graph.stats
    (joined, *_) = graph.children(ids["join"])
    sources = [*stats[ids["best_left"]]["kept"], *stats[ids["best_right"]]["kept"]]
    assert graph.thoughts[joined]["parents"] == sources
    assert graph.thoughts[joined]["base"] == graph.root and graph.thoughts[joined]["operator"] == "aggregate"
    assert graph.chain(joined) == [joined]
    for name, id in ids.items():
        assert graph.stats[id]["closed"] and graph.thoughts[id]["depth"] == 0, name


class Plain:
    """The operations one after the other, by a loop of its own."""

    def __init__(self, policy: FakePolicy, question: str, seed: int, **setting: Any) -> None:
        self.setting = Setting(policy, (Message(role="user", content=question),), seed, **setting)
        self.graph = plant(question)
        self.kept: dict[str, list[str]] = {}

    def plant(self, operations: Sequence[Operation]) -> None:
        planted = {
            child_id(self.graph.root, index): Thought(
                parent=self.graph.root, index=index, depth=0, kind="step",
                text=one.name, tokens=0, logprob=0.0, operator=one.operator,
            )
            for index, one in enumerate(operations)
        }  # fmt: skip
        self.graph = self.graph.updated(births(self.graph, planted))

    def loop(self, operations: Sequence[Operation], before: Mapping[str, Sequence[str]]) -> None:
        self.plant(operations)
        for index, one in enumerate(operations):
            given = [id for name in before[one.name] for id in self.kept[name]]
            inputs = list(dict.fromkeys(given)) or [self.graph.root]
            makers = (Generate, Aggregate)
            parts = any(isinstance(later, makers) for later in after(one.name, operations, before))
            node = child_id(self.graph.root, index)
            work = Work(self.graph, node, inputs, self.setting, Allowance(), not parts)
            outcome = drive(one.run(work))
            self.graph = self.graph.updated(outcome.writes)
            self.kept[one.name] = outcome.outputs


def after(name: str, operations: Sequence[Operation], before: Mapping[str, Sequence[str]]) -> list[Operation]:
    """All operations that an operation's thoughts may reach."""
    reached = [name]
    for one in operations:
        if set(before[one.name]) & set(reached):
            reached.append(one.name)
    return [one for one in operations if one.name in reached[1:]]


SORTING_BEFORE = {
    "split": [], "left": ["split"], "right": ["split"], "sort_left": ["left"], "sort_right": ["right"],
    "score_left": ["sort_left"], "score_right": ["sort_right"], "best_left": ["score_left"],
    "best_right": ["score_right"], "join": ["best_left", "best_right"], "score_join": ["join"],
    "best_join": ["score_join"], "improve": ["best_join"], "score_improved": ["improve", "best_join"],
    "best": ["score_improved"],
}  # fmt: skip

WANDERING_BEFORE = {
    "one": [], "other": [], "weigh_one": ["one"], "weigh_other": ["other"], "best_one": ["weigh_one"],
    "best_other": ["weigh_other"], "join": ["best_one", "best_other"], "weigh_join": ["join"],
    "best_join": ["weigh_join"], "improve": ["best_join"], "validate": ["best_join"],
    "weigh": ["improve", "validate"], "valid": ["weigh"], "pick": ["valid"],
}  # fmt: skip
"""The order of the levels, and in each that of the list."""


def same(plain: Plain, graph: ThoughtGraph) -> None:
    """Both have the same thoughts with the same values, and passed on the same."""
    assert plain.graph.thoughts == graph.thoughts
    assert {id: one["value"] for id, one in plain.graph.stats.items()} == {
        id: one["value"] for id, one in graph.stats.items()
    }
    assert plain.kept == {name: graph.stats[id]["kept"] for name, id in standing(graph).items()}


def test_a_plain_loop_over_the_operations_sorts_alike() -> None:
    graph = grown(run(FakePolicy(sorting(**MISTAKES)), SORTING, NUMBERS))
    plain = Plain(FakePolicy(sorting(**MISTAKES)), NUMBERS, 5, steps=Steps(format=WHOLE, max_tokens=512))
    plain.loop(SORTING, SORTING_BEFORE)
    same(plain, graph)


@pytest.mark.parametrize("seed", [3, 11, 23])
def test_a_plain_loop_over_the_operations_wanders_alike(seed: int) -> None:
    values = run(FakePolicy(wander), OPERATIONS, value=FakeValue(guess), steps=STEPS, seed=seed)
    plain = Plain(FakePolicy(wander), "q", seed, steps=STEPS, value=FakeValue(guess))
    by_name = {one.name: one for one in OPERATIONS}
    plain.loop([by_name[name] for name in WANDERING_BEFORE], WANDERING_BEFORE)
    same(plain, grown(values))
    assert {thought["kind"] for thought in values["thoughts"].values()} == {"root", "step", "final", "failed"}


def test_the_drawing_is_the_users_graph() -> None:
    drawn = create_graph_of_thoughts(FakePolicy(wander), operations=SORTING).get_graph()
    edges = {(edge.source, edge.target) for edge in drawn.edges}
    expected = {(first, name) for name, before in SORTING_BEFORE.items() for first in before}
    ends = {("__start__", "begin"), ("begin", "split"), ("best", "conclude"), ("conclude", "__end__")}
    assert edges == expected | ends
    assert "best_left --> join;" in drawn.draw_mermaid()


class Meeting(FakePolicy):
    """A policy that answers only when two batches have come together."""

    def __init__(self) -> None:
        super().__init__(always("met"))
        self.barrier = threading.Barrier(2, timeout=20)
        self.waiting = asyncio.Semaphore(0)
        self.came = 0

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        self.barrier.wait()
        return super().generate(requests)

    async def agenerate(self, requests: Sequence[Request]) -> list[Completion]:
        self.came += 1
        if self.came == 2:
            self.waiting.release()
            self.waiting.release()
        await asyncio.wait_for(self.waiting.acquire(), timeout=20)
        return FakePolicy.generate(self, requests)


SIDES = (
    Generate("one", ask="one of {question}", after=()),
    Generate("two", ask="two of {question}", after=()),
    Aggregate("both", ask="both: {inputs}", after=("one", "two")),
)


async def test_operations_without_an_edge_between_them_run_at_the_same_time() -> None:
    operations = (*SIDES[:2], KeepBest("choose", after=("one", "two")))
    assert run(Meeting(), operations)["answer"] == "met"
    reasoner = create_graph_of_thoughts(Meeting(), operations=operations, seed=5)
    assert (await reasoner.ainvoke(ask()))["answer"] == "met"


class Torn(FakePolicy):
    """A policy that one operation cannot reach."""

    def __init__(self, script: Script, lost: str) -> None:
        super().__init__(script)
        self.lost = lost

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        if self.lost and requests[0].messages[-1]["content"].startswith(self.lost):
            raise ConnectionError("the line is dead")
        return super().generate(requests)


@pytest.mark.parametrize("lost", ["one", "two", "both"])
def test_a_run_that_broke_off_beside_a_sibling_is_taken_up_where_it_was(lost: str) -> None:
    saver = InMemorySaver()
    keywords: dict[str, Any] = {"operations": SIDES, "seed": 5, "budget": PLENTY, "steps": STEPS}
    broken = create_graph_of_thoughts(Torn(wander, lost), checkpointer=saver, **keywords)
    with pytest.raises(ConnectionError):
        broken.invoke(ask("q"), thread())
    policy = FakePolicy(wander)
    reasoner = create_graph_of_thoughts(policy, checkpointer=saver, **keywords)
    reasoner.invoke(None, thread())
    unbroken = run(FakePolicy(wander), SIDES, steps=STEPS)
    assert found(reasoner.get_state(thread()).values) == found(unbroken)
    asked = {request.messages[-1]["content"].split()[0].rstrip(":") for request in policy.requests}
    assert lost in asked and (lost != "both" or asked == {"both"})


@settings(max_examples=60)
@given(
    tokens=st.none() | st.integers(1, 60),
    calls=st.integers(1, 60),
    nodes=st.none() | st.integers(1, 60),
    seed=st.integers(0, 999),
    valued=st.booleans(),
)
def test_no_budget_is_exceeded_by_operations_side_by_side(
    tokens: int | None, calls: int, nodes: int | None, seed: int, valued: bool
) -> None:
    policy, value = FakePolicy(wander), FakeValue(guess)
    budget = Budget(tokens=tokens, calls=calls, nodes=nodes)
    values = run(policy, OPERATIONS, value=value if valued else None, budget=budget, seed=seed, steps=STEPS)
    made = len(values["thoughts"]) - 1 - len(OPERATIONS)
    assert len(policy.requests) + len(value.candidates) == values["usage"]["model_calls"] <= calls
    assert made == values["usage"]["nodes"] == len(policy.requests)
    assert nodes is None or made <= nodes
    assert tokens is None or values["usage"]["completion_tokens"] <= tokens


def many(k: int, *more: Operation) -> tuple[Operation, ...]:
    """Two operations side by side, of which the second asks for three times as many texts; and more."""
    return (
        Generate("one", k=k, ask="one {question}", after=()),
        Generate("two", k=3 * k, ask="two {question}", after=()),
        *more,
    )


@pytest.mark.parametrize(("calls", "shares"), [(4, (1, 3)), (5, (1, 4)), (7, (1, 6)), (40, (8, 24))])
def test_the_budget_is_divided_by_the_calls_that_are_wanted(calls: int, shares: tuple[int, int]) -> None:
    graph = grown(run(FakePolicy(always("x")), many(8), budget=Budget(calls=calls)))
    assert (len(written(graph, "one")), len(written(graph, "two"))) == shares


def test_what_one_operation_leaves_over_goes_to_those_after_it() -> None:
    """Of 30 calls 16 may go to `one` and `two` and are taken; the last operation has the other 14."""
    more = Aggregate("both", k=20, ask="{inputs}", after=("one", "two"))
    values = run(FakePolicy(always("x")), many(4, more), budget=Budget(calls=30))
    assert len(written(grown(values), "both")) == 14
    assert values["run"]["stopped"] == "calls" and values["answer"] == "x"


def test_an_operation_without_input_has_no_share() -> None:
    """All texts of `bad` fail, so that `joined` has nothing to join; `better` may have all that is left."""
    policy = FakePolicy(lambda question, prefix: [("" if question == "bad" else "x", -1.0, True)])
    operations = (
        Generate("bad", k=2, ask="bad", after=()),
        Generate("good", after=()),
        Aggregate("joined", k=9, ask="{inputs}", after="bad"),
        Improve("better", k=6, ask="{input}", after="good"),
    )
    graph = grown(run(policy, operations, budget=Budget(calls=9)))
    assert len(written(graph, "better")) == 6 and not written(graph, "joined")


def test_what_the_budget_does_not_reach_is_left_out_and_runs_when_there_is_more() -> None:
    saver = InMemorySaver()
    operations = many(4, Aggregate("both", k=3, ask="{inputs}", after=("one", "two")), KeepBest("best"))
    keywords: dict[str, Any] = {"operations": operations, "seed": 5, "checkpointer": saver, "steps": STEPS}
    first = create_graph_of_thoughts(FakePolicy(wander), budget=Budget(calls=16), **keywords)
    first.invoke(ask("q"), thread())
    before = grown(first.get_state(thread()).values)
    assert "kept" not in before.stats[standing(before)["both"]]
    policy = FakePolicy(wander)
    second = create_graph_of_thoughts(policy, budget=Budget(seconds=1000), **keywords)
    second.invoke({"messages": []}, thread())
    assert found(second.get_state(thread()).values) == found(run(FakePolicy(wander), operations, steps=STEPS))
    assert len(policy.requests) == 3


def test_a_share_that_is_too_small_for_anything_leaves_the_operation_for_later() -> None:
    """Of 4 nodes `two` may have 2, which is less than the 3 parts of one reply."""
    two = Generate("two", k=2, ask="two", parts=3, parse=lambda text: list("abc"), after=())
    values = run(FakePolicy(always("x")), (Generate("one", k=6, after=()), two), budget=Budget(nodes=4))
    graph = grown(values)
    assert "kept" not in graph.stats[standing(graph)["two"]] and values["usage"]["nodes"] == 2


def test_seconds_of_operations_side_by_side_count_once(monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow(FakePolicy):
        def generate(self, requests: Sequence[Request]) -> list[Completion]:
            now.value += 2.0 if requests[0].messages[-1]["content"].startswith("two") else 1.0
            return super().generate(requests)

    now = threading.local()
    clock = type("Clock", (), {"monotonic": staticmethod(lambda: now.__dict__.setdefault("value", 0.0))})
    monkeypatch.setattr("rlm_agent.graphs.machine.operations.time", clock)
    monkeypatch.setattr("rlm_agent.graphs.machine.nodes.time", clock)
    monkeypatch.setattr("rlm_agent.operators.operations.texts.time", clock)
    values = run(Slow(wander), SIDES, steps=STEPS, budget=Budget(seconds=100))
    assert values["usage"]["seconds"] == 3.0


def test_no_operation_asks_once_the_seconds_are_over() -> None:
    policy = FakePolicy(wander)
    values = run(policy, SIDES, steps=STEPS, budget=Budget(seconds=1e-9))
    assert len(policy.requests) < 3 and values["run"]["stopped"] == "seconds"


def test_a_search_ends_at_an_answer_that_the_verifier_accepts() -> None:
    """`improve` is not asked any more, and what keeps the best still passes it on."""
    operations = (Generate("solve", k=4), Score("score"), KeepBest("keep"), Improve("improve", ask="{input}"))
    policy = FakePolicy(always("right"))
    values = run(policy, operations, verifier=accepts("right"))
    assert len(policy.requests) == 4
    assert (values["answer"], values["run"]["stopped"], values["run"]["verified"]) == (
        "right",
        "verified",
        True,
    )
    values = run(policy, operations, verifier=accepts("right"), stop_when_verified=False)
    assert len(policy.requests) == 4 + 5
    assert (values["run"]["stopped"], values["run"]["verified"]) == ("exhausted", True)


def test_a_users_score_outranks_no_verdict() -> None:
    """A text that a function values with 1 is no accepted answer, and the accepted one is worth more."""
    script: Script = lambda question, prefix: [("wrong", -1.0, True), ("right", -1.0, True)]  # noqa: E731
    operations = (Generate("solve", k=6), Score("score", by=lambda question, text: float(text == "wrong")))
    values = run(FakePolicy(script), operations, verifier=accepts("never"))
    assert (values["answer"], values["run"]["verified"]) == ("wrong", False)
    values = run(FakePolicy(script), operations, verifier=accepts("right"), stop_when_verified=False)
    assert (values["answer"], values["run"]["verified"]) == ("right", True)


def test_without_words_of_its_own_an_improvement_begins_with_a_critique_that_is_a_thought() -> None:
    def script(question: str, prefix: str) -> list[Reply]:
        return [(f"heard {question.split()[0]}", -1.0, True)]

    policy = FakePolicy(script)
    graph = grown(run(policy, (Generate("solve"), Improve("improve", k=2))))
    (solution,), prompts = graph.children(standing(graph)["solve"]), Prompts()
    critique, *versions = graph.children(standing(graph)["improve"])
    thoughts = graph.thoughts
    assert thoughts[critique]["operator"] == "critique" and thoughts[critique]["parents"] == [solution]
    assert [thoughts[id]["parents"] for id in versions] == [[solution, critique]] * 2
    assert graph.stats[standing(graph)["improve"]]["kept"] == versions
    assert [message["content"] for message in policy.requests[-1].messages] == [
        "q", "heard q", prompts.require("critique"), "heard Look", prompts.require("rewrite")
    ]  # fmt: skip


@pytest.mark.parametrize(("tries", "answer"), [(1, "x x"), (2, "x x x"), (5, "x x x x")])
def test_what_is_not_valid_is_improved_until_it_is_or_the_tries_are_over(tries: int, answer: str) -> None:
    """Each improvement is one word longer; four words are valid."""

    def script(question: str, prefix: str) -> list[Reply]:
        return [(f"{question.removeprefix('longer ')} x".removeprefix("q "), -1.0, True)]

    validate = ValidateAndImprove(
        "validate", tries=tries, valid=lambda question, text: len(text.split()) == 4, ask="longer {input}"
    )
    values = run(policy := FakePolicy(script), (Generate("solve"), validate))
    assert values["answer"] == answer
    assert len(policy.requests) == 1 + min(tries, 3)


def test_by_default_the_verifier_tells_what_is_valid() -> None:
    script: Script = lambda question, prefix: [("wrong", -1.0, True), ("right", -1.0, True)]  # noqa: E731
    operations = (Generate("solve", k=8), KeepValid("valid"))
    graph = grown(run(FakePolicy(script), operations, verifier=accepts("right"), stop_when_verified=False))
    assert set(written(graph, "solve")) == {"right", "wrong"} and set(kept(graph, "valid")) == {"right"}


def test_a_score_by_a_value_of_its_own_judges_anew() -> None:
    first, second = FakeValue(lambda steps: 0.2), FakeValue(lambda steps: 0.7)
    operations = (Generate("solve"), Score("one"), Score("again"), Score("other", by=second))
    graph = grown(run(FakePolicy(always("x")), operations, value=first))
    (id,) = graph.children(standing(graph)["solve"])
    assert graph.stats[id]["value"] == 0.7
    assert (len(first.candidates), len(second.candidates)) == (1, 1)


def test_a_strategy_or_another_model_may_be_the_policy_of_an_operation() -> None:
    other = FakePolicy(always("by another"))
    policy = FakePolicy(always("part"))
    operations = (Generate("part"), Reason("solve", k=3, ask="with {input}: {question}", policy=other))
    values = run(policy, operations)
    assert values["answer"] == "by another"
    assert [request.messages[-1]["content"] for request in other.requests] == ["with part: q"] * 3


def default(policy: FakePolicy, **common: Any) -> Reasoner:
    return create_reasoner("graph_of_thoughts", policy, seed=1, budget=PLENTY, **common)


def test_by_name_it_improves_the_best_of_its_solutions_if_the_model_has_learned_to() -> None:
    judged: dict[str, Any] = {"value": FakeValue(guess)}
    reasoner = default(FakePolicy(always("It is 5.")), **judged)
    assert reasoner.invoke(ask())["answer"] == "5"
    assert {"solve", "score", "keep", "improve", "score_again", "choose"} <= set(reasoner.get_graph().nodes)
    assert "improve" not in default(FakePolicy(wander, task="game24"), **judged).get_graph().nodes


def test_by_name_the_most_frequent_answer_is_taken_where_nobody_judges() -> None:
    policy = in_turn("It is 5.", "So 7.", "\\boxed{7.0}", "4", "It is 5.", "Hm.", "7", "1")
    assert default(policy).invoke(ask())["answer"] == "7"
    assert default(FakePolicy(always(""))).invoke(ask())["answer"] is None


@pytest.mark.parametrize("steps", [None, "game24", get_task("game24").steps], ids=["own", "name", "lines"])
def test_a_specialist_writes_whole_solutions(steps: Any) -> None:
    solution = "13 - 9 = 4 | 4 4 10\n10 - 4 = 6 | 4 6\n6 * 4 = 24"
    policy = FakePolicy(always(solution), task="game24")
    result = create_graph_of_thoughts(policy, seed=1, steps=steps).invoke(ask("4 9 10 13 : 24"))
    assert result["answer"] is not None
    assert {request.messages[-1]["content"] for request in policy.requests} == {"4 9 10 13 : 24"}
    assert {request.stop for request in policy.requests} == {()}


ONE = Generate("one")


@pytest.mark.parametrize(
    ("operations", "message"),
    [
        ((), "a graph without operations answers nothing"),
        ((ONE, Generate("one")), "two operations are named 'one'"),
        (
            (ONE, KeepBest("two", after=["none"])),
            "comes after 'none', which is none of the operations one, two",
        ),
        (
            (ONE, Score("two", after=["three"]), KeepBest("three", after=["two"])),
            "two → three → two wait for",
        ),
        ((KeepBest("two", after=["two"]),), "two → two wait for each other"),
        ((KeepBest("two"),), "the operation 'two' has no input"),
        ((ONE, Aggregate("two", after=())), "the operation 'two' has no input"),
        ((Generate("begin"),), "cannot be named 'begin'"),
        ((Generate("stats"),), "cannot be named 'stats'"),
        ((Generate("a:b"),), "cannot be named 'a:b'"),
        ((Generate(""),), "cannot be named ''"),
        ((Generate("one", k=0),), "k=0 of the operation 'one' does nothing"),
        ((ONE, KeepBest("two", n=-1)), "n=-1 of the operation 'two' does nothing"),
        ((ONE, ValidateAndImprove("two", tries=0, valid=bool)), "tries=0 of the operation 'two'"),  # type: ignore[arg-type]
        ((Generate("one", parts=2),), "'one' needs a parser to find 2 parts"),
        ((ONE, Generate("two")), "write {input} in it"),
        ((ONE, Aggregate("two", ask="join")), "write {inputs} in it"),
        ((ONE, Improve("two", ask="better")), "write {input} in it"),
        ((ONE, KeepValid("two")), "nobody tells the operation 'two' what is valid"),
        ((ONE, ValidateAndImprove("two")), "nobody tells the operation 'two' what is valid"),
        (
            (ONE, Score("two"), Score("three", after=["one"])),
            "'two' and 'three' score the same thoughts at once",
        ),
    ],
)
def test_a_graph_that_cannot_run_is_refused(operations: Sequence[Operation], message: str) -> None:
    policy = FakePolicy(wander)
    with pytest.raises(InputError) as raised:
        create_graph_of_thoughts(policy, operations=operations)
    assert message in str(raised.value)
    assert policy.requests == []


@pytest.mark.parametrize(
    ("operation", "skill"),
    [(Improve("two"), "critique"), (Aggregate("two"), "aggregate")],
)
def test_a_skill_that_the_model_lacks_is_refused_before_anything_is_spent(
    operation: Operation, skill: str
) -> None:
    with pytest.raises(InputError, match=f"has not learned to {skill}"):
        create_graph_of_thoughts(FakePolicy(wander, task="game24"), operations=(ONE, operation))


def test_scores_one_after_the_other_or_of_different_choices_are_no_conflict() -> None:
    apart = (
        Generate("one", k=2),
        Selector("left", choose=lambda question, texts: [0]),
        Selector("right", choose=lambda question, texts: [1], after=["one"]),
        Score("two", after=["left"]),
        Score("three", after=["right"]),
    )
    for operations in (apart, (ONE, Score("two"), Score("three"))):
        assert lay_out(operations, Parts(FakePolicy(wander), STEPS, PLENTY)).operations == operations


def failing(question: str, text: str) -> Any:
    if "bad" in text:
        raise ZeroDivisionError("no")
    return math.nan if "odd" in text else 0.5


def in_turn(*texts: str) -> FakePolicy:
    return FakePolicy(always(*texts), cycle=True)


def test_a_parser_that_raises_or_finds_nothing_fails_its_own_thought() -> None:
    def parse(text: str) -> Any:
        return {"none": None, "many": ["a", "b"], "number": 3}.get(text, text[: 3 // len(text)] or text)

    policy = in_turn("good", "none", "many", "number", "fine")
    graph = grown(run(policy, (Generate("solve", k=5, parse=parse),)))
    thoughts = [graph.thoughts[id] for id in graph.children(standing(graph)["solve"])]
    assert [thought["kind"] for thought in thoughts] == ["final", "failed", "failed", "failed", "final"]
    assert [thought.get("reason") for thought in thoughts[1:4]] == [
        "the parser found nothing in the reply",
        "the parser found 2 texts in the reply, not 1",
        "the parser raised TypeError: 'int' object is not iterable",
    ]
    assert kept(graph, "solve") == ["good", "fine"]


def test_a_reply_with_too_few_parts_fails_in_all_of_them() -> None:
    policy = in_turn("a|b", "a", "c|d")
    split = Generate("split", k=3, parts=2, parse=lambda text: text.split("|"))
    values = run(policy, (split, KeepBest("best", n=9)), steps=STEPS)
    graph = grown(values)
    assert kept(graph, "split") == ["a", "b", "c", "d"]
    assert values["usage"]["nodes"] == 6 and values["usage"]["model_calls"] == 3
    assert sum(thought["tokens"] for thought in graph.thoughts.values()) == 6


def test_no_part_of_a_reply_goes_beyond_the_nodes() -> None:
    split = Generate("split", k=9, parts=2, parse=lambda text: text.split("|"))
    assert run(in_turn("a|b"), (split,), budget=Budget(nodes=5))["usage"]["nodes"] == 4


def test_a_score_that_raises_or_is_no_number_leaves_its_own_thought_without_a_value() -> None:
    operations = (Generate("solve", k=3), Score("score", by=failing), KeepBest("best"))
    values = run(in_turn("bad", "odd", "good"), operations)
    graph = grown(values)
    stats = [graph.stats[id] for id in graph.children(standing(graph)["solve"])]
    assert [one["value"] for one in stats] == [None, None, 0.5]
    assert [one.get("feedback") for one in stats] == [
        "no score: ZeroDivisionError: no", "no score: not a number", None
    ]  # fmt: skip
    assert values["answer"] == "good"


def test_validity_that_raises_is_none() -> None:
    graph = grown(run(in_turn("bad", "good"), (Generate("solve", k=2), KeepValid("valid", valid=failing))))
    assert kept(graph, "valid") == ["good"]


@pytest.mark.parametrize("choose", [lambda question, texts: [7], lambda question, texts: texts.fail()])
def test_a_choice_that_cannot_be_made_is_none_and_says_why(choose: Any) -> None:
    operations = (Generate("solve", k=2), Selector("pick", choose=choose), Aggregate("join", ask="{inputs}"))
    values = run(policy := in_turn("good"), operations)
    graph = grown(values)
    assert kept(graph, "pick") == [] and len(policy.requests) == 2
    assert graph.stats[standing(graph)["pick"]]["feedback"].startswith("nothing chosen: ")


def test_values_that_fall_short_or_are_no_numbers_harm_nobody() -> None:
    class Short(FakeValue):
        def score(self, candidates: Any) -> Any:
            return super().score(candidates)[:1]

    for value in (Short(guess), FakeValue(lambda steps: math.nan)):
        values = run(FakePolicy(wander), OPERATIONS, value=value, steps=STEPS)
        assert values["answer"] is not None
        assert json.loads(json.dumps(values["stats"])) == values["stats"]


def test_one_reply_of_several_that_fails_is_the_only_loss() -> None:
    graph = grown(run(FakePolicy(always("x"), fails={1: "connection reset"}), (Generate("solve", k=3),)))
    kinds = [graph.thoughts[id]["kind"] for id in graph.children(standing(graph)["solve"])]
    assert kinds == ["final", "failed", "final"]


@pytest.mark.parametrize("text", ["", " ", "word " * 20])
def test_texts_that_say_nothing_or_never_end_leave_no_answer(text: str) -> None:
    values = run(FakePolicy(always(text)), many(2), steps=STEPS)
    assert values["answer"] is None
    assert all(one["kind"] == "failed" for one in values["thoughts"].values() if one["tokens"])


def test_a_stored_search_is_not_gone_on_with_by_other_operations() -> None:
    saver = InMemorySaver()
    run(FakePolicy(wander), SIDES, steps=STEPS, checkpointer=saver)
    for operations in (SIDES[:2], (*SIDES[:2], Aggregate("both", k=2, ask="both: {inputs}"))):
        reasoner = create_graph_of_thoughts(
            FakePolicy(wander), operations=operations, steps=STEPS, checkpointer=saver
        )
        with pytest.raises(CheckpointError):
            reasoner.invoke({"messages": []}, thread())


def test_a_second_question_of_a_thread_has_a_graph_of_its_own() -> None:
    reasoner = reason("graph_of_thoughts", checkpointer=InMemorySaver())
    first = reasoner.invoke(ask("first?"), thread())["usage"]
    second = reasoner.invoke(ask("second?"), thread())["usage"]
    alone = reason("graph_of_thoughts", checkpointer=InMemorySaver())
    assert counted(second)["nodes"] > 0 and first["nodes"] > 0
    assert counted(alone.invoke(ask("first?"), thread())["usage"]) == counted(first)


def test_a_policy_that_is_gone_ends_the_run_so_that_it_can_be_taken_up() -> None:
    with pytest.raises(ConnectionError):
        reason("graph_of_thoughts", Mortal(2)).invoke(ask())


def test_given_steps_stand_before_every_text() -> None:
    policy = FakePolicy(wander)
    reasoner = create_graph_of_thoughts(policy, operations=SIDES, steps=STEPS, seed=5)
    reasoner.invoke({**ask(), "terms": {"given": ["left"]}})
    assert {request.prefix for request in policy.requests} == {"left\n"}


def nested(policy: FakePolicy, **bounds: int) -> Any:
    """A best-of-N as a policy that writes whole solutions."""
    create = functools.partial(create_best_of_n, policy, n=4, value=FakeValue(guess), steps=STEPS)
    return ReasonerPolicy(create, whole=True, **bounds)


def test_a_node_of_the_graph_may_be_a_strategy() -> None:
    inner = FakePolicy(wander)
    operations = (Generate("part"), Reason("solve", k=2, ask="with {input}", policy=nested(inner)))
    values = run(policy := FakePolicy(always("part")), operations)
    graph = grown(values)
    texts = written(graph, "solve")
    assert len(texts) == 2 and values["answer"] in texts
    assert all("answer" in text for text in texts)
    assert len(inner.requests) > 8 and {one.messages[-1]["content"] for one in inner.requests} == {
        "with part"
    }
    scores = values["usage"]["model_calls"] - len(inner.requests) - len(policy.requests)
    assert 0 < scores <= len(inner.requests)


async def test_a_nested_strategy_is_found_alike_asynchronously_and_after_a_crash() -> None:
    operations = (
        Reason("one", policy=nested(FakePolicy(wander)), after=()),
        Reason("two", k=2, policy=nested(FakePolicy(wander)), after=()),
        KeepBest("best", after=("one", "two")),
    )
    values = run(FakePolicy(wander), operations)
    keywords: dict[str, Any] = {"operations": operations, "seed": 5, "budget": PLENTY}
    reasoner = create_graph_of_thoughts(FakePolicy(wander), checkpointer=InMemorySaver(), **keywords)
    await reasoner.ainvoke(ask("q"), thread())
    assert found((await reasoner.aget_state(thread())).values) == found(values)


@settings(max_examples=30)
@given(tokens=st.integers(1, 90), calls=st.integers(1, 60), seed=st.integers(0, 99))
def test_nested_strategies_side_by_side_keep_within_the_whole_budget(
    tokens: int, calls: int, seed: int
) -> None:
    inner = FakePolicy(wander)
    operations = (
        Reason("one", k=2, policy=nested(inner, tokens=40, calls=20), after=()),
        Reason("two", k=3, policy=nested(inner, tokens=40, calls=20), after=()),
        Generate("three", k=3, after=()),
        Aggregate("all", k=2, ask="{inputs}", after=("one", "two", "three")),
    )
    policy = FakePolicy(wander)
    values = run(policy, operations, budget=Budget(tokens=tokens, calls=calls), seed=seed, steps=STEPS)
    assert values["usage"]["completion_tokens"] <= tokens
    assert len(inner.requests) + len(policy.requests) <= values["usage"]["model_calls"] <= calls


def test_a_graph_of_operations_may_be_the_policy_of_another_strategy() -> None:
    create = functools.partial(
        create_graph_of_thoughts,
        FakePolicy(wander),
        operations=SIDES,
        steps=Steps(format=WHOLE, max_tokens=6),
    )
    reasoner = create_best_of_n(
        ReasonerPolicy(create, whole=True),
        n=2,
        steps=Steps(format=WHOLE, max_tokens=9),
        budget=PLENTY,
        seed=5,
    )
    assert reasoner.invoke(ask())["answer"] is not None
