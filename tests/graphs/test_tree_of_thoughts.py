"""Tree of Thoughts: trees derived by hand, the paper's pseudocode, and the best leaf of any tree."""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langgraph.checkpoint.memory import InMemorySaver

from rlm_agent import Budget, FakePolicy, FakeValue, Steps, ThoughtGraph, Verdict
from rlm_agent.graphs.tree_of_thoughts import create_tree_of_thoughts
from rlm_agent.models.drive import drive
from rlm_agent.models.fake import Reply, Script
from rlm_agent.models.protocols import Message
from rlm_agent.operators.backtrack import backtrack, depth_first
from rlm_agent.operators.evaluate import evaluate
from rlm_agent.operators.generate import generate
from rlm_agent.operators.prune import twin
from rlm_agent.operators.select import likelihood, own_value
from rlm_agent.operators.setting import Setting
from rlm_agent.structure.budget import Allowance
from rlm_agent.structure.errors import InputError, UnknownNameError
from tests.graphs import scripts
from tests.graphs.scripts import (
    STEPS,
    accepts,
    ask,
    binary,
    grown,
    guess,
    ternary,
    thread,
    wander,
)
from tests.structure.trees import graft, marked, plant
from tests.structure.trees import grown as planted

searched = partial(scripts.searched, create_tree_of_thoughts)


def expanded(policy: FakePolicy) -> list[str]:
    """The chains that were continued, in the order in which they were."""
    return list(dict.fromkeys(request.prefix.replace("\n", "") for request in policy.requests))


GOLDEN = {
    "a": 0.3, "b": 0.8, "c": 0.6,
    "ba": 0.5, "bb": 0.9, "bc": 0.1, "ca": 0.7, "cb": 0.2,
    "bba": 0.4, "bbb": 0.85, "bbc": 0.1, "bab": 0.8, "bac": 0.05, "caa": 0.9, "cab": 0.3, "cac": 0.05,
}  # fmt: skip
"""The values of the steps; any other step says nothing, and so fails."""
ENDS = ("cb", "bba", "bbb", "bbc", "bab", "caa", "cab", "cac")


def golden_script(question: str, prefix: str) -> list[Reply]:
    """Each thought has the children "a", "b" and "c"; `ENDS` end their chains."""
    path = prefix.replace("\n", "")
    return [(letter if path + letter in GOLDEN else "", -1.0, path + letter in ENDS) for letter in "abc"]


def golden(**keywords: Any) -> tuple[list[str], dict[str, Any], ThoughtGraph]:
    """What was expanded, the final state and the tree of a search of the golden tree."""
    policy = FakePolicy(golden_script, cycle=True)
    value = FakeValue(lambda steps: GOLDEN.get("".join(steps), 0.0))
    graph, values = searched(policy, **{"value": value, "proposals": 3, **keywords})
    return expanded(policy), values, graph


def test_breadth_first_keeps_the_best_of_each_level() -> None:
    """Algorithm 1 with k = 3, b = 2.

    1. S' = a .3, b .8, c .6; S = b, c.
    2. S' = ba .5, bb .9, bc .1, ca .7, and aside cb (final) and cc (failed); S = bb, ca.
    3. All of bb's and ca's children are finished, S is empty. The best of all is caa .9.
    """
    order, values, graph = golden(breadth=2)
    assert order == ["", "b", "c", "bb", "ca"]
    assert values["answer"] == "caa"
    assert values["run"]["stopped"] == "exhausted" and values["run"]["round"] == 4
    assert all(graph.stats[id]["closed"] for id in graph.walk())


def test_levels_are_bounded_by_rounds() -> None:
    order, values, _ = golden(breadth=2, rounds=2)
    assert order == ["", "b", "c"]
    assert values["answer"] == "cb" and values["run"]["stopped"] == "rounds"


