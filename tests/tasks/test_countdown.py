"""Countdown and Game of 24: the puzzle's text and split, the solver, the step checker, the verifier."""

import hashlib
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import combinations, combinations_with_replacement, permutations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rlm_agent.structure.errors import ProblemError
from rlm_agent.tasks.countdown.checker import answer, check_step, verify, write_state, write_step
from rlm_agent.tasks.countdown.moves import State, moves, reachable, sample_solution, solvable
from rlm_agent.tasks.countdown.puzzle import Puzzle, parse

QUESTION = "4 9 10 13 : 24"
SOLUTION = ["13 - 9 = 4 | 4 4 10", "10 - 4 = 6 | 4 6", "4 * 6 = 24"]


@st.composite
def solvable_puzzles(draw: st.DrawFn) -> Puzzle:
    numbers = tuple(draw(st.lists(st.integers(1, 25), min_size=2, max_size=4)))
    values = reachable(tuple(sorted(numbers)))
    targets = sorted(int(value) for value in values if value.denominator == 1 and 1 <= value <= 1000)
    return Puzzle(numbers, draw(st.sampled_from(targets)))


@st.composite
def states(draw: st.DrawFn) -> State:
    """States as they come up in random play from any puzzle that can be written."""
    state: State = tuple(sorted(draw(st.lists(st.integers(1, 100), min_size=2, max_size=6))))
    for _ in range(draw(st.integers(0, len(state) - 2))):
        state = draw(st.sampled_from(list(moves(state))))[-1]
    return state


def written_solution(puzzle: Puzzle, seed: int) -> list[str]:
    path = sample_solution(puzzle.numbers, puzzle.target, random.Random(seed), fraction_weight=0.5)
    return [write_step(*move) for move in path]


def state_after(question: str, steps: Sequence[str]) -> str | None:
    """The state that a chain of legal steps leads to."""
    state = None
    for step in steps:
        checked = check_step(question, state, step)
        assert checked.reason is None
        state = checked.state
    return state


def all_values(numbers: tuple[int, ...]) -> set[Fraction]:
    """What the numbers can make, signs and all, by splitting them in two: not the solver's way."""
    if len(numbers) == 1:
        return {Fraction(numbers[0])}
    values = set()
    places = range(len(numbers))
    for size in range(1, len(numbers)):
        for chosen in combinations(places, size):
            for a in all_values(tuple(numbers[i] for i in chosen)):
                for b in all_values(tuple(numbers[i] for i in places if i not in chosen)):
                    values |= {a + b, a - b, a * b} | ({a / b} if b else set())
    return values


# The puzzle and its text


@pytest.mark.parametrize(
    "text", ["4 9 10 13 : 24", "13 10 9 4:24", "  9,4, 13 10  :  24 ", "04 9 10 13 : 24", "4 9 10 13 : 24\n"]
)
def test_text_is_read_in_any_order_and_spacing(text: str) -> None:
    puzzle = parse(text)
    assert sorted(puzzle.numbers) == [4, 9, 10, 13]
    assert puzzle.text == QUESTION


def test_target_may_be_left_out_where_the_task_has_one() -> None:
    assert parse("4 9 10 13", target=24) == parse(QUESTION, target=24) == Puzzle((4, 9, 10, 13), 24)


@given(st.lists(st.integers(1, 100), min_size=2, max_size=6), st.integers(1, 1000))
def test_canonical_text_is_read_back(numbers: list[int], target: int) -> None:
    assert parse(Puzzle(tuple(numbers), target).text) == Puzzle(tuple(sorted(numbers)), target)


