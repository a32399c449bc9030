"""The transitive closure of a graph that grows node by node, with its counts kept up to date.

It lies in the bits of two matrices: what each node reaches, and what reaches it. A node has a row of bits for
those that were added before the last few, and a word for the last few, which moves into the row when it is
full: nearly all that an addition writes lies side by side.
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
        self._reached = _Relation()
        self._above = _Relation()
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
        self.size += 1
        if self.size > len(self._counts):
            self._counts = np.pad(self._counts, (0, new))
        self._reached.make_room(new)
        self._above.make_room(new)
        down, up = self._reached.union(below), self._above.union(above)
        if above:
            self._join(list(above), down)
        itself = np.uint64(1 << new % _WORD)
        down[-1] |= itself
        up[-1] |= itself
        flags = self._flags(up)
        self._reached.enter(new, down, flags)
        self._above.enter(new, up, self._flags(down))
        self._counts[: self.size] += flags
        self._counts[new] = _ones(down).sum()
        return np.flatnonzero(self._flags(down & up))

    def _join(self, above: Sequence[int], down: Bits) -> None:
        """Let all that reach one of `above` reach `down`, too: as far as they do not yet, which is rare."""
        own = self._reached.sets(above)
        lacking = np.flatnonzero((down & ~own).any(axis=1)).tolist()
        if not lacking:
            return
        words = _whole(down & ~np.bitwise_and.reduce(own[lacking], axis=0))
        over = np.flatnonzero(self._flags(self._above.union([above[place] for place in lacking])))
        gained = down[words] & ~self._reached.words(over, words)
        rich = gained.any(axis=1)
        over, gained = over[rich], gained[rich]
        self._reached.give(over, words, gained)
        self._counts[over] += _ones(gained).sum(axis=1)
        met = np.zeros_like(down)
        met[words] = np.bitwise_or.reduce(gained, axis=0)
        sources = self._packed(over)
        words = _whole(sources)
        self._above.give(np.flatnonzero(self._flags(met)), words, sources[words])

    def _flags(self, bits: Bits) -> npt.NDArray[np.uint8]:
        """Of each node, 0 or 1."""
        return np.unpackbits(bits.view(np.uint8), count=self.size, bitorder="little")

    def _packed(self, places: Places) -> Bits:
        flags = np.zeros(-(-self.size // _WORD) * _WORD, np.uint8)
        flags[places] = 1
        return np.packbits(flags, bitorder="little").view(np.uint64)


class _Relation:
    """For each node a set of nodes, as bits: of whole words (`_rows`), and of the last one (`_latest`)."""

    def __init__(self) -> None:
        self._words = 0
        self._rows: Bits = np.zeros((_WORD, 1), np.uint64)
        self._latest: Bits = np.zeros(_WORD, np.uint64)

    def make_room(self, new: int) -> None:
        """Be ready for one more node, the `new`-th: it begins another word where the last one is full."""
        if new == len(self._latest):
            self._rows = np.pad(self._rows, ((0, new), (0, self._rows.shape[1])))
            self._latest = np.pad(self._latest, (0, new))
        if new and new % _WORD == 0:
            self._rows[:new, self._words] = self._latest[:new]
            self._latest[:new] = 0
            self._words += 1

    def sets(self, nodes: Sequence[int]) -> Bits:
        """The sets of `nodes`, shape (nodes, words)."""
        sets = self._rows[nodes, : self._words + 1]
        sets[:, -1] = self._latest[nodes]
        return sets

    def union(self, nodes: Sequence[int]) -> Bits:
        """Whatever is in the set of one of `nodes`, shape (words,)."""
        union: Bits = np.bitwise_or.reduce(self.sets(list(nodes)), axis=0, initial=0)
        return union

    def enter(self, new: int, own: Bits, flags: npt.NDArray[np.uint8]) -> None:
        """Give a new node its own set, and put it into the sets of those that are flagged."""
        self._rows[new, : self._words] = own[:-1]
        self._latest[new] = own[-1]
        self._latest[: new + 1] |= flags.astype(np.uint64) << np.uint64(new % _WORD)

    def words(self, nodes: Places, words: Places) -> Bits:
        """Some words of the sets of `nodes`, the last one behind the others, shape (nodes, words)."""
        found = self._rows[nodes[:, None], words]
        found[:, -1] = self._latest[nodes]
        return found

    def give(self, nodes: Places, words: Places, bits: Bits) -> None:
        """Put bits into these words of the sets of `nodes`."""
        self._rows[nodes[:, None], words[:-1]] |= bits[..., :-1]
        self._latest[nodes] |= bits[..., -1]


def _whole(bits: Bits) -> Places:
    """The numbers of the words in which there is a bit, and of the last one in any case."""
    return np.append(np.flatnonzero(bits[:-1]), len(bits) - 1)


def _ones(bits: Bits) -> Places:
    """How many bits of each element are set (Warren, Hacker's Delight, §5-1)."""
    pairs = bits - (bits >> np.uint64(1) & np.uint64(0x5555555555555555))
    quads = (pairs & np.uint64(0x3333333333333333)) + (pairs >> np.uint64(2) & np.uint64(0x3333333333333333))
    bytes_ = (quads + (quads >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    counts: Places = (bytes_ * np.uint64(0x0101010101010101) >> np.uint64(56)).astype(np.intp)
    return counts