def test_depth_first_visits_the_best_child_first_and_ends_at_the_first_answer() -> None:
    """Algorithm 2 with k = 3: root → b (.8 before .6, .3) → bb (.9) → bbb (.85), which is put out."""
    order, values, _ = golden(search="dfs")
    assert order == ["", "b", "bb"]
    assert values["answer"] == "bbb"
    assert values["run"]["stopped"] == "exhausted"


def test_depth_first_goes_back_to_the_next_best_sibling_upward() -> None:
    """Algorithm 2 with k = 3, v_th = .15 and a verifier that accepts cab only.

    root → b → bb, whose answers are all rejected. Back to b → ba: baa fails, bab is rejected, bac .05 is
    pruned. Back to b: bc .1 is pruned, b is exhausted. Back to the root → c → ca, where cab is accepted.
    """
    order, values, graph = golden(search="dfs", threshold=0.15, verifier=accepts("cab"))
    assert order == ["", "b", "bb", "ba", "c", "ca"]
    assert values["answer"] == "cab" and values["run"]["stopped"] == "verified"
    closed = {
        "".join(graph.steps(id))
        for id in graph.walk()
        if graph.thoughts[id]["kind"] == "step" and graph.stats[id]["closed"]
    }
    assert closed == {"bb", "ba", "bac", "bc", "b", "ca", "c"}


def test_an_answer_waits_for_its_turn() -> None:
    """Under the root, step x .9 comes before the answer f .8; x leads to the answer g .3, the first."""
    worth = {"x": 0.9, "f": 0.8, "xg": 0.3}

    def script(question: str, prefix: str) -> list[Reply]:
        return [("g", -1.0, True)] if prefix else [("f", -1.0, True), ("x", -1.0)]

    def answer(**keywords: Any) -> str | None:
        value = FakeValue(lambda steps: worth["".join(steps)])
        policy = FakePolicy(script, cycle=True)
        found = searched(policy, value=value, search="dfs", proposals=2, **keywords)[1]["answer"]
        return None if found is None else str(found)

    assert answer() == "xg"
    assert answer(threshold=0.5) == "f", "xg is pruned, so that f's turn comes"
    assert answer(rounds=1) == "f", "and where the search ends early, f is better than nothing"


def test_depth_first_expands_no_more_than_rounds_and_no_more_children_than_breadth() -> None:
    order, values, _ = golden(search="dfs", verifier=accepts("none"), rounds=4)
    assert order == ["", "b", "bb", "ba"] and values["run"]["stopped"] == "rounds"
    order, values, _ = golden(search="dfs", verifier=accepts("none"), breadth=1)
    assert order == ["", "b", "bb"] and values["run"]["stopped"] == "exhausted"
    assert values["answer"] in ENDS


def test_all_is_searched_where_a_verified_answer_is_not_to_end_it() -> None:
    """The rejected answers under bb and ba, which come before cab, are not taken for it."""
    order, values, _ = golden(search="dfs", verifier=accepts("cab"), stop_when_verified=False)
    assert {"bb", "ba", "c", "ca", "a"} <= set(order)
    assert values["answer"] == "cab" and values["run"]["verified"] is True


@pytest.mark.parametrize("search", ["bfs", "dfs"])
def test_without_a_value_thoughts_are_ranked_by_likelihood(search: str) -> None:
    """Of likely −.1 and unlikely −2, both of which lead on by −1 to an answer."""

    def script(question: str, prefix: str) -> list[Reply]:
        if prefix:
            return [("end", -1.0, True)]
        return [("unlikely", -2.0), ("likely", -0.1)]

    policy = FakePolicy(script, cycle=True)
    _, values = searched(policy, search=search, proposals=2, breadth=1)
    assert expanded(policy) == ["", "likely"]
    assert values["answer"] == "likelyend"


