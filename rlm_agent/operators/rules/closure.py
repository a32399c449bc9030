"""The transitive closure of a graph that grows node by node, with its counts kept up to date.

It lies in the bits of two matrices: what each node reaches, and what reaches it. A column stands for a node
and a row holds the bits for 64 others, so that an addition writes along rows.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Bits = npt.NDArray[np.uint64]
Places = npt.NDArray[np.intp]

_WORD = 64


class Closure:
    """Who reaches whom among nodes that are numbered from 0 in the order in which they are added.

    Each reaches itself. An addition is a few operations on arrays of n elements, and more only where older
    nodes come to reach others by it; two matrices of n² bits are held.
    """

    def __init__(self) -> None:
        self.size = 0
        self._reached: Bits = np.zeros((1, _WORD), np.uint64)
        self._above: Bits = np.zeros((1, _WORD), np.uint64)
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
        new = self.size
        self._make_room()
        self.size += 1
        down, up = _union(self._reached, below), _union(self._above, above)
        self._join(above, down)
        for matrix, own, others in ((self._reached, down, up), (self._above, up, down)):
            own[new // _WORD] |= _bit(new)
            matrix[:, new] = own
            matrix[new // _WORD, : self.size] |= self._flags(others).astype(np.uint64) << np.uint64(
                new % _WORD
            )
        self._counts[: self.size] += self._flags(up)
        self._counts[new] = np.count_nonzero(self._flags(down))
        return np.flatnonzero(self._flags(down & up))

    def _join(self, above: Sequence[int], down: Bits) -> None:
        """Let all that reach one of `above` reach `down`, too: as far as they do not yet, which is rare."""
        lacking = [node for node in above if (down & ~self._reached[:, node]).any()]
        if not lacking:
            return
        everywhere = np.bitwise_and.reduce(self._reached[:, lacking], axis=1)
        rows = np.flatnonzero(down & ~everywhere)
        over = np.flatnonzero(self._flags(_union(self._above, lacking)))
        gained = down[rows, None] & ~self._reached[np.ix_(rows, over)]
        over, gained = over[gained.any(axis=0)], gained[:, gained.any(axis=0)]
        self._reached[np.ix_(rows, over)] |= gained
        self._counts[over] += _ones(gained).sum(axis=0)
        met = np.zeros_like(down)
        met[rows] = np.bitwise_or.reduce(gained, axis=1)
        sources = self._packed(over)
        words = np.flatnonzero(sources)
        self._above[np.ix_(words, np.flatnonzero(self._flags(met)))] |= sources[words, None]

    def _flags(self, bits: Bits) -> npt.NDArray[np.uint8]:
        """Of each node, 0 or 1."""
        return np.unpackbits(bits.view(np.uint8), count=self.size, bitorder="little")

    def _packed(self, places: Places) -> Bits:
        flags = np.zeros(len(self._reached) * _WORD, np.uint8)
        flags[places] = 1
        return np.packbits(flags, bitorder="little").view(np.uint64)

    def _make_room(self) -> None:
        room = len(self._counts)
        if self.size == room:
            self._reached, self._above = (
                np.pad(matrix, ((0, len(matrix)), (0, room))) for matrix in (self._reached, self._above)
            )
            self._counts = np.pad(self._counts, (0, room))


def _bit(node: int) -> np.uint64:
    return np.uint64(1 << node % _WORD)


def _union(matrix: Bits, nodes: Sequence[int]) -> Bits:
    union: Bits = np.bitwise_or.reduce(matrix[:, list(nodes)], axis=1, initial=0)
    return union


def _ones(bits: Bits) -> Places:
    """How many bits of each element are set (Warren, Hacker's Delight, §5-1)."""
    pairs = bits - (bits >> np.uint64(1) & np.uint64(0x5555555555555555))
    quads = (pairs & np.uint64(0x3333333333333333)) + (pairs >> np.uint64(2) & np.uint64(0x3333333333333333))
    bytes_ = (quads + (quads >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    counts: Places = (bytes_ * np.uint64(0x0101010101010101) >> np.uint64(56)).astype(np.intp)
    return counts
