"""Columns of numbers: one that grows, the order of two together, and the place of each in an order."""

from typing import Any

import numpy as np
import numpy.typing as npt


class Column:
    """Numbers of one type; an addition at the end copies them only now and then."""

    def __init__(self, dtype: npt.DTypeLike) -> None:
        self._size = 0
        self._room: npt.NDArray[Any] = np.empty(8, dtype)

    @property
    def all(self) -> npt.NDArray[Any]:
        """All that are there, to be read or overwritten in place."""
        return self._room[: self._size]

    def append(self, number: float) -> None:
        """Add one at the end."""
        if self._size == len(self._room):
            self._room = np.concatenate((self._room, np.empty_like(self._room)))
        self._room[self._size] = number
        self._size += 1

    def pop(self) -> None:
        """Take out the last one."""
        self._size -= 1


def dense(first: npt.NDArray[np.intp], second: npt.NDArray[np.float64]) -> npt.NDArray[np.intp]:
    """Pairs as ascending numbers, equal for equal pairs, in the order of the first and then the second."""
    order = np.lexsort((second, first))
    steps = (np.diff(first[order]) != 0) | (np.diff(second[order]) != 0)
    key = np.empty_like(order)
    key[order] = np.concatenate(([0], np.cumsum(steps)))
    return key


def quantiles(key: npt.NDArray[np.intp]) -> npt.NDArray[np.float64]:
    """The place of each of these numbers from 0 among them: 1 for the largest, 0 for the least, ½ for one.

    Equal ones share the mean of their ranks.
    """
    n, peers = len(key), np.bincount(key)
    if n == 1:
        return np.array([0.5])
    ends = np.cumsum(peers)
    ends += ends - peers
    shares = (2 * n - 1 - ends) / (2 * (n - 1))  # twice the rank from 0, among twice as many
    np.subtract(1, shares, out=shares)
    return shares.take(key)
