"""Chains that reflect: what is legal, where a path stands, what the answer is."""

import pytest

from rlm_agent.structure.metaactions import TAGS
from rlm_agent.structure.steps import Checked
from rlm_agent.tasks.countdown.coat import check_action, path_answer, present_path, write_reflection
from rlm_agent.tasks.registry import TASKS

QUESTION = "4 9 10 13 : 24"
CHAIN = [
    "<|continue|>13 - 9 = 4 | 4 4 10",
    "<|continue|>10 + 4 = 14 | 4 14",
    "<|continue|>14 + 4 = 18",
    "<|reflect|>back to 1",
    "<|explore|>10 - 4 = 6 | 4 6",
    "<|continue|>6 * 4 = 24",
]
STATES = ["4 4 10", "4 4 10;4 14", "4 4 10;4 14;18", "4 4 10?", "4 4 10;4 6", "4 4 10;4 6;24"]


def test_states_are_those_of_the_present_path() -> None:
    state = None
    for line, expected in zip(CHAIN, STATES, strict=True):
        checked = check_action(QUESTION, state, line)
        assert checked == Checked(state=expected)
        state = checked.state


def test_no_step_by_itself_ends_the_chain_not_even_one_that_leaves_the_target() -> None:
    assert not check_action(QUESTION, STATES[4], CHAIN[5]).final


def test_reflecting_on_all_of_it_leads_to_an_exploration_from_the_question() -> None:
    back = check_action(QUESTION, STATES[0], write_reflection(0))
    assert back == Checked(state="?")
    assert check_action(QUESTION, "?", "<|explore|>10 - 4 = 6 | 6 9 13") == Checked(state="6 9 13")


@pytest.mark.parametrize(
    ("state", "line", "reason"),
    [
        (None, "13 - 9 = 4 | 4 4 10", "does not open with one of"),
        (None, "<|think|>13 - 9 = 4 | 4 4 10", "does not open with one of"),
        (None, "", "does not open with one of"),
        (None, "<|explore|>13 - 9 = 4 | 4 4 10", "explores without a reflection"),
        ("4 4 10", "<|explore|>10 - 4 = 6 | 4 6", "explores without a reflection"),
        ("4 4 10?", "<|continue|>10 - 4 = 6 | 4 6", "does not explore after a reflection"),
        ("4 4 10?", "<|reflect|>back to 0", "does not explore after a reflection"),
        (None, "<|reflect|>back to 0", "goes back to step 0 of a path of 0"),
        ("4 4 10", "<|reflect|>back to 1", "goes back to step 1 of a path of 1"),
        ("4 4 10", "<|reflect|>back to 99", "goes back to step 99 of a path of 1"),
        ("4 4 10", "<|reflect|>back to -1", "not a reflection of the form"),
        ("4 4 10", "<|reflect|>back to ١", "not a reflection of the form"),
        ("4 4 10", "<|reflect|>", "not a reflection of the form"),
        ("4 4 10", "<|continue|>10 - 4 = 5 | 4 5", "wrong arithmetic"),
        ("4 4 10", "<|continue|>", "not a step of the form"),
        ("4 4 10;4 14;18", "<|continue|>18 + 4 = 22", "one number is left"),
    ],
)
def test_other_lines_are_refused_with_their_reason(state: str | None, line: str, reason: str) -> None:
    checked = check_action(QUESTION, state, line)
    assert checked.state is None
    assert checked.reason is not None and reason in checked.reason


def test_the_answer_is_the_expression_of_the_present_path() -> None:
    assert present_path(CHAIN) == ["13 - 9 = 4 | 4 4 10", "10 - 4 = 6 | 4 6", "6 * 4 = 24"]
    assert path_answer(QUESTION, CHAIN) == "(10 - 4) * (13 - 9)"


@pytest.mark.parametrize("end", [0, 1, 2, 4, 5])
def test_a_chain_whose_path_is_not_finished_has_no_answer(end: int) -> None:
    assert path_answer(QUESTION, CHAIN[:end]) is None


def test_a_finished_wrong_path_has_its_wrong_answer() -> None:
    assert path_answer(QUESTION, CHAIN[:3]) == "(10 + 4) + (13 - 9)"


def test_each_task_reads_such_chains_as_it_reads_questions() -> None:
    assert len(TAGS) == 3
    puzzles = [task for task in TASKS.values() if task.steps.check is not None]
    assert len(puzzles) == 4
    for task in puzzles:
        assert task.coat is not None
        assert task.coat.read == task.steps.read
        assert task.coat.check is check_action
