"""Diverse verifier tree search: trees derived by hand, the same from a plain loop, ends, restarts, faults."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langgraph.checkpoint.memory import InMemorySaver

from rlm_agent import Budget, FakePolicy, FakeValue, Steps, ThoughtGraph
from rlm_agent.graphs.dvts import create_dvts, families
from rlm_agent.models.drive import drive
from rlm_agent.models.fake import Reply
from rlm_agent.models.protocols import Candidate, Message, Score
from rlm_agent.operators.evaluate import evaluate
from rlm_agent.operators.generate import generate
from rlm_agent.operators.prune import close
from rlm_agent.operators.select import best, own_value
from rlm_agent.operators.setting import Setting
from rlm_agent.structure.budget import Allowance
from rlm_agent.structure.errors import InputError
from tests.graphs.scripts import (
    FOUND,
    STEPS,
    Mortal,
    accepts,
    ask,
    found,
    grown,
    guess,
    thread,
    wander,
    whole_path,
)
from tests.structure.trees import plant

PLENTY = Budget(calls=1000)


def values_of(policy: FakePolicy, **keywords: Any) -> dict[str, Any]:
    """The final state's values of one search."""
    common = {"steps": STEPS, "seed": 7, "budget": PLENTY, "checkpointer": InMemorySaver(), **keywords}
    reasoner = create_dvts(policy, **common)
    reasoner.invoke(ask(), thread())
    values: dict[str, Any] = reasoner.get_state(thread()).values
    return values


def expanded(values: dict[str, Any]) -> list[str]:
    """The chains that were expanded, in the order of the tree."""
    graph = grown(values)
    return ["".join(graph.steps(id)) for id in graph.walk() if graph.stats[id]["children"]]


def letters(*ends: str) -> Callable[[str, str], list[Reply]]:
    """Each thought has the children "a" and "b", in turn; the chains in `ends` have ended."""

    def script(question: str, prefix: str) -> list[Reply]:
        path = prefix.replace("\n", "")
        return [(letter, -1.0, path + letter in ends) for letter in "ab"]

    return script


WHOLE = Steps(answer=whole_path, max_steps=3)

WORTH = {
    "a": 0.5, "b": 0.8,
    "ba": 0.6, "bb": 0.3,
    "baa": 0.4, "bab": 0.7,
    "bba": 0.9, "bbb": 0.1,
}  # fmt: skip


def test_two_subtrees_are_searched_greedily_as_derived_by_hand() -> None:
    """n = 4, width = 2: two subtrees. The policy writes a and b in turn under every text.

    Round 1: the root's children are (a .5, b .8) and (a .5, b .8): both subtrees go on from their own b,
    for no subtree takes the other's place.
    Round 2: the first gets (ba .6, bb .3) and the second, whose text is the same, (ba, bb): both take ba.
    Round 3: (baa .4, bab .7) in either; at depth 3 all chains have ended, and bab is the best of both.
    bba, worth .9, is never written: bb was closed in both subtrees. The answer is the first bab.
    """
    ends = [f"b{x}{y}" for x in "ab" for y in "ab"]
    policy = FakePolicy(letters(*ends), cycle=True)
    values = values_of(
        policy, n=4, width=2, value=FakeValue(lambda steps: WORTH["".join(steps)]), steps=WHOLE
    )
    graph = grown(values)
    first, second = graph.children(graph.root)[1], graph.children(graph.root)[3]
    assert graph.stats[graph.root]["children"] == 4
    assert expanded(values) == ["", "b", "ba", "b", "ba"]
    assert [
        id for id in graph.walk() if graph.stats[id]["children"] and graph.thoughts[id]["depth"] == 1
    ] == [
        first,
        second,
    ]
    assert len(graph.thoughts) == 1 + 4 + 4 + 4
    assert graph.path(values["run"]["best"])[1] == first
    assert values["answer"] == "bab"
    assert values["run"]["stopped"] == "exhausted"


def test_a_subtree_ends_where_its_best_step_ends_a_chain_and_its_other_steps_are_closed() -> None:
    """n = width = 2. Round 1: (a .5, b .8) → b. Round 2: (ba .6, bb .3), and ba ends a chain: so does the
    subtree. Round 1 with b worth less: a goes on instead, and aa, worth less than ab, does not end it."""
    worth = {**WORTH, "aa": 0.1, "ab": 0.2, "aba": 0.3, "abb": 0.2}
    ends = ["aa", "ba", "bb", "aba", "abb"]

    def run(**changed: float) -> dict[str, Any]:
        value = FakeValue(lambda steps: {**worth, **changed}["".join(steps)])
        return values_of(FakePolicy(letters(*ends), cycle=True), n=2, width=2, value=value, steps=WHOLE)

    ended = run()
    assert expanded(ended) == ["", "b"]
    assert ended["answer"] == "ba"
    assert all(stats["closed"] for id, stats in ended["stats"].items() if not stats["children"])
    went_on = run(b=0.4)
    assert expanded(went_on) == ["", "a", "ab"]
    assert went_on["answer"] == "aba", "the best of all finished chains, not only of the last family"


