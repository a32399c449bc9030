"""LATS: a tree derived by hand, the same from a plain loop, tools and reflections in it, and bad input."""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langgraph.checkpoint.memory import InMemorySaver

from rlm_agent import Budget, Calculator, FakePolicy, FakeValue, Steps, ThoughtGraph, create_lats
from rlm_agent.models.drive import drive
from rlm_agent.models.fake import Reply
from rlm_agent.models.protocols import Candidate, Message, Score
from rlm_agent.operators.evaluate import evaluate
from rlm_agent.operators.generate import generate
from rlm_agent.operators.prune import alike, twin
from rlm_agent.operators.setting import Setting
from rlm_agent.structure.budget import Allowance
from rlm_agent.structure.errors import InputError
from rlm_agent.tools.wrapping import as_tool
from tests.graphs import scripts
from tests.graphs.scripts import (
    STEPS,
    Mortal,
    accepts,
    ask,
    binary,
    found,
    guess,
    ternary,
    thread,
    wander,
)
from tests.structure.trees import plant

searched = partial(scripts.searched, create_lats)


GOLDEN = {
    "a": 0.6, "b": 0.4, "aa": 0.2, "ab": 0.8, "aba": 0.3, "abb": 0.9, "ba": 0.5, "bb": 0.45,
    "baa": 0.95, "bab": 0.1, "bba": 0.2, "bbb": 0.3, "aaa": 0.7, "aab": 0.1,
}  # fmt: skip


def golden_script(question: str, prefix: str) -> list[Reply]:
    """Each thought has the children "a" and "b", in turn; three of depth 3 end their chains."""
    path = prefix.replace("\n", "")
    return [(letter, -1.0, path + letter in ("abb", "baa", "aaa")) for letter in "ab"]


def test_a_tree_of_four_rounds_is_the_one_derived_by_hand() -> None:
    """Two moves each, three moves deep, c = 1. Siblings differ, so that SC = ½ and V follows LM.

    1. root: a .6, b .4 → a: aa .2, ab .8 → ab: abb ends with .9 and aba is at the limit. r = 2 · .9 − 1 = .8.
       ab is exhausted. q: abb, ab, a and root .8.      N(root) = 1
    2. root: b is unvisited, so V(b) = .45 is enough → b: ba .5, bb .45 → ba: baa ends with .95. r = .9.
       ba is exhausted. q(b) = .9, q(root) = (.8 + .9)/2 = .85.      N = 2
    3. root, √ln 2 = .833: a .8 + .833, b .9 + .833 → b: ba is closed → bb: bbb .3 is at the limit. r = −1.
       bb and b are exhausted. q(b) = (.9 − 1)/2 = −.05, q(root) = .7/3.      N = 3
    4. root: b is closed → a: ab is closed → aa: aaa ends with .7. r = .4. aa and a are exhausted.
       q(a) = (.8 + .4)/2 = .6, q(root) = 1.1/4 = .275.      N = 4
    """
    value = FakeValue(lambda steps: GOLDEN["".join(steps)])
    policy = FakePolicy(golden_script, cycle=True)
    graph, values = searched(policy, branching=2, depth=3, c=1.0, value=value, simulations=4)
    named = {"".join(graph.steps(id)): graph.stats[id] for id in graph.walk()}
    assert set(named) == {"", *GOLDEN}
    expanded = dict.fromkeys(request.prefix.replace("\n", "") for request in policy.requests)
    assert list(expanded) == ["", "a", "ab", "b", "ba", "bb", "aa"]
    assert {path: stats["visits"] for path, stats in named.items() if stats["visits"]} == {
        "": 4, "a": 2, "b": 2, "ab": 1, "abb": 1, "ba": 1, "baa": 1, "bb": 1, "bbb": 1, "aa": 1, "aaa": 1
    }  # fmt: skip
    assert {path: stats["q"] for path, stats in named.items() if stats["visits"]} == pytest.approx({
        "": 0.275, "a": 0.6, "b": -0.05, "ab": 0.8, "abb": 0.8, "ba": 0.9, "baa": 0.9, "bb": -1, "bbb": -1,
        "aa": 0.4, "aaa": 0.4,
    })  # fmt: skip
    assert {path for path, stats in named.items() if not stats["closed"]} == {""}
    assert (values["answer"], values["run"]["stopped"]) == ("baa", "rounds")


