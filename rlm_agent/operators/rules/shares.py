"""Shares of children in the values of their parents, for a whole forest at once."""

from bisect import insort
from typing import Any

import numpy as np
import numpy.typing as npt

from rlm_agent.operators.rules.column import Column

Numbers = npt.NDArray[np.float64]
Places = npt.NDArray[np.intp]

_FEW = 32
"""Up to so many edges are faster one by one than by arrays."""


class Shares:
    """The edges of a forest whose nodes are numbered in the order of their birth, and γ.

    Q ← (1 − γ) · Q + γ · Q_child for each child in the order of its birth, bottom up (LLaMA-Berry, arXiv
    2410.02884). Edges to the n-th children of one depth do not wait for each other and are taken together.
    """

    def __init__(self, gamma: float) -> None:
        self._gamma = gamma
        self._depths: list[int] = []
        self._children: list[int] = []
        self._order: list[tuple[int, int]] = []
        self._edges: dict[tuple[int, int], _Edges] = {}

    def add(self, parent: int | None) -> None:
        """One more node, as the last child of `parent` so far."""
        new = len(self._depths)
        self._depths.append(0 if parent is None else self._depths[parent] + 1)
        self._children.append(0)
        if parent is None:
            return
        group = (-self._depths[new], self._children[parent])
        self._children[parent] += 1
        if group not in self._edges:
            insort(self._order, group)
            self._edges[group] = _Edges()
        self._edges[group].add(parent, new)

    def passed_up(self, values: Numbers) -> Numbers:
        """The values of all nodes, each with its share of its children's."""
        found, keep, gamma = values.copy(), 1 - self._gamma, self._gamma
        one: Any = found.data
        for group in self._order:
            edges = self._edges[group]
            if edges.many:
                parents, children = edges.places
                found[parents] = keep * found[parents] + gamma * found[children]
                continue
            for parent, child in edges.pairs:
                one[parent] = keep * one[parent] + gamma * one[child]
        return found


class _Edges:
    """Edges that are taken together, from parents to children."""

    def __init__(self) -> None:
        self.pairs: list[tuple[int, int]] = []
        self._parents, self._children = Column(np.intp), Column(np.intp)

    @property
    def many(self) -> bool:
        """Whether arrays are the faster way."""
        return len(self.pairs) > _FEW

    @property
    def places(self) -> tuple[Places, Places]:
        """The parents, and the child of each."""
        return self._parents.all, self._children.all

    def add(self, parent: int, child: int) -> None:
        """One more."""
        self.pairs.append((parent, child))
        self._parents.append(parent)
        self._children.append(child)