@pytest.mark.parametrize(
    ("text", "target", "message"),
    [
        ("", None, "is not a puzzle"),
        ("hello", None, "is not a puzzle"),
        ("4 9 10 13", None, "is not a puzzle"),
        ("4 9 10 13 :", None, "is not a puzzle"),
        ("4 9 10 13 : x", None, "is not a puzzle"),
        ("4 9 -10 13 : 24", None, "is not a puzzle"),
        ("4 9 1/2 13 : 24", None, "is not a puzzle"),
        ("4 9 10 13 : 24 : 24", None, "is not a puzzle"),
        ("4 9 10 13 : 24; 1", None, "is not a puzzle"),
        ("٤ 9 10 13 : 24", None, "is not a puzzle"),
        ("4 9 10 13 : ２４", None, "is not a puzzle"),
        ("9" * 10_000, None, "is not a puzzle"),
        ("5 : 5", None, "give between 2 and 6"),
        ("1 2 3 4 5 6 7 : 24", None, "give between 2 and 6"),
        ("0 9 10 13 : 24", None, "number outside 1 to 100"),
        ("101 9 10 13 : 24", None, "number outside 1 to 100"),
        ("4 9 10 13 : 0", None, "target outside 1 to 1000"),
        ("4 9 10 13 : 1001", None, "target outside 1 to 1000"),
        ("4 9 10 13 : 25", 24, "has the target 25, this task has 24"),
    ],
)
def test_other_text_is_refused_in_one_sentence(text: str, target: int | None, message: str) -> None:
    with pytest.raises(ProblemError, match=message) as caught:
        parse(text, target=target)
    assert len(str(caught.value)) < 200
    assert "\n" not in str(caught.value)


# The split


def split_by_rule(text: str) -> str:
    residue = int.from_bytes(hashlib.sha256(text.encode()).digest(), "big") % 10
    return {0: "validation", 1: "test", 2: "test"}.get(residue, "train")


def test_split_follows_the_written_rule_in_the_written_proportions() -> None:
    puzzles = [
        Puzzle(numbers, target)
        for numbers in combinations_with_replacement(range(1, 14), 4)
        for target in range(20, 30)
    ]
    assert [puzzle.split for puzzle in puzzles] == [split_by_rule(puzzle.text) for puzzle in puzzles]
    share = {split: count / len(puzzles) for split, count in Counter(p.split for p in puzzles).items()}
    assert share == pytest.approx({"validation": 0.1, "test": 0.2, "train": 0.7}, abs=0.01)


@pytest.mark.parametrize(
    ("text", "split"), [("4 9 10 13 : 24", "test"), ("1 1 2 2 : 24", "validation"), ("3 3 8 8 : 24", "train")]
)
def test_split_of_a_puzzle_never_changes(text: str, split: str) -> None:
    assert parse(text).split == split


def test_order_of_the_numbers_does_not_move_a_puzzle_to_another_split() -> None:
    assert len({Puzzle(order, 24).split for order in permutations((2, 3, 5, 7))}) == 1


# The solver


def test_1362_of_the_1820_game_of_24_hands_are_solvable() -> None:
    hands = list(combinations_with_replacement(range(1, 14), 4))
    assert len(hands) == 1820
    assert sum(solvable(hand, 24) is True for hand in hands) == 1362


@given(st.lists(st.integers(1, 30), min_size=1, max_size=4))
def test_reachable_values_are_all_values_of_at_least_zero(numbers: list[int]) -> None:
    assert reachable(tuple(sorted(numbers))) == {v for v in all_values(tuple(numbers)) if v >= 0}


@given(states())
def test_moves_are_exact_distinct_and_keep_states_sorted(state: State) -> None:
    found = list(moves(state))
    assert len({move[:3] for move in found}) == len(found)
    for op, a, b, result, following in found:
        x, y = Fraction(a), Fraction(b)
        assert result == {"+": x + y, "-": x - y, "*": x * y, "/": x / y if op == "/" else None}[op]
        assert result >= 0
        assert Counter(following) == Counter(state) - Counter((a, b)) + Counter((result,))
        assert list(following) == sorted(following)


