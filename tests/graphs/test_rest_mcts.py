"""ReST-MCTS*: a tree derived by hand, the same from a plain loop, and what must not stop it."""

import math
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlm_agent import Budget, FakePolicy, FakeValue, Steps, ThoughtGraph
from rlm_agent.graphs.rest_mcts import create_rest_mcts
from rlm_agent.models.drive import drive
from rlm_agent.models.fake import Reply
from rlm_agent.models.protocols import Message
from rlm_agent.operators.evaluate import evaluate
from rlm_agent.operators.generate import generate
from rlm_agent.operators.prune import twin
from rlm_agent.operators.rules.quality import quality_value
from rlm_agent.operators.select import follow, uct
from rlm_agent.operators.setting import Setting
from rlm_agent.structure.budget import Allowance
from rlm_agent.structure.errors import InputError
from tests.graphs import scripts
from tests.graphs.scripts import (
    STEPS,
    accepts,
    binary,
    guess,
    ternary,
    wander,
    whole_path,
)
from tests.structure.trees import plant

searched = partial(scripts.searched, create_rest_mcts)


GOLDEN = {
    "a": 0.6, "b": 0.4, "aa": 0.8, "ab": 0.9, "ba": 0.5, "bb": 0.1,
    "aaa": 0.2, "aab": 0.95, "aba": 0.5, "abaa": 0.7, "baa": 0.3,
}  # fmt: skip


def golden_script(question: str, prefix: str) -> list[Reply]:
    """Each thought has the children "a" and "b", in turn; "aab" and "baa" end their chains."""
    path = prefix.replace("\n", "")
    return [(letter, -1.0, path + letter in ("aab", "baa")) for letter in "ab"]


def test_a_tree_of_four_rounds_is_the_one_derived_by_hand() -> None:
    """Two branches, two steps of rollout, c = .7, α = ½, and a value of .9 ends the search.

    1. root: a .6, b .4. Rollout from a: aa .8, aaa .2. V(a) = ½·.6 + ½·.8 = .7.       V(root) = .7, N = 1
    2. root: a .7 + 0 (ln 1), b .4 + 1 (no visit) → b: ba .5, bb .1. Rollout from ba: baa .3, which is final.
       V(ba) = ½·.5 + ½·.3 = .4. V(b) = .4.                     V(root) = (.7 + .4)/2 = .55, N = 2
    3. root, .7 √ln 2 = .583: a 1.283, b .983 → a, which lacks one child beside aa: ab .9. That is the best;
       rollout from it: aba .5, abaa .7. V(ab) = ½·.9 + ½·.7 = .8. V(a) = .8, N = 2.
                                                                V(root) = (2·.8 + .4)/3 = ⅔, N = 3
    4. root: a .8 + .7 √(ln 3 / 2) = 1.319, b .4 + .7 √ln 3 = 1.134 → a: aa .8 + 1, ab .8 + .583 → aa, which
       lacks one child beside aaa: aab .95, which is final. V(aab) = V(aa) = .95.
       V(a) = (.8 + .95)/2 = .875, N = 3.
                                                              V(root) = (3·.875 + .4)/4 = .75625, N = 4
    aab is finished and above .9.
    """
    value = FakeValue(lambda steps: GOLDEN["".join(steps)])
    graph, values = searched(FakePolicy(golden_script, cycle=True), branching=2, rollout=2, value=value)
    named = {"".join(graph.steps(id)): graph.stats[id] for id in graph.walk()}
    assert set(named) == {"", *GOLDEN}
    assert {path: stats["visits"] for path, stats in named.items() if stats["visits"]} == {
        "": 4, "a": 3, "b": 1, "aa": 1, "ab": 1, "ba": 1, "aab": 1
    }  # fmt: skip
    visited = {path: (stats["q"] + 1) / 2 for path, stats in named.items() if stats["visits"]}
    assert visited == pytest.approx(
        {"": 0.75625, "a": 0.875, "b": 0.4, "aa": 0.95, "ab": 0.8, "ba": 0.4, "aab": 0.95}
    )
    assert {path for path, stats in named.items() if stats["closed"]} == {"aab", "baa"}
    assert values["run"]["stopped"] == "exhausted" and values["run"]["round"] == 5
    assert values["answer"] == "aab"


