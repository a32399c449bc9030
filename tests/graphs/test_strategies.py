"""What each strategy answers, by worked cases, and what a bad reply does to it."""

from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver

from rlm_agent import (
    Budget,
    FakePolicy,
    FakeValue,
    Steps,
    Verdict,
    create_beam_search,
    create_best_of_n,
    create_chain,
    create_self_consistency,
)
from rlm_agent.graphs.machine.rules import Reasoner
from rlm_agent.models.fake import Reply, Script
from rlm_agent.structure.errors import InputError, UnknownNameError
from tests.graphs.scripts import (
    ASIDES,
    CASES,
    PLANTED,
    RETRIEVING,
    SINGLE,
    STEPS,
    accepts,
    ask,
    grown,
    guess,
    reason,
    thread,
    wander,
)

PLENTY = Budget(calls=1000)


def chains(*answers: str) -> Script:
    """Chains of two steps, begun in turn by "0", "1", …, the n-th of which ends in the n-th answer."""

    def script(question: str, prefix: str) -> list[Reply]:
        if not prefix:
            return [(str(number), -1.0) for number in range(len(answers))]
        return [(answers[int(prefix)], -1.0, True)]

    return script


def scored(*scores: tuple[float, float]) -> FakeValue:
    """The values of the two steps of each of these chains."""
    return FakeValue(lambda steps: scores[int(steps[0])][len(steps) - 1])


def answer_of(reasoner: Reasoner) -> Any:
    return reasoner.invoke(ask())["answer"]


@pytest.mark.parametrize(
    ("aggregation", "answer"), [("last", "y"), ("min", "z"), ("prod", "z"), ("mean", "x")]
)
def test_best_of_n_takes_the_chain_with_the_best_aggregate(aggregation: str, answer: str) -> None:
    """Means are all .5 but for rounding, and ties go to the first."""
    reasoner = create_best_of_n(
        FakePolicy(chains("x", "y", "z"), cycle=True),
        n=3,
        aggregation=aggregation,
        value=scored((0.9, 0.1), (0.2, 0.8), (0.5, 0.5)),
        steps=Steps(),
        budget=PLENTY,
    )
    assert answer_of(reasoner) == answer


@pytest.mark.parametrize(
    ("answers", "scores", "single", "weighted", "majority"),
    [
        ("12 7 12 7 7", [0.9, 0.3, 0.4, 0.3, 0.3], "12", "12", "7"),
        ("7 12 7 3", [0.2, 0.9, 0.3, 0.1], "12", "12", "7"),
        ("5 8 8", [0.6, 0.4, 0.4], "5", "8", "8"),
    ],
)
def test_best_weighted_and_majority_part_ways(
    answers: str, scores: list[float], single: str, weighted: str, majority: str
) -> None:
    def policy() -> FakePolicy:
        return FakePolicy(chains(*answers.split()), cycle=True)

    common: dict[str, Any] = {"n": len(scores), "steps": Steps(), "budget": PLENTY}
    value = scored(*((0.0, score) for score in scores))
    assert answer_of(create_best_of_n(policy(), value=value, aggregation="last", **common)) == single
    reasoner = create_best_of_n(policy(), value=value, aggregation="last", weighted=True, **common)
    assert answer_of(reasoner) == weighted
    assert answer_of(create_self_consistency(policy(), **common)) == majority


@pytest.mark.parametrize(
    ("answers", "winner"), [("a b a c a", "a"), ("x y y x", "x"), ("1/2 3 0.5 3 \\frac{1}{2}", "1/2")]
)
@pytest.mark.parametrize("parallel", [None, 1, 2])
def test_self_consistency_counts_votes(answers: str, winner: str, parallel: int | None) -> None:
    policy = FakePolicy(chains(*answers.split()), cycle=True)
    n = len(answers.split())
    reasoner = create_self_consistency(policy, n=n, parallel=parallel, steps=Steps(), budget=PLENTY)
    assert answer_of(reasoner) == winner


def test_similar_texts_with_different_answers_do_not_merge_in_a_vote() -> None:
    said = [f"So the number of marbles in the box is {n} marbles." for n in (12, 15, 15)]
    reasoner = create_self_consistency(
        FakePolicy(chains(*said), cycle=True), n=3, steps=Steps(), budget=PLENTY
    )
    assert answer_of(reasoner) == said[1]


def test_a_verifier_picks_the_right_chain_of_n() -> None:
    policy = FakePolicy(chains("4", "5", "6"), cycle=True)
    reasoner = create_best_of_n(policy, n=3, verifier=accepts("6"), steps=Steps(), budget=PLENTY)
    assert answer_of(reasoner) == "6"


