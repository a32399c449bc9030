"""rStar: a tree derived by hand, the same from a plain loop, its actions, its second model, bad input."""

import math
import random
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langgraph.checkpoint.memory import InMemorySaver

from rlm_agent import Budget, FakePolicy, FakeValue, Steps, ThoughtGraph
from rlm_agent.graphs.rstar import create_rstar
from rlm_agent.models.drive import drive
from rlm_agent.models.fake import Reply, Script
from rlm_agent.models.protocols import Decoding, Message
from rlm_agent.operators.rules.actions import act, following, to_the_end
from rlm_agent.operators.rules.consistency import discriminate, is_probe
from rlm_agent.operators.setting import Setting
from rlm_agent.structure.budget import Allowance
from rlm_agent.structure.errors import CheckpointError, InputError, UnknownNameError
from rlm_agent.structure.ids import derive_seed
from tests.graphs.scripts import STEPS, accepts, ask, binary, grown, guess, thread, wander, whole_path
from tests.structure.trees import plant

FEW = ("step", "finish")


def searched(policy: FakePolicy, **keywords: Any) -> tuple[ThoughtGraph, dict[str, Any]]:
    """The tree after one question, and the values of the final state."""
    common: dict[str, Any] = {"steps": Steps(answer=whole_path), "budget": Budget(calls=10_000), "seed": 5}
    reasoner = create_rstar(policy, **{**common, **keywords}, checkpointer=InMemorySaver())
    reasoner.invoke(ask(), thread())
    values = reasoner.get_state(thread()).values
    return grown(values), values


ANSWERS = {"cx": "1", "ab": "2", "ac": "1", "aac": "2", "ba": "1", "bc": "1", "bbc": "2"}
FAILED = ("aab", "bbb")


def golden_script(question: str, prefix: str) -> list[Reply]:
    """The children of a thought, in turn: "a" and "b" by A1 and "c" by A2, which "x" ends under "c"."""
    path = prefix.replace("\n", "")
    if path == "c":
        return [("x", -1.0, True)]
    return [("" if path + letter in FAILED else letter, -1.0, path + letter in ANSWERS) for letter in "abc"]


def test_a_tree_of_three_rollouts_is_the_one_derived_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """A1 twice and A2 once, three actions deep, c = 2; of several children the first is drawn.

    1. The root takes a, b and cx, which ends in 1. Drawn: a, which takes aa, ab (ends in 2) and ac (in 1).
       Drawn: aa, which takes aaa, aab (fails) and aac (in 2), too deep to go on from. Drawn: aaa, the end.
       Of the answers 1 and 2 have ½ each, so that all four chains return 0, and aaa returns −1:
       aa (0 − 1)/2, a (0 + 0 + 0 − 1)/4, root −1/5. aa and a are closed.
    2. b, which nobody has visited, takes ba (ends in 1), bb and bc (in 1). Drawn: ba, the end. 1 has ⅔:
       ba and bc return ⅓, b ⅓, root (−1 + ⅔)/7.
    3. The root has b alone, and b has bb, which takes bba, bbb (fails) and bbc (in 2). Drawn: bba, the end.
       2 has 3/7: bbc returns −1/7 and bba −1; bb (−1/7 − 1)/2, b (⅔ − 8/7)/4, root (−1 + ⅔ − 8/7)/9.
    1 has 4/7, and the best mean along a path to it: ba (.4405 + .6667)/2, cx .5, ac (.375 + .5)/2. bc is as
    good, but later.
    """
    monkeypatch.setattr("rlm_agent.operators.rules.rollouts.derive_seed", lambda *counter: 0)
    steps = Steps(answer=lambda question, steps: ANSWERS["".join(steps)])
    graph, values = searched(
        FakePolicy(golden_script, cycle=True),
        actions=FEW, branching=2, depth=3, simulations=3, completions=0, steps=steps,
    )  # fmt: skip
    named = {"".join(graph.steps(id)): id for id in graph.walk() if graph.thoughts[id]["kind"] != "failed"}
    found = {path: (graph.stats[id]["visits"], graph.stats[id]["q"]) for path, id in named.items()}
    assert found == {
        "": (9, pytest.approx(-31 / 189)), "a": (4, -0.25), "b": (4, pytest.approx(-5 / 42)), "c": (1, 0.0),
        "cx": (1, 0.0), "aa": (2, -0.5), "ab": (1, 0.0), "ac": (1, 0.0), "aaa": (1, -1.0), "aac": (1, 0.0),
        "ba": (1, pytest.approx(1 / 3)), "bb": (2, pytest.approx(-4 / 7)), "bc": (1, pytest.approx(1 / 3)),
        "bba": (1, -1.0), "bbc": (1, pytest.approx(-1 / 7)),
    }  # fmt: skip
    assert {path for path, id in named.items() if not graph.stats[id]["closed"]} == {""}
    operators = {path: graph.thoughts[id].get("operator") for path, id in named.items()}
    assert {path for path, action in operators.items() if action == "finish"} == {
        "c", "cx", "ac", "aac", "bc", "bbc"
    }  # fmt: skip
    assert values["answer"] == "1" and "".join(graph.steps(values["run"]["best"])) == "ba"
    assert values["run"]["stopped"] == "rounds" and values["usage"]["nodes"] == 16


