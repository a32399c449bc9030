"""Monte Carlo tree search: trees derived by hand, the same from a plain loop, and the traps of others."""

import math
from collections import Counter
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver

from rlm_agent import Budget, Checked, FakePolicy, FakeValue, Steps, ThoughtGraph, create_mcts
from rlm_agent.graphs.machine.rules import Reasoner
from rlm_agent.models.drive import drive
from rlm_agent.models.fake import Reply
from rlm_agent.models.protocols import Message
from rlm_agent.operators.backpropagate import backpropagate_all
from rlm_agent.operators.evaluate import evaluate
from rlm_agent.operators.generate import generate
from rlm_agent.operators.prune import exhausted, twin
from rlm_agent.operators.rules.virtual import pick_several
from rlm_agent.operators.select import follow, puct_scores, uniform_priors
from rlm_agent.operators.setting import Setting
from rlm_agent.structure.budget import Allowance
from rlm_agent.structure.errors import InputError
from tests.graphs.scripts import (
    MCTS,
    STEPS,
    X1,
    accepts,
    ask,
    binary,
    grown,
    guess,
    thread,
    whole_path,
)
from tests.structure.trees import plant


def tree_of(reasoner: Reasoner) -> tuple[ThoughtGraph, dict[str, Any]]:
    """The tree after one question, and the values of the final state."""
    reasoner.invoke(ask(), thread())
    values = reasoner.get_state(thread()).values
    return grown(values), values


GOLDEN_VALUES = {
    "a": 0.6, "b": 0.5,
    "aa": 0.9, "ab": 0.2,
    "ba": 0.7, "bb": 0.3,
    "aaa": 1.0,
    "baa": 0.8, "bab": 0.3,
    "baaa": 0.9, "baab": 0.4,
}  # fmt: skip


def golden_script(question: str, prefix: str) -> list[Reply]:
    """Each thought has the children "a" and "b"; "bb" and "aaa" end their chains, "aab" says nothing."""
    path = prefix.replace("\n", "")
    replies: list[Reply] = []
    for letter in "ab":
        text = "" if path + letter == "aab" else letter
        replies.append((text, -1.0, path + letter in ("bb", "aaa")))
    return replies


def test_a_tree_of_six_simulations_is_the_one_derived_by_hand() -> None:
    """c1 = 1 and c2 = 10¹² make the exploration √N_p / (1 + N_c) · prior to ten digits; the prior is 1 over
    the number of open siblings. A leaf's return is 2v − 1, and a failed one's is −1. lr = γ = 1, so that a
    thought's q is the mean of its visited children's, weighted by N + 1.

    1. root: no child yet. a ← .2, b ← 0.                      q(root) = (2·.2 + 2·0)/4 = .1, N = 2
    2. root, √2: a .6 + .354, b .5 + .354 → a. aa ← .8, ab ← −.6.
       q(a) = (2·.8 − 2·.6)/4 = .1, N = 3.                     q(root) = (4·.1 + 2·0)/6 = .0667, N = 4
    3. root, √4: a .55 + .25, b .5 + .5 → b. ba ← .4, bb (final, closed) ← −.4.
       q(b) = (2·.4 − 2·.4)/4 = 0, N = 3.                      q(root) = (4·.1 + 4·0)/8 = .05, N = 6
    4. root, √6: a .55 + .306, b .5 + .306 → a, √3: aa .9 + .433, ab .2 + .433 → aa.
       aaa (final) ← 1, aab (failed) ← −1, and aa, whose children are closed, is closed.
       q(aa) = (2·1 − 2·1)/4 = 0, N = 3. q(a) = (4·0 − 2·.6)/6 = −.2, N = 5.
                                                               q(root) = (6·−.2 + 4·0)/10 = −.12, N = 8
    5. root, √8: a .4 + .236, b .5 + .354 → b → ba, its only open child. baa ← .6, bab ← −.4.
       q(ba) = (2·.6 − 2·.4)/4 = .1, N = 3. q(b) = (4·.1 − 2·.4)/6 = −.0667, N = 5.
                                                     q(root) = (6·−.2 − 6·.0667)/12 = −.1333, N = 10
    6. root, √10: a .4 + .264, b .467 + .264 → b → ba, √3: baa .8 + .433, bab .3 + .433 → baa.
       baaa ← .8, baab ← −.2. q(baa) = (2·.8 − 2·.2)/4 = .3, N = 3. q(ba) = (4·.3 − 2·.4)/6 = .0667, N = 5.
       q(b) = (6·.0667 − 2·.4)/8 = −.05, N = 7.      q(root) = (6·−.2 − 8·.05)/14 = −.1143, N = 12
    """
    reasoner = create_mcts(
        FakePolicy(golden_script, cycle=True),
        **{**X1, "simulations": 6, "c1": 1.0, "c2": 1e12},
        value=FakeValue(lambda steps: GOLDEN_VALUES["".join(steps)]),
        steps=Steps(),
        checkpointer=InMemorySaver(),
    )
    graph, values = tree_of(reasoner)
    named = {
        "".join(graph.steps(id)): graph.stats[id] for id in graph.walk() if graph.steps(id) != ["a", "a", ""]
    }
    failed = [graph.stats[id] for id in graph.walk() if graph.steps(id) == ["a", "a", ""]]
    assert {path: stats["visits"] for path, stats in named.items()} == {
        "": 12, "a": 5, "b": 7, "aa": 3, "ab": 1, "ba": 5, "bb": 1,
        "aaa": 1, "baa": 3, "bab": 1, "baaa": 1, "baab": 1,
    }  # fmt: skip
    assert {path: stats["q"] for path, stats in named.items()} == pytest.approx({
        "": -1.6 / 14, "a": -0.2, "b": -0.05, "aa": 0.0, "ab": -0.6, "ba": 0.4 / 6, "bb": -0.4,
        "aaa": 1.0, "baa": 0.3, "bab": -0.4, "baaa": 0.8, "baab": -0.2,
    })  # fmt: skip
    assert [(stats["visits"], stats["q"], stats["value"]) for stats in failed] == [(1, -1.0, 0.0)]
    assert {path for path, stats in named.items() if stats["closed"]} == {"aa", "aaa", "bb"}
    assert values["run"]["stopped"] == "rounds"
    assert graph.steps(values["run"]["best"]) == ["a", "a", "a"]