def test_values_are_integers_wherever_they_are_whole() -> None:
    values = [result for *_, result, _ in moves((2, 3, 6))]
    assert all(isinstance(value, int) == (value.denominator == 1) for value in values)


@pytest.mark.parametrize(
    ("numbers", "target", "expected"),
    [
        ((8, 3, 8, 3), 24, True),
        ((2, 1), 1, True),
        ((1, 1, 1, 1), 24, False),
        ((1, 5, 5, 5), 24, True),
        ((1, 1, 1, 1, 24), 24, True),
        ((1, 1, 1, 1, 1), 24, False),
        ((1, 2, 3, 4, 5, 6), 24, None),
    ],
)
def test_solvable_tells_or_admits_that_it_would_take_too_long(
    numbers: tuple[int, ...], target: int, expected: bool | None
) -> None:
    assert solvable(numbers, target) is expected


def test_sampling_where_nothing_leads_to_the_target_is_an_error() -> None:
    with pytest.raises(ValueError, match="cannot be reached"):
        sample_solution((1, 1, 1, 1), 24, random.Random(0))


@given(solvable_puzzles(), st.integers(0, 3))
def test_sampled_solution_checks_step_by_step_and_verifies(puzzle: Puzzle, seed: int) -> None:
    steps = written_solution(puzzle, seed)
    assert len(steps) == len(puzzle.numbers) - 1
    assert state_after(puzzle.text, steps) == str(puzzle.target)
    expression = answer(puzzle.text, steps)
    assert expression is not None
    assert verify(puzzle.text, expression).correct


def test_sampled_solutions_are_many_and_repeatable() -> None:
    puzzle = parse(QUESTION)
    drawn = ["\n".join(written_solution(puzzle, seed)) for seed in range(20)]
    assert len(set(drawn)) > 3
    assert drawn == ["\n".join(written_solution(puzzle, seed)) for seed in range(20)]


# The step checker


def test_chain_of_legal_steps_ends_in_the_target() -> None:
    first = check_step(QUESTION, None, SOLUTION[0])
    second = check_step(QUESTION, first.state, SOLUTION[1])
    third = check_step(QUESTION, second.state, SOLUTION[2])
    assert (first.state, second.state, third.state) == ("4 4 10", "4 6", "24")
    assert (first.final, second.final, third.final) == (False, False, True)


@given(states())
@example((100, 100, 100, 10**8))
@example((Fraction(1, 10**8), 100, 100))
def test_every_move_is_written_as_a_step_that_checks(state: State) -> None:
    question = "1 2 : 3"  # only the state counts once there is one
    for move in moves(state):
        checked = check_step(question, write_state(state), write_step(*move))
        assert checked.reason is None
        assert checked.state == write_state(move[-1])
        assert checked.final == (len(state) == 2)


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        ("13 - 9 = 5 | 4 5 10", "wrong arithmetic"),
        ("13 / 9 = 1 | 1 4 10", "wrong arithmetic"),
        ("9 - 13 = 4 | 4 4 10", "wrong arithmetic"),
        ("12 + 12 = 24 | 4 9", "uses a number that is not left"),
        ("9 + 9 = 18 | 4 10 13 18", "uses a number that is not left"),
        ("13 - 9 = 4 | 4 10", "wrong numbers left"),
        ("13 - 9 = 4 | 4 4 9 10", "wrong numbers left"),
        ("13 - 9 = 4 | 24", "wrong numbers left"),
        ("13 - 9 = 4", "wrong numbers left"),
        ("13 - 9 = 4 | " + "4 " * 99_999 + "4", "wrong numbers left"),
        ("1/0 + 9 = 4 | 4 4 10", "division by zero"),
        ("13 - 9 = 4/0 | 4 4 10", "division by zero"),
        ("13 - 9 = 4 | 4 4 1/0", "division by zero"),
        ("9 - 13 = -4 | -4 4 10", "not a step"),
        ("13 ** 9 = 4 | 4 4 10", "not a step"),
        ("13-9=4|4 4 10", "not a step"),
        ("13 - 9 = 4 | 4 4 10 and then", "not a step"),
        ("13 - 9 = 4 | 4 4 10\n10 - 4 = 6 | 4 6", "not a step"),
        ("１３ - 9 = 4 | 4 4 10", "not a step"),
        ("13 − 9 = 4 | 4 4 10", "not a step"),
        ("13 - 9 = 4 |", "not a step"),
        ("__import__('os')", "not a step"),
        ("9" * 1_000_000, "not a step"),
        ("24", "not a step"),
        ("", "not a step"),
    ],
)
def test_illegal_step_is_refused_with_its_reason_and_at_once(step: str, reason: str) -> None:
    started = time.perf_counter()
    checked = check_step(QUESTION, None, step)
    assert time.perf_counter() - started < 2
    assert checked.reason is not None
    assert reason in checked.reason
    assert checked.state is None
    assert not checked.final