class Plain:
    """The authors' loop over the pure operators, with Q and N in tables of its own."""

    def __init__(self, policy: FakePolicy, seed: int, depth: int, completions: int) -> None:
        message = Message(role="user", content="where to?")
        self.setting = Setting(policy, (message,), seed, STEPS)
        self.graph, self.depth, self.completions = plant("where to?"), depth, completions
        self.q: dict[str, float] = {}
        self.n: dict[str, int] = {}
        self.dead: set[str] = set()

    def draw(self, *counter: str | int) -> int:
        return derive_seed(self.setting.seed, *counter)

    def expand(self, id: str) -> list[str]:
        """All children of a thought by all actions, those of A2 with what they lead to."""
        follow = following(self.graph.thoughts[id], ("step", "finish", "subquestion", "answer", "rephrase"))
        asked = [a for a in follow for _ in range(2 if a in ("step", "subquestion") else 1)]
        taken = drive(act(self.graph, id, asked, self.setting, Allowance()))
        self.graph = self.graph.updated(taken.writes)
        begun = [new for new, action in zip(taken.outputs, asked, strict=True) if action == "finish"]
        rest = drive(to_the_end(self.graph, begun, self.setting, Allowance()))
        self.graph = self.graph.updated(rest.writes)
        said: set[str] = set()
        for child in self.graph.children(id):
            thought = self.graph.thoughts[child]
            open_step = thought["kind"] == "step" and child not in begun and not is_probe(self.graph, child)
            open_step = open_step and thought["operator"] != "finish"
            meaning = f"{thought.get('operator')} {thought['text']}"
            if not open_step or meaning in said or len(self.graph.path(child)) > self.depth:
                self.dead.add(child)
            if open_step:
                said.add(meaning)
        self.dead.update(rest.outputs)
        return [*taken.outputs, *rest.outputs]

    def select(self) -> str:
        id = self.graph.root
        while self.graph.stats[id]["children"]:
            alive = [child for child in self.graph.children(id) if child not in self.dead]
            if not alive:
                return self.graph.root
            unseen = [child for child in alive if child not in self.n]
            if unseen:
                id = max(unseen, key=lambda child: self.draw("unseen", child))
                continue
            total = math.log(self.n[id])
            uct = {c: (self.q[c] / self.n[c] + 1) / 2 + 2 * math.sqrt(total / self.n[c]) for c in alive}
            id = max(alive, key=uct.__getitem__)
        return id

    def rollout(self) -> None:
        end: str = self.select()
        fresh: list[str] = []
        while True:
            new = self.expand(end)
            fresh += new
            visits, goal = self.n.get(end, 0), self.candidates(end, new)
            if not goal:
                break
            end = goal[self.draw("rollout", end, visits) % len(goal)]
            if end in self.dead:
                break
        while below := [id for id in self.graph.children(end) if id in fresh]:
            if self.graph.thoughts[end].get("operator") != "finish":
                break
            if self.graph.thoughts[below[0]]["kind"] == "failed":
                break
            end = below[0]
        finals = [id for id in fresh if self.graph.thoughts[id]["kind"] == "final"]
        if finals and self.completions:
            probes = drive(discriminate(self.graph, finals, self.setting, Allowance(), self.completions))
            self.graph = self.graph.updated(probes.writes)
            self.dead.update(probes.outputs)
        answers = [
            self.graph.thoughts[id]["answer"] for id in self.graph.finals() if not is_probe(self.graph, id)
        ]
        for id in finals:
            self.back_up(id, 2 * answers.count(self.graph.thoughts[id]["answer"]) / len(answers) - 1)
        if end not in (*finals, self.graph.root):
            self.back_up(end, -1.0)
        self.bury()

    def candidates(self, id: str, new: Sequence[str]) -> list[str]:
        def usable(child: str) -> bool:
            thought = self.graph.thoughts[child]
            ended = thought["kind"] == "final" or (
                thought["kind"] == "step" and thought["operator"] == "finish"
            )
            return ended or (thought["kind"] == "step" and self.original(id, child))

        return [child for child in self.graph.children(id) if child in new and usable(child)]

    def original(self, id: str, child: str) -> bool:
        thoughts = self.graph.thoughts
        alike = [
            c for c in self.graph.children(id)
            if thoughts[c]["kind"] == "step" and thoughts[c]["text"] == thoughts[child]["text"]
            and thoughts[c]["operator"] == thoughts[child]["operator"]
        ]  # fmt: skip
        return alike[0] == child

    def back_up(self, leaf: str, reward: float) -> None:
        for id in self.graph.path(leaf):
            self.q[id] = self.q.get(id, 0.0) + reward
            self.n[id] = self.n.get(id, 0) + 1

    def bury(self) -> None:
        """Give up what has been expanded and has nothing open below."""
        for id in reversed(list(self.graph.walk())):
            children = self.graph.children(id)
            if children and id != self.graph.root and self.dead.issuperset(children):
                self.dead.add(id)


