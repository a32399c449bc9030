"""Several values as one: what is made of them, and what becomes of those that fail."""

import asyncio
import math
from collections.abc import Sequence

import pytest

from rlm_agent.models.fake import FakeValue
from rlm_agent.models.protocols import Candidate, Score, Value
from rlm_agent.models.values import MixedValue
from rlm_agent.structure.errors import InputError, UnknownNameError
from tests.models.chains import candidate

CHAINS = [candidate("why", "a"), candidate("why", "b", final=True)]


class Told:
    """A value that says what it was told to, in turn."""

    def __init__(self, *scores: Score, identity: str = "told") -> None:
        self.identity = identity
        self.scores = scores

    def score(self, candidates: Sequence[Candidate]) -> list[Score]:
        return list(self.scores)

    async def ascore(self, candidates: Sequence[Candidate]) -> list[Score]:
        return list(self.scores)


HIGH = Told(Score(0.9, 3), Score(0.8, 4))
LOW = Told(Score(0.5, 1), Score(0.2, 1))
BROKEN = Told(Score(0.0, 2, "out of reach"), Score(math.nan, 5))


@pytest.mark.parametrize(
    ("how", "wanted"),
    [("mean", [0.7, 0.5]), ("min", [0.5, 0.2]), ("max", [0.9, 0.8]), ("product", [0.45, 0.16])],
)
def test_mixtures(how: str, wanted: list[float]) -> None:
    value = MixedValue([HIGH, LOW], how)
    assert isinstance(value, Value)
    scores = value.score(CHAINS)
    assert [score.value for score in scores] == pytest.approx(wanted)
    assert [score.prompt_tokens for score in scores] == [4, 5]
    assert asyncio.run(value.ascore(CHAINS)) == scores
    assert value.score([]) == asyncio.run(value.ascore([])) == []


def test_weights_are_those_of_the_parts_that_speak() -> None:
    value = MixedValue([HIGH, BROKEN, LOW], weights=[3, 5, 1])
    assert [score.value for score in value.score(CHAINS)] == pytest.approx([0.8, 0.65])


@pytest.mark.parametrize("how", ["mean", "min", "max", "product"])
def test_a_part_that_fails_or_says_no_number_is_left_out(how: str) -> None:
    scores = MixedValue([BROKEN, HIGH], how).score(CHAINS)
    assert [(score.value, score.error) for score in scores] == [(0.9, None), (0.8, None)]
    assert [score.prompt_tokens for score in scores] == [5, 9]


def test_only_where_all_fail_the_reasons_are_told() -> None:
    infinite = Told(Score(math.inf), Score(-math.inf))
    assert [score.error for score in MixedValue([BROKEN, infinite]).score(CHAINS)] == [
        "out of reach; a value is no number",
        "a value is no number",
    ]


@pytest.mark.parametrize("count", [0, 1, 3])
def test_too_few_or_too_many_scores_are_the_part_s_failure(count: int) -> None:
    wrong = Told(*[Score(0.5)] * count)
    assert [score.value for score in MixedValue([wrong, HIGH]).score(CHAINS)] == [0.9, 0.8]
    (first, second) = MixedValue([wrong]).score(CHAINS)
    assert first.error == second.error == f"a value sent {count} scores for 2 chains"


def test_values_beyond_the_bounds_are_brought_within() -> None:
    wild = Told(Score(-3.0), Score(7.0))
    assert [score.value for score in MixedValue([wild, HIGH], "product").score(CHAINS)] == [0.0, 0.8]


def test_what_a_mixture_is_stands_in_its_identity() -> None:
    one, two = FakeValue(lambda steps: 0.5), Told(identity="two")
    mixtures = [
        MixedValue([one, two]),
        MixedValue([two, one]),
        MixedValue([one, two], "min"),
        MixedValue([one, two], weights=[2, 1]),
        MixedValue([one]),
    ]
    assert len({mixture.identity for mixture in mixtures}) == len(mixtures)
    assert MixedValue([one, two], weights=[1, 1]).identity == mixtures[0].identity


def test_mixtures_that_are_none_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="choose one of mean, min, max, product"):
        MixedValue([HIGH], "median")
    with pytest.raises(InputError, match="give at least one"):
        MixedValue([])
    with pytest.raises(InputError, match="leave them out"):
        MixedValue([HIGH], "min", weights=[1])
    for weights in ([1], [1, 0], [1, -1], [1, math.nan], [1, math.inf], [1, 1, 1]):
        with pytest.raises(InputError, match="one positive number each"):
            MixedValue([HIGH, LOW], weights=weights)
