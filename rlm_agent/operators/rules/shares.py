"""Shares of children in the values of their parents, for a whole forest at once."""

from typing import Any

import numpy as np
import numpy.typing as npt

from rlm_agent.operators.rules.column import Column

Numbers = npt.NDArray[np.float64]
Places = npt.NDArray[np.intp]

_FEW = 16
"""Up to so many edges are faster one by one than by arrays."""


class Shares:
    """The edges of a forest whose nodes are numbered in the order of their birth, and γ.

    Q ← (1 − γ) · Q + γ · Q_child for each child in the order of its birth, bottom up (LLaMA-Berry, arXiv
    2410.02884). An edge has its turn once those to the elder siblings and to the child's own children have
    had theirs; edges of one turn are taken together.
    """

    def __init__(self, gamma: float) -> None:
        self._gamma = gamma
        self._parents: list[int | None] = []
        self._children: list[list[int]] = []
        self._turn: list[int] = []
        self._place: list[int] = []
        self._turns: list[_Edges] = []

    def add(self, parent: int | None) -> None:
        """One more node, as the last child of `parent` so far."""
        new = len(self._parents)
        self._parents.append(parent)
        self._children.append([])
        self._turn.append(-1)
        self._place.append(0)
        if parent is None:
            return
        self._children[parent].append(new)
        node = new
        while (parent := self._parents[node]) is not None and self._put_off(parent, node):
            node = parent

    def passed_up(self, values: Numbers) -> Numbers:
        """Give the values of all nodes their shares of their children's, in place."""
        keep, gamma = 1 - self._gamma, self._gamma
        one: Any = values.data
        for edges in self._turns:
            if len(edges.pairs) > _FEW:
                parents, children = edges.places
                kept, given = values.take(parents), values.take(children)
                kept *= keep
                given *= gamma
                kept += given
                values[parents] = kept
                continue
            for parent, child in edges.pairs:
                one[parent] = keep * one[parent] + gamma * one[child]
        return values

    def _put_off(self, parent: int, child: int) -> bool:
        """Give the edge to a child its turn, and its younger siblings theirs; whether the last one moved."""
        siblings = self._children[parent]
        at = siblings.index(child)
        last = self._turn[siblings[at - 1]] if at else -1
        for sibling in siblings[at:]:
            last = max(last, self._done(sibling)) + 1
            if self._turn[sibling] == last:
                return False
            self._move(parent, sibling, last)
        return True

    def _done(self, node: int) -> int:
        """The last turn of the edges to the children of a node; -1 without any."""
        children = self._children[node]
        return self._turn[children[-1]] if children else -1

    def _move(self, parent: int, child: int, turn: int) -> None:
        before = self._turn[child]
        if before >= 0:
            moved = self._turns[before].take_out(self._place[child])
            self._place[moved] = self._place[child]
        if turn == len(self._turns):
            self._turns.append(_Edges())
        self._turn[child], self._place[child] = turn, len(self._turns[turn].pairs)
        self._turns[turn].add(parent, child)


class _Edges:
    """Edges that are taken together, from parents to children."""

    def __init__(self) -> None:
        self.pairs: list[tuple[int, int]] = []
        self._parents, self._children = Column(np.intp), Column(np.intp)

    @property
    def places(self) -> tuple[Places, Places]:
        """The parents, and the child of each."""
        return self._parents.all, self._children.all

    def add(self, parent: int, child: int) -> None:
        """One more, at the end."""
        self.pairs.append((parent, child))
        self._parents.append(parent)
        self._children.append(child)

    def take_out(self, place: int) -> int:
        """Take out the edge at a place, into which the last one moves; the child of that."""
        parent, child = self.pairs[place] = self.pairs[-1]
        self._parents.all[place], self._children.all[place] = parent, child
        self.pairs.pop()
        self._parents.pop()
        self._children.pop()
        return child