class Plain:
    """The paper's loop over the pure operators, with N and q in tables of its own; no tools, no verifier."""

    def __init__(self, policy: FakePolicy, seed: int, n: int, depth: int, c: float, share: float) -> None:
        message = Message(role="user", content="where to?")
        self.setting = Setting(policy, (message,), seed, STEPS, value=FakeValue(guess))
        self.graph = plant("where to?")
        self.n, self.depth, self.c, self.share = n, depth, c, share
        self.visits: dict[str, int] = {self.graph.root: 0}
        self.q: dict[str, float] = {self.graph.root: 0.0}
        self.dead: set[str] = set()

    def children(self, id: str) -> list[str]:
        return self.graph.children(id)

    def move(self, id: str) -> list[str]:
        count = max(0, self.n - len(self.children(id))) or self.n
        written = drive(generate(self.graph, [(id, count)], self.setting, Allowance()))
        self.graph = self.graph.updated(written.writes)
        judged = drive(evaluate(self.graph, written.outputs, self.setting, Allowance()))
        self.graph = self.graph.updated(judged.writes)
        for new in written.outputs:
            self.visits[new], self.q[new] = 0, 0.0
            ended = self.kind(new) != "step" or self.graph.thoughts[new]["depth"] >= self.depth
            if ended or twin(self.graph, new) != new:
                self.dead.add(new)
        return written.outputs

    def kind(self, id: str) -> str:
        return self.graph.thoughts[id]["kind"]

    def worth(self, id: str) -> float:
        parent = self.graph.thoughts[id]["parent"]
        assert parent is not None
        value, same = self.graph.stats[id]["value"], len(alike(self.graph, id)) / len(self.children(parent))
        assert value is not None
        return self.share * value + (1 - self.share) * same

    def uct(self, id: str, parent: str) -> tuple[float, float]:
        if not self.visits[id]:
            return math.inf, self.worth(id)
        return self.q[id] + self.c * math.sqrt(math.log(self.visits[parent]) / self.visits[id]), 0.0

    def select(self) -> str:
        id = self.graph.root
        while len(self.children(id)) >= self.n:
            alive = [child for child in self.children(id) if child not in self.dead]
            if not alive:
                break
            id = max(alive, key=lambda child, parent=id: self.uct(child, parent))  # type: ignore[misc]
        return id

    def simulate(self, id: str) -> tuple[str, float]:
        while True:
            new = self.move(id)
            finals = [child for child in new if self.kind(child) == "final"]
            if finals:
                id = max(finals, key=lambda child: self.graph.stats[child]["value"] or 0.0)
                return id, 2 * (self.graph.stats[id]["value"] or 0.0) - 1
            steps = [
                child for child in new if self.kind(child) == "step" and twin(self.graph, child) == child
            ]
            if not steps:
                return id, -1.0
            id = max(steps, key=self.worth)
            if id in self.dead:
                return id, -1.0

    def round(self) -> None:
        before = set(self.graph.thoughts)
        end, reward = self.simulate(self.select())
        for id in self.graph.path(end):
            self.q[id] = (self.q[id] * self.visits[id] + reward) / (self.visits[id] + 1)
            self.visits[id] += 1
        for new in [id for id in self.graph.thoughts if id not in before]:
            for above in reversed(self.graph.path(new)[1:-1]):
                if len(self.children(above)) >= self.n and self.dead.issuperset(self.children(above)):
                    self.dead.add(above)


@pytest.mark.parametrize("seed", [3, 11, 23])
def test_a_plain_loop_over_the_operators_grows_the_same_tree(seed: int) -> None:
    policy, rounds = FakePolicy(ternary), 25
    parameters = {"depth": 3, "c": 0.8, "share": 0.7}
    graph, values = searched(
        policy, branching=3, value=FakeValue(guess), steps=STEPS, seed=seed, simulations=rounds, **parameters
    )
    plain = Plain(policy, seed, 3, **parameters)  # type: ignore[arg-type]
    for _ in range(rounds):
        plain.round()
    assert dict(plain.graph.thoughts) == dict(graph.thoughts)
    assert plain.visits == {id: stats["visits"] for id, stats in graph.stats.items()}
    assert plain.q == pytest.approx({id: stats["q"] for id, stats in graph.stats.items()})
    assert plain.dead == {id for id, stats in graph.stats.items() if stats["closed"]}
    assert values["run"]["round"] == rounds


def sums(question: str, prefix: str) -> list[Reply]:
    """Calls of the calculator and of a tool with effects, then ends that say what was observed last."""
    if "attempt failed" in question:
        return [("I should have paid.", -1.0, True)]
    if prefix.count("Action") < 2:
        return [("Action: calculator[1+1]", -1.0), ("Action: pay[5]", -1.0), ("so <<3*3=", -1.0)]
    seen = prefix.rstrip("\n").rsplit(" ", 1)[-1]
    return [(f"Action: Finish[{seen}]", -1.0), ("Finish[none]", -1.5), ("Observation: made up", -2.0)]