def test_number_is_refused_once_it_is_used_up() -> None:
    assert check_step(QUESTION, "4 4 10", "13 - 9 = 4 | 4 4 10").reason == "uses a number that is not left"


def test_division_by_a_zero_that_was_made_is_refused() -> None:
    assert check_step("5 5 7 : 7", "0 7", "7 / 0 = 7").reason == "division by zero"


@given(st.text(max_size=30) | st.text("0123456789+-*/=| ", max_size=30))
def test_any_text_is_either_a_step_or_refused(step: str) -> None:
    checked = check_step("1 2 3 : 6", None, step)
    assert (checked.state is None) == (checked.reason is not None)


def test_order_of_the_numbers_left_does_not_matter() -> None:
    assert check_step(QUESTION, None, "13 - 9 = 4 | 10 4 4").state == "4 4 10"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (["13 - 9 = 4 | 4 4 10", "10 - 4 = 6 | 4 6"], ["10 - 4 = 6 | 6 9 13", "13 - 9 = 4 | 4 6"]),
        (["9 + 4 = 13 | 10 13 13", "13 - 13 = 0 | 0 10"], ["13 - 4 = 9 | 9 9 10", "9 - 9 = 0 | 0 10"]),
        (["4 * 9 = 36 | 10 13 36"], ["9 * 4 = 36 | 36 13 10"]),
    ],
)
def test_states_reached_in_different_orders_are_equal(one: list[str], other: list[str]) -> None:
    assert state_after(QUESTION, one) == state_after(QUESTION, other)


def test_whole_and_fractional_spellings_of_a_value_are_one_state() -> None:
    assert check_step("1 2 4 : 2", "1/2 4", "1/2 * 4 = 2").state == "2"
    assert check_step("1 2 4 : 2", "1/2 4", "2/4 * 4/1 = 4/2").state == "2"


# The answer of a chain


def test_answer_spells_out_the_chain() -> None:
    assert answer(QUESTION, SOLUTION) == "(13 - 9) * (10 - 4)"


def test_answer_of_a_chain_with_equal_values_uses_each_number_once() -> None:
    expression = answer("4 4 4 4 : 24", ["4 * 4 = 16 | 4 4 16", "4 + 4 = 8 | 8 16", "16 + 8 = 24"])
    assert expression == "(4 * 4) + (4 + 4)"


@pytest.mark.parametrize(
    "steps",
    [
        [],
        SOLUTION[:1],
        SOLUTION[:2],
        [*SOLUTION, "24 + 0 = 24"],
        [*SOLUTION[:2], "done"],
        ["12 + 12 = 24 | 4 9"],
        [*SOLUTION[:2], "4 * 6 = 24/0"],
        [*SOLUTION[:2], "4/0 * 6 = 24"],
    ],
)
def test_chain_that_is_not_finished_or_not_legal_has_no_answer(steps: list[str]) -> None:
    assert answer(QUESTION, steps) is None