@pytest.mark.parametrize("parallel", [1, 3])
def test_a_plain_loop_over_the_operators_grows_the_same_tree(parallel: int) -> None:
    policy, value, seed, rounds = FakePolicy(ternary), FakeValue(guess), 11, 15
    parameters = {**X1, "branching": 3, "gamma": 0.95, "simulations": rounds, "parallel": parallel}
    reasoner = create_mcts(
        policy,
        **parameters,
        value=value,
        steps=STEPS,
        seed=seed,
        budget=Budget(calls=10_000),
        checkpointer=InMemorySaver(),
    )
    expected, _ = tree_of(reasoner)

    def is_leaf(graph: ThoughtGraph, id: str) -> bool:
        return not graph.stats[id]["children"]

    def is_full(graph: ThoughtGraph, id: str) -> bool:
        return not is_leaf(graph, id)

    def next_leaf(graph: ThoughtGraph) -> str | None:
        return follow(graph, is_leaf, puct_scores(uniform_priors, 1.25, 19652.0))

    setting = Setting(policy, (Message(role="user", content="where to?"),), seed, STEPS, value=value)
    graph = plant("where to?")
    for _ in range(rounds):
        plan = pick_several(graph, parallel, next_leaf, lambda graph, id: 3 - graph.stats[id]["children"])
        if not plan:
            break
        generated = drive(generate(graph, plan, setting, Allowance()))
        graph = graph.updated(generated.writes)
        graph = graph.updated(drive(evaluate(graph, generated.outputs, setting, Allowance())).writes)
        new = [
            id for id in generated.outputs if graph.thoughts[id]["kind"] != "step" or twin(graph, id) == id
        ]
        returns = [(id, 2 * (graph.stats[id]["value"] or 0.0) - 1) for id in new]
        graph = graph.updated(backpropagate_all(graph, returns, gamma=0.95, learning_rate=1.0))
        graph = graph.updated(exhausted(graph, [id for id, _ in returns], is_full))
    assert graph.thoughts == expected.thoughts
    assert graph.stats == expected.stats
    assert len(graph.thoughts) == 1 + len(policy.requests) / 2 > 3 * rounds
    assert {thought["kind"] for thought in graph.thoughts.values()} == {"root", "step", "final", "failed"}


def ternary(question: str, prefix: str) -> list[Reply]:
    """Two ways on, one of which ends at the fourth step, and a reply that fails."""
    return [("left", -0.5), ("right", -0.6, prefix.count("\n") == 3), ("", -2.0)]


