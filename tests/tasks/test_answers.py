"""Answers in free text: what is found, and which are the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_agent.tasks.answers import boxed, free_answer, last_number, normalise


@pytest.mark.parametrize(
    ("text", "content"),
    [
        (r"\boxed{1} and then \boxed{2}", "2"),
        (r"so \boxed{ 3\text{ cm} }.", r"3\text{ cm}"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{a{b{c}}}", "a{b{c}}"),
        (r"\boxed{}", ""),
        (r"\boxed{never closed", None),
        ("nothing", None),
    ],
)
def test_the_last_box_is_read_with_its_braces_balanced(text: str, content: str | None) -> None:
    assert boxed(text) == content


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("3 and 1,234.5", "1,234.5"),
        ("it is -3", "-3"),
        ("it is −3", "−3"),
        ("or 1.5", "1.5"),
        ("or 7/2", "7/2"),
        ("that makes 12.", "12"),
        ("from 5-3 take", "3"),
        ("none", None),
        ("", None),
    ],
)
def test_the_last_number_is_read_whole(text: str, number: str | None) -> None:
    assert last_number(text) == number


@pytest.mark.parametrize(
    ("answer", "same"),
    [
        (r"\boxed{\dfrac12}", "1/2"),
        (r"\frac{1}{2}", "0.5"),
        (r"-\frac{2}{4}", "-1/2"),
        (r"\boxed{3\text{ cm}}", "3"),
        (r"\boxed{\$18}", "18"),
        ("$18", "18.00"),
        ("1,234.5", "1234.5"),
        ("−5", "-5"),
        ("50%", "50"),
        ("007", "7"),
        ("Blue  Whale", "blue whale"),
    ],
)
def test_equal_answers_are_equal(answer: str, same: str) -> None:
    assert normalise(answer) == normalise(same)


@pytest.mark.parametrize(
    ("answer", "other"),
    [
        ("-5", "5"),
        ("5", "±5"),
        ("-5", r"\pm 5"),
        ("1/2", "2"),
        ("1.5", "15"),
        ("the answer is 12 apples", "the answer is 15 apples"),
        ("1,234", "1.234"),
        ("1/0", "0"),
        ("", "0"),
    ],
)
def test_different_answers_stay_apart(answer: str, other: str) -> None:
    assert normalise(answer) != normalise(other)


def test_a_chain_answers_with_its_last_box_else_with_its_last_number_else_not_at_all() -> None:
    assert free_answer("q", [r"\boxed{7}", "that was 2 lines ago"]) == "7"
    assert free_answer("q", ["2 apples", "and 3"]) == "3"
    assert free_answer("q", ["no", "idea"]) is None
    assert free_answer("q", []) is None


@given(st.text())
def test_any_text_is_normalised_once_and_for_all(text: str) -> None:
    once = normalise(text)
    assert normalise(once) == once