@pytest.mark.parametrize("completions", [0, 2])
@pytest.mark.parametrize("seed", [3, 11, 23])
def test_a_plain_loop_over_the_operators_grows_the_same_tree(seed: int, completions: int) -> None:
    rounds = 15
    graph, values = searched(
        FakePolicy(wander),
        branching=2,
        depth=3,
        completions=completions,
        simulations=rounds,
        steps=STEPS,
        seed=seed,
    )
    plain = Plain(FakePolicy(wander), seed, 3, completions)
    for _ in range(rounds):
        plain.rollout()
    assert dict(plain.graph.thoughts) == graph.thoughts
    assert values["run"]["round"] == rounds
    assert plain.n == {id: stats["visits"] for id, stats in graph.stats.items() if stats["visits"]}
    visited = {id: stats["q"] * stats["visits"] for id, stats in graph.stats.items() if stats["visits"]}
    assert visited == pytest.approx(plain.q)
    closed = {id for id, stats in graph.stats.items() if stats["closed"]}
    assert plain.dead == closed
    made_by = {thought.get("operator") for thought in graph.thoughts.values()}
    assert made_by >= {None, "step", "finish", "subquestion", "answer", "rephrase"}


def everything(question: str, prefix: str) -> list[Reply]:
    """Texts that tell what they were asked as, and how deep they stand; the third one ends the chain."""
    skill = "s" if "smaller question that helps" in question else "r" if "own words" in question else "a"
    skill = "again" if "new answer to it" in question else skill
    return [
        (f"{skill}{number} {prefix.count(chr(10))}", -1.0, prefix.count("\n") >= 2) for number in range(9)
    ]


def test_the_order_of_actions_holds_in_every_tree() -> None:
    graph, _ = searched(FakePolicy(everything), branching=3, depth=4, simulations=12, completions=0)
    asked = {"subquestion": "s", "answer": "again", "rephrase": "r", "step": "a", "finish": "a"}
    seen = set()
    for id in graph.walk():
        thought = graph.thoughts[id]
        if thought["parent"] is None:
            continue
        action, after = thought["operator"], graph.thoughts[thought["parent"]].get("operator")
        seen.add((after, action))
        assert thought["text"].startswith(asked[action])
        assert (thought.get("base") is not None) == (action == "answer")
    assert (None, "rephrase") in seen and ("subquestion", "answer") in seen and ("answer", "step") in seen
    assert all(after is None for after, action in seen if action == "rephrase")
    assert all(after == "subquestion" for after, action in seen if action == "answer")
    assert {action for after, action in seen if after in ("step", "finish")} <= {"step", "finish"}