@pytest.mark.parametrize("parameters", [MCTS, X1], ids=["widening", "x1"])
def test_the_tree_grows_deeper_with_the_simulations(parameters: dict[str, Any]) -> None:
    depths = []
    for simulations in (2, 8, 32, 128):
        reasoner = create_mcts(
            FakePolicy(binary(1000)),
            **{**parameters, "rollout": False, "simulations": simulations},
            steps=Steps(max_steps=1000, answer=whole_path),
            seed=1,
            budget=Budget(calls=10_000),
            checkpointer=InMemorySaver(),
        )
        graph, _ = tree_of(reasoner)
        depths.append(max(thought["depth"] for thought in graph.thoughts.values()))
    assert depths == sorted(depths)
    assert depths[-1] >= max(4, depths[0] + 3)


def needle_search(depth: int, parameters: dict[str, Any], needle: str, seed: int, **common: Any) -> Reasoner:
    """A search for one leaf of a binary tree, within 4 · 2^depth simulations."""
    return create_mcts(
        FakePolicy(binary(depth), cycle=True),
        **{**parameters, "simulations": 4 * 2**depth},
        verifier=accepts(needle),
        steps=Steps(max_steps=depth, answer=whole_path),
        seed=seed,
        budget=Budget(calls=100_000),
        **common,
    )


DEPTHS = [2, 3, 4, 5, pytest.param(6, marks=pytest.mark.slow)]


@pytest.mark.parametrize("parameters", [MCTS, X1], ids=["widening", "x1"])
@pytest.mark.parametrize("depth", DEPTHS)
def test_a_needle_at_the_depth_limit_is_found_in_every_run(depth: int, parameters: dict[str, Any]) -> None:
    for seed in range(20):
        needle = format(seed * 0x9E3779B1 % 2**depth, f"0{depth}b")
        result = needle_search(depth, parameters, needle, seed).invoke(ask())
        assert result["answer"] == needle, f"seed {seed}"


@pytest.mark.parametrize("depth", DEPTHS)
def test_every_leaf_at_the_depth_limit_is_reached_and_judged(depth: int) -> None:
    graph, values = tree_of(needle_search(depth, X1, "none", 0, checkpointer=InMemorySaver()))
    leaves = {graph.thoughts[id]["answer"] for id in graph.finals()}
    assert leaves == {format(number, f"0{depth}b") for number in range(2**depth)}
    assert all(graph.stats[id]["value"] == 0.0 for id in graph.finals())
    assert values["run"]["stopped"] == "exhausted"


@pytest.mark.parametrize("c1", [0.0, 1.25, 1e6])
@pytest.mark.parametrize("answer_by", ["value", "visits"])
def test_the_answer_has_no_share_of_the_exploration_term(c1: float, answer_by: str) -> None:
    """On a tree that is searched to its end the answer is the best leaf, however much was explored.

    Every leaf is visited once, so that visits tie and fall back to values.
    """
    reasoner = create_mcts(
        FakePolicy(binary(3), cycle=True),
        **{**X1, "c1": c1, "answer_by": answer_by},
        value=FakeValue(guess),
        steps=Steps(max_steps=3, answer=whole_path),
        budget=Budget(calls=1000),
        checkpointer=InMemorySaver(),
    )
    graph, values = tree_of(reasoner)
    leaves = [format(number, "03b") for number in range(8)]
    assert len(graph.finals()) == 8
    assert values["answer"] == max(leaves, key=guess)


def test_an_end_of_a_chain_does_not_end_the_search() -> None:
    graph, values = tree_of(needle_search(3, X1, "none", 0, checkpointer=InMemorySaver()))
    assert len(graph.finals()) == 8
    assert values["answer"] is not None and values["run"]["verified"] is False


def test_a_verified_answer_ends_the_search_only_where_that_is_asked() -> None:
    ended, values = tree_of(needle_search(4, X1, "0110", 0, checkpointer=InMemorySaver()))
    assert values["run"]["stopped"] == "verified" and len(ended.finals()) < 16
    asked_on = needle_search(4, X1, "0110", 0, stop_when_verified=False, checkpointer=InMemorySaver())
    went_on, values = tree_of(asked_on)
    assert values["run"]["stopped"] == "exhausted" and len(went_on.finals()) == 16
    assert values["answer"] == "0110" and values["run"]["verified"] is True


