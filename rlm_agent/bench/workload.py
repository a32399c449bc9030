"""The work that is timed: a tree that grows from random leaves, several of them at once.

Which leaves grow is drawn beforehand; what stands in them, each contender writes itself.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rlm_agent.structure.errors import InputError

CHILDREN = 4
LENGTH = 16
"""Tokens of each child."""

Tokens = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Branch:
    """Continue `prompt` by exactly `LENGTH` tokens, drawn at temperature 1 by `seed`, whatever they are."""

    prompt: Tokens
    seed: int


@dataclass(frozen=True, slots=True)
class Tree:
    """`waves` of nodes that get their children together.

    Node 0 is the prompt; the e-th expansion, e from 0 on, makes the nodes 4e + 1 to 4e + 4.
    """

    prompt: Tokens
    waves: tuple[tuple[int, ...], ...]
    seed: int

    @property
    def expansions(self) -> int:
        """How often a node gets children."""
        return sum(map(len, self.waves))

    @property
    def widths(self) -> tuple[int, ...]:
        """How many branches grow at once, wave by wave."""
        return tuple(CHILDREN * len(wave) for wave in self.waves)

    @property
    def tokens(self) -> int:
        """How many tokens are generated for the whole tree."""
        return self.expansions * CHILDREN * LENGTH

    @property
    def cells(self) -> int:
        """How many tokens the whole tree has, the prompt and what is shared counted once."""
        return len(self.prompt) + self.tokens

    @property
    def longest(self) -> int:
        """How many tokens its longest branch has, with the prompt."""
        lengths = [len(self.prompt)]
        for wave in self.waves:
            for node in wave:
                lengths += [lengths[node] + LENGTH] * CHILDREN
        return max(lengths)


def make_tree(
    vocabulary: Sequence[int], *, prompt: int, branches: int, expansions: int, seed: int = 0
) -> Tree:
    """A tree whose prompt has so many tokens, drawn from `vocabulary`, as have so many expansions.

    `branches` grow at once, four of one leaf each; fewer where the tree has fewer leaves, as at its start.
    Raises `InputError` for branches that are no multiple of four.
    """
    if branches < CHILDREN or branches % CHILDREN:
        raise InputError(
            f"{branches} branches cannot be had from {CHILDREN} children a leaf; give 4, 8, 12, …"
        )
    draw = random.Random(seed)
    first = tuple(draw.choices(vocabulary, k=prompt))
    leaves, done = [0], 0
    waves: list[tuple[int, ...]] = []
    while done < expansions:
        wave = tuple(draw.sample(leaves, min(branches // CHILDREN, len(leaves), expansions - done)))
        leaves = [leaf for leaf in leaves if leaf not in wave]
        leaves += range(CHILDREN * done + 1, CHILDREN * (done + len(wave)) + 1)
        waves.append(wave)
        done += len(wave)
    return Tree(first, tuple(waves), seed)


def grow(tree: Tree, complete: Callable[[Sequence[Branch]], Sequence[Tokens]]) -> list[Tokens]:
    """Let `complete` write a tree, a wave at a time: what it wrote for the nodes 1, 2, …, in order."""
    paths, written = [tree.prompt], list[Tokens]()
    for wave in tree.waves:
        first = len(paths)
        branches = [
            Branch(paths[node], _seed(tree.seed, first + index * CHILDREN + child))
            for index, node in enumerate(wave)
            for child in range(CHILDREN)
        ]
        texts = complete(branches)
        written += texts
        paths += [branch.prompt + text for branch, text in zip(branches, texts, strict=True)]
    return written


def _seed(tree: int, node: int) -> int:
    return random.Random(f"{tree}:{node}").getrandbits(31)