def paying() -> tuple[list[Any], list[str]]:
    paid: list[str] = []

    def pay(text: str) -> str:
        """Pays."""
        paid.append(text)
        return "paid"

    return [Calculator(), as_tool(pay, idempotent=False)], paid


ACTING: dict[str, Any] = {"branching": 2, "depth": 4, "steps": Steps(), "value": FakeValue(guess)}


def test_moves_are_thoughts_with_observations_and_no_effects_happen() -> None:
    tools, paid = paying()
    graph, values = searched(FakePolicy(sums), tools=tools, simulations=8, **ACTING)
    for id in graph.walk():
        thought, text = graph.thoughts[id], graph.thoughts[id]["text"]
        if thought["kind"] == "step" and (text.startswith("Action") or text.endswith("=")):
            repeats = twin(graph, id) != id
            assert graph.stats[id]["children"] == (0 if repeats else 1)
        if thought.get("operator") == "act":
            assert graph.stats[id]["visits"] == graph.stats[str(thought["parent"])]["visits"]
            assert graph.stats[id]["children"] in (0, 2)
    said = {thought["text"] for thought in graph.thoughts.values() if thought.get("operator") == "act"}
    assert {"Observation: 2", "Observation: 9"} <= said and len(said) == 3
    assert not paid and values["answer"] is not None


def test_the_value_model_sees_a_move_with_its_observation() -> None:
    value = FakeValue(guess)
    tools, _ = paying()
    searched(FakePolicy(sums), tools=tools, simulations=3, **{**ACTING, "value": value})
    ends = [candidate.steps[-1] for candidate in value.candidates]
    assert any(end.startswith("Observation: ") for end in ends)
    assert not any(end.startswith("Action: calc") or end.endswith("=") for end in ends)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_with_tools_and_reflections_a_search_that_broke_off_ends_as_an_unbroken_one(share: float) -> None:
    class Breaks(Mortal):
        def __init__(self, batches: int) -> None:
            super().__init__(batches)
            self._script = sums

    def reasoner(policy: FakePolicy, saver: InMemorySaver) -> Any:
        tools, _ = paying()
        common = {**ACTING, "verifier": accepts("never"), "seed": 5, "checkpointer": saver}
        return create_lats(policy, tools=tools, simulations=6, **common)

    whole = reasoner(FakePolicy(sums), InMemorySaver())
    whole.invoke(ask(), thread())
    expected = found(whole.get_state(thread()).values)
    saver, everything = InMemorySaver(), Breaks(10_000)
    reasoner(everything, InMemorySaver()).invoke(ask(), thread())
    batches = 10_000 - everything._left
    with pytest.raises(ConnectionError):
        reasoner(Breaks(int(share * batches)), saver).invoke(ask(), thread())
    again = reasoner(FakePolicy(sums), saver)
    again.invoke(None, thread())
    assert found(again.get_state(thread()).values) == expected
    assert any("feedback" in stats for stats in expected[1].values())


@settings(max_examples=25)
@given(tokens=st.none() | st.integers(1, 60), calls=st.integers(1, 40), nodes=st.none() | st.integers(1, 40))
def test_no_budget_is_exceeded_with_tools_and_reflections(
    tokens: int | None, calls: int, nodes: int | None
) -> None:
    tools, _ = paying()
    policy, value = FakePolicy(sums), FakeValue(guess)
    parameters = {**ACTING, "value": value, "verifier": accepts("never")}
    graph, values = searched(policy, tools=tools, budget=Budget(tokens, calls, nodes), **parameters)
    assert len(policy.requests) + len(value.candidates) == values["usage"]["model_calls"] <= calls
    assert len(graph.thoughts) - 1 == values["usage"]["nodes"] <= (nodes or math.inf)
    assert values["usage"]["completion_tokens"] <= (tokens or math.inf)


def fails(question: str, prefix: str) -> list[Reply]:
    """Ends with wrong answers; and what is learned from the last one."""
    if "attempt failed" in question:
        return [("It was not x.", -1.0, True)]
    return [("x", -1.0, True), ("y", -1.0, True), ("z", -1.0, True), ("x", -1.0, True)]


def reflected(**keywords: Any) -> tuple[ThoughtGraph, FakePolicy]:
    policy = FakePolicy(fails, cycle=True)
    common = {"verifier": accepts("never"), "branching": 4, "simulations": 2, **keywords}
    graph, _ = searched(policy, **common)
    return graph, policy