def test_without_a_value_the_likelihood_of_the_whole_chain_decides() -> None:
    """Round 1: a −.4, b −.3 → b. Round 2: under b: ba −.3 − 2, bb −.3 − 1 → bb, which ends."""

    def script(question: str, prefix: str) -> list[Reply]:
        end = bool(prefix)
        first = [("a", -0.4, False), ("b", -0.3, False)]
        return [("a", -2.0, end), ("b", -1.0, end)] if prefix else list(first)

    values = values_of(FakePolicy(script, cycle=True), n=2, width=2, steps=WHOLE)
    assert expanded(values) == ["", "b"]
    assert values["answer"] == "bb"


def test_a_rejected_answer_neither_ends_a_subtree_nor_takes_the_place_of_a_step() -> None:
    """Under every text: "a" goes on and "b", likelier, ends a chain; only aaab is right."""

    def script(question: str, prefix: str) -> list[Reply]:
        return [("a", -1.0), ("b", -0.1, True)]

    values = values_of(
        FakePolicy(script, cycle=True),
        n=2,
        width=2,
        verifier=accepts("aaab"),
        steps=Steps(answer=whole_path, max_steps=5),
    )
    assert expanded(values) == ["", "a", "aa", "aaa"]
    assert (values["answer"], values["run"]["stopped"]) == ("aaab", "verified")


def test_subtrees_that_all_ran_empty_are_begun_anew_until_the_budget_is_spent() -> None:
    def dead_end(question: str, prefix: str) -> list[Reply]:
        return [("x", -1.0)]

    policy = FakePolicy(dead_end)
    values = values_of(policy, n=4, width=2, steps=Steps(max_steps=2), budget=Budget(calls=20))
    assert values["answer"] is None
    assert values["usage"]["model_calls"] == len(policy.requests) == 20
    # 4 first steps and 2 · 2 second ones, twice; then 4 first steps.
    assert grown(values).stats[values["run"]["root"]]["children"] == 12


def test_an_answer_ends_a_search_without_a_verifier_and_not_one_with_a_verifier_that_rejects_it() -> None:
    def script(question: str, prefix: str) -> list[Reply]:
        return [("x", -1.0, True)]

    assert values_of(FakePolicy(script), n=4, width=2)["usage"]["nodes"] == 4
    values = values_of(FakePolicy(script), n=4, width=2, verifier=accepts("y"), budget=Budget(calls=20))
    assert (values["usage"]["nodes"], values["answer"], values["run"]["verified"]) == (20, "x", False)


@pytest.mark.parametrize("parameters", [(3, 2), (2, 4), (0, 1), (4, 0), (-4, 2), (-4, -2)])
def test_parameters_that_make_no_whole_subtrees_are_refused(parameters: tuple[int, int]) -> None:
    n, width = parameters
    with pytest.raises(InputError, match="n must be a multiple of width"):
        create_dvts(FakePolicy(wander), n=n, width=width, steps=STEPS)