def test_the_depth_bounds_the_actions_of_a_chain_of_which_a_finish_is_one() -> None:
    graph, _ = searched(FakePolicy(wander), branching=2, depth=2, simulations=9, steps=STEPS)
    for id in graph.walk():
        actions = [graph.thoughts[step].get("operator") for step in graph.path(id)[1:]]
        own = [action for action in actions if action != "discriminate"]
        assert len([action for action in own if action != "finish"]) + ("finish" in own) <= 2


class Second(FakePolicy):
    """Another model, which always comes to one answer."""

    identity = "second"
    decoding = Decoding(temperature=0.5)

    def __init__(self, answer: str) -> None:
        super().__init__(lambda question, prefix: [(answer, -1.0, True)])


def votes(*answers: str) -> Script:
    """Chains of two steps, begun in turn by "0", "1", …, the n-th of which ends in the n-th answer."""

    def script(question: str, prefix: str) -> list[Reply]:
        if not prefix:
            return [(str(number), -1.0) for number in range(len(answers))]
        return [(answers[int(prefix.split("\n")[0])], -1.0, True)]

    return script


@pytest.mark.parametrize(("agreed", "answer"), [("b", "b"), ("a", "a"), ("c", "a")])
def test_the_second_model_overrules_the_vote_where_it_agrees_with_any(agreed: str, answer: str) -> None:
    """Three chains answer a, two b; where nobody is agreed with, the vote holds."""
    second = Second(agreed)
    parameters: dict[str, Any] = {"actions": ("finish",), "simulations": 5, "steps": Steps()}
    policy = FakePolicy(votes("a", "b", "a", "b", "a"), cycle=True)
    graph, values = searched(policy, discriminator=second, **parameters)
    assert values["answer"] == answer
    assert len(second.requests) == 5
    assert {request.decoding for request in second.requests} == {second.decoding}
    assert {request.prefix for request in second.requests} == {f"{number}\n" for number in range(5)}
    assert not is_probe(graph, values["run"]["best"])


def test_with_a_verifier_its_verdict_is_the_reward_and_nobody_discriminates() -> None:
    parameters: dict[str, Any] = {
        "branching": 2, "depth": 3, "simulations": 32,
        "verifier": accepts("110"), "stop_when_verified": False,
    }  # fmt: skip
    graph, values = searched(FakePolicy(binary(3), cycle=True), **parameters)
    assert not any(is_probe(graph, id) for id in graph.walk())
    assert values["answer"] == "110" and values["run"]["stopped"] == "rounds"
    rewards = {(graph.thoughts[id]["answer"], graph.stats[id]["q"]) for id in graph.finals()}
    assert len(rewards) > 2 and all((q == 1.0) == (answer == "110") for answer, q in rewards)


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_a_needle_at_the_depth_limit_is_found_in_every_run(depth: int) -> None:
    for seed in range(10):
        needle = format(seed * 0x9E3779B1 % 2**depth, f"0{depth}b")
        _, values = searched(
            FakePolicy(binary(depth), cycle=True),
            branching=2,
            depth=depth,
            simulations=4 * 2**depth,
            verifier=accepts(needle),
            steps=Steps(max_steps=depth, answer=whole_path),
            seed=seed,
        )
        assert values["answer"] == needle, f"seed {seed}"


def test_no_value_is_asked() -> None:
    value = FakeValue(guess)
    searched(FakePolicy(wander), value=value, simulations=5, steps=STEPS)
    assert value.candidates == []


@settings(max_examples=25)
@given(
    tokens=st.none() | st.integers(1, 60),
    calls=st.integers(1, 60),
    nodes=st.none() | st.integers(1, 60),
    seed=st.integers(0, 999),
    completions=st.integers(0, 3),
)
def test_no_budget_is_exceeded(
    tokens: int | None, calls: int, nodes: int | None, seed: int, completions: int
) -> None:
    policy = FakePolicy(wander)
    budget = Budget(tokens=tokens, calls=calls, nodes=nodes)
    graph, values = searched(policy, completions=completions, budget=budget, seed=seed, steps=STEPS)
    assert len(policy.requests) == values["usage"]["model_calls"] <= calls
    assert len(graph.thoughts) - 1 == values["usage"]["nodes"] <= (nodes or math.inf)
    assert tokens is None or values["usage"]["completion_tokens"] <= tokens
    assert all(-1 <= stats["q"] <= 1 for stats in graph.stats.values())