@pytest.mark.parametrize("patience", [1, 2, 5])
def test_a_thought_is_given_up_after_as_many_samples_without_news_as_patience_allows(patience: int) -> None:
    """Under the only first step there is only one, wrong, end: every further sample is a repeat."""

    def script(question: str, prefix: str) -> list[Reply]:
        return [("end", -1.0, True)] if prefix else [("only", -1.0)]

    reasoner = create_mcts(
        FakePolicy(script),
        **{**MCTS, "widening": 1.0, "patience": patience, "simulations": 40},
        verifier=accepts("never"),
        steps=Steps(),
        budget=Budget(calls=1000),
        checkpointer=InMemorySaver(),
    )
    graph, values = tree_of(reasoner)
    only = graph.children(graph.root)[0]
    assert graph.stats[only]["closed"] and graph.stats[only]["children"] == 1 + patience
    assert not graph.stats[graph.root]["closed"], "the root is never given up"
    assert values["run"]["stopped"] == "rounds"


def golden(policy: FakePolicy, **keywords: Any) -> Reasoner:
    """A search of the golden tree in which the exploration is √N_p / (1 + N_c) · prior."""
    return create_mcts(
        policy,
        **{**X1, "c1": 1.0, "c2": 1e12, **keywords},
        value=FakeValue(lambda steps: GOLDEN_VALUES["".join(steps)]),
        steps=Steps(),
        checkpointer=InMemorySaver(),
    )


def named_stats(graph: ThoughtGraph, name: str) -> dict[str, Any]:
    """One statistic by the letters that lead to a thought; failed ones, which say nothing, aside."""
    usable = [id for id in graph.walk() if graph.thoughts[id]["kind"] != "failed"]
    return {"".join(graph.steps(id)): graph.stats[id][name] for id in usable}  # type: ignore[literal-required]


def expanded(policy: FakePolicy) -> list[str]:
    """The chains that were continued, in the order in which they were."""
    return list(dict.fromkeys(request.prefix.replace("\n", "") for request in policy.requests))


def test_two_leaves_a_round_are_those_that_a_virtual_loss_tells_apart() -> None:
    """The tree of `test_a_tree_of_six_simulations…`, of which each round does two simulations in one batch.

    1. root alone: with its children under way there is nothing else to select.
    2. a (.6 + .354 against .5 + .354). With two losses under way it is closed, b is what is left. After the
       four backups: q(a) = .1, q(b) = 0, N = 3 each; q(root) = .05, N = 6.
    3. root, √6: a .55 + .306, b .5 + .306 → a → aa. Two losses: q(a) = (3·.1 − 2)/5 = −.34, N = 5.
       root, √8: a .33 + .236, b .5 + .354 → b → ba. Without a virtual loss a would have been selected again,
       and ab within it. After that the statistics are those of the fifth simulation.
    """
    policy = FakePolicy(golden_script, cycle=True)
    graph, _ = tree_of(golden(policy, parallel=2, simulations=3))
    assert expanded(policy) == ["", "a", "b", "aa", "ba"]
    visits, q = named_stats(graph, "visits"), named_stats(graph, "q")
    assert {name: visits[name] for name in ("", "a", "b", "aa", "ba")} == {
        "": 10,
        "a": 5,
        "b": 5,
        "aa": 3,
        "ba": 3,
    }
    assert {name: q[name] for name in ("", "a", "b", "aa", "ba")} == pytest.approx(
        {"": -1.6 / 12, "a": -0.2, "b": -0.4 / 6, "aa": 0.0, "ba": 0.1}
    )


@pytest.mark.parametrize(("c", "order"), [(0.0, ["", "a", "aa", "b"]), (1.0, ["", "a", "b", "aa"])])
def test_uct_weighs_exploration_by_its_constant(c: float, order: list[str]) -> None:
    """Round 2: a .6 and b .5 with one visit each: a. Round 3: a .55 with 3 visits, b .5 with 1, of 4: c = 0
    stays with a, and goes to aa (.9); c = 1 has a .55 + √(ln 4 / 3) = 1.23, b .5 + √(ln 4 / 1) = 1.68: b.
    Round 4: with c = 1, a .55 and b .5 with 3 visits each, of 6: a, and aa. With c = 0, q(aa) = 0 and q(a) =
    (4·0 − 2·.6)/6 = −.2, which is .4 against .5 of b.
    """
    policy = FakePolicy(golden_script, cycle=True)
    tree_of(golden(policy, formula="uct", c=c, simulations=4))
    assert expanded(policy) == order


