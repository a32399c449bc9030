"""The solver for many states at once, in floating point: what can still be reached, by arrays."""

from itertools import combinations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_CLOSE = 1e-7
"""Quotients of the numbers that occur lie further apart than this, and rounding errors are smaller."""
_MOST = 2_000_000
"""Values held at once."""


def reaches(states: Floats, targets: Floats) -> NDArray[np.bool_]:
    """Whether each of `states` [n, numbers], at least zero, can be brought to its target [n], above zero.

    Five numbers have about 100,000 outcomes and take milliseconds, four take microseconds.
    """
    count, numbers = states.shape
    if numbers == 1:
        return np.abs(states[:, 0] - targets) < _CLOSE
    if numbers > 4:
        found = np.zeros(count, dtype=bool)
        for following in np.moveaxis(followers(states), 1, 0):
            left = ~found
            if left.any():
                found[left] = reaches(following[left], targets[left])
        return found
    chunk = max(1, _MOST // _OUTCOMES[numbers])
    parts = [_reaches(states[i : i + chunk], targets[i : i + chunk]) for i in range(0, count, chunk)]
    return np.concatenate(parts) if parts else np.zeros(0, dtype=bool)


def followers(states: Floats) -> Floats:
    """The states one move after `states` [n, numbers], as [n, moves, numbers - 1].

    Differences are taken the larger first, as in `moves`; a division by zero gives an infinity or no number,
    which reaches nothing.
    """
    numbers = states.shape[1]
    after = []
    for i, j in combinations(range(numbers), 2):
        rest = np.delete(states, (i, j), axis=1)
        a, b = states[:, i], states[:, j]
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            results = (a + b, a * b, np.abs(a - b), a / b, b / a)
        after += [np.concatenate((rest, result[:, None]), axis=1) for result in results]
    return np.stack(after, axis=1)


_OUTCOMES = {2: 5, 3: 75, 4: 2250}


def _reaches(states: Floats, targets: Floats) -> NDArray[np.bool_]:
    values = states[:, None, :]
    while values.shape[2] > 1:
        numbers = values.shape[2]
        values = followers(values.reshape(-1, numbers)).reshape(len(states), -1, numbers - 1)
    with np.errstate(invalid="ignore"):
        distances = np.abs(values[:, :, 0] - targets[:, None])
    return np.asarray((distances < _CLOSE).any(axis=1))
