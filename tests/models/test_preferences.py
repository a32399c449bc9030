"""Preferences made of values: Bradley and Terry's arithmetic, who pays, and what a value's failure does."""

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_agent import FakePolicy, FakeValue
from rlm_agent.models.judges import JudgePreference, JudgeValue
from rlm_agent.models.preferences import ValuePreference, choose_preference
from rlm_agent.models.prompts import Prompts
from rlm_agent.models.protocols import Candidate, Composite, Preference, Score
from rlm_agent.structure.errors import InputError
from tests.models.chains import candidate

A, B, C = (candidate("q", name) for name in "abc")


def by_name(**values: float) -> FakeValue:
    """A value that knows these chains."""
    return FakeValue(lambda steps: values[steps[0]])


@pytest.mark.parametrize(
    ("first", "second", "probability"),
    [
        (0.5, 0.5, 0.5),
        (0.8, 0.5, 0.8),  # odds 4 : 1
        (0.8, 0.2, 16 / 17),  # 4 : ¼
        (0.9, 0.75, 0.75),  # 9 : 3
        (1.0, 0.2, 1.0),
        (0.0, 0.2, 0.0),
        (1.0, 1.0, 0.5),
        (0.0, 0.0, 0.5),
        (1.5, 0.5, 1.0),  # brought into the range
    ],
)
def test_odds_of_values_are_the_strengths(first: float, second: float, probability: float) -> None:
    preference = ValuePreference(by_name(a=first, b=second))
    assert [score.value for score in preference.prefer([(A, B)])] == pytest.approx([probability])


@given(st.floats(0.001, 0.999), st.floats(0.001, 0.999))
def test_it_is_the_logistic_function_of_the_difference_of_logits(first: float, second: float) -> None:
    forth, back = ValuePreference(by_name(a=first, b=second)).prefer([(A, B), (B, A)])
    logits = [math.log(value / (1 - value)) for value in (first, second)]
    assert forth.value == pytest.approx(1 / (1 + math.exp(logits[1] - logits[0])))
    assert forth.value + back.value == pytest.approx(1)


async def test_each_chain_is_scored_once_and_the_first_pair_bears_the_cost() -> None:
    value = by_name(a=0.8, b=0.5, c=0.2)
    preference = ValuePreference(value)
    pairs = [(A, B), (A, C), (C, B), (A, A)]
    scores = preference.prefer(pairs)
    assert value.candidates == [A, B, C]
    assert [score.calls for score in scores] == [2, 1, 0, 0]
    assert scores[3].value == 0.5
    assert await preference.aprefer(pairs) == scores
    assert preference.prefer([]) == []
    assert isinstance(preference, Preference | Composite)


class Odd(FakeValue):
    """A value with an error, a number that is none, and a score too few."""

    def score(self, candidates: Sequence[Candidate]) -> list[Score]:
        kinds = {"a": Score(0.7), "b": Score(math.nan), "c": Score(0.1, error="no reply", tokens=3)}
        return [kinds[one.steps[0]] for one in candidates if one.steps[0] in kinds]


def test_a_chain_without_a_value_leaves_its_pairs_in_error_and_no_other() -> None:
    d = candidate("q", "d")
    preference = ValuePreference(Odd(lambda steps: 0.5))
    scores = preference.prefer([(A, B), (C, A), (A, d), (A, A), (B, C)])
    assert [score.error for score in scores] == [
        "a value is no number",
        "no reply",
        "the value sent too few scores",
        None,
        "a value is no number; no reply",
    ]
    assert scores[3].value == 0.5
    assert (scores[1].tokens, scores[4].tokens) == (3, 0)


def test_what_a_pair_may_take_is_twice_what_a_value_may_take() -> None:
    looking = ValuePreference(by_name(a=0.5))
    assert (looking.most_calls, looking.most_tokens) == (2, 0)
    judge = JudgeValue(FakePolicy(lambda question, prefix: []), samples=2, max_tokens=10)
    writing = ValuePreference(judge)
    assert (writing.most_calls, writing.most_tokens) == (4, 40)
    assert len({looking.identity, writing.identity}) == 2 and judge.identity in writing.identity


def test_what_is_given_compares_or_else_the_policy() -> None:
    policy, value = FakePolicy(lambda question, prefix: []), by_name(a=0.5)
    given = ValuePreference(value)
    assert choose_preference(given, None, policy, Prompts()) is given
    assert isinstance(choose_preference(None, value, policy, Prompts.lacking()), ValuePreference)
    judge = choose_preference(None, None, policy, Prompts())
    assert isinstance(judge, JudgePreference)
    assert (judge.most_calls, judge.most_tokens) == (2, 1024)
    with pytest.raises(InputError, match="give one of them"):
        choose_preference(given, value, policy, Prompts())
    with pytest.raises(InputError, match="has not learned to prefer"):
        choose_preference(None, None, policy, Prompts.lacking())


def test_a_specialist_is_asked_in_its_own_words_and_for_few_tokens() -> None:
    def script(question: str, prefix: str) -> list[tuple[str, float, bool]]:
        return [("1" if question.index("\na") < question.index("\nb") else "2", -1.0, True)]

    policy = FakePolicy(script, task="game24")
    prompts = Prompts.lacking(prefer="{question}\n{choices}\nprefer")
    preference = choose_preference(None, None, policy, prompts)
    assert [score.value for score in preference.prefer([(A, B), (B, A)])] == [1.0, 0.0]
    assert policy.requests[0].messages[0]["content"] == "q\nAttempt 1:\na\n\nAttempt 2:\nb\nprefer"
    assert {request.max_tokens for request in policy.requests} == {8}