def test_the_threshold_looks_at_finished_chains_only() -> None:
    """In round 3 of the golden tree ab .9 does not end the search; a lower threshold lets baa .3 end it."""
    value = FakeValue(lambda steps: GOLDEN["".join(steps)])
    policy = FakePolicy(golden_script, cycle=True)
    _, values = searched(policy, branching=2, rollout=2, value=value, threshold=0.3)
    assert values["answer"] == "baa" and values["run"]["round"] == 3


class Plain:
    """The authors' loop over the pure operators, with V and N in tables of its own."""

    def __init__(self, policy: FakePolicy, seed: int) -> None:
        message = Message(role="user", content="where to?")
        self.setting = Setting(policy, (message,), seed, STEPS, value=FakeValue(guess))
        self.graph = plant("where to?")
        self.v: dict[str, float] = {}
        self.n: dict[str, int] = {self.graph.root: 0}
        self.dead: set[str] = set()

    def step(self, id: str, count: int) -> list[str]:
        """New children, valued."""
        written = drive(generate(self.graph, [(id, count)], self.setting, Allowance()))
        self.graph = self.graph.updated(written.writes)
        judged = drive(evaluate(self.graph, written.outputs, self.setting, Allowance()))
        self.graph = self.graph.updated(judged.writes)
        for new in written.outputs:
            self.v[new], self.n[new] = self.graph.stats[new]["value"] or 0.0, 0
            if self.graph.thoughts[new]["kind"] != "step" or twin(self.graph, new) != new:
                self.dead.add(new)
        return written.outputs

    def descend(self, b: int) -> str:
        id = self.graph.root
        while self.graph.stats[id]["children"] >= b:
            children = [child for child in self.graph.children(id) if child not in self.dead]
            if not children:
                break
            parent = self.n[id]
            scores = [uct(self.v[child], parent, self.n[child], c=0.7) for child in children]
            id = children[scores.index(max(scores))]
        return id

    def usable(self, id: str) -> bool:
        return self.n[id] == 0 and self.graph.thoughts[id]["kind"] != "failed" and twin(self.graph, id) == id

    def round(self, b: int, m: int, alpha: float) -> None:
        leaf = self.descend(b)
        fresh = self.step(leaf, max(0, b - self.graph.stats[leaf]["children"]) or b)
        usable = [child for child in self.graph.children(leaf) if self.usable(child)]
        id = best = max(usable, key=lambda child: self.v[child], default=None)
        ahead: list[float] = []
        for _ in range(m):
            if id is None or id in self.dead:
                break
            written = self.step(id, 1)
            fresh += written
            id = twin(self.graph, written[0])
            ahead.append(self.v[id])
        if best is not None:
            self.v[best] = (1 - alpha) * self.v[best] + alpha * max(ahead, default=self.v[best])
        self.back_up(leaf if best is None else best)
        for new in fresh:
            self.bury(new, b)

    def back_up(self, id: str) -> None:
        for above in reversed(self.graph.path(id)):
            self.n[above] += 1
            children = [child for child in self.graph.children(above) if self.n[child]]
            if above != id:
                total = sum(self.n[child] for child in children)
                self.v[above] = sum(self.n[child] * self.v[child] for child in children) / total

    def bury(self, id: str, b: int) -> None:
        """Give up what lies above and has nothing open below."""
        for above in reversed(self.graph.path(id)[1:-1]):
            children = self.graph.children(above)
            if len(children) >= b and self.dead.issuperset(children):
                self.dead.add(above)