@pytest.mark.parametrize("bound", ["tokens", "calls", "nodes"])
def test_a_budget_of_one_makes_one_call_and_answers_or_says_that_it_has_none(bound: str) -> None:
    policy = FakePolicy(wander)
    _, values = searched(policy, budget=Budget(**{bound: 1}), steps=STEPS)
    assert len(policy.requests) == 1 and values["run"]["stopped"] == bound
    assert values["answer"] is None or values["answer"].startswith("answer")


def test_replies_that_fail_harm_nobody_else_and_a_dead_model_ends_the_search() -> None:
    policy = FakePolicy(wander, fails={1: "connection reset", 4: "connection reset"})
    graph, values = searched(policy, budget=Budget(calls=80), steps=STEPS)
    reasons = [thought.get("reason") for thought in graph.thoughts.values()]
    assert reasons.count("connection reset") == 2 and values["answer"] is not None
    lost = FakePolicy(wander, fails=dict.fromkeys(range(1000), "connection refused"))
    _, values = searched(lost)
    assert values["answer"] is None and values["run"]["stopped"] == "no reply from the model"


@pytest.mark.parametrize(
    "script",
    [
        lambda question, prefix: [("", -1.0)],
        lambda question, prefix: [("word after word after word after word", -1.0)],
        lambda question, prefix: [("same", -1.0)],
    ],
    ids=["silent", "endless", "repeated"],
)
def test_a_policy_that_gets_nowhere_ends_with_the_budget_and_without_an_answer(script: Script) -> None:
    _, values = searched(FakePolicy(script), budget=Budget(calls=150), steps=STEPS)
    assert values["answer"] is None
    assert values["usage"]["model_calls"] == 150 or values["run"]["stopped"] == "no reply from the model"


def test_a_specialist_has_the_first_two_actions_and_says_so_of_the_others() -> None:
    specialist = FakePolicy(wander, task="game24")
    with pytest.raises(InputError, match="has not learned to rephrase"):
        create_rstar(specialist, actions=("step", "rephrase"))
    assert specialist.requests == []
    policy = FakePolicy(lambda question, prefix: [("1 + 1 = 2 | 2 3", -1.0)], task="game24")
    create_rstar(policy, seed=1, budget=Budget(calls=20), branching=2).invoke(ask("1 1 11 11"))
    assert {request.messages[-1]["content"] for request in policy.requests} == {"1 1 11 11 : 24"}


@pytest.mark.parametrize(
    "parameters",
    [
        {"branching": 0}, {"depth": 0}, {"simulations": 0}, {"c": -1.0}, {"c": math.nan}, {"c": math.inf},
        {"completions": -1}, {"actions": ()}, {"actions": ("answer",)},
    ],
)  # fmt: skip
def test_parameters_that_grow_no_tree_are_refused(parameters: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        create_rstar(FakePolicy(wander), **parameters)


def test_names_that_do_not_exist_are_refused() -> None:
    with pytest.raises(UnknownNameError):
        create_rstar(FakePolicy(wander), actions=("jump",))
    with pytest.raises(UnknownNameError):
        create_rstar(FakePolicy(wander), discriminator="nobody")


def test_a_search_is_not_gone_on_with_against_another_second_model() -> None:
    saver = InMemorySaver()
    common: dict[str, Any] = {"steps": STEPS, "budget": Budget(calls=20)}
    create_rstar(FakePolicy(wander), **common, checkpointer=saver).invoke(ask(), thread())
    other = create_rstar(FakePolicy(wander), **common, discriminator=Second("x"), checkpointer=saver)
    assert other.name == "rstar"
    with pytest.raises(CheckpointError):
        other.invoke({"messages": []}, thread())


def test_the_global_random_state_decides_nothing() -> None:
    first, _ = searched(FakePolicy(wander), simulations=6, steps=STEPS)
    random.seed(99)
    again, _ = searched(FakePolicy(wander), simulations=6, steps=STEPS)
    assert first.thoughts == again.thoughts and first.stats == again.stats