def sorted_letters(question: str, state: str | None, step: str) -> Checked:
    """Steps commute: the state is what has been said, whatever the order."""
    return Checked(state="".join(sorted((state or "") + step)))


def letters(question: str, prefix: str) -> list[Reply]:
    """Each thought has the children "a" and "b"; chains end at their fourth step."""
    return [(letter, -1.0, prefix.count("\n") == 3) for letter in "ab"]


def test_a_step_to_a_known_state_is_closed_and_returns_what_is_known_of_it() -> None:
    """Values and order as above: after a and b, a gets aa .8, ab −.6, then b gets ba, bb −.4. The state of ba
    is that of ab: it is closed, and returns −.6 instead of its own .4. q(b) = (−2·.6 − 2·.4)/4 = −.5, N = 3.
    """
    policy = FakePolicy(letters, cycle=True)
    reasoner = create_mcts(
        policy,
        **{**X1, "c1": 1.0, "c2": 1e12, "merge": True, "simulations": 3},
        value=FakeValue(lambda steps: GOLDEN_VALUES["".join(steps)]),
        steps=Steps(check=sorted_letters),
        checkpointer=InMemorySaver(),
    )
    graph, _ = tree_of(reasoner)
    assert expanded(policy) == ["", "a", "b"]
    assert named_stats(graph, "q") == pytest.approx({
        "": (4 * 0.1 - 4 * 0.5) / 8, "a": 0.1, "b": -0.5, "aa": 0.8, "ab": -0.6, "ba": -0.6, "bb": -0.4,
    })  # fmt: skip
    assert {name for name, closed in named_stats(graph, "closed").items() if closed} == {"ba"}
    assert "prune" in reasoner.get_graph().nodes


@pytest.mark.parametrize("parameters", [MCTS, X1], ids=["widening", "x1"])
@pytest.mark.parametrize("parallel", [1, 4])
def test_merging_leaves_one_open_thought_a_state_and_loses_no_state(
    parameters: dict[str, Any], parallel: int
) -> None:
    reasoner = create_mcts(
        FakePolicy(letters, cycle=True),
        **{**parameters, "merge": True, "parallel": parallel, "patience": 4},
        verifier=accepts("none"),
        steps=Steps(check=sorted_letters, answer=whole_path, max_steps=4),
        seed=3,
        budget=Budget(calls=400),
        checkpointer=InMemorySaver(),
    )
    graph, _ = tree_of(reasoner)
    tried = Counter(
        graph.thoughts[id]["state"]
        for id in graph.walk()
        if graph.thoughts[id]["kind"] == "step" and graph.stats[id]["children"]
    )
    ends = {graph.thoughts[id]["state"] for id in graph.finals()}
    assert ends == {"aaaa", "aaab", "aabb", "abbb", "bbbb"}
    assert set(tried) == {"a", "b", "aa", "ab", "bb", "aaa", "aab", "abb", "bbb"}
    assert parameters["rollout"] or set(tried.values()) == {1}


@pytest.mark.parametrize("formula", ["puct", "uct"])
@pytest.mark.parametrize("parallel", [2, 5])
def test_a_needle_is_found_whatever_the_formula_and_however_many_leaves_a_round(
    formula: str, parallel: int
) -> None:
    for parameters in (MCTS, X1):
        own = {**parameters, "formula": formula, "parallel": parallel}
        graph, values = tree_of(needle_search(4, own, "0110", 1, checkpointer=InMemorySaver()))
        assert values["answer"] == "0110"
        assert set(graph.walk()) == set(graph.thoughts)


def test_a_round_of_several_leaves_is_one_batch() -> None:
    batches: list[int] = []

    class Batched(FakePolicy):
        def generate(self, requests: Any) -> Any:
            batches.append(len(requests))
            return super().generate(requests)

    policy = Batched(binary(1000), cycle=True)
    own = {**X1, "parallel": 4, "simulations": 6}
    create_mcts(policy, **own, steps=Steps(max_steps=1000), budget=Budget(calls=10_000)).invoke(ask())
    assert batches == [2, 4, 8, 8, 8, 8]


@pytest.mark.parametrize(
    "parameters", [{"parallel": 0}, {"formula": "ucb"}, {"c": -1.0}, {"c": math.nan}, {"branching": 0}]
)
def test_parameters_that_search_nothing_are_refused(parameters: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        create_mcts(FakePolicy(ternary), **parameters)
