"""The solver by arrays, held against the exact one; and the tasks of five numbers that it draws."""

import random
from collections import Counter
from itertools import combinations_with_replacement, islice

import numpy as np
import pytest

from rlm_agent.tasks.countdown.generator import draw_five, draw_five24
from rlm_agent.tasks.countdown.moves import State, moves, reachable, solvable
from rlm_agent.tasks.countdown.puzzle import Puzzle, Split
from rlm_agent.tasks.countdown.solver import followers, reaches


def states(numbers: int, count: int) -> list[State]:
    """Fractions and all: random play leads to them from puzzles of five numbers."""
    rng = random.Random(numbers)
    found = []
    for _ in range(count):
        state: State = tuple(sorted(rng.randint(1, 13) for _ in range(5)))
        while len(state) > numbers:
            state = rng.choice(list(moves(state)))[-1]
        found.append(state)
    return found


@pytest.mark.parametrize("numbers", [1, 2, 3, 4])
def test_it_agrees_with_the_exact_solver(numbers: int) -> None:
    known = states(numbers, 60)
    rng = random.Random(0)
    targets = [rng.choice([*(v for v in reachable(s) if 0 < v < 99), rng.randint(1, 99)]) for s in known]
    found = reaches(np.array(known, dtype=float), np.array(targets, dtype=float))
    assert found.tolist() == [t in reachable(s) for s, t in zip(known, targets, strict=True)]
    assert found.sum() > 0


def test_five_numbers_agree_too() -> None:
    known, rng = states(5, 12), random.Random(1)
    targets = [rng.choice((24, 97, 991)) for _ in known]
    found = reaches(np.array(known, dtype=float), np.array(targets, dtype=float))
    assert found.tolist() == [solvable(tuple(map(int, s)), t) for s, t in zip(known, targets, strict=True)]
    assert 0 < found.sum() < len(known)


def test_no_states_are_no_answers() -> None:
    assert reaches(np.zeros((0, 4)), np.zeros(0)).tolist() == []


def test_followers_are_all_moves_of_the_exact_game() -> None:
    state = (2, 3, 6)
    after = {tuple(sorted(map(float, row))) for row in followers(np.array([state], dtype=float))[0]}
    assert after == {tuple(map(float, move[-1])) for move in moves(state)}


def test_a_division_by_zero_reaches_nothing() -> None:
    assert reaches(np.array([[0.0, 0.0]]), np.array([1.0])).tolist() == [False]


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_puzzles_of_five_numbers_are_distinct_solvable_and_of_their_split(split: Split) -> None:
    for draw in (draw_five, draw_five24):
        puzzles = list(islice(draw(split, random.Random(0)), 40))
        assert len(set(puzzles)) == 40
        assert {puzzle.split for puzzle in puzzles} == {split}
        assert all(solvable(puzzle.numbers, puzzle.target) for puzzle in puzzles[:8])


def test_targets_of_five_are_spread_evenly() -> None:
    targets = Counter(p.target // 34 for p in islice(draw_five("train", random.Random(0)), 300))
    assert set(targets) == {0, 1, 2}
    assert min(targets.values()) > 70


def test_puzzles_to_24_are_all_that_have_a_solution() -> None:
    drawn = {puzzle.numbers for puzzle in draw_five24("validation", random.Random(0))}
    small = [Puzzle(numbers, 24) for numbers in combinations_with_replacement(range(1, 6), 5)]
    held = [puzzle.numbers for puzzle in small if puzzle.split == "validation"]
    assert {numbers in drawn for numbers in held} == {True, False}
    for numbers in held:
        assert (numbers in drawn) == solvable(numbers, 24)