@pytest.mark.parametrize(("search", "most"), [("bfs", 6 + 3 * 5 * 6), ("dfs", 3 * 6)])
def test_the_game_of_24_has_three_steps_of_which_five_are_kept(search: str, most: int) -> None:
    """Each level is one batch of at most b · k samples; the last one ends the chains."""

    def script(question: str, prefix: str) -> list[Reply]:
        last = prefix.count("\n") == 2
        return [(str(digit), -1.0, last) for digit in range(6)]

    policy = FakePolicy(script, cycle=True)
    graph, values = searched(policy, search=search, value=FakeValue(guess), proposals=6, breadth=5)
    written = [request.prefix.count("\n") for request in policy.requests]
    depths = [written.count(depth) for depth in range(3)]
    assert depths == ([6, 30, 30] if search == "bfs" else [6, 6, 6])
    assert len(policy.requests) <= most
    assert {graph.thoughts[id]["depth"] for id in graph.finals()} == {3}
    assert values["answer"] is not None


Tree = dict[str, tuple[float, "Tree"]]
"""Of each child its text, its value and what is below it; where nothing is, a chain ends."""

trees: st.SearchStrategy[Tree] = st.recursive(
    st.just({}),
    lambda below: st.lists(st.tuples(st.floats(0, 1), below), min_size=1, max_size=3).map(
        lambda children: {str(number): child for number, child in enumerate(children)}
    ),
    max_leaves=12,
).filter(bool)


def at(tree: Tree, path: Sequence[str]) -> tuple[float, Tree]:
    """The value and the children of a thought."""
    value = 1.0
    for step in path:
        value, tree = tree[step]
    return value, tree


def script_of(tree: Tree) -> Script:
    """The policy that writes a tree's steps, sibling by sibling."""

    def script(question: str, prefix: str) -> list[Reply]:
        children = at(tree, prefix.split())[1]
        return [(text, -1.0, not below) for text, (_, below) in children.items()]

    return script


def leaves(tree: Tree, path: str = "") -> dict[str, float]:
    """The value of each chain that ends, by its text."""
    found = {}
    for text, (value, below) in tree.items():
        found.update(leaves(below, path + text) if below else {path + text: value})
    return found


def search_tree(tree: Tree, **keywords: Any) -> tuple[list[str], dict[str, Any]]:
    policy = FakePolicy(script_of(tree), cycle=True)
    value = FakeValue(lambda steps: at(tree, steps)[0])
    _, values = searched(policy, value=value, proposals=3, **keywords)
    return expanded(policy), values


@settings(max_examples=40)
@given(trees)
def test_a_breadth_that_keeps_all_finds_the_best_leaf(tree: Tree) -> None:
    _, values = search_tree(tree, breadth=27)
    worth = leaves(tree)
    assert worth[values["answer"]] == max(worth.values())


@settings(max_examples=40)
@given(trees, st.data())
def test_a_depth_first_search_that_prunes_nothing_finds_the_one_right_leaf(
    tree: Tree, data: st.DataObject
) -> None:
    right = data.draw(st.sampled_from(sorted(leaves(tree))))
    _, values = search_tree(tree, search="dfs", breadth=3, threshold=0.0, verifier=accepts(right))
    assert values["answer"] == right and values["run"]["stopped"] == "verified"


@settings(max_examples=40)
@given(trees, st.floats(0, 1))
def test_a_depth_first_search_goes_the_way_of_algorithm_2(tree: Tree, threshold: float) -> None:
    """Recursion over the tree itself; a verifier that accepts nothing makes it go all the way."""
    way: list[str] = []

    def dfs(path: str) -> None:
        way.append(path)
        children = at(tree, path)[1]
        for text in sorted(children, key=lambda text: -children[text][0]):
            value, below = children[text]
            if below and value >= threshold:
                dfs(path + text)

    dfs("")
    order, values = search_tree(tree, search="dfs", threshold=threshold, verifier=accepts("none"))
    assert order == way
    assert values["run"]["stopped"] == "exhausted"