def test_a_chain_is_greedy_unless_a_temperature_is_given() -> None:
    def script(question: str, prefix: str) -> list[Reply]:
        return [("unlikely", -1.5, True), ("likely", -0.5, True)]

    policy = FakePolicy(script)
    assert answer_of(create_chain(policy, steps=Steps(), budget=PLENTY, seed=1)) == "likely"
    assert len(policy.requests) == 1
    drawn = {
        answer_of(create_chain(FakePolicy(script), temperature=1.0, steps=Steps(), seed=seed))
        for seed in range(20)
    }
    assert drawn == {"likely", "unlikely"}


LATTICE: dict[str, list[Reply]] = {
    "": [("a", -0.1), ("b", -0.2), ("c", -0.3)],
    "a": [("a", -3.0), ("b", -4.0, True), ("c", -5.0)],
    "b": [("a", -0.5), ("b", -2.0, True), ("c", -5.0)],
    "ba": [("a", -0.1, True), ("b", -0.3, True), ("c", -6.0)],
    "aa": [("a", -0.1, True), ("b", -0.2), ("c", -6.0)],
}  # fmt: skip
"""Of each chain, its next steps and their log-probabilities."""


def lattice(question: str, prefix: str) -> list[Reply]:
    return LATTICE[prefix.replace("\n", "")]


def beam(**common: Any) -> dict[str, Any]:
    """The final state's values of a beam of two over the lattice, three expansions each."""
    reasoner = create_beam_search(
        FakePolicy(lattice, cycle=True),
        **{"width": 2, "expansions": 3, **common},
        steps=Steps(answer=lambda question, steps: "".join(steps), max_steps=3),
        budget=PLENTY,
        checkpointer=InMemorySaver(),
    )
    reasoner.invoke(ask(), thread())
    values: dict[str, Any] = reasoner.get_state(thread()).values
    return values


def written_under(values: dict[str, Any]) -> set[str]:
    """The chains that were expanded."""
    graph = grown(values)
    return {"".join(graph.steps(id)) for id in graph.walk() if graph.stats[id]["children"]}


def test_a_beam_without_a_value_keeps_the_likeliest_chains_and_answers_with_the_likeliest() -> None:
    """Round 1 (six samples, doubles merged): a −.1, b −.2 stay, c −.3 goes.
    Round 2: of aa −3.1, ac −5.1, ba −.7, bc −5.2 stay ba and aa; ab −4.1 and bb −2.2 are finished.
    Round 3: baa −.8, bab −1, aaa −3.2 are finished; nothing is left. The likeliest is baa.
    """
    values = beam()
    assert written_under(values) == {"", "a", "b", "aa", "ba"}
    assert values["answer"] == "baa"
    assert values["run"]["stopped"] == "exhausted"


def test_a_beam_with_a_value_follows_it_against_the_likelihood() -> None:
    worth = {"b": 0.9, "bb": 0.8, "ba": 0.1, "bc": 0.05}
    values = beam(width=1, value=FakeValue(lambda steps: worth.get("".join(steps), 0.0)))
    assert written_under(values) == {"", "b", "ba"}
    assert values["answer"] == "bb"


def test_a_beam_merges_what_leads_to_one_place_before_it_ranks() -> None:
    values = beam()
    graph = grown(values)
    doubles = graph.children(graph.root)[3:]
    assert len(doubles) == 3
    assert all(graph.stats[id]["closed"] and not graph.stats[id]["children"] for id in doubles)


def test_a_beam_that_ran_empty_begins_anew_until_the_budget_is_spent() -> None:
    def dead_end(question: str, prefix: str) -> list[Reply]:
        return [("x", -1.0)]

    policy = FakePolicy(dead_end)
    reasoner = create_beam_search(
        policy, width=1, expansions=2, steps=Steps(max_steps=2), budget=Budget(calls=20)
    )
    result = reasoner.invoke(ask())
    assert result["answer"] is None
    assert len(policy.requests) == result["usage"]["model_calls"] == 20


def test_independent_chains_are_begun_as_many_at_a_time_as_asked() -> None:
    policy = FakePolicy(chains(*"abcdefg"), cycle=True)
    create_self_consistency(policy, n=7, parallel=3, steps=Steps(), budget=PLENTY).invoke(ask())
    begun = [not request.prefix for request in policy.requests]
    assert begun == [True] * 3 + [False] * 3 + [True] * 3 + [False] * 3 + [True, False]


