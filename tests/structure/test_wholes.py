"""The steps of a task as one whole solution."""

import pytest

from rlm_agent.structure.errors import InputError
from rlm_agent.structure.formats import BOXED, EOIS, PARAGRAPH, WHOLE, pattern, tokens
from rlm_agent.structure.steps import Checked, Steps
from rlm_agent.structure.wholes import in_one


def count_down(question: str, state: str | None, step: str) -> Checked:
    """Numbers that go down from 9, and end at 0."""
    if not step.isdigit() or int(step) >= int(state or 9):
        return Checked(reason=f"{step!r} is not below {state or 9}")
    return Checked(state=step, final=step == "0")


def test_a_solution_may_be_as_long_as_its_steps_together_and_keeps_all_else() -> None:
    steps = Steps(delimiter="\n\n", max_tokens=10, max_steps=4, answer_end=BOXED)
    whole = in_one(steps)
    assert whole.granularity is WHOLE and whole.longest == 40
    assert (whole.answer, whole.answer_end, whole.check) == (steps.answer, BOXED, None)
    assert in_one(whole) is whole
    assert in_one(Steps(format=tokens(5), max_steps=4)).longest == 20


@pytest.mark.parametrize(
    ("solution", "reason"),
    [
        ("5\n3\n0", None),
        (" 5\n3\n0\n", None),
        ("5\n3", None),  # whether it has come to an answer is for `answer` to say
        ("5\n7\n0", "step 2: '7' is not below 5"),
        ("5\n0\n0", "step 3: the solution had ended before it"),
        ("5\n\n3", "step 2: '' is not below 5"),
        ("", "step 1: '' is not below 9"),
    ],
)
def test_a_checker_walks_through_and_the_first_bad_step_refuses_the_solution(
    solution: str, reason: str | None
) -> None:
    check = in_one(Steps(check=count_down)).check
    assert check is not None
    assert check("q", None, solution) == Checked(reason=reason, final=reason is None)


def test_a_checker_begins_at_the_state_that_is_given() -> None:
    check = in_one(Steps(check=count_down, format=PARAGRAPH)).check
    assert check is not None
    assert check("q", "4", "3\n\n1").final
    assert check("q", "4", "5").reason == "step 1: '5' is not below 4"


@pytest.mark.parametrize("format", [tokens(5), pattern("x")])
def test_a_checker_of_steps_that_no_delimiter_ends_is_refused(format: object) -> None:
    with pytest.raises(InputError, match="no delimiter says where these steps end"):
        in_one(Steps(check=count_down, format=format))  # type: ignore[arg-type]
    assert in_one(Steps(check=count_down, format=EOIS)).granularity is WHOLE