class Plain:
    """The paper's pseudocode over the pure operators, without a state machine."""

    def __init__(self, policy: FakePolicy, seed: int) -> None:
        message = Message(role="user", content="where to?")
        self.setting = Setting(policy, (message,), seed, STEPS, value=FakeValue(guess))
        self.graph = plant("where to?")

    def expand(self, ids: Sequence[str], k: int) -> list[str]:
        """The distinct new open thoughts under `ids`, in the order of their birth."""
        written = drive(generate(self.graph, [(id, k) for id in ids], self.setting, Allowance()))
        self.graph = self.graph.updated(written.writes)
        judged = drive(evaluate(self.graph, written.outputs, self.setting, Allowance()))
        self.graph = self.graph.updated(judged.writes)
        kinds = self.graph.thoughts
        return [id for id in written.outputs if kinds[id]["kind"] == "step" and twin(self.graph, id) == id]

    def worth(self, id: str) -> float:
        return self.graph.stats[id]["value"] or 0.0

    def bfs(self, k: int, b: int) -> None:
        level = [self.graph.root]
        while level:
            level = sorted(self.expand(level, k), key=self.worth, reverse=True)[:b]
            level.sort(key=list(self.graph.walk()).index)

    def dfs(self, id: str, k: int, b: int, threshold: float) -> None:
        children = sorted(self.expand([id], k), key=self.worth, reverse=True)
        for child in [child for child in children if self.worth(child) >= threshold][:b]:
            self.dfs(child, k, b, threshold)


@pytest.mark.parametrize("search", ["bfs", "dfs"])
@pytest.mark.parametrize("seed", [3, 11])
def test_a_plain_loop_over_the_operators_grows_the_same_tree(search: str, seed: int) -> None:
    policy = FakePolicy(ternary)
    own: dict[str, Any] = {"search": search, "proposals": 4, "breadth": 2}
    if search == "dfs":
        own |= {"threshold": 0.2, "verifier": accepts("none")}
    graph, _ = searched(policy, **own, value=FakeValue(guess), steps=STEPS, seed=seed)
    plain = Plain(policy, seed)
    if search == "bfs":
        plain.bfs(4, 2)
    else:
        plain.dfs(plain.graph.root, 4, 2, 0.2)
    assert plain.graph.thoughts == graph.thoughts
    assert len(graph.thoughts) > 12
    assert {id: stats["children"] for id, stats in plain.graph.stats.items()} == {
        id: stats["children"] for id, stats in graph.stats.items()
    }


BOTH = [{"search": "bfs"}, {"search": "dfs"}, {"search": "dfs", "verifier": accepts("none")}]


@pytest.mark.parametrize("own", BOTH, ids=["bfs", "dfs", "verified"])
@settings(max_examples=10)
@given(
    tokens=st.none() | st.integers(1, 50),
    calls=st.integers(1, 50),
    nodes=st.none() | st.integers(1, 50),
    seed=st.integers(0, 999),
)
def test_no_budget_is_exceeded(
    own: dict[str, Any], tokens: int | None, calls: int, nodes: int | None, seed: int
) -> None:
    policy, value = FakePolicy(wander), FakeValue(guess)
    budget = Budget(tokens=tokens, calls=calls, nodes=nodes)
    graph, values = searched(policy, value=value, **own, budget=budget, seed=seed, steps=STEPS)
    assert len(policy.requests) + len(value.candidates) == values["usage"]["model_calls"] <= calls
    assert nodes is None or len(graph.thoughts) - 1 <= nodes
    assert tokens is None or values["usage"]["completion_tokens"] <= tokens


@pytest.mark.parametrize("own", BOTH, ids=["bfs", "dfs", "verified"])
def test_replies_that_fail_and_values_that_are_no_numbers_harm_nobody_else(own: dict[str, Any]) -> None:
    odd = FakeValue(lambda steps: math.nan if steps[-1] == "left" else 0.5)
    policy = FakePolicy(wander, fails={1: "connection reset"})
    graph, values = searched(policy, value=odd, **own, budget=Budget(calls=80), steps=STEPS)
    assert values["answer"] is not None
    reasons = [thought.get("reason") for thought in graph.thoughts.values()]
    assert reasons.count("connection reset") == 1
    assert len(graph.thoughts) == 1 + len(policy.requests)
    lost = FakePolicy(wander, fails=dict.fromkeys(range(1000), "connection refused"))
    assert searched(lost, **own)[1]["answer"] is None
    assert len(lost.requests) < 20


