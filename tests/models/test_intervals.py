"""Where a text lies among all that a policy may write: intervals of codes, on `mini`."""

from itertools import pairwise

import pytest

from rlm_agent import Completion, GGUFPolicy, Request
from rlm_agent.models.resolve import load_policy

CODES = [(number + 0.5) / 48 for number in range(48)]


@pytest.fixture(scope="module")
def steps() -> list[Completion]:
    policy = load_policy("mini")
    assert isinstance(policy, GGUFPolicy)
    messages = ({"role": "user", "content": "3 4 5 11 : 24"},)
    return policy.generate(
        [
            Request(messages, "", 24, seed, ("\n",), policy.decoding, code=code)  # type: ignore[arg-type]
            for seed, code in enumerate(CODES)
        ]
    )


def test_each_code_lies_within_the_interval_of_its_text(steps: list[Completion]) -> None:
    for code, step in zip(CODES, steps, strict=True):
        assert step.interval is not None
        begin, length = step.interval
        assert begin - 1e-12 <= code <= begin + length + 1e-12
        assert 0 < length < 1


def test_a_text_has_one_interval_and_no_two_overlap(steps: list[Completion]) -> None:
    intervals = {step.text: step.interval for step in steps if step.interval is not None}
    for step in steps:
        assert step.interval == pytest.approx(intervals[step.text], abs=1e-9)
    for (first, length), (second, _) in pairwise(sorted(intervals.values())):
        assert first + length <= second + 1e-9
    assert 3 < len(intervals) < len(CODES)
    assert 0.7 < sum(length for _, length in intervals.values()) <= 1 + 1e-9


def test_without_a_code_there_is_no_interval(steps: list[Completion]) -> None:
    policy = load_policy("mini")
    messages = ({"role": "user", "content": "3 4 5 11 : 24"},)
    request = Request(messages, "", 24, 1, ("\n",), policy.decoding)  # type: ignore[arg-type]
    assert policy.generate([request])[0].interval is None
