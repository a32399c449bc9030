"""Claims of arithmetic: which are found in a text, and whether they hold."""

import time
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_agent import FakePolicy, Steps, create_beam_search
from rlm_agent.models.fake import Reply
from rlm_agent.models.resolve import load_value
from rlm_agent.tools.arithmetic import check_arithmetic, claims, sound_arithmetic
from tests.graphs.scripts import ask


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("3 * 4 = 12", [("3 * 4 = 12", True)]),
        ("3*4=13", [("3*4 = 13", False)]),
        ("She has 3 + 4 = 7 apples.", [("3 + 4 = 7", True)]),
        ("So 3 × 4 = 12, and 2 + 2 = 5.", [("3 × 4 = 12", True), ("2 + 2 = 5", False)]),
        ("48/2 = 24 = 12*2", [("48/2 = 24", True), ("24 = 12*2", True)]),
        ("5 = 2 + 4", [("5 = 2 + 4", False)]),
        ("<<48/2=24>>24", [("48/2 = 24", True)]),
        ("$4 + $5 = $9", [("$4 + $5 = $9", True)]),
        ("1,000 * 3 = 3,000", [("1,000 * 3 = 3,000", True)]),
        ("50 * 20% = 10", [("50 * 20% = 10", True)]),
        ("(2 + 3) * 4 = 20", [("(2 + 3) * 4 = 20", True)]),
        ("(so 3 + 4 = 7)", [("3 + 4 = 7", True)]),
        ("10 - 4 = 6 (left: 6 9 13)", [("10 - 4 = 6", True)]),
        ("x = 3 + 4 = 8", [("3 + 4 = 8", False)]),
        ("2 - 3 = -1", [("2 - 3 = -1", True)]),
        ("10 / 3 = 3.33", [("10 / 3 = 3.33", True)]),
        ("10 / 3 = 3.34", [("10 / 3 = 3.34", False)]),
        ("10 / 3 = 3.3", [("10 / 3 = 3.3", False)]),
        ("10 / 3 ≈ 3.3", [("10 / 3 ≈ 3.3", True)]),
        ("10 / 3 ≈ 3.4", [("10 / 3 ≈ 3.4", False)]),
        ("1 / 3 = 33.33%", [("1 / 3 = 33.33%", True)]),
    ],
)
def test_claims_are_found_and_checked(text: str, found: list[tuple[str, bool]]) -> None:
    assert [(claim.text, claim.holds) for claim in claims(text)] == found


@pytest.mark.parametrize(
    "text",
    [
        "", "7", "12 = 12", "13 = 12", "x + 3 - 1 = 7", "2x + 3 = 7", "f(3) + 4 = 9", "3 + 4 = 7x",
        "3 + 4 = 7 + y", "a == 3 + 4", "3 + 4 >= 7", "3^2 + 1 = 11", "3**2 = 8", "3 4 + 5 = 10",
        "2(3) + 1 = 8", "4 9 10 13 : 24",
        "1 / 0 = 1", "4! + 1 = 26", "3 + 4 =", "= 4 +", "3 + = 4", "n = 3, m = 4", "page 3-4 = here",
    ],
)  # fmt: skip
def test_what_cannot_be_told_to_be_arithmetic_is_no_claim(text: str) -> None:
    assert claims(text) == []


NUMBERS = st.integers(0, 10**6)


@given(NUMBERS, NUMBERS, st.sampled_from("+-*"), st.integers(-2, 2))
def test_integers_agree_with_python(a: int, b: int, op: str, off: int) -> None:
    right = {"+": a + b, "-": a - b, "*": a * b}[op] + off
    (claim,) = claims(f"then {a} {op} {b} = {right} remain")
    assert claim.holds is (off == 0)


@given(NUMBERS, st.integers(1, 999), st.integers(2, 6))
def test_a_quotient_may_be_rounded_at_its_last_digit(a: int, b: int, places: int) -> None:
    exact = Fraction(a, b)
    shown = round(exact, places)
    assert claims(f"{a} / {b} = {float(shown):.{places}f}")[0].holds
    off = shown + Fraction(1, 10**places)
    assert not claims(f"{a} / {b} = {float(off):.{places}f}")[0].holds


@given(st.text(alphabet="0123456789.,+-*/()=≈%$ x<>", max_size=300))
def test_no_text_raises(text: str) -> None:
    claims(text)


@pytest.mark.parametrize(
    "text", ["1" * 10**6, "1+" * 10**6, "=" * 10**6, "1=" * 10**5, "(" * 10**6, "1 " * 10**6]
)
def test_no_text_takes_long(text: str) -> None:
    started = time.monotonic()
    claims(text)
    assert time.monotonic() - started < 5


def test_a_step_with_a_false_claim_is_refused_and_others_leave_the_state() -> None:
    assert check_arithmetic("q", "s", "3 + 4 = 7").reason is None
    assert check_arithmetic("q", "s", "3 + 4 = 7").state == "s"
    assert check_arithmetic("q", None, "so 3 + 4 = 8, good").reason == "3 + 4 = 8 is false"


def test_the_value_of_a_chain_grows_with_what_holds_and_is_nothing_with_what_does_not() -> None:
    assert sound_arithmetic("q", []) == sound_arithmetic("q", ["a thought"]) == 1 / 2
    assert sound_arithmetic("q", ["1 + 1 = 2", "2 + 2 = 4 = 8 / 2"]) == 4 / 5
    assert sound_arithmetic("q", ["1 + 1 = 2", "2 + 2 = 5"]) == 0
    assert sound_arithmetic("q", ["1 + 1 = 2", "Observation: 2 + 2 = 5"]) == 2 / 3


def script(question: str, prefix: str) -> list[Reply]:
    if "=" in prefix:
        return [("the answer is \\boxed{7}" if "= 7" in prefix else "the answer is \\boxed{8}", -1.0, True)]
    return [("3 + 4 = 8", -0.1), ("3 + 4 = 7", -5.0)]


def test_a_search_says_in_a_word_that_arithmetic_is_its_value() -> None:
    assert getattr(load_value("arithmetic", FakePolicy(script)), "identity", None) == "function:arithmetic"
    policy = FakePolicy(script, cycle=True)
    assert (
        create_beam_search(policy, width=1, expansions=2, value="arithmetic").invoke(ask())["answer"] == "7"
    )
    policy = FakePolicy(script, cycle=True)
    assert create_beam_search(policy, width=1, expansions=2).invoke(ask())["answer"] == "8"


def test_a_search_says_in_a_word_that_false_steps_fail() -> None:
    policy = FakePolicy(script, cycle=True)
    steps = Steps(check=check_arithmetic)
    reasoner = create_beam_search(policy, width=1, expansions=2, steps=steps)
    assert "\\boxed{7}" in reasoner.invoke(ask())["answer"]