def test_reflections_on_different_failures_stand_in_the_prompts_from_then_on() -> None:
    graph, policy = reflected()
    told = [graph.thoughts[id]["text"] for id in graph.walk() if "feedback" in graph.stats[id]]
    assert told == ["x", "y", "z"], "the second x is the same failure"
    questions = [request.messages[-1]["content"] for request in policy.requests]
    assert questions[:4] == ["where to?"] * 4
    assert all("attempt failed" in question for question in questions[4:7])
    later = questions[7:11]
    assert len(later) == 4 and all(one.startswith("where to?\n\n") for one in later)
    assert all(one.count("It was not x.") == 3 for one in later)
    assert len(questions) == 11, "nothing that failed in the second round is new"


def test_no_more_failures_are_reflected_on_than_asked() -> None:
    graph, policy = reflected(reflections=2)
    assert sum("feedback" in stats for stats in graph.stats.values()) == 2
    _, policy = reflected(reflections=0)
    assert {request.messages[-1]["content"] for request in policy.requests} == {"where to?"}


def test_nobody_reflects_without_a_verifier_or_without_the_skill() -> None:
    for policy, keywords in (
        (FakePolicy(fails, cycle=True), {"verifier": None}),
        (FakePolicy(fails, cycle=True, task="game24"), {"verifier": accepts("never")}),
    ):
        searched(policy, branching=4, simulations=2, **keywords)
        assert {request.messages[-1]["content"] for request in policy.requests} == {"where to?"}


def test_a_rejected_answer_returns_minus_one_and_an_accepted_one_ends_the_search() -> None:
    graph, _ = reflected(simulations=1)
    assert graph.stats[graph.root]["q"] == -1.0
    graph, policy = reflected(verifier=accepts("y"))
    assert len(policy.requests) == 4


def test_without_a_value_model_the_most_frequent_move_is_gone_on_from() -> None:
    def script(question: str, prefix: str) -> list[Reply]:
        return [("rare", -1.0), ("often", -1.0), ("often", -1.0)] if not prefix else [("end", -1.0, True)]

    policy = FakePolicy(script, cycle=True)
    searched(policy, branching=3, simulations=1)
    assert {request.prefix for request in policy.requests} == {"", "often\n"}


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_a_needle_at_the_depth_limit_is_found_in_every_run(depth: int) -> None:
    for seed in range(6):
        needle = format(seed * 0x9E3779B1 % 2**depth, f"0{depth}b")
        _, values = searched(
            FakePolicy(binary(depth), cycle=True),
            branching=2,
            depth=depth,
            simulations=4 * 2**depth,
            verifier=accepts(needle),
            reflections=0,
            seed=seed,
        )
        assert values["answer"] == needle and values["run"]["verified"]


class Broken(FakeValue):
    """A value model that says no number, or too little."""

    def __init__(self, scores: Sequence[float]) -> None:
        super().__init__(guess)
        self._scores = scores

    def score(self, candidates: Sequence[Candidate]) -> list[Score]:
        return [Score(value) for value, _ in zip(self._scores, super().score(candidates), strict=False)]


@pytest.mark.parametrize("scores", [[math.nan] * 99, [0.5], []])
def test_a_value_that_is_no_number_or_missing_harms_nothing(scores: list[float]) -> None:
    _, values = searched(FakePolicy(wander), value=Broken(scores), steps=STEPS, budget=Budget(calls=60))
    assert values["answer"] is not None


@pytest.mark.parametrize(
    "replies", [[("", -1.0)], [("on", -1.0)], [("word " * 200, -1.0)], [("", -1.0, True)]]
)
def test_a_model_that_says_nothing_repeats_itself_or_never_ends_is_left_with_no_answer(
    replies: list[Reply],
) -> None:
    policy = FakePolicy(lambda question, prefix: replies)
    _, values = searched(policy, steps=STEPS, budget=Budget(calls=40), simulations=None)
    assert values["answer"] is None and values["usage"]["model_calls"] <= 40


@pytest.mark.parametrize(
    "parameters",
    [
        {"branching": 0}, {"depth": 0}, {"reflections": -1}, {"simulations": 0}, {"c": -1.0}, {"c": math.nan},
        {"c": math.inf}, {"share": 1.1}, {"share": -0.1}, {"share": math.nan}, {"tools": [3]},
    ],
)  # fmt: skip
def test_parameters_that_make_no_search_are_refused(parameters: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        create_lats(FakePolicy(wander), **parameters)
