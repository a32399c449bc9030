"""Attempts at a puzzle as a weak policy makes them: right for a while, then astray, at times miscounted."""

import random
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from rlm_agent.tasks.countdown.checker import write_step
from rlm_agent.tasks.countdown.moves import Move, Number, State, moves
from rlm_agent.tasks.countdown.solver import reaches
from rlm_agent.training.plays import FRACTION_WEIGHT
from rlm_agent.training.puzzles import HeldOut, Worked, usable

_MISCOUNTED = 0.2
"""How many attempts have a step of wrong arithmetic."""
_TRIES = 8


@dataclass(frozen=True, slots=True)
class Taken:
    """A step of an attempt: its line, the state it leaves, whether the target can still be reached.

    Wrong arithmetic is not `legal`, nor is what follows it, and nothing can be reached any more.
    """

    line: str
    state: State
    reach: bool
    legal: bool = True


def on_path(one: Worked) -> list[Taken]:
    """The steps of the solution itself."""
    return [Taken(write_step(*move), move[-1], True) for move in one.moves]


def attempt(one: Worked, rng: random.Random, held_out: HeldOut) -> list[Taken]:
    """A whole attempt: some steps of the solution, the rest at random, sometimes with a wrong result.

    It may end right, or break off where no move is left that a policy would write.
    """
    taken = on_path(one)[: rng.randrange(len(one.moves))]
    miscounted = rng.random() < _MISCOUNTED
    while len(state := _state(one, taken)) > 1:
        if miscounted and (len(state) == 2 or rng.random() < 0.2):
            taken.append(_miscount(one, state, rng))
            miscounted = False
            continue
        step = wander(one, taken, rng, held_out)
        if step is None:
            break
        taken.append(step)
    return taken


def wander(
    one: Worked, taken: list[Taken], rng: random.Random, held_out: HeldOut, *, wrong: bool = False
) -> Taken | None:
    """A random step after `taken`; with `wrong`, one after which the target cannot be reached any more.

    None where a few tries have found none.
    """
    state, target = _state(one, taken), one.puzzle.target
    legal = all(step.legal for step in taken)
    tried = list(moves(state))
    weights = [_weight(move) for move in tried]
    for _ in range(_TRIES if sum(weights) > 0 else 0):
        move = rng.choices(tried, weights)[0]
        if held_out.state(move[-1], target):
            continue
        reach = legal and (not taken or taken[-1].reach) and can_reach(move[-1], target)
        if not (wrong and reach):
            return Taken(write_step(*move), move[-1], reach, legal)
    return None


def continued(one: Worked, taken: list[Taken], rng: random.Random, held_out: HeldOut) -> list[Taken] | None:
    """Steps from the state after `taken`, from which the target can be reached, to the target.

    None where a held-out puzzle lies on the way, or awkward numbers.
    """
    path: list[Taken] = []
    while len(state := _state(one, [*taken, *path])) > 4:
        step = wander(one, [*taken, *path], rng, held_out)
        if step is None or not step.reach:
            return None
        path.append(step)
    while len(state) > 1:
        ways = [move for move in moves(state) if _weight(move)]
        open_ways = [move for move, reach in zip(ways, _reach(ways, one.puzzle.target), strict=True) if reach]
        if not open_ways:
            return None
        (move,) = rng.choices(open_ways, [_weight(move) for move in open_ways])
        path.append(Taken(write_step(*move), state := move[-1], True))
    return path


def first_fault(taken: list[Taken]) -> int | None:
    """The index of the first step after which the target is lost; None for an attempt without one."""
    return next((number for number, step in enumerate(taken) if not step.reach), None)


@lru_cache(maxsize=100_000)
def can_reach(state: State, target: int) -> bool:
    """Whether a state can be brought to the target."""
    return bool(reaches(np.array([state], dtype=float), np.array([target], dtype=float))[0])


def _reach(ways: list[Move], target: int) -> list[bool]:
    states = np.array([move[-1] for move in ways], dtype=float)
    return reaches(states, np.full(len(ways), float(target))).tolist() if ways else []


def _state(one: Worked, taken: list[Taken]) -> State:
    return taken[-1].state if taken else one.states[0]


def _weight(move: Move) -> float:
    if not usable(move[3]):
        return 0.0
    return 1.0 if move[3].denominator == 1 else FRACTION_WEIGHT


def _miscount(one: Worked, state: State, rng: random.Random) -> Taken:
    """A step with a wrong result: at the end mostly the very target, else one that is a little off."""
    op, a, b, result, left = rng.choice(list(moves(state)))
    claimed: Number = one.puzzle.target if len(left) == 1 and rng.random() < 0.7 else _near(result, rng)
    if claimed == result:
        claimed = _near(result, rng)
    rest = list(left)
    rest.remove(result)
    after = tuple(sorted((*rest, claimed)))
    return Taken(write_step(op, a, b, claimed, after), after, False, legal=False)


def _near(result: Number, rng: random.Random) -> Number:
    return abs(int(result) + rng.choice((-2, -1, 1, 2, 10))) if result != 1 else rng.choice((2, 3, 11))