@pytest.mark.parametrize("seed", [3, 11, 23])
def test_a_plain_loop_over_the_operators_grows_the_same_tree(seed: int) -> None:
    policy, rounds = FakePolicy(ternary), 25
    graph, values = searched(
        policy, value=FakeValue(guess), threshold=1.0, simulations=rounds, steps=STEPS, seed=seed
    )
    plain = Plain(policy, seed)
    for _ in range(rounds):
        plain.round(3, 3, 0.5)
    assert plain.graph.thoughts == graph.thoughts
    assert plain.n == {id: stats["visits"] for id, stats in graph.stats.items()}
    assert plain.dead == {id for id, stats in graph.stats.items() if stats["closed"]}
    visited = {id: (stats["q"] + 1) / 2 for id, stats in graph.stats.items() if stats["visits"]}
    assert visited == pytest.approx({id: v for id, v in plain.v.items() if plain.n[id]})
    assert {thought["kind"] for thought in graph.thoughts.values()} == {"root", "step", "final", "failed"}
    assert values["run"]["round"] == rounds


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_a_needle_at_the_depth_limit_is_found_in_every_run(depth: int) -> None:
    for seed in range(10):
        needle = format(seed * 0x9E3779B1 % 2**depth, f"0{depth}b")
        _, values = searched(
            FakePolicy(binary(depth), cycle=True),
            branching=2,
            simulations=4 * 2**depth,
            verifier=accepts(needle),
            steps=Steps(max_steps=depth, answer=whole_path),
            seed=seed,
        )
        assert values["answer"] == needle, f"seed {seed}"


def test_with_a_verifier_no_value_ends_the_search() -> None:
    """The threshold is about values; an answer that the verifier accepts ends the search only if asked."""
    parameters: dict[str, Any] = {
        "branching": 2, "simulations": 12, "verifier": accepts("01"), "threshold": 0.0,
        "steps": Steps(max_steps=2, answer=whole_path),
    }  # fmt: skip
    _, values = searched(FakePolicy(binary(2), cycle=True), **parameters)
    assert values["run"]["stopped"] == "verified"
    _, values = searched(FakePolicy(binary(2), cycle=True), **parameters, stop_when_verified=False)
    assert values["run"]["stopped"] == "rounds" and values["answer"] == "01"


def test_where_all_is_closed_the_root_gets_new_children_until_the_budget_is_spent() -> None:
    def script(question: str, prefix: str) -> list[Reply]:
        return [("end", -1.0, True)]

    policy = FakePolicy(script)
    graph, values = searched(policy, verifier=accepts("never"), budget=Budget(nodes=9))
    assert len(graph.children(graph.root)) == len(policy.requests) == 9
    assert values["run"]["stopped"] == "nodes" and values["answer"] == "end"


@settings(max_examples=20)
@given(
    tokens=st.none() | st.integers(1, 50),
    calls=st.integers(1, 50),
    nodes=st.none() | st.integers(1, 50),
    seed=st.integers(0, 999),
    valued=st.booleans(),
)
def test_no_budget_is_exceeded(
    tokens: int | None, calls: int, nodes: int | None, seed: int, valued: bool
) -> None:
    policy, value = FakePolicy(wander), FakeValue(guess)
    budget = Budget(tokens=tokens, calls=calls, nodes=nodes)
    graph, values = searched(policy, value=value if valued else None, budget=budget, seed=seed, steps=STEPS)
    assert len(policy.requests) + len(value.candidates) == values["usage"]["model_calls"] <= calls
    assert nodes is None or len(graph.thoughts) - 1 <= nodes
    assert tokens is None or values["usage"]["completion_tokens"] <= tokens
    assert all(-1 <= stats["q"] <= 1 for stats in graph.stats.values())