def plain_loop(n: int, width: int, seed: int) -> ThoughtGraph:
    """The algorithm as its paper tells it, over the operators: no state machine, no rules."""
    message = Message(role="user", content="where to?")
    setting = Setting(FakePolicy(wander), (message,), seed, STEPS, value=FakeValue(guess))
    graph = plant("where to?")
    leaves: list[str] = []
    while leaves or not graph.finals():
        leaves = leaves or [graph.root] * (n // width)
        plan = [(leaf, width) for leaf in leaves]
        generated = drive(generate(graph, plan, setting, Allowance()))
        graph = graph.updated(generated.writes)
        graph = graph.updated(drive(evaluate(graph, generated.outputs, setting, Allowance())).writes)
        going_on = []
        for number in range(len(leaves)):
            new = generated.outputs[number * width : (number + 1) * width]
            chosen = best(graph, [id for id in new if graph.thoughts[id]["kind"] != "failed"], own_value)
            graph = graph.updated(close(graph, [id for id in new if id != chosen]))
            if chosen is not None and graph.thoughts[chosen]["kind"] == "step":
                going_on.append(chosen)
        leaves = going_on
    return graph


@pytest.mark.parametrize(("n", "width"), [(1, 1), (4, 4), (8, 2), (6, 3), (5, 1)])
@pytest.mark.parametrize("seed", [1, 2, 3, 4, 5])
def test_a_plain_loop_over_the_operators_grows_the_same_tree(n: int, width: int, seed: int) -> None:
    values = values_of(FakePolicy(wander), n=n, width=width, seed=seed, value=FakeValue(guess))
    graph = plain_loop(n, width, seed)
    assert graph.thoughts == values["thoughts"]
    assert graph.stats == values["stats"]
    assert values["run"]["stopped"] == "exhausted"


def test_each_subtree_has_one_open_leaf_at_most_in_every_round() -> None:
    reasoner = create_dvts(
        FakePolicy(wander),
        n=6,
        width=2,
        value=FakeValue(guess),
        verifier=accepts("none"),
        steps=STEPS,
        seed=1,
        budget=Budget(calls=90),
        checkpointer=InMemorySaver(),
    )
    reasoner.invoke(ask(), thread())
    states = [state for state in reasoner.get_state_history(thread()) if state.next == ("select",)]
    assert len(states) > 4
    for state in states:
        graph = grown(state.values)
        open_now = [
            id for id in graph.walk() if not graph.stats[id]["closed"] and not graph.stats[id]["children"]
        ]
        above = [graph.path(id)[1] for id in open_now if id != graph.root]
        assert len(above) == len(set(above)) <= 3


def test_families_are_cut_from_siblings_in_a_row() -> None:
    graph = plant()
    setting = Setting(FakePolicy(wander), (Message(role="user", content="q"),), 1, STEPS)
    outcome = drive(generate(graph, [(graph.root, 5)], setting, Allowance()))
    graph, five = graph.updated(outcome.writes), outcome.outputs
    assert list(families(graph, five, 2)) == [five[:2], five[2:4], five[4:]]
    assert list(families(graph, [], 2)) == []
    parent = next(id for id in five if graph.thoughts[id]["kind"] == "step")
    outcome = drive(generate(graph, [(parent, 1), (graph.root, 1)], setting, Allowance()))
    child, sixth = outcome.outputs
    assert list(families(graph.updated(outcome.writes), [child, sixth], 2)) == [[child], [sixth]]


SEARCH: dict[str, Any] = {
    "n": 6,
    "width": 3,
    "value": FakeValue(guess),
    "verifier": accepts("none"),
    "steps": STEPS,
    "seed": 7,
    "budget": Budget(calls=90),
}


@pytest.mark.parametrize("batches", [0, 1, 3, 5])
def test_a_search_that_broke_off_is_taken_up_and_grows_the_same_tree(batches: int) -> None:
    unbroken = found(create_dvts(FakePolicy(wander), **SEARCH).invoke(ask(), output_keys=FOUND))
    saver = InMemorySaver()
    with pytest.raises(ConnectionError):
        create_dvts(Mortal(batches), **SEARCH, checkpointer=saver).invoke(ask(), thread())
    reasoner = create_dvts(FakePolicy(wander), **SEARCH, checkpointer=saver)
    reasoner.invoke(None, thread())
    assert found(reasoner.get_state(thread()).values) == unbroken


async def test_an_async_run_grows_the_same_tree() -> None:
    unbroken = found(create_dvts(FakePolicy(wander), **SEARCH).invoke(ask(), output_keys=FOUND))
    result = await create_dvts(FakePolicy(wander), **SEARCH).ainvoke(ask(), output_keys=FOUND)
    assert found(result) == unbroken


class Doubtful(FakeValue):
    """A value model that gives no number, or fails, for all but every third candidate."""

    def __init__(self, bad: Score) -> None:
        super().__init__(guess)
        self._bad = bad

    def score(self, candidates: Sequence[Candidate]) -> list[Score]:
        return [self._bad if index % 3 else score for index, score in enumerate(super().score(candidates))]


@pytest.mark.parametrize("bad", [Score(float("nan")), Score(0.0, error="out of memory"), Score(float("inf"))])
def test_a_value_that_gives_no_number_ends_no_search(bad: Score) -> None:
    values = values_of(FakePolicy(wander), n=8, width=2, value=Doubtful(bad))
    assert values["answer"] is not None
    assert all(0 <= (stats["value"] or 0) <= 1 for stats in values["stats"].values())


def test_steps_that_fail_are_kept_with_their_reasons_and_lose_their_family_nothing() -> None:
    policy = FakePolicy(letters(), cycle=True, fails={0: "connection reset", 3: "connection reset"})
    values = values_of(policy, n=4, width=2, value=FakeValue(guess), steps=WHOLE, budget=Budget(nodes=8))
    graph = grown(values)
    children = graph.children(graph.root)
    assert [graph.thoughts[id].get("reason") for id in children] == [
        "connection reset", None, None, "connection reset",
    ]  # fmt: skip
    assert [graph.stats[id]["children"] for id in children] == [0, 2, 2, 0]


bounds = st.none() | st.integers(1, 50)


@settings(max_examples=60, deadline=None)
@given(
    tokens=bounds,
    calls=bounds,
    nodes=bounds,
    seed=st.integers(0, 999),
    width=st.integers(1, 4),
    trees=st.integers(1, 4),
)
def test_no_budget_is_exceeded(
    tokens: int | None, calls: int | None, nodes: int | None, seed: int, width: int, trees: int
) -> None:
    if tokens is calls is nodes is None:
        calls = 40
    policy, value = FakePolicy(wander), FakeValue(guess)
    reasoner = create_dvts(
        policy,
        n=width * trees,
        width=width,
        value=value,
        verifier=accepts("none"),
        steps=STEPS,
        seed=seed,
        budget=Budget(tokens=tokens, calls=calls, nodes=nodes),
    )
    usage = reasoner.invoke(ask())["usage"]
    assert tokens is None or usage["completion_tokens"] <= tokens
    assert nodes is None or len(policy.requests) <= nodes
    assert calls is None or len(policy.requests) + len(value.candidates) <= calls
    assert usage["model_calls"] == len(policy.requests) + len(value.candidates)