@pytest.mark.parametrize("case", [case for case in CASES if case not in SINGLE])
def test_a_reply_that_fails_is_kept_with_its_reason_and_loses_nothing_else(case: str) -> None:
    policy = FakePolicy(wander, fails={1: "connection reset"})
    reasoner = reason(case, policy, checkpointer=InMemorySaver())
    reasoner.invoke(ask(), thread())
    values = reasoner.get_state(thread()).values
    reasons = [
        thought.get("reason") for thought in values["thoughts"].values() if thought["kind"] == "failed"
    ]
    assert reasons.count("connection reset") == 1
    assert all(reasons)
    assert len(policy.requests) == values["usage"]["nodes"] or case in (*ASIDES, *RETRIEVING)
    assert len(values["thoughts"]) == 1 + PLANTED.get(case, 0) + values["usage"]["nodes"]
    assert values["answer"] is not None


@pytest.mark.parametrize("case", list(CASES))
def test_a_policy_that_always_fails_ends_the_search_though_it_spends_no_tokens(case: str) -> None:
    policy = FakePolicy(wander, fails=dict.fromkeys(range(1000), "connection refused"))
    result = reason(case, policy, budget=Budget(tokens=4000)).invoke(ask())
    assert len(policy.requests) < 20
    assert result["answer"] is None
    assert result["messages"][-1].content.startswith("No answer was found (stopped: ")


def test_a_policy_that_fails_for_a_while_does_not_end_the_search() -> None:
    policy = FakePolicy(wander, fails=dict.fromkeys(range(2), "connection refused"))
    assert reason("mcts", policy).invoke(ask())["usage"]["nodes"] > 10


@pytest.mark.parametrize("case", list(CASES))
def test_a_failed_thought_is_never_the_answer(case: str) -> None:
    """Where all finished chains are judged wrong, a failure does not outrank them."""

    def script(question: str, prefix: str) -> list[Reply]:
        return [("", -0.1), ("wrong", -0.2, True), ("word after word after word after word", -0.1)]

    reasoner = reason(case, FakePolicy(script), verifier=accepts("right"), temperature=1.0, seed=3)
    assert reasoner.invoke(ask())["answer"] in {"wrong", None}


class Recorded:
    """A verifier that knows the right answer, and records what it is given."""

    def __init__(self, gold: str) -> None:
        self.gold = gold
        self.given: list[tuple[str, str]] = []

    def __call__(self, *given: str) -> Verdict:
        question, answer = given
        self.given.append((question, answer))
        return Verdict(answer == self.gold, f"the right answer is {self.gold}")


@pytest.mark.parametrize("case", list(CASES))
def test_what_the_verifier_knows_reaches_neither_policy_nor_value_nor_thoughts(case: str) -> None:
    def run(gold: str) -> tuple[Any, ...]:
        policy, value, verifier = FakePolicy(wander), FakeValue(guess), Recorded(gold)
        reasoner = reason(case, policy, value=value, verifier=verifier, checkpointer=InMemorySaver())
        question = ask()
        question["messages"][0].additional_kwargs = {"gold": gold, "answer": gold}
        reasoner.invoke(question, thread())
        values = reasoner.get_state(thread()).values
        asked = sorted(map(repr, policy.requests)), sorted(map(repr, value.candidates))
        tree = values["thoughts"], values["stats"], asked
        assert gold not in repr(tree)
        assert all(
            question == "where to?" and answer.startswith("answer") for question, answer in verifier.given
        )
        assert case in SINGLE or verifier.given
        return tree

    assert run("POISON-417") == run("POISON-592")


@pytest.mark.parametrize(
    ("create", "parameters"),
    [
        (create_best_of_n, {"n": 0}),
        (create_best_of_n, {"parallel": 0}),
        (create_self_consistency, {"n": -1}),
        (create_beam_search, {"width": 0}),
        (create_beam_search, {"expansions": 0}),
        (create_chain, {"temperature": -1.0}),
        (create_chain, {"top_p": 0.0}),
        (create_chain, {"tools": ["search"]}),
        (create_beam_search, {"retriever": object()}),
    ],
)
def test_parameters_that_make_no_search_are_refused(create: Any, parameters: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        create(FakePolicy(wander), steps=STEPS, **parameters)


def test_an_unknown_aggregation_is_refused_before_the_search() -> None:
    with pytest.raises(UnknownNameError):
        create_best_of_n(FakePolicy(wander), aggregation="median")