def test_no_value_is_asked_for_after_the_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look at a batch takes a second; the first expansion takes one, its rollout one more each step."""
    now = 0.0

    class Slow(FakeValue):
        def score(self, candidates: Any) -> Any:
            nonlocal now
            assert now < 2.5
            now += 1.0
            return super().score(candidates)

    clock = type("Clock", (), {"monotonic": staticmethod(lambda: now)})
    for module in ("graphs.machine.nodes", "graphs.rest_mcts", "operators.writing"):
        monkeypatch.setattr(f"rlm_agent.{module}.time", clock)
    _, values = searched(
        FakePolicy(binary(9)), value=Slow(guess), budget=Budget(seconds=2.5), steps=Steps(max_steps=9)
    )
    assert now == values["usage"]["seconds"] == 3.0


def test_replies_that_fail_and_values_that_are_no_numbers_harm_nobody_else() -> None:
    odd = FakeValue(lambda steps: math.nan if steps[-1] == "left" else 0.5)
    policy = FakePolicy(wander, fails={1: "connection reset"})
    graph, values = searched(policy, value=odd, budget=Budget(calls=80), steps=STEPS)
    assert values["answer"] is not None
    reasons = [thought.get("reason") for thought in graph.thoughts.values()]
    assert reasons.count("connection reset") == 1
    assert len(graph.thoughts) == 1 + len(policy.requests)
    assert all(math.isfinite(stats["q"]) for stats in graph.stats.values())
    lost = FakePolicy(wander, fails=dict.fromkeys(range(1000), "connection refused"))
    assert searched(lost, budget=Budget(tokens=4000))[1]["answer"] is None
    assert len(lost.requests) < 20


def test_repeated_steps_are_closed_and_the_rollout_goes_on_from_the_first() -> None:
    def script(question: str, prefix: str) -> list[Reply]:
        return [("on", -1.0)]

    graph, _ = searched(FakePolicy(script), simulations=2, value=FakeValue(guess), steps=Steps(max_steps=9))
    for id in graph.walk():
        assert graph.stats[id]["closed"] == (twin(graph, id) != id)


@pytest.mark.parametrize(
    "parameters",
    [
        {"branching": 0},
        {"rollout": -1},
        {"simulations": 0},
        {"c": -0.1},
        {"c": math.nan},
        {"alpha": 1.5},
        {"threshold": -1.0},
        {"threshold": math.nan},
    ],
)
def test_parameters_that_make_no_search_are_refused(parameters: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        create_rest_mcts(FakePolicy(wander), **parameters)


def test_uct_by_hand() -> None:
    """.5 + .7 √(ln 9 / 4) = .5 + .7 · .7412 = 1.0188; without a visit, .5 + 1."""
    assert uct(0.5, 9, 4, c=0.7) == pytest.approx(1.018806, abs=1e-6)
    assert uct(0.5, 9, 0, c=0.7) == 1.5
    assert uct(0.5, 0, 0, c=0.7) == 1.5


def test_following_scores_skips_what_is_closed() -> None:
    graph, _ = searched(FakePolicy(binary(3), cycle=True), branching=2, rollout=0, simulations=3)

    def last(graph: ThoughtGraph, id: str, children: Any) -> list[float]:
        return [float(graph.thoughts[child]["index"]) for child in children]

    def leaf(graph: ThoughtGraph, id: str) -> bool:
        return not graph.stats[id]["children"]

    found = follow(graph, leaf, last)
    assert found is not None and graph.steps(found)[0] == "1"


@pytest.mark.parametrize(
    ("previous", "missing", "wrong", "expected"),
    [
        (0.0, 0, 0.0, 1.0),  # the only step, and right
        (0.0, 2, 0.0, 1 / 3),  # the first of three
        (1 / 3, 1, 0.0, 2 / 3),  # the second, (1 − ⅓)/2 further
        (0.4, 2, 0.5, 0.4),  # nobody knows
        (0.4, 1, 1.0, 0.1),  # wrong: .4 − .6/2
        (0.2, 0, 1.0, 0.0),  # .2 − .8 is cut at 0
    ],
)
def test_the_quality_of_steps_by_hand(previous: float, missing: int, wrong: float, expected: float) -> None:
    assert quality_value(previous, missing, wrong) == pytest.approx(expected)


@given(st.floats(0, 1), st.integers(0, 50), st.floats(0, 1), st.floats(0, 1))
def test_quality_is_in_the_unit_interval_and_sinks_with_the_chance_of_an_error(
    previous: float, missing: int, wrong: float, other: float
) -> None:
    found = quality_value(previous, missing, wrong)
    assert 0 <= found <= 1
    assert (found >= previous) if wrong < 0.5 else (found <= previous)
    less, more = sorted((wrong, other))
    assert quality_value(previous, missing, less) >= quality_value(previous, missing, more)


@given(st.integers(1, 30))
def test_a_right_chain_grows_by_equal_parts_to_one(steps: int) -> None:
    """What the definition is made for: k right steps of n have the quality k / n."""
    value = 0.0
    for number in range(1, steps + 1):
        value = quality_value(value, steps - number, 0.0)
        assert value == pytest.approx(number / steps)
