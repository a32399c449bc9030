"""The transitive closure of a graph that grows node by node, with its counts kept up to date.

It lies in the bits of two matrices: what each node reaches, and what reaches it. A node has a row of bits for
those that were added before the last few, and a word for the last few, which moves into the row when it is
full: nearly all that an addition writes lies side by side.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

Bits = npt.NDArray[np.uint64]
Places = npt.NDArray[np.intp]

_WORD = 64
_REACHED: Final = 0
_ABOVE: Final = 1
"""The two relations: whom a node reaches, and who reaches it."""


class Closure:
    """Who reaches whom among nodes that are numbered from 0 in the order in which they are added.

    Each reaches itself. An addition is a few operations on arrays of n elements, and more only where older
    nodes come to reach others by it; two matrices of n² bits are held, of shape (2, nodes, words).
    """

    def __init__(self) -> None:
        self.size = 0
        self._words = 0
        self._rows: Bits = np.zeros((2, _WORD, 1), np.uint64)
        self._latest: Bits = np.zeros((2, _WORD), np.uint64)
        self._counts: Places = np.zeros(_WORD, np.intp)

    @property
    def counts(self) -> Places:
        """How many others each node reaches."""
        return self._counts[: self.size] - 1

    def add(self, below: Sequence[int], above: Sequence[int]) -> Places:
        """Add a node with edges to those `below` and from those `above`.

        Returns its strongly connected component: all that it reaches and is reached by, itself included, in
        ascending order.
        """
        new, bit = self.size, self.size % _WORD
        self._make_room(new)
        self.size += 1
        own = np.zeros((2, self._words + 1), np.uint64)
        if below:
            np.bitwise_or.reduce(self._sets(_REACHED, below), axis=0, out=own[_REACHED])
        if above:
            np.bitwise_or.reduce(self._sets(_ABOVE, above), axis=0, out=own[_ABOVE])
        if below and above:
            self._join(above, own)
        own[:, -1] |= np.uint64(1 << bit)
        flags = self._flags(own)
        self._rows[:, new, : self._words] = own[:, :-1]
        self._latest[:, new] = own[:, -1]
        self._latest[:, : self.size] |= np.left_shift(flags[::-1], bit, dtype=np.uint64)
        self._counts[: self.size] += flags[_ABOVE]
        self._counts[new] = np.count_nonzero(flags[_REACHED])
        return np.flatnonzero(flags[_REACHED] & flags[_ABOVE])

    def _make_room(self, new: int) -> None:
        """Be ready for one more node, the `new`-th: it begins another word where the last one is full."""
        if new == len(self._counts):
            known = self._rows
            more = -(-new // (4 * _WORD))  # words
            self._rows = np.zeros((2, new + more * _WORD, known.shape[2] + more), np.uint64)
            self._rows[:, :new, : known.shape[2]] = known
            self._latest = np.pad(self._latest, ((0, 0), (0, more * _WORD)))
            self._counts = np.pad(self._counts, (0, more * _WORD))
        if new and new % _WORD == 0:
            self._rows[:, :new, self._words] = self._latest[:, :new]
            self._latest[:, :new] = 0
            self._words += 1

    def _join(self, above: Sequence[int], own: Bits) -> None:
        """Let all that reach a new node reach what that one reaches, too: as far as they do not yet."""
        down, up = own
        lacking = down & ~self._sets(_REACHED, above)
        if not lacking.any():
            return
        targets = np.flatnonzero(self._flags(np.bitwise_or.reduce(lacking, axis=0)))
        reaching = self._sets(_ABOVE, targets)
        sources = np.flatnonzero(self._flags(up & ~np.bitwise_and.reduce(reaching, axis=0)))
        reached = self._sets(_REACHED, sources) | down
        self._counts[sources] = np.bitwise_count(reached).sum(axis=1)
        self._put(_ABOVE, targets, reaching | up)
        self._put(_REACHED, sources, reached)

    def _sets(self, relation: int, nodes: Sequence[int] | Places) -> Bits:
        """What `nodes` are related to, shape (nodes, words): whole words, and the last one."""
        sets: Bits = self._rows[relation].take(nodes, axis=0)[:, : self._words + 1]  # faster than an index
        sets[:, -1] = self._latest[relation].take(nodes)
        return sets

    def _put(self, relation: int, nodes: Places, sets: Bits) -> None:
        """Let `nodes` be related to these."""
        self._rows[relation][nodes, : self._words] = sets[:, :-1]
        self._latest[relation][nodes] = sets[:, -1]

    def _flags(self, bits: Bits) -> npt.NDArray[np.bool_]:
        """The bits of words as one element each, shape (…, nodes)."""
        flags = np.unpackbits(bits.view(np.uint8), axis=-1, count=self.size, bitorder="little")
        return flags.view(np.bool_)  # among which places are found far faster than among numbers
