"""Shares of children in the values of their parents, for a whole forest at once."""

from bisect import insort

import numpy as np
import numpy.typing as npt

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
        self._edges: dict[tuple[int, int], tuple[Places, Places]] = {}

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
            self._edges[group] = (np.empty(0, np.intp), np.empty(0, np.intp))
        parents, children = self._edges[group]
        self._edges[group] = (np.append(parents, parent), np.append(children, new))

    def passed_up(self, values: Numbers) -> Numbers:
        """The values of all nodes, each with its share of its children's."""
        found, keep, gamma = values.copy(), 1 - self._gamma, self._gamma
        one = found.data
        for group in self._order:
            parents, children = self._edges[group]
            if len(parents) > _FEW:
                found[parents] = keep * found[parents] + gamma * found[children]
                continue
            for parent, child in zip(parents.tolist(), children.tolist(), strict=True):
                one[parent] = keep * one[parent] + gamma * one[child]
        return found
