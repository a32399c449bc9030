"""Whole Countdown solutions as single steps."""

import pytest

from rlm_agent.structure.formats import WHOLE
from rlm_agent.structure.steps import Checked
from rlm_agent.structure.wholes import in_one
from rlm_agent.tasks.registry import get_task

QUESTION = "4 9 10 13 : 24"
RIGHT = "13 - 9 = 4 | 4 4 10\n10 - 4 = 6 | 4 6\n6 * 4 = 24"
STEPS = in_one(get_task("game24").steps)


def check(solution: str) -> Checked:
    assert STEPS.check is not None
    return STEPS.check(QUESTION, None, solution)


def test_a_whole_solution_is_final_and_interchangeable_with_no_other() -> None:
    assert check(RIGHT) == Checked(final=True)


@pytest.mark.parametrize(
    ("solution", "reason"),
    [
        ("", "step 1: not a step"),
        ("13 - 9 = 5 | 4 5 10\n10 - 5 = 5 | 4 5\n5 * 4 = 20", "step 1: wrong arithmetic"),
        ("13 - 9 = 4 | 4 4 10\n10 - 5 = 5 | 4 5", "step 2: uses a number that is not left"),
        (f"{RIGHT}\n24 + 0 = 24", "step 4: the solution had ended"),
        (RIGHT.replace("\n", "\n\n"), "step 2: not a step"),
    ],
)
def test_the_first_bad_line_refuses_it(solution: str, reason: str) -> None:
    checked = check(solution)
    assert not checked.final
    assert checked.reason is not None and checked.reason.startswith(reason)


def test_the_answer_is_read_from_the_lines_and_an_unfinished_solution_has_none() -> None:
    assert STEPS.answer(QUESTION, WHOLE.for_answer([RIGHT])) == "(10 - 4) * (13 - 9)"
    assert STEPS.answer(QUESTION, WHOLE.for_answer([RIGHT.rpartition("\n")[0]])) is None