def test_answer_of_wrong_arithmetic_does_not_verify() -> None:
    steps = ["13 + 9 = 4 | 4 4 10", *SOLUTION[1:]]
    assert not verify(QUESTION, answer(QUESTION, steps) or "").correct


@given(st.lists(st.text(max_size=20) | st.sampled_from(SOLUTION), max_size=4))
def test_answer_never_raises_on_model_text(steps: list[str]) -> None:
    answer(QUESTION, steps)


# The verifier


@pytest.mark.parametrize(
    "candidate",
    [
        "(13 - 9) * (10 - 4)",
        "(10-4)*(13-9)",
        "((13 - 9)) * (10 - 4) = 24",
        "(9 - 13) * (4 - 10)",
        " (13 - 9) * (10 - 4)=24 ",
    ],
)
def test_expression_of_the_given_numbers_is_accepted(candidate: str) -> None:
    verdict = verify(QUESTION, candidate)
    assert verdict.correct
    assert verdict.reason == ""


@pytest.mark.parametrize(
    ("candidate", "reason"),
    [
        ("(10 - 4) * 4", "each number exactly once"),
        ("(13 - 9) * (10 - 4) * 1", "each number exactly once"),
        ("(13 - 9) * (13 - 9) + 10 - 4", "each number exactly once"),
        ("12 + 12", "each number exactly once"),
        ("4 * 6", "each number exactly once"),
        ("49 - 13 - 10 - 2", "each number exactly once"),
        ("24", "each number exactly once"),
        ("24 = 24", "each number exactly once"),
        ("4 + 9 + 10 + 13", "makes 36, not 24"),
        ("(13 - 9) * (10 - 4) = 25", "states another target"),
        ("(13 - 9) * (10 - 4) = 24 = 25", "states another target"),
        ("4*6=24 = 25", "states another target"),
        ("(13 - 9) * (10 - 4) =", "states another target"),
        ("(13 - 9) * (10 - 4) = 24.0", "states another target"),
        ("(13 - 9) * (10 - 4) == 24", "states another target"),
        ("4 / (9 - 9) + 10 + 13", "divides by zero"),
        ("(13 - 9) * (10 - 4) # = 24", "other than integers"),
        ("The answer is (13 - 9) * (10 - 4)", "other than integers"),
        ("__import__('os').system('true')", "other than integers"),
        ("9**9**9", "other than integers"),
        ("model text", "other than integers"),
        ("(13 - 9) * (10 - 4" + ")" * 300, "longer than"),
        ("(13 - 9) (10 - 4)", "other than integers"),
        ("4 9 10 13", "cannot be read"),
        ("", "cannot be read"),
        ("= 24", "cannot be read"),
    ],
)
def test_anything_else_is_refused_with_its_reason(candidate: str, reason: str) -> None:
    verdict = verify(QUESTION, candidate)
    assert not verdict.correct
    assert reason in verdict.reason


def test_verdict_on_what_is_no_puzzle_is_a_refusal() -> None:
    assert not verify("no puzzle", "24").correct


@given(st.text(max_size=40) | st.text("0123456789+-*/()= ", max_size=40))
def test_verifier_never_raises_on_model_text(candidate: str) -> None:
    verify(QUESTION, candidate)


@given(solvable_puzzles(), st.data())
def test_answer_to_one_puzzle_does_not_verify_for_another(puzzle: Puzzle, data: st.DataObject) -> None:
    expression = answer(puzzle.text, written_solution(puzzle, 0))
    assert expression is not None
    changes: list[Callable[[], Puzzle]] = [
        lambda: Puzzle(puzzle.numbers, puzzle.target + 1),
        lambda: Puzzle((*puzzle.numbers, 1), puzzle.target),
        lambda: Puzzle((*puzzle.numbers[1:], puzzle.numbers[0] + 1), puzzle.target),
    ]
    other = data.draw(st.sampled_from(changes))()
    assert not verify(other.text, expression).correct
