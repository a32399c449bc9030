"""Support: the words of a query in its passage, and the numbers of a chain in what it read or computed."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_agent import FakeValue
from rlm_agent.models.protocols import Candidate, Message
from rlm_agent.models.support import SupportValue, covered, foundations, support
from rlm_agent.models.values import MixedValue

ASKED = "What do 46 boxes of the Duszox drill, blue, cost?"
SEARCH = "Action: search[Duszox drill, blue]"
RIGHT = "Observation: Duszox drill, blue: 12.50 dollars, 4 in a box."
WRONG = "Observation: Duszox drill, red: 9.50 dollars, 4 in a box."


@pytest.mark.parametrize(
    ("query", "passage", "share"),
    [
        ("Duszox drill, blue", "the DUSZOX drill (blue)", 1.0),
        ("Duszox drill, blue", "Duszox drill, red", 2 / 3),
        ("drill 7", "drill 17", 1 / 2),
        ("of a", "nothing", 1.0),
        ("lamp", "", 0.0),
    ],
)
def test_a_query_is_covered_by_the_share_of_its_words(query: str, passage: str, share: float) -> None:
    assert covered(query, passage) == pytest.approx(share)


@pytest.mark.parametrize(
    ("steps", "founded"),
    [
        (["46 boxes"], [True]),
        (["47 boxes"], [False]),
        (["4 in a box", RIGHT, "4 in a box"], [False, True]),
        ([RIGHT, "46*4 = 184", "184 pieces"], [True, True, True, True]),
        ([RIGHT, "46*4 = 185", "185 pieces"], [True, True, False, False]),
        (["3*5 = 15", "15"], [False, False, False, False]),
        ([RIGHT, "<<46*4=", "Observation: 184", "Action: Finish[184]"], [True, True, True]),
        (["Action 2: search[drill]", "Observation: 1,840.50", "1840.5"], [True]),
    ],
)
def test_a_number_is_founded_in_the_question_a_passage_or_a_true_calculation(
    steps: list[str], founded: list[bool]
) -> None:
    assert list(foundations(ASKED, steps)) == founded


@pytest.mark.parametrize(
    ("steps", "worth"),
    [
        ([], 0.5),
        ([SEARCH], 0.5),
        ([SEARCH, RIGHT], 1.0),
        ([SEARCH, WRONG], 2 / 3),
        ([SEARCH, WRONG, SEARCH, RIGHT], 5 / 6),
        ([SEARCH, RIGHT, "it is 3"], 0.0),
        ([SEARCH, RIGHT, "46*4 = 184", "<<184*12.5=", "Observation: 2300", "Action: Finish[2300]"], 1.0),
        ([SEARCH, "Observation: Error: OSError: gone"], 0.0),
        ([RIGHT], 3 / 8),  # read before the search, for the question
        (["the drill is blue", RIGHT], 2 / 3),  # read for the step before it
        (["Action: near[drill]", RIGHT], 0.5),  # what another tool says is no passage
    ],
)
def test_support_is_coverage_times_foundation(steps: list[str], worth: float) -> None:
    assert support(ASKED, steps) == pytest.approx(worth)


@given(st.text(), st.lists(st.text() | st.just(SEARCH) | st.text().map("Observation: ".__add__)))
def test_support_of_anything_is_a_share(question: str, steps: list[str]) -> None:
    assert 0 <= support(question, steps) <= 1


def test_it_is_a_value_that_mixes_with_others_and_costs_nothing() -> None:
    value = MixedValue([SupportValue(), FakeValue(lambda steps: 0.5)], "product")
    messages = (Message(role="user", content=ASKED),)
    (score,) = value.score([Candidate(messages, (SEARCH, WRONG), False)])
    assert math.isclose(score.value, 1 / 3) and score.error is None
    assert SupportValue("look").identity != SupportValue().identity
    (own,) = SupportValue("look").score(
        [Candidate(messages, (SEARCH.replace("search", "look"), RIGHT), False)]
    )
    assert own.value == 1.0 and own.calls == 0
