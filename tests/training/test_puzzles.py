"""The stream of worked puzzles: right, of all kinds, and nothing that is held out."""

import random
from itertools import islice

import pytest

from rlm_agent.tasks.countdown.checker import answer, check_step, verify, write_step
from rlm_agent.tasks.countdown.puzzle import Puzzle, parse
from rlm_agent.training.plays import LARGEST_RESULT, plays
from rlm_agent.training.puzzles import SHARES, HeldOut, Worked, worked


def lines(one: Worked) -> list[str]:
    return [write_step(*move) for move in one.moves]


def test_the_stream_is_the_same_for_the_same_seed(solved: list[Worked]) -> None:
    again, other = (list(islice(worked(random.Random(seed), HeldOut()), 200)) for seed in (0, 1))
    assert again == solved[:200]
    assert other != solved[:200]


def test_every_solution_is_legal_step_by_step_and_right(solved: list[Worked]) -> None:
    for one in solved:
        question, state, final = one.puzzle.text, None, False
        for line in lines(one):
            checked = check_step(question, state, line)
            assert checked.reason is None and not final, (one, line)
            state, final = checked.state, checked.final
        candidate = answer(question, lines(one))
        assert final and candidate is not None, one
        assert verify(question, candidate).correct, one


def test_puzzles_of_the_held_out_splits_never_occur(solved: list[Worked]) -> None:
    assert {parse(one.puzzle.text).split for one in solved} == {"train"}


def test_no_held_out_puzzle_of_four_numbers_is_a_state_of_a_longer_one(solved: list[Worked]) -> None:
    """Else the policy would be taught its solution after all."""
    met = 0
    for one in solved:
        state = one.states[1] if len(one.puzzle.numbers) == 5 else ()
        if state and all(number in range(1, 14) for number in state):
            met += 1
            assert Puzzle(tuple(map(int, state)), one.puzzle.target).split == "train"
    assert met > 50


def test_excluded_puzzles_occur_neither_as_puzzles_nor_as_states(solved: list[Worked]) -> None:
    def met(stream: list[Worked]) -> set[str]:
        states = {
            Puzzle(tuple(map(int, one.states[-4])), one.puzzle.target).text
            for one in stream
            if len(one.moves) > 3 and all(n == int(n) for n in one.states[-4])
        }
        return {one.puzzle.text for one in stream} | states

    excluded = {one.puzzle.text for one in solved if len(one.puzzle.numbers) == 4}
    stream = list(islice(worked(random.Random(1), HeldOut()), 1000))
    assert excluded & met(stream), "none of them would have come again anyway"
    assert not excluded & met(list(islice(worked(random.Random(1), HeldOut(excluded)), 1000)))


def test_puzzles_of_all_kinds_occur_in_their_shares(solved: list[Worked]) -> None:
    counts = [len(one.puzzle.numbers) for one in solved]
    for count, kinds in {3: ["three"], 4: ["game24", "four"], 5: ["five24", "five"]}.items():
        share = sum(SHARES[kind] for kind in kinds)
        assert abs(counts.count(count) / len(counts) - share) < 0.05


def test_targets_that_are_hard_to_meet_come_as_often_as_easy_ones() -> None:
    met = [target for _, target, _ in islice(plays(random.Random(0)), 500)]
    assert set(met) <= set(range(1, 101))
    assert all(met.count(target) <= 10 for target in set(met))
    assert sum(target > 50 for target in met) > 200


def test_a_play_for_one_target_meets_that_one() -> None:
    assert {target for _, target, _ in islice(plays(random.Random(0), 24), 50)} == {24}


@pytest.mark.parametrize("target", [None, 24])
def test_plays_are_replayed_exactly_and_stay_small(target: int | None) -> None:
    for numbers, met, moves in islice(plays(random.Random(1), target), 300):
        one = Worked(Puzzle(numbers, met), tuple(moves))
        candidate = answer(one.puzzle.text, lines(one))
        assert candidate is not None
        assert verify(one.puzzle.text, candidate).correct
        assert all(0 <= move[3] <= LARGEST_RESULT for move in moves)