@pytest.mark.parametrize("search", ["bfs", "dfs"])
def test_what_a_budget_cuts_off_a_batch_is_made_up_for(search: str) -> None:
    """Steps may take six tokens, but take two, so that 13 tokens leave room for 2, 1, 1 … samples a batch."""
    policy = FakePolicy(binary(9), cycle=True)
    _, values = searched(
        policy, search=search, proposals=2, budget=Budget(tokens=13), steps=Steps(max_tokens=6)
    )
    assert values["run"]["stopped"] == "tokens"
    short = [request.prefix for request in policy.requests]
    assert all(short.count(prefix) == 2 for prefix in short[:-1])


@pytest.mark.parametrize("search", ["bfs", "dfs"])
def test_steps_that_only_repeat_are_searched_once(search: str) -> None:
    def script(question: str, prefix: str) -> list[Reply]:
        return [("on", -1.0)]

    policy = FakePolicy(script)
    _, values = searched(policy, search=search, proposals=4, steps=Steps(max_steps=3))
    assert len(policy.requests) == 3 * 4
    assert values["answer"] is None and values["run"]["stopped"] == "exhausted"


def test_equal_ways_through_a_broken_off_search_and_a_whole_one() -> None:
    """Where the search goes on follows from the stored tree alone."""
    own: dict[str, Any] = {
        "search": "dfs", "proposals": 2, "value": FakeValue(guess), "steps": STEPS, "seed": 1,
        "verifier": lambda question, answer: Verdict(False),
    }  # fmt: skip
    whole, _ = searched(FakePolicy(wander), **own, budget=Budget(nodes=24))
    saver = InMemorySaver()
    for nodes in (2, 10, 24):  # whole rounds each
        reasoner = create_tree_of_thoughts(
            FakePolicy(wander), **own, budget=Budget(nodes=nodes), checkpointer=saver
        )
        reasoner.invoke(ask() if nodes == 2 else {"messages": []}, thread())
    broken = grown(reasoner.get_state(thread()).values)
    assert broken.thoughts == whole.thoughts and broken.stats == whole.stats
    assert len(whole.thoughts) > 10


@pytest.mark.parametrize(
    "parameters",
    [
        {"breadth": 0},
        {"proposals": 0},
        {"rounds": 0},
        {"search": "dfs", "threshold": 0.5},
        {"threshold": 0.5, "value": FakeValue(guess)},
        {"search": "dfs", "threshold": 1.5, "value": FakeValue(guess)},
        {"search": "dfs", "threshold": math.nan, "value": FakeValue(guess)},
    ],
)
def test_parameters_that_contradict_each_other_are_refused(parameters: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        create_tree_of_thoughts(FakePolicy(wander), **parameters)


def test_an_unknown_search_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="bfs, dfs"):
        create_tree_of_thoughts(FakePolicy(wander), search="ids")  # type: ignore[arg-type]


def test_thoughts_are_visited_parents_first_and_best_siblings_first() -> None:
    graph, ids = planted({"q": ["a", "b", "c"], "b": ["ba", "bb"]})
    for text, value in {"a": 0.2, "b": 0.9, "c": 0.2, "ba": 0.1, "bb": 0.3}.items():
        graph = marked(graph, ids[text], value=value)
    names = {id: text for text, id in ids.items()}
    assert [names[id] for id in depth_first(graph, own_value)] == ["q", "b", "bb", "ba", "a", "c"]
    assert backtrack(graph, own_value, lambda graph, id: id in (ids["ba"], ids["a"])) == ids["ba"]
    assert backtrack(graph, own_value, lambda graph, id: False) is None


def test_a_deep_chain_is_no_matter() -> None:
    graph, id = plant(), plant().root
    for _ in range(2000):
        graph, id = graft(graph, id, "s")
    assert list(depth_first(graph, lambda graph, id: 0.0))[-1] == id
    assert likelihood(graph, id) == 0.0
